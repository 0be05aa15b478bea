//! Whole runs against hosts that are made up: the real driver, scheduler, conversation, protocol and sinks on one side,
//! agents that run nothing on the other, and between them a network and a clock that do what a seed says.
//!
//! Everything that happens in a run follows from its seed: one thread, time that stands still until nobody has anything
//! to do, one source of chance. So a seed that fails can be looked at again; it says how.
//!
//! - `scenario`: what is going to happen, drawn from the seed
//! - `machine`, `network`, `agent`: a host, the connections to it, and what answers there
//! - `world`, `memory`: what really happened; `observer`: what the coordinator says, compared with it after every event
//! - `simulation`: one run, and what must be true when it is over

mod agent;
mod machine;
mod memory;
mod network;
mod observer;
mod random;
mod scenario;
mod simulation;
mod stragglers;
mod world;

use simulation::{Report, simulate};
use world::Counts;

/// How many seeds are run in all.
const SEEDS_VARIABLE: &str = "DISTRIBUTEST_SIMULATION_SEEDS";

/// Which one is replayed.
const SEED_VARIABLE: &str = "DISTRIBUTEST_SIMULATION_SEED";

/// Seeds that are run unless the environment says otherwise.
const SEEDS: u64 = 2_000;

/// Tests that share the seeds, so that they run side by side.
const SHARES: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// Runs every twentieth seed from here on.
#[expect(clippy::print_stdout, reason = "what happened in them is for whoever wants to know what was tried")]
fn run_share(share: u64) {
    let seeds = number(SEEDS_VARIABLE).unwrap_or(SEEDS);
    let mut failed = Vec::new();
    let mut sum = Counts::new();
    for seed in (share..seeds).step_by(SHARES as usize) {
        let Report { violations, counts, .. } = simulate(seed, false);
        for (what, times) in counts {
            *sum.entry(what).or_insert(0) += times;
        }
        if !violations.is_empty() {
            failed.push(format!("{}\nreplay it: {}", violations.join("\n"), replay_command(seed)));
        }
    }
    println!("{sum:?}");
    assert!(failed.is_empty(), "{} seeds failed\n\n{}", failed.len(), failed.join("\n\n"));
}

fn replay_command(seed: u64) -> String {
    format!("{SEED_VARIABLE}={seed} cargo nextest run -p distributest --test simulation replay --no-capture")
}

macro_rules! shares {
    ($($name:ident $share:literal),*) => { $(#[test] fn $name() { run_share($share); })* };
}

shares!(
    seeds_00 0, seeds_01 1, seeds_02 2, seeds_03 3, seeds_04 4, seeds_05 5, seeds_06 6, seeds_07 7, seeds_08 8, seeds_09 9, seeds_10 10, seeds_11 11, seeds_12 12, seeds_13 13, seeds_14 14, seeds_15 15, seeds_16 16, seeds_17 17, seeds_18 18, seeds_19 19
);

/// Runs a seed twice, the one that is asked for or some others, and expects the same to happen again.
#[test]
#[expect(clippy::print_stdout, reason = "the trace is what a replay is for")]
fn replay() {
    let wanted = number(SEED_VARIABLE);
    for seed in wanted.map_or(0..10, |seed| seed..seed + 1) {
        let report = simulate(seed, true);
        if wanted.is_some() {
            println!("{}", report.trace.join("\n"));
        }
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        let again = simulate(seed, true);
        let difference = report.trace.iter().zip(&again.trace).find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed} is not the same again");
        assert_eq!(report.trace.len(), again.trace.len(), "seed {seed} is longer or shorter the second time");
    }
}
