//! What files use is recorded, and files that do not fit together do not run together.
//!
//! How little memory there is, is made up by a cgroup of version 1 around the whole run. Where none can be made (no root, or
//! the hierarchy is of version 2 alone) the tests that need one say so and end; the lab test `out-of-memory` is theirs, too.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use rustix::process::geteuid;
use serde_json::Value;

use crate::sandbox::{Events, Sandbox};

/// A command that has so many megabytes, and keeps them until a file is there.
fn hungry(megabytes: u32, until: &str) -> String {
    format!(
        "exec python3 -c 'import os, time\nmemory = bytearray(b\"a\") * {megabytes}_000_000\n\
         until = time.monotonic() + 3\nopen(str(os.getpid()) + \".here\", \"w\").close()\n\
         while time.monotonic() < until and not ({until}): time.sleep(0.01)'\n"
    )
}

/// Another one like it is there.
const IN_COMPANY: &str = "len([name for name in os.listdir() if name.endswith(\".here\")]) > 1";

fn attempt<'events>(events: &'events Events, file: &str) -> &'events Value {
    let finished = events.of("attempt_finished");
    finished.into_iter().find(|event| event["file"] == file).expect("it was run")
}

#[test]
fn what_files_use_is_told_and_logged() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    sandbox.file("tests/memory", hungry(200, "True"));
    let burn = "python3 -c 'import time\nwhile time.process_time() < 0.5: pass'\n";
    sandbox.file("tests/processor", burn);
    sandbox.file("tests/nothing", "");
    let (_, events) = sandbox.run_for_events(&[]);
    let peak = |file: &str| attempt(&events, file)["peak_memory_bytes"].as_f64().unwrap() / 1e6;
    let processor = |file: &str| attempt(&events, file)["processor_seconds"].as_f64().unwrap();
    assert!((200.0..300.0).contains(&peak("tests/memory")), "{}", peak("tests/memory"));
    assert!((1.0..100.0).contains(&peak("tests/nothing")), "{}", peak("tests/nothing"));
    assert!((0.5..2.0).contains(&processor("tests/processor")), "{}", processor("tests/processor"));
    assert!((0.0..0.3).contains(&processor("tests/nothing")), "{}", processor("tests/nothing"));
    let log = String::from_utf8_lossy(&sandbox.log()).into_owned();
    assert!(log.contains(" s of processor, 2"), "{log}");
}

/// A cgroup that allows so many megabytes; removed when dropped.
struct LittleMemory(PathBuf);

impl LittleMemory {
    fn new(name: &str, megabytes: u32) -> Option<LittleMemory> {
        let cgroup =
            PathBuf::from(format!("/sys/fs/cgroup/memory/distributest-{name}-{}", std::process::id()));
        let limit = format!("{megabytes}000000");
        let is_made = geteuid().is_root()
            && fs::create_dir(&cgroup).is_ok()
            && fs::write(cgroup.join("memory.limit_in_bytes"), limit).is_ok();
        if !is_made {
            let _ = writeln!(io::stderr(), "SKIPPED: no cgroup that limits memory can be made here");
        }
        is_made.then_some(LittleMemory(cgroup))
    }

    /// Runs the project's tests on two runners within it.
    fn run(&self, sandbox: &Sandbox) -> Events {
        let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.0.display());
        let program = env!("CARGO_BIN_EXE_distributest");
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &enter, "sh", program, "--runners", "2", "--json", "little.jsonl"]);
        sandbox.prepare(&mut command);
        let ended = sandbox.finish(command);
        assert_eq!(ended.code(), Some(0), "{}", ended.seen());
        Events::read(&sandbox.path("project/little.jsonl"))
    }
}

impl Drop for LittleMemory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn files_that_do_not_fit_together_run_one_after_the_other_once_that_is_known() {
    let Some(little) = LittleMemory::new("packing", 500) else { return };
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    for name in ["one", "two"] {
        sandbox.file(format!("tests/{name}"), hungry(300, "True"));
    }
    // There is enough for both.
    sandbox.run_for_events(&["--runners", "2"]);
    let events = little.run(&sandbox);
    let at = |kind: &str| -> Vec<f64> {
        events.of(kind).into_iter().map(|event| event["at"].as_f64().unwrap()).collect()
    };
    let (started, finished) = (at("attempt_started"), at("attempt_finished"));
    assert_eq!((started.len(), finished.len()), (2, 2));
    assert!(finished[0] <= started[1], "one after the other: {started:?} {finished:?}");
}

#[test]
fn a_file_that_the_kernel_killed_for_lack_of_memory_runs_once_more_alone() {
    let Some(little) = LittleMemory::new("killed", 500) else { return };
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    for name in ["one", "two"] {
        sandbox.file(format!("tests/{name}"), hungry(300, IN_COMPANY));
    }
    let events = little.run(&sandbox);
    let finished = events.of("attempt_finished");
    assert_eq!(events.texts("attempt_finished", "outcome"), ["crashed", "passed", "passed"]);
    let message = finished[0]["message"].as_str().unwrap();
    assert!(message.starts_with("killed by the kernel for lack of memory (peak "), "{message}");
    assert_eq!(finished[0]["file"], finished[2]["file"]);
    let [_, _, again] = events.of("attempt_started")[..] else { panic!("three attempts: {finished:?}") };
    assert!(finished[1]["at"].as_f64() <= again["at"].as_f64(), "the other one is over before");
}
