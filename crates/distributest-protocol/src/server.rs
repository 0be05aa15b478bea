//! The agent's end of a connection: serves one session and its output stream over any byte stream.
//!
//! What the coordinator opens as two gRPC calls comes out here as three channels. `orders` ends when the session or
//! the connection does, whatever the reason; that is how an agent learns that its run is over.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use crate::compression;
use crate::flow;
use crate::gathering::{Gathered, Haste};
use crate::pace::{self, Pace};
use crate::wire;
use crate::wire::agent_server::{Agent, AgentServer};

/// Messages of the session under way, each direction, before their sender waits. Few, because one may be a whole
/// worker line.
const MESSAGES_IN_FLIGHT: usize = 16;

/// Chunks of output under way before the reader of the tests' pipes waits.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Calls a coordinator may have open at a time: the three there are, and some room for mistakes to be answered.
const CALL_LIMIT: u32 = 8;

/// One coordinator's connection, as its run sees it.
pub struct CoordinatorConnection {
    /// What the coordinator says; the first message is its `Hello`. Ends with the session or the connection.
    pub orders: mpsc::Receiver<wire::CoordinatorMessage>,
    /// The way to the coordinator; the first message is a `Welcome` or a `Refusal`.
    pub updates: mpsc::Sender<(wire::AgentMessage, Haste)>,
    /// What hooks, workers and tests write. Waits while the coordinator does not read.
    pub output: mpsc::Sender<wire::OutputChunk>,
}

/// The task that moves the bytes of a connection.
pub struct ServedConnection {
    close: oneshot::Sender<()>,
    /// Resolves once the coordinator has asked for the output, or is gone.
    opened: oneshot::Receiver<()>,
    task: JoinHandle<()>,
}

impl ServedConnection {
    /// Delivers what was sent and closes the connection. The senders of the [`CoordinatorConnection`] must be gone.
    ///
    /// Gives up on a coordinator that takes nothing more after `limit`.
    pub async fn close(self, limit: Duration) {
        let ServedConnection { close, opened, mut task } = self;
        let delivered = async {
            // A connection that ends before its second call fails as a whole, and what was said on it is lost.
            let _ = opened.await;
            // Nobody listens when the connection has already ended.
            let _ = close.send(());
            let _ = (&mut task).await;
        };
        if tokio::time::timeout(limit, delivered).await.is_err() {
            task.abort();
        }
    }
}

