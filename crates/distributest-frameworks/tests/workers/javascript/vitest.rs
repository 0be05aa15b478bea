//! The Vitest worker against a real Vitest.

use std::collections::BTreeMap;
use std::fs;

use super::{
    Ids, Tests, assert_messages, empty_project, project_of, relative, report_of, reported, run_own, start,
    text,
};
use crate::support::{Project, Start, assert_same};
use distributest_frameworks::{Framework, Isolation, Selection, discover};

fn shared() -> Start<'static> {
    start("vitest", Isolation::Shared)
}

struct Reference {
    /// By file.
    tests: BTreeMap<String, Tests>,
    messages: BTreeMap<String, BTreeMap<String, String>>,
    has_passed: BTreeMap<String, bool>,
}

/// What Vitest's own JSON says of the whole project.
fn reference(project: &Project) -> Reference {
    let arguments = ["run", "--reporter=json", "--outputFile=report.json", "--includeTaskLocation"];
    let output = run_own(project, "vitest", &arguments);
    let report = report_of(project, "report.json", &output);
    let mut reference =
        Reference { tests: BTreeMap::new(), messages: BTreeMap::new(), has_passed: BTreeMap::new() };
    for suite in report["testResults"].as_array().unwrap() {
        let file = relative(project, suite["name"].as_str().unwrap());
        let (mut tests, mut messages, mut ids) = (Tests::new(), BTreeMap::new(), Ids::default());
        for test in suite["assertionResults"].as_array().unwrap() {
            let id = ids.of(test["fullName"].as_str().unwrap().trim());
            let status = match test["status"].as_str().unwrap() {
                status @ ("passed" | "failed") => status,
                "pending" | "todo" | "skipped" => "skipped",
                other => panic!("{other}"),
            };
            if let ("failed", Some(message)) = (status, test["failureMessages"].get(0)) {
                // Of a test that took too long, it shows the error that was made for its stack.
                let message = text(message);
                let message =
                    if message.contains("STACK_TRACE_ERROR") { "Test timed out in 20ms." } else { &message };
                messages.insert(id.clone(), message.trim_start_matches("Error: ").to_owned());
            }
            tests.insert(id, (status.to_owned(), file.clone(), test["location"]["line"].as_u64()));
        }
        reference.has_passed.insert(file.clone(), suite["status"] != "failed");
        reference.tests.insert(file.clone(), tests);
        reference.messages.insert(file, messages);
    }
    reference
}

#[test]
fn reports_the_same_tests_as_vitest() {
    let project = project_of("vitest");
    let expected = reference(&project);
    fs::write(project.path().join("global.txt"), "").unwrap();
    let selection = Selection::of(Framework::named("vitest").unwrap());
    let files: Vec<String> =
        discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect();
    assert!(
        files.contains(&"test/ignored.test.ts".to_owned())
            == expected.tests.contains_key("test/ignored.test.ts")
    );
    assert_eq!(files, expected.tests.keys().cloned().collect::<Vec<_>>());
    let mut worker = shared().ready_worker(&project);
    for file in &files {
        let report = worker.run(file);
        assert_same(&reported(&report), &expected.tests[file]);
        assert_messages(&report, &expected.messages[file]);
        let outcome = match file.as_str() {
            "test/syntax_error.test.ts" | "test/load_error.test.ts" | "test/empty.test.ts" => "broken",
            // Vitest says so of the run, not of the file.
            "test/unhandled.test.ts" => "failed",
            file if expected.has_passed[file] => "passed",
            _ => "failed",
        };
        assert_eq!(report.outcome(), outcome, "{file}: {}", report.message());
        if outcome != "passed" && !report.statuses().values().any(|status| status == "failed") {
            assert!(!report.message().is_empty(), "{file}");
        }
    }
    worker.quit();
    assert_eq!(fs::read_to_string(project.path().join("global.txt")).unwrap(), "set up\ntorn down\n");
}

#[test]
fn a_file_that_vitest_does_not_count_is_said_to_be_none() {
    let project = project_of("vitest");
    let mut worker = shared().ready_worker(&project);
    let report = worker.run("test/ignored.test.ts");
    assert_eq!(report.outcome(), "broken");
    assert!(report.message().contains("exclude"), "{}", report.message());
    worker.quit();
}

#[test]
fn single_tests_run_alone() {
    let project = project_of("vitest");
    let mut worker = shared().ready_worker(&project);
    let ids = ["outcomes passes", "outcomes has a name twice (2)", "outcomes number 2 is it's “odd” 😀"];
    let report = worker.run_tests("test/outcomes.test.ts", &ids);
    let mut expected = ids.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), expected);
    let gone = worker.run_tests("test/only.test.ts", &["is gone"]);
    assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no test is gone"));
    assert_eq!(worker.run("test/only.test.ts").tests.len(), 2);
    worker.quit();
}

