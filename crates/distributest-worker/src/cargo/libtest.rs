//! Follows what a test binary prints, with libtest as Rust has it by default.
//!
//! The order of the tests is known, and they run one at a time, so what is printed is
//!
//! ```text
//! running 2 tests
//! test a ... ok
//! test b - should panic ... FAILED
//!
//! failures:
//!
//! ---- b stdout ----
//! what b printed
//!
//! failures:
//!     b
//!
//! test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
//! ```
//!
//! with whatever children and threads of the tests print at any place in between. A line that begins a test ends the test
//! before it, if and only if that one's result stands right before; what a test is printed as having printed ends where the
//! next test that failed begins. The counts of the last line are compared with what was understood, so that tests that
//! imitate all this are noticed.

use std::time::{Duration, Instant};

use crate::excerpt::Excerpt;

/// How much of what stands between two lines of libtest's is looked at.
const BUFFER_BYTES: usize = 256 * 1024;

/// How much of each end of a test's output is kept.
const DETAILS_BYTES: usize = 256 * 1024;

/// A test and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) result: TestEnd,
    pub(super) duration: Duration,
}

/// What libtest says of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TestEnd {
    Ok,
    /// With what it printed.
    Failed(String),
    /// With the reason, which may be empty.
    Ignored(String),
}

/// Where the output is.
#[derive(Debug)]
enum State {
    /// Before the first test, or in one: how many tests have begun, and when the last of them did.
    Tests { begun: usize, since: Instant },
    /// Among what failed tests printed; which of those that failed is it.
    Sections { current: Option<(usize, Excerpt)> },
}

/// Understands the output as it comes.
#[derive(Debug)]
pub(super) struct Follower {
    names: Vec<String>,
    state: State,
    buffer: Vec<u8>,
    /// Up to where the buffer holds nothing of interest.
    searched: usize,
    /// Tests that failed: name, time, what was printed while it ran.
    failed: Vec<(String, Duration, String)>,
    /// Those of them that are reported.
    reported: usize,
    passed: usize,
    ignored: usize,
}

/// What is known at the end of the output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conclusion {
    /// Tests whose end was only clear now.
    pub(super) ended: Vec<Ended>,
    /// Whether libtest came to its end, and what it counted then is what was understood.
    pub(super) end: End,
}

/// How the output ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the last test's result and the right counts.
    Complete,
    /// Before the first test.
    BeforeTests,
    /// In the test of this number, counted from 0.
    InTest(usize),
    /// After the last test's result, but without counts.
    AfterTests,
    /// With counts that are others than were understood.
    Contradiction,
}

impl Follower {
    /// For a binary that is about to run these tests in this order.
    pub(super) fn new(names: Vec<String>, now: Instant) -> Follower {
        Follower {
            names,
            state: State::Tests { begun: 0, since: now },
            buffer: Vec::new(),
            searched: 0,
            failed: Vec::new(),
            reported: 0,
            passed: 0,
            ignored: 0,
        }
    }

    /// Takes the next part of the output. Returns the tests that have ended.
    pub(super) fn read(&mut self, bytes: &[u8], now: Instant) -> Vec<Ended> {
        self.buffer.extend_from_slice(bytes);
        let mut ended = Vec::new();
        loop {
            let goes_on = match self.state {
                State::Tests { .. } => self.next_test(now, &mut ended),
                State::Sections { .. } => self.next_section(&mut ended),
            };
            if !goes_on {
                break;
            }
        }
        self.forget();
        ended
    }

    /// The output has ended.
    pub(super) fn conclude(mut self) -> Conclusion {
        let counted = self.counted();
        let mut ended = Vec::new();
        let end = match &mut self.state {
            State::Tests { begun, .. } => begun.checked_sub(1).map_or(End::BeforeTests, End::InTest),
            State::Sections { current } => {
                if let Some((index, mut text)) = current.take() {
                    text.push(before_list(&self.buffer));
                    self.report_failed(index, &text.text(), &mut ended);
                }
                match counted {
                    None => End::AfterTests,
                    Some(counted) if counted == [self.passed, self.failed.len(), self.ignored] => {
                        End::Complete
                    }
                    Some(_) => End::Contradiction,
                }
            }
        };
        self.report_failed_before(self.failed.len(), &mut ended);
        Conclusion { ended, end }
    }

