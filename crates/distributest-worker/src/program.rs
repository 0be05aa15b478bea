//! One program that runs below the worker: started, followed, and ended with the worker.
//!
//! The program leads a session of its own. What it writes to a piped output is read as it comes and handed to the
//! caller in pieces, so nothing of it is kept here; an output that is not piped is the worker's own. While the program
//! runs, the agent is listened to: SIGTERM ends the program's process group with SIGTERM and waits for it, the end of
//! the agent does the same with SIGKILL. Both wait for an agent that leaves what was written unread: it kills
//! what it does not want to wait for.
//!
//! A program has ended when its process has, not when its outputs are closed: a daemon that it left behind holds
//! them open for as long as it likes. What programs behind a pipe (`exec > >(tee log)`) still write is waited for,
//! though not for long.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use distributest_process::{Exit, lead_session, wait_with_usage};
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::stdio::{stderr, stdout};

use crate::link::{Link, Stop, wait_for};

/// How long outputs may stay open and silent after the program's end.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(200);

/// How much may still be written after the program's end; several times what pipes hold, so that nothing the
/// program itself wrote is lost.
const OUTPUT_AFTER_END_BYTES: usize = 16 * 1024 * 1024;

/// How long outputs are read after the program's end, however much is written there: what still writes is no longer the
/// test.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(2);

/// What of the environment is for the worker alone.
const WORKER_VARIABLES: [&str; 2] = ["DISTRIBUTEST_FD", "DISTRIBUTEST_ISOLATION"];

/// As much as a pipe holds.
const PIECE_BYTES: usize = 64 * 1024;

/// One of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Which outputs of a program are read here; the others are the worker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piped {
    Neither,
    Both,
    /// Both are one, which is read as standard output.
    Merged,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It could not be started.
    NotStarted(io::Error),
    /// It ran.
    Exited(Exit),
}

impl Ending {
    /// Whether somebody ended it who may not want anything like it to run now.
    pub(crate) fn is_from_outside(&self) -> bool {
        let signals = [Signal::TERM, Signal::KILL].map(Signal::as_raw);
        matches!(self, Ending::Exited(Exit::Signal(signal)) if signals.contains(signal))
    }
}

/// Takes what a program writes, as it writes it.
pub(crate) trait Reader {
    /// Takes the next bytes of an output. What a program wrote to standard error comes no later than what it wrote to
    /// standard output after it.
    fn read(&mut self, stream: Stream, bytes: &[u8], link: &mut Link) -> Result<(), Stop>;
}

/// For programs whose outputs are not piped.
pub(crate) struct NoReader;

impl Reader for NoReader {
    fn read(&mut self, _stream: Stream, _bytes: &[u8], _link: &mut Link) -> Result<(), Stop> {
        Ok(())
    }
}

/// Writes bytes of a test to the worker's own output. When nobody reads that any more, the agent is gone.
pub(crate) fn pass_on(stream: Stream, mut bytes: &[u8]) -> Result<(), Stop> {
    let output = match stream {
        Stream::Stdout => stdout(),
        Stream::Stderr => stderr(),
    };
    while !bytes.is_empty() {
        match rustix::io::write(output, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(_) => return Err(Stop::AgentGone),
        }
    }
    Ok(())
}

/// Runs a program to its end.
pub(crate) fn run(
    command: Command,
    piped: Piped,
    link: &mut Link,
    reader: &mut dyn Reader,
) -> Result<Ending, Stop> {
    let mut running = match Running::start(command, piped) {
        Ok(running) => running,
        Err(error) => return Ok(Ending::NotStarted(error)),
    };
    match running.follow(true, link, reader) {
        Ok(()) => running.reap(link),
        Err(stop) => Err(running.stop(stop, link, reader)),
    }
}

/// A program that has been started.
struct Running {
    child: Child,
    /// Tells when it ends; `None` once it has.
    pidfd: Option<OwnedFd>,
    /// Standard output first.
    outputs: Vec<Output>,
    /// How much was written since its end.
    after_end: usize,
}

/// An output that is read here.
struct Output {
    stream: Stream,
    /// Reads what is there, without waiting.
    pipe: File,
    piece: Vec<u8>,
}

impl Output {
    fn new(stream: Stream, pipe: OwnedFd) -> io::Result<Output> {
        ioctl_fionbio(&pipe, true)?;
        Ok(Output { stream, pipe: pipe.into(), piece: vec![0; PIECE_BYTES] })
    }

    /// Reads what is there: how much, 0 at the end, `None` when nothing is.
    fn read(&mut self) -> Result<Option<usize>, Stop> {
        match self.pipe.read(&mut self.piece) {
            Ok(length) => Ok(Some(length)),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Ok(None)
            }
            Err(error) => Err(Stop::Wait(error)),
        }
    }
}

