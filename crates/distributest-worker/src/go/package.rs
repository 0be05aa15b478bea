//! Builds the test binary of a package, once per host and run.
//!
//! `go test` builds it, with the project's arguments and after `go vet`'s checks, and is told to run it with a program
//! (`-exec`) that only puts it aside, with the arguments it was to have and the two variables go sets for it. It is run
//! afterwards as often as is needed: a package whose tests are divided among runners is linked once.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::arguments::Arguments;
use crate::link::{Link, Stop};
use crate::run_directory::RunDirectory;
use crate::tools;

/// Puts the binary ($1) aside as $0, and beside it, each ended by a zero byte, GOROOT, PATH and the binary's arguments.
const KEEP: &str = r#"mv -f -- "$1" "$0" && shift && printf "%s\0" "$GOROOT" "$PATH" "$@" >"$0.words""#;

/// What came of building a package.
pub(super) enum Built {
    /// It has tests.
    Binary(TestBinary),
    /// It has none, on this platform and with these arguments; go's words on that.
    NoTests(String),
    /// It does not compile, or is not vetted; one line and go's words on it.
    Broken { message: String, details: String },
}

/// A test binary that was put aside.
pub(super) struct TestBinary {
    pub(super) path: PathBuf,
    /// What go would have given it.
    pub(super) arguments: Vec<OsString>,
    /// What go sets for it.
    pub(super) variables: [(&'static str, OsString); 2],
}

/// Builds the package in a directory, or finds what another worker of the run built.
pub(super) fn build(
    go: &Path,
    package: &Path,
    arguments: &Arguments,
    directory: &RunDirectory,
    link: &mut Link,
) -> Result<Built, Stop> {
    let binary = directory.file("go-test", (package, &arguments.words));
    let _lock = directory.lock(&binary, link)?;
    if let Some(kept) = kept(&binary) {
        return Ok(Built::Binary(kept));
    }
    let mut command = Command::new(go);
    command.current_dir(package).args(["test", "-count=1", "-timeout=0"]);
    command.arg(format!("-exec=sh -c '{KEEP}' \"{}\"", binary.display()));
    // Before the project's arguments, of which the last may be the tests' own.
    command.arg(".").args(&arguments.words);
    let answer = tools::ask(command, true, link)?;
    let text = format!("{}{}", answer.messages.text(), String::from_utf8_lossy(&answer.output));
    if let Some(kept) = kept(&binary) {
        return Ok(Built::Binary(kept));
    }
    if answer.is_success() || is_for_other_platforms(&text, package) {
        return Ok(Built::NoTests(text.lines().next().unwrap_or_default().trim().replace('\t', " ")));
    }
    Ok(Built::Broken { message: first_error(&text), details: text })
}

/// Whether build constraints leave nothing of the package itself. About one that it imports go says nearly the same, and
/// that is an error.
fn is_for_other_platforms(text: &str, package: &Path) -> bool {
    let Ok(package) = package.canonicalize() else { return false };
    let complaint = format!(": build constraints exclude all Go files in {}", package.display());
    let is_own =
        |line: &str| line.starts_with("package ") && !line.contains(".go:") && line.ends_with(&complaint);
    text.lines().any(|line| is_own(line.trim_end()) && !line.contains("imports "))
}

fn kept(binary: &Path) -> Option<TestBinary> {
    let words = fs::read(binary.with_extension("words")).ok().filter(|_| binary.is_file())?;
    let mut words =
        words.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let variables = [("GOROOT", words.next()?), ("PATH", words.next()?)];
    Some(TestBinary { path: binary.to_owned(), arguments: words.collect(), variables })
}

/// The first thing go complains about: a line with a place in it, or else any.
fn first_error(text: &str) -> String {
    let is_error = |line: &&str| line.contains(".go:") && !line.starts_with('#');
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let error = text.lines().find(is_error).or_else(|| lines.next());
    error.unwrap_or("go test failed").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_has_a_place() {
        let text = "# example.com/a [example.com/a.test]\n./a_test.go:5:2: undefined: x\nFAIL\texample.com/a [build failed]\n";
        assert_eq!(first_error(text), "./a_test.go:5:2: undefined: x");
        assert_eq!(first_error("go: go.mod file not found\n"), "go: go.mod file not found");
        assert_eq!(first_error(""), "go test failed");
    }
}
