//! What is printed about a file the moment it turns out not to be fine.

use distributest_core::outcome::{Outcome, Verdict};

use super::excerpt::{Excerpt, Room};
use super::ledger::{AttemptNotes, FailingTest};
use super::palette::Palette;
use super::tails::Tail;
use crate::format;
use crate::untrusted::{Colors, clean_lines, clean_one_line};

/// Failing tests told of by name and message after those told of in detail; more are counted.
const NAMED_TESTS: usize = 200;

/// How much to show and in which colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    pub(super) palette: Palette,
    /// How much of a test's or file's details.
    pub(super) room: Room,
}

impl Detail {
    /// What becomes of the colours of tests.
    pub(super) fn colors(self) -> Colors {
        if self.palette.color { Colors::Keep } else { Colors::Strip }
    }
}

/// The block for a file that ran and did not pass. `place` is the runner as people should see it.
pub(super) fn describe(
    path: &str,
    outcome: Outcome,
    notes: &AttemptNotes,
    place: &str,
    detail: Detail,
) -> String {
    let word = detail.palette.bad(&outcome.word().to_uppercase());
    describe_as(&word, path, outcome, notes, place, detail)
}

/// The same for an attempt after which the file was tried again.
pub(super) fn describe_earlier(
    path: &str,
    outcome: Outcome,
    notes: &AttemptNotes,
    place: &str,
    detail: Detail,
) -> String {
    let word = detail.palette.odd(&format!("before that {}", outcome.word()));
    describe_as(&word, path, outcome, notes, place, detail)
}

/// The line for a file that passed in the end.
pub(super) fn flaky_line(path: &str, notes: &AttemptNotes, place: &str, palette: Palette) -> String {
    let tries = notes.failed_before.len() + 1;
    let passed = palette.faint(&format!("  ({place})"));
    format!("{} {}  passed on try {tries}{passed}\n", palette.odd("FLAKY"), palette.strong(path))
}

fn describe_as(
    word: &str,
    path: &str,
    outcome: Outcome,
    notes: &AttemptNotes,
    place: &str,
    detail: Detail,
) -> String {
    let palette = detail.palette;
    let report = notes.report.as_ref();
    let seconds = report.map(|report| format!(", {}", format::duration(report.duration))).unwrap_or_default();
    let mut text = format!(
        "{word} {}{}{}\n",
        palette.strong(path),
        what_failed(outcome, notes),
        palette.faint(&format!("  ({place}{seconds})")),
    );
    let (message, details) = report.map_or(("", ""), |report| (&report.message, &report.details));
    let details = Excerpt::of(details, detail.room, detail.colors());
    push_account(&mut text, message, &details, detail, "  ");
    push_tests(&mut text, &notes.failing, detail);
    let told = |test: &FailingTest| test.details.as_ref().is_some_and(|details| !details.is_empty());
    let explained = !details.is_empty() || notes.failing.iter().any(told);
    if !explained && !notes.tail.text.is_empty() {
        text.push_str("\n  its last output:\n");
        push_tail(&mut text, &notes.tail, palette, "    ");
    }
    text.push('\n');
    text
}

fn what_failed(outcome: Outcome, notes: &AttemptNotes) -> String {
    let tests = format::count(notes.tests as u64, "test");
    match (outcome, notes.failing.len()) {
        (Outcome::Broken, _) => "  did not load".to_owned(),
        (_, 0) if notes.tests == 0 => String::new(),
        (Outcome::Failed, failing) => format!("  {} of {tests} failed", format::number(failing as u64)),
        (_, 0) => format!("  after {tests}"),
        (_, failing) => format!("  after {tests}, {} of them failed", format::number(failing as u64)),
    }
}

/// The first tests in detail, then names and messages, then a number.
fn push_tests(text: &mut String, tests: &[FailingTest], detail: Detail) {
    let detailed = tests.partition_point(|test| test.details.is_some());
    for test in &tests[..detailed] {
        text.push('\n');
        push_test(text, test, detail);
    }
    let brief = &tests[detailed..];
    if !brief.is_empty() {
        text.push('\n');
    }
    for test in brief.iter().take(NAMED_TESTS) {
        let (name, message) = (clean_one_line(&test.name), clean_one_line(&test.message));
        let colon = if message.is_empty() { "" } else { ": " };
        text.push_str(&format!("  {}{colon}{message}\n", detail.palette.bad(&name)));
    }
    if let Some(more) = brief.len().checked_sub(NAMED_TESTS).filter(|more| *more > 0) {
        let note = format!("… and {} in the log", format::count(more as u64, "more failing test"));
        text.push_str(&format!("  {}\n", detail.palette.faint(&note)));
    }
}

fn push_test(text: &mut String, test: &FailingTest, detail: Detail) {
    let name = clean_one_line(&test.name);
    text.push_str(&format!("  {}", detail.palette.bad(&name)));
    if !test.place.is_empty() {
        text.push_str(&format!("  {}", detail.palette.faint(&test.place)));
    }
    text.push('\n');
    if let Some(details) = &test.details {
        push_account(text, &test.message, details, detail, "    ");
    }
}

/// Message and details, indented; the message only where the details do not repeat it.
fn push_account(text: &mut String, message: &str, details: &Excerpt, detail: Detail, indent: &str) {
    let message = clean_lines(message.trim_end(), detail.colors());
    let repeated = message.first().is_some_and(|first| details.contains(first.trim()));
    let message = if repeated { &[] } else { message.as_slice() };
    let hidden = (details.hidden_lines > 0).then(|| {
        let lines = format::count(details.hidden_lines as u64, "more line");
        detail.palette.faint(&format!("… ({lines} in the log)"))
    });
    for line in message.iter().chain(&details.first).chain(&hidden).chain(&details.last) {
        text.push_str(format!("{indent}{line}").trim_end());
        text.push('\n');
    }
}

/// The end of what a process wrote, indented.
pub(super) fn push_tail(text: &mut String, tail: &Tail, palette: Palette, indent: &str) {
    if tail.earlier_lines > 0 {
        let note = format!("… ({} in the log)", format::count(tail.earlier_lines, "earlier line"));
        text.push_str(&format!("{indent}{}\n", palette.faint(&note)));
    }
    let colors = if palette.color { Colors::Keep } else { Colors::Strip };
    for line in clean_lines(&tail.text, colors) {
        text.push_str(format!("{indent}{line}").trim_end());
        text.push('\n');
    }
}

/// The line about a finished file in verbose mode.
pub(super) fn verdict_line(
    path: &str,
    verdict: &Verdict,
    notes: &AttemptNotes,
    place: &str,
    palette: Palette,
) -> String {
    let Verdict::Ran(outcome) = verdict else {
        return format!("{:9} {path}\n", verdict.word());
    };
    let word = format!("{:9}", outcome.word());
    let word = if outcome.is_success() { palette.good(&word) } else { palette.bad(&word) };
    let tests = format::count(notes.tests as u64, "test");
    let seconds =
        notes.report.as_ref().map(|report| format::duration(report.duration) + ", ").unwrap_or_default();
    format!("{word} {path}{}\n", palette.faint(&format!("  ({seconds}{tests}, {place})")))
}
