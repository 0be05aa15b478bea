//! When an attempt has taken too long.
//!
//! What is limited is silence, for a long file is no broken one. An attempt is *heard* whenever its processes write
//! a byte or its worker says something, such as that a test ended. The rules:
//!
//! - A silence of `timeout` ends it, but not before it is [`PATIENCE`] times as old as the file should take, where
//!   that is known: a file that is known to be slow may be silent for long.
//! - One that is never silent (a loop that prints) ends when it is [`PATIENCE`] times as old as the longer of the
//!   two.
//!
//! While what it wrote waits for the coordinator to take it, its processes may be unable to go on, so that is no
//! silence.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use distributest_protocol::wire;
use humantime::format_duration;
use tokio::time::Instant;

use super::context::time_limit;

/// How many times longer than it should an attempt may take, in whatever way.
const PATIENCE: u32 = 10;

/// How long an attempt may take, and be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimit {
    /// `timeout`: the longest silence.
    silence: Duration,
    /// How long the file should take; zero where nobody knows.
    expected: Duration,
}

/// How an attempt took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimedOut {
    /// It was silent for as long as `timeout` allows.
    Silent(Duration),
    /// It was, and has had this many times its time, which came later.
    SilentAndLate(Duration),
    /// It was never silent for long, but would not end.
    Endless(Duration),
}

impl fmt::Display for TimedOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TimedOut::Silent(silence) => write!(formatter, "no output for {}", told(silence)),
            TimedOut::SilentAndLate(age) => {
                write!(formatter, "no output any more, and not done after {}", told(age))?;
                write!(formatter, ", {PATIENCE} times as long as expected")
            }
            TimedOut::Endless(age) => {
                write!(formatter, "not done after {}, although never silent for long", told(age))
            }
        }
    }
}

/// As `timeout` is written, to the second where that is exact enough.
fn told(duration: Duration) -> humantime::FormattedDuration {
    let seconds = Duration::from_secs(duration.as_secs());
    let milliseconds = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    format_duration(if duration.as_secs() >= 10 { seconds } else { milliseconds })
}

impl TimeLimit {
    /// The limit of an attempt, if it has one.
    pub(crate) fn of(dispatch: &wire::Dispatch) -> Option<TimeLimit> {
        let silence = time_limit(dispatch.timeout_milliseconds)?;
        Some(TimeLimit { silence, expected: Duration::from_millis(dispatch.expected_milliseconds.into()) })
    }

    /// What an attempt of this age is guilty of after so long a silence, or else when to look again.
    fn check(&self, age: Duration, silence: Duration) -> Result<TimedOut, Duration> {
        let late = self.expected * PATIENCE;
        let endless = self.silence.max(self.expected) * PATIENCE;
        let silent = age.saturating_sub(silence) + self.silence;
        if age >= silent.max(late) {
            return Ok(if late > silent {
                TimedOut::SilentAndLate(late)
            } else {
                TimedOut::Silent(self.silence)
            });
        }
        if age >= endless {
            return Ok(TimedOut::Endless(endless));
        }
        Err(silent.max(late).min(endless) - age)
    }
}

/// When an attempt's processes were last heard; cheap to clone.
#[derive(Clone)]
pub(crate) struct LastHeard(Arc<Mutex<Heard>>);

struct Heard {
    last: Instant,
    /// What they wrote is being passed on.
    being_passed_on: bool,
}

impl LastHeard {
    /// Heard right now.
    pub(crate) fn now() -> Self {
        LastHeard(Arc::new(Mutex::new(Heard { last: Instant::now(), being_passed_on: false })))
    }

    /// They were heard.
    pub(crate) fn note(&self) {
        self.lock().last = Instant::now();
    }

    /// They were heard, and are until what they wrote has been passed on.
    pub(crate) async fn while_passing_on<T>(&self, passing_on: impl Future<Output = T>) -> T {
        self.lock().being_passed_on = true;
        let passed_on = passing_on.await;
        *self.lock() = Heard { last: Instant::now(), being_passed_on: false };
        passed_on
    }

