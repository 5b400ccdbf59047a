//! A listener is held only by a program that cannot accept: clients connect and hang, and a restart of the server fails.
//!
//! Input: LISTEN rows and the inspection of who holds them. Output: one finding per listening endpoint. Not here: servers
//! that are slow or stopped (`accept-queue-stalled`).
//!
#![doc = include_str!("../../../docs/rules/inherited-listener.md")]

use crate::diagnose::Outcome;
use crate::diagnose::accepting::{self, Reach};
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::Queue;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::threads::syscall_name;
use crate::diagnose::view::View;
use crate::model::{Process, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("inherited-listener", Listeners, One, "only a program that cannot accept holds the listener", check, [TEXT])
        .states(&[State::Listen])
        .title("listener without a server")
        .identity(Identity::Listener);

const TEXT: Text = Text {
    why: "A child inherits every descriptor that is not marked close-on-exec. When the server ends, the child keeps its \
          listener open: the kernel still finishes handshakes, nobody accepts them, and bind() of the next server \
          fails with EADDRINUSE.",
    remedy: &[accepting::END_HELPER, accepting::CLOSE_ON_EXEC],
    avoid: &[
        "Don't set SO_REUSEPORT to get past EADDRINUSE: the kernel then gives part of the clients to the helper",
        "Don't raise the backlog: nobody accepts",
    ],
};

/// A helper that has just been started may be about to become the server (policy); two samples are this far apart.
const SETTLED_MS: u64 = 2000;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    // A process that cannot be read may hold the listener too.
    let unseen = view.now.owners.unreadable > 0 || view.now.owners.unlisted.is_some();
    for queue in view.queues().all() {
        let holders = accepting::unique(queue.listeners.iter().flat_map(|l| view.processes(l)).collect());
        if !holders.iter().all(|p| is_helper(view, p)) {
            continue;
        }
        if unseen {
            return Outcome::not_checked("some processes could not be read, and one of them may be the server");
        }
        if holders.is_empty() {
            continue;
        }
        if let Some(young) = holders.iter().find(|p| !is_settled(view, p)) {
            let why = || format!("{} holds {} alone and has just been started", text::name(young), queue.local);
            outcome.wants_second = outcome.wants_second.or_else(|| view.before.is_none().then(why));
            continue;
        }
        match accepting::reach(view, &queue.listeners, &holders) {
            Reach::MayAccept => {}
            Reach::NotInspected => outcome.asked.pids.extend(holders.iter().map(|p| p.pid)),
            reach => outcome.findings.push(finding(view, queue, &holders, reach)),
        }
    }
    outcome
}

/// It may be one: it has no connection.
fn is_helper(view: &View<'_>, process: &Process) -> bool {
    !view.now.sockets.iter().any(|s| is_connection(s) && view.holding(s).any(|p| p.pid == process.pid))
}

/// It has run long enough to have become what it is.
fn is_settled(view: &View<'_>, process: &Process) -> bool {
    view.process(process.pid).is_some_and(|facts| facts.running_ms.is_none_or(|ms| ms >= SETTLED_MS))
}

fn is_connection(socket: &Socket) -> bool {
    socket.state.has_peer() && socket.inode.is_some()
}

