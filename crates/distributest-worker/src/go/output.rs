//! Follows what a Go test binary prints with `-test.v`.
//!
//! ```text
//! === RUN   TestA
//! === RUN   TestA/sub
//!     a_test.go:4: what it logged
//! --- FAIL: TestA (0.00s)
//!     --- FAIL: TestA/sub (0.00s)
//! === RUN   ExampleB
//! --- FAIL: ExampleB (0.00s)
//! got:
//! x
//! FAIL
//! ```
//!
//! The rules are those of Go's own `test2json`: what is printed belongs to the test named last. Since Go 1.20 a binary can
//! be asked to mark its lines with a byte (`-test.v=test2json`), so that they are told from what tests print, also in
//! the middle of a line. Without it, a result at the end of a line counts when the test it names is running; and whether the
//! failure of one that never began is a result, only the end of the process tells.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::excerpt::Excerpt;

/// Begins a line of the testing package's.
const MARKER: u8 = 0x16;

/// A longer line than this is taken in pieces.
const LINE_BYTES: usize = 64 * 1024;

/// How much of each end of a test's output is kept.
const OUTPUT_BYTES: usize = 256 * 1024;

/// How much of each end of the output that belongs to no test is.
const REST_BYTES: usize = 64 * 1024;

/// How many failures are kept of tests that never began.
const DOUBTFUL_RESULTS: usize = 1000;

/// A test and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) id: String,
    pub(super) result: TestEnd,
    pub(super) duration: Duration,
    /// What it printed.
    pub(super) output: String,
}

/// What the testing package says of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestEnd {
    Passed,
    Failed,
    Skipped,
}

/// What is known at the end of the output.
#[derive(Debug)]
pub(super) struct Conclusion {
    /// Tests whose end was only clear now.
    pub(super) ended: Vec<Ended>,
    /// Tests that began and did not end, with what they printed, in the order they began.
    pub(super) running: Vec<(String, String)>,
    /// The test that the output stopped in.
    pub(super) current: Option<String>,
    /// Whether the testing package said last that all tests have ended.
    pub(super) has_verdict: bool,
    /// Failures of tests that never began, which others printed, or whose beginnings are lost in what others did.
    pub(super) doubtful: Vec<Ended>,
    /// What belongs to no test.
    pub(super) rest: String,
}

/// Understands the output as it comes.
#[derive(Debug)]
pub(super) struct Follower {
    has_markers: bool,
    line: Vec<u8>,
    /// Tests that began and have not ended, each with how many had begun before it.
    running: HashMap<String, u64>,
    begun: u64,
    /// All tests that ever began, where their lines have no marker.
    known: HashSet<String>,
    outputs: HashMap<String, Excerpt>,
    /// Tests that ended, of which more may be printed.
    ended: Vec<(String, TestEnd, Duration)>,
    doubtful: Vec<(String, Duration)>,
    current: Option<String>,
    has_verdict: bool,
    rest: Excerpt,
}

/// A line of the testing package's.
#[derive(Debug, PartialEq, Eq)]
enum Framing<'a> {
    /// A test begins, pauses or goes on.
    Turn { verb: &'a str, id: &'a str },
    /// A test has ended.
    Result { end: TestEnd, id: &'a str, duration: Duration, is_nested: bool },
    /// All tests have.
    Verdict,
}

impl Follower {
    /// For a binary that marks its lines, or does not.
    pub(super) fn new(has_markers: bool) -> Follower {
        Follower {
            has_markers,
            line: Vec::new(),
            running: HashMap::new(),
            begun: 0,
            known: HashSet::new(),
            outputs: HashMap::new(),
            ended: Vec::new(),
            doubtful: Vec::new(),
            current: None,
            has_verdict: false,
            rest: Excerpt::new(REST_BYTES),
        }
    }

