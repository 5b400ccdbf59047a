//! A process, or the whole host, is about to run out of file descriptors.
//!
//! Input: descriptors in use and their limits, of processes with sockets and of the host. Output: one finding per
//! process near its limit, one for the host. Not here: processes without a TCP socket, and those of a namespace that was
//! not read, unless they hold a socket of one that was.
//!
#![doc = include_str!("../../../docs/rules/fd-exhaustion.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::descriptors::{emfile_in_ms, of};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::measure::{Measure, Share};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::thresholds::Thresholds;
use crate::diagnose::view::View;
use crate::model::State;
use crate::model::resources::is_lowered;
use crate::text;

pub(super) const RULE: Rule =
    rule!("fd-exhaustion", CloseWait, OneOrTwo, "a process or the host runs out of descriptors", check, [TEXT, HOST])
        .title("few descriptors left")
        .identity(Identity::Program)
        .cause();

const FIX_LEAK: &str = "Fix the leak: see close-wait-leak and closed-socket-fd-leak for this process";
const CLOSE_IDLE: &str = "Close idle connections: server idle timeouts, pool limits; see idle-no-keepalive";
const NOT_TCP: &str = "Look at what is not TCP: `ls -l /proc/{pid}/fd`";
const RAISE: &str = "Raise the limit where the service is started (LimitNOFILE=) if the load is real";
const SOFT_LIMIT: &str = "Check that the program raises its soft limit to the hard one";

const TEXT: Text = Text {
    why: "Every connection needs a descriptor number below the soft limit; when none is free accept(), connect() and \
          open() fail with EMFILE. A server that cannot accept does not refuse: its clients pile up in the accept \
          queue.",
    remedy: &[FIX_LEAK, CLOSE_IDLE, NOT_TCP, RAISE, SOFT_LIMIT],
    avoid: &[
        "Don't only raise the limit while CLOSE_WAIT or closed TCP grows: the next restart is worse",
        "Don't set the limit to infinity: some programs close, or allocate for, every possible descriptor",
    ],
};

const HOST: Text = Text {
    why: "Open files of all processes together are limited by fs.file-max. Beyond it every process without \
          CAP_SYS_ADMIN gets ENFILE, whatever its own limit says.",
    remedy: &[
        "Find the process whose descriptors grow, and fix its leak",
        "Raise fs.file-max only for a load that is real",
    ],
    avoid: &["Don't raise fs.file-max while one process leaks: it takes what it is given"],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut near: BTreeMap<u32, Use> = BTreeMap::new();
    for (pid, facts) in &view.now.processes {
        let (Some(used), Some(soft)) = (facts.fd_used, facts.fd_soft) else { continue };
        if is_lowered(used, soft) {
            continue;
        }
        let before = view.before.and_then(|b| b.processes.get(pid)).and_then(|f| f.fd_used);
        let this = Use { used, limit: soft, hard: facts.fd_hard, growth: Growth::new(view, used, before) };
        if this.severity(view.thresholds).is_some() {
            near.insert(*pid, this);
        }
    }
    let mut findings = Vec::new();
    if !near.is_empty() {
        let kinds = kinds(view, &near);
        let seen = near.iter().filter(|(pid, _)| kinds.get(pid).is_some_and(|k| !k.elsewhere || k.any()));
        findings.extend(seen.filter_map(|(pid, this)| of_process(view, *pid, this, kinds.get(pid))));
    }
    let mut findings = ranking::alike(findings);
    findings.extend(of_host(view));
    Outcome::findings(findings)
}

/// Descriptors in use and the limit.
struct Use {
    used: u64,
    limit: u64,
    hard: Option<u64>,
    growth: Option<Growth>,
}

/// How use changed between the samples.
#[derive(Clone, Copy)]
struct Growth {
    by: i64,
    over_ms: u64,
}

impl Growth {
    fn new(view: &View<'_>, now: u64, before: Option<u64>) -> Option<Growth> {
        Some(Growth { by: now.cast_signed() - before?.cast_signed(), over_ms: view.interval_ms()? })
    }

    fn per_second(self) -> f64 {
        self.by as f64 * 1000.0 / self.over_ms as f64
    }
}

impl Use {
    fn percent(&self) -> f64 {
        // A limit of 0 lets no descriptor be opened at all.
        if self.limit == 0 { 100.0 } else { self.used as f64 * 100.0 / self.limit as f64 }
    }

