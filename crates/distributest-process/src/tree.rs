//! A running tree: waiting for its root, finding what leaked, ending it.
//!
//! The stop ladder has three rungs: TERM to every member (and CONT, so that stopped ones hear it), the grace period,
//! KILL until listings stay empty. Each wait is for the processes last seen, through their pidfds; after that the
//! tree is listed again, for it may have grown.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::cgroup::Cgroup;
use crate::child::Step;
use crate::exit::Exit;
use crate::launch::Launch;
use crate::mark::Mark;
use crate::members::{Membership, send};
use crate::process_table::Process;
use crate::roots::Roots;
use crate::spawn::{ProcessSpec, SpawnError, explain, start};
use crate::usage::{ProcessUsage, wait_for};
use crate::watch::Watch;

/// How long a member may outlive SIGKILL before the stop gives up on it: it hangs in the kernel (a network file
/// system that does not answer) or belongs to another user.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long dropping a tree may hold up its thread.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// A member found where none should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakedProcess {
    /// Its pid.
    pub pid: u32,
    /// That of its parent: of the process that started it or, after that one's end, of whoever takes in orphans. `None`
    /// where that is outside this pid namespace.
    pub parent: Option<u32>,
    /// Its command line on one line, cut to 200 characters, or its name in brackets when it has none.
    pub command: String,
}

impl fmt::Display for LeakedProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pid, self.command)
    }
}

/// Why a tree could not be ended, or not be looked at.
#[derive(Debug, Error)]
pub enum StopError {
    /// Members are still there although SIGKILL was sent to them.
    #[error("kill {}: still there {seconds} s after SIGKILL", join(.survivors))]
    Survivors {
        /// Who.
        survivors: Vec<LeakedProcess>,
        /// How long they were waited for.
        seconds: u64,
    },
    /// The members could not be listed or watched, so whether any are left is unknown.
    #[error("list the processes below pid {root}")]
    List {
        /// The root's pid.
        root: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn join(processes: &[LeakedProcess]) -> String {
    processes.iter().map(LeakedProcess::to_string).collect::<Vec<_>>().join(", ")
}

/// Which members are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of them.
    Tree,
    /// All but the root, and but this one.
    BelowRoot { spared: Option<Pid> },
}

/// Everything below the root.
const BELOW_ROOT: Scope = Scope::BelowRoot { spared: None };

/// A root that was started and everything below it.
///
/// Dropping it kills what is left of the tree, and may hold up the thread for up to a second for that (a few
/// milliseconds usually). Use it on the runtime and thread that spawned it.
#[derive(Debug)]
pub struct ProcessTree {
    root: Pid,
    root_watch: Watch,
    /// Set when the root has been waited for; from then on its pid may be somebody else's.
    exit: Mutex<Option<(Exit, ProcessUsage)>>,
    /// Nothing was left of it after its root's end: from then on nothing can come of it, and nobody needs to look.
    is_gone: AtomicBool,
    mark: Option<Mark>,
    cgroup: Option<Cgroup>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    control: Option<UnixStream>,
    /// `None` once it is known to have executed its program.
    start: Option<Box<Start>>,
}

/// A root on its way to its program.
#[derive(Debug)]
struct Start {
    launch: Launch,
    /// The program that was found.
    path: PathBuf,
    spec: ProcessSpec,
}

impl ProcessTree {
    /// Starts a program as the root of a new tree, and waits until it is executed.
    ///
    /// Its standard input is empty, its standard output and error are pipes of their own, it leads a new session,
    /// all signals have their default action, and no other descriptor but the control socket's is passed on. It is
    /// killed when the calling thread dies. The calling process becomes a subreaper.
    ///
    /// Must be called within a tokio runtime with I/O and time enabled. Cancelling it kills what was started.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] says what is wrong, with the program or around it.
    pub async fn spawn(spec: ProcessSpec) -> Result<ProcessTree, SpawnError> {
        let mut tree = ProcessTree::begin(spec, true)?;
        let executed = match &mut tree.start {
            Some(start) => start.launch.executed().await,
            None => Ok(()),
        };
        let (Some(start), Err((step, source))) = (tree.start.take(), executed) else { return Ok(tree) };
        // It has ended by itself, unless nobody can say what became of it.
        let _ = kill_process(tree.root, Signal::KILL);
        tree.wait().await;
        Err(explain(&start.spec, tree.cgroup.as_ref(), &start.path, step, source))
    }

    /// Starts a program as [`ProcessTree::spawn`] does, but does not wait until it is executed: to be told costs a wakeup, at
    /// a time when the program needs the processor. Whether it was is to be asked after its root's end, with
    /// [`ProcessTree::failed_start`].
    ///
    /// # Errors
    ///
    /// [`SpawnError`], as far as is known before there is a process; also where the user is to be another one.
    pub fn start(spec: ProcessSpec) -> Result<ProcessTree, SpawnError> {
        if spec.user.is_some() {
            // That takes something back when the program is executed.
            let source = io::ErrorKind::Unsupported.into();
            return Err(explain(&spec, None, spec.program.as_ref(), Step::BecomeUser, source));
        }
        ProcessTree::begin(spec, false)
    }

