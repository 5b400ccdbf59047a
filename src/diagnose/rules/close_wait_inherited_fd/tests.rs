//! Inherited connections, on snapshots made by hand.

#[cfg(test)]
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
        let socket = Socket { info: world.now.sockets[1].info.clone(), ..row(State::CloseWait, "10.0.0.1:80", &peer) };
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
        let socket = Socket { info: world.now.sockets[1].info.clone(), ..row(State::CloseWait, "10.0.0.1:80", &peer) };
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

/// A connection of a server as old as this that only a program of this file holds, asleep since a minute.
fn left(world: &mut World, pid: u32, exe: &str, idle_ms: u64) {
    let peer = format!("10.0.0.9:{}", 40_000 + pid);
    let times = [("last_ack_recv_ms", idle_ms), ("last_data_recv_ms", idle_ms), ("last_data_sent_ms", idle_ms)];
    let socket = info(row(State::Established, "10.0.0.1:80", &peer), &times);
    world.hold(pid, exe, 7, socket.inode).add(socket);
    asleep(world, pid, exe, libc::SYS_clock_nanosleep);
}

fn asleep(world: &mut World, pid: u32, exe: &str, call: libc::c_long) {
    let thread = ThreadState {
        tid: pid,
        name: exe.into(),
        state: Some('S'),
        wchan: None,
        syscall: u64::try_from(call).ok(),
        syscall_arg0: Some(0),
    };
    let facts = world.now.processes.get_mut(&pid).unwrap();
    facts.exe = Some(exe.into());
    facts.running_ms = Some(60_000);
    facts.inspection = Some(Inspection { threads: vec![thread], ..Inspection::default() });
}

fn server() -> World {
    let mut world = World::new();
    world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
    world
}

#[test]
fn open_connections_that_only_tools_keep_are_a_warning_within_seconds() {
    let found = |exe: &str, n: u32, idle_ms| {
        let mut world = server();
        (0..n).for_each(|n| left(&mut world, 900 + n, exe, idle_ms));
        world.check(check).findings
    };
    let [finding] = &found("sleep", 3, 5000)[..] else { panic!("one finding") };
    assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(900)));
    assert_eq!(
        finding.summary,
        "sleep (900) and 2 more merely inherited 3 connections of server (812) and keep them open though server (812) \
         has closed them; no FIN was sent"
    );
    assert_eq!(found("sleep", 2, 5000)[0].severity, Severity::Info, "may be an accident");
    assert!(found("sleep", 3, 4999).is_empty(), "the server may have just closed them");
    // Their clients gave up: the tool keeps what nobody can use.
    let mut left_alone = server();
    left(&mut left_alone, 900, "sleep", 5000);
    left_alone.now.sockets[1].state = State::CloseWait;
    let told = left_alone.check(check).findings.remove(0);
    assert!(told.severity == Severity::Info && !told.summary.contains("no FIN"), "{}", told.summary);
    // Another program may be a handler that was given the connection, and sleeps for a while.
    assert!(found("handler", 3, 59_999).is_empty());
    assert_eq!(found("handler", 3, 60_000)[0].severity, Severity::Warning);
}

#[test]
fn a_program_that_waits_for_the_handler_that_it_started_keeps_nothing() {
    let found = |fd: u32, call: libc::c_long| {
        let mut world = server();
        left(&mut world, 900, "sh", 90_000);
        asleep(&mut world, 900, "sh", libc::SYS_wait4);
        world.now.processes.get_mut(&900).unwrap().running_ms = Some(100_000);
        let inode = world.now.sockets[1].inode;
        world.hold(901, "handler", fd, inode);
        asleep(&mut world, 901, "handler", call);
        world.check(check).findings.len()
    };
    assert_eq!(found(0, libc::SYS_clock_nanosleep), 0, "it was started on the connection");
    assert_eq!(found(7, libc::SYS_ppoll), 0, "it may wait for the connection");
    assert_eq!(found(7, libc::SYS_clock_nanosleep), 1, "neither uses it");
}

#[test]
fn what_a_program_connected_and_closed_is_found_with_the_tool_that_it_started_meanwhile() {
    let found = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        let own = row(State::Established, "10.0.0.1:50000", "10.0.0.9:443");
        world.hold(700, "app", 5, own.inode).add(own);
        let times = [("last_data_recv_ms", 60_000), ("last_data_sent_ms", 60_001), ("last_ack_recv_ms", 60_000)];
        let socket = info(row(State::Established, "10.0.0.1:50001", "10.0.0.9:443"), &times);
        world.hold(900, "sleep", 7, socket.inode).add(socket);
        asleep(&mut world, 900, "sleep", libc::SYS_clock_nanosleep);
        world.now.processes.get_mut(&900).unwrap().parent = Some(700);
        change(&mut world);
        world.check(check).findings
    };
    let set = |world: &mut World, change: &dyn Fn(&mut crate::model::snapshot::ProcessFacts)| {
        change(world.now.processes.get_mut(&900).unwrap());
    };
    let [finding] = &found(&|_| ())[..] else { panic!("one finding") };
    assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(900)));
    assert_eq!(
        finding.summary,
        "sleep (900) merely inherited 1 connection of app (700) and keeps it open though app (700) has closed it; no FIN \
         was sent"
    );
    assert!(found(&|w| set(w, &|f| f.running_ms = Some(60_011))).is_empty(), "data moved since it began");
    assert!(found(&|w| set(w, &|f| f.parent = Some(1))).is_empty(), "nobody knows whose it was");
    assert!(found(&|w| set(w, &|f| f.parent = Some(666))).len() == 1, "no tool connects");
    // A program that connects as soon as it begins, and one that forks.
    assert!(found(&|w| set(w, &|f| f.exe = Some("agent".into()))).is_empty());
    let older = |f: &mut crate::model::snapshot::ProcessFacts| {
        (f.exe, f.running_ms) = (Some("agent".into()), Some(59_990));
    };
    assert!(found(&|w| set(w, &older)).is_empty(), "it has run for less than a minute");
    assert!(
        found(&|w| {
            set(w, &|f| f.exe = Some("app".into()));
            w.now.processes.get_mut(&700).unwrap().exe = Some("app".into());
        })
        .is_empty()
    );
    let inode = (0xC351 << 16) | 0x1BB;
    assert!(found(&|w| _ = w.hold(900, "sleep", 1, inode)).is_empty(), "its output");
}
