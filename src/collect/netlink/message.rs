//! What every netlink message has: a header, and attributes behind a body.
//!
//! Input: a socket, or the bytes of a datagram. Output: datagrams, messages, attributes. Not here: what they mean; the rows of
//! a dump, which are read without a step between (`stream`).

use std::io;

use netlink_sys::Socket as NetlinkSocket;

/// `struct nlmsghdr`.
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

/// Receives one datagram, and returns its true length.
pub(super) fn receive(socket: &NetlinkSocket, mut room: &mut [u8]) -> io::Result<usize> {
    loop {
        // A slice, because a vector would be appended to.
        match socket.recv(&mut room, libc::MSG_TRUNC) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The messages of a datagram: kind and payload; `None` for one that is cut, which is the last.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<HEADER_BYTES>()?;
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let payload = bytes.get(HEADER_BYTES..len);
        bytes = payload.and_then(|_| bytes.get(len.next_multiple_of(4)..)).unwrap_or_default();
        Some(payload.map(|payload| (kind, payload)))
    })
}

/// Attributes: a length with its own four bytes, a number, a value, aligned to four bytes.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let number = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    })
}

/// The number at the beginning.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))
}
