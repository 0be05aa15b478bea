//! Shares an agent's slots among the runs on its host.
//!
//! A slot is the right to execute now. Each run claims one slot for each thing it wants to execute; the
//! arbiter grants as many claims as there are slots. Rules:
//!
//! 1. A slot never stays free while a claim waits, so a run alone has them all.
//! 2. A free slot goes to the waiting run that holds the fewest (max-min fairness); among equals, to the one
//!    whose oldest claim has waited longest. Within a run, claims are granted in the order they came.
//! 3. A granted slot is never taken away. A run that joins a full host gets its share as slots are released.
//!    A run whose grant is *lasting* may execute one thing after another with it; it is told when somebody begins to
//!    wait, and releases its slots after what they execute at that time. Asking for each thing costs more than the
//!    smallest of them do. No grant is lasting while a claim waits.
//! 4. A run that leaves, for whatever reason, gives back everything it held or waited for.
//!
//! Events about unknown runs or claims, and repeated ones, change nothing. A claim costs O(runs + its run's
//! waiting claims), and both are small: developers on one host, and runners of one run.

use std::collections::{BTreeMap, HashSet, VecDeque};

/// Something that happened to the runs on a host. Runs are numbered by whoever sends this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotEvent {
    /// A run is here and may claim slots.
    RunJoined {
        /// The run.
        run: u64,
    },
    /// A run is gone, dead or done; its claims are void.
    RunLeft {
        /// The run.
        run: u64,
    },
    /// A run wants to execute something. Promised reply: a [`SlotCommand::Grant`], as soon as it is its turn.
    Claimed {
        /// The run.
        run: u64,
        /// The run's own number for what it wants to execute; free for use again after its release.
        claim: u64,
    },
    /// What the claim was for is over, or not wanted any more: gives back the slot, or leaves the queue.
    Released {
        /// The run.
        run: u64,
        /// The claim.
        claim: u64,
    },
}

/// Something the agent is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotCommand {
    /// This claim may execute now, until it is released.
    Grant {
        /// The run.
        run: u64,
        /// The claim.
        claim: u64,
        /// Whether it may be used for more than one thing, until [`SlotCommand::Wanted`].
        lasting: bool,
    },
    /// Somebody waits: the run's slots are to be released after what they execute now.
    Wanted {
        /// The run.
        run: u64,
    },
}

/// The slots of one host and who holds them. See the [module](self) for its rules.
#[derive(Debug)]
pub struct SlotArbiter {
    free: usize,
    runs: BTreeMap<u64, Run>,
    next_arrival: u64,
    /// A claim waits, and all who hold slots know.
    contended: bool,
}

#[derive(Debug, Default)]
struct Run {
    held: HashSet<u64>,
    waiting: VecDeque<WaitingClaim>,
}

#[derive(Debug)]
struct WaitingClaim {
    claim: u64,
    /// Position among all claims ever made on the host.
    arrival: u64,
}

impl SlotArbiter {
    /// A host with this many slots and nobody on it. Without slots nothing is ever granted.
    pub fn new(slots: usize) -> Self {
        SlotArbiter { free: slots, runs: BTreeMap::new(), next_arrival: 0, contended: false }
    }

    /// Slots nobody holds.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Takes in what happened and appends what is to be done about it.
    pub fn handle(&mut self, event: SlotEvent, commands: &mut Vec<SlotCommand>) {
        match event {
            SlotEvent::RunJoined { run } => _ = self.runs.entry(run).or_default(),
            SlotEvent::RunLeft { run } => {
                if let Some(gone) = self.runs.remove(&run) {
                    self.free += gone.held.len();
                }
            }
            SlotEvent::Claimed { run, claim } => {
                if let Some(run) = self.runs.get_mut(&run)
                    && !run.knows(claim)
                {
                    run.waiting.push_back(WaitingClaim { claim, arrival: self.next_arrival });
                    self.next_arrival += 1;
                }
            }
            SlotEvent::Released { run, claim } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    self.free += usize::from(run.held.remove(&claim));
                    run.waiting.retain(|waiting| waiting.claim != claim);
                }
            }
        }
        let mut granted = Vec::new();
        while self.free > 0
            && let Some(grant) = self.grant_next()
        {
            self.free -= 1;
            granted.push(grant);
        }
        let was_contended = self.contended;
        self.contended = self.runs.values().any(|run| !run.waiting.is_empty());
        let lasting = !self.contended;
        commands.extend(granted.into_iter().map(|(run, claim)| SlotCommand::Grant { run, claim, lasting }));
        if self.contended && !was_contended {
            let holders = self.runs.iter().filter(|(_, run)| !run.held.is_empty());
            commands.extend(holders.map(|(number, _)| SlotCommand::Wanted { run: *number }));
        }
    }

    /// Gives a slot to the waiting run that holds the fewest: returns the run and its claim.
    fn grant_next(&mut self) -> Option<(u64, u64)> {
        let waiting = self.runs.iter_mut().filter_map(|(number, run)| {
            let oldest = run.waiting.front()?.arrival;
            Some(((run.held.len(), oldest), *number, run))
        });
        let (_, number, run) = waiting.min_by_key(|(place, ..)| *place)?;
        let claim = run.waiting.pop_front()?.claim;
        run.held.insert(claim);
        Some((number, claim))
    }
}

impl Run {
    fn knows(&self, claim: u64) -> bool {
        self.held.contains(&claim) || self.waiting.iter().any(|waiting| waiting.claim == claim)
    }
}
