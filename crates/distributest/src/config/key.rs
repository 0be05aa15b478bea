//! Knows the other names of a key: its environment variable and its flag.

/// Keys whose variable would be one that tests see (`DISTRIBUTEST_ENV`, …), so they have none.
const WITHOUT_VARIABLE: [&str; 5] = ["cache_inputs", "env", "host", "isolation", "retry"];

/// Variables that are not settings: those that hooks and tests see, and where the system's files are.
pub(super) const OTHER_VARIABLES: [&str; 9] = [
    "DISTRIBUTEST_ENV",
    "DISTRIBUTEST_FD",
    "DISTRIBUTEST_HOST",
    "DISTRIBUTEST_ISOLATION",
    "DISTRIBUTEST_MAY_STAY",
    "DISTRIBUTEST_PROJECT",
    "DISTRIBUTEST_RUN",
    "DISTRIBUTEST_RUNNER",
    super::sources::SYSTEM_DIRECTORY_VARIABLE,
];

/// What the variables of all settings begin with.
pub(super) const VARIABLE_PREFIX: &str = "DISTRIBUTEST_";

/// The environment variable that sets a key: `log.path` is `DISTRIBUTEST_LOG_PATH`.
pub(super) fn variable_of(key: &str) -> Option<String> {
    let name = key.to_ascii_uppercase().replace(['.', '-'], "_");
    (!WITHOUT_VARIABLE.contains(&key)).then(|| format!("{VARIABLE_PREFIX}{name}"))
}

/// Keys that flags set, with their flags.
pub(super) const FLAGS: [(&str, &str); 15] = [
    ("files", "--files"),
    ("exclude", "--exclude"),
    ("frameworks", "--framework"),
    ("command", "--command"),
    ("runners", "--runners"),
    ("hosts", "--hosts"),
    ("isolation", "--isolation"),
    ("split", "--split"),
    ("timeout", "--timeout"),
    ("retries", "--retries"),
    ("fail_fast", "--fail-fast"),
    ("cache", "--cache"),
    ("snapshot", "--snapshot"),
    ("require_hosts", "--require-hosts"),
    ("log.path", "--log-file"),
];

/// The flag that sets a key; `None` for keys that have none.
pub fn flag_of(key: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(named, _)| *named == key).map(|(_, flag)| *flag)
}

/// Every way to set a key, for a hint.
pub(super) fn ways_to_set(key: &str) -> String {
    if key == "hosts" {
        // The likeliest mistake is to describe hosts here.
        return "select hosts with `hosts`, DISTRIBUTEST_HOSTS or --hosts; describe each with [[host]] and \
                below it name = \"...\""
            .to_owned();
    }
    let file = format!("`{key}` in a configuration file");
    let ways: Vec<String> =
        [Some(file), variable_of(key), flag_of(key).map(str::to_owned)].into_iter().flatten().collect();
    match ways.split_last() {
        Some((last, others)) if !others.is_empty() => format!("set it with {} or {last}", others.join(", ")),
        _ => format!("set it with {}", ways.join("")),
    }
}

/// The candidate that a misspelt name most likely means, if one is near enough.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name, &candidate.to_lowercase());
    let nearest = candidates.into_iter().min_by_key(|candidate| distance(candidate))?;
    let tolerance = (nearest.len() / 3).clamp(1, 3);
    (distance(nearest) <= tolerance).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_set_a_key_is_named() {
        assert_eq!(
            ways_to_set("log.path"),
            "set it with `log.path` in a configuration file, DISTRIBUTEST_LOG_PATH or --log-file"
        );
        assert_eq!(
            ways_to_set("isolation"),
            "set it with `isolation` in a configuration file or --isolation"
        );
        assert_eq!(ways_to_set("env"), "set it with `env` in a configuration file");
    }

    #[test]
    fn a_misspelt_name_finds_the_right_one_and_a_strange_one_finds_none() {
        let names = ["files", "runners", "log.keep"];
        assert_eq!(nearest("runers", names), Some("runners"));
        assert_eq!(nearest("Files", names), Some("files"));
        assert_eq!(nearest("parallelism", names), None);
    }
}
