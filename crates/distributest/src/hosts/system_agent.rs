//! Reaching the resident agent that serves all users of a host: ssh itself connects to its socket, and no program there
//! carries what is said.
//!
//! Where nobody listens, or sshd forwards nothing, the stream ends before a word was heard. That shows in the greeting,
//! which is sent at once: to ask first would take another round trip.

use std::path::Path;

use runner_agent::socket::SYSTEM_SOCKET;
use tokio::sync::oneshot;
use tokio_util::io::InspectReader;

use super::link::Link;
use super::remote_agent::{RemoteAgentError, patience_with, silent};
use super::ssh::SshConnection;

/// Greets that agent. `None`: there is none to be reached in this way.
///
/// # Errors
///
/// When nothing comes in answer, not even an end.
pub(super) async fn greet<Agent, Failure>(
    ssh: &SshConnection,
    greet: impl AsyncFnOnce(Link) -> Result<Agent, Failure>,
) -> Result<Option<Result<Agent, Failure>>, RemoteAgentError> {
    let Ok(stream) = ssh.connect(Path::new(SYSTEM_SOCKET)).await else { return Ok(None) };
    let (sender, mut heard) = oneshot::channel();
    let mut sender = Some(sender);
    let stream = InspectReader::new(stream, move |bytes: &[u8]| {
        // Without bytes, it is the end.
        if let Some(sender) = sender.take_if(|_| !bytes.is_empty()) {
            let _ = sender.send(());
        }
    });
    let mut greeting = std::pin::pin!(greet(Link::over_network(stream, ())));
    let patience = patience_with(ssh);
    let greeted = tokio::select! {
        biased;
        Ok(()) = &mut heard => return Ok(Some(greeting.await)),
        greeted = &mut greeting => greeted,
        () = tokio::time::sleep(patience) => return Err(silent(patience)),
    };
    let was_heard = greeted.is_ok() || heard.try_recv().is_ok();
    Ok(was_heard.then_some(greeted))
}
