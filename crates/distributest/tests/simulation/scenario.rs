//! What is going to happen in a run, drawn from its seed: hosts, files, faults, and what the user does.

use std::time::Duration;

use distributest_core::outcome::Outcome;
use distributest_core::scheduler::INTERRUPTION_LIMIT;

use crate::random::Random;

/// Silence after which a test that hangs is ended by its agent.
pub(crate) const FILE_TIMEOUT: Duration = Duration::from_secs(20);

/// What most workers say of their framework and interpreter, and what others do.
const VERSIONS: &str = "1.0, simulated";
const OTHER_VERSIONS: &str = "0.9, simulated";

const GIB: u64 = 1 << 30;

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) launches: u16,
    pub(crate) hosts: Vec<HostScenario>,
    pub(crate) files: Vec<FileScenario>,
    pub(crate) fail_fast: Option<u32>,
    pub(crate) require_hosts: bool,
    pub(crate) flaky_fails: bool,
    /// When the user asks to stop.
    pub(crate) stops: Vec<Duration>,
    /// How long the log's disk takes for some of the events.
    pub(crate) slow_log: Option<SlowLog>,
}

/// The log's disk: one event in `every` takes `stall`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowLog {
    pub(crate) every: u64,
    pub(crate) stall: Duration,
    /// How often that happens at most.
    pub(crate) times: u64,
}

/// A host, its network and its fate.
#[derive(Clone, Debug)]
pub(crate) struct HostScenario {
    pub(crate) cores: u16,
    /// Runners asked for; `None`: as many as it has cores.
    pub(crate) runners: Option<u16>,
    /// How fast the coordinator believes it to be, rightly or not.
    pub(crate) believed_speed: f64,
    pub(crate) latency: Duration,
    /// Bytes in a second; `None`: as many as there are.
    pub(crate) bandwidth: Option<u64>,
    /// How many attempts may wait at each runner.
    pub(crate) queue_limit: u16,
    /// How each attempt to connect fares; the last one stands for all that follow.
    pub(crate) dials: Vec<Answer>,
    /// How the agent greets.
    pub(crate) greeting: Greeting,
    pub(crate) node_setup: Preparation,
    /// By runner.
    pub(crate) runner_setups: Vec<Preparation>,
    /// Launches that no runner of the host can run.
    pub(crate) unable: Vec<u16>,
    /// From when to when every file fails here, and how.
    pub(crate) broken: Option<Broken>,
    /// In the order of their time.
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// Whether the agent repeats itself now and then, and talks of attempts that nobody knows.
    pub(crate) babbles: bool,
    /// Bytes of memory for tests, if it says so.
    pub(crate) memory: Option<u64>,
    /// What its workers say of their versions, by launch, if they do.
    pub(crate) versions: Vec<Option<&'static str>>,
}

/// What becomes of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Connects(Duration),
    Refuses(Duration),
    Never,
}

/// How an agent answers to the coordinator's hello.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Greeting {
    Welcomes(Duration),
    Refuses,
    Silent,
    Leaves,
}

/// How a hook goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Preparation {
    Succeeds(Duration),
    Fails(Duration),
}

/// A host on which every file fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) outcome: Outcome,
}

/// What befalls a host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing gets through one way or both, and nothing says so; what was sent arrives when it is over.
    Partition { up: bool, down: bool, lasts: Duration },
    /// The connection is gone, and both ends hear of it.
    Break,
    /// The connection is gone, and only the agent hears of it.
    BreakUnheardHere,
    /// The connection is gone, and only the coordinator hears of it.
    BreakUnheardThere,
    /// The machine stands still; its clocks go on or do not.
    Freeze { lasts: Duration, clock_stops: bool },
    /// The machine is gone without a word, until it has started again.
    PowerCut { down: Duration },
    /// Every session dies, and the coordinator hears of it.
    AgentCrash,
}

