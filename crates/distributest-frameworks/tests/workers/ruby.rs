//! What the workers for Minitest and test-unit have in common, and what all workers in Ruby do with a project.

use std::path::PathBuf;
use std::process::Command;

use distributest_frameworks::{Framework, Isolation};

use crate::support::{Project, Start, Worker, wait_for_end_of, wait_for_text};

/// A framework of test classes.
struct Library {
    framework: &'static str,
    require: &'static str,
    class: &'static str,
}

const LIBRARIES: [Library; 2] = [
    Library { framework: "minitest", require: "minitest/autorun", class: "Minitest::Test" },
    Library { framework: "test-unit", require: "test/unit", class: "Test::Unit::TestCase" },
];

impl Library {
    /// A project with a helper, which holds `helper` besides what loads the framework.
    fn project(&self, helper: &str) -> Project {
        let project = Project::empty();
        project.write("test/test_helper.rb", &format!("require \"{}\"\n{helper}\n", self.require));
        project
    }

    /// A test file with one class.
    fn write(&self, project: &Project, name: &str, class: &str, body: &str) {
        let text = format!("require \"test_helper\"\nclass {class} < {}\n{body}\nend\n", self.class);
        project.write(&format!("test/{name}_test.rb"), &text);
    }

    fn ready(&self, project: &Project, isolation: Isolation) -> Worker {
        start(self.framework, isolation).ready_worker(project)
    }
}

