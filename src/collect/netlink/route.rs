//! The next hop to an address, whether it answers, and whether the link to it is up: three questions to the kernel.
//!
//! Input: an address, in the namespace of the calling thread. Output: [`NextHop`]. Requests and answers are functions of
//! bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{Asker, NLMSG_ERROR, attribute, attributes, error_of, messages, number, request};
use crate::collect::interfaces;
use crate::model::path::{Neighbour, NextHop, Resolution};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
/// `struct rtmsg` and `struct ndmsg`.
const BODY: usize = 12;
/// `struct ifinfomsg`.
const LINK_BODY: usize = 16;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// A gateway of the other family: two bytes of family, then the address.
const RTA_VIA: u16 = 18;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const IFLA_EXT_MASK: u16 = 29;
/// Keeps the counters out of the answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const NDA_DST: u16 = 1;
const NDA_CACHEINFO: u16 = 3;
const NDA_PROBES: u16 = 4;
/// A tick of USER_HZ, which is 100 on every architecture that Rust has a standard library for.
const MS_PER_TICK: u64 = 10;
/// Where the count of requests begins while none was answered (`ucast_solicit`, 3 by default; `__neigh_event_send`).
const FIRST_REQUEST: u32 = 3;
/// An answer about one route or neighbour is far smaller.
const BUFFER_BYTES: usize = 8192;

/// Asks about destinations in the namespace of the thread that opened it.
pub struct Routes(Asker);

impl Routes {
    /// # Errors
    /// When the kernel has no `NETLINK_ROUTE`, or a sandbox forbids it.
    pub fn open() -> io::Result<Routes> {
        Ok(Routes(Asker::open(NETLINK_ROUTE, BUFFER_BYTES)?))
    }

    /// The next hop to an address.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn next_hop(&mut self, to: IpAddr) -> io::Result<NextHop> {
        let route = match route(self.0.ask(|sequence| route_request(to, sequence))?) {
            Answer::Is(route) => route,
            Answer::Error(errno) => return Ok(NextHop::NoRoute { errno }),
            Answer::Unreadable => return Err(io::ErrorKind::InvalidData.into()),
        };
        if route.kind == RTN_LOCAL {
            return Ok(NextHop::Local);
        }
        if route.kind != RTN_UNICAST {
            return Ok(NextHop::NoRoute { errno: libc::EHOSTUNREACH });
        }
        let entry = match route.device {
            Some(device) => {
                let next = route.gateway.unwrap_or(to);
                match neighbour(self.0.ask(|sequence| neighbour_request(next, device, sequence))?) {
                    Answer::Is(entry) => Some(entry),
                    // No entry, or a kernel before 5.0, which answers only dumps.
                    Answer::Error(_) | Answer::Unreadable => None,
                }
            }
            None => None,
        };
        let has_carrier = match route.device {
            Some(device) => carrier(self.0.ask(|sequence| link_request(device, sequence))?),
            None => None,
        };
        let device = route.device.and_then(interfaces::name_of);
        Ok(NextHop::Neighbour(Neighbour {
            gateway: route.gateway,
            device,
            resolution: entry.as_ref().map(|e| e.resolution),
            confirmed_ms: entry.and_then(|e| e.confirmed_ms),
            has_carrier,
        }))
    }
}

pub(super) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "2 and 10")]
pub(super) fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn route_request(to: IpAddr, sequence: u32) -> Vec<u8> {
    let value = octets(to);
    let mut body = [0; BODY];
    body[0] = family(to);
    body[1] = if to.is_ipv4() { 32 } else { 128 };
    request(RTM_GETROUTE, 0, sequence, &body, &attribute(RTA_DST, &value))
}

fn neighbour_request(of: IpAddr, device: u32, sequence: u32) -> Vec<u8> {
    let mut body = [0; BODY];
    body[0] = family(of);
    body[4..8].copy_from_slice(&device.to_ne_bytes());
    request(RTM_GETNEIGH, 0, sequence, &body, &attribute(NDA_DST, &octets(of)))
}

fn link_request(device: u32, sequence: u32) -> Vec<u8> {
    let mut body = [0; LINK_BODY];
    body[4..8].copy_from_slice(&device.to_ne_bytes());
    request(RTM_GETLINK, 0, sequence, &body, &attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes()))
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Answer<T> {
    Is(T),
    /// The kernel refused: its error, positive.
    Error(i32),
    Unreadable,
}

