//! Entries of connection tracking: that of one connection, and which ports source translation has taken.
//!
//! Input: a connection as its caller has it, in the namespace of the calling thread. Output: [`Tracked`], [`NatPorts`]. Needs
//! CAP_NET_ADMIN. Not here: the size of the table and its counters, which anybody may read (`proc::conntrack`).

use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustc_hash::{FxHashMap, FxHashSet};

use super::message::{
    Asker, NLM_F_DUMP, NLMSG_ERROR, attribute, attributes, error_of, messages, number, refusal, request,
};
use super::route::{address, family, octets};
use crate::model::conntrack::{NatPorts, Tracked};
use crate::model::{Endpoint, FourTuple};

/// `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_GET` of `NFNL_SUBSYS_CTNETLINK`.
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;
/// `struct nfgenmsg`.
const BODY: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_STATUS_MASK: u16 = 26;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const NESTED: u16 = 0x8000;
const TCP: u8 = 6;
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_SRC_NAT: u32 = 1 << 4;
const BUFFER_BYTES: usize = 64 * 1024;
/// A table with more entries is not read to its end, and nothing is said of it.
const MOST_ENTRIES: usize = 500_000;
/// So many destinations are told, those with the most ports first.
const MOST_GROUPS: usize = 64;

/// Asks in the namespace of the thread that opened it.
pub struct Tracking(Asker);

impl Tracking {
    /// # Errors
    /// When the kernel has no `NETLINK_NETFILTER`, or a sandbox forbids it.
    pub fn open() -> io::Result<Tracking> {
        Ok(Tracking(Asker::open(NETLINK_NETFILTER, BUFFER_BYTES)?))
    }

