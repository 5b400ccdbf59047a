//! A process keeps descriptors of TCP connections that no longer exist; no socket tool lists them.
//!
//! Comes in: descriptors that are TCP sockets and stand in no table, of two scans. Goes out: one finding per process.
//! Never here: telling a dead connection from a socket that was never connected; from outside they are the same.
//!
#![doc = include_str!("../../../docs/rules/closed-socket-fd-leak.md")]

use std::collections::{BTreeMap, BTreeSet};

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::descriptors::Share;
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::model::{Inode, Snapshot};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "closed-socket-fd-leak",
    CloseWait,
    OneOrTwo,
    "descriptors of connections that no longer exist",
    check,
    [TEXT]
)
.topic(Topic::CloseWait);

const TEXT: Text = Text {
    why: "After a RST, a timeout or an abort the kernel takes the connection out of its tables at once; the \
          descriptor stays until the program closes it. No socket tool lists such a descriptor, so a leak of them \
          goes unseen until EMFILE.",
    remedy: &[
        "Close the descriptor on every error path: ECONNRESET, EPIPE, ETIMEDOUT, and a read of 0 bytes",
        "Look for code that drops a connection from its own table without closing it",
        "In languages with a garbage collector, close explicitly and not in a finaliser",
        "Restart the process for relief",
    ],
    avoid: &[
        "Don't look for them with ss or netstat: they are not there",
        "Don't switch keepalive on against CLOSE_WAIT: it turns that leak into this one",
        "Don't only raise the limit of open files: the leak fills the next one too",
    ],
};

/// Two scans are meant to be 2 s apart; how long each takes makes that a little less.
const APART_MS: u64 = 1500;
/// Kernels that list sockets which are only bound (`TCPF_BOUND_INACTIVE`, Linux 6.8).
const LISTS_BOUND: (u32, u32) = (6, 8);

/// Inode to descriptor, by process.
type Closed = BTreeMap<u32, BTreeMap<Option<Inode>, u32>>;

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
    let findings = now.iter().filter_map(|(pid, sockets)| {
        let Some(before) = &before else {
            // A few may be on their way to a connection; many are worth a word, with its doubt.
            let percent = Share::new(view, *pid, sockets.len() as u64, None).percent?;
            return (percent >= view.thresholds.fd_warn_percent).then(|| finding(view, *pid, sockets, None));
        };
        let earlier = before.get(pid)?;
        let stable: BTreeMap<Option<Inode>, u32> =
            sockets.iter().filter(|(inode, _)| earlier.contains_key(inode)).map(|(i, fd)| (*i, *fd)).collect();
        if stable.is_empty() {
            return None;
        }
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Some(finding(view, *pid, &stable, Some(signed(sockets.len()) - signed(earlier.len()))))
    });
    outcome.findings = ranking::worst(findings.collect());
    outcome
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

