//! Keeps workers that have loaded their framework and the project from one run to the next.
//!
//! A run that ends in order leaves its workers to its session, which stays for them if a daemon is there to watch it. The
//! next run of this user in the same directory takes over those that a worker started now would be equal to:
//!
//! - it would be started in the same way: the same program, arguments and environment, but for what is renewed;
//! - nothing has changed that it has loaded, or where it has looked for that, inside of the directory and outside, since
//!   before it was loaded. The worker tells which files those are (`proto/worker.md`);
//! - no file has come into the directory or gone from it, for nobody can tell what else the worker has looked for;
//! - no other file of the directory has changed, unless the worker knows every file it has read.
//!
//! The last two say nothing of test files that were given to workers, which load them in processes of their own, nor of
//! what tests write by custom ([`WRITTEN`], [`WRITTEN_ENDINGS`]).
//!
//! The directory is looked at when a run's first runner has been set up, and again when the run has ended: what differs
//! then was changed while the workers lived.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distributest_protocol::wire;
use distributest_tree::record::Stamp;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::snapshot::{Snapshot, stamp_at};
use super::worker::{LoadedFiles, Origin, Worker};

/// What tests write: directories at the top of the project, and endings of files anywhere in it.
const WRITTEN: [&str; 6] = [".hypothesis", ".pytest_cache", ".ruff_cache", "coverage", "log", "tmp"];
const WRITTEN_ENDINGS: [&str; 5] = [".log", ".sqlite3", ".sqlite3-journal", ".sqlite3-shm", ".sqlite3-wal"];

/// How far the times of files may be behind the clock.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// A worker that waits for its next run.
struct KeptWorker {
    worker: Worker,
    /// What it has loaded, as it was then; what was not there has no stamp.
    loaded: Vec<(PathBuf, Option<Stamp>)>,
    /// It has read nothing else.
    knows_all: bool,
}

/// The workers kept in one directory.
struct Place {
    /// What the directory held when they were left there.
    state: Snapshot,
    /// Those that runs there were given, relative to it.
    test_files: HashSet<PathBuf>,
    workers: Vec<KeptWorker>,
    until: Instant,
}

/// All workers that a session keeps, by the directory they work in.
#[derive(Default)]
pub(crate) struct WarmWorkers {
    places: HashMap<PathBuf, Place>,
    /// The run that is served.
    run: Option<Arc<RunWarmth>>,
}

impl WarmWorkers {
    /// What a run in `directory` finds, which is its own from now on. Without time to keep workers it finds none.
    pub(crate) fn begin(&mut self, directory: &Path, keep_for: Duration) -> Arc<RunWarmth> {
        let former = self.places.remove(directory).filter(|_| !keep_for.is_zero());
        let (former, test_files) = former
            .map_or_else(Default::default, |place| ((Some(place.state), place.workers), place.test_files));
        let (before, workers) = former;
        let run = Arc::new(RunWarmth {
            keep_for,
            directory: directory.to_owned(),
            before,
            workers: Mutex::new(workers),
            begun: OnceCell::new(),
            test_files: Mutex::new(test_files),
            left: Mutex::default(),
            refused: AtomicBool::new(false),
        });
        self.run = Some(run.clone());
        run
    }

    /// Whether a run has begun since the last one ended.
    pub(crate) fn serves_a_run(&self) -> bool {
        self.run.is_some()
    }

    /// Takes over what the run has left, which has ended in order and is gone.
    pub(crate) async fn end(&mut self) {
        let Some(run) = self.run.take().and_then(Arc::into_inner) else { return };
        let RunWarmth { keep_for, directory, workers, begun, test_files, left, .. } = run;
        let (unused, left, test_files) = (into_inner(workers), into_inner(left), into_inner(test_files));
        let Some(Begun { at, state: Some(before), changes }) = begun.into_inner() else { return };
        let Some(state) = look_at(&directory).await else { return };
        let unused = unused.into_iter().filter(|kept| kept.is_out_of_date(&changes).is_none());
        let left = left.into_iter().filter_map(|worker| worker.keep(&directory, &before, at));
        let changes = Changes::between(&before, &state, &test_files);
        let workers: Vec<_> = unused.chain(left).filter(|kept| !changes.concern(kept)).collect();
        if let Some(path) = &changes.names.or(changes.content) {
            tracing::info!(
                ?path,
                "this has changed while workers ran: those that may have read it are not kept"
            );
        }
        if !workers.is_empty() {
            tracing::info!(workers = workers.len(), ?directory, "workers are kept");
            let until = Instant::now() + keep_for;
            self.places.insert(directory, Place { state, test_files, workers, until });
        }
    }

