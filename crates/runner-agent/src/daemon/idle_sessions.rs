//! Sessions whose run has ended and that keep workers for the next one of the same user.
//!
//! A session stays for as long as it says it is of use, though never longer than this host allows, and is handed the next
//! connection of its user, whatever the project. It goes at once when the host is short of memory, when the daemon stops,
//! and when all idle sessions together use more memory than they may, the oldest first. An idle session costs the daemon
//! one look at the host's memory every few seconds.
//!
//! A session is either in the list or somebody's: who takes one has it for itself, and while its time runs out at the same
//! moment the taker gets none and starts a new one. So no connection is handed to a session that is being ended.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributest_process::User;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::task::TaskTracker;

use crate::watcher::WatchedSession;

/// Idle sessions of all users; the oldest goes when there are more. Each costs four descriptors.
const SESSION_LIMIT: usize = 32;

/// How often the host's memory is looked at while there are any.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a session that is told to end may take for it.
const END_GRACE: Duration = Duration::from_secs(1);

/// All idle sessions may use one part in so many of the memory that is available.
const MEMORY_SHARE: u64 = 4;

/// With less than one part in so many of all memory available they go.
const SCARCE_SHARE: u64 = 10;

/// Percentage of the last ten seconds in which something waited for memory, from which on they go.
const PRESSURE_LIMIT: f64 = 10.0;

/// A session process that serves nobody.
pub(crate) struct IdleSession {
    /// The process.
    pub(crate) session: WatchedSession,
    /// The way to it, on which nothing is under way.
    pub(crate) control: UnixStream,
    /// Who it runs as; `None`: as the daemon does.
    pub(crate) user: Option<User>,
}

/// The idle sessions of a daemon; cheap to clone.
#[derive(Clone)]
pub(crate) struct IdleSessions {
    longest: Duration,
    list: Arc<Mutex<List>>,
    waiting: TaskTracker,
}

#[derive(Default)]
struct List {
    /// The oldest first.
    entries: Vec<Entry>,
    last: u64,
    /// Nothing stays any more.
    closed: bool,
}

struct Entry {
    number: u64,
    user: Option<User>,
    /// In bytes, once it is known.
    memory: u64,
    /// Asks for the session; dropping it ends the session.
    take: oneshot::Sender<oneshot::Sender<IdleSession>>,
}

impl IdleSessions {
    /// No sessions yet; each may stay for `longest`.
    pub(crate) fn new(longest: Duration) -> Self {
        IdleSessions { longest, list: Arc::default(), waiting: TaskTracker::new() }
    }

    /// Lets a session stay that is of use for so long, or ends it.
    pub(crate) async fn keep(&self, mut idle: IdleSession, useful: Duration) {
        let until = Instant::now() + useful.min(self.longest);
        let (take, taken) = oneshot::channel();
        let processes = idle.session.processes().await;
        let Some(number) = self.enter(idle.user.clone(), take) else {
            idle.session.end(END_GRACE).await;
            return;
        };
        tracing::info!(?useful, processes = processes.len(), "a session stays for its user's next run");
        let sessions = self.clone();
        self.waiting.spawn(async move { sessions.wait(number, idle, until, taken).await });
        let measured = tokio::task::spawn_blocking(move || (memory_of(&processes), Memory::now())).await;
        if let Ok((used, host)) = measured {
            self.lock().bound(number, used, host.available / MEMORY_SHARE);
        }
    }

    /// Puts a session on the list, unless nothing may stay. Returns its number there.
    fn enter(&self, user: Option<User>, take: oneshot::Sender<oneshot::Sender<IdleSession>>) -> Option<u64> {
        let mut list = self.lock();
        if list.closed || self.longest.is_zero() {
            return None;
        }
        list.last += 1;
        let number = list.last;
        list.entries.push(Entry { number, user, memory: 0, take });
        Some(number)
    }

    /// Takes a session of this user, the one that has been idle for the shortest time.
    pub(crate) async fn take(&self, user: Option<&User>) -> Option<IdleSession> {
        let (reply, session) = oneshot::channel();
        let entry = {
            let mut list = self.lock();
            let index = list.entries.iter().rposition(|entry| entry.user.as_ref() == user)?;
            list.entries.remove(index)
        };
        entry.take.send(reply).ok()?;
        session.await.ok()
    }

