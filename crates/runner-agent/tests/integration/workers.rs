//! Workers that speak the protocol, more or less.

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::coordinator_message::Kind as Order;

use crate::support::*;

/// A worker whose files' names say what happens. `$$` is the worker; `child` stands for a forked child.
const WORKER: &str = r#"
say() { printf '%s\n' "$1" >&3; }
test_line() { say '{"type":"test","id":"'$1'","name":"'$1'","status":"passed","seconds":0.25,"line":3}'; }
died_in() { say '{"type":"test","id":"'$1'","name":"'$1'","status":"error","seconds":0,"message":"signal 15"}'; }
finished() { say '{"type":"finished","outcome":"'$1'","message":"'"$2"'","details":"d"}'; }
echo loading
say '{"type":"ready","protocol":1,"framework":"fake","version":"1"}'
while read -r line <&3; do
  case $line in
    *'"quit"'*) echo goodbye; exit 0 ;;
    *pass*) echo "in $$"; test_line one; test_line two; finished passed ;;
    *broken*) finished broken 'it does not load' ;;
    *garbage*) test_line one; say 'oh no' ;;
    *silent_exit*) test_line one; exit 5 ;;
    *without_a_word*) exit 6 ;;
    *dying_words*) echo $$ > worker.pid; test_line one; finished failed bye; kill -9 $$ ;;
    *murder*) test_line one; echo last; kill -9 $$ ;;
    *half_line*) printf '{"type":"test","id":"ha' >&3; say ''; test_line died_in; finished crashed 'signal 9' ;;
    *last_of_all*) finished crashed 'signal 9'; read -r line <&3; exit 1 ;;
    *half_garbage*) printf '{"type":"test","id":"ha' >&3; say ''; finished passed ;;
    *hang*) test_line one; setsid sh -c 'echo $$ > child; exec sleep 1000' & wait; died_in two; finished crashed killed ;;
    *stuck*) trap 'echo stacks of $$' 16; trap 'echo leaving; exit' QUIT; trap 'died_in two; exit 1' TERM; test_line one; while :; do sleep 0.1; done ;;
    *leak*) setsid sh -c 'echo $$ > child; exec sleep 1000' >/dev/null 2>&1 </dev/null 3>&- &
            while [ ! -s child ]; do sleep 0.01; done; test_line one; finished passed ;;
    *ahead*) rm -f child; sh -c 'sleep 1000 & echo $! > child; wait' >/dev/null 2>&1 </dev/null 3>&- &
            while [ ! -s child ]; do sleep 0.01; done
            say '{"type":"finished","outcome":"passed","helpers":['$!']}' ;;
    *unknown_status*) say '{"type":"test","id":"a","name":"a","status":"odd","seconds":0}' ;;
    *bad_end*) say "{\"type\":\"end_failed\",\"message\":\"the server did not stop\"}"; finished passed ;;
    *between*) finished passed; while [ ! -e go ]; do sleep 0.01; done; echo straggler; : > gone ;;
  esac
done
"#;

fn launch(source: &str, isolation: wire::Isolation) -> wire::Launch {
    let worker = wire::WorkerLaunch {
        programs: vec!["no-such-shell".into(), "/bin/sh".into()],
        arguments: vec![],
        worker_file_name: "fake_worker.sh".into(),
        worker_source: source.as_bytes().to_vec(),
        worker_arguments: vec![],
        isolation: isolation.into(),
        ready_timeout_milliseconds: 5_000,
    };
    wire::Launch { framework: "fake".into(), kind: Some(wire::launch::Kind::Worker(worker)) }
}

async fn with_worker(site: &Site, isolation: wire::Isolation) -> (Coordinator, Process, Vec<Update>) {
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, site.hello()).await;
    coordinator.welcome().await;
    let updates = coordinator.prepare(prepare(launch(WORKER, isolation), 1)).await;
    (coordinator, agent, updates)
}

fn worker_prepared(update: &Update) -> Option<wire::WorkerPrepared> {
    match update {
        Update::WorkerPrepared(prepared) => Some(prepared.clone()),
        _ => None,
    }
}

