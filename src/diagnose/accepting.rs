//! Why a listener's queue is not emptied: the causes, and what the processes that hold the listener show of each.
//!
//! Input: a view, the listener's queue and who should accept on it. Output: the causes weighed, the words and the first
//! steps for the one that is left. Not here: how bad it is (the rules), and what waits (`queues`).

mod causes;
mod holders;

pub use causes::CAUSES;
pub use holders::{Reach, reach};

use rustc_hash::FxHashMap;

use crate::diagnose::finding::{Evidence, Finding};
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::Queue;
use crate::diagnose::rate::Rate;
use crate::diagnose::threads::{self, syscall_name};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class};
use crate::model::snapshot::{ProcessFacts, ThreadState};
use crate::model::{Endpoint, Process, RowKind, Socket};
use crate::text;

/// A program that accepts fewer connections a second is slow, whatever comes: a loop that does nothing else accepts tens
/// of thousands (policy).
const SLOW_PER_SECOND: f64 = 100.0;

/// What the holders of a listener show.
pub struct Why {
    pub weighed: Weighed,
    /// Who does what, when the cause says it.
    words: Option<String>,
    steps: Vec<String>,
    evidence: Vec<(&'static str, Evidence)>,
}

impl Why {
    /// Why nobody accepts, in words; else what the owner does (`does not ...`).
    #[must_use]
    pub fn acts(&self, owner: Option<&Owner<'_>>, otherwise: &str) -> String {
        self.words.clone().unwrap_or_else(|| listener_owner::acts(owner, otherwise))
    }

