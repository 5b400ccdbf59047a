//! A program takes a whole local port for each outgoing connection, because it calls `bind()` with port 0 before
//! `connect()`.
//!
//! Input: client rows with their ports in the order in which they were taken. Output: one finding per program and source
//! address. How the two calls are told apart: [`crate::diagnose::port_choice`].
//!
#![doc = include_str!("../../../docs/rules/bind-before-connect.md")]

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashSet;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::port_choice::{self, Choice};
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::snapshot::Netns;
use crate::model::{NetnsId, Process, Socket, State};
use crate::text;

/// What is used up later than this leaves time to see it again.
const SOON_MS: u64 = 600_000;

pub(super) const RULE: Rule = rule!(
    "bind-before-connect",
    Ports,
    OneOrTwo,
    "a program takes a whole port per outgoing connection",
    check,
    [TEXT]
)
.title("ports bound one by one")
.identity(Identity::Program)
.causes(CAUSES)
.cost(3);

const TEXT: Text = Text {
    why: "bind() with port 0 must find a port that is free towards every destination and keeps it for itself; a port \
          that connect() chooses is shared between destinations. So the range lasts for far fewer connections.",
    remedy: &[
        "Set IP_BIND_ADDRESS_NO_PORT on the socket before bind()",
        "Or don't bind: let routing choose the source address",
    ],
    avoid: &[
        "Don't set ip_autobind_reuse=1: it moves the failure from bind() to connect()",
        "Don't spread over more destinations: a bound port is taken from all of them",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "binds-to-port-0",
        text: "the program calls bind() with port 0 before connect()",
        predicts: "ports of the parity that bind() prefers, one after the other at random places",
        refuted_by: "IP_BIND_ADDRESS_NO_PORT on one of the sockets, or ports that serve several connections",
        decided_by: "`strace -e trace=bind,connect -p PID`",
    },
    Cause {
        id: "connect-found-no-other",
        text: "connect() took these, as the ports that it prefers are in use",
        predicts: "most of the other half of the range is taken",
        refuted_by: "three quarters of the other half free, or random places",
        decided_by: "`strace -e trace=bind,connect -p PID`: no bind()",
    },
    Cause {
        id: "chooses-itself",
        text: "the program chooses each port itself",
        predicts: "ports that go up or down one by one, or by a rule of its own",
        refuted_by: "random places",
        decided_by: "`strace -e trace=bind -p PID`: a port that is not 0",
    },
];

/// Which causes are left: the order of the ports excludes the others, the parity alone does not.
fn causes(sure: bool) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    Weighed::of(CAUSES, |cause| match cause.id {
        "binds-to-port-0" => Weight::Possible(0.8),
        "connect-found-no-other" if sure => refuted("its ports follow each other at random"),
        "connect-found-no-other" => refuted("three quarters of the other half are free"),
        _ if sure => refuted("its ports follow each other at random"),
        _ => Weight::Possible(0.2),
    })
}

/// Connections of one program from one address.
struct Binder<'a> {
    facts: &'a Netns,
    source: IpAddr,
    processes: Vec<&'a Process>,
    rows: Vec<&'a Socket>,
    choice: Choice,
    /// Ports of the range that something on this address has, TIME_WAIT included: `bind()` finds none of them.
    taken: usize,
    /// Those that a held socket of this program, a listener or a bound socket has: `connect()` finds none of them.
    denied: usize,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    type Groups<'a> = BTreeMap<(Option<NetnsId>, IpAddr, &'a str), Vec<(&'a Socket, &'a Process)>>;
    let mut groups: Groups<'_> = BTreeMap::new();
    for (socket, role) in view.rows() {
        // The kernel itself binds the address of an MPTCP subflow (`__mptcp_subflow_connect`).
        if role != Role::Client || socket.inode.is_none() || socket.mptcp {
            continue;
        }
        if let Some(process) = view.holder(socket) {
            let source = socket.local.normalised().addr;
            groups.entry((socket.netns, source, &process.comm)).or_default().push((socket, process));
        }
    }
    groups.retain(|_, rows| rows.len() as f64 >= view.thresholds.bind_rows);
    let binders = groups.into_iter().filter_map(|((netns, source, _), rows)| binder(view, netns, source, &rows));
    Outcome::findings(binders.map(|b| finding(view, &b)).collect())
}

