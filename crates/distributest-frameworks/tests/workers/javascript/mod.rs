//! The workers of JavaScript's frameworks against the real ones.

mod jest;
mod mocha;
mod node_test;
mod processes;
mod vitest;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{FileReport, Project, Start};
use distributest_frameworks::{Framework, Isolation};
use serde_json::Value;

/// What is compared of each test: status, file, line, by id.
type Tests = BTreeMap<String, (String, String, Option<u64>)>;

/// Where the scripts install the frameworks.
fn node_modules() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let directory = cache.expect("a home directory").join("distributest-test/node/node_modules");
    assert!(
        directory.is_dir(),
        "these tests need {}: run scripts/install-test-dependencies",
        directory.display()
    );
    directory
}

/// A copy of a fixture that finds the frameworks.
fn project_of(fixture: &str) -> Project {
    let project = Project::copy_of(fixture);
    symlink(node_modules(), project.path().join("node_modules")).unwrap();
    project
}

fn empty_project() -> Project {
    let project = Project::empty();
    project.write("package.json", "{}");
    symlink(node_modules(), project.path().join("node_modules")).unwrap();
    project
}

fn start(framework: &str, isolation: Isolation) -> Start<'static> {
    Start {
        framework: Framework::named(framework).unwrap(),
        program: PathBuf::from("node"),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

/// Runs a framework's own program in a project as its npm script does.
fn run_own(project: &Project, program: &str, arguments: &[&str]) -> Output {
    let mut command = match program {
        "node" => Command::new("node"),
        program => Command::new(project.path().join("node_modules/.bin").join(program)),
    };
    command.args(arguments).current_dir(project.path()).env("FROM_SCRIPT", "yes").output().unwrap()
}

/// The report in JSON that a framework's own program wrote.
fn report_of(project: &Project, name: &str, output: &Output) -> Value {
    let text = std::fs::read(project.path().join(name)).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    serde_json::from_slice(&text).unwrap()
}

/// Makes an id of a name that others may have too, as the workers do.
#[derive(Default)]
struct Ids(BTreeMap<String, u32>);

impl Ids {
    fn of(&mut self, name: &str) -> String {
        let count = self.0.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 { name.to_owned() } else { format!("{name} ({count})") }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn relative(project: &Project, file: &str) -> String {
    let directory = project.path().canonicalize().unwrap();
    let file = file.strip_prefix("file://").unwrap_or(file);
    Path::new(file).strip_prefix(directory).unwrap().to_str().unwrap().to_owned()
}

/// What a worker said, in the form of the reference.
fn reported(report: &FileReport) -> Tests {
    report.statuses();
    let place = |test: &Value| (text(&test["status"]), text(&test["file"]), test["line"].as_u64());
    report.tests.iter().map(|test| (text(&test["id"]), place(test))).collect()
}

/// Checks that each message a framework has for a failure, its first line at least, is the worker's too.
fn assert_messages(report: &FileReport, messages: &BTreeMap<String, String>) {
    for (id, message) in messages {
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        let said = text(&report.test(id)["message"]);
        assert!(said.ends_with(first), "{id}: {said:?} instead of {first:?}");
        assert!(!text(&report.test(id)["details"]).is_empty(), "{id} has no details");
    }
}
