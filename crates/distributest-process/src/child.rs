//! Turns a process that has just been made into the root of a tree, and executes its program.
//!
//! It has the memory of the process that made it, which goes on meanwhile ([`crate::launch`]). So what is done here leaves no
//! trace in memory but the error it reports. It runs on a stack of its own with all signals blocked; other threads may
//! hold any lock; so only system calls are allowed, nothing allocates, and everything that can be looked up has been
//! before. They are made without the C library, whose place for a call's error is that of the thread which goes on, and
//! which carries out those that change the user in all threads of a process.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_char, c_int, c_uint};
use rustix::process::{Pid, getpid};
use syscalls::{Errno, Sysno, syscall};

use crate::cgroup::Door;
use crate::mark::Mark;
use crate::spawn::CONTROL_DESCRIPTOR;

/// What runs a script that names no interpreter, as execvp(3) does it.
pub(crate) const SHELL: &CStr = c"/bin/sh";

/// What is done to the child, everything looked up and opened already.
pub(crate) struct Preparation {
    /// The process that spawns.
    pub(crate) parent: Pid,
    pub(crate) directory: CString,
    /// The way into the cgroup to be in.
    pub(crate) cgroup: Option<Arc<Door>>,
    pub(crate) mark: Option<Mark>,
    pub(crate) credentials: Option<Credentials>,
    /// The child's end of the control socket: a descriptor with a number of at least [`CONTROL_DESCRIPTOR`].
    pub(crate) control: Option<RawFd>,
    /// What becomes its standard input, output and error; each with a number above those.
    pub(crate) standard: [RawFd; 3],
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
    /// Making the process, or exec.
    Execute = 6,
}

/// Where the child says what failed, and why.
#[derive(Default)]
pub(crate) struct FailedStep(AtomicU64);

impl FailedStep {
    pub(crate) fn set(&self, step: Step, errno: i32) {
        self.0.store((step as u64) << u32::BITS | u64::from(errno.unsigned_abs()), Ordering::Release);
    }

    /// Takes back what was set.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// The step and the error's number; `None`: nothing failed.
    pub(crate) fn get(&self) -> Option<(Step, i32)> {
        let steps = [
            Step::Detach,
            Step::JoinCgroup,
            Step::BecomeUser,
            Step::EnterDirectory,
            Step::PassDescriptor,
            Step::Execute,
        ];
        let written = self.0.load(Ordering::Acquire);
        let step = steps.into_iter().find(|step| *step as u64 == written >> u32::BITS)?;
        Some((step, i32::try_from(written & u64::from(u32::MAX)).unwrap_or_default()))
    }
}

/// A program to execute: pointers to strings, and to lists of such that end with a null pointer.
pub(crate) struct Program {
    pub(crate) path: *const c_char,
    pub(crate) arguments: Vec<*const c_char>,
    /// The arguments of the shell that runs the program if it is a script without an interpreter: the first place is the
    /// shell's name, the second the program's path.
    pub(crate) script_arguments: Vec<*const c_char>,
    pub(crate) environment: Vec<*const c_char>,
}

