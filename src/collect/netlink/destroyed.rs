//! Destroy events: what the kernel reports of each socket when it is freed.
//!
//! Input: messages of the multicast groups `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`, of the
//! network namespace in which the channel was opened. Output: a [`DestroyEvent`] for each, and how many were
//! dropped. Needs no privilege.
//!
//! The kernel sends one when the memory of a full socket is freed (`sk_destruct`, `net/core/sock.c`): after the
//! connection has ended and the last descriptor is closed. TIME_WAIT objects and requests send none. The addresses
//! may be gone by then; the cookie is not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::Socket as NetlinkSocket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::collect::error::Error;
use crate::collect::netlink::decode;
use crate::collect::netlink::message::messages;
use crate::model::{Endpoint, NetnsId, Socket};

/// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY`, `include/uapi/linux/sock_diag.h`.
const GROUPS: [u32; 2] = [1, 3];
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const MESSAGE_BYTES: usize = 4096;
/// Receive buffer for unread messages; without CAP_NET_ADMIN `rmem_max` limits it.
const ROOM_BYTES: usize = 16 << 20;
/// `SO_MEMINFO` and the index of `SK_MEMINFO_DROPS` in its answer, since Linux 4.12.
const SO_MEMINFO: libc::c_int = 55;
const DROPS: usize = 8;

/// What the kernel reported of a socket at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestroyEvent {
    pub netns: Option<NetnsId>,
    pub cookie: u64,
    /// 0.0.0.0:0 when a reset ended it.
    pub local: Endpoint,
    pub peer: Endpoint,
    /// Payload, without retransmissions.
    pub sent_bytes: u64,
    /// Payload, plus one if the peer's FIN arrived.
    pub received_bytes: u64,
    /// It was a connection, or an attempt: not a listener and not an unused socket.
    pub connected: bool,
    /// Its counts were reset (`tcp_disconnect` in `net/ipv4/tcp.c`): after a refused connect(), or when it was
    /// closed with a reset.
    pub cleared: bool,
    /// Repetitions and probes since the peer last acknowledged anything; `None`: not reported, or cleared.
    pub repeated: Option<u32>,
}

/// An open channel.
pub struct Farewells {
    socket: NetlinkSocket,
    buffer: Vec<u8>,
    netns: Option<NetnsId>,
    scratch: Socket,
}

impl Farewells {
    /// Whose events these are.
    #[must_use]
    pub fn netns(&self) -> Option<NetnsId> {
        self.netns
    }

