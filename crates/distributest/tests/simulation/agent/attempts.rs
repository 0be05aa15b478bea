//! What an agent does with its attempts: they wait at their runners, run as the scenario says, and end.

use std::time::Duration;

use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::AttemptResult;
use distributest_core::usage::Usage;
use distributest_protocol::conversions::{finished_to_wire, microseconds, test_to_wire};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use tokio::time::Instant;

use super::{Action, Attempt, Runner, Session, failure, file_number, passed_test};
use crate::random::Random;
use crate::scenario::{Behaviour, Collects, Fault, FileScenario};
use crate::world::letter;

/// How long a file takes on a host that is broken.
const BROKEN_TAKES: Duration = Duration::from_millis(40);

impl Session {
    pub(super) fn dispatch(&mut self, order: &wire::Dispatch) {
        let file = file_number(order);
        let runner = u16::try_from(order.runner).expect("so many were not asked for");
        self.machine.world.lock().begin_attempt(order.attempt, file, self.number, runner);
        let state = usize::from(runner).checked_sub(1).and_then(|index| self.runners.get(index)).copied();
        match state {
            Some(Runner::Idle) => self.machine.world.lock().check_alone(order.attempt),
            Some(Runner::Busy(_)) => return self.queue(order, runner),
            // The order and the news of the failure crossed on their way.
            Some(Runner::Failed) => return self.interrupt(order.attempt, "the runner has failed"),
            other => {
                let host = self.machine.number;
                let what = format!("runner {runner} of host {host} is {other:?}");
                let what = format!("attempt {} was ordered while {what}", order.attempt);
                self.machine.world.lock().violation(what);
                return self.interrupt(order.attempt, "the runner is busy");
            }
        }
        self.begin(order, runner);
    }

    /// Puts an order behind those that a busy runner has.
    fn queue(&mut self, order: &wire::Dispatch, runner: u16) {
        let queue = &mut self.queues[usize::from(runner - 1)];
        queue.push_back(order.clone());
        let (waiting, limit) = (queue.len(), usize::from(self.machine.scenario.queue_limit));
        if waiting > limit {
            let mut world = self.machine.world.lock();
            world.violation(format!("{waiting} attempts wait at a runner that takes {limit}"));
        }
    }

    /// A runner is done with an attempt, and makes its next one.
    fn go_on(&mut self, runner: u16) {
        self.runners[usize::from(runner - 1)] = Runner::Idle;
        if let Some(next) = self.queues[usize::from(runner - 1)].pop_front() {
            self.machine.world.lock().check_alone(next.attempt);
            self.begin(&next, runner);
        }
    }

    fn begin(&mut self, order: &wire::Dispatch, runner: u16) {
        let file = file_number(order);
        if self.machine.scenario.unable.iter().any(|launch| u32::from(*launch) == order.launch) {
            self.say(Kind::LaunchUnavailable(wire::LaunchUnavailable {
                runner: runner.into(),
                launch: order.launch,
                failure: Some(failure("start worker")),
            }));
            self.interrupt(order.attempt, "the launch is unavailable");
            return self.go_on(runner);
        }
        self.ensure_worker(runner, order.launch);
        self.runners[usize::from(runner - 1)] = Runner::Busy(order.attempt);
        self.machine.world.lock().check_memory(order.attempt, self.attempts.keys().copied());
        let attempt = Attempt {
            file,
            launch: order.launch,
            runner,
            timeout: Duration::from_millis(order.timeout_milliseconds.into()),
            started: None,
            block: 0,
            output: 0,
            cancelled: false,
            lacks_memory: false,
        };
        self.attempts.insert(order.attempt, attempt);
        let waits = self.random.milliseconds(0..30);
        self.plan(waits, Action::Start(order.attempt));
    }

    /// Gives an attempt back that was not started.
    pub(super) fn interrupt(&mut self, attempt: u64, message: &str) {
        self.give_back(attempt, Interruption::RunnerLost, message);
    }

