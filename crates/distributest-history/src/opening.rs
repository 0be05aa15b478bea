//! Opens the database file, and moves a damaged one out of the way.
//!
//! Both happen under an exclusive lock on `<file>.lock`. Without it, two coordinators that find the same damage
//! could each move "the" file aside, the second one taking the first one's new database with it. The lock is held
//! for milliseconds and dies with its process.
//!
//! What is made here is for its owner alone: the names of projects and tests are nobody else's business.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use crate::migrations::{self, MigrationError};
use crate::store::{HistoryError, HistoryWarning};

/// How long to wait for others where the run has nothing better to do: at its start and at its end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

const LOCK_POLL: Duration = Duration::from_millis(5);

/// Which file a connection is to, even when another takes over its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<FileIdentity> {
        let metadata = fs::metadata(path)?;
        Ok(FileIdentity { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// An open database of the current format.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) identity: FileIdentity,
    pub(crate) warnings: Vec<HistoryWarning>,
}

/// Opens the database at `path`, creating it and its directory where they are missing.
pub(crate) fn open(path: &Path) -> Result<Opened, HistoryError> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| HistoryError::Directory { path: directory.to_path_buf(), source })?;
    }
    let _lock = lock(path)?;
    let mut warnings = Vec::new();
    let connection = match connect(path) {
        Err(MigrationError::Sqlite(damage)) if is_damage(&damage) => {
            let moved_to = set_aside(path)?;
            warnings.push(HistoryWarning::SetAside {
                path: path.to_path_buf(),
                moved_to,
                reason: damage.to_string(),
            });
            connect(path)
        }
        other => other,
    }
    .map_err(|error| explain(path, error))?;
    let identity = FileIdentity::of(path)
        .map_err(|source| HistoryError::Inspect { path: path.to_path_buf(), source })?;
    Ok(Opened { connection, identity, warnings })
}

/// Moves the file at `path` aside if it still is the one found damaged; otherwise a neighbour already did.
pub(crate) fn set_aside_if_same(path: &Path, damaged: FileIdentity) -> Result<(), HistoryError> {
    let _lock = lock(path)?;
    match FileIdentity::of(path) {
        Ok(present) if present == damaged => set_aside(path).map(drop),
        _ => Ok(()),
    }
}

/// Whether SQLite says that the bytes of the file make no sense.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether SQLite gave up waiting for another process.
pub(crate) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn connect(path: &Path) -> Result<Connection, MigrationError> {
    make_private(path);
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Plans that do not depend on the values bound: otherwise the trimming statements are compiled anew for each row.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The mode is a property of the file; where its file system can't do WAL, SQLite stays with its own journal.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // With WAL this survives the death of the process; only a power cut can take the last moments with it.
    connection.pragma_update(None, "synchronous", "normal")?;
    migrations::apply(&mut connection)?;
    Ok(connection)
}

/// Makes a missing database as an empty file that only its owner can read; SQLite gives its journals the same mode.
///
/// A file that is there is not even opened: closing it would drop the locks other connections of this process hold.
/// What keeps the file from being made, SQLite runs into as well, and says so.
fn make_private(path: &Path) {
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
}

fn explain(path: &Path, error: MigrationError) -> HistoryError {
    let path = path.to_path_buf();
    match error {
        MigrationError::Newer { found } => {
            HistoryError::Newer { path, found, known: migrations::CURRENT_VERSION }
        }
        MigrationError::Sqlite(source) if is_locked(&source) => HistoryError::Locked { path },
        MigrationError::Sqlite(source) => HistoryError::Open { path, source },
    }
}

/// The lock file with the lock held; dropping it lets go.
fn lock(path: &Path) -> Result<File, HistoryError> {
    let lock_path = beside(path, ".lock");
    let failed = |source| HistoryError::Lock { path: lock_path.clone(), source };
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path).map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(HistoryError::Locked { path: path.to_path_buf() });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
        }
    }
}

/// Renames the database to the first free `<file>.corrupt-<n>` and its journals with it.
///
/// The journals go first: a journal left beside a new database would be taken for that database's own.
fn set_aside(path: &Path) -> Result<PathBuf, HistoryError> {
    let free = (1..).map(|number: u32| beside(path, &format!(".corrupt-{number}")));
    let moved_to = free
        .into_iter()
        .find(|candidate| fs::symlink_metadata(candidate).is_err())
        .expect("numbers do not run out before the disk does");
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, suffix), beside(&moved_to, suffix)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(HistoryError::SetAside { path: path.to_path_buf(), moved_to, source });
            }
            _ => {}
        }
    }
    Ok(moved_to)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
