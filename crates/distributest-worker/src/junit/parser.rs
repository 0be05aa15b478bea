//! Reads JUnit XML as the programs that write it mean it.
//!
//! There is no one standard. What is understood: `testsuites` and `testsuite` in any depth, `testcase` with `failure`,
//! `error`, `skipped` (also `disabled`, and the attributes GoogleTest and CTest use instead), several of them in one case,
//! Surefire's reruns (`flakyFailure`: it passed in the end; `rerunFailure`: it failed again), failures of a suite or of the
//! report itself, failures that are only counted, cases in cases, `system-out`, `file` and `line`, times with thousands
//! separators.
//!
//! Entities a document defines itself are left as they stand, so nothing grows and nothing is fetched.

use std::io::{self, BufRead};

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::case::{Case, CaseOutcome, Said, append, is_failure, meaning};
use super::suite::{Suite, counted};

/// How deep elements may stand in each other.
const DEPTH_LIMIT: usize = 256;

/// What programs that write no `failure` have in the attributes of a failed case.
const FAILED: &[&str] = &["fail", "failed", "failure", "error", "errored", "broken"];

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JunitError {
    /// It is no XML, or it can't be read.
    #[error("failed to read it as XML")]
    Xml(#[source] Box<quick_xml::Error>),
    /// It ends too early.
    #[error("it ends in the middle of <{element}>")]
    Truncated {
        /// The innermost element that is open.
        element: String,
    },
    /// It is XML of another kind.
    #[error("it is no JUnit XML: its root is <{root}>, not <testsuites> or <testsuite>")]
    OtherRoot {
        /// The root's name.
        root: String,
    },
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// Elements stand in each other without end.
    #[error("its elements stand more than {DEPTH_LIMIT} deep in each other")]
    TooDeep,
}

/// Reads a document; hands each case on as it ends. Where it fails, `position` is the byte at which.
pub(crate) fn read<R: BufRead, E: From<JunitError>>(
    document: R,
    position: &mut u64,
    mut case: impl FnMut(Case) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader::from_reader(document);
    reader.config_mut().expand_empty_elements = true;
    let (mut walk, mut buffer) = (Walk::default(), Vec::new());
    loop {
        let event = reader.read_event_into(&mut buffer).map_err(|error| {
            *position = reader.error_position();
            JunitError::Xml(Box::new(error))
        })?;
        let is_end = matches!(event, Event::Eof);
        *position = reader.buffer_position();
        if let Some(ended) = walk.event(event)? {
            case(ended)?;
        }
        if is_end {
            return Ok(());
        }
        buffer.clear();
    }
}

/// Where in a document the reader is.
#[derive(Debug, Default)]
struct Walk {
    /// The names of the elements that are open.
    open: Vec<String>,
    /// Those that are open, the report as a whole among them.
    suites: Vec<Suite>,
    /// Those that are open; some programs write cases into cases.
    cases: Vec<Case>,
    said: Option<Said>,
    has_root: bool,
}

impl Walk {
    fn event(&mut self, event: Event<'_>) -> Result<Option<Case>, JunitError> {
        match event {
            Event::Start(element) => self.start(&element)?,
            Event::End(_) => return Ok(self.end()),
            Event::Text(text) => self.text(&String::from_utf8_lossy(&text)),
            Event::CData(text) => self.text(&String::from_utf8_lossy(&text)),
            Event::GeneralRef(reference) => self.text(&meaning_of(&reference)),
            Event::Eof => match self.open.pop() {
                Some(element) => return Err(JunitError::Truncated { element }),
                None if !self.has_root => return Err(JunitError::Empty),
                None => {}
            },
            _ => {}
        }
        Ok(None)
    }

    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), JunitError> {
        let name = String::from_utf8_lossy(element.local_name().as_ref()).into_owned();
        if self.open.is_empty() && !matches!(name.as_str(), "testsuites" | "testsuite") {
            return Err(JunitError::OtherRoot { root: name });
        }
        if self.open.len() >= DEPTH_LIMIT {
            return Err(JunitError::TooDeep);
        }
        self.has_root = true;
        if self.said.is_none() {
            match name.as_str() {
                "testsuites" | "testsuite" => self.suites.push(begin_suite(&name, element)),
                "testcase" => {
                    let case = self.begin_case(element);
                    self.name_failures(u64::from(case.outcome == CaseOutcome::Failed));
                    self.cases.push(case);
                }
                _ => self.begin_said(&name, element),
            }
        }
        self.open.push(name);
        Ok(())
    }

    fn begin_case(&self, element: &BytesStart<'_>) -> Case {
        let attribute = |key: &str| attribute(element, key);
        let suite = self.suites.last();
        let is_one_of = |key: &str, words: &[&str]| {
            attribute(key).is_some_and(|value| words.contains(&value.to_ascii_lowercase().as_str()))
        };
        let is_skipped = is_one_of("status", &["notrun", "disabled", "skipped"])
            || is_one_of("result", &["suppressed", "skipped"]);
        let outcome = match is_skipped {
            _ if is_one_of("status", FAILED) || is_one_of("result", FAILED) => CaseOutcome::Failed,
            true => CaseOutcome::Skipped,
            false => CaseOutcome::Passed,
        };
        Case {
            suite: suite.map(|suite| suite.name.clone()).unwrap_or_default(),
            class: attribute("classname").or(attribute("class")).unwrap_or_default(),
            name: attribute("name").unwrap_or_default(),
            seconds: attribute("time").map_or(0.0, |time| seconds(&time)),
            file: attribute("file").or(suite.and_then(|suite| suite.file.clone())),
            line: attribute("line").and_then(|line| line.parse().ok()),
            outcome,
            ..Case::default()
        }
    }

    fn begin_said(&mut self, name: &str, element: &BytesStart<'_>) {
        // Of a suite only what is right in it.
        let is_of_something = self.is_in_case() || self.open.last().is_some_and(|open| is_suite(open));
        let Some(meaning) = meaning(name).filter(|_| is_of_something) else { return };
        self.name_failures(u64::from(is_failure(name)));
        self.said = Some(Said {
            meaning,
            depth: self.open.len() + 1,
            message: attribute(element, "message").unwrap_or_default(),
            kind: attribute(element, "type").unwrap_or_default(),
            text: String::new(),
        });
    }

    fn name_failures(&mut self, number: u64) {
        if let Some(suite) = self.suites.last_mut() {
            suite.named += number;
        }
    }

    /// Whether the innermost of the cases and suites that are open is a case.
    fn is_in_case(&self) -> bool {
        let innermost = self.open.iter().rfind(|open| *open == "testcase" || is_suite(open));
        innermost.is_some_and(|open| open == "testcase")
    }

    fn text(&mut self, text: &str) {
        if let Some(said) = &mut self.said {
            append(&mut said.text, text);
        }
    }

    fn end(&mut self) -> Option<Case> {
        let is_over = self.said.as_ref().is_some_and(|said| said.depth == self.open.len());
        let name = self.open.pop()?;
        if is_over && let Some(said) = self.said.take() {
            if !self.is_in_case() {
                return self.suites.last().filter(|_| said.is_failure()).map(|suite| suite.failure(said));
            }
            self.cases.last_mut()?.take(said);
        } else if self.said.is_none() && name == "testcase" {
            return self.cases.pop();
        } else if self.said.is_none() && is_suite(&name) {
            let suite = self.suites.pop()?;
            // Those that are missing here are missing in no other suite.
            self.name_failures(suite.named.max(suite.counted));
            return suite.missing_failures();
        }
        None
    }
}

