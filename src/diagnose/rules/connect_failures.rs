//! Connects of one program to one destination fail, and most leave no row that a look could find.
//!
//! Input: the sums of a trace between two samples; without one, rows in SYN_SENT of both and counters. Output: a finding per
//! program and destination, with how they fail and what share of them.
//!
#![doc = include_str!("../../../docs/rules/connect-failures.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::callers;
use crate::diagnose::connect_causes::{self, CAUSES, Ends};
use crate::diagnose::connect_harm::{FEW, PATIENT_MS, Seen, severity};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::measure::Share;
use crate::diagnose::port_holders::{CALL_LISTEN, LISTEN_THERE_TOO, PortHolder};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::view::View;
use crate::model::capability::Capability;
use crate::model::counter::Counter;
use crate::model::rights::Needs;
use crate::model::traced::{ConnectFailure, Connects, TracedInterval, Waited};
use crate::model::{Endpoint, Errno, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "connect-failures",
    Connecting,
    Two,
    "connects to one destination fail",
    check,
    [TEXT, COUNTED, UNROUTED, SCANNED]
)
.states(&[State::SynSent])
.title("failing connects")
.identity(Identity::ProgramAndDestination)
.causes(CAUSES)
.traced();

const LISTENER: &str = "On {addr} check that the service runs and listens on port {port} of that address: `ss -ltnp`";
const HERE: &str = "Find what on this host sends {addr}:{port} to {here}: `nft list ruleset`, `iptables -t nat -S OUTPUT`, `ip route get \
                    {addr}`; start what should listen at {here} (a proxy, a sidecar), or remove it";
const BEHIND: &str =
    "Find which of the hosts behind {addr} refuses, and look there: `ss -ltnp`, the restarts of the service";
const LIMIT: &str = "Find the limit that turns them away, at {addr} and on the way: `nft -a list ruleset` and `iptables -vnL` (reject with \
                     tcp-reset, connlimit); raise it, or keep fewer connections open";
const RESTARTS: &str = "Look on {addr} why the service on port {port} was away: its log, the age of its process";
const REJECT: &str =
    "Find who rejects: `tcpdump -ni any icmp or icmp6`, then its rules (`nft list ruleset`, security groups)";
const ROUTE: &str = "Check the way to {addr}: `ip route get {addr}`, `ip neigh show {addr}`";
const SILENT: &str = "Check that {addr} runs and that nothing drops port {port}: security groups, firewalls, the accept queue of \
                      the listener there (`ss -ltn`: Recv-Q above Send-Q)";
const BACKEND: &str =
    "Connect to each host behind {addr} itself, and take the one that does not answer out of the balancer";
const PART: &str = "Find what lets only a part through to port {port}: rules with a limit (`nft -a list ruleset`), the NAT on the way \
                    (`conntrack -S`), the accept queue of the listener (`ss -ltn`)";
const LOSS: &str = "Measure loss to {addr}: `mtr -T -P {port} {addr}`, drops in `ip -s link`";
const WAY_OUT: &str = "Check the way out: `ip route get {addr}`, rules of OUTPUT (`nft list ruleset`), `tc -s qdisc`";
const HOPS: &str = "Look for a circle of routers on the way: `traceroute -n {addr}`; without one, raise net.ipv4.ip_default_ttl (64), or \
                    the IP_TTL that the program sets, above the number of hops";
const PORTS: &str = "Reuse connections, or spread them over more addresses: see ephemeral-port-exhaustion";
const PATIENCE: &str = "Compare the program's connect timeout with the round trip to {addr}; a timeout below 1 s does not survive one \
                        lost SYN";
const BACK_OFF: &str = "Let the program wait longer after each failure, with jitter, so that it does not meet a service that \
                        comes back with a storm";
const WHO: &str =
    "Find the destination: run `doctor` as root, which traces failed connects, or `tcpstate trace` meanwhile";
const WHO_GRANTED: &str = "Find the destination: `doctor` traces failed connects where it has {capabilities}, which root lacks here (a \
                           container: {options})";
const WHO_TRACED: &str = "Find the destination: `tcpstate trace --failed` while they fail";
const WHO_RECORDED: &str = "Find the destination: a recording has the failed connects where `record` may trace";

