//! Counts the connections of each user, so that nobody's take the place of everybody's.
//!
//! A connection costs the daemon descriptors and, once its first byte is there, a process. Each user may have
//! [`SERVED_PER_USER`] of them. A few more are told why they are not served; beyond those a connection is closed
//! without a word, for telling costs a process, too. The log names such a user once, and says how many connections
//! were closed when the last of theirs has ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections of one user that are served at a time.
const SERVED_PER_USER: usize = 48;

/// Connections of one user that are told at a time that there are too many.
const TOLD_PER_USER: usize = 4;

/// The users who have connections open.
#[derive(Default)]
pub(crate) struct Callers {
    by_uid: Arc<Mutex<HashMap<u32, Counts>>>,
}

#[derive(Default)]
struct Counts {
    served: usize,
    told: usize,
    closed: u64,
}

/// A connection that counts until this is dropped.
pub(crate) struct Admitted {
    by_uid: Arc<Mutex<HashMap<u32, Counts>>>,
    uid: u32,
    /// Whether it is only to be told that its user has too many.
    pub(crate) one_too_many: bool,
}

impl Callers {
    /// Counts a connection of a user; `None` when it is to be closed.
    pub(crate) fn admit(&self, uid: u32) -> Option<Admitted> {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = by_uid.entry(uid).or_default();
        let one_too_many = counts.served >= SERVED_PER_USER;
        if one_too_many && counts.told >= TOLD_PER_USER {
            if counts.closed == 0 {
                tracing::warn!(
                    uid,
                    limit = SERVED_PER_USER,
                    "a user has too many connections; more are closed"
                );
            }
            counts.closed += 1;
            return None;
        }
        *(if one_too_many { &mut counts.told } else { &mut counts.served }) += 1;
        Some(Admitted { by_uid: self.by_uid.clone(), uid, one_too_many })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counts) = by_uid.get_mut(&self.uid) else { return };
        *(if self.one_too_many { &mut counts.told } else { &mut counts.served }) -= 1;
        if counts.served + counts.told == 0 {
            if counts.closed > 0 {
                tracing::info!(uid = self.uid, closed = counts.closed, "connections of a user were closed");
            }
            by_uid.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_too_many_is_told_then_closed_and_costs_nobody_else_anything() {
        let callers = Callers::default();
        let served: Vec<_> = (0..SERVED_PER_USER).map(|_| callers.admit(1000).unwrap()).collect();
        assert!(served.iter().all(|admitted| !admitted.one_too_many));
        let told: Vec<_> = (0..TOLD_PER_USER).map(|_| callers.admit(1000).unwrap()).collect();
        assert!(told.iter().all(|admitted| admitted.one_too_many));
        assert!(callers.admit(1000).is_none());
        assert!(!callers.admit(1001).unwrap().one_too_many);
        drop(told);
        assert!(callers.admit(1000).unwrap().one_too_many);
        drop(served);
        assert!(!callers.admit(1000).unwrap().one_too_many);
        assert!(callers.by_uid.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }
}
