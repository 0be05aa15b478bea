//! Failing tests with huge accounts do not pile up in memory. In a program of its own: it measures its process.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, FilePlan, HostPlan, RunEvent};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;
use distributest_report::{
    AggregatedLog, Console, ConsoleOptions, ConsoleOutputs, JUnit, LogDestination, Reporters, Verbosity,
    prepare_log,
};
use indicatif::ProgressDrawTarget;

const TESTS: usize = 300;
const DETAILS_BYTES: usize = 1024 * 1024;
const ATTEMPT: AttemptId = AttemptId(1);
const FILE: FileId = FileId(0);
const RUNNER: RunnerId = RunnerId { host: HostId(0), number: 1 };

#[test]
fn hundreds_of_huge_failures_are_on_disk_and_not_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.log");
    let log = prepare_log(&LogDestination::File(path.clone()), "run", SystemTime::UNIX_EPOCH).unwrap();
    let mut reporters = Reporters::new();
    reporters.add(AggregatedLog::new(log));
    let junit = directory.path().join("junit.xml");
    reporters.add(JUnit::create(&junit, SystemTime::UNIX_EPOCH).unwrap());
    reporters.add(console());
    reporters.on_event(Duration::ZERO, &run_started());

    let before = peak_memory();
    for number in 0..TESTS {
        let test = failing_test(number);
        reporters.on_event(Duration::ZERO, &RunEvent::TestFinished { attempt: ATTEMPT, file: FILE, test });
    }
    reporters.on_event(Duration::ZERO, &RunEvent::AttemptFinished(report()));
    let verdict = Verdict::Ran(Outcome::Failed);
    reporters.on_event(
        Duration::ZERO,
        &RunEvent::FileVerdict { file: FILE, verdict, attempt: Some(ATTEMPT), failed_before: Vec::new() },
    );
    assert!(reporters.finish().is_empty());
    let grown = peak_memory() - before;

    let limit = 64 * DETAILS_BYTES as u64;
    assert!(grown < limit, "{TESTS} failing tests took {} MB of memory", grown / 1_000_000);
    let logged = fs::metadata(&path).unwrap().len();
    let junit = fs::read_to_string(&junit).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), TESTS, "every test is in the report, if not all it said");
    assert!(junit.contains("more bytes are in the log]"));
    assert!(logged >= (TESTS * DETAILS_BYTES) as u64, "only {logged} bytes are in the log");
}

fn console() -> Console {
    let outputs = ConsoleOutputs {
        results: Box::new(io::sink()),
        messages: Box::new(io::sink()),
        progress: ProgressDrawTarget::hidden(),
    };
    let options = ConsoleOptions {
        color: false,
        width: 80,
        live: false,
        // Keeps most.
        verbosity: Verbosity::Verbose,
        slow_file: Duration::from_secs(60),
        slow_test: Duration::from_secs(10),
        rerun_command: "distributest".to_owned(),
        resume_command: "distributest --resume".to_owned(),
        log_path: None,
    };
    Console::new(options, outputs)
}

fn run_started() -> RunEvent {
    RunEvent::RunStarted {
        run: "run".to_owned(),
        project: "shop".to_owned(),
        hosts: vec![HostPlan { name: "h1".to_owned(), runners: None }],
        files: [FilePlan {
            path: "tests/test_a.py".to_owned(),
            framework: "pytest".to_owned(),
            tests: Vec::new(),
            predicted: None,
            part: None,
        }]
        .into(),
    }
}

/// Details of lines of 64 bytes.
fn failing_test(number: usize) -> TestResult {
    let name = format!("test_{number}");
    let line = format!("{name:63}\n");
    TestResult {
        id: name.clone(),
        name,
        status: TestStatus::Failed,
        duration: Duration::from_millis(1),
        message: "too much".to_owned(),
        details: line.repeat(DETAILS_BYTES / line.len()),
        file: None,
        line: None,
    }
}

fn report() -> AttemptReport {
    AttemptReport {
        attempt: ATTEMPT,
        file: FILE,
        runner: RUNNER,
        result: AttemptResult::Outcome(Outcome::Failed),
        duration: Duration::from_secs(1),
        usage: Usage::default(),
        message: String::new(),
        details: String::new(),
        leaked: Vec::new(),
        block: None,
    }
}

/// The most memory this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
