//! One consumer that fails never stops the others.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributest_core::run_event::RunEvent;
use distributest_report::{JsonLines, ReportError, Reporter, Reporters};

use crate::scenarios;
use crate::shared_buffer::{FailingWriter, SharedBuffer};

/// Remembers what it was given, and can fail from some event on.
struct Recorder {
    seen: Arc<Mutex<Vec<RunEvent>>>,
    room: usize,
}

impl Recorder {
    fn new(room: usize) -> (Recorder, Arc<Mutex<Vec<RunEvent>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        (Recorder { seen: seen.clone(), room }, seen)
    }
}

impl Reporter for Recorder {
    fn on_event(&mut self, _now: Duration, event: &RunEvent) -> Result<(), ReportError> {
        let mut seen = self.seen.lock().unwrap();
        if seen.len() == self.room {
            return Err(ReportError::Console { source: io::ErrorKind::StorageFull.into() });
        }
        seen.push(event.clone());
        Ok(())
    }
}

#[test]
fn a_full_disk_is_one_warning_and_the_run_goes_on() {
    let run = scenarios::all_pass();
    let (recorder, seen) = Recorder::new(usize::MAX);
    let full = FailingWriter { room: 100, error: io::ErrorKind::StorageFull };
    let mut reporters = Reporters::new();
    reporters.add(JsonLines::new(Box::new(full), "/ci/run.json".into()));
    reporters.add(recorder);
    for (at, event) in &run {
        reporters.on_event(*at, event);
    }
    let failures = reporters.finish();

    assert_eq!(failures.len(), 1);
    assert!(matches!(&failures[0], ReportError::JsonLines { path, .. } if path.ends_with("run.json")));
    let mut seen = seen.lock().unwrap();
    let message =
        "failed to write the JSON lines to /ci/run.json: no storage space; the run goes on without it";
    let warning = RunEvent::Warning { message: message.to_owned() };
    assert_eq!(seen[0], warning, "the warning comes before the event at which the other failed");
    seen.remove(0);
    let events: Vec<_> = run.into_iter().map(|(_, event)| event).collect();
    assert_eq!(*seen, events, "and every event still comes");
}

#[test]
fn consumers_that_fail_at_a_warning_are_dropped_too() {
    let run = scenarios::all_pass();
    let (first, _) = Recorder::new(0);
    let (second, second_seen) = Recorder::new(0);
    let (third, third_seen) = Recorder::new(usize::MAX);
    let mut reporters = Reporters::new();
    reporters.add(third);
    reporters.add(first);
    reporters.add(second);
    for (at, event) in &run {
        reporters.on_event(*at, event);
    }
    assert_eq!(reporters.finish().len(), 2);
    assert_eq!(second_seen.lock().unwrap().len(), 0);
    assert_eq!(third_seen.lock().unwrap().len(), run.len() + 2);
}

#[test]
fn no_consumer_is_left_and_nothing_breaks() {
    let mut reporters = Reporters::new();
    reporters.add(Recorder::new(0).0);
    for (at, event) in scenarios::failures() {
        reporters.on_event(at, &event);
        reporters.on_tick(at);
    }
    assert_eq!(reporters.finish().len(), 1);
}

#[test]
fn every_consumer_gets_the_whole_stream() {
    let output = SharedBuffer::default();
    let (recorder, seen) = Recorder::new(usize::MAX);
    let mut reporters = Reporters::new();
    reporters.add(JsonLines::new(Box::new(output.clone()), "out".into()));
    reporters.add(recorder);
    let run = scenarios::host_failed();
    for (at, event) in &run {
        reporters.on_event(*at, event);
    }
    assert!(reporters.finish().is_empty());
    assert_eq!(seen.lock().unwrap().len(), run.len());
    assert_eq!(output.text().lines().count(), run.len());
}