    fn silence(&self) -> Duration {
        let heard = self.lock();
        if heard.being_passed_on { Duration::ZERO } else { heard.last.elapsed() }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until an attempt that starts now takes too long; without a limit, for ever.
pub(crate) async fn overrun(limit: Option<TimeLimit>, heard: &LastHeard) -> TimedOut {
    let Some(limit) = limit else { return pending().await };
    heard.note();
    let begin = Instant::now();
    loop {
        match limit.check(begin.elapsed(), heard.silence()) {
            Ok(timed_out) => return timed_out,
            Err(rest) => tokio::time::sleep(rest).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limit(silence: Duration, expected: Duration) -> Option<TimeLimit> {
        Some(TimeLimit { silence, expected })
    }

    /// How an attempt ends that is heard at these ages, and at which age.
    async fn ends(
        limit: Option<TimeLimit>,
        heard_at: impl IntoIterator<Item = Duration>,
    ) -> (String, Duration) {
        let heard = LastHeard::now();
        let begin = Instant::now();
        let speaker = async {
            for age in heard_at {
                tokio::time::sleep_until(begin + age).await;
                heard.note();
            }
            pending().await
        };
        let timed_out = tokio::select! {
            timed_out = overrun(limit, &heard) => timed_out,
            () = speaker => unreachable!("it is pending for ever"),
        };
        (timed_out.to_string(), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_sign_of_life() {
        let limit = limit(10 * MINUTE, Duration::ZERO);
        assert_eq!(ends(limit, []).await, ("no output for 10m".to_owned(), 10 * MINUTE));
        let heard_at = [9 * MINUTE, 15 * MINUTE];
        assert_eq!(ends(limit, heard_at).await, ("no output for 10m".to_owned(), 25 * MINUTE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_file_may_be_silent_for_ten_times_what_it_should_take() {
        let message = "no output any more, and not done after 50m, 10 times as long as expected".to_owned();
        assert_eq!(ends(limit(10 * MINUTE, 5 * MINUTE), [20 * MINUTE]).await, (message, 50 * MINUTE));
        let (message, age) = ends(limit(10 * MINUTE, 5 * MINUTE), [45 * MINUTE]).await;
        assert_eq!((message.as_str(), age), ("no output for 10m", 55 * MINUTE));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_silent_ends_as_well() {
        let every_second = (1..).map(Duration::from_secs);
        let message = "not done after 1h 40m, although never silent for long".to_owned();
        assert_eq!(ends(limit(10 * MINUTE, MINUTE), every_second.clone()).await, (message, 100 * MINUTE));
        let (message, age) = ends(limit(MINUTE, 20 * MINUTE), every_second).await;
        assert_eq!(
            (message.as_str(), age),
            ("not done after 3h 20m, although never silent for long", 200 * MINUTE)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn output_that_waits_for_its_reader_is_no_silence() {
        let heard = LastHeard::now();
        let limit = limit(MINUTE, Duration::ZERO);
        let begin = Instant::now();
        let stuck = async {
            tokio::time::sleep(MINUTE / 2).await;
            heard.while_passing_on(tokio::time::sleep(4 * MINUTE)).await;
            pending::<()>().await;
        };
        tokio::select! {
            timed_out = overrun(limit, &heard) => assert_eq!(timed_out, TimedOut::Silent(MINUTE)),
            () = stuck => {}
        }
        assert_eq!(begin.elapsed(), MINUTE / 2 + 5 * MINUTE);
    }

    #[test]
    fn short_limits_are_told_exactly() {
        assert_eq!(TimedOut::Silent(Duration::from_millis(1500)).to_string(), "no output for 1s 500ms");
        assert_eq!(
            TimedOut::Endless(Duration::from_millis(90_700)).to_string().split(',').next(),
            Some("not done after 1m 30s")
        );
    }
}
