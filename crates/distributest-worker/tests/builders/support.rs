//! Drives a worker the way an agent does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A copy of a fixture project, removed at the end.
pub(crate) struct Project(tempfile::TempDir);

impl Project {
    pub(crate) fn copy_of(fixture: &str) -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture), project.path());
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
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
        let target = target.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

/// What a worker said of one unit.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) tests: Vec<Value>,
    pub(crate) finished: Value,
}

impl Report {
    pub(crate) fn outcome(&self) -> &str {
        self.finished["outcome"].as_str().unwrap()
    }

    pub(crate) fn message(&self) -> &str {
        self.finished["message"].as_str().unwrap()
    }

    /// Status by id; every id must be there only once.
    pub(crate) fn statuses(&self) -> BTreeMap<String, String> {
        let mut statuses = BTreeMap::new();
        for test in &self.tests {
            let (id, status) = (test["id"].as_str().unwrap(), test["status"].as_str().unwrap());
            assert_eq!(statuses.insert(id.to_owned(), status.to_owned()), None, "{id} is reported twice");
        }
        statuses
    }

    /// The statuses in short, by id: `a passed, b failed`.
    pub(crate) fn summary(&self) -> String {
        let words: Vec<String> =
            self.statuses().iter().map(|(id, status)| format!("{id} {status}")).collect();
        words.join(", ")
    }

    pub(crate) fn text(&self, id: &str, key: &str) -> &str {
        let test = self
            .tests
            .iter()
            .find(|test| test["id"] == id)
            .unwrap_or_else(|| panic!("no test {id}: {self:?}"));
        test[key].as_str().unwrap()
    }
}

/// A running worker.
pub(crate) struct Worker {
    child: Child,
    socket: UnixStream,
    messages: BufReader<UnixStream>,
    /// Where its output goes.
    directory: tempfile::TempDir,
}

impl Worker {
    /// Starts a worker with these words in a project.
    pub(crate) fn start(project: &Path, words: &[&str], environment: &[(&str, &str)]) -> Worker {
        let directory = tempfile::tempdir().unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let output = |name: &str| File::create(directory.path().join(name)).unwrap();
        // The shell moves the socket from standard input to descriptor 3.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_worker-fixture"))
            .args(words)
            .current_dir(project)
            .env("DISTRIBUTEST_FD", "3")
            .env("DISTRIBUTEST_RUN", directory.path())
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUST_BACKTRACE")
            .envs(environment.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        let messages = BufReader::new(socket.try_clone().unwrap());
        Worker { child, socket, messages, directory }
    }

    /// Waits until it is ready. Returns its version.
    pub(crate) fn ready(&mut self) -> String {
        let ready = self.next().unwrap_or_else(|| panic!("no message; it wrote: {}", self.output()));
        assert_eq!(ready["type"], "ready", "{ready}; it wrote: {}", self.output());
        ready["version"].as_str().unwrap().to_owned()
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

    pub(crate) fn run(&mut self, unit: &str) -> Report {
        self.run_tests(unit, &[])
    }

    pub(crate) fn run_tests(&mut self, unit: &str, ids: &[&str]) -> Report {
        self.send(&json!({"type": "run", "file": unit, "tests": ids}));
        let mut tests = Vec::new();
        loop {
            let message =
                self.next().unwrap_or_else(|| panic!("the worker left; it wrote: {}", self.output()));
            if message["type"] == "finished" {
                return Report { tests, finished: message };
            }
            assert_eq!(message["type"], "test");
            tests.push(message);
        }
    }

    /// Everything that it and its tests have written, standard output first.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.raw_output()).into_owned()
    }

    pub(crate) fn raw_output(&self) -> Vec<u8> {
        let read = |name: &str| fs::read(self.directory.path().join(name)).unwrap();
        [read("stdout"), read("stderr")].concat()
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_until(|| self.child.try_wait().unwrap())
    }

    /// Asks it to end.
    pub(crate) fn quit(mut self) {
        self.send(&json!({"type": "quit"}));
        let status = self.wait();
        assert!(status.success(), "{status}; it wrote: {}", self.output());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Where a test fails, its worker goes too; what it runs follows.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
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

/// Waits until a process is gone.
pub(crate) fn wait_for_end_of(pid: &str) {
    wait_until(|| (!Path::new("/proc").join(pid.trim()).exists()).then_some(()));
}

/// The text of a file as soon as it ends with a line.
pub(crate) fn wait_for_text(path: &Path) -> String {
    wait_until(|| fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')))
}
