//! Connecting to hosts, before there is anything to say to them.

use std::fs;
use std::process::Command;

use crate::sandbox::Sandbox;

#[test]
fn hosts_are_connected_to_while_the_plan_is_made() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "frameworks = [\"pytest\"]\n[[host]]\nname = \"build1\"\n");
    sandbox.file("test_one.py", "").file("settings", "[pytest]\n");
    let (pipe, settings) = (sandbox.path("project/pytest.ini"), sandbox.path("project/settings"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // The plan can't be made before somebody writes into the pipe.
    let (pipe, settings) = (pipe.display(), settings.display());
    let write = format!("exec 3>'{pipe}'; mv '{settings}' '{pipe}'; echo '[pytest]' >&3; exec 3>&-");
    sandbox.fake("ssh", &format!("#!/bin/sh\n[ ! -p '{pipe}' ] || {{ {write}; }}\necho no >&2\nexit 255\n"));
    let ended = sandbox.finish(sandbox.command(&["--hosts", "build1"]));
    assert_eq!(ended.code(), Some(3), "{}", ended.seen());
    assert!(fs::metadata(sandbox.path("project/pytest.ini")).unwrap().is_file());
}
