//! What servers of a listener show, and the cause that it names, on snapshots made by hand.

use super::*;
use crate::diagnose::testkit::{World, info, listen, row, timer, unheld, with_info};
use crate::model::snapshot::{CpuQuota, EpollWatch, Inspection, ThreadState};
use crate::model::{Inode, State, TimerKind};

const LISTENER: u64 = 80 << 16;

/// A listener of process 10 with four connections that wait.
fn world() -> World {
    let mut world = World::new();
    world.add(listen("0.0.0.0:80", 4, 64)).hold(10, "server", 6, LISTENER);
    for client in 0..4 {
        let waiting = unheld(row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + client)));
        world.add(info(waiting, &[("last_data_sent_ms", 5000)]));
    }
    world
}

fn thread(tid: u32, state: char, call: Option<libc::c_long>, arg0: u64) -> ThreadState {
    let syscall = call.and_then(|n| u64::try_from(n).ok());
    ThreadState {
        tid,
        name: "t".into(),
        state: Some(state),
        wchan: call.map(|_| "somewhere".into()),
        syscall,
        syscall_arg0: Some(arg0),
    }
}

/// The listener is in an epoll set for these events, or in none; and the threads.
fn inspect(world: &mut World, pid: u32, events: Option<u32>, epoll_sets: u32, threads: Vec<ThreadState>) {
    let watch = |events| EpollWatch { epoll_fd: 4, target_fd: 6, inode: Inode::new(LISTENER), events };
    let watches = events.map(watch).into_iter().collect();
    let facts = world.now.processes.get_mut(&pid).unwrap();
    facts.inspection = Some(Inspection { epoll_sets, watches, threads, ..Inspection::default() });
    facts.frozen = Some(false);
}

fn accepted(world: &mut World, pid: u32, client: u16) {
    let connection = row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{client}"));
    let inode = connection.inode;
    world.add(connection).hold(pid, "server", 9, inode);
}

fn judged(world: &World, mut see: impl FnMut(Why, &Owner<'_>)) {
    let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
    let queue = &view.queues().all()[0];
    let owner = Owner::of(&view, &queue.listeners).unwrap();
    see(why(&view, Some(&owner), queue, &queue.listeners), &owner);
}

fn left(world: &World) -> Vec<&'static str> {
    let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
    let queue = &view.queues().all()[0];
    let owner = Owner::of(&view, &queue.listeners);
    why(&view, owner.as_ref(), queue, &queue.listeners).weighed.left.iter().map(|h| h.cause.id).collect()
}

#[test]
fn nothing_is_said_of_a_process_that_was_not_inspected() {
    assert!(left(&world()).is_empty());
    assert!(left(world().later(2000)).is_empty(), "that nothing was accepted names no cause");
}

#[test]
fn what_the_threads_and_the_epoll_set_show_names_the_cause() {
    let sleeps = || vec![thread(10, 'S', Some(libc::SYS_clock_nanosleep), 0)];
    let waits = || vec![thread(10, 'S', Some(libc::SYS_epoll_pwait), 4)];
    let runs = || vec![thread(10, 'R', None, 0), thread(11, 'S', Some(libc::SYS_futex), 0)];
    for (events, sets, threads, cause) in [
        (Some(1), 1, sleeps(), "loop-stuck"),
        (Some(1), 1, runs(), "busy-loop"),
        (None, 0, runs(), "busy-loop"),
        (None, 1, waits(), "accept-paused"),
        (Some(4), 1, waits(), "accept-paused"),
    ] {
        let mut world = world();
        world.later(2000);
        inspect(&mut world, 10, events, sets, threads);
        assert_eq!(left(&world), [cause], "{events:?} {sets}");
    }
    // A loop that turns, told once of what came: it did not accept all of it, or accepts no more on purpose.
    let mut edge = world();
    edge.later(2000);
    inspect(&mut edge, 10, Some(0x8000_0001), 1, waits());
    let mut causes = left(&edge);
    causes.sort_unstable();
    assert_eq!(causes, ["accept-paused", "edge-not-drained"]);
    // A set for something else, and the thread that accepts blocked elsewhere: two causes are left.
    let mut blocked = world();
    blocked.later(2000);
    inspect(&mut blocked, 10, None, 1, sleeps());
    assert!(left(&blocked).len() > 1, "{:?}", left(&blocked));
}

