//! What this process may do, for a bug report. Input: the kernel's answers about this process. Output: [`Privileges`].

use std::fmt;

use rustix::thread::CapabilitySet;

/// The privileges of this process.
#[derive(Clone, Copy, Debug)]
pub struct Privileges {
    pub uid: u32,
    /// The effective ones; `None` where the kernel does not tell.
    pub capabilities: Option<Held>,
    pub initial_user_namespace: Option<bool>,
    pub initial_pid_namespace: Option<bool>,
}

/// Effective capabilities, printed with the names of those that tcpstate can use.
#[derive(Clone, Copy, Debug)]
pub struct Held(CapabilitySet);

impl Privileges {
    #[must_use]
    pub fn here() -> Privileges {
        Privileges {
            uid: rustix::process::geteuid().as_raw(),
            capabilities: rustix::thread::capabilities(None).ok().map(|sets| Held(sets.effective)),
            // `PROC_USER_INIT_INO` and `PROC_PID_INIT_INO` in include/linux/proc_ns.h.
            initial_user_namespace: is("/proc/self/ns/user", 0xefff_fffd),
            initial_pid_namespace: is("/proc/self/ns/pid", 0xefff_fffc),
        }
    }
}

fn is(namespace: &str, inode: u64) -> Option<bool> {
    Some(rustix::fs::stat(namespace).ok()?.st_ino == inode)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = [
            (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
            (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
            (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
            (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
            (CapabilitySet::BPF, "CAP_BPF"),
            (CapabilitySet::PERFMON, "CAP_PERFMON"),
        ]
        .into_iter()
        .filter(|(bit, _)| self.0.contains(*bit))
        .peekable();
        if names.peek().is_none() {
            return f.write_str("none that tcpstate uses");
        }
        for (at, (_, name)) in names.enumerate() {
            write!(f, "{}{name}", if at > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_where_tcpstate_uses_them() {
        assert_eq!(Held(CapabilitySet::CHOWN).to_string(), "none that tcpstate uses");
        let both = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::KILL;
        assert_eq!(Held(both).to_string(), "CAP_NET_ADMIN CAP_BPF");
    }
}
