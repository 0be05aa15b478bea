//! What `distributest config` prints is a configuration file that gives the same configuration.

use distributest::config::Provenance;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use toml::{Table, Value};

use crate::support::Layers;

/// Text with everything that could break a TOML string or the comment behind it.
fn text() -> impl Strategy<Value = String> {
    vec(
        select(vec!["a", "B", "0", " ", "#", "\"", "'", "\\", "\n", "\t", "é", "=", "]", "\u{1b}", "\u{7f}"]),
        0..8,
    )
    .prop_map(|parts| parts.concat())
}

fn glob() -> impl Strategy<Value = String> {
    select(vec!["a/*.rb", "**/*_spec.rb", "x{a,b}.py", "with space/#*", "'quoted'/\"*\"", "é"])
        .prop_map(str::to_owned)
}

fn duration() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1_u64..2_592_000_000).prop_map(|milliseconds| Value::from(format!("{milliseconds}ms"))),
        (0_i64..2_592_000).prop_map(Value::from),
        (0.001_f64..1e6).prop_map(Value::from),
    ]
}

fn runners() -> impl Strategy<Value = Value> {
    prop_oneof![(1_i64..=1024).prop_map(Value::from), Just(Value::from("auto"))]
}

/// Each key, or nothing. `files` is always there, because a command needs it.
fn settings() -> impl Strategy<Value = Table> {
    let list = |item: BoxedStrategy<String>| vec(item, 0..4).prop_map(Value::from).boxed();
    let switch = || any::<bool>().prop_map(Value::from).boxed();
    let keys: Vec<(&str, BoxedStrategy<Value>)> = vec![
        ("exclude", list(glob().boxed())),
        (
            "command",
            text()
                .prop_map(|text| Value::from(vec![format!("run{text}"), format!("{{file}}{text}")]))
                .boxed(),
        ),
        ("runners", runners().boxed()),
        ("isolation", select(vec!["fork", "shared", "process", "auto"]).prop_map(Value::from).boxed()),
        ("timeout", duration().boxed()),
        ("slow_file", duration().boxed()),
        ("node_setup_inputs", list("[a-z# ]{1,9}".boxed())),
        ("pass_env", list("[A-Z_][A-Z0-9_]{0,5}Z".boxed())),
        ("snapshot", switch()),
        ("bootstrap", switch()),
        ("require_hosts", switch()),
        ("hosts", Just(Value::from(vec!["localhost"])).boxed()),
    ];
    let present: Vec<_> =
        keys.into_iter().map(|(key, value)| option::of(value).prop_map(move |value| (key, value))).collect();
    (present, vec(glob(), 1..4)).prop_map(|(values, files)| {
        let mut table: Table =
            values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        table.insert("files".to_owned(), files.into());
        table
    })
}

fn environment() -> impl Strategy<Value = Table> {
    btree_map("[A-Z_][A-Z0-9_]{0,5}Z", text(), 0..4)
        .prop_map(|map| map.into_iter().map(|(name, text)| (name, Value::from(text))).collect())
}

fn hosts() -> impl Strategy<Value = Value> {
    let host = (
        option::of("[a-z]{1,8}"),
        runners(),
        option::of(text()),
        vec("[A-Z][a-z]{1,8}=[a-z #\"]{0,8}", 0..3),
    );
    vec(host, 0..4).prop_map(|hosts| {
        let tables = hosts.into_iter().enumerate().map(|(index, (user, runners, identity, options))| {
            let mut table = Table::from_iter([
                ("name".to_owned(), Value::from(format!("host{index}"))),
                ("runners".to_owned(), runners),
                ("ssh_options".to_owned(), Value::from(options)),
            ]);
            table.extend(user.map(|user| ("user".to_owned(), Value::from(user))));
            table.extend(identity.map(|path| ("identity".to_owned(), Value::from(format!("~/k{path}")))));
            Value::from(table)
        });
        Value::Array(tables.collect())
    })
}

proptest! {
    #[test]
    fn printing_and_reading_back_gives_the_same_configuration(
        mut settings in settings(),
        env in environment(),
        hosts in hosts(),
        log_path in option::of(text()),
    ) {
        settings.insert("env".to_owned(), env.into());
        settings.insert("host".to_owned(), hosts);
        if let Some(path) = log_path {
            let log = Table::from_iter([("path".to_owned(), format!("/l{path}").into())]);
            settings.insert("log".to_owned(), log.into());
        }
        let original = Layers::new().project(&settings.to_string());
        let (config, printed) = original.load_with(&[]);
        let (config_again, printed_again) = original.project(&printed.to_string()).load_with(&[]);
        prop_assert_eq!(&config, &config_again, "{}", printed);
        let (_, printed_thrice) = Layers::new().project(&printed_again.to_string()).load_with(&[]);
        prop_assert_eq!(without_origins(&printed_again), without_origins(&printed_thrice));
    }
}

/// A printed configuration without the comments that say where the values come from.
fn without_origins(printed: &Provenance) -> String {
    let table: Table = printed.to_string().parse().expect("what is printed is TOML");
    table.to_string()
}