/// How to start the worker of a framework of Ruby's.
pub(crate) fn start(framework: &str, isolation: Isolation) -> Start<'static> {
    Start {
        framework: Framework::named(framework).unwrap(),
        program: PathBuf::from("ruby"),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

#[test]
fn a_file_that_does_not_load_is_broken_and_says_why() {
    for library in &LIBRARIES {
        let project = library.project("");
        for (name, text) in [
            ("syntax_error", "def\n"),
            ("load_error", "require 'no_such_library_anywhere'\n"),
            ("raises", "UnknownConstant\n"),
            ("exits", "exit 3\n"),
            ("empty", "\n"),
        ] {
            project.write(&format!("test/{name}_test.rb"), text);
        }
        let mut worker = library.ready(&project, Isolation::Fork);
        for (name, message) in [
            ("syntax_error", "SyntaxError: "),
            ("load_error", "LoadError: cannot load such file -- no_such_library_anywhere"),
            ("raises", "NameError: uninitialized constant UnknownConstant"),
            ("exits", "SystemExit: `exit` was called with status 3"),
            ("no_such", "LoadError: cannot load such file"),
        ] {
            let report = worker.run(&format!("test/{name}_test.rb"));
            assert_eq!(report.outcome(), "broken", "{name}");
            assert!(report.message().contains(message), "{name}: {}", report.message());
            assert!(!report.finished["details"].as_str().unwrap().is_empty(), "{name}");
        }
        let empty = worker.run("test/empty_test.rb");
        assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
        worker.quit();
    }
}

#[test]
fn a_test_that_ends_its_process_is_named_and_its_last_words_are_kept() {
    for library in &LIBRARIES {
        let project = library.project("");
        let body =
            |end: &str| format!("  def test_a; end\n  def test_b\n    puts 'last words'\n    {end}\n  end");
        library.write(&project, "killed", "KilledTest", &body("Process.kill(:KILL, Process.pid); sleep"));
        library.write(&project, "exit_bang", "ExitBangTest", &body("exit!(0)"));
        library.write(&project, "exits", "ExitsTest", &body("exit(3)"));
        library.write(&project, "fine", "FineTest", "  def test_a; end");
        for isolation in Isolation::ALL {
            for (name, id, how) in [
                ("killed", "KilledTest#test_b", "died of signal 9 (SIGKILL)"),
                ("exit_bang", "ExitBangTest#test_b", "left with exit status 0"),
            ] {
                let mut worker = library.ready(&project, isolation);
                let report = worker.run(&format!("test/{name}_test.rb"));
                assert_eq!(report.outcome(), "crashed", "{}", report.message());
                assert!(
                    report.message().contains(how) && report.message().contains(id),
                    "{}",
                    report.message()
                );
                assert_eq!(report.test(id)["status"], "error");
                assert_eq!(report.test(id)["name"], id);
                assert!(worker.output().contains("last words"));
                if isolation == Isolation::Fork {
                    assert_eq!(worker.run("test/fine_test.rb").outcome(), "passed");
                }
            }
            let mut worker = library.ready(&project, isolation);
            let report = worker.run("test/exits_test.rb");
            let message = "`exit` was called with status 3 in ExitsTest#test_b";
            assert_eq!((report.outcome(), report.message()), ("failed", message), "{isolation:?}");
            assert_eq!(report.test("ExitsTest#test_b")["status"], "error");
        }
    }
}

#[test]
fn a_test_that_closes_every_descriptor_crashes_its_own_file_only() {
    for library in &LIBRARIES {
        let project = library.project("");
        let closing = "  def test_a\n    (3..255).each { |n| IO.for_fd(n).close rescue nil }\n  end";
        library.write(&project, "closes_descriptors", "DescriptorsTest", closing);
        let closing = "  def test_a\n    ObjectSpace.each_object(IO) { |io| io.close rescue nil }\n  end";
        library.write(&project, "closes_objects", "ObjectsTest", closing);
        library.write(&project, "fine", "FineTest", "  def test_a; end");
        let mut worker = library.ready(&project, Isolation::Fork);
        for name in ["closes_descriptors", "closes_objects"] {
            let report = worker.run(&format!("test/{name}_test.rb"));
            assert_eq!(report.outcome(), "crashed", "{name}: {}", report.message());
            assert_eq!(worker.run("test/fine_test.rb").outcome(), "passed");
        }
        worker.quit();
    }
}

#[test]
fn random_numbers_differ_from_fork_to_fork_unless_the_project_seeds_them() {
    for library in &LIBRARIES {
        for (helper, differ) in [("", true), ("srand(7)", false)] {
            let project = library.project(helper);
            project.write("test/a_test.rb", "puts \"drawn #{rand(1 << 60)}\"\n");
            let mut worker = library.ready(&project, Isolation::Fork);
            worker.run("test/a_test.rb");
            worker.run("test/a_test.rb");
            let output = worker.quit();
            let drawn: Vec<&str> = output.lines().filter(|line| line.starts_with("drawn ")).collect();
            assert_eq!((drawn.len(), drawn[0] != drawn[1]), (2, differ), "{}: {output}", library.framework);
        }
    }
}

#[test]
fn an_interrupted_run_has_not_passed() {
    for library in &LIBRARIES {
        let project = library.project("");
        library.write(&project, "a", "ATest", "  def test_interrupt\n    raise Interrupt\n  end");
        let mut worker = library.ready(&project, Isolation::Fork);
        let report = worker.run("test/a_test.rb");
        assert_eq!(report.outcome(), "failed", "{}", library.framework);
        assert_eq!(report.test("ATest#test_interrupt")["status"], "error");
        worker.quit();
    }
}

#[test]
fn tests_are_run_by_a_line_and_by_their_class() {
    for library in &LIBRARIES {
        let project = library.project("");
        let body = "  def test_a\n    assert true\n  end\n\n  def test_b\n    assert true\n  end\nend\n\n\
             class BTest < ATest\n  undef_method :test_a, :test_b\n  def test_c\n  end";
        library.write(&project, "a", "ATest", body);
        let text = std::fs::read_to_string(project.path().join("test/a_test.rb")).unwrap();
        let line = text.lines().position(|line| line.contains("def test_b")).unwrap() + 1;
        for isolation in [Isolation::Fork, Isolation::Shared] {
            let mut worker = library.ready(&project, isolation);
            for inside in [line, line + 1, line + 2] {
                let report = worker.run_tests("test/a_test.rb", &[&format!(":{inside}")]);
                assert_eq!(
                    report.statuses().into_keys().collect::<Vec<_>>(),
                    ["ATest#test_b"],
                    "{}",
                    report.message()
                );
                assert_eq!(report.outcome(), "passed", "{}", report.message());
            }
            let of_class = worker.run_tests("test/a_test.rb", &["ATest"]);
            assert_eq!(of_class.statuses().into_keys().collect::<Vec<_>>(), ["ATest#test_a", "ATest#test_b"]);
            let gone = worker.run_tests("test/a_test.rb", &[":1", "ZTest"]);
            assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no test :1, ZTest"));
            worker.quit();
        }
    }
}

#[test]
fn tests_are_run_by_their_ids_and_one_that_is_gone_is_named() {
    for library in &LIBRARIES {
        let project = library.project("");
        let body = "  3.times { |n| define_method(\"test_#{n}\") { puts \"ran #{n}\"; assert n < 2 } }";
        library.write(&project, "a", "ATest", body);
        for isolation in [Isolation::Fork, Isolation::Shared] {
            let mut worker = library.ready(&project, isolation);
            let one = worker.run_tests("test/a_test.rb", &["ATest#test_1"]);
            assert_eq!(one.outcome(), "passed", "{}", one.message());
            assert_eq!(one.statuses().keys().collect::<Vec<_>>(), ["ATest#test_1"]);
            assert!(worker.output().contains("ran 1") && !worker.output().contains("ran 0"));
            let gone = worker.run_tests("test/a_test.rb", &["ATest#test_2", "ATest#test_9"]);
            assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no test ATest#test_9"));
            assert_eq!(gone.statuses().keys().collect::<Vec<_>>(), ["ATest#test_2"]);
            assert_eq!(worker.run_tests("test/a_test.rb", &[]).tests.len(), 3);
            worker.quit();
        }
    }
}

#[test]
fn options_reach_the_framework_and_wrong_ones_are_told_before_the_first_file() {
    for library in &LIBRARIES {
        let project = library.project("");
        library.write(&project, "a", "ATest", "  def test_a; end\n  def test_b; end");
        let start = |arguments| Start { arguments, ..start(library.framework, Isolation::Fork) };
        let mut worker = start(&["-n", "/_b/"]).ready_worker(&project);
        assert_eq!(worker.run("test/a_test.rb").statuses().keys().collect::<Vec<_>>(), ["ATest#test_b"]);
        worker.quit();
        let mut worker = start(&["-n", "/nothing/"]).ready_worker(&project);
        let report = worker.run("test/a_test.rb");
        assert_eq!((report.outcome(), report.message()), ("passed", "none of 2 tests was chosen"));
        worker.quit();
        let mut worker = start(&["--no-such-option"]).worker(&project);
        let unable = worker.next().unwrap();
        let message = unable["message"].as_str().unwrap();
        assert!(
            message.ends_with(" does not take these arguments: invalid option: --no-such-option"),
            "{unable}"
        );
        assert!(worker.next().is_none() && worker.output().contains("invalid option: --no-such-option"));
        let unable = start(&["-v", "test/a_test.rb"]).worker(&project).next().unwrap();
        let message = unable["message"].as_str().unwrap();
        assert!(message.ends_with(" does not run test/a_test.rb because it stands behind --"), "{unable}");
    }
}

#[test]
fn files_share_the_helper_and_nothing_else() {
    let helper = "puts 'helper loaded'\nLOADED_IN = Process.pid\nat_exit { puts \"left by #{Process.pid == LOADED_IN}\" }";
    for library in &LIBRARIES {
        let project = library.project(helper);
        let body = "  def test_a\n    assert_nil $seen\n    $seen = true\n    puts \"random #{rand(1 << 60)}\"\n  end";
        library.write(&project, "one", "SameTest", body);
        library.write(&project, "two", "SameTest", body);
        library.write(
            &project,
            "three",
            "ThreeTest",
            "  at_exit { puts 'left by its file' }\n  def test_a; end",
        );
        let mut worker = library.ready(&project, Isolation::Fork);
        for name in ["one", "two", "three"] {
            let report = worker.run(&format!("test/{name}_test.rb"));
            assert_eq!((report.outcome(), report.tests.len()), ("passed", 1), "{}", report.message());
        }
        let output = worker.quit();
        assert_eq!(output.matches("helper loaded").count(), 1);
        let numbers: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("random ")).collect();
        assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{output}");
        let left: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("left by ")).collect();
        assert_eq!(left, ["its file", "true"]);
    }
}

