//! What a worker in Ruby keeps apart, and what it doesn't: connections, coverage, threads; with a real Rails application.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

use crate::ruby::start;
use crate::support::{Project, Start, assert_same, wait_until};

/// What RSpec or Minitest takes for a passing test with that body, in a file named `name`.
fn write_test(project: &Project, framework: &str, name: &str, body: &str) -> String {
    let (file, text) = match framework {
        "rspec" => (
            format!("spec/{name}_spec.rb"),
            format!("RSpec.describe('{name}') {{ it('works') {{ {body} }} }}\n"),
        ),
        _ => {
            let text = format!("class T{name} < Minitest::Test\n  def test_it\n    {body}\n  end\nend\n");
            (format!("test/{name}_test.rb"), text)
        }
    };
    let helper = if framework == "rspec" { "require 'spec_helper'\n" } else { "require 'test_helper'\n" };
    project.write(&file, &format!("{helper}{text}"));
    file
}

fn write_helper(project: &Project, framework: &str, text: &str) {
    match framework {
        "rspec" => project.write("spec/spec_helper.rb", text),
        _ => project.write("test/test_helper.rb", &format!("{text}\nrequire 'minitest/autorun'\n")),
    }
}

#[test]
fn coverage_of_all_files_is_merged() {
    for framework in ["rspec", "minitest"] {
        for isolation in Isolation::ALL {
            let project = Project::empty();
            write_helper(
                &project,
                framework,
                "require 'simplecov'\nSimpleCov.start\nrequire_relative '../lib/covered'",
            );
            project.write(
                "lib/covered.rb",
                "def first\n  1\nend\n\ndef second\n  2\nend\n\ndef never\n  3\nend\n",
            );
            let files = ["first", "second"]
                .map(|name| write_test(&project, framework, name, &format!("raise if {name} == 0")));
            if isolation == Isolation::Process {
                for file in &files {
                    let mut worker = start(framework, isolation).ready_worker(&project);
                    assert_eq!(worker.run(file).outcome(), "passed");
                    worker.quit();
                }
            } else {
                let mut worker = start(framework, isolation).ready_worker(&project);
                for file in &files {
                    assert_eq!(worker.run(file).outcome(), "passed");
                }
                worker.quit();
            }
            let covered = covered_lines(&project.path().join("coverage/.resultset.json"));
            let expected = covered.contains(&2) && covered.contains(&6);
            assert!(expected, "{framework} {isolation:?}: {covered:?}");
            assert!(!covered.contains(&10), "{framework} {isolation:?}: {covered:?}");
            assert!(project.path().join("coverage/index.html").is_file(), "{framework} {isolation:?}");
        }
    }
}

/// The lines, from 1, that any process has run.
fn covered_lines(resultset: &Path) -> Vec<usize> {
    let results: Value = serde_json::from_slice(&fs::read(resultset).unwrap()).unwrap();
    let mut covered = Vec::new();
    for result in results.as_object().unwrap().values() {
        for file in result["coverage"].as_object().unwrap().values() {
            let lines = file["lines"].as_array().unwrap().iter().enumerate();
            covered.extend(lines.filter(|(_, count)| count.as_u64() > Some(0)).map(|(index, _)| index + 1));
        }
    }
    covered
}

