//! Splits text into words the way a shell does, without running one.
//!
//! White space separates words; quotes and backslashes keep it. What a shell would do beyond that (pipes,
//! redirections, variables) is refused instead of being passed on as plain text.

/// Why text could not be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordsError {
    /// A quote or backslash at the end is left open.
    #[error("{0} is not closed")]
    Unclosed(char),
    /// Something only a shell understands.
    #[error("`{0}` needs a shell; to use one write [\"sh\", \"-c\", \"...\"], otherwise quote it with '...'")]
    ShellSyntax(char),
}

/// What a shell gives a meaning outside quotes, apart from white space, quotes and file patterns.
const SHELL_SYNTAX: &str = "|&;<>()$`";

/// Splits text into words.
pub(super) fn split(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' | '"' => quoted(character, &mut characters, word.get_or_insert_default())?,
            '\\' => {
                let escaped = characters.next().ok_or(WordsError::Unclosed('\\'))?;
                word.get_or_insert_default().push(escaped);
            }
            _ if SHELL_SYNTAX.contains(character) => return Err(WordsError::ShellSyntax(character)),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Appends what stands up to the closing quote.
fn quoted(quote: char, characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    while let Some(character) = characters.next() {
        match character {
            _ if character == quote => return Ok(()),
            '\\' if quote == '"' => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            '$' | '`' if quote == '"' => return Err(WordsError::ShellSyntax(character)),
            _ => word.push(character),
        }
    }
    Err(WordsError::Unclosed(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_a_shell_splits_them() {
        let text = r#"bash -c 'a  b' "c \" \n d" e\ f '' {file}*.rb"#;
        let words = ["bash", "-c", "a  b", r#"c " \n d"#, "e f", "", "{file}*.rb"];
        assert_eq!(split(text), Ok(words.map(String::from).to_vec()));
        assert_eq!(split(" \n "), Ok(Vec::new()));
    }

    #[test]
    fn open_quotes_and_shell_syntax_are_refused() {
        assert_eq!(split("a 'b"), Err(WordsError::Unclosed('\'')));
        assert_eq!(split("a \"b\\"), Err(WordsError::Unclosed('"')));
        assert_eq!(split("a\\"), Err(WordsError::Unclosed('\\')));
        assert_eq!(split("a | b"), Err(WordsError::ShellSyntax('|')));
        assert_eq!(split("echo \"$HOME\""), Err(WordsError::ShellSyntax('$')));
        assert_eq!(split("echo '$HOME'"), Ok(vec!["echo".to_owned(), "$HOME".to_owned()]));
    }
}
