//! The daemon's configuration, `/etc/distributest/agent.toml`.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Where the configuration is unless another file is named.
pub(crate) const DEFAULT_PATH: &str = "/etc/distributest/agent.toml";

/// What can be configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    slots: Option<NonZeroUsize>,
    #[serde(default)]
    allow_root: bool,
    #[serde(default)]
    stop_grace_seconds: u32,
    keep_warm_seconds: Option<u32>,
}

/// How long workers of a run may stay for the next one, unless the configuration says something else.
const KEEP_WARM: u32 = 600;

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML, or has a key or value that can't be.
    #[error("failed to understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads a file; without one, the default file if it exists, else the defaults.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or holds an unknown key or a wrong value.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, must_exist) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => Ok(Config::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// How much may execute at once, all runs together.
    pub fn slots(&self) -> usize {
        self.slots.map_or_else(cores, NonZeroUsize::get)
    }

    /// Whether tests may run as root when root asks for it.
    pub fn allow_root(&self) -> bool {
        self.allow_root
    }

    /// How long runs may go on after the daemon was told to stop.
    pub fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds.into())
    }

    /// The longest that workers of a run may stay for the next one.
    pub fn keep_warm(&self) -> Duration {
        Duration::from_secs(self.keep_warm_seconds.unwrap_or(KEEP_WARM).into())
    }
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()))
    }

    #[test]
    fn every_key_is_read() {
        let config =
            load("slots = 3\nallow_root = true\nstop_grace_seconds = 9\nkeep_warm_seconds = 0\n").unwrap();
        assert_eq!(
            (config.slots(), config.allow_root(), config.stop_grace(), config.keep_warm()),
            (3, true, Duration::from_secs(9), Duration::ZERO)
        );
    }

    #[test]
    fn the_installed_file_says_the_defaults() {
        let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/distributest/agent.toml");
        let text = fs::read_to_string(installed).unwrap();
        assert_eq!(load(&text).unwrap(), Config::default());
        // Every key stands there commented out, with a value that works.
        let uncommented: String = text
            .lines()
            .filter(|line| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# "))
            .map(|line| format!("{}\n", &line[1..]))
            .collect();
        for key in ["slots", "allow_root", "stop_grace_seconds", "keep_warm_seconds"] {
            assert!(uncommented.contains(&format!("{key} = ")), "{uncommented}");
        }
        load(&uncommented).unwrap();
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("allow_root = false\nslot = 3\n", "unknown field `slot`"),
            ("allow_root = false\nslots = 0\n", "nonzero"),
            ("allow_root = false\nslots = \"many\"\n", "invalid type"),
        ] {
            let message = failure::chain(&load(text).unwrap_err());
            assert!(message.contains("line 2") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let missing = Config::load(Some(Path::new("/nonexistent/agent.toml"))).unwrap_err();
        assert!(failure::chain(&missing).contains("/nonexistent/agent.toml"), "{missing}");
    }
}
