//! `distributest` in a project: what it finds by itself, and the few words that say otherwise.

use std::fs;

use crate::sandbox::Sandbox;

const NUMBERS: &str = "\
def test_one():
    print('one is running')

def test_two():
    assert 1 + 1 == 3
";

const CART_SPEC: &str = "\
require 'cart'

RSpec.describe Cart do
  it('is empty') { expect(Cart.new.items).to be_empty }
  it('takes things') { expect(Cart.new.items).to eq([:apple]) }
end
";

const CART: &str = "class Cart; def items = []; end\n";

#[test]
fn a_pytest_project() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_numbers.py", NUMBERS).file("tests/test_words.py", "def test_word(): pass\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    FAILED tests/test_numbers.py  1 of 2 tests failed  (runner 1, TIME)

      test_two  tests/test_numbers.py:4
        def test_two():
        >       assert 1 + 1 == 3
        E       assert (1 + 1) == 3

        tests/test_numbers.py:5: AssertionError

    Failed
      tests/test_numbers.py
        test_two: assert (1 + 1) == 3
        $ distributest tests/test_numbers.py::test_two

    2 files: 1 passed, 1 failed; 3 tests: 2 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
}

#[test]
fn an_rspec_project() {
    let sandbox = Sandbox::new();
    sandbox.file("lib/cart.rb", CART).file("spec/cart_spec.rb", CART_SPEC);
    sandbox.file("spec/word_spec.rb", "RSpec.describe('word') { it('is one') { } }\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    FAILED spec/cart_spec.rb  1 of 2 tests failed  (runner 1, TIME)

      Cart takes things  spec/cart_spec.rb:5
        expected: [:apple] got: []

          Cart takes things
          Failure/Error: it('takes things') { expect(Cart.new.items).to eq([:apple]) }

            expected: [:apple]
                 got: []

            (compared using ==)

            Diff:
            @@ -1 +1 @@
            -[:apple]
            +[]
          # ./spec/cart_spec.rb:5:in PLACE

    Failed
      spec/cart_spec.rb
        Cart takes things: expected: [:apple] got: []
        $ distributest 'spec/cart_spec.rb[1:2]'

    2 files: 1 passed, 1 failed; 3 tests: 2 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
}

#[test]
fn both_in_one_project_all_green() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_word.py", "def test_word(): pass\n");
    sandbox.file("spec/word_spec.rb", "RSpec.describe('word') { it('is one') { } }\n");
    let (ended, events) = sandbox.run_for_events(&[]);
    insta::assert_snapshot!(ended.seen(), @"
    exit status: 0
    ----- standard output

    2 files: 2 passed; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
    let mut files: Vec<_> = events.texts("attempt_started", "file");
    files.sort();
    assert_eq!(files, ["spec/word_spec.rb", "tests/test_word.py"]);
}

#[test]
fn an_empty_project_has_no_tests() {
    insta::assert_snapshot!(Sandbox::new().run(&[]), @"
    exit status: 4
    ----- standard error
    error: no tests found in SANDBOX/project: no test framework was detected
      hint: distributest knows frameworks by their files; for anything else set `files` and `command` in .distributest/config.toml (`distributest init` writes one)
    ");
}

#[test]
fn a_project_whose_tests_are_all_excluded_has_no_tests() {
    let sandbox = Sandbox::new();
    sandbox.file("test_word.py", "def test_word(): pass\n");
    insta::assert_snapshot!(sandbox.run(&["--exclude", "**/*.py"]), @"
    exit status: 4
    ----- standard error
    error: no tests found in SANDBOX/project
      hint: `exclude` may leave all of them out; `distributest config` shows where it was set
    ");
}

#[test]
fn the_plan_before_the_first_run_and_after_it() {
    let sandbox = Sandbox::new();
    sandbox.file("test_big.py", format!("{}def test_big(): pass\n", "# a comment\n".repeat(200)));
    sandbox.file("test_slow.py", "import time\ndef test_slow(): time.sleep(0.5)\n");
    insta::assert_snapshot!(sandbox.run(&["--dry-run", "--runners", "2"]), @"
    exit status: 0
    ----- standard output
    2 files, in the order they would be handed out:
         1           ?  pytest    test_big.py
         2           ?  pytest    test_slow.py

    runners:
      localhost: 2
    no earlier run is known: files with shared examples first, then big ones
    ");
    assert!(!sandbox.path("home/.local/state/distributest/logs").exists(), "a plan leaves no log");
    sandbox.run(&["--runners", "1"]);
    insta::assert_snapshot!(sandbox.run(&["--dry-run", "--runners", "2"]), @"
    exit status: 0
    ----- standard output
    2 files, in the order they would be handed out:
         1      TIME  pytest    test_slow.py
         2      TIME  pytest    test_big.py

    runners:
      localhost 1:    1 file  TIME  BAR
      localhost 2:    1 file  TIME  BAR

    testing should take TIME; the least possible is TIME: the longest file, test_slow.py
    ");
    assert_eq!(sandbox.run(&["plan", "--runners", "2"]), sandbox.run(&["--dry-run", "--runners", "2"]));
}

#[test]
fn reports_say_what_the_console_says() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_numbers.py", NUMBERS).file("tests/test_words.py", "def test_word(): pass\n");
    sandbox.file("tests/test_wrong.py", "raise RuntimeError('not today')\n");
    let junit = sandbox.path("reports/junit.xml");
    fs::create_dir(sandbox.path("reports")).expect("make a directory");
    let (ended, events) = sandbox.run_for_events(&["--quiet", "--junit", &junit.display().to_string()]);
    insta::assert_snapshot!(ended.seen(), @"
    exit status: 1
    ----- standard output
    Failed
      tests/test_numbers.py
        test_two: assert (1 + 1) == 3
        $ distributest tests/test_numbers.py::test_two

    Did not load
      tests/test_wrong.py
        RuntimeError: not today
        $ distributest tests/test_wrong.py

    3 files: 1 passed, 1 failed, 1 broken; 3 tests: 2 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
    let summary = events.summary();
    assert_eq!(summary["exit_status"], 1);
    assert_eq!((&summary["files"], &summary["not_run"]), (&3.into(), &0.into()));
    assert_eq!(summary["outcomes"]["passed"], 1);
    assert_eq!(summary["outcomes"]["failed"], 1);
    assert_eq!(summary["outcomes"]["broken"], 1);
    assert_eq!((&summary["tests"]["passed"], &summary["tests"]["failed"]), (&2.into(), &1.into()));
    insta::assert_snapshot!(sandbox.read("reports/junit.xml"), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="project" tests="4" skipped="0" failures="1" errors="1" timestamp="DATE" time="SECONDS">
        <testsuite name="tests/test_numbers.py" tests="2" skipped="0" errors="0" failures="1" time="SECONDS" hostname="localhost">
            <testcase name="test_one" classname="tests/test_numbers.py" time="SECONDS" file="tests/test_numbers.py" line="1"/>
            <testcase name="test_two" classname="tests/test_numbers.py" time="SECONDS" file="tests/test_numbers.py" line="4">
                <failure message="assert (1 + 1) == 3">def test_two():
    &gt;       assert 1 + 1 == 3
    E       assert (1 + 1) == 3

    tests/test_numbers.py:5: AssertionError
    </failure>
            </testcase>
        </testsuite>
        <testsuite name="tests/test_wrong.py" tests="1" skipped="0" errors="1" failures="0" time="SECONDS" hostname="localhost">
            <testcase name="broken" classname="tests/test_wrong.py">
                <error message="RuntimeError: not today" type="broken">tests/test_wrong.py:1: in &lt;module&gt;
        raise RuntimeError(&apos;not today&apos;)
    E   RuntimeError: not today
    </error>
            </testcase>
        </testsuite>
        <testsuite name="tests/test_words.py" tests="1" skipped="0" errors="0" failures="0" time="SECONDS" hostname="localhost">
            <testcase name="test_word" classname="tests/test_words.py" time="SECONDS" file="tests/test_words.py" line="1"/>
        </testsuite>
    </testsuites>
    "#);
}

#[test]
fn one_file_alone() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_numbers.py", NUMBERS).file("tests/test_words.py", "def test_word(): pass\n");
    insta::assert_snapshot!(sandbox.run(&["--verbose", "--runners", "1", "tests/test_words.py"]), @"
    exit status: 0
    ----- standard output
    passed    tests/test_words.py  (TIME, 1 test, runner 1)

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    run RUN of project: 1 file
    localhost: connecting
    localhost: private agent 0.1.0, CORES, 1 runner
    localhost: preparing
    localhost runner 1: pytest worker ready in TIME
    ");
}

#[test]
fn parts_of_paths_and_directories_select_together() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_numbers.py", NUMBERS).file("tests/test_words.py", "def test_word(): pass\n");
    sandbox.file("tests/words/test_long.py", "def test_long(): pass\n");
    sandbox.file("tests/words.d/test_far.py", "def test_far(): pass\n");
    let arguments = ["--dry-run", "--runners", "1", "test_word", "tests/words"];
    insta::assert_snapshot!(sandbox.run(&arguments), @"
    exit status: 0
    ----- standard output
    2 files, in the order they would be handed out:
         1           ?  pytest    tests/test_words.py
         2           ?  pytest    tests/words/test_long.py

    runners:
      localhost: 1
    no earlier run is known: files with shared examples first, then big ones
    ");
}

#[test]
fn a_path_that_leads_to_no_test_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_words.py", "def test_word(): pass\n").file("lib/words.py", "");
    insta::assert_snapshot!(sandbox.run(&["tests/test_wrods.py"]), @r#"
    exit status: 2
    ----- standard error
    error: "tests/test_wrods.py" is neither a file, a directory nor part of a test file's path
      hint: `distributest --dry-run` lists the test files
    "#);
    insta::assert_snapshot!(sandbox.run(&["lib", "test_words", "spec/"]), @r#"
    exit status: 2
    ----- standard error
    error: there is no test file in "lib"
      hint: `distributest --dry-run` lists the test files
    error: "spec/" is neither a file, a directory nor part of a test file's path
      hint: `distributest --dry-run` lists the test files
    "#);
}

#[test]
fn arguments_behind_the_dashes_reach_the_framework() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_numbers.py", NUMBERS);
    insta::assert_snapshot!(sandbox.run(&["--verbose", "--runners", "1", "--", "-k", "one"]), @"
    exit status: 0
    ----- standard output
    passed    tests/test_numbers.py  (TIME, 1 test, runner 1)

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    run RUN of project: 1 file
    localhost: connecting
    localhost: private agent 0.1.0, CORES, 1 runner
    localhost: preparing
    localhost runner 1: pytest worker ready in TIME
    ");
}

#[test]
fn a_filter_that_lets_no_test_through_is_no_success() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/test_numbers.py", NUMBERS);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "--", "-k", "nomatch"]), @"
    exit status: 4
    ----- standard output

    1 file: 1 passed; no tests ran
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
}

#[test]
fn a_snapshot_keeps_the_project_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("snapshot = true\n");
    sandbox.file("tests/writes.sh", "pwd; touch written; rm tests/writes.sh; cp data copied; exit 1\n");
    sandbox.file("data", "data\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    FAILED tests/writes.sh  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/writes.sh  tests/writes.sh
        exit status 1

      its last output:
        SANDBOX/home/.cache/distributest/workspaces/HOST/USER/project-HASH

    Failed
      tests/writes.sh
        exit status 1
        tests/writes.sh: exit status 1
        $ distributest tests/writes.sh

    1 file: 1 failed; 1 test: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
    assert!(sandbox.path("project/tests/writes.sh").exists());
    assert!(!sandbox.path("project/written").exists());
    assert!(!sandbox.path("project/copied").exists());
}

#[test]
fn a_project_file_with_nothing_but_files_replaces_the_frameworks_glob() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "files = [\"checks/*.py\"]\n").file("conftest.py", "");
    sandbox.file("checks/word.py", "def test_word(): pass\n").file("tests/test_numbers.py", NUMBERS);
    insta::assert_snapshot!(sandbox.run(&["--verbose", "--runners", "1"]), @"
    exit status: 0
    ----- standard output
    passed    checks/word.py  (TIME, 1 test, runner 1)

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    run RUN of project: 1 file
    localhost: connecting
    localhost: private agent 0.1.0, CORES, 1 runner
    localhost: preparing
    localhost runner 1: pytest worker ready in TIME
    ");
}

#[test]
fn a_command_for_each_file() {
    let sandbox = Sandbox::new();
    let config = "files = [\"checks/*\"]\ncommand = \"bash {file}\"\n";
    sandbox.file(".distributest/config.toml", config);
    sandbox.file("checks/good", "[[ $0 == checks/good ]]\n");
    sandbox.file("checks/bad", "echo this is wrong >&2; exit 3\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    FAILED checks/bad  1 of 1 test failed  (runner 1, TIME)
      exit status 3

      checks/bad  checks/bad
        exit status 3

      its last output:
        this is wrong

    Failed
      checks/bad
        exit status 3
        checks/bad: exit status 3
        $ distributest checks/bad

    2 files: 1 passed, 1 failed; 2 tests: 1 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
}

#[test]
fn files_that_are_programs_themselves() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "frameworks = [\"command\"]\nfiles = [\"checks/*\"]\n");
    sandbox.program("checks/good", "#!/bin/sh\ntest -n \"$DISTRIBUTEST_RUNNER\"\n");
    sandbox.file("checks/no-program", "#!/bin/sh\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    BROKEN checks/no-program  did not load  (runner 1, TIME)
      ./checks/no-program is not executable; chmod +x it, or set `command`

    Did not load
      checks/no-program
        ./checks/no-program is not executable; chmod +x it, or set `command`
        $ distributest checks/no-program

    2 files: 1 passed, 1 broken; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
}

#[test]
fn the_command_that_runs_a_file_again_has_the_flags_that_made_it_a_test() {
    let sandbox = Sandbox::new();
    sandbox.file("checks/bad one", "exit 1\n").file("checks/good", "");
    let arguments = ["--quiet", "--runners=1", "--files", "checks/*", "--command", "sh -u {file}"];
    insta::assert_snapshot!(sandbox.run(&arguments), @"
    exit status: 1
    ----- standard output
    Failed
      checks/bad one
        exit status 1
        checks/bad one: exit status 1
        $ distributest --files 'checks/*' --command 'sh -u {file}' 'checks/bad one'

    2 files: 1 passed, 1 failed; 2 tests: 1 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
    let again = ["--quiet", "--files", "checks/*", "--command", "sh -u {file}", "checks/bad one"];
    insta::assert_snapshot!(sandbox.run(&again), @"
    exit status: 1
    ----- standard output
    Failed
      checks/bad one
        exit status 1
        checks/bad one: exit status 1
        $ distributest --files 'checks/*' --command 'sh -u {file}' 'checks/bad one'

    1 file: 1 failed; 1 test: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
}
