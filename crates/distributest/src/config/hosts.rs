//! Reads `[[host]]` entries.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigProblem, Rejection};
use super::kind::{Auto, FilePath, Kind, List, Number, Text};
use super::layer::{Layer, Origin, Raw};
use super::{HostConfig, LOCALHOST, RUNNERS_LIMIT};

const KEYS: [&str; 6] = ["name", "user", "runners", "identity", "ssh_options", "remote_dir"];

const NAME: Text = Text { expected: "a name that `ssh NAME` accepts", check: check_name };
const USER: Auto<Text> = Auto(Text { expected: "a user's name", check: check_user }, "what ssh chooses");
const RUNNERS: Auto<Number<u16>> = Auto(Number { minimum: 0, maximum: RUNNERS_LIMIT }, "the host's cores");
const IDENTITY: Auto<FilePath> = Auto(FilePath, "what ssh chooses");
const SSH_OPTIONS: List =
    List { expected: "a list of ssh options, each \"Name=value\"", check: check_ssh_option, commas: false };
const REMOTE_DIR: Auto<Text> = Auto(
    Text { expected: "a directory on the host, absolute or below ~/", check: check_remote_dir },
    "the agent's default",
);

/// Reads the hosts of one layer, each with where it stands.
pub(super) fn read(
    layer: &Layer<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Vec<ConfigProblem>,
) -> Vec<(HostConfig, Origin)> {
    let mut hosts: Vec<(HostConfig, Origin)> = Vec::new();
    let DeValue::Array(entries) = value.get_ref() else {
        problems.push(not_an_entry(layer, key, value));
        return hosts;
    };
    for entry in entries.iter() {
        let origin = layer.origin_at(entry.span().start);
        let DeValue::Table(table) = entry.get_ref() else {
            problems.push(not_an_entry(layer, key, entry));
            continue;
        };
        let Some(host) = read_host(layer, table, &origin, problems) else { continue };
        if let Some((_, first)) = hosts.iter().find(|(earlier, _)| earlier.name == host.name) {
            problems.push(ConfigProblem::Conflict {
                origin,
                message: format!("host \"{}\" is already configured at {first}", host.name),
                hint: "remove one of the two, or give one another name that ssh accepts".to_owned(),
            });
            continue;
        }
        hosts.push((host, origin));
    }
    hosts
}

/// The keys of a host whose values differ from their defaults, for printing.
pub(super) fn write(host: &HostConfig) -> Vec<(&'static str, toml::Value)> {
    let mut values = vec![("name", NAME.write(&host.name)), ("runners", RUNNERS.write(&host.runners))];
    values.extend(host.user.is_some().then(|| ("user", USER.write(&host.user))));
    values.extend(host.identity.is_some().then(|| ("identity", IDENTITY.write(&host.identity))));
    values.extend(
        (!host.ssh_options.is_empty()).then(|| ("ssh_options", SSH_OPTIONS.write(&host.ssh_options))),
    );
    values.extend(host.remote_dir.is_some().then(|| ("remote_dir", REMOTE_DIR.write(&host.remote_dir))));
    values
}

/// A host, unless it has no usable name. Problems with other keys leave them at their defaults.
fn read_host(
    layer: &Layer<'_>,
    table: &DeTable<'_>,
    origin: &Origin,
    problems: &mut Vec<ConfigProblem>,
) -> Option<HostConfig> {
    for name in table.keys().filter(|name| !KEYS.contains(&name.get_ref().as_ref())) {
        let origin = layer.origin_at(name.span().start);
        problems.push(ConfigProblem::unknown_key(origin, name.get_ref(), &KEYS));
    }
    let mut table = HostTable { layer, table, problems };
    let name = table.get("name", NAME);
    let user = table.get("user", USER).flatten();
    let runners = table.get("runners", RUNNERS).flatten();
    let identity = table.get("identity", IDENTITY).flatten();
    let ssh_options = table.get("ssh_options", SSH_OPTIONS).unwrap_or_default();
    let remote_dir = table.get("remote_dir", REMOTE_DIR).flatten();
    if name.is_none() && !table.table.contains_key("name") {
        problems.push(ConfigProblem::Conflict {
            origin: origin.clone(),
            message: "[[host]] has no `name`".to_owned(),
            hint: "add name = \"...\": anything `ssh NAME` accepts".to_owned(),
        });
    }
    Some(HostConfig { name: name?, user, runners, identity, ssh_options, remote_dir })
}

struct HostTable<'a> {
    layer: &'a Layer<'a>,
    table: &'a DeTable<'a>,
    problems: &'a mut Vec<ConfigProblem>,
}

impl HostTable<'_> {
    fn get<K: Kind>(&mut self, key: &str, kind: K) -> Option<K::Value> {
        let value = self.table.get(key)?;
        match kind.read(Raw::Toml(value), &self.layer.base) {
            Ok(value) => Some(value),
            Err(rejection) => {
                let origin = self.layer.origin_at(rejection.offset.unwrap_or(value.span().start));
                let ways = format!("set it with `{key}` below [[host]] in a configuration file");
                self.problems.push(rejection.into_problem(origin, key, ways));
                None
            }
        }
    }
}

fn not_an_entry(layer: &Layer<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> ConfigProblem {
    let ways = "write [[host]], in double brackets, and below it name = \"...\"".to_owned();
    let origin = layer.origin_at(value.span().start);
    Rejection::of_toml("a [[host]] entry with a name", value).into_problem(origin, key, ways)
}

/// A leading dash would make ssh take the name for an option.
fn check_word(text: &str) -> Result<(), String> {
    match text {
        "" => Err("it is empty".to_owned()),
        _ if text.starts_with('-') => Err("ssh would take it for an option".to_owned()),
        _ if text.contains(|character: char| character.is_whitespace() || character.is_control()) => {
            Err("it has white space or control characters".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    check_word(name)?;
    if name.contains(',') {
        return Err("--hosts separates names with commas".to_owned());
    }
    if name == LOCALHOST {
        return Err("this machine takes part without an entry, with the top-level key `runners`".to_owned());
    }
    Ok(())
}

fn check_user(user: &str) -> Result<(), String> {
    check_word(user)
}

fn check_ssh_option(option: &str) -> Result<(), String> {
    match option.split_once('=') {
        Some((name, _))
            if name.is_empty() || !name.chars().all(|character| character.is_ascii_alphanumeric()) =>
        {
            Err("the name is not one of ssh's".to_owned())
        }
        Some(_) if option.contains(char::is_control) => Err("it has control characters".to_owned()),
        Some(_) => Ok(()),
        None => Err("there is no =".to_owned()),
    }
}

fn check_remote_dir(directory: &str) -> Result<(), String> {
    let rooted = directory.starts_with('/') || directory.starts_with("~/");
    let plain = !directory.contains(char::is_control);
    let upwards = directory.split('/').any(|part| part == "..");
    match (rooted, plain, upwards) {
        (true, true, false) => Ok(()),
        (_, false, _) => Err("it has control characters".to_owned()),
        (_, _, true) => Err("it has `..` in it".to_owned()),
        (false, ..) => Err("it is relative".to_owned()),
    }
}