/// The world of a worker with one client, whose request waits at `10.0.0.2:5432` for five seconds, under descriptor 12.
fn with_backend(stamps: &[(&str, u64)]) -> World {
    let mut world = world();
    accepted(&mut world, 10, 50_000);
    let asked = info(row(State::Established, "10.0.0.1:40000", "10.0.0.2:5432"), stamps);
    let inode = asked.inode;
    world.add(asked).hold(10, "server", 12, inode);
    world.later(2000);
    world
}

#[test]
fn a_call_on_a_connection_that_the_server_made_names_the_service_it_waits_for() {
    let asked = [("last_data_sent_ms", 5000), ("last_data_recv_ms", 9000), ("bytes_sent", 9), ("bytes_received", 9)];
    let receives = || vec![thread(10, 'S', Some(libc::SYS_recvfrom), 12), thread(11, 'S', Some(libc::SYS_futex), 0)];
    let mut world = with_backend(&asked);
    inspect(&mut world, 10, None, 0, receives());
    judged(&world, |why, owner| {
        assert!(why.weighed.is("waits-for-service"), "{:?}", why.weighed);
        let words = why.acts(Some(owner), "");
        assert_eq!(words, "server (10) waits for an answer of 10.0.0.2:5432, for 5.0 s or more");
        let finding = why.onto(Finding::new("r", crate::diagnose::Severity::Info, 1.0, ""), Some(owner));
        assert!(finding.remedy[0].starts_with("Find out why 10.0.0.2:5432 does not answer"), "{finding:?}");
    });
    // The answer came: it waits for more of it, or its answer is on the way to somebody else.
    let answered = [("last_data_sent_ms", 5000), ("last_data_recv_ms", 40), ("bytes_sent", 9), ("bytes_received", 9)];
    let young = [("last_data_sent_ms", 50), ("last_data_recv_ms", 9000), ("bytes_sent", 9), ("bytes_received", 9)];
    for stamps in [answered, young] {
        let mut world = with_backend(&stamps);
        inspect(&mut world, 10, None, 0, receives());
        assert!(!left(&world).contains(&"waits-for-service"), "{stamps:?}");
    }
    // Another thread is at work, or stands in a call on the client's connection.
    for other in [thread(12, 'R', None, 0), thread(12, 'S', Some(libc::SYS_read), 9)] {
        let mut world = with_backend(&asked);
        let threads = receives().into_iter().chain([other]).collect();
        inspect(&mut world, 10, None, 0, threads);
        assert!(!left(&world).contains(&"waits-for-service"));
    }
}

#[test]
fn what_stops_it_beats_what_it_would_do() {
    let mut world = world();
    inspect(&mut world, 10, Some(1), 1, vec![thread(10, 'S', Some(libc::SYS_epoll_pwait), 4)]);
    world.now.processes.get_mut(&10).unwrap().frozen = Some(true);
    judged(&world, |why, owner| {
        assert!(why.weighed.is("frozen") && why.weighed.ruled_out.is_empty());
        assert!(why.acts(Some(owner), "").contains("frozen"));
        let finding = why.onto(Finding::new("r", crate::diagnose::Severity::Info, 1.0, ""), Some(owner));
        assert!(finding.remedy.len() == 1 && finding.remedy[0].starts_with("Thaw"), "{finding:?}");
    });
    world.now.processes.get_mut(&10).unwrap().frozen = Some(false);
    assert!(!left(&world).contains(&"frozen"));
    world.now.processes.get_mut(&10).unwrap().fd_used = Some(1024);
    assert_eq!(left(&world), ["out-of-descriptors"]);
}

