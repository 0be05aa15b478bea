//! Lets a worker stay when its run has ended, and go on in another one.
//!
//! Only a worker that has nothing to do at its end and nothing that hinders others may stay: it says so itself, it has
//! neither processes nor sockets nor locks, and it tells which files it has loaded. What it answers is taken as it is: a
//! worker works for nobody but its own user.
//!
//! A `shared` worker's files run in one fork of what stays, which ends with the run, so that nothing of them stays either.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use distributest_protocol::wire;

use super::{SHARED_QUIT_GRACE, Worker, WorkerError, receive_news};
use crate::failure;
use crate::session::context::RunContext;
use crate::session::environment::Environment;
use crate::session::worker_messages::{WorkerMessage, WorkerOrder};

/// How long a worker may take to say what it has loaded, and to take up work again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Variables that differ from run to run or from terminal to terminal and that a worker is given anew; any other that
/// differs makes another worker necessary.
const RENEWED: [&str; 9] = [
    "COLUMNS",
    "DISTRIBUTEST_RUN",
    "LINES",
    "OLDPWD",
    "SHLVL",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "WINDOWID",
];

/// What a worker has loaded.
pub(crate) struct LoadedFiles {
    /// Files and directories that what it has loaded depends on, also where there are none.
    pub(crate) files: Vec<PathBuf>,
    /// It has read no others.
    pub(crate) is_all: bool,
}

/// What a worker was started with.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The framework and how its worker is started, its program's text included.
    pub(super) launch: Arc<(String, wire::WorkerLaunch)>,
    /// The file it is a process of.
    pub(super) program: PathBuf,
    pub(super) environment: Environment,
}

impl Origin {
    /// Whether it is of the same runner and framework.
    pub(crate) fn is_of_same_runner(&self, other: &Origin) -> bool {
        let runner = "DISTRIBUTEST_RUNNER";
        self.launch.0 == other.launch.0 && self.environment.get(runner) == other.environment.get(runner)
    }

    /// What makes a worker of `self` unfit where one of `wanted` is; `None`: nothing.
    pub(crate) fn difference(&self, wanted: &Origin) -> Option<String> {
        if self.launch != wanted.launch {
            return Some("it is started in another way now".to_owned());
        }
        if self.program != wanted.program {
            return Some(format!(
                "{} takes the place of {}",
                wanted.program.display(),
                self.program.display()
            ));
        }
        let variable = self.environment.first_difference(&wanted.environment, &RENEWED)?;
        Some(format!("the environment variable {} is another", variable.display()))
    }
}

impl Worker {
    /// What it was started with; `None` for one that is part of this program.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// How long it took to start.
    pub(crate) fn start_took(&self) -> Duration {
        self.start_took
    }

    /// Makes the worker ready to stay, and returns what it has loaded.
    ///
    /// # Errors
    ///
    /// Why it may not stay.
    pub(crate) async fn prepare_to_stay(&mut self) -> Result<LoadedFiles, String> {
        if !self.keeps || self.origin.is_none() || !self.is_alive() {
            return Err("it is not of the kind that stays".to_owned());
        }
        let mut loaded = self.ask_what_it_has_loaded().await?;
        self.is_alone().await?;
        let pid = self.loaded_process;
        if sockets_of(pid) > 1 {
            return Err("loading the project opened a socket".to_owned());
        }
        if holds_lock(pid) {
            return Err("loading the project locked a file".to_owned());
        }
        loaded.files.extend(mapped_files(pid)?);
        Ok(loaded)
    }

