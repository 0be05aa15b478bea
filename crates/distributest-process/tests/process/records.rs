//! What a killed owner leaves is found and killed by its successor, and nothing else is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use distributest_process::TreeRecords;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{processes_with, three_descendants, unique, until_there_are};

/// An owner that keeps a record of its tree.
struct Owner {
    process: Child,
    place: TempDir,
}

impl Owner {
    /// Starts it, and waits until its tree's members are there: the fixture itself, the root, and `members` more.
    async fn start(word: &str, script: &str, members: usize) -> Owner {
        let place = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_process-fixture"))
            .args(["record", script])
            .env("RECORDS", place.path().join("trees"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        until_there_are(2 + members, word).await;
        Owner { process, place }
    }

    fn records(&self) -> PathBuf {
        self.place.path().join("trees")
    }

    fn record(&self) -> PathBuf {
        self.place.path().join(format!("trees.{}", self.process.id()))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_successor_kills_what_a_killed_owner_left() {
    let word = unique();
    let script = format!("{} wait", three_descendants(&word));
    let mut owner = Owner::start(&word, &script, 3).await;
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    // The root died with its owner, what it started did not.
    until_there_are(3, &word).await;
    let (_, killed) = TreeRecords::succeed(&owner.records()).unwrap();
    assert_eq!(processes_with(&word), []);
    assert_eq!(killed.len(), 3, "{killed:?}");
    assert!(!owner.record().exists());
}

#[tokio::test]
async fn the_trees_of_a_living_owner_are_left_alone() {
    let word = unique();
    let owner = Owner::start(&word, &format!("{} wait", three_descendants(&word)), 3).await;
    let (_, killed) = TreeRecords::succeed(&owner.records()).unwrap();
    assert_eq!(killed, []);
    assert!(owner.record().exists(), "it is the owner's");

    // Somebody else's record has the same marks by chance: still they lead to a living owner.
    let record = fs::read_to_string(owner.record()).unwrap();
    let dead: Vec<_> =
        record.lines().map(|line| if line.starts_with("owner ") { "owner 1 12345" } else { line }).collect();
    fs::write(owner.record(), dead.join("\n")).unwrap();
    let (_, killed) = TreeRecords::succeed(&owner.records()).unwrap();
    assert_eq!(killed, []);
    assert_eq!(processes_with(&word).len(), 5);
    let everybody = Pid::from_child(&owner.process);
    kill_process(everybody, Signal::KILL).unwrap();
    until_there_are(3, &word).await;
    fs::write(owner.record(), dead.join("\n")).unwrap();
    TreeRecords::succeed(&owner.records()).unwrap();
    assert_eq!(processes_with(&word), []);
}

#[tokio::test]
async fn a_record_of_an_earlier_boot_kills_nothing() {
    let word = unique();
    let mut owner = Owner::start(&word, &format!("{} wait", three_descendants(&word)), 3).await;
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    until_there_are(3, &word).await;
    let record = fs::read_to_string(owner.record()).unwrap();
    let (_, rest) = record.split_once('\n').unwrap();
    fs::write(owner.record(), format!("boot 0-0-0\n{rest}")).unwrap();
    let (_, killed) = TreeRecords::succeed(&owner.records()).unwrap();
    assert_eq!(killed, []);
    assert!(!owner.record().exists());
    fs::write(owner.record(), record).unwrap();
    TreeRecords::succeed(&owner.records()).unwrap();
    assert_eq!(processes_with(&word), []);
}
