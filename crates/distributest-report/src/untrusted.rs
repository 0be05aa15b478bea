//! Makes text that tests wrote safe to print on a terminal.
//!
//! Colours (SGR sequences) may stay; every other escape sequence is removed, because it could move the cursor, set
//! the window's title or write the clipboard; every other control character is shown in place of being obeyed.

use crate::format::is_unprintable;

/// The longest line that is shown; what is cut is in the log.
const LINE_LIMIT: usize = 2_000;

/// What to do with colours in a test's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colors {
    Keep,
    Strip,
}

/// Text as lines that are safe to print, colours reset at the end of each.
pub(crate) fn clean_lines(text: &str, colors: Colors) -> Vec<String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split('\n').map(|line| clean_line(line, colors)).collect()
}

/// Text as one line that is safe to print; further lines are joined by blanks.
pub(crate) fn clean_one_line(text: &str) -> String {
    clean_lines(text, Colors::Strip)
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// One line, without its end, made safe to print: at most 2,000 characters of it, and how many more there are.
pub(crate) fn clean_line(line: &str, colors: Colors) -> String {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (line, cut) = match line.char_indices().nth(LINE_LIMIT) {
        Some((index, _)) => (&line[..index], line[index..].chars().count()),
        None => (line, 0),
    };
    let mut clean = String::with_capacity(line.len());
    let mut colored = false;
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        if character == '\u{1b}'
            && let Some(sequence) = EscapeSequence::at_start_of(rest)
        {
            if sequence.is_color && colors == Colors::Keep {
                clean.push_str(&rest[..sequence.length]);
                colored = true;
            }
            rest = &rest[sequence.length..];
            continue;
        }
        push_visible(&mut clean, character);
        rest = &rest[character.len_utf8()..];
    }
    if colored {
        clean.push_str("\u{1b}[0m");
    }
    if cut > 0 {
        clean.push_str(&format!(" … ({cut} more characters in the log)"));
    }
    clean
}

fn push_visible(clean: &mut String, character: char) {
    match character {
        '\t' => clean.push_str("    "),
        control @ '\0'..='\u{1f}' => clean.extend(['^', char::from(control as u8 + b'@')]),
        '\u{7f}' => clean.push_str("^?"),
        unprintable if is_unprintable(unprintable) => clean.extend(unprintable.escape_unicode()),
        shown => clean.push(shown),
    }
}

/// A complete escape sequence (ECMA-48). An incomplete one is none, and its escape character is shown.
struct EscapeSequence {
    length: usize,
    is_color: bool,
}

impl EscapeSequence {
    fn at_start_of(text: &str) -> Option<EscapeSequence> {
        let bytes = text.as_bytes();
        match bytes.get(1)? {
            b'[' => {
                let parameters = count_while(&bytes[2..], |byte| matches!(byte, 0x30..=0x3f));
                let intermediates = count_while(&bytes[2 + parameters..], |byte| matches!(byte, 0x20..=0x2f));
                let last = 2 + parameters + intermediates;
                let end = *bytes.get(last)?;
                let numbers = bytes[2..last].iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'));
                let complete = matches!(end, 0x40..=0x7e);
                complete.then_some(EscapeSequence { length: last + 1, is_color: end == b'm' && numbers })
            }
            // Strings for the terminal: OSC, DCS, SOS, PM, APC; they end with BEL or ESC \.
            b']' | b'P' | b'X' | b'^' | b'_' => {
                let bell = text.find('\u{7}').map(|index| index + 1);
                let terminator = text.find("\u{1b}\\").map(|index| index + 2);
                let length = bell.into_iter().chain(terminator).min()?;
                Some(EscapeSequence { length, is_color: false })
            }
            _ => {
                let intermediates = count_while(&bytes[1..], |byte| matches!(byte, 0x20..=0x2f));
                let complete = matches!(bytes.get(1 + intermediates)?, 0x30..=0x7e);
                complete.then_some(EscapeSequence { length: 2 + intermediates, is_color: false })
            }
        }
    }
}

fn count_while(bytes: &[u8], matches: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| matches(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_or_go_and_never_leak_into_the_next_line() {
        let text = "\u{1b}[31mred\nplain\u{1b}[0m";
        assert_eq!(clean_lines(text, Colors::Keep), ["\u{1b}[31mred\u{1b}[0m", "plain\u{1b}[0m\u{1b}[0m"]);
        assert_eq!(clean_lines(text, Colors::Strip), ["red", "plain"]);
    }

    #[test]
    fn other_escape_sequences_are_removed() {
        let text = "a\u{1b}[2Jb\u{1b}]0;title\u{7}c\u{1b}]52;c;aGk=\u{1b}\\d\u{1b}7e\u{1b}(Bf\u{1b}[?25lg\u{1b}[>1mh";
        assert_eq!(clean_lines(text, Colors::Keep), ["abcdefgh"]);
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(clean_lines("a\u{7}b\rc\0d\u{7f}\te\r\n", Colors::Keep), ["a^Gb^Mc^@d^?    e"]);
        assert_eq!(clean_lines("\u{9b}2J \u{202e}x", Colors::Keep), ["\\u{9b}2J \\u{202e}x"]);
        assert_eq!(clean_lines("cut off \u{1b}[3", Colors::Keep), ["cut off ^[[3"]);
        assert_eq!(clean_lines("\u{1b}]0;never ends", Colors::Keep), ["^[]0;never ends"]);
    }

    #[test]
    fn a_huge_line_is_cut() {
        let lines = clean_lines(&"é".repeat(LINE_LIMIT + 5), Colors::Strip);
        assert_eq!(lines, [format!("{} … (5 more characters in the log)", "é".repeat(LINE_LIMIT))]);
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(clean_one_line("  first\n  second\u{1b}[1m\n\n"), "first second");
        assert_eq!(clean_one_line(""), "");
    }
}
