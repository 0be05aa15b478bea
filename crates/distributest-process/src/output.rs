//! Reading captured output.

use std::io;
use std::os::fd::AsFd;

use tokio::net::unix::pipe::Receiver;

/// Appends to `buffer` what is in the pipe at this moment, without waiting for more, and returns the number of bytes.
///
/// Meant for the moment a worker has said that a file is finished: what its tests wrote before that is in the pipe
/// by then. At most what the pipe held when the call began is read (64 KiB by default), so a process that never
/// stops writing can't hold the caller. 0 also stands for the end of the pipe.
///
/// # Errors
///
/// Those of `ioctl` and `read` on the pipe.
pub fn drain_available(receiver: &Receiver, buffer: &mut Vec<u8>) -> io::Result<usize> {
    // Not Receiver::try_read: that trusts the runtime's last poll and may miss bytes that came since.
    let available = rustix::io::ioctl_fionread(receiver.as_fd())?;
    let start = buffer.len();
    let end = start + usize::try_from(available).map_err(io::Error::other)?;
    buffer.resize(end, 0);
    let mut filled = start;
    let outcome = loop {
        if filled == end {
            break Ok(());
        }
        match rustix::io::read(receiver.as_fd(), &mut buffer[filled..]) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break Ok(()),
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => break Err(errno),
        }
    };
    buffer.truncate(filled);
    outcome.map(|()| filled - start).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn it_takes_what_is_there_and_no_more() {
        let (reader, writer) = io::pipe().unwrap();
        let receiver = Receiver::from_owned_fd(reader.into()).unwrap();
        let mut writer = writer;
        let mut buffer = b"before ".to_vec();
        assert_eq!(drain_available(&receiver, &mut buffer).unwrap(), 0);

        // No await in between: the runtime has had no occasion to learn of these bytes.
        writer.write_all(b"hello").unwrap();
        assert_eq!(drain_available(&receiver, &mut buffer).unwrap(), 5);
        assert_eq!(buffer, b"before hello");

        drop(writer);
        assert_eq!(drain_available(&receiver, &mut buffer).unwrap(), 0);
        assert_eq!(buffer, b"before hello");
    }

    #[tokio::test]
    async fn reading_on_works_afterwards() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut receiver = Receiver::from_owned_fd(reader.into()).unwrap();
        let mut buffer = Vec::new();
        writer.write_all(b"one").unwrap();
        drain_available(&receiver, &mut buffer).unwrap();
        writer.write_all(b"two").unwrap();
        drop(writer);
        tokio::io::AsyncReadExt::read_to_end(&mut receiver, &mut buffer).await.unwrap();
        assert_eq!(buffer, b"onetwo");
    }
}
