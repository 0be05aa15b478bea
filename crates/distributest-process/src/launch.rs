//! Starts a process that has this process's memory until it executes its program.
//!
//! A copy of the memory, as fork(2) makes one, costs several times what all the rest of a start costs; so the child shares
//! it (`CLONE_VM`), as in posix_spawn(3). But there the thread that starts it waits until it has executed, which takes
//! longer than everything before, while other runners' processes want to be attended to. Here it goes on. So what the child
//! has of this process, its stack included, stays in place until the kernel says that it has another memory, or none:
//! then it clears a word (`CLONE_CHILD_CLEARTID`). A pipe that closes by the same time wakes who waits for it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_char, c_int, c_void};
use rustix::process::{DumpableBehavior, Pid, dumpable_behavior, set_dumpable_behavior};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::child::{FailedStep, Preparation, Program, SHELL, Step};
use crate::clone_inside::{children_live, clone_inside};
use crate::spawn::{CONTROL_DESCRIPTOR, numbered_from};
use crate::variables::Variables;

/// The child's stack until it executes: several times what the system calls there need.
const STACK_BYTES: usize = 16 * 1024;

/// What it shares with this process, and how the kernel says when it does no longer.
const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID;

/// A place for a stack, aligned as every architecture wants it.
type StackPlace = u128;

/// A program to execute, as execve(2) wants it.
pub(crate) struct Image {
    path: CString,
    arguments: Vec<CString>,
    environment: Variables,
    /// A variable of its own, and the assignment that takes its place.
    own: Option<(&'static str, CString)>,
}

impl Image {
    /// The program at `path`, called `name`.
    ///
    /// # Errors
    ///
    /// When anything but the environment holds a NUL.
    pub(crate) fn new(
        path: &OsStr,
        name: &OsStr,
        arguments: &[OsString],
        environment: Variables,
        own: Option<(&'static str, CString)>,
    ) -> io::Result<Image> {
        let text = |bytes: &OsStr| CString::new(bytes.as_bytes());
        let words = std::iter::once(name).chain(arguments.iter().map(OsString::as_os_str));
        let arguments = words.map(text).collect::<Result<_, _>>()?;
        Ok(Image { path: text(path)?, arguments, environment, own })
    }

    /// The same as pointers, good as long as this is.
    fn program(&self) -> io::Result<Program> {
        let (replaced, own) = self.own.as_ref().map(|(name, assignment)| (*name, assignment)).unzip();
        let environment = self.environment.assignments(replaced)?.chain(own.map(CString::as_c_str));
        let script =
            [SHELL, &self.path].into_iter().chain(self.arguments.iter().skip(1).map(CString::as_c_str));
        Ok(Program {
            path: self.path.as_ptr(),
            arguments: pointers(self.arguments.iter().map(CString::as_c_str)),
            script_arguments: pointers(script),
            environment: pointers(environment),
        })
    }
}

/// Pointers to strings, ended by a null pointer.
fn pointers<'all>(texts: impl Iterator<Item = &'all CStr>) -> Vec<*const c_char> {
    texts.map(CStr::as_ptr).chain([ptr::null()]).collect()
}

/// What the child has of this process's memory.
struct Shared {
    preparation: Preparation,
    program: Program,
    /// What the program's pointers lead to.
    _image: Image,
    stack: Vec<StackPlace>,
    failed: FailedStep,
    /// Cleared by the kernel once the child has another memory, or none.
    in_use: AtomicI32,
}

/// A child on its way to its program.
pub(crate) struct Launch {
    /// `None` once it is nobody's business any more.
    shared: Option<Box<Shared>>,
    /// Ends when the child executes or exits. `None`: nobody waits for that.
    executed: Option<Receiver>,
}

// SAFETY: the pointers in it lead to what it owns itself, and nothing of that is ever changed but the child's stack, at
// which nobody else looks.
unsafe impl Send for Launch {}
// SAFETY: as above; what the child changes is atomic.
unsafe impl Sync for Launch {}

impl Launch {
    /// Starts a process that carries out the preparation and executes the program. `passed` are the descriptors that the
    /// preparation speaks of; this process's are closed. `watch`: [`Launch::executed`] will be waited for. Who changes to
    /// another user is to be watched.
    ///
    /// # Errors
    ///
    /// When there is no new process.
    pub(crate) fn start(
        image: Image,
        preparation: Preparation,
        passed: Vec<OwnedFd>,
        watch: bool,
    ) -> io::Result<(Pid, Launch)> {
        if preparation.credentials.is_some() {
            original_dumpability();
        }
        let (executed, writer) = watch.then(end_of_start).transpose()?.unzip();
        let program = image.program()?;
        let mut shared = Box::new(Shared {
            preparation,
            program,
            _image: image,
            stack: Vec::with_capacity(STACK_BYTES / size_of::<StackPlace>()),
            failed: FailedStep::default(),
            in_use: AtomicI32::new(1),
        });
        let stack = shared.stack.spare_capacity_mut().as_mut_ptr_range();
        let started = clone(&shared, stack);
        // The child has its own by now, which its exec closes.
        drop((writer, passed));
        let pid = started?;
        Ok((pid, Launch { shared: Some(shared), executed }))
    }

