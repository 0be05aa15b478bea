//! Finds the part of the cgroup hierarchy this process may use, and makes a cgroup per tree in it.
//!
//! A cgroup is the strongest hold on a tree: the kernel itself keeps the list of members and kills them all at
//! once. Only version 2 does that. It is mounted alone (`/sys/fs/cgroup`) or beside version 1 in a hybrid setup
//! (`/sys/fs/cgroup/unified`), or not at all; so the mount is looked up, not assumed. A process may use the part
//! below its own cgroup when that was delegated to it, which shows in the permissions: systemd gives it to units
//! with `Delegate=yes`, container engines to some containers, and nobody to an ssh login.
//!
//! No controllers are enabled, so the rule that processes may only live in the leaves does not apply.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::Signal;
use thiserror::Error;

use crate::members::send;
use crate::process_table::{Process, parse_pid};

/// How long a kill without `cgroup.kill` goes on before it gives up.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no cgroup to use, or what failed on one.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A file that describes the hierarchy could not be read.
    #[error("read {path:?}")]
    Read {
        /// The mounts or the membership file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no cgroup version 2.
    #[error("find a cgroup2 mount in {mounts:?}: there is none")]
    NoMount {
        /// The mounts file.
        mounts: PathBuf,
    },
    /// This process is in no cgroup of version 2 that it can see.
    #[error("find this process's own cgroup in {membership:?}: there is none")]
    NoMembership {
        /// The membership file.
        membership: PathBuf,
    },
    /// This process's own cgroup was not delegated to it.
    #[error("use the cgroup {path:?}: it is not delegated to this user (systemd: Delegate=yes)")]
    NotDelegated {
        /// The cgroup's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A child cgroup could not be made.
    #[error("create the cgroup {path:?}")]
    Create {
        /// The cgroup's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The members could not be listed or killed.
    #[error("kill the members of the cgroup {path:?}")]
    Kill {
        /// The cgroup's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A cgroup this process may make cgroups in: its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    directory: PathBuf,
}

impl Delegation {
    /// Finds the delegated part of the hierarchy.
    ///
    /// `mounts` is a file like `/proc/self/mounts`, `membership` one like `/proc/self/cgroup`; tests give others.
    ///
    /// # Errors
    ///
    /// Says why there is none. That is normal on many hosts; trees then do without cgroups.
    pub fn find(mounts: &Path, membership: &Path) -> Result<Delegation, CgroupError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| CgroupError::Read { path: path.to_owned(), source })
        };
        let mount_point = find_mount_point(&read(mounts)?)
            .ok_or_else(|| CgroupError::NoMount { mounts: mounts.to_owned() })?;
        let membership_lines = read(membership)?;
        let own = find_own_path(&membership_lines)
            .ok_or_else(|| CgroupError::NoMembership { membership: membership.to_owned() })?;
        let directory = mount_point.join(own);
        for (path, access) in [
            (directory.clone(), Access::WRITE_OK | Access::EXEC_OK),
            (directory.join("cgroup.procs"), Access::WRITE_OK),
        ] {
            accessat(CWD, &path, access, AtFlags::EACCESS).map_err(|errno| CgroupError::NotDelegated {
                path: directory.clone(),
                source: errno.into(),
            })?;
        }
        Ok(Delegation { directory })
    }

    /// The cgroup's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a cgroup. `name` must be unique among this process's cgroups and contain no slash.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Create`], also when it exists already.
    pub fn create_child(&self, name: &str) -> Result<Cgroup, CgroupError> {
        Ok(Cgroup { place: Arc::new(Place::make(self.directory.join(name))?), pool: Weak::new() })
    }
}

/// Cgroups for one tree after another; cheap to clone. To make and remove one costs as much as a small process, so those
/// that are as new again are used again.
#[derive(Clone, Debug)]
pub struct CgroupPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    delegation: Delegation,
    made: AtomicU64,
    free: Mutex<Vec<Arc<Place>>>,
}

impl CgroupPool {
    /// Cgroups below `delegation`. They are removed with the pool, or when they are dropped after it.
    pub fn new(delegation: Delegation) -> CgroupPool {
        let (made, free) = (AtomicU64::new(0), Mutex::default());
        CgroupPool(Arc::new(Pool { delegation, made, free }))
    }

    /// A cgroup without members.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Create`].
    pub fn take(&self) -> Result<Cgroup, CgroupError> {
        let free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let place = match free {
            Some(place) => place,
            None => {
                let number = self.0.made.fetch_add(1, Ordering::Relaxed);
                let directory = self.0.delegation.directory.join(format!("tree-{number}"));
                Arc::new(Place::make(directory)?)
            }
        };
        Ok(Cgroup { place, pool: Arc::downgrade(&self.0) })
    }
}