const TEXT: Text = Text {
    why: "A connect that fails leaves no socket behind, so tables of sockets look healthy while every call of the program fails.",
    remedy: &[
        LISTENER,
        HERE,
        BEHIND,
        LIMIT,
        RESTARTS,
        REJECT,
        ROUTE,
        SILENT,
        PATIENCE,
        PORTS,
        BACKEND,
        PART,
        LOSS,
        WAY_OUT,
        HOPS,
        BACK_OFF,
        LISTEN_THERE_TOO,
        CALL_LISTEN,
    ],
    avoid: &["Don't lengthen the connect timeout to cure this: callers wait longer for the same failure"],
};

const COUNTED: Text = Text {
    why: "The kernel counts attempts that fail and not where they go; without a trace the destination is known only while a \
          socket waits.",
    remedy: &[WHO, WHO_GRANTED, WHO_TRACED, WHO_RECORDED, SILENT, ROUTE, REJECT, PATIENCE, WAY_OUT],
    avoid: &["Don't lengthen the connect timeout before the destination is known"],
};

/// Attempts that a counter must have seen fail, and their share of those begun, in percent (policy).
const COUNTED_FAILURES: u64 = 20;
/// One program that fails at so many destinations looks for what is there, or all that it needs is away (policy): one story.
const SCAN: usize = 16;
/// Destinations that such a story names.
const NAMED: usize = 5;
/// So many repetitions of one SYN make a `syn-sent-pileup`.
const PILEUP: u8 = 2;
const COUNTED_PERCENT: f64 = 90.0;
/// So many connects without a route are no accident; one for so many that were begun is worth a second look (policy).
const UNROUTED_FAILURES: u64 = 3;
const UNROUTED_SHARE: u64 = 20;

const SCANNED: Text = Text {
    why: "A scanner, a peer-to-peer program or a client with a stale list fails at many addresses or ports, and that is what it is for; \
          a program that fails at all that it calls has lost its network, or what it calls is down.",
    remedy: &[
        "Nothing, if the program looks for what is there; else refresh its list of addresses",
        "If it needs them all, look for what they have in common: one host that is down, one network, one rule",
    ],
    avoid: &["Don't lengthen the connect timeout to cure this: callers wait longer for the same failure"],
};

const UNROUTED: Text = Text {
    why: "A connect() to an address without a route fails at once: no socket changes its state, nothing is sent, and no trace of sockets \
          sees it. The kernel only counts it, together with datagrams, and with segments of open connections, that find no route.",
    remedy: &[
        "Find the program and the address: the log of one whose connects fail so says 'Network is unreachable'; `strace -f -e \
         trace=connect -p PID`, `perf trace -e connect`",
        "Look for a route that refuses: `ip route show table all type blackhole`, and the same with unreachable and prohibit. Segments of \
         connections that were open before are counted, and new connects get EINVAL, EHOSTUNREACH or EACCES, which is not",
        "Look what the routes leave out: `ip route`, `ip rule`, `ip route get` the address; a VPN or an interface that is down takes its \
         routes with it",
    ],
    avoid: &["Don't add a default route before the address is known: it may send private traffic to the internet"],
};

fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return Outcome { wants_second: suspicion(view), ..Outcome::default() };
    }
    let mut findings = view.now.traced.as_ref().map_or_else(|| untraced(view), |traced| traced_findings(view, traced));
    findings.extend(view.now.netns.iter().filter_map(|netns| unrouted(view, netns.inode)));
    Outcome::findings(findings)
}

/// Connects and packets that found no route. A connect ends so before anything happens.
fn unrouted(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let failed = view.delta(netns, Counter::IpOutNoRoutes).filter(|n| *n >= FEW)?;
    let interval = view.interval_ms()?;
    let summary = format!(
        "{} of this network namespace found no route within {}",
        text::count(failed, "connect or packet", "connects or packets"),
        text::duration(interval),
    );
    // Nothing tells whether anybody waited for them: a resolver that asks servers beyond its reach looks the same.
    let finding = RULE
        .finding(Severity::Info, 0.7, summary)
        .because("OutNoRoutes of IPv4 grew; it tells neither the program nor whether they were connects")
        .text(&UNROUTED)
        .subject(Subject { netns, object: Some("no route".to_owned()), ..Subject::default() })
        .evidence("failed", Evidence::Count(failed))
        .next("ip route");
    Some(finding)
}

