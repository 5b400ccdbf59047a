//! What a process does not read: for how long, as far as that is proven, and why, as far as the facts say.
//!
//! Input: one process, the rows that it does not read, and whether it is held up by a peer itself. Output: [`Unread`] rows
//! and a [`Reader`]. Whom it hurts is for the rule to judge.

use crate::diagnose::delivery;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::threads;
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class, WaitState};
use crate::model::snapshot::{Inspection, ProcessFacts};
use crate::model::{Process, Socket, TcpInfo};

/// A queue that one `recv()` of any common program takes whole: what is left of it was left on purpose, or nobody reads.
pub const SHORT_QUEUE_BYTES: u32 = 4096;
/// The share of throttled periods from which on a quota is what slows a program, and from which on it may be (policy).
pub const MOSTLY: f64 = 0.5;
pub const SOMETIMES: f64 = 0.05;

/// What makes a process leave bytes unread.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "stopped",
        text: "the process is stopped by a signal or a debugger",
        predicts: "state T or t",
        refuted_by: "any other state",
        decided_by: "the state in /proc/PID/stat",
    },
    Cause {
        id: "frozen",
        text: "its control group is frozen",
        predicts: "frozen 1 in cgroup.events",
        refuted_by: "frozen 0, or a thread that runs",
        decided_by: "cgroup.events of its control group",
    },
    Cause {
        id: "cpu-throttled",
        text: "the CPU quota of its control group is used up",
        predicts: "half of the periods or more throttled in cpu.stat, and a thread that wants to run",
        refuted_by: "no quota, or nr_throttled 0",
        decided_by: "cpu.stat of its control group, twice",
    },
    Cause {
        id: "pipe-full",
        text: "it waits to write into a full pipe",
        predicts: "a thread in a write that waits for room in a pipe",
        refuted_by: "no thread in such a write",
        decided_by: "the wchan of its threads, and who reads the pipe",
    },
    Cause {
        id: "back-pressure",
        text: "it cannot write to a peer, and holds back",
        predicts: "connections of the same process with data that a peer does not take",
        refuted_by: "no such connection",
        decided_by: "Send-Q and timers of its other connections",
    },
    Cause {
        id: "both-write",
        text: "both sides write and neither reads: the buffers are full in both directions, and its threads wait to write more",
        predicts: "no window in either direction, and a thread in a write on each of these connections",
        refuted_by: "a window that is open, or no thread in such a write",
        decided_by: "a stack of the threads at both ends",
    },
    Cause {
        id: "worker-busy",
        text: "its worker has taken the request and is at work on it",
        predicts: "an accepted connection of which something was read before, and a thread at work for each",
        refuted_by: "nothing was ever read, or more connections wait than threads work",
        decided_by: "what the worker is doing: its log, or a stack",
    },
    Cause {
        id: "loop-stuck",
        text: "its event loop does not turn",
        predicts: "armed for reading, level-triggered, and no thread waits on that epoll set",
        refuted_by: "a thread that waits on the set",
        decided_by: "a stack of the thread that runs the loop",
    },
    Cause {
        id: "threads-blocked",
        text: "all its threads wait for a lock, a signal or a new client",
        predicts: "every thread in futex, accept() or a wait of their kind",
        refuted_by: "a thread that runs, sleeps for a time or waits for events",
        decided_by: "a stack of all threads",
    },
    Cause {
        id: "pool-blocked",
        text: "it was handed to a pool of threads, and all of them wait: for a lock, or for something that the pool has no more of",
        predicts: "in none of its epoll sets, and two threads or more in futex beside the loop",
        refuted_by: "a registration, or no such threads",
        decided_by: "a stack of all threads: idle ones wait for work, blocked ones for a lock",
    },
    Cause {
        id: "not-registered",
        text: "the socket is registered with no event loop",
        predicts: "in none of its epoll sets",
        refuted_by: "a registration",
        decided_by: "the code that adds the descriptor",
    },
    Cause {
        id: "reading-paused",
        text: "the program has switched reading off",
        predicts: "registered without EPOLLIN, or taken out of the set as pause functions do",
        refuted_by: "armed for reading, level-triggered",
        decided_by: "whether reading resumes; the flow control of the library",
    },
    Cause {
        id: "task-blocked",
        text: "the goroutine, coroutine or task that should read waits for something else",
        predicts: "a loop that turns, and a registration that its runtime made or took back",
        refuted_by: "armed for reading, level-triggered",
        decided_by: "a dump of goroutines or tasks",
    },
    Cause {
        id: "not-rearmed",
        text: "a one-shot registration fired and was not armed again",
        predicts: "EPOLLONESHOT without events",
        refuted_by: "any other registration",
        decided_by: "the code after the event",
    },
    Cause {
        id: "edge-not-drained",
        text: "an edge-triggered event was not read to the end",
        predicts: "EPOLLET, data in the queue, a loop that waits",
        refuted_by: "level-triggered, or a runtime that registers every socket so",
        decided_by: "whether the code reads until EAGAIN",
    },
    Cause {
        id: "reader-elsewhere",
        text: "the thread that should read is at something else: a sleep, a computation, a call to somebody else",
        predicts: "no event loop, no thread in a read of it or in poll(), and nothing taken between two samples",
        refuted_by: "an event loop, a thread in poll(), or bytes taken between two samples",
        decided_by: "a stack of all threads",
    },
    Cause {
        id: "slow-reader",
        text: "it reads, more slowly than data comes",
        predicts: "a long queue of which parts are taken between two samples",
        refuted_by: "nothing was ever read, or a queue so short that one read takes it",
        decided_by: "tcpstate doctor with a longer --interval",
    },
];

