//! Where the threads of a process wait: in which system call, and in which function of the kernel.
//!
//! Input: the threads of an inspected process. Output: words, and what a wait is about. A number of a system call that is
//! not in the table prints as the number.

use crate::model::snapshot::{Inspection, ThreadState};

/// Groups of threads that are named.
const GROUPS_NAMED: usize = 5;

/// Where the threads stand, alike ones together: `7 in futex (futex_do_wait)`.
#[must_use]
pub fn stands(inspection: &Inspection) -> Vec<String> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for thread in &inspection.threads {
        let stand = stand(thread);
        match groups.iter_mut().find(|(s, _)| *s == stand) {
            Some((_, n)) => *n += 1,
            None => groups.push((stand, 1)),
        }
    }
    groups.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let others: usize = groups.iter().skip(GROUPS_NAMED).map(|(_, n)| n).sum();
    let mut named: Vec<String> = groups.iter().take(GROUPS_NAMED).map(|(s, n)| format!("{n} {s}")).collect();
    if others > 0 {
        named.push(format!("{others} elsewhere"));
    }
    if inspection.threads_not_read > 0 {
        named.push(format!("{} not looked at", inspection.threads_not_read));
    }
    named
}

#[must_use]
pub fn stand(thread: &ThreadState) -> String {
    let call = thread.syscall.map(|n| syscall_name(n).map_or_else(|| format!("system call {n}"), str::to_owned));
    match (call, thread.wchan.as_deref(), thread.state) {
        (Some(call), Some(wchan), _) => format!("in {call} ({wchan})"),
        (Some(call), None, _) => format!("in {call}"),
        (None, Some(wchan), _) => format!("asleep in the kernel ({wchan})"),
        (None, None, Some('R')) => "running".into(),
        (None, None, Some(state)) => format!("in state {state}"),
        (None, None, None) => "not to be seen".into(),
    }
}

/// The descriptor on which a thread stands in a call.
#[must_use]
pub fn called_descriptor(thread: &ThreadState) -> Option<u32> {
    let name = syscall_name(thread.syscall?)?;
    CALLS_ON_A_SOCKET.contains(&name).then(|| thread.syscall_arg0?.try_into().ok()).flatten()
}

/// Whether a thread stands in a call that sends.
#[must_use]
pub fn writes(thread: &ThreadState) -> bool {
    let name = thread.syscall.and_then(syscall_name);
    matches!(name, Some("write" | "writev" | "sendto" | "sendmsg"))
}

#[must_use]
pub fn is_epoll_wait(thread: &ThreadState) -> bool {
    thread.syscall.and_then(syscall_name).is_some_and(|n| n.starts_with("epoll_"))
}

/// Whether it waits on a set that cannot be seen from outside.
#[must_use]
pub fn is_poll(thread: &ThreadState) -> bool {
    let name = thread.syscall.and_then(syscall_name);
    matches!(name, Some("poll" | "ppoll" | "select" | "pselect6" | "io_uring_enter" | "restart_syscall"))
}

/// Whether every thread waits in the freezer: of version 1 and of suspend (`kernel/freezer.c`), or of version 2
/// (`do_freezer_trap`, which compilers put into `get_signal`; a stopped thread waits there too, but in state T). It shows
/// where the control groups are not mounted, as under `ip netns exec`.
#[must_use]
pub fn all_in_freezer(inspection: &Inspection) -> bool {
    let held = |t: &ThreadState| match t.wchan.as_deref() {
        Some("__refrigerator" | "do_freezer_trap") => true,
        Some("get_signal") => t.state == Some('S'),
        _ => false,
    };
    let threads = &inspection.threads;
    !threads.is_empty() && threads.iter().all(held)
}

/// Whether the thread waits until somebody reads a pipe (`fs/pipe.c`).
#[must_use]
pub fn waits_for_pipe(thread: &ThreadState) -> bool {
    let writes = matches!(thread.syscall.and_then(syscall_name), Some("write" | "writev") | None);
    // `pipe_wait` was both ways before Linux 5.5.
    writes
        && matches!(
            thread.wchan.as_deref(),
            Some("anon_pipe_write" | "pipe_write" | "pipe_wait" | "pipe_wait_writable")
        )
}

