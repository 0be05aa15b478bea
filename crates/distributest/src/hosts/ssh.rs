//! One OpenSSH connection per host: opened by the user's own `ssh`, shared by everything a run sends there.
//!
//! The master is started by the `ssh` program itself, so every option, key, agent and `ProxyJump` of the user's
//! configuration counts. It stays for [`MASTER_PERSISTS_SECONDS`] after its last use, so the next run starts in
//! milliseconds; programs are run over its control socket without another `ssh` process (the `openssh` crate's native
//! mux), rsync goes over the same socket. Beside that socket there is another one, through which the master connects to the
//! resident agent's socket on the host. A password is never asked for in the middle of a run (`BatchMode`).

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use openssh::{ForwardType, Session};
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

use crate::config::HostConfig;

/// How long an unused master stays, in seconds.
const MASTER_PERSISTS_SECONDS: u32 = 600;

/// How long a host may take to answer a connection attempt, in seconds.
const CONNECT_TIMEOUT_SECONDS: u32 = 10;

/// The longest control path: a Unix socket's 107 bytes less the 17 `ssh` appends while it creates it.
const CONTROL_PATH_LIMIT: usize = 90;

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
pub(super) enum SshError {
    /// The directory for control sockets can't be made or is not the user's own.
    #[error("failed to prepare {} for ssh's control sockets", path.display())]
    ControlDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The `ssh` program can't be run.
    #[error("failed to run ssh")]
    Program(#[source] std::io::Error),
    /// `ssh` gave up; its own words say why.
    #[error("ssh {destination}: {complaint}")]
    Refused {
        /// What `ssh` was asked to connect to.
        destination: String,
        /// The last lines `ssh` wrote.
        complaint: String,
    },
    /// The master is there but can't be used.
    #[error("failed to use the ssh connection to {destination}")]
    Session {
        /// What it connects to.
        destination: String,
        /// Why.
        #[source]
        source: openssh::Error,
    },
}

impl SshError {
    /// What the user can do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            SshError::ControlDirectory { path, .. } => {
                Some(format!("remove {} or make it a directory of your own", path.display()))
            }
            SshError::Program(_) => Some("install the OpenSSH client (Debian: openssh-client)".into()),
            SshError::Refused { destination, complaint } => Some(refusal_hint(destination, complaint)),
            SshError::Session { destination, .. } => Some(format!("try `ssh {destination} true`")),
        }
    }
}

fn refusal_hint(destination: &str, complaint: &str) -> String {
    if complaint.contains("has changed") {
        return format!(
            "if {destination} has been set up anew, remove its old key with `ssh-keygen -R`, then run `ssh {destination}` once by hand and check the new one"
        );
    }
    if complaint.contains("Host key verification failed") {
        return format!("run `ssh {destination}` once by hand and check its host key");
    }
    if complaint.contains("Permission denied") {
        return format!(
            "`ssh -o BatchMode=yes {destination} true` must work: load your key into ssh-agent, or set `identity` of this [[host]]"
        );
    }
    if complaint.contains("Could not resolve") {
        return format!("check `name` of this [[host]]: `ssh {destination}` does not know it");
    }
    if ["Connection refused", "timed out", "No route to host"].iter().any(|words| complaint.contains(words)) {
        return format!(
            "check that it is up and its sshd is running: `ssh -o BatchMode=yes {destination} true` must work"
        );
    }
    format!("`ssh -o BatchMode=yes {destination} true` must work")
}

/// An open master connection.
#[derive(Clone)]
pub(super) struct SshConnection {
    session: Arc<Session>,
    control_path: PathBuf,
    /// `name` or `user@name`, as `ssh` takes it.
    destination: String,
    /// Whether an earlier run opened it.
    pub(super) reused: bool,
}

impl SshConnection {
    /// Connects to a host, or finds the connection of a run some minutes ago still open.
    ///
    /// # Errors
    ///
    /// When `ssh` can't reach the host, does not know its key, or is not let in.
    pub(super) async fn open(host: &HostConfig) -> Result<SshConnection, SshError> {
        let control_path = control_path(host)?;
        let destination = destination(host);
        if control_path.exists() {
            let session = Session::resume_mux(control_path.clone().into_boxed_path(), None);
            if session.check().await.is_ok() {
                return Ok(SshConnection {
                    session: Arc::new(session),
                    control_path,
                    destination,
                    reused: true,
                });
            }
            // A socket nobody answers on: its master was killed.
            let _ = std::fs::remove_file(&control_path);
        }
        start_master(host, &control_path).await?;
        let session = Session::resume_mux(control_path.clone().into_boxed_path(), None);
        let connection =
            SshConnection { session: Arc::new(session), control_path, destination, reused: false };
        connection.have_nothing_delayed();
        Ok(connection)
    }

