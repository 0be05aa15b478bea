//! Turns the events of a run into rows, and writes them in batches.
//!
//! A batch is written once a second of run time, or sooner when it has grown to [`BATCH_ROWS`]; the rest at the end
//! of the run. Writing takes a few milliseconds and happens inside [`Recorder::on_event`]. During the run a locked
//! database is given [`IMPATIENCE`] only, for the caller has tests to hand out; the rows wait for the next second.
//! At the end it is given five seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId};
use distributest_core::outcome::Verdict;
use distributest_core::run_event::{AttemptReport, RunEvent};

use crate::batch::{self, AttemptRow, Row, RunRecord, TestRow};
use crate::opening::PATIENCE;
use crate::passes::NewPass;
use crate::split_files::SplitFiles;
use crate::store::{History, HistoryError, Operation};

/// Rows that are written without waiting for the second to pass.
const BATCH_ROWS: usize = 500;

/// Run time between two batches.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a write in the middle of a run may wait for another coordinator's.
const IMPATIENCE: Duration = Duration::from_millis(50);

/// What the events of a run do not say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// The run's identifier, as in `DISTRIBUTEST_RUN`.
    pub run: String,
    /// What makes the project the same project next time: made of its git remote or its path.
    pub project_key: String,
    /// The project's name, for people.
    pub project_name: String,
    /// The start of the run, where the time of its events is zero: milliseconds since the Unix epoch.
    pub started_at_unix_ms: i64,
    /// The version of the program.
    pub version: String,
}

/// Records one run. Feed it every event of the run, in order, up to [`RunEvent::RunFinished`].
#[derive(Debug)]
pub struct Recorder {
    /// `None` after a failure that waiting can't mend, and when the run is over.
    history: Option<History>,
    run: RunRecord,
    run_row: Option<i64>,
    started: HashMap<AttemptId, Duration>,
    /// Of each file, whether it has its verdict.
    is_decided: Vec<bool>,
    /// Tests of the attempts on files that are not decided yet.
    undecided: HashMap<FileId, HashMap<AttemptId, Vec<TestRow>>>,
    split_files: SplitFiles,
    pending: Vec<Row>,
    pending_weight: usize,
    next_write: Duration,
    /// The last write found the database locked, so only time makes the next one due.
    waiting_for_lock: bool,
}

impl Recorder {
    /// A recorder of a run that is about to start.
    pub fn new(history: History, run: RunInfo) -> Recorder {
        Recorder {
            history: Some(history),
            run: RunRecord { info: run, hosts: Vec::new(), files: Arc::default() },
            run_row: None,
            started: HashMap::new(),
            is_decided: Vec::new(),
            undecided: HashMap::new(),
            split_files: SplitFiles::default(),
            pending: Vec::new(),
            pending_weight: 0,
            next_write: BATCH_INTERVAL,
            waiting_for_lock: false,
        }
    }

