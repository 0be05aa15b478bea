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

    /// Sends bytes and, with the first of them, the connection to the process at the other end of `control`, which calls
    /// [`Connection::receive_part`]. Returns how many bytes were sent.
    ///
    /// # Errors
    ///
    /// Those of `sendmsg`.
    pub(crate) fn send_with(&self, bytes: &[u8], control: BorrowedFd<'_>) -> io::Result<usize> {
        let descriptors = [self.reader.as_fd(), self.writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        Ok(sendmsg(control, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
    }

    /// Receives some bytes, and the descriptors that come with them. Returns how many bytes there were; none at the end.
    ///
    /// # Errors
    ///
    /// Those of `recvmsg`.
    pub(crate) fn receive_part(
        control: BorrowedFd<'_>,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(control, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(received.bytes)
    }

    /// The connection made of the descriptors that [`Connection::send_with`] sent.
    ///
    /// # Errors
    ///
    /// `InvalidData` when those are others.
    pub(crate) fn of_descriptors(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let [reader, writer] = <[OwnedFd; 2]>::try_from(descriptors)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no connection was handed over"))?;
        Ok(Connection { reader, writer })
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
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
    use tokio::io::AsyncReadExt as _;

    use super::*;

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
}
