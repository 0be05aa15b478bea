//! Run events in; terminal, aggregated log, JUnit and JSON lines out.
//!
//! The driver of a run has one stream of [`RunEvent`](distributest_core::run_event::RunEvent)s. It gives each event
//! to [`Reporters`], which hands it to every consumer:
//!
//! - [`Console`]: what a developer watches and reads;
//! - [`AggregatedLog`]: every byte anything wrote, in unbroken blocks;
//! - [`JUnit`]: the XML that build servers read;
//! - [`JsonLines`]: one event a line, for programs.
//!
//! Rules: a consumer never stops a run (one that fails is dropped, with a warning to the others); no clock is read,
//! time comes in as a [`Duration`](std::time::Duration) since the start of the run; no terminal is detected, width
//! and colour are values; nothing here knows an async runtime.

mod aggregated_log;
mod console;
pub mod format;
mod json_lines;
mod junit;
mod log_file;
mod names;
mod phrases;
mod reporter;
mod untrusted;

pub use aggregated_log::AggregatedLog;
pub use console::{Console, ConsoleOptions, ConsoleOutputs, Verbosity};
pub use json_lines::{JSON_SCHEMA, JsonLines};
pub use junit::JUnit;
pub use log_file::{LogDestination, LogFileError, PreparedLog, prepare_log};
pub use reporter::{ReportError, Reporter, Reporters};
