//! A suite of JUnit XML: what fails of it itself, and how many failures it counts.
//!
//! What programs count differs (tests, checks, tries, lines of output), so that a count says only one thing for certain:
//! with more failures counted than are named in a suite, something failed that can't be seen. Counts of tests say not
//! even that: Catch2 and doctest count checks as tests, others leave out tests that were skipped.

use super::case::{Case, CaseOutcome, Meaning, Said};

/// A suite, or a report as a whole, which has no name.
#[derive(Debug, Default)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) file: Option<String>,
    /// What its attributes say.
    pub(super) counted: Counted,
    /// How many failures are named in it so far.
    pub(super) named: u64,
}

/// A number of failures or errors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) number: u64,
    /// What one of them is called.
    what: &'static str,
}

/// What the attributes count of which there is more: Mocha counts every failure as an error, too. Where one of them is no
/// number, or none that can be right, neither is believed: Catch2 subtracts errors from failures, below zero if need be.
pub(super) fn counted(failures: Option<&str>, errors: Option<&str>) -> Counted {
    let number = |text: Option<&str>| text.map_or(Ok(0), |text| text.trim().parse::<u32>()).map(u64::from);
    match (number(failures), number(errors)) {
        (Ok(failures), Ok(errors)) if errors > failures => Counted { number: errors, what: "error" },
        (Ok(failures), Ok(_)) => Counted { number: failures, what: "failure" },
        _ => Counted::default(),
    }
}

impl Suite {
    /// A failure of a suite itself is a case of the suite's name.
    pub(super) fn failure(&self, said: Said) -> Case {
        let name = if self.name.is_empty() { "testsuites" } else { &self.name };
        let mut case = Case {
            suite: self.name.clone(),
            name: name.to_owned(),
            file: self.file.clone(),
            ..Case::default()
        };
        case.take(Said { meaning: Meaning::Outcome(CaseOutcome::Error), ..said });
        case
    }

    /// The failures that are counted and not named, if there are any.
    pub(super) fn missing_failures(&self) -> Option<Case> {
        let (Counted { number, what }, named) = (self.counted, self.named);
        let plural = if number == 1 { "" } else { "s" };
        let message = format!("the report counts {number} {what}{plural} and names {named}");
        (number > named).then(|| self.failure(Said::failure(message)))
    }
}

#[cfg(test)]
mod tests {
    use crate::junit::case::CaseOutcome;
    use crate::junit::parser::tests::told;

    #[test]
    fn more_failures_counted_than_named_are_one() {
        let case = "<testcase name='a'/>";
        let counted = |root: &str, suite: &str| {
            let document =
                format!("<testsuites {root}><testsuite name='s' {suite}>{case}</testsuite></testsuites>");
            let told = told(&document);
            assert_eq!(told[0], ("a".to_owned(), CaseOutcome::Passed, String::new()));
            told[1..]
                .iter()
                .map(|(name, _, message)| format!("{name}: {message}"))
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(counted("", "failures='2'"), "s: the report counts 2 failures and names 0");
        assert_eq!(counted("errors='1'", "errors='1'"), "s: the report counts 1 error and names 0");
        assert_eq!(
            counted("failures='1'", "tests='1'"),
            "testsuites: the report counts 1 failure and names 0"
        );
        for suite in
            ["failures='0' errors='0'", "failures='' errors='x'", "tests='5' skipped='4' disabled='1'"]
        {
            assert_eq!(counted(suite, suite), "", "{suite}");
        }
        // The lines that `go` wrote to its standard error, by gotestsum.
        assert_eq!(counted("failures='0' errors='3'", ""), "");
        // One less than none, by Catch2 where something thrown is no failure.
        assert_eq!(counted("", "errors='1' failures='18446744073709551615'"), "");
    }

    #[test]
    fn failures_that_are_named_may_be_counted_in_several_ways() {
        for named in [
            "<testcase name='a'><failure/></testcase>",
            "<testcase name='a'><error type='PHPUnit\\Framework\\RiskyTestError'/></testcase>",
            "<testcase name='a'><flakyFailure/></testcase>",
            "<testcase name='a'><flakyError/></testcase>",
            "<testcase name='a' status='failed'/>",
            "<testsuite name='inner' failures='1'><testcase name='a'><failure/></testcase></testsuite>",
        ] {
            for counts in ["failures='1'", "errors='1'", "failures='1' errors='1'", "tests='7' failures='0'"]
            {
                let document = format!(
                    "<testsuites failures='1'><testsuite name='s' {counts}>{named}</testsuite></testsuites>"
                );
                assert_eq!(told(&document).len(), 1, "{document}");
            }
        }
        let inner = "<testsuite name='s' failures='2'><testsuite name='t' failures='2'><testcase name='a'>\
                     <failure/></testcase></testsuite></testsuite>";
        assert_eq!(told(inner)[1].2, "the report counts 2 failures and names 1");
        assert_eq!(told(inner).len(), 2, "what is missing is told once");
    }
}
