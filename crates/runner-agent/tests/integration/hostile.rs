//! Callers that mean harm or are broken: silent ones, senseless ones, thousands of them. The daemon stays up, stays
//! small, and serves whoever else calls.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::process::Stdio;

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::daemon::{ALLOW_ROOT, Daemon, say};
use crate::support::*;

/// What a daemon may use at most, whatever is done to it. A debug build's own code is most of it.
const DAEMON_LIMIT_KB: u64 = 32 * 1024;

/// The same for a session whose coordinator does not do its part.
const SESSION_LIMIT_KB: u64 = 64 * 1024;

/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface, empty settings, and what follows.
fn connection(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    bytes.extend(frames.into_iter().flatten());
    bytes
}

/// Headers that open a call and are complete (`:method POST`, `:scheme http`, `:path /`).
const CALL_HEADERS: &[u8] = &[0x83, 0x86, 0x84];

fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// What broken and hostile peers send.
fn assaults() -> Vec<(&'static str, Vec<u8>)> {
    let call = |number: u32| frame(HEADERS, 4, 2 * number + 1, CALL_HEADERS);
    let reset = |number: u32| frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes());
    let largest = [&[0xff; 3][..], &[0, 0, 0, 0, 0, 1]].concat();
    vec![
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("random bytes", random_bytes(1 << 20)),
        ("half a preface", PREFACE[..10].to_vec()),
        ("random bytes after the preface", [PREFACE, &random_bytes(1 << 20)].concat()),
        ("a frame of the largest size", [&connection([])[..], &largest, &vec![b'x'; 1 << 24]].concat()),
        ("headers that are no HPACK", connection([frame(HEADERS, 4, 1, &[0xff; 4096])])),
        (
            "calls that are reset at once",
            connection((0..50_000).flat_map(|number| [call(number), reset(number)])),
        ),
        ("calls that never end", connection((0..50_000).map(call))),
        (
            "headers that never end",
            connection(
                std::iter::once(frame(HEADERS, 0, 1, CALL_HEADERS))
                    .chain((0..20_000).map(|_| frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b']))),
            ),
        ),
        ("pings whose answers nobody reads", connection((0..200_000).map(|_| frame(PING, 0, 0, &[7; 8])))),
    ]
}

/// Sends as much as is taken, until the other end hangs up or takes no more.
fn assault(mut stream: BlockingUnixStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let _ = stream.write_all(bytes);
}

#[tokio::test]
async fn whatever_a_peer_sends_the_daemon_stays_up_and_small() {
    let site = Site::new();
    let daemon = Daemon::start(&site, ALLOW_ROOT).await;
    for (what, bytes) in assaults() {
        let stream = BlockingUnixStream::connect(&daemon.socket).unwrap();
        let kept = stream.try_clone().unwrap();
        let sent = tokio::task::spawn_blocking(move || assault(stream, &bytes));
        sent.await.unwrap();
        for session in daemon.children() {
            let kilobytes = peak_memory_kb(session);
            say(&format!("{what}: a session's peak memory is {kilobytes} kB"));
            assert!(kilobytes < SESSION_LIMIT_KB, "{what}: its session used {kilobytes} kB");
        }
        daemon.connect(site.hello()).await.welcome().await;
        drop(kept);
    }
    wait_for("every session is gone", || daemon.children().is_empty().then_some(())).await;
    let kilobytes = peak_memory_kb(daemon.process.0.id());
    say(&format!("a daemon's peak memory under assault: {kilobytes} kB"));
    assert!(kilobytes < DAEMON_LIMIT_KB, "the daemon used {kilobytes} kB");
}

#[tokio::test]
async fn ten_thousand_connections_cost_little_and_end() {
    let site = Site::new();
    let (mut log, log_writer) = std::io::pipe().unwrap();
    let daemon = Daemon::start_with(&site, ALLOW_ROOT, |command| {
        command.stderr(Stdio::from(log_writer)).env("RUNNER_AGENT_LOG", "info");
    })
    .await;
    let said = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut log, &mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut silent = Vec::new();
    for number in 0..10_000 {
        let stream = BlockingUnixStream::connect(&daemon.socket).unwrap();
        // Those beyond the limit are closed at once; of the others the first hundred are kept.
        if number < 100 {
            silent.push(stream);
        }
    }
    assert!(daemon.children().len() < 60, "{} sessions for callers who say nothing", daemon.children().len());
    let kilobytes = peak_memory_kb(daemon.process.0.id());
    say(&format!("a daemon's peak memory under 10,000 connections: {kilobytes} kB"));
    assert!(kilobytes < DAEMON_LIMIT_KB, "the daemon used {kilobytes} kB");
    // Silent ones are hung up on, and then there is room again.
    for stream in silent {
        stream.set_nonblocking(true).unwrap();
        let mut stream = UnixStream::from_std(stream).unwrap();
        let ended = tokio::time::timeout(LIMIT, stream.read(&mut [0])).await;
        assert!(matches!(ended.expect("it is closed"), Ok(0) | Err(_)));
    }
    daemon.connect(site.hello()).await.welcome().await;
    drop(daemon);
    let said = said.await.unwrap().unwrap();
    assert!(said.contains("a user has too many connections"), "{said}");
    assert!(said.contains("a caller said nothing"), "{said}");
    assert!(said.lines().count() < 1_000, "{} lines of log", said.lines().count());
}

#[tokio::test]
async fn a_user_with_too_many_runs_is_told_so() {
    let site = Site::new();
    let daemon = Daemon::start(&site, ALLOW_ROOT).await;
    let mut silent = Vec::new();
    let refused = loop {
        let mut coordinator = daemon.connect(site.hello()).await;
        match coordinator.next().await {
            Some(Update::Refusal(refusal)) => break refusal.failure.unwrap(),
            _ if silent.len() < 100 => {}
            other => panic!("{other:?} after {} silent callers", silent.len()),
        }
        drop(coordinator);
        // Room is taken faster than by runs.
        silent.extend((0..12).map(|_| BlockingUnixStream::connect(&daemon.socket).unwrap()));
    };
    assert!(refused.cause.contains("too many runs"), "{refused:?}");
    drop(silent);
    wait_for("all are gone", || daemon.children().is_empty().then_some(())).await;
    daemon.connect(site.hello()).await.welcome().await;
}

#[tokio::test]
async fn a_daemon_out_of_descriptors_waits_for_some_and_does_not_spin() {
    let site = Site::new();
    let daemon = Daemon::start_through(&site, ALLOW_ROOT, &["prlimit", "--nofile=24:24"]).await;
    let silent: Vec<_> = (0..30).map(|_| BlockingUnixStream::connect(&daemon.socket).unwrap()).collect();
    // It has taken what it could once it holds as many descriptors as it may.
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.process.0.id())).unwrap().count();
    wait_for("no descriptor is left", || (open() >= 24).then_some(())).await;
    let begin = processor_ticks(daemon.process.0.id());
    let waiting = tokio::time::timeout(std::time::Duration::from_secs(1), std::future::pending::<()>());
    let _ = waiting.await;
    let ticks = processor_ticks(daemon.process.0.id()) - begin;
    assert!(ticks < 20, "it used {ticks} hundredths of a second of a second it had nothing to do in");
    drop(silent);
    daemon.connect(site.hello()).await.welcome().await;
}

