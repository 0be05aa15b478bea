//! The session's end of slot sharing: the right to execute, asked of the daemon that shares it among runs.
//!
//! A claim's number is its attempt's. A slot that nobody else waits for stays for the next attempt, without asking: it is
//! *kept* as long as there is one. A private agent has nobody to share with and does not ask at all: its coordinator
//! decides how much runs at once by the number of runners.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::connection::Connection;
use crate::control_messages::{ControlMessage, FromDaemon};

/// Where slots come from; cheap to clone.
#[derive(Clone)]
pub(crate) enum Slots {
    /// Every claim is granted at once.
    Unlimited,
    /// The daemon grants.
    Shared(SharedSlots),
}

/// The way to the daemon, and what is there without asking; cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedSlots {
    requests: mpsc::UnboundedSender<SlotRequest>,
    kept: Arc<Mutex<Kept>>,
}

/// Slots that nothing executes with at the moment.
#[derive(Default)]
struct Kept {
    /// Whether there may be any: nobody else waits.
    lasting: bool,
    slots: Vec<Slot>,
}

impl SharedSlots {
    /// `requests` are carried to the daemon by [`exchange`].
    pub(crate) fn new(requests: mpsc::UnboundedSender<SlotRequest>) -> Self {
        SharedSlots { requests, kept: Arc::default() }
    }

    /// Tells the daemon that the run is over, and for how long its session stays. Whether there is a daemon.
    pub(crate) fn be_idle(&self, milliseconds: u64) -> bool {
        self.requests.send(SlotRequest::Idle { milliseconds }).is_ok()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots may be kept from now on, or not any more.
    fn set_lasting(&self, lasting: bool) {
        let mut kept = self.kept();
        kept.lasting = lasting;
        if !lasting {
            kept.slots.clear();
        }
    }
}

/// What a session asks of the daemon. Bounded by the number of runners: each has one claim at a time.
pub(crate) enum SlotRequest {
    /// A lane wants to execute and waits.
    Claim { claim: u64, granted: oneshot::Sender<()> },
    /// A claim is over or not wanted any more.
    Release { claim: u64 },
    /// The run is over, and its session stays for this long.
    Idle { milliseconds: u64 },
}

/// A claim on a slot; dropping it gives the slot back or leaves the queue.
pub(crate) struct Slot {
    release: Option<(mpsc::UnboundedSender<SlotRequest>, u64)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((requests, claim)) = self.release.take() {
            // Without a daemon the run is ending anyway.
            let _ = requests.send(SlotRequest::Release { claim });
        }
    }
}

impl Slots {
    /// Waits for the right to execute. `claim` is free for use again once the slot is dropped.
    pub(crate) async fn claim(&self, claim: u64) -> Slot {
        let Slots::Shared(shared) = self else { return Slot { release: None } };
        if let Some(slot) = shared.kept().slots.pop() {
            return slot;
        }
        let requests = &shared.requests;
        // Made before the wait, so that giving up the wait gives up the claim.
        let slot = Slot { release: Some((requests.clone(), claim)) };
        let (granted, grant) = oneshot::channel();
        let _ = requests.send(SlotRequest::Claim { claim, granted });
        if grant.await.is_err() {
            // The daemon is gone; the session ends at the same time.
            std::future::pending::<()>().await;
        }
        slot
    }

    /// Takes back a slot that is wanted again in a moment. It is released, unless nobody else waits for it.
    pub(crate) fn keep(&self, slot: Slot) {
        if let Slots::Shared(shared) = self {
            let mut kept = shared.kept();
            if kept.lasting {
                kept.slots.push(slot);
            }
        }
    }

    /// Releases what is kept.
    pub(crate) fn release_kept(&self) {
        if let Slots::Shared(shared) = self {
            shared.kept().slots.clear();
        }
    }
}

