//! An XML document with its longest texts cut, so that reading one takes little memory however much tests have printed.
//!
//! The reader of XML holds one text, comment or tag at a time as a whole. Here every text, CDATA section and comment is
//! cut after its first megabyte; of what is left out, ends of lines stay (as many as a megabyte holds), so that
//! positions are still right. Where a tag itself is longer, the document is refused.

use std::io::{self, BufRead, Read};

/// How much of a text is kept, and how many ends of lines after it.
const TEXT_LIMIT_BYTES: usize = 1024 * 1024;

/// The longest tag, all attributes included: a failure's message may stand in one.
const TAG_LIMIT_BYTES: usize = 16 * 1024 * 1024;

const CDATA: &[u8] = b"<![CDATA[";
const COMMENT: &[u8] = b"<!--";

/// The cut document.
pub(super) struct Abridged<R> {
    inner: R,
    state: State,
    /// Length of the text or tag so far, and how many ends of lines of it were kept beyond the limit.
    length: usize,
    lines_kept: usize,
    /// Bytes that are kept and not read yet.
    ready: Vec<u8>,
    read: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// After `<`; so many bytes agree with the beginning of a CDATA section, or of a comment.
    Opening(usize),
    /// In a tag; within these quotes.
    Tag(Option<u8>),
    /// In what ends with two of this byte and a `>`, of which so many were held back.
    Section(u8, usize),
    /// In a processing instruction; the last byte was a `?`.
    Instruction(bool),
}

impl<R: BufRead> Abridged<R> {
    pub(super) fn new(inner: R) -> Self {
        Abridged { inner, state: State::Text, length: 0, lines_kept: 0, ready: Vec::new(), read: 0 }
    }

    /// Takes the next bytes of the document.
    fn refill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.read = 0;
        while self.ready.is_empty() {
            let bytes = self.inner.fill_buf()?.to_vec();
            if bytes.is_empty() {
                return Ok(());
            }
            self.inner.consume(bytes.len());
            for byte in bytes {
                self.take(byte)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
        match self.state {
            State::Text if byte == b'<' => {
                self.ready.push(byte);
                self.state = State::Opening(1);
            }
            State::Text => self.keep_some(byte),
            State::Opening(length) => self.take_opening(byte, length),
            State::Section(end, held) => self.take_section(byte, end, held),
            State::Tag(_) | State::Instruction(_) => self.take_tag(byte)?,
        }
        Ok(())
    }

    fn take_opening(&mut self, byte: u8, length: usize) {
        self.ready.push(byte);
        let agrees = |with: &[u8]| with.get(length) == Some(&byte);
        // The two part at their third byte.
        let expected = if length < 2 || agrees(CDATA) { CDATA } else { COMMENT };
        self.state = if length == 1 && byte == b'?' {
            State::Instruction(false)
        } else if !agrees(expected) {
            let ends = byte == b'>';
            if ends { State::Text } else { State::Tag(None) }
        } else if length + 1 == CDATA.len() {
            State::Section(b']', 0)
        } else if expected == COMMENT && length + 1 == COMMENT.len() {
            State::Section(b'-', 0)
        } else {
            State::Opening(length + 1)
        };
        (self.length, self.lines_kept) = (0, 0);
    }

    /// What ends a section is kept in any case, so it is held back until it is known for that.
    fn take_section(&mut self, byte: u8, end: u8, held: usize) {
        if byte == end && held < 2 {
            self.state = State::Section(end, held + 1);
        } else if byte == end {
            self.keep_some(byte);
        } else if byte == b'>' && held == 2 {
            self.ready.extend([end, end, byte]);
            self.state = State::Text;
            (self.length, self.lines_kept) = (0, 0);
        } else {
            (0..held).for_each(|_| self.keep_some(end));
            self.keep_some(byte);
            self.state = State::Section(end, 0);
        }
    }

    fn take_tag(&mut self, byte: u8) -> io::Result<()> {
        self.ready.push(byte);
        self.length += 1;
        if self.length > TAG_LIMIT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a tag of it is longer than 16 MiB"));
        }
        self.state = match (self.state, byte) {
            (State::Tag(None), b'>') | (State::Instruction(true), b'>') => State::Text,
            (State::Tag(None), b'"' | b'\'') => State::Tag(Some(byte)),
            (State::Tag(Some(quote)), _) if quote == byte => State::Tag(None),
            (State::Instruction(_), _) => State::Instruction(byte == b'?'),
            (state, _) => state,
        };
        if self.state == State::Text {
            (self.length, self.lines_kept) = (0, 0);
        }
        Ok(())
    }

    fn keep_some(&mut self, byte: u8) {
        self.length += 1;
        let is_line = byte == b'\n' && self.lines_kept < TEXT_LIMIT_BYTES;
        if self.length <= TEXT_LIMIT_BYTES {
            self.ready.push(byte);
        } else if is_line {
            self.lines_kept += 1;
            self.ready.push(byte);
        }
    }
}

impl<R: BufRead> BufRead for Abridged<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.ready.len() {
            self.refill()?;
        }
        Ok(&self.ready[self.read..])
    }

    fn consume(&mut self, length: usize) {
        self.read += length;
    }
}

impl<R: BufRead> Read for Abridged<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(target)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn abridged(document: &[u8]) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Abridged::new(document).read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn long_texts_are_cut_and_their_lines_stay() {
        let long = "x".repeat(TEXT_LIMIT_BYTES - 1) + "\ny\nz\n" + &"]".repeat(100);
        let kept = "x".repeat(TEXT_LIMIT_BYTES - 1) + "\n\n\n";
        for (begin, end) in [("<a>", "</a>"), ("<a><![CDATA[", "]]></a>"), ("<a>short<b c='d>'>", "</b></a>")]
        {
            let cut = abridged(format!("{begin}{long}{end}").as_bytes()).unwrap();
            assert!(cut == format!("{begin}{kept}{end}").as_bytes(), "{begin}");
        }
    }

    #[test]
    fn an_endless_tag_is_refused() {
        let document = format!("<a b='{}'/>", "x".repeat(TAG_LIMIT_BYTES));
        assert!(abridged(document.as_bytes()).unwrap_err().to_string().contains("longer than 16 MiB"));
    }

    proptest! {
        #[test]
        fn what_is_short_stays_as_it_is(parts in proptest::collection::vec(prop_oneof![
            Just("<a b='>\"' c=\">'\">"), Just("</a>"), Just("<![CDATA["), Just("]]>"), Just("<!--"), Just("-->"),
            Just("]"), Just("-"), Just("<?pi it's ?>"), Just("<!DOCTYPE a [<!ENTITY b 'c'>]>"), Just("text\n"), Just("<"),
        ], 0..20)) {
            let document = parts.concat() + "<end/>]]>-->";
            let read = abridged(document.as_bytes()).unwrap();
            // What a section holds back at the end of the document is lost, and so is the document.
            prop_assert!(document.as_bytes().starts_with(&read) && document.len() - read.len() <= 2);
        }
    }
}
