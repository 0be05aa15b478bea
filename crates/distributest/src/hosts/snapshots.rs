//! Numbers the states of the project that hosts were given, so that it can be told later which of them an attempt ran.
//!
//! People go on working while their tests run, and a host may be copied to late, or again. The state is looked at before
//! the first copy and after each one that rsync makes: as long as nothing has changed, everybody has snapshot 1. A copy
//! after which the project looks different from all before has a new number, and may hold some of the state before as
//! well. A workspace that compares equal, or is sent what differs, has exactly the state it was compared with.

use std::sync::{Mutex, PoisonError};

use super::project_state::ProjectState;

/// The states of the project seen so far.
#[derive(Debug, Default)]
pub struct Snapshots(Mutex<Vec<u64>>);

impl Snapshots {
    /// The number of a state, from 1.
    pub(super) fn number(&self, state: &ProjectState) -> u32 {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = states.iter().position(|known| *known == state.number).unwrap_or_else(|| {
            states.push(state.number);
            states.len() - 1
        });
        u32::try_from(index + 1).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use distributest_tree::project::Unreadable;

    use super::*;

    #[test]
    fn a_state_keeps_its_number_and_another_one_has_another() {
        let snapshots = Snapshots::default();
        let state = |number| ProjectState { rules: Vec::new(), tree: Err(Unreadable::FileSystem), number };
        assert_eq!([7, 7, 3, 7, 3].map(|number| snapshots.number(&state(number))), [1, 1, 2, 1, 2]);
    }
}
