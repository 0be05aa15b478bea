//! The worker for Go against the real go command.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{FileReport, Project, Worker, is_alive, signal, text, wait_until};

const OFFLINE: [(&str, &str); 2] = [("GOPROXY", "off"), ("GOFLAGS", "-mod=mod")];

fn worker(project: &Project, arguments: &[&str], more: &[(&str, &str)]) -> Worker {
    let has_go = Command::new("go").arg("version").output();
    assert!(
        has_go.is_ok_and(|output| output.status.success()),
        "these tests need Go: apt-get install golang-go"
    );
    Worker::ready_in(project, &[&["go"], arguments].concat(), &[&OFFLINE[..], more].concat())
}

/// What `go test -json` says came of each test: `pass`, `fail`, `skip`.
fn go_says(project: &Project, package: &str, arguments: &[&str]) -> BTreeMap<String, String> {
    let output = Command::new("go")
        .args(["test", "-json", "-count=1", "."])
        .args(arguments)
        .current_dir(project.path().join(package))
        .envs(OFFLINE)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let action = event["action"].as_str().or(event["Action"].as_str())?.to_owned();
        let is_end = matches!(action.as_str(), "pass" | "fail" | "skip");
        Some((event["Test"].as_str()?.to_owned(), action)).filter(|_| is_end)
    };
    let said: BTreeMap<_, _> = text.lines().filter_map(event).collect();
    assert!(!said.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn in_gos_words(report: &FileReport) -> BTreeMap<String, String> {
    let word = |status: String| match status.as_str() {
        "passed" => "pass".to_owned(),
        "failed" | "error" => "fail".to_owned(),
        "skipped" => "skip".to_owned(),
        _ => status,
    };
    report.statuses().into_iter().map(|(id, status)| (id, word(status))).collect()
}

#[test]
fn reports_the_same_tests_with_the_same_results_as_go() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[]);
    for (package, outcome) in [
        ("outcomes", "failed"),
        ("parallel", "failed"),
        ("mains", "passed"),
        (".", "passed"),
        ("output", "passed"),
    ] {
        let report = worker.run(package);
        let mut expected = go_says(&project, package, &[]);
        if package == "outcomes" {
            // Before Go 1.20, go's report loses it.
            expected.insert("TestPrintsWithoutALineEnd".to_owned(), "pass".to_owned());
        }
        assert_eq!(in_gos_words(&report), expected, "{package}");
        assert_eq!(report.outcome(), outcome, "{package}: {report:?}");
    }
    // As with `go test ./...` in each of them.
    assert_eq!(worker.run("nested/inner").summary(), "TestOfAnotherModule passed");
    worker.quit();
}

#[test]
fn results_say_why_and_where() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[]);
    let report = worker.run("outcomes");
    let message = |id: &str| text(report.test(id), "message").to_owned();
    assert_eq!(message("TestFails"), "outcomes_test.go:16: got 1, want 2");
    let details = text(report.test("TestFails"), "details");
    assert!(details.starts_with("printed before\nand to standard error\n"), "{details}");
    assert_eq!(message("TestSkips"), "not today: it rains");
    assert_eq!(message("TestFailsInManyLines"), "outcomes_test.go:25: first line");
    assert_eq!(message("TestParts"), "a part of it failed");
    assert_eq!(message("TestParts/same_name"), "outcomes_test.go:34: the first");
    assert_eq!(message("FuzzSeeds/seed#1"), "outcomes_test.go:52: a bad seed");
    assert_eq!(message("Example_bad"), "got \"this\", want \"that\"");
    let place = |id: &str| {
        let test = report.tests.iter().find(|test| test["id"] == id).unwrap();
        (test["file"].as_str().unwrap().to_owned(), test["line"].as_u64().unwrap())
    };
    assert_eq!(place("TestParts/same_name"), ("outcomes/outcomes_test.go".to_owned(), 32));
    assert_eq!(place("Example_bad"), ("outcomes/example_test.go".to_owned(), 10));
    worker.quit();
}

