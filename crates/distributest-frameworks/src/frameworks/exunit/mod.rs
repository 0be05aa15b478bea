//! ExUnit, by Elixir 1.14 or newer.

mod mix;

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::beam;
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;
use mix::TestFiles;

/// Without a virtual machine that spins while it waits: there is one on each runner.
const ERLANG_OPTIONS: &str = "+sbwt none +sbwtdcpu none +sbwtdio none";

pub(crate) struct ExUnit;

impl Definition for ExUnit {
    fn name(&self) -> &str {
        "exunit"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        project.existing(&["test/test_helper.exs"]).map(Evidence::certain).or_else(|| {
            // What can't be read is told of when tests are looked for.
            let rules = self.rules(project.directory(), &[]).ok();
            let matches = |path: &str| rules.as_ref().is_some_and(|rules| rules.matches(Path::new(path)));
            let test = project.first(|path| path.ends_with("_test.exs") || matches(path))?;
            let mix = project.existing(&["mix.exs"]);
            Some(mix.map_or_else(|| Evidence::likely(test), Evidence::certain))
        })
    }

    /// As `mix test` finds them, in the project and in the applications of an umbrella project.
    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let mut globs: Vec<String> = TestFiles::read(project)?.globs("").collect();
        // Where there are none, or they can't be listed, there is nothing to find.
        for application in fs::read_dir(project.join("apps")).into_iter().flatten().flatten() {
            let path = application.path();
            if let Some(name) = application.file_name().to_str().filter(|_| path.is_dir()) {
                let prefix = format!("apps/{}/", globset::escape(name));
                globs.extend(TestFiles::read(&path)?.globs(&prefix));
            }
        }
        Rules::from_globs(project, &globs)
    }

    fn accepts(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "exs")
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["doctest ", "parameterize:"]
    }

    fn isolations(&self) -> &'static [Isolation] {
        beam::ISOLATIONS
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        beam::launch(
            &["elixir", "--erl", ERLANG_OPTIONS],
            "exunit_worker.exs",
            concat!(
                include_str!("../../../workers/elixir_worker.exs"),
                include_str!("../../../workers/exunit_files.exs"),
                include_str!("../../../workers/exunit_worker.exs")
            ),
            options,
        )
    }
}