#[derive(Debug, PartialEq, Eq)]
struct Route {
    kind: u8,
    gateway: Option<IpAddr>,
    device: Option<u32>,
}

/// The body of an answer of this kind and its attributes, or what it is instead.
fn body(bytes: &[u8], kind: u16) -> Answer<(&[u8; BODY], &[u8])> {
    match messages(bytes).next().flatten() {
        Some((NLMSG_ERROR, body)) => error_of(body).map_or(Answer::Unreadable, Answer::Error),
        Some((found, rest)) if found == kind => rest.split_first_chunk().map_or(Answer::Unreadable, Answer::Is),
        _ => Answer::Unreadable,
    }
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn route(bytes: &[u8]) -> Answer<Route> {
    let (body, rest) = match body(bytes, RTM_NEWROUTE) {
        Answer::Is(parts) => parts,
        Answer::Error(errno) => return Answer::Error(errno),
        Answer::Unreadable => return Answer::Unreadable,
    };
    let mut route = Route { kind: body[7], gateway: None, device: None };
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_OIF => route.device = number(value),
            RTA_GATEWAY => route.gateway = address(value),
            RTA_VIA => route.gateway = value.get(2..).and_then(address),
            _ => {}
        }
    }
    Answer::Is(route)
}

/// A neighbour entry.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    resolution: Resolution,
    confirmed_ms: Option<u64>,
}

fn neighbour(bytes: &[u8]) -> Answer<Entry> {
    let (body, rest) = match body(bytes, RTM_NEWNEIGH) {
        Answer::Is(parts) => parts,
        Answer::Error(errno) => return Answer::Error(errno),
        Answer::Unreadable => return Answer::Unreadable,
    };
    let first = |kind| attributes(rest).find(|(k, _)| *k == kind).and_then(|(_, value)| number(value));
    let requests = || first(NDA_PROBES).unwrap_or(0).saturating_sub(FIRST_REQUEST);
    // NUD_INCOMPLETE, NUD_FAILED; NUD_NOARP, NUD_PERMANENT, which nobody confirms; NUD_REACHABLE.
    let (resolution, is_confirmed) = match u16::from_ne_bytes([body[8], body[9]]) {
        0x01 => (Resolution::Incomplete { requests: requests() }, false),
        0x20 => (Resolution::Failed, false),
        0x40 | 0x80 => (Resolution::Known, false),
        0x02 => (Resolution::Known, true),
        _ => (Resolution::Unconfirmed, true),
    };
    // `struct nda_cacheinfo` begins with ndm_confirmed, in ticks of USER_HZ.
    let confirmed_ms = first(NDA_CACHEINFO).filter(|_| is_confirmed).map(|ticks| u64::from(ticks) * MS_PER_TICK);
    Answer::Is(Entry { resolution, confirmed_ms })
}

/// Whether the interface has a carrier (`IFF_LOWER_UP`); `None` where the kernel does not say.
fn carrier(bytes: &[u8]) -> Option<bool> {
    let (body, rest) = match body(bytes, RTM_NEWLINK) {
        Answer::Is(parts) => parts,
        Answer::Error(_) | Answer::Unreadable => return None,
    };
    rest.get(..LINK_BODY - BODY)?;
    let flags = u32::from_ne_bytes([body[8], body[9], body[10], body[11]]);
    Some(flags & libc::IFF_LOWER_UP.cast_unsigned() != 0)
}

#[cfg(test)]
mod tests {
    use super::super::message::HEADER_BYTES;
    use super::*;

