//! Shows what a run would do: files in order, predicted seconds, each runner's share.

use std::fmt::Write as _;
use std::time::Duration;

use distributest_core::workload::Workload;
use distributest_report::format;

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

/// A runner's predicted share of the work.
struct Share {
    host: String,
    number: u16,
    files: usize,
    busy: Duration,
}

fn describe_runners(text: &mut String, plan: &RunPlan, hosts: &[HostSpec]) {
    let mut shares = Vec::new();
    let mut unknown = Vec::new();
    for host in hosts {
        match host.known_runners() {
            Some(count) => shares.extend((1..=count).map(|number| Share {
                host: host.name.clone(),
                number,
                files: 0,
                busy: Duration::ZERO,
            })),
            None => unknown.push(host.name.as_str()),
        }
    }
    let predicted = plan.files.iter().any(|file| file.predicted.is_some());
    let _ = writeln!(text, "\nrunners:");
    if unknown.is_empty() && predicted {
        hand_out(plan, &mut shares);
        for share in &shares {
            let (files, busy) = (format::count(share.files as u64, "file"), format::duration(share.busy));
            let _ = writeln!(text, "  {} {}: {files}, {busy}", share.host, share.number);
        }
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

/// How long testing should take, how long it would take at least, and what that is for.
fn explain(text: &mut String, plan: &RunPlan, shares: &[Share]) {
    let expected = shares.iter().map(|share| share.busy).max().unwrap_or_default();
    let work: Workload = plan.files.iter().filter_map(|file| file.predicted).collect();
    let bound = work.lower_bound(u32::try_from(shares.len()).unwrap_or(u32::MAX));
    let longest = plan.files.iter().max_by_key(|file| file.predicted);
    let reason = match longest.filter(|_| work.longest() == bound && shares.len() > 1) {
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

/// Gives each file in turn to the runner that is free first, as a run would if every prediction came true.
fn hand_out(plan: &RunPlan, shares: &mut [Share]) {
    for file in &plan.files {
        if let Some(share) = shares.iter_mut().min_by_key(|share| share.busy) {
            share.files += 1;
            share.busy += file.predicted.unwrap_or_default();
        }
    }
}
