//! Says what is wrong with the configuration, all of it at once.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use toml::Spanned;
use toml::de::DeValue;

use super::key;
use super::layer::Origin;
use crate::error::{Problem, UserError};

/// The configuration can't be used.
#[derive(Debug, Error)]
#[error("the configuration has {} problem(s)", .0.len())]
pub struct ConfigError(
    /// Everything wrong with it: file by file, from top to bottom, then variables, then flags.
    pub Vec<ConfigProblem>,
);

/// One thing wrong with the configuration.
#[derive(Debug, Error)]
pub enum ConfigProblem {
    /// A configuration file is there but can't be read.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// A file has a key that does not exist.
    #[error("{origin}: unknown key `{key}`")]
    UnknownKey {
        /// Where the key stands.
        origin: Origin,
        /// The key.
        key: String,
        /// What to do about it.
        hint: String,
    },
    /// The environment has a variable that looks like a misspelt setting.
    #[error("{name}: unknown variable")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// The variable that was probably meant.
        nearest: String,
    },
    /// A key has a value it can't have.
    #[error("{origin}: `{key}` must be {expected}, found {found}")]
    WrongValue {
        /// Where the value stands.
        origin: Origin,
        /// The key.
        key: String,
        /// What it can be.
        expected: String,
        /// What it is.
        found: String,
        /// What exactly is wrong with it, where that does not go without saying.
        reason: Option<String>,
        /// Every way to set it.
        ways: String,
    },
    /// Values that are fine each by itself contradict each other.
    #[error("{origin}: {message}")]
    Conflict {
        /// Where one of them stands.
        origin: Origin,
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: String,
    },
}

impl ConfigProblem {
    /// The problem with a key that is not one of `keys`.
    pub(super) fn unknown_key(origin: Origin, key: &str, keys: &[&str]) -> Self {
        // A key of the right name in the wrong table is as likely as a misspelt one.
        let name = |key: &'_ str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let elsewhere = keys.iter().find(|known| name(known) == name(key));
        let hint = match elsewhere.copied().or_else(|| key::nearest(key, keys.iter().copied())) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("the keys are {}", keys.join(", ")),
        };
        ConfigProblem::UnknownKey { origin, key: key.to_owned(), hint }
    }

    /// Where the problem is, for the order in which problems are told; files that can't be read come first.
    pub(super) fn place(&self) -> Origin {
        match self {
            ConfigProblem::Unreadable { path, .. } => Origin::File { path: path.clone(), line: 0, column: 0 },
            ConfigProblem::UnknownVariable { name, .. } => Origin::Environment(name.clone()),
            ConfigProblem::Syntax { origin, .. }
            | ConfigProblem::UnknownKey { origin, .. }
            | ConfigProblem::WrongValue { origin, .. }
            | ConfigProblem::Conflict { origin, .. } => origin.clone(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ConfigProblem::Unreadable { .. } => {
                Some("make it a readable UTF-8 text file or remove it".to_owned())
            }
            ConfigProblem::Syntax { .. } => Some("the file must be TOML; see https://toml.io".to_owned()),
            ConfigProblem::UnknownVariable { nearest, .. } => Some(format!("did you mean {nearest}?")),
            ConfigProblem::WrongValue { ways: hint, .. }
            | ConfigProblem::UnknownKey { hint, .. }
            | ConfigProblem::Conflict { hint, .. } => Some(hint.clone()),
        }
    }
}

impl From<ConfigError> for UserError {
    fn from(error: ConfigError) -> Self {
        let problems = error.0.iter().map(|problem| {
            let mut told = Problem::from_error(problem);
            if let ConfigProblem::WrongValue { reason: Some(reason), .. } = problem {
                told.causes.push(reason.clone());
            }
            told.hint = problem.hint();
            told
        });
        UserError::usage_problems(problems.collect())
    }
}

/// Why a value was not accepted.
pub(super) struct Rejection {
    /// What would have been.
    pub(super) expected: String,
    /// What was found.
    pub(super) found: String,
    /// What exactly is wrong with it.
    pub(super) reason: Option<String>,
    /// Where in the file, when that is not where the key's value begins.
    pub(super) offset: Option<usize>,
}

impl Rejection {
    /// Text that was not accepted.
    pub(super) fn of_text(expected: impl Into<String>, text: &str) -> Self {
        Rejection { expected: expected.into(), found: format!("{text:?}"), reason: None, offset: None }
    }

    /// A TOML value that was not accepted.
    pub(super) fn of_toml(expected: impl Into<String>, value: &Spanned<DeValue<'_>>) -> Self {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(switch) => switch.to_string(),
            DeValue::Datetime(datetime) => datetime.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        Rejection { expected: expected.into(), found, reason: None, offset: Some(value.span().start) }
    }

    /// The same with a word on what is wrong with what was found.
    pub(super) fn because(mut self, reason: impl std::fmt::Display) -> Self {
        self.reason = Some(reason.to_string());
        self
    }

    /// The problem this is with the value of a key that stands at `origin`.
    pub(super) fn into_problem(self, origin: Origin, key: impl Into<String>, ways: String) -> ConfigProblem {
        let Rejection { expected, found, reason, .. } = self;
        ConfigProblem::WrongValue { origin, key: key.into(), expected, found, reason, ways }
    }
}
