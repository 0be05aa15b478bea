//! One line of TAP: what it says by itself. Follows `TAP::Parser::Grammar` 3.44 rule by rule.

/// The version without which a document is read, and the one that added YAML blocks and pragmas.
pub(super) const PLAIN_VERSION: u64 = 12;
pub(super) const RICH_VERSION: u64 = 13;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// `TAP version 13`
    Version(u64),
    /// `1..5`
    Plan {
        /// How many tests.
        tests: u64,
        /// `# SKIP reason`: none is run, and why; empty where it does not say.
        skip: Option<String>,
        /// `1..5 todo 2 3`: tests that are expected to fail.
        todo: Vec<u64>,
    },
    /// `not ok 3 - name # TODO reason`
    Test(TestToken),
    /// `# text`
    Comment(String),
    /// `Bail out! reason`
    BailOut(String),
    /// `pragma +strict`: whether each of them is on.
    Pragmas(Vec<(String, bool)>),
    /// `  ---`: a YAML block begins, indented by so many bytes.
    Yaml(usize),
    /// Anything else.
    Unknown,
}

/// A test's own line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestToken {
    /// It does not say `not ok`.
    pub(crate) ok: bool,
    /// Its number, if it says one.
    pub(crate) number: Option<u64>,
    /// Its description, without the dash in front and without backslashes.
    pub(crate) description: String,
    /// What else is said of it, and why.
    pub(crate) directive: Option<(Directive, String)>,
}

/// What a test's line may say besides its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    /// It was not run.
    Skip,
    /// It is expected to fail.
    Todo,
}

/// Reads a line of a document of this version.
pub(crate) fn token(line: &str, version: u64) -> Token {
    let rich = version >= RICH_VERSION;
    test(line)
        .or_else(|| line.strip_prefix('#').map(|comment| Token::Comment(comment.to_owned())))
        .or_else(|| plan(line, rich))
        .or_else(|| bail_out(line))
        .or_else(|| version_line(line))
        .or_else(|| if rich { yaml(line).or_else(|| pragmas(line)) } else { None })
        .unwrap_or(Token::Unknown)
}

fn test(line: &str) -> Option<Token> {
    let (ok, rest) = match line.strip_prefix("not ") {
        Some(rest) => (false, rest.strip_prefix("ok")?),
        None => (true, line.strip_prefix("ok")?),
    };
    // A word that only begins like it.
    if rest.starts_with(|next: char| next.is_alphanumeric() || next == '_') {
        return None;
    }
    let (number, rest) = leading_number(rest.trim_start());
    let (description, directive) = directive(rest).unwrap_or((rest, None));
    let description = description.trim();
    let description =
        description.strip_prefix("- ").or((description == "-").then_some("")).unwrap_or(description);
    Some(Token::Test(TestToken { ok, number, description: unescape(description.trim()), directive }))
}

fn leading_number(text: &str) -> (Option<u64>, &str) {
    let end = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    let number = (end > 0).then(|| text[..end].parse().unwrap_or(u64::MAX));
    (number, &text[end..])
}

/// Splits a description at its directive, which follows the first `#` that no backslash is in front of.
fn directive(text: &str) -> Option<(&str, Option<(Directive, String)>)> {
    let mut escaped = false;
    let hash = text.char_indices().find_map(|(index, character)| {
        let found = character == '#' && !escaped;
        escaped = character == '\\' && !escaped;
        found.then_some(index)
    })?;
    let said = text[hash + 1..].trim_start();
    let word = said.get(..4)?;
    let directive = match word.to_ascii_uppercase().as_str() {
        "SKIP" => Directive::Skip,
        "TODO" => Directive::Todo,
        _ => return None,
    };
    let reason = &said[4..];
    if reason.starts_with(|next: char| next.is_alphanumeric() || next == '_') {
        return None;
    }
    Some((&text[..hash], Some((directive, reason.trim().to_owned()))))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escapes = character == '\\' && matches!(characters.peek(), Some('#' | '\\'));
        plain.push(if escapes { characters.next().unwrap_or(character) } else { character });
    }
    plain
}

fn plan(line: &str, rich: bool) -> Option<Token> {
    let (Some(tests), rest) = leading_number(line.strip_prefix("1..")?) else { return None };
    let rest = rest.trim();
    let skip = skip_reason(rest, rich);
    let todo = if rich { None } else { todo_list(rest) };
    let understood = rest.is_empty() || skip.is_some() || todo.is_some() || (!rich && tests == 0);
    if !understood || (!rich && tests > 0 && skip.is_some()) {
        return None;
    }
    let skip = if tests == 0 && todo.is_none() { Some(skip.unwrap_or_default()) } else { skip };
    Some(Token::Plan { tests, skip, todo: todo.unwrap_or_default() })
}

/// The reason in `# SKIP reason`. In plain TAP the word may go on (`# skipped: reason`), in rich TAP it may not.
fn skip_reason(text: &str, rich: bool) -> Option<String> {
    let said = text.strip_prefix('#')?.trim_start();
    let word = said.get(..4).filter(|word| word.eq_ignore_ascii_case("skip"))?;
    let rest = &said[word.len()..];
    let ends_word = !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    if rich {
        return ends_word.then(|| rest.trim().to_owned());
    }
    let reason = rest.find(char::is_whitespace).map_or("", |end| &rest[end..]);
    Some(reason.trim().to_owned())
}

/// The numbers of `todo 2 3`.
fn todo_list(text: &str) -> Option<Vec<u64>> {
    let rest = text.strip_prefix("todo").filter(|rest| rest.starts_with(char::is_whitespace))?;
    let numbers = rest.split_whitespace().map_while(|word| word.parse().ok());
    Some(numbers.collect::<Vec<u64>>()).filter(|numbers| !numbers.is_empty())
}

