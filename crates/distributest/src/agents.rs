//! A run's conversation with one agent, in the run's own terms: the only place of this crate that knows gRPC.

use std::time::Duration;

use distributest_core::identity::{AttemptId, HostId};
use distributest_core::run_event::{HookKind, OutputStream};
use distributest_core::test_result::TestResult;
use distributest_protocol::client::{AgentConnection, ConnectError, Output, connect};
use distributest_protocol::conversions::{MalformedMessage, milliseconds, result_from_wire, usage_from_wire};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind as Update;
use distributest_protocol::wire::coordinator_message::Kind as OrderKind;
use distributest_protocol::wire::workspace_compared::Answer as WireAnswer;
use distributest_tree::tree::Fingerprint;
use distributest_tree::workspace::Answer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::hosts::link::Link;
use crate::hosts::messages::{AgentBlock, FinishedAttempt, HostFailure, News, Order, OutputPiece};

/// Either side gives the other up after a silence of this many times the host timeout, after which a host is only not
/// counted on.
const LEASE_IN_HOST_TIMEOUTS: u32 = 6;

/// Heartbeats in a host timeout: room for many that are lost.
const HEARTBEATS_IN_HOST_TIMEOUT: u32 = 10;

/// After the last verdict a host is quiet that is not heard for this many heartbeats.
const QUIET_HEARTBEATS: u32 = 3;

/// The bits of a block's number that are the agent's own. Above them stands the connection, since each has its blocks
/// numbered from the start. What comes of it is still a whole number in JavaScript.
const BLOCK_BITS: u32 = 40;

/// Bytes of a project's tree or file in one message.
const PIECE_BYTES: usize = 64 * 1024;

/// How long silence is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which a host is not counted on.
    pub host_timeout: Duration,
}

impl Patience {
    /// Silence after which either side gives the other up.
    pub fn lease(self) -> Duration {
        self.host_timeout * LEASE_IN_HOST_TIMEOUTS
    }

    /// How often each side says something.
    pub fn heartbeat(self) -> Duration {
        self.host_timeout / HEARTBEATS_IN_HOST_TIMEOUT
    }

    /// Silence after which a host that nothing is wanted of any more is not waited for.
    fn quiet(self) -> Duration {
        self.heartbeat() * QUIET_HEARTBEATS
    }
}

/// How long an agent may take to make a workspace and say so.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the conversation ended before the run did.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No session could be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The agent does not take part; its own words.
    #[error("{0}")]
    Refused(wire::Failure),
    /// Nothing came for the whole lease, or in answer to the greeting.
    #[error("nothing was heard from it for {} s", .0.as_secs())]
    Silent(Duration),
    /// The connection ended in the middle of the run.
    #[error("the connection to its agent broke")]
    Broken,
    /// It said something that makes no sense.
    #[error("its agent sent a malformed message")]
    Malformed(#[from] MalformedMessage),
    /// It said something that was not asked.
    #[error("its agent answered something else than it was asked")]
    Unexpected,
    /// Its first message was no welcome.
    #[error("its agent did not introduce itself")]
    NoWelcome,
}

impl AgentError {
    /// Whether a session ended by this may have a successor: its host or the way to it may be fine again.
    pub fn is_loss(&self) -> bool {
        matches!(self, AgentError::Silent(_) | AgentError::Broken)
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            AgentError::Refused(failure) => hint(failure),
            AgentError::Connect(ConnectError::Version) => Some(
                "install the same version of runner-agent there, or stop it to use a private agent".into(),
            ),
            AgentError::Silent(_) | AgentError::Broken => Some(
                "the system log there (journalctl) may tell whether it ran out of memory, was shut down or cut off"
                    .into(),
            ),
            _ => None,
        }
    }
}

fn hint(failure: &wire::Failure) -> Option<String> {
    (!failure.hint.is_empty()).then(|| failure.hint.clone())
}

