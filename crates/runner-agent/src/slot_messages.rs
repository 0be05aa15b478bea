//! What a session and the daemon say to each other about slots: nine bytes a message, so that neither has to trust
//! the other with a buffer.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A message about one claim, which the session numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotMessage {
    /// To the daemon: wants to execute.
    Claim(u64),
    /// To the daemon: is done, or does not want to any more.
    Release(u64),
    /// To the session: may execute now.
    Grant(u64),
}

const CLAIM: u8 = b'c';
const RELEASE: u8 = b'r';
const GRANT: u8 = b'g';

impl SlotMessage {
    /// Writes the message.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub(crate) async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (kind, claim) = match self {
            SlotMessage::Claim(claim) => (CLAIM, claim),
            SlotMessage::Release(claim) => (RELEASE, claim),
            SlotMessage::Grant(claim) => (GRANT, claim),
        };
        let mut bytes = [kind; 9];
        bytes[1..].copy_from_slice(&claim.to_le_bytes());
        stream.write_all(&bytes).await
    }

    /// Reads the next message. Must be let finish: a message half read is lost.
    ///
    /// # Errors
    ///
    /// Those of the stream, its end among them, and `InvalidData` for something else.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let kind = stream.read_u8().await?;
        let claim = stream.read_u64_le().await?;
        match kind {
            CLAIM => Ok(SlotMessage::Claim(claim)),
            RELEASE => Ok(SlotMessage::Release(claim)),
            GRANT => Ok(SlotMessage::Grant(claim)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_message_survives_the_way() {
        let (mut one, mut other) = tokio::io::duplex(64);
        for message in [SlotMessage::Claim(0), SlotMessage::Release(7), SlotMessage::Grant(u64::MAX)] {
            message.write(&mut one).await.unwrap();
            assert_eq!(SlotMessage::read(&mut other).await.unwrap(), message);
        }
        one.write_all(b"x12345678").await.unwrap();
        let error = SlotMessage::read(&mut other).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
