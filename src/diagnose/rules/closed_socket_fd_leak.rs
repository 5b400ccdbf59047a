//! A process keeps descriptors of TCP sockets that are in no table; no socket tool lists them.
//!
//! Input: descriptors that are TCP sockets and stand in no table, of two scans. Output: one finding per process, or per
//! program where many processes have a few each. Not here: a verdict where one socket alone is seen; a dead connection and a
//! socket that was never connected look the same.
//!
#![doc = include_str!("../../../docs/rules/closed-socket-fd-leak.md")]

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::close_wait::Moves;
use crate::diagnose::descriptors::Share;
use crate::diagnose::family::{self, Kin, Members};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::ranking;
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::threads;
use crate::diagnose::view::View;
use crate::model::{Inode, Snapshot, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "closed-socket-fd-leak",
    CloseWait,
    OneOrTwo,
    "descriptors of TCP sockets that are in no table",
    check,
    [TEXT]
)
.topic(Topic::CloseWait)
.title("dead descriptors")
.identity(Identity::Program)
.causes(CAUSES);

const DEAD: Cause = Cause {
    id: "dead-connection",
    text: "connections that ended by a reset or a timeout, or that could not be made, and were not closed",
    predicts: "sockets that were connections in an earlier sample; their number only rises",
    refuted_by: "the program made the socket and never called connect() on it",
    decided_by: "the last calls on such a descriptor: strace -e trace=network,close -p PID",
};
const UNUSED: Cause = Cause {
    id: "never-connected",
    text: "sockets that were created and never connected",
    predicts: "a number that stays",
    refuted_by: "an earlier sample shows them as connections",
    decided_by: "where the program calls socket(): strace -e trace=socket,connect -p PID",
};
const BOUND: Cause = Cause {
    id: "bound-only",
    text: "sockets that are bound and neither listen nor connect, which this kernel does not list",
    predicts: "Linux before 6.8",
    refuted_by: "Linux 6.8 or later, which lists them",
    decided_by: "the same on Linux 6.8 or later: `tcpstate list --state bound-inactive`",
};
const AT_WORK: Cause = Cause {
    id: "handlers-at-work",
    text: "handlers that are still at work for clients that reset their connections, and close when they end",
    predicts: "a thread at work for each descriptor, and a number that stops to rise after the time of a handler",
    refuted_by: "more descriptors than threads at work",
    decided_by: "a second look after the time that a handler takes: `tcpstate doctor --interval 60s --rule closed-socket-fd-leak`",
};
const CAUSES: &[Cause] = &[DEAD, UNUSED, BOUND, AT_WORK];

const TEXT: Text = Text {
    why: "After a RST, a timeout or an abort the kernel takes the connection out of its tables at once; the \
          descriptor stays until the program closes it. No socket tool lists such a descriptor, so a leak of them \
          goes unseen until EMFILE.",
    remedy: &[
        "Close the descriptor on every error path: ECONNRESET, EPIPE, ETIMEDOUT, and a read of 0 bytes",
        "Look for code that drops a connection from its own table without closing it",
        "In languages with a garbage collector, close explicitly and not in a finaliser",
        "Restart the process to buy time",
    ],
    avoid: &[
        "Don't look for them with ss or netstat: they are not there",
        "Don't switch keepalive on against CLOSE_WAIT: it turns that leak into this one",
        "Don't only raise the limit of open files: the leak fills the next one too",
    ],
};

/// Fewer that stay are the spare sockets that many programs have.
const SPARE: usize = 3;
/// Sockets that stay before more of them are a leak.
const LEAK: usize = 8;
/// New ones that are no chance.
const MORE: usize = 3;
/// Two scans are meant to be 2 s apart; how long each takes makes that a little less.
const APART_MS: u64 = 1500;
/// Kernels that list sockets which are only bound (`TCPF_BOUND_INACTIVE`, Linux 6.8).
const LISTS_BOUND: (u32, u32) = (6, 8);

