//! Reads the plain values of a JavaScript, TypeScript or JSON text, without running it.
//!
//! JavaScript projects are configured by programs. Most of them say what files are tests in plain words all the same:
//! `test: { include: ['src/**/*.test.ts'] }`. This reads such words and passes over everything else, so it reads JSON,
//! with or without comments, as well. What is computed is not known here; the framework itself has the last word on
//! each file when it runs it.

/// A property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    /// The names of the properties it is in, and its own.
    pub(super) path: Vec<String>,
    /// Its value, if it is a string, `true` or `false`; or the strings of its list.
    pub(super) values: Vec<String>,
    /// Whether there is more to it than that.
    pub(super) is_partial: bool,
}

/// The plain values of a text.
#[derive(Debug, Default)]
pub(super) struct Literals(Vec<Property>);

impl Literals {
    /// Reads a text.
    pub(super) fn read(text: &str) -> Literals {
        let mut reader = Reader { tokens: tokens(text).into_iter().peekable(), found: Vec::new() };
        let mut path = Vec::new();
        while reader.tokens.peek().is_some() {
            reader.value(&mut path);
            // What can't begin a value: a bracket of the surrounding program.
            reader.tokens.next_if(|token| matches!(token, Token::Other(_)));
        }
        Literals(reader.found)
    }

    /// The properties at this path, in their order.
    pub(super) fn at(&self, path: &[&str]) -> Vec<&Property> {
        self.0.iter().filter(|property| property.path == *path).collect()
    }

    /// The values of the first property at this path; none where there is none.
    pub(super) fn values(&self, path: &[&str]) -> Vec<String> {
        self.at(path).first().map(|property| property.values.clone()).unwrap_or_default()
    }

    /// The first value of the first property at this path.
    pub(super) fn value(&self, path: &[&str]) -> Option<String> {
        self.values(path).into_iter().next()
    }

    /// Whether there is a property at this path.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        !self.at(path).is_empty()
    }

    /// The properties directly below this path.
    pub(super) fn below(&self, path: &[&str]) -> Vec<&Property> {
        let is_below = |property: &&Property| property.path[..property.path.len() - 1] == *path;
        self.0.iter().filter(is_below).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A string, without its quotes.
    Text(String),
    /// A name, a number or a word.
    Word(String),
    /// Any other character.
    Other(char),
}

struct Reader<I: Iterator<Item = Token>> {
    tokens: std::iter::Peekable<I>,
    found: Vec<Property>,
}

impl<I: Iterator<Item = Token>> Reader<I> {
    /// Reads a value and keeps the properties in it; stops before what ends it. `path` is where it is.
    fn value(&mut self, path: &mut Vec<String>) {
        while let Some(token) =
            self.tokens.next_if(|token| !matches!(token, Token::Other(',' | ';' | '}' | ']' | ')')))
        {
            match token {
                Token::Other('{') => self.object(path),
                Token::Other('[') => {
                    self.list(path);
                }
                Token::Other('(') => self.group(path),
                _ => {}
            }
        }
    }

    /// Reads up to the closing bracket: properties, or the statements of a block.
    fn object(&mut self, path: &mut Vec<String>) {
        loop {
            match self.tokens.next() {
                None | Some(Token::Other('}')) => return,
                Some(Token::Text(name) | Token::Word(name))
                    if self.tokens.next_if_eq(&Token::Other(':')).is_some() =>
                {
                    path.push(name);
                    self.property(path);
                    path.pop();
                }
                Some(Token::Other('{')) => self.object(path),
                Some(Token::Other('[')) => {
                    self.list(path);
                }
                Some(Token::Other('(')) => self.group(path),
                Some(_) => {}
            }
        }
    }

    fn property(&mut self, path: &mut Vec<String>) {
        let (mut values, mut is_partial) = (Vec::new(), true);
        match self.tokens.peek() {
            Some(Token::Text(value)) => {
                values.push(value.clone());
                self.tokens.next();
                // `'a' + b` is no plain value.
                is_partial = !matches!(self.tokens.peek(), None | Some(Token::Other(',' | '}' | ';')));
            }
            Some(Token::Word(value)) if matches!(value.as_str(), "true" | "false") => {
                values.push(value.clone());
                is_partial = false;
            }
            Some(Token::Other('[')) => {
                self.tokens.next();
                (values, is_partial) = self.list(path);
            }
            _ => {}
        }
        self.found.push(Property { path: path.clone(), values, is_partial });
        self.value(path);
    }

