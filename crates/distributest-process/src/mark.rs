//! The mark that tells whose tree an orphan belongs to.
//!
//! A daemon may change its session, close its descriptors and empty its environment; what it never touches is its
//! limit on uninterrupted real-time CPU time (`RLIMIT_RTTIME`). It is unlimited by default, means nothing to
//! processes that are not under real-time scheduling, is inherited by every child, survives `exec`, may be lowered
//! by anyone but raised only by root, and anyone may read it in `/proc/PID/limits`, even a zombie's. Each tree
//! gets a limit of its own, the lowest being twelve days: that is its mark.
//!
//! Marks only need to be unique among the trees of one process, for only its own orphans are ever compared, or those
//! it left to its successor (`records.rs`). Where they begin is random nevertheless, so that two processes hardly ever
//! have the same.
//!
//! Tests may themselves run a process that marks trees (a test suite of this product does). Limits can only be
//! lowered, so marks nest: a tree of the outermost level owns the range of [`OUTER_STEP`] values up to its mark,
//! its inner trees take marks within that range and own ranges of [`INNER_STEP`], and theirs are single values.
//! How far down a process is shows in the trailing zeros of the limit it was given itself. On a deeper level,
//! or under a limit that is no mark, there are no marks, and descent and sessions have to do.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};

/// Outermost marks are multiples of this.
const OUTER_STEP: u64 = 1 << 40;
/// Marks within an outermost mark's range are multiples of this.
const INNER_STEP: u64 = 1 << 20;
/// Outermost marks are below this, about 146,000 years in microseconds.
const TOP: u64 = 1 << 62;

/// The number of this process's next mark. Far from the largest number, so that it can count on for good.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) >> 1));

/// A tree's mark: a range of values of `RLIMIT_RTTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The limit the tree's root is given, in microseconds.
    limit: u64,
    /// How many values up to and including `limit` belong to the tree.
    width: u64,
}

impl Mark {
    /// The next unused mark; `None` where this process's own limit leaves no room for marks.
    ///
    /// After about a million trees marks are used again, from the first.
    pub(crate) fn next() -> Option<Mark> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Mark::below(getrlimit(Resource::Rttime).maximum, number)
    }

    /// The mark number `number` below a process's own hard limit (`None`: unlimited).
    fn below(own_limit: Option<u64>, number: u64) -> Option<Mark> {
        let Room { top, step, steps } = Room::below(own_limit)?;
        let position = 1 + number % (steps - 2);
        Some(Mark { limit: top - position * step, width: step })
    }

    /// Whether a process with this hard limit (`None`: unlimited) belongs to any tree this process has marked.
    pub(crate) fn is_of_this_process(limit: Option<u64>) -> bool {
        Mark::is_below(getrlimit(Resource::Rttime).maximum, limit)
    }

    fn is_below(own_limit: Option<u64>, limit: Option<u64>) -> bool {
        match (Room::below(own_limit), limit) {
            (Some(Room { top, step, steps }), Some(limit)) => limit > top - (steps - 1) * step && limit < top,
            _ => false,
        }
    }

    /// The limit to give to the tree's root, soft and hard, in microseconds.
    pub(crate) fn limit(self) -> u64 {
        self.limit
    }

    /// Its two numbers, from which [`Mark::from_numbers`] makes it again.
    pub(crate) fn to_numbers(self) -> (u64, u64) {
        (self.limit, self.width)
    }

    /// The mark with these numbers; `None` when there can be none.
    pub(crate) fn from_numbers(limit: u64, width: u64) -> Option<Mark> {
        let possible = [OUTER_STEP, INNER_STEP, 1].contains(&width) && limit > width && limit < TOP;
        (possible && limit.is_multiple_of(width)).then_some(Mark { limit, width })
    }

    /// Whether a process with this hard limit (`None`: unlimited) belongs to the tree.
    pub(crate) fn covers(self, limit: Option<u64>) -> bool {
        limit.is_some_and(|limit| limit <= self.limit && limit > self.limit - self.width)
    }
}

/// Where a process's marks may be: at whole steps below the top, except for the lowest.
struct Room {
    top: u64,
    step: u64,
    steps: u64,
}

impl Room {
    /// The room below a process's own hard limit (`None`: unlimited); `None` when there is none.
    fn below(own_limit: Option<u64>) -> Option<Room> {
        match own_limit {
            None => Some(Room { top: TOP, step: OUTER_STEP, steps: TOP / OUTER_STEP }),
            Some(0) => None,
            Some(top) if top % OUTER_STEP == 0 => {
                Some(Room { top, step: INNER_STEP, steps: OUTER_STEP / INNER_STEP })
            }
            Some(top) if top % INNER_STEP == 0 => Some(Room { top, step: 1, steps: INNER_STEP }),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_one_process_do_not_cover_each_other() {
        for own_limit in [None, Some(TOP - 5 * OUTER_STEP), Some(TOP - 5 * OUTER_STEP - 7 * INNER_STEP)] {
            for number in [0, 1, 2, 1_000, (1 << 20) - 4] {
                let mark = Mark::below(own_limit, number).unwrap();
                let next = Mark::below(own_limit, number + 1).unwrap();
                assert!(mark.covers(Some(mark.limit)), "{own_limit:?} {number}");
                assert!(!mark.covers(Some(next.limit)), "{own_limit:?} {number}");
                assert!(!next.covers(Some(mark.limit)), "{own_limit:?} {number}");
                assert!(!mark.covers(own_limit), "{own_limit:?} {number}");
                assert!(Mark::is_below(own_limit, Some(mark.limit)), "{own_limit:?} {number}");
            }
        }
    }

    #[test]
    fn a_tree_covers_the_trees_made_inside_it() {
        let outer = Mark::below(None, 41).unwrap();
        let other = Mark::below(None, 42).unwrap();
        for number in [0, 1, 1_000_000] {
            let inner = Mark::below(Some(outer.limit), number).unwrap();
            let innermost = Mark::below(Some(inner.limit), number).unwrap();
            for mark in [inner, innermost] {
                assert!(outer.covers(Some(mark.limit)));
                assert!(!other.covers(Some(mark.limit)));
                assert!(mark.limit < outer.limit, "a limit can only be lowered");
            }
            assert!(inner.covers(Some(innermost.limit)));
        }
    }

    #[test]
    fn every_mark_is_a_long_time() {
        let lowest = Mark::below(None, (1 << 22) - 3).unwrap();
        assert!(lowest.limit >= 12 * 24 * 3600 * 1_000_000, "{lowest:?}");
    }

    #[test]
    fn what_is_not_in_a_tree_is_not_taken_for_it() {
        let own_limits = [None, Some(TOP - 5 * OUTER_STEP), Some(TOP - 5 * OUTER_STEP - 7 * INNER_STEP)];
        for own_limit in own_limits {
            for limit in [own_limit, Some(0), Some(200_000), Some(TOP)] {
                assert!(!Mark::is_below(own_limit, limit), "{own_limit:?} {limit:?}");
            }
        }
        assert!(
            !Mark::is_below(own_limits[1], Some(TOP - 6 * OUTER_STEP)),
            "a sibling of this process's tree"
        );
    }

    #[test]
    fn other_limits_leave_no_room() {
        assert_eq!(Mark::below(Some(200_000), 0), None, "what pipewire's and rtkit's units set");
        assert_eq!(Mark::below(Some(0), 0), None);
    }
}
