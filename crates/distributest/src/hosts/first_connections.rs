//! Connects to hosts while the plan is made, so that neither waits for the other.
//!
//! Only the way to an agent is opened; nothing is said over it before there is a run to speak of. Making a plan may take
//! long: a way that leads nowhere any more when it is wanted is opened anew.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use distributest_core::identity::HostId;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::link::Link;
use super::remote_agent::{self, RemoteAgentError};
use super::ssh::SshConnection;
use super::{HostError, HostPlace, HostSpec};
use crate::config::HostConfig;

/// The ways to hosts that are opened ahead. Clones share them, and with the last one goes what nobody took.
#[derive(Clone, Default)]
pub struct FirstConnections(Arc<Mutex<HashMap<HostId, Opening>>>);

type Opening = AbortOnDropHandle<Result<(SshConnection, Link), HostError>>;

impl fmt::Debug for FirstConnections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FirstConnections").finish_non_exhaustive()
    }
}

impl FirstConnections {
    /// Begins to open the way to each of the hosts that is reached over ssh. Without `bootstrap`, none is brought an agent.
    pub fn open(runtime: &Handle, hosts: &[HostSpec], bootstrap: bool) -> FirstConnections {
        let open = |host: &HostSpec| {
            let HostPlace::Remote(config) = &host.place else { return None };
            let config = config.clone();
            let opening = runtime.spawn(async move { reach_agent(&config, bootstrap).await });
            Some((host.id, AbortOnDropHandle::new(opening)))
        };
        FirstConnections(Arc::new(Mutex::new(hosts.iter().filter_map(open).collect())))
    }

    /// The way to a host that is being opened. Can be had once.
    pub(super) fn take(&self, host: HostId) -> Option<Opening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&host)
    }
}

/// Opens the way to an agent. An ssh connection left from an earlier run may lead nowhere by now (the host was restarted,
/// the laptop moved): then once more over a fresh one.
pub(super) async fn reach_agent(
    config: &HostConfig,
    bootstrap: bool,
) -> Result<(SshConnection, Link), HostError> {
    let ssh = SshConnection::open(config).await?;
    match remote_agent::reach(&ssh, bootstrap).await {
        Err(RemoteAgentError::Ssh(_) | RemoteAgentError::NoBanner { .. }) if ssh.reused => {
            ssh.discard().await;
            let ssh = SshConnection::open(config).await?;
            let link = remote_agent::reach(&ssh, bootstrap).await?;
            Ok((ssh, link))
        }
        reached => Ok((ssh, reached?)),
    }
}