/// A finding of the sockets that were closed in both scans, with their growth, or of those of the only scan.
fn finding(view: &View<'_>, pid: u32, sockets: &BTreeMap<Option<Inode>, u32>, growth: Option<i64>) -> Finding {
    let n = sockets.len() as u64;
    let grows = growth.is_some_and(|g| g > 0);
    let share = Share::new(view, pid, n, None);
    let thresholds = view.thresholds;
    let used = share.fd_used.zip(share.fd_soft).map(|(used, soft)| used as f64 * 100.0 / soft.max(1) as f64);
    let matters = grows || share.percent.is_some_and(|p| p >= thresholds.fd_warn_percent);
    // One scan does not tell a dead connection from a socket that is about to be used.
    let severity = match used {
        _ if growth.is_none() || !matters => Severity::Info,
        Some(used) if used >= thresholds.fd_exhaustion_crit_percent => Severity::Critical,
        Some(used) if used >= thresholds.fd_exhaustion_high_percent => Severity::High,
        _ => Severity::Warning,
    };
    let (confidence, reason) = match growth {
        None => (0.5, "one scan: a socket that was just created and is not connected yet looks the same"),
        Some(_) if !lists_bound(&view.now.kernel) => {
            (0.7, "the same in two scans, but this kernel does not list sockets that are only bound")
        }
        Some(_) => {
            (0.9, "the same descriptors in two scans, in no table of any state; never connected would look the same")
        }
    };
    let process = view.now.owners.processes.iter().find(|p| p.pid == pid);
    let who = process.map_or_else(|| format!("pid {pid}"), |p| text::named(&p.comm, pid).to_string());
    let descriptors = text::count(
        n,
        "descriptor of a TCP connection that no longer exists",
        "descriptors of TCP \
                                   connections that no longer exist",
    );
    let netns = view.process(pid).and_then(|f| f.netns);
    let finding = RULE
        .finding(severity, confidence, format!("{who} keeps {descriptors}{}", share.words(n)))
        .because(reason)
        .subject(process.map_or_else(Default::default, |p| view.subject_of(p, netns)))
        .evidence("closed_tcp", Evidence::Count(n))
        .evidence("growth", growth.map_or(Evidence::Unknown, |g| Evidence::Text(format!("{g:+}"))));
    let fds: BTreeSet<u32> = sockets.values().copied().collect();
    share
        .onto(finding)
        .evidence("sample_fds", Evidence::List(fds.iter().take(5).map(ToString::to_string).collect()))
        .evidence("close_wait", Evidence::Count(close_wait(view, pid)))
        .topic(if only_accepts(view, pid) { Topic::CloseWaitServer } else { Topic::CloseWait })
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
fn close_wait(view: &View<'_>, pid: u32) -> u64 {
    let owners = &view.now.owners;
    let rows = view.active().filter(|s| s.state == State::CloseWait);
    rows.filter(|s| view.owners(s).1.iter().any(|h| owners.process(h).pid == pid)).count() as u64
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
    fn a_socket_that_a_master_handed_to_its_workers_is_told_once() {
        let mut world = world(&[100]);
        for pid in 813..=820 {
            world.hold(pid, "server", 3, 100);
            world.now.processes.get_mut(&pid).unwrap().parent = Some(812);
        }
        world.now.closed_tcp = Some(world.now.owners.all_holders().to_vec());
        let outcome = world.later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(finding.subject.pids, Vec::<u32>::new());
    }

    #[test]
    fn what_two_scans_show_alike_is_a_leak() {
        let inodes: Vec<u64> = (100..120).collect();
        let outcome = world(&inodes).later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert!((finding.confidence - 0.9).abs() < 1e-9);
        assert_eq!(
            finding.summary,
            "server (812) keeps 20 descriptors of TCP connections that no longer exist, 2.0 % of its 1024 descriptors"
        );
        assert!(finding.evidence.contains(&("growth", Evidence::Text("+0".into()))));
        assert_eq!(outcome.wants_second, None);
    }

    #[test]
    fn severity_follows_growth_and_the_descriptors_in_use() {
        let severity = |used: u64, before: &[u64]| {
            let mut world = world(&(100..120).collect::<Vec<u64>>());
            world.now.processes.get_mut(&812).unwrap().fd_used = Some(used);
            let all: Vec<u64> = (100..120).collect();
            keep(&mut world, before);
            world.later(2000);
            keep(&mut world, &all);
            world.check(check).findings[0].severity
        };
        let all: Vec<u64> = (100..120).collect();
        assert_eq!(severity(900, &all), Severity::Warning);
        assert_eq!(severity(922, &all), Severity::High);
        assert_eq!(severity(1004, &all), Severity::Critical);
        let mut few = world(&[100, 101]);
        assert_eq!(few.later(2000).check(check).findings[0].severity, Severity::Info);
        let mut growing = world(&[100, 101]);
        keep(&mut growing, &[100]);
        growing.later(2000);
        keep(&mut growing, &[100, 101]);
        assert_eq!(growing.check(check).findings[0].severity, Severity::Warning);
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
        let mut world = world(&[100, 101]);
        keep(&mut world, &[100]);
        world.later(2000);
        keep(&mut world, &[101]);
        assert_eq!(world.check(check), Outcome::default());
        keep(&mut world, &[]);
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn sockets_of_a_namespace_that_was_not_read_are_not_dead() {
        for netns in [None, crate::model::NetnsId::new(99)] {
            let mut world = world(&[100]);
            world.now.processes.get_mut(&812).unwrap().netns = netns;
            assert_eq!(world.later(2000).check(check), Outcome::default());
        }
    }

    #[test]
    fn an_incomplete_list_and_an_old_kernel_are_said() {
        let mut world = world(&[100]);
        world.now.kernel = "5.15.0-91-generic".into();
        assert!((world.later(2000).check(check).findings[0].confidence - 0.7).abs() < 1e-9);
        world.now.netns[0].incomplete = true;
        assert!(world.check(check).not_checked.is_some());
        assert!(World::new().check(check).not_checked.is_some());
    }
}
