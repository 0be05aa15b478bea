//! Finds the test that a panic belongs to.
//!
//! Before Go's testing package lets a panic end the process, it prints as failed the test that panicked and those it is part
//! of, and below each its parts that had ended:
//!
//! ```text
//! --- FAIL: TestA (0.00s)
//!     --- PASS: TestA/part (0.00s)
//! panic: boom [recovered]
//!
//! goroutine 8 [running]:
//! ```
//!
//! So the panic follows the result of the part that stands last, which may have nothing to do with it.

use super::account::is_death;
use super::output::{Ended, TestEnd};

/// Which one it was of the test that is printed last and those it is part of, as far as they failed.
#[derive(Debug, PartialEq, Eq)]
enum Level {
    /// The one that is part of no other.
    Outermost,
    /// The one with the longest name, of those that have parts.
    InnermostWithParts,
    /// The one with the longest name.
    Innermost,
}

/// The test that panicked, if the panic stands behind the results printed last. What Go says of it becomes that test's.
pub(super) fn take_panicked(ended: &mut [Ended]) -> Option<String> {
    let last = ended.iter().rposition(|test| test.output.lines().any(is_death))?;
    let id = ended[last].id.clone();
    let has_failed = |id: &str| ended.iter().any(|test| test.id == id && test.result == TestEnd::Failed);
    let and_above = std::iter::successors(Some(id.as_str()), |id| Some(id.rsplit_once('/')?.0));
    let mut failed = and_above.filter(|id| has_failed(id));
    let panicked = match level(&ended[last]) {
        Level::Outermost => failed.last(),
        Level::InnermostWithParts => failed.find(|failed| *failed != id),
        Level::Innermost => failed.next(),
    }?;
    let panicked = panicked.to_owned();
    if panicked != id {
        let output = &mut ended[last].output;
        let words = output.split_off(begin_of_death(output));
        let test = ended.iter_mut().rev().find(|test| test.id == panicked)?;
        test.output.push_str(&words);
    }
    Some(panicked)
}

/// What the functions say that were being called, the innermost of which stand first.
fn level(last: &Ended) -> Level {
    let test = last.id.split('/').next().unwrap_or_default();
    let lines = last.output[begin_of_death(&last.output)..].lines();
    // With `GOTRACEBACK=all` those of other goroutines follow.
    let stack = lines.skip_while(|line| !line.starts_with("goroutine ")).take_while(|line| !line.is_empty());
    let calls: Vec<&str> = stack.filter(|line| !line.starts_with(char::is_whitespace)).collect();
    let is_runner =
        |call: &&str| call.starts_with("testing.tRunner(") || call.starts_with("testing.fRunner(");
    let Some(runner) = calls.iter().position(is_runner) else { return Level::Innermost };
    // Go says so since 1.21; its first goroutine starts the tests that are part of no other.
    if calls[runner..].contains(&"created by testing.(*T).Run in goroutine 1") {
        return Level::Outermost;
    }
    let cleans_up = calls[..runner].iter().any(|call| call.starts_with("testing.(*common).runCleanup("));
    let called = calls[..runner].last().copied().unwrap_or_default();
    let (function, _) = called.rsplit_once('(').unwrap_or((called, ""));
    match function.rsplit_once('.') {
        Some((package, name)) if name == test && !package.ends_with(')') => Level::Outermost,
        // A test with parts is cleaned up outside of any function of its own, and the panic passed on from there.
        _ if called.starts_with("testing.") && called.contains("Runner.") && !cleans_up => {
            Level::InnermostWithParts
        }
        _ => Level::Innermost,
    }
}

/// Where the line begins that a panic begins with.
fn begin_of_death(output: &str) -> usize {
    let before = output.split_inclusive('\n').take_while(|line| !is_death(line));
    before.map(str::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `TestA`, `TestA/b` and `TestA/b/c`, which failed, these calls say panicked.
    fn panicked_in(calls: &str) -> Option<String> {
        let ended = |id: &str, output: &str| Ended {
            id: id.to_owned(),
            result: TestEnd::Failed,
            duration: std::time::Duration::ZERO,
            output: output.to_owned(),
        };
        let words = format!("panic: boom [recovered]\n\tpanic: boom\n\ngoroutine 8 [running]:\n{calls}");
        let mut tests =
            [ended("TestA", ""), ended("TestA/b", ""), ended("TestA/b/c", &format!("its own\n{words}"))];
        let id = take_panicked(&mut tests);
        let holds = |test: &&Ended| test.output.contains(&words);
        assert_eq!(tests.iter().find(holds).map(|test| test.id.clone()), id);
        assert!(tests[2].output.starts_with("its own\n"));
        id
    }

    #[test]
    fn the_functions_being_called_say_which_test_it_was() {
        let runner = "testing.tRunner(0xc0001, 0x52)\n\t/go/testing.go:1446 +0x10b\n";
        let cases = [
            (format!("m/a.helper()\n\t/a.go:2\nm/a.TestA(0x0?)\n\t/a.go:3\n{runner}"), "TestA"),
            (format!("m/a.TestA(...)\n\t/a.go:3\n{runner}"), "TestA"),
            (format!("m/a.TestA.func1({{0x1, 0x2}})\n\t/a.go:3\n{runner}"), "TestA/b/c"),
            (format!("m/a.(*Suite).TestA(0x0?)\n\t/a.go:3\n{runner}"), "TestA/b/c"),
            (format!("testing.tRunner.func1.2({{0x1, 0x2}})\ntesting.tRunner.func1()\n{runner}"), "TestA/b"),
            (format!("testing.(*common).runCleanup(0xc0)\ntesting.tRunner.func2()\n{runner}"), "TestA/b/c"),
            (
                format!("testing.tRunner.func2()\n{runner}created by testing.(*T).Run in goroutine 1\n"),
                "TestA",
            ),
            (
                format!("testing.tRunner.func2()\n{runner}created by testing.(*T).Run in goroutine 18\n"),
                "TestA/b",
            ),
            (
                format!(
                    "m/a.TestA.func1()\n{runner}\ngoroutine 7 [chan receive]:\ntesting.(*T).Run()\n{runner}created by testing.(*T).Run in goroutine 1\n"
                ),
                "TestA/b/c",
            ),
            ("main.f()\n".to_owned(), "TestA/b/c"),
            (String::new(), "TestA/b/c"),
        ];
        for (calls, id) in cases {
            assert_eq!(panicked_in(&calls).as_deref(), Some(id), "{calls}");
        }
    }
}
