//! Holds an event back until all the output that comes before it has arrived.
//!
//! Control messages overtake log bytes on purpose, so an agent's "finished" can be here before the last bytes of the
//! attempt it ends. The scheduler acts on it at once; the reporters get it when the block is complete. What happens in
//! a lane stays in its order: an event waits for those that wait in its runner's lane, and for those in its host's,
//! where node_setup is.
//!
//! What waits is held in memory, so when it is much ([`OutputBlocks::is_full`]) the driver takes no more news until output
//! has come. That output is under way already: an agent closes a block once all of it is sent.

use std::collections::HashMap;

use distributest_core::identity::{HostId, RunnerId};
use distributest_core::run_event::{BlockId, RunEvent};

/// Bytes of waiting events that are much.
const FULL_BYTES: usize = 4 * 1024 * 1024;

/// A host, or one of its runners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The host.
    pub host: HostId,
    /// The runner's number; `None` for what concerns the whole host.
    pub runner: Option<u16>,
}

impl From<RunnerId> for Lane {
    fn from(runner: RunnerId) -> Lane {
        Lane { host: runner.host, runner: Some(runner.number) }
    }
}

/// The blocks that are open, or closed but not yet complete.
#[derive(Default)]
pub struct OutputBlocks {
    blocks: HashMap<BlockId, Block>,
    /// The block that was closed last in each lane.
    last_closed: HashMap<Lane, BlockId>,
    /// Bytes of the events that wait.
    waiting_bytes: usize,
}

#[derive(Default)]
struct Block {
    received: u64,
    /// Bytes in all and what is to follow them; `None` while the block is open.
    closing: Option<(u64, Vec<RunEvent>)>,
}

impl OutputBlocks {
    /// Counts bytes of a block; returns the events that were waiting for the last of them.
    pub fn received(&mut self, block: BlockId, bytes: u64) -> Vec<RunEvent> {
        let entry = self.blocks.entry(block).or_default();
        entry.received += bytes;
        self.release_if_complete(block)
    }

    /// Closes a block of a lane: `events` come after its `total` bytes. Returns them when nothing is missing.
    pub fn close(&mut self, lane: Lane, block: BlockId, total: u64, events: Vec<RunEvent>) -> Vec<RunEvent> {
        self.waiting_bytes += bytes_of(&events);
        // An agent that closes a block twice is mistaken; what waits there waits on.
        let closing = &mut self.blocks.entry(block).or_default().closing;
        closing.get_or_insert((total, Vec::new())).1.extend(events);
        let events = self.release_if_complete(block);
        let events = self.in_lane(lane, events);
        // A block that is complete keeps nothing waiting, but one before it may.
        if self.blocks.contains_key(&block) {
            self.last_closed.insert(lane, block);
        }
        events
    }

    /// Adds events to those that wait in a lane. Returns them when none do.
    pub fn in_lane(&mut self, lane: Lane, mut events: Vec<RunEvent>) -> Vec<RunEvent> {
        for lane in [lane, Lane { runner: None, ..lane }] {
            let block = self.last_closed.get(&lane).and_then(|block| self.blocks.get_mut(block));
            if let Some((_, waiting)) = block.and_then(|block| block.closing.as_mut()) {
                self.waiting_bytes += bytes_of(&events);
                waiting.append(&mut events);
            }
        }
        events
    }

    /// Gives up waiting for the output of a host's blocks below a number: the connection is gone that would bring it.
    /// Returns what was waiting for it.
    pub fn output_ended(&mut self, host: HostId, below: u64) -> Vec<RunEvent> {
        let is_meant = |block: &BlockId| block.host == host && block.number < below;
        let mut ended: Vec<BlockId> = self.blocks.keys().copied().filter(is_meant).collect();
        ended.sort();
        ended.into_iter().flat_map(|block| self.release(block)).collect()
    }

