//! The ExUnit worker against a real ExUnit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use distributest_frameworks::{Framework, Isolation, Selection, discover};

use crate::support::{
    FileReport, Project, Start, Worker, ask_for_stacks, assert_same, wait_for_end_of, wait_for_text,
};

/// Files that end or break the whole of a plain `mix test`, or notice that files run one by one.
const MISBEHAVING: [&str; 10] = [
    "test/closes_ports_test.exs",
    "test/compile_error_test.exs",
    "test/halts_test.exs",
    "test/halts_while_loading_test.exs",
    "test/hangs_test.exs",
    "test/isolation_2_test.exs",
    "test/killed_test.exs",
    "test/raises_while_loading_test.exs",
    "test/syntax_error_test.exs",
    "test/unprintable_test.exs",
];

const NAMES: &str = "test/sub/names_test.exs";

fn start(isolation: Isolation) -> Start<'static> {
    let has_mix = Command::new("mix").arg("--version").output();
    assert!(
        has_mix.is_ok_and(|output| output.status.success()),
        "these tests need Elixir: apt-get install elixir"
    );
    Start {
        framework: Framework::named("exunit").unwrap(),
        program: PathBuf::from("sh"),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

fn shared(project: &Project) -> Worker {
    start(Isolation::Shared).ready_worker(project)
}

fn with_arguments<'a>(project: &Project, arguments: &'a [&'a str]) -> Worker {
    Start { arguments, ..start(Isolation::Shared) }.ready_worker(project)
}

fn unable(project: &Project, arguments: &[&str]) -> (String, String) {
    let mut worker = Start { arguments, ..start(Isolation::Shared) }.worker(project);
    let unable = worker.next().unwrap_or_else(|| panic!("no message; output: {}", worker.output()));
    assert_eq!(unable["type"], "unable", "{unable}; output: {}", worker.output());
    assert_eq!(worker.next(), None);
    (unable["message"].as_str().unwrap().to_owned(), unable["hint"].as_str().unwrap().to_owned())
}

/// What ExUnit says of a test: status, file, line, reason of a skip.
type Told = (String, String, u64, String);

/// What `mix test` tells a formatter of the files' tests, and what it prints itself.
fn reference(project: &Project, files: &[&str]) -> (BTreeMap<String, Told>, String) {
    let notes = project.path().join("reference");
    let formatter = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/exunit_reference.exs");
    let output = Command::new("elixir")
        .arg("-r")
        .arg(formatter)
        .args(["-S", "mix", "test", "--no-color", "--formatter", "ExUnitReference"])
        .args(["--formatter", "ExUnit.CLIFormatter"])
        .args(files)
        .current_dir(project.path())
        .env("EXUNIT_REFERENCE", &notes)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let notes = std::fs::read_to_string(notes).unwrap_or_else(|error| panic!("{error}: {output}"));
    let tests = notes.split_terminator('\x1e').map(|test| {
        let fields: Vec<&str> = test.split('\x1f').collect();
        let text = |index: usize| fields[index].to_owned();
        (text(0), (text(1), text(2), fields[3].parse().unwrap(), text(4)))
    });
    (tests.collect(), output)
}

fn reported(report: &FileReport) -> BTreeMap<String, Told> {
    report.statuses();
    let tests = report.tests.iter().map(|test| {
        let text = |key: &str| test[key].as_str().unwrap().to_owned();
        let reason = if test["status"] == "skipped" { text("message") } else { String::new() };
        (text("id"), (text("status"), text("file"), test["line"].as_u64().unwrap(), reason))
    });
    tests.collect()
}

#[test]
fn reports_the_same_tests_with_the_same_status_and_account_as_exunit() {
    let project = Project::copy_of("exunit");
    let selection = Selection::of(Framework::named("exunit").unwrap());
    let discovered = discover(project.path(), &selection).unwrap();
    let files: Vec<&str> = discovered.files.iter().map(|file| file.path.as_str()).collect();
    let files: Vec<&str> = files.into_iter().filter(|file| !MISBEHAVING.contains(file)).collect();
    let (mut expected, output) = reference(&project, &files);
    assert!(expected.len() > 30, "the fixture has many tests: {}", expected.len());
    // Tests that are not selected are not reported, and those without their set-up are errors.
    expected.retain(|_, test| test.0 != "excluded");
    for test in expected.values_mut().filter(|test| test.0 == "invalid") {
        test.0 = "error".to_owned();
    }
    let mut worker = shared(&project);
    let mut actual = BTreeMap::new();
    for file in files {
        let report = worker.run(file);
        let tests = reported(&report);
        let failed = tests.values().any(|test| test.0 == "failed" || test.0 == "error");
        let fails_outside = file == "test/setup_all_exit_test.exs";
        assert_eq!(report.outcome(), if failed || fails_outside { "failed" } else { "passed" }, "{file}");
        for test in report.tests.iter().filter(|test| test["status"] == "failed") {
            // The account without its number; a process has another name.
            let account = test["details"].as_str().unwrap().split_once(") ").unwrap().1;
            let comparable = account.split("     stacktrace:").next().unwrap().split("#PID").next().unwrap();
            assert!(output.contains(comparable), "{account}\n\n{output}");
        }
        actual.extend(tests);
    }
    assert_same(&actual, &expected);
    worker.quit();
}

#[test]
fn says_what_went_wrong_in_a_line() {
    let project = Project::copy_of("exunit");
    let mut worker = shared(&project);
    let report = worker.run("test/outcomes_test.exs");
    let message = |name: &str| report.test(&format!("{name} (Fixture.OutcomesTest)"))["message"].clone();
    assert_eq!(
        message("test fails"),
        "Assertion with == failed code: assert Fixture.add(1, 1) == 3 left: 2 right: 3"
    );
    assert_eq!(message("test raises"), "** (ArgumentError) several lines");
    assert_eq!(message("test throws"), "** (throw) :ball");
    assert_eq!(
        message("test takes too long").as_str().unwrap().split(". ").next(),
        Some("** (ExUnit.TimeoutError) test timed out after 50ms")
    );
    assert_eq!(message("test dies with a linked process"), "** (exit) :boom");
    let logging = report.test("test logs and fails (Fixture.OutcomesTest)");
    assert!(logging["details"].as_str().unwrap().contains("something captured"), "{logging}");
    let invalid = report.test("test is invalid (Fixture.SetupAllTest)");
    assert_eq!(invalid["message"], "failure on setup_all callback: ** (RuntimeError) nothing works");
    assert_eq!(
        report.test("test takes too long (Fixture.OutcomesTest)")["name"],
        "test takes too long (Fixture.OutcomesTest)"
    );

    let outside = worker.run("test/setup_all_exit_test.exs");
    assert!(outside.message().contains("tear-down of all went wrong"), "{}", outside.message());
    let empty = worker.run("test/empty_test.exs");
    assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
    let excluded = worker.run("test/all_excluded_test.exs");
    assert_eq!((excluded.outcome(), excluded.message()), ("passed", "no test ran: 1 excluded"));
    worker.quit();
}

#[test]
fn a_file_that_does_not_load_is_broken_and_leaves_nothing_to_the_next() {
    let project = Project::copy_of("exunit");
    let mut worker = shared(&project);
    for (file, message) in [
        ("test/syntax_error_test.exs", "** (TokenMissingError) test/syntax_error_test.exs:"),
        ("test/compile_error_test.exs", "undefined function no_such_function/0"),
        ("test/raises_while_loading_test.exs", "** (RuntimeError) nothing to see here"),
        ("test/no_such_test.exs", "could not load"),
    ] {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.tests.len()), ("broken", 0), "{file}");
        assert!(report.message().contains(message), "{file}: {}", report.message());
        let details = report.finished["details"].as_str().unwrap();
        assert!(!details.is_empty() && !details.contains("DistributestWorker"), "{details}");
        let next = worker.run(NAMES);
        assert_eq!((next.outcome(), next.tests.len()), ("passed", 2), "{:?}", next.statuses());
    }
    worker.quit();
}

