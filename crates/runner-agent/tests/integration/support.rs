//! A coordinator for tests: real processes, real gRPC, a temporary home.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distributest_protocol::client::{AgentConnection, Output, connect};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use distributest_protocol::wire::hello::Place;
use tempfile::TempDir;
use tokio::net::UnixStream;

/// The longest anything in these tests may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The longest the processes of a run may live after its connection.
pub(crate) const GONE_LIMIT: Duration = Duration::from_secs(2);

/// A home, a project and a place for temporary files.
pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Daemons of other users work in it, too.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("home", 0o755), ("project", 0o777), ("tmp", 0o1777)] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        Site { directory }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    /// Writes an executable script into the project.
    pub(crate) fn script(&self, name: &str, text: &str) {
        self.file(name, &format!("#!/bin/sh\n{text}\n"), 0o755);
    }

    pub(crate) fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn hello(&self) -> wire::Hello {
        wire::Hello {
            run: "run-1".into(),
            program_version: "test".into(),
            initiating_host: "laptop".into(),
            initiating_user: "ana".into(),
            project: "shop".into(),
            project_hash: "0123abcd".into(),
            place: Some(Place::InPlace(self.project().to_str().unwrap().into())),
            lease_milliseconds: 60_000,
            heartbeat_milliseconds: 0,
            host_name: "h1".into(),
        }
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_runner-agent"));
        command.args(arguments);
        command
    }

    /// A program with the environment of an agent.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.root().join("home")).env("TMPDIR", self.root().join("tmp"));
        command.env("RUNNER_AGENT_LOG", "debug");
        command
    }

    /// What sessions left in the temporary directory.
    pub(crate) fn temporary_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root().join("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// A process that is killed and waited for with the test.
pub(crate) struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was written to each block.
pub(crate) type Collected = HashMap<u64, Vec<u8>>;

/// A connected coordinator.
pub(crate) struct Coordinator {
    orders: tokio::sync::mpsc::Sender<wire::CoordinatorMessage>,
    updates: tonic::Streaming<wire::AgentMessage>,
    output: Arc<Mutex<Collected>>,
    reader: tokio::task::JoinHandle<()>,
    next_attempt: u64,
    /// Where it runs in place.
    project: Option<PathBuf>,
}

impl Coordinator {
    /// Starts a private agent and says hello.
    pub(crate) async fn with_private_agent(place: &Site, hello: wire::Hello) -> (Self, Process) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let far = OwnedFd::from(far);
        let mut command = place.program(&["agent"]);
        command.stdin(Stdio::from(far.try_clone().unwrap())).stdout(Stdio::from(far));
        let agent = Process(command.spawn().unwrap());
        drop(command);
        near.set_nonblocking(true).unwrap();
        let coordinator = Coordinator::over(UnixStream::from_std(near).unwrap(), hello).await;
        (coordinator, agent)
    }

    /// Says hello over a stream.
    pub(crate) async fn over(stream: UnixStream, hello: wire::Hello) -> Self {
        let project = match &hello.place {
            Some(Place::InPlace(path)) => Some(PathBuf::from(path)),
            _ => None,
        };
        let AgentConnection { orders, updates, output } =
            tokio::time::timeout(LIMIT, connect(stream, hello, false)).await.unwrap().unwrap();
        let collected = Arc::<Mutex<Collected>>::default();
        let reader = tokio::spawn(collect(output, collected.clone()));
        Coordinator { orders, updates, output: collected, reader, next_attempt: 0, project }
    }

    pub(crate) async fn order(&self, order: Order) {
        assert!(self.try_order(order).await, "the session is open");
    }

    /// Orders something; `false` once the session has ended.
    pub(crate) async fn try_order(&self, order: Order) -> bool {
        self.orders.send(wire::CoordinatorMessage { kind: Some(order) }).await.is_ok()
    }

    /// The next update besides heartbeats; `None` at the end of the session.
    pub(crate) async fn next(&mut self) -> Option<Update> {
        let next = async {
            loop {
                match self.updates.message().await.ok().flatten()?.kind {
                    Some(Update::Heartbeat(_)) => {}
                    kind => return kind,
                }
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("the agent says something in time")
    }

    /// Waits for a heartbeat; nothing else may come.
    pub(crate) async fn heartbeat(&mut self) {
        let next = tokio::time::timeout(LIMIT, self.updates.message()).await;
        let said = next.expect("the agent says something in time").expect("it is there");
        assert!(matches!(said.and_then(|said| said.kind), Some(Update::Heartbeat(_))));
    }

    pub(crate) async fn welcome(&mut self) -> wire::Welcome {
        match self.next().await {
            Some(Update::Welcome(welcome)) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    /// Sends `Prepare` and waits until `runners` runners are ready; returns what came on the way.
    pub(crate) async fn prepare(&mut self, prepare: wire::Prepare) -> Vec<Update> {
        let runners = prepare.runners;
        self.order(Order::Prepare(prepare)).await;
        let mut updates = Vec::new();
        let mut ready = 0;
        while ready < runners {
            let update = self.next().await.unwrap_or_else(|| panic!("the session ended after {updates:?}"));
            match &update {
                Update::RunnerReady(_) => ready += 1,
                Update::RunnerFailed(failed) => panic!("{failed:?} after {updates:?}"),
                _ => {}
            }
            updates.push(update);
        }
        updates
    }

    /// Orders an attempt of the first launch and returns its number.
    pub(crate) async fn dispatch(&mut self, runner: u32, file: &str, timeout_milliseconds: u32) -> u64 {
        self.dispatch_for(0, runner, file, timeout_milliseconds).await
    }

    /// Orders an attempt of a launch and returns its number. A file that only a made-up worker knows is made, for one
    /// that is not there is not run.
    pub(crate) async fn dispatch_for(
        &mut self,
        launch: u32,
        runner: u32,
        file: &str,
        timeout_milliseconds: u32,
    ) -> u64 {
        if let Some(path) =
            self.project.as_ref().map(|project| project.join(file)).filter(|path| !path.exists())
        {
            fs::write(path, "").unwrap();
        }
        self.next_attempt += 1;
        let attempt = self.next_attempt;
        let file = file.to_owned();
        let dispatch = wire::Dispatch {
            attempt,
            runner,
            launch,
            file,
            timeout_milliseconds,
            tests: Vec::new(),
            fresh_worker: false,
            expected_milliseconds: 0,
            part: None,
        };
        self.order(Order::Dispatch(dispatch)).await;
        attempt
    }

    /// Waits for the end of an attempt; returns it with the updates before it.
    pub(crate) async fn finished(&mut self, attempt: u64) -> (wire::AttemptFinished, Vec<Update>) {
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Some(Update::AttemptFinished(finished)) if finished.attempt == attempt => {
                    return (finished, before);
                }
                Some(update) => before.push(update),
                None => panic!("the session ended after {before:?}"),
            }
        }
    }

    /// Runs one file on runner 1.
    pub(crate) async fn run(&mut self, file: &str) -> wire::AttemptFinished {
        let attempt = self.dispatch(1, file, 0).await;
        self.finished(attempt).await.0
    }

    /// Waits for an update that `pick` accepts; the others are dropped.
    pub(crate) async fn until<Picked>(&mut self, pick: impl Fn(&Update) -> Option<Picked>) -> Picked {
        let mut before = Vec::new();
        loop {
            let update = self.next().await.unwrap_or_else(|| panic!("the session ended after {before:?}"));
            if let Some(picked) = pick(&update) {
                return picked;
            }
            before.push(update);
        }
    }

    /// Everything written to a block, once it is complete.
    pub(crate) async fn output_of(&self, block: &wire::OutputBlock) -> String {
        let complete = || {
            let output = self.output.lock().unwrap();
            let bytes = output.get(&block.number).cloned().unwrap_or_default();
            (bytes.len() as u64 >= block.bytes).then_some(bytes)
        };
        let bytes = wait_for("the block is complete", complete).await;
        assert_eq!(bytes.len() as u64, block.bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends the run in order, sees the session end, and returns all output.
    pub(crate) async fn end(mut self) -> Collected {
        self.order(Order::EndRun(wire::EndRun {})).await;
        self.until(|update| matches!(update, Update::RunEnded(_)).then_some(())).await;
        assert_eq!(self.next().await, None);
        tokio::time::timeout(LIMIT, self.reader).await.expect("the output ends").unwrap();
        std::mem::take(&mut self.output.lock().unwrap())
    }

    /// Stops reading output, as a coordinator in trouble does.
    pub(crate) fn stop_reading_output(&self) {
        self.reader.abort();
    }
}

async fn collect(mut output: Output, collected: Arc<Mutex<Collected>>) {
    while let Ok(Some(chunk)) = output.message().await {
        collected.lock().unwrap().entry(chunk.block).or_default().extend_from_slice(&chunk.data);
    }
}

/// Waits until something holds.
pub(crate) async fn wait_for<Found>(what: &str, condition: impl FnMut() -> Option<Found>) -> Found {
    wait_within(LIMIT, what, condition).await
}

/// Waits until something holds, for so long.
pub(crate) async fn wait_within<Found>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<Found>,
) -> Found {
    let waiting = async {
        loop {
            if let Some(found) = condition() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}

/// The pid a script of the project wrote with `echo $$ > NAME`, once it did.
pub(crate) async fn pid_in(place: &Site, name: &str) -> u32 {
    let path = place.project().join(name);
    wait_for(&format!("{name} holds a pid"), || fs::read_to_string(&path).ok()?.trim().parse().ok()).await
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// The most memory a process has ever had in use, in kB; none when it is gone.
pub(crate) fn peak_memory_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or(0, |peak| peak.trim().trim_end_matches(" kB").parse().unwrap())
}

/// Waits until processes are gone, for as long as they may take.
pub(crate) async fn gone(pids: &[u32]) {
    let all_gone = || pids.iter().all(|pid| !is_alive(*pid)).then_some(());
    wait_within(GONE_LIMIT, &format!("{pids:?} are gone"), all_gone).await;
}

/// Runs every file as its own program.
pub(crate) fn command_launch(command: &[&str]) -> wire::Launch {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    wire::Launch {
        framework: "command".into(),
        kind: Some(wire::launch::Kind::Command(wire::CommandLaunch { command })),
    }
}

/// `Prepare` with one launch and nothing else.
pub(crate) fn prepare(launch: wire::Launch, runners: u32) -> wire::Prepare {
    wire::Prepare { runners, launches: vec![launch], ..Default::default() }
}

/// A hook of the project.
pub(crate) fn project_hook(path: &str) -> Option<wire::Hook> {
    Some(wire::Hook {
        source: Some(wire::hook::Source::WorkspacePath(path.into())),
        timeout_milliseconds: 10_000,
        fingerprint: String::new(),
    })
}

/// Asserts what came of an attempt.
pub(crate) fn assert_result(finished: &wire::AttemptFinished, expected: AttemptResult) {
    assert_eq!(finished.result(), expected, "{finished:?}");
}