#[test]
fn one_process_runs_each_files_tests_once() {
    for library in &LIBRARIES {
        let project = library.project("");
        library.write(&project, "one", "OneTest", "  def test_a; end");
        let text = "require_relative 'one_test'\nclass TwoTest < OneTest\n  def test_b; end\nend\n";
        project.write("test/two_test.rb", text);
        let mut worker = library.ready(&project, Isolation::Shared);
        let ids = |worker: &mut Worker, file: &str| -> Vec<String> {
            worker.run(file).statuses().into_keys().filter(|id| !id.starts_with("TwoTest#test_a")).collect()
        };
        assert_eq!(ids(&mut worker, "test/one_test.rb"), ["OneTest#test_a"]);
        assert_eq!(ids(&mut worker, "test/two_test.rb"), ["TwoTest#test_b"]);
        // It was loaded already, by another file.
        assert_eq!(ids(&mut worker, "test/one_test.rb"), ["OneTest#test_a"]);
        worker.quit();
    }
}

#[test]
fn every_byte_a_test_writes_comes_out() {
    for library in &LIBRARIES {
        let project = library.project("");
        let body = "  def test_a\n    40.times { puts 'x' * 65_536 }\n    $stdout.binmode.write(\"raw \\xff\\xfe bytes\\n\".b)\n  \
             end\n  def test_b\n    raise \"begin \\xff #{'x' * (3 << 20)} end\"\n  end";
        library.write(&project, "a", "ATest", body);
        let mut worker = library.ready(&project, Isolation::Fork);
        let report = worker.run("test/a_test.rb");
        let raw = worker.raw_output();
        let long_line = [b'x'; 64 * 1024];
        assert_eq!(raw.split(|byte| *byte == b'\n').filter(|line| **line == long_line).count(), 40);
        let raw_line = b"raw \xff\xfe bytes\n";
        assert!(raw.windows(raw_line.len()).any(|window| window == raw_line));
        let details = report.test("ATest#test_b")["details"].as_str().unwrap();
        assert!(details.len() < 1_100_000 && details.contains("characters left out"), "{}", details.len());
        worker.quit();
    }
}

