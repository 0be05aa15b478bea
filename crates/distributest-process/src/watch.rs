//! Watches a process for its end.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A pidfd the runtime watches: readable for good once its process has ended, waited for or not.
#[derive(Debug)]
pub(crate) struct Watch {
    handle: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Registers a pidfd with the current runtime.
    pub(crate) fn new(handle: OwnedFd) -> io::Result<Watch> {
        // SAFETY: an OwnedFd names the same open descriptor from its making to its end.
        let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?;
        Ok(Watch { handle })
    }

    /// Waits until the process has ended. Cancelling it loses nothing, and it may be called again.
    pub(crate) async fn ended(&self) {
        if self.handle.readable().await.is_err() {
            // The runtime is shutting down and polls nobody any more.
            pending().await
        }
    }
}
