//! Says where the layers are: a value, so that tests can put them anywhere.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use super::key::VARIABLE_PREFIX;

/// Names the directory with the system's configuration and hooks in place of `/etc/distributest`.
pub(super) const SYSTEM_DIRECTORY_VARIABLE: &str = "DISTRIBUTEST_SYSTEM_DIRECTORY";

/// Where configuration and hooks are looked for.
#[derive(Clone, Debug)]
pub struct ConfigSources {
    /// The system's directory: `/etc/distributest`.
    pub system_directory: PathBuf,
    /// The user's directory: `~/.config/distributest`; `None` when there is no home.
    pub user_directory: Option<PathBuf>,
    /// The project, an absolute path.
    pub project: PathBuf,
    /// The home directory, for `~/`.
    pub home: Option<PathBuf>,
    /// What paths in variables and flags are relative to.
    pub current_directory: PathBuf,
    /// The variables whose names begin with `DISTRIBUTEST_`.
    pub environment: BTreeMap<String, String>,
}

impl ConfigSources {
    /// The sources of this process for a project, which must be an absolute path.
    ///
    /// # Errors
    ///
    /// The current directory is gone or can't be read, or a `DISTRIBUTEST_*` variable is not UTF-8.
    pub fn of_process(project: PathBuf) -> io::Result<Self> {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let user_directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        Ok(ConfigSources {
            system_directory: absolute(SYSTEM_DIRECTORY_VARIABLE)
                .unwrap_or_else(|| PathBuf::from("/etc/distributest")),
            user_directory: user_directory.map(|directory| directory.join("distributest")),
            project,
            home,
            current_directory: env::current_dir()?,
            environment: settings_of_process()?,
        })
    }

    /// The project's directory of configuration and hooks.
    pub fn project_directory(&self) -> PathBuf {
        self.project.join(".distributest")
    }

    /// The files that may hold configuration, the strongest last, each with what its relative paths are
    /// relative to.
    pub(super) fn files(&self) -> Vec<(PathBuf, Option<PathBuf>)> {
        let user = self.user_directory.as_ref().map(|directory| (directory.clone(), self.home.clone()));
        let directories = [
            Some((self.system_directory.clone(), None)),
            user,
            Some((self.project_directory(), Some(self.project.clone()))),
        ];
        directories
            .into_iter()
            .flatten()
            .map(|(directory, base)| (directory.join("config.toml"), base))
            .collect()
    }
}

fn settings_of_process() -> io::Result<BTreeMap<String, String>> {
    let named = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = named.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX));
    let texts = ours.map(|(name, value)| match value.into_string() {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(io::Error::other(format!("the variable {name} is not UTF-8"))),
    });
    texts.collect()
}

/// The text of a configuration file; `None` when there is none.
pub(super) fn read_text(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
