//! The arguments the project gives, which are those of `cargo test`: for cargo, and after `--` for the test binaries.

use crate::kind::Unable;

/// Options of test binaries with which their results could not be followed.
const OWN_TO_THE_WORKER: [&str; 14] = [
    "--test-threads",
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

/// Options of cargo that are followed by a value, of those that matter here.
const WITH_VALUE: [&str; 7] =
    ["-p", "--package", "--exclude", "--manifest-path", "--bin", "--test", "--example"];

/// Arguments as `cargo test` takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// For cargo.
    pub(super) cargo: Vec<String>,
    /// For test binaries: options without value, `--skip` with its own.
    pub(super) options: Vec<String>,
    /// For test binaries: parts of names, of which a test's must contain one.
    pub(super) filters: Vec<String>,
}

impl Arguments {
    /// Takes them apart; those that can't be followed are refused.
    pub(super) fn parse(words: &[String]) -> Result<Arguments, Unable> {
        let (cargo, binaries) = match words.iter().position(|word| word == "--") {
            Some(dashes) => (&words[..dashes], &words[dashes + 1..]),
            None => (words, &[][..]),
        };
        let mut parsed = Arguments::default();
        // These only say how the build is reported, or what is done here anyway.
        let is_ours = |word: &&String| !matches!(word.as_str(), "--no-run" | "--no-fail-fast");
        parsed.cargo = cargo.iter().filter(is_ours).cloned().collect();
        if let Some(word) = cargo.iter().find(|word| word.starts_with("--message-format")) {
            return Err(refused(word));
        }
        let mut binaries = binaries.iter();
        while let Some(word) = binaries.next() {
            let name = word.split('=').next().unwrap_or_default();
            if OWN_TO_THE_WORKER.contains(&name) {
                return Err(refused(word));
            } else if word == "--skip" {
                parsed.options.extend([word.clone()]);
                parsed.options.extend(binaries.next().cloned());
            } else if word.starts_with('-') {
                parsed.options.push(word.clone());
            } else {
                parsed.filters.push(word.clone());
            }
        }
        Ok(parsed)
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
        let mut words = self.cargo.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let name = word.split('=').next().unwrap_or_default();
            if !is_one_of(word, &OF_TARGETS) && !is_one_of(word, &OF_PACKAGES) {
                kept.push(word);
            } else if WITH_VALUE.contains(&name) && word == name {
                words.next();
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

/// Whether a word is one of these options: alone, before `=`, or, for one letter, with its value attached.
fn is_one_of(word: &str, names: &[&str]) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    let is_short =
        |option: &&&str| option.len() == 2 && word.starts_with(**option) && !word.starts_with("--");
    names.contains(&name) || names.iter().find(is_short).is_some()
}

fn refused(word: &str) -> Unable {
    Unable {
        message: format!("the argument {word} is for people who read what cargo prints; results can't be followed with it"),
        hint: "leave it out; every runner runs one test at a time, and how many runners there are is chosen with --runners"
            .to_owned(),
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
    fn what_would_hide_results_is_refused() {
        for line in
            ["-- --test-threads 4", "-- --test-threads=4", "-- -q", "--message-format=short", "-- --list"]
        {
            assert!(Arguments::parse(&words(line)).is_err(), "{line}");
        }
    }
}
