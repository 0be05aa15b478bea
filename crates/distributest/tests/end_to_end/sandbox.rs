//! A machine of the test's own: home, project, system directory, temporary directory and `PATH` below one temporary
//! directory, and nothing else of the environment the tests run in.
//!
//! [`Sandbox::run`] returns what the user sees as one text for a snapshot. Whatever differs from run to run is replaced
//! in snapshots while a sandbox lives (see [`redactions`]). After every run nothing of it may be left: no process, no
//! temporary file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use insta::internals::SettingsBindDropGuard;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The longest the processes of a run may live after its coordinator.
const GONE_LIMIT: Duration = Duration::from_secs(2);

/// The longest a test waits for anything else, generous because machines that run tests are busy.
const LIMIT: Duration = Duration::from_secs(60);

/// The time between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where `--json` of [`Sandbox::run`] writes.
const EVENTS: &str = "events.jsonl";

/// A place to run `distributest` in.
pub(crate) struct Sandbox {
    root: TempDir,
    path: OsString,
    _redactions: SettingsBindDropGuard,
}

impl Sandbox {
    /// An empty project on an empty machine that has the system's programs.
    pub(crate) fn new() -> Sandbox {
        let root = tempfile::tempdir().expect("make a temporary directory");
        for directory in ["home", "project", "system", "tmp", "fakes"] {
            fs::create_dir(root.path().join(directory)).expect("make a directory");
        }
        let mut path = root.path().join("fakes").into_os_string();
        path.push(":/usr/bin:/bin");
        let _redactions = redactions(root.path()).bind_to_scope();
        Sandbox { root, path, _redactions }
    }

    /// The same machine with no programs but these in its `PATH`.
    pub(crate) fn with_only(mut self, programs: &[&str]) -> Sandbox {
        let directory = self.path("programs");
        fs::create_dir(&directory).expect("make a directory");
        for program in programs {
            symlink(Path::new("/usr/bin").join(program), directory.join(program)).expect("link a program");
        }
        self.path = directory.into_os_string();
        self
    }

    /// A path below the sandbox's root: `home`, `project`, `system`, `tmp`.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file of the project.
    pub(crate) fn file(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> &Sandbox {
        write(&self.path("project").join(name), text.as_ref(), 0o644);
        self
    }

    /// Makes it a project whose tests are shell scripts in `tests`, with more settings if there are any.
    pub(crate) fn shell_tests(&self, settings: &str) -> &Sandbox {
        let config = format!("files = [\"tests/*\"]\ncommand = \"bash {{file}}\"\n{settings}");
        self.file(".distributest/config.toml", config)
    }

    /// Writes a program of the project.
    pub(crate) fn program(&self, name: impl AsRef<Path>, text: &str) -> &Sandbox {
        write(&self.path("project").join(name), text.as_bytes(), 0o755);
        self
    }

    /// Writes a program of the system directory, which stands for `/etc/distributest`.
    pub(crate) fn system_program(&self, name: &str, text: &str) -> &Sandbox {
        write(&self.path("system").join(name), text.as_bytes(), 0o755);
        self
    }

    /// Writes a program that is found before the system's of the same name.
    pub(crate) fn fake(&self, name: &str, text: &str) -> &Sandbox {
        write(&self.path("fakes").join(name), text.as_bytes(), 0o755);
        self
    }

    /// The text of a file, none if it does not exist.
    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// The command, ready to be started in the project.
    pub(crate) fn command<Argument: AsRef<OsStr>>(&self, arguments: &[Argument]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distributest"));
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// The command as an ordinary user has it, whom permissions bind, whoever runs the tests.
    pub(crate) fn command_bound_by_permissions(&self, arguments: &[&str]) -> Command {
        if !geteuid().is_root() {
            return self.command(arguments);
        }
        let mut command = Command::new("/usr/bin/setpriv");
        command.arg("--bounding-set=-dac_override,-dac_read_search");
        command.arg(env!("CARGO_BIN_EXE_distributest")).args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Gives a command the environment, the directory and the standard input of the sandbox.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command.current_dir(self.path("project")).stdin(Stdio::null()).env_clear().envs([
            ("HOME", self.path("home").into_os_string()),
            ("TMPDIR", self.path("tmp").into_os_string()),
            ("DISTRIBUTEST_SYSTEM_DIRECTORY", self.path("system").into_os_string()),
            ("PATH", self.path.clone()),
            ("COLUMNS", "100".into()),
            ("LANG", "C.UTF-8".into()),
            // What is slow on a busy machine is not a matter of these tests.
            ("DISTRIBUTEST_SLOW_FILE", "0".into()),
            ("DISTRIBUTEST_SLOW_TEST", "0".into()),
        ]);
    }

    /// Runs the command to its end; what the user sees.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.finish(self.command(arguments)).seen()
    }

    /// Runs the command to its end and reads what it wrote with `--json`.
    pub(crate) fn run_for_events(&self, arguments: &[&str]) -> (Ended, Events) {
        let path = self.path(EVENTS);
        let json: [&OsStr; 2] = ["--json".as_ref(), path.as_os_str()];
        let arguments: Vec<&OsStr> = json.into_iter().chain(arguments.iter().map(OsStr::new)).collect();
        let ended = self.finish(self.command(&arguments));
        (ended, Events::read(&path))
    }

    /// Runs a prepared command to its end.
    pub(crate) fn finish(&self, command: Command) -> Ended {
        self.start(command).wait()
    }

    /// Starts a prepared command, its output kept.
    pub(crate) fn start(&self, command: Command) -> Running<'_> {
        let stdout = create(&self.path("stdout"));
        self.start_writing_to(stdout, command)
    }

