//! What must not go wrong, whatever tests do: shown with files that are run as TAP.

use crate::support::{Project, Worker, is_alive, signal, wait_until};

/// A file that says its pid and then waits; on SIGTERM it says so and ends.
const WAITS: &str = "#!/bin/sh\ntrap 'echo ended by TERM; exit 5' TERM\necho $$ > pid\necho 1..1\nwhile :; do sleep 0.05; done\n";

fn pid(project: &Project) -> u32 {
    project.wait_for_text("pid").trim().parse().unwrap()
}

#[test]
fn a_gigabyte_without_a_newline_passes_through_in_little_memory() {
    let project = Project::empty();
    project.write("t/floods.t", "#!/bin/sh\necho 1..1; echo ok 1; head -c 1000000000 /dev/zero\n");
    let mut worker = Worker::ready(&project, &["tap"]);
    assert_eq!(worker.run("t/floods.t").outcome(), "passed");
    assert_eq!(worker.stdout_file().metadata().unwrap().len(), 1_000_000_000 + b"1..1\nok 1\n".len() as u64);
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 32 * 1024, "{peak}");
    worker.quit();
}

#[test]
fn each_file_leads_a_session_of_its_own_with_nothing_of_the_worker() {
    let project = Project::empty();
    let script = "#!/bin/sh
echo 1..3
[ \"$(cut -d' ' -f6 /proc/$$/stat)\" = $$ ] && echo ok 1 - leads a session
readlink /proc/$$/fd/* | grep -q socket || echo ok 2 - has no socket
env | grep -E 'DISTRIBUTEST_(FD|ISOLATION)' || echo ok 3 - does not know of the worker
";
    project.write("t/session.t", script);
    let mut worker = Worker::ready(&project, &["tap"]);
    let report = worker.run("t/session.t");
    assert_eq!(report.outcome(), "passed", "{}", worker.stdout());
    worker.quit();
}

#[test]
fn a_daemon_does_not_hold_the_file_up() {
    let project = Project::empty();
    project.write("t/leaves.t", "#!/bin/sh\nsetsid sleep 1000 & echo $! > pid\necho 1..1; echo ok 1\n");
    let mut worker = Worker::ready(&project, &["tap"]);
    assert_eq!(worker.run("t/leaves.t").outcome(), "passed");
    let daemon = pid(&project);
    assert!(is_alive(daemon), "daemons are left to the agent");
    signal("KILL", daemon);
    worker.quit();
}

#[test]
fn what_a_pipe_still_writes_counts() {
    let project = Project::empty();
    let script = "#!/bin/bash\nexec > >(sleep 0.05; cat)\necho 1..1\necho ok 1 - through a pipe\n";
    project.write("t/piped.t", script);
    let mut worker = Worker::ready(&project, &["tap"]);
    let report = worker.run("t/piped.t");
    assert_eq!((report.outcome(), report.tests.len()), ("passed", 1), "{}", report.message());
    worker.quit();
}

#[test]
fn term_ends_the_file_and_then_the_worker() {
    let project = Project::empty();
    project.write("t/waits.t", WAITS);
    let mut worker = Worker::ready(&project, &["tap"]);
    worker.send_run("t/waits.t");
    let file = pid(&project);
    signal("TERM", worker.pid());
    assert!(!worker.wait().success());
    assert!(worker.next().is_none(), "there is no `finished`");
    assert!(!is_alive(file));
    assert!(worker.stdout().ends_with("ended by TERM\n"), "{}", worker.stdout());
}

#[test]
fn the_end_of_the_agent_kills_the_file() {
    let project = Project::empty();
    project.write("t/waits.t", WAITS);
    let mut worker = Worker::ready(&project, &["tap"]);
    worker.send_run("t/waits.t");
    let file = pid(&project);
    worker.abandon();
    assert!(!worker.wait().success());
    assert!(!is_alive(file));
    assert!(!worker.stdout().contains("ended by TERM"));
}

#[test]
fn the_end_of_the_worker_kills_the_file() {
    let project = Project::empty();
    project.write("t/waits.t", WAITS);
    let mut worker = Worker::ready(&project, &["tap"]);
    worker.send_run("t/waits.t");
    let file = pid(&project);
    signal("KILL", worker.pid());
    worker.wait();
    wait_until(|| (!is_alive(file)).then_some(()));
}

#[test]
fn an_idle_worker_ends_on_term_and_with_the_agent() {
    let project = Project::empty();
    let mut worker = Worker::ready(&project, &["tap"]);
    signal("TERM", worker.pid());
    assert!(!worker.wait().success());
    let mut worker = Worker::ready(&project, &["tap"]);
    worker.abandon();
    assert!(!worker.wait().success());
}

#[test]
fn an_order_that_is_none_ends_the_worker_with_a_word() {
    let project = Project::empty();
    let mut worker = Worker::ready(&project, &["tap"]);
    worker.send(&serde_json::json!({"type": "dance"}));
    assert!(!worker.wait().success());
    assert!(worker.stderr().contains("failed to read an order of the agent"), "{}", worker.stderr());
}

#[test]
fn what_a_failing_test_comments_without_end_is_cut() {
    let project = Project::empty();
    let script =
        "#!/bin/sh\necho 1..1; echo not ok 1; yes '# a comment of a test that failed' | head -c 40000000\n";
    project.write("t/comments.t", script);
    let mut worker = Worker::ready(&project, &["tap"]);
    assert_eq!(worker.run("t/comments.t").outcome(), "failed");
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 32 * 1024, "{peak}");
    worker.quit();
}