    /// Adds causes, evidence and first steps to a finding.
    #[must_use]
    pub fn onto(self, finding: Finding, owner: Option<&Owner<'_>>) -> Finding {
        let finding = self.evidence.into_iter().fold(finding, |f, (name, value)| f.evidence(name, value));
        let finding = finding.causes(self.weighed).first(listener_owner::first_aid(owner));
        self.steps.into_iter().rev().fold(finding, |f, step| f.first(Some(step)))
    }
}

/// End of the helper that inherited a listener, and how not to hand it on.
pub const END_HELPER: &str =
    "End {helper}, which only inherited the listener: until then a restart of the server fails with EADDRINUSE";
pub const CLOSE_ON_EXEC: &str = "Open the listener with SOCK_CLOEXEC in the server, or set FD_CLOEXEC on it before it starts \
                             other programs";
const OTHER_LISTENER: &str = "Give this listener a thread of its own: those in accept() serve {other}";
const RAISE_LIMIT: &str = "Compare the connections that it has with its own limit of connections (maxconn, \
                           worker_connections): past that it stops accepting on purpose";
/// Steps for a cause, before those of a rule.
#[cfg(test)]
pub const STEPS: [&str; 4] = [END_HELPER, CLOSE_ON_EXEC, OTHER_LISTENER, RAISE_LIMIT];

/// The steps that free a listener from a helper that inherited it.
#[must_use]
pub fn end_helper(holders: &[&Process]) -> Vec<String> {
    let names: Vec<String> = holders.iter().map(|p| text::name(p)).collect();
    vec![END_HELPER.replace("{helper}", &names.join(" and ")), CLOSE_ON_EXEC.to_owned()]
}

/// How many connections at least were accepted between the samples: those that wait no more, without those that were
/// reset while they waited, whose places stay taken.
#[must_use]
pub fn taken(view: &View<'_>, queue: &Queue<'_>) -> Option<u64> {
    let before = view.queues_before()?.get(queue.netns, queue.local)?;
    let still =
        |s: &Socket| view.at(s.netns, s.four_tuple()).is_some_and(|now| now.is_unaccepted() && now.cookie == s.cookie);
    let left = before.waiting.iter().filter(|s| !still(s)).count() as u64;
    let dead = |q: &Queue<'_>| q.queued().saturating_sub(q.waiting.len() as u64);
    Some(left.saturating_sub(dead(queue).saturating_sub(dead(before))))
}

/// What is seen of those who should accept.
struct Picture<'a, 'o> {
    owner: &'o Owner<'a>,
    /// What each server that was inspected does with the listener.
    classes: Vec<Class>,
    /// Every thread of the servers that was seen.
    threads: Vec<&'a ThreadState>,
    /// Some server may wait in a way that does not show.
    hidden: bool,
    /// Other listeners in whose `accept()` threads wait.
    elsewhere: Vec<Endpoint>,
    /// Threads that wait there.
    threads_elsewhere: usize,
    /// Accepted connections of this listener by process.
    accepted: FxHashMap<u32, u64>,
    /// Whether a thread stands in a read or write on an accepted connection.
    in_connection: usize,
    taken: Option<u64>,
    interval_ms: Option<u64>,
    reach: Reach,
    /// No control group of the servers is frozen.
    is_thawed: bool,
}

/// Weighs the causes against what the servers of a listener do.
#[must_use]
pub fn why<'a>(view: &View<'a>, owner: Option<&Owner<'a>>, queue: &Queue<'_>, listeners: &[&Socket]) -> Why {
    let nothing = |weighed| Why { weighed, words: None, steps: Vec::new(), evidence: Vec::new() };
    let Some(owner) = owner.filter(|o| !o.is_activator) else { return nothing(Weighed::default()) };
    let picture = picture(view, owner, queue, listeners);
    let inspected = !picture.classes.is_empty();
    let known = owner.halted.is_some() || owner.no_descriptors.is_some() || inspected || picture.taken > Some(0);
    if !known {
        return nothing(Weighed::default());
    }
    let weighed = Weighed::of(CAUSES, |cause| picture.weigh(cause.id));
    let mut why = nothing(weighed);
    if picture.is_halted() {
        // What else it would do if it ran is no matter.
        why.weighed.ruled_out.clear();
    }
    let who = owner.name();
    let others: Vec<String> = picture.elsewhere.iter().map(ToString::to_string).collect();
    why.words = why.weighed.named().and_then(|cause| {
        Some(match cause.id {
            "inherited-listener" => format!("{who} only inherited the listener and never accepts"),
            "accepts-elsewhere" => format!(
                "{} of {who} {} in accept() of {} and none here",
                text::count(picture.threads_elsewhere as u64, "thread", "threads"),
                if picture.threads_elsewhere == 1 { "waits" } else { "wait" },
                others.join(", ")
            ),
            "accept-paused" => format!("{who} does not watch the listener: it is at a limit of its own, or forgot it"),
            "busy-loop" => format!("{who} computes and does not come back to accept()"),
            "loop-stuck" => format!("{who} waits for something else{}", picture.stand()),
            "workers-busy" => format!("every worker of {who} serves a connection"),
            "accepts-too-slow" => {
                let time = text::duration(picture.interval_ms?);
                format!("{who} accepted only {} of those who waited in {time}", text::grouped(picture.taken?))
            }
            _ => return None,
        })
    });
    if let Some(named) = why.weighed.named() {
        why.steps = match named.id {
            "inherited-listener" => {
                let holders: Vec<&Process> = listeners.iter().flat_map(|l| view.processes(l)).collect();
                end_helper(&unique(holders))
            }
            "accepts-elsewhere" => vec![OTHER_LISTENER.replace("{other}", &others.join(", "))],
            "accept-paused" => vec![RAISE_LIMIT.to_owned()],
            _ => Vec::new(),
        };
    }
    if !others.is_empty() {
        why.evidence.push(("accepts_elsewhere", Evidence::List(others)));
    }
    let accepted: u64 = picture.accepted.values().sum();
    why.evidence.push(("accepted_connections", Evidence::Count(accepted)));
    why
}

/// Processes, each once.
#[must_use]
pub fn unique(mut processes: Vec<&Process>) -> Vec<&Process> {
    processes.sort_by_key(|p| p.pid);
    processes.dedup_by_key(|p| p.pid);
    processes
}