/// Inode to descriptor.
type Sockets = BTreeMap<Option<Inode>, u32>;
type Inodes = FxHashSet<Option<Inode>>;
/// Sockets by process.
type Closed = BTreeMap<u32, Sockets>;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if !view.now.owners.collected {
        return Outcome::not_checked(
            "owners were not asked for, and the descriptors of processes are what it looks at",
        );
    }
    let Some(now) = closed(view.now) else { return Outcome::not_checked("closed sockets were not looked for") };
    if now.is_empty() {
        return Outcome::default();
    }
    if view.now.netns.iter().any(|n| n.incomplete) {
        return Outcome::not_checked("the list of sockets is incomplete, so that a live one may look closed");
    }
    let total: usize = now.values().map(BTreeMap::len).sum();
    let before = view.before.filter(|_| view.interval_ms().is_some_and(|ms| ms >= APART_MS)).and_then(closed);
    let mut outcome = Outcome::default();
    if before.is_none() {
        let n = text::count(total as u64, "TCP descriptor", "TCP descriptors");
        outcome.wants_second = Some(format!("{n} of {} stand in no table", processes(now.len())));
    }
    let Some(before) = before else {
        let many = now.iter().filter_map(|(pid, sockets)| {
            // A few may be on their way to a connection; many are worth a word, with its doubt.
            let percent = Share::new(view, *pid, sockets.len() as u64, None).percent?;
            let told =
                Told { sockets: sockets.clone(), members: members(view, [(*pid, sockets.len())]), ..Told::default() };
            (percent >= view.thresholds.fd_warn_percent).then(|| finding(view, &told))
        });
        outcome.findings = ranking::alike(many.collect());
        return outcome;
    };
    let there: Inodes = now.values().flat_map(BTreeMap::keys).copied().collect();
    let families = families(view, &now, &before, &there);
    let told: FxHashSet<u32> = families.iter().flat_map(|told| told.members.pids()).collect();
    let alone = now.iter().filter(|(pid, _)| !told.contains(pid)).filter_map(|(pid, sockets)| {
        let was = before.get(pid)?.keys().copied().collect();
        let told = Told::new(view, &[(*pid, sockets)], &was, &there);
        (told.sockets.len() >= SPARE || told.grows()).then(|| finding(view, &told))
    });
    outcome.findings = ranking::alike(families.iter().map(|told| finding(view, told)).chain(alone).collect());
    outcome
}

/// Programs whose processes, of which each has a few, show together that they become more.
fn families<'a>(view: &View<'a>, now: &Closed, before: &Closed, there: &Inodes) -> Vec<Told<'a>> {
    let kins = family::of_several(now.iter().map(|(pid, sockets)| {
        let few = view.named(*pid).filter(|_| sockets.len() < LEAK);
        let netns = view.process(*pid).and_then(|f| f.netns);
        ((), few.map(|p| (*pid, Kin::of(view, p, netns, None))))
    }));
    let mut by_kin: BTreeMap<Kin, Vec<(u32, &Sockets)>> = BTreeMap::new();
    for ((pid, sockets), kin) in now.iter().zip(kins) {
        if let Some(kin) = kin {
            by_kin.entry(kin).or_default().push((*pid, sockets));
        }
    }
    let mut was: FxHashMap<&str, Inodes> = FxHashMap::default();
    for (snapshot, process) in view.before.iter().flat_map(|b| b.owners.processes.iter().map(move |p| (b, p))) {
        if let Some(sockets) = before.get(&process.pid) {
            was.entry(snapshot.program(process)).or_default().extend(sockets.keys());
        }
    }
    let none = Inodes::default();
    let told = by_kin.into_iter().map(|(kin, held)| {
        let was = was.get(kin.program.as_str()).unwrap_or(&none);
        Told::new(view, &held, was, there)
    });
    told.filter(Told::grows).collect()
}

fn members<'a>(view: &View<'a>, held: impl IntoIterator<Item = (u32, usize)>) -> Members<'a> {
    let named = held.into_iter().filter_map(|(pid, n)| Some((view.named(pid)?, n)));
    Members::of(named.flat_map(|(process, n)| std::iter::repeat_n(process, n)))
}

