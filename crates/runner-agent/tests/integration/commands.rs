//! Files that are their own programs.

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::coordinator_message::Kind as Order;

use crate::support::*;

async fn coordinator(site: &Site, command: &[&str]) -> (Coordinator, Process) {
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, site.hello()).await;
    let welcome = coordinator.welcome().await;
    assert!(!welcome.resident);
    assert_eq!(welcome.workspace, site.project().to_str().unwrap());
    coordinator.prepare(prepare(command_launch(command), 1)).await;
    (coordinator, agent)
}

#[tokio::test]
async fn the_exit_status_decides() {
    let site = Site::new();
    site.script("tests/pass", "echo out; echo err >&2");
    site.script("tests/fail", "echo sorry; exit 3");
    site.script("tests/crash", "kill -SEGV $$");
    site.file("tests/plain", "#!/bin/sh\n", 0o644);
    site.file("tests/uninterpreted", "#!/nonexistent/interpreter\n", 0o755);
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;

    let attempt = coordinator.dispatch(1, "tests/pass", 0).await;
    let (passed, before) = coordinator.finished(attempt).await;
    assert_result(&passed, AttemptResult::Passed);
    let block = passed.block.unwrap();
    let [Update::AttemptStarted(started), Update::TestFinished(test)] = &before[..] else {
        panic!("{before:?}")
    };
    assert_eq!((started.attempt, started.block), (attempt, block.number));
    assert_eq!((test.id.as_str(), test.status.as_str()), ("tests/pass", "passed"));
    let output = coordinator.output_of(&block).await;
    assert!(output.contains("out\n") && output.contains("err\n"), "{output:?}");

    let failed = coordinator.run("tests/fail").await;
    assert_result(&failed, AttemptResult::Failed);
    assert_eq!(failed.message, "exit status 3");
    let crashed = coordinator.run("tests/crash").await;
    assert_result(&crashed, AttemptResult::Crashed);
    assert_eq!(crashed.message, "killed by signal 11 (SIGSEGV)");
    let broken = coordinator.run("tests/plain").await;
    assert_result(&broken, AttemptResult::Broken);
    assert!(broken.message.contains("tests/plain is not executable"), "{}", broken.message);
    let broken = coordinator.run("tests/uninterpreted").await;
    assert_result(&broken, AttemptResult::Broken);
    assert!(broken.message.contains("interpreter"), "{}", broken.message);
    coordinator.end().await;
    assert_eq!(site.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn the_environment_tells_runner_and_run() {
    let site = Site::new();
    site.script("show", "env | sort");
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    let mut prepare = prepare(command_launch(&["{file}"]), 2);
    prepare.environment.insert("RAILS_ENV".into(), "test".into());
    coordinator.prepare(prepare).await;
    let attempt = coordinator.dispatch(2, "show", 0).await;
    let (finished, _) = coordinator.finished(attempt).await;
    let output = coordinator.output_of(&finished.block.unwrap()).await;
    for line in [
        "DISTRIBUTEST_RUNNER=laptop_ana_2\n",
        "DB_PREFIX=laptop_ana_2_\n",
        "TEST_ENV_NUMBER=2\n",
        "DISTRIBUTEST_RUN=run-1\n",
        "DISTRIBUTEST_HOST=h1\n",
        "DISTRIBUTEST_PROJECT=shop\n",
        "RAILS_ENV=test\n",
    ] {
        assert!(output.contains(line), "{line:?} is missing in {output}");
    }
    assert!(!output.contains("DISTRIBUTEST_FD"), "{output}");
    coordinator.end().await;
}

#[tokio::test]
async fn a_time_limit_ends_the_whole_tree() {
    let site = Site::new();
    let daemon = "setsid sh -c 'echo $$ > daemon; exec sleep 1000' &";
    let waiting = "echo $$ > slow.pid; trap 'echo its stacks' QUIT; while :; do sleep 0.1; done";
    site.script("slow", &format!("{daemon} {waiting}"));
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;
    let attempt = coordinator.dispatch(1, "slow", 1500).await;
    let (finished, _) = coordinator.finished(attempt).await;
    assert_result(&finished, AttemptResult::TimedOut);
    assert!(finished.message.contains("no output for 1s 500ms"), "{}", finished.message);
    let (root, daemon) = (pid_in(&site, "slow.pid").await, pid_in(&site, "daemon").await);
    gone(&[root, daemon]).await;
    let output = coordinator.output_of(&finished.block.unwrap()).await;
    assert!(output.starts_with("distributest: no output for 1s 500ms; its processes:\n"), "{output}");
    for pid in [root, daemon] {
        assert!(output.contains(&format!("\n{pid} ")), "{output}");
    }
    assert!(output.ends_with("its stacks\n"), "who can tell is asked: {output}");
    coordinator.end().await;
}

#[tokio::test]
async fn what_is_heard_is_not_ended_for_its_age_but_in_the_end_it_is() {
    let site = Site::new();
    site.script("slow", "for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.5; done");
    site.script("endless", "while :; do echo again; sleep 0.05; done");
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;
    let slow = coordinator.dispatch(1, "slow", 4000).await;
    assert_result(&coordinator.finished(slow).await.0, AttemptResult::Passed);
    let endless = coordinator.dispatch(1, "endless", 300).await;
    let (finished, _) = coordinator.finished(endless).await;
    assert_result(&finished, AttemptResult::TimedOut);
    // On a machine that stands still for a moment, that is a silence.
    let possible = ["not done after 3s, although never silent for long", "no output for 300ms"];
    assert!(possible.contains(&finished.message.as_str()), "{}", finished.message);
    coordinator.end().await;
}

#[tokio::test]
async fn a_file_known_to_be_slow_may_be_silent_for_ten_times_what_it_should_take() {
    let site = Site::new();
    site.script("slow", "sleep 1");
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;
    for (attempt, expected_milliseconds, result) in
        [(1, 60_000, AttemptResult::Passed), (2, 20, AttemptResult::TimedOut)]
    {
        let dispatch = wire::Dispatch {
            attempt,
            runner: 1,
            file: "slow".into(),
            timeout_milliseconds: 100,
            expected_milliseconds,
            ..Default::default()
        };
        coordinator.order(Order::Dispatch(dispatch)).await;
        let (finished, _) = coordinator.finished(attempt).await;
        assert_result(&finished, result);
        if result == AttemptResult::TimedOut {
            let message = "no output any more, and not done after 200ms, 10 times as long as expected";
            assert_eq!(finished.message, message);
        }
    }
    coordinator.end().await;
}

#[tokio::test]
async fn a_daemon_that_outlives_its_test_is_named_and_killed() {
    let site = Site::new();
    site.script(
        "leaky",
        "setsid sh -c 'echo $$ > daemon; exec sleep 1234' </dev/null >/dev/null 2>&1 &\n\
         while [ ! -s daemon ]; do sleep 0.01; done",
    );
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;
    let finished = coordinator.run("leaky").await;
    assert_result(&finished, AttemptResult::Passed);
    let daemon = pid_in(&site, "daemon").await;
    assert_eq!(finished.leaked, [format!("{daemon} sleep 1234")]);
    assert!(!is_alive(daemon));
    coordinator.end().await;
}

#[tokio::test]
async fn a_cancelled_attempt_ends_at_once() {
    let site = Site::new();
    site.script("hang", "echo $$ > hang.pid; sleep 1000");
    let (mut coordinator, _agent) = coordinator(&site, &["sh", "{file}"]).await;
    let attempt = coordinator.dispatch(1, "hang", 0).await;
    let pid = pid_in(&site, "hang.pid").await;
    coordinator.order(Order::Cancel(wire::Cancel { attempt: 999, unless_begun: false })).await;
    coordinator.order(Order::Cancel(wire::Cancel { attempt, unless_begun: false })).await;
    let (finished, _) = coordinator.finished(attempt).await;
    assert_result(&finished, AttemptResult::Cancelled);
    assert!(!is_alive(pid));
    coordinator.end().await;
}

#[tokio::test]
async fn a_missing_program_is_told_and_takes_the_runner_out_when_there_is_nothing_else() {
    let site = Site::new();
    let (mut coordinator, _agent) = coordinator(&site, &["no-such-program", "{file}"]).await;
    let attempt = coordinator.dispatch(1, "a", 0).await;
    let (finished, before) = coordinator.finished(attempt).await;
    assert_result(&finished, AttemptResult::RunnerLost);
    let [Update::LaunchUnavailable(unavailable)] = &before[..] else { panic!("{before:?}") };
    assert_eq!((unavailable.runner, unavailable.launch), (1, 0));
    let failure = unavailable.failure.as_ref().unwrap();
    assert_eq!((failure.subject.as_str(), failure.fault()), ("no-such-program", wire::Fault::Host));
    assert!(!failure.hint.is_empty());
    let nothing_left = wire::RunnerFailed { runner: 1, failure: None };
    assert_eq!(coordinator.next().await, Some(Update::RunnerFailed(nothing_left)));
    let late = coordinator.run("b").await;
    assert_result(&late, AttemptResult::RunnerLost);
    coordinator.end().await;
}

#[tokio::test]
async fn orders_that_make_no_sense_are_answered_and_repeated_ones_ignored() {
    let site = Site::new();
    site.script("count", "echo x >> count.log");
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;
    for (attempt, runner, launch) in [(100, 0, 0), (101, 2, 0), (102, 1, 7)] {
        let file = "count".to_owned();
        let dispatch = wire::Dispatch {
            attempt,
            runner,
            launch,
            file,
            timeout_milliseconds: 0,
            tests: Vec::new(),
            fresh_worker: false,
            expected_milliseconds: 0,
            part: None,
        };
        coordinator.order(Order::Dispatch(dispatch)).await;
        assert_result(&coordinator.finished(attempt).await.0, AttemptResult::RunnerLost);
    }
    let attempt = coordinator.dispatch(1, "count", 0).await;
    coordinator.finished(attempt).await;
    let file = "count".to_owned();
    let repeated = wire::Dispatch {
        attempt,
        runner: 1,
        launch: 0,
        file,
        timeout_milliseconds: 0,
        tests: Vec::new(),
        fresh_worker: false,
        expected_milliseconds: 0,
        part: None,
    };
    coordinator.order(Order::Dispatch(repeated)).await;
    coordinator.run("count").await;
    assert_eq!(std::fs::read_to_string(site.project().join("count.log")).unwrap(), "x\nx\n");
    coordinator.end().await;
}

#[tokio::test]
async fn large_and_binary_output_arrives_whole() {
    let site = Site::new();
    site.script("flood", "head -c 3000000 /dev/zero | tr '\\0' 'x'; printf '\\377\\000' >&2");
    let (mut coordinator, _agent) = coordinator(&site, &["{file}"]).await;
    let finished = coordinator.run("flood").await;
    assert_result(&finished, AttemptResult::Passed);
    let block = finished.block.unwrap();
    assert_eq!(block.bytes, 3_000_002);
    coordinator.output_of(&block).await;
    coordinator.end().await;
}

#[tokio::test]
async fn unread_output_stops_the_writer_and_neither_cancellation_nor_memory() {
    let site = Site::new();
    site.script("flood", "echo $$ > flood.pid; exec cat /dev/zero");
    let (mut coordinator, agent) = coordinator(&site, &["{file}"]).await;
    coordinator.stop_reading_output();
    let attempt = coordinator.dispatch(1, "flood", 0).await;
    let pid = pid_in(&site, "flood.pid").await;
    // It sleeps in write(2) once every buffer on the way is full.
    wait_for("the writer waits", || {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        (call.starts_with("1 ") || wchan.contains("pipe")).then_some(())
    })
    .await;
    coordinator.order(Order::Cancel(wire::Cancel { attempt, unless_begun: false })).await;
    wait_for("the writer is killed", || (!is_alive(pid)).then_some(())).await;
    let memory = std::fs::read_to_string(format!("/proc/{}/statm", agent.0.id())).unwrap();
    let resident_pages: u64 = memory.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(resident_pages * 4 < 64 * 1024, "{resident_pages} pages");
}
