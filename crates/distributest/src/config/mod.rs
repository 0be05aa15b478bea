//! Reads the configuration: which files to run, how, where, and what may be said about it afterwards.
//!
//! # Theory of operation
//!
//! Settings come in layers, and for every key the last layer that has it wins:
//!
//! 1. the built-in defaults, told by the comments of [`DEFAULT_FILE`], which is also the file that is
//!    installed;
//! 2. `/etc/distributest/config.toml`;
//! 3. `~/.config/distributest/config.toml`;
//! 4. the project's `.distributest/config.toml`;
//! 5. `DISTRIBUTEST_*` variables;
//! 6. flags.
//!
//! A `layer::Layer` finds the raw value of a key; a `kind::Kind` reads it, checks it and writes it as
//! TOML; `reader::Reader` asks every layer for one key after another and remembers where the winner came
//! from. `settings::read` is the only list of keys: what it does not ask for is unknown.
//!
//! # Rules
//!
//! - Arrays of a later layer replace earlier ones; `[env]`, `[sync]` and `[log]` merge key by key; all
//!   `[[host]]` entries of a layer replace all of an earlier one.
//! - Every value of every layer is checked, also one that a later layer overrides, and all problems are told
//!   at once.
//! - Every key has a default that can be written down, so a later layer can always undo an earlier one.
//! - Paths in the project's file are relative to the project, those in the user's file to the home directory,
//!   those in variables and flags to the current directory; a leading `~/` is the home directory everywhere.

mod errors;
mod frameworks;
mod hooks;
mod hosts;
mod key;
mod kind;
mod layer;
mod provenance;
mod reader;
mod settings;
mod sources;
mod words;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use distributest_frameworks::Isolation;

pub use self::errors::{ConfigError, ConfigProblem};
pub use self::hooks::{Hook, HookError, HookSource, Hooks, find_hooks};
pub use self::key::flag_of;
pub use self::layer::{Flag, Origin};
pub use self::provenance::Provenance;
pub use self::settings::load;
pub use self::sources::ConfigSources;

/// The commented default configuration: installed as `/etc/distributest/config.toml`.
pub const DEFAULT_FILE: &str = include_str!("../../../../etc/distributest/config.toml");

/// The commented hook that is installed as `/etc/distributest/node_setup`. It does nothing.
pub const DEFAULT_NODE_SETUP: &str = include_str!("../../../../etc/distributest/node_setup");

/// The commented hook that is installed as `/etc/distributest/runner_setup`. It does nothing.
pub const DEFAULT_RUNNER_SETUP: &str = include_str!("../../../../etc/distributest/runner_setup");

/// The host that needs no ssh: this machine.
pub const LOCALHOST: &str = "localhost";

/// The highest number of runners on one host.
pub const RUNNERS_LIMIT: u16 = 1024;

/// The highest number of times a file that fails is tried again.
pub const RETRIES_LIMIT: u8 = 20;

