//! Workers with all files in one process that stay for another run: what they have loaded stays, and nothing else.

use std::fs;

use distributest_frameworks::Isolation;

use crate::support::{Project, Start, Worker, wait_for_end_of, wait_for_text};
use crate::{pytest, ruby};

const FRAMEWORKS: [&str; 4] = ["pytest", "rspec", "minitest", "test-unit"];

/// How tests are written with a framework: a helper, and files with one test each.
fn project(framework: &str, helper: &str, tests: [&str; 2]) -> (Project, [&'static str; 2]) {
    let (helper_file, files, begin, end) = match framework {
        "pytest" => {
            ("conftest.py", ["test_a.py", "test_b.py"], "import os, sys\n\ndef test_it():\n    ", "\n")
        }
        "rspec" => (
            "spec/spec_helper.rb",
            ["spec/a_spec.rb", "spec/b_spec.rb"],
            "require 'spec_helper'\nRSpec.describe('it') { it('is') { ",
            " } }\n",
        ),
        "minitest" => (
            "test/test_helper.rb",
            ["test/a_test.rb", "test/b_test.rb"],
            "require 'test_helper'\nrequire 'minitest/autorun'\nClass.new(Minitest::Test) { def self.name; 'It'; end; \
             define_method(:test_it) { ",
            " } }\n",
        ),
        _ => (
            "test/test_helper.rb",
            ["test/a_test.rb", "test/b_test.rb"],
            "require 'test_helper'\nrequire 'test/unit'\nClass.new(Test::Unit::TestCase) { def self.name; 'It'; end; \
             define_method(:test_it) { ",
            " } }\n",
        ),
    };
    let project = Project::empty();
    project.write(helper_file, helper);
    for (file, test) in files.into_iter().zip(tests) {
        project.write(file, &format!("{begin}{test}{end}"));
    }
    (project, files)
}

fn worker(framework: &str, project: &Project) -> Worker {
    let start = match framework {
        "pytest" => pytest::start(Isolation::Shared),
        _ => ruby::start(framework, Isolation::Shared),
    };
    Start { may_stay: true, ..start }.ready_worker(project)
}

#[test]
fn files_of_a_run_share_a_process_and_those_of_the_next_have_another() {
    for framework in FRAMEWORKS {
        // What a file leaves behind is there for those behind it in its run.
        let (helper, tests) = match framework {
            "pytest" => (
                "import sys\nsys.number = 0\n",
                [
                    "sys.number += 1; print(os.getpid(), file=open('pids', 'a'))",
                    "assert sys.number == 1, sys.number",
                ],
            ),
            _ => (
                "$number = 0\n",
                [
                    "$number += 1; File.write('pids', \"#{Process.pid}\\n\", mode: 'a')",
                    "raise $number.to_s unless $number == 1",
                ],
            ),
        };
        let (project, files) = project(framework, helper, tests);
        let mut worker = worker(framework, &project);
        for run in 1..=3 {
            for file in files {
                let report = worker.run(file);
                assert_eq!(report.outcome(), "passed", "{framework}, run {run}: {report:?}");
            }
            let kept = worker.keep();
            assert_eq!(kept["type"], "kept", "{framework}: {kept}");
            worker.renew(&["DISTRIBUTEST_RUN=r2"]);
        }
        let pids = fs::read_to_string(project.path().join("pids")).unwrap();
        let pids: Vec<u32> = pids.lines().map(|line| line.parse().unwrap()).collect();
        assert!(pids[0] != pids[1] && pids[1] != pids[2], "{framework}: {pids:?}");
        pids.into_iter().for_each(wait_for_end_of);
        worker.quit();
    }
}

#[test]
fn a_run_finds_its_own_environment() {
    for framework in FRAMEWORKS {
        let test = match framework {
            "pytest" => "assert os.environ.get('DISTRIBUTEST_RUN') == 'r2' and 'OLDPWD' not in os.environ",
            _ => "raise ENV.inspect unless ENV['DISTRIBUTEST_RUN'] == 'r2' && !ENV.key?('OLDPWD')",
        };
        let (project, [file, _]) = project(framework, "", [test, test]);
        let mut worker = worker(framework, &project);
        assert_eq!(worker.run(file).outcome(), "failed", "{framework}");
        worker.keep();
        worker.renew(&["DISTRIBUTEST_RUN=r2", "OLDPWD"]);
        assert_eq!(worker.run(file).outcome(), "passed", "{framework}");
        worker.quit();
    }
}

#[test]
fn what_is_set_up_for_all_files_ends_with_the_run() {
    let helper = "import pytest\n\ndef tell(text):\n    print(text, file=open('told', 'a'))\n\ntell('loaded')\n\n\
         @pytest.fixture(scope='session', autouse=True)\ndef server():\n    tell('up')\n    yield\n    tell('down')\n    raise RuntimeError('left over')\n";
    let (project, files) = project("pytest", helper, ["pass", "pass"]);
    let mut worker = worker("pytest", &project);
    for _ in 0..2 {
        for file in files {
            assert_eq!(worker.run(file).outcome(), "passed");
        }
        // Before it says that it stays, it says what went wrong.
        let failure = worker.keep();
        assert_eq!(failure["type"], "end_failed", "{failure}");
        assert_eq!(failure["message"], "when the session ended: RuntimeError: left over");
        assert_eq!(worker.next().unwrap()["type"], "kept");
        worker.renew(&[]);
    }
    let told = fs::read_to_string(project.path().join("told")).unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), ["loaded", "up", "down", "up", "down"]);
    worker.quit();
}

