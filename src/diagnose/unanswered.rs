//! Why SYNs to one destination get no answer: the causes, and what the other connections of the host say of each.
//!
//! Input: the attempts to one destination. Output: the causes with their weights. Not here: how bad it is.

/// The causes.
mod causes;
/// Keys that sign segments.
mod keys;
/// Other connects at the same time.
mod meanwhile;
/// Filters that let a part through.
mod partial;

use rustc_hash::FxHashSet;

use crate::diagnose::callers;
use crate::diagnose::conntrack;
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::nat_ports::{Nat, Others};
use crate::diagnose::next_hop::Way;
use crate::diagnose::queues::Queue;
use crate::diagnose::reach::{self, Leaving, Reach};
use crate::diagnose::translation::{Tables, Translation};
use crate::diagnose::view::View;
use crate::model::{Endpoint, Family, NetnsId, Socket};
use crate::text;
pub use causes::CAUSES;
use meanwhile::Meanwhile;
use partial::Beside;

/// A word this long before the attempts began is nearly as good as one since: those that wait may have left nobody to
/// call the others.
const SAME_MOMENT_MS: u64 = 1000;
/// A port that answered so long before the attempts began was no dead one then (policy).
const LATELY_MS: u64 = 60_000;
/// So many lost SYNs of several attempts in a row are no loss: at 60 % it happens once in 2000 times.
const SYNS_LOST: u64 = 15;
const ATTEMPTS_LOST: usize = 3;
/// So much data without one repetition is no path that loses SYNs repeatedly.
const CLEAN_SEGMENTS: u64 = 100;
/// And so much beside [`SYNS_LOST`]: a path that loses half of all segments has both once in ten million times.
const SOME_SEGMENTS: u64 = 20;
/// So many connects that were answered at once are no chance beside [`SYNS_LOST`] (policy).
const AT_ONCE: u64 = 3;

/// What is known of the destination of some attempts.
pub struct Facts<'v> {
    to: Endpoint,
    /// Connections to this very port whose peer was heard since the attempts began.
    pub working: u64,
    /// How these stand beside the attempts.
    pub beside: Beside,
    /// Keys that sign segments.
    keys: Weight,
    /// Segments that the host of the address dropped for their signatures between the samples.
    pub unsigned: Option<u64>,
    /// The same, heard in the second before.
    pub just_before: u64,
    /// One at least was heard since the attempts began, or in the minute before.
    pub answered_lately: bool,
    /// Connections to other ports of the address that were heard since the attempts began, or just before.
    other_ports: u64,
    other_ports_before: u64,
    /// Other addresses that answer the same programs on this port, in the same family.
    pub backends: u64,
    /// Connections of the same programs to this port over the other family.
    other_family: u64,
    /// The same of programs that are not known, as of TIME_WAIT.
    other_family_of_unknown: u64,
    family_works: bool,
    /// Working connections whose SYN was repeated before it was answered.
    repeated: u64,
    /// Segments of data that went to the address between the samples.
    segments: u64,
    /// There is a second sample.
    is_second: bool,
    /// One percent or more of the bytes to the address were repeated: between the samples, or ever if there is only one. Of
    /// connections that were served: a full queue drops the first data of others.
    loses_data: bool,
    /// Connections to the port that repeat their first data and were never served.
    first_repeated: u64,
    /// Other connects between the samples.
    pub meanwhile: Meanwhile,
    syns: u64,
    attempts: usize,
    leaving: Leaving,
    /// What connection tracking of this host says.
    tracking: Weight,
    /// The next hop, if the kernel was asked.
    pub way: Way,
    /// Where the tracking tables of this host send them.
    tables: Tables<'v>,
    /// What the tables say of NAT on the way.
    pub nat: Nat<'v>,
    /// The queue where they arrive, if that can be read.
    pub queue: Option<&'v Queue<'v>>,
    overflows: bool,
    /// The address is one of this host.
    here: bool,
    /// The host answered for its address on the link since the attempts began.
    is_on_the_link: bool,
    /// A router said that the host cannot be reached, and the address itself is on the link and resolved.
    forwarded_in_vain: bool,
}

