//! The arguments the project gives, which are those of `go test`.

use crate::kind::Unable;

/// Options of `go test` with which there would be no test binary to run, or none of its output to read.
const REFUSED: [&str; 5] = ["json", "c", "o", "i", "list"];

/// Options that other commands, which only build, take as well, and are alone.
const BUILD_SWITCHES: [&str; 8] =
    ["race", "msan", "asan", "cover", "trimpath", "linkshared", "modcacherw", "a"];

/// Those that have a value.
const BUILD_VALUES: [&str; 17] = [
    "tags",
    "mod",
    "modfile",
    "overlay",
    "ldflags",
    "gcflags",
    "asmflags",
    "gccgoflags",
    "compiler",
    "buildmode",
    "buildvcs",
    "installsuffix",
    "pkgdir",
    "toolexec",
    "covermode",
    "coverpkg",
    "pgo",
];

/// Arguments as `go test` takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// All but `-exec`.
    pub(super) words: Vec<String>,
    /// Those that matter to what is compiled.
    pub(super) of_build: Vec<String>,
    /// The program that runs test binaries, with its arguments.
    pub(super) runner: Vec<String>,
    /// Whether they say which tests are to run.
    pub(super) choose_tests: bool,
}

impl Arguments {
    /// Takes them apart; those that can't be followed are refused.
    pub(super) fn parse(words: &[String]) -> Result<Arguments, Unable> {
        let mut parsed = Arguments::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let (name, value) = option_of(word);
            if name == "args" {
                // What follows is the tests' own.
                parsed.words.push(word.clone());
                parsed.words.extend(rest.cloned());
                break;
            } else if REFUSED.contains(&name) {
                return Err(Unable {
                    message: format!(
                        "the argument {word} of go test is for people who read what it prints or keeps"
                    ),
                    hint: "leave it out: every test is reported without it".to_owned(),
                });
            } else if name == "exec" {
                let value = value.map(str::to_owned).or_else(|| rest.next().cloned()).unwrap_or_default();
                parsed.runner = value.split_whitespace().map(str::to_owned).collect();
                continue;
            } else if parsed.words.is_empty() && !word.starts_with('-') {
                return Err(Unable {
                    message: format!("go does not run {word} because it stands behind --"),
                    hint: format!("name packages and tests before --: distributest {word}"),
                });
            }
            parsed.choose_tests |= matches!(name, "run" | "skip");
            parsed.words.push(word.clone());
            let takes_next = value.is_none() && BUILD_VALUES.contains(&name);
            if BUILD_SWITCHES.contains(&name) || BUILD_VALUES.contains(&name) {
                parsed.of_build.push(word.clone());
            }
            if let Some(value) = takes_next.then(|| rest.next()).flatten() {
                parsed.words.push(value.clone());
                parsed.of_build.push(value.clone());
            }
        }
        Ok(parsed)
    }
}

/// Name and value of an option, `-name` or `--name`, perhaps with `=value`; the name is empty for other words.
fn option_of(word: &str) -> (&str, Option<&str>) {
    let Some(rest) = word.strip_prefix('-') else { return ("", None) };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    match rest.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (rest, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_matters_to_the_build_is_known() {
        let parsed =
            Arguments::parse(&words("-race -run=TestX -tags a,b --mod=vendor -short -args -json x")).unwrap();
        assert_eq!(parsed.of_build, ["-race", "-tags", "a,b", "--mod=vendor"]);
        assert_eq!(parsed.words.join(" "), "-race -run=TestX -tags a,b --mod=vendor -short -args -json x");
        assert!(parsed.choose_tests && parsed.runner.is_empty());
    }

    #[test]
    fn a_runner_is_taken_out_and_what_hides_results_is_refused() {
        let parsed = Arguments::parse(&["-exec".to_owned(), "qemu -x".to_owned(), "-v".to_owned()]).unwrap();
        assert_eq!((parsed.runner, parsed.words), (words("qemu -x"), words("-v")));
        for line in ["-json", "--json", "-c", "-o=x", "-list .", "./sub -v"] {
            assert!(Arguments::parse(&words(line)).is_err(), "{line}");
        }
    }
}
