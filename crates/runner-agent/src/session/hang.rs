//! What an attempt that took too long was doing: written into its output before its processes are ended.
//!
//! First come its processes with what the kernel says of each, which is always known, then whatever those print that can
//! tell their stacks (`distributest_process`' `activity` module says who is asked, and how).

use std::time::Duration;

use super::attempt::Attempt;
use super::context::Started;
use super::time_limit::TimedOut;

/// How long processes may take to print their stacks.
const STACKS_PATIENCE: Duration = Duration::from_secs(1);

/// The most processes listed.
const LISTED_PROCESSES: usize = 18;

/// Notes what an attempt's processes are doing, and has them do so. A root that is a worker's is still to be asked
/// which test ran.
pub(crate) async fn take_note(started: &Started, is_worker: bool, attempt: &Attempt, timed_out: TimedOut) {
    let looked = started.tree.activities().and_then(|activities| {
        let stacks = started.tree.ask_for_stacks(is_worker)?;
        Ok((activities, stacks))
    });
    let (activities, stacks) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            tracing::warn!(%error, "failed to look at what hangs");
            return;
        }
    };
    let mut lines = vec![format!("distributest: {timed_out}; its processes:")];
    lines.extend(activities.iter().take(LISTED_PROCESSES).map(ToString::to_string));
    if let Some(more) = activities.len().checked_sub(LISTED_PROCESSES).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    started.capture.write(lines.join("\n") + "\n").await;
    if stacks {
        attempt.cancelled.run_until_cancelled(tokio::time::sleep(STACKS_PATIENCE)).await;
    }
}