fn worker_ended(update: &Update) -> Option<wire::WorkerEnded> {
    match update {
        Update::WorkerEnded(ended) => Some(ended.clone()),
        _ => None,
    }
}

fn tests(updates: &[Update]) -> Vec<&str> {
    let ids = updates.iter().filter_map(|update| match update {
        Update::TestFinished(test) => Some(test.id.as_str()),
        _ => None,
    });
    ids.collect()
}

#[tokio::test]
async fn a_worker_is_kept_from_file_to_file() {
    let site = Site::new();
    let (mut coordinator, _agent, updates) = with_worker(&site, wire::Isolation::Shared).await;
    let [Update::WorkerPrepared(prepared), Update::RunnerReady(ready)] = &updates[..] else {
        panic!("{updates:?}")
    };
    assert_eq!((prepared.framework.as_str(), &prepared.failure), ("fake", &None));
    assert_eq!(ready.identifier, "laptop_ana_1");
    let loading = coordinator.output_of(prepared.block.as_ref().unwrap()).await;
    assert_eq!(loading, "loading\n");

    let mut outputs = Vec::new();
    for _ in 0..2 {
        let attempt = coordinator.dispatch(1, "pass", 0).await;
        let (finished, before) = coordinator.finished(attempt).await;
        assert_result(&finished, AttemptResult::Passed);
        assert_eq!(tests(&before), ["one", "two"]);
        let Some(Update::TestFinished(test)) = before.last() else { panic!("{before:?}") };
        assert_eq!((test.duration_microseconds, test.line), (250_000, 3));
        outputs.push(coordinator.output_of(&finished.block.unwrap()).await);
    }
    assert_eq!(outputs[0], outputs[1], "the same worker ran both");
    let broken = coordinator.run("broken").await;
    assert_result(&broken, AttemptResult::Broken);
    assert_eq!((broken.message.as_str(), broken.details.as_str()), ("it does not load", "d"));
    coordinator.order(Order::EndRun(wire::EndRun {})).await;
    let left = coordinator.until(worker_ended).await;
    assert_eq!((left.runner, left.framework.as_str()), (1, "fake"));
    assert_eq!(coordinator.output_of(&left.block.unwrap()).await, "goodbye\n", "no byte is lost");
    coordinator.until(|update| matches!(update, Update::RunEnded(_)).then_some(())).await;
    assert_eq!(coordinator.next().await, None);
    assert_eq!(site.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn with_process_isolation_each_file_has_a_worker_of_its_own() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Process).await;
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let finished = coordinator.run("pass").await;
        assert_result(&finished, AttemptResult::Passed);
        outputs.push(coordinator.output_of(&finished.block.unwrap()).await);
    }
    assert_ne!(outputs[0], outputs[1]);
    assert!(outputs.iter().all(|output| output.ends_with("goodbye\n")), "{outputs:?}");
    coordinator.end().await;
}

#[tokio::test]
async fn what_fails_behind_the_last_file_is_told_of_the_worker() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Shared).await;
    assert_result(&coordinator.run("bad_end").await, AttemptResult::Passed);
    assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
    coordinator.order(Order::EndRun(wire::EndRun {})).await;
    let left = coordinator.until(worker_ended).await;
    assert_eq!(left.failure, "the server did not stop");
    coordinator.until(|update| matches!(update, Update::RunEnded(_)).then_some(())).await;
}

/// A worker that takes its time to end, as one does that stops servers.
const SLOW_TO_END: &str = r#"
printf '%s\n' '{"type":"ready","protocol":1,"framework":"fake","version":"1"}' >&3
read -r line <&3
echo $$ > ending
while [ ! -e go ]; do sleep 0.01; done
printf '%s\n' '{"type":"end_failed","message":"late"}' >&3
"#;

