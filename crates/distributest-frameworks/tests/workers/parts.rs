//! Files that are run in parts: together, these are the file.

use std::collections::BTreeMap;

use distributest_frameworks::Isolation;

use crate::support::{FileReport, Project, Worker};
use crate::{pytest, rspec};

/// Runs the file in two parts, the second with so many of its tests, and compares them with the file as a whole.
fn is_split(worker: &mut Worker, file: &str, take: usize) {
    let whole = worker.run(file).statuses();
    let mut ids: Vec<&str> = whole.keys().map(String::as_str).take(take).collect();
    ids.push("a test that is not there any more");
    let (first, second) = (worker.run_part(file, "except", &ids), worker.run_part(file, "only", &ids));
    assert_eq!(second.tests.len(), take, "{file}: {}", second.finished);
    let mut both = first.statuses();
    for (id, status) in second.statuses() {
        assert_eq!(both.insert(id.clone(), status), None, "{id} is in both parts");
    }
    assert_eq!(both, whole, "{file}");
    assert_eq!(collected(&first), collected(&second), "{file}");
    assert!(collected(&first).len() > 8, "{file}: {}", first.finished);
}

fn collected(report: &FileReport) -> &str {
    report.finished["collected"].as_str().unwrap_or_default()
}

#[test]
fn the_parts_of_a_pytest_file_are_the_file() {
    let project = Project::copy_of("pytest");
    let files = [
        ("tests/test_outcomes.py", 3),
        ("tests/test_document.txt", 1),
        ("tests/test_module_skip.py", 0),
        ("tests/test_parametrized.py", 2),
    ];
    // In one process, pytest escapes some ids a second time when it collects a file again.
    for (isolation, files) in [(Isolation::Fork, &files[..]), (Isolation::Shared, &files[..1])] {
        let mut worker = pytest::start(isolation).ready_worker(&project);
        for (file, take) in files {
            is_split(&mut worker, file, *take);
        }
        worker.quit();
    }
}

#[test]
fn the_parts_of_an_rspec_file_are_the_file() {
    let project = Project::empty();
    project.write(".rspec", "--tag ~slow\n");
    project.write(
        "spec/a_spec.rb",
        "RSpec.describe('a') do\n  before(:context) { @made = true }\n  it('one') { expect(@made).to be true }\n  \
         it('two', :slow) {}\n  describe('b') do\n    it('three') { expect(@made).to be true }\n    it('four') { fail }\n    \
         it('five') { pending; fail }\n  end\nend\n\nRSpec.describe('c') { it('six') {} }\n",
    );
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = rspec::start(isolation).ready_worker(&project);
        for take in 1..5 {
            is_split(&mut worker, "spec/a_spec.rb", take);
        }
        worker.quit();
    }
}

#[test]
fn what_belongs_to_no_test_is_in_every_part() {
    let project = Project::empty();
    project.write("test_broken.py", "import no_such_module\n");
    project.write(
        "test_fixture.py",
        "import pytest\n\n@pytest.fixture(autouse=True, scope='module')\ndef made():\n    print('made')\n\n\
         def test_a(): pass\n\ndef test_b(): pass\n",
    );
    let mut worker = pytest::start(Isolation::Fork).ready_worker(&project);
    for kind in ["only", "except"] {
        assert_eq!(worker.run_part("test_broken.py", kind, &["test_broken.py::test_a"]).outcome(), "broken");
        let report = worker.run_part("test_fixture.py", kind, &["test_fixture.py::test_a"]);
        let expected = if kind == "only" { "test_fixture.py::test_a" } else { "test_fixture.py::test_b" };
        assert_eq!(report.statuses(), BTreeMap::from([(expected.to_owned(), "passed".to_owned())]));
    }
    assert_eq!(worker.quit().matches("made").count(), 2);
}
