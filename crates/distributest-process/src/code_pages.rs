//! Lets go of the program's own code while it is not needed.
//!
//! A process that rests keeps what it ran last in memory, several times what its data take. The code is also in the
//! system's file cache, from where a page comes back, without reading it from the disk as a rule, when it is run again.

use std::ffi::{c_int, c_void};
use std::slice;

use libc::{dl_phdr_info, size_t};

/// Takes the code of the program and of its libraries out of this process's memory. What runs comes back at once, the rest
/// when it is needed, sixteen pages at a time.
pub fn release_code() {
    // SAFETY: the callback is valid, and has no use for data of its own.
    unsafe { libc::dl_iterate_phdr(Some(release), std::ptr::null_mut()) };
}

/// Does so with one of them.
unsafe extern "C" fn release(object: *mut dl_phdr_info, _size: size_t, _data: *mut c_void) -> c_int {
    // SAFETY: the C library gives a description that is valid during the call, and its count of headers.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // SAFETY: plain questions.
    let (kernels, page) =
        unsafe { (libc::getauxval(libc::AT_SYSINFO_EHDR), libc::sysconf(libc::_SC_PAGESIZE)) };
    let Ok(page) = u64::try_from(page) else { return 0 };
    // The kernel's own is in no file.
    for header in headers.iter().filter(|_| base != kernels) {
        let is_code =
            header.p_type == libc::PT_LOAD && header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X;
        if !is_code {
            continue;
        }
        let begin = (base + header.p_vaddr) / page * page;
        let length = base + header.p_vaddr + header.p_memsz - begin;
        // SAFETY: these pages are mapped from a file and can't be written to, so each one has in memory what it has there.
        unsafe { libc::madvise(begin as *mut c_void, length as size_t, libc::MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages this thread has had to be given while it did something.
    fn faults(work: impl FnOnce()) -> i64 {
        let so_far = || {
            // SAFETY: all zeros are a value of this type, which the call fills in.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
                usage
            };
            usage.ru_minflt + usage.ru_majflt
        };
        let before = so_far();
        work();
        so_far() - before
    }

    /// How much comes back at once depends on the file cache; that it has to come back does not.
    #[test]
    fn code_goes_and_comes_back() {
        let work = || drop(std::hint::black_box(std::env::current_exe()));
        let release_and_work = || {
            release_code();
            work();
        };
        // What is run for the first time has to be brought in either way.
        release_and_work();
        work();
        let (without, with) = (faults(work), faults(release_and_work));
        assert!(with > without, "{without} faults without, {with} with");
    }
}
