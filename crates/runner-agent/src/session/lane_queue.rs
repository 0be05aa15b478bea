//! The attempts that wait at a runner: given by the driver, taken by the lane, or taken back before that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distributest_protocol::gathering::Haste;
use tokio::sync::Notify;

use super::attempt::Attempt;

/// How many attempts may wait at a runner beside the one it is at work on. The coordinator is told, and never sends more
/// than its window for the way there and back needs.
pub(crate) const QUEUE_LIMIT: usize = 64;

/// So many attempts or more keep a runner at work while the coordinator hears a little later what it has done.
const FEW: usize = 2;

/// Attempts a queue holds at most: the one at work may not have been taken yet.
const CAPACITY: usize = QUEUE_LIMIT + 1;

/// Makes the queue of a runner: the driver's end and the lane's.
pub(crate) fn lane_queue() -> (LaneSender, LaneReceiver) {
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
    (LaneSender(shared.clone()), LaneReceiver { shared, was_idle: true })
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Attempt>,
    /// One of the ends is gone.
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }
}

/// Why an attempt was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotQueued {
    /// There are as many as there may be.
    #[error("the runner is busy")]
    Full,
    /// Nobody takes them any more.
    #[error("the runner has failed")]
    Closed,
}

/// The end that gives. Dropping it lets the other end take what is there, and then no more.
pub(crate) struct LaneSender(Arc<Shared>);

impl LaneSender {
    /// Puts an attempt behind the others.
    pub(crate) fn put(&self, attempt: Attempt) -> Result<(), NotQueued> {
        let mut state = self.0.lock();
        if state.is_closed {
            return Err(NotQueued::Closed);
        }
        if state.waiting.len() >= CAPACITY {
            return Err(NotQueued::Full);
        }
        state.waiting.push_back(attempt);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Takes an attempt back; `None` when it was taken already.
    pub(crate) fn take_back(&self, number: u64) -> Option<Attempt> {
        let mut state = self.0.lock();
        let place = state.waiting.iter().position(|attempt| attempt.number == number)?;
        state.waiting.remove(place)
    }
}

impl Drop for LaneSender {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The end that takes. Dropping it loses what waits.
pub(crate) struct LaneReceiver {
    shared: Arc<Shared>,
    /// The last attempt was not there when it was asked for.
    was_idle: bool,
}

impl LaneReceiver {
    /// The next attempt, once there is one; `None` when no more can come. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Attempt> {
        self.was_idle = false;
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(attempt) = state.waiting.pop_front() {
                    return Some(attempt);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.was_idle = true;
            self.shared.changed.notified().await;
        }
    }

    /// Whether none waits at this moment.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.lock().waiting.is_empty()
    }

    /// How soon the coordinator should hear of this runner, which needs another attempt before long if few wait.
    pub(crate) fn haste(&self) -> Haste {
        if self.shared.lock().waiting.len() < FEW { Haste::AtOnce } else { Haste::Soon }
    }

    /// How soon it should hear that the runner has begun with the last attempt: by that of an idle one, it learns how long
    /// the way is.
    pub(crate) fn haste_of_start(&self) -> Haste {
        if self.was_idle { Haste::AtOnce } else { self.haste() }
    }

    /// Takes no more than what is there.
    pub(crate) fn close(&mut self) {
        self.shared.close();
    }
}

impl Drop for LaneReceiver {
    fn drop(&mut self) {
        self.shared.close();
        // Whoever can cancel them learns that they are over.
        self.shared.lock().waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn attempt(number: u64) -> Attempt {
        Attempt {
            number,
            launch: 0,
            file: String::new(),
            tests: Vec::new(),
            part: Default::default(),
            fresh_worker: false,
            time_limit: None,
            cancelled: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn attempts_are_taken_in_order_or_taken_back() {
        let (sender, mut receiver) = lane_queue();
        (1..=4).for_each(|number| sender.put(attempt(number)).unwrap());
        assert_eq!(receiver.next().await.map(|attempt| attempt.number), Some(1));
        assert_eq!(sender.take_back(3).map(|attempt| attempt.number), Some(3));
        assert!(sender.take_back(1).is_none() && sender.take_back(3).is_none());
        assert_eq!(receiver.next().await.map(|attempt| attempt.number), Some(2));
        drop(sender);
        assert_eq!(receiver.next().await.map(|attempt| attempt.number), Some(4));
        assert!(receiver.next().await.is_none());
    }

    #[tokio::test]
    async fn a_waiting_lane_hears_of_everything() {
        let (sender, mut receiver) = lane_queue();
        let taken = tokio::spawn(async move {
            let first = receiver.next().await.map(|attempt| attempt.number);
            (first, receiver.next().await.map(|attempt| attempt.number))
        });
        tokio::task::yield_now().await;
        sender.put(attempt(1)).unwrap();
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(taken.await.unwrap(), (Some(1), None));
    }

    #[tokio::test]
    async fn the_coordinator_hears_at_once_of_a_runner_that_was_idle_or_soon_will_be() {
        let (sender, mut receiver) = lane_queue();
        let put = |numbers: std::ops::RangeInclusive<u64>| {
            numbers.for_each(|number| sender.put(attempt(number)).unwrap());
        };
        put(1..=4);
        let mut hastes = async || {
            receiver.next().await.unwrap();
            (receiver.haste_of_start(), receiver.haste())
        };
        assert_eq!(hastes().await, (Haste::Soon, Haste::Soon));
        assert_eq!(hastes().await, (Haste::Soon, Haste::Soon));
        assert_eq!(hastes().await, (Haste::AtOnce, Haste::AtOnce), "one more waits");
        assert_eq!(hastes().await, (Haste::AtOnce, Haste::AtOnce));
        let (begun, ()) = tokio::join!(hastes(), async { put(5..=8) });
        assert_eq!(begun, (Haste::AtOnce, Haste::Soon), "it had to wait");
    }

    #[test]
    fn a_queue_is_bounded_and_refuses_when_nobody_takes() {
        let (sender, receiver) = lane_queue();
        (0..CAPACITY as u64).for_each(|number| sender.put(attempt(number)).unwrap());
        assert_eq!(sender.put(attempt(1000)), Err(NotQueued::Full));
        drop(receiver);
        assert_eq!(sender.put(attempt(1001)), Err(NotQueued::Closed));
    }
}
