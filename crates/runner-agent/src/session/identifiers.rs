//! The numbers in the identifiers of a run's runners.
//!
//! Databases are named after identifiers, so two runs at once may not have the same ones, whatever their projects.
//! The run locks `~/.cache/distributest/runners/<identifier>.<hostname>.lock` for each runner and takes the lowest
//! numbers that are free: a run alone has 1, 2, 3 and so on each time, and finds its databases again. The locks end
//! with the run, and with its process should that be killed. The file names the host because a home may be shared by
//! several, whose runners do not meet.

use std::fs::File;
use std::path::Path;

use distributest_core::identity::runner_identifier;
use distributest_protocol::wire;

use super::workspace::{WorkspaceError, cache_directory, make_directory, try_lock};
use crate::failure;

/// The numbers of a run's identifiers, its own while this lives.
#[derive(Debug, Default)]
pub(crate) struct Identifiers {
    /// By runner; empty where nothing can be locked.
    numbers: Vec<u16>,
    _locks: Vec<File>,
}

impl Identifiers {
    /// Takes a number for each of so many runners. Where nothing can be locked it is the runner's own.
    pub(crate) fn take(hello: &wire::Hello, runners: u16, home: Option<&Path>) -> Self {
        let taken = Identifiers::lock(hello, runners, home);
        taken.unwrap_or_else(|error| {
            let cause = failure::chain(&error);
            tracing::warn!(cause, "simultaneous runs may have the same runner identifiers");
            Identifiers::default()
        })
    }

    fn lock(hello: &wire::Hello, runners: u16, home: Option<&Path>) -> Result<Self, WorkspaceError> {
        let directory = cache_directory(home)?.join("runners");
        make_directory(&directory)?;
        let hostname = rustix::system::uname().nodename().to_string_lossy().replace('/', "_");
        let (mut numbers, mut locks) = (Vec::new(), Vec::new());
        for number in 1..=u16::MAX {
            if numbers.len() == usize::from(runners) {
                break;
            }
            let identifier = runner_identifier(&hello.initiating_host, &hello.initiating_user, number);
            if let Some(lock) = try_lock(&directory.join(format!("{identifier}.{hostname}.lock")))? {
                numbers.push(number);
                locks.push(lock);
            }
        }
        Ok(Identifiers { numbers, _locks: locks })
    }

    /// The number in the identifier of a runner, which is counted from 1.
    pub(crate) fn number_of(&self, runner: u16) -> u16 {
        self.numbers.get(usize::from(runner) - 1).copied().unwrap_or(runner)
    }
}