/// A program that is ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn connections_that_the_helper_opened_are_not_shared() {
    for framework in ["rspec", "minitest"] {
        let project = Project::empty();
        let program = "server = UNIXServer.new('redis.sock')\n\
             loop { Thread.new(server.accept) { |c| while (l = c.gets); c.write(\"+PONG\\r\\n\") if l =~ /ping/i; end } }";
        let server =
            Command::new("ruby").args(["-rsocket", "-e", program]).current_dir(project.path()).spawn();
        let _server = Server(server.unwrap());
        let socket = project.path().join("redis.sock");
        wait_until(Instant::now() + Duration::from_secs(60), || socket.exists().then_some(()));
        let helper = "require 'redis'\nrequire 'sequel'\n$redis = Redis.new(path: 'redis.sock')\n$redis.ping\n\
             DB = Sequel.sqlite('test.sqlite3')\n$connection = DB.synchronize { |connection| connection }";
        write_helper(&project, framework, helper);
        let body = "raise 'no Redis' unless $redis.ping == 'PONG'; \
             raise 'the same SQLite' if DB.synchronize { |connection| connection }.equal?($connection)";
        let files = ["One", "Two"].map(|name| write_test(&project, framework, name, body));
        let mut worker = start(framework, Isolation::Fork).ready_worker(&project);
        for file in &files {
            let report = worker.run(file);
            assert_eq!(report.outcome(), "passed", "{framework}: {:?}", report.tests);
        }
        worker.quit();
    }
}

#[test]
fn threads_that_the_helper_started_are_warned_of() {
    for framework in ["rspec", "minitest"] {
        let project = Project::empty();
        write_helper(&project, framework, "require 'timeout'\nTimeout.timeout(60) {}\nThread.new { sleep }");
        let file = write_test(&project, framework, "Threads", "true");
        let mut worker = start(framework, Isolation::Fork).ready_worker(&project);
        assert_eq!(worker.run(&file).outcome(), "passed");
        let output = worker.quit();
        assert!(output.contains("loading the project started 1 thread(s)"), "{output}");
    }
}

/// Statuses by test, of `bin/rails test --verbose`: `BookTest#test_one = 0.01 s = .`.
fn rails_reference(project: &Project) -> BTreeMap<String, String> {
    let output = Command::new("ruby")
        .args(["bin/rails", "test", "--verbose"])
        .current_dir(project.path())
        .env("PARALLEL_WORKERS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let tests = text.lines().filter_map(|line| {
        let (test, result) = line.split_once(" = ")?;
        let status = match result.split_once(" s = ")?.1 {
            "." => "passed",
            "F" => "failed",
            "E" => "error",
            _ => "skipped",
        };
        Some((test.to_owned(), status.to_owned()))
    });
    tests.collect()
}

#[test]
fn tests_of_a_rails_application_have_the_same_results_as_with_rails_test() {
    let project = Project::copy_of("rails");
    let mut expected = rails_reference(&project);
    assert_eq!(expected.len(), 8, "{expected:?}");
    // It notices that it runs in a fork.
    assert_eq!(expected.remove("ConnectionTest#test_is_one_of_this_process").unwrap(), "skipped");
    expected.insert("ConnectionTest#test_is_one_of_this_process".to_owned(), "passed".to_owned());
    let discovered = discover(project.path(), &Selection::of(Framework::named("minitest").unwrap())).unwrap();
    let mut worker = start("minitest", Isolation::Fork).ready_worker(&project);
    let mut actual = BTreeMap::new();
    for file in discovered.files {
        actual.extend(worker.run(&file.path).statuses());
    }
    assert_same(&actual, &expected);
    let declared = worker.run_tests("test/models/author_test.rb", &["AuthorTest#test_needs_a_name"]);
    assert_eq!(
        (declared.outcome(), declared.tests.len(), &declared.tests[0]["line"]),
        ("passed", 1, &Value::from(10))
    );
    let output = worker.quit();
    assert!(!output.contains("thread(s)"), "{output}");
}

#[test]
fn specs_of_a_rails_application_reconnect_after_the_fork() {
    let project = Project::copy_of("rails");
    let mut worker = start("rspec", Isolation::Fork).ready_worker(&project);
    let report = worker.run("spec/models/author_spec.rb");
    let failed: Vec<String> =
        report.statuses().into_iter().filter(|(_, status)| status != "passed").map(|(id, _)| id).collect();
    assert_eq!((report.tests.len(), failed), (5, vec!["./spec/models/author_spec.rb[1:4]".to_owned()]));
    let details = report.test("./spec/models/author_spec.rb[1:4]")["details"].as_str().unwrap();
    assert!(details.contains("expected: \"Ursula\"") && !details.contains("fork"), "{details}");
    let report = worker.run("spec/models/connection_spec.rb");
    assert_eq!(report.statuses().into_values().collect::<Vec<_>>(), ["passed"], "{:?}", report.tests);
    worker.quit();
}