    /// Takes the next part of the output. Returns the tests that have ended.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Ended> {
        let mut ended = Vec::new();
        let is_end = |byte: &u8| *byte == b'\n' || self.has_markers && *byte == MARKER;
        let parts: Vec<&[u8]> = bytes.split_inclusive(is_end).collect();
        for part in parts {
            let (part, marker) = match part.strip_suffix(&[MARKER]) {
                Some(before) if self.has_markers => (before, true),
                _ => (part, false),
            };
            self.line.extend_from_slice(part);
            if marker || part.ends_with(b"\n") || self.line.len() > LINE_BYTES {
                let line = std::mem::take(&mut self.line);
                self.take(&line, &mut ended);
                // It is the beginning of the next line.
                self.line.extend(marker.then_some(MARKER));
            }
        }
        ended
    }

    /// The output has ended.
    pub(super) fn conclude(mut self) -> Conclusion {
        let mut ended = Vec::new();
        let line = std::mem::take(&mut self.line);
        self.take(&line, &mut ended);
        self.flush(&mut ended);
        let mut running: Vec<(String, u64)> = self.running.into_iter().collect();
        running.sort_unstable_by_key(|(_, position)| *position);
        let running = running.into_iter().map(|(id, _)| {
            let output = self.outputs.remove(&id).map(|output| output.text()).unwrap_or_default();
            (id, output)
        });
        let doubtful = self.doubtful.into_iter().map(|(id, duration)| Ended {
            id,
            result: TestEnd::Failed,
            duration,
            output: String::new(),
        });
        Conclusion {
            ended,
            doubtful: doubtful.collect(),
            running: running.collect(),
            current: self.current,
            has_verdict: self.has_verdict,
            rest: self.rest.text(),
        }
    }

    fn take(&mut self, line: &[u8], ended: &mut Vec<Ended>) {
        let unmarked = line.strip_prefix(&[MARKER]);
        let text = String::from_utf8_lossy(unmarked.unwrap_or(line)).into_owned();
        let text_line = text.strip_suffix('\n').unwrap_or(&text);
        let whole = if self.has_markers && unmarked.is_none() {
            // The verdict has no marker.
            verdict(text_line)
        } else {
            framing(text_line)
        };
        let (printed, framing) = match whole {
            Some(Framing::Result { end: TestEnd::Failed, id, duration, .. }) if self.is_doubtful(id) => {
                if self.doubtful.len() < DOUBTFUL_RESULTS {
                    self.doubtful.push((id.to_owned(), duration));
                }
                (text.as_str(), None)
            }
            Some(framing) => ("", Some(framing)),
            None if self.has_markers => (text.as_str(), None),
            None => self
                .framing_at_end(text_line)
                .map_or((text.as_str(), None), |(before, framing)| (before, Some(framing))),
        };
        match (&framing, line.is_empty()) {
            // Bytes stay as they are.
            (None, false) => self.print(line),
            _ => self.print(printed.as_bytes()),
        }
        if let Some(framing) = framing {
            self.follow(&framing, ended);
        }
    }

    fn follow(&mut self, framing: &Framing<'_>, ended: &mut Vec<Ended>) {
        self.has_verdict = matches!(framing, Framing::Verdict);
        match framing {
            Framing::Turn { verb, id } => {
                self.flush(ended);
                if *verb == "RUN" && !self.is_running(id) {
                    self.running.insert((*id).to_owned(), self.begun);
                    if !self.has_markers {
                        self.known.insert((*id).to_owned());
                    }
                    self.begun += 1;
                }
                self.current = Some((*id).to_owned());
            }
            Framing::Result { end, id, duration, is_nested } => {
                if !is_nested {
                    self.flush(ended);
                }
                self.running.remove(*id);
                self.ended.push(((*id).to_owned(), *end, *duration));
                self.current = Some((*id).to_owned());
            }
            Framing::Verdict => {
                self.flush(ended);
                self.current = None;
            }
        }
    }

    /// A result at the end of a line that a test began, and what that printed before it.
    fn framing_at_end<'a>(&self, line: &'a str) -> Option<(&'a str, Framing<'a>)> {
        let begin = line.rfind("--- ").or_else(|| line.rfind("=== RUN   "))?;
        let framing = framing(&line[begin..])?;
        let is_meant = match &framing {
            Framing::Turn { id, .. } => {
                id.rsplit_once('/').is_some_and(|(parent, _)| self.is_running(parent))
            }
            Framing::Result { id, .. } => self.is_running(id),
            Framing::Verdict => false,
        };
        is_meant.then_some((&line[..begin], framing))
    }

    fn is_running(&self, id: &str) -> bool {
        self.running.contains_key(id)
    }

    /// Whether a line that says this test has failed may be another's. Where a `TestMain` sets `-test.v` back, none begins.
    fn is_doubtful(&self, id: &str) -> bool {
        !self.has_markers && self.begun > 0 && !self.known.contains(id)
    }

    fn print(&mut self, bytes: &[u8]) {
        let output = match &self.current {
            Some(id) => self.outputs.entry(id.clone()).or_insert_with(|| Excerpt::new(OUTPUT_BYTES)),
            None => &mut self.rest,
        };
        output.push(bytes);
    }

    /// Nothing more is printed of what has ended.
    fn flush(&mut self, ended: &mut Vec<Ended>) {
        for (id, result, duration) in self.ended.drain(..) {
            let output = self.outputs.remove(&id).map(|output| output.text()).unwrap_or_default();
            ended.push(Ended { id, result, duration, output });
        }
    }
}

