//! One task per host: connects, syncs, prepares, then passes orders one way and news the other.
//!
//! All hosts work at once and none waits for another. A host that fails at any step says so in its last news, with the
//! reason and what to do about it, and the run goes on without it. A host whose connection breaks in the middle of the
//! run may have a second session, and a third: everything begins anew there, while the agent ends what is left of the
//! session before.

pub mod link;
pub mod messages;

mod comparison;
mod first_connections;
mod introduction;
mod local_agent;
mod project_state;
mod remote_agent;
pub mod snapshots;
mod ssh;
mod sync;
mod sync_rules;
mod system_agent;

use std::sync::Arc;
use std::time::Duration;

use distributest_core::identity::HostId;
use distributest_protocol::wire;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::comparison::Compared;
pub use self::first_connections::FirstConnections;
pub use self::introduction::Introduction;
use self::link::{Dial, Link};
use self::local_agent::LocalAgentError;
use self::messages::{HostFailure, HostNews, HostOrder, News, Order, OutputPiece};
pub use self::project_state::FirstLook;
pub(crate) use self::project_state::ProjectState;
use self::remote_agent::RemoteAgentError;
use self::snapshots::Snapshots;
use self::ssh::{SshConnection, SshError};
use self::sync::SyncError;
use crate::agents::{self, Agent, AgentError};
use crate::config::HostConfig;
use crate::error::chain;
use crate::news_channel::NewsSender;

/// Where a host is.
#[derive(Clone, Debug)]
pub enum HostPlace {
    /// This machine.
    Local {
        /// Whether tests run in a copy of the project instead of in the project itself.
        snapshot: bool,
    },
    /// A machine reached over ssh.
    Remote(HostConfig),
    /// A machine that is reached in a way of its own, and has the project in place.
    Dialed(Arc<dyn Dial>),
}

/// A host's part in the run.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Its place in the run's list of hosts.
    pub id: HostId,
    /// The name the user gave it.
    pub name: String,
    /// Where it is.
    pub place: HostPlace,
    /// Runners to start; `None`: as many as it has cores.
    pub runners: Option<u16>,
}

impl HostSpec {
    /// How many runners it will have; `None` while that is the number of cores of another machine.
    pub fn known_runners(&self) -> Option<u16> {
        match self.place {
            HostPlace::Local { .. } => self.runners.or_else(own_cores),
            HostPlace::Remote(_) | HostPlace::Dialed(_) => self.runners,
        }
    }

    /// How many runners it should have; a machine nobody knows is taken to be like this one.
    pub fn expected_runners(&self) -> u16 {
        self.known_runners().or_else(own_cores).unwrap_or(1)
    }
}

fn own_cores() -> Option<u16> {
    std::thread::available_parallelism().ok().and_then(|cores| u16::try_from(cores.get()).ok())
}

/// What every host of a run is told.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// What is told first.
    pub introduction: Introduction,
    /// Hooks, launches and environment, without the number of runners.
    pub prepare: wire::Prepare,
    /// This command's own environment, for tests on this machine.
    pub own_environment: Vec<(String, String)>,
    /// What is there already of the connections to hosts.
    pub first_connections: FirstConnections,
    /// The state the project is in before anything is copied.
    pub first_look: FirstLook,
    /// The states of the project that hosts were given.
    pub snapshots: Arc<Snapshots>,
}

/// Where a host's news and output go.
#[derive(Clone)]
pub struct Outlets {
    /// What happens.
    pub news: NewsSender,
    /// What hooks, workers and tests write.
    pub output: mpsc::Sender<OutputPiece>,
}

