//! The project changes while a run goes on.

use crate::sandbox::Sandbox;

#[test]
fn a_file_that_is_gone_when_its_turn_comes_is_not_run_and_named() {
    for snapshot in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.shell_tests(&format!("snapshot = {snapshot}\n"));
        sandbox.file("tests/first", format!("rm tests/second\n{}", "# a comment\n".repeat(100)));
        sandbox.file("tests/second", "exit 1\n").file("tests/third", "");
        let seen = sandbox.run(&["--runners", "1"]);
        assert!(seen.starts_with("exit status: 3\n"), "{seen}");
        assert!(seen.contains("Not run\n  1 file: the file is gone: it is not in "), "{seen}");
        assert!(seen.contains(" on localhost\n    tests/second\n"), "{seen}");
        assert!(seen.contains("3 files: 2 passed, 1 not run"), "{seen}");
    }
}

#[test]
fn a_framework_is_not_asked_for_a_file_that_is_gone() {
    let sandbox = Sandbox::new();
    let first = "import os\ndef test_removes(): os.remove('test_second.py')\n";
    sandbox.file("test_first.py", format!("{first}{}", "# a comment\n".repeat(100)));
    sandbox.file("test_second.py", "def test_passes(): pass\n");
    let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
    assert_eq!(ended.code(), Some(3), "{}", ended.seen());
    assert_eq!(events.texts("file_verdict", "reason_kind"), ["", "file_gone"]);
    assert_eq!(events.texts("attempt_started", "file"), ["test_first.py"]);
}
