//! A test case of JUnit XML, and what the elements in it say of it.

/// How much of what is said about a test is kept of each kind.
const TEXT_LIMIT_BYTES: usize = 1024 * 1024;

/// How many lines that a message announces belong to it.
const ANNOUNCED_LINES: usize = 3;

/// What PHPUnit calls an error in its results, and nowhere else.
const PHPUNIT_RISKY: &str = "PHPUnit\\Framework\\RiskyTestError";

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

/// An element that says something about a case, being read.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) meaning: Meaning,
    /// How many elements are open around its text.
    pub(super) depth: usize,
    pub(super) message: String,
    /// The class of what was thrown.
    pub(super) kind: String,
    pub(super) text: String,
}

/// What an element says about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Outcome(CaseOutcome),
    /// Something that does not change the outcome: an earlier or a further try, a warning.
    Remark,
    Output,
}

impl Said {
    /// What nothing but a message tells of.
    pub(super) fn failure(message: String) -> Said {
        let meaning = Meaning::Outcome(CaseOutcome::Failed);
        Said { meaning, depth: 0, message, kind: String::new(), text: String::new() }
    }

    /// Whether it is of something that failed.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.meaning, Meaning::Outcome(CaseOutcome::Failed | CaseOutcome::Error))
    }
}

impl Case {
    pub(super) fn take(&mut self, said: Said) {
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

pub(super) fn append(whole: &mut String, part: &str) {
    let room = TEXT_LIMIT_BYTES.saturating_sub(whole.len());
    whole.push_str(&part[..part.floor_char_boundary(room)]);
}

pub(super) fn meaning(element: &str) -> Option<Meaning> {
    Some(match element {
        "failure" => Meaning::Outcome(CaseOutcome::Failed),
        "error" => Meaning::Outcome(CaseOutcome::Error),
        "skipped" | "ignored" | "disabled" => Meaning::Outcome(CaseOutcome::Skipped),
        "flakyFailure" | "flakyError" | "rerunFailure" | "rerunError" | "warning" => Meaning::Remark,
        "system-out" | "system-err" => Meaning::Output,
        _ => return None,
    })
}

/// Whether an element is one of those that programs count as failures or errors, in whichever of a test's tries.
pub(super) fn is_failure(element: &str) -> bool {
    let failures = ["failure", "error", "flakyFailure", "flakyError", "rerunFailure", "rerunError"];
    failures.contains(&element)
}
