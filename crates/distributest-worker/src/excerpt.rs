//! The beginning and the end of something long, in bounded memory.

use std::collections::VecDeque;

/// Collects bytes of which the middle may be left out.
#[derive(Debug)]
pub(crate) struct Excerpt {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// How much each of the two may hold.
    limit: usize,
    left_out: usize,
}

impl Excerpt {
    /// Keeps `limit` bytes of the beginning and as many of the end.
    pub(crate) fn new(limit: usize) -> Excerpt {
        Excerpt { head: Vec::new(), tail: VecDeque::new(), limit, left_out: 0 }
    }

    /// Takes what comes next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.limit - self.head.len()));
        self.head.extend_from_slice(head);
        // Of more than fits, only the end would stay.
        let skipped = rest.len().saturating_sub(self.limit);
        let rest = &rest[skipped..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.limit);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
        self.left_out += skipped + surplus;
    }

    /// What was collected, without what is no UTF-8; says how much is missing where some is.
    pub(crate) fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.left_out > 0 {
            bytes.extend_from_slice(format!("\n[... {} bytes left out ...]\n", self.left_out).as_bytes());
        }
        bytes.extend(&self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_of_the_rest_the_ends_stay() {
        let mut excerpt = Excerpt::new(4);
        excerpt.push(b"ab");
        excerpt.push(b"cdef");
        assert_eq!(excerpt.text(), "abcdef");
        excerpt.push(b"ghijklmnop");
        excerpt.push(b"q");
        assert_eq!(excerpt.text(), "abcd\n[... 9 bytes left out ...]\nnopq");
    }
}
