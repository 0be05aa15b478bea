//! The open history: what it answers, and every way it can fail.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use distributest_core::prediction::RECENT_LIMIT;
use rusqlite::{Connection, named_params};

use crate::opening;

/// Why the history can't be used. The run goes on without it. Displays as what follows "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The directory it should be in can't be made.
    #[error("create the directory {path} for the history")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file that serialises opening can't be made or locked.
    #[error("lock {path}, which guards the history; check that you may write there")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process holds the history and did not let go in time.
    #[error("use the history {path}: another process holds it locked")]
    Locked {
        /// The history.
        path: PathBuf,
    },
    /// SQLite can't open it.
    #[error("open the history {path}")]
    Open {
        /// The history.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// It was opened, but the file can't be looked at.
    #[error("inspect the history {path}")]
    Inspect {
        /// The history.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It was written by a newer program.
    #[error(
        "use the history {path}: it has format {found} and this distributest knows formats up to {known}; \
         upgrade distributest or remove the file"
    )]
    Newer {
        /// The history.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this program knows.
        known: i64,
    },
    /// It turned out damaged while it was in use. It is out of the way already; the next run begins a new one.
    #[error(
        "use the history {path}: it is damaged and was moved aside to {path}.corrupt-<n>; the next run begins a new one"
    )]
    Damaged {
        /// The history.
        path: PathBuf,
        /// What SQLite found.
        #[source]
        source: rusqlite::Error,
    },
    /// It is damaged and can't be moved out of the way.
    #[error("move the damaged history {path} to {moved_to}; remove it by hand")]
    SetAside {
        /// The history.
        path: PathBuf,
        /// Where it should have gone.
        moved_to: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A question to it failed.
    #[error("read the history {path}")]
    Read {
        /// The history.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Recording a run in it failed.
    #[error("write to the history {path}")]
    Write {
        /// The history.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// Something the user should know of a history that can be used all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryWarning {
    /// The file was damaged; it was moved aside and a new one begun.
    #[error(
        "the history {path} is damaged ({reason}); it was moved to {moved_to} and a new one begun, so the order of \
         this run is a guess"
    )]
    SetAside {
        /// The history.
        path: PathBuf,
        /// Where the damaged file is now.
        moved_to: PathBuf,
        /// What SQLite found.
        reason: String,
    },
}

/// One earlier attempt on a file that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAttempt {
    /// From start to end, on the host's clock.
    pub duration: Duration,
    /// The host's name; shared by all attempts of one answer that ran there.
    pub host: Arc<str>,
    /// When it finished, by the coordinator's clock: milliseconds since the Unix epoch.
    pub finished_at_unix_ms: i64,
    /// The most memory it had resident, in bytes, if that is known.
    pub peak_memory: Option<u64>,
}

/// A test of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedTest {
    /// Its id, as its framework gave it.
    pub identifier: String,
    /// How long it took.
    pub duration: Duration,
}

/// An open history.
#[derive(Debug)]
pub struct History {
    pub(crate) connection: Connection,
    path: PathBuf,
    identity: opening::FileIdentity,
}

impl History {
    /// Opens the history at `path`, creating file and directory where they are missing and bringing an older
    /// format up to date. A damaged file is moved aside, with a warning.
    ///
    /// # Errors
    ///
    /// Anything that keeps the file from being read and written, a newer format included. Waits at most five
    /// seconds for other processes.
    pub fn open(path: &Path) -> Result<(History, Vec<HistoryWarning>), HistoryError> {
        let opened = opening::open(path)?;
        let history =
            History { connection: opened.connection, path: path.to_path_buf(), identity: opened.identity };
        Ok((history, opened.warnings))
    }

    /// What every file of a project took lately: at most [`RECENT_LIMIT`] for each, newest first, only attempts that
    /// passed, or failed and decided their file. A file without any is absent.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Read`], or [`HistoryError::Damaged`]: then open the history again to begin a new one.
    pub fn recent(&self, project_key: &str) -> Result<HashMap<String, Vec<RecordedAttempt>>, HistoryError> {
        self.read_recent(project_key).map_err(|error| self.failed(error, Operation::Read))
    }

