//! Writes a test suite of known outcomes and durations into a directory, for scripts and for playing with.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use distributest_testkit::suites::{
    DurationPlan, EXPECTED_FILE, Flavour, Mixture, Shape, Suite, SuiteError, SuitePlan,
};

/// Writes a test suite of known outcomes and durations, and expected.json with what must come of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to write it; must not exist yet or be empty
    directory: PathBuf,
    /// Whose test files to write
    #[arg(long, value_enum, default_value_t = FlavourWord::Command)]
    flavour: FlavourWord,
    /// Number of test files
    #[arg(long, default_value_t = 120)]
    files: usize,
    /// Decides the durations; the same seed makes the same suite
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How unevenly the durations are spread
    #[arg(long, value_enum, default_value_t = ShapeWord::Lognormal)]
    shape: ShapeWord,
    /// Seconds the slowest file takes
    #[arg(long, default_value = "2", value_parser = seconds)]
    longest: Duration,
    /// Seconds all files take together [default: what the shape makes of it]
    #[arg(long, value_parser = seconds)]
    total_seconds: Option<Duration>,
    /// Make files fail, break, crash and skip, too, instead of passing all
    #[arg(long)]
    every_kind: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FlavourWord {
    Command,
    Pytest,
    Rspec,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShapeWord {
    Even,
    Uniform,
    Lognormal,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Arguments {
    fn plan(&self) -> SuitePlan {
        SuitePlan {
            flavour: match self.flavour {
                FlavourWord::Command => Flavour::Command,
                FlavourWord::Pytest => Flavour::Pytest,
                FlavourWord::Rspec => Flavour::Rspec,
            },
            seed: self.seed,
            durations: DurationPlan {
                files: self.files,
                shape: match self.shape {
                    ShapeWord::Even => Shape::Even,
                    ShapeWord::Uniform => Shape::Uniform,
                    ShapeWord::Lognormal => Shape::Lognormal,
                },
                longest: self.longest,
                total: self.total_seconds,
            },
            mixture: if self.every_kind { Mixture::EveryKind } else { Mixture::Passing },
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let said = match arguments.plan().write(&arguments.directory) {
        Ok(suite) => writeln!(io::stdout(), "{}", describe(&arguments, &suite)).map(|()| ExitCode::SUCCESS),
        Err(error) => writeln!(io::stderr(), "make-suite: {}", chain(&error)).map(|()| ExitCode::FAILURE),
    };
    // Nobody reads what it says: there is nobody to tell.
    said.unwrap_or(ExitCode::FAILURE)
}

fn describe(arguments: &Arguments, suite: &Suite) -> String {
    format!(
        "{} files in {}, {:.1} s in all, the longest {:.1} s; what must come of them is in {EXPECTED_FILE}",
        suite.files.len(),
        arguments.directory.display(),
        suite.total().as_secs_f64(),
        suite.longest().as_secs_f64(),
    )
}

fn chain(error: &SuiteError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
