//! An agent that runs nothing: it speaks the real protocol through the real server, and does what the scenario says.
//!
//! A session is one loop over the coordinator's orders, the lease, and a timeline of what is to happen next. When it
//! ends, or is aborted by a fault, everything it ran is gone, as it would be on a real host.

mod attempts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use distributest_core::test_result::{TestResult, TestStatus};
use distributest_protocol::gathering::Haste;
use distributest_protocol::server::{self, CoordinatorConnection};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::machine::Machine;
use crate::network::Plug;
use crate::random::Random;
use crate::scenario::{Greeting, Preparation};

/// The largest piece of output.
const CHUNK_LIMIT: u64 = 64 * 1024;

/// How long a coordinator may take to take the last words.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Serves one connection to its end.
pub(crate) async fn serve(machine: Arc<Machine>, number: usize, plug: Plug) {
    let _ends_with_this = SessionEnd { machine: machine.clone(), number };
    let (CoordinatorConnection { mut orders, updates, output }, served) = server::accept(plug);
    let Some(hello) = hello(&mut orders).await else { return };
    let (update_queue, queued_updates) = mpsc::unbounded_channel();
    let (output_queue, queued_output) = mpsc::unbounded_channel();
    tokio::spawn(forward(queued_updates, updates, with_haste));
    tokio::spawn(forward(queued_output, output, |chunk| chunk));
    let mut session = Session::new(machine, number, &hello, update_queue, output_queue);
    session.drive(&mut orders).await;
    drop((session, orders));
    served.close(CLOSE_LIMIT).await;
}

/// Tells the world that a session is over, however it ends.
struct SessionEnd {
    machine: Arc<Machine>,
    number: usize,
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        self.machine.world.lock().end_session(self.number);
    }
}

async fn hello(orders: &mut mpsc::Receiver<wire::CoordinatorMessage>) -> Option<wire::Hello> {
    match orders.recv().await?.kind? {
        Order::Hello(hello) => Some(hello),
        _ => None,
    }
}

async fn forward<Queued, Sent>(
    mut queue: mpsc::UnboundedReceiver<Queued>,
    wire: mpsc::Sender<Sent>,
    packed: impl Fn(Queued) -> Sent,
) {
    while let Some(message) = queue.recv().await {
        if wire.send(packed(message)).await.is_err() {
            return;
        }
    }
}

/// What an agent says of a test or a start can wait; its ends have more haste here than where many files wait.
fn with_haste(message: wire::AgentMessage) -> (wire::AgentMessage, Haste) {
    let can_wait = matches!(message.kind, Some(Kind::TestFinished(_) | Kind::AttemptStarted(_)));
    (message, if can_wait { Haste::Soon } else { Haste::AtOnce })
}

/// What is to happen next.
#[derive(Clone, Copy, Debug)]
enum Action {
    Greet,
    Beat,
    NodeReady,
    RunnerReady(u16),
    Start(u64),
    Write(u64, u64),
    Test(u64),
    End(u64),
    Cancelled(u64),
    Leave,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    GoOn,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Runner {
    Preparing,
    Idle,
    Busy(u64),
    Failed,
}

/// A live attempt.
#[derive(Debug)]
struct Attempt {
    file: usize,
    launch: u32,
    runner: u16,
    timeout: Duration,
    started: Option<Instant>,
    block: u64,
    output: u64,
    cancelled: bool,
    lacks_memory: bool,
}

struct Session {
    machine: Arc<Machine>,
    number: usize,
    random: Random,
    lease: Duration,
    heartbeat: Duration,
    heard: Instant,
    /// By time and the order of planning.
    timeline: BTreeMap<(Instant, u64), Action>,
    planned: u64,
    updates: mpsc::UnboundedSender<wire::AgentMessage>,
    output: mpsc::UnboundedSender<wire::OutputChunk>,
    runners: Vec<Runner>,
    attempts: BTreeMap<u64, Attempt>,
    /// What waits at each runner.
    queues: Vec<VecDeque<wire::Dispatch>>,
    /// Launches whose workers each runner has started.
    workers: Vec<BTreeSet<u32>>,
    blocks: u64,
}

impl Session {
    fn new(
        machine: Arc<Machine>,
        number: usize,
        hello: &wire::Hello,
        updates: mpsc::UnboundedSender<wire::AgentMessage>,
        output: mpsc::UnboundedSender<wire::OutputChunk>,
    ) -> Session {
        let seed = machine.world.lock().scenario.seed;
        let random = Random::of(seed, &[1, machine.number as u64, number as u64]);
        Session {
            machine,
            number,
            random,
            lease: Duration::from_millis(hello.lease_milliseconds.into()),
            heartbeat: Duration::from_millis(hello.heartbeat_milliseconds.into()),
            heard: Instant::now(),
            timeline: BTreeMap::new(),
            planned: 0,
            updates,
            output,
            runners: Vec::new(),
            attempts: BTreeMap::new(),
            queues: Vec::new(),
            workers: Vec::new(),
            blocks: 0,
        }
    }

    fn plan(&mut self, after: Duration, action: Action) {
        self.planned += 1;
        self.timeline.insert((Instant::now() + after, self.planned), action);
    }

