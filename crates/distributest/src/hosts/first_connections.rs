//! Connects to hosts while the plan is made, so that neither waits for the other.
//!
//! Their agents look at their workspaces meanwhile. A connection that is lost before the plan is there is lost as any other.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use distributest_core::identity::HostId;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::introduction::Introduction;
use super::ssh::SshConnection;
use super::{FIRST_CONNECTION, HostError, HostPlace, HostSpec};
use crate::agents::Agent;

/// The connections that are made ahead. Clones share them, and with the last one goes what nobody took.
#[derive(Clone, Default)]
pub struct FirstConnections(Arc<Mutex<HashMap<HostId, Connecting>>>);

type Connecting = AbortOnDropHandle<Result<(Agent, SshConnection), HostError>>;

impl fmt::Debug for FirstConnections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FirstConnections").finish_non_exhaustive()
    }
}

impl FirstConnections {
    /// Begins to connect to each of the hosts that is reached over ssh.
    pub fn begin(runtime: &Handle, hosts: &[HostSpec], introduction: &Introduction) -> FirstConnections {
        let connect = |host: &HostSpec| {
            let HostPlace::Remote(config) = &host.place else { return None };
            let (host, config, introduction) = (host.clone(), config.clone(), introduction.clone());
            let id = host.id;
            let connecting = async move { introduction.connect(&host, &config, FIRST_CONNECTION).await };
            Some((id, AbortOnDropHandle::new(runtime.spawn(connecting))))
        };
        FirstConnections(Arc::new(Mutex::new(hosts.iter().filter_map(connect).collect())))
    }

    /// The connection to a host that is being made. Can be had once.
    pub(super) fn take(&self, host: HostId) -> Option<Connecting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&host)
    }
}
