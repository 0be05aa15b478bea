//! Drives a worker the way an agent does, for the tests of the workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use distributest_frameworks::{Framework, Isolation, Launch, LaunchOptions};
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A copy of a fixture project (or an empty one), removed at the end.
pub(crate) struct Project {
    pub(crate) directory: tempfile::TempDir,
}

impl Project {
    pub(crate) fn empty() -> Project {
        Project { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn copy_of(fixture: &str) -> Project {
        let project = Project::empty();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
        copy(&source, project.path());
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn copy(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == "__pycache__" {
            continue;
        }
        let target = target.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a worker said of one file.
#[derive(Debug)]
pub(crate) struct FileReport {
    pub(crate) tests: Vec<Value>,
    pub(crate) finished: Value,
}

impl FileReport {
    pub(crate) fn outcome(&self) -> &str {
        self.finished["outcome"].as_str().unwrap()
    }

    pub(crate) fn message(&self) -> &str {
        self.finished["message"].as_str().unwrap()
    }

    /// Status by test id; every id must be there only once.
    pub(crate) fn statuses(&self) -> BTreeMap<String, String> {
        let mut statuses = BTreeMap::new();
        for test in &self.tests {
            let id = test["id"].as_str().unwrap().to_owned();
            let earlier = statuses.insert(id.clone(), test["status"].as_str().unwrap().to_owned());
            assert_eq!(earlier, None, "{id} is reported twice");
        }
        statuses
    }

    pub(crate) fn test(&self, id: &str) -> &Value {
        self.tests.iter().find(|test| test["id"] == id).unwrap_or_else(|| panic!("no test {id}"))
    }
}

/// A running worker.
pub(crate) struct Worker {
    child: Child,
    socket: UnixStream,
    messages: BufReader<UnixStream>,
    /// Holds the worker program and its output.
    directory: tempfile::TempDir,
}

/// How to start a worker.
pub(crate) struct Start<'a> {
    pub(crate) framework: Framework,
    pub(crate) program: PathBuf,
    pub(crate) program_arguments: &'a [&'a str],
    pub(crate) arguments: &'a [&'a str],
    pub(crate) isolation: Isolation,
    /// Whether it is told that it may stay for another run, as a `shared` one is.
    pub(crate) may_stay: bool,
}

impl Start<'_> {
    pub(crate) fn worker(&self, project: &Project) -> Worker {
        self.worker_from(None, project)
    }

    /// A worker of another runner of the same run: its program lies in the same directory.
    pub(crate) fn worker_beside(&self, other: &Worker, project: &Project) -> Worker {
        self.worker_from(Some(other.directory.path()), project)
    }

    fn worker_from(&self, programs: Option<&Path>, project: &Project) -> Worker {
        let options = LaunchOptions {
            isolation: Some(self.isolation),
            arguments: self.arguments.iter().map(ToString::to_string).collect(),
            ..LaunchOptions::default()
        };
        let Launch::Worker(worker) = self.framework.launch(&options) else { panic!("it has a worker") };
        let directory = tempfile::tempdir().unwrap();
        let program = programs.unwrap_or(directory.path()).join(worker.worker_file_name);
        fs::write(&program, worker.worker_source).unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let output = File::create(directory.path().join("output")).unwrap();
        // The shell moves the socket from standard input to descriptor 3.
        let child = Command::new("sh")
            .args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
            .arg(&self.program)
            .args(self.program_arguments)
            .args(&worker.arguments)
            .arg(&program)
            .args(&worker.worker_arguments)
            .current_dir(project.path())
            .env("DISTRIBUTEST_FD", "3")
            .env("DISTRIBUTEST_ISOLATION", worker.isolation.word())
            .env("DISTRIBUTEST_MAY_STAY", if self.may_stay { "1" } else { "0" })
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("SPEC_OPTS")
            .env_remove("PYTEST_ADDOPTS")
            .env("HOME", directory.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let messages = BufReader::new(socket.try_clone().unwrap());
        Worker { child, socket, messages, directory }
    }

    /// A worker that has said it is ready.
    pub(crate) fn ready_worker(&self, project: &Project) -> Worker {
        let mut worker = self.worker(project);
        let ready = worker.next().unwrap_or_else(|| panic!("no message; output: {}", worker.output()));
        assert_eq!(ready["type"], "ready", "{ready}; output: {}", worker.output());
        assert_eq!(ready["protocol"], 1);
        assert_eq!(ready["framework"], self.framework.name());
        worker
    }
}

impl Worker {
    /// The next message; `None` when the worker has closed its end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            let length = self.messages.read_line(&mut line).expect("a message in time");
            if length == 0 {
                return None;
            }
            if !line.trim().is_empty() {
                return Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
            }
        }
    }

