//! One program that runs below the worker: started, followed, and ended with the worker.
//!
//! The program leads a session of its own. What it writes to a piped output is read as it comes and handed to the
//! caller in pieces, so nothing of it is kept here; an output that is not piped is the worker's own. While the program
//! runs, the agent is listened to: SIGTERM ends the program's process group with SIGTERM and waits for it, the end of
//! the agent does the same with SIGKILL.
//!
//! A program has ended when its process has, not when its outputs are closed: a daemon that it left behind holds
//! them open for as long as it likes. What programs behind a pipe (`exec > >(tee log)`) still write is waited for,
//! though not for long.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use distributest_process::{Exit, lead_session};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::stdio::{stderr, stdout};

use crate::link::{Link, Stop, wait_for};

/// How long outputs may stay open and silent after the program's end.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(200);

/// How much may still be written after the program's end; several times what pipes hold, so that nothing the
/// program itself wrote is lost.
const OUTPUT_AFTER_END_BYTES: usize = 16 * 1024 * 1024;

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
    Stdout,
    Both,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It could not be started.
    NotStarted(io::Error),
    /// It ran.
    Exited(Exit),
}

/// Takes what a program writes, as it writes it.
pub(crate) trait Reader {
    /// Takes the next bytes of an output. Where both outputs have some, those of standard output come first.
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
    mut command: Command,
    piped: Piped,
    link: &mut Link,
    reader: &mut dyn Reader,
) -> Result<Ending, Stop> {
    let mut running = match Running::start(&mut command, piped) {
        Ok(running) => running,
        Err(error) => return Ok(Ending::NotStarted(error)),
    };
    match running.follow(true, link, reader) {
        Ok(()) => running.reap(),
        Err(stop) => Err(running.stop(stop, link, reader)),
    }
}

/// A program that has been started.
struct Running {
    child: Child,
    /// Tells when it ends; `None` once it has.
    pidfd: Option<OwnedFd>,
    outputs: Vec<(Stream, File)>,
    /// How much was written since its end.
    after_end: usize,
}

impl Running {
    fn start(command: &mut Command, piped: Piped) -> io::Result<Running> {
        command.stdin(Stdio::null());
        lead_session(command);
        if piped != Piped::Neither {
            command.stdout(Stdio::piped());
        }
        if piped == Piped::Both {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let pidfd = Some(pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?);
        let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, OwnedFd::from(pipe).into()));
        let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, OwnedFd::from(pipe).into()));
        let outputs = stdout.into_iter().chain(stderr).collect();
        Ok(Running { child, pidfd, outputs, after_end: 0 })
    }

    /// Hands out what the program writes until it has ended and its outputs have, or are silent. While it listens, the
    /// agent can stop that.
    fn follow(&mut self, listens: bool, link: &mut Link, reader: &mut dyn Reader) -> Result<(), Stop> {
        let mut piece = vec![0; PIECE_BYTES];
        while self.pidfd.is_some() || !self.outputs.is_empty() && self.after_end < OUTPUT_AFTER_END_BYTES {
            let Some(news) = self.wait(listens, link)? else { break };
            link.look(news.of_agent)?;
            self.hand_out(&news.outputs, &mut piece, link, reader)?;
            if news.ended {
                self.pidfd = None;
            }
        }
        Ok(())
    }

    /// Waits for something to happen; `None` when what is left of an ended program is silent.
    fn wait(&self, listens: bool, link: &Link) -> Result<Option<News>, Stop> {
        let readable = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        let outputs = self.outputs.iter().map(|(_, output)| readable(output.as_fd()));
        let mut watched: Vec<PollFd<'_>> = outputs.collect();
        watched.extend(self.pidfd.iter().map(|pidfd| readable(pidfd.as_fd())));
        if listens {
            watched.extend(link.watched());
        }
        let patience = self.pidfd.is_none().then_some(OUTPUT_PATIENCE);
        if !wait_for(&mut watched, patience)? {
            return Ok(None);
        }
        let mut found = watched.iter().map(|descriptor| !descriptor.revents().is_empty());
        let outputs = self.outputs.iter().map(|_| found.next().unwrap_or_default()).collect();
        let ended = self.pidfd.is_some() && found.next().unwrap_or_default();
        let of_agent = [found.next().unwrap_or_default(), found.next().unwrap_or_default()];
        Ok(Some(News { outputs, ended, of_agent }))
    }

    /// Reads once from each output that has something; those at their end are done with.
    fn hand_out(
        &mut self,
        readable: &[bool],
        piece: &mut [u8],
        link: &mut Link,
        reader: &mut dyn Reader,
    ) -> Result<(), Stop> {
        let mut open = Vec::with_capacity(self.outputs.len());
        for ((stream, mut output), readable) in self.outputs.drain(..).zip(readable) {
            let length = if *readable { read_some(&mut output, piece)? } else { None };
            if let Some(length) = length {
                reader.read(stream, &piece[..length], link)?;
                if self.pidfd.is_none() {
                    self.after_end += length;
                }
            }
            if length != Some(0) {
                open.push((stream, output));
            }
        }
        self.outputs = open;
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

    fn reap(mut self) -> Result<Ending, Stop> {
        self.child.wait().map(|status| Ending::Exited(status.into())).map_err(Stop::Wait)
    }
}

/// What a wait found.
struct News {
    /// For each output whether it has something to read, or its end.
    outputs: Vec<bool>,
    /// The program has ended.
    ended: bool,
    /// As [`Link::look`] takes it.
    of_agent: [bool; 2],
}

/// Reads what is there; `None` when nothing was after all.
fn read_some(output: &mut File, piece: &mut [u8]) -> Result<Option<usize>, Stop> {
    match output.read(piece) {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(Stop::Wait(error)),
    }
}
