//! The byte stream to a coordinator: two descriptors, or twice the same, handed from process to process.
//!
//! Whoever accepted the connection (the daemon) or was started on it (the private agent's watcher) hands it to the
//! session process over that process's control socket, so that a session never cares where it came from.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::FileType;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// The byte a hand-over carries; descriptors can't travel alone.
const HAND_OVER: &[u8] = b"c";

/// The descriptors of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where the coordinator's bytes come from.
    pub(crate) reader: OwnedFd,
    /// Where bytes for the coordinator go.
    pub(crate) writer: OwnedFd,
}

impl Connection {
    /// This process's standard input and output.
    ///
    /// # Errors
    ///
    /// Those of duplicating a descriptor.
    pub(crate) fn of_standard_streams() -> io::Result<Self> {
        let reader = io::stdin().as_fd().try_clone_to_owned()?;
        let writer = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Connection { reader, writer })
    }

    /// Both directions of one socket.
    ///
    /// # Errors
    ///
    /// Those of duplicating a descriptor.
    pub(crate) fn of_socket(socket: OwnedFd) -> io::Result<Self> {
        Ok(Connection { reader: socket.try_clone()?, writer: socket })
    }

    /// Hands the connection to the process at the other end of `control`, which calls [`Connection::receive`].
    ///
    /// # Errors
    ///
    /// Those of `sendmsg`; a new control socket has room for it.
    pub(crate) fn send(&self, control: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors = [self.reader.as_fd(), self.writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(control, &[IoSlice::new(HAND_OVER)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the connection the process at the other end of `control` hands over.
    ///
    /// # Errors
    ///
    /// Those of `recvmsg`, or `InvalidData` when something else comes.
    pub(crate) fn receive(control: &BlockingUnixStream) -> io::Result<Self> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut received = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        match (received.next(), received.next()) {
            (Some(reader), Some(writer)) => Ok(Connection { reader, writer }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no connection was handed over")),
        }
    }

    /// Makes the stream gRPC travels over. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for descriptors that are neither sockets nor pipes.
    pub(crate) fn into_stream(self) -> io::Result<ConnectionStream> {
        let reader: Box<dyn AsyncRead + Send + Unpin> = match file_type(&self.reader)? {
            FileType::Socket => Box::new(socket(self.reader)?),
            FileType::Fifo => Box::new(pipe::Receiver::from_owned_fd(self.reader)?),
            _ => return Err(unusable("standard input")),
        };
        let writer: Box<dyn AsyncWrite + Send + Unpin> = match file_type(&self.writer)? {
            FileType::Socket => Box::new(socket(self.writer)?),
            FileType::Fifo => Box::new(pipe::Sender::from_owned_fd(self.writer)?),
            _ => return Err(unusable("standard output")),
        };
        Ok(ConnectionStream { reader, writer })
    }
}

fn file_type(descriptor: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode))
}

fn socket(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = BlockingUnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn unusable(which: &str) -> io::Error {
    let message =
        format!("{which} is neither a socket nor a pipe; this command is run by `distributest`, not by hand");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// A connection as one readable and writable stream.
pub(crate) struct ConnectionStream {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl AsyncRead for ConnectionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for ConnectionStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_connection_survives_being_handed_over() {
        let (near, far) = UnixStream::pair().unwrap();
        let (watcher, session) = BlockingUnixStream::pair().unwrap();
        let connection = Connection::of_socket(far.into_std().unwrap().into()).unwrap();
        connection.send(watcher.as_fd()).unwrap();
        drop(connection);
        let mut far = Connection::receive(&session).unwrap().into_stream().unwrap();
        let (mut near_reader, mut near_writer) = near.into_split();
        near_writer.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        far.read_exact(&mut read).await.unwrap();
        far.write_all(&read).await.unwrap();
        drop(far);
        let mut answer = Vec::new();
        near_reader.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"ping");
    }

    #[tokio::test]
    async fn pipes_are_a_connection_and_files_are_not() {
        let (reader, mut far_writer) = io::pipe().unwrap();
        let (_far_reader, writer) = io::pipe().unwrap();
        let mut stream = Connection { reader: reader.into(), writer: writer.into() }.into_stream().unwrap();
        io::Write::write_all(&mut far_writer, b"x").unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');

        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let unusable = Connection { reader: null(), writer: null() }.into_stream();
        assert_eq!(unusable.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn a_watcher_that_is_gone_hands_over_nothing() {
        let (watcher, session) = BlockingUnixStream::pair().unwrap();
        drop(watcher);
        let error = Connection::receive(&session).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