    /// How long anything is kept; `None`: nothing is.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let last = self.places.values().map(|place| place.until).max()?;
        Some(last.saturating_duration_since(Instant::now()))
    }

    /// Ends workers that were kept long enough, as their time comes.
    pub(crate) async fn expire(&mut self) {
        while let Some((directory, place)) = self.places.iter().min_by_key(|(_, place)| place.until) {
            let (directory, until) = (directory.clone(), place.until);
            tokio::time::sleep_until(until).await;
            self.places.remove(&directory);
        }
        std::future::pending().await
    }
}

impl KeptWorker {
    /// What it has loaded and is not any more as it was.
    fn is_out_of_date(&self, changes: &Changes) -> Option<String> {
        let changed = self.loaded.iter().find(|(path, stamp)| stamp_at(path) != *stamp);
        let changed = changed.map(|(path, _)| path).or(changes.names.as_ref());
        let changed = changed.or(changes.content.as_ref().filter(|_| !self.knows_all));
        changed.map(|path| format!("{} has changed", path.display()))
    }
}

/// What has changed in a directory, test files and what tests write left out: a path of each kind, to name it.
#[derive(Default)]
struct Changes {
    /// A file or directory that is new or gone.
    names: Option<PathBuf>,
    /// A file that has another content.
    content: Option<PathBuf>,
}

impl Changes {
    fn between(before: &Snapshot, after: &Snapshot, test_files: &HashSet<PathBuf>) -> Self {
        let mut changes = Changes::default();
        for difference in before.differences(after) {
            if !is_written_by_tests(difference.path) && !test_files.contains(difference.path) {
                let kind = if difference.is_of_names { &mut changes.names } else { &mut changes.content };
                kind.get_or_insert_with(|| difference.path.to_owned());
            }
        }
        changes
    }

    fn concern(&self, kept: &KeptWorker) -> bool {
        self.names.is_some() || (self.content.is_some() && !kept.knows_all)
    }
}

fn is_written_by_tests(path: &Path) -> bool {
    let top = path.iter().next().and_then(OsStr::to_str);
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    top.is_some_and(|top| WRITTEN.contains(&top) || top.starts_with(".coverage"))
        || WRITTEN_ENDINGS.iter().any(|ending| name.ends_with(ending.as_bytes()))
}

/// What a run has of earlier ones, and leaves to later ones.
pub(crate) struct RunWarmth {
    keep_for: Duration,
    directory: PathBuf,
    /// What the directory held when the last run there had ended.
    before: Option<Snapshot>,
    /// Those that the last run has left and nobody has taken.
    workers: Mutex<Vec<KeptWorker>>,
    begun: OnceCell<Begun>,
    test_files: Mutex<HashSet<PathBuf>>,
    left: Mutex<Vec<LeftWorker>>,
    /// No worker may be left to a later run.
    refused: AtomicBool,
}

/// A worker whose run has ended, and what it said of itself.
struct LeftWorker {
    worker: Worker,
    loaded: LoadedFiles,
}

