//! Reads, checks and writes values: a kind per type of setting.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::errors::Rejection;
use super::layer::{Base, Raw};
use super::words;

/// The longest a time limit can be. It travels as milliseconds in 32 bits.
const LIMIT_MAXIMUM: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How the value of a key is read, checked and written.
pub(super) trait Kind {
    type Value;

    /// What the value can be, to follow "must be".
    fn expected(&self) -> String;

    /// Reads a value.
    fn read(&self, raw: Raw<'_>, base: &Base) -> Result<Self::Value, Rejection>;

    /// Writes a value such that reading it gives the same value.
    fn write(&self, value: &Self::Value) -> toml::Value;

    /// Why a value is not accepted.
    fn reject(&self, raw: Raw<'_>) -> Rejection {
        match raw {
            Raw::Toml(value) => Rejection::of_toml(self.expected(), value),
            Raw::Text(text) => Rejection::of_text(self.expected(), text),
            Raw::Items(items) => Rejection::of_text(self.expected(), &items.join(" ")),
        }
    }
}

/// The text of a TOML string, a variable or a flag that was given once.
fn text_of(raw: Raw<'_>) -> Option<&str> {
    match raw {
        Raw::Toml(value) => value.get_ref().as_str(),
        Raw::Text(text) => Some(text),
        Raw::Items([text]) => Some(text),
        Raw::Items(_) => None,
    }
}

/// Text that stands for a value that in a file has a type of its own; `None` in a file.
fn untyped(raw: Raw<'_>) -> Option<&str> {
    match raw {
        Raw::Toml(_) => None,
        Raw::Text(_) | Raw::Items(_) => text_of(raw).map(str::trim),
    }
}

/// True or false.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn expected(&self) -> String {
        "true or false".to_owned()
    }

    fn read(&self, raw: Raw<'_>, _: &Base) -> Result<bool, Rejection> {
        if let Raw::Toml(value) = raw {
            return value.get_ref().as_bool().ok_or_else(|| self.reject(raw));
        }
        match untyped(raw) {
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            _ => Err(self.reject(raw)),
        }
    }

    fn write(&self, value: &bool) -> toml::Value {
        (*value).into()
    }
}

/// A whole number in a range, both ends included.
pub(super) struct Number<T> {
    pub(super) minimum: T,
    pub(super) maximum: T,
}

impl<T> Kind for Number<T>
where
    T: TryFrom<i64> + Into<i64> + Copy + PartialOrd + Display,
{
    type Value = T;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.minimum, self.maximum)
    }

    fn read(&self, raw: Raw<'_>, _: &Base) -> Result<T, Rejection> {
        let number = match raw {
            Raw::Toml(value) => value
                .get_ref()
                .as_integer()
                .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok()),
            Raw::Text(_) | Raw::Items(_) => untyped(raw).and_then(|text| text.parse().ok()),
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        number.filter(|number| (self.minimum..=self.maximum).contains(number)).ok_or_else(|| self.reject(raw))
    }

    fn write(&self, value: &T) -> toml::Value {
        let number: i64 = (*value).into();
        number.into()
    }
}

/// A time limit: seconds, or a duration such as "10m" or "1h 30m". 0 is none.
pub(super) struct Limit;

impl Kind for Limit {
    type Value = Option<Duration>;

    fn expected(&self) -> String {
        "a duration such as \"90s\", \"10m\" or a number of seconds, at most 30 days (0: no limit)".to_owned()
    }

    fn read(&self, raw: Raw<'_>, _: &Base) -> Result<Self::Value, Rejection> {
        let text = match raw {
            Raw::Toml(value) => match value.get_ref() {
                DeValue::Integer(number) if number.radix() == 10 => Some(number.to_string()),
                DeValue::Float(number) => Some(number.to_string()),
                other => other.as_str().map(str::to_owned),
            },
            Raw::Text(_) | Raw::Items(_) => text_of(raw).map(str::to_owned),
        };
        let text = text.ok_or_else(|| self.reject(raw))?;
        let text = text.trim();
        let duration = match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        let duration = duration.filter(|duration| *duration <= LIMIT_MAXIMUM);
        let duration = duration.ok_or_else(|| self.reject(raw))?;
        if duration.is_zero() {
            return Ok(None);
        }
        if duration < Duration::from_millis(1) {
            return Err(self.reject(raw).because("shorter than a millisecond"));
        }
        Ok(Some(duration))
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        match value {
            Some(duration) => humantime::format_duration(*duration).to_string().into(),
            None => 0.into(),
        }
    }
}

/// A value, or "auto" for what only the run can tell.
pub(super) struct Auto<K>(
    pub(super) K,
    /// What "auto" stands for.
    pub(super) &'static str,
);

impl<K: Kind> Kind for Auto<K> {
    type Value = Option<K::Value>;

    fn expected(&self) -> String {
        format!("{} or \"auto\" ({})", self.0.expected(), self.1)
    }

    fn read(&self, raw: Raw<'_>, base: &Base) -> Result<Self::Value, Rejection> {
        if text_of(raw) == Some("auto") {
            return Ok(None);
        }
        let read = self.0.read(raw, base);
        read.map(Some).map_err(|rejection| Rejection { expected: self.expected(), ..rejection })
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        value.as_ref().map_or_else(|| "auto".into(), |value| self.0.write(value))
    }
}

