//! The directory a run's tests are in, and what is remembered beside it.
//!
//! A synced workspace is `<root>/<initiating host>/<initiating user>/<project>-<hash>`; what the coordinator sends
//! of these names is encoded so that each is one path component and different names stay different. The run holds a
//! lock on the file `<workspace>.lock` beside it. When another run has it, `-2`, `-3` and so on are tried, so two
//! runs never share a workspace. A run in place locks nothing: its directory is the user's own.
//!
//! A root may be in a place where others can write, so what is found below it is used only if it is a directory of
//! the agent's user: whatever it is, rsync makes it the same as the developer's copy and deletes the rest. Nor may
//! others write to the directories above a workspace, or they could put something else in its place later.
//!
//! What the coordinator's copy left there is remembered in `<workspace>.copied`, so that the next one can be told by what
//! has changed since; a file that is being received is `<workspace>.incoming`.
//!
//! What a hook with a fingerprint gave is remembered in `<workspace>.<hook>`, beside the workspace, where neither
//! rsync nor the tests get in the way of it; for a run in place, below `~/.cache/distributest/in-place` in the same
//! manner.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use distributest_protocol::wire;
use distributest_protocol::wire::hello::Place;
use distributest_tree::workspace::Workspace as Copy;
use rustix::process::{Uid, geteuid};

use super::environment::Environment;
use crate::failure::{self, Failure};

/// Below the user's home: everything the agent keeps for a user.
const CACHE_DIRECTORY: &str = ".cache/distributest";

/// The longest an encoded name may be, in bytes; the file system's limit of 255 leaves room for endings.
const NAME_LIMIT: usize = 120;

/// Simultaneous runs of one user in one project on one host.
const WORKSPACE_LIMIT: u32 = 1000;

/// A directory made ready for one run.
#[derive(Debug)]
pub(crate) struct Workspace {
    directory: PathBuf,
    /// With an ending for each hook: where its result is remembered. `None` where there is no place for that.
    memory: Option<PathBuf>,
    /// Held while the run lives; `None` for a run in place.
    lock: Option<File>,
}

