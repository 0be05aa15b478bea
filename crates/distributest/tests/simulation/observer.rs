//! Watches everything the coordinator says, and checks after every event that it is true and that no promise is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, BlockId, EarlierPass, HostChange, RunEvent, RunSummary,
};
use distributest_core::scheduler::INTERRUPTION_LIMIT;
use distributest_core::test_result::TestStatus;
use distributest_report::{ReportError, Reporter};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::scenario::{Behaviour, Collects, SlowLog};
use crate::world::{SharedWorld, World, letter};

/// The observer of one run.
pub(crate) struct Observer {
    world: SharedWorld,
    has_begun: bool,
    has_finished: bool,
    stop_requested: bool,
    connected: BTreeSet<HostId>,
    /// A host was never connected to, or failed before the last verdict.
    is_host_missing: bool,
    /// By file.
    verdicts: Vec<Option<Verdict>>,
    attempts: BTreeMap<AttemptId, Attempt>,
    blocks: BTreeMap<BlockId, Block>,
    /// How often each file was told to be interrupted.
    interruptions: BTreeMap<FileId, usize>,
    /// Tests of the attempts that decided, and of the passes that stood for some.
    tests: u64,
    /// A file that was said to have passed before: its verdict is next.
    cached: Option<FileId>,
    /// The first parts of files whose parts all find other tests, where one has passed.
    passed_parts: BTreeSet<usize>,
    events: u64,
    slow_log: Option<SlowLog>,
    /// Until when the log's disk is busy.
    stalled_until: watch::Sender<Instant>,
}

/// An attempt as it was told of.
#[derive(Debug, Default)]
struct Attempt {
    place: Option<(FileId, RunnerId)>,
    tests: u64,
    result: Option<AttemptResult>,
    decides: bool,
}

#[derive(Debug, Default)]
struct Block {
    bytes: u64,
    /// What its bytes are.
    letter: Option<u8>,
    is_mixed: bool,
    is_closed: bool,
}

impl Reporter for Observer {
    fn on_event(&mut self, _now: Duration, event: &RunEvent) -> Result<(), ReportError> {
        let world = self.world.clone();
        let mut world = world.lock();
        world.trace(|| match event {
            RunEvent::Output { block, stream, bytes } => {
                format!("says Output {block:?} {stream:?} {} bytes", bytes.len())
            }
            other => format!("says {other:?}"),
        });
        match event {
            RunEvent::HostChanged { change: HostChange::Fenced { .. }, .. } => world.fences += 1,
            RunEvent::HostChanged { host, change: HostChange::Silent(_) } => world.doubt(host.0 as usize),
            RunEvent::HostChanged { host, change: HostChange::Reserved { .. } } => {
                world.reserve(host.0 as usize);
            }
            RunEvent::HostChanged { host, change: HostChange::Released } => {
                world.reserved.remove(&(host.0 as usize));
            }
            RunEvent::HostChanged { host, change: HostChange::Heard | HostChange::Away(_) }
            | RunEvent::HostFailed { host, .. } => _ = world.silent.remove(&(host.0 as usize)),
            RunEvent::AttemptDoubled { file, .. } => *world.doubled.entry(file.0 as usize).or_default() += 1,
            RunEvent::FileVerdict { file, .. } => _ = world.decided.insert(file.0 as usize),
            RunEvent::AttemptFinished(report) => match world.attempts.get_mut(&report.attempt.0) {
                Some(attempt) => attempt.told = Some(report.result),
                None => _ = world.told_before.insert(report.attempt.0, report.result),
            },
            _ => {}
        }
        for broken in self.check(&world, event) {
            world.violation(broken);
        }
        if let Some(word) = counted(event) {
            world.count(word);
        }
        drop(world);
        self.stall();
        Ok(())
    }
}

