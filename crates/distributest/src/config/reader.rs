//! Asks every layer for one key after another, checks all values, and keeps the last one.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::DeValue;

use super::HostConfig;
use super::errors::{ConfigError, ConfigProblem, Rejection};
use super::hosts;
use super::kind::Kind;
use super::layer::{Layer, Origin, Raw};
use super::provenance::Provenance;
use super::settings::{check_environment_name, check_glob};

/// The keys asked for so far, where their values came from, and what is wrong with them.
pub(super) struct Reader<'a> {
    /// The later wins.
    layers: &'a [Layer<'a>],
    keys: Vec<String>,
    pub(super) provenance: Provenance,
    pub(super) problems: Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a [Layer<'a>]) -> Self {
        Reader { layers, keys: Vec::new(), provenance: Provenance::default(), problems: Vec::new() }
    }

    /// The value of a key: the last layer's, or the default.
    pub(super) fn get<K: Kind>(&mut self, key: &str, kind: K, default: K::Value) -> K::Value {
        self.keys.push(key.to_owned());
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
    pub(super) fn environment(&mut self, key: &str) -> BTreeMap<String, String> {
        self.keys.push(key.to_owned());
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
                match self.variable(name.get_ref(), value) {
                    Ok(text) => drop(merged.insert(name.get_ref().to_string(), (text, origin))),
                    Err(rejection) => {
                        let ways = format!("write [{key}] and below it NAME = \"text\"");
                        let key = format!("{key}.{}", name.get_ref());
                        self.problems.push(rejection.into_problem(origin, key, ways));
                    }
                }
            }
        }
        for (name, (text, origin)) in &merged {
            self.provenance.add(format!("{key}.{name}"), text.as_str().into(), origin.clone());
        }
        merged.into_iter().map(|(name, (text, _))| (name, text)).collect()
    }

    /// The text of one environment variable.
    fn variable(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Result<String, Rejection> {
        let bad_name = |reason: String| Rejection::of_text("the name of a variable", name).because(reason);
        check_environment_name(name).map_err(bad_name)?;
        // TOML takes whatever stands below [env] for a variable, so `runners = 4` there would go unnoticed.
        if self.keys.iter().any(|key| key == name) {
            return Err(bad_name(format!(
                "it is a key of its own: move `{name}` above the first line in brackets"
            )));
        }
        match value.get_ref().as_str() {
            Some(text) if !text.contains('\0') => Ok(text.to_owned()),
            _ => Err(Rejection::of_toml("text in quotes, without NUL characters", value)),
        }
    }

    /// A table with a value of some kind for each glob of test files, merged glob by glob. `example` is one of its lines.
    pub(super) fn by_glob<K: Kind>(
        &mut self,
        key: &str,
        kind: K,
        example: &str,
    ) -> BTreeMap<String, K::Value> {
        self.keys.push(key.to_owned());
        let mut merged = BTreeMap::new();
        for layer in self.layers {
            let Some((Raw::Toml(value), origin)) = layer.find(key) else { continue };
            let DeValue::Table(table) = value.get_ref() else {
                let rejection = Rejection::of_toml(format!("a table with lines such as {example}"), value);
                self.problems.push(layer.wrong_value(key, origin, rejection));
                continue;
            };
            for (glob, value) in table {
                let origin = layer.origin_at(glob.span().start);
                let bad_glob =
                    |reason| Rejection::of_text("a glob of test files", glob.get_ref()).because(reason);
                let checked = check_glob(glob.get_ref()).map_err(bad_glob);
                match checked.and_then(|()| kind.read(Raw::Toml(value), &layer.base)) {
                    Ok(value) => drop(merged.insert(glob.get_ref().to_string(), (value, origin))),
                    Err(rejection) => {
                        let ways = format!("write [{key}] and below it {example}");
                        let key = format!("{key}.{}", glob.get_ref());
                        self.problems.push(rejection.into_problem(origin, key, ways));
                    }
                }
            }
        }
        for (glob, (value, origin)) in &merged {
            let glob = toml::Value::from(glob.as_str());
            self.provenance.add(format!("{key}.{glob}"), kind.write(value), origin.clone());
        }
        merged.into_iter().map(|(glob, (value, _))| (glob, value)).collect()
    }

    /// The hosts of the last layer that has any.
    pub(super) fn hosts(&mut self, key: &str) -> Vec<HostConfig> {
        self.keys.push(key.to_owned());
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

    /// The names of a section's tables, in any layer: `[framework.rspec]` has the name `rspec` in `framework`.
    pub(super) fn names_in(&self, section: &str) -> BTreeSet<String> {
        self.layers.iter().flat_map(|layer| layer.names_in(section)).collect()
    }

    /// Names of layers that were never asked for are unknown; then all problems in order, or where values
    /// came from.
    pub(super) fn finish(mut self) -> Result<Provenance, ConfigError> {
        for layer in self.layers {
            let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
            self.problems.extend(layer.unknown_names(&keys));
        }
        if self.problems.is_empty() {
            return Ok(self.provenance);
        }
        self.problems.sort_by_key(ConfigProblem::place);
        Err(ConfigError(self.problems))
    }
}
