//! Keeps the ids of a file's tests apart.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// How many different ids are remembered; no file that people write has as many tests.
const LIMIT: usize = 200_000;

/// Ids that are taken, by their hashes, and how often each was asked for.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    taken: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Ids {
    /// The id itself the first time, then with a number: `adds (2)`.
    pub(crate) fn unique(&mut self, id: &str) -> String {
        if self.taken.len() >= LIMIT {
            return id.to_owned();
        }
        let times = self.taken.entry(self.hasher.hash_one(id)).or_default();
        *times += 1;
        if *times == 1 {
            return id.to_owned();
        }
        let numbered = format!("{id} ({times})");
        // Somebody else may be called that.
        self.unique(&numbered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_is_given_once() {
        let mut ids = Ids::default();
        let given = ["a", "a (2)", "a", "a", "b"].map(|id| ids.unique(id));
        assert_eq!(given, ["a", "a (2)", "a (2) (2)", "a (3)", "b"].map(str::to_owned));
    }
}
