//! Keeps the last lines of every open output block: for what fails without another word, they are the explanation.

use std::collections::HashMap;

use distributest_core::run_event::BlockId;

/// Bytes kept of a block, and lines shown of them.
const BYTES: usize = 8 * 1024;
const LINES: usize = 20;

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

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
        // Of a large piece only the end is copied.
        let (passed, bytes) = bytes.split_at(bytes.len().saturating_sub(BYTES));
        let mut dropped = 0;
        if !passed.is_empty() {
            dropped += newlines(kept) + newlines(passed);
            kept.clear();
        }
        kept.extend_from_slice(bytes);
        // Twice the limit before it is cut, so that small pieces do not move the whole each time.
        if kept.len() > 2 * BYTES {
            let excess = kept.len() - BYTES;
            dropped += newlines(&kept[..excess]);
            kept.drain(..excess);
        }
        if dropped > 0 {
            *self.dropped_lines.entry(block).or_default() += dropped;
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
    fn it_does_not_matter_in_which_pieces_it_comes() {
        let bytes: Vec<u8> = (0..20_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let tail_of = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut tails = Tails::default();
            pieces.for_each(|piece| tails.push(BLOCK, piece));
            tails.close(BLOCK)
        };
        let whole = tail_of(&mut std::iter::once(&bytes[..]));
        assert_eq!(whole.earlier_lines, 19_980);
        for size in [1, 7, 1000, BYTES, BYTES + 1, 2 * BYTES + 1, 65_536] {
            assert_eq!(tail_of(&mut bytes.chunks(size)), whole, "in pieces of {size}");
        }
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
