//! What a framework takes for a test file, and where it looks.

use std::path::{Path, PathBuf};

use crate::discover::{Selection, path_pattern};
use crate::error::DiscoverError;
use crate::glob::Pattern;

/// Directories of dependencies and caches, entered only when a glob names them.
const VENDORED: [&str; 5] = ["node_modules", "venv", "__pycache__", "site-packages", "__pypackages__"];

/// Which files count.
pub(crate) struct Rules {
    project: PathBuf,
    /// Where to start looking, relative to the project.
    pub(crate) starts: Vec<PathBuf>,
    /// Files given by name, which count without matching.
    given: Vec<PathBuf>,
    /// Where `given` and directories given beside it restrict the search; empty: nowhere.
    only: Vec<PathBuf>,
    /// Patterns of test files.
    pub(crate) include: Vec<Pattern>,
    /// Patterns of files and directories that don't count.
    pub(crate) exclude: Vec<Pattern>,
    /// Where the framework looks of itself, as globs of directories and files; empty: everywhere.
    pub(crate) within: Vec<Pattern>,
    /// Directories not to enter, in place of the usual ones.
    pub(crate) barred: Vec<Pattern>,
}

impl Rules {
    /// Files that match one of these globs, relative to the project, wherever they are.
    pub(crate) fn from_globs(project: &Path, globs: &[String]) -> Result<Rules, DiscoverError> {
        if let Some(outside) = globs.iter().find(|glob| glob.split('/').any(|part| part == "..")) {
            return Err(DiscoverError::OutsideProject { path: outside.clone(), project: project.to_owned() });
        }
        let include = globs.iter().map(|glob| path_pattern(glob)).collect::<Result<Vec<_>, _>>()?;
        Ok(Rules {
            project: project.to_owned(),
            starts: starts_of(globs),
            given: Vec::new(),
            only: Vec::new(),
            include,
            exclude: Vec::new(),
            within: Vec::new(),
            barred: Vec::new(),
        })
    }

    /// Narrows the rules to what the user selected: `exclude`, and `only`, its paths relative to the project, of which
    /// files that `accepts` takes need not match.
    pub(crate) fn restrict(
        &mut self,
        selection: &Selection,
        only: &[PathBuf],
        accepts: impl Fn(&Path) -> bool,
    ) -> Result<(), DiscoverError> {
        for glob in &selection.exclude {
            self.exclude.push(path_pattern(glob.trim_end_matches('/'))?);
        }
        if !only.is_empty() {
            self.starts = only.to_vec();
            self.only = only.to_vec();
            let given = only.iter().filter(|path| accepts(path) && self.project.join(path).is_file());
            self.given = given.cloned().collect();
        }
        Ok(())
    }

    /// Tells of each directory below a start, relative to the project, whether to look into it.
    pub(crate) fn entrance(&self) -> impl Fn(&Path) -> bool + Send + Sync + use<> {
        let (project, barred, include) = (self.project.clone(), self.barred.clone(), self.include.clone());
        let own_conventions = !barred.is_empty();
        move |directory| {
            let Some(name) = directory.file_name().map(|name| name.to_string_lossy()) else { return true };
            if own_conventions {
                let is_barred = barred.iter().any(|pattern| pattern.matches(directory));
                return !is_barred && !is_virtual_environment(&project, directory);
            }
            let named = include.iter().any(|pattern| pattern.names(&name));
            named || !(name.starts_with('.') || is_vendored(&project, directory))
        }
    }

    /// Whether a file below a start counts.
    pub(crate) fn include(&self, path: &Path) -> bool {
        let wanted = self.only.is_empty() || self.only.iter().any(|only| path.starts_with(only));
        let counts = self.matches(path) || self.given.iter().any(|given| given == path);
        wanted && counts && !is_below(path, &self.exclude)
    }

    /// Whether a file is a test by its path alone, whether or not it is wanted.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let matches = self.include.iter().any(|pattern| {
            pattern.matches(path)
                && (!hidden || pattern.text.rsplit('/').next().is_some_and(|last| last.starts_with('.')))
        });
        matches && (self.within.is_empty() || is_below(path, &self.within))
    }
}

/// Whether one of the patterns is of a path or of a directory it is in.
fn is_below(path: &Path, patterns: &[Pattern]) -> bool {
    path.ancestors().any(|ancestor| patterns.iter().any(|pattern| pattern.matches(ancestor)))
}

/// Whether a directory, relative to the project, holds what others wrote.
pub(crate) fn is_vendored(project: &Path, directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default();
    VENDORED.iter().any(|vendored| name == *vendored) || is_virtual_environment(project, directory)
}

fn is_virtual_environment(project: &Path, directory: &Path) -> bool {
    project.join(directory).join("pyvenv.cfg").is_file()
}

/// A path of a framework's configuration, as paths are written here.
pub(crate) fn without_dots(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    if path == "." { "" } else { path.strip_prefix("./").unwrap_or(path) }
}

/// The directories that the globs' files are in at least, none inside another.
pub(crate) fn starts_of(globs: &[String]) -> Vec<PathBuf> {
    let is_plain = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    let mut starts: Vec<PathBuf> = globs
        .iter()
        .map(|glob| glob.strip_prefix("./").unwrap_or(glob).split('/').take_while(is_plain).collect())
        .collect();
    starts.sort();
    // Sorted by component: what is inside another follows it.
    starts.dedup_by(|later, earlier| later.starts_with(&*earlier));
    starts
}
