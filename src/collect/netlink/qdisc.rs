//! What the queueing disciplines of a namespace have dropped: one dump.
//!
//! Input: nothing. Output: drops by device. Not here: how a discipline works.

use std::io;

use netlink_sys::Socket as NetlinkSocket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{HEADER_BYTES, NLMSG_DONE, NLMSG_ERROR, attributes, messages, number, receive};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// `struct tcmsg`.
const BODY: usize = 20;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
/// `drops` of `struct gnet_stats_queue`, after `qlen` and `backlog`.
const DROPS_AT: usize = 8;
const BUFFER_BYTES: usize = 32 * 1024;

/// Interface numbers with what their root discipline has dropped, in the namespace of the calling thread.
///
/// # Errors
/// When the kernel has no traffic control, or a sandbox forbids the question.
pub fn drops() -> io::Result<Vec<(u32, u64)>> {
    let socket = NetlinkSocket::new(NETLINK_ROUTE)?;
    socket.send(&request(), 0)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut found = Vec::new();
    loop {
        let len = receive(&socket, &mut buffer)?;
        if answers(&buffer[..len.min(BUFFER_BYTES)], &mut found)? {
            return Ok(found);
        }
    }
}

fn request() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + BODY];
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&RTM_GETQDISC.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes
}

/// Adds what one datagram says; whether it was the last.
fn answers(bytes: &[u8], found: &mut Vec<(u32, u64)>) -> io::Result<bool> {
    for message in messages(bytes) {
        let (kind, body) = message.ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = number(body).map_or(libc::EINVAL, |code| code.cast_signed().saturating_neg());
                return Err(io::Error::from_raw_os_error(code));
            }
            RTM_NEWQDISC => found.extend(qdisc(body)),
            _ => {}
        }
    }
    Ok(false)
}

/// The device and its drops, of a root discipline: the others are parts of one.
fn qdisc(bytes: &[u8]) -> Option<(u32, u64)> {
    let (body, rest) = bytes.split_first_chunk::<BODY>()?;
    let word = |at: usize| number(&body[at..]);
    if word(12)? != TC_H_ROOT {
        return None;
    }
    let (_, stats) = attributes(rest).find(|(kind, _)| *kind == TCA_STATS2)?;
    let (_, queue) = attributes(stats).find(|(kind, _)| *kind == TCA_STATS_QUEUE)?;
    Some((word(4)?, u64::from(number(queue.get(DROPS_AT..)?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&u32::try_from(HEADER_BYTES + body.len()).unwrap().to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn discipline(device: u32, parent: u32, drops: u32) -> Vec<u8> {
        let mut body = vec![0; BODY];
        body[4..8].copy_from_slice(&device.to_ne_bytes());
        body[12..16].copy_from_slice(&parent.to_ne_bytes());
        let queue: Vec<u8> = [0, 0, drops, 0, 0].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        body.extend(attribute(TCA_STATS2, &attribute(TCA_STATS_QUEUE, &queue)));
        message(RTM_NEWQDISC, &body)
    }

    #[test]
    fn roots_count_and_their_parts_do_not() {
        let bytes =
            [discipline(2, TC_H_ROOT, 40), discipline(2, 0x8001_0000, 40), message(NLMSG_DONE, &[0; 4])].concat();
        let mut found = Vec::new();
        assert!(answers(&bytes, &mut found).unwrap());
        assert_eq!(found, [(2, 40)]);
        assert!(!answers(&discipline(3, TC_H_ROOT, 1), &mut found).unwrap(), "more follows");
    }

    #[test]
    fn the_kernel_answers_for_every_device_that_has_a_queue() {
        match drops() {
            Ok(found) => found.iter().for_each(|(device, n)| println!("device {device}: {n}")),
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EOPNOTSUPP), "a kernel without traffic control: {e}"),
        }
    }

    #[test]
    fn a_refusal_is_an_error_and_cut_bytes_never_panic() {
        let refused = message(NLMSG_ERROR, &(-libc::EOPNOTSUPP).to_ne_bytes());
        let error = answers(&refused, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        let whole = discipline(2, TC_H_ROOT, 40);
        for end in 0..whole.len() {
            let _ = answers(&whole[..end], &mut Vec::new());
            let _ = qdisc(whole[HEADER_BYTES..].get(..end).unwrap_or_default());
        }
    }
}
