//! Texts that programs write, made fit to be reported.

use std::borrow::Cow;
use std::path::Path;

/// The longest `details` there are, besides the words that say what was left out.
const DETAILS_LIMIT: usize = 1_000_000;

/// The longest message, in characters.
const MESSAGE_LIMIT: usize = 1000;

/// A message as it is reported: on one line, and not endless.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let is_fine = text.len() <= MESSAGE_LIMIT && !text.contains(['\n', '\r']);
    if is_fine {
        return Cow::Borrowed(text);
    }
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_LIMIT) {
        Some((end, _)) => Cow::Owned(format!("{}…", &line[..end])),
        None => Cow::Owned(line),
    }
}

/// The text without its middle, which says so, when it is too long to be reported.
pub(crate) fn shorten(text: &str) -> String {
    if text.len() <= DETAILS_LIMIT {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(DETAILS_LIMIT / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - DETAILS_LIMIT / 2)..];
    let left_out = text.len() - head.len() - tail.len();
    format!("{head}\n[... {left_out} bytes left out ...]\n{tail}")
}

/// How much of the end of an output is kept.
const TAIL_BYTES: usize = 16 * 1024;

/// The end of what a program wrote, and its first line.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    first_line: Option<String>,
    cut: bool,
}

impl Tail {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        self.cut |= bytes.len() > TAIL_BYTES;
        if self.first_line.is_none() {
            let text = String::from_utf8_lossy(bytes);
            self.first_line = text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
        }
        // Not at each push, so that bytes are not moved for every line.
        if self.bytes.len() > 4 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
            self.cut = true;
        }
    }

    /// The first line that is not empty.
    pub(crate) fn first_line(&self) -> Option<&str> {
        self.first_line.as_deref()
    }

    /// The end of the text.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut { format!("[...]\n{text}") } else { text.into_owned() }
    }
}

/// The path as it is from the current directory, if it is below that.
pub(crate) fn relative_path(path: &str) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    let relative = Path::new(path).strip_prefix(current).ok().and_then(Path::to_str);
    let path = relative.unwrap_or(path);
    path.strip_prefix("./").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        let text = format!("begin{}end", "é".repeat(DETAILS_LIMIT));
        let short = shorten(&text);
        assert!(short.len() < DETAILS_LIMIT + 100);
        assert!(short.starts_with("begin") && short.ends_with("end"));
        assert!(short.contains("bytes left out"));
        assert_eq!(shorten("short"), "short");
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("as it is"), "as it is");
        assert_eq!(one_line("in \n\n two\r\n"), "in two");
        let long = "é".repeat(MESSAGE_LIMIT + 1);
        assert_eq!(one_line(&long).chars().count(), MESSAGE_LIMIT + 1);
        assert!(one_line(&long).ends_with("é…"));
    }

    #[test]
    fn a_tail_is_the_end_and_the_first_line() {
        let mut tail = Tail::default();
        tail.push(b"\n  what went wrong\n");
        assert_eq!(
            (tail.first_line(), tail.text().as_str()),
            (Some("what went wrong"), "\n  what went wrong\n")
        );
        for _ in 0..10_000 {
            tail.push(b"and more of it\n");
        }
        assert!(tail.bytes.len() <= 4 * TAIL_BYTES && tail.text().starts_with("[...]\n"));
        assert_eq!(tail.first_line(), Some("what went wrong"));
    }
}
