//! The conversation with the agent, and the signal that ends it.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use distributest_core::usage::Usage;
use distributest_process::{Exit, ProcessUsage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Error as JsonError;

use crate::messages::{Message, Order};

/// The longest line the agent may write; it never writes one that comes close.
const LINE_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Why the worker ends before its work is done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// It was told to.
    #[error("told to end by SIGTERM")]
    Terminated,
    /// Nobody is there any more to work for.
    #[error("the agent is gone")]
    AgentGone,
    /// The agent said something that can't be understood.
    #[error("failed to read an order of the agent")]
    Order(#[source] JsonError),
    /// It does not end its line.
    #[error("an order of the agent is longer than {LINE_LIMIT_BYTES} bytes")]
    EndlessOrder,
    /// The system refused something without which there is no conversation.
    #[error("failed to wait for the agent")]
    Wait(#[source] io::Error),
}

/// The way to the agent.
pub(crate) struct Link {
    socket: UnixStream,
    /// Has something to read once SIGTERM came.
    terminated: UnixStream,
    received: Vec<u8>,
    orders: VecDeque<Order>,
    spent: Spent,
}

/// What the programs that were run for a file used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) usage: Usage,
    /// The signal that ended the last one of them that a signal ended.
    pub(crate) signal: Option<i32>,
}

impl Link {
    /// Talks over `socket`, and takes SIGTERM from now on as a reason to stop in order.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Link> {
        let (terminated, write) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(Signal::TERM.as_raw(), write)?;
        Ok(Link {
            socket,
            terminated,
            received: Vec::new(),
            orders: VecDeque::new(),
            spent: Spent::default(),
        })
    }

    /// A program has ended, which the agent is told with the end of the file.
    pub(crate) fn note_end(&mut self, exit: Exit, used: ProcessUsage) {
        let Usage { processor, peak_memory } = self.spent.usage;
        self.spent.usage.processor = Some(processor.unwrap_or_default().saturating_add(used.processor));
        self.spent.usage.peak_memory = peak_memory.max(Some(used.peak_memory));
        if let Exit::Signal(signal) = exit {
            self.spent.signal = Some(signal);
        }
    }

    /// What was used since the last time this was asked.
    pub(crate) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Tells the agent something.
    pub(crate) fn send(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        let mut line = serde_json::to_vec(message).map_err(|error| Stop::Wait(error.into()))?;
        line.push(b'\n');
        self.socket.write_all(&line).map_err(|_| Stop::AgentGone)
    }

    /// Waits for the next order.
    pub(crate) fn next_order(&mut self) -> Result<Order, Stop> {
        loop {
            if let Some(order) = self.orders.pop_front() {
                return Ok(order);
            }
            let mut watched = self.watched();
            wait_for(&mut watched, None)?;
            let found = watched.map(|descriptor| !descriptor.revents().is_empty());
            self.look(found)?;
        }
    }

    /// Listens to the agent for so long, or until it says something.
    pub(crate) fn listen_for(&mut self, time: Duration) -> Result<(), Stop> {
        let mut watched = self.watched();
        wait_for(&mut watched, Some(time))?;
        let found = watched.map(|descriptor| !descriptor.revents().is_empty());
        self.look(found)
    }

    /// What to poll for news of the agent.
    pub(crate) fn watched(&self) -> [PollFd<'_>; 2] {
        [&self.socket, &self.terminated]
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN))
    }

    /// Takes the news of the agent, where a poll found any on what is [`Link::watched`].
    pub(crate) fn look(&mut self, [socket, terminated]: [bool; 2]) -> Result<(), Stop> {
        if terminated {
            return Err(Stop::Terminated);
        }
        if socket { self.receive() } else { Ok(()) }
    }

    fn receive(&mut self) -> Result<(), Stop> {
        let mut bytes = [0; 4096];
        let length = match self.socket.read(&mut bytes) {
            Ok(0) | Err(_) => return Err(Stop::AgentGone),
            Ok(length) => length,
        };
        self.received.extend_from_slice(&bytes[..length]);
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                self.orders.push_back(serde_json::from_slice(&line).map_err(Stop::Order)?);
            }
        }
        if self.received.len() > LINE_LIMIT_BYTES { Err(Stop::EndlessOrder) } else { Ok(()) }
    }
}

/// Waits until one of the descriptors has something to say, or for so long. Returns whether one has.
pub(crate) fn wait_for(watched: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<bool, Stop> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    loop {
        match poll(watched, limit.as_ref()) {
            Err(Errno::INTR) => {}
            found => return found.map(|found| found > 0).map_err(|errno| Stop::Wait(errno.into())),
        }
    }
}
