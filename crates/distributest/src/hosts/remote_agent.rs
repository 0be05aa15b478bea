//! Reaching an agent on a host over ssh: the resident one where there is one, else our own program, copied there.
//!
//! The resident agent that serves all users of a host is reached without any of this (`system_agent.rs`). Otherwise one
//! shell script does the first round trip: it tries `runner-agent dial`, which knows all places where a resident agent may
//! listen, and without one says so, with the host's system and processor. Then another one starts the copy of this very program from an earlier run, as a private
//! agent; without that the copy is made. Copies are named by the program's hash, which takes longer than a round trip and
//! is not computed for hosts with a resident agent. Whatever a login shell prints before the agent's banner is skipped.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::OnceCell;

use super::link::Link;
use super::ssh::{SshConnection, SshError, last_lines};

/// How long the first answer may take over a new connection: a cold disk, a login shell with opinions.
const BANNER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it may take over a connection that an earlier run opened, which may lead nowhere by now.
const REUSED_BANNER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a login shell's chatter that are skipped before the agent's banner.
const CHATTER_LIMIT: u64 = 64 * 1024;

/// This program's own file, also after it was replaced by a newer build.
const OWN_PROGRAM_FILE: &str = "/proc/self/exe";

/// The first words of the line an agent greets with.
const BANNER: &str = "distributest-agent ";

/// The end of a script that found no agent.
const SAY_MISSING: &str = "echo \"distributest-agent missing $(uname -sm)\"\n";

/// Why there is no agent to talk to on a host.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteAgentError {
    /// The ssh connection failed.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Nothing that looks like an agent answered.
    #[error("no agent answered: {complaint}")]
    NoBanner {
        /// What the host wrote instead.
        complaint: String,
    },
    /// There is none, and copying one there is switched off.
    #[error("no resident agent answers and `bootstrap = false`")]
    BootstrapOff,
    /// The host runs another kind of machine.
    #[error("the host is {host}, this program is for {own}")]
    OtherMachine {
        /// `uname -sm` there.
        host: String,
        /// `uname -sm` here.
        own: String,
    },
    /// The program could not be copied.
    #[error("failed to copy the agent to {path}: {complaint}")]
    Copy {
        /// Where to.
        path: String,
        /// What the host said.
        complaint: String,
    },
    /// Our own program can't be read.
    #[error("failed to read this program's own file")]
    OwnProgram(#[source] std::io::Error),
}

impl RemoteAgentError {
    /// What the user can do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            RemoteAgentError::Ssh(error) => error.hint(),
            RemoteAgentError::NoBanner { .. } => {
                Some("check that a login shell there prints nothing and that programs can run from the home directory".into())
            }
            RemoteAgentError::BootstrapOff | RemoteAgentError::OtherMachine { .. } => {
                Some("install runner-agent on it (README, \"The resident agent\")".into())
            }
            RemoteAgentError::Copy { .. } => {
                Some("check free space and permissions of the home directory there, or install runner-agent".into())
            }
            RemoteAgentError::OwnProgram(_) => None,
        }
    }
}

/// Opens a link to an agent on the host.
///
/// # Errors
///
/// When the host can't be used; the error says why and has a hint.
pub(super) async fn reach(ssh: &SshConnection, bootstrap: bool) -> Result<Link, RemoteAgentError> {
    match greet(ssh, &dial_script()).await? {
        Greeting::Agent(link) => Ok(link),
        Greeting::Missing(_) if !bootstrap => Err(RemoteAgentError::BootstrapOff),
        Greeting::Missing(machine) if machine != own_machine() => {
            Err(RemoteAgentError::OtherMachine { host: machine, own: own_machine() })
        }
        Greeting::Missing(_) => reach_private(ssh).await,
    }
}

/// Opens a link to a private agent, passing by a resident one (of another protocol version).
///
/// # Errors
///
/// As [`reach`].
pub(super) async fn reach_private(ssh: &SshConnection) -> Result<Link, RemoteAgentError> {
    let program = OwnProgram::get().await?;
    if let Greeting::Agent(link) = greet(ssh, &program.start_script()).await? {
        return Ok(link);
    }
    program.copy(ssh).await?;
    match greet(ssh, &program.start_script()).await? {
        Greeting::Agent(link) => Ok(link),
        Greeting::Missing(_) => Err(RemoteAgentError::Copy {
            path: program.directory(),
            complaint: "it is not there after copying".into(),
        }),
    }
}

/// How long the first answer may take.
pub(super) fn patience_with(ssh: &SshConnection) -> Duration {
    if ssh.reused { REUSED_BANNER_TIMEOUT } else { BANNER_TIMEOUT }
}

/// There was none.
pub(super) fn silent(patience: Duration) -> RemoteAgentError {
    RemoteAgentError::NoBanner { complaint: format!("nothing came within {} s", patience.as_secs()) }
}

/// The script that ends in a resident agent's banner, or in one that says there is none.
fn dial_script() -> String {
    // 127: not installed; 69: no daemon answers. Anything else is an answer.
    format!("runner-agent dial; status=$?; case $status in 127|69) ;; *) exit $status;; esac\n{SAY_MISSING}")
}

enum Greeting {
    Agent(Link),
    /// No agent; `uname -sm` of the host.
    Missing(String),
}

