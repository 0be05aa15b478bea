//! Hands each event of a run to everybody who keeps something of it: the ledger, the journal, the history, the reporters.

use std::time::Duration;

use distributest_core::ledger::Ledger;
use distributest_core::run_event::{RunEvent, RunSummary};
use distributest_history::Recorder;
use distributest_report::{ReportError, Reporters};
use tokio::time::Instant;

use crate::cache::PassWatch;
use crate::error::chain;
use crate::journal::{Journal, JournalError};

/// Everybody who listens to a run. Owns the run's clock.
pub struct EventSinks {
    start: Instant,
    ledger: Ledger,
    /// `None` where it can't be written.
    journal: Option<Journal>,
    /// `None` without a usable history.
    recorder: Option<Recorder>,
    reporters: Reporters,
    /// `None` without a result cache.
    passes: Option<PassWatch>,
    /// What a former run found out; told right after the first event, and not to the journal, which has it.
    resumed: Vec<RunEvent>,
    /// What people should know; told after the event at hand.
    warnings: Vec<String>,
}

impl EventSinks {
    /// Listeners of a run that began at `start`. `flaky_fails`: a flaky file makes the exit status that of a failing one.
    pub fn new(
        start: Instant,
        recorder: Option<Recorder>,
        reporters: Reporters,
        warnings: Vec<String>,
        flaky_fails: bool,
    ) -> EventSinks {
        EventSinks {
            start,
            ledger: Ledger::new(flaky_fails),
            journal: None,
            recorder,
            reporters,
            passes: None,
            resumed: Vec::new(),
            warnings,
        }
    }

    /// The same with a journal, and with what a former run found out.
    #[must_use]
    pub fn with_journal(self, journal: Option<Journal>, resumed: Vec<RunEvent>) -> EventSinks {
        EventSinks { journal, resumed, ..self }
    }

    /// The same with a watch on the passes that may stand for later runs.
    #[must_use]
    pub fn with_passes(self, passes: Option<PassWatch>) -> EventSinks {
        EventSinks { passes, ..self }
    }

    /// Time since the run's start, on the monotonic clock.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Tells everybody. Nobody's failure to keep something stops the run; it becomes a warning.
    pub fn emit(&mut self, event: &RunEvent) {
        if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.on_event(event)) {
            self.warnings.push(without_journal(&error));
        }
        self.watch_passes(event);
        self.tell(event);
        for event in std::mem::take(&mut self.resumed) {
            self.tell(&event);
        }
        for message in std::mem::take(&mut self.warnings) {
            self.reporters.on_event(self.now(), &RunEvent::Warning { message });
        }
    }

    /// At the end of the run, which is about to be told, has the history remember the passes that may stand for later ones.
    fn watch_passes(&mut self, event: &RunEvent) {
        let Some(watch) = &mut self.passes else { return };
        watch.on_event(event);
        if matches!(event, RunEvent::RunFinished(_)) {
            let (passes, warnings) = watch.finish();
            if let Some(recorder) = &mut self.recorder {
                recorder.remember(passes);
            }
            for message in warnings {
                self.tell(&RunEvent::Warning { message });
            }
        }
    }

    fn tell(&mut self, event: &RunEvent) {
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

    /// Ends every report; returns those that are missing or incomplete. With one that is, the run can be resumed, to get it.
    pub fn finish(self) -> Vec<ReportError> {
        let missing = self.reporters.finish();
        if let Some(journal) = self.journal.filter(|_| missing.is_empty()) {
            journal.finish();
        }
        missing
    }
}

/// What a run says that can't keep its journal.
pub fn without_journal(error: &JournalError) -> String {
    format!("failed to {}; --resume will not know all that this run finished", chain(error))
}