    /// Subscribes in the network namespace of this thread, whose inode is `netns`.
    ///
    /// # Errors
    /// When the kernel lacks these groups.
    pub fn open(netns: Option<NetnsId>) -> Result<Farewells, Error> {
        let open = || -> io::Result<NetlinkSocket> {
            let mut socket = NetlinkSocket::new(NETLINK_SOCK_DIAG)?;
            socket.bind_auto()?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM_BYTES).is_err() {
                // Limited to what is allowed; dropped messages are counted.
                let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, ROOM_BYTES);
            }
            Ok(socket)
        };
        let socket = open().map_err(|e| Error::new("listen to destroyed sockets", "", e))?;
        Ok(Farewells { socket, buffer: vec![0; MESSAGE_BYTES], netns, scratch: Socket::default() })
    }

    /// Passes on the queued events. Never blocks.
    ///
    /// # Errors
    /// The system's error, except for a full buffer: see [`Farewells::lost`].
    pub fn drain(&mut self, each: &mut dyn FnMut(DestroyEvent)) -> io::Result<()> {
        loop {
            let mut room = &mut self.buffer[..];
            match self.socket.recv(&mut room, libc::MSG_DONTWAIT) {
                Ok(length) => {
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    events(bytes, self.netns, &mut self.scratch, each);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted || e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// How many messages were dropped so far; `None` before Linux 4.12, which does not report it.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        let mut facts = [0_u32; DROPS + 1];
        let mut length = libc::socklen_t::try_from(size_of_val(&facts)).ok()?;
        // SAFETY: the kernel writes at most `length` bytes to `facts`, which is as long, and the length back to `length`.
        #[allow(unsafe_code, reason = "no crate in use wraps SO_MEMINFO")]
        let result = unsafe {
            let fd = self.socket.as_raw_fd();
            libc::getsockopt(fd, libc::SOL_SOCKET, SO_MEMINFO, facts.as_mut_ptr().cast(), &raw mut length)
        };
        let whole = usize::try_from(length).is_ok_and(|n| n == size_of_val(&facts));
        (result == 0 && whole).then(|| u64::from(facts[DROPS]))
    }
}

/// Readable when an event is queued.
impl AsFd for Farewells {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The events of a datagram; other kinds of messages and truncated ones are skipped.
fn events(bytes: &[u8], netns: Option<NetnsId>, scratch: &mut Socket, each: &mut dyn FnMut(DestroyEvent)) {
    for (kind, payload) in messages(bytes).flatten() {
        if kind == SOCK_DIAG_BY_FAMILY && decode::decode_into(payload, netns, scratch).is_ok() {
            each(farewell(scratch));
        }
    }
}

fn farewell(socket: &Socket) -> DestroyEvent {
    let info = socket.info.as_ref();
    let segments = |count: Option<u32>| count.unwrap_or(0);
    // Linux before 4.19 counts only what was acknowledged, with SYN and FIN.
    let sent = info.and_then(|i| Some(i.bytes_sent()?.saturating_sub(i.bytes_retrans()?)));
    let spoke = info.is_some_and(|i| segments(i.segs_in()) + segments(i.segs_out()) > 0);
    // Set by connect() and by accepting, and kept by `tcp_disconnect`.
    let connected = spoke || info.and_then(|i| i.advmss_bytes()).is_some_and(|advmss| advmss > 0);
    DestroyEvent {
        netns: socket.netns,
        cookie: socket.cookie.unwrap_or(0),
        local: socket.local,
        peer: socket.peer,
        sent_bytes: sent.or_else(|| info?.bytes_acked()).unwrap_or(0),
        received_bytes: info.and_then(|i| i.bytes_received()).unwrap_or(0),
        connected,
        cleared: connected && !spoke,
        repeated: info.filter(|_| spoke).and_then(|i| Some(u32::from(i.retransmits()?) + u32::from(i.probes()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::netlink::message::HEADER_BYTES;

    /// A message of a connection that sent 700 bytes, 200 of them twice, and received 30 and a FIN.
    fn message(cookie: u64) -> Vec<u8> {
        let mut msg = vec![0; 72];
        msg[0] = 2;
        msg[1] = 7;
        msg[4..6].copy_from_slice(&443_u16.to_be_bytes());
        msg[6..8].copy_from_slice(&50_000_u16.to_be_bytes());
        msg[44..52].copy_from_slice(&cookie.to_ne_bytes());
        let mut info = vec![0; 232];
        for (at, value) in [(128, 31_u64), (200, 900), (208, 200)] {
            info[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        info[140..144].copy_from_slice(&5_u32.to_ne_bytes());
        msg.extend((4 + 232_u16).to_ne_bytes());
        msg.extend(2_u16.to_ne_bytes());
        msg.extend(info);
        let mut bytes = u32::try_from(HEADER_BYTES + msg.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(msg);
        bytes
    }

    fn all(bytes: &[u8]) -> Vec<DestroyEvent> {
        let mut found = Vec::new();
        events(bytes, NetnsId::new(1), &mut Socket::default(), &mut |f| found.push(f));
        found
    }

    #[test]
    fn a_message_reads_back_and_a_cut_one_is_none() {
        // The two words of a cookie have this order on every machine.
        let cookie = u64::from(u32::MAX - 1);
        let bytes = message(cookie);
        let found = all(&bytes);
        assert_eq!((found[0].local.port, found[0].peer.port, found[0].netns), (443, 50_000, NetnsId::new(1)));
        assert_eq!((found[0].sent_bytes, found[0].received_bytes), (700, 31));
        assert_eq!((found[0].connected, found[0].cleared, found[0].repeated), (true, false, Some(0)));
        // tcp_info begins after 72 bytes and its attribute header; segments in and out, and advmss.
        let facts = |segments: u32, advmss: u32| {
            let mut bytes = bytes.clone();
            let info = HEADER_BYTES + 72 + 4;
            bytes[info + 136..info + 144].fill(0);
            bytes[info + 140..info + 144].copy_from_slice(&segments.to_ne_bytes());
            bytes[info + 84..info + 88].copy_from_slice(&advmss.to_ne_bytes());
            (all(&bytes)[0].connected, all(&bytes)[0].cleared)
        };
        assert_eq!([facts(5, 0), facts(0, 1448), facts(0, 0)], [(true, false), (true, true), (false, false)]);
        let mut repeated = bytes.clone();
        repeated[HEADER_BYTES + 72 + 4 + 2] = 3;
        assert_eq!(all(&repeated)[0].repeated, Some(3));
        for length in 0..bytes.len() {
            assert!(all(&bytes[..length]).is_empty(), "{length}");
        }
        assert_eq!(all(&[bytes.clone(), bytes].concat()).len(), 2);
        let mut other = message(1);
        other[4] = 3;
        assert!(all(&other).is_empty());
    }
}