/// Text that passes a check.
pub(super) struct Text {
    /// What it can be, to follow "must be".
    pub(super) expected: &'static str,
    /// What is wrong with a text, if anything is.
    pub(super) check: fn(&str) -> Result<(), String>,
}

impl Text {
    fn checked(&self, text: &str, raw: Raw<'_>) -> Result<String, Rejection> {
        match (self.check)(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(reason) => Err(self.reject(raw).because(reason)),
        }
    }
}

impl Kind for Text {
    type Value = String;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, raw: Raw<'_>, _: &Base) -> Result<String, Rejection> {
        let text = text_of(raw).ok_or_else(|| self.reject(raw))?;
        self.checked(text, raw)
    }

    fn write(&self, value: &String) -> toml::Value {
        value.clone().into()
    }
}

/// One of a few words.
pub(super) struct Choice(pub(super) Vec<&'static str>);

impl Kind for Choice {
    type Value = String;

    fn expected(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|word| format!("\"{word}\"")).collect();
        words.join(", ")
    }

    fn read(&self, raw: Raw<'_>, _: &Base) -> Result<String, Rejection> {
        let word = text_of(raw).filter(|text| self.0.contains(text));
        word.map(str::to_owned).ok_or_else(|| self.reject(raw))
    }

    fn write(&self, value: &String) -> toml::Value {
        value.clone().into()
    }
}

/// The path of a file on this machine, made absolute.
pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "a path".to_owned()
    }

    fn read(&self, raw: Raw<'_>, base: &Base) -> Result<PathBuf, Rejection> {
        let text = text_of(raw).filter(|text| !text.is_empty() && !text.contains('\0'));
        let text = text.ok_or_else(|| self.reject(raw))?;
        if let Some(rest) = text.strip_prefix("~/") {
            let home = base.home.as_ref().ok_or_else(|| self.reject(raw).because("HOME is not set"))?;
            return Ok(home.join(rest));
        }
        match &base.directory {
            Some(directory) => Ok(directory.join(text)),
            None if text.starts_with('/') => Ok(text.into()),
            None => Err(self.reject(raw).because("it must be absolute or begin with ~/ in this file")),
        }
    }

    fn write(&self, value: &PathBuf) -> toml::Value {
        value.to_string_lossy().into_owned().into()
    }
}

/// A list of texts. In a variable they are words, quoted as in a shell.
pub(super) struct List {
    /// What the whole can be, to follow "must be".
    pub(super) expected: &'static str,
    /// What each item must pass.
    pub(super) check: fn(&str) -> Result<(), String>,
    /// Whether commas separate items in a variable too.
    pub(super) commas: bool,
}

impl Kind for List {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn read(&self, raw: Raw<'_>, base: &Base) -> Result<Vec<String>, Rejection> {
        let item = Text { expected: self.expected, check: self.check };
        match raw {
            Raw::Toml(value) => {
                let array = value.get_ref().as_array().ok_or_else(|| self.reject(raw))?;
                array.iter().map(|value| item.read(Raw::Toml(value), base)).collect()
            }
            Raw::Items(items) => items.iter().map(|text| item.checked(text, Raw::Text(text))).collect(),
            Raw::Text(text) => {
                let text = if self.commas { text.replace(',', " ") } else { text.to_owned() };
                let words = words::split(&text).map_err(|error| self.reject(raw).because(error))?;
                words.iter().map(|word| item.checked(word, Raw::Text(word))).collect()
            }
        }
    }

    fn write(&self, value: &Vec<String>) -> toml::Value {
        value.clone().into()
    }
}

/// A program and its arguments: an array, or text split into words. Empty: none.
pub(super) struct Command {
    /// Whether `{file}` must be among them, because it is run for each file.
    pub(super) for_each_file: bool,
}

impl Kind for Command {
    type Value = Option<Vec<String>>;

    fn expected(&self) -> String {
        match self.for_each_file {
            true => "a program and its arguments with {file} among them, such as \"bash {file}\" (\"\": the file itself)",
            false => "a program and its arguments, such as \"perl tools/worker.pl\"",
        }
        .to_owned()
    }

    fn read(&self, raw: Raw<'_>, base: &Base) -> Result<Self::Value, Rejection> {
        let words = if let Some(text) = text_of(raw) {
            words::split(text).map_err(|error| self.reject(raw).because(error))?
        } else {
            let no_nul = |text: &str| match text.contains('\0') {
                true => Err("it has a NUL character".to_owned()),
                false => Ok(()),
            };
            let list = List { expected: "", check: no_nul, commas: false };
            let words = list.read(raw, base);
            words.map_err(|rejection| Rejection { expected: self.expected(), ..rejection })?
        };
        match words.first() {
            None => Ok(None),
            Some(program) if program.is_empty() => Err(self.reject(raw).because("the program has no name")),
            Some(_) if !self.for_each_file || words.iter().any(|word| word.contains("{file}")) => {
                Ok(Some(words))
            }
            Some(_) => Err(self.reject(raw).because("{file} is missing, so every file would run the same")),
        }
    }

    fn write(&self, value: &Self::Value) -> toml::Value {
        value.clone().unwrap_or_default().into()
    }
}