fn bail_out(line: &str) -> Option<Token> {
    let reason = line.trim_start().strip_prefix("Bail out!")?;
    Some(Token::BailOut(reason.trim().to_owned()))
}

fn version_line(line: &str) -> Option<Token> {
    let mut words = line.split_whitespace();
    let says =
        |word: Option<&str>, expected: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(expected));
    if line.starts_with(char::is_whitespace) || !says(words.next(), "TAP") || !says(words.next(), "version") {
        return None;
    }
    let (Some(number), "") = leading_number(words.next()?) else { return None };
    words.next().is_none().then_some(Token::Version(number))
}

fn yaml(line: &str) -> Option<Token> {
    let indentation = line.len() - line.trim_start().len();
    (indentation > 0 && line[indentation..].starts_with("---")).then_some(Token::Yaml(indentation))
}

fn pragmas(line: &str) -> Option<Token> {
    let said = line.strip_prefix("pragma")?;
    if !said.starts_with(char::is_whitespace) {
        return None;
    }
    let pragma = |word: &str| {
        let word = word.trim();
        let name = word.strip_prefix(['+', '-'])?;
        let is_name = !name.is_empty() && name.chars().all(|part| part.is_alphanumeric() || part == '_');
        is_name.then(|| (name.to_owned(), word.starts_with('+')))
    };
    said.split(',').map(pragma).collect::<Option<Vec<_>>>().map(Token::Pragmas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_token(line: &str) -> TestToken {
        match token(line, PLAIN_VERSION) {
            Token::Test(test) => test,
            other => panic!("{line:?} is {other:?}"),
        }
    }

    #[test]
    fn tests_in_all_their_forms() {
        let plain = |ok, number, description: &str| TestToken {
            ok,
            number,
            description: description.to_owned(),
            directive: None,
        };
        assert_eq!(test_token("ok"), plain(true, None, ""));
        assert_eq!(test_token("not ok 2"), plain(false, Some(2), ""));
        assert_eq!(test_token("ok 3 - it adds"), plain(true, Some(3), "it adds"));
        assert_eq!(test_token("ok 3 it adds \r"), plain(true, Some(3), "it adds"));
        assert_eq!(test_token("ok - it adds"), plain(true, None, "it adds"));
        assert_eq!(test_token("ok-it adds"), plain(true, None, "-it adds"));
        assert_eq!(test_token("ok 3 - \\# TODO is \\\\ text"), plain(true, Some(3), "# TODO is \\ text"));
        assert_eq!(test_token("ok 3 - # of things"), plain(true, Some(3), "# of things"));
        assert_eq!(test_token("ok 3 - # of # TODO things"), plain(true, Some(3), "# of # TODO things"));
        assert_eq!(test_token("ok 99999999999999999999 x"), plain(true, Some(u64::MAX), "x"));
    }

    #[test]
    fn directives() {
        let directive = |line: &str| test_token(line).directive;
        let todo = |reason: &str| Some((Directive::Todo, reason.to_owned()));
        let skip = |reason: &str| Some((Directive::Skip, reason.to_owned()));
        assert_eq!(directive("not ok 1 - x # TODO later"), todo("later"));
        assert_eq!(directive("not ok 1 # todo"), todo(""));
        assert_eq!(directive("ok 1 #skip: no network"), skip(": no network"));
        assert_eq!(directive("ok 1 # SKIPPED it"), None);
        assert_eq!(test_token("ok 1 - x # TODO later").description, "x");
    }

    #[test]
    fn plans() {
        let plan = |line: &str, version| match token(line, version) {
            Token::Plan { tests, skip, todo } => Some((tests, skip, todo)),
            Token::Unknown => None,
            other => panic!("{line:?} is {other:?}"),
        };
        for version in [PLAIN_VERSION, RICH_VERSION] {
            assert_eq!(plan("1..5", version), Some((5, None, vec![])));
            assert_eq!(plan("1..5 \r", version), Some((5, None, vec![])));
            assert_eq!(plan("1..0 # SKIP no network", version), Some((0, Some("no network".into()), vec![])));
            assert_eq!(plan("1..0", version), Some((0, Some(String::new()), vec![])));
            assert_eq!(plan("1..5 or so", version), None);
            assert_eq!(plan("1..x", version), None);
        }
        assert_eq!(plan("1..0 # skipped: it", PLAIN_VERSION), Some((0, Some("it".into()), vec![])));
        assert_eq!(plan("1..5 todo 2 3", PLAIN_VERSION), Some((5, None, vec![2, 3])));
        assert_eq!(plan("1..5 todo 2 3", RICH_VERSION), None);
    }

    #[test]
    fn the_others() {
        assert_eq!(token("# hello", PLAIN_VERSION), Token::Comment(" hello".into()));
        assert_eq!(token("  Bail out!  no disk ", PLAIN_VERSION), Token::BailOut("no disk".into()));
        assert_eq!(token("tap Version 13", PLAIN_VERSION), Token::Version(13));
        assert_eq!(token("  ---", PLAIN_VERSION), Token::Unknown);
        assert_eq!(token("  ---", RICH_VERSION), Token::Yaml(2));
        let strict = vec![("strict".to_owned(), true), ("x".to_owned(), false)];
        assert_eq!(token("pragma +strict, -x", RICH_VERSION), Token::Pragmas(strict));
        for text in ["okay 1", "not  ok 1", " ok 1", "pragma strict", "hello", "", "not "] {
            assert_eq!(token(text, RICH_VERSION), Token::Unknown, "{text:?}");
        }
    }
}
