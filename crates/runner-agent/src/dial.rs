//! `runner-agent dial`: joins its standard input and output with the resident agent's socket, byte for byte.
//!
//! This is what a coordinator runs over ssh where ssh itself can't connect to that socket: it is another one than the
//! system's, or sshd forwards nothing. It needs no runtime: two threads copy, and the relay is over when the
//! agent has nothing more to say. The end of the input is passed on, so that an agent learns that its coordinator
//! is gone and what it still says is delivered.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use crate::PROTOCOL_VERSION;
use crate::socket;

/// Bytes copied at a time.
const COPY_BYTES: usize = 64 * 1024;

/// Why no resident agent was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No daemon listens where one could.
    #[error("no resident agent listens on {}", list(.tried))]
    NoAgent {
        /// The sockets tried.
        tried: Vec<PathBuf>,
        /// Why the last one failed.
        #[source]
        source: io::Error,
    },
    /// This process's own input or output failed.
    #[error("failed to relay between standard streams and the agent")]
    Relay(#[source] io::Error),
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

/// Connects to the daemon's socket (`path`, or the system's and then the user's), says so in one line on standard
/// output, and relays until the agent has closed its end.
///
/// # Errors
///
/// When no daemon answers, or copying fails.
pub fn relay(path: Option<PathBuf>) -> Result<(), DialError> {
    let agent = connect(path)?;
    let mut output = standard_output().map_err(DialError::Relay)?;
    writeln!(output, "distributest-agent protocol={PROTOCOL_VERSION} resident").map_err(DialError::Relay)?;
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(DialError::Relay)?;
    let to_agent = agent.try_clone().map_err(DialError::Relay)?;
    // Left behind when the agent ends first: the process ends with the caller, and with it this thread.
    thread::spawn(move || {
        let _ = copy(File::from(input), &to_agent);
        let _ = to_agent.shutdown(Shutdown::Write);
    });
    copy(&agent, output).map_err(DialError::Relay)
}

/// Standard output without the buffer that waits for a newline.
pub(crate) fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn connect(path: Option<PathBuf>) -> Result<UnixStream, DialError> {
    let candidates = path.map_or_else(socket::default_paths, |path| vec![path]);
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for path in &candidates {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(DialError::NoAgent { tried: candidates, source: failure })
}

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The agent ends a refused or broken connection without ceremony.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