impl Program {
    /// Executes the program; returns why it can't.
    pub(crate) fn execute(&self) -> i32 {
        let execute = |path: *const c_char, arguments: &[*const c_char]| {
            // SAFETY: every pointer is to a string or to a list of such pointers that ends with a null pointer, and all of
            // them live as long as this process has this memory.
            let done =
                unsafe { syscall!(Sysno::execve, path, arguments.as_ptr(), self.environment.as_ptr()) };
            done.err().map_or(0, Errno::into_raw)
        };
        match execute(self.path, &self.arguments) {
            libc::ENOEXEC => execute(SHELL.as_ptr(), &self.script_arguments),
            errno => errno,
        }
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
        let prepare = || {
            lead_own_session()?;
            reset_signals();
            die_with(parent)?;
            close_on_exec_from(libc::STDERR_FILENO + 1)
        };
        prepare().map_err(|errno: Errno| io::Error::from_raw_os_error(errno.into_raw()))
    };
    // SAFETY: `run` makes only system calls, allocates nothing (its errors are numbers), takes no lock and touches no
    // memory but its own.
    unsafe {
        command.pre_exec(run);
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
    /// Does everything but execute. `joins`: the cgroup, in which it is not yet.
    ///
    /// # Errors
    ///
    /// The step that failed and the error's number.
    pub(crate) fn run(&self, joins: bool) -> Result<(), (Step, i32)> {
        let at = |step: Step| move |errno: Errno| (step, errno.into_raw());
        lead_own_session().map_err(at(Step::Detach))?;
        reset_signals();
        if let Some(cgroup) = self.cgroup.as_deref().filter(|_| joins) {
            join(&cgroup.members).map_err(at(Step::JoinCgroup))?;
        }
        if !self.mark.is_some_and(set_mark) {
            // Its orphans could not be told from those of other trees, so they stay below the root while it lives.
            keep_orphans().map_err(at(Step::Detach))?;
        }
        if let Some(credentials) = &self.credentials {
            credentials.become_user().map_err(at(Step::BecomeUser))?;
        }
        // After the change of user, which clears it.
        die_with(self.parent).map_err(at(Step::Detach))?;
        enter(&self.directory).map_err(at(Step::EnterDirectory))?;
        self.pass_descriptors().map_err(at(Step::PassDescriptor))
    }

    /// Puts the control socket in its place and lets exec close everything else but standard input and outputs.
    fn pass_descriptors(&self) -> Result<(), Errno> {
        for (number, descriptor) in (0..).zip(self.standard) {
            duplicate(descriptor, number)?;
        }
        let mut first_closed = CONTROL_DESCRIPTOR;
        if let Some(control) = self.control {
            first_closed += 1;
            // What else CONTROL_DESCRIPTOR may be in this child, exec would have closed.
            if control == CONTROL_DESCRIPTOR {
                keep_open(control)?
            } else {
                duplicate(control, CONTROL_DESCRIPTOR)?
            }
        }
        close_on_exec_from(first_closed)
    }
}

impl Credentials {
    /// Groups first, while there is the right to set them; user last, which gives that right up for good.
    fn become_user(&self) -> Result<(), Errno> {
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: plain system calls of this thread alone; the pointer and the length are those of a live slice.
        unsafe {
            syscall!(Sysno::setgroups, self.groups.len(), self.groups.as_ptr())?;
            syscall!(Sysno::setresgid, gid, gid, gid)?;
            syscall!(Sysno::setresuid, uid, uid, uid)?;
        }
        Ok(())
    }
}

fn lead_own_session() -> Result<(), Errno> {
    // SAFETY: takes nothing.
    unsafe { syscall!(Sysno::setsid) }.map(drop)
}

fn join(cgroup: &File) -> Result<(), Errno> {
    let this = b"0";
    // SAFETY: reads as many bytes as there are.
    unsafe { syscall!(Sysno::write, cgroup.as_raw_fd(), this.as_ptr(), this.len()) }.map(drop)
}

fn keep_orphans() -> Result<(), Errno> {
    // SAFETY: takes numbers.
    unsafe { syscall!(Sysno::prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.map(drop)
}

/// Has this process killed when the thread that made it dies, which is one of `parent`.
fn die_with(parent: Pid) -> Result<(), Errno> {
    // SAFETY: takes numbers.
    unsafe { syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }?;
    // SAFETY: takes nothing.
    let present = unsafe { syscall!(Sysno::getppid) }?;
    // If it died before it could be watched, nobody is left to report to.
    if present == parent.as_raw_pid().unsigned_abs() as usize { Ok(()) } else { Err(Errno::ESRCH) }
}

fn enter(directory: &CStr) -> Result<(), Errno> {
    // SAFETY: the pointer is to a string.
    unsafe { syscall!(Sysno::chdir, directory.as_ptr()) }.map(drop)
}

/// Makes `number` the same as another descriptor, open across exec.
fn duplicate(descriptor: RawFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: takes numbers; what is replaced is nobody's in this process.
    unsafe { syscall!(Sysno::dup3, descriptor, number, 0) }.map(drop)
}

fn keep_open(descriptor: RawFd) -> Result<(), Errno> {
    // SAFETY: takes numbers.
    unsafe { syscall!(Sysno::fcntl, descriptor, libc::F_SETFD, 0) }.map(drop)
}

/// Returns whether the mark is set; some sandboxes refuse.
fn set_mark(mark: Mark) -> bool {
    let limit = [mark.limit(); 2];
    let nothing = ptr::null_mut::<u64>();
    // SAFETY: reads the two numbers of the kernel's structure.
    unsafe { syscall!(Sysno::prlimit64, 0, libc::RLIMIT_RTTIME, limit.as_ptr(), nothing) }.is_ok()
}

/// Gives every signal its default action and unblocks them all.
fn reset_signals() {
    /// The kernel's signal numbers end here, and its signal sets are that many bits.
    const SIGNALS: usize = 64;
    // Whatever its layout, the kernel's structure of all zeroes means: default action, no flags, empty mask.
    let default = [0_u64; 8];
    let nothing = ptr::null_mut::<u64>();
    // SAFETY: plain system calls that read from live memory, `default` being larger than the structures on every
    // architecture. Those signals whose action can't be changed are refused, which does no harm.
    unsafe {
        for signal in 1..=SIGNALS {
            let _ = syscall!(Sysno::rt_sigaction, signal, default.as_ptr(), nothing, SIGNALS / 8);
        }
        let _ = syscall!(Sysno::rt_sigprocmask, libc::SIG_SETMASK, default.as_ptr(), nothing, SIGNALS / 8);
    }
}

/// Marks every descriptor from `first` on to be closed by exec. They are not closed at once: one of them tells the parent of
/// the exec, and where the standard library starts the process, one is its own.
fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let (from, to) = (first.unsigned_abs(), c_uint::MAX);
    // SAFETY: takes numbers.
    if unsafe { syscall!(Sysno::close_range, from, to, libc::CLOSE_RANGE_CLOEXEC) }.is_ok() {
        return Ok(());
    }
    // Before Linux 5.11: one by one. Numbers that are not in use are refused, which does no harm.
    let mut limit = [0_u64; 2];
    let nothing = ptr::null::<u64>();
    // SAFETY: writes the two numbers of the kernel's structure.
    unsafe { syscall!(Sysno::prlimit64, 0, libc::RLIMIT_NOFILE, nothing, limit.as_mut_ptr()) }?;
    for descriptor in first..c_int::try_from(limit[0]).unwrap_or(1 << 20) {
        // SAFETY: sets a flag of a descriptor, by number.
        let _ = unsafe { syscall!(Sysno::fcntl, descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
