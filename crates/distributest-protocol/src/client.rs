//! The coordinator's end of a connection: opens the session and the output stream over any byte stream.

use std::sync::{Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tower::service_fn;

use crate::flow;
use crate::wire;
use crate::wire::agent_client::AgentClient;

/// Orders on their way to one agent before the sender waits.
const ORDERS_IN_FLIGHT: usize = 64;

/// An open connection to an agent. Dropping it ends the run on that host.
pub struct AgentConnection {
    /// Orders to the agent; the `Hello` is already sent.
    pub orders: mpsc::Sender<wire::CoordinatorMessage>,
    /// What the agent says; the first message is a `Welcome` or a `Refusal`.
    pub updates: tonic::Streaming<wire::AgentMessage>,
    /// What hooks, workers and tests write.
    pub output: tonic::Streaming<wire::OutputChunk>,
}

/// Why no session could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// What answered does not speak gRPC over HTTP/2.
    #[error("failed to open a connection to the agent")]
    Transport(#[source] tonic::transport::Error),
    /// The agent does not know this version of the protocol.
    #[error("the agent speaks another version of the protocol")]
    Version,
    /// The agent refused or ended the call.
    #[error("failed to open a session: {}", .0.message())]
    Session(tonic::Status),
}

/// Opens a session with the agent at the other end of `stream` and greets it.
///
/// # Errors
///
/// When the other end is no agent, speaks another version, or goes away.
pub async fn connect<Stream>(stream: Stream, hello: wire::Hello) -> Result<AgentConnection, ConnectError>
where
    Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // The connector is called once: a broken connection ends the session, tonic must not make another.
    let stream = Mutex::new(Some(stream));
    let connector = service_fn(move |_| {
        let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            taken
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection to the agent has ended"))
        }
    });
    let channel = Endpoint::from_static("http://agent")
        .initial_stream_window_size(flow::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(flow::CONNECTION_WINDOW_BYTES)
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::Transport)?;
    let mut client = AgentClient::new(channel.clone()).max_decoding_message_size(flow::MESSAGE_LIMIT_BYTES);
    let mut output_client = AgentClient::new(channel).max_decoding_message_size(flow::CHUNK_LIMIT_BYTES);

    let (orders, outgoing) = mpsc::channel(ORDERS_IN_FLIGHT);
    let greeting = wire::CoordinatorMessage { kind: Some(wire::coordinator_message::Kind::Hello(hello)) };
    let greeted = orders.try_send(greeting);
    debug_assert!(greeted.is_ok(), "a new channel has room for one message");
    let updates = client.session(ReceiverStream::new(outgoing)).await.map_err(connect_error)?.into_inner();
    let output = output_client.output(wire::OutputRequest {}).await.map_err(connect_error)?.into_inner();
    Ok(AgentConnection { orders, updates, output })
}

fn connect_error(status: tonic::Status) -> ConnectError {
    match status.code() {
        tonic::Code::Unimplemented => ConnectError::Version,
        _ => ConnectError::Session(status),
    }
}