/// Threads that are a pool.
const POOL: usize = 2;

/// One row that is not read.
#[derive(Clone, Copy, Debug)]
pub struct Unread<'a> {
    pub socket: &'a Socket,
    /// It was accepted: a client waits.
    pub accepted: bool,
    /// Nothing was read for at least so long, by two samples or because nothing was ever read.
    pub untouched_ms: Option<u64>,
    /// The youngest byte has waited so long: nothing has arrived since (`last_data_recv`).
    pub waited_ms: Option<u64>,
}

impl Unread<'_> {
    /// How long the reader has left it, as far as that is proven. Whoever reads a short queue takes it whole, so that
    /// what waits in one was not read since it came; a long one may be read in parts all the time.
    #[must_use]
    pub fn left_ms(&self) -> u64 {
        let never_read = self.socket.consumed_bytes() == Some(0);
        let whole = never_read || self.socket.recv_q_bytes <= SHORT_QUEUE_BYTES;
        let waited = if whole { self.waited_ms } else { None };
        self.untouched_ms.max(waited).unwrap_or(0)
    }

    /// Whether nothing was sent to the peer since its data came: it still waits for an answer.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        let sent = self.socket.info.as_deref().and_then(TcpInfo::last_data_sent_ms).map(u64::from);
        match (sent, self.waited_ms) {
            (Some(sent), Some(waited)) => sent >= waited,
            _ => true,
        }
    }
}

/// The interval, if two samples show that nothing was read in it: what the application has taken is exact.
#[must_use]
pub fn untouched_ms(view: &View<'_>, socket: &Socket, waited_ms: Option<u64>) -> Option<u64> {
    let earlier = view.earlier(socket)?;
    let interval = view.interval_ms()?;
    let untouched = match (earlier.consumed_bytes(), socket.consumed_bytes()) {
        (Some(before), Some(now)) => before == now,
        // A queue of the same length may have been read and filled again: only if nothing came since.
        _ => earlier.recv_q_bytes == socket.recv_q_bytes && waited_ms.is_none_or(|ms| ms >= interval),
    };
    (earlier.recv_q_bytes > 0 && untouched).then_some(interval)
}

/// Whether the peer can send no more: our buffer is full, or the window that we offer is shut.
#[must_use]
pub fn peer_is_blocked(socket: &Socket) -> bool {
    let full = socket.skmem.is_some_and(|m| m.rcvbuf_bytes > 0 && m.rmem_alloc_bytes >= m.rcvbuf_bytes);
    full || socket.info.as_deref().and_then(TcpInfo::rcv_wnd_bytes) == Some(0)
}