#[test]
fn a_test_that_takes_its_process_with_it_is_named_and_the_others_run() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[]);
    let panics = worker.run("panics");
    assert_eq!(
        panics.summary(),
        "TestAfter passed, TestBefore passed, TestBetween failed, TestPanics failed, TestPanics/good_part passed, \
         TestPanics/part error, TestPanicsElsewhere error"
    );
    assert_eq!((panics.outcome(), panics.message()), ("crashed", "exit status 2 in TestPanics/part"));
    assert_eq!(text(panics.test("TestPanics/part"), "message"), "panic: assignment to entry in nil map");
    assert!(text(panics.test("TestPanics/part"), "details").contains("goroutine "), "{panics:?}");
    assert_eq!(text(panics.test("TestPanicsElsewhere"), "message"), "panic: in a goroutine");
    let exits = worker.run("exits");
    assert_eq!(
        exits.summary(),
        "TestAfter passed, TestBefore passed, TestKillsItself error, TestLeaves error, \
         TestLeavesAsIfAllWereWell error, TestLogsFatally error"
    );
    assert_eq!(exits.outcome(), "crashed");
    let message = |id: &str| text(exits.test(id), "message").to_owned();
    assert!(
        message("TestLeavesAsIfAllWereWell").starts_with("panic: unexpected call to os.Exit(0)"),
        "{exits:?}"
    );
    assert_eq!(
        (message("TestLeaves"), message("TestLogsFatally")),
        ("exit status 3".to_owned(), "exit status 1".to_owned())
    );
    assert!(text(exits.test("TestLogsFatally"), "details").contains("fatal words"));
    assert!(message("TestKillsItself").contains("SIGABRT"), "{exits:?}");
    assert_eq!(worker.run("mains").outcome(), "passed");
    worker.quit();
}

#[test]
fn a_test_that_panics_after_its_parts_is_told_from_them() {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    let package = |name: &str, body: &str| {
        let tests =
            format!("func TestT(t *testing.T) {{\n{body}\n}}\n\nfunc TestZ(t *testing.T) {{ t.Fail() }}");
        let helpers = "func good(t *testing.T) {}\n\nfunc bad(t *testing.T) { t.Error(\"its own\") }\n\nfunc boom() { panic(\"boom\") }";
        let text = format!("package {name}\n\nimport \"testing\"\n\n{helpers}\n\n{tests}\n");
        project.write(&format!("{name}/a_test.go"), &text);
    };
    let mut expected = Vec::new();
    let mut case = |name: &'static str, body: &str, statuses: &'static str, died: &'static str| {
        package(name, body);
        expected.push((name, statuses, died));
    };
    case("after_good", "t.Run(\"a\", good); panic(\"boom\")", "TestT error, TestT/a passed", "TestT");
    case("after_bad", "t.Run(\"a\", bad); panic(\"boom\")", "TestT error, TestT/a failed", "TestT");
    case("clean_up", "t.Run(\"a\", good); t.Cleanup(boom)", "TestT error, TestT/a passed", "TestT");
    case(
        "clean_up_bad",
        "t.Run(\"a\", func(t *testing.T) { t.Parallel(); bad(t) }); t.Cleanup(boom)",
        "TestT error, TestT/a failed",
        "TestT",
    );
    case(
        "within",
        "t.Run(\"a\", bad); t.Run(\"b\", func(t *testing.T) { t.Run(\"c\", good); boom() })",
        "TestT failed, TestT/a failed, TestT/b error, TestT/b/c passed",
        "TestT/b",
    );
    case(
        "part",
        "t.Run(\"a\", bad); t.Run(\"b\", func(t *testing.T) { t.Cleanup(boom) })",
        "TestT failed, TestT/a failed, TestT/b error",
        "TestT/b",
    );
    let mut worker = worker(&project, &[], &[]);
    for (package, statuses, died) in expected {
        let report = worker.run(package);
        assert_eq!(report.summary(), format!("{statuses}, TestZ failed"), "{package}");
        assert_eq!(
            (report.outcome(), report.message()),
            ("crashed", format!("exit status 2 in {died}").as_str())
        );
        assert_eq!(text(report.test(died), "message"), "panic: boom", "{package}");
        assert!(text(report.test(died), "details").contains("goroutine "), "{package}: {report:?}");
        let part = report.test("TestT/a");
        assert!(!text(part, "details").contains("goroutine "), "{package}: {report:?}");
    }
    worker.quit();
}

