//! Turns a freshly forked child into the root of a tree, between fork and exec.
//!
//! Other threads of the parent may have held any lock at the moment of the fork, so here only async-signal-safe
//! calls are allowed: nothing allocates, and everything that can be looked up has been before.
//!
//! The standard library hands the error of this stage to the parent as one number. The step that failed is packed
//! into it beside the cause, so that a directory that does not exist is not taken for a missing program.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, c_uint};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, chdir, getpid, getppid, getrlimit, set_child_subreaper,
    set_parent_process_death_signal, setrlimit, setsid,
};

use crate::mark::Mark;
use crate::spawn::CONTROL_DESCRIPTOR;

/// The errno of a failed step stands in the low bits.
const STEP_SHIFT: u32 = 16;

/// What is done to the child, everything looked up and opened already.
pub(crate) struct Preparation {
    /// The process that spawns.
    pub(crate) parent: Pid,
    pub(crate) directory: CString,
    /// The `cgroup.procs` of the cgroup to join.
    pub(crate) cgroup: Option<File>,
    pub(crate) mark: Option<Mark>,
    pub(crate) credentials: Option<Credentials>,
    /// The child's end of the control socket, with a descriptor number of at least [`CONTROL_DESCRIPTOR`].
    pub(crate) control: Option<OwnedFd>,
}

/// Whom to become.
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Detach = 1,
    JoinCgroup = 2,
    BecomeUser = 3,
    EnterDirectory = 4,
    PassDescriptor = 5,
    /// The fork itself, or exec.
    Execute = 0,
}

/// Arranges for the preparation to be carried out in the child.
pub(crate) fn prepare(command: &mut Command, preparation: Preparation) {
    let run = move || {
        preparation
            .run()
            .map_err(|(step, errno)| io::Error::from_raw_os_error(((step as i32) << STEP_SHIFT) | errno))
    };
    // SAFETY: `run` makes only system calls and the C library's async-signal-safe functions, allocates nothing
    // (`from_raw_os_error` only keeps the number), takes no lock and touches no memory but its own.
    unsafe {
        command.pre_exec(run);
    }
}

/// Makes what `command` starts the leader of a session of its own, for processes that belong to a tree but are none
/// of its roots: it starts with every signal at its default, has no descriptors but standard input and outputs, and
/// is killed when the thread that starts it dies.
///
/// Its output and its end are the caller's; its tree is that of the caller.
pub fn lead_session(command: &mut Command) {
    let parent = getpid();
    let run = move || {
        setsid()?;
        reset_signals();
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(parent) {
            // It died before it could be watched, and nobody is left to report to.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(close_on_exec_from(libc::STDERR_FILENO + 1)?)
    };
    // SAFETY: `run` makes only system calls and the C library's async-signal-safe functions, allocates nothing (its
    // errors are numbers), takes no lock and touches no memory but its own.
    unsafe {
        command.pre_exec(run);
    }
}

/// Takes apart the error of a spawn: where it failed and why.
pub(crate) fn failed_step(error: io::Error) -> (Step, io::Error) {
    let Some(number) = error.raw_os_error() else { return (Step::Execute, error) };
    let failed = number >> STEP_SHIFT;
    let steps =
        [Step::Detach, Step::JoinCgroup, Step::BecomeUser, Step::EnterDirectory, Step::PassDescriptor];
    match steps.into_iter().find(|step| *step as i32 == failed) {
        Some(step) => (step, io::Error::from_raw_os_error(number & ((1 << STEP_SHIFT) - 1))),
        None => (Step::Execute, error),
    }
}

/// Makes sure that this process learns how its children end. Where its own parent had SIGCHLD ignored, so has it,
/// and then the kernel throws exit statuses away.
pub(crate) fn keep_exit_statuses() {
    // SAFETY: both structures are plain data for which all zeroes is a valid value (default action, no flags, empty
    // mask), and both pointers are valid for the calls.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        let queried = libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut current);
        if queried == 0 && current.sa_sigaction == libc::SIG_IGN {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGCHLD, &default, std::ptr::null_mut());
        }
    }
}

impl Preparation {
    fn run(&self) -> Result<(), (Step, i32)> {
        let at = |step: Step| move |errno: Errno| (step, errno.raw_os_error());
        setsid().map_err(at(Step::Detach))?;
        reset_signals();
        if let Some(cgroup) = &self.cgroup {
            rustix::io::write(cgroup, b"0").map_err(at(Step::JoinCgroup))?;
        }
        if !self.mark.is_some_and(set_mark) {
            // Its orphans could not be told from those of other trees, so they stay below the root while it lives.
            set_child_subreaper(Some(getpid())).map_err(at(Step::Detach))?;
        }
        if let Some(credentials) = &self.credentials {
            credentials.become_user().map_err(at(Step::BecomeUser))?;
        }
        // After the change of user, which clears it.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Detach))?;
        if getppid() != Some(self.parent) {
            // It died before it could be watched, and nobody is left to report to.
            return Err((Step::Detach, libc::ESRCH));
        }
        chdir(self.directory.as_c_str()).map_err(at(Step::EnterDirectory))?;
        self.pass_descriptors().map_err(at(Step::PassDescriptor))
    }

