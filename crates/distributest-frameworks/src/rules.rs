//! What a framework takes for a test file, and where it looks.

use std::path::{Path, PathBuf};

use crate::discover::{Selection, path_pattern};
use crate::error::DiscoverError;
use crate::framework::Framework;
use crate::glob::Pattern;
use crate::pytest_settings::PytestSettings;
use crate::rspec_settings::RspecSettings;

/// Directories of dependencies and caches, entered only when a glob names them.
const VENDORED: [&str; 5] = ["node_modules", "venv", "__pycache__", "site-packages", "__pypackages__"];

/// Which files count.
pub(crate) struct Rules {
    project: PathBuf,
    starts: Vec<PathBuf>,
    /// Files given by name, which count without matching.
    given: Vec<PathBuf>,
    /// Where `given` and directories given beside it restrict the search; empty: nowhere.
    only: Vec<PathBuf>,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// Where the framework looks of itself, as globs of directories and files; empty: everywhere.
    within: Vec<Pattern>,
    /// Directories not to enter.
    barred: Vec<Pattern>,
}

impl Rules {
    /// The rules for a selection; `only` are its paths, relative to the project.
    pub(crate) fn new(
        project: &Path,
        selection: &Selection,
        only: &[PathBuf],
    ) -> Result<Rules, DiscoverError> {
        let mut rules = if !selection.files.is_empty() {
            Rules::from_globs(project, &selection.files)?
        } else {
            match selection.framework {
                Framework::Pytest => Rules::of_pytest(project, only)?,
                Framework::Rspec => Rules::of_rspec(project, only)?,
                Framework::Command => {
                    return Err(DiscoverError::FilesNeeded { framework: Framework::Command });
                }
            }
        };
        for glob in &selection.exclude {
            rules.exclude.push(path_pattern(glob.trim_end_matches('/'))?);
        }
        if !only.is_empty() {
            rules.starts = only.to_vec();
            rules.only = only.to_vec();
            let takes =
                |path: &PathBuf| is_source_of(selection.framework, path) && project.join(path).is_file();
            rules.given = only.iter().filter(|path| takes(path)).cloned().collect();
        }
        Ok(rules)
    }

    fn from_globs(project: &Path, globs: &[String]) -> Result<Rules, DiscoverError> {
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

    fn of_pytest(project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let settings = PytestSettings::read(project)?;
        let fnmatch = |text: &String| {
            Pattern::fnmatch(text)
                .map_err(|source| DiscoverError::InvalidGlob { glob: text.clone(), source: Box::new(source) })
        };
        let mut rules = Rules::from_globs(project, &[])?;
        rules.include = settings.patterns.iter().map(fnmatch).collect::<Result<_, _>>()?;
        rules.barred = settings.norecursedirs.iter().map(fnmatch).collect::<Result<_, _>>()?;
        for path in &settings.ignore {
            let path = globset::escape(without_dots(path));
            rules.exclude.push(path_pattern(&path)?);
        }
        rules.starts = vec![PathBuf::new()];
        // As in pytest: paths on the command line replace `testpaths`, and so does their leading nowhere.
        if only.is_empty() {
            let testpaths: Vec<String> =
                settings.testpaths.iter().map(|path| without_dots(path).to_owned()).collect();
            let starts: Vec<PathBuf> =
                starts_of(&testpaths).into_iter().filter(|start| project.join(start).exists()).collect();
            if !starts.is_empty() {
                rules.starts = starts;
                rules.within = testpaths.iter().map(|path| path_pattern(path)).collect::<Result<_, _>>()?;
            }
        }
        Ok(rules)
    }

    fn of_rspec(project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let settings = RspecSettings::read(project)?;
        let mut directories: Vec<String> =
            only.iter().filter_map(|path| path.to_str().map(globset::escape)).collect();
        directories.push(settings.default_path.clone());
        let globs = |pattern: &str| -> Vec<String> {
            directories.iter().flat_map(|directory| RspecSettings::globs(pattern, directory)).collect()
        };
        let mut rules = Rules::from_globs(project, &globs(&settings.pattern))?;
        for glob in globs(&settings.exclude_pattern) {
            rules.exclude.push(path_pattern(&glob)?);
        }
        Ok(rules)
    }

    /// Where to start looking, relative to the project.
    pub(crate) fn starts(&self) -> &[PathBuf] {
        &self.starts
    }

    /// Tells of each directory below a start, relative to the project, whether to look into it.
    pub(crate) fn entrance(&self) -> impl Fn(&Path) -> bool + Send + Sync + use<> {
        let (project, barred, include) = (self.project.clone(), self.barred.clone(), self.include.clone());
        let own_conventions = !barred.is_empty();
        move |directory| {
            let Some(name) = directory.file_name().map(|name| name.to_string_lossy()) else { return true };
            let is_virtual_environment = || project.join(directory).join("pyvenv.cfg").is_file();
            if own_conventions {
                return !barred.iter().any(|pattern| pattern.matches(directory)) && !is_virtual_environment();
            }
            let named = include.iter().any(|pattern| pattern.names(&name));
            named || !(name.starts_with('.') || VENDORED.contains(&name.as_ref()) || is_virtual_environment())
        }
    }

    /// Whether a file below a start counts.
    pub(crate) fn include(&self, path: &Path) -> bool {
        let below = |patterns: &[Pattern]| {
            path.ancestors().any(|ancestor| patterns.iter().any(|pattern| pattern.matches(ancestor)))
        };
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let matches = self.include.iter().any(|pattern| {
            pattern.matches(path)
                && (!hidden || pattern.text.rsplit('/').next().is_some_and(|last| last.starts_with('.')))
        });
        let wanted = self.only.is_empty() || self.only.iter().any(|only| path.starts_with(only));
        let counts = matches && (self.within.is_empty() || below(&self.within));
        wanted && (counts || self.given.iter().any(|given| given == path)) && !below(&self.exclude)
    }
}

/// A path of a framework's configuration, as paths are written here.
fn without_dots(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    if path == "." { "" } else { path.strip_prefix("./").unwrap_or(path) }
}

/// The directories that the globs' files are in at least, none inside another.
fn starts_of(globs: &[String]) -> Vec<PathBuf> {
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

/// Whether a file given by name can be meant for this framework.
fn is_source_of(framework: Framework, path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match framework {
        Framework::Pytest => matches!(extension, Some("py" | "txt" | "rst")),
        Framework::Rspec => extension == Some("rb"),
        Framework::Command => false,
    }
}
