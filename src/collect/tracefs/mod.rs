//! Every TCP state change of the host from the kernel's trace file system, where BPF is not to be had.
//!
//! Comes in: room for records. Goes out: [`Transition`]s in the order of their times, and an exact count of those that
//! were lost; or [`Unavailable`], which says in one line why not. Never here: what a change means; a trace that is not our
//! own: everything happens in an instance that is made for this process and removed after it.
//!
//! The event is `sock:inet_sock_set_state`, the same that the BPF program is attached to. A record has the socket's place
//! in memory, which stands for its identity until it is closed, and no namespace, no cookie and no lock word. So
//!
//! * who made a change is told by the context alone: none while a packet or a timer is worked off (hard and soft
//!   interrupts), else the thread that was running. Only where [`is_by_call`] says that nothing but a system call makes
//!   this change is that thread its cause. The number is that of the thread; its process is asked for in `/proc` a few
//!   milliseconds later, and may have ended by then.
//! * the cookie becomes known when the socket is destroyed, from the event `tcp:tcp_destroy_sock`, if that is soon enough;
//!   by it, what the connection carried is found among the kernel's last words ([`Farewells`]).
//!
//! Every CPU has its own ring, so records are held for a moment and sorted. A CPU that comes later has its directory
//! from the beginning and its ring from then on.

mod format;
mod instance;
mod page;
mod pipes;
mod tasks;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::fs::OFlags;

use super::bpf;
use super::error::reason;
use super::netlink::destroyed::{DestroyEvent, Farewells};
use crate::model::gap::WayOut;
use crate::model::transition::{By, Traffic, Transition, is_by_call};
use crate::model::{Endpoint, Family, NetnsId, State};
use format::{Field, Format, FormatError, PageLayout};
use instance::Instance;
use pipes::Pipes;
use tasks::{Task, Tasks};

const EVENT: &str = "events/sock/inet_sock_set_state";
const DESTROYED: &str = "events/tcp/tcp_destroy_sock";
/// Records are held for so long, that those of another CPU may come before them.
const HOLD: Duration = Duration::from_millis(4);
/// Where cookies are wanted: for so long a socket may live on after its last change.
const HOLD_FOR_COOKIE: Duration = Duration::from_millis(50);
/// Last words that nobody asked for are kept for as long, and twice as long at most.
const KEEP_WORDS: Duration = Duration::from_secs(1);
/// How often losses are asked for while records come: one file for each CPU.
const COUNT_LOSSES: Duration = Duration::from_millis(100);
/// Bytes that are read from one CPU at a time, so that one that never ends does not keep the others waiting.
const AT_ONCE: usize = 4 << 20;
/// The least that the kernel makes of a ring: two pages.
const SMALLEST_KIB: usize = 8;
/// Bits of `common_flags`, `include/linux/trace_events.h`: hard interrupt, soft interrupt, NMI.
const INTERRUPTS: u64 = 0x08 | 0x10 | 0x40;
const IPPROTO_TCP: u64 = 6;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

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
    hold: Duration,
    /// Of one CPU.
    ring_bytes: usize,
    words: Option<LastWords>,
    tasks: Tasks,
    /// Whether numbers of processes mean something here.
    pids_known: Result<(), bpf::Unavailable>,
    lost: u64,
    lost_asked_ns: u64,
}

/// The layout of what is traced.
#[derive(Clone, Debug)]
struct Events {
    page: PageLayout,
    change: Change,
    destroyed: Option<Destroyed>,
}

#[derive(Clone, Debug)]
struct Change {
    id: u64,
    kind: Field,
    flags: Field,
    pid: Field,
    address: Field,
    old: Field,
    new: Field,
    sport: Field,
    dport: Field,
    family: Field,
    protocol: Field,
    v4: [Field; 2],
    v6: [Field; 2],
}

#[derive(Clone, Debug)]
struct Destroyed {
    id: u64,
    address: Field,
    cookie: Field,
}

/// What was read of a ring, before it is known who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    at_ns: u64,
    address: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Change { old: State, new: State, family: Family, local: Endpoint, peer: Endpoint, tid: Option<u32> },
    Destroyed { cookie: u64 },
}

