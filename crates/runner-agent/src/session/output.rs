//! Moves what processes write into numbered blocks on the output stream, losing nothing and holding little.
//!
//! Every process tree has one [`Capture`], which always has exactly one block open. Closing a block takes
//! everything that was written up to that moment into it and opens the next one; so what a worker writes between
//! two files opens the block of the next file, and what it writes after its last file has a block of its own. Memory is
//! bounded by what a pipe holds, for each pipe, and the output stream's own few chunks:
//! when the coordinator does not read, the pipes fill and the writers wait.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use distributest_process::drain_available;
use distributest_protocol::wire::{OutputBlock, OutputChunk};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::time_limit::LastHeard;

/// Where a session's output goes; cheap to clone.
#[derive(Clone)]
pub(crate) struct OutputSink {
    chunks: mpsc::Sender<OutputChunk>,
    last_block: Arc<AtomicU64>,
}

impl OutputSink {
    /// A sink whose blocks are numbered from 1.
    pub(crate) fn new(chunks: mpsc::Sender<OutputChunk>) -> Self {
        OutputSink { chunks, last_block: Arc::default() }
    }

    fn open_block(&self) -> OutputBlock {
        OutputBlock { number: self.last_block.fetch_add(1, Ordering::Relaxed) + 1, bytes: 0 }
    }
}

/// The reader of one process tree's standard output and standard error. Dropping it closes the pipes.
pub(crate) struct Capture {
    requests: mpsc::Sender<Request>,
    open_block: Arc<AtomicU64>,
    heard: LastHeard,
    task: AbortHandle,
}

impl Capture {
    /// Starts to read both pipes into a new block.
    pub(crate) fn start(stdout: Receiver, stderr: Receiver, sink: OutputSink) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let pipes = [Pipe::new(stdout, false), Pipe::new(stderr, true)];
        let block = sink.open_block();
        let open_block = Arc::new(AtomicU64::new(block.number));
        let heard = LastHeard::now();
        let (open, in_a_line) = (open_block.clone(), false);
        let reader = Reader { sink: Some(sink), block, open_block: open, heard: heard.clone(), in_a_line };
        let task = tokio::spawn(reader.read_both(pipes, receiver));
        Capture { requests, open_block, heard, task: task.abort_handle() }
    }

    /// The number of the open block.
    pub(crate) fn block_number(&self) -> u64 {
        self.open_block.load(Ordering::Relaxed)
    }

    /// When the processes were last heard: to the knowledge of this reader, and of who else notes it.
    pub(crate) fn heard(&self) -> LastHeard {
        self.heard.clone()
    }

    /// Closes the open block with everything written until now, and opens the next.
    ///
    /// Waits until the coordinator has taken what came before. A process that goes on writing is not waited for.
    pub(crate) async fn close_block(&self) -> OutputBlock {
        let (reply, block) = oneshot::channel();
        // The reader only ends before its handle when the runtime shuts down, and then nobody sees this block.
        let _ = self.requests.send(Request::Close(reply)).await;
        block.await.unwrap_or_default()
    }

    /// Lets go of the output stream, which ends: what is written from now on is read and lost.
    pub(crate) async fn detach(&self) {
        self.redirect(None).await;
    }

    /// Goes on with a new block in the output stream of another run.
    pub(crate) async fn attach(&self, sink: OutputSink) {
        self.redirect(Some(sink)).await;
    }

    async fn redirect(&self, sink: Option<OutputSink>) {
        let (done, redirected) = oneshot::channel();
        let _ = self.requests.send(Request::Redirect(sink, done)).await;
        let _ = redirected.await;
    }

    /// Adds lines of our own to the open block, behind everything written until now.
    pub(crate) async fn write(&self, lines: String) {
        let _ = self.requests.send(Request::Write(lines)).await;
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task behind a [`Capture`] is asked for.
enum Request {
    /// See [`Capture::close_block`].
    Close(oneshot::Sender<OutputBlock>),
    /// See [`Capture::write`].
    Write(String),
    /// See [`Capture::detach`] and [`Capture::attach`].
    Redirect(Option<OutputSink>, oneshot::Sender<()>),
}

/// The task behind a [`Capture`].
struct Reader {
    /// `None`: nobody wants it.
    sink: Option<OutputSink>,
    block: OutputBlock,
    open_block: Arc<AtomicU64>,
    heard: LastHeard,
    /// What was written last did not end its line.
    in_a_line: bool,
}

impl Reader {
    async fn read_both(mut self, [mut stdout, mut stderr]: [Pipe; 2], mut requests: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                bytes = stdout.read(), if !stdout.ended => self.send(false, bytes).await,
                bytes = stderr.read(), if !stderr.ended => self.send(true, bytes).await,
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    for pipe in [&stdout, &stderr] {
                        self.send(pipe.is_stderr, pipe.drain()).await;
                    }
                    self.serve(request).await;
                }
            }
        }
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Close(reply) => _ = reply.send(self.next_block()),
            Request::Redirect(sink, done) => {
                self.sink = sink;
                self.next_block();
                let _ = done.send(());
            }
            Request::Write(lines) => {
                let begin = if self.in_a_line { "\n" } else { "" };
                self.send(true, format!("{begin}{lines}").into_bytes()).await;
            }
        }
    }

    /// Opens the next block, and returns the one before.
    fn next_block(&mut self) -> OutputBlock {
        let next = self.sink.as_ref().map(OutputSink::open_block).unwrap_or_default();
        self.open_block.store(next.number, Ordering::Relaxed);
        self.in_a_line = false;
        std::mem::replace(&mut self.block, next)
    }

    /// Sends bytes and counts them. Once the connection has ended nobody wants them.
    async fn send(&mut self, stderr: bool, bytes: Vec<u8>) {
        if let Some(sink) = self.sink.as_ref().filter(|_| !bytes.is_empty()) {
            self.block.bytes += bytes.len() as u64;
            self.in_a_line = bytes.last() != Some(&b'\n');
            let chunk = OutputChunk { block: self.block.number, stderr, data: bytes.into(), plain_bytes: 0 };
            let _ = self.heard.while_passing_on(sink.chunks.send(chunk)).await;
        }
    }
}

