//! Lets the successor of a process that was killed find and kill what that one's trees left.
//!
//! An owner that is killed at the same moment as its roots leaves their deeper members to whoever takes in orphans.
//! No process is left that knows them, so a process that is to have a successor (a daemon that is started again) keeps
//! a file with the marks of its trees. Its successor kills the processes of which all of this is true:
//!
//! - their mark is in a dead owner's file, of this very boot;
//! - they are no older than the tree that had it;
//! - their ancestors lead, over members of the tree only, to one of the dead owner's ancestors: that is where its
//!   orphans end up. The members of any living tree, of whatever owner and with whatever mark, lead to that owner.
//!
//! Each owner has a file of its own, so that one that takes its time to leave and its successor don't meet.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use crate::mark::Mark;
use crate::members::freeze_and_kill;
use crate::process_table::{Process, all_pids, parse_pid};
use crate::tree::{LeakedProcess, ProcessTree, describe};

/// How long what a dead owner left may take to disappear after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What names one process for good, until the next boot.
type Key = (Pid, u64);

/// This process's record of its trees; cheap to clone.
#[derive(Clone, Debug)]
pub struct TreeRecords(Arc<Mutex<Records>>);

#[derive(Debug)]
struct Records {
    path: PathBuf,
    record: Record,
    last_number: u64,
}

/// A tree that is on record until this is dropped.
#[derive(Debug)]
pub struct RecordedTree {
    records: TreeRecords,
    number: u64,
}

/// What one owner left, or leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    boot: String,
    owner: Key,
    ancestors: Vec<Key>,
    trees: BTreeMap<u64, TreeRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TreeRecord {
    mark: Mark,
    /// When its root started, in clock ticks since boot.
    started: u64,
}

impl TreeRecords {
    /// Starts this process's record in a file whose name begins with `prefix`, and kills what former owners with
    /// records of that name left. Returns what was killed. Holds up the thread meanwhile.
    ///
    /// # Errors
    ///
    /// When `/proc` does not tell of this process itself. What can't be read, killed or removed of others is named in
    /// the log; what is still there ten seconds after SIGKILL stays on record for the next successor.
    pub fn succeed(prefix: &Path) -> io::Result<(TreeRecords, Vec<LeakedProcess>)> {
        let boot = boot()?;
        let mut killed = Vec::new();
        for path in former_records(prefix) {
            if let Some(record) = read_record(&path)
                && record.boot == boot
            {
                if Process::read(record.owner.0)?.is_some_and(|process| process.key() == record.owner) {
                    continue;
                }
                if let Err(error) = kill_what_is_left(&record, &mut killed) {
                    tracing::error!(path = %path.display(), %error, "failed to kill what a dead process left");
                    continue;
                }
            }
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to remove the record of a dead process");
            }
        }
        let own =
            Process::read(getpid())?.ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        let record = Record { boot, owner: own.key(), ancestors: ancestors(own)?, trees: BTreeMap::new() };
        let path = prefix.with_added_extension(getpid().as_raw_pid().to_string());
        let records = Records { path, record, last_number: 0 };
        Ok((TreeRecords(Arc::new(Mutex::new(records))), killed))
    }

    /// Puts a tree on record. Do it before the tree can have members that outlive its root.
    ///
    /// # Errors
    ///
    /// When the record can't be written; the tree is not on record then.
    pub fn add(&self, tree: &ProcessTree) -> io::Result<RecordedTree> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.last_number += 1;
        let number = records.last_number;
        if let Some(mark) = tree.mark()
            && let Some(root) = Process::read(tree.root())?
        {
            records.record.trees.insert(number, TreeRecord { mark, started: root.key().1 });
            records.write().inspect_err(|_| _ = records.record.trees.remove(&number))?;
        }
        Ok(RecordedTree { records: self.clone(), number })
    }
}

impl Drop for RecordedTree {
    fn drop(&mut self) {
        let mut records = self.records.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.record.trees.remove(&self.number).is_some()
            && let Err(error) = records.write()
        {
            // It names a tree too many, which is found to be gone.
            tracing::warn!(path = %records.path.display(), %error, "failed to write the record of process trees");
        }
    }
}

impl Records {
    /// Writes the record whole or not at all.
    fn write(&self) -> io::Result<()> {
        let unfinished = self.path.with_added_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written = file
            .write_all(self.record.to_text().as_bytes())
            .and_then(|()| fs::rename(&unfinished, &self.path));
        written.inspect_err(|_| _ = fs::remove_file(&unfinished))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // There is none when no tree was ever started.
        let _ = fs::remove_file(&self.path);
    }
}

impl Record {
    fn to_text(&self) -> String {
        let mut text = format!("boot {}\nowner {} {}\n", self.boot, self.owner.0.as_raw_pid(), self.owner.1);
        for (pid, started) in &self.ancestors {
            let _ = writeln!(text, "ancestor {} {started}", pid.as_raw_pid());
        }
        for TreeRecord { mark, started } in self.trees.values() {
            let (limit, width) = mark.to_numbers();
            let _ = writeln!(text, "tree {limit} {width} {started}");
        }
        text
    }