/// What one scan, or two, say of a process, or of several of one program.
#[derive(Default)]
struct Told<'a> {
    members: Members<'a>,
    /// In both scans; with one scan, all.
    sockets: Sockets,
    moves: Option<Moves>,
    /// Of the new ones those that were connections in the sample before.
    died: u64,
}

impl<'a> Told<'a> {
    /// Of what some processes hold, with what they held in the scan before, and what anybody holds now.
    fn new(view: &View<'a>, held: &[(u32, &Sockets)], was: &Inodes, there: &Inodes) -> Told<'a> {
        let was_there = |inode: &Option<Inode>| was.contains(inode);
        let all = || held.iter().flat_map(|(_, sockets)| sockets.iter());
        let sockets: Sockets = all().filter(|(inode, _)| was_there(inode)).map(|(i, fd)| (*i, *fd)).collect();
        let came: Inodes = all().map(|(inode, _)| *inode).filter(|inode| !was_there(inode)).collect();
        let died = if came.is_empty() { 0 } else { connections_before(view, &came) };
        let moves = view.interval_ms().map(|over_ms| Moves {
            new: came.len() as u64,
            stayed: sockets.len() as u64,
            gone: was.difference(there).count() as u64,
            over_ms,
        });
        let stayed = held.iter().map(|(pid, all)| (*pid, all.keys().filter(|inode| was_there(inode)).count()));
        Told { members: members(view, stayed), sockets, moves, died }
    }

    /// All stay, and more come: refused connects that come and go are told from a leak by those that go. Every process may
    /// have some to spare.
    fn grows(&self) -> bool {
        let more = |m: Moves| m.new >= MORE as u64 || self.died > 0;
        let spare = (SPARE - 1) * self.members.len().saturating_sub(1);
        self.sockets.len() >= LEAK + spare && self.moves.is_some_and(|m| m.only_come() && more(m))
    }
}

/// How many of these inodes were connections in the sample before.
fn connections_before(view: &View<'_>, inodes: &Inodes) -> u64 {
    let rows = view.before.map_or(&[][..], |b| &b.sockets);
    rows.iter().filter(|s| s.state.has_peer() && s.inode.is_some() && inodes.contains(&s.inode)).count() as u64
}

fn processes(n: usize) -> String {
    text::count(n as u64, "process", "processes")
}

/// The candidates of a snapshot, each with the first process of a family that has it: a prefork master hands its unused
/// sockets to every worker. A process of a namespace that was not read has live sockets that no table shows.
fn closed(snapshot: &Snapshot) -> Option<Closed> {
    let mut all = Closed::new();
    let mut holders: BTreeMap<Option<Inode>, BTreeSet<u32>> = BTreeMap::new();
    for holder in snapshot.closed_tcp.as_ref()? {
        let pid = snapshot.owners.processes.get(holder.process as usize)?.pid;
        holders.entry(holder.inode).or_default().insert(pid);
    }
    for holder in snapshot.closed_tcp.as_ref()? {
        let pid = snapshot.owners.processes.get(holder.process as usize)?.pid;
        let parent = snapshot.processes.get(&pid).and_then(|f| f.parent);
        if parent.is_some_and(|parent| parent != pid && holders[&holder.inode].contains(&parent)) {
            continue;
        }
        let netns = snapshot.processes.get(&pid).and_then(|f| f.netns);
        if netns.is_some_and(|n| snapshot.netns(Some(n)).is_some()) {
            all.entry(pid).or_default().entry(holder.inode).or_insert(holder.fd);
        }
    }
    Some(all)
}

fn finding(view: &View<'_>, told: &Told<'_>) -> Finding {
    let n = told.sockets.len() as u64;
    let (lead, of_lead) = told.members.lead().map_or((None, 0), |(process, n)| (Some(process), n as u64));
    let alone = told.members.len() <= 1;
    let inspection = lead.filter(|_| alone).and_then(|p| view.process(p.pid)?.inspection.as_ref());
    let handlers = inspection.map(threads::handlers);
    // Each may be closed by the thread that serves it.
    let at_work = told.grows() && handlers.is_some_and(|threads| threads as u64 >= n);
    let grows = told.grows() && !at_work;
    let rate = told.moves.filter(|_| told.grows()).and_then(Moves::rate);
    // How fast the descriptors of one process go is not known from a rate of several.
    let per_second = rate.filter(|_| alone && grows).map(Rate::per_second);
    let mut share = lead.map_or_else(Share::default, |p| Share::new(view, p.pid, of_lead, per_second));
    // What comes within two seconds says nothing of what will have come in hours.
    share.emfile_in_ms = share.emfile_in_ms.filter(|ms| (*ms as f64) < view.thresholds.fd_eta_high_hours * 3_600_000.0);
    // One scan does not tell a dead connection from a socket that is about to be used.
    let severity = if told.moves.is_none() { Severity::Info } else { share.severity(grows, view.thresholds) };
    let old_kernel = !lists_bound(&view.now.kernel);
    let all_died = told.grows() && told.moves.is_some_and(|m| m.new == told.died);
    let (confidence, reason) = match told.moves {
        Some(_) if at_work => (0.6, "more came, and there is a thread at work for each: it may close its own"),
        None => (0.5, "one scan: a socket that was just created and is not connected yet looks the same"),
        Some(_) if all_died => (0.95, "all stay, and those that came were connections in the sample before"),
        Some(_) if old_kernel => {
            (0.6, "the same in two scans, but this kernel does not list sockets that are only bound")
        }
        Some(_) if grows => (0.85, "all that the first scan shows are in the second, and more came"),
        Some(_) => (0.7, "the same in two scans; sockets that were never connected look the same"),
    };
    let causes = Weighed::of(CAUSES, |cause| match cause.id {
        "handlers-at-work" if at_work => Weight::Possible(2.0),
        "handlers-at-work" if !told.grows() => Weight::Refuted("their number does not rise".into()),
        "handlers-at-work" if handlers.is_some() => Weight::Refuted("more descriptors than threads at work".into()),
        "handlers-at-work" => Weight::Possible(0.1),
        "dead-connection" if all_died && !at_work => Weight::Proven,
        "dead-connection" => Weight::Possible(if grows { 1.0 } else { 0.5 }),
        "never-connected" if all_died => Weight::Refuted("the sample before shows them as connections".into()),
        "never-connected" => Weight::Possible(0.5),
        _ if !old_kernel => Weight::Refuted("this kernel lists sockets that are only bound".into()),
        _ => Weight::Possible(0.3),
    });
    let who = told.members.name(view);
    let keep = if alone { "keeps" } else { "keep" };
    let what = if all_died {
        "TCP connections that have ended"
    } else if old_kernel {
        "TCP sockets that are in no table: dead, never connected, or only bound"
    } else {
        "TCP sockets that are in no table: dead, or never connected"
    };
    let more = rate.map_or_else(String::new, |rate| format!(", {rate} more"));
    let left = share.emfile_in_ms.map_or_else(String::new, |ms| {
        format!(", out of descriptors in {}", Measure::Estimate(ms).text(text::duration))
    });
    let part = if alone && n * 100 >= share.fd_soft.unwrap_or(u64::MAX) { share.words(n) } else { String::new() };
    let descriptors = text::count(n, "descriptor", "descriptors");
    let busy = if at_work { "; it has a thread at work for each, which may close it" } else { "" };
    let growth = told.moves.map_or(Evidence::Unknown, |m| Evidence::Text(format!("{:+}", m.net())));
    let subject = lead.map_or_else(Default::default, |p| {
        let pids = if alone { Vec::new() } else { told.members.pids() };
        Subject { pids, ..view.subject_of(p, view.process(p.pid).and_then(|f| f.netns)) }
    });
    let finding = RULE
        .finding(severity, confidence, format!("{who} {keep} {descriptors} of {what}{more}{part}{left}{busy}"))
        .because(reason)
        .causes(causes)
        .exhausted_in(share.emfile_in_ms.map(Measure::Estimate))
        .subject(subject)
        .evidence("closed_tcp", Evidence::Count(n))
        .evidence("growth", growth)
        .evidence("were_connections", Evidence::Count(told.died));
    // What its threads do decides whether they may close theirs.
    let finding = match lead {
        Some(p) if alone && told.grows() => finding.inspect(p.pid, &[]),
        _ => finding,
    };
    let finding = match handlers {
        Some(threads) => finding.evidence("threads_at_work", Evidence::Count(threads as u64)),
        None => finding,
    };
    let fds: BTreeSet<u32> = told.sockets.values().copied().collect();
    let only_accepts = lead.is_some_and(|p| only_accepts(view, p.pid));
    told.members
        .onto(view, share.onto(finding))
        .evidence("sample_fds", Evidence::List(fds.iter().take(5).map(ToString::to_string).collect()))
        .evidence("close_wait", Evidence::Count(close_wait(view, &told.members.pids())))
        .topic(if only_accepts { Topic::CloseWaitServer } else { Topic::CloseWait })
        .next("tcpstate doctor --interval 10s --rule closed-socket-fd-leak,fd-exhaustion")
}

/// Whether the process listens and has no connection of its own making.
fn only_accepts(view: &View<'_>, pid: u32) -> bool {
    let owners = &view.now.owners;
    let mut listens = false;
    for (socket, role) in view.rows() {
        let decides = matches!(role, Role::Client | Role::Listener(_));
        if decides && view.owners(socket).1.iter().any(|h| owners.process(h).pid == pid) {
            if role == Role::Client {
                return false;
            }
            listens = true;
        }
    }
    listens
}

/// CLOSE_WAIT of the same process: with keepalive they become this.
fn close_wait(view: &View<'_>, pids: &[u32]) -> u64 {
    let owners = &view.now.owners;
    let rows = view.active().filter(|s| s.state == State::CloseWait);
    rows.filter(|s| view.owners(s).1.iter().any(|h| pids.contains(&owners.process(h).pid))).count() as u64
}

/// Whether a kernel of this release lists sockets that are only bound; true when the release cannot be read.
fn lists_bound(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return true };
    (major, minor) >= LISTS_BOUND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::World;
    use crate::model::Holder;
    use crate::model::snapshot::{Inspection, ThreadState};

