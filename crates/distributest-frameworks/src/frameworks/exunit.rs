//! ExUnit, by Elixir 1.14 or newer.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::beam;
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// Without a virtual machine that spins while it waits: there is one on each runner.
const ERLANG_OPTIONS: &str = "+sbwt none +sbwtdcpu none +sbwtdio none";

pub(crate) struct ExUnit;

impl Definition for ExUnit {
    fn name(&self) -> &str {
        "exunit"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let is_test = |path: &str| path.ends_with("_test.exs");
        let has_tests = || project.first(is_test);
        project.existing(&["test/test_helper.exs"]).map(Evidence::certain).or_else(|| {
            let test = has_tests()?;
            let mix = project.existing(&["mix.exs"]);
            Some(mix.map_or_else(|| Evidence::likely(test), Evidence::certain))
        })
    }

    /// As `mix test` finds them where `mix.exs`, which is a program, does not say otherwise.
    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let globs = ["test/**/*_test.exs", "apps/*/test/**/*_test.exs"].map(str::to_owned);
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
                include_str!("../../workers/elixir_worker.exs"),
                include_str!("../../workers/exunit_files.exs"),
                include_str!("../../workers/exunit_worker.exs")
            ),
            options,
        )
    }
}
