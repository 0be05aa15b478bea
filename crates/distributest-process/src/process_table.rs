//! Reads the kernel's process table, `/proc`, and sends signals to what was read.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};

use crate::watch::Watch;

/// The longest command line shown to people, in characters.
const COMMAND_LIMIT: usize = 200;

/// One process as it was when it was read. Equal values are the same process in the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// `None` for those without a parent in this pid namespace.
    pub(crate) parent: Option<Pid>,
    /// `None` for those whose session's leader is outside this pid namespace.
    pub(crate) session: Option<Pid>,
    /// Ended, but not yet waited for.
    pub(crate) zombie: bool,
    /// In clock ticks since boot. With the pid it names one process for good.
    start_time: u64,
}

impl Process {
    /// Reads one process; `None` when there is none with this pid.
    pub(crate) fn read(pid: Pid) -> io::Result<Option<Process>> {
        match std::fs::read(format!("/proc/{}/stat", pid.as_raw_pid())) {
            Ok(line) => Process::parse(pid, &line)
                .map(Some)
                .ok_or_else(|| io::Error::other(format!("/proc/{}/stat is malformed", pid.as_raw_pid()))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(pid: Pid, line: &[u8]) -> Option<Process> {
        // The command's name stands in parentheses and may itself contain any character.
        let rest = &line[line.iter().rposition(|byte| *byte == b')')? + 1..];
        let fields: Vec<&str> = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
        // proc(5) counts from 1 and the state is its field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        // A leader that called pthread_exit is in state Z too while its other threads live on.
        let threads: i64 = field(20)?.parse().ok()?;
        Some(Process {
            pid,
            // One that is leaving the table at this moment has parent 0 and session -1.
            parent: parse_pid(field(4)?),
            session: parse_pid(field(6)?),
            zombie: matches!(field(3)?, "Z" | "X") && threads <= 1,
            start_time: field(22)?.parse().ok()?,
        })
    }

    /// Whether both are the same process, maybe in different states.
    pub(crate) fn is_same(&self, other: &Process) -> bool {
        self.pid == other.pid && self.start_time == other.start_time
    }

    /// What identifies the process for good.
    pub(crate) fn key(&self) -> (Pid, u64) {
        (self.pid, self.start_time)
    }

    /// Opens a handle on exactly this process; `None` when it has ended and been waited for.
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        let handle = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        Ok(self.is_present()?.then_some(handle))
    }

    fn is_present(&self) -> io::Result<bool> {
        Ok(Process::read(self.pid)?.is_some_and(|now| self.is_same(&now)))
    }

    /// Sends a signal to exactly this process. One that has ended needs none: that is no error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match self.open() {
            Ok(Some(handle)) => pidfd_send_signal(handle, signal),
            Ok(None) => return Ok(()),
            // A fork bomb may have used up the descriptors; killing it must work nevertheless.
            Err(_) => kill_process(self.pid, signal),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        if let Some(handle) = self.open()? {
            Watch::new(handle)?.ended().await;
        }
        Ok(())
    }

    /// Waits until the process has ended or the time is up, holding up the thread.
    pub(crate) fn wait_blocking(&self, deadline: Instant) -> io::Result<()> {
        let Some(handle) = self.open()? else { return Ok(()) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = left.try_into().map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
                // A signal for this process, most likely to say that a child has ended.
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Waits for a zombie child of this process so that it leaves the process table.
    pub(crate) fn reap(&self) {
        // The only failure is that somebody else has already waited for it.
        let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
    }

    /// The command line for people, on one line and cut to a sensible length; for a process without one (it may
    /// have overwritten it) its name in brackets. Empty when the process is gone.
    pub(crate) fn command(&self) -> String {
        let read =
            |file| std::fs::read(format!("/proc/{}/{file}", self.pid.as_raw_pid())).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace(|c: char| c.is_control(), " ");
        let line = line.trim();
        if !line.is_empty() {
            return line.chars().take(COMMAND_LIMIT).collect();
        }
        match String::from_utf8_lossy(&read("comm")).trim() {
            "" => String::new(),
            name => format!("[{name}]"),
        }
    }

    /// The hard limit on uninterrupted real-time CPU time, `None` when unlimited or when the process is gone.
    pub(crate) fn real_time_limit(&self) -> io::Result<Option<u64>> {
        match std::fs::read_to_string(format!("/proc/{}/limits", self.pid.as_raw_pid())) {
            Ok(table) => Ok(parse_real_time_limit(&table)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn parse_real_time_limit(table: &str) -> Option<u64> {
    let columns = table.lines().find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    columns.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether an error on a file below `/proc/PID` says that the process is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// The children of this very process, whatever thread made them, whose pids are wanted.
pub(crate) fn own_children(is_wanted: impl Fn(&Pid) -> bool) -> io::Result<Vec<Process>> {
    wanted_children(getpid(), is_wanted)
}

/// The children of a process, zombies included; none when it is gone.
pub(crate) fn children(parent: Pid) -> io::Result<Vec<Process>> {
    wanted_children(parent, |_| true)
}

fn wanted_children(parent: Pid, is_wanted: impl Fn(&Pid) -> bool) -> io::Result<Vec<Process>> {
    // Kernels may be built without these files.
    static CHILDREN_FILES: OnceLock<bool> = OnceLock::new();
    let candidates = if *CHILDREN_FILES.get_or_init(|| Path::new("/proc/thread-self/children").exists()) {
        listed_children(parent)?
    } else {
        all_pids()?
    };
    let mut found = Vec::new();
    for pid in candidates.into_iter().filter(is_wanted) {
        // Read after the list: whoever got the pid of a child that is gone since has another parent.
        found.extend(Process::read(pid)?.filter(|process| process.parent == Some(parent)));
    }
    Ok(found)
}

fn listed_children(parent: Pid) -> io::Result<Vec<Pid>> {
    if parent == getpid()
        && let Some(pids) = OwnChildren::list(parent)
    {
        return Ok(pids);
    }
    let mut pids = Vec::new();
    let threads = match std::fs::read_dir(format!("/proc/{}/task", parent.as_raw_pid())) {
        Ok(threads) => threads,
        Err(error) if is_gone(&error) => return Ok(pids),
        Err(error) => return Err(error),
    };
    for thread in threads {
        let list = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("children")));
        match list {
            Ok(list) => pids.extend(list.split_ascii_whitespace().filter_map(parse_pid)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pids)
}

/// Where the kernel lists this process's children, held open: they are asked for several times for each test file.
struct OwnChildren {
    /// Of which process. A fork of it has children of its own.
    parent: Pid,
    /// The directory of its threads.
    threads: File,
    /// The children of its first thread.
    of_first_thread: File,
}

impl OwnChildren {
    /// The children of this process, whose number is `parent`, while it has a single thread. `None` where there are several,
    /// each of which has children.
    fn list(parent: Pid) -> Option<Vec<Pid>> {
        static OPEN: Mutex<Option<OwnChildren>> = Mutex::new(None);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|own| own.parent != parent) {
            *open = Some(OwnChildren::open(parent).ok()?);
        }
        let own = open.as_ref()?;
        // Itself, the directory above it, and one for each thread.
        if own.threads.metadata().ok()?.nlink() != 3 {
            return None;
        }
        read_pids(&own.of_first_thread).ok()
    }

    fn open(parent: Pid) -> io::Result<OwnChildren> {
        let threads = format!("/proc/{}/task", parent.as_raw_pid());
        let of_first_thread = File::open(format!("{threads}/{}/children", parent.as_raw_pid()))?;
        Ok(OwnChildren { parent, threads: File::open(threads)?, of_first_thread })
    }
}

/// Reads a list of pids from its beginning, wherever it was read before.
fn read_pids(file: &File) -> io::Result<Vec<Pid>> {
    let (mut list, mut piece) = (Vec::new(), [0; 4096]);
    // The kernel gives as many whole numbers as fit into a page, so less than was asked for is not the end.
    loop {
        match file.read_at(&mut piece, list.len() as u64)? {
            0 => break,
            count => list.extend_from_slice(&piece[..count]),
        }
    }
    let list = String::from_utf8_lossy(&list);
    Ok(list.split_ascii_whitespace().filter_map(parse_pid).collect())
}

/// Every process there is.
pub(crate) fn all_pids() -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(parse_pid));
    }
    Ok(pids)
}

/// Reads a pid; `None` for anything else, 0 included.
pub(crate) fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|raw| *raw > 0).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let line = b"42 (evil) Z 9 9 9\n(x) S 7 42 43 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2\n";
        let pid = Pid::from_raw(42).unwrap();
        let process = Process::parse(pid, line).unwrap();
        assert_eq!((process.parent, process.session), (Pid::from_raw(7), Pid::from_raw(43)));
        assert_eq!((process.zombie, process.start_time), (false, 12345));
    }

    #[test]
    fn a_process_that_leaves_the_table_has_neither_parent_nor_session() {
        let line = b"42 (x) X 0 -1 -1 0 -1 4 1 2 3 4 5 6 7 8 20 0 0 0 12345 1 2";
        let process = Process::parse(Pid::from_raw(42).unwrap(), line).unwrap();
        assert_eq!((process.parent, process.session), (None, None));
    }

    #[test]
    fn a_leader_without_its_threads_is_no_zombie_while_they_live() {
        let line = |threads| format!("42 (x) Z 7 42 43 0 -1 4 1 2 3 4 5 6 7 8 20 0 {threads} 0 12345 1 2");
        let pid = Pid::from_raw(42).unwrap();
        assert!(!Process::parse(pid, line(3).as_bytes()).unwrap().zombie);
        assert!(Process::parse(pid, line(1).as_bytes()).unwrap().zombie);
    }

    #[test]
    fn more_children_than_a_page_lists_are_all_read() {
        let mut all: Vec<_> = (0..1000).map(|_| Command::new("sleep").arg("100").spawn()).collect();
        let listed = File::open("/proc/thread-self/children").and_then(|file| read_pids(&file));
        // Before anything is looked at, so that none outlives a failure.
        for child in all.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let started: Vec<_> = all.iter().map(|child| Pid::from_child(child.as_ref().unwrap())).collect();
        assert_eq!(listed.unwrap(), started);
    }

    #[test]
    fn both_ways_to_list_children_know_them() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        for candidates in [listed_children(getpid()).unwrap(), all_pids().unwrap()] {
            assert_eq!(candidates.iter().filter(|candidate| **candidate == pid).count(), 1);
        }
        let found = own_children(|candidate| *candidate == pid).unwrap();
        assert_eq!(found.len(), 1);
        assert!(!found[0].zombie);
        assert_eq!(
            own_children(|candidate| *candidate != pid).unwrap().len(),
            children(getpid()).unwrap().len() - 1
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(children(getpid()).unwrap().iter().all(|process| process.pid != pid));
        assert_eq!(Process::read(pid).unwrap(), None);
    }

    #[test]
    fn a_signal_is_not_sent_to_whoever_got_the_pid() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let actual = Process::read(Pid::from_child(&child)).unwrap().unwrap();
        let former = Process { start_time: actual.start_time - 1, ..actual };
        former.signal(Signal::KILL).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        actual.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        actual.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn the_real_time_limit_is_the_hard_one() {
        let table = "Limit  Soft Limit  Hard Limit  Units\n\
                     Max realtime priority     0         0        \n\
                     Max realtime timeout      200000    300000      us        \n";
        assert_eq!(parse_real_time_limit(table), Some(300_000));
        let unlimited = "Max realtime timeout      unlimited            unlimited            us\n";
        assert_eq!(parse_real_time_limit(unlimited), None);
    }
}