impl<'v> Facts<'v> {
    /// `since_ms`: how long ago the attempts began.
    #[must_use]
    pub fn new<'a>(
        view: &'v View<'a>,
        reach: &Reach<'_, 'a>,
        (netns, to): (Option<NetnsId>, Endpoint),
        rows: &[&'a Socket],
        since_ms: u64,
    ) -> Facts<'v> {
        let programs: FxHashSet<&str> = rows.iter().flat_map(|s| view.processes(s)).map(|p| p.comm.as_str()).collect();
        let same_program =
            |s: &&Socket| programs.is_empty() || view.holding(s).any(|p| programs.contains(p.comm.as_str()));
        let near_ms = since_ms + SAME_MOMENT_MS;
        let working: Vec<&Socket> = reach.to(netns, to, since_ms).collect();
        let open: Vec<&Socket> = reach.to(netns, to, u64::MAX).collect();
        let others = |within| reach.address(netns, to.addr, within).filter(|s| s.peer.port != to.port).count() as u64;
        let is_same_family = |s: &Socket| Family::of(s.peer.normalised().addr) == Family::of(to.addr);
        let (same_family, other_family): (Vec<&Socket>, Vec<&Socket>) =
            reach.elsewhere(netns, to, near_ms).partition(|s| is_same_family(s));
        let backends: FxHashSet<_> =
            same_family.iter().filter(|s| same_program(s)).map(|s| s.peer.normalised().addr).collect();
        let of_program = other_family.iter().filter(|s| same_program(s)).count() as u64;
        let of_unknown = other_family.iter().filter(|s| view.holding(s).next().is_none()).count() as u64;
        let meanwhile = Meanwhile::of(view, (netns, to), &programs, &working, since_ms);
        let info = |s: &Socket, value: fn(&crate::model::TcpInfo) -> Option<u64>| s.info.as_deref().and_then(value);
        let repeats = |s: &&&Socket| {
            info(s, |i| i.total_retrans().map(u64::from)).is_some_and(|n| n > 0)
                && info(s, crate::model::TcpInfo::bytes_retrans) == Some(0)
        };
        let heard: Vec<&Socket> = reach.address(netns, to.addr, since_ms).collect();
        let grown = |s: &Socket, value: fn(&crate::model::TcpInfo) -> Option<u64>| {
            let before = view.earlier(s).map_or(Some(0), |e| info(e, value))?;
            Some(info(s, value)?.saturating_sub(before))
        };
        let sum = |value| heard.iter().filter_map(|s| grown(s, value)).sum::<u64>();
        // A SYN counts as a byte.
        let is_first = |s: &&&Socket| {
            info(s, crate::model::TcpInfo::bytes_received) == Some(0)
                && info(s, crate::model::TcpInfo::bytes_acked).is_none_or(|n| n <= 1)
        };
        let of_served = |value| heard.iter().filter(|s| !is_first(s)).filter_map(|s| grown(s, value)).sum::<u64>();
        let loses = of_served(crate::model::TcpInfo::bytes_retrans);
        let repeats_first = |s: &&&Socket| is_first(s) && info(s, crate::model::TcpInfo::bytes_retrans) > Some(0);
        let home = callers::home(view, netns, to.addr);
        let tables = Tables::of(view, netns, to, rows, home);
        let queue = match &tables.translation {
            Some(translation) => translation.queue,
            None => rows.first().and_then(|s| callers::called(view, s)),
        };
        let way = Way::of(view, netns, to.addr, rows);
        let beside = Beside::of(view, rows, &working, &open);
        let arrives_at = match &tables.translation {
            Some(translation) => translation.queue.and_then(|q| view.netns(q.netns)),
            None => home,
        };
        let near = reach.to(netns, to, near_ms).count() as u64;
        let pass = meanwhile.unreachable > 0 || meanwhile.late <= Some(0) && meanwhile.answered >= AT_ONCE;
        let beside_them =
            Others { working: beside.working, open: beside.open, are_served: beside.served == beside.working, pass };
        let leaving = reach::leaving(view, netns, rows);
        Facts {
            to,
            working: working.len() as u64,
            just_before: near - working.len() as u64,
            answered_lately: reach.to(netns, to, since_ms + LATELY_MS).next().is_some(),
            other_ports: others(since_ms),
            other_ports_before: others(near_ms) - others(since_ms),
            backends: (backends.len() as u64).max(u64::from(meanwhile.other_addresses > 0)),
            other_family: of_program.max(meanwhile.other_family),
            other_family_of_unknown: of_unknown,
            family_works: reach.family_works(netns, to.addr, near_ms),
            is_second: view.before.is_some(),
            repeated: working.iter().filter(repeats).count() as u64,
            segments: if view.before.is_some() { sum(|i| i.data_segs_out().map(u64::from)) } else { 0 },
            loses_data: loses > 0 && loses * 100 >= of_served(crate::model::TcpInfo::bytes_sent),
            first_repeated: open.iter().filter(repeats_first).count() as u64,
            meanwhile,
            syns: rows.iter().filter_map(|s| s.timer).map(|t| u64::from(t.retransmits) + 1).sum(),
            attempts: rows.len(),
            leaving,
            tracking: conntrack::weigh(view, netns, leaving),
            queue,
            overflows: queue.is_some_and(|q| callers::overflows(view, q)),
            nat: Nat::of(view, (netns, to), (rows, &open), &way, beside_them),
            beside,
            keys: keys::weigh(view, rows, &working, (arrives_at, queue)),
            unsigned: keys::evidence(view, arrives_at),
            here: to.addr.is_loopback() || home.is_some() || tables.translation.is_none() && queue.is_some(),
            is_on_the_link: way.host_was_there(since_ms),
            forwarded_in_vain: way.host_is_resolved() && meanwhile.unreachable > 0,
            tables,
            way,
        }
    }

    /// Which causes are left.
    #[must_use]
    pub fn weigh(&self) -> Weighed {
        Weighed::of(CAUSES, |cause| match cause.id {
            "host-down" => self.host_down(),
            "port-filtered" => self.port_filtered(),
            "peer-accept-queue-full" => self.queue_full(),
            "lossy-path" => self.lossy_path(),
            "address-family-broken" => self.family_broken(),
            "one-backend-down" => self.backend_down(),
            "conntrack-full" => self.tracking.clone(),
            "gateway-down" => self.gateway_down(),
            "translated-elsewhere" => self.elsewhere(),
            "nat-exhausted" => self.nat.weight.clone(),
            "partly-filtered" => self.beside.weigh(self.queue.is_some() && !self.overflows),
            "key-mismatch" => self.keys.clone(),
            _ => self.local_drop(),
        })
    }

    /// Connections to this very port that were answered since the attempts began, as far as rows and the trace show it.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.working.max(if self.meanwhile.is_since { self.meanwhile.answered } else { 0 })
    }

    /// The path was there meanwhile, and lost nothing that would explain the attempts.
    #[must_use]
    pub fn is_no_loss(&self) -> bool {
        let clean = self.segments >= CLEAN_SEGMENTS || self.segments >= SOME_SEGMENTS && self.are_many_syns();
        // Those that wait tried again meanwhile: no outage that is over.
        let tried = matches!(self.leaving, Leaving::Leaves(n) if n >= AT_ONCE);
        let others = tried && self.others_at_once() || self.answered() > 0 && self.meanwhile.unreachable > 0;
        !self.loses_data && self.repeated == 0 && (clean || others)
    }

    /// None of very many SYNs was answered, and other connects to the port were each answered at once.
    fn others_at_once(&self) -> bool {
        self.are_many_syns()
            && self.meanwhile.late == Some(0)
            && self.meanwhile.answered >= AT_ONCE
            && self.repeated == 0
    }

    fn works(&self) -> Weight {
        let n = text::count(self.answered(), "connection", "connections");
        Weight::Refuted(format!("{n} to this very port were answered since the attempts began"))
    }

    fn gateway_down(&self) -> Weight {
        match self.works() {
            Weight::Refuted(why) if self.answered() > 0 => self.way.weigh_gateway(Some(why)),
            _ => self.way.weigh_gateway(None),
        }
    }

    fn host_down(&self) -> Weight {
        match self {
            _ if self.way.host_is_silent() => Weight::Proven,
            _ if self.answered() > 0 => self.works(),
            _ if self.other_ports > 0 => {
                let n = text::count(self.other_ports, "connection", "connections");
                Weight::Refuted(format!("{n} to other ports of the address were answered since the attempts began"))
            }
            _ if self.is_resolved_elsewhere() => self.arrives(),
            // What a host sends elsewhere may find nobody there.
            _ if self.here && self.tables.excluded.is_none() => Weight::Possible(0.2),
            _ if self.here => {
                Weight::Refuted("the address is one of this host, which does not send them elsewhere".into())
            }
            _ if self.forwarded_in_vain => Weight::Possible(0.15),
            _ if self.meanwhile.answered > 0 || self.is_on_the_link => Weight::Possible(0.05),
            _ if self.meanwhile.unreachable > 0 => Weight::Possible(0.7),
            _ if self.beside.waiting > 0 => Weight::Possible(0.2),
            _ if self.just_before > 0 || self.other_ports_before > 0 => Weight::Possible(0.1),
            _ if self.backends + self.other_family + self.other_family_of_unknown > 0 => Weight::Possible(0.25),
            _ => Weight::Possible(0.45),
        }
    }

    fn port_filtered(&self) -> Weight {
        match self {
            _ if self.answered() > 0 => self.works(),
            _ if self.just_before > 0 || self.meanwhile.answered > 0 => Weight::Possible(0.1),
            _ if self.other_ports > 0 => Weight::Possible(0.7),
            _ if self.beside.waiting > 0 => Weight::Possible(0.15),
            _ if self.other_ports_before > 0 => Weight::Possible(0.5),
            _ if self.translation().is_some() && self.queue.is_none() => Weight::Possible(0.2),
            _ if self.here && self.may_be_translated() => Weight::Possible(0.5),
            _ if self.here => Weight::Possible(0.7),
            _ if self.forwarded_in_vain => Weight::Possible(0.15),
            _ => Weight::Possible(0.3),
        }
    }

    fn queue_full(&self) -> Weight {
        match self.queue {
            Some(_) if self.overflows => Weight::Proven,
            Some(queue) => {
                let limit = queue.capacity().map_or_else(String::new, |n| format!(" of {}", text::grouped(n)));
                Weight::Refuted(format!("its queue has {}{limit}", text::grouped(queue.queued())))
            }
            None if self.translation().is_some_and(Translation::is_to_nobody_here) => {
                Weight::Refuted("nobody on this host listens where they are sent".into())
            }
            None if self.translation().is_some() || self.here && self.may_be_translated() => Weight::Possible(0.05),
            None if self.here => Weight::Refuted("nobody on this host listens there".into()),
            None if self.meanwhile.cut > 0 || self.first_repeated > 0 => Weight::Possible(0.7),
            None if self.repeated > 0 || self.loses_data => Weight::Possible(0.3),
            None if self.working > 0 || self.just_before > 0 || self.beside.waiting > 0 => {
                self.beside.weigh_queue(self.just_before > 0)
            }
            None if self.other_ports > 0 || self.other_ports_before > 0 => Weight::Possible(0.25),
            None => Weight::Possible(0.1),
        }
    }

    fn lossy_path(&self) -> Weight {
        match self {
            _ if self.loses_data => Weight::Possible(0.7),
            _ if self.segments >= CLEAN_SEGMENTS => Weight::Refuted(format!(
                "{} segments of data went to the address between the samples and hardly one was repeated",
                text::grouped(self.segments)
            )),
            _ if self.others_at_once() => Weight::Refuted(format!(
                "none of {} SYNs was answered, and each of {} other connects to the port was answered at once",
                text::grouped(self.syns),
                text::grouped(self.meanwhile.answered)
            )),
            _ if self.repeated > 0 || self.meanwhile.late > Some(0) => Weight::Possible(0.5),
            _ if self.segments >= SOME_SEGMENTS && self.are_many_syns() => Weight::Refuted(format!(
                "none of {} SYNs was answered, and hardly one of {} segments of data to the address was repeated",
                text::grouped(self.syns),
                text::grouped(self.segments)
            )),
            _ if self.working > 0 || self.just_before > 0 || self.meanwhile.answered > 0 => Weight::Possible(0.2),
            _ if self.are_many_syns() => {
                Weight::Refuted(format!("none of {} SYNs was answered", text::grouped(self.syns)))
            }
            _ => Weight::Possible(0.1),
        }
    }

    /// So many that chance does not lose them all.
    fn are_many_syns(&self) -> bool {
        self.syns >= SYNS_LOST && self.attempts >= ATTEMPTS_LOST
    }

    fn family_broken(&self) -> Weight {
        let is_v4 = self.to.addr.is_ipv4();
        match self {
            _ if self.answered() > 0 => self.works(),
            _ if self.family_works => {
                let this = if is_v4 { "IPv4" } else { "IPv6" };
                Weight::Refuted(format!("other connections over {this} are answered"))
            }
            _ if self.here => Weight::Refuted("the address is one of this host".into()),
            _ if self.other_family > 0 => Weight::Possible(0.7),
            _ if self.other_family_of_unknown > 0 => Weight::Possible(0.5),
            // That nothing was seen over the other one excludes nothing.
            _ => Weight::Possible(if is_v4 { 0.03 } else { 0.1 }),
        }
    }

    fn backend_down(&self) -> Weight {
        let (meanwhile, direct) = (&self.meanwhile, self.way.is_direct());
        let answers = self.answered() > 0 || meanwhile.answered > 0;
        match self {
            // Behind the address there is nothing but this host.
            _ if self.here && self.tables.excluded.is_some() => {
                Weight::Refuted("the address is one of this host, which does not send them elsewhere".into())
            }
            _ if answers && meanwhile.unreachable > 0 => Weight::Possible(0.9),
            // One dead host behind an address looks like this: some connects are answered at once, others never.
            _ if answers && meanwhile.late <= Some(0) && meanwhile.answered >= AT_ONCE => {
                Weight::Possible(if direct { 0.2 } else { 0.6 })
            }
            _ if answers && meanwhile.answered > 0 || self.beside.open > 0 && !self.is_second => {
                Weight::Possible(if direct { 0.1 } else { 0.3 })
            }
            // What is over takes no place of those that a filter or a NAT counts.
            _ if self.working > 0 && self.beside.open == 0 && self.way.gateway().is_some() => Weight::Possible(0.55),
            _ if answers => Weight::Possible(if direct { 0.05 } else { 0.15 }),
            _ if self.backends > 0 => Weight::Possible(0.7),
            _ => Weight::Possible(0.03),
        }
    }

    #[must_use]
    pub fn translation(&self) -> Option<&Translation<'v>> {
        self.tables.translation.as_ref()
    }

    /// Nothing excludes that the host of the address sends them elsewhere, and nobody listens at the address itself.
    fn may_be_translated(&self) -> bool {
        self.tables.excluded.is_none() && self.translation().is_none() && self.queue.is_none()
    }

    /// Tables prove that they came further than the host of the address, or that it answered.
    fn is_resolved_elsewhere(&self) -> bool {
        self.tables.is_answered || self.translation().is_some()
    }

    fn arrives(&self) -> Weight {
        Weight::Refuted(match self.translation() {
            Some(translation) => format!("they are sent to {} instead", translation.to),
            None => "an answer came as far as the tracking table of this host".to_owned(),
        })
    }

    fn elsewhere(&self) -> Weight {
        match (self.translation(), &self.tables.excluded) {
            (Some(translation), _) if translation.queue.is_some() => {
                Weight::Refuted(format!("somebody on this host listens at {}, where they are sent", translation.to))
            }
            (Some(translation), _) if translation.leads_nowhere() => Weight::Proven,
            // A host without a listener would refuse.
            (Some(translation), _) if translation.is_to_nobody_here() => Weight::Possible(0.3),
            (Some(_), _) => Weight::Possible(0.7),
            (None, _) if self.tables.is_answered => self.arrives(),
            (None, Some(why)) => Weight::Refuted(why.clone()),
            (None, None) if self.here && self.queue.is_none() || self.forwarded_in_vain => Weight::Possible(0.5),
            (None, None) => Weight::Possible(0.1),
        }
    }

    fn local_drop(&self) -> Weight {
        match self.leaving {
            _ if self.way.is_silent() => Weight::Possible(0.05),
            Leaving::Fails(_) if self.tracking == Weight::Proven || self.nat.weight == Weight::Proven => {
                Weight::Possible(0.05)
            }
            Leaving::Fails(_) => Weight::Proven,
            Leaving::Leaves(n) => {
                let syns = text::count(n, "SYN was", "SYNs were");
                Weight::Refuted(format!("{syns} repeated between the samples and left this host"))
            }
            Leaving::Unknown if self.answered() > 0 => self.works(),
            Leaving::Unknown => Weight::Possible(0.05),
        }
    }
}

