//! What makes a test file the same file in a later run.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use distributest_protocol::wire;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::plan::{PlannedPart, RunPlan};

/// A file of a plan with everything about it that its result is good for.
///
/// What else the result depends on (the code under test, hooks, the environment) is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Project-relative path.
    pub path: String,
    /// The framework that runs it.
    pub framework: String,
    /// Ids of the tests to run; empty: all of them.
    pub tests: Vec<String>,
    /// Which part of the file it is, and what tells it from a part of the same number with other tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(u32, String)>,
    /// Its size and the time of its last change; for a directory (a Go package) those of the files in it.
    pub state: String,
    /// How it is run: the framework's program, arguments and isolation.
    pub launch: String,
}

/// The identities of a plan's files, in their order.
pub fn identify(plan: &RunPlan) -> Vec<FileIdentity> {
    let launches: Vec<String> = plan.launches.iter().map(fingerprint).collect();
    let identity = |file: &crate::plan::PlannedFile| FileIdentity {
        path: file.path.clone(),
        framework: file.framework.clone(),
        tests: file.tests.clone(),
        part: file.part.as_ref().map(|part| (part.number, digest_of(part))),
        state: state(&plan.project.directory.join(&file.path)),
        launch: launches.get(usize::from(file.launch.0)).cloned().unwrap_or_default(),
    };
    plan.files.iter().map(identity).collect()
}

impl FileIdentity {
    /// What a file, or a part of one, is found by.
    pub(super) fn place(&self) -> (String, u32) {
        (self.path.clone(), self.part.as_ref().map_or(0, |(number, _)| *number))
    }
}

fn digest_of(part: &PlannedPart) -> String {
    digest(format!("{:?}", part.tests).as_bytes())
}

fn fingerprint(launch: &wire::Launch) -> String {
    // Its text is everything in it, and the same whenever that is.
    digest(format!("{launch:?}").as_bytes())
}

/// Empty for what is no file, such as the documentation of a crate: there is nothing to compare.
fn state(path: &Path) -> String {
    let Ok(metadata) = fs::metadata(path) else { return String::new() };
    if !metadata.is_dir() {
        return state_of_file(&metadata);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let metadata = fs::metadata(entry.path()).ok().filter(Metadata::is_file)?;
        Some(format!("{:?} {}", entry.file_name(), state_of_file(&metadata)))
    });
    let mut files: Vec<String> = files.collect();
    files.sort();
    digest(files.join("\n").as_bytes())
}

fn state_of_file(metadata: &Metadata) -> String {
    format!("{} bytes {}.{:09}", metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
