//! The daemon: a tiny accept loop on a Unix socket, as sshd is one on a port.
//!
//! For each connection it starts a session process that is, from its first instruction on, the user who calls; the
//! daemon itself neither takes a byte from the connection nor touches a file for anybody. It shares the host's slots
//! among the sessions, and ends what they leave. On SIGTERM it accepts nothing more, lets runs go on for the
//! configured grace, and ends what is left.
//!
//! A caller that says nothing costs one descriptor for a while, and no process. The connections of each user are
//! counted (`callers`), and those of all users together fit into the 1,024 descriptors a process usually may have.
//! When they do run out, accepting pauses and everything else goes on.
//!
//! A session may outlive its run, with workers that the next run of its user can do with (`idle_sessions`).
//!
//! A daemon that is killed together with its sessions leaves tests behind, unless systemd empties its cgroup. Beside
//! the socket is a record of the sessions, by which the next daemon there kills those before it accepts anybody.

mod admission;
mod callers;
mod idle_sessions;
mod resident_run;
mod socket;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use distributest_core::slots::{SlotArbiter, SlotCommand, SlotEvent};
use distributest_process::{Delegation, TreeRecords, become_subreaper, peer_uid, reap_orphans, release_code};
use rustix::process::geteuid;
use sd_notify::NotifyState;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::callers::{Admitted, Callers};
use self::idle_sessions::IdleSessions;
use self::resident_run::ResidentRun;
use self::socket::ListeningSocket;
use crate::config::Config;
use crate::control_messages::ControlMessage;
use crate::runtime;
use crate::socket as default_socket;

pub use self::socket::SocketError;

/// Claims and releases under way before sessions wait.
const EVENTS_IN_FLIGHT: usize = 64;

/// Connections open at a time, four descriptors each; more wait in the socket's queue.
const RUN_LIMIT: usize = 192;

