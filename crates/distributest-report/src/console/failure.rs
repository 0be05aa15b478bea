//! What is printed about a file the moment it turns out not to be fine.

use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::test_result::TestResult;

use super::ledger::AttemptNotes;
use super::palette::Palette;
use super::tails::Tail;
use crate::format;
use crate::untrusted::{Colors, clean_lines, clean_one_line};

/// Lines of a failure's details that are shown from its start and from its end, where tracebacks say most.
const FIRST_LINES: usize = 15;
const LAST_LINES: usize = 35;

/// How much to show and in which colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    pub(super) palette: Palette,
    /// Show details to the last line.
    pub(super) whole: bool,
}

/// The block for a file that ran and did not pass. `place` is the runner as people should see it.
pub(super) fn describe(
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
        "{} {}{}{}\n",
        palette.bad(&outcome.word().to_uppercase()),
        palette.strong(path),
        what_failed(outcome, notes),
        palette.faint(&format!("  ({place}{seconds})")),
    );
    let (message, details) = report.map_or(("", ""), |report| (&report.message, &report.details));
    push_account(&mut text, message, details, detail, "  ");
    for test in &notes.failing {
        text.push('\n');
        push_test(&mut text, test, detail);
    }
    let explained = !details.is_empty() || notes.failing.iter().any(|test| !test.details.is_empty());
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

fn push_test(text: &mut String, test: &TestResult, detail: Detail) {
    let name = clean_one_line(&test.name);
    text.push_str(&format!("  {}", detail.palette.bad(&name)));
    if let Some(file) = &test.file {
        let line = test.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = format!("{}{line}", format::display_path(file));
        text.push_str(&format!("  {}", detail.palette.faint(&place)));
    }
    text.push('\n');
    push_account(text, &test.message, &test.details, detail, "    ");
}

/// Message and details, indented; the message only where the details do not repeat it.
fn push_account(text: &mut String, message: &str, details: &str, detail: Detail, indent: &str) {
    let colors = colors(detail.palette);
    let mut lines = clean_lines(details.trim_end(), colors);
    if !detail.whole && lines.len() > FIRST_LINES + LAST_LINES {
        let hidden = lines.len() - FIRST_LINES - LAST_LINES;
        let note = format!("… ({} in the log)", format::count(hidden as u64, "more line"));
        lines.splice(FIRST_LINES..FIRST_LINES + hidden, [detail.palette.faint(&note)]);
    }
    let message = clean_lines(message.trim_end(), colors);
    let repeated = message.first().is_some_and(|first| lines.iter().any(|line| line.contains(first.trim())));
    let message = if repeated { &[] } else { message.as_slice() };
    for line in message.iter().chain(&lines) {
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
    for line in clean_lines(&tail.text, colors(palette)) {
        text.push_str(format!("{indent}{line}").trim_end());
        text.push('\n');
    }
}

fn colors(palette: Palette) -> Colors {
    if palette.color { Colors::Keep } else { Colors::Strip }
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
