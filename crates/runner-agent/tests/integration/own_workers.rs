//! The workers that are part of the agent's own program.

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::coordinator_message::Kind as Order;

use crate::support::*;

fn launch(framework: &str, arguments: &[&str]) -> wire::Launch {
    let worker = wire::OwnWorkerLaunch {
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        isolation: wire::Isolation::Fork.into(),
        ready_timeout_milliseconds: 5_000,
    };
    wire::Launch { framework: framework.into(), kind: Some(wire::launch::Kind::OwnWorker(worker)) }
}

async fn with_worker(site: &Site, framework: &str, arguments: &[&str]) -> (Coordinator, Process) {
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(launch(framework, arguments), 1)).await;
    (coordinator, agent)
}

fn tests(updates: &[Update]) -> Vec<(&str, &str)> {
    let tests = updates.iter().filter_map(|update| match update {
        Update::TestFinished(test) => Some((test.id.as_str(), test.status.as_str())),
        _ => None,
    });
    tests.collect()
}

#[tokio::test]
async fn files_are_run_by_the_agents_own_program() {
    let site = Site::new();
    site.script("t/a.t", "echo 1..2; echo ok 1 - adds; echo 'not ok 2 - divides'");
    let (mut coordinator, _agent) = with_worker(&site, "tap", &["tap"]).await;
    let attempt = coordinator.dispatch(1, "t/a.t", 0).await;
    let (finished, before) = coordinator.finished(attempt).await;
    assert_result(&finished, AttemptResult::Failed);
    assert_eq!(tests(&before), [("1 - adds", "passed"), ("2 - divides", "failed")]);
    let output = coordinator.output_of(&finished.block.unwrap()).await;
    assert_eq!(output, "1..2\nok 1 - adds\nnot ok 2 - divides\n");
    coordinator.end().await;
}

#[tokio::test]
async fn single_tests_reach_the_worker() {
    let site = Site::new();
    site.script("t/a.t", "echo 1..2; echo ok 1 - adds; echo 'not ok 2 - divides'");
    let (mut coordinator, _agent) = with_worker(&site, "tap", &["tap"]).await;
    let dispatch = wire::Dispatch {
        attempt: 7,
        runner: 1,
        launch: 0,
        file: "t/a.t".into(),
        timeout_milliseconds: 0,
        tests: vec!["1 - adds".into()],
        fresh_worker: false,
        expected_milliseconds: 0,
        part: None,
    };
    coordinator.order(Order::Dispatch(dispatch)).await;
    let (finished, before) = coordinator.finished(7).await;
    assert_result(&finished, AttemptResult::Passed);
    assert_eq!(tests(&before), [("1 - adds", "passed")]);
    coordinator.end().await;
}

#[tokio::test]
async fn a_command_is_run_as_a_whole() {
    let site = Site::new();
    site.script("checks", "exit 0");
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    for (attempt, test, result) in [(1, "checks", AttemptResult::Passed), (2, "other", AttemptResult::Failed)]
    {
        let dispatch = wire::Dispatch {
            attempt,
            runner: 1,
            launch: 0,
            file: "checks".into(),
            timeout_milliseconds: 0,
            tests: vec![test.into()],
            fresh_worker: false,
            expected_milliseconds: 0,
            part: None,
        };
        coordinator.order(Order::Dispatch(dispatch)).await;
        let (finished, _) = coordinator.finished(attempt).await;
        assert_result(&finished, result);
        assert!(result == AttemptResult::Passed || finished.message.contains("there is no test \"other\""));
    }
    coordinator.end().await;
}

#[tokio::test]
async fn a_time_limit_and_a_leak_cost_the_file_and_not_the_worker() {
    let site = Site::new();
    site.script("t/hangs.t", "echo 1..2; echo ok 1; echo $$ > child; exec sleep 1000");
    site.script("t/leaks.t", "setsid sleep 1000 >/dev/null 2>&1 & echo $! > daemon; echo 1..1; echo ok 1");
    site.script("t/parent.t", "echo 1..1; echo ok 1 - $PPID");
    let (mut coordinator, _agent) = with_worker(&site, "tap", &["tap"]).await;
    let attempt = coordinator.dispatch(1, "t/parent.t", 0).await;
    let worker = coordinator.finished(attempt).await.1;

    let attempt = coordinator.dispatch(1, "t/hangs.t", 1_000).await;
    let child = pid_in(&site, "child").await;
    let (finished, before) = coordinator.finished(attempt).await;
    assert_result(&finished, AttemptResult::TimedOut);
    assert_eq!(tests(&before), [("1", "passed")]);
    assert!(!is_alive(child));

    let finished = coordinator.run("t/leaks.t").await;
    assert_result(&finished, AttemptResult::Passed);
    let daemon = pid_in(&site, "daemon").await;
    assert_eq!(finished.leaked, [format!("{daemon} sleep 1000")]);
    assert!(!is_alive(daemon));

    let attempt = coordinator.dispatch(1, "t/parent.t", 0).await;
    assert_eq!(tests(&coordinator.finished(attempt).await.1), tests(&worker), "it is the same worker");
    coordinator.end().await;
}

#[tokio::test]
async fn words_reach_the_command_as_they_are() {
    let site = Site::new();
    let script =
        "printf '<testsuite><testcase name=\"%s\"/></testsuite>' \"$*\" > $DISTRIBUTEST_RESULTS/a.xml";
    site.script("writes", script);
    let words = ["junit", "{results}/*.xml", "./writes", "--", "-x", "--help", "{file}", "--", "a  b"];
    let (mut coordinator, _agent) = with_worker(&site, "command", &words).await;
    let attempt = coordinator.dispatch(1, "one", 0).await;
    let (finished, before) = coordinator.finished(attempt).await;
    assert_result(&finished, AttemptResult::Passed);
    assert_eq!(tests(&before), [("-- -x --help one -- a  b", "passed")]);
    coordinator.end().await;
    assert_eq!(site.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_worker_this_agent_does_not_have_is_said_in_words() {
    let site = Site::new();
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.order(Order::Prepare(prepare(launch("dance", &["dance"]), 1))).await;
    let failure = coordinator
        .until(|update| match update {
            Update::WorkerPrepared(prepared) => prepared.failure.clone(),
            _ => None,
        })
        .await;
    assert!(failure.cause.contains("no worker of the kind \"dance\""), "{failure:?}");
    assert!(failure.hint.contains("same version"), "{failure:?}");
}