/// How long to accept nothing when a connection can't be accepted, for want of descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It can't listen.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system refuses something every process gets.
    #[error("failed to start")]
    Start(#[source] io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT. `socket` is where it listens, instead of the default place.
///
/// # Errors
///
/// When it can't start; once it runs, nothing a caller does ends it.
pub fn serve(config: &Config, socket: Option<PathBuf>) -> Result<(), DaemonError> {
    let path = socket.or_else(default_socket::of_this_user).ok_or(SocketError::NoPlace)?;
    let runtime = runtime::new().map_err(DaemonError::Start)?;
    runtime.block_on(async {
        become_subreaper().map_err(DaemonError::Start)?;
        let socket = ListeningSocket::bind(path.clone(), geteuid().is_root())?;
        let records = succeed(&path).map_err(DaemonError::Start)?;
        tracing::info!(socket = %path.display(), slots = config.slots(), "listening");
        Daemon::new(config, records).serve(socket).await
    })
}

/// Kills what dead daemons on this socket left.
fn succeed(socket: &Path) -> io::Result<TreeRecords> {
    let (records, killed) = TreeRecords::succeed(&socket.with_added_extension("trees"))?;
    for process in killed {
        tracing::warn!(%process, "killed what an agent before this one left");
    }
    Ok(records)
}

/// The daemon's state.
struct Daemon {
    slots: usize,
    allow_root: bool,
    stop_grace: Duration,
    delegation: Option<Delegation>,
    records: TreeRecords,
    arbiter: SlotArbiter,
    callers: Callers,
    idle_sessions: IdleSessions,
    /// Nothing is accepted before, for the last attempt failed.
    accept_again: Option<Instant>,
    /// The last attempt to accept failed, which is logged already.
    failed_to_accept: bool,
    /// The way to each run's session, for what the arbiter says.
    grants: HashMap<u64, mpsc::UnboundedSender<ControlMessage>>,
    /// The runs' tasks, which end with their numbers.
    runs: JoinSet<u64>,
    last_run: u64,
}

impl Daemon {
    fn new(config: &Config, records: TreeRecords) -> Self {
        Daemon {
            slots: config.slots(),
            allow_root: config.allow_root(),
            stop_grace: config.stop_grace(),
            delegation: find_delegation(),
            records,
            arbiter: SlotArbiter::new(config.slots()),
            callers: Callers::default(),
            idle_sessions: IdleSessions::new(config.keep_warm()),
            accept_again: None,
            failed_to_accept: false,
            grants: HashMap::new(),
            runs: JoinSet::new(),
            last_run: 0,
        }
    }

    async fn serve(mut self, socket: ListeningSocket) -> Result<(), DaemonError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Start)?;
        let (events_sender, mut events) = mpsc::channel(EVENTS_IN_FLIGHT);
        let reaper = reap_orphans();
        tokio::pin!(reaper);
        release_code();
        notify(&[NotifyState::Ready]);
        loop {
            let accept_again = self.accept_again;
            let has_room = self.runs.len() < RUN_LIMIT && accept_again.is_none();
            tokio::select! {
                accepted = socket.listener.accept(), if has_room => {
                    self.accepted(accepted.map(|(connection, _)| connection), &events_sender);
                }
                () = sleep_until(accept_again.unwrap_or_else(Instant::now)), if accept_again.is_some() => {
                    self.accept_again = None;
                }
                Some(event) = events.recv() => self.arbitrate(event),
                Some(ended) = self.runs.join_next() => self.run_ended(ended.ok()),
                error = &mut reaper => {
                    tracing::error!(?error, "failed to wait for orphans");
                    break;
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        drop(socket);
        notify(&[NotifyState::Stopping]);
        tracing::info!(runs = self.runs.len(), "stopping");
        self.idle_sessions.end().await;
        self.drain(&mut events).await;
        Ok(())
    }

    fn accepted(&mut self, accepted: io::Result<UnixStream>, events: &mpsc::Sender<SlotEvent>) {
        let called = accepted.and_then(|connection| Ok((peer_uid(&connection)?, connection)));
        match called {
            Ok((peer, connection)) => {
                self.failed_to_accept = false;
                // Without a place the connection ends here.
                if let Some(admitted) = self.callers.admit(peer) {
                    self.start_run(connection, peer, admitted, events.clone());
                }
            }
            Err(error) => {
                if !self.failed_to_accept {
                    tracing::warn!(%error, "failed to accept a connection; trying again until it works");
                }
                self.failed_to_accept = true;
                self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    fn start_run(
        &mut self,
        connection: UnixStream,
        peer: u32,
        admitted: Admitted,
        events: mpsc::Sender<SlotEvent>,
    ) {
        self.last_run += 1;
        let number = self.last_run;
        let (sender, grants) = mpsc::unbounded_channel();
        self.grants.insert(number, sender);
        self.arbitrate(SlotEvent::RunJoined { run: number });
        let Daemon { slots, allow_root, .. } = *self;
        let (delegation, records) = (self.delegation.clone(), self.records.clone());
        let idle_sessions = self.idle_sessions.clone();
        let run = ResidentRun {
            number,
            peer,
            admitted,
            slots,
            allow_root,
            delegation,
            records,
            events,
            idle_sessions,
            grants,
        };
        self.runs.spawn(async move {
            if let Err(error) = run.serve(connection).await {
                tracing::warn!(run = number, error = crate::failure::chain(&error), "a run was not served");
            }
            number
        });
    }

    fn run_ended(&mut self, run: Option<u64>) {
        // A task that panicked has no number; its slots stay taken rather than being granted twice.
        if let Some(run) = run {
            self.grants.remove(&run);
            self.arbitrate(SlotEvent::RunLeft { run });
        }
        if self.runs.is_empty() {
            // It may rest for days.
            release_code();
        }
    }

    fn arbitrate(&mut self, event: SlotEvent) {
        let mut commands = Vec::new();
        self.arbiter.handle(event, &mut commands);
        for command in commands {
            let (run, message) = match command {
                SlotCommand::Grant { run, claim, lasting: false } => (run, ControlMessage::Grant(claim)),
                SlotCommand::Grant { run, claim, lasting: true } => {
                    (run, ControlMessage::LastingGrant(claim))
                }
                SlotCommand::Wanted { run } => (run, ControlMessage::Wanted),
            };
            if let Some(grants) = self.grants.get(&run) {
                // A run that is just ending does not hear it, and leaves in a moment.
                let _ = grants.send(message);
            }
        }
    }

    /// Lets runs go on for the grace, then ends them.
    async fn drain(&mut self, events: &mut mpsc::Receiver<SlotEvent>) {
        let grace = tokio::time::sleep(self.stop_grace);
        tokio::pin!(grace);
        while !self.runs.is_empty() {
            tokio::select! {
                biased;
                () = &mut grace => break,
                Some(event) = events.recv() => self.arbitrate(event),
                Some(ended) = self.runs.join_next() => self.run_ended(ended.ok()),
            }
        }
        // Without a way to them, the runs know that they are to stop.
        self.grants.clear();
        while self.runs.join_next().await.is_some() {}
    }
}

/// The part of the cgroup hierarchy systemd gave to this unit, if it is one.
fn find_delegation() -> Option<Delegation> {
    // Root may write everywhere, which does not make it its own.
    std::env::var_os("NOTIFY_SOCKET")?;
    let found = Delegation::find(Path::new("/proc/self/mounts"), Path::new("/proc/self/cgroup"));
    found.inspect_err(|error| tracing::info!(%error, "doing without cgroups")).ok()
}

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}