    fn read_recent(&self, project_key: &str) -> rusqlite::Result<HashMap<String, Vec<RecordedAttempt>>> {
        // One transaction, so that every host named by an attempt is among the hosts read before.
        let transaction = self.connection.unchecked_transaction()?;
        let hosts = read_hosts(&transaction)?;
        let mut statement = transaction.prepare(RECENT)?;
        let mut rows = statement.query(named_params! {
            ":project": project_key,
            ":beyond": RECENT_LIMIT as i64 - 1,
            ":ever": i64::MIN,
        })?;
        let mut recent = HashMap::new();
        let mut current: Option<(i64, String, Vec<RecordedAttempt>)> = None;
        while let Some(row) = rows.next()? {
            let file: i64 = row.get(0)?;
            if current.as_ref().is_none_or(|(id, ..)| *id != file) {
                let next = (file, row.get(1)?, Vec::with_capacity(RECENT_LIMIT));
                recent.extend(current.replace(next).map(|(_, path, attempts)| (path, attempts)));
            }
            let Some((_, _, attempts)) = &mut current else { continue };
            // Attempts that finished in the same millisecond as the last one wanted come along with it.
            if attempts.len() < RECENT_LIMIT {
                attempts.push(RecordedAttempt {
                    duration: Duration::from_micros(row.get::<_, i64>(2)?.unsigned_abs()),
                    host: hosts.get(&row.get(3)?).cloned().unwrap_or_default(),
                    finished_at_unix_ms: row.get(4)?,
                    peak_memory: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
                });
            }
        }
        recent.extend(current.map(|(_, path, attempts)| (path, attempts)));
        Ok(recent)
    }

    /// The tests of the newest attempt that passed, or failed and decided its file, in their order, for each of these files.
    /// A file without any is absent.
    ///
    /// # Errors
    ///
    /// As [`History::recent`].
    pub fn tests_of(
        &self,
        project_key: &str,
        paths: &[&str],
    ) -> Result<HashMap<String, Vec<RecordedTest>>, HistoryError> {
        let read = |path: &&str| Ok(((*path).to_owned(), self.read_tests(project_key, path)?));
        let tests: rusqlite::Result<HashMap<_, _>> = paths.iter().map(read).collect();
        let mut tests = tests.map_err(|error| self.failed(error, Operation::Read))?;
        tests.retain(|_, tests: &mut Vec<RecordedTest>| !tests.is_empty());
        Ok(tests)
    }

    fn read_tests(&self, project_key: &str, path: &str) -> rusqlite::Result<Vec<RecordedTest>> {
        let mut statement = self.connection.prepare_cached(TESTS)?;
        let tests = statement.query_map(named_params! { ":project": project_key, ":path": path }, |row| {
            let duration = Duration::from_micros(row.get::<_, i64>(1)?.unsigned_abs());
            Ok(RecordedTest { identifier: row.get(0)?, duration })
        })?;
        tests.collect()
    }

    /// Names what failed, and moves the file out of the way if it is damaged.
    pub(crate) fn failed(&self, source: rusqlite::Error, operation: Operation) -> HistoryError {
        let path = self.path.clone();
        if opening::is_damage(&source) {
            return match opening::set_aside_if_same(&path, self.identity) {
                Ok(()) => HistoryError::Damaged { path, source },
                Err(error) => error,
            };
        }
        if opening::is_locked(&source) {
            return HistoryError::Locked { path };
        }
        match operation {
            Operation::Read => HistoryError::Read { path, source },
            Operation::Write => HistoryError::Write { path, source },
        }
    }
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Read,
    Write,
}

/// Walks two covering indexes side by side, in their own order. The inner question is answered once per file, by
/// stepping over the newest entries.
const RECENT: &str = "
    SELECT files.id, files.path, attempts.duration, attempts.host_id, attempts.finished_at, attempts.peak_memory
    FROM projects
    JOIN files ON files.project_id = projects.id
    JOIN attempts ON attempts.file_id = files.id
    WHERE projects.key = :project
      AND (attempts.result = 'passed' OR (attempts.result = 'failed' AND attempts.deciding))
      AND attempts.finished_at >= coalesce(
          (SELECT newer.finished_at FROM attempts AS newer
           WHERE newer.file_id = files.id
             AND (newer.result = 'passed' OR (newer.result = 'failed' AND newer.deciding))
           ORDER BY newer.finished_at DESC, newer.id DESC LIMIT 1 OFFSET :beyond),
          :ever)
    ORDER BY files.id, attempts.finished_at DESC, attempts.id DESC";

const TESTS: &str = "
    SELECT tests.identifier, tests.duration
    FROM tests
    WHERE tests.attempt_id = (
        SELECT attempts.id
        FROM projects
        JOIN files ON files.project_id = projects.id AND files.path = :path
        JOIN attempts ON attempts.file_id = files.id
        WHERE projects.key = :project AND attempts.deciding AND attempts.result IN ('passed', 'failed')
        ORDER BY attempts.finished_at DESC, attempts.id DESC LIMIT 1)
    ORDER BY tests.position";

fn read_hosts(connection: &Connection) -> rusqlite::Result<HashMap<i64, Arc<str>>> {
    let mut statement = connection.prepare("SELECT id, name FROM hosts")?;
    let hosts = statement.query_map([], |row| Ok((row.get(0)?, Arc::from(row.get::<_, String>(1)?))))?;
    hosts.collect()
}
