//! The EUnit worker against a real EUnit.

use std::path::{Path, PathBuf};
use std::process::Command;

use distributest_frameworks::{Framework, Isolation, Selection, discover};

use crate::support::{FileReport, Project, Start, Worker, wait_for_end_of, wait_for_text};

/// Files that can be part of a plain run of EUnit without ending it.
const BEHAVING: [&str; 5] = [
    "src/fixture_autoexported.erl",
    "test/fixtures_tests.erl",
    "test/generators_tests.erl",
    "test/outcomes_tests.erl",
    "test/wrapped_tests.erl",
];

fn start(isolation: Isolation) -> Start<'static> {
    let load_eunit = "{module, eunit} = code:load_file(eunit), halt().";
    let has_eunit = Command::new("erl").args(["-noshell", "-eval", load_eunit]).output();
    assert!(
        has_eunit.is_ok_and(|output| output.status.success()),
        "these tests need Erlang with EUnit, and rebar3: apt-get install erlang-base erlang-eunit rebar3"
    );
    Start {
        framework: Framework::named("eunit").unwrap(),
        program: PathBuf::from("sh"),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

fn shared(project: &Project) -> Worker {
    start(Isolation::Shared).ready_worker(project)
}

fn unable(project: &Project, arguments: &[&str]) -> (String, String) {
    let mut worker = Start { arguments, ..start(Isolation::Shared) }.worker(project);
    let unable = worker.next().unwrap_or_else(|| panic!("no message; output: {}", worker.output()));
    assert_eq!(unable["type"], "unable", "{unable}; output: {}", worker.output());
    assert_eq!(worker.next(), None);
    (unable["message"].as_str().unwrap().to_owned(), unable["hint"].as_str().unwrap().to_owned())
}

/// The fixture as a project of rebar3's. What does not compile would keep the rest from being compiled.
fn rebar_project() -> Project {
    let project = Project::copy_of("eunit");
    project.write("rebar.config", "{eunit_opts, [verbose]}.\n");
    std::fs::remove_file(project.path().join("test/compile_error_tests.erl")).unwrap();
    project
}

/// What EUnit tells of a test: its line (0: none), status and title.
type Told = (u64, String, String);

fn reference(project: &Project, files: &[&str]) -> Vec<Told> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/eunit_reference.erl");
    let output =
        Command::new("escript").arg(program).args(files).current_dir(project.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| line.contains('\t')).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[1].parse().unwrap(), fields[2].to_owned(), fields[3].to_owned())
    });
    lines.collect()
}

/// The worker's word on the same tests: lines and titles only where EUnit tells them, which knows only the last title.
fn comparable(report: &FileReport, expected: &[Told]) -> Vec<Told> {
    report.statuses();
    let tests = report.tests.iter().zip(expected).map(|(test, (line, _, title))| {
        let name = test["name"].as_str().unwrap();
        let line = if *line == 0 { 0 } else { test["line"].as_u64().unwrap() };
        let title = if name.ends_with(title) { title.clone() } else { name.to_owned() };
        (line, test["status"].as_str().unwrap().to_owned(), title)
    });
    tests.collect()
}

#[test]
fn reports_the_same_tests_with_the_same_status_as_eunit() {
    let project = Project::copy_of("eunit");
    let mut worker = shared(&project);
    for file in BEHAVING {
        let expected = reference(&project, &[file]);
        assert!(expected.len() >= 3, "{file}");
        let report = worker.run(file);
        assert_eq!(report.tests.len(), expected.len(), "{file}: {:?}", report.statuses());
        assert_eq!(comparable(&report, &expected), expected, "{file}");
        let failed = expected.iter().any(|test| test.1 != "passed");
        assert_eq!(report.outcome(), if failed { "failed" } else { "passed" }, "{file}");
    }
    worker.quit();
}

#[test]
fn discovers_the_files_with_tests() {
    let project = Project::copy_of("eunit");
    let selection = Selection::of(Framework::named("eunit").unwrap());
    let files: Vec<String> =
        discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect();
    assert!(BEHAVING.iter().all(|file| files.iter().any(|found| found == file)), "{files:?}");
    assert!(files.iter().any(|file| file == "src/fixture.erl"));
    for other in ["src/fixture_without_tests.erl", "test/empty_tests.erl"] {
        assert!(!files.iter().any(|file| file == other), "{files:?}");
    }
}

