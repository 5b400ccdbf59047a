//! Connection attempts to one destination get no answer at all, not even a refusal.
//!
//! Input: SYN_SENT rows. Output: one finding per destination, with the causes that are left. Ages from `tcp_info` mean
//! nothing in this state, and refusals never show in it.
//!
#![doc = include_str!("../../../docs/rules/syn-sent-pileup.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::Outcome;
use crate::diagnose::conntrack;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::host_drops::{self, Dropped};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::listener_owner;
use crate::diagnose::measure::Measure;
use crate::diagnose::nat_ports;
use crate::diagnose::ranking;
use crate::diagnose::reach::{self, Reach};
use crate::diagnose::retries;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::translation;
use crate::diagnose::unanswered::{CAUSES, Facts};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::snapshot::Asked;
use crate::model::{Endpoint, NetnsId, Process, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("syn-sent-pileup", Connecting, OneOrTwo, "connection attempts get no answer", check, [TEXT, SCANNER])
        .states(&[State::SynSent])
        .title("unanswered connects")
        .identity(Identity::Destination)
        .causes(CAUSES);

const HOST: &str = "Check that {addr} runs and can be reached: `ping`, `ip route get {addr}`, `ip neigh`";
const FILTER: &str = "Check filters for port {port}: security groups, firewalls at the peer, between, and here";
const QUEUE: &str = "On the peer compare Recv-Q and Send-Q of the listener (`ss -ltn`): if its program accepts too slowly, \
                     find what it waits for; only then raise its backlog and net.core.somaxconn there";
const LOSS: &str = "Measure loss to {addr}: `mtr -T -P {port} {addr}`, drops in `ip -s link`";
const FAMILY: &str = "Mend the route of the family that does not work, or withdraw its address record; until then let the \
                      client try both at once (Happy Eyeballs)";
const BACKEND: &str = "Find the backend that does not answer, {addr} itself or one behind it, and take it out until it does; a health \
                       check does it by itself";
const WAY_OUT: &str = "Check the way out: `ip route get {addr}`, rules of OUTPUT (`nft list ruleset`), `tc -s qdisc`";
const GATEWAY: &str = "Look at the gateway that does not answer: the finding neighbour-failure names it";
const TRACKING: &str =
    "Make room in the connection tracking table of this host: the finding conntrack-pressure says how";
const TRANSLATION: &str = "On the host that has {addr} find the rule that sends port {port} elsewhere (`conntrack -L -p \
                           tcp --orig-dst {addr}`, `nft list ruleset`): remove it, or start what it publishes";
const NAT: &str = "Look at the gateway that translates on the way: `conntrack -S` (insert_failed, drop), the ports of its rule (`nft list \
                   ruleset`); until it has more, keep connections to {addr} open and use them again";
const PARTLY: &str = "Find the rule that lets only a part through, at the peer, between, and here: `nft -a list ruleset`, `iptables \
                      -vnL` (limit, hashlimit, connlimit, ct count, a source); raise its limit, or keep connections to {addr} \
                      open and use them again";
const KEY: &str = "Set the same key on both sides, or on none (BGP: `password` of the neighbour); on the host of {addr} `nstat -az \
                   'TcpExtTCPMD5*' 'TcpExtTCPAO*'` says which segments it drops";
const TIMEOUT: &str = "Set a connect timeout of a few seconds in the application, and a circuit breaker or back-off";

const TEXT: Text = Text {
    why: "A closed port answers a SYN with a reset at once; an attempt that stays in SYN_SENT got no answer. The SYN or \
          its answer was dropped somewhere, and each attempt blocks its caller until the kernel gives up.",
    remedy: &[
        HOST,
        FILTER,
        QUEUE,
        LOSS,
        FAMILY,
        BACKEND,
        WAY_OUT,
        TRACKING,
        GATEWAY,
        TRANSLATION,
        NAT,
        PARTLY,
        KEY,
        TIMEOUT,
    ],
    avoid: &[
        "Don't raise tcp_syn_retries: callers only wait longer for the same silence",
        "Don't lower it for the whole host either: set the timeout in the application, or TCP_SYNCNT on the socket",
    ],
};

/// What helps against each cause.
fn step(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "host-down" => HOST,
        "port-filtered" => FILTER,
        "peer-accept-queue-full" => QUEUE,
        "lossy-path" => LOSS,
        "address-family-broken" => FAMILY,
        "one-backend-down" => BACKEND,
        "local-drop" => WAY_OUT,
        "conntrack-full" => TRACKING,
        "gateway-down" => GATEWAY,
        "translated-elsewhere" => TRANSLATION,
        "nat-exhausted" => NAT,
        "partly-filtered" => PARTLY,
        "key-mismatch" => KEY,
        _ => return None,
    })
}

