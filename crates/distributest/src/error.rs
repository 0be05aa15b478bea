//! Says what went wrong to the person at the terminal, once, at the edge of the program.
//!
//! Library code returns typed errors; a command turns them into a [`UserError`], which adds what the types do not
//! know: what to do next and the exit status. Each problem prints as
//!
//! ```text
//! error: what failed
//!   caused by: why
//!   hint: what to do
//! ```

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Exit status for a usage or configuration error.
pub const USAGE_STATUS: u8 = 2;

/// Why a command ends early: at least one problem and the exit status they add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    /// What to tell, in this order. Never empty.
    pub problems: Vec<Problem>,
    /// The status the process ends with.
    pub exit_status: u8,
}

/// One thing that went wrong, in sentences without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What failed and where.
    pub message: String,
    /// Why, the nearest cause first.
    pub causes: Vec<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with neither cause nor hint.
    pub fn new(message: impl Into<String>) -> Self {
        Problem { message: message.into(), causes: Vec::new(), hint: None }
    }

    /// A problem told by an error: its message and the chain of its sources.
    pub fn from_error(error: &dyn Error) -> Self {
        Problem { message: error.to_string(), causes: sources_of(error), hint: None }
    }

    /// The same problem with a word on what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl UserError {
    /// A usage or configuration error: exit status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        UserError { problems: vec![Problem::new(message)], exit_status: USAGE_STATUS }
    }

    /// Several usage or configuration errors at once. `problems` must not be empty.
    pub fn usage_problems(problems: Vec<Problem>) -> Self {
        UserError { problems, exit_status: USAGE_STATUS }
    }

    /// The same error with a word on what to do, on its last problem.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.hint = Some(hint.into());
        }
        self
    }

    /// The same error with the cause of its last problem: the error's message and the chain of its sources.
    #[must_use]
    pub fn because(mut self, error: &dyn Error) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.causes.push(error.to_string());
            problem.causes.extend(sources_of(error));
        }
        self
    }

    /// The same error with another exit status.
    #[must_use]
    pub fn exit_status(mut self, exit_status: u8) -> Self {
        self.exit_status = exit_status;
        self
    }
}

/// An error and the chain of its causes, on one line.
pub fn chain(error: &dyn Error) -> String {
    std::iter::once(error.to_string()).chain(sources_of(error)).collect::<Vec<_>>().join(": ")
}

fn sources_of(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |error| (*error).source()).map(ToString::to_string).collect()
}

/// Shows what would move a terminal's cursor or change its colours instead of doing it: files and hosts are quoted.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_harmful(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", harmless(&self.message))?;
        for cause in &self.causes {
            write!(formatter, "\n  caused by: {}", harmless(cause))?;
        }
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {}", harmless(hint).replace('\n', "\n        ")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl Error for UserError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open the history")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_prints_once_with_its_hint() {
        let cause = Outer(std::io::Error::other("disk full"));
        let error = UserError::usage("cannot start").because(&cause).hint("free some space,\nthen try again");
        insta::assert_snapshot!(error, @r"
        error: cannot start
          caused by: failed to open the history
          caused by: disk full
          hint: free some space,
                then try again
        ");
    }

    #[test]
    fn what_is_quoted_does_nothing_to_the_terminal() {
        let error = UserError::usage("unknown key `\u{1b}[2Ja\r\0`").hint("tab\there,\nline");
        assert_eq!(
            error.to_string(),
            "error: unknown key `\\u{1b}[2Ja\\r\\u{0}`\n  hint: tab\there,\n        line"
        );
    }

    #[test]
    fn several_problems_print_one_after_the_other() {
        let problems = vec![Problem::new("first"), Problem::new("second").with_hint("look again")];
        let error = UserError::usage_problems(problems);
        assert_eq!(error.to_string(), "error: first\nerror: second\n  hint: look again");
        assert_eq!(error.exit_status, 2);
    }
}
