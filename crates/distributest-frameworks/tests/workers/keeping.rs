//! What workers say that may stay for another run, and how they go on in it.

use std::collections::BTreeSet;
use std::path::Path;

use distributest_frameworks::Isolation;
use serde_json::Value;

use crate::support::{Project, Start, Worker};
use crate::{pytest, ruby};

const PYTEST_FILE: &str = "import os\n\ndef test_it():\n    assert os.environ['DISTRIBUTEST_RUN'] == 'r2'\n";

/// A project whose only test passes in a run that is called r2.
fn project(framework: &str, helper: &str) -> (Project, &'static str) {
    let project = Project::empty();
    let files = match framework {
        "pytest" => [("conftest.py", helper), ("test_a.py", PYTEST_FILE)],
        "rspec" => [
            ("spec/spec_helper.rb", helper),
            (
                "spec/a_spec.rb",
                "require 'spec_helper'\nRSpec.describe('a') { it('b') { puts \"drew #{rand(1_000_000)}\"; \
                 expect(ENV['DISTRIBUTEST_RUN']).to eq('r2') } }\n",
            ),
        ],
        "test-unit" => [
            ("test/test_helper.rb", helper),
            (
                "test/a_test.rb",
                "require 'test_helper'\nrequire 'test/unit'\nclass ATest < Test::Unit::TestCase\n  \
                 def test_it\n    assert_equal 'r2', ENV['DISTRIBUTEST_RUN']\n  end\nend\n",
            ),
        ],
        _ => [
            ("test/test_helper.rb", helper),
            (
                "test/a_test.rb",
                "require 'test_helper'\nrequire 'minitest/autorun'\nclass ATest < Minitest::Test\n  \
                 def test_it\n    assert_equal 'r2', ENV['DISTRIBUTEST_RUN']\n  end\nend\n",
            ),
        ],
    };
    for (name, text) in files {
        project.write(name, text);
    }
    let [_, (file, _)] = files;
    (project, file)
}

fn start(framework: &str) -> Start<'static> {
    match framework {
        "pytest" => pytest::start(Isolation::Fork),
        _ => ruby::start(framework, Isolation::Fork),
    }
}

fn worker(framework: &str, helper: &str) -> (Project, Worker) {
    let (project, _) = project(framework, helper);
    let worker = start(framework).ready_worker(&project);
    (project, worker)
}

