//! What can be written on the command line, what help says, and that flags arrive in the configuration.

use std::process::{Command as Process, Output};

use clap::CommandFactory;
use distributest::cli::{Cli, Command, RunArgs};
use distributest::config::flag_of;

use crate::support::Layers;

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::from_arguments(["distributest"].iter().chain(arguments).map(Into::into))
}

/// The arguments of the run that these arguments ask for.
fn run_args(arguments: &[&str]) -> RunArgs {
    let Cli { command, run } = parse(arguments).expect("the arguments are right");
    match command {
        None => run,
        Some(Command::Run(run)) => *run,
        Some(other) => panic!("{arguments:?} is no run but {other:?}"),
    }
}

/// Runs the program with nothing of this machine's configuration.
fn distributest(layers: &Layers, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Process::new(env!("CARGO_BIN_EXE_distributest"))
        .args(arguments)
        .env_clear()
        .env("HOME", layers.path("home"))
        .env("DISTRIBUTEST_SYSTEM_DIRECTORY", layers.path("etc"))
        .envs(variables.iter().copied())
        .current_dir(layers.path("project"))
        .output()
        .expect("start the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_a_command_it_runs() {
    assert_eq!(run_args(&["spec/models", "user"]).paths, ["spec/models", "user"]);
    assert_eq!(run_args(&["run", "config"]).paths, ["config"]);
    assert_eq!(run_args(&["./config"]).paths, ["./config"]);
    assert!(run_args(&[]).paths.is_empty());
    let args = run_args(&["a", "--", "--tag", "slow", "config"]);
    assert_eq!(
        (args.paths, args.framework_arguments),
        (vec!["a".into()], vec!["--tag".into(), "slow".into(), "config".into()])
    );
}

#[test]
fn a_command_behind_other_arguments_is_not_taken_for_a_path() {
    let error = parse(&["--runners", "2", "config"]).expect_err("it is ambiguous");
    assert_eq!(error.exit_code(), 2);
    insta::assert_snapshot!(error, @"
    error: `config` comes after other arguments, so it is not taken for the command

      write the command first:      distributest config ...
      or, for tests of that name:   distributest run ... config


    Usage: distributest [OPTIONS] [PATHS|FILTERS]... [-- <FRAMEWORK ARGS>...]
           distributest <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn usage_errors_exit_with_2() {
    for arguments in [
        &["--no-such-flag"][..],
        &["--runners"],
        &["--quiet", "--verbose"],
        &["--local", "--hosts", "a"],
        &["--cache", "--no-cache"],
        &["--color", "pink"],
        &["init", "--runners", "2"],
        &["config", "spec"],
    ] {
        assert_eq!(parse(arguments).expect_err("this is no usage").exit_code(), 2, "{arguments:?}");
    }
}

#[test]
fn every_flag_of_a_key_sets_that_key() {
    let given = [
        ("files", "--files=a"),
        ("exclude", "--exclude=a"),
        ("frameworks", "--framework=a"),
        ("command", "--command=a"),
        ("runners", "--runners=a"),
        ("hosts", "--hosts=a"),
        ("isolation", "--isolation=a"),
        ("split", "--split=a"),
        ("timeout", "--timeout=a"),
        ("retries", "--retries=a"),
        ("fail_fast", "--fail-fast=a"),
        ("cache", "--cache=a"),
        ("snapshot", "--snapshot=a"),
        ("require_hosts", "--require-hosts=a"),
        ("log.path", "--log-file=a"),
    ];
    for (key, argument) in given {
        let flags = run_args(&[argument]).settings.flags();
        assert_eq!(flags.len(), 1, "{argument}");
        assert_eq!((flags[0].key, flags[0].values.as_slice()), (key, &["a".to_owned()][..]));
        assert_eq!(flag_of(key), argument.split('=').next());
    }
    // And the configuration's flags are all there are, but for the project and short ways to say what others say.
    let definition = Cli::command();
    let headed =
        definition.get_arguments().filter(|argument| argument.get_help_heading() == Some("Configuration"));
    assert_eq!(headed.count(), given.len() + ["--project", "--local", "--no-cache"].len());
}

#[test]
fn flags_that_take_several_values_take_them_as_they_are() {
    let flags = run_args(&["--files", "a b", "--files", "c,d", "--hosts", "x,y"]).settings.flags();
    assert_eq!(flags[0].values, ["a b", "c,d"]);
    assert_eq!(flags[1].values, ["x", "y"]);
    assert_eq!(run_args(&["--snapshot"]).settings.flags()[0].values, ["true"]);
    assert_eq!(run_args(&["--snapshot", "spec"]).paths, ["spec"]);
    assert_eq!(run_args(&["--local"]).settings.flags()[0].values, ["localhost"]);
}

#[test]
fn help_teaches() {
    let layers = Layers::new();
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help_config", &["config", "--help"]),
        ("help_init", &["init", "--help"]),
    ] {
        let output = distributest(&layers, arguments, &[("COLUMNS", "100")]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        insta::assert_snapshot!(name, text(&output.stdout));
    }
}

#[test]
fn the_merged_configuration_is_printed_with_origins() {
    let layers = Layers::new()
        .system("require_hosts = true")
        .user("[log]\nkeep = 3")
        .project("files = ['spec/**/*_spec.rb']\n[[host]]\nname = 'build1'");
    let variables = [("DISTRIBUTEST_TIMEOUT", "90"), ("DISTRIBUTEST_RUN", "1f")];
    let output = distributest(&layers, &["config", "--runners", "4"], &variables);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    insta::assert_snapshot!(layers.redact(&text(&output.stdout)), @r#"
    # The configuration of ROOT/project, and where each value comes from.
    files = ["spec/**/*_spec.rb"]  # ROOT/project/.distributest/config.toml:1
    exclude = []  # default
    frameworks = []  # default
    command = []  # default
    results = "auto"  # default
    runners = 4  # --runners
    isolation = "auto"  # default
    split = []  # default
    timeout = "1m 30s"  # DISTRIBUTEST_TIMEOUT
    host_timeout = 10  # default
    retries = 0  # default
    flaky = "pass"  # default
    fail_fast = 0  # default
    node_setup_timeout = "10m"  # default
    runner_setup_timeout = "10m"  # default
    node_setup_inputs = []  # default
    pass_env = []  # default
    keep_warm = "10m"  # default
    cache = false  # default
    snapshot = false  # default
    bootstrap = true  # default
    require_hosts = true  # ROOT/etc/config.toml:1
    slow_file = "10s"  # default
    slow_test = "1s"  # default
    hosts = []  # default

    [sync]
    include = []  # default
    exclude = []  # default

    [log]
    path = "auto"  # default
    keep = 3  # ROOT/home/.config/distributest/config.toml:2

    [[host]]  # ROOT/project/.distributest/config.toml:2
    name = "build1"
    runners = "auto"
    "#);
}

#[test]
fn problems_go_to_standard_error_with_status_2() {
    let layers = Layers::new().project("runers = 4");
    let output = distributest(&layers, &["config"], &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    insta::assert_snapshot!(layers.redact(&text(&output.stderr)), @"
    error: ROOT/project/.distributest/config.toml:1:1: unknown key `runers`
      hint: did you mean `runners`?
    ");
    let output = distributest(&layers, &["config", "--project", "missing"], &[]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: failed to open the project missing
      caused by: No such file or directory (os error 2)
      hint: start distributest in the project's directory, or name it with --project
    ");
}
