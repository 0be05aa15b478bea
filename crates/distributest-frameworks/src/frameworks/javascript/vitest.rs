//! Vitest 2 or newer.

use std::path::{Path, PathBuf};

use super::package::{PACKAGE, Package};
use super::{argument, is_program, literals_of, patterns, worker};
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::{Rules, without_dots};

/// In Vitest's order; what Vite is configured by counts where Vitest has nothing of its own.
const CONFIGURATION: [&str; 12] = [
    "vitest.config.ts",
    "vitest.config.mts",
    "vitest.config.cts",
    "vitest.config.js",
    "vitest.config.mjs",
    "vitest.config.cjs",
    "vite.config.ts",
    "vite.config.mts",
    "vite.config.cts",
    "vite.config.js",
    "vite.config.mjs",
    "vite.config.cjs",
];
const OWN_CONFIGURATION: usize = 6;
const WORKSPACE: [&str; 3] = ["vitest.workspace.ts", "vitest.workspace.js", "vitest.workspace.json"];

const DEFAULT_INCLUDE: [&str; 1] = ["**/*.{test,spec}.?(c|m)[jt]s?(x)"];
const DEFAULT_EXCLUDE: [&str; 2] = ["**/node_modules/**", "**/.git/**"];
const DEFAULT_EXCLUDE_BEFORE_4: [&str; 5] = [
    "**/node_modules/**",
    "**/dist/**",
    "**/cypress/**",
    "**/.{idea,git,cache,output,temp}/**",
    "**/{karma,rollup,webpack,vite,vitest,jest,ava,babel,nyc,cypress,tsup,build,eslint,prettier}.config.*",
];

pub(crate) struct Vitest;

impl Definition for Vitest {
    fn name(&self) -> &str {
        "vitest"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let package = Package::read(project.directory());
        let is_used = package.dependency("vitest").is_some() || package.script("vitest", None).is_some();
        let own = [&CONFIGURATION[..OWN_CONFIGURATION], &WORKSPACE].concat();
        project.existing(&own).or_else(|| is_used.then(|| PACKAGE.to_owned())).map(Evidence::certain)
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let package = Package::read(project);
        let settings = Settings::read(project, &package);
        let mut rules = Rules::from_globs(project, &[])?;
        rules.starts = vec![PathBuf::new()];
        rules.include = patterns(&settings.include)?;
        rules.exclude = patterns(&settings.exclude)?;
        rules.within = patterns(&settings.directories)?;
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        is_program(path)
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["test.each", "it.each", "describe.each", "test.for", "it.for"]
    }

    /// Vitest starts a process for each file itself, unless the project wants it otherwise.
    fn isolations(&self) -> &'static [Isolation] {
        &[Isolation::Shared, Isolation::Process]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let source = worker_source!("vitest_worker.cjs");
        worker("vitest_worker.cjs", source, self.isolations(), options)
    }
}

/// What Vitest's configuration says about finding files, as far as it can be read; its defaults where it says nothing.
struct Settings {
    /// `test.include`
    include: Vec<String>,
    /// `test.exclude`
    exclude: Vec<String>,
    /// `test.dir`, `test.root`; empty: the project.
    directories: Vec<String>,
}

impl Settings {
    fn read(project: &Path, package: &Package) -> Settings {
        let script = package.script("vitest", None).unwrap_or_default();
        let existing =
            |names: &[&'static str]| names.iter().copied().find(|name| project.join(name).is_file());
        let given = argument(&script, &["--config", "-c"]).map(without_dots);
        let names = [given.or_else(|| existing(&CONFIGURATION)), existing(&WORKSPACE)];
        let files: Vec<_> = names.into_iter().flatten().map(|name| literals_of(project, name)).collect();
        let found = |path: &[&'static str]| -> Vec<_> {
            let in_projects = [&["test", "projects"], path].concat();
            files.iter().flat_map(|file| [file.at(path), file.at(&in_projects)].concat()).collect()
        };
        let values = |path: &[&'static str]| -> Vec<String> {
            found(path).iter().flat_map(|property| property.values.clone()).collect()
        };
        let has_projects = !found(&["test", "projects"]).is_empty() || existing(&WORKSPACE).is_some();
        let mut settings = Settings {
            include: values(&["test", "include"]),
            // What one project leaves to another is not left out.
            exclude: if has_projects { Vec::new() } else { values(&["test", "exclude"]) },
            directories: [values(&["test", "dir"]), values(&["test", "root"])].concat(),
        };
        if settings.include.is_empty() {
            settings.include = DEFAULT_INCLUDE.map(str::to_owned).to_vec();
        }
        // Mostly `[...configDefaults.exclude, 'more']`.
        let is_partial = found(&["test", "exclude"]).iter().any(|property| property.is_partial);
        if settings.exclude.is_empty() || is_partial {
            let is_old = package.major_version("vitest").is_some_and(|version| version < 4);
            let defaults: &[&str] = if is_old { &DEFAULT_EXCLUDE_BEFORE_4 } else { &DEFAULT_EXCLUDE };
            settings.exclude.extend(defaults.iter().map(ToString::to_string));
        }
        settings
    }
}
