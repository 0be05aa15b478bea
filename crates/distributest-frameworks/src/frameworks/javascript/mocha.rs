//! Mocha 8 or newer.

use std::path::{Path, PathBuf};

use super::literals::Literals;
use super::package::{PACKAGE, Package};
use super::{argument, is_program, literals_of, patterns, worker};
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::{Rules, without_dots};

/// In Mocha's order.
const CONFIGURATION: [&str; 6] =
    [".mocharc.cjs", ".mocharc.js", ".mocharc.yaml", ".mocharc.yml", ".mocharc.jsonc", ".mocharc.json"];

pub(crate) struct Mocha;

impl Definition for Mocha {
    fn name(&self) -> &str {
        "mocha"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let package = Package::read(project.directory());
        let is_used = package.dependency("mocha").is_some()
            || !package.literals.below(&["mocha"]).is_empty()
            || package.script("mocha", None).is_some();
        project
            .existing(&CONFIGURATION)
            .or_else(|| is_used.then(|| PACKAGE.to_owned()))
            .map(Evidence::certain)
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let settings = Settings::read(project, &Package::read(project));
        let mut rules = Rules::from_globs(project, &settings.globs(project))?;
        rules.include = patterns(&settings.globs(project))?;
        rules.exclude = patterns(&settings.ignore)?;
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        is_program(path)
    }

    /// One process for all files is what Mocha itself has, and each of the workers of its `--parallel`.
    fn isolations(&self) -> &'static [Isolation] {
        &[Isolation::Shared, Isolation::Fork, Isolation::Process]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let source = worker_source!("mocha_worker.cjs");
        worker("mocha_worker.cjs", source, self.isolations(), options)
    }
}

/// What Mocha's options say about finding files, as far as they can be read; Mocha's defaults where they say nothing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    /// Files, directories and globs.
    spec: Vec<String>,
    /// Endings of files in directories.
    extension: Vec<String>,
    /// Globs of files that don't count.
    ignore: Vec<String>,
    /// Whether directories are looked through to the bottom.
    recursive: bool,
}

impl Settings {
    /// Options of the script, the configuration file and `package.json` add up, as in Mocha.
    fn read(project: &Path, package: &Package) -> Settings {
        let mut settings = Settings::default();
        let script = package.script("mocha", None).unwrap_or_default();
        settings.take_words(&script);
        let given = argument(&script, &["--config"]).map(without_dots);
        let existing = || CONFIGURATION.into_iter().find(|name| project.join(name).is_file());
        match given.or_else(existing) {
            Some(name) if name.ends_with(".yaml") || name.ends_with(".yml") => {
                let text = std::fs::read(project.join(name)).unwrap_or_default();
                settings.take_lines(&String::from_utf8_lossy(&text));
            }
            Some(name) => settings.take_literals(&literals_of(project, name), &[]),
            None => {}
        }
        settings.take_literals(&package.literals, &["mocha"]);
        if settings.spec.is_empty() {
            settings.spec.push("test".to_owned());
        }
        if settings.extension.is_empty() {
            settings.extension = ["js", "cjs", "mjs"].map(str::to_owned).to_vec();
        }
        settings
    }

    fn take(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        let parts = values.into_iter();
        match name {
            "spec" => self.spec.extend(parts),
            "extension" => self.extension.extend(separate(parts)),
            "ignore" | "exclude" => self.ignore.extend(parts),
            "recursive" => self.recursive |= parts.into_iter().all(|value| value == "true"),
            _ => {}
        }
    }

    fn take_literals(&mut self, literals: &Literals, at: &[&str]) {
        for name in ["spec", "extension", "ignore", "exclude", "recursive"] {
            let path = [at, &[name]].concat();
            if literals.has(&path) {
                self.take(name, literals.values(&path));
            }
        }
    }

    /// The words of a command line. Those of options that are not known here are taken for files, and match nothing.
    fn take_words(&mut self, words: &[String]) {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            match name {
                "--extension" | "--ignore" | "--exclude" | "--spec" => {
                    let value = value.map(str::to_owned).or_else(|| words.next().cloned());
                    self.take(&name[2..], value);
                }
                "--recursive" => self.recursive = true,
                "-r" | "--require" | "--config" | "--file" | "--reporter" | "-R" | "--timeout" | "-t"
                | "--ui" | "-u" | "--grep" | "-g" | "--fgrep" | "-f" | "--retries" | "--reporter-option"
                | "-O" | "--package" | "--import" | "--loader" | "--slow" | "-s" | "--jobs" | "-j"
                    if value.is_none() =>
                {
                    words.next();
                }
                _ if name.starts_with('-') => {}
                _ => self.spec.push(word.clone()),
            }
        }
    }

    /// The YAML that such options are written in: `name: value`, `name: [a, b]`, and lists of lines that begin with `-`.
    fn take_lines(&mut self, text: &str) {
        let mut name = String::new();
        for line in text.lines().map(|line| line.split(" #").next().unwrap_or(line)) {
            if let Some(item) = line.trim().strip_prefix("- ") {
                self.take(&name, [unquoted(item)]);
            } else if let Some((key, value)) = line.split_once(':') {
                name = unquoted(key);
                let value = value.trim();
                let list = value.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
                match list {
                    Some(list) => self.take(&name, list.split(',').map(unquoted)),
                    None if value.is_empty() => {}
                    None => self.take(&name, [unquoted(value)]),
                }
            }
        }
    }

    /// What `spec` stands for, as globs: a directory for the files in it.
    fn globs(&self, project: &Path) -> Vec<String> {
        let endings =
            self.extension.iter().map(|ending| ending.trim_start_matches('.')).collect::<Vec<_>>().join(",");
        let below = if self.recursive { "**/" } else { "" };
        let as_glob = |spec: &String| {
            let path = without_dots(spec);
            match project.join(path).is_dir() {
                true if path.is_empty() => format!("{below}*.{{{endings}}}"),
                true => format!("{}/{below}*.{{{endings}}}", globset::escape(path)),
                false => path.to_owned(),
            }
        };
        self.spec.iter().map(as_glob).collect()
    }
}

fn separate(values: impl Iterator<Item = String>) -> Vec<String> {
    values.flat_map(|value| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()).collect()
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_words_say_the_same() {
        let mut from_lines = Settings::default();
        from_lines.take_lines("# comment\nspec:\n  - 'a/**/*.js'\n  - b # that\nextension: [ts, 'js']\nrecursive: true\nui: tdd\n");
        let mut from_words = Settings::default();
        let words =
            ["a/**/*.js", "-r", "c", "b", "--extension", "ts,js", "--recursive", "--ui=tdd", "--exit"];
        from_words.take_words(&words.map(str::to_owned));
        assert_eq!(from_lines, from_words);
        assert_eq!(from_lines.spec, ["a/**/*.js", "b"]);
    }
}
