//! Waits for a child and learns what it used.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};

use crate::exit::Exit;

/// What a process used, together with those it started and waited for. What it left running is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Processor time of all of them, in the kernel too.
    pub processor: Duration,
    /// The most memory that any one of them had resident at a time, in bytes. A root of a tree counts what the process
    /// that started it had as its own, because it shared that until it executed its program.
    pub peak_memory: u64,
}

/// Waits for a child that nobody has waited for, and looks at what it used.
///
/// # Errors
///
/// When it is not a child of this process (any more).
pub fn wait_with_usage(child: Child) -> io::Result<(Exit, ProcessUsage)> {
    loop {
        if let Some(waited) = wait_for(Pid::from_child(&child), WaitOptions::empty())? {
            return Ok(waited);
        }
    }
}

/// How a child ended and what it used; `None` while it has not ended, where it is not to be waited for.
pub(crate) fn wait_for(child: Pid, options: WaitOptions) -> io::Result<Option<(Exit, ProcessUsage)>> {
    let options = i32::try_from(options.bits()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to places of the right types that outlive the call.
        let waited = unsafe { libc::wait4(child.as_raw_pid(), &raw mut status, options, usage.as_mut_ptr()) };
        match waited {
            0 => return Ok(None),
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            _ => {
                // SAFETY: it is filled in, and any bytes are a valid one: it consists of integers.
                let usage = unsafe { usage.assume_init() };
                return Ok(Some((ExitStatus::from_raw(status).into(), usage.into())));
            }
        }
    }
}

impl From<libc::rusage> for ProcessUsage {
    fn from(usage: libc::rusage) -> ProcessUsage {
        let time = |time: libc::timeval| {
            let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
            seconds + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        ProcessUsage {
            processor: time(usage.ru_utime) + time(usage.ru_stime),
            // Linux counts it in KiB.
            peak_memory: usage.ru_maxrss.unsigned_abs() * 1024,
        }
    }
}
