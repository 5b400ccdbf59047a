//! Every TCP state change of the host from the kernel's trace file system, where BPF is not available; and, where they are
//! wanted, resets and repeated segments.
//!
//! Input: room for records. Output: [`Event`]s in the order of their times, and an exact count of those that were lost; or
//! [`Unavailable`], which says in one line why not. Not here: what a change means; a trace that is not our own: everything
//! happens in an instance that is made for this process and removed after it.
//!
//! The event is `sock:inet_sock_set_state`, the same that the BPF program is attached to. A record has the socket's address
//! in memory, which identifies it until it is closed, and no namespace, no cookie and no lock word. So
//!
//! * only the context shows who made a change: nobody while a packet or a timer is handled (hard and soft interrupts), else
//!   the thread that was running. That thread is the cause only where nothing but a system call makes this change
//!   (`is_by_call`). The record has the number of the thread; its process is read from `/proc` a few milliseconds later,
//!   and may have ended by then.
//! * the cookie becomes known when the socket is destroyed, from the event `tcp:tcp_destroy_sock`, if that is soon enough;
//!   the cookie leads to the destroy event of sock_diag ([`Farewells`]), which has the bytes of the connection.
//! * the error of a socket is known from what happens around its end (`join`).
//!
//! Every CPU has its own ring, so records are held for a moment and sorted. A CPU that is brought up later has its directory
//! from the beginning and its ring from then on.

mod event;
mod faults;
mod fields;
mod format;
mod instance;
mod join;
mod page;
mod pipes;
mod tasks;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::fs::OFlags;

use super::bpf;
use super::change_source::{Faults, Lost, Request, Scope, Source};
use super::clock::{GATHER, Now, monotonic_ns};
use super::error::reason;
use super::netlink::destroyed::{DestroyEvent, Farewells};
use crate::model::event::{ONE_CALL_NS, ResetReceived, ResetSent, Retransmit, Sighting};
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::transition::{By, Traffic, Transition, Via};
use crate::model::{Event, Gap, NetnsId, State};
use event::{Change, Destroyed, Events, IPPROTO_TCP, Record, What};
use faults::{Fault, Layout, Point, Seen};
use format::{Format, FormatError, PageLayout};
use instance::Instance;
use join::Join;
use pipes::Pipes;
use tasks::{Task, Tasks};

const EVENT: &str = "events/sock/inet_sock_set_state";
const DESTROYED: &str = "events/tcp/tcp_destroy_sock";
/// How long records are held, so that those of another CPU can be sorted before them.
const HOLD: Duration = Duration::from_millis(4);
/// The same where ends are wanted: a socket is destroyed, or its error reported, up to this long after its last change.
const HOLD_FOR_END: Duration = Duration::from_millis(50);
/// Destroy events that no change asked for are kept this long at least, and twice as long at most.
const KEEP_DESTROYED: Duration = Duration::from_secs(1);
/// How often losses are counted while records come: one file for each CPU.
const COUNT_LOSSES: Duration = Duration::from_millis(100);
/// Bytes that are read from one CPU at a time, so that a busy one does not keep the others waiting.
const AT_ONCE: usize = 4 << 20;
/// The smallest ring that the kernel makes: two pages.
const SMALLEST_KIB: usize = 8;
/// The first kernel that passes the reason of a reset, and reports those without a socket.
const REASONS_SINCE: (u32, u32) = (6, 10);
/// Why tracefs cannot be used here and now. One line, lower case; [`Unavailable::way_out`] names the way out.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("cannot open {}: {}", path.display(), reason(source))]
    Closed { path: PathBuf, source: io::Error },
    #[error("it is not mounted, and cannot be: {}", reason(.0))]
    NotMounted(io::Error),
    #[error("cannot {what}: {}", reason(source))]
    Instance { what: String, source: io::Error },
    #[error("{0}")]
    Format(#[from] FormatError),
}

impl Unavailable {
    /// The way out, for a gap.
    #[must_use]
    pub fn way_out(&self) -> WayOut {
        let missing = match self {
            Unavailable::Closed { source, .. }
            | Unavailable::NotMounted(source)
            | Unavailable::Instance { source, .. } => source,
            Unavailable::Format(_) => return WayOut::None,
        };
        match missing.kind() {
            io::ErrorKind::PermissionDenied => WayOut::HostRoot,
            io::ErrorKind::NotFound => WayOut::EventTracing,
            _ if missing.raw_os_error() == Some(libc::ENODEV) => WayOut::EventTracing,
            _ => WayOut::None,
        }
    }
}

