//! The filter rules that a project is copied with, as rsync understands them.
//!
//! Of rsync's language this knows the rules that this program makes: `-`, `+`, `P` and `R` with a pattern. The first that
//! matches wins. On the sending side `-` and `+` say what is sent; on the receiving side `-` and `P` say what is not
//! deleted. What is not understood to the letter is refused, so that rsync itself is asked.

use std::collections::HashMap;

use crate::pattern::Pattern;

/// The rules of a transfer.
#[derive(Debug, Default)]
pub struct Filter {
    sending: Rules,
    receiving: Rules,
}

/// A rule that only rsync knows how to read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter rule \"{0}\" is for rsync itself")]
pub struct UnknownRule(String);

/// The rules of one side.
#[derive(Debug, Default)]
struct Rules {
    rules: Vec<(Pattern, bool)>,
    /// The first rule for a path that matches nothing else: there are as many as git ignores paths.
    exact: HashMap<Vec<u8>, usize>,
    /// The others, by their index.
    others: Vec<usize>,
}

impl Filter {
    /// Reads NUL-terminated rules, as rsync reads them with `--from0 --filter='merge FILE'`.
    ///
    /// # Errors
    ///
    /// When one of them is not understood to the letter.
    pub fn parse(rules: &[u8]) -> Result<Filter, UnknownRule> {
        let mut filter = Filter::default();
        for rule in rules.split(|byte| *byte == 0).filter(|rule| !rule.is_empty()) {
            let unknown = || UnknownRule(String::from_utf8_lossy(rule).into_owned());
            let (kind, pattern) = rule.split_at_checked(2).ok_or_else(unknown)?;
            let pattern = Pattern::parse(pattern).ok_or_else(unknown)?;
            match kind {
                b"- " | b"+ " => {
                    filter.sending.push(pattern.clone(), kind == b"- ");
                    filter.receiving.push(pattern, kind == b"- ");
                }
                b"P " | b"R " => filter.receiving.push(pattern, kind == b"P "),
                _ => return Err(unknown()),
            }
        }
        Ok(filter)
    }

    /// Whether something in the project is kept from being sent, with all below it.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        self.sending.hold(path, is_directory)
    }

    /// Whether something in the workspace that is not in the project stays, with all below it.
    pub fn protects(&self, path: &[u8], is_directory: bool) -> bool {
        self.receiving.hold(path, is_directory)
    }
}

impl Rules {
    fn push(&mut self, pattern: Pattern, holds: bool) {
        let index = self.rules.len();
        match pattern.only_path() {
            Some(path) => _ = self.exact.entry(path.to_vec()).or_insert(index),
            None => self.others.push(index),
        }
        self.rules.push((pattern, holds));
    }

    fn hold(&self, path: &[u8], is_directory: bool) -> bool {
        let exact = self.exact.get(path).copied();
        let before = exact.unwrap_or(self.rules.len());
        let others = self.others.iter().copied().take_while(|index| *index < before);
        let first = others.into_iter().find(|index| self.rules[*index].0.matches(path, is_directory));
        first.or(exact).is_some_and(|index| self.rules[index].1)
    }
}
