//! Reaching the resident agent that serves all users of a host: ssh itself connects to its socket, and no program there
//! carries what is said.
//!
//! Where nobody listens, or sshd forwards nothing, the stream ends before a word was heard. That shows in the greeting,
//! which is sent at once: to ask first would take another round trip.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use runner_agent::socket::SYSTEM_SOCKET;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

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
    let stream = Listening { stream, heard: Some(sender) };
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

/// A stream that tells when something was heard.
struct Listening {
    stream: UnixStream,
    heard: Option<oneshot::Sender<()>>,
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before
            && let Some(heard) = self.heard.take()
        {
            let _ = heard.send(());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
