//! What bats writes while it runs a file: its own extended TAP, before any formatter.
//!
//! ```text
//! 1..2
//! suite /project/test/a.bats
//! begin 1 adds
//! not ok 1 adds in 14ms
//! # (in test file test/a.bats, line 3)
//! #   `[ "$sum" -eq 4 ]' failed
//! # what the test printed
//! ```
//!
//! A test's name may be anything, also what looks like a duration or a directive; `begin` says where it ends. Tests may write
//! to this stream as well (to descriptor 3), so no line can be relied upon.

use std::collections::BTreeMap;

use crate::excerpt::Excerpt;

/// How much of each end of what is said of a test is kept.
const SAID_BYTES: usize = 500_000;

/// How many tests may run at once before their beginnings are forgotten.
const BEGUN_LIMIT: usize = 100_000;

/// What came of a test, or of a function around the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// Its name; for a function around tests what bats says instead, `setup_file failed`.
    pub(crate) name: String,
    /// It is no test but a function around tests.
    pub(crate) is_hook: bool,
    /// What came of it.
    pub(crate) result: TestOutcome,
    /// How long it took, where bats was asked to say so.
    pub(crate) milliseconds: Option<u64>,
    /// What went wrong, in one line; empty where bats does not say.
    pub(crate) message: String,
    /// Where: a file and a line.
    pub(crate) place: Option<(String, u32)>,
    /// All that is said of it, and what it printed.
    pub(crate) details: String,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TestOutcome {
    Passed,
    Failed,
    /// With the reason, which may be empty.
    Skipped(String),
    /// It began and never ended.
    Vanished,
}

/// Reads the stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    planned: Option<u64>,
    /// The names of tests that have begun and not ended, by number.
    begun: BTreeMap<u64, String>,
    /// A result whose comments may still come.
    pending: Option<(Test, Excerpt)>,
    /// How many results there were.
    results: u64,
    /// What bats says of the run as a whole.
    warning: Option<String>,
}

/// The words of a result's line.
struct ResultLine<'a> {
    ok: bool,
    number: u64,
    rest: &'a str,
}

impl Stream {
    /// Takes the next line; gives the test it completes.
    pub(crate) fn line(&mut self, line: &str) -> Option<Test> {
        if let Some(comment) = line.strip_prefix('#') {
            self.comment(comment.strip_prefix(' ').unwrap_or(comment));
            return None;
        }
        if let Some(result) = result_line(line) {
            let completed = self.complete();
            let test = self.test(&result);
            self.results += 1;
            self.pending = Some((test, Excerpt::new(SAID_BYTES)));
            return completed;
        }
        if let Some((number, name)) = line.strip_prefix("begin ").and_then(numbered) {
            let completed = self.complete();
            self.begun.insert(number, name.to_owned());
            if self.begun.len() > BEGUN_LIMIT {
                self.begun.pop_first();
            }
            return completed;
        }
        if let (None, Some(tests)) = (self.planned, line.strip_prefix("1..")) {
            self.planned = tests.trim().parse().ok();
        }
        None
    }

    /// Ends the stream; gives the tests that are still to be told of.
    pub(crate) fn finish(&mut self) -> Vec<Test> {
        let completed = self.complete();
        let vanished = std::mem::take(&mut self.begun).into_values().map(|name| Test {
            name,
            is_hook: false,
            result: TestOutcome::Vanished,
            milliseconds: None,
            message: "its process ended without a result".to_owned(),
            place: None,
            details: String::new(),
        });
        completed.into_iter().chain(vanished).collect()
    }

    /// How many tests there are to be.
    pub(crate) fn planned(&self) -> Option<u64> {
        self.planned
    }

    /// How many results there were.
    pub(crate) fn results(&self) -> u64 {
        self.results
    }

    /// The tests that have begun and not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = &str> {
        self.begun.values().map(String::as_str)
    }

    /// What bats says of the run as a whole, if anything.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn comment(&mut self, comment: &str) {
        if comment.starts_with("bats warning:") {
            self.warning = Some(comment.to_owned());
        } else if let Some((test, said)) = &mut self.pending {
            if test.message.is_empty() {
                test.message = failed_command(comment).unwrap_or_default();
            }
            test.place = place(comment).or(test.place.take());
            said.push(comment.as_bytes());
            said.push(b"\n");
        }
    }

    fn complete(&mut self) -> Option<Test> {
        let (mut test, said) = self.pending.take()?;
        test.details = said.text().trim_end().to_owned();
        if test.message.is_empty() && test.result == TestOutcome::Failed {
            test.message = test
                .details
                .lines()
                .map(str::trim)
                .find(|line| !line.is_empty())
                .unwrap_or_default()
                .to_owned();
        }
        Some(test)
    }

    fn test(&mut self, line: &ResultLine<'_>) -> Test {
        let begun = self.begun.remove(&line.number);
        // Where the name is known, what follows it is bats' own.
        let after = begun.as_ref().and_then(|name| line.rest.strip_prefix(name.as_str()));
        let (name, said) = match (begun, after) {
            (Some(name), Some(after)) => (name, Said::read(after)),
            (Some(name), None) => (name, Said::default()),
            (None, _) => Said::at_end_of(line.rest),
        };
        let is_hook = !line.ok && is_hook(&name);
        let result = match (line.ok, said.skipped) {
            (true, Some(reason)) => TestOutcome::Skipped(reason),
            (true, None) => TestOutcome::Passed,
            (false, _) => TestOutcome::Failed,
        };
        let (message, place, details) = (said.timeout.unwrap_or_default(), None, String::new());
        Test { name, is_hook, result, milliseconds: said.milliseconds, message, place, details }
    }
}

