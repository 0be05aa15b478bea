//! Agents that run nothing: whatever they are told to run has passed at once, with one test.

use std::error::Error;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use distributest::hosts::link::{Dial, Dialing, Link};
use distributest_core::outcome::Outcome;
use distributest_core::run_event::AttemptResult;
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;
use distributest_protocol::conversions::{finished_to_wire, test_to_wire};
use distributest_protocol::gathering::Haste;
use distributest_protocol::server::{self, CoordinatorConnection};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use rustix::time::ClockId;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::processor_time;

/// Bytes under way in a connection, as in a socket.
const IN_FLIGHT: usize = 64 * 1024;

/// Files that may wait at a runner.
const QUEUE_LIMIT: u32 = 4;

/// How long a coordinator may take to take the last words.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// All agents of a run, in a thread of their own.
pub(crate) struct Agents {
    connections: mpsc::UnboundedSender<DuplexStream>,
    thread: JoinHandle<(Duration, u64)>,
}

impl Agents {
    /// Agents on hosts with so many cores.
    pub(crate) fn start(cores: u32) -> Result<Agents, Box<dyn Error>> {
        let (connections, mut arriving) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            let orders = runtime.block_on(async {
                let mut sessions = JoinSet::new();
                while let Some(stream) = arriving.recv().await {
                    sessions.spawn(serve(stream, cores));
                }
                sessions.join_all().await.into_iter().sum()
            });
            (processor_time(ClockId::ThreadCPUTime), orders)
        });
        Ok(Agents { connections, thread })
    }

    /// A way to a host of its own.
    pub(crate) fn port(&self) -> Arc<dyn Dial> {
        Arc::new(Port(self.connections.clone()))
    }

    /// Waits for the end of all sessions; returns the processor time they took, and how many files they ran.
    pub(crate) fn end(self) -> (Duration, u64) {
        drop(self.connections);
        self.thread.join().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Port(mpsc::UnboundedSender<DuplexStream>);

impl Dial for Port {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let (here, there) = tokio::io::duplex(IN_FLIGHT);
            self.0.send(there).map_err(std::io::Error::other)?;
            Ok(Link::new(here, ()))
        })
    }
}

/// Serves a session to its end; returns how many files it ran.
async fn serve(stream: DuplexStream, cores: u32) -> u64 {
    let (CoordinatorConnection { mut orders, updates, output }, served) = server::accept(stream);
    let mut ran = 0;
    while let Some(order) = orders.recv().await {
        let Some(order) = order.kind else { continue };
        let is_last = matches!(order, Order::EndRun(_));
        ran += u64::from(matches!(order, Order::Dispatch(_)));
        for kind in answers(order, cores, ran) {
            // Nobody listens once the connection is gone, which ends the orders as well.
            let _ = updates.send((wire::AgentMessage { kind: Some(kind) }, Haste::AtOnce)).await;
        }
        if is_last {
            break;
        }
    }
    drop((orders, updates, output));
    served.close(CLOSE_LIMIT).await;
    ran
}

fn answers(order: Order, cores: u32, block: u64) -> Vec<Kind> {
    match order {
        Order::Hello(_) => vec![Kind::Welcome(wire::Welcome {
            program_version: "0.0.0".into(),
            cores,
            resident: true,
            queue_limit: QUEUE_LIMIT,
            ..wire::Welcome::default()
        })],
        Order::Prepare(prepare) => (1..=prepare.runners)
            .map(|runner| {
                Kind::RunnerReady(wire::RunnerReady { runner, identifier: format!("runner_{runner}") })
            })
            .collect(),
        Order::Dispatch(dispatch) => {
            let result = AttemptResult::Outcome(Outcome::Passed);
            vec![
                Kind::AttemptStarted(wire::AttemptStarted { attempt: dispatch.attempt, block }),
                Kind::TestFinished(test_to_wire(dispatch.attempt, test(dispatch.file))),
                Kind::AttemptFinished(wire::AttemptFinished {
                    duration_microseconds: 1_000,
                    block: Some(wire::OutputBlock { number: block, bytes: 0 }),
                    ..finished_to_wire(dispatch.attempt, result, Usage::default())
                }),
            ]
        }
        Order::Heartbeat(_) => vec![Kind::Heartbeat(wire::Heartbeat {})],
        Order::EndRun(_) => vec![Kind::RunEnded(wire::RunEnded {})],
        _ => Vec::new(),
    }
}

fn test(file: String) -> TestResult {
    TestResult {
        id: file.clone(),
        name: file,
        status: TestStatus::Passed,
        duration: Duration::from_millis(1),
        message: String::new(),
        details: String::new(),
        file: None,
        line: None,
    }
}