/// Whether the thread waits until a process that it started ends.
#[must_use]
pub fn waits_for_child(thread: &ThreadState) -> bool {
    matches!(thread.syscall.and_then(syscall_name), Some("wait4" | "waitid"))
}

/// How many threads do something of their own: run, read a disk, sleep for a time, or wait in a call that is neither for
/// a lock nor for events. A single thread in `poll` waits for the answer of somebody else: it would have been told of
/// data in a queue.
#[must_use]
pub fn at_work(inspection: &Inspection) -> usize {
    let alone = inspection.threads.len() == 1 && inspection.epoll_sets == 0;
    let works = |t: &&ThreadState| match (t.state, t.syscall.and_then(syscall_name)) {
        (Some('R' | 'D'), _) => true,
        (_, Some(name)) => (alone && is_poll(t)) || !(is_poll(t) || is_epoll_wait(t) || WAITS.contains(&name)),
        _ => false,
    };
    inspection.threads.iter().filter(works).count()
}

/// Whether a thread stands in a call that receives.
#[must_use]
pub fn reads(thread: &ThreadState) -> bool {
    let name = thread.syscall.and_then(syscall_name);
    matches!(name, Some("read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg"))
}

/// How many threads may each be the handler of one connection: at work, or in `poll` beside others.
#[must_use]
pub fn handlers(inspection: &Inspection) -> usize {
    let alone = inspection.threads.len() == 1;
    let polls = inspection.threads.iter().filter(|t| is_poll(t) && !alone).count();
    at_work(inspection) + polls
}

/// Whether every thread waits for a lock, a signal or a new client.
#[must_use]
pub fn all_blocked(inspection: &Inspection) -> bool {
    all_in(inspection, &WAITS)
}

/// How many threads wait for a lock, or for work: those of a pool wait for both in the same way.
#[must_use]
pub fn in_lock(inspection: &Inspection) -> usize {
    inspection.threads.iter().filter(|t| is_in_lock(t)).count()
}

/// Whether it waits for a lock, or for work.
#[must_use]
pub fn is_in_lock(thread: &ThreadState) -> bool {
    thread.syscall.and_then(syscall_name) == Some("futex")
}

/// Whether every thread waits for a lock, of memory or of a file.
#[must_use]
pub fn all_in_lock(inspection: &Inspection) -> bool {
    all_in(inspection, &LOCKS)
}

fn all_in(inspection: &Inspection, calls: &[&str]) -> bool {
    let stands = |t: &ThreadState| t.syscall.and_then(syscall_name).is_some_and(|name| calls.contains(&name));
    !inspection.threads.is_empty() && inspection.threads_not_read == 0 && inspection.threads.iter().all(stands)
}

/// Calls in which a thread stands for long only while somebody else has the lock.
const LOCKS: [&str; 3] = ["futex", "flock", "fcntl"];

/// Calls that end when somebody else acts: a lock, a signal, a client. Whoever waits for a child is at work through it.
const WAITS: [&str; 6] = ["futex", "accept", "accept4", "rt_sigtimedwait", "rt_sigsuspend", "pause"];

/// Calls whose first argument is the descriptor of a socket.
const CALLS_ON_A_SOCKET: [&str; 12] = [
    "read", "readv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "sendto", "sendmsg", "accept", "accept4",
    "connect",
];

/// Names of the system calls in which a thread may stand for long. Numbers differ by architecture; those of a 32-bit
/// process on a 64-bit kernel differ too and are not known here.
const SYSCALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_epoll_pwait2, "epoll_pwait2"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_restart_syscall, "restart_syscall"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fsync, "fsync"),
    // Architectures younger than these calls do not have them.
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause"),
];

/// The name of a system call in which threads are found waiting.
#[must_use]
pub fn syscall_name(number: u64) -> Option<&'static str> {
    let number = libc::c_long::try_from(number).ok()?;
    SYSCALLS.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_in_which_threads_wait_have_names() {
        for call in [libc::SYS_futex, libc::SYS_accept4, libc::SYS_recvfrom, libc::SYS_wait4] {
            assert!(syscall_name(u64::try_from(call).unwrap()).is_some());
        }
        assert_eq!(syscall_name(u64::MAX), None);
    }
}
