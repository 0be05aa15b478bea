//! Reaching an agent on this machine: the resident one over its socket, else a private one as a child process.
//!
//! Never a thread of this program: killing it with SIGKILL closes the socket, and the agent, alive in a process of its
//! own, ends every test.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::net::UnixStream;

use super::link::Link;

/// Why there is no agent on this machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum LocalAgentError {
    /// No pair of connected sockets could be had.
    #[error("failed to make a socket pair for the private agent")]
    SocketPair(#[source] std::io::Error),
    /// Our own program can't be started a second time.
    #[error("failed to start the private agent {}", program.display())]
    Start {
        /// The program's file.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Connects to the resident agent of this machine, if one answers.
pub(super) async fn resident() -> Option<Link> {
    for path in runner_agent::socket::default_paths() {
        if let Ok(stream) = UnixStream::connect(&path).await {
            return Some(Link::new(stream, ()));
        }
    }
    None
}

/// Starts this program again as a private agent that ends with the link.
///
/// # Errors
///
/// When the system is out of descriptors or processes.
pub(super) fn private() -> Result<Link, LocalAgentError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(LocalAgentError::SocketPair)?;
    ours.set_nonblocking(true).map_err(LocalAgentError::SocketPair)?;
    let ours = UnixStream::from_std(ours).map_err(LocalAgentError::SocketPair)?;
    let input = OwnedFd::from(theirs);
    let output = input.try_clone().map_err(LocalAgentError::SocketPair)?;
    // The path stays right when the file is replaced by a newer build in the middle of a run.
    let program = PathBuf::from("/proc/self/exe");
    let mut command = tokio::process::Command::new(&program);
    command.arg0("distributest-agent").arg("agent");
    // It shares the terminal; what matters for the run comes over the link.
    if std::env::var_os(runner_agent::LOG_VARIABLE).is_none() {
        command.env(runner_agent::LOG_VARIABLE, "error");
    }
    // A group of its own: Ctrl-C in the terminal reaches the coordinator, which then stops the run in order.
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).process_group(0);
    let child = command.spawn().map_err(|source| LocalAgentError::Start { program, source })?;
    Ok(Link::new(ours, child))
}
