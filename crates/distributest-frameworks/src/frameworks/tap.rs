//! TAP producers as `prove` runs them: Perl's tests, and scripts of any language below `t`.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{Isolation, Launch, LaunchOptions, OwnWorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// What says that a project is Perl's, or run by `prove`.
const CONFIGURATION: [&str; 6] = [".proverc", "Makefile.PL", "Build.PL", "cpanfile", "dist.ini", "META.json"];

pub(crate) struct Tap;

impl Definition for Tap {
    fn name(&self) -> &str {
        "tap"
    }

    /// Only where there are tests: configuration says which file to name.
    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let test = project.first(|path| path.starts_with("t/") && path.ends_with(".t"))?;
        Some(Evidence::certain(project.existing(&CONFIGURATION).unwrap_or(test)))
    }

    /// As `prove -r` finds them. The author's own, below `xt`, are run when they are named.
    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        Rules::from_globs(project, &["t/**/*.t".to_owned()])
    }

    fn accepts(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "t")
    }

    fn isolations(&self) -> &'static [Isolation] {
        &[]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        Launch::OwnWorker(OwnWorkerLaunch::of_kind("tap", options))
    }
}
