//! Makes a process in a cgroup, where it need not join it.
//!
//! To join one costs little as long as processes do it all the time, and some milliseconds otherwise: the kernel waits until
//! no processor looks at the former membership. With clone3(2) there is none. The C library has no function for it, and a
//! child that shares the memory of its parent needs a stack of its own from its first instruction on.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use libc::{c_int, c_void};

/// Makes a child of this process that is in `cgroup`, a directory, and calls `run` with `argument` on its stack: that returns
/// its exit status. `flags` are those of clone(2); the kernel clears `word` as they say. Returns the child's number; `None`
/// where there is none, because this kernel, or this architecture, does not do it, or for any other reason.
///
/// # Safety
///
/// As of clone(2): the stack and what the child uses of this process's memory stay until it has another one. The stack's ends
/// are aligned to 16 bytes.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn clone_inside(
    cgroup: BorrowedFd<'_>,
    flags: c_int,
    stack: Range<*mut u8>,
    word: *mut c_int,
    run: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Option<c_int> {
    use std::os::fd::AsRawFd as _;

    /// Of linux/sched.h, since Linux 5.7.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

    // SAFETY: plain numbers, for all of which zero means: nothing is wanted.
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.flags = u64::from(flags.unsigned_abs()) | CLONE_INTO_CGROUP;
    wanted.child_tid = word as u64;
    wanted.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    wanted.stack = stack.start as u64;
    wanted.stack_size = stack.end as u64 - stack.start as u64;
    wanted.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    let pid: i64;
    // SAFETY: the kernel reads the structure, whose size it is told. The parent goes on behind the system call as after any
    // other. The child begins there with the same registers on the other stack, on which nothing is; it never comes back
    // into this function.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, rdx",
            "xor ebp, ebp",
            "call r8",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone3 => pid,
            in("rdi") &raw const wanted,
            in("rsi") size_of::<libc::clone_args>(),
            in("rdx") argument,
            in("r8") run,
            out("rcx") _,
            out("r11") _,
        );
    }
    c_int::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Never makes one.
///
/// # Safety
///
/// It does nothing.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn clone_inside(
    _cgroup: BorrowedFd<'_>,
    _flags: c_int,
    _stack: Range<*mut u8>,
    _word: *mut c_int,
    _run: extern "C" fn(*mut c_void) -> c_int,
    _argument: *mut c_void,
) -> Option<c_int> {
    None
}
