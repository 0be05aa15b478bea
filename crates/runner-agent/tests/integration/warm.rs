//! Workers that stay for the next run, and all that makes a new one necessary.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::attempt_finished::Result as AttemptResult;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{ALLOW_ROOT, Daemon, connect_as, other_user};
use crate::support::*;

/// A worker that says who it is and which run it works for, and depends on `helper.txt` and what `knows` says. Where it is
/// told that it may stay, that is a process below it, as with the workers that have `shared` files.
const WORKER: &str = r#"
say() { printf '%s\n' "$1" >&3; }
if [ -e sleeps ]; then sleep 1000 & fi
process=$$
if [ -n "$DISTRIBUTEST_MAY_STAY" ]; then sleep 1000 & process=$!; fi
ready='{"type":"ready","protocol":1,"keeps":true,"process":'"$process"'}'
say "$ready"
while read -r line <&3; do
  case $line in
    *'"keep"'*) [ ! -e fails ] || say '{"type":"end_failed","message":"left over"}'
                [ ! -e refuses ] || { say '{"type":"unable","message":"not today"}'; continue; }
                say '{"type":"kept","files":["'"$PWD"'/helper.txt","'"$PWD"'/../outside.txt"],"all":'"$(cat knows)"'}' ;;
    *'"renew"'*) line=${line#*DISTRIBUTEST_RUN=}; DISTRIBUTEST_RUN=${line%%\"*}
                 say "$ready" ;;
    *'"quit"'*) exit 0 ;;
    *) echo "$$ $DISTRIBUTEST_RUN"; [ ! -e writes ] || echo more >> "$(cat writes)"
       say '{"type":"finished","outcome":"passed"}' ;;
  esac
done
"#;

/// What the daemon says in its log.
const STAYS: &str = "a session stays";

/// A daemon and a project whose runs may leave workers.
struct Bench {
    site: Site,
    daemon: Daemon,
    runs: u32,
}

/// What a run found and did.
struct Ran {
    /// Its worker.
    pid: u32,
    /// Whether that was kept from an earlier run.
    kept: bool,
    /// The worker's `DISTRIBUTEST_RUN`.
    run: String,
}

impl Bench {
    async fn new(config: &str) -> Self {
        let site = Site::new();
        let log = File::create(site.root().join("agent.log")).unwrap();
        let config = format!("{config}{ALLOW_ROOT}");
        let daemon = Daemon::start_with(&site, &config, |command| _ = command.stderr(log)).await;
        site.file("helper.txt", "1", 0o644);
        site.file("../outside.txt", "1", 0o644);
        site.file("knows", "true", 0o644);
        site.file("a_test", "", 0o644);
        Bench { site, daemon, runs: 0 }
    }

    fn prepare(&self) -> wire::Prepare {
        let worker = wire::WorkerLaunch {
            programs: vec!["/bin/sh".into()],
            worker_file_name: "fake_worker.sh".into(),
            worker_source: WORKER.as_bytes().to_vec(),
            isolation: wire::Isolation::Fork.into(),
            ready_timeout_milliseconds: 5_000,
            ..Default::default()
        };
        let launch =
            wire::Launch { framework: "fake".into(), kind: Some(wire::launch::Kind::Worker(worker)) };
        wire::Prepare { keep_warm_milliseconds: 600_000, ..prepare(launch, 1) }
    }

    async fn begin(&mut self, prepare: wire::Prepare) -> (Coordinator, Ran) {
        self.runs += 1;
        // Sessions number runners in the user's own home, which other tests use at the same time.
        let initiating_user = format!("warm{}", std::process::id());
        let hello = wire::Hello { run: format!("run-{}", self.runs), initiating_user, ..self.site.hello() };
        let mut coordinator = self.daemon.connect(hello).await;
        coordinator.welcome().await;
        let updates = coordinator.prepare(prepare).await;
        let kept = updates.iter().any(
            |update| matches!(update, Update::WorkerPrepared(prepared) if prepared.saved_microseconds > 0),
        );
        let finished = coordinator.run("a_test").await;
        assert_result(&finished, AttemptResult::Passed);
        let output = coordinator.output_of(&finished.block.unwrap()).await;
        let (pid, run) = output.trim().split_once(' ').unwrap();
        let ran = Ran { pid: pid.parse().unwrap(), kept, run: run.to_owned() };
        (coordinator, ran)
    }

