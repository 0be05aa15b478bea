//! The JUnit report, read back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use distributest_core::identity::{AttemptId, FileId};
use distributest_core::outcome::{Interruption, Outcome, Verdict};
use distributest_core::run_event::{AttemptResult, RunEvent};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_report::{JUnit, ReportError, Reporter};
use insta::assert_snapshot;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus};

use crate::scenarios::{self, Run};
use crate::script::{Script, test};

fn write(path: &Path, run: &[(Duration, RunEvent)]) {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_302_608);
    let mut junit = JUnit::create(path, started).unwrap();
    for (at, event) in run {
        junit.on_event(*at, event).unwrap();
    }
    junit.finish().unwrap();
}

fn report_of(run: &[(Duration, RunEvent)]) -> Report {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("junit.xml");
    write(&path, run);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "no temporary file stays behind");
    Report::deserialize_from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

/// One line per suite and case.
fn outline(report: &Report) -> String {
    let mut text = format!("{}: {} tests\n", report.name.as_ref().unwrap().as_str(), report.tests);
    for suite in &report.test_suites {
        text.push_str(&format!(
            "{}: {} tests, {} failures, {} errors, {} skipped\n",
            suite.name.as_str(),
            suite.tests,
            suite.failures,
            suite.errors,
            suite.skipped
        ));
        for case in &suite.test_cases {
            text.push_str(&format!("  {}\n", outline_of_case(case)));
        }
    }
    text
}

fn outline_of_case(case: &TestCase) -> String {
    let (word, message) = match &case.status {
        TestCaseStatus::Success { .. } => ("success", None),
        TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, message, .. } => {
            ("failure", message.as_ref())
        }
        TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, message, .. } => {
            ("error", message.as_ref())
        }
        TestCaseStatus::Skipped { message, .. } => ("skipped", message.as_ref()),
    };
    let message = message.map(|message| format!(": {}", message.as_str())).unwrap_or_default();
    format!("{word} {} [{}]{message}", case.name.as_str(), case.classname.as_ref().unwrap().as_str())
}

