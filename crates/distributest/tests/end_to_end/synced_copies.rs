//! A copy of the project on a host is compared with the project, and put right without rsync.

use std::fs;
use std::path::PathBuf;

use crate::sandbox::Sandbox;

/// A machine whose rsync notes each time it is called.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let calls = sandbox.path("rsync-calls");
    sandbox.fake(
        "rsync",
        &format!("#!/bin/sh\necho called >>{}\nexec /usr/bin/rsync \"$@\"\n", calls.display()),
    );
    sandbox.shell_tests("snapshot = true\n");
    sandbox.file(".gitignore", "*.log\n");
    fs::create_dir(sandbox.path("project/.git")).unwrap();
    sandbox
}

fn rsync_calls(sandbox: &Sandbox) -> usize {
    sandbox.read("rsync-calls").lines().count()
}

/// The copies there are.
fn workspaces(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut found = vec![sandbox.path("home/.cache/distributest/workspaces")];
    for _ in 0..3 {
        let below = found.iter().flat_map(|path| fs::read_dir(path).unwrap());
        found = below.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    }
    found
}

#[test]
fn only_the_first_run_needs_rsync_and_what_a_test_changed_is_put_right() {
    let sandbox = sandbox();
    let spoil = "[ \"$(cat data)\" = right ] || exit 1\n\
                 touch -r data before; printf wrong >data; touch -r before data; rm before\n\
                 touch superfluous kept.log\n";
    sandbox.file("data", "right").file("tests/one", spoil);
    let passed = |sandbox: &Sandbox| {
        let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
        assert_eq!(ended.code(), Some(0), "{}", ended.seen());
        assert_eq!(events.texts("host_synced", "snapshot").len(), 1);
    };
    passed(&sandbox);
    assert_eq!(rsync_calls(&sandbox), 1);
    let [workspace] = &workspaces(&sandbox)[..] else { panic!("there is one workspace") };
    let path = |name: &str| workspace.join(name);
    assert!(path("superfluous").exists());
    sandbox.file("tests/two", "[ -e kept.log ] && [ ! -e superfluous ] && [ \"$(cat new/file)\" = new ]\n");
    sandbox.file("new/file", "new").file("tests/one", "[ \"$(cat data)\" = right ]\n");
    passed(&sandbox);
    fs::remove_dir_all(sandbox.path("project/new")).unwrap();
    fs::remove_file(sandbox.path("project/tests/two")).unwrap();
    passed(&sandbox);
    assert_eq!(rsync_calls(&sandbox), 1);
    assert!(!path("new").exists() && path("kept.log").exists());
    assert_eq!(fs::read(path("data")).unwrap(), b"right");
}

#[test]
fn without_what_was_remembered_rsync_copies() {
    let sandbox = sandbox();
    sandbox.file("tests/one", "[ \"$(cat data)\" = right ]\n").file("data", "right");
    let passed = || {
        let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
        assert_eq!(ended.code(), Some(0));
        events.texts("host_synced", "copied").concat()
    };
    let forgotten = "nothing is remembered of the workspace";
    assert_eq!(passed(), forgotten);
    let memory = workspaces(&sandbox)[0].with_added_extension("copied");
    for damage in [fs::remove_file, |path: &PathBuf| fs::write(path, "damaged")] {
        let before = rsync_calls(&sandbox);
        damage(&memory).unwrap();
        assert_eq!(passed(), forgotten);
        assert_eq!(rsync_calls(&sandbox), before + 1);
        assert_eq!(passed(), "");
        assert_eq!(rsync_calls(&sandbox), before + 1);
    }
}
