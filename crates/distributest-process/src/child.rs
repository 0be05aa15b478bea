//! Starts a process and turns it into the root of a tree, before it executes its program.
//!
//! The child shares this process's memory until it executes (`CLONE_VM`), and the thread that starts it waits that long
//! (`CLONE_VFORK`), as posix_spawn(3) does it: a copy of the memory, as fork(2) makes one, costs several times what all the
//! rest costs. So what the child does here must leave no trace in memory but the error it reports. It runs on a stack of its
//! own with all signals blocked; other threads may hold any lock; so only system calls are allowed, nothing allocates, and
//! everything that can be looked up has been before. Calls that the C library carries out in all threads of a process
//! (those that change the user) are made without it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Arc;

use libc::{c_char, c_int, c_uint, c_void};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, chdir, dumpable_behavior, getpid, getppid, getrlimit,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, setrlimit, setsid,
};

use crate::mark::Mark;
use crate::spawn::CONTROL_DESCRIPTOR;

/// The child's stack until it executes: several times what the system calls here need, and little enough for the allocator
/// to have it at hand each time.
const STACK_BYTES: usize = 16 * 1024;

/// What runs a script that names no interpreter, as execvp(3) does it.
const SHELL: &CStr = c"/bin/sh";

/// What is done to the child, everything looked up and opened already.
pub(crate) struct Preparation {
    /// The process that spawns.
    pub(crate) parent: Pid,
    pub(crate) directory: CString,
    /// The `cgroup.procs` of the cgroup to join.
    pub(crate) cgroup: Option<Arc<File>>,
    pub(crate) mark: Option<Mark>,
    pub(crate) credentials: Option<Credentials>,
    /// The child's end of the control socket, with a descriptor number of at least [`CONTROL_DESCRIPTOR`].
    pub(crate) control: Option<OwnedFd>,
    /// What becomes its standard input, output and error; each with a number above those.
    pub(crate) standard: [OwnedFd; 3],
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

/// A program to execute, as execve(2) wants it.
pub(crate) struct Image<'environment> {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<&'environment CStr>,
}

impl<'environment> Image<'environment> {
    /// The program at `path`, called `name`.
    ///
    /// # Errors
    ///
    /// When anything holds a NUL.
    pub(crate) fn new(
        path: &OsStr,
        name: &OsStr,
        arguments: &[OsString],
        environment: impl Iterator<Item = &'environment CStr>,
    ) -> io::Result<Image<'environment>> {
        let text = |bytes: &OsStr| CString::new(bytes.as_bytes());
        let words = std::iter::once(name).chain(arguments.iter().map(OsString::as_os_str));
        let arguments = words.map(text).collect::<Result<_, _>>()?;
        Ok(Image { path: text(path)?, arguments, environment: environment.collect() })
    }
}

/// Pointers to strings, ended by a null pointer.
fn pointers<Text: AsRef<CStr>>(texts: impl IntoIterator<Item = Text>) -> Vec<*const c_char> {
    texts.into_iter().map(|text| text.as_ref().as_ptr()).chain([ptr::null()]).collect()
}

/// What the child needs, in the memory of this process.
struct Task<'image> {
    preparation: &'image Preparation,
    path: *const c_char,
    arguments: Vec<*const c_char>,
    /// The arguments of the shell that runs the program if it is a script without an interpreter: the first place is the
    /// shell's name, the second the program's path.
    script_arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// Written by the child when it fails.
    failed: Option<(Step, i32)>,
}

