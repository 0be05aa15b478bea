//! What a Rust test says when it fails, in one line.

/// Where a test panicked, and why it failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// In one line.
    pub(super) message: String,
    /// The file and line the panic names: relative to the workspace, or absolute.
    pub(super) place: Option<(String, u32)>,
}

/// Finds it in what a failed test printed.
pub(super) fn account_of(output: &str) -> Account {
    let should_have =
        output.lines().rev().find(|line| line.starts_with("note: test did not panic as expected"));
    if let Some(line) = should_have {
        return Account { message: line.trim_start_matches("note: ").to_owned(), place: None };
    }
    // The last one is the test's own: one that is caught comes before it.
    let Some(begin) = output.rfind(" panicked at ").filter(|begin| is_of_thread(&output[..*begin])) else {
        let error = output.lines().find(|line| line.starts_with("Error: ")).or_else(|| output.lines().last());
        return Account { message: error.unwrap_or_default().trim().to_owned(), place: None };
    };
    let text = &output[begin + " panicked at ".len()..];
    let (place, message) = match text.strip_prefix('\'') {
        // Before Rust 1.73: 'message', src/lib.rs:3:5
        Some(quoted) => {
            let (message, place) = quoted.rsplit_once("', ").unwrap_or((quoted, ""));
            (place.lines().next().unwrap_or_default(), message)
        }
        None => text.split_once('\n').unwrap_or((text, "")),
    };
    let message = match output.contains("note: panic did not contain expected string") {
        true => format!("panic did not contain expected string: {}", one_line(message)),
        false => one_line(message),
    };
    Account { message, place: place_of(place) }
}

/// Whether the line that ends here names a thread, as a panic does.
fn is_of_thread(before: &str) -> bool {
    before.rsplit('\n').next().is_some_and(|line| line.starts_with("thread "))
}

/// The first line of a panic's message, with the two values of an assertion.
fn one_line(message: &str) -> String {
    let mut lines = message.lines();
    let mut line = lines.next().unwrap_or_default().trim().to_owned();
    let values: Vec<&str> = lines
        .map(str::trim)
        .take_while(|line| line.starts_with("left: ") || line.starts_with("right: "))
        .collect();
    if !values.is_empty() {
        line = format!("{line} ({})", values.join(", "));
    }
    line
}

/// Reads `src/lib.rs:3:5`, perhaps with a colon after it.
fn place_of(text: &str) -> Option<(String, u32)> {
    let (rest, _column) = text.trim().trim_end_matches(':').rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file.to_owned(), line.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(message: &str, line: u32) -> Account {
        Account { message: message.to_owned(), place: Some(("src/lib.rs".to_owned(), line)) }
    }

    #[test]
    fn panics_of_old_and_new_rust_are_understood() {
        let new = "shown\n\nthread 'a::b' (5858) panicked at src/lib.rs:24:58:\nassertion `left == right` failed: with 1\n  left: 1\n right: 2\nstack backtrace:\n   0: x\n";
        assert_eq!(account_of(new), at("assertion `left == right` failed: with 1 (left: 1, right: 2)", 24));
        assert_eq!(
            account_of("thread 'a' panicked at 'it's\nbad', src/lib.rs:3:5\nnote: run"),
            at("it's", 3)
        );
        let expected = "\nthread 'a' (1) panicked at src/lib.rs:30:56:\nxyz\nnote: panic did not contain expected string\n      panic message: \"xyz\"\n expected substring: \"abc\"\n";
        assert_eq!(account_of(expected), at("panic did not contain expected string: xyz", 30));
    }

    #[test]
    fn tests_fail_without_panics_too() {
        let message = |text: &str| account_of(text).message;
        assert_eq!(message("said\nError: \"bad\""), "Error: \"bad\"");
        assert_eq!(
            message("note: test did not panic as expected at src/lib.rs:29:29"),
            "test did not panic as expected at src/lib.rs:29:29"
        );
        assert_eq!(message("only words panicked at nothing"), "only words panicked at nothing");
        assert_eq!(message(""), "");
    }
}
