//! The end of a tree's owner is the end of its root.

use std::process::{Command, Stdio};

use crate::common::{processes_with, unique, until_there_are};

#[tokio::test]
async fn the_root_dies_with_its_owner() {
    let word = unique();
    let mut owner = Command::new(env!("CARGO_BIN_EXE_process-fixture"))
        .args(["keep", &format!("exec sleep {word}")])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until_there_are(2, &word).await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    until_there_are(0, &word).await;
    assert_eq!(processes_with(&word), []);
}
