//! Holds what `crates/ARCHITECTURE.md` promises about the code as a whole: who may depend on whom, where gRPC and
//! `unsafe` live, how long a file may be, what never appears in one.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What one crate may know.
struct Room {
    /// The crate.
    name: &'static str,
    /// Those of ours it may use, besides in its tests.
    may_use: &'static [&'static str],
    /// Crates of others that must not come with it, however indirectly.
    never: &'static [&'static str],
}

const GRPC: &[&str] = &["tonic", "tonic-prost", "prost", "hyper", "h2", "tower"];
const ASYNC_OR_GRPC: &[&str] = &["tokio", "tonic", "tonic-prost", "prost", "hyper", "h2", "tower"];

const ROOMS: &[Room] = &[
    Room { name: "distributest-core", may_use: &[], never: ASYNC_OR_GRPC },
    Room { name: "distributest-process", may_use: &[], never: GRPC },
    Room { name: "distributest-protocol", may_use: &["distributest-core"], never: &["rusqlite"] },
    Room { name: "distributest-frameworks", may_use: &["distributest-core"], never: ASYNC_OR_GRPC },
    Room { name: "distributest-history", may_use: &["distributest-core"], never: ASYNC_OR_GRPC },
    Room { name: "distributest-report", may_use: &["distributest-core"], never: ASYNC_OR_GRPC },
    Room { name: "distributest-tree", may_use: &[], never: ASYNC_OR_GRPC },
    Room {
        name: "distributest-worker",
        may_use: &["distributest-core", "distributest-process"],
        never: &["tonic", "tonic-prost", "prost", "hyper", "h2", "tower", "rusqlite"],
    },
    Room {
        name: "runner-agent",
        may_use: &[
            "distributest-core",
            "distributest-process",
            "distributest-protocol",
            "distributest-tree",
            "distributest-worker",
        ],
        never: &["rusqlite", "quick-junit", "indicatif"],
    },
    Room {
        name: "distributest",
        may_use: &[
            "distributest-core",
            "distributest-frameworks",
            "distributest-history",
            "distributest-protocol",
            "distributest-report",
            "distributest-tree",
            "runner-agent",
        ],
        never: &[],
    },
    Room { name: "distributest-testkit", may_use: &["distributest-core"], never: ASYNC_OR_GRPC },
];

/// The rooms of gRPC, as beginnings of paths below `crates`.
const GRPC_ROOMS: &[&str] = &["distributest-protocol/", "distributest/src/agents.rs"];

/// The most lines a source file may have.
const LINES: usize = 600;

/// What no Rust file contains, and what to do instead. This file is not looked at.
const NEVER: &[(&str, &str)] = &[
    ("todo!", "finish it or leave it out"),
    ("unimplemented!", "finish it or leave it out"),
    ("#[ignore", "a test that is not run holds nothing"),
    ("[allow(", "use #[expect(.., reason = \"..\")], which ends when its reason does"),
];

fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the testkit lives two directories below the workspace")
}

/// The workspace's packages and, for each package by its id, what `cargo metadata` resolved.
struct Metadata {
    members: Vec<Value>,
    names: BTreeMap<String, String>,
    /// Package id to the ids of what it uses when it is built for use: no dev- or build-dependencies.
    uses: BTreeMap<String, Vec<String>>,
}

impl Metadata {
    fn read() -> Metadata {
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &host_triple()])
            .current_dir(workspace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let member_ids: BTreeSet<String> = array(&document["workspace_members"]).iter().map(text).collect();
        let packages = array(&document["packages"]);
        let members: Vec<Value> =
            packages.iter().filter(|package| member_ids.contains(&text(&package["id"]))).cloned().collect();
        let names = packages.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let uses = array(&document["resolve"]["nodes"]).iter().map(used_by).collect();
        Metadata { members, names, uses }
    }

    fn id_of(&self, member: &str) -> String {
        let package = self.members.iter().find(|package| text(&package["name"]) == member);
        text(&package.unwrap_or_else(|| panic!("there is no crate {member}"))["id"])
    }

    /// The names of everything that comes with a package.
    fn closure(&self, member: &str) -> BTreeSet<&str> {
        let mut pending = vec![self.id_of(member)];
        let mut seen = BTreeSet::new();
        while let Some(id) = pending.pop() {
            for used in &self.uses[&id] {
                if seen.insert(used.clone()) {
                    pending.push(used.clone());
                }
            }
        }
        seen.iter().map(|id| self.names[id].as_str()).collect()
    }

    /// The names of what a package names itself, outside its tests.
    fn direct(&self, member: &str) -> BTreeSet<&str> {
        self.uses[&self.id_of(member)].iter().map(|id| self.names[id].as_str()).collect()
    }
}

