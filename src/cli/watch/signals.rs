//! Signals as something to wait for: SIGINT, SIGTERM and SIGHUP end a watch cleanly, and SIGTSTP stops a screen when it has
//! given the terminal back.
//!
//! There is no handler: the signals are blocked, in every thread that is started afterwards too, and read from a
//! descriptor (`signalfd(2)`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The signals, blocked.
pub(crate) struct Signals(OwnedFd);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    End,
    Stop,
}

const END: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

impl Signals {
    /// Blocks those that end a program, in this thread and those that it starts.
    pub(crate) fn block() -> io::Result<Signals> {
        Signals::of(&END)
    }

    /// The same, and the signal that stops one: [`stop`] carries it out.
    pub(crate) fn block_with_stop() -> io::Result<Signals> {
        Signals::of(&[END[0], END[1], END[2], libc::SIGTSTP])
    }

    fn of(signals: &[i32]) -> io::Result<Signals> {
        // SAFETY: all-zero is a valid set, which the calls below fill; no pointer outlives its call; nothing else
        // owns the descriptor that `signalfd` returns.
        #[allow(unsafe_code, reason = "rustix has no signalfd")]
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
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

    /// Waits for the next signal and takes it.
    pub(crate) fn next(&self) -> io::Result<Caught> {
        self.wait(None)?;
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        rustix::io::read(&self.0, &mut record)?;
        // The number of the signal comes first.
        let number = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        let is_stop = number.and_then(|n| i32::try_from(n).ok()) == Some(libc::SIGTSTP);
        Ok(if is_stop { Caught::Stop } else { Caught::End })
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

/// Stops this process as SIGTSTP does, until it is continued. The signal is sent to this thread alone, which lets it in: the
/// thread that reads signals does not get it.
pub(crate) fn stop() -> io::Result<()> {
    // SAFETY: all-zero is a valid set, which the calls below fill; no pointer outlives its call.
    #[allow(unsafe_code, reason = "rustix has no signal mask")]
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTSTP);
        let error = libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // Returns when the process goes on.
        let stopped = libc::raise(libc::SIGTSTP);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if stopped == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