const SCANNER: Text = Text {
    why: "Scanners, peer-to-peer programs and clients with a stale list of addresses call many hosts of which some \
          are gone. A SYN without an answer is repeated until the kernel gives up.",
    remedy: &["Nothing, if that is what the program is for; else refresh its list of addresses"],
    avoid: &["Don't lower tcp_syn_retries for the whole host"],
};

/// One or none is ordinary loss.
const REPEATS: u8 = 2;
/// So many whose only repetition had no answer for so long are no loss either, where nothing of the destination is heard (policy).
const EARLY: usize = 3;
const EARLY_MS: u64 = 1300;
/// One program that has a single attempt to each of so many destinations looks for somebody (policy).
const SCAN: usize = 16;

/// So many working connections for each waiting attempt make it ordinary loss (policy).
const WORKING_PER_ATTEMPT: u64 = 10;

/// For so long lost SYNs explain the attempts at a port that answered others in the last minute (policy): three or four in
/// a row are lost on a path that loses many.
const LOSS_MS: u64 = 5000;
/// The same for a single attempt, and where others are answered meanwhile (policy).
const LOSS_BESIDE_ANSWERS_MS: u64 = 10_000;

/// Attempts to one destination that nobody answers.
struct Group<'a> {
    netns: Option<NetnsId>,
    to: Endpoint,
    rows: Vec<&'a Socket>,
    /// Attempts to the same destination that were not repeated so often yet.
    young: u64,
    /// None was repeated so often.
    is_early: bool,
    owners: Vec<(&'a Process, u64)>,
}

impl Group<'_> {
    /// How long ago half of them had begun.
    fn since_ms(&self, view: &View<'_>) -> u64 {
        let netns = view.netns(self.netns);
        reach::median(self.rows.iter().filter_map(|s| retries::syn_sent_ms(s, netns).0)).unwrap_or(0)
    }
}

/// The attempts to one destination by how long they provably waited; of `early` ones two looks tell more (`connect-failures`).
#[derive(Default)]
struct Waiting<'a> {
    old: Vec<&'a Socket>,
    early: Vec<&'a Socket>,
    young: Vec<&'a Socket>,
}

impl<'a> Waiting<'a> {
    fn add(&mut self, view: &View<'_>, socket: &'a Socket) {
        let repeats = socket.timer.map_or(0, |t| t.retransmits);
        let age = || retries::syn_sent_ms(socket, view.netns(socket.netns)).0;
        match repeats {
            REPEATS.. => self.old.push(socket),
            1 if view.before.is_none() && age() >= Some(EARLY_MS) => self.early.push(socket),
            _ => self.young.push(socket),
        }
    }

    /// The only attempt to the destination.
    fn single(&self) -> Option<&'a Socket> {
        let mut all = self.old.iter().chain(&self.early).chain(&self.young);
        all.next().filter(|_| all.next().is_none()).copied()
    }
}

