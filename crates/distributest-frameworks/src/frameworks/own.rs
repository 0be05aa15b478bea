//! A framework that the project's own configuration describes: `[framework.NAME]`.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::command::Command;
use crate::launch::{Isolation, Launch, LaunchOptions, READY_TIMEOUT, WorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// What a project says of a framework of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFramework {
    /// Its name, that of no framework built in.
    pub name: String,
    /// Globs of files that give it away; empty: its test files do.
    pub detect: Vec<String>,
    /// Globs of its test files.
    pub files: Vec<String>,
    /// The program that speaks the worker protocol, and its arguments; `None`: a command runs each file
    /// ([`LaunchOptions::command`]).
    pub worker: Option<Vec<String>>,
}

impl Definition for OwnFramework {
    fn name(&self) -> &str {
        &self.name
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let globs = if self.detect.is_empty() { &self.files } else { &self.detect };
        // A glob that is none is reported by discovery, where it names the key.
        let rules = Rules::from_globs(project.directory(), globs).ok()?;
        project.first(|path| rules.include(Path::new(path))).map(Evidence::certain)
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        if self.files.is_empty() {
            return Err(DiscoverError::FilesNeeded { framework: self.name.clone() });
        }
        Rules::from_globs(project, &self.files)
    }

    fn accepts(&self, _: &Path) -> bool {
        false
    }

    fn isolations(&self) -> &'static [Isolation] {
        // Nothing is known of how a worker keeps files apart, and as `shared` it is ended together with a file that hangs.
        if self.worker.is_some() { &[Isolation::Shared, Isolation::Process, Isolation::Fork] } else { &[] }
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let Some([program, arguments @ ..]) = self.worker.as_deref() else { return Command.launch(options) };
        Launch::Worker(WorkerLaunch {
            programs: vec![program.clone()],
            arguments: arguments.to_vec(),
            worker_file_name: "",
            worker_source: "",
            worker_arguments: options.arguments.clone(),
            isolation: options.isolation.unwrap_or(Isolation::Shared),
            ready_timeout: READY_TIMEOUT,
        })
    }
}