fn step(cause: &str) -> &'static str {
    match cause {
        "refused" => LISTENER,
        "answered-here" => HERE,
        "refused-by-some" => BEHIND,
        "turned-away" => LIMIT,
        "came-up" => RESTARTS,
        "rejected" => REJECT,
        "unreachable" => ROUTE,
        "no-local-port" => PORTS,
        "impatient" => PATIENCE,
        "backend-silent" | "unreachable-by-some" => BACKEND,
        "part-passes" => PART,
        "lossy-path" => LOSS,
        "not-leaving" | "rejected-here" => WAY_OUT,
        "hops-run-out" => HOPS,
        _ => SILENT,
    }
}

/// A finding for each program and destination; one for a program that fails at very many.
fn traced_findings(view: &View<'_>, traced: &TracedInterval) -> Vec<Finding> {
    let mut programs: BTreeMap<_, Vec<&Connects>> = BTreeMap::new();
    for connects in traced.connects.iter().filter(|c| c.failures() > 0) {
        programs.entry((connects.netns, connects.comm())).or_default().push(connects);
    }
    let mut findings = Vec::new();
    for ((_, comm), of) in programs {
        let told: Vec<&Connects> = of.iter().copied().filter(|c| c.failures() >= FEW).collect();
        let single = told.iter().map(|connects| traced_finding(view, traced, connects));
        match comm.filter(|_| of.len() >= SCAN && !told.is_empty()) {
            Some(_) => findings.push(scan_finding(view, traced, &of, single.map(|f| f.severity).max())),
            None if told.is_empty() && comm.is_some() && is_cut_off(view, traced, &of) => {
                findings.push(scan_finding(view, traced, &of, Some(Severity::Warning)));
            }
            None => findings.extend(single),
        }
    }
    findings
}

/// One failure at each of several destinations of a program, where every connect of the namespace failed: its gateway or its network
/// is gone, however slowly it tries again.
fn is_cut_off(view: &View<'_>, traced: &TracedInterval, of: &[&Connects]) -> bool {
    let is_of_network = |(failure, _): &(ConnectFailure, u64)| {
        matches!(failure, ConnectFailure::Errno(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ETIMEDOUT))
    };
    let netns = of.first().and_then(|c| c.netns);
    let nobody_succeeds = traced.connects.iter().filter(|c| c.netns == netns).all(|c| c.succeeded == 0);
    let since_ms = view.interval_ms().unwrap_or(0);
    let hears_others = || {
        let outside = |s: &&Socket| s.netns == netns && s.state == State::Established && view.mirror(s).is_none();
        view.now.sockets.iter().filter(outside).any(|s| view.heard_ms(s).is_some_and(|ms| ms < since_ms))
    };
    of.len() as u64 >= FEW
        && nobody_succeeds
        && !hears_others()
        && of.iter().all(|c| c.failed.iter().all(is_of_network))
}

/// One program fails at very many destinations: as bad as the worst of them.
fn scan_finding(view: &View<'_>, traced: &TracedInterval, of: &[&Connects], worst: Option<Severity>) -> Finding {
    let mut most: Vec<&Connects> = of.to_vec();
    most.sort_by_key(|c| std::cmp::Reverse(c.failures()));
    let program = of.iter().filter_map(|c| c.program.as_ref()).max_by_key(|p| p.processes);
    let who = program.map_or_else(String::new, traced_program::name);
    let failed: u64 = of.iter().map(|c| c.failures()).sum();
    // What succeeded elsewhere belongs to the same program.
    let place = of.first().map(|c| (c.netns, c.comm()));
    let same = traced.connects.iter().filter(|c| Some((c.netns, c.comm())) == place);
    let attempts: u64 = same.map(|c| c.failures() + c.succeeded).sum();
    let mut kinds: BTreeMap<ConnectFailure, u64> = BTreeMap::new();
    of.iter().flat_map(|c| &c.failed).for_each(|(kind, n)| *kinds.entry(*kind).or_default() += n);
    let summary = format!(
        "{} of {} of {who} failed, at {} destinations, within {}",
        text::grouped(failed),
        text::count(attempts, "connect", "connects"),
        text::grouped(of.len() as u64),
        text::duration(traced.duration_ms),
    );
    let lost = traced.lost + traced.not_grouped;
    let confidence = if lost == 0 { 0.95 } else { 0.8 };
    let named = |c: &&Connects| format!("{} ({})", c.to, c.failures());
    let netns = of.first().and_then(|c| c.netns);
    let subject = match program.and_then(|p| view.named(p.pid)) {
        Some(process) => view.subject_of(process, netns),
        None => {
            Subject { netns, pid: program.map(|p| p.pid), comm: program.map(|p| p.comm.clone()), ..Subject::default() }
        }
    };
    RULE.finding(worst.unwrap_or(Severity::Info), confidence, summary)
        .because("each attempt and its end were traced, as far as no event was lost")
        .text(&SCANNED)
        .subject(subject)
        .evidence("failed", Evidence::Count(failed))
        .evidence("succeeded", Evidence::Count(attempts - failed))
        .evidence("destinations", Evidence::Count(of.len() as u64))
        .evidence(
            "failed_with",
            Evidence::List(kinds.iter().map(|(kind, n)| format!("{} ({n})", kind.key())).collect()),
        )
        .evidence("most_failures", Evidence::List(most.iter().take(NAMED).map(named).collect()))
        .evidence("traced_ms", Evidence::Millis(traced.duration_ms))
        .evidence("events_lost", Evidence::Count(lost))
        .next("tcpstate trace --failed")
}

