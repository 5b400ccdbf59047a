//! A connection stays open because a child or helper process inherited its descriptor and still holds it.
//!
//! Input: connections and all their holders. Output: one finding per owner and program that merely inherited some. Never
//! here: which holder is the owner; [`crate::diagnose::fd_inheritance`] knows.
//!
#![doc = include_str!("../../../docs/rules/close-wait-inherited-fd.md")]

use std::collections::BTreeMap;

use crate::aggregate::Role;
use crate::diagnose::close_wait::{self, FORGOTTEN_AFTER_MS, LEAK_ROWS, Moves, Row, counted};
use crate::diagnose::departed::{Departed, departed};
use crate::diagnose::descriptors::Share;
use crate::diagnose::fd_inheritance::{FdInheritance, Inherited};
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic, most_frequent};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::{Outcome, arrivals};
use crate::model::{Process, RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("close-wait-inherited-fd", CloseWait, OneOrTwo, "a child process keeps the connection open", check, [TEXT])
        .states(&[State::CloseWait])
        .topic(Topic::CloseWait)
        .title("inherited connections")
        .identity(Identity::Program);

const TEXT: Text = Text {
    why: "A connection is closed when its last descriptor is closed: while a child still has a copy, close() in the \
          server sends no FIN. The peer waits, and when it closes in its turn our side stays in CLOSE_WAIT.",
    remedy: &[
        "Open the sockets of {owner} with close-on-exec: SOCK_CLOEXEC for socket() and accept4()",
        "Close what a started program does not need: close_fds, file actions of posix_spawn(), close_range()",
        "Call shutdown() before close() where a connection must end although a child may have it",
        "End {helper} to buy time",
    ],
    avoid: &[
        "Don't blame the close logic of {owner}, and don't restart it first: the holder survives it",
        "Don't look for a sysctl: none exists",
        "Don't destroy the socket with `ss -K`: the helper keeps the dead descriptor",
    ],
};

/// A tool that cannot use what it inherited, and a connection that rests, are settled after this time (policy).
const SETTLED_MS: u64 = 5000;
/// So many open connections of which no end is told are no accident (policy).
const SEVERAL_OPEN: usize = 3;

/// What a helper holds.
#[derive(Default)]
struct Held<'a> {
    /// CLOSE_WAIT that the owner has closed: only the helper keeps it.
    alone: Vec<&'a Socket>,
    /// ESTABLISHED that the owner has closed: the peer does not even know.
    open: Vec<&'a Socket>,
    /// The owner has it too: its close() will have no effect.
    shared: Vec<&'a Socket>,
    owners: Vec<u32>,
    /// The helpers, and how many sockets each holds.
    helpers: BTreeMap<u32, usize>,
    /// CLOSE_WAIT that the owner has closed, less than a minute old, and who holds it.
    young: Vec<(Row<'a>, Inherited)>,
    /// Set when those in CLOSE_WAIT only come.
    growth: Option<Moves>,
}

impl<'a> Held<'a> {
    fn add(&mut self, socket: &'a Socket, inherited: Inherited) {
        *self.helpers.entry(inherited.helper).or_default() += 1;
        match (inherited.alone, socket.state) {
            (false, _) => self.shared.push(socket),
            (true, State::CloseWait) => self.alone.push(socket),
            (true, _) => self.open.push(socket),
        }
        self.owners.push(inherited.owner);
    }

    /// Adds the young ones when they and the others only come, as `close-wait-leak` judges those of one process.
    fn add_young(&mut self, view: &View<'a>, departed: &[Departed<'_>]) {
        let old = self.alone.iter().filter_map(|s| close_wait::row(view, s, view.role(s)));
        let rows: Vec<Row<'_>> = old.chain(self.young.iter().map(|(row, _)| *row)).collect();
        let Some(over_ms) = view.interval_ms().filter(|_| rows.len() >= LEAK_ROWS) else { return };
        let helper = self.young.first().and_then(|(_, inherited)| view.named(inherited.helper));
        let Some(program) = helper.map(|p| view.now.program(p)) else { return };
        let gone = departed.iter().filter(|d| d.ran(program)).count() as u64;
        let count = |of: fn(&Row<'_>) -> bool| rows.iter().filter(|r| of(r)).count() as u64;
        let (new, stayed) = (count(|r| r.is_new), count(|r| r.has_stayed));
        let moves = Moves { new, stayed, gone, over_ms };
        let ages: Vec<u64> = rows.iter().map(|r| r.age.min_ms).collect();
        if moves.only_come() && moves.stayed > 0 && arrivals::keep_coming(&ages, over_ms) {
            self.growth = Some(moves);
            for (row, inherited) in std::mem::take(&mut self.young) {
                self.add(row.socket, inherited);
            }
        }
    }
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let holding = FdInheritance::new(view);
    // A program that an owner starts for each request inherits one socket at a time: they are one finding.
    let mut helpers: BTreeMap<(u32, &str), Held<'_>> = BTreeMap::new();
    for (socket, role) in view.rows() {
        if socket.inode.is_none()
            || socket.kind != RowKind::Full
            || !matches!(socket.state, State::CloseWait | State::Established)
        {
            continue;
        }
        let Some(inherited) = holding.inherited(socket, role) else { continue };
        let mut young = None;
        match judge(view, &holding, socket, inherited) {
            Verdict::No => {
                young = close_wait::row(view, socket, role).filter(|row| inherited.alone && row.class.is_plain());
                if young.is_none() {
                    continue;
                }
            }
            Verdict::Look(pids) => {
                outcome.asked.pids.extend(pids);
                continue;
            }
            Verdict::Yes => {}
        }
        let comm = view.named(inherited.helper).map_or("", |p| p.comm.as_str());
        let held = helpers.entry((inherited.owner, comm)).or_default();
        match young {
            Some(row) => held.young.push((row, inherited)),
            None => held.add(socket, inherited),
        }
    }
    let departed = departed(view, close_wait::is_held);
    for held in helpers.values_mut() {
        held.add_young(view, &departed);
    }
    helpers.retain(|_, held| !held.helpers.is_empty());
    let findings = helpers.into_values().map(|held| finding(view, &holding, held));
    outcome.findings = ranking::alike(findings.collect());
    outcome.asked.tidy();
    outcome
}

enum Verdict {
    Yes,
    No,
    /// Only what these do can tell.
    Look(Vec<u32>),
}

/// A CLOSE_WAIT row of which the owner let go speaks for itself after a minute, and sooner if only tools hold it. Every other
/// connection may be the helper's work: it counts only if the helper lasts and was seen to do nothing with it.
fn judge(view: &View<'_>, holding: &FdInheritance<'_, '_>, socket: &Socket, who: Inherited) -> Verdict {
    let strangers: Vec<&Process> = holding.strangers(socket, who.owner).collect();
    let cannot = who.alone && strangers.iter().all(|p| holding.is_bystander(p));
    let after_ms = if cannot { SETTLED_MS } else { FORGOTTEN_AFTER_MS };
    let running_ms = |p: &&Process| view.process(p.pid).and_then(|f| f.running_ms);
    let lasts = strangers.iter().all(|p| running_ms(p).is_some_and(|ms| ms >= after_ms));
    if socket.state == State::CloseWait {
        let settled = cannot && lasts && socket.state_age().is_some_and(|age| age.min_ms >= after_ms);
        let certain = settled || counted(view, socket).is_some_and(|c| c.certain);
        return if certain { Verdict::Yes } else { Verdict::No };
    }
    let idle_ms = socket.info.as_deref().and_then(|i| Some(i.last_data_sent_ms()?.min(i.last_data_recv_ms()?)));
    let idle = idle_ms.is_some_and(|ms| u64::from(ms) >= after_ms);
    if !lasts || (who.alone && !idle) {
        return Verdict::No;
    }
    let is_unseen = |p: &&Process| view.process(p.pid).is_some_and(|f| f.inspection.is_none());
    let unseen: Vec<u32> = strangers.iter().copied().filter(is_unseen).map(|p| p.pid).collect();
    let unused = strangers.iter().all(|p| holding.uses(p.pid, socket) == Some(false));
    match () {
        () if unused => Verdict::Yes,
        () if unseen.is_empty() => Verdict::No,
        () => Verdict::Look(unseen),
    }
}

fn finding(view: &View<'_>, holding: &FdInheritance<'_, '_>, mut held: Held<'_>) -> Finding {
    // The one that holds most, and of equals the first.
    let helper = held.helpers.iter().rev().max_by_key(|(_, n)| **n).map_or(0, |(pid, _)| *pid);
    let of_helper = held.helpers.get(&helper).copied().unwrap_or(0) as u64;
    held.owners.sort_unstable();
    held.owners.dedup();
    let kept = held.alone.len() + held.open.len();
    let all: Vec<&Socket> = held.alone.iter().chain(&held.open).chain(&held.shared).copied().collect();
    let name = |pid: u32| {
        let process = view.named(pid);
        process.map_or_else(|| format!("pid {pid}"), |p| text::named(&p.comm, pid).to_string())
    };
    let owner = held.owners.first().map_or_else(|| "its owner".into(), |pid| name(*pid));
    let several = held.helpers.len() > 1;
    let who = match held.helpers.len() {
        0 | 1 => name(helper),
        n => format!("{} and {} more", name(helper), n - 1),
    };
    let keep = if several { "keep" } else { "keeps" };
    let (summary, severity, share) = if kept > 0 {
        let share = Share::new(view, helper, of_helper, None);
        let came = held.alone.iter().chain(&held.open).any(|s| view.earlier(s).is_none());
        let grew = held.growth.is_some() || (view.before.is_some() && came);
        let more = held.growth.and_then(Moves::rate).map_or_else(String::new, |rate| format!(", {rate} more"));
        let n = text::count(kept as u64, "connection", "connections");
        let untold = match held.open.len() {
            0 => String::new(),
            all if all == kept => "; no FIN was sent".to_owned(),
            some => format!("; no FIN was sent on {}", text::grouped(some as u64)),
        };
        let least = if held.open.len() >= SEVERAL_OPEN { Severity::Warning } else { Severity::Info };
        (
            format!(
                "{who} merely inherited {n} of {owner} and {keep} {} open though {owner} has closed {0}{more}{untold}",
                them(kept)
            ),
            share.severity(grew, view.thresholds).max(least),
            share,
        )
    } else {
        let n = text::count(held.shared.len() as u64, "connection", "connections");
        (
            format!(
                "{who} merely inherited {n} that {owner} still uses: close() in {owner} will not end {}",
                them(held.shared.len())
            ),
            Severity::Info,
            Share::new(view, helper, of_helper, None),
        )
    };
    let seen = all.iter().any(|s| holding.uses(helper, s) == Some(false));
    let (confidence, reason) = if seen {
        (0.8, "another program than the owner's, which was seen to do nothing with them")
    } else {
        (0.6, "another program than the owner's; whether it serves them could not be seen")
    };
    let mut subject = view.named(helper).map_or_else(Default::default, |p| view.subject_of(p, all[0].netns));
    subject.pids = held.owners.iter().chain(held.helpers.keys()).copied().collect();
    subject.pids.sort_unstable();
    let oldest = held.alone.iter().filter_map(|s| Some(s.state_age()?.min_ms)).max();
    let mut finding = RULE
        .finding(severity, confidence, summary)
        .because(reason)
        .about(all.iter().copied())
        .evidence("close_wait", Evidence::Count(held.alone.len() as u64))
        .evidence("established", Evidence::Count(held.open.len() as u64))
        .evidence("shared_with_owner", Evidence::Count(held.shared.len() as u64))
        .evidence("holders", Evidence::List(holders(view, &all)))
        .evidence("owners", Evidence::List(held.owners.iter().map(|pid| name(*pid)).collect()));
    if let Some(oldest) = oldest {
        finding = finding.evidence("oldest_age_ms", Evidence::Millis(oldest));
    }
    subject.listener = listener(view, all[0]);
    finding = share.onto(finding.subject(subject)).evidence(
        "remotes",
        Evidence::List(most_frequent(all.iter().map(|s| s.peer.addr.to_canonical().to_string()), 3)),
    );
    finding
        .inspect(helper, &all)
        .fill("owner", &owner)
        .fill("helper", &who)
        .next(format!("tcpstate list --pid {helper} -p -e"))
}

fn them(n: usize) -> &'static str {
    if n == 1 { "it" } else { "them" }
}

fn listener(view: &View<'_>, socket: &Socket) -> Option<crate::model::Endpoint> {
    let Role::Server(at) = view.role(socket) else { return None };
    Some(view.listeners(socket.netns).get(at).local)
}

/// Every holder with its descriptors, a few of them: `sleep(812) fd 7 8 9`.
fn holders(view: &View<'_>, sockets: &[&Socket]) -> Vec<String> {
    let owners = &view.now.owners;
    let mut fds: BTreeMap<(u32, &str), Vec<u32>> = BTreeMap::new();
    for holder in sockets.iter().flat_map(|s| view.owners(s).1) {
        let process = owners.process(holder);
        fds.entry((process.pid, &process.comm)).or_default().push(holder.fd);
    }
    let line = |((pid, comm), fds): (&(u32, &str), &Vec<u32>)| {
        let few: Vec<String> = fds.iter().take(5).map(ToString::to_string).collect();
        format!("{comm}({pid}) fd {}{}", few.join(" "), if fds.len() > 5 { " ..." } else { "" })
    };
    fds.iter().take(8).map(line).collect()
}

#[cfg(test)]
mod tests;
