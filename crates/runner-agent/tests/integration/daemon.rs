//! The resident agent: its socket, whom it serves, how runs share it.

use std::fs;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use distributest_process::{Cgroup, Delegation, User};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::hello::Place;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::*;

/// A daemon of the test's own.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) socket: PathBuf,
}

impl Daemon {
    /// Starts a daemon and waits until it listens.
    pub(crate) async fn start(site: &Site, config: &str) -> Self {
        Daemon::start_with(site, config, |_| {}).await
    }

    pub(crate) async fn start_with(site: &Site, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        Daemon::start_as(site, site.program(&[]), config, change).await
    }

    /// Starts it by another program, which becomes it.
    pub(crate) async fn start_through(site: &Site, config: &str, program: &[&str]) -> Self {
        let mut command = site.command(program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_runner-agent"));
        Daemon::start_as(site, command, config, |_| {}).await
    }

    async fn start_as(
        site: &Site,
        mut command: Command,
        config: &str,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let socket = site.root().join("run/socket");
        let file = site.root().join("agent.toml");
        fs::write(&file, config).unwrap();
        command.args(["serve", "--config"]).arg(&file).arg("--socket").arg(&socket);
        change(&mut command);
        let process = Process(command.spawn().unwrap());
        wait_for("the daemon listens", || BlockingUnixStream::connect(&socket).ok()).await;
        Daemon { process, socket }
    }

    pub(crate) async fn connect(&self, hello: wire::Hello) -> Coordinator {
        Coordinator::over(UnixStream::connect(&self.socket).await.unwrap(), hello).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Processes the daemon has started.
    pub(crate) fn children(&self) -> Vec<u32> {
        let pid = self.process.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

/// Tests run as root here only where the daemon is root.
pub(crate) const ALLOW_ROOT: &str = "allow_root = true\n";

/// Another user of this host; `None`, with a word about it, where this test may not become one.
pub(crate) fn other_user() -> Option<User> {
    if geteuid().is_root() {
        return Some(User::by_name("daemon").unwrap());
    }
    say("SKIPPED: only root can be two users");
    None
}

#[tokio::test]
async fn two_runs_share_the_slots_and_a_run_alone_has_them_all() {
    let site = Site::new();
    let daemon = Daemon::start(&site, &format!("slots = 2\n{ALLOW_ROOT}")).await;
    site.script("wait", "echo $$ >> started; while [ ! -e $(basename $0).go.$DISTRIBUTEST_RUN.$TEST_ENV_NUMBER ]; do sleep 0.01; done");
    let mut runs = Vec::new();
    for run in ["one", "two"] {
        // A daemon's sessions number the runners in the user's own home, which other tests use at the same time.
        let hello = wire::Hello { run: run.into(), initiating_user: "slots".into(), ..site.hello() };
        let mut coordinator = daemon.connect(hello).await;
        let welcome = coordinator.welcome().await;
        assert!(welcome.resident);
        assert_eq!(welcome.cores, 2, "as many as there are slots");
        coordinator.prepare(prepare(command_launch(&["{file}"]), 2)).await;
        runs.push(coordinator);
    }
    let started = |update: &Update| match update {
        Update::AttemptStarted(started) => Some(started.attempt),
        _ => None,
    };
    let [one, two] = &mut runs[..] else { panic!() };
    // The first run alone has both slots.
    for runner in [1, 2] {
        let attempt = one.dispatch(runner, "wait", 0).await;
        assert_eq!(one.until(started).await, attempt);
    }
    let waiting = two.dispatch(2, "wait", 0).await;
    // The next slot that gets free is the second run's, although the first run wants it, too.
    site.file("wait.go.one.", "", 0o644);
    let (finished, _) = one.finished(1).await;
    assert_result(&finished, AttemptResult::Passed);
    assert_eq!(two.until(started).await, waiting);
    let lines = || fs::read_to_string(site.project().join("started")).ok().map(|text| text.lines().count());
    wait_for("three tests started", || (lines()? == 3).then_some(())).await;
    let waiting_too = one.dispatch(1, "wait", 0).await;
    // A run that leaves gives back what it held: there is a slot for the first run again.
    drop(runs.pop());
    assert_eq!(runs[0].until(started).await, waiting_too);
    wait_for("four tests started", || (lines()? == 4).then_some(())).await;
}

#[tokio::test]
async fn a_synced_run_gets_a_workspace_of_its_own() {
    let site = Site::new();
    let daemon = Daemon::start(&site, ALLOW_ROOT).await;
    let root = site.root().join("home/workspaces");
    let place = Some(Place::WorkspaceRoot(root.to_str().unwrap().into()));
    let hello = wire::Hello { place, ..site.hello() };
    let mut first = daemon.connect(hello.clone()).await;
    let mut second = daemon.connect(hello).await;
    let workspaces = [first.welcome().await.workspace, second.welcome().await.workspace];
    let expected = root.join("laptop/ana/shop-0123abcd").to_str().unwrap().to_owned();
    assert_eq!(workspaces, [expected.clone(), format!("{expected}-2")]);
}

#[tokio::test]
async fn nothing_of_a_run_is_left_when_it_ends_or_is_killed_and_the_daemon_goes_on() {
    let site = Site::new();
    let daemon = Daemon::start(&site, ALLOW_ROOT).await;
    site.script(
        "test",
        "(setsid sh -c 'echo $$ > daemon.pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &)\n\
         echo $$ > test.pid; echo $PPID > session.pid; sleep 1000",
    );
    for kill_session in [false, true] {
        let mut coordinator = daemon.connect(site.hello()).await;
        coordinator.welcome().await;
        coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
        coordinator.dispatch(1, "test", 0).await;
        let mut pids = Vec::new();
        for name in ["daemon.pid", "test.pid", "session.pid"] {
            pids.push(pid_in(&site, name).await);
        }
        if kill_session {
            kill_process(Pid::from_raw(pids[2].try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
        } else {
            drop(coordinator);
        }
        gone(&pids).await;
        wait_for("the daemon has no children", || daemon.children().is_empty().then_some(())).await;
        for name in ["daemon.pid", "test.pid", "session.pid"] {
            fs::remove_file(site.project().join(name)).unwrap();
        }
    }
    let mut coordinator = daemon.connect(site.hello()).await;
    coordinator.welcome().await;
}

#[tokio::test]
async fn a_killed_daemon_takes_its_runs_along_and_its_socket_is_replaced() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site, ALLOW_ROOT).await;
    site.script("test", "echo $$ > test.pid; echo $PPID > session.pid; sleep 1000");
    let mut coordinator = daemon.connect(site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    coordinator.dispatch(1, "test", 0).await;
    let pids = [pid_in(&site, "test.pid").await, pid_in(&site, "session.pid").await];
    daemon.process.0.kill().unwrap();
    daemon.process.0.wait().unwrap();
    gone(&pids).await;
    assert!(daemon.socket.exists());

    let again = Daemon::start(&site, ALLOW_ROOT).await;
    again.connect(site.hello()).await.welcome().await;
    let second = site.program(&["serve", "--socket"]).arg(&again.socket).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert!(complaint.contains("listens on") && complaint.contains("already"), "{complaint}");
}

#[tokio::test]
async fn what_a_daemon_killed_with_its_sessions_left_is_killed_before_the_next_one_serves() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site, ALLOW_ROOT).await;
    site.script(
        "test",
        "(setsid sh -c 'echo $$ > daemon.pid; exec env -i sleep 1000' </dev/null >/dev/null 2>&1 &)\n\
         sleep 1000 & echo $! > child.pid; echo $$ > test.pid; wait",
    );
    let mut coordinator = daemon.connect(site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    coordinator.dispatch(1, "test", 0).await;
    let test = pid_in(&site, "test.pid").await;
    let left = [pid_in(&site, "daemon.pid").await, pid_in(&site, "child.pid").await];
    // Somebody else's run, which has nothing to do with this daemon, goes on.
    let neighbour = Site::new();
    neighbour.script("test", "sleep 1000 & echo $! > child.pid; wait");
    let (mut private, _agent) = Coordinator::with_private_agent(&neighbour, neighbour.hello()).await;
    private.welcome().await;
    private.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    private.dispatch(1, "test", 0).await;
    let unconcerned = pid_in(&neighbour, "child.pid").await;

    // Stopped first, so that none sees the others go.
    let all = [&[daemon.process.0.id()][..], &daemon.children()].concat();
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in &all {
            kill_process(Pid::from_raw((*pid).try_into().unwrap()).unwrap(), signal).unwrap();
        }
    }
    daemon.process.0.wait().unwrap();
    gone(&[test]).await;
    assert!(
        left.iter().all(|pid| is_alive(*pid)),
        "nobody is there to kill them, or this test shows nothing"
    );
    let again = Daemon::start(&site, ALLOW_ROOT).await;
    again.connect(site.hello()).await.welcome().await;
    assert!(!left.iter().any(|pid| is_alive(*pid)), "they were to be gone before anybody is served");
    assert!(is_alive(unconcerned));
    let record = again.socket.with_added_extension(format!("trees.{}", daemon.process.0.id()));
    assert!(!record.exists());
}

#[tokio::test]
async fn told_to_stop_it_ends_runs_in_order_and_takes_its_socket_away() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site, ALLOW_ROOT).await;
    site.script("test", "echo $$ > test.pid; sleep 1000");
    let mut coordinator = daemon.connect(site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    coordinator.dispatch(1, "test", 0).await;
    let pid = pid_in(&site, "test.pid").await;
    daemon.signal(Signal::TERM);
    gone(&[pid]).await;
    let status = wait_for("the daemon ends", || daemon.process.0.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    assert!(!daemon.socket.exists());
    assert_eq!(site.temporary_files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn told_to_stop_with_a_grace_it_lets_runs_finish() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site, &format!("stop_grace_seconds = 60\n{ALLOW_ROOT}")).await;
    site.script("test", "echo $$ > test.pid; while [ ! -e go ]; do sleep 0.01; done");
    let mut coordinator = daemon.connect(site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    let attempt = coordinator.dispatch(1, "test", 0).await;
    pid_in(&site, "test.pid").await;
    daemon.signal(Signal::TERM);
    wait_for("it accepts no more", || (!daemon.socket.exists()).then_some(())).await;
    site.file("go", "", 0o644);
    assert_result(&coordinator.finished(attempt).await.0, AttemptResult::Passed);
    coordinator.end().await;
    wait_for("the daemon ends", || daemon.process.0.try_wait().unwrap()).await;
}

#[tokio::test]
async fn a_system_agent_becomes_the_user_who_calls() {
    let Some(user) = other_user() else { return };
    let site = Site::new();
    let daemon = Daemon::start(&site, "").await;
    site.script("show", "id -un; id -Gn; pwd; env | sort; touch made");
    let stream = connect_as(&daemon, &user);
    let mut coordinator = Coordinator::over(stream, site.hello()).await;
    assert_eq!(coordinator.welcome().await.user, user.name);
    let mut prepare = prepare(command_launch(&["{file}"]), 1);
    prepare.environment.insert("TMPDIR".into(), site.root().join("tmp").to_str().unwrap().into());
    coordinator.prepare(prepare).await;
    let finished = coordinator.run("show").await;
    assert_result(&finished, AttemptResult::Passed);
    let output = coordinator.output_of(&finished.block.unwrap()).await;
    assert!(output.starts_with(&format!("{0}\n{0}\n", user.name)), "{output}");
    assert!(output.contains(&format!("HOME={}\n", user.home.display())), "{output}");
    assert!(!output.contains("RUNNER_AGENT_TEST_SECRET"), "{output}");
    let made = fs::metadata(site.project().join("made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), user.uid);
    coordinator.end().await;
}

#[tokio::test]
async fn root_is_told_that_tests_do_not_run_as_root() {
    if other_user().is_none() {
        return;
    }
    let site = Site::new();
    let daemon = Daemon::start(&site, "").await;
    let mut coordinator = daemon.connect(site.hello()).await;
    let Some(Update::Refusal(refusal)) = coordinator.next().await else { panic!("not refused") };
    let failure = refusal.failure.unwrap();
    assert!(failure.cause.contains("root") && failure.hint.contains("allow_root"), "{failure:?}");
    assert_eq!(coordinator.next().await, None);
}

#[tokio::test]
async fn an_ordinary_users_agent_refuses_everybody_else() {
    let Some(user) = other_user() else { return };
    let site = Site::new();
    let run = site.root().join("run");
    fs::create_dir(&run).unwrap();
    std::os::unix::fs::chown(&run, Some(user.uid), Some(user.gid)).unwrap();
    let daemon = Daemon::start_with(&site, "", |command| {
        command.uid(user.uid).gid(user.gid);
    })
    .await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&daemon.socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Root gets past the permissions, and no further.
    let mut coordinator = daemon.connect(site.hello()).await;
    let Some(Update::Refusal(refusal)) = coordinator.next().await else { panic!("not refused") };
    assert!(refusal.failure.unwrap().cause.contains("only the user it runs as"));
    let mut own = Coordinator::over(connect_as(&daemon, &user), site.hello()).await;
    assert_eq!(own.welcome().await.user, user.name);
}

/// A cgroup to play systemd's part with; `None`, with a word about it, where that can't be done.
fn delegated_cgroup() -> Option<Cgroup> {
    if !geteuid().is_root() {
        say("SKIPPED: only root can delegate a cgroup");
        return None;
    }
    let found = Delegation::find(Path::new("/proc/self/mounts"), Path::new("/proc/self/cgroup"));
    let made = found.and_then(|own| own.create_child(&format!("runner-agent-test-{}", std::process::id())));
    made.inspect_err(|error| say(&format!("SKIPPED: no cgroups here: {error}"))).ok()
}

#[tokio::test]
async fn under_systemd_it_says_when_it_is_ready_and_gives_each_run_a_cgroup() {
    let (Some(user), Some(cgroup)) = (other_user(), delegated_cgroup()) else { return };
    let site = Site::new();
    let notified = std::os::unix::net::UnixDatagram::bind(site.root().join("notify")).unwrap();
    let daemon = Daemon::start_with(&site, "", |command| {
        // As systemd does: first into the cgroup, then the program.
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut wrapped = Command::new("sh");
        wrapped.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(cgroup.directory().join("cgroup.procs"));
        wrapped.arg(program).args(arguments).env("NOTIFY_SOCKET", site.root().join("notify"));
        *command = wrapped;
    })
    .await;
    let mut message = [0; 64];
    let length = notified.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");

    site.script(
        "test",
        "(setsid sh -c 'echo $$ > daemon.pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &)\n\
         echo $$ > test.pid; sleep 1000",
    );
    let mut coordinator = Coordinator::over(connect_as(&daemon, &user), site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    coordinator.dispatch(1, "test", 0).await;
    let pids = [pid_in(&site, "test.pid").await, pid_in(&site, "daemon.pid").await];
    let name = cgroup.directory().file_name().unwrap().to_str().unwrap();
    for pid in pids {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let own = membership.lines().find(|line| line.starts_with("0::")).unwrap();
        let (before, below) = own.rsplit_once("/run-").unwrap();
        assert!(before.ends_with(name) && below.contains("/tree-"), "{membership}");
    }
    drop(coordinator);
    gone(&pids).await;
    let only_itself =
        || fs::read_dir(cgroup.directory()).unwrap().all(|entry| !entry.unwrap().path().is_dir());
    wait_for("the run's cgroup is removed", || only_itself().then_some(())).await;
}

/// Tells whoever reads the test's output.
pub(crate) fn say(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes()).unwrap();
}

/// Connects as another user, through a relay that is run as that user.
pub(crate) fn connect_as(daemon: &Daemon, user: &User) -> UnixStream {
    let (near, far) = BlockingUnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let far = std::os::fd::OwnedFd::from(far);
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner-agent"));
    command.arg("dial").arg("--socket").arg(&daemon.socket).uid(user.uid).gid(user.gid);
    command.stdin(Stdio::from(far.try_clone().unwrap())).stdout(Stdio::from(far));
    // It ends with the connection.
    let mut relay = command.spawn().unwrap();
    std::thread::spawn(move || relay.wait());
    let near = skip_banner(near);
    UnixStream::from_std(near).unwrap()
}

fn skip_banner(stream: BlockingUnixStream) -> BlockingUnixStream {
    use std::io::Read as _;
    stream.set_nonblocking(false).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        (&stream).read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    assert_eq!(line, b"distributest-agent protocol=1 resident\n");
    stream.set_nonblocking(true).unwrap();
    stream
}

#[tokio::test]
async fn a_relay_loses_no_byte_and_passes_the_end_on() {
    let site = Site::new();
    let socket = site.root().join("socket");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let mut command = site.program(&["dial", "--socket"]);
    command.arg(&socket).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut relay = Process(command.spawn().unwrap());
    let (mut agent, _) = listener.accept().await.unwrap();
    let mut input = relay.0.stdin.take().unwrap();
    let sent: Vec<u8> =
        (0..3_000_000u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || std::io::Write::write_all(&mut input, &sent)
    });
    let mut received = Vec::new();
    agent.read_to_end(&mut received).await.unwrap();
    assert!(received == sent, "the input arrives whole, and its end with it");
    writer.join().unwrap().unwrap();

    let reader = std::thread::spawn({
        let mut output = relay.0.stdout.take().unwrap();
        move || {
            let mut read = Vec::new();
            std::io::Read::read_to_end(&mut output, &mut read).map(|_| read)
        }
    });
    agent.write_all(&sent).await.unwrap();
    drop(agent);
    let read = reader.join().unwrap().unwrap();
    let banner = b"distributest-agent protocol=1 resident\n";
    assert!(read.starts_with(banner) && read[banner.len()..] == sent, "the answer arrives whole");
    assert!(relay.0.wait().unwrap().success());
}

#[tokio::test]
async fn a_relay_without_an_agent_says_so() {
    let site = Site::new();
    let socket = site.root().join("nothing");
    let output = site.program(&["dial", "--socket"]).arg(&socket).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(output.stdout.is_empty());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains(socket.to_str().unwrap()), "{complaint}");
}

#[test]
fn the_command_line_explains_itself() {
    let site = Site::new();
    let help = site.program(&["--help"]).output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["serve", "dial", "check-config", "RUNNER_AGENT_LOG"] {
        assert!(help.contains(word), "{help}");
    }
    let usage = site.program(&["serve", "--sokcet", "x"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(64));
    let config = site.root().join("agent.toml");
    fs::write(&config, "slot = 1\n").unwrap();
    let checked = site.program(&["check-config", "--config"]).arg(&config).output().unwrap();
    assert_eq!(checked.status.code(), Some(78));
    let complaint = String::from_utf8(checked.stderr).unwrap();
    assert!(complaint.contains("agent.toml") && complaint.contains("unknown field `slot`"), "{complaint}");
    fs::write(&config, "slots = 7\n").unwrap();
    let checked = site.program(&["check-config", "--config"]).arg(&config).output().unwrap();
    assert!(String::from_utf8(checked.stdout).unwrap().contains("slots = 7\n"));
}

#[tokio::test]
async fn an_idle_daemon_is_small() {
    let site = Site::new();
    let daemon = Daemon::start(&site, "").await;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    say(&format!("an idle daemon's resident memory: {kilobytes} kB"));
    // A release build is much smaller; this catches a second runtime or a cache that got in by accident.
    assert!(kilobytes < 16 * 1024, "{kilobytes} kB");
}