/// What is known of a process that leaves bytes unread.
#[derive(Clone, Debug)]
pub struct Reader {
    pub doing: Option<WaitState>,
    /// Its worker threads are at work, one for each connection that waits, and took something from each before.
    pub is_busy: bool,
    /// A thread waits for room in a pipe.
    pub pipe: bool,
    /// All threads wait for a lock or a signal.
    pub is_blocked: bool,
    /// Nothing moves in either direction, and threads wait to write more on these very connections.
    pub both_write: bool,
    /// An event loop has the connections no more, and a pool of threads waits.
    is_pool_blocked: bool,
    /// Threads that do something of their own.
    pub at_work: usize,
    /// Whether something was taken between the samples; `None` without two.
    pub takes: Option<bool>,
    pub causes: Weighed,
}

/// Whether peers take what a process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressed {
    Not,
    /// Only the connections that it does not read have data of its own that waits.
    ByThese,
    ByOthers,
}

impl Reader {
    /// Looks at what a process does with rows that it does not read.
    #[must_use]
    pub fn of(view: &View<'_>, owner: Option<&Process>, rows: &[&Socket], accepted: bool, pressed: Pressed) -> Reader {
        let facts = owner.and_then(|p| view.process(p.pid));
        let doing = owner.and_then(|p| wait_state::doing(view, p.pid, rows));
        let inspection = facts.and_then(|f| f.inspection.as_ref());
        let at_work = inspection.map_or(0, threads::at_work);
        let taken_before = rows.iter().all(|s| s.consumed_bytes().is_some_and(|n| n > 0));
        let mut reader = Reader {
            doing,
            is_busy: accepted && taken_before && at_work >= rows.len(),
            pipe: inspection.is_some_and(|i| i.threads.iter().any(threads::waits_for_pipe)),
            is_blocked: inspection.is_some_and(threads::all_blocked),
            both_write: both_write(view, owner, rows),
            is_pool_blocked: false,
            at_work,
            takes: takes(view, rows),
            causes: Weighed::default(),
        };
        let pool = inspection.is_some_and(|i| threads::in_lock(i) >= POOL);
        reader.is_busy &= !reader.both_write;
        reader.is_pool_blocked = reader.class() == Some(Class::Forgotten) && pool && at_work == 0;
        let short = rows.iter().all(|s| s.recv_q_bytes <= SHORT_QUEUE_BYTES || s.consumed_bytes() == Some(0));
        let never_read = rows.iter().all(|s| s.consumed_bytes() == Some(0));
        let picture = Picture { facts, inspection, short, never_read, pressed };
        reader.causes = Weighed::of(CAUSES, |cause| picture.weigh(&reader, cause));
        // Nothing was seen that tells one from another: a list of all of them is no answer.
        if inspection.is_none() && reader.causes.is_even() {
            reader.causes.left.clear();
        }
        reader
    }

    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.doing.as_ref().map(|d| d.class)
    }

    /// It runs no instruction: stopped or frozen.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        matches!(self.class(), Some(Class::Stopped | Class::Frozen))
    }

    /// It is seen to be unable to read them: it does not run, its loop does not turn, or all who could read wait for
    /// something else.
    #[must_use]
    pub fn cannot_serve(&self) -> bool {
        self.is_halted()
            || matches!(self.class(), Some(Class::LoopStuck | Class::OneShotSpent))
            || (self.is_blocked && self.class() == Some(Class::NoEpoll))
            || self.is_pool_blocked
    }
}

/// Whether data of ours has waited for the peer in both samples.
#[must_use]
pub fn is_pressed(view: &View<'_>, socket: &Socket) -> bool {
    let unsent = |s: &Socket| s.info.as_deref().and_then(TcpInfo::notsent_bytes).is_some_and(|n| n > 0);
    socket.send_q_bytes.is_some_and(|n| n > 0)
        && (delivery::is_zero_window(socket) || (unsent(socket) && view.earlier(socket).is_some_and(unsent)))
}