#[test]
fn says_what_went_wrong_where() {
    let project = Project::copy_of("eunit");
    let mut worker = shared(&project);
    let report = worker.run("test/outcomes_tests.erl");
    let failing = report.test("outcomes_tests:fails_test/0");
    assert_eq!(failing["message"], "assertEqual, expression: fixture : add ( 1 , 1 ), expected: 3, value: 2");
    assert_eq!((&failing["file"], &failing["line"]), (&"test/outcomes_tests.erl".into(), &6.into()));
    assert!(failing["details"].as_str().unwrap().contains("outcomes_tests"), "{failing}");
    assert_eq!(report.test("outcomes_tests:raises_test/0")["message"], "error: {several,\"things\"}");
    assert_eq!(report.test("outcomes_tests:undefined_function_test/0")["message"], "error: undef");
    let printing = report.test("outcomes_tests:prints_and_fails_test/0");
    assert!(printing["details"].as_str().unwrap().contains("printed before the failure"), "{printing}");

    let report = worker.run("test/fixtures_tests.erl");
    let group = report.test("fixtures_tests:setup_fails_test_/0[#2]");
    assert_eq!(group["message"], "the group was cancelled: setup_failed: error: no_setup");
    assert_eq!((group["status"].as_str(), group["line"].as_u64()), (Some("error"), Some(27)));

    let empty = worker.run("test/empty_tests.erl");
    assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
    let broken = worker.run("test/compile_error_tests.erl");
    assert_eq!(broken.outcome(), "broken");
    assert!(broken.message().contains("test/compile_error_tests.erl:4:"), "{}", broken.message());
    assert!(broken.message().contains("function no_such_function/0 undefined"), "{}", broken.message());
    let missing = worker.run("test/no_such_tests.erl");
    assert_eq!((missing.outcome(), missing.message()), ("broken", "there is no such file"));
    worker.quit();
}

#[test]
fn a_test_that_cancels_its_group_costs_no_other_function_its_tests() {
    let project = Project::copy_of("eunit");
    let mut worker = shared(&project);
    let report = worker.run("test/cancelled_tests.erl");
    let result = |id: &str| {
        let test = report.test(&format!("cancelled_tests:{id}"));
        (test["status"].as_str().unwrap(), test["message"].as_str().unwrap())
    };
    let boom = "unexpected termination of its process: boom";
    assert_eq!(result("dies_with_a_linked_process_test/0"), ("error", boom));
    let failed = "the group was cancelled: generator_failed: error: no_generator";
    assert_eq!(result("generator_fails_test_/0"), ("error", failed));
    assert_eq!(result("times_out_test_/0[1]"), ("failed", "it timed out"));
    assert_eq!(result("group_times_out_test_/0[1]"), ("passed", ""));
    assert_eq!(result("group_times_out_test_/0[2]"), ("failed", "it timed out"));
    assert_eq!(result("kills_its_process_test_/0[1]").0, "error");
    assert_eq!((result("no_test_set_test_/0").0, result("bad_generator_test_/0").0), ("error", "error"));
    assert_eq!(result("last_test/0"), ("passed", ""));
    report.statuses();
    worker.quit();
}

#[test]
fn runs_the_tests_asked_for_and_no_others() {
    let project = Project::copy_of("eunit");
    project.write(
        "test/witness_tests.erl",
        "-module(witness_tests).\n-include_lib(\"eunit/include/eunit.hrl\").\n\
         note(What) -> ok = file:write_file(\"witness\", [What, 10], [append]).\n\
         plain_test() -> note(\"plain\").\n\
         list_test_() -> [{\"one\", fun() -> note(\"one\") end}, fun() -> note(\"two\") end, [fun() -> note(\"three\") end]].\n\
         setup_test_() -> [{setup, fun() -> note(\"set up\") end, fun(_) -> fun() -> note(\"in setup\") end end}, fun() -> ok end].\n",
    );
    let mut worker = shared(&project);
    for file in BEHAVING {
        let all = worker.run(file).statuses();
        // A group that failed is no test that could be asked for; those of another node run as one.
        let ids: Vec<&str> = all.keys().map(String::as_str).filter(|id| !id.contains('#')).collect();
        for chosen in [&ids[..1], &ids[1..3], &ids[2..]] {
            let report = worker.run_tests(file, chosen);
            let mut statuses = report.statuses();
            statuses.retain(|id, _| !id.contains('#'));
            assert_eq!(
                statuses,
                chosen.iter().map(|id| ((*id).to_owned(), all[*id].clone())).collect(),
                "{file}"
            );
        }
    }
    let ids = [
        "witness_tests:list_test_/0[1]",
        "witness_tests:list_test_/0[3.1]",
        "witness_tests:setup_test_/0[2]",
    ];
    let report = worker.run_tests("test/witness_tests.erl", &ids);
    assert_eq!((report.outcome(), report.tests.len()), ("passed", 3), "{:?}", report.statuses());
    assert_eq!(wait_for_text(&project.path().join("witness")), "one\nthree\n");

    let gone = worker
        .run_tests("test/witness_tests.erl", &["witness_tests:plain_test/0", "witness_tests:gone_test/0"]);
    assert_eq!((gone.outcome(), gone.message()), ("failed", "no such test: witness_tests:gone_test/0"));
    assert_eq!(gone.tests.len(), 1);
    worker.quit();
}