#[test]
fn runs_the_tests_asked_for_and_no_others() {
    let project = Project::copy_of("exunit");
    let mut worker = shared(&project);
    let all = worker.run("test/outcomes_test.exs").statuses();
    let ids: Vec<&str> = all.keys().map(String::as_str).collect();
    for chosen in [&ids[..1], &ids[1..4], &ids[4..]] {
        let report = worker.run_tests("test/outcomes_test.exs", chosen);
        assert_eq!(report.statuses(), chosen.iter().map(|id| ((*id).to_owned(), all[*id].clone())).collect());
    }
    for odd in [
        "test has \"quotes\", \\backslashes\\ and ümläuts (Fixture.Sub.NamesTest)",
        "test has\na line break (Fixture.Sub.NamesTest)",
    ] {
        let report = worker.run_tests(NAMES, &[odd]);
        assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), [odd]);
    }
    let passing = "test passes (Fixture.OutcomesTest)";
    let report = worker.run_tests("test/outcomes_test.exs", &[passing, "test gone (Fixture.OutcomesTest)"]);
    assert_eq!(
        (report.outcome(), report.message()),
        ("failed", "no such test: test gone (Fixture.OutcomesTest)")
    );
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), [passing]);
    worker.quit();
}

#[test]
fn a_test_that_ends_the_virtual_machine_is_named_and_its_last_words_are_kept() {
    let project = Project::copy_of("exunit");
    for (isolation, file, test, how) in [
        (
            Isolation::Shared,
            "test/halts_test.exs",
            "test halts (Fixture.HaltsTest)",
            "left with exit status 3",
        ),
        (
            Isolation::Process,
            "test/halts_test.exs",
            "test halts (Fixture.HaltsTest)",
            "left with exit status 3",
        ),
        (
            Isolation::Shared,
            "test/killed_test.exs",
            "test kills its \"virtual machine\" (Fixture.KilledTest)",
            "died of signal 9 (SIGKILL)",
        ),
        (
            Isolation::Shared,
            "test/closes_ports_test.exs",
            "test closes every port (Fixture.ClosesPortsTest)",
            "left with exit status 1",
        ),
    ] {
        let mut worker = Start { arguments: &["--seed", "0"], ..start(isolation) }.ready_worker(&project);
        let report = worker.run(file);
        assert_eq!(report.outcome(), "crashed");
        assert_eq!(report.message(), format!("the process running this file {how} while {test} ran"));
        assert_eq!(report.test(test)["status"], "error");
        assert_eq!(report.test(test)["message"], report.message());
        if file == "test/halts_test.exs" {
            assert_eq!(report.test("test first (Fixture.HaltsTest)")["status"], "passed");
            assert!(worker.output().contains("last words"), "{}", worker.output());
        }
        worker.wait();
    }
    let mut worker = shared(&project);
    let report = worker.run("test/halts_while_loading_test.exs");
    let message = "the process running this file left with exit status 0 before its tests were done";
    assert_eq!((report.outcome(), report.message()), ("crashed", message));
}

