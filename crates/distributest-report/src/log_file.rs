//! Opens the file of the aggregated log: new for every run, the last ones kept, never shared by two runs.
//!
//! A run that writes a log holds a lock on it. That decides two cases:
//!
//! - an explicit path (`log.path`) that another run is writing at this moment is left alone, and the log goes to
//!   `path.2`, `path.3`, … with a warning; the file is truncated in place, not renamed over, so that `tail -F` and
//!   a file that was given special permissions keep working;
//! - old logs in a directory are removed only when no run writes them any more.
//!
//! A log that is made is for its owner alone; a file that is there keeps its mode.
//!
//! Devices and pipes (`/dev/stderr`, `/dev/null`) are written as they are: not locked, not truncated.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};

/// The name of the link to the newest log of a directory.
const LATEST: &str = "latest.log";

/// Simultaneous runs that can use one explicit path.
const ALTERNATIVES: usize = 20;

/// Where the aggregated log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// A new file in this directory for every run.
    Directory {
        /// The directory; it and missing parents are made, readable by their owner only.
        directory: PathBuf,
        /// How many logs to keep, the new one included; at least that one is kept.
        keep: usize,
    },
    /// Exactly this file.
    File(PathBuf),
    /// Exactly this file, of a run that continues those which wrote the `former` logs: what is in one of them stays.
    Continued {
        /// The file.
        path: PathBuf,
        /// The logs of the former runs.
        former: Vec<PathBuf>,
    },
}

/// The log of one run, open and empty, with what happened on the way.
#[derive(Debug)]
pub struct PreparedLog {
    /// The file, locked until it is closed.
    pub file: File,
    /// Its path.
    pub path: PathBuf,
    /// What people should know: another path than they gave, old logs that could not be removed.
    pub warnings: Vec<String>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// The directory can't be made.
    #[error("make the log directory {}", path.display())]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file can't be opened for writing, locked or emptied.
    #[error("open the log {} for writing", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every path that could stand in for the explicit one is being written by another run.
    #[error("find a free name for the log {}: {ALTERNATIVES} other runs are writing there", path.display())]
    AllInUse {
        /// The file asked for.
        path: PathBuf,
    },
}

/// Opens the log of a run. `run` is the run's id and `started` its start; both go into a generated file name.
///
/// # Errors
///
/// Any reason why the run would have no log; to go on all the same is the caller's choice.
pub fn prepare_log(
    destination: &LogDestination,
    run: &str,
    started: SystemTime,
) -> Result<PreparedLog, LogFileError> {
    match destination {
        LogDestination::Directory { directory, keep } => in_directory(directory, *keep, run, started),
        LogDestination::File(path) => at_path(path, &[]),
        LogDestination::Continued { path, former } => at_path(path, former),
    }
}

fn in_directory(
    directory: &Path,
    keep: usize,
    run: &str,
    started: SystemTime,
) -> Result<PreparedLog, LogFileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| LogFileError::MakeDirectory { path: directory.to_owned(), source })?;
    let name = format!("{}_{}.log", timestamp(started), file_name_part(run));
    let path = directory.join(&name);
    let file = create_locked(&path).map_err(|source| LogFileError::Open { path: path.clone(), source })?;
    let mut warnings = Vec::new();
    if let Err(error) = link_latest(directory, &name) {
        warnings.push(format!("could not make the link {}: {error}", directory.join(LATEST).display()));
    }
    if let Err((path, error)) = remove_old(directory, keep.max(1)) {
        warnings.push(format!("could not remove old logs: {}: {error}", path.display()));
    }
    Ok(PreparedLog { file, path, warnings })
}

/// A new file, locked. Another run that tidies up may remove it between the two steps; then it is made again.
fn create_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// UTC, so that names sort by age whatever the clocks of summer do.
fn timestamp(started: SystemTime) -> String {
    DateTime::<Utc>::from(started).format("%Y-%m-%dT%H-%M-%S%.3fZ").to_string()
}