#[test]
fn a_forked_child_that_returns_from_its_test_ends_there() {
    for library in &LIBRARIES {
        for isolation in Isolation::ALL {
            let project = library.project("");
            let body = "  def test_a\n    (child = fork) && File.write('child', \"#{child}\\n\")\n  end\n  \
                 def test_b\n    File.write('next', \"ran\\n\", mode: 'a')\n  end";
            library.write(&project, "a", "ATest", body);
            let mut worker = start(library.framework, isolation).ready_worker(&project);
            let report = worker.run_tests("test/a_test.rb", &["ATest#test_a"]);
            assert_eq!((report.outcome(), report.tests.len()), ("passed", 1), "{isolation:?}");
            wait_for_end_of(wait_for_text(&project.path().join("child")).trim().parse().unwrap());
            worker.quit();
        }
    }
}

#[test]
fn the_worker_ends_what_runs_when_the_agent_is_gone_or_it_is_told_to() {
    for library in &LIBRARIES {
        for (isolation, abandon) in
            [(Isolation::Fork, true), (Isolation::Fork, false), (Isolation::Shared, true)]
        {
            let project = library.project("");
            let body = "  def test_a\n    puts 'written before the hang'\n    File.write('hanging', \"#{Process.pid}\\n\")\n    \
                 sleep 600\n  end";
            library.write(&project, "a", "ATest", body);
            let mut worker = library.ready(&project, isolation);
            worker.send_run("test/a_test.rb");
            let pid: u32 = wait_for_text(&project.path().join("hanging")).trim().parse().unwrap();
            if abandon {
                worker.abandon();
            } else {
                let kill = Command::new("kill").args(["-TERM", &worker.pid().to_string()]).status().unwrap();
                assert!(kill.success());
            }
            assert!(!worker.wait().success());
            wait_for_end_of(pid);
            assert!(worker.output().contains("written before the hang"), "{isolation:?}");
        }
    }
}

