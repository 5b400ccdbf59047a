//! Asks the kernel whether an address and a port number could be bound, without taking a port.
//!
//! Input: a namespace and a request. Output: what `__inet_bind` and `__inet6_bind` check before they look for other
//! sockets. Nothing is bound: with `IP_BIND_ADDRESS_NO_PORT` a bind to port 0 checks the address and takes no port, and
//! an IPv4-mapped address on an IPv6-only socket is refused after the check of the port's number.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::collect::error::Error;
use crate::collect::interfaces;
use crate::collect::netns::NetnsHandle;
use crate::model::Family;
use crate::model::binding::{AddressAnswer, BindFacts, BindRequest, Refusal};

/// What the kernel says of the request, in its namespace.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn ask(space: &NetnsHandle, request: &BindRequest) -> Result<BindFacts, Error> {
    space.inside(|| BindFacts { address: address(request), port_permitted: permitted(request.local.port) })
}

/// The number of an interface of a namespace.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn interface(space: &NetnsHandle, name: &str) -> Result<Option<u32>, Error> {
    space.inside(|| interfaces::index_of(name))
}

fn socket(family: Family) -> rustix::io::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn address(request: &BindRequest) -> AddressAnswer {
    let refused = |e: Errno| AddressAnswer::Refused(Refusal::of_errno(e.raw_os_error()));
    let socket = match socket(request.family()) {
        Ok(socket) => socket,
        Err(e @ Errno::AFNOSUPPORT) => return refused(e),
        Err(_) => return AddressAnswer::Unknown,
    };
    // Without the option a port would be taken for a moment: then it is better not to know (Linux before 4.2).
    let prepared = no_port(&socket).is_ok()
        && (request.family() == Family::V4 || sockopt::set_ipv6_v6only(&socket, request.v6only).is_ok());
    if !prepared {
        return AddressAnswer::Unknown;
    }
    let mut at = SocketAddr::new(request.local.addr, 0);
    if let SocketAddr::V6(at) = &mut at {
        at.set_scope_id(request.ifindex);
    }
    net::bind(&socket, &at).map_or_else(refused, |()| AddressAnswer::Accepted)
}

fn no_port(socket: &OwnedFd) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int, of four bytes.
    #[allow(unsafe_code, reason = "no crate in use wraps IP_BIND_ADDRESS_NO_PORT")]
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), 4)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn permitted(port: u16) -> Option<bool> {
    let socket = socket(Family::V6).ok()?;
    sockopt::set_ipv6_v6only(&socket, true).ok()?;
    let mapped = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1);
    match net::bind(&socket, &SocketAddrV6::new(mapped, port, 0, 0)) {
        Err(Errno::ACCESS) => Some(false),
        Err(Errno::INVAL) => Some(true),
        _ => None,
    }
}