    /// Starts a prepared command with a standard output of the test's own.
    pub(crate) fn start_writing_to(&self, stdout: Stdio, mut command: Command) -> Running<'_> {
        command.stdout(stdout).stderr(create(&self.path("stderr")));
        let child = command.spawn().expect("start distributest");
        Running { sandbox: self, child }
    }

    /// Waits until no process of the sandbox is left, and no temporary file.
    pub(crate) fn wait_until_nothing_is_left(&self) {
        wait_until_empty(|| [self.processes(), self.temporary_files()].concat());
    }

    /// Every process whose environment, command line or current directory names the sandbox.
    fn processes(&self) -> Vec<String> {
        let all = fs::read_dir("/proc").expect("list processes").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id() && self.owns(*pid)).map(describe).collect()
    }

    fn owns(&self, pid: u32) -> bool {
        let root = self.root.path().as_os_str().as_bytes();
        let names_root = |text: &[u8]| text.windows(root.len()).any(|window| window == root);
        let process = PathBuf::from(format!("/proc/{pid}"));
        let texts = ["environ", "cmdline"].map(|name| fs::read(process.join(name)).unwrap_or_default());
        let directory = fs::read_link(process.join("cwd")).unwrap_or_default();
        texts.iter().any(|text| names_root(text)) || names_root(directory.as_os_str().as_bytes())
    }

    /// Everything in the temporary directory.
    pub(crate) fn temporary_files(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("tmp")).expect("list temporary files").flatten();
        files.map(|file| file.path().display().to_string()).collect()
    }

    /// The aggregated log of the latest run.
    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(self.path("home/.local/state/distributest/logs/latest.log")).expect("read the log")
    }
}

/// A command at work.
pub(crate) struct Running<'sandbox> {
    sandbox: &'sandbox Sandbox,
    child: Child,
}

