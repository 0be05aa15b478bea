//! Which processes count as leaked, and whose they are.

use std::time::Duration;

use distributest_process::{Exit, ProcessTree, reap_orphans};
use tokio::io::AsyncReadExt;

use crate::common::{Mode, processes_with, three_descendants, unique, until_there_are};

/// For processes that are there for good; leaving early must not need it all.
const PATIENCE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn what_outlives_the_root_is_found_and_ended() {
    for mode in Mode::available() {
        let word = unique();
        let tree = ProcessTree::spawn(mode.shell(&three_descendants(&word))).await.unwrap();
        assert_eq!(tree.wait().await, Exit::Code(0));
        until_there_are(3, &word).await;
        let leaked = tree.leaked(PATIENCE).await.unwrap();
        let mut found: Vec<u32> = leaked.iter().map(|process| process.pid).collect();
        let mut expected = processes_with(&word);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{mode:?}");
        for process in &leaked {
            assert!(process.command.ends_with(&word), "{process}");
            assert_eq!(process.to_string(), format!("{} {}", process.pid, process.command));
        }
        tree.stop_descendants(Duration::ZERO).await.unwrap();
        assert_eq!(processes_with(&word), [], "{mode:?}");
        assert_eq!(tree.leaked(Duration::ZERO).await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_runs_below_a_living_root_is_found() {
    for mode in Mode::available() {
        let word = unique();
        let tree =
            ProcessTree::spawn(mode.shell(&format!("{} wait", three_descendants(&word)))).await.unwrap();
        until_there_are(4, &word).await;
        let leaked = tree.leaked(PATIENCE).await.unwrap();
        let mut found: Vec<u32> = leaked.iter().map(|process| process.pid).collect();
        found.push(tree.pid());
        let mut expected = processes_with(&word);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn a_daemon_without_an_environment_is_its_own_trees_leak() {
    // Two trees whose roots are gone have all their orphans among this process's children.
    for mode in Mode::available() {
        let words = [unique(), unique()];
        let mut trees = Vec::new();
        for word in &words {
            let script = format!("(env -i /usr/bin/setsid /bin/sleep {word} >/dev/null 2>&1 &)");
            let tree = ProcessTree::spawn(mode.shell(&script)).await.unwrap();
            assert_eq!(tree.wait().await, Exit::Code(0));
            until_there_are(1, word).await;
            trees.push(tree);
        }
        for (tree, word) in trees.iter().zip(&words) {
            let leaked = tree.leaked(PATIENCE).await.unwrap();
            assert_eq!(leaked.len(), 1, "{mode:?}: {leaked:?}");
            assert_eq!(leaked[0].command, format!("/bin/sleep {word}"));
        }
        trees[0].stop(Duration::ZERO).await.unwrap();
        assert_eq!(processes_with(&words[0]), []);
        assert_eq!(processes_with(&words[1]).len(), 1, "{mode:?}: the other tree's");
        drop(trees);
        assert_eq!(processes_with(&words[1]), []);
    }
}

#[tokio::test]
async fn zombies_are_no_leaks() {
    for mode in Mode::available() {
        // The child ends at once and the program that takes the shell's place never waits for it.
        let script = "sh -c : & exec sleep 86400";
        let tree = ProcessTree::spawn(mode.shell(script)).await.unwrap();
        let children = format!("/proc/{0}/task/{0}/children", tree.pid());
        let is_zombie = || {
            let child = std::fs::read_to_string(&children).unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            stat.contains(") Z ")
        };
        crate::common::until("the child is a zombie", is_zombie).await;
        assert_eq!(tree.leaked(PATIENCE).await.unwrap(), [], "{mode:?}");
        assert!(is_zombie());
    }
}

#[tokio::test]
async fn a_process_that_is_about_to_leave_is_no_leak() {
    for mode in Mode::available() {
        let tree = ProcessTree::spawn(mode.shell("sleep 0.2 & exit 0")).await.unwrap();
        assert_eq!(tree.wait().await, Exit::Code(0));
        let long = Duration::from_secs(20);
        assert_eq!(tree.leaked(long).await.unwrap(), [], "{mode:?}");
    }
}

#[tokio::test]
async fn a_leaked_daemon_keeps_its_output_open_until_it_is_ended() {
    for mode in Mode::available() {
        let word = unique();
        let mut tree =
            ProcessTree::spawn(mode.shell(&format!("(setsid sleep {word} &) ; echo out"))).await.unwrap();
        let mut stdout = tree.take_stdout().unwrap();
        assert_eq!(tree.wait().await, Exit::Code(0));
        until_there_are(1, &word).await;
        let mut out = Vec::new();
        let reading = stdout.read_to_end(&mut out);
        tokio::pin!(reading);
        assert!(tokio::time::timeout(PATIENCE, &mut reading).await.is_err());
        tree.stop_descendants(Duration::ZERO).await.unwrap();
        reading.await.unwrap();
        assert_eq!(out, b"out\n");
    }
}

#[tokio::test]
async fn a_tree_within_a_tree_belongs_to_both() {
    for mode in Mode::available() {
        let word = unique();
        let script = format!("(env -i /usr/bin/setsid /bin/sleep {word} >/dev/null 2>&1 &)");
        let owner = env!("CARGO_BIN_EXE_process-fixture");
        // The inner owner ends without a look at its tree; the orphan of its orphan comes to this process.
        let tree = ProcessTree::spawn(mode.program(owner, &["abandon", &script])).await.unwrap();
        assert_eq!(tree.wait().await, Exit::Code(0));
        until_there_are(1, &word).await;
        let leaked = tree.leaked(PATIENCE).await.unwrap();
        assert_eq!(leaked.len(), 1, "{mode:?}: {leaked:?}");
        drop(tree);
        assert_eq!(processes_with(&word), [], "{mode:?}");
    }
}

#[tokio::test]
async fn orphans_that_end_disappear() {
    for mode in Mode::available() {
        // What tests of daemons do: start one, end it, wait until its pid is free.
        let script = "pid=$(sh -c '(setsid sleep 86400 >/dev/null 2>&1 & echo $!)'); kill $pid; \
                      while kill -0 $pid 2>/dev/null; do sleep 0.01; done";
        let reaping = tokio::spawn(reap_orphans());
        let tree = ProcessTree::spawn(mode.shell(script)).await.unwrap();
        // This process waits for what others started in it, roots included, and nobody else does.
        let mut other = std::process::Command::new("sh").args(["-c", "exit 9"]).spawn().unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(20), tree.wait()).await;
        assert_eq!(exit, Ok(Exit::Code(0)), "{mode:?}");
        assert_eq!(other.wait().unwrap().code(), Some(9));
        reaping.abort();
    }
}