    /// Makes a run to its end in order.
    async fn run_with(&mut self, prepare: wire::Prepare) -> Ran {
        let (coordinator, ran) = self.begin(prepare).await;
        coordinator.end().await;
        ran
    }

    async fn run(&mut self) -> Ran {
        let prepare = self.prepare();
        self.run_with(prepare).await
    }

    /// Makes a run whose worker stays, and waits until it does.
    async fn run_that_stays(&mut self) -> Ran {
        let prepare = self.prepare();
        self.run_that_stays_with(prepare).await
    }

    async fn run_that_stays_with(&mut self, prepare: wire::Prepare) -> Ran {
        self.let_files_age().await;
        let before = self.log().matches(STAYS).count();
        let ran = self.run_with(prepare).await;
        wait_for("the session stays", || (self.log().matches(STAYS).count() > before).then_some(())).await;
        ran
    }

    /// A worker does not stay that has loaded a file which was changed a moment before its run.
    async fn let_files_age(&self) {
        let changed = |path: PathBuf| {
            let metadata = fs::metadata(path).unwrap();
            Duration::new(metadata.ctime().unsigned_abs(), metadata.ctime_nsec().try_into().unwrap())
        };
        let last = changed(self.site.root().join("outside.txt"));
        let aged = || {
            fs::write(self.site.root().join("probe"), "").unwrap();
            (changed(self.site.root().join("probe")) > last + Duration::from_millis(30)).then_some(())
        };
        wait_for("files are old enough", aged).await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.root().join("agent.log")).unwrap()
    }

    /// Asserts that, after a change, the next run has another worker, and the one before is gone.
    async fn assert_new_after(&mut self, what: &str, change: impl FnOnce(&Site)) {
        let first = self.run_that_stays().await;
        change(&self.site);
        let second = self.run_that_stays().await;
        assert!(!second.kept && second.pid != first.pid, "{what}");
        gone(&[first.pid]).await;
    }

    /// Asserts that nothing of a run stays.
    async fn assert_nothing_stays(&mut self, ran: &Ran) {
        gone(&[ran.pid]).await;
        wait_for("the daemon has no children", || self.daemon.children().is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn a_worker_stays_for_the_next_runs_and_works_for_them() {
    let mut bench = Bench::new("").await;
    let first = bench.run_that_stays().await;
    assert!(!first.kept);
    assert_eq!(first.run, "run-1");
    assert!(is_alive(first.pid));
    // What the developer works on.
    bench.site.file("a_test", "changed", 0o644);
    bench.site.file("log/test.log", "grown", 0o644);
    let second = bench.run_that_stays().await;
    assert_eq!((second.pid, second.kept, second.run.as_str()), (first.pid, true, "run-2"));
    // It knows every file it has read, and this is none of them.
    bench.site.file("knows", "true ", 0o644);
    let third = bench.run_that_stays().await;
    assert_eq!((third.pid, third.kept, third.run.as_str()), (first.pid, true, "run-3"));
    assert_eq!(bench.daemon.children().len(), 1);
}

#[tokio::test]
async fn whatever_a_worker_may_have_read_makes_a_new_one_necessary_once_it_has_changed() {
    let mut bench = Bench::new("").await;
    bench.assert_new_after("a loaded file", |site| site.file("helper.txt", "2", 0o644)).await;
    bench.assert_new_after("a loaded file elsewhere", |site| site.file("../outside.txt", "2", 0o644)).await;
    bench
        .assert_new_after("a loaded file that is gone", |site| {
            fs::remove_file(site.project().join("helper.txt")).unwrap();
        })
        .await;
    bench
        .assert_new_after("a loaded file that was not there", |site| site.file("helper.txt", "1", 0o644))
        .await;
    bench.assert_new_after("a new file", |site| site.file("new.txt", "", 0o644)).await;
    bench
        .assert_new_after("a file that is gone", |site| {
            fs::remove_file(site.project().join("new.txt")).unwrap()
        })
        .await;
    bench.site.file("knows", "false", 0o644);
    bench.run_that_stays().await;
    bench.assert_new_after("a file it may have read", |site| site.file("knows", "false ", 0o644)).await;
}

#[tokio::test]
async fn a_run_of_another_kind_has_workers_of_its_own() {
    let mut bench = Bench::new("").await;
    let changes: [fn(&mut wire::Prepare); 3] = [
        |prepare| _ = prepare.environment.insert("RAILS_ENV".into(), "test".into()),
        |prepare| match &mut prepare.launches[0].kind {
            Some(wire::launch::Kind::Worker(worker)) => worker.worker_arguments.push("-k".into()),
            _ => unreachable!(),
        },
        |prepare| match &mut prepare.launches[0].kind {
            Some(wire::launch::Kind::Worker(worker)) => worker.worker_source.push(b'\n'),
            _ => unreachable!(),
        },
    ];
    for change in changes {
        let first = bench.run_that_stays().await;
        let mut prepare = bench.prepare();
        change(&mut prepare);
        let second = bench.run_that_stays_with(prepare).await;
        assert!(!second.kept && second.pid != first.pid);
        gone(&[first.pid]).await;
    }
}

#[tokio::test]
async fn nothing_stays_unless_both_sides_want_it_and_the_run_has_ended_in_order() {
    let mut bench = Bench::new("").await;
    let unwanted = wire::Prepare { keep_warm_milliseconds: 0, ..bench.prepare() };
    let ran = bench.run_with(unwanted).await;
    bench.assert_nothing_stays(&ran).await;

    let prepare = bench.prepare();
    let (coordinator, ran) = bench.begin(prepare).await;
    drop(coordinator);
    bench.assert_nothing_stays(&ran).await;

    let shortly = wire::Prepare { keep_warm_milliseconds: 100, ..bench.prepare() };
    let ran = bench.run_with(shortly).await;
    bench.assert_nothing_stays(&ran).await;

    let mut unwilling = Bench::new("keep_warm_seconds = 0\n").await;
    let ran = unwilling.run().await;
    unwilling.assert_nothing_stays(&ran).await;
}

#[tokio::test]
async fn a_worker_that_might_be_missed_or_in_the_way_does_not_stay() {
    let mut bench = Bench::new("").await;
    for (file, content) in
        [("refuses", ""), ("sleeps", ""), ("writes", "helper.txt"), ("writes", "../outside.txt")]
    {
        bench.site.file(file, content, 0o644);
        let ran = bench.run().await;
        bench.assert_nothing_stays(&ran).await;
        fs::remove_file(bench.site.project().join(file)).unwrap();
    }
    // What a hook has left running ends with the run.
    bench.site.script("setup", "sleep 1000 </dev/null >/dev/null 2>&1 &");
    for hook in ["node_setup", "runner_setup"] {
        let mut prepare = bench.prepare();
        let place = if hook == "node_setup" { &mut prepare.node_setup } else { &mut prepare.runner_setup };
        *place = project_hook("setup");
        let ran = bench.run_with(prepare).await;
        bench.assert_nothing_stays(&ran).await;
    }
}

fn isolated(prepare: &mut wire::Prepare, isolation: wire::Isolation) {
    match &mut prepare.launches[0].kind {
        Some(wire::launch::Kind::Worker(worker)) => worker.isolation = isolation.into(),
        _ => unreachable!(),
    }
}

#[tokio::test]
async fn of_a_worker_with_shared_files_the_process_stays_that_has_loaded_them() {
    let mut bench = Bench::new("").await;
    let shared = |bench: &Bench| {
        let mut prepare = bench.prepare();
        isolated(&mut prepare, wire::Isolation::Shared);
        prepare
    };
    let prepare = shared(&bench);
    let first = bench.run_that_stays_with(prepare).await;
    let prepare = shared(&bench);
    let second = bench.run_that_stays_with(prepare).await;
    assert_eq!((second.pid, second.kept, second.run.as_str()), (first.pid, true, "run-2"));
    // Any other process below it is in the way.
    bench.site.file("sleeps", "", 0o644);
    let prepare = shared(&bench);
    let ran = bench.run_with(prepare).await;
    bench.assert_nothing_stays(&ran).await;
    // A process for each file is not worth keeping.
    fs::remove_file(bench.site.project().join("sleeps")).unwrap();
    let mut prepare = bench.prepare();
    isolated(&mut prepare, wire::Isolation::Process);
    let ran = bench.run_with(prepare).await;
    bench.assert_nothing_stays(&ran).await;
}

#[tokio::test]
async fn what_fails_when_the_files_of_a_worker_end_is_told_before_it_stays() {
    let mut bench = Bench::new("").await;
    bench.site.file("fails", "", 0o644);
    for _ in 0..2 {
        bench.let_files_age().await;
        let before = bench.log().matches(STAYS).count();
        let mut prepare = bench.prepare();
        isolated(&mut prepare, wire::Isolation::Shared);
        let (mut coordinator, _) = bench.begin(prepare).await;
        coordinator.order(Order::EndRun(wire::EndRun {})).await;
        let failure = coordinator
            .until(|update| match update {
                Update::WorkerEnded(ended) => Some(ended.failure.clone()),
                _ => None,
            })
            .await;
        assert_eq!(failure, "left over");
        coordinator.until(|update| matches!(update, Update::RunEnded(_)).then_some(())).await;
        wait_for("the session stays", || (bench.log().matches(STAYS).count() > before).then_some(())).await;
    }
}

#[tokio::test]
async fn a_kept_worker_or_session_that_is_killed_is_replaced() {
    let mut bench = Bench::new("").await;
    let kill =
        |pid: u32| kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    let first = bench.run_that_stays().await;
    kill(first.pid);
    gone(&[first.pid]).await;
    let second = bench.run_that_stays().await;
    assert!(!second.kept);
    let session = bench.daemon.children();
    kill(session[0]);
    bench.assert_nothing_stays(&second).await;
    let third = bench.run_that_stays().await;
    assert!(!third.kept && third.pid != second.pid);
}

#[tokio::test]
async fn kept_workers_go_with_the_daemon() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut bench = Bench::new("").await;
        let ran = bench.run_that_stays().await;
        let session = bench.daemon.children();
        bench.daemon.signal(signal);
        gone(&[ran.pid, session[0]]).await;
    }
}

