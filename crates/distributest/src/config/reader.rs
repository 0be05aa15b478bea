//! Asks every layer for one key after another, checks all values, and keeps the last one.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::HostConfig;
use super::errors::{ConfigError, ConfigProblem, Rejection};
use super::hosts;
use super::kind::Kind;
use super::layer::{Layer, Origin, Raw};
use super::provenance::Provenance;
use super::settings::check_environment_name;

/// The keys asked for so far, where their values came from, and what is wrong with them.
pub(super) struct Reader<'a> {
    /// The later wins.
    layers: &'a [Layer<'a>],
    keys: Vec<&'static str>,
    pub(super) provenance: Provenance,
    pub(super) problems: Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a [Layer<'a>]) -> Self {
        Reader { layers, keys: Vec::new(), provenance: Provenance::default(), problems: Vec::new() }
    }

    /// The value of a key: the last layer's, or the default.
    pub(super) fn get<K: Kind>(&mut self, key: &'static str, kind: K, default: K::Value) -> K::Value {
        self.keys.push(key);
        let mut winner = (default, Origin::Default);
        for layer in self.layers {
            let Some((raw, origin)) = layer.find(key) else { continue };
            match kind.read(raw, &layer.base) {
                Ok(value) => winner = (value, origin),
                Err(rejection) => self.problems.push(layer.wrong_value(key, origin, rejection)),
            }
        }
        let (value, origin) = winner;
        self.provenance.add(key, kind.write(&value), origin);
        value
    }

    /// The table of environment variables, merged name by name.
    pub(super) fn environment(&mut self, key: &'static str) -> BTreeMap<String, String> {
        self.keys.push(key);
        let mut merged = BTreeMap::new();
        for layer in self.layers {
            let Some((Raw::Toml(value), origin)) = layer.find(key) else { continue };
            let DeValue::Table(table) = value.get_ref() else {
                let rejection = Rejection::of_toml("a table of names and texts", value);
                self.problems.push(layer.wrong_value(key, origin, rejection));
                continue;
            };
            for (name, value) in table {
                let origin = layer.origin_at(name.span().start);
                match read_variable(name.get_ref(), value.get_ref()) {
                    Ok(text) => drop(merged.insert(name.get_ref().to_string(), (text, origin))),
                    Err((expected, found)) => self.problems.push(ConfigProblem::WrongValue {
                        origin,
                        key: format!("{key}.{}", name.get_ref()),
                        expected,
                        found,
                        ways: format!("write [{key}] and below it NAME = \"text\""),
                    }),
                }
            }
        }
        for (name, (text, origin)) in &merged {
            self.provenance.add(format!("{key}.{name}"), text.as_str().into(), origin.clone());
        }
        merged.into_iter().map(|(name, (text, _))| (name, text)).collect()
    }

    /// The hosts of the last layer that has any.
    pub(super) fn hosts(&mut self, key: &'static str) -> Vec<HostConfig> {
        self.keys.push(key);
        let mut winner = Vec::new();
        for layer in self.layers {
            let Some((Raw::Toml(value), _)) = layer.find(key) else { continue };
            winner = hosts::read(layer, key, value, &mut self.problems);
        }
        for (host, origin) in &winner {
            self.provenance.add_host(hosts::write(host), origin.clone());
        }
        winner.into_iter().map(|(host, _)| host).collect()
    }

    /// Names of layers that were never asked for are unknown; then all problems in order, or where values came from.
    pub(super) fn finish(mut self) -> Result<Provenance, ConfigError> {
        for layer in self.layers {
            self.problems.extend(layer.unknown_names(&self.keys));
        }
        if self.problems.is_empty() {
            return Ok(self.provenance);
        }
        self.problems.sort_by_key(ConfigProblem::place);
        Err(ConfigError(self.problems))
    }
}

/// The text of one environment variable, or what was expected and found.
fn read_variable(name: &str, value: &DeValue<'_>) -> Result<String, (String, String)> {
    check_environment_name(name).map_err(|reason| ("a variable that can be set".to_owned(), reason))?;
    match value.as_str() {
        Some(text) if text.contains('\0') => Err(("text".to_owned(), "a NUL character in it".to_owned())),
        Some(text) => Ok(text.to_owned()),
        None => Err(("text in quotes".to_owned(), format!("a value of type {}", value.type_str()))),
    }
}