fn file_name_part(run: &str) -> String {
    let harmless = |character: char| match character {
        kept @ ('a'..='z' | 'A'..='Z' | '0'..='9' | '-') => kept,
        _ => '_',
    };
    run.chars().map(harmless).collect()
}

/// Points `latest.log` at the new log in one step, so that nobody ever finds it missing.
fn link_latest(directory: &Path, name: &str) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.link"));
    symlink(name, &temporary)?;
    fs::rename(&temporary, directory.join(LATEST)).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Removes the oldest logs beyond `keep` that no run is writing.
fn remove_old(directory: &Path, keep: usize) -> Result<(), (PathBuf, io::Error)> {
    let in_directory = |error| (directory.to_owned(), error);
    let mut logs = Vec::new();
    for entry in fs::read_dir(directory).map_err(in_directory)? {
        let name = entry.map_err(in_directory)?.file_name();
        if is_generated_name(&name) {
            logs.push(name);
        }
    }
    logs.sort_unstable();
    for name in logs.iter().rev().skip(keep) {
        let path = directory.join(name);
        remove_unless_locked(&path).map_err(|error| (path, error))?;
    }
    Ok(())
}

/// Only names this module makes are ever removed: `2026-11-21T23-10-08.000Z_<run>.log`.
fn is_generated_name(name: &OsString) -> bool {
    let Some((time, rest)) = name.to_str().and_then(|name| name.split_once("Z_")) else { return false };
    let shaped = time.bytes().zip(*b"dddd-dd-ddTdd-dd-dd.ddd").all(|(byte, shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        exact => byte == exact,
    });
    time.len() == 23 && shaped && rest.ends_with(".log")
}

