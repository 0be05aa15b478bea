//! What cargo's messages leave out and only manifests say.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::messages::Target;

/// Whether `cargo test` in this directory needs to be told to take the whole workspace: it is one, and names no default
/// members.
pub(super) fn is_tested_whole(root: &Path) -> bool {
    let manifest = read(root);
    let workspace = manifest.get("workspace").and_then(Value::as_table);
    workspace.is_some_and(|workspace| !workspace.contains_key("default-members"))
}

/// Whether a target of the package in `directory` has Rust's own test harness.
pub(super) fn has_libtest(directory: &Path, target: &Target) -> bool {
    let manifest = read(directory);
    let kind = target.kind.first().map(String::as_str).unwrap_or_default();
    let declared = match manifest.get(kind) {
        Some(Value::Array(targets)) => targets
            .iter()
            .filter_map(Value::as_table)
            .find(|table| table.get("name").and_then(Value::as_str) == Some(&target.name)),
        _ => manifest.get("lib").and_then(Value::as_table).filter(|_| is_library(kind)),
    };
    declared.and_then(|table| table.get("harness")).and_then(Value::as_bool).unwrap_or(true)
}

fn is_library(kind: &str) -> bool {
    !matches!(kind, "bin" | "test" | "example" | "bench" | "custom-build")
}

/// A manifest that cargo has read without complaint.
fn read(directory: &Path) -> Table {
    let text = fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
    text.parse().unwrap_or_default()
}
