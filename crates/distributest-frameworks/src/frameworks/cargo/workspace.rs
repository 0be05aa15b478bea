//! Which packages `cargo test` takes in a project: the members of its workspaces, as their manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::manifest::{Manifest, WorkspaceTable};
use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::glob::Pattern;

/// The packages to test: directory relative to the project, and manifest. `manifests` are the directories of all
/// manifests in the project.
///
/// A project with a manifest in its directory is that package or workspace, and what lies outside of it is not tested, as
/// with cargo. One without is all those it holds.
pub(super) fn packages(
    project: &Path,
    manifests: &BTreeSet<PathBuf>,
) -> Result<BTreeMap<PathBuf, Manifest>, DiscoverError> {
    if manifests.contains(Path::new("")) {
        return members(project, Path::new(""), manifests);
    }
    let mut packages = BTreeMap::new();
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    // By path, so that a workspace comes before the packages in it.
    for root in manifests {
        if !known.contains(root) {
            let members = members(project, root, manifests)?;
            known.extend(members.keys().cloned());
            packages.extend(members);
        }
    }
    Ok(packages)
}

/// The package in `root`, or the members of the workspace there that `cargo test --workspace` takes; only the default
/// members where it names such.
fn members(
    project: &Path,
    root: &Path,
    manifests: &BTreeSet<PathBuf>,
) -> Result<BTreeMap<PathBuf, Manifest>, DiscoverError> {
    let manifest = Manifest::read(&project.join(root))?;
    let Some(workspace) = manifest.workspace.clone() else {
        return Ok(BTreeMap::from([(root.to_owned(), manifest)]));
    };
    let rules = Membership::of(root, &workspace)?;
    let mut waiting: Vec<PathBuf> =
        manifests.iter().filter(|directory| rules.names(directory)).cloned().collect();
    waiting.extend(manifest.package.is_some().then(|| root.to_owned()));
    let mut members = BTreeMap::new();
    while let Some(directory) = waiting.pop() {
        if members.contains_key(&directory) {
            continue;
        }
        let member = Manifest::read(&project.join(&directory))?;
        let (own, inherited) = member.path_dependencies(&workspace.dependencies);
        let own = own.iter().filter_map(|path| joined(&directory, path));
        let inherited = inherited.iter().filter_map(|path| joined(root, path));
        // What members depend on by path is a member too, where it is inside the workspace.
        waiting.extend(own.chain(inherited).filter(|path| manifests.contains(path) && rules.may_hold(path)));
        members.insert(directory, member);
    }
    members.retain(|directory, member| member.package.is_some() && rules.is_default(directory));
    Ok(members)
}

/// What a workspace says of its members.
struct Membership {
    root: PathBuf,
    members: Vec<Pattern>,
    default_members: Option<Vec<Pattern>>,
    /// Directories that its members are named by, without globs; being named outweighs being excluded.
    plain_members: Vec<PathBuf>,
    excluded: Vec<PathBuf>,
}

impl Membership {
    fn of(root: &Path, workspace: &WorkspaceTable) -> Result<Membership, DiscoverError> {
        let in_root = |paths: &[String]| -> Vec<PathBuf> {
            paths.iter().filter_map(|path| joined(root, Path::new(path))).collect()
        };
        let patterns = |paths: &[String]| {
            let globs = in_root(paths).into_iter().map(|path| path_pattern(&path.to_string_lossy()));
            globs.collect::<Result<Vec<_>, _>>()
        };
        Ok(Membership {
            root: root.to_owned(),
            members: patterns(&workspace.members)?,
            default_members: workspace.default_members.as_deref().map(patterns).transpose()?,
            plain_members: in_root(&workspace.members),
            excluded: in_root(&workspace.exclude),
        })
    }

    fn names(&self, directory: &Path) -> bool {
        self.members.iter().any(|pattern| pattern.matches(directory)) && self.may_hold(directory)
    }

    fn may_hold(&self, directory: &Path) -> bool {
        let below = |paths: &[PathBuf]| paths.iter().any(|path| directory.starts_with(path));
        directory.starts_with(&self.root) && (below(&self.plain_members) || !below(&self.excluded))
    }

    fn is_default(&self, directory: &Path) -> bool {
        let matches = |patterns: &Vec<Pattern>| patterns.iter().any(|pattern| pattern.matches(directory));
        self.default_members.as_ref().is_none_or(matches)
    }
}

/// A path from a directory of the project, relative to the project; `None` for one that leads out.
fn joined(directory: &Path, path: &Path) -> Option<PathBuf> {
    let mut joined = directory.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(name) => joined.push(name),
            Component::CurDir => {}
            Component::ParentDir if joined.pop() => {}
            _ => return None,
        }
    }
    Some(joined)
}