    fn give_back(&mut self, attempt: u64, interruption: Interruption, message: &str) {
        let result = AttemptResult::Interrupted(interruption);
        self.machine.world.lock().answer(attempt, result);
        self.say(Kind::AttemptFinished(wire::AttemptFinished {
            message: message.into(),
            ..finished_to_wire(attempt, result, Usage::default())
        }));
    }

    /// What the worker of a part says of the tests it has found.
    fn collected(&self, number: u64, file: usize, outcome: Option<Outcome>) -> String {
        let part = self.machine.world.lock().scenario.files[file].part;
        let has_loaded = matches!(outcome, Some(Outcome::Passed | Outcome::Failed));
        match part.filter(|_| has_loaded).map(|part| part.collects) {
            Some(Collects::TheSame) => "the same".into(),
            Some(Collects::Others) => number.to_string(),
            Some(Collects::Nothing) | None => String::new(),
        }
    }

    /// Whether the kernel kills an attempt that starts now, because there is not enough memory for it and those that run.
    fn lacks_memory(&self, number: u64) -> bool {
        let world = self.machine.world.lock();
        let runs = |id: &u64, attempt: &Attempt| *id == number || attempt.started.is_some();
        let running = self.attempts.iter().filter(|(id, attempt)| runs(id, attempt));
        let needed: u64 = running.map(|(_, attempt)| world.scenario.files[attempt.file].memory).sum();
        self.machine.scenario.memory.is_some_and(|memory| needed > memory)
    }

    fn is_broken(&self) -> Option<Outcome> {
        let now = self.machine.world.lock().now();
        let broken = self.machine.scenario.broken?;
        (broken.from <= now && now < broken.until).then_some(broken.outcome)
    }

    fn file(&self, attempt: &Attempt) -> FileScenario {
        self.machine.world.lock().scenario.files[attempt.file].clone()
    }

    pub(super) fn start(&mut self, number: u64) {
        let is_broken = self.is_broken().is_some();
        let lacks_memory = self.lacks_memory(number);
        let Some(attempt) = self.attempts.get(&number) else { return };
        let file = self.file(attempt);
        if file.behaviour == Behaviour::Gone {
            return self.finish(number, AttemptResult::Interrupted(Interruption::FileGone));
        }
        let takes = match file.behaviour {
            _ if is_broken || lacks_memory => BROKEN_TAKES,
            Behaviour::Hangs => attempt.timeout,
            _ => file.duration.min(attempt.timeout),
        };
        {
            let mut world = self.machine.world.lock();
            let expected = u32::from(world.scenario.files[attempt.file].launch);
            if attempt.launch != expected {
                world.violation(format!("attempt {number} came with launch {}", attempt.launch));
            }
            if let Some(record) = world.attempts.get_mut(&number) {
                record.has_started = true;
            }
        }
        self.blocks += 1;
        let block = self.blocks;
        let attempt = self.attempts.get_mut(&number).expect("it was looked at just now");
        attempt.block = block;
        attempt.started = Some(Instant::now());
        attempt.lacks_memory = lacks_memory;
        self.say(Kind::AttemptStarted(wire::AttemptStarted { attempt: number, block }));
        for part in 0..file.tests {
            self.plan(takes * (part as u32 + 1) / (file.tests as u32 + 1), Action::Test(number));
        }
        if file.output > 0 {
            self.plan(takes / 3, Action::Write(number, file.output / 2));
            self.plan(takes, Action::Write(number, file.output - file.output / 2));
        }
        self.plan(takes, Action::End(number));
    }

