//! Outlives a process that owns trees, to kill what it leaves behind.
//!
//! An owner that is killed can't clean up, and its roots' death takes only the roots along. So [`guard`] splits the
//! process in two before it does anything else: the child goes on as the owner, the parent becomes its guardian. It
//! is the subreaper above the owner, does nothing but pass signals on, and when the owner has ended, for whatever
//! reason, it kills everything below itself. Its end is certain: nothing is left when the kernel says that it has no
//! children any more.
//!
//! Nothing saves the trees' deeper members from SIGKILL of guardian and owner at the same moment, except a cgroup
//! whose own owner (systemd) empties it. The guardian takes a name of its own, so that `killall` of the program's
//! name misses it.

use std::io;
use std::process::exit;

use libc::{c_int, siginfo_t, sigset_t};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_parent_process_death_signal, wait,
};
use thiserror::Error;

use crate::child::keep_exit_statuses;
use crate::exit::Exit;
use crate::members::{add_descendants, freeze_and_kill};
use crate::process_table::children;
use crate::spawn::become_subreaper;

/// What a guardian is called in process lists; at most 15 bytes.
const NAME: &std::ffi::CStr = c"tree-guardian";

/// The signals a guardian passes on when a process sends them. What the kernel sends on behalf of a terminal, it
/// sends to the owner as well.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

/// Why a process could not be given a guardian.
#[derive(Debug, Error)]
pub enum GuardError {
    /// It has more than one thread already; only the calling one would go on.
    #[error("give this process a guardian: it has {threads} threads already")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// The operating system refused.
    #[error("give this process a guardian")]
    System {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Gives the calling process a guardian, which kills everything it leaves behind when it ends, even by SIGKILL.
///
/// Returns in a new process, the owner: a child of the process that called, with another pid. Call it first thing in
/// `main` (after a change of user, though, which would undo it), before there are threads and a runtime. The
/// caller's pid is now the guardian's: it passes SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 on, ends when
/// nothing is left, and has the owner's exit status then, or 128 + N when signal N ended it. The owner dies with its
/// guardian. Of descriptors, the guardian keeps only standard error open.
///
/// # Errors
///
/// [`GuardError`]; the process goes on unguarded then.
pub fn guard() -> Result<(), GuardError> {
    let system = |source| GuardError::System { source };
    let threads = std::fs::read_dir("/proc/self/task").map_err(system)?.count();
    if threads != 1 {
        return Err(GuardError::Threads { threads });
    }
    become_subreaper().map_err(system)?;
    keep_exit_statuses();
    let guardian = getpid();
    let previous_mask = block_all_signals();
    // SAFETY: there is only this thread, so no lock is held by another and the child is as good as the parent.
    let forked = unsafe { libc::fork() };
    if let Some(owner) = Pid::from_raw(forked).filter(|_| forked > 0) {
        watch_over(owner);
    }
    let failure = io::Error::last_os_error();
    set_mask(&previous_mask);
    if forked < 0 {
        return Err(system(failure));
    }
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| system(errno.into()))?;
    if getppid() != Some(guardian) {
        exit(128 + Signal::KILL.as_raw());
    }
    Ok(())
}

/// The guardian's life.
fn watch_over(owner: Pid) -> ! {
    leave_the_owners_things();
    let status = loop {
        match next_signal() {
            Some((signal, by_process)) if by_process && PASSED_ON.contains(&signal) => {
                // Not waited for yet, so the pid is its own.
                let _ = kill_process(owner, signal);
            }
            _ => {}
        }
        if let Some(status) = reap_until(owner) {
            break status;
        }
    };
    clear();
    exit(match status {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    })
}

/// Waits for every child that has ended; returns how the owner did if it is among them.
fn reap_until(owner: Pid) -> Option<Exit> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == owner {
            return Exit::from_wait_status(status);
        }
    }
    None
}

/// Kills everything below this process; returns when nothing is left.
fn clear() {
    loop {
        // When /proc can't be read, what is left is waited for at least.
        let _ = freeze_and_kill(|| add_descendants(children(getpid())?));
        if matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {
            return;
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

/// Takes another name and closes the descriptors, for whoever reads them waits for their end.
fn leave_the_owners_things() {
    // SAFETY: plain system calls; the name is a C string; no descriptor closed here is used by this process again,
    // for it runs nothing but the functions of this module from now on.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        for descriptor in [0, 1] {
            libc::close(descriptor);
            // The lowest free number is the one just closed.
            libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        }
        if libc::syscall(libc::SYS_close_range, 3, c_int::MAX, 0) != 0 {
            let end = libc::sysconf(libc::_SC_OPEN_MAX).try_into().unwrap_or(1 << 20);
            for descriptor in 3..end {
                libc::close(descriptor);
            }
        }
    }
}

/// Waits for a signal; returns it and whether a process sent it. `None` for those that are of no interest.
fn next_signal() -> Option<(Signal, bool)> {
    // SAFETY: all pointers are to live memory; sigwaitinfo fills the information in when it returns a signal.
    unsafe {
        let mut all: sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        let mut information: siginfo_t = std::mem::zeroed();
        let number = libc::sigwaitinfo(&all, &mut information);
        Some((Signal::from_named_raw(number)?, information.si_code <= 0))
    }
}

fn block_all_signals() -> sigset_t {
    // SAFETY: all pointers are to live memory, and sigfillset and sigprocmask fill in what they are given.
    unsafe {
        let mut all: sigset_t = std::mem::zeroed();
        let mut previous: sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut previous);
        previous
    }
}

fn set_mask(mask: &sigset_t) {
    // SAFETY: the pointer is to live memory.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}
