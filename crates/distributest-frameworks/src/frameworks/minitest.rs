//! Minitest 5.11 or newer, on Ruby 2.7 or newer, and with it the tests of Rails.

use std::path::{Path, PathBuf};

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::ruby::{self, Library};
use crate::launch::{Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

pub(crate) struct Minitest;

impl Definition for Minitest {
    fn name(&self) -> &str {
        "minitest"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let specs = || ruby::specs_of_minitest(project).map(Evidence::certain);
        ruby::evidence(project, Library::Minitest).or_else(specs)
    }

    /// As `rake test` and, for an application or engine, `rails test`.
    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let is_rails = project.join("config/application.rb").is_file() || project.join("test/dummy").is_dir();
        let names: &[&str] = if is_rails { &["*_test.rb"] } else { &["test_*.rb", "*_test.rb"] };
        let mut rules = ruby::rules(project, only, names)?;
        if ruby::specs_of_minitest(&ProjectFiles::of(project)).is_some() {
            rules.starts.push(PathBuf::from("spec"));
            rules.include.push(path_pattern("spec/**/*_spec.rb")?);
        }
        if is_rails && only.is_empty() {
            rules.exclude.push(path_pattern("test/{system,dummy,fixtures}/**")?);
        }
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        ruby::may_be_test(path)
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        ruby::worker("minitest_worker.rb", ruby::worker_source!("minitest_worker.rb"), options)
    }
}
