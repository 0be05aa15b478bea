//! Cargo's own configuration, as far as it reaches test binaries: `[env]`, and the program they are run with.
//!
//! `.cargo/config.toml` of the directory cargo runs in, of those it is in, and of cargo's home; what is nearer wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr as _;

use cargo_platform::{Cfg, Platform};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::link::{Link, Stop};
use crate::tools;

/// What the configuration adds to how a binary is run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    /// The words that stand before the binary's path.
    pub(super) runner: Vec<OsString>,
    /// Variables for its environment.
    pub(super) environment: Vec<(String, OsString)>,
    /// Where Rust's own dynamic libraries are.
    pub(super) libraries: Option<PathBuf>,
    /// The cargo of this toolchain, where the one found in `PATH` only passes on to it.
    pub(super) cargo: Option<PathBuf>,
}

/// A file of the configuration, and the directory its relative paths are relative to.
struct File {
    base: PathBuf,
    table: Table,
}

impl Settings {
    /// Reads what holds in a workspace.
    pub(super) fn read(root: &Path, arguments: &[String], link: &mut Link) -> Result<Settings, Stop> {
        let files = files(root);
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut print = |what: &[&str]| {
            let mut command = Command::new(&rustc);
            command.args(what).current_dir(root);
            tools::ask(command, false, link).map(|answer| answer.text())
        };
        let toolchain = print(&["--print", "sysroot"])?;
        let libraries = print(&["--print", "target-libdir"])?;
        let version = print(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let target = target(arguments, &files).unwrap_or_else(|| host.to_owned());
        let runner = match runner_in_environment(&target).or_else(|| plain_runner(&files, &target)) {
            Some(runner) => runner,
            None if files.iter().any(has_conditional_runner) => {
                let cfgs = print(&["--print", "cfg", "--target", &target])?;
                let cfgs: Vec<Cfg> = cfgs.lines().filter_map(|line| Cfg::from_str(line).ok()).collect();
                conditional_runner(&files, &target, &cfgs).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let cargo = Path::new(&toolchain).join("bin/cargo");
        Ok(Settings {
            runner,
            environment: environment(&files),
            libraries: (!libraries.is_empty()).then(|| libraries.into()),
            cargo: (!toolchain.is_empty() && cargo.is_file()).then_some(cargo),
        })
    }
}

/// The configuration files, nearest first.
fn files(root: &Path) -> Vec<File> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| tools::below("HOME", ".cargo"));
    let directories = root.ancestors().map(|directory| directory.join(".cargo")).chain(home);
    let mut files: Vec<File> = Vec::new();
    for directory in directories {
        let found =
            ["config.toml", "config"].iter().map(|name| directory.join(name)).find(|path| path.is_file());
        let base = directory.parent().unwrap_or(Path::new("/")).to_owned();
        // Cargo has read them all without complaint, or nothing is run. Cargo's home may be one of the ancestors.
        let text = found.and_then(|path| fs::read_to_string(path).ok());
        let table = text.and_then(|text| text.parse().ok());
        if let Some(table) = table.filter(|_| files.iter().all(|file| file.base != base)) {
            files.push(File { base, table });
        }
    }
    files
}

/// The platform that is built for, where it is chosen.
fn target(arguments: &[String], files: &[File]) -> Option<String> {
    let mut words = arguments.iter();
    let given = words.find_map(|word| {
        word.strip_prefix("--target")
            .filter(|rest| rest.is_empty() || rest.starts_with('='))
            .map(str::to_owned)
    });
    let given = given.and_then(|rest| match rest.strip_prefix('=') {
        Some(target) => Some(target.to_owned()),
        None => words.next().cloned(),
    });
    let configured = || files.iter().find_map(|file| file.table.get("build")?.get("target")?.as_str());
    let given = given.or_else(|| std::env::var("CARGO_BUILD_TARGET").ok());
    given.or_else(|| configured().map(str::to_owned))
}

fn runner_in_environment(target: &str) -> Option<Vec<OsString>> {
    let name = target.to_uppercase().replace(['-', '.'], "_");
    let value = std::env::var(format!("CARGO_TARGET_{name}_RUNNER")).ok()?;
    Some(value.split_whitespace().map(OsString::from).collect())
}

/// The runner configured for a platform by its name.
fn plain_runner(files: &[File], target: &str) -> Option<Vec<OsString>> {
    files.iter().find_map(|file| words_of(file, file.table.get("target")?.get(target)?.get("runner")?))
}

/// The runner configured for platforms like this one.
fn conditional_runner(files: &[File], target: &str, cfgs: &[Cfg]) -> Option<Vec<OsString>> {
    files.iter().find_map(|file| {
        let platforms = file.table.get("target")?.as_table()?;
        platforms.iter().find_map(|(platform, settings)| {
            let platform = Platform::from_str(platform).ok()?;
            let is_meant = matches!(platform, Platform::Cfg(_)) && platform.matches(target, cfgs);
            words_of(file, settings.get("runner")?).filter(|_| is_meant)
        })
    })
}

fn has_conditional_runner(file: &File) -> bool {
    let platforms = file.table.get("target").and_then(Value::as_table);
    platforms
        .into_iter()
        .flatten()
        .any(|(name, settings)| name.starts_with("cfg(") && settings.get("runner").is_some())
}

/// A program with its arguments: an array, or a text with blanks. A path is relative to the configuration.
fn words_of(file: &File, value: &Value) -> Option<Vec<OsString>> {
    let mut words: Vec<OsString> = match value {
        Value::String(text) => text.split_whitespace().map(OsString::from).collect(),
        Value::Array(words) => words.iter().filter_map(Value::as_str).map(OsString::from).collect(),
        _ => return None,
    };
    let program = words.first_mut()?;
    if program.to_string_lossy().contains('/') {
        *program = file.base.join(&*program).into_os_string();
    }
    Some(words)
}

/// The variables of `[env]`; those that are set already stay, unless they are forced.
fn environment(files: &[File]) -> Vec<(String, OsString)> {
    let mut variables = BTreeMap::new();
    for file in files.iter().rev() {
        for (name, setting) in file.table.get("env").and_then(Value::as_table).into_iter().flatten() {
            let flag = |key: &str| setting.get(key).and_then(Value::as_bool).unwrap_or(false);
            let value = setting.as_str().or_else(|| setting.get("value")?.as_str());
            let Some(value) = value else { continue };
            let value = if flag("relative") { file.base.join(value).into() } else { OsString::from(value) };
            variables.insert(name.clone(), (value, flag("force")));
        }
    }
    let is_new = |name: &str| std::env::var_os(name).is_none();
    let kept = variables.into_iter().filter(|(name, (_, is_forced))| *is_forced || is_new(name));
    kept.map(|(name, (value, _))| (name, value)).collect()
}
