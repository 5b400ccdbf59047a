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
use crate::model::{RowKind, Socket, State};
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
            Verdict::Look => {
                outcome.asked.pids.push(inherited.helper);
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
    /// Only what the helper does can tell.
    Look,
}

/// A CLOSE_WAIT row of which the owner let go speaks for itself after a minute. Every other connection may be the
/// helper's work: it counts only if the helper lasts and was seen to do nothing with it.
fn judge(view: &View<'_>, holding: &FdInheritance<'_, '_>, socket: &Socket, who: Inherited) -> Verdict {
    if socket.state == State::CloseWait {
        return if counted(view, socket).is_some_and(|c| c.certain) { Verdict::Yes } else { Verdict::No };
    }
    let lasts = view.process(who.helper).and_then(|f| f.running_ms).is_some_and(|ms| ms >= FORGOTTEN_AFTER_MS);
    let idle_ms = socket.info.as_deref().and_then(|i| Some(i.last_data_sent_ms()?.min(i.last_data_recv_ms()?)));
    let idle = idle_ms.is_some_and(|ms| u64::from(ms) >= FORGOTTEN_AFTER_MS);
    if !lasts || (who.alone && !idle) {
        return Verdict::No;
    }
    match holding.uses(who.helper, socket) {
        Some(false) => Verdict::Yes,
        None if view.process(who.helper).is_some_and(|f| f.inspection.is_none()) => Verdict::Look,
        _ => Verdict::No,
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
        (
            format!(
                "{who} merely inherited {n} of {owner} and {keep} {} open though {owner} has closed {0}{more}",
                them(kept)
            ),
            share.severity(grew, view.thresholds),
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
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row};
    use crate::model::Inode;
    use crate::model::snapshot::{EpollWatch, Inspection, ThreadState};

    /// `server` (812) listens; its connection, this old, is held by `sleep` (900) as descriptor 7.
    fn world(state: State, age_s: u64) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        let ms = age_s * 1000;
        let times = [("last_ack_recv_ms", ms), ("last_data_recv_ms", ms), ("last_data_sent_ms", ms)];
        world.add(info(row(state, "10.0.0.1:80", "10.0.0.9:40000"), &times));
        let inode = world.now.sockets[1].inode;
        world.hold(900, "sleep", 7, inode);
        world.now.processes.get_mut(&900).unwrap().running_ms = Some(600_000);
        world
    }

    fn inspect(world: &mut World, call: libc::c_long, watch: Option<Inode>) {
        let thread = ThreadState {
            tid: 900,
            name: "sleep".into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(call).ok(),
            syscall_arg0: Some(0),
        };
        let watches: Vec<EpollWatch> = watch
            .map(|inode| EpollWatch { epoll_fd: 4, target_fd: 7, inode: Some(inode), events: 1 })
            .into_iter()
            .collect();
        let epoll_sets = u32::try_from(watches.len()).unwrap();
        let inspection = Inspection { epoll_sets, watches, threads: vec![thread], ..Inspection::default() };
        world.now.processes.get_mut(&900).unwrap().inspection = Some(inspection);
    }

    #[test]
    fn the_helper_is_named_and_the_server_is_not_blamed() {
        let mut world = world(State::CloseWait, 300);
        inspect(&mut world, libc::SYS_clock_nanosleep, None);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.subject.pid, finding.severity), (Some(900), Severity::Info));
        assert!((finding.confidence - 0.8).abs() < 1e-9);
        assert_eq!(
            finding.summary,
            "sleep (900) merely inherited 1 connection of server (812) and keeps it open though server (812) has closed it"
        );
        assert!(finding.evidence.contains(&("holders", Evidence::List(vec!["sleep(900) fd 7".into()]))));
        // The leak rule leaves it alone.
        let all = world.diagnose();
        assert!(all.findings.iter().all(|f| f.rule != "close-wait-leak"), "{:?}", all.findings);
    }

    #[test]
    fn helpers_of_one_program_are_one_finding() {
        let mut world = world(State::CloseWait, 300);
        for n in 0..9 {
            let peer = format!("10.0.0.9:{}", 41_000 + n);
            let socket =
                Socket { info: world.now.sockets[1].info.clone(), ..row(State::CloseWait, "10.0.0.1:80", &peer) };
            let inode = socket.inode;
            world.add(socket).hold(901 + n, "sleep", 4, inode);
        }
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.subject.pid, Some(900));
        assert_eq!(finding.subject.pids.len(), 11);
        assert_eq!(
            finding.summary,
            "sleep (900) and 9 more merely inherited 10 connections of server (812) and keep them open though server \
             (812) has closed them"
        );
        assert!(finding.evidence.contains(&("close_wait", Evidence::Count(10))));
    }

    #[test]
    fn helpers_that_only_come_are_told_within_seconds_and_those_that_go_are_not() {
        let requests = |gone: u16| {
            let mut world = World::new();
            world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
            for n in 0..20 + gone {
                let ms = 300 * u64::from(n);
                let times = [
                    ("last_ack_recv_ms", ms),
                    ("last_data_recv_ms", ms + 20),
                    ("last_data_sent_ms", ms + 10),
                    ("bytes_sent", 9),
                ];
                let socket = info(row(State::CloseWait, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n)), &times);
                world.hold(900 + u32::from(n), "sleep", 7, socket.inode).add(socket);
            }
            world.later(2000);
            let old = |s: &Socket| s.state_age().is_none_or(|age| age.min_ms >= 2000);
            world.before.as_mut().unwrap().sockets.retain(old);
            world.now.sockets.truncate(21);
            world.check(check).findings
        };
        let [finding] = &requests(0)[..] else { panic!("one finding") };
        assert_eq!((finding.severity, finding.subject.pids.len()), (Severity::Warning, 21));
        assert_eq!(
            finding.summary,
            "sleep (900) and 19 more merely inherited 20 connections of server (812) and keep them open though server \
             (812) has closed them, 3.5 a second more"
        );
        assert!(requests(3).is_empty(), "three for seven that came");
    }

    #[test]
    fn severity_counts_the_descriptors_of_the_helper() {
        let mut world = world(State::CloseWait, 300);
        for client in 0..10 {
            let peer = format!("10.0.0.9:{}", 41_000 + client);
            let socket =
                Socket { info: world.now.sockets[1].info.clone(), ..row(State::CloseWait, "10.0.0.1:80", &peer) };
            let inode = socket.inode;
            world.add(socket).hold(900, "sleep", 20 + client, inode);
        }
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Info, "11 of 1024");
        assert!(outcome.findings[0].summary.contains("keeps them open though server (812) has closed them"));
        world.now.processes.get_mut(&900).unwrap().fd_soft = Some(22);
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn an_established_connection_counts_only_after_a_look_at_the_helper() {
        let mut world = world(State::Established, 300);
        let outcome = world.check(check);
        assert!(outcome.findings.is_empty() && outcome.asked.pids == [900], "{outcome:?}");
        inspect(&mut world, libc::SYS_clock_nanosleep, None);
        let outcome = world.check(check);
        assert!(outcome.findings[0].evidence.contains(&("established", Evidence::Count(1))), "{outcome:?}");
        // It waits in poll(): what for cannot be seen, so nothing is said.
        inspect(&mut world, libc::SYS_ppoll, None);
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn a_program_that_serves_the_connection_is_its_handler() {
        for state in [State::CloseWait, State::Established] {
            let mut world = world(state, 300);
            let inode = world.now.sockets[1].inode;
            inspect(&mut world, libc::SYS_epoll_pwait, inode);
            assert_eq!(world.check(check), Outcome::default(), "{state}: registered in its epoll set");
        }
    }

    #[test]
    fn designs_that_share_on_purpose_are_silent() {
        let silent = |change: &dyn Fn(&mut World)| {
            let mut world = world(State::CloseWait, 300);
            change(&mut world);
            assert_eq!(world.check(check), Outcome::default());
        };
        let exe = |world: &mut World, pid, name: &str| {
            world.now.processes.get_mut(&pid).unwrap().exe = Some(name.into());
        };
        // Workers of one program, whatever they call themselves, and even after an update of the file.
        silent(&|w| {
            exe(w, 812, "nginx (deleted)");
            exe(w, 900, "nginx");
        });
        // Younger than a minute.
        silent(&|w| assert!(w.now.sockets[1].info.as_mut().unwrap().set("last_ack_recv_ms", 5000)));
        let renamed = |owner: &str, fd: u32| {
            let mut world = World::new();
            let model = self::world(State::CloseWait, 300);
            world.add(model.now.sockets[0].clone()).hold(1, owner, 3, 80 << 16);
            let inode = model.now.sockets[1].inode;
            world.add(model.now.sockets[1].clone()).hold(900, "handler", fd, inode);
            world.check(check)
        };
        assert_eq!(renamed("systemd", 7), Outcome::default(), "socket activation");
        assert_eq!(renamed("sshd", 7), Outcome::default(), "privilege separation");
        assert_eq!(renamed("tcpserver", 0), Outcome::default(), "started on the connection");
        assert!(!renamed("tcpserver", 7).findings.is_empty());
    }

    #[test]
    fn what_the_owner_still_has_is_only_mentioned() {
        let mut world = world(State::Established, 0);
        let inode = world.now.sockets[1].inode;
        world.hold(812, "server", 7, inode);
        inspect(&mut world, libc::SYS_clock_nanosleep, None);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(900)));
        assert!(finding.summary.contains("that server (812) still uses"), "{}", finding.summary);
        // A helper that has only just begun may close what it does not need.
        world.now.processes.get_mut(&900).unwrap().running_ms = Some(3000);
        assert_eq!(world.check(check), Outcome::default());
    }
}
