//! Lists the members of a tree and kills them.
//!
//! A listing takes time while processes come and go: a child may be handed to a new parent that has already been
//! looked at. So a listing counts once it came out the same twice in a row, zombies included, since a parent's end
//! is what moves its children; or once it came out empty and the kernel says that the tree's cgroup is, too.

use std::collections::HashSet;
use std::io;

use rustix::process::{Pid, Signal};

use crate::cgroup::Cgroup;
use crate::mark::Mark;
use crate::process_table::{Process, children};
use crate::roots::Roots;

/// How often a listing is repeated in the hope that it comes out the same twice. In a tree that never holds still
/// (a fork bomb) the last one has to do; there, "nothing is left" is not what it says.
const LISTING_ROUNDS: usize = 16;

/// How often newcomers are looked for and stopped before the kill. Each round stops everything it sees, so only
/// what was forked during a round is left for the next.
const FREEZE_ROUNDS: usize = 64;

/// Where to look for a tree's members.
pub(crate) struct Membership<'a> {
    /// The root while it has not been waited for, zombie or not.
    pub(crate) root: Option<Pid>,
    /// Whether the root counts as a member.
    pub(crate) with_root: bool,
    /// One that does not count as a member.
    pub(crate) spared: Option<Pid>,
    /// The pid the root has or had; its session's number.
    pub(crate) session: Pid,
    pub(crate) mark: Option<Mark>,
    pub(crate) cgroup: Option<&'a Cgroup>,
}

/// The living members of a tree at some time.
pub(crate) struct Listing {
    pub(crate) living: Vec<Process>,
    /// It came out the same twice in a row, or its cgroup agrees that there are none.
    pub(crate) is_certain: bool,
}

impl Membership<'_> {
    /// The living members.
    ///
    /// Orphans of this tree that have died as this process's children are waited for on the way.
    pub(crate) fn list(&self) -> io::Result<Listing> {
        let mut previous = self.list_once()?;
        // Two witnesses that do not depend on each other.
        if previous.is_empty() && self.root.is_none() && self.cgroup.is_some_and(Cgroup::is_deserted) {
            return Ok(Listing { living: Vec::new(), is_certain: true });
        }
        for _ in 0..LISTING_ROUNDS {
            let current = self.list_once()?;
            if current == previous {
                return Ok(Listing { living: living(previous), is_certain: true });
            }
            previous = current;
        }
        Ok(Listing { living: living(previous), is_certain: false })
    }

    /// Sends SIGKILL to every member and returns those it was sent to. None does not mean that none are left, only
    /// that one listing found none.
    pub(crate) fn kill(&self) -> io::Result<Vec<Process>> {
        freeze_and_kill(|| self.list_once())
    }

    /// One listing, sorted, zombies included.
    fn list_once(&self) -> io::Result<Vec<Process>> {
        let mut found = self.orphans()?;
        if let Some(root) = self.root {
            found.extend(children(root)?);
        }
        let mut found = add_descendants(found)?;
        if let Some(cgroup) = self.cgroup {
            found.extend(cgroup.processes()?);
        }
        found.retain(|process| Some(process.pid) != self.root && Some(process.pid) != self.spared);
        if let Some(root) = self.root.filter(|_| self.with_root) {
            found.extend(Process::read(root)?);
        }
        found.sort_unstable_by_key(|process| process.pid.as_raw_pid());
        found.dedup_by(|one, other| one.is_same(other));
        Ok(found)
    }

    /// The tree's processes that became children of this process when their parents died.
    fn orphans(&self) -> io::Result<Vec<Process>> {
        let mut orphans = Vec::new();
        for child in Roots::lock().other_children()? {
            let marked = match self.mark {
                Some(mark) => mark.covers(child.real_time_limit()?),
                None => false,
            };
            if marked || child.session == Some(self.session) {
                if child.zombie {
                    child.reap();
                } else {
                    orphans.push(child);
                }
            }
        }
        Ok(orphans)
    }
}

/// Sends SIGKILL to every process that is listed and alive, and returns those it was sent to.
///
/// They are stopped first, newcomers too, until no more appear. One that is stopped starts nothing, does not restart
/// what it sees dying, and keeps its place where a fork bomb has used up all there are.
pub(crate) fn freeze_and_kill(list: impl Fn() -> io::Result<Vec<Process>>) -> io::Result<Vec<Process>> {
    let mut victims = Vec::new();
    let mut stopped = HashSet::new();
    for _ in 0..FREEZE_ROUNDS {
        victims = living(list()?);
        let newcomers: Vec<_> = victims.iter().filter(|process| stopped.insert(process.key())).collect();
        if newcomers.is_empty() {
            break;
        }
        send(newcomers, Signal::STOP);
    }
    send(&victims, Signal::KILL);
    Ok(victims)
}

/// Adds the children of these processes, their children, and so on.
pub(crate) fn add_descendants(mut processes: Vec<Process>) -> io::Result<Vec<Process>> {
    let mut next = 0;
    while let Some(process) = processes.get(next) {
        if !process.zombie {
            processes.extend(children(process.pid)?);
        }
        next += 1;
    }
    Ok(processes)
}

fn living(mut processes: Vec<Process>) -> Vec<Process> {
    processes.retain(|process| !process.zombie);
    processes
}

/// Sends a signal to each; those that may not be signalled (a test started a program of another user) are named in
/// the log and, if they stay, in the result of the stop.
pub(crate) fn send<'a>(processes: impl IntoIterator<Item = &'a Process>, signal: Signal) {
    for process in processes {
        if let Err(error) = process.signal(signal) {
            tracing::warn!(pid = process.pid.as_raw_pid(), ?signal, %error, "failed to signal a process");
        }
    }
}
