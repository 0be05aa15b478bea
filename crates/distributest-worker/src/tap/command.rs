//! How a file is run: by which program and with which switches, as `prove` decides it.
//!
//! The options are `prove`'s own, from the project's `.proverc` and from the command line (`distributest -- -w -It/lib`,
//! after `::` those of the tests). Those about order, colour and display mean nothing here; those that change `prove`
//! itself (`-P`, `-M`, `--source`, `--harness`) can't be followed and are refused. `HARNESS_PERL_SWITCHES`, by which
//! coverage is measured, `HARNESS_IGNORE_EXIT` and `HARNESS_PERL` count as well.
//!
//! One thing is added: where no directory of modules is named, tests find those of the project, as with `make test`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::kind::Unable;

/// The version of TAP::Harness that is followed here, as tests find it in their environment.
const HARNESS_VERSION: &str = "3.44";

/// How much of a file tells what it is.
const LOOK_BYTES: u64 = 512;

/// What `prove` was told about running files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProveOptions {
    /// Directories of modules, for `PERL5LIB`.
    pub(super) libraries: Vec<String>,
    /// Perl's switches.
    pub(super) switches: Vec<String>,
    /// Runs every file; empty: the file itself is executed.
    pub(super) interpreter: Option<Vec<String>>,
    /// Standard error is part of the document.
    pub(super) merge: bool,
    /// A file's exit status does not count.
    pub(super) ignore_exit: bool,
    /// What every file gets as its arguments.
    pub(super) test_arguments: Vec<String>,
}

/// Where a project's modules are, built or as they are; the first that is there.
const MODULES: [&[&str]; 2] = [&["blib/lib", "blib/arch"], &["lib"]];

/// `prove`'s long options.
const LONG: [&str; 43] = [
    "archive",
    "blib",
    "color",
    "colour",
    "comments",
    "count",
    "directives",
    "dry",
    "exec",
    "ext",
    "failures",
    "formatter",
    "harness",
    "help",
    "ignore-exit",
    "jobs",
    "lib",
    "man",
    "merge",
    "no-color",
    "no-colour",
    "no-count",
    "nocolor",
    "nocolour",
    "nocount",
    "norc",
    "normalize",
    "parse",
    "quiet",
    "QUIET",
    "rc",
    "recurse",
    "reverse",
    "rules",
    "shuffle",
    "source",
    "state",
    "statefile",
    "tapversion",
    "timer",
    "trap",
    "verbose",
    "version",
];

/// `prove`'s short options without a value that are about order and display.
const SHORT_OF_DISPLAY: &str = "vfoscDrpqQhHV?";

/// Long options with a value that does not matter here.
const LONG_WITH_VALUE: [&str; 5] = ["ext", "formatter", "state", "statefile", "rules"];

/// Those with a value that change `prove` itself.
const LONG_REFUSED: [&str; 5] = ["harness", "norc", "rc", "source", "tapversion"];

