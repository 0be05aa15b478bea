//! What of a project is copied to a host, as rsync filter rules.
//!
//! In a git checkout, what git ignores is not sent. Two things follow from that and both need rules, the first that
//! matches wins:
//!
//! - What git ignores *here* is listed exactly, path by path, as git's own rules decide (the `ignore` crate), and
//!   excluded. Exclusion also protects the same path on the host from `--delete`.
//! - What git *would* ignore but exists only on the host (`node_modules` made by `node_setup`, logs, caches) must
//!   survive `--delete` too: each pattern of each `.gitignore` becomes a *protect* rule, later patterns first because
//!   git lets the last match win. Protecting never keeps anything from being sent.
//!
//! `.git` is never sent. `sync.include` and `sync.exclude` are rsync patterns and come before git's rules and before
//! [`MACHINE_BOUND`].

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::config::SyncConfig;

/// What belongs to one machine and is never copied. Caches hold this machine's paths: a traceback on the host would name
/// files that are not there, and pytest would show no source lines; they are made anew on the host and kept there. What
/// this program keeps below a home directory must not be copied into itself when the home is the project.
const MACHINE_BOUND: [&str; 2] = ["__pycache__", "/.cache/distributest"];

/// The rules for `rsync --from0 --filter='merge FILE'`: NUL-terminated, first match wins.
pub(super) fn rules(project: &Path, sync: &SyncConfig) -> Vec<u8> {
    let mut rules = Vec::new();
    push(&mut rules, b"- ", b".git");
    // The hooks are part of the run, also where a developer keeps them out of git.
    push(&mut rules, b"+ ", b"/.distributest/***");
    for pattern in &sync.include {
        push(&mut rules, b"+ ", pattern.as_bytes());
    }
    for pattern in &sync.exclude {
        push(&mut rules, b"- ", pattern.as_bytes());
    }
    for pattern in MACHINE_BOUND {
        push(&mut rules, b"- ", pattern.as_bytes());
    }
    if in_git_checkout(project) {
        let (ignored, gitignores) = ignored_paths(project);
        for path in ignored {
            push(&mut rules, b"- /", &literal(path.as_os_str().as_bytes()));
        }
        for gitignore in gitignores {
            protect(&mut rules, project, &gitignore);
        }
    }
    rules
}

fn push(rules: &mut Vec<u8>, kind: &[u8], pattern: &[u8]) {
    rules.extend_from_slice(kind);
    rules.extend_from_slice(pattern);
    rules.push(0);
}

fn in_git_checkout(project: &Path) -> bool {
    project.ancestors().any(|directory| directory.join(".git").exists())
}

