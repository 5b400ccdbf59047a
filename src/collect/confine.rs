//! Gives up rights: capabilities that a mode does not use, and for a thread that answers the network everything that it can do
//! without.
//!
//! Input: what the mode still does. Output: threads that may do less. It holds for the calling thread and for those that it starts
//! afterwards, so a mode calls it before it starts any. Not here: which rights help where something is refused (`rights`).
//!
//! The whole process cannot be put under Landlock: a domain may not trace what is outside of it (`hook_ptrace_access_check`), and
//! reading `/proc/PID/fd` is tracing. So only a thread that reads no process is.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::bpf::{KERNEL_BTF, raise_memlock};

/// The newest version of Landlock that is asked for; an older kernel enforces what it knows.
const LANDLOCK: ABI = ABI::V6;

/// What a mode that goes on and on still does after its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode<'a> {
    /// Enters other network namespaces.
    pub enters_namespaces: bool,
    /// Makes files in this folder.
    pub writes_in: Option<&'a Path>,
}

/// Gives up every capability that this mode does not use, for ever: also a program that it would start gets none of them.
pub(crate) fn keep_what_is_used(mode: Mode<'_>) -> std::io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    // Before Linux 5.11 maps count against a limit that takes CAP_SYS_RESOURCE to raise.
    raise_memlock();
    let kept = used(mode, held.permitted) & held.permitted;
    // It takes CAP_SETPCAP, which a service manager need not have given; what is not held cannot be inherited either.
    for bit in (0..u64::BITS).map(|n| CapabilitySet::from_bits_retain(1 << n)).filter(|bit| !kept.contains(*bit)) {
        let _ = rustix::thread::remove_capability_from_bounding_set(bit);
    }
    rustix::thread::set_no_new_privs(true)?;
    let sets =
        CapabilitySets { effective: held.effective & kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn used(mode: Mode<'_>, held: CapabilitySet) -> CapabilitySet {
    use CapabilitySet as C;
    // Descriptors of processes; programs that look for them and trace; connection tracking and marks of sockets.
    let mut used = C::SYS_PTRACE | C::DAC_READ_SEARCH | C::BPF | C::PERFMON | C::NET_ADMIN;
    // It includes CAP_BPF and CAP_PERFMON, which began with Linux 5.8; and without BTF a trace may have to mount tracefs.
    let by_admin = !held.contains(C::BPF | C::PERFMON) || !Path::new(KERNEL_BTF).exists();
    if mode.enters_namespaces || by_admin {
        used |= C::SYS_ADMIN;
    }
    // A container's root has no CAP_DAC_READ_SEARCH, and reads the descriptors of other users by this right.
    if !held.contains(C::DAC_READ_SEARCH) {
        used |= C::DAC_OVERRIDE;
    }
    // Root writes into a folder of another user by it alone.
    let is_owner = |folder: &Path| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::metadata(folder).is_ok_and(|found| found.uid() == super::rights::user())
    };
    if mode.writes_in.is_some_and(|folder| !is_owner(folder)) {
        used |= C::DAC_OVERRIDE;
    }
    used
}

/// Takes from this thread every capability, and where the kernel has Landlock every file, program and connection that it has not
/// opened yet. Returns whether Landlock enforces that, or a part of it.
///
/// The threads of a process share its memory: this is no wall against foreign code that runs in it, but against a request that
/// makes a server open something.
pub(crate) fn to_what_is_open() -> bool {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = rustix::thread::set_capabilities(None, sets);
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    restricted.is_ok_and(|now| now.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread that ends, so that no other test is confined.
    fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn a_thread_keeps_what_is_open_and_opens_nothing_more() {
        use std::io::{ErrorKind, Read};
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut before = std::fs::File::open("/proc/self/status").unwrap();
        apart(|| {
            let enforced = to_what_is_open();
            let held = rustix::thread::capabilities(None).unwrap();
            assert!(held.effective.is_empty() && held.permitted.is_empty(), "{held:?}");
            assert!(rustix::thread::no_new_privs().unwrap());
            let mut text = String::new();
            before.read_to_string(&mut text).unwrap();
            assert!(text.contains("State:"));
            if !enforced {
                return;
            }
            let refused = |e: std::io::Error| e.kind() == ErrorKind::PermissionDenied;
            for path in ["/etc/passwd", "/proc/self/status", "/"] {
                assert!(std::fs::File::open(path).is_err_and(refused), "{path}");
            }
            assert!(std::fs::write(std::env::temp_dir().join("tcpstate-confined"), "x").is_err_and(refused));
            // Since version 4 of Landlock; connections that are accepted go on.
            if TcpStream::connect(address).is_err_and(refused) {
                assert!(TcpListener::bind("127.0.0.1:0").is_err_and(refused));
            }
            listener.local_addr().unwrap();
        });
        assert!(std::fs::File::open("/etc/passwd").is_ok(), "other threads go on as they were");
    }

    #[test]
    fn a_mode_keeps_the_rights_that_it_uses() {
        use CapabilitySet as C;
        let all = C::all();
        let mode = Mode { enters_namespaces: false, writes_in: None };
        let plain = used(mode, all);
        assert!(plain.contains(C::SYS_PTRACE | C::DAC_READ_SEARCH | C::BPF | C::PERFMON | C::NET_ADMIN));
        for never in [C::SYS_MODULE, C::SETUID, C::SYS_RAWIO, C::SYS_BOOT, C::DAC_OVERRIDE, C::NET_RAW, C::SETPCAP] {
            assert!(!plain.contains(never), "{never:?}");
        }
        assert!(used(Mode { enters_namespaces: true, ..mode }, all).contains(C::SYS_ADMIN));
        assert!(used(mode, C::DAC_OVERRIDE | C::SYS_PTRACE).contains(C::DAC_OVERRIDE), "the root of a container");
        assert!(used(mode, C::SYS_ADMIN | C::SYS_PTRACE).contains(C::SYS_ADMIN), "it stands for the two of BPF");
        let own = tempfile::tempdir().unwrap();
        assert!(!used(Mode { writes_in: Some(own.path()), ..mode }, all).contains(C::DAC_OVERRIDE));
        assert!(used(Mode { writes_in: Some(Path::new("/nonexistent")), ..mode }, all).contains(C::DAC_OVERRIDE));
    }

    #[test]
    fn what_was_given_up_does_not_come_back() {
        apart(|| {
            keep_what_is_used(Mode { enters_namespaces: false, writes_in: None }).unwrap();
            let held = rustix::thread::capabilities(None).unwrap();
            assert!(!held.permitted.contains(CapabilitySet::SETUID) && held.inheritable.is_empty(), "{held:?}");
            let back = CapabilitySets { permitted: held.permitted | CapabilitySet::SETUID, ..held };
            assert!(rustix::thread::set_capabilities(None, back).is_err());
        });
    }
}
