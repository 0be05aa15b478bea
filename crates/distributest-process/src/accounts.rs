//! Asks the C library for accounts.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use libc::{c_char, c_int, passwd};

use crate::identity::User;

/// Buffers grow up to this; no sane account needs as much.
const BUFFER_LIMIT: usize = 1 << 20;

/// The account with this uid; `None` when there is none.
pub(crate) fn by_uid(uid: u32) -> io::Result<Option<User>> {
    look_up(|entry, buffer, length, found| {
        // SAFETY: see `look_up`, which gives valid pointers and the buffer's true length.
        unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) }
    })
}

/// The account with this name; `None` when there is none.
pub(crate) fn by_name(name: &str) -> io::Result<Option<User>> {
    // No account has a NUL in its name.
    let Ok(name) = CString::new(name) else { return Ok(None) };
    look_up(|entry, buffer, length, found| {
        // SAFETY: see `look_up`; `name` is a C string that outlives the call.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) }
    })
}

/// Calls one of the `getpw*_r` functions with a buffer that is large enough.
///
/// `ask` gets the place for the entry, the buffer for its strings, the buffer's length and the place for the
/// result, all valid for the call, and returns what the function returned.
fn look_up(
    ask: impl Fn(*mut passwd, *mut c_char, usize, *mut *mut passwd) -> c_int,
) -> io::Result<Option<User>> {
    let mut buffer: Vec<c_char> = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::<passwd>::uninit();
        let mut found = ptr::null_mut();
        match ask(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found) {
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: a zero return and a non-null result mean that `entry` is filled in, its strings being
                // NUL-terminated and in `buffer`, which lives to the end of this iteration.
                return unsafe { read(&*found) }.map(Some);
            }
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < BUFFER_LIMIT => buffer.resize(buffer.len() * 2, 0),
            // What getpwnam(3) lists as other ways to say "not found".
            libc::ENOENT | libc::ESRCH => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Copies an entry and adds the groups.
///
/// # Safety
///
/// The entry's strings must be null or valid C strings.
unsafe fn read(entry: &passwd) -> io::Result<User> {
    let string = |pointer: *const c_char| {
        if pointer.is_null() {
            return c"";
        }
        // SAFETY: not null, so a valid C string by this function's contract.
        unsafe { CStr::from_ptr(pointer) }
    };
    let path = |pointer| PathBuf::from(OsStr::from_bytes(string(pointer).to_bytes()));
    let name = string(entry.pw_name);
    Ok(User {
        name: name.to_string_lossy().into_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups: groups(name, entry.pw_gid)?,
        home: path(entry.pw_dir),
        shell: path(entry.pw_shell),
    })
}

/// Every group of a user, the primary one included.
fn groups(name: &CStr, primary: u32) -> io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut count = c_int::try_from(groups.len()).map_err(io::Error::other)?;
        // SAFETY: `name` is a C string, and `count` is the number of elements `groups` has room for.
        let filled = unsafe { libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &mut count) };
        // With too little room it returns -1; some C libraries then say in `count` how much is needed.
        let count = usize::try_from(count).map_err(io::Error::other)?;
        if filled >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if groups.len() >= BUFFER_LIMIT {
            return Err(io::Error::other("too many groups"));
        }
        groups.resize(count.max(groups.len() * 2), 0);
    }
}
