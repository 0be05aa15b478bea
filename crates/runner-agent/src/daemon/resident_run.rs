//! One connection of a daemon: waits for its first byte, takes an idle session of its user or starts one, carries its
//! claims for slots, and sees to it that nothing is left when it ends but what may stay idle.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::chown;
use std::time::Duration;

use distributest_core::slots::SlotEvent;
use distributest_process::{Cgroup, CgroupError, Delegation, IdentityError, TreeRecords, User, Variables};
use rustix::net::{RecvFlags, recv};
use rustix::process::geteuid;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;

use super::admission::{Admission, admit};
use super::callers::Admitted;
use super::idle_sessions::{IdleSession, IdleSessions};
use crate::connection::Connection;
use crate::control_messages::{ControlMessage, hand_over};
use crate::refusal::Refusal;
use crate::runtime::LOG_VARIABLE;
use crate::session::ResidentOptions;
use crate::watcher::{SessionSpec, WatchError, WatchedSession};

/// Where system users' programs are.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a caller may take to say its first byte, which every coordinator does at once.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(10);

/// Claims one run may have at a time; no honest session has more than it has runners.
const CLAIM_LIMIT: usize = 4096;

/// How long a session that is told to end may take to end its run in order.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The user as whom callers are told why they are not served.
const UNPRIVILEGED_USER: &str = "nobody";

/// A connection on its way to becoming a run.
pub(crate) struct ResidentRun {
    /// The daemon's number for it.
    pub(crate) number: u64,
    /// Who calls.
    pub(crate) peer: u32,
    /// Its place among that user's connections.
    pub(crate) admitted: Admitted,
    /// How much may execute at once, all runs together.
    pub(crate) slots: usize,
    /// Whether root may run tests.
    pub(crate) allow_root: bool,
    /// Where to make its cgroup.
    pub(crate) delegation: Option<Delegation>,
    /// Where it is on record.
    pub(crate) records: TreeRecords,
    /// Claims and releases, for the arbiter.
    pub(crate) events: mpsc::Sender<SlotEvent>,
    /// Sessions that wait for a run.
    pub(crate) idle_sessions: IdleSessions,
    /// What the arbiter says to it. Its end is the order to stop.
    pub(crate) grants: mpsc::UnboundedReceiver<ControlMessage>,
}

