//! Drives the worker the way an agent does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A copy of a fixture project (or an empty one), removed at the end.
pub(crate) struct Project {
    directory: PathBuf,
    _removed_at_the_end: Option<tempfile::TempDir>,
}

impl Project {
    pub(crate) fn empty() -> Project {
        let directory = tempfile::tempdir().unwrap();
        Project { directory: directory.path().to_owned(), _removed_at_the_end: Some(directory) }
    }

    /// A copy that stays, with what was built of it, for all tests that change nothing in it.
    pub(crate) fn kept_copy_of(fixture: &str) -> Project {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(fixture);
        fs::create_dir_all(&directory).unwrap();
        let lock = File::create(directory.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        copy_changed(&in_tests(&format!("fixtures/{fixture}")), &directory);
        Project { directory, _removed_at_the_end: None }
    }

    pub(crate) fn copy_of(fixture: &str) -> Project {
        let project = Project::empty();
        let copied = Command::new("cp")
            .args(["-a", &format!("{}/.", in_tests(&format!("fixtures/{fixture}")).display())])
            .arg(project.path())
            .status();
        assert!(copied.unwrap().success());
        project
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn write_program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The text of a file as soon as it ends with a newline.
    pub(crate) fn wait_for_text(&self, name: &str) -> String {
        wait_for_text(&self.path().join(name))
    }
}

/// Copies what differs, so that the rest need not be built again, and removes what is no more in a directory of sources.
fn copy_changed(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let names = |directory: &Path| -> BTreeSet<_> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    for name in
        names(target).difference(&names(source)).filter(|name| name.to_string_lossy().ends_with(".rs"))
    {
        fs::remove_file(target.join(name)).unwrap();
    }
    for name in names(source) {
        let (from, to) = (source.join(&name), target.join(&name));
        if from.is_dir() {
            copy_changed(&from, &to);
        } else if fs::read(&from).ok() != fs::read(&to).ok() {
            fs::copy(from, to).unwrap();
        }
    }
}

/// A file beside the tests.
pub(crate) fn in_tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// What the worker said of one file.
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

    pub(crate) fn details(&self) -> &str {
        self.finished["details"].as_str().unwrap()
    }

    /// Status by test id; every id must be there only once.
    pub(crate) fn statuses(&self) -> BTreeMap<String, String> {
        let mut statuses = BTreeMap::new();
        for test in &self.tests {
            let id = text(test, "id").to_owned();
            let earlier = statuses.insert(id.clone(), text(test, "status").to_owned());
            assert_eq!(earlier, None, "{id} is reported twice");
        }
        statuses
    }

    /// The statuses in short: `a passed, b failed`.
    pub(crate) fn summary(&self) -> String {
        let words: Vec<String> =
            self.statuses().iter().map(|(id, status)| format!("{id} {status}")).collect();
        words.join(", ")
    }

    pub(crate) fn test(&self, id: &str) -> &Value {
        let found = self.tests.iter().find(|test| test["id"] == id);
        found.unwrap_or_else(|| panic!("no test {id} among {:?}", self.statuses()))
    }
}

/// A text of a message.
pub(crate) fn text<'a>(message: &'a Value, key: &str) -> &'a str {
    message[key].as_str().unwrap_or_else(|| panic!("no text {key} in {message}"))
}

/// A running worker.
pub(crate) struct Worker {
    child: Child,
    socket: UnixStream,
    messages: BufReader<UnixStream>,
    /// Holds what it and its tests write.
    output: tempfile::TempDir,
}

impl Worker {
    /// Starts a worker in a project.
    pub(crate) fn start(project: &Project, words: &[&str], environment: &[(&str, &str)]) -> Worker {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let output = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        // The shell moves the socket from standard input to descriptor 3.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_worker-fixture")])
            .args(words)
            .current_dir(project.path())
            .env("DISTRIBUTEST_FD", "3")
            .env("DISTRIBUTEST_ISOLATION", "fork")
            .env("DISTRIBUTEST_RUN", output.path())
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUST_BACKTRACE")
            .envs(environment.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        let messages = BufReader::new(socket.try_clone().unwrap());
        Worker { child, socket, messages, output }
    }

    /// Starts a worker that says it is ready.
    pub(crate) fn ready(project: &Project, words: &[&str]) -> Worker {
        Worker::ready_in(project, words, &[])
    }

    /// Starts a worker that says it is ready in this environment.
    pub(crate) fn ready_in(project: &Project, words: &[&str], environment: &[(&str, &str)]) -> Worker {
        let mut worker = Worker::start(project, words, environment);
        let ready = worker.next().unwrap_or_else(|| panic!("no message; {}", worker.stderr()));
        assert_eq!((&ready["type"], &ready["protocol"]), (&"ready".into(), &1.into()), "{ready}");
        assert_eq!(ready["framework"], words[0]);
        worker
    }

    /// What a worker that can't work says.
    pub(crate) fn unable(project: &Project, words: &[&str], environment: &[(&str, &str)]) -> Value {
        let mut worker = Worker::start(project, words, environment);
        let unable = worker.next().unwrap_or_else(|| panic!("no message; {}", worker.stderr()));
        assert_eq!(unable["type"], "unable", "{unable}");
        assert!(worker.next().is_none());
        worker.wait();
        unable
    }

    /// The next message; `None` when the worker has closed its end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = self.messages.read_line(&mut line).expect("a message in time");
        (length > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    pub(crate) fn send(&mut self, message: &Value) {
        writeln!(self.socket, "{message}").unwrap();
    }

    pub(crate) fn send_run(&mut self, file: &str) {
        self.send(&serde_json::json!({"type": "run", "file": file}));
    }

    pub(crate) fn run(&mut self, file: &str) -> FileReport {
        self.send_run(file);
        self.report()
    }

    pub(crate) fn run_tests(&mut self, file: &str, tests: &[&str]) -> FileReport {
        self.send(&serde_json::json!({"type": "run", "file": file, "tests": tests}));
        self.report()
    }

    /// What the worker says until the file is finished.
    pub(crate) fn report(&mut self) -> FileReport {
        let mut tests = Vec::new();
        loop {
            let message = self.next().unwrap_or_else(|| panic!("the worker left; {}", self.stderr()));
            if message["type"] == "finished" {
                return FileReport { tests, finished: message };
            }
            assert_eq!(message["type"], "test", "{message}");
            tests.push(message);
        }
    }

    /// The file that holds what was written to standard output.
    pub(crate) fn stdout_file(&self) -> PathBuf {
        self.output.path().join("stdout")
    }

    /// Everything that was written, standard output first.
    pub(crate) fn output(&self) -> Vec<u8> {
        let read = |name: &str| fs::read(self.output.path().join(name)).unwrap();
        [read("stdout"), read("stderr")].concat()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.stdout_file()).unwrap()).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join("stderr")).unwrap()).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the socket, as the end of the agent would.
    pub(crate) fn abandon(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_until(|| self.child.try_wait().unwrap())
    }

    /// Asks the worker to end.
    pub(crate) fn quit(mut self) {
        self.send(&serde_json::json!({"type": "quit"}));
        let status = self.wait();
        assert!(status.success(), "{status}; {}", self.stderr());
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
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
pub(crate) fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The text of a file as soon as it ends with a newline.
pub(crate) fn wait_for_text(path: &Path) -> String {
    wait_until(|| fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')))
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}