fn binder<'a>(
    view: &View<'a>,
    netns: Option<NetnsId>,
    source: IpAddr,
    held: &[(&'a Socket, &'a Process)],
) -> Option<Binder<'a>> {
    let facts = view.netns(netns)?;
    let low = facts.port_range().0;
    let held: Vec<_> = held.iter().copied().filter(|(s, _)| is_in_range(facts, s.local.port)).collect();
    if (held.len() as f64) < view.thresholds.bind_rows {
        return None;
    }
    let rows: Vec<&Socket> = held.iter().map(|(s, _)| *s).collect();
    // Most programs leave the choice to connect(), which their own rows tell: no need to look at all others for these.
    let on_address = LazyCell::new(|| OnAddress::new(view, facts, source));
    let plain = || on_address.taken.iter().filter(|port| *port % 2 == low % 2).count();
    let choice = port_choice::choice(&rows, low, facts.usable_ports(), plain);
    if !choice.is_bind() {
        return None;
    }
    let denied = on_address.denied.iter().copied().chain(rows.iter().map(|s| s.local.port));
    let denied = denied.collect::<FxHashSet<u16>>().len();
    let mut processes: Vec<&Process> = held.iter().map(|(_, p)| *p).collect();
    processes.sort_by_key(|p| p.pid);
    processes.dedup_by_key(|p| p.pid);
    Some(Binder { facts, source, processes, taken: on_address.taken.len(), denied, rows, choice })
}

/// The ports of the range of a namespace that somebody has on an address.
struct OnAddress {
    taken: FxHashSet<u16>,
    /// Those that a bind() there cannot get, whatever its options.
    denied: FxHashSet<u16>,
}

impl OnAddress {
    fn new(view: &View<'_>, facts: &Netns, source: IpAddr) -> OnAddress {
        let (mut taken, mut denied) = (FxHashSet::default(), FxHashSet::default());
        for socket in &view.now.sockets {
            if socket.netns != facts.inode || !is_in_range(facts, socket.local.port) {
                continue;
            }
            if socket.local.is_wildcard() || socket.local.normalised().addr == source {
                taken.insert(socket.local.port);
                if matches!(socket.state, State::Listen | State::BoundInactive) {
                    denied.insert(socket.local.port);
                }
            }
        }
        OnAddress { taken, denied }
    }
}

fn is_in_range(facts: &Netns, port: u16) -> bool {
    let (low, high) = facts.port_range();
    (low..=high).contains(&port) && !facts.is_reserved(port)
}

