//! How much output may be under way: as much as the way to the coordinator takes in a quarter of a second.
//!
//! A window of fixed size is too large for a slow link, where heartbeats and results would wait behind seconds of output,
//! or too small for a fast one whose ends are busy, where every window costs a round trip. So the coordinator tells how
//! much it has taken (`OutputTaken`), and the agent sends no more than what was taken in the last moments allows.
//!
//! Rules:
//!
//! - Never less than `LEAST_BYTES` may be under way: about a second of output at 2 Mbit/s. Never more than
//!   `MOST_BYTES`, which the stream's window has room for.
//! - Taken is what the run has taken, not what has arrived: where the disk below the log is slow, that is the way's pace.
//! - While nothing is taken nothing more is sent than what is allowed at that time.
//! - A coordinator that does not acknowledge output is not waited for; its window decides.
//! - Acknowledgements have a call of their own. On the session they could wait behind an order that waits for the run, and
//!   the run for somebody who waits for output.
//! - A connection has one account, from its first byte to its last. One that takes the place of another begins anew.

use std::time::Duration;

use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::wire::OutputChunk;

/// Bytes that may be under way on any link.
const LEAST_BYTES: u64 = 256 * 1024;

/// Bytes that may be under way on the fastest link.
pub(crate) const MOST_BYTES: u64 = 1024 * 1024;

/// Bytes that the coordinator takes before it says so again: often enough for the least there may be under way.
pub(crate) const ACKNOWLEDGED_BYTES: u64 = LEAST_BYTES / 4;

/// What the link takes in this time may be under way.
const UNDER_WAY: Duration = Duration::from_millis(250);

/// How long it is looked at before that is concluded anew.
const LOOKED_AT: Duration = Duration::from_millis(50);

/// What a chunk takes on its way besides its message, roughly: many small ones weigh more than their bytes.
const ENVELOPE_BYTES: usize = 16;

/// What a chunk counts for, on both ends.
pub(crate) fn weight(chunk: &OutputChunk) -> u64 {
    (chunk.encoded_len() + ENVELOPE_BYTES) as u64
}

/// The agent's account of output that is under way on one connection.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What the coordinator says it has taken; `None` until it says something.
    taken: watch::Receiver<Option<u64>>,
    sent: u64,
    allowed: u64,
    /// Since when the link is looked at, and what had been taken then.
    since: Instant,
    taken_before: u64,
}

impl Pace {
    /// Of a connection on which nothing was sent yet. The coordinator says nothing more when the other end of `taken` is
    /// gone. Must be called within a tokio runtime.
    pub(crate) fn new(taken: watch::Receiver<Option<u64>>) -> Pace {
        Pace { taken, sent: 0, allowed: LEAST_BYTES, since: Instant::now(), taken_before: 0 }
    }

    /// Waits until more may be under way, and counts what is sent then.
    pub(crate) async fn send(&mut self, bytes: u64) {
        while !self.has_room() {
            if self.taken.changed().await.is_err() {
                break;
            }
        }
        self.sent += bytes;
    }

    fn has_room(&mut self) -> bool {
        let Some(taken) = *self.taken.borrow_and_update() else { return true };
        let taken = taken.min(self.sent);
        self.look(taken);
        self.sent - taken < self.allowed
    }

    fn look(&mut self, taken: u64) {
        let elapsed = self.since.elapsed();
        if elapsed >= LOOKED_AT {
            let share = UNDER_WAY.as_secs_f64() / elapsed.as_secs_f64();
            let under_way = taken.saturating_sub(self.taken_before) as f64 * share;
            self.allowed = (under_way as u64).clamp(LEAST_BYTES, MOST_BYTES);
            self.since += elapsed;
            self.taken_before = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 64 * 1024;

    fn pace() -> (watch::Sender<Option<u64>>, Pace) {
        let (taken, receiver) = watch::channel(Some(0));
        (taken, Pace::new(receiver))
    }

    /// Sends chunks until one has to wait; how many bytes that were.
    async fn fill(pace: &mut Pace) -> u64 {
        let before = pace.sent;
        while tokio::time::timeout(Duration::ZERO, pace.send(CHUNK)).await.is_ok() {}
        pace.sent - before
    }

    /// Sends as much as may be sent for two seconds, in which so much a second is taken.
    async fn taken_at(taken: &watch::Sender<Option<u64>>, pace: &mut Pace, bytes_a_second: u64) {
        for _ in 0..200 {
            fill(pace).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            taken
                .send_modify(|taken| *taken = Some(pace.sent.min(taken.unwrap_or(0) + bytes_a_second / 100)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_acknowledges_nothing_is_not_waited_for() {
        let (taken, mut pace) = pace();
        taken.send_replace(None);
        for _ in 0..1000 {
            pace.send(CHUNK).await;
        }
        taken.send_replace(Some(0));
        assert_eq!(fill(&mut pace).await, 0);
        drop(taken);
        pace.send(CHUNK).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_sent_than_may_be_under_way_until_some_is_taken() {
        let (taken, mut pace) = pace();
        assert_eq!(fill(&mut pace).await, LEAST_BYTES);
        taken.send_replace(Some(CHUNK));
        assert_eq!(fill(&mut pace).await, CHUNK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_link_may_have_more_under_way_and_a_slow_one_no_more_than_a_second_of_it() {
        let (taken, mut pace) = pace();
        taken_at(&taken, &mut pace, 400 << 20).await;
        assert_eq!(pace.allowed, MOST_BYTES);
        taken_at(&taken, &mut pace, 4 << 20).await;
        assert!((900 << 10..=1100 << 10).contains(&pace.allowed), "{} bytes", pace.allowed);
        taken_at(&taken, &mut pace, 250_000).await;
        assert_eq!(pace.allowed, LEAST_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_link_on_which_nothing_was_sent_for_long_has_to_show_that_it_still_is() {
        let (taken, mut pace) = pace();
        taken_at(&taken, &mut pace, 400 << 20).await;
        taken.send_replace(Some(pace.sent));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(fill(&mut pace).await, LEAST_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn acknowledging_more_than_was_sent_earns_nothing() {
        let (taken, mut pace) = pace();
        taken.send_replace(Some(u64::MAX));
        assert!(pace.has_room());
        assert_eq!(pace.allowed, LEAST_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_waits_goes_on_when_some_is_taken() {
        let (taken, mut pace) = pace();
        fill(&mut pace).await;
        let sender = tokio::spawn(async move { pace.send(CHUNK).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!sender.is_finished());
        taken.send_replace(Some(CHUNK));
        let sent = tokio::time::timeout(Duration::from_secs(1), sender).await;
        sent.expect("it goes on").expect("it does not panic");
    }

    #[test]
    fn small_chunks_weigh_what_they_take_on_their_way() {
        let chunk =
            |bytes| OutputChunk { block: 1, stderr: true, data: vec![b'x'; bytes].into(), plain_bytes: 0 };
        assert!((20..30).contains(&weight(&chunk(1))));
        assert!((65_536..65_600).contains(&weight(&chunk(65_536))));
    }
}
