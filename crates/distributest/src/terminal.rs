//! What this process prints to: whether it is a terminal, how wide, and whether colour is welcome.

use std::io::{IsTerminal, Write};

use distributest_report::ConsoleOutputs;
use indicatif::ProgressDrawTarget;

use crate::cli::ColorChoice;

/// Columns where nobody says otherwise: a file, a pipe, a build server.
const DEFAULT_WIDTH: u16 = 100;

/// The process's standard output and error, as far as reporting cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Whether to write colours.
    pub color: bool,
    /// Columns.
    pub width: u16,
    /// Whether to keep a moving view at the bottom.
    pub live: bool,
}

impl Terminal {
    /// Looks at this process's streams and environment (`NO_COLOR`, `CLICOLOR_FORCE`, `CI`, `TERM`, `COLUMNS`).
    pub fn of_process(choice: ColorChoice) -> Terminal {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto => set("CLICOLOR_FORCE") || (std::io::stdout().is_terminal() && !dumb),
        };
        let live = std::io::stderr().is_terminal() && !dumb && !set("CI");
        Terminal { color, width: width(), live }
    }

    /// Results to standard output, progress to standard error.
    pub fn outputs(&self) -> ConsoleOutputs {
        let progress = if self.live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        ConsoleOutputs {
            results: Box::new(std::io::stdout()),
            messages: Box::new(std::io::stderr()),
            progress,
        }
    }
}

fn width() -> u16 {
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(std::io::stderr()).ok().map(|size| size.ws_col);
    named.or_else(asked).filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)
}

/// Writes a result to standard output. A reader that went away (`| head`) is no error.
pub fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