    fn say(&self, kind: Kind) {
        // Nobody listens once the connection is gone; the loop is about to notice.
        let _ = self.updates.send(wire::AgentMessage { kind: Some(kind) });
    }

    async fn drive(&mut self, orders: &mut mpsc::Receiver<wire::CoordinatorMessage>) {
        self.plan(Duration::ZERO, Action::Beat);
        if let Greeting::Welcomes(after) = self.machine.scenario.greeting {
            self.plan(after, Action::Greet);
        } else {
            self.plan(Duration::ZERO, Action::Greet);
        }
        loop {
            let due = self.timeline.first_key_value().map_or_else(Instant::now, |((at, _), _)| *at);
            let order = tokio::select! {
                biased;
                order = orders.recv() => Some(order),
                () = sleep_until(due.min(self.heard + self.lease)) => None,
            };
            self.stand_still().await;
            let next = match order {
                Some(None) => Next::Over,
                Some(Some(order)) => {
                    self.heard = Instant::now();
                    order.kind.map_or(Next::GoOn, |order| self.obey(order))
                }
                None if self.heard + self.lease <= Instant::now() => Next::Over,
                None => self.act(),
            };
            if next == Next::Over {
                return;
            }
        }
    }

    /// While the machine is frozen nothing happens; if its clock stops as well, everything is that much later.
    async fn stand_still(&mut self) {
        let Some(frozen) = self.machine.frozen() else { return };
        sleep_until(frozen.until).await;
        if frozen.clock_stops {
            let lost = frozen.until - frozen.since;
            let timeline = std::mem::take(&mut self.timeline);
            self.timeline =
                timeline.into_iter().map(|((at, order), action)| ((at + lost, order), action)).collect();
            self.heard += lost;
        }
    }

    fn obey(&mut self, order: Order) -> Next {
        match order {
            Order::Prepare(prepare) => self.prepare(&prepare),
            Order::Dispatch(dispatch) => self.dispatch(&dispatch),
            Order::Cancel(cancel) => self.cancel(cancel),
            Order::EndRun(wire::EndRun {}) => {
                let leaves = self.random.milliseconds(0..1_500);
                self.plan(leaves, Action::Leave);
            }
            Order::Hello(_) | Order::Heartbeat(_) => {}
            // These agents have the project in place.
            Order::CompareWorkspace(_) | Order::ProjectTree(_) | Order::FileContent(_) => {}
        }
        Next::GoOn
    }

    fn act(&mut self) -> Next {
        let due = self.timeline.first_key_value().filter(|((at, _), _)| *at <= Instant::now());
        let Some((key, action)) = due.map(|(key, action)| (*key, *action)) else { return Next::GoOn };
        self.timeline.remove(&key);
        match action {
            Action::Greet => return self.greet(),
            Action::Beat => {
                self.say(Kind::Heartbeat(wire::Heartbeat {}));
                self.plan(self.heartbeat, Action::Beat);
            }
            Action::NodeReady => return self.node_ready(),
            Action::RunnerReady(runner) => self.runner_ready(runner),
            Action::Start(attempt) => self.start(attempt),
            Action::Write(attempt, bytes) => self.write(attempt, bytes),
            Action::Test(attempt) => self.test(attempt),
            Action::End(attempt) => self.end(attempt),
            Action::Cancelled(attempt) => self.cancelled(attempt),
            Action::Leave => {
                self.say(Kind::RunEnded(wire::RunEnded {}));
                return Next::Over;
            }
        }
        Next::GoOn
    }

    fn greet(&mut self) -> Next {
        match self.machine.scenario.greeting {
            Greeting::Welcomes(_) => {
                self.say(Kind::Welcome(wire::Welcome {
                    program_version: "0.0.0".into(),
                    cores: self.machine.scenario.cores.into(),
                    resident: true,
                    queue_limit: self.machine.scenario.queue_limit.into(),
                    memory_bytes: self.machine.scenario.memory.unwrap_or_default(),
                    ..wire::Welcome::default()
                }));
                Next::GoOn
            }
            Greeting::Refuses => {
                self.say(Kind::Refusal(wire::Refusal { failure: Some(failure("create workspace")) }));
                Next::Over
            }
            Greeting::Silent => Next::GoOn,
            Greeting::Leaves => Next::Over,
        }
    }

    fn prepare(&mut self, prepare: &wire::Prepare) {
        let runners = u16::try_from(prepare.runners).expect("so many were not asked for");
        self.machine.world.lock().sessions[self.number].runners = runners;
        self.runners = vec![Runner::Preparing; runners.into()];
        self.queues = vec![VecDeque::new(); runners.into()];
        self.workers = vec![BTreeSet::new(); runners.into()];
        let (Preparation::Succeeds(takes) | Preparation::Fails(takes)) = self.machine.scenario.node_setup;
        self.plan(takes, Action::NodeReady);
    }

    /// Writes a little as a hook or a worker would.
    fn little_output(&mut self) -> wire::OutputBlock {
        self.blocks += 1;
        let bytes = self.random.within(0..200);
        self.send_output(self.blocks, bytes, b'.');
        wire::OutputBlock { number: self.blocks, bytes }
    }

