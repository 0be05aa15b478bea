//! The worker for Rust against the real cargo.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::support::{FileReport, Project, Worker, is_alive, signal, text, wait_for_text, wait_until};

/// The fixture, which no test here changes.
fn workspace() -> Project {
    Project::kept_copy_of("cargo")
}

fn worker(words: &[&str]) -> Worker {
    Worker::ready(&workspace(), &[&["cargo"], words].concat())
}

/// The tests in what `cargo test` prints, by name: `ok`, `FAILED` or `ignored`.
fn cargo_says(arguments: &[&str]) -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline"])
        .args(arguments)
        .current_dir(workspace().path())
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let name = name.split(" - should panic").next()?.split(" - compile").next()?;
        Some((name.to_owned(), result.split(',').next()?.to_owned()))
    };
    let said: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    assert!(!said.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn in_cargos_words(report: &FileReport) -> BTreeMap<String, String> {
    let word = |status: String| match status.as_str() {
        "passed" => "ok".to_owned(),
        "failed" => "FAILED".to_owned(),
        "skipped" => "ignored".to_owned(),
        _ => status,
    };
    report.statuses().into_iter().map(|(id, status)| (id, word(status))).collect()
}

#[test]
fn reports_the_same_tests_with_the_same_results_as_cargo_in_both_isolations() {
    for isolation in ["shared", "process"] {
        let mut worker = worker(&[isolation]);
        for (unit, arguments, outcome) in [
            ("crates/outcomes/src/lib.rs", &["-p", "outcomes", "--lib"][..], "failed"),
            ("crates/outcomes/src/main.rs", &["-p", "outcomes", "--bin", "outcomes"], "passed"),
            ("crates/outcomes/tests/environment.rs", &["-p", "outcomes", "--test", "environment"], "passed"),
            ("crates/outcomes/tests/whole/main.rs", &["-p", "outcomes", "--test", "whole"], "passed"),
            ("crates/outcomes/examples/tested.rs", &["-p", "outcomes", "--example", "tested"], "passed"),
            ("crates/macros/src/lib.rs", &["-p", "macros", "--lib"], "passed"),
            ("tools/helper/src/lib.rs", &["-p", "helper", "--lib"], "passed"),
            ("crates/documented/src/lib.rs (doc tests)", &["-p", "documented", "--doc"], "failed"),
        ] {
            let report = worker.run(unit);
            assert_eq!(in_cargos_words(&report), cargo_says(arguments), "{unit}, {isolation}");
            assert_eq!(report.outcome(), outcome, "{unit}, {isolation}: {report:?}");
        }
        worker.quit();
    }
}

#[test]
fn failures_say_why_and_where() {
    for isolation in ["shared", "process"] {
        let mut worker = worker(&[isolation]);
        let report = worker.run("crates/outcomes/src/lib.rs");
        let message = |test: &str| text(report.test(&format!("tests::{test}")), "message");
        assert_eq!(
            message("fails_with_values"),
            "assertion `left == right` failed: two times 2 (left: 4, right: 5)"
        );
        let details = text(report.test("tests::fails_with_values"), "details");
        assert!(
            details.contains("printed before\n") && details.contains("and to standard error"),
            "{details}"
        );
        assert_eq!(message("fails_in_many_lines"), "first line");
        assert_eq!(message("fails_without_a_word"), "Error: \"an error\"");
        assert_eq!(message("is_ignored"), "ignored");
        assert_eq!(message("is_ignored_for_a_reason"), "it is not ok");
        assert_eq!(message("panics_with_other_words"), "panic did not contain expected string: that");
        assert!(message("does_not_panic").starts_with("test did not panic as expected"), "{isolation}");
        assert_eq!(message("deeper::fails_silently"), "it failed without a word");
        let test = report.tests.iter().find(|test| test["id"] == "tests::fails_with_values").unwrap();
        assert_eq!((&test["file"], &test["line"]), (&"crates/outcomes/src/lib.rs".into(), &19.into()));
        worker.quit();
    }
}

#[test]
fn documentation_says_why_and_where() {
    let mut worker = worker(&["shared"]);
    let unit = "crates/documented/src/lib.rs (doc tests)";
    let report = worker.run(unit);
    let id = |item: &str, line: u32| format!("crates/documented/src/lib.rs - {item}(line {line})");
    let wrong = id("triple ", 9);
    assert_eq!(text(report.test(&wrong), "message"), "assertion `left == right` failed (left: 6, right: 7)");
    assert_eq!(text(report.test(&wrong), "file"), "crates/documented/src/lib.rs");
    assert_eq!(text(report.test(&id("triple ", 13)), "message"), "error[E0308]: mismatched types");
    assert!(text(report.test(&id("triple ", 17)), "message").contains("compile_fail"));
    // Lines are all that rustdoc can be asked for.
    let (first, second) = (id("", 3), id("nothing ", 26));
    let some = worker.run_tests(unit, &[&first, &second]);
    assert_eq!(Vec::from_iter(some.statuses().into_keys()), [first.clone(), second]);
    assert_eq!(some.outcome(), "passed", "{some:?}");
    let gone = worker.run_tests(unit, &[&first, "src/lib.rs - gone (line 1)"]);
    assert_eq!(
        (gone.outcome(), gone.message()),
        ("failed", "the test src/lib.rs - gone (line 1) is not there any more")
    );
    worker.quit();
}

#[test]
fn what_does_not_compile_is_broken_and_the_rest_runs() {
    let mut worker = worker(&["shared"]);
    let report = worker.run("crates/broken/src/lib.rs");
    assert_eq!(report.outcome(), "broken");
    assert_eq!(report.message(), "error[E0308]: mismatched types (crates/broken/src/lib.rs:2:5)");
    assert!(report.details().contains("\"no number\""));
    let dependent = worker.run("crates/needs_broken/src/lib.rs");
    assert_eq!((dependent.outcome(), dependent.message()), ("broken", report.message()));
    assert!(worker.stderr().contains("error[E0308]: mismatched types"), "the log has it too");
    let empty = worker.run("crates/outcomes/tests/no_tests.rs");
    assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
    let left_out = worker.run("crates/outcomes/tests/with_feature.rs");
    assert_eq!(left_out.outcome(), "passed", "{left_out:?}");
    assert!(left_out.message().starts_with("no tests: cargo builds none of it"), "{left_out:?}");
    worker.quit();
}

#[test]
fn an_example_that_does_not_compile_breaks_its_package_as_cargo_would_run_none_of_it() {
    let project = Project::empty();
    let package = |name: &str, more: &str| {
        let text = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{more}");
        project.write(&format!("{name}/Cargo.toml"), &text);
        project.write(
            &format!("{name}/src/lib.rs"),
            "/// ```\n/// ```\npub fn one() {}\n#[test]\nfn passes() {}\n",
        );
    };
    project.write("Cargo.toml", "[workspace]\nmembers = [\"shown\", \"other\"]\nresolver = \"2\"\n");
    package("shown", "");
    package("other", "");
    project.write("shown/examples/wrong.rs", "fn main() {\n    let _: u8 = \"\";\n}\n");
    let said = "an example does not compile: error[E0308]: mismatched types (shown/examples/wrong.rs:2:17)";
    let mut of_two = Worker::ready_in(&project, &["cargo", "shared"], &[]);
    for unit in ["shown/src/lib.rs", "shown/src/lib.rs (doc tests)"] {
        let report = of_two.run(unit);
        assert_eq!((report.outcome(), report.message(), report.tests.len()), ("broken", said, 0), "{unit}");
    }
    assert_eq!(of_two.run("other/src/lib.rs").summary(), "passes passed");
    of_two.quit();
    // Where its package has no test file that could say it, those of the others do.
    package("shown", "[lib]\ntest = false\ndoctest = false\n");
    let mut of_other = Worker::ready_in(&project, &["cargo", "shared"], &[]);
    let report = of_other.run("other/src/lib.rs");
    assert_eq!((report.outcome(), report.message()), ("broken", said));
    of_other.quit();
}

#[test]
fn a_test_that_takes_its_process_with_it_is_named_and_the_others_run() {
    let statuses = "a_passes passed, b_fails failed, c_aborts error, d_passes passed, e_fails failed";
    for isolation in ["shared", "process"] {
        let mut worker = worker(&[isolation]);
        let aborts = worker.run("crates/crashes/tests/aborts.rs");
        assert_eq!(aborts.summary(), statuses, "{isolation}");
        assert_eq!(aborts.outcome(), "crashed");
        assert_eq!(aborts.message(), "the process died of signal 6 (SIGABRT) in c_aborts");
        assert!(text(aborts.test("c_aborts"), "details").contains("last words"), "{aborts:?}");
        assert_eq!(text(aborts.test("e_fails"), "message"), "still reported");
        let exits = worker.run("crates/crashes/tests/exits.rs");
        assert_eq!(
            exits.summary(),
            "a_passes passed, b_leaves_as_if_all_were_well error, c_overflows error, d_passes passed"
        );
        assert_eq!(exits.outcome(), "crashed");
        assert_eq!(exits.message(), "it left the process with exit status 0 in b_leaves_as_if_all_were_well");
        assert_eq!(worker.run("crates/crashes/src/lib.rs").outcome(), "passed", "{isolation}");
        worker.quit();
    }
}

#[test]
fn a_binary_that_leaves_before_it_could_list_its_tests_has_crashed() {
    let project = Project::empty();
    project.write("Cargo.toml", "[package]\nname = \"alone\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    project.write("src/lib.rs", "");
    project.write(
        "tests/leaves.rs",
        "extern \"C\" fn leave() {\n    std::process::exit(0)\n}\n#[link_section = \".init_array\"]\n#[used]\n\
         static LEAVE: extern \"C\" fn() = leave;\n#[test]\nfn fails() {\n    panic!()\n}\n",
    );
    for isolation in ["shared", "process"] {
        let mut worker = Worker::ready(&project, &["cargo", isolation]);
        let leaves = worker.run("tests/leaves.rs");
        let message = "the test binary left with exit status 0 before its tests were done";
        assert_eq!((leaves.outcome(), leaves.message(), leaves.tests.len()), ("crashed", message, 0));
        let empty = worker.run("src/lib.rs");
        assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
        worker.quit();
    }
}

#[test]
fn after_a_process_that_somebody_ended_none_is_started() {
    for isolation in ["shared", "process"] {
        let mut worker = worker(&[isolation]);
        let report = worker.run("crates/crashes/tests/terminated.rs");
        assert_eq!(report.summary(), "a_passes passed, b_is_ended_from_outside error", "{isolation}");
        let message = "the process died of signal 15 (SIGTERM) in b_is_ended_from_outside; 2 tests after it were not run";
        assert_eq!((report.outcome(), report.message()), ("crashed", message), "{isolation}");
        let foreign = worker.run("crates/harness/tests/terminated.rs");
        assert_eq!(foreign.summary(), "first error");
        assert!(foreign.message().ends_with("in first; the test after it was not run"), "{foreign:?}");
        worker.quit();
    }
}

#[test]
fn what_tests_print_reaches_the_log_and_is_not_taken_for_results() {
    for isolation in ["shared", "process"] {
        let mut worker = worker(&[isolation]);
        let report = worker.run("crates/crashes/tests/output.rs");
        let expected = "a_child_writes_without_a_line_end passed, b_child_writes_like_a_harness passed, c_fails failed, \
            d_writes_bytes passed, e_writes_from_a_thread passed";
        assert_eq!(
            (report.summary().as_str(), report.outcome()),
            (expected, "failed"),
            "{isolation}: {report:?}"
        );
        assert_eq!(text(report.test("c_fails"), "message"), "out");
        let output = worker.output();
        assert!(output.windows(12).any(|bytes| bytes == b"bytes \xff\x00 end"));
        assert!(worker.stdout().contains("raw output") && worker.stdout().contains("late line of a thread"));
        worker.quit();
    }
}

#[test]
fn other_harnesses_are_asked_for_their_tests_or_judged_by_their_exit_status() {
    let mut worker = worker(&["shared"]);
    let passes = worker.run("crates/harness/tests/passes.rs");
    assert_eq!((passes.summary().as_str(), passes.outcome()), ("passes passed", "passed"));
    let fails = worker.run("crates/harness/tests/fails.rs");
    assert_eq!((fails.summary().as_str(), fails.outcome()), ("fails failed", "failed"));
    assert_eq!(text(fails.test("fails"), "message"), "something is wrong");
    let lists = worker.run("crates/harness/tests/lists.rs");
    assert_eq!(lists.summary(), "first passed, second case failed, third skipped");
    let second = worker.run_tests("crates/harness/tests/lists.rs", &["second case"]);
    assert_eq!(second.summary(), "second case failed");
    worker.quit();
}

#[test]
fn single_tests_run_by_their_ids() {
    for isolation in ["shared", "process"] {
        let mut worker = worker(&[isolation]);
        let unit = "crates/outcomes/src/lib.rs";
        let some = worker.run_tests(unit, &["tests::passes", "tests::is_ignored_for_a_reason"]);
        assert_eq!(some.summary(), "tests::is_ignored_for_a_reason skipped, tests::passes passed");
        assert_eq!(some.outcome(), "passed");
        let gone = worker.run_tests(unit, &["tests::pass", "tests::passes"]);
        assert_eq!(gone.summary(), "tests::passes passed");
        assert_eq!(
            (gone.outcome(), gone.message()),
            ("failed", "the test tests::pass is not there any more")
        );
        worker.quit();
    }
}

#[test]
fn arguments_reach_cargo_and_the_test_binaries() {
    let mut chosen =
        worker(&["process", "-p", "outcomes", "--features", "extra", "--", "--include-ignored", "ignored"]);
    let report = chosen.run("crates/outcomes/src/lib.rs");
    assert_eq!(report.summary(), "tests::is_ignored failed, tests::is_ignored_for_a_reason failed");
    let other = chosen.run("tools/helper/src/lib.rs");
    assert_eq!(other.outcome(), "passed");
    assert!(other.message().starts_with("no tests: cargo builds none of it"), "{other:?}");
    chosen.quit();
    let mut filtered = worker(&["shared", "--test-threads", "4", "--skip=deeper", "is_ignored", "passes"]);
    let report = filtered.run("crates/outcomes/src/lib.rs");
    let expected = "tests::is_ignored skipped, tests::is_ignored_for_a_reason skipped, tests::passes passed";
    assert_eq!(report.summary(), expected);
    let documentation = filtered.run("crates/documented/src/lib.rs (doc tests)");
    assert_eq!((documentation.outcome(), documentation.message()), ("passed", "no tests"));
    filtered.quit();
    let mut exact = worker(&["shared", "tests::passes", "--exact"]);
    assert_eq!(exact.run("crates/outcomes/src/lib.rs").summary(), "tests::passes passed");
    exact.quit();
}

#[test]
fn arguments_that_make_no_sense_are_refused_before_the_first_unit() {
    let project = Project::empty();
    project.write("Cargo.toml", "[package]\nname = \"alone\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    project.write("src/lib.rs", "#[test]\nfn passes() {}\n");
    for (words, said) in [
        (
            &["--no-such"][..],
            "cargo does not take the arguments --no-such: unexpected argument '--no-such' found",
        ),
        (
            &["-p", "nowhere"],
            "cargo does not take the arguments -p nowhere: package ID specification `nowhere`",
        ),
        (&["--", "--no-such"], "cargo: test binaries have no option --no-such"),
        (&["--", "--format=json"], "the argument --format=json is for people"),
    ] {
        let unable = Worker::unable(&project, &[&["cargo", "shared"], words].concat(), &[]);
        assert!(text(&unable, "message").starts_with(said), "{words:?}: {unable}");
    }
}

#[test]
fn tests_find_the_environment_that_cargo_gives_them() {
    let directory = tempfile::tempdir().unwrap();
    let dumped = |name: &str| directory.path().join(name);
    let read = |name: &str| -> BTreeMap<String, String> {
        let text = fs::read_to_string(dumped(name)).unwrap();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let status = Command::new(env!("CARGO"))
        .args(["test", "--offline", "-p", "outcomes", "--test", "environment", "dumps"])
        .current_dir(workspace().path())
        .env_remove("CARGO_TARGET_DIR")
        .env("DUMP_ENVIRONMENT", dumped("cargo"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let file = dumped("worker");
    let variables = [("DUMP_ENVIRONMENT", file.to_str().unwrap())];
    let mut worker = Worker::ready_in(&workspace(), &["cargo", "shared"], &variables);
    let report = worker.run_tests("crates/outcomes/tests/environment.rs", &["dumps_its_environment"]);
    assert_eq!(report.outcome(), "passed", "{report:?}");
    worker.quit();
    let (cargos, own) = (read("cargo"), read("worker"));
    let of_cargo = |name: &&String| {
        name.starts_with("CARGO")
            || ["OUT_DIR", "FROM_BUILD_SCRIPT", "FROM_CONFIGURATION", "A_PATH"].contains(&name.as_str())
    };
    // Those of this very test are passed on by cargo, though not by every shell.
    let is_own = |name: &&String| std::env::var(name).is_ok_and(|value| value == cargos[*name]);
    for name in cargos.keys().filter(of_cargo).filter(|name| !is_own(name)) {
        assert_eq!(own.get(name), cargos.get(name), "{name}");
    }
    let places = |environment: &BTreeMap<String, String>| -> Vec<String> {
        environment["LD_LIBRARY_PATH"].split(':').map(str::to_owned).collect()
    };
    for place in
        places(&cargos).iter().filter(|place| !place.contains("toolchains") || place.contains("rustlib"))
    {
        assert!(places(&own).contains(place), "{place} is missing in {:?}", places(&own));
    }
}

#[test]
fn a_configured_runner_starts_the_binaries() {
    let project = Project::copy_of("cargo");
    project.write(".cargo/config.toml", "[target.'cfg(unix)']\nrunner = [\"env\", \"RUN_BY=runner\"]\n");
    project.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"tools/*\"]\nexclude = [\"crates\"]\nresolver = \"2\"\n",
    );
    project.write("tools/helper/src/lib.rs", "#[test]\nfn knows_its_runner() {\n    assert_eq!(std::env::var(\"RUN_BY\").unwrap(), \"runner\");\n}\n");
    let mut worker = Worker::ready_in(&project, &["cargo", "shared"], &[]);
    let report = worker.run("tools/helper/src/lib.rs");
    assert_eq!(report.outcome(), "passed", "{report:?}");
    worker.quit();
}

#[test]
fn a_workspace_is_built_once_for_all_workers_of_a_run() {
    let run = [("DISTRIBUTEST_RUN", "shared-by-two")];
    let first = Worker::ready_in(&workspace(), &["cargo", "shared"], &run);
    let mut second = Worker::ready_in(&workspace(), &["cargo", "shared"], &run);
    assert!(first.stderr().contains("mismatched types"));
    assert_eq!(second.stderr(), "", "cargo is not asked again");
    assert_eq!(second.run("crates/broken/src/lib.rs").outcome(), "broken");
    assert_eq!(second.run("tools/helper/src/lib.rs").outcome(), "passed");
    first.quit();
    second.quit();
}

#[test]
fn told_to_end_it_ends_the_test_first() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let mut worker =
        Worker::ready_in(&workspace(), &["cargo", "shared"], &[("HANGS_IN", file.to_str().unwrap())]);
    worker.send(&serde_json::json!({"type": "run", "file": "crates/crashes/tests/hangs.rs"}));
    let pid = wait_for_text(&file).trim().parse().unwrap();
    signal("TERM", worker.pid());
    assert!(!worker.wait().success());
    wait_until(|| (!is_alive(pid)).then_some(()));
}

#[test]
fn a_manifest_that_cargo_refuses_breaks_every_unit_with_its_words() {
    let project = Project::copy_of("cargo");
    project.write("tools/helper/Cargo.toml", "[package]\nname = \"helper\"\nversion = \"not one\"\n");
    let mut worker = Worker::ready_in(&project, &["cargo", "shared"], &[]);
    let report = worker.run("crates/outcomes/src/lib.rs");
    assert_eq!(report.outcome(), "broken");
    assert!(report.details().contains("not one"), "{report:?}");
    worker.quit();
}

#[test]
fn without_cargo_it_says_where_it_looked() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    let environment = [("PATH", "/nonexistent"), ("HOME", home), ("CARGO_HOME", home)];
    let unable = Worker::unable(&workspace(), &["cargo", "shared"], &environment);
    assert!(text(&unable, "message").contains("PATH"), "{unable}");
    assert!(text(&unable, "hint").contains("node_setup"), "{unable}");
}
