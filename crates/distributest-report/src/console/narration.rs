//! Finds the words for each event: what the console prints about it, and where.

use distributest_core::identity::RunnerId;
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, BlockId, FilePlan, HostChange, RunEvent, RunSummary,
};

use super::ending::Ending;
use super::excerpt::Room;
use super::failure::{self, Detail};
use super::ledger::{AttemptNotes, Thresholds};
use super::tails::Tail;
use super::{Console, Verbosity};
use crate::format;
use crate::phrases;
use crate::untrusted::clean_one_line;

/// Hosts named at the start; more are counted.
const NAMED_HOSTS: usize = 4;

/// What an event makes the console print.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) results: String,
    pub(super) messages: String,
}

impl Text {
    fn result(text: String) -> Text {
        Text { results: text, messages: String::new() }
    }

    pub(super) fn message(text: String) -> Text {
        Text { results: String::new(), messages: text }
    }
}

impl Console {
    pub(super) fn text_for(&mut self, event: &RunEvent) -> Text {
        let limits = Thresholds { slow_file: self.options.slow_file, slow_test: self.options.slow_test };
        let tail = closed_block(event).map(|block| self.tails.close(block)).unwrap_or_default();
        let notes = self.ledger.record(event, &tail, limits, self.detail());
        let mut text = Text::message(self.preparation_tail(event, &tail));
        let said = self.words_for(event, notes);
        text.results.push_str(&said.results);
        text.messages.push_str(&said.messages);
        text
    }

    fn words_for(&mut self, event: &RunEvent, notes: Option<AttemptNotes>) -> Text {
        match event {
            RunEvent::FileVerdict { file, verdict, .. } => {
                let path = self.names.printable_path(*file);
                Text::result(self.verdict_text(&path, verdict, &notes.unwrap_or_default()))
            }
            RunEvent::HostFailed { host, reason, hint } => {
                let what = format!("host {}: {}", self.names.host(*host), clean_one_line(reason));
                Text::message(self.warning_with_hint(&what, hint.as_deref()))
            }
            RunEvent::HostChanged { host, change } => {
                let what =
                    format!("host {}: {}", self.names.host(*host), clean_one_line(&change.to_string()));
                match change {
                    HostChange::Heard | HostChange::Readmitted => Text::message(format!("{what}\n")),
                    _ => Text::message(self.warning(&what)),
                }
            }
            RunEvent::AttemptDoubled { file, runner, .. } if self.is_verbose() => {
                let path = self.names.printable_path(*file);
                Text::message(format!("{}: {path} {}\n", self.place(*runner), phrases::DOUBLED))
            }
            RunEvent::LaunchUnavailable { runner, framework, reason, hint } => {
                // The other runners of the host are not likely to do better.
                let what = format!("{} can't run {framework}", self.names.host(runner.host));
                if !self.told.insert(what.clone()) {
                    return Text::default();
                }
                let what = format!("{what}: {}", clean_one_line(reason));
                Text::message(self.warning_with_hint(&what, hint.as_deref()))
            }
            RunEvent::RunnerFailed { reason: None, .. } => Text::default(),
            RunEvent::RunnerFailed { runner, reason: Some(reason) } => {
                // All runners of a host tend to fail in the same way.
                if !self.told.insert(reason.clone()) && !self.is_verbose() {
                    return Text::default();
                }
                Text::message(self.warning(&format!("{}: {}", self.place(*runner), clean_one_line(reason))))
            }
            RunEvent::Warning { message } => Text::message(self.warning(&clean_one_line(message))),
            RunEvent::RunResumed(former) if self.options.verbosity > Verbosity::Quiet => {
                Text::message(phrases::resuming(former) + "\n")
            }
            RunEvent::StopRequested => {
                Text::message("stopping what runs and cleaning up (Ctrl-C again: leave at once)\n".to_owned())
            }
            RunEvent::RunFinished(summary) => {
                let gap = if self.gap_due { "\n" } else { "" };
                Text::result(format!("{gap}{}", self.ending(summary)))
            }
            other if self.is_verbose() => Text::message(self.verbose_text(other)),
            RunEvent::RunStarted { files, .. } => Text::message(self.start_line(files)),
            _ => Text::default(),
        }
    }

    /// What a log of a build server starts with; a live view says it all the time.
    fn start_line(&self, files: &[FilePlan]) -> String {
        if self.live.is_some() || self.options.verbosity == Verbosity::Quiet || files.is_empty() {
            return String::new();
        }
        format!("{}{}\n", files_of(files), self.on_hosts())
    }

    /// ` on h1, h2`, ` on 20 hosts`; nothing for a single host.
    fn on_hosts(&self) -> String {
        match self.names.hosts_taking_part().as_slice() {
            [] | [_] => String::new(),
            few if few.len() <= NAMED_HOSTS => format!(" on {}", few.join(", ")),
            many => format!(" on {}", format::count(many.len() as u64, "host")),
        }
    }

    /// The last words of a hook or worker that failed, once for all that fail with the same words.
    fn preparation_tail(&mut self, event: &RunEvent, tail: &Tail) -> String {
        let (who, failure) = match event {
            RunEvent::HookFinished { host, runner, hook, failure, .. } => {
                (format!("{}: {}", phrases::lane(&self.names, *host, *runner), hook.word()), failure)
            }
            RunEvent::WorkerPrepared { runner, framework, failure, .. }
            | RunEvent::WorkerEnded { runner, framework, failure, .. } => {
                (format!("{}: {framework} worker", self.names.runner(*runner)), failure)
            }
            _ => return String::new(),
        };
        let quiet = self.options.verbosity == Verbosity::Quiet;
        if failure.is_none() || tail.text.is_empty() || quiet || !self.told.insert(tail.text.clone()) {
            return String::new();
        }
        let mut text = format!("{who} failed, its last output:\n");
        failure::push_tail(&mut text, tail, self.palette, "    ");
        text
    }

