//! Finds the raw value of a key in one layer: a file, the environment, or the flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigProblem, Rejection};
use super::key::{self, FLAGS};

/// Tables whose keys are settings of their own: `[log] keep` is the key `log.keep`.
const SECTIONS: [&str; 3] = ["sync", "log", FRAMEWORK];

/// The section that holds a table for each framework: `[framework.rspec] files` is the key `framework.rspec.files`.
pub(super) const FRAMEWORK: &str = "framework";

/// Where a value comes from. The order is that in which problems are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// No layer says otherwise.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// This flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line, column } => write!(formatter, "{}:{line}:{column}", path.display()),
            Origin::Environment(name) => formatter.write_str(name),
            Origin::Flag(flag) => formatter.write_str(flag),
        }
    }
}

/// A flag that sets a key, as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key it sets; it has a [`flag_of`](super::flag_of).
    pub key: &'static str,
    /// Its values: one, or any number for a key that holds a list.
    pub values: Vec<String>,
}

impl Flag {
    /// The flag for a key; `None` for a key that has none.
    pub fn of(key: &str, values: Vec<String>) -> Option<Flag> {
        let (key, _) = FLAGS.into_iter().find(|(named, _)| *named == key)?;
        Some(Flag { key, values })
    }
}

/// A value as it was found.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    /// In a file.
    Toml(&'a Spanned<DeValue<'a>>),
    /// The whole text of a variable.
    Text(&'a str),
    /// The values of a flag, in order.
    Items(&'a [String]),
}

/// What the paths of a layer are relative to.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    /// For relative paths; `None`: there can't be any.
    pub(super) directory: Option<PathBuf>,
    /// For paths that begin with `~/`.
    pub(super) home: Option<PathBuf>,
}

/// One layer of settings.
pub(super) struct Layer<'a> {
    pub(super) base: Base,
    source: Source<'a>,
}

enum Source<'a> {
    File(Document<'a>),
    Environment(&'a BTreeMap<String, String>),
    Flags(&'a [Flag]),
}

impl<'a> Layer<'a> {
    /// A layer of environment variables.
    pub(super) fn environment(variables: &'a BTreeMap<String, String>, base: Base) -> Self {
        Layer { base, source: Source::Environment(variables) }
    }

    /// A layer of flags.
    pub(super) fn flags(flags: &'a [Flag], base: Base) -> Self {
        Layer { base, source: Source::Flags(flags) }
    }

    /// The layer of a file with this text, or its first syntax error: what the parser says after it is
    /// guesswork.
    pub(super) fn file(path: &'a Path, text: &'a str, base: Base) -> Result<Self, Box<ConfigProblem>> {
        Ok(Layer { base, source: Source::File(Document::parse(path, text)?) })
    }

    /// The value of a key, and where it stands.
    pub(super) fn find(&self, key: &str) -> Option<(Raw<'_>, Origin)> {
        match &self.source {
            Source::File(document) => {
                let value = document.values.get(key)?;
                Some((Raw::Toml(value), document.origin(value.span().start)))
            }
            Source::Environment(variables) => {
                let (name, text) = variables.get_key_value(&key::variable_of(key)?)?;
                Some((Raw::Text(text), Origin::Environment(name.clone())))
            }
            Source::Flags(flags) => {
                let flag = flags.iter().find(|flag| flag.key == key)?;
                Some((Raw::Items(&flag.values), Origin::Flag(key::flag_of(key)?)))
            }
        }
    }

    /// The problem with a value that stands at `origin` unless the rejection knows better.
    pub(super) fn wrong_value(&self, key: &str, origin: Origin, rejection: Rejection) -> ConfigProblem {
        let origin = match (&self.source, rejection.offset) {
            (Source::File(document), Some(offset)) => document.origin(offset),
            _ => origin,
        };
        rejection.into_problem(origin, key, key::ways_to_set(key))
    }

    /// The names of a section's tables.
    pub(super) fn names_in(&self, section: &str) -> BTreeSet<String> {
        let Source::File(document) = &self.source else { return BTreeSet::new() };
        let below = document.values.keys().filter_map(|key| key.strip_prefix(section)?.strip_prefix('.'));
        below.filter_map(|key| Some(key.rsplit_once('.')?.0.to_owned())).collect()
    }

    /// Where something stands in this layer's file.
    pub(super) fn origin_at(&self, offset: usize) -> Origin {
        match &self.source {
            Source::File(document) => document.origin(offset),
            Source::Environment(_) | Source::Flags(_) => Origin::Default,
        }
    }

    /// The problems with names in this layer that are no key's.
    pub(super) fn unknown_names(&self, keys: &[&str]) -> Vec<ConfigProblem> {
        match &self.source {
            Source::File(document) => document.unknown_keys(keys),
            Source::Environment(variables) => {
                let known: Vec<String> = keys.iter().filter_map(|key| key::variable_of(key)).collect();
                unknown_variables(variables, &known)
            }
            Source::Flags(_) => Vec::new(),
        }
    }
}

/// Variables that look like a misspelt one of ours. Others with our prefix may be anybody's (a
/// `DISTRIBUTEST_VERSION` in a Dockerfile), so they are left alone.
fn unknown_variables(variables: &BTreeMap<String, String>, known: &[String]) -> Vec<ConfigProblem> {
    let strangers = variables.keys().filter(|name| {
        name.starts_with(key::VARIABLE_PREFIX)
            && !known.contains(name)
            && !key::OTHER_VARIABLES.contains(&name.as_str())
    });
    let problems = strangers.filter_map(|name| {
        let bare = |name: &'_ str| name.trim_start_matches(key::VARIABLE_PREFIX).to_owned();
        let known_bare: Vec<String> = known.iter().map(|name| bare(name)).collect();
        let nearest = key::nearest(&bare(name), known_bare.iter().map(String::as_str))?;
        Some(ConfigProblem::UnknownVariable {
            name: name.clone(),
            nearest: format!("{}{nearest}", key::VARIABLE_PREFIX),
        })
    });
    problems.collect()
}

/// Whether a key is that of a whole framework's table.
fn is_framework(key: &str) -> bool {
    key.strip_prefix(FRAMEWORK)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|name| !name.contains('.'))
}

/// A parsed file, flattened to dotted keys.
struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    values: BTreeMap<String, Spanned<DeValue<'a>>>,
    /// Where each key of `values` stands.
    key_offsets: BTreeMap<String, usize>,
}