    /// Why a program that was only started was never executed; `None` while its root has not ended, and where it was.
    pub fn failed_start(&self) -> Option<SpawnError> {
        self.poll_exit()?;
        let start = self.start.as_ref()?;
        let (step, source) = start.launch.failure()?;
        Some(explain(&start.spec, self.cgroup.as_ref(), &start.path, step, source))
    }

    fn begin(mut spec: ProcessSpec, watch: bool) -> Result<ProcessTree, SpawnError> {
        let started = start(&spec, watch)?;
        let watched =
            pidfd_open(started.root, PidfdFlags::empty()).map_err(io::Error::from).and_then(Watch::new);
        let root_watch = match watched {
            Ok(root_watch) => root_watch,
            Err(source) => {
                // Not waited for yet, so the pid is still its own.
                let _ = kill_process(started.root, Signal::KILL);
                wait_for_root(started.root, WaitOptions::empty());
                let (program, directory) = (spec.program.into(), spec.directory);
                return Err(SpawnError::Other { program, directory, source });
            }
        };
        Ok(ProcessTree {
            root: started.root,
            root_watch,
            exit: Mutex::new(None),
            is_gone: AtomicBool::new(false),
            mark: started.mark,
            cgroup: spec.cgroup.take(),
            stdout: Some(started.stdout),
            stderr: Some(started.stderr),
            control: started.control,
            start: Some(Box::new(Start { launch: started.launch, path: started.path, spec })),
        })
    }

    pub(crate) fn root(&self) -> Pid {
        self.root
    }

    pub(crate) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// The root's pid.
    pub fn pid(&self) -> u32 {
        self.root.as_raw_pid().unsigned_abs()
    }

    /// Takes the reading end of the tree's standard output. It ends when every member has closed it, which a
    /// leaked daemon may never do. `None` when it was taken before.
    pub fn take_stdout(&mut self) -> Option<Receiver> {
        self.stdout.take()
    }

    /// Takes the reading end of the tree's standard error, as [`ProcessTree::take_stdout`] does.
    pub fn take_stderr(&mut self) -> Option<Receiver> {
        self.stderr.take()
    }

    /// Takes this process's end of the control socket. `None` when none was asked for or it was taken before.
    pub fn take_control(&mut self) -> Option<UnixStream> {
        self.control.take()
    }

    /// Waits until the root has ended. What it started may still run.
    ///
    /// Cancelling it loses nothing, and it may be called again, also after the end.
    pub async fn wait(&self) -> Exit {
        self.root_watch.ended().await;
        self.poll_exit().expect("a process whose pidfd is readable has ended")
    }

    /// How the root ended; `None` while it has not.
    pub fn poll_exit(&self) -> Option<Exit> {
        self.poll().map(|(exit, _)| exit)
    }

    /// What the root used; `None` while it has not ended.
    pub fn usage(&self) -> Option<ProcessUsage> {
        self.poll().map(|(_, usage)| usage)
    }

    fn poll(&self) -> Option<(Exit, ProcessUsage)> {
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if exit.is_none() {
            *exit = wait_for_root(self.root, WaitOptions::NOHANG);
        }
        *exit
    }

    /// The members besides the root that are still there after `patience`: while the root lives, everything below
    /// it; after its end, what outlived it. Returns as soon as there are none.
    ///
    /// Without any patience, a process that is just about to leave is counted.
    ///
    /// # Errors
    ///
    /// [`StopError::List`].
    pub async fn leaked(&self, patience: Duration) -> Result<Vec<LeakedProcess>, StopError> {
        let deadline = Instant::now() + patience;
        let watching = async {
            loop {
                let members = self.list(BELOW_ROOT)?;
                if members.is_empty() {
                    return Ok(Vec::new());
                }
                if !all_ended(&members, deadline).await? {
                    return Ok(describe(&self.list(BELOW_ROOT)?));
                }
            }
        };
        watching.await.map_err(|source| self.list_error(source))
    }

    /// Ends the whole tree: asks every member to end (SIGTERM), kills those that have not after `grace`, and returns
    /// when nothing is left. Without any grace it kills at once.
    ///
    /// # Errors
    ///
    /// [`StopError::Survivors`] ten seconds after SIGKILL, or [`StopError::List`].
    pub async fn stop(&self, grace: Duration) -> Result<(), StopError> {
        self.end(Scope::Tree, grace).await
    }

    /// Ends everything below the root as [`ProcessTree::stop`] does, but not the root itself: what a test file left
    /// behind goes, the worker that ran it stays.
    ///
    /// # Errors
    ///
    /// [`StopError::Survivors`] ten seconds after SIGKILL, or [`StopError::List`].
    pub async fn stop_descendants(&self, grace: Duration) -> Result<(), StopError> {
        self.end(BELOW_ROOT, grace).await
    }

