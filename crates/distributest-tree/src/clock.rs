//! The clock that files are dated with, and whether the date of a change can be trusted.
//!
//! A file system dates changes with a clock that stands still for some milliseconds at a time. What was changed within the
//! present tick may be changed once more without a trace; what was changed before can't.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{Stat, statfs};
use rustix::time::{ClockId, clock_gettime};

const SECOND: i64 = 1_000_000_000;

/// The longest that [`wait_for_tick`] waits: a tick of the slowest kernels is 10 ms.
const LONGEST_TICK: Duration = Duration::from_millis(40);

/// File systems of which it is known that they date each change, with this machine's clock: ext2 to 4, XFS, btrfs, tmpfs,
/// overlayfs, ZFS, F2FS, bcachefs. Those of the network have clocks of their own, and FUSE may do anything.
const TRUSTED: [i128; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010, 0xca45_1a4e];

/// Whether the file system dates changes in a way that can be relied upon.
pub(crate) fn is_trusted(directory: &Path) -> io::Result<bool> {
    Ok(TRUSTED.contains(&i128::from(statfs(directory)?.f_type)))
}

/// The date that a change would get now, in nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    nanoseconds(now.tv_sec, now.tv_nsec)
}

/// Waits until what is changed from now on gets a later date than what was changed before.
pub(crate) fn wait_for_tick() {
    let start = now();
    let mut waited = Duration::ZERO;
    while now() == start && waited < LONGEST_TICK {
        thread::sleep(Duration::from_millis(1));
        waited += Duration::from_millis(1);
    }
}

/// Whether a change after `now` would have been given another date than `changed`. Where times are whole seconds, that
/// takes two of them.
pub(crate) fn is_settled(changed: i64, now: i64) -> bool {
    if changed % SECOND == 0 { changed.saturating_add(2 * SECOND) < now } else { changed < now }
}

/// When a file's contents were changed.
pub(crate) fn modified(stat: &Stat) -> i64 {
    nanoseconds(stat.st_mtime, stat.st_mtime_nsec)
}

/// When anything of a file was changed, as the system noted.
pub(crate) fn changed(stat: &Stat) -> i64 {
    nanoseconds(stat.st_ctime, stat.st_ctime_nsec)
}

/// Dates outside the years 1678 to 2262 are cut off.
#[expect(clippy::useless_conversion, reason = "the types differ between machines")]
fn nanoseconds(seconds: impl Into<i64>, nanoseconds: impl TryInto<i64>) -> i64 {
    let nanoseconds = nanoseconds.try_into().unwrap_or(0);
    i64::from(seconds.into()).saturating_mul(SECOND).saturating_add(nanoseconds)
}
