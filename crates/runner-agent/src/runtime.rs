//! What every long-lived process of the agent needs before it does anything: a small runtime and a log.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Names the level of the log on standard error: `error`, `warn`, `info`, `debug`, `trace` or `off`.
pub const LOG_VARIABLE: &str = "RUNNER_AGENT_LOG";

/// A runtime on the calling thread alone. Trees of processes are killed when the thread that started them dies, so that
/// has to be the main one.
pub(crate) fn new() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Starts the log of the product's own crates on standard error. `RUNNER_AGENT_LOG` outranks `default`. A second call
/// changes nothing.
pub fn start_log(default: LevelFilter) {
    let level = std::env::var(LOG_VARIABLE).ok().and_then(|level| level.parse().ok()).unwrap_or(default);
    let own = Targets::new().with_target("runner_agent", level).with_target("distributest", level);
    // The journal knows the time; terminal colours are of no use in it.
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let log = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().boxed(),
        None => log.boxed(),
    };
    let _ = tracing_subscriber::registry().with(log.with_filter(own)).try_init();
}
