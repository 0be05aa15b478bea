//! Simultaneous runs of one developer on one host have different identifiers, and so different databases.

use std::collections::BTreeSet;
use std::fs;

use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;

use crate::support::*;

/// A run with two runners, and their identifiers.
async fn start_run(site: &Site, project: &str) -> (Coordinator, Process, BTreeSet<String>) {
    let hello = wire::Hello { project: project.into(), ..site.hello() };
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, hello).await;
    coordinator.welcome().await;
    let updates = coordinator.prepare(prepare(command_launch(&["{file}"]), 2)).await;
    let identifiers = updates.iter().filter_map(|update| match update {
        Update::RunnerReady(ready) => Some(ready.identifier.clone()),
        _ => None,
    });
    let identifiers = identifiers.collect();
    (coordinator, agent, identifiers)
}

fn numbered(numbers: [u16; 2]) -> BTreeSet<String> {
    numbers.map(|number| format!("laptop_ana_{number}")).into()
}

#[tokio::test]
async fn simultaneous_runs_share_no_identifier_and_a_run_alone_finds_its_own_again() {
    let site = Site::new();
    site.script("show", "echo $DISTRIBUTEST_RUNNER $DB_PREFIX \"<$TEST_ENV_NUMBER>\"");
    let (mut first, first_agent, identifiers) = start_run(&site, "shop").await;
    assert_eq!(identifiers, numbered([1, 2]));
    let (mut second, _second_agent, identifiers) = start_run(&site, "other").await;
    assert_eq!(identifiers, numbered([3, 4]));
    for (coordinator, shown) in
        [(&mut first, "laptop_ana_1 laptop_ana_1_ <>\n"), (&mut second, "laptop_ana_3 laptop_ana_3_ <3>\n")]
    {
        let block = coordinator.run("show").await.block.unwrap();
        assert_eq!(coordinator.output_of(&block).await, shown);
    }
    second.end().await;
    let (_third, _third_agent, identifiers) = start_run(&site, "shop").await;
    assert_eq!(identifiers, numbered([3, 4]));

    drop(first);
    gone(&[first_agent.0.id()]).await;
    let (_fourth, _fourth_agent, identifiers) = start_run(&site, "shop").await;
    assert_eq!(identifiers, numbered([1, 2]), "a run that was cut off holds nothing");
}

#[tokio::test]
async fn where_no_lock_can_be_had_runs_have_plain_numbers() {
    let site = Site::new();
    fs::write(site.root().join("home/.cache"), "in the way").unwrap();
    let (coordinator, _agent, identifiers) = start_run(&site, "shop").await;
    assert_eq!(identifiers, numbered([1, 2]));
    coordinator.end().await;
}
