//! What the owner is doing with a socket: whether anything would tell it that the socket needs attention, and where
//! its threads stand meanwhile.
//!
//! Input: a view whose process was inspected, and sockets that need attention (unread bytes, an unread end of stream, a
//! queue to accept from). Output: one [`WaitState`], the class of the bug. Where the kernel shows nothing, nothing is
//! said: a set that is given to `poll` or `select` is not visible from outside.

use rustc_hash::FxHashMap;

use crate::diagnose::finding::{Evidence, Finding};
use crate::diagnose::threads::{self, called_descriptor, is_poll, stand, stands};
use crate::diagnose::view::View;
pub use crate::diagnose::wait_class::Class;
use crate::diagnose::wait_class::registration;
use crate::model::snapshot::{EpollWatch, Inspection, ProcessFacts, ThreadState};
use crate::model::{Inode, OwnerTable, Socket, State};
use crate::text;

/// What a process is doing with some of its sockets.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitState {
    pub class: Class,
    /// One sentence without a full stop, about the sockets: `12 of 12 are not in any of its 2 epoll sets, ...`.
    pub sentence: String,
    pub evidence: Vec<(&'static str, Evidence)>,
    /// Of the class, 0 to 1.
    pub confidence: f64,
}

impl WaitState {
    /// Adds the sentence and its evidence to a finding.
    #[must_use]
    pub fn onto(self, finding: Finding) -> Finding {
        let finding = finding.evidence("doing", Evidence::Text(self.sentence));
        self.evidence.into_iter().fold(finding, |f, (name, value)| f.evidence(name, value))
    }
}

/// Says what a process does with its sockets, all of which need its attention. `None` when the process was not, or
/// could not be, inspected, and is not stopped either.
#[must_use]
pub fn doing(view: &View<'_>, pid: u32, sockets: &[&Socket]) -> Option<WaitState> {
    let facts = view.process(pid)?;
    if let Some(stopped) = stopped(facts) {
        return Some(stopped);
    }
    if is_frozen(facts) {
        return Some(frozen(facts));
    }
    let inspection = facts.inspection.as_ref()?;
    if sockets.is_empty() {
        return None;
    }
    if let Some(asleep) = uninterruptible(inspection) {
        return Some(asleep);
    }
    let registered = Registered::new(view, pid, inspection);
    let mut counts: FxHashMap<Class, usize> = FxHashMap::default();
    let mut sets = Vec::new();
    for socket in sockets {
        let class = registered.class(socket, &mut sets);
        *counts.entry(class).or_default() += 1;
    }
    sets.sort_unstable();
    sets.dedup();
    // The armed ones are told apart by whether the loop turns, which is a question about the sets, not the sockets.
    if let Some(armed) = counts.remove(&Class::LoopStuck) {
        let class = if registered.waits_on(&sets) { Class::LoopIgnores } else { Class::LoopStuck };
        counts.insert(class, armed);
    }
    let mut ranked: Vec<(Class, usize)> = counts.into_iter().collect();
    ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let (mut class, n) = *ranked.first()?;
    // The runtime of Go registers every socket so: the mask says nothing of how the program reads.
    if class == Class::EdgeNotDrained && facts.is_go == Some(true) {
        class = Class::NotAsked;
    }
    let (mut sentence, mut confidence) = registered.verdict(class, n, sockets);
    if class == Class::Forgotten
        && let Some(other) = watched_by_another(view, pid, sockets)
    {
        sentence = format!("{sentence}; process {other} holds the same socket and may serve it");
        confidence = 0.4;
    }
    let mut evidence = vec![("doing_class", Evidence::Text(class.key().into()))];
    if ranked.len() > 1 {
        let all = ranked.iter().map(|(c, n)| format!("{n} {}", c.key())).collect();
        evidence.push(("doing_classes", Evidence::List(all)));
    }
    evidence.push(("epoll_sets", Evidence::Count(inspection.epoll_sets.into())));
    if inspection.io_urings > 0 {
        evidence.push(("io_urings", Evidence::Count(inspection.io_urings.into())));
    }
    evidence.push(("threads", Evidence::List(stands(inspection))));
    Some(WaitState { class, sentence, evidence, confidence })
}

