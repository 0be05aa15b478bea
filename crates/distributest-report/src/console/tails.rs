//! Keeps the last lines of every open output block: for what fails without another word, they are the explanation.

use std::collections::HashMap;

use distributest_core::run_event::BlockId;

/// Bytes kept of a block, and lines shown of them.
const BYTES: usize = 8 * 1024;
const LINES: usize = 20;

/// The ends of all open blocks.
#[derive(Debug, Default)]
pub(super) struct Tails {
    open: HashMap<BlockId, Vec<u8>>,
    /// Newlines in bytes that are no longer kept.
    dropped_lines: HashMap<BlockId, u64>,
}

/// The end of a block's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The last lines.
    pub(crate) text: String,
    /// How many lines came before.
    pub(crate) earlier_lines: u64,
}

impl Tails {
    pub(super) fn push(&mut self, block: BlockId, bytes: &[u8]) {
        let kept = self.open.entry(block).or_default();
        kept.extend_from_slice(bytes);
        // Twice the limit before it is cut, so that small pieces do not move the whole each time.
        if kept.len() > 2 * BYTES {
            let excess = kept.len() - BYTES;
            let newlines = kept[..excess].iter().filter(|byte| **byte == b'\n').count() as u64;
            kept.drain(..excess);
            *self.dropped_lines.entry(block).or_default() += newlines;
        }
    }

    /// The end of a block that is complete; nothing is kept of it.
    pub(super) fn close(&mut self, block: BlockId) -> Tail {
        let bytes = self.open.remove(&block).unwrap_or_default();
        let dropped_lines = self.dropped_lines.remove(&block).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.trim_end().lines().collect();
        let shown = lines.len().min(LINES);
        let earlier_lines = dropped_lines + (lines.len() - shown) as u64;
        Tail { text: lines[lines.len() - shown..].join("\n"), earlier_lines }
    }
}

#[cfg(test)]
mod tests {
    use distributest_core::identity::HostId;

    use super::*;

    const BLOCK: BlockId = BlockId { host: HostId(0), number: 1 };

    #[test]
    fn the_last_lines_are_kept_and_the_others_counted() {
        let mut tails = Tails::default();
        for number in 0..10_000 {
            tails.push(BLOCK, format!("line {number}\n").as_bytes());
        }
        let tail = tails.close(BLOCK);
        assert_eq!(tail.text.lines().count(), LINES);
        assert!(tail.text.starts_with("line 9980\n") && tail.text.ends_with("line 9999"), "{}", tail.text);
        assert_eq!(tail.earlier_lines, 9_980);
        assert_eq!(tails.close(BLOCK), Tail::default());
    }

    #[test]
    fn a_flood_without_newlines_is_bounded() {
        let mut tails = Tails::default();
        for _ in 0..100 {
            tails.push(BLOCK, &[b'x'; 100_000]);
            assert!(tails.open[&BLOCK].len() <= 2 * BYTES);
        }
    }
}
