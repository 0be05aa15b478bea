//! Whatever bytes come over a connection, decoding them ends in a message or an error. `PROPTEST_CASES` says how many
//! are tried.

use std::time::Duration;

use distributest_core::test_result::TestResult;
use distributest_protocol::client::connect;
use distributest_protocol::conversions::{result_from_wire, test_to_wire};
use distributest_protocol::server::accept;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The longest a conversation may take that comes to nothing.
const LIMIT: Duration = Duration::from_secs(20);

/// One message of every kind that carries something.
fn valid_messages() -> Vec<Vec<u8>> {
    let failure = wire::Failure { operation: "start".into(), subject: "it".into(), ..Default::default() };
    let block = Some(wire::OutputBlock { number: 3, bytes: 1 << 40 });
    let updates = [
        Update::Welcome(wire::Welcome { hostname: "h1".into(), cores: 4, ..Default::default() }),
        Update::Refusal(wire::Refusal { failure: Some(failure.clone()) }),
        Update::HookFinished(wire::HookFinished {
            runner: 1,
            failure: Some(failure),
            block,
            ..Default::default()
        }),
        Update::TestFinished(wire::TestFinished {
            attempt: 1,
            id: "a::b".into(),
            status: "failed".into(),
            details: "é".repeat(100),
            line: 7,
            ..Default::default()
        }),
        Update::AttemptFinished(wire::AttemptFinished {
            attempt: 1,
            result: 4,
            leaked: vec!["12 sleep".into(); 3],
            block,
            ..Default::default()
        }),
    ];
    let orders = [
        Order::Hello(wire::Hello { run: "r".into(), lease_milliseconds: 10_000, ..Default::default() }),
        Order::Prepare(wire::Prepare {
            environment: [("A".to_owned(), "b".to_owned())].into(),
            launches: vec![wire::Launch { framework: "x".into(), kind: None }; 3],
            ..Default::default()
        }),
        Order::Dispatch(wire::Dispatch { attempt: 1, file: "a_spec.rb".into(), ..Default::default() }),
    ];
    let updates = updates.map(|kind| wire::AgentMessage { kind: Some(kind) }.encode_to_vec());
    let orders = orders.map(|kind| wire::CoordinatorMessage { kind: Some(kind) }.encode_to_vec());
    updates.into_iter().chain(orders).collect()
}

/// Arbitrary bytes, or a message in which some were changed and some are missing.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..10);
    let damaged =
        (select(valid_messages()), changes, any::<Index>()).prop_map(|(mut bytes, changes, end)| {
            bytes.truncate(end.index(bytes.len() + 1).max(1));
            changes.into_iter().for_each(|(place, byte)| {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            });
            bytes
        });
    prop_oneof![1 => vec(any::<u8>(), 0..300), 3 => damaged]
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in bytes()) {
        let _ = wire::CoordinatorMessage::decode(bytes.as_slice());
        let _ = wire::OutputChunk::decode(bytes.as_slice());
        match wire::AgentMessage::decode(bytes.as_slice()).ok().and_then(|message| message.kind) {
            Some(Update::TestFinished(wire)) => if let Ok(test) = TestResult::try_from(wire.clone()) {
                prop_assert_eq!(test_to_wire(wire.attempt, test), wire);
            },
            Some(Update::AttemptFinished(finished)) => drop(result_from_wire(&finished)),
            Some(Update::Refusal(refusal)) => drop(refusal.failure.unwrap_or_default().to_string()),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    /// A coordinator that is none: the run is over, and nothing waits.
    #[test]
    fn any_bytes_end_the_run_of_an_agent(junk in vec(any::<u8>(), 0..2_000), preface: bool) {
        on_a_runtime(async {
            let (mut near, far) = tokio::io::duplex(1 << 16);
            let (mut agent, served) = accept(far);
            let preface: &[u8] = if preface { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" } else { b"" };
            near.write_all(&[preface, &junk].concat()).await.ok();
            near.shutdown().await.ok();
            let reading = tokio::spawn(async move { near.read_to_end(&mut Vec::new()).await });
            assert!(agent.orders.recv().await.is_none(), "nobody said hello");
            drop(agent);
            served.close(Duration::ZERO).await;
            reading.await.unwrap().ok();
        });
    }

    /// An agent that is none: an error, at once.
    #[test]
    fn any_bytes_are_no_agent(junk in vec(any::<u8>(), 0..2_000)) {
        on_a_runtime(async {
            let (near, mut far) = tokio::io::duplex(1 << 16);
            far.write_all(&junk).await.unwrap();
            far.shutdown().await.unwrap();
            let reading = tokio::spawn(async move { far.read_to_end(&mut Vec::new()).await });
            assert!(connect(near, wire::Hello::default(), false).await.is_err());
            reading.await.unwrap().ok();
        });
    }
}

fn on_a_runtime(conversation: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, conversation).await.expect("it ends in time") });
}