impl Observer {
    /// The observer of a run in this world; it tells until when the log's disk keeps the coordinator waiting.
    pub(crate) fn new(world: SharedWorld, stalled_until: watch::Sender<Instant>) -> Observer {
        let slow_log = world.lock().scenario.slow_log;
        Observer {
            world,
            has_begun: false,
            has_finished: false,
            stop_requested: false,
            connected: BTreeSet::new(),
            is_host_missing: false,
            verdicts: Vec::new(),
            attempts: BTreeMap::new(),
            blocks: BTreeMap::new(),
            interruptions: BTreeMap::new(),
            tests: 0,
            cached: None,
            passed_parts: BTreeSet::new(),
            events: 0,
            slow_log,
            stalled_until,
        }
    }

    fn stall(&mut self) {
        self.events += 1;
        if let Some(slow) = &mut self.slow_log
            && slow.times > 0
            && self.events.is_multiple_of(slow.every)
        {
            slow.times -= 1;
            self.stalled_until.send_replace(Instant::now() + slow.stall);
        }
    }

    /// The rules that this event breaks.
    fn check(&mut self, world: &World, event: &RunEvent) -> Vec<String> {
        let mut broken = Vec::new();
        let is_first = matches!(event, RunEvent::RunStarted { .. });
        if is_first == self.has_begun {
            broken.push(format!("the run's start is not its first event, but {event:?}"));
        }
        if let Some(file) = self.cached.take()
            && !matches!(event, RunEvent::FileVerdict { file: decided, verdict: Verdict::Cached, .. } if *decided == file)
        {
            broken.push(format!("{file:?} is said to have passed before, and {event:?} follows"));
        }
        if self.has_finished {
            broken.push(format!("the run's end is not its last event, but {event:?}"));
        }
        match event {
            RunEvent::RunStarted { files, .. } => {
                self.has_begun = true;
                self.verdicts = vec![None; files.len()];
            }
            RunEvent::AttemptStarted { attempt, file, runner } => {
                broken.extend(self.attempt_started(world, *attempt, *file, *runner));
            }
            RunEvent::TestFinished { attempt, file, .. } => {
                broken.extend(self.test_finished(*attempt, *file));
            }
            RunEvent::AttemptFinished(report) => broken.extend(self.attempt_finished(world, report)),
            RunEvent::Output { block, bytes, .. } => broken.extend(self.output(*block, bytes)),
            RunEvent::HookFinished { block, .. }
            | RunEvent::WorkerPrepared { block, .. }
            | RunEvent::WorkerEnded { block, .. } => {
                self.blocks.entry(*block).or_default().is_closed = true;
            }
            RunEvent::FileVerdict { file, verdict, attempt, failed_before } => {
                broken.extend(self.file_verdict(*file, verdict));
                broken.extend(self.reasons_of_verdict(world, *file, verdict, *attempt, failed_before));
            }
            RunEvent::FileCached { file, pass } => broken.extend(self.file_cached(world, *file, pass)),
            RunEvent::StopRequested => self.stop_requested = true,
            RunEvent::HostConnected { host, .. } => _ = self.connected.insert(*host),
            RunEvent::HostFailed { host, .. } => {
                self.is_host_missing |= !self.connected.contains(host) || self.verdicts.contains(&None);
            }
            RunEvent::RunFinished(summary) => {
                self.has_finished = true;
                broken.extend(self.run_finished(world, summary));
            }
            RunEvent::RunResumed(_)
            | RunEvent::HostProgress { .. }
            | RunEvent::HostSynced { .. }
            | RunEvent::HostChanged { .. }
            | RunEvent::AttemptDoubled { .. }
            | RunEvent::RunnerReady { .. }
            | RunEvent::LaunchUnavailable { .. }
            | RunEvent::RunnerFailed { .. }
            | RunEvent::Warning { .. } => {}
        }
        broken
    }

