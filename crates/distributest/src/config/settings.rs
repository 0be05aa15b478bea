//! Lists every key with its kind and default, and checks what only several keys together can get wrong.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::errors::{ConfigError, ConfigProblem};
use super::frameworks;
use super::kind::{Auto, Choice, Command, FilePath, Limit, List, Number, Switch, Text};
use super::layer::{Base, Flag, Layer, Origin};
use super::provenance::Provenance;
use super::reader::Reader;
use super::sources::{ConfigSources, read_text};
use super::{Config, HostConfig, Isolation, LOCALHOST, LogConfig, RETRIES_LIMIT, RUNNERS_LIMIT, SyncConfig};

/// Variables that every runner gets from its agent, so they can't be set for all of them.
const RUNNER_VARIABLES: [&str; 10] = [
    "DB_PREFIX",
    "DISTRIBUTEST_ENV",
    "DISTRIBUTEST_FD",
    "DISTRIBUTEST_HOST",
    "DISTRIBUTEST_ISOLATION",
    "DISTRIBUTEST_MAY_STAY",
    "DISTRIBUTEST_PROJECT",
    "DISTRIBUTEST_RUN",
    "DISTRIBUTEST_RUNNER",
    "TEST_ENV_NUMBER",
];

pub(super) const GLOBS: List = List {
    expected: "a list of globs relative to the project, such as [\"spec/**/*_spec.rb\"]",
    check: check_glob,
    commas: false,
};
/// Where results of a command are.
pub(super) const RESULTS: Auto<Text> = Auto(
    Text {
        expected: "a glob of JUnit-XML files, relative to the project or below {results}, such as \"build/*.xml\"",
        check: check_glob,
    },
    "the exit status decides, or what is in {results} if `command` has it",
);
const HOST_TIMEOUT_SECONDS: Number<u16> = Number { minimum: 1, maximum: 600 };
/// How often a file that fails is tried again.
const RETRIES: Number<u8> = Number { minimum: 0, maximum: RETRIES_LIMIT };
const FRAMEWORK_NAMES: List = List {
    expected: "a list of names of frameworks (empty: detected)",
    check: check_not_empty,
    commas: true,
};
const PATTERNS: List = List { expected: "a list of rsync patterns", check: check_pattern, commas: false };
const INPUTS: List =
    List { expected: "a list of paths relative to the project", check: check_input, commas: false };
const NAMES: List =
    List { expected: "a list of names of variables", check: check_environment_name, commas: true };
const HOST_NAMES: List =
    List { expected: "a list of names of hosts (empty: all of them)", check: check_not_empty, commas: true };

/// Reads every layer and merges them, and says where each value came from.
///
/// # Errors
///
/// All problems of all layers at once.
pub fn load(sources: &ConfigSources, flags: &[Flag]) -> Result<(Config, Provenance), ConfigError> {
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    for (path, directory) in sources.files() {
        match read_text(&path) {
            Ok(text) => texts.extend(text.map(|text| (path, directory, text))),
            Err(source) => problems.push(ConfigProblem::Unreadable { path, source }),
        }
    }
    let mut layers = Vec::new();
    for (path, directory, text) in &texts {
        let base = Base { directory: directory.clone(), home: sources.home.clone() };
        match Layer::file(path, text, base) {
            Ok(layer) => layers.push(layer),
            Err(syntax_problem) => problems.push(*syntax_problem),
        }
    }
    let base = Base { directory: Some(sources.current_directory.clone()), home: sources.home.clone() };
    layers.push(Layer::environment(&sources.environment, base.clone()));
    layers.push(Layer::flags(flags, base));

    let mut reader = Reader::new(&layers);
    reader.problems = problems;
    let config = read(&mut reader);
    let provenance = reader.finish()?;
    Ok((config, provenance))
}