    /// Looks for the end of the test that runs. Returns whether it was found.
    fn next_test(&mut self, now: Instant, ended: &mut Vec<Ended>) -> bool {
        let State::Tests { begun, since } = self.state else { return false };
        let mut from = self.searched;
        while let Some(mark) = self.next_mark(begun, from) {
            if begun == 0 {
                self.cut(mark.end);
                self.state = State::Tests { begun: 1, since: now };
                return true;
            }
            let Some((result, printed)) = result_at_end(&self.buffer[..mark.begin]) else {
                // Somebody else's line.
                from = mark.begin + 1;
                continue;
            };
            let (name, duration) = (self.names[begun - 1].clone(), now - since);
            match result {
                TestEnd::Failed(_) => self.failed.push((name, duration, printed)),
                TestEnd::Ok => self.passed += 1,
                TestEnd::Ignored(_) => self.ignored += 1,
            }
            if !matches!(result, TestEnd::Failed(_)) {
                ended.push(Ended { name: self.names[begun - 1].clone(), result, duration });
            }
            self.state = if begun < self.names.len() {
                self.cut(mark.end);
                State::Tests { begun: begun + 1, since: now }
            } else {
                self.cut(mark.begin);
                State::Sections { current: None }
            };
            return true;
        }
        // What may be the beginning of a mark is looked at again.
        self.searched = from.max(self.buffer.len().saturating_sub(self.longest_mark()));
        false
    }

    /// The next place where the test after `begun` may begin, or, after the last, what follows all tests.
    fn next_mark(&self, begun: usize, from: usize) -> Option<Mark> {
        let rest = &self.buffer[from.min(self.buffer.len())..];
        let Some(name) = self.names.get(begun) else {
            let marks = ["\nfailures:\n", "\nsuccesses:\n", "\ntest result: "];
            let places = marks.iter().filter_map(|mark| find(rest, mark.as_bytes()));
            return places.min().map(|place| Mark { begin: from + place, end: from + place });
        };
        let marks = [format!("test {name} ... "), format!("test {name} - should panic ... ")];
        let places = marks.iter().filter_map(|mark| Some((find(rest, mark.as_bytes())?, mark.len())));
        places.min().map(|(place, length)| Mark { begin: from + place, end: from + place + length })
    }

    fn longest_mark(&self) -> usize {
        let State::Tests { begun, .. } = self.state else { return 0 };
        self.names.get(begun).map_or(0, String::len) + 64
    }

    /// Looks for the beginning of what the next failed test printed. Returns whether it was found.
    fn next_section(&mut self, ended: &mut Vec<Ended>) -> bool {
        let State::Sections { current } = &mut self.state else { return false };
        let first_possible = current.as_ref().map_or(0, |(index, _)| index + 1);
        let Some((index, mark)) = next_header(&self.buffer, self.searched, &self.failed[first_possible..])
        else {
            // All but what may be the beginning of a header or of the list at the end belongs to the current section.
            let settled = self.buffer.len().saturating_sub(BUFFER_BYTES);
            if let Some((_, text)) = current {
                text.push(&self.buffer[..settled]);
            }
            self.cut(settled);
            return false;
        };
        let index = first_possible + index;
        let finished = current.replace((index, Excerpt::new(DETAILS_BYTES)));
        if let Some((previous, mut text)) = finished {
            text.push(&self.buffer[..mark.begin]);
            self.report_failed(previous, &text.text(), ended);
        }
        self.report_failed_before(index, ended);
        self.cut(mark.end);
        true
    }

    /// Reports the failed tests up to this one, of which nothing was printed at the end.
    fn report_failed_before(&mut self, index: usize, ended: &mut Vec<Ended>) {
        while self.reported < index {
            self.report_failed(self.reported, "", ended);
        }
    }

    fn report_failed(&mut self, index: usize, captured: &str, ended: &mut Vec<Ended>) {
        let (name, duration, printed) = self.failed[index].clone();
        let parts = [printed.trim_matches('\n'), captured.trim_matches('\n')];
        let details = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        ended.push(Ended { name, result: TestEnd::Failed(details), duration });
        self.reported = index + 1;
    }

    /// What libtest counted: passed, failed and ignored tests.
    fn counted(&self) -> Option<[usize; 3]> {
        let text = String::from_utf8_lossy(&self.buffer);
        let (_, line) = text.rsplit_once("test result: ")?;
        let count = |word: &str| -> Option<usize> {
            let (before, _) = line.split_once(&format!(" {word};"))?;
            before.rsplit([' ', '.']).next()?.parse().ok()
        };
        let (passed, measured) = (count("passed")?, count("measured")?);
        Some([passed + measured, count("failed")?, count("ignored")?])
    }