    /// The entry of a connection; `None` when the table has none.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, or when the kernel does not answer.
    pub fn entry(&mut self, connection: FourTuple) -> io::Result<Option<Tracked>> {
        let answer = self.0.ask(|sequence| entry_request(connection, sequence))?;
        match messages(answer).next().flatten() {
            Some((CT_NEW, body)) => Ok(entry(body).filter(|e| e.orig == connection.normalised()).map(|e| e.tracked)),
            Some((NLMSG_ERROR, body)) if error_of(body) == Some(libc::ENOENT) => Ok(None),
            Some((NLMSG_ERROR, body)) => Err(refusal(body)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Which ports source translation has taken, by translated address and destination.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, when the table is too large, or when the kernel does not answer.
    pub fn nat_ports(&mut self) -> io::Result<Vec<NatPorts>> {
        // A kernel before 5.19 does not know the filter and reports every entry.
        let filter =
            [attribute(CTA_STATUS, &IPS_SRC_NAT.to_be_bytes()), attribute(CTA_STATUS_MASK, &IPS_SRC_NAT.to_be_bytes())];
        let question = |sequence| request(CT_GET, NLM_F_DUMP, sequence, &[0; BODY], &filter.concat());
        let (mut taken, mut seen) = (Taken::default(), 0);
        self.0.dump(question, |kind, body| {
            if kind == CT_NEW {
                taken.add(entry(body));
            }
            seen += 1;
            if seen > MOST_ENTRIES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
        })?;
        Ok(taken.groups())
    }
}

/// Ports by translated source address and destination, with the number of those that the translation chose.
#[derive(Default)]
struct Taken(FxHashMap<(IpAddr, Endpoint), (FxHashSet<u16>, u32)>);

impl Taken {
    fn add(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry.filter(|e| e.status & IPS_SRC_NAT != 0) else { return };
        let from = entry.tracked.sent_from;
        let (ports, chosen) = self.0.entry((from.addr, entry.tracked.sent_to)).or_default();
        if ports.insert(from.port) && from.port != entry.orig.local.port {
            *chosen += 1;
        }
    }

    fn groups(self) -> Vec<NatPorts> {
        let group = |((source, to), (ports, chosen)): (_, (FxHashSet<u16>, u32))| {
            let (lowest, highest) = (ports.iter().copied().min()?, ports.iter().copied().max()?);
            let taken = u32::try_from(ports.len()).unwrap_or(u32::MAX);
            Some(NatPorts { source, to, taken, chosen, lowest, highest })
        };
        let mut groups: Vec<NatPorts> = self.0.into_iter().filter_map(group).collect();
        groups.sort_by_key(|g| (std::cmp::Reverse(g.taken), g.to, g.source));
        groups.truncate(MOST_GROUPS);
        groups
    }
}

fn entry_request(connection: FourTuple, sequence: u32) -> Vec<u8> {
    let FourTuple { local, peer, .. } = connection.normalised();
    let (source, destination) =
        if local.addr.is_ipv4() { (CTA_IP_V4_SRC, CTA_IP_V4_DST) } else { (CTA_IP_V6_SRC, CTA_IP_V6_DST) };
    let ip = [attribute(source, &octets(local.addr)), attribute(destination, &octets(peer.addr))].concat();
    let proto = [
        attribute(CTA_PROTO_NUM, &[TCP]),
        attribute(CTA_PROTO_SRC_PORT, &local.port.to_be_bytes()),
        attribute(CTA_PROTO_DST_PORT, &peer.port.to_be_bytes()),
    ]
    .concat();
    let tuple = [attribute(NESTED | CTA_TUPLE_IP, &ip), attribute(NESTED | CTA_TUPLE_PROTO, &proto)].concat();
    let body = [family(local.addr), 0, 0, 0];
    request(CT_GET, 0, sequence, &body, &attribute(NESTED | CTA_TUPLE_ORIG, &tuple))
}

/// One entry of the table.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// As its caller has it.
    orig: FourTuple,
    status: u32,
    tracked: Tracked,
}

/// Decodes an entry; `None` for what is not TCP, or is cut.
fn entry(bytes: &[u8]) -> Option<Entry> {
    let (mut orig, mut reply, mut status) = (None, None, None);
    for (kind, value) in attributes(bytes.get(BODY..)?) {
        match kind {
            CTA_TUPLE_ORIG => orig = tuple(value),
            CTA_TUPLE_REPLY => reply = tuple(value),
            CTA_STATUS => status = big(value),
            _ => {}
        }
    }
    let (reply, status) = (reply?, status?);
    let tracked = Tracked { sent_to: reply.local, sent_from: reply.peer, is_answered: status & IPS_SEEN_REPLY != 0 };
    Some(Entry { orig: orig?, status, tracked })
}

fn big(bytes: &[u8]) -> Option<u32> {
    number(bytes).map(u32::from_be)
}

/// Source and destination of one direction.
fn tuple(bytes: &[u8]) -> Option<FourTuple> {
    let (mut source, mut destination, mut ports, mut protocol) = (None, None, (None, None), None);
    let port = |value: &[u8]| value.first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
    for (kind, part) in attributes(bytes) {
        for (number, value) in attributes(part) {
            match (kind, number) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = address(value),
                (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = address(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => ports.0 = port(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => ports.1 = port(value),
                _ => {}
            }
        }
    }
    (protocol? == TCP).then_some(FourTuple {
        local: Endpoint::new(source?, ports.0?),
        peer: Endpoint::new(destination?, ports.1?),
        ifindex: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::HEADER_BYTES;
    use super::*;

    fn between(local: &str, peer: &str) -> FourTuple {
        FourTuple { local: Endpoint::at(local), peer: Endpoint::at(peer), ifindex: 0 }
    }

    /// The tuple of a request is that of an answer.
    fn nested(kind: u16, of: FourTuple) -> Vec<u8> {
        let request = entry_request(of, 1);
        attribute(NESTED | kind, &request[HEADER_BYTES + BODY + 4..])
    }

    fn answer(orig: FourTuple, reply: FourTuple, status: u32) -> Vec<u8> {
        let status = attribute(CTA_STATUS, &status.to_be_bytes());
        [vec![2, 0, 0, 0], nested(CTA_TUPLE_ORIG, orig), nested(CTA_TUPLE_REPLY, reply), status].concat()
    }

    #[test]
    fn an_entry_says_where_packets_go_and_whether_any_came_back() {
        let orig = between("10.0.0.1:40000", "10.0.0.2:8080");
        let sent = answer(orig, between("10.88.0.2:80", "10.0.0.1:40000"), 0x28);
        let entry = entry(&sent).unwrap();
        assert_eq!(entry.orig, orig);
        assert_eq!(
            entry.tracked,
            Tracked {
                sent_to: Endpoint::at("10.88.0.2:80"),
                sent_from: Endpoint::at("10.0.0.1:40000"),
                is_answered: false
            }
        );
        let six = between("[fd00::1]:40000", "[fd00::2]:80");
        let answered = super::entry(&answer(six, six.swapped(), 0x2e)).unwrap();
        assert!(answered.tracked.is_answered && answered.tracked.sent_to == six.peer);
    }

    #[test]
    fn ports_are_grouped_by_translated_address_and_destination() {
        let mut taken = Taken::default();
        for (client, port) in [(40_000u16, 1024u16), (40_001, 1025), (1026, 1026)] {
            let orig = between(&format!("10.0.0.1:{client}"), "10.88.0.2:80");
            let reply = between("10.88.0.2:80", &format!("10.88.0.1:{port}"));
            taken.add(entry(&answer(orig, reply, IPS_SRC_NAT)));
            taken.add(entry(&answer(orig, reply, 0)));
        }
        let group = NatPorts {
            source: Endpoint::at("10.88.0.1:0").addr,
            to: Endpoint::at("10.88.0.2:80"),
            taken: 3,
            chosen: 2,
            lowest: 1024,
            highest: 1026,
        };
        assert_eq!(taken.groups(), [group]);
    }

    #[test]
    fn a_request_has_the_layout_of_the_kernel_headers_and_cut_bytes_never_panic() {
        let bytes = entry_request(between("[::ffff:10.0.0.1]:258", "10.0.0.2:80"), 7);
        assert_eq!((bytes.len(), bytes[4], bytes[5], bytes[16]), (72, 1, 1, 2));
        assert_eq!(&bytes[20..32], &[52, 0, 1, 0x80, 20, 0, 1, 0x80, 8, 0, 1, 0]);
        assert_eq!(&bytes[32..36], &[10, 0, 0, 1]);
        let orig = between("10.0.0.1:40000", "10.0.0.2:8080");
        let whole = answer(orig, orig.swapped(), 0x28);
        for end in 0..whole.len() {
            assert_eq!(entry(&whole[..end]), None, "{end}");
        }
        let mut udp = whole.clone();
        let place = udp.windows(5).position(|w| w == [5, 0, 1, 0, TCP]).unwrap();
        udp[place + 4] = 17;
        assert_eq!(entry(&udp), None);
    }
}