async fn with_a_worker_that_is_ending(site: &Site) -> (Coordinator, Process, u32) {
    let hello = wire::Hello { heartbeat_milliseconds: 20, ..site.hello() };
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, hello).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(launch(SLOW_TO_END, wire::Isolation::Shared), 1)).await;
    coordinator.order(Order::EndRun(wire::EndRun {})).await;
    let ending = site.project().join("ending");
    let worker =
        wait_for("the worker ends", || std::fs::read_to_string(&ending).ok()?.trim().parse().ok()).await;
    (coordinator, agent, worker)
}

#[tokio::test]
async fn the_coordinator_is_spoken_to_while_a_worker_takes_its_time_to_end() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_a_worker_that_is_ending(&site).await;
    // More than can have been said before.
    for _ in 0..50 {
        coordinator.heartbeat().await;
    }
    std::fs::write(site.project().join("go"), "").unwrap();
    assert_eq!(coordinator.until(worker_ended).await.failure, "late");
    coordinator.until(|update| matches!(update, Update::RunEnded(_)).then_some(())).await;
}

#[tokio::test]
async fn a_worker_that_takes_its_time_to_end_does_not_outlive_the_coordinator() {
    let site = Site::new();
    let (coordinator, _agent, worker) = with_a_worker_that_is_ending(&site).await;
    drop(coordinator);
    wait_for("the worker is gone", || (!is_alive(worker)).then_some(())).await;
}

#[tokio::test]
async fn with_process_isolation_a_file_fails_with_its_process() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Process).await;
    let failed = coordinator.run("bad_end").await;
    assert_result(&failed, AttemptResult::Failed);
    assert_eq!(failed.message, "the server did not stop");
    coordinator.end().await;
}

#[tokio::test]
async fn garbage_is_shown_and_its_worker_replaced() {
    for (file, shown) in [("garbage", "\"oh no\""), ("unknown_status", "odd")] {
        let site = Site::new();
        let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Fork).await;
        let lost = coordinator.run(file).await;
        assert_result(&lost, AttemptResult::RunnerLost);
        assert!(lost.message.contains(shown), "{}", lost.message);
        assert_eq!(coordinator.until(worker_prepared).await.failure, None);
        assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
        coordinator.end().await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_in_a_file_crashes_the_file_and_keeps_its_tests() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Fork).await;
    let without_a_word = "the worker died before it told of any test of this file: exit status 6";
    for (file, result, message, its_tests) in [
        ("murder", AttemptResult::Crashed, "the worker died: signal 9 (SIGKILL)", &["one"][..]),
        ("silent_exit", AttemptResult::Crashed, "the worker died: exit status 5", &["one"]),
        ("dying_words", AttemptResult::Failed, "bye", &["one"]),
        ("without_a_word", AttemptResult::Crashed, without_a_word, &[]),
    ] {
        let attempt = coordinator.dispatch(1, file, 0).await;
        let (crashed, before) = coordinator.finished(attempt).await;
        assert_result(&crashed, result);
        assert_eq!(crashed.message, message);
        assert_eq!(tests(&before), its_tests);
        if file == "murder" {
            assert_eq!(coordinator.output_of(&crashed.block.unwrap()).await, "last\n");
        }
        if file == "dying_words" {
            // It answers before it dies, and the next file is for the next worker.
            gone(&[pid_in(&site, "worker.pid").await]).await;
        }
    }
    assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
    coordinator.end().await;
}

#[tokio::test]
async fn a_line_cut_short_by_a_dying_child_is_no_garbage() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Fork).await;
    let attempt = coordinator.dispatch(1, "half_line", 0).await;
    let (crashed, before) = coordinator.finished(attempt).await;
    assert_result(&crashed, AttemptResult::Crashed);
    assert_eq!(crashed.message, "signal 9");
    assert_eq!(tests(&before), ["died_in"]);
    assert_result(&coordinator.run("half_garbage").await, AttemptResult::RunnerLost);
    coordinator.end().await;
}

