//! A workspace that is compared and put right is what rsync would have made of it: on random projects and workspaces, with
//! the real rsync.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use distributest_tree::filter::Filter;
use distributest_tree::tree::{Fingerprint, Kind, ProjectTree};
use distributest_tree::workspace::{Answer, Workspace};
use proptest::prelude::*;

/// Rules of every kind that this program makes, and some that users write. They speak of the names below.
const RULES: [&str; 18] = [
    "- .git",
    "+ /a/b/***",
    "- a",
    "- /c/a",
    "- b/",
    "- *.log",
    "- /a/**/c",
    "- **/b/c",
    "- a/[!ab]*",
    "- /c\\?",
    "P /a",
    "P /**/b/",
    "P /*.log",
    "P c",
    "R /a/b",
    "R /**/c.log",
    "P a?",
    "+ b/*",
];

const NAMES: [&str; 9] = ["a", "b", "c", "a.log", "c.log", "ab", "c?", ".git", "d e"];

/// Something that is done to a project or to a workspace.
#[derive(Clone, Debug)]
enum Edit {
    Write {
        path: PathBuf,
        contents: Vec<u8>,
        mode: u32,
    },
    Directory {
        path: PathBuf,
        mode: u32,
    },
    Link {
        path: PathBuf,
        target: String,
    },
    Delete {
        path: PathBuf,
    },
    /// With the former size and time.
    Falsify {
        path: PathBuf,
    },
    Age {
        path: PathBuf,
        seconds: u64,
    },
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4).prop_map(|names| names.iter().collect())
}

fn edit() -> impl Strategy<Value = Edit> {
    let mode = prop::sample::select(vec![0o644, 0o600, 0o755, 0o4755]);
    let directory_mode = prop::sample::select(vec![0o755, 0o700, 0o2775]);
    prop_oneof![
        4 => (path(), prop::collection::vec(any::<u8>(), 0..3), mode)
            .prop_map(|(path, contents, mode)| Edit::Write { path, contents, mode }),
        2 => (path(), directory_mode).prop_map(|(path, mode)| Edit::Directory { path, mode }),
        1 => (path(), "[a-c/]{1,3}").prop_map(|(path, target)| Edit::Link { path, target }),
        2 => path().prop_map(|path| Edit::Delete { path }),
        1 => path().prop_map(|path| Edit::Falsify { path }),
        1 => (path(), 0..3_000_000_000_u64).prop_map(|(path, seconds)| Edit::Age { path, seconds }),
    ]
}

impl Edit {
    /// Does it, if it can be done; whether it can is the same in equal trees.
    fn apply(&self, root: &Path) {
        let _ = self.try_to_apply(root);
    }

    fn try_to_apply(&self, root: &Path) -> std::io::Result<()> {
        match self {
            Edit::Write { path, contents, mode } => {
                let path = at(root, path)?;
                fs::write(&path, contents)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Edit::Directory { path, mode } => {
                let path = at(root, path)?;
                fs::create_dir(&path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(*mode))
            }
            Edit::Link { path, target } => symlink(target, at(root, path)?),
            Edit::Delete { path } => {
                let path = at(root, path)?;
                fs::remove_dir_all(&path).or_else(|_| fs::remove_file(path))
            }
            Edit::Falsify { path } => {
                let path = at(root, path)?;
                let metadata = fs::symlink_metadata(&path)?;
                if metadata.is_file() {
                    let contents: Vec<u8> = fs::read(&path)?.iter().map(|byte| !byte).collect();
                    fs::write(&path, contents)?;
                    fs::File::options().write(true).open(&path)?.set_modified(metadata.modified()?)?;
                }
                Ok(())
            }
            Edit::Age { path, seconds } => {
                let time = SystemTime::UNIX_EPOCH + Duration::new(*seconds, 7);
                fs::File::open(at(root, path)?)?.set_modified(time)
            }
        }
    }
}

/// The place of an edit, which no link leads to: some lead out of the tree.
fn at(root: &Path, path: &Path) -> std::io::Result<PathBuf> {
    let place = root.join(path);
    let within: Vec<&Path> = place.ancestors().skip(1).take_while(|ancestor| *ancestor != root).collect();
    for directory in within.into_iter().rev() {
        match fs::symlink_metadata(directory) {
            Ok(metadata) if metadata.is_symlink() => return Err(std::io::ErrorKind::InvalidInput.into()),
            Ok(_) => {}
            Err(_) => fs::create_dir(directory)?,
        }
    }
    if fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_symlink()) {
        fs::remove_file(&place)?;
    }
    Ok(place)
}

/// What is to be equal: everything but the inodes, the times of access and what hangs together with those.
#[derive(Debug, PartialEq, Eq)]
struct Looks {
    mode: u32,
    modified: (i64, i64),
    contents: Vec<u8>,
}

/// What is below `root`; of what did not come from the project, only that it is there.
fn looks(root: &Path, sent: &ProjectTree) -> BTreeMap<PathBuf, Option<Looks>> {
    let sent: HashSet<&[u8]> = sent.entries.iter().map(|entry| &entry.path[..]).collect();
    let mut looks = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let contents = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            fs::read(&path).unwrap()
        };
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let name = path.strip_prefix(root).unwrap().to_owned();
        let looks_like = Looks { mode: metadata.mode(), modified, contents };
        let was_sent = sent.contains(name.as_os_str().as_bytes());
        looks.insert(name, was_sent.then_some(looks_like));
    }
    looks
}