    pub(super) fn write(&mut self, number: u64, bytes: u64) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        attempt.output += bytes;
        let block = attempt.block;
        self.send_output(block, bytes, letter(number));
        if let Some(record) = self.machine.world.lock().attempts.get_mut(&number) {
            record.output += bytes;
        }
    }

    pub(super) fn test(&mut self, number: u64) {
        if !self.attempts.contains_key(&number) {
            return;
        }
        let mut world = self.machine.world.lock();
        let Some(record) = world.attempts.get_mut(&number) else { return };
        record.tests += 1;
        let test = passed_test(format!("{number}:{}", record.tests));
        drop(world);
        self.say(Kind::TestFinished(test_to_wire(number, test)));
    }

    pub(super) fn end(&mut self, number: u64) {
        let Some(attempt) = self.attempts.get(&number) else { return };
        let file = self.file(attempt);
        let (host, index, runner) = (self.machine.number, attempt.file, attempt.runner);
        let seed = self.machine.world.lock().scenario.seed;
        let lacks_memory = attempt.lacks_memory;
        let outcome = match (self.is_broken(), file.behaviour) {
            _ if lacks_memory => Outcome::Crashed,
            (Some(outcome), _) => outcome,
            (None, Behaviour::KillsAgent) => return self.machine.befall(Fault::AgentCrash),
            (None, Behaviour::KillsRunner) => {
                self.finish_and(number, AttemptResult::Interrupted(Interruption::RunnerLost), false);
                return self.fail_runner(runner, Some(failure("carry on")));
            }
            (None, Behaviour::Gone) => unreachable!("it was not started"),
            (None, Behaviour::Hangs) => Outcome::TimedOut,
            (None, Behaviour::Answers(outcome)) => outcome,
            (None, Behaviour::On(there, outcome)) if there == host => outcome,
            (None, Behaviour::On(..)) => Outcome::Passed,
            (None, Behaviour::Flaky(percent)) => {
                let fails = Random::of(seed, &[2, index as u64, number]).percent(percent);
                if fails { Outcome::Failed } else { Outcome::Passed }
            }
        };
        self.finish(number, AttemptResult::Outcome(outcome));
    }

    pub(super) fn cancel(&mut self, cancel: wire::Cancel) {
        let number = cancel.attempt;
        for queue in &mut self.queues {
            if let Some(place) = queue.iter().position(|order| order.attempt == number) {
                queue.remove(place);
                return self.give_back(number, Interruption::Cancelled, "cancelled");
            }
        }
        let Some(attempt) = self.attempts.get_mut(&number).filter(|_| !cancel.unless_begun) else { return };
        if std::mem::replace(&mut attempt.cancelled, true) {
            return;
        }
        let file = attempt.file;
        let obedient = self.machine.world.lock().scenario.files[file].obedient;
        let takes = if obedient { 0..100 } else { 100..6_000 };
        let takes = self.random.milliseconds(takes);
        self.plan(takes, Action::Cancelled(number));
    }

    pub(super) fn cancelled(&mut self, number: u64) {
        if self.attempts.contains_key(&number) {
            self.finish(number, AttemptResult::Interrupted(Interruption::Cancelled));
        }
    }

    /// An attempt is over and its runner idle again.
    fn finish(&mut self, number: u64, result: AttemptResult) {
        self.finish_and(number, result, true);
    }

    fn finish_and(&mut self, number: u64, result: AttemptResult, goes_on: bool) {
        let Some(attempt) = self.attempts.remove(&number) else { return };
        let outcome = match result {
            AttemptResult::Outcome(outcome) => Some(outcome),
            AttemptResult::Interrupted(_) => None,
        };
        let out_of_memory = attempt.lacks_memory && outcome == Some(Outcome::Crashed);
        let collected = self.collected(number, attempt.file, outcome);
        {
            let mut world = self.machine.world.lock();
            if out_of_memory {
                world.out_of_memory(number);
            }
            world.answer(number, result);
        }
        let block =
            attempt.started.map(|_| wire::OutputBlock { number: attempt.block, bytes: attempt.output });
        let duration = attempt.started.map(|started| started.elapsed()).unwrap_or_default();
        let finished = wire::AttemptFinished {
            duration_microseconds: microseconds(duration),
            block,
            out_of_memory,
            collected,
            ..finished_to_wire(number, result, Usage::default())
        };
        self.say(Kind::AttemptFinished(finished.clone()));
        if self.machine.scenario.babbles && self.random.percent(20) {
            self.say(Kind::AttemptFinished(finished));
            self.say(Kind::AttemptStarted(wire::AttemptStarted { attempt: number + 1_000_000, block: 0 }));
        }
        if goes_on {
            self.go_on(attempt.runner);
        }
    }
}