#[tokio::test]
async fn a_time_limit_ends_the_forked_child_and_spares_the_worker() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Fork).await;
    let first = coordinator.run("pass").await;
    let attempt = coordinator.dispatch(1, "hang", 1000).await;
    let child = pid_in(&site, "child").await;
    let (timed_out, before) = coordinator.finished(attempt).await;
    assert_timed_out_in_its_second_test(&timed_out, &before);
    assert!(!is_alive(child));
    let second = coordinator.run("pass").await;
    let outputs = (
        coordinator.output_of(&first.block.unwrap()).await,
        coordinator.output_of(&second.block.unwrap()).await,
    );
    assert_eq!(outputs.0, outputs.1, "the same worker ran both");
    coordinator.end().await;
}

fn assert_timed_out_in_its_second_test(timed_out: &wire::AttemptFinished, before: &[Update]) {
    assert_result(timed_out, AttemptResult::TimedOut);
    assert_eq!(timed_out.message, "no output for 1s, while two ran");
    assert_eq!(tests(before), ["one", "two"]);
    let Some(Update::TestFinished(test)) = before.last() else { panic!("{before:?}") };
    assert_eq!((test.status.as_str(), test.message.as_str()), ("error", "timed out"));
}

#[tokio::test]
async fn a_shared_worker_names_the_test_that_hung_before_it_goes() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Shared).await;
    let attempt = coordinator.dispatch(1, "stuck", 1000).await;
    let (timed_out, before) = coordinator.finished(attempt).await;
    assert_timed_out_in_its_second_test(&timed_out, &before);
    let output = coordinator.output_of(&timed_out.block.unwrap()).await;
    assert!(output.starts_with("distributest: no output for 1s; its processes:\n"), "{output}");
    assert!(output.contains("stacks of ") && !output.contains("leaving"), "{output}");
    assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
    coordinator.end().await;
}

/// One that watches over a process that has loaded the project, which watches over the one that runs the files.
const WATCHER_OF_WATCHER: &str = r#"
say() { printf '%s\n' "$1" >&3; }
loaded() {
  sh -c 'trap "" TERM; : > stuck; while :; do sleep 0.05; done'
  say '{"type":"test","id":"two","name":"two","file":"a_test","status":"error","seconds":0,"message":"died","details":""}'
}
mkfifo begin
{ read -r _ < begin; loaded; } &
say '{"type":"ready","protocol":1,"keeps":true,"process":'"$!"'}'
read -r line <&3
echo > begin
wait
say '{"type":"finished","outcome":"crashed"}'
"#;

#[tokio::test]
async fn whoever_watches_over_a_test_that_does_not_heed_sigterm_outlives_it() {
    let site = Site::new();
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(launch(WATCHER_OF_WATCHER, wire::Isolation::Shared), 1)).await;
    let attempt = coordinator.dispatch(1, "a_test", 1000).await;
    let (timed_out, before) = coordinator.finished(attempt).await;
    assert_result(&timed_out, AttemptResult::TimedOut);
    assert!(site.project().join("stuck").exists());
    assert_eq!(tests(&before), ["two"]);
    coordinator.end().await;
}

#[tokio::test]
async fn a_cancelled_file_costs_a_shared_worker_its_life() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Shared).await;
    let attempt = coordinator.dispatch(1, "hang", 0).await;
    let child = pid_in(&site, "child").await;
    coordinator.order(Order::Cancel(wire::Cancel { attempt, unless_begun: false })).await;
    let (cancelled, _) = coordinator.finished(attempt).await;
    assert_result(&cancelled, AttemptResult::Cancelled);
    assert!(!is_alive(child));
    assert_eq!(coordinator.until(worker_prepared).await.failure, None);
    assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
    coordinator.end().await;
}

#[tokio::test]
async fn a_leak_is_named_and_killed_where_files_have_processes_of_their_own() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Fork).await;
    let finished = coordinator.run("leak").await;
    assert_result(&finished, AttemptResult::Passed);
    let child = pid_in(&site, "child").await;
    assert_eq!(finished.leaked, [format!("{child} sleep 1000")]);
    assert!(!is_alive(child));
    coordinator.end().await;
}

