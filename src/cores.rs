//! The cores of this machine, and loops over long lists that all of them share. What a loop works on is up to its
//! caller.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Lists longer than this are worth a second thread.
pub const LARGE: usize = 10_000;

/// Cores that this process may use.
#[must_use]
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Starts a scoped thread.
///
/// # Errors
/// When no thread can be made: at a limit of the process, its user or its cgroup, or under a seccomp filter. The
/// caller then does the work itself.
pub fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work)
}

/// Starts a thread that nothing waits for.
///
/// # Errors
/// As [`start`].
pub fn start_detached<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().spawn(work)
}

/// Applies `f` to every item, in order; a long list is shared by all cores.
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = if items.len() < LARGE { 1 } else { count() };
    if threads <= 1 {
        return items.iter().map(f).collect();
    }
    let (own, others) = items.split_at(items.len().div_ceil(threads));
    let f = &f;
    std::thread::scope(|scope| {
        let parts = others.chunks(own.len());
        let parts: Vec<_> =
            parts.map(|part| (part, start(scope, move || part.iter().map(f).collect::<Vec<R>>()))).collect();
        let mut answers = Vec::with_capacity(items.len());
        answers.extend(own.iter().map(f));
        for (part, thread) in parts {
            match thread.map(ScopedJoinHandle::join) {
                Ok(Ok(more)) => answers.extend(more),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => answers.extend(part.iter().map(f)),
            }
        }
        answers
    })
}

/// For tests of what happens when no thread can be made.
#[cfg(test)]
pub(crate) mod testkit {
    /// Runs something in a thread that cannot start others.
    #[allow(unsafe_code, reason = "no crate in use installs a seccomp filter")]
    pub(crate) fn without_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
        let op =
            |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
        let is = |call: libc::c_long, errno: libc::c_int| {
            [
                op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
                op(libc::BPF_RET | libc::BPF_K, 0, 0, ERRNO | u32::try_from(errno).unwrap()),
            ]
        };
        let mut filter = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
        // Without clone3 the C library falls back to clone.
        filter.extend(is(libc::SYS_clone3, libc::ENOSYS));
        filter.extend(is(libc::SYS_clone, libc::EAGAIN));
        filter.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
        let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
        let program = std::ptr::from_ref(&program) as usize;
        std::thread::scope(|scope| {
            let inside = move || {
                // SAFETY: the call copies the filter, which outlives it; it applies to this thread only, and the
                // thread ends here.
                let refused = unsafe {
                    libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                        || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, program, 0, 0) != 0
                };
                assert!(!refused, "{}", std::io::Error::last_os_error());
                assert!(super::start_detached(|| ()).is_err(), "a thread can be made");
                work()
            };
            super::start(scope, inside).unwrap().join().unwrap()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_done_without_a_thread() {
        let items: Vec<usize> = (0..3 * LARGE + 7).collect();
        let doubled = testkit::without_threads(|| map(&items, |n| n * 2));
        assert_eq!(doubled, items.iter().map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_of_any_length_keeps_its_order() {
        for len in [0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 7] {
            let items: Vec<usize> = (0..len).collect();
            assert_eq!(map(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>(), "{len}");
        }
    }
}