/// What bats says behind a test's name.
#[derive(Default)]
struct Said {
    milliseconds: Option<u64>,
    skipped: Option<String>,
    timeout: Option<String>,
}

impl Said {
    /// Reads all that stands behind a name.
    fn read(text: &str) -> Said {
        let (timing, directive) = text.split_once(" # ").or(text.split_once(" #")).unwrap_or((text, ""));
        let milliseconds = timing.strip_prefix(" in ").and_then(|timing| timing.strip_suffix("ms"));
        let skipped = directive.strip_prefix("skip").map(|reason| reason.trim().to_owned());
        let timeout = directive.starts_with("timeout").then(|| directive.to_owned());
        Said { milliseconds: milliseconds.and_then(|number| number.parse().ok()), skipped, timeout }
    }

    /// Takes it from the end of a text whose beginning is the name.
    fn at_end_of(text: &str) -> (String, Said) {
        let (named, directive) = match text.rsplit_once(" # ") {
            Some((named, directive)) if directive.starts_with("skip") || directive.starts_with("timeout") => {
                (named, &text[named.len()..])
            }
            _ => (text, ""),
        };
        let name = match named.rsplit_once(" in ") {
            Some((name, time)) if time.strip_suffix("ms").is_some_and(|time| time.parse::<u64>().is_ok()) => {
                name
            }
            _ => named,
        };
        (name.to_owned(), Said::read(&format!("{}{directive}", &named[name.len()..])))
    }
}

fn result_line(line: &str) -> Option<ResultLine<'_>> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = numbered(rest)?;
    Some(ResultLine { ok, number, rest })
}

fn numbered(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some((number.parse().ok()?, rest))
}

/// The functions around tests, as bats names them when they fail.
fn is_hook(name: &str) -> bool {
    let function = name.strip_suffix(" failed").unwrap_or(name);
    matches!(
        function,
        "setup_file" | "teardown_file" | "setup_suite" | "teardown_suite" | "source" | "unknown internal"
    )
}

/// `  \`false' failed with status 1`
fn failed_command(comment: &str) -> Option<String> {
    let command = comment.strip_prefix("  `")?;
    command.contains("' failed").then(|| comment.trim().to_owned())
}

