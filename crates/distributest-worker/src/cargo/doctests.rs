//! Runs the examples in the documentation of a library: `cargo test --doc`, which has rustdoc compile and run each.
//!
//! rustdoc takes names of tests apart at their blanks, so single examples can't be asked for by name: those at the same lines
//! of any file are run, and of them the wanted ones are reported.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use distributest_core::test_result::TestStatus;

use super::arguments::Arguments;
use super::panic::account_of;
use crate::excerpt::Excerpt;
use crate::link::{Link, Stop};
use crate::program::{self, Ending, Piped, Reader, Stream, pass_on};
use crate::report::{Entry, Report};

/// How much of each end of what rustdoc prints on failures is kept.
const OUTPUT_BYTES: usize = 4 * 1024 * 1024;

/// A library's documentation.
pub(super) struct Documentation<'a> {
    pub(super) cargo: &'a Path,
    pub(super) arguments: &'a Arguments,
    /// The directory of its package.
    pub(super) package: &'a Path,
    /// That of its workspace, which rustdoc's paths are relative to.
    pub(super) workspace: &'a Path,
    /// That which places in reports are relative to.
    pub(super) project: &'a Path,
}

impl Documentation<'_> {
    /// Runs the examples of these ids; without any, all.
    pub(super) fn run(&self, ids: &[String], report: &mut Report, link: &mut Link) -> Result<(), Stop> {
        let mut command = Command::new(self.cargo);
        command.current_dir(self.workspace).args(["test", "--doc"]);
        command.arg("--manifest-path").arg(self.package.join("Cargo.toml"));
        command.args(self.arguments.without_choice());
        command.args(["--", "--format=pretty", "--color=never"]).args(&self.arguments.options);
        if ids.is_empty() {
            command.args(&self.arguments.filters);
        } else {
            command.args(ids.iter().filter_map(|id| id.rsplit(' ').next()));
        }
        let mut listener = Listener {
            documentation: self,
            is_whole: ids.is_empty(),
            wanted: ids.iter().cloned().collect(),
            report,
            line: Vec::new(),
            last: Instant::now(),
            has_begun: false,
            has_failed: false,
            failed: Vec::new(),
            output: Excerpt::new(OUTPUT_BYTES),
            messages: Excerpt::new(OUTPUT_BYTES),
        };
        let ending = program::run(command, Piped::Both, link, &mut listener)?;
        listener.conclude(&ending, link)
    }

    /// `src/lib.rs - add (line 3)` says where it stands.
    fn place(&self, id: &str) -> (Option<String>, Option<u32>) {
        let path = id.split(" - ").next().unwrap_or_default();
        let path = self.workspace.join(path);
        let file = path.strip_prefix(self.project).ok().map(|path| path.to_string_lossy().into_owned());
        (file, line_of(id).and_then(|line| line.parse().ok()))
    }
}

/// What rustdoc prints.
struct Listener<'a> {
    documentation: &'a Documentation<'a>,
    is_whole: bool,
    /// The ids asked for that were not yet seen.
    wanted: HashSet<String>,
    report: &'a mut Report,
    line: Vec<u8>,
    /// When the last result came.
    last: Instant,
    has_begun: bool,
    /// Whether any example failed, wanted or not.
    has_failed: bool,
    failed: Vec<(String, Duration)>,
    output: Excerpt,
    messages: Excerpt,
}

impl Reader for Listener<'_> {
    fn read(&mut self, stream: Stream, bytes: &[u8], link: &mut Link) -> Result<(), Stop> {
        pass_on(stream, bytes)?;
        if stream == Stream::Stderr {
            self.messages.push(bytes);
            return Ok(());
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // Lines without end are no results.
            if self.line.len() < OUTPUT_BYTES {
                self.line.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.output.push(&line);
                self.take(String::from_utf8_lossy(&line).trim_end(), link)?;
            }
        }
        Ok(())
    }
}