#[test]
fn a_test_that_ends_the_virtual_machine_is_named_and_its_last_words_are_kept() {
    let project = Project::copy_of("eunit");
    for (isolation, file, test, how) in [
        (
            Isolation::Shared,
            "test/halts_tests.erl",
            "halts_tests:halts_test_/0[2]",
            "left with exit status 3",
        ),
        (
            Isolation::Process,
            "test/halts_tests.erl",
            "halts_tests:halts_test_/0[2]",
            "left with exit status 3",
        ),
        (
            Isolation::Shared,
            "test/killed_tests.erl",
            "killed_tests:is_killed_test/0",
            "died of signal 9 (SIGKILL)",
        ),
        (
            Isolation::Shared,
            "test/closes_ports_tests.erl",
            "closes_ports_tests:closes_the_agents_port_test/0",
            "left with exit status 1",
        ),
    ] {
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run(file);
        assert_eq!(report.outcome(), "crashed");
        assert_eq!(report.message(), format!("the process running this file {how} while {test} ran"));
        assert_eq!(report.test(test)["status"], "error");
        if file == "test/halts_tests.erl" {
            assert_eq!(report.test("halts_tests:first_test/0")["status"], "passed");
            assert!(worker.output().contains("last words"), "{}", worker.output());
        }
        worker.wait();
    }
}

#[test]
fn every_byte_a_test_writes_comes_out() {
    let project = Project::copy_of("eunit");
    let mut worker = shared(&project);
    let report = worker.run("test/output_tests.erl");
    // Everything is out when the file is finished.
    let raw = worker.raw_output();
    let long_line = [b'x'; 64 * 1024];
    assert_eq!(raw.split(|byte| *byte == b'\n').filter(|line| **line == long_line).count(), 40);
    for expected in ["captured é\n".as_bytes(), b"directly\n", b"error\n", b"raw \xff\xfe bytes\n"] {
        assert!(raw.windows(expected.len()).any(|window| window == expected), "{expected:?}");
    }
    let huge = report.test("output_tests:fails_at_length_test/0");
    assert!(huge["details"].as_str().unwrap().len() < 1_100_000);
    let invalid = report.test("output_tests:fails_with_invalid_bytes_test/0");
    assert_eq!(invalid["message"], "error: <<\"invalid ÿ byte\">>");
    assert_eq!(report.test("output_tests:programs_know_nothing_test/0")["status"], "passed");
    worker.quit();
}

#[test]
fn rebar3_compiles_once_for_workers_that_start_at_the_same_time() {
    let project = rebar_project();
    let mut workers: Vec<Worker> = (0..3).map(|_| start(Isolation::Shared).worker(&project)).collect();
    for worker in &mut workers {
        let ready = worker.next().unwrap_or_else(|| panic!("no message; output: {}", worker.output()));
        assert_eq!(ready["type"], "ready", "{ready}");
        let report = worker.run("src/fixture.erl");
        assert_eq!((report.outcome(), report.tests.len()), ("passed", 3), "{:?}", report.tests);
        assert_eq!(report.test("fixture:add_test/0")["file"], "src/fixture.erl");
        assert_eq!(worker.run("test/wrapped_tests.erl").outcome(), "passed");
    }
    let outputs: Vec<String> = workers.into_iter().map(Worker::quit).collect();
    assert!(outputs.iter().all(|output| output.contains("Compiling fixture")), "{outputs:?}");
    let compiled = project.path().join("_build/test/lib/fixture/test/wrapped_tests.beam");
    assert!(compiled.is_file());
}