    /// Ends all of them, and whatever is to stay later.
    pub(crate) async fn end(&self) {
        let entries = {
            let mut list = self.lock();
            list.closed = true;
            std::mem::take(&mut list.entries)
        };
        drop(entries);
        self.waiting.close();
        self.waiting.wait().await;
    }

    /// Waits until somebody takes a session, or it is to be ended.
    async fn wait(
        &self,
        number: u64,
        mut idle: IdleSession,
        until: Instant,
        mut taken: oneshot::Receiver<oneshot::Sender<IdleSession>>,
    ) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reason = loop {
            tokio::select! {
                biased;
                taker = &mut taken => match taker {
                    Ok(taker) => {
                        // Who asked and is gone lets it end.
                        let _ = taker.send(idle);
                        return;
                    }
                    Err(_) => break "it has to make room",
                },
                _ = idle.session.exited() => break "it has ended",
                () = sleep_until(until) => break "its time is up",
                _ = looks.tick() => if Memory::now().is_scarce() { break "memory is scarce" },
            }
        };
        self.lock().entries.retain(|entry| entry.number != number);
        tracing::info!(reason, "an idle session is ended");
        idle.session.end(END_GRACE).await;
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    /// Notes the memory of a session and lets the oldest go until all use no more than `limit`.
    fn bound(&mut self, number: u64, memory: u64, limit: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) {
            entry.memory = memory;
        }
        while self.entries.len() > SESSION_LIMIT
            || self.entries.iter().map(|entry| entry.memory).sum::<u64>() > limit
        {
            self.entries.remove(0);
        }
    }
}

/// The memory of processes in bytes, what they share with others divided among all that share it.
fn memory_of(processes: &[u32]) -> u64 {
    let share = |pid: &u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        value_of(&rollup, "Pss:")
    };
    processes.iter().map(share).sum()
}

/// The value of a line like `Pss:   1234 kB`, in bytes.
fn value_of(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The memory of the host.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Memory {
    total: u64,
    available: u64,
    /// Percentage of the last ten seconds in which something waited for it.
    pressure: f64,
}

impl Memory {
    fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Memory::parse(&read("/proc/meminfo"), &read("/proc/pressure/memory"))
    }

    /// Of files like `/proc/meminfo` and `/proc/pressure/memory`, which not every kernel has.
    fn parse(information: &str, pressure: &str) -> Self {
        let waited = pressure.lines().find_map(|line| line.strip_prefix("some avg10="));
        let percentage = waited.and_then(|waited| waited.split(' ').next()?.parse().ok());
        Memory {
            total: value_of(information, "MemTotal:"),
            available: value_of(information, "MemAvailable:"),
            pressure: percentage.unwrap_or(0.0),
        }
    }

    fn is_scarce(self) -> bool {
        self.available < self.total / SCARCE_SHARE || self.pressure >= PRESSURE_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_scarce_when_little_is_left_or_something_waits_for_it() {
        let memory = |available: u64, pressure: &str| {
            let information =
                format!("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n");
            Memory::parse(&information, pressure)
        };
        let waited = |percentage: &str| {
            format!("some avg10={percentage} avg60=0.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0.00\n")
        };
        assert!(!memory(100, "").is_scarce());
        assert!(memory(99, "").is_scarce());
        assert!(!memory(500, &waited("9.99")).is_scarce());
        assert!(memory(500, &waited("10.00")).is_scarce());
        assert_eq!(memory(5, &waited("1.50")), Memory { total: 1_024_000, available: 5120, pressure: 1.5 });
    }

    #[test]
    fn the_oldest_go_first_when_there_is_too_much() {
        let mut list = List::default();
        let mut others = Vec::new();
        for number in 1..=3 {
            let (take, taken) = oneshot::channel();
            list.entries.push(Entry { number, user: None, memory: 0, take });
            others.push(taken);
        }
        let numbers = |list: &List| list.entries.iter().map(|entry| entry.number).collect::<Vec<_>>();
        list.bound(1, 40, 100);
        list.bound(2, 40, 100);
        assert_eq!(numbers(&list), [1, 2, 3]);
        list.bound(3, 40, 100);
        assert_eq!(numbers(&list), [2, 3]);
        assert!(others[0].try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        list.bound(3, 140, 100);
        assert!(list.entries.is_empty(), "one alone may be too much");
    }

    #[test]
    fn this_process_uses_memory() {
        let used = memory_of(&[std::process::id(), 0]);
        assert!((100 << 10..10 << 30).contains(&used), "{used}");
    }
}