fn picture<'a, 'o>(view: &View<'a>, owner: &'o Owner<'a>, queue: &Queue<'_>, listeners: &[&Socket]) -> Picture<'a, 'o> {
    let mut accepted: FxHashMap<u32, u64> = FxHashMap::default();
    let of_queue = view.now.sockets.iter().filter(|s| {
        s.kind == RowKind::Full
            && s.netns == queue.netns
            && s.local.port == queue.local.port
            && s.state.has_peer()
            && s.inode.is_some()
            && !s.is_unaccepted()
    });
    for socket in of_queue {
        for process in view.processes(socket).iter().filter(|p| owner.holders.contains(&p.pid)) {
            *accepted.entry(process.pid).or_default() += 1;
        }
    }
    let mut picture = Picture {
        owner,
        classes: Vec::new(),
        threads: Vec::new(),
        hidden: false,
        elsewhere: Vec::new(),
        threads_elsewhere: 0,
        accepted,
        in_connection: 0,
        // What waits is not known by listener: that others of the port accept says nothing of these.
        taken: if listeners.len() < queue.listeners.len() { None } else { taken(view, queue) },
        interval_ms: view.interval_ms(),
        reach: reach(view, listeners, &unique(listeners.iter().flat_map(|l| view.processes(l)).collect())),
        is_thawed: owner.pids.iter().all(|pid| view.process(*pid).is_some_and(is_thawed)),
    };
    for pid in owner.pids.iter().take(listener_owner::MOST_INSPECTED) {
        let Some(inspection) = view.process(*pid).and_then(|f| f.inspection.as_ref()) else { continue };
        picture.classes.extend(listener_owner::does(view, *pid, listeners).map(|doing| doing.class));
        picture.threads.extend(&inspection.threads);
        picture.hidden |= inspection.io_urings > 0 || inspection.threads_not_read > 0;
        for thread in &inspection.threads {
            picture.place(view, *pid, thread, listeners);
        }
    }
    picture.elsewhere.sort_unstable();
    picture.elsewhere.dedup();
    picture
}

/// Whether no freezer holds a process: its control group says so, or a thread sleeps in another place.
fn is_thawed(facts: &ProcessFacts) -> bool {
    let sleeps = || facts.inspection.as_ref().is_some_and(|i| i.threads.iter().any(|t| t.wchan.is_some()));
    !wait_state::is_frozen(facts) && (facts.frozen == Some(false) || sleeps())
}

impl Picture<'_, '_> {
    /// Notes in which socket's call a thread stands.
    fn place(&mut self, view: &View<'_>, pid: u32, thread: &ThreadState, listeners: &[&Socket]) {
        let Some(call) = thread.syscall.and_then(syscall_name) else { return };
        let accepts = call.starts_with("accept");
        let on_socket = accepts || ["read", "recv", "write", "send"].iter().any(|verb| call.starts_with(verb));
        let Some(fd) = thread.syscall_arg0.filter(|_| on_socket) else { return };
        let owners = &view.now.owners;
        let held = owners.all_holders().iter().find(|h| u64::from(h.fd) == fd && owners.process(h).pid == pid);
        let Some(inode) = held.and_then(|h| h.inode) else { return };
        let Some(socket) = view.now.sockets.iter().find(|s| s.inode == Some(inode)) else { return };
        if accepts && !listeners.iter().any(|l| l.inode == socket.inode) {
            self.threads_elsewhere += 1;
            self.elsewhere.push(socket.local);
        } else if !accepts && listeners.iter().any(|l| l.local.port == socket.local.port) {
            self.in_connection += 1;
        }
    }

    /// Where the threads stand, when that is one call: ` (in clock_nanosleep)`.
    fn stand(&self) -> String {
        let mut calls: Vec<&str> = self.threads.iter().filter_map(|t| t.syscall.and_then(syscall_name)).collect();
        calls.sort_unstable();
        calls.dedup();
        match calls[..] {
            [one] => format!(" (in {one})"),
            _ => String::new(),
        }
    }

    fn all(&self, wanted: &[Class]) -> bool {
        !self.classes.is_empty() && self.classes.iter().all(|class| wanted.contains(class))
    }

    fn any(&self, wanted: &[Class]) -> bool {
        self.classes.iter().any(|class| wanted.contains(class))
    }