/// A path as an rsync pattern that matches nothing else: a backslash escapes, but only in a pattern with wildcards.
fn literal(path: &[u8]) -> Vec<u8> {
    if !path.iter().any(|byte| b"*?[".contains(byte)) {
        return path.to_vec();
    }
    let mut escaped = Vec::with_capacity(path.len() + 8);
    for byte in path {
        if b"*?[\\".contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// Everything below the project that git ignores, topmost paths only, relative; and the `.gitignore` files that
/// stand in what it does not, deepest last.
fn ignored_paths(project: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut directories = vec![project.to_path_buf()];
    let mut kept = HashSet::new();
    let mut gitignores = Vec::new();
    let walk = WalkBuilder::new(project)
        .hidden(false)
        .ignore(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk.flatten().filter(|entry| entry.depth() > 0) {
        if entry.file_type().is_some_and(|kind| kind.is_dir()) {
            directories.push(entry.path().to_path_buf());
        }
        if entry.file_name() == ".gitignore" {
            gitignores.push(entry.path().to_path_buf());
        }
        // As bytes: a path is hashed name by name.
        kept.insert(entry.into_path().into_os_string());
    }
    gitignores.sort_by_key(|path| path.components().count());
    let mut ignored = Vec::new();
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !kept.contains(path.as_os_str())
                && path.file_name() != Some(".git".as_ref())
                && let Ok(relative) = path.strip_prefix(project)
            {
                ignored.push(relative.to_path_buf());
            }
        }
    }
    ignored.sort();
    (ignored, gitignores)
}

/// Turns one `.gitignore` into protect rules (`P`), and its `!` patterns into the opposite (`R`).
fn protect(rules: &mut Vec<u8>, project: &Path, gitignore: &Path) {
    let Ok(text) = std::fs::read(gitignore) else { return };
    let parent =
        gitignore.parent().and_then(|parent| parent.strip_prefix(project).ok()).unwrap_or(Path::new(""));
    let mut prefix = b"/".to_vec();
    if !parent.as_os_str().is_empty() {
        prefix.extend(literal(parent.as_os_str().as_bytes()));
        prefix.push(b'/');
    }
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for line in lines.into_iter().rev() {
        let line = line.trim_ascii_end();
        let (kind, pattern) = match line.strip_prefix(b"!") {
            Some(pattern) => (b"R ", pattern),
            None => (b"P ", line),
        };
        if pattern.is_empty() || pattern.starts_with(b"#") {
            continue;
        }
        // A slash anywhere but at the end ties a pattern to its .gitignore's directory.
        let anchored = pattern[..pattern.len() - 1].contains(&b'/');
        let pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
        let mut rule = OsString::from_vec(prefix.clone()).into_vec();
        if anchored {
            rule.extend_from_slice(pattern);
            push(rules, kind, &rule);
        } else {
            rule.extend_from_slice(pattern);
            push(rules, kind, &rule);
            let mut deeper = prefix.clone();
            deeper.extend_from_slice(b"**/");
            deeper.extend_from_slice(pattern);
            push(rules, kind, &deeper);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn lines(rules: &[u8]) -> Vec<String> {
        rules.split(|byte| *byte == 0).map(|rule| String::from_utf8_lossy(rule).into_owned()).collect()
    }

    #[test]
    fn outside_a_checkout_only_git_and_the_users_own_rules_count() {
        let project = tempfile::tempdir().unwrap();
        write(project.path().join(".gitignore"), "*.log\n");
        let sync = SyncConfig { include: vec!["a".into()], exclude: vec!["b".into()] };
        assert_eq!(
            lines(&rules(project.path(), &sync)),
            ["- .git", "+ /.distributest/***", "+ a", "- b", "- __pycache__", "- /.cache/distributest", ""]
        );
    }

    #[test]
    fn what_git_ignores_is_excluded_by_name_and_protected_by_pattern() {
        let project = tempfile::tempdir().unwrap();
        let root = project.path();
        std::fs::create_dir(root.join(".git")).unwrap();
        write(root.join(".gitignore"), "# comment\n*.log\n!keep.log\n/build\nnode_modules/\n");
        write(root.join("sub/.gitignore"), "doc/out\n");
        for path in
            ["a.log", "keep.log", "src/b[1].log", "build/x", "node_modules/m/i.js", "sub/doc/out", "src/a.rs"]
        {
            write(root.join(path), "x");
        }
        let rules = lines(&rules(root, &SyncConfig::default()));
        let excluded: Vec<&str> = rules.iter().filter_map(|rule| rule.strip_prefix("- /")).collect();
        let excluded = &excluded[MACHINE_BOUND.iter().filter(|pattern| pattern.starts_with('/')).count()..];
        assert_eq!(excluded, ["a.log", "build", "node_modules", "src/b\\[1].log", "sub/doc/out"]);
        let protects: Vec<&str> =
            rules.iter().map(String::as_str).filter(|rule| rule.starts_with(['P', 'R'])).collect();
        assert_eq!(
            protects,
            [
                "P /node_modules/",
                "P /**/node_modules/",
                "P /build",
                "R /keep.log",
                "R /**/keep.log",
                "P /*.log",
                "P /**/*.log",
                "P /sub/doc/out",
            ]
        );
    }
}
