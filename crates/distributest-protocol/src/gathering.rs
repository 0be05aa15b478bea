//! Sends what can wait a little together with what comes next.
//!
//! A message by itself costs its two ends and everything between them (an ssh, an sshd, the kernels) a turn of the
//! processor each, which is many times what its bytes cost. Where a file takes a millisecond, its messages cost more than
//! it does. So messages that nobody waits for are held for up to 5 ms, and leave with the first one that is urgent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::Stream;
use tonic::Status;

use crate::wire::AgentMessage;

/// How long a message is held that can wait: too short for anybody to see, and several files of the shortest kind.
const LONGEST: Duration = Duration::from_millis(5);

/// Bytes that are held at most.
const MOST_BYTES: usize = 32 * 1024;

/// How soon the other end should have a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Somebody may wait for it.
    AtOnce,
    /// It may be a few milliseconds late.
    Soon,
}

/// What an agent sends: one message after another, in the order in which they were handed over.
pub(crate) struct Gathered {
    messages: mpsc::Receiver<(AgentMessage, Haste)>,
    held: VecDeque<AgentMessage>,
    held_bytes: usize,
    /// What is held leaves now, whatever comes.
    leaves: bool,
    /// No more will come.
    ended: bool,
    /// When what is held has waited long enough; of no meaning while nothing is held.
    until: Pin<Box<Sleep>>,
}

impl Gathered {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(messages: mpsc::Receiver<(AgentMessage, Haste)>) -> Gathered {
        let (held, until) = (VecDeque::new(), Box::pin(sleep(LONGEST)));
        Gathered { messages, held, held_bytes: 0, leaves: false, ended: false, until }
    }

    fn hold(&mut self, message: AgentMessage, haste: Haste) {
        if self.held.is_empty() {
            self.until.as_mut().reset(Instant::now() + LONGEST);
        }
        self.held_bytes += message.encoded_len();
        self.leaves |= haste == Haste::AtOnce || self.held_bytes >= MOST_BYTES;
        self.held.push_back(message);
    }
}

impl Stream for Gathered {
    type Item = Result<AgentMessage, Status>;

    /// Whoever polls this writes what it gets until there is no more, in one piece.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while !this.leaves && !this.ended {
            match this.messages.poll_recv(context) {
                Poll::Ready(Some((message, haste))) => this.hold(message, haste),
                Poll::Ready(None) => this.ended = true,
                Poll::Pending if this.held.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    ready!(this.until.as_mut().poll(context));
                    this.leaves = true;
                }
            }
        }
        let Some(message) = this.held.pop_front() else { return Poll::Ready(None) };
        if this.held.is_empty() {
            (this.leaves, this.held_bytes) = (false, 0);
        }
        Poll::Ready(Some(Ok(message)))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::wire::agent_message::Kind;
    use crate::wire::{Refusal, RunnerFailed};

    fn message(runner: u32) -> AgentMessage {
        AgentMessage { kind: Some(Kind::RunnerFailed(RunnerFailed { runner, failure: None })) }
    }

    async fn next(gathered: &mut Gathered) -> Option<AgentMessage> {
        gathered.next().await.map(|message| message.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_leaves_with_the_first_that_can_not() {
        let (sender, receiver) = mpsc::channel(4);
        let mut gathered = Gathered::new(receiver);
        let begin = Instant::now();
        sender.send((message(1), Haste::Soon)).await.unwrap();
        let held = tokio::time::timeout(LONGEST / 2, next(&mut gathered)).await;
        assert!(held.is_err(), "nothing has left");
        sender.send((message(2), Haste::AtOnce)).await.unwrap();
        sender.send((message(3), Haste::Soon)).await.unwrap();
        assert_eq!(next(&mut gathered).await, Some(message(1)));
        assert_eq!(next(&mut gathered).await, Some(message(2)));
        assert!(begin.elapsed() < LONGEST);
        assert_eq!(next(&mut gathered).await, Some(message(3)));
        assert!(begin.elapsed() >= LONGEST, "the third waited for its own time");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_longer_than_it_may() {
        let (sender, receiver) = mpsc::channel(4);
        let mut gathered = Gathered::new(receiver);
        tokio::time::sleep(LONGEST * 3).await;
        let begin = Instant::now();
        sender.send((message(1), Haste::Soon)).await.unwrap();
        assert_eq!(next(&mut gathered).await, Some(message(1)));
        assert!(begin.elapsed() >= LONGEST && begin.elapsed() < LONGEST * 2, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn much_does_not_wait() {
        let (sender, receiver) = mpsc::channel(4);
        let mut gathered = Gathered::new(receiver);
        let large = || {
            let failure = Some(crate::wire::Failure { cause: "x".repeat(MOST_BYTES), ..Default::default() });
            AgentMessage { kind: Some(Kind::Refusal(Refusal { failure })) }
        };
        let begin = Instant::now();
        sender.send((large(), Haste::Soon)).await.unwrap();
        assert_eq!(next(&mut gathered).await, Some(large()));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_sends_what_is_left() {
        let (sender, receiver) = mpsc::channel(4);
        let mut gathered = Gathered::new(receiver);
        sender.send((message(1), Haste::Soon)).await.unwrap();
        sender.send((message(2), Haste::Soon)).await.unwrap();
        drop(sender);
        let begin = Instant::now();
        assert_eq!(next(&mut gathered).await, Some(message(1)));
        assert_eq!(next(&mut gathered).await, Some(message(2)));
        assert_eq!(next(&mut gathered).await, None);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