fn traced_finding(view: &View<'_>, traced: &TracedInterval, connects: &Connects) -> Finding {
    let (failed, attempts) = (connects.failures(), connects.failures() + connects.succeeded);
    let seen = Seen::of(view, traced, connects);
    let ends = Ends::new(view, traced, connects, seen);
    let causes = ends.weigh();
    let cause = ends.leading();
    let program = connects.program.as_ref();
    let who = program.map_or_else(|| "a process that is not known".to_owned(), traced_program::name);
    let past = seen.past(traced, connects);
    let home = callers::home(view, connects.netns, connects.to.addr.to_canonical());
    let refused = causes.is("refused");
    let holder = home.filter(|_| refused).and_then(|home| PortHolder::of(view, home.inode, connects.to));
    let summary = format!(
        "{} of {} of {who} to {} within {} {}{past}{}",
        text::grouped(failed),
        text::count(attempts, "connect", "connects"),
        connects.to,
        text::duration(traced.duration_ms),
        ends.manner(),
        holder.as_ref().map_or_else(|| ends.here_words(), PortHolder::words),
    );
    let steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).take(2).chain([BACK_OFF]).collect();
    let kinds = connects.failed.iter().map(|(kind, n)| format!("{} ({n})", kind.key())).collect();
    let share = Share::of(failed, attempts).map_or(Evidence::Unknown, |s| Evidence::Percent(s.percent()));
    let began_before = connects.waits.iter().any(|w| w.at_least_ms.is_some());
    // The shortest of those that had begun before is not known.
    let shortest = connects.waited_ms.map(|(shortest, _)| shortest).filter(|_| !began_before);
    let longest = connects.waits.iter().filter_map(Waited::longest_ms).max();
    let longest = longest.max(connects.waited_ms.map(|(_, longest)| longest));
    let lost = traced.lost + traced.not_grouped;
    let confidence = if lost == 0 { 0.95 } else { 0.8 };
    let reason = if lost == 0 {
        "each attempt and its end were traced".to_owned()
    } else {
        format!("attempts and their ends were traced; {} were lost to the trace", text::count(lost, "event", "events"))
    };
    RULE.finding(severity(view, traced, connects, seen, (cause, ends.told_by_icmp())), confidence, summary)
        .because(reason)
        .subject(traced_program::caller(view, connects.netns, connects.to, program))
        .causes(causes)
        .evidence("failed", Evidence::Count(failed))
        .evidence("succeeded", Evidence::Count(connects.succeeded))
        .evidence("failed_percent", share)
        .evidence("failed_with", Evidence::List(kinds))
        .evidence("waited_min_ms", Evidence::millis(shortest))
        .evidence("waited_max_ms", Evidence::millis(longest))
        .evidence("icmp_unreachable", Evidence::Count(ends.messages))
        .evidence("traced_ms", Evidence::Millis(traced.duration_ms))
        .evidence("events_lost", Evidence::Count(lost))
        .steps(steps)
        .fill("addr", connects.to.addr)
        .fill("port", connects.to.port)
        .fill("here", ends.answered_here.unwrap_or(connects.to))
        .first(holder.map(|holder| holder.step(connects.to)))
        .next(format!("tcpstate trace --failed dst {}", connects.to))
}

