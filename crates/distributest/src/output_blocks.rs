//! Holds an event back until all the output that comes before it has arrived.
//!
//! Control messages overtake log bytes on purpose, so an agent's "finished" can be here before the last bytes of the
//! attempt it ends. The scheduler acts on it at once; the reporters get it when the block is complete.

use std::collections::HashMap;

use distributest_core::identity::HostId;
use distributest_core::run_event::{BlockId, RunEvent};

/// The blocks that are open, or closed but not yet complete.
#[derive(Default)]
pub struct OutputBlocks {
    blocks: HashMap<BlockId, Block>,
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

    /// Closes a block: `events` come after its `total` bytes. Returns them at once when nothing is missing.
    pub fn close(&mut self, block: BlockId, total: u64, events: Vec<RunEvent>) -> Vec<RunEvent> {
        self.blocks.entry(block).or_default().closing = Some((total, events));
        self.release_if_complete(block)
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

    const BLOCK: BlockId = BlockId { host: HostId(0), number: 1 };

    fn event() -> Vec<RunEvent> {
        vec![RunEvent::StopRequested]
    }

    #[test]
    fn an_event_waits_for_the_last_byte_and_no_longer() {
        let mut blocks = OutputBlocks::default();
        assert_eq!(blocks.received(BLOCK, 3), vec![]);
        assert_eq!(blocks.close(BLOCK, 5, event()), vec![]);
        assert_eq!(blocks.received(BLOCK, 1), vec![]);
        assert_eq!(blocks.received(BLOCK, 1), event());
    }

    #[test]
    fn an_event_whose_bytes_are_all_here_does_not_wait() {
        let mut blocks = OutputBlocks::default();
        assert_eq!(blocks.close(BLOCK, 0, event()), event());
        let other = BlockId { number: 2, ..BLOCK };
        assert_eq!(blocks.received(other, 3), vec![]);
        assert_eq!(blocks.close(other, 3, event()), event());
    }

    #[test]
    fn a_lost_host_releases_what_waited_for_it_alone() {
        let mut blocks = OutputBlocks::default();
        let elsewhere = BlockId { host: HostId(1), number: 1 };
        blocks.close(BLOCK, 5, event());
        blocks.close(elsewhere, 5, event());
        assert_eq!(blocks.host_output_ended(HostId(0)), event());
        assert_eq!(blocks.received(elsewhere, 5), event());
    }
}
