//! Journals on a real disk, of runs that are made up.

#![expect(clippy::disallowed_methods, reason = "files on disk are dated by the clock on the wall")]

mod any_run;
mod support;

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use distributest_core::outcome::{NotRunReason, Outcome, Verdict};
use distributest_core::run_event::RunEvent;

use self::support::{Place, begun, finish_file, verdict};
use super::record::FORMAT;
use super::*;
use crate::hosts::HostSpec;

fn passed() -> Verdict {
    Verdict::Ran(Outcome::Passed)
}

#[test]
fn a_run_that_goes_on_is_named_and_left_alone() {
    let place = Place::new(2);
    assert!(matches!(place.journals.take_up(), Err(TakeUpError::Nothing)));
    let mut journal = place.begin(begun("first", 1));
    finish_file(&mut journal, 0, passed());
    let goes_on = place.journals.take_up().unwrap_err();
    assert_eq!(goes_on.to_string(), "the run first of this project is still going on (process 42)");
    drop(journal);
    let (_, finished) = place.resume();
    assert_eq!(finished, ["tests/0 passed"]);
}

#[test]
fn a_host_that_takes_no_part_any_more_keeps_its_name() {
    let place = Place::new(2);
    let mut journal = place.begin(begun("one", 1));
    finish_file(&mut journal, 1, passed());
    drop(journal);
    let mut plan = place.plan();
    place.journals.take_up().unwrap().set_aside(&mut plan, identify(&place.plan()), SystemTime::now());
    let hosts = [HostSpec { name: "other".to_owned(), ..support::host_spec() }];
    let RunEvent::RunStarted { hosts: announced, files, .. } = plan.started_event(&hosts) else {
        panic!("a run starts with its start")
    };
    let names: Vec<_> = announced.iter().map(|host| (host.name.as_str(), host.takes_part())).collect();
    assert_eq!(names, [("other", true), ("h1", false)]);
    assert_eq!(files[1].path, "tests/1");
    let ran_on: Vec<_> = plan
        .resumed_events(&hosts)
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::AttemptFinished(report) => Some((report.file.0, report.runner.host.0)),
            _ => None,
        })
        .collect();
    assert_eq!(ran_on, [(1, 1)]);
}

#[test]
fn the_last_run_is_taken_and_those_of_other_projects_are_not() {
    let place = Place::new(1);
    for (run, at) in [("second", 2), ("third", 10), ("first", 1)] {
        drop(place.begin(begun(run, at)));
    }
    let mut other = place.journals.clone();
    other.prefix = "other_".to_owned();
    drop(other.begin(begun("fourth", 20), Vec::new()).unwrap());
    assert_eq!(place.journals.take_up().unwrap().contents.begun.run, "third");
}