    /// `server` (812) has these inodes as descriptors that stand in no table.
    fn world(inodes: &[u64]) -> World {
        let mut world = World::new();
        for inode in inodes {
            world.hold(812, "server", u32::try_from(*inode).unwrap(), *inode);
        }
        world.now.closed_tcp = Some(world.now.owners.all_holders().to_vec());
        world
    }

    fn keep(world: &mut World, inodes: &[u64]) {
        let of = |h: &Holder| h.inode.is_some_and(|inode| inodes.contains(&inode.get()));
        world.now.closed_tcp = Some(world.now.owners.all_holders().iter().copied().filter(of).collect());
    }

    #[test]
    fn sockets_that_a_master_handed_to_its_workers_are_told_once() {
        let mut world = world(&[100, 101, 102]);
        for pid in 813..=820 {
            world.hold(pid, "server", 3, 100).hold(pid, "server", 4, 101).hold(pid, "server", 5, 102);
            world.now.processes.get_mut(&pid).unwrap().parent = Some(812);
        }
        world.now.closed_tcp = Some(world.now.owners.all_holders().to_vec());
        let outcome = world.later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(finding.subject.pids, Vec::<u32>::new());
    }

    #[test]
    fn what_stays_and_is_not_more_is_an_explanation_with_both_causes() {
        let inodes: Vec<u64> = (100..120).collect();
        let outcome = world(&inodes).later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!((finding.confidence - 0.7).abs() < 1e-9);
        assert_eq!(
            finding.summary,
            "server (812) keeps 20 descriptors of TCP sockets that are in no table: dead, or never connected, 2 % of \
             its 1,024 descriptors"
        );
        assert_eq!(finding.causes.left.len(), 2);
        assert!(finding.evidence.contains(&("growth", Evidence::Text("+0".into()))));
        assert_eq!(world(&[100, 101]).later(2000).check(check), Outcome::default(), "spare sockets");
    }

