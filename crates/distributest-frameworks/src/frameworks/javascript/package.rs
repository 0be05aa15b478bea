//! Reads what a project's `package.json` says of frameworks: dependencies, scripts, configuration.

use std::path::Path;

use super::literals::Literals;
use super::literals_of;
use crate::words;

/// The file's name.
pub(super) const PACKAGE: &str = "package.json";

/// A project's `package.json`; empty where there is none that can be read, which the framework itself will say.
pub(super) struct Package {
    /// Everything in it.
    pub(super) literals: Literals,
}

impl Package {
    /// Reads that of the project in this directory.
    pub(super) fn read(project: &Path) -> Package {
        Package { literals: literals_of(project, PACKAGE) }
    }

    /// The range of versions asked for, if it depends on this package.
    pub(super) fn dependency(&self, name: &str) -> Option<String> {
        ["devDependencies", "dependencies", "optionalDependencies"]
            .into_iter()
            .find_map(|kind| self.literals.value(&[kind, name]))
    }

    /// The major version asked for; `None` where the range does not say.
    pub(super) fn major_version(&self, name: &str) -> Option<u32> {
        let range = self.dependency(name)?;
        let digits = range.trim_start_matches(|character: char| !character.is_ascii_digit());
        digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    }

    /// What follows a program's name where the project's scripts start it: the script `test`, else the first whose name
    /// begins so. `marker` is a word that must be there. The worker programs look at the same place.
    pub(super) fn script(&self, program: &str, marker: Option<&str>) -> Option<Vec<String>> {
        let mut scripts = self.literals.below(&["scripts"]);
        scripts.retain(|script| script.path[1].starts_with("test"));
        scripts.sort_by_key(|script| script.path[1] != "test");
        let commands =
            scripts.iter().flat_map(|script| &script.values).flat_map(|text| text.split(['&', '|', ';']));
        commands.map(words::split).find_map(|command| {
            let is_program = |word: &String| program_name(word) == program;
            let start = command.iter().position(is_program)?;
            let given = &command[start + 1..];
            let has_marker = marker.is_none_or(|marker| given.iter().any(|word| word == marker));
            has_marker.then(|| given.to_vec())
        })
    }
}

/// `node_modules/jest/bin/jest.js` is `jest`.
fn program_name(word: &str) -> &str {
    let name = word.rsplit('/').next().unwrap_or(word);
    [".js", ".cjs", ".mjs"].into_iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(text: &str) -> Package {
        Package { literals: Literals::read(text) }
    }

    #[test]
    fn versions_are_read_from_ranges() {
        let package =
            package(r#"{"devDependencies": {"jest": "^29.7.0", "vitest": "latest", "mocha": ">=10 <12"}}"#);
        assert_eq!(package.major_version("jest"), Some(29));
        assert_eq!(package.major_version("mocha"), Some(10));
        assert_eq!(package.major_version("vitest"), None);
        assert!(package.dependency("vitest").is_some() && package.dependency("ava").is_none());
    }

    #[test]
    fn the_script_test_comes_first() {
        let package = package(
            r#"{"scripts": {"test:unit": "mocha unit", "test": "eslint . && NODE_ENV=test ./node_modules/.bin/mocha -r x 'spec/**/*.js'", "start": "node app"}}"#,
        );
        assert_eq!(package.script("mocha", None).unwrap(), ["-r", "x", "spec/**/*.js"]);
        assert_eq!(package.script("node", Some("--test")), None);
    }
}