#[test]
fn threads_in_accept_of_another_listener_say_which() {
    let mut world = world();
    world.add(listen("0.0.0.0:81", 0, 64)).hold(10, "server", 7, 81 << 16);
    inspect(&mut world, 10, None, 0, vec![thread(10, 'S', Some(libc::SYS_accept4), 7)]);
    judged(&world, |why, owner| {
        assert!(why.weighed.is("accepts-elsewhere"), "{:?}", why.weighed.left);
        let words = "1 thread of server (10) waits in accept() of 0.0.0.0:81 and none here";
        assert_eq!(why.acts(Some(owner), ""), words);
    });
    // Another that waits on this one is no such thing.
    let both = vec![thread(10, 'S', Some(libc::SYS_accept4), 7), thread(11, 'S', Some(libc::SYS_accept4), 6)];
    inspect(&mut world, 10, None, 0, both);
    assert!(!left(&world).contains(&"accepts-elsewhere"));
}

/// Workers 10 and 11, each with one thread in this call and one accepted connection; the listener is in `sets` epoll
/// sets of each.
fn two_workers(call: libc::c_long, arg0: u64, sets: u32) -> World {
    let mut world = world();
    world.hold(11, "server", 6, LISTENER).later(2000);
    for (pid, client) in [(10, 50_000), (11, 50_001)] {
        let watched = (sets > 0).then_some(1);
        inspect(&mut world, pid, watched, sets, vec![thread(pid, 'S', Some(call), arg0)]);
        accepted(&mut world, pid, client);
    }
    world
}

#[test]
fn workers_are_busy_when_each_has_a_connection() {
    assert_eq!(left(&two_workers(libc::SYS_clock_nanosleep, 0, 0)), ["workers-busy"]);
    let mut one_has_none = two_workers(libc::SYS_clock_nanosleep, 0, 0);
    one_has_none.now.sockets.pop();
    assert!(left(&one_has_none).len() > 1, "{:?}", left(&one_has_none));
    // A worker polls its connection, and has the listener in an epoll set for later.
    let polls = two_workers(libc::SYS_ppoll, 0, 1);
    assert_eq!(left(&polls), ["workers-busy"]);
    judged(&polls, |why, owner| {
        assert_eq!(why.acts(Some(owner), ""), "every worker of server (10 and 1 more) serves a connection");
    });
}

#[test]
fn a_loop_that_has_several_connections_is_no_busy_worker() {
    // Those of an event loop are in an epoll set.
    let mut watches = two_workers(libc::SYS_clock_nanosleep, 0, 1);
    for (pid, socket) in [(10, 5), (11, 6)] {
        let inode = watches.now.sockets[socket].inode;
        let inspection = watches.now.processes.get_mut(&pid).unwrap().inspection.as_mut().unwrap();
        inspection.watches.push(EpollWatch { epoll_fd: 4, target_fd: 9, inode, events: 1 });
    }
    assert_eq!(left(&watches), ["loop-stuck"]);
    // Those of a loop over poll do not show, but are more than its threads.
    let mut polls = two_workers(libc::SYS_ppoll, 0, 0);
    accepted(&mut polls, 10, 50_002);
    assert!(left(&polls).len() > 1, "{:?}", left(&polls));
    let mut alone = world();
    alone.later(2000);
    inspect(&mut alone, 10, None, 0, vec![thread(10, 'S', Some(libc::SYS_ppoll), 0)]);
    accepted(&mut alone, 10, 50_000);
    assert_eq!(left(&alone), ["workers-busy"], "one thread, one connection");
    accepted(&mut alone, 10, 50_001);
    assert!(left(&alone).len() > 1, "{:?}", left(&alone));
}

#[test]
fn clients_that_hold_workers_and_are_silent_are_named() {
    let mut world = two_workers(libc::SYS_ppoll, 0, 1);
    let answered = [("last_data_sent_ms", 9000), ("last_data_recv_ms", 9500), ("bytes_sent", 5), ("bytes_received", 5)];
    for socket in &mut world.now.sockets[5..] {
        *socket = info(socket.clone(), &answered);
    }
    judged(&world, |why, owner| {
        let words =
            "every worker of server (10 and 1 more) is held by a connection of 10.0.0.9 that is idle for 9.0 s or more";
        assert_eq!(why.acts(Some(owner), ""), words);
        assert!(why.steps[0].starts_with("Let 10.0.0.9 close"), "{:?}", why.steps);
        assert!(why.evidence.contains(&("workers_held_by", Evidence::List(vec!["10.0.0.9 (2)".into()]))));
    });
    // Nobody has said a word: the server may owe the first one, unless it reads.
    let silent = world.now.sockets[5].clone();
    for field in ["bytes_sent", "bytes_received"] {
        assert!(world.now.sockets[5].info.as_mut().unwrap().set(field, 0));
    }
    judged(&world, |why, owner| assert!(why.acts(Some(owner), "").ends_with("serves a connection")));
    let reads = thread(10, 'S', Some(libc::SYS_recvfrom), 9);
    world.now.processes.get_mut(&10).unwrap().inspection.as_mut().unwrap().threads = vec![reads];
    judged(&world, |why, owner| assert!(why.acts(Some(owner), "").ends_with("idle for 9.0 s or more")));
    world.now.sockets[5] = silent;
    // One asked, and has no answer.
    assert!(world.now.sockets[6].info.as_mut().unwrap().set("last_data_recv_ms", 8000));
    judged(&world, |why, owner| assert!(why.acts(Some(owner), "").ends_with("serves a connection")));
}

