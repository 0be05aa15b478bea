//! The live view, as a terminal shows it.

use std::io::{self, Write};
use std::time::Duration;

use distributest_core::identity::HostId;
use distributest_core::run_event::RunEvent;
use distributest_report::{Console, ConsoleOptions, ConsoleOutputs, Reporter};
use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};
use insta::assert_snapshot;

use crate::console::options;
use crate::scenarios;
use crate::script::Script;

/// Standard output and standard error on the same terminal.
#[derive(Clone, Debug)]
struct Terminal(InMemoryTerm);

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What a terminal's line discipline does.
        self.0.write_str(&std::str::from_utf8(bytes).unwrap().replace('\n', "\r\n"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn console_on(rows: u16, columns: u16) -> (Console, InMemoryTerm) {
    let terminal = InMemoryTerm::new(rows, columns);
    let options = ConsoleOptions { live: true, width: columns, ..options() };
    let outputs = ConsoleOutputs {
        results: Box::new(Terminal(terminal.clone())),
        messages: Box::new(Terminal(terminal.clone())),
        progress: ProgressDrawTarget::term_like(Box::new(terminal.clone())),
    };
    (Console::new(options, outputs), terminal)
}

/// What stands on the terminal when the run has got this far.
fn screen_at(seconds: f64, columns: u16, run: scenarios::Run) -> String {
    let (mut console, terminal) = console_on(60, columns);
    let now = Duration::from_secs_f64(seconds);
    for (at, event) in run.into_iter().take_while(|(at, _)| *at <= now) {
        console.on_event(at, &event).unwrap();
    }
    console.on_tick(now).unwrap();
    terminal.contents()
}

#[test]
fn hosts_tell_what_they_are_doing_while_they_prepare() {
    assert_snapshot!(screen_at(0.25, 80, scenarios::host_failed()), @r"
    h1: syncing
    h2: node_setup
    build.example: connecting
    ");
    assert_snapshot!(screen_at(0.5, 80, scenarios::host_failed()), @r"
    warning: host build.example: ssh: connect to host build.example port 22: Connect
    ion refused
             try `ssh build.example true`
    h1: syncing
    h2: node_setup
    ");
}

#[test]
fn many_preparing_hosts_stay_few_lines() {
    let names: Vec<_> = (1..=40).map(|number| format!("rack{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut script = Script::new(&names, &[("tests/test_a.py", None)]);
    let activity = "sync\u{1b}[2J of a project with a very long name indeed".to_owned();
    script.push(RunEvent::HostProgress { host: HostId(1), activity });
    assert_snapshot!(screen_at(0.0, 40, script.events), @r"
    rack1: connecting
    rack2: sync of a project with a very l…
    rack3: connecting
    rack4: connecting
    rack5: connecting
    rack6: connecting
    and 34 more hosts
    ");
}

#[test]
fn the_bar_fits_every_width() {
    assert_snapshot!(screen_at(5.0, 120, scenarios::failures()), @r"
    ━━━━━━━───────────────────────  1/4 files  3 running  about 88 s left
    longest: tests/test_billing.py on h1, 3 s
    ");
    assert_snapshot!(screen_at(5.0, 80, scenarios::failures()), @r"
    ━━━━━━━───────────────────────  1/4 files  3 running  about 88 s left
    longest: tests/test_billing.py on h1, 3 s
    ");
    assert_snapshot!(screen_at(5.0, 40, scenarios::failures()), @r"
    1/4 files  3 running  about 88 s left
    longest: …ts/test_billing.py on h1, 3 s
    ");
    assert_snapshot!(screen_at(5.0, 20, scenarios::failures()), @r"
    1/4 files
    longest: …ling.py …
    ");
}

#[test]
fn failures_are_printed_above_the_bar() {
    assert_snapshot!(screen_at(5.6, 80, scenarios::failures()), @r"
    FAILED tests/test_billing.py  2 of 3 tests failed  (h1 runner 1, 3.5 s)

      test_rounding[eur]  tests/test_billing.py:42
            def test_rounding(currency):
        >       assert total(currency) == 10.0
        E       AssertionError: assert 10.01 == 10.0
        E        +  where 10.01 = total('eur')

        tests/test_billing.py:42: AssertionError

      test_total  tests/test_billing.py:57
        KeyError: 'vat'

    ━━━━━━━━━━━━━━━───────────────  2/4 files  1 failed  2 running  about 88 s left
    longest: tests/test odd 'name'.py on h1, 4 s
    ");
}

#[test]
fn stopping_is_said_at_once() {
    assert_snapshot!(screen_at(1.8, 80, scenarios::interrupted()), @r"
    stopping what runs and cleaning up (Ctrl-C again: leave at once)
    ━─────────────────────────────  1/30 files  2 running  stopping
    longest: tests/test_01.py, 1 s
    ");
}

#[test]
fn nothing_of_the_live_view_stays_behind() {
    assert_snapshot!(screen_at(100.0, 80, scenarios::all_pass()), @r"
    3 files: 3 passed; 4 tests: 3 passed, 1 skipped
    3.6 s; testing took 3.2 s, 1.03 × the least possible 3.1 s
    held back by its longest file, tests/test_import.py (3.1 s)
    log: /var/log/latest.log
    ");
}

#[test]
fn a_console_that_is_dropped_leaves_a_clean_terminal() {
    let (mut console, terminal) = console_on(10, 80);
    for (at, event) in scenarios::all_pass().into_iter().take(5) {
        console.on_event(at, &event).unwrap();
    }
    assert!(terminal.contents().contains("0/3 files"), "{}", terminal.contents());
    drop(console);
    assert_eq!(terminal.contents(), "");
}
