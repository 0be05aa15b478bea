//! Commands that write JUnit XML: PHPUnit and GoogleTest, beside what another reader finds in the same files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{FileReport, Project, Worker, assert_same, in_tests, text};

/// The worker's words for PHPUnit.
const PHPUNIT: [&str; 6] =
    ["junit", "{results}/**/*.xml", "phpunit", "--log-junit", "{results}/tests.xml", "{file}"];

fn ready(project: &Project, words: &[&str]) -> Worker {
    let mut worker = Worker::start(project, words, &[]);
    let ready = worker.next().unwrap_or_else(|| panic!("no message; {}", worker.stderr()));
    assert_eq!((&ready["type"], &ready["framework"]), (&"ready".into(), &"command".into()), "{ready}");
    worker
}

/// The test cases of a file of results as Python's own reader of XML finds them: status and text by name.
fn as_python_reads(path: &Path) -> BTreeMap<String, (String, String)> {
    let output = Command::new("python3").arg(in_tests("tools/junit.py")).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let cases = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    cases
        .map(|case| {
            let id = format!("{}::{}", text(&case, "class"), text(&case, "name"));
            (id, (text(&case, "status").to_owned(), text(&case, "text").trim_end().to_owned()))
        })
        .collect()
}

fn statuses_and_texts(report: &FileReport) -> BTreeMap<String, (String, String)> {
    let tests = report.tests.iter();
    tests
        .map(|test| {
            (text(test, "id").to_owned(), (text(test, "status").to_owned(), text(test, "details").to_owned()))
        })
        .collect()
}

#[test]
fn phpunit_has_the_outcomes_of_its_own_log() {
    let project = Project::copy_of("phpunit");
    let run = Command::new("phpunit")
        .args(["--log-junit", "own.xml", "tests/OutcomesTest.php"])
        .current_dir(project.path())
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&run.stdout).contains("Failures: 2, Skipped: 2, Incomplete: 1, Risky: 1")
    );
    let mut expected = as_python_reads(&project.path().join("own.xml"));
    // An error in the log, but not in the words that PHPUnit has for people.
    expected.get_mut("OutcomesTest::testIsRisky").unwrap().0 = "passed".to_owned();

    let mut worker = ready(&project, &PHPUNIT);
    let report = worker.run("tests/OutcomesTest.php");
    assert_eq!((report.outcome(), report.message()), ("failed", ""));
    assert_same(&statuses_and_texts(&report), &expected);
    let failure = report.test("OutcomesTest::testFails");
    assert_eq!((text(failure, "message"), text(failure, "file")), ("sums differ", "tests/OutcomesTest.php"));
    assert_eq!(failure["line"], 11);
    assert_eq!(text(report.test("OutcomesTest::testRaises"), "message"), "RuntimeException: not today");
    let adds = report.test("OutcomesTest::testAdds with data set \"named \"so\" & <so>\"");
    assert_eq!(text(adds, "message"), "Failed asserting that 4 is identical to 5.");
    assert!(worker.stdout().contains("PHPUnit 9"), "its own words are in the log");
    worker.quit();
}

#[test]
fn phpunit_files_that_do_not_get_to_their_end() {
    let project = Project::copy_of("phpunit");
    let mut worker = ready(&project, &PHPUNIT);
    assert_eq!(worker.run("tests/PassesTest.php").outcome(), "passed");
    let report = worker.run("tests/BrokenTest.php");
    assert_eq!((report.outcome(), report.tests.len()), ("failed", 0), "{}", report.message());
    assert_eq!(
        report.message(),
        "it left with exit status 255 and wrote no results matching {results}/**/*.xml"
    );
    let report = worker.run("tests/ExitsTest.php");
    assert_eq!((report.outcome(), report.message()), ("broken", "{results}/tests.xml:1: it is empty"));
    worker.quit();
}

