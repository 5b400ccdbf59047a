//! bpf(2): the system call, its argument structures, and descriptors that close themselves.
//!
//! Input: a finished program, a size. Output: owned descriptors of maps, programs, links and iterators, or the
//! kernel's refusal in the user's terms. This file and `ring.rs` hold all the unsafe code of the folder.
#![allow(unsafe_code, reason = "bpf(2), its ring buffer and the namespaces of its tests have no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::asm::Insn;
use super::{Unavailable, refusal};

// Commands, types and flags of `include/uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const LINK_CREATE: libc::c_int = 28;
const ITER_CREATE: libc::c_int = 33;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_RINGBUF: u32 = 27;
const MAP_FLAG_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_TRACING: u32 = 26;

/// How a tracing program is attached (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Attach {
    RawTracepoint = 23,
    Iterator = 28,
}

/// The licence that the programs declare. Some helpers (`bpf_seq_write`, `bpf_get_current_task_btf`) are for programs
/// under a GPL-compatible licence only; the programs in this folder are offered under both.
const LICENCE: &std::ffi::CStr = c"Dual MIT/GPL";
/// Room for the verifier's log: some hundred instructions take a few tens of KiB at level 1.
const LOG_BYTES: usize = 256 * 1024;
/// How often a load is retried on EAGAIN: a signal was pending while the verifier ran.
const LOAD_TRIES: u32 = 5;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

#[repr(C)]
#[derive(Default)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The part of `struct bpf_prog_info` up to the wanted field; only that one is named.
#[repr(C)]
struct ProgInfo {
    before: [u64; 26],
    recursion_misses: u64,
}

/// The command structures: plain numbers in `repr(C)` without padding, so every byte is initialised.
trait Attr {}
impl Attr for MapCreate {}
impl Attr for ProgLoad {}
impl Attr for RawTracepointOpen {}
impl Attr for LinkCreate {}
impl Attr for IterCreate {}
impl Attr for InfoByFd {}

/// One bpf(2) call, retried when a signal interrupts it.
fn bpf<T: Attr>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    loop {
        // SAFETY: `attr` is a live, initialised structure of the size given, and the kernel reads (for
        // OBJ_GET_INFO_BY_FD: writes) no more of it than that. Every address inside it was put there by a caller in
        // this file and points to memory that lives until this call returns.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
        if result >= 0 {
            return libc::c_int::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn bpf_fd<T: Attr>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: a command that creates an object returned a new descriptor (close-on-exec), which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create_map(operation: &'static str, since: &'static str, attr: &mut MapCreate) -> Result<OwnedFd, Unavailable> {
    let mut created = bpf_fd(MAP_CREATE, attr);
    // Before Linux 5.11 a map counts against RLIMIT_MEMLOCK, 64 KiB by default; beyond it the call fails with EPERM.
    if created.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EPERM)) && raise_memlock() {
        created = bpf_fd(MAP_CREATE, attr);
    }
    created.map_err(|e| refusal(operation, since, e))
}

/// Raises the limit on locked memory; false where that is not to be had, or not needed.
pub(in crate::collect) fn raise_memlock() -> bool {
    if getrlimit(Resource::Memlock).current.is_none() {
        return false;
    }
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_ok()
}

/// A ring buffer that a program writes and this process reads. `bytes` is a power of two and a multiple of a page.
pub fn create_ring(bytes: u32) -> Result<OwnedFd, Unavailable> {
    let mut attr = MapCreate {
        map_type: MAP_TYPE_RINGBUF,
        max_entries: bytes,
        map_name: *b"tcpstate_ring\0\0\0",
        ..MapCreate::default()
    };
    create_map("ring buffer creation", "5.8", &mut attr)
}

/// One `u64` that a program counts in and this process can map.
pub fn create_counter() -> Result<OwnedFd, Unavailable> {
    let mut attr = MapCreate {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        map_flags: MAP_FLAG_MMAPABLE,
        map_name: *b"tcpstate_lost\0\0\0",
        ..MapCreate::default()
    };
    create_map("counter creation", "5.5", &mut attr)
}