/// A running trace; dropping it removes the instance.
pub struct Tracefs {
    // Fields drop in this order: an instance cannot be removed while one of its files is open.
    pipes: Pipes,
    instance: Instance,
    events: Events,
    page: Vec<u8>,
    held: Vec<Record>,
    /// Errors and resets that were passed on lately: what they explain may come after them.
    passed: Vec<Record>,
    hold: Duration,
    /// Whole connections are wanted.
    ends: bool,
    faults: Faults,
    /// What was wanted and is not there.
    lacks: Vec<Gap>,
    /// Of one CPU.
    ring_bytes: usize,
    destroy_events: Option<DestroyEvents>,
    tasks: Tasks,
    /// Whether numbers of processes mean something here.
    pids_known: Result<(), bpf::Unavailable>,
    /// Records lost since the beginning, as last counted. A change that interrupts another one is written before the
    /// kernel's filter judges it (`trace_event_buffer_lock_reserve`), so while the ring is full a few of those that the
    /// filter would have dropped count as well.
    lost: u64,
    lost_asked_ns: u64,
}

/// Destroy events of sockets whose last change was not reported yet.
struct DestroyEvents {
    source: Farewells,
    /// By cookie; the second map is the older one.
    events: [FxHashMap<u64, DestroyEvent>; 2],
    turned_ns: u64,
}

impl DestroyEvents {
    fn drain(&mut self, now_ns: u64) -> io::Result<()> {
        if now_ns.saturating_sub(self.turned_ns) > nanos(KEEP_DESTROYED) {
            self.turned_ns = now_ns;
            self.events.swap(0, 1);
            self.events[0].clear();
        }
        let events = &mut self.events[0];
        self.source.drain(&mut |event| {
            events.insert(event.cookie, event);
        })
    }

    fn take(&mut self, cookie: u64) -> Option<DestroyEvent> {
        self.events.iter_mut().find_map(|events| events.remove(&cookie))
    }
}

impl Tracefs {
    /// The source as a trace asks for it.
    ///
    /// # Errors
    /// One line why it cannot be used here, with the way out.
    pub fn begin(request: &Request) -> Result<Tracefs, Gap> {
        let gap = |why, way_out| Gap::new(Missing::Trace(Some(Via::Tracefs)), why, way_out);
        if request.scope != Scope::Host {
            return Err(gap(Why::TracefsScope, WayOut::None));
        }
        Tracefs::open(request.ring_bytes, request.lives, request.faults, request.event_filter.as_deref())
            .map_err(|why| gap(Why::Error(why.to_string()), why.way_out()))
    }

