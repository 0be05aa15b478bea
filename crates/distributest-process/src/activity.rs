//! What the members of a tree are doing, for people who want to know why it hangs.
//!
//! The kernel knows little: whether a process runs or what it waits for. A language's runtime knows its stacks, and many
//! print them on a signal. Only a process that catches the signal is sent it, for others would die of it:
//!
//! - SIGSTKFLT, which no kernel sends and no program uses, so that whoever catches it does so for this very purpose;
//! - otherwise SIGQUIT, on which Go programs and Java virtual machines print the stacks of all their threads. Others
//!   that catch it leave, as interpreters of Ruby do, so a root that is still needed is spared it.

use std::fmt;
use std::fs;

use rustix::process::Signal;

use crate::members::send;
use crate::process_table::Process;
use crate::tree::{ProcessTree, StopError};

/// A member of a tree and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Its pid.
    pub pid: u32,
    /// Such as `running`, or `sleeping in do_wait` where the kernel says what for.
    pub state: String,
    /// Its command line on one line, cut to 200 characters, or its name in brackets when it has none.
    pub command: String,
}

impl fmt::Display for Activity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.pid, self.state, self.command)
    }
}

impl ProcessTree {
    /// What every member is doing at this moment.
    ///
    /// # Errors
    ///
    /// [`StopError::List`].
    pub fn activities(&self) -> Result<Vec<Activity>, StopError> {
        Ok(self.members()?.iter().filter_map(activity).collect())
    }

    /// Asks the members that can do so to print the stacks of their threads, wherever they print them to, and returns
    /// whether there are any. Some end after that, but not the root if it is `needed`.
    ///
    /// # Errors
    ///
    /// [`StopError::List`].
    pub fn ask_for_stacks(&self, needed: bool) -> Result<bool, StopError> {
        let mut asked = false;
        for process in self.members()? {
            let caught = caught_signals(&process);
            let catches = |signal: &Signal| caught & (1 << (signal.as_raw() - 1)) != 0;
            let spared = needed && process.pid == self.root();
            let signals = if spared { &[Signal::STKFLT][..] } else { &[Signal::STKFLT, Signal::QUIT] };
            if let Some(signal) = signals.iter().copied().find(catches) {
                send([&process], signal);
                asked = true;
            }
        }
        Ok(asked)
    }
}

/// `None` when it has ended.
fn activity(process: &Process) -> Option<Activity> {
    let status = read(process, "status");
    // "State:  S (sleeping)"
    let state = status.lines().find_map(|line| line.strip_prefix("State:"))?;
    let state = state.split_once('(').map_or(state, |(_, word)| word.trim_end_matches(')')).trim();
    let waits_in = read(process, "wchan");
    let state = match waits_in.trim() {
        "" | "0" => state.to_owned(),
        function => format!("{state} in {function}"),
    };
    let activity =
        Activity { pid: process.pid.as_raw_pid().unsigned_abs(), state, command: process.command() };
    Some(activity).filter(|activity| !activity.command.is_empty())
}

/// The signals a process has a handler for, the first in the lowest bit.
fn caught_signals(process: &Process) -> u64 {
    let status = read(process, "status");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Empty when it has ended.
fn read(process: &Process, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", process.pid.as_raw_pid())).unwrap_or_default()
}
