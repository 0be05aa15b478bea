//! Whose diagnostics are whose: what a test writes to standard error about its failures, beside the TAP document.
//!
//! `Test::More` and all that imitate it write a block of comments for every failure, with a headline that names the test:
//!
//! ```text
//! #   Failed test 'adds'
//! #   at t/add.t line 3.
//! #          got: '3'
//! #     expected: '4'
//! ```
//!
//! The two outputs of a process can't be put in one order, so a block is given to the failure its headline names. Where
//! there are no headlines, a failure gets what came since the one before.

use std::collections::VecDeque;

/// How much is kept of what no failure has claimed yet.
const LIMIT_BYTES: usize = 256 * 1024;

/// Diagnostics that came and belong to no failure yet.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    lines: VecDeque<String>,
    bytes: usize,
}

/// A failure's account of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// What went wrong, in one line; empty where it does not say.
    pub(super) message: String,
    /// Where.
    pub(super) place: Option<(String, u32)>,
    /// All it says.
    pub(super) lines: Vec<String>,
}

impl Diagnostics {
    /// Takes a line of standard error.
    pub(super) fn line(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > LIMIT_BYTES {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.len() + 1);
        }
    }

    /// Gives the account of the failure of the test of this description. What came before it is nobody's.
    pub(super) fn take(&mut self, description: &str) -> Account {
        let headline = self.lines.iter().position(|line| is_headline_of(line, description));
        let has_headlines = self.lines.iter().any(|line| headline_name(line).is_some());
        let (begin, end) = match headline {
            Some(headline) => (self.begin_of(headline), self.end_of(headline)),
            None if has_headlines => return Account::default(),
            None => (0, self.lines.len()),
        };
        let taken: Vec<String> = self.lines.drain(..end).skip(begin).collect();
        self.bytes = self.lines.iter().map(|line| line.len() + 1).sum();
        let lines = match headline {
            Some(_) => taken,
            None => taken.into_iter().filter(|line| line.starts_with('#') && !is_closing(line)).collect(),
        };
        Account::of(lines)
    }

    /// Where a block begins: the blocks of a subtest stand in front of that of the test it is.
    fn begin_of(&self, headline: usize) -> usize {
        let is_inner = |line: &String| line.starts_with(' ') || line.is_empty();
        let before = self.lines.iter().take(headline).rev().take_while(|line| is_inner(line)).count();
        let begin = headline - before;
        begin + self.lines.range(begin..headline).take_while(|line| line.is_empty()).count()
    }

    fn end_of(&self, headline: usize) -> usize {
        let follows =
            |line: &&String| line.starts_with('#') && headline_name(line).is_none() && !is_closing(line);
        headline + 1 + self.lines.range(headline + 1..).take_while(follows).count()
    }
}

impl Account {
    /// What this one says, completed by another; all that both say.
    pub(super) fn or(mut self, other: Account) -> Account {
        if self.message.is_empty() {
            self.message = other.message;
        }
        self.place = self.place.or(other.place);
        self.lines.extend(other.lines);
        self
    }

    /// Reads an account.
    pub(super) fn of(lines: Vec<String>) -> Account {
        let said: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix('#')).collect();
        let place = said.iter().find_map(|line| place_in(line));
        let is_text =
            |line: &&&str| !line.trim().is_empty() && !is_headline(line) && place_in(line).is_none();
        let text: Vec<&str> = said.iter().filter(is_text).copied().collect();
        // The explanation of a failure is indented further than what the test itself has to say.
        let explains = |line: &&str| line.starts_with("    ");
        let explained = text.iter().any(explains);
        let chosen = text.into_iter().filter(|line| !explained || explains(line));
        let message = chosen.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        Account { message: message.collect::<Vec<_>>().join("; "), place, lines }
    }
}

