//! Shell scripts, each of which is one test.

use std::time::Duration;

use distributest_core::test_result::TestStatus;

use super::{ExpectedFile, ExpectedTest, Kind};

pub(super) const PROJECT_FILES: &[(&str, &str)] =
    &[(".distributest/config.toml", "frameworks = [\"command\"]\nfiles = [\"tests/*.sh\"]\n")];

/// The statuses scripts fail with: not 0, and none that a shell gives a meaning of its own.
const FAILURE_STATUSES: usize = 125;

pub(super) fn file(number: usize, kind: Kind, duration: Duration) -> (String, ExpectedFile) {
    let path = format!("tests/test_{number:04}.sh");
    let (interpreter, ending) = match kind {
        Kind::Broken => ("/no/such/interpreter", "exit 0".to_owned()),
        Kind::Fail => ("/bin/sh", format!("exit {}", 1 + number % FAILURE_STATUSES)),
        Kind::Crash => ("/bin/sh", "kill -KILL $$".to_owned()),
        Kind::Pass | Kind::Skip | Kind::ExpectedFailure => ("/bin/sh", "exit 0".to_owned()),
    };
    let seconds = duration.as_secs_f64();
    let text =
        format!("#!{interpreter}\nsleep {seconds:.3}\necho \"{path} slept {seconds:.3} s\"\n{ending}\n");
    let status = match kind {
        Kind::Pass | Kind::Skip | Kind::ExpectedFailure => Some(TestStatus::Passed),
        Kind::Fail => Some(TestStatus::Failed),
        Kind::Broken | Kind::Crash => None,
    };
    let tests = status.map(|status| ExpectedTest { id: path.clone(), status }).into_iter().collect();
    (text, ExpectedFile { path, kind, duration, tests })
}
