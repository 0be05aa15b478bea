//! What a package's `Cargo.toml` says of its targets, completed as cargo does from the files beside it.
//!
//! Read here rather than asked of cargo, which need not be installed where a run is started, and rather than with a crate
//! that models the whole file: those known take an example without `test = true` for a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

use crate::error::DiscoverError;

/// The parts of a manifest that say where tests are.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Manifest {
    pub(super) package: Option<Package>,
    pub(super) workspace: Option<WorkspaceTable>,
    lib: Option<Target>,
    bin: Vec<Target>,
    test: Vec<Target>,
    example: Vec<Target>,
    bench: Vec<Target>,
    dependencies: Table,
    dev_dependencies: Table,
    build_dependencies: Table,
    target: Table,
}

/// `[package]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Package {
    name: String,
    /// A text, or `{ workspace = true }`; missing where it is that of 2015.
    edition: Option<toml::Value>,
    autolib: Option<bool>,
    autobins: Option<bool>,
    autotests: Option<bool>,
    autoexamples: Option<bool>,
    autobenches: Option<bool>,
}

/// `[workspace]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct WorkspaceTable {
    pub(super) members: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) default_members: Option<Vec<String>>,
    pub(super) dependencies: Table,
}

/// `[lib]`, or one of `[[bin]]`, `[[test]]`, `[[example]]`, `[[bench]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Target {
    name: Option<String>,
    path: Option<String>,
    test: Option<bool>,
    doctest: Option<bool>,
    #[serde(alias = "proc_macro")]
    proc_macro: bool,
    #[serde(alias = "crate_type")]
    crate_type: Vec<String>,
}

/// A kind of target with a directory of its own.
struct Kind<'a> {
    declared: &'a [Target],
    /// Whether the manifest switches discovery on or off.
    automatic: Option<bool>,
    directory: &'static str,
    tested_by_default: bool,
}

/// What of a package `cargo test` runs: paths of source files relative to the package.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tested {
    /// Root files of targets that are built as test binaries.
    pub(super) binaries: BTreeSet<PathBuf>,
    /// The root file of the library whose documentation is tested.
    pub(super) documentation: Option<PathBuf>,
}

impl Manifest {
    /// Reads the manifest in a directory.
    pub(super) fn read(directory: &Path) -> Result<Manifest, DiscoverError> {
        let path = directory.join("Cargo.toml");
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|source| DiscoverError::ParseSettings { path, source: Box::new(source) }),
            Err(source) => Err(DiscoverError::ReadSettings { path, source }),
        }
    }

    /// What `cargo test` runs of the package in `directory`.
    pub(super) fn tested(&self, directory: &Path) -> Tested {
        let Some(package) = &self.package else { return Tested::default() };
        let mut tested = Tested::default();
        if let Some((library, path)) = self.library(package, directory) {
            if library.doctest.unwrap_or(true) && library.has_documentation_tests() {
                tested.documentation = Some(path.clone());
            }
            if library.test.unwrap_or(true) {
                tested.binaries.insert(path);
            }
        }
        for kind in self.kinds(package) {
            tested.binaries.extend(self.binaries(package, &kind, directory));
        }
        tested.binaries.retain(|path| directory.join(path).is_file());
        tested
    }

    fn kinds<'a>(&'a self, package: &Package) -> [Kind<'a>; 4] {
        let kind = |declared: &'a Vec<Target>, automatic, directory, tested_by_default| Kind {
            declared,
            automatic,
            directory,
            tested_by_default,
        };
        [
            kind(&self.bin, package.autobins, "src/bin", true),
            kind(&self.test, package.autotests, "tests", true),
            kind(&self.example, package.autoexamples, "examples", false),
            kind(&self.bench, package.autobenches, "benches", false),
        ]
    }

    fn library(&self, package: &Package, directory: &Path) -> Option<(Target, PathBuf)> {
        let usual = directory.join("src/lib.rs").is_file() && package.autolib.unwrap_or(true);
        let library = self.lib.clone().or_else(|| usual.then(Target::default))?;
        let path = library.path.clone().unwrap_or_else(|| "src/lib.rs".to_owned());
        Some((library, clean(&path)))
    }

    /// Root files of a kind's targets that are built as test binaries.
    fn binaries(&self, package: &Package, kind: &Kind<'_>, directory: &Path) -> Vec<PathBuf> {
        let found = found_targets(package, kind.directory, directory);
        let path_of = |target: &Target| match (&target.path, &target.name) {
            (Some(path), _) => Some(clean(path)),
            (None, Some(name)) => found.iter().find(|(found, _)| found == name).map(|(_, path)| path.clone()),
            (None, None) => None,
        };
        let is_tested = |target: &&Target| target.test.unwrap_or(kind.tested_by_default);
        let declared = kind.declared.iter().filter(is_tested).filter_map(path_of);
        let mut paths: Vec<PathBuf> = declared.collect();
        // Before the edition of 2018, one declared target switched discovery off.
        let is_old = package.edition.as_ref().is_none_or(|edition| edition.as_str() == Some("2015"));
        if kind.automatic.unwrap_or(!is_old || kind.declared.is_empty()) && kind.tested_by_default {
            let known: Vec<PathBuf> = kind.declared.iter().filter_map(path_of).collect();
            paths.extend(found.into_iter().map(|(_, path)| path).filter(|path| !known.contains(path)));
        }
        paths
    }

    /// Directories that dependencies of this package are in, relative to it; `shared` are those of its workspace,
    /// relative to that.
    pub(super) fn path_dependencies(&self, shared: &Table) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut tables = vec![&self.dependencies, &self.dev_dependencies, &self.build_dependencies];
        let names = ["dependencies", "dev-dependencies", "build-dependencies"];
        for platform in self.target.values().filter_map(toml::Value::as_table) {
            tables.extend(names.iter().filter_map(|name| platform.get(*name)?.as_table()));
        }
        let (mut own, mut inherited) = (Vec::new(), Vec::new());
        for (name, dependency) in tables.into_iter().flatten() {
            let inherits = dependency.get("workspace").is_some();
            let path = if inherits {
                shared.get(name).and_then(|shared| shared.get("path"))
            } else {
                dependency.get("path")
            };
            let paths = if inherits { &mut inherited } else { &mut own };
            paths.extend(path.and_then(toml::Value::as_str).map(PathBuf::from));
        }
        (own, inherited)
    }
}

impl Target {
    /// Whether rustdoc tests libraries of this kind.
    fn has_documentation_tests(&self) -> bool {
        let is_tested = |kind: &String| matches!(kind.as_str(), "lib" | "rlib" | "proc-macro");
        self.proc_macro || self.crate_type.is_empty() || self.crate_type.iter().any(is_tested)
    }
}

/// The targets that stand in a directory for them, by name: `NAME.rs` and `NAME/main.rs`; and `src/main.rs`.
fn found_targets(package: &Package, place: &str, directory: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    // A directory that can't be read has no targets for cargo either.
    for entry in fs::read_dir(directory.join(place)).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let file = Path::new(place).join(&name);
        if name.starts_with('.') {
            continue;
        } else if let Some(name) = name.strip_suffix(".rs") {
            found.push((name.to_owned(), file));
        } else if directory.join(&file).join("main.rs").is_file() {
            found.push((name, file.join("main.rs")));
        }
    }
    if place == "src/bin" && directory.join("src/main.rs").is_file() {
        found.push((package.name.clone(), PathBuf::from("src/main.rs")));
    }
    found.sort();
    found
}

fn clean(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| *part != std::path::Component::CurDir).collect()
}
