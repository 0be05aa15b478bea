//! A connection between the coordinator and a host: two streams of bytes that take their time, get stuck, and break.
//!
//! What is written stays in flight for the latency and its turn on the line; while the host is cut off, or stands
//! still, nothing arrives, and nobody is told. A connection ends when one end lets go of it, which the other hears of
//! as it would of bytes, or by a fault, of which both, one or no end hears.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes in flight one way before the writer waits.
const IN_FLIGHT_LIMIT: usize = 256 * 1024;

/// Bytes below which a message is taken to need no time of the line. The answer to a call carries the date, whose
/// length on the wire is not the same every day, and must not matter.
const GRAIN: u64 = 1024;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Coordinator,
    Agent,
}

impl End {
    fn other(self) -> End {
        match self {
            End::Coordinator => End::Agent,
            End::Agent => End::Coordinator,
        }
    }
}

/// What all connections to a host have in common.
#[derive(Debug)]
pub(crate) struct Line {
    latency: Duration,
    bandwidth: Option<u64>,
    /// Until when nothing arrives at each end.
    held: Mutex<[Instant; 2]>,
}

impl Line {
    pub(crate) fn new(latency: Duration, bandwidth: Option<u64>) -> Line {
        let now = Instant::now();
        Line { latency, bandwidth, held: Mutex::new([now; 2]) }
    }

    /// Lets nothing arrive at an end until then.
    pub(crate) fn hold(&self, end: End, until: Instant) {
        let held = &mut self.held.lock().expect("nothing panics with it")[end as usize];
        *held = until.max(*held);
    }

    /// When something may arrive at an end again.
    pub(crate) fn held_until(&self, end: End) -> Instant {
        self.held.lock().expect("nothing panics with it")[end as usize]
    }
}

/// A connection, as the faults see it.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    line: Arc<Line>,
    /// The ways to each end.
    ways: Arc<Mutex<[Way; 2]>>,
}

/// The way to one end.
#[derive(Debug, Default)]
struct Way {
    in_flight: VecDeque<(Instant, VecDeque<u8>)>,
    bytes: usize,
    /// When the line has sent the last of them.
    sent: Option<Instant>,
    /// The other end has let go, and when this one may hear of it.
    closed: Option<Instant>,
    /// This end is told at once that the connection is broken.
    broken: bool,
    /// Whatever is sent vanishes.
    swallows: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Cable {
    /// Lays a connection: its coordinator's end and its agent's.
    pub(crate) fn lay(line: Arc<Line>) -> (Cable, Plug, Plug) {
        let cable = Cable { line, ways: Arc::default() };
        let plug = |end| Plug { cable: cable.clone(), end, alarm: Box::pin(sleep_until(Instant::now())) };
        let plugs = (plug(End::Coordinator), plug(End::Agent));
        (cable, plugs.0, plugs.1)
    }

    /// Breaks the connection; only these ends hear of it.
    pub(crate) fn cut(&self, heard_by: &[End]) {
        let mut ways = self.lock();
        for end in [End::Coordinator, End::Agent] {
            let way = &mut ways[end as usize];
            way.swallows = true;
            if heard_by.contains(&end) {
                way.broken = true;
            }
            way.in_flight.clear();
            way.bytes = 0;
        }
        ways.iter_mut().for_each(Way::wake);
    }

    /// Whether the coordinator has let go of the connection.
    pub(crate) fn is_dropped_by_coordinator(&self) -> bool {
        self.lock()[End::Agent as usize].closed.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, [Way; 2]> {
        self.ways.lock().expect("nothing panics with it")
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Plug {
    cable: Cable,
    end: End,
    /// Wakes the reader when the next bytes arrive.
    alarm: Pin<Box<Sleep>>,
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.hang_up();
        let mut ways = self.cable.lock();
        let way = &mut ways[self.end as usize];
        way.swallows = true;
        way.wake();
    }
}

impl Plug {
    /// Lets the other end know that nothing more comes.
    fn hang_up(&self) {
        let mut ways = self.cable.lock();
        let way = &mut ways[self.end.other() as usize];
        if way.closed.is_none() {
            let last = way.in_flight.back().map_or_else(Instant::now, |(arrives, _)| *arrives);
            way.closed = Some(last.max(Instant::now() + self.cable.line.latency));
            way.wake();
        }
    }
}

impl AsyncRead for Plug {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let mut ways = this.cable.lock();
            let way = &mut ways[this.end as usize];
            if way.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let arrives = match (way.in_flight.front(), way.closed) {
                (Some((arrives, _)), _) => Some(*arrives),
                (None, Some(closed)) if !way.swallows => Some(closed),
                (None, _) => None,
            };
            way.reader = Some(context.waker().clone());
            let Some(arrives) = arrives else { return Poll::Pending };
            let arrives = arrives.max(this.cable.line.held_until(this.end));
            if arrives <= Instant::now() {
                take(way, buffer);
                return Poll::Ready(Ok(()));
            }
            drop(ways);
            this.alarm.as_mut().reset(arrives);
            if this.alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Takes what arrived first; nothing when there is nothing, which is the end.
fn take(way: &mut Way, buffer: &mut ReadBuf<'_>) {
    let Some((_, bytes)) = way.in_flight.front_mut() else { return };
    let (contiguous, _) = bytes.as_slices();
    let count = contiguous.len().min(buffer.remaining());
    buffer.put_slice(&contiguous[..count]);
    bytes.drain(..count);
    if bytes.is_empty() {
        way.in_flight.pop_front();
    }
    way.bytes -= count;
    way.writer.take().into_iter().for_each(Waker::wake);
}

impl AsyncWrite for Plug {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let line = self.cable.line.clone();
        let mut ways = self.cable.lock();
        if ways[self.end as usize].broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let way = &mut ways[self.end.other() as usize];
        if way.swallows {
            return Poll::Ready(Ok(bytes.len()));
        }
        let count = bytes.len().min(IN_FLIGHT_LIMIT - way.bytes);
        if count == 0 && !bytes.is_empty() {
            way.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let begins = way.sent.unwrap_or_else(Instant::now).max(Instant::now());
        let grains = count as u64 / GRAIN;
        let takes =
            line.bandwidth.map(|bandwidth| Duration::from_micros(grains * GRAIN * 1_000_000 / bandwidth));
        let sent = begins + takes.unwrap_or_default();
        way.sent = Some(sent);
        way.bytes += count;
        way.in_flight.push_back((sent + line.latency, bytes[..count].iter().copied().collect()));
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hang_up();
        Poll::Ready(Ok(()))
    }
}