impl ProveOptions {
    /// Reads the project's `.proverc`, which may be missing, and then the words of the command line.
    pub(super) fn read(project: &Path, arguments: &[String]) -> Result<ProveOptions, Unable> {
        let path = project.join(".proverc");
        let text = match fs::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Unable {
                    message: format!("failed to read {}: {error}", path.display()),
                    hint: "make it readable, or remove it".to_owned(),
                });
            }
        };
        let separator = arguments.iter().position(|word| word == "::").unwrap_or(arguments.len());
        let (own, of_tests) = arguments.split_at(separator);
        let mut options = ProveOptions {
            test_arguments: of_tests.iter().skip(1).cloned().collect(),
            ..ProveOptions::default()
        };
        options.take(words_of_rc_file(&text).into_iter().chain(own.iter().cloned()))?;
        options.take_environment(
            &std::env::var("HARNESS_PERL_SWITCHES").unwrap_or_default(),
            std::env::var("HARNESS_IGNORE_EXIT").is_ok_and(|value| !matches!(value.as_str(), "" | "0")),
        );
        if options.libraries.is_empty() {
            let found = MODULES.iter().find(|places| project.join(places[0]).is_dir());
            options.libraries =
                found.map_or(&[][..], |places| places).iter().map(|place| (*place).to_owned()).collect();
        }
        Ok(options)
    }

    fn take(&mut self, words: impl Iterator<Item = String>) -> Result<(), Unable> {
        let (mut lib, mut blib, mut includes) = (false, false, Vec::new());
        let mut words = words;
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                let mut value = || value.map(str::to_owned).or_else(|| words.next()).unwrap_or_default();
                // `prove` takes any beginning that is clear.
                let mut candidates = LONG.iter().filter(|candidate| candidate.starts_with(name));
                let name = match (candidates.next(), candidates.next()) {
                    _ if LONG.contains(&name) => name,
                    (Some(candidate), None) => candidate,
                    _ => return Err(unknown(&word)),
                };
                match name {
                    "lib" => lib = true,
                    "blib" => blib = true,
                    "merge" => self.merge = true,
                    "ignore-exit" => self.ignore_exit = true,
                    "exec" => self.set_interpreter(&value()),
                    "jobs" | "archive" => drop(value()),
                    name if LONG_WITH_VALUE.contains(&name) => drop(value()),
                    name if LONG_REFUSED.contains(&name) => return Err(refused(&word)),
                    // The others have no value and are about order and display.
                    _ => {}
                }
                continue;
            }
            // Short ones may stand in one word; one with a value takes the rest of it, or the next word.
            let Some(mut short) = word.strip_prefix('-') else { return Err(not_an_option(&word)) };
            while let Some(letter) = short.chars().next() {
                short = &short[letter.len_utf8()..];
                let mut value = || match std::mem::take(&mut short) {
                    "" => words.next().unwrap_or_default(),
                    rest => rest.strip_prefix('=').unwrap_or(rest).to_owned(),
                };
                match letter {
                    'l' => lib = true,
                    'b' => blib = true,
                    'm' => self.merge = true,
                    'T' | 't' | 'W' | 'w' => self.switches.push(format!("-{letter}")),
                    'I' => includes.push(value()),
                    'e' => {
                        let interpreter = value();
                        self.set_interpreter(&interpreter);
                    }
                    'a' | 'j' => drop(value()),
                    'P' | 'M' => return Err(refused(&format!("-{letter}"))),
                    _ if SHORT_OF_DISPLAY.contains(letter) => {}
                    _ => return Err(unknown(&format!("-{letter}"))),
                }
            }
        }
        let of_flags = lib
            .then_some("lib")
            .into_iter()
            .chain(blib.then_some(["blib/lib", "blib/arch"]).into_iter().flatten());
        self.libraries = of_flags.map(str::to_owned).chain(includes).collect();
        Ok(())
    }

    fn take_environment(&mut self, switches: &str, ignore_exit: bool) {
        self.ignore_exit |= ignore_exit;
        let mut words = switches.split_whitespace().map(str::to_owned);
        while let Some(word) = words.next() {
            match word.strip_prefix("-I") {
                Some("") => self.libraries.extend(words.next()),
                Some(library) => self.libraries.push(library.to_owned()),
                None => self.switches.push(word),
            }
        }
    }

    fn set_interpreter(&mut self, words: &str) {
        self.interpreter = Some(words.split_whitespace().map(str::to_owned).collect());
    }

    /// The command that runs a file.
    pub(super) fn command(&self, project: &Path, file: &str) -> io::Result<Command> {
        // The path never looks like a switch, nor like a name to find in PATH.
        let is_plain = file.contains('/') && !file.starts_with('-');
        let path = if is_plain { file.to_owned() } else { format!("./{file}") };
        let libraries: Vec<_> = self.libraries.iter().map(|library| project.join(library)).collect();
        let mut command = match &self.interpreter {
            Some(words) => with_interpreter(words, &path),
            None => match Nature::of(Path::new(&path))? {
                Nature::Program => Command::new(&path),
                Nature::Script(words) => with_interpreter(&words, &path),
                Nature::Perl { taint } => self.perl(&libraries, taint, &path),
            },
        };
        command.args(&self.test_arguments);
        command.env("HARNESS_ACTIVE", "1").env("HARNESS_VERSION", HARNESS_VERSION).env("TAP_VERSION", "13");
        let inherited = std::env::var_os("PERL5LIB").unwrap_or_default();
        let all =
            libraries.into_iter().map(OsString::from).chain((!inherited.is_empty()).then_some(inherited));
        let all: Vec<OsString> = all.collect();
        if !all.is_empty() {
            command.env("PERL5LIB", all.join(std::ffi::OsStr::new(":")));
        }
        Ok(command)
    }

    fn perl(&self, libraries: &[std::path::PathBuf], taint: Option<String>, path: &str) -> Command {
        let mut command = Command::new(perl());
        command.args(&self.switches).args(&taint);
        // In taint mode Perl does not look at its environment variables, so they become switches.
        if taint.is_some() || self.switches.iter().any(|switch| switch.eq_ignore_ascii_case("-t")) {
            let inherited = std::env::var_os("PERL5LIB").unwrap_or_default();
            let inherited = std::env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
            for library in libraries.iter().cloned().chain(inherited) {
                let mut switch = OsString::from("-I");
                switch.push(library);
                command.arg(switch);
            }
            command.args(std::env::var("PERL5OPT").unwrap_or_default().split_whitespace());
        }
        command.arg(path);
        command
    }
}