/// A cgroup of its own for one tree. When dropped it goes back to its pool if it is as new, else it is removed if it is
/// empty.
#[derive(Debug)]
pub struct Cgroup {
    place: Arc<Place>,
    pool: Weak<Pool>,
}

/// A cgroup's directory, removed when dropped, and what is often needed of it, held open where it can be had.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// Where processes get into it.
    door: Option<Arc<Door>>,
    /// `cgroup.events`.
    events: Option<File>,
    /// `cgroup.stat`.
    statistics: Option<File>,
    /// `cgroup.type`.
    kind: Option<File>,
}

/// Where processes get into a cgroup.
#[derive(Debug)]
pub(crate) struct Door {
    /// Its directory, by which a process can be made in it.
    pub(crate) directory: File,
    /// Its `cgroup.procs`, to which a process writes `0` in order to join.
    pub(crate) members: File,
    /// Whether all its members have been killed at once. Linux 6.18 takes a process that is made in it afterwards for one
    /// that was missed, and kills it, too; one that joins it lives.
    was_killed: AtomicBool,
}

impl Door {
    fn open(directory: &Path) -> io::Result<Door> {
        Door::of(directory, &directory.join("cgroup.procs"))
    }

    /// The one whose `cgroup.procs` is `members`.
    pub(crate) fn of(directory: &Path, members: &Path) -> io::Result<Door> {
        let members = OpenOptions::new().write(true).open(members)?;
        Ok(Door { directory: File::open(directory)?, members, was_killed: AtomicBool::new(false) })
    }

    /// Whether a process that is made in it would be killed for that.
    pub(crate) fn was_killed(&self) -> bool {
        self.was_killed.load(Ordering::Acquire)
    }

    /// To be called where somebody has killed its members at once.
    pub(crate) fn set_killed(&self) {
        self.was_killed.store(true, Ordering::Release);
    }
}

impl Place {
    fn make(directory: PathBuf) -> Result<Place, CgroupError> {
        if let Err(source) = fs::create_dir(&directory) {
            return Err(CgroupError::Create { path: directory, source });
        }
        let door = Door::open(&directory).ok().map(Arc::new);
        let open = |name: &str| File::open(directory.join(name)).ok();
        let (events, statistics, kind) = (open("cgroup.events"), open("cgroup.stat"), open("cgroup.type"));
        Ok(Place { door, events, statistics, kind, directory })
    }

    /// Whether the next tree finds it as the last one did: without processes, not frozen, without cgroups below it, and of
    /// the kind that processes can be in, and be made in.
    fn is_as_new(&self) -> bool {
        !self.door.as_ref().is_some_and(|door| door.was_killed())
            && says(self.events.as_ref(), &["populated 0", "frozen 0"])
            && says(self.statistics.as_ref(), &["nr_descendants 0"])
            && says(self.kind.as_ref(), &["domain"])
    }
}

/// Whether the kernel says all these lines in one of a cgroup's files. Without an answer it does not.
fn says(file: Option<&File>, lines: &[&str]) -> bool {
    // Several times what they hold that are read here.
    let mut bytes = [0; 2048];
    let read = file.and_then(|file| file.read_at(&mut bytes, 0).ok());
    let text = read.and_then(|count| str::from_utf8(&bytes[..count]).ok()).unwrap_or_default();
    lines.iter().all(|line| text.lines().any(|said| said == *line))
}

impl Cgroup {
    /// The cgroup's directory.
    pub fn directory(&self) -> &Path {
        &self.place.directory
    }

    /// Whether the kernel says that no process lives in it or below it.
    pub(crate) fn is_deserted(&self) -> bool {
        says(self.place.events.as_ref(), &["populated 0"])
    }