#[test]
fn a_journal_goes_when_every_file_is_finished() {
    let place = Place::new(2);
    let mut journal = place.begin(begun("one", 1));
    finish_file(&mut journal, 0, passed());
    finish_file(&mut journal, 1, Verdict::Ran(Outcome::Crashed));
    journal.finish();
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_file_that_was_not_run_keeps_it() {
    let place = Place::new(2);
    let mut journal = place.begin(begun("one", 1));
    finish_file(&mut journal, 0, passed());
    journal.on_event(&verdict(1, Verdict::NotRun(NotRunReason::Stopped), None)).unwrap();
    journal.finish();
    let (plan, finished) = place.resume();
    assert_eq!(finished, ["tests/0 passed"]);
    assert_eq!(plan.files.len(), 1);
}

#[test]
fn a_finished_run_takes_along_what_was_asked_for_before_in_the_same_words() {
    let place = Place::new(1);
    let asked = |run: &str, at: u64, path: &str, runners: &str| {
        let mut begun = begun(run, at);
        begun.invocation.paths = vec![path.to_owned()];
        begun.invocation.flags = vec![("runners".to_owned(), vec![runners.to_owned()])];
        begun
    };
    drop(place.begin(asked("same", 1, "tests", "1")));
    drop(place.begin(asked("other", 2, "tests/0", "1")));
    let alive = place.begin(asked("alive", 3, "tests", "1"));
    let mut journal = place.begin(asked("this", 4, "tests", "2"));
    drop(place.begin(asked("later", 5, "tests", "1")));
    finish_file(&mut journal, 0, passed());
    journal.finish();
    assert_eq!(place.names(), ["other", "alive", "later"]);
    drop(alive);
}

#[test]
fn a_verdict_waits_for_the_end_of_its_attempt() {
    let place = Place::new(1);
    let mut journal = place.begin(begun("one", 1));
    journal.on_event(&verdict(0, passed(), Some(1))).unwrap();
    assert_eq!(place.text().lines().count(), 2, "nothing is known of the attempt");
    journal.on_event(&RunEvent::AttemptFinished(support::report(1, 0, Outcome::Passed))).unwrap();
    assert_eq!(place.text().lines().count(), 3);
}

/// A line that was torn by the end of the process does not spoil what is written after it.
#[test]
fn a_torn_line_ends_where_the_next_run_begins() {
    let place = Place::new(3);
    let mut journal = place.begin(begun("one", 1));
    finish_file(&mut journal, 0, passed());
    finish_file(&mut journal, 1, passed());
    drop(journal);
    let text = place.text();
    fs::write(place.path(), &text[..text.len() - 10]).unwrap();
    let mut taken = place.journals.take_up().unwrap();
    let mut plan = place.plan();
    let left = taken.set_aside(&mut plan, identify(&place.plan()), SystemTime::now());
    assert_eq!(plan.files.len(), 2);
    let mut journal = taken.go_on(begun("two", 2), left).unwrap();
    finish_file(&mut journal, 0, passed());
    drop(journal);
    assert_eq!(place.names(), ["two"]);
    let (_, finished) = place.resume();
    assert_eq!(finished, ["tests/0 passed", "tests/1 passed"]);
}

#[test]
fn what_is_no_journal_says_so() {
    let place = Place::new(1);
    drop(place.begin(begun("one", 1)));
    let why = |text: &[u8]| {
        fs::write(place.path(), text).unwrap();
        match place.journals.take_up() {
            Err(TakeUpError::Unreadable { source, .. }) => source,
            other => panic!("it was read: {other:?}"),
        }
    };
    assert!(matches!(why(b"distributest journal 2\nwhat may come\n"), UnreadableError::OtherFormat));
    assert!(matches!(why(b""), UnreadableError::Headless));
    assert!(matches!(why(FORMAT), UnreadableError::Headless));
    assert!(matches!(why(b"\xff\x00 garbage \n\n\n"), UnreadableError::Headless));
    // The line of the run is damaged: its length is right, and it is JSON.
    let whole = place.begin(begun("two", 2));
    drop(whole);
    let text = place.text().replace("\"two\"", "\"six\"");
    assert!(matches!(why(text.as_bytes()), UnreadableError::Headless));
}

#[test]
fn a_full_disk_is_told_once() {
    let place = Place::new(2);
    let mut journal = place.begin(begun("one", 1));
    journal.file = File::options().write(true).open("/dev/full").unwrap();
    let errors: Vec<String> = (0..2)
        .flat_map(|file| support::finishing(file, passed()))
        .filter_map(|event| journal.on_event(&event).err())
        .map(|error| crate::error::chain(&error))
        .collect();
    let path = place.path();
    assert_eq!(
        errors,
        [format!("write the journal {}: No space left on device (os error 28)", path.display())]
    );
    // All is finished, written down or not.
    journal.finish();
    assert!(!path.exists());
}

/// Also if it is full from the start: a run that goes on in a former one's journal still ends it.
#[test]
fn a_continued_run_on_a_full_disk_leaves_nothing_to_continue() {
    let place = Place::new(1);
    drop(place.begin(begun("one", 1)));
    let mut taken = place.journals.take_up().unwrap();
    taken.file = File::options().write(true).open("/dev/full").unwrap();
    let mut journal = taken.go_on(begun("two", 2), identify(&place.plan())).unwrap();
    let told: Vec<bool> =
        support::finishing(0, passed()).iter().map(|event| journal.on_event(event).is_err()).collect();
    assert_eq!(told, [true, false]);
    journal.finish();
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn the_newest_few_are_kept() {
    let place = Place::new(1);
    let alive = place.begin(begun("alive", 0));
    for at in 1..=7 {
        drop(place.begin(begun(&format!("run{at}"), at)));
    }
    assert_eq!(place.names(), ["alive", "run3", "run4", "run5", "run6", "run7"]);
    drop(alive);
}

/// Also of projects that are gone; but nothing that is no journal.
#[test]
fn what_nobody_came_back_to_is_removed() {
    let place = Place::new(1);
    let mut other = place.journals.clone();
    other.prefix = "other_".to_owned();
    drop(other.begin(begun("forgotten", 1), Vec::new()).unwrap());
    drop(other.begin(begun("young", 2), Vec::new()).unwrap());
    let notes = other.paths().unwrap()[0].with_file_name("notes.txt");
    fs::write(&notes, "").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(15 * 24 * 60 * 60);
    for path in [other.paths().unwrap()[0].clone(), notes] {
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    drop(place.begin(begun("one", 3)));
    assert_eq!(place.names(), ["notes.txt", "young", "one"]);
}

#[test]
fn a_package_has_changed_when_a_file_in_it_has() {
    let place = Place::new(0);
    let package = place.project.join("package");
    fs::create_dir(&package).unwrap();
    fs::write(package.join("a_test.go"), "package a\n").unwrap();
    let identity = || identify(&place.plan_of(&["package"]));
    let before = identity();
    assert_eq!(before, identity());
    fs::write(package.join("a_test.go"), "package a // changed\n").unwrap();
    assert_ne!(before, identity());
}
