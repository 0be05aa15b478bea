//! Which layer wins, what merges, what paths are relative to, and what is remembered of it.

use std::time::Duration;

use crate::support::{Layers, flag};
use distributest::config::{DEFAULT_FILE, Isolation, Origin};

#[test]
fn each_layer_overrides_the_one_before() {
    let layers = Layers::new();
    assert_eq!(layers.load().runners, None);
    let layers = layers.system("runners = 1");
    assert_eq!(layers.load().runners, Some(1));
    let layers = layers.user("runners = 2");
    assert_eq!(layers.load().runners, Some(2));
    let layers = layers.project("runners = 3");
    assert_eq!(layers.load().runners, Some(3));
    let layers = layers.variable("DISTRIBUTEST_RUNNERS", "4");
    assert_eq!(layers.load().runners, Some(4));
    let (config, _) = layers.load_with(&[flag("runners", &["5"])]);
    assert_eq!(config.runners, Some(5));
    let (config, _) = layers.load_with(&[flag("runners", &["auto"])]);
    assert_eq!(config.runners, None);
}

#[test]
fn arrays_are_replaced_and_tables_are_merged() {
    let config = Layers::new()
        .system("files = ['a']\nexclude = ['x']\n[env]\nA = '1'\nB = '1'\n[log]\nkeep = 3\n[sync]\ninclude = ['i']")
        .user("[log]\npath = '/tmp/l'\n[sync]\nexclude = ['e']")
        .project("files = ['b', 'c']\n[env]\nB = '2'\nC = '2'")
        .load();
    assert_eq!(config.files, ["b", "c"]);
    assert_eq!(config.exclude, ["x"]);
    let env: Vec<(&str, &str)> =
        config.env.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "2"), ("C", "2")]);
    assert_eq!(config.log.keep, 3);
    assert_eq!(config.log.path.as_deref(), Some("/tmp/l".as_ref()));
    assert_eq!((config.sync.include, config.sync.exclude), (vec!["i".to_owned()], vec!["e".to_owned()]));
}

#[test]
fn an_empty_array_undoes_an_earlier_one() {
    assert_eq!(Layers::new().user("files = ['a']").project("files = []").load().files, [""; 0]);
    assert_eq!(Layers::new().user("files = ['a']").variable("DISTRIBUTEST_FILES", "").load().files, [""; 0]);
}

#[test]
fn the_hosts_of_a_layer_replace_those_of_an_earlier_one() {
    let system = "[[host]]\nname = 'a'\nrunners = 7\n[[host]]\nname = 'b'";
    let names =
        |layers: &Layers| -> Vec<String> { layers.load().hosts.into_iter().map(|host| host.name).collect() };
    let layers = Layers::new().system(system);
    assert_eq!(names(&layers), ["a", "b"]);
    let layers = layers.project("[[host]]\nname = 'c'\n[[host]]\nname = 'a'");
    assert_eq!(names(&layers), ["c", "a"]);
    assert_eq!(layers.load().hosts[1].runners, None);
    assert!(names(&layers.project("host = []")).is_empty());
}

#[test]
fn hosts_are_selected_by_name_and_disabled_by_zero_runners() {
    let layers = Layers::new()
        .project("[[host]]\nname = 'a'\n[[host]]\nname = 'b'\nrunners = 0\n[[host]]\nname = 'c'");
    let selected = |names: &[&str], runners: &str| {
        let (config, _) = layers.load_with(&[flag("hosts", names), flag("runners", &[runners])]);
        let hosts: Vec<String> = config.hosts.into_iter().map(|host| host.name).collect();
        (config.local, hosts.join(" "))
    };
    assert_eq!(selected(&[], "auto"), (true, "a c".to_owned()));
    assert_eq!(selected(&[], "0"), (false, "a c".to_owned()));
    assert_eq!(selected(&["localhost"], "auto"), (true, String::new()));
    assert_eq!(selected(&["c", "b"], "auto"), (false, "c".to_owned()));
}