    /// Whether so much waits that no more should come.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes > FULL_BYTES
    }

    /// Gives up waiting for output at all. Returns what was waiting. Blocks that are open stay so.
    pub fn release_all(&mut self) -> Vec<RunEvent> {
        let closed = self.blocks.iter().filter(|(_, block)| block.closing.is_some());
        let mut closed: Vec<BlockId> = closed.map(|(block, _)| *block).collect();
        closed.sort();
        closed.into_iter().flat_map(|block| self.release(block)).collect()
    }

    fn release_if_complete(&mut self, block: BlockId) -> Vec<RunEvent> {
        let complete = self
            .blocks
            .get(&block)
            .is_some_and(|entry| entry.closing.as_ref().is_some_and(|(total, _)| entry.received >= *total));
        if complete { self.release(block) } else { Vec::new() }
    }

    /// Forgets a block. Returns what was waiting for it.
    fn release(&mut self, block: BlockId) -> Vec<RunEvent> {
        let closing = self.blocks.remove(&block).and_then(|entry| entry.closing);
        let events = closing.map(|(_, events)| events).unwrap_or_default();
        self.waiting_bytes -= bytes_of(&events);
        events
    }
}

/// What events take, roughly.
fn bytes_of(events: &[RunEvent]) -> usize {
    let texts = |event: &RunEvent| match event {
        RunEvent::TestFinished { test, .. } => {
            test.id.len() + test.name.len() + test.message.len() + test.details.len()
        }
        RunEvent::AttemptFinished(report) => report.message.len() + report.details.len(),
        _ => 0,
    };
    events.iter().map(|event| size_of::<RunEvent>() + texts(event)).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use distributest_core::identity::{AttemptId, FileId};
    use distributest_core::test_result::{TestResult, TestStatus};

    use super::*;

    const NODE: Lane = Lane { host: HostId(0), runner: None };
    const RUNNER: Lane = Lane { host: HostId(0), runner: Some(1) };
    const BLOCK: BlockId = BlockId { host: HostId(0), number: 1 };

    fn event() -> Vec<RunEvent> {
        vec![RunEvent::StopRequested]
    }

    #[test]
    fn an_event_waits_for_the_last_byte_and_no_longer() {
        let mut blocks = OutputBlocks::default();
        assert_eq!(blocks.received(BLOCK, 3), vec![]);
        assert_eq!(blocks.close(RUNNER, BLOCK, 5, event()), vec![]);
        assert_eq!(blocks.received(BLOCK, 1), vec![]);
        assert_eq!(blocks.received(BLOCK, 1), event());
    }

    #[test]
    fn an_event_whose_bytes_are_all_here_does_not_wait() {
        let mut blocks = OutputBlocks::default();
        assert_eq!(blocks.close(RUNNER, BLOCK, 0, event()), event());
        let other = BlockId { number: 2, ..BLOCK };
        assert_eq!(blocks.received(other, 3), vec![]);
        assert_eq!(blocks.close(RUNNER, other, 3, event()), event());
    }

    #[test]
    fn a_lost_host_releases_what_waited_for_it_alone() {
        let mut blocks = OutputBlocks::default();
        let elsewhere = BlockId { host: HostId(1), number: 1 };
        blocks.close(RUNNER, BLOCK, 5, event());
        blocks.close(Lane { host: HostId(1), ..RUNNER }, elsewhere, 5, event());
        let next_connection = BlockId { number: 100, ..BLOCK };
        assert_eq!(blocks.received(next_connection, 3), vec![]);
        assert_eq!(blocks.output_ended(HostId(0), 100), event());
        assert_eq!(blocks.close(RUNNER, next_connection, 3, event()), event());
        assert_eq!(blocks.received(elsewhere, 5), event());
    }

    #[test]
    fn a_block_that_is_closed_twice_loses_no_event() {
        let warning = |text: &str| vec![RunEvent::Warning { message: text.into() }];
        let mut blocks = OutputBlocks::default();
        assert_eq!(blocks.close(RUNNER, BLOCK, 5, warning("one")), vec![]);
        assert_eq!(blocks.close(RUNNER, BLOCK, 3, warning("other")), vec![]);
        assert_eq!(blocks.received(BLOCK, 5), [warning("one"), warning("other")].concat());
        assert_eq!(blocks.waiting_bytes, 0);
    }

    #[test]
    fn an_event_waits_for_an_older_block_behind_one_that_is_complete() {
        let warning = |text: &str| vec![RunEvent::Warning { message: text.into() }];
        let mut blocks = OutputBlocks::default();
        blocks.close(RUNNER, BLOCK, 5, warning("runner_setup"));
        let empty = BlockId { number: 2, ..BLOCK };
        assert_eq!(blocks.close(RUNNER, empty, 0, warning("worker")), vec![]);
        assert_eq!(blocks.in_lane(RUNNER, warning("started")), vec![]);
        let told = blocks.received(BLOCK, 5);
        assert_eq!(told, [warning("runner_setup"), warning("worker"), warning("started")].concat());
    }

    #[test]
    fn what_happens_in_a_lane_stays_in_its_order() {
        let warning = |text: &str| vec![RunEvent::Warning { message: text.into() }];
        let mut blocks = OutputBlocks::default();
        blocks.close(NODE, BLOCK, 5, warning("node_setup"));
        let empty = BlockId { number: 2, ..BLOCK };
        assert_eq!(blocks.close(RUNNER, empty, 0, warning("runner_setup")), vec![]);
        assert_eq!(blocks.in_lane(RUNNER, warning("ready")), vec![]);
        let elsewhere = Lane { host: HostId(1), ..RUNNER };
        assert_eq!(blocks.in_lane(elsewhere, warning("ready")), warning("ready"));
        let told = blocks.received(BLOCK, 5);
        assert_eq!(told, [warning("node_setup"), warning("runner_setup"), warning("ready")].concat());
        let last = BlockId { number: 3, ..BLOCK };
        assert_eq!(blocks.close(RUNNER, last, 1, warning("attempt")), vec![]);
        assert_eq!(blocks.in_lane(RUNNER, warning("failed")), vec![]);
        assert_eq!(blocks.in_lane(Lane { runner: Some(2), ..NODE }, warning("fine")), warning("fine"));
        assert_eq!(blocks.received(last, 1), [warning("attempt"), warning("failed")].concat());
        assert_eq!(blocks.in_lane(RUNNER, warning("over")), warning("over"));
    }

    #[test]
    fn it_is_full_while_much_waits_and_gives_everything_in_order() {
        let test = |number: usize| {
            let test = TestResult {
                id: number.to_string(),
                name: String::new(),
                status: TestStatus::Failed,
                duration: Duration::ZERO,
                message: String::new(),
                details: "x".repeat(1024 * 1024),
                file: None,
                line: None,
            };
            vec![RunEvent::TestFinished { attempt: AttemptId(2), file: FileId(0), test }]
        };
        let mut blocks = OutputBlocks::default();
        assert_eq!(blocks.close(RUNNER, BLOCK, 5, event()), vec![]);
        let mut waiting = 0;
        while !blocks.is_full() {
            assert_eq!(blocks.in_lane(RUNNER, test(waiting)), vec![]);
            waiting += 1;
        }
        assert_eq!(waiting, FULL_BYTES / (1024 * 1024));
        let expected: Vec<RunEvent> = event().into_iter().chain((0..waiting).flat_map(test)).collect();
        let mut other_way = OutputBlocks::default();
        other_way.close(RUNNER, BLOCK, 5, event());
        (0..waiting).for_each(|number| drop(other_way.in_lane(RUNNER, test(number))));
        assert_eq!(blocks.received(BLOCK, 5), expected);
        assert!(!blocks.is_full());
        assert_eq!(other_way.release_all(), expected);
        assert!(!other_way.is_full());
        assert_eq!(blocks.waiting_bytes, 0);
        // Bytes that come after all are not waited for again.
        assert_eq!(other_way.in_lane(RUNNER, event()), event());
    }
}