impl Fault {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Fault::Partition { .. } => "partitions",
            Fault::Break | Fault::BreakUnheardHere | Fault::BreakUnheardThere => "broken connections",
            Fault::Freeze { .. } => "freezes",
            Fault::PowerCut { .. } => "power cuts",
            Fault::AgentCrash => "agent crashes",
        }
    }

    /// How long after its begin nothing is left of it.
    pub(crate) fn lasts(&self) -> Duration {
        match *self {
            Fault::Partition { lasts, .. } | Fault::Freeze { lasts, .. } => lasts,
            Fault::PowerCut { down } => down,
            Fault::Break | Fault::BreakUnheardHere | Fault::BreakUnheardThere | Fault::AgentCrash => {
                Duration::ZERO
            }
        }
    }
}

/// A test file, and what its tests do.
#[derive(Clone, Debug)]
pub(crate) struct FileScenario {
    pub(crate) launch: u16,
    pub(crate) duration: Duration,
    /// How long the coordinator thinks it takes.
    pub(crate) predicted: Option<Duration>,
    pub(crate) behaviour: Behaviour,
    pub(crate) tests: u64,
    pub(crate) output: u64,
    pub(crate) retries: u8,
    /// Whether it ends at once when it is cancelled.
    pub(crate) obedient: bool,
    /// Bytes it really needs: where there are not as many, the kernel kills it.
    pub(crate) memory: u64,
    /// Bytes the coordinator thinks it needs.
    pub(crate) predicted_memory: Option<u64>,
    /// Versions with which it passed in earlier runs, its inputs being what they are now.
    pub(crate) passed_with: Vec<&'static str>,
    /// Where it is a part of a file only.
    pub(crate) part: Option<PartScenario>,
}

/// A part of a file that is run in several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartScenario {
    /// The place of the first part in the plan; the others follow it.
    pub(crate) first: usize,
    /// From 1.
    pub(crate) number: usize,
    pub(crate) of: usize,
    pub(crate) collects: Collects,
}

/// What the workers that run parts of a file say of the tests they have found in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Collects {
    /// The same in each process.
    TheSame,
    /// Something else in each process.
    Others,
    Nothing,
}

/// What comes of running a file on a host that is well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    Answers(Outcome),
    /// Fails so many times of a hundred.
    Flaky(u64),
    /// As said on one host, and passes everywhere else.
    On(usize, Outcome),
    /// Says nothing more until its time is up.
    Hangs,
    /// Takes its whole agent down.
    KillsAgent,
    /// Takes its runner down.
    KillsRunner,
    /// Is gone when its turn comes.
    Gone,
}

/// How much goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Weather {
    Calm,
    Windy,
    Stormy,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Scenario {
        let mut random = Random::new(seed);
        let weather = random.weighted(&[(25, Weather::Calm), (45, Weather::Windy), (30, Weather::Stormy)]);
        let host_count = random.weighted(&[(15, 1), (30, 2), (30, 3), (15, 4), (10, 5)]);
        let launches = random.weighted(&[(60, 1), (30, 2), (10, 3)]);
        let hosts = (0..host_count).map(|_| host(&mut random, weather, launches)).collect();
        let file_count = match random.within(0..100) {
            0..4 => 0,
            4..64 => random.within(1..9),
            64..96 => random.within(9..20),
            _ => random.within(20..61),
        };
        let mut files: Vec<_> =
            (0..file_count).map(|_| file(&mut random, weather, launches, host_count)).collect();
        split_one(&mut random, &mut files);
        let mut stops = Vec::new();
        if random.percent(12) {
            stops.push(random.milliseconds(0..60_000));
            if random.percent(30) {
                stops.push(stops[0] + random.milliseconds(0..8_000));
            }
        }
        let slow_log = random.percent(10).then(|| SlowLog {
            every: random.within(2..60),
            stall: random.milliseconds(50..20_000),
            times: random.within(1..6),
        });
        Scenario {
            seed,
            launches,
            hosts,
            files,
            fail_fast: random.percent(8).then(|| random.weighted(&[(60, 1), (30, 2), (10, 3)])),
            require_hosts: random.percent(6),
            flaky_fails: random.percent(20),
            stops,
            slow_log,
        }
    }

    /// How often a file may be run at most: once, once more after a crash, for each retry, and after interruptions.
    pub(crate) fn tries_of(&self, file: usize) -> usize {
        2 + usize::from(self.files[file].retries) + usize::from(INTERRUPTION_LIMIT)
    }

    /// Whether a file takes more down than itself.
    pub(crate) fn has_killers(&self) -> bool {
        let killers = [Behaviour::KillsAgent, Behaviour::KillsRunner];
        self.files.iter().any(|file| killers.contains(&file.behaviour))
    }

    /// When the last fault is over.
    pub(crate) fn last_fault_ends(&self) -> Duration {
        let faults = self.hosts.iter().flat_map(|host| &host.faults);
        let ends = faults.map(|(at, fault)| *at + fault.lasts());
        ends.chain(self.stops.iter().copied()).max().unwrap_or_default()
    }
}