    /// The sockets of a first scan and of a second, 2 s later.
    fn two_scans(before: &[u64], now: &[u64]) -> World {
        let all: Vec<u64> = (100..300).collect();
        let mut world = world(&all);
        keep(&mut world, before);
        world.later(2000);
        keep(&mut world, now);
        world
    }

    #[test]
    fn all_that_stay_and_more_are_a_leak_and_those_that_come_and_go_are_none() {
        let range = |from: u64, to: u64| (from..to).collect::<Vec<u64>>();
        let severity =
            |before: &[u64], now: &[u64]| two_scans(before, now).check(check).findings.first().map(|f| f.severity);
        assert_eq!(severity(&range(100, 108), &range(100, 111)), Some(Severity::High), "EMFILE within the hour");
        assert_eq!(severity(&range(100, 108), &range(100, 110)), Some(Severity::Info), "two are chance");
        assert_eq!(severity(&range(100, 107), &range(100, 130)), Some(Severity::Info), "seven may be a start");
        // Refused connects, kept for a while, beside some that stay.
        assert_eq!(severity(&range(100, 115), &range(105, 122)), Some(Severity::Info));
        assert_eq!(severity(&range(100, 109), &[range(108, 120), vec![100]].concat()), None, "one stays");
    }

    #[test]
    fn what_many_workers_keep_is_summed_up_beyond_what_each_may_have_to_spare() {
        let beside = |each: u64, new: &[u64], of_one: u64| {
            let mut world = World::new();
            for n in 0..of_one {
                world.hold(900, "server", u32::try_from(10 + n).unwrap(), 900_000 + n);
            }
            for pid in 813..=820u32 {
                let inodes = (0..each).chain(new.iter().copied().filter(|n| *n == u64::from(pid)));
                for n in inodes {
                    world.hold(pid, "server", u32::try_from(10 + n % 800).unwrap(), u64::from(pid) * 1000 + n);
                }
                world.now.processes.get_mut(&pid).unwrap().parent = Some(812);
            }
            world.hold(812, "server", 3, 9);
            let is_new = |h: &Holder| h.inode.is_some_and(|i| i.get() % 1000 >= 800);
            let all: Vec<Holder> =
                world.now.owners.all_holders().iter().copied().filter(|h| h.inode != Inode::new(9)).collect();
            world.now.closed_tcp = Some(all.iter().copied().filter(|h| !is_new(h)).collect());
            world.later(2000).now.closed_tcp = Some(all);
            world.check(check).findings
        };
        let workers = |each, new: &[u64]| beside(each, new, 0);
        let found = workers(3, &[813, 814, 815]);
        let [finding] = &found[..] else { panic!("{found:#?}") };
        assert_eq!((finding.severity, finding.subject.pids.len()), (Severity::Warning, 8));
        assert_eq!(
            finding.summary,
            "8 processes of server (children of 812) keep 24 descriptors of TCP sockets that are in no table: dead, or never \
             connected, 1.5 a second more"
        );
        assert!(workers(2, &[813, 814, 815]).is_empty(), "each has two to spare");
        assert!(workers(3, &[813, 814]).iter().all(|f| f.severity == Severity::Info), "two are chance");
        let of_all = beside(3, &[813, 814, 815], 9);
        assert!(
            of_all.iter().any(|f| f.summary == finding.summary),
            "one with many of its own hides none: {of_all:#?}"
        );
    }