/// With `fork`, a file fails whose own exit handlers do.
#[test]
fn what_fails_in_exit_handlers_behind_the_last_file_is_told() {
    for framework in ["rspec", "minitest", "test-unit"] {
        for isolation in [Isolation::Shared, Isolation::Process] {
            let project = Project::empty();
            let file = write_ending_test(&project, framework);
            for may_stay in [false, true] {
                let mut worker = Start { may_stay, ..start(framework, isolation) }.ready_worker(&project);
                assert_eq!(worker.run(&file).outcome(), "passed");
                let (_, failures) = worker.quit_with_failures();
                let told = "behind the last file, the process that ran the files left with exit status 3";
                assert_eq!(failures, [told], "{framework} {isolation:?}");
            }
        }
    }
}

/// A file with a test that passes, whose process leaves with exit status 3.
fn write_ending_test(project: &Project, framework: &str) -> String {
    if framework == "test-unit" {
        let text = "require 'test/unit'\nclass TEnds < Test::Unit::TestCase\n  def test_it\n    at_exit { exit!(3) }\n  end\nend\n";
        project.write("test/ends_test.rb", text);
        return "test/ends_test.rb".to_owned();
    }
    write_helper(project, framework, "");
    write_test(project, framework, "ends", "at_exit { exit!(3) }")
}

#[test]
fn the_coverage_of_a_part_of_the_files_is_not_measured_by_that_of_all() {
    let start_measuring = "require 'simplecov'; SimpleCov.start { minimum_coverage 100; minimum_coverage_by_file 100 }; load 'lib/covered.rb'";
    for framework in ["rspec", "minitest"] {
        for isolation in Isolation::ALL {
            for (helper, body) in [(start_measuring, "nil"), ("", start_measuring)] {
                let project = Project::empty();
                write_helper(&project, framework, helper);
                project.write("lib/covered.rb", "def never\n  3\nend\n");
                let file = write_test(&project, framework, "nothing", body);
                let mut worker = start(framework, isolation).ready_worker(&project);
                let report = worker.run(&file);
                assert_eq!(report.outcome(), "passed", "{framework} {isolation:?}: {}", report.message());
                worker.quit();
            }
        }
    }
}

#[test]
fn what_a_test_leaves_changed_does_not_mislead_the_worker() {
    for framework in ["rspec", "minitest"] {
        for isolation in [Isolation::Fork, Isolation::Shared] {
            let project = Project::empty();
            write_helper(&project, framework, "");
            let bodies = [
                ("goes", "Dir.chdir('/')", "passed"),
                ("follows", "nil", "passed"),
                ("bytes", "raise \"\\xff\"", "failed"),
                (
                    "thread",
                    "Thread.new { Dir.chdir(Dir.pwd) { sleep } }; Thread.pass until Thread.list.last.stop?",
                    "passed",
                ),
                ("behind", "nil", "passed"),
                ("numbers", "Process.define_singleton_method(:pid) { 42 }", "passed"),
            ];
            let files =
                bodies.map(|(name, body, outcome)| (write_test(&project, framework, name, body), outcome));
            let mut worker = start(framework, isolation).ready_worker(&project);
            for (file, outcome) in files {
                let report = worker.run(&file);
                assert_eq!(
                    report.outcome(),
                    outcome,
                    "{framework} {isolation:?} {file}: {}",
                    report.message()
                );
                let statuses: Vec<_> = report.statuses().into_values().collect();
                assert_eq!(statuses.len(), 1, "{file}: {statuses:?}");
                assert_eq!(statuses == ["passed"], outcome == "passed", "{file}: {statuses:?}");
            }
            worker.quit();
        }
    }
}
