//! What the workers of all these frameworks have in common: processes, output, what is missing.

use std::process::Command;

use super::{empty_project, start};
use crate::support::{Project, Start, Worker, wait_for_end_of, wait_for_text};
use distributest_frameworks::Isolation;

/// Each framework with its default isolation, and how its files begin.
const FRAMEWORKS: [(&str, Isolation, &str); 4] = [
    ("jest", Isolation::Shared, ""),
    (
        "vitest",
        Isolation::Shared,
        "import { test } from 'vitest';\nimport { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);\n",
    ),
    ("mocha", Isolation::Fork, "const test = it;\n"),
    ("node-test", Isolation::Fork, "const { test } = require('node:test');\n"),
];

/// A file that begins with a test that passes, and comes to this body some time later.
fn file(beginning: &str, body: &str) -> String {
    format!(
        "{beginning}const fs = require('node:fs');\ntest('passes', () => new Promise((resolve) => setTimeout(resolve, 50)));\n\
         test('misbehaves', async () => {{\n{body}\n}});\n"
    )
}

fn worker_for(
    framework: &str,
    isolation: Isolation,
    beginning: &str,
    files: &[(&str, &str)],
) -> (Project, Worker) {
    let project = empty_project();
    for (name, body) in files {
        project.write(name, &file(beginning, body));
    }
    let worker = start(framework, isolation).ready_worker(&project);
    (project, worker)
}

/// In their own processes Vitest deals with these itself.
fn with_own_runner() -> impl Iterator<Item = (&'static str, Isolation, &'static str)> {
    FRAMEWORKS.into_iter().filter(|(framework, ..)| *framework != "vitest")
}

#[test]
fn a_test_that_ends_its_process_is_named_and_the_tests_before_it_are_kept() {
    let bodies = [
        ("a.test.js", "process.exit(0);", "left with exit status 0"),
        ("b.test.js", "process.exit(7);", "left with exit status 7"),
        (
            "c.test.js",
            "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => {});",
            "died of signal 11 (SIGSEGV)",
        ),
        ("d.test.js", "fs.closeSync(3); await new Promise(() => {});", "died of signal 9 (SIGKILL)"),
    ];
    let files = bodies.map(|(name, body, _)| (name, body));
    for (framework, isolation, beginning) in with_own_runner() {
        for (name, _, how) in bodies {
            // A shared process that has died is replaced, with its worker.
            let (_project, mut worker) = worker_for(framework, isolation, beginning, &files);
            let report = worker.run(name);
            assert_eq!(report.outcome(), "crashed", "{framework} {name}: {}", report.message());
            let message = format!("the process running this file {how} while misbehaves ran");
            assert_eq!(report.message(), message, "{framework} {name}");
            assert_eq!(report.test("passes")["status"], "passed", "{framework} {name}");
            assert_eq!(report.test("misbehaves")["status"], "error", "{framework} {name}");
            if isolation == Isolation::Fork {
                assert_eq!(worker.run(name).outcome(), "crashed", "{framework}");
                worker.quit();
            } else {
                assert!(!worker.wait().success());
            }
        }
    }
}

#[test]
fn garbage_on_the_workers_own_channel_is_passed_over() {
    let body = r#"fs.writeSync(3, '{"type":"finished","result":{}}\n{"type":"test","id":"half' + 'x'.repeat(100000));"#;
    for (framework, isolation, beginning) in with_own_runner() {
        let (_project, mut worker) = worker_for(framework, isolation, beginning, &[("a.test.js", body)]);
        let report = worker.run("a.test.js");
        assert_eq!(report.outcome(), "passed", "{framework}: {}", report.message());
        assert_eq!(report.tests.len(), 2, "{framework}");
        worker.quit();
    }
}