impl HostScenario {
    /// Whether the host can run files of the launch all the time, whatever befalls others.
    pub(crate) fn is_well_for(&self, launch: u16) -> bool {
        matches!(self.dials[0], Answer::Connects(_))
            && matches!(self.greeting, Greeting::Welcomes(_))
            && matches!(self.node_setup, Preparation::Succeeds(_))
            && self.runner_setups.iter().any(|setup| matches!(setup, Preparation::Succeeds(_)))
            && !self.unable.contains(&launch)
            && self.faults.is_empty()
    }
}

fn host(random: &mut Random, weather: Weather, launches: u16) -> HostScenario {
    let windy = |percent| if weather == Weather::Calm { 0 } else { percent };
    let cores = random.weighted(&[(25, 1), (35, 2), (25, 3), (15, 4)]);
    let runners = random.percent(30).then(|| random.weighted(&[(40, 1), (40, 2), (20, 4)]));
    let started = usize::from(runners.unwrap_or(cores));
    let greeting_delay = random.milliseconds(0..300);
    let broken = random.percent(windy(14)).then(|| {
        let from = random.weighted(&[(70, Duration::ZERO), (30, Duration::from_secs(4))]);
        let lasts = random.weighted(&[(60, Duration::from_secs(3600)), (40, Duration::from_secs(15))]);
        let outcome =
            random.weighted(&[(50, Outcome::Failed), (25, Outcome::Broken), (25, Outcome::Crashed)]);
        Broken { from, until: from + lasts, outcome }
    });
    HostScenario {
        cores,
        runners,
        latency: Duration::from_micros(random.weighted(&[(50, 200), (35, 5_000), (15, 150_000)])),
        bandwidth: random.percent(20).then(|| random.weighted(&[(60, 1_000_000), (40, 250_000)])),
        dials: dials(random, windy(18)),
        greeting: random.weighted(&[
            (200, Greeting::Welcomes(greeting_delay)),
            (windy(5), Greeting::Refuses),
            (windy(3), Greeting::Silent),
            (windy(3), Greeting::Leaves),
        ]),
        node_setup: preparation(random, windy(5)),
        runner_setups: (0..started).map(|_| preparation(random, windy(5))).collect(),
        unable: (0..launches).filter(|_| random.percent(windy(10))).collect(),
        broken,
        faults: faults(random, weather),
        babbles: random.percent(windy(20)),
        queue_limit: random.weighted(&[(20, 0), (20, 1), (20, 3), (40, 64)]),
        believed_speed: random.weighted(&[(70, 1.0), (15, 0.3), (15, 3.0)]),
        memory: random.weighted(&[(50, None), (20, Some(8 * GIB)), (20, Some(4 * GIB)), (10, Some(GIB))]),
        versions: (0..launches)
            .map(|_| random.weighted(&[(70, Some(VERSIONS)), (15, Some(OTHER_VERSIONS)), (15, None)]))
            .collect(),
    }
}

fn dials(random: &mut Random, trouble: u64) -> Vec<Answer> {
    let connects = Answer::Connects(random.milliseconds(0..1_500));
    if !random.percent(trouble) {
        return vec![connects];
    }
    let refuses = Answer::Refuses(random.milliseconds(0..5_000));
    random.weighted(&[
        (20, vec![refuses]),
        (10, vec![Answer::Never]),
        (30, vec![connects, refuses]),
        (10, vec![connects, Answer::Never]),
        (30, vec![connects, refuses, connects]),
    ])
}

fn preparation(random: &mut Random, fails: u64) -> Preparation {
    let takes = random.weighted(&[(80, 0..400), (15, 400..5_000), (5, 5_000..60_000)]);
    let takes = random.milliseconds(takes);
    if random.percent(fails) { Preparation::Fails(takes) } else { Preparation::Succeeds(takes) }
}

