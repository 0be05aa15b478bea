//! The lines that show how far a run is, and the view that keeps them at the bottom of the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::palette::Palette;
use super::progress::Progress;
use crate::format;
use crate::names::Names;
use crate::untrusted::clean_one_line;

/// Hosts shown one a line while they prepare.
const HOST_LINES: usize = 6;

/// The bar is never longer than this, and left out where it would be shorter than [`SHORTEST_BAR`].
const LONGEST_BAR: usize = 30;
const SHORTEST_BAR: usize = 10;

/// The bottom lines of the terminal, drawn anew whenever they change.
#[derive(Debug)]
pub(super) struct LiveView {
    bar: ProgressBar,
}

impl LiveView {
    pub(super) fn new(target: ProgressDrawTarget) -> LiveView {
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("{msg}").expect("a placeholder alone is a valid template"),
        );
        LiveView { bar }
    }

    pub(super) fn show(&self, lines: &[String]) {
        self.bar.set_message(lines.join("\n"));
    }

    /// Takes the lines away while something else is printed, then puts them back.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What the live view shows, each line shorter than the terminal is wide.
pub(super) fn lines(
    progress: &Progress,
    names: &Names,
    now: Duration,
    width: usize,
    palette: Palette,
) -> Vec<String> {
    if progress.is_preparing() && !progress.stopping {
        return preparing_lines(progress, names, width);
    }
    let mut lines = vec![bar_line(progress, now, width, palette)];
    if let Some(longest) = longest_line(progress, names, now, width) {
        lines.push(palette.faint(&longest));
    }
    if !progress.preparing.is_empty() && !progress.stopping {
        let hosts: Vec<_> = progress
            .preparing
            .iter()
            .map(|(host, activity)| format!("{} {}", names.host(*host), clean_one_line(activity)))
            .collect();
        lines.push(palette.faint(&fit(&format!("preparing: {}", hosts.join(", ")), width)));
    }
    lines
}

/// The progress on one line, for logs of build servers.
pub(super) fn progress_line(progress: &Progress, names: &Names, now: Duration) -> String {
    let mut parts = counts(progress, now);
    if let Some(longest) = longest_line(progress, names, now, usize::MAX) {
        parts.push(longest);
    }
    parts.join(", ")
}

fn preparing_lines(progress: &Progress, names: &Names, width: usize) -> Vec<String> {
    let mut lines: Vec<_> = progress
        .preparing
        .iter()
        .take(HOST_LINES)
        .map(|(host, activity)| fit(&format!("{}: {}", names.host(*host), clean_one_line(activity)), width))
        .collect();
    if progress.preparing.len() > HOST_LINES {
        let more = progress.preparing.len() - HOST_LINES;
        lines.push(format!("and {}", format::count(more as u64, "more host")));
    }
    lines
}

/// `64/120 files`, `2 failed`, `8 running`, `about 70 s left`.
fn counts(progress: &Progress, now: Duration) -> Vec<String> {
    let decided = format::number(progress.decided as u64);
    let mut parts = vec![format!("{decided}/{}", format::count(progress.files as u64, "file"))];
    if progress.failed > 0 {
        parts.push(format!("{} failed", format::number(progress.failed as u64)));
    }
    if progress.running() > 0 {
        parts.push(format!("{} running", progress.running()));
    }
    if progress.stopping {
        parts.push("stopping".to_owned());
    } else if let Some(left) = progress.time_left(now).filter(|_| progress.decided < progress.files) {
        parts.push(format!("about {} left", format::estimate(left)));
    }
    parts
}

fn bar_line(progress: &Progress, now: Duration, width: usize, palette: Palette) -> String {
    let parts = counts(progress, now);
    let mut text = String::new();
    for part in &parts {
        let separator = if text.is_empty() { "" } else { "  " };
        if text.width() + separator.len() + part.width() < width {
            text.push_str(separator);
            text.push_str(part);
        }
    }
    let room = width.saturating_sub(text.width() + 3).min(LONGEST_BAR);
    if room < SHORTEST_BAR || progress.files == 0 {
        return text;
    }
    let done = room * progress.decided / progress.files;
    let filled = "━".repeat(done);
    let filled = if progress.failed > 0 { palette.bad(&filled) } else { palette.good(&filled) };
    format!("{filled}{}  {text}", palette.faint(&"─".repeat(room - done)))
}

fn longest_line(progress: &Progress, names: &Names, now: Duration, width: usize) -> Option<String> {
    let longest = progress.longest_running()?;
    let host = match names.host_count() {
        0 | 1 => String::new(),
        _ => format!(" on {}", names.host(longest.runner.host)),
    };
    let elapsed = format::whole_duration(now.saturating_sub(longest.since));
    let (before, after) = ("longest: ", format!("{host}, {elapsed}"));
    let room = width.saturating_sub(before.width() + after.width() + 1).max(8);
    Some(fit(&format!("{before}{}{after}", fit_path(&names.printable_path(longest.file), room)), width))
}

/// Text cut at its end to less than `width` columns.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.width() < width {
        return text.to_owned();
    }
    let mut columns = 0;
    let mut end = 0;
    for (index, character) in text.char_indices() {
        columns += character.width().unwrap_or(0);
        if columns + 2 > width {
            break;
        }
        end = index + character.len_utf8();
    }
    format!("{}…", &text[..end])
}

/// A path cut at its start to at most `width` columns: its end tells more.
fn fit_path(path: &str, width: usize) -> String {
    if path.width() <= width {
        return path.to_owned();
    }
    let mut columns = 1;
    let mut start = path.len();
    for (index, character) in path.char_indices().rev() {
        columns += character.width().unwrap_or(0);
        if columns > width {
            break;
        }
        start = index;
    }
    format!("…{}", &path[start..])
}
