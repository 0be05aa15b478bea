//! A byte stream to an agent, whatever carries it, and what must stay alive as long as it does.

use std::any::Any;
use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream: a socket, or the standard input and output of a program.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Stream: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for Stream {}

/// A way to an agent that is neither on this machine nor behind ssh. Each call is a new connection.
pub trait Dial: Debug + Send + Sync {
    /// Connects to the agent.
    fn dial(&self) -> Dialing<'_>;
}

/// A connection on its way.
pub type Dialing<'dial> = Pin<Box<dyn Future<Output = std::io::Result<Link>> + Send + 'dial>>;

/// A connection to an agent. Dropping it closes the stream and lets go of what carried it.
pub struct Link {
    stream: Box<dyn ByteStream>,
    /// The program or connection behind the stream: never looked at, ended by being dropped.
    _carrier: Box<dyn Any + Send>,
    /// Whether what comes over it is worth compressing.
    pub compressed: bool,
}

impl Link {
    /// Joins a stream and its carrier.
    pub fn new(stream: impl ByteStream + 'static, carrier: impl Any + Send) -> Link {
        Link { stream: Box::new(stream), _carrier: Box::new(carrier), compressed: false }
    }

    /// The same for a stream that comes over a network.
    pub fn over_network(stream: impl ByteStream + 'static, carrier: impl Any + Send) -> Link {
        Link { compressed: true, ..Link::new(stream, carrier) }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
