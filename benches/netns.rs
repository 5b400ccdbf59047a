//! A private network namespace, and children that cannot outlive the process that asked for them.
//!
//! Comes in: nothing, or a command. Goes out: a process whose loopback is up, whose TCP limits fit the benchmark and
//! whose traffic nobody else sees. Never here: a socket of a population.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// What the populations need of a namespace, beside what its kernel gives every new one.
const SYSCTLS: [(&str, &str); 5] = [
    // One socket per (address, port): the low ports would be refused otherwise, and the high ones run out sooner.
    ("net/ipv4/ip_local_port_range", "1024 65535"),
    // More TIME_WAIT than this and the kernel closes them at once (`inet_twsk_alloc`).
    ("net/ipv4/tcp_max_tw_buckets", "4000000"),
    // The default 2 lets a connect over loopback take over a TIME_WAIT that is meant to stay.
    ("net/ipv4/tcp_tw_reuse", "0"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/tcp_max_syn_backlog", "4096"),
];

/// Moves the calling process, which must have one thread, into a new network namespace and makes it usable.
///
/// 10.0.0.0/8 becomes local in it: any address there can be bound and reached without one more address on a device.
pub fn enter_private() -> Result<()> {
    // SAFETY: the flag names the network namespace only, so no memory, file table or signal state is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.context(
        "make a network namespace: run as root, or inside `unshare --user --map-root-user` where the kernel allows it",
    )?;
    let control = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .context("open a socket to configure lo")?;
    bring_up(&control, c"lo")?;
    // `fib_add_ifaddr` makes the whole prefix of an address on a loopback device RTN_LOCAL.
    set_address(&control, c"lo:0", libc::SIOCSIFADDR, [10, 0, 0, 1])?;
    set_address(&control, c"lo:0", libc::SIOCSIFNETMASK, [255, 0, 0, 0])?;
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/{name}");
        std::fs::write(&path, value).with_context(|| format!("write {value:?} to {path}"))?;
    }
    Ok(())
}

/// A new network namespace that nobody is in: the thread that made it has ended.
pub fn another() -> Result<std::fs::File> {
    let made = std::thread::spawn(|| {
        // SAFETY: the flag names the network namespace only, and the thread ends here.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.context("make a network namespace")?;
        std::fs::File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")
    });
    made.join().unwrap_or_else(|_| bail!("make a network namespace: the thread was lost"))
}

fn request_for(device: &CStr) -> libc::ifreq {
    // SAFETY: `ifreq` is a C struct of integers, byte arrays and a union of them: all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.to_bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn configure(control: &OwnedFd, what: libc::c_ulong, request: &libc::ifreq) -> Result<()> {
    // SAFETY: `control` is open and `request` is a whole `struct ifreq` that outlives the call; the set requests used
    // here only read it.
    let status = unsafe { libc::ioctl(control.as_raw_fd(), what as _, std::ptr::from_ref(request)) };
    if status < 0 {
        return Err(std::io::Error::last_os_error()).context(format!("configure the loopback device ({what:#x})"));
    }
    Ok(())
}

fn bring_up(control: &OwnedFd, device: &CStr) -> Result<()> {
    let mut request = request_for(device);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    configure(control, libc::SIOCSIFFLAGS as libc::c_ulong, &request)
}

fn set_address(control: &OwnedFd, device: &CStr, what: libc::c_ulong, address: [u8; 4]) -> Result<()> {
    let mut request = request_for(device);
    let ipv4 = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address) },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 byte C structs of plain integers; the kernel reads this union as the address its family says.
    request.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(ipv4) };
    configure(control, what, &request)
}

/// Raises the soft limit of open descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raise the limit of open files to the hard limit")?;
    Ok(limit.maximum.map_or(1 << 20, |limit| usize::try_from(limit).unwrap_or(1 << 20)))
}

/// Makes the child of `command` die with this process, whatever ends it: a panic, Ctrl-C, or SIGKILL.
///
/// With `namespace`, the child also starts inside that network namespace.
pub fn tie_to_us(command: &mut Command, namespace: Option<BorrowedFd<'_>>) {
    let us = rustix::process::getpid();
    let namespace = namespace.map(|fd| fd.as_raw_fd());
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have gone before the request above: then nobody would end this child.
        if getppid() != Some(us) {
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(fd) = namespace {
            // SAFETY: the caller holds the descriptor open across the spawn, and the child has its own copy of it.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            rustix::thread::move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes system calls only: it neither allocates nor locks.
    unsafe { command.pre_exec(before_exec) };
}

/// The number in a `key=value` list, such as the roles of this binary print to each other.
pub fn number_of(line: &str, key: &str) -> Result<u64> {
    for field in line.split_whitespace() {
        if let Some((name, value)) = field.split_once('=')
            && name == key
        {
            return value.parse().with_context(|| format!("read {key} in {line:?}"));
        }
    }
    bail!("read {key} in {line:?}: not there")
}
