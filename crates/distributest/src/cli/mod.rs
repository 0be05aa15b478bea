//! Defines the command line: what can be written, and how flags become a layer of the configuration.
//!
//! `distributest` without a command name runs tests. A command name counts only as the first argument, so
//! `distributest ./config` or `distributest run config` runs the tests in a directory that is named like one.

pub mod config;
pub mod init;
mod resume;
pub mod run;
mod settings;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use self::settings::{Loaded, SettingsArgs};

const EXAMPLES: &str = "\
Examples:
  distributest                           run everything, slowest files first
  distributest spec/models               run what is below a directory
  distributest tests/test_user.py        run one file
  distributest --local --runners 2       two runners on this machine, no other host
  distributest --hosts build1,build2     only on these of the configured hosts
  distributest plan                      show the files in order and each runner's share
  distributest --resume                  run what the last run did not finish
  distributest -- --tag slow             pass arguments on to the framework
  distributest init                      write a configuration file for this project

Configuration, the later wins:
  built-in defaults
  /etc/distributest/config.toml
  ~/.config/distributest/config.toml
  .distributest/config.toml in the project
  DISTRIBUTEST_* variables               DISTRIBUTEST_RUNNERS=4 is `runners = 4`
  flags
`distributest config` shows the result and where each value comes from.

Exit status:
    0  all tests passed
    1  a test failed
    2  usage or configuration error
    3  not everything could be run
    4  no tests found
  130  interrupted";

const PLAN_NOTES: &str = "\
    The files stand in the order in which they would be handed out, each with what it should take: what it took in \
    earlier runs, a new one as much as the slower ones of the others. A run can take no less than its longest file, nor \
    than all of them shared evenly among the runners. The summary of a run says what it took beside that, and where the \
    rest went.";

/// Run a test suite on every machine you may use, slowest files first.
#[derive(Debug, Parser)]
#[command(
    name = "distributest",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do; nothing: run.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to run when there is no command.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    ///
    /// Usage errors, and requests for help or the version; [`clap::Error::exit`] prints either and ends with
    /// the right status.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let cli = Cli::try_parse_from(arguments)?;
        let mut definition = Cli::command();
        // `distributest --runners 2 config` would run the tests of a directory `config`, which is hardly what
        // is meant.
        let late = cli.run.paths.iter().find(|path| definition.find_subcommand(path).is_some());
        if let (None, Some(name)) = (&cli.command, late) {
            let message = format!(
                "`{name}` comes after other arguments, so it is not taken for the command\n\n  \
                 write the command first:      distributest {name} ...\n  \
                 or, for tests of that name:   distributest run ... {name}\n"
            );
            return Err(definition.error(ErrorKind::ArgumentConflict, message));
        }
        Ok(cli)
    }
}

/// What `distributest` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run tests (what distributest does without a command)
    #[command(after_help = EXAMPLES)]
    Run(Box<RunArgs>),
    /// Show what a run would do, and how long it should take at least and why (`run --dry-run`)
    #[command(after_help = PLAN_NOTES)]
    Plan(Box<RunArgs>),
    /// Show the merged configuration and where each value comes from
    Config(Box<config::ConfigArgs>),
    /// Write a commented configuration file for this project
    Init(init::InitArgs),
    /// Be a private agent for a coordinator
    #[command(hide = true)]
    Agent(AgentArgs),
}

/// What `run` takes.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Test files, directories (relative to the project), or parts of their paths [default: all test files]
    #[arg(value_name = "PATHS|FILTERS")]
    pub paths: Vec<String>,

    /// Continue the last unfinished run of this project; test files that it finished are run again only if they have
    /// changed
    #[arg(long, conflicts_with_all = ["paths", "framework_arguments", "files", "exclude", "framework", "command"])]
    pub resume: bool,

    /// Show the plan (files in order, predicted seconds, runners) and run nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Write every event of the run to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Show failures and the summary only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Show also what passes, hosts' preparations and hooks
    #[arg(short, long)]
    pub verbose: bool,

    /// When to use colour and a live view [default: auto]
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub color: ColorChoice,

    /// Arguments for the framework
    #[arg(last = true, value_name = "FRAMEWORK ARGS")]
    pub framework_arguments: Vec<String>,

    /// What to run, where and how.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    #[default]
    Auto,
    /// Even into a file.
    Always,
    /// Never.
    Never,
}

/// What `agent` takes: the arguments of `runner-agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Passed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}