/// To how many destinations each program has a single attempt, however young.
fn singles<'a>(view: &View<'_>, places: impl Iterator<Item = &'a Waiting<'a>>) -> FxHashMap<u32, usize> {
    let mut singles: FxHashMap<u32, usize> = FxHashMap::default();
    for process in places.filter_map(Waiting::single).filter_map(|socket| view.holder(socket)) {
        *singles.entry(process.pid).or_default() += 1;
    }
    singles
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut places: BTreeMap<_, Waiting<'_>> = BTreeMap::new();
    for socket in view.active().filter(|s| s.state == State::SynSent) {
        places.entry((socket.netns, socket.peer.normalised())).or_default().add(view, socket);
    }
    let singles = singles(view, places.values());
    places.retain(|_, waiting| !waiting.old.is_empty() || waiting.early.len() >= EARLY);
    if places.is_empty() {
        return Outcome::default();
    }
    let reach = Reach::new(view, places.keys().copied());
    let groups: Vec<Group<'_>> = places
        .into_iter()
        .filter_map(|((netns, to), Waiting { old, early, young })| {
            let is_early = old.is_empty();
            if is_early && reach.to(netns, to, u64::MAX).next().is_some() {
                return None;
            }
            let (rows, younger) = if is_early { (early, 0) } else { (old, early.len()) };
            let young = (young.len() + younger) as u64;
            let owners = owners(view, &rows);
            Some(Group { netns, to, rows, young, is_early, owners })
        })
        .collect();
    let findings = findings(view, &reach, &groups, &singles);
    let undecided = findings.iter().any(|f| f.causes.left.len() > 1);
    let wants_second = (undecided && view.before.is_none()).then(|| {
        "which attempts are answered, and whether repeated SYNs leave this host, decides the cause".to_owned()
    });
    // Those that are open show which tables are on the way.
    let open = |g: &Group<'_>| reach.to(g.netns, g.to, u64::MAX).collect::<Vec<&Socket>>();
    let has_open = |g: &Group<'_>| reach.to(g.netns, g.to, u64::MAX).next().is_some();
    let connections =
        |g: &Group<'_>| [translation::connections(view, &g.rows), translation::connections(view, &open(g))].concat();
    let connections = groups.iter().flat_map(connections).take(translation::ASKED).collect();
    // A NAT without a port lets the open ones go on.
    let translators = view.now.netns.iter().filter(|n| nat_ports::ever_failed(n) && groups.iter().any(has_open));
    let translators = translators.map(|n| n.inode).collect();
    let asked = Asked { connections, translators, ..Asked::default() };
    Outcome { findings, wants_second, asked, ..Outcome::default() }
}

fn owners<'a>(view: &View<'a>, rows: &[&'a Socket]) -> Vec<(&'a Process, u64)> {
    ranking::by_rows(rows.iter().flat_map(|s| view.processes(s)))
}

fn findings<'a>(
    view: &View<'a>,
    reach: &Reach<'_, 'a>,
    groups: &[Group<'a>],
    singles: &FxHashMap<u32, usize>,
) -> Vec<Finding> {
    let scanner = |g: &Group<'_>| {
        let pid = g.owners.first().map(|(p, _)| p.pid)?;
        let is_single = g.rows.len() == 1 && g.young == 0 && singles.get(&pid).is_some_and(|n| *n >= SCAN);
        (is_single && reach.to(g.netns, g.to, g.since_ms(view)).next().is_none()).then_some(pid)
    };
    let mut networks: FxHashMap<(Option<NetnsId>, IpAddr), FxHashSet<IpAddr>> = FxHashMap::default();
    for group in groups {
        networks.entry((group.netns, network(group.to.addr))).or_default().insert(group.to.addr);
    }
    let mut scans: BTreeMap<u32, Vec<&Group<'_>>> = BTreeMap::new();
    let mut out = Vec::new();
    for group in groups {
        if let Some(pid) = scanner(group) {
            scans.entry(pid).or_default().push(group);
        } else {
            let alike = networks.get(&(group.netns, network(group.to.addr))).map_or(1, FxHashSet::len);
            out.push(finding(view, reach, group, alike));
        }
    }
    out.extend(scans.into_values().map(|groups| scan(view, &groups)));
    out
}

/// `/24` of IPv4, `/64` of IPv6: what one route or one filter covers.
fn network(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() & 0xffff_ff00).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() & !(u128::MAX >> 64)).into()),
    }
}

/// What all attempts have in common that a route may depend on.
fn routed_by(group: &Group<'_>) -> Option<String> {
    let same = |value: fn(&Socket) -> Option<u32>| {
        let first = value(group.rows[0]).filter(|v| *v != 0)?;
        group.rows.iter().all(|s| value(s) == Some(first)).then_some(first)
    };
    same(|s| s.mark)
        .map(|mark| format!("mark {mark:#x}"))
        .or_else(|| same(|s| s.ifindex).map(|device| format!("interface {device}")))
}