    fn attempt_started(
        &mut self,
        world: &World,
        id: AttemptId,
        file: FileId,
        runner: RunnerId,
    ) -> Vec<String> {
        let mut broken = Vec::new();
        match world.attempts.get(&id.0) {
            Some(real) if real.has_started => {
                let host = world.sessions[real.session].host;
                let is_same = (real.file, host, real.runner)
                    == (file.0 as usize, runner.host.0 as usize, runner.number);
                if !is_same {
                    broken.push(format!("attempt {id} is said to be of {file:?} on {runner:?}, and is not"));
                }
            }
            _ => broken.push(format!("attempt {id} is said to have started, and has not")),
        }
        let started =
            self.attempts.values().filter(|attempt| attempt.place.is_some_and(|(of, _)| of == file));
        let most = world.tries_of(file.0 as usize);
        // A file that is decided may still be asked of a host that failed it.
        if started.count() >= most && !world.decided.contains(&(file.0 as usize)) {
            broken.push(format!("{file:?} is run more than {most} times"));
        }
        let attempt = self.attempts.entry(id).or_default();
        if attempt.place.replace((file, runner)).is_some() {
            broken.push(format!("attempt {id} starts twice"));
        }
        if attempt.result.is_some() {
            broken.push(format!("attempt {id} starts after its end"));
        }
        broken
    }

    fn test_finished(&mut self, id: AttemptId, file: FileId) -> Option<String> {
        let attempt = self.attempts.entry(id).or_default();
        attempt.tests += 1;
        match (&attempt.place, attempt.result, attempt.decides) {
            (Some((started, _)), None, false) if *started == file => None,
            _ => Some(format!("a test of attempt {id} of {file:?} comes out of its place")),
        }
    }

    fn output(&mut self, id: BlockId, bytes: &[u8]) -> Option<String> {
        let block = self.blocks.entry(id).or_default();
        block.bytes += bytes.len() as u64;
        let letter = *block.letter.get_or_insert(bytes.first().copied().unwrap_or_default());
        block.is_mixed |= bytes != vec![letter; bytes.len()];
        block.is_closed.then(|| format!("output comes after its block {id:?} was closed"))
    }

    fn attempt_finished(&mut self, world: &World, report: &AttemptReport) -> Vec<String> {
        let mut broken = Vec::new();
        let id = report.attempt;
        broken.extend(self.part_finished(world, report));
        let attempt = self.attempts.entry(id).or_default();
        if attempt.result.replace(report.result).is_some() {
            broken.push(format!("attempt {id} ends twice"));
        }
        if matches!(report.result, AttemptResult::Interrupted(_)) {
            *self.interruptions.entry(report.file).or_default() += 1;
        }
        let place = (report.file, report.runner);
        if attempt.place.is_some_and(|started| started != place) {
            broken.push(format!("attempt {id} ends at {place:?}, and started at {:?}", attempt.place));
        }
        let Some(real) = world.attempts.get(&id.0) else {
            if !matches!(
                report.result,
                AttemptResult::Interrupted(Interruption::HostLost | Interruption::Cancelled)
            ) {
                broken.push(format!("attempt {id} was never seen, and ends with {:?}", report.result));
            }
            return broken;
        };
        let is_lost = report.result == AttemptResult::Interrupted(Interruption::HostLost);
        // Two requests to stop, or one that a host does not follow in time, end the run as it is.
        // Another attempt was first, or the attempt is a question to a host that failed a decided file.
        let is_superseded = world.is_doubted(real.file) || world.decided.contains(&real.file);
        let is_abandoned = (self.stop_requested || world.scenario.require_hosts || is_superseded)
            && report.result == AttemptResult::Interrupted(Interruption::Cancelled);
        if is_lost && !world.may_be_lost(real.session) && !world.sessions[real.session].is_over {
            broken.push(format!("attempt {id} is lost with its host, which is well"));
        }
        let is_true = match objections(world, report.file, real.answer) {
            Some(objections) => objections.contains(&report.result),
            None => real.answer == Some(report.result),
        };
        if !is_lost && !is_abandoned && !is_true {
            let answer = real.answer;
            broken.push(format!("attempt {id} ends with {:?}, and its agent said {answer:?}", report.result));
        }
        if let Some(block) = report.block {
            let block = self.blocks.entry(block).or_default();
            block.is_closed = true;
            let is_whole = block.bytes == real.output && attempt.tests == real.tests;
            if !is_lost && !is_whole && !world.may_be_lost(real.session) && !self.stop_requested {
                broken.push(format!(
                    "attempt {id} ends with {} of {} bytes and {} of {} tests",
                    block.bytes, real.output, attempt.tests, real.tests
                ));
            }
            if block.bytes > 0 && (block.is_mixed || block.letter != Some(letter(id.0))) {
                broken.push(format!("the output of attempt {id} is not its own"));
            }
        }
        broken
    }

