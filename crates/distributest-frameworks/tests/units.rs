//! Which Go packages and cargo targets are found, compared with what the tools themselves say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use distributest_frameworks::{Discovered, Framework, Selection, detect, discover};
use serde_json::Value;

/// A project with these files.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn selected(project: &Path, framework: &str, change: impl FnOnce(&mut Selection)) -> Discovered {
    let mut selection = Selection::of(Framework::named(framework).unwrap());
    change(&mut selection);
    discover(project, &selection).unwrap()
}

fn units(project: &Path, framework: &str) -> Vec<String> {
    paths(selected(project, framework, |_| {}))
}

fn paths(discovered: Discovered) -> Vec<String> {
    discovered.files.into_iter().map(|file| file.path).collect()
}

fn detected(project: &Path) -> Vec<(String, String)> {
    let found = detect(project, &Framework::built_in());
    found.into_iter().map(|found| (found.framework.name().to_owned(), found.evidence)).collect()
}

/// The root files of the targets that cargo tests, and of the libraries whose documentation it does.
fn cargo_says(project: &Path, packages: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(project)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let chosen = metadata[packages].as_array().unwrap();
    let root = format!("{}/", fs::canonicalize(project).unwrap().display());
    let mut said = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        if !chosen.contains(&package["id"]) {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let path = target["src_path"].as_str().unwrap().strip_prefix(&root).unwrap();
            if target["test"] == true {
                said.insert(path.to_owned());
            }
            // A library without documentation has no unit for it.
            let text = fs::read_to_string(project.join(path)).unwrap();
            if target["doctest"] == true && text.contains("```") {
                said.insert(format!("{path} (doc tests)"));
            }
        }
    }
    said
}

const LIBRARY: &str = "//! ```\n//! assert!(true);\n//! ```\n";

