//! Shows what a run would do: files in order, predicted seconds, each runner's share.

use std::fmt::Write as _;
use std::time::Duration;

use distributest_core::workload::Workload;
use distributest_report::format;
use unicode_width::UnicodeWidthStr as _;

use crate::hosts::HostSpec;
use crate::plan::{PlannedFile, RunPlan};

/// The plan as text for standard output.
pub fn describe(plan: &RunPlan, hosts: &[HostSpec]) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let places: Vec<_> = plan.files.iter().map(|file| file.part.as_ref().map(|part| part.place())).collect();
    let files = format::files(places.iter().map(Option::as_ref));
    let _ = writeln!(text, "{files}, in the order they would be handed out:");
    for (index, file) in plan.files.iter().enumerate() {
        let predicted = file.predicted.map_or_else(|| "?".into(), format::duration);
        let path = named(file);
        let _ = writeln!(text, "{:>6}  {predicted:>10}  {:<8}  {path}", index + 1, file.framework);
    }
    if let Some(finished) = &plan.finished {
        let files = format::count(finished.file_count() as u64, "file");
        let _ = writeln!(text, "{:>6}  not run again: {files} that the run to resume has finished", "-");
    }
    for unusable in &plan.unusable {
        let path = format::display_path(&unusable.name);
        let _ = writeln!(text, "{:>6}  not run: its name is not valid UTF-8: {path}", "-");
    }
    describe_runners(&mut text, plan, hosts);
    text
}

/// Columns of the bar of the runner that is busy longest.
const LONGEST_BAR: f64 = 40.0;

/// A runner's predicted share of the work.
struct Share {
    name: String,
    speed: f64,
    files: usize,
    busy: Duration,
}

impl Share {
    fn of_runner(host: &HostSpec, number: u16, speed: f64) -> Share {
        Share { name: format!("{} {number}:", host.name), speed, files: 0, busy: Duration::ZERO }
    }

    /// How long a file takes here, as far as is known.
    fn takes(&self, file: &PlannedFile) -> Duration {
        file.predicted.unwrap_or_default().div_f64(self.speed)
    }
}

fn describe_runners(text: &mut String, plan: &RunPlan, hosts: &[HostSpec]) {
    let mut shares = Vec::new();
    let mut unknown = Vec::new();
    for host in hosts {
        match host.known_runners() {
            Some(count) => {
                let speed = plan.speeds.of(&host.name);
                shares.extend((1..=count).map(|number| Share::of_runner(host, number, speed)));
            }
            None => unknown.push(host.name.as_str()),
        }
    }
    let predicted = plan.files.iter().any(|file| file.predicted.is_some());
    let _ = writeln!(text, "\nrunners:");
    if unknown.is_empty() && predicted {
        hand_out(plan, &mut shares);
        draw(text, &shares);
        explain(text, plan, &shares);
        return;
    }
    for host in hosts {
        let _ = match host.known_runners() {
            Some(count) => writeln!(text, "  {}: {count}", host.name),
            None => writeln!(text, "  {}: as many as it has cores", host.name),
        };
    }
    if !predicted {
        let _ = writeln!(text, "no earlier run is known: files with shared examples first, then big ones");
    }
}

/// A line for each runner, as long as it should be busy.
fn draw(text: &mut String, shares: &[Share]) {
    let longest = shares.iter().map(|share| share.busy).max().unwrap_or_default().as_secs_f64();
    let name_width = shares.iter().map(|share| share.name.width()).max().unwrap_or_default();
    for share in shares {
        let padding = " ".repeat(name_width - share.name.width());
        let (files, busy) = (format::count(share.files as u64, "file"), format::duration(share.busy));
        let part = if longest > 0.0 { share.busy.as_secs_f64() / longest } else { 0.0 };
        // At most the longest bar.
        let bar = "━".repeat((part * LONGEST_BAR).round() as usize);
        let line = format!("  {}{padding} {files:>9} {busy:>10}  {bar}", share.name);
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// How long testing should take, how long it would take at least, and what that is for.
fn explain(text: &mut String, plan: &RunPlan, shares: &[Share]) {
    let expected = shares.iter().map(|share| share.busy).max().unwrap_or_default();
    let work: Workload = plan.files.iter().filter_map(|file| file.predicted).collect();
    let speeds: Vec<f64> = shares.iter().map(|share| share.speed).collect();
    let fastest = speeds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bound = work.lower_bound_at(&speeds);
    let longest = plan.files.iter().max_by_key(|file| file.predicted);
    let reason = match longest.filter(|_| work.longest().div_f64(fastest) == bound && shares.len() > 1) {
        Some(file) => format!("the longest file, {}", named(file)),
        None => format!("{} of tests on {}", format::duration(work.total()), runners(shares.len())),
    };
    let (expected, bound) = (format::duration(expected), format::duration(bound));
    let _ = writeln!(text, "\ntesting should take {expected}; the least possible is {bound}: {reason}");
}

fn runners(number: usize) -> String {
    format::count(number as u64, "runner")
}

/// A file's path, and which part of it.
fn named(file: &PlannedFile) -> String {
    let part = file.part.as_ref().map(|part| format::part(part.place()));
    format::display_path(&file.path) + &part.unwrap_or_default()
}

/// Gives each file in turn to the runner that is through with it first, as a run would if every prediction came true.
fn hand_out(plan: &RunPlan, shares: &mut [Share]) {
    for file in &plan.files {
        if let Some(share) = shares.iter_mut().min_by_key(|share| share.busy + share.takes(file)) {
            share.files += 1;
            share.busy += share.takes(file);
        }
    }
}
