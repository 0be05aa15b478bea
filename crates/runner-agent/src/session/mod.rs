//! The session process: serves one run to one coordinator.
//!
//! It is started by a watcher (the daemon, or the private agent's own small parent) with a control socket, over which it
//! is handed its connection and hears of slots. It ends with the run: when the coordinator ends it, when the connection
//! ends or is silent for the lease, when the watcher is gone, or on SIGTERM. Whatever the reason, every process of the
//! run is dead before it leaves; and should it be killed itself, its watcher kills what it leaves.

mod attempt;
mod command;
mod context;
mod driver;
mod environment;
mod hooks;
mod lane;
mod output;
mod private_directory;
mod programs;
mod slots;
mod worker;
mod worker_messages;
mod workspace;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use distributest_process::{Delegation, User};
use distributest_protocol::server::{self, CoordinatorConnection};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use rustix::process::set_parent_process_death_signal;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::context::{Cgroups, Updates};
use self::driver::Driver;
use self::output::OutputSink;
use self::slots::Slots;
use self::workspace::Workspace;
use crate::connection::Connection;
use crate::refusal::Refusal;
use crate::runtime;

/// How long a coordinator may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(30);

/// How long a coordinator may take to take what was sent before the session leaves.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How a session process behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionOptions {
    /// A daemon watches it and shares slots among runs; otherwise it is a private agent.
    pub(crate) resident: bool,
    /// Its own cgroup was made for it, and it may make others in it.
    pub(crate) cgroups: bool,
    /// It is only to say why the caller is not served.
    pub(crate) refusal: Option<Refusal>,
}

/// Why a session could not be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// It was not started by a watcher.
    #[error("failed to take the control socket; this command is run by runner-agent itself")]
    Control(#[source] io::Error),
    /// The watcher handed over no usable connection.
    #[error("failed to take over the connection")]
    Connection(#[source] io::Error),
    /// The runtime did not start.
    #[error("failed to start")]
    Start(#[source] io::Error),
}

/// Serves the connection the watcher hands over, to its end.
pub(crate) fn run(options: SessionOptions) -> Result<(), SessionError> {
    let control = distributest_process::take_control_socket().map_err(SessionError::Control)?;
    // The watcher's end is noticed on the control socket, and answered in order.
    set_parent_process_death_signal(None).map_err(|error| SessionError::Start(error.into()))?;
    let connection = Connection::receive(&control).map_err(SessionError::Connection)?;
    control.set_nonblocking(true).map_err(SessionError::Start)?;
    let runtime = runtime::new().map_err(SessionError::Start)?;
    let served = runtime.block_on(async {
        let control = UnixStream::from_std(control).map_err(SessionError::Start)?;
        serve(connection, control, options).await
    });
    // Nothing that still reads is worth waiting for.
    runtime.shutdown_background();
    served
}

async fn serve(
    connection: Connection,
    control: UnixStream,
    options: SessionOptions,
) -> Result<(), SessionError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SessionError::Start)?;
    let stream = connection.into_stream().map_err(SessionError::Connection)?;
    let (coordinator, served) = server::accept(stream);
    let (requests, receiver) = mpsc::unbounded_channel();
    let slots = if options.resident { Slots::Shared(requests.clone()) } else { Slots::Unlimited };
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = converse(coordinator, slots, options, &mut tasks) => {}
        () = slots::exchange(control, receiver) => tracing::warn!("the watcher is gone, the run is over"),
        _ = terminate.recv() => tracing::warn!("told to end, the run is over"),
    }
    // Aborts what runs and waits until it is gone; the trees they hold are killed with them.
    tasks.shutdown().await;
    drop(requests);
    served.close(CLOSE_LIMIT).await;
    Ok(())
}

/// Talks to the coordinator from its hello to the end of the run.
async fn converse(
    coordinator: CoordinatorConnection,
    slots: Slots,
    options: SessionOptions,
    tasks: &mut JoinSet<driver::TaskEnd>,
) {
    let CoordinatorConnection { mut orders, updates, output } = coordinator;
    let updates = Updates(updates);
    let first = tokio::time::timeout(HELLO_LIMIT, orders.recv()).await;
    let Ok(Some(wire::CoordinatorMessage { kind: Some(Order::Hello(hello)) })) = first else {
        tracing::warn!("the coordinator did not say hello");
        return;
    };
    if let Some(refusal) = options.refusal {
        let failure = Some(refusal.failure());
        return updates.send(Kind::Refusal(wire::Refusal { failure })).await;
    }
    let user = User::current().inspect_err(|error| tracing::warn!(%error, "the user is unknown")).ok();
    let home = home(user.as_ref());
    let workspace = match Workspace::open(&hello, home.as_deref()) {
        Ok(workspace) => workspace,
        Err(error) => {
            let failure = Some(wire::Failure::from(&error));
            return updates.send(Kind::Refusal(wire::Refusal { failure })).await;
        }
    };
    let welcome = welcome(&workspace, user.as_ref(), options);
    updates.send(Kind::Welcome(welcome)).await;
    let delegation = options.cgroups.then(find_delegation).flatten();
    let output = OutputSink::new(output);
    let cgroups = Cgroups::new(delegation);
    let over = Driver { hello, workspace, orders, updates, output, slots, cgroups }.drive(tasks).await;
    tracing::info!(?over, "the run is over");
}

fn welcome(workspace: &Workspace, user: Option<&User>, options: SessionOptions) -> wire::Welcome {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    wire::Welcome {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        resident: options.resident,
        workspace: workspace.directory().to_string_lossy().into_owned(),
        user: user.map(|user| user.name.clone()).unwrap_or_default(),
    }
}

/// The user's home: what the environment says, else the account.
fn home(user: Option<&User>) -> Option<PathBuf> {
    let said = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    said.or_else(|| user.map(|user| user.home.clone()))
}

fn find_delegation() -> Option<Delegation> {
    let found = Delegation::find(Path::new("/proc/self/mounts"), Path::new("/proc/self/cgroup"));
    found.inspect_err(|error| tracing::warn!(%error, "no cgroups for this run")).ok()
}
