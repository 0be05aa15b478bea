//! Go: packages with tests, each a unit named by its directory (`.` where that is the project's own).
//!
//! The go command's rules decide: `vendor`, `testdata` and directories that begin with `_` or `.` hold no packages, links
//! to directories are not followed; a workspace (`go.work`) is the modules that it uses, a project that is a module is that
//! module, and one that is neither is all the modules in it. Build tags are left to the go command on the host: a
//! package whose tests are all for other platforms is found, and passes without tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::discover::{Discovered, DiscoveredFile, Selection};
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{BUILD_TIMEOUT, Isolation, Launch, LaunchOptions, OwnWorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;
use crate::units::{self, Asked};
use crate::walk;

pub(crate) struct Go;

impl Definition for Go {
    fn name(&self) -> &str {
        "go"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let test =
            project.first(|path| is_test_file(Path::new(path)) && !path.split('/').any(holds_no_package))?;
        let module = project.existing(&["go.work", "go.mod"]);
        Some(module.map_or_else(|| Evidence::likely(test), Evidence::certain))
    }

    /// Never looked at: [`Go::discover`] finds packages, not files.
    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        Rules::from_globs(project, &[])
    }

    fn accepts(&self, path: &Path) -> bool {
        is_test_file(path)
    }

    fn isolations(&self) -> &'static [Isolation] {
        &[]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        Launch::OwnWorker(OwnWorkerLaunch {
            ready_timeout: BUILD_TIMEOUT,
            ..OwnWorkerLaunch::of_kind("go", options)
        })
    }

    fn discover(
        &self,
        project: &Path,
        selection: &Selection,
        only: &[PathBuf],
    ) -> Result<Discovered, DiscoverError> {
        // A test file stands for its package.
        let asked: Vec<Asked> = only
            .iter()
            .map(|path| match path.parent() {
                Some(package) if is_test_file(path) => Asked::Unit(unit_path(package)),
                _ => Asked::Below(path.clone()),
            })
            .collect();
        let (packages, unusable) = packages(project)?;
        Ok(Discovered { unusable, ..units::select(packages, selection, &asked)? })
    }
}

/// The path of the unit that is the package in a directory.
fn unit_path(directory: &Path) -> PathBuf {
    if directory == Path::new("") { PathBuf::from(".") } else { directory.to_owned() }
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("_test.go") && !name.starts_with(['_', '.'])
}

/// Whether the go command never enters directories of this name.
fn holds_no_package(name: &str) -> bool {
    matches!(name, "vendor" | "testdata") || name.starts_with(['_', '.'])
}

/// The packages with tests, and those whose names are not UTF-8.
fn packages(project: &Path) -> Result<(Vec<DiscoveredFile>, Vec<String>), DiscoverError> {
    let base = project.to_owned();
    let enters = move |directory: &Path| {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        !holds_no_package(&name) && !base.join(directory).is_symlink()
    };
    let files = walk::files(project, Path::new(""), enters)?;
    let modules = Modules::of(project, &files)?;
    let mut sizes: BTreeMap<&Path, u64> = BTreeMap::new();
    for file in files.iter().filter(|file| is_test_file(file)) {
        let package = file.parent().unwrap_or(Path::new(""));
        if modules.hold(package) {
            let size = project.join(file).metadata().map_or(0, |metadata| metadata.len());
            *sizes.entry(package).or_default() += size;
        }
    }
    let (mut packages, mut unusable) = (Vec::new(), Vec::new());
    for (package, size_bytes) in sizes {
        match unit_path(package).into_os_string().into_string() {
            Ok(path) => {
                packages.push(DiscoveredFile { path, size_bytes, shared_examples: 0, by_name_only: false })
            }
            Err(name) => unusable.push(name.to_string_lossy().into_owned()),
        }
    }
    Ok((packages, unusable))
}

/// The modules in a project, by their directories.
struct Modules {
    all: BTreeSet<PathBuf>,
    /// Those whose packages belong to the project; `None`: all.
    used: Option<BTreeSet<PathBuf>>,
}

impl Modules {
    fn of(project: &Path, files: &[PathBuf]) -> Result<Modules, DiscoverError> {
        let modules = files.iter().filter(|file| file.file_name().is_some_and(|name| name == "go.mod"));
        let all: BTreeSet<PathBuf> = modules.filter_map(|file| Some(file.parent()?.to_owned())).collect();
        let workspace = project.join("go.work");
        let used = if workspace.is_file() {
            let text = fs::read_to_string(&workspace)
                .map_err(|source| DiscoverError::ReadSettings { path: workspace, source })?;
            Some(used_modules(&text).into_iter().collect())
        } else {
            all.get(Path::new("")).map(|root| BTreeSet::from([root.clone()]))
        };
        Ok(Modules { all, used })
    }

    /// Whether a package is in one of the project's modules. Without any module it is from before there were any.
    fn hold(&self, package: &Path) -> bool {
        let module = package.ancestors().find(|directory| self.all.contains(*directory));
        match (module, &self.used) {
            (Some(module), Some(used)) => used.contains(module),
            (Some(_), None) => true,
            (None, _) => self.all.is_empty(),
        }
    }
}

/// The directories that a `go.work` file uses, relative to its own; those outside of it are not of this project.
fn used_modules(text: &str) -> Vec<PathBuf> {
    let mut in_block = false;
    let mut used = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let directory = match line.strip_prefix("use").filter(|_| !in_block) {
            Some(rest) if rest.trim() == "(" => {
                in_block = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim(),
            _ if line == ")" => {
                in_block = false;
                continue;
            }
            _ if in_block => line,
            _ => continue,
        };
        used.extend(inside(directory.trim_matches(['"', '`'])));
    }
    used
}

/// A path without `.`; `None` for one that leads out.
fn inside(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            _ => return None,
        }
    }
    (!path.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_names_its_modules_in_lines_and_blocks() {
        let text = "go 1.22\n\nuse ./api // the server\nuse (\n\t.\n\t\"./tools/lint\"\n\t../elsewhere\n)\nreplace x => ./y\n";
        let used = used_modules(text);
        assert_eq!(used, ["api", "", "tools/lint"].map(PathBuf::from));
    }

    #[test]
    fn files_the_go_command_ignores_are_no_tests() {
        assert!(is_test_file(Path::new("a/b_test.go")));
        for name in ["a/b.go", "a/_b_test.go", "a/.b_test.go", "a/test.go"] {
            assert!(!is_test_file(Path::new(name)), "{name}");
        }
    }
}
