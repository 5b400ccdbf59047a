//! Every TCP state change of the host as it happens, with namespace, cookie and the process that made it; and, where they
//! are wanted, resets and repeated segments.
//!
//! Input: a ring size, and the network namespaces to keep. Output: [`Event`]s in the order in which the kernel wrote
//! them, and an exact count of those that were lost. Not here: what an event means; joining it with sockets.
//!
//! A program on the tracepoint `sock:inet_sock_set_state` (`inet_sk_state_store` and `inet_sk_set_state`,
//! `net/ipv4/af_inet.c`) copies fields of the socket into a ring buffer. What the tracepoint reports and what it does not:
//!
//! * **No TIME_WAIT, no half-open request.** Those are other, smaller objects that never pass here. A socket that
//!   becomes a TIME_WAIT object is reported as going to CLOSE (`tcp_time_wait` ends in `tcp_done`), normally from
//!   FIN_WAIT2 or CLOSING; a request is first seen as the new socket that goes from LISTEN to SYN_RECV.
//! * **The new socket of a handshake.** Older kernels (not 6.18) announce LISTEN -> SYN_RECV before the clone of the
//!   listener gets its own addresses, and before its cookie is set (`inet_csk_clone_lock`). A cookie made then would be
//!   overwritten, so the program makes none while the peer's port is 0, and the record has no cookie; its addresses are
//!   still the listener's. Before Linux 5.12 the program can make no cookie at all. The address of the socket in the
//!   kernel's memory identifies it in every record.
//! * **The local port** is `inet_sport`, which outlives the binding; `skc_num` is already 0 when a socket goes to
//!   CLOSE. Both are 0 in CLOSE -> SYN_SENT of an unbound socket: the port is chosen just after.
//!
//! ## How it ended
//!
//! A change to CLOSE has `sk_err`: every path that ends a socket by an error sets it first (`tcp_done_with_error` since Linux
//! 6.11; before, `tcp_reset`, `tcp_write_err`, `tcp_v4_err`), so the event `sock:inet_sk_error_report` would say nothing more.
//! Before 6.11 the process may fetch the error (`SO_ERROR`) between the two, within microseconds; then there is none.
//! connect() that finds no route fails before the socket changes its state, and is not seen.
//!
//! Each of the other tracepoints has a program of its own (`faults`), which writes to the same ring. One that the kernel
//! lacks is a gap. Before Linux 6.10 resets have no reason, and those that answer a packet for which there is no socket are
//! not reported.
//!
//! ## Who did it
//!
//! `current` is whoever the CPU was running, often a bystander that a packet interrupted. What tells the two apart is
//! the socket's own lock word, `sk->sk_lock.owned`: it is 1 exactly while a task holds the socket by `lock_sock()`
//! (`lock_sock_nested`, `net/core/sock.c`), and then nobody else may change the state: packets go to the backlog
//! (`tcp_v4_rcv`), timers put themselves off (`tcp_write_timer`, `tcp_keepalive_timer`), and `release_sock` works both
//! off in the holder's own context, before it lets go. So with the word at 1, `current` is the task that was working on
//! this socket, and with 0 the network or a timer did it, and `current` means nothing. This beats looking at the
//! preemption count, which is where the question is usually asked: that sits in a different place on every architecture
//! and for some kernel versions, reads differently with PREEMPT_RT, and still takes a VPN daemon that writes a packet
//! to a tun device, or a thread that busy-polls, for the owner of the socket that the packet is for.
//!
//! Being the holder is not the same as wanting it: a reset from the peer that was waiting in the backlog also closes
//! the socket in the holder's context. Only some transitions can come from nothing but a system call; see
//! [`is_by_call`](crate::model::transition::is_by_call). One thing that a process does is attributed to nobody: connections still in the
//! accept queue of a listener that is closed (`inet_csk_listen_stop` holds them by their spin lock only). No process
//! ever had those.