    pub(crate) fn send_run(&mut self, file: &str) {
        let message = serde_json::json!({"type": "run", "file": file});
        writeln!(self.socket, "{message}").unwrap();
    }

    pub(crate) fn run(&mut self, file: &str) -> FileReport {
        self.send_run(file);
        self.report()
    }

    /// Runs only the tests of a file that have these ids.
    pub(crate) fn run_tests(&mut self, file: &str, ids: &[&str]) -> FileReport {
        let message = serde_json::json!({"type": "run", "file": file, "tests": ids});
        writeln!(self.socket, "{message}").unwrap();
        self.report()
    }

    /// Runs a part of a file: `kind` is `only` or `except`.
    pub(crate) fn run_part(&mut self, file: &str, kind: &str, ids: &[&str]) -> FileReport {
        let message = serde_json::json!({"type": "run", "file": file, kind: ids});
        writeln!(self.socket, "{message}").unwrap();
        self.report()
    }

    /// Tells it that its run is over and returns what it answers.
    pub(crate) fn keep(&mut self) -> Value {
        writeln!(self.socket, r#"{{"type":"keep"}}"#).unwrap();
        self.next().unwrap_or_else(|| panic!("the worker left; output: {}", self.output()))
    }

    /// Tells it that another run begins, in which these variables are others.
    pub(crate) fn renew(&mut self, environment: &[&str]) {
        let message = serde_json::json!({"type": "renew", "environment": environment});
        writeln!(self.socket, "{message}").unwrap();
        let ready = self.next().unwrap_or_else(|| panic!("the worker left; output: {}", self.output()));
        assert_eq!((&ready["type"], &ready["keeps"]), (&"ready".into(), &true.into()), "{ready}");
    }

    /// What comes until the file is finished.
    fn report(&mut self) -> FileReport {
        let mut tests = Vec::new();
        loop {
            let message = self.next().unwrap_or_else(|| panic!("the worker left; output: {}", self.output()));
            if message["type"] == "finished" {
                return FileReport { tests, finished: message };
            }
            assert_eq!(message["type"], "test");
            tests.push(message);
        }
    }

    /// What the worker and its tests have written so far; bytes that are not UTF-8 as U+FFFD.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.raw_output()).into_owned()
    }

    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_until(Instant::now() + PATIENCE, || self.output().contains(text).then_some(()));
    }

    pub(crate) fn raw_output(&self) -> Vec<u8> {
        fs::read(self.directory.path().join("output")).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the socket, as the end of the agent would.
    pub(crate) fn abandon(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        wait_until(deadline, || self.child.try_wait().unwrap())
    }

    /// Asks the worker to end and returns everything it and its tests have written.
    pub(crate) fn quit(self) -> String {
        let (output, failures) = self.quit_with_failures();
        assert_eq!(failures, Vec::<String>::new(), "output: {output}");
        output
    }

    /// Asks it to end and returns everything it has written, and what it says has failed behind its last file.
    pub(crate) fn quit_with_failures(mut self) -> (String, Vec<String>) {
        writeln!(self.socket, r#"{{"type":"quit"}}"#).unwrap();
        let mut failures = Vec::new();
        while let Some(message) = self.next() {
            assert_eq!(message["type"], "end_failed", "{message}");
            failures.push(message["message"].as_str().unwrap().to_owned());
        }
        let status = self.wait();
        assert!(status.success(), "{status}; output: {}", self.output());
        (self.output(), failures)
    }
}

/// Fails with what differs, and with nothing else.
pub(crate) fn assert_same<T: PartialEq + Debug>(
    actual: &BTreeMap<String, T>,
    expected: &BTreeMap<String, T>,
) {
    let ids: BTreeSet<&String> = actual.keys().chain(expected.keys()).collect();
    let differences: Vec<String> = ids
        .into_iter()
        .filter(|id| actual.get(*id) != expected.get(*id))
        .map(|id| format!("{id}\n  worker:    {:?}\n  framework: {:?}", actual.get(id), expected.get(id)))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Looks again and again until there is a value.
pub(crate) fn wait_until<T>(deadline: Instant, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the process is gone.
pub(crate) fn wait_for_end_of(pid: u32) {
    wait_until(Instant::now() + PATIENCE, || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie nobody has waited for yet does no more harm.
        (state.is_empty() || state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
            .then_some(())
    });
}

/// Asks a process what it is doing, as the agent does at a time limit, and waits until the signal has reached it.
pub(crate) fn ask_for_stacks(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    wait_until(Instant::now() + PATIENCE, || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("ShdPnd:\t0000000000000000").then_some(())
    });
}

/// The text of a file as soon as it has some.
pub(crate) fn wait_for_text(path: &Path) -> String {
    wait_until(Instant::now() + PATIENCE, || {
        fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
}
