//! A host: reached by dialing, with an agent that serves each connection, until faults come over it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use distributest::hosts::link::{Dial, Dialing, Link};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent;
use crate::network::{Cable, End, Line};
use crate::scenario::{Answer, Fault, HostScenario};
use crate::world::SharedWorld;

/// How long it takes to learn that a host is switched off.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// A host.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) number: usize,
    pub(crate) scenario: HostScenario,
    pub(crate) world: SharedWorld,
    line: Arc<Line>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    dials: usize,
    /// Switched off until then.
    down_until: Option<Instant>,
    frozen: Option<Frozen>,
    sessions: Vec<OpenSession>,
}

/// A time in which the machine stands still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frozen {
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    pub(crate) clock_stops: bool,
}

#[derive(Debug)]
struct OpenSession {
    cable: Cable,
    task: JoinHandle<()>,
}

impl Machine {
    pub(crate) fn new(number: usize, scenario: HostScenario, world: SharedWorld) -> Machine {
        let line = Arc::new(Line::new(scenario.latency, scenario.bandwidth));
        Machine { number, scenario, world, line, state: Mutex::default() }
    }

    /// Lets the faults of the scenario happen in their time.
    pub(crate) async fn suffer(self: Arc<Machine>) {
        let start = self.world.lock().start;
        for (at, fault) in &self.scenario.faults {
            sleep_until(start + *at).await;
            self.befall(*fault);
        }
    }

    /// Lets a fault happen now.
    pub(crate) fn befall(&self, fault: Fault) {
        {
            let mut world = self.world.lock();
            world.trace(|| format!("host {}: {fault:?}", self.number));
            world.count(fault.word());
            world.disturb(self.number);
        }
        let now = Instant::now();
        let until = now + fault.lasts();
        match fault {
            Fault::Partition { up, down, .. } => {
                let ends = [(up, End::Coordinator), (down, End::Agent)];
                ends.iter().filter(|(cut, _)| *cut).for_each(|(_, end)| self.line.hold(*end, until));
            }
            Fault::Break => self.cut_all(&[End::Coordinator, End::Agent]),
            Fault::BreakUnheardHere => self.cut_all(&[End::Agent]),
            Fault::BreakUnheardThere => self.cut_all(&[End::Coordinator]),
            Fault::Freeze { clock_stops, .. } => {
                self.line.hold(End::Coordinator, until);
                self.line.hold(End::Agent, until);
                self.lock().frozen = Some(Frozen { since: now, until, clock_stops });
            }
            Fault::PowerCut { .. } => {
                self.kill_all(&[]);
                self.lock().down_until = Some(until);
            }
            Fault::AgentCrash => self.kill_all(&[End::Coordinator, End::Agent]),
        }
    }

    /// Whether the machine stands still now.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        self.lock().frozen.filter(|frozen| frozen.until > Instant::now())
    }

    fn cut_all(&self, heard_by: &[End]) {
        self.lock().sessions.iter().for_each(|session| session.cable.cut(heard_by));
    }

    fn kill_all(&self, heard_by: &[End]) {
        let sessions = std::mem::take(&mut self.lock().sessions);
        for session in sessions {
            session.task.abort();
            session.cable.cut(heard_by);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with a machine")
    }

    /// Waits until the machine can be reached, which it may be told that it can't.
    async fn reachable(&self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            let frozen = self.frozen();
            let down_until = self.lock().down_until;
            if down_until.is_some_and(|until| until > now) {
                sleep(UNREACHABLE_AFTER).await;
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let held = self.line.held_until(End::Coordinator).max(self.line.held_until(End::Agent));
            let until = frozen.map_or(held, |frozen| frozen.until.max(held));
            if until <= now {
                return Ok(());
            }
            sleep_until(until).await;
        }
    }
}

/// The way to a machine.
#[derive(Debug)]
pub(crate) struct Port(pub(crate) Arc<Machine>);

impl Dial for Port {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let machine = &self.0;
            let answer = {
                let mut state = machine.lock();
                let dials = &machine.scenario.dials;
                let answer = dials[state.dials.min(dials.len() - 1)];
                state.dials += 1;
                answer
            };
            machine.world.lock().trace(|| format!("host {}: dialed, {answer:?}", machine.number));
            match answer {
                Answer::Never => std::future::pending::<()>().await,
                Answer::Refuses(after) => {
                    sleep(after).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Answer::Connects(after) => sleep(after).await,
            }
            machine.reachable().await?;
            let (cable, here, there) = Cable::lay(machine.line.clone());
            let session = machine.world.lock().open_session(machine.number, cable.clone());
            let task = tokio::spawn(agent::serve(machine.clone(), session, there));
            machine.lock().sessions.push(OpenSession { cable, task });
            Ok(Link::new(here, ()))
        })
    }
}