    /// Has sshd send each word at once. It lets TCP gather small ones until a program was started over a connection, be
    /// that the one that does nothing.
    fn have_nothing_delayed(&self) {
        let connection = self.clone();
        tokio::spawn(async move {
            if let Ok(child) = connection.start("exit").await {
                let _ = child.wait_with_output().await;
            }
        });
    }

    /// Lets nobody else use this master: for one that turned out to lead nowhere. It is not ended, for another run
    /// may be at work over it.
    pub(super) async fn discard(self) {
        let mut command = tokio::process::Command::new("ssh");
        command.arg("-S").arg(&self.control_path).args(["-O", "stop", "--", &self.destination]);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        let _ = std::fs::remove_file(&self.control_path);
        let _ = std::fs::remove_file(forwarded_path(&self.control_path));
    }

    /// Connects to a socket on the host, always the same one, without a program there that copies. The master goes on
    /// listening for that as long as it lives, so that the next run has less to ask it for.
    ///
    /// # Errors
    ///
    /// When the master has gone or is not allowed to. That nobody listens on the host is only seen from the stream's end.
    pub(super) async fn connect(&self, socket: &Path) -> Result<UnixStream, SshError> {
        let path = forwarded_path(&self.control_path);
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok(stream),
            // A master that has gone leaves it behind, and the next one would not listen there.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                let _ = std::fs::remove_file(&path);
            }
            Err(_) => {}
        }
        let failed = |source| SshError::Session { destination: self.destination.clone(), source };
        let (local, remote) = (path.as_path(), socket);
        self.session.request_port_forward(ForwardType::Local, local, remote).await.map_err(failed)?;
        match UnixStream::connect(&path).await {
            Ok(stream) => Ok(stream),
            Err(error) => {
                // Somebody has removed it; the master can be asked anew next time.
                let _ = self.session.close_port_forward(ForwardType::Local, local, remote).await;
                Err(failed(openssh::Error::Connect(error)))
            }
        }
    }

    /// Starts a shell script on the host, its three streams piped.
    ///
    /// # Errors
    ///
    /// When the master has gone or the host refuses another channel.
    pub(super) async fn start(&self, script: &str) -> Result<openssh::Child<Arc<Session>>, SshError> {
        let mut command = self.session.clone().arc_shell_command(script);
        command
            .stdin(openssh::Stdio::piped())
            .stdout(openssh::Stdio::piped())
            .stderr(openssh::Stdio::piped())
            .spawn()
            .await
            .map_err(|source| SshError::Session { destination: self.destination.clone(), source })
    }

    /// The remote shell for `rsync -e`: this connection and no other.
    pub(super) fn rsync_shell(&self) -> String {
        // Without the master, ssh would connect anew with none of the host's options: make that fail at once.
        format!(
            "ssh -S '{}' -o ControlMaster=no -o BatchMode=yes -o ProxyCommand=false",
            self.control_path.display()
        )
    }

    /// The host as rsync takes it, which would end a bare IPv6 address at its first colon.
    pub(super) fn rsync_host(&self) -> String {
        match self.destination.rsplit_once('@') {
            Some((user, name)) if name.contains(':') => format!("{user}@[{name}]"),
            None if self.destination.contains(':') => format!("[{}]", self.destination),
            _ => self.destination.clone(),
        }
    }
}

/// Gives the session a way to run a script in the login shell's `sh`.
trait ShellCommand {
    fn arc_shell_command(self, script: &str) -> openssh::OwningCommand<Arc<Session>>;
}

impl ShellCommand for Arc<Session> {
    fn arc_shell_command(self, script: &str) -> openssh::OwningCommand<Arc<Session>> {
        let mut command = Session::arc_command(self, "sh");
        command.arg("-c").arg(script);
        command
    }
}

fn destination(host: &HostConfig) -> String {
    match &host.user {
        Some(user) => format!("{user}@{}", host.name),
        None => host.name.clone(),
    }
}

