//! The other side of a spawn: what a process was given by the one that started it as the root of a tree.

use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::spawn::{CONTROL_DESCRIPTOR, CONTROL_VARIABLE};

/// Whether the control socket has been taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the control socket this process was started with by [`crate::ProcessTree::spawn`]. Its descriptor is not
/// passed on to programs this process starts.
///
/// # Errors
///
/// `NotFound` when the environment names none or it was taken before; `ENOTSOCK` or `EBADF` when what is there is not
/// a socket.
pub fn take_control_socket() -> io::Result<UnixStream> {
    let named = std::env::var_os(CONTROL_VARIABLE);
    if named.is_none_or(|named| named != CONTROL_DESCRIPTOR.to_string().as_str()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: plain system calls on a descriptor number; a number that is not in use is refused.
    let refused = unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        if libc::fstat(CONTROL_DESCRIPTOR, &raw mut status) != 0 {
            Some(Errno::BADF)
        } else if status.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            Some(Errno::NOTSOCK)
        } else {
            libc::fcntl(CONTROL_DESCRIPTOR, libc::F_SETFD, libc::FD_CLOEXEC);
            None
        }
    };
    match refused {
        Some(errno) => Err(errno.into()),
        // SAFETY: the descriptor is open and a socket, and nobody else in this process owns it: it was there before
        // the first line of the program ran, and TAKEN lets it be taken once.
        None => Ok(unsafe { UnixStream::from_raw_fd(CONTROL_DESCRIPTOR) }),
    }
}
