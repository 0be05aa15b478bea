//! The stop ladder and the end of an owner: whatever the members do, nothing is left.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use distributest_process::{Exit, ProcessSpec, ProcessTree, User, reap_orphans};
use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::common::{Mode, processes_with, skipped, three_descendants, unique, until, until_there_are};

/// Long enough that a test fails on it only when the wait is for nothing.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stop_ends_the_whole_tree_before_the_grace_is_over() {
    for mode in Mode::available() {
        let word = unique();
        let tree =
            ProcessTree::spawn(mode.shell(&format!("{} wait", three_descendants(&word)))).await.unwrap();
        // The shell itself carries the word in its script.
        until_there_are(4, &word).await;
        let start = Instant::now();
        tree.stop(LONG).await.unwrap();
        assert_eq!(processes_with(&word), [], "{mode:?}");
        assert!(start.elapsed() < LONG);
        assert_eq!(tree.wait().await, Exit::Signal(15));
    }
}

#[tokio::test]
async fn a_stop_lets_a_handler_finish() {
    for mode in Mode::available() {
        let script = "trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let mut tree = ProcessTree::spawn(mode.shell(script)).await.unwrap();
        let mut lines = BufReader::new(tree.take_stdout().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        tree.stop(LONG).await.unwrap();
        assert_eq!(tree.wait().await, Exit::Code(7));
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "cleaned");
    }
}

#[tokio::test]
async fn who_ignores_the_request_is_killed_after_the_grace() {
    for mode in Mode::available() {
        let word = unique();
        // The daemons inherit the ignored signal.
        let script = format!("trap '' TERM HUP INT; {} wait", three_descendants(&word));
        let tree = ProcessTree::spawn(mode.shell(&script)).await.unwrap();
        until_there_are(4, &word).await;
        let (start, grace) = (Instant::now(), Duration::from_millis(300));
        tree.stop(grace).await.unwrap();
        assert!(start.elapsed() >= grace, "{mode:?}: {:?}", start.elapsed());
        assert_eq!(processes_with(&word), [], "{mode:?}");
        assert_eq!(tree.wait().await, Exit::Signal(9));
    }
}

#[tokio::test]
async fn stopped_processes_hear_the_request_too() {
    for mode in Mode::available() {
        let word = unique();
        let script = format!("sleep {word} & trap 'exit 6' TERM; kill -STOP $!; kill -STOP $$; wait");
        let tree = ProcessTree::spawn(mode.shell(&script)).await.unwrap();
        let status = format!("/proc/{}/status", tree.pid());
        until("stopped", || std::fs::read_to_string(&status).unwrap().contains("State:\tT")).await;
        tree.stop(LONG).await.unwrap();
        assert_eq!(tree.wait().await, Exit::Code(6), "{mode:?}");
        assert_eq!(processes_with(&word), []);
    }
}

#[tokio::test]
async fn a_dropped_tree_is_killed() {
    for mode in Mode::available() {
        let word = unique();
        let script = format!("trap '' TERM; {} wait", three_descendants(&word));
        let tree = ProcessTree::spawn(mode.shell(&script)).await.unwrap();
        until_there_are(4, &word).await;
        let root = tree.pid();
        drop(tree);
        assert_eq!(processes_with(&word), [], "{mode:?}");
        assert!(!std::path::Path::new(&format!("/proc/{root}")).exists(), "the root was not waited for");
    }
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    for mode in Mode::available() {
        let word = unique();
        {
            let mut start = pin!(ProcessTree::spawn(mode.shell(&three_descendants(&word))));
            // It has made the process, but the runtime has had no time to hear of its exec.
            let begun = poll_fn(|context| Poll::Ready(start.as_mut().poll(context))).await;
            assert!(begun.is_pending());
        }
        assert_eq!(processes_with(&word), [], "{mode:?}");
    }
}

#[tokio::test]
async fn a_dropped_tree_whose_root_is_gone_is_killed() {
    for mode in Mode::available() {
        let word = unique();
        let tree = ProcessTree::spawn(mode.shell(&three_descendants(&word))).await.unwrap();
        assert_eq!(tree.wait().await, Exit::Code(0));
        until_there_are(3, &word).await;
        drop(tree);
        assert_eq!(processes_with(&word), [], "{mode:?}");
    }
}