#[test]
fn every_byte_a_test_writes_comes_out() {
    let project = Project::copy_of("exunit");
    let mut worker = shared(&project);
    assert_eq!(worker.run("test/output_test.exs").outcome(), "passed");
    // Everything is out when the file is finished.
    let raw = worker.raw_output();
    let long_line = [b'x'; 64 * 1024];
    assert_eq!(raw.split(|byte| *byte == b'\n').filter(|line| **line == long_line).count(), 40);
    for expected in ["puts é\n".as_bytes(), b"warning\n", b"raw \xff\xfe bytes\n"] {
        assert!(raw.windows(expected.len()).any(|window| window == expected), "{expected:?}");
    }
    let report = worker.run("test/unprintable_test.exs");
    let huge = report.test("test fails at length (Fixture.UnprintableTest)");
    let details = huge["details"].as_str().unwrap();
    assert!(details.len() < 1_100_000 && details.contains("characters left out"), "{}", details.len());
    let invalid = report.test("test fails with invalid bytes (Fixture.UnprintableTest)");
    assert_eq!(invalid["message"], "** (RuntimeError) invalid \u{fffd} byte");
    worker.quit();
}

#[test]
fn the_project_is_loaded_once_and_test_files_do_not_see_each_others_modules() {
    let project = Project::copy_of("exunit");
    let mut worker = shared(&project);
    for file in ["test/isolation_1_test.exs", "test/isolation_2_test.exs", "test/isolation_1_test.exs"] {
        let report = worker.run(file);
        assert_eq!(report.outcome(), "passed", "{file}: {:?}", report.tests);
    }
    let output = worker.quit();
    for once in [
        "alias of test",
        "application started",
        "helper loaded",
        "suite of 3 tests ended",
        "exit handler of the helper",
    ] {
        assert_eq!(output.matches(once).count(), 1, "{once}: {output}");
    }
    assert!(!output.contains("redefining module"), "{output}");
}

