//! BPF without a compiler: small programs assembled at run time from the running kernel's own type information.
//!
//! Input: the kernel only (`/sys/kernel/btf/vmlinux` and bpf(2)). Output: the holders of every TCP socket in one
//! kernel pass ([`owners`]), and every TCP state change as it happens (`trace`); or [`Unavailable`], one line on
//! why not, so that the caller can fall back and report it. No structure offset is hard-wired, there is no prebuilt
//! object file, and no map or program outlives its handle.
//!
//! `btf` finds field offsets and type ids in the kernel's BTF, `asm` turns a listing into instructions, `sys`
//! loads them, `ring` reads what the kernel writes.
//!
//! Two facts shape everything here:
//!
//! * Process numbers that a BPF program reads from a `task_struct` are those of the *initial* PID namespace,
//!   wherever the program was loaded. In any other PID namespace they mean nothing or, worse, another process, so
//!   [`owners`] refuses and `trace` leaves them out; see [`pids_are_ours`].
//! * When the verifier refuses a program, the last line of its log is the reason. The log is requested only on a
//!   second try, because logging makes loading slow.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "offsets into BTF, programs and rings are 32-bit fields of the kernel, and checked where they come in"
)]

pub(crate) mod asm;
pub(crate) mod btf;
#[cfg(test)]
mod fault_tests;
mod kernel_btf;
#[cfg(test)]
mod kernel_tests;
mod mapping;
pub mod owners;
mod ring;
mod sys;
#[cfg(test)]
mod testkit;
pub(crate) mod trace;

pub(in crate::collect) use sys::raise_memlock;

use std::io;

use rustix::thread::CapabilitySet;

use crate::collect::rights;
use crate::model::Gap;
use crate::model::gap::{Capability, Missing, WayOut, Why};