/// Whether each of these can take nothing from its peer and give nothing to it, and a thread stands in a write on it.
fn both_write(view: &View<'_>, owner: Option<&Process>, rows: &[&Socket]) -> bool {
    // A peer that takes what is sent reads, however much waits for it.
    let still =
        |s: &Socket| view.grown(s, TcpInfo::bytes_acked).map_or(delivery::is_zero_window(s), |acked| acked == 0);
    let stands =
        |s: &&Socket| peer_is_blocked(s) && is_pressed(view, s) && still(s) && untouched_ms(view, s, None).is_some();
    !rows.is_empty()
        && rows.iter().all(stands)
        && owner.and_then(|p| wait_state::in_writes(view, p.pid, rows)).is_some_and(|writes| writes >= rows.len())
}

/// Whether something of any row was taken between the samples.
fn takes(view: &View<'_>, rows: &[&Socket]) -> Option<bool> {
    let took = |s: &&Socket| Some(view.earlier(s)?.consumed_bytes()? < s.consumed_bytes()?);
    let known: Vec<bool> = rows.iter().filter_map(took).collect();
    known.iter().copied().reduce(|a, b| a || b)
}

struct Picture<'a> {
    facts: Option<&'a ProcessFacts>,
    inspection: Option<&'a Inspection>,
    /// Whatever reads takes the queues whole.
    short: bool,
    /// Not a byte of any was ever taken.
    never_read: bool,
    pressed: Pressed,
}

