//! Who should accept on a listener: a server, its workers, or a program that starts one.
//!
//! Comes in: listeners and who holds them. Goes out: their [`Owner`], what keeps him from accepting, in words, and what a
//! finding says of him. Never here: what waits to be accepted (`queues`), or judgement.

use rustc_hash::FxHashSet;

use crate::diagnose::descriptors;
use crate::diagnose::finding::{Evidence, Finding, Subject};
use crate::diagnose::queues::Queue;
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class, WaitState};
use crate::model::{Endpoint, NetnsId, Process, Socket};
use crate::text;

/// Why an owner does not run.
pub const STOPPED: &str = "stopped by a signal (state T)";
pub const DEBUGGED: &str = "stopped by a debugger (state t)";
pub const IN_KERNEL: &str = "stuck in the kernel (state D)";
pub const FROZEN: &str = "frozen by its control group (docker pause, systemctl freeze)";

/// Programs that hold a listener so that nobody else takes its port, and never accept: NAT leads clients elsewhere.
const RESERVERS: [&str; 1] = ["conmon"];
/// Docker's daemon does the same without its userland proxy. It listens for itself too.
pub const DOCKER: &str = "dockerd";
/// The usual ports of its API, of the managers and the nodes of a swarm, of its metrics.
const DOCKER_PORTS: [u16; 5] = [2375, 2376, 2377, 7946, 9323];

/// Programs that hold a listener for somebody else until he is started.
const ACTIVATORS: [&str; 4] = ["systemd", "inetd", "xinetd", "launchd"];

/// Who should accept on a listener.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    pub process: &'a Process,
    /// Every process that serves it, sorted: those seen to accept on it, else all but the masters that forked them.
    pub pids: Vec<u32>,
    /// Every process that holds it, sorted: a master of prefork workers too.
    pub holders: Vec<u32>,
    /// Only a program that starts services on demand holds it.
    pub is_activator: bool,
    /// Only a program that reserves the port of a container holds it.
    pub is_reserver: bool,
    /// The same, as far as its name goes: Docker's daemon may reserve it or serve it.
    pub may_reserve: bool,
    /// Why the owner cannot run at all: every server is stopped, traced, or stuck in the kernel.
    pub halted: Option<&'static str>,
    /// The processes among the servers that are stopped by a signal, though others run.
    pub stopped: Vec<u32>,
    /// Descriptors in use and their limit, of the first server, when none has one left: `accept()` fails.
    pub no_descriptors: Option<(u64, u64)>,
}

impl<'a> Owner<'a> {
    /// The owner of some listeners, the process to look at first before the others; `None` when nobody is known.
    #[must_use]
    pub fn of(view: &View<'a>, listeners: &[&Socket]) -> Option<Owner<'a>> {
        let mut holders: Vec<&'a Process> = listeners.iter().flat_map(|l| view.processes(l)).collect();
        holders.sort_by_key(|p| (is_activator(p), p.pid));
        holders.dedup_by_key(|p| p.pid);
        let is_activator = is_activator(holders.first()?);
        // A service manager keeps a copy of the listener; whether it runs says nothing of the service.
        holders.retain(|p| self::is_activator(p) == is_activator);
        let servers = servers(view, listeners, &holders);
        let states: Vec<Option<&'static str>> = servers.iter().map(|p| halted(view, p.pid)).collect();
        // Of several listeners rather the one of whoever is seen not to accept.
        let away = |p: &&Process| does(view, p.pid, listeners).is_some_and(|d| !accepts_now(d.class));
        let unattended = || servers.iter().position(away).filter(|_| listeners.len() > 1);
        let first = states.iter().position(Option::is_some).or_else(unattended).unwrap_or(0);
        let halted = if states.iter().all(Option::is_some) { states[first] } else { None };
        let mut stopped: Vec<u32> =
            servers.iter().zip(&states).filter(|(_, s)| **s == Some(STOPPED)).map(|(p, _)| p.pid).collect();
        stopped.sort_unstable();
        let full: Option<Vec<(u64, u64)>> = servers.iter().map(|p| no_descriptors(view, p.pid)).collect();
        let sorted = |processes: &[&Process]| {
            let mut pids: Vec<u32> = processes.iter().map(|p| p.pid).collect();
            pids.sort_unstable();
            pids
        };
        let is_unwatched = |p: &Process| {
            does(view, p.pid, listeners).is_some_and(|d| matches!(d.class, Class::Forgotten | Class::NotAsked))
        };
        let monitors = |p: &Process| RESERVERS.contains(&p.comm.as_str());
        let published =
            |p: &Process| p.comm == DOCKER && !listeners.iter().any(|l| is_of_daemon(view, p, l.local.port));
        let is_reserver = holders.iter().all(|p| monitors(p) || published(p) && is_unwatched(p));
        let may_reserve = holders.iter().all(|p| monitors(p) || published(p));
        Some(Owner {
            process: servers[first],
            is_reserver,
            may_reserve,
            pids: sorted(&servers),
            holders: sorted(&holders),
            is_activator,
            halted,
            stopped,
            no_descriptors: full.and_then(|f| f.first().copied()),
        })
    }

    /// `server (812)`, `nginx (812 and 7 more)`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.pids.len() {
            0 | 1 => text::name(self.process),
            n => format!("{} ({} and {} more)", self.process.comm, self.process.pid, n - 1),
        }
    }
}