impl LeftWorker {
    /// Keeps it, unless something that it has loaded may have changed since the run began.
    fn keep(self, directory: &Path, before: &Snapshot, begun: SystemTime) -> Option<KeptWorker> {
        let since = (begun - CLOCK_TICK).duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        let is_as_before = |path: &Path, stamp: Stamp| {
            let below = path.strip_prefix(directory).ok();
            stamp.changed < since || below.and_then(|path| before.stamp_of(path)) == Some(stamp)
        };
        let files = self.loaded.files.into_iter();
        let loaded: Vec<_> =
            files.map(|path| (stamp_at(&path), path)).map(|(stamp, path)| (path, stamp)).collect();
        let changed =
            |(path, stamp): &&(PathBuf, Option<Stamp>)| stamp.is_some_and(|stamp| !is_as_before(path, stamp));
        if let Some((path, _)) = loaded.iter().find(changed) {
            tracing::info!(?path, "a worker is not kept, for this has changed while it ran");
            return None;
        }
        Some(KeptWorker { worker: self.worker, loaded, knows_all: self.loaded.is_all })
    }
}

/// How a run found its directory, before its first worker.
struct Begun {
    at: SystemTime,
    /// `None` when it can't be looked at.
    state: Option<Snapshot>,
    /// Since the last run.
    changes: Changes,
}

impl RunWarmth {
    /// Notes a file that workers are given to run.
    pub(crate) fn note_test_file(&self, file: &str) {
        if !self.keep_for.is_zero() {
            lock(&self.test_files).insert(PathBuf::from(file));
        }
    }

    /// Takes the worker, if it is there, that one started in the wanted way would be equal to. To be asked before any is
    /// started.
    pub(crate) async fn take(&self, wanted: Option<&Origin>) -> Option<Worker> {
        let wanted = wanted.filter(|_| !self.keep_for.is_zero())?;
        let begun = self.begun.get_or_init(|| self.look()).await;
        let kept = self.candidate(wanted)?;
        let differs = kept.worker.origin().and_then(|origin| origin.difference(wanted));
        match differs.or_else(|| kept.is_out_of_date(&begun.changes)) {
            None => Some(kept.worker),
            Some(reason) => {
                tracing::info!(reason, "a kept worker is not used");
                kept.worker.discard().await;
                None
            }
        }
    }

    async fn look(&self) -> Begun {
        #[expect(clippy::disallowed_methods, reason = "compared with times of files")]
        let at = SystemTime::now();
        let state = look_at(&self.directory).await;
        let changes = match (&self.before, &state) {
            (Some(before), Some(state)) => Changes::between(before, state, &lock(&self.test_files)),
            _ => Changes::default(),
        };
        Begun { at, state, changes }
    }

    fn candidate(&self, wanted: &Origin) -> Option<KeptWorker> {
        let mut workers = lock(&self.workers);
        let fits = |kept: &KeptWorker| kept.worker.origin().is_some_and(|own| own.is_of_same_runner(wanted));
        let index = workers.iter().position(fits)?;
        Some(workers.swap_remove(index))
    }

    /// Lets no worker stay: there is something in this run that ends with it and that they may miss.
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether workers may be left to a later run.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.keep_for.is_zero() && !self.refused.load(Ordering::Relaxed)
    }

    /// Leaves a worker to the next run. The block holds what it wrote since its last file; the text says what of all its
    /// files failed as they ended, if anything did.
    ///
    /// # Errors
    ///
    /// The worker, when it may not stay.
    pub(crate) async fn leave(
        &self,
        mut worker: Box<Worker>,
    ) -> Result<(wire::OutputBlock, Option<String>), Box<Worker>> {
        if !self.is_wanted() {
            return Err(worker);
        }
        match worker.prepare_to_stay().await {
            Ok(loaded) => {
                let last_words = worker.leave_run().await;
                lock(&self.left).push(LeftWorker { worker: *worker, loaded });
                Ok(last_words)
            }
            Err(reason) => {
                tracing::info!(reason, "a worker is not kept");
                Err(worker)
            }
        }
    }
}

/// Looks at a directory off the thread that carries the session.
async fn look_at(directory: &Path) -> Option<Snapshot> {
    let path = directory.to_owned();
    let looked = tokio::task::spawn_blocking(move || Snapshot::take(&path)).await.ok()?;
    looked.inspect_err(|error| tracing::info!(%error, ?directory, "no worker is kept here")).ok()
}

fn lock<Content>(mutex: &Mutex<Content>) -> MutexGuard<'_, Content> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<Content>(mutex: Mutex<Content>) -> Content {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