mod faults;
mod layout;
mod program;
mod record;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::btf::Btf;
use super::kernel_btf::KernelBtf;
use super::ring::{Counter, Ring};
use super::sys::{self, Attach};
use super::{Unavailable, pids_are_ours};
use crate::collect::change_source::{Changes, Faults, Lost, Request, Scope, Source};
use crate::collect::clock::{GATHER, Now};
use crate::model::event::ResetReason;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::transition::Via;
use crate::model::{Event, Gap, NetnsId};
use layout::{Layout, REASON, Tracepoint};
use program::Dialect;
use record::Reading;

/// The first kernel that passes the reason of a reset, and reports those without a socket.
const REASONS_SINCE: (u32, u32) = (6, 10);

/// A running trace; dropping it detaches the program and frees everything.
pub struct Tracer {
    // Fields drop in this order: first the attachment, so that nothing is written to a ring that is going away.
    attachments: Vec<OwnedFd>,
    programs: Vec<OwnedFd>,
    ring: Ring,
    ring_full: Counter,
    pids_known: Result<(), Unavailable>,
    /// What was wanted and is not there.
    lacks: Vec<Gap>,
    /// The kernel's reasons of resets by number; `None`: it passes none.
    reasons: Option<Vec<(u32, ResetReason)>>,
    failures: bool,
    scope: Scope,
}

impl Tracer {
    /// The source as a trace asks for it.
    ///
    /// # Errors
    /// One line why it cannot run here, with the way out.
    pub fn begin(request: &Request) -> Result<Tracer, Gap> {
        let gap = |why, way_out| Gap::new(Missing::Trace(Some(Via::Bpf)), why, way_out);
        let inode = |id: &Option<NetnsId>| u32::try_from(id.as_ref()?.get()).ok();
        let netns: Vec<u32> = match &request.scope {
            Scope::Host => Vec::new(),
            Scope::Among(ids) => {
                let inodes: Option<Vec<u32>> = ids.iter().map(inode).collect();
                inodes.ok_or_else(|| gap(Why::NetnsUnknown, WayOut::MountProc))?
            }
        };
        let opened = Tracer::with(request.ring_bytes, &netns, request.changes, request.faults);
        let mut tracer = opened.map_err(|why| gap(Why::Error(why.to_string()), why.way_out()))?;
        tracer.scope = request.scope.clone();
        Ok(tracer)
    }

    /// Every change, for tests.
    #[cfg(test)]
    pub(super) fn open(ring_bytes: usize, netns: &[u32], faults: Faults) -> Result<Tracer, Unavailable> {
        Tracer::with(ring_bytes, netns, Changes::All, faults)
    }

    /// Begins to trace, in the kernel restricted to these network namespaces if any are given.
    ///
    /// What is wanted beside changes, and cannot be had, is a gap. A record takes 136 bytes in the ring; `ring_bytes` is
    /// rounded up to a power of two and at least one page.
    ///
    /// # Errors
    /// Why it cannot be done here; also when there are more of them than fit a program.
    fn with(ring_bytes: usize, netns: &[u32], changes: Changes, faults: Faults) -> Result<Tracer, Unavailable> {
        let layout = Layout::new(&mut Btf::parse(&KernelBtf::new()?)?)?;
        let start = |dialect| Tracer::start(&layout, dialect, ring_bytes, netns, changes);
        let mut tracer = match start(Dialect::Typed) {
            // Before Linux 5.12 the verifier does not know all of the helpers.
            Err(Unavailable::Refused { .. }) => start(Dialect::Plain)?,
            result => result?,
        };
        tracer.add_faults(&layout, netns, faults);
        Ok(tracer)
    }

    /// Adds the programs for what is wanted beside changes.
    fn add_faults(&mut self, layout: &Layout, netns: &[u32], faults: Faults) {
        let points = &layout.faults;
        for (wanted, kind, tracepoint, point) in [
            (faults.resets, record::RESET_SENT, "tcp:tcp_send_reset", points.reset_sent),
            (faults.resets, record::RESET_RECEIVED, "tcp:tcp_receive_reset", points.reset_received),
            (faults.retransmits, record::RETRANSMIT, "tcp:tcp_retransmit_skb", points.retransmit),
        ] {
            let missing = Missing::Tracepoint { name: tracepoint };
            match point {
                _ if !wanted => {}
                None => self.lacks.push(Gap::new(missing, Why::NotInKernel, WayOut::NewerKernel)),
                Some(point) => {
                    if let Err(why) = self.add(layout, kind, point, netns) {
                        self.lacks.push(Gap::new(missing, Why::Error(why.to_string()), why.way_out()));
                    }
                }
            }
        }
        if faults.resets && points.reset_sent.is_some() && points.reasons.is_none() {
            self.lacks.push(Gap::new(Missing::ResetReasons, Why::Tracepoint, WayOut::Kernel { since: REASONS_SINCE }));
        }
        self.reasons.clone_from(&points.reasons);
        self.failures = points.retransmit.is_some_and(|p| p.arguments >= REASON);
    }