    fn file_verdict(&mut self, file: FileId, verdict: &Verdict) -> Option<String> {
        let Some(slot) = self.verdicts.get_mut(file.0 as usize) else {
            return Some(format!("there is a verdict on {file:?}, which is not of the run"));
        };
        let before = slot.replace(verdict.clone());
        before.map(|before| format!("{file:?} is {before:?}, and then {verdict:?}"))
    }

    /// A verdict is what the attempts said that it names.
    fn reasons_of_verdict(
        &mut self,
        world: &World,
        file: FileId,
        verdict: &Verdict,
        attempt: Option<AttemptId>,
        failed_before: &[AttemptId],
    ) -> Vec<String> {
        let mut broken = Vec::new();
        // What was told of attempts was compared with what really came of them.
        let answer_of = |id: AttemptId| {
            let is_of_file = world.attempts.get(&id.0).is_some_and(|real| real.file == file.0 as usize);
            match self.attempts.get(&id).filter(|_| is_of_file).and_then(|told| told.result) {
                Some(AttemptResult::Outcome(outcome)) => Some(outcome),
                _ => None,
            }
        };
        let expected = match verdict {
            Verdict::Ran(outcome) => Some(*outcome),
            Verdict::Flaky => Some(Outcome::Passed),
            Verdict::Cached | Verdict::NotRun(_) => None,
        };
        if attempt.is_some() != expected.is_some() || attempt.and_then(answer_of) != expected {
            let answer = attempt.and_then(answer_of);
            broken.push(format!("{file:?} is {verdict:?} by {attempt:?}, which said {answer:?}"));
        }
        for id in failed_before.iter().chain(&attempt) {
            if self.attempts.get(id).is_none_or(|attempt| attempt.result.is_none()) {
                broken.push(format!("the verdict on {file:?} comes before the end of attempt {id}"));
            }
        }
        for id in failed_before {
            if answer_of(*id).is_none_or(Outcome::is_success) {
                broken.push(format!("attempt {id} is said to have failed before, and has not"));
            }
        }
        if (*verdict == Verdict::Flaky) == failed_before.is_empty() && expected == Some(Outcome::Passed) {
            broken.push(format!("{file:?} is {verdict:?} after the failed {failed_before:?}"));
        }
        if let Verdict::NotRun(reason) = verdict {
            broken.extend(self.reason_not_run(world, file, reason));
        }
        if let Some(id) = attempt {
            let attempt = self.attempts.entry(id).or_default();
            attempt.decides = true;
            self.tests += attempt.tests;
        }
        broken
    }

    /// An earlier pass stands for a file.
    fn file_cached(&mut self, world: &World, file: FileId, pass: &EarlierPass) -> Vec<String> {
        let mut broken = Vec::new();
        self.cached = Some(file);
        self.tests += pass.tests.len() as u64;
        let scenario = &world.scenario.files[file.0 as usize];
        let passed_with = scenario.passed_with.iter().find(|versions| **versions == pass.run);
        if passed_with.is_none_or(|versions| !world.said.contains(&(scenario.launch.into(), versions))) {
            broken.push(format!("{file:?} is cached by {:?}, which no worker has said", pass.run));
        }
        if world.attempts.values().any(|attempt| attempt.file == file.0 as usize) {
            broken.push(format!("{file:?} is cached, and was run"));
        }
        broken
    }

