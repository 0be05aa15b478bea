//! The client and server adapters over an in-memory byte stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use distributest_protocol::client::{AgentConnection, connect};
use distributest_protocol::gathering::Haste;
use distributest_protocol::server::{CoordinatorConnection, ServedConnection, accept};
use distributest_protocol::wire;

const LIMIT: Duration = Duration::from_secs(10);

async fn both_ends() -> (AgentConnection, CoordinatorConnection, ServedConnection) {
    both_ends_with(false).await
}

async fn both_ends_with(compressed: bool) -> (AgentConnection, CoordinatorConnection, ServedConnection) {
    let (near, far) = tokio::io::duplex(4096);
    let (agent_end, served) = accept(far);
    let hello = wire::Hello { run: "run-1".into(), ..Default::default() };
    let connected = connect(near, hello, compressed).await;
    (connected.expect("both ends speak the same version"), agent_end, served)
}

fn update(kind: wire::agent_message::Kind) -> wire::AgentMessage {
    wire::AgentMessage { kind: Some(kind) }
}

#[tokio::test]
async fn messages_and_output_travel_until_the_agent_closes() {
    let (mut coordinator, mut agent, served) = both_ends().await;
    let hello = agent.orders.recv().await.and_then(|message| message.kind);
    assert!(matches!(hello, Some(wire::coordinator_message::Kind::Hello(hello)) if hello.run == "run-1"));

    let ended = update(wire::agent_message::Kind::RunEnded(wire::RunEnded {}));
    agent.updates.send((ended.clone(), Haste::AtOnce)).await.expect("the session is open");
    let chunk =
        wire::OutputChunk { block: 1, stderr: true, data: vec![0xff; 200_000].into(), plain_bytes: 0 };
    agent.output.send(chunk.clone()).await.expect("the output is open");
    drop(agent);
    let closing = tokio::spawn(served.close(LIMIT));

    assert_eq!(coordinator.updates.message().await.expect("delivered"), Some(ended));
    assert_eq!(coordinator.output.message().await.expect("delivered"), Some(chunk));
    assert_eq!(coordinator.updates.message().await.expect("ends well"), None);
    assert_eq!(coordinator.output.message().await.expect("ends well"), None);
    drop(coordinator);
    tokio::time::timeout(LIMIT, closing).await.expect("closes").expect("does not panic");
}

#[tokio::test]
async fn compressed_output_arrives_as_it_was() {
    let (mut coordinator, agent, _served) = both_ends_with(true).await;
    let text = |number: u32| format!("a line of output, number {number}\n").repeat(2_000);
    let sending = tokio::spawn(async move {
        for number in 0..64 {
            let data = text(number).into_bytes().into();
            let chunk = wire::OutputChunk { block: 1, stderr: false, data, plain_bytes: 0 };
            agent.output.send(chunk).await.expect("the output is open");
        }
        agent
    });
    for number in 0..64 {
        let chunk = coordinator.output.message().await.expect("delivered").expect("not the end");
        assert_eq!((chunk.data.as_ref(), chunk.plain_bytes), (text(number).as_bytes(), 0));
    }
    drop(sending.await.expect("all is sent"));
}

#[tokio::test]
async fn a_chunk_that_no_agent_sends_ends_the_output_and_nothing_else() {
    let (mut coordinator, agent, _served) = both_ends().await;
    for (megabytes, is_taken) in [(1, true), (16, false)] {
        let chunk = wire::OutputChunk {
            block: 1,
            stderr: false,
            data: vec![0; megabytes << 20].into(),
            plain_bytes: 0,
        };
        agent.output.send(chunk).await.expect("the output is open");
        assert_eq!(coordinator.output.message().await.is_ok(), is_taken, "{megabytes} MB");
    }
    let ended = update(wire::agent_message::Kind::RunEnded(wire::RunEnded {}));
    agent.updates.send((ended.clone(), Haste::AtOnce)).await.expect("the session is open");
    assert_eq!(coordinator.updates.message().await.expect("delivered"), Some(ended));
}

#[tokio::test]
async fn what_is_said_before_the_second_call_is_not_lost() {
    let (near, far) = tokio::io::duplex(4096);
    let (agent, served) = accept(far);
    let refusal = update(wire::agent_message::Kind::Refusal(wire::Refusal::default()));
    agent.updates.send((refusal.clone(), Haste::AtOnce)).await.expect("there is room");
    drop(agent);
    let closing = tokio::spawn(served.close(LIMIT));
    let mut coordinator =
        connect(near, wire::Hello::default(), false).await.expect("both calls are answered");
    assert_eq!(coordinator.updates.message().await.expect("delivered"), Some(refusal));
    drop(coordinator);
    tokio::time::timeout(LIMIT, closing).await.expect("closes").expect("does not panic");
}

#[tokio::test]
async fn orders_end_when_the_coordinator_goes() {
    let (coordinator, mut agent, _served) = both_ends().await;
    assert!(agent.orders.recv().await.is_some());
    drop(coordinator);
    let end = tokio::time::timeout(LIMIT, agent.orders.recv()).await.expect("the end is noticed");
    assert_eq!(end, None);
}