    /// Begins to trace all network namespaces. `ring_bytes` is the room of all CPUs together. With `ends`, sockets that end
    /// have cookie, traffic and error; that takes one more record a socket, and patience. The filter is for the kernel, which
    /// may let more pass. What is wanted beside changes, and cannot be had, is a gap.
    ///
    /// # Errors
    /// Why it cannot be done here.
    fn open(ring_bytes: usize, ends: bool, faults: Faults, filter: Option<&str>) -> Result<Tracefs, Unavailable> {
        let instance = Instance::make()?;
        let read = |path: &str| {
            instance.read(path).map_err(|source| Unavailable::Instance { what: format!("read {path}"), source })
        };
        let write = |path: &str, word: &str| {
            let failed = |source| Unavailable::Instance { what: format!("write {word:?} to {path}"), source };
            instance.write(path, word).map_err(failed)
        };
        let format = Format::parse("sock:inet_sock_set_state", &read(&format!("{EVENT}/format"))?)?;
        let page = PageLayout::parse(&read("events/header_page")?, &read("events/header_event")?)?;
        let destroyed = if ends {
            // Older kernels have neither the event nor the cookie in it; then it stays unknown.
            read(&format!("{DESTROYED}/format")).ok().and_then(|text| Destroyed::new(&text).ok())
        } else {
            None
        };
        let (layouts, mut lacks) = layouts(&instance, ends, faults);
        let (kind, change) = (format.number("common_type")?, Change::new(&format)?);
        let mut events = Events { change, kind, page, destroyed, faults: layouts };
        let cpus = instance.cpus().map_err(|source| Unavailable::Instance { what: "read per_cpu".into(), source })?;
        let own_netns = std::fs::metadata("/proc/thread-self/ns/net").ok().and_then(|m| NetnsId::new(m.ino()));
        let source = events.destroyed.as_ref().and_then(|_| Farewells::open(own_netns).ok());
        let destroy_events = source.map(|source| DestroyEvents { source, events: Default::default(), turned_ns: 0 });
        // CPUs that can be brought up later have a directory too, and no ring yet.
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
        let online = online.and_then(|text| pipes::count_online(&text)).unwrap_or(cpus.len());
        let kib = (ring_bytes / 1024 / online.max(1)).max(SMALLEST_KIB);
        write("buffer_size_kb", &kib.to_string())?;
        write("trace_clock", "mono")?;
        // What is full stays: so what is lost is the newest, as in a BPF ring, and the kernel counts it.
        write("options/overwrite", "0")?;
        // Older kernels wake a reader at once and have no such files; names of ended threads are a help where there are any.
        let _ = write("buffer_percent", "0");
        let _ = write("options/record-tgid", "1");
        let protocol = format!("protocol == {IPPROTO_TCP}");
        let narrow = filter.map(|filter| format!("{protocol} && {filter}"));
        // One that the kernel does not take is left to whoever reads.
        if narrow.is_none_or(|narrow| write(&format!("{EVENT}/filter"), &narrow).is_err()) {
            write(&format!("{EVENT}/filter"), &protocol)?;
        }
        let mut pipes = Pipes::default();
        for cpu in cpus {
            let path = format!("per_cpu/{cpu}/trace_pipe_raw");
            let file = instance.open(&path, OFlags::RDONLY | OFlags::NONBLOCK);
            let file = file.map_err(|source| Unavailable::Instance { what: format!("open {path}"), source })?;
            pipes.add(cpu, file);
        }
        if events.destroyed.is_some() {
            write(&format!("{DESTROYED}/enable"), "1")?;
        }
        events.faults.retain(|layout| {
            let path = layout.point().path();
            // Other protocols are skipped if the kernel does not take it.
            if layout.point() == Point::ErrorReport {
                let _ = write(&format!("{path}/filter"), &protocol);
            }
            let begun = write(&format!("{path}/enable"), "1");
            lacks.extend(
                begun.as_ref().err().map(|why| lack(layout.point(), Why::Error(why.to_string()), why.way_out())),
            );
            begun.is_ok()
        });
        write(&format!("{EVENT}/enable"), "1")?;
        Ok(Tracefs {
            page: vec![0; events.page.page_bytes()],
            pipes,
            instance,
            held: Vec::new(),
            passed: Vec::new(),
            hold: if ends { HOLD_FOR_END } else { HOLD },
            ends,
            faults,
            lacks,
            ring_bytes: kib * 1024,
            destroy_events,
            events,
            tasks: Tasks::default(),
            pids_known: bpf::pids_are_ours(),
            lost: 0,
            lost_asked_ns: 0,
        })
    }

    /// Waits up to `patience` for records and reports those that have been held long enough; without patience all of them.
    fn next(&mut self, patience: Duration, each: &mut dyn FnMut(Event)) -> io::Result<()> {
        let wait = if self.held.is_empty() { patience } else { patience.min(HOLD) };
        if self.pipes.wait(wait, monotonic_ns())? && !patience.is_zero() {
            std::thread::sleep(GATHER);
        }
        let begun_ns = monotonic_ns();
        let mut complete_ns = begun_ns.saturating_sub(nanos(self.hold));
        let last = patience.is_zero();
        for at in self.pipes.there() {
            // At the end everything that was there: no more than a ring holds.
            if let Some(unread_ns) = self.read(at, if last { AT_ONCE.max(2 * self.ring_bytes) } else { AT_ONCE })? {
                complete_ns = complete_ns.min(unread_ns);
            }
        }
        if let Some(events) = &mut self.destroy_events {
            events.drain(begun_ns)?;
        }
        if last || begun_ns.saturating_sub(self.lost_asked_ns) > nanos(COUNT_LOSSES) {
            self.lost_asked_ns = begun_ns;
            self.lost = self.count_lost();
        }
        self.report(if last { u64::MAX } else { complete_ns }, each);
        Ok(())
    }

