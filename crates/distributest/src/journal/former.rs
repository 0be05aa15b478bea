//! What a former run has finished of a plan, and how that becomes part of the run that continues it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, FilePlan, FormerRun, HostPlan, RunEvent};
use distributest_core::usage::Usage;

use super::identity::FileIdentity;
use super::record::{Begun, Contents, FinishedAttempt, FinishedFile};
use crate::hosts::HostSpec;
use crate::plan::{PlannedFile, RunPlan};

/// The part of a plan that a former run has finished.
pub struct FinishedPart {
    former: FormerRun,
    files: Vec<(PlannedFile, FinishedFile)>,
}

/// Moves what a former run has finished, and what is still the same, out of a plan's files. `identities` are those of all
/// its files; returns those of the ones that are left.
pub(super) fn set_aside(
    plan: &mut RunPlan,
    identities: Vec<FileIdentity>,
    former: &mut Contents,
    now: SystemTime,
) -> Vec<FileIdentity> {
    let mut left = Vec::new();
    let mut files = Vec::new();
    let mut changed = 0;
    for (file, identity) in std::mem::take(&mut plan.files).into_iter().zip(identities) {
        match former.finished.remove(&identity.place()) {
            Some(finished) if finished.identity == identity => files.push((file, finished)),
            outdated => {
                changed += u32::from(outdated.is_some());
                plan.files.push(file);
                left.push(identity);
            }
        }
    }
    let failed = files.iter().filter(|(_, finished)| !is_fine(&finished.verdict)).count();
    let former = FormerRun {
        run: former.begun.run.clone(),
        age: age(&former.begun, now),
        finished: count(files.len()),
        failed: count(failed),
        changed,
        left: count(left.len()),
        logs: former.logs.clone(),
    };
    plan.finished = Some(FinishedPart { former, files });
    left
}

fn is_fine(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Flaky | Verdict::Ran(Outcome::Passed))
}

fn age(begun: &Begun, now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH + Duration::from_millis(begun.at_unix_ms)).unwrap_or_default()
}

/// Files are numbered in 32 bits.
fn count(files: usize) -> u32 {
    u32::try_from(files).unwrap_or(u32::MAX)
}

impl FinishedPart {
    /// How many files it has.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Its files, as the first event of the run announces them.
    pub fn file_plans(&self) -> impl Iterator<Item = FilePlan> {
        self.files.iter().map(|(file, _)| file.announced())
    }

    /// The hosts that ran some of its files and that take no part in the run.
    pub fn other_hosts(&self, hosts: &[HostSpec]) -> Vec<HostPlan> {
        let mut others: Vec<HostPlan> = Vec::new();
        for FinishedAttempt { host, .. } in self.files.iter().flat_map(|(_, finished)| finished.attempts()) {
            let known = hosts.iter().any(|known| known.name == *host)
                || others.iter().any(|known| known.name == *host);
            if !known {
                others.push(HostPlan { name: host.clone(), runners: Some(0) });
            }
        }
        others
    }

    /// What the run is told about them, right after its start: `first` is the id of the first of the files, `hosts` are all
    /// that the start announced.
    pub fn events(&self, first: FileId, hosts: &[HostPlan]) -> Vec<RunEvent> {
        let mut events = vec![RunEvent::RunResumed(self.former.clone())];
        let mut attempts = (0..).map(AttemptId::of_former_run);
        for (file, (_, finished)) in (first.0..).map(FileId).zip(&self.files) {
            let mut tell = |attempt: &FinishedAttempt| {
                let id = attempts.next()?;
                attempt.tell(id, file, hosts, &mut events);
                Some(id)
            };
            let failed_before = finished.failed_before.iter().filter_map(&mut tell).collect();
            let attempt = finished.deciding.as_ref().and_then(tell);
            let verdict = finished.verdict.clone();
            events.push(RunEvent::FileVerdict { file, verdict, attempt, failed_before });
        }
        events
    }
}

impl FinishedFile {
    /// Its attempts, in their order.
    fn attempts(&self) -> impl Iterator<Item = &FinishedAttempt> {
        self.failed_before.iter().chain(&self.deciding)
    }
}

impl FinishedAttempt {
    fn tell(&self, attempt: AttemptId, file: FileId, hosts: &[HostPlan], events: &mut Vec<RunEvent>) {
        let tests = self.tests.iter().cloned();
        events.extend(tests.map(|test| RunEvent::TestFinished { attempt, file, test: test.into() }));
        let host = hosts.iter().position(|host| host.name == self.host).unwrap_or(usize::MAX);
        events.push(RunEvent::AttemptFinished(AttemptReport {
            attempt,
            file,
            runner: RunnerId { host: HostId(count(host)), number: self.runner },
            result: AttemptResult::Outcome(self.outcome),
            duration: self.duration,
            usage: Usage { processor: self.processor, peak_memory: self.peak_memory },
            message: self.message.clone(),
            details: self.details.clone(),
            leaked: self.leaked.clone(),
            block: None,
        }));
    }
}