#[tokio::test]
async fn what_a_worker_starts_for_its_next_file_is_no_leak_of_this_one() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Fork).await;
    let finished = coordinator.run("ahead").await;
    assert_eq!(finished.leaked, Vec::<String>::new());
    let child = pid_in(&site, "child").await;
    assert!(is_alive(child));
    // They are this file's if it does not say so again.
    let finished = coordinator.run("pass").await;
    assert!(finished.leaked.contains(&format!("{child} sleep 1000")), "{:?}", finished.leaked);
    assert!(!is_alive(child));
    coordinator.end().await;
}

#[tokio::test]
async fn processes_of_a_shared_worker_live_until_it_ends() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Shared).await;
    let finished = coordinator.run("leak").await;
    assert_eq!(finished.leaked, Vec::<String>::new());
    let child = pid_in(&site, "child").await;
    assert!(is_alive(child));
    coordinator.end().await;
    assert!(!is_alive(child));
}

#[tokio::test]
async fn what_is_written_between_two_files_opens_the_next_block() {
    let site = Site::new();
    let (mut coordinator, _agent, _) = with_worker(&site, wire::Isolation::Shared).await;
    let first = coordinator.run("between").await;
    assert_eq!(first.block.unwrap().bytes, 0);
    site.file("go", "", 0o644);
    wait_for("the straggler wrote", || site.project().join("gone").exists().then_some(())).await;
    let second = coordinator.run("pass").await;
    let output = coordinator.output_of(&second.block.unwrap()).await;
    assert!(output.starts_with("straggler\nin "), "{output}");
    coordinator.end().await;
}

/// The program of a worker that says it can't work here.
const UNABLE: &str = r#"
printf '%s\n' '{"type":"unable","message":"no gem","hint":"bundle"}' >&3; echo tried
"#;