/// Where the kernel exposes its type information (`CONFIG_DEBUG_INFO_BTF`).
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The inode of the initial pid namespace, fixed by the kernel (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Why BPF cannot be used here. One line, lower case; [`Unavailable::way_out`] names the way out.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The kernel was built without BTF, or `/sys` is not mounted.
    #[error("cannot read the kernel's type information {KERNEL_BTF}: {0}")]
    NoBtf(#[source] io::Error),
    /// This program cannot read the BTF, or it lacks something a program needs.
    #[error("kernel type information: {0}")]
    Btf(#[from] btf::BtfError),
    /// The kernel returned EPERM.
    #[error("bpf: {operation} is not permitted: {why}")]
    NotPermitted { operation: &'static str, why: String },
    /// The kernel does not know this command, map or program type.
    #[error("bpf: {operation}: {source}; this needs Linux {since} or later with BPF enabled")]
    TooOld { operation: &'static str, since: &'static str, source: io::Error },
    /// The verifier refused the program; `reason` is the last line of its log.
    #[error("bpf: the kernel refused the {program} program: {reason} ({source})")]
    Refused { program: &'static str, reason: String, source: io::Error },
    /// Process numbers would be those of another pid namespace.
    #[error("bpf: process numbers would be wrong: {0}")]
    PidNamespace(String),
    /// A program could not be assembled: an offset does not fit an instruction.
    #[error("bpf: cannot assemble the {program} program: {source}")]
    Assemble { program: &'static str, source: asm::AsmError },
    /// Any other failure of a system call.
    #[error("bpf: {operation}: {source}")]
    Failed { operation: &'static str, source: io::Error },
}

impl Unavailable {
    /// The gap of a trace whose process numbers mean nothing here.
    pub(in crate::collect) fn processes_unknown(&self) -> Gap {
        Gap::new(Missing::TraceProcesses, Why::Error(self.to_string()), self.way_out())
    }

    /// The way out, for a gap.
    #[must_use]
    pub fn way_out(&self) -> WayOut {
        match self {
            Unavailable::NoBtf(_) => WayOut::KernelTypes,
            Unavailable::NotPermitted { .. } => rights::own().way_out(Capability::BPF),
            Unavailable::TooOld { .. } => WayOut::NewerKernel,
            Unavailable::PidNamespace(_) => WayOut::HostPidNamespace,
            _ => WayOut::None,
        }
    }
}

/// Checks that this process and the kernel number processes alike.
///
/// # Errors
/// [`Unavailable::PidNamespace`] in any PID namespace but the initial one, and where this cannot be determined.
pub fn pids_are_ours() -> Result<(), Unavailable> {
    match rustix::fs::stat("/proc/self/ns/pid") {
        Ok(stat) => same_pids(stat.st_ino),
        Err(e) => Err(Unavailable::PidNamespace(format!("cannot read /proc/self/ns/pid: {}", io::Error::from(e)))),
    }
}

fn same_pids(namespace_inode: u64) -> Result<(), Unavailable> {
    if namespace_inode == INITIAL_PID_NAMESPACE {
        return Ok(());
    }
    Err(Unavailable::PidNamespace(format!(
        "pid namespace {namespace_inode} is not the initial one, {INITIAL_PID_NAMESPACE}"
    )))
}

/// Explains a failed bpf(2) call in the user's terms.
fn refusal(operation: &'static str, since: &'static str, source: io::Error) -> Unavailable {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let effective = rustix::thread::capabilities(None).ok().map(|sets| sets.effective);
            Unavailable::NotPermitted { operation, why: why_not_permitted(effective) }
        }
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => Unavailable::TooOld { operation, since, source },
        _ => Unavailable::Failed { operation, source },
    }
}

/// Names the missing capability, or what else can forbid bpf(2) (`bpf_capable` and `perfmon_capable` in
/// `include/linux/capability.h`: either the specific capability or `CAP_SYS_ADMIN`, and always in the initial user
/// namespace).
fn why_not_permitted(effective: Option<CapabilitySet>) -> String {
    let Some(held) = effective else {
        return "it needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)".into();
    };
    if held.contains(CapabilitySet::SYS_ADMIN) || held.contains(CapabilitySet::BPF | CapabilitySet::PERFMON) {
        return "the capabilities are held, so a user namespace, seccomp, a security module or lockdown forbids it"
            .into();
    }
    let missing: Vec<&str> = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(capability, _)| !held.contains(*capability))
        .map(|(_, name)| name)
        .collect();
    format!("{} missing (CAP_SYS_ADMIN would also do)", missing.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_capability_is_named() {
        let none = why_not_permitted(Some(CapabilitySet::empty()));
        assert!(none.starts_with("CAP_BPF and CAP_PERFMON missing"), "{none}");
        let half = why_not_permitted(Some(CapabilitySet::BPF));
        assert!(half.starts_with("CAP_PERFMON missing"), "{half}");
        for enough in [CapabilitySet::SYS_ADMIN, CapabilitySet::BPF | CapabilitySet::PERFMON] {
            assert!(why_not_permitted(Some(enough)).contains("lockdown"));
        }
    }

    #[test]
    fn another_pid_namespace_is_refused_with_its_number() {
        assert!(same_pids(INITIAL_PID_NAMESPACE).is_ok());
        let error = same_pids(4_026_532_300).unwrap_err();
        assert!(error.to_string().contains("4026532300"), "{error}");
        assert_eq!(error.way_out(), WayOut::HostPidNamespace);
    }

    #[test]
    fn every_reason_is_one_lower_case_line() {
        let os = || io::Error::from_raw_os_error(libc::EINVAL);
        for error in [
            Unavailable::NoBtf(os()),
            Unavailable::Btf(btf::BtfError::NoType { kind: btf::Kind::Struct, name: "sock" }),
            refusal("map creation", "5.8", io::Error::from_raw_os_error(libc::EPERM)),
            refusal("map creation", "5.8", os()),
            refusal("map creation", "5.8", io::Error::from_raw_os_error(libc::ENOMEM)),
            Unavailable::Refused { program: "owners", reason: "invalid access".into(), source: os() },
            Unavailable::Assemble { program: "owners", source: asm::AsmError::OffsetTooFar(40_000) },
        ] {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.starts_with(char::is_lowercase), "{line}");
        }
    }
}