impl Listener<'_> {
    fn take(&mut self, line: &str, link: &mut Link) -> Result<(), Stop> {
        self.has_begun |= line.starts_with("running ");
        let Some((id, result)) = result_of(line) else { return Ok(()) };
        self.has_failed |= result == "FAILED";
        let duration = self.last.elapsed();
        self.last = Instant::now();
        if !self.is_whole && !self.wanted.remove(id) {
            return Ok(());
        }
        let entry = match result {
            "ok" => self.entry(id, TestStatus::Passed, duration),
            "FAILED" => {
                self.failed.push((id.to_owned(), duration));
                return Ok(());
            }
            ignored => {
                let reason = ignored.strip_prefix("ignored, ").unwrap_or("ignored");
                self.entry(id, TestStatus::Skipped, duration).because(reason, "")
            }
        };
        self.report.test(entry, link)
    }

    /// Says what is only clear when everything was printed.
    fn conclude(mut self, ending: &Ending, link: &mut Link) -> Result<(), Stop> {
        let output = self.output.text();
        let accounts = accounts(&output);
        for (id, duration) in std::mem::take(&mut self.failed) {
            let details = accounts.get(id.as_str()).copied().unwrap_or_default();
            let message = message_of(details);
            let entry = self.entry(&id, TestStatus::Failed, duration).because(message, details);
            self.report.test(entry, link)?;
        }
        for id in std::mem::take(&mut self.wanted) {
            self.report.fault(format!("the test {id} is not there any more"));
        }
        let is_success = matches!(ending, Ending::Exited(exit) if exit.is_success());
        if !self.has_begun && !is_success {
            let messages = self.messages.text();
            let error = messages.lines().find(|line| line.starts_with("error"));
            self.report.broken(error.unwrap_or("cargo test --doc failed"), &messages);
        } else if !is_success && !self.has_failed {
            self.report.fault("rustdoc failed without a failing example");
        }
        Ok(())
    }

    /// An example with nothing more to say of it.
    fn entry(&self, id: &str, status: TestStatus, duration: Duration) -> Entry {
        Entry {
            id: id.to_owned(),
            name: id.to_owned(),
            status,
            duration,
            message: String::new(),
            details: String::new(),
            place: self.documentation.place(id),
        }
    }
}

/// The id and the result in a line `test src/lib.rs - add (line 3) - compile ... ok`.
fn result_of(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let is_result = matches!(result, "ok" | "FAILED" | "ignored") || result.starts_with("ignored, ");
    let line_begin = name.rfind("(line ")?;
    let id_end = line_begin + name[line_begin..].find(')')? + 1;
    is_result.then_some((&name[..id_end], result))
}

fn line_of(id: &str) -> Option<&str> {
    id.rsplit_once("(line ")?.1.strip_suffix(')')
}

/// What is printed of each failed test.
fn accounts(output: &str) -> HashMap<&str, &str> {
    let mut accounts = HashMap::new();
    for part in output.split("\n---- ").skip(1) {
        let Some((id, text)) = part.split_once(" stdout ----\n") else { continue };
        let text = text.split("\nfailures:\n    ").next().unwrap_or_default();
        accounts.insert(id, text.trim_matches('\n'));
    }
    accounts
}

/// Why an example failed: the compiler's error, its panic, or rustdoc's own words.
fn message_of(details: &str) -> String {
    let error = details.lines().find(|line| line.starts_with("error"));
    let is_panic = details.contains(" panicked at ");
    match error {
        Some(error) if !is_panic => error.to_owned(),
        _ if is_panic => account_of(details).message,
        _ => details.lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_with_what_rustdoc_adds_to_names() {
        assert_eq!(result_of("test a/src/lib.rs - (line 2) ... ok"), Some(("a/src/lib.rs - (line 2)", "ok")));
        let line = "test src/lib.rs - add (line 18) - compile fail ... FAILED";
        assert_eq!(result_of(line), Some(("src/lib.rs - add (line 18)", "FAILED")));
        let line = "test src/lib.rs - add (line 12) ... ignored";
        assert_eq!(result_of(line), Some(("src/lib.rs - add (line 12)", "ignored")));
        assert_eq!(result_of("test result: ok. 0 passed"), None);
        assert_eq!(line_of("src/lib.rs - add (line 12)"), Some("12"));
    }

    #[test]
    fn accounts_of_failures_tell_why() {
        let output = "\nfailures:\n\n---- src/lib.rs - a (line 9) stdout ----\nTest executable failed (exit status: 101).\n\n\
            stderr:\n\nthread 'main' (6) panicked at /tmp/x.rs:32:1:\nboom\nnote: x\n\n\n\
            ---- src/lib.rs - b (line 1) stdout ----\nerror[E0308]: mismatched types\n --> src/lib.rs:2:1\n\n\
            failures:\n    src/lib.rs - a (line 9)\n";
        let accounts = accounts(output);
        assert_eq!(message_of(accounts["src/lib.rs - a (line 9)"]), "boom");
        assert_eq!(message_of(accounts["src/lib.rs - b (line 1)"]), "error[E0308]: mismatched types");
        assert_eq!(
            message_of("Test compiled successfully, but it's marked `compile_fail`."),
            "Test compiled successfully, but it's marked `compile_fail`."
        );
    }
}
