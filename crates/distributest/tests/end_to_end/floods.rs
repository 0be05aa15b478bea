//! What writes more than anybody should: everything is on disk, byte for byte, and neither program grows.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};

use serde_json::Value;

use crate::sandbox::{Running, Sandbox};

/// The most memory coordinator and agent may ever have used.
const LIMIT_KB: u64 = 64 * 1024;

/// As many numbers as make 100 MB.
const NUMBERS: u64 = 13_500_000;

/// Says that it runs, and waits until it may end: what ran before it on the same runner has been seen to.
const HOLDS: &str = "touch holds; until [ -e go ]; do sleep 0.01; done\n";

/// The most memory each process of a run has used so far, the tests' own left out, in kB.
fn peaks(run: &Running<'_>) -> Vec<(String, u64)> {
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field =
            |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
        Some((field("Name:")?, field("VmHWM:")?.trim_end_matches(" kB").parse().ok()?))
    };
    let ours = |(name, _): &(String, u64)| ["distributest", "runner-agent"].contains(&name.as_str());
    run.family().into_iter().filter_map(peak).filter(ours).collect()
}

fn assert_small(run: &Running<'_>) {
    let peaks = peaks(run);
    assert!(peaks.len() >= 2, "the coordinator and the agent's session: {peaks:?}");
    assert!(peaks.iter().all(|(_, kilobytes)| *kilobytes < LIMIT_KB), "{peaks:?}");
}

#[test]
fn a_hundred_megabytes_without_a_newline_are_in_the_log_and_not_in_memory() {
    let sandbox = Sandbox::new();
    // Neither text nor UTF-8, and no line.
    let floods = format!("printf '\\377\\376'; seq 1 {NUMBERS} | tr '\\n' '\\0'; exit 1\n");
    sandbox.shell_tests("").file("tests/floods", format!("{}{floods}", "# comes first\n".repeat(100)));
    sandbox.file("tests/holds", HOLDS);
    let mut run = sandbox.start(sandbox.command(&["--runners", "1", "--verbose"]));
    run.wait_for_file("holds");
    assert_small(&run);
    sandbox.file("go", "");
    let ended = run.wait();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stdout.len() < 64 * 1024, "{} bytes on the console", ended.stdout.len());
    assert!(ended.stdout.contains("log:"), "{}", ended.stdout);

    let log =
        File::open(sandbox.path("home/.local/state/distributest/logs/latest.log")).expect("open the log");
    let mut log = BufReader::with_capacity(1 << 20, log);
    let mut line = String::new();
    while !line.starts_with("==> host localhost runner 1 tests/floods (") {
        line.clear();
        assert!(log.read_line(&mut line).expect("read the log") > 0, "the block is missing");
    }
    let length: u64 = line
        .rsplit_once('(')
        .expect("it has a length")
        .1
        .trim_end_matches(" bytes)\n")
        .parse()
        .expect("a number");
    let mut bytes = log.take(length);
    let mut expected = vec![0xff, 0xfe];
    let (mut total, mut number, mut read) = (0, 0, vec![0; 1 << 20]);
    loop {
        while expected.len() < read.len() && number < NUMBERS {
            number += 1;
            expected.extend_from_slice(number.to_string().as_bytes());
            expected.push(0);
        }
        let count = expected.len().min(read.len());
        if count == 0 {
            break;
        }
        bytes.read_exact(&mut read[..count]).expect("the log is as long as it says");
        assert!(read[..count] == expected[..count], "the log differs after {total} bytes");
        total += count;
        expected.drain(..count);
    }
    assert_eq!(total as u64, length);
    assert!(length > 100_000_000);
}

/// A worker of the project's own, in whose files each of 40 tests fails with a megabyte to say.
const TALKATIVE_WORKER: &str = r#"
import json, os, socket, sys
agent = socket.socket(fileno=int(os.environ["DISTRIBUTEST_FD"]))
lines = agent.makefile("r")
def say(**message): agent.sendall((json.dumps(message) + "\n").encode())
say(type="ready", protocol=1, framework="talks", version="1")
for line in lines:
    order = json.loads(line)
    if order["type"] == "quit": break
    sys.stdout.write("x" * 1000000); sys.stdout.flush()
    if order["file"].endswith("talks"):
        for number in range(40):
            details = ("%d " % number) * (1000000 // len("%d " % number))
            say(type="test", id=str(number), name="n%d" % number, status="failed", seconds=0.001, message="m", details=details)
        say(type="finished", outcome="failed")
    else:
        open("holds", "w").close()
        while not os.path.exists("go"): pass
        say(type="finished", outcome="passed")
"#;

#[test]
fn dozens_of_tests_with_a_megabyte_to_say_are_in_the_reports_and_not_in_memory() {
    let sandbox = Sandbox::new();
    sandbox.file(
        ".distributest/config.toml",
        "[framework.talks]\nfiles = [\"tests/*\"]\nworker = [\"python3\", \"talks.py\"]\n",
    );
    sandbox.file("talks.py", TALKATIVE_WORKER);
    sandbox
        .file("tests/a_talks", "#".repeat(1000))
        .file("tests/b_talks", "#".repeat(900))
        .file("tests/z_holds", "");
    let [junit, json] = ["junit.xml", "events.jsonl"].map(|name| sandbox.path(name).display().to_string());
    let mut run =
        sandbox.start(sandbox.command(&["--runners", "1", "--junit", &junit, "--json", &json, "--quiet"]));
    run.wait_for_file("holds");
    assert_small(&run);
    sandbox.file("go", "");
    let ended = run.wait();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);

    // In the order they ended, each with all it said.
    let events = BufReader::new(File::open(&json).expect("open the events"));
    let mut tests = 0;
    for line in events.lines() {
        let line = line.expect("read the events");
        if line.contains("\"test_finished\"") {
            let event: Value = serde_json::from_str(&line).expect("every line is JSON");
            assert_eq!(event["id"], (tests % 40).to_string());
            assert!(event["details"].as_str().expect("details").len() > 990_000, "{tests}");
            tests += 1;
        }
    }
    assert_eq!(tests, 80);
    assert_eq!(fs::read_to_string(&junit).expect("read JUnit").matches("<testcase ").count(), 80);
}
