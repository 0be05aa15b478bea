//! What a session and the daemon say to each other on the control socket: nine bytes a message, so that neither has to
//! trust the other with a buffer. With [`ControlMessage::Serve`] come the descriptors of a connection.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use crate::connection::Connection;

/// A message; claims are numbered by the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlMessage {
    /// To the daemon: wants to execute.
    Claim(u64),
    /// To the daemon: is done, or does not want to any more.
    Release(u64),
    /// To the daemon: the run has ended in order, and workers are kept that are of use for so many milliseconds. Nothing
    /// more comes from the session until it is told to serve again.
    Idle(u64),
    /// To the session: may execute now.
    Grant(u64),
    /// The same, and nobody waits: the slot may be used for one thing after another until it is wanted.
    LastingGrant(u64),
    /// To the session: somebody waits for a slot.
    Wanted,
    /// To the session: here is a connection.
    Serve,
}

/// The length of every message.
const BYTES: usize = 9;

impl ControlMessage {
    fn to_bytes(self) -> [u8; BYTES] {
        let (kind, number) = match self {
            ControlMessage::Claim(claim) => (b'c', claim),
            ControlMessage::Release(claim) => (b'r', claim),
            ControlMessage::Idle(milliseconds) => (b'i', milliseconds),
            ControlMessage::Grant(claim) => (b'g', claim),
            ControlMessage::LastingGrant(claim) => (b'l', claim),
            ControlMessage::Wanted => (b'w', 0),
            ControlMessage::Serve => (b's', 0),
        };
        let mut bytes = [kind; BYTES];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; BYTES]) -> io::Result<Self> {
        let [kind, number @ ..] = bytes;
        let number = u64::from_le_bytes(number);
        match kind {
            b'c' => Ok(ControlMessage::Claim(number)),
            b'r' => Ok(ControlMessage::Release(number)),
            b'i' => Ok(ControlMessage::Idle(number)),
            b'g' => Ok(ControlMessage::Grant(number)),
            b'l' => Ok(ControlMessage::LastingGrant(number)),
            b'w' => Ok(ControlMessage::Wanted),
            b's' => Ok(ControlMessage::Serve),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Writes the message.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub(crate) async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(&self.to_bytes()).await
    }

    /// Reads the next message of a session, with which no descriptors come. Must be let finish: a message half read is
    /// lost.
    ///
    /// # Errors
    ///
    /// Those of the stream, its end among them, and `InvalidData` for something else.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        stream.read_exact(&mut bytes).await?;
        ControlMessage::from_bytes(bytes)
    }
}

/// What a daemon says to its session.
pub(crate) enum FromDaemon {
    /// A claim is granted.
    Grant {
        /// Its number.
        claim: u64,
        /// Whether the slot may be used for one thing after another, until it is wanted.
        lasting: bool,
    },
    /// Somebody waits for a slot.
    Wanted,
    /// A coordinator is to be served.
    Serve(Connection),
}

impl FromDaemon {
    /// Reads the daemon's next message. Must be let finish: a message half read is lost.
    ///
    /// # Errors
    ///
    /// Those of the socket, its end among them, and `InvalidData` for something else.
    pub(crate) async fn read(control: &UnixStream) -> io::Result<Self> {
        let (mut bytes, mut filled, mut descriptors) = ([0; BYTES], 0, Vec::new());
        while filled < BYTES {
            let receive =
                || Connection::receive_part(control.as_fd(), &mut bytes[filled..], &mut descriptors);
            match control.async_io(Interest::READABLE, receive).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        match ControlMessage::from_bytes(bytes)? {
            ControlMessage::Grant(claim) => Ok(FromDaemon::Grant { claim, lasting: false }),
            ControlMessage::LastingGrant(claim) => Ok(FromDaemon::Grant { claim, lasting: true }),
            ControlMessage::Wanted => Ok(FromDaemon::Wanted),
            ControlMessage::Serve => Connection::of_descriptors(descriptors).map(FromDaemon::Serve),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Hands a connection to the session at the other end of `control`, for which it is the next message.
///
/// # Errors
///
/// Those of `sendmsg`; an idle session's socket has room for it.
pub(crate) fn hand_over(connection: &Connection, control: &UnixStream) -> io::Result<()> {
    let bytes = ControlMessage::Serve.to_bytes();
    match connection.send_with(&bytes, control.as_fd())? {
        BYTES => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_message_survives_the_way() {
        let (mut one, mut other) = tokio::io::duplex(64);
        for message in [
            ControlMessage::Claim(0),
            ControlMessage::Release(7),
            ControlMessage::Idle(600_000),
            ControlMessage::Grant(u64::MAX),
            ControlMessage::LastingGrant(3),
            ControlMessage::Wanted,
            ControlMessage::Serve,
        ] {
            message.write(&mut one).await.unwrap();
            assert_eq!(ControlMessage::read(&mut other).await.unwrap(), message);
        }
        one.write_all(b"x12345678").await.unwrap();
        let error = ControlMessage::read(&mut other).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_connection_survives_being_handed_over_behind_a_grant() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut daemon, session) = UnixStream::pair().unwrap();
        let connection = Connection::of_socket(far.into_std().unwrap().into()).unwrap();
        ControlMessage::Grant(7).write(&mut daemon).await.unwrap();
        hand_over(&connection, &daemon).unwrap();
        drop(connection);
        let granted = FromDaemon::read(&session).await.unwrap();
        assert!(matches!(granted, FromDaemon::Grant { claim: 7, lasting: false }));
        let FromDaemon::Serve(far) = FromDaemon::read(&session).await.unwrap() else { panic!() };
        let mut far = far.into_stream().unwrap();
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
    async fn a_daemon_that_is_gone_or_hands_over_nothing_is_told_from_one_that_speaks() {
        let (mut daemon, session) = UnixStream::pair().unwrap();
        ControlMessage::Serve.write(&mut daemon).await.unwrap();
        drop(daemon);
        for expected in [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof] {
            let error = FromDaemon::read(&session).await.err().map(|error| error.kind());
            assert_eq!(error, Some(expected));
        }
    }
}