fn used_by(node: &Value) -> (String, Vec<String>) {
    let normal =
        |dependency: &&Value| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let used = array(&node["deps"]).iter().filter(normal).map(|dependency| text(&dependency["pkg"]));
    (text(&node["id"]), used.collect())
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let metadata = Metadata::read();
    let ours: BTreeSet<String> = metadata.members.iter().map(|package| text(&package["name"])).collect();
    let described: BTreeSet<String> = ROOMS.iter().map(|room| room.name.to_owned()).collect();
    assert_eq!(ours, described, "a crate came or went: say here what it may know");
    let history = metadata.closure("distributest-history");
    assert!(history.contains("libsqlite3-sys"), "what comes indirectly is not seen: {history:?}");
    for room in ROOMS {
        let direct = metadata.direct(room.name);
        let wrong: Vec<_> =
            direct.iter().filter(|used| ours.contains(**used) && !room.may_use.contains(used)).collect();
        assert!(wrong.is_empty(), "{} must not use {wrong:?}", room.name);
        let closure = metadata.closure(room.name);
        let wrong: Vec<_> = room.never.iter().filter(|name| closure.contains(**name)).collect();
        assert!(wrong.is_empty(), "{} must not bring {wrong:?} with it, however indirectly", room.name);
    }
}

#[test]
fn core_uses_nothing_but_the_standard_library() {
    assert_eq!(Metadata::read().direct("distributest-core"), BTreeSet::new());
}

#[test]
fn the_testkit_is_never_shipped() {
    let metadata = Metadata::read();
    let testkit = metadata.members.iter().find(|package| package["name"] == "distributest-testkit").unwrap();
    assert!(array(&testkit["publish"]).is_empty(), "publish = false");
    for room in ROOMS {
        let name = room.name;
        assert!(!metadata.closure(name).contains("distributest-testkit"), "{name} may use it in tests only");
    }
}

#[test]
fn every_crate_inherits_the_lints() {
    for package in Metadata::read().members {
        let manifest = text(&package["manifest_path"]);
        let inherits = fs::read_to_string(&manifest).unwrap().contains("[lints]\nworkspace = true\n");
        assert!(inherits, "{manifest} needs a [lints] table with workspace = true");
    }
}

/// A Rust file of the workspace.
struct Source {
    /// Below `crates`, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines without their comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().map(|line| line.split("//").next().unwrap_or_default());
        (1..).zip(lines)
    }

    fn is_shipped(&self) -> bool {
        self.path.contains("/src/")
    }

    /// The places where a word stands by itself.
    fn places_of_word(&self, word: &str) -> Vec<String> {
        let is_part = |character: char| character.is_alphanumeric() || character == '_';
        self.code()
            .filter(|(_, line)| line.split(|character| !is_part(character)).any(|found| found == word))
            .map(|(number, _)| format!("{}:{number}", self.path))
            .collect()
    }
}

fn sources() -> Vec<Source> {
    let crates = workspace().join("crates");
    let mut pending = vec![crates.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Projects that tests run are not part of this one.
                if !path.ends_with("tests/fixtures") {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > ROOMS.len(), "the sources were not found");
    sources
}

fn assert_nowhere(places: &[String], why: &str) {
    assert!(places.is_empty(), "{why}:\n{}", places.join("\n"));
}

#[test]
fn unsafe_code_stays_in_the_process_crate() {
    let elsewhere = |source: &Source| !source.path.starts_with("distributest-process/");
    let places: Vec<String> = sources()
        .iter()
        .filter(|source| source.is_shipped() && elsewhere(source))
        .flat_map(|source| source.places_of_word("unsafe"))
        .collect();
    assert_nowhere(&places, "unsafe code outside distributest-process");
}

#[test]
fn grpc_stays_in_its_rooms() {
    for room in GRPC_ROOMS {
        assert!(workspace().join("crates").join(room).exists(), "{room} is gone: take it off the list");
    }
    let at_home = |source: &Source| GRPC_ROOMS.iter().any(|room| source.path.starts_with(room));
    let places: Vec<String> = sources()
        .iter()
        .filter(|source| source.is_shipped() && !at_home(source))
        .flat_map(|source| source.places_of_word("tonic"))
        .collect();
    assert_nowhere(&places, &format!("gRPC outside {GRPC_ROOMS:?}"));
}

#[test]
fn files_stay_short() {
    let places: Vec<String> = sources()
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(source, lines)| source.is_shipped() && *lines > LINES)
        .map(|(source, lines)| format!("{}: {lines} lines", source.path))
        .collect();
    assert_nowhere(&places, &format!("files over {LINES} lines; cut them where the subject changes"));
}

#[test]
fn some_things_never_appear() {
    let sources = sources();
    let others = sources.iter().filter(|source| !source.path.ends_with("testkit/tests/architecture.rs"));
    for source in others {
        for (pattern, instead) in NEVER {
            let places: Vec<String> = source
                .code()
                .filter(|(_, line)| line.contains(pattern))
                .map(|(number, _)| format!("{}:{number}", source.path))
                .collect();
            assert_nowhere(&places, &format!("{pattern} ({instead})"));
        }
    }
}
