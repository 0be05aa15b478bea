//! What a root is given when it starts, and what its spawner is told when it can't.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::common::{Mode, program, shell, skipped};
use distributest_process::{
    CONTROL_DESCRIPTOR, Exit, ProcessSpec, ProcessTree, SpawnError, User, Variables, drain_available,
};
use rustix::io::FdFlags;
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Runs to the end and returns the standard output.
async fn output_of(spec: ProcessSpec) -> String {
    let mut tree = ProcessTree::spawn(spec).await.unwrap();
    let (mut out, mut err) = (Vec::new(), String::new());
    tree.take_stdout().unwrap().read_to_end(&mut out).await.unwrap();
    tree.take_stderr().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((tree.wait().await, err.as_str()), (Exit::Code(0), ""));
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn output_and_exit_status_come_back() {
    for mode in Mode::available() {
        let mut tree = ProcessTree::spawn(mode.shell("echo out; echo err >&2; exit 3")).await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        tree.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
        tree.take_stderr().unwrap().read_to_string(&mut err).await.unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        assert_eq!(tree.wait().await, Exit::Code(3));
        assert_eq!(tree.leaked(Duration::ZERO).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_signal_is_told_from_a_status() {
    let tree = ProcessTree::spawn(shell("kill -SEGV $$")).await.unwrap();
    assert_eq!(tree.wait().await, Exit::Signal(11));
}

#[tokio::test]
async fn waiting_can_be_cancelled_and_repeated() {
    let mut tree =
        ProcessTree::spawn(ProcessSpec { control: true, ..shell("read line <&3; exit 5") }).await.unwrap();
    for _ in 0..3 {
        timeout(Duration::from_millis(1), tree.wait()).await.unwrap_err();
        assert_eq!(tree.poll_exit(), None);
    }
    tree.take_control().unwrap().write_all(b"go\n").await.unwrap();
    assert_eq!(tree.wait().await, Exit::Code(5));
    assert_eq!(tree.wait().await, Exit::Code(5));
    assert_eq!(tree.poll_exit(), Some(Exit::Code(5)));
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let environment: [(OsString, OsString); 3] =
        [("B".into(), "two words".into()), ("A".into(), "".into()), ("LINES".into(), "1\n2".into())];
    let environment = environment.into_iter().collect();
    let spec = ProcessSpec { environment, ..program("/bin/cat", &["/proc/self/environ"]) };
    let given: BTreeSet<_> = ["A=", "B=two words", "LINES=1\n2"].map(String::from).into();
    let seen = |text: String| text.split_terminator('\0').map(String::from).collect::<BTreeSet<_>>();
    assert_eq!(
        seen(
            output_of(ProcessSpec {
                environment: spec.environment.clone(),
                ..program("/bin/cat", &["/proc/self/environ"])
            })
            .await
        ),
        given
    );

    let mut with_control = given;
    with_control.insert(format!("DISTRIBUTEST_FD={CONTROL_DESCRIPTOR}"));
    assert_eq!(seen(output_of(ProcessSpec { control: true, ..spec }).await), with_control);
}

#[tokio::test]
async fn no_descriptor_leaks_in() {
    // Two that this process passes on to everything it starts, below and above the control socket's number.
    let careless: Vec<_> = (0..2)
        .map(|number| {
            let file = fs::File::open("/dev/null").unwrap();
            let file = rustix::io::fcntl_dupfd_cloexec(&file, 3 + 20 * number).unwrap();
            rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
            file
        })
        .collect();
    assert!(careless[1].as_raw_fd() >= 23);
    // The last one is the directory that ls itself has opened.
    let plain = output_of(program("ls", &["/proc/self/fd"])).await;
    assert_eq!(plain, "0\n1\n2\n3\n");
    let with_control = output_of(ProcessSpec { control: true, ..program("ls", &["/proc/self/fd"]) }).await;
    assert_eq!(with_control, "0\n1\n2\n3\n4\n");
    let targets = output_of(ProcessSpec {
        control: true,
        ..program("readlink", &["/proc/self/fd/0", "/proc/self/fd/3"])
    })
    .await;
    assert!(targets.starts_with("/dev/null\nsocket:["), "{targets}");
}

#[tokio::test]
async fn the_control_socket_goes_both_ways() {
    let script = "read line <&$DISTRIBUTEST_FD; echo \"got $line\" >&$DISTRIBUTEST_FD; echo out";
    let mut tree = ProcessTree::spawn(ProcessSpec { control: true, ..shell(script) }).await.unwrap();
    let (mut control, stdout) = (tree.take_control().unwrap(), tree.take_stdout().unwrap());
    assert!(tree.take_control().is_none());
    control.write_all(b"hello\n").await.unwrap();
    let mut answer = String::new();
    control.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "got hello\n");
    assert_eq!(tree.wait().await, Exit::Code(0));
    let mut out = Vec::new();
    assert_eq!(drain_available(&stdout, &mut out).unwrap(), 4);
    assert_eq!(out, b"out\n");
}

#[tokio::test]
async fn a_program_of_ours_takes_its_control_socket_once() {
    for mode in ["answer", "guarded-answer"] {
        let spec = program(env!("CARGO_BIN_EXE_process-fixture"), &[mode, ""]);
        let mut tree = ProcessTree::spawn(ProcessSpec { control: true, ..spec }).await.unwrap();
        let mut control = tree.take_control().unwrap();
        control.write_all(b"hello\n").await.unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello, taken twice: false, passed on: false", "{mode}");
        assert_eq!(tree.wait().await, Exit::Code(0));
    }
    let without = program(env!("CARGO_BIN_EXE_process-fixture"), &["answer", ""]);
    assert_eq!(ProcessTree::spawn(without).await.unwrap().wait().await, Exit::Code(1));
}

#[tokio::test]
async fn signals_are_as_in_a_fresh_process_and_the_session_is_its_own() {
    // This very process ignores SIGPIPE, as all Rust programs do.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(!own.contains("SigIgn:\t0000000000000000"));
    let status = output_of(program("cat", &["/proc/self/status"])).await;
    assert!(status.contains("SigIgn:\t0000000000000000"), "{status}");
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");

    let stat = output_of(program("cat", &["/proc/self/stat"])).await;
    let fields: Vec<_> = stat.split(' ').collect();
    assert_eq!((fields[4], fields[5]), (fields[0], fields[0]), "process group and session");
}

#[tokio::test]
async fn it_starts_in_its_directory_and_programs_are_relative_to_that() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().canonicalize().unwrap().join("a directory");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("where"), "#!/bin/sh\npwd\n").unwrap();
    fs::set_permissions(directory.join("where"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = output_of(ProcessSpec { directory: directory.clone(), ..program("./where", &[]) }).await;
    assert_eq!(said.trim_end(), directory.to_str().unwrap());
}

#[tokio::test]
async fn the_reasons_of_a_failed_start_are_told_apart() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8], mode| {
        let path = place.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", b"text", 0o644);
    let script = file("script", b"#!/no/such/interpreter\n", 0o755);
    let error = async |spec: ProcessSpec| ProcessTree::spawn(spec).await.unwrap_err();
    let at = |directory: &str| ProcessSpec { directory: directory.into(), ..program("true", &[]) };

    let found = error(program("no-such-program", &[])).await;
    assert!(matches!(found, SpawnError::ProgramNotFound { .. }), "{found:?}");
    assert_eq!(found.to_string(), "find the program \"no-such-program\" to run in \"/\"");
    assert!(matches!(error(program("/no/such/program", &[])).await, SpawnError::ProgramNotFound { .. }));
    assert!(matches!(error(program(&script, &[])).await, SpawnError::InterpreterNotFound { .. }));
    assert!(matches!(error(program(&plain, &[])).await, SpawnError::NotExecutable { .. }));
    assert!(matches!(error(program("/usr", &[])).await, SpawnError::NotExecutable { .. }));
    for directory in ["/no such directory", &plain] {
        let found = error(at(directory)).await;
        assert!(matches!(found, SpawnError::BadDirectory { .. }), "{found:?}");
        assert!(found.to_string().contains(directory) && found.to_string().contains("true"), "{found}");
    }
    assert!(matches!(error(program("/bin/true", &["a\0b"])).await, SpawnError::Other { .. }));
    let too_long = "x".repeat(1 << 20);
    assert!(matches!(error(program("/bin/true", &[&too_long])).await, SpawnError::Other { .. }));
}

/// A user without any rights, and a directory it may enter; `None`, loudly, when this is not root.
fn nobody() -> Option<User> {
    if !geteuid().is_root() {
        skipped("becoming another user: the tests do not run as root");
        return None;
    }
    Some(User::by_name("nobody").unwrap())
}

#[tokio::test]
async fn another_user_is_become_entirely() {
    let Some(user) = nobody() else { return };
    for mode in Mode::available() {
        let spec = ProcessSpec {
            user: Some(user.clone()),
            ..mode.shell("cat /proc/self/status; touch /root/x 2>&1 || :")
        };
        let status = output_of(spec).await;
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(line("Uid:"), vec![user.uid.to_string(); 4]);
        assert_eq!(line("Gid:"), vec![user.gid.to_string(); 4]);
        let groups: BTreeSet<String> = user.groups.iter().map(u32::to_string).collect();
        assert_eq!(line("Groups:").into_iter().collect::<BTreeSet<_>>(), groups);
        for capabilities in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(line(capabilities), ["0000000000000000"], "{capabilities}");
        }
        assert!(status.contains("Permission denied"), "{status}");
    }
}

#[tokio::test]
async fn a_user_that_can_not_be_become_runs_nothing() {
    let place = tempfile::tempdir().unwrap();
    let witness = place.path().join("ran");
    let script = format!("touch {}", witness.display());
    let mut users = Vec::new();
    if let Some(nobody) = nobody() {
        users.push(User { uid: u32::MAX, ..nobody.clone() });
        users.push(User { gid: u32::MAX, ..nobody.clone() });
        // More groups than the kernel takes.
        users.push(User { groups: vec![1; 70_000], ..nobody });
    } else {
        users.push(User::by_name("root").unwrap());
    }
    for user in users {
        let error =
            ProcessTree::spawn(ProcessSpec { user: Some(user.clone()), ..shell(&script) }).await.unwrap_err();
        assert!(
            matches!(&error, SpawnError::BecomeUser { user: named, .. } if *named == user.name),
            "{error:?}"
        );
    }
    assert!(!witness.exists());
}

#[tokio::test]
async fn a_start_that_was_not_waited_for_is_explained_in_the_end() {
    let missing = ProcessTree::start(program("/no/such/program", &[])).unwrap();
    assert!(!missing.wait().await.is_success());
    assert!(matches!(missing.failed_start(), Some(SpawnError::ProgramNotFound { .. })));
    let directory = ProcessSpec { directory: "/no/such/directory".into(), ..shell("exit 0") };
    let nowhere = ProcessTree::start(directory).unwrap();
    nowhere.wait().await;
    assert!(matches!(nowhere.failed_start(), Some(SpawnError::BadDirectory { .. })));

    let fails = ProcessTree::start(shell("exit 127")).unwrap();
    assert_eq!(fails.wait().await, Exit::Code(127));
    assert!(fails.failed_start().is_none());
    let waits = ProcessTree::start(program("sleep", &["86400"])).unwrap();
    assert!(waits.failed_start().is_none());
    drop(waits);

    let user = Some(User::by_name("root").unwrap());
    let other = ProcessTree::start(ProcessSpec { user, ..shell("exit 0") });
    assert!(matches!(other, Err(SpawnError::BecomeUser { .. })), "{other:?}");
}

#[tokio::test]
async fn a_program_that_moved_is_found_again() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let path = format!("{}:{}", first.display(), second.display());
    let put = |directory: &Path, says: &str| {
        fs::create_dir_all(directory).unwrap();
        let tool = directory.join("a-tool-of-ours");
        fs::write(&tool, format!("#!/bin/sh\necho {says}\n")).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        tool
    };
    let says = async |path: &str| {
        let environment = Variables::from_iter([("PATH".into(), path.into())]);
        output_of(ProcessSpec { environment, ..program("a-tool-of-ours", &[]) }).await
    };
    let tool = put(&second, "second");
    assert_eq!(says(&path).await, "second\n");
    assert_eq!(says(&path).await, "second\n");
    put(&first, "first");
    fs::remove_file(tool).unwrap();
    assert_eq!(says(&path).await, "first\n");
    put(&second, "second");
    assert_eq!(says(&second.display().to_string()).await, "second\n");
}

#[tokio::test]
async fn a_full_process_table_is_named() {
    let Some(user) = nobody() else { return };
    // The first process of this user takes the only place. Limits are the child's: a shell sets them, then this
    // crate would have to spawn in it; so the limit is set on this thread's process for the length of one spawn.
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let holder = ProcessTree::spawn(ProcessSpec { user: Some(user.clone()), ..program("sleep", &["86400"]) })
        .await
        .unwrap();
    let before = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();
    let outcome = ProcessTree::spawn(ProcessSpec { user: Some(user), ..program("sleep", &["86400"]) }).await;
    setrlimit(Resource::Nproc, before).unwrap();
    assert!(matches!(outcome, Err(SpawnError::OutOfProcesses { .. })), "{outcome:?}");
    holder.stop(Duration::ZERO).await.unwrap();
}
