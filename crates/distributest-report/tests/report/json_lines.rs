//! JSON lines parse, and every kind of event has its documented shape.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, BlockId, HookKind, HostChange, RunEvent, RunSummary,
};
use distributest_core::usage::Usage;
use distributest_report::{JSON_SCHEMA, JsonLines, Reporter};
use insta::assert_snapshot;
use serde_json::{Map, Value};

use crate::scenarios::{self, output};
use crate::script::Script;
use crate::shared_buffer::SharedBuffer;

fn text_of(run: &[(Duration, RunEvent)]) -> String {
    let buffer = SharedBuffer::default();
    let mut json = JsonLines::new(Box::new(buffer.clone()), "out.json".into());
    for (at, event) in run {
        let before = buffer.text().lines().count();
        json.on_event(*at, event).unwrap();
        let written = buffer.text().lines().count() - before;
        assert_eq!(written, usize::from(!matches!(event, RunEvent::Output { .. })), "flushed per line");
    }
    buffer.text()
}

fn lines_of(run: &[(Duration, RunEvent)]) -> Vec<Map<String, Value>> {
    text_of(run).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every kind of event at least once.
fn every_event() -> Vec<(Duration, RunEvent)> {
    let runner = RunnerId { host: HostId(0), number: 2 };
    let block = BlockId { host: HostId(0), number: 5 };
    let mut script =
        Script::new(&["h1"], &[("tests/a b.py", Some(1.5)), ("tests/b.py", None), ("tests/c.py", None)]);
    script.push(RunEvent::RunResumed(scenarios::former_run()));
    script.at(0.1).push(RunEvent::HostProgress { host: HostId(0), activity: "syncing".to_owned() });
    script.push(RunEvent::HookFinished {
        host: HostId(0),
        runner: Some(runner),
        hook: HookKind::RunnerSetup,
        failure: Some("exited with status 1".to_owned()),
        skipped: false,
        duration: Duration::from_nanos(1_234_567_890),
        block,
    });
    script.push(RunEvent::WorkerPrepared {
        runner,
        framework: "pytest".to_owned(),
        failure: None,
        duration: Duration::from_millis(300),
        saved: None,
        versions: Some("8.3.4, CPython 3.11.2".to_owned()),
        block,
    });
    script.push(RunEvent::WorkerEnded { runner, framework: "pytest".to_owned(), failure: None, block });
    script.ready(0, 1);
    script.push(RunEvent::LaunchUnavailable {
        runner,
        framework: "rspec".to_owned(),
        reason: "no ruby".to_owned(),
        hint: None,
    });
    script.push(RunEvent::RunnerFailed { runner, reason: Some("its worker left".to_owned()) });
    let attempt = script.start(0, 0, 1);
    script.push(output(0, 1, b"bytes"));
    script.test(attempt, scenarios::rounding());
    script.at(1.0).finish_with(attempt, Outcome::Failed, "", "", &["42 sleep 100"]);
    let lost = script.start(1, 0, 1);
    script.push(RunEvent::AttemptDoubled { attempt: lost, file: FileId(1), runner });
    script.push(RunEvent::HostSynced { host: HostId(0), snapshot: 1, copied: None });
    let change = HostChange::Silent(Duration::from_secs(10));
    script.push(RunEvent::HostChanged { host: HostId(0), change });
    script.at(2.0).host_failed(0, "gone", Some("plug it in")).interrupt(lost, Interruption::HostLost, "gone");
    script.push(RunEvent::StopRequested);
    script.not_run(1, NotRunReason::NoRunnerLeft("h1: gone".to_owned()));
    script.cached(2, vec![scenarios::passing("test_sum")]);
    script.push(RunEvent::Warning { message: "mind the gap".to_owned() });
    script.at(2.1).end(3)
}

/// A new event must be added to the documentation and to `every_event`; this match makes that impossible to forget.
fn documented_name(event: &RunEvent) -> Option<&'static str> {
    Some(match event {
        RunEvent::RunStarted { .. } => "run_started",
        RunEvent::RunResumed(_) => "run_resumed",
        RunEvent::HostProgress { .. } => "host_progress",
        RunEvent::HostConnected { .. } => "host_connected",
        RunEvent::HostFailed { .. } => "host_failed",
        RunEvent::HostSynced { .. } => "host_synced",
        RunEvent::HostChanged { .. } => "host_changed",
        RunEvent::HookFinished { .. } => "hook_finished",
        RunEvent::WorkerPrepared { .. } => "worker_prepared",
        RunEvent::WorkerEnded { .. } => "worker_ended",
        RunEvent::RunnerReady { .. } => "runner_ready",
        RunEvent::LaunchUnavailable { .. } => "launch_unavailable",
        RunEvent::RunnerFailed { .. } => "runner_failed",
        RunEvent::AttemptStarted { .. } => "attempt_started",
        RunEvent::AttemptDoubled { .. } => "attempt_doubled",
        RunEvent::TestFinished { .. } => "test_finished",
        RunEvent::Output { .. } => return None,
        RunEvent::AttemptFinished(_) => "attempt_finished",
        RunEvent::FileCached { .. } => "file_cached",
        RunEvent::FileVerdict { .. } => "file_verdict",
        RunEvent::StopRequested => "stop_requested",
        RunEvent::Warning { .. } => "warning",
        RunEvent::RunFinished(_) => "run_finished",
    })
}