/// As the coordinator calls it. Says whether it succeeded: it gives up where protected files are in the way.
fn rsync(project: &Path, workspace: &Path, rules: &[u8], more: &[&str]) -> bool {
    let rules_file = tempfile::NamedTempFile::new().unwrap();
    fs::write(rules_file.path(), rules).unwrap();
    let mut command = Command::new("rsync");
    command.args(["-a", "--no-owner", "--no-group", "--delete", "--from0", "--filter=merge -"]);
    command.args(["--modify-window=-1", "--no-inc-recursive"]).args(more);
    command.arg("--").arg(project.join("")).arg(workspace.join(""));
    let output = command.stdin(Stdio::from(fs::File::open(rules_file.path()).unwrap())).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || complaint.contains("could not make way"), "{complaint}");
    output.status.success()
}

/// How a workspace was made the same as a project.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Compared,
    Copied,
    Failed,
}

fn synchronise(project: &Path, place: &Path, rules: &[u8]) -> Way {
    let directory = place.join("workspace");
    let mut workspace = Workspace::open(directory.clone(), place.join("memory"), place.join("scratch"));
    let tree = ProjectTree::read(project, rules.to_vec()).unwrap();
    let encoded = tree.encode();
    let mut answer = workspace.compare(Fingerprint::of(&encoded));
    loop {
        answer = match answer {
            Answer::Same => return Way::Compared,
            Answer::TreeWanted => workspace.compare_with(&encoded),
            Answer::FilesWanted(files) => {
                let mut answer = None;
                for index in files {
                    assert!(answer.is_none(), "there was an answer before everything was sent");
                    let entry = &tree.entries[index];
                    assert!(matches!(entry.kind, Kind::File { .. }));
                    let contents = fs::read(entry.below(project)).unwrap();
                    let (first, second) = contents.split_at(contents.len() / 2);
                    assert_eq!(workspace.receive(index, first, false, true), None);
                    answer = workspace.receive(index, second, true, true);
                }
                answer.unwrap()
            }
            Answer::CopyWanted(_) => {
                if !rsync(project, &directory, rules, &[]) {
                    return Way::Failed;
                }
                workspace.copied(&encoded).unwrap();
                return Way::Copied;
            }
        };
    }
}

fn rules_of(rules: &[&str]) -> Vec<u8> {
    rules.iter().flat_map(|rule| rule.bytes().chain([0])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_workspace_becomes_what_rsync_makes_of_it(
        rules in prop::sample::subsequence(&RULES[..], 0..10).prop_shuffle(),
        steps in prop::collection::vec(
            (prop::collection::vec(edit(), 0..12), prop::collection::vec(edit(), 0..8)),
            1..5,
        ),
    ) {
        let place = tempfile::tempdir().unwrap();
        let [project, ours, theirs] = ["project", "ours", "theirs"].map(|name| place.path().join(name));
        for directory in [&project, &ours.join("workspace"), &theirs] {
            fs::create_dir_all(directory).unwrap();
        }
        let rules = rules_of(&rules);
        for (in_project, in_workspace) in &steps {
            for edit in in_project {
                edit.apply(&project);
            }
            let way = synchronise(&project, &ours, &rules);
            // A file that was falsified is passed over by rsync's quick check, but not by ours.
            let succeeded = rsync(&project, &theirs, &rules, &["--ignore-times"]);
            prop_assert_eq!(succeeded, way != Way::Failed);
            if !succeeded {
                return Ok(());
            }
            let sent = ProjectTree::read(&project, rules.clone()).unwrap();
            prop_assert_eq!(looks(&ours.join("workspace"), &sent), looks(&theirs, &sent));
            for edit in in_workspace {
                edit.apply(&ours.join("workspace"));
                edit.apply(&theirs);
            }
        }
    }

    #[test]
    fn rules_mean_what_they_mean_to_rsync(
        rules in prop::collection::vec(("[-+PR] ", "/?[ab*?/.]{1,6}|/?[ab]?\\[[!^]?[]a-b]{1,3}\\][*]{0,3}/?|[ab\\\\*]{2,5}"), 1..5),
        paths in prop::collection::vec(path_of("[ab.\\\\]{1,2}"), 1..20),
    ) {
        let rules: Vec<u8> = rules.iter().flat_map(|(kind, pattern)| kind.bytes().chain(pattern.bytes()).chain([0])).collect();
        let Ok(_) = Filter::parse(&rules) else { return Ok(()) };
        let place = tempfile::tempdir().unwrap();
        let [project, ours, theirs] = ["project", "ours", "theirs"].map(|name| place.path().join(name));
        for directory in [&project, &ours.join("workspace"), &theirs] {
            fs::create_dir_all(directory).unwrap();
        }
        synchronise(&project, &ours, &rules);
        for path in &paths {
            Edit::Write { path: path.clone(), contents: Vec::new(), mode: 0o644 }.apply(&project);
            for workspace in [&ours.join("workspace"), &theirs] {
                Edit::Write { path: path.with_added_extension("b"), contents: Vec::new(), mode: 0o644 }.apply(workspace);
            }
        }
        let empty = ProjectTree { rules: Vec::new(), entries: Vec::new() };
        // A directory in the place of a file is for rsync.
        prop_assume!(synchronise(&project, &ours, &rules) == Way::Compared);
        rsync(&project, &theirs, &rules, &[]);
        let names = |root: &Path| looks(root, &empty).into_keys().collect::<Vec<_>>();
        prop_assert_eq!(names(&ours.join("workspace")), names(&theirs));
    }
}

fn path_of(name: &'static str) -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(name, 1..4).prop_map(|names| names.iter().map(OsStr::new).collect())
}