/// Last words of sockets whose last change was not handed out yet.
struct LastWords {
    farewells: Farewells,
    /// By cookie; the second are older.
    words: [FxHashMap<u64, DestroyEvent>; 2],
    turned_ns: u64,
}

impl LastWords {
    fn hear(&mut self, now_ns: u64) -> io::Result<()> {
        if now_ns.saturating_sub(self.turned_ns) > nanos(KEEP_WORDS) {
            self.turned_ns = now_ns;
            self.words.swap(0, 1);
            self.words[0].clear();
        }
        let words = &mut self.words[0];
        self.farewells.drain(&mut |f| {
            words.insert(f.cookie, f);
        })
    }

    fn of(&mut self, cookie: u64) -> Option<DestroyEvent> {
        self.words.iter_mut().find_map(|words| words.remove(&cookie))
    }
}

impl Tracefs {
    /// Begins to trace all network namespaces. `ring_bytes` is the room of all CPUs together. With `ends`, cookies and
    /// traffic are told of sockets that end; that takes one record more for each socket, and patience. The filter is for
    /// the kernel, and may let more pass than it says.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn open(ring_bytes: usize, ends: bool, filter: Option<&str>) -> Result<Tracefs, Unavailable> {
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
        let events = Events { change: Change::new(&format)?, page, destroyed };
        let cpus = instance.cpus().map_err(|source| Unavailable::Instance { what: "read per_cpu".into(), source })?;
        let own_netns = std::fs::metadata("/proc/thread-self/ns/net").ok().and_then(|m| NetnsId::new(m.ino()));
        let words = events.destroyed.as_ref().and_then(|_| Farewells::open(own_netns).ok());
        let words = words.map(|farewells| LastWords { farewells, words: Default::default(), turned_ns: 0 });
        // Many more CPUs than there are may have a directory; only those that come get a ring.
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
        write(&format!("{EVENT}/enable"), "1")?;
        Ok(Tracefs {
            page: vec![0; events.page.page_bytes()],
            pipes,
            instance,
            held: Vec::new(),
            hold: if events.destroyed.is_some() { HOLD_FOR_COOKIE } else { HOLD },
            ring_bytes: kib * 1024,
            words,
            events,
            tasks: Tasks::default(),
            pids_known: bpf::pids_are_ours(),
            lost: 0,
            lost_asked_ns: 0,
        })
    }

    /// Why records cannot name processes, if they cannot.
    #[must_use]
    pub fn processes_unknown(&self) -> Option<&bpf::Unavailable> {
        self.pids_known.as_ref().err()
    }

    /// Waits up to `patience` for records and hands out those that have been held long enough, which with no patience
    /// are all. A signal ends the wait.
    ///
    /// # Errors
    /// When the kernel does not let us read what it let us open.
    pub fn next(&mut self, patience: Duration, each: &mut dyn FnMut(Transition)) -> io::Result<()> {
        let wait = if self.held.is_empty() { patience } else { patience.min(HOLD) };
        if self.pipes.wait(wait, super::clock::monotonic_ns())? && !patience.is_zero() {
            std::thread::sleep(super::clock::GATHER);
        }
        let begun_ns = super::clock::monotonic_ns();
        let mut complete_ns = begun_ns.saturating_sub(nanos(self.hold));
        let last = patience.is_zero();
        for at in self.pipes.there() {
            // At the end everything that was there: no more than a ring holds.
            if let Some(unread_ns) = self.read(at, if last { AT_ONCE.max(2 * self.ring_bytes) } else { AT_ONCE })? {
                complete_ns = complete_ns.min(unread_ns);
            }
        }
        if let Some(words) = &mut self.words {
            words.hear(begun_ns)?;
        }
        if last || begun_ns.saturating_sub(self.lost_asked_ns) > nanos(COUNT_LOSSES) {
            self.lost_asked_ns = begun_ns;
            self.lost = self.count_lost();
        }
        self.hand_out(if last { u64::MAX } else { complete_ns }, each);
        Ok(())
    }

    /// Records that were lost since the beginning, as of the last look. A change that interrupts another one is written
    /// before the kernel's filter judges it (`trace_event_buffer_lock_reserve`), so while the room is full a few of those
    /// that the filter would have dropped count as well.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads what a CPU has, up to so many bytes. If that was not everything, gives the time up to which everything was read.
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
                return Ok(last_ns);
            }
        }
    }

    /// Hands out what is older than this time, in order.
    fn hand_out(&mut self, before_ns: u64, each: &mut dyn FnMut(Transition)) {
        // Almost sorted already: a run for each CPU.
        self.held.sort_by_key(|r| r.at_ns);
        let ripe = self.held.partition_point(|r| r.at_ns < before_ns);
        if ripe == 0 {
            return;
        }
        // A socket is destroyed after its last change; what is still held counts too.
        let mut ends: FxHashMap<u64, VecDeque<(u64, u64)>> = FxHashMap::default();
        for record in &self.held {
            if let What::Destroyed { cookie } = record.what {
                ends.entry(record.address).or_default().push_back((record.at_ns, cookie));
            }
        }
        let (wall_us, now_ns) = (jiff::Timestamp::now().as_microsecond(), super::clock::monotonic_ns());
        let ripe: Vec<Record> = self.held.drain(..ripe).collect();
        for record in ripe {
            let What::Change { old, new, family, local, peer, tid } = record.what else { continue };
            let cookie = ends.get_mut(&record.address).filter(|_| new == State::Close).and_then(|ends| {
                while ends.front().is_some_and(|(at, _)| *at < record.at_ns) {
                    ends.pop_front();
                }
                ends.front().map(|(_, cookie)| *cookie)
            });
            let farewell = cookie.and_then(|cookie| self.words.as_mut()?.of(cookie));
            let traffic = farewell.filter(|farewell| !farewell.cleared).map(|farewell| Traffic {
                sent_bytes: farewell.sent_bytes,
                received_bytes: received_bytes(old, farewell.received_bytes),
            });
            let ago_us = i64::try_from(now_ns.saturating_sub(record.at_ns) / 1000).unwrap_or(0);
            each(Transition {
                at_us: wall_us - ago_us,
                monotonic_ns: record.at_ns,
                netns: None,
                cookie,
                address: Some(record.address),
                family,
                local,
                peer,
                old: Some(old),
                new,
                by: Some(self.by(tid, record.at_ns)),
                by_call: is_by_call(old, new),
                traffic,
            });
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

impl std::fmt::Debug for Tracefs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracefs").field("instance", &self.instance).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Change {
    fn new(format: &Format) -> Result<Change, FormatError> {
        Ok(Change {
            id: format.id,
            kind: format.number("common_type")?,
            flags: format.number("common_flags")?,
            pid: format.number("common_pid")?,
            address: format.number("skaddr")?,
            old: format.number("oldstate")?,
            new: format.number("newstate")?,
            sport: format.number("sport")?,
            dport: format.number("dport")?,
            family: format.number("family")?,
            protocol: format.number("protocol")?,
            v4: [format.array("saddr", 4)?, format.array("daddr", 4)?],
            v6: [format.array("saddr_v6", 16)?, format.array("daddr_v6", 16)?],
        })
    }

    fn record(&self, at_ns: u64, bytes: &[u8]) -> Option<Record> {
        let port = |field: Field| u16::try_from(field.number(bytes)?).ok();
        let state = |field: Field| Some(State::from_kernel(u8::try_from(field.number(bytes)?).ok()?));
        // The filter has kept it out already, if the kernel took it.
        if self.protocol.number(bytes)? != IPPROTO_TCP {
            return None;
        }
        let (family, [local, peer]) = match self.family.number(bytes)? {
            AF_INET => {
                (Family::V4, self.v4.map(|f| Some(IpAddr::V4(Ipv4Addr::from(*f.bytes(bytes)?.first_chunk::<4>()?)))))
            }
            AF_INET6 => {
                (Family::V6, self.v6.map(|f| Some(IpAddr::V6(Ipv6Addr::from(*f.bytes(bytes)?.first_chunk::<16>()?)))))
            }
            _ => return None,
        };
        let tid = u32::try_from(self.pid.number(bytes)?).ok()?;
        let interrupted = self.flags.number(bytes)? & INTERRUPTS != 0;
        Some(Record {
            at_ns,
            address: self.address.number(bytes)?,
            what: What::Change {
                old: state(self.old)?,
                new: state(self.new)?,
                family,
                local: Endpoint::new(local?, port(self.sport)?),
                peer: Endpoint::new(peer?, port(self.dport)?),
                // Thread 0 is an idle CPU.
                tid: (tid != 0 && !interrupted).then_some(tid),
            },
        })
    }
}

impl Destroyed {
    fn new(text: &str) -> Result<Destroyed, FormatError> {
        let format = Format::parse("tcp:tcp_destroy_sock", text)?;
        Ok(Destroyed { id: format.id, address: format.number("skaddr")?, cookie: format.number("sock_cookie")? })
    }
}

impl Events {
    fn record(&self, at_ns: u64, bytes: &[u8]) -> Option<Record> {
        let id = self.change.kind.number(bytes)?;
        if id == self.change.id {
            return self.change.record(at_ns, bytes);
        }
        let destroyed = self.destroyed.as_ref().filter(|d| d.id == id)?;
        let cookie = destroyed.cookie.number(bytes)?;
        Some(Record { at_ns, address: destroyed.address.number(bytes)?, what: What::Destroyed { cookie } })
    }
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

    fn events() -> Events {
        let format = Format::parse("x", format::tests::EVENT_FORMAT).unwrap();
        let destroyed =
            Destroyed { id: 9, address: Field { offset: 8, size: 8 }, cookie: Field { offset: 16, size: 8 } };
        Events { page: page::tests::layout(), change: Change::new(&format).unwrap(), destroyed: Some(destroyed) }
    }

    /// ESTABLISHED to FIN_WAIT1 by thread 815, outside of interrupts.
    fn raw() -> Vec<u8> {
        let mut r = vec![0; 72];
        let mut put = |at: usize, bytes: &[u8]| r[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &2287_u16.to_ne_bytes());
        put(4, &815_u32.to_ne_bytes());
        put(8, &0xffff_8880_0000_1000_u64.to_ne_bytes());
        put(16, &1_u32.to_ne_bytes());
        put(20, &4_u32.to_ne_bytes());
        put(24, &443_u16.to_ne_bytes());
        put(26, &50_000_u16.to_ne_bytes());
        put(28, &2_u16.to_ne_bytes());
        put(30, &6_u16.to_ne_bytes());
        put(32, &[10, 0, 0, 1]);
        put(36, &[10, 0, 0, 2]);
        r
    }

    #[test]
    fn a_record_reads_back_field_by_field_and_only_when_it_is_one() {
        let record = events().record(5, &raw()).unwrap();
        assert_eq!((record.at_ns, record.address), (5, 0xffff_8880_0000_1000));
        let What::Change { old, new, family, local, peer, tid } = record.what else { panic!("{record:?}") };
        assert_eq!((old, new, family, tid), (State::Established, State::FinWait1, Family::V4, Some(815)));
        assert_eq!((local.to_string(), peer.to_string()), ("10.0.0.1:443".into(), "10.0.0.2:50000".into()));
        for length in 0..raw().len() {
            // The IPv6 addresses are not read of an IPv4 record.
            assert_eq!(events().record(5, &raw()[..length]).is_some(), length >= 40, "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = raw();
            bytes[at] = byte;
            events().record(5, &bytes)
        };
        assert!(with(0, 0).is_none() && with(30, 132).is_none() && with(28, 1).is_none());
        for flags in [0x08, 0x10, 0x40, 0x18] {
            assert!(matches!(with(2, flags).unwrap().what, What::Change { tid: None, .. }), "{flags:#x}");
        }
        assert!(matches!(with(2, 0x01).unwrap().what, What::Change { tid: Some(815), .. }));
        let mut bytes = raw();
        bytes[0..2].copy_from_slice(&9_u16.to_ne_bytes());
        bytes[16..24].copy_from_slice(&77_u64.to_ne_bytes());
        assert_eq!(events().record(5, &bytes).unwrap().what, What::Destroyed { cookie: 77 });
    }

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
