//! Memory of the kernel in the address space of this process.
//!
//! Input: a descriptor that can be mapped, and how much of it. Output: bytes, or cells that the kernel and this process
//! share; unmapped on drop. Not here: what the bytes mean.
#![allow(unsafe_code, reason = "mmap(2) has no safe interface")]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A mapping of kernel memory.
pub(super) struct Mapping {
    start: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; all access below is atomic or of memory that the kernel
// has finished writing.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared references only ever lead to atomic loads, or to memory that nobody writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        offset: usize,
        bytes: usize,
        (protection, flags): (ProtFlags, MapFlags),
    ) -> io::Result<Mapping> {
        // SAFETY: no address is requested, so the mapping replaces nothing; only this type shares and unmaps the
        // memory.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, fd, offset as u64) }?;
        Ok(Mapping { start, bytes })
    }

    /// A 64-bit cell at a byte offset that is a multiple of 8 and inside the mapping.
    pub(super) fn cell(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes);
        // SAFETY: callers pass 0, which is inside every mapping, and a mapping is page-aligned.
        unsafe { &*self.start.byte_add(offset).cast::<AtomicU64>() }
    }

    /// Where it begins.
    pub(super) fn start(&self) -> *mut libc::c_void {
        self.start
    }

    /// Its bytes.
    ///
    /// # Safety
    /// Nobody may write to the memory while the mapping lives, the kernel included.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, has this size and lives as long as `self`; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.start.cast::<u8>(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` made the mapping with this size, and nothing borrows from it any more. On an error it would
        // just stay mapped.
        let _ = unsafe { munmap(self.start, self.bytes) };
    }
}