#[cfg(test)]
mod meanwhile_tests;
#[cfg(test)]
mod nat_tests;
#[cfg(test)]
mod partial_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, listen, row, timer};
    use crate::model::counter::Counter;
    use crate::model::{State, TimerKind};

    pub(super) fn syn(port: u16, to: &str, repeats: u8) -> Socket {
        let local = if to.starts_with('[') { format!("[fd00::1]:{port}") } else { format!("10.0.0.1:{port}") };
        timer(row(State::SynSent, &local, to), TimerKind::Retransmit, 500, repeats)
    }

    pub(super) fn heard(port: u16, to: &str, ms: u64, more: &[(&str, u64)]) -> Socket {
        let local = if to.starts_with('[') { format!("[fd00::1]:{port}") } else { format!("10.0.0.1:{port}") };
        let mut fields = vec![("last_ack_recv_ms", ms), ("last_data_recv_ms", ms)];
        fields.extend(more);
        info(row(State::Established, &local, to), &fields)
    }

    /// Attempts to one destination that began 5 s ago, beside other rows, all of one program.
    fn weigh(attempts: u16, to: &str, others: impl IntoIterator<Item = Socket>) -> Weighed {
        let mut world = World::new();
        for socket in (0..attempts).map(|n| syn(40_000 + n, to, 4)).chain(others) {
            world.hold(812, "client", u32::from(socket.local.port), socket.inode).add(socket);
        }
        weighed(&world)
    }

    pub(super) fn weighed(world: &World) -> Weighed {
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        let rows: Vec<&Socket> = world.now.sockets.iter().filter(|s| s.state == State::SynSent).collect();
        let to = rows[0].peer.normalised();
        let reach = Reach::new(&view, [(NETNS, to)].into_iter());
        Facts::new(&view, &reach, (NETNS, to), &rows, 5000).weigh()
    }

    pub(super) fn leads(weighed: &Weighed) -> &str {
        weighed.left[0].cause.id
    }

    pub(super) fn is_out(weighed: &Weighed, id: &str) -> bool {
        weighed.ruled_out.iter().any(|(cause, _)| cause.id == id)
    }

    #[test]
    fn nothing_known_leaves_several_and_names_none() {
        let alone = weigh(2, "10.0.0.2:443", []);
        assert_eq!((leads(&alone), alone.named()), ("host-down", None));
        assert!(!is_out(&alone, "lossy-path") && !is_out(&alone, "one-backend-down"));
        assert!(is_out(&weigh(3, "10.0.0.2:443", []), "lossy-path"), "15 SYNs and no answer");
    }

    #[test]
    fn answers_on_the_very_port_leave_queue_or_path() {
        let old = weigh(6, "10.0.0.2:443", [heard(5000, "10.0.0.2:443", 6001, &[])]);
        assert_eq!(leads(&old), "host-down", "heard before the attempts began proves nothing");
        for ms in [5000, 5900] {
            let some = weigh(6, "10.0.0.2:443", [heard(5000, "10.0.0.2:443", ms, &[])]);
            assert_eq!(leads(&some), "peer-accept-queue-full", "{ms}");
        }
        let now = weigh(6, "10.0.0.2:443", [heard(5000, "10.0.0.2:443", 10, &[])]);
        assert!(is_out(&now, "port-filtered") && is_out(&now, "host-down"));
        let lossy = [("total_retrans", 3), ("bytes_retrans", 4000), ("bytes_sent", 400_000), ("bytes_acked", 390_000)];
        assert_eq!(leads(&weigh(6, "10.0.0.2:443", [heard(5000, "10.0.0.2:443", 10, &lossy)])), "lossy-path");
    }

    #[test]
    fn data_that_goes_through_now_excludes_loss_and_earlier_data_does_not() {
        let busy =
            |segments| heard(5000, "10.0.0.2:443", 10, &[("data_segs_out", segments), ("bytes_sent", segments * 99)]);
        let mut world = World::new();
        world.add(syn(40_000, "10.0.0.2:443", 4)).add(busy(1000));
        assert!(!is_out(&weighed(&world), "lossy-path"));
        world.later(1000);
        world.now.sockets[1] = busy(1099);
        assert!(!is_out(&weighed(&world), "lossy-path"));
        world.now.sockets[1] = busy(1100);
        let clean = weighed(&world);
        assert!(leads(&clean) == "peer-accept-queue-full" && is_out(&clean, "lossy-path"));
        assert_eq!(clean.named(), None, "one of several hosts behind a translation may be gone");
    }

    #[test]
    fn other_ports_other_addresses_and_the_other_family_lead_elsewhere() {
        let port = weigh(6, "10.0.0.2:443", [heard(5000, "10.0.0.2:22", 10, &[])]);
        assert!(leads(&port) == "port-filtered" && is_out(&port, "host-down"));
        let backend = weigh(6, "10.0.0.2:443", [heard(5000, "10.0.0.3:443", 10, &[])]);
        assert!(leads(&backend) == "one-backend-down" && !is_out(&backend, "host-down"));
        let family = weigh(6, "[fd00::2]:443", [heard(5000, "10.0.0.2:443", 10, &[])]);
        assert_eq!(leads(&family), "address-family-broken");
        let both = [heard(5000, "10.0.0.2:443", 10, &[]), heard(5001, "[fd00::3]:22", 10, &[])];
        assert!(is_out(&weigh(6, "[fd00::2]:443", both), "address-family-broken"));
    }

    #[test]
    fn the_queue_itself_and_the_counter_of_failures_decide() {
        let mut world = World::new();
        world.now.netns[0].addresses = vec!["10.0.0.2".parse().unwrap()];
        world.add(syn(40_000, "10.0.0.2:80", 3)).add(listen("0.0.0.0:80", 6, 5));
        assert_eq!(weighed(&world).named().map(|c| c.id), Some("peer-accept-queue-full"));
        world.now.sockets[1] = listen("0.0.0.0:80", 5, 5);
        let full = weighed(&world);
        assert!(is_out(&full, "peer-accept-queue-full") && is_out(&full, "host-down"));
        let counted = |failed: u64| {
            let mut world = World::new();
            world.add(syn(40_000, "10.0.0.2:80", 3)).counter(Counter::TcpExtTcpRetransFail, 4).later(1000);
            world.now.sockets[0] = syn(40_000, "10.0.0.2:80", 4);
            world.counter(Counter::TcpExtTcpRetransFail, 4 + failed);
            weighed(&world)
        };
        assert_eq!(counted(1).named().map(|c| c.id), Some("local-drop"));
        assert!(is_out(&counted(0), "local-drop"));
    }
}
