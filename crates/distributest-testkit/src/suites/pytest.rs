//! Python files for pytest: a test that sleeps, then one of the file's kind.

use std::time::Duration;

use distributest_core::test_result::TestStatus;

use super::{ExpectedFile, ExpectedTest, Kind};

pub(super) const PROJECT_FILES: &[(&str, &str)] = &[("pytest.ini", "[pytest]\ntestpaths = tests\n")];

pub(super) fn file(number: usize, kind: Kind, duration: Duration) -> (String, ExpectedFile) {
    let path = format!("tests/test_{number:04}.py");
    let (test, name, status) = match kind {
        Kind::Pass => ("def test_passes():\n    assert 1 + 1 == 2", "test_passes", Some(TestStatus::Passed)),
        Kind::Fail => ("def test_fails():\n    assert 1 + 1 == 3", "test_fails", Some(TestStatus::Failed)),
        Kind::Skip => (
            "@pytest.mark.skip(reason=\"made to be skipped\")\ndef test_is_skipped():\n    pass",
            "test_is_skipped",
            Some(TestStatus::Skipped),
        ),
        Kind::ExpectedFailure => (
            "@pytest.mark.xfail(reason=\"made to fail\")\ndef test_fails_as_said():\n    assert 1 + 1 == 3",
            "test_fails_as_said",
            Some(TestStatus::ExpectedFailure),
        ),
        Kind::Broken => ("import no_module_of_this_name_exists", "", None),
        Kind::Crash => (
            "def test_crashes():\n    os.kill(os.getpid(), signal.SIGKILL)",
            "test_crashes",
            Some(TestStatus::Error),
        ),
    };
    let seconds = duration.as_secs_f64();
    let text = format!(
        "import os\nimport signal\nimport time\n\nimport pytest\n\n\n\
         def test_sleeps():\n    time.sleep({seconds:.3})\n    print(\"{path} slept {seconds:.3} s\")\n\n\n{test}\n"
    );
    let sleeps = (kind != Kind::Broken)
        .then(|| ExpectedTest { id: format!("{path}::test_sleeps"), status: TestStatus::Passed });
    let second = status.map(|status| ExpectedTest { id: format!("{path}::{name}"), status });
    let tests = sleeps.into_iter().chain(second).collect();
    (text, ExpectedFile { path, kind, duration, tests })
}
