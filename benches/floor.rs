//! The floors: the least work by which the kernel can be made to tell what the subjects tell.
//!
//! Comes in: a floor's name and the network namespace of the calling process. Goes out: how many sockets, bytes and
//! descriptors the kernel handed over, as one line. Never here: a decoded socket. Answers are walked from header to
//! header, only to find the end and to count, and are thrown away, so that any time a subject needs beyond its floor
//! is the subject's own.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// `NLMSG_ERROR`, `NLMSG_DONE` (`include/uapi/linux/netlink.h`).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `TCPDIAG_GETSOCK` (`include/uapi/linux/inet_diag.h`): the request of Linux 2.6. `inet_diag_dump_compat` turns it
/// into a dump of `AF_UNSPEC`, so that one walk of the hash tables answers for both address families.
const TCPDIAG_GETSOCK: u16 = 18;
/// `SOCK_DIAG_BY_FAMILY`: the request since Linux 3.3, for one family a pass.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP_FLAGS: u16 = 0x301;
const HEADER_BYTES: usize = 16;
/// The extension bit that asks for `struct tcp_info`: `1 << (INET_DIAG_INFO - 1)`.
const WANT_TCP_INFO: u8 = 1 << 1;
/// The extension bit that asks for the memory of the socket: `1 << (INET_DIAG_SKMEMINFO - 1)`.
const WANT_MEMORY: u8 = 1 << 6;
const ALL_STATES: u32 = u32::MAX;
/// One more than the highest state number the kernel has today, with room for newer ones.
pub const STATE_SLOTS: usize = 16;

/// What a dump brought.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dumped {
    pub sockets: u64,
    pub bytes: u64,
    /// Sockets by the kernel's state number; anything newer than the table counts in slot 0.
    pub by_state: [u64; STATE_SLOTS],
}

/// Runs the floor called `name` and returns the line it prints.
pub fn run(name: &str) -> Result<String> {
    let dumped = match name {
        "start" => Dumped::default(),
        "dump" => dump(&legacy_request(0, ALL_STATES))?,
        "dump-info" => dump(&legacy_request(WANT_TCP_INFO, ALL_STATES))?,
        // What a diagnosis has to know of every socket.
        "dump-diagnosis" => dump(&legacy_request(WANT_TCP_INFO | WANT_MEMORY, ALL_STATES))?,
        "dump-two-pass" => {
            let mut total = dump(&family_request(libc::AF_INET, 0, ALL_STATES))?;
            let v6 = dump(&family_request(libc::AF_INET6, 0, ALL_STATES))?;
            total.sockets += v6.sockets;
            total.bytes += v6.bytes;
            total
        }
        // Without TCP_BOUND_INACTIVE (13), which makes the kernel walk the hash table of bound ports as well.
        "dump-no-bound" => dump(&legacy_request(0, ALL_STATES & !(1 << 13)))?,
        // A mask that no socket matches costs the walk of the established hash table and nothing else.
        "dump-none" => dump(&legacy_request(0, 1 << 15))?,
        // What so many empty namespaces cost whoever asks each of them: the tables are the host's, whoever's rows they hold.
        "walks-200" => {
            for _ in 1..200 {
                dump(&legacy_request(0, ALL_STATES))?;
            }
            dump(&legacy_request(0, ALL_STATES))?
        }
        "descriptors" => {
            let mut found = 0u64;
            let stats = tcpstate::collect::bpf::owners::socket_holders(&mut |_| found += 1);
            stats.map_err(|why| anyhow::anyhow!("read descriptors by BPF: {why}"))?;
            return Ok(format!("sockets={found}"));
        }
        "fd-walk" => {
            let links = fd_walk()?;
            return Ok(format!("sockets={links}"));
        }
        other => bail!("cannot run floor {other:?}: unknown name"),
    };
    Ok(format!("sockets={} bytes={}", dumped.sockets, dumped.bytes))
}

/// The sockets of this namespace by state, from the same dump as the floor.
pub fn census() -> Result<Dumped> {
    dump(&legacy_request(0, ALL_STATES))
}

fn header(length: usize, kind: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&DUMP_FLAGS.to_ne_bytes());
    out.extend_from_slice(&1_u32.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out
}

/// `struct inet_diag_sockid` that matches every socket: no ports, no addresses, no interface, no cookie.
fn any_socket() -> [u8; 48] {
    let mut id = [0_u8; 48];
    id[40..].fill(0xff);
    id
}