fn finding(view: &View<'_>, queue: &Queue<'_>, holders: &[&Process], reach: Reach) -> Finding {
    let at = queue.local;
    let owner = Owner::of(view, &queue.listeners);
    let names: Vec<String> = holders.iter().map(|p| text::name(p)).collect();
    let verb = if names.len() == 1 { "holds" } else { "hold" };
    let who = names.join(" and ");
    let waiting = queue.queued();
    let activated = holders.iter().any(|p| view.process(p.pid).is_some_and(|f| f.is_activated == Some(true)));
    let hurt = match waiting {
        0 if activated => "clients will wait in vain".to_owned(),
        0 => "a restart of the server fails with EADDRINUSE".to_owned(),
        n => format!("{} in vain for accept()", text::count(n, "connection waits", "connections wait")),
    };
    let (confidence, because) = match reach {
        Reach::CannotAccept => (0.95, "neither the program nor a library of it imports accept()"),
        _ => (0.85, "a tool that takes no connections, asleep; what it imports could not be read"),
    };
    let calls = holders.iter().filter_map(|p| view.process(p.pid)?.inspection.as_ref()).flat_map(|i| &i.threads);
    let calls: Vec<String> = calls.filter_map(|t| t.syscall.and_then(syscall_name)).map(str::to_owned).collect();
    let running = holders.iter().filter_map(|p| view.process(p.pid)?.running_ms).min();
    let how = if activated { "it was given it by socket activation" } else { "the descriptor is inherited" };
    let mut finding = RULE
        .finding(
            Severity::Warning,
            confidence,
            format!("only {who} {verb} the listener {at} and cannot accept, {how}: {hurt}"),
        )
        .because(because)
        .fill("helper", &who)
        .subject(listener_owner::subject(view, owner.as_ref(), queue.netns, at))
        .about(queue.entries())
        .evidence("waiting", Evidence::Count(waiting))
        .evidence("oldest_wait_ms", Evidence::millis(queue.oldest_wait_ms()))
        .evidence("holder_calls", Evidence::List(calls))
        .evidence("holder_running_ms", Evidence::millis(running));
    for process in holders {
        finding = finding.inspect(process.pid, &queue.listeners);
    }
    if activated {
        finding.remedy = vec![accepting::check_service(holders)];
    }
    finding.next(format!("tcpstate list -l -p --local {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, row};
    use crate::model::snapshot::{Inspection, ThreadState};

    fn world(comm: &str, call: libc::c_long, imports_accept: Option<bool>) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 8)).hold(900, comm, 3, 80 << 16);
        inspect(&mut world, 900, comm, call, imports_accept);
        world
    }

    fn inspect(world: &mut World, pid: u32, exe: &str, call: libc::c_long, imports_accept: Option<bool>) {
        let thread = ThreadState {
            tid: pid,
            name: exe.into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(call).ok(),
            syscall_arg0: Some(0),
        };
        let facts = world.now.processes.get_mut(&pid).unwrap();
        facts.threads = Some(1);
        facts.exe = Some(exe.into());
        facts.running_ms = Some(SETTLED_MS);
        facts.inspection = Some(Inspection { threads: vec![thread], imports_accept, ..Inspection::default() });
    }

    #[test]
    fn a_program_that_cannot_accept_is_named_before_a_client_comes() {
        let outcome = world("sleep", libc::SYS_clock_nanosleep, Some(false)).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(900)));
        assert!(finding.confidence >= 0.95 && finding.remedy[0].contains("sleep (900)"), "{finding:?}");
        assert!(finding.remedy[1].contains("SOCK_CLOEXEC"));
        let mut given = world("sleep", libc::SYS_clock_nanosleep, Some(false));
        given.now.processes.get_mut(&900).unwrap().is_activated = Some(true);
        let given = &given.check(check).findings[0];
        assert!(given.summary.contains("socket activation") && given.remedy[0].contains("ExecStart"), "{given:?}");
        assert_eq!(given.remedy.len(), 1, "its descriptor must stay open across exec");
        // A tool in a container, whose file is not read: less sure. `tail -f` waits in poll(), and accepts nothing either.
        let tool = world("sleep", libc::SYS_clock_nanosleep, None).check(check);
        assert!(tool.findings[0].confidence < 0.9);
        assert_eq!(world("tail", libc::SYS_ppoll, Some(false)).check(check).findings.len(), 1);
    }

    #[test]
    fn whoever_may_accept_is_silent() {
        let silent = |world: &World| assert_eq!(world.check(check), Outcome::default());
        // A server between two calls, an unknown program that sleeps, a tool in poll() whose imports are not known.
        silent(&world("server", libc::SYS_clock_nanosleep, Some(true)));
        silent(&world("server", libc::SYS_clock_nanosleep, None));
        silent(&world("busybox", libc::SYS_ppoll, None));
        silent(&world("systemd", libc::SYS_clock_nanosleep, Some(false)));
        // The server lives beside its helper; a service manager holds the listener too.
        for comm in ["server", "systemd"] {
            let mut both = world("sleep", libc::SYS_clock_nanosleep, Some(false));
            both.hold(10, comm, 3, 80 << 16);
            inspect(&mut both, 10, comm, libc::SYS_accept4, Some(true));
            silent(&both);
        }
        // A handler on a connection, and threads.
        let mut handler = world("cat", libc::SYS_read, Some(false));
        let connection = row(State::Established, "10.0.0.1:80", "10.0.0.9:40000");
        let inode = connection.inode;
        handler.add(connection).hold(900, "cat", 0, inode);
        silent(&handler);
        let mut threads = world("sleep", libc::SYS_clock_nanosleep, Some(false));
        threads.now.processes.get_mut(&900).unwrap().threads = Some(2);
        silent(&threads);
    }

    #[test]
    fn what_just_began_is_looked_at_again() {
        let mut young = world("sleep", libc::SYS_clock_nanosleep, Some(false));
        young.now.processes.get_mut(&900).unwrap().running_ms = Some(SETTLED_MS - 1);
        let outcome = young.check(check);
        assert!(outcome.findings.is_empty() && outcome.wants_second.is_some(), "{outcome:?}");
        assert_eq!(young.later(1000).check(check), Outcome::default());
    }

    #[test]
    fn a_process_that_cannot_be_read_may_be_the_server() {
        let mut world = world("sleep", libc::SYS_clock_nanosleep, Some(false));
        world.now.owners.unreadable = 1;
        assert!(world.check(check).not_checked.is_some());
        // Of a server that is seen it is none.
        let connection = row(State::Established, "10.0.0.1:80", "10.0.0.9:40000");
        let inode = connection.inode;
        world.add(connection).hold(900, "server", 4, inode);
        world.now.owners.unreadable = 1;
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn holders_are_inspected_first() {
        let mut world = world("sleep", libc::SYS_clock_nanosleep, Some(false));
        world.now.processes.get_mut(&900).unwrap().inspection = None;
        let outcome = world.check(check);
        assert_eq!((outcome.findings.len(), &outcome.asked.pids[..]), (0, &[900][..]));
    }
}
