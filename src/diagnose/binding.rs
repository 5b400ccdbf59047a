//! Whether `bind()` and `listen()` would succeed now, because of what not, until when, and with which option.
//!
//! Input: a request, what the kernel says of its address, and the rows of its namespace. Output: a [`Judgement`]. It
//! follows `inet_csk_get_port`, `inet_csk_bind_conflict` and `inet_rcv_saddr_equal` in
//! `net/ipv4/inet_connection_sock.c`. The kernel does not report `SO_REUSEADDR` and `SO_REUSEPORT` of other sockets: an
//! answer that turns on them says so, with what it takes.

use std::net::IpAddr;

use crate::model::binding::{AddressAnswer, BindFacts, BindRequest, Refusal};
use crate::model::{Family, RowKind, Socket, State};

/// What the new socket sets before `bind()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    pub reuse_addr: bool,
    pub reuse_port: bool,
    pub v6only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Works,
    Fails(Refusal),
    /// On what the kernel does not report: [`Way::assumes`].
    Depends,
}

/// What has to be true of the other sockets, and cannot be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assumption {
    /// They have `SO_REUSEADDR`.
    OldReuseAddr,
    /// They have `SO_REUSEPORT`.
    OldReusePort,
    /// They are of the same user.
    SameUser,
    /// They have `IPV6_V6ONLY`.
    OldV6Only,
    /// Their interface belongs to a VRF.
    Vrf,
    /// The kernel accepts the address, or the port's number.
    NotRefused,
}

/// A set of options and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub options: Options,
    pub verdict: Verdict,
    /// It works if of each of these one is true.
    pub assumes: Vec<Vec<Assumption>>,
}

/// A socket that has the port on an address that overlaps.
#[derive(Clone, Copy, Debug)]
pub struct Conflict<'a> {
    pub socket: &'a Socket,
    /// What it takes for the addresses not to overlap; `None`: they do.
    pub unless: Option<Assumption>,
    /// Whether it has `SO_REUSEPORT`, where the rows prove it.
    pub reuse_port: Option<bool>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Judgement<'a> {
    pub request: BindRequest,
    /// Without any option.
    pub plain: Way,
    /// With options, in the order in which to try them.
    pub ways: Vec<Way>,
    pub conflicts: Vec<Conflict<'a>>,
    /// When the last conflict ends, if only timers hold the port.
    pub free_in_ms: Option<u64>,
}

/// Judges one request against the rows of its namespace; rows of other ports are ignored.
#[must_use]
pub fn judge<'a>(
    request: &BindRequest,
    facts: &BindFacts,
    rows: impl Iterator<Item = &'a Socket> + Clone,
) -> Judgement<'a> {
    // A request socket is in no bind bucket, and holds no port.
    let rows = rows.filter(|s| s.local.port == request.local.port && s.kind != RowKind::Request);
    let mut conflicts = conflicts(request, rows.clone());
    let way = |options: Options, conflicts: &[Conflict<'_>]| weigh(request, facts, options, conflicts);
    let plain = way(Options::default(), &conflicts);
    let mut ways = Vec::new();
    let refused = refusal(request, facts).is_some();
    if !refused && !conflicts.is_empty() {
        for (reuse_addr, reuse_port) in [(true, false), (false, true), (true, true)] {
            ways.push(way(Options { reuse_addr, reuse_port, ..Options::default() }, &conflicts));
        }
        if request.is_dual() {
            let narrow = BindRequest { v6only: true, ..*request };
            let left = self::conflicts(&narrow, rows);
            for reuse_addr in [false, true] {
                let options = Options { reuse_addr, v6only: true, ..Options::default() };
                ways.push(weigh(&narrow, facts, options, &left));
            }
        }
    }
    let free_in_ms = conflicts
        .iter()
        .map(|c| c.socket.timer.filter(|_| c.socket.kind == RowKind::TimeWaitMini).map(|t| u64::from(t.remaining_ms)))
        .collect::<Option<Vec<_>>>()
        .and_then(|left| left.into_iter().max());
    conflicts.sort_by_key(|c| (rank(c.socket), c.socket.local, c.socket.peer));
    Judgement { request: *request, plain, ways, conflicts, free_in_ms }
}

/// What explains most comes first.
fn rank(socket: &Socket) -> u8 {
    match (socket.state, socket.kind) {
        (State::Listen, _) => 0,
        (_, RowKind::BoundInactive) => 1,
        (_, RowKind::TimeWaitMini) => 3,
        _ => 2,
    }
}

