//! Collects what is said of a unit's tests, reports each, and says what came of the unit.

use std::time::Duration;

use distributest_core::test_result::{TestResult, TestStatus};

use crate::ids::Ids;
use crate::link::{Link, Stop};
use crate::messages::{FileOutcome, Finished};

/// What is known of a unit so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    ids: Ids,
    reported: usize,
    failed: usize,
    /// The first death of a process.
    crash: Option<String>,
    /// Why it could not begin, with details.
    obstacle: Option<(String, String)>,
    /// What was wrong beside failing tests.
    faults: Vec<String>,
    /// Why there was no test to report, where that is known.
    emptiness: Option<String>,
}

/// A test as it is reported, without what all tests of a unit have in common.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: TestStatus,
    pub(crate) duration: Duration,
    pub(crate) message: String,
    pub(crate) details: String,
    /// File and line.
    pub(crate) place: (Option<String>, Option<u32>),
}

impl Entry {
    /// The same with what there is to say of it: one line and many.
    pub(crate) fn because(self, message: impl Into<String>, details: impl Into<String>) -> Entry {
        Entry { message: message.into(), details: details.into(), ..self }
    }
}

impl Report {
    /// Reports a test. A second one of the same id gets a number after it.
    pub(crate) fn test(&mut self, entry: Entry, link: &mut Link) -> Result<(), Stop> {
        self.reported += 1;
        self.failed += usize::from(entry.status.is_failure());
        let (file, line) = entry.place;
        let test = TestResult {
            id: self.ids.unique(&entry.id),
            name: entry.name,
            status: entry.status,
            duration: entry.duration,
            message: entry.message,
            details: entry.details,
            file,
            line,
        };
        link.send(&(&test).into())
    }

    /// A process died; only the first counts.
    pub(crate) fn crashed(&mut self, message: String) {
        self.crash.get_or_insert(message);
    }

    /// It could not begin.
    pub(crate) fn broken(&mut self, message: impl Into<String>, details: impl Into<String>) {
        self.obstacle.get_or_insert((message.into(), details.into()));
    }

    /// Something is wrong that is no test's failure.
    pub(crate) fn fault(&mut self, message: impl Into<String>) {
        self.faults.push(message.into());
    }

    /// Nothing is known of so many tests, because somebody ended a process before them.
    pub(crate) fn left_out(&mut self, tests: usize) {
        match tests {
            0 => {}
            1 => self.fault("the test after it was not run"),
            _ => self.fault(format!("{tests} tests after it were not run")),
        }
    }

    /// There was no test to report, for a reason that is no fault.
    pub(crate) fn none_seen(&mut self, message: impl Into<String>) {
        self.emptiness = Some(message.into());
    }

    /// Whether any test has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// What came of the unit.
    pub(crate) fn finished(self) -> Finished {
        if let Some(message) = self.crash {
            let messages = Vec::from_iter(std::iter::once(message).chain(self.faults));
            Finished::new(FileOutcome::Crashed, messages.join("; "))
        } else if let Some((message, details)) = self.obstacle {
            Finished::new(FileOutcome::Broken, message).with_details(details)
        } else if !self.faults.is_empty() {
            Finished::new(FileOutcome::Failed, self.faults.join("; "))
        } else if self.failed > 0 {
            Finished::new(FileOutcome::Failed, "")
        } else if self.reported == 0 {
            let message = self.emptiness.unwrap_or_else(|| "no tests".to_owned());
            Finished::new(FileOutcome::Passed, message)
        } else {
            Finished::new(FileOutcome::Passed, "")
        }
    }
}
