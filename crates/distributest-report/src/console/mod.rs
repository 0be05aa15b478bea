//! Shows a run to the developer who waits for it.
//!
//! Results (what failed, the end) go to standard output; what happens on the way (preparation, warnings, progress)
//! goes to standard error. On a terminal the progress is a live view of a few lines that stays below everything that
//! is printed; elsewhere it is a line every ten seconds. A failure is printed when its file has its verdict, so what
//! is shown is final; text that tests wrote is made harmless first.
//!
//! A reader that went away (`distributest | head`) is no error: there is just nobody to print to.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use distributest_core::identity::RunnerId;
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, RunEvent};
use indicatif::ProgressDrawTarget;

use crate::format;
use crate::names::Names;
use crate::reporter::{ReportError, Reporter};
use crate::untrusted::clean_one_line;
use ending::Ending;
use failure::Detail;
use ledger::{AttemptNotes, Ledger, Thresholds};
use live::LiveView;
use palette::Palette;
use progress::Progress;

mod ending;
mod failure;
mod ledger;
mod live;
mod palette;
mod progress;

/// The time between two progress lines where there is no live view.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// How much the console says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// What is not fine, in short, and the summary.
    Quiet,
    /// Failures in full as they happen, progress, what was slow.
    Normal,
    /// Also a line for every file, hook, worker and host, and details to the last line.
    Verbose,
}

/// How the console looks. Nothing of it is detected here.
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    /// Use colours, and let those of tests through.
    pub color: bool,
    /// Columns of the terminal.
    pub width: u16,
    /// Draw the live view; for terminals only.
    pub live: bool,
    /// How much to say.
    pub verbosity: Verbosity,
    /// Files that take at least this long are listed as slow.
    pub slow_file: Duration,
    /// Tests that take at least this long are listed as slow.
    pub slow_test: Duration,
    /// What to put before a path to make the command that runs that file alone: `distributest`.
    pub rerun_command: String,
    /// Where the aggregated log is, to be named at the end.
    pub log_path: Option<PathBuf>,
}

/// Where the console's text goes. Both writers should be unbuffered: text is written in whole pieces.
pub struct ConsoleOutputs {
    /// Results: standard output.
    pub results: Box<dyn Write + Send>,
    /// What happens on the way: standard error.
    pub messages: Box<dyn Write + Send>,
    /// Where the live view is drawn: standard error; not used unless [`ConsoleOptions::live`].
    pub progress: ProgressDrawTarget,
}

/// The consumer that prints.
pub struct Console {
    options: ConsoleOptions,
    results: Box<dyn Write + Send>,
    messages: Box<dyn Write + Send>,
    live: Option<LiveView>,
    palette: Palette,
    names: Names,
    progress: Progress,
    ledger: Ledger,
    last_progress_line: Duration,
}

/// What an event makes the console print.
#[derive(Debug, Default)]
struct Text {
    results: String,
    messages: String,
}

impl Text {
    fn result(text: String) -> Text {
        Text { results: text, messages: String::new() }
    }

    fn message(text: String) -> Text {
        Text { results: String::new(), messages: text }
    }
}

impl Console {
    /// A console that prints to these outputs.
    pub fn new(options: ConsoleOptions, outputs: ConsoleOutputs) -> Console {
        let live = options.live && options.verbosity > Verbosity::Quiet;
        Console {
            palette: Palette { color: options.color },
            live: live.then(|| LiveView::new(outputs.progress)),
            results: outputs.results,
            messages: outputs.messages,
            options,
            names: Names::default(),
            progress: Progress::default(),
            ledger: Ledger::default(),
            last_progress_line: Duration::ZERO,
        }
    }

    fn is_verbose(&self) -> bool {
        self.options.verbosity == Verbosity::Verbose
    }

    fn text_for(&mut self, event: &RunEvent) -> Text {
        let limits = Thresholds { slow_file: self.options.slow_file, slow_test: self.options.slow_test };
        let notes = self.ledger.record(event, limits);
        match event {
            RunEvent::FileVerdict { file, verdict, .. } => {
                let path = self.names.printable_path(*file);
                Text::result(self.verdict_text(&path, verdict, &notes.unwrap_or_default()))
            }
            RunEvent::HostFailed { host, reason, hint } => {
                let mut text =
                    self.warning(&format!("host {}: {}", self.names.host(*host), clean_one_line(reason)));
                if let Some(hint) = hint {
                    text.push_str(&format!("         {}\n", clean_one_line(hint)));
                }
                Text::message(text)
            }
            RunEvent::RunnerFailed { runner, reason } => {
                Text::message(self.warning(&format!("{}: {}", self.place(*runner), clean_one_line(reason))))
            }
            RunEvent::Warning { message } => Text::message(self.warning(&clean_one_line(message))),
            RunEvent::StopRequested => Text::message(
                "stopping: ending what runs and cleaning up (press Ctrl-C again to leave at once)\n"
                    .to_owned(),
            ),
            RunEvent::RunFinished(summary) => Text::result(self.ending(summary)),
            other if self.is_verbose() => Text::message(self.verbose_text(other)),
            RunEvent::RunStarted { hosts, files, .. }
                if self.live.is_none()
                    && self.options.verbosity == Verbosity::Normal
                    && !files.is_empty() =>
            {
                let files = format::count(files.len() as u64, "file");
                Text::message(format!("{files} on {}\n", format::count(hosts.len() as u64, "host")))
            }
            _ => Text::default(),
        }
    }