/// `(in test file test/a.bats, line 3)`, and the same for the functions it was called through.
fn place(comment: &str) -> Option<(String, u32)> {
    let is_trace = comment.starts_with('(') || comment.starts_with(" in test file ");
    let (_, file) = comment.split_once("in test file ").filter(|_| is_trace)?;
    let (file, line) = file.trim_end_matches([')', ',']).rsplit_once(", line ")?;
    Some((file.to_owned(), line.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{assert_keeps_little, damaged};

    fn read(text: &str) -> (Vec<Test>, Stream) {
        let mut stream = Stream::default();
        let mut tests: Vec<Test> = text.lines().filter_map(|line| stream.line(line)).collect();
        tests.extend(stream.finish());
        (tests, stream)
    }

    #[test]
    fn a_run_with_everything() {
        let (tests, stream) = read(
            "1..6\nsuite /p/a.bats\n# said by setup_file\nbegin 1 passes\nok 1 passes in 51ms\nbegin 2 fails\n# said on the way\n\
             not ok 2 fails in 66ms\n# (from function `helper' in file b/h.bash, line 8,\n#  in test file b/a.bats, line 9)\n\
             #   `helper' failed with status 3\n# some output\n#\n# more\nbegin 3 skips\nok 3 skips in 4ms # skip no network\n\
             begin 4 is skipped\nok 4 is skipped # skip\nbegin 5 dies\nbegin 6 slow\nraw\n\
             not ok 6 slow in 1031ms # timeout after 1s\n# bats warning: Executed 5 instead of expected 6 tests\n",
        );
        let told: Vec<_> =
            tests.iter().map(|test| (test.name.as_str(), &test.result, test.milliseconds)).collect();
        let skipped = |reason: &str| TestOutcome::Skipped(reason.to_owned());
        assert_eq!(
            told,
            [
                ("passes", &TestOutcome::Passed, Some(51)),
                ("fails", &TestOutcome::Failed, Some(66)),
                ("skips", &skipped("no network"), Some(4)),
                ("is skipped", &skipped(""), None),
                ("slow", &TestOutcome::Failed, Some(1031)),
                ("dies", &TestOutcome::Vanished, None),
            ]
        );
        assert_eq!(tests[1].message, "`helper' failed with status 3");
        assert_eq!(tests[1].place, Some(("b/a.bats".to_owned(), 9)));
        assert!(tests[1].details.ends_with("some output\n\nmore"), "{}", tests[1].details);
        assert_eq!(tests[4].message, "timeout after 1s");
        assert_eq!((stream.planned(), stream.results()), (Some(6), 5));
        assert_eq!(stream.warning(), Some("bats warning: Executed 5 instead of expected 6 tests"));
    }

    #[test]
    fn functions_around_tests() {
        let (tests, _) = read(
            "1..1\nnot ok 1 setup_file failed\n# (from function `setup_file' in test file a.bats, line 1)\n#   `false' failed\n",
        );
        assert!(tests[0].is_hook);
        assert_eq!(
            (tests[0].message.as_str(), &tests[0].place),
            ("`false' failed", &Some(("a.bats".to_owned(), 1)))
        );
        let (tests, _) = read("1..1\nnot ok 1 setup_file failed\n# a.bats: line 9: syntax error\n");
        assert_eq!(tests[0].message, "a.bats: line 9: syntax error");
    }

    proptest! {
        /// A name is read as it is, whatever it looks like.
        #[test]
        fn any_name_is_read_back(
            name in "[a-z #$'\"\\\\]{0,8}( in [0-9]{1,3}ms)?( # (skip|timeout after 1s)( x)?)?",
            milliseconds in proptest::option::of(0..10_000_u64),
            reason in proptest::option::of("[a-z#]{1,5}"),
        ) {
            let timing = milliseconds.map_or(String::new(), |time| format!(" in {time}ms"));
            let skip = reason.as_ref().map_or(String::new(), |reason| format!(" # skip {reason}"));
            let (tests, _) = read(&format!("1..1\nbegin 1 {name}\nok 1 {name}{timing}{skip}\n"));
            prop_assert_eq!(tests.len(), 1);
            prop_assert_eq!(&tests[0].name, &name);
            prop_assert_eq!(tests[0].milliseconds, milliseconds);
            let result = reason.map_or(TestOutcome::Passed, TestOutcome::Skipped);
            prop_assert_eq!(&tests[0].result, &result);
        }

        #[test]
        fn nothing_makes_it_panic(lines in proptest::collection::vec(
            "(begin|ok|not ok|#|1\\.\\.)? ?[0-9]{0,20} ?\\PC{0,30}( # skip| in 3ms|, line 9\\))?", 0..30,
        )) {
            let results = lines.iter().filter(|line| result_line(line).is_some()).count();
            let (tests, stream) = read(&lines.join("\n"));
            prop_assert!(tests.len() >= results);
            prop_assert_eq!(stream.results(), results as u64);
        }
    }

    const SAMPLE: &str = "1..3\nbegin 1 adds\nok 1 adds in 3ms\nbegin 2 fails\nnot ok 2 fails in 12ms\n\
        # (in test file t/a.bats, line 7)\n#   `false' failed\nbegin 3 skips\nok 3 skips # skip no reason\n";
    const WORDS: &[&str] = &[
        "begin ",
        "ok ",
        "not ok ",
        "# ",
        " # skip",
        " in 3ms",
        "1..",
        ", line 9)\n",
        "# bats warning: ",
        " # timeout after 1s",
    ];

    proptest! {
        #[test]
        fn nothing_damaged_makes_it_panic(output in damaged(SAMPLE, WORDS)) {
            let text = String::from_utf8_lossy(&output);
            let (tests, stream) = read(&text);
            prop_assert!(tests.len() as u64 >= stream.results());
            let kept: usize = tests.iter().map(|test| test.details.len()).sum();
            prop_assert!(kept <= 2 * text.len());
        }
    }

    #[test]
    fn a_flood_is_not_kept() {
        for line in ["# said\n", "begin 7 the same\n", "ok 1 the same\n", "no line of bats\n"] {
            let mut stream = Stream::default();
            stream.line("not ok 1 fails");
            assert_keeps_little(3 << 20, 4 << 20, line.as_bytes(), |line| {
                drop(stream.line(std::str::from_utf8(line).unwrap().trim_end()));
            });
        }
    }
}
