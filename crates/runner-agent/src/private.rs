//! The private agent: serves one run over its standard input and output, and ends with it.
//!
//! The process a coordinator starts splits in two: one is the session, the other its guardian, so that killing
//! either leaves nothing behind.

use std::io::{self, Write as _};

use distributest_process::GuardError;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::PROTOCOL_VERSION;
use crate::connection::Connection;
use crate::dial;
use crate::session::{self, SessionError, Watcher};

/// Why there is no private agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateError {
    /// Something about this process's own streams.
    #[error("failed to use standard input and output")]
    Streams(#[source] io::Error),
    /// Nobody would clean up after a session that is killed.
    #[error("failed to start")]
    Guard(#[from] GuardError),
    /// The guardian's end would not be noticed.
    #[error("failed to watch the guardian")]
    WatchGuardian(#[source] io::Error),
    /// The session itself.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Serves one run. With `banner`, says on standard output first what this is. Call it before there are threads.
pub(crate) fn run(banner: bool) -> Result<(), PrivateError> {
    distributest_process::guard()?;
    // Not SIGKILL: a session that loses its guardian still ends its run in order.
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| PrivateError::WatchGuardian(errno.into()))?;
    if banner {
        let line = format!("distributest-agent protocol={PROTOCOL_VERSION} private\n");
        let mut output = dial::standard_output().map_err(PrivateError::Streams)?;
        output.write_all(line.as_bytes()).map_err(PrivateError::Streams)?;
    }
    let connection = Connection::of_standard_streams().map_err(PrivateError::Streams)?;
    Ok(session::run(Watcher::Guardian(connection))?)
}