const EVENT_KINDS: usize = 22;

#[test]
fn the_format_is_what_it_was() {
    assert_snapshot!(text_of(&every_event()), @r#"
    {"at":0.0,"event":"run_started","schema":1,"run":"20261121-231008-4f2a","project":"shop","hosts":[{"name":"h1","runners":null}],"files":[{"path":"tests/a b.py","framework":"pytest","predicted":1.5},{"path":"tests/b.py","framework":"pytest","predicted":null},{"path":"tests/c.py","framework":"pytest","predicted":null}]}
    {"at":0.0,"event":"run_resumed","run":"20261121-230512-1c08","age_seconds":296.0,"finished":1,"failed":1,"changed":1,"left":2,"logs":["/logs/former.log"]}
    {"at":0.1,"event":"host_progress","host":"h1","activity":"syncing"}
    {"at":0.1,"event":"hook_finished","host":"h1","runner":2,"hook":"runner_setup","failure":"exited with status 1","skipped":false,"seconds":1.234568,"block":5}
    {"at":0.1,"event":"worker_prepared","host":"h1","runner":2,"framework":"pytest","failure":null,"seconds":0.3,"saved_seconds":null,"versions":"8.3.4, CPython 3.11.2","block":5}
    {"at":0.1,"event":"worker_ended","host":"h1","runner":2,"framework":"pytest","failure":null,"block":5}
    {"at":0.1,"event":"host_connected","host":"h1","agent":"resident agent 0.1.0","cores":1,"runners":1}
    {"at":0.1,"event":"runner_ready","host":"h1","runner":1,"identifier":"dev_ana_1"}
    {"at":0.1,"event":"launch_unavailable","host":"h1","runner":2,"framework":"rspec","reason":"no ruby","hint":null}
    {"at":0.1,"event":"runner_failed","host":"h1","runner":2,"reason":"its worker left"}
    {"at":0.1,"event":"attempt_started","attempt":1,"file":"tests/a b.py","file_id":0,"host":"h1","runner":1}
    {"at":0.1,"event":"test_finished","attempt":1,"file":"tests/a b.py","file_id":0,"id":"test_rounding[eur]","name":"test_rounding[eur]","status":"failed","seconds":0.02,"message":"AssertionError: assert 10.01 == 10.0","details":"    def test_rounding(currency):\n>       assert total(currency) == 10.0\nE       AssertionError: assert 10.01 == 10.0\nE        +  where 10.01 = total('eur')\n\ntests/test_billing.py:42: AssertionError","test_file":"tests/test_billing.py","line":42}
    {"at":1.0,"event":"attempt_finished","attempt":1,"file":"tests/a b.py","file_id":0,"host":"h1","runner":1,"outcome":"failed","interruption":null,"seconds":0.9,"message":"","details":"","leaked":["42 sleep 100"],"block":1}
    {"at":1.0,"event":"file_verdict","file":"tests/a b.py","file_id":0,"verdict":"failed","reason":null,"reason_kind":null,"attempt":1}
    {"at":1.0,"event":"attempt_started","attempt":2,"file":"tests/b.py","file_id":1,"host":"h1","runner":1}
    {"at":1.0,"event":"attempt_doubled","attempt":2,"file":"tests/b.py","file_id":1,"host":"h1","runner":2}
    {"at":1.0,"event":"host_synced","host":"h1","snapshot":1,"copied":null}
    {"at":1.0,"event":"host_changed","host":"h1","change":"silent","message":"nothing was heard from it for 10 s, its files run elsewhere as well"}
    {"at":2.0,"event":"host_failed","host":"h1","reason":"gone","hint":"plug it in"}
    {"at":2.0,"event":"attempt_finished","attempt":2,"file":"tests/b.py","file_id":1,"host":"h1","runner":1,"outcome":null,"interruption":"host lost","seconds":1.0,"message":"gone","details":"","leaked":[],"block":2}
    {"at":2.0,"event":"stop_requested"}
    {"at":2.0,"event":"file_verdict","file":"tests/b.py","file_id":1,"verdict":"not run","reason":"no runner was left: h1: gone","reason_kind":"no_runner_left","attempt":null}
    {"at":2.0,"event":"file_cached","file":"tests/c.py","file_id":2,"run":"20261120-091500-77aa","host":"h9","finished_at_unix_ms":1795166101000,"seconds":0.5,"tests":[{"id":"test_sum","name":"test_sum","status":"passed","seconds":0.125}]}
    {"at":2.0,"event":"file_verdict","file":"tests/c.py","file_id":2,"verdict":"cached","reason":null,"reason_kind":null,"attempt":null}
    {"at":2.0,"event":"warning","message":"mind the gap"}
    {"at":2.1,"event":"run_finished","wall_seconds":2.1,"testing_seconds":2.0,"lower_bound_seconds":1.9,"runner_seconds":{"preparing":0.0,"testing":0.0,"waiting":0.0,"between":0.0},"files":3,"outcomes":{"broken":0,"crashed":0,"failed":1,"passed":0,"timed out":0},"flaky":0,"cached":1,"not_run":1,"failed_ends":0,"tests":{"error":0,"expected_failure":0,"failed":1,"passed":1,"skipped":0,"unexpected_pass":0},"hosts":[{"name":"h1","runners":1,"files":1,"busy_seconds":1.9,"problems":["gone"]}],"exit_status":3}
    "#);
}

#[test]
fn every_event_has_its_line() {
    let run = every_event();
    let expected: Vec<_> = run.iter().filter_map(|(_, event)| documented_name(event)).collect();
    let lines = lines_of(&run);
    let written: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(written, expected);
    assert_eq!(written.iter().collect::<BTreeSet<_>>().len(), EVENT_KINDS);
    assert_eq!(lines[0]["schema"], JSON_SCHEMA);
    assert!(lines.iter().all(|line| line["at"].is_number()));
}

#[test]
fn the_documentation_names_every_event_and_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json-events.md");
    let documentation = fs::read_to_string(path).unwrap();
    let mut sections: BTreeMap<&str, &str> = BTreeMap::new();
    for section in documentation.split("\n### `").skip(1) {
        let (name, body) = section.split_once('`').unwrap();
        sections.insert(name, body);
    }
    for line in lines_of(&every_event()) {
        let name = line["event"].as_str().unwrap();
        let section = sections.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
        for field in line.keys().filter(|field| *field != "event" && *field != "at") {
            assert!(section.contains(&format!("| `{field}` |")), "{name}.{field} is not documented");
        }
    }
    assert_eq!(sections.len(), EVENT_KINDS, "an event is documented that does not exist");
}

