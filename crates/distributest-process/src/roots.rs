//! Knows which children of this process are roots, and waits for those that are orphans.
//!
//! Every orphan of a tree becomes a child of this process, which then has to wait for it: otherwise it stays in the
//! process table as a zombie, and a test that waits for its daemon to disappear waits for ever. But the status of a
//! root is for its tree to fetch, and that of any other child for whoever started it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::mark::Mark;
use crate::process_table::{Process, own_children};

static ROOTS: Mutex<Option<HashSet<Pid>>> = Mutex::new(None);

/// The roots that have not been waited for. Held while one is started or waited for, so that a child is either a
/// known root or none.
pub(crate) struct Roots(MutexGuard<'static, Option<HashSet<Pid>>>);

impl Roots {
    /// Waits for its turn, which is short.
    pub(crate) fn lock() -> Roots {
        Roots(ROOTS.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&mut self, root: Pid) {
        self.0.get_or_insert_default().insert(root);
    }

    pub(crate) fn remove(&mut self, root: Pid) {
        self.0.get_or_insert_default().remove(&root);
    }

    /// The children of this process that are no roots: orphans, and what others in this process have started.
    pub(crate) fn other_children(&self) -> io::Result<Vec<Process>> {
        let is_root = |pid: &Pid| self.0.as_ref().is_some_and(|roots| roots.contains(pid));
        own_children(|pid| !is_root(pid))
    }
}

/// Waits for the orphans of all this process's trees as they end. Run it beside everything else for as long as trees
/// live; it never returns but on failure. It touches no other child of this process.
///
/// # Errors
///
/// When signals can't be listened to or `/proc` can't be read.
pub async fn reap_orphans() -> io::Result<Infallible> {
    let mut child_ended = signal(SignalKind::child())?;
    loop {
        for child in Roots::lock().other_children()? {
            if child.zombie && Mark::is_of_this_process(child.real_time_limit()?) {
                child.reap();
            }
        }
        child_ended.recv().await;
    }
}
