//! Whatever is in a configuration file, the answer is a configuration or a message that says in which line it is wrong.
//! `PROPTEST_CASES` says how many files are tried.

use distributest::config;
use distributest::error::UserError;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::Layers;

/// Lines with every shape of value there is.
const LINES: &[&str] = &[
    "files = [\"spec/**/*_spec.rb\"]",
    "command = \"bash {file}\"",
    "runners = 4",
    "timeout = \"10m\"",
    "slow_test = 0.5",
    "keep_warm = \"10m\"",
    "snapshot = true",
    "pass_env = [\"CI\", 'HOME']",
    "hosts = [\"localhost\", \"h1\"]",
    "isolation = \"fork\"",
    "flaky = \"fail\"",
    "[env]",
    "RAILS_ENV = \"test\"",
    "[retry]",
    "\"spec/system/**\" = 2",
    "[log]",
    "path = '''~/x'''",
    "keep = 10",
    "[framework.rspec]",
    "files = [\"a/*\"]",
    "[sync]",
    "[[host]]",
    "name = \"h2\"",
    "runners = \"auto\"",
    "ssh_options = [\"Port=22\"]",
    "# a comment",
    "",
];

/// What is put in anywhere.
const WORDS: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "#",
    "-1",
    "99999999999999999999",
    "nan",
    "1979-05-27",
    "\\u0000",
    "\\",
    "é",
    "\u{feff}",
    "\r",
    "\0",
    "{file}",
    "**",
    "0",
    "0s",
    "-0.0",
    "1e999",
    "true",
];

fn damaged() -> impl Strategy<Value = String> {
    let insertions = vec((any::<Index>(), select(WORDS)), 0..5);
    (vec(select(LINES), 0..12), insertions).prop_map(|(lines, insertions)| {
        let mut text: Vec<char> = lines.join("\n").chars().collect();
        for (place, word) in insertions {
            let place = place.index(text.len() + 1);
            text.splice(place..place, word.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn every_file_is_a_configuration_or_a_message_with_a_line(
        text in prop_oneof![1 => "\\PC{0,100}", 1 => vec(select(WORDS), 0..30).prop_map(|words| words.concat()), 4 => damaged()],
    ) {
        let layers = Layers::new().project(&text);
        if let Err(error) = config::load(&layers.sources, &[]) {
            let error = UserError::from(error);
            prop_assert_eq!(error.exit_status, 2);
            let message = layers.redact(&error.to_string());
            prop_assert!(says_a_line(&message), "{}", message);
            // A terminal can take it.
            let control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
            prop_assert!(!message.contains(control), "{:?}", message);
        }
    }
}

/// `config.toml:12` or `line 12`.
fn says_a_line(message: &str) -> bool {
    let follows = |mark: &str| {
        let parts = message.match_indices(mark).map(|(place, _)| &message[place + mark.len()..]);
        parts.into_iter().any(|rest| rest.starts_with(|character: char| character.is_ascii_digit()))
    };
    follows("config.toml:") || follows("line ")
}