impl Picture<'_> {
    fn weigh(&self, reader: &Reader, cause: &'static Cause) -> Weight {
        let class = reader.class();
        let is = |wanted: Class, belief: f64, why: &str| match class {
            Some(c) if c == wanted => Weight::Possible(belief),
            Some(_) => Weight::Refuted(why.to_owned()),
            None => Weight::Possible(0.1),
        };
        let proven = |wanted: Class, why: &str| match class {
            Some(c) if c == wanted => Weight::Proven,
            Some(_) => Weight::Refuted(why.to_owned()),
            None => Weight::Possible(0.1),
        };
        let go = self.facts.is_some_and(|f| f.is_go == Some(true));
        match cause.id {
            "stopped" => match self.facts.and_then(|f| f.state) {
                _ if class == Some(Class::Stopped) => Weight::Proven,
                Some(state) => Weight::Refuted(format!("its state is {state}")),
                None => Weight::Possible(0.1),
            },
            "cpu-throttled" => match self.throttled_share() {
                share if share >= MOSTLY && self.runs() => Weight::Proven,
                share if share >= SOMETIMES && self.runs() => Weight::Possible(share),
                _ if self.may_be_throttled() => Weight::Possible(0.1),
                _ => Weight::Refuted("no quota of a control group is seen to keep a thread from running".into()),
            },
            "frozen" => proven(Class::Frozen, "its control group is not frozen"),
            "pipe-full" => match self.inspection {
                Some(i) if reader.pipe && i.threads.len() == 1 => Weight::Proven,
                Some(_) if reader.pipe => Weight::Possible(0.6),
                Some(_) => Weight::Refuted("no thread waits for room in a pipe".into()),
                None => Weight::Possible(0.1),
            },
            "back-pressure" if reader.both_write => Weight::Refuted("these very connections hold it up".into()),
            "back-pressure" => match self.pressed {
                Pressed::Not => Weight::Refuted("its peers take what it writes".into()),
                // What it wrote there waits, too: whether it reads no more for that reason is not seen.
                Pressed::ByThese => Weight::Possible(0.4),
                Pressed::ByOthers => Weight::Proven,
            },
            "both-write" if reader.both_write => Weight::Proven,
            "both-write" if self.inspection.is_none() => Weight::Possible(0.1),
            "both-write" => {
                Weight::Refuted("a window is open, or no thread waits in a write on each of these connections".into())
            }
            "worker-busy" if reader.is_busy => Weight::Possible(0.9),
            "worker-busy" if self.inspection.is_none() => Weight::Possible(0.1),
            "worker-busy" => Weight::Refuted("no thread is at work for each connection that waits".into()),
            "loop-stuck" if self.throttled_share() >= MOSTLY && self.runs() => {
                Weight::Refuted("it gets no more CPU time".into())
            }
            "loop-stuck" if self.may_be_throttled() && class == Some(Class::LoopStuck) => Weight::Possible(0.6),
            "loop-stuck" => proven(Class::LoopStuck, "its loop turns, or it has none for these sockets"),
            "threads-blocked" if reader.is_blocked && class == Some(Class::NoEpoll) => Weight::Possible(0.9),
            "threads-blocked" if self.inspection.is_none() => Weight::Possible(0.1),
            "threads-blocked" => Weight::Refuted("a thread waits for something else than a lock".into()),
            "pool-blocked" if go => Weight::Refuted("a Go program has no such pool".into()),
            "pool-blocked" => match (class, self.inspection) {
                // Few programs accept a connection and register it nowhere.
                _ if reader.is_pool_blocked => Weight::Possible(if self.never_read { 1.0 } else { 0.5 }),
                (None, _) | (_, None) => Weight::Possible(0.1),
                _ => Weight::Refuted("no pool of threads waits beside a loop that has it no more".into()),
            },
            "not-registered" => is(Class::Forgotten, 0.6, "it is registered, or the program has no epoll set"),
            "reading-paused" => match class {
                Some(Class::ReadingOff) => Weight::Proven,
                Some(Class::Forgotten | Class::EdgeNotDrained | Class::NotAsked) => Weight::Possible(0.4),
                Some(_) => Weight::Refuted("no registration of it is switched off".into()),
                None => Weight::Possible(0.1),
            },
            "task-blocked" => match class {
                Some(Class::NotAsked) => Weight::Possible(0.6),
                Some(Class::Forgotten | Class::EdgeNotDrained) => Weight::Possible(0.3),
                Some(_) => Weight::Refuted("no runtime keeps its registration".into()),
                None => Weight::Possible(0.1),
            },
            "not-rearmed" => proven(Class::OneShotSpent, "no registration of it is spent"),
            "edge-not-drained" if go => Weight::Refuted("the Go runtime registers every socket edge-triggered".into()),
            "edge-not-drained" => is(Class::EdgeNotDrained, 0.4, "it is not registered edge-triggered"),
            "reader-elsewhere" => match (class, self.inspection) {
                _ if reader.takes == Some(true) => Weight::Refuted("some was taken between the samples".into()),
                _ if self.short => Weight::Refuted("one read would take a queue this short".into()),
                (Some(Class::NoEpoll), Some(i)) if !i.threads.iter().any(threads::is_poll) => Weight::Possible(0.7),
                (Some(_), _) => Weight::Refuted("an event loop, poll() or the call itself waits for it".into()),
                (None, _) => Weight::Possible(0.1),
            },
            _ if self.short => Weight::Refuted("one read would take a queue this short".into()),
            _ if reader.takes == Some(false) => Weight::Possible(0.3),
            _ => Weight::Possible(0.5),
        }
    }

    /// A thread wants to run, and whether a quota keeps it from that could not be read.
    fn may_be_throttled(&self) -> bool {
        self.runs() && self.facts.is_some_and(|f| !f.has_seen_groups())
    }

    fn throttled_share(&self) -> f64 {
        self.facts.and_then(|f| f.cpu_quota?.share()).unwrap_or(0.0)
    }

    /// A thread runs or wants to.
    fn runs(&self) -> bool {
        self.inspection.is_some_and(|i| i.threads.iter().any(|t| t.state == Some('R')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row};
    use crate::model::State;
    use crate::model::snapshot::{EpollWatch, ThreadState};

    fn thread(call: libc::c_long, wchan: &str) -> ThreadState {
        ThreadState {
            tid: 812,
            name: "main".into(),
            state: Some('S'),
            wchan: Some(wchan.into()),
            syscall: u64::try_from(call).ok(),
            syscall_arg0: Some(1),
        }
    }

    /// One accepted connection with this much unread, of which `taken` was read before, and what its process does.
    fn reader(unread: u32, taken: u64, pressed: bool, change: impl FnOnce(&mut ProcessFacts)) -> Reader {
        let base = Socket { recv_q_bytes: unread, ..row(State::Established, "10.0.0.1:80", "10.0.0.2:5000") };
        let socket = info(base, &[("bytes_received", taken + u64::from(unread))]);
        let mut world = World::new();
        world.hold(812, "server", 9, socket.inode).add(socket);
        change(world.now.processes.get_mut(&812).unwrap());
        let view = View::new(&world.now, None, &world.thresholds);
        Reader::of(
            &view,
            view.holder(&world.now.sockets[0]),
            &[&world.now.sockets[0]],
            true,
            if pressed { Pressed::ByOthers } else { Pressed::Not },
        )
    }

    fn inspected(threads: Vec<ThreadState>, watch: Option<u32>) -> impl FnOnce(&mut ProcessFacts) {
        let inode = row(State::Established, "10.0.0.1:80", "10.0.0.2:5000").inode;
        let watches = watch.map(|events| EpollWatch { epoll_fd: 4, target_fd: 9, inode, events });
        move |facts| {
            facts.frozen = Some(false);
            facts.inspection = Some(Inspection {
                epoll_sets: u32::from(watches.is_some()),
                watches: watches.into_iter().filter(|w| w.events != 0).collect(),
                threads,
                ..Inspection::default()
            });
        }
    }

    fn left(reader: &Reader) -> Vec<&'static str> {
        reader.causes.left.iter().map(|h| h.cause.id).collect()
    }

    #[test]
    fn what_is_proven_is_named() {
        let futex = || thread(libc::SYS_futex, "futex_do_wait");
        assert_eq!(left(&reader(9, 0, false, |f| f.state = Some('T'))), ["stopped"]);
        assert_eq!(left(&reader(9, 0, false, |f| f.frozen = Some(true))), ["frozen"]);
        let pipe = thread(libc::SYS_write, "anon_pipe_write");
        assert_eq!(left(&reader(90_000, 9, false, inspected(vec![pipe], None))), ["pipe-full"]);
        assert_eq!(left(&reader(90_000, 9, true, inspected(vec![futex()], None))), ["back-pressure"]);
        assert_eq!(left(&reader(9, 0, false, inspected(vec![futex()], Some(0x19)))), ["loop-stuck"]);
        assert_eq!(left(&reader(9, 0, false, inspected(vec![futex()], Some(1 << 30)))), ["not-rearmed"]);
        assert_eq!(left(&reader(9, 0, false, inspected(vec![futex()], Some(0x1c)))), ["reading-paused"]);
        assert_eq!(left(&reader(9, 0, false, inspected(vec![futex()], None))), ["threads-blocked"]);
    }

    #[test]
    fn rivals_are_listed_and_go_is_never_told_to_drain() {
        let waits = || vec![thread(libc::SYS_epoll_pwait, "ep_poll")];
        assert_eq!(
            left(&reader(9, 9, false, inspected(waits(), Some(0)))),
            ["not-registered", "reading-paused", "task-blocked"]
        );
        let edge = |is_go| {
            reader(9, 9, false, |facts| {
                inspected(waits(), Some(0x8000_2019))(facts);
                facts.is_go = Some(is_go);
            })
        };
        assert_eq!(left(&edge(false)), ["reading-paused", "edge-not-drained", "task-blocked"]);
        assert_eq!(left(&edge(true)), ["task-blocked", "reading-paused"]);
        assert!(left(&reader(90_000, 9, false, inspected(waits(), Some(0)))).contains(&"slow-reader"));
        let pool = |n| std::iter::repeat_n(thread(libc::SYS_futex, "futex_wait_queue"), n).chain(waits()).collect();
        assert!(left(&reader(9, 9, false, inspected(pool(2), Some(0)))).contains(&"pool-blocked"));
        assert!(!left(&reader(9, 9, false, inspected(pool(1), Some(0)))).contains(&"pool-blocked"));
    }

    #[test]
    fn a_worker_is_busy_when_it_took_something_and_is_at_work() {
        let busy = |taken, call| reader(8, taken, false, inspected(vec![thread(call, "somewhere")], None)).is_busy;
        assert!(busy(100, libc::SYS_clock_nanosleep) && busy(100, libc::SYS_poll) && busy(100, libc::SYS_recvfrom));
        assert!(!busy(0, libc::SYS_clock_nanosleep), "it never read the request");
        assert!(!busy(100, libc::SYS_futex), "it waits for a lock");
    }
}
