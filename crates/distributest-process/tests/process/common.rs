//! What the tests share: specs, and ways to look at processes that do not go through the code under test.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use distributest_process::{Cgroup, Delegation, ProcessSpec};

/// How a tree's members are found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// By descent and mark alone.
    Plain,
    /// By a cgroup as well.
    Cgroup,
}

impl Mode {
    /// The modes that can be tested here.
    pub(crate) fn available() -> Vec<Mode> {
        match delegation() {
            Ok(_) => vec![Mode::Plain, Mode::Cgroup],
            Err(error) => {
                skipped(&format!("process trees in a cgroup: {error}"));
                vec![Mode::Plain]
            }
        }
    }

    /// A spec that runs a shell script in this mode.
    pub(crate) fn shell(self, script: &str) -> ProcessSpec {
        self.program("sh", &["-c", script])
    }

    /// A spec that runs a program in this mode.
    pub(crate) fn program(self, name: &str, arguments: &[&str]) -> ProcessSpec {
        let cgroup = match self {
            Mode::Plain => None,
            Mode::Cgroup => Some(new_cgroup()),
        };
        ProcessSpec { cgroup, ..program(name, arguments) }
    }
}

/// Says on standard error what is not tested here and why, also when the test passes.
pub(crate) fn skipped(what: &str) {
    // Not a macro: the test harness keeps what those print to itself.
    std::io::stderr().write_all(format!("SKIPPED: {what}\n").as_bytes()).unwrap();
}

fn delegation() -> Result<Delegation, distributest_process::CgroupError> {
    Delegation::find(Path::new("/proc/self/mounts"), Path::new("/proc/self/cgroup"))
}

fn new_cgroup() -> Cgroup {
    delegation().unwrap().create_child(&format!("distributest-test-{}", unique())).unwrap()
}

/// A spec that runs a shell script.
pub(crate) fn shell(script: &str) -> ProcessSpec {
    program("sh", &["-c", script])
}

/// A spec that runs a program.
pub(crate) fn program(program: &str, arguments: &[&str]) -> ProcessSpec {
    ProcessSpec {
        program: program.into(),
        arguments: arguments.iter().map(|argument| (*argument).into()).collect(),
        environment: [("PATH".into(), "/usr/bin:/bin".into())].into_iter().collect(),
        directory: "/".into(),
        ..ProcessSpec::default()
    }
}

/// A word no other process has in its command line, and a number of seconds `sleep` takes: about a day.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("86400.{:07}{:04}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The pids of the processes of the whole host with this word in their command line, zombies excluded.
pub(crate) fn processes_with(word: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // A zombie's command line is empty.
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
    .collect()
}

/// A script that starts what is hardest to hold on to: a child, a daemon (twice forked, its own session, its
/// descriptors closed), and a daemon with an empty environment. All three have the word in their command line.
pub(crate) fn three_descendants(word: &str) -> String {
    format!(
        "sleep {word} & \
         (setsid sh -c 'exec sleep {word}' <&- >&- 2>&- &) ; \
         (env -i /usr/bin/setsid /bin/sleep {word} >/dev/null 2>&1 &) ;"
    )
}

/// Waits until a condition holds; fails when it does not within half a minute.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "never: {what}");
}

/// Waits until this many processes have the word in their command line.
pub(crate) async fn until_there_are(count: usize, word: &str) {
    until(&format!("{count} processes with {word}"), || processes_with(word).len() == count).await;
}