#[test]
fn what_fails_after_the_suite_is_told_of_the_worker() {
    let project = Project::copy_of("exunit");
    let helper = project.path().join("test/test_helper.exs");
    let text = std::fs::read_to_string(&helper).unwrap();
    std::fs::write(&helper, text + "\nExUnit.after_suite(fn _ -> raise \"left over\" end)\n").unwrap();
    let mut worker = shared(&project);
    assert_eq!(worker.run(NAMES).outcome(), "passed");
    let (output, failures) = worker.quit_with_failures();
    assert_eq!(failures, ["in a callback of after_suite: ** (RuntimeError) left over"]);
    assert!(output.contains("suite of"), "the others are called: {output}");
}

#[test]
fn workers_that_start_at_the_same_time_compile_once() {
    let project = Project::copy_of("exunit");
    let mut workers: Vec<Worker> = (0..3).map(|_| start(Isolation::Shared).worker(&project)).collect();
    for worker in &mut workers {
        assert_eq!(worker.next().unwrap()["type"], "ready", "{}", worker.output());
        assert_eq!(worker.run(NAMES).outcome(), "passed");
    }
    let outputs: Vec<String> = workers.into_iter().map(Worker::quit).collect();
    assert_eq!(
        outputs.iter().filter(|output| output.contains("Generated fixture app")).count(),
        1,
        "{outputs:?}"
    );
}

#[test]
fn the_worker_ends_what_runs_when_the_agent_is_gone_or_it_is_told_to() {
    for abandon in [true, false] {
        let project = Project::copy_of("exunit");
        let mut worker = shared(&project);
        worker.send_run("test/hangs_test.exs");
        let pid: u32 = wait_for_text(&project.path().join("hanging.txt")).trim().parse().unwrap();
        ask_for_stacks(pid, "-QUIT");
        worker.wait_for_output("test/hangs_test.exs:8: Fixture.HangsTest");
        if abandon {
            worker.abandon();
        } else {
            let kill = Command::new("kill").args(["-TERM", &worker.pid().to_string()]).status().unwrap();
            assert!(kill.success());
            let hanging = worker.next().unwrap();
            assert_eq!(
                (&hanging["id"], &hanging["status"]),
                (&"test hangs (Fixture.HangsTest)".into(), &"error".into())
            );
            assert_eq!(worker.next(), None);
        }
        assert!(!worker.wait().success());
        wait_for_end_of(pid);
        assert!(worker.output().contains("written before the hang"), "{}", worker.output());
    }
}

