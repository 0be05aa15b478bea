//! pytest 6.2 or newer, on Python 3.8 or newer.

mod settings;

use std::path::{Path, PathBuf};

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::python::{self, PythonFramework};
use crate::glob::Pattern;
use crate::launch::{Launch, LaunchOptions, WorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::{Rules, starts_of, without_dots};
use settings::PytestSettings;

pub(crate) struct Pytest;

impl Definition for Pytest {
    fn name(&self) -> &str {
        "pytest"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        python::evidence_of(PythonFramework::Pytest, project)
    }

    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
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

    fn accepts(&self, path: &Path) -> bool {
        path.extension()
            .is_some_and(|extension| extension == "py" || extension == "txt" || extension == "rst")
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &[
            "pytest.mark.parametrize",
            "pytest_generate_tests",
            "parameterized.expand",
            "hypothesis.given",
            "@given",
        ]
    }

    fn splits_files(&self) -> bool {
        true
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        Launch::Worker(WorkerLaunch::embedded(
            &python::PROGRAMS,
            "pytest_worker.py",
            python::worker_source!("pytest_coverage.py", "pytest_plugins.py", "pytest_worker.py"),
            options,
        ))
    }

    fn test_id(&self, file: &str, suffix: &str) -> String {
        // A whole id, which pytest writes relative to its root directory, may stand behind the file as well.
        match suffix.strip_prefix("::").and_then(|id| Some((id, id.split_once("::")?.0))) {
            Some((id, path)) if Path::new(file).ends_with(path) => id.to_owned(),
            _ => format!("{file}{suffix}"),
        }
    }
}

/// The file that configures pytest, where there is one.
pub(crate) fn configuration(project: &ProjectFiles<'_>) -> Option<String> {
    let settings = PytestSettings::read(project.directory()).ok().and_then(|settings| settings.source);
    settings.map(str::to_owned).or_else(|| project.existing(&["conftest.py"]))
}

/// Whether a file is one that pytest takes for a test without any configuration.
pub(crate) fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".py").is_some_and(|stem| stem.starts_with("test_") || stem.ends_with("_test"))
}
