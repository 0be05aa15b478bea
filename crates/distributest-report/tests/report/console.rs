//! What the console prints, word for word.

use std::time::Duration;

use distributest_report::{Console, ConsoleOptions, ConsoleOutputs, Reporter, Verbosity};
use indicatif::ProgressDrawTarget;
use insta::assert_snapshot;

use crate::scenarios::{self, Run};
use crate::shared_buffer::{FailingWriter, SharedBuffer};

pub(crate) fn options() -> ConsoleOptions {
    ConsoleOptions {
        color: false,
        width: 80,
        live: false,
        verbosity: Verbosity::Normal,
        slow_file: Duration::from_secs(60),
        slow_test: Duration::from_secs(10),
        rerun_command: "distributest".to_owned(),
        resume_command: "distributest --resume".to_owned(),
        log_path: Some("/var/log/latest.log".into()),
    }
}

/// Both outputs of a run, as they follow each other.
fn printed(options: ConsoleOptions, run: Run) -> String {
    let both = SharedBuffer::default();
    play(options, run, both.clone(), both.clone());
    both.text()
}

fn play(options: ConsoleOptions, run: Run, results: SharedBuffer, messages: SharedBuffer) {
    let progress = ProgressDrawTarget::hidden();
    let outputs = ConsoleOutputs { results: Box::new(results), messages: Box::new(messages), progress };
    let mut console = Console::new(options, outputs);
    for (at, event) in run {
        console.on_event(at, &event).unwrap();
    }
    console.finish().unwrap();
}