/// Serves the one connection `stream`. Must be called within a tokio runtime.
pub fn accept<Stream>(stream: Stream) -> (CoordinatorConnection, ServedConnection)
where
    Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (orders_sender, orders) = mpsc::channel(MESSAGES_IN_FLIGHT);
    let (updates, updates_receiver) = mpsc::channel(MESSAGES_IN_FLIGHT);
    let (output, output_receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (opened_sender, opened) = oneshot::channel();
    let (taken_sender, taken) = watch::channel(None);
    let output_call = OutputCall { chunks: output_receiver, pace: Pace::new(taken), opened: opened_sender };
    let service = OneRun {
        session: Mutex::new(Some((orders_sender, updates_receiver))),
        output: Mutex::new(Some(output_call)),
        taken: Mutex::new(Some(taken_sender)),
    };
    let (close, close_requested) = oneshot::channel::<()>();
    let (ended_sender, ended) = oneshot::channel();
    let stream = ServedStream { stream, _ended: ended_sender };
    let stopped = async move {
        tokio::select! {
            Ok(()) = close_requested => {}
            _ = ended => {}
        }
    };

    let service = AgentServer::new(service).max_decoding_message_size(flow::MESSAGE_LIMIT_BYTES);
    // The server closes gracefully as soon as no further connection can come, so it waits for one that never does.
    let incoming = tokio_stream::once(Ok::<_, io::Error>(stream)).chain(tokio_stream::pending());
    let served = Server::builder()
        .max_concurrent_streams(CALL_LIMIT)
        .initial_stream_window_size(flow::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(flow::CONNECTION_WINDOW_BYTES)
        .serve_with_incoming_shutdown(service, incoming, stopped);
    let task = tokio::spawn(async move {
        // It reports accept errors only, and there is nothing to accept.
        let _ = served.await;
    });
    (CoordinatorConnection { orders, updates, output }, ServedConnection { close, opened, task })
}

type Session = (mpsc::Sender<wire::CoordinatorMessage>, mpsc::Receiver<(wire::AgentMessage, Haste)>);

/// The service of one connection: each of its calls can be made once.
struct OneRun {
    session: Mutex<Option<Session>>,
    output: Mutex<Option<OutputCall>>,
    /// How many bytes of the output the coordinator says it has taken, as long as it says so.
    taken: Mutex<Option<watch::Sender<Option<u64>>>>,
}

/// What the call for the output needs.
struct OutputCall {
    chunks: mpsc::Receiver<wire::OutputChunk>,
    pace: Pace,
    /// To be told that the call was made.
    opened: oneshot::Sender<()>,
}

#[tonic::async_trait]
impl Agent for OneRun {
    type SessionStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::AgentMessage, Status>> + Send>>;
    type OutputStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::OutputChunk, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::CoordinatorMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (orders, updates) = take_once(&self.session)?;
        tokio::spawn(forward(request.into_inner(), orders));
        Ok(Response::new(Box::pin(Gathered::new(updates))))
    }

    async fn output(
        &self,
        request: Request<wire::OutputRequest>,
    ) -> Result<Response<Self::OutputStream>, Status> {
        let OutputCall { chunks, pace, opened } = take_once(&self.output)?;
        let _ = opened.send(());
        let (paced, paced_receiver) = mpsc::channel(1);
        tokio::spawn(send_paced(chunks, paced, pace, request.into_inner().compressed));
        Ok(Response::new(Box::pin(ReceiverStream::new(paced_receiver).map(Ok))))
    }

    async fn acknowledge(
        &self,
        request: Request<Streaming<wire::OutputTaken>>,
    ) -> Result<Response<wire::Acknowledged>, Status> {
        let taken = take_once(&self.taken)?;
        taken.send_replace(Some(0));
        let mut told = request.into_inner();
        let tell = async {
            while let Ok(Some(wire::OutputTaken { bytes })) = told.message().await {
                taken.send_replace(Some(bytes));
            }
        };
        tokio::select! {
            () = tell => {}
            () = taken.closed() => {}
        }
        Ok(Response::new(wire::Acknowledged {}))
    }
}

fn take_once<Channel>(slot: &Mutex<Option<Channel>>) -> Result<Channel, Status> {
    slot.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .ok_or_else(|| Status::failed_precondition("a connection serves one run"))
}

/// Moves orders from the call to the run until either ends. A broken call and a finished one mean the same.
async fn forward(
    mut incoming: Streaming<wire::CoordinatorMessage>,
    orders: mpsc::Sender<wire::CoordinatorMessage>,
) {
    while let Ok(Some(order)) = incoming.message().await {
        if orders.send(order).await.is_err() {
            return;
        }
    }
}

/// Moves chunks from the run to the call until either ends, no more at a time than may be under way.
async fn send_paced(
    mut chunks: mpsc::Receiver<wire::OutputChunk>,
    paced: mpsc::Sender<wire::OutputChunk>,
    mut pace: Pace,
    compressed: bool,
) {
    while let Some(chunk) = chunks.recv().await {
        let chunk = if compressed { compression::compress(chunk) } else { chunk };
        tokio::select! {
            () = pace.send(pace::weight(&chunk)) => {}
            () = paced.closed() => return,
        }
        if paced.send(chunk).await.is_err() {
            return;
        }
    }
}

/// A byte stream that tells, by dropping `_ended`, when the server has let go of it.
struct ServedStream<Stream> {
    stream: Stream,
    _ended: oneshot::Sender<()>,
}

impl<Stream> Connected for ServedStream<Stream> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<Stream: AsyncRead + Unpin> AsyncRead for ServedStream<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for ServedStream<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// A message and its header in one piece: each piece costs everybody on the way as much as a whole message.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