/// Carries requests and grants between the session and the daemon, and the connections to serve. Returns when the daemon
/// is gone.
///
/// Claims of different runs have the same numbers: a grant that a former run did not wait for any more is read before the
/// connection of the next one.
pub(crate) async fn exchange(
    control: UnixStream,
    slots: SharedSlots,
    mut requests: mpsc::UnboundedReceiver<SlotRequest>,
    connections: mpsc::UnboundedSender<Connection>,
) {
    let (reader, mut writer) = control.into_split();
    let waiting = RefCell::new(HashMap::<u64, oneshot::Sender<()>>::new());
    let take_grants = async {
        while let Ok(message) = FromDaemon::read(reader.as_ref()).await {
            match message {
                FromDaemon::Grant { claim, lasting } => {
                    slots.set_lasting(lasting);
                    // A claim that was given up meanwhile is released already.
                    if let Some(granted) = waiting.borrow_mut().remove(&claim) {
                        let _ = granted.send(());
                    }
                }
                FromDaemon::Wanted => slots.set_lasting(false),
                FromDaemon::Serve(connection) => _ = connections.send(connection),
            }
        }
    };
    let make_requests = async {
        while let Some(request) = requests.recv().await {
            let message = match request {
                SlotRequest::Claim { claim, granted } => {
                    waiting.borrow_mut().insert(claim, granted);
                    ControlMessage::Claim(claim)
                }
                SlotRequest::Release { claim } => {
                    waiting.borrow_mut().remove(&claim);
                    ControlMessage::Release(claim)
                }
                SlotRequest::Idle { milliseconds } => ControlMessage::Idle(milliseconds),
            };
            if message.write(&mut writer).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = take_grants => {}
        // It ends before the daemon does when nobody is left to ask.
        () = async { make_requests.await; std::future::pending().await } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn expect(daemon: &mut UnixStream, expected: ControlMessage) {
        assert_eq!(ControlMessage::read(daemon).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn claims_and_releases_reach_the_daemon_and_grants_the_lane() {
        let (session, mut daemon) = UnixStream::pair().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = SharedSlots::new(sender);
        let slots = Slots::Shared(shared.clone());
        let conversation = async {
            let lane = async {
                drop(slots.claim(7).await);
                let given_up =
                    tokio::time::timeout(std::time::Duration::from_millis(20), slots.claim(8)).await;
                assert!(given_up.is_err());
            };
            let daemon_side = async {
                expect(&mut daemon, ControlMessage::Claim(7)).await;
                ControlMessage::Grant(7).write(&mut daemon).await.unwrap();
                for expected in
                    [ControlMessage::Release(7), ControlMessage::Claim(8), ControlMessage::Release(8)]
                {
                    expect(&mut daemon, expected).await;
                }
                drop(daemon);
            };
            tokio::join!(lane, daemon_side)
        };
        let (connections, _) = mpsc::unbounded_channel();
        tokio::join!(exchange(session, shared, receiver, connections), conversation);
    }

    #[tokio::test]
    async fn a_slot_that_nobody_waits_for_stays() {
        let (session, mut daemon) = UnixStream::pair().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = SharedSlots::new(sender);
        let slots = Slots::Shared(shared.clone());
        let conversation = async {
            let lane = async {
                slots.keep(slots.claim(1).await);
                slots.keep(slots.claim(2).await);
                // The first grant does not say that nobody waits, the second does.
                drop(slots.claim(3).await);
            };
            let daemon_side = async {
                expect(&mut daemon, ControlMessage::Claim(1)).await;
                ControlMessage::Grant(1).write(&mut daemon).await.unwrap();
                expect(&mut daemon, ControlMessage::Release(1)).await;
                expect(&mut daemon, ControlMessage::Claim(2)).await;
                ControlMessage::LastingGrant(2).write(&mut daemon).await.unwrap();
                expect(&mut daemon, ControlMessage::Release(2)).await;
            };
            tokio::join!(lane, daemon_side);
            // Kept slots go when somebody wants one.
            let lane = async { slots.keep(slots.claim(4).await) };
            let daemon_side = async {
                expect(&mut daemon, ControlMessage::Claim(4)).await;
                ControlMessage::LastingGrant(4).write(&mut daemon).await.unwrap();
            };
            tokio::join!(lane, daemon_side);
            ControlMessage::Wanted.write(&mut daemon).await.unwrap();
            expect(&mut daemon, ControlMessage::Release(4)).await;
            drop(daemon);
        };
        let (connections, _) = mpsc::unbounded_channel();
        tokio::join!(exchange(session, shared, receiver, connections), conversation);
    }

    #[tokio::test]
    async fn a_private_agent_grants_everything() {
        let _slots = (Slots::Unlimited.claim(1).await, Slots::Unlimited.claim(1).await);
    }
}
