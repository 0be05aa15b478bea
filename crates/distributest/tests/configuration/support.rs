//! A project in a temporary directory with every layer of configuration inside it, so that nothing of the
//! machine the tests run on is read.

use std::fs;
use std::path::{Path, PathBuf};

use distributest::config::{self, Config, ConfigSources, Flag, Provenance};
use distributest::error::UserError;
use tempfile::TempDir;

/// Directories for every layer below one temporary directory.
pub(crate) struct Layers {
    pub(crate) sources: ConfigSources,
    root: TempDir,
}

impl Layers {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().expect("make a temporary directory");
        let directory = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).expect("make a directory");
            path
        };
        let sources = ConfigSources {
            system_directory: directory("etc"),
            user_directory: Some(directory("home/.config/distributest")),
            project: directory("project"),
            home: Some(directory("home")),
            current_directory: directory("here"),
            environment: Default::default(),
        };
        directory("project/.distributest");
        Layers { sources, root }
    }

    pub(crate) fn system(self, text: &str) -> Self {
        write(&self.sources.system_directory, text);
        self
    }

    pub(crate) fn user(self, text: &str) -> Self {
        write(self.sources.user_directory.as_deref().expect("there is one"), text);
        self
    }

    pub(crate) fn project(self, text: &str) -> Self {
        write(&self.sources.project_directory(), text);
        self
    }

    pub(crate) fn variable(mut self, name: &str, text: &str) -> Self {
        self.sources.environment.insert(name.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn load(&self) -> Config {
        self.load_with(&[]).0
    }

    pub(crate) fn load_with(&self, flags: &[Flag]) -> (Config, Provenance) {
        config::load(&self.sources, flags)
            .unwrap_or_else(|error| panic!("{}", self.redact(&UserError::from(error).to_string())))
    }

    /// What the user is told about these layers, with the temporary directory named ROOT.
    pub(crate) fn complaint(&self, flags: &[Flag]) -> String {
        let error = config::load(&self.sources, flags).expect_err("the configuration should be refused");
        let error = UserError::from(error);
        assert_eq!(error.exit_status, 2);
        self.redact(&error.to_string())
    }

    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(&self.root.path().display().to_string(), "ROOT")
    }
}

fn write(directory: &Path, text: &str) {
    fs::write(directory.join("config.toml"), text).expect("write a configuration file");
}

/// Flags as the command line would give them.
pub(crate) fn flag(key: &'static str, values: &[&str]) -> Flag {
    Flag { key, values: values.iter().map(|value| (*value).to_owned()).collect() }
}