impl Running {
    fn start(mut command: Command, piped: Piped) -> io::Result<Running> {
        command.stdin(Stdio::null());
        for variable in WORKER_VARIABLES {
            command.env_remove(variable);
        }
        lead_session(&mut command);
        let mut merged = None;
        match piped {
            Piped::Neither => {}
            Piped::Both => drop(command.stdout(Stdio::piped()).stderr(Stdio::piped())),
            Piped::Merged => {
                let (read, write) = io::pipe()?;
                command.stdout(write.try_clone()?).stderr(write);
                merged = Some(OwnedFd::from(read));
            }
        }
        let mut child = command.spawn()?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).inspect_err(|_| {
            // What can't be watched is not left running.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let stdout = merged.or(child.stdout.take().map(OwnedFd::from));
        let stderr = child.stderr.take().map(OwnedFd::from);
        let outputs = stdout
            .map(|pipe| (Stream::Stdout, pipe))
            .into_iter()
            .chain(stderr.map(|pipe| (Stream::Stderr, pipe)));
        let outputs = outputs.map(|(stream, pipe)| Output::new(stream, pipe)).collect::<io::Result<_>>()?;
        Ok(Running { child, pidfd: Some(pidfd), outputs, after_end: 0 })
    }

    /// Hands out what the program writes until it has ended and its outputs have, or are silent. While it listens, the
    /// agent can stop that.
    fn follow(&mut self, listens: bool, link: &mut Link, reader: &mut dyn Reader) -> Result<(), Stop> {
        let mut end = None;
        let is_late = |end: Option<Instant>| end.is_some_and(|end| end.elapsed() > OUTPUT_AFTER_END);
        while self.pidfd.is_some()
            || !self.outputs.is_empty() && self.after_end < OUTPUT_AFTER_END_BYTES && !is_late(end)
        {
            let Some(news) = self.wait(listens, link)? else { break };
            link.look(news.of_agent)?;
            self.hand_out(link, reader)?;
            if news.ended {
                self.pidfd = None;
                end = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Waits for something to happen; `None` when what is left of an ended program is silent.
    fn wait(&self, listens: bool, link: &Link) -> Result<Option<News>, Stop> {
        let readable = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        let mut watched: Vec<PollFd<'_>> = self.pidfd.iter().map(|pidfd| readable(pidfd.as_fd())).collect();
        if listens {
            watched.extend(link.watched());
        }
        watched.extend(self.outputs.iter().map(|output| readable(output.pipe.as_fd())));
        let patience = self.pidfd.is_none().then_some(OUTPUT_PATIENCE);
        if !wait_for(&mut watched, patience)? {
            return Ok(None);
        }
        let mut found = watched.iter().map(|descriptor| !descriptor.revents().is_empty());
        let ended = self.pidfd.is_some() && found.next().unwrap_or_default();
        let mut of_agent = || listens && found.next().unwrap_or_default();
        Ok(Some(News { ended, of_agent: [of_agent(), of_agent()] }))
    }

    /// Reads once from each output, and is done with those that are at their end.
    ///
    /// Standard output is read first and handed out last: whatever the program wrote to standard error before what is
    /// in that piece is in the pipe by then, which holds no more than a piece.
    fn hand_out(&mut self, link: &mut Link, reader: &mut dyn Reader) -> Result<(), Stop> {
        let lengths = self.outputs.iter_mut().map(Output::read).collect::<Result<Vec<_>, Stop>>()?;
        for (output, length) in self.outputs.iter().zip(&lengths).rev() {
            let length = length.unwrap_or_default();
            if length > 0 {
                reader.read(output.stream, &output.piece[..length], link)?;
            }
            if self.pidfd.is_none() {
                self.after_end += length;
            }
        }
        let mut lengths = lengths.into_iter();
        self.outputs.retain(|_| lengths.next() != Some(Some(0)));
        Ok(())
    }

    /// Ends the program because the worker has to; what it still writes is handed out if anybody reads it.
    fn stop(mut self, stop: Stop, link: &mut Link, reader: &mut dyn Reader) -> Stop {
        let signal = if matches!(stop, Stop::Terminated) { Signal::TERM } else { Signal::KILL };
        // It may have ended just now, but it has not been waited for, so nobody else can have its number.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
        if signal == Signal::TERM {
            let _ = self.follow(false, link, reader);
        }
        let _ = self.child.wait();
        stop
    }

    fn reap(self, link: &mut Link) -> Result<Ending, Stop> {
        let (exit, usage) = wait_with_usage(self.child).map_err(Stop::Wait)?;
        link.note_end(exit, usage);
        Ok(Ending::Exited(exit))
    }
}

/// What a wait found, besides output.
struct News {
    /// The program has ended.
    ended: bool,
    /// As [`Link::look`] takes it.
    of_agent: [bool; 2],
}