#[test]
fn cargo_units_are_the_targets_that_cargo_tests() {
    let project = project(&[
        (
            "Cargo.toml",
            "[workspace]\nmembers = [\"crates/*\", \"extra\", \"./named\"]\nexclude = [\"crates/out\"]\nresolver = \"2\"\n",
        ),
        ("crates/out/Cargo.toml", "[package]\nname = \"out\"\nversion = \"0.1.0\"\n[workspace]\n"),
        ("crates/out/src/lib.rs", LIBRARY),
        ("crates/notes.txt", ""),
        (
            "crates/all/Cargo.toml",
            "[package]\nname = \"all\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nby-path = { path = \"../../by-path\" }\n[target.'cfg(unix)'.dev-dependencies]\nunix-only = { path = \"../../unix-only\" }\n[[example]]\nname = \"tested\"\ntest = true\n[[bin]]\nname = \"untested\"\ntest = false\n[[test]]\nname = \"moved\"\npath = \"elsewhere/moved.rs\"\n",
        ),
        ("crates/all/src/lib.rs", LIBRARY),
        ("crates/all/src/main.rs", "fn main() {}"),
        ("crates/all/src/bin/one.rs", "fn main() {}"),
        ("crates/all/src/bin/untested.rs", "fn main() {}"),
        ("crates/all/src/bin/two/main.rs", "fn main() {}"),
        ("crates/all/src/bin/two/part.rs", ""),
        ("crates/all/tests/a.rs", ""),
        ("crates/all/tests/.hidden.rs", ""),
        ("crates/all/tests/common/mod.rs", ""),
        ("crates/all/tests/b/main.rs", ""),
        ("crates/all/elsewhere/moved.rs", ""),
        ("crates/all/examples/tested.rs", "fn main() {}"),
        ("crates/all/examples/plain.rs", "fn main() {}"),
        ("crates/all/benches/bench.rs", "fn main() {}"),
        (
            "extra/Cargo.toml",
            "[package]\nname = \"extra\"\nversion = \"0.1.0\"\nedition = \"2021\"\nautotests = false\nautobins = false\n[lib]\npath = \"source.rs\"\ndoctest = false\n[[test]]\nname = \"chosen\"\nharness = false\n[dependencies]\nshared = { workspace = true }\n",
        ),
        ("extra/source.rs", LIBRARY),
        ("extra/src/main.rs", "fn main() {}"),
        ("extra/tests/chosen.rs", ""),
        ("extra/tests/other.rs", ""),
        (
            "named/Cargo.toml",
            "[package]\nname = \"named\"\nversion = \"0.1.0\"\n[lib]\nproc-macro = true\ntest = false\n[[test]]\nname = \"only\"\n",
        ),
        ("named/src/lib.rs", LIBRARY),
        ("named/tests/only.rs", ""),
        ("named/tests/undeclared.rs", ""),
        (
            "by-path/Cargo.toml",
            "[package]\nname = \"by-path\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\ncrate-type = [\"cdylib\"]\n",
        ),
        ("by-path/src/lib.rs", LIBRARY),
        (
            "unix-only/Cargo.toml",
            "[package]\nname = \"unix-only\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
        ),
        ("unix-only/src/lib.rs", "/// Without examples.\npub struct Nothing;\n"),
        ("shared/Cargo.toml", "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        ("shared/src/lib.rs", ""),
        ("nobody/Cargo.toml", "[package]\nname = \"nobody\"\nversion = \"0.1.0\"\n"),
        ("nobody/src/lib.rs", ""),
        ("target/debug/build/x/src/lib.rs", LIBRARY),
    ]);
    let manifest = project.path().join("Cargo.toml");
    let text =
        fs::read_to_string(&manifest).unwrap() + "[workspace.dependencies]\nshared = { path = \"shared\" }\n";
    fs::write(&manifest, &text).unwrap();
    let expected = cargo_says(project.path(), "workspace_members");
    assert!(expected.len() > 15, "{expected:?}");
    assert_eq!(units(project.path(), "cargo"), Vec::from_iter(expected));
    // With default members, those.
    fs::write(
        &manifest,
        text.replacen("members", "default-members = [\"extra\", \"crates/a*\"]\nmembers", 1),
    )
    .unwrap();
    let expected = cargo_says(project.path(), "workspace_default_members");
    assert_eq!(units(project.path(), "cargo"), Vec::from_iter(expected));
    assert_eq!(detected(project.path()), [("cargo".to_owned(), "Cargo.toml".to_owned())]);
}

#[test]
fn a_package_is_found_alone_and_several_without_a_root_are_all() {
    let manifest = "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let alone = project(&[
        ("Cargo.toml", manifest),
        ("src/main.rs", "fn main() {}"),
        ("tests/a.rs", ""),
        ("fixtures/other/Cargo.toml", manifest),
        ("fixtures/other/src/lib.rs", ""),
    ]);
    assert_eq!(units(alone.path(), "cargo"), ["src/main.rs", "tests/a.rs"]);
    let several = project(&[
        ("one/Cargo.toml", manifest),
        ("one/src/lib.rs", ""),
        ("two/Cargo.toml", "[workspace]\nmembers = [\"member\"]\n"),
        ("two/member/Cargo.toml", manifest),
        ("two/member/src/lib.rs", ""),
        ("two/stray/Cargo.toml", manifest),
        ("two/stray/src/lib.rs", ""),
    ]);
    let expected = ["one/src/lib.rs", "two/member/src/lib.rs", "two/stray/src/lib.rs"];
    assert_eq!(units(several.path(), "cargo"), expected);
    assert_eq!(detected(several.path()), [("cargo".to_owned(), "one/Cargo.toml".to_owned())]);
}

#[test]
fn cargo_units_are_selected_by_path_and_glob() {
    let manifest = "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let project =
        project(&[("Cargo.toml", manifest), ("src/lib.rs", LIBRARY), ("tests/a.rs", ""), ("tests/b.rs", "")]);
    let only = |paths: &[&str]| {
        let given = paths.iter().map(ToString::to_string).collect();
        selected(project.path(), "cargo", |selection| selection.only = given)
    };
    assert_eq!(paths(only(&["src/lib.rs"])), ["src/lib.rs"]);
    assert_eq!(paths(only(&["src/lib.rs (doc tests)"])), ["src/lib.rs (doc tests)"]);
    assert_eq!(paths(only(&["src", "tests/b.rs"])), ["src/lib.rs", "src/lib.rs (doc tests)", "tests/b.rs"]);
    let nothing = only(&["tests/c.rs"]);
    assert_eq!((nothing.files.len(), nothing.unmatched), (0, vec!["tests/c.rs".to_owned()]));
    let globs = selected(project.path(), "cargo", |selection| {
        selection.files = vec!["tests/*.rs".to_owned(), "nowhere/**".to_owned()];
        selection.exclude = vec!["**/a.rs".to_owned()];
    });
    assert_eq!(globs.unmatched, ["nowhere/**"]);
    assert_eq!(paths(globs), ["tests/b.rs"]);
}

