//! Disks that are full, and a history that can't be used: the run's verdicts and exit status stay right, and what is
//! missing is named.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use crate::sandbox::{Ended, Sandbox};

/// A file system of its own in a directory, taken away at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None`, with a word about it, where that is not permitted.
    fn mount(directory: PathBuf, kilobytes: usize) -> Option<SmallDisk> {
        fs::create_dir_all(&directory).expect("make a directory");
        let options = format!("size={kilobytes}k,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&directory).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(directory));
        }
        // Not a macro: the test harness keeps what those print to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: full disks: this test may not mount one");
        None
    }

    /// Leaves not one byte.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).expect("make a file");
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// One test that passes, one that fails, one that writes a few megabytes.
fn project() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/passes", "").file("tests/fails", "exit 1\n");
    sandbox.file("tests/writes", "head -c 4000000 /dev/zero | tr '\\0' x\n");
    sandbox
}

fn state(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("home/.local/state/distributest")
}

/// Asserts that the run came out as if nothing was wrong, and said this about what was.
fn assert_right(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    assert!(ended.stdout.contains("3 files: 2 passed, 1 failed"), "{}", ended.seen());
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is missing in {}", ended.seen());
    }
}

#[test]
fn the_disk_of_log_and_history_runs_full() {
    let sandbox = project();
    let Some(_disk) = SmallDisk::mount(sandbox.path("home"), 1024) else { return };
    let ended = sandbox.finish(sandbox.command(&["--runners", "1"]));
    assert_right(
        &ended,
        &["failed to write the log", "No space left on device", "the run goes on without it"],
    );
}

#[test]
fn the_disk_of_log_and_history_is_full() {
    let sandbox = project();
    let Some(disk) = SmallDisk::mount(sandbox.path("home"), 512) else { return };
    disk.fill();
    let ended = sandbox.start(sandbox.command(&["--runners", "1"])).wait_for_processes();
    assert_right(&ended, &["history", "log", "No space left on device"]);
}

#[test]
fn the_disk_of_the_reports_is_full() {
    let sandbox = project();
    for report in ["--junit", "--json"] {
        let Some(disk) = SmallDisk::mount(sandbox.path("reports"), 16) else { return };
        disk.fill();
        let path = sandbox.path("reports/report").display().to_string();
        let ended = sandbox.finish(sandbox.command(&["--runners", "1", report, &path]));
        assert_right(&ended, &[&path, "No space left on device"]);
        // A run in which nothing fails is no success without its report.
        let passes = sandbox.finish(sandbox.command(&["--runners", "1", report, &path, "tests/passes"]));
        assert_eq!(passes.code(), Some(3), "{}", passes.seen());
    }
}

#[test]
fn the_disk_of_the_agents_files_is_full() {
    let sandbox = project();
    // The worker of a framework is written there.
    sandbox.file("test_a.py", "def test_passes(): pass\n");
    sandbox.file(".distributest/config.toml", "");
    let Some(disk) = SmallDisk::mount(sandbox.path("tmp"), 64) else { return };
    disk.fill();
    let ended = sandbox.start(sandbox.command(&["--runners", "1"])).wait_for_processes();
    assert_eq!(ended.code(), Some(3), "{}", ended.seen());
    assert!(ended.seen().contains("No space left on device"), "{}", ended.seen());
    assert!(ended.stdout.contains("1 file: 1 not run"), "{}", ended.seen());
}

#[test]
fn tests_and_hooks_that_fill_the_disk_fail_and_the_next_run_is_fine() {
    let sandbox = Sandbox::new();
    let Some(disk) = SmallDisk::mount(sandbox.path("tmp"), 256) else { return };
    sandbox.shell_tests("").file("tests/fills", "head -c 9999999 /dev/zero > $TMPDIR/big\n# comes first\n");
    sandbox.file("tests/passes", "");
    let ended = sandbox.start(sandbox.command(&["--runners", "1"])).wait_for_processes();
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    assert!(ended.stdout.contains("2 files: 1 passed, 1 failed"), "{}", ended.seen());
    assert!(ended.stdout.contains("No space left on device"), "{}", ended.seen());
    fs::remove_file(disk.0.join("big")).expect("it filled the disk");

    sandbox.program(".distributest/node_setup", "#!/bin/sh\nhead -c 9999999 /dev/zero > $TMPDIR/big\n");
    let ended = sandbox.start(sandbox.command(&["--runners", "1"])).wait_for_processes();
    assert_eq!(ended.code(), Some(3), "{}", ended.seen());
    assert!(ended.seen().contains("node_setup"), "{}", ended.seen());
}

#[test]
fn a_history_of_every_kind_of_damage_costs_a_warning_and_nothing_else() {
    let sandbox = project();
    let history = state(&sandbox).join("history.sqlite");
    let first = sandbox.finish(sandbox.command(&["--runners", "1"]));
    assert_right(&first, &[]);
    let good = fs::read(&history).expect("there is a history");
    type Damage = fn(&Path, &[u8]);
    let damages: [(&str, Damage, &str); 5] = [
        (
            "random bytes",
            |path, good| write(path, &good.iter().map(|byte| byte.wrapping_mul(31)).collect::<Vec<_>>()),
            "moved to",
        ),
        ("cut in half", |path, good| write(path, &good[..good.len() / 2]), "history"),
        ("another program's", other_schema, "history"),
        ("of a newer version", newer_version, "format 99"),
        (
            "a page of zeros",
            |path, good| {
                let mut bytes = good.to_vec();
                bytes[4096..8192].fill(0);
                write(path, &bytes);
            },
            "history",
        ),
    ];
    for (what, damage, word) in damages {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", history.display()));
        }
        damage(&history, &good);
        let ended = sandbox.finish(sandbox.command(&["--runners", "1"]));
        assert!(ended.code() == Some(1), "{what}: {}", ended.seen());
        assert_right(&ended, &["warning", word]);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("write a file");
}

fn other_schema(path: &Path, _: &[u8]) {
    let database = Connection::open(path).expect("make a database");
    database
        .execute_batch("CREATE TABLE runs (colour TEXT); PRAGMA user_version = 1;")
        .expect("make a table");
}

fn newer_version(path: &Path, good: &[u8]) {
    write(path, good);
    let database = Connection::open(path).expect("open the history");
    database.execute_batch("PRAGMA user_version = 99;").expect("set the version");
}

#[test]
fn a_history_that_is_locked_or_read_only_costs_a_warning_and_nothing_else() {
    let sandbox = project();
    assert_right(&sandbox.finish(sandbox.command(&["--runners", "1"])), &[]);
    let history = state(&sandbox).join("history.sqlite");
    let other = Connection::open(&history).expect("open the history");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock the history");
    assert_right(&sandbox.finish(sandbox.command(&["--runners", "1"])), &["warning", "history", "lock"]);
    drop(other);

    fs::set_permissions(&history, Permissions::from_mode(0o444)).expect("set permissions");
    let arguments = ["--runners", "1"];
    let ended = sandbox.finish(sandbox.command_bound_by_permissions(&arguments));
    assert_right(&ended, &["warning", "history"]);
    fs::set_permissions(state(&sandbox), Permissions::from_mode(0o555)).expect("set permissions");
    let ended = sandbox.start(sandbox.command_bound_by_permissions(&arguments)).wait_for_processes();
    assert_right(&ended, &["warning", "history"]);
}
