//! The journals of all projects: where they are, which is a project's last, and which are kept.
//!
//! A journal is named by its project, when its run began, and the run: `<project>_<milliseconds>_<run>.journal`.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::former;
use super::identity::FileIdentity;
use super::record::{self, Begun, Contents, FORMAT, Invocation, UnreadableError};
use super::{Journal, JournalError};
use crate::plan::RunPlan;
use crate::project::Project;

/// Journals kept of a project, those of runs that go on not counted.
const KEPT: usize = 5;

/// How long a journal is kept that nobody writes to.
const KEPT_FOR: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const SUFFIX: &str = ".journal";

/// The journals of a project.
#[derive(Clone, Debug)]
pub struct Journals {
    directory: PathBuf,
    /// What the names of the project's journals begin with.
    pub(super) prefix: String,
}

/// A journal of a run that ended early, locked for the one that continues it.
#[derive(Debug)]
pub struct TakenUp {
    pub(super) file: File,
    path: PathBuf,
    journals: Journals,
    pub(super) contents: Contents,
}

/// Why no run can be continued.
#[derive(Debug, thiserror::Error)]
pub enum TakeUpError {
    /// Every run of the project was finished, or none was begun.
    #[error("there is no unfinished run of this project")]
    Nothing,
    /// The last one that is not finished lives.
    #[error("the run {run} of this project is still going on (process {process})")]
    GoesOn {
        /// Its name.
        run: String,
        /// Its coordinator.
        process: u32,
    },
    /// The journal tells nothing.
    #[error("read the journal {}", path.display())]
    Unreadable {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: UnreadableError,
    },
    /// The journals can't be looked at.
    #[error("open {}", path.display())]
    Open {
        /// The journal or the directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Journals {
    /// The journals of a project in a state directory.
    pub fn of(state: &Path, project: &Project) -> Journals {
        Journals { directory: state.join("journals"), prefix: format!("{}_", project.workspace_hash) }
    }

    /// Begins the journal of a run that has these files.
    ///
    /// # Errors
    ///
    /// The run has no journal then.
    pub fn begin(&self, begun: Begun, files: Vec<FileIdentity>) -> Result<Journal, JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|source| JournalError::MakeDirectory { path: self.directory.clone(), source })?;
        let path = self.path_of(&begun);
        let unmade = |source| JournalError::Make { path: path.clone(), source };
        // What tests print is in it.
        let made = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path);
        let file = made.map_err(unmade)?;
        file.lock().map_err(unmade)?;
        self.remove_old();
        let mut journal = Journal::start((file, path.clone()), self.clone(), begun, files, FORMAT);
        if let Some(error) = journal.untold.take() {
            // Without its first lines it tells nothing, and yet would be taken for the last run.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(journal)
    }

    /// Takes up the journal of the last run of the project that is not finished.
    ///
    /// # Errors
    ///
    /// There is none, it belongs to a run that goes on, or it can't be read.
    pub fn take_up(&self) -> Result<TakenUp, TakeUpError> {
        let listed =
            self.paths().map_err(|source| TakeUpError::Open { path: self.directory.clone(), source });
        let path = listed?.pop().ok_or(TakeUpError::Nothing)?;
        let unopened = |source| TakeUpError::Open { path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(unopened)?;
        let contents = || {
            record::read(BufReader::new(&file))
                .map_err(|source| TakeUpError::Unreadable { path: path.clone(), source })
        };
        match file.try_lock() {
            // It was finished between the two steps.
            Ok(()) if file.metadata().map_err(unopened)?.nlink() == 0 => Err(TakeUpError::Nothing),
            Ok(()) => {
                let contents = contents()?;
                Ok(TakenUp { contents, path, journals: self.clone(), file })
            }
            Err(TryLockError::WouldBlock) => {
                let Begun { run, process, .. } = contents()?.begun;
                Err(TakeUpError::GoesOn { run, process })
            }
            Err(TryLockError::Error(source)) => Err(unopened(source)),
        }
    }

    /// Removes a journal of a finished run and those of earlier runs that were asked for the same.
    pub(super) fn remove(&self, path: &Path, invocation: &Invocation) {
        // A journal that stays is a run that can be continued once more, with nothing left to run.
        let _ = fs::remove_file(path);
        let earlier = self.paths().unwrap_or_default().into_iter().filter(|other| other.as_path() < path);
        for other in earlier {
            remove_unless_locked(&other, |file| {
                let contents = record::read(BufReader::new(file));
                contents.is_ok_and(|contents| contents.begun.invocation.selects_the_same(invocation))
            });
        }
    }

    /// The project's journals, the last one last.
    pub(super) fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in entries(&self.directory)? {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&self.prefix)) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn path_of(&self, begun: &Begun) -> PathBuf {
        let Begun { run, at_unix_ms, .. } = begun;
        self.directory.join(format!("{}{at_unix_ms:013}_{run}{SUFFIX}", self.prefix))
    }

    /// Removes old journals, those of other projects among them: their directories may be gone.
    #[expect(clippy::disallowed_methods, reason = "files on disk are dated by the clock on the wall")]
    fn remove_old(&self) {
        // What can't be removed now will be tried again by the next run.
        let paths = self.paths().unwrap_or_default();
        for path in paths.iter().rev().skip(KEPT) {
            remove_unless_locked(path, |_| true);
        }
        let long_ago = SystemTime::now().checked_sub(KEPT_FOR).unwrap_or(SystemTime::UNIX_EPOCH);
        for entry in entries(&self.directory).unwrap_or_default() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            if modified.is_ok_and(|modified| modified < long_ago) {
                remove_unless_locked(&entry.path(), |_| true);
            }
        }
    }
}

impl TakenUp {
    /// What was asked for.
    pub fn invocation(&self) -> &Invocation {
        &self.contents.begun.invocation
    }

    /// The aggregated logs of the runs that wrote it.
    pub fn logs(&self) -> impl Iterator<Item = PathBuf> {
        self.contents.logs.iter().map(PathBuf::from)
    }

    /// Moves what is finished and still the same out of a plan's files. `identities` are those of all its files; returns
    /// those of the ones that are left.
    pub fn set_aside(
        &mut self,
        plan: &mut RunPlan,
        identities: Vec<FileIdentity>,
        now: SystemTime,
    ) -> Vec<FileIdentity> {
        former::set_aside(plan, identities, &mut self.contents, now)
    }

    /// Goes on in the journal with a run that has these files left.
    ///
    /// # Errors
    ///
    /// It can't be renamed: the run has no journal then, and the former run's stays as it is.
    pub fn go_on(self, begun: Begun, files: Vec<FileIdentity>) -> Result<Journal, JournalError> {
        let TakenUp { file, path: former, journals, contents } = self;
        let path = journals.path_of(&begun);
        fs::rename(&former, &path).map_err(|source| JournalError::Make { path: path.clone(), source })?;
        let before: &[u8] = if contents.ends_in_a_line { b"\n" } else { b"" };
        Ok(Journal::start((file, path), journals, begun, files, before))
    }
}

/// Everything in the directory that is named like a journal; nothing if there is no directory.
fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let is_journal = |entry: &DirEntry| entry.file_name().to_str().is_some_and(|name| name.ends_with(SUFFIX));
    let kept = |entry: &io::Result<DirEntry>| entry.as_ref().map_or(true, is_journal);
    listed.filter(kept).collect()
}

fn remove_unless_locked(path: &Path, condition: impl FnOnce(&File) -> bool) {
    if let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
        && condition(&file)
    {
        let _ = fs::remove_file(path);
    }
}
