//! The arguments the project gives, which are those of `cargo test`: for cargo, and after `--` for the test binaries.
//!
//! A word that is neither an option nor an option's value is part of a test's name, on both sides of `--`. Options that only
//! test binaries have may stand before it as well, because what follows `--` on our own command line is taken for theirs.

use crate::kind::Unable;

/// Options of test binaries with which their results could not be followed.
const OWN_TO_THE_WORKER: [&str; 13] = [
    "--format",
    "--quiet",
    "-q",
    "--color",
    "--logfile",
    "--list",
    "--help",
    "-h",
    "--shuffle",
    "--shuffle-seed",
    "--report-time",
    "--ensure-time",
    "-Z",
];

/// Options of cargo that say which targets are built.
const OF_TARGETS: [&str; 11] = [
    "--lib",
    "--bin",
    "--bins",
    "--test",
    "--tests",
    "--example",
    "--examples",
    "--bench",
    "--benches",
    "--all-targets",
    "--doc",
];

/// Options of cargo that say which packages are.
const OF_PACKAGES: [&str; 6] = ["-p", "--package", "--workspace", "--all", "--exclude", "--manifest-path"];

/// Options of cargo that are followed by a value.
const WITH_VALUE: [&str; 16] = [
    "-p",
    "--package",
    "--exclude",
    "--manifest-path",
    "--lockfile-path",
    "-F",
    "--features",
    "-j",
    "--jobs",
    "--profile",
    "--target",
    "--target-dir",
    "--color",
    "--config",
    "-Z",
    "-C",
];

/// Those that may be.
const WITH_NAME: [&str; 4] = ["--bin", "--test", "--example", "--bench"];

/// Options that libtest has, and cargo has not.
const OF_LIBTEST: [&str; 10] = [
    "--ignored",
    "--include-ignored",
    "--exclude-should-panic",
    "--force-run-in-process",
    "--exact",
    "--nocapture",
    "--no-capture",
    "--show-output",
    "--skip",
    "--test-threads",
];

/// Arguments as `cargo test` takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// For cargo.
    pub(super) cargo: Vec<String>,
    /// For test binaries: options without value, `--skip` with its own.
    pub(super) options: Vec<String>,
    /// For test binaries: parts of names, of which a test's must contain one; after `--exact`, whole names.
    pub(super) filters: Vec<String>,
    /// The first of `options` that Rust's own harness does not have.
    pub(super) unknown_to_libtest: Option<String>,
}

impl Arguments {
    /// Takes them apart; those that can't be followed are refused.
    pub(super) fn parse(words: &[String]) -> Result<Arguments, Unable> {
        let (cargo, binaries) = match words.iter().position(|word| word == "--") {
            Some(dashes) => (&words[..dashes], &words[dashes + 1..]),
            None => (words, &[][..]),
        };
        let mut parsed = Arguments::default();
        let mut words = cargo.iter();
        while let Some(word) = words.next() {
            let name = name_of(word);
            if name == "--message-format" {
                return Err(refused(word));
            } else if OF_LIBTEST.contains(&name) || !word.starts_with('-') {
                parsed.take_of_binaries(word, &mut words)?;
            } else if !matches!(name, "--no-run" | "--no-fail-fast") {
                // These two are what is done here anyway.
                parsed.cargo.push(word.clone());
                let has_value = has_value(word, words.as_slice().first().map(String::as_str));
                parsed.cargo.extend(has_value.then(|| words.next()).flatten().cloned());
            }
        }
        let mut words = binaries.iter();
        while let Some(word) = words.next() {
            parsed.take_of_binaries(word, &mut words)?;
        }
        Ok(parsed)
    }

    /// Takes a word for test binaries, and its value from those behind it.
    fn take_of_binaries<'a>(
        &mut self,
        word: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Unable> {
        let name = name_of(word);
        let mut value = || if word == name { rest.next().cloned() } else { None };
        match name {
            _ if OWN_TO_THE_WORKER.contains(&name) => return Err(refused(word)),
            // One thread is never too many.
            "--test-threads" => _ = value(),
            "--exact" if !self.filters.iter().any(|filter| filter == word) => {
                self.filters.insert(0, word.to_owned());
            }
            "--exact" => {}
            "--skip" => {
                let value = value();
                self.options.push(word.to_owned());
                self.options.extend(value);
            }
            _ if !word.starts_with('-') => self.filters.push(word.to_owned()),
            // Test binaries take an option only once.
            _ if self.options.iter().any(|option| option == word) => {}
            _ => {
                let is_known = OF_LIBTEST.contains(&name) || matches!(word, "--test" | "--bench");
                self.unknown_to_libtest =
                    self.unknown_to_libtest.take().or((!is_known).then(|| word.to_owned()));
                self.options.push(word.to_owned());
            }
        }
        Ok(())
    }