    /// Reads what a CPU has, up to `room` bytes. If that was not everything, returns the time up to which everything was read.
    fn read(&mut self, at: usize, mut room: usize) -> io::Result<Option<u64>> {
        let mut last_ns = None;
        loop {
            let Some(length) = self.pipes.read(at, &mut self.page)? else { return Ok(None) };
            let (events, held) = (&self.events, &mut self.held);
            page::events(&self.page[..length], &events.page, &mut |at_ns, bytes| {
                last_ns = Some(at_ns);
                held.extend(events.record(at_ns, bytes));
            });
            room = room.saturating_sub(length);
            if room == 0 {
                // What belongs to the last ones was not read yet.
                return Ok(last_ns.map(|at_ns| at_ns.saturating_sub(ONE_CALL_NS)));
            }
        }
    }

    /// Reports what is older than this time, in order.
    fn report(&mut self, before_ns: u64, each: &mut dyn FnMut(Event)) {
        // Almost sorted already: a run for each CPU.
        self.held.sort_by_key(|r| r.at_ns);
        let ripe = self.held.partition_point(|r| r.at_ns < before_ns);
        if ripe == 0 {
            return;
        }
        // What is still held counts too.
        let mut join = Join::of(self.passed.iter().chain(&self.held));
        let now = Now::read();
        let ripe: Vec<Record> = self.held.drain(..ripe).collect();
        for record in &ripe {
            match record.what {
                What::Change { transition, tid } => {
                    let at_us = now.wall_us_at(record.at_ns);
                    let mut t = Transition { at_us, by: Some(self.by(tid, record.at_ns)), ..transition };
                    if self.ends && t.new == State::Close {
                        self.end(&mut t, record.address, &mut join);
                    }
                    each(Event::Change(t));
                }
                What::Fault(seen) => {
                    let state = seen.at.state.or_else(|| join.state_at_reset(record.address, record.at_ns));
                    let (at_us, by) = (now.wall_us_at(record.at_ns), Some(self.by(seen.tid, record.at_ns)));
                    self.fault(&seen, Sighting { at_us, state, by, ..seen.at }, each);
                }
                What::Destroyed { .. } => {}
            }
        }
        let Some(last) = ripe.last() else { return };
        self.passed.extend(ripe.iter().copied());
        self.passed.retain(|record| join.may_explain(record, last.at_ns));
    }

    /// What is known of a socket that went to CLOSE.
    fn end(&mut self, t: &mut Transition, address: u64, join: &mut Join) {
        t.cookie = join.cookie(address, t.monotonic_ns);
        let destroyed = t.cookie.and_then(|cookie| self.destroy_events.as_mut()?.take(cookie));
        t.traffic = destroyed.filter(|event| !event.cleared).map(|event| Traffic {
            sent_bytes: event.sent_bytes,
            received_bytes: t.old.and_then(|old| received_bytes(old, event.received_bytes)),
        });
        if self.events.faults.iter().any(|layout| layout.point() == Point::ErrorReport) {
            t.error = join.error(t, address, destroyed.and_then(|event| event.repeated));
        }
    }

    /// Passes on a fault, if it was asked for.
    fn fault(&self, seen: &Seen, at: Sighting, each: &mut dyn FnMut(Event)) {
        match seen.fault {
            Fault::ResetSent(reason) if self.faults.resets => each(Event::ResetSent(ResetSent { at, reason })),
            Fault::ResetReceived if self.faults.resets => each(Event::ResetReceived(ResetReceived { at })),
            Fault::Retransmit(failed) if self.faults.retransmits => each(Event::Retransmit(Retransmit { at, failed })),
            _ => {}
        }
    }

    fn by(&mut self, tid: Option<u32>, at_ns: u64) -> By {
        let Some(tid) = tid else { return By::Network };
        if self.pids_known.is_err() {
            return By::UnknownProcess;
        }
        match self.tasks.of(tid, at_ns, &self.instance) {
            Some(Task { actor, kernel: false }) => By::Process(actor),
            Some(Task { actor, kernel: true }) => By::KernelThread(actor),
            None => By::UnknownProcess,
        }
    }

    /// The kernel's counts of what found no room.
    fn count_lost(&self) -> u64 {
        let of = |cpu: &str| self.instance.read(&format!("per_cpu/{cpu}/stats")).map_or(0, |text| lost(&text));
        self.pipes.cpus().map(of).sum()
    }
}

