//! Starts the root of a tree.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, getpid, set_child_subreaper};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use crate::cgroup::{Cgroup, Door};
use crate::child::{self, Credentials, Preparation, Step};
use crate::identity::User;
use crate::launch::{Image, Launch};
use crate::mark::Mark;
use crate::roots::Roots;
use crate::variables::Variables;

/// The number of the control socket's descriptor in the child; also in its environment, as `DISTRIBUTEST_FD`.
pub const CONTROL_DESCRIPTOR: i32 = 3;

/// The environment variable that names the control socket's descriptor.
pub(crate) const CONTROL_VARIABLE: &str = "DISTRIBUTEST_FD";

/// Where programs are looked for when the environment has no `PATH`; what execvp(3) and shells use.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What to start, and how.
#[derive(Debug, Default)]
pub struct ProcessSpec {
    /// The program. With a slash: a path, relative to `directory` or absolute; otherwise looked for in the `PATH` of
    /// `environment`.
    pub program: OsString,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Variables,
    /// The directory it starts in.
    pub directory: PathBuf,
    /// Whether it gets a control socket: a connected Unix stream socket as descriptor [`CONTROL_DESCRIPTOR`],
    /// whose number is added to its environment as `DISTRIBUTEST_FD`.
    pub control: bool,
    /// A cgroup made for this tree alone; it starts in it and the tree removes it in the end.
    pub cgroup: Option<Cgroup>,
    /// Who it runs as; `None`: as this process does. Only root may give a user.
    pub user: Option<User>,
}