/// Why nobody accepts, in words: what keeps the owner from it if that is known, else what it does (`does not ...`).
#[must_use]
pub fn acts(owner: Option<&Owner<'_>>, otherwise: &str) -> String {
    let who = name(owner);
    match owner {
        Some(Owner { halted: Some(why), .. }) => format!("{who} is {why}"),
        Some(Owner { no_descriptors: Some((used, limit)), .. }) => {
            format!("{who} has no descriptor left ({} in use), so that accept() fails", descriptors::of(*used, *limit))
        }
        Some(Owner { stopped, pids, .. }) if !stopped.is_empty() => {
            let verb = if stopped.len() == 1 { "is" } else { "are" };
            format!("{who} {otherwise}, and {} of these {} {verb} {STOPPED}", stopped.len(), pids.len())
        }
        _ => format!("{who} {otherwise}"),
    }
}

const CONTINUE: &str = "Let it continue: `kill -CONT {pids}`, and find out who stopped it";
const DETACH: &str = "Let the process continue in the debugger, or detach";
const FREE_DESCRIPTORS: &str =
    "See fd-exhaustion for what takes the {limit} descriptors: no backlog and no worker helps before some are free";
/// First steps of every rule on listeners: what keeps the owner from accepting is no matter of the rule.
#[cfg(test)]
pub const FIRST_AID: [&str; 4] = [CONTINUE, DETACH, FREE_DESCRIPTORS, wait_state::THAW];

/// What ends it at once, when what keeps the owner from accepting is known; the first step of a remedy.
#[must_use]
pub fn first_aid(owner: Option<&Owner<'_>>) -> Option<String> {
    let owner = owner?;
    let pids: Vec<String> = owner.stopped.iter().map(ToString::to_string).collect();
    match (owner.halted, owner.no_descriptors) {
        _ if !pids.is_empty() => Some(CONTINUE.replace("{pids}", &pids.join(" "))),
        (Some(FROZEN), _) => Some(wait_state::THAW.to_owned()),
        (Some(DEBUGGED), _) => Some(DETACH.to_owned()),
        (None, Some((_, limit))) => Some(FREE_DESCRIPTORS.replace("{limit}", &limit.to_string())),
        _ => None,
    }
}

