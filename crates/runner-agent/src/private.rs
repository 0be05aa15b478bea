//! The private agent: serves one run over its standard input and output, and ends with it.
//!
//! The process a coordinator starts is only the watcher of the session that does the work, so that killing either leaves
//! nothing behind.

use std::io::{self, Write as _};

use distributest_process::Exit;

use crate::PROTOCOL_VERSION;
use crate::connection::Connection;
use crate::dial;
use crate::runtime;
use crate::session::SessionOptions;
use crate::watcher::{SessionSpec, WatchError, WatchedSession};

/// Why there is no private agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateError {
    /// Something about this process's own streams.
    #[error("failed to use standard input and output")]
    Streams(#[source] io::Error),
    /// The runtime did not start.
    #[error("failed to start")]
    Start(#[source] io::Error),
    /// No session was started.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

/// Serves one run and returns how its session ended. With `banner`, says on standard output first what this is.
pub(crate) fn run(banner: bool) -> Result<Exit, PrivateError> {
    let connection = Connection::of_standard_streams().map_err(PrivateError::Streams)?;
    if banner {
        let line = format!("distributest-agent protocol={PROTOCOL_VERSION} private\n");
        let mut output = dial::standard_output().map_err(PrivateError::Streams)?;
        output.write_all(line.as_bytes()).map_err(PrivateError::Streams)?;
    }
    let runtime = runtime::new().map_err(PrivateError::Start)?;
    runtime.block_on(async {
        let spec = SessionSpec {
            options: SessionOptions::default(),
            user: None,
            environment: std::env::vars_os().collect(),
            cgroup: None,
        };
        let (mut session, _control) = WatchedSession::start(&connection, spec)?;
        drop(connection);
        Ok(session.ended().await)
    })
}
