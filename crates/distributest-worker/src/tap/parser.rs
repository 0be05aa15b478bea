//! A TAP document: what its lines say together. Follows `TAP::Parser` 3.44, in bounded memory.
//!
//! Lines come in, [`Event`]s go out as soon as they can be told; the [`Summary`] holds what is only known at the end.
//! Version 14 is read as 13: what it adds are indented subtests, which are no tests of the document in any version.

use super::grammar::{Directive, PLAIN_VERSION, RICH_VERSION, TestToken, Token, token};

/// The newest version there is.
const NEWEST_VERSION: u64 = 14;

/// How many faults are kept; `prove` shows as many.
const FAULTS_KEPT: usize = 5;

/// How much of a YAML block is kept.
const YAML_LIMIT_BYTES: usize = 64 * 1024;

/// How many numbers of `1..9 todo 1 2 3` are kept.
const TODO_LIMIT: usize = 10_000;

/// What a document says, as it says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A test ended.
    Test(Test),
    /// `# text`, without the sign.
    Comment(String),
    /// A YAML block about the test before, without what it begins and ends with.
    Yaml(String),
    /// A line that is not TAP: of a subtest, or of something else that writes.
    Other(String),
}

/// A test of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// How many there were so far, this one included.
    pub(crate) position: u64,
    /// The number it has: what it says, else its position.
    pub(crate) number: u64,
    /// What it says it tests.
    pub(crate) description: String,
    /// What came of it.
    pub(crate) result: TestOutcome,
    /// Why it is skipped or expected to fail.
    pub(crate) reason: String,
}

/// What came of a test, as `prove` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TestOutcome {
    Passed,
    Failed,
    Skipped,
    /// It failed as expected.
    TodoFailed,
    /// It was expected to fail.
    TodoPassed,
    /// It passed, but there are more tests than planned, and for `prove` those fail.
    Unplanned,
}

/// What is known of a document when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How many tests it has.
    pub(crate) run: u64,
    /// How many of them failed.
    pub(crate) failed: u64,
    /// How many were skipped.
    pub(crate) skipped: u64,
    /// How many it said it would have.
    pub(crate) planned: Option<u64>,
    /// It says that none was to be run, and why.
    pub(crate) skip_all: Option<String>,
    /// It gave up, and why.
    pub(crate) bail_out: Option<String>,
    /// What is wrong with the document itself, in `prove`'s words; the first few.
    pub(crate) faults: Vec<String>,
}

/// Reads a document.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    version: Option<u64>,
    /// The first token that counts has come.
    begun: bool,
    plan: Option<Plan>,
    strict: bool,
    todo: Vec<u64>,
    yaml: Option<YamlBlock>,
    summary: Summary,
}

#[derive(Debug)]
struct Plan {
    tests: u64,
    /// It came after a test, so no test may come after it.
    is_last: bool,
}

#[derive(Debug)]
struct YamlBlock {
    indentation: usize,
    text: String,
}