/// Somebody's end of a connection that waits in the queue.
fn calls(world: &mut World, pid: u32, comm: &str, fd: u32, client: u16) {
    let here = format!("10.0.0.1:{client}");
    world.add(info(unheld(row(State::Established, "10.0.0.1:80", &here)), &[("last_data_sent_ms", 5000)]));
    let call = row(State::Established, &here, "10.0.0.1:80");
    let inode = call.inode;
    world.add(call).hold(pid, comm, fd, inode);
    let before = world.before.as_mut().unwrap();
    before.sockets.clone_from(&world.now.sockets);
}

#[test]
fn workers_that_wait_for_their_own_listener_are_told() {
    let mut world = two_workers(libc::SYS_recvfrom, 12, 0);
    calls(&mut world, 10, "server", 12, 41_000);
    assert_eq!(left(&world), ["workers-busy"], "the other one has something else to wait for");
    judged(&world, |why, owner| {
        assert!(why.acts(Some(owner), "").ends_with("serves a connection; 1 of those that wait is a call of its own"));
    });
    calls(&mut world, 11, "server", 12, 41_001);
    assert_eq!(left(&world), ["calls-itself"]);
    judged(&world, |why, owner| {
        let words = "every worker of server (10 and 1 more) waits for an answer from its own listener; 2 of those that \
                     wait are calls of its own";
        assert_eq!(why.acts(Some(owner), ""), words);
        assert!(why.steps[0].starts_with("Call the function"), "{:?}", why.steps);
        assert!(why.evidence.contains(&("own_calls_waiting", Evidence::Count(2))));
    });
    // A loop that was blocked in such a call is no other case, but one that would be told of the answer is.
    let inode = world.now.sockets.last().unwrap().inode;
    for pid in [10, 11] {
        inspect(&mut world, pid, Some(1), 1, vec![thread(pid, 'S', Some(libc::SYS_ppoll), 0)]);
    }
    assert_eq!(left(&world), ["calls-itself"]);
    let inspection = world.now.processes.get_mut(&11).unwrap().inspection.as_mut().unwrap();
    inspection.watches.push(EpollWatch { epoll_fd: 4, target_fd: 12, inode, events: 1 });
    assert!(!left(&world).contains(&"calls-itself"), "{:?}", left(&world));
    // It made the call and stands elsewhere.
    for pid in [10, 11] {
        inspect(&mut world, pid, None, 0, vec![thread(pid, 'S', Some(libc::SYS_recvfrom), 12)]);
    }
    world.now.processes.get_mut(&11).unwrap().inspection.as_mut().unwrap().threads[0].syscall_arg0 = Some(9);
    assert_eq!(left(&world), ["workers-busy"]);
}