impl<'a> Document<'a> {
    fn parse(path: &'a Path, text: &'a str) -> Result<Self, Box<ConfigProblem>> {
        let mut document = Document { path, text, values: BTreeMap::new(), key_offsets: BTreeMap::new() };
        match DeTable::parse(text) {
            Ok(table) => document.flatten("", table.into_inner()),
            Err(error) => {
                let origin = document.origin(error.span().map_or(0, |span| span.start));
                return Err(Box::new(ConfigProblem::Syntax { origin, message: error.message().to_owned() }));
            }
        }
        Ok(document)
    }

    fn flatten(&mut self, prefix: &str, table: DeTable<'a>) {
        for (name, value) in table {
            let name_offset = name.span().start;
            // A quoted name with a dot in it is not the key of that dotted name.
            let name = name.into_inner().replace('.', "\\.");
            let key = format!("{prefix}{name}");
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(section)
                    if (prefix.is_empty() && SECTIONS.contains(&name.as_str()))
                        || prefix == format!("{FRAMEWORK}.") =>
                {
                    self.flatten(&format!("{key}."), section);
                }
                value => {
                    self.values.insert(key.clone(), Spanned::new(span, value));
                    self.key_offsets.insert(key, name_offset);
                }
            }
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn unknown_keys(&self, keys: &[&str]) -> Vec<ConfigProblem> {
        let unknown = self.values.iter().filter(|(key, _)| !keys.contains(&key.as_str()));
        let problems = unknown.map(|(key, value)| {
            let origin = self.origin(self.key_offsets[key]);
            if SECTIONS.contains(&key.as_str()) || is_framework(key) {
                let ways = if key.starts_with(FRAMEWORK) {
                    format!("write [{FRAMEWORK}.NAME] and its keys below it; what is to run is `frameworks`")
                } else {
                    format!("write [{key}] and its keys below it")
                };
                return Rejection::of_toml("a table", value).into_problem(origin, key, ways);
            }
            ConfigProblem::unknown_key(origin, key, keys)
        });
        problems.collect()
    }
}