    /// Of a file whose parts all find other tests, one part passes at most: the first, with which the others are compared.
    fn part_finished(&mut self, world: &World, report: &AttemptReport) -> Option<String> {
        let part = world.scenario.files[report.file.0 as usize].part?;
        let has_passed = report.result == AttemptResult::Outcome(Outcome::Passed);
        let is_second =
            part.collects == Collects::Others && has_passed && !self.passed_parts.insert(part.first);
        is_second.then(|| format!("attempt {} passes with other tests than another part", report.attempt))
    }

    /// The verdicts with those of a file's parts as one, which is the worst of them.
    fn verdicts_of_whole_files(&self, world: &World) -> Vec<Verdict> {
        let mut files: BTreeMap<usize, &Verdict> = BTreeMap::new();
        for (place, verdict) in self.verdicts.iter().enumerate() {
            let Some(verdict) = verdict else { continue };
            let file = world.scenario.files[place].part.map_or(place, |part| part.first);
            let worst = files.entry(file).or_insert(verdict);
            if gravity(verdict) > gravity(worst) {
                *worst = verdict;
            }
        }
        files.into_values().cloned().collect()
    }

    /// A file is not run for a reason.
    fn reason_not_run(&self, world: &World, file: FileId, reason: &NotRunReason) -> Option<String> {
        let scenario = &world.scenario;
        let is_true = match reason {
            NotRunReason::UnusableName => false,
            NotRunReason::FileGone(_) => scenario.files[file.0 as usize].behaviour == Behaviour::Gone,
            NotRunReason::Stopped => self.stop_requested || scenario.require_hosts,
            NotRunReason::FailedFast => scenario.fail_fast.is_some(),
            NotRunReason::TooManyInterruptions(_) => {
                self.interruptions.get(&file).is_some_and(|times| *times >= usize::from(INTERRUPTION_LIMIT))
            }
            NotRunReason::NoRunnerLeft(_) | NotRunReason::NoRunnerAble(_) => {
                let launch = scenario.files[file.0 as usize].launch;
                !scenario.hosts.iter().any(|host| host.is_well_for(launch)) || scenario.has_killers()
            }
        };
        (!is_true).then(|| format!("{file:?} is not run, without a reason to be {reason:?}"))
    }