/// Loads a tracing program for the BTF type `attach_id`: a `btf_trace_*` typedef or a `bpf_iter_*` function.
pub fn load_program(
    program: &'static str,
    code: &[Insn],
    attach: Attach,
    attach_id: u32,
) -> Result<OwnedFd, Unavailable> {
    let mut attr = ProgLoad {
        prog_type: PROG_TYPE_TRACING,
        insn_cnt: u32::try_from(code.len()).unwrap_or(u32::MAX),
        insns: address(code.as_ptr()),
        license: address(LICENCE.as_ptr()),
        prog_name: *b"tcpstate\0\0\0\0\0\0\0\0",
        expected_attach_type: attach as u32,
        attach_btf_id: attach_id,
        ..ProgLoad::default()
    };
    let source = match try_load(&mut attr) {
        Ok(fd) => return Ok(fd),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            return Err(refusal("program load", "5.8", e));
        }
        Err(e) => e,
    };
    // Again, for the reason. This may also succeed: the first failure was then temporary.
    let mut log = vec![0_u8; LOG_BYTES];
    attr.log_level = 1;
    attr.log_size = LOG_BYTES as u32;
    attr.log_buf = address(log.as_mut_ptr());
    match try_load(&mut attr) {
        Ok(fd) => Ok(fd),
        Err(_) => Err(match last_message(&log) {
            Some(reason) => Unavailable::Refused { program, reason, source },
            None => refusal("program load", "5.8", source),
        }),
    }
}

fn try_load(attr: &mut ProgLoad) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match bpf_fd(PROG_LOAD, attr) {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && tries < LOAD_TRIES => tries += 1,
            result => return result,
        }
    }
}

/// The last meaningful line of a verifier log; only statistics follow it.
fn last_message(log: &[u8]) -> Option<String> {
    let text = log.split(|b| *b == 0).next().map(String::from_utf8_lossy)?;
    let line = text.lines().map(str::trim).rfind(|l| !l.is_empty() && !l.starts_with("processed "))?;
    Some(line.chars().filter(|c| !c.is_control()).collect())
}

/// Attaches a raw tracepoint program; it runs until the descriptor is closed.
pub fn attach_tracepoint(program: BorrowedFd<'_>) -> Result<OwnedFd, Unavailable> {
    // A program with a BTF type has its tracepoint, so the name stays empty (`bpf_raw_tp_link_attach`).
    let mut attr = RawTracepointOpen { prog_fd: number(program), ..RawTracepointOpen::default() };
    bpf_fd(RAW_TRACEPOINT_OPEN, &mut attr).map_err(|e| refusal("attaching to inet_sock_set_state", "5.8", e))
}

/// Makes an iterator of an iterator program. It belongs to the caller's pid namespace (`init_seq_pidns`,
/// `kernel/bpf/task_iter.c`); reading the descriptor runs the program.
pub fn open_iterator(program: BorrowedFd<'_>) -> Result<OwnedFd, Unavailable> {
    let mut attr =
        LinkCreate { prog_fd: number(program), attach_type: Attach::Iterator as u32, ..LinkCreate::default() };
    let link = bpf_fd(LINK_CREATE, &mut attr).map_err(|e| refusal("iterator link", "5.8", e))?;
    let mut attr = IterCreate { link_fd: link.as_raw_fd().cast_unsigned(), ..IterCreate::default() };
    bpf_fd(ITER_CREATE, &mut attr).map_err(|e| refusal("iterator creation", "5.8", e))
}

/// How often the kernel skipped a program because it was already running on that CPU (since Linux 5.12; `None` before).
pub fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let mut info = ProgInfo { before: [0; 26], recursion_misses: 0 };
    let mut attr = InfoByFd {
        bpf_fd: number(program),
        info_len: size_of::<ProgInfo>() as u32,
        info: address(std::ptr::from_mut(&mut info)),
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).ok()?;
    // The kernel reports how much of it it filled in.
    (attr.info_len as usize >= size_of::<ProgInfo>()).then_some(info.recursion_misses)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_layout_of_the_kernel() {
        assert_eq!(std::mem::offset_of!(MapCreate, map_name), 28);
        assert_eq!(std::mem::offset_of!(ProgLoad, prog_name), 48);
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(std::mem::offset_of!(ProgLoad, attach_btf_id), 108);
        assert_eq!(std::mem::offset_of!(ProgInfo, recursion_misses), 208);
        assert_eq!(size_of::<ProgLoad>() % 8, 0);
    }

    #[test]
    fn the_reason_is_the_last_line_that_is_not_statistics() {
        let log = b"0: R1=ctx()\n; 0: (79) r3 = *(u64 *)(r1 +24)\nR3 invalid mem access 'scalar'\n\
            processed 3 insns (limit 1000000)\n\0\0\0";
        assert_eq!(last_message(log).as_deref(), Some("R3 invalid mem access 'scalar'"));
        assert_eq!(last_message(b"\0\0"), None);
        assert_eq!(last_message(b""), None);
    }
}