#[test]
fn a_run_that_passes_is_calm() {
    assert_snapshot!(printed(options(), scenarios::all_pass()), @r"
    3 files

    3 files: 3 passed; 4 tests: 3 passed, 1 skipped
    3.6 s; testing took 3.2 s, 1.03 × the least possible 3.1 s
    held back by its longest file, tests/test_import.py (3.1 s)
    log: /var/log/latest.log
    ");
}

#[test]
fn what_a_former_run_finished_is_told_as_its_own() {
    assert_snapshot!(printed(options(), scenarios::resumed()), @"
    3 files
    resuming run 20261121-230512-1c08, begun 4 min 56 s ago: 1 of 3 files is done (1 failed), 2 to run (1 changed since)
    FAILED tests/test_billing.py  1 of 1 test failed  (h2 runner 3 in the former run, 6 min 40 s)

      test_rounding[eur]  tests/test_billing.py:42
            def test_rounding(currency):
        >       assert total(currency) == 10.0
        E       AssertionError: assert 10.01 == 10.0
        E        +  where 10.01 = total('eur')

        tests/test_billing.py:42: AssertionError

    Failed
      tests/test_billing.py
        test_rounding[eur]: AssertionError: assert 10.01 == 10.0
        $ distributest 'tests/test_billing.py::test_rounding[eur]'

    Slow files
       6 min 40 s  tests/test_billing.py on h2

    3 files: 2 passed, 1 failed; 3 tests: 2 passed, 1 failed
    2.0 s; testing took 2.0 s, 1.00 × the least possible 2.0 s
    log: /var/log/latest.log
    ");
}

#[test]
fn what_was_not_run_because_it_passed_before_has_a_word_of_its_own() {
    assert_snapshot!(printed(options(), scenarios::cached()), @"
    3 files

    3 files: 1 passed, 2 cached; 4 tests: 3 passed, 1 skipped
    1.3 s; testing took 0.90 s, 1.12 × the least possible 0.80 s
    held back by its longest file, tests/test_cart.py (0.80 s)
    log: /var/log/latest.log
    ");
    let verbose = ConsoleOptions { verbosity: Verbosity::Verbose, ..options() };
    assert_snapshot!(printed(verbose, scenarios::cached()), @"
    run 20261121-231008-4f2a of shop: 3 files
    cached    tests/test_import.py
    cached    tests/b.py
    localhost: resident agent 0.1.0, 2 cores, 2 runners
    passed    tests/test_cart.py  (0.80 s, 1 test, runner 2)

    3 files: 1 passed, 2 cached; 4 tests: 3 passed, 1 skipped
    1.3 s; testing took 0.90 s, 1.12 × the least possible 0.80 s
    held back by its longest file, tests/test_cart.py (0.80 s)
    log: /var/log/latest.log
    ");
}

#[test]
fn failures_are_told_as_they_happen_and_again_at_the_end() {
    assert_snapshot!(printed(options(), scenarios::failures()), @r"
    4 files on h1, h2
    FAILED tests/test_billing.py  2 of 3 tests failed  (h1 runner 1, 3.5 s)

      test_rounding[eur]  tests/test_billing.py:42
            def test_rounding(currency):
        >       assert total(currency) == 10.0
        E       AssertionError: assert 10.01 == 10.0
        E        +  where 10.01 = total('eur')

        tests/test_billing.py:42: AssertionError

      test_total  tests/test_billing.py:57
        KeyError: 'vat'

    FAILED tests/test odd 'name'.py  1 of 1 test failed  (h1 runner 2, 4.0 s)

      test_newline in its name  tests/test odd 'name'.py
        too much
        red bell^G carriage^Mreturn
        line 2
        line 3
        line 4
        line 5
        line 6
        line 7
        line 8
        line 9
        line 10
        line 11
        line 12
        line 13
        line 14
        line 15
        … (50 more lines in the log)
        line 66
        line 67
        line 68
        line 69
        line 70
        line 71
        line 72
        line 73
        line 74
        line 75
        line 76
        line 77
        line 78
        line 79
        line 80
        line 81
        line 82
        line 83
        line 84
        line 85
        line 86
        line 87
        line 88
        line 89
        line 90
        line 91
        line 92
        line 93
        line 94
        line 95
        line 96
        line 97
        line 98
        line 99
        line 100

    3/4 files, 2 failed, about 23 s left

    Failed
      tests/test_billing.py
        test_rounding[eur]: AssertionError: assert 10.01 == 10.0
        test_total: KeyError: 'vat'
        $ distributest 'tests/test_billing.py::test_rounding[eur]' tests/test_billing.py::test_total
      tests/test odd 'name'.py
        test_newline in its name: too much
        $ distributest $'tests/test odd \'name\'.py::test_newline\nin its name'

    Slow files
       1 min 36 s  tests/test_import.py on h2

    Slow tests
       1 min 21 s  tests/test_import.py  test_big_file on h2

    Hosts
      h1  2 runners, 2 files, busy 4 %
      h2  2 runners, 2 files, busy 50 %

    4 files: 2 passed, 2 failed; 7 tests: 3 passed, 2 failed, 1 error, 1 failed as expected
    1 min 39 s; testing took 1 min 37 s, 1.01 × the least possible 1 min 36 s
    held back by its longest file, tests/test_import.py (1 min 36 s on h2)
    runners: 50 % testing, 4 % preparing, 1 % between files, 44 % waiting for the last one
    log: /var/log/latest.log
    ");
}

#[test]
fn every_way_not_to_pass_is_named() {
    assert_snapshot!(printed(options(), scenarios::many_ways()), @r#"
    5 files
    BROKEN tests/test_new.py  did not load  (runner 1, 0.30 s)
      Traceback (most recent call last):
        File "tests/test_new.py", line 1, in <module>
          import stripe
      ModuleNotFoundError: No module named 'stripe'

    CRASHED tests/test_native.py  after 1 test  (runner 3, 1.0 s)
      killed by signal 11 (segmentation fault)

      its last output:
        Fatal Python error: Segmentation fault

        Current thread 0x00007f (most recent call first):
          File "tests/test_native.py", line 9 in test_close

    4/5 files, 2 failed, about 1 s left
    TIMED OUT tests/test_hang.py  (runner 2, 1 min 00 s)
      no answer after the time limit of 60 s

    Did not load
      tests/test_new.py
        ModuleNotFoundError: No module named 'stripe'
        $ distributest tests/test_new.py

    Timed out
      tests/test_hang.py
        no answer after the time limit of 60 s
        $ distributest tests/test_hang.py

    Crashed
      tests/test_native.py
        killed by signal 11 (segmentation fault)
        $ distributest tests/test_native.py

    Not run
      1 file: its name is not valid UTF-8; rename or exclude it
        tests/caf�.py

    Processes left running by tests, killed
      tests/test_server.py on localhost runner 4
        4242 python3 -m http.server 8000

    5 files: 1 passed, 1 broken, 1 timed out, 1 crashed, 1 not run; 2 tests: 2 passed
    1 min 01 s; testing took 1 min 00 s, 1.00 × the least possible 1 min 00 s
    held back by its longest file, tests/test_hang.py (1 min 00 s)
    log: /var/log/latest.log
    "#);
}

#[test]
fn failing_hosts_are_named_with_what_to_do() {
    assert_snapshot!(printed(options(), scenarios::host_failed()), @r"
    3 files on h1, h2, build.example
    warning: host build.example: ssh: connect to host build.example port 22: Connection refused
             try `ssh build.example true`
    warning: host h2: the connection broke: no heartbeat for 10 s
    1/3 files, about 7 s left
    warning: host h1 has 112 MB of disk space left

    Hosts
      h1             1 runner, 3 files, busy 99 %
      h2             1 runner, 0 files, busy 17 %
        the connection broke: no heartbeat for 10 s
      build.example  took no part
        ssh: connect to host build.example port 22: Connection refused

    3 files: 3 passed; 3 tests: 3 passed
    13.1 s; testing took 12.1 s, 1.73 × the least possible 7.0 s
    held back by runners that waited for the last file, tests/test_c.py (3.0 s on h1)
    log: /var/log/latest.log
    ");
}

#[test]
fn what_a_host_can_not_run_is_said_once_and_where_files_were_not_run() {
    assert_snapshot!(printed(options(), scenarios::not_everywhere()), @"
    3 files on h1, h2
    warning: h1 can't run rspec: none of these programs is there: ruby
             install it in node_setup
    warning: host h2: gone

    Not run
      1 file: no runner could run it: none of these programs is there: ruby; gone
        spec/c_spec.rb
      $ distributest --resume

    Hosts
      h1  2 runners, 1 file, busy 36 %
        runners 1, 2: can't run rspec
      h2  1 runner, 1 file, busy 89 %
        gone

    3 files: 2 passed, 1 not run; 2 tests: 2 passed
    6.6 s; testing took 5.6 s, 1.12 × the least possible 5.0 s
    held back by its longest file, spec/a_spec.rb (5.0 s on h2)
    log: /var/log/latest.log
    ");
}

#[test]
fn an_interrupted_run_says_what_is_known() {
    assert_snapshot!(printed(options(), scenarios::interrupted()), @"
    30 files
    stopping what runs and cleaning up (Ctrl-C again: leave at once)

    Not run
      29 files: the run was stopped
        tests/test_01.py  (1 test had failed by then)
        tests/test_02.py
        tests/test_03.py
        tests/test_04.py
        tests/test_05.py
        tests/test_06.py
        tests/test_07.py
        tests/test_08.py
        tests/test_09.py
        tests/test_10.py
        tests/test_11.py
        tests/test_12.py
        tests/test_13.py
        tests/test_14.py
        tests/test_15.py
        tests/test_16.py
        tests/test_17.py
        tests/test_18.py
        tests/test_19.py
        tests/test_20.py
        … and 9 more files, all in the log
      $ distributest --resume

    30 files: 1 passed, 29 not run; 1 test: 1 passed
    2.0 s; testing took 1.6 s, 1.07 × the least possible 1.5 s
    log: /var/log/latest.log
    ");
}

#[test]
fn a_failing_hook_shows_its_last_words() {
    assert_snapshot!(printed(options(), scenarios::no_runner()), @"
    2 files
    localhost runner 1: runner_setup failed, its last output:
        createdb: error: connection to server failed
    warning: runner 1: runner_setup exited with status 1

    Not run
      2 files: no runner was left: localhost runner 1: runner_setup exited with status 1
        tests/test_a.py
        tests/test_b.py
      $ distributest --resume

    2 files: 2 not run
    0.80 s
    log: /var/log/latest.log
    ");
}

#[test]
fn a_run_without_files_says_so() {
    assert_snapshot!(printed(options(), scenarios::no_files()), @r"
    no test files
    log: /var/log/latest.log
    ");
}

#[test]
fn a_run_without_tests_says_so() {
    assert_snapshot!(printed(options(), scenarios::no_tests()), @r"
    2 files

    2 files: 2 passed; no tests ran
    1.3 s; testing took 0.90 s, 1.12 × the least possible 0.80 s
    held back by its longest file, tests/test_b.py (0.80 s)
    log: /var/log/latest.log
    ");
}

#[test]
fn quiet_is_what_is_not_fine_and_the_summary() {
    let quiet = ConsoleOptions { verbosity: Verbosity::Quiet, ..options() };
    assert_snapshot!(printed(quiet.clone(), scenarios::failures()), @r"
    Failed
      tests/test_billing.py
        test_rounding[eur]: AssertionError: assert 10.01 == 10.0
        test_total: KeyError: 'vat'
        $ distributest 'tests/test_billing.py::test_rounding[eur]' tests/test_billing.py::test_total
      tests/test odd 'name'.py
        test_newline in its name: too much
        $ distributest $'tests/test odd \'name\'.py::test_newline\nin its name'

    4 files: 2 passed, 2 failed; 7 tests: 3 passed, 2 failed, 1 error, 1 failed as expected
    1 min 39 s; testing took 1 min 37 s, 1.01 × the least possible 1 min 36 s
    held back by its longest file, tests/test_import.py (1 min 36 s on h2)
    log: /var/log/latest.log
    ");
    assert_snapshot!(printed(quiet, scenarios::all_pass()), @r"
    3 files: 3 passed; 4 tests: 3 passed, 1 skipped
    3.6 s; testing took 3.2 s, 1.03 × the least possible 3.1 s
    held back by its longest file, tests/test_import.py (3.1 s)
    log: /var/log/latest.log
    ");
}

#[test]
fn verbose_has_a_line_for_everything() {
    let verbose = ConsoleOptions { verbosity: Verbosity::Verbose, ..options() };
    assert_snapshot!(printed(verbose, scenarios::host_failed()), @r"
    run 20261121-231008-4f2a of shop: 3 files on h1, h2, build.example
    h1: syncing
    h2: node_setup
    warning: host build.example: ssh: connect to host build.example port 22: Connection refused
             try `ssh build.example true`
    h1: node_setup done in 0.64 s
    h1: resident agent 0.1.0, 1 core, 1 runner
    h2: resident agent 0.1.0, 1 core, 1 runner
    warning: host h2: the connection broke: no heartbeat for 10 s
    tests/test_b.py interrupted on h2 runner 1, host lost: no heartbeat for 10 s
    passed    tests/test_a.py  (5.0 s, 1 test, h1 runner 1)
    1/3 files, about 7 s left
    passed    tests/test_b.py  (4.0 s, 1 test, h1 runner 1)
    passed    tests/test_c.py  (3.0 s, 1 test, h1 runner 1)
    warning: host h1 has 112 MB of disk space left

    Hosts
      h1             1 runner, 3 files, busy 99 %
      h2             1 runner, 0 files, busy 17 %
        the connection broke: no heartbeat for 10 s
      build.example  took no part
        ssh: connect to host build.example port 22: Connection refused

    3 files: 3 passed; 3 tests: 3 passed
    13.1 s; testing took 12.1 s, 1.73 × the least possible 7.0 s
    held back by runners that waited for the last file, tests/test_c.py (3.0 s on h1)
    log: /var/log/latest.log
    ");
}

#[test]
fn verbose_shows_details_to_the_last_line() {
    let verbose = ConsoleOptions { verbosity: Verbosity::Verbose, ..options() };
    let text = printed(verbose, scenarios::failures());
    assert!((2..=100).all(|number| text.contains(&format!("\n    line {number}\n"))), "{text}");
    assert!(!text.contains("more lines"), "{text}");
}

#[test]
fn narrow_terminals_get_shorter_messages_and_whole_names() {
    let narrow = ConsoleOptions { width: 40, verbosity: Verbosity::Quiet, ..options() };
    assert_snapshot!(printed(narrow, scenarios::failures()), @r"
    Failed
      tests/test_billing.py
        test_rounding[eur]: AssertionError: as…
        test_total: KeyError: 'vat'
        $ distributest 'tests/test_billing.py::test_rounding[eur]' tests/test_billing.py::test_total
      tests/test odd 'name'.py
        test_newline in its name: too much
        $ distributest $'tests/test odd \'name\'.py::test_newline\nin its name'

    4 files: 2 passed, 2 failed; 7 tests: 3 passed, 2 failed, 1 error, 1 failed as expected
    1 min 39 s; testing took 1 min 37 s, 1.01 × the least possible 1 min 36 s
    held back by its longest file, tests/test_import.py (1 min 36 s on h2)
    log: /var/log/latest.log
    ");
    let wide = ConsoleOptions { width: 120, verbosity: Verbosity::Quiet, ..options() };
    assert_snapshot!(printed(wide, scenarios::many_ways()), @r"
    Did not load
      tests/test_new.py
        ModuleNotFoundError: No module named 'stripe'
        $ distributest tests/test_new.py

    Timed out
      tests/test_hang.py
        no answer after the time limit of 60 s
        $ distributest tests/test_hang.py

    Crashed
      tests/test_native.py
        killed by signal 11 (segmentation fault)
        $ distributest tests/test_native.py

    Not run
      1 file: its name is not valid UTF-8; rename or exclude it
        tests/caf�.py

    Processes left running by tests, killed
      tests/test_server.py on localhost runner 4
        4242 python3 -m http.server 8000

    5 files: 1 passed, 1 broken, 1 timed out, 1 crashed, 1 not run; 2 tests: 2 passed
    1 min 01 s; testing took 1 min 00 s, 1.00 × the least possible 1 min 00 s
    held back by its longest file, tests/test_hang.py (1 min 00 s)
    log: /var/log/latest.log
    ");
}

#[test]
fn colours_mark_what_matters_and_change_no_word() {
    let color = ConsoleOptions { color: true, ..options() };
    let colored = printed(color.clone(), scenarios::failures());
    let beginning: Vec<_> = colored.lines().take(4).collect();
    assert_snapshot!(beginning.join("\n").replace('\u{1b}', "␛"), @r"
    4 files on h1, h2
    ␛[1m␛[31mFAILED␛[0m ␛[1mtests/test_billing.py␛[0m  2 of 3 tests failed␛[2m  (h1 runner 1, 3.5 s)␛[0m

      ␛[1m␛[31mtest_rounding[eur]␛[0m  ␛[2mtests/test_billing.py:42␛[0m
    ");
    let without: String = anstyle_free(&colored);
    assert_eq!(without, printed(options(), scenarios::failures()));
}

/// Text without colours.
fn anstyle_free(text: &str) -> String {
    let mut plain = String::new();
    for (index, part) in text.split("\u{1b}[").enumerate() {
        plain.push_str(if index == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    plain
}

#[test]
fn nothing_a_test_writes_reaches_the_terminal_unfiltered() {
    let both = |(_, run): (_, Run)| [(true, run.clone()), (false, run)];
    for (color, run) in scenarios::all().into_iter().flat_map(both) {
        let text = printed(ConsoleOptions { color, ..options() }, run);
        assert!(!text.contains("\u{1b}[2J") && !text.contains("\u{1b}]0;"), "{text}");
        let plain = if color { anstyle_free(&text) } else { text };
        assert!(plain.chars().all(|character| character == '\n' || !character.is_control()), "{plain:?}");
    }
}

#[test]
fn results_and_messages_go_separate_ways() {
    let (results, messages) = (SharedBuffer::default(), SharedBuffer::default());
    play(options(), scenarios::host_failed(), results.clone(), messages.clone());
    assert!(results.text().contains("3 files: 3 passed"), "{}", results.text());
    assert!(!results.text().contains("warning"), "{}", results.text());
    assert!(messages.text().contains("warning: host build.example"), "{}", messages.text());
}

#[test]
fn progress_lines_come_every_ten_seconds_at_most() {
    let messages = SharedBuffer::default();
    let outputs = ConsoleOutputs {
        results: Box::new(SharedBuffer::default()),
        messages: Box::new(messages.clone()),
        progress: ProgressDrawTarget::hidden(),
    };
    let mut console = Console::new(options(), outputs);
    let mut run = scenarios::all_pass();
    run.truncate(6);
    for (_, event) in run {
        console.on_event(Duration::from_secs(1), &event).unwrap();
    }
    for tenths in 10..400 {
        console.on_tick(Duration::from_millis(tenths * 100)).unwrap();
    }
    assert_snapshot!(messages.text(), @r"
    3 files
    0/3 files, 2 running, about 1 s left, longest: tests/test_import.py, 9 s
    0/3 files, 2 running, about 1 s left, longest: tests/test_import.py, 19 s
    0/3 files, 2 running, about 1 s left, longest: tests/test_import.py, 29 s
    ");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let outputs = ConsoleOutputs {
        results: Box::new(FailingWriter { room: 10, error: std::io::ErrorKind::BrokenPipe }),
        messages: Box::new(FailingWriter { room: 0, error: std::io::ErrorKind::BrokenPipe }),
        progress: ProgressDrawTarget::hidden(),
    };
    let mut console = Console::new(options(), outputs);
    for (at, event) in scenarios::failures() {
        console.on_event(at, &event).unwrap();
    }
}
