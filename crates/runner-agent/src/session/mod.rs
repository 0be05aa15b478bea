//! The session process: serves one run to one coordinator.
//!
//! It has a watcher: the daemon, which hands it its connection and tells it of slots over a control socket, or the
//! private agent's guardian. It ends with the run: when the coordinator ends it, when the connection ends or is
//! silent for the lease, when the watcher is gone, or on SIGTERM, SIGINT or SIGHUP. Whatever the reason, every
//! process of the run is dead before it leaves; and should it be killed itself, its watcher kills what it leaves.
//!
//! After a run that the coordinator has ended it may stay, with nothing but workers that wait for the next run (`warm`):
//! it tells the daemon so, and waits to be handed another connection of its user or to be ended.

mod attempt;
mod command;
mod context;
mod driver;
mod environment;
mod hang;
mod hooks;
mod identifiers;
mod lane;
mod lane_queue;
mod output;
mod private_directory;
mod programs;
mod slots;
mod snapshot;
mod sync;
mod time_limit;
mod warm;
mod worker;
mod worker_messages;
mod workspace;

use std::io;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use distributest_process::{
    CgroupPool, Delegation, User, available_memory, become_subreaper, reap_orphans, release_code,
};
use distributest_protocol::server::{self, CoordinatorConnection};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use rustix::process::set_parent_process_death_signal;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::context::Updates;
use self::driver::{Driver, RunOver};
use self::lane_queue::QUEUE_LIMIT;
use self::output::OutputSink;
use self::slots::{SharedSlots, Slots};
use self::warm::WarmWorkers;
use self::workspace::Workspace;
use crate::connection::Connection;
use crate::refusal::Refusal;
use crate::runtime;

/// How long a coordinator may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(30);

/// How long a coordinator may take to take what was sent to it before the session leaves: everything, when the run
/// ended in order; otherwise what a connection that works takes in no time.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
const ABANDON_LIMIT: Duration = Duration::from_millis(300);

/// Where the kernel tells of processes and memory.
const PROC: &str = "/proc";

/// What a daemon tells a session it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResidentOptions {
    /// How much may execute at once on this host.
    pub(crate) slots: usize,
    /// Its own cgroup was made for it, and it may make others in it.
    pub(crate) cgroups: bool,
    /// It is only to say why the caller is not served.
    pub(crate) refusal: Option<Refusal>,
}

/// Who cleans up after a session that can't.
pub(crate) enum Watcher {
    /// The private agent's, with the one connection there is. Its end comes as SIGTERM.
    Guardian(Connection),
    /// The daemon, at the other end of the control socket.
    Daemon(BlockingUnixStream, ResidentOptions),
}