/// Rows in SYN_SENT by destination.
fn attempts<'a>(rows: &'a [Socket]) -> BTreeMap<(Option<NetnsId>, Endpoint), Vec<&'a Socket>> {
    let mut places: BTreeMap<_, Vec<&'a Socket>> = BTreeMap::new();
    for socket in rows.iter().filter(|s| s.state == State::SynSent && s.cookie.is_some()) {
        places.entry((socket.netns, socket.peer.normalised())).or_default().push(socket);
    }
    places
}

/// Whether any connection to this destination was ever more than an attempt.
fn is_reached(rows: &[Socket], (netns, to): (Option<NetnsId>, Endpoint)) -> bool {
    let is_attempt = |s: &Socket| matches!(s.state, State::SynSent | State::Listen | State::Close);
    rows.iter().any(|s| s.netns == netns && s.peer.normalised() == to && !is_attempt(s))
}

/// One look cannot know that attempts fail: what makes a second one worth its time.
fn suspicion(view: &View<'_>) -> Option<String> {
    let waits = attempts(&view.now.sockets)
        .iter()
        .any(|(place, rows)| rows.len() as u64 >= FEW && !is_reached(&view.now.sockets, *place));
    let counted = view.now.netns.iter().any(|netns| {
        let count = |counter| netns.counter(counter);
        let (Some(failed), Some(opened)) = (count(Counter::TcpAttemptFails), count(Counter::TcpActiveOpens)) else {
            return false;
        };
        failed >= COUNTED_FAILURES && failed * 2 >= opened
    });
    let unrouted = view.now.netns.iter().any(|netns| {
        let count = |counter| netns.counter(counter).unwrap_or(0);
        let n = count(Counter::IpOutNoRoutes);
        n >= UNROUTED_FAILURES && n * UNROUTED_SHARE >= count(Counter::TcpActiveOpens)
    });
    (waits || counted || unrouted)
        .then(|| "whether attempts that wait are ever answered, and how many fail between two looks".to_owned())
}

/// What became between two looks of the attempts to one destination that nobody answered.
struct Ended<'a> {
    /// Those of the first look that are gone.
    gone: u64,
    /// Those of the second.
    rows: Vec<&'a Socket>,
    /// Of these, those that were there before.
    kept: u64,
    /// One at least repeated its SYN, or is in both looks: they wait for longer than an answer takes.
    waits: bool,
}

impl<'a> Ended<'a> {
    fn of(view: &View<'_>, old: &[&Socket], rows: Vec<&'a Socket>) -> Ended<'a> {
        let both = |a: &[&Socket], s: &Socket| a.iter().any(|o| o.cookie == s.cookie);
        let kept = rows.iter().filter(|s| both(old, s)).count() as u64;
        let repeats = |s: &&Socket| s.timer.is_some_and(|t| t.retransmits > 0);
        let waits = kept > 0 && view.interval_ms().is_some_and(|ms| ms >= PATIENT_MS);
        Ended {
            gone: old.iter().filter(|o| !both(&rows, o)).count() as u64,
            waits: waits || old.iter().chain(&rows).any(repeats),
            kept,
            rows,
        }
    }

    /// Many in both looks and none of them the same, or a few that provably wait and were not told either.
    fn is_outage(&self, view: &View<'_>, netns: Option<NetnsId>) -> bool {
        let enough = view.thresholds.connect_failures;
        let many = self.kept == 0 && self.gone.min(self.rows.len() as u64) as f64 >= enough;
        // Those with more repetitions are the subject of `syn-sent-pileup`.
        let is_young = self.rows.iter().all(|s| s.timer.is_none_or(|t| t.retransmits < PILEUP));
        let told = view.delta(netns, Counter::TcpAttemptFails).unwrap_or(0);
        many || self.gone >= FEW && self.waits && is_young && told < self.gone
    }
}

