//! How durations, counts, paths and commands are written for people.

use std::time::Duration;

use distributest_core::run_event::FilePart;

/// `0.04 s`, `1.2 s`, `3 min 04 s`, `1 h 02 min`: as exact as is useful at that length.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.995 {
        format!("{seconds:.2} s")
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        whole_duration(duration)
    }
}

/// `0 s`, `42 s`, `3 min 04 s`, `1 h 02 min`: rounded to whole seconds, for what changes while one watches.
pub fn whole_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `184.25 s`: the same unit whatever the length, for logs that are searched and sorted.
pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// `70 s`, `4 min`, `1 h 20 min`: as exact as a guess deserves.
pub fn estimate(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1,834`.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 file`, `1,834 files`: for nouns whose plural ends in an s.
pub fn count(amount: u64, noun: &str) -> String {
    let plural = if amount == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(amount))
}

/// How many files there are: `120 files`, or `120 files in 123 parts` where some are split.
pub fn files<'a>(parts: impl ExactSizeIterator<Item = Option<&'a FilePart>>) -> String {
    let all = parts.len() as u64;
    let files = parts.filter(|part| part.is_none_or(|part| part.number == 1)).count() as u64;
    let number = count(files, "file");
    if files < all { format!("{number} in {}", count(all, "part")) } else { number }
}

/// What follows the path of a part of a file: ` (part 2 of 3)`.
pub fn part(part: FilePart) -> String {
    format!(" (part {} of {})", part.number, part.of)
}

/// A path as it can be printed on one line: as it is, or in double quotes with escapes where it holds control
/// characters, invisible direction marks, or blanks at its ends.
pub fn display_path(path: &str) -> String {
    let odd = path.is_empty() || path.trim() != path || path.chars().any(is_unprintable);
    if !odd {
        return path.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in path.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            unprintable if is_unprintable(unprintable) => quoted.extend(unprintable.escape_default()),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// Whether printing this character would do something other than show it.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One word of a shell command, quoted only where a shell needs it: in single quotes, or in `$'…'` where it holds
/// control characters, so that a newline can be copied from a terminal and pasted into bash or zsh unharmed.
pub fn shell_quote(word: &str) -> String {
    let harmless = |character: char| {
        character.is_alphanumeric()
            || matches!(character, '_' | '-' | '.' | '/' | ',' | ':' | '@' | '%' | '+' | '=')
    };
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    if !word.chars().any(is_unprintable) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = String::from("$'");
    for character in word.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            unprintable if is_unprintable(unprintable) => {
                let mut buffer = [0; 4];
                for byte in unprintable.encode_utf8(&mut buffer).bytes() {
                    // Octal of exactly three digits: unlike \x, it can't swallow a digit that follows.
                    quoted.push_str(&format!("\\{byte:03o}"));
                }
            }
            other => quoted.push(other),
        }
    }
    quoted + "'"
}

/// The command that runs one file alone, or these of its tests. A path that could be taken for an option or for a command's name, in which
/// there is neither a slash nor a dot, begins with `./`.
pub fn rerun_command(command: &str, path: &str, tests: &[String]) -> String {
    let here = if path.contains(['/', '.']) && !path.starts_with('-') { "" } else { "./" };
    let file = format!("{here}{path}");
    let argument = |id: &String| {
        // The ids of some frameworks begin with the file, as their users write them.
        let rest = id.strip_prefix("./").unwrap_or(id).strip_prefix(path);
        match rest.filter(|rest| rest.starts_with("::") || rest.starts_with('[')) {
            Some(rest) => shell_quote(&format!("{file}{rest}")),
            None => shell_quote(&format!("{file}::{id}")),
        }
    };
    let arguments: Vec<String> =
        if tests.is_empty() { vec![shell_quote(&file)] } else { tests.iter().map(argument).collect() };
    format!("{command} {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn durations_are_as_exact_as_useful() {
        let cases = [
            (0, "0.00 s"),
            (40, "0.04 s"),
            (999, "1.0 s"),
            (1_234, "1.2 s"),
            (59_940, "59.9 s"),
            (59_960, "1 min 00 s"),
            (184_000, "3 min 04 s"),
            (3_599_700, "1 h 00 min"),
            (3_725_000, "1 h 02 min"),
        ];
        for (milliseconds, text) in cases {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(whole_duration(Duration::from_millis(41_600)), "42 s");
    }

    #[test]
    fn counts_have_groups_and_plurals() {
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(999, "test"), "999 tests");
        assert_eq!(count(1_834, "test"), "1,834 tests");
        assert_eq!(number(1_234_567), "1,234,567");
    }

    #[test]
    fn odd_paths_stay_on_one_line() {
        assert_eq!(display_path("tests/test a's.py"), "tests/test a's.py");
        assert_eq!(display_path("tests/naïve_日本.py"), "tests/naïve_日本.py");
        assert_eq!(display_path("a\nb\".py"), r#""a\nb\".py""#);
        assert_eq!(display_path("evil\u{202e}yp.py"), r#""evil\u{202e}yp.py""#);
        assert_eq!(display_path("trailing "), "\"trailing \"");
    }

    #[test]
    fn plain_words_are_not_quoted() {
        assert_eq!(shell_quote("tests/test_a-1.py"), "tests/test_a-1.py");
        assert_eq!(shell_quote("tests/a b.py"), "'tests/a b.py'");
        assert_eq!(rerun_command("distributest", "-v.py", &[]), "distributest ./-v.py");
        assert_eq!(rerun_command("distributest", "config", &[]), "distributest ./config");
        assert_eq!(rerun_command("distributest", "test_a.py", &[]), "distributest test_a.py");
        assert_eq!(rerun_command("distributest", "tests/a", &[]), "distributest tests/a");
    }

    #[test]
    fn single_tests_are_named_as_the_command_line_takes_them() {
        let command = |path: &str, ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            rerun_command("distributest", path, &ids)
        };
        assert_eq!(
            command("t/test_a.py", &["t/test_a.py::test_x[1]"]),
            "distributest 't/test_a.py::test_x[1]'"
        );
        assert_eq!(
            command("spec/a.rb", &["./spec/a.rb[1:2]", "./spec/a.rb[2:1]"]),
            "distributest 'spec/a.rb[1:2]' 'spec/a.rb[2:1]'"
        );
        assert_eq!(command("test/a.rb", &["ATest#test_x"]), "distributest 'test/a.rb::ATest#test_x'");
        assert_eq!(command("pkg", &["TestX"]), "distributest ./pkg::TestX");
        assert_eq!(command("-a.py", &["-a.py::test"]), "distributest ./-a.py::test");
    }

    #[test]
    fn bash_reads_back_what_was_quoted() {
        let words = [
            "",
            "a b",
            "a'b",
            "a\"b$HOME`x`",
            "a\nb'c\\d",
            "\u{1b}[1m7",
            "é\u{85}9",
            "~",
            "*",
            "a[1].py",
            "!x",
        ];
        for word in words {
            let script = format!("printf %s {}", shell_quote(word));
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{script}");
        }
    }
}