    /// The pids of the living members, those in cgroups below included.
    ///
    /// # Errors
    ///
    /// Those of reading the hierarchy; a cgroup that has been removed has no members.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let raw = |process: Process| process.pid.as_raw_pid().unsigned_abs();
        Ok(self.processes()?.into_iter().map(raw).collect())
    }

    /// Kills every member, those in cgroups below included; does nothing where there are none.
    ///
    /// With `cgroup.kill` (Linux 5.14) no fork escapes and the members are dying when this returns. Without it,
    /// members are killed one by one, for at most five seconds, until none are left.
    ///
    /// # Errors
    ///
    /// [`CgroupError::Kill`].
    pub fn kill(&self) -> Result<(), CgroupError> {
        if self.is_deserted() {
            return Ok(());
        }
        self.place.door.iter().for_each(|door| door.set_killed());
        let attempt = match self.open_file("cgroup.kill").and_then(|mut file| file.write_all(b"1")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_one_by_one(),
            written => written,
        };
        attempt.map_err(|source| CgroupError::Kill { path: self.directory().to_owned(), source })
    }

    fn kill_one_by_one(&self) -> io::Result<()> {
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            let members = self.processes()?;
            let Some(first) = members.first() else { return Ok(()) };
            send(&members, Signal::KILL);
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            first.wait_blocking(deadline)?;
        }
    }

    /// The way into it.
    pub(crate) fn door(&self) -> io::Result<Arc<Door>> {
        self.place.door.clone().map_or_else(|| Door::open(self.directory()).map(Arc::new), Ok)
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.directory().join(name))
    }

    /// The living members, those in cgroups below included.
    pub(crate) fn processes(&self) -> io::Result<Vec<Process>> {
        let mut processes = Vec::new();
        if self.is_deserted() {
            return Ok(processes);
        }
        for directory in directories(self.directory())? {
            let listed = read_members(&directory)?;
            for pid in &listed {
                processes.extend(Process::read(*pid)?);
            }
            // Read between two listings: a stranger that got the pid of a former member is not in the second.
            let still_listed = read_members(&directory)?;
            processes.retain(|process| !listed.contains(&process.pid) || still_listed.contains(&process.pid));
        }
        Ok(processes)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade()
            && self.place.is_as_new()
        {
            pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.place.clone());
        }
    }
}

/// A cgroup and those below it, deepest last.
fn directories(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = vec![cgroup.to_owned()];
    let mut next = 0;
    while let Some(directory) = directories.get(next) {
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        directories.push(entry.path());
                    }
                }
            }
            Err(error) if is_removed(&error) => {}
            Err(error) => return Err(error),
        }
        next += 1;
    }
    Ok(directories)
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = directories(&self.directory).and_then(|directories| {
            directories.iter().rev().try_for_each(|directory| match fs::remove_dir(directory) {
                Err(error) if !is_removed(&error) => Err(error),
                _ => Ok(()),
            })
        });
        if let Err(error) = removed {
            tracing::warn!(cgroup = %self.directory.display(), %error, "failed to remove a cgroup");
        }
    }
}

fn read_members(directory: &Path) -> io::Result<Vec<rustix::process::Pid>> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        // A member outside this pid namespace is listed as 0, which parse_pid refuses.
        Ok(list) => Ok(list.lines().filter_map(parse_pid).collect()),
        Err(error) if is_removed(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_removed(error: &io::Error) -> bool {
    let no_device = rustix::io::Errno::NODEV.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(no_device)
}

/// This process's own cgroup and those above it, the own one first: in version 2, and in that hierarchy of version 1 that
/// controls memory. Whether any of them can be read is another matter. `proc` is `/proc`; tests give another.
pub(crate) fn own_directories(proc: &Path) -> Option<Vec<PathBuf>> {
    let mounts = fs::read(proc.join("self/mounts")).ok()?;
    let membership = fs::read(proc.join("self/cgroup")).ok()?;
    let version_2 = find_mount_point(&mounts).zip(find_own_path(&membership));
    let version_1 = find_memory_mount_point(&mounts).zip(find_own_memory_path(&membership));
    let own = version_2.into_iter().chain(version_1);
    Some(
        own.flat_map(|(mount, own)| own.ancestors().map(|path| mount.join(path)).collect::<Vec<_>>())
            .collect(),
    )
}

/// The first mount point of type cgroup2 in a mounts table: `device mount-point type options 0 0`.
fn find_mount_point(mounts: &[u8]) -> Option<PathBuf> {
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mount_point = fields.nth(1)?;
        (fields.next()? == b"cgroup2").then(|| PathBuf::from(unescape(mount_point)))
    })
}

/// Where the hierarchy of version 1 is mounted that controls memory.
fn find_memory_mount_point(mounts: &[u8]) -> Option<PathBuf> {
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [_, mount_point, b"cgroup", options, ..] = fields.as_slice() else { return None };
        let is_meant = options.split(|byte| *byte == b',').any(|option| option == b"memory");
        is_meant.then(|| PathBuf::from(unescape(mount_point)))
    })
}

/// The path of the line `N:memory:/path`, as that of [`find_own_path`].
fn find_own_memory_path(membership: &[u8]) -> Option<&Path> {
    membership.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let controllers = fields.nth(1)?;
        let is_meant = controllers.split(|byte| *byte == b',').any(|controller| controller == b"memory");
        inside(fields.next().filter(|_| is_meant)?)
    })
}