/// Whether a process does something with sockets that it holds; made once for all sockets of a process.
pub struct Uses<'a> {
    registered: Registered<'a>,
    /// A thread waits in a way that does not show for what.
    hidden: bool,
}

impl<'a> Uses<'a> {
    /// `None` when the process was not inspected.
    #[must_use]
    pub fn new(view: &View<'a>, pid: u32) -> Option<Uses<'a>> {
        let inspection = view.process(pid)?.inspection.as_ref()?;
        let threads = &inspection.threads;
        let hidden = inspection.io_urings > 0
            || inspection.threads_not_read > 0
            || threads.is_empty()
            || threads.iter().any(|t| t.syscall.is_none() || is_poll(t));
        Some(Uses { registered: Registered::new(view, pid, inspection), hidden })
    }

    /// `Some(true)` when the socket is in an epoll set of the process or a thread stands in a call on it, `Some(false)`
    /// when neither is so and nothing could hide it, `None` when it cannot be told.
    #[must_use]
    pub fn of(&self, socket: &Socket) -> Option<bool> {
        match self.registered.class(socket, &mut Vec::new()) {
            Class::Forgotten | Class::NoEpoll if self.hidden => None,
            Class::Forgotten | Class::NoEpoll => Some(false),
            _ => Some(true),
        }
    }
}

/// How many threads of a process wait in a call on one of these sockets, and of how many; `None` when it was not inspected.
#[must_use]
pub fn in_calls(view: &View<'_>, pid: u32, sockets: &[&Socket]) -> Option<(usize, usize)> {
    let inspection = view.process(pid)?.inspection.as_ref()?;
    Some((calls_on(view, pid, inspection, sockets).count(), inspection.threads.len()))
}

/// The socket on which a thread of a process stands in a call.
#[must_use]
pub fn called_socket<'a>(view: &View<'a>, pid: u32, thread: &ThreadState) -> Option<&'a Socket> {
    let (fd, owners) = (called_descriptor(thread)?, &view.now.owners);
    let held = owners.all_holders().iter().find(|h| h.fd == fd && owners.process(h).pid == pid)?;
    let inode = held.inode?;
    view.now.sockets.iter().find(|s| s.inode == Some(inode))
}

/// How many of them wait to write.
#[must_use]
pub fn in_writes(view: &View<'_>, pid: u32, sockets: &[&Socket]) -> Option<usize> {
    let inspection = view.process(pid)?.inspection.as_ref()?;
    Some(calls_on(view, pid, inspection, sockets).filter(|t| threads::writes(t)).count())
}

fn calls_on<'a>(
    view: &View<'a>,
    pid: u32,
    inspection: &'a Inspection,
    sockets: &[&Socket],
) -> impl Iterator<Item = &'a ThreadState> {
    let registered = Registered::new(view, pid, inspection);
    let fds: Vec<u32> = sockets.iter().flat_map(|s| registered.fds(s)).collect();
    let waits = move |t: &&ThreadState| called_descriptor(t).is_some_and(|fd| fds.contains(&fd));
    inspection.threads.iter().filter(waits)
}

/// Another holder of one of the sockets that has it in an epoll set, or was not inspected.
fn watched_by_another(view: &View<'_>, pid: u32, sockets: &[&Socket]) -> Option<u32> {
    let owners = &view.now.owners;
    sockets.iter().find_map(|socket| {
        let others = view.owners(socket).1.iter().map(|h| owners.process(h).pid).filter(|p| *p != pid);
        others.into_iter().find(|other| {
            let inspection = view.process(*other).and_then(|f| f.inspection.as_ref());
            inspection.is_none_or(|i| i.watches.iter().any(|w| w.inode == socket.inode))
        })
    })
}