/// Starts a process that carries out the preparation and executes the program. Returns once it has.
///
/// # Errors
///
/// The step that failed and the cause. Nothing is left of the process then.
pub(crate) fn start(image: &Image<'_>, preparation: &Preparation) -> Result<Pid, (Step, io::Error)> {
    let shell = [SHELL.as_ptr(), image.path.as_ptr()];
    let mut task = Task {
        preparation,
        path: image.path.as_ptr(),
        arguments: pointers(&image.arguments),
        script_arguments: shell.into_iter().chain(pointers(image.arguments.iter().skip(1))).collect(),
        environment: pointers(&image.environment),
        failed: None,
    };
    // A change of user in the child makes the memory it shares private to root.
    let dumpable = preparation.credentials.as_ref().and_then(|_| dumpable_behavior().ok());
    let pid = clone(&mut task).map_err(|error| (Step::Execute, error))?;
    if let Some(dumpable) = dumpable.filter(|dumpable| *dumpable == DumpableBehavior::Dumpable) {
        let _ = set_dumpable_behavior(dumpable);
    }
    // SAFETY: the child has executed or exited, but may have written to its task before, of which the compiler knows
    // nothing.
    let failed = unsafe { ptr::read_volatile(&task.failed) };
    match failed {
        None => Ok(pid),
        Some((step, errno)) => {
            // It has exited, so this does not wait; nobody else waits for it while the roots are locked.
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err((step, io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Makes the child and waits until it has executed its program or exited.
fn clone(task: &mut Task<'_>) -> io::Result<Pid> {
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    // SAFETY: the stack is as large as said, aligned, and lives until the child has executed or exited, as does the task:
    // CLONE_VFORK keeps this thread here that long. Signals are blocked for that time, so that none is handled in the
    // child, where the handlers' memory is this process's. The mask is put back as it was.
    let (pid, error) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let argument: *mut Task<'_> = task;
        let pid = libc::clone(run_child, top.cast::<c_void>(), flags, argument.cast::<c_void>());
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        (pid, error)
    };
    Pid::from_raw(pid).filter(|_| pid > 0).ok_or(error)
}

/// What the child does. Returns only when it fails, and exits with that.
extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: it is the task that `clone` was given, which its owner does not touch until this process has executed or
    // exited.
    let task = unsafe { &mut *argument.cast::<Task<'_>>() };
    task.failed = Some(match task.preparation.run() {
        Err(failed) => failed,
        Ok(()) => (Step::Execute, task.execute()),
    });
    EXIT_NOT_STARTED
}

/// The exit status of a child that did not get to execute its program. Nobody sees it.
const EXIT_NOT_STARTED: c_int = 127;

impl Task<'_> {
    /// Executes the program; returns why it can't.
    fn execute(&self) -> i32 {
        // SAFETY: every pointer is to a string or to a list of such pointers that ends with a null pointer, and all of
        // them live in the task's owner.
        unsafe {
            libc::execve(self.path, self.arguments.as_ptr(), self.environment.as_ptr());
            let errno = *libc::__errno_location();
            if errno != libc::ENOEXEC {
                return errno;
            }
            libc::execve(SHELL.as_ptr(), self.script_arguments.as_ptr(), self.environment.as_ptr());
            *libc::__errno_location()
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
            rustix::io::write(cgroup.as_ref(), b"0").map_err(at(Step::JoinCgroup))?;
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
        for (number, descriptor) in (0..).zip(&self.standard) {
            // SAFETY: a plain system call on two numbers. Those of the descriptors are higher than any that is replaced.
            check(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })?;
        }
        let mut first_closed = CONTROL_DESCRIPTOR;
        if let Some(control) = &self.control {
            first_closed += 1;
            // SAFETY: plain system calls on a descriptor this process owns. What else CONTROL_DESCRIPTOR may be in this
            // child, exec would have closed.
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
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: plain system calls of this thread alone; the pointer and the length are those of a live slice.
        unsafe {
            check(libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()))?;
            check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
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

/// Marks every descriptor from `first` on to be closed by exec. They are not closed at once: where the standard library
/// starts the process, one of them is its own, to report a failed exec.
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
fn check(returned: impl Into<i64>) -> Result<(), Errno> {
    if returned.into() >= 0 {
        return Ok(());
    }
    // SAFETY: the pointer to this thread's errno is always valid.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str, preparation: impl FnOnce(&mut Preparation)) -> Result<Pid, (Step, Option<i32>)> {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let mut prepared = Preparation {
            parent: getpid(),
            directory: c"/".into(),
            cgroup: None,
            mark: None,
            credentials: None,
            control: None,
            standard: [null(), null(), null()],
        };
        preparation(&mut prepared);
        let environment = [c"A=1"].into_iter();
        let image = Image::new(program.as_ref(), "name".as_ref(), &[], environment).unwrap();
        super::start(&image, &prepared).map_err(|(step, cause)| (step, cause.raw_os_error()))
    }

    #[test]
    fn a_failed_step_is_named() {
        let missing = start("/bin/true", |preparation| preparation.directory = c"/no such directory".into());
        assert_eq!(missing.unwrap_err(), (Step::EnterDirectory, Some(libc::ENOENT)));
        let none = start("/no such program", |_| {});
        assert_eq!(none.unwrap_err(), (Step::Execute, Some(libc::ENOENT)));
        let directory = start("/usr", |_| {});
        assert_eq!(directory.unwrap_err(), (Step::Execute, Some(libc::EACCES)));
    }

    #[test]
    fn a_child_whose_parent_is_already_gone_does_not_start() {
        let started = start("/bin/true", |preparation| preparation.parent = Pid::INIT);
        assert_eq!(started.unwrap_err(), (Step::Detach, Some(libc::ESRCH)));
    }

    #[test]
    fn signals_are_as_they_were_after_a_start() {
        let blocked = || {
            // SAFETY: both pointers are valid; without a new set nothing is changed.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut mask);
                (1..64).filter(|signal| libc::sigismember(&mask, *signal) == 1).collect::<Vec<c_int>>()
            }
        };
        let before = blocked();
        let _ = start("/no such program", |_| {});
        assert_eq!(blocked(), before);
    }

    #[test]
    fn a_nul_is_refused_before_anything_is_started() {
        let none = std::iter::empty();
        assert!(Image::new("/bin/true".as_ref(), "a\0b".as_ref(), &[], none).is_err());
    }
}
