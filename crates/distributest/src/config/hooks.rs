//! Finds the hooks: the project's `.distributest/NAME`, or else the system's `/etc/distributest/NAME`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use distributest_core::run_event::HookKind;
use thiserror::Error;

use super::sources::ConfigSources;
use crate::error::{Problem, UserError};

/// The hooks of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Runs once per host.
    pub node_setup: Option<Hook>,
    /// Runs once per runner, with the runner's identifier as its first argument.
    pub runner_setup: Option<Hook>,
}

/// A hook that exists and can be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// How it gets to a host.
    pub source: HookSource,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// How a hook gets to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookSource {
    /// It is part of the project, at this path relative to it.
    Project(String),
    /// It is this machine's, so its content is sent.
    System,
}

/// A hook is there but can't be used.
#[derive(Debug, Error)]
pub enum HookError {
    /// It can't be read.
    #[error("failed to read the hook {}", path.display())]
    Unreadable {
        /// The hook.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory or something else that is no program.
    #[error("the hook {} is not a file", path.display())]
    NotAFile {
        /// The hook.
        path: PathBuf,
    },
    /// Nobody may execute it.
    #[error("the hook {} is not executable", path.display())]
    NotExecutable {
        /// The hook.
        path: PathBuf,
    },
}

/// Finds the hooks of a run.
///
/// # Errors
///
/// Every hook that is there but can't be used. A missing one is no error.
pub fn find_hooks(sources: &ConfigSources) -> Result<Hooks, Vec<HookError>> {
    match (find(sources, HookKind::NodeSetup), find(sources, HookKind::RunnerSetup)) {
        (Ok(node_setup), Ok(runner_setup)) => Ok(Hooks { node_setup, runner_setup }),
        (node_setup, runner_setup) => {
            Err([node_setup.err(), runner_setup.err()].into_iter().flatten().collect())
        }
    }
}

fn find(sources: &ConfigSources, kind: HookKind) -> Result<Option<Hook>, HookError> {
    let name = kind.word();
    if let Some((path, content)) = read_program(&sources.project_directory().join(name))? {
        let source = HookSource::Project(format!(".distributest/{name}"));
        return Ok(Some(Hook { path, source, content }));
    }
    let system = read_program(&sources.system_directory.join(name))?;
    Ok(system.map(|(path, content)| Hook { path, source: HookSource::System, content }))
}

/// The program at a path, or nothing where there is nothing. A symbolic link that leads nowhere is an error:
/// somebody meant it to be a hook.
fn read_program(path: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, HookError> {
    let path = path.to_owned();
    if let Err(error) = fs::symlink_metadata(&path)
        && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    {
        return Ok(None);
    }
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) => return Err(HookError::Unreadable { path, source }),
    };
    if !metadata.is_file() {
        return Err(HookError::NotAFile { path });
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(HookError::NotExecutable { path });
    }
    match fs::read(&path) {
        Ok(content) => Ok(Some((path, content))),
        Err(source) => Err(HookError::Unreadable { path, source }),
    }
}

impl From<Vec<HookError>> for UserError {
    fn from(errors: Vec<HookError>) -> Self {
        let problem = |error: &HookError| {
            let hint = match error {
                HookError::Unreadable { .. } => "make it readable for you, or remove it".to_owned(),
                HookError::NotAFile { .. } => "make it a program, or remove it".to_owned(),
                HookError::NotExecutable { path } => format!("chmod +x {}", path.display()),
            };
            Problem::from_error(error).with_hint(hint)
        };
        UserError::usage_problems(errors.iter().map(problem).collect())
    }
}