#[test]
fn a_run_without_files_leaves_the_worker_as_it_was() {
    for framework in FRAMEWORKS {
        let (project, [file, _]) = project(framework, "", ["puts = 1", "puts = 1"]);
        let mut worker = worker(framework, &project);
        for _ in 0..2 {
            assert_eq!(worker.keep()["type"], "kept", "{framework}");
            worker.renew(&[]);
        }
        assert_eq!(worker.run(file).outcome(), "passed", "{framework}");
        worker.quit();
    }
}

/// What a fork would lose, share or do twice: the process that loads runs the files itself then, and does not stay.
#[test]
fn what_does_not_survive_a_fork_is_there_for_tests_and_the_worker_does_not_stay() {
    let cases = [
        (
            "pytest",
            "import sys, threading\nsys.other = threading.Thread(target=threading.Event().wait, daemon=True)\nsys.other.start()\n",
            "assert sys.other.is_alive()",
        ),
        ("pytest", "import socket, sys\nsys.open = socket.socket()\n", "sys.open.listen()"),
        ("pytest", "import os, sys\nsys.open = os.pipe()\n", "os.write(sys.open[1], b'x')"),
        (
            "pytest",
            "import fcntl, sys\nsys.open = open('lock', 'w')\nfcntl.lockf(sys.open, fcntl.LOCK_EX)\n",
            "import fcntl; fcntl.lockf(open('lock', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)",
        ),
        ("rspec", "$other = Thread.new { sleep }\n", "raise 'dead' unless $other.alive?"),
        ("rspec", "require 'socket'\n$open = TCPServer.new('127.0.0.1', 0)\n", "$open.addr"),
        ("minitest", "$other = Thread.new { sleep }\n", "raise 'dead' unless $other.alive?"),
        ("test-unit", "at_exit { puts 'bye' }\n", "puts 'hello'"),
    ];
    for (framework, helper, test) in cases {
        let (project, files) = project(framework, helper, [test, test]);
        let mut worker = worker(framework, &project);
        for file in files {
            let report = worker.run(file);
            assert_eq!(report.outcome(), "passed", "{helper}: {report:?}");
        }
        let answer = worker.keep();
        assert_eq!(answer["type"], "unable", "{helper}: {answer}");
        assert!(answer["message"].as_str().unwrap().starts_with("loading the project "), "{answer}");
        // It goes on until it is told to end.
        let output = worker.quit();
        assert_eq!(output.contains("bye"), helper.contains("bye"), "{output}");
    }
}

#[test]
fn a_worker_whose_process_dies_does_not_stay() {
    for framework in FRAMEWORKS {
        let test = match framework {
            "pytest" => "print(os.getpid(), file=open('pid', 'w')); os.abort()",
            _ => "File.write('pid', \"#{Process.pid}\\n\"); Process.kill(:KILL, Process.pid); sleep",
        };
        let (project, [file, _]) = project(framework, "", [test, test]);
        let mut worker = worker(framework, &project);
        let report = worker.run(file);
        assert_eq!(report.outcome(), "crashed", "{framework}: {report:?}");
        assert_eq!(report.tests.len(), 1, "{framework}: the test it died in");
        wait_for_end_of(wait_for_text(&project.path().join("pid")).trim().parse().unwrap());
        assert_eq!(worker.next(), None, "{framework}: it leaves by itself");
    }
}