/// An agent that said hello.
pub struct Agent {
    orders: mpsc::Sender<wire::CoordinatorMessage>,
    updates: tonic::Streaming<wire::AgentMessage>,
    output: Option<Output>,
    heartbeat: JoinHandle<()>,
    connection: u32,
    patience: Patience,
    last_heard: Instant,
    /// It was told that the run is over.
    is_ending: bool,
    /// It was said that it is quiet since then.
    is_quiet: bool,
    is_silent: bool,
    /// What was said after a silence, until the end of the silence is told.
    unread: Option<wire::AgentMessage>,
    /// What it said of itself and its host.
    pub welcome: wire::Welcome,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

impl Agent {
    /// Opens a session over `link` and waits for the agent's welcome. `connection` tells it from others of the same
    /// host in the same run.
    ///
    /// # Errors
    ///
    /// When the agent can't be talked to or does not take part.
    pub async fn greet(
        link: Link,
        hello: wire::Hello,
        connection: u32,
        patience: Patience,
    ) -> Result<Agent, AgentError> {
        let hello = wire::Hello {
            lease_milliseconds: milliseconds(patience.lease()),
            heartbeat_milliseconds: milliseconds(patience.heartbeat()),
            ..hello
        };
        let greeting = async {
            let compressed = link.compressed;
            let AgentConnection { orders, mut updates, output } = connect(link, hello, compressed).await?;
            loop {
                match updates
                    .message()
                    .await
                    .map_err(|_| AgentError::Broken)?
                    .and_then(|message| message.kind)
                {
                    Some(Update::Welcome(welcome)) => return Ok((orders, updates, output, welcome)),
                    Some(Update::Refusal(refusal)) => {
                        return Err(AgentError::Refused(refusal.failure.unwrap_or_default()));
                    }
                    Some(Update::Heartbeat(_)) => {}
                    Some(_) | None => return Err(AgentError::NoWelcome),
                }
            }
        };
        let (orders, updates, output, welcome) = tokio::time::timeout(WELCOME_TIMEOUT, greeting)
            .await
            .map_err(|_| AgentError::Silent(WELCOME_TIMEOUT))??;
        let heartbeat = tokio::spawn(send_heartbeats(orders.clone(), patience.heartbeat()));
        Ok(Agent {
            orders,
            updates,
            output: Some(output),
            heartbeat,
            connection,
            patience,
            last_heard: Instant::now(),
            is_ending: false,
            is_quiet: false,
            is_silent: false,
            unread: None,
            welcome,
        })
    }

    /// The stream of what hooks, workers and tests write. Can be had once.
    pub fn take_output(&mut self) -> Option<OutputReader> {
        self.output.take().map(|chunks| OutputReader { chunks, connection: self.connection })
    }

    /// Hands the run's hooks, environment and launches over.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn prepare(&self, prepare: wire::Prepare) -> Result<(), AgentError> {
        self.send(OrderKind::Prepare(prepare)).await
    }

    /// Whether it can tell what differs between its workspace and the project.
    pub fn compares_trees(&self) -> bool {
        self.welcome.tree_format == distributest_tree::tree::FORMAT
    }

    /// Asks whether the workspace holds the project in this state.
    ///
    /// # Errors
    ///
    /// As [`Agent::compared`].
    pub async fn compare(&mut self, state: &Fingerprint) -> Result<Answer, AgentError> {
        let fingerprint = state.as_bytes().to_vec();
        self.send(OrderKind::CompareWorkspace(wire::CompareWorkspace { fingerprint })).await?;
        self.compared().await
    }

