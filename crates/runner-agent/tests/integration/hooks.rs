//! `node_setup` and `runner_setup`.

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::coordinator_message::Kind as Order;

use crate::support::*;

async fn connected(site: &Site) -> (Coordinator, Process) {
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, site.hello()).await;
    coordinator.welcome().await;
    (coordinator, agent)
}

fn hook_finished(update: &Update) -> Option<wire::HookFinished> {
    match update {
        Update::HookFinished(finished) => Some(finished.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn hooks_run_in_the_workspace_and_hand_their_environment_on() {
    let site = Site::new();
    site.script(
        ".distributest/node_setup",
        "pwd; echo \"node [$DISTRIBUTEST_RUN]\"; echo NODE=yes >> \"$DISTRIBUTEST_ENV\"; echo err >&2",
    );
    let content = b"#!/bin/sh\necho \"runner $1 $NODE\"; echo \"DATABASE=db_$1\" >> \"$DISTRIBUTEST_ENV\"\n";
    site.script("show", "echo \"$NODE $DATABASE\"");
    let (mut coordinator, _agent) = connected(&site).await;
    let mut prepare = prepare(command_launch(&["{file}"]), 2);
    prepare.node_setup = project_hook(".distributest/node_setup");
    prepare.runner_setup = Some(wire::Hook {
        source: Some(wire::hook::Source::Content(content.to_vec())),
        ..Default::default()
    });
    let updates = coordinator.prepare(prepare).await;
    let hooks: Vec<_> = updates.iter().filter_map(hook_finished).collect();
    assert_eq!(hooks.len(), 3);
    assert_eq!(hooks[0].runner, 0);
    assert!(hooks.iter().all(|hook| hook.failure.is_none() && !hook.skipped));
    let node = coordinator.output_of(hooks[0].block.as_ref().unwrap()).await;
    assert!(node.contains(site.project().to_str().unwrap()) && node.contains("node [run-1]"), "{node}");
    assert!(node.contains("err\n"), "{node}");
    for hook in &hooks[1..] {
        let output = coordinator.output_of(hook.block.as_ref().unwrap()).await;
        assert_eq!(output, format!("runner laptop_ana_{} yes\n", hook.runner));
    }
    let attempt = coordinator.dispatch(2, "show", 0).await;
    let (finished, _) = coordinator.finished(attempt).await;
    let output = coordinator.output_of(&finished.block.unwrap()).await;
    assert_eq!(output, "yes db_laptop_ana_2\n");
    coordinator.end().await;
}

#[tokio::test]
async fn a_failing_node_setup_takes_the_host_out_with_the_reason() {
    let cases: [(&str, u32, &str, &str); 5] = [
        ("#!/bin/sh\necho why; exit 7\n", 0o755, "exit status 7", "log"),
        ("#!/bin/sh\n", 0o644, "x permission", "chmod +x hook"),
        ("#!/nonexistent/ruby\n", 0o755, "interpreter", "install"),
        ("#!/bin/sh\nsleep 1000\n", 0o755, "time limit of 0.5 s", "raise node_setup_timeout"),
        ("#!/bin/sh\necho 'A B' > \"$DISTRIBUTEST_ENV\"\n", 0o755, "line 1", ""),
    ];
    for (text, mode, cause, hint) in cases {
        let site = Site::new();
        site.file("hook", text, mode);
        let (mut coordinator, _agent) = connected(&site).await;
        let mut prepare = prepare(command_launch(&["{file}"]), 1);
        prepare.node_setup =
            project_hook("hook").map(|hook| wire::Hook { timeout_milliseconds: 500, ..hook });
        coordinator.order(Order::Prepare(prepare)).await;
        let finished = coordinator.until(hook_finished).await;
        let failure = finished.failure.unwrap();
        assert!(failure.cause.contains(cause), "{failure:?} should say {cause}");
        assert!(failure.hint.contains(hint), "{failure:?} should hint {hint}");
        assert_eq!((failure.subject.as_str(), failure.fault()), ("hook", wire::Fault::Configuration));
        let Some(Update::Refusal(refusal)) = coordinator.next().await else { panic!("no refusal") };
        assert_eq!(refusal.failure, Some(failure));
        assert_eq!(coordinator.next().await, None);
    }
}

#[tokio::test]
async fn a_failing_runner_setup_takes_only_its_runner_out() {
    let site = Site::new();
    site.script("hook", "case $1 in *_1) exit 1;; esac");
    site.script("pass", "");
    let (mut coordinator, _agent) = connected(&site).await;
    let mut prepare = prepare(command_launch(&["{file}"]), 2);
    prepare.runner_setup = project_hook("hook");
    coordinator.order(Order::Prepare(prepare)).await;
    let (mut failed, mut ready) = (None, None);
    while failed.is_none() || ready.is_none() {
        match coordinator.next().await.unwrap() {
            Update::RunnerFailed(failure) => failed = Some(failure),
            Update::RunnerReady(runner) => ready = Some(runner),
            _ => {}
        }
    }
    assert_eq!((failed.unwrap().runner, ready.unwrap().runner), (1, 2));
    let attempt = coordinator.dispatch(2, "pass", 0).await;
    let (finished, _) = coordinator.finished(attempt).await;
    assert_result(&finished, wire::attempt_finished::Result::Passed);
    coordinator.end().await;
}

#[tokio::test]
async fn an_unchanged_hook_is_skipped_and_its_environment_kept() {
    let site = Site::new();
    site.script("hook", "echo ran >> hook.log; echo MADE=once > \"$DISTRIBUTEST_ENV\"; exit $(cat status)");
    site.script("show", "echo \"$MADE\"");
    let run = async |fingerprint: &str, status: &str, skipped: bool| {
        site.file("status", status, 0o644);
        let (mut coordinator, _agent) = connected(&site).await;
        let mut prepare = prepare(command_launch(&["{file}"]), 1);
        let fingerprint = fingerprint.to_owned();
        prepare.node_setup = project_hook("hook").map(|hook| wire::Hook { fingerprint, ..hook });
        coordinator.order(Order::Prepare(prepare)).await;
        let finished = coordinator.until(hook_finished).await;
        assert_eq!(finished.skipped, skipped);
        if finished.failure.is_none() {
            let shown =
                coordinator.until(|update| matches!(update, Update::RunnerReady(_)).then_some(())).await;
            let () = shown;
            let finished = coordinator.run("show").await;
            assert_eq!(coordinator.output_of(&finished.block.unwrap()).await, "once\n");
            coordinator.end().await;
        }
    };
    run("f1", "0", false).await;
    run("f1", "0", true).await;
    run("f2", "1", false).await;
    run("f1", "0", false).await;
    run("", "0", false).await;
    let ran = std::fs::read_to_string(site.project().join("hook.log")).unwrap();
    assert_eq!(ran.lines().count(), 4);
}

#[tokio::test]
async fn what_a_hook_starts_lives_as_long_as_the_run() {
    let site = Site::new();
    site.script(
        "hook",
        "setsid sh -c 'echo $$ > server; exec sleep 1000' & while [ ! -s server ]; do sleep 0.01; done",
    );
    site.script("pass", "kill -0 $(cat server)");
    let (mut coordinator, _agent) = connected(&site).await;
    let mut prepare = prepare(command_launch(&["{file}"]), 1);
    prepare.node_setup = project_hook("hook");
    coordinator.prepare(prepare).await;
    let server = pid_in(&site, "server").await;
    let finished = coordinator.run("pass").await;
    assert_result(&finished, wire::attempt_finished::Result::Passed);
    assert_eq!(finished.leaked, Vec::<String>::new());
    coordinator.end().await;
    assert!(!is_alive(server));
}

#[tokio::test]
async fn a_run_can_be_ended_in_the_middle_of_a_hook() {
    let site = Site::new();
    site.script("hook", "echo $$ > hook.pid; sleep 1000");
    for node in [true, false] {
        let (coordinator, _agent) = connected(&site).await;
        let mut prepare = prepare(command_launch(&["{file}"]), 1);
        let hook = project_hook("hook");
        if node {
            prepare.node_setup = hook
        } else {
            prepare.runner_setup = hook
        }
        coordinator.order(Order::Prepare(prepare)).await;
        let pid = pid_in(&site, "hook.pid").await;
        coordinator.end().await;
        assert!(!is_alive(pid));
        std::fs::remove_file(site.project().join("hook.pid")).unwrap();
    }
}
