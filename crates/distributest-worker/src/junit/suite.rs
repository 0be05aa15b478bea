//! A suite of JUnit XML: what fails of it itself, and how many failures it counts.
//!
//! What programs count differs (tests, checks, tries, lines of output), so that the counts say only one thing for certain:
//! with more failures counted than are named in a suite, something failed that can't be seen. Counts of errors and tests say
//! not even that: Qt 5 counts every line of its log as an error, gotestsum those of `go`, NUnit's style sheet what is
//! inconclusive; Catch2 and doctest count checks as tests, others leave out tests that were skipped.

use super::case::{Case, CaseOutcome, Meaning, Said};

/// A suite, or a report as a whole, which has no name.
#[derive(Debug, Default)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) file: Option<String>,
    /// How many failures its attribute says.
    pub(super) counted: u64,
    /// How many failures are named in it so far.
    pub(super) named: u64,
}

/// What the attribute says. What can't be right is not believed: Catch2 subtracts errors, below zero if need be.
pub(super) fn counted(failures: Option<&str>) -> u64 {
    failures.and_then(|number| number.trim().parse::<u32>().ok()).map_or(0, u64::from)
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
        let (counted, named) = (self.counted, self.named);
        let plural = if counted == 1 { "" } else { "s" };
        let message = format!("the report counts {counted} failure{plural} and names {named}");
        (counted > named).then(|| self.failure(Said::failure(message)))
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
        assert_eq!(
            counted("failures='1'", "tests='1'"),
            "testsuites: the report counts 1 failure and names 0"
        );
        for suite in
            ["failures='0' errors='0'", "failures='' errors='x'", "tests='5' skipped='4' disabled='1'"]
        {
            assert_eq!(counted(suite, suite), "", "{suite}");
        }
        // By gotestsum, lines that `go` wrote to its standard error; by Qt 5, lines of the log; by NUnit, what is inconclusive.
        for errors in [counted("failures='0' errors='3'", ""), counted("", "failures='0' errors='3'")] {
            assert_eq!(errors, "");
        }
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