    fn send_output(&mut self, block: u64, bytes: u64, letter: u8) {
        let mut left = bytes;
        while left > 0 {
            let size = left.min(CHUNK_LIMIT);
            let data = vec![letter; size as usize].into();
            let _ = self.output.send(wire::OutputChunk {
                block,
                stderr: self.random.percent(20),
                data,
                plain_bytes: 0,
            });
            left -= size;
        }
    }

    fn node_ready(&mut self) -> Next {
        let fails = matches!(self.machine.scenario.node_setup, Preparation::Fails(_));
        let block = Some(self.little_output());
        let failure = fails.then(|| failure("run node_setup"));
        self.say(Kind::HookFinished(wire::HookFinished {
            failure: failure.clone(),
            block,
            ..Default::default()
        }));
        if failure.is_some() {
            self.say(Kind::Refusal(wire::Refusal { failure }));
            return Next::Over;
        }
        for runner in 1..=self.runners.len() as u16 {
            let (Preparation::Succeeds(takes) | Preparation::Fails(takes)) = self.runner_setup(runner);
            self.plan(takes, Action::RunnerReady(runner));
        }
        Next::GoOn
    }

    fn runner_setup(&self, runner: u16) -> Preparation {
        let setups = &self.machine.scenario.runner_setups;
        setups[usize::from(runner - 1) % setups.len()]
    }

    fn runner_ready(&mut self, runner: u16) {
        let fails = matches!(self.runner_setup(runner), Preparation::Fails(_));
        let block = Some(self.little_output());
        let failure = fails.then(|| failure("run runner_setup"));
        let hook = wire::HookFinished {
            runner: runner.into(),
            failure: failure.clone(),
            block,
            ..wire::HookFinished::default()
        };
        self.say(Kind::HookFinished(hook));
        if failure.is_some() {
            self.fail_runner(runner, failure);
            return;
        }
        let first = (runner - 1) % self.machine.world.lock().scenario.launches;
        if !self.machine.scenario.unable.contains(&first) {
            self.ensure_worker(runner, first.into());
        }
        self.runners[usize::from(runner - 1)] = Runner::Idle;
        let identifier = format!("sim_{runner}");
        self.say(Kind::RunnerReady(wire::RunnerReady { runner: runner.into(), identifier }));
    }

    /// A runner has a worker of a launch from now on, which says its versions.
    fn ensure_worker(&mut self, runner: u16, launch: u32) {
        if !self.workers[usize::from(runner - 1)].insert(launch) {
            return;
        }
        let block = Some(self.little_output());
        let versions = self.machine.scenario.versions[launch as usize];
        if let Some(versions) = versions {
            self.machine.world.lock().said.insert((launch, versions));
        }
        let (version, runtime) = versions.and_then(|said| said.split_once(", ")).unwrap_or_default();
        self.say(Kind::WorkerPrepared(wire::WorkerPrepared {
            runner: runner.into(),
            framework: framework(launch),
            block,
            version: version.into(),
            runtime: runtime.into(),
            ..wire::WorkerPrepared::default()
        }));
    }

    fn fail_runner(&mut self, runner: u16, failure: Option<wire::Failure>) {
        self.runners[usize::from(runner - 1)] = Runner::Failed;
        for order in std::mem::take(&mut self.queues[usize::from(runner - 1)]) {
            self.interrupt(order.attempt, "the runner has failed");
        }
        self.machine.world.lock().sessions[self.number].failed_runners.push(runner);
        self.say(Kind::RunnerFailed(wire::RunnerFailed { runner: runner.into(), failure }));
    }
}

fn failure(operation: &str) -> wire::Failure {
    let cause = "the scenario says so".into();
    wire::Failure { operation: operation.into(), cause, ..wire::Failure::default() }
}

/// What the files of a launch belong to.
pub(crate) fn framework(launch: u32) -> String {
    format!("pretend_{launch}")
}

/// The path of a file of the plan. The parts of a file have that of the first.
pub(crate) fn file_path(number: usize) -> String {
    format!("tests/file_{number}")
}

/// The only test that is known of a part.
pub(crate) fn test_of_part(number: usize) -> String {
    format!("part_{number}")
}

pub(crate) fn passed_test(id: String) -> TestResult {
    TestResult {
        id,
        name: "a test".into(),
        status: TestStatus::Passed,
        duration: Duration::from_millis(1),
        message: String::new(),
        details: String::new(),
        file: None,
        line: None,
    }
}

/// The place in the plan of what is ordered: a file, or a part of one.
fn file_number(order: &wire::Dispatch) -> usize {
    let number = order.file.strip_prefix("tests/file_").and_then(|number| number.parse::<usize>().ok());
    let first = number.expect("only files of the plan are ordered");
    let only = order.part.iter().flat_map(|part| &part.only).next();
    let part = only.and_then(|test| test.strip_prefix("part_")).and_then(|part| part.parse::<usize>().ok());
    // The first part is all but the others.
    part.map_or(first, |part| first + part - 1)
}