/// Why a connection was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResidentRunError {
    #[error("failed to listen to the caller")]
    FirstByte(#[source] io::Error),
    #[error("failed to learn who calls")]
    Peer(#[source] io::Error),
    #[error("failed to look up the caller")]
    Identity(#[from] IdentityError),
    #[error("failed to take the connection over")]
    Connection(#[source] io::Error),
    #[error("failed to hand the connection to its session")]
    HandOver(#[source] io::Error),
    #[error("failed to make the run's cgroup")]
    Cgroup(#[from] CgroupError),
    #[error("failed to give the run's cgroup to its user")]
    GiveCgroup(#[source] io::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl ResidentRun {
    /// Serves the connection until its session is over and nothing of it is left.
    pub(crate) async fn serve(self, connection: UnixStream) -> Result<(), ResidentRunError> {
        let (own, allow_root, peer) = (geteuid().as_raw(), self.allow_root, self.peer);
        match tokio::time::timeout(FIRST_BYTE_LIMIT, says_something(&connection)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(()),
            Ok(Err(error)) => return Err(ResidentRunError::FirstByte(error)),
            Err(_) => {
                tracing::info!(run = self.number, peer, "a caller said nothing, the connection is closed");
                return Ok(());
            }
        }
        // Accounts may live on the network.
        let decision = tokio::task::spawn_blocking(move || admit(own, peer, allow_root)).await;
        let mut admission = decision.map_err(|error| ResidentRunError::Peer(error.into()))??;
        if self.admitted.one_too_many {
            admission = Admission::Refuse(Refusal::TooManyRuns);
        }
        tracing::info!(run = self.number, peer, %admission, "a coordinator called");
        let connection = connection.into_std().and_then(|stream| Connection::of_socket(stream.into()));
        let connection = connection.map_err(ResidentRunError::Connection)?;
        let IdleSession { session, control, user } = self.session_for(connection, admission).await?;
        self.attend(session, control, user).await;
        Ok(())
    }

    /// Hands the connection to an idle session of its user, or to a new one.
    async fn session_for(
        &self,
        connection: Connection,
        admission: Admission,
    ) -> Result<IdleSession, ResidentRunError> {
        let idle = match &admission {
            Admission::ServeAsSelf => self.idle_sessions.take(None).await,
            Admission::ServeAs(user) => self.idle_sessions.take(Some(user)).await,
            Admission::Refuse(_) => None,
        };
        if let Some(idle) = idle {
            // One that has just died takes nothing.
            if idle.session.poll_exit().is_none() && hand_over(&connection, &idle.control).is_ok() {
                return Ok(idle);
            }
        }
        let spec = self.session_spec(admission)?;
        let user = spec.user.clone();
        let (session, control) = WatchedSession::start(spec).await?;
        hand_over(&connection, &control).map_err(ResidentRunError::HandOver)?;
        Ok(IdleSession { session, control, user })
    }

    /// Serves a session's claims until its run is over. Then it stays idle, or is ended with all it left.
    async fn attend(self, mut session: WatchedSession, control: UnixStream, user: Option<User>) {
        let (mut reader, mut writer) = control.into_split();
        let ResidentRun { number, events, mut grants, admitted, idle_sessions, .. } = self;
        let stop_wanted = async {
            while let Some(message) = grants.recv().await {
                if message.write(&mut writer).await.is_err() {
                    // The session is about to end.
                    std::future::pending::<()>().await;
                }
            }
        };
        let idle = async {
            match forward_claims(number, &mut reader, events).await {
                Some(useful) => useful,
                None => std::future::pending().await,
            }
        };
        let (grace, useful) = tokio::select! {
            _ = session.exited() => (Duration::ZERO, None),
            () = stop_wanted => (STOP_GRACE, None),
            useful = idle => (STOP_GRACE, Some(useful)),
        };
        if let (Some(useful), Ok(control)) = (useful, reader.reunite(writer)) {
            drop(admitted);
            idle_sessions.keep(IdleSession { session, control, user }, useful).await;
            return;
        }
        let exit = session.end(grace).await;
        tracing::info!(run = number, exit = exit.map(tracing::field::display), "a session ended");
    }

    fn session_spec(&self, admission: Admission) -> Result<SessionSpec, ResidentRunError> {
        let mut options = ResidentOptions { slots: self.slots, cgroups: false, refusal: None };
        let user = match admission {
            Admission::ServeAsSelf => None,
            Admission::ServeAs(user) => Some(user),
            Admission::Refuse(refusal) => {
                options.refusal = Some(refusal);
                // Nobody's bytes are parsed as root.
                geteuid().is_root().then(|| User::by_name(UNPRIVILEGED_USER)).transpose()?
            }
        };
        let identity = user.clone().map_or_else(User::current, Ok)?;
        let cgroup = match &self.delegation {
            Some(delegation) => Some(make_cgroup(delegation, self.number, &identity)?),
            None => None,
        };
        options.cgroups = cgroup.is_some();
        let (environment, records) = (environment_of(&identity), self.records.clone());
        Ok(SessionSpec { options, environment, user, cgroup, records })
    }
}

/// Waits until the caller's first byte is there to be read; `false` when it hung up without one.
async fn says_something(connection: &UnixStream) -> io::Result<bool> {
    loop {
        connection.readable().await?;
        let looked = connection.try_io(Interest::READABLE, || {
            Ok(recv(connection, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT)?)
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked.map(|(_, bytes)| bytes > 0),
        }
    }
}

/// Makes a cgroup the user may divide further.
fn make_cgroup(delegation: &Delegation, number: u64, user: &User) -> Result<Cgroup, ResidentRunError> {
    let cgroup = delegation.create_child(&format!("run-{number}"))?;
    let directory = cgroup.directory();
    let given = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
        .into_iter()
        .try_for_each(|file| chown(directory.join(file), Some(user.uid), Some(user.gid)));
    given.map_err(ResidentRunError::GiveCgroup)?;
    Ok(cgroup)
}

/// What a login would set, and nothing of the daemon's own.
fn environment_of(user: &User) -> Variables {
    let own_path = std::env::var_os("PATH").filter(|_| !geteuid().is_root());
    let mut environment = vec![
        ("HOME".into(), user.home.clone().into()),
        ("USER".into(), user.name.clone().into()),
        ("LOGNAME".into(), user.name.clone().into()),
        ("SHELL".into(), user.shell.clone().into()),
        ("PATH".into(), own_path.unwrap_or_else(|| SYSTEM_PATH.into())),
    ];
    environment.extend(std::env::var_os(LOG_VARIABLE).map(|level| (LOG_VARIABLE.into(), level)));
    environment.into_iter().collect()
}

/// Passes a session's claims on until its run is over. Returns how long it is of use then, if it stays.
async fn forward_claims(
    run: u64,
    reader: &mut OwnedReadHalf,
    events: mpsc::Sender<SlotEvent>,
) -> Option<Duration> {
    let mut claims = HashSet::new();
    while let Ok(message) = ControlMessage::read(reader).await {
        let event = match message {
            ControlMessage::Claim(claim) if claims.len() < CLAIM_LIMIT && claims.insert(claim) => {
                SlotEvent::Claimed { run, claim }
            }
            ControlMessage::Release(claim) if claims.remove(&claim) => SlotEvent::Released { run, claim },
            ControlMessage::Idle(milliseconds) => return Some(Duration::from_millis(milliseconds)),
            _ => continue,
        };
        if events.send(event).await.is_err() {
            break;
        }
    }
    None
}