/// Starts `ssh -M -f`, which returns once the host let us in and leaves the master behind.
async fn start_master(host: &HostConfig, control_path: &Path) -> Result<(), SshError> {
    let complaints = tempfile::NamedTempFile::new().map_err(SshError::Program)?;
    let stderr = complaints.reopen().map_err(SshError::Program)?;
    let mut command = tokio::process::Command::new("ssh");
    command.args(["-M", "-N", "-f", "-T"]).arg("-S").arg(control_path);
    command.arg("-o").arg(format!("ControlPersist={MASTER_PERSISTS_SECONDS}"));
    command.arg("-o").arg(format!("ConnectTimeout={CONNECT_TIMEOUT_SECONDS}"));
    // Longer than the lease: whether a silent host is given up is not for ssh to say.
    command.args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=7"]);
    for option in &host.ssh_options {
        command.arg("-o").arg(option);
    }
    if let Some(identity) = &host.identity {
        command.arg("-i").arg(identity).args(["-o", "IdentitiesOnly=yes"]);
    }
    let destination = destination(host);
    command.arg("--").arg(&destination);
    // A group of its own: Ctrl-C in the terminal is ours to handle, and the master outlives this run.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0).kill_on_drop(true);
    let status = command.status().await.map_err(SshError::Program)?;
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read(complaints.path()).unwrap_or_default();
    Err(SshError::Refused { destination, complaint: last_lines(&String::from_utf8_lossy(&said)) })
}

/// The lines of a complaint that matter, as one.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let kept = lines[lines.len().saturating_sub(4)..].iter();
    let joined = kept.map(|line| line.strip_prefix("ssh: ").unwrap_or(line).trim_end_matches('.'));
    let joined = joined.collect::<Vec<_>>().join("; ");
    if joined.is_empty() { "it gave no reason".into() } else { joined }
}

/// The control socket of a host: the same for the same way to reach it, different for another.
fn control_path(host: &HostConfig) -> Result<PathBuf, SshError> {
    let mut hash = Sha256::new();
    let identity = host.identity.as_ref().map(|path| path.display().to_string());
    let home = std::env::var("HOME").unwrap_or_default();
    for part in [Some(host.name.clone()), host.user.clone(), identity, Some(home)] {
        hash.update(part.unwrap_or_default());
        hash.update([0]);
    }
    for option in &host.ssh_options {
        hash.update(option);
        hash.update([0]);
    }
    let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let directory = control_directory()?;
    Ok(directory.join(name))
}

/// Where the master listens for those who want to reach the agent.
fn forwarded_path(control_path: &Path) -> PathBuf {
    control_path.with_extension("agent")
}

fn control_directory() -> Result<PathBuf, SshError> {
    let uid = rustix::process::getuid().as_raw();
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime = absolute("XDG_RUNTIME_DIR").map(|directory| directory.join("distributest"));
    let cache = absolute("HOME").map(|home| home.join(".cache/distributest/ssh"));
    let fallback = PathBuf::from(format!("/tmp/distributest-{uid}"));
    let fits = |directory: &PathBuf| directory.as_os_str().len() + 17 <= CONTROL_PATH_LIMIT;
    let usable = |directory: &PathBuf| fits(directory) && own_directory(directory, uid).is_ok();
    if let Some(directory) = [runtime, cache].into_iter().flatten().find(usable) {
        return Ok(directory);
    }
    own_directory(&fallback, uid)
        .map_err(|source| SshError::ControlDirectory { path: fallback.clone(), source })?;
    Ok(fallback)
}

/// Makes a directory only its user can enter, and refuses one that somebody else put there.
fn own_directory(path: &Path, uid: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
        return Err(std::io::Error::other("it is not a directory that only you can write to"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_way_out() {
        let refused =
            |complaint: &str| SshError::Refused { destination: "h1".into(), complaint: complaint.into() };
        let hint = |complaint| refused(complaint).hint().unwrap_or_default();
        assert!(hint("Host key verification failed.").contains("check its host key"));
        assert!(hint("dev@h1: Permission denied (publickey).").contains("identity"));
        assert!(hint("Host key for h1 has changed; Host key verification failed").contains("ssh-keygen -R"));
        assert!(hint("connect to host h1 port 22: Connection timed out").contains("is up"));
        assert!(hint("kex_exchange_identification: read: Connection reset").contains("must work"));
    }

    #[test]
    fn a_complaint_is_its_last_lines() {
        assert_eq!(last_lines("\na.\n  b.\n"), "a; b");
        assert_eq!(
            last_lines("ssh: connect to host h1 port 22: No route to host\n"),
            "connect to host h1 port 22: No route to host"
        );
        assert_eq!(last_lines(""), "it gave no reason");
    }

    #[test]
    fn a_directory_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert!(own_directory(directory.path(), uid).is_ok());
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own_directory(directory.path(), uid).is_err());
    }
}