#[tokio::test]
async fn a_worker_that_can_not_get_ready_is_told_and_takes_its_runner_out_when_there_is_nothing_else() {
    let ready_limit = "sleep 1000";
    let cases = [
        (UNABLE, "no gem", "bundle"),
        ("echo tried; echo 'Traceback' >&3; sleep 1000", "Traceback", "log"),
        ("printf '%s\\n' '{\"type\":\"ready\",\"protocol\":9}' >&3; sleep 1000", "version 9", "log"),
        (ready_limit, "not ready after 0.7 s", "log"),
    ];
    for (source, cause, hint) in cases {
        let site = Site::new();
        let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
        coordinator.welcome().await;
        let mut launch = launch(source, wire::Isolation::Fork);
        if source == ready_limit
            && let Some(wire::launch::Kind::Worker(worker)) = &mut launch.kind
        {
            worker.ready_timeout_milliseconds = 700;
        }
        coordinator.order(Order::Prepare(prepare(launch, 1))).await;
        let prepared = coordinator.until(worker_prepared).await;
        let failure = prepared.failure.unwrap();
        assert!(failure.cause.contains(cause), "{failure:?} should say {cause}");
        assert!(failure.hint.contains(hint), "{failure:?} should hint {hint}");
        if source.contains("tried") {
            assert_eq!(coordinator.output_of(&prepared.block.unwrap()).await, "tried\n");
        }
        let unavailable = wire::LaunchUnavailable { runner: 1, launch: 0, failure: Some(failure) };
        assert_eq!(coordinator.next().await, Some(Update::LaunchUnavailable(unavailable)));
        let nothing_left = wire::RunnerFailed { runner: 1, failure: None };
        assert_eq!(coordinator.next().await, Some(Update::RunnerFailed(nothing_left)));
        coordinator.end().await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_while_it_starts_is_tried_again_but_not_for_ever() {
    let site = Site::new();
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    let dying = format!("echo x >> starts; [ $(wc -l < starts) -gt 2 ] || exit 3\n{WORKER}");
    let updates = coordinator.prepare(prepare(launch(&dying, wire::Isolation::Fork), 1)).await;
    let failures = updates.iter().filter_map(worker_prepared).map(|prepared| prepared.failure);
    let failures: Vec<_> = failures.map(|failure| failure.map(|failure| failure.cause)).collect();
    let death = Some("it ended with exit status 3 before it was ready".to_owned());
    assert_eq!(failures, [death.clone(), death, None]);
    assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
    coordinator.end().await;

    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.order(Order::Prepare(prepare(launch("exit 3", wire::Isolation::Fork), 1))).await;
    for _ in 0..3 {
        assert!(worker_prepared(&coordinator.next().await.unwrap()).unwrap().failure.is_some());
    }
    let Some(Update::LaunchUnavailable(unavailable)) = coordinator.next().await else {
        panic!("tried again")
    };
    let cause = unavailable.failure.unwrap().cause;
    assert_eq!(cause, "it ended with exit status 3 before it was ready, 3 times in a row");
    coordinator.end().await;
}

#[tokio::test]
async fn a_runner_goes_on_with_what_it_can_run() {
    let site = Site::new();
    site.script("own", "exit 0");
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    let launches = vec![
        launch(UNABLE, wire::Isolation::Fork),
        launch(WORKER, wire::Isolation::Fork),
        command_launch(&["./{file}"]),
    ];
    let updates = coordinator.prepare(wire::Prepare { runners: 4, launches, ..Default::default() }).await;
    let mut prepared: Vec<_> = updates.iter().filter_map(worker_prepared).collect();
    prepared.sort_by_key(|prepared| prepared.runner);
    let prepared = prepared.iter().map(|prepared| (prepared.runner, prepared.failure.is_none()));
    let first_workers = [(1, false), (2, true), (4, false)];
    assert_eq!(
        prepared.collect::<Vec<_>>(),
        first_workers,
        "each starts with another launch; a command needs none"
    );
    let unavailable = |update: &Update| match update {
        Update::LaunchUnavailable(unavailable) => Some((unavailable.runner, unavailable.launch)),
        _ => None,
    };
    let mut told: Vec<_> = updates.iter().filter_map(unavailable).collect();
    told.sort_unstable();
    assert_eq!(told, [(1, 0), (4, 0)]);

    for (launch, file, result) in [
        (0, "pass", AttemptResult::RunnerLost),
        (1, "pass", AttemptResult::Passed),
        (2, "own", AttemptResult::Passed),
        (0, "pass", AttemptResult::RunnerLost),
    ] {
        for runner in [1, 2] {
            let attempt = coordinator.dispatch_for(launch, runner, file, 0).await;
            let (finished, before) = coordinator.finished(attempt).await;
            assert_result(&finished, result);
            told.extend(before.iter().filter_map(unavailable));
        }
    }
    assert_eq!(told, [(1, 0), (4, 0), (2, 0)], "it is said once a runner, and before its attempt ends");
    coordinator.end().await;
}

#[tokio::test]
async fn a_framework_without_any_program_names_its_candidates() {
    let site = Site::new();
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    let mut launch = launch("", wire::Isolation::Fork);
    if let Some(wire::launch::Kind::Worker(worker)) = &mut launch.kind {
        worker.programs = vec![".venv/bin/python".into(), "no-such-python".into()];
    }
    coordinator.order(Order::Prepare(prepare(launch, 1))).await;
    let failure = coordinator.until(worker_prepared).await.failure.unwrap();
    assert!(failure.cause.contains(".venv/bin/python, no-such-python"), "{failure:?}");
    coordinator.end().await;
}

#[tokio::test]
async fn a_worker_without_a_process_per_file_gets_no_file_after_a_crash() {
    for isolation in [wire::Isolation::Shared, wire::Isolation::Process] {
        let site = Site::new();
        let (mut coordinator, _agent, _) = with_worker(&site, isolation).await;
        assert_result(&coordinator.run("last_of_all").await, AttemptResult::Crashed);
        assert_result(&coordinator.run("pass").await, AttemptResult::Passed);
        coordinator.end().await;
    }
}