    /// Ends everything below the root but `spared`: one that only watches over others, as the root does, and has something to
    /// say of their end. Says whether there was anything to end.
    ///
    /// # Errors
    ///
    /// [`StopError::Survivors`] ten seconds after SIGKILL, or [`StopError::List`].
    pub async fn stop_watched(&self, spared: Option<Pid>, grace: Duration) -> Result<bool, StopError> {
        let scope = Scope::BelowRoot { spared };
        if self.list(scope).map_err(|source| self.list_error(source))?.is_empty() {
            return Ok(false);
        }
        self.end(scope, grace).await?;
        Ok(true)
    }

    async fn end(&self, scope: Scope, grace: Duration) -> Result<(), StopError> {
        if grace.is_zero() || !self.ask_to_end(scope, grace).await.map_err(|e| self.list_error(e))? {
            self.kill(scope).await?;
        }
        Ok(())
    }

    /// Sends TERM to every member and to those that appear later. Returns whether all are gone in time.
    async fn ask_to_end(&self, scope: Scope, grace: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + grace;
        let mut asked = HashSet::new();
        loop {
            let members = self.list(scope)?;
            if members.is_empty() {
                return Ok(true);
            }
            let newcomers: Vec<_> = members.iter().filter(|process| asked.insert(process.key())).collect();
            send(newcomers.iter().copied(), Signal::TERM);
            send(newcomers, Signal::CONT);
            if !all_ended(&members, deadline).await? {
                return Ok(false);
            }
        }
    }

    async fn kill(&self, scope: Scope) -> Result<(), StopError> {
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            let round = async {
                all_ended(&self.kill_once(scope)?, deadline).await?;
                self.list(scope)
            };
            let left = round.await.map_err(|source| self.list_error(source))?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (survivors, seconds) = (describe(&left), KILL_PATIENCE.as_secs());
                return Err(StopError::Survivors { survivors, seconds });
            }
        }
    }

    /// Sends KILL to every member seen and returns them.
    fn kill_once(&self, scope: Scope) -> io::Result<Vec<Process>> {
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| scope == Scope::Tree)
            && let Err(error) = cgroup.kill()
        {
            // The members are killed one by one all the same.
            tracing::warn!(cgroup = %cgroup.directory().display(), %error, "failed to kill a cgroup at once");
        }
        self.membership(scope).kill()
    }

    /// All living members.
    pub(crate) fn members(&self) -> Result<Vec<Process>, StopError> {
        self.list(Scope::Tree).map_err(|source| self.list_error(source))
    }

    /// The living members. A tree's processes come from its processes: once there are none, there are none for good.
    fn list(&self, scope: Scope) -> io::Result<Vec<Process>> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let has_root = self.poll_exit().is_none();
        let listing = self.membership(scope).list()?;
        if listing.is_certain && listing.living.is_empty() && !has_root {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        Ok(listing.living)
    }

    fn membership(&self, scope: Scope) -> Membership<'_> {
        Membership {
            root: self.poll_exit().is_none().then_some(self.root),
            with_root: scope == Scope::Tree,
            spared: match scope {
                Scope::BelowRoot { spared } => spared,
                Scope::Tree => None,
            },
            session: self.root,
            mark: self.mark,
            cgroup: self.cgroup.as_ref(),
        }
    }

    fn list_error(&self, source: io::Error) -> StopError {
        StopError::List { root: self.root.as_raw_pid(), source }
    }

    /// Kills the tree, holding up the thread until it is gone or the time is up.
    fn kill_blocking(&self, deadline: std::time::Instant) -> io::Result<()> {
        while !self.is_gone.load(Ordering::Relaxed) {
            for victim in self.kill_once(Scope::Tree)? {
                victim.wait_blocking(deadline)?;
            }
            if self.list(Scope::Tree)?.is_empty() {
                return Ok(());
            }
            if std::time::Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if let Err(error) = self.kill_blocking(std::time::Instant::now() + DROP_PATIENCE) {
            tracing::warn!(root = self.root.as_raw_pid(), %error, "failed to kill all of a process tree");
        }
    }
}

/// How a root ended and what it used, once. From then on its pid may be somebody else's, so it is no root any more.
fn wait_for_root(root: Pid, options: WaitOptions) -> Option<(Exit, ProcessUsage)> {
    let mut roots = Roots::lock();
    let waited = wait_for(root, options).expect("nobody else waits for this child");
    if waited.is_some() {
        roots.remove(root);
    }
    waited
}

/// Waits for the end of all these processes; `false` when the time is up first.
async fn all_ended(processes: &[Process], deadline: Instant) -> io::Result<bool> {
    for process in processes {
        match timeout_at(deadline, process.ended()).await {
            Ok(ended) => ended?,
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Names processes for people.
pub(crate) fn describe(processes: &[Process]) -> Vec<LeakedProcess> {
    let number = |pid: Pid| pid.as_raw_pid().unsigned_abs();
    let described = processes.iter().map(|process| LeakedProcess {
        pid: number(process.pid),
        parent: process.parent.map(number),
        command: process.command(),
    });
    // Without a command they have ended since.
    described.filter(|leaked| !leaked.command.is_empty()).collect()
}
