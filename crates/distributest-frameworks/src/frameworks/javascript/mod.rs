//! The frameworks of JavaScript, and what they have in common.

/// The text of a worker program.
macro_rules! worker_source {
    ($framework:literal) => {
        concat!(
            include_str!("../../../workers/javascript_worker.cjs"),
            include_str!("../../../workers/javascript_project.cjs"),
            include_str!(concat!("../../../workers/", $framework))
        )
    };
}

mod jest;
mod literals;
mod mocha;
mod node_test;
mod package;
mod vitest;

use std::path::Path;

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::glob::Pattern;
use crate::launch::{Isolation, Launch, LaunchOptions, WorkerLaunch};
use crate::rules::without_dots;
use literals::Literals;

pub(crate) use jest::Jest;
pub(crate) use mocha::Mocha;
pub(crate) use node_test::NodeTest;
pub(crate) use vitest::Vitest;

/// The endings of files that Node.js, or a compiler on its way there, takes for programs.
const ENDINGS: [&str; 8] = ["js", "cjs", "mjs", "jsx", "ts", "cts", "mts", "tsx"];

/// Whether a file is a program.
fn is_program(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

/// A worker program, which Node.js runs. The first isolation is the default.
fn worker(
    name: &'static str,
    source: &'static str,
    isolations: &[Isolation],
    options: &LaunchOptions,
) -> Launch {
    let mut worker = WorkerLaunch::embedded(&["node", "nodejs"], name, source, options);
    worker.isolation = options.isolation.unwrap_or(isolations[0]);
    Launch::Worker(worker)
}

/// The plain values of a file of the project; nothing where it can't be read.
fn literals_of(project: &Path, name: &str) -> Literals {
    let text = std::fs::read(project.join(name)).unwrap_or_default();
    Literals::read(&String::from_utf8_lossy(&text))
}

/// Globs as JavaScript's libraries have them, as patterns over the project's paths.
fn patterns(globs: &[String]) -> Result<Vec<Pattern>, DiscoverError> {
    globs
        .iter()
        .flat_map(|glob| without_choices(without_dots(glob)))
        .map(|glob| path_pattern(&glob))
        .collect()
}

/// A glob with choices in brackets, `?(*.)+(spec|test)`, as globs without them.
fn without_choices(glob: &str) -> Vec<String> {
    let Some((start, kind)) = glob.match_indices('(').find_map(|(index, _)| {
        let kind = glob[..index].chars().next_back().filter(|kind| "?*+@!".contains(*kind))?;
        Some((index - 1, kind))
    }) else {
        return vec![glob.to_owned()];
    };
    let inner = start + 2;
    let Some(length) = closing_bracket(&glob[inner..]) else { return vec![glob.to_owned()] };
    let (choices, rest) = (&glob[inner..inner + length], &glob[inner + length + 1..]);
    let mut choices: Vec<&str> = if kind == '!' { vec!["*"] } else { choices.split('|').collect() };
    if matches!(kind, '?' | '*') {
        choices.push("");
    }
    let rests = without_choices(rest);
    let before = &glob[..start];
    choices
        .into_iter()
        .flat_map(|choice| rests.iter().map(move |rest| format!("{before}{choice}{rest}")))
        .collect()
}

/// Where the bracket that is open before the text is closed.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.find(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth < 0
    })
}

/// The argument of an option, `--config x` or `--config=x`, in a list of words.
fn argument<'a>(words: &'a [String], names: &[&str]) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(index, word)| {
        if names.contains(&word.as_str()) {
            return words.get(index + 1).map(String::as_str);
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_become_globs_of_their_own() {
        let globs = without_choices("**/?(*.)+(spec|test).[jt]s?(x)");
        assert_eq!(globs.len(), 8);
        let patterns = patterns(&["**/?(*.)+(spec|test).[jt]s?(x)".to_owned()]).unwrap();
        for (path, matches) in [
            ("a.test.js", true),
            ("src/a.spec.tsx", true),
            ("src/test.ts", true),
            ("src/a.test.json", false),
            ("src/testing.js", false),
        ] {
            assert_eq!(patterns.iter().any(|pattern| pattern.matches(Path::new(path))), matches, "{path}");
        }
        assert_eq!(without_choices("a(b)c"), ["a(b)c"]);
        assert_eq!(without_choices("@(a|b"), ["@(a|b"]);
    }

    #[test]
    fn options_have_their_argument_in_two_ways() {
        let words = ["--a", "1", "--config=x.js"].map(str::to_owned);
        assert_eq!(argument(&words, &["--config", "-c"]), Some("x.js"));
        assert_eq!(argument(&words, &["--a"]), Some("1"));
        assert_eq!(argument(&words, &["1"]), Some("--config=x.js"));
        assert_eq!(argument(&words, &["-c"]), None);
    }
}