#[tokio::test]
async fn the_root_survives_the_end_of_what_is_below_it() {
    for mode in Mode::available() {
        let word = unique();
        let script = "while read line; do eval \"$line\"; echo done; done <&3 >&3";
        let mut tree = ProcessTree::spawn(ProcessSpec { control: true, ..mode.shell(script) }).await.unwrap();
        let mut control = BufReader::new(tree.take_control().unwrap());
        for round in 0..3 {
            let mut answer = String::new();
            control.write_all(format!("{}\n", three_descendants(&word)).as_bytes()).await.unwrap();
            control.read_line(&mut answer).await.unwrap();
            assert_eq!(answer, "done\n", "{mode:?}, round {round}");
            until_there_are(3, &word).await;
            tree.stop_descendants(if round == 0 { LONG } else { Duration::ZERO }).await.unwrap();
            assert_eq!(processes_with(&word), [], "{mode:?}, round {round}");
            assert_eq!(tree.poll_exit(), None);
        }
        drop(control);
        assert_eq!(tree.wait().await, Exit::Code(0));
    }
}

#[tokio::test]
async fn a_flood_nobody_reads_does_not_hold_up_the_stop() {
    for mode in Mode::available() {
        let word = unique();
        let tree = ProcessTree::spawn(mode.shell(&format!("yes {word} & yes {word} >&2"))).await.unwrap();
        until_there_are(3, &word).await;
        tree.stop(LONG).await.unwrap();
        assert_eq!(processes_with(&word), [], "{mode:?}");
    }
}

#[tokio::test]
async fn a_flood_arrives_unharmed() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo 'a line of thirty-two characters'; i=$((i+1)); done";
    let mut tree = ProcessTree::spawn(crate::common::shell(script)).await.unwrap();
    let mut out = Vec::new();
    tree.take_stdout().unwrap().read_to_end(&mut out).await.unwrap();
    assert_eq!(out.len(), 20_000 * 32);
    assert_eq!(tree.wait().await, Exit::Code(0));
}

/// A chain of processes, each of which starts the next and leaves: no pid is good for long.
const CHAIN: &str = r#"trap '' TERM; sleep 0.01; sh -c "$0" "$0" "$1" &"#;

/// Starts eight of them. `$0` is the chain, `$1` the word.
const EIGHT_CHAINS: &str = r#"for chain in 1 2 3 4 5 6 7 8; do sh -c "$0" "$0" "$1"; done; exec sleep "$1""#;

#[tokio::test]
async fn chains_of_short_lived_processes_are_ended() {
    for mode in Mode::available() {
        let word = unique();
        let tree = ProcessTree::spawn(mode.program("sh", &["-c", EIGHT_CHAINS, CHAIN, &word])).await.unwrap();
        let reaping = tokio::spawn(reap_orphans());
        until("the chains run", || processes_with(&word).len() >= 4).await;
        tree.stop(Duration::from_millis(50)).await.unwrap();
        reaping.abort();
        assert_eq!(processes_with(&word), [], "{mode:?}");
    }
}

#[tokio::test]
async fn nobody_lives_to_see_another_killed() {
    // Whoever restarts what has died would start something new in the middle of the end.
    for mode in Mode::available() {
        let (word, place) = (unique(), tempfile::tempdir().unwrap());
        let (pipe, witness) = (place.path().join("pipe"), place.path().join("witness"));
        let script = format!(
            "mkfifo {pipe}; sleep {word} >{pipe} & \
             i=0; while [ $i -lt 60 ]; do sleep {word} & i=$((i+1)); done; \
             sh -c 'read line; : >{witness}; exec sleep {word}' <{pipe} & wait",
            pipe = pipe.display(),
            witness = witness.display(),
        );
        let tree = ProcessTree::spawn(mode.shell(&script)).await.unwrap();
        // The pipe's two ends, those in between, and the root.
        until_there_are(63, &word).await;
        tree.stop(Duration::ZERO).await.unwrap();
        assert_eq!(processes_with(&word), [], "{mode:?}");
        assert!(!witness.exists(), "{mode:?}");
    }
}

/// Not in shell: shells leave when they can't fork.
const FORK_BOMB: &str = "
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        pass
";

#[tokio::test]
async fn a_fork_bomb_is_ended() {
    if !geteuid().is_root() {
        skipped("the fork bomb: only root can give it a user with a limit on processes of its own");
        return;
    }
    for mode in Mode::available() {
        let word = unique();
        let user = Some(User::by_name("nobody").unwrap());
        // The limit is set from outside, so that it can't fail unseen.
        let arguments = ["--nproc=60", "python3", "-c", FORK_BOMB, &word];
        let spec = ProcessSpec { user, ..mode.program("prlimit", &arguments) };
        let tree = ProcessTree::spawn(spec).await.unwrap();
        let reaping = tokio::spawn(reap_orphans());
        until("the bomb has spread", || processes_with(&word).len() >= 40).await;
        let start = Instant::now();
        tree.stop(Duration::from_millis(50)).await.unwrap();
        reaping.abort();
        assert_eq!(processes_with(&word), [], "{mode:?}");
        assert!(start.elapsed() < Duration::from_secs(9), "{mode:?}: {:?}", start.elapsed());
    }
}
