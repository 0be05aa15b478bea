//! Patterns for `-test.run` that let exactly the tests with given ids run.

use std::collections::{BTreeMap, BTreeSet};

/// How long a pattern may be; the system takes somewhat more in one argument.
const PATTERN_BYTES: usize = 100 * 1024;

/// Patterns that together choose these tests, each for a process of its own; usually one is enough. What is chosen with
/// its whole test needs no words of its own.
///
/// The parts of one test stand together between one pair of anchors: Go takes minutes over some hundred long
/// alternatives that have anchors of their own.
pub(super) fn patterns(ids: &BTreeSet<&str>) -> Vec<String> {
    let is_below = |id: &str| id.match_indices('/').any(|(slash, _)| ids.contains(&id[..slash]));
    let mut parts_by_test: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for id in ids.iter().filter(|id| !is_below(id)) {
        let (test, part) = id.rsplit_once('/').unwrap_or(("", id));
        parts_by_test.entry(test).or_default().push(quoted(part));
    }
    let groups = parts_by_test.into_iter().flat_map(|(test, parts)| {
        let levels = test.split('/').filter(|level| !level.is_empty());
        let above: String = levels.map(|level| format!("^{}$/", quoted(level))).collect();
        joined(parts).into_iter().map(move |parts| format!("{above}^({parts})$"))
    });
    joined(groups.collect())
}

/// Alternatives, as many in one text as it may hold.
fn joined(alternatives: Vec<String>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for alternative in alternatives {
        match texts.last_mut() {
            Some(last) if last.len() + alternative.len() < PATTERN_BYTES => {
                last.push('|');
                last.push_str(&alternative);
            }
            _ => texts.push(alternative),
        }
    }
    texts
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
        assert_eq!(patterns(&ids), [r"^(TestB|TestBb)$|^TestA$/^(b\.c\[1\]|\|)$"]);
    }

    #[test]
    fn too_many_for_one_argument_are_several() {
        let names: Vec<String> = (0..20_000).map(|number| format!("TestNumber{number}")).collect();
        let patterns = patterns(&names.iter().map(String::as_str).collect());
        assert!(patterns.len() > 1 && patterns.iter().all(|pattern| pattern.len() < PATTERN_BYTES + 100));
    }
}
