//! The result cache: a file whose inputs are those of an earlier run in which it passed is not run.
//!
//! # Theory of operation
//!
//! Before a run everything that its files depend on is looked at, as far as this machine can tell: the project's files, how
//! frameworks are started, hooks, environment. That gives each file a *key*, and the history knows which passes have the same.
//! What only a host can tell, the versions of framework and interpreter, the scheduler waits for before it takes such a pass
//! for the file's verdict.
//!
//! During the run it is noted which files passed as one would wish ([`PassWatch`]). At its end the project is looked at again:
//! the passes of those whose key is still the same are remembered.
//!
//! # Rules
//!
//! - What can't be known counts as changed: such a file has no key, so it is run and its pass is not remembered. Why is said
//!   once a run.
//! - A file that was changed during a run has no key at its end, also when it was changed back: nobody knows which of its
//!   contents a test saw.
//! - Only a pass of the whole file at its first attempt that left nothing running is remembered; and it counts until the file
//!   fails, whatever its inputs are then.

mod inputs;
mod key;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use distributest_history::{History, HistoryError, RecordedPass};
use distributest_report::format;
use distributest_tree::contents::{Hash, Hashes};
use distributest_tree::tree::ProjectTree;

pub use self::watch::PassWatch;

use self::inputs::{Declarations, Look};
use crate::config::Config;
use crate::hosts::{FirstLook, ProjectState, RunSpec};
use crate::journal::FileIdentity;
use crate::plan::RunPlan;

/// How many reasons are told why files have no key.
const REASONS_TOLD: usize = 3;

/// What the files of a plan depend on, and what that is called.
pub struct ResultCache {
    project: PathBuf,
    first_look: FirstLook,
    state: Arc<ProjectState>,
    /// Of the entries of that state's tree.
    hashes: Vec<Option<Hash>>,
    declarations: Declarations,
    /// In the order of the plan.
    files: Vec<TestFile>,
    keys: Vec<Option<String>>,
}

/// A test file of the plan.
struct TestFile {
    path: String,
    framework: String,
    /// Everything it depends on besides the project's files.
    circumstances: Result<Hash, NoKey>,
}

/// Why a file has no key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoKey {
    /// Only some of its tests are run, because somebody asked for that or it is split.
    InParts,
    /// For this reason, which people should know.
    Because(String),
}

/// The keys of files, and why some have none.
type Keys = (Vec<Option<String>>, Vec<String>);

