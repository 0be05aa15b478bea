//! The slot arbiter: a test for each rule, and properties over generated histories of runs that come, claim
//! and go.

use std::collections::{BTreeMap, BTreeSet};

use distributest_core::slots::{SlotArbiter, SlotCommand, SlotEvent};
use proptest::prelude::*;

fn handle(arbiter: &mut SlotArbiter, event: SlotEvent) -> Vec<(u64, u64)> {
    let mut commands = Vec::new();
    arbiter.handle(event, &mut commands);
    let granted = commands.into_iter().filter_map(|command| match command {
        SlotCommand::Grant { run, claim, .. } => Some((run, claim)),
        SlotCommand::Wanted { .. } => None,
    });
    granted.collect()
}

fn commands(arbiter: &mut SlotArbiter, event: SlotEvent) -> Vec<SlotCommand> {
    let mut commands = Vec::new();
    arbiter.handle(event, &mut commands);
    commands
}

fn joined(run: u64) -> SlotEvent {
    SlotEvent::RunJoined { run }
}

fn left(run: u64) -> SlotEvent {
    SlotEvent::RunLeft { run }
}

fn claimed(run: u64, claim: u64) -> SlotEvent {
    SlotEvent::Claimed { run, claim }
}

fn released(run: u64, claim: u64) -> SlotEvent {
    SlotEvent::Released { run, claim }
}

/// An arbiter on which these runs have joined.
fn arbiter(slots: usize, runs: &[u64]) -> SlotArbiter {
    let mut arbiter = SlotArbiter::new(slots);
    runs.iter().for_each(|run| assert_eq!(handle(&mut arbiter, joined(*run)), []));
    arbiter
}

#[test]
fn a_run_alone_has_all_slots_in_the_order_of_its_claims() {
    let mut arbiter = arbiter(2, &[1]);
    assert_eq!(handle(&mut arbiter, claimed(1, 7)), [(1, 7)]);
    assert_eq!(handle(&mut arbiter, claimed(1, 8)), [(1, 8)]);
    assert_eq!(handle(&mut arbiter, claimed(1, 9)), []);
    assert_eq!(handle(&mut arbiter, claimed(1, 5)), []);
    assert_eq!(handle(&mut arbiter, released(1, 8)), [(1, 9)]);
    assert_eq!(handle(&mut arbiter, released(1, 7)), [(1, 5)]);
}

#[test]
fn a_run_that_joins_a_full_host_is_served_until_both_have_the_same() {
    let mut arbiter = arbiter(4, &[1, 2]);
    for claim in 1..=8 {
        handle(&mut arbiter, claimed(1, claim));
    }
    for claim in 1..=8 {
        assert_eq!(handle(&mut arbiter, claimed(2, claim)), [], "what is held is not taken away");
    }
    assert_eq!(handle(&mut arbiter, released(1, 1)), [(2, 1)]);
    assert_eq!(handle(&mut arbiter, released(1, 2)), [(2, 2)]);
    assert_eq!(handle(&mut arbiter, released(1, 3)), [(1, 5)], "each has its share: its own slot comes back");
    assert_eq!(handle(&mut arbiter, released(2, 1)), [(2, 3)]);
}

#[test]
fn among_equals_the_oldest_claim_is_first() {
    let mut arbiter = arbiter(1, &[1, 2, 3]);
    handle(&mut arbiter, claimed(3, 1));
    handle(&mut arbiter, claimed(2, 1));
    handle(&mut arbiter, claimed(1, 1));
    assert_eq!(handle(&mut arbiter, released(3, 1)), [(2, 1)]);
    assert_eq!(handle(&mut arbiter, released(2, 1)), [(1, 1)]);
}

#[test]
fn a_run_that_leaves_gives_everything_back_and_is_served_no_more() {
    let mut arbiter = arbiter(2, &[1, 2]);
    for claim in 1..=3 {
        handle(&mut arbiter, claimed(1, claim));
        handle(&mut arbiter, claimed(2, claim));
    }
    assert_eq!(handle(&mut arbiter, left(1)), [(2, 2)]);
    assert_eq!(handle(&mut arbiter, released(1, 1)), [], "its late releases free nothing twice");
    assert_eq!(handle(&mut arbiter, claimed(1, 9)), [], "its late claims wait for nothing");
    assert_eq!(handle(&mut arbiter, left(2)), []);
    assert_eq!(arbiter.free(), 2);
}

#[test]
fn a_claim_that_is_not_wanted_any_more_leaves_the_queue() {
    let mut arbiter = arbiter(1, &[1]);
    handle(&mut arbiter, claimed(1, 1));
    handle(&mut arbiter, claimed(1, 2));
    handle(&mut arbiter, claimed(1, 3));
    assert_eq!(handle(&mut arbiter, released(1, 2)), []);
    assert_eq!(handle(&mut arbiter, released(1, 1)), [(1, 3)]);
}