    /// Waits until the child has executed its program.
    ///
    /// # Errors
    ///
    /// The step that failed and the cause. The process has exited then.
    pub(crate) async fn executed(&mut self) -> Result<(), (Step, io::Error)> {
        if let Some(executed) = &mut self.executed {
            // Nothing is ever written there: it is the end that is waited for.
            executed.read(&mut [0]).await.map_err(|error| (Step::Execute, error))?;
        }
        if self.shared.as_ref().is_some_and(|shared| shared.preparation.credentials.is_some()) {
            restore_dumpability();
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// Of a child that has executed its program or exited: the step that failed and the cause, if any did.
    pub(crate) fn failure(&self) -> Option<(Step, io::Error)> {
        let shared = self.shared.as_ref()?;
        let (step, errno) = shared.failed.get()?;
        if let (Some(door), (Step::JoinCgroup, KILLED_AT_BIRTH)) = (&shared.preparation.cgroup, (step, errno))
        {
            // Somebody else has killed its members at once: the next one joins.
            door.set_killed();
            let why = "the kernel killed it before it began, as it may where somebody has killed all processes of the cgroup";
            return Some((step, io::Error::new(io::ErrorKind::Interrupted, why)));
        }
        Some((step, io::Error::from_raw_os_error(errno)))
    }
}

/// A pipe whose end to read from ends when nobody has the other one any more: the child's exec closes it.
fn end_of_start() -> io::Result<(Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    // Nothing that is passed takes its place.
    let writer = numbered_from(CONTROL_DESCRIPTOR + 1, writer.into())?;
    Ok((Receiver::from_owned_fd(reader.into())?, writer))
}

impl fmt::Debug for Launch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Launch").finish_non_exhaustive()
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let is_over = |shared: &Shared| shared.in_use.load(Ordering::Acquire) == 0;
        // Somebody gave up waiting: the memory is lost, for nobody will know when the child has left it.
        if let Some(shared) = self.shared.take_if(|shared| !is_over(shared)) {
            std::mem::forget(shared);
        }
    }
}

/// Makes the child, in its cgroup where that can be.
fn clone(shared: &Shared, stack: Range<*mut MaybeUninit<StackPlace>>) -> io::Result<Pid> {
    let argument: *const Shared = shared;
    let argument = argument.cast_mut().cast::<c_void>();
    let word = shared.in_use.as_ptr();
    let bytes = stack.start.cast::<u8>()..stack.end.cast::<u8>();
    let door = shared.preparation.cgroup.as_deref().filter(|door| !door.was_killed());
    // SAFETY: the stack is as large as said and aligned. It, and everything that is shared, lives until `in_use` is
    // cleared, after which no child looks at it. Signals are blocked until the child has its own, so that none is handled
    // there, where the handlers' memory is this process's. The mask is put back as it was.
    let (pid, error) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let directory = door.map(|door| door.directory.as_fd());
        let inside = directory.filter(|directory| children_live(*directory)).and_then(|directory| {
            // For as long as it has not begun, which the child says by taking it back.
            shared.failed.set(Step::JoinCgroup, KILLED_AT_BIRTH);
            clone_inside(directory, FLAGS | libc::SIGCHLD, bytes, word, run_child_inside, argument)
        });
        let join = || {
            shared.failed.clear();
            let (top, none) = (stack.end.cast::<c_void>(), ptr::null_mut::<c_void>());
            libc::clone(run_child, top, FLAGS | libc::SIGCHLD, argument, none, none, word)
        };
        let pid = inside.unwrap_or_else(join);
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        (pid, error)
    };
    if pid > 0 { Pid::from_raw(pid).ok_or(error) } else { Err(error) }
}

