//! Patterns for `-test.run` that let exactly the tests with given ids run.

use std::collections::BTreeSet;

/// How long a pattern may be; the system takes somewhat more in one argument.
const PATTERN_BYTES: usize = 100 * 1024;

/// Patterns that together choose these tests, each for a process of its own; usually one is enough. What is chosen with
/// its whole test needs no words of its own.
pub(super) fn patterns(ids: &BTreeSet<&str>) -> Vec<String> {
    let is_below = |id: &str| id.match_indices('/').any(|(slash, _)| ids.contains(&id[..slash]));
    let mut patterns: Vec<String> = Vec::new();
    for id in ids.iter().filter(|id| !is_below(id)) {
        let pattern = exactly(id);
        match patterns.last_mut() {
            Some(last) if last.len() + pattern.len() < PATTERN_BYTES => {
                last.push('|');
                last.push_str(&pattern);
            }
            _ => patterns.push(pattern),
        }
    }
    patterns
}

/// The pattern of one id: each of its parts, from the first to the last letter.
fn exactly(id: &str) -> String {
    let part = |part: &str| format!("^{}$", quoted(part));
    id.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_matched_exactly_and_once() {
        let ids = BTreeSet::from(["TestA/b.c[1]", "TestB", "TestB/x", "TestBb", "TestA/|"]);
        assert_eq!(patterns(&ids), [r"^TestA$/^b\.c\[1\]$|^TestA$/^\|$|^TestB$|^TestBb$"]);
    }

    #[test]
    fn too_many_for_one_argument_are_several() {
        let names: Vec<String> = (0..20_000).map(|number| format!("TestNumber{number}")).collect();
        let patterns = patterns(&names.iter().map(String::as_str).collect());
        assert!(patterns.len() > 1 && patterns.iter().all(|pattern| pattern.len() < PATTERN_BYTES));
    }
}
