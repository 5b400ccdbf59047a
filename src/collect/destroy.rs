//! Destroys single sockets (`SOCK_DESTROY`): the only part of this program that changes a connection.
//!
//! Input: sockets that were listed. Output: what became of each. A socket is found by its addresses and ports, and the
//! kernel compares the cookie before it does anything (`inet_diag_find_one_icsk`), so a later socket with the same addresses
//! and ports is safe. The state is compared right before; it may still change until the next system call.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;

use rustc_hash::FxHashMap;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::error::Error;
use super::live::Live;
use super::netlink::request::Walk;
use super::netlink::{Attributes, Channel, Request, is_gone};
use crate::model::fate::{Fate, Spared};
use crate::model::{Endpoint, Errno, Family, FourTuple, NetnsId, Socket, State, StateSet};

/// `INET_DIAG_NOCOOKIE`: any socket.
const ANY_COOKIE: u64 = u64::MAX;
/// Of listeners that share a port the kernel picks one by a hash that includes the peer's port; so many ports are tried.
const PEER_PORTS: u16 = 2048;

/// Channels into the namespaces of the sockets to destroy.
pub struct Destroyer {
    channels: FxHashMap<Option<NetnsId>, Channel>,
}

impl Destroyer {
    /// Opens a channel into each namespace of these sockets, and destroys nothing.
    ///
    /// # Errors
    /// When the right is missing in one of them, or the kernel cannot destroy sockets.
    pub fn open<'a>(live: &Live, sockets: impl Iterator<Item = &'a Socket>) -> Result<Destroyer, Error> {
        let mut channels = FxHashMap::default();
        for socket in sockets {
            if channels.contains_key(&socket.netns) {
                continue;
            }
            let Some(space) = live.spaces().find(|space| space.inode == socket.netns) else { continue };
            let (permitted, channel) = space.inside(|| (is_permitted(), Channel::open(space.inode)))?;
            let fail = |e| Error::new("destroy sockets of the network namespace", space.label(), e);
            permitted.map_err(|e| fail(e).hint("it takes CAP_NET_ADMIN; nothing was destroyed"))?;
            let mut channel = channel?;
            is_supported(&mut channel).map_err(|e| {
                fail(e).hint("the kernel needs CONFIG_INET_DIAG_DESTROY (Linux 4.5 or later); nothing was destroyed")
            })?;
            channels.insert(socket.netns, channel);
        }
        Ok(Destroyer { channels })
    }

    /// Destroys the socket that was listed, if it is still the same and in the same state.
    pub fn destroy(&mut self, socket: &Socket) -> Fate {
        let cookie = socket.cookie.filter(|cookie| *cookie != ANY_COOKIE);
        let (Some(cookie), Some(channel)) = (cookie, self.channels.get_mut(&socket.netns)) else {
            return Fate::Spared(Spared::NoCookie);
        };
        let mut tuple = socket.four_tuple();
        let fate = one(channel, socket, tuple, cookie);
        if fate != Fate::Gone || socket.state != State::Listen {
            return fate;
        }
        match is_listening(channel, socket.family, cookie) {
            Err(e) => return Fate::Refused(errno(e.errno())),
            Ok(false) => return Fate::Gone,
            Ok(true) => {}
        }
        for port in 1..PEER_PORTS {
            tuple.peer.port = port;
            match one(channel, socket, tuple, cookie) {
                Fate::Gone => {}
                fate => return fate,
            }
        }
        Fate::Spared(Spared::Hidden)
    }
}

/// One attempt. `Gone`: what the kernel finds under these addresses and ports, if anything, has another cookie.
fn one(channel: &mut Channel, socket: &Socket, tuple: FourTuple, cookie: u64) -> Fate {
    match channel.lookup(socket.family, tuple, cookie, Attributes::NONE) {
        Err(e) => return Fate::Refused(errno(e.errno())),
        Ok(None) => return Fate::Gone,
        Ok(Some(now)) if now.state != socket.state => return Fate::Changed(now.state),
        Ok(Some(_)) => {}
    }
    match channel.destroy(socket.family, tuple, cookie) {
        Ok(()) => Fate::Destroyed,
        Err(e) if is_gone(&e) => Fate::Gone,
        Err(e) => Fate::Refused(errno(e.raw_os_error())),
    }
}

fn errno(number: Option<i32>) -> Errno {
    Errno(number.unwrap_or(libc::EIO))
}

/// Whether a listener with this cookie is still there.
fn is_listening(channel: &mut Channel, family: Family, cookie: u64) -> Result<bool, Error> {
    let request = Request {
        walk: Walk::One(family),
        states: StateSet::LISTEN,
        attributes: Attributes::NONE,
        bytecode: Vec::new(),
    };
    let mut found = false;
    channel.dump(&request, &mut |socket| {
        found |= socket.cookie == Some(cookie);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Whether the kernel can destroy sockets: it is asked for one that cannot exist. Port 0 is nobody's, nor is cookie 0.
fn is_supported(channel: &mut Channel) -> io::Result<()> {
    let nobody = FourTuple { local: Endpoint::UNSPECIFIED_V4, peer: Endpoint::UNSPECIFIED_V4, ifindex: 0 };
    match channel.destroy(Family::V4, nobody, 0) {
        Err(e) if is_gone(&e) => Ok(()),
        // Before Linux 4.5 the request is unknown.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        Err(e) => Err(e),
        Ok(()) => Ok(()),
    }
}

/// Whether the caller has CAP_NET_ADMIN over the namespace of this thread: `TCP_REPAIR` takes the same right as
/// `SOCK_DESTROY` (`tcp_can_repair_sock`, `sock_diag_destroy`), and is set on a socket that nobody else has.
fn is_permitted() -> io::Result<()> {
    let socket = |family| rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let Ok(socket) = socket(AddressFamily::INET).or_else(|_| socket(AddressFamily::INET6)) else { return Ok(()) };
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int, of four bytes.
    #[allow(unsafe_code, reason = "no crate in use wraps TCP_REPAIR")]
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, (&raw const on).cast(), 4) };
    let error = io::Error::last_os_error();
    // What else may fail says nothing of the right; then the kernel's answer to the request does.
    if result == 0 || error.kind() != io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}