    #[test]
    fn those_that_were_connections_before_are_known_to_be_dead() {
        let before: Vec<u64> = (100..108).collect();
        let mut world = two_scans(&before, &(100..109).collect::<Vec<u64>>());
        let connection = crate::diagnose::testkit::row(State::Established, "10.0.0.1:80", "10.0.0.9:40000");
        world.before.as_mut().unwrap().sockets.push(crate::model::Socket { inode: Inode::new(108), ..connection });
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert!(finding.causes.is("dead-connection") && finding.severity > Severity::Info, "{finding:?}");
        assert!(finding.summary.contains("8 descriptors of TCP connections that have ended"), "{}", finding.summary);
    }

    #[test]
    fn handlers_that_are_at_work_may_close_theirs() {
        let found = |threads: usize, call: libc::c_long| {
            let mut world = two_scans(&(100..120).collect::<Vec<u64>>(), &(100..125).collect::<Vec<u64>>());
            let thread = ThreadState {
                tid: 812,
                name: "server".into(),
                state: Some('S'),
                wchan: None,
                syscall: u64::try_from(call).ok(),
                syscall_arg0: Some(4),
            };
            let inspection = Inspection { threads: vec![thread; threads], ..Inspection::default() };
            world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
            world.check(check).findings.remove(0)
        };
        let busy = found(25, libc::SYS_clock_nanosleep);
        assert_eq!((busy.severity, busy.exhausted_in_ms), (Severity::Info, None));
        assert_eq!(
            busy.summary,
            "server (812) keeps 20 descriptors of TCP sockets that are in no table: dead, or never connected, 2.5 a second \
             more, 2 % of its 1,024 descriptors; it has a thread at work for each, which may close it"
        );
        assert_eq!(busy.causes.left[0].cause.id, "handlers-at-work");
        assert!(found(19, libc::SYS_clock_nanosleep).severity > Severity::Info, "more descriptors than threads");
        assert!(found(25, libc::SYS_futex).severity > Severity::Info, "they wait for a lock");
    }

