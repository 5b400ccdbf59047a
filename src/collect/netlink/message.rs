//! What every netlink message has: a header, and attributes behind a body; and how one asks.
//!
//! Input: a question, or the bytes of a datagram. Output: requests, answers, messages, attributes. Not here: what they mean; the
//! rows of a dump of sockets, which are read without a step between (`stream`).

use std::io;

use netlink_sys::Socket as NetlinkSocket;

/// `struct nlmsghdr`.
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_DUMP: u16 = 0x300;

/// Asks in the namespace of the thread that opened it.
pub(super) struct Asker {
    socket: NetlinkSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Asker {
    /// With room for the longest datagram that answers.
    ///
    /// # Errors
    /// When the kernel does not have the protocol, or a sandbox forbids it.
    pub(super) fn open(protocol: isize, room: usize) -> io::Result<Asker> {
        Ok(Asker { socket: NetlinkSocket::new(protocol)?, sequence: 0, buffer: vec![0; room] })
    }

    /// The datagram that answers a question.
    pub(super) fn ask(&mut self, question: impl FnOnce(u32) -> Vec<u8>) -> io::Result<&[u8]> {
        self.send(question)?;
        self.next()
    }

    /// Passes on the kind and the body of every message of a dump, up to an error of `each`.
    pub(super) fn dump(
        &mut self,
        question: impl FnOnce(u32) -> Vec<u8>,
        mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.send(question)?;
        while !pass_on(self.next()?, &mut each)? {}
        Ok(())
    }

    fn send(&mut self, question: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&question(self.sequence), 0)?;
        Ok(())
    }

    fn next(&mut self) -> io::Result<&[u8]> {
        let len = receive(&self.socket, &mut self.buffer)?;
        Ok(&self.buffer[..len.min(self.buffer.len())])
    }
}

/// Passes on what one datagram of a dump has; whether it was the last.
pub(super) fn pass_on(bytes: &[u8], mut each: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<bool> {
    for message in messages(bytes) {
        match message.ok_or(io::ErrorKind::InvalidData)? {
            (NLMSG_DONE, _) => return Ok(true),
            (NLMSG_ERROR, body) => return Err(refusal(body)),
            (kind, body) => each(kind, body)?,
        }
    }
    Ok(false)
}

/// A request: a header, a body of a fixed length, attributes.
pub(super) fn request(kind: u16, flags: u16, sequence: u32, body: &[u8], attributes: &[u8]) -> Vec<u8> {
    let len = HEADER_BYTES + body.len() + attributes.len();
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(attributes);
    bytes
}

/// One attribute with its padding.
pub(super) fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap_or(0).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What a message of kind `NLMSG_ERROR` says: the error, positive; `None` when it is cut.
pub(super) fn error_of(body: &[u8]) -> Option<i32> {
    number(body).map(|code| code.cast_signed().saturating_neg())
}

/// The same as an error.
pub(super) fn refusal(body: &[u8]) -> io::Error {
    io::Error::from_raw_os_error(error_of(body).unwrap_or(libc::EINVAL))
}

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
