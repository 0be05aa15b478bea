//! Copies the project to a workspace with rsync: over the host's ssh connection, or on this machine.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, BufReader};

use super::ssh::{SshConnection, last_lines};

/// Seconds without a byte after which rsync gives up.
const IO_TIMEOUT_SECONDS: u32 = 60;

/// rsync's exit status for "some files vanished while they were copied": tests of other runs come and go.
const VANISHED: i32 = 24;

/// Why the project is not on the host.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    /// The filter rules could not be handed over.
    #[error("failed to write rsync's filter rules")]
    Rules(#[source] std::io::Error),
    /// rsync can't be run here.
    #[error("failed to run rsync on this machine")]
    Program(#[source] std::io::Error),
    /// rsync is not there at the other end.
    #[error("rsync is not installed on the host")]
    MissingThere,
    /// rsync gave up; its own words say why.
    #[error("rsync to {workspace}: {complaint}")]
    Failed {
        /// The workspace.
        workspace: String,
        /// The last lines rsync wrote.
        complaint: String,
    },
}

impl SyncError {
    /// What the user can do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            SyncError::Rules(_) => Some("check free space in the temporary directory".into()),
            SyncError::Program(_) => Some("install rsync here (Debian: apt install rsync)".into()),
            SyncError::MissingThere => Some("install rsync there (Debian: apt install rsync)".into()),
            SyncError::Failed { complaint, .. } if complaint.contains("No space left") => Some(
                "free some disk space there, or set `remote_dir` of this [[host]] to a larger disk".into(),
            ),
            SyncError::Failed { .. } => None,
        }
    }
}

/// Makes `workspace` hold what `project` holds, less what the filter `rules` exclude. `progress` hears the percentage
/// done.
///
/// # Errors
///
/// When rsync is missing on either side or fails; the workspace is then in an unknown state and must not be used.
pub(super) async fn sync(
    project: &Path,
    workspace: &str,
    ssh: Option<&SshConnection>,
    rules: &[u8],
    mut progress: impl FnMut(u8),
) -> Result<(), SyncError> {
    let rules = rules_file(rules).map_err(SyncError::Rules)?;
    let mut command = tokio::process::Command::new("rsync");
    command.args(["-a", "--no-owner", "--no-group", "--delete", "--from0", "--filter=merge -"]);
    // Times are compared to the nanosecond: what was changed twice within a second was changed.
    command.args(["--modify-window=-1", "--info=progress2", "--no-inc-recursive", "--outbuf=N"]);
    if let Some(ssh) = ssh {
        command.arg(format!("--timeout={IO_TIMEOUT_SECONDS}")).arg("--secluded-args");
        command.arg("-e").arg(ssh.rsync_shell());
    }
    let mut source = project.as_os_str().to_owned();
    source.push("/");
    let target =
        ssh.map_or_else(|| format!("{workspace}/"), |ssh| format!("{}:{workspace}/", ssh.rsync_host()));
    command.arg("--").arg(source).arg(target);
    command.stdin(rules).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(SyncError::Program)?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(SyncError::Program(std::io::Error::other("its output is not connected")));
    };
    let mut complaint = Vec::new();
    let (percentages, complaints) =
        tokio::join!(read_percentages(stdout, &mut progress), stderr.read_to_end(&mut complaint));
    percentages.and(complaints.map(|_| ())).map_err(SyncError::Program)?;
    let status = child.wait().await.map_err(SyncError::Program)?;
    if status.success() || status.code() == Some(VANISHED) {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&complaint);
    if complaint.contains("rsync: command not found") || complaint.contains("rsync: not found") {
        return Err(SyncError::MissingThere);
    }
    Err(SyncError::Failed { workspace: workspace.to_owned(), complaint: last_lines(&complaint) })
}

/// The filter rules as rsync's standard input: an unlinked file, since there is no bound on their size.
fn rules_file(rules: &[u8]) -> std::io::Result<Stdio> {
    let mut file = tempfile::tempfile()?;
    file.write_all(rules)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Stdio::from(file))
}

/// Picks the ` 42%` out of `--info=progress2`.
async fn read_percentages(
    stdout: tokio::process::ChildStdout,
    progress: &mut impl FnMut(u8),
) -> std::io::Result<()> {
    let mut stdout = BufReader::new(stdout);
    let mut buffer = [0; 4096];
    loop {
        let count = stdout.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&buffer[..count]);
        if let Some(percentage) =
            text.split_whitespace().rev().find_map(|word| word.strip_suffix('%')?.parse().ok())
        {
            progress(percentage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SyncConfig;
    use crate::hosts::sync_rules;
    use std::os::unix::ffi::OsStrExt;

    fn write(path: std::path::PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[tokio::test]
    async fn the_workspace_becomes_the_project_and_keeps_what_git_ignores() {
        let (project, workspace) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (project.path(), workspace.path());
        write(from.join(".git/HEAD"));
        std::fs::write(from.join(".gitignore"), "*.log\nnode_modules/\n/tmp[1]*\n").unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"odd \xff\n[name]?.txt");
        let odd_log = std::ffi::OsStr::from_bytes(b"odd \n[name]?.log");
        for name in ["a.rb", "sub/b c.rb", "here.log", "node_modules/here/x.js", "tmp1x"] {
            write(from.join(name));
        }
        write(from.join(odd));
        write(from.join(odd_log));
        for name in ["stale.rb", "there.log", "sub/there.log", "node_modules/there/x.js", "gone/deep/file"] {
            write(to.join(name));
        }
        let mut seen = Vec::new();
        let rules = sync_rules::rules(from, &SyncConfig::default());
        sync(from, to.to_str().unwrap(), None, &rules, |percentage| seen.push(percentage)).await.unwrap();
        for name in
            ["a.rb", "sub/b c.rb", ".gitignore", "there.log", "sub/there.log", "node_modules/there/x.js"]
        {
            assert!(to.join(name).exists(), "{name} must be there");
        }
        assert!(to.join(odd).exists());
        assert!(!to.join(odd_log).exists());
        for name in ["stale.rb", "gone", "here.log", "node_modules/here", ".git", "tmp1x"] {
            assert!(!to.join(name).exists(), "{name} must not be there");
        }
        assert!(seen.last() == Some(&100), "progress was {seen:?}");
    }

    #[tokio::test]
    async fn a_failure_carries_rsyncs_own_words() {
        let project = tempfile::tempdir().unwrap();
        let error = sync(project.path(), "/dev/null/x", None, &[], |_| ()).await.unwrap_err();
        assert!(error.to_string().contains("Not a directory"), "{error}");
    }
}