/// What a run is to do, with every layer merged and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Globs of the test files, relative to the project. Empty: the framework's own.
    pub files: Vec<String>,
    /// Globs of files that `files` matches but that are not to be run.
    pub exclude: Vec<String>,
    /// The names of the frameworks to run; empty: detected from the project.
    pub frameworks: Vec<String>,
    /// What the project wants different of a framework, or says of one of its own, by name.
    pub framework: BTreeMap<String, FrameworkConfig>,
    /// The program run for each file when the framework is `command`, with `{file}` in at least one argument;
    /// `None`: the file itself.
    pub command: Option<Vec<String>>,
    /// Glob of the JUnit-XML files that `command` writes, `{results}` standing for a directory made for each attempt;
    /// `None`: its exit status decides, unless it has `{results}` among its arguments.
    pub results: Option<String>,
    /// Runners on this machine, up to [`RUNNERS_LIMIT`]; `None`: as many as it has cores.
    pub runners: Option<u16>,
    /// How files are kept apart; `None`: the safest that is fast for the framework.
    pub isolation: Option<Isolation>,
    /// Globs of files that may be split by their tests when they take too long.
    pub split: Vec<String>,
    /// The longest a test file may be silent; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Silence of a host after which its files run elsewhere as well.
    pub host_timeout: Duration,
    /// How often a file that fails is tried again, up to [`RETRIES_LIMIT`].
    pub retries: u8,
    /// The same for files that match a glob, by glob.
    pub retry: BTreeMap<String, u8>,
    /// Whether a file that passes only when tried again counts as failing.
    pub flaky_fails: bool,
    /// How many failing files end the run; `None`: it always goes on.
    pub fail_fast: Option<NonZeroU32>,
    /// The longest `node_setup` may take; `None`: for ever.
    pub node_setup_timeout: Option<Duration>,
    /// The longest `runner_setup` may take; `None`: for ever.
    pub runner_setup_timeout: Option<Duration>,
    /// Project-relative paths; while they are unchanged, `node_setup` is not run again. Empty: always run.
    pub node_setup_inputs: Vec<String>,
    /// Environment of every hook and worker.
    pub env: BTreeMap<String, String>,
    /// Names of variables of this command's environment that every hook and worker gets too.
    pub pass_env: Vec<String>,
    /// How long resident agents keep what a run has loaded for the next one; `None`: not at all.
    pub keep_warm: Option<Duration>,
    /// Whether a file is not run whose inputs are those of a run in which it passed.
    pub cache: bool,
    /// Globs of what test files depend on, by a glob of those; others depend on the whole project.
    pub cache_inputs: BTreeMap<String, Vec<String>>,
    /// Whether tests on this machine run in a copy of the project instead of the project itself.
    pub snapshot: bool,
    /// Whether a host without an agent gets a private one for the run.
    pub bootstrap: bool,
    /// Whether a host that takes no part makes the run fail.
    pub require_hosts: bool,
    /// Whether this machine takes part.
    pub local: bool,
    /// The other hosts that take part: selected by `hosts` and not disabled by `runners = 0`.
    pub hosts: Vec<HostConfig>,
    /// What is copied to the hosts.
    pub sync: SyncConfig,
    /// The aggregated log.
    pub log: LogConfig,
    /// Files slower than this are named in the summary; `None`: none.
    pub slow_file: Option<Duration>,
    /// Tests slower than this are named in the summary; `None`: none.
    pub slow_test: Option<Duration>,
}

/// One `[framework.NAME]` table. What is empty or `None` is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameworkConfig {
    /// Globs of files that say that the project uses it.
    pub detect: Vec<String>,
    /// Globs of its test files.
    pub files: Vec<String>,
    /// Globs of files that are not to be run, besides those of all frameworks.
    pub exclude: Vec<String>,
    /// How its files are kept apart.
    pub isolation: Option<Isolation>,
    /// The program run for each of its files.
    pub command: Option<Vec<String>>,
    /// As [`Config::results`].
    pub results: Option<String>,
    /// The program that speaks the worker protocol.
    pub worker: Option<Vec<String>>,
    /// Arguments for it in every run.
    pub arguments: Vec<String>,
}

/// One `[[host]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Anything `ssh NAME` accepts; unique, never empty, never beginning with `-`, without white space.
    pub name: String,
    /// The user to log in as; `None`: what ssh chooses.
    pub user: Option<String>,
    /// Runners on the host, up to [`RUNNERS_LIMIT`]; `None`: as many as it has cores. 0 disables the host.
    pub runners: Option<u16>,
    /// The private key ssh uses, an absolute path; `None`: what ssh chooses.
    pub identity: Option<PathBuf>,
    /// Options for `ssh -o`, each `Name=value`.
    pub ssh_options: Vec<String>,
    /// The directory on the host below which workspaces live, absolute or beginning with `~/`; `None`: the
    /// agent's default.
    pub remote_dir: Option<String>,
}

/// What is copied to the hosts, besides what version control ignores and `.git`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncConfig {
    /// rsync patterns of files to copy although they are ignored or excluded.
    pub include: Vec<String>,
    /// rsync patterns of files not to copy.
    pub exclude: Vec<String>,
}

/// The aggregated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The file, an absolute path; `None`: a new one for every run below the user's state directory.
    pub path: Option<PathBuf>,
    /// How many runs' logs are kept there, the newest included. At least 1.
    pub keep: u32,
}