    /// Tells what the project holds.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send_tree(&self, encoded: &[u8]) -> Result<(), AgentError> {
        for (piece, last) in pieces(encoded) {
            self.send(OrderKind::ProjectTree(wire::ProjectTree { piece, last })).await?;
        }
        Ok(())
    }

    /// Sends a file that the agent asked for.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send_file(&self, entry: usize, contents: &[u8], changed: bool) -> Result<(), AgentError> {
        let entry = u32::try_from(entry).unwrap_or(u32::MAX);
        for (piece, last) in pieces(contents) {
            self.send(OrderKind::FileContent(wire::FileContent { entry, piece, last, changed })).await?;
        }
        Ok(())
    }

    /// Waits for what the agent says of its workspace.
    ///
    /// # Errors
    ///
    /// When it is silent for the lease, the connection breaks, or it refuses to go on.
    pub async fn compared(&mut self) -> Result<Answer, AgentError> {
        loop {
            // Nothing is entrusted to it yet that would have to be given to others when it is silent.
            let message = match self.unread.take() {
                Some(message) => message,
                None => match self.listen().await? {
                    Heard::Message(message) => message,
                    Heard::Change(_) => continue,
                },
            };
            match message.kind {
                None | Some(Update::Heartbeat(_)) => {}
                Some(Update::WorkspaceCompared(compared)) => return answer(compared),
                Some(Update::Refusal(refusal)) => {
                    return Err(AgentError::Refused(refusal.failure.unwrap_or_default()));
                }
                Some(_) => return Err(AgentError::Unexpected),
            }
        }
    }

    /// Passes an order on.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn order(&mut self, order: Order) -> Result<(), AgentError> {
        self.is_ending |= matches!(order, Order::EndRun);
        self.send(match order {
            Order::Dispatch { attempt, runner, launch, file, tests, part, fresh, timeout, expected } => {
                OrderKind::Dispatch(wire::Dispatch {
                    attempt: attempt.0,
                    runner: u32::from(runner),
                    launch,
                    file,
                    // A limit above zero must not become "no limit" by rounding.
                    timeout_milliseconds: timeout.map_or(0, |limit| milliseconds(limit).max(1)),
                    tests,
                    part: part.map(|part| part.to_wire()),
                    fresh_worker: fresh,
                    expected_milliseconds: expected.map_or(0, milliseconds),
                })
            }
            Order::Cancel(attempt) => {
                OrderKind::Cancel(wire::Cancel { attempt: attempt.0, unless_begun: false })
            }
            Order::Withdraw(attempt) => {
                OrderKind::Cancel(wire::Cancel { attempt: attempt.0, unless_begun: true })
            }
            Order::EndRun => OrderKind::EndRun(wire::EndRun {}),
        })
        .await
    }

    async fn send(&self, kind: OrderKind) -> Result<(), AgentError> {
        self.orders.send(wire::CoordinatorMessage { kind: Some(kind) }).await.map_err(|_| AgentError::Broken)
    }

    /// The next thing the agent has to say, or that it is quiet, silent or heard again; `None` once the run is over there.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the agent is silent for the lease, the connection breaks, or what it says makes no sense.
    pub async fn next(&mut self) -> Result<Option<News>, AgentError> {
        loop {
            let message = match self.unread.take() {
                Some(message) => message,
                None => match self.listen().await? {
                    Heard::Message(message) => message,
                    Heard::Change(news) => return Ok(Some(news)),
                },
            };
            match message.kind {
                None | Some(Update::Heartbeat(_)) => {}
                Some(Update::RunEnded(_)) => return Ok(None),
                Some(Update::Refusal(refusal)) => {
                    return Err(AgentError::Refused(refusal.failure.unwrap_or_default()));
                }
                Some(update) => return news(update, self.connection).map(Some),
            }
        }
    }

    /// Waits for the next message, as long as silence is borne. What is here already is heard however late it is read.
    async fn listen(&mut self) -> Result<Heard, AgentError> {
        let is_first_doubt = self.is_ending && !self.is_quiet;
        let silence = match self.is_silent {
            true => self.patience.lease(),
            false if is_first_doubt => self.patience.quiet(),
            false => self.patience.host_timeout,
        };
        let Ok(message) = tokio::time::timeout_at(self.last_heard + silence, self.updates.message()).await
        else {
            if self.is_silent {
                return Err(AgentError::Silent(silence));
            }
            if is_first_doubt {
                self.is_quiet = true;
                return Ok(Heard::Change(News::Quiet));
            }
            self.is_silent = true;
            return Ok(Heard::Change(News::Silent(silence)));
        };
        let message = message.map_err(|_| AgentError::Broken)?.ok_or(AgentError::Broken)?;
        self.last_heard = Instant::now();
        if std::mem::take(&mut self.is_silent) {
            self.unread = Some(message);
            return Ok(Heard::Change(News::Heard));
        }
        Ok(Heard::Message(message))
    }
}

enum Heard {
    Message(wire::AgentMessage),
    Change(News),
}

/// A task of its own: the log's disk may be slow, the pulse not.
async fn send_heartbeats(orders: mpsc::Sender<wire::CoordinatorMessage>, interval: Duration) {
    let mut pulse = tokio::time::interval(interval);
    loop {
        pulse.tick().await;
        let beat = wire::CoordinatorMessage { kind: Some(OrderKind::Heartbeat(wire::Heartbeat {})) };
        if orders.send(beat).await.is_err() {
            return;
        }
    }
}

/// What hooks, workers and tests of one host write.
pub struct OutputReader {
    chunks: Output,
    connection: u32,
}

