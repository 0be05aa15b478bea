//! Prints sample runs as the console shows them, to look at.
//!
//! `cargo run -p distributest-report --example sample_run -- [SCENARIO] [--color] [--live] [--quiet] [--verbose]
//! [--width=N]`; without a scenario it prints all of them. With `--live` a run takes as long as it says, ten times
//! faster.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use distributest_core::run_event::RunEvent;
use distributest_report::{Console, ConsoleOptions, ConsoleOutputs, Reporters, Verbosity};
use indicatif::ProgressDrawTarget;

#[path = "../tests/report/scenarios.rs"]
mod scenarios;
#[path = "../tests/report/script.rs"]
mod script;

const SPEED: u32 = 10;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let width = arguments.iter().find_map(|argument| argument.strip_prefix("--width=")?.parse().ok());
    let wanted = arguments.iter().find(|argument| !argument.starts_with("--"));
    let options = ConsoleOptions {
        color: flag("--color"),
        width: width.unwrap_or(80),
        live: flag("--live"),
        verbosity: match (flag("--quiet"), flag("--verbose")) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        },
        slow_file: Duration::from_secs(60),
        slow_test: Duration::from_secs(10),
        rerun_command: "distributest".to_owned(),
        resume_command: "distributest --resume".to_owned(),
        log_path: Some("/home/ana/.local/state/distributest/logs/latest.log".into()),
    };
    let mut shown = 0;
    for (name, run) in scenarios::all() {
        if wanted.is_none_or(|wanted| wanted == name) {
            shown += 1;
            if writeln!(io::stdout(), "\n######## {name}\n").is_err() {
                return ExitCode::FAILURE;
            }
            show(&options, run);
        }
    }
    if shown == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(options: &ConsoleOptions, run: scenarios::Run) {
    let outputs = ConsoleOutputs {
        results: Box::new(io::stdout()),
        messages: Box::new(io::stderr()),
        progress: ProgressDrawTarget::stderr(),
    };
    let mut reporters = Reporters::new();
    reporters.add(Console::new(options.clone(), outputs));
    let started = Instant::now();
    for (at, event) in run {
        while options.live && started.elapsed() * SPEED < at {
            reporters.on_tick(started.elapsed() * SPEED);
            std::thread::sleep(Duration::from_millis(50));
        }
        reporters.on_event(at, &event);
        if let RunEvent::RunFinished(summary) = &event {
            let _ = writeln!(io::stderr(), "(exit status {})", summary.exit_status);
        }
    }
    reporters.finish();
}
