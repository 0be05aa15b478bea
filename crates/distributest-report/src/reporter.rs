//! One event stream, many consumers, none of which can stop the run.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use distributest_core::run_event::RunEvent;

/// A consumer of a run's events.
pub trait Reporter: Send {
    /// Takes the next event. `now` is the time since the start of the run and never goes back.
    ///
    /// # Errors
    ///
    /// What the consumer could not write. It is not called again after that.
    fn on_event(&mut self, now: Duration, event: &RunEvent) -> Result<(), ReportError>;

    /// Lets time pass, a few times a second, for consumers that show it.
    ///
    /// # Errors
    ///
    /// As for [`Reporter::on_event`].
    fn on_tick(&mut self, _now: Duration) -> Result<(), ReportError> {
        Ok(())
    }

    /// Ends the report. Called once, after the last event, also when a run broke off without
    /// [`RunEvent::RunFinished`]; what is known by then must be complete on disk afterwards.
    ///
    /// # Errors
    ///
    /// As for [`Reporter::on_event`].
    fn finish(&mut self) -> Result<(), ReportError> {
        Ok(())
    }
}

/// What a consumer could not do.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Standard output or standard error of the command does not take what is written to it.
    #[error("write to the console")]
    Console {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The aggregated log, or the temporary file of a block of it, can't be written.
    #[error("write the log {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The JSON lines can't be written.
    #[error("write the JSON lines to {}", path.display())]
    JsonLines {
        /// Where they go.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The JUnit report can't be written.
    #[error("write the JUnit report {}", path.display())]
    JUnit {
        /// Where it goes.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ReportError {
    /// The whole chain of causes as one warning for people.
    fn to_warning(&self) -> String {
        let mut text = format!("failed to {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text + "; the run goes on without it"
    }
}

/// Hands every event to every consumer.
///
/// A consumer that fails is dropped and the others get a [`RunEvent::Warning`] that says so, before they get
/// anything else; so add the console last, and it can show what befell the others ahead of its own summary. Such a
/// warning is the one thing that can follow [`RunEvent::RunFinished`].
#[derive(Default)]
pub struct Reporters {
    /// `None` where a consumer failed.
    reporters: Vec<Option<Box<dyn Reporter>>>,
    failures: Vec<ReportError>,
    now: Duration,
}

impl Reporters {
    /// No consumer yet.
    pub fn new() -> Reporters {
        Reporters::default()
    }

    /// Adds a consumer; consumers get each event in the order they were added.
    pub fn add(&mut self, reporter: impl Reporter + 'static) {
        self.reporters.push(Some(Box::new(reporter)));
    }

    /// Hands an event to every consumer. `now` is the time since the start of the run.
    pub fn on_event(&mut self, now: Duration, event: &RunEvent) {
        self.now = now;
        self.for_each(|reporter| reporter.on_event(now, event));
    }

    /// Lets time pass; call it about four times a second.
    pub fn on_tick(&mut self, now: Duration) {
        self.now = now;
        self.for_each(|reporter| reporter.on_tick(now));
    }

    /// Ends every report, and returns what failed over the whole run: reports that are missing or incomplete.
    pub fn finish(mut self) -> Vec<ReportError> {
        self.for_each(|reporter| reporter.finish());
        self.failures
    }

    fn for_each(&mut self, action: impl Fn(&mut dyn Reporter) -> Result<(), ReportError>) {
        for index in 0..self.reporters.len() {
            if let Some(reporter) = &mut self.reporters[index]
                && let Err(error) = action(reporter.as_mut())
            {
                self.drop_failed(index, error);
            }
        }
    }

    /// Drops a consumer and warns those that are left, each of which may fail at that in turn.
    fn drop_failed(&mut self, index: usize, error: ReportError) {
        self.reporters[index] = None;
        let (now, warning) = (self.now, RunEvent::Warning { message: error.to_warning() });
        self.failures.push(error);
        self.for_each(|reporter| reporter.on_event(now, &warning));
    }
}
