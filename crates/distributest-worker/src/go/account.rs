//! What a Go test says when it fails or is skipped, in one line.

/// The line that says why, in what a test printed; empty where it printed nothing.
pub(super) fn message_of(id: &str, output: &str) -> String {
    if let Some(panic) = output.lines().find(|line| is_death(line)) {
        // The longer one is that of Go 1.25.
        return panic
            .trim_end_matches(" [recovered]")
            .trim_end_matches(" [recovered, repanicked]")
            .to_owned();
    }
    let comparison = output.split_once("got:\n").and_then(|(_, rest)| rest.split_once("\nwant:\n"));
    if let Some((got, want)) = comparison.filter(|_| id.starts_with("Example")) {
        return format!("got {:?}, want {:?}", got.trim(), want.trim());
    }
    let mut logged = output.lines().map(str::trim).filter_map(|line| Some((line, text_of_log(line)?)));
    match logged.next() {
        // testify says on later lines what is wrong.
        Some((line, "")) => {
            let error = output.lines().map(str::trim).find_map(|line| line.strip_prefix("Error:"));
            error.map_or_else(|| line.to_owned(), |error| format!("{line} {}", error.trim()))
        }
        Some((line, _)) => line.to_owned(),
        None => output.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned(),
    }
}

/// Why a test is skipped: what it logged last.
pub(super) fn reason_of(output: &str) -> String {
    let reason = output.lines().rev().find_map(|line| text_of_log(line.trim()));
    reason.unwrap_or_default().to_owned()
}

/// Whether a line is what Go's runtime says first when it ends a process.
pub(super) fn is_death(line: &str) -> bool {
    line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || line.starts_with("SIG") && line.contains(": ")
}

/// The text of a line that `t.Log` and its like write: `a_test.go:12: text`.
fn text_of_log(line: &str) -> Option<&str> {
    let (place, text) = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))?;
    let (file, number) = place.rsplit_once(':')?;
    let is_place =
        file.ends_with(".go") && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_place.then(|| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thing_that_went_wrong_is_the_message() {
        assert_eq!(
            message_of("TestA", "said\n    a_test.go:12: bad 1\n    a_test.go:13: bad 2\n"),
            "a_test.go:12: bad 1"
        );
        let testify =
            "    a_test.go:9: \n        \tError Trace:\ta_test.go:9\n        \tError:      \tNot equal: \n";
        assert_eq!(message_of("TestA", testify), "a_test.go:9: Not equal:");
        let panic = "said\npanic: boom [recovered]\n\tpanic: boom\n\ngoroutine 7 [running]:\n";
        assert_eq!(message_of("TestA", panic), "panic: boom");
        assert_eq!(message_of("TestA", "panic: boom [recovered, repanicked]\n"), "panic: boom");
        assert_eq!(message_of("ExampleA", "got:\nx\ny\nwant:\nz\n"), "got \"x\\ny\", want \"z\"");
        assert_eq!(
            (message_of("TestA", "\n only words\n").as_str(), message_of("TestA", "").as_str()),
            ("only words", "")
        );
    }

    #[test]
    fn the_last_thing_logged_is_the_reason_to_skip() {
        assert_eq!(reason_of("    a_test.go:1: first\n    a_test.go:2: not: here\n"), "not: here");
        assert_eq!(reason_of("words\n"), "");
    }
}