#[test]
fn what_tests_print_comes_out_byte_for_byte() {
    let body = "process.stdout.write('x'.repeat(3000000) + '\\n');\n\
                process.stdout.write(Buffer.from([0x72, 0x61, 0x77, 0xff, 0xfe, 0x0a]));\n\
                process.stderr.write('to stderr\\n');\n\
                require('node:child_process').execSync('echo from a program', { stdio: 'inherit' });\n\
                console.log('to the console');";
    for (framework, isolation, beginning) in FRAMEWORKS {
        let (_project, mut worker) = worker_for(framework, isolation, beginning, &[("a.test.js", body)]);
        assert_eq!(worker.run("a.test.js").outcome(), "passed", "{framework}");
        let raw = worker.raw_output();
        assert_eq!(raw.iter().filter(|byte| **byte == b'x').count(), 3_000_000, "{framework}");
        for expected in [&b"raw\xff\xfe\n"[..], b"to stderr\n", b"from a program\n", b"to the console\n"] {
            // Vitest gives its processes pipes, and reads them as text.
            let is_text = framework != "vitest" || expected.is_ascii();
            let is_there = raw.windows(expected.len()).any(|window| window == expected);
            assert!(is_there || !is_text, "{framework}: {expected:?}");
        }
        worker.quit();
    }
}

#[test]
fn the_worker_ends_what_runs_when_the_agent_is_gone_or_it_is_told_to() {
    let body = "fs.writeFileSync('hanging.txt', `${process.pid}\\n`);\nfor (;;);";
    for (framework, isolation, beginning) in FRAMEWORKS {
        for is_abandoned in [true, false] {
            let (project, mut worker) = worker_for(framework, isolation, beginning, &[("a.test.js", body)]);
            worker.send_run("a.test.js");
            let pid: u32 = wait_for_text(&project.path().join("hanging.txt")).trim().parse().unwrap();
            if is_abandoned {
                worker.abandon();
            } else {
                let kill = Command::new("kill").args(["-TERM", &worker.pid().to_string()]).status().unwrap();
                assert!(kill.success());
            }
            assert!(!worker.wait().success(), "{framework}");
            wait_for_end_of(pid);
        }
    }
}

#[test]
fn a_framework_that_is_not_there_is_named_with_what_to_do() {
    for (framework, isolation, _) in
        FRAMEWORKS.into_iter().filter(|(framework, ..)| *framework != "node-test")
    {
        let project = Project::empty();
        let unable = start(framework, isolation).worker(&project).next().unwrap();
        let message = unable["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("{framework} is not installed: no node_modules/{framework} in /")),
            "{message}"
        );
        assert!(unable["hint"].as_str().unwrap().contains("npm ci"), "{unable}");
        project.write(&format!("node_modules/{framework}/package.json"), r#"{"version": "1.2.3"}"#);
        let unable = start(framework, isolation).worker(&project).next().unwrap();
        assert!(unable["message"].as_str().unwrap().contains("1.2.3"), "{unable}");
    }
    let project = empty_project();
    project.write("jest.config.js", "throw new Error('in the configuration');\n");
    let unable = start("jest", Isolation::Shared).worker(&project).next().unwrap();
    assert!(unable["message"].as_str().unwrap().contains("in the configuration"), "{unable}");
    let bad_option = Start { arguments: &["--no-such-option"], ..start("node-test", Isolation::Fork) };
    let unable = bad_option.worker(&project).next().unwrap();
    assert!(
        unable["message"].as_str().unwrap().ends_with("one of these options: --no-such-option"),
        "{unable}"
    );
}

#[test]
fn arguments_that_make_no_sense_are_refused_before_the_first_file() {
    let project = empty_project();
    let message = |framework, isolation, arguments: &'static [&'static str]| {
        let unable = Start { arguments, ..start(framework, isolation) }.worker(&project).next().unwrap();
        unable["message"].as_str().unwrap_or_default().to_owned()
    };
    for (framework, isolation, _) in FRAMEWORKS {
        for arguments in [&["a.test.js"][..], &["--bail=1", "a.test.js"]] {
            let expected = format!("{framework} does not run a.test.js because it stands behind --");
            assert_eq!(message(framework, isolation, arguments), expected);
        }
    }
    let of_vitest = message("vitest", Isolation::Shared, &["-t", "x", "--nowhere=1"]);
    assert_eq!(of_vitest, "vitest has no option --nowhere");
    let of_jest = message("jest", Isolation::Shared, &["-t", "x", "--nowhere"]);
    assert!(
        of_jest.starts_with("jest does not take these arguments: ") && of_jest.contains("nowhere"),
        "{of_jest}"
    );
    let options = &["-t", "x", "--coverage.enabled=false", "--no-isolate", "--retry=2"];
    assert_eq!(message("vitest", Isolation::Shared, options), "", "these it has");
}