/// Those of the holders who serve the listeners: whoever has one in an epoll set or stands in `accept()` on it, as far
/// as that was looked at. That one serves its own listener says nothing of another at which somebody waits.
fn servers<'a>(view: &View<'a>, listeners: &[&Socket], holders: &[&'a Process]) -> Vec<&'a Process> {
    if holders.len() < 2 {
        return holders.to_vec();
    }
    let uses: Vec<_> = holders.iter().map(|p| wait_state::Uses::new(view, p.pid)).collect();
    let attends = |place: usize, l: &Socket| uses[place].as_ref().is_some_and(|uses| uses.of(l) == Some(true));
    let attending: Vec<bool> = (0..holders.len()).map(|p| listeners.iter().any(|l| attends(p, l))).collect();
    let is_nobodys = |l: &&&Socket| l.recv_q_bytes > 0 && !(0..holders.len()).any(|p| attends(p, l));
    let nobodys: Vec<&Socket> = listeners.iter().filter(is_nobodys).copied().collect();
    let has_one = |p: &Process| nobodys.iter().any(|l| view.holding(l).any(|h| h.pid == p.pid));
    let idle = holders.iter().zip(&attending).filter(|(p, attends)| !**attends && has_one(p));
    let idle: Vec<&Process> = idle.map(|(p, _)| *p).collect();
    let absent = if idle.is_empty() { Vec::new() } else { likely_servers(view, &idle) };
    let serves =
        |(p, attends): (&&'a Process, &bool)| (*attends || absent.iter().any(|a| a.pid == p.pid)).then_some(*p);
    if attending.contains(&true) {
        return holders.iter().zip(&attending).filter_map(serves).collect();
    }
    likely_servers(view, holders)
}

/// Of those who are not seen to serve: not who forked others of them to serve, nor another program that merely inherited
/// the listener.
fn likely_servers<'a>(view: &View<'a>, holders: &[&'a Process]) -> Vec<&'a Process> {
    // The holder that started this one, and whether they are one program.
    let parent = |p: &Process| {
        let pid = view.process(p.pid)?.parent?;
        holders.iter().copied().find(|h| h.pid == pid && h.pid != p.pid)
    };
    let heir = |p: &Process| parent(p).is_some_and(|parent| !view.is_same_program(p, parent));
    let family: Vec<&Process> = holders.iter().copied().filter(|p| !heir(p)).collect();
    let masters: FxHashSet<u32> = family.iter().filter_map(|p| parent(p)).map(|p| p.pid).collect();
    let workers: Vec<&Process> = family.iter().copied().filter(|p| !masters.contains(&p.pid)).collect();
    [workers, family].into_iter().find(|some| !some.is_empty()).unwrap_or_else(|| holders.to_vec())
}

/// Whether it waits for a connection at this moment, in `accept()` or in the `epoll_wait()` of the listener.
fn accepts_now(class: Class) -> bool {
    matches!(class, Class::InCall | Class::LoopIgnores)
}

/// The listeners of a queue that those who wait may stand at. With `SO_REUSEPORT` each worker has a queue of its own, and no
/// row tells which: only one with a queue, rather one that had it before, and rather one at which nobody waits to accept.
#[must_use]
pub fn standing<'s>(view: &View<'_>, queue: &Queue<'s>) -> Vec<&'s Socket> {
    let queues = |row: &Socket| row.recv_q_bytes > 0;
    let stuck: Vec<&Socket> = queue.listeners.iter().copied().filter(|l| queues(l)).collect();
    let stood: Vec<&Socket> = stuck.iter().copied().filter(|l| view.earlier(l).is_some_and(queues)).collect();
    let waits_at =
        |l: &&Socket| view.holding(l).any(|p| does(view, p.pid, &[*l]).is_some_and(|doing| accepts_now(doing.class)));
    let unattended: Vec<&Socket> =
        if stood.len() > 1 { stood.iter().copied().filter(|l| !waits_at(l)).collect() } else { Vec::new() };
    [unattended, stood, stuck].into_iter().find(|some| !some.is_empty()).unwrap_or_else(|| queue.listeners.clone())
}

/// Descriptors in use and the soft limit of a process that has none left.
fn no_descriptors(view: &View<'_>, pid: u32) -> Option<(u64, u64)> {
    let facts = view.process(pid)?;
    facts.fd_used.zip(facts.fd_soft).filter(|(used, soft)| used >= soft)
}

/// Whether a port is one of the docker daemon's own: of its API (also where `-H` says), of its swarm.
fn is_of_daemon(view: &View<'_>, process: &Process, port: u16) -> bool {
    let option = format!(":{port}");
    let is_named = |word: &str| word.contains("tcp://") && word.ends_with(&option);
    DOCKER_PORTS.contains(&port) || view.process(process.pid).is_some_and(|f| f.cmdline.iter().any(|w| is_named(w)))
}

/// Whether it is a program that holds listeners for what it starts.
#[must_use]
pub fn is_activator(process: &Process) -> bool {
    ACTIVATORS.contains(&process.comm.as_str())
}

/// Why a process cannot run: its control group, else the letter of its state.
fn halted(view: &View<'_>, pid: u32) -> Option<&'static str> {
    let facts = view.process(pid)?;
    if wait_state::is_frozen(facts) {
        return Some(FROZEN);
    }
    match facts.state? {
        'T' => Some(STOPPED),
        't' => Some(DEBUGGED),
        // Any disk access passes through D: only one that lasts means something.
        'D' if view.before.is_none_or(|b| b.processes.get(&pid).is_some_and(|p| p.state == Some('D'))) => {
            Some(IN_KERNEL)
        }
        _ => None,
    }
}

/// The owner's name, or words for nobody in particular.
#[must_use]
pub fn name(owner: Option<&Owner<'_>>) -> String {
    owner.map_or_else(|| "its owner".to_owned(), Owner::name)
}

/// A subject that names the listener and whoever should accept on it.
#[must_use]
pub fn subject(view: &View<'_>, owner: Option<&Owner<'_>>, netns: Option<NetnsId>, listener: Endpoint) -> Subject {
    let bare = || Subject { netns, ..Subject::default() };
    let named = owner.map_or_else(bare, |o| view.subject_of(o.process, netns));
    // A master is concerned too: it starts the workers, and what it holds keeps the queue alive.
    let pids = owner.map(|o| o.holders.clone()).filter(|p| p.len() > 1).unwrap_or_default();
    Subject { listener: Some(listener), pids, ..named }
}

/// The state letters of the owners, when they are known: `T`, or `S 7, T 1` of several.
#[must_use]
pub fn owner_states(view: &View<'_>, owner: &Owner<'_>) -> Evidence {
    let mut letters: std::collections::BTreeMap<char, usize> = std::collections::BTreeMap::new();
    for state in owner.pids.iter().filter_map(|pid| view.process(*pid)?.state) {
        *letters.entry(state).or_default() += 1;
    }
    match letters.len() {
        0 => Evidence::Unknown,
        1 => Evidence::Text(letters.keys().collect()),
        _ => Evidence::Text(letters.iter().map(|(s, n)| format!("{s} {n}")).collect::<Vec<_>>().join(", ")),
    }
}

/// Holders of a listener that are inspected: a pool is alike beyond these.
pub const MOST_INSPECTED: usize = 32;

fn held_by<'s>(view: &View<'_>, pid: u32, listeners: &[&'s Socket]) -> Vec<&'s Socket> {
    listeners.iter().copied().filter(|l| view.processes(l).iter().any(|p| p.pid == pid)).collect()
}

/// What a server does with the listeners that it holds; `None` when it was not inspected and is not stopped. A worker has
/// the listeners of all others too, as its master made them: what it does with its own counts.
#[must_use]
pub fn does(view: &View<'_>, pid: u32, listeners: &[&Socket]) -> Option<WaitState> {
    let mut theirs = held_by(view, pid, listeners);
    if let Some(uses) = wait_state::Uses::new(view, pid)
        && theirs.iter().any(|l| uses.of(l) == Some(true))
    {
        theirs.retain(|l| uses.of(l) == Some(true));
    }
    // A listener at which nobody waits needs nothing, and whoever waits for events does its duty.
    theirs.retain(|l| l.recv_q_bytes > 0);
    wait_state::doing(view, pid, &theirs)
}

/// Asks for a look at what the holders do with their listeners, and says of the server that the finding names what it
/// does, once they were looked at. To tell a server from the master that forked it takes a look at both.
#[must_use]
pub fn inspect_owners(
    mut finding: Finding,
    view: &View<'_>,
    listeners: &[&Socket],
    owner: Option<&Owner<'_>>,
) -> Finding {
    let Some(owner) = owner else { return finding };
    for pid in owner.holders.iter().take(MOST_INSPECTED) {
        finding = finding.inspect(*pid, &held_by(view, *pid, listeners));
    }
    let does = |pid: u32| does(view, pid, listeners);
    let Some(mut doing) = does(owner.process.pid) else { return finding };
    let all: Vec<Class> = owner.pids.iter().take(MOST_INSPECTED).filter_map(|pid| Some(does(*pid)?.class)).collect();
    if all.len() > 1 {
        let same = all.iter().filter(|class| **class == doing.class).count();
        doing.sentence = format!("{}; the same in {same} of {} processes", doing.sentence, all.len());
    }
    doing.onto(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen};
    use crate::model::Inode;
    use crate::model::snapshot::{EpollWatch, Inspection, ThreadState};

    const INODE: Option<Inode> = Inode::new(80 << 16);

    /// A master (10) and its workers (11, 12, 13), all of which have the listener.
    fn prefork() -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 9, 8));
        for pid in 10..=13 {
            world.hold(pid, "nginx", 6, INODE);
            world.now.processes.get_mut(&pid).unwrap().parent = Some(if pid == 10 { 1 } else { 10 });
        }
        world
    }

    fn inspect(world: &mut World, pid: u32, call: libc::c_long, watches: bool) {
        let thread = ThreadState {
            tid: pid,
            name: "nginx".into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(call).ok(),
            syscall_arg0: Some(8),
        };
        let watch = EpollWatch { epoll_fd: 8, target_fd: 6, inode: INODE, events: 1 };
        world.now.processes.get_mut(&pid).unwrap().inspection = Some(Inspection {
            epoll_sets: u32::from(watches),
            watches: if watches { vec![watch] } else { Vec::new() },
            threads: vec![thread],
            ..Inspection::default()
        });
    }

    fn owner(world: &World, see: impl Fn(Owner<'_>)) {
        let view = View::new(&world.now, None, &world.thresholds);
        see(Owner::of(&view, &[&world.now.sockets[0]]).unwrap());
    }

    #[test]
    fn the_workers_serve_and_not_the_master_that_forked_them() {
        let world = prefork();
        owner(&world, |o| {
            assert_eq!((o.process.pid, &o.pids[..], &o.holders[..]), (11, &[11, 12, 13][..], &[10, 11, 12, 13][..]));
            assert_eq!(o.name(), "nginx (11 and 2 more)");
        });
        // What a server starts and forgets to close the listener for does not serve.
        let mut inherited = World::new();
        inherited.add(listen("0.0.0.0:80", 9, 8)).hold(10, "server", 6, INODE).hold(11, "sleep", 6, INODE);
        inherited.now.processes.get_mut(&11).unwrap().parent = Some(10);
        owner(&inherited, |o| assert_eq!((o.process.pid, &o.pids[..]), (10, &[10][..])));
    }

    #[test]
    fn whoever_watches_a_listener_serves_it() {
        let mut world = prefork();
        inspect(&mut world, 10, libc::SYS_rt_sigsuspend, false);
        inspect(&mut world, 11, libc::SYS_epoll_wait, false);
        inspect(&mut world, 12, libc::SYS_epoll_wait, true);
        inspect(&mut world, 13, libc::SYS_epoll_wait, false);
        owner(&world, |o| assert_eq!((o.process.pid, &o.pids[..], o.halted), (12, &[12][..], None)));
        world.now.processes.get_mut(&12).unwrap().state = Some('T');
        owner(&world, |o| assert_eq!(o.halted, Some("stopped by a signal (state T)")));
    }

    #[test]
    fn whoever_serves_its_own_listener_does_not_serve_that_of_another() {
        let mut world = World::new();
        let mut stuck = listen("0.0.0.0:80", 5, 8);
        (stuck.inode, stuck.cookie) = (Inode::new(77), Some(77));
        world.add(listen("0.0.0.0:80", 1, 8)).add(stuck);
        world.hold(11, "python", 8, INODE).hold(12, "python", 8, 77);
        inspect(&mut world, 11, libc::SYS_accept4, false);
        inspect(&mut world, 12, libc::SYS_futex, false);
        for pid in [11, 12] {
            world.now.processes.get_mut(&pid).unwrap().inspection.as_mut().unwrap().epoll_sets = 0;
        }
        world.later(2000);
        let at = |world: &World, see: &dyn Fn(Owner<'_>, usize)| {
            let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
            let all = &view.queues().all()[0];
            assert_eq!(Owner::of(&view, &all.listeners).unwrap().process.pid, 12);
            let rows = standing(&view, all);
            see(Owner::of(&view, &rows).unwrap(), rows.len());
        };
        at(&world, &|o, n| assert_eq!((o.process.pid, &o.pids[..], n), (12, &[12][..], 1)));
        // Nobody is seen to accept: both are named, as no row tells at which of them it waits.
        inspect(&mut world, 11, libc::SYS_futex, false);
        world.now.processes.get_mut(&11).unwrap().inspection.as_mut().unwrap().epoll_sets = 0;
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        let rows = standing(&view, &view.queues().all()[0]);
        assert_eq!(Owner::of(&view, &rows).unwrap().name(), "python (11 and 1 more)");
        // Only one had a queue before.
        world.before.as_mut().unwrap().sockets[0].recv_q_bytes = 0;
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        let rows = standing(&view, &view.queues().all()[0]);
        assert_eq!(Owner::of(&view, &rows).unwrap().pids, [12]);
    }

    #[test]
    fn what_keeps_all_servers_from_accepting_is_said() {
        let mut world = prefork();
        for pid in 11..=13 {
            world.now.processes.get_mut(&pid).unwrap().fd_used = Some(1024);
        }
        owner(&world, |o| {
            let words = acts(Some(&o), "sleeps");
            assert_eq!(
                words,
                "nginx (11 and 2 more) has no descriptor left (all 1,024 in use), so that accept() fails"
            );
        });
        world.now.processes.get_mut(&13).unwrap().fd_used = Some(20);
        owner(&world, |o| assert_eq!(acts(Some(&o), "sleeps"), "nginx (11 and 2 more) sleeps"));
        // The one that is stopped is named first; that the others run is why the queue is not all its fault.
        world.now.processes.get_mut(&13).unwrap().state = Some('T');
        owner(&world, |o| {
            assert_eq!((o.process.pid, o.halted), (13, None));
            let words = acts(Some(&o), "sleeps");
            assert_eq!(words, "nginx (13 and 2 more) sleeps, and 1 of these 3 is stopped by a signal (state T)");
            assert!(first_aid(Some(&o)).unwrap().contains("kill -CONT 13`"));
        });
        assert_eq!(acts(None, "sleeps"), "its owner sleeps");
    }

    #[test]
    fn the_server_that_is_named_speaks_and_the_others_are_counted() {
        let mut world = prefork();
        inspect(&mut world, 10, libc::SYS_rt_sigsuspend, false);
        for pid in 11..=13 {
            inspect(&mut world, pid, libc::SYS_clock_nanosleep, pid == 13);
        }
        let view = View::new(&world.now, None, &world.thresholds);
        let rows = [&world.now.sockets[0]];
        let holders = view.processes(rows[0]);
        let first = holders.iter().copied().find(|p| p.pid == 11).unwrap();
        let all = Owner { process: first, pids: vec![11, 12, 13], ..Owner::of(&view, &rows).unwrap() };
        let empty = || Finding::new("r", crate::diagnose::Severity::Info, 1.0, "s");
        let finding = inspect_owners(empty(), &view, &rows, Some(&all));
        let asked: Vec<u32> = finding.inspect.iter().map(|(pid, _)| *pid).collect();
        assert_eq!(asked, [10, 11, 12, 13]);
        let said: Vec<&Evidence> = finding.evidence.iter().filter(|(n, _)| *n == "doing").map(|(_, v)| v).collect();
        let [Evidence::Text(said)] = said[..] else { panic!("{finding:?}") };
        assert!(said.ends_with("; the same in 2 of 3 processes") && said.contains("none waits in accept()"), "{said}");
    }
}