    fn warning(&self, text: &str) -> String {
        format!("{} {text}\n", self.palette.odd("warning:"))
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
            notes.report.as_ref().map_or_else(|| "no runner".to_owned(), |report| self.place(report.runner));
        let failed: Option<Outcome> = match verdict {
            Verdict::Ran(outcome) if !outcome.is_success() => Some(*outcome),
            _ => None,
        };
        match (failed, self.options.verbosity) {
            (_, Verbosity::Quiet) | (None, Verbosity::Normal) => String::new(),
            (Some(outcome), _) => {
                let detail = Detail { palette: self.palette, whole: self.is_verbose() };
                failure::describe(path, outcome, notes, &place, detail)
            }
            (None, Verbosity::Verbose) => failure::verdict_line(path, verdict, notes, &place, self.palette),
        }
    }

    /// What only the verbose console says.
    fn verbose_text(&self, event: &RunEvent) -> String {
        let line = match event {
            RunEvent::RunStarted { run, project, hosts, files } => {
                let files = format::count(files.len() as u64, "file");
                let hosts = format::count(hosts.len() as u64, "host");
                format!("run {run} of {project}: {files} on {hosts}")
            }
            RunEvent::HostProgress { host, activity } => {
                format!("{}: {}", self.names.host(*host), clean_one_line(activity))
            }
            RunEvent::HostConnected { host, agent, cores, runners } => {
                let cores = format::count((*cores).into(), "core");
                let runners = format::count((*runners).into(), "runner");
                format!("{}: {agent}, {cores}, {runners}", self.names.host(*host))
            }
            RunEvent::HookFinished { host, runner, hook, failure, skipped, duration, .. } => {
                let lane =
                    runner.map_or(self.names.host(*host).to_owned(), |runner| self.names.runner(runner));
                let end = match failure {
                    _ if *skipped => "skipped, its inputs are unchanged".to_owned(),
                    None => format!("done in {}", format::duration(*duration)),
                    Some(reason) => format!("failed: {}", clean_one_line(reason)),
                };
                format!("{lane}: {} {end}", hook.word())
            }
            RunEvent::WorkerPrepared { runner, framework, failure, duration, .. } => {
                let end = match failure {
                    None => format!("ready in {}", format::duration(*duration)),
                    Some(reason) => format!("failed: {}", clean_one_line(reason)),
                };
                format!("{}: {framework} worker {end}", self.names.runner(*runner))
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

    fn ending(&self, summary: &distributest_core::run_event::RunSummary) -> String {
        Ending {
            names: &self.names,
            ledger: &self.ledger,
            summary,
            palette: self.palette,
            width: self.options.width.into(),
            rerun_command: &self.options.rerun_command,
            log_path: self.options.log_path.as_deref(),
            quiet: self.options.verbosity == Verbosity::Quiet,
            whole: self.is_verbose(),
        }
        .text()
    }

    fn print(&mut self, text: &Text) -> Result<(), ReportError> {
        if text.results.is_empty() && text.messages.is_empty() {
            return Ok(());
        }
        let (results, messages) = (&mut self.results, &mut self.messages);
        let mut print =
            || write_piece(messages, &text.messages).and_then(|()| write_piece(results, &text.results));
        let printed = match &self.live {
            Some(live) => live.suspend(print),
            None => print(),
        };
        printed.map_err(|source| ReportError::Console { source })
    }

    /// Shows how far the run is, in the way this console does.
    fn show_progress(&mut self, now: Duration) -> Result<(), ReportError> {
        if let Some(live) = &self.live {
            let width = self.options.width.into();
            live.show(&live::lines(&self.progress, &self.names, now, width, self.palette));
            return Ok(());
        }
        let due = now >= self.last_progress_line + PROGRESS_INTERVAL;
        if !due || self.options.verbosity == Verbosity::Quiet || self.progress.decided == self.progress.files
        {
            return Ok(());
        }
        self.last_progress_line = now;
        let lines = if self.progress.is_preparing() {
            live::lines(&self.progress, &self.names, now, usize::MAX, self.palette)
        } else {
            vec![live::progress_line(&self.progress, &self.names, now)]
        };
        self.print(&Text::message(lines.join("\n") + "\n"))
    }
}

impl Reporter for Console {
    fn on_event(&mut self, now: Duration, event: &RunEvent) -> Result<(), ReportError> {
        if matches!(event, RunEvent::Output { .. }) {
            return Ok(());
        }
        self.names.learn(event);
        self.progress.observe(now, event);
        if matches!(event, RunEvent::RunFinished(_)) {
            self.live = None;
        }
        let text = self.text_for(event);
        self.print(&text)?;
        match event {
            RunEvent::RunFinished(_) | RunEvent::TestFinished { .. } => Ok(()),
            _ => self.show_progress(now),
        }
    }

    fn on_tick(&mut self, now: Duration) -> Result<(), ReportError> {
        self.show_progress(now)
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.live = None;
        Ok(())
    }
}

fn write_piece(output: &mut Box<dyn Write + Send>, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            *output = Box::new(io::sink());
            Ok(())
        }
        other => other,
    }
}