#[test]
fn what_a_forked_process_leaves_unwritten_and_undeleted_is_written_and_deleted() {
    for library in &LIBRARIES {
        let project = library.project("$log = File.open('inherited.log', 'a')\n$log.write('helper, ')");
        let body = "  def test_a\n    $log.write('test')\n    $own = File.open('own.log', 'w')\n    $own.write('own')\n  end";
        library.write(&project, "a", "ATest", body);
        let body = "  def test_a\n    require 'tempfile'\n    $file = Tempfile.new('x', '.')\n    \
             File.write('path', \"#{$file.path}\\n\")\n  end";
        library.write(&project, "b", "BTest", body);
        let mut worker = library.ready(&project, Isolation::Fork);
        assert_eq!(worker.run("test/a_test.rb").outcome(), "passed");
        assert_eq!(worker.run("test/b_test.rb").outcome(), "passed");
        let text = |name: &str| std::fs::read_to_string(project.path().join(name)).unwrap();
        assert_eq!((text("inherited.log").as_str(), text("own.log").as_str()), ("helper, test", "own"));
        assert!(!project.path().join(text("path").trim()).exists());
        worker.quit();
    }
}

/// What a worker says first.
fn first_word(framework: &str, project: &Project, environment: &str) -> serde_json::Value {
    let start = Start {
        program: PathBuf::from("env"),
        program_arguments: &[environment, "ruby"],
        ..start(framework, Isolation::Fork)
    };
    start.worker(project).next().unwrap()
}

#[test]
fn the_bundle_is_set_up_as_bundle_exec_does() {
    for (framework, gem) in [("rspec", "rspec"), ("minitest", "minitest"), ("test-unit", "test-unit")] {
        let project = Project::empty();
        let source = "source 'https://rubygems.org'\n";
        project.write("Gemfile", &format!("{source}gem '{gem}'\n"));
        assert_eq!(first_word(framework, &project, "A=B")["type"], "ready");
        assert!(project.path().join("Gemfile.lock").is_file(), "as `bundle exec` does");

        project.write("Gemfile", &format!("{source}gem 'rake'\n"));
        let unable = first_word(framework, &project, "A=B");
        let message = unable["message"].as_str().unwrap();
        assert!(message.contains(" is not in the bundle of Gemfile for /"), "{unable}");
        let hint = unable["hint"].as_str().unwrap();
        assert!(hint.contains(&format!("add `gem \"{gem}\"` to Gemfile and run bundle install")), "{unable}");

        project.write("Gemfile", &format!("{source}gem 'no_such_gem_anywhere'\n"));
        let unable = first_word(framework, &project, "A=B");
        let message = unable["message"].as_str().unwrap();
        assert!(message.starts_with("the bundle of Gemfile can't be set up with /"), "{unable}");
        assert!(message.contains("Could not find gem 'no_such_gem_anywhere'"), "{unable}");
        assert!(unable["hint"].as_str().unwrap().contains("bundle install"), "{unable}");

        assert_eq!(first_word(framework, &project, "BUNDLE_GEMFILE=")["type"], "ready");
        project.write("other/Gemfile", &format!("{source}gem '{gem}'\n"));
        assert_eq!(first_word(framework, &project, "BUNDLE_GEMFILE=other/Gemfile")["type"], "ready");
    }
}

#[test]
fn a_missing_framework_is_named_with_how_to_install_it() {
    for (framework, title, gem) in
        [("minitest", "Minitest", "minitest"), ("test-unit", "test-unit", "test-unit")]
    {
        let project = Project::empty();
        project.write(
            "none.rb",
            "module Kernel\n  alias before require\n  def require(name)\n    \
             return before(name) unless %w[minitest test/unit].include?(name)\n    \
             raise LoadError.new(\"cannot load such file -- #{name}\").tap { |e| e.instance_variable_set(:@path, name) }\n  \
             end\nend\n",
        );
        let start = Start { program_arguments: &["-r./none.rb"], ..start(framework, Isolation::Fork) };
        let unable = start.worker(&project).next().unwrap();
        let message = unable["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{title} is not installed for /")), "{unable}");
        assert!(unable["hint"].as_str().unwrap().ends_with(&format!("gem install {gem}")), "{unable}");
    }
}