fn is_suite(element: &str) -> bool {
    matches!(element, "testsuites" | "testsuite")
}

fn begin_suite(name: &str, element: &BytesStart<'_>) -> Suite {
    let attribute = |key: &str| attribute(element, key);
    let counted = counted(attribute("failures").as_deref());
    // What a report as a whole is called is of no use to anybody.
    if name == "testsuites" {
        return Suite { counted, ..Suite::default() };
    }
    Suite {
        name: attribute("name").unwrap_or_default(),
        file: attribute("file").filter(|file| !file.is_empty()),
        counted,
        named: 0,
    }
}

fn attribute(element: &BytesStart<'_>, key: &str) -> Option<String> {
    let mut attributes = element.attributes();
    let found = attributes
        .with_checks(false)
        .flatten()
        .find(|found| found.key.local_name().as_ref() == key.as_bytes())?;
    let raw = String::from_utf8_lossy(&found.value).into_owned();
    Some(unescape(&raw).map(|text| text.into_owned()).unwrap_or(raw))
}

/// The text that a reference stands for; one to an entity of the document stays as it is.
fn meaning_of(reference: &BytesRef<'_>) -> String {
    let name = String::from_utf8_lossy(reference).into_owned();
    let character = reference.resolve_char_ref().ok().flatten();
    let predefined = quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned);
    character.map(String::from).or(predefined).unwrap_or_else(|| format!("&{name};"))
}

