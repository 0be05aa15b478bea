//! The command line of `runner-agent`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::config::{self, Config};
use crate::daemon;
use crate::dial::{self, DialError};
use crate::failure;
use crate::private;
use crate::refusal::Refusal;
use crate::runtime::start_log;
use crate::session::{self, ResidentOptions};

/// Exit status for a command line that can't be understood (`EX_USAGE`).
const USAGE_STATUS: u8 = 64;

/// Exit status when no resident agent answers (`EX_UNAVAILABLE`); coordinators then bring their own.
const UNAVAILABLE_STATUS: u8 = 69;

/// Exit status for a configuration that can't be used (`EX_CONFIG`).
const CONFIGURATION_STATUS: u8 = 78;

/// Runs tests on this machine for the users of `distributest`
#[derive(Debug, Parser)]
#[command(
    name = "runner-agent",
    version,
    after_help = "Installed as a system service it serves every user who may log in here; as an ordinary user \
                  (`runner-agent serve`) that user only. Nobody needs to run the other commands by hand.\n\n\
                  RUNNER_AGENT_LOG=error|warn|info|debug|trace|off sets what it tells on standard error."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Accept runs on a Unix socket until told to stop
    Serve(ServeArguments),
    /// Join standard input and output with the resident agent's socket
    Dial(SocketArguments),
    /// Check the configuration file and print what it amounts to
    CheckConfig(ConfigArguments),
    /// Serve one run over standard input and output
    #[command(hide = true)]
    Agent(AgentArguments),
}

#[derive(Debug, Args)]
struct ServeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    socket: SocketArguments,
}

#[derive(Debug, Args)]
struct ConfigArguments {
    /// Configuration file [default: /etc/distributest/agent.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SocketArguments {
    /// Socket of the resident agent [default: /run/runner-agent/socket for root, else
    /// $XDG_RUNTIME_DIR/runner-agent.sock or ~/.cache/distributest/runner-agent.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What `agent` takes, from coordinators and from this program itself.
#[derive(Debug, Args)]
struct AgentArguments {
    /// Say in one line on standard output what this is, before anything else
    #[arg(long)]
    banner: bool,
    /// Be a session process of the daemon that started this
    #[arg(long, conflicts_with = "banner")]
    session: bool,
    /// How much may execute at once on this host
    #[arg(long, requires = "session", value_name = "NUMBER", default_value_t = 1)]
    slots: usize,
    /// The process's own cgroup is its to divide
    #[arg(long, requires = "session")]
    cgroups: bool,
    /// Only say why the caller is not served
    #[arg(long, requires = "session", value_name = "REASON")]
    refuse: Option<Refusal>,
    #[command(subcommand)]
    part: Option<AgentPart>,
}

/// What else the agent starts itself as.
#[derive(Debug, Subcommand)]
enum AgentPart {
    /// Be a worker of a session: speak the worker protocol on $DISTRIBUTEST_FD
    Worker(WorkerArguments),
}

#[derive(Debug, Args)]
struct WorkerArguments {
    /// Its kind, and what that takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<OsString>,
}

/// `agent` on its own, as another program embeds it.
#[derive(Debug, Parser)]
#[command(name = "agent", no_binary_name = true)]
struct EmbeddedAgent {
    #[command(flatten)]
    arguments: AgentArguments,
}

/// Does what the process's arguments say.
pub fn main() -> ExitCode {
    let status = match Cli::try_parse() {
        Ok(Cli { command: Command::Serve(arguments) }) => serve(arguments),
        Ok(Cli { command: Command::Dial(arguments) }) => relay(arguments),
        Ok(Cli { command: Command::CheckConfig(arguments) }) => check_config(&arguments),
        Ok(Cli { command: Command::Agent(arguments) }) => agent(&arguments),
        Err(error) => refuse_arguments(&error),
    };
    ExitCode::from(status)
}

/// Is a private agent: serves one run over standard input and output, and returns the exit status of the process.
///
/// `arguments` is `--banner` or nothing; a program that embeds the agent calls this for its own subcommand `agent`
/// with all the arguments that follow that word, because the agent starts the program again with others.
pub fn private_agent(arguments: Vec<OsString>) -> u8 {
    match EmbeddedAgent::try_parse_from(arguments) {
        Ok(EmbeddedAgent { arguments }) => agent(&arguments),
        Err(error) => refuse_arguments(&error),
    }
}

fn refuse_arguments(error: &clap::Error) -> u8 {
    // Help and version are asked for.
    let status = if error.use_stderr() { USAGE_STATUS } else { 0 };
    let _ = error.print();
    status
}

fn agent(arguments: &AgentArguments) -> u8 {
    if let Some(AgentPart::Worker(worker)) = &arguments.part {
        return distributest_worker::main(&worker.words);
    }
    start_log(LevelFilter::WARN);
    if !arguments.session {
        return private::run(arguments.banner).map_or_else(|error| fail(&error, 1), |()| 0);
    }
    let options =
        ResidentOptions { slots: arguments.slots, cgroups: arguments.cgroups, refusal: arguments.refuse };
    session::run_resident(options).map_or_else(|error| fail(&error, 1), |()| 0)
}

fn serve(arguments: ServeArguments) -> u8 {
    start_log(LevelFilter::INFO);
    match Config::load(arguments.config.config.as_deref()) {
        Ok(config) => match daemon::serve(&config, arguments.socket.socket) {
            Ok(()) => 0,
            Err(error) => fail(&error, 1),
        },
        Err(error) => fail(&error, CONFIGURATION_STATUS),
    }
}

fn relay(arguments: SocketArguments) -> u8 {
    match dial::relay(arguments.socket) {
        Ok(()) => 0,
        Err(error @ DialError::NoAgent { .. }) => fail(&error, UNAVAILABLE_STATUS),
        Err(error) => fail(&error, 1),
    }
}

fn check_config(arguments: &ConfigArguments) -> u8 {
    match Config::load(arguments.config.as_deref()) {
        Ok(config) => {
            let file = arguments.config.clone().unwrap_or_else(|| config::DEFAULT_PATH.into());
            let text = format!(
                "{}: ok\nslots = {}\nallow_root = {}\nstop_grace_seconds = {}\n\
                 keep_warm_seconds = {}\n",
                file.display(),
                config.slots(),
                config.allow_root(),
                config.stop_grace().as_secs(),
                config.keep_warm().as_secs()
            );
            // A reader that went away has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            0
        }
        Err(error) => fail(&error, CONFIGURATION_STATUS),
    }
}

fn fail(error: &dyn std::error::Error, status: u8) -> u8 {
    let _ = writeln!(std::io::stderr(), "runner-agent: {}", failure::chain(error).trim_end());
    status
}
