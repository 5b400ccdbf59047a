//! The reading side of a BPF ring buffer, and a counter shared with a program.
//!
//! Input: a map descriptor. Output: records, one at a time, copied out of the shared memory.
//!
//! The kernel's side is `kernel/bpf/ringbuf.c`. The map has one page with the reader's position (writable), one page
//! with the writers' position, then the data twice in a row, so that a record is never split at the end. Positions
//! only grow; a record starts with a 32-bit length whose two upper bits mean "still being written" and "discarded".
#![allow(unsafe_code, reason = "bpf(2), its ring buffer and the namespaces of its tests have no safe interface")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, ProtFlags};

use super::mapping::Mapping;
use super::{Unavailable, sys};

/// `BPF_RINGBUF_BUSY_BIT`: the record is reserved but not written yet.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: the record was discarded; skip it.
const DISCARDED: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`: the length and a page offset that only the kernel needs.
const HEADER: u64 = 8;

/// The page size of this machine.
fn page_bytes() -> usize {
    // SAFETY: sysconf only returns a number; it has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

fn shared(fd: BorrowedFd<'_>, offset: usize, bytes: usize, protection: ProtFlags) -> io::Result<Mapping> {
    Mapping::new(fd, offset, bytes, (protection, MapFlags::SHARED))
}

/// A ring buffer and this process's position in it.
pub struct Ring {
    map: OwnedFd,
    /// The page that holds the reader's position: the only one that this process writes.
    reader: Mapping,
    /// The page that holds the writers' position, and the data twice.
    data: Mapping,
    page_bytes: usize,
    data_bytes: usize,
}

impl Ring {
    /// Makes a ring of at least `bytes`, rounded up to what the kernel takes: a power of two, whole pages.
    pub fn new(bytes: usize) -> Result<Ring, Unavailable> {
        const LARGEST: usize = 1 << 30;
        let page_bytes = page_bytes();
        let data_bytes = bytes.clamp(page_bytes, LARGEST).next_power_of_two();
        // The clamp keeps it within 2^30.
        let map = sys::create_ring(data_bytes as u32)?;
        let failed = |source| Unavailable::Failed { operation: "mapping the ring buffer", source };
        let reader = shared(map.as_fd(), 0, page_bytes, ProtFlags::READ | ProtFlags::WRITE).map_err(failed)?;
        let data = shared(map.as_fd(), page_bytes, page_bytes + 2 * data_bytes, ProtFlags::READ).map_err(failed)?;
        Ok(Ring { map, reader, data, page_bytes, data_bytes })
    }

    /// The map, for a program that writes to it.
    pub fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Waits until there is something to read. False on timeout or when a signal arrived.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.map, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Passes on every record of exactly `N` bytes that was there when the call began; returns how many.
    ///
    /// Records written meanwhile wait for the next call, so a fast writer cannot keep the reader here. No wake-up is
    /// lost: poll(2) on a ring compares the positions (`ringbuf_map_poll_user`).
    pub fn drain<const N: usize>(&mut self, each: &mut dyn FnMut(&[u8; N])) -> u64 {
        let reader = self.reader.cell(0);
        // Only this reader writes it. `&mut self` rules out a second drain.
        let mut position = reader.load(Ordering::Relaxed);
        // Pairs with the kernel's release store in `__bpf_ringbuf_reserve`.
        let end = self.data.cell(0).load(Ordering::Acquire);
        let mut records = 0;
        while position < end {
            // `data_bytes` is a power of two, and the offset is below it.
            let offset = (position & (self.data_bytes as u64 - 1)) as usize;
            // SAFETY: page_bytes + offset is inside the first copy of the data, and records start at multiples of 8.
            let start = unsafe { self.data.start().byte_add(self.page_bytes + offset) };
            // SAFETY: as above, so it is aligned for and as large as a u32, which the kernel writes atomically.
            let length = unsafe { &*start.cast::<AtomicU32>() };
            // Pairs with the kernel's xchg in `bpf_ringbuf_commit`: once the busy bit is gone, the record is complete.
            let header = length.load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let bytes = u64::from(header & !DISCARDED);
            if header & DISCARDED == 0 && bytes == N as u64 {
                let mut record = [0; N];
                // SAFETY: the record is HEADER + N bytes from `start`, all inside the two copies of the data because a
                // record is never longer than the ring; the kernel does not touch it until the position moves past it.
                unsafe {
                    std::ptr::copy_nonoverlapping(start.byte_add(HEADER as usize).cast(), record.as_mut_ptr(), N);
                };
                each(&record);
                records += 1;
            }
            position += (HEADER + bytes).next_multiple_of(8);
            // Frees the space record by record, and only after the copy.
            reader.store(position, Ordering::Release);
        }
        records
    }
}

/// A number that a program increments and this process reads.
pub struct Counter {
    map: OwnedFd,
    memory: Mapping,
}

impl Counter {
    pub fn new() -> Result<Counter, Unavailable> {
        let map = sys::create_counter()?;
        let memory = shared(map.as_fd(), 0, page_bytes(), ProtFlags::READ)
            .map_err(|source| Unavailable::Failed { operation: "mapping the counter", source })?;
        Ok(Counter { map, memory })
    }

    /// The map, for a program that counts in it.
    pub fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    pub fn get(&self) -> u64 {
        self.memory.cell(0).load(Ordering::Relaxed)
    }
}
