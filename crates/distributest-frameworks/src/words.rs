//! Splits lines into words the way a shell does, which is how pytest and RSpec read their option lines.

/// The words of a text: separated by white space, with quotes and backslashes as in a POSIX shell. A quote that is
/// never closed ends at the end of the text.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        assert_eq!(split("  -ra   --ignore=a\n tests "), ["-ra", "--ignore=a", "tests"]);
        assert_eq!(split(r#"-m "not slow" 'it''s' a\ b """#), ["-m", "not slow", "its", "a b", ""]);
        assert_eq!(split(r#"--pattern "a\"b" 'c\d'"#), ["--pattern", "a\"b", "c\\d"]);
        assert!(split(" \n\t").is_empty());
    }
}