/// `struct inet_diag_req` (60 bytes).
fn legacy_request(extensions: u8, states: u32) -> Vec<u8> {
    let mut out = header(HEADER_BYTES + 60, TCPDIAG_GETSOCK);
    out.extend_from_slice(&[0, 0, 0, extensions]);
    out.extend_from_slice(&any_socket());
    out.extend_from_slice(&states.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out
}

/// `struct inet_diag_req_v2` (56 bytes).
fn family_request(family: i32, extensions: u8, states: u32) -> Vec<u8> {
    let mut out = header(HEADER_BYTES + 56, SOCK_DIAG_BY_FAMILY);
    let tcp = u8::try_from(libc::IPPROTO_TCP).unwrap_or(6);
    out.extend_from_slice(&[u8::try_from(family).unwrap_or(0), tcp, extensions, 0]);
    out.extend_from_slice(&states.to_ne_bytes());
    out.extend_from_slice(&any_socket());
    out
}

/// Sends one dump request and drains the answer.
fn dump(request: &[u8]) -> Result<Dumped> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .context("open a sock_diag socket")?;
    rustix::net::send(&socket, request, SendFlags::empty()).context("send the dump request")?;

    let mut dumped = Dumped::default();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let (received, length) =
            rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::TRUNC).context("receive the dump")?;
        if length > received {
            bail!("receive the dump: a datagram of {length} bytes was cut to {received}");
        }
        if count_messages(&buffer[..received], &mut dumped)? {
            return Ok(dumped);
        }
    }
}

/// Walks the headers of one datagram; true when it held the end of the dump.
fn count_messages(datagram: &[u8], dumped: &mut Dumped) -> Result<bool> {
    dumped.bytes += datagram.len() as u64;
    let mut rest = datagram;
    while rest.len() >= HEADER_BYTES {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let kind = u16::from_ne_bytes([rest[4], rest[5]]);
        if kind == NLMSG_DONE || kind == NLMSG_ERROR {
            let code = rest.get(16..20).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
            if code < 0 || kind == NLMSG_ERROR {
                bail!("dump sockets: {}", std::io::Error::from_raw_os_error(-code));
            }
            return Ok(true);
        }
        dumped.sockets += 1;
        let state = rest.get(HEADER_BYTES + 1).map_or(0, |state| usize::from(*state));
        dumped.by_state[if state < STATE_SLOTS { state } else { 0 }] += 1;
        if length < HEADER_BYTES {
            bail!("dump sockets: a message claims {length} bytes");
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Reads the target of every descriptor of every process, one thread per core, and keeps nothing but their number.
///
/// This is what naming the owners costs without BPF: no name is parsed, no map is filled.
fn fd_walk() -> Result<u64> {
    let proc_dir = openat(CWD, c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open /proc")?;
    let mut pids = Vec::new();
    for_each_entry(&proc_dir, |name| {
        if name.to_bytes().first().is_some_and(u8::is_ascii_digit) {
            pids.push(CString::from(name));
        }
    })
    .context("list /proc")?;

    let next = AtomicUsize::new(0);
    let links = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut seen = 0;
                while let Some(pid) = pids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A process that is gone, or that we may not look into, is no part of the floor.
                    seen += links_of(&proc_dir, pid).unwrap_or(0);
                }
                links.fetch_add(seen, Ordering::Relaxed);
            });
        }
    });
    Ok(links.into_inner())
}

fn links_of(proc_dir: &OwnedFd, pid: &std::ffi::CStr) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let process = openat(proc_dir, pid, flags | OFlags::PATH, Mode::empty())?;
    let fds = openat(&process, c"fd", flags, Mode::empty())?;
    let mut seen = 0;
    let mut target = [MaybeUninit::<u8>::uninit(); 64];
    for_each_entry(&fds, |name| {
        if name.to_bytes().first().is_some_and(u8::is_ascii_digit)
            && readlinkat_raw(&fds, name, &mut target[..]).is_ok()
        {
            seen += 1;
        }
    })?;
    Ok(seen)
}

fn for_each_entry(dir: &OwnedFd, mut visit: impl FnMut(&std::ffi::CStr)) -> Result<()> {
    let mut space = vec![MaybeUninit::<u8>::uninit(); 64 * 1024];
    let mut entries = RawDir::new(dir, &mut space);
    while let Some(entry) = entries.next() {
        visit(entry?.file_name());
    }
    Ok(())
}
