//! Finds out how much memory there is for tests, and whether the kernel has killed processes because there was none left.
//!
//! The whole machine's memory is in `/proc/meminfo`, and its kills for lack of memory are counted in `/proc/vmstat`. A
//! cgroup may allow less, in either version of the hierarchy; version 2 also counts the kills of its own processes.
//! Without its memory controller there is nothing but the machine's count, in which others' processes are, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::cgroup::own_directories;

/// Bytes that processes of this one's cgroup may still use; what caches of files hold counts as free. `None` where nobody
/// says.
///
/// `proc` is `/proc`; tests give another.
pub fn available_memory(proc: &Path) -> Option<u64> {
    let machine = number_after(&proc.join("meminfo"), "MemAvailable:").map(|kib| kib.saturating_mul(1024));
    own_directories(proc).into_iter().flatten().filter_map(|cgroup| left_in(&cgroup)).chain(machine).min()
}

/// What a cgroup's limit leaves; `None` without one.
fn left_in(cgroup: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(cgroup.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = cgroup.join("memory.stat");
    // In version 1 those with `total_` count the cgroups below as well.
    let cached = |name: &str| {
        let total = number_after(&stat, &format!("total_{name}"));
        total.or_else(|| number_after(&stat, name)).unwrap_or_default()
    };
    let caches = cached("active_file").saturating_add(cached("inactive_file"));
    Some(limit.saturating_sub(used.saturating_sub(caches)))
}

/// The number that stands after a word at the beginning of a line.
fn number_after(file: &Path, word: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(word)).then(|| words.next()?.parse().ok())?
    })
}

/// Counts the processes that the kernel kills for lack of memory, those of others too where it can't tell them apart.
#[derive(Debug)]
pub struct OutOfMemoryKills {
    counter: PathBuf,
    /// What was counted at first, and each time it had become more.
    seen: Mutex<Vec<(Instant, u64)>>,
}

impl OutOfMemoryKills {
    /// Begins to count. `proc` is `/proc`; tests give another.
    pub fn count(proc: &Path) -> OutOfMemoryKills {
        let own = own_directories(proc).into_iter().flatten().map(|cgroup| cgroup.join("memory.events"));
        let counted = |file: &PathBuf| number_after(file, COUNTER).is_some();
        let counter = own.into_iter().find(counted).unwrap_or_else(|| proc.join("vmstat"));
        let first = number_after(&counter, COUNTER).unwrap_or_default();
        OutOfMemoryKills { counter, seen: Mutex::new(vec![(Instant::now(), first)]) }
    }

    /// Whether there was one since then, as far as [`OutOfMemoryKills::look`] was called before.
    pub fn any_since(&self, begin: Instant) -> bool {
        self.look();
        let seen = self.seen();
        let before = seen.iter().rev().find(|(noticed, _)| *noticed <= begin).or(seen.first());
        let last = seen.last();
        before.zip(last).is_some_and(|((_, before), (_, last))| last > before)
    }

    /// Takes note of what was counted up to now, so that it is not taken for later.
    pub fn look(&self) {
        let Some(count) = number_after(&self.counter, COUNTER) else { return };
        let mut seen = self.seen();
        if seen.last().is_none_or(|(_, last)| *last < count) {
            seen.push((Instant::now(), count));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<(Instant, u64)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel calls the number of these kills, everywhere.
const COUNTER: &str = "oom_kill";

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:    1024 kB\n";

    /// A `/proc` of a process in a cgroup of version 2 (or 1) below which `files` are.
    fn fake(version: u8, files: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("above/own")).unwrap();
        fs::create_dir(place.path().join("self")).unwrap();
        let (kind, membership) = match version {
            1 => ("cgroup /x cgroup rw,cpu 0 0\ncgroup TREE cgroup rw,memory", "4:memory:/above/own\n0::/\n"),
            _ => ("none TREE cgroup2 rw", "0::/above/own\n"),
        };
        let mounts = format!("{} 0 0\n", kind.replace("TREE", tree.to_str().unwrap()));
        for (file, text) in [("self/mounts", mounts.as_str()), ("self/cgroup", membership)] {
            fs::write(place.path().join(file), text).unwrap();
        }
        fs::write(place.path().join("meminfo"), MEMINFO).unwrap();
        fs::write(place.path().join("vmstat"), "pgfault 7\noom_kill 3\n").unwrap();
        for (file, text) in files {
            fs::write(tree.join(file), text).unwrap();
        }
        place
    }

    #[test]
    fn without_limits_it_is_the_machines_memory() {
        let unlimited = [("above/own/memory.max", "max\n"), ("above/own/memory.current", "5\n")];
        assert_eq!(available_memory(fake(2, &unlimited).path()), Some(1024 * 1024));
        assert_eq!(available_memory(fake(1, &[]).path()), Some(1024 * 1024));
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(available_memory(nowhere.path()), None);
    }

    #[test]
    fn a_cgroup_above_may_allow_less_and_caches_count_as_free() {
        let limited = [
            ("above/memory.max", "5000\n"),
            ("above/memory.current", "3000\n"),
            ("above/memory.stat", "anon 7\nactive_file 400\ninactive_file 600\n"),
            ("above/own/memory.max", "9000\n"),
            ("above/own/memory.current", "100\n"),
        ];
        assert_eq!(available_memory(fake(2, &limited).path()), Some(3000));
        let limited = [
            ("above/own/memory.limit_in_bytes", "5000\n"),
            ("above/own/memory.usage_in_bytes", "3000\n"),
            ("above/own/memory.stat", "active_file 1\ntotal_active_file 400\ntotal_inactive_file 600\n"),
        ];
        assert_eq!(available_memory(fake(1, &limited).path()), Some(3000));
    }

    #[test]
    fn a_limit_that_is_used_up_leaves_nothing() {
        let full = [("above/own/memory.max", "100\n"), ("above/own/memory.current", "200\n")];
        assert_eq!(available_memory(fake(2, &full).path()), Some(0));
    }

    #[test]
    fn a_kill_belongs_to_what_began_before_it() {
        let place = fake(2, &[]);
        let kills = OutOfMemoryKills::count(place.path());
        let early = Instant::now();
        assert!(!kills.any_since(early), "those from before count for nobody");
        fs::write(place.path().join("vmstat"), "oom_kill 4\n").unwrap();
        assert!(kills.any_since(early));
        assert!(kills.any_since(early), "both of two that died at the same time may have been killed");
        assert!(!kills.any_since(Instant::now()));
    }

    #[test]
    fn the_own_cgroups_count_comes_before_the_machines() {
        let place = fake(2, &[("above/own/memory.events", "oom 1\noom_kill 1\n")]);
        let kills = OutOfMemoryKills::count(place.path());
        let early = Instant::now();
        fs::write(place.path().join("vmstat"), "oom_kill 9\n").unwrap();
        assert!(!kills.any_since(early));
        fs::write(place.path().join("tree/above/own/memory.events"), "oom_kill 2\n").unwrap();
        assert!(kills.any_since(early));
    }
}