impl Parser {
    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str, event: &mut impl FnMut(Event)) {
        // After it has given up, a document says nothing more.
        if self.summary.bail_out.is_some() || self.is_in_yaml(line, event) {
            return;
        }
        match token(line, self.version.unwrap_or(PLAIN_VERSION)) {
            Token::Version(version) => self.take_version(version),
            Token::Plan { tests, skip, todo } => self.take_plan(tests, skip, todo),
            Token::Test(test) => event(Event::Test(self.take_test(test))),
            Token::Comment(text) => event(Event::Comment(text)),
            Token::BailOut(reason) => self.summary.bail_out = Some(reason),
            Token::Pragmas(pragmas) => {
                let strict = pragmas.iter().rev().find(|(name, _)| name == "strict");
                self.strict = strict.map_or(self.strict, |(_, on)| *on);
            }
            Token::Yaml(indentation) => self.yaml = Some(YamlBlock { indentation, text: String::new() }),
            Token::Unknown => {
                if self.strict {
                    self.fault(format!("Unknown TAP token: \"{line}\""));
                }
                event(Event::Other(line.to_owned()));
            }
        }
    }

    /// Ends the document.
    pub(crate) fn finish(mut self, event: &mut impl FnMut(Event)) -> Summary {
        if let Some(block) = self.yaml.take() {
            event(Event::Yaml(block.text));
        }
        let run = self.summary.run;
        match self.plan.as_ref().map(|plan| plan.tests) {
            None => self.fault("No plan found in TAP output".to_owned()),
            Some(planned) if planned != run => {
                self.fault(format!("Bad plan.  You planned {planned} tests but ran {run}."));
            }
            Some(_) => {}
        }
        self.summary
    }

    /// Takes a line of a YAML block. A line that is indented less ends it, as its own last line does.
    fn is_in_yaml(&mut self, line: &str, event: &mut impl FnMut(Event)) -> bool {
        let Some(block) = &mut self.yaml else { return false };
        let indentation = line.len() - line.trim_start().len();
        let inside = indentation >= block.indentation || line.trim().is_empty();
        if inside && line.trim() != "..." {
            if block.text.len() + line.len() < YAML_LIMIT_BYTES {
                block.text.push_str(line.get(block.indentation..).unwrap_or_default());
                block.text.push('\n');
            }
            return true;
        }
        event(Event::Yaml(std::mem::take(&mut block.text)));
        self.yaml = None;
        inside
    }

    fn take_version(&mut self, version: u64) {
        if self.begun {
            self.fault("If TAP version is present it must be the first line of output".to_owned());
            return;
        }
        self.begun = true;
        if version < RICH_VERSION {
            self.fault(format!(
                "Explicit TAP version must be at least {RICH_VERSION}. Got version {version}"
            ));
        } else if version > NEWEST_VERSION {
            self.fault(format!(
                "TAP specified version {version} but we don't know about versions later than {NEWEST_VERSION}"
            ));
        }
        self.version = Some(version);
    }

    fn take_plan(&mut self, tests: u64, skip: Option<String>, mut todo: Vec<u64>) {
        self.begun = true;
        if self.plan.is_some() {
            self.fault("More than one plan found in TAP output".to_owned());
            return;
        }
        todo.truncate(TODO_LIMIT);
        self.todo = todo;
        self.plan = Some(Plan { tests, is_last: self.summary.run > 0 });
        self.summary.planned = Some(tests);
        self.summary.skip_all = skip;
    }

    fn take_test(&mut self, test: TestToken) -> Test {
        self.begun = true;
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.is_last) {
            plan.is_last = false;
            let tests = plan.tests;
            self.fault(format!("Plan (1..{tests}) must be at the beginning or end of the TAP output"));
        }
        self.summary.run += 1;
        let position = self.summary.run;
        let number = test.number.unwrap_or(position);
        if number != position {
            self.fault(format!("Tests out of sequence.  Found ({number}) but expected ({position})"));
        }
        let is_unplanned = self.plan.as_ref().is_some_and(|plan| position > plan.tests);
        let (mut directive, reason) =
            test.directive.map_or((None, String::new()), |(directive, reason)| (Some(directive), reason));
        if self.todo.contains(&number) {
            directive = Some(Directive::Todo);
        }
        let result = match (directive, test.ok) {
            (_, true) if is_unplanned => TestOutcome::Unplanned,
            (_, false) if is_unplanned => TestOutcome::Failed,
            (Some(Directive::Todo), true) => TestOutcome::TodoPassed,
            (Some(Directive::Todo), false) => TestOutcome::TodoFailed,
            (_, false) => TestOutcome::Failed,
            (Some(Directive::Skip), true) => TestOutcome::Skipped,
            (None, true) => TestOutcome::Passed,
        };
        self.summary.failed += u64::from(matches!(result, TestOutcome::Failed | TestOutcome::Unplanned));
        self.summary.skipped += u64::from(result == TestOutcome::Skipped);
        Test { position, number, description: test.description, result, reason }
    }

    fn fault(&mut self, fault: String) {
        if self.summary.faults.len() < FAULTS_KEPT {
            self.summary.faults.push(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{assert_keeps_little, damaged};

    fn parse(text: &str) -> (Vec<Event>, Summary) {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        text.lines().for_each(|line| parser.line(line, &mut |event| events.push(event)));
        let summary = parser.finish(&mut |event| events.push(event));
        (events, summary)
    }

    fn results(text: &str) -> Vec<(u64, TestOutcome)> {
        let tests = parse(text).0.into_iter().filter_map(|event| match event {
            Event::Test(test) => Some((test.number, test.result)),
            _ => None,
        });
        tests.collect()
    }

    fn faults(text: &str) -> Vec<String> {
        parse(text).1.faults
    }

    #[test]
    fn plan_first_last_missing_and_wrong() {
        assert!(faults("1..2\nok 1\nok 2\n").is_empty());
        assert!(faults("ok 1\nok 2\n# bye\n1..2\n").is_empty());
        assert!(faults("1..0 # SKIP no network\n").is_empty());
        assert_eq!(faults("ok 1\n"), ["No plan found in TAP output"]);
        assert_eq!(faults(""), ["No plan found in TAP output"]);
        assert_eq!(faults("1..3\nok 1\n"), ["Bad plan.  You planned 3 tests but ran 1."]);
        assert_eq!(faults("1..1\nok 1\nok 2\n"), ["Bad plan.  You planned 1 tests but ran 2."]);
        assert_eq!(faults("1..1\n1..1\nok 1\n"), ["More than one plan found in TAP output"]);
        assert_eq!(
            faults("ok 1\n1..3\nok 2\nok 3\n"),
            ["Plan (1..3) must be at the beginning or end of the TAP output"]
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(
            faults("1..3\nok 1\nok 3\nok 3\n"),
            ["Tests out of sequence.  Found (3) but expected (2)"]
        );
        let numbers: Vec<u64> = results("ok\nok 7\nok\n").into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 7, 3]);
    }

    #[test]
    fn outcomes() {
        use TestOutcome::{Failed, Passed, Skipped, TodoFailed, TodoPassed, Unplanned};
        let document = "1..7\nok 1\nnot ok 2\nok 3 # skip x\nnot ok 4 # TODO\nok 5 # TODO\nnot ok 6 # skip\nok 7\nok 8\n";
        let expected = [Passed, Failed, Skipped, TodoFailed, TodoPassed, Failed, Passed, Unplanned];
        assert_eq!(results(document).into_iter().map(|(_, result)| result).collect::<Vec<_>>(), expected);
        assert_eq!(parse(document).1.failed, 3);
        assert_eq!(results("1..2 todo 2\nok 1\nnot ok 2\n"), [(1, Passed), (2, TodoFailed)]);
    }

    #[test]
    fn bail_out_ends_the_document() {
        let (events, summary) = parse("1..3\nok 1\nBail out!  no disk\nok 2\n");
        assert_eq!(events.len(), 1);
        assert_eq!(summary.bail_out.as_deref(), Some("no disk"));
        assert_eq!(parse("    Bail out!\n").1.bail_out.as_deref(), Some(""));
    }

    #[test]
    fn versions_and_what_they_bring() {
        assert_eq!(
            faults("ok 1\nTAP version 13\n1..1\n"),
            ["If TAP version is present it must be the first line of output"]
        );
        assert_eq!(
            faults("TAP version 12\n1..0\n"),
            ["Explicit TAP version must be at least 13. Got version 12"]
        );
        assert_eq!(faults("TAP version 15\n1..0\n").len(), 1);
        assert!(faults("TAP version 14\n1..0\n").is_empty());
        assert!(faults("noise first\nTAP version 13\n1..0\n").is_empty());
        assert_eq!(
            faults("TAP version 13\npragma +strict\nnoise\npragma -strict\nnoise\n1..0\n"),
            ["Unknown TAP token: \"noise\""]
        );
        assert!(faults("pragma +strict\nnoise\n1..0\n").is_empty(), "no pragmas in plain TAP");
    }

    #[test]
    fn yaml_blocks() {
        let document =
            "TAP version 13\nnot ok 1\n  ---\n  message: no\n  ok 2\n    deeper\n  ...\nok 2\n1..2\n";
        let (events, summary) = parse(document);
        assert_eq!(events[1], Event::Yaml("message: no\nok 2\n  deeper\n".into()));
        assert_eq!(summary.run, 2);
        let unended = parse("TAP version 13\nnot ok 1\n  ---\n  message: no\nok 2\n1..2\n");
        assert_eq!((unended.0.len(), unended.1.run), (3, 2));
    }

    #[test]
    fn subtests_are_not_tests_of_the_document() {
        let document = "# Subtest: a\n    ok 1\n    not ok 2\n    1..2\nnot ok 1 - a\n1..1\n";
        assert_eq!(results(document), [(1, TestOutcome::Failed)]);
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "(not )?ok ?[0-9]{0,3}( - [a-z]{0,4})?( # (TODO|skip)( x)?)?",
            "1\\.\\.[0-9]{1,3}( # SKIP x)?",
            "TAP version 1[0-9]",
            "pragma [+-]strict",
            " *(---|\\.\\.\\.)",
            " *Bail out! ?",
            "#? ?\\PC{0,20}",
        ]
    }

    proptest! {
        /// What is counted is what is told, whatever the document.
        #[test]
        fn counts_agree_with_events(lines in proptest::collection::vec(line(), 0..40)) {
            let (events, summary) = parse(&lines.join("\n"));
            let tests: Vec<&Test> = events.iter().filter_map(|event| match event {
                Event::Test(test) => Some(test),
                _ => None,
            }).collect();
            prop_assert_eq!(tests.len() as u64, summary.run);
            for (expected, test) in (1..).zip(&tests) {
                prop_assert_eq!(test.position, expected);
            }
            let failed = |test: &&&Test| matches!(test.result, TestOutcome::Failed | TestOutcome::Unplanned);
            prop_assert_eq!(tests.iter().filter(failed).count() as u64, summary.failed);
            prop_assert!(summary.faults.len() <= FAULTS_KEPT);
            let as_planned = summary.planned == Some(summary.run);
            prop_assert!(as_planned || !summary.faults.is_empty());
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,200}", lines in proptest::collection::vec("\\PC{0,30}", 0..20)) {
            parse(&text);
            parse(&format!("TAP version 13\n{}", lines.join("\n")));
        }
    }

    const SAMPLE: &str = "TAP version 13\n1..4\nok 1 - adds\nnot ok 2 - fails\n  ---\n  message: bad\n  at:\n    line: 3\n  ...\n\
        # Subtest: inner\n    1..1\n    ok 1\nok 3 # SKIP no\nnot ok 4 # TODO later\nBail out!  no more\n";
    const WORDS: &[&str] = &[
        "ok ",
        "not ok ",
        "1..",
        " # SKIP ",
        " # TODO ",
        "Bail out!",
        "  ---\n",
        "  ...\n",
        "TAP version ",
        "pragma +strict\n",
        "# Subtest: ",
        "\\#",
        " - ",
        "    ",
    ];

    proptest! {
        #[test]
        fn nothing_damaged_makes_it_panic(document in damaged(SAMPLE, WORDS)) {
            let text = String::from_utf8_lossy(&document);
            let (events, summary) = parse(&text);
            let tests = events.iter().filter(|event| matches!(event, Event::Test(_))).count();
            prop_assert_eq!(tests as u64, summary.run);
        }
    }

    #[test]
    fn a_flood_is_not_kept() {
        for (before, line) in [
            ("1..1", "# a comment"),
            ("1..1", "no TAP"),
            ("not ok 1\n  ---", "  a line of YAML without end"),
            ("1..1", "ok 1"),
            ("1..1", "Bail out!  again"),
            ("1..1", "1..1"),
            ("1..1", "TAP version 12"),
        ] {
            let mut parser = Parser::default();
            before.lines().for_each(|line| parser.line(line, &mut drop));
            assert_keeps_little(1 << 20, 2 << 20, line.as_bytes(), |line| {
                parser.line(std::str::from_utf8(line).unwrap(), &mut drop);
            });
            parser.finish(&mut drop);
        }
    }
}