/// The reading end of one pipe.
struct Pipe {
    receiver: Receiver,
    is_stderr: bool,
    ended: bool,
}

impl Pipe {
    fn new(receiver: Receiver, is_stderr: bool) -> Self {
        Pipe { receiver, is_stderr, ended: false }
    }

    /// Waits for bytes. None at the end; a pipe that can't be read has ended. Cancel-safe.
    async fn read(&mut self) -> Vec<u8> {
        loop {
            let readable = self.receiver.readable().await;
            // No more room than there are bytes: many processes never write any.
            let bytes = self.drain();
            if !bytes.is_empty() {
                return bytes;
            }
            let mut byte = [0];
            match readable.and_then(|()| self.receiver.try_read(&mut byte)) {
                // Others have read what made it readable.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => {
                    self.ended = true;
                    return Vec::new();
                }
                Ok(_) => return byte.into(),
            }
        }
    }

    /// Takes what is in the pipe at this moment.
    fn drain(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A pipe that can't be read has ended.
        let _ = drain_available(&self.receiver, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::*;

    struct Written {
        stdout: io::PipeWriter,
        stderr: io::PipeWriter,
        capture: Capture,
        chunks: mpsc::Receiver<OutputChunk>,
    }

    fn written() -> Written {
        let (sender, chunks) = mpsc::channel(4);
        let (stdout_reader, stdout) = io::pipe().unwrap();
        let (stderr_reader, stderr) = io::pipe().unwrap();
        let receiver = |reader: io::PipeReader| Receiver::from_owned_fd(reader.into()).unwrap();
        let capture =
            Capture::start(receiver(stdout_reader), receiver(stderr_reader), OutputSink::new(sender));
        Written { stdout, stderr, capture, chunks }
    }

    async fn bytes_of(chunks: &mut mpsc::Receiver<OutputChunk>, block: &OutputBlock) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < block.bytes {
            let chunk = chunks.recv().await.unwrap();
            assert_eq!(chunk.block, block.number);
            bytes.extend_from_slice(&chunk.data);
        }
        bytes
    }

    #[tokio::test]
    async fn a_closed_block_holds_everything_written_before() {
        let mut written = written();
        written.stdout.write_all(b"one ").unwrap();
        let first = written.capture.close_block().await;
        written.stdout.write_all(b"two").unwrap();
        let second = written.capture.close_block().await;
        assert_eq!((first.number, first.bytes, second.number, second.bytes), (1, 4, 2, 3));
        assert_eq!(bytes_of(&mut written.chunks, &first).await, b"one ");
        assert_eq!(bytes_of(&mut written.chunks, &second).await, b"two");
    }

    #[tokio::test]
    async fn lines_of_our_own_stand_behind_what_was_written_before() {
        let mut written = written();
        written.stdout.write_all(b"half a line").unwrap();
        written.capture.write("ours\n".to_owned()).await;
        written.capture.write("and this\n".to_owned()).await;
        let block = written.capture.close_block().await;
        assert_eq!(bytes_of(&mut written.chunks, &block).await, b"half a line\nours\nand this\n");
    }

    #[tokio::test]
    async fn what_is_written_between_two_runs_is_in_neither() {
        let mut written = written();
        written.stdout.write_all(b"first run").unwrap();
        let first = written.capture.close_block().await;
        written.capture.detach().await;
        written.stdout.write_all(b"nobody's").unwrap();
        assert_eq!(bytes_of(&mut written.chunks, &first).await, b"first run");
        assert!(written.chunks.recv().await.is_none(), "the first run's stream has ended");
        let (sender, mut chunks) = mpsc::channel(4);
        written.capture.attach(OutputSink::new(sender)).await;
        assert_eq!(written.capture.block_number(), 1);
        written.stdout.write_all(b"second run").unwrap();
        let second = written.capture.close_block().await;
        assert_eq!(bytes_of(&mut chunks, &second).await, b"second run");
        assert_eq!(second.bytes, 10);
    }

    #[tokio::test]
    async fn both_pipes_are_told_apart() {
        let mut written = written();
        written.stderr.write_all(b"\xff\x00").unwrap();
        let block = written.capture.close_block().await;
        assert_eq!(block.bytes, 2);
        let chunk = written.chunks.recv().await.unwrap();
        assert!(chunk.stderr);
        assert_eq!(chunk.data.as_ref(), b"\xff\x00");
    }

    #[tokio::test]
    async fn the_end_of_a_pipe_does_not_end_the_capture() {
        let Written { stdout, mut stderr, capture, .. } = written();
        drop(stdout);
        assert_eq!(capture.close_block().await.bytes, 0);
        stderr.write_all(b"still here").unwrap();
        drop(stderr);
        assert_eq!(capture.close_block().await.bytes, 10);
    }

    #[tokio::test]
    async fn an_unread_stream_stops_the_reading() {
        let Written { mut stdout, capture, mut chunks, .. } = written();
        let writer = tokio::task::spawn_blocking(move || stdout.write_all(&vec![b'x'; 4 << 20]));
        // Four chunks in the channel, one in the reader's hand, one pipe full: far from 4 MiB.
        while chunks.len() < 4 {
            tokio::task::yield_now().await;
        }
        assert!(!writer.is_finished());
        let mut bytes = 0;
        while bytes < 4 << 20 {
            bytes += chunks.recv().await.unwrap().data.len();
        }
        writer.await.unwrap().unwrap();
        assert_eq!(capture.close_block().await.bytes, 4 << 20);
    }
}
