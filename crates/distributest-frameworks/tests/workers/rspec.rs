//! The RSpec worker against a real RSpec.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

use crate::support::{
    FileReport, Project, Start, Worker, ask_for_stacks, assert_same, wait_for_end_of, wait_for_text,
};

/// Files that end or break the whole of a plain RSpec run or its JSON, or notice that it is one process.
const MISBEHAVING: [&str; 13] = [
    "spec/after_context_spec.rb",
    "spec/crashes_spec.rb",
    "spec/exit_bang_spec.rb",
    "spec/exits_spec.rb",
    "spec/exits_while_loading_spec.rb",
    "spec/hangs_spec.rb",
    "spec/invalid_bytes_spec.rb",
    "spec/isolation_1_spec.rb",
    "spec/isolation_2_spec.rb",
    "spec/load_error_spec.rb",
    "spec/processes_spec.rb",
    "spec/raises_while_loading_spec.rb",
    "spec/syntax_error_spec.rb",
];

pub(crate) fn start(isolation: Isolation) -> Start<'static> {
    let has_rspec = Command::new("ruby").args(["-e", "require 'rspec/core'"]).output();
    assert!(
        has_rspec.is_ok_and(|output| output.status.success()),
        "these tests need RSpec for ruby: apt-get install ruby-rspec"
    );
    Start {
        framework: Framework::named("rspec").unwrap(),
        program: PathBuf::from("ruby"),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

fn forking(project: &Project) -> Worker {
    start(Isolation::Fork).ready_worker(project)
}

/// What RSpec's JSON formatter and the worker can both say of an example: status (pending or skipped is one to RSpec),
/// description, file, line and pending message.
type Example = (String, String, String, u64, String);

fn reference(project: &Project, files: &[&str]) -> BTreeMap<String, Example> {
    let report = project.directory.path().join("report.json");
    let output = Command::new("ruby")
        .args(["-S", "rspec", "--format", "json", "--out"])
        .arg(&report)
        .args(["--exclude-pattern", &MISBEHAVING.join(",")])
        .args(files)
        .current_dir(project.path())
        .env_remove("SPEC_OPTS")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let text = |example: &Value, key: &str| example[key].as_str().unwrap_or_default().to_owned();
    let examples = report["examples"].as_array().unwrap().iter().map(|example| {
        let file = text(example, "file_path").trim_start_matches("./").to_owned();
        let line = example["line_number"].as_u64().unwrap();
        let described = (
            text(example, "status"),
            text(example, "full_description"),
            file,
            line,
            text(example, "pending_message"),
        );
        (text(example, "id"), described)
    });
    examples.collect()
}

fn reported(report: &FileReport) -> BTreeMap<String, Example> {
    report.statuses();
    let text = |test: &Value, key: &str| test[key].as_str().unwrap().to_owned();
    let tests = report.tests.iter().map(|test| {
        let pending = matches!(test["status"].as_str().unwrap(), "skipped" | "expected_failure");
        let described = (
            if pending { "pending".to_owned() } else { text(test, "status") },
            text(test, "name"),
            text(test, "file"),
            test["line"].as_u64().unwrap(),
            if pending { text(test, "message") } else { String::new() },
        );
        (text(test, "id"), described)
    });
    tests.collect()
}

#[test]
fn reports_the_same_examples_with_the_same_status_as_rspec() {
    let project = Project::copy_of("rspec");
    let mut expected = reference(&project, &[]);
    assert!(expected.len() > 30, "the fixture has many examples: {}", expected.len());
    // RSpec's JSON has the message of a pending example that passes, which fails; the worker says why it failed.
    let fixed = expected.get_mut("./spec/outcomes_spec.rb[1:8]").unwrap();
    assert_eq!((fixed.0.as_str(), fixed.4.as_str()), ("failed", "fixed meanwhile"));
    fixed.4.clear();
    let discovered = discover(project.path(), &Selection::of(Framework::named("rspec").unwrap())).unwrap();
    let mut worker = forking(&project);
    let mut actual = BTreeMap::new();
    for file in discovered.files.iter().filter(|file| !MISBEHAVING.contains(&file.path.as_str())) {
        let report = worker.run(&file.path);
        let tests = reported(&report);
        let failed = tests.values().any(|example| example.0 == "failed");
        assert_eq!(report.outcome(), if failed { "failed" } else { "passed" }, "{}", file.path);
        actual.extend(tests);
    }
    assert_same(&actual, &expected);
    worker.quit();
}

#[test]
fn tells_pending_from_skipped_and_gives_rspecs_account_of_a_failure() {
    let project = Project::copy_of("rspec");
    let mut worker = forking(&project);
    let report = worker.run("spec/outcomes_spec.rb");
    let statuses = report.statuses();
    assert_eq!(statuses["./spec/outcomes_spec.rb[1:4]"], "skipped");
    assert_eq!(statuses["./spec/outcomes_spec.rb[1:6]"], "skipped");
    assert_eq!(statuses["./spec/outcomes_spec.rb[1:7]"], "expected_failure");
    let failing = report.test("./spec/outcomes_spec.rb[1:2]");
    assert_eq!(failing["message"], "expected: 3 got: 2");
    let details = failing["details"].as_str().unwrap();
    assert!(details.contains("Failure/Error: expect(calculator.add(1, 1)).to eq(3)"), "{details}");
    assert!(details.contains("# ./spec/outcomes_spec.rb:9:in"), "{details}");
    assert!(!details.contains("rspec_worker.rb"), "{details}");
    assert_eq!(report.test("./spec/outcomes_spec.rb[1:3]")["message"], "ZeroDivisionError: divided by 0");
    worker.quit();
}

#[test]
fn shared_and_process_isolation_report_the_same() {
    let project = Project::copy_of("rspec");
    let files = ["spec/outcomes_spec.rb", "spec/names_spec.rb", "spec/sub/nested_spec.rb"];
    let mut shared = start(Isolation::Shared).ready_worker(&project);
    let mut forking = forking(&project);
    for file in files {
        let expected = reported(&forking.run(file));
        assert_same(&reported(&shared.run(file)), &expected);
        let mut process = start(Isolation::Process).ready_worker(&project);
        assert_same(&reported(&process.run(file)), &expected);
        process.quit();
    }
    forking.quit();
    shared.quit();
}

#[test]
fn a_file_that_does_not_load_is_broken_and_says_why() {
    let project = Project::copy_of("rspec");
    let mut worker = forking(&project);
    for (file, message) in [
        ("spec/syntax_error_spec.rb", "SyntaxError: "),
        ("spec/load_error_spec.rb", "LoadError: cannot load such file -- no_such_library_anywhere"),
        ("spec/raises_while_loading_spec.rb", "NameError: uninitialized constant UnknownConstant"),
        ("spec/exits_while_loading_spec.rb", "SystemExit: exit"),
        ("spec/no_such_spec.rb", "LoadError: cannot load such file"),
    ] {
        let report = worker.run(file);
        assert_eq!(report.outcome(), "broken", "{file}");
        assert!(report.message().contains(message), "{file}: {}", report.message());
        assert!(!report.finished["details"].as_str().unwrap().is_empty(), "{file}");
    }
    let empty = worker.run("spec/empty_spec.rb");
    assert_eq!((empty.outcome(), empty.message()), ("passed", "no examples"));
    worker.quit();
}

#[test]
fn an_error_outside_of_examples_fails_a_file_that_loaded() {
    let project = Project::copy_of("rspec");
    project.write(
        "spec/before_suite_spec.rb",
        "RSpec.configure { |c| c.before(:suite) { raise 'no suite' } }\nRSpec.describe('x') { it('never runs') {} }\n",
    );
    for isolation in Isolation::ALL {
        for (file, examples, message) in [
            ("spec/exits_spec.rb", 2, "`exit` was called with status 3 in ./spec/exits_spec.rb[1:2]"),
            (
                "spec/after_context_spec.rb",
                1,
                "an error occurred outside of examples: RuntimeError: context's tear-down went wrong",
            ),
            ("spec/before_suite_spec.rb", 0, "an error occurred outside of examples: RuntimeError: no suite"),
        ] {
            let mut worker = start(isolation).ready_worker(&project);
            let report = worker.run(file);
            assert_eq!((report.outcome(), report.message()), ("failed", message), "{isolation:?}");
            assert_eq!(report.tests.len(), examples, "{file}");
            assert!(!report.finished["details"].as_str().unwrap().is_empty(), "{file}");
            if file == "spec/exits_spec.rb" {
                assert_eq!(report.test("./spec/exits_spec.rb[1:2]")["status"], "error");
            }
            worker.quit();
        }
    }
}

#[test]
fn an_exit_handler_that_changes_the_exit_status_fails_the_file() {
    let project = Project::empty();
    let spec = |handler: &str| format!("{handler}\nRSpec.describe('x') {{ it('passes') {{}} }}\n");
    project.write("spec/exits_spec.rb", &spec("at_exit { exit 7 }"));
    project.write("spec/raises_spec.rb", &spec("at_exit { raise 'late' }"));
    project.write("spec/prints_spec.rb", &spec("at_exit { puts 'late' }"));
    let mut worker = forking(&project);
    for (file, status) in [("spec/exits_spec.rb", 7), ("spec/raises_spec.rb", 1)] {
        let report = worker.run(file);
        let message =
            format!("no test failed, but the process running this file left with exit status {status}");
        assert_eq!((report.outcome(), report.message()), ("failed", message.as_str()), "{file}");
        assert_eq!(report.tests.len(), 1, "{file}");
    }
    assert_eq!(worker.run("spec/prints_spec.rb").outcome(), "passed");
    worker.quit();
}

#[test]
fn an_example_that_ends_its_process_is_named_and_its_last_words_are_kept() {
    let project = Project::copy_of("rspec");
    for isolation in Isolation::ALL {
        for (file, example, how) in [
            ("spec/crashes_spec.rb", "[1:2]", "died of signal 9 (SIGKILL)"),
            ("spec/exit_bang_spec.rb", "[1:1]", "left with exit status 0"),
        ] {
            let mut worker = start(isolation).ready_worker(&project);
            let report = worker.run(file);
            let id = format!("./{file}{example}");
            assert_eq!(report.outcome(), "crashed");
            assert!(report.message().contains(how) && report.message().contains(&id), "{}", report.message());
            assert_eq!(report.test(&id)["status"], "error");
            if isolation == Isolation::Fork {
                assert_eq!(worker.run("spec/empty_spec.rb").outcome(), "passed");
            }
            assert!(file != "spec/crashes_spec.rb" || worker.output().contains("last words"));
        }
    }
}

#[test]
fn a_forked_child_that_returns_from_its_example_ends_there() {
    let project = Project::empty();
    project.write(
        "spec/forks_spec.rb",
        "RSpec.configure { |c| c.after(:suite) { File.write('sessions', \"finished\\n\", mode: 'a') } }\n\
         RSpec.describe('a child') do\n  it('forks') { (child = fork) && File.write('child', \"#{child}\\n\") }\n  \
         it('is next') { File.write('next', \"ran\\n\", mode: 'a') }\nend\n",
    );
    project.write("spec/other_spec.rb", "RSpec.describe('other') { it('passes') {} }\n");
    for isolation in Isolation::ALL {
        for file in ["child", "next", "sessions"] {
            project.write(file, "");
        }
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run("spec/forks_spec.rb");
        assert_eq!((report.outcome(), report.tests.len()), ("passed", 2), "{isolation:?}");
        wait_for_end_of(wait_for_text(&project.path().join("child")).trim().parse().unwrap());
        let lines = |file: &str| wait_for_text(&project.path().join(file)).lines().count();
        assert_eq!((lines("next"), lines("sessions")), (1, 1), "{isolation:?}");
        if isolation != Isolation::Process {
            assert_eq!(worker.run("spec/other_spec.rb").tests.len(), 1, "{isolation:?}");
        }
        worker.quit();
    }
}

#[test]
fn every_byte_an_example_writes_comes_out() {
    let project = Project::copy_of("rspec");
    let mut worker = forking(&project);
    let report = worker.run("spec/output_spec.rb");
    let raw = worker.raw_output();
    let long_line = [b'x'; 64 * 1024];
    assert_eq!(raw.split(|byte| *byte == b'\n').filter(|line| **line == long_line).count(), 40);
    for expected in [&b"puts\n"[..], b"warn\n", b"program\n", b"raw \xff\xfe bytes\n"] {
        assert!(raw.windows(expected.len()).any(|window| window == expected), "{expected:?}");
    }
    let huge = report.test("./spec/output_spec.rb[1:3]");
    let details = huge["details"].as_str().unwrap();
    assert!(details.len() < 1_100_000 && details.contains("characters left out"), "{}", details.len());
    let invalid = worker.run("spec/invalid_bytes_spec.rb");
    let failing = &invalid.tests[0];
    assert_eq!(failing["name"], "invalid bytes fails with \u{fffd}");
    assert_eq!(failing["message"], "RuntimeError: invalid \u{fffd} byte");
    worker.quit();
}

#[test]
fn files_do_not_see_each_other_and_exit_handlers_run_where_they_belong() {
    let project = Project::copy_of("rspec");
    let mut worker = forking(&project);
    for file in ["spec/isolation_1_spec.rb", "spec/isolation_2_spec.rb", "spec/processes_spec.rb"] {
        let report = worker.run(file);
        assert_eq!(report.outcome(), "passed", "{file}: {:?}", report.statuses());
    }
    worker.run("spec/output_spec.rb");
    let output = worker.quit();
    let after =
        |word: &str| -> Vec<&str> { output.lines().filter_map(|line| line.strip_prefix(word)).collect() };
    let numbers = after("random ");
    assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{output}");
    assert_eq!(after("exit handler of the "), ["spec file", "helper in process that loaded it"]);
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
        let project = Project::copy_of("rspec");
        let mut worker = Start { may_stay, ..start(isolation) }.ready_worker(&project);
        worker.send_run("spec/hangs_spec.rb");
        let pid: u32 = wait_for_text(&project.path().join("hanging.txt")).trim().parse().unwrap();
        ask_for_stacks(pid, "-16");
        worker.wait_for_output("spec/hangs_spec.rb:7:in");
        if abandon {
            worker.abandon();
        } else {
            let kill = Command::new("kill").args(["-TERM", &worker.pid().to_string()]).status().unwrap();
            assert!(kill.success());
        }
        assert!(!worker.wait().success());
        wait_for_end_of(pid);
        assert!(worker.output().contains("written before the hang"), "{isolation:?}: {}", worker.output());
    }
}

