//! The coordinator's end of a connection: opens the session and the output stream over any byte stream, and acknowledges
//! the output that is taken.

use std::sync::{Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::compression;
use crate::flow;
use crate::pace;
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
    pub output: Output,
}

/// What hooks, workers and tests of one connection write.
pub struct Output {
    chunks: tonic::Streaming<wire::OutputChunk>,
    /// How much of it was taken.
    taken: u64,
    /// How much of that the agent is told of.
    acknowledged: watch::Sender<u64>,
    /// Tells it. Without acknowledgements the agent would only send more at a time, so nobody asks how it ends.
    _telling: AbortOnDropHandle<()>,
}

impl Output {
    fn new(chunks: tonic::Streaming<wire::OutputChunk>, mut client: AgentClient<Channel>) -> Output {
        let (acknowledged, receiver) = watch::channel(0);
        let telling = tokio::spawn(async move {
            let taken = WatchStream::new(receiver).map(|bytes| wire::OutputTaken { bytes });
            let _ = client.acknowledge(taken).await;
        });
        Output { chunks, taken: 0, acknowledged, _telling: AbortOnDropHandle::new(telling) }
    }

    /// The next chunk; `None` once no more will come. Whoever asks for it has taken the one before.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or what comes is no chunk.
    pub async fn message(&mut self) -> Result<Option<wire::OutputChunk>, tonic::Status> {
        if self.taken - *self.acknowledged.borrow() >= pace::ACKNOWLEDGED_BYTES {
            self.acknowledged.send_replace(self.taken);
        }
        let chunk = self.chunks.message().await?;
        self.taken += chunk.as_ref().map_or(0, pace::weight);
        chunk.map(compression::decompress).transpose()
    }
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

/// Opens a session with the agent at the other end of `stream` and greets it. `compressed`: its output is worth compressing,
/// since it comes over a network.
///
/// # Errors
///
/// When the other end is no agent, speaks another version, or goes away.
pub async fn connect<Stream>(
    stream: Stream,
    hello: wire::Hello,
    compressed: bool,
) -> Result<AgentConnection, ConnectError>
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
        .initial_stream_window_size(flow::OUTPUT_WINDOW_BYTES)
        .initial_connection_window_size(flow::OUTPUT_CONNECTION_WINDOW_BYTES)
        .max_frame_size(flow::FRAME_BYTES)
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
    let request = wire::OutputRequest { compressed };
    let chunks = output_client.output(request).await.map_err(connect_error)?.into_inner();
    let output = Output::new(chunks, client);
    Ok(AgentConnection { orders, updates, output })
}

fn connect_error(status: tonic::Status) -> ConnectError {
    match status.code() {
        tonic::Code::Unimplemented => ConnectError::Version,
        _ => ConnectError::Session(status),
    }
}