    fn runs(&self) -> bool {
        self.threads.iter().any(|t| t.state == Some('R') && t.syscall.is_none())
    }

    /// The thread that runs the loop, in most programs the first one, is at work in the program itself.
    fn main_runs(&self) -> bool {
        let runs = |t: &&&ThreadState| t.state == Some('R') && t.syscall.is_none();
        self.threads.iter().filter(runs).any(|t| self.owner.pids.contains(&t.tid))
    }

    /// Each server has a connection and none of them can take another one.
    fn workers_busy(&self) -> bool {
        let each_has_one = self.owner.pids.iter().all(|pid| self.accepted.get(pid).is_some_and(|n| *n > 0));
        let several = self.owner.pids.len() > 1 && each_has_one;
        let serves =
            each_has_one && self.in_connection >= self.owner.pids.len() && self.threads.len() == self.in_connection;
        (several || serves) && self.all(&[Class::NoEpoll])
    }

    fn is_halted(&self) -> bool {
        self.owner.halted.is_some()
    }

    fn weigh(&self, id: &str) -> Weight {
        let refuted = |why: &str| Weight::Refuted(why.to_owned());
        match id {
            "frozen" | "stopped" | "stuck-in-kernel" => self.weigh_halt(id),
            _ if self.is_halted() => refuted("it does not run at all"),
            "out-of-descriptors" if self.owner.no_descriptors.is_some() => Weight::Proven,
            "out-of-descriptors" => refuted("descriptors are free"),
            _ if self.owner.no_descriptors.is_some() => refuted("accept() fails without a free descriptor"),
            "inherited-listener" => match self.reach {
                Reach::CannotAccept | Reach::IsTool => Weight::Proven,
                _ if self.accepted.values().any(|n| *n > 0) => refuted("it has accepted connections"),
                _ if self.any(&[Class::InCall, Class::LoopStuck, Class::LoopIgnores]) || self.taken > Some(0) => {
                    refuted("it watches the listener")
                }
                _ => Weight::Possible(0.1),
            },
            "accepts-elsewhere" if self.threads_elsewhere > 0 && !self.any(&[Class::InCall]) && !self.watches() => {
                Weight::Proven
            }
            "accepts-elsewhere" => refuted("no thread waits in accept() of another listener, or one does here"),
            "accept-paused" => self.weigh_paused(),
            "busy-loop" if !self.runs() => refuted("no thread runs"),
            "busy-loop" if self.taken.is_none_or(|n| n == 0) && self.main_runs() => Weight::Proven,
            "busy-loop" => Weight::Possible(0.3),
            "workers-busy" if self.workers_busy() => Weight::Proven,
            "workers-busy" if self.accepted.is_empty() => refuted("it holds no accepted connection"),
            "workers-busy" if self.all(&[Class::NoEpoll]) => Weight::Possible(0.3),
            "workers-busy" => refuted("an event loop serves several connections"),
            "loop-stuck" => self.weigh_stuck(),
            "accepts-too-slow" => self.weigh_slow(),
            "arrivals-too-fast" => match self.rate() {
                Some(rate) if rate > SLOW_PER_SECOND => Weight::Possible(0.6),
                Some(_) => refuted("few were accepted, and a loop that only accepts takes thousands a second"),
                None if self.taken == Some(0) => refuted("none was accepted"),
                None => Weight::Possible(0.1),
            },
            _ => refuted("not seen"),
        }
    }

    fn weigh_halt(&self, id: &str) -> Weight {
        let words = match id {
            "frozen" => [listener_owner::FROZEN, listener_owner::FROZEN],
            "stopped" => [listener_owner::STOPPED, listener_owner::DEBUGGED],
            _ => [listener_owner::IN_KERNEL, listener_owner::IN_KERNEL],
        };
        match self.owner.halted {
            Some(halted) if words.contains(&halted) => Weight::Proven,
            Some(halted) => Weight::Refuted(format!("it is {halted}")),
            // Asked of inspected processes only, and not where version 2 of control groups is not seen.
            None if id == "frozen" && !self.is_thawed && !self.runs() && self.taken.is_none_or(|n| n == 0) => {
                Weight::Possible(0.1)
            }
            None => Weight::Refuted("it runs".to_owned()),
        }
    }