#[test]
fn odd_text_survives() {
    let reason = "line\nbreak \u{1b}[1m \"quoted\" \u{0} é";
    let run = Script::new(&["h1"], &[]).push(RunEvent::Warning { message: reason.to_owned() }).end(0);
    assert_eq!(lines_of(&run)[1]["message"], reason);
}

#[test]
fn words_are_the_domain_s() {
    let mut script = Script::new(&["h1"], &[("a.py", None)]);
    let report = |result| {
        RunEvent::AttemptFinished(AttemptReport {
            attempt: AttemptId(1),
            file: FileId(0),
            runner: RunnerId { host: HostId(0), number: 1 },
            result,
            duration: Duration::ZERO,
            usage: Usage::default(),
            message: String::new(),
            details: String::new(),
            leaked: Vec::new(),
            block: None,
        })
    };
    for outcome in Outcome::ALL {
        script.push(report(AttemptResult::Outcome(outcome)));
        script.push(RunEvent::FileVerdict {
            file: FileId(0),
            verdict: Verdict::Ran(outcome),
            attempt: None,
            failed_before: Vec::new(),
        });
    }
    let lines = lines_of(&script.events);
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(lines[1 + 2 * index]["outcome"], outcome.word());
        assert_eq!(lines[1 + 2 * index]["interruption"], Value::Null);
        assert_eq!(lines[2 + 2 * index]["verdict"], outcome.word());
    }
}

#[test]
fn the_ledger_adds_up_in_json_too() {
    let run = scenarios::many_ways();
    let Some((_, RunEvent::RunFinished(RunSummary { files, .. }))) = run.last() else { panic!("no summary") };
    let lines = lines_of(&run);
    let summary = lines.last().unwrap();
    let outcomes: u64 =
        summary["outcomes"].as_object().unwrap().values().map(|amount| amount.as_u64().unwrap()).sum();
    assert_eq!(outcomes + summary["not_run"].as_u64().unwrap(), u64::from(*files));
}