    async fn ask_what_it_has_loaded(&mut self) -> Result<LoadedFiles, String> {
        self.link.send(&WorkerOrder::Keep).await.map_err(|error| failure::chain(&error))?;
        let is_shared = self.isolation == wire::Isolation::Shared;
        let patience = if is_shared { SHARED_QUIT_GRACE } else { ANSWER_PATIENCE };
        let answer = receive_news(&mut self.link, &mut self.failed_ends);
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(WorkerMessage::Kept { files, is_all })) => Ok(LoadedFiles { files, is_all }),
            Ok(Ok(WorkerMessage::Unable { message, .. })) => Err(message),
            Ok(Ok(_)) => Err("it answered something else".to_owned()),
            Ok(Err(error)) => Err(failure::chain(&error)),
            Err(_) => {
                if is_shared {
                    self.note_late_end();
                    // It has had its time, and is not asked to end as well.
                    self.stop(Duration::ZERO).await;
                }
                Err(format!("it did not answer within {} s", patience.as_secs()))
            }
        }
    }

    /// Makes sure that it has started no process that is still there.
    async fn is_alone(&self) -> Result<(), String> {
        let processes =
            self.started.tree.leaked(Duration::ZERO).await.map_err(|error| failure::chain(&error))?;
        match processes.iter().find(|process| process.pid != self.loaded_process) {
            Some(process) => Err(format!("it has started a process: {process}")),
            None => Ok(()),
        }
    }

    /// Lets go of the run it worked for: what it writes from now on is lost. Says what it still wrote, and what of all
    /// its files failed as they ended.
    pub(crate) async fn leave_run(&mut self) -> (wire::OutputBlock, Option<String>) {
        let block = self.close_block().await;
        self.started.capture.detach().await;
        (block, self.failed_end())
    }

    /// Takes up work in another run.
    ///
    /// # Errors
    ///
    /// Why it can't; another one is needed then.
    pub(crate) async fn join_run(&mut self, context: &RunContext, origin: Origin) -> Result<(), String> {
        self.is_alone().await?;
        self.started.capture.attach(context.output.clone()).await;
        let environment = origin.environment.assignments(&RENEWED);
        self.origin = Some(origin);
        let order = WorkerOrder::Renew { environment };
        self.link.send(&order).await.map_err(|error| failure::chain(&error))?;
        match tokio::time::timeout(ANSWER_PATIENCE, self.wait_until_ready(None)).await {
            Ok(ready) => ready.map_err(|error: WorkerError| failure::chain(&error)),
            Err(_) => Err(failure::chain(&WorkerError::NotReady(ANSWER_PATIENCE))),
        }
    }

    /// Ends it at once.
    pub(crate) async fn discard(self) {
        self.stop(Duration::ZERO).await;
    }
}

/// How many sockets a process has open.
fn sockets_of(pid: u32) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let sockets = targets.filter(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
    sockets.collect::<HashSet<_>>().len()
}

/// Whether a process holds a lock on a file.
fn holds_lock(pid: u32) -> bool {
    let (locks, pid) = (fs::read_to_string("/proc/locks").unwrap_or_default(), pid.to_string());
    // 1: POSIX  ADVISORY  WRITE 1234 08:01:4711 0 EOF
    locks.lines().any(|line| line.split_whitespace().any(|word| word == pid))
}

/// The files a process has mapped: its interpreter and the libraries it has loaded. An error when one of them was
/// replaced since.
fn mapped_files(pid: u32) -> Result<HashSet<PathBuf>, String> {
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let path = |line: &[u8]| {
        let start = line.iter().position(|byte| *byte == b'/')?;
        Some(PathBuf::from(OsString::from_vec(line[start..].to_vec())))
    };
    // What has no name, or one that is gone on purpose, was not loaded from a file.
    let is_memory = |file: &PathBuf| {
        ["/dev", "/tmp", "/SYSV00000000 (deleted)"].iter().any(|place| file.starts_with(place))
            || file.as_os_str().as_encoded_bytes().starts_with(b"/memfd:")
    };
    let files: HashSet<_> =
        maps.split(|byte| *byte == b'\n').filter_map(path).filter(|file| !is_memory(file)).collect();
    match files.iter().find(|file| file.as_os_str().as_encoded_bytes().ends_with(b" (deleted)")) {
        Some(file) => Err(format!("{} was replaced since it was loaded", file.display())),
        None => Ok(files),
    }
}
