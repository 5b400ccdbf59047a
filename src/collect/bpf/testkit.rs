//! Helpers shared by the kernel tests of this folder: visible skips, private network namespaces, small system calls.
#![allow(unsafe_code, reason = "bpf(2), its ring buffer and the namespaces of its tests have no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `Some` where the kernel lets this process use BPF. Otherwise prints why the test is skipped, or fails it when
/// `TCPSTATE_TESTS_REQUIRE_KERNEL=1` requires it to run.
pub fn kernel_or_skip(test: &str) -> Option<()> {
    let why = if !rustix::process::geteuid().is_root() {
        "it needs root".to_string()
    } else if !std::path::Path::new(super::KERNEL_BTF).exists() {
        format!("{} does not exist", super::KERNEL_BTF)
    } else if let Err(e) = super::pids_are_ours() {
        e.to_string()
    } else {
        return Some(());
    };
    assert!(std::env::var_os("TCPSTATE_TESTS_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "{test} cannot run: {why}");
    eprintln!("skipped {test}: {why}");
    None
}

/// Runs `work` on a thread with its own descriptor table, empty except for the standard three.
///
/// Other tests run in this process and may fork. A child would inherit the sockets made here and then be the last to
/// close them; a child forked here would do the same to theirs.
pub fn with_own_descriptors<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: closes the descriptors in this thread's new table only, where nothing uses them.
            let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_UNSHARE) };
            assert_eq!(done, 0, "close_range: {}", io::Error::last_os_error());
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `include/uapi/linux/close_range.h`
const CLOSE_RANGE_UNSHARE: libc::c_uint = 1 << 1;

/// The same inside a new network namespace with `lo` up; passes the namespace's inode to `work`.
pub fn in_private_netns<T: Send>(work: impl FnOnce(u32) -> T + Send) -> T {
    with_own_descriptors(|| {
        // SAFETY: a new network namespace for this thread alone; it touches no memory.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).unwrap();
        bring_loopback_up().unwrap();
        let netns = rustix::fs::stat("/proc/thread-self/ns/net").unwrap().st_ino;
        work(u32::try_from(netns).unwrap())
    })
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed() as libc::c_char;
    request.ifr_name[1] = b'o'.cast_signed() as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }).map(drop)
}

/// Gives the calling thread its own descriptor table.
pub fn unshare_descriptors() {
    // SAFETY: from here on the thread's table is a copy; the caller closes only what it opens afterwards.
    check(unsafe { libc::unshare(libc::CLONE_FILES) }).unwrap();
}

/// A pipe, to make a child wait.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: pipe2 writes two descriptors into the array.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }).unwrap();
    // SAFETY: both are new and nothing else owns them.
    unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) }
}

/// A forked child of the test; reaped on drop, which must come after the pipe that it waits for is closed.
pub struct Child(pub libc::pid_t);

impl Child {
    /// Forks a child that closes `go.1`, waits for the end of `go.0`, closes `close` and exits.
    ///
    /// It makes nothing but system calls, because the test process has other threads.
    pub fn that_closes(close: &OwnedFd, go: &(OwnedFd, OwnedFd)) -> Child {
        let (close, wait, end) = (close.as_raw_fd(), go.0.as_raw_fd(), go.1.as_raw_fd());
        // SAFETY: the child calls only async-signal-safe functions and leaves with _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let mut byte = 0_u8;
            // SAFETY: plain system calls on descriptors that the child has inherited.
            unsafe {
                libc::close(end);
                libc::read(wait, (&raw mut byte).cast(), 1);
                libc::close(close);
                libc::_exit(0)
            }
        }
        Child(check(pid).unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: waits for our own child and stores no status.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

pub fn gettid() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap()
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