    /// Time until the limit, if use grows.
    fn left_ms(&self) -> Option<u64> {
        let growth = self.growth.filter(|g| g.by > 0)?;
        emfile_in_ms(self.limit, self.used, growth.per_second())
    }

    fn grows(&self) -> bool {
        self.growth.is_some_and(|g| g.by > 0)
    }

    /// A program that has many descriptors in use and no more than before harms nobody: its limit may be made to measure.
    /// Growth counts only above the first step: below it a server that accepts a few clients looks the same.
    fn severity(&self, t: &Thresholds) -> Option<Severity> {
        let percent = self.percent();
        let soon = self.left_ms().is_some_and(|ms| (ms as f64) < t.fd_eta_high_hours * 3_600_000.0);
        if self.used >= self.limit {
            Some(Severity::Critical)
        } else if percent >= t.fd_exhaustion_crit_percent || (soon && percent >= t.fd_exhaustion_high_percent) {
            Some(Severity::High)
        } else if percent >= t.fd_exhaustion_high_percent || (self.grows() && percent >= t.fd_exhaustion_warn_percent) {
            Some(Severity::Warning)
        } else {
            (percent >= t.fd_exhaustion_warn_percent).then_some(Severity::Info)
        }
    }
}

/// What the descriptors of a process are.
#[derive(Default)]
struct Kinds {
    established: u64,
    close_wait: u64,
    listen: u64,
    other_tcp: u64,
    closed_tcp: Option<u64>,
    /// The process lives in a namespace whose table was not read: what it has there is not known.
    elsewhere: bool,
}

impl Kinds {
    fn any(&self) -> bool {
        self.established + self.close_wait + self.listen + self.other_tcp > 0
    }
}

/// One pass over the sockets, for the processes that are near their limit.
fn kinds(view: &View<'_>, near: &BTreeMap<u32, Use>) -> BTreeMap<u32, Kinds> {
    let owners = &view.now.owners;
    let fresh = |pid: &u32| {
        let netns = view.process(*pid).and_then(|f| f.netns);
        let elsewhere = netns.is_some_and(|n| view.now.netns(Some(n)).is_none());
        let closed_tcp = view.now.closed_tcp.as_ref().filter(|_| !elsewhere).map(|_| 0);
        (*pid, Kinds { closed_tcp, elsewhere, ..Kinds::default() })
    };
    let mut kinds: BTreeMap<u32, Kinds> = near.keys().map(fresh).collect();
    for socket in &view.now.sockets {
        for holder in view.owners(socket).1 {
            let Some(kinds) = kinds.get_mut(&owners.process(holder).pid) else { continue };
            match socket.state {
                State::Established => kinds.established += 1,
                State::CloseWait => kinds.close_wait += 1,
                State::Listen => kinds.listen += 1,
                _ => kinds.other_tcp += 1,
            }
        }
    }
    for holder in view.now.closed_tcp.iter().flatten() {
        let process = owners.processes.get(holder.process as usize);
        if let Some(n) = process.and_then(|p| kinds.get_mut(&p.pid)?.closed_tcp.as_mut()) {
            *n += 1;
        }
    }
    kinds
}