fn finding(view: &View<'_>, of: &Binder<'_>) -> Finding {
    let usable = of.facts.usable_ports() as usize;
    let ports = of.rows.iter().map(|s| s.local.port).collect::<FxHashSet<u16>>().len();
    let share = ports as f64 * 100.0 / usable.max(1) as f64;
    let rate = Rate::of_new_rows(view, of.rows.iter().copied());
    let left_ms = match usable.saturating_sub(of.taken) {
        0 => Some(Measure::Exact(0)),
        left => rate.map(|r| Measure::Estimate(r.lasts_ms(left as u64))),
    };
    let n = of.rows.len();
    let sure = of.choice == Choice::Bind;
    let lead = of.processes[0];
    let who = match of.processes.len() {
        1 => text::name(lead),
        several => format!("{} ({several} processes)", lead.comm),
    };
    let source = of.source;
    let all = text::grouped(usable as u64);
    let taken = text::of(ports as u64, usable as u64);
    let connections = text::count(n as u64, "connection", "connections");
    let (severity, summary) = match left_ms {
        Some(Measure::Exact(_)) if of.denied >= usable => (
            Severity::Critical,
            format!("{who} has bound all {all} ports of {source}: every bind() and connect() from there fails now"),
        ),
        Some(Measure::Exact(_)) => (
            Severity::Critical,
            format!(
                "{who} binds a port before each connect(), and none of the {all} ports of {source} is free: \
                 its bind() fails now (EADDRINUSE)"
            ),
        ),
        _ => {
            let does = if sure { "binds" } else { "seems to bind" };
            let head = format!(
                "{who} {does} a port before it connects: its {connections} from {source} take {taken} ports \
                 from everybody"
            );
            let soon = left_ms.filter(|left| left.low() < SOON_MS && sure);
            match (soon, rate) {
                (Some(left), Some(rate)) => {
                    (Severity::Warning, format!("{head}, {rate} more; the rest lasts {}", left.text(text::duration)))
                }
                _ if share >= view.thresholds.bind_port_percent => (Severity::Warning, head),
                _ => (Severity::Info, head),
            }
        }
    };
    let mut subject = view.subject_of(lead, of.facts.inode);
    subject.source = Some(source);
    subject.pids = of.processes.iter().map(|p| p.pid).collect();
    if of.processes.len() > 1 {
        subject.pid = None;
    }
    let reason = if sure {
        "its ports have the parity that bind() prefers and follow each other at random, and those that connect() \
         chooses go up in small steps"
    } else {
        "its ports have the parity that bind() prefers and connect() avoids"
    };
    RULE.finding(severity, if sure { 0.9 } else { 0.6 }, summary)
        .because(reason)
        .causes(causes(sure))
        .subject(subject)
        .about(of.rows.iter().copied())
        .exhausted_in(left_ms.filter(|_| severity > Severity::Info))
        .evidence("connections", Evidence::Count(n as u64))
        .evidence("ports_bound", Evidence::Count(ports as u64))
        .evidence("ports_taken_on_address", Evidence::Count(of.taken as u64))
        .evidence("ports_usable", Evidence::Count(usable as u64))
        .evidence("share_of_ports_percent", Evidence::Percent(share))
        .next(match of.processes.len() {
            1 => format!("tcpstate list -c state,local,peer,bind-no-port --pid {}", lead.pid),
            _ => format!("tcpstate list -c state,local,peer,bind-no-port src {source}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row};
    use crate::model::Inode;
    use crate::model::sysctl::Sysctl;

    /// Ports as bind() finds them: odd ones of the range first, in an order without a pattern.
    fn world(count: u16, no_port: bool) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_199]);
        for i in 0..count {
            let (turn, n) = (i / 100, i % 100);
            let port = 20_001 + n * 37 % 100 * 2 - turn;
            let mut socket = row(State::Established, &format!("10.0.0.1:{port}"), &format!("10.9.0.{}:443", i % 2 + 1));
            socket.sockopt = Some(if no_port { 0x100 } else { 0 });
            socket.inode = Inode::new(5000 + u64::from(i));
            let inode = socket.inode;
            world.add(socket).hold(5, "client", u32::from(i), inode);
        }
        world
    }

    #[test]
    fn subflows_of_mptcp_are_bound_by_the_kernel() {
        let mut world = world(160, false);
        assert!(judged(&world).is_some());
        world.now.sockets.iter_mut().for_each(|s| s.mptcp = true);
        assert_eq!(judged(&world), None);
    }

    fn judged(world: &World) -> Option<Severity> {
        let outcome = world.check(check);
        assert!(outcome.findings.len() <= 1, "{outcome:?}");
        outcome.findings.first().map(|f| {
            assert_eq!(f.subject.pid, Some(5));
            f.severity
        })
    }

    #[test]
    fn the_order_of_the_ports_excludes_what_parity_alone_does_not() {
        assert!(causes(true).is("binds-to-port-0"));
        let left: Vec<_> = causes(false).left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["binds-to-port-0", "chooses-itself"]);
    }

    #[test]
    fn each_step_of_the_ladder_has_its_near_miss() {
        assert_eq!(judged(&world(15, false)), None);
        assert_eq!(judged(&world(16, false)), Some(Severity::Info));
        assert_eq!(judged(&world(149, false)), Some(Severity::Info));
        assert_eq!(judged(&world(150, false)), Some(Severity::Warning));
        assert_eq!(judged(&world(199, false)), Some(Severity::Warning));
        let outcome = world(200, false).check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Critical);
        assert!(outcome.findings[0].summary.contains("all 200 ports of 10.0.0.1"), "{outcome:?}");
    }

    #[test]
    fn ports_of_others_fill_the_range_for_bind_alone() {
        use crate::diagnose::testkit::time_wait;
        let mut world = world(100, false);
        for i in 0..100 {
            world.add(time_wait(&format!("10.0.0.1:{}", 20_000 + i * 2), "10.9.0.9:80", 30_000));
        }
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Critical);
        assert!(outcome.findings[0].summary.contains("its bind() fails now"), "{outcome:?}");
        // Another address has ports of its own.
        world.now.sockets.iter_mut().skip(100).for_each(|s| s.local.addr = "10.0.0.7".parse().unwrap());
        assert_eq!(judged(&world), Some(Severity::Info));
    }

    #[test]
    fn a_rate_between_the_samples_makes_it_a_warning() {
        let mut growing = world(60, false);
        growing.later(2000);
        let mut more = world(64, false);
        more.before = growing.before.take();
        more.now.monotonic_ms += 2000;
        let outcome = more.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        assert!(outcome.findings[0].exhausted_in_ms.is_some_and(|left| (60_000..75_000).contains(&left.low())));
    }

    #[test]
    fn the_option_is_silent() {
        assert_eq!(judged(&world(20, true)), None);
    }
}