#[test]
fn googletest_has_the_outcomes_of_its_own_results() {
    let project = Project::copy_of("googletest");
    for name in ["outcomes", "crashes"] {
        let built = Command::new("g++")
            .args(["-O0", "-o", name, &format!("{name}.cc"), "-lgtest", "-lgtest_main", "-pthread"])
            .current_dir(project.path())
            .status();
        assert!(built.unwrap().success());
    }
    let run =
        Command::new("./outcomes").arg("--gtest_output=xml:own.xml").current_dir(project.path()).output();
    run.unwrap();
    let mut expected = as_python_reads(&project.path().join("own.xml"));
    // What GoogleTest says with an attribute.
    expected.get_mut("Sums::DISABLED_IsDisabled").unwrap().0 = "skipped".to_owned();
    // The other reader looks at the first failure alone.
    let twice = expected.remove("Sums::FailTwice").unwrap();

    let words = ["junit", "{results}/*.xml", "{file}", "--gtest_output=xml:{results}/"];
    let mut worker = ready(&project, &words);
    let report = worker.run("outcomes");
    assert_eq!(report.outcome(), "failed");
    let mut actual = statuses_and_texts(&report);
    let both = actual.remove("Sums::FailTwice").unwrap();
    assert_same(&actual, &expected);
    assert!(
        both.0 == "failed" && both.1.starts_with(&twice.1) && both.1.contains("outcomes.cc:8"),
        "{both:?}"
    );
    let message = text(report.test("Sums::FailTwice"), "message");
    assert_eq!(message, "Expected equality of these values: 4; 1 + 2; Which is: 3");

    let report = worker.run("crashes");
    assert_eq!((report.outcome(), report.message()), ("crashed", "killed by signal 6 (SIGABRT)"));
    worker.quit();
}

/// A command that writes a passing and a failing test to the file its argument names, and leaves with its second.
const WRITES: &str = "#!/bin/sh
cat > \"$1\" <<XML
<testsuite name='s'><testcase classname='c' name='passes'/><testcase classname='c' name='fails'><failure message='no'/></testcase></testsuite>
XML
exit \"$2\"
";

#[test]
fn results_count_that_are_new_or_changed() {
    let project = Project::empty();
    project.write_program("writes", WRITES);
    project.write("build/old.xml", "<testsuite><testcase name='old'><failure/></testcase></testsuite>");
    project.write("one", "");
    let temporary = tempfile::tempdir().unwrap();
    let words = ["junit", "build/**/*.xml", "./writes", "build/new.xml", "1"];
    let mut worker = Worker::start(&project, &words, &[("TMPDIR", temporary.path().to_str().unwrap())]);
    worker.next();
    for _ in 0..2 {
        let report = worker.run("one");
        assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), ["c::fails", "c::passes"]);
    }
    worker.quit();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "directories of attempts go with them");
}

#[test]
fn exit_statuses_and_results_that_contradict_each_other() {
    let project = Project::empty();
    project.write_program("writes", WRITES);
    let passes = "#!/bin/sh\nmkdir \"$DISTRIBUTEST_RESULTS/deep\"\n\
                  echo \"<testsuite><testcase name='a'/><testcase name='a'/></testsuite>\" > \"$DISTRIBUTEST_RESULTS/deep/a.xml\"\nexit 3\n";
    project.write_program("passes", passes);
    project.write_program("silent", "#!/bin/sh\nexit 0\n");
    project.write_program(
        "garbage",
        "#!/bin/sh\nprintf '<testsuite>\\n<testcase name=\"a\"/>\\n<oops' > \"$1/a.xml\"\n",
    );
    project.write_program("none", "#!/bin/sh\necho '<testsuites/>' > \"$1/a.xml\"\n");
    let mut worker = ready(&project, &["junit", "{results}/**/*.xml", "./{file}", "{results}/a.xml", "0"]);
    let report = worker.run("writes");
    assert_eq!((report.outcome(), report.tests.len()), ("failed", 2));
    let report = worker.run("passes");
    assert_eq!((report.outcome(), report.message()), ("failed", "exit status 3, although no test failed"));
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), ["a", "a (2)"]);
    let report = worker.run("silent");
    assert_eq!(
        (report.outcome(), report.message()),
        ("failed", "wrote no results matching {results}/**/*.xml")
    );
    let report = worker.run("not_there");
    assert_eq!(report.outcome(), "broken");
    worker.quit();

    let mut worker = ready(&project, &["junit", "{results}/**/*.xml", "./{file}", "{results}"]);
    let report = worker.run("garbage");
    assert_eq!((report.outcome(), report.tests.len()), ("broken", 1), "what was read is kept");
    assert!(report.message().starts_with("{results}/a.xml:3: "), "{}", report.message());
    let report = worker.run("none");
    assert_eq!((report.outcome(), report.message()), ("passed", "no tests"));
    worker.quit();
}