impl ResultCache {
    /// Looks at what the files of a plan depend on, which `identities` tell of in their order. What was read of the project
    /// is remembered below the directory `state`.
    pub fn look(
        (plan, identities): (&RunPlan, &[FileIdentity]),
        run: &RunSpec,
        config: &Config,
        state: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> ResultCache {
        let project = plan.project.directory.clone();
        let looked = run.first_look.state();
        let hashes = match &looked.tree {
            Ok(read) => hash(plan, &read.tree, state, warnings),
            Err(_) => Vec::new(),
        };
        let common = key::common(plan, run, config);
        let launches = plan.files.iter().map(|file| plan.launches.get(usize::from(file.launch.0)));
        let files = identities.iter().zip(launches).map(|(identity, launch)| TestFile {
            path: identity.path.clone(),
            framework: identity.framework.clone(),
            circumstances: key::circumstances(&common, identity, launch),
        });
        let mut cache = ResultCache {
            project,
            first_look: run.first_look.clone(),
            state: looked,
            hashes,
            declarations: Declarations::new(&config.cache_inputs),
            files: files.collect(),
            keys: Vec::new(),
        };
        let (keys, reasons) = cache.keys_before();
        cache.keys = keys;
        warnings.extend(reasons);
        cache
    }

    /// The passes that the history knows of each file of the plan with its key.
    ///
    /// # Errors
    ///
    /// The history can't be read.
    pub fn passes(
        &self,
        history: &History,
        project_key: &str,
    ) -> Result<Vec<Vec<RecordedPass>>, HistoryError> {
        let passes = self.files.iter().zip(&self.keys).map(|(file, key)| match key {
            Some(key) => history.passes(project_key, &file.path, key),
            None => Ok(Vec::new()),
        });
        passes.collect()
    }

    fn keys_before(&self) -> Keys {
        match &self.state.tree {
            Ok(read) => self.keys_by(&Look::new(&self.project, &read.tree, &self.hashes)),
            Err(unreadable) => {
                let reason =
                    format!("the cache is not used, what the project holds can't be known: {unreadable}");
                (vec![None; self.files.len()], vec![reason])
            }
        }
    }

    /// The keys that are certainly still what they were before the run; and what of the project has changed meanwhile.
    fn keys_after(&self) -> Keys {
        let after = self.first_look.again();
        let (Ok(before), Ok(after)) = (&self.state.tree, &after.tree) else {
            return (vec![None; self.files.len()], Vec::new());
        };
        let unchanged = after.tree.unchanged_since(&before.tree);
        let hashes: Vec<_> = unchanged.iter().map(|index| self.hashes[(*index)?]).collect();
        let (keys, _) = self.keys_by(&Look::new(&self.project, &after.tree, &hashes));
        let same =
            |(now, then): (Option<String>, &Option<String>)| now.filter(|now| then.as_ref() == Some(now));
        (keys.into_iter().zip(&self.keys).map(same).collect(), changes(&before.tree, &after.tree, &unchanged))
    }

    fn keys_by(&self, look: &Look<'_>) -> Keys {
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let mut inputs = self.declarations.resolve(look);
        let mut key = |file: &TestFile| {
            let circumstances = file.circumstances.clone()?;
            let inputs = inputs.of(&file.path).map_err(NoKey::Because)?;
            Ok(key::finish(&circumstances, &inputs))
        };
        let keys = self.files.iter().map(|file| match key(file) {
            Ok(key) => Some(key),
            Err(NoKey::InParts) => None,
            Err(NoKey::Because(reason)) => {
                *reasons.entry(reason).or_default() += 1;
                None
            }
        });
        let keys = keys.collect();
        let told = reasons.into_iter().take(REASONS_TOLD).map(|(reason, files)| unusable(files, &reason));
        (keys, told.collect())
    }
}

/// Says for how many files there is no cache, and why.
fn unusable(files: u64, reason: &str) -> String {
    format!("the cache can't be used for {}: {reason}", format::count(files, "file"))
}

/// The hashes of a project's files. Those that have not changed since an earlier run are not read.
fn hash(
    plan: &RunPlan,
    tree: &ProjectTree,
    state: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Vec<Option<Hash>> {
    let directory = state.map(|state| state.join("hashes"));
    let memory = directory.as_ref().map(|directory| directory.join(&plan.project.workspace_hash));
    let mut known = memory.as_deref().map(Hashes::load).unwrap_or_default();
    let hashes = known.of_tree(&plan.project.directory, tree);
    if let (Some(directory), Some(memory)) = (directory, memory)
        && let Err(error) = fs::create_dir_all(directory).and_then(|()| known.store(&memory))
    {
        let memory = memory.display();
        warnings
            .push(format!("failed to write {memory}: {error}; the next run reads the whole project again"));
    }
    hashes
}

/// The paths of what has been changed, has come or has gone.
fn changes(before: &ProjectTree, after: &ProjectTree, unchanged: &[Option<usize>]) -> Vec<String> {
    let changed = after.entries.iter().zip(unchanged).filter(|(_, unchanged)| unchanged.is_none());
    let kept: Vec<&[u8]> = after.entries.iter().map(|entry| entry.path.as_slice()).collect();
    let gone = before.entries.iter().filter(|entry| kept.binary_search(&entry.path.as_slice()).is_err());
    let paths = changed.map(|(entry, _)| entry).chain(gone).map(|entry| &entry.path);
    paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}
