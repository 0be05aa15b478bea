//! Every file in `invalid-configs/` is refused with the message in the snapshot beside it.

use std::fs;
use std::path::Path;

use crate::support::{Layers, flag};

#[test]
fn every_invalid_file_is_refused_with_a_message_that_helps() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid-configs");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&directory);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut checked = 0;
    for entry in fs::read_dir(&directory).expect("list the invalid files") {
        let path = entry.expect("list the invalid files").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("read an invalid file");
        let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        let complaint = Layers::new().project(&text).complaint(&[]);
        settings.bind(|| insta::assert_snapshot!(name, complaint.replace("ROOT/project/.distributest/", "")));
        checked += 1;
    }
    assert!(checked > 25, "only {checked} invalid files found");
}

#[test]
fn a_file_that_is_not_text_is_named() {
    let layers = Layers::new();
    fs::write(layers.sources.project_directory().join("config.toml"), b"files = \"\xff\"")
        .expect("write a file");
    insta::assert_snapshot!(layers.complaint(&[]), @"
    error: failed to read ROOT/project/.distributest/config.toml
      caused by: stream did not contain valid UTF-8
      hint: make it a readable UTF-8 text file or remove it
    ");
}

#[test]
fn a_directory_in_place_of_a_file_is_named() {
    let layers = Layers::new();
    fs::create_dir(layers.sources.project_directory().join("config.toml")).expect("make a directory");
    insta::assert_snapshot!(layers.complaint(&[]), @"
    error: failed to read ROOT/project/.distributest/config.toml
      caused by: Is a directory (os error 21)
      hint: make it a readable UTF-8 text file or remove it
    ");
}

#[test]
fn variables_and_flags_are_checked_like_files() {
    let layers = Layers::new()
        .variable("DISTRIBUTEST_RUNNERS", "many")
        .variable("DISTRIBUTEST_FILES", "spec/*.rb 'open")
        .variable("DISTRIBUTEST_SNAPSHOT", "perhaps")
        .variable("DISTRIBUTEST_LOG_KEEEP", "3");
    let flags = [
        flag("timeout", &["never"]),
        flag("files", &["a/*.rb", "../b"]),
        flag("command", &["make test"]),
        flag("hosts", &["build1"]),
    ];
    insta::assert_snapshot!(layers.complaint(&flags), @r#"
    error: DISTRIBUTEST_FILES: `files` must be a list of globs relative to the project, such as ["spec/**/*_spec.rb"], found "spec/*.rb 'open"
      caused by: ' is not closed
      hint: set it with `files` in a configuration file, DISTRIBUTEST_FILES or --files
    error: DISTRIBUTEST_LOG_KEEEP: unknown variable
      hint: did you mean DISTRIBUTEST_LOG_KEEP?
    error: DISTRIBUTEST_RUNNERS: `runners` must be a whole number from 0 to 1024 or "auto" (the number of cores), found "many"
      hint: set it with `runners` in a configuration file, DISTRIBUTEST_RUNNERS or --runners
    error: DISTRIBUTEST_SNAPSHOT: `snapshot` must be true or false, found "perhaps"
      hint: set it with `snapshot` in a configuration file, DISTRIBUTEST_SNAPSHOT or --snapshot
    error: --command: `command` must be a program and its arguments with {file} among them, such as "bash {file}" ("": the file itself), found "make test"
      caused by: {file} is missing, so every file would run the same
      hint: set it with `command` in a configuration file, DISTRIBUTEST_COMMAND or --command
    error: --files: `files` must be a list of globs relative to the project, such as ["spec/**/*_spec.rb"], found "../b"
      caused by: it leads out of the project
      hint: set it with `files` in a configuration file, DISTRIBUTEST_FILES or --files
    error: --hosts: `hosts` selects "build1", which no [[host]] has as its name
      hint: choose among localhost, or add [[host]] with name = "build1"
    error: --timeout: `timeout` must be a duration such as "90s", "10m" or a number of seconds, at most 30 days (0: no limit), found "never"
      hint: set it with `timeout` in a configuration file, DISTRIBUTEST_TIMEOUT or --timeout
    "#);
}

#[test]
fn a_value_that_a_later_layer_overrides_is_checked_all_the_same() {
    let layers = Layers::new().system("runners = 'all'").user("timeout = '5 parsecs'").project("runners = 2");
    insta::assert_snapshot!(layers.complaint(&[flag("timeout", &["1m"])]), @r#"
    error: ROOT/etc/config.toml:1:11: `runners` must be a whole number from 0 to 1024 or "auto" (the number of cores), found "all"
      hint: set it with `runners` in a configuration file, DISTRIBUTEST_RUNNERS or --runners
    error: ROOT/home/.config/distributest/config.toml:1:11: `timeout` must be a duration such as "90s", "10m" or a number of seconds, at most 30 days (0: no limit), found "5 parsecs"
      hint: set it with `timeout` in a configuration file, DISTRIBUTEST_TIMEOUT or --timeout
    "#);
}

#[test]
fn a_relative_path_in_the_systems_file_has_no_base() {
    let layers = Layers::new().system("log.path = 'distributest.log'");
    insta::assert_snapshot!(layers.complaint(&[]), @r#"
    error: ROOT/etc/config.toml:1:12: `log.path` must be a path or "auto" (a file in your state directory), found "distributest.log"
      caused by: it must be absolute or begin with ~/ in this file
      hint: set it with `log.path` in a configuration file, DISTRIBUTEST_LOG_PATH or --log-file
    "#);
}

#[test]
fn a_home_that_is_not_known_is_said_so() {
    let mut layers = Layers::new().project("log.path = '~/distributest.log'");
    layers.sources.home = None;
    insta::assert_snapshot!(layers.complaint(&[]), @r#"
    error: ROOT/project/.distributest/config.toml:1:12: `log.path` must be a path or "auto" (a file in your state directory), found "~/distributest.log"
      caused by: HOME is not set
      hint: set it with `log.path` in a configuration file, DISTRIBUTEST_LOG_PATH or --log-file
    "#);
}

#[test]
fn a_disabled_machine_alone_leaves_nothing_to_run_on() {
    insta::assert_snapshot!(Layers::new().complaint(&[flag("runners", &["0"])]), @"
    error: --runners: no host is left to run tests on: all of those selected have `runners = 0`
      hint: raise `runners`, or select other hosts with --hosts
    ");
}