#[test]
fn a_panic_after_the_last_test_is_a_crash_also_where_a_test_failed() {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    project.write(
        "a_test.go",
        "package m\n\nimport \"testing\"\n\nfunc TestMain(m *testing.M) {\n\tm.Run()\n\tpanic(\"tearing down\")\n}\n\n\
         func TestA(t *testing.T) { t.Error(\"bad\") }\n",
    );
    let mut worker = worker(&project, &[], &[]);
    let report = worker.run(".");
    assert_eq!(report.summary(), "TestA failed");
    let message = "exit status 2 after the last test: panic: tearing down";
    assert_eq!((report.outcome(), report.message()), ("crashed", message));
    worker.quit();
}

/// A package of so many tests that one pattern can't name all of them; `body` is that of the first.
fn package_of_many(body: &str) -> (Project, Vec<String>) {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    let name = |number: usize| format!("Test{number:04}{}", "x".repeat(200));
    let names: Vec<String> = (0..1200).map(name).collect();
    let tests: String = names[1..].iter().map(|name| format!("func {name}(t *testing.T) {{}}\n")).collect();
    let first = format!("func {}(t *testing.T) {{ {body} }}\n", names[0]);
    project.write("a_test.go", &format!("package m\n\nimport (\n\t\"os\"\n\t\"syscall\"\n\t\"testing\"\n)\n\nvar _ = syscall.Kill\nvar _ = os.Exit\n{first}{tests}"));
    (project, names)
}

#[test]
fn all_tests_behind_one_that_died_run_however_many_there_are() {
    let (project, names) = package_of_many("panic(\"boom\")");
    let mut worker = worker(&project, &[], &[]);
    let report = worker.run(".");
    assert_eq!((report.outcome(), report.statuses().len()), ("crashed", names.len()));
    let failed = report.statuses().into_iter().filter(|(_, status)| status != "passed");
    assert_eq!(Vec::from_iter(failed), [(names[0].clone(), "error".to_owned())]);
    // Those asked for by name as well.
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(worker.run_tests(".", &ids).statuses(), report.statuses());
    worker.quit();
}

#[test]
fn after_a_process_that_somebody_ended_none_is_started() {
    let (project, names) = package_of_many("syscall.Kill(os.Getpid(), syscall.SIGTERM); select {}");
    let mut worker = worker(&project, &[], &[]);
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = |rest: &str| format!("the process died of signal 15 (SIGTERM) in {}{rest}", names[0]);
    for (report, rest) in [
        (worker.run("."), "; the tests after it were not run"),
        (worker.run_tests(".", &ids), "; 1199 tests after it were not run"),
        (worker.run_tests(".", &ids[..2]), "; the test after it was not run"),
        (worker.run_tests(".", &ids[..1]), ""),
    ] {
        assert_eq!(report.summary(), format!("{} error", names[0]));
        assert_eq!((report.outcome(), report.message()), ("crashed", message(rest).as_str()));
    }
    worker.quit();
}

#[test]
fn after_the_last_test_there_is_none_that_was_not_run() {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    project.write(
        "a_test.go",
        "package m\n\nimport (\n\t\"os\"\n\t\"syscall\"\n\t\"testing\"\n)\n\nfunc TestMain(m *testing.M) { m.Run() }\n\n\
         func BenchmarkA(b *testing.B) {}\n\n\
         func TestA(t *testing.T) {\n\tsyscall.Kill(os.Getpid(), syscall.SIGKILL)\n\tselect {}\n}\n",
    );
    let mut worker = worker(&project, &[], &[]);
    let report = worker.run(".");
    assert_eq!(report.summary(), "TestA error");
    assert_eq!(report.message(), "the process died of signal 9 (SIGKILL) in TestA");
    worker.quit();
}

