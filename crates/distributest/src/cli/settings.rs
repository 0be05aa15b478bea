//! The flags that set configuration keys, shared by every command that reads the configuration.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{self, Config, ConfigSources, Flag, LOCALHOST, Provenance};
use crate::error::UserError;

/// Flags for configuration keys, and which project they are about.
///
/// Values stay text here: the configuration reads and checks them like those of every other layer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct SettingsArgs {
    /// The project's directory [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,

    /// Only this test framework, such as pytest or rspec; may be repeated [default: detected]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub framework: Vec<String>,

    /// Glob of the test files; may be repeated [default: the framework's own]
    #[arg(long, value_name = "GLOB")]
    pub files: Vec<String>,

    /// Glob of files not to run; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,

    /// Program run for each file, such as "bash {file}"
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,

    /// Runners on this machine; 0: none [default: its cores]
    #[arg(long, value_name = "N")]
    pub runners: Option<String>,

    /// Only these hosts, separated by commas; this machine is localhost [default: all configured]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub hosts: Vec<String>,

    /// Only this machine; the same as --hosts localhost
    #[arg(long, conflicts_with = "hosts")]
    pub local: bool,

    /// Keep files apart by fork, shared or process [default: the safest that is fast]
    #[arg(long, value_name = "HOW")]
    pub isolation: Option<String>,

    /// Split files that match and take too long by their tests; may be repeated [default: none; GLOB: all]
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true, default_missing_value = "**")]
    pub split: Vec<String>,

    /// The longest a file may be silent, such as 90s or 10m; 0: for ever [default: 10m]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,

    /// Try files that fail this often again, elsewhere if possible [default: 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<String>,

    /// End the run once N files have failed [default: never; N: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub fail_fast: Option<String>,

    /// Don't run files whose inputs are those of a run in which they passed [default: run all]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub cache: Option<String>,

    /// Run every file; the same as --cache=false
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,

    /// Run in a copy of the project on this machine too [default: in place]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub snapshot: Option<String>,

    /// Fail when a host takes no part [default: go on without it]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub require_hosts: Option<String>,

    /// Write the log to this file [default: one in your state directory]
    #[arg(long, value_name = "PATH")]
    pub log_file: Option<String>,
}

/// The configuration of a project, merged from all layers.
#[derive(Debug)]
pub struct Loaded {
    /// Where it was looked for.
    pub sources: ConfigSources,
    /// The result.
    pub config: Config,
    /// Where each value comes from.
    pub provenance: Provenance,
}

impl SettingsArgs {
    /// Reads the configuration of the project with these flags on top.
    ///
    /// # Errors
    ///
    /// The project is no directory, or the configuration has problems.
    pub fn load(&self) -> Result<Loaded, UserError> {
        let sources = self.sources()?;
        let (config, provenance) = config::load(&sources, &self.flags())?;
        Ok(Loaded { sources, config, provenance })
    }

    /// Where the configuration of the project is.
    ///
    /// # Errors
    ///
    /// The project is no directory.
    pub fn sources(&self) -> Result<ConfigSources, UserError> {
        sources_of(self.project.as_deref())
    }

    /// The keys that are set by flags.
    pub fn flags(&self) -> Vec<Flag> {
        let local = if self.local { vec![LOCALHOST.to_owned()] } else { Vec::new() };
        let one = |value: &Option<String>| Vec::from_iter(value.clone());
        let no_cache = self.no_cache.then(|| "false".to_owned());
        let flags = [
            ("files", self.files.clone()),
            ("exclude", self.exclude.clone()),
            ("frameworks", self.framework.clone()),
            ("command", one(&self.command)),
            ("runners", one(&self.runners)),
            ("hosts", [self.hosts.clone(), local].concat()),
            ("isolation", one(&self.isolation)),
            ("split", self.split.clone()),
            ("timeout", one(&self.timeout)),
            ("retries", one(&self.retries)),
            ("fail_fast", one(&self.fail_fast)),
            ("cache", one(&self.cache.clone().or(no_cache))),
            ("snapshot", one(&self.snapshot)),
            ("require_hosts", one(&self.require_hosts)),
            ("log.path", one(&self.log_file)),
        ];
        let given = flags.into_iter().filter(|(_, values)| !values.is_empty());
        given.map(|(key, values)| Flag { key, values }).collect()
    }
}

/// The sources of configuration for `--project DIR`, or for the current directory.
pub(super) fn sources_of(project: Option<&Path>) -> Result<ConfigSources, UserError> {
    let hint = "start distributest in the project's directory, or name it with --project";
    let directory = match project {
        Some(directory) => directory.to_owned(),
        None => env::current_dir().map_err(|error| {
            UserError::usage("failed to find the current directory").because(&error).hint(hint)
        })?,
    };
    let failed = |what: &str| UserError::usage(format!("{what} the project {}", directory.display()));
    let project =
        directory.canonicalize().map_err(|error| failed("failed to open").because(&error).hint(hint))?;
    if !project.is_dir() {
        return Err(
            UserError::usage(format!("the project {} is not a directory", directory.display())).hint(hint)
        );
    }
    ConfigSources::of_process(project).map_err(|error| failed("failed to configure").because(&error))
}
