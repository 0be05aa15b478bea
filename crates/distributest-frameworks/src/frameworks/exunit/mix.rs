//! Reads from `mix.exs`, which is a program, what it says in so many words of where tests are.
//!
//! A value that has to be computed is unknown here, and so is one of several: Mix's own then stands for it.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::DiscoverError;
use crate::rules::without_dots;

/// Where Mix looks for the tests of a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestFiles {
    /// Directories.
    paths: Vec<String>,
    /// A glob of names below them.
    pattern: String,
}

impl TestFiles {
    /// Those of the project in a directory, which need not have a `mix.exs`.
    pub(super) fn read(directory: &Path) -> Result<TestFiles, DiscoverError> {
        let path = directory.join("mix.exs");
        match fs::read(&path) {
            Ok(bytes) => Ok(TestFiles::of(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(TestFiles::of("")),
            Err(source) => Err(DiscoverError::ReadSettings { path, source }),
        }
    }

    fn of(program: &str) -> TestFiles {
        let program = without_comments(program);
        let paths = value(&program, "test_paths", strings);
        let pattern = value(&program, "test_pattern", string);
        TestFiles {
            paths: paths.unwrap_or_else(|| vec!["test".to_owned()]),
            pattern: pattern.unwrap_or_else(|| "*_test.exs".to_owned()),
        }
    }

    /// As globs, where the project is at `prefix`, which is empty or ends with a slash.
    pub(super) fn globs(&self, prefix: &str) -> impl Iterator<Item = String> {
        let pattern = &self.pattern;
        self.paths.iter().map(move |path| match without_dots(path) {
            "" => format!("{prefix}**/{pattern}"),
            file if file.ends_with(".exs") => format!("{prefix}{}", globset::escape(file)),
            path => format!("{prefix}{}/**/{pattern}", globset::escape(path)),
        })
    }
}

/// The value of a key that stands in a program once, and is nothing but what `literal` reads.
fn value<T>(program: &str, key: &str, literal: impl Fn(&str) -> Option<(T, &str)>) -> Option<T> {
    let key = format!("{key}:");
    let is_in_name = |before: &str| before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    let mut places = program.match_indices(&key).filter(|(at, _)| !is_in_name(&program[..*at]));
    let (at, _) = places.next()?;
    if places.next().is_some() {
        return None;
    }
    let (value, rest) = literal(program[at + key.len()..].trim_start())?;
    let rest = rest.trim_start();
    let is_all = rest.is_empty() || rest.starts_with([',', ']', ')', '}']) || rest.starts_with("end");
    is_all.then_some(value)
}

/// A list of strings, or of words (`~w(test spec)`), and what stands behind it.
fn strings(text: &str) -> Option<(Vec<String>, &str)> {
    if let Some(words) = text.strip_prefix("~w") {
        let mut words = words.chars();
        let close = match words.next()? {
            '(' => ')',
            '[' => ']',
            '{' => '}',
            '<' => '>',
            other => other,
        };
        let (words, rest) = words.as_str().split_once(close)?;
        return is_plain(words).then(|| (words.split_whitespace().map(str::to_owned).collect(), rest));
    }
    let mut rest = text.strip_prefix('[')?.trim_start();
    let mut strings = Vec::new();
    while !rest.starts_with(']') {
        let (one, behind) = string(rest)?;
        strings.push(one);
        rest = behind.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None => rest.starts_with(']').then_some(rest)?,
        };
    }
    Some((strings, &rest[1..]))
}

/// A string without anything that Elixir would replace, and what stands behind it.
fn string(text: &str) -> Option<(String, &str)> {
    let (string, rest) = text.strip_prefix('"')?.split_once('"')?;
    is_plain(string).then(|| (string.to_owned(), rest))
}

fn is_plain(text: &str) -> bool {
    !text.contains("#{") && !text.contains('\\')
}

/// A program of Elixir without its comments: what stands behind `#` outside of double quotes.
fn without_comments(program: &str) -> String {
    let (mut is_quoted, mut is_comment, mut is_escaped) = (false, false, false);
    let is_kept = |character: &char| {
        match character {
            '\n' => is_comment = false,
            '#' if !is_quoted => is_comment = true,
            '"' if !is_comment && !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = *character == '\\' && !is_escaped;
        !is_comment
    };
    program.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_and_nothing_else() {
        assert_eq!(string("\"a b\" c"), Some(("a b".to_owned(), " c")));
        for no_string in ["", "a", "'a'", "\"a", "\"\\n\"", "\"#{a}\""] {
            assert_eq!(string(no_string), None, "{no_string}");
        }
        let two = |rest| Some((vec!["a".to_owned(), "b".to_owned()], rest));
        assert_eq!(strings("[\"a\", \"b\"],"), two(","));
        assert_eq!(strings("[ \"a\",\n\"b\",\n]"), two(""));
        assert_eq!(strings("~w[a\n b]]"), two("]"));
        assert_eq!(strings("~w|a b|"), two(""));
        assert_eq!(strings("[]"), Some((Vec::new(), "")));
        for no_list in ["", "[", "[\"a\"", "[\"a\" \"b\"]", "[a]", "~w", "~w(a", "[\"a\",, \"b\"]", "\"a\""] {
            assert_eq!(strings(no_list), None, "{no_list}");
        }
    }

    #[test]
    fn comments_end_with_their_line_and_do_not_begin_in_strings() {
        assert_eq!(without_comments("a # b \"\nc \"# d\" # e"), "a \nc \"# d\" ");
        assert_eq!(without_comments("\"\\\"#a\" # b"), "\"\\\"#a\" ");
    }

    #[test]
    fn a_program_that_ends_anywhere_is_read() {
        let program = "[test_paths: [\"a\", \"b\"], \"\\\"\" # é\n test_pattern: ~wéa é, test_pattern: \"*é\", x: ~w(é)]";
        for (end, _) in program.char_indices() {
            TestFiles::of(&program[..end]);
            TestFiles::of(&program[end..]);
        }
        assert_eq!(strings("~wéaé"), Some((vec!["a".to_owned()], "")));
    }
}