#[test]
fn a_helper_that_spec_files_require_is_loaded_once() {
    let project = Project::empty();
    project.write(
        "spec/rails_helper.rb",
        "puts \"helper loaded\"\nRSpec.configure { |c| c.mock_with :nothing }\n",
    );
    let spec = "require 'rails_helper'\nRSpec.describe('x') { it('passes') { expect(1).to eq(1) } }\n";
    project.write("spec/one_spec.rb", spec);
    project.write("spec/two_spec.rb", spec);
    let mut worker = forking(&project);
    assert_eq!(worker.run("spec/one_spec.rb").outcome(), "passed");
    assert_eq!(worker.run("spec/two_spec.rb").outcome(), "passed");
    assert_eq!(worker.quit().matches("helper loaded").count(), 1);
}

#[test]
fn a_database_in_memory_is_set_up_by_every_file() {
    let project = Project::copy_of("rspec_database_in_memory");
    let mut worker = forking(&project);
    assert_eq!(worker.run("spec/one_spec.rb").outcome(), "passed");
    assert_eq!(worker.run("spec/two_spec.rb").outcome(), "passed");
    let output = worker.quit();
    assert!(output.contains("keeps a database in memory"), "{output}");
}

#[test]
fn says_why_it_cannot_work() {
    let project = Project::empty();
    project.write(".rspec", "--no-such-option\n");
    let unable = start(Isolation::Fork).worker(&project).next().unwrap();
    assert_eq!(unable["type"], "unable");
    assert!(unable["message"].as_str().unwrap().contains("--no-such-option"), "{unable}");

    project.write(".rspec", "--tag ~slow\n");
    let path = Start { arguments: &["--tag", "fast", "spec/a_spec.rb"], ..start(Isolation::Fork) };
    let unable = path.worker(&project).next().unwrap();
    assert_eq!(unable["message"], "RSpec does not run spec/a_spec.rb because it stands behind --");

    project.write(".rspec", "--require ./broken_helper\n");
    project.write("broken_helper.rb", "raise 'the helper is broken'\n");
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start(isolation).worker(&project);
        let unable = worker.next().unwrap();
        assert_eq!(unable["type"], "unable");
        assert!(unable["message"].as_str().unwrap().contains("the helper is broken"), "{unable}");
        assert_eq!(worker.next(), None);
    }

    project.write(".rspec", "");
    project.write("no_rspec.rb", "module Kernel\n  alias before require\n  def require(name) = name.start_with?('rspec') ? raise(LoadError) : before(name)\nend\n");
    let without_rspec = Start { program_arguments: &["-r./no_rspec.rb"], ..start(Isolation::Fork) };
    let unable = without_rspec.worker(&project).next().unwrap();
    assert!(unable["message"].as_str().unwrap().starts_with("RSpec is not installed for /"), "{unable}");
    assert!(unable["hint"].as_str().unwrap().ends_with("gem install rspec"), "{unable}");
}

