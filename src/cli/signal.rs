//! An interrupt as a flag that a loop polls.
//!
//! SIGINT, SIGTERM and SIGHUP set it. A second signal ends the process by itself, so that a loop stuck in a write
//! can still be ended.
#![allow(unsafe_code, reason = "sigaction(2) has no safe interface")]

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Catches the first SIGINT, SIGTERM and SIGHUP.
pub(crate) fn watch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: all-zero is a valid sigaction; the handler stores to an atomic, which is async-signal-safe. Without
        // SA_RESTART a wait ends at once; with SA_RESETHAND the second signal has its default effect.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int) = note;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether one arrived.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