#[test]
fn the_worker_ends_what_runs_when_the_agent_is_gone_or_it_is_told_to() {
    for abandon in [true, false] {
        let project = Project::copy_of("eunit");
        let mut worker = shared(&project);
        worker.send_run("test/hangs_tests.erl");
        let pid: u32 = wait_for_text(&project.path().join("hanging.txt")).trim().parse().unwrap();
        if abandon {
            worker.abandon();
        } else {
            let kill = Command::new("kill").args(["-TERM", &worker.pid().to_string()]).status().unwrap();
            assert!(kill.success());
            let hanging = worker.next().unwrap();
            assert_eq!(
                (&hanging["id"], &hanging["status"]),
                (&"hangs_tests:hangs_test_/0".into(), &"error".into())
            );
            assert_eq!(worker.next(), None);
        }
        assert!(!worker.wait().success());
        wait_for_end_of(pid);
        // Once the agent is gone nobody reads what is written, and the end is not to wait for it.
        assert!(abandon || worker.output().contains("written before the hang"), "{}", worker.output());
    }
}

#[test]
fn options_of_the_project_and_of_the_command_line_count() {
    let project = Project::empty();
    project.write("rebar.config", "{eunit_opts, [verbose, {sys_config, \"project.config\"}]}.\n");
    project.write("project.config", "[{kernel, [{from, project}, {of_the_project, given}]}].\n");
    project.write("line.config", "[{kernel, [{from, command_line}]}].\n");
    project
        .write("src/options.app.src", "{application, options, [{vsn, \"1\"}, {applications, [kernel]}]}.\n");
    project.write(
        "test/options_tests.erl",
        "-module(options_tests).\n-include_lib(\"eunit/include/eunit.hrl\").\n\
         project_test() -> ?assertEqual({ok, given}, application:get_env(kernel, of_the_project)).\n\
         command_line_test() -> ?assertEqual({ok, command_line}, application:get_env(kernel, from)).\n",
    );
    let given = Start { arguments: &["{sys_config,\"line.config\"}"], ..start(Isolation::Shared) };
    let mut worker = given.ready_worker(&project);
    let report = worker.run("test/options_tests.erl");
    assert_eq!((report.outcome(), report.tests.len()), ("passed", 2), "{:?}", report.tests);
    worker.quit();
    let (message, _) = unable(&project, &["{sys_config,\"gone.config\"}"]);
    assert!(message.contains("gone.config"), "{message}");
}

#[test]
fn says_why_it_cannot_work() {
    let project = rebar_project();
    let (message, hint) = unable(&project, &["--module=x"]);
    assert!(message.contains("--module=x is no option of eunit:test/2"), "{message}");
    assert!(hint.contains("sys_config"), "{hint}");

    project.write("src/broken.erl", "-module(broken).\n-export([f/0]).\nf() -> no_such_function().\n");
    let (message, hint) = unable(&project, &[]);
    assert!(message.starts_with("rebar3 can't compile this project: "), "{message}");
    assert!(message.contains("no_such_function"), "{message}");
    assert!(hint.contains("node_setup"), "{hint}");

    project.write("rebar.config", "{deps, [no_such_dependency_anywhere]}.\n");
    let (message, hint) = unable(&project, &[]);
    assert!(message.contains("no_such_dependency_anywhere"), "{message}");
    assert!(hint.contains("rebar3 get-deps"), "{hint}");
}

#[test]
fn says_that_erlang_or_rebar3_is_missing() {
    let project = rebar_project();
    let tools = Project::empty();
    for program in ["sh", "sed", "basename", "dirname", "mktemp", "rm", "sleep", "erl", "escript"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        let target = String::from_utf8(found.stdout).unwrap();
        std::os::unix::fs::symlink(target.trim(), tools.path().join(program)).unwrap();
    }
    let path = tools.path().to_str().unwrap().to_owned();
    let set_path = format!("PATH={path}; export PATH; exec /bin/sh \"$@\"");
    let restricted = Start { program_arguments: &["-c", &set_path, "sh"], ..start(Isolation::Shared) };
    let unable = restricted.worker(&project).next().unwrap();
    let message = "there is a rebar.config, and no `rebar3`, neither in the project nor in PATH";
    assert_eq!(unable["message"], message);

    std::fs::remove_file(tools.path().join("escript")).unwrap();
    let unable = restricted.worker(&project).next().unwrap();
    assert_eq!(unable["message"], "there is no program `escript` in PATH");
}
