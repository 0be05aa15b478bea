//! Which hooks a run uses, and what is said of those it can't use.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use distributest::config::{DEFAULT_NODE_SETUP, DEFAULT_RUNNER_SETUP, Hook, HookSource, find_hooks};
use distributest::error::UserError;

use crate::support::Layers;

fn write_hook(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).expect("write a hook");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set the mode of a hook");
}

#[test]
fn a_project_without_hooks_has_none() {
    let hooks = find_hooks(&Layers::new().sources).expect("no hook is no error");
    assert_eq!((hooks.node_setup, hooks.runner_setup), (None, None));
}

#[test]
fn the_projects_hook_replaces_the_systems_of_the_same_name() {
    let layers = Layers::new();
    let system = &layers.sources.system_directory;
    let project = layers.sources.project_directory();
    write_hook(&system.join("node_setup"), "system node", 0o755);
    write_hook(&system.join("runner_setup"), "system runner", 0o755);
    write_hook(&project.join("runner_setup"), "project runner", 0o755);
    let hooks = find_hooks(&layers.sources).expect("both can be executed");
    assert_eq!(
        hooks.node_setup,
        Some(Hook {
            path: system.join("node_setup"),
            source: HookSource::System,
            content: b"system node".to_vec()
        })
    );
    assert_eq!(
        hooks.runner_setup,
        Some(Hook {
            path: project.join("runner_setup"),
            source: HookSource::Project(".distributest/runner_setup".to_owned()),
            content: b"project runner".to_vec()
        })
    );
}

#[test]
fn hooks_that_cannot_be_used_are_all_named() {
    let layers = Layers::new();
    let project = layers.sources.project_directory();
    write_hook(&project.join("node_setup"), "#!/bin/sh\n", 0o644);
    fs::create_dir(project.join("runner_setup")).expect("make a directory");
    let errors = find_hooks(&layers.sources).expect_err("neither can be executed");
    let error = UserError::from(errors);
    assert_eq!(error.exit_status, 2);
    insta::assert_snapshot!(layers.redact(&error.to_string()), @"
    error: the hook ROOT/project/.distributest/node_setup is not executable
      hint: chmod +x ROOT/project/.distributest/node_setup
    error: the hook ROOT/project/.distributest/runner_setup is not a file
      hint: make it a program, or remove it
    ");
}

#[test]
fn a_link_that_leads_nowhere_is_not_taken_for_no_hook() {
    let layers = Layers::new();
    write_hook(&layers.sources.system_directory.join("node_setup"), "system", 0o755);
    symlink("../scripts/gone", layers.sources.project_directory().join("node_setup")).expect("make a link");
    let error = UserError::from(find_hooks(&layers.sources).expect_err("the link leads nowhere"));
    insta::assert_snapshot!(layers.redact(&error.to_string()), @"
    error: failed to read the hook ROOT/project/.distributest/node_setup
      caused by: No such file or directory (os error 2)
      hint: make it readable for you, or remove it
    ");
}

#[test]
fn the_hooks_that_are_installed_run_and_do_nothing() {
    let directory = tempfile::TempDir::new().expect("make a temporary directory");
    for (name, content) in [("node_setup", DEFAULT_NODE_SETUP), ("runner_setup", DEFAULT_RUNNER_SETUP)] {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("write a hook");
        // Through the shell it names: a file this process has just written may still be open in a forked
        // child.
        let output = std::process::Command::new("sh")
            .args([&path, Path::new("ana_mbp_ana_1")])
            .current_dir(&directory)
            .output()
            .expect("run a hook");
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    assert!(DEFAULT_NODE_SETUP.starts_with("#!/bin/sh\n") && DEFAULT_RUNNER_SETUP.starts_with("#!/bin/sh\n"));
}
