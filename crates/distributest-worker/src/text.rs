//! Texts that programs write, made fit to be reported.

/// The longest `details` there are, besides the words that say what was left out.
const DETAILS_LIMIT: usize = 1_000_000;

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
}
