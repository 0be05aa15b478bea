//! The way of all hosts' news to the driver: bounded by their number and by their bytes.
//!
//! A test's account of its failure may have megabytes, so a bound on the number of messages bounds nothing. What takes
//! more room than there is waits, with whoever sends it, until the driver has seen to what came before.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::hosts::messages::{HostNews, News};

/// News that may wait for the driver.
const NEWS_IN_FLIGHT: usize = 256;

/// How much of them, in [`UNIT_BYTES`].
const ROOM: u32 = 4 * 1024;

/// What room is counted in.
const UNIT_BYTES: usize = 1024;

/// The driver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NobodyListens;

/// A host's end; cheap to clone.
#[derive(Clone)]
pub struct NewsSender {
    news: mpsc::Sender<(HostNews, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// The driver's end.
pub struct NewsReceiver {
    news: mpsc::Receiver<(HostNews, OwnedSemaphorePermit)>,
    /// The room of what was received last, which is in memory until the next is asked for.
    last: Option<OwnedSemaphorePermit>,
}

/// Makes the channel.
pub fn news_channel() -> (NewsSender, NewsReceiver) {
    let (sender, receiver) = mpsc::channel(NEWS_IN_FLIGHT);
    let room = Arc::new(Semaphore::new(ROOM as usize));
    (NewsSender { news: sender, room }, NewsReceiver { news: receiver, last: None })
}

impl NewsSender {
    /// Sends news as soon as there is room for them.
    ///
    /// # Errors
    ///
    /// When there is no driver any more.
    pub async fn send(&self, news: HostNews) -> Result<(), NobodyListens> {
        // What is larger than all the room has all of it.
        let units = u32::try_from(bytes_of(&news.news) / UNIT_BYTES).unwrap_or(ROOM).clamp(1, ROOM);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| NobodyListens)?;
        self.news.send((news, room)).await.map_err(|_| NobodyListens)
    }
}

impl NewsReceiver {
    /// The next news; `None` when no host can send any more. Cancel-safe.
    pub async fn recv(&mut self) -> Option<HostNews> {
        self.last = None;
        let (news, room) = self.news.recv().await?;
        self.last = Some(room);
        Some(news)
    }

    /// The next news, if they are here already.
    pub fn try_recv(&mut self) -> Option<HostNews> {
        self.last = None;
        let (news, room) = self.news.try_recv().ok()?;
        self.last = Some(room);
        Some(news)
    }

    /// How many are here.
    pub fn waiting(&self) -> usize {
        self.news.len()
    }
}

/// The bytes of the texts that may be long.
fn bytes_of(news: &News) -> usize {
    match news {
        News::TestFinished(_, test) => {
            test.id.len() + test.name.len() + test.message.len() + test.details.len()
        }
        News::AttemptFinished(finished) => {
            let leaked: usize = finished.leaked.iter().map(String::len).sum();
            finished.message.len() + finished.details.len() + leaked
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use distributest_core::identity::{AttemptId, HostId};
    use distributest_core::test_result::{TestResult, TestStatus};

    use super::*;

    fn news_of(bytes: usize) -> HostNews {
        let test = TestResult {
            id: "a".into(),
            name: "a".into(),
            status: TestStatus::Failed,
            duration: Duration::ZERO,
            message: String::new(),
            details: "x".repeat(bytes),
            file: None,
            line: None,
        };
        HostNews { host: HostId(0), news: News::TestFinished(AttemptId(1), test) }
    }

    /// How many news of this size fit before the sender waits.
    async fn fitting(bytes: usize) -> usize {
        let (sender, receiver) = news_channel();
        let mut sent = 0;
        let sending = async {
            loop {
                sender.send(news_of(bytes)).await.unwrap();
                sent += 1;
            }
        };
        // The sender only ever waits for room, so one poll shows how far it comes.
        let _ = once(tokio::task::unconstrained(sending)).await;
        drop(receiver);
        sent
    }

    async fn once(future: impl Future<Output = ()>) -> Option<()> {
        tokio::select! {
            biased;
            () = future => Some(()),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn small_news_are_counted_and_large_ones_weighed() {
        assert_eq!(fitting(100).await, NEWS_IN_FLIGHT);
        assert_eq!(fitting(1024 * 1024).await, 4);
        assert_eq!(fitting(100 * 1024 * 1024).await, 1);
    }

    #[tokio::test]
    async fn what_is_read_makes_room_once_it_is_seen_to() {
        let (sender, mut receiver) = news_channel();
        sender.send(news_of(100 * 1024 * 1024)).await.unwrap();
        let mut second = Box::pin(sender.send(news_of(10)));
        assert!(receiver.recv().await.is_some());
        assert_eq!(once(async { second.as_mut().await.unwrap() }).await, None);
        let (received, ()) = tokio::join!(receiver.recv(), async { second.await.unwrap() });
        assert!(received.is_some());
    }
}
