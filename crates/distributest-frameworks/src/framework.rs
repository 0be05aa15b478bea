//! What a framework is to distributest: a name, signs of its use, a notion of test files, a way to run them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::discover::{self, Discovered, Selection};
use crate::error::DiscoverError;
use crate::frameworks;
use crate::frameworks::own::OwnFramework;
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// A way of finding, running and reporting tests: one of those built in, or one of the project's own.
///
/// Two are equal when they have the same name.
#[derive(Clone)]
pub struct Framework(Arc<dyn Definition>);

impl Framework {
    /// Every framework built in, in the order they are detected and listed.
    pub fn built_in() -> Vec<Framework> {
        frameworks::all().into_iter().map(Framework).collect()
    }

    /// The framework built in under that name; `None` for an unknown one.
    pub fn named(name: &str) -> Option<Framework> {
        Framework::built_in().into_iter().find(|framework| framework.name() == name)
    }

    /// A framework that a project's configuration describes.
    pub fn own(own: OwnFramework) -> Framework {
        Framework(Arc::new(own))
    }

    /// The framework whose files are run by a command of the project's choice.
    pub fn command() -> Framework {
        Framework(Arc::new(frameworks::command::Command))
    }

    /// The name in configuration, reports and the history.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// How its files can be kept apart, the default first; empty where there is no choice.
    pub fn isolations(&self) -> &'static [Isolation] {
        self.0.isolations()
    }

    /// Describes to an agent how its files are run.
    pub fn launch(&self, options: &LaunchOptions) -> Launch {
        self.0.launch(options)
    }

    /// The id of a test by what follows its file's path on a command line: `::test_one` or, for RSpec, `[1:2]`.
    pub fn test_id(&self, file: &str, suffix: &str) -> String {
        self.0.test_id(file, suffix)
    }

    /// Whether its worker can run a file in parts.
    pub fn splits_files(&self) -> bool {
        self.0.splits_files()
    }

    pub(crate) fn definition(&self) -> &dyn Definition {
        &*self.0
    }
}

impl PartialEq for Framework {
    fn eq(&self, other: &Framework) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Framework {}

impl fmt::Debug for Framework {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Framework({})", self.name())
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What there is to know about one framework. Each has a module of its own in [`frameworks`].
pub(crate) trait Definition: Send + Sync {
    /// The name in configuration, reports and the history.
    fn name(&self) -> &str;

    /// What in a project says that it uses this framework.
    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence>;

    /// Which files it takes for tests, and where it looks; `only` are paths given on the command line. Not asked where
    /// the project's configuration names the files.
    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError>;

    /// Whether a file given by name is one of its own although it matches nothing.
    fn accepts(&self, path: &Path) -> bool;

    /// Words that, each time they stand in a test file, say that tests are multiplied: shared examples, parameters.
    fn multipliers(&self) -> &'static [&'static str] {
        &[]
    }

    /// How its files can be kept apart, the default first; empty where there is no choice.
    fn isolations(&self) -> &'static [Isolation] {
        &Isolation::ALL
    }

    /// Whether its worker understands `part` (`proto/worker.md`).
    fn splits_files(&self) -> bool {
        false
    }

    /// How its files are run.
    fn launch(&self, options: &LaunchOptions) -> Launch;

    /// The id of a test by what follows its file's path on a command line.
    fn test_id(&self, _file: &str, suffix: &str) -> String {
        suffix.strip_prefix("::").unwrap_or(suffix).to_owned()
    }

    /// Its test files. To be replaced only by frameworks whose units are no files; `only` as in [`Definition::rules`].
    fn discover(
        &self,
        project: &Path,
        selection: &Selection,
        only: &[PathBuf],
    ) -> Result<Discovered, DiscoverError> {
        let mut rules = if selection.files.is_empty() {
            self.rules(project, only)?
        } else {
            Rules::from_globs(project, &selection.files)?
        };
        rules.restrict(selection, only, |path| self.accepts(path))?;
        discover::by_rules(project, &rules, selection, only, self.multipliers())
    }
}

/// What gave a framework away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The file that says so, relative to the project.
    pub(crate) file: String,
    /// Whether it leaves doubt.
    pub(crate) strength: Strength,
}

/// How much a piece of evidence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    /// Configuration in the project's directory, or tests where this framework's users put them.
    Certain,
    /// A file somewhere that looks like a test: perhaps one, perhaps a fixture. Counts when nothing is certain.
    Likely,
}

impl Evidence {
    /// It is one of the project's frameworks.
    pub(crate) fn certain(file: impl Into<String>) -> Evidence {
        Evidence { file: file.into(), strength: Strength::Certain }
    }

    /// It may be.
    pub(crate) fn likely(file: impl Into<String>) -> Evidence {
        Evidence { file: file.into(), strength: Strength::Likely }
    }
}