    /// Takes note of an event that happened `now` after the start of the run.
    ///
    /// # Errors
    ///
    /// At most one in a run, to be shown as a warning: from then on nothing is recorded and this returns `Ok`. A
    /// locked database is one only if it stays locked until the end of the run.
    pub fn on_event(&mut self, now: Duration, event: &RunEvent) -> Result<(), HistoryError> {
        if self.history.is_none() {
            return Ok(());
        }
        self.note(now, event);
        let finished = matches!(event, RunEvent::RunFinished(_));
        let full = self.pending_weight >= BATCH_ROWS && !self.waiting_for_lock;
        let due = full || (now >= self.next_write && !self.pending.is_empty());
        if !finished && !due {
            return Ok(());
        }
        self.next_write = now + BATCH_INTERVAL;
        let written = self.write(if finished { PATIENCE } else { IMPATIENCE });
        self.waiting_for_lock = matches!(written, Err(HistoryError::Locked { .. }));
        if finished {
            self.history = None;
            return written;
        }
        match written {
            Err(HistoryError::Locked { .. }) => Ok(()),
            Err(error) => {
                self.history = None;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Takes note of passes that may stand for later runs. Their attempts' ends and their files' verdicts come before.
    pub fn remember(&mut self, passes: Vec<NewPass>) {
        for pass in passes {
            self.push(Row::Pass(pass));
        }
    }

    fn note(&mut self, now: Duration, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { hosts, files, .. } => {
                self.run.hosts.clone_from(hosts);
                self.run.files = Arc::clone(files);
                self.is_decided = vec![false; files.len()];
                self.split_files = SplitFiles::new(files);
            }
            RunEvent::AttemptStarted { attempt, .. } => {
                self.started.insert(*attempt, now);
            }
            RunEvent::TestFinished { attempt, file, test } if self.is_undecided(*file) => {
                let attempts = self.undecided.entry(*file).or_default();
                attempts.entry(*attempt).or_default().push(TestRow::from(test));
            }
            RunEvent::AttemptFinished(report) => self.note_attempt(now, report),
            RunEvent::FileVerdict { file, verdict, attempt, .. } if self.is_whole(*file) => {
                if let Some(is_decided) = self.is_decided.get_mut(file.0 as usize) {
                    *is_decided = true;
                }
                let mut attempts = self.undecided.remove(file).unwrap_or_default();
                let tests = attempt.and_then(|attempt| attempts.remove(&attempt)).unwrap_or_default();
                if self.split_files.has(*file) {
                    self.part_decided(*file, verdict, *attempt, tests);
                } else if let Some(attempt) = *attempt {
                    self.decided_by(attempt, tests);
                }
            }
            RunEvent::RunFinished(summary) => self.push(Row::finished(summary)),
            _ => {}
        }
    }

    fn note_attempt(&mut self, now: Duration, report: &AttemptReport) {
        let started = self.started.remove(&report.attempt);
        if !self.is_whole(report.file) {
            return;
        }
        let row = AttemptRow {
            attempt: report.attempt,
            file: report.file,
            host: report.runner.host,
            runner: report.runner.number,
            result: report.result,
            started: started.unwrap_or_else(|| now.saturating_sub(report.duration)),
            duration: report.duration,
            usage: report.usage,
            finished: now,
        };
        if self.split_files.has(report.file) {
            self.split_files.attempt_finished(row);
        } else {
            self.push(Row::Attempt { attempt: row, deciding: None });
        }
    }

    fn part_decided(
        &mut self,
        file: FileId,
        verdict: &Verdict,
        attempt: Option<AttemptId>,
        tests: Vec<TestRow>,
    ) {
        if let Some((row, tests)) = self.split_files.decided(file, verdict, attempt, tests) {
            self.push(Row::Attempt { attempt: row, deciding: Some(tests) });
        }
    }

    /// An attempt decided its file: mostly one whose row is still to be written, and then one of the last.
    fn decided_by(&mut self, decider: AttemptId, decided: Vec<TestRow>) {
        let place = self.pending.iter_mut().rev().find_map(|row| match row {
            Row::Attempt { attempt, deciding } if attempt.attempt == decider => Some(deciding),
            _ => None,
        });
        match place {
            Some(deciding) => {
                self.pending_weight += decided.len();
                *deciding = Some(decided);
            }
            None => self.push(Row::Deciding { attempt: decider, tests: decided }),
        }
    }

    /// Whether this is a file of the run without a verdict.
    fn is_undecided(&self, file: FileId) -> bool {
        self.is_decided.get(file.0 as usize) == Some(&false)
    }

    /// Whether all tests of a file are run. How long some of them took says nothing about next time.
    fn is_whole(&self, file: FileId) -> bool {
        self.run.files.get(file.0 as usize).is_some_and(|file| file.tests.is_empty())
    }

    fn push(&mut self, row: Row) {
        self.pending_weight += row.weight();
        self.pending.push(row);
    }

    fn write(&mut self, patience: Duration) -> Result<(), HistoryError> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let written = history
            .connection
            .busy_timeout(patience)
            .and_then(|()| batch::write(&mut history.connection, &self.run, self.run_row, &self.pending));
        self.run_row = Some(written.map_err(|error| history.failed(error, Operation::Write))?);
        self.pending.clear();
        self.pending_weight = 0;
        Ok(())
    }
}
