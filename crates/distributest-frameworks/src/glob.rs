//! The kinds of patterns: the project's globs over whole paths, Python's `fnmatch` over names, and regular expressions.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use regex::bytes::Regex;

/// A pattern together with its text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    /// Of a path relative to the project.
    Path(GlobMatcher),
    /// Of its last name.
    Name(GlobMatcher),
    /// Found anywhere in the path below this directory.
    Regex(Regex, PathBuf),
}

impl Pattern {
    /// A glob over paths relative to the project: `*` and `?` stay within a name, `**` spans directories.
    pub(crate) fn over_paths(text: &str) -> Result<Pattern, globset::Error> {
        let relative = text.strip_prefix("./").unwrap_or(text);
        let glob = GlobBuilder::new(relative).literal_separator(true).build()?;
        Ok(Pattern { text: text.to_owned(), matcher: Matcher::Path(glob.compile_matcher()) })
    }

    /// A pattern as pytest reads it: over the last name of a path, or, where it has a slash itself, over the end of
    /// the path; `*` matches anything, braces are ordinary characters.
    pub(crate) fn fnmatch(text: &str) -> Result<Pattern, globset::Error> {
        let escaped = text.replace('{', "[{]").replace('}', "[}]");
        let on_name = !text.contains('/');
        let glob = if on_name { escaped } else { format!("{{,**/}}{}", escaped.trim_start_matches("./")) };
        let glob = GlobBuilder::new(&glob).literal_separator(false).backslash_escape(false).build()?;
        let kind = if on_name { Matcher::Name } else { Matcher::Path };
        Ok(Pattern { text: text.to_owned(), matcher: kind(glob.compile_matcher()) })
    }

    /// A regular expression that is looked for in whole paths, those of the project's files below `directory`.
    pub(crate) fn regex(text: &str, directory: &Path) -> Result<Pattern, regex::Error> {
        let matcher = Matcher::Regex(Regex::new(text)?, directory.to_owned());
        Ok(Pattern { text: text.to_owned(), matcher })
    }

    /// Whether a project-relative path matches.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        match &self.matcher {
            Matcher::Path(matcher) => matcher.is_match(path),
            Matcher::Name(matcher) => path.file_name().is_some_and(|name| matcher.is_match(name)),
            Matcher::Regex(regex, directory) => {
                regex.is_match(directory.join(path).as_os_str().as_encoded_bytes())
            }
        }
    }

    /// Whether one of the glob's own components is this name, so that whoever wrote it means it.
    pub(crate) fn names(&self, component: &str) -> bool {
        self.text.split('/').any(|part| part == component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_over_paths_keep_to_directories() {
        let glob = Pattern::over_paths("./spec/**/*_spec.rb").unwrap();
        assert!(glob.matches(Path::new("spec/a_spec.rb")));
        assert!(glob.matches(Path::new("spec/a/b/c_spec.rb")));
        assert!(!glob.matches(Path::new("lib/spec/a_spec.rb")));
        let flat = Pattern::over_paths("t/*.sh").unwrap();
        assert!(!flat.matches(Path::new("t/sub/a.sh")));
        assert!(flat.names("t") && !flat.names("sub"));
    }

    #[test]
    fn fnmatch_patterns_match_names_or_ends_of_paths() {
        let name = Pattern::fnmatch("test_*.py").unwrap();
        assert!(name.matches(Path::new("a/b/test_it.py")));
        assert!(!name.matches(Path::new("test_dir.py/helper.py")));
        let path = Pattern::fnmatch("tests/unit*.py").unwrap();
        assert!(path.matches(Path::new("tests/unit/deep/a.py")));
        assert!(path.matches(Path::new("a/tests/unit_b.py")));
        let braces = Pattern::fnmatch("{arch}").unwrap();
        assert!(braces.matches(Path::new("{arch}")) && !braces.matches(Path::new("arch")));
    }

    #[test]
    fn regular_expressions_look_at_whole_paths() {
        let regex = Pattern::regex("/project/src/.*\\.spec\\.ts$", Path::new("/home/project")).unwrap();
        assert!(regex.matches(Path::new("src/deep/a.spec.ts")));
        assert!(!regex.matches(Path::new("src/a.spec.tsx")) && !regex.matches(Path::new("lib/a.spec.ts")));
    }

    #[test]
    fn names_that_are_not_utf_8_match_too() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"tests/test_\xff.py"));
        assert!(Pattern::fnmatch("test_*.py").unwrap().matches(path));
        assert!(Pattern::over_paths("tests/*.py").unwrap().matches(path));
    }
}
