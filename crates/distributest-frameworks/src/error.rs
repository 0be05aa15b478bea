//! What can go wrong while looking for test files.

use std::io;
use std::path::PathBuf;

/// Failures to find a project's test files.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// A glob of `files`, `exclude` or the framework's own configuration is no glob.
    #[error("invalid glob {glob:?}")]
    InvalidGlob {
        /// The glob as it was written.
        glob: String,
        /// What is wrong with it.
        source: Box<globset::Error>,
    },
    /// A path on the command line leads out of the project.
    #[error("{path:?} is outside the project {}", project.display())]
    OutsideProject {
        /// The path as it was given.
        path: String,
        /// The project's directory.
        project: PathBuf,
    },
    /// The framework has no files of its own, and the configuration names none.
    #[error("framework {framework} needs `files`: globs that say which files to run")]
    FilesNeeded {
        /// The framework's name.
        framework: String,
    },
    /// The framework's configuration can't be read.
    #[error("failed to read {}", path.display())]
    ReadSettings {
        /// The configuration file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The framework's configuration is no TOML.
    #[error("failed to parse {}", path.display())]
    ParseSettings {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// A directory can't be looked through; tests could be in it.
    #[error("failed to look for test files in {}", directory.display())]
    Walk {
        /// Where the walk began.
        directory: PathBuf,
        /// The path and the reason.
        source: ignore::Error,
    },
}