#[tokio::test]
async fn a_session_whose_coordinator_orders_without_end_ends_and_stays_small() {
    let site = Site::new();
    let daemon = Daemon::start(&site, ALLOW_ROOT).await;
    // It gives up after the lease on a coordinator that does not take the reason either.
    let mut coordinator = daemon.connect(wire::Hello { lease_milliseconds: 1_000, ..site.hello() }).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    let session = daemon.children()[0];
    let flood = async {
        for attempt in 1..1_000_000 {
            let runner = if attempt % 2 == 0 { 7 } else { u32::MAX };
            let dispatch = wire::Dispatch { attempt, runner, file: "x".repeat(100), ..Default::default() };
            if !coordinator.try_order(Order::Dispatch(dispatch)).await {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, flood).await.expect("the session ends");
    let kilobytes = peak_memory_kb(session);
    say(&format!("orders without end: a session's peak memory is {kilobytes} kB"));
    assert!(kilobytes < SESSION_LIMIT_KB, "the session used {kilobytes} kB");
    drop(coordinator);
    wait_for("the session is gone", || daemon.children().is_empty().then_some(())).await;
}

/// Processor time a process has used, in clock ticks of usually a hundredth of a second.
fn processor_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // proc(5) counts from 1; what follows the name starts with field 3.
    [14, 15].iter().map(|field| fields[field - 3].parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_test_that_uses_up_its_processes_has_an_outcome_and_nothing_of_it_is_left() {
    if !rustix::process::geteuid().is_root() {
        return say("SKIPPED: a limit on processes of the test's own needs a user of its own");
    }
    let site = Site::new();
    // A user nobody else is, whose processes alone are counted, and who is bound by the limit.
    site.script(
        "test",
        "exec setpriv --reuid=64123 --clear-groups --inh-caps=-all --bounding-set=-all \\\n\
         prlimit --nproc=40 sh -c 'while sleep 1000 & do :; done'",
    );
    site.script("passes", "exit 0");
    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    let finished = coordinator.run("test").await;
    assert_result(&finished, AttemptResult::Failed);
    assert!(coordinator.output_of(&finished.block.unwrap()).await.contains("fork"), "{finished:?}");
    assert!(finished.leaked.len() >= 30, "{:?}", finished.leaked);
    let left: Vec<u32> =
        finished.leaked.iter().map(|leaked| leaked.split(' ').next().unwrap().parse().unwrap()).collect();
    gone(&left).await;
    assert_result(&coordinator.run("passes").await, AttemptResult::Passed);
}