    fn add(&mut self, layout: &Layout, kind: i32, point: Tracepoint, netns: &[u32]) -> Result<(), Unavailable> {
        let code = layout
            .fault_program(kind, point, self.ring.map(), self.ring_full.map(), netns)
            .map_err(|source| Unavailable::Assemble { program: "trace", source })?;
        let program = sys::load_program("trace", &code, Attach::RawTracepoint, point.id)?;
        self.attachments.push(sys::attach_tracepoint(program.as_fd())?);
        self.programs.push(program);
        Ok(())
    }

    /// What [`Tracer::with`] falls back to, for tests on a kernel that does not need it.
    #[cfg(test)]
    pub(super) fn open_for_older_kernels(ring_bytes: usize, netns: &[u32]) -> Result<Tracer, Unavailable> {
        let layout = Layout::new(&mut Btf::parse(&KernelBtf::new()?)?)?;
        Tracer::start(&layout, Dialect::Plain, ring_bytes, netns, Changes::All)
    }

    fn start(
        layout: &Layout,
        dialect: Dialect,
        ring_bytes: usize,
        netns: &[u32],
        changes: Changes,
    ) -> Result<Tracer, Unavailable> {
        let (ring, ring_full) = (Ring::new(ring_bytes)?, Counter::new()?);
        let code = layout
            .program(dialect, changes, ring.map(), ring_full.map(), netns)
            .map_err(|source| Unavailable::Assemble { program: "trace", source })?;
        let program = sys::load_program("trace", &code, Attach::RawTracepoint, layout.tracepoint)?;
        let attachment = sys::attach_tracepoint(program.as_fd())?;
        Ok(Tracer {
            attachments: vec![attachment],
            programs: vec![program],
            ring,
            ring_full,
            pids_known: pids_are_ours(),
            lacks: Vec::new(),
            reasons: None,
            failures: false,
            scope: Scope::Host,
        })
    }

    /// Waits until there is something to drain. False when the time is over or a signal came.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        self.ring.wait(timeout)
    }

    /// Takes what was recorded before this call and not taken yet. Never blocks.
    pub fn take(&mut self, each: &mut dyn FnMut(Event)) {
        let reading = Reading {
            pids_known: self.pids_known.is_ok(),
            now: Now::read(),
            reasons: self.reasons.as_deref(),
            failures: self.failures,
        };
        self.ring.drain(&mut |bytes| each(record::decode(bytes, &reading)));
    }

    /// What was lost since the beginning.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let nested = self.programs.iter().map(|program| sys::recursion_misses(program.as_fd())).sum();
        Lost { ring_full: self.ring_full.get(), nested }
    }
}

impl Source for Tracer {
    fn via(&self) -> Via {
        Via::Bpf
    }

    fn scope(&self) -> Scope {
        self.scope.clone()
    }

    fn gaps(&self) -> Vec<Gap> {
        self.pids_known
            .as_ref()
            .err()
            .map(Unavailable::processes_unknown)
            .into_iter()
            .chain(self.lacks.clone())
            .collect()
    }

    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(Event)) -> io::Result<Vec<Gap>> {
        if self.wait(patience)? {
            std::thread::sleep(GATHER);
        }
        self.take(each);
        Ok(Vec::new())
    }

    fn lost(&self) -> Option<Lost> {
        Some(Tracer::lost(self))
    }
}

/// Readable when there is something to drain, for a caller with its own event loop.
impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.map()
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer")
            .field("attachments", &self.attachments)
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}
