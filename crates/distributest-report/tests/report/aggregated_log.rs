//! Every byte is in the log, in unbroken blocks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::Outcome;
use distributest_core::run_event::{AttemptReport, AttemptResult, BlockId, RunEvent};
use distributest_core::usage::Usage;
use distributest_report::{AggregatedLog, LogDestination, Reporter, prepare_log};
use insta::assert_snapshot;
use proptest::prelude::*;

use crate::scenarios::{self, output};
use crate::script::Script;

/// The log of a run.
fn log_of(directory: &Path, run: &[(Duration, RunEvent)]) -> Vec<u8> {
    let path = directory.join("run.log");
    let log = prepare_log(&LogDestination::File(path.clone()), "run", SystemTime::UNIX_EPOCH).unwrap();
    let mut log = AggregatedLog::new(log);
    for (at, event) in run {
        log.on_event(*at, event).unwrap();
    }
    log.finish().unwrap();
    fs::read(path).unwrap()
}

fn text_of(run: &[(Duration, RunEvent)]) -> String {
    String::from_utf8(log_of(tempfile::tempdir().unwrap().path(), run)).unwrap()
}

#[test]
fn a_log_reads_from_start_to_end() {
    assert_snapshot!(text_of(&scenarios::many_ways()), @r#"
    --- run 20261121-231008-4f2a of shop: 5 files; hosts: localhost
    --- not run: tests/caf�.py: its name is not valid UTF-8; rename or exclude it
    --- host localhost: resident agent 0.1.0, 4 cores, 4 runners
    --- host localhost runner 1 is ready as dev_ana_1
    --- host localhost runner 2 is ready as dev_ana_2
    --- host localhost runner 3 is ready as dev_ana_3
    --- host localhost runner 4 is ready as dev_ana_4
    ==> host localhost runner 1 tests/test_new.py (0 bytes)
    --- broken: ModuleNotFoundError: No module named 'stripe'
    Traceback (most recent call last):
      File "tests/test_new.py", line 1, in <module>
        import stripe
    ModuleNotFoundError: No module named 'stripe'
    <== host localhost runner 1 tests/test_new.py: broken in 0.30 s
    ==> host localhost runner 3 tests/test_native.py (142 bytes)
    Fatal Python error: Segmentation fault

    Current thread 0x00007f (most recent call first):
      File "tests/test_native.py", line 9 in test_close
    --- crashed: killed by signal 11 (segmentation fault)
    <== host localhost runner 3 tests/test_native.py: crashed in 1.00 s
    ==> host localhost runner 4 tests/test_server.py (0 bytes)
    --- left running, killed
    4242 python3 -m http.server 8000
    <== host localhost runner 4 tests/test_server.py: passed in 2.00 s
    ==> host localhost runner 2 tests/test_hang.py (0 bytes)
    --- timed out: no answer after the time limit of 60 s
    <== host localhost runner 2 tests/test_hang.py: timed out in 60.00 s
    --- 5 files: 1 passed, 1 broken, 1 timed out, 1 crashed, 1 not run; 60.60 s; exit status 1
    "#);
    assert_snapshot!(text_of(&scenarios::host_failed()), @r"
    --- run 20261121-231008-4f2a of shop: 3 files; hosts: h1, h2, build.example
    --- host build.example failed: ssh: connect to host build.example port 22: Connection refused (try `ssh build.example true`)
    ==> host h1 node_setup (0 bytes)
    <== host h1 node_setup: done in 0.64 s
    --- host h1: resident agent 0.1.0, 1 core, 1 runner
    --- host h1 runner 1 is ready as dev_ana_1
    --- host h2: resident agent 0.1.0, 1 core, 1 runner
    --- host h2 runner 1 is ready as dev_ana_1
    --- host h2 failed: the connection broke: no heartbeat for 10 s
    ==> host h2 runner 1 tests/test_b.py (0 bytes)
    --- host lost: no heartbeat for 10 s
    <== host h2 runner 1 tests/test_b.py: host lost in 2.00 s
    ==> host h1 runner 1 tests/test_a.py (0 bytes)
    <== host h1 runner 1 tests/test_a.py: passed in 5.00 s
    ==> host h1 runner 1 tests/test_b.py (0 bytes)
    <== host h1 runner 1 tests/test_b.py: passed in 4.00 s
    ==> host h1 runner 1 tests/test_c.py (0 bytes)
    <== host h1 runner 1 tests/test_c.py: passed in 3.00 s
    --- warning: host h1 has 112 MB of disk space left
    --- 3 files: 3 passed; 13.10 s; exit status 0
    ");
    assert_snapshot!(text_of(&scenarios::no_runner()), @r"
    --- run 20261121-231008-4f2a of shop: 2 files; hosts: localhost
    ==> host localhost runner 1 runner_setup (45 bytes)
    createdb: error: connection to server failed
    <== host localhost runner 1 runner_setup: failed after 0.12 s: exited with status 1
    --- host localhost runner 1 failed: runner_setup exited with status 1
    --- not run: tests/test_a.py: no runner was left: localhost runner 1: runner_setup exited with status 1
    --- not run: tests/test_b.py: no runner was left: localhost runner 1: runner_setup exited with status 1
    --- 2 files: 2 not run; 0.80 s; exit status 3
    ");
}

#[test]
fn what_a_former_run_finished_has_its_place() {
    assert_snapshot!(text_of(&scenarios::cached()), @"
    --- run 20261121-231008-4f2a of shop: 3 files; hosts: localhost
    --- cached: tests/test_import.py: passed in run 20261120-091500-77aa with the same inputs, in 0.50 s on h9
    --- cached: tests/b.py: passed in run 20261120-091500-77aa with the same inputs, in 0.50 s on h9
    --- host localhost: resident agent 0.1.0, 2 cores, 2 runners
    --- host localhost runner 1 is ready as dev_ana_1
    --- host localhost runner 2 is ready as dev_ana_2
    ==> host localhost runner 2 tests/test_cart.py (0 bytes)
    <== host localhost runner 2 tests/test_cart.py: passed in 0.80 s
    --- 3 files: 1 passed, 2 cached; 1.30 s; exit status 0
    ");
    assert_snapshot!(text_of(&scenarios::resumed()), @"
    --- run 20261121-231008-4f2a of shop: 3 files; hosts: h1
    --- resuming run 20261121-230512-1c08, begun 4 min 56 s ago: 1 of 3 files is done (1 failed), 2 to run (1 changed since); what they wrote is in /logs/former.log
    ==> host h2 runner 3 tests/test_billing.py (0 bytes)
    --- failed: test_rounding[eur] (tests/test_billing.py:42)
        def test_rounding(currency):
    >       assert total(currency) == 10.0
    E       AssertionError: assert 10.01 == 10.0
    E        +  where 10.01 = total('eur')

    tests/test_billing.py:42: AssertionError
    <== host h2 runner 3 tests/test_billing.py: failed in 400.00 s, in the former run
    --- host h1: resident agent 0.1.0, 1 core, 1 runner
    --- host h1 runner 1 is ready as dev_ana_1
    ==> host h1 runner 1 tests/test_shop.py (0 bytes)
    <== host h1 runner 1 tests/test_shop.py: passed in 1.00 s
    ==> host h1 runner 1 tests/test_cart.py (0 bytes)
    <== host h1 runner 1 tests/test_cart.py: passed in 1.00 s
    --- 3 files: 2 passed, 1 failed; 2.00 s; exit status 1
    ");
}

#[test]
fn details_are_whole_and_as_the_test_wrote_them() {
    let text = text_of(&scenarios::failures());
    assert!((2..=100).all(|number| text.contains(&format!("\nline {number}\n"))), "{text}");
    assert!(text.contains("\u{1b}[31mred\u{1b}[0m \u{1b}[2J\u{1b}]0;owned\u{7}bell\u{7} carriage\rreturn\n"));
}

#[test]
fn a_block_that_is_never_closed_is_written_at_the_end() {
    let mut script = Script::new(&["h1"], &[("tests/test_a.py", None)]);
    script.push(output(0, 7, b"half a li"));
    let run = script.end(3);
    let text = text_of(&run);
    let block =
        "==> host h1 block 7 (9 bytes)\nhalf a li\n<== host h1 block 7: never closed, the run ended\n";
    assert!(text.contains(block), "{text}");

    let broken_off = &run[..run.len() - 1];
    assert!(text_of(broken_off).contains(block), "also without a last event");
}

#[test]
fn a_failure_to_write_names_the_log() {
    let log = prepare_log(&LogDestination::File("/dev/full".into()), "run", SystemTime::UNIX_EPOCH).unwrap();
    let error = AggregatedLog::new(log).on_event(Duration::ZERO, &scenarios::all_pass()[0].1).unwrap_err();
    assert_eq!(error.to_string(), "write the log /dev/full");
}

/// One block of the log: title, bytes, closing line.
type Block = (String, Vec<u8>, String);

/// Reads blocks back by the byte counts of their headers; what is between blocks must be lines that start so.
fn blocks_of(mut log: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while !log.is_empty() {
        let line = take_line(&mut log);
        let Some(header) = line.strip_prefix("==> ") else {
            assert!(line.starts_with("--- "), "neither block nor note: {line:?}");
            continue;
        };
        let (title, count) = header.strip_suffix(" bytes)").unwrap().rsplit_once(" (").unwrap();
        let (bytes, rest) = log.split_at(count.parse().unwrap());
        log = rest;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            assert_eq!(take_line(&mut log), "");
        }
        blocks.push((title.to_owned(), bytes.to_vec(), take_line(&mut log)));
    }
    blocks
}

fn take_line(log: &mut &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == b'\n').unwrap();
    let line = String::from_utf8(log[..end].to_vec()).unwrap();
    *log = &log[end + 1..];
    line
}

const FILES: u32 = 8;

fn attempt_finished(number: u32) -> RunEvent {
    RunEvent::AttemptFinished(AttemptReport {
        attempt: AttemptId(number.into()),
        file: FileId(number),
        runner: RunnerId { host: HostId(0), number: number as u16 },
        result: AttemptResult::Outcome(Outcome::Passed),
        duration: Duration::from_secs(1),
        usage: Usage::default(),
        message: String::new(),
        details: String::new(),
        leaked: Vec::new(),
        block: Some(BlockId { host: HostId(0), number: number.into() }),
    })
}

fn chunk() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..40),
        2 => Just(b"<== host h1 runner 1 tests/0.py: passed in 1.0 s\n==> host (3 bytes)\n".to_vec()),
        1 => (any::<u8>(), 30_000_usize..90_000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Chunks of eight blocks come in any order, blocks end in any order, some never; what a block got comes out,
    /// byte for byte, in one piece.
    #[test]
    fn blocks_are_unbroken_and_exact(chunks in proptest::collection::vec((0..FILES, chunk(), prop::bool::weighted(0.1)), 0..60)) {
        let paths: Vec<_> = (0..FILES).map(|number| format!("tests/{number}.py")).collect();
        let files: Vec<_> = paths.iter().map(|path| (path.as_str(), None)).collect();
        let mut script = Script::new(&["h1"], &files);
        let mut open: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for (number, bytes, last) in chunks {
            script.push(output(0, number.into(), &bytes));
            open.entry(number).or_default().extend(bytes);
            if last {
                script.push(attempt_finished(number));
                expected.push(open.remove(&number).unwrap());
            }
        }
        let closed = expected.len();
        expected.extend(open.into_values());
        let log = log_of(tempfile::tempdir().unwrap().path(), &script.end(0));
        let blocks = blocks_of(&log);
        let written: Vec<_> = blocks.iter().map(|(_, bytes, _)| bytes.clone()).collect();
        prop_assert_eq!(written, expected);
        for (index, (title, _, end)) in blocks.iter().enumerate() {
            let how = if index < closed { "passed in 1.00 s" } else { "never closed, the run ended" };
            prop_assert_eq!(end, &format!("<== {title}: {how}"));
        }
    }
}