/// What the kernel refuses before it looks at other sockets, in its order: `__inet_bind` checks the address first,
/// `__inet6_bind` the port's number.
fn refusal(request: &BindRequest, facts: &BindFacts) -> Option<Refusal> {
    let address = facts.address.refusal();
    // A family that does not exist is refused by socket().
    if address == Some(Refusal::NoFamily) {
        return address;
    }
    let port = (facts.port_permitted == Some(false)).then_some(Refusal::Permission);
    match request.family() {
        Family::V4 => address.or(port),
        Family::V6 => port.or(address),
    }
}

fn conflicts<'a>(request: &BindRequest, rows: impl Iterator<Item = &'a Socket> + Clone) -> Vec<Conflict<'a>> {
    let listeners: Vec<&Socket> = rows.clone().filter(|s| s.state == State::Listen).collect();
    let devices = |a: u32, b: u32| a == 0 || b == 0 || a == b;
    rows.filter(|s| devices(request.ifindex, s.ifindex.unwrap_or(0)))
        .filter_map(|socket| {
            let overlap = overlap(request.family(), request.local.addr, request.v6only, socket);
            let unless = match overlap {
                Overlap::No => return None,
                Overlap::Unless(assumption) => Some(assumption),
                // Buckets are kept apart by l3mdev (`inet_bind_bucket_match`).
                Overlap::Yes if bound_to_device(socket) && request.ifindex == 0 => Some(Assumption::Vrf),
                Overlap::Yes => None,
            };
            // Two listeners on one address and port: only SO_REUSEPORT on both permits that.
            let shared = socket.state == State::Listen
                && listeners.iter().any(|other| {
                    !std::ptr::eq(*other, socket)
                        && devices(other.ifindex.unwrap_or(0), socket.ifindex.unwrap_or(0))
                        && other.v6only.is_some() == (other.family == Family::V6)
                        && overlap_of(other, socket) == Overlap::Yes
                });
            Some(Conflict { socket, unless, reuse_port: shared.then_some(true) })
        })
        .collect()
}

