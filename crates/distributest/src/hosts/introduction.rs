//! Connects to hosts' agents and tells them which run is calling, for which no plan is needed.

use std::path::PathBuf;

use distributest_protocol::client::ConnectError;
use distributest_protocol::wire;
use distributest_protocol::wire::hello::Place;

use super::link::Link;
use super::remote_agent::{self, RemoteAgentError};
use super::ssh::SshConnection;
use super::system_agent;
use super::{HostError, HostPlace, HostSpec};
use crate::agents::{Agent, AgentError, Patience};
use crate::config::HostConfig;

/// What hosts are told of a run before anything else.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// The project's directory on this machine.
    pub project: PathBuf,
    /// The greeting, without host name and place.
    pub hello: wire::Hello,
    /// Whether a host without an agent gets a private one.
    pub bootstrap: bool,
    /// How long silence is borne.
    pub patience: Patience,
}

impl Introduction {
    /// Greets the agent at the other end of a link. `connection` tells it from others to the same host.
    pub(super) async fn greet(
        &self,
        host: &HostSpec,
        link: Link,
        connection: u32,
    ) -> Result<Agent, AgentError> {
        Agent::greet(link, self.hello(host), connection, self.patience).await
    }

    /// Connects over ssh. A connection left from an earlier run may lead nowhere by now (the host was restarted, the
    /// laptop moved): then once more over a fresh one.
    pub(super) async fn connect(
        &self,
        host: &HostSpec,
        config: &HostConfig,
        connection: u32,
    ) -> Result<(Agent, SshConnection), HostError> {
        let ssh = SshConnection::open(config).await?;
        match self.reach(host, &ssh, connection).await {
            Err(HostError::RemoteAgent(RemoteAgentError::Ssh(_) | RemoteAgentError::NoBanner { .. }))
                if ssh.reused =>
            {
                ssh.discard().await;
                let ssh = SshConnection::open(config).await?;
                let agent = self.reach(host, &ssh, connection).await?;
                Ok((agent, ssh))
            }
            reached => Ok((reached?, ssh)),
        }
    }

    async fn reach(&self, host: &HostSpec, ssh: &SshConnection, connection: u32) -> Result<Agent, HostError> {
        let greet = async |link| self.greet(host, link, connection).await;
        let greeted = match system_agent::greet(ssh, greet).await? {
            Some(greeted) => greeted,
            None => greet(remote_agent::reach(ssh, self.bootstrap).await?).await,
        };
        match greeted {
            Err(AgentError::Connect(ConnectError::Version)) if self.bootstrap => {
                let link = remote_agent::reach_private(ssh).await?;
                Ok(self.greet(host, link, connection).await?)
            }
            greeted => Ok(greeted?),
        }
    }

    fn hello(&self, host: &HostSpec) -> wire::Hello {
        let place = match &host.place {
            HostPlace::Local { snapshot: false } | HostPlace::Dialed(_) => {
                Place::InPlace(self.project.display().to_string())
            }
            HostPlace::Local { snapshot: true } => Place::WorkspaceRoot(String::new()),
            HostPlace::Remote(config) => Place::WorkspaceRoot(config.remote_dir.clone().unwrap_or_default()),
        };
        wire::Hello { host_name: host.name.clone(), place: Some(place), ..self.hello.clone() }
    }
}
