//! Several coordinators, as processes, in one history at once.

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Place, Run, info};
use distributest_core::outcome::Outcome;
use distributest_history::History;

/// Set for the processes that write; its value is the history.
const WRITE_TO: &str = "HISTORY_TEST_WRITE_TO";

const WRITERS: u32 = 6;
const RUNS: u32 = 5;
const FILES: u32 = 40;

/// A writing process; ended with this value if it has not ended by itself.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        // Fails where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_writer(test: &str, path: &Path, project: &str) -> Writer {
    let writer = Command::new(env::current_exe().unwrap())
        .args([&format!("neighbours::{test}"), "--exact", "--nocapture"])
        .env(WRITE_TO, path)
        .env("HISTORY_TEST_PROJECT", project)
        .stdout(Stdio::null())
        .spawn();
    Writer(writer.unwrap())
}

fn write_run(path: &Path, start: i64) {
    let project = env::var("HISTORY_TEST_PROJECT").unwrap();
    let (history, warnings) = History::open(path).unwrap();
    assert_eq!(warnings, []);
    let paths: Vec<String> = (0..FILES).map(|number| format!("{project}/test_{number}.py")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut run = Run::start(history, info(&project, start), &paths);
    for file in 0..FILES {
        // Every other file makes a batch of its own, so that the processes meet at the lock all the time.
        run.verdict(file, Outcome::Passed, Duration::from_millis(600));
    }
    run.finish();
}

#[test]
fn several_processes_lose_nothing() {
    if let Some(path) = env::var_os(WRITE_TO) {
        (0..RUNS).for_each(|number| write_run(Path::new(&path), i64::from(number) * 60_000));
        return;
    }
    let place = Place::new();
    // Two to a project: neighbours share rows of projects, files and hosts, too.
    let writers: Vec<Writer> = (0..WRITERS)
        .map(|number| {
            start_writer("several_processes_lose_nothing", &place.path(), &format!("project-{}", number / 2))
        })
        .collect();
    for mut writer in writers {
        assert!(writer.0.wait().unwrap().success());
    }
    assert_eq!(place.count("projects"), i64::from(WRITERS / 2));
    assert_eq!(place.count("runs"), i64::from(WRITERS * RUNS));
    assert_eq!(place.count("runs WHERE exit_status = 0"), i64::from(WRITERS * RUNS));
    assert_eq!(place.count("attempts"), i64::from(WRITERS * RUNS * FILES));
    assert_eq!(place.count("tests"), i64::from(WRITERS * RUNS * FILES));
    assert_eq!(place.count("files"), i64::from(WRITERS / 2 * FILES));
    let recent = place.open().recent("project-1").unwrap();
    assert_eq!(recent.len(), FILES as usize);
    assert!(recent.values().all(|attempts| attempts.len() == 2 * RUNS as usize));
}

#[test]
fn a_killed_process_leaves_a_sound_file_with_what_it_had_written() {
    if let Some(path) = env::var_os(WRITE_TO) {
        for number in 0.. {
            write_run(Path::new(&path), number * 60_000);
        }
    }
    let place = Place::new();
    drop(place.open());
    for round in 1..=5 {
        let attempts_before = place.count("attempts");
        let test = "a_killed_process_leaves_a_sound_file_with_what_it_had_written";
        let writer = start_writer(test, &place.path(), &format!("project-{round}"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while place.count("attempts") < attempts_before + 50 {
            assert!(Instant::now() < deadline, "the writer writes nothing");
            std::thread::yield_now();
        }
        drop(writer);
        let check: String =
            place.database().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let recent = place.open().recent(&format!("project-{round}")).unwrap();
        assert!(recent.values().map(Vec::len).sum::<usize>() >= 50);
    }
}
