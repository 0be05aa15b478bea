//! Reads the part of a project's RSpec options that says which files are specs.
//!
//! `.rspec` and then `.rspec-local` in the project's directory; a later option replaces an earlier one. The user's own
//! `~/.rspec` and `SPEC_OPTS` are left to RSpec itself: a project's files are the same for everyone.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::DiscoverError;
use crate::words;

/// What RSpec's options say about finding files; RSpec's defaults where they say nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RspecSettings {
    /// The directory specs are in, without a slash at the end.
    pub(crate) default_path: String,
    /// Comma-separated globs, in RSpec's own form.
    pub(crate) pattern: String,
    /// The same, of files to leave out.
    pub(crate) exclude_pattern: String,
}

impl RspecSettings {
    /// Reads the options of the project in this directory.
    pub(crate) fn read(project: &Path) -> Result<RspecSettings, DiscoverError> {
        let mut settings = RspecSettings {
            default_path: "spec".to_owned(),
            pattern: "**/*_spec.rb".to_owned(),
            exclude_pattern: String::new(),
        };
        for name in [".rspec", ".rspec-local"] {
            let path = project.join(name);
            match fs::read(&path) {
                Ok(bytes) => settings.take(&words::split(&String::from_utf8_lossy(&bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(DiscoverError::ReadSettings { path, source }),
            }
        }
        Ok(settings)
    }

    fn take(&mut self, options: &[String]) {
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => match option.strip_prefix("-P") {
                    Some(value) if !value.is_empty() => ("-P", Some(value.to_owned())),
                    _ => (option.as_str(), None),
                },
            };
            let target = match name {
                "-P" | "--pattern" => &mut self.pattern,
                "--exclude-pattern" => &mut self.exclude_pattern,
                "--default-path" => &mut self.default_path,
                _ => continue,
            };
            if let Some(value) = value.or_else(|| options.next().cloned()) {
                *target = value;
            }
        }
        self.default_path = self.default_path.trim_end_matches('/').to_owned();
    }

    /// An RSpec pattern as globs over paths relative to the project, for files looked for in `directory`. RSpec looks
    /// there and, unless the pattern begins with `**`, from the project's directory too.
    pub(crate) fn globs(pattern: &str, directory: &str) -> Vec<String> {
        // RSpec's idiom for following links, which discovery does anyway.
        let pattern = pattern.replace("**{,/*/**}", "**");
        let mut globs = Vec::new();
        for part in split_at_commas(&pattern) {
            let part = part.trim().trim_start_matches("./");
            if part.is_empty() {
                continue;
            }
            let from_project = part.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
            if from_project || !part.starts_with("**") {
                globs.push(part.to_owned());
            }
            if !from_project {
                globs.push(if directory.is_empty() {
                    part.to_owned()
                } else {
                    format!("{directory}/{part}")
                });
            }
        }
        globs
    }
}

/// The parts between commas that stand outside braces.
fn split_at_commas(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_all_their_forms_and_the_local_file_wins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(
            path.join(".rspec"),
            "--color --require spec_helper\n--pattern 'a/*_spec.rb'\n--default-path specs/\n",
        )
        .unwrap();
        fs::write(path.join(".rspec-local"), "-Pb/*_spec.rb\n--exclude-pattern=\"b/x*\"\n").unwrap();
        let settings = RspecSettings::read(path).unwrap();
        assert_eq!(settings.default_path, "specs");
        assert_eq!(settings.pattern, "b/*_spec.rb");
        assert_eq!(settings.exclude_pattern, "b/x*");
    }

    #[test]
    fn patterns_are_looked_for_in_the_directory_and_in_the_project() {
        assert_eq!(RspecSettings::globs("**{,/*/**}/*_spec.rb", "spec"), ["spec/**/*_spec.rb"]);
        assert_eq!(RspecSettings::globs("./spec/unit/*_spec.rb", "spec"), ["spec/unit/*_spec.rb"]);
        assert_eq!(
            RspecSettings::globs("{a,b}/*_spec.rb, spec/c_spec.rb", "spec"),
            ["{a,b}/*_spec.rb", "spec/{a,b}/*_spec.rb", "spec/c_spec.rb"]
        );
    }
}