#[test]
fn paths_are_relative_to_where_they_are_written() {
    let log = |layers: &Layers| layers.load().log.path.expect("a path is set");
    let layers = Layers::new().system("log.path = '~/l'");
    assert_eq!(log(&layers), layers.path("home/l"));
    let layers = layers.user("log.path = 'logs/l'");
    assert_eq!(log(&layers), layers.path("home/logs/l"));
    let layers = layers.project("log.path = 'logs/l'");
    assert_eq!(log(&layers), layers.path("project/logs/l"));
    let layers = layers.variable("DISTRIBUTEST_LOG_PATH", "l");
    assert_eq!(log(&layers), layers.path("here/l"));
    let (config, _) = layers.load_with(&[flag("log.path", &["/tmp/l"])]);
    assert_eq!(config.log.path.as_deref(), Some("/tmp/l".as_ref()));
}

#[test]
fn durations_are_texts_or_seconds() {
    let timeout = |text: &str| Layers::new().project(&format!("timeout = {text}")).load().timeout;
    assert_eq!(timeout("'1h 30m'"), Some(Duration::from_secs(5400)));
    assert_eq!(timeout("90"), Some(Duration::from_secs(90)));
    assert_eq!(timeout("1_000"), Some(Duration::from_secs(1000)));
    assert_eq!(timeout("1.5"), Some(Duration::from_millis(1500)));
    assert_eq!(timeout("'2.5'"), Some(Duration::from_millis(2500)));
    assert_eq!(timeout("0"), None);
    assert_eq!(timeout("'0s'"), None);
    assert_eq!(Layers::new().load().timeout, Some(Duration::from_secs(600)));
}

#[test]
fn a_command_is_an_array_or_words() {
    let command =
        |text: &str| Layers::new().project(&format!("files = ['x']\ncommand = {text}")).load().command;
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(command("'bash -e {file}'"), words(&["bash", "-e", "{file}"]));
    assert_eq!(command("['sh', '-c', 'a {file} | b']"), words(&["sh", "-c", "a {file} | b"]));
    assert_eq!(command("''"), None);
    assert_eq!(command("[]"), None);
}

#[test]
fn variables_hold_lists_as_words() {
    let config = Layers::new()
        .variable("DISTRIBUTEST_FILES", "'with space/*.rb' spec/{a,b}.rb")
        .variable("DISTRIBUTEST_PASS_ENV", "A,B C")
        .variable("DISTRIBUTEST_SNAPSHOT", "1")
        .variable("DISTRIBUTEST_BOOTSTRAP", "false")
        .load();
    assert_eq!(config.files, ["with space/*.rb", "spec/{a,b}.rb"]);
    assert_eq!(config.pass_env, ["A", "B", "C"]);
    assert!(config.snapshot && !config.bootstrap);
}

#[test]
fn variables_that_tests_see_and_strangers_are_no_settings() {
    let config = Layers::new()
        .variable("DISTRIBUTEST_RUNNER", "ana_mbp_ana_1")
        .variable("DISTRIBUTEST_ISOLATION", "fork")
        .variable("DISTRIBUTEST_HOST", "build1")
        .variable("DISTRIBUTEST_ENV", "/tmp/env")
        .variable("DISTRIBUTEST_VERSION", "1.2.3")
        .project("isolation = 'process'")
        .load();
    assert_eq!(config, Layers::new().project("isolation = 'process'").load());
    assert_eq!(config.isolation, Some(Isolation::Process));
}

