//! The pytest worker with all files in one process: one session, as long as pytest itself would go on with it.

use distributest_frameworks::Isolation;

use crate::pytest::start;
use crate::support::{Project, Worker};

fn sharing(project: &Project) -> Worker {
    start(Isolation::Shared).ready_worker(project)
}

/// The lines that the project's files have written to `told`, in order.
fn told(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path().join("told")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A project that tells of everything that begins and ends in it.
fn telling() -> Project {
    let project = Project::empty();
    project.write(
        "telling.py",
        "def tell(text):\n    with open('told', 'a') as file:\n        file.write(text + '\\n')\n",
    );
    project.write(
        "conftest.py",
        "import pytest\nfrom telling import tell\n\ntell('conftest')\n\n\
         def pytest_sessionstart():\n    tell('session starts')\n\n\
         def pytest_sessionfinish(session, exitstatus):\n    \
             tell(f'session finishes with {int(exitstatus)}: {session.testsfailed} of {session.testscollected}')\n\n\
         def pytest_unconfigure():\n    tell('unconfigure')\n\n\
         @pytest.fixture(scope='session')\ndef server():\n    tell('server starts')\n    yield 'server'\n    tell('server stops')\n\n\
         @pytest.fixture(scope='module')\ndef table(server):\n    tell('table is made')\n    yield 'table'\n    tell('table is dropped')\n",
    );
    for name in ["one", "two", "three"] {
        project.write(
            &format!("tests/test_{name}.py"),
            &format!(
                "from telling import tell\n\ndef test_first(table):\n    tell('{name} 1')\n\n\
                 def test_second(table):\n    tell('{name} 2')\n    assert '{name}' != 'two'\n"
            ),
        );
    }
    project
}

/// What is told of a file in a session that has begun.
fn of_file(name: &str) -> [String; 4] {
    ["table is made".into(), format!("{name} 1"), format!("{name} 2"), "table is dropped".into()]
}

#[test]
fn one_session_serves_all_files_and_ends_with_the_worker() {
    let project = telling();
    let mut worker = sharing(&project);
    let outcomes = ["one", "two", "three"].map(|name| {
        let report = worker.run(&format!("tests/test_{name}.py"));
        assert_eq!(report.tests.len(), 2, "{name}");
        assert!(!told(&project).contains(&"server stops".to_owned()), "{name}");
        report.outcome().to_owned()
    });
    assert_eq!(outcomes, ["passed", "failed", "passed"]);
    assert_eq!(worker.quit(), "");
    let mut expected = vec!["conftest".to_owned(), "session starts".into(), "server starts".into()];
    for name in ["one", "two", "three"] {
        expected.extend(of_file(name));
    }
    expected.extend(["server stops".into(), "session finishes with 1: 1 of 6".into(), "unconfigure".into()]);
    assert_eq!(told(&project), expected);
}

#[test]
fn a_process_for_a_file_ends_its_session_before_the_file_is_finished() {
    let project = telling();
    let mut worker = start(Isolation::Process).ready_worker(&project);
    assert_eq!(worker.run("tests/test_one.py").outcome(), "passed");
    let told = told(&project);
    assert_eq!(told[told.len() - 3..], ["server stops", "session finishes with 0: 0 of 2", "unconfigure"]);
    worker.quit();
}

#[test]
fn a_file_that_does_not_load_leaves_the_session_to_the_next() {
    let project = telling();
    project.write("tests/test_broken.py", "import no_such_module\n");
    let mut worker = sharing(&project);
    for (file, outcome) in [
        ("tests/test_one.py", "passed"),
        ("tests/test_broken.py", "broken"),
        ("tests/test_gone.py", "broken"),
        ("tests/test_three.py", "passed"),
    ] {
        let report = worker.run(file);
        assert_eq!(report.outcome(), outcome, "{file}: {}", report.finished);
    }
    worker.quit();
    assert_eq!(told(&project).iter().filter(|line| *line == "server starts").count(), 1);
}

#[test]
fn a_new_session_begins_where_pytest_would_have_stopped() {
    for (arguments, stopping) in [
        (
            &[][..],
            "import pytest\n\ndef test_exits(table):\n    pytest.exit('enough')\n\ndef test_never(): pass\n",
        ),
        (&["--maxfail=1"], "def test_fails(table):\n    assert False\n\ndef test_never(): pass\n"),
        (
            &[],
            "def test_asks(table, request):\n    request.session.shouldstop = 'enough'\n\ndef test_never(): pass\n",
        ),
    ] {
        let project = telling();
        project.write("tests/test_stops.py", stopping);
        let mut worker =
            crate::support::Start { arguments, ..start(Isolation::Shared) }.ready_worker(&project);
        assert_eq!(worker.run("tests/test_one.py").outcome(), "passed");
        let stopped = worker.run("tests/test_stops.py");
        assert_ne!(stopped.outcome(), "passed", "{stopping}");
        assert!(stopped.tests.iter().all(|test| !test["id"].as_str().unwrap().ends_with("never")));
        let told_so_far = told(&project);
        assert!(told_so_far.contains(&"table is dropped".to_owned()), "{told_so_far:?}");
        assert_eq!(told_so_far.last().unwrap(), "unconfigure", "{stopping}");
        assert_eq!(worker.run("tests/test_three.py").outcome(), "passed", "{stopping}");
        worker.quit();
        let told = told(&project);
        assert_eq!(told[told_so_far.len()], "conftest", "{told:?}");
        for line in ["conftest", "server starts", "server stops", "unconfigure"] {
            assert_eq!(told.iter().filter(|each| *each == line).count(), 2, "{line}: {told:?}");
        }
    }
}

#[test]
fn failures_are_counted_for_each_file() {
    let project = Project::empty();
    let failing = "def test_a(): assert False\n\ndef test_b(): pass\n";
    for name in ["one", "two"] {
        project.write(&format!("test_{name}.py"), failing);
    }
    let mut worker = crate::support::Start { arguments: &["--maxfail=2"], ..start(Isolation::Shared) }
        .ready_worker(&project);
    for name in ["one", "two"] {
        assert_eq!(worker.run(&format!("test_{name}.py")).tests.len(), 2, "{name}");
    }
    worker.quit();
}

#[test]
fn a_file_that_comes_again_finds_its_fixtures_once() {
    let project = Project::empty();
    project.write(
        "test_a.py",
        "import pytest\n\n@pytest.fixture\ndef number():\n    return 1\n\n\
         class TestA:\n    @pytest.fixture\n    def number(self, number):\n        return number + 1\n\n    \
         def test_number(self, number):\n        assert number == 2\n\n    def test_again(self, number):\n        assert number == 2\n",
    );
    let mut worker = sharing(&project);
    assert_eq!(worker.run_tests("test_a.py", &["test_a.py::TestA::test_number"]).outcome(), "passed");
    let again = worker.run_tests("test_a.py", &["test_a.py::TestA::test_again"]);
    assert_eq!(again.outcome(), "passed", "{:?}", again.tests);
    worker.quit();
}

#[test]
fn files_whose_directory_pytest_is_asked_for_are_found_in_its_package() {
    let project = Project::empty();
    project.write("tests/__init__.py", "");
    let test = "def test_package(request):\n    assert __name__.startswith('tests.test_')\n";
    for name in ["a[1]", "b[2]"] {
        project.write(&format!("tests/test_{name}.py"), test);
    }
    let mut worker = sharing(&project);
    for name in ["a[1]", "b[2]"] {
        let report = worker.run(&format!("tests/test_{name}.py"));
        assert_eq!((report.outcome(), report.tests.len()), ("passed", 1), "{name}: {:?}", report.finished);
    }
    worker.quit();
}

#[test]
fn what_is_written_between_tests_comes_out_with_its_file() {
    let project = Project::empty();
    project.write("conftest.py", "def pytest_runtest_logfinish(nodeid):\n    print('after', nodeid)\n");
    project.write("test_a.py", "def test_a():\n    print('in a')\n");
    project.write("test_b.py", "def test_b():\n    print('in b')\n");
    let mut worker = sharing(&project);
    worker.run("test_a.py");
    assert_eq!(worker.output(), "in a\nafter test_a.py::test_a\n");
    worker.run("test_b.py");
    assert_eq!(worker.quit(), "in a\nafter test_a.py::test_a\nin b\nafter test_b.py::test_b\n");
}

#[test]
fn what_fails_when_the_session_ends_is_told_of_the_worker() {
    let project = Project::empty();
    project.write(
        "conftest.py",
        "import pytest\n\n@pytest.fixture(scope='session', autouse=True)\ndef clean():\n    yield\n    assert not 'left over'\n\n\
         def pytest_sessionfinish():\n    print('the session is finished')\n",
    );
    project.write("test_a.py", "def test_a(): pass\n");
    let mut worker = sharing(&project);
    assert_eq!(worker.run("test_a.py").outcome(), "passed");
    let (output, failures) = worker.quit_with_failures();
    assert!(output.contains("assert not 'left over'"), "{output}");
    assert!(output.contains("the session is finished"), "{output}");
    assert_eq!(failures, ["when the session ended: AssertionError: assert not 'left over'"]);
}

#[test]
fn what_fails_when_a_session_ends_before_the_last_file_is_told_too() {
    let project = Project::empty();
    project.write(
        "conftest.py",
        "import pytest\n\n@pytest.fixture(scope='session', autouse=True)\ndef clean():\n    yield\n    raise RuntimeError('left over')\n",
    );
    project.write("test_a.py", "def test_a(): pass\n");
    project.write("test_b.py", "def test_b(): pass\n");
    let mut worker = sharing(&project);
    worker.run("test_a.py");
    // Its fixtures would be there twice: a session of its own.
    worker.run("test_a.py");
    worker.run("test_b.py");
    let failure = "when the session ended: RuntimeError: left over";
    assert_eq!(worker.quit_with_failures().1, [failure, failure]);
}

#[test]
fn a_plugin_may_change_the_session_s_exit_status_at_its_end() {
    let project = Project::empty();
    project.write("conftest.py", "def pytest_sessionfinish(session):\n    session.exitstatus = 7\n");
    project.write("test_a.py", "def test_a(): pass\n");
    let mut worker = sharing(&project);
    assert_eq!(worker.run("test_a.py").outcome(), "passed");
    assert_eq!(worker.quit_with_failures().1, ["the session ended with exit status 7"]);
    for isolation in [Isolation::Fork, Isolation::Process] {
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run("test_a.py");
        assert_eq!(
            (report.outcome(), report.message()),
            ("failed", "no test failed, but pytest ended with exit status 7")
        );
        worker.quit();
    }
}

#[test]
fn a_session_s_end_that_ends_its_process_is_told_of_the_worker() {
    let project = Project::empty();
    project.write("conftest.py", "import os\n\ndef pytest_sessionfinish():\n    os._exit(3)\n");
    project.write("test_a.py", "def test_a(): pass\n");
    let mut worker = sharing(&project);
    assert_eq!(worker.run("test_a.py").outcome(), "passed");
    let failure = "behind the last file, the process that ran the files left with exit status 3";
    assert_eq!(worker.quit_with_failures().1, [failure]);
}

#[test]
fn each_session_finds_its_own_files_only() {
    let project = telling();
    let asked = "from telling import tell\n\ndef pytest_ignore_collect():\n    tell('asked')\n";
    project.write("tests/conftest.py", asked);
    for number in 0..50 {
        project.write(&format!("tests/test_aside_{number}.py"), "def test_aside(): pass\n");
    }
    project.write("tests/test_stops.py", "import pytest\n\ndef test_exits():\n    pytest.exit('enough')\n");
    for isolation in [Isolation::Shared, Isolation::Fork] {
        project.write("told", "");
        let mut worker = start(isolation).ready_worker(&project);
        for (file, tests) in
            [("tests/test_one.py", 2), ("tests/test_stops.py", 1), ("tests/test_three.py", 2)]
        {
            let report = worker.run(file);
            assert_eq!(report.tests.len().max(1), tests, "{file}: {}", report.finished);
        }
        worker.quit();
        // Of what lies beside the files no plugin is asked, which takes long where much does.
        let asked = told(&project).iter().filter(|line| *line == "asked").count();
        assert!(asked < 30, "{isolation:?}: asked {asked} times");
    }
}

#[test]
fn a_test_may_replace_what_the_worker_itself_needs() {
    for isolation in Isolation::ALL {
        let project = Project::empty();
        project.write(
            "test_a.py",
            "import json, os\n\ndef test_for_itself(monkeypatch):\n    monkeypatch.setattr(os, 'getpid', lambda: 42)\n    \
             monkeypatch.setattr(json, 'dumps', None)\n\n\
             def test_for_good():\n    os.getpid = lambda: 42\n    json.dumps = json.loads = None\n\ndef test_fails():\n    assert 0\n",
        );
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run("test_a.py");
        assert_eq!(report.outcome(), "failed", "{isolation:?}: {}", report.message());
        let statuses: Vec<_> =
            report.statuses().into_iter().map(|(test, status)| format!("{test} {status}")).collect();
        let expected = [
            "test_a.py::test_fails failed",
            "test_a.py::test_for_good passed",
            "test_a.py::test_for_itself passed",
        ];
        assert_eq!(statuses, expected, "{isolation:?}");
        worker.quit();
    }
}
