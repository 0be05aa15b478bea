//! test-unit 3.1 or newer, on Ruby 2.7 or newer.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::ruby::{self, Library};
use crate::launch::{Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

pub(crate) struct TestUnit;

impl Definition for TestUnit {
    fn name(&self) -> &str {
        "test-unit"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        ruby::evidence(project, Library::TestUnit)
    }

    /// As test-unit itself when it is given a directory.
    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        ruby::rules(project, only, &["test[_-]*.rb", "*[_-]test.rb"])
    }

    fn accepts(&self, path: &Path) -> bool {
        ruby::may_be_test(path)
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        ruby::worker("test_unit_worker.rb", ruby::worker_source!("test_unit_worker.rb"), options)
    }
}