fn bound_to_device(socket: &Socket) -> bool {
    let link_local = matches!(socket.local.addr, IpAddr::V6(a) if a.is_unicast_link_local());
    socket.ifindex.is_some_and(|i| i != 0) && !link_local
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overlap {
    No,
    Yes,
    Unless(Assumption),
}

fn overlap_of(socket: &Socket, with: &Socket) -> Overlap {
    overlap(socket.family, socket.local.addr, socket.v6only == Some(true), with)
}

/// `inet_rcv_saddr_equal` with wildcards on both sides.
fn overlap(family: Family, addr: IpAddr, v6only: bool, other: &Socket) -> Overlap {
    let yes = |is: bool| if is { Overlap::Yes } else { Overlap::No };
    // Where the other socket has to be open to IPv4.
    let open = match other.v6only {
        Some(true) => Overlap::No,
        Some(false) => Overlap::Yes,
        None => Overlap::Unless(Assumption::OldV6Only),
    };
    let v4 = |a: IpAddr, b: IpAddr| yes(a == b || a.is_unspecified() || b.is_unspecified());
    let mapped = |a: IpAddr| match a {
        IpAddr::V6(a) => a.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => Some(a),
    };
    let theirs = other.local.addr;
    let ours_v4 = mapped(addr);
    match (other.family, mapped(theirs)) {
        (Family::V4, _) | (Family::V6, Some(_)) => {
            let theirs = mapped(theirs).unwrap_or(theirs);
            match ours_v4 {
                Some(ours) => v4(ours, theirs),
                // [::] takes IPv4 too, unless IPV6_V6ONLY.
                None => yes(addr.is_unspecified() && !v6only),
            }
        }
        (Family::V6, None) => match (family, ours_v4) {
            _ if theirs.is_unspecified() && ours_v4.is_none() => Overlap::Yes,
            _ if theirs.is_unspecified() => open,
            // An IPv6 socket that is open to IPv4 has 127.0.0.6 (`LOOPBACK4_IPV6`) there, which 0.0.0.0 overlaps.
            (Family::V4, Some(ours)) => {
                if ours.is_unspecified() {
                    open
                } else {
                    Overlap::No
                }
            }
            (Family::V6, Some(_)) => Overlap::No,
            _ => yes(addr.is_unspecified() || addr == theirs),
        },
    }
}

/// `inet_bind_conflict`, over all sockets. `listen()` asks the same again.
fn weigh(request: &BindRequest, facts: &BindFacts, options: Options, conflicts: &[Conflict<'_>]) -> Way {
    let fails = |refusal| Way { options, verdict: Verdict::Fails(refusal), assumes: Vec::new() };
    if let Some(refusal) = refusal(request, facts) {
        return fails(refusal);
    }
    let mut assumes = Vec::new();
    for conflict in conflicts {
        let alternatives = permits(options, request.uid, conflict);
        if alternatives.is_empty() {
            return fails(Refusal::AddressInUse);
        }
        assumes.extend(clauses(&alternatives));
    }
    if facts.address == AddressAnswer::Unknown || facts.port_permitted.is_none() {
        assumes.push(vec![Assumption::NotRefused]);
    }
    assumes.sort_unstable();
    assumes.dedup();
    // Of `a` and `a or b` the first says it all.
    let all = assumes.clone();
    let stronger = |one: &Vec<Assumption>, other: &Vec<Assumption>| {
        other.len() < one.len() && other.iter().all(|a| one.contains(a))
    };
    assumes.retain(|one| !all.iter().any(|other| stronger(one, other)));
    let verdict = if assumes.is_empty() { Verdict::Works } else { Verdict::Depends };
    Way { options, verdict, assumes }
}

/// What lets a socket and a new one have the same port: alternatives, each a list of what all has to be true. None at
/// all: nothing does. An empty list: it is so.
fn permits(options: Options, uid: u32, conflict: &Conflict<'_>) -> Vec<Vec<Assumption>> {
    let socket = conflict.socket;
    let mut alternatives = Vec::new();
    if options.reuse_addr && socket.state != State::Listen {
        alternatives.push(vec![Assumption::OldReuseAddr]);
    }
    // TIME_WAIT has no user, and is asked for none.
    let user = if socket.kind == RowKind::TimeWaitMini { Some(true) } else { socket.uid.map(|theirs| theirs == uid) };
    if options.reuse_port && conflict.reuse_port != Some(false) && user != Some(false) {
        let option = conflict.reuse_port.is_none().then_some(Assumption::OldReusePort);
        let user = user.is_none().then_some(Assumption::SameUser);
        alternatives.push(option.into_iter().chain(user).collect());
    }
    alternatives.extend(conflict.unless.map(|assumption| vec![assumption]));
    alternatives
}

/// The same as clauses: of each, one has to be true.
fn clauses(alternatives: &[Vec<Assumption>]) -> Vec<Vec<Assumption>> {
    let mut clauses: Vec<Vec<Assumption>> = vec![Vec::new()];
    for all in alternatives {
        clauses = clauses
            .iter()
            .flat_map(|clause| all.iter().map(|one| clause.iter().copied().chain([*one]).collect()))
            .collect();
    }
    for clause in &mut clauses {
        clause.sort_unstable();
    }
    clauses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{row, time_wait};
    use crate::model::Endpoint;

    const FREE: BindFacts = BindFacts { address: AddressAnswer::Accepted, port_permitted: Some(true) };

    fn request(at: &str) -> BindRequest {
        let at: std::net::SocketAddr = at.parse().unwrap();
        BindRequest { local: Endpoint::new(at.ip(), at.port()), v6only: false, ifindex: 0, uid: 1000 }
    }

    fn listener(at: &str) -> Socket {
        let peer = if at.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = row(State::Listen, at, peer);
        let v6only = (socket.family == Family::V6).then(|| !socket.local.addr.is_unspecified());
        Socket { uid: Some(1000), v6only, ..socket }
    }

    fn of(request: &BindRequest, rows: &[Socket]) -> (Verdict, Vec<Verdict>) {
        let judged = judge(request, &FREE, rows.iter());
        (judged.plain.verdict, judged.ways.iter().map(|w| w.verdict).collect())
    }

    const IN_USE: Verdict = Verdict::Fails(Refusal::AddressInUse);

    #[test]
    fn a_listener_shares_its_port_by_reuseport_only_and_with_its_user_only() {
        let rows = [listener("127.0.0.1:80")];
        let (plain, ways) = of(&request("0.0.0.0:80"), &rows);
        assert_eq!((plain, &ways[..]), (IN_USE, &[IN_USE, Verdict::Depends, Verdict::Depends][..]));
        let other = BindRequest { uid: 33, ..request("127.0.0.1:80") };
        assert_eq!(of(&other, &rows), (IN_USE, vec![IN_USE; 3]));
        assert_eq!(of(&request("127.0.0.2:80"), &rows), (Verdict::Works, vec![]));
        assert_eq!(of(&request("127.0.0.1:81"), &rows), (Verdict::Works, vec![]));
        // Two listeners on one port prove the option.
        let rows = [listener("127.0.0.1:80"), listener("127.0.0.1:80")];
        assert_eq!(of(&request("127.0.0.1:80"), &rows).1, [IN_USE, Verdict::Works, Verdict::Works]);
        let rows = [listener("127.0.0.1:80"), listener("127.0.0.2:80")];
        assert_eq!(of(&request("127.0.0.1:80"), &rows).1[1], Verdict::Depends);
    }

    #[test]
    fn both_families_meet_where_ipv6_only_is_off() {
        let dual = [listener("[::]:80")];
        assert_eq!(of(&request("0.0.0.0:80"), &dual).0, IN_USE);
        assert_eq!(of(&request("10.0.0.1:80"), &dual).0, IN_USE);
        let only = [Socket { v6only: Some(true), ..listener("[::]:80") }];
        assert_eq!(of(&request("0.0.0.0:80"), &only).0, Verdict::Works);
        assert_eq!(of(&request("[2001:db8::1]:80"), &only).0, IN_USE);
        let four = [listener("10.0.0.1:80")];
        let (plain, ways) = of(&request("[::]:80"), &four);
        assert_eq!((plain, ways[3]), (IN_USE, Verdict::Works));
        assert_eq!(of(&request("[2001:db8::1]:80"), &four).0, Verdict::Works);
        assert_eq!(of(&request("[::ffff:10.0.0.1]:80"), &four).0, IN_USE);
        let unknown = [Socket { v6only: None, ..listener("[::]:80") }];
        let judged = judge(&request("0.0.0.0:80"), &FREE, unknown.iter());
        assert_eq!((judged.plain.verdict, judged.plain.assumes), (Verdict::Depends, vec![vec![Assumption::OldV6Only]]));
    }

    #[test]
    fn what_only_waits_has_an_end_and_needs_the_option_on_both_sides() {
        let rows =
            [time_wait("10.0.0.1:80", "10.0.0.2:5000", 40_000), time_wait("10.0.0.1:80", "10.0.0.2:5001", 7_000)];
        let request = request("0.0.0.0:80");
        let judged = judge(&request, &FREE, rows.iter());
        assert_eq!((judged.plain.verdict, judged.free_in_ms), (IN_USE, Some(40_000)));
        assert_eq!(
            (judged.ways[0].verdict, &judged.ways[0].assumes[..]),
            (Verdict::Depends, &[vec![Assumption::OldReuseAddr]][..])
        );
        let either = [Assumption::OldReuseAddr, Assumption::OldReusePort];
        assert_eq!(judged.ways[2].assumes, [either]);
        let open = [rows[0].clone(), row(State::Established, "10.0.0.1:80", "10.0.0.2:5002")];
        assert_eq!(judge(&request, &FREE, open.iter()).free_in_ms, None);
    }

    #[test]
    fn the_kernel_refuses_the_address_and_the_number_in_its_order() {
        let facts =
            BindFacts { address: AddressAnswer::Refused(Refusal::AddressNotAvailable), port_permitted: Some(false) };
        let verdict = |at: &str| judge(&request(at), &facts, [].iter()).plain.verdict;
        assert_eq!(verdict("192.0.2.1:80"), Verdict::Fails(Refusal::AddressNotAvailable));
        assert_eq!(verdict("[2001:db8::1]:80"), Verdict::Fails(Refusal::Permission));
        let unknown = BindFacts { address: AddressAnswer::Unknown, port_permitted: Some(true) };
        let way = judge(&request("192.0.2.1:80"), &unknown, [].iter()).plain;
        assert_eq!((way.verdict, way.assumes), (Verdict::Depends, vec![vec![Assumption::NotRefused]]));
    }

    #[test]
    fn an_interface_keeps_sockets_apart_and_a_request_holds_no_port() {
        let tied = [Socket { ifindex: Some(3), ..listener("0.0.0.0:80") }];
        assert_eq!(judge(&request("0.0.0.0:80"), &FREE, tied.iter()).plain.assumes, [[Assumption::Vrf]]);
        let elsewhere = BindRequest { ifindex: 2, ..request("[fe80::1]:80") };
        let tied = [Socket { ifindex: Some(3), ..listener("[::]:80") }];
        assert_eq!(judge(&elsewhere, &FREE, tied.iter()).plain.verdict, Verdict::Works);
        let asked = [Socket { kind: RowKind::Request, ..row(State::SynRecv, "10.0.0.1:80", "10.0.0.2:5000") }];
        assert_eq!(judge(&request("0.0.0.0:80"), &FREE, asked.iter()).plain.verdict, Verdict::Works);
    }
}
