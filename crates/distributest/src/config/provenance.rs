//! Remembers where every setting came from, and prints the merged configuration as TOML that says so.

use std::fmt;

use super::Origin;

/// Every setting as TOML with its origin. Displays as a configuration file that gives the same configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// In the order they were read.
    entries: Vec<Entry>,
    hosts: Vec<HostEntry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: String,
    value: toml::Value,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq)]
struct HostEntry {
    values: Vec<(&'static str, toml::Value)>,
    origin: Origin,
}

impl Provenance {
    pub(super) fn add(&mut self, key: impl Into<String>, value: toml::Value, origin: Origin) {
        self.entries.push(Entry { key: key.into(), value, origin });
    }

    pub(super) fn add_host(&mut self, values: Vec<(&'static str, toml::Value)>, origin: Origin) {
        self.hosts.push(HostEntry { values, origin });
    }

    /// Where the value of a key comes from; [`Origin::Default`] for a key that is not set anywhere.
    pub fn origin(&self, key: &str) -> &Origin {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map_or(&Origin::Default, |entry| &entry.origin)
    }

    /// The first key with this beginning that is set somewhere.
    pub(super) fn first_set(&self, beginning: &str) -> Option<String> {
        let set = self.entries.iter().filter(|entry| entry.origin != Origin::Default);
        set.map(|entry| &entry.key).find(|key| key.starts_with(beginning)).cloned()
    }

    /// Where the first `[[host]]` stands.
    pub(super) fn host_origin(&self) -> &Origin {
        self.hosts.first().map_or(&Origin::Default, |host| &host.origin)
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for entry in &self.entries {
            let (table, name) = entry.key.split_once('.').unwrap_or(("", &entry.key));
            if table != section {
                section = table;
                writeln!(formatter, "\n[{section}]")?;
            }
            writeln!(formatter, "{name} = {}  # {}", entry.value, line_of(&entry.origin))?;
        }
        for host in &self.hosts {
            writeln!(formatter, "\n[[host]]  # {}", line_of(&host.origin))?;
            for (name, value) in &host.values {
                writeln!(formatter, "{name} = {value}")?;
            }
        }
        Ok(())
    }
}

/// An origin without its column: enough to open the file. A path can hold characters that would end a
/// comment.
fn line_of(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line, .. } => {
            let path = path.to_string_lossy().replace(char::is_control, "?");
            format!("{path}:{line}")
        }
        other => other.to_string(),
    }
}