/// Why a program could not be started. Nothing is left of the attempt.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("find the program {program:?} to run in {directory:?}")]
    ProgramNotFound {
        /// As it was given.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there, but the interpreter in its first line (or its loader) is not.
    #[error("find the interpreter that the first line of {program:?} names, to run it in {directory:?}")]
    InterpreterNotFound {
        /// The script.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there, but this user may not execute it, or it is no program.
    #[error("execute {program:?} in {directory:?} (is it a program, with its x permission set?)")]
    NotExecutable {
        /// The file.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory does not exist, is none, or may not be entered.
    #[error("enter the directory {directory:?} to run {program:?}")]
    BadDirectory {
        /// The program.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit on the number of processes is reached: the user's, the cgroup's or the host's.
    #[error("start {program:?} in {directory:?}: a limit on the number of processes is reached")]
    OutOfProcesses {
        /// The program.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The child could not become the user; it did not run as anyone else.
    #[error("become the user {user:?} to run {program:?} in {directory:?}")]
    BecomeUser {
        /// The login name.
        user: String,
        /// The program.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The child could not join its cgroup.
    #[error("join the cgroup {cgroup:?} to run {program:?} in {directory:?}")]
    JoinCgroup {
        /// The cgroup's directory.
        cgroup: PathBuf,
        /// The program.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else: out of descriptors or memory, arguments too long, a NUL in a name.
    #[error("start {program:?} in {directory:?}")]
    Other {
        /// The program.
        program: PathBuf,
        /// Where it should have started.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes this process the new parent of every orphan below it. [`crate::ProcessTree::spawn`] does it, too; call it
/// where orphans must be kept before the first spawn.
///
/// # Errors
///
/// Those of `prctl`, which only fails on kernels older than 3.4.
pub fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// A root on its way to its program, with this process's ends of everything.
pub(crate) struct Started {
    pub(crate) root: Pid,
    pub(crate) launch: Launch,
    /// The program that was found.
    pub(crate) path: PathBuf,
    pub(crate) mark: Option<Mark>,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    pub(crate) control: Option<UnixStream>,
}

/// Starts the root. What it does on its way to its program can still fail; `watch` says whether that is to be known before
/// it ends.
pub(crate) fn start(spec: &ProcessSpec, watch: bool) -> Result<Started, SpawnError> {
    let (program, directory) = (PathBuf::from(&spec.program), spec.directory.clone());
    let path = match resolve_program(spec) {
        Ok(path) => path,
        Err(source) => return Err(SpawnError::ProgramNotFound { program, directory, source }),
    };
    if let Some(user) = spec.user.as_ref().filter(|user| user.uid == u32::MAX || user.gid == u32::MAX) {
        // To the kernel these numbers mean "leave it as it is", and that would be root.
        let source = io::ErrorKind::InvalidInput.into();
        return Err(SpawnError::BecomeUser { user: user.name.clone(), program, directory, source });
    }
    let cgroup = match spec.cgroup.as_ref().map(|cgroup| (cgroup, cgroup.door())) {
        Some((_, Ok(door))) => Some(door),
        Some((cgroup, Err(source))) => {
            let cgroup = cgroup.directory().to_owned();
            return Err(SpawnError::JoinCgroup { cgroup, program, directory, source });
        }
        None => None,
    };
    run(&path, spec, cgroup, watch)
        .map_err(|(step, source)| explain(spec, spec.cgroup.as_ref(), &path, step, source))
}

/// Carries out what can only fail for reasons the operating system gives.
fn run(
    path: &Path,
    spec: &ProcessSpec,
    cgroup: Option<Arc<Door>>,
    watch: bool,
) -> Result<Started, (Step, io::Error)> {
    let before = |error: io::Error| (Step::Execute, error);
    become_subreaper().map_err(before)?;
    child::keep_exit_statuses();
    let (stdout, child_stdout) = output_pipe().map_err(before)?;
    let (stderr, child_stderr) = output_pipe().map_err(before)?;
    let (control, child_control) =
        if spec.control { control_sockets().map_err(before)? } else { (None, None) };
    let mark = Mark::next();
    let own = spec.control.then(|| CString::new(format!("{CONTROL_VARIABLE}={CONTROL_DESCRIPTOR}")));
    let own = own.transpose().map_err(|error| before(error.into()))?;
    let own = own.map(|assignment| (CONTROL_VARIABLE, assignment));
    let environment = spec.environment.clone();
    let image =
        Image::new(path.as_os_str(), &spec.program, &spec.arguments, environment, own).map_err(before)?;
    let child_stdin = empty_input().map_err(before)?;
    let preparation = Preparation {
        parent: getpid(),
        directory: CString::new(spec.directory.as_os_str().as_bytes())
            .map_err(|error| before(error.into()))?,
        cgroup,
        mark,
        credentials: spec.user.as_ref().map(|user| Credentials {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
        }),
        control: child_control.as_ref().map(AsRawFd::as_raw_fd),
        standard: [&child_stdin, &child_stdout, &child_stderr].map(AsRawFd::as_raw_fd),
    };
    let passed = [child_stdin, child_stdout, child_stderr].into_iter().chain(child_control).collect();
    let mut roots = Roots::lock();
    let (root, launch) = Launch::start(image, preparation, passed, watch).map_err(before)?;
    roots.add(root);
    Ok(Started { root, launch, path: path.to_owned(), mark, stdout, stderr, control })
}

/// A descriptor that holds nothing to read.
fn empty_input() -> io::Result<OwnedFd> {
    above_standard(fs::File::open("/dev/null")?.into())
}

/// A pipe: this process's end to read from, and the child's.
fn output_pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((Receiver::from_owned_fd(reader.into())?, above_standard(writer.into())?))
}

/// The same descriptor with a number above those of standard input and outputs, should it have one of theirs.
fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    numbered_from(CONTROL_DESCRIPTOR, descriptor)
}

/// The same descriptor with a number of at least `first`.
pub(crate) fn numbered_from(first: i32, descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() >= first {
        return Ok(descriptor);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, first)?)
}

/// Makes the control socket: this process's end, and the child's with a number of at least [`CONTROL_DESCRIPTOR`].
fn control_sockets() -> io::Result<(Option<UnixStream>, Option<OwnedFd>)> {
    let (own, child) = BlockingUnixStream::pair()?;
    own.set_nonblocking(true)?;
    Ok((Some(UnixStream::from_std(own)?), Some(above_standard(child.into())?)))
}

/// The program's path, absolute or relative to the directory the child starts in.
fn resolve_program(spec: &ProcessSpec) -> io::Result<PathBuf> {
    if spec.program.as_bytes().contains(&b'/') {
        return Ok(spec.program.clone().into());
    }
    let path = spec.environment.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    let is_program = |candidate: &Path| {
        let metadata = fs::metadata(spec.directory.join(candidate));
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    // As shells do it: one file after another is run by the same program, and it stays where it was.
    static LAST: Mutex<Option<FoundProgram>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(last) = last.as_ref().filter(|last| last.program == spec.program && last.path == path)
        && is_program(&last.found)
    {
        return Ok(last.found.clone());
    }
    let mut candidates = std::env::split_paths(path).map(|entry| {
        // An empty entry is the current directory; a path with a slash is not looked up once more.
        let entry = if entry.as_os_str().is_empty() { PathBuf::from(".") } else { entry };
        entry.join(&spec.program)
    });
    let found = candidates.find(|candidate| is_program(candidate)).ok_or(rustix::io::Errno::NOENT)?;
    if found.is_absolute() {
        let (program, path) = (spec.program.clone(), path.to_owned());
        *last = Some(FoundProgram { program, path, found: found.clone() });
    }
    Ok(found)
}

/// A program and where it was found.
struct FoundProgram {
    program: OsString,
    /// The `PATH` it was looked for in.
    path: OsString,
    found: PathBuf,
}

/// Names what a failed start means.
pub(crate) fn explain(
    spec: &ProcessSpec,
    cgroup: Option<&Cgroup>,
    path: &Path,
    step: Step,
    source: io::Error,
) -> SpawnError {
    let (program, directory) = (PathBuf::from(&spec.program), spec.directory.clone());
    if source.raw_os_error() == Some(libc::EAGAIN) {
        return SpawnError::OutOfProcesses { program, directory, source };
    }
    match (step, &spec.user, cgroup) {
        (Step::EnterDirectory, ..) => SpawnError::BadDirectory { program, directory, source },
        (Step::BecomeUser, Some(user), _) => {
            SpawnError::BecomeUser { user: user.name.clone(), program, directory, source }
        }
        (Step::JoinCgroup, _, Some(cgroup)) => {
            SpawnError::JoinCgroup { cgroup: cgroup.directory().to_owned(), program, directory, source }
        }
        (Step::Execute, ..) => match source.raw_os_error() {
            Some(libc::ENOENT | libc::ELIBBAD) if spec.directory.join(path).exists() => {
                SpawnError::InterpreterNotFound { program, directory, source }
            }
            Some(libc::ENOENT | libc::ENOTDIR) => SpawnError::ProgramNotFound { program, directory, source },
            Some(libc::EACCES | libc::EPERM | libc::ENOEXEC | libc::EISDIR) => {
                SpawnError::NotExecutable { program, directory, source }
            }
            _ => SpawnError::Other { program, directory, source },
        },
        _ => SpawnError::Other { program, directory, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(program: &str, path: Option<&str>) -> ProcessSpec {
        let environment = path.map(|path| ("PATH".into(), path.into()));
        ProcessSpec {
            program: program.into(),
            environment: environment.into_iter().collect(),
            directory: "/usr".into(),
            ..ProcessSpec::default()
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let resolve = |program, path| resolve_program(&spec(program, path)).ok();
        assert_eq!(resolve("sh", Some("/nowhere:/bin:/usr/bin")), Some("/bin/sh".into()));
        assert_eq!(resolve("bin/sh", Some("/bin")), Some("bin/sh".into()), "a path is taken as it is");
        assert_eq!(resolve("sh", Some("bin")), Some("bin/sh".into()), "relative to the directory");
        assert_eq!(resolve("sh", Some("/nowhere")), None);
        assert_eq!(resolve("bin", Some("/usr")), None, "a directory is no program");
        assert!(resolve("sh", None).is_some());
    }

    #[test]
    fn a_descriptor_is_moved_only_where_it_has_to_be() {
        let first = OwnedFd::from(fs::File::open("/dev/null").unwrap());
        let number = first.as_raw_fd();
        let same = numbered_from(number, first).unwrap();
        assert_eq!(same.as_raw_fd(), number);
        assert!(numbered_from(number + 100, same).unwrap().as_raw_fd() >= number + 100);
    }
}
