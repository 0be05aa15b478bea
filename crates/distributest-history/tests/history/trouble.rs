//! Damage, newer formats, locks and unwritable places: each is a value, none is fatal.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{Place, Run, info, summary};
use distributest_core::outcome::Outcome;
use distributest_core::run_event::RunEvent;
use distributest_history::{History, HistoryError, HistoryWarning, Recorder};

const SECOND: Duration = Duration::from_secs(1);

fn record_one(place: &Place, path: &str) {
    let mut run = Run::start(place.open(), info("blog", 0), &[path]);
    run.verdict(0, Outcome::Passed, SECOND);
    run.finish();
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
    let place = Place::new();
    for number in 1..=2 {
        record_one(&place, "a");
        let nonsense = format!("nonsense number {number}, long enough to be no empty database").repeat(20);
        fs::write(place.path(), &nonsense).unwrap();

        let (history, warnings) = History::open(&place.path()).unwrap();
        let moved_to = place.path().with_file_name(format!("history.sqlite.corrupt-{number}"));
        let [HistoryWarning::SetAside { path, moved_to: told, .. }] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert_eq!((path, told), (&place.path(), &moved_to));
        assert_eq!(fs::read_to_string(&moved_to).unwrap(), nonsense, "what was there is kept");
        assert!(history.recent("blog").unwrap().is_empty());
    }
}

#[test]
fn a_history_is_for_its_owner_alone() {
    let place = Place::new();
    record_one(&place, "a");
    fs::write(place.path(), "nonsense in the place of a database, long enough to be no empty one".repeat(20))
        .unwrap();
    let (history, warnings) = History::open(&place.path()).unwrap();
    assert_eq!(warnings.len(), 1, "a new one beside the damaged one");

    let directory = place.path().parent().unwrap().to_path_buf();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.to_string_lossy().ends_with("-wal")), "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(history);
}

#[test]
fn a_cut_off_file_is_moved_aside() {
    let place = Place::new();
    record_one(&place, "a");
    let length = fs::metadata(place.path()).unwrap().len();
    fs::OpenOptions::new().write(true).open(place.path()).unwrap().set_len(length / 2).unwrap();
    let (history, warnings) = History::open(&place.path()).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(history.recent("blog").unwrap().is_empty());
}

#[test]
fn damage_found_in_use_is_out_of_the_way_for_the_next_run() {
    let place = Place::new();
    record_one(&place, "a");
    let page: u64 =
        place.database().query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    let root: i64 = place
        .database()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'attempts_by_file'", [], |row| row.get(0))
        .unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(place.path()).unwrap();
    file.seek(SeekFrom::Start((root as u64 - 1) * page)).unwrap();
    file.write_all(&vec![0xff; page as usize]).unwrap();

    let history = place.open();
    let error = history.recent("blog").unwrap_err();
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error:?}");
    drop(history);
    assert!(place.path().with_file_name("history.sqlite.corrupt-1").exists());
    record_one(&place, "b");
    assert!(place.open().recent("blog").unwrap().contains_key("b"));
}

#[test]
fn whoever_still_uses_a_damaged_file_leaves_the_new_one_alone() {
    let place = Place::new();
    record_one(&place, "lost");
    let early = place.open();
    let length = fs::metadata(place.path()).unwrap().len() as usize;
    let mut file = fs::OpenOptions::new().write(true).open(place.path()).unwrap();
    file.write_all(&vec![0x55; length]).unwrap();
    let (fresh, warnings) = History::open(&place.path()).unwrap();
    assert_eq!(warnings.len(), 1);

    let mut run = Run::start(fresh, info("blog", 0), &["kept"]);
    run.verdict(0, Outcome::Passed, SECOND * 2);
    // Both the failure and the end of the early connection come while the new file's journal is in use.
    assert!(early.recent("blog").is_err());
    drop(early);
    run.finish();
    assert!(place.open().recent("blog").unwrap().contains_key("kept"));
    assert!(!place.path().with_file_name("history.sqlite.corrupt-2").exists());
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let place = Place::new();
    record_one(&place, "a");
    place.database().pragma_update(None, "user_version", 1_000).unwrap();
    let error = History::open(&place.path()).unwrap_err();
    assert!(matches!(error, HistoryError::Newer { found: 1_000, .. }), "{error:?}");
    assert!(error.to_string().contains("upgrade distributest"), "{error}");
    assert_eq!(place.count("attempts"), 1);
}

#[test]
fn opening_twice_changes_nothing() {
    let place = Place::new();
    record_one(&place, "a");
    let schema = |place: &Place| -> String {
        let sql = "SELECT group_concat(sql, char(10)) FROM sqlite_schema";
        place.database().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let before = (schema(&place), place.count("attempts"));
    drop(place.open());
    assert_eq!((schema(&place), place.count("attempts")), before);
}

#[test]
fn a_place_that_can_not_be_written_is_an_error_with_its_path() {
    let place = Place::new();
    drop(place.open());
    let below_a_file = place.path().join("history.sqlite");
    let error = History::open(&below_a_file).unwrap_err();
    assert!(matches!(error, HistoryError::Directory { .. }), "{error:?}");
    assert!(error.to_string().contains("history.sqlite"), "{error}");
    let a_directory = place.path().parent().unwrap().to_path_buf();
    let error = History::open(&a_directory).unwrap_err();
    assert!(matches!(error, HistoryError::Open { .. }), "{error:?}");
}

#[test]
fn a_locked_database_costs_the_run_no_row() {
    let place = Place::new();
    let mut run = Run::start(place.open(), info("blog", 0), &["a", "b"]);
    let neighbour = place.database();
    neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
    run.verdict(0, Outcome::Passed, SECOND * 2);
    assert_eq!(place.count("attempts"), 0);
    neighbour.execute_batch("COMMIT").unwrap();
    run.verdict(1, Outcome::Passed, SECOND * 2);
    run.finish();
    assert_eq!(place.count("attempts"), 2);
    assert_eq!(place.count("runs"), 1);
}

#[test]
fn a_failed_write_is_told_once_and_the_run_goes_on() {
    let place = Place::new();
    let history = place.open();
    place.database().execute_batch("DROP TABLE runs").unwrap();
    let mut recorder = Recorder::new(history, info("blog", 0));
    let end = RunEvent::RunFinished(summary());
    let error = recorder.on_event(SECOND, &end).unwrap_err();
    assert!(matches!(error, HistoryError::Write { .. }), "{error:?}");
    recorder.on_event(SECOND, &end).unwrap();
}
