//! The `distributest` command.

use std::process::ExitCode;

use distributest::cli::{self, Cli, Command, RunArgs};
use distributest::error::UserError;
use distributest::terminal;

fn main() -> ExitCode {
    let Cli { command, run } = Cli::from_arguments(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let ended = match command {
        None => cli::run::run(&run),
        Some(Command::Run(run)) => cli::run::run(&run),
        Some(Command::Plan(run)) => cli::run::run(&RunArgs { dry_run: true, ..*run }),
        Some(Command::Config(args)) => cli::config::run(&args).map(print),
        Some(Command::Init(args)) => cli::init::run(&args).map(print),
        Some(Command::Agent(args)) => return ExitCode::from(runner_agent::private_agent(args.arguments)),
    };
    ExitCode::from(ended.unwrap_or_else(|error| report(&error)))
}

fn print(text: String) -> u8 {
    terminal::print(&text);
    0
}

/// Tells what went wrong, once, on standard error.
fn report(error: &UserError) -> u8 {
    let mut stderr = std::io::stderr().lock();
    let _ = std::io::Write::write_all(&mut stderr, format!("{error}\n").as_bytes());
    error.exit_status
}