#[test]
fn a_repeated_claim_is_granted_once() {
    let mut arbiter = arbiter(3, &[1]);
    assert_eq!(handle(&mut arbiter, claimed(1, 1)), [(1, 1)]);
    assert_eq!(handle(&mut arbiter, claimed(1, 1)), []);
    assert_eq!(handle(&mut arbiter, joined(1)), [], "joining again keeps what it has");
    assert_eq!(arbiter.free(), 2);
    handle(&mut arbiter, released(1, 1));
    handle(&mut arbiter, released(1, 1));
    assert_eq!(arbiter.free(), 3);
    assert_eq!(handle(&mut arbiter, claimed(1, 1)), [(1, 1)], "a number is free again after its release");
}

#[test]
fn slots_last_until_somebody_waits() {
    let grant = |run, claim, lasting| SlotCommand::Grant { run, claim, lasting };
    let mut arbiter = arbiter(2, &[1, 2, 3]);
    assert_eq!(commands(&mut arbiter, claimed(1, 1)), [grant(1, 1, true)]);
    assert_eq!(commands(&mut arbiter, claimed(2, 1)), [grant(2, 1, true)]);
    let wanted = [SlotCommand::Wanted { run: 1 }, SlotCommand::Wanted { run: 2 }];
    assert_eq!(commands(&mut arbiter, claimed(3, 1)), wanted);
    assert_eq!(commands(&mut arbiter, claimed(1, 2)), [], "they know");
    assert_eq!(commands(&mut arbiter, released(1, 1)), [grant(3, 1, false)]);
    assert_eq!(commands(&mut arbiter, released(2, 1)), [grant(1, 2, true)], "nobody waits any more");
    assert_eq!(
        commands(&mut arbiter, claimed(2, 2)),
        [SlotCommand::Wanted { run: 1 }, SlotCommand::Wanted { run: 3 }]
    );
}

/// What each run present holds and waits for, oldest claim first.
#[derive(Default)]
struct Model {
    runs: BTreeMap<u64, (Vec<u64>, Vec<u64>)>,
}

impl Model {
    fn observe_event(&mut self, event: SlotEvent) {
        match event {
            SlotEvent::RunJoined { run } => _ = self.runs.entry(run).or_default(),
            SlotEvent::RunLeft { run } => _ = self.runs.remove(&run),
            SlotEvent::Claimed { run, claim } => {
                if let Some((held, waiting)) = self.runs.get_mut(&run)
                    && !held.contains(&claim)
                    && !waiting.contains(&claim)
                {
                    waiting.push(claim);
                }
            }
            SlotEvent::Released { run, claim } => {
                if let Some((held, waiting)) = self.runs.get_mut(&run) {
                    held.retain(|other| *other != claim);
                    waiting.retain(|other| *other != claim);
                }
            }
        }
    }

    fn observe_grant(&mut self, run: u64, claim: u64) {
        let poorest =
            self.runs.values().filter(|(_, waiting)| !waiting.is_empty()).map(|(held, _)| held.len()).min();
        let (held, waiting) = self.runs.get_mut(&run).expect("only runs that are present are granted slots");
        assert_eq!(Some(held.len()), poorest, "no grant goes to a richer run while a poorer one waits");
        assert_eq!(waiting.remove(0), claim, "within a run claims are granted in order");
        held.push(claim);
    }

    fn held(&self) -> usize {
        self.runs.values().map(|(held, _)| held.len()).sum()
    }

    fn is_anyone_waiting(&self) -> bool {
        self.runs.values().any(|(_, waiting)| !waiting.is_empty())
    }
}

/// The event a generated number stands for: among 4 runs with 8 claims each, mostly claims and releases.
fn event_of(number: u16) -> SlotEvent {
    let (kind, run, claim) = (number % 20, u64::from(number / 20 % 4), u64::from(number / 80 % 8));
    match kind {
        0..2 => joined(run),
        2 => left(run),
        3..13 => claimed(run, claim),
        _ => released(run, claim),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_shared_fairly_and_never_exceeded(
        slots in 0..6_usize,
        numbers in prop::collection::vec(any::<u16>(), 0..120),
    ) {
        let mut arbiter = SlotArbiter::new(slots);
        let mut model = Model::default();
        // Runs that may use a slot for more than one thing, as far as they know.
        let mut lasts = BTreeSet::new();
        for event in numbers.into_iter().map(event_of) {
            model.observe_event(event);
            let commands = commands(&mut arbiter, event);
            for command in &commands {
                match *command {
                    SlotCommand::Grant { run, claim, lasting } => {
                        model.observe_grant(run, claim);
                        if lasting {
                            lasts.insert(run);
                        }
                    }
                    SlotCommand::Wanted { run } => _ = lasts.remove(&run),
                }
            }
            lasts.retain(|run| model.runs.get(run).is_some_and(|(held, _)| !held.is_empty()));
            prop_assert!(lasts.is_empty() || !model.is_anyone_waiting(), "who may go on knows when not to");
            prop_assert_eq!(arbiter.free() + model.held(), slots, "every slot is held or free");
            let is_idle = arbiter.free() > 0 && model.is_anyone_waiting();
            prop_assert!(!is_idle, "no slot is free while a claim waits");
        }
    }
}