#[test]
fn the_options_of_mix_test_work() {
    let project = Project::copy_of("exunit");
    let mut worker = with_arguments(&project, &["--only", "slow"]);
    let report = worker.run("test/outcomes_test.exs");
    let excluded = [("test is excluded (Fixture.OutcomesTest)".to_owned(), "failed".to_owned())];
    assert_eq!(report.statuses(), excluded.into());
    worker.quit();

    let mut worker = with_arguments(&project, &["--max-failures", "1", "--seed", "0"]);
    let report = worker.run("test/doctest_test.exs");
    assert_eq!((report.outcome(), report.tests.len()), ("failed", 2));
    let report = worker.run("test/outcomes_test.exs");
    let failed =
        report.statuses().into_values().filter(|status| status == "failed" || status == "error").count();
    assert_eq!((report.outcome(), failed), ("failed", 1));
    assert!(worker.output().contains("Running ExUnit with seed: 0"), "{}", worker.output());
    worker.quit();

    let mut worker = with_arguments(&project, &["--cover"]);
    assert_eq!(worker.run("test/async_test.exs").outcome(), "passed");
    let output = worker.quit();
    let covered = output.lines().find(|line| line.contains("Fixture.SharedCase")).unwrap_or_default();
    assert!(covered.contains("100.00%"), "{output}");
}

#[test]
fn each_application_of_an_umbrella_project_is_made_ready_for_its_first_file() {
    let project = Project::copy_of("exunit_umbrella");
    let selection = Selection::of(Framework::named("exunit").unwrap());
    let files: Vec<String> =
        discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect();
    assert_eq!(
        files,
        ["apps/one/test/another_test.exs", "apps/one/test/one_test.exs", "apps/two/test/two_test.exs"]
    );
    let mut worker = shared(&project);
    for _ in 0..2 {
        let one = worker.run("apps/one/test/one_test.exs");
        assert_eq!((one.outcome(), one.tests.len()), ("passed", 1), "{:?}", one.tests);
        assert_eq!(one.tests[0]["file"], "apps/one/test/one_test.exs");
        let two = worker.run("apps/two/test/two_test.exs");
        assert_eq!((two.outcome(), two.tests.len()), ("passed", 1), "{:?}", two.tests);
        assert_eq!(worker.run("apps/one/test/another_test.exs").outcome(), "failed");
    }
    let stray = worker.run("apps/three/test/three_test.exs");
    assert_eq!(
        (stray.outcome(), stray.message()),
        ("broken", "the file is in no application of this umbrella project")
    );
    let output = worker.quit();
    assert_eq!(output.matches("helper of").count(), 2, "{output}");

    project.write("apps/two/test/test_helper.exs", "raise \"no helper\"\n");
    let mut worker = shared(&project);
    let two = worker.run("apps/two/test/two_test.exs");
    assert_eq!(two.outcome(), "broken");
    assert!(two.message().contains("no helper"), "{}", two.message());
    assert_eq!(worker.run("apps/one/test/one_test.exs").outcome(), "passed");
    worker.quit();
}

/// A file whose tests are taken by a run of its own while it loads.
const RUNS_ITSELF: &str = "ExUnit.start(autorun: false)
defmodule RunsItselfTest do
  use ExUnit.Case
  test \"fails\", do: assert 1 == 2
end
ExUnit.run()
";

/// A file with a test that stops ExUnit, and another behind it.
const STOPS_EXUNIT: &str = "defmodule StopsTest do
  use ExUnit.Case
  test \"first\", do: :ok
  test \"stops\" do
    Application.stop(:ex_unit)
    assert 1 == 2
  end
  test \"third\", do: :ok
end
";

