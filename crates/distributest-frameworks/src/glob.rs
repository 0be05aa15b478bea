//! The two kinds of patterns: the project's globs over whole paths, and Python's `fnmatch` over names.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// A pattern together with its text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) text: String,
    matcher: GlobMatcher,
    on_name: bool,
}

impl Pattern {
    /// A glob over paths relative to the project: `*` and `?` stay within a name, `**` spans directories.
    pub(crate) fn over_paths(text: &str) -> Result<Pattern, globset::Error> {
        let relative = text.strip_prefix("./").unwrap_or(text);
        let glob = GlobBuilder::new(relative).literal_separator(true).build()?;
        Ok(Pattern { text: text.to_owned(), matcher: glob.compile_matcher(), on_name: false })
    }

    /// A pattern as pytest reads it: over the last name of a path, or, where it has a slash itself, over the end of
    /// the path; `*` matches anything, braces are ordinary characters.
    pub(crate) fn fnmatch(text: &str) -> Result<Pattern, globset::Error> {
        let escaped = text.replace('{', "[{]").replace('}', "[}]");
        let on_name = !text.contains('/');
        let glob = if on_name { escaped } else { format!("{{,**/}}{}", escaped.trim_start_matches("./")) };
        let glob = GlobBuilder::new(&glob).literal_separator(false).backslash_escape(false).build()?;
        Ok(Pattern { text: text.to_owned(), matcher: glob.compile_matcher(), on_name })
    }

    /// Whether a project-relative path matches.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        if self.on_name {
            path.file_name().is_some_and(|name| self.matcher.is_match(name))
        } else {
            self.matcher.is_match(path)
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
    fn names_that_are_not_utf_8_match_too() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"tests/test_\xff.py"));
        assert!(Pattern::fnmatch("test_*.py").unwrap().matches(path));
        assert!(Pattern::over_paths("tests/*.py").unwrap().matches(path));
    }
}