/// Reads a YAML block: its `message`, and the `file` and `line` it names on any level.
pub(super) fn yaml_account(text: &str) -> Account {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))?;
        let plain = line.trim().trim_matches(['"', '\'']);
        (!plain.is_empty() && plain != "|-" && plain != "|" && plain != ">").then(|| plain.to_owned())
    };
    let place = value("file").zip(value("line").and_then(|line| line.parse().ok()));
    Account {
        message: value("message").unwrap_or_default(),
        place,
        lines: text.lines().map(str::to_owned).collect(),
    }
}

/// What follows the words of a headline, if the line is one of a test that is no subtest.
fn headline_name(line: &str) -> Option<&str> {
    headline(line.strip_prefix('#')?)
}

fn is_headline(said: &str) -> bool {
    headline(said).is_some()
}

fn headline(said: &str) -> Option<&str> {
    let said = said.trim_start();
    ["Failed test", "Failed (TODO) test"].iter().find_map(|words| said.strip_prefix(words))
}

fn is_headline_of(line: &str, description: &str) -> bool {
    let Some(name) = headline_name(line) else { return false };
    match name.trim().strip_prefix('\'') {
        Some(name) => name.strip_suffix('\'').unwrap_or(name).trim() == description,
        None => description.is_empty(),
    }
}

/// What `Test::More` says of the file as a whole.
fn is_closing(line: &str) -> bool {
    line.starts_with("# Looks like you")
}

/// `at t/add.t line 3.`
fn place_in(said: &str) -> Option<(String, u32)> {
    let said = headline(said).unwrap_or(said).trim();
    let (file, line) = said.strip_prefix("at ")?.strip_suffix('.')?.rsplit_once(" line ")?;
    Some((file.to_owned(), line.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "
#   Failed test 'is fails'
#   at t/m.t line 2.
#          got: '1'
#     expected: '2'

#   Failed test at t/m.t line 3.

    #   Failed test 'inner'
    #   at t/m.t line 5.
    #          got: 'a'
    # Looks like you failed 1 test of 2.

#   Failed test 'outer'
#   at t/m.t line 5.

#   Failed test 'like'
#   at t/m.t line 8.
#                   'abc'
#     doesn't match '(?^:x)'
# some diag
warned at t/m.t line 10.
# Looks like you failed 4 tests of 9.
";

    fn diagnostics(text: &str) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        text.lines().for_each(|line| diagnostics.line(line));
        diagnostics
    }

    #[test]
    fn each_failure_gets_its_own() {
        let mut diagnostics = diagnostics(WRITTEN);
        let first = diagnostics.take("is fails");
        assert_eq!(first.message, "got: '1'; expected: '2'");
        assert_eq!(first.place, Some(("t/m.t".to_owned(), 2)));
        assert_eq!(first.lines.len(), 4);
        let nameless = diagnostics.take("");
        assert_eq!((nameless.message.as_str(), nameless.place), ("", Some(("t/m.t".to_owned(), 3))));
        let outer = diagnostics.take("outer");
        assert_eq!(outer.lines.first().map(String::as_str), Some("    #   Failed test 'inner'"));
        assert_eq!(outer.place, Some(("t/m.t".to_owned(), 5)));
        let like = diagnostics.take("like");
        assert_eq!(like.message, "'abc'; doesn't match '(?^:x)'");
        assert_eq!(like.lines.last().map(String::as_str), Some("# some diag"));
        assert_eq!(diagnostics.take("like"), Account::default());
    }

    #[test]
    fn without_headlines_it_is_what_came() {
        let mut diagnostics = diagnostics("# expected 1\nnoise\n# got 2\n");
        assert_eq!(diagnostics.take("adds").message, "expected 1; got 2");
        assert_eq!(diagnostics.take("adds").message, "");
    }

    #[test]
    fn what_nobody_claims_is_bounded() {
        let mut diagnostics = Diagnostics::default();
        for _ in 0..100_000 {
            diagnostics.line("# nobody claims this");
        }
        assert!(diagnostics.bytes <= LIMIT_BYTES && diagnostics.lines.len() < 20_000);
    }
}