#[tokio::test]
async fn a_coordinator_that_goes_before_its_run_began_takes_no_worker_with_it() {
    let mut bench = Bench::new("").await;
    let first = bench.run_that_stays().await;
    for greeted in [true, false] {
        let before = bench.log().matches(STAYS).count();
        let mut coordinator = bench.daemon.connect(bench.site.hello()).await;
        if greeted {
            coordinator.welcome().await;
        }
        drop(coordinator);
        wait_for("the session stays", || (bench.log().matches(STAYS).count() > before).then_some(())).await;
    }
    let next = bench.run().await;
    assert!(next.kept && next.pid == first.pid);
}

#[tokio::test]
async fn a_run_beside_another_is_served_by_a_session_of_its_own() {
    let mut bench = Bench::new("").await;
    let first = bench.run_that_stays().await;
    let prepare = bench.prepare();
    let (one, ran) = bench.begin(prepare.clone()).await;
    assert_eq!(ran.pid, first.pid);
    let (other, beside) = bench.begin(prepare).await;
    assert!(!beside.kept && beside.pid != ran.pid);
    other.end().await;
    one.end().await;
}

#[tokio::test]
async fn nobody_else_gets_a_users_workers() {
    let Some(other) = other_user() else { return };
    let mut bench = Bench::new("").await;
    let first = bench.run_that_stays().await;
    let stream = connect_as(&bench.daemon, &other);
    let mut coordinator = Coordinator::over(stream, bench.site.hello()).await;
    coordinator.welcome().await;
    let updates = coordinator.prepare(bench.prepare()).await;
    let prepared = updates.iter().find_map(|update| match update {
        Update::WorkerPrepared(prepared) => Some(prepared.saved_microseconds),
        _ => None,
    });
    assert_eq!(prepared, Some(0));
    assert_eq!(bench.daemon.children().len(), 2, "it has a session of its own");
    assert!(is_alive(first.pid));
    drop(coordinator);
    let again = bench.run_that_stays().await;
    assert_eq!(again.pid, first.pid);
}
