//! Reads JUnit XML as the programs that write it mean it.
//!
//! There is no one standard. What is understood: `testsuites` and `testsuite` in any depth, `testcase` with `failure`,
//! `error`, `skipped` (also `disabled`, and the attributes GoogleTest and CTest use instead), several of them in one case,
//! Surefire's reruns (`flakyFailure`: it passed in the end; `rerunFailure`: it failed again), failures of a suite itself,
//! `system-out`, `file` and `line`, times with thousands separators.
//!
//! Entities a document defines itself are left as they stand, so nothing grows and nothing is fetched.

use std::io::{self, BufRead};

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// How deep elements may stand in each other.
const DEPTH_LIMIT: usize = 256;

/// How much of what is said about a test is kept of each kind.
const TEXT_LIMIT_BYTES: usize = 1024 * 1024;

/// How many lines that a message announces belong to it.
const ANNOUNCED_LINES: usize = 3;

/// What PHPUnit calls an error in its results, and nowhere else.
const PHPUNIT_RISKY: &str = "PHPUnit\\Framework\\RiskyTestError";

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

/// One test case.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Case {
    /// The innermost suite it is in; may be empty.
    pub(crate) suite: String,
    /// Its class; may be empty.
    pub(crate) class: String,
    /// Its name.
    pub(crate) name: String,
    /// How long it took; zero where it is not said.
    pub(crate) seconds: f64,
    /// Where it stands, as the document says it.
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// What came of it.
    pub(crate) outcome: CaseOutcome,
    /// One line on it; may be empty.
    pub(crate) message: String,
    /// All that is said of it.
    pub(crate) details: String,
    /// What it printed.
    pub(crate) output: String,
}

/// What came of a test case; of several, the last one here counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CaseOutcome {
    #[default]
    Passed,
    Skipped,
    Failed,
    Error,
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
    suites: Vec<Suite>,
    case: Option<Case>,
    said: Option<Said>,
    has_root: bool,
}

#[derive(Debug)]
struct Suite {
    name: String,
    file: Option<String>,
}

/// An element that says something about a case, being read.
#[derive(Debug)]
struct Said {
    meaning: Meaning,
    /// How many elements are open around its text.
    depth: usize,
    message: String,
    /// The class of what was thrown.
    kind: String,
    text: String,
}

/// What an element says about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Outcome(CaseOutcome),
    /// Something that does not change the outcome: an earlier or a further try, a warning.
    Remark,
    Output,
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
        let attribute = |key: &str| attribute(element, key);
        match name.as_str() {
            "testsuite" => {
                let file = attribute("file").filter(|file| !file.is_empty());
                self.suites.push(Suite { name: attribute("name").unwrap_or_default(), file });
            }
            "testcase" if self.said.is_none() => self.case = Some(self.begin_case(element)),
            _ if self.said.is_none() => {
                let in_case = self.case.is_some() || self.open.last().is_some_and(|open| open == "testsuite");
                if let Some(meaning) = meaning(&name).filter(|_| in_case) {
                    self.said = Some(Said {
                        meaning,
                        depth: self.open.len() + 1,
                        message: attribute("message").unwrap_or_default(),
                        kind: attribute("type").unwrap_or_default(),
                        text: String::new(),
                    });
                }
            }
            _ => {}
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
        Case {
            suite: suite.map(|suite| suite.name.clone()).unwrap_or_default(),
            class: attribute("classname").or(attribute("class")).unwrap_or_default(),
            name: attribute("name").unwrap_or_default(),
            seconds: attribute("time").map_or(0.0, |time| seconds(&time)),
            file: attribute("file").or(suite.and_then(|suite| suite.file.clone())),
            line: attribute("line").and_then(|line| line.parse().ok()),
            outcome: if is_skipped { CaseOutcome::Skipped } else { CaseOutcome::Passed },
            ..Case::default()
        }
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
            return match &mut self.case {
                Some(case) => {
                    case.take(said);
                    None
                }
                None => self.of_suite(said),
            };
        }
        match name.as_str() {
            "testsuite" if self.said.is_none() => drop(self.suites.pop()),
            "testcase" if self.said.is_none() => return self.case.take(),
            _ => {}
        }
        None
    }

    /// A failure of a suite itself is a case of the suite's name.
    fn of_suite(&self, said: Said) -> Option<Case> {
        let failed = matches!(said.meaning, Meaning::Outcome(CaseOutcome::Failed | CaseOutcome::Error));
        let suite = self.suites.last().filter(|_| failed)?;
        let (name, file) = (suite.name.clone(), suite.file.clone());
        let mut case = Case { suite: name.clone(), name, file, ..Case::default() };
        case.take(Said { meaning: Meaning::Outcome(CaseOutcome::Error), ..said });
        Some(case)
    }
}

