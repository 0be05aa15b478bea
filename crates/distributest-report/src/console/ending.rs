//! What is printed when a run is over: everything that is not fine, what was slow, the hosts, the summary.

use std::path::Path;
use std::time::Duration;

use distributest_core::ledger::EXIT_NO_TESTS;
use distributest_core::outcome::{NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{HostSummary, RunSummary};
use distributest_core::test_result::TestStatus;
use unicode_width::UnicodeWidthStr;

use super::ledger::{Ledger, Problem, Slow};
use super::live::fit;
use super::palette::Palette;
use crate::format;
use crate::names::Names;
use crate::untrusted::clean_one_line;

/// Failing tests named again for one file, slow files, slow tests: more are counted.
const LISTED: usize = 10;

/// A run that took less is not explained.
const EXPLAINED: Duration = Duration::from_secs(2);

/// Percent of the runners' time from which on nothing needs to be explained.
const MOSTLY_TESTING: f64 = 95.0;

/// Files listed for one reason they were not run.
const NOT_RUN_LISTED: usize = 20;

/// All there is to tell.
pub(super) struct Ending<'a> {
    pub(super) names: &'a Names,
    pub(super) ledger: &'a Ledger,
    pub(super) summary: &'a RunSummary,
    pub(super) palette: Palette,
    pub(super) width: usize,
    pub(super) rerun_command: &'a str,
    pub(super) resume_command: &'a str,
    pub(super) log_path: Option<&'a Path>,
    /// Only what is not fine, and the summary.
    pub(super) quiet: bool,
    /// Leave nothing out of lists.
    pub(super) whole: bool,
}