impl Running<'_> {
    /// The coordinator's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The coordinator, its private agent's guardian and session, and what those have started.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut family = vec![self.pid()];
        let mut next = 0;
        while next < family.len() {
            family.extend(children(family[next]));
            next += 1;
        }
        family
    }

    /// Sends a signal to the coordinator alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until this file of the project exists: tests make files to say how far they are.
    pub(crate) fn wait_for_file(&mut self, name: &str) {
        let path = self.sandbox.path("project").join(name);
        let begin = Instant::now();
        while !path.exists() {
            if let Some(status) = self.child.try_wait().expect("look at distributest") {
                panic!("{name} was never made: {}", self.ended(status).seen());
            }
            assert!(begin.elapsed() < LIMIT, "{name} was not made in {LIMIT:?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the coordinator has written this to its standard error.
    pub(crate) fn wait_for_message(&self, message: &str) {
        self.wait_until(message, || self.sandbox.read("stderr").contains(message));
    }

    /// Waits until something is so.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < LIMIT, "in {LIMIT:?} there was no {what:?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the coordinator's main thread is stuck in writing to a full pipe.
    pub(crate) fn wait_until_it_waits_to_write(&self) {
        let channel = format!("/proc/{}/wchan", self.pid());
        let begin = Instant::now();
        while !fs::read_to_string(&channel).unwrap_or_default().contains("pipe_write") {
            assert!(begin.elapsed() < LIMIT, "it wrote everything");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for the coordinator's end, and until nothing of its run is left.
    pub(crate) fn wait(self) -> Ended {
        let sandbox = self.sandbox;
        let ended = self.wait_for_processes();
        sandbox.wait_until_nothing_is_left();
        ended
    }

    /// Waits for the coordinator's end, and until no process of its run is left.
    pub(crate) fn wait_for_processes(mut self) -> Ended {
        let status = self.child.wait().expect("wait for distributest");
        let ended = self.ended(status);
        wait_until_empty(|| self.sandbox.processes());
        ended
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        let ended =
            Ended { status, stdout: self.sandbox.read("stdout"), stderr: self.sandbox.read("stderr") };
        assert!(!ended.stderr.contains("panicked"), "it panicked: {}", ended.stderr);
        ended
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Only where a test failed before it waited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of a command.
pub(crate) struct Ended {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Its exit status; `None` when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Everything the user sees, as one text.
    pub(crate) fn seen(&self) -> String {
        let Ended { status, stdout, stderr } = self;
        let section = |title: &str, text: &str| match text {
            "" => String::new(),
            text => format!("----- {title}\n{text}"),
        };
        format!("{status}\n{}{}", section("standard output", stdout), section("standard error", stderr))
    }
}

/// The events of a run, as `--json` wrote them.
pub(crate) struct Events(Vec<Value>);

impl Events {
    /// Reads a file of JSON lines.
    pub(crate) fn read(path: &Path) -> Events {
        let text = fs::read_to_string(path).expect("read the events");
        Events(text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect())
    }

    /// Those of one kind, in their order.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|event| event["event"] == kind).collect()
    }

    /// This field of all events of one kind, in their order.
    pub(crate) fn texts(&self, kind: &str, field: &str) -> Vec<&str> {
        self.of(kind).into_iter().map(|event| event[field].as_str().unwrap_or_default()).collect()
    }

    /// The last event.
    pub(crate) fn summary(&self) -> &Value {
        self.0.last().filter(|event| event["event"] == "run_finished").expect("the run finished")
    }
}

/// Waits until nothing of this is left.
fn wait_until_empty(left: impl Fn() -> Vec<String>) {
    let begin = Instant::now();
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed() < GONE_LIMIT, "left behind after {GONE_LIMIT:?}: {left:#?}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// Sends a signal to one process.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("send a signal");
}

/// The children of a process, of all its threads.
fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn write(path: &Path, text: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().expect("it has a parent")).expect("make a directory");
    fs::write(path, text).expect("write a file");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set permissions");
}

fn create(path: &Path) -> Stdio {
    fs::File::create(path).expect("make a file for output").into()
}

fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&command).replace('\0', " "))
}

/// Replaces what differs between two runs of the same case: where, when, how long, which processes.
fn redactions(root: &Path) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    let root: String = root.display().to_string().replace('.', r"\.");
    for (pattern, replacement) in [
        (r", \d+(\.\d+)? (kB|MB|GB)\b", ", MEMORY"),
        (root.as_str(), "SANDBOX"),
        (r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d+Z_[0-9a-f]+-[0-9a-f]+\.log", "DATE_RUN.log"),
        (r"\d+\.\d+ s\b", "TIME"),
        // A runner's share of the plan.
        (r"(\d files?) +TIME(  ━+)?\n", "$1  TIME  BAR\n"),
        (r"\d+\.\d+ × the least", "RATIO × the least"),
        (r"busy \d+ %", "busy SHARE"),
        // What the summary makes of the times, and where a busy machine makes a run say how far it is.
        (r"(?m)^held back by .*\n", ""),
        (r"(?m)^runners: \d.*\n", ""),
        (r"(?m)^\d+/\d+ files?(, .*)?\n", ""),
        // What hung: its processes, and the calls below the test.
        (r"(?m)^    \d+ [a-z ]+?( in [\w.]+)?: ", "    PID STATE: "),
        (r"Current thread 0x\w+", "Current thread ADDRESS"),
        (r#"(?m)^ +File "[^"]*/(_pytest|pluggy|site-packages|dist-packages)/.*\n"#, ""),
        (r"called by \d+ more", "called by MANY more"),
        // A leaked process.
        (r"(?m)^    \d+ ", "    PID "),
        (r"workspaces/[^/]+/[^/]+/project-[0-9a-f]{16}", "workspaces/HOST/USER/project-HASH"),
        (r"\brun [0-9a-f]+-[0-9a-f]+\b", "run RUN"),
        (r"begun \d+ s ago", "begun TIME ago"),
        (r"\(process \d+\)", "(process PID)"),
        (r"\d+ cores?\b", "CORES"),
        (r"is ready as \w+_(\d+)\b", "is ready as USER_$1"),
        (r"distributest-(agent|log)-\w{6}", "distributest-$1-NAME"),
        (r"\.junit-\w{6}", ".junit-NAME"),
        // Where a framework's program may be.
        (r"(these programs is there: [^ ,]+)(, [^ ,(\n]+)+", "$1, …"),
        // What the frameworks say differently in another version.
        (r"Python \d+\.\d+\.\d+", "Python VERSION"),
        (r"(\.rb:\d+:in ).*", "${1}PLACE"),
        // In JUnit.
        (r#"timestamp="[^"]*""#, r#"timestamp="DATE""#),
        (r#"time="[0-9.]+""#, r#"time="SECONDS""#),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings
}