fn stopped(facts: &ProcessFacts) -> Option<WaitState> {
    let threads = facts.inspection.as_ref().map_or(&[][..], |i| &i.threads);
    let all = |letter: char| !threads.is_empty() && threads.iter().all(|t| t.state == Some(letter));
    let (letter, sentence) = if facts.state == Some('t') || all('t') {
        ('t', "a debugger has stopped the process: it does nothing at all until it is let go")
    } else if facts.state == Some('T') || all('T') {
        ('T', "the process is stopped (SIGSTOP): it does nothing at all until it gets SIGCONT")
    } else {
        return None;
    };
    let evidence = vec![
        ("doing_class", Evidence::Text(Class::Stopped.key().into())),
        ("process_state", Evidence::Text(letter.to_string())),
    ];
    Some(WaitState { class: Class::Stopped, sentence: sentence.into(), evidence, confidence: 0.97 })
}

/// What ends it when the class is [`Class::Frozen`].
pub const THAW: &str = "Thaw its control group: docker unpause, systemctl thaw, or write 0 to cgroup.freeze";

/// Whether the freezer holds the process: its control group says so, or every thread waits in the freezer of version 1.
#[must_use]
pub fn is_frozen(facts: &ProcessFacts) -> bool {
    facts.frozen == Some(true) || facts.inspection.as_ref().is_some_and(threads::all_in_freezer)
}

fn frozen(facts: &ProcessFacts) -> WaitState {
    let sentence = "its control group is frozen (docker pause, systemctl freeze): it does nothing at all until it is \
                    thawed";
    let mut evidence = vec![("doing_class", Evidence::Text(Class::Frozen.key().into()))];
    evidence.extend(facts.state.map(|letter| ("process_state", Evidence::Text(letter.to_string()))));
    WaitState { class: Class::Frozen, sentence: sentence.into(), evidence, confidence: 0.97 }
}

fn uninterruptible(inspection: &Inspection) -> Option<WaitState> {
    let threads = &inspection.threads;
    if threads.is_empty() || threads.iter().any(|t| t.state != Some('D')) {
        return None;
    }
    let evidence = vec![
        ("doing_class", Evidence::Text(Class::Uninterruptible.key().into())),
        ("threads", Evidence::List(stands(inspection))),
    ];
    Some(WaitState {
        class: Class::Uninterruptible,
        sentence: "every thread is in uninterruptible sleep (state D): it waits for a disk or a network file system"
            .into(),
        evidence,
        // One look: a disk access of a millisecond looks the same.
        confidence: 0.7,
    })
}

/// The inspection, indexed.
struct Registered<'a> {
    inspection: &'a Inspection,
    by_inode: FxHashMap<Inode, Vec<&'a EpollWatch>>,
    /// Registrations without an inode (Linux before 4.14): only the number of the descriptor is known.
    by_fd: FxHashMap<u32, Vec<&'a EpollWatch>>,
    /// Whether the sets watch any socket at all.
    watches_sockets: bool,
    /// Threads that stand in a call on a descriptor, by its number.
    calls: FxHashMap<u32, &'a ThreadState>,
    owners: &'a OwnerTable,
    pid: u32,
}

