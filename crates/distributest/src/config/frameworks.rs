//! Reads `[framework.NAME]` tables, and checks what they, `frameworks` and `command` say together.

use std::collections::BTreeMap;

use distributest_frameworks::Framework;

use super::errors::ConfigProblem;
use super::key;
use super::kind::{Command, List};
use super::layer::FRAMEWORK;
use super::reader::Reader;
use super::settings::{GLOBS, RESULTS, isolation};
use super::{Config, FrameworkConfig};

/// The framework whose files are run by `command`.
const COMMAND: &str = "command";

const ARGUMENTS: List = List { expected: "a list of arguments", check: |_| Ok(()), commas: false };

/// Reads every table, merged key by key from all layers.
pub(super) fn read(reader: &mut Reader<'_>) -> BTreeMap<String, FrameworkConfig> {
    let names = reader.names_in(FRAMEWORK).into_iter();
    names.map(|name| (name.clone(), read_one(reader, &name))).collect()
}

fn read_one(reader: &mut Reader<'_>, name: &str) -> FrameworkConfig {
    let key = |key: &str| format!("{FRAMEWORK}.{name}.{key}");
    FrameworkConfig {
        detect: reader.get(&key("detect"), GLOBS, Vec::new()),
        files: reader.get(&key("files"), GLOBS, Vec::new()),
        exclude: reader.get(&key("exclude"), GLOBS, Vec::new()),
        isolation: isolation(reader, &key("isolation")),
        command: reader.get(&key("command"), Command { for_each_file: true }, None),
        results: reader.get(&key("results"), RESULTS, None),
        worker: reader.get(&key("worker"), Command { for_each_file: false }, None),
        arguments: reader.get(&key("arguments"), ARGUMENTS, Vec::new()),
    }
}

/// Checks what is about more than one key.
pub(super) fn check(config: &Config, reader: &mut Reader<'_>) {
    for (name, settings) in &config.framework {
        check_table(name, settings, reader);
    }
    let own = config.framework.keys().map(String::as_str);
    let built_in = Framework::built_in();
    let known: Vec<&str> = built_in.iter().map(Framework::name).chain(own).collect();
    for name in config.frameworks.iter().filter(|name| !known.contains(&name.as_str())) {
        let message = format!("`frameworks` names {name:?}, and there is no such framework");
        let hint = match key::nearest(name, known.iter().copied()) {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => {
                format!("choose among {}, or describe your own with [{FRAMEWORK}.{name}]", known.join(", "))
            }
        };
        conflict(reader, "frameworks", message, hint);
    }
    check_command(config, reader);
}

fn check_table(name: &str, settings: &FrameworkConfig, reader: &mut Reader<'_>) {
    let key = |key: &str| format!("{FRAMEWORK}.{name}.{key}");
    let built_in = Framework::named(name);
    let is_command = name == COMMAND;
    // Any key tells where the table stands.
    let anywhere = reader.provenance.first_set(&key("")).unwrap_or_else(|| key("files"));
    if !name.starts_with(|first: char| first.is_ascii_lowercase())
        || !name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter))
    {
        let message = format!("[{FRAMEWORK}.{name}] has a name that is none");
        let hint = "a name is made of small letters, digits, - and _, and begins with a letter";
        return conflict(reader, &anywhere, message, hint);
    }
    let has = |set: bool, word: &'static str| set.then_some(word);
    if built_in.is_some() && !is_command {
        let foreign = has(settings.command.is_some(), "command")
            .or(has(settings.worker.is_some(), "worker"))
            .or(has(settings.results.is_some(), "results"));
        if let Some(foreign) = foreign {
            let message =
                format!("{name} is built in and runs its files in its own way, so it has no `{foreign}`");
            conflict(reader, &key(foreign), message, "remove it, or give your own framework another name");
        }
        return;
    }
    match (&settings.worker, &settings.command) {
        (Some(_), Some(_)) => {
            let message = format!("[{FRAMEWORK}.{name}] has both a `worker` and a `command`");
            conflict(reader, &key("worker"), message, "remove one of the two");
        }
        (None, None) if !is_command => {
            let message = format!("nothing says what runs the files of [{FRAMEWORK}.{name}]");
            conflict(
                reader,
                &anywhere,
                message,
                "set its `command`, such as \"bash {file}\", or its `worker`",
            );
        }
        (Some(_), None) if settings.results.is_some() => {
            let message = "`results` says where a `command` writes them; a worker reports its own".to_owned();
            conflict(reader, &key("results"), message, "remove it");
        }
        _ => {}
    }
    if settings.files.is_empty() {
        let message = format!("nothing says which files are for [{FRAMEWORK}.{name}]");
        conflict(reader, &anywhere, message, "set its `files`, such as [\"checks/**/*.sh\"]");
    }
}

/// `command` belongs to the framework of that name, which has no files of its own.
fn check_command(config: &Config, reader: &mut Reader<'_>) {
    let chosen = config.frameworks.as_slice();
    if let (None, Some(_)) = (&config.command, &config.results) {
        let message = "`results` says where `command` writes them, but there is no `command`".to_owned();
        return conflict(reader, "results", message, "set `command`");
    }
    let key = match (&config.command, chosen) {
        (Some(_), [_, ..]) if !chosen.iter().any(|name| name == COMMAND) => {
            let message = format!(
                "`command` is set, but the framework is {}, which does not use it",
                chosen.join(", ")
            );
            return conflict(
                reader,
                "command",
                message,
                "remove `command`, or set frameworks = [\"command\"]",
            );
        }
        (Some(_), _) => "command",
        (None, [name]) if name == COMMAND => "frameworks",
        (None, _) => return,
    };
    let has_table = config.framework.get(COMMAND).is_some_and(|table| !table.files.is_empty());
    if config.files.is_empty() && !has_table {
        let message = match key {
            "command" => "`command` says what runs the files, but nothing says which files",
            _ => "the framework command runs files, but nothing says which files",
        };
        conflict(reader, key, message.to_owned(), "set files = [\"tests/*.sh\"] or the like, or use --files");
    }
}

fn conflict(reader: &mut Reader<'_>, key: &str, message: String, hint: impl Into<String>) {
    let origin = reader.provenance.origin(key).clone();
    reader.problems.push(ConfigProblem::Conflict { origin, message, hint: hint.into() });
}
