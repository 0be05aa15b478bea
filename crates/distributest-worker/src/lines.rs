//! Cuts what a program writes into lines, in bounded memory.

/// How much of a line is kept: more than any line that means something has.
const LINE_LIMIT_BYTES: usize = 64 * 1024;

/// Bytes in, lines out.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come, no longer than the limit.
    begun: Vec<u8>,
    has_begun: bool,
}

impl Lines {
    /// Takes the next bytes and gives every line that they end, without its end. Of a line that is too long, only the
    /// beginning is given.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (last, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.has_begun {
                self.keep(last);
                line(&self.begun);
                self.begun.clear();
                self.has_begun = false;
            } else {
                line(&last[..last.len().min(LINE_LIMIT_BYTES)]);
            }
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.keep(bytes);
        }
    }

    /// Gives the line that nothing has ended, if there is one.
    pub(crate) fn finish(&mut self, line: impl FnOnce(&[u8])) {
        if std::mem::take(&mut self.has_begun) {
            line(&std::mem::take(&mut self.begun));
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT_BYTES.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.has_begun = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| found.push(line.to_vec()));
        }
        lines.finish(|line| found.push(line.to_vec()));
        found
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in proptest::collection::vec("[ab\n]{0,5}", 0..20)) {
            let pieces: Vec<&[u8]> = text.iter().map(String::as_bytes).collect();
            let whole = text.concat();
            let expected: Vec<Vec<u8>> = whole.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(lines_of(&pieces), expected);
        }
    }

    #[test]
    fn an_endless_line_is_cut() {
        let piece = vec![b'x'; 50_000];
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for _ in 0..1_000 {
            lines.push(&piece, |line| found.push(line.len()));
        }
        assert!(lines.begun.capacity() < 3 * LINE_LIMIT_BYTES);
        lines.push(b"\nnext\n", |line| found.push(line.len()));
        lines.push(&[piece.as_slice(), &piece, b"\n"].concat(), |line| found.push(line.len()));
        assert_eq!(found, [LINE_LIMIT_BYTES, 4, LINE_LIMIT_BYTES]);
    }
}
