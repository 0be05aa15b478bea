//! RSpec 3, on Ruby 2.7 or newer.

mod settings;

use std::path::{Path, PathBuf};

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::ruby;
use crate::launch::{Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;
use settings::RspecSettings;

pub(crate) struct Rspec;

impl Definition for Rspec {
    fn name(&self) -> &str {
        "rspec"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let is_usual = |path: &str| path.starts_with("spec/") && path.ends_with("_spec.rb");
        let conventional = || {
            let found = project.existing(&["spec/spec_helper.rb"]).or_else(|| project.first(is_usual));
            found.filter(|_| ruby::specs_of_minitest(project).is_none())
        };
        project.existing(&[".rspec"]).or_else(conventional).map(Evidence::certain)
    }

    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let settings = RspecSettings::read(project)?;
        let mut directories: Vec<String> =
            only.iter().filter_map(|path| path.to_str().map(globset::escape)).collect();
        directories.push(settings.default_path.clone());
        let globs = |pattern: &str| -> Vec<String> {
            directories.iter().flat_map(|directory| RspecSettings::globs(pattern, directory)).collect()
        };
        let mut rules = Rules::from_globs(project, &globs(&settings.pattern))?;
        for glob in globs(&settings.exclude_pattern) {
            rules.exclude.push(path_pattern(&glob)?);
        }
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        ruby::may_be_spec(path)
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["it_behaves_like", "it_should_behave_like", "include_examples", "include_context"]
    }

    fn splits_files(&self) -> bool {
        true
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        ruby::worker("rspec_worker.rb", ruby::worker_source!("rspec_worker.rb"), options)
    }

    /// RSpec names examples by place: `[1:2]`, and by line: `:12`.
    fn test_id(&self, file: &str, suffix: &str) -> String {
        match suffix.strip_prefix("::") {
            Some(id) => id.to_owned(),
            None => format!("./{file}{suffix}"),
        }
    }
}