async fn greet(ssh: &SshConnection, script: &str) -> Result<Greeting, RemoteAgentError> {
    let patience = patience_with(ssh);
    let silent = |_| silent(patience);
    // A connection that leads nowhere does not even get as far as starting the script.
    let deadline = tokio::time::Instant::now() + patience;
    let mut child = tokio::time::timeout_at(deadline, ssh.start(script)).await.map_err(silent)??;
    let (Some(stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin().take(), child.stdout().take(), child.stderr().take())
    else {
        return Err(RemoteAgentError::NoBanner { complaint: "its streams are not connected".into() });
    };
    let mut stdout = BufReader::new(stdout);
    match tokio::time::timeout_at(deadline, read_banner(&mut stdout)).await.map_err(silent)? {
        Some(words) => match words.strip_prefix("missing ") {
            Some(machine) => Ok(Greeting::Missing(machine.to_owned())),
            None => {
                // Nobody reads the agent's own log from here on, and a full pipe would stop it.
                tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
                Ok(Greeting::Agent(Link::over_network(tokio::io::join(stdout, stdin), child)))
            }
        },
        None => {
            let mut said = Vec::new();
            let mut limited = stderr.take(CHATTER_LIMIT);
            let _ = tokio::time::timeout(Duration::from_secs(1), limited.read_to_end(&mut said)).await;
            Err(RemoteAgentError::NoBanner { complaint: last_lines(&String::from_utf8_lossy(&said)) })
        }
    }
}

/// Reads up to the agent's banner and returns the words behind its first; `None` when the stream ends without one.
async fn read_banner(stdout: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<String> {
    let mut skipped = 0;
    while skipped < CHATTER_LIMIT {
        let mut line = Vec::new();
        let count = (&mut *stdout).take(CHATTER_LIMIT).read_until(b'\n', &mut line).await.ok()?;
        if count == 0 {
            return None;
        }
        skipped += count as u64;
        if let Some(words) = String::from_utf8_lossy(&line).strip_prefix(BANNER) {
            return Some(words.trim_end().to_owned());
        }
    }
    None
}

/// This very program, as it is copied to hosts without an agent.
struct OwnProgram {
    hash: String,
}

/// Found out once, however many hosts there are.
static OWN_PROGRAM: OnceCell<OwnProgram> = OnceCell::const_new();

impl OwnProgram {
    async fn get() -> Result<&'static OwnProgram, RemoteAgentError> {
        let hashed = OWN_PROGRAM.get_or_try_init(async || {
            let bytes = tokio::fs::read(OWN_PROGRAM_FILE).await?;
            let hash = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            Ok(OwnProgram { hash })
        });
        hashed.await.map_err(RemoteAgentError::OwnProgram)
    }

    fn directory(&self) -> String {
        format!("~/.cache/distributest/agents/{}", self.hash)
    }

    /// The script that ends in a private agent's banner, or in one that says there is no copy.
    fn start_script(&self) -> String {
        format!(
            "agent=\"$HOME/.cache/distributest/agents/{}/distributest\"\n\
             if [ -x \"$agent\" ]; then exec \"$agent\" agent --banner; fi\n\
             {SAY_MISSING}",
            self.hash
        )
    }

    /// Copies the program and drops all but the three newest earlier copies.
    async fn copy(&self, ssh: &SshConnection) -> Result<(), RemoteAgentError> {
        let failed = |complaint: String| RemoteAgentError::Copy { path: self.directory(), complaint };
        let bytes = tokio::fs::read(OWN_PROGRAM_FILE).await.map_err(RemoteAgentError::OwnProgram)?;
        let script = format!(
            "set -e; umask 077; cd; mkdir -p .cache/distributest/agents; cd .cache/distributest/agents\n\
             mkdir -p {hash}; new={hash}/incoming.$$; trap 'rm -f \"$new\"' EXIT\n\
             cat > \"$new\"; [ \"$(wc -c < \"$new\")\" -eq {size} ]; chmod 700 \"$new\"; mv \"$new\" {hash}/distributest\n\
             ls -t | tail -n +5 | while read -r old; do rm -rf \"./$old\"; done\n",
            hash = self.hash,
            size = bytes.len(),
        );
        let mut child = ssh.start(&script).await?;
        if let Some(mut stdin) = child.stdin().take() {
            // When the host stops reading, its exit status and words say more than our broken pipe.
            let _ = stdin.write_all(&bytes).await;
            let _ = stdin.shutdown().await;
        }
        let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(last_lines(&String::from_utf8_lossy(&output.stderr))))
    }
}

fn own_machine() -> String {
    let names = rustix::system::uname();
    format!("{} {}", names.sysname().to_string_lossy(), names.machine().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn chatter_before_the_banner_is_skipped() {
        let mut stream =
            BufReader::new(&b"Welcome to h1!\ndistributest-agent protocol=1 resident\nPRI * HTTP"[..]);
        assert_eq!(read_banner(&mut stream).await.as_deref(), Some("protocol=1 resident"));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "PRI * HTTP");
    }

    #[tokio::test]
    async fn endless_chatter_is_not_read_for_ever() {
        let mut stream = BufReader::new(tokio::io::repeat(b'x'));
        assert_eq!(read_banner(&mut stream).await, None);
    }
}