impl OutputReader {
    /// Passes every byte on, as fast as it is taken, until no more will come.
    pub async fn forward(mut self, host: HostId, pieces: mpsc::Sender<OutputPiece>) {
        while let Ok(Some(chunk)) = self.chunks.message().await {
            let stream = if chunk.stderr { OutputStream::Stderr } else { OutputStream::Stdout };
            let block = block_number(chunk.block, self.connection);
            let piece = OutputPiece { host, block, stream, bytes: chunk.data.to_vec() };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    }
}

fn news(update: Update, connection: u32) -> Result<News, AgentError> {
    Ok(match update {
        Update::HookFinished(hook) => {
            let runner = runner_number(hook.runner);
            News::HookFinished {
                runner: (runner > 0).then_some(runner),
                hook: if runner > 0 { HookKind::RunnerSetup } else { HookKind::NodeSetup },
                failure: hook.failure.map(host_failure),
                skipped: hook.skipped,
                duration: Duration::from_micros(hook.duration_microseconds),
                block: agent_block(hook.block.unwrap_or_default(), connection),
            }
        }
        Update::WorkerPrepared(worker) => News::WorkerPrepared {
            runner: runner_number(worker.runner),
            framework: worker.framework,
            failure: worker.failure.map(host_failure),
            duration: Duration::from_micros(worker.duration_microseconds),
            saved: (worker.saved_microseconds > 0).then(|| Duration::from_micros(worker.saved_microseconds)),
            versions: (!worker.version.is_empty() && !worker.runtime.is_empty())
                .then(|| format!("{}, {}", worker.version, worker.runtime)),
            block: agent_block(worker.block.unwrap_or_default(), connection),
        },
        Update::WorkerEnded(worker) => News::WorkerEnded {
            runner: runner_number(worker.runner),
            framework: worker.framework,
            failure: (!worker.failure.is_empty()).then_some(worker.failure),
            block: agent_block(worker.block.unwrap_or_default(), connection),
        },
        Update::RunnerReady(ready) => {
            News::RunnerReady { runner: runner_number(ready.runner), identifier: ready.identifier }
        }
        Update::LaunchUnavailable(unavailable) => {
            let failure = unavailable.failure.unwrap_or_default();
            let hint = hint(&failure);
            News::LaunchUnavailable {
                runner: runner_number(unavailable.runner),
                launch: unavailable.launch,
                // What could not be done is said by the news itself.
                failure: HostFailure { reason: failure.cause, hint },
            }
        }
        Update::RunnerFailed(failed) => News::RunnerFailed {
            runner: runner_number(failed.runner),
            failure: failed.failure.map(host_failure),
        },
        Update::AttemptStarted(started) => {
            let block = block_number(started.block, connection);
            News::AttemptStarted { attempt: AttemptId(started.attempt), block }
        }
        Update::TestFinished(test) => News::TestFinished(
            AttemptId(test.attempt),
            TestResult::try_from(test).map_err(AgentError::Malformed)?,
        ),
        Update::AttemptFinished(finished) => News::AttemptFinished(FinishedAttempt {
            attempt: AttemptId(finished.attempt),
            result: result_from_wire(&finished)?,
            duration: Duration::from_micros(finished.duration_microseconds),
            usage: usage_from_wire(&finished),
            out_of_memory: finished.out_of_memory,
            message: finished.message,
            details: finished.details,
            leaked: finished.leaked,
            collected: finished.collected,
            block: finished.block.map(|block| agent_block(block, connection)),
        }),
        Update::Welcome(_)
        | Update::Refusal(_)
        | Update::Heartbeat(_)
        | Update::RunEnded(_)
        | Update::WorkspaceCompared(_) => {
            return Err(AgentError::Unexpected);
        }
    })
}

/// What is to be sent in bytes, in messages that a heartbeat need not wait long for; the flag is true for the last.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = (Vec<u8>, bool)> {
    let count = bytes.len().div_ceil(PIECE_BYTES).max(1);
    (1..=count).map(move |number| {
        let piece = &bytes[(number - 1) * PIECE_BYTES..bytes.len().min(number * PIECE_BYTES)];
        (piece.to_vec(), number == count)
    })
}

fn answer(compared: wire::WorkspaceCompared) -> Result<Answer, AgentError> {
    Ok(match compared.answer() {
        WireAnswer::Same => Answer::Same,
        WireAnswer::TreeWanted => Answer::TreeWanted,
        WireAnswer::FilesWanted => {
            let files = compared.files.into_iter().map(|file| usize::try_from(file).unwrap_or(usize::MAX));
            Answer::FilesWanted(files.collect())
        }
        WireAnswer::CopyWanted => Answer::CopyWanted(compared.reason),
        WireAnswer::Unspecified => return Err(AgentError::Unexpected),
    })
}

/// Runner numbers fit: the coordinator asked for at most 1,024.
fn runner_number(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn agent_block(block: wire::OutputBlock, connection: u32) -> AgentBlock {
    AgentBlock { number: block_number(block.number, connection), bytes: block.bytes }
}

/// A number that no other connection to the host uses.
fn block_number(number: u64, connection: u32) -> u64 {
    first_block(connection) | (number & ((1 << BLOCK_BITS) - 1))
}

/// The lowest number that blocks of this connection or a later one have.
pub fn first_block(connection: u32) -> u64 {
    u64::from(connection) << BLOCK_BITS
}

fn host_failure(failure: wire::Failure) -> HostFailure {
    HostFailure { reason: failure.to_string(), hint: hint(&failure) }
}