#[test]
fn a_child_calls_for_its_parent_and_a_check_of_its_own_health_calls_for_nobody() {
    let mut world = two_workers(libc::SYS_wait4, 0, 0);
    for (child, parent) in [(20, 10), (21, 11)] {
        calls(&mut world, child, "curl", 5, 41_000 + u16::try_from(child).unwrap());
        world.now.processes.get_mut(&child).unwrap().parent = Some(parent);
    }
    assert_eq!(left(&world), ["calls-itself"]);
    world.now.processes.get_mut(&20).unwrap().parent = Some(1);
    assert_eq!(left(&world), ["workers-busy"]);
    let mut checked = self::world();
    checked.later(2000);
    let threads = vec![thread(10, 'S', Some(libc::SYS_futex), 0), thread(11, 'S', Some(libc::SYS_recvfrom), 12)];
    inspect(&mut checked, 10, None, 0, threads);
    accepted(&mut checked, 10, 50_000);
    calls(&mut checked, 10, "server", 12, 41_000);
    assert!(left(&checked).len() > 1 && left(&checked).contains(&"calls-itself"), "{:?}", left(&checked));
}

#[test]
fn what_left_the_queue_tells_slow_from_overrun() {
    let mut world = world();
    world.later(2000);
    inspect(&mut world, 10, None, 0, vec![thread(10, 'S', Some(libc::SYS_clock_nanosleep), 0)]);
    accepted(&mut world, 10, 40_000);
    world.now.sockets.remove(1);
    world.now.sockets[0].recv_q_bytes = 3;
    judged(&world, |why, owner| {
        assert!(why.weighed.is("accepts-too-slow"), "{:?}", why.weighed.left);
        assert_eq!(why.acts(Some(owner), ""), "server (10) accepted only 1 of those who waited in 2.0 s");
    });
    // A reset leaves its place taken.
    world.now.sockets[0].recv_q_bytes = 4;
    assert!(!left(&world).contains(&"accepts-too-slow"));
}

#[test]
fn where_no_cause_is_named_the_call_is_told_in_which_all_threads_stand() {
    let acts = |calls: &[libc::c_long]| {
        let mut world = world();
        world.later(2000);
        let threads = (0..).zip(calls).map(|(n, call)| thread(10 + n, 'S', Some(*call), 0)).collect();
        inspect(&mut world, 10, None, 0, threads);
        accepted(&mut world, 10, 50_000);
        let mut said = String::new();
        judged(&world, |why, owner| said = why.acts(Some(owner), "accepted none of them"));
        said
    };
    assert_eq!(acts(&[libc::SYS_flock]), "server (10) accepted none of them; it stands in flock (somewhere)");
    assert!(!acts(&[libc::SYS_flock, libc::SYS_wait4]).contains("stands"), "in two");
    assert!(!acts(&[libc::SYS_poll]).contains("stands"), "waits for work");
}

#[test]
fn a_full_queue_whose_head_waits_in_both_samples_is_slow_and_no_burst() {
    // All are others than before, and each of the four has waited for so long.
    let turned_over = |waits_ms: u64| {
        let mut world = world();
        for socket in world.now.sockets.iter_mut().filter(|s| s.is_unaccepted()) {
            *socket = with_info(socket.clone(), &[("last_data_sent_ms", waits_ms)]);
        }
        world.later(2000);
        inspect(&mut world, 10, None, 0, vec![thread(10, 'S', Some(libc::SYS_clock_nanosleep), 0)]);
        for (socket, n) in world.now.sockets.iter_mut().filter(|s| s.is_unaccepted()).zip(0_u16..) {
            (socket.cookie, socket.peer.port) = (Some(90_000 + u64::from(n)), 20_000 + n);
            *socket = with_info(socket.clone(), &[("last_data_sent_ms", waits_ms)]);
        }
        world
    };
    let slow = turned_over(2000);
    judged(&slow, |why, owner| {
        assert!(why.weighed.is("accepts-too-slow"), "{:?}", why.weighed.left);
        assert_eq!(
            why.acts(Some(owner), ""),
            "server (10) accepts at most 33 a second: whoever is next has waited for 2.0 s"
        );
    });
    assert_eq!(left(&turned_over(90))[0], "arrivals-too-fast");
}

#[test]
fn a_queue_that_was_emptied_is_no_program_that_does_not_accept() {
    let mut world = world();
    world.later(2000);
    inspect(&mut world, 10, Some(1), 1, vec![thread(10, 'R', None, 0)]);
    // All four were accepted, and nobody waits now: a burst, or a moment in which accept() was late.
    world.now.sockets.truncate(1);
    world.now.sockets[0].recv_q_bytes = 0;
    assert_eq!(left(&world), ["arrivals-too-fast", "accepts-too-slow"]);
    judged(&world, |why, _| assert!(why.steps[0].starts_with("Let the queue hold a burst"), "{:?}", why.steps));
    // Nobody waited in either sample: whether anything was accepted is not known, and so not "nothing".
    let mut empty = world;
    empty.before.as_mut().unwrap().sockets.truncate(1);
    judged(&empty, |why, _| assert!(why.weighed.named().is_none(), "{:?}", why.weighed));
}