#[test]
fn failures_that_no_test_has_fail_the_file() {
    let project = Project::empty();
    project.write_program("writes", "#!/bin/sh\ncp \"$1\" \"$2/a.xml\"\n");
    let mut worker = ready(&project, &["junit", "{results}/*.xml", "./writes", "{file}", "{results}"]);
    let case = "<testcase classname='c' name='a'/>";
    for (document, id, status, message) in [
        (
            format!("<testsuite name='s' failures='2'>{case}</testsuite>"),
            "s",
            "error",
            "the report counts 2 failures and names 0",
        ),
        (
            format!(
                "<testsuites><error message='root bad'/><testsuite name='s'>{case}</testsuite></testsuites>"
            ),
            "testsuites",
            "error",
            "root bad",
        ),
        (format!("<testsuite><testcase name='o'>{case}<failure/></testcase></testsuite>"), "o", "failed", ""),
        (format!("<testsuite>{case}<testcase name='b' status='failed'/></testsuite>"), "b", "failed", ""),
    ] {
        project.write("report", &document);
        let report = worker.run("report");
        assert_eq!(report.outcome(), "failed", "{document}");
        assert_eq!(text(report.test("c::a"), "status"), "passed", "{document}");
        let test = report.test(id);
        assert_eq!((text(test, "status"), text(test, "message")), (status, message), "{document}");
    }
    worker.quit();
}

#[test]
fn single_tests_are_reported_alone() {
    let project = Project::empty();
    project.write_program("writes", WRITES);
    let mut worker = ready(&project, &["junit", "{results}/*.xml", "./{file}", "{results}/a.xml", "1"]);
    let report = worker.run_tests("writes", &["c::passes"]);
    assert_eq!((report.outcome(), report.tests.len()), ("passed", 1));
    let report = worker.run_tests("writes", &["c::fails", "c::gone"]);
    assert_eq!((report.outcome(), report.tests.len()), ("failed", 1));
    assert_eq!(report.message(), "there is no test \"c::gone\" in its results");
    worker.quit();
}

#[test]
fn huge_results_take_little_memory() {
    let project = Project::empty();
    let script = "#!/bin/sh\n{ echo '<testsuite><testcase name=\"a\"><failure>'; head -c 80000000 /dev/zero | tr '\\0' 'x'
        echo '</failure><system-out><![CDATA['; head -c 40000000 /dev/zero | tr '\\0' 'y'
        echo ']]></system-out></testcase></testsuite>'; } > \"$1/a.xml\"\n";
    project.write_program("huge", script);
    let mut worker = ready(&project, &["junit", "{results}/*.xml", "./{file}", "{results}"]);
    let report = worker.run("huge");
    assert_eq!((report.outcome(), report.message(), report.tests.len()), ("failed", "", 1));
    assert!(text(&report.tests[0], "details").len() < 1_100_000);
    let status = fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 40 * 1024, "{peak}");
    worker.quit();
}

#[test]
fn what_can_not_be_run_is_said_before_the_first_file() {
    let project = Project::empty();
    let unable = Worker::unable(&project, &["junit", "*.xml", "no-such-program", "{file}"], &[]);
    assert_eq!(text(&unable, "message"), "no-such-program is not there: looked in PATH");
    let unable = Worker::unable(&project, &["junit", "a/{b", "sh", "{file}"], &[]);
    assert!(text(&unable, "message").contains("\"a/{b\" is no glob"), "{unable}");
    let unable = Worker::unable(&project, &["junit", "*.xml"], &[]);
    assert_eq!(text(&unable, "message"), "there is no command to run");
}