    fn run_finished(&self, world: &World, summary: &RunSummary) -> Vec<String> {
        let mut broken = Vec::new();
        let undecided = self.verdicts.iter().filter(|verdict| verdict.is_none()).count();
        if undecided > 0 {
            broken.push(format!("the run ends with {undecided} files undecided"));
        }
        let verdicts = self.verdicts_of_whole_files(world);
        let count = |wanted: &Verdict| verdicts.iter().filter(|verdict| *verdict == wanted).count() as u32;
        let outcomes = Outcome::ALL.map(|outcome| count(&Verdict::Ran(outcome)));
        let (flaky, cached) = (count(&Verdict::Flaky), count(&Verdict::Cached));
        let not_run = verdicts.len() as u32 - outcomes.iter().sum::<u32>() - flaky - cached;
        let told = (summary.files as usize, summary.outcomes, summary.flaky, summary.cached, summary.not_run);
        if told != (verdicts.len(), outcomes, flaky, cached, not_run) {
            let sum = format!("{outcomes:?}, {flaky}, {cached}, {not_run}");
            broken.push(format!("the sum {told:?} is not that of {sum}"));
        }
        let tests: u64 = summary.tests.iter().sum();
        let passed = summary.tests
            [TestStatus::ALL.iter().position(|status| *status == TestStatus::Passed).unwrap_or(0)];
        if tests != self.tests || passed != tests {
            broken.push(format!("the sum of tests is {tests}, and that of the verdicts {}", self.tests));
        }
        let expected = self.exit_status(world, &outcomes, flaky, not_run);
        if !expected.contains(&summary.exit_status) {
            broken.push(format!("the exit status is {}, not of {expected:?}", summary.exit_status));
        }
        for (id, attempt) in &self.attempts {
            if attempt.result.is_none() {
                broken.push(format!("attempt {id} started and never ended"));
            }
        }
        for (id, attempt) in &world.attempts {
            // What waits at a runner and is lost or taken back before anybody heard that it started is nobody's concern.
            let takes_in_advance = world.scenario.hosts[world.sessions[attempt.session].host].queue_limit > 0;
            let is_unheard =
                !attempt.has_started || world.may_be_lost(attempt.session) || self.stop_requested;
            let may_be_untold = takes_in_advance && is_unheard;
            if !may_be_untold && !self.attempts.contains_key(&AttemptId(*id)) {
                broken.push(format!("attempt {id} reached its host, and nobody was told"));
            }
        }
        broken
    }

    /// The exit statuses that the verdicts allow.
    fn exit_status(&self, world: &World, outcomes: &[u32; 5], flaky: u32, not_run: u32) -> Vec<u8> {
        let failed: u32 = outcomes[1..].iter().sum();
        if self.stop_requested {
            vec![130]
        } else if self.verdicts.is_empty() {
            vec![4]
        } else if failed > 0 || (flaky > 0 && world.scenario.flaky_fails) {
            vec![1]
        } else if not_run > 0 {
            vec![3]
        } else if self.tests == 0 {
            vec![4]
        } else if world.scenario.require_hosts && self.is_host_missing {
            vec![3]
        } else {
            vec![0]
        }
    }
}

/// What may be told of an attempt whose answer need not stand, because it is at a part of a file and the parts have not found
/// the same tests.
fn objections(world: &World, file: FileId, answer: Option<AttemptResult>) -> Option<Vec<AttemptResult>> {
    let part = world.scenario.files[file.0 as usize].part?;
    let [passed, failed] = [Outcome::Passed, Outcome::Failed].map(AttemptResult::Outcome);
    match part.collects {
        _ if answer != Some(passed) => None,
        Collects::TheSame => None,
        Collects::Others => Some(vec![passed, failed]),
        Collects::Nothing => Some(vec![failed]),
    }
}

/// Where a file's parts fare differently, what is worse for whoever waits for it.
fn gravity(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Cached | Verdict::Ran(Outcome::Passed) => 0,
        Verdict::Flaky => 1,
        Verdict::NotRun(_) => 2,
        Verdict::Ran(Outcome::Failed) => 3,
        Verdict::Ran(Outcome::Broken) => 4,
        Verdict::Ran(Outcome::TimedOut) => 5,
        Verdict::Ran(Outcome::Crashed) => 6,
    }
}

/// The word an event is counted by.
fn counted(event: &RunEvent) -> Option<&'static str> {
    Some(match event {
        RunEvent::FileVerdict { verdict, .. } => match verdict {
            Verdict::Ran(Outcome::Passed) => "files passed",
            Verdict::Ran(_) => "files failed",
            Verdict::Flaky => "files flaky",
            Verdict::Cached => "files cached",
            Verdict::NotRun(_) => "files not run",
        },
        RunEvent::AttemptFinished(AttemptReport { result: AttemptResult::Interrupted(_), .. }) => {
            "attempts interrupted"
        }
        RunEvent::HostFailed { .. } => "hosts lost",
        RunEvent::StopRequested => "stops",
        RunEvent::AttemptDoubled { .. } => "attempts doubled",
        _ => return None,
    })
}