    /// The strings of a list that is already open, and whether there is more in it.
    fn list(&mut self, path: &mut Vec<String>) -> (Vec<String>, bool) {
        let mut values = Vec::new();
        let mut is_partial = false;
        loop {
            match self.tokens.next() {
                None | Some(Token::Other(']')) => return (values, is_partial),
                Some(Token::Text(value)) => values.push(value),
                Some(Token::Other(',')) => {}
                Some(other) => {
                    is_partial = true;
                    match other {
                        Token::Other('{') => self.object(path),
                        Token::Other('[') => {
                            self.list(path);
                        }
                        Token::Other('(') => self.group(path),
                        _ => {}
                    }
                }
            }
        }
    }

    fn group(&mut self, path: &mut Vec<String>) {
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Other(')') => return,
                Token::Other('{') => self.object(path),
                Token::Other('[') => {
                    self.list(path);
                }
                Token::Other('(') => self.group(path),
                _ => {}
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '/' if characters.peek() == Some(&'/') => {
                characters.by_ref().find(|&next| next == '\n');
            }
            '/' if characters.peek() == Some(&'*') => {
                let mut last = ' ';
                characters.by_ref().find(|&next| std::mem::replace(&mut last, next) == '*' && next == '/');
            }
            '/' if begins_expression(tokens.last()) => {
                quoted(&mut characters, '/');
                tokens.push(Token::Other('/'));
            }
            '"' | '\'' | '`' => tokens.push(Token::Text(quoted(&mut characters, character))),
            _ if is_of_word(character) => {
                let mut word = String::from(character);
                while let Some(next) = characters.next_if(|&next| is_of_word(next)) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            _ if character.is_whitespace() => {}
            _ => tokens.push(Token::Other(character)),
        }
    }
    tokens
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$' | '.' | '-')
}

/// Whether a slash after this token begins a regular expression, and is no division.
fn begins_expression(before: Option<&Token>) -> bool {
    matches!(
        before,
        None | Some(Token::Other('(' | ',' | ':' | '[' | '=' | '!' | '&' | '|' | '?' | '{' | ';'))
    )
}

/// The text up to the closing quote, escapes resolved as far as patterns have them.
fn quoted(characters: &mut impl Iterator<Item = char>, quote: char) -> String {
    let mut text = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                escaped => text.extend(escaped),
            },
            _ if character == quote => break,
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_read_without_its_program() {
        let literals = Literals::read(
            r#"
            import { defineConfig, configDefaults } from 'vitest/config'
            // test: { include: ['commented/**'] }
            /* exclude: ['also'] */
            const pattern = /['"{]/;
            export default defineConfig(({ mode }) => ({
              plugins: [react({ include: ['no'] })],
              test: {
                environment: 'jsdom',
                include: ['src/**/*.test.ts', "it's/**",],
                exclude: [...configDefaults.exclude, 'e2e/**'],
                coverage: { include: ['src/**'] },
                globals: true,
              },
            }))
            "#,
        );
        assert_eq!(literals.values(&["test", "include"]), ["src/**/*.test.ts", "it's/**"]);
        let exclude = literals.at(&["test", "exclude"])[0];
        assert!(exclude.is_partial && exclude.values == ["e2e/**"]);
        assert_eq!(literals.value(&["test", "globals"]).as_deref(), Some("true"));
        assert_eq!(literals.at(&["test", "include"]).len(), 1);
    }

    #[test]
    fn json_and_types_are_read_too() {
        let package = Literals::read(
            r#"{"name": "a", "scripts": {"test": "jest", "test:unit": "mocha 'a b'"}, "jest": {"testRegex": ".*\\.spec\\.ts$"}}"#,
        );
        assert_eq!(package.value(&["jest", "testRegex"]).as_deref(), Some(r".*\.spec\.ts$"));
        let scripts: Vec<_> =
            package.below(&["scripts"]).into_iter().map(|script| script.values[0].as_str()).collect();
        assert_eq!(scripts, ["jest", "mocha 'a b'"]);
        assert!(package.has(&["jest"]) && !package.has(&["mocha"]));
        let typed =
            Literals::read("const config: Config = { roots: ['<rootDir>/src'] }; export default config");
        assert_eq!(typed.values(&["roots"]), ["<rootDir>/src"]);
    }

    #[test]
    fn several_projects_keep_apart_and_nonsense_ends() {
        let projects =
            Literals::read("module.exports = { projects: [{ testMatch: ['a'] }, { testMatch: ['b'] }] }");
        let matches: Vec<_> =
            projects.at(&["projects", "testMatch"]).into_iter().map(|found| found.values.join("")).collect();
        assert_eq!(matches, ["a", "b"]);
        for nonsense in ["{ a: [", "}}} ]] ((", "'", "/*", "{ a: b + 'c' }", ") , ; x"] {
            assert_eq!(Literals::read(nonsense).value(&["b"]), None);
        }
    }
}
