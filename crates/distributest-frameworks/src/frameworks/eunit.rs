//! EUnit, by Erlang/OTP 23 or newer, with rebar3 or plain `src` and `test` directories.
//!
//! Tests stand in modules of their own and in those they test, so a source file counts when it defines a test function
//! or generator: a function without arguments whose name ends in `_test` or `_test_`. Which of them are exported is decided
//! by headers too, also those of dependencies: a file that may have tests counts, and one that has none passes.

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

/// Whether EUnit may find a test there. A function of that name that is for the module alone is something else.
fn defines_tests(text: &str) -> bool {
    let code: Vec<&str> = text.lines().map(|line| line.split('%').next().unwrap_or_default()).collect();
    let code = code.join("\n");
    code.match_indices('(').any(|(at, _)| {
        name_of_test(code[..at].trim_end(), code[at + 1..].trim_start())
            .is_some_and(|name| may_be_exported(text, name))
    })
}

/// The name of a test, where one begins: `before` and `after` an opening parenthesis.
fn name_of_test<'text>(before: &'text str, after: &str) -> Option<&'text str> {
    let body = after.strip_prefix(')')?.trim_start();
    let name = match before.strip_suffix('\'') {
        Some(quoted) => quoted.rsplit('\'').next()?,
        None => before
            .rsplit(|character: char| !(character.is_alphanumeric() || "_@".contains(character)))
            .next()?,
    };
    let is_function = before.ends_with('\'') || name.starts_with(char::is_lowercase);
    let is_test = name.ends_with("_test") || name.ends_with("_test_");
    (is_function && is_test && (body.starts_with("->") || body.starts_with("when"))).then_some(name)
}

/// EUnit's header exports all tests, wherever it is included.
fn may_be_exported(text: &str, name: &str) -> bool {
    ["eunit", "TEST", "-include", "export_all"].iter().any(|word| text.contains(word))
        || text.contains(&format!("{name}/0"))
        || text.contains(&format!("{name}'/0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_other_functions() {
        let tests = [
            "adds_test() ->",
            "adds_test_() -> [",
            "adds_test () ->",
            "a@b_test( ) -> ok.",
            "adds_test\n  () ->",
            "'adds it_test'() ->",
            "one() -> 1. adds_test() -> ok.",
            "adds_test() when true ->",
        ];
        for test in tests {
            assert!(
                defines_tests(&format!("-include_lib(\"eunit/include/eunit.hrl\").\n{test}\n")),
                "{test}"
            );
            assert!(defines_tests(&format!("-ifdef(TEST).\n{test}\n-endif.\n")), "{test}");
            assert!(defines_tests(&format!("-include(\"all.hrl\").\n{test}\n")), "{test}");
            assert!(!defines_tests(&format!("-module(load).\n{test}\n")), "{test}");
        }
        assert!(defines_tests("-export([adds_test/0]).\nadds_test() -> ok.\n"));
        assert!(defines_tests("-compile(export_all).\nadds_test() -> ok.\n"));
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
