//! EUnit, by Erlang/OTP 23 or newer, with rebar3 or plain `src` and `test` directories.
//!
//! Tests stand in modules of their own and in those they test, so a source file counts when it defines a test function
//! or generator: a function without arguments whose name ends in `_test` or `_test_`.

use std::path::{Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::beam;
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

pub(crate) struct EUnit;

impl Definition for EUnit {
    fn name(&self) -> &str {
        "eunit"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let test = test_files(project).into_iter().next()?;
        let configuration = project.existing(&["rebar.config", "erlang.mk"]);
        let is_application = |path: &str| path.starts_with("src/") && path.ends_with(".app.src");
        let certain = configuration.or_else(|| project.first(is_application));
        Some(certain.map_or_else(|| Evidence::likely(test), Evidence::certain))
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let files = test_files(&ProjectFiles::of(project));
        Rules::from_globs(project, &files.iter().map(|file| globset::escape(file)).collect::<Vec<_>>())
    }

    fn accepts(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "erl")
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["_test_()", "foreach"]
    }

    fn isolations(&self) -> &'static [Isolation] {
        beam::ISOLATIONS
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        beam::launch(
            &["escript"],
            "eunit_worker.erl",
            concat!(
                include_str!("../../workers/eunit_worker.erl"),
                include_str!("../../workers/eunit_files.erl"),
                include_str!("../../workers/erlang_worker.erl")
            ),
            options,
        )
    }
}

/// The source files with tests, in the places where rebar3 and erlang.mk look for source files.
fn test_files(project: &ProjectFiles<'_>) -> Vec<String> {
    let has_tests = |path: &&String| project.text(path).is_some_and(|text| defines_tests(&text));
    let sources = project.paths().iter().filter(|path| path.ends_with(".erl") && is_compiled(path));
    sources.filter(has_tests).cloned().collect()
}

fn is_compiled(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], [_] | ["src" | "test", ..] | ["apps" | "lib", _, "src" | "test", ..])
}

/// Whether EUnit finds a test there. A function of that name in a file that has no word on tests is something else.
fn defines_tests(text: &str) -> bool {
    let knows_of_tests = text.contains("eunit") || text.contains("TEST");
    knows_of_tests && text.lines().any(is_head_of_test)
}

fn is_head_of_test(line: &str) -> bool {
    let end = line.find(|character: char| !(character.is_alphanumeric() || "_@".contains(character)));
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let is_function = name.starts_with(|first: char| first.is_lowercase());
    let arguments: String = rest.chars().filter(|character| !character.is_whitespace()).take(2).collect();
    is_function && (name.ends_with("_test") || name.ends_with("_test_")) && arguments == "()"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_other_functions() {
        for test in ["adds_test() ->", "adds_test_() -> [", "adds_test () ->", "a@b_test( ) -> ok."] {
            assert!(
                defines_tests(&format!("-include_lib(\"eunit/include/eunit.hrl\").\n{test}\n")),
                "{test}"
            );
            assert!(defines_tests(&format!("-ifdef(TEST).\n{test}\n-endif.\n")), "{test}");
            assert!(!defines_tests(&format!("-module(load).\n{test}\n")), "{test}");
        }
        for other in
            ["adds_test(Value) ->", "% adds_test() ->", "    adds_test(),", "Adds_test() ->", "tests() ->"]
        {
            assert!(
                !defines_tests(&format!("-include_lib(\"eunit/include/eunit.hrl\").\n{other}\n")),
                "{other}"
            );
        }
    }

    #[test]
    fn sources_are_where_they_are_compiled() {
        for path in
            ["a.erl", "src/a.erl", "src/b/a.erl", "test/a.erl", "apps/one/test/a.erl", "lib/one/src/a.erl"]
        {
            assert!(is_compiled(path), "{path}");
        }
        for path in ["examples/a.erl", "deps/one/src/a.erl", "apps/one/a.erl", "priv/test/a.erl"] {
            assert!(!is_compiled(path), "{path}");
        }
    }
}