/// The path of the line `0::/path`, relative to the mount point; `None` when it leads outside of what is mounted.
fn find_own_path(membership: &[u8]) -> Option<&Path> {
    inside(membership.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?)
}

/// A path of a cgroup, relative to the mount point; `None` when it leads outside of what is mounted.
fn inside(path: &[u8]) -> Option<&Path> {
    let path = Path::new(OsStr::from_bytes(path.strip_prefix(b"/")?));
    (!path.starts_with("..")).then_some(path)
}

/// Undoes the octal escapes of a mounts table: `\040` is a space.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                          cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                          cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";

    #[test]
    fn the_mount_is_found_in_every_setup() {
        let found = |mounts: &str| find_mount_point(mounts.as_bytes());
        assert_eq!(found(HYBRID), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(found("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), Some("/sys/fs/cgroup".into()));
        assert_eq!(found("cgroup2 /a\\040b\\134c cgroup2 rw 0 0\n"), Some("/a b\\c".into()));
        assert_eq!(found("tmpfs /cgroup2 tmpfs rw 0 0\n"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn the_own_path_is_relative_and_inside() {
        let hybrid: &[u8] = b"9:name=systemd:/x\n4:memory:/y\n0::/user.slice/a b\n";
        assert_eq!(find_own_path(hybrid), Some(Path::new("user.slice/a b")));
        assert_eq!(find_own_path(b"0::/\n"), Some(Path::new("")));
        assert_eq!(find_own_path(b"4:memory:/y\n"), None);
        assert_eq!(find_own_path(b"0::/../../elsewhere\n"), None, "outside of this cgroup namespace");
    }

    /// A directory that looks like a hierarchy with one cgroup, with the two files that lead to it.
    fn fake_hierarchy() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let cgroup = place.path().join("tree/own");
        fs::create_dir_all(&cgroup).unwrap();
        fs::write(cgroup.join("cgroup.procs"), "").unwrap();
        let (mounts, membership) = (place.path().join("mounts"), place.path().join("membership"));
        fs::write(&mounts, format!("none {} cgroup2 rw 0 0\n", place.path().join("tree").display())).unwrap();
        fs::write(&membership, "0::/own\n").unwrap();
        (place, mounts, membership)
    }

    #[test]
    fn a_delegated_part_is_found_and_used() {
        let (place, mounts, membership) = fake_hierarchy();
        let delegation = Delegation::find(&mounts, &membership).unwrap();
        assert_eq!(delegation.directory(), place.path().join("tree/own"));

        let cgroup = delegation.create_child("one").unwrap();
        assert!(matches!(delegation.create_child("one"), Err(CgroupError::Create { .. })));
        let directory = cgroup.directory().to_owned();
        fs::create_dir_all(directory.join("below/deeper")).unwrap();
        assert_eq!(cgroup.members().unwrap(), Vec::<u32>::new());
        drop(cgroup);
        assert!(!directory.exists());
    }

    #[test]
    fn what_is_missing_is_named() {
        let (place, mounts, membership) = fake_hierarchy();
        let none = place.path().join("none");
        fs::write(&none, "").unwrap();
        let error = |mounts: &Path, membership: &Path| Delegation::find(mounts, membership).unwrap_err();
        assert!(matches!(error(&none, &membership), CgroupError::NoMount { .. }));
        assert!(matches!(error(&mounts, &none), CgroupError::NoMembership { .. }));
        let absent = place.path().join("absent");
        assert!(matches!(error(&absent, &membership), CgroupError::Read { path, .. } if path == absent));
        fs::write(&membership, "0::/elsewhere\n").unwrap();
        assert!(matches!(error(&mounts, &membership), CgroupError::NotDelegated { .. }));
    }

    #[test]
    fn without_cgroup_kill_members_are_killed_one_by_one() {
        use std::process::Command;

        let (_place, mounts, membership) = fake_hierarchy();
        let cgroup = Delegation::find(&mounts, &membership).unwrap().create_child("one").unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let members_file = cgroup.directory().join("cgroup.procs");
        fs::write(&members_file, format!("{}\n0\n", child.id())).unwrap();
        assert_eq!(cgroup.members().unwrap(), [child.id()]);

        // A real hierarchy takes the dead off its list; here a thread that waits for the child does.
        let emptying = std::thread::spawn(move || {
            let status = child.wait().unwrap();
            fs::write(&members_file, "").unwrap();
            fs::remove_file(&members_file).unwrap();
            status
        });
        cgroup.kill().unwrap();
        let status = emptying.join().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
