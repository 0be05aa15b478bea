//! Makes a process in a cgroup, where it need not join it.
//!
//! To join one costs little as long as processes do it all the time, and some milliseconds otherwise: the kernel waits until
//! no processor looks at the former membership. With clone3(2) there is none. The C library has no function for it, and a
//! child that shares the memory of its parent needs a stack of its own from its first instruction on.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::OnceLock;

use libc::{c_int, c_void};

/// Whether a child that is made in `cgroup`, of which no members have been killed at once, lives. Tried the first time.
///
/// Linux 6.18 compares how often that was done to the child's cgroup with how often to this process's, and kills the child
/// where that differs. What is above this process may have been killed so, by systemd for one, before this process was in it.
/// Signals are to be blocked: their handlers are not for the child.
pub(crate) fn children_live(cgroup: BorrowedFd<'_>) -> bool {
    static LIVE: OnceLock<bool> = OnceLock::new();
    *LIVE.get_or_init(|| {
        extern "C" fn succeed(_: *mut c_void) -> c_int {
            0
        }
        let mut stack = [MaybeUninit::<u128>::uninit(); 64];
        let Range { start, end } = stack.as_mut_ptr_range();
        let mut status = -1;
        // SAFETY: the child uses nothing but its stack, and is waited for. That it ends is said to nobody else: it is sent no
        // signal for it, and only who asks for such children is told of them.
        unsafe {
            let stack = start.cast()..end.cast();
            let child =
                clone_inside(cgroup, libc::CLONE_VM, stack, ptr::null_mut(), succeed, ptr::null_mut());
            child.is_some_and(|child| libc::waitpid(child, &mut status, libc::__WALL) == child && status == 0)
        }
    })
}

/// Makes a child of this process that is in `cgroup`, a directory, and calls `run` with `argument` on its stack: that returns
/// its exit status. `flags` are those of clone(2), with the signal that says that it ended; the kernel clears `word` as they
/// say. Returns the child's number; `None` where there is none, because this kernel, or this architecture, does not do it, or
/// for any other reason.
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
    /// Where clone(2) has the signal, of the same file.
    const SIGNAL: c_int = 0xff;

    // SAFETY: plain numbers, for all of which zero means: nothing is wanted.
    let mut wanted: libc::clone_args = unsafe { std::mem::zeroed() };
    wanted.flags = u64::from((flags & !SIGNAL).unsigned_abs()) | CLONE_INTO_CGROUP;
    wanted.child_tid = word as u64;
    wanted.exit_signal = u64::from((flags & SIGNAL).unsigned_abs());
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