    fn answer(kind: u16, body: [u8; BODY], list: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend(list.iter().flat_map(|(kind, value)| attribute(*kind, value)));
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn neighbour_in(state: u16, requests: u32) -> Vec<u8> {
        let mut body = [0; BODY];
        body[8..10].copy_from_slice(&state.to_ne_bytes());
        let cache: Vec<u8> = [123u32, 5, 6, 7].iter().flat_map(|ticks| ticks.to_ne_bytes()).collect();
        let probes = requests.to_ne_bytes();
        answer(RTM_NEWNEIGH, body, &[(NDA_DST, &[10, 0, 0, 1]), (NDA_CACHEINFO, &cache), (NDA_PROBES, &probes)])
    }

    #[test]
    fn a_route_has_its_gateway_and_interface_also_across_families() {
        let mut body = [0; BODY];
        body[7] = RTN_UNICAST;
        let index = 7u32.to_ne_bytes();
        let plain = answer(RTM_NEWROUTE, body, &[(RTA_OIF, &index), (RTA_GATEWAY, &[10, 0, 0, 1])]);
        let gateway = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(route(&plain), Answer::Is(Route { kind: RTN_UNICAST, gateway, device: Some(7) }));
        let mut via = vec![10, 0];
        via.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        let across = answer(RTM_NEWROUTE, body, &[(RTA_VIA, &via)]);
        assert!(matches!(route(&across), Answer::Is(Route { gateway: Some(IpAddr::V6(_)), device: None, .. })));
    }

    #[test]
    fn the_states_of_a_neighbour_and_refusals_are_told_apart() {
        let entry = |resolution, confirmed_ms| Answer::Is(Entry { resolution, confirmed_ms });
        assert_eq!(neighbour(&neighbour_in(0x20, 0)), entry(Resolution::Failed, None));
        assert_eq!(neighbour(&neighbour_in(0x01, 5)), entry(Resolution::Incomplete { requests: 2 }, None));
        assert_eq!(neighbour(&neighbour_in(0x80, 0)), entry(Resolution::Known, None), "nobody confirms it");
        assert_eq!(neighbour(&neighbour_in(0x02, 0)), entry(Resolution::Known, Some(1230)));
        assert_eq!(neighbour(&neighbour_in(0x04, 0)), entry(Resolution::Unconfirmed, Some(1230)));
        let mut refused = vec![0; HEADER_BYTES];
        refused[0] = 36;
        refused[4] = 2;
        refused.extend_from_slice(&(-libc::ENOENT).to_ne_bytes());
        refused.resize(36, 0);
        assert_eq!(neighbour(&refused), Answer::Error(libc::ENOENT));
        assert_eq!(route(&neighbour_in(0x20, 0)), Answer::Unreadable);
    }

    #[test]
    fn bytes_cut_anywhere_never_panic() {
        let mut body = [0; BODY];
        body[7] = RTN_UNICAST;
        let whole = answer(RTM_NEWROUTE, body, &[(RTA_OIF, &[1, 0, 0, 0]), (RTA_GATEWAY, &[10, 0, 0, 1])]);
        for end in 0..whole.len() {
            route(&whole[..end]);
            neighbour(&whole[..end]);
            carrier(&whole[..end]);
        }
        let mut lying = whole.clone();
        lying[HEADER_BYTES + BODY] = 1;
        assert_eq!(route(&lying), Answer::Is(Route { kind: RTN_UNICAST, gateway: None, device: None }));
    }

    #[test]
    fn an_interface_without_carrier_is_told_from_one_that_nothing_is_known_of() {
        let link = |flags: u32| {
            let mut body = [0; BODY];
            body[8..].copy_from_slice(&flags.to_ne_bytes());
            answer(RTM_NEWLINK, body, &[(0, &[])])
        };
        assert_eq!((carrier(&link(0x1_1043)), carrier(&link(0x1003))), (Some(true), Some(false)));
        assert_eq!(carrier(&neighbour_in(0x20, 0)), None);
    }

    #[test]
    fn requests_have_the_layout_of_the_kernel_headers() {
        let bytes = route_request([10, 0, 0, 9].into(), 7);
        assert_eq!((bytes.len(), bytes[4], bytes[16], bytes[17]), (36, 26, 2, 32));
        assert_eq!(&bytes[28..], &[8, 0, 1, 0, 10, 0, 0, 9]);
        let bytes = neighbour_request(Ipv6Addr::LOCALHOST.into(), 3, 8);
        assert_eq!((bytes.len(), bytes[4], bytes[16], bytes[20]), (48, 30, 10, 3));
        let bytes = link_request(3, 9);
        assert_eq!((bytes.len(), bytes[4], bytes[20], bytes[34]), (40, 18, 3, 29));
    }
}