/// Why there is no workspace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    /// The coordinator named no place.
    #[error("the coordinator named no directory to run in")]
    NoPlace,
    /// A name the path is made of is empty.
    #[error("the {what} is empty, so it can't name a directory")]
    NoName {
        /// Which name.
        what: &'static str,
    },
    /// The place is not absolute.
    #[error("{path} is not an absolute path")]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// The user has no home to put workspaces in.
    #[error("the user's home directory is unknown")]
    NoHome,
    /// The place to run in is missing or no directory.
    #[error("{path} is not a directory that can be used")]
    NotADirectory {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory can't be made.
    #[error("failed to create {path}")]
    Create {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is there can't be trusted.
    #[error("{path} {flaw}, so it is not used for workspaces")]
    Untrusted {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        flaw: &'static str,
    },
    /// The lock beside a workspace can't be had.
    #[error("failed to lock {path}")]
    Lock {
        /// The lock's path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every workspace there may be is in use.
    #[error("{WORKSPACE_LIMIT} runs use workspaces like {path} already")]
    AllTaken {
        /// The first workspace's path.
        path: PathBuf,
    },
}

impl From<&WorkspaceError> for wire::Failure {
    fn from(error: &WorkspaceError) -> Self {
        let hint = match error {
            WorkspaceError::Create { .. } | WorkspaceError::Lock { .. } => {
                "check the free space and the permissions there, or set remote_dir"
            }
            WorkspaceError::Untrusted { .. } => {
                "see who made it and remove it, take away others' right to write there (chmod go-w), or set \
                 remote_dir to a directory of your own"
            }
            WorkspaceError::Relative { .. } => {
                "set remote_dir to an absolute path, or to one that begins with ~/"
            }
            WorkspaceError::NoHome => "set HOME for the agent, or remote_dir for this host",
            _ => "",
        };
        Failure::host("create workspace", "").because(failure::chain(error)).hint(hint).into()
    }
}

impl Workspace {
    /// Makes, or finds, and locks the directory `hello` asks for. `home` is the user's.
    pub(crate) fn open(hello: &wire::Hello, home: Option<&Path>) -> Result<Self, WorkspaceError> {
        match &hello.place {
            Some(Place::InPlace(directory)) => Workspace::in_place(hello, Path::new(directory), home),
            Some(Place::WorkspaceRoot(root)) => Workspace::synced(hello, &expand_root(root, home)?),
            None => Err(WorkspaceError::NoPlace),
        }
    }

    /// The directory tests run in.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the coordinator copies the project to it.
    pub(crate) fn is_synced(&self) -> bool {
        self.lock.is_some()
    }

    /// Looks at it as what compares it with the project and puts it right. May wait for the disk.
    pub(crate) fn opening(&self) -> impl FnOnce() -> Copy + Send + 'static {
        let directory = self.directory.clone();
        let beside = |ending| directory.with_added_extension(ending);
        let (memory, scratch) = (beside("copied"), beside("incoming"));
        move || Copy::open(directory, memory, scratch)
    }

    fn in_place(hello: &wire::Hello, path: &Path, home: Option<&Path>) -> Result<Self, WorkspaceError> {
        if !path.is_absolute() {
            return Err(WorkspaceError::Relative { path: path.to_owned() });
        }
        fs::read_dir(path)
            .map_err(|source| WorkspaceError::NotADirectory { path: path.to_owned(), source })?;
        // Tests in place need no memory: where there is no place for one, hooks always run.
        let memory = in_place_memory(hello, home).ok();
        Ok(Workspace { directory: path.to_owned(), memory, lock: None })
    }

    fn synced(hello: &wire::Hello, root: &Path) -> Result<Self, WorkspaceError> {
        let host = root.join(host_name(hello)?);
        let parent = host.join(user_name(hello)?);
        let name = project_name(hello)?;
        make_directory(root)?;
        for directory in [&host, &parent] {
            make_own_directory(directory)?;
            refuse_writable(directory)?;
        }
        for number in 1..=WORKSPACE_LIMIT {
            let name = if number == 1 { name.clone() } else { format!("{name}-{number}") };
            if let Some(lock) = try_lock(&parent.join(format!("{name}.lock")))? {
                let directory = parent.join(name);
                make_own_directory(&directory)?;
                let memory = Some(directory.clone());
                return Ok(Workspace { memory, directory, lock: Some(lock) });
            }
        }
        Err(WorkspaceError::AllTaken { path: parent.join(name) })
    }

    /// What the hook gave when it last succeeded here, if that was with this fingerprint.
    pub(crate) fn recall(&self, hook: &str, fingerprint: &str) -> Option<Environment> {
        let remembered = fs::read(self.memory_of(hook)?).ok()?;
        let (first, environment) =
            remembered.split_at(remembered.iter().position(|byte| *byte == b'\n')? + 1);
        let matches = !fingerprint.is_empty() && first.trim_ascii() == fingerprint.as_bytes();
        matches.then(|| Environment::parse(environment).ok()).flatten()
    }

    /// Forgets a hook's success, before it runs again: it may fail half-way.
    pub(crate) fn forget(&self, hook: &str) -> io::Result<()> {
        match self.memory_of(hook).map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Remembers that a hook succeeded and what it gave. Environments hold secrets: only the user may read it.
    pub(crate) fn remember(&self, hook: &str, fingerprint: &str, given: &Environment) -> io::Result<()> {
        let Some(path) = self.memory_of(hook) else { return Ok(()) };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        // Written whole or not at all; two runs in place may do this at once.
        let unfinished = path.with_added_extension(std::process::id().to_string());
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written = writeln!(file, "{fingerprint}")
            .and_then(|()| file.write_all(&given.to_lines()))
            .and_then(|()| fs::rename(&unfinished, path));
        written.inspect_err(|_| _ = fs::remove_file(&unfinished))
    }

    fn memory_of(&self, hook: &str) -> Option<PathBuf> {
        Some(self.memory.as_ref()?.with_added_extension(hook))
    }
}

/// The directory below the user's home that holds everything the agent keeps.
pub(crate) fn cache_directory(home: Option<&Path>) -> Result<PathBuf, WorkspaceError> {
    Ok(home.ok_or(WorkspaceError::NoHome)?.join(CACHE_DIRECTORY))
}

/// Where the results of hooks are remembered for a run in place.
fn in_place_memory(hello: &wire::Hello, home: Option<&Path>) -> Result<PathBuf, WorkspaceError> {
    let host = cache_directory(home)?.join("in-place").join(host_name(hello)?);
    Ok(host.join(user_name(hello)?).join(project_name(hello)?))
}

fn expand_root(root: &str, home: Option<&Path>) -> Result<PathBuf, WorkspaceError> {
    if root.is_empty() {
        return Ok(cache_directory(home)?.join("workspaces"));
    }
    if root == "~" || root.starts_with("~/") {
        let below = root.trim_start_matches('~').trim_start_matches('/');
        return Ok(home.ok_or(WorkspaceError::NoHome)?.join(below));
    }
    let path = PathBuf::from(root);
    if path.is_absolute() { Ok(path) } else { Err(WorkspaceError::Relative { path }) }
}

fn host_name(hello: &wire::Hello) -> Result<String, WorkspaceError> {
    component("initiating host", &hello.initiating_host)
}

fn user_name(hello: &wire::Hello) -> Result<String, WorkspaceError> {
    component("initiating user", &hello.initiating_user)
}

fn project_name(hello: &wire::Hello) -> Result<String, WorkspaceError> {
    let project = component("project name", &hello.project)?;
    Ok(format!("{project}-{}", component("project hash", &hello.project_hash)?))
}

/// Makes one path component of a name: everything but letters, digits, `-`, `_` and dots within it becomes `%` and two
/// hexadecimal digits, so no name is special and no two become the same. One too long is cut and given, after a `~`
/// that no other has, a hash of the whole.
fn component(what: &'static str, name: &str) -> Result<String, WorkspaceError> {
    if name.is_empty() {
        return Err(WorkspaceError::NoName { what });
    }
    let mut encoded = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            b'.' if index > 0 => encoded.push('.'),
            _ => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    if encoded.len() > NAME_LIMIT {
        let ending = format!("~{:016x}", fnv1a(name.as_bytes()));
        encoded.truncate(NAME_LIMIT - ending.len());
        encoded.push_str(&ending);
    }
    Ok(encoded)
}

/// FNV-1a, 64 bits: stable across versions, which the standard hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Makes a directory and those above it; new ones are the user's alone.
pub(crate) fn make_directory(path: &Path) -> Result<(), WorkspaceError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| WorkspaceError::Create { path: path.to_owned(), source })
}

