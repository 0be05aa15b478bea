//! The pytest worker against a real pytest.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{
    FileReport, Project, Start, Worker, ask_for_stacks, assert_same, wait_for_end_of, wait_for_text,
};
use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

/// Files that end or break the whole of a plain pytest run, or notice that it is one process.
const MISBEHAVING: [&str; 11] = [
    "tests/test_exit_while_loading.py",
    "tests/test_hangs.py",
    "tests/test_import_error.py",
    "tests/test_interrupt.py",
    "tests/test_isolation_1.py",
    "tests/test_isolation_2.py",
    "tests/test_os_exit.py",
    "tests/test_pytest_exit.py",
    "tests/test_segfault.py",
    "tests/test_session.py",
    "tests/test_syntax_error.py",
];

fn python() -> PathBuf {
    let has_pytest = |program: &str| {
        Command::new(program)
            .args(["-c", "import pytest"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    for program in ["python3", "/usr/bin/python3"] {
        if has_pytest(program) {
            return PathBuf::from(program);
        }
    }
    panic!("these tests need pytest for python3 or /usr/bin/python3: apt-get install python3-pytest");
}

pub(crate) fn start(isolation: Isolation) -> Start<'static> {
    Start {
        framework: Framework::named("pytest").unwrap(),
        program: python(),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

fn forking(project: &Project) -> Worker {
    start(Isolation::Fork).ready_worker(project)
}

/// Status, file and line by test id, from a plain run of pytest in the project.
fn reference(project: &Project, arguments: &[&str]) -> BTreeMap<String, (String, String, Option<u64>)> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let reports = project.directory.path().join("reference-reports");
    let output = Command::new(python())
        .args(["-c", "import sys, pytest; sys.path.pop(0); sys.argv[0] = 'pytest'; sys.exit(pytest.main())"])
        .args(["-p", "pytest_reference"])
        .args(arguments)
        .args(MISBEHAVING.iter().map(|file| format!("--ignore={file}")))
        .current_dir(project.path())
        .env("PYTHONPATH", fixtures)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("REFERENCE_REPORTS", &reports)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let mut tests: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in std::fs::read_to_string(&reports).unwrap().lines() {
        let report: Value = serde_json::from_str(line).unwrap();
        tests.entry(report["id"].as_str().unwrap().to_owned()).or_default().push(report);
    }
    tests.into_iter().map(|(id, reports)| (id, status_and_place(&reports))).collect()
}

fn status_and_place(reports: &[Value]) -> (String, String, Option<u64>) {
    let any = |check: &dyn Fn(&Value) -> bool| reports.iter().any(check);
    let status = if any(&|report| report["outcome"] == "failed" && report["when"] == "call") {
        "failed"
    } else if any(&|report| report["outcome"] == "failed") {
        "error"
    } else if any(&|report| report["xfail"] == true && report["outcome"] == "skipped") {
        "expected_failure"
    } else if any(&|report| report["xfail"] == true) {
        "unexpected_pass"
    } else if any(&|report| report["outcome"] == "skipped") {
        "skipped"
    } else {
        "passed"
    };
    let place = &reports[0];
    (
        status.to_owned(),
        place["file"].as_str().unwrap().to_owned(),
        place["line"].as_u64().map(|line| line + 1),
    )
}

fn reported(report: &FileReport) -> BTreeMap<String, (String, String, Option<u64>)> {
    let places = report.tests.iter().map(|test| {
        let file = test["file"].as_str().unwrap().to_owned();
        (test["id"].as_str().unwrap().to_owned(), (file, test["line"].as_u64()))
    });
    let places: BTreeMap<_, _> = places.collect();
    let with_place = |(id, status): (String, String)| {
        let (file, line) = places[&id].clone();
        (id, (status, file, line))
    };
    report.statuses().into_iter().map(with_place).collect()
}

fn behaving_files(project: &Project) -> impl Iterator<Item = String> {
    let selection = Selection::of(Framework::named("pytest").unwrap());
    let files = discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path);
    files.filter(|file| !MISBEHAVING.contains(&file.as_str()))
}

#[test]
fn reports_the_same_tests_with_the_same_status_as_pytest() {
    let project = Project::copy_of("pytest");
    let expected = reference(&project, &[]);
    assert!(expected.len() > 60, "the fixture has many tests: {}", expected.len());
    let mut worker = forking(&project);
    let mut actual = BTreeMap::new();
    for file in behaving_files(&project) {
        let report = worker.run(&file);
        let tests = reported(&report);
        let failed = tests.values().any(|(status, ..)| status == "failed" || status == "error");
        assert_eq!(report.outcome(), if failed { "failed" } else { "passed" }, "{file}");
        actual.extend(tests);
    }
    assert_same(&actual, &expected);
    worker.quit();
}

#[test]
fn shared_and_process_isolation_report_the_same() {
    let project = Project::copy_of("pytest");
    let expected = reference(&project, &[]);
    let mut shared = start(Isolation::Shared).ready_worker(&project);
    let mut from_shared = BTreeMap::new();
    for file in behaving_files(&project) {
        from_shared.extend(reported(&shared.run(&file)));
    }
    assert_same(&from_shared, &expected);
    shared.quit();
    for file in ["tests/test_outcomes.py", "tests/test_classes.py", "tests/sub/inner/test_depth.py"] {
        let mut process = start(Isolation::Process).ready_worker(&project);
        let of_file = |(id, _): &(&String, _)| id.starts_with(&format!("{file}::"));
        let expected = expected.iter().filter(of_file).map(|(id, test)| (id.clone(), test.clone()));
        assert_same(&reported(&process.run(file)), &expected.collect());
        process.quit();
    }
}

#[test]
fn only_the_tests_asked_for_are_run_and_unknown_ones_are_named() {
    let project = Project::copy_of("pytest");
    let files = ["tests/test_outcomes.py", "tests/test_document.txt", "tests/test_parametrized.py"];
    project.write(
        "tests/test_named.py",
        "import pytest\n\nclass TestA:\n    def test_m(self): pass\n    class TestInner:\n        def test_n(self): pass\n\n\
         class TestAB:\n    def test_m(self): pass\n\n\
         @pytest.mark.parametrize('x', [1, 2], ids=['1', '1][2'])\ndef test_p(x): pass\n\ndef test_pp(): pass\n",
    );
    // In one process, pytest escapes what it made of `ids=` a second time when it collects a file again.
    for (isolation, files) in [(Isolation::Fork, &files[..]), (Isolation::Shared, &files[..2])] {
        let mut worker = start(isolation).ready_worker(&project);
        for file in files {
            let all = worker.run(file).statuses();
            for (id, status) in &all {
                let one = worker.run_tests(file, &[id]);
                assert_eq!(one.statuses(), BTreeMap::from([(id.clone(), status.clone())]));
                let failed = status == "failed" || status == "error";
                assert_eq!(one.outcome(), if failed { "failed" } else { "passed" }, "{id}");
            }
        }
        let unknown = worker.run_tests(
            "tests/test_outcomes.py",
            &["tests/test_outcomes.py::test_passes", "tests/test_outcomes.py::test_gone"],
        );
        assert_eq!(unknown.statuses().into_values().collect::<Vec<_>>(), ["passed"]);
        assert_eq!(unknown.outcome(), "failed");
        assert_eq!(unknown.message(), "pytest finds no such test: tests/test_outcomes.py::test_gone");
        let file = "tests/test_named.py";
        for (id, found) in [
            ("tests/test_named.py::TestA", &["TestA::test_m", "TestA::TestInner::test_n"][..]),
            ("tests/test_named.py::TestA::TestInner", &["TestA::TestInner::test_n"]),
            ("tests/test_named.py::test_p", &["test_p[1]", "test_p[1][2]"]),
            ("tests/test_named.py::test_p[1]", &["test_p[1]"]),
        ] {
            let report = worker.run_tests(file, &[id]);
            let expected: Vec<String> = found.iter().map(|name| format!("{file}::{name}")).collect();
            assert_eq!(
                report.tests.iter().map(|test| test["id"].as_str().unwrap()).collect::<Vec<_>>(),
                expected
            );
            assert_eq!(report.outcome(), "passed", "{id}: {}", report.message());
        }
        let skipped = worker.run_tests("tests/test_module_skip.py", &["tests/test_module_skip.py::test_any"]);
        assert_eq!(skipped.outcome(), "passed");
        worker.quit();
    }
}

#[test]
fn a_file_that_does_not_load_is_broken_and_says_why() {
    let project = Project::copy_of("pytest");
    let mut worker = forking(&project);
    for (file, message) in [
        ("tests/test_syntax_error.py", "SyntaxError: invalid syntax"),
        ("tests/test_import_error.py", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("tests/test_exit_while_loading.py", "SystemExit: this module is a script"),
        ("tests/test_pytest_exit.py", "Exit: enough in tests/test_pytest_exit.py::test_calls_pytest_exit"),
        ("tests/test_interrupt.py", "KeyboardInterrupt: stop in tests/test_interrupt.py::test_raises"),
        ("tests/no_such_file.py", "file or directory not found: tests/no_such_file.py"),
    ] {
        let report = worker.run(file);
        assert_eq!(report.outcome(), "broken", "{file}");
        assert!(report.message().contains(message), "{file}: {}", report.message());
        assert!(!report.finished["details"].as_str().unwrap().is_empty(), "{file}");
    }
    worker.quit();
}

#[test]
fn a_file_without_tests_says_so() {
    let project = Project::copy_of("pytest");
    let mut worker = forking(&project);
    let empty = worker.run("tests/test_empty.py");
    assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
    let ignored = worker.run("tests/test_ignored.py");
    assert_eq!(ignored.outcome(), "passed");
    assert!(ignored.message().contains("ignores this file"), "{}", ignored.message());
    let skipped = worker.run("tests/test_module_skip.py");
    assert_eq!(skipped.test("tests/test_module_skip.py")["message"], "not on this platform");
    worker.quit();
}

#[test]
fn a_test_that_ends_its_process_is_named_and_its_last_words_are_kept() {
    let project = Project::copy_of("pytest");
    for isolation in Isolation::ALL {
        for (file, test, how, words) in [
            ("tests/test_os_exit.py", "test_leaves", "left with exit status 0", "last words\n"),
            (
                "tests/test_segfault.py",
                "test_crashes",
                "signal 11 (SIGSEGV)",
                "written by the crashing test\n",
            ),
        ] {
            let mut worker = start(isolation).ready_worker(&project);
            let report = worker.run(file);
            let id = format!("{file}::{test}");
            assert_eq!(report.outcome(), "crashed");
            assert!(report.message().contains(how) && report.message().contains(&id), "{}", report.message());
            assert_eq!(report.statuses()[&format!("{file}::test_before")], "passed");
            assert_eq!(report.test(&id)["status"], "error");
            assert!(worker.output().contains(words), "{isolation:?}: {}", worker.output());
            if isolation == Isolation::Fork {
                assert_eq!(worker.run("tests/test_empty.py").outcome(), "passed");
            }
        }
    }
}

#[test]
fn an_exit_handler_that_changes_the_exit_status_fails_the_file() {
    let project = Project::empty();
    let test = |handler: &str| format!("import atexit, os, sys\n{handler}\ndef test_passes():\n    pass\n");
    project.write("test_leaves.py", &test("atexit.register(os._exit, 7)"));
    project.write("test_dies.py", &test("atexit.register(os.abort)"));
    project.write("test_raises.py", &test("atexit.register(sys.exit, 7)"));
    let mut worker = forking(&project);
    for (file, how) in
        [("test_leaves.py", "left with exit status 7"), ("test_dies.py", "died of signal 6 (SIGABRT)")]
    {
        let report = worker.run(file);
        let message = format!("no test failed, but the process running this file {how}");
        assert_eq!((report.outcome(), report.message()), ("failed", message.as_str()), "{file}");
        assert_eq!(report.tests.len(), 1, "{file}");
    }
    // Python pays no attention to what exit handlers raise, and plain pytest passes.
    assert_eq!(worker.run("test_raises.py").outcome(), "passed");
    worker.quit();
}

#[test]
fn every_byte_a_test_writes_comes_out_and_failures_carry_theirs() {
    let project = Project::copy_of("pytest");
    let mut worker = forking(&project);
    let report = worker.run("tests/test_output.py");
    let failing = report.test("tests/test_output.py::test_prints_and_fails");
    assert!(failing["details"].as_str().unwrap().contains("printed by the failing test"));
    assert_eq!(report.tests.len(), 6);
    let raw = worker.raw_output();
    assert_eq!(raw.iter().filter(|byte| **byte == b'x').count(), 40 * 64 * 1024);
    for expected in
        [&b"print\n"[..], b"stderr\n", b"raw \xff\xfe bytes\n", b"subprocess\n", b"through fileno\n"]
    {
        assert!(raw.windows(expected.len()).any(|window| window == expected), "{expected:?}");
    }
    let huge = worker.run("tests/test_huge_failure.py");
    let details = huge.tests[0]["details"].as_str().unwrap();
    assert!(details.len() < 1_100_000 && details.contains("characters left out"), "{}", details.len());
    assert!(huge.tests[0]["message"].as_str().unwrap().chars().count() <= 1001);
    worker.quit();
}

#[test]
fn files_do_not_see_each_other_and_exit_handlers_run_where_they_belong() {
    let project = Project::copy_of("pytest");
    let mut worker = forking(&project);
    for file in [
        "tests/test_isolation_1.py",
        "tests/test_isolation_2.py",
        "tests/test_at_exit.py",
        "tests/test_session.py",
    ] {
        assert_eq!(worker.run(file).outcome(), "passed", "{file}");
    }
    let output = worker.quit();
    let after = |word: &str| -> Vec<String> {
        output.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect()
    };
    let numbers = after("random ");
    assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{output}");
    let directory = &after("directory ")[0];
    assert!(!std::path::Path::new(directory).exists(), "{directory} stayed behind");
    assert_eq!(after("exit handler of the "), ["test file", "conftest in its own process"], "{output}");
}

#[test]
fn a_forked_child_that_returns_from_its_test_ends_there() {
    let project = Project::empty();
    project.write(
        "conftest.py",
        "def pytest_sessionfinish():\n    with open('sessions', 'a') as file:\n        file.write('finished\\n')\n",
    );
    project.write(
        "test_forks.py",
        "import os\n\ndef test_forks():\n    child = os.fork()\n    if child == 0:\n        return\n    \
         print('printed by the parent')\n    with open('child', 'w') as file:\n        file.write(f'{child}\\n')\n\n\
         def test_next():\n    with open('next', 'a') as file:\n        file.write('ran\\n')\n",
    );
    project.write("test_other.py", "def test_other():\n    pass\n");
    for isolation in Isolation::ALL {
        for file in ["child", "next", "sessions"] {
            project.write(file, "");
        }
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run("test_forks.py");
        assert_eq!((report.outcome(), report.tests.len()), ("passed", 2), "{isolation:?}");
        wait_for_end_of(wait_for_text(&project.path().join("child")).trim().parse().unwrap());
        if isolation != Isolation::Process {
            assert_eq!(worker.run("test_other.py").tests.len(), 1, "{isolation:?}");
        }
        let output = worker.quit();
        assert!(output.contains("printed by the parent"), "{isolation:?}: {output}");
        let lines = |file: &str| wait_for_text(&project.path().join(file)).lines().count();
        let sessions = if isolation == Isolation::Fork { 2 } else { 1 };
        assert_eq!((lines("next"), lines("sessions")), (1, sessions), "{isolation:?}");
    }
}

#[test]
fn what_a_conftest_opens_in_one_hook_is_there_until_it_closes_it_in_another() {
    let test = "import os\ndef test_resource(request):\n    assert os.path.isdir(request.config.resource)\n";
    for (opens, closes) in [
        ("pytest_configure(config)", "pytest_unconfigure(config)"),
        ("pytest_configure(config)", "pytest_sessionfinish(session)"),
        ("pytest_sessionstart(session)", "pytest_sessionfinish(session)"),
    ] {
        let project = Project::empty();
        let config = |hook: &str| if hook.ends_with("(session)") { "session.config" } else { "config" };
        let (opened, closed) = (config(opens), config(closes));
        project.write(
            "conftest.py",
            &format!(
                "import os, shutil, tempfile\n\
                 def {opens}:\n    {opened}.resource, {opened}.pid = tempfile.mkdtemp(), os.getpid()\n\
                 def {closes}:\n    shutil.rmtree({closed}.resource)\n    print('same process', {closed}.pid == os.getpid())\n"
            ),
        );
        project.write("test_one.py", test);
        project.write("test_two.py", test);
        let mut worker = forking(&project);
        assert_eq!(worker.run("test_one.py").outcome(), "passed", "{opens} {closes}");
        assert_eq!(worker.run("test_two.py").outcome(), "passed", "{opens} {closes}");
        assert_eq!(worker.quit().matches("same process True").count(), 2, "{opens} {closes}");
    }
}

#[test]
fn the_worker_ends_what_runs_when_the_agent_is_gone_or_it_is_told_to() {
    for (isolation, may_stay, abandon) in [
        (Isolation::Fork, false, true),
        (Isolation::Fork, false, false),
        (Isolation::Shared, false, true),
        (Isolation::Shared, true, true),
        (Isolation::Shared, true, false),
        (Isolation::Process, false, false),
    ] {
        let project = Project::copy_of("pytest");
        let mut worker = Start { may_stay, ..start(isolation) }.ready_worker(&project);
        worker.send_run("tests/test_hangs.py");
        let pid: u32 = wait_for_text(&project.path().join("hanging.txt")).trim().parse().unwrap();
        ask_for_stacks(pid, "-16");
        if abandon {
            worker.abandon();
        } else {
            let kill = Command::new("kill").args(["-TERM", &worker.pid().to_string()]).status().unwrap();
            assert!(kill.success());
        }
        assert!(!worker.wait().success());
        wait_for_end_of(pid);
        assert!(worker.output().contains("written before the hang"), "{isolation:?}: {}", worker.output());
        assert!(worker.output().contains(" in test_hangs\n"), "{isolation:?}: {}", worker.output());
    }
}

#[test]
fn coverage_of_all_files_and_runners_is_one_file() {
    let project = Project::empty();
    project.write(
        "library.py",
        "def one():\n    return 1\n\n\ndef two():\n    return 2\n\n\ndef three():\n    return 3\n",
    );
    project.write(
        "pytest.ini",
        "[pytest]\naddopts = --cov=library --cov-report=xml --cov-report=term --cov-fail-under=100 -n auto\n",
    );
    project.write("conftest.py", "import library\n");
    project.write("test_nothing.py", "def test_nothing():\n    pass\n");
    for word in ["one", "two"] {
        let text = format!("import library\n\ndef test_{word}():\n    assert library.{word}()\n");
        project.write(&format!("test_{word}.py"), &text);
    }
    for (isolation, files) in [
        (Isolation::Fork, &["test_one.py", "test_two.py"][..]),
        (Isolation::Shared, &["test_one.py", "test_two.py"]),
        (Isolation::Fork, &["test_two.py", "test_one.py"]),
    ] {
        // What an earlier run left is not added to.
        project.write(".coverage", "of another run");
        let mut first = start(isolation).ready_worker(&project);
        let mut second = start(isolation).worker_beside(&first, &project);
        assert_eq!(second.next().unwrap()["type"], "ready");
        for (worker, file) in [(&mut first, files[0]), (&mut second, files[1])] {
            let report = worker.run(file);
            assert_eq!((report.outcome(), report.message()), ("passed", ""), "{file}");
        }
        // A worker adds up its files.
        assert_eq!(first.run("test_nothing.py").outcome(), "passed");
        assert!(!second.quit().contains("Cover"), "a report of half a run");
        assert!(!project.path().join("coverage.xml").exists(), "a report of half a run");
        assert_eq!(first.quit().matches("library.py ").count(), 1);
        let covered = std::fs::read_to_string(project.path().join("coverage.xml")).unwrap();
        assert!(covered.contains("line-rate=\"0.8333\""), "{isolation:?}: {covered}");
        std::fs::remove_file(project.path().join("coverage.xml")).unwrap();
        let report = Command::new(python())
            .args(["-m", "coverage", "report", "--show-missing"])
            .current_dir(project.path())
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(report.contains("83%   10"), "{isolation:?}: {report}");
        let left: Vec<_> = std::fs::read_dir(project.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(".coverage"))
            .collect();
        assert_eq!(left, [".coverage"]);
    }
}

#[test]
fn coverage_started_with_the_interpreter_is_saved_by_every_process() {
    let project = Project::empty();
    project.write("library.py", "def one():\n    return 1\n");
    project.write("test_one.py", "import library\n\ndef test_one():\n    assert library.one()\n");
    project.write("measured/sitecustomize.py", "import coverage\ncoverage.process_startup()\n");
    project.write("coverage.ini", "[run]\nparallel = true\ninclude = library.py\n");
    let directory = project.path().display();
    let variables = [
        format!("PYTHONPATH={directory}/measured"),
        format!("COVERAGE_PROCESS_START={directory}/coverage.ini"),
    ];
    let python = python().display().to_string();
    let program_arguments: Vec<&str> =
        variables.iter().map(String::as_str).chain([python.as_str()]).collect();
    let measuring = Start {
        program: PathBuf::from("env"),
        program_arguments: &program_arguments,
        ..start(Isolation::Fork)
    };
    let mut worker = measuring.ready_worker(&project);
    assert_eq!(worker.run("test_one.py").outcome(), "passed");
    worker.quit();
    let coverage = |arguments: &[&str]| {
        let output = Command::new(&python)
            .args(["-m", "coverage"])
            .args(arguments)
            .current_dir(project.path())
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    coverage(&["combine"]);
    let report = coverage(&["report"]);
    assert!(report.contains("100%"), "{report}");
}

#[test]
fn options_reach_pytest_and_those_for_a_whole_run_are_left_out() {
    let project = Project::copy_of("pytest");
    project.write(
        "pytest.ini",
        "[pytest]\naddopts = --junitxml=report.xml -k passes\nmarkers =\n    slow: slow\n",
    );
    let arguments =
        Start { arguments: &["--deselect", "tests/test_classes.py::UnitTest"], ..start(Isolation::Fork) };
    let mut worker = arguments.ready_worker(&project);
    let report = worker.run("tests/test_outcomes.py");
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), ["tests/test_outcomes.py::test_passes"]);
    let deselected = worker.run("tests/test_classes.py");
    assert_eq!(deselected.outcome(), "passed");
    assert!(deselected.message().contains("deselected"), "{}", deselected.message());
    worker.quit();
    assert!(!project.path().join("report.xml").exists());
}

#[test]
fn says_why_it_cannot_work() {
    let project = Project::empty();
    let without_pytest = Start { program_arguments: &["-S"], ..start(Isolation::Fork) };
    let unable = without_pytest.worker(&project).next().unwrap();
    assert_eq!(unable["type"], "unable");
    assert!(unable["message"].as_str().unwrap().starts_with("pytest is not installed for /"), "{unable}");
    assert!(unable["hint"].as_str().unwrap().contains("pip install pytest"), "{unable}");

    project.write("conftest.py", "import no_such_module\n");
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start(isolation).worker(&project);
        let unable = worker.next().unwrap();
        assert!(unable["message"].as_str().unwrap().contains("No module named 'no_such_module'"), "{unable}");
        assert_eq!(worker.next(), None);
        assert!(worker.output().contains("conftest.py"), "{}", worker.output());
    }

    project.write("conftest.py", "");
    let bad_option = Start { arguments: &["--no-such-option"], ..start(Isolation::Fork) };
    let unable = bad_option.worker(&project).next().unwrap();
    assert!(
        unable["message"].as_str().unwrap().contains("unrecognized arguments: --no-such-option"),
        "{unable}"
    );
    let path = Start { arguments: &["-k", "one", "-q", "test_a.py"], ..start(Isolation::Fork) };
    let unable = path.worker(&project).next().unwrap();
    assert_eq!(unable["message"], "pytest does not run test_a.py because it stands behind --");
}