    fn cut(&mut self, length: usize) {
        self.buffer.drain(..length);
        self.searched = 0;
    }

    /// Keeps the buffer small in a test that prints without end.
    fn forget(&mut self) {
        if self.buffer.len() > 2 * BUFFER_BYTES {
            let surplus = self.buffer.len() - BUFFER_BYTES;
            self.buffer.drain(..surplus);
            self.searched = self.searched.saturating_sub(surplus);
        }
    }
}

/// A place in the buffer.
struct Mark {
    begin: usize,
    end: usize,
}

/// The result of the test that printed this last, and what stands before it.
fn result_at_end(text: &[u8]) -> Option<(TestEnd, String)> {
    let text = String::from_utf8_lossy(text);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if let Some(reason) = text.strip_prefix("ignored").filter(|reason| !reason.contains('\n')) {
        // Nothing else prints then. The reason is what its author wrote.
        if reason.is_empty() || reason.starts_with(", ") {
            return Some((TestEnd::Ignored(reason.trim_start_matches(", ").to_owned()), String::new()));
        }
    }
    // After the result may stand what a thread of the test still printed.
    let mut rest = text;
    loop {
        if let Some(printed) = rest.strip_suffix("ok") {
            return Some((TestEnd::Ok, printed.to_owned()));
        } else if let Some(printed) = rest.strip_suffix("FAILED") {
            return Some((TestEnd::Failed(String::new()), printed.to_owned()));
        } else if let Some((printed, _)) = last_line(rest).split_once("bench: ") {
            // A benchmark, run once.
            return Some((TestEnd::Ok, printed.to_owned()));
        }
        rest = rest.rsplit_once('\n')?.0;
    }
}

fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or_default()
}

/// Where the output of one of these failed tests begins, and whose.
fn next_header(buffer: &[u8], from: usize, failed: &[(String, Duration, String)]) -> Option<(usize, Mark)> {
    let (begin, end) = (b"\n---- ", b" stdout ----\n");
    let mut from = from;
    while let Some(place) = find(&buffer[from..], begin) {
        let name_begin = from + place + begin.len();
        let length = find(&buffer[name_begin..], end)?;
        let name = &buffer[name_begin..name_begin + length];
        if let Some(index) = failed.iter().position(|(failed, ..)| failed.as_bytes() == name) {
            return Some((index, Mark { begin: from + place, end: name_begin + length + end.len() }));
        }
        from = name_begin;
    }
    None
}