/// What the child does. Returns only when it fails, and exits with that.
extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: it is what `clone` was given, which nobody changes and which lives as long as this process uses it.
    run(unsafe { &*argument.cast::<Shared>() }, true)
}

/// The same for one that was made in its cgroup.
extern "C" fn run_child_inside(argument: *mut c_void) -> c_int {
    // SAFETY: as above.
    let shared = unsafe { &*argument.cast::<Shared>() };
    shared.failed.clear();
    run(shared, false)
}

fn run(shared: &Shared, joins: bool) -> c_int {
    let (step, errno) = match shared.preparation.run(joins) {
        Err(failed) => failed,
        Ok(()) => (Step::Execute, shared.program.execute()),
    };
    shared.failed.set(step, errno);
    EXIT_NOT_STARTED
}

/// The cause if a child does not even begin in the cgroup in which it was made: the kernel has killed it.
const KILLED_AT_BIRTH: i32 = libc::ECANCELED;

/// The exit status of a child that did not get to execute its program. Nobody sees it.
const EXIT_NOT_STARTED: c_int = 127;

/// Whether this process may be looked into by its user's other processes. A child that changes its user forbids it for the
/// memory it shares with this process, so it is allowed again then.
fn original_dumpability() -> Option<DumpableBehavior> {
    static ORIGINAL: OnceLock<Option<DumpableBehavior>> = OnceLock::new();
    *ORIGINAL.get_or_init(|| dumpable_behavior().ok())
}