/// The cause in the words of a headline, when it is known.
fn named(view: &View<'_>, facts: &Facts<'_>, causes: &Weighed) -> String {
    match (causes.named(), facts.queue) {
        (Some(cause), Some(queue)) if cause.id == "peer-accept-queue-full" => {
            let owner = listener_owner::Owner::of(view, &queue.listeners);
            format!(": the accept queue of {} on this host is full", listener_owner::name(owner.as_ref()))
        }
        (Some(cause), _) if cause.id == "translated-elsewhere" => facts.translation().map_or_else(
            || format!(": {}", cause.text),
            |translation| format!(": a translation (DNAT) sends them to {}, and nobody is there", translation.to),
        ),
        (Some(cause), _) if cause.id == "nat-exhausted" => {
            let words = facts.nat.exhausted.map_or_else(|| cause.text.to_owned(), |e| e.words());
            format!(": {words}")
        }
        (Some(cause), _) => format!(": {}", cause.text),
        (None, _) => String::new(),
    }
}

fn subject(view: &View<'_>, group: &Group<'_>) -> Subject {
    let mut pids: Vec<u32> = group.owners.iter().map(|(p, _)| p.pid).collect();
    pids.sort_unstable();
    let named = group.owners.first().map_or_else(
        || Subject { netns: group.netns, uid: group.rows[0].uid, ..Subject::default() },
        |(process, _)| view.subject_of(process, group.netns),
    );
    let mut sources: Vec<IpAddr> = group.rows.iter().map(|s| s.local.addr.to_canonical()).collect();
    sources.sort_unstable();
    sources.dedup();
    let source = if let [one] = sources[..] { Some(one) } else { None };
    let pids = if pids.len() > 1 { pids } else { Vec::new() };
    Subject { destination: Some(group.to), source, pids, ..named }
}

/// Nobody is hurt yet that ordinary loss would not hurt: the port answers, or did a moment ago.
fn may_be_loss(group: &Group<'_>, facts: &Facts<'_>, causes: &Weighed, oldest_ms: u64) -> bool {
    let alone = group.rows.len() as u64 + group.young == 1;
    let limit = if facts.answered() > 0 || alone { LOSS_BESIDE_ANSWERS_MS } else { LOSS_MS };
    let lately = facts.answered_lately && !facts.is_no_loss();
    lately && oldest_ms < limit && causes.named().is_none_or(|cause| cause.id == "lossy-path")
}

fn severity(view: &View<'_>, group: &Group<'_>, working: u64, share: Option<f64>, may_be_loss: bool) -> Severity {
    let n = group.rows.len() as u64;
    let many = n as f64 >= view.thresholds.syn_sent_high_count;
    if may_be_loss {
        return Severity::Info;
    }
    if group.is_early {
        Severity::Warning
    } else if many && working == 0 || n >= 2 && share.is_some_and(|s| s >= 50.0) {
        Severity::High
    } else if !many && working >= n * WORKING_PER_ATTEMPT {
        Severity::Info
    } else {
        Severity::Warning
    }
}

