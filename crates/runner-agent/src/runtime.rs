//! What every long-lived process of the agent needs before it does anything: a small runtime and a log.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tracing::level_filters::LevelFilter;

/// Names the level of the log on standard error: `error`, `warn`, `info`, `debug`, `trace` or `off`.
pub const LOG_VARIABLE: &str = "RUNNER_AGENT_LOG";

/// A runtime on the calling thread alone. Trees of processes are killed when the thread that started them dies, so that
/// has to be the main one.
pub(crate) fn new() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Starts the log on standard error. `RUNNER_AGENT_LOG` outranks `default`. A second call changes nothing.
pub fn start_log(default: LevelFilter) {
    let level = std::env::var(LOG_VARIABLE).ok().and_then(|level| level.parse().ok()).unwrap_or(default);
    // Under systemd the journal knows the time; a terminal's colours are no use in either.
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(false);
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().try_init()
    } else {
        log.try_init()
    };
}