fn restore_dumpability() {
    if let Some(dumpable @ DumpableBehavior::Dumpable) = original_dumpability() {
        let _ = set_dumpable_behavior(dumpable);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::sync::Arc;

    use rustix::process::getpid;

    use super::*;
    use crate::Delegation;
    use crate::cgroup::{Cgroup, Door};

    async fn start(program: &str, change: impl FnOnce(&mut Preparation)) -> Result<Pid, (Step, Option<i32>)> {
        let null: Vec<OwnedFd> = (0..3).map(|_| File::open("/dev/null").unwrap().into()).collect();
        let mut preparation = Preparation {
            parent: getpid(),
            directory: c"/".into(),
            cgroup: None,
            mark: None,
            credentials: None,
            control: None,
            standard: [0, 1, 2].map(|number: usize| null[number].as_raw_fd()),
        };
        change(&mut preparation);
        let image = Image::new(program.as_ref(), "name".as_ref(), &[], Variables::default(), None).unwrap();
        let (pid, mut launch) = Launch::start(image, preparation, null, true).unwrap();
        let executed = launch.executed().await;
        executed.map(|()| pid).map_err(|(step, cause)| (step, cause.raw_os_error()))
    }

    #[tokio::test]
    async fn a_failed_step_is_named() {
        let missing =
            start("/bin/true", |preparation| preparation.directory = c"/no such directory".into()).await;
        assert_eq!(missing.unwrap_err(), (Step::EnterDirectory, Some(libc::ENOENT)));
        let none = start("/no such program", |_| {}).await;
        assert_eq!(none.unwrap_err(), (Step::Execute, Some(libc::ENOENT)));
        let directory = start("/usr", |_| {}).await;
        assert_eq!(directory.unwrap_err(), (Step::Execute, Some(libc::EACCES)));
        start("/bin/true", |_| {}).await.unwrap();
    }

    #[tokio::test]
    async fn a_child_whose_parent_is_already_gone_does_not_start() {
        let started = start("/bin/true", |preparation| preparation.parent = Pid::INIT).await;
        assert_eq!(started.unwrap_err(), (Step::Detach, Some(libc::ESRCH)));
    }

    #[tokio::test]
    async fn many_start_at_once() {
        let all = (0..50).map(|number| async move {
            let program = if number % 2 == 0 { "/bin/true" } else { "/no such program" };
            assert_eq!(start(program, |_| {}).await.is_ok(), number % 2 == 0);
        });
        let mut running = tokio::task::JoinSet::new();
        all.for_each(|one| _ = running.spawn(one));
        running.join_all().await;
    }

    #[tokio::test]
    async fn signals_are_as_they_were_after_a_start() {
        let blocked = || {
            // SAFETY: both pointers are valid; without a new set nothing is changed.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut mask);
                (1..64).filter(|signal| libc::sigismember(&mask, *signal) == 1).collect::<Vec<c_int>>()
            }
        };
        let before = blocked();
        let _ = start("/no such program", |_| {}).await;
        assert_eq!(blocked(), before);
    }

    /// A cgroup of this process's own, where there can be one.
    fn cgroup(name: &str) -> Option<Cgroup> {
        match Delegation::find("/proc/self/mounts".as_ref(), "/proc/self/cgroup".as_ref()) {
            Ok(own) => Some(own.create_child(&format!("{name}-{}", getpid().as_raw_pid())).unwrap()),
            Err(error) => {
                // Not by `eprintln`, which the test harness keeps to itself.
                writeln!(io::stderr(), "SKIPPED: children in a cgroup: {error}").unwrap();
                None
            }
        }
    }

    async fn start_in(door: &Arc<Door>) -> Result<Pid, (Step, Option<i32>)> {
        start("/bin/true", |preparation| preparation.cgroup = Some(door.clone())).await
    }

    /// Starts a program that waits, and returns its cgroup.
    async fn cgroup_of_child(cgroup: &Cgroup) -> String {
        let pid = start("/bin/cat", |preparation| {
            preparation.cgroup = Some(cgroup.door().unwrap());
            let (reader, writer) = io::pipe().unwrap();
            std::mem::forget(writer);
            preparation.standard[0] = numbered_from(100, reader.into()).unwrap().into_raw_fd();
        })
        .await
        .unwrap();
        let of_child = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid())).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        of_child
    }

    #[tokio::test]
    async fn a_child_joins_a_cgroup_where_it_is_not_made_in_one() {
        // No cgroup: what is written in order to join goes where it is said, and fails if that takes nothing.
        let joins = |members: &str| Arc::new(Door::of(&std::env::temp_dir(), members.as_ref()).unwrap());
        start_in(&joins("/dev/null")).await.unwrap();
        assert_eq!(start_in(&joins("/dev/full")).await.unwrap_err(), (Step::JoinCgroup, Some(libc::ENOSPC)));
    }

    #[tokio::test]
    async fn a_child_that_is_made_in_its_cgroup_need_not_join_it() {
        let Some(cgroup) = cgroup("launch-made") else { return };
        let door = Arc::new(Door::of(cgroup.directory(), "/dev/full".as_ref()).unwrap());
        if children_live(door.directory.as_fd()) {
            start_in(&door).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_child_lives_in_a_cgroup_whose_members_were_killed() {
        let Some(cgroup) = cgroup("launch-killed") else { return };
        let name = format!("/launch-killed-{}", getpid().as_raw_pid());
        assert!(cgroup_of_child(&cgroup).await.trim_end().ends_with(&name));
        // By somebody else, which the first one may not survive, but is not taken for a program that has run.
        std::fs::write(cgroup.directory().join("cgroup.kill"), "1").unwrap();
        if let Err(killed) = start_in(&cgroup.door().unwrap()).await {
            assert_eq!(killed, (Step::JoinCgroup, None));
            assert!(cgroup.door().unwrap().was_killed());
        }
        assert!(cgroup_of_child(&cgroup).await.trim_end().ends_with(&name));
    }

    #[test]
    fn a_nul_is_refused_before_anything_is_started() {
        let environment = Variables::default();
        assert!(Image::new("/bin/true".as_ref(), "a\0b".as_ref(), &[], environment, None).is_err());
    }
}