/// What stands before the list of failed tests.
fn before_list(buffer: &[u8]) -> &[u8] {
    let list = b"\nfailures:\n    ";
    buffer.windows(list.len()).rposition(|window| window == list).map_or(buffer, |place| &buffer[..place])
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{assert_keeps_little, damaged};

    const OUTPUT: &str = "
running 6 tests
test a ... ok
test b - should panic ... FAILED
test c ... ignored, not ok yet
test d ... raw outputok
late line of a thread
test e ... FAILED
test f ... FAILED

failures:

---- b stdout ----
note: test did not panic as expected at src/lib.rs:3:1
---- f stdout ----
hidden
---- nobody stdout ----

thread 'f' (7) panicked at src/lib.rs:9:9:
boom

failures:
    no list

failures:
    b
    e
    f

test result: FAILED. 2 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.40s

";

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// Reads the output in pieces of this size. Returns what ended, in order, and how the output did.
    fn follow(tests: &str, output: &str, piece: usize) -> (Vec<(String, TestEnd)>, End) {
        let now = Instant::now();
        let mut follower = Follower::new(names(tests), now);
        let mut ended: Vec<Ended> =
            output.as_bytes().chunks(piece).flat_map(|piece| follower.read(piece, now)).collect();
        let conclusion = follower.conclude();
        ended.extend(conclusion.ended);
        let ended = ended.into_iter().map(|ended| (ended.name, ended.result)).collect();
        (ended, conclusion.end)
    }

    #[test]
    fn every_kind_of_result_is_understood_in_pieces_of_any_size() {
        let failed = |text: &str| TestEnd::Failed(text.to_owned());
        let f = "hidden\n---- nobody stdout ----\n\nthread 'f' (7) panicked at src/lib.rs:9:9:\nboom\n\nfailures:\n    no list";
        let expected = [
            ("a", TestEnd::Ok),
            ("c", TestEnd::Ignored("not ok yet".to_owned())),
            ("d", TestEnd::Ok),
            ("b", failed("note: test did not panic as expected at src/lib.rs:3:1")),
            ("e", failed("")),
            ("f", failed(f)),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, end)| (name.to_owned(), end)).collect();
        for piece in (1..40).chain([OUTPUT.len()]) {
            let (ended, end) = follow("a b c d e f", OUTPUT, piece);
            assert_eq!((&ended, end), (&expected, End::Complete), "pieces of {piece}");
        }
    }

    #[test]
    fn a_child_that_prints_like_libtest_does_not_pass_for_it() {
        let output = "\nrunning 2 tests\ntest a ... \nrunning 1 test\ntest b ... ok\n\ntest result: ok. 1 passed; \
            0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n\nFAILED\ntest b ... ok\n\nfailures:\n\n\
            failures:\n    a\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n";
        let (ended, end) = follow("a b", output, 7);
        assert_eq!(end, End::Complete);
        let statuses: Vec<_> =
            ended.iter().map(|(name, end)| (name.as_str(), matches!(end, TestEnd::Ok))).collect();
        assert_eq!(statuses, [("b", true), ("a", false)]);
    }

    #[test]
    fn imitations_that_are_believed_are_noticed_by_the_counts() {
        let output = "\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\ntest b ... ok\n\nfailures:\n\nfailures:\n    a\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n";
        let imitation = output.replacen("FAILED\ntest b ... ok\n", "ok\n", 1);
        assert_eq!(follow("a b", &imitation, 99).1, End::Contradiction);
    }

    #[test]
    fn an_output_that_ends_early_tells_which_test_it_ended_in() {
        let output = "\nrunning 3 tests\ntest a ... ok\ntest b ... fatal";
        assert_eq!(follow("a b c", output, 5), (vec![("a".to_owned(), TestEnd::Ok)], End::InTest(1)));
        assert_eq!(follow("a b c", "", 5), (vec![], End::BeforeTests));
        let without_end = OUTPUT.split("test result").next().unwrap();
        assert_eq!(follow("a b c d e f", without_end, 5).1, End::AfterTests);
    }

    #[test]
    fn endless_output_is_followed_in_bounded_memory() {
        let now = Instant::now();
        let mut follower = Follower::new(names("a b"), now);
        follower.read(b"\nrunning 2 tests\ntest a ... ", now);
        for _ in 0..64 {
            assert!(follower.read(&[b'x'; 64 * 1024], now).is_empty());
            assert!(follower.buffer.len() <= 2 * BUFFER_BYTES);
        }
        assert_eq!(follower.read(b"ok\ntest b ... ", now).len(), 1);
    }

    const WORDS: &[&str] = &[
        "test a ... ",
        "test b - should panic ... ",
        "ok\n",
        "FAILED\n",
        "ignored, ",
        "bench: ",
        "\nfailures:\n",
        "\n---- ",
        " stdout ----\n",
        "\ntest result: ok. 1 passed; 2 failed; 99999999999999999999 ignored; 0 measured;",
        "\nsuccesses:\n",
    ];

    proptest! {
        #[test]
        fn nothing_makes_it_panic(output in damaged(OUTPUT, WORDS), piece in 1..200_usize) {
            let now = Instant::now();
            let mut follower = Follower::new(names("a b c d e f"), now);
            let mut ended: Vec<Ended> =
                output.chunks(piece).flat_map(|piece| follower.read(piece, now)).collect();
            ended.extend(follower.conclude().ended);
            let kept: usize = ended.iter().map(|ended| match &ended.result {
                TestEnd::Failed(text) | TestEnd::Ignored(text) => text.len(),
                TestEnd::Ok => 0,
            }).sum();
            prop_assert!(kept <= 3 * output.len());
            // Each test has one end at most.
            let mut seen: Vec<&str> = ended.iter().map(|ended| ended.name.as_str()).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), ended.len());
        }
    }

    #[test]
    fn a_flood_is_not_kept() {
        let before = ["", "test a ... ", "test a ... ok\n\nfailures:\n\n---- a stdout ----\n"];
        for before in before {
            for piece in [&b"x"[..], b"a line\n", b"\n---- ", b"ok\n"] {
                let now = Instant::now();
                let mut follower = Follower::new(names("a"), now);
                follower.read(before.as_bytes(), now);
                let mut ended = Vec::new();
                assert_keeps_little(4 << 20, 8 << 20, &piece.repeat(4096), |piece| {
                    ended.extend(follower.read(piece, now));
                });
                follower.conclude();
            }
        }
    }
}
