//! A file with hundreds of failing tests: the console tells of some and counts the others, the log has them all.

use std::fs;
use std::time::{Duration, SystemTime};

use distributest_core::outcome::Outcome;
use distributest_core::run_event::RunEvent;
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_report::{
    AggregatedLog, Console, ConsoleOptions, ConsoleOutputs, LogDestination, Reporter, Verbosity, prepare_log,
};
use indicatif::ProgressDrawTarget;

use crate::console::options;
use crate::script::{Script, test};
use crate::shared_buffer::SharedBuffer;

/// 300 failing tests of one file, each with a message and details of its own.
fn run() -> Vec<(Duration, RunEvent)> {
    let mut script = Script::new(&["h1"], &[("tests/test_a.py", None)]);
    script.ready(0, 1);
    let attempt = script.start(0, 0, 1);
    for number in 1..=300 {
        let (message, details) = (format!("message {number}."), format!("details {number}.\nwhole account"));
        script.test(
            attempt,
            TestResult { message, details, ..test(&format!("test_{number}"), TestStatus::Failed, 0.0) },
        );
    }
    script.at(1.0).finish(attempt, Outcome::Failed).end(1)
}

fn printed(verbosity: Verbosity) -> String {
    let results = SharedBuffer::default();
    let outputs = ConsoleOutputs {
        results: Box::new(results.clone()),
        messages: Box::new(SharedBuffer::default()),
        progress: ProgressDrawTarget::hidden(),
    };
    let mut console = Console::new(ConsoleOptions { verbosity, ..options() }, outputs);
    for (at, event) in run() {
        console.on_event(at, &event).unwrap();
    }
    results.text()
}

#[test]
fn the_console_tells_of_the_first_and_counts_the_last() {
    for verbosity in [Verbosity::Normal, Verbosity::Verbose] {
        let text = printed(verbosity);
        assert!(text.contains("300 of 300 tests failed"), "{text}");
        assert!(text.contains("  test_50\n    message 50.\n    details 50.\n    whole account\n"), "{text}");
        assert!(text.contains("account\n\n  test_51: message 51.\n  test_52: message 52.\n"), "{text}");
        assert!(
            text.contains("  test_250: message 250.\n  … and 50 more failing tests in the log\n"),
            "{text}"
        );
        assert_eq!(text.matches("whole account").count(), 50);
    }
}

#[test]
fn the_log_has_every_account() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.log");
    let log = prepare_log(&LogDestination::File(path.clone()), "run", SystemTime::UNIX_EPOCH);
    let mut log = AggregatedLog::new(log.unwrap());
    for (at, event) in run() {
        log.on_event(at, &event).unwrap();
    }
    let text = fs::read_to_string(path).unwrap();
    for number in 1..=300 {
        let account =
            format!("--- failed: test_{number}\nmessage {number}.\ndetails {number}.\nwhole account\n");
        assert!(text.contains(&account), "{account}");
    }
}