#[test]
fn tests_that_exunit_says_nothing_of_fail_their_file_and_no_other() {
    for (project, next) in [(Project::copy_of("exunit"), NAMES), (Project::empty(), "test/next_test.exs")] {
        project.write("test/runs_itself_test.exs", RUNS_ITSELF);
        project.write("test/stops_test.exs", STOPS_EXUNIT);
        if next != NAMES {
            project.write(
                next,
                "defmodule NextTest do\n  use ExUnit.Case\n  test \"passes\", do: :ok\n  test \"too\", do: :ok\nend\n",
            );
        }
        for isolation in [Isolation::Shared, Isolation::Process] {
            let in_order: &[&str] = if next == NAMES { &["--seed", "0"] } else { &[] };
            let ready = || Start { arguments: in_order, ..start(isolation) }.ready_worker(&project);
            let mut worker = ready();
            let report = worker.run("test/runs_itself_test.exs");
            assert_eq!((report.outcome(), report.tests.len()), ("failed", 0));
            assert_eq!(report.message(), "its test was run by somebody else, or not to its end");
            let details = report.finished["details"].as_str().unwrap();
            assert!(details.contains("test fails (RunsItselfTest)"), "{details}");
            if isolation == Isolation::Process {
                worker.quit();
                worker = ready();
            }
            let report = worker.run("test/stops_test.exs");
            assert_eq!(report.outcome(), "failed");
            assert!(report.message().contains("of its 3 tests"), "{}", report.message());
            if isolation == Isolation::Shared {
                let report = worker.run(next);
                assert_eq!((report.outcome(), report.tests.len()), ("passed", 2), "{}", report.message());
            }
            worker.quit();
        }
    }
}

#[test]
fn test_files_without_a_mix_project_run_too() {
    let project = Project::empty();
    let test = |name: &str| {
        format!("ExUnit.start()\ndefmodule {name} do\n  use ExUnit.Case\n  test \"passes\", do: :ok\nend\n")
    };
    project.write("test/one_test.exs", &test("OneTest"));
    project.write("test/two_test.exs", &test("TwoTest"));
    let mut worker = shared(&project);
    for file in ["test/one_test.exs", "test/two_test.exs"] {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.tests.len()), ("passed", 1), "{file}");
    }
    let output = worker.quit();
    assert!(!output.contains("1 test"), "ExUnit runs nothing by itself: {output}");
}

#[test]
fn says_why_it_cannot_work() {
    let project = Project::copy_of("exunit");
    let (message, _) = unable(&project, &["--no-such-option"]);
    assert!(message.contains("--no-such-option"), "{message}");
    let (message, _) = unable(&project, &["test/a_test.exs"]);
    assert_eq!(message, "exunit does not run test/a_test.exs because it stands behind --");
    let (message, _) = unable(&project, &["--failed"]);
    assert!(message.contains("`mix test --failed` can't be used"), "{message}");

    project.write("test/test_helper.exs", "raise \"the helper is broken\"\n");
    let (message, hint) = unable(&project, &[]);
    assert!(message.contains("the helper is broken"), "{message}");
    assert!(hint.contains("plain `mix test`"), "{hint}");

    project.write("lib/fixture.ex", "defmodule Fixture do\n  def broken, do: no_such_function()\nend\n");
    let (message, hint) = unable(&project, &[]);
    assert!(message.starts_with("mix can't make this project ready: "), "{message}");
    assert!(hint.contains("the worker's output"), "{hint}");

    project.write(
        "mix.exs",
        "defmodule M do\n  use Mix.Project\n  def project, do: [app: :m, version: \"0.1.0\", deps: [{:gone, path: \"../gone\"}]]\nend\n",
    );
    let (message, hint) = unable(&project, &[]);
    assert!(message.contains("gone") && message.contains("dependenc"), "{message}");
    assert!(hint.contains("mix deps.get"), "{hint}");
}

#[test]
fn says_that_elixir_is_missing() {
    let project = Project::empty();
    for (program, target) in [("printf", "/usr/bin/printf"), ("sleep", "/usr/bin/sleep")] {
        std::os::unix::fs::symlink(target, project.path().join(program)).unwrap();
    }
    let path = project.path().to_str().unwrap().to_owned();
    let set_path = format!("PATH={path}; export PATH; exec /bin/sh \"$@\"");
    let without_elixir = Start { program_arguments: &["-c", &set_path, "sh"], ..start(Isolation::Shared) };
    let unable = without_elixir.worker(&project).next().unwrap();
    assert_eq!(unable["message"], "there is no program `elixir` in PATH");
    assert!(unable["hint"].as_str().unwrap().contains("node_setup"), "{unable}");
}