/// Why a session could not be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// It was not started by a daemon.
    #[error("failed to take the control socket; this command is run by runner-agent itself")]
    Control(#[source] io::Error),
    /// There is no usable connection.
    #[error("failed to take over the connection")]
    Connection(#[source] io::Error),
    /// The runtime did not start.
    #[error("failed to start")]
    Start(#[source] io::Error),
}

/// Serves the connections a daemon hands over, one after another.
pub(crate) fn run_resident(options: ResidentOptions) -> Result<(), SessionError> {
    let control = distributest_process::take_control_socket().map_err(SessionError::Control)?;
    // The daemon's end is noticed on the control socket, and answered in order.
    set_parent_process_death_signal(None).map_err(|errno| SessionError::Start(errno.into()))?;
    control.set_nonblocking(true).map_err(SessionError::Start)?;
    run(Watcher::Daemon(control, options))
}

/// Serves what comes from the watcher.
pub(crate) fn run(watcher: Watcher) -> Result<(), SessionError> {
    // It was started as /proc/self/exe, which says nothing to somebody who looks at a list of processes.
    let _ = std::fs::write("/proc/self/comm", "runner-agent");
    let runtime = runtime::new().map_err(SessionError::Start)?;
    let served = runtime.block_on(serve(watcher));
    // Nothing that still reads is worth waiting for.
    runtime.shutdown_background();
    served
}

async fn serve(watcher: Watcher) -> Result<(), SessionError> {
    become_subreaper().map_err(SessionError::Start)?;
    let told_to_end = told_to_end().map_err(SessionError::Start)?;
    let Watched { slots, options, mut connections, gone } = watch(watcher)?;
    let cut_short = async {
        tokio::select! {
            () = gone => RunOver::WatcherGone,
            () = told_to_end => RunOver::Terminated,
            error = reap_orphans() => {
                tracing::error!(?error, "failed to wait for orphans");
                RunOver::Terminated
            }
        }
    };
    tokio::pin!(cut_short);
    let delegation = options.filter(|options| options.cgroups).and_then(|_| find_delegation());
    let mut host =
        Host { slots, options, cgroups: delegation.map(CgroupPool::new), warm: WarmWorkers::default() };
    loop {
        let connection = tokio::select! {
            connection = connections.recv() => connection,
            _ = &mut cut_short => None,
            () = host.warm.expire() => None,
        };
        let Some(connection) = connection else { return Ok(()) };
        let over = host.serve(connection, cut_short.as_mut()).await?;
        tracing::info!(?over, "the run is over");
        // A coordinator that goes before its run began has found that there is nothing to run.
        let in_order = match over {
            RunOver::Ended => true,
            RunOver::CoordinatorGone => !host.warm.serves_a_run(),
            RunOver::Refused | RunOver::WatcherGone | RunOver::Terminated => false,
        };
        if !in_order || !host.stays().await {
            return Ok(());
        }
        release_code();
    }
}

/// What stays from run to run.
struct Host {
    slots: Slots,
    options: Option<ResidentOptions>,
    cgroups: Option<CgroupPool>,
    warm: WarmWorkers,
}

impl Host {
    /// Serves one connection to its end, or until the session is cut short.
    async fn serve(
        &mut self,
        connection: Connection,
        cut_short: Pin<&mut impl Future<Output = RunOver>>,
    ) -> Result<RunOver, SessionError> {
        let stream = connection.into_stream().map_err(SessionError::Connection)?;
        let (coordinator, served) = server::accept(stream);
        let mut tasks = JoinSet::new();
        let over = tokio::select! {
            over = self.converse(coordinator, &mut tasks) => over,
            over = cut_short => over,
        };
        // Aborts what runs and waits until it is gone; the trees they hold are killed with them.
        tasks.shutdown().await;
        self.slots.release_kept();
        let in_order = matches!(over, RunOver::Ended | RunOver::Refused);
        served.close(if in_order { CLOSE_LIMIT } else { ABANDON_LIMIT }).await;
        Ok(over)
    }

    /// Takes over what the run has left, and tells the daemon how long this session is of use for it. Without anything to
    /// keep, or anybody who watches over it, it is of none.
    async fn stays(&mut self) -> bool {
        self.warm.end().await;
        let (Some(remaining), Slots::Shared(slots)) = (self.warm.remaining(), &self.slots) else {
            return false;
        };
        let milliseconds = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
        slots.be_idle(milliseconds)
    }

    /// Talks to the coordinator from its hello to the end of the run.
    async fn converse(
        &mut self,
        coordinator: CoordinatorConnection,
        tasks: &mut JoinSet<driver::TaskEnd>,
    ) -> RunOver {
        let CoordinatorConnection { mut orders, updates, output } = coordinator;
        let updates = Updates(updates);
        let first = tokio::time::timeout(HELLO_LIMIT, orders.recv()).await;
        let Ok(Some(wire::CoordinatorMessage { kind: Some(Order::Hello(hello)) })) = first else {
            tracing::info!("the coordinator did not say hello");
            return RunOver::CoordinatorGone;
        };
        if let Some(refusal) = self.options.and_then(|options| options.refusal) {
            return driver::refuse(&updates, refusal.failure(), HELLO_LIMIT).await;
        }
        let (user, home) = user_and_home(self.options);
        let workspace = match Workspace::open(&hello, home.as_deref()) {
            Ok(workspace) => workspace,
            Err(error) => {
                return driver::refuse(&updates, wire::Failure::from(&error), HELLO_LIMIT).await;
            }
        };
        let welcome = welcome(&workspace, user, self.options);
        updates.send(Kind::Welcome(welcome)).await;
        let synced = sync::synchronise(&hello, workspace, &mut orders, &updates).await;
        let (workspace, first_order) = match synced {
            Ok(synced) => synced,
            Err(over) => return over,
        };
        let output = OutputSink::new(output);
        let (slots, cgroups, warm) = (self.slots.clone(), self.cgroups.clone(), &mut self.warm);
        let driver =
            Driver { hello, home, workspace, first_order, orders, updates, output, slots, cgroups, warm };
        driver.drive(tasks).await
    }
}

/// Waits for the signals by which processes are told to end.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// What a session has of its watcher: slots, orders, connections, and the news of its end.
struct Watched {
    slots: Slots,
    options: Option<ResidentOptions>,
    connections: mpsc::UnboundedReceiver<Connection>,
    gone: Pin<Box<dyn Future<Output = ()>>>,
}

fn watch(watcher: Watcher) -> Result<Watched, SessionError> {
    let (handed_over, connections) = mpsc::unbounded_channel();
    match watcher {
        Watcher::Guardian(connection) => {
            // Its receiver is right here.
            let _ = handed_over.send(connection);
            let (slots, gone) = (Slots::Unlimited, Box::pin(std::future::pending()));
            Ok(Watched { slots, options: None, connections, gone })
        }
        Watcher::Daemon(control, options) => {
            let control = UnixStream::from_std(control).map_err(SessionError::Start)?;
            let (requests, receiver) = mpsc::unbounded_channel();
            let slots = SharedSlots::new(requests);
            let gone = Box::pin(slots::exchange(control, slots.clone(), receiver, handed_over));
            Ok(Watched { slots: Slots::Shared(slots), options: Some(options), connections, gone })
        }
    }
}

fn welcome(workspace: &Workspace, user: String, options: Option<ResidentOptions>) -> wire::Welcome {
    // More runners than slots would only wait.
    let cores = options.map_or_else(crate::config::cores, |options| options.slots);
    wire::Welcome {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        resident: options.is_some(),
        workspace: workspace.directory().to_string_lossy().into_owned(),
        user,
        queue_limit: u32::try_from(QUEUE_LIMIT).unwrap_or(u32::MAX),
        tree_format: if workspace.is_synced() { distributest_tree::tree::FORMAT } else { 0 },
        memory_bytes: available_memory(Path::new(PROC)).unwrap_or_default(),
    }
}

/// The user's name, empty if it is unknown, and home. A daemon has put both into the environment: to look an account up loads
/// libraries that stay in memory. Otherwise the account says it, but for a home that the environment names.
fn user_and_home(options: Option<ResidentOptions>) -> (String, Option<PathBuf>) {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    if let (Some(_), Some(home), Ok(name)) = (options, &home, std::env::var("USER")) {
        return (name, Some(home.clone()));
    }
    match User::current() {
        Ok(user) => (user.name, home.or(Some(user.home))),
        Err(error) => {
            tracing::warn!(%error, "the user is unknown");
            (String::new(), home)
        }
    }
}

fn find_delegation() -> Option<Delegation> {
    let found = Delegation::find(Path::new("/proc/self/mounts"), Path::new("/proc/self/cgroup"));
    found.inspect_err(|error| tracing::warn!(%error, "no cgroups for this run")).ok()
}