fn files(answer: &Value) -> BTreeSet<&str> {
    assert_eq!(answer["type"], "kept", "{answer}");
    answer["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect()
}

fn path(project: &Project, name: &str) -> String {
    project.path().canonicalize().unwrap().join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_worker_that_stays_goes_on_in_another_run() {
    for framework in ["pytest", "rspec", "minitest", "test-unit"] {
        let (project, file) = project(framework, "");
        let mut worker = start(framework).ready_worker(&project);
        worker.renew(&["DISTRIBUTEST_RUN=r1", "OLDPWD"]);
        assert_eq!(worker.run(file).outcome(), "failed", "{framework}");
        for _ in 0..2 {
            assert_eq!(worker.keep()["type"], "kept", "{framework}");
            worker.renew(&["DISTRIBUTEST_RUN=r2", "OLDPWD=/tmp"]);
            assert_eq!(worker.run(file).outcome(), "passed", "{framework}");
        }
        worker.quit();
    }
}

#[test]
fn pytest_tells_every_file_it_has_read_and_where_it_has_looked() {
    let helper = "import json\nimport helpers\nopen('data.json').read()\nopen('written', 'w').close()\n";
    let (project, _) = project("pytest", helper);
    project.write("data.json", "{}");
    project.write("helpers.py", "");
    project.write("unread.py", "");
    // The second one has compiled code to read in place of the sources.
    for _ in 0..2 {
        let mut worker = start("pytest").ready_worker(&project);
        let answer = worker.keep();
        let files = files(&answer);
        for name in ["conftest.py", "helpers.py", "data.json", "pytest.ini"] {
            assert!(files.contains(path(&project, name).as_str()), "{name} of {files:#?}");
        }
        let above = project.path().canonicalize().unwrap().with_file_name("pytest.ini");
        assert!(files.contains(above.to_str().unwrap()), "{files:#?}");
        assert!(!files.contains(path(&project, "unread.py").as_str()));
        assert!(!files.contains(path(&project, "written").as_str()));
        assert!(!files.iter().any(|file| file.contains("__pycache__")), "{files:#?}");
        assert!(!files.contains(std::env::temp_dir().to_str().unwrap()), "it changes all the time");
        assert!(files.iter().any(|file| file.ends_with("/_pytest/config/__init__.py")), "{files:#?}");
        assert!(files.iter().any(|file| Path::new(file).is_dir()), "{files:#?}");
        assert_eq!(answer["all"], true, "{files:#?}");
        worker.quit();
    }
}

#[test]
fn pytest_does_not_know_what_others_read_for_it() {
    let helpers = [
        "import subprocess\nsubprocess.run(['true'])",
        "import sqlite3\nsqlite3.connect(':memory:').close()",
    ];
    for helper in helpers {
        let (_project, mut worker) = worker("pytest", helper);
        let answer = worker.keep();
        assert_eq!((&answer["type"], &answer["all"]), (&"kept".into(), &false.into()), "{helper}");
        worker.quit();
    }
}

#[test]
fn ruby_tells_what_it_has_loaded() {
    for (framework, helper) in [("rspec", "spec/spec_helper.rb"), ("minitest", "test/test_helper.rb")] {
        let (project, mut worker) = worker(framework, "require 'set'\n");
        let answer = worker.keep();
        let files = files(&answer);
        assert!(files.contains(path(&project, helper).as_str()), "{files:#?}");
        assert!(files.iter().any(|file| file.ends_with("/specifications")), "{files:#?}");
        assert_eq!(answer["all"], false);
        worker.quit();
    }
}

#[test]
fn a_worker_with_something_to_do_at_its_end_does_not_stay() {
    let cases = [
        ("pytest", "import atexit, shutil\natexit.register(shutil.rmtree, '/nonexistent', True)"),
        ("pytest", "import tempfile\nkept = tempfile.TemporaryDirectory()"),
        ("pytest", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"),
        ("pytest", "def pytest_configure(config):\n    config.add_cleanup(lambda: None)"),
        (
            "pytest",
            "import contextlib\ndef pytest_configure(config):\n    stack = contextlib.ExitStack()\n    \
             stack.callback(print)\n    config.add_cleanup(stack.close)",
        ),
        ("rspec", "at_exit { puts 'bye' }"),
        ("rspec", "Thread.new { sleep }"),
        ("minitest", "Minitest.after_run { puts 'bye' }"),
    ];
    for (framework, helper) in cases {
        let (_project, mut worker) = worker(framework, helper);
        let answer = worker.keep();
        assert_eq!(answer["type"], "unable", "{helper}: {answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
        worker.quit();
    }
}

#[test]
fn pytest_stays_when_only_pytest_itself_has_something_to_undo() {
    // Both as pytest itself does it since version 8.4.
    let helper = "import contextlib, functools\nfrom _pytest.pathlib import absolutepath\n\
         from _pytest.warnings import catch_warnings_for_item\n\
         def pytest_configure(config):\n    stack = contextlib.ExitStack()\n    \
         stack.enter_context(catch_warnings_for_item(config, config.hook, 'config', None))\n    \
         config.add_cleanup(stack.close)\n    config.add_cleanup(functools.partial(absolutepath, '.'))\n";
    let (_project, mut worker) = worker("pytest", helper);
    let answer = worker.keep();
    assert_eq!(answer["type"], "kept", "{answer}");
    worker.quit();
}

#[test]
fn every_run_draws_random_numbers_of_its_own() {
    let drawn = |output: &str| {
        let numbers = output.lines().filter_map(|line| line.strip_prefix("drew "));
        numbers.map(str::to_owned).collect::<Vec<_>>()
    };
    let helper = "RSpec.configure { |config| config.order = :random; Kernel.srand(config.seed) }";
    let (project, file) = project("rspec", helper);
    let mut worker = start("rspec").ready_worker(&project);
    for _ in 0..3 {
        worker.run(file);
        worker.run(file);
        worker.keep();
        worker.renew(&["DISTRIBUTEST_RUN=r2"]);
    }
    let numbers = drawn(&worker.quit());
    let different: BTreeSet<_> = numbers.iter().collect();
    assert_eq!(numbers.len(), 6);
    assert_eq!(different.len(), 3, "the same within a run, others in the next: {numbers:?}");
}