/// Makes a directory that is the user's alone, or makes sure that what is there is a directory of the user's.
fn make_own_directory(path: &Path) -> Result<(), WorkspaceError> {
    let failed = |source| WorkspaceError::Create { path: path.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map_err(failed),
    }
    match find_flaw(path, geteuid()).map_err(failed)? {
        Some(flaw) => Err(WorkspaceError::Untrusted { path: path.to_owned(), flaw }),
        None => Ok(()),
    }
}

/// What keeps something from being a directory of `owner`.
fn find_flaw(path: &Path, owner: Uid) -> io::Result<Option<&'static str>> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(if metadata.is_symlink() {
        Some("is a symbolic link")
    } else if !metadata.is_dir() {
        Some("is not a directory")
    } else if metadata.uid() != owner.as_raw() {
        Some("belongs to another user")
    } else {
        None
    })
}

/// Refuses a directory in which others could exchange what is there.
fn refuse_writable(path: &Path) -> Result<(), WorkspaceError> {
    let path = path.to_owned();
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.mode() & 0o022 == 0 => Ok(()),
        Ok(_) => Err(WorkspaceError::Untrusted { path, flaw: "can be written to by others" }),
        Err(source) => Err(WorkspaceError::Create { path, source }),
    }
}

/// Locks a file, made if need be; `None` when another run holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, WorkspaceError> {
    let failed = |source| WorkspaceError::Lock { path: path.to_owned(), source };
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn hello(place: Place) -> wire::Hello {
        wire::Hello {
            initiating_host: "laptop".into(),
            initiating_user: "ana".into(),
            project: "shop".into(),
            project_hash: "0123abcd".into(),
            place: Some(place),
            ..Default::default()
        }
    }

    fn synced(home: &Path, change: impl FnOnce(&mut wire::Hello)) -> Result<Workspace, WorkspaceError> {
        let mut hello = hello(Place::WorkspaceRoot(String::new()));
        change(&mut hello);
        Workspace::open(&hello, Some(home))
    }

    #[test]
    fn each_simultaneous_run_has_its_own_and_the_next_one_finds_it_again() {
        let home = tempfile::tempdir().unwrap();
        let parent = home.path().join(".cache/distributest/workspaces/laptop/ana");
        let first = synced(home.path(), |_| {}).unwrap();
        let second = synced(home.path(), |_| {}).unwrap();
        assert_eq!(first.directory(), parent.join("shop-0123abcd"));
        assert_eq!(second.directory(), parent.join("shop-0123abcd-2"));
        drop(first);
        assert_eq!(synced(home.path(), |_| {}).unwrap().directory(), parent.join("shop-0123abcd"));
        let mode = fs::metadata(&parent).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn no_name_leads_out_of_the_root() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join(".cache/distributest/workspaces");
        for name in ["..", ".", "../../etc", "/etc", "a/../../b", ".ssh", "a\0b", "a\nb", "%2e", "\u{e9}"] {
            let workspace = synced(home.path(), |hello| {
                hello.initiating_host = name.into();
                hello.initiating_user = name.into();
                hello.project = name.into();
            });
            let directory = workspace.unwrap().directory().to_owned();
            let below = directory.strip_prefix(&root).unwrap();
            assert_eq!(below.components().count(), 3, "{below:?}");
            assert!(below.iter().all(|component| !component.to_string_lossy().starts_with('.')), "{below:?}");
        }
    }

    #[test]
    fn different_names_stay_different() {
        let names = ["a/b", "a_b", "a%2fb", "a%b", "A_b", "a.b"];
        let encoded: std::collections::HashSet<_> =
            names.iter().map(|name| component("project name", name).unwrap()).collect();
        assert_eq!(encoded.len(), names.len());
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let home = tempfile::tempdir().unwrap();
        let project =
            "\u{30d7}\u{30ed}\u{30b8}\u{30a7}\u{30af}\u{30c8}\u{7ba1}\u{7406}\u{30b7}\u{30b9}".repeat(8);
        let open = |ending: &str| {
            let workspace = synced(home.path(), |hello| {
                hello.initiating_host = format!("{}{ending}", "h".repeat(300));
                hello.initiating_user = format!("{project}{ending}");
                hello.project.clone_from(&project);
            });
            workspace.unwrap().directory().to_owned()
        };
        assert_eq!(open("1"), open("1"));
        assert_ne!(open("1").parent().unwrap(), open("2").parent().unwrap());
        assert_ne!(open("1").ancestors().nth(2), open("2").ancestors().nth(2));
    }

    #[test]
    fn a_run_in_place_needs_no_names() {
        let project = tempfile::tempdir().unwrap();
        let mut hello = hello(Place::InPlace(project.path().to_str().unwrap().into()));
        hello.project.clear();
        let workspace = Workspace::open(&hello, Some(project.path())).unwrap();
        assert_eq!(workspace.directory(), project.path());
        workspace.remember("node_setup", "f1", &Environment::default()).unwrap();
        assert_eq!(workspace.recall("node_setup", "f1"), None);
    }

    #[test]
    fn unusable_places_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let empty = synced(home.path(), |hello| hello.project.clear());
        assert!(matches!(empty, Err(WorkspaceError::NoName { what: "project name" })));
        let relative = hello(Place::WorkspaceRoot("srv".into()));
        assert!(matches!(Workspace::open(&relative, None), Err(WorkspaceError::Relative { .. })));
        let missing = hello(Place::InPlace("/nonexistent/project".into()));
        let missing = Workspace::open(&missing, Some(home.path())).unwrap_err();
        let failure = wire::Failure::from(&missing);
        assert!(failure.cause.contains("/nonexistent/project"), "{failure}");
        assert!(failure.cause.contains("No such file"), "{failure}");
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let blocked = hello(Place::WorkspaceRoot(file.to_str().unwrap().into()));
        assert!(matches!(Workspace::open(&blocked, None), Err(WorkspaceError::Create { .. })));
    }

    #[test]
    fn nothing_planted_below_the_root_is_taken_for_a_workspace() {
        let others = tempfile::tempdir().unwrap();
        fs::write(others.path().join("precious"), "").unwrap();
        for planted in ["laptop", "laptop/ana", "laptop/ana/shop-0123abcd"] {
            let root = tempfile::tempdir().unwrap();
            let link = root.path().join(planted);
            let parent = link.parent().unwrap();
            DirBuilder::new().recursive(true).mode(0o700).create(parent).unwrap();
            std::os::unix::fs::symlink(others.path(), &link).unwrap();
            let place = Place::WorkspaceRoot(root.path().to_str().unwrap().into());
            let failure = wire::Failure::from(&Workspace::open(&hello(place.clone()), None).unwrap_err());
            assert!(failure.cause.contains(link.to_str().unwrap()), "{failure}");
            assert!(failure.cause.contains("symbolic link"), "{failure}");
            assert!(failure.hint.contains("remove it"), "{failure}");
            assert_eq!(fs::read_dir(others.path()).unwrap().count(), 1);

            fs::remove_file(&link).unwrap();
            fs::write(&link, "").unwrap();
            let error = Workspace::open(&hello(place), None).unwrap_err();
            assert!(error.to_string().contains("not a directory"), "{error}");
        }
    }

    #[test]
    fn a_directory_others_can_write_to_holds_no_workspace() {
        let root = tempfile::tempdir().unwrap();
        let open =
            || Workspace::open(&hello(Place::WorkspaceRoot(root.path().to_str().unwrap().into())), None);
        let set_mode = |path: &str, mode| {
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        open().unwrap();
        // rsync gives the workspace itself the mode of the developer's directory.
        set_mode("laptop/ana/shop-0123abcd", 0o775);
        open().unwrap();
        for path in ["laptop", "laptop/ana"] {
            for mode in [0o720, 0o702] {
                set_mode(path, mode);
                let error = open().unwrap_err();
                assert!(error.to_string().contains("can be written to by others"), "{error}");
                set_mode(path, 0o755);
            }
        }
        open().unwrap();
    }

    #[test]
    fn a_directory_of_another_user_is_not_ones_own() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(find_flaw(directory.path(), geteuid()).unwrap(), None);
        let other = Uid::from_raw(geteuid().as_raw() + 1);
        assert_eq!(find_flaw(directory.path(), other).unwrap(), Some("belongs to another user"));
    }

    #[test]
    fn a_root_may_begin_with_the_home() {
        let home = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(&hello(Place::WorkspaceRoot("~/ws".into())), Some(home.path()));
        assert!(workspace.unwrap().directory().starts_with(home.path().join("ws")));
    }

    #[test]
    fn a_hook_is_remembered_beside_the_workspace_for_its_fingerprint_only() {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        let in_place = hello(Place::InPlace(project.path().to_str().unwrap().into()));
        let given = Environment::parse(b"DATABASE=7\n").unwrap();
        for workspace in
            [synced(home.path(), |_| {}).unwrap(), Workspace::open(&in_place, Some(home.path())).unwrap()]
        {
            assert_eq!(workspace.recall("node_setup", "f1"), None);
            workspace.forget("node_setup").unwrap();
            workspace.remember("node_setup", "f1", &given).unwrap();
            assert_eq!(workspace.recall("node_setup", "f1"), Some(given.clone()));
            assert_eq!(workspace.recall("node_setup", "f2"), None);
            assert_eq!(workspace.recall("runner_setup-1", "f1"), None);
            assert_eq!(fs::read_dir(workspace.directory()).unwrap().count(), 0);
            workspace.forget("node_setup").unwrap();
            assert_eq!(workspace.recall("node_setup", "f1"), None);
        }
    }
}