/// The Perl that runs tests, as `prove` lets it be chosen.
pub(super) fn perl() -> String {
    std::env::var("HARNESS_PERL").unwrap_or_else(|_| "perl".to_owned())
}

fn with_interpreter(words: &[String], path: &str) -> Command {
    let Some((program, arguments)) = words.split_first() else { return Command::new(path) };
    let mut command = Command::new(program);
    command.args(arguments).arg(path);
    command
}

fn refused(option: &str) -> Unable {
    Unable {
        message: format!("prove's option {option} changes prove itself, and prove does not run here"),
        hint: "take it out of .proverc and of the arguments; `command` and `results` run any other program"
            .to_owned(),
    }
}

fn unknown(option: &str) -> Unable {
    Unable {
        message: format!("tap: prove has no option {option}"),
        hint: "see `prove --help` for what it takes; arguments for the tests stand after `::`".to_owned(),
    }
}

fn not_an_option(word: &str) -> Unable {
    Unable {
        message: format!("tap: {word:?} is no option of prove"),
        hint: "name files in `files`, and before -- on the command line; arguments for the tests stand after `::`"
            .to_owned(),
    }
}

/// The words of a `.proverc`: quoted ones, and what stands between white space; `#` begins a comment.
fn words_of_rc_file(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let quote = rest.chars().next().filter(|first| matches!(first, '\'' | '"'));
            let quoted = quote.and_then(|quote| rest[1..].split_once(quote));
            let (word, after) =
                quoted.unwrap_or_else(|| rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())));
            words.push(word.to_owned());
            rest = after.trim_start();
        }
    }
    words
}

/// What kind of program a file is.
#[derive(Debug, PartialEq, Eq)]
enum Nature {
    /// An executable that is no text.
    Program,
    /// A script whose first line names another interpreter than Perl.
    Script(Vec<String>),
    /// Everything else; in taint mode if its first line says so.
    Perl { taint: Option<String> },
}

impl Nature {
    fn of(path: &Path) -> io::Result<Nature> {
        let file = File::open(path)?;
        let is_executable = file.metadata()?.permissions().mode() & 0o111 != 0;
        let mut begin = Vec::new();
        file.take(LOOK_BYTES).read_to_end(&mut begin)?;
        Ok(Nature::read(&begin, is_executable))
    }

    fn read(begin: &[u8], is_executable: bool) -> Nature {
        let first = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let Some(said) = first.strip_prefix(b"#!") else {
            let is_program = is_executable && begin.contains(&0);
            return if is_program { Nature::Program } else { Nature::Perl { taint: None } };
        };
        let said = String::from_utf8_lossy(said);
        let Some(perl) = said.find("perl") else {
            // As the kernel reads it: an interpreter, and all the rest as one argument.
            let (interpreter, argument) =
                said.trim().split_once(char::is_whitespace).unwrap_or((said.trim(), ""));
            let words = [interpreter, argument.trim()].into_iter().filter(|word| !word.is_empty());
            return Nature::Script(words.map(str::to_owned).collect());
        };
        let switches = said[perl..].split_whitespace().skip(1).filter_map(|word| word.strip_prefix('-'));
        let mut letters = switches.flat_map(|word| word.chars().take_while(char::is_ascii_alphanumeric));
        let taint = letters.find(|letter| matches!(letter, 't' | 'T')).map(|letter| format!("-{letter}"));
        Nature::Perl { taint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rc: &str, arguments: &[&str]) -> Result<ProveOptions, Unable> {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join(".proverc"), rc).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        ProveOptions::read(project.path(), &arguments)
    }

