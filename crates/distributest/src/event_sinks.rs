//! Hands each event of a run to everybody who keeps something of it: the ledger, the history, the reporters.

use std::time::Duration;

use distributest_core::ledger::Ledger;
use distributest_core::run_event::{RunEvent, RunSummary};
use distributest_history::Recorder;
use distributest_report::{ReportError, Reporters};
use tokio::time::Instant;

use crate::error::chain;

/// Everybody who listens to a run. Owns the run's clock.
pub struct EventSinks {
    start: Instant,
    ledger: Ledger,
    /// `None` without a usable history.
    recorder: Option<Recorder>,
    reporters: Reporters,
    /// What came up before the run could say anything; told right after its first event.
    early_warnings: Vec<String>,
}

impl EventSinks {
    /// Listeners of a run that began at `start`. `flaky_fails`: a flaky file makes the exit status that of a failing one.
    pub fn new(
        start: Instant,
        recorder: Option<Recorder>,
        reporters: Reporters,
        early_warnings: Vec<String>,
        flaky_fails: bool,
    ) -> EventSinks {
        EventSinks { start, ledger: Ledger::new(flaky_fails), recorder, reporters, early_warnings }
    }

    /// Time since the run's start, on the monotonic clock.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells everybody. Nobody's failure to keep something stops the run; it becomes a warning.
    pub fn emit(&mut self, event: &RunEvent) {
        let now = self.now();
        self.ledger.record(now, event);
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = recorder.on_event(now, event)
        {
            // The recorder itself takes no more after an error.
            let message = format!("failed to {}", chain(&error));
            self.reporters.on_event(now, &RunEvent::Warning { message });
        }
        self.reporters.on_event(now, event);
        for message in std::mem::take(&mut self.early_warnings) {
            self.reporters.on_event(now, &RunEvent::Warning { message });
        }
    }

    /// Lets the live view move.
    pub fn tick(&mut self) {
        let now = self.now();
        self.reporters.on_tick(now);
    }

    /// The sum of what happened so far.
    pub fn summary(&self) -> RunSummary {
        self.ledger.summary()
    }

    /// Ends every report; returns those that are missing or incomplete.
    pub fn finish(self) -> Vec<ReportError> {
        self.reporters.finish()
    }
}