#[test]
fn suites_and_cases_say_what_happened() {
    assert_snapshot!(outline(&report_of(&scenarios::failures())), @r"
    shop: 7 tests
    tests/test_billing.py: 3 tests, 1 failures, 1 errors, 0 skipped
      success test_vat [tests/test_billing.py]
      failure test_rounding[eur] [tests/test_billing.py]: AssertionError: assert 10.01 == 10.0
      error test_total [tests/test_billing.py]: KeyError: 'vat'
    tests/test odd 'name'.py: 1 tests, 1 failures, 0 errors, 0 skipped
      failure test_newline
    in its name [tests/test odd 'name'.py]: too much
    tests/test_cart.py: 1 tests, 0 failures, 0 errors, 0 skipped
      success test_add [tests/test_cart.py]
    tests/test_import.py: 2 tests, 0 failures, 0 errors, 1 skipped
      success test_big_file [tests/test_import.py]
      skipped test_small_file [tests/test_import.py]
    ");
    assert_snapshot!(outline(&report_of(&scenarios::many_ways())), @r"
    shop: 6 tests
    tests/test_new.py: 1 tests, 0 failures, 1 errors, 0 skipped
      error broken [tests/test_new.py]: ModuleNotFoundError: No module named 'stripe'
    tests/test_hang.py: 1 tests, 0 failures, 1 errors, 0 skipped
      error timed out [tests/test_hang.py]: no answer after the time limit of 60 s
    tests/test_native.py: 2 tests, 0 failures, 1 errors, 0 skipped
      success test_open [tests/test_native.py]
      error crashed [tests/test_native.py]: killed by signal 11 (segmentation fault)
    tests/test_server.py: 1 tests, 0 failures, 0 errors, 0 skipped
      success test_serve [tests/test_server.py]
    tests/caf�.py: 1 tests, 0 failures, 1 errors, 0 skipped
      error not run [tests/caf�.py]: its name is not valid UTF-8; rename or exclude it
    ");
    assert_snapshot!(outline(&report_of(&scenarios::all_pass()[..10])), @r"
    shop: 4 tests
    tests/test_import.py: 1 tests, 0 failures, 1 errors, 0 skipped
      error not run [tests/test_import.py]: the run was stopped
    tests/test_cart.py: 2 tests, 0 failures, 0 errors, 1 skipped
      success test_add [tests/test_cart.py]
      skipped test_remove [tests/test_cart.py]
    tests/test_user.py: 1 tests, 0 failures, 1 errors, 0 skipped
      error not run [tests/test_user.py]: the run was stopped
    ");
}

#[test]
fn details_places_and_times_are_there() {
    let report = report_of(&scenarios::failures());
    assert_eq!(report.timestamp.unwrap().to_rfc3339(), "2026-11-21T23:10:08+00:00");
    assert_eq!(report.time, Some(Duration::from_millis(99_200)));
    let suite = &report.test_suites[0];
    assert_eq!(suite.time, Some(Duration::from_millis(3_500)));
    assert_eq!(suite.extra.get("hostname").unwrap().as_str(), "h1");
    let case = &suite.test_cases[1];
    assert_eq!(case.time, Some(Duration::from_millis(20)));
    assert_eq!(case.extra.get("line").unwrap().as_str(), "42");
    let TestCaseStatus::NonSuccess { description, .. } = &case.status else { panic!("{case:?}") };
    assert_eq!(description.as_ref().unwrap().as_str(), scenarios::rounding().details.trim_start());
}

#[test]
fn only_the_deciding_attempt_counts() {
    let mut script = Script::new(&["h1"], &[("tests/test_a.py", None)]);
    let lost = script.start(0, 0, 1);
    script.quiet_test(lost, "test_one", TestStatus::Failed, 0.1);
    script.interrupt(lost, Interruption::HostLost, "gone");
    let duplicate = script.start(0, 0, 2);
    script.quiet_test(duplicate, "test_one", TestStatus::Failed, 0.1);
    let deciding = script.start(0, 0, 3);
    script.quiet_test(deciding, "test_one", TestStatus::Passed, 0.1).finish(deciding, Outcome::Passed);
    script.quiet_test(duplicate, "test_two", TestStatus::Failed, 0.1);
    let report = report_of(&script.end(0));
    assert_eq!((report.tests, report.failures, report.errors), (1, 0, 0));
}

#[test]
fn a_failed_file_is_never_green() {
    let mut script = Script::new(&["h1"], &[("check.sh", None)]);
    let attempt = script.start(0, 0, 1);
    script.finish_with(attempt, Outcome::Failed, "exit status 3", "", &[]);
    assert_snapshot!(outline(&report_of(&script.end(1))), @r"
    shop: 1 tests
    check.sh: 1 tests, 0 failures, 1 errors, 0 skipped
      error failed [check.sh]: exit status 3
    ");

    let verdict = Verdict::Ran(Outcome::Crashed);
    let mut script = Script::new(&["h1"], &[("check.sh", None)]);
    script.push(RunEvent::FileVerdict {
        file: FileId(0),
        verdict,
        attempt: Some(AttemptId(9)),
        failed_before: Vec::new(),
    });
    assert_snapshot!(outline(&report_of(&script.end(1))), @r"
    shop: 1 tests
    check.sh: 1 tests, 0 failures, 1 errors, 0 skipped
      error crashed [check.sh]: crashed
    ");
}

#[test]
fn text_that_xml_can_not_hold_is_made_harmless() {
    let nasty = "a\u{0}b\u{1b}[31mc\u{8}\td\u{fffe}\u{ffff}e <&>\"' ]]> é😀";
    let mut script = Script::new(&["h<1>"], &[("tests/\u{1}\"<a>&.py", None)]);
    let attempt = script.start(0, 0, 1);
    let named = TestResult {
        message: nasty.to_owned(),
        details: nasty.to_owned(),
        ..test(nasty, TestStatus::Failed, 0.1)
    };
    script.test(attempt, named).finish(attempt, Outcome::Failed);
    let report = report_of(&script.end(1));
    let clean = "abc    d\u{fffd}\u{fffd}e <&>\"' ]]> é😀";
    let suite = &report.test_suites[0];
    assert_eq!(suite.name.as_str(), "tests/\"<a>&.py");
    assert_eq!(suite.test_cases[0].name.as_str(), clean);
    let TestCaseStatus::NonSuccess { description, .. } = &suite.test_cases[0].status else {
        panic!("failed")
    };
    assert_eq!(description.as_ref().unwrap().as_str(), clean);
}

#[test]
fn every_status_has_its_element() {
    let mut script = Script::new(&["h1"], &[("a.py", None)]);
    let attempt = script.start(0, 0, 1);
    for status in TestStatus::ALL {
        script.quiet_test(attempt, status.word(), status, 0.0);
    }
    script.finish(attempt, Outcome::Failed);
    assert_snapshot!(outline(&report_of(&script.end(1))), @r"
    shop: 6 tests
    a.py: 6 tests, 1 failures, 1 errors, 2 skipped
      success passed [a.py]
      failure failed [a.py]
      error error [a.py]
      skipped skipped [a.py]
      skipped expected_failure [a.py]
      success unexpected_pass [a.py]
    ");
}

#[test]
fn an_interrupted_attempt_leaves_nothing() {
    let run: Run = scenarios::interrupted();
    assert!(run.iter().any(|(_, event)| matches!(
        event,
        RunEvent::AttemptFinished(report) if report.result == AttemptResult::Interrupted(Interruption::Cancelled)
    )));
    let report = report_of(&run);
    assert_eq!((report.tests, report.failures, report.errors), (30, 0, 29));
}

#[test]
fn a_report_replaces_the_last_one_and_others_can_read_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, link) = (scratch.path().join("real.xml"), scratch.path().join("junit.xml"));
    fs::write(&path, "old").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    write(&link, &scenarios::all_pass());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link is followed, not replaced");
    assert!(fs::read_to_string(&path).unwrap().contains("<testsuite "));
    assert_ne!(fs::metadata(&path).unwrap().permissions().mode() & 0o044, 0);
}

#[test]
fn a_device_is_written_not_replaced() {
    write(Path::new("/dev/null"), &scenarios::all_pass());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_directory_that_is_missing_is_an_error_before_the_run() {
    let error = JUnit::create(Path::new("/no/such/junit.xml"), SystemTime::UNIX_EPOCH).unwrap_err();
    assert_eq!(error.to_string(), "write the JUnit report /no/such/junit.xml");
    let error = JUnit::create(Path::new("/tmp"), SystemTime::UNIX_EPOCH).unwrap_err();
    assert!(
        matches!(error, ReportError::JUnit { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory)
    );
}

#[test]
fn a_file_that_was_not_run_has_the_tests_of_the_run_in_which_it_passed() {
    let report = report_of(&scenarios::cached());
    assert_snapshot!(outline(&report), @"
    shop: 4 tests
    tests/test_import.py: 2 tests, 0 failures, 0 errors, 1 skipped
      success test_csv [tests/test_import.py]
      skipped test_xml [tests/test_import.py]
    tests/test_cart.py: 1 tests, 0 failures, 0 errors, 0 skipped
      success test_add [tests/test_cart.py]
    tests/b.py: 1 tests, 0 failures, 0 errors, 0 skipped
      success test_sum [tests/b.py]
    ");
    let suite = &report.test_suites[0];
    let told: Vec<_> =
        suite.properties.iter().map(|property| (property.name.as_str(), property.value.as_str())).collect();
    assert_eq!(told, [("cached", "20261120-091500-77aa")]);
    assert_eq!(suite.time, Some(Duration::from_millis(500)));
}