/// Reads a line of the testing package's, without its marker.
fn framing(line: &str) -> Option<Framing<'_>> {
    if let Some(rest) = line.strip_prefix("=== ") {
        let (verb, id) = rest.split_once(' ')?;
        let is_verb = matches!(verb, "RUN" | "PAUSE" | "CONT" | "NAME");
        return is_verb.then(|| Framing::Turn { verb, id: id.trim_start() });
    }
    let unindented = line.trim_start_matches("    ");
    let Some(rest) = unindented.strip_prefix("--- ") else { return verdict(line) };
    let (word, rest) = rest.split_once(": ")?;
    let (id, seconds) = rest.strip_suffix("s)")?.rsplit_once(" (")?;
    let end = match word {
        "PASS" => TestEnd::Passed,
        "FAIL" => TestEnd::Failed,
        "SKIP" => TestEnd::Skipped,
        _ => return None,
    };
    let duration = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    Some(Framing::Result { end, id, duration, is_nested: unindented.len() < line.len() })
}

fn verdict(line: &str) -> Option<Framing<'_>> {
    matches!(line, "PASS" | "FAIL").then_some(Framing::Verdict)
}

/// Takes the markers out of what is printed, for those who read it.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    /// What may be the beginning of a marked line.
    held: Vec<u8>,
}

impl Unmarked {
    /// The next part of the output without markers.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        let mut unmarked = Vec::with_capacity(text.len());
        let mut rest = text.as_slice();
        while let Some(place) = rest.iter().position(|byte| *byte == MARKER) {
            unmarked.extend_from_slice(&rest[..place]);
            rest = &rest[place..];
            if rest.len() < 5 && (b"\x16=== ".starts_with(rest) || b"\x16--- ".starts_with(rest)) {
                self.held = rest.to_vec();
                return unmarked;
            }
            let is_marked = rest.starts_with(b"\x16=== ") || rest.starts_with(b"\x16--- ");
            // Any other is the test's own.
            unmarked.extend_from_slice(if is_marked { &[] } else { &rest[..1] });
            rest = &rest[1..];
        }
        unmarked.extend_from_slice(rest);
        unmarked
    }

    /// What was held back to the end.
    pub(super) fn end(self) -> Vec<u8> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{assert_keeps_little, damaged};

    const OUTPUT: &str = "\
before the tests
=== RUN   TestA
printed without end--- PASS: TestA (0.01s)
=== RUN   TestB
=== RUN   TestB/one
    b_test.go:4: bad
--- FAIL: TestNobody (0.00s)
=== RUN   TestB/two
--- FAIL: TestB (0.02s)
    --- FAIL: TestB/one (0.00s)
    --- SKIP: TestB/two (0.00s)
=== RUN   TestC
=== PAUSE TestC
=== RUN   TestD
=== PAUSE TestD
=== CONT  TestC
    c_test.go:1: of C
=== CONT  TestD
    d_test.go:1: of D