/// Reads a time: `0.5`, `1,234.5`, `0,5`.
fn seconds(text: &str) -> f64 {
    let text = text.trim();
    let is_decimal_comma = match text.split_once(',') {
        Some((whole, rest)) => !text.contains('.') && (rest.len() != 3 || whole == "0"),
        None => false,
    };
    let text = if is_decimal_comma { text.replace(',', ".") } else { text.replace(',', "") };
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0).unwrap_or_default()
}

/// The line a byte of a document is on, from 1.
pub(crate) fn line_at(document: impl BufRead, position: u64) -> io::Result<u64> {
    let mut before = document.take(position);
    let mut line = 1;
    loop {
        let bytes = before.fill_buf()?;
        if bytes.is_empty() {
            return Ok(line);
        }
        line += memchr::memchr_iter(b'\n', bytes).count() as u64;
        let length = bytes.len();
        before.consume(length);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::damaged;

    fn cases(document: &str) -> Result<Vec<Case>, JunitError> {
        let mut cases = Vec::new();
        let read = read(document.as_bytes(), &mut 0, |case| {
            cases.push(case);
            Ok::<(), JunitError>(())
        });
        read.map(|()| cases)
    }

    fn case(inner: &str) -> Case {
        let document =
            format!("<testsuite name='s'><testcase classname='c' name='n'>{inner}</testcase></testsuite>");
        cases(&document).unwrap().remove(0)
    }

    #[test]
    fn suites_in_suites_and_what_they_say_of_cases() {
        let document = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites><testsuite name="outer" file="/p/tests/OuterTest.php">
              <properties><property name="a" value="b"/></properties>
              <testsuite name="inner">
                <testcase name="one" classname="Outer" file="/p/a.php" line="12" time="1,234.5" assertions="1"/>
              </testsuite>
              <testcase name="two &amp; three" class="Outer" time="0.25"><skipped message="no net"/></testcase>
            </testsuite></testsuites>"#;
        let cases = cases(document).unwrap();
        let one = Case {
            suite: "inner".into(),
            class: "Outer".into(),
            name: "one".into(),
            seconds: 1234.5,
            file: Some("/p/a.php".into()),
            line: Some(12),
            ..Case::default()
        };
        assert_eq!(cases[0], one);
        assert_eq!(
            (cases[1].name.as_str(), cases[1].file.as_deref()),
            ("two & three", Some("/p/tests/OuterTest.php"))
        );
        assert_eq!((cases[1].outcome, cases[1].message.as_str()), (CaseOutcome::Skipped, "no net"));
    }

    #[test]
    fn failures_in_all_their_forms() {
        let failed = case("<failure message='expected 1' type='Assert'>at a.c:3\nmore</failure>");
        assert_eq!((failed.outcome, failed.message.as_str()), (CaseOutcome::Failed, "expected 1"));
        assert_eq!(failed.details, "at a.c:3\nmore");
        assert_eq!(case("<error type='E'/>").message, "E");
        assert_eq!(case("<error>\n  first\nsecond</error>").message, "first");
        let php = case(
            "<failure>c::n with data set #0 (1)\nFailed asserting that 2 is 1.\n\n/p/a.php:3\n</failure>",
        );
        assert_eq!(php.message, "Failed asserting that 2 is 1.");
        let google =
            case("<failure message='a.cc:7&#x0A;Expected equality of:&#x0A;  4&#x0A;  1 + 2'>x</failure>");
        assert_eq!(google.message, "Expected equality of: 4; 1 + 2");
        let risky = case("<error type='PHPUnit\\Framework\\RiskyTestError'>c::n\nno assertions</error>");
        assert_eq!((risky.outcome, risky.message.as_str()), (CaseOutcome::Passed, "no assertions"));
        let both = case(
            "<failure message='a'>A</failure><error message='b'>B</error><failure message='c'>C</failure>",
        );
        assert_eq!(
            (both.outcome, both.message.as_str(), both.details.as_str()),
            (CaseOutcome::Error, "b", "A\n\nB\n\nC")
        );
        let text = case("<failure><![CDATA[a < b && ]]>c &lt; d &#65; &unknown;</failure>");
        assert_eq!(text.details, "a < b && c < d A &unknown;");
    }

    #[test]
    fn tries_and_output() {
        let flaky = case(
            "<flakyFailure message='first'><stackTrace>at x</stackTrace><system-out>o</system-out></flakyFailure>",
        );
        assert_eq!((flaky.outcome, flaky.message.as_str()), (CaseOutcome::Passed, "first"));
        let again = case(
            "<failure message='a'>A</failure><rerunFailure message='b'><stackTrace>B</stackTrace></rerunFailure>",
        );
        assert_eq!(
            (again.outcome, again.message.as_str(), again.details.as_str()),
            (CaseOutcome::Failed, "a", "A\n\nB")
        );
        let output = case("<system-out>out</system-out><system-err><![CDATA[err]]></system-err>");
        assert_eq!(
            (output.outcome, output.output.as_str(), output.details.as_str()),
            (CaseOutcome::Passed, "out\n\nerr", "")
        );
    }

    #[test]
    fn what_other_programs_write_instead() {
        let document = "<testsuites><testsuite name='G'>
            <testcase name='DISABLED_a' status='notrun' result='suppressed' classname='G'/>
            <testcase name='b' status='run' result='completed' classname='G'/>
            <testcase name='c' status='disabled'/><testcase name='d' status='fail'><failure/></testcase>
            <error message='could not load'>trace</error></testsuite></testsuites>";
        let outcomes: Vec<_> =
            cases(document).unwrap().into_iter().map(|case| (case.name, case.outcome)).collect();
        let expected = [
            ("DISABLED_a", CaseOutcome::Skipped),
            ("b", CaseOutcome::Passed),
            ("c", CaseOutcome::Skipped),
            ("d", CaseOutcome::Failed),
            ("G", CaseOutcome::Error),
        ];
        assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    }

    /// The names, outcomes and messages of a document's cases.
    pub(in crate::junit) fn told(document: &str) -> Vec<(String, CaseOutcome, String)> {
        cases(document).unwrap().into_iter().map(|case| (case.name, case.outcome, case.message)).collect()
    }

    #[test]
    fn failures_of_the_whole_report_and_by_attributes() {
        let root = told(
            "<testsuites><error message='root bad'/><testsuite name='s'/><failure>x</failure></testsuites>",
        );
        let messages: Vec<_> = root.iter().map(|told| (told.0.as_str(), told.1, told.2.as_str())).collect();
        let expected = |message| ("testsuites", CaseOutcome::Error, message);
        assert_eq!(messages, [expected("root bad"), expected("x")]);
        for attribute in
            ["status='failed'", "result='Failure'", "status='ERROR'", "result='errored'", "status='broken'"]
        {
            let document = format!("<testsuite><testcase name='a' {attribute}/></testsuite>");
            assert_eq!(
                told(&document),
                [("a".to_owned(), CaseOutcome::Failed, String::new())],
                "{attribute}"
            );
        }
        let both = told(
            "<testsuite><testcase name='a' status='failed'><failure message='m'/></testcase></testsuite>",
        );
        assert_eq!(both, [("a".to_owned(), CaseOutcome::Failed, "m".to_owned())]);
    }

    #[test]
    fn cases_in_cases_keep_their_failures() {
        for (before, after) in [("", ""), ("<testsuite name='s'>", "</testsuite>")] {
            let document = format!(
                "<testsuite><testcase name='outer'>{before}<testcase name='inner'><skipped/></testcase>{after}<failure/>\
                 </testcase><testcase name='next'/></testsuite>"
            );
            let outcomes: Vec<_> = told(&document).into_iter().map(|told| (told.0, told.1)).collect();
            let expected = [
                ("inner", CaseOutcome::Skipped),
                ("outer", CaseOutcome::Failed),
                ("next", CaseOutcome::Passed),
            ];
            assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)), "{document}");
        }
        let suite = "<testcase name='outer'><testsuite name='s'><error/><testcase name='inner'/></testsuite></testcase>";
        let names: Vec<_> = told(&format!("<testsuite>{suite}</testsuite>"))
            .into_iter()
            .map(|told| (told.0, told.1))
            .collect();
        let expected =
            [("s", CaseOutcome::Error), ("inner", CaseOutcome::Passed), ("outer", CaseOutcome::Passed)];
        assert_eq!(names, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    }

    #[test]
    fn times() {
        let read = [
            ("0.5", 0.5),
            ("1,234.5", 1234.5),
            ("1,234", 1234.0),
            ("0,5", 0.5),
            ("0,123", 0.123),
            ("12,5", 12.5),
        ];
        for (text, expected) in read {
            assert!((seconds(text) - expected).abs() < 1e-9, "{text}");
        }
        for text in ["", "-1", "NaN", "inf", "x"] {
            assert!(seconds(text) == 0.0, "{text}");
        }
    }

    #[test]
    fn what_is_no_junit_is_told_with_its_place() {
        let error = |document: &str| cases(document).unwrap_err().to_string();
        assert_eq!(error(""), "it is empty");
        assert_eq!(error("<testsuite><testcase>"), "it ends in the middle of <testcase>");
        assert!(error("<checkstyle/>").contains("its root is <checkstyle>"));
        assert_eq!(error(&"<testsuite>".repeat(300)), "its elements stand more than 256 deep in each other");
        let document = "<testsuite>\n<testcase name='a'/>\n</testcase>\n</testsuite>";
        let mut position = 0;
        let wrong = read(document.as_bytes(), &mut position, |_| Ok::<(), JunitError>(()));
        assert!(matches!(wrong, Err(JunitError::Xml(_))), "{wrong:?}");
        assert_eq!(line_at(document.as_bytes(), position).unwrap(), 3);
    }

    #[test]
    fn entities_of_the_document_do_not_grow() {
        let bomb = "<!DOCTYPE t [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>\
                    <testsuite name='&b;'><testcase name='x'><failure>&b;</failure></testcase></testsuite>";
        let case = cases(bomb).unwrap().remove(0);
        assert_eq!((case.suite.as_str(), case.details.as_str()), ("&b;", "&b;"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(parts in proptest::collection::vec(prop_oneof![
            Just("<testsuites>".to_owned()), Just("<testsuite name='a' file=''>".to_owned()), Just("</testsuite>".to_owned()),
            Just("<testcase name='b' time='1,2,3'>".to_owned()), Just("</testcase>".to_owned()), Just("<failure message=x>".to_owned()),
            Just("</failure>".to_owned()), Just("<skipped/>".to_owned()), Just("<![CDATA[".to_owned()), Just("]]>".to_owned()),
            Just("&#x110000;&#0;&lt".to_owned()), Just("<!DOCTYPE [".to_owned()), "\\PC{0,10}",
        ], 0..30)) {
            let _ = cases(&parts.concat());
            let _ = cases(&format!("<testsuites>{}", parts.concat()));
        }

        /// Names and texts come back as they were written.
        #[test]
        fn texts_survive(name in "\\PC{0,20}", text in "[^\\x00-\\x09\\x0b-\\x1f]{0,40}") {
            let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
            let document = format!(
                "<testsuite><testcase name=\"{}\"><failure>{}</failure></testcase></testsuite>", escape(&name), escape(&text)
            );
            let case = cases(&document).unwrap().remove(0);
            prop_assert_eq!(case.name, name);
            prop_assert_eq!(case.details, text.trim_matches(['\n', '\r']).trim_end());
        }
    }

    const SAMPLE: &str = "<?xml version='1.0'?><testsuites><testsuite name='s' file='a.py'>\
        <testcase name='one' classname='c' time='0.5' file='a.py' line='3'/><testcase name='two'>\
        <failure message='bad &amp; worse'>trace\n at b.py:4</failure><system-out><![CDATA[said]]></system-out></testcase>\
        <testcase name='three'><skipped/></testcase></testsuite></testsuites>";
    const WORDS: &[&str] = &[
        "<testsuite>",
        "</testsuite>",
        "<testcase name='",
        "</testcase>",
        "<failure>",
        "</failure>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&#x110000;",
        "&lt;",
        "<!DOCTYPE a [<!ENTITY b 'c'>",
        "'",
        "\"",
        "time='1e999'",
        "line='-1'",
        "<rerunFailure/>",
    ];

    proptest! {
        #[test]
        fn nothing_damaged_makes_it_panic(document in damaged(SAMPLE, WORDS)) {
            let (mut kept, mut position) = (0, 0);
            let _ = read(document.as_slice(), &mut position, |case: Case| {
                kept += case.name.len() + case.details.len();
                Ok::<(), JunitError>(())
            });
            prop_assert!(kept <= 4 * document.len() + 1024);
            prop_assert!(position <= document.len() as u64);
            line_at(document.as_slice(), position).unwrap();
        }
    }
}