    #[test]
    fn two_scans_forecast_no_hours() {
        let mut world = two_scans(&(100..120).collect::<Vec<u64>>(), &(100..125).collect::<Vec<u64>>());
        let soon = world.check(check).findings.remove(0);
        assert!(soon.summary.contains("out of descriptors in about 6 min"), "{}", soon.summary);
        world.now.processes.get_mut(&812).unwrap().fd_soft = Some(20_000);
        let finding = world.check(check).findings.remove(0);
        assert_eq!((finding.severity, finding.exhausted_in_ms), (Severity::Warning, None));
        assert!(finding.summary.ends_with("2.5 a second more"), "{}", finding.summary);
    }

    #[test]
    fn one_scan_only_suspects() {
        let many: Vec<u64> = (100..111).collect();
        for outcome in [world(&many).check(check), world(&many).later(500).check(check)] {
            assert!(outcome.wants_second.is_some());
            assert_eq!((outcome.findings[0].severity, outcome.findings[0].confidence), (Severity::Info, 0.5));
        }
        let few = world(&[100, 101]).check(check);
        assert!(few.wants_second.is_some() && few.findings.is_empty(), "two may be about to connect");
    }

    #[test]
    fn what_was_used_or_closed_by_the_second_scan_is_silent() {
        let mut world = world(&[100, 101, 102, 103, 104, 105]);
        keep(&mut world, &[100, 101, 102]);
        world.later(2000);
        keep(&mut world, &[103, 104, 105]);
        assert_eq!(world.check(check), Outcome::default());
        keep(&mut world, &[]);
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn sockets_of_a_namespace_that_was_not_read_are_not_dead() {
        for netns in [None, crate::model::NetnsId::new(99)] {
            let mut world = world(&[100, 101, 102]);
            world.now.processes.get_mut(&812).unwrap().netns = netns;
            assert_eq!(world.later(2000).check(check), Outcome::default());
        }
    }

    #[test]
    fn an_incomplete_list_and_an_old_kernel_are_said() {
        let mut world = world(&[100, 101, 102]);
        world.now.kernel = "5.15.0-91-generic".into();
        let outcome = world.later(2000).check(check);
        assert!((outcome.findings[0].confidence - 0.6).abs() < 1e-9);
        assert!(outcome.findings[0].summary.contains("or only bound"), "{outcome:?}");
        world.now.netns[0].incomplete = true;
        assert!(world.check(check).not_checked.is_some());
        assert!(World::new().check(check).not_checked.is_some());
    }
}
