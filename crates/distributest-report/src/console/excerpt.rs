//! Keeps of a long text what is printed of it: lines of its start and its end, ready to print.
//!
//! Frameworks may send a mebibyte for each of hundreds of failing tests, so an excerpt is made as soon as the text
//! is there, and the text itself is not kept.

use crate::untrusted::{Colors, clean_line};

/// How much of a text is kept. The line that exceeds a number of bytes is kept too, at the length lines are cut to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    first_lines: usize,
    first_bytes: usize,
    last_lines: usize,
    last_bytes: usize,
}

impl Room {
    /// Nothing.
    pub(super) const NONE: Room = Room { first_lines: 0, first_bytes: 0, last_lines: 0, last_bytes: 0 };

    /// A screenful from the start and from the end, where tracebacks say most.
    pub(super) const SCREENFUL: Room =
        Room { first_lines: 15, first_bytes: 8 * 1024, last_lines: 35, last_bytes: 24 * 1024 };

    /// Every line of all but the longest texts.
    pub(super) const AMPLE: Room = Room {
        first_lines: usize::MAX,
        first_bytes: 64 * 1024,
        last_lines: usize::MAX,
        last_bytes: 64 * 1024,
    };
}

/// The start and the end of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) first: Vec<String>,
    /// Lines left out between the two.
    pub(super) hidden_lines: usize,
    pub(super) last: Vec<String>,
}

impl Excerpt {
    /// What is printed of a text; blank lines at its end are not.
    pub(super) fn of(text: &str, room: Room, colors: Colors) -> Excerpt {
        let text = text.trim_end();
        if text.is_empty() {
            return Excerpt::default();
        }
        let mut lines = text.split('\n');
        let first = clean_some(lines.by_ref(), room.first_lines, room.first_bytes, colors);
        let mut last = clean_some(lines.by_ref().rev(), room.last_lines, room.last_bytes, colors);
        last.reverse();
        Excerpt { first, hidden_lines: lines.count(), last }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.hidden_lines == 0 && self.last.is_empty()
    }

    /// Whether a line that is kept contains this.
    pub(super) fn contains(&self, part: &str) -> bool {
        self.first.iter().chain(&self.last).any(|line| line.contains(part))
    }
}

fn clean_some<'a>(
    lines: impl Iterator<Item = &'a str>,
    limit: usize,
    byte_limit: usize,
    colors: Colors,
) -> Vec<String> {
    let mut bytes = 0;
    let mut clean = Vec::new();
    let mut lines = lines;
    while clean.len() < limit
        && bytes < byte_limit
        && let Some(line) = lines.next()
    {
        let line = clean_line(line, colors);
        bytes += line.len();
        clean.push(line);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(lines: usize) -> String {
        (1..=lines).map(|number| format!("line {number}\n")).collect()
    }

    #[test]
    fn a_short_text_is_kept_whole() {
        let excerpt = Excerpt::of("one\n\n\u{1b}[1mtwo\r\n\n", Room::SCREENFUL, Colors::Strip);
        assert_eq!(
            excerpt,
            Excerpt { first: vec!["one".into(), "".into(), "two".into()], ..Default::default() }
        );
        assert!(Excerpt::of(" \n\n", Room::SCREENFUL, Colors::Strip).is_empty());
    }

    #[test]
    fn the_middle_of_a_long_text_is_counted() {
        let excerpt = Excerpt::of(&numbered(50), Room::SCREENFUL, Colors::Strip);
        assert_eq!((excerpt.first.len(), excerpt.hidden_lines, excerpt.last.len()), (15, 0, 35));
        let excerpt = Excerpt::of(&numbered(1_000), Room::SCREENFUL, Colors::Strip);
        assert_eq!((excerpt.first.len(), excerpt.hidden_lines, excerpt.last.len()), (15, 950, 35));
        assert_eq!((excerpt.first[14].as_str(), excerpt.last[0].as_str()), ("line 15", "line 966"));
        assert!(excerpt.contains("line 1000") && !excerpt.contains("line 500"));
    }

    #[test]
    fn whatever_the_text_its_excerpt_is_small() {
        let texts = ["x".repeat(1 << 20), "\u{9b}".repeat(1 << 19), "long line of text\n".repeat(1 << 16)];
        for (room, limit) in [(Room::NONE, 0), (Room::SCREENFUL, 80 << 10), (Room::AMPLE, 160 << 10)] {
            for text in &texts {
                let excerpt = Excerpt::of(text, room, Colors::Keep);
                let bytes: usize = excerpt.first.iter().chain(&excerpt.last).map(String::len).sum();
                assert!(bytes <= limit, "{bytes} bytes in {room:?}");
                assert!(!excerpt.is_empty());
            }
        }
    }
}