#[test]
fn a_test_whose_process_dies_is_named() {
    let project = empty_project();
    project.write("package.json", "{\"type\": \"module\"}");
    project.write(
        "vitest.config.js",
        "import { writeFileSync } from 'node:fs';\n\n\
         const isRunning = (task) => task.name === 'dies' && task.result?.state === 'run';\n\
         const teller = {\n  name: 'teller',\n  configureVitest({ vitest }) {\n    const tell = () => {\n      \
         if ([...vitest.state.idMap.values()].some(isRunning)) writeFileSync('is-known', '');\n    };\n    \
         setInterval(tell, 5).unref();\n  },\n};\n\n\
         export default { plugins: [teller] };\n",
    );
    // Vitest gathers its news for 100 ms, and may keep them until there are others then: those of a hook.
    project.write(
        "dies.test.js",
        "import { existsSync } from 'node:fs';\nimport { beforeEach, test } from 'vitest';\n\n\
         const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));\n\n\
         beforeEach(() => wait(150));\ntest('passes', () => {});\n\
         test('dies', async () => {\n  while (!existsSync('is-known')) await wait(5);\n  \
         process.kill(process.pid, 'SIGKILL');\n  await new Promise(() => {});\n});\n",
    );
    let mut worker = shared().ready_worker(&project);
    let report = worker.run("dies.test.js");
    assert_eq!(report.outcome(), "crashed", "{}", report.message());
    assert_eq!(report.test("passes")["status"], "passed");
    assert_eq!(report.test("dies")["status"], "error");
}

#[test]
fn a_process_that_dies_before_vitest_hears_of_its_tests_has_crashed() {
    let project = empty_project();
    let die = "process.kill(process.pid, 'SIGKILL');\nfor (;;);\n";
    project.write("loading.test.js", die);
    let tests = format!(
        "test('passes', () => {{}});\ntest('dies', () => {{\n{die}}});\ntest.skip('is left out', () => {{}});\n"
    );
    project.write("soon.test.js", &format!("import {{ test }} from 'vitest';\n\n{tests}"));
    for file in ["loading.test.js", "soon.test.js"] {
        let report = shared().ready_worker(&project).run(file);
        assert_eq!(report.outcome(), "crashed", "{file}: {}", report.message());
        // Where Vitest does not outlive it, that one is not told of.
        assert!(report.statuses().keys().all(|test| test == "is left out"), "{:?}", report.statuses());
    }
}

#[test]
fn every_project_of_a_configuration_runs_its_files() {
    let project = empty_project();
    project.write(
        "vitest.config.js",
        "export default { test: { projects: [\n\
         { test: { name: 'one', include: ['{one,both}/*.js'] } },\n\
         { test: { name: 'two', include: ['{two,both}/*.js'] } },\n] } };\n",
    );
    project.write("package.json", "{\"type\": \"module\"}");
    for file in ["one/a.js", "two/b.js", "both/c.js"] {
        project.write(file, "import { test } from 'vitest';\n\ntest('works', () => {});\n");
    }
    let selection = Selection::of(Framework::named("vitest").unwrap());
    let files = discover(project.path(), &selection).unwrap().files;
    assert_eq!(
        files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["both/c.js", "one/a.js", "two/b.js"]
    );
    let mut worker = shared().ready_worker(&project);
    assert_eq!(worker.run("one/a.js").statuses().into_keys().collect::<Vec<_>>(), ["works"]);
    assert_eq!(
        worker.run("both/c.js").statuses().into_keys().collect::<Vec<_>>(),
        ["one works", "two works"]
    );
    worker.quit();
}

/// What a coverage provider writes, and where it keeps what it needs on the way.
#[test]
fn coverage_is_written_for_each_file() {
    let project = empty_project();
    project.write("package.json", "{\"type\": \"module\"}");
    project.write(
        "vitest.config.js",
        "export default { test: { coverage: { enabled: true, provider: 'custom', customProviderModule: './provider.js' } } };\n",
    );
    project.write(
        "provider.js",
        "import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';\n\n\
         const provider = {\n  name: 'custom',\n  initialize(vitest) {\n    this.options = { ...vitest.config.coverage };\n  },\n  \
         resolveOptions() {\n    return this.options;\n  },\n  clean() {\n    if (this.coverageFilesDirectory) mkdirSync(this.coverageFilesDirectory, { recursive: true });\n  },\n  \
         onAfterSuiteRun() {},\n  generateCoverage() {},\n  reportCoverage() {\n    if (!existsSync(this.coverageFilesDirectory)) throw new Error('no directory');\n    \
         rmSync(this.coverageFilesDirectory, { recursive: true });\n    writeFileSync(`${this.options.reportsDirectory}/written`, '');\n  },\n};\n\n\
         export default { getProvider: () => provider };\n",
    );
    for name in ["one", "two"] {
        let test = format!("import {{ test }} from 'vitest';\n\ntest('{name}', () => {{}});\n");
        project.write(&format!("{name}.test.js"), &test);
    }
    let mut worker = shared().ready_worker(&project);
    for name in ["one", "two"] {
        let report = worker.run(&format!("{name}.test.js"));
        assert_eq!(report.outcome(), "passed", "{}", report.message());
        let written = project.path().join(format!("coverage/distributest/{name}.test.js/written"));
        assert!(written.is_file(), "{}", written.display());
    }
    worker.quit();
}

#[test]
fn a_pattern_of_the_command_line_counts_also_after_single_tests() {
    let project = empty_project();
    project.write("package.json", "{\"type\": \"module\"}\n");
    project.write(
        "test/a.test.js",
        "import { test } from 'vitest'\ntest('floats', () => {})\ntest('adds', () => { throw new Error() })\n",
    );
    let mut worker = Start { arguments: &["-t", "floats"], ..shared() }.ready_worker(&project);
    assert_eq!(worker.run("test/a.test.js").outcome(), "passed");
    assert_eq!(worker.run_tests("test/a.test.js", &["adds"]).outcome(), "failed");
    assert_eq!(worker.run("test/a.test.js").outcome(), "passed");
}
