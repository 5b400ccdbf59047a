//! Signals as something to wait for: SIGINT, SIGTERM and SIGHUP end a watch cleanly.
//!
//! There is no handler: the signals are blocked, in every thread that is started afterwards too, and read from a
//! descriptor (`signalfd(2)`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The signals, blocked.
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals in this thread and those that it starts.
    pub(crate) fn block() -> io::Result<Signals> {
        // SAFETY: all-zero is a valid set, which the calls below fill; no pointer outlives its call; nothing else
        // owns the descriptor that `signalfd` returns.
        #[allow(unsafe_code, reason = "rustix has no signalfd")]
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Signals(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Waits for a signal, up to this long; `None` waits forever. Returns whether one arrived.
    pub(crate) fn wait(&self, at_most: Option<Duration>) -> io::Result<bool> {
        let timeout = at_most.map(|t| Timespec::try_from(t).unwrap_or(Timespec { tv_sec: 86_400, tv_nsec: 0 }));
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match poll(&mut ready, timeout.as_ref()) {
                Ok(n) => return Ok(n > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
