//! Holds an event back until all the output that comes before it has arrived.
//!
//! Control messages overtake log bytes on purpose, so an agent's "finished" can be here before the last bytes of the
//! attempt it ends. The scheduler acts on it at once; the reporters get it when the block is complete. What happens in
//! a lane stays in its order: an event waits for those that wait in its runner's lane, and for those in its host's,
//! where node_setup is.

use std::collections::HashMap;

use distributest_core::identity::{HostId, RunnerId};
use distributest_core::run_event::{BlockId, RunEvent};

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
        self.blocks.entry(block).or_default().closing = Some((total, events));
        let events = self.release_if_complete(block);
        let events = self.in_lane(lane, events);
        self.last_closed.insert(lane, block);
        events
    }

    /// Adds events to those that wait in a lane. Returns them when none do.
    pub fn in_lane(&mut self, lane: Lane, mut events: Vec<RunEvent>) -> Vec<RunEvent> {
        for lane in [lane, Lane { runner: None, ..lane }] {
            let block = self.last_closed.get(&lane).and_then(|block| self.blocks.get_mut(block));
            if let Some((_, waiting)) = block.and_then(|block| block.closing.as_mut()) {
                waiting.append(&mut events);
            }
        }
        events
    }

    /// Gives up waiting for a host's output: it is gone. Returns what was waiting for it.
    pub fn host_output_ended(&mut self, host: HostId) -> Vec<RunEvent> {
        let mut ended: Vec<BlockId> =
            self.blocks.keys().copied().filter(|block| block.host == host).collect();
        ended.sort();
        let blocks = ended.into_iter().filter_map(|block| self.blocks.remove(&block)?.closing);
        blocks.flat_map(|(_, events)| events).collect()
    }

    fn release_if_complete(&mut self, block: BlockId) -> Vec<RunEvent> {
        let complete = self
            .blocks
            .get(&block)
            .is_some_and(|entry| entry.closing.as_ref().is_some_and(|(total, _)| entry.received >= *total));
        if !complete {
            return Vec::new();
        }
        self.blocks
            .remove(&block)
            .and_then(|entry| entry.closing)
            .map(|(_, events)| events)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(blocks.host_output_ended(HostId(0)), event());
        assert_eq!(blocks.received(elsewhere, 5), event());
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
}