/// Why a host takes no part.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error("failed to connect")]
    Ssh(#[from] SshError),
    #[error("failed to connect")]
    Dial(#[source] std::io::Error),
    #[error("failed to reach an agent")]
    RemoteAgent(#[from] RemoteAgentError),
    #[error("failed to reach an agent")]
    LocalAgent(#[from] LocalAgentError),
    #[error("failed to connect: nothing came of it within {} s", .0.as_secs())]
    Unreachable(Duration),
    #[error("failed to copy the project")]
    Sync(#[from] SyncError),
    #[error(transparent)]
    Lost(AgentError),
    #[error("failed to connect anew after its connection was lost: {}", .0.reason)]
    NotRegained(HostFailure),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl HostPlace {
    /// Whether tests run in the project's own directory.
    pub fn is_in_place(&self) -> bool {
        matches!(self, HostPlace::Local { snapshot: false } | HostPlace::Dialed(_))
    }
}

impl HostError {
    /// What ends a session, and whether there may be another.
    fn of_session(error: AgentError) -> HostError {
        if error.is_loss() { HostError::Lost(error) } else { HostError::Agent(error) }
    }

    fn failure(&self) -> HostFailure {
        let reason = chain(self);
        let hint = match self {
            HostError::Ssh(error) => error.hint(),
            HostError::RemoteAgent(error) => error.hint(),
            HostError::Sync(error) => error.hint(),
            HostError::Agent(error) | HostError::Lost(error) => error.hint(),
            HostError::NotRegained(failure) => failure.hint.clone(),
            HostError::LocalAgent(_) | HostError::Dial(_) | HostError::Unreachable(_) => None,
        };
        HostFailure { reason, hint }
    }
}

/// The number of a host's first connection.
const FIRST_CONNECTION: u32 = 0;

/// How long the resident agent of this machine may take to answer.
const LOCAL_PATIENCE: Duration = Duration::from_secs(5);

/// How long connecting may take in all, a copy of the agent over a slow link included.
const CONNECT_LIMIT: Duration = Duration::from_secs(180);

/// How often a host may lose its connection and be connected to anew: as often as a file may be interrupted, so that a
/// test that brings its agent down is given up before its host is.
const RECONNECTIONS: u32 = 3;

/// How long connecting anew is tried: a reboot, or a laptop on its way to another room.
const RECONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// Between two tries.
const RECONNECTION_PAUSE: Duration = Duration::from_secs(2);

/// How long the output of a lost host is waited for.
const LOST_OUTPUT_PATIENCE: Duration = Duration::from_secs(1);

/// How often at most it is told how far copying is: nobody reads faster.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Lets a host take part in the run until its orders end, it is told to end, or it fails. Its last news is
/// [`News::Ended`]; dropping the future ends everything of the run on the host.
pub async fn participate(
    host: HostSpec,
    run: Arc<RunSpec>,
    orders: mpsc::UnboundedReceiver<HostOrder>,
    outlets: Outlets,
) {
    let mut participant =
        Participant { host, run, outlets, session: 0, connection: FIRST_CONNECTION, regain_until: None };
    let mut orders = Orders { orders, ending: false };
    let ended = loop {
        let mut output = JoinSet::new();
        let ended = participant.run(&mut orders, &mut output).await;
        participant.connection += 1;
        // Of a host that has ended in order all the output comes; of one that is lost, what is here already.
        let patience = if ended.is_ok() { Duration::MAX } else { LOST_OUTPUT_PATIENCE };
        let _ = tokio::time::timeout(patience, output.join_next()).await;
        output.shutdown().await;
        match ended {
            Err(error @ HostError::Lost(_)) if participant.session < RECONNECTIONS && !orders.ending => {
                participant.session += 1;
                let next_block = agents::first_block(participant.connection);
                participant.tell(News::Away { failure: error.failure(), next_block }).await;
                participant.regain_until = Some(Instant::now() + RECONNECTION_LIMIT);
            }
            Err(error @ HostError::Lost(_)) => break Err(error),
            Err(error) => match participant.regain_until {
                Some(until) if Instant::now() + RECONNECTION_PAUSE < until => {
                    tokio::select! {
                        () = tokio::time::sleep(RECONNECTION_PAUSE) => {}
                        () = orders.end(participant.session) => break Ok(()),
                    }
                }
                Some(_) => break Err(HostError::NotRegained(error.failure())),
                None => break Err(error),
            },
            Ok(()) => break Ok(()),
        }
    };
    participant.tell(News::Ended(ended.map_err(|error| error.failure()))).await;
}

/// What the driver wants of the host.
struct Orders {
    orders: mpsc::UnboundedReceiver<HostOrder>,
    /// The last order was that the run is over.
    ending: bool,
}

impl Orders {
    /// The next order that is meant for a session; the last one is the end of the run. Cancel-safe.
    async fn next(&mut self, session: u32) -> Order {
        loop {
            match self.orders.recv().await {
                Some(HostOrder { order: Order::EndRun, .. }) | None => {
                    self.ending = true;
                    return Order::EndRun;
                }
                Some(order) if order.session == session => return order.order,
                // Ordered before the driver knew that the session before was lost.
                Some(_) => {}
            }
        }
    }

    /// Waits for the end of the run. Before a runner is ready there is no other order.
    async fn end(&mut self, session: u32) {
        while !matches!(self.next(session).await, Order::EndRun) {}
    }
}

struct Participant {
    host: HostSpec,
    run: Arc<RunSpec>,
    outlets: Outlets,
    /// How many sessions were lost.
    session: u32,
    /// How often connecting was tried before.
    connection: u32,
    /// Until when the connection may be made anew that was lost; `None` when none is missing.
    regain_until: Option<Instant>,
}

impl Participant {
    async fn tell(&self, news: News) {
        // Without a driver there is nobody left to tell, and this task is about to be dropped.
        let _ = self.outlets.news.send(HostNews { host: self.host.id, news }).await;
    }

    async fn progress(&self, activity: &str) {
        self.tell(News::Progress(activity.to_owned())).await;
    }

    /// Takes part. What hooks, workers and tests write is passed on by a task in `output_tasks`.
    async fn run(&mut self, orders: &mut Orders, output_tasks: &mut JoinSet<()>) -> Result<(), HostError> {
        self.progress("connecting").await;
        let left = self.regain_until.map(|until| until.saturating_duration_since(Instant::now()));
        let limit = left.map_or(CONNECT_LIMIT, |left| left.min(CONNECT_LIMIT));
        let connecting = tokio::time::timeout(limit, self.connect());
        let (mut agent, ssh) = connecting.await.map_err(|_| HostError::Unreachable(limit))??;
        let runners =
            self.host.runners.unwrap_or(u16::try_from(agent.welcome.cores).unwrap_or(u16::MAX).max(1));
        let kind = if agent.welcome.resident { "resident" } else { "private" };
        let description = format!("{kind} agent {}", agent.welcome.program_version);
        let cores = u16::try_from(agent.welcome.cores).unwrap_or(u16::MAX);
        let queue = u16::try_from(agent.welcome.queue_limit).unwrap_or(u16::MAX);
        let memory = Some(agent.welcome.memory_bytes).filter(|bytes| *bytes > 0);
        self.tell(News::Connected { agent: description, cores, runners, queue, memory }).await;
        if let Some(output) = agent.take_output() {
            output_tasks.spawn(output.forward(self.host.id, self.outlets.output.clone()));
        }
        if !self.host.place.is_in_place() {
            tokio::select! {
                synced = self.sync(&mut agent, ssh.as_ref()) => synced?,
                () = orders.end(self.session) => return Ok(()),
            }
        }
        self.progress("preparing").await;
        agent.prepare(self.prepare(runners, agent.welcome.resident)).await.map_err(HostError::Lost)?;
        self.converse(agent, orders).await
    }

    /// Passes orders and news until the run is over here.
    async fn converse(&mut self, mut agent: Agent, orders: &mut Orders) -> Result<(), HostError> {
        loop {
            tokio::select! {
                // Orders are few, and the news that follow from them need not wait for older news to be told.
                biased;
                order = orders.next(self.session), if !orders.ending => agent.order(order).await.map_err(HostError::of_session)?,
                news = agent.next() => match news.map_err(HostError::of_session)? {
                    Some(news) => {
                        if matches!(news, News::RunnerReady { .. }) {
                            self.regain_until = None;
                        }
                        self.tell(news).await;
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    async fn connect(&self) -> Result<(Agent, Option<SshConnection>), HostError> {
        match &self.host.place {
            HostPlace::Local { .. } => Ok((self.connect_locally().await?, None)),
            HostPlace::Remote(config) => {
                let (agent, ssh) = self.connect_remotely(config).await?;
                Ok((agent, Some(ssh)))
            }
            HostPlace::Dialed(way) => {
                let link = way.dial().await.map_err(HostError::Dial)?;
                Ok((self.greet(link).await?, None))
            }
        }
    }

    /// Connects to the resident agent, or starts a private one where there is none that works. One that refuses has its
    /// reasons.
    async fn connect_locally(&self) -> Result<Agent, HostError> {
        if let Some(link) = local_agent::resident().await {
            let greeted = tokio::time::timeout(LOCAL_PATIENCE, self.greet(link)).await;
            match greeted {
                Ok(Ok(agent)) => return Ok(agent),
                Ok(Err(refused @ AgentError::Refused(_))) => return Err(refused.into()),
                Ok(Err(_)) | Err(_) => {
                    self.progress("connecting to a private agent, the resident one does not work").await;
                }
            }
        }
        Ok(self.greet(local_agent::private()?).await?)
    }

    /// Connects over ssh, or takes the connection that was begun before there was a plan.
    async fn connect_remotely(&self, config: &HostConfig) -> Result<(Agent, SshConnection), HostError> {
        if let Some(connecting) = self.run.first_connections.take(self.host.id)
            && let Ok(connected) = connecting.await
        {
            return connected;
        }
        self.run.introduction.connect(&self.host, config, self.connection).await
    }

    async fn greet(&self, link: Link) -> Result<Agent, AgentError> {
        self.run.introduction.greet(&self.host, link, self.connection).await
    }

    /// A private agent on this machine inherits our environment; the resident one was started by somebody else and is
    /// handed it.
    fn prepare(&self, runners: u16, resident: bool) -> wire::Prepare {
        let mut prepare = wire::Prepare { runners: u32::from(runners), ..self.run.prepare.clone() };
        if resident && matches!(self.host.place, HostPlace::Local { .. }) {
            prepare.clear_environment = true;
            for (name, value) in &self.run.own_environment {
                prepare.environment.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        prepare
    }

    /// Tells which state of the project the host has after a copy, without keeping it waiting for that.
    fn tell_snapshot(&self, copied: Option<String>) {
        let (run, outlets, host) = (Arc::clone(&self.run), self.outlets.clone(), self.host.id);
        tokio::spawn(async move {
            let look = move || run.snapshots.number(&run.first_look.again());
            if let Ok(snapshot) = tokio::task::spawn_blocking(look).await {
                // Late is as good as never.
                let _ = outlets.news.send(HostNews { host, news: News::Synced { snapshot, copied } }).await;
            }
        });
    }

    /// Makes the workspace the project's copy: by sending what differs where that is little, else with rsync.
    async fn sync(&self, agent: &mut Agent, ssh: Option<&SshConnection>) -> Result<(), HostError> {
        self.progress("comparing its copy of the project").await;
        let run = Arc::clone(&self.run);
        let look = move || {
            let state = run.first_look.state();
            run.snapshots.number(&state);
            state
        };
        // Off the threads that keep connections alive.
        let looked = tokio::task::spawn_blocking(look).await;
        let state = &looked.map_err(|error| SyncError::Rules(error.into()))?;
        match comparison::compare(agent, &self.run.introduction.project, state)
            .await
            .map_err(HostError::of_session)?
        {
            Compared::Same { as_it_was: true } => {
                let snapshot = self.run.snapshots.number(state);
                self.tell(News::Synced { snapshot, copied: None }).await;
            }
            Compared::Same { as_it_was: false } => self.tell_snapshot(None),
            Compared::CopyWanted { reason, remembers } => {
                self.copy(state, &agent.welcome.workspace, ssh).await?;
                self.tell_snapshot(Some(reason));
                if remembers && let Ok(read) = &state.tree {
                    agent.send_tree(&read.encoded).await.map_err(HostError::of_session)?;
                }
            }
        }
        Ok(())
    }

    async fn copy(
        &self,
        state: &ProjectState,
        workspace: &str,
        ssh: Option<&SshConnection>,
    ) -> Result<(), HostError> {
        self.progress("copying the project").await;
        let (percentages, mut reader) = tokio::sync::watch::channel(0);
        let syncing =
            sync::sync(&self.run.introduction.project, workspace, ssh, &state.rules, |percentage| {
                percentages.send_replace(percentage);
            });
        tokio::pin!(syncing);
        let mut told = Instant::now();
        loop {
            tokio::select! {
                synced = &mut syncing => return Ok(synced?),
                Ok(()) = reader.changed() => {
                    let percentage = *reader.borrow_and_update();
                    if told.elapsed() < PROGRESS_INTERVAL {
                        continue;
                    }
                    told = Instant::now();
                    self.progress(&format!("copying the project, {percentage} %")).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