fn of_process(view: &View<'_>, pid: u32, this: &Use, kinds: Option<&Kinds>) -> Option<Finding> {
    let severity = this.severity(view.thresholds)?;
    let process = view.named(pid);
    let who = process.map_or_else(|| format!("pid {pid}"), |p| text::named(&p.comm, pid).to_string());
    let left_ms = this.left_ms().map(Measure::Estimate);
    let left = left_ms.map_or_else(String::new, |m| format!(", full in {} at this rate", m.text(text::duration)));
    let share = Share::of(this.used, this.limit).map_or_else(String::new, |share| format!(" ({share})"));
    let (used, limit) = (this.used, this.limit);
    let summary = if used >= limit {
        format!("{who} has no descriptor left: {} are in use, and accept(), connect() and open() fail", of(used, limit))
    } else {
        format!("{who} has {} descriptors in use{share}{left}", of(used, limit))
    };
    let mut finding = RULE
        .finding(severity, 0.97, summary)
        .because("the kernel's own count against the kernel's own limit")
        .exhausted_in(if used >= limit { Some(Measure::Exact(0)) } else { left_ms })
        .about(view.now.sockets.iter().filter(|s| view.holding(s).any(|p| p.pid == pid)))
        .subject(process.map_or_else(
            || Subject { pid: Some(pid), ..Subject::default() },
            |p| view.subject_of(p, view.process(pid).and_then(|f| f.netns)),
        ))
        .evidence("fd_used", Evidence::Count(used))
        .evidence("fd_soft_limit", Evidence::Count(limit))
        .evidence("fd_hard_limit", Evidence::count(this.hard))
        .evidence("used_percent", Evidence::Percent(this.percent()));
    if let Some(growth) = this.growth {
        finding = finding
            .evidence("growth", Evidence::Text(format!("{:+}", growth.by)))
            .evidence("growth_over_ms", Evidence::Millis(growth.over_ms));
    }
    if let Some(ms) = this.left_ms() {
        finding = finding.evidence("emfile_in_ms", Evidence::Millis(ms));
    }
    let mut steps = Vec::new();
    if let Some(kinds) = kinds {
        let known =
            kinds.established + kinds.close_wait + kinds.listen + kinds.other_tcp + kinds.closed_tcp.unwrap_or(0);
        finding = finding
            .evidence("established", Evidence::Count(kinds.established))
            .evidence("close_wait", Evidence::Count(kinds.close_wait))
            .evidence("closed_tcp", Evidence::count(kinds.closed_tcp))
            .evidence("listen", Evidence::Count(kinds.listen))
            .evidence("other_tcp", Evidence::Count(kinds.other_tcp))
            .evidence("other", Evidence::Count(used.saturating_sub(known)));
        let dead = kinds.close_wait + kinds.closed_tcp.unwrap_or(0);
        let other = used.saturating_sub(known);
        steps.extend(if dead * 4 >= used {
            Some(FIX_LEAK)
        } else if kinds.established * 2 >= used {
            Some(CLOSE_IDLE)
        } else if other * 2 >= used {
            Some(NOT_TCP)
        } else {
            None
        });
    }
    steps.extend([RAISE, SOFT_LIMIT]);
    Some(finding.steps(steps).fill("pid", pid).next(format!("tcpstate list --pid {pid} -p")))
}