#[test]
fn every_value_knows_where_it_comes_from() {
    let layers = Layers::new()
        .system("# for all\n\nbootstrap = false\n[env]\nA = '1'")
        .user("timeout = 5")
        .project(
            "[env]\nB = '\"'\n[[host]]\nname = 'build1'\nidentity = 'keys/id'\nssh_options = ['Port=2222']",
        )
        .variable("DISTRIBUTEST_RUNNERS", "4");
    let (_, provenance) = layers.load_with(&[flag("log.path", &["/tmp/l"]), flag("hosts", &["localhost"])]);
    insta::assert_snapshot!(layers.redact(&provenance.to_string()), @r#"
    files = []  # default
    exclude = []  # default
    frameworks = []  # default
    command = []  # default
    results = "auto"  # default
    runners = 4  # DISTRIBUTEST_RUNNERS
    isolation = "auto"  # default
    split = []  # default
    timeout = "5s"  # ROOT/home/.config/distributest/config.toml:1
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
    bootstrap = false  # ROOT/etc/config.toml:3
    require_hosts = false  # default
    slow_file = "10s"  # default
    slow_test = "1s"  # default
    hosts = ["localhost"]  # --hosts

    [sync]
    include = []  # default
    exclude = []  # default

    [log]
    path = "/tmp/l"  # --log-file
    keep = 20  # default

    [env]
    A = "1"  # ROOT/etc/config.toml:5
    B = '"'  # ROOT/project/.distributest/config.toml:2

    [[host]]  # ROOT/project/.distributest/config.toml:3
    name = "build1"
    runners = "auto"
    identity = "ROOT/project/keys/id"
    ssh_options = ["Port=2222"]
    "#);
    assert_eq!(*provenance.origin("runners"), Origin::Environment("DISTRIBUTEST_RUNNERS".to_owned()));
    assert_eq!(*provenance.origin("files"), Origin::Default);
}

/// The lines of the default file that are commented settings, as settings.
fn uncommented(prefix: &str) -> String {
    let setting = |line: &str| {
        let text = line.strip_prefix(prefix)?;
        let (name, _) = text.split_once([' ', ']']).unwrap_or((text, ""));
        let is_setting = text.starts_with('[')
            || (text.contains(" = ")
                && !name.is_empty()
                && name.chars().all(|c| c == '_' || c.is_ascii_lowercase()));
        is_setting.then(|| format!("{text}\n"))
    };
    DEFAULT_FILE.lines().filter_map(setting).collect()
}

#[test]
fn the_comments_of_the_default_file_are_the_defaults_and_name_every_key() {
    let (defaults, built_in) = Layers::new().load_with(&[]);
    let (config, from_file) = Layers::new().project(&uncommented("#")).load_with(&[]);
    assert_eq!(config, defaults);
    let values = |text: String| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(from_file.to_string()), values(built_in.to_string()));
    assert!(!from_file.to_string().contains("# default"), "{from_file}");
    assert_eq!(Layers::new().project(DEFAULT_FILE).load(), defaults);
}

#[test]
fn the_example_host_of_the_default_file_shows_every_key() {
    let example = uncommented("# ");
    let layers = Layers::new().project(&example);
    let (config, _) = layers.load_with(&[]);
    assert_eq!(config.hosts.len(), 1, "{example}");
    for key in ["name", "user", "runners", "identity", "ssh_options", "remote_dir"] {
        assert!(example.contains(&format!("\n{key} = ")), "{key} is missing in {example}");
    }
    let frameworks: Vec<&str> = config.framework.keys().map(String::as_str).collect();
    assert_eq!(frameworks, ["mine", "phpunit", "rspec"]);
    let own = &config.framework["mine"];
    assert_eq!(own.worker.as_deref().unwrap_or_default(), ["perl", "tools/worker.pl"]);
    let rspec = &config.framework["rspec"];
    assert_eq!(rspec.arguments, ["--tag", "~slow"]);
    assert_eq!(rspec.isolation, Some(Isolation::Shared));
}

#[test]
fn the_tables_of_frameworks_merge_key_by_key() {
    let layers = Layers::new()
        .user("[framework.rspec]\nisolation = 'shared'\nfiles = ['a/*.rb']")
        .project("[framework.rspec]\nfiles = ['b/*.rb']\n[framework.phpunit]\nfiles = ['t/*.php']\ncommand = 'phpunit {file}'");
    let config = layers.load();
    let rspec = &config.framework["rspec"];
    assert_eq!(
        (rspec.isolation, rspec.files.as_slice()),
        (Some(Isolation::Shared), ["b/*.rb".to_owned()].as_slice())
    );
    assert_eq!(config.framework["phpunit"].command.as_deref().unwrap_or_default(), ["phpunit", "{file}"]);
}