    fn warning(&self, text: &str) -> String {
        format!("{} {text}\n", self.palette.odd("warning:"))
    }

    fn warning_with_hint(&self, text: &str, hint: Option<&str>) -> String {
        let hint = hint.map(|hint| format!("         {}\n", clean_one_line(hint)));
        self.warning(text) + &hint.unwrap_or_default()
    }

    /// Where an attempt ran.
    fn place_of(&self, report: &AttemptReport) -> String {
        let earlier = if report.attempt.is_of_former_run() { " in the former run" } else { "" };
        self.place(report.runner) + earlier
    }

    /// A runner, by its host's name unless there is only one.
    fn place(&self, runner: RunnerId) -> String {
        match self.names.host_count() {
            0 | 1 => format!("runner {}", runner.number),
            _ => self.names.runner(runner),
        }
    }

    fn verdict_text(&self, path: &str, verdict: &Verdict, notes: &AttemptNotes) -> String {
        let place =
            notes.report.as_ref().map_or_else(|| "no runner".to_owned(), |report| self.place_of(report));
        let is_fine = matches!(verdict, Verdict::Ran(Outcome::Passed) | Verdict::Cached | Verdict::NotRun(_));
        match (is_fine, self.options.verbosity) {
            (_, Verbosity::Quiet) | (true, Verbosity::Normal) => String::new(),
            (true, Verbosity::Verbose) => failure::verdict_line(path, verdict, notes, &place, self.palette),
            (false, _) => self.trouble_text(path, verdict, notes, &place),
        }
    }

    /// What went wrong with a file: in its deciding attempt, and in those before it.
    fn trouble_text(&self, path: &str, verdict: &Verdict, notes: &AttemptNotes, place: &str) -> String {
        let deciding = match verdict {
            Verdict::Ran(outcome) => failure::describe(path, *outcome, notes, place, self.detail()),
            _ => failure::flaky_line(path, notes, place, self.palette),
        };
        let before = notes.failed_before.iter().filter_map(|earlier| {
            let report = earlier.report.as_ref()?;
            let AttemptResult::Outcome(outcome) = report.result else { return None };
            let place = self.place_of(report);
            Some(failure::describe_earlier(path, outcome, earlier, &place, self.detail()))
        });
        deciding + &before.collect::<String>()
    }

    fn detail(&self) -> Detail {
        let room = match self.options.verbosity {
            Verbosity::Quiet => Room::NONE,
            Verbosity::Normal => Room::SCREENFUL,
            Verbosity::Verbose => Room::AMPLE,
        };
        Detail { palette: self.palette, room }
    }

    /// What only the verbose console says.
    fn verbose_text(&self, event: &RunEvent) -> String {
        let line = match event {
            RunEvent::RunStarted { run, project, files, .. } => {
                format!("run {run} of {project}: {}{}", files_of(files), self.on_hosts())
            }
            RunEvent::HostProgress { host, activity } => {
                format!("{}: {}", self.names.host(*host), clean_one_line(activity))
            }
            RunEvent::HostConnected { host, agent, cores, runners } => {
                let connected = phrases::connected(agent, *cores, *runners);
                format!("{}: {}", self.names.host(*host), clean_one_line(&connected))
            }
            RunEvent::HookFinished { host, runner, hook, failure, skipped, duration, .. } => {
                let end = phrases::hook_end(failure.as_deref(), *skipped, *duration);
                let lane = phrases::lane(&self.names, *host, *runner);
                format!("{lane}: {} {}", hook.word(), clean_one_line(&end))
            }
            RunEvent::WorkerPrepared { runner, framework, failure, duration, saved, .. } => {
                let end = phrases::worker_end(failure.as_deref(), *duration, *saved);
                format!("{}: {framework} worker {}", self.names.runner(*runner), clean_one_line(&end))
            }
            RunEvent::AttemptFinished(AttemptReport {
                file,
                runner,
                result: AttemptResult::Interrupted(interruption),
                message,
                ..
            }) => {
                let path = self.names.printable_path(*file);
                let message = clean_one_line(message);
                let colon = if message.is_empty() { "" } else { ": " };
                format!(
                    "{path} interrupted on {}, {}{colon}{message}",
                    self.names.runner(*runner),
                    interruption.word()
                )
            }
            _ => return String::new(),
        };
        self.palette.faint(&line) + "\n"
    }

    fn ending(&self, summary: &RunSummary) -> String {
        Ending {
            names: &self.names,
            ledger: &self.ledger,
            summary,
            palette: self.palette,
            width: self.options.width.into(),
            rerun_command: &self.options.rerun_command,
            resume_command: &self.options.resume_command,
            log_path: self.options.log_path.as_deref(),
            quiet: self.options.verbosity == Verbosity::Quiet,
            whole: self.is_verbose(),
        }
        .text()
    }
}

fn files_of(files: &[FilePlan]) -> String {
    format::files(files.iter().map(|file| file.part.as_ref()))
}

/// The block an event closes.
fn closed_block(event: &RunEvent) -> Option<BlockId> {
    match event {
        RunEvent::HookFinished { block, .. }
        | RunEvent::WorkerPrepared { block, .. }
        | RunEvent::WorkerEnded { block, .. } => Some(*block),
        RunEvent::AttemptFinished(report) => report.block,
        _ => None,
    }
}