fn finding<'a>(view: &View<'a>, reach: &Reach<'_, 'a>, group: &Group<'a>, alike: usize) -> Finding {
    let n = group.rows.len() as u64;
    let top = group.owners.first();
    let share = top.map(|(process, count)| *count as f64 * 100.0 / view.sockets_held(process.pid) as f64);
    let netns = view.netns(group.netns);
    let times: Vec<_> = group.rows.iter().map(|s| retries::syn_sent_ms(s, netns)).collect();
    let oldest = times.iter().filter_map(|(age, _)| *age).max();
    let last = times.iter().filter_map(|(_, left)| *left).max();
    let facts = Facts::new(view, reach, (group.netns, group.to), &group.rows, group.since_ms(view));
    let causes = facts.weigh();
    let who = match group.owners.len() {
        0 => "a process that is not known".to_owned(),
        1 => top.map(|(p, _)| text::name(p)).unwrap_or_default(),
        more => top.map(|(p, _)| format!("{} and {} more", text::name(p), more - 1)).unwrap_or_default(),
    };
    let attempts = if group.young > 0 {
        format!("{} of {}", text::grouped(n), text::count(n + group.young, "connection attempt", "connection attempts"))
    } else {
        text::count(n, "connection attempt", "connection attempts")
    };
    let age = oldest.map_or_else(String::new, |ms| format!(", the oldest after {}", text::duration(ms)));
    let beside = match facts.working {
        0 => String::new(),
        1 => ", while 1 connection to it works".to_owned(),
        more => format!(", while {} connections to it work", text::grouped(more)),
    };
    let have = if n == 1 { "has" } else { "have" };
    let summary =
        format!("{attempts} of {who} to {} {have} no answer{age}{beside}{}", group.to, named(view, &facts, &causes));
    let timers = || group.rows.iter().filter_map(|s| s.timer);
    let grown = |counter| Evidence::count(view.delta(group.netns, counter));
    let steps: Vec<&str> = causes.left.iter().filter_map(|h| step(h.cause.id)).take(3).chain([TIMEOUT]).collect();
    let may_be_loss = oldest.is_some_and(|ms| may_be_loss(group, &facts, &causes, ms));
    let finding = RULE
        .finding(severity(view, group, facts.answered(), share, may_be_loss), 0.9, summary)
        .because("SYNs were repeated and not even a refusal came back")
        .subject(subject(view, group))
        .about(group.rows.iter().copied())
        .causes(causes)
        .lasting(oldest.map(Measure::Exact))
        .evidence("count", Evidence::Count(n))
        .evidence("younger_attempts", Evidence::Count(group.young))
        .evidence("connections_that_work", Evidence::Count(facts.working))
        .evidence("connections_served", Evidence::Count(facts.beside.served))
        .evidence(
            "served_between_samples",
            view.before.map_or(Evidence::Unknown, |_| Evidence::Count(facts.beside.served_at_once)),
        )
        .evidence(
            "answered_between_samples",
            view.before.map_or(Evidence::Unknown, |_| Evidence::Count(facts.meanwhile.answered)),
        )
        .evidence(
            "of_these_late",
            view.now.traced.as_ref().map_or(Evidence::Unknown, |_| Evidence::count(facts.meanwhile.late)),
        )
        .evidence("repeats_max", Evidence::count(timers().map(|t| t.retransmits.into()).max()))
        .evidence("oldest_ms", Evidence::millis(oldest))
        .evidence("next_syn_in_ms", Evidence::millis(timers().map(|t| t.remaining_ms.into()).min()))
        .evidence("gives_up_within_ms", Evidence::millis(last))
        .evidence("answered_just_before", Evidence::Count(facts.just_before))
        .evidence("other_addresses_that_answer", Evidence::Count(facts.backends))
        .evidence("silent_addresses_of_network", Evidence::Count(alike as u64))
        .evidence("share_of_owner_percent", share.map_or(Evidence::Unknown, Evidence::Percent))
        .evidence("all_have", routed_by(group).map_or(Evidence::Unknown, Evidence::Text))
        .evidence("syn_retransmissions", grown(Counter::TcpExtTcpSynRetrans))
        .evidence("failed_retransmissions", grown(Counter::TcpExtTcpRetransFail))
        .evidence("failed_attempts", grown(Counter::TcpAttemptFails))
        .steps(steps)
        .fill("addr", group.to.addr)
        .fill("port", group.to.port)
        .next(format!("tcpstate list --state syn-sent -o -p --peer {}", group.to));
    finding
        .evidence_if("dropped_by_this_host", host_drops::dropped(view, group.netns).map(Dropped::evidence))
        .evidence_if("connection_tracking", conntrack::evidence(view, group.netns))
        .evidence_if("next_hop", facts.way.words().map(Evidence::Text))
        .evidence_if("nat_ports", facts.nat.exhausted.map(|e| Evidence::Text(e.words())))
        .evidence_if("dropped_for_signature", facts.unsigned.map(Evidence::Count))
        .evidence_if("translated_to", facts.translation().map(|t| Evidence::Text(t.words())))
}

/// One program that tries many destinations once each: a scanner, peer-to-peer, or a client with a stale list.
fn scan(view: &View<'_>, groups: &[&Group<'_>]) -> Finding {
    let process = groups[0].owners[0].0;
    let some = groups.iter().take(5).map(|g| g.to.to_string()).collect();
    let summary = format!(
        "{} tries {} once each and none of them answers",
        text::name(process),
        text::count(groups.len() as u64, "destination", "destinations")
    );
    RULE.finding(Severity::Info, 0.9, summary)
        .text(&SCANNER)
        .because(
            "SYNs were repeated and nothing came back; single attempts to many addresses are usual for some programs",
        )
        .subject(view.subject_of(process, groups[0].netns))
        .about(groups.iter().flat_map(|g| g.rows.iter().copied()))
        .evidence("destinations", Evidence::Count(groups.len() as u64))
        .evidence("some_of_them", Evidence::List(some))
        .next(format!("tcpstate list --state syn-sent -o --pid {}", process.pid))
}

#[cfg(test)]
mod tests;
