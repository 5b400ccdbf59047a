//! Threads whose descriptors are their own.
//!
//! In: work that makes sockets. Out: its result. The rest of the test process shares one table, which every child that a
//! parallel test starts copies between fork and exec, and holds the sockets for so long.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `include/uapi/linux/close_range.h`
const CLOSE_RANGE_UNSHARE: libc::c_uint = 1 << 1;

/// Runs `work` on a thread with a table of its own that has the standard three descriptors, and those of `kept`.
///
/// A plain copy of the table would keep the sockets of other tests open after these have closed them.
pub fn with_own<T: Send>(kept: &[BorrowedFd<'_>], work: impl FnOnce() -> T + Send) -> T {
    let mut kept: Vec<u32> = kept.iter().map(|fd| u32::try_from(fd.as_raw_fd()).expect("an open descriptor")).collect();
    kept.sort_unstable();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let ends = kept.iter().map(|fd| fd.wrapping_sub(1)).chain([u32::MAX]);
            let gaps = std::iter::once(3).chain(kept.iter().map(|fd| fd + 1)).zip(ends).filter(|(from, to)| from <= to);
            // The last gap first: it has no end, and makes the table this thread's own.
            for (from, to) in gaps.collect::<Vec<_>>().into_iter().rev() {
                // SAFETY: closes descriptors in the table of this thread alone, which uses only those that it keeps or opens.
                let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, CLOSE_RANGE_UNSHARE) };
                assert_eq!(done, 0, "close_range: {}", std::io::Error::last_os_error());
            }
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_thread_of_its_own_has_what_it_keeps_and_nothing_else() {
    use std::os::fd::AsFd as _;
    let files: Vec<_> = (0..3).map(|_| std::fs::File::open("/dev/null").expect("a file")).collect();
    let numbers: Vec<i32> = files.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
    let is_open = |fd: i32| {
        // SAFETY: asks for flags, and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
    };
    let there = with_own(&[files[1].as_fd()], || numbers.iter().map(|fd| is_open(*fd)).collect::<Vec<_>>());
    assert_eq!(there, [false, true, false]);
    assert!(numbers.iter().all(|fd| is_open(*fd)), "the others keep theirs");
}
