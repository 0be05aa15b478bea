//! Shows a run to the developer who waits for it.
//!
//! Results (what failed, the end) go to standard output; what happens on the way (preparation, warnings, progress)
//! goes to standard error. On a terminal the progress is a live view of a few lines that stays below everything that
//! is printed; elsewhere it is a line every ten seconds. A failure is printed when its file has its verdict, so what
//! is shown is final; text that tests wrote is made harmless first.
//!
//! A reader that went away (`distributest | head`) is no error: there is just nobody to print to.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use distributest_core::run_event::RunEvent;
use indicatif::ProgressDrawTarget;

use crate::names::Names;
use crate::reporter::{ReportError, Reporter};
use ledger::Ledger;
use live::LiveView;
use narration::Text;
use palette::Palette;
use progress::Progress;
use tails::Tails;

mod ending;
mod excerpt;
mod failure;
mod ledger;
mod live;
mod narration;
mod palette;
mod progress;
mod tails;

/// The time between two progress lines where there is no live view.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// How much the console says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// What is not fine, in short, and the summary.
    Quiet,
    /// Failures in full as they happen, progress, what was slow.
    Normal,
    /// Also a line for every file, hook, worker and host, and details of up to thousands of lines.
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
    /// The command that runs what was not run: `distributest --resume`.
    pub resume_command: String,
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
    tails: Tails,
    /// Reasons that were given for one runner and need not be repeated for the next.
    told: HashSet<String>,
    last_progress_line: Duration,
    /// Whether what was printed last should be set apart from what follows.
    gap_due: bool,
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
            tails: Tails::default(),
            told: HashSet::new(),
            last_progress_line: Duration::ZERO,
            gap_due: false,
        }
    }

    fn is_verbose(&self) -> bool {
        self.options.verbosity == Verbosity::Verbose
    }

    fn print(&mut self, text: &Text) -> Result<(), ReportError> {
        if text.results.is_empty() && text.messages.is_empty() {
            return Ok(());
        }
        let last = if text.results.is_empty() { &text.messages } else { &text.results };
        self.gap_due = !last.ends_with("\n\n");
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
        if let RunEvent::Output { block, bytes, .. } = event {
            self.tails.push(*block, bytes);
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
