//! Connections that are lost, to agents that say what a script says.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use distributest_protocol::gathering::Haste;
use distributest_protocol::server::{self, CoordinatorConnection};
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as OrderKind;
use tokio::io::DuplexStream;

use super::link::Dialing;
use super::*;
use crate::agents::Patience;
use crate::config::SyncConfig;
use crate::news_channel::news_channel;

/// A host whose agent says these things in each session after it was told what to prepare, and leaves. After the last
/// one it can't be reached.
#[derive(Debug)]
struct Scripted {
    sessions: Mutex<VecDeque<Vec<Kind>>>,
}

impl Dial for Scripted {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let script = self.sessions.lock().unwrap().pop_front().ok_or(io::ErrorKind::HostUnreachable)?;
            let (here, there) = tokio::io::duplex(64 * 1024);
            tokio::spawn(serve(there, script));
            Ok(Link::new(here, ()))
        })
    }
}

async fn serve(stream: DuplexStream, script: Vec<Kind>) {
    let (CoordinatorConnection { mut orders, updates, output }, served) = server::accept(stream);
    let say = async |kind| {
        updates.send((wire::AgentMessage { kind: Some(kind) }, Haste::AtOnce)).await.unwrap();
    };
    say(Kind::Welcome(wire::Welcome { cores: 1, ..wire::Welcome::default() })).await;
    while !matches!(orders.recv().await.unwrap().kind, Some(OrderKind::Prepare(_))) {}
    for kind in script {
        say(kind).await;
    }
    drop((orders, updates, output));
    served.close(Duration::from_secs(5)).await;
}

fn ready() -> Kind {
    Kind::RunnerReady(wire::RunnerReady { runner: 1, identifier: "elm_1".into() })
}

fn refusal() -> Kind {
    let failure = wire::Failure { cause: "No space left on device".into(), ..wire::Failure::default() };
    Kind::Refusal(wire::Refusal { failure: Some(failure) })
}

/// What the driver hears of a host with these sessions.
async fn told(sessions: Vec<Vec<Kind>>) -> Vec<String> {
    let run = RunSpec {
        introduction: Introduction {
            project: PathBuf::from("/project"),
            hello: wire::Hello::default(),
            bootstrap: false,
            patience: Patience { host_timeout: Duration::from_secs(10) },
        },
        prepare: wire::Prepare::default(),
        own_environment: Vec::new(),
        first_connections: FirstConnections::default(),
        first_look: FirstLook::new(PathBuf::from("/project"), SyncConfig::default()),
        snapshots: Arc::default(),
    };
    let way = Arc::new(Scripted { sessions: Mutex::new(sessions.into()) });
    let host = HostSpec { id: HostId(0), name: "elm".into(), place: HostPlace::Dialed(way), runners: None };
    let (sender, mut news) = news_channel();
    let (output, _pieces) = mpsc::channel(1);
    let (_orders, received) = mpsc::unbounded_channel();
    tokio::spawn(participate(host, Arc::new(run), received, Outlets { news: sender, output }));
    let mut told = Vec::new();
    while let Some(HostNews { news, .. }) = news.recv().await {
        told.push(match news {
            News::Progress(_) => continue,
            News::Connected { .. } => "connected".to_owned(),
            News::RunnerReady { .. } => "ready".to_owned(),
            News::Away { failure, .. } => format!("away: {}", failure.reason),
            News::Ended(Err(failure)) => format!("ended: {}", failure.reason),
            other => format!("{other:?}"),
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_host_that_came_back_and_then_refuses_to_go_on_is_lost_for_that() {
    let told = told(vec![vec![ready()], vec![ready(), refusal()], vec![ready()]]).await;
    let ended = told.last().unwrap();
    assert!(ended.starts_with("ended: ") && ended.contains("No space left on device"), "{told:?}");
    assert!(!ended.contains("connect anew"), "{told:?}");
    let broke = "away: the connection to its agent broke";
    assert_eq!(told[..told.len() - 1], ["connected", "ready", broke, "connected", "ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_before_it_is_back_is_tried_again() {
    let told = told(vec![vec![ready()], vec![refusal()], vec![ready()]]).await;
    let broke = "away: the connection to its agent broke";
    let unreachable = told.last().unwrap();
    assert!(unreachable.starts_with("ended: failed to connect anew"), "{told:?}");
    let expected = ["connected", "ready", broke, "connected", "connected", "ready", broke];
    assert_eq!(told[..told.len() - 1], expected);
}
