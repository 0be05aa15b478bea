//! Starts a process that has this process's memory until it executes its program.
//!
//! A copy of the memory, as fork(2) makes one, costs several times what all the rest of a start costs; so the child shares
//! it (`CLONE_VM`), as in posix_spawn(3). But there the thread that starts it waits until it has executed, which takes
//! longer than everything before, while other runners' processes want to be attended to. Here it goes on. So what the child
//! has of this process, its stack included, stays in place until the kernel says that it has another memory, or none:
//! then it clears a word (`CLONE_CHILD_CLEARTID`). A pipe that closes by the same time wakes who waits for it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_char, c_int, c_void};
use rustix::process::{DumpableBehavior, Pid, dumpable_behavior, set_dumpable_behavior};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::child::{FailedStep, Preparation, Program, SHELL, Step};
use crate::spawn::{CONTROL_DESCRIPTOR, numbered_from};
use crate::variables::Variables;

/// The child's stack until it executes: several times what the system calls there need.
const STACK_BYTES: usize = 16 * 1024;

/// A place for a stack, aligned as every architecture wants it.
type StackPlace = std::mem::MaybeUninit<u128>;

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
    /// Ends when the child executes or exits.
    executed: Receiver,
}

// SAFETY: the pointers in it lead to what it owns itself, and nothing of that is ever changed but the child's stack, at
// which nobody else looks.
unsafe impl Send for Launch {}
// SAFETY: as above; what the child changes is atomic.
unsafe impl Sync for Launch {}

impl Launch {
    /// Starts a process that carries out the preparation and executes the program. `passed` are the descriptors that the
    /// preparation speaks of; this process's are closed.
    ///
    /// # Errors
    ///
    /// When there is no new process.
    pub(crate) fn start(
        image: Image,
        preparation: Preparation,
        passed: Vec<OwnedFd>,
    ) -> io::Result<(Pid, Launch)> {
        if preparation.credentials.is_some() {
            original_dumpability();
        }
        let (reader, writer) = io::pipe()?;
        // Nothing that is passed takes its place.
        let writer = numbered_from(CONTROL_DESCRIPTOR + 1, writer.into())?;
        let executed = Receiver::from_owned_fd(reader.into())?;
        let program = image.program()?;
        let mut shared = Box::new(Shared {
            preparation,
            program,
            _image: image,
            stack: Vec::with_capacity(STACK_BYTES / size_of::<StackPlace>()),
            failed: FailedStep::default(),
            in_use: AtomicI32::new(1),
        });
        let top = shared.stack.spare_capacity_mut().as_mut_ptr_range().end;
        let started = clone(&shared, top.cast::<c_void>());
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
    pub(crate) async fn executed(mut self) -> Result<(), (Step, io::Error)> {
        // Nothing is ever written there: it is the end that is waited for.
        let ended = self.executed.read(&mut [0]).await;
        ended.map_err(|error| (Step::Execute, error))?;
        let Some(shared) = &self.shared else { return Ok(()) };
        if shared.preparation.credentials.is_some() {
            restore_dumpability();
        }
        shared.failed.get().map_or(Ok(()), |(step, errno)| Err((step, io::Error::from_raw_os_error(errno))))
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

/// Makes the child. Its stack ends at `top`.
fn clone(shared: &Shared, top: *mut c_void) -> io::Result<Pid> {
    // SAFETY: the stack is as large as said and aligned. It, and everything that is shared, lives until `in_use` is
    // cleared, after which no child looks at it. Signals are blocked until the child has its own, so that none is handled
    // there, where the handlers' memory is this process's. The mask is put back as it was.
    let (pid, error) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        let argument: *const Shared = shared;
        let none = ptr::null_mut::<c_void>();
        let word = shared.in_use.as_ptr();
        let pid = libc::clone(run_child, top, flags, argument.cast_mut().cast::<c_void>(), none, none, word);
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        (pid, error)
    };
    if pid > 0 { Pid::from_raw(pid).ok_or(error) } else { Err(error) }
}

/// What the child does. Returns only when it fails, and exits with that.
extern "C" fn run_child(argument: *mut c_void) -> c_int {
    // SAFETY: it is what `clone` was given, which nobody changes and which lives as long as this process uses it.
    let shared = unsafe { &*argument.cast::<Shared>() };
    let (step, errno) = match shared.preparation.run() {
        Err(failed) => failed,
        Ok(()) => (Step::Execute, shared.program.execute()),
    };
    shared.failed.set(step, errno);
    EXIT_NOT_STARTED
}

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
    use std::os::fd::AsRawFd;

    use rustix::process::getpid;

    use super::*;

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
        let (pid, launch) = Launch::start(image, preparation, null).unwrap();
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

    #[test]
    fn a_nul_is_refused_before_anything_is_started() {
        let environment = Variables::default();
        assert!(Image::new("/bin/true".as_ref(), "a\0b".as_ref(), &[], environment, None).is_err());
    }
}
