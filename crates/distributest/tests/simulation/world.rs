//! What really happened, as the hosts know it: every attempt that reached an agent, every session, and every rule that
//! was broken on the way. The observer compares it with what the coordinator says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use distributest_core::run_event::AttemptResult;
use tokio::time::Instant;

use crate::network::Cable;
use crate::scenario::Scenario;

/// The world, shared by hosts and observer.
#[derive(Clone, Debug)]
pub(crate) struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    pub(crate) fn new(scenario: Scenario, traced: bool) -> SharedWorld {
        SharedWorld(Arc::new(Mutex::new(World {
            start: Instant::now(),
            scenario,
            attempts: BTreeMap::new(),
            sessions: Vec::new(),
            silent: BTreeSet::new(),
            fences: 0,
            doubled: BTreeMap::new(),
            decided: BTreeSet::new(),
            said: BTreeSet::new(),
            reserved: BTreeSet::new(),
            told_before: BTreeMap::new(),
            violations: Vec::new(),
            counts: Counts::new(),
            trace: traced.then(Vec::new),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nothing panics with the world")
    }
}

/// How often what happened, by its word.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What really happened.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) scenario: Scenario,
    pub(crate) attempts: BTreeMap<u64, Attempt>,
    pub(crate) sessions: Vec<Session>,
    /// Hosts that the coordinator said are silent.
    pub(crate) silent: BTreeSet<usize>,
    /// How often each file was given to another host because the first took too long.
    pub(crate) doubled: BTreeMap<usize, usize>,
    /// How often a host was fenced.
    pub(crate) fences: usize,
    /// Files that have their verdict.
    pub(crate) decided: BTreeSet<usize>,
    /// Versions that workers said, with their launch.
    pub(crate) said: BTreeSet<(u32, &'static str)>,
    /// Hosts that are reserved for files that run alone.
    pub(crate) reserved: BTreeSet<usize>,
    /// How attempts were said to have ended whose orders were still under way.
    pub(crate) told_before: BTreeMap<u64, AttemptResult>,
    /// The rules that were broken, each with its time.
    pub(crate) violations: Vec<String>,
    /// How often what happened.
    pub(crate) counts: Counts,
    /// Everything that happened, when somebody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
}

/// An attempt that reached an agent.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) file: usize,
    pub(crate) session: usize,
    pub(crate) runner: u16,
    pub(crate) has_started: bool,
    /// Nothing of it runs any more.
    pub(crate) has_ended: bool,
    /// How the coordinator said that it ended.
    pub(crate) told: Option<AttemptResult>,
    /// Its host was silent while it was live: another attempt at its file may take its place.
    pub(crate) is_doubted: bool,
    /// The kernel killed it for lack of memory.
    pub(crate) is_out_of_memory: bool,
    /// Nothing may run beside it.
    pub(crate) is_alone: bool,
    /// What the agent said came of it.
    pub(crate) answer: Option<AttemptResult>,
    /// Bytes it wrote.
    pub(crate) output: u64,
    /// Tests it told of.
    pub(crate) tests: u64,
}

/// A connection that reached an agent.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) host: usize,
    pub(crate) cable: Cable,
    /// Runners that were asked for.
    pub(crate) runners: u16,
    /// Those of them that have failed.
    pub(crate) failed_runners: Vec<u16>,
    /// A fault came over it: the coordinator may think what it likes of it.
    pub(crate) is_disturbed: bool,
    pub(crate) is_over: bool,
}

impl World {
    /// Time since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        let now = self.now().as_secs_f64();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:9.4} {}", line()));
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A rule was broken.
    pub(crate) fn violation(&mut self, what: String) {
        let now = self.now().as_secs_f64();
        self.trace(|| format!("VIOLATION: {what}"));
        self.violations.push(format!("at {now:.4} s: {what}"));
    }

    pub(crate) fn open_session(&mut self, host: usize, cable: Cable) -> usize {
        self.sessions.push(Session {
            host,
            cable,
            runners: 0,
            failed_runners: Vec::new(),
            is_disturbed: false,
            is_over: false,
        });
        let session = self.sessions.len() - 1;
        self.count("sessions");
        self.trace(|| format!("host {host}: session {session} opens"));
        session
    }

    /// A session and everything it ran is gone.
    pub(crate) fn end_session(&mut self, session: usize) {
        let host = self.sessions[session].host;
        self.sessions[session].is_over = true;
        self.trace(|| format!("host {host}: session {session} is over"));
        let lost = self.attempts.values_mut().filter(|attempt| attempt.session == session);
        lost.for_each(|attempt| attempt.has_ended = true);
    }

    /// A fault comes over a host.
    pub(crate) fn disturb(&mut self, host: usize) {
        let open = self.sessions.iter_mut().filter(|session| session.host == host && !session.is_over);
        open.for_each(|session| session.is_disturbed = true);
    }

    /// Whether the coordinator may take a session for lost.
    pub(crate) fn may_be_lost(&self, session: usize) -> bool {
        let session = &self.sessions[session];
        session.is_disturbed || session.cable.is_dropped_by_coordinator()
    }

    /// The coordinator says that a host is silent.
    pub(crate) fn doubt(&mut self, host: usize) {
        self.silent.insert(host);
        let sessions = &self.sessions;
        let live = self.attempts.values_mut().filter(|attempt| attempt.told.is_none());
        let its = live.filter(|attempt| sessions[attempt.session].host == host);
        its.for_each(|attempt| attempt.is_doubted = true);
    }

    /// Whether a file may have attempts on more than one host, because the coordinator said that one is silent or takes
    /// too long.
    pub(crate) fn is_doubted(&self, file: usize) -> bool {
        self.doubled.contains_key(&file)
            || self.attempts.values().any(|attempt| attempt.file == file && attempt.is_doubted)
    }

    /// How often a file may be run so far: what the scenario allows, and once more for each attempt that another one was
    /// to stand in for, and for each fence, by which a failure may have been set aside.
    pub(crate) fn tries_of(&self, file: usize) -> usize {
        let doubted = self.attempts.values().filter(|attempt| attempt.file == file && attempt.is_doubted);
        let doubled = self.doubled.get(&file).copied().unwrap_or_default();
        self.scenario.tries_of(file) + doubted.count() + doubled + self.fences
    }

    /// An order to run a file reaches its host.
    pub(crate) fn begin_attempt(&mut self, number: u64, file: usize, session: usize, runner: u16) {
        self.count("attempts");
        let host = self.sessions[session].host;
        self.trace(|| format!("host {host}: attempt {number} of file {file} on runner {runner}"));
        let times = self.attempts.values().filter(|other| other.file == file).count();
        let runners: usize = self.sessions.iter().map(|session| usize::from(session.runners)).sum();
        let most = self.tries_of(file) + runners;
        // A file that is decided may still be asked of a host that failed it.
        if times >= most && !self.decided.contains(&file) {
            self.violation(format!("file {file} is ordered more than {most} times"));
        }
        let attempt = Attempt {
            file,
            session,
            runner,
            has_started: false,
            has_ended: false,
            told: self.told_before.remove(&number),
            is_doubted: self.silent.contains(&host),
            is_out_of_memory: false,
            is_alone: false,
            answer: None,
            output: 0,
            tests: 0,
        };
        if self.attempts.insert(number, attempt).is_some() {
            self.violation(format!("attempt {number} was ordered twice"));
        }
    }

    /// An attempt is about to run: no other one of its file does, unless a host was silent.
    pub(crate) fn check_alone(&mut self, number: u64) {
        let attempt = &self.attempts[&number];
        let (file, session) = (attempt.file, attempt.session);
        let host = self.sessions[session].host;
        let is_meant = |id: u64, other: &Attempt| id != number && other.file == file && !other.has_ended;
        let others = self.attempts.iter().filter(|(id, other)| is_meant(**id, other));
        let undisturbed: Vec<u64> =
            others.filter(|(_, other)| !self.may_be_lost(other.session)).map(|(id, _)| *id).collect();
        let here: Vec<u64> = self
            .attempts
            .iter()
            .filter(|(id, other)| is_meant(**id, other) && other.session == session)
            .map(|(id, _)| *id)
            .collect();
        if !here.is_empty() && !self.decided.contains(&file) {
            self.violation(format!("attempt {number} of file {file} starts on the host where {here:?} run"));
        }
        // Hosts that failed a file may be asked with it at the same time once it is decided.
        let may_cross = self.may_be_lost(session)
            || self.decided.contains(&file)
            || self.is_doubted(file)
            || self.silent.contains(&host);
        if !undisturbed.is_empty() && !may_cross {
            let others = format!("{undisturbed:?} of it run on hosts that are well");
            self.violation(format!("attempt {number} of file {file} starts while {others}"));
        }
    }

    /// An agent says what came of an attempt.
    pub(crate) fn answer(&mut self, number: u64, answer: AttemptResult) {
        self.trace(|| format!("attempt {number} answers {answer:?}"));
        if let Some(attempt) = self.attempts.get_mut(&number) {
            attempt.has_ended = true;
            attempt.answer = Some(answer);
        }
    }
}

/// What every byte that an attempt writes is.
pub(crate) fn letter(attempt: u64) -> u8 {
    b'a' + (attempt % 26) as u8
}