/// What two samples tell: attempts that are gone or wait, of which none was answered; and counters.
fn untraced(view: &View<'_>) -> Vec<Finding> {
    let Some(before) = view.before else { return Vec::new() };
    let earlier = attempts(&before.sockets);
    let mut findings = Vec::new();
    for (place, rows) in attempts(&view.now.sockets) {
        let Some(old) = earlier.get(&place) else { continue };
        let ended = Ended::of(view, old, rows);
        let reached = is_reached(&view.now.sockets, place) || is_reached(&before.sockets, place);
        if !reached && ended.is_outage(view, place.0) {
            findings.push(waiting_finding(view, place, &ended));
        }
    }
    if findings.is_empty() {
        findings.extend(view.now.netns.iter().filter_map(|netns| counted_finding(view, netns.inode)));
    }
    findings
}

fn waiting_finding(view: &View<'_>, (netns, to): (Option<NetnsId>, Endpoint), ended: &Ended<'_>) -> Finding {
    let Ended { gone, rows, kept, waits } = ended;
    let (gone, n) = (*gone, rows.len() as u64);
    let holder = rows.iter().find_map(|s| view.holder(s));
    let who = holder.map_or_else(String::new, |process| format!(" of {}", text::name(process)));
    let subject = match holder {
        Some(process) => Subject { destination: Some(to), ..view.subject_of(process, netns) },
        None => Subject { netns, destination: Some(to), uid: rows[0].uid, ..Subject::default() },
    };
    let interval = view.interval_ms().unwrap_or_default();
    let left = match kept {
        0 => format!(
            "none of them is left, {} {}",
            text::count(n, "new one", "new ones"),
            if n == 1 { "waits" } else { "wait" }
        ),
        _ => format!("{} more {}", text::grouped(n), if n == 1 { "waits" } else { "wait" }),
    };
    let summary = format!(
        "at least {}{who} to {to} ended unanswered within {}: {left}, and no connection to it exists",
        text::count(gone, "connect", "connects"),
        text::duration(interval),
    );
    let causes = connect_causes::of_waiting(view, netns, to.addr, *waits);
    let steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).take(2).collect();
    let severity = if gone as f64 >= view.thresholds.connect_failures { Severity::High } else { Severity::Warning };
    RULE.finding(severity, 0.7, summary)
        .because("two looks found attempts that wait and nothing else; no trace shows their ends")
        .text(&COUNTED)
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes)
        .evidence("failed", Evidence::Count(gone))
        .evidence("waiting", Evidence::Count(n))
        .evidence("failed_attempts", Evidence::count(view.delta(netns, Counter::TcpAttemptFails)))
        .evidence("syn_retransmissions", Evidence::count(view.delta(netns, Counter::TcpExtTcpSynRetrans)))
        .steps(steps)
        .fill("addr", to.addr)
        .fill("port", to.port)
        .next(format!("tcpstate trace --failed dst {to}"))
}

/// Nearly everything that was tried failed.
fn counted_finding(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let failed = view.delta(netns, Counter::TcpAttemptFails).filter(|n| *n >= COUNTED_FAILURES)?;
    let opened = view.delta(netns, Counter::TcpActiveOpens)?;
    let share = Share::of(failed, opened).filter(|share| share.percent() >= COUNTED_PERCENT)?;
    let summary = format!(
        "{} of {} that this network namespace began within {} failed at once; where they go needs a trace",
        text::grouped(failed),
        text::count(opened, "connect", "connects"),
        text::duration(view.interval_ms()?),
    );
    let finding = RULE
        .finding(Severity::Warning, 0.6, summary)
        .because("AttemptFails and ActiveOpens grew by nearly the same number")
        .text(&COUNTED)
        .subject(Subject { netns, ..Subject::default() })
        .evidence("failed", Evidence::Count(failed))
        .evidence("opened", Evidence::Count(opened))
        .evidence("failed_percent", Evidence::Percent(share.percent()))
        .next("tcpstate trace --failed");
    Some(match view.now.looker.needs(Capability::BPF) {
        _ if view.now.looker.is_recorded => finding.steps([WHO_RECORDED]),
        Needs::Root => finding.steps([WHO]),
        Needs::Nothing => finding.steps([WHO_TRACED]),
        Needs::Grant(lacks) => finding
            .steps([WHO_GRANTED])
            .fill("capabilities", text::capabilities(lacks))
            .fill("options", text::container_options(lacks)),
    })
}

#[cfg(test)]
mod tests;