impl Case {
    fn take(&mut self, said: Said) {
        let text = said.text.trim_matches(['\n', '\r']).trim_end();
        if said.meaning == Meaning::Output {
            append_part(&mut self.output, text);
            return;
        }
        // Some put all of the text into the attribute, some the first line of it, some nothing.
        let message = [said.message.as_str(), without_name(text, &self.class, &self.name), &said.kind]
            .into_iter()
            .find_map(one_line);
        let details = if text.is_empty() { said.message.trim_end() } else { text };
        let outcome = match said.meaning {
            // To PHPUnit they are fit to be looked at, but no failures.
            Meaning::Outcome(_) if said.kind == PHPUNIT_RISKY => CaseOutcome::Passed,
            Meaning::Outcome(outcome) => outcome,
            Meaning::Remark | Meaning::Output => CaseOutcome::Passed,
        };
        // What matters most stands first.
        if outcome > self.outcome || self.message.is_empty() {
            self.message = message.unwrap_or_default();
        }
        self.outcome = self.outcome.max(outcome);
        append_part(&mut self.details, details);
    }
}

/// PHPUnit begins the text of a failure with the name of the test.
fn without_name<'a>(text: &'a str, class: &str, name: &str) -> &'a str {
    let Some((first, rest)) = text.split_once('\n') else { return text };
    let is_name =
        first.strip_prefix(class).is_some_and(|first| first.starts_with("::") && first.contains(name));
    if is_name { rest } else { text }
}

/// What a text says in one line: its first that is no place (`sum.cc:7`); where that announces others, with those.
fn one_line(text: &str) -> Option<String> {
    let is_place = |line: &&str| {
        let place = line.rsplit_once(':');
        place.is_some_and(|(file, line)| !file.contains(' ') && line.parse::<u32>().is_ok())
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    let first = match lines.next_if(is_place) {
        Some(place) => lines.next().unwrap_or(place),
        None => lines.next()?,
    };
    if !first.ends_with(':') {
        return Some(first.to_owned());
    }
    let announced: Vec<&str> = lines.take(ANNOUNCED_LINES).collect();
    Some(format!("{first} {}", announced.join("; ")).trim_end().to_owned())
}

fn append_part(whole: &mut String, part: &str) {
    if !whole.is_empty() && !part.is_empty() {
        append(whole, "\n\n");
    }
    append(whole, part);
}

fn append(whole: &mut String, part: &str) {
    let room = TEXT_LIMIT_BYTES.saturating_sub(whole.len());
    whole.push_str(&part[..part.floor_char_boundary(room)]);
}

fn meaning(element: &str) -> Option<Meaning> {
    Some(match element {
        "failure" => Meaning::Outcome(CaseOutcome::Failed),
        "error" => Meaning::Outcome(CaseOutcome::Error),
        "skipped" | "ignored" | "disabled" => Meaning::Outcome(CaseOutcome::Skipped),
        "flakyFailure" | "flakyError" | "rerunFailure" | "rerunError" | "warning" => Meaning::Remark,
        "system-out" | "system-err" => Meaning::Output,
        _ => return None,
    })
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
mod tests {
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