#[test]
fn packages_that_do_not_compile_or_load_are_broken_and_those_without_tests_pass() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[]);
    let broken = worker.run("broken");
    assert_eq!(
        (broken.outcome(), broken.message()),
        ("broken", "./broken_test.go:6:2: undefined: undefined")
    );
    assert!(broken.details().contains("[build failed]"), "{broken:?}");
    assert!(worker.stderr().contains("undefined: undefined"), "the log has it too");
    let vetted = worker.run("vetted");
    assert_eq!(vetted.outcome(), "broken");
    assert!(vetted.message().contains("Printf format %d has arg \"no number\""), "{vetted:?}");
    let init = worker.run("init");
    assert_eq!(init.outcome(), "broken");
    assert_eq!(init.message(), "no test was run: exit status 2: panic: while loading");
    for package in ["nothing", "elsewhere", "nowhere"] {
        let report = worker.run(package);
        assert_eq!(report.outcome(), "passed", "{package}: {report:?}");
        assert!(report.message().starts_with("no tests"), "{package}: {report:?}");
        assert_eq!(report.tests.len(), 0);
    }
    worker.quit();
}

#[test]
fn a_binary_that_leaves_with_0_and_no_word_on_tests_has_crashed_unless_it_may_mean_to() {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    let package = |name: &str, text: &str| {
        let test = "func TestA(t *testing.T) {}";
        let text = format!(
            "package {name}\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\n\n{text}\n\n{test}\n"
        );
        project.write(&format!("{name}/a_test.go"), &text);
    };
    package("loading", "func init() { os.Exit(0) }");
    package("leaves", "func TestMain(m *testing.M) { os.Exit(0) }");
    package("returns", "func TestMain(m *testing.M) {}");
    package("prints_elsewhere", "func init() { os.Stdout, _ = os.Create(os.DevNull) }");
    package(
        "filters",
        "func TestMain(m *testing.M) { os.Args = append(os.Args, \"-test.run=TestB\"); m.Run() }",
    );
    let mut worker = worker(&project, &[], &[]);
    let loading = worker.run("loading");
    let message = "the test binary left with exit status 0 before its tests were done";
    assert_eq!((loading.outcome(), loading.message(), loading.tests.len()), ("crashed", message, 0));
    // What a TestMain does is up to the project, and where the tests print.
    for package in ["leaves", "returns", "prints_elsewhere"] {
        let report = worker.run(package);
        let message = "no tests seen: the test binary left with exit status 0 and said nothing of them";
        assert_eq!((report.outcome(), report.message(), report.tests.len()), ("passed", message, 0));
        assert_eq!(worker.run_tests(package, &["TestA"]).outcome(), "failed");
    }
    let filters = worker.run("filters");
    assert_eq!((filters.outcome(), filters.message()), ("passed", "no tests"));
    worker.quit();
}

#[test]
fn an_exit_status_without_a_failing_test_is_a_failure() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[("MAIN_STATUS", "7")]);
    let report = worker.run("mains");
    assert_eq!(report.summary(), "TestWithMain passed");
    assert_eq!((report.outcome(), report.message()), ("failed", "exit status 7 although no test failed"));
    worker.quit();
}

#[test]
fn single_tests_run_by_their_ids() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[]);
    let all: Vec<String> = worker.run("outcomes").statuses().into_keys().collect();
    for id in &all {
        let report = worker.run_tests("outcomes", &[id]);
        assert_eq!(Vec::from_iter(report.statuses().keys()), [id], "{report:?}");
    }
    let ids: Vec<&str> = all.iter().map(String::as_str).collect();
    let (some, others) = ids.split_at(ids.len() / 2);
    let mut statuses = worker.run_tests("outcomes", some).statuses();
    statuses.extend(worker.run_tests("outcomes", others).statuses());
    assert_eq!(statuses, worker.run("outcomes").statuses());
    let part = worker.run_tests("outcomes", &["TestParts/with_blanks"]);
    assert_eq!((part.summary().as_str(), part.outcome()), ("TestParts/with_blanks passed", "passed"));
    let gone = worker.run_tests("outcomes", &["TestPasses", "TestPass"]);
    assert_eq!(gone.summary(), "TestPasses passed");
    assert_eq!(gone.outcome(), "failed");
    assert_eq!(gone.message(), "the test TestPass did not run, or is not there any more");
    worker.quit();
}