#[tokio::test]
async fn orders_end_when_nobody_ever_calls() {
    let (near, far) = tokio::io::duplex(4096);
    let (mut agent, _served) = accept(far);
    drop(near);
    let end = tokio::time::timeout(LIMIT, agent.orders.recv()).await.expect("the end is noticed");
    assert_eq!(end, None);
}

#[tokio::test]
async fn unread_output_stops_its_writer_but_not_the_session() {
    let (mut coordinator, agent, _served) = both_ends().await;
    let output = agent.output.clone();
    let flood = tokio::spawn(async move {
        loop {
            let chunk = wire::OutputChunk {
                block: 1,
                stderr: false,
                data: vec![b'x'; 64 * 1024].into(),
                plain_bytes: 0,
            };
            if output.send(chunk).await.is_err() {
                return;
            }
        }
    });
    for _ in 0..100 {
        let heartbeat = update(wire::agent_message::Kind::Heartbeat(wire::Heartbeat {}));
        agent.updates.send((heartbeat, Haste::AtOnce)).await.expect("the session is open");
        let received = tokio::time::timeout(LIMIT, coordinator.updates.message()).await;
        assert!(received.expect("the session goes on").expect("delivered").is_some());
    }
    assert!(!flood.is_finished());
    flood.abort();
}

#[tokio::test]
async fn output_that_is_read_goes_on_after_the_run_however_much_it_is() {
    let (coordinator, agent, served) = both_ends().await;
    let AgentConnection { orders, updates, mut output } = coordinator;
    let writer = tokio::spawn(async move {
        for _ in 0..200 {
            let chunk = wire::OutputChunk {
                block: 1,
                stderr: false,
                data: vec![b'x'; 64 * 1024].into(),
                plain_bytes: 0,
            };
            agent.output.send(chunk).await.expect("the output is open");
        }
        drop(agent);
        served.close(LIMIT).await;
    });
    drop((orders, updates));
    let mut bytes = 0;
    let reading = async {
        while let Some(chunk) = output.message().await.expect("delivered") {
            bytes += chunk.data.len();
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("all of it comes");
    assert_eq!(bytes, 200 * 64 * 1024);
    drop(output);
    tokio::time::timeout(LIMIT, writer).await.expect("closes").expect("does not panic");
}

/// The run waits for somebody who waits for output: acknowledgements must not wait for the run.
#[tokio::test]
async fn output_goes_on_while_the_run_takes_no_orders() {
    let (mut coordinator, agent, _served) = both_ends().await;
    let orders = coordinator.orders.clone();
    let beats = tokio::spawn(async move {
        let kind = Some(wire::coordinator_message::Kind::Heartbeat(wire::Heartbeat {}));
        while orders.send(wire::CoordinatorMessage { kind: kind.clone() }).await.is_ok() {}
    });
    let output = agent.output.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            let chunk = wire::OutputChunk {
                block: 1,
                stderr: false,
                data: vec![b'x'; 64 * 1024].into(),
                plain_bytes: 0,
            };
            output.send(chunk).await.expect("the output is open");
        }
    });
    for _ in 0..100 {
        let chunk = tokio::time::timeout(LIMIT, coordinator.output.message()).await;
        assert!(chunk.expect("it goes on").expect("delivered").is_some());
    }
    writer.await.expect("does not panic");
    beats.abort();
}

#[tokio::test]
async fn no_more_output_is_under_way_than_may_be_until_some_is_taken() {
    let (mut coordinator, agent, _served) = both_ends().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let flood = tokio::spawn({
        let (sent, output) = (sent.clone(), agent.output.clone());
        async move {
            loop {
                let chunk = wire::OutputChunk {
                    block: 1,
                    stderr: false,
                    data: vec![b'x'; 1024].into(),
                    plain_bytes: 0,
                };
                output.send(chunk).await.expect("the output is open");
                sent.fetch_add(1024, Ordering::Relaxed);
            }
        }
    });
    // Heartbeats come after what was sent before them, so many of them show that no more is sent.
    let mut before = usize::MAX;
    while sent.load(Ordering::Relaxed) != before {
        before = sent.load(Ordering::Relaxed);
        for _ in 0..100 {
            let heartbeat = update(wire::agent_message::Kind::Heartbeat(wire::Heartbeat {}));
            agent.updates.send((heartbeat, Haste::AtOnce)).await.expect("the session is open");
            coordinator.updates.message().await.expect("delivered");
        }
    }
    // 256 KiB, and some chunks that wait for their turn.
    assert!((240 << 10..280 << 10).contains(&before), "{before} bytes");
    flood.abort();
}

#[tokio::test]
async fn a_second_session_on_one_connection_is_refused() {
    let (near, far) = tokio::io::duplex(4096);
    let (_agent, _served) = accept(far);
    let mut near = Some(near);
    let connector = tower::service_fn(move |_| {
        let taken = near.take().map(hyper_util::rt::TokioIo::new);
        async move { taken.ok_or_else(|| std::io::Error::other("one connection only")) }
    });
    let channel = tonic::transport::Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
        .expect("connects");
    let mut client = wire::agent_client::AgentClient::new(channel);
    let _first = client.session(tokio_stream::pending()).await.expect("the first is served");
    let second = client.session(tokio_stream::pending()).await.expect_err("the second is not");
    assert_eq!(second.code(), tonic::Code::FailedPrecondition);
}