fn faults(random: &mut Random, weather: Weather) -> Vec<(Duration, Fault)> {
    let count = match weather {
        Weather::Calm => 0,
        Weather::Windy => random.weighted(&[(65, 0), (30, 1), (5, 2)]),
        Weather::Stormy => random.weighted(&[(20, 0), (40, 1), (25, 2), (15, 4)]),
    };
    let mut faults: Vec<(Duration, Fault)> = (0..count).map(|_| fault(random)).collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn fault(random: &mut Random) -> (Duration, Fault) {
    let when = random.weighted(&[(40, 0..3_000), (40, 0..15_000), (20, 0..90_000)]);
    let at = random.milliseconds(when);
    // Below the patience for a silent host, between that and the lease, and beyond.
    let lasts = random.weighted(&[(30, 500..9_000), (40, 9_000..55_000), (30, 55_000..150_000)]);
    let lasts = random.milliseconds(lasts);
    let (up, down) = random.weighted(&[(60, (true, true)), (20, (true, false)), (20, (false, true))]);
    let clock_stops = random.percent(50);
    let fault = random.weighted(&[
        (30, Fault::Partition { up, down, lasts }),
        (15, Fault::Break),
        (6, Fault::BreakUnheardHere),
        (6, Fault::BreakUnheardThere),
        (18, Fault::Freeze { lasts, clock_stops }),
        (12, Fault::PowerCut { down: lasts }),
        (13, Fault::AgentCrash),
    ]);
    (at, fault)
}

fn file(random: &mut Random, weather: Weather, launches: u16, hosts: usize) -> FileScenario {
    let duration = random.weighted(&[(55, 5..800), (35, 800..4_000), (10, 4_000..40_000)]);
    let duration = random.milliseconds(duration);
    let fails = random.weighted(&[(60, Outcome::Failed), (20, Outcome::Broken), (20, Outcome::Crashed)]);
    let there = random.within(0..hosts as u64) as usize;
    let chance = random.within(20..90);
    let bad = if weather == Weather::Stormy { 2 } else { 1 };
    let needs = random.weighted(&[(40, 0), (30, GIB), (20, 3 * GIB), (10, 6 * GIB)]);
    FileScenario {
        launch: random.within(0..launches.into()) as u16,
        duration,
        predicted: random.weighted(&[(40, None), (50, Some(duration)), (10, Some(duration / 50))]),
        behaviour: random.weighted(&[
            (180, Behaviour::Answers(Outcome::Passed)),
            (8 * bad, Behaviour::Answers(fails)),
            (8 * bad, Behaviour::Flaky(chance)),
            (4 * bad, Behaviour::On(there, fails)),
            (bad, Behaviour::Hangs),
            (bad - 1, Behaviour::KillsAgent),
            (bad - 1, Behaviour::KillsRunner),
            (bad, Behaviour::Gone),
        ]),
        tests: random.within(0..4),
        output: random.weighted(&[(40, 0), (52, 300), (7, 20_000), (1, 300_000)]),
        retries: random.weighted(&[(75, 0), (15, 1), (10, 3)]),
        obedient: random.percent(85),
        memory: needs,
        predicted_memory: random.weighted(&[(30, None), (60, Some(needs)), (10, Some(needs / 2))]),
        passed_with: random.weighted(&[
            (80, vec![]),
            (12, vec![VERSIONS]),
            (4, vec![OTHER_VERSIONS]),
            (4, vec![OTHER_VERSIONS, VERSIONS]),
        ]),
        part: None,
    }
}

/// Makes neighbours in the plan parts of one file, now and then.
fn split_one(random: &mut Random, files: &mut [FileScenario]) {
    let of = random.within(2..5) as usize;
    if files.len() < of || !random.percent(30) {
        return;
    }
    let first = random.within(0..(files.len() - of + 1) as u64) as usize;
    let collects =
        random.weighted(&[(80, Collects::TheSame), (15, Collects::Others), (5, Collects::Nothing)]);
    let launch = files[first].launch;
    for (number, file) in (1..).zip(&mut files[first..first + of]) {
        file.launch = launch;
        file.passed_with = Vec::new();
        file.part = Some(PartScenario { first, number, of, collects });
    }
}