/// Reads every key there is.
fn read(reader: &mut Reader<'_>) -> Config {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let runners = Auto(Number { minimum: 0, maximum: RUNNERS_LIMIT }, "the number of cores");
    let mut config = Config {
        files: reader.get("files", GLOBS, Vec::new()),
        exclude: reader.get("exclude", GLOBS, Vec::new()),
        frameworks: reader.get("frameworks", FRAMEWORK_NAMES, Vec::new()),
        framework: Default::default(),
        command: reader.get("command", Command { for_each_file: true }, None),
        results: reader.get("results", RESULTS, None),
        runners: reader.get("runners", runners, None),
        isolation: isolation(reader, "isolation"),
        split: reader.get("split", GLOBS, Vec::new()),
        timeout: reader.get("timeout", Limit, seconds(600)),
        host_timeout: Duration::from_secs(reader.get("host_timeout", HOST_TIMEOUT_SECONDS, 10).into()),
        retries: reader.get("retries", RETRIES, 0),
        retry: Default::default(),
        flaky_fails: reader.get("flaky", Choice(vec!["pass", "fail"]), "pass".to_owned()) == "fail",
        fail_fast: NonZeroU32::new(reader.get("fail_fast", Number { minimum: 0, maximum: 1_000_000 }, 0)),
        node_setup_timeout: reader.get("node_setup_timeout", Limit, seconds(600)),
        runner_setup_timeout: reader.get("runner_setup_timeout", Limit, seconds(600)),
        node_setup_inputs: reader.get("node_setup_inputs", INPUTS, Vec::new()),
        pass_env: reader.get("pass_env", NAMES, Vec::new()),
        keep_warm: reader.get("keep_warm", Limit, seconds(600)),
        cache: reader.get("cache", Switch, false),
        cache_inputs: Default::default(),
        snapshot: reader.get("snapshot", Switch, false),
        bootstrap: reader.get("bootstrap", Switch, true),
        require_hosts: reader.get("require_hosts", Switch, false),
        slow_file: reader.get("slow_file", Limit, seconds(10)),
        slow_test: reader.get("slow_test", Limit, seconds(1)),
        local: true,
        hosts: Vec::new(),
        sync: SyncConfig::default(),
        log: LogConfig { path: None, keep: 0 },
        env: Default::default(),
    };
    let selected = reader.get("hosts", HOST_NAMES, Vec::new());
    config.sync.include = reader.get("sync.include", PATTERNS, Vec::new());
    config.sync.exclude = reader.get("sync.exclude", PATTERNS, Vec::new());
    config.log.path = reader.get("log.path", Auto(FilePath, "a file in your state directory"), None);
    config.log.keep = reader.get("log.keep", Number { minimum: 1, maximum: 100_000 }, 20);
    config.retry = reader.by_glob("retry", RETRIES, "\"spec/system/**\" = 2");
    config.cache_inputs =
        reader.by_glob("cache_inputs", GLOBS, "\"tests/unit/**\" = [\"src/**\", \"tests/conftest.py\"]");
    config.framework = frameworks::read(reader);
    config.env = reader.environment("env");
    let hosts = reader.hosts("host");
    frameworks::check(&config, reader);
    select_hosts(&mut config, hosts, &selected, reader);
    config
}

/// How files are kept apart.
pub(super) fn isolation(reader: &mut Reader<'_>, key: &str) -> Option<Isolation> {
    let words = Auto(Choice(Isolation::ALL.map(Isolation::word).to_vec()), "the safest that is fast");
    reader.get(key, words, None).and_then(|word| Isolation::from_word(&word))
}

/// Leaves the hosts that take part: those selected, or all; none with `runners = 0`.
fn select_hosts(config: &mut Config, hosts: Vec<HostConfig>, selected: &[String], reader: &mut Reader<'_>) {
    let names: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).chain([LOCALHOST]).collect();
    for name in selected.iter().filter(|name| !names.contains(name.as_str())) {
        let known: Vec<&str> = names.iter().copied().collect();
        reader.problems.push(ConfigProblem::Conflict {
            origin: reader.provenance.origin("hosts").clone(),
            message: format!("`hosts` selects \"{name}\", which no [[host]] has as its name"),
            hint: format!("choose among {}, or add [[host]] with name = \"{name}\"", known.join(", ")),
        });
    }
    let takes_part = |name: &str, runners: Option<u16>| {
        runners != Some(0) && (selected.is_empty() || selected.iter().any(|selected| selected == name))
    };
    config.local = takes_part(LOCALHOST, config.runners);
    config.hosts = hosts.into_iter().filter(|host| takes_part(&host.name, host.runners)).collect();
    if !config.local && config.hosts.is_empty() && reader.problems.is_empty() {
        let origin = match reader.provenance.origin("runners") {
            Origin::Default => reader.provenance.host_origin(),
            origin => origin,
        };
        reader.problems.push(ConfigProblem::Conflict {
            origin: origin.clone(),
            message: "no host is left to run tests on: all of those selected have `runners = 0`".to_owned(),
            hint: "raise `runners`, or select other hosts with --hosts".to_owned(),
        });
    }
}

pub(super) fn check_glob(glob: &str) -> Result<(), String> {
    check_not_empty(glob)?;
    if glob.starts_with('/') || glob.split('/').any(|part| part == "..") {
        return Err("it leads out of the project".to_owned());
    }
    match globset::Glob::new(glob) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.kind().to_string()),
    }
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    check_not_empty(pattern)?;
    match pattern.contains(['\0', '\n', '\r']) {
        true => Err("it has control characters".to_owned()),
        false => Ok(()),
    }
}

fn check_input(path: &str) -> Result<(), String> {
    check_not_empty(path)?;
    match path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        true => Err("it leads out of the project".to_owned()),
        false => Ok(()),
    }
}

fn check_not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) }
}

/// Whether a variable of this name can be set for every hook and worker.
pub(super) fn check_environment_name(name: &str) -> Result<(), String> {
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !first || !name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_') {
        return Err("a name is made of letters, digits and _, and does not begin with a digit".to_owned());
    }
    if RUNNER_VARIABLES.contains(&name) {
        return Err("every runner gets its own from its agent".to_owned());
    }
    Ok(())
}