/// Frameworks that run all files in one process, if they are told to, and their word for a test.
const IN_ONE_PROCESS: [(&str, &str); 2] = [("jest", "test"), ("mocha", "it")];

#[test]
fn what_the_last_file_has_left_undone_may_still_fail() {
    for (framework, test) in IN_ONE_PROCESS {
        let project = empty_project();
        let late = "() => { setTimeout(() => { throw new Error('late'); }, 100); }";
        let leaving = "() => { process.on('exit', () => { throw new Error('leaving'); }); }";
        // Jest gives tests a `process` of their own.
        let all = if framework == "jest" { vec![late] } else { vec![late, leaving] };
        for undone in all {
            project.write("a.test.js", &format!("{test}('leaves something undone', {undone});\n"));
            let mut worker = start(framework, Isolation::Shared).ready_worker(&project);
            assert_eq!(worker.run("a.test.js").outcome(), "passed", "{framework}");
            let (_, failures) = worker.quit_with_failures();
            assert_eq!(failures.len(), 1, "{framework}: {failures:?}");
            assert!(
                failures[0].contains("behind the last file, the process that ran the files left"),
                "{failures:?}"
            );
        }
    }
}

#[test]
fn a_file_that_goes_elsewhere_or_does_not_load_leaves_the_next_one_alone() {
    for (framework, test) in IN_ONE_PROCESS {
        let project = empty_project();
        project.write("goes.test.js", &format!("{test}('goes', () => process.chdir('/'));\n"));
        let removes = "const one = fs.mkdtempSync('gone'); process.chdir(one); fs.rmdirSync(`../${one}`);";
        project.write(
            "removes.test.js",
            &format!(
                "const fs = require('node:fs');\n{test}('removes where it is', () => {{ {removes} }});\n"
            ),
        );
        project.write("wrong.test.js", "function (\n");
        project.write("next.test.js", &format!("{test}('works', () => {{}});\n"));
        let mut worker = start(framework, Isolation::Shared).ready_worker(&project);
        for (file, outcome) in [
            ("goes.test.js", "passed"),
            ("removes.test.js", "passed"),
            ("wrong.test.js", "broken"),
            ("next.test.js", "passed"),
        ] {
            let report = worker.run(file);
            assert_eq!(report.outcome(), outcome, "{framework} {file}: {}", report.message());
        }
        worker.quit();
    }
}

#[test]
fn a_test_may_replace_what_the_worker_itself_needs() {
    for (framework, beginning) in
        [("mocha", "const test = it;\n"), ("node-test", "const { test } = require('node:test');\n")]
    {
        let project = empty_project();
        let replaced = "JSON.stringify = () => undefined; JSON.parse = () => ({}); fs.writeSync = () => 0; Buffer.from = () => null;";
        project.write(
            "a.test.js",
            &format!("{beginning}const fs = require('node:fs');\ntest('replaces', () => {{ {replaced} }});\ntest('fails', () => {{ throw new Error('wrong'); }});\n"),
        );
        let mut worker = start(framework, Isolation::Fork).ready_worker(&project);
        let report = worker.run("a.test.js");
        assert_eq!(report.outcome(), "failed", "{framework}: {}", report.message());
        assert_eq!(report.test("replaces")["status"], "passed", "{framework}");
        assert_eq!(report.test("fails")["status"], "failed", "{framework}");
        worker.quit();
    }
}

#[test]
fn the_teardown_behind_the_last_file_is_waited_for() {
    let project = empty_project();
    project.write(
        "jest.config.js",
        "module.exports = { globalSetup: './up.js', globalTeardown: './down.js' };\n",
    );
    project.write("up.js", "module.exports = () => {};\n");
    // Nothing but the worker keeps its process while this waits.
    project.write(
        "down.js",
        "module.exports = async () => {\n  await new Promise((resolve) => setTimeout(resolve, 50).unref());\n  \
         require('node:fs').writeFileSync('is-down', '');\n};\n",
    );
    project.write("a.test.js", "test('works', () => {});\n");
    let mut worker = start("jest", Isolation::Shared).ready_worker(&project);
    assert_eq!(worker.run("a.test.js").outcome(), "passed");
    worker.quit();
    assert!(project.path().join("is-down").exists());
}