impl<'a> Registered<'a> {
    fn new(view: &View<'a>, pid: u32, inspection: &'a Inspection) -> Registered<'a> {
        let owners = &view.now.owners;
        let mut by_inode: FxHashMap<Inode, Vec<&EpollWatch>> = FxHashMap::default();
        let mut by_fd: FxHashMap<u32, Vec<&EpollWatch>> = FxHashMap::default();
        let mut watches_sockets = false;
        for watch in &inspection.watches {
            match watch.inode {
                // The file is what epoll knows; its number in the table may since be another's, or none (`dup`).
                Some(inode) => {
                    watches_sockets |= !owners.holders(Some(inode)).is_empty();
                    by_inode.entry(inode).or_default().push(watch);
                }
                None => by_fd.entry(watch.target_fd).or_default().push(watch),
            }
        }
        let calls = inspection.threads.iter().filter_map(|t| Some((called_descriptor(t)?, t))).collect();
        Registered { inspection, by_inode, by_fd, watches_sockets, calls, owners, pid }
    }

    /// The numbers under which the process has the socket.
    fn fds(&self, socket: &Socket) -> impl Iterator<Item = u32> {
        let holders = self.owners.holders(socket.inode).iter();
        holders.filter(|h| self.owners.process(h).pid == self.pid).map(|h| h.fd)
    }

    /// The class of one socket, and the sets in which it is armed. "Armed" comes back as [`Class::LoopStuck`].
    fn class(&self, socket: &Socket, sets: &mut Vec<u32>) -> Class {
        if self.fds(socket).any(|fd| self.calls.contains_key(&fd)) {
            return Class::InCall;
        }
        if self.inspection.epoll_sets == 0 {
            return Class::NoEpoll;
        }
        let numbered = self.fds(socket).filter_map(|fd| self.by_fd.get(&fd)).flatten();
        let watches = socket.inode.and_then(|inode| self.by_inode.get(&inode)).into_iter().flatten().chain(numbered);
        // The livelier registration decides: one set that would report it is enough.
        let mut best = None;
        for watch in watches {
            let class = registration(watch.events, socket);
            if class == Class::LoopStuck {
                sets.push(watch.epoll_fd);
            }
            best = Some(best.map_or(class, |b: Class| b.min(class)));
        }
        best.unwrap_or(Class::Forgotten)
    }

    /// Whether a thread waits on one of these sets.
    fn waits_on(&self, sets: &[u32]) -> bool {
        self.inspection.threads.iter().any(|t| {
            threads::is_epoll_wait(t)
                && t.syscall_arg0.and_then(|a| u32::try_from(a).ok()).is_some_and(|a| sets.binary_search(&a).is_ok())
        })
    }

    fn verdict(&self, class: Class, n: usize, sockets: &[&Socket]) -> (String, f64) {
        let inspection = self.inspection;
        let of = if sockets.len() == 1 {
            "it is".to_owned()
        } else {
            format!("{} are", text::of(n as u64, sockets.len() as u64))
        };
        let sets = inspection.epoll_sets;
        let where_threads_stand = stands(inspection).join(", ");
        let numbers_only = if self.by_fd.is_empty() { 0.0 } else { 0.1 };
        let (sentence, confidence) = match class {
            Class::InCall => {
                let mut fds = sockets.iter().flat_map(|s| self.fds(s));
                let thread = fds.find_map(|fd| self.calls.get(&fd)).map_or_else(String::new, |t| stand(t));
                (format!("a thread stands in a system call on the descriptor itself ({thread})"), 0.9)
            }
            Class::Forgotten if inspection.io_urings > 0 => {
                (format!("{of} in none of its {sets} epoll sets, but it also has io_uring, which may serve them"), 0.5)
            }
            Class::Forgotten if sockets.iter().all(|s| s.state == State::Listen) => {
                let sets = if sets == 1 { "its epoll set".into() } else { format!("any of its {sets} epoll sets") };
                (
                    format!(
                        "the listener is not in {sets}, so that nothing tells the program of new connections \
                         ({where_threads_stand})"
                    ),
                    if self.watches_sockets { 0.9 } else { 0.6 },
                )
            }
            Class::Forgotten => {
                let sets = if sets == 1 { "its epoll set".into() } else { format!("any of its {sets} epoll sets") };
                (
                    format!("{of} not in {sets}, so nothing tells the program of them"),
                    // A set that watches no socket may have nothing to do with how the program reads.
                    if self.watches_sockets { 0.9 } else { 0.6 },
                )
            }
            Class::LoopStuck => (
                format!(
                    "{of} armed for reading, level-triggered, so the loop would be told at every turn; no thread waits \
                     on that epoll set ({where_threads_stand})"
                ),
                if inspection.threads.iter().any(|t| t.syscall.is_some()) { 0.9 } else { 0.7 },
            ),
            Class::LoopIgnores => (
                format!(
                    "{of} armed for reading, level-triggered, and the loop does wait on that epoll set: it is told at \
                     every turn and does not act on it"
                ),
                0.7,
            ),
            Class::EdgeNotDrained => (
                format!(
                    "{of} registered edge-triggered: epoll told the program once, and it has not read to the end since"
                ),
                0.9,
            ),
            Class::NotAsked => (
                format!("{of} registered by the Go runtime, and the goroutine that should read does not ask for data"),
                0.8,
            ),
            Class::EdgeSpent => (
                format!(
                    "{of} registered edge-triggered and read to the end of the stream: epoll has told all there is to \
                     tell, and only close() is missing"
                ),
                0.9,
            ),
            Class::OneShotSpent => (
                format!("{of} registered one-shot: the event fired once and the registration was never armed again"),
                0.95,
            ),
            Class::ReadingOff => {
                (format!("{of} registered, but not for reading: reading was switched off and never on again"), 0.9)
            }
            Class::NoEpoll => {
                let listens = sockets.iter().all(|s| s.state == State::Listen);
                (self.without_epoll(&where_threads_stand, listens), 0.5)
            }
            Class::Stopped | Class::Frozen | Class::Uninterruptible => (String::new(), 0.0),
        };
        (sentence, confidence - numbers_only)
    }

    fn without_epoll(&self, threads: &str, listens: bool) -> String {
        let inspection = self.inspection;
        let how = if inspection.io_urings > 0 {
            "it uses io_uring, whose requests cannot be seen"
        } else if inspection.threads.iter().any(is_poll) {
            "it waits in poll or select, whose sets cannot be seen"
        } else if listens {
            "its threads accept for themselves, and none waits in accept() of this listener"
        } else {
            "its threads read for themselves"
        };
        format!("the program has no epoll set; {how} (threads: {threads})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row};

    fn watch(epoll_fd: u32, inode: u64, events: u32) -> EpollWatch {
        EpollWatch { epoll_fd, target_fd: 9, inode: Inode::new(inode), events }
    }

    fn thread(call: libc::c_long, arg0: u64) -> ThreadState {
        ThreadState {
            tid: 812,
            name: "main".into(),
            state: Some('S'),
            wchan: Some("somewhere".into()),
            syscall: u64::try_from(call).ok(),
            syscall_arg0: Some(arg0),
        }
    }

    /// A CLOSE_WAIT socket with this much unread, inode 7, descriptor 9 of process 812.
    fn world(recv_q_bytes: u32, inspection: Inspection) -> World {
        let mut world = World::new();
        world.add(Socket {
            inode: Inode::new(7),
            recv_q_bytes,
            ..row(State::CloseWait, "10.0.0.1:80", "10.0.0.2:40000")
        });
        world.hold(812, "server", 9, 7);
        world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
        world
    }

    fn classify(world: &World) -> Option<WaitState> {
        let view = View::new(&world.now, None, &world.thresholds);
        doing(&view, 812, &[&world.now.sockets[0]])
    }

    fn with_epoll(events: Option<u32>, threads: Vec<ThreadState>) -> Inspection {
        let watches = events.map(|e| watch(4, 7, e)).into_iter().collect();
        Inspection { epoll_sets: 1, watches, threads, ..Inspection::default() }
    }

    #[test]
    fn the_registration_decides_the_class() {
        let stuck = || vec![thread(libc::SYS_futex, 0)];
        for (events, unread, class) in [
            (None, 1, Class::Forgotten),
            (Some(0x19), 1, Class::LoopStuck),
            (Some(0x2018), 1, Class::LoopStuck),
            (Some(0x8000_2019), 5, Class::EdgeNotDrained),
            (Some(0x8000_2019), 0, Class::EdgeSpent),
            (Some(0x4000_0000), 1, Class::OneShotSpent),
            (Some(0xc000_0000), 1, Class::OneShotSpent),
            (Some(0x4000_0019), 1, Class::LoopStuck),
            (Some(0x1c), 1, Class::ReadingOff),
            (Some(0x8000_001c), 1, Class::ReadingOff),
        ] {
            let found = classify(&world(unread, with_epoll(events, stuck()))).unwrap();
            assert_eq!(found.class, class, "{events:x?} with {unread} unread: {}", found.sentence);
            assert!(found.confidence >= 0.6, "{found:?}");
            assert_eq!(found.evidence[0], ("doing_class", Evidence::Text(class.key().into())));
        }
    }

    #[test]
    fn a_loop_that_waits_on_the_set_is_told_and_does_not_act() {
        let found = classify(&world(1, with_epoll(Some(0x19), vec![thread(libc::SYS_epoll_pwait, 4)]))).unwrap();
        assert_eq!(found.class, Class::LoopIgnores);
        let other_set = classify(&world(1, with_epoll(Some(0x19), vec![thread(libc::SYS_epoll_pwait, 5)]))).unwrap();
        assert_eq!(other_set.class, Class::LoopStuck);
        assert!(other_set.sentence.contains("1 in epoll_pwait (somewhere)"), "{}", other_set.sentence);
    }

    #[test]
    fn a_stopped_process_explains_everything_even_without_inspection() {
        let mut world = world(1, Inspection::default());
        let facts = world.now.processes.get_mut(&812).unwrap();
        facts.inspection = None;
        assert_eq!(classify(&world), None, "not inspected and not stopped");
        for (state, word) in [('T', "SIGCONT"), ('t', "debugger")] {
            world.now.processes.get_mut(&812).unwrap().state = Some(state);
            let found = classify(&world).unwrap();
            assert!(found.class == Class::Stopped && found.sentence.contains(word), "{found:?}");
        }
    }

    #[test]
    fn a_frozen_process_is_known_by_its_control_group_or_by_the_freezer_of_version_1() {
        let loops = || with_epoll(Some(0x19), vec![thread(libc::SYS_epoll_pwait, 4)]);
        let mut world = world(1, loops());
        let class = |world: &World| classify(world).unwrap().class;
        world.now.processes.get_mut(&812).unwrap().frozen = Some(false);
        assert_eq!(class(&world), Class::LoopIgnores);
        world.now.processes.get_mut(&812).unwrap().frozen = Some(true);
        assert_eq!(class(&world), Class::Frozen);
        // Stopped as well: SIGCONT alone would not wake it, nor would thawing, and the signal is told first.
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        assert_eq!(class(&world), Class::Stopped);
        let facts = world.now.processes.get_mut(&812).unwrap();
        (facts.state, facts.frozen) = (Some('D'), None);
        let held = ThreadState { state: Some('D'), wchan: Some("__refrigerator".into()), ..thread(libc::SYS_futex, 0) };
        facts.inspection.as_mut().unwrap().threads = vec![held.clone(), held];
        assert_eq!(class(&world), Class::Frozen);
        let inspection = world.now.processes.get_mut(&812).unwrap().inspection.as_mut().unwrap();
        inspection.threads[1].wchan = Some("nfs_wait".into());
        assert_eq!(class(&world), Class::Uninterruptible);
        let trapped = |state| ThreadState { state: Some(state), wchan: Some("get_signal".into()), ..thread(0, 0) };
        let mut only = |state| {
            world.now.processes.get_mut(&812).unwrap().inspection.as_mut().unwrap().threads = vec![trapped(state)];
            world.now.processes.get_mut(&812).unwrap().state = Some(state);
            class(&world)
        };
        assert_eq!((only('S'), only('T')), (Class::Frozen, Class::Stopped));
    }

    #[test]
    fn disk_sleep_counts_only_when_every_thread_is_in_it() {
        let asleep = |state| ThreadState { state: Some(state), ..thread(libc::SYS_fsync, 3) };
        let all = classify(&world(1, with_epoll(Some(0x19), vec![asleep('D'), asleep('D')]))).unwrap();
        assert_eq!(all.class, Class::Uninterruptible);
        let one = classify(&world(1, with_epoll(Some(0x19), vec![asleep('D'), asleep('S')]))).unwrap();
        assert_eq!(one.class, Class::LoopStuck);
    }

    #[test]
    fn without_epoll_only_what_is_visible_is_said() {
        let none = |threads| Inspection { threads, ..Inspection::default() };
        let polls = classify(&world(1, none(vec![thread(libc::SYS_ppoll, 0)]))).unwrap();
        assert!(
            polls.class == Class::NoEpoll && polls.confidence < 0.6 && polls.sentence.contains("poll"),
            "{polls:?}"
        );
        let reads = classify(&world(1, none(vec![thread(libc::SYS_recvfrom, 9)]))).unwrap();
        assert_eq!(reads.class, Class::InCall);
        let elsewhere = classify(&world(1, none(vec![thread(libc::SYS_recvfrom, 8)]))).unwrap();
        assert_eq!(elsewhere.class, Class::NoEpoll);
        let ring = Inspection { io_urings: 1, ..none(vec![thread(libc::SYS_futex, 0)]) };
        assert!(classify(&world(1, ring)).unwrap().sentence.contains("io_uring"));
    }

    #[test]
    fn the_inode_counts_and_not_the_number_of_the_descriptor() {
        let mut inspection = with_epoll(None, vec![thread(libc::SYS_futex, 0)]);
        // Descriptor 9 was another file's when it was registered.
        inspection.watches.push(watch(4, 99, 0x19));
        assert_eq!(classify(&world(1, inspection.clone())).unwrap().class, Class::Forgotten);
        // Registered under a number that is closed by now, while a duplicate lives on.
        inspection.watches.push(EpollWatch { target_fd: 3, ..watch(4, 7, 0x19) });
        assert_eq!(classify(&world(1, inspection.clone())).unwrap().class, Class::LoopStuck);
        // Before Linux 4.14 there is no inode, and the number is all there is.
        inspection.watches = vec![EpollWatch { inode: None, ..watch(4, 0, 0x4000_0000) }];
        let old = classify(&world(1, inspection)).unwrap();
        assert!(old.class == Class::OneShotSpent && old.confidence < 0.9, "{old:?}");
    }

    #[test]
    fn a_socket_that_another_process_watches_is_not_simply_forgotten() {
        let forgotten = with_epoll(None, vec![thread(libc::SYS_futex, 0)]);
        let mut world = world(1, forgotten.clone());
        world.hold(900, "worker", 9, 7);
        assert!(classify(&world).unwrap().confidence < 0.5, "who knows what the other does");
        world.now.processes.get_mut(&900).unwrap().inspection = Some(forgotten);
        assert!(classify(&world).unwrap().confidence >= 0.6);
        world.now.processes.get_mut(&900).unwrap().inspection = Some(with_epoll(Some(0x19), Vec::new()));
        let watched = classify(&world).unwrap();
        assert!(watched.confidence < 0.5 && watched.sentence.contains("process 900"), "{watched:?}");
    }

    #[test]
    fn use_is_denied_only_when_nothing_can_hide_it() {
        let uses = |inspection| {
            let world = world(1, inspection);
            Uses::new(&View::new(&world.now, None, &world.thresholds), 812).unwrap().of(&world.now.sockets[0])
        };
        let threads = |t| Inspection { threads: vec![t], ..Inspection::default() };
        assert_eq!(uses(threads(thread(libc::SYS_clock_nanosleep, 0))), Some(false));
        assert_eq!(uses(threads(thread(libc::SYS_ppoll, 0))), None);
        assert_eq!(uses(threads(thread(libc::SYS_recvfrom, 9))), Some(true));
        assert_eq!(uses(with_epoll(Some(0x1c), vec![thread(libc::SYS_futex, 0)])), Some(true));
        assert_eq!(uses(threads(ThreadState { syscall: None, ..thread(0, 0) })), None, "it runs");
        assert_eq!(uses(Inspection::default()), None, "no thread was seen");
    }
}