    /// Whether cargo is told which targets to build.
    pub(super) fn choose_targets(&self) -> bool {
        self.have_one_of(&OF_TARGETS)
    }

    /// Whether cargo is told which packages to build.
    pub(super) fn choose_packages(&self) -> bool {
        self.have_one_of(&OF_PACKAGES)
    }

    /// Those for cargo that say neither which packages nor which targets.
    pub(super) fn without_choice(&self) -> Vec<&str> {
        let mut kept = Vec::new();
        let mut words = self.cargo.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let value = if has_value(word, words.peek().copied()) { words.next() } else { None };
            if !is_one_of(word, &OF_TARGETS) && !is_one_of(word, &OF_PACKAGES) {
                kept.push(word);
                kept.extend(value);
            }
        }
        kept
    }

    /// Whether test binaries are told to leave what tests write alone.
    pub(super) fn capture_nothing(&self) -> bool {
        self.options.iter().any(|word| word == "--nocapture" || word == "--no-capture")
    }

    fn have_one_of(&self, names: &[&str]) -> bool {
        self.cargo.iter().any(|word| is_one_of(word, names))
    }
}

/// An option without the value behind its `=`.
fn name_of(word: &str) -> &str {
    word.split('=').next().unwrap_or_default()
}

/// Whether the word behind an option of cargo's is its value.
fn has_value(option: &str, next: Option<&str>) -> bool {
    WITH_VALUE.contains(&option)
        || WITH_NAME.contains(&option) && next.is_some_and(|next| !next.starts_with('-'))
}

/// Whether a word is one of these options: alone, before `=`, or, for one letter, with its value attached.
fn is_one_of(word: &str, names: &[&str]) -> bool {
    let name = name_of(word);
    let is_short =
        |option: &&&str| option.len() == 2 && word.starts_with(**option) && !word.starts_with("--");
    names.contains(&name) || names.iter().find(is_short).is_some()
}

fn refused(word: &str) -> Unable {
    Unable {
        message: format!(
            "the argument {word} is for people who read what cargo prints; results can't be followed with it"
        ),
        hint: "leave it out: every test is reported without it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::parse(&words(line)).unwrap()
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_second_part_is_for_test_binaries() {
        let parsed = parse("--release --no-run -- --skip slow --ignored scheduler");
        assert_eq!(parsed.cargo, ["--release"]);
        assert_eq!(parsed.options, ["--skip", "slow", "--ignored"]);
        assert_eq!(parsed.filters, ["scheduler"]);
        assert!(!parsed.choose_targets() && !parsed.choose_packages());
    }

    #[test]
    fn choices_of_packages_and_targets_are_known_in_every_spelling() {
        for line in ["-p core", "-pcore", "--package=core", "--package core", "--workspace"] {
            assert!(parse(line).choose_packages(), "{line}");
        }
        assert!(!parse("--profile x").choose_packages());
        assert!(parse("--test=it").choose_targets());
        let parsed = parse("-p core --release -pcore --lib --test it --features a --bin=b");
        assert_eq!(parsed.without_choice(), ["--release", "--features", "a"]);
    }

    #[test]
    fn free_words_are_parts_of_names_on_both_sides() {
        let parsed =
            parse("parser --release --features a,b -p core --test it lexer --skip slow -- --ignored deep");
        assert_eq!(parsed.cargo.join(" "), "--release --features a,b -p core --test it");
        assert_eq!(parsed.options, ["--skip", "slow", "--ignored"]);
        assert_eq!(parsed.filters, ["parser", "lexer", "deep"]);
        let parsed = parse("--ignored --skip=a --test-threads 4 --exact a::b --tests --ignored");
        assert_eq!(
            (parsed.cargo.join(" ").as_str(), parsed.options.join(" ").as_str()),
            ("--tests", "--ignored --skip=a")
        );
        assert_eq!(parsed.filters, ["--exact", "a::b"]);
    }

    #[test]
    fn an_option_that_no_test_binary_has_is_known() {
        assert_eq!(parse("-- --ignored --logs x --fast").unknown_to_libtest.as_deref(), Some("--logs"));
        assert_eq!(parse("--logs -- --ignored").unknown_to_libtest, None, "it is for cargo to refuse");
    }

    #[test]
    fn what_would_hide_results_is_refused() {
        for line in ["-- --format=json", "-- -q", "--message-format=short", "-- --list"] {
            assert!(Arguments::parse(&words(line)).is_err(), "{line}");
        }
    }
}