#[test]
fn arguments_reach_go_and_the_tests() {
    let project = Project::copy_of("go");
    let mut some = worker(&project, &["-run", "Test(Passes|Skips)", "-cover"], &[]);
    let report = some.run("outcomes");
    assert_eq!(report.summary(), "TestPasses passed, TestSkips skipped");
    assert!(some.stdout().contains("coverage: "), "{}", some.stdout());
    some.quit();
    let unable = Worker::unable(&project, &["go", "-json"], &OFFLINE);
    assert!(text(&unable, "message").contains("-json"), "{unable}");
}

#[test]
fn what_tests_print_reaches_the_log_byte_for_byte() {
    let project = Project::copy_of("go");
    let mut worker = worker(&project, &[], &[]);
    assert_eq!(worker.run("output").outcome(), "passed");
    let output = worker.output();
    assert!(output.windows(12).any(|bytes| bytes == b"bytes \xff\x00 end"));
    assert!(worker.stdout().contains("of a child\n"));
    worker.quit();
}

#[test]
fn a_failure_that_a_passing_test_prints_is_no_result() {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    let text = |more: &str| {
        let prints = "func TestPrints(t *testing.T) { fmt.Println(\"--- FAIL: TestNobody (0.00s)\") }";
        format!("package m\n\nimport (\n\t\"fmt\"\n\t\"testing\"\n)\n\n{prints}\n{more}\n")
    };
    project.write("passes/a_test.go", &text(""));
    project.write("panics/a_test.go", &text("func TestPanics(t *testing.T) { panic(\"boom\") }"));
    let mut worker = worker(&project, &[], &[]);
    let passes = worker.run("passes");
    assert_eq!((passes.summary().as_str(), passes.outcome()), ("TestPrints passed", "passed"));
    let panics = worker.run("panics");
    assert_eq!(panics.summary(), "TestPanics error, TestPrints passed");
    worker.quit();
}

#[test]
fn told_to_end_it_ends_the_test_first() {
    let project = Project::copy_of("go");
    let file = project.path().join("pid");
    let mut worker = worker(&project, &[], &[("HANGS_IN", file.to_str().unwrap())]);
    worker.send(&json!({"type": "run", "file": "hangs"}));
    let pid = project.wait_for_text("pid").trim().parse().unwrap();
    signal("TERM", worker.pid());
    assert!(!worker.wait().success());
    wait_until(|| (!is_alive(pid)).then_some(()));
}

#[test]
fn asked_for_its_stacks_a_hanging_test_tells_its_goroutines() {
    let project = Project::copy_of("go");
    let file = project.path().join("pid");
    let mut worker = worker(&project, &[], &[("HANGS_IN", file.to_str().unwrap())]);
    worker.send(&json!({"type": "run", "file": "hangs"}));
    signal("QUIT", project.wait_for_text("pid").trim().parse().unwrap());
    wait_until(|| {
        let output = String::from_utf8_lossy(&worker.output()).into_owned();
        (output.contains("goroutine ") && output.contains("hangs_test.go")).then_some(())
    });
}

#[test]
fn a_go_that_does_not_work_is_said_before_the_first_package() {
    let project = Project::copy_of("go");
    let unable = Worker::unable(&project, &["go"], &[("GOROOT", "/nonexistent")]);
    assert!(text(&unable, "message").contains("go version failed: "), "{unable}");
    assert!(text(&unable, "hint").contains("node_setup"), "{unable}");
}

#[test]
fn a_package_that_imports_what_this_platform_leaves_out_is_broken() {
    let project = Project::empty();
    project.write("go.mod", "module m\n\ngo 1.19\n");
    project.write("dep/dep.go", "//go:build never\n\npackage dep\n");
    project.write(
        "sub/a_test.go",
        "package sub\n\nimport (\n\t_ \"m/dep\"\n\t\"testing\"\n)\n\nfunc TestA(t *testing.T) {}\n",
    );
    project.write("own/a_test.go", "//go:build never\n\npackage own\n");
    let mut worker = worker(&project, &[], &[]);
    assert_eq!(worker.run("sub").outcome(), "broken");
    assert_eq!(worker.run("own").outcome(), "passed");
}