impl Source for Tracefs {
    fn via(&self) -> Via {
        Via::Tracefs
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn gaps(&self) -> Vec<Gap> {
        let mut gaps = vec![Gap::new(Missing::TraceNetns, Why::Tracepoint, WayOut::UseBpf)];
        gaps.extend(self.ends.then(|| Gap::new(Missing::OrphanErrors, Why::Tracepoint, WayOut::UseBpf)));
        gaps.extend(self.lacks.iter().cloned());
        gaps.extend(self.pids_known.as_ref().err().map(bpf::Unavailable::processes_unknown));
        gaps
    }

    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(Event)) -> io::Result<Vec<Gap>> {
        self.next(patience, each)?;
        Ok(Vec::new())
    }

    fn lost(&self) -> Option<Lost> {
        Some(Lost { ring_full: self.lost, nested: None })
    }
}

impl std::fmt::Debug for Tracefs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracefs").field("instance", &self.instance).field("lost", &self.lost).finish_non_exhaustive()
    }
}

fn lack(point: Point, why: Why, way_out: WayOut) -> Gap {
    Gap::new(Missing::Tracepoint { name: point.name() }, why, way_out)
}

/// The events that are wanted beside changes, and what of them this kernel lacks.
fn layouts(instance: &Instance, ends: bool, faults: Faults) -> (Vec<Layout>, Vec<Gap>) {
    let (mut layouts, mut lacks) = (Vec::new(), Vec::new());
    for point in Point::ALL {
        let wanted = match point {
            Point::ErrorReport => ends,
            Point::ResetReceived => ends || faults.resets,
            Point::ResetSent => faults.resets,
            Point::Retransmit => faults.retransmits,
        };
        if !wanted {
            continue;
        }
        match instance.read(&format!("{}/format", point.path())) {
            Ok(text) => match Layout::new(point, &text) {
                Ok(layout) => layouts.push(layout),
                Err(why) => lacks.push(lack(point, Why::Error(why.to_string()), WayOut::None)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                lacks.push(lack(point, Why::NotInKernel, WayOut::NewerKernel));
            }
            Err(e) => lacks.push(lack(point, Why::Error(reason(&e)), WayOut::None)),
        }
    }
    if layouts.iter().any(|layout| layout.point() == Point::ResetSent && !layout.has_reasons()) {
        lacks.push(Gap::new(Missing::ResetReasons, Why::Tracepoint, WayOut::Kernel { since: REASONS_SINCE }));
    }
    (layouts, lacks)
}

/// Payload, without the peer's FIN, which the kernel counts as a byte, of a socket that left its last state. From FIN_WAIT2 it
/// goes with the FIN (`tcp_fin` in `net/ipv4/tcp_input.c`) or without: as an orphan, by close(), by a reset; nothing in the
/// records says which.
fn received_bytes(last: State, counted: u64) -> Option<u64> {
    match last {
        State::CloseWait | State::LastAck | State::Closing => counted.checked_sub(1),
        State::FinWait2 if counted > 0 => None,
        _ => Some(counted),
    }
}

/// What a `stats` file says was lost: written over, or dropped because there was no room.
fn lost(stats: &str) -> u64 {
    let of_line = |line: &str| {
        let (name, number) = line.split_once(':')?;
        matches!(name, "overrun" | "commit overrun" | "dropped events").then(|| number.trim().parse::<u64>().ok())?
    };
    stats.lines().filter_map(of_line).sum()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_added_up_whatever_they_are_called() {
        let stats = "entries: 3\noverrun: 2\ncommit overrun: 1\nbytes: 5\noldest event ts:   1.2\ndropped events: 40\nread events: 9\n";
        assert_eq!((lost(stats), lost(""), lost("overrun: x\n")), (43, 0, 0));
    }

    #[test]
    fn every_reason_is_one_lower_case_line_with_a_way_out() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        for error in [
            Unavailable::Closed { path: "/sys/kernel/tracing".into(), source: denied() },
            Unavailable::NotMounted(denied()),
            Unavailable::Instance { what: "make instances/tcpstate-1".into(), source: denied() },
        ] {
            let line = error.to_string();
            assert!(line.starts_with(char::is_lowercase) && line.ends_with("permission denied"), "{line}");
            assert_eq!(error.way_out(), WayOut::HostRoot);
        }
        assert!(
            Unavailable::from(FormatError::Missing("an event header", "padding")).to_string().contains("`padding`")
        );
    }
}
