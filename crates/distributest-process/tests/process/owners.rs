//! The end of a tree's owner is the end of its root, and with a guardian the end of all.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{processes_with, three_descendants, unique, until_there_are};

/// Starts an owner; returns its parent-most process, its own pid and its output.
fn start(mode: &str, script: &str) -> (Child, Pid, BufReader<ChildStdout>) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_process-fixture"))
        .args([mode, script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    (owner, pid, output)
}

#[tokio::test]
async fn a_tree_that_can_not_be_marked_is_held_by_its_root() {
    let word = unique();
    // A limit like this, as some systems set, leaves no room for marks.
    let mut owner = Command::new("prlimit")
        .args(["--rttime=200000", env!("CARGO_BIN_EXE_process-fixture"), "stop"])
        .arg(format!("{} wait", three_descendants(&word)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until_there_are(5, &word).await;
    drop(owner.stdin.take());
    assert!(owner.wait().unwrap().success());
    assert_eq!(processes_with(&word), []);
}

#[tokio::test]
async fn the_root_dies_with_its_owner() {
    let word = unique();
    let (mut owner, _, _) = start("keep", &format!("exec sleep {word}"));
    until_there_are(2, &word).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    until_there_are(0, &word).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_guarded_owner_that_is_killed() {
    let word = unique();
    let script = format!("trap '' TERM; {} wait", three_descendants(&word));
    let (mut guardian, owner, mut output) = start("guarded-keep", &script);
    assert_ne!(owner, Pid::from_child(&guardian));
    // Guardian and owner carry the word as well.
    until_there_are(6, &word).await;
    kill_process(owner, Signal::KILL).unwrap();
    let status = guardian.wait().unwrap();
    assert_eq!(processes_with(&word), []);
    assert_eq!(status.code(), Some(128 + 9));
    // Nobody holds the owner's output open.
    assert_eq!(output.read(&mut [0]).unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_left_of_a_guarded_owner_that_leaves() {
    let word = unique();
    let (mut guardian, ..) = start("guarded-abandon", &three_descendants(&word));
    let status = guardian.wait().unwrap();
    assert_eq!(processes_with(&word), []);
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_guardian_passes_requests_to_end_on() {
    let word = unique();
    let (mut guardian, ..) = start("guarded-keep", &format!("{} wait", three_descendants(&word)));
    until_there_are(6, &word).await;
    kill_process(Pid::from_child(&guardian), Signal::TERM).unwrap();
    let status = guardian.wait().unwrap();
    assert_eq!(processes_with(&word), []);
    assert_eq!((status.code(), status.signal()), (Some(128 + 15), None));
}

#[tokio::test]
async fn an_owner_dies_with_its_guardian() {
    let word = unique();
    let (mut guardian, _, mut output) = start("guarded-keep", &format!("exec sleep {word}"));
    until_there_are(3, &word).await;
    guardian.kill().unwrap();
    guardian.wait().unwrap();
    until_there_are(0, &word).await;
    assert_eq!(output.read(&mut [0]).unwrap(), 0);
}