#[test]
fn examples_and_groups_are_run_by_their_ids_and_one_that_is_gone_is_named() {
    let project = Project::empty();
    project.write(
        "spec/a_spec.rb",
        "RSpec.describe('a') do\n  it('one') {}\n  it('two', :slow) {}\n  describe('b') do\n    it('three') {}\n    \
         it('four') { fail }\n  end\n  shared_examples('s') { it('five') {} }\n  include_examples('s')\nend\n",
    );
    project.write(".rspec", "--tag ~slow\n");
    let file = "spec/a_spec.rb";
    let id = |place: &str| format!("./{file}{place}");
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start(isolation).ready_worker(&project);
        for (asked, ran, outcome) in [
            (vec!["[1:1]"], vec!["[1:1]"], "passed"),
            (vec!["[1:3]", "[1:4]"], vec!["[1:3:1]", "[1:3:2]", "[1:4]"], "failed"),
            (vec!["[1:2]"], vec!["[1:2]"], "passed"),
            (vec![":5"], vec!["[1:3:1]"], "passed"),
            (vec![], vec!["[1:1]", "[1:3:1]", "[1:3:2]", "[1:4]"], "failed"),
        ] {
            let asked: Vec<String> = asked.into_iter().map(id).collect();
            let report = worker.run_tests(file, &asked.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(report.outcome(), outcome, "{isolation:?} {asked:?}: {}", report.message());
            let ran: Vec<String> = ran.into_iter().map(id).collect();
            assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), ran, "{isolation:?} {asked:?}");
        }
        let gone = worker.run_tests(file, &[&id("[1:1]"), &id("[1:9]")]);
        assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no example ./spec/a_spec.rb[1:9]"));
        assert_eq!(gone.statuses().into_keys().collect::<Vec<_>>(), [id("[1:1]")]);
        worker.quit();
    }
}

#[test]
fn an_example_fails_also_after_what_rspec_needs_to_say_so_is_gone() {
    let closes = "$stdout.close";
    let removes = "Dir.mktmpdir.then { |one| Dir.chdir(one); Dir.rmdir(one) }";
    for what in [closes, removes] {
        let project = Project::empty();
        let examples = format!("it('a') {{ {what} }}\n  it('b') {{ expect(1).to eq(2) }}");
        project.write(
            "spec/a_spec.rb",
            &format!("require 'tmpdir'\nRSpec.describe('it') do\n  {examples}\nend\n"),
        );
        let mut worker = forking(&project);
        let report = worker.run("spec/a_spec.rb");
        assert_eq!(report.outcome(), "failed", "{what}: {}", report.message());
        let statuses: Vec<_> = report.statuses().into_values().collect();
        assert_eq!(statuses, ["passed", "failed"], "{what}");
        worker.quit();
    }
}
