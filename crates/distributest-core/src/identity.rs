//! The names of things in a run: files, hosts, runners, launches, attempts.
//!
//! Indices are dense and local to one run; names that people see travel beside them.

use std::fmt;

/// A test file of this run: its index in the run's list of discovered files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A host of this run: its index in the configured list of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// One execution lane of a run on a host. Numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunnerId {
    /// The host the runner lives on.
    pub host: HostId,
    /// The runner's number on that host, from 1.
    pub number: u16,
}

/// A way to run files of this run, that of one framework: its index in the run's list of launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaunchId(pub u16);

/// One execution of one test file. Never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// Attempts of a former run that a run continues have numbers from here on, which no run reaches by itself. Programs that
/// read numbers as floating point still tell them apart.
const FIRST_FORMER_ATTEMPT: u64 = 1 << 40;

impl AttemptId {
    /// The number that a run gives to an attempt of the former run that it continues; `index` counts those.
    pub fn of_former_run(index: u64) -> AttemptId {
        AttemptId(FIRST_FORMER_ATTEMPT + index)
    }

    /// Whether the attempt was made by a former run.
    pub fn is_of_former_run(self) -> bool {
        self.0 >= FIRST_FORMER_ATTEMPT
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The longest runner identifier, in bytes, that databases with a 63-byte name limit leave room for.
pub const RUNNER_IDENTIFIER_LIMIT: usize = 40;

/// Builds the identifier a runner's hooks and tests see: initiating host, user and runner number, made of
/// `[a-z0-9_]`, at most [`RUNNER_IDENTIFIER_LIMIT`] bytes, the same from run to run.
///
/// The number is the runner's own, unless another run of the same user holds it on that host at the time: then it is
/// the next one free there.
///
/// Names too long to fit are cut and given a hash of the whole, so that two long names stay different.
pub fn runner_identifier(initiating_host: &str, initiating_user: &str, number: u16) -> String {
    let name = format!("{}_{}", normalise(initiating_host), normalise(initiating_user));
    let suffix = format!("_{number}");
    let room = RUNNER_IDENTIFIER_LIMIT - suffix.len();
    if name.len() <= room {
        return name + &suffix;
    }
    let hash = format!("_{:08x}", fnv1a(name.as_bytes()));
    format!("{}{hash}{suffix}", &name[..room - hash.len()])
}

fn normalise(name: &str) -> String {
    let lowered = name.chars().map(|character| match character.to_ascii_lowercase() {
        kept @ ('a'..='z' | '0'..='9') => kept,
        _ => '_',
    });
    lowered.collect()
}

/// FNV-1a, 32 bits: stable across versions and machines, which the standard hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_normalised_and_stable() {
        assert_eq!(runner_identifier("Ana-MBP.local", "ana", 3), "ana_mbp_local_ana_3");
    }

    #[test]
    fn long_names_fit_and_stay_different() {
        let one = runner_identifier(&"x".repeat(80), "ana", 12);
        let other = runner_identifier(&"x".repeat(81), "ana", 12);
        assert_eq!(one.len(), RUNNER_IDENTIFIER_LIMIT);
        assert_ne!(one, other);
        assert!(one.ends_with("_12"));
    }
}