    /// `None` for what is no record: it names nothing that could be killed with certainty.
    fn parse(text: &str) -> Option<Record> {
        let mut lines = text.lines();
        let boot = lines.next()?.strip_prefix("boot ")?.to_owned();
        let key = |words: &str| {
            let (pid, started) = words.split_once(' ')?;
            Some((parse_pid(pid)?, started.parse().ok()?))
        };
        let owner = key(lines.next()?.strip_prefix("owner ")?)?;
        let mut record = Record { boot, owner, ancestors: Vec::new(), trees: BTreeMap::new() };
        for (number, line) in (0..).zip(lines) {
            if let Some(ancestor) = line.strip_prefix("ancestor ") {
                record.ancestors.push(key(ancestor)?);
                continue;
            }
            let numbers: Option<Vec<u64>> =
                line.strip_prefix("tree ")?.split(' ').map(|word| word.parse().ok()).collect();
            let &[limit, width, started] = numbers?.as_slice() else { return None };
            record.trees.insert(number, TreeRecord { mark: Mark::from_numbers(limit, width)?, started });
        }
        Some(record)
    }

    /// Whether a process has the mark of one of the trees and is no older than it.
    fn is_member(&self, process: &Process) -> io::Result<bool> {
        let limit = process.real_time_limit()?;
        let (_, started) = process.key();
        Ok(self.trees.values().any(|tree| tree.mark.covers(limit) && started >= tree.started))
    }

    /// Whether a member's ancestors lead to where the owner's orphans end up.
    fn is_orphan(&self, member: &Process) -> io::Result<bool> {
        let mut process = *member;
        loop {
            // Without a parent that can be seen it is in nobody's tree.
            let Some(parent) = process.parent else { return Ok(false) };
            match Process::read(parent)? {
                Some(parent) if self.ancestors.contains(&parent.key()) => return Ok(true),
                Some(parent) if self.is_member(&parent)? => process = parent,
                Some(_) => return Ok(false),
                // It ended just now; its children have another parent.
                None => match Process::read(process.pid)? {
                    Some(again) if again.is_same(&process) => process = again,
                    _ => return Ok(false),
                },
            }
        }
    }

    fn orphans(&self) -> io::Result<Vec<Process>> {
        let mut orphans = Vec::new();
        for pid in all_pids()? {
            if let Some(process) = Process::read(pid)?
                && !process.zombie
                && self.is_member(&process)?
                && self.is_orphan(&process)?
            {
                orphans.push(process);
            }
        }
        Ok(orphans)
    }
}

/// Kills what a dead owner left, and names it in `killed`; returns when nothing is left.
fn kill_what_is_left(record: &Record, killed: &mut Vec<LeakedProcess>) -> io::Result<()> {
    if record.trees.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let left = record.orphans()?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let survivors: Vec<_> = describe(&left).iter().map(LeakedProcess::to_string).collect();
            return Err(io::Error::other(format!("still there after SIGKILL: {}", survivors.join(", "))));
        }
        killed.extend(describe(&left).into_iter().filter(|left| !killed.contains(left)).collect::<Vec<_>>());
        for victim in freeze_and_kill(|| record.orphans())? {
            victim.wait_blocking(deadline)?;
        }
    }
}

/// From this process's parent upwards.
fn ancestors(mut process: Process) -> io::Result<Vec<Key>> {
    let mut ancestors = Vec::new();
    while let Some(parent) = process.parent
        && let Some(parent) = Process::read(parent)?
    {
        ancestors.push(parent.key());
        process = parent;
    }
    Ok(ancestors)
}

/// A number made by the kernel at each boot.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The files beside `prefix` whose names are its own and a number.
fn former_records(prefix: &Path) -> Vec<PathBuf> {
    let directory = prefix.parent().filter(|directory| !directory.as_os_str().is_empty());
    let entries = fs::read_dir(directory.unwrap_or(Path::new("."))).ok();
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let is_record = |path: &PathBuf| {
        path.file_stem() == prefix.file_name()
            && path.extension().and_then(OsStr::to_str).and_then(parse_pid).is_some()
    };
    paths.filter(is_record).collect()
}

fn read_record(path: &Path) -> Option<Record> {
    let record = fs::read_to_string(path).ok().as_deref().and_then(Record::parse);
    if record.is_none() {
        tracing::warn!(path = %path.display(), "the record of a former process can't be used");
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let own = Process::read(getpid()).unwrap().unwrap();
        let mark = Mark::next().unwrap();
        let trees = [(0, TreeRecord { mark, started: 7 }), (1, TreeRecord { mark, started: 9 })].into();
        Record { boot: "a-b".into(), owner: own.key(), ancestors: ancestors(own).unwrap(), trees }
    }

    #[test]
    fn a_record_survives_the_file() {
        let written = record();
        let read = Record::parse(&written.to_text()).unwrap();
        assert_eq!(
            (&read.boot, read.owner, &read.ancestors),
            (&written.boot, written.owner, &written.ancestors)
        );
        assert!(read.trees.values().eq(written.trees.values()));
        assert!(written.ancestors.iter().any(|(pid, _)| pid.is_init()), "{written:?}");
    }

    #[test]
    fn what_is_no_record_names_nothing() {
        let whole = record().to_text();
        for text in ["", "boot x", "boot x\nowner 0 1\n", "boot x\nowner 1 1\ntree 1 2\n"] {
            assert_eq!(Record::parse(text), None, "{text:?}");
        }
        assert_eq!(Record::parse(&format!("{whole}tree 5 9 0\n")), None, "a mark wider than its limit");
        assert_eq!(Record::parse(&format!("{whole}nonsense\n")), None);
    }

    #[test]
    fn only_files_of_the_name_and_a_number_are_records() {
        let place = tempfile::tempdir().unwrap();
        for name in [
            "socket",
            "socket.trees",
            "socket.trees.12",
            "socket.trees.x",
            "other.trees.3",
            "socket.trees.12.new",
        ] {
            fs::write(place.path().join(name), "").unwrap();
        }
        assert_eq!(
            former_records(&place.path().join("socket.trees")),
            [place.path().join("socket.trees.12")]
        );
    }
}