fn remove_unless_locked(path: &Path) -> io::Result<()> {
    let removed = OpenOptions::new().read(true).open(path).and_then(|file| match file.try_lock() {
        Ok(()) => fs::remove_file(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    });
    match removed {
        // Another run tidied up at the same time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn at_path(path: &Path, kept: &[PathBuf]) -> Result<PreparedLog, LogFileError> {
    for number in 1..=ALTERNATIVES {
        let candidate = alternative(path, number);
        let open_error = |source| LogFileError::Open { path: candidate.clone(), source };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&candidate)
            .map_err(open_error)?;
        if file.metadata().map_err(open_error)?.is_file() {
            match file.try_lock() {
                Ok(()) if kept.contains(&candidate) => {
                    go_to_the_end(&mut file, &candidate).map_err(open_error)?
                }
                Ok(()) => file.set_len(0).map_err(open_error)?,
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => return Err(open_error(source)),
            }
        }
        let mut warnings = Vec::new();
        if number > 1 {
            let (path, candidate) = (path.display(), candidate.display());
            warnings.push(format!("another run is writing the log {path}; this run's goes to {candidate}"));
        }
        return Ok(PreparedLog { file, path: candidate, warnings });
    }
    Err(LogFileError::AllInUse { path: path.to_owned() })
}

/// To where a line begins: a run that was killed may have left half of one.
fn go_to_the_end(file: &mut File, path: &Path) -> io::Result<()> {
    let mut last = [b'\n'];
    let length = file.seek(SeekFrom::End(0))?;
    if length > 0 {
        File::open(path)?.read_exact_at(&mut last, length - 1)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn alternative(path: &Path, number: usize) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_302_608 + seconds)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_logs_are_kept_and_the_newest_is_linked() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("state/logs");
        let destination = LogDestination::Directory { directory: directory.clone(), keep: 2 };
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("notes.log"), "mine").unwrap();
        for seconds in 0..4 {
            let mut log = prepare_log(&destination, &format!("run/{seconds}"), at(seconds)).unwrap();
            assert_eq!(log.warnings, Vec::<String>::new());
            write!(log.file, "{seconds}").unwrap();
        }
        let kept = [
            "2026-11-21T23-10-10.000Z_run_2.log",
            "2026-11-21T23-10-11.000Z_run_3.log",
            "latest.log",
            "notes.log",
        ];
        assert_eq!(names(&directory), kept);
        assert_eq!(fs::read_to_string(directory.join(LATEST)).unwrap(), "3");
    }

    #[test]
    fn a_log_that_is_being_written_is_never_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let destination = LogDestination::Directory { directory: scratch.path().to_owned(), keep: 0 };
        let first = prepare_log(&destination, "a", at(0)).unwrap();
        let second = prepare_log(&destination, "b", at(1)).unwrap();
        assert!(first.path.exists());
        drop(first);
        prepare_log(&destination, "c", at(2)).unwrap();
        assert_eq!(names(scratch.path()).len(), 3, "b is locked, c is new, latest.log");
        assert!(second.path.exists());
    }

    #[test]
    fn a_made_directory_is_private() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("logs");
        prepare_log(&LogDestination::Directory { directory: directory.clone(), keep: 1 }, "a", at(0))
            .unwrap();
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_made_log_is_private_and_an_existing_file_keeps_its_mode() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("distributest.log");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        prepare_log(&LogDestination::File(path.clone()), "a", at(0)).unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        prepare_log(&LogDestination::File(path.clone()), "b", at(1)).unwrap();
        assert_eq!(mode(&path), 0o644);
        let directory = LogDestination::Directory { directory: scratch.path().to_owned(), keep: 1 };
        let log = prepare_log(&directory, "c", at(2)).unwrap();
        assert_eq!(mode(&log.path), 0o600, "the directory may be open to others");
    }

    #[test]
    fn an_explicit_path_is_emptied_and_two_runs_do_not_share_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("distributest.log");
        let destination = LogDestination::File(path.clone());
        fs::write(&path, "of an earlier run").unwrap();
        let first = prepare_log(&destination, "a", at(0)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!((&first.path, first.warnings.len()), (&path, 0));

        let second = prepare_log(&destination, "b", at(0)).unwrap();
        let other = scratch.path().join("distributest.log.2");
        let warning = format!(
            "another run is writing the log {}; this run's goes to {}",
            path.display(),
            other.display()
        );
        assert_eq!((second.path, second.warnings), (other, vec![warning]));

        drop(first);
        assert_eq!(prepare_log(&destination, "c", at(0)).unwrap().path, path);
    }

    #[test]
    fn a_run_that_continues_another_goes_on_in_its_log() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("distributest.log");
        let continued = |former: &[&Path]| {
            let former = former.iter().map(|path| path.to_path_buf()).collect();
            let destination = LogDestination::Continued { path: path.clone(), former };
            writeln!(prepare_log(&destination, "a", at(0)).unwrap().file, "a line").unwrap();
            fs::read_to_string(&path).unwrap()
        };
        fs::write(&path, "half a li").unwrap();
        assert_eq!(continued(&[&path]), "half a li\na line\n");
        assert_eq!(continued(&[&path]), "half a li\na line\na line\n");
        assert_eq!(continued(&[&scratch.path().join("other.log")]), "a line\n");
        fs::write(&path, "").unwrap();
        assert_eq!(continued(&[&path]), "a line\n");
    }

    #[test]
    fn devices_are_written_as_they_are() {
        let destination = LogDestination::File(PathBuf::from("/dev/null"));
        let first = prepare_log(&destination, "a", at(0)).unwrap();
        let second = prepare_log(&destination, "b", at(0)).unwrap();
        assert_eq!((first.path, second.path), (PathBuf::from("/dev/null"), PathBuf::from("/dev/null")));
    }

    #[test]
    fn errors_name_the_path_and_leave_the_cause_to_the_source() {
        let error = prepare_log(&LogDestination::File("/proc/no/such.log".into()), "a", at(0)).unwrap_err();
        assert_eq!(error.to_string(), "open the log /proc/no/such.log for writing");
        let destination = LogDestination::Directory { directory: "/proc/no/logs".into(), keep: 3 };
        let error = prepare_log(&destination, "a", at(0)).unwrap_err();
        assert_eq!(error.to_string(), "make the log directory /proc/no/logs");
        assert!(std::error::Error::source(&error).is_some());
    }
}
