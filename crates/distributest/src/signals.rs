//! Requests from outside to stop: Ctrl-C, SIGTERM, the terminal going away.
//!
//! They are counted by a task of its own, because whoever handles them may be stuck: the terminal can be stopped
//! (Ctrl-S), a pager not scrolled, the log's disk gone. The second request means "now": when the process has not left
//! `LAST_PATIENCE` later, it leaves from there. Agents end their part of the run by themselves when their connection
//! ends.

use std::time::Duration;

use distributest_core::ledger::EXIT_INTERRUPTED;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long the run has to end by itself after the second request.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Listens for requests to stop.
pub struct Signals {
    requests: mpsc::UnboundedReceiver<()>,
}

impl Signals {
    /// Starts listening, as long as the runtime lives. From now on, no request ends the process by itself.
    ///
    /// # Errors
    ///
    /// When the process can't have signal handlers.
    pub fn listen() -> std::io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hang_up = signal(SignalKind::hangup())?;
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(count([interrupt, terminate, hang_up], sender));
        Ok(Signals { requests })
    }

    /// Requests that come from elsewhere; how to leave at once is up to whoever makes them.
    pub fn from_requests(requests: mpsc::UnboundedReceiver<()>) -> Signals {
        Signals { requests }
    }

    /// Waits for the next request to stop. Cancel-safe.
    pub async fn next(&mut self) {
        if self.requests.recv().await.is_none() {
            // Nobody is left to ask: the counter ends with the runtime only.
            std::future::pending::<()>().await;
        }
    }
}

async fn count(
    [mut interrupt, mut terminate, mut hang_up]: [Signal; 3],
    requests: mpsc::UnboundedSender<()>,
) {
    for number in 1.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        // The run may be over and its reports still being written: the next request counts all the same.
        let _ = requests.send(());
        if number > 1 {
            tokio::time::sleep(LAST_PATIENCE).await;
            std::process::exit(EXIT_INTERRUPTED.into());
        }
    }
}