/// The host as a whole: `fs.file-nr` against `fs.file-max`, beyond which every process gets ENFILE.
fn of_host(view: &View<'_>) -> Option<Finding> {
    let system = &view.now.system;
    let (used, limit) = (system.files_used?, system.files_max?);
    let before = view.before.and_then(|b| b.system.files_used);
    let this = Use { used, limit, hard: None, growth: Growth::new(view, used, before) };
    let severity = this.severity(view.thresholds)?;
    let share = Share::of(used, limit).map_or_else(String::new, |share| format!(" ({share})"));
    // The biggest users among the processes that are known.
    let mut users: Vec<(u64, u32)> = view.now.processes.values().filter_map(|f| Some((f.fd_used?, f.pid))).collect();
    users.sort_unstable_by(|a, b| b.cmp(a));
    let name = |pid: u32| {
        let process = view.named(pid);
        process.map_or_else(|| format!("pid {pid}"), |p| text::named(&p.comm, pid).to_string())
    };
    let top = users.iter().take(3).map(|(n, pid)| format!("{} {n}", name(*pid))).collect();
    let mut finding = RULE
        .finding(severity, 0.97, format!("the host has {} open files in use{share}", of(used, limit)))
        .because("the kernel's own count against the kernel's own limit")
        .text(&HOST)
        .subject(Subject { object: Some("fs.file-max".into()), ..Subject::default() })
        .evidence("files_used", Evidence::Count(used))
        .evidence("files_max", Evidence::Count(limit))
        .evidence("used_percent", Evidence::Percent(this.percent()))
        .evidence("top_processes", Evidence::List(top));
    if let Some(growth) = this.growth {
        finding = finding.evidence("growth", Evidence::Text(format!("{:+}", growth.by)));
    }
    Some(finding.next("tcpstate doctor --interval 10s --rule fd-exhaustion,close-wait-leak,closed-socket-fd-leak"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row};
    use crate::model::Holder;

    /// `server` (812) with so many of 1000 descriptors in use, among them three sockets.
    fn world(used: u64) -> World {
        let mut world = World::new();
        for (n, state) in [State::Established, State::CloseWait, State::CloseWait].into_iter().enumerate() {
            let socket = row(state, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n));
            let inode = socket.inode;
            world.add(socket).hold(812, "server", 5 + u32::try_from(n).unwrap(), inode);
        }
        let facts = world.now.processes.get_mut(&812).unwrap();
        (facts.fd_used, facts.fd_soft, facts.fd_hard) = (Some(used), Some(1000), Some(4096));
        world
    }

    fn severity(world: &World) -> Option<Severity> {
        world.check(check).findings.first().map(|f| f.severity)
    }

    #[test]
    fn severity_follows_the_share_in_use() {
        for (used, expected) in [
            (799, None),
            (800, Some(Severity::Info)),
            (899, Some(Severity::Info)),
            (900, Some(Severity::Warning)),
            (979, Some(Severity::Warning)),
            (980, Some(Severity::High)),
            (999, Some(Severity::High)),
            (1000, Some(Severity::Critical)),
            (1062, Some(Severity::Critical)),
            (1063, None),
        ] {
            assert_eq!(severity(&world(used)), expected, "{used} of 1000");
        }
        assert!(world(1000).check(check).findings[0].summary.contains("no descriptor left: all 1,000"));
    }

    /// sshd at its login prompt: seven descriptors, and a limit of 1 that its sandbox has set since.
    #[test]
    fn a_limit_lowered_below_what_is_open_is_deliberate() {
        let mut world = world(7);
        for (soft, hard) in [(1, 1), (0, 0), (6, 4096)] {
            let facts = world.now.processes.get_mut(&812).unwrap();
            (facts.fd_soft, facts.fd_hard) = (Some(soft), Some(hard));
            assert_eq!(world.check(check), Outcome::default(), "7 of {soft}");
        }
        world.now.processes.get_mut(&812).unwrap().fd_soft = Some(7);
        assert_eq!(severity(&world), Some(Severity::Critical), "7 of 7");
    }

    #[test]
    fn growth_matters_only_near_the_limit() {
        let grown = |from: u64, to: u64| {
            let mut world = world(from);
            world.later(2000).now.processes.get_mut(&812).unwrap().fd_used = Some(to);
            world
        };
        assert_eq!(severity(&grown(100, 140)), None, "a server that accepts clients");
        let outcome = grown(800, 820).check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        assert_eq!(severity(&grown(899, 901)), Some(Severity::High), "full within the hour");
        // 180 left at 10 a second.
        assert!(outcome.findings[0].evidence.contains(&("emfile_in_ms", Evidence::Millis(18_000))), "{outcome:?}");
        assert_eq!(severity(&grown(820, 810)), Some(Severity::Info), "it shrinks");
    }

    #[test]
    fn the_breakdown_says_what_the_descriptors_are() {
        let mut world = world(8);
        world.now.processes.get_mut(&812).unwrap().fd_soft = Some(8);
        world.hold(812, "server", 9, 77);
        world.now.closed_tcp = Some(vec![Holder { inode: crate::model::Inode::new(77), process: 0, fd: 9 }]);
        let outcome = world.check(check);
        let evidence = &outcome.findings[0].evidence;
        for (name, n) in [("established", 1), ("close_wait", 2), ("closed_tcp", 1), ("listen", 0), ("other", 4)] {
            assert!(evidence.contains(&(name, Evidence::Count(n))), "{name}: {evidence:?}");
        }
        assert!(outcome.findings[0].remedy[0].contains("close-wait-leak"));
    }

    #[test]
    fn a_process_of_a_namespace_that_was_not_read_is_that_ones_business() {
        let mut world = world(8);
        let facts = world.now.processes.get_mut(&812).unwrap();
        (facts.fd_soft, facts.netns) = (Some(8), crate::model::NetnsId::new(99));
        // It has come here for the sockets that are listed; what else it holds is not known.
        let evidence = &world.check(check).findings[0].evidence;
        assert!(evidence.contains(&("closed_tcp", Evidence::Unknown)), "{evidence:?}");
        world.now.sockets.clear();
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn what_is_not_known_or_not_limited_is_silent() {
        let mut world = world(950);
        world.now.processes.get_mut(&812).unwrap().fd_soft = None;
        assert_eq!(severity(&world), None);
        let facts = world.now.processes.get_mut(&812).unwrap();
        (facts.fd_soft, facts.fd_used) = (Some(1000), None);
        assert_eq!(severity(&world), None);
    }

    /// The host's limit cannot be reached on a machine that others use too: only here, by hand.
    #[test]
    fn the_host_has_a_limit_of_its_own() {
        let mut world = world(10);
        (world.now.system.files_used, world.now.system.files_max) = (Some(9500), Some(10_000));
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        assert_eq!(outcome.findings[0].summary, "the host has 9,500 of 10,000 open files in use (95 %)");
        assert_eq!(outcome.findings[0].subject.object.as_deref(), Some("fs.file-max"));
        world.now.system.files_max = Some(u64::MAX >> 1);
        assert_eq!(world.check(check), Outcome::default());
    }
}