--- PASS: TestD (0.00s)
=== RUN   ExampleE
--- FAIL: ExampleE (0.00s)
got:
x
want:
y
=== RUN   TestF
panic text
";

    fn follow(output: &[u8], has_markers: bool, piece: usize) -> (Vec<Ended>, Conclusion) {
        let mut follower = Follower::new(has_markers);
        let mut ended: Vec<Ended> = output.chunks(piece).flat_map(|piece| follower.read(piece)).collect();
        let mut conclusion = follower.conclude();
        ended.append(&mut conclusion.ended);
        (ended, conclusion)
    }

    fn summary(ended: &[Ended]) -> Vec<(&str, TestEnd, &str)> {
        ended.iter().map(|ended| (ended.id.as_str(), ended.result, ended.output.as_str())).collect()
    }

    #[test]
    fn every_kind_of_line_is_understood_in_pieces_of_any_size() {
        for piece in (1..40).chain([OUTPUT.len()]) {
            let (ended, conclusion) = follow(OUTPUT.as_bytes(), false, piece);
            let expected = [
                ("TestA", TestEnd::Passed, "printed without end"),
                ("TestB", TestEnd::Failed, ""),
                ("TestB/one", TestEnd::Failed, "    b_test.go:4: bad\n--- FAIL: TestNobody (0.00s)\n"),
                ("TestB/two", TestEnd::Skipped, ""),
                ("TestD", TestEnd::Passed, "    d_test.go:1: of D\n"),
                ("ExampleE", TestEnd::Failed, "got:\nx\nwant:\ny\n"),
            ];
            assert_eq!(summary(&ended), expected, "pieces of {piece}");
            // Without markers a line like that can't be told from a result.
            assert_eq!(summary(&conclusion.doubtful), [("TestNobody", TestEnd::Failed, "")]);
            assert_eq!(ended[0].duration, Duration::from_millis(10));
            let running: Vec<_> =
                conclusion.running.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
            assert_eq!(running, [("TestC", "    c_test.go:1: of C\n"), ("TestF", "panic text\n")]);
            assert_eq!(conclusion.current.as_deref(), Some("TestF"));
            assert_eq!(conclusion.rest, "before the tests\n");
        }
    }

    #[test]
    fn failures_count_where_no_test_is_said_to_begin() {
        let (ended, conclusion) = follow(b"--- FAIL: TestA (0.00s)\n    a_test.go:1: bad\nFAIL\n", false, 7);
        assert_eq!(summary(&ended), [("TestA", TestEnd::Failed, "    a_test.go:1: bad\n")]);
        assert_eq!(conclusion.doubtful, []);
    }

    #[test]
    fn with_markers_nothing_that_tests_print_is_a_result() {
        let output = b"\x16=== RUN   TestA\n--- FAIL: TestB (0.00s)\nno end\x16--- PASS: TestA (0.00s)\nPASS\ncoverage: 1%\n";
        for piece in 1..40 {
            let (ended, conclusion) = follow(output, true, piece);
            assert_eq!(summary(&ended), [("TestA", TestEnd::Passed, "--- FAIL: TestB (0.00s)\nno end")]);
            assert_eq!(conclusion.rest, "coverage: 1%\n");
            let mut unmarked = Unmarked::default();
            let mut text: Vec<u8> = output.chunks(piece).flat_map(|piece| unmarked.read(piece)).collect();
            text.extend(unmarked.end());
            let expected: Vec<u8> = output.iter().copied().filter(|byte| *byte != MARKER).collect();
            assert_eq!(text, expected);
        }
        assert_eq!(Unmarked::default().read(b"own \x16 byte"), b"own \x16 byte");
    }

    #[test]
    fn lines_without_end_are_followed_in_bounded_memory() {
        let mut follower = Follower::new(false);
        follower.read(b"=== RUN   TestA\n");
        for _ in 0..64 {
            assert!(follower.read(&[b'x'; 64 * 1024]).is_empty());
            assert!(follower.line.len() <= 2 * LINE_BYTES);
        }
        follower.read(b"\n--- PASS: TestA (0.00s)\n");
        let conclusion = follower.conclude();
        assert_eq!(conclusion.ended.len(), 1);
        assert!(conclusion.ended[0].output.len() < 3 * OUTPUT_BYTES);
    }

    const WORDS: &[&str] = &[
        "=== RUN   ",
        "=== PAUSE ",
        "=== CONT  ",
        "=== NAME  ",
        "--- PASS: ",
        "--- FAIL: ",
        "    --- SKIP: ",
        " (0.01s)\n",
        " (NaNs)\n",
        " (-1.5s)\n",
        " (1e300s)\n",
        "PASS\n",
        "FAIL\n",
        "\u{16}",
        "/",
    ];

    proptest! {
        #[test]
        fn nothing_makes_it_panic(output in damaged(OUTPUT, WORDS), markers: bool, piece in 1..200_usize) {
            let (ended, conclusion) = follow(&output, markers, piece);
            let kept: usize = ended.iter().map(|ended| ended.output.len()).sum();
            let running: usize = conclusion.running.iter().map(|(_, output)| output.len()).sum();
            // What is no UTF-8 becomes three bytes.
            prop_assert!(kept + running + conclusion.rest.len() <= 3 * output.len());
            let mut unmarked = Unmarked::default();
            let mut passed: usize = output.chunks(piece).map(|piece| unmarked.read(piece).len()).sum();
            passed += unmarked.end().len();
            prop_assert!(passed <= output.len());
        }
    }

    #[test]
    fn a_flood_is_not_kept() {
        for piece in
            [&b"x"[..], b"a line of a test that says much\n", b"\x16=== NAME  TestA\n", b"    --- PASS: "]
        {
            let mut follower = Follower::new(true);
            follower.read(b"\x16=== RUN   TestA\n");
            assert_keeps_little(4 << 20, 8 << 20, &piece.repeat(4096), |piece| drop(follower.read(piece)));
            follower.conclude();
        }
    }

    #[test]
    fn a_hundred_thousand_subtests_take_no_time() {
        let begin = std::time::Instant::now();
        let mut output = String::from("=== RUN   TestA\n");
        for number in 0..100_000 {
            output.push_str(&format!("=== RUN   TestA/{number}\n"));
        }
        output.push_str("--- PASS: TestA (1.00s)\n");
        for number in 0..100_000 {
            output.push_str(&format!("    --- PASS: TestA/{number} (0.00s)\n"));
        }
        let (ended, conclusion) = follow(output.as_bytes(), false, 64 * 1024);
        assert_eq!((ended.len(), conclusion.running.len()), (100_001, 0));
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}