#[test]
fn several_listeners_of_a_port_are_not_inherited_because_nothing_else_is_left() {
    let mut world = world();
    world.later(2000);
    inspect(&mut world, 10, Some((1 << 31) | 1), 1, vec![thread(10, 'S', Some(libc::SYS_epoll_wait), 4)]);
    let out = |world: &World| {
        let mut out = false;
        judged(world, |why, _| out = why.weighed.ruled_out.iter().any(|(c, _)| c.id == "inherited-listener"));
        out
    };
    world.add(listen("0.0.0.0:80", 0, 64)).hold(11, "server", 6, LISTENER);
    assert!(out(&world));
}

#[test]
fn a_quota_that_is_used_up_is_named_before_what_the_threads_do() {
    let mut world = world();
    world.later(2000);
    inspect(&mut world, 10, Some(1), 1, vec![thread(10, 'R', None, 0)]);
    let mut throttle = |periods, throttled| {
        world.now.processes.get_mut(&10).unwrap().cpu_quota = Some(CpuQuota { periods, throttled });
        left(&world)
    };
    assert_eq!(throttle(364, 363), ["cpu-throttled"]);
    assert_eq!(throttle(364, 0), ["busy-loop"]);
    assert_eq!(throttle(10, 10), ["busy-loop"], "too few to be a share");
    throttle(364, 363);
    judged(&world, |why, owner| {
        let words = "server (10) is short of CPU: the quota of its control group was used up in 363 of 364 periods";
        assert_eq!(why.acts(Some(owner), ""), words);
        assert!(why.steps[0].starts_with("Raise the quota"), "{:?}", why.steps);
    });
    // Where its control groups are not seen, a quota may do it.
    let facts = world.now.processes.get_mut(&10).unwrap();
    (facts.cpu_quota, facts.frozen) = (None, None);
    assert_eq!(left(&world), ["busy-loop", "cpu-throttled"]);
    // Nothing wants to run: it waits for something else.
    inspect(&mut world, 10, Some(1), 1, vec![thread(10, 'S', Some(libc::SYS_clock_nanosleep), 0)]);
    assert!(!left(&world).is_empty() && left(&world)[0] != "cpu-throttled", "{:?}", left(&world));
}

#[test]
fn clients_that_are_slow_with_a_request_or_its_answer_are_named() {
    let asked = [("last_data_sent_ms", 9500), ("last_data_recv_ms", 9000), ("bytes_sent", 0), ("bytes_received", 5)];
    for (call, unsent, step, words) in [
        (
            libc::SYS_recvfrom,
            0,
            "Limit how long 10.0.0.9",
            "from which it reads, and which has been silent for 9.0 s or more",
        ),
        (libc::SYS_sendto, 9000, "Limit how long 10.0.0.9", "that does not read its answer"),
    ] {
        let mut world = two_workers(call, 9, 0);
        for socket in &mut world.now.sockets[5..] {
            *socket = Socket { send_q_bytes: Some(unsent), ..info(socket.clone(), &asked) };
            if unsent > 0 {
                *socket = timer(socket.clone(), TimerKind::ZeroWindowProbe, 900, 3);
            }
        }
        judged(&world, |why, owner| {
            let said = why.acts(Some(owner), "");
            assert_eq!(
                said,
                format!("every worker of server (10 and 1 more) is held by a connection of 10.0.0.9 {words}")
            );
            assert!(why.steps[0].starts_with(step), "{:?}", why.steps);
        });
        // One of them stands elsewhere.
        inspect(&mut world, 11, None, 0, vec![thread(11, 'S', Some(libc::SYS_clock_nanosleep), 0)]);
        judged(&world, |why, owner| assert!(why.acts(Some(owner), "").ends_with("serves a connection")));
    }
}