impl Ending<'_> {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        let mut sections = Vec::new();
        for (verdict, title) in [
            (Verdict::Ran(Outcome::Failed), "Failed"),
            (Verdict::Ran(Outcome::Broken), "Did not load"),
            (Verdict::Ran(Outcome::TimedOut), "Timed out"),
            (Verdict::Ran(Outcome::Crashed), "Crashed"),
            (Verdict::Flaky, "Flaky: failed, then passed"),
        ] {
            sections.push(self.verdict_section(&verdict, title));
        }
        sections.push(self.failed_ends_section());
        sections.push(self.not_run_section());
        sections.push(self.leaks_section());
        if !self.quiet {
            sections.push(self.slow_section("Slow files", &self.ledger.slow_files));
            sections.push(self.slow_section("Slow tests", &self.ledger.slow_tests));
        }
        sections.push(self.hosts_section());
        sections.push(self.summary_section());
        sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn title(&self, text: &str, bad: bool) -> String {
        let painted = if bad { self.palette.bad(text) } else { self.palette.strong(text) };
        painted + "\n"
    }

    fn verdict_section(&self, verdict: &Verdict, title: &str) -> Option<String> {
        let problems: Vec<_> =
            self.ledger.problems.iter().filter(|problem| problem.verdict == *verdict).collect();
        if problems.is_empty() {
            return None;
        }
        let mut text = self.title(title, true);
        for problem in problems {
            self.push_problem(&mut text, problem);
        }
        Some(text)
    }

    fn push_problem(&self, text: &mut String, problem: &Problem) {
        let path = self.names.path(problem.file);
        let message = clean_one_line(&problem.message);
        text.push_str(&format!("  {}\n", self.names.printable_path(problem.file)));
        if !message.is_empty() {
            text.push_str(&format!("    {}\n", fit(&message, self.width.saturating_sub(4))));
        }
        let listed = if self.whole { usize::MAX } else { LISTED };
        for (name, message) in problem.tests.iter().take(listed) {
            let name = clean_one_line(name);
            let message = clean_one_line(message);
            let separator = if message.is_empty() { "" } else { ": " };
            let room = self.width.saturating_sub(4 + name.width() + separator.len()).max(20);
            text.push_str(&format!("    {name}{separator}{}\n", fit(&message, room)));
        }
        if let Some(more) = problem.tests.len().checked_sub(listed).filter(|more| *more > 0) {
            text.push_str(&format!("    … and {}\n", format::count(more as u64, "more test")));
        }
        let command = format::rerun_command(self.rerun_command, path, &problem.rerun);
        text.push_str(&format!("    {}\n", self.palette.faint(&format!("$ {command}"))));
    }

    /// What can be told of no file.
    fn failed_ends_section(&self) -> Option<String> {
        if self.ledger.failed_ends.is_empty() {
            return None;
        }
        let mut text = self.title("Failed behind the last file", true);
        for end in &self.ledger.failed_ends {
            let (runner, framework) = (self.names.runner(end.runner), &end.framework);
            text.push_str(&format!("  {framework} worker of {runner}\n"));
            let message = clean_one_line(&end.message);
            text.push_str(&format!("    {}\n", fit(&message, self.width.saturating_sub(4))));
        }
        Some(text)
    }

    /// Files not run, by reason.
    fn not_run_section(&self) -> Option<String> {
        let mut by_reason: Vec<(&NotRunReason, Vec<&Problem>)> = Vec::new();
        for problem in &self.ledger.problems {
            if let Verdict::NotRun(reason) = &problem.verdict {
                match by_reason.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, problems)) => problems.push(problem),
                    None => by_reason.push((reason, vec![problem])),
                }
            }
        }
        if by_reason.is_empty() {
            return None;
        }
        let mut text = self.title("Not run", true);
        let listed = if self.whole { usize::MAX } else { NOT_RUN_LISTED };
        let can_be_run = by_reason.iter().any(|(reason, _)| **reason != NotRunReason::UnusableName);
        for (reason, mut problems) in by_reason {
            // In the order of the plan: in which order they were given up is chance.
            problems.sort_by_key(|problem| problem.file);
            let files = format::count(problems.len() as u64, "file");
            text.push_str(&format!("  {files}: {}\n", clean_one_line(&reason.to_string())));
            for problem in problems.iter().take(listed) {
                let failures = match problem.interrupted_failures {
                    0 => String::new(),
                    failing => format!("  ({} had failed by then)", format::count(failing as u64, "test")),
                };
                text.push_str(&format!("    {}{failures}\n", self.names.printable_path(problem.file)));
            }
            if let Some(more) = problems.len().checked_sub(listed).filter(|more| *more > 0) {
                let more = format::count(more as u64, "more file");
                text.push_str(&format!("    … and {more}, all in the log\n"));
            }
        }
        if can_be_run {
            text.push_str(&format!("  {}\n", self.palette.faint(&format!("$ {}", self.resume_command))));
        }
        Some(text)
    }

    fn leaks_section(&self) -> Option<String> {
        if self.ledger.leaks.is_empty() {
            return None;
        }
        let mut text = self.title("Processes left running by tests, killed", true);
        for leak in &self.ledger.leaks {
            let path = self.names.printable_path(leak.file);
            text.push_str(&format!("  {path} on {}\n", self.names.runner(leak.runner)));
            for process in &leak.processes {
                text.push_str(&format!(
                    "    {}\n",
                    fit(&clean_one_line(process), self.width.saturating_sub(4))
                ));
            }
        }
        Some(text)
    }

    fn slow_section(&self, title: &str, slow: &[Slow]) -> Option<String> {
        if slow.is_empty() {
            return None;
        }
        let mut sorted: Vec<_> = slow.iter().collect();
        sorted.sort_by(|one, other| other.duration.cmp(&one.duration).then(one.file.cmp(&other.file)));
        let listed = if self.whole { usize::MAX } else { LISTED };
        let mut text = self.title(title, false);
        for entry in sorted.iter().take(listed) {
            let path = self.names.printable_path(entry.file);
            let test =
                entry.test.as_ref().map(|name| format!("  {}", clean_one_line(name))).unwrap_or_default();
            let host = self.on_host(entry);
            text.push_str(&format!("  {:>11}  {path}{test}{host}\n", format::duration(entry.duration)));
        }
        if let Some(more) = sorted.len().checked_sub(listed).filter(|more| *more > 0) {
            text.push_str(&format!("  {:>11}  and {} more\n", "…", format::number(more as u64)));
        }
        Some(text)
    }

    fn on_host(&self, entry: &Slow) -> String {
        match self.names.host_count() {
            0 | 1 => String::new(),
            _ => format!(" on {}", self.names.host(entry.runner.host)),
        }
    }

    /// Shown where there is more than one host to compare or something to say about one.
    fn hosts_section(&self) -> Option<String> {
        let hosts = &self.summary.hosts;
        let problems = hosts.iter().any(|host| !host.problems.is_empty());
        if !problems && (hosts.len() < 2 || self.quiet) {
            return None;
        }
        let widest = hosts.iter().map(|host| host.name.width()).max().unwrap_or(0);
        let mut text = self.title("Hosts", false);
        for host in hosts {
            let padding = " ".repeat(widest - host.name.width());
            text.push_str(&format!("  {}{padding}  {}\n", host.name, self.host_share(host)));
            for problem in &host.problems {
                text.push_str(&format!("    {}\n", self.palette.odd(&clean_one_line(problem))));
            }
        }
        Some(text)
    }

    fn host_share(&self, host: &HostSummary) -> String {
        if host.runners == 0 {
            return "took no part".to_owned();
        }
        let runners = format::count(host.runners.into(), "runner");
        let files = format::count(host.files.into(), "file");
        let available = self.summary.testing.as_secs_f64() * f64::from(host.runners);
        let busy = if available > 0.0 { host.busy.as_secs_f64() / available * 100.0 } else { 0.0 };
        format!("{runners}, {files}, busy {:.0} %", busy.min(100.0))
    }

    fn summary_section(&self) -> Option<String> {
        let mut text = self.verdicts_line() + "\n";
        if let Some(line) = self.time_line() {
            text.push_str(&(line + "\n"));
        }
        if let Some(line) = self.runner_time_line() {
            text.push_str(&(line + "\n"));
        }
        if let Some(line) = self.spared_line() {
            text.push_str(&(line + "\n"));
        }
        if let Some(path) = self.log_path {
            text.push_str(&self.palette.faint(&format!("log: {}", path.display())));
            text.push('\n');
        }
        Some(text)
    }

    /// `120 files: 117 passed, 3 failed; 1,834 tests: 1,830 passed, 4 failed`, or `2 files: 2 passed; no tests ran`
    fn verdicts_line(&self) -> String {
        let summary = self.summary;
        if summary.files == 0 {
            return self.palette.odd("no test files");
        }
        let mut files = Vec::new();
        for (outcome, amount) in Outcome::ALL.into_iter().zip(summary.outcomes) {
            files.push(self.amount(amount.into(), outcome.word(), !outcome.is_success()));
        }
        files.push(self.amount(summary.flaky.into(), "flaky", false));
        files.push(self.amount(summary.cached.into(), "cached", false));
        files.push(self.amount(summary.not_run.into(), "not run", true));
        let mut tests = Vec::new();
        for (status, amount) in TestStatus::ALL.into_iter().zip(summary.tests) {
            tests.push(self.amount(amount, status_word(status, amount), status.is_failure()));
        }
        let line = format!("{}: {}", format::count(summary.files.into(), "file"), listed(files));
        let line = match summary.tests.iter().sum() {
            0 if summary.exit_status == EXIT_NO_TESTS => {
                format!("{line}; {}", self.palette.odd("no tests ran"))
            }
            0 => line,
            total => format!("{line}; {}: {}", format::count(total, "test"), listed(tests)),
        };
        match u64::from(summary.failed_ends) {
            0 => line,
            ends => {
                let workers = format!("{} failed behind the last file", format::count(ends, "worker"));
                format!("{line}; {}", self.palette.bad(&workers))
            }
        }
    }

    fn amount(&self, amount: u64, word: &str, bad: bool) -> Option<String> {
        let text = format!("{} {word}", format::number(amount));
        match (amount, bad, word) {
            (0, _, _) => None,
            (_, true, _) => Some(self.palette.bad(&text)),
            (_, false, "passed") => Some(self.palette.good(&text)),
            _ => Some(self.palette.odd(&text)),
        }
    }

    /// `1 min 57 s; testing took 1 min 41 s, 1.05 × the least possible 1 min 36 s`, and what held it back.
    fn time_line(&self) -> Option<String> {
        let summary = self.summary;
        let wall = format::duration(summary.wall);
        if summary.lower_bound.is_zero() {
            return (summary.files > 0).then_some(wall);
        }
        // A host counts an attempt from a moment before we hear that it has started, so the bound can be the larger one.
        let ratio = (summary.testing.as_secs_f64() / summary.lower_bound.as_secs_f64()).max(1.0);
        let (testing, bound) = (format::duration(summary.testing), format::duration(summary.lower_bound));
        let line = format!("{wall}; testing took {testing}, {ratio:.2} × the least possible {bound}");
        match self.held_back(ratio) {
            Some(reason) => Some(format!("{line}\nheld back by {reason}")),
            None => Some(line),
        }
    }

    /// `runners: 71 % testing, 20 % preparing, 3 % between files, 6 % waiting for the last one`, where it was not nearly all
    /// testing and took long enough to ask.
    fn runner_time_line(&self) -> Option<String> {
        let time = &self.summary.runner_time;
        let total = time.total().as_secs_f64();
        let part = |time: Duration| 100.0 * time.as_secs_f64() / total;
        let asked = !self.quiet && self.summary.wall >= EXPLAINED && part(time.testing) < MOSTLY_TESTING;
        let shares = [
            (time.testing, "testing"),
            (time.preparing, "preparing"),
            (time.between, "between files"),
            (time.waiting, "waiting for the last one"),
        ];
        let shares = shares.map(|(time, what)| format!("{:.0} % {what}", part(time)));
        asked.then(|| format!("runners: {}", shares.join(", ")))
    }

    /// `2 workers were kept from an earlier run, which spared each 1.2 s of loading`
    fn spared_line(&self) -> Option<String> {
        let spared = &self.ledger.spared;
        let amount = u32::try_from(spared.len()).ok().filter(|amount| *amount > 0 && !self.quiet)?;
        let each = format::duration(spared.iter().sum::<Duration>() / amount);
        let (workers, which) = match amount {
            1 => ("1 worker was".to_owned(), "it"),
            _ => (format!("{amount} workers were"), "each"),
        };
        Some(format!("{workers} kept from an earlier run, which spared {which} {each} of loading"))
    }

    /// What kept the run from being shorter: the first of these that weighs enough.
    fn held_back(&self, ratio: f64) -> Option<String> {
        let summary = self.summary;
        let preparation = summary.wall.saturating_sub(summary.testing);
        if preparation > summary.testing && preparation > Duration::from_secs(1) {
            return Some(format!("preparing the hosts: {}", format::duration(preparation)));
        }
        let longest = self.ledger.longest.as_ref()?;
        if longest.duration.as_secs_f64() >= 0.95 * summary.lower_bound.as_secs_f64() && summary.files > 1 {
            return Some(format!("its longest file, {}", self.timed_path(longest)));
        }
        let last = self.ledger.last.as_ref().filter(|_| ratio > 1.1)?;
        Some(format!("runners that waited for the last file, {}", self.timed_path(last)))
    }

    /// `tests/test_a.py (3.0 s on h1)`
    fn timed_path(&self, entry: &Slow) -> String {
        let (path, duration) = (self.names.printable_path(entry.file), format::duration(entry.duration));
        format!("{path} ({duration}{})", self.on_host(entry))
    }
}

fn listed(parts: Vec<Option<String>>) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn status_word(status: TestStatus, amount: u64) -> &'static str {
    match status {
        TestStatus::Passed => "passed",
        TestStatus::Failed => "failed",
        TestStatus::Error if amount == 1 => "error",
        TestStatus::Error => "errors",
        TestStatus::Skipped => "skipped",
        TestStatus::ExpectedFailure => "failed as expected",
        TestStatus::UnexpectedPass => "passed unexpectedly",
    }
}