    /// Whether an epoll set would report the listener.
    fn watches(&self) -> bool {
        self.any(&[Class::LoopStuck, Class::LoopIgnores, Class::EdgeNotDrained])
    }

    fn weigh_paused(&self) -> Weight {
        let out = [Class::Forgotten, Class::ReadingOff, Class::OneShotSpent];
        if !self.any(&out) {
            return Weight::Refuted("the listener is armed, or there is no event loop".to_owned());
        }
        let sure =
            self.all(&out) && !self.hidden && self.threads_elsewhere == 0 && (self.turns() || self.all(&out[1..]));
        if sure { Weight::Proven } else { Weight::Possible(0.5) }
    }

    /// The event loop turns: a thread waits for events, and no other stands where an accept loop would be blocked.
    fn turns(&self) -> bool {
        let idle = |t: &&ThreadState| threads::is_epoll_wait(t) || t.syscall.and_then(syscall_name) == Some("futex");
        self.threads.iter().any(|t| threads::is_epoll_wait(t)) && self.threads.iter().all(idle)
    }

    fn weigh_stuck(&self) -> Weight {
        if self.workers_busy() {
            return Weight::Refuted("each worker serves a connection".to_owned());
        }
        if self.main_runs() {
            return Weight::Refuted("its thread runs".to_owned());
        }
        if self.rate().is_some() && !self.any(&[Class::LoopStuck]) {
            return Weight::Refuted("it did accept meanwhile".to_owned());
        }
        if self.all(&[Class::LoopStuck]) && !self.runs() {
            return Weight::Proven;
        }
        if self.any(&[Class::NoEpoll, Class::LoopStuck, Class::Forgotten]) {
            Weight::Possible(0.6)
        } else {
            Weight::Refuted("a thread waits for the listener".to_owned())
        }
    }

    fn rate(&self) -> Option<f64> {
        Some(Rate::of(self.taken?, self.interval_ms?)?.per_second())
    }

    fn weigh_slow(&self) -> Weight {
        match self.rate() {
            _ if self.workers_busy() => Weight::Refuted("each worker serves a connection".to_owned()),
            _ if self.all(&[Class::LoopStuck]) && !self.runs() => {
                Weight::Refuted("its loop waits for something else".to_owned())
            }
            Some(rate) if rate <= SLOW_PER_SECOND => Weight::Proven,
            Some(_) => Weight::Possible(0.4),
            None if self.taken == Some(0) => Weight::Refuted("none was accepted".to_owned()),
            None => Weight::Possible(0.2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};
    use crate::model::snapshot::{EpollWatch, Inspection};
    use crate::model::{Inode, State};

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
    }

    fn accepted(world: &mut World, pid: u32, client: u16) {
        let connection = row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{client}"));
        let inode = connection.inode;
        world.add(connection).hold(pid, "server", 9, inode);
    }

    fn judged(world: &World, see: impl Fn(Why, &Owner<'_>)) {
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
        // A set for something else, and the thread that accepts blocked elsewhere: two causes are left.
        let mut blocked = world();
        blocked.later(2000);
        inspect(&mut blocked, 10, None, 1, sleeps());
        assert!(left(&blocked).len() > 1, "{:?}", left(&blocked));
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
            assert!(finding.remedy[0].starts_with("Thaw"), "{finding:?}");
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

    #[test]
    fn workers_are_busy_when_each_has_a_connection() {
        let mut world = world();
        world.hold(11, "server", 6, LISTENER);
        world.later(2000);
        for pid in [10, 11] {
            inspect(&mut world, pid, None, 0, vec![thread(pid, 'S', Some(libc::SYS_clock_nanosleep), 0)]);
        }
        accepted(&mut world, 10, 50_000);
        assert!(!left(&world).contains(&"workers-busy") || left(&world).len() > 1, "one has none");
        accepted(&mut world, 11, 50_001);
        assert_eq!(left(&world), ["workers-busy"]);
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
}