    /// Puts the control socket in its place and lets exec close everything else but standard input and outputs.
    fn pass_descriptors(&self) -> Result<(), Errno> {
        let mut first_closed = CONTROL_DESCRIPTOR;
        if let Some(control) = &self.control {
            first_closed += 1;
            // SAFETY: plain system calls on a descriptor this process owns. In the parent, CONTROL_DESCRIPTOR was in
            // use when the fork was made (see `spawn`), so it is not the standard library's pipe to report failures,
            // and what else it is in this child, exec would have closed.
            let done = unsafe {
                if control.as_raw_fd() == CONTROL_DESCRIPTOR {
                    libc::fcntl(CONTROL_DESCRIPTOR, libc::F_SETFD, 0)
                } else {
                    libc::dup2(control.as_raw_fd(), CONTROL_DESCRIPTOR)
                }
            };
            check(done)?;
        }
        close_on_exec_from(first_closed)
    }
}

impl Credentials {
    /// Groups first, while there is the right to set them; user last, which gives that right up for good.
    fn become_user(&self) -> Result<(), Errno> {
        // SAFETY: plain system calls; the pointer and the length are those of a live slice.
        unsafe {
            check(libc::setgroups(self.groups.len(), self.groups.as_ptr()))?;
            check(libc::setresgid(self.gid, self.gid, self.gid))?;
            check(libc::setresuid(self.uid, self.uid, self.uid))
        }
    }
}

/// Returns whether the mark is set; some sandboxes refuse.
fn set_mark(mark: Mark) -> bool {
    let limit = Some(mark.limit());
    setrlimit(Resource::Rttime, Rlimit { current: limit, maximum: limit }).is_ok()
}

/// Gives every signal its default action and unblocks them all.
fn reset_signals() {
    /// The kernel's signal numbers end here, and its signal sets are that many bits.
    const SIGNALS: usize = 64;
    // Whatever its layout, the kernel's structure of all zeroes means: default action, no flags, empty mask.
    let default = [0_u64; 8];
    // SAFETY: plain system calls that read from live memory, `default` being larger than the structure on every
    // architecture and an all-zero sigset_t the empty set. The C library's sigaction would refuse the two signals
    // it keeps for itself, which this process may have inherited as ignored. Those whose action can't be changed
    // are refused, which does no harm.
    unsafe {
        for signal in 1..=SIGNALS {
            let nothing = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, SIGNALS / 8);
        }
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Marks every descriptor from `first` on to be closed by exec. They are not closed at once: one of them is the
/// standard library's, to report a failed exec.
fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let (from, to) = (first.unsigned_abs(), c_uint::MAX);
    // SAFETY: a plain system call that takes three integers.
    let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return Ok(());
    }
    // Before Linux 5.11: one by one. Numbers that are not in use are refused, which does no harm.
    let end = getrlimit(Resource::Nofile).current.and_then(|limit| c_int::try_from(limit).ok());
    for descriptor in first..end.unwrap_or(1 << 20) {
        // SAFETY: sets a flag of a descriptor, by number.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// The error of a C library call that returned `returned`.
fn check(returned: c_int) -> Result<(), Errno> {
    if returned >= 0 {
        return Ok(());
    }
    // SAFETY: the pointer to this thread's errno is always valid.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_survives_the_way_through_the_standard_library() {
        let mut command = Command::new("/bin/true");
        let preparation = Preparation {
            parent: getpid(),
            directory: c"/no such directory".into(),
            cgroup: None,
            mark: None,
            credentials: None,
            control: None,
        };
        prepare(&mut command, preparation);
        let (step, cause) = failed_step(command.spawn().unwrap_err());
        assert_eq!((step, cause.raw_os_error()), (Step::EnterDirectory, Some(libc::ENOENT)));
    }

    #[test]
    fn other_errors_are_those_of_fork_and_exec() {
        let (step, cause) = failed_step(io::Error::from_raw_os_error(libc::EAGAIN));
        assert_eq!((step, cause.raw_os_error()), (Step::Execute, Some(libc::EAGAIN)));
        let (step, cause) = failed_step(io::ErrorKind::InvalidInput.into());
        assert_eq!((step, cause.kind()), (Step::Execute, io::ErrorKind::InvalidInput));
    }

    #[test]
    fn a_child_whose_parent_is_already_gone_does_not_start() {
        let mut command = Command::new("/bin/true");
        let preparation = Preparation {
            parent: Pid::INIT,
            directory: c"/".into(),
            cgroup: None,
            mark: None,
            credentials: None,
            control: None,
        };
        prepare(&mut command, preparation);
        let (step, cause) = failed_step(command.spawn().unwrap_err());
        assert_eq!((step, cause.raw_os_error()), (Step::Detach, Some(libc::ESRCH)));
    }
}
