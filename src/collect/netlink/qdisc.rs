//! What the queueing disciplines of a namespace have dropped: one dump.
//!
//! Input: nothing. Output: drops by device. Not here: how a discipline works.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{Asker, NLM_F_DUMP, attributes, number, request};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
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
    let mut found = Vec::new();
    let question = |sequence| request(RTM_GETQDISC, NLM_F_DUMP, sequence, &[0; BODY], &[]);
    Asker::open(NETLINK_ROUTE, BUFFER_BYTES)?.dump(question, |kind, body| {
        found.extend((kind == RTM_NEWQDISC).then(|| qdisc(body)).flatten());
        Ok(())
    })?;
    Ok(found)
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
    use super::super::message::{HEADER_BYTES, NLMSG_DONE, NLMSG_ERROR, attribute, pass_on};
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        request(kind, 0, 0, body, &[])
    }

    fn discipline(device: u32, parent: u32, drops: u32) -> Vec<u8> {
        let mut body = vec![0; BODY];
        body[4..8].copy_from_slice(&device.to_ne_bytes());
        body[12..16].copy_from_slice(&parent.to_ne_bytes());
        let queue: Vec<u8> = [0, 0, drops, 0, 0].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        body.extend(attribute(TCA_STATS2, &attribute(TCA_STATS_QUEUE, &queue)));
        message(RTM_NEWQDISC, &body)
    }

    /// What one datagram says, and whether it was the last.
    fn answers(bytes: &[u8]) -> io::Result<(Vec<(u32, u64)>, bool)> {
        let mut found = Vec::new();
        let is_last = pass_on(bytes, |kind, body| {
            found.extend((kind == RTM_NEWQDISC).then(|| qdisc(body)).flatten());
            Ok(())
        })?;
        Ok((found, is_last))
    }

    #[test]
    fn roots_count_and_their_parts_do_not() {
        let bytes =
            [discipline(2, TC_H_ROOT, 40), discipline(2, 0x8001_0000, 40), message(NLMSG_DONE, &[0; 4])].concat();
        assert_eq!(answers(&bytes).unwrap(), (vec![(2, 40)], true));
        assert_eq!(answers(&discipline(3, TC_H_ROOT, 1)).unwrap(), (vec![(3, 1)], false), "more follows");
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
        let error = answers(&refused).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        let whole = discipline(2, TC_H_ROOT, 40);
        for end in 0..whole.len() {
            let _ = answers(&whole[..end]);
            let _ = qdisc(whole[HEADER_BYTES..].get(..end).unwrap_or_default());
        }
    }
}