#[test]
fn a_manifest_that_is_none_is_named() {
    let project = project(&[("Cargo.toml", "[package\n")]);
    let error = discover(project.path(), &Selection::of(Framework::named("cargo").unwrap())).unwrap_err();
    assert!(error.to_string().ends_with("Cargo.toml"), "{error}");
}

/// Directories of packages with tests, as `go list` says.
fn go_says(project: &Path, patterns: &[&str]) -> BTreeSet<String> {
    let template = "{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}";
    let output = Command::new("go")
        .args(["list", "-f", template])
        .args(patterns)
        .current_dir(project)
        .env("GOPROXY", "off")
        .output()
        .expect("this test needs Go: apt-get install golang-go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = fs::canonicalize(project).unwrap();
    let directory = |line: &str| match Path::new(line).strip_prefix(&root).unwrap().to_str().unwrap() {
        "" => ".".to_owned(),
        directory => directory.to_owned(),
    };
    String::from_utf8(output.stdout).unwrap().lines().map(directory).collect()
}

const GO_FILES: [(&str, &str); 13] = [
    ("root_test.go", "package root"),
    ("code.go", "package root"),
    ("no_tests/code.go", "package no_tests"),
    ("a/a_test.go", "package a"),
    ("a/testdata/x_test.go", "package x"),
    ("a/_hidden/x_test.go", "package x"),
    ("a/.hidden/x_test.go", "package x"),
    ("a/deep/er/b_test.go", "package er_test"),
    ("ignored/_x_test.go", "package ignored"),
    ("ignored/.x_test.go", "package ignored"),
    ("ignored/x.go", "package ignored"),
    ("nested/go.mod", "module example.com/nested\ngo 1.18\n"),
    ("nested/n_test.go", "package nested"),
];

#[test]
fn go_units_are_the_packages_that_go_lists() {
    let project = project(&GO_FILES);
    fs::write(project.path().join("go.mod"), "module example.com/root\ngo 1.18\n").unwrap();
    std::os::unix::fs::symlink("a", project.path().join("linked")).unwrap();
    let expected = go_says(project.path(), &["./..."]);
    assert_eq!(Vec::from_iter(expected), [".", "a", "a/deep/er"]);
    assert_eq!(units(project.path(), "go"), [".", "a", "a/deep/er"]);
    assert_eq!(detected(project.path()), [("go".to_owned(), "go.mod".to_owned())]);
    // Vendored packages are others' affair.
    fs::create_dir_all(project.path().join("vendor/x")).unwrap();
    fs::write(project.path().join("vendor/x/x_test.go"), "package x").unwrap();
    assert_eq!(units(project.path(), "go").len(), 3);
}

#[test]
fn a_go_workspace_is_the_modules_it_uses() {
    let project = project(&GO_FILES);
    fs::write(project.path().join("go.work"), "go 1.18\nuse (\n\t./nested\n\t./a // a comment\n)\n").unwrap();
    fs::write(project.path().join("a/go.mod"), "module example.com/a\ngo 1.18\n").unwrap();
    let expected = go_says(project.path(), &["./nested/...", "./a/..."]);
    assert_eq!(Vec::from_iter(expected), ["a", "a/deep/er", "nested"]);
    assert_eq!(units(project.path(), "go"), ["a", "a/deep/er", "nested"]);
    assert_eq!(detected(project.path()), [("go".to_owned(), "go.work".to_owned())]);
    // Several modules without a workspace are all tested, what is in none of them is not.
    fs::remove_file(project.path().join("go.work")).unwrap();
    assert_eq!(units(project.path(), "go"), ["a", "a/deep/er", "nested"]);
}

#[test]
fn go_units_are_selected_by_directory_and_by_test_file() {
    let project = project(&GO_FILES);
    fs::write(project.path().join("go.mod"), "module example.com/root\ngo 1.18\n").unwrap();
    let only = |path: &str| {
        paths(selected(project.path(), "go", |selection| selection.only = vec![path.to_owned()]))
    };
    assert_eq!(only("a"), ["a", "a/deep/er"]);
    assert_eq!(only("a/a_test.go"), ["a"]);
    assert_eq!(only("./root_test.go"), ["."]);
    assert_eq!(only("."), [".", "a", "a/deep/er"]);
    let excluded = selected(project.path(), "go", |selection| selection.exclude = vec!["a/deep".to_owned()]);
    assert_eq!(paths(excluded), [".", "a"]);
    let globs = selected(project.path(), "go", |selection| selection.files = vec!["a/**".to_owned()]);
    assert_eq!(paths(globs), ["a/deep/er"]);
}