    #[test]
    fn options_come_from_the_rc_file_and_the_command_line() {
        let rc = "-lwv  # a comment\n--jobs 4 '-It/my lib'\n\"-I\" \"t/lib2\"\n--state=save,hot --merge\n";
        let read = options(rc, &["-b", "-Ifoo", "--ignore-exit", "-j8", "::", "--fast", "-x"]).unwrap();
        assert_eq!(
            read,
            ProveOptions {
                libraries: ["lib", "blib/lib", "blib/arch", "t/my lib", "t/lib2", "foo"]
                    .map(str::to_owned)
                    .to_vec(),
                switches: vec!["-w".to_owned()],
                interpreter: None,
                merge: true,
                ignore_exit: true,
                test_arguments: vec!["--fast".to_owned(), "-x".to_owned()],
            }
        );
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(options("", &["--exec", "ruby -w"]).unwrap().interpreter, words(&["ruby", "-w"]));
        assert_eq!(options("", &["-e", ""]).unwrap().interpreter, words(&[]));
    }

    #[test]
    fn the_environment_of_a_harness_counts() {
        let mut read = ProveOptions::default();
        read.take_environment("-MDevel::Cover=-db,cover -Iinc -I more", true);
        assert_eq!((read.switches, read.ignore_exit), (vec!["-MDevel::Cover=-db,cover".to_owned()], true));
        assert_eq!(read.libraries, ["inc", "more"]);
    }

    #[test]
    fn modules_of_the_project_are_found_unless_others_are_named() {
        let project = tempfile::tempdir().unwrap();
        let libraries = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            ProveOptions::read(project.path(), &arguments).unwrap().libraries
        };
        assert_eq!(libraries(&[]), Vec::<String>::new());
        fs::create_dir(project.path().join("lib")).unwrap();
        assert_eq!(libraries(&["-w"]), ["lib"]);
        assert_eq!(libraries(&["-Iinc"]), ["inc"]);
        fs::create_dir_all(project.path().join("blib/lib")).unwrap();
        assert_eq!(libraries(&[]), ["blib/lib", "blib/arch"]);
    }

    #[test]
    fn what_changes_prove_itself_is_refused() {
        for (word, named) in [("-PMyPlugin", "-P"), ("--harness=Mine", "--harness=Mine"), ("t/a.t", "t/a.t")]
        {
            let refused = options("", &[word]).unwrap_err();
            assert!(refused.message.contains(named), "{}", refused.message);
        }
    }

    #[test]
    fn what_prove_does_not_know_is_refused_and_what_is_short_is_completed() {
        for word in ["--no-such", "--sha-such", "-lZ", "--st", "--no"] {
            let refused = options("", &[word]).unwrap_err();
            assert!(refused.message.starts_with("tap: prove has no option -"), "{}", refused.message);
        }
        assert!(
            options("", &["--verb", "--color", "--nocount", "-rsvfoc", "--state=save", "--QUIET"]).is_ok()
        );
        assert!(options("", &["--mer", "--ignore"]).is_ok_and(|read| read.merge && read.ignore_exit));
    }

    #[test]
    fn a_file_says_what_runs_it() {
        let perl = |taint: Option<&str>| Nature::Perl { taint: taint.map(str::to_owned) };
        let script = |words: &[&str]| Nature::Script(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(Nature::read(b"use strict;\n", true), perl(None));
        assert_eq!(Nature::read(b"", false), perl(None));
        assert_eq!(Nature::read(b"#!/usr/bin/perl -wT\n", false), perl(Some("-T")));
        assert_eq!(Nature::read(b"#!/usr/bin/env perl -t", false), perl(Some("-t")));
        assert_eq!(Nature::read(b"#!perl -w\n", false), perl(None));
        assert_eq!(Nature::read(b"#!/bin/sh\n", false), script(&["/bin/sh"]));
        assert_eq!(Nature::read(b"#! /usr/bin/env bash -e \n", true), script(&["/usr/bin/env", "bash -e"]));
        assert_eq!(Nature::read(b"\x7fELF\0\0", true), Nature::Program);
        assert_eq!(Nature::read(b"\x7fELF\0\0", false), perl(None));
    }
}
