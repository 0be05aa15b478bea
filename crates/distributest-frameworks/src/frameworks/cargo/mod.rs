//! cargo: what `cargo test` runs, each target a unit named by its root file.
//!
//! A test binary is `crates/core/src/lib.rs`, `src/main.rs`, `crates/core/tests/scheduler.rs`; the examples in the
//! documentation of a library are a unit of their own, `crates/core/src/lib.rs (doc tests)`, where there can be any. A
//! workspace is tested whole, as with `cargo test --workspace`, unless its manifest names default members.

mod manifest;
mod workspace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::discover::{Discovered, DiscoveredFile, Selection};
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{BUILD_TIMEOUT, Isolation, Launch, LaunchOptions, OwnWorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;
use crate::units::{self, Asked};
use crate::walk;

/// What the unit of a library's documentation is named after its root file.
const DOCUMENTATION: &str = " (doc tests)";

pub(crate) struct Cargo;

impl Definition for Cargo {
    fn name(&self) -> &str {
        "cargo"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let root = project.existing(&["Cargo.toml"]).map(Evidence::certain);
        root.or_else(|| project.first(|path| path.ends_with("/Cargo.toml")).map(Evidence::likely))
    }

    /// Never looked at: [`Cargo::discover`] finds targets, not files.
    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        Rules::from_globs(project, &[])
    }

    fn accepts(&self, _: &Path) -> bool {
        false
    }

    /// A process for each test binary, as with `cargo test`, or for each test, as with cargo-nextest.
    fn isolations(&self) -> &'static [Isolation] {
        &[Isolation::Shared, Isolation::Process]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let isolation = options.isolation.unwrap_or(Isolation::Shared);
        let mut worker = OwnWorkerLaunch::of_kind("cargo", options);
        worker.arguments.insert(1, isolation.word().to_owned());
        Launch::OwnWorker(OwnWorkerLaunch { ready_timeout: BUILD_TIMEOUT, ..worker })
    }

    fn discover(
        &self,
        project: &Path,
        selection: &Selection,
        only: &[PathBuf],
    ) -> Result<Discovered, DiscoverError> {
        let asked: Vec<Asked> = only.iter().map(|path| Asked::Below(path.clone())).collect();
        let (found, unusable) = all_units(project)?;
        Ok(Discovered { unusable, ..units::select(found, selection, &asked)? })
    }
}

/// Every unit, and those whose names are not UTF-8.
fn all_units(project: &Path) -> Result<(Vec<DiscoveredFile>, Vec<String>), DiscoverError> {
    let base = project.to_owned();
    let enters = move |directory: &Path| {
        let hidden = directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Cargo marks what it writes.
        !hidden && !base.join(directory).join("CACHEDIR.TAG").is_file()
    };
    let files = walk::files(project, Path::new(""), enters)?;
    let manifests = files.iter().filter(|file| file.file_name().is_some_and(|name| name == "Cargo.toml"));
    let manifests: BTreeSet<PathBuf> =
        manifests.filter_map(|file| file.parent().map(Path::to_owned)).collect();
    let sources: Vec<PathBuf> =
        files.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")).collect();
    let (mut found, mut unusable) = (Vec::new(), Vec::new());
    for (directory, manifest) in workspace::packages(project, &manifests)? {
        let tested = manifest.tested(&project.join(&directory));
        let binaries = tested.binaries.iter().map(|path| (path, ""));
        let documentation = tested.documentation.iter().map(|path| (path, DOCUMENTATION));
        for (path, suffix) in binaries.chain(documentation) {
            let root = directory.join(path);
            let own = sources_of(&root, &sources);
            if !suffix.is_empty() && !own.iter().any(|file| may_hold_examples(&project.join(file))) {
                continue;
            }
            let size = |file: &&PathBuf| project.join(file).metadata().map_or(0, |metadata| metadata.len());
            let size_bytes = own.iter().map(size).sum();
            match root.to_str() {
                Some(path) => found.push(DiscoveredFile {
                    path: format!("{path}{suffix}"),
                    size_bytes,
                    shared_examples: 0,
                    by_name_only: false,
                }),
                None => unusable.push(root.to_string_lossy().into_owned()),
            }
        }
    }
    Ok((found, unusable))
}

/// The files a target is made of, as its root file tells: `lib.rs` and `main.rs` have their modules beside them.
fn sources_of<'a>(root: &Path, sources: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let has_modules = root.file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs");
    let is_own = |file: &&PathBuf| {
        *file == root || has_modules && root.parent().is_some_and(|directory| file.starts_with(directory))
    };
    sources.iter().filter(is_own).collect()
}

/// Whether there can be examples in a file's documentation: fenced or indented code in a comment, or documentation that
/// is put together elsewhere.
fn may_hold_examples(file: &Path) -> bool {
    let Ok(bytes) = fs::read(file) else { return true };
    let text = String::from_utf8_lossy(&bytes);
    let is_indented = |line: &str| {
        let comment = line.trim_start();
        let rest = comment.strip_prefix("///").or_else(|| comment.strip_prefix("//!"));
        rest.is_some_and(|rest| rest.starts_with("     ") || rest.starts_with('\t'))
    };
    ["```", "~~~", "[doc", "/**", "/*!"].iter().any(|sign| text.contains(sign))
        || text.lines().any(is_indented)
}
