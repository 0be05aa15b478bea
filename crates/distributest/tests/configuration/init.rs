//! What `distributest init` writes, and what it leaves alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use distributest::cli::init::{InitArgs, run};
use distributest::config::DEFAULT_NODE_SETUP;

use crate::support::Layers;

/// A project without a `.distributest` directory, and the arguments to initialise it.
fn project(files: &[&str]) -> (Layers, InitArgs) {
    let layers = Layers::new();
    let directory = &layers.sources.project;
    fs::remove_dir(layers.sources.project_directory()).expect("remove the empty directory");
    for file in files {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().expect("it has a parent")).expect("make a directory");
        fs::write(path, "").expect("write a file");
    }
    let args = InitArgs { project: Some(directory.clone()), hooks: false };
    (layers, args)
}

#[test]
fn the_detected_framework_is_pinned() {
    let (layers, args) = project(&["pytest.ini", "tests/test_a.py", "tests/test_b.py"]);
    let said = run(&args).expect("there is nothing in the way");
    insta::assert_snapshot!(said, @"
    Found pytest (pytest.ini; 2 test files).
    Wrote .distributest/config.toml
    Next:
      distributest --dry-run   show what would run, and where
      distributest             run it
    Commit .distributest so that everybody runs the tests the same way.
    ");
    let text =
        fs::read_to_string(layers.sources.project_directory().join("config.toml")).expect("it is written");
    assert!(
        text.contains("\n# Found here: pytest (pytest.ini; 2 test files).\nframeworks = [\"pytest\"]\n"),
        "{text}"
    );
    assert_eq!(layers.load().frameworks, ["pytest"]);
}

#[test]
fn where_nothing_is_detected_it_says_what_to_write() {
    let (layers, args) = project(&["README"]);
    insta::assert_snapshot!(run(&args).expect("there is nothing in the way"), @r#"
    Wrote .distributest/config.toml
    Found no test framework that distributest knows. Say in the file which files are tests and what runs them:
      files = ["tests/*.sh"]
      command = "bash {file}"
    Next:
      distributest --dry-run   show what would run, and where
      distributest             run it
    Commit .distributest so that everybody runs the tests the same way.
    "#);
    assert_eq!(layers.load(), Layers::new().load());
}

#[test]
fn of_several_frameworks_none_is_pinned() {
    let (layers, args) = project(&["pytest.ini", "tests/test_a.py", ".rspec", "spec/a_spec.rb"]);
    let said = run(&args).expect("there is nothing in the way");
    assert!(said.contains("pytest (pytest.ini; 1 test file), rspec (.rspec; 1 test file)"), "{said}");
    assert!(layers.load().frameworks.is_empty());
}

#[test]
fn hooks_are_written_executable_beside_a_configuration_that_is_kept() {
    let (layers, args) = project(&[]);
    run(&args).expect("there is nothing in the way");
    let directory = layers.sources.project_directory();
    fs::write(directory.join("config.toml"), "runners = 3").expect("edit the file");
    let said = run(&InitArgs { hooks: true, ..args }).expect("the hooks are not there yet");
    assert!(said.starts_with("Kept .distributest/config.toml\nWrote .distributest/node_setup\n"), "{said}");
    assert_eq!(layers.load().runners, Some(3));
    for name in ["node_setup", "runner_setup"] {
        let mode = fs::metadata(directory.join(name)).expect("it is written").permissions().mode();
        assert_eq!(mode & 0o700, 0o700, "{name} is executable for its owner");
    }
    let written = fs::read_to_string(directory.join("node_setup")).expect("it is written");
    assert_eq!(written, DEFAULT_NODE_SETUP);
}

#[test]
fn nothing_is_overwritten() {
    let (layers, args) = project(&[]);
    let directory = layers.sources.project_directory();
    fs::create_dir(&directory).expect("make the directory");
    symlink("/nowhere/at/all", directory.join("config.toml")).expect("make a link");
    let error = run(&args).expect_err("even a dangling link is somebody's");
    assert_eq!(error.exit_status, 2);
    insta::assert_snapshot!(layers.redact(&error.to_string()), @"
    error: ROOT/project/.distributest already has config.toml: nothing was written
      hint: edit what is there, or move it away and run init again
    ");
}

#[test]
fn a_project_that_is_not_there_is_named() {
    let (layers, _) = project(&[]);
    let args = InitArgs { project: Some(layers.path("missing")), hooks: false };
    insta::assert_snapshot!(layers.redact(&run(&args).expect_err("there is no project").to_string()), @"
    error: failed to open the project ROOT/missing
      caused by: No such file or directory (os error 2)
      hint: start distributest in the project's directory, or name it with --project
    ");
}
