//! Every TCP state change of the host as it happens, with namespace, cookie and the process that made it.
//!
//! Comes in: a ring size, optionally one network namespace. Goes out: [`TransitionRecord`]s in the order in which the
//! kernel wrote them, and an exact count of those that were lost. Never here: what a transition means; joining it with
//! sockets; a wall clock (times are `CLOCK_MONOTONIC`).
//!
//! A program on the tracepoint `sock:inet_sock_set_state` (`inet_sk_state_store` and `inet_sk_set_state`,
//! `net/ipv4/af_inet.c`) copies fields of the socket into a ring buffer. What the tracepoint says and does not say:
//!
//! * **No TIME_WAIT, no half-open request.** Those are other, smaller objects that never pass here. A socket that
//!   becomes a TIME_WAIT object is reported as going to CLOSE (`tcp_time_wait` ends in `tcp_done`), normally from
//!   FIN_WAIT2 or CLOSING; a request is first seen as the new socket that goes from LISTEN to SYN_RECV.
//! * **The new socket of a handshake.** Older kernels (not 6.18) announce LISTEN -> SYN_RECV before the clone of the
//!   listener gets its own addresses, and before its cookie is set (`inet_csk_clone_lock`). A cookie made then would be
//!   overwritten, so the program makes none while the peer's port is 0, and the record has no cookie; its addresses are
//!   still the listener's.
//! * **The local port** is `inet_sport`, which outlives the binding; `skc_num` is already 0 when a socket goes to
//!   CLOSE. Both are 0 in CLOSE -> SYN_SENT of an unbound socket: the port is chosen just after.
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
//! [`TransitionRecord::is_by_call`]. One thing that a process does is attributed to nobody: connections still in the
//! accept queue of a listener that is closed (`inet_csk_listen_stop` holds them by their spin lock only). No process
//! ever had those.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::asm::{Asm, AsmError, Helper, Insn, Label, Reg, Width, signed};
use super::btf::{Btf, BtfError, Field, Kind, Wanted};
use super::ring::{Counter, Ring};
use super::sys::{self, Attach};
use super::{Unavailable, kernel_btf, pids_are_ours};
use crate::model::transition::{Traffic, is_by_call};
use crate::model::{Endpoint, Family, State};

/// One change of state of one TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitionRecord {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// The socket's cookie, the same as in `sock_diag` and kept by its TIME_WAIT object.
    pub cookie: Option<NonZeroU64>,
    /// Inode of the socket's network namespace.
    pub netns: u32,
    pub family: Family,
    pub local: Endpoint,
    pub peer: Endpoint,
    pub old: State,
    pub new: State,
    pub cpu: u32,
    pub actor: Actor,
    /// Of a socket that goes to CLOSE: what it carried.
    pub traffic: Option<Traffic>,
}

/// In whose hands the socket was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A process held the socket's lock: it was in a system call on it, or exiting.
    Process(Task),
    /// A kernel thread held it: a kernel socket (NFS, CIFS), or a file closed by a worker.
    KernelThread(Task),
    /// A packet or a timer.
    Network,
    /// A task held it, but process numbers mean nothing in this pid namespace.
    UnknownProcess,
}

/// A task, by the numbers of the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name as it is in the kernel: up to 15 bytes, chosen by the program itself, padded with 0.
    pub comm: [u8; 16],
}

impl Task {
    /// The thread's name. Foreign text: sanitise it on terminals.
    #[must_use]
    pub fn comm(&self) -> String {
        let end = self.comm.iter().position(|b| *b == 0).unwrap_or(self.comm.len());
        String::from_utf8_lossy(&self.comm[..end]).into_owned()
    }
}

impl TransitionRecord {
    /// Whether [`Actor::Process`] names the cause of this transition and not just its place.
    #[must_use]
    pub fn is_by_call(&self) -> bool {
        is_by_call(self.old, self.new)
    }
}

/// Transitions that are in no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The ring was full: the reader was too slow, or the ring too small.
    pub ring_full: u64,
    /// The kernel skipped the program because it was already running on that CPU: a packet arrived while the program
    /// handled another socket. `None` before Linux 5.12, which does not count.
    pub nested: Option<u64>,
}

impl Lost {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ring_full + self.nested.unwrap_or(0)
    }
}

/// A running trace; dropping it detaches the program and frees everything.
pub struct Tracer {
    // Fields drop in this order: first the attachment, so that nothing is written to a ring that is going away.
    attachment: OwnedFd,
    program: OwnedFd,
    ring: Ring,
    ring_full: Counter,
    pids_known: Result<(), Unavailable>,
}

impl Tracer {
    /// Begins to trace all network namespaces.
    ///
    /// A record takes 136 bytes in the ring; `ring_bytes` is rounded up to a power of two and at least one page.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn open(ring_bytes: usize) -> Result<Tracer, Unavailable> {
        Tracer::open_netns(ring_bytes, None)
    }

    /// Begins to trace, in the kernel restricted to one network namespace (its inode number) if one is given.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn open_netns(ring_bytes: usize, netns: Option<u32>) -> Result<Tracer, Unavailable> {
        Tracer::open_among(ring_bytes, netns.as_slice())
    }

    /// Begins to trace, in the kernel restricted to these network namespaces if any are given.
    ///
    /// # Errors
    /// Why it cannot be done here; also when there are more of them than fit a program.
    pub fn open_among(ring_bytes: usize, netns: &[u32]) -> Result<Tracer, Unavailable> {
        let layout = Layout::new(&mut Btf::parse(&kernel_btf()?)?)?;
        match Tracer::start(&layout, Dialect::Typed, ring_bytes, netns) {
            // Before Linux 5.12 the verifier does not know all of the helpers.
            Err(Unavailable::Refused { .. }) => Tracer::start(&layout, Dialect::Plain, ring_bytes, netns),
            result => result,
        }
    }

    /// What [`Tracer::open_netns`] falls back to, for tests on a kernel that does not need it.
    #[cfg(test)]
    pub(super) fn open_for_older_kernels(ring_bytes: usize, netns: Option<u32>) -> Result<Tracer, Unavailable> {
        let layout = Layout::new(&mut Btf::parse(&kernel_btf()?)?)?;
        Tracer::start(&layout, Dialect::Plain, ring_bytes, netns.as_slice())
    }

    fn start(layout: &Layout, dialect: Dialect, ring_bytes: usize, netns: &[u32]) -> Result<Tracer, Unavailable> {
        let (ring, ring_full) = (Ring::new(ring_bytes)?, Counter::new()?);
        let code = layout
            .program(dialect, ring.map(), ring_full.map(), netns)
            .map_err(|source| Unavailable::Assemble { program: "trace", source })?;
        let program = sys::load_program("trace", &code, Attach::RawTracepoint, layout.tracepoint)?;
        let attachment = sys::attach_tracepoint(program.as_fd())?;
        Ok(Tracer { attachment, program, ring, ring_full, pids_known: pids_are_ours() })
    }

    /// Why records cannot name processes, if they cannot: [`Actor::UnknownProcess`] then stands for all of them.
    #[must_use]
    pub fn processes_unknown(&self) -> Option<&Unavailable> {
        self.pids_known.as_ref().err()
    }

    /// Waits until there is something to drain. False when the time is over or a signal came.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub fn poll(&mut self, timeout: Duration) -> io::Result<bool> {
        self.ring.wait(timeout)
    }

    /// Hands out what was recorded before this call and not handed out yet. Never blocks.
    pub fn drain(&mut self, each: &mut dyn FnMut(&TransitionRecord)) {
        let pids_known = self.pids_known.is_ok();
        self.ring.drain(&mut |bytes| each(&decode(bytes, pids_known)));
    }

    /// What was lost since the beginning.
    #[must_use]
    pub fn lost(&self) -> Lost {
        Lost { ring_full: self.ring_full.get(), nested: sys::recursion_misses(self.program.as_fd()) }
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
            .field("attachment", &self.attachment)
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// Which helpers the program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// The socket's cookie is made if there is none, and the task comes typed (Linux 5.12).
    Typed,
    /// The cookie is there only if something asked for it before; the local port and the task's flags are copied by
    /// address.
    Plain,
}

// Where a record has what. 8-byte cells first, so that nothing is padded.
const TIME: i32 = 0;
const COOKIE: i32 = 8;
const LOCAL: i32 = 16;
const PEER: i32 = 32;
const NETNS: i32 = 48;
const TID: i32 = 52;
const TGID: i32 = 56;
const CPU: i32 = 60;
const COMM: i32 = 64;
const COMM_BYTES: i32 = 16;
const FAMILY: i32 = 80;
/// `inet_sport`, network byte order.
const SPORT: i32 = 82;
/// `skc_num`, host byte order.
const NUM: i32 = 84;
/// `skc_dport`, network byte order.
const DPORT: i32 = 86;
const OLD: i32 = 88;
const NEW: i32 = 89;
const OWNED: i32 = 90;
const TASK_FLAGS: i32 = 92;
/// `bytes_sent`, `bytes_retrans` and `bytes_received` of `struct tcp_sock`, at CLOSE; else 0.
const SENT: i32 = 96;
const RETRANSMITTED: i32 = 104;
const RECEIVED: i32 = 112;
/// `sk_flags`, at CLOSE; else 0.
const SOCK_FLAGS: i32 = 120;
const RECORD: usize = 128;
/// Where it begins on the program's stack.
const BASE: i32 = -128;
const _: () = assert!(BASE.unsigned_abs() as usize == RECORD);

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const IPPROTO_TCP: i32 = 6;
/// Bit of `sk_flags` that `tcp_fin` sets: the peer's FIN has come (`SOCK_DONE`, `include/net/sock.h`).
const SOCK_DONE: u64 = 1 << 1;
/// `PF_KTHREAD`, `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The offsets that the running kernel has.
#[derive(Clone, Copy, Debug)]
struct Layout {
    tracepoint: u32,
    family: Field,
    num: Field,
    dport: Field,
    /// 4-byte addresses.
    local_v4: Field,
    peer_v4: Field,
    /// 16-byte addresses; absent from a kernel without IPv6.
    v6: Option<(Field, Field)>,
    net: Field,
    net_inum: Field,
    cookie: Field,
    protocol: Field,
    owned: Field,
    sport: Field,
    task_flags: Field,
    sock_flags: Field,
    /// In `struct tcp_sock`, and where a record has them.
    traffic: [(Field, i32); 3],
}

impl Layout {
    fn new(btf: &mut Btf<'_>) -> Result<Layout, BtfError> {
        let [tracepoint, sock, tcp, net, task] = btf.find([
            Wanted::new(Kind::Typedef, "btf_trace_inet_sock_set_state"),
            Wanted::new(Kind::Struct, "sock"),
            Wanted::new(Kind::Struct, "tcp_sock"),
            Wanted::new(Kind::Struct, "net"),
            Wanted::new(Kind::Struct, "task_struct"),
        ])?;
        let v6 = match (btf.field(sock, "__sk_common.skc_v6_rcv_saddr"), btf.field(sock, "__sk_common.skc_v6_daddr")) {
            (Ok(local), Ok(peer)) => Some((local, peer)),
            (Err(BtfError::NoField(_)), _) => None,
            (Err(e), _) | (_, Err(e)) => return Err(e),
        };
        Ok(Layout {
            tracepoint,
            family: btf.field(sock, "__sk_common.skc_family")?,
            num: btf.field(sock, "__sk_common.skc_num")?,
            dport: btf.field(sock, "__sk_common.skc_dport")?,
            local_v4: btf.field(sock, "__sk_common.skc_rcv_saddr")?,
            peer_v4: btf.field(sock, "__sk_common.skc_daddr")?,
            v6,
            net: btf.field(sock, "__sk_common.skc_net.net")?,
            net_inum: btf.field(net, "ns.inum")?,
            cookie: btf.field(sock, "__sk_common.skc_cookie.counter")?,
            protocol: btf.field(sock, "sk_protocol")?,
            owned: btf.field(sock, "sk_lock.owned")?,
            sport: btf.field(tcp, "inet_conn.icsk_inet.inet_sport")?,
            task_flags: btf.field(task, "flags")?,
            sock_flags: btf.field(sock, "__sk_common.skc_flags")?,
            traffic: [
                (btf.field(tcp, "bytes_sent")?, SENT),
                (btf.field(tcp, "bytes_retrans")?, RETRANSMITTED),
                (btf.field(tcp, "bytes_received")?, RECEIVED),
            ],
        })
    }

    /// The program. Its context is the tracepoint's arguments, 8 bytes each: `sk`, `oldstate`, `newstate`.
    fn program(
        &self,
        dialect: Dialect,
        ring: BorrowedFd<'_>,
        ring_full: BorrowedFd<'_>,
        netns: &[u32],
    ) -> Result<Vec<Insn>, AsmError> {
        use Reg::{Frame, R0, R1, R2, R3, R4, R6, R7, R8, R9};
        let mut a = Asm::new();
        let out = a.label();

        a.load(Width::Double, R6, R1, 0); //            r6 = sk
        a.load(Width::Double, R7, R1, 8); //            r7 = old state
        a.load(Width::Double, R8, R1, 16); //           r8 = new state
        a.load_field(R1, R6, self.protocol);
        a.jump_if_ne(R1, IPPROTO_TCP, out);
        a.load_field(R1, R6, self.net);
        a.load_field(R1, R1, self.net_inum);
        let wanted = a.label();
        for (i, inode) in netns.iter().enumerate() {
            let next = if i + 1 == netns.len() { out } else { a.label() };
            a.jump_if_ne_u32(R1, *inode, next);
            if i + 1 < netns.len() {
                a.jump(wanted);
                a.bind(next);
            }
        }
        a.bind(wanted);
        a.store(Width::Word, Frame, BASE + NETNS, R1);

        a.call(Helper::KtimeGetNs);
        a.store(Width::Double, Frame, BASE + TIME, R0);
        a.call(Helper::GetSmpProcessorId);
        a.store(Width::Word, Frame, BASE + CPU, R0);

        a.load_field(R9, R6, self.family); //           r9 = family
        a.store(Width::Half, Frame, BASE + FAMILY, R9);
        // The tracepoint's argument is typed as a plain socket, which has no such field.
        a.store_imm(Width::Half, Frame, BASE + SPORT, 0);
        for cell in [SENT, RETRANSMITTED, RECEIVED, SOCK_FLAGS] {
            a.store_imm(Width::Double, Frame, BASE + cell, 0);
        }
        let no_tcp = a.label();
        match dialect {
            Dialect::Typed => {
                a.mov(R1, R6);
                a.call(Helper::SkcToTcpSock);
                a.jump_if_eq(R0, 0, no_tcp);
                a.load_field(R1, R0, self.sport);
                a.store(Width::Half, Frame, BASE + SPORT, R1);
                a.jump_if_ne(R8, i32::from(State::Close.kernel()), no_tcp);
                for (field, cell) in self.traffic {
                    a.load_field(R1, R0, field);
                    a.store(Width::Double, Frame, BASE + cell, R1);
                }
            }
            Dialect::Plain => {
                a.copy_from_kernel(BASE + SPORT, R6, self.sport);
                a.jump_if_ne(R8, i32::from(State::Close.kernel()), no_tcp);
                for (field, cell) in self.traffic {
                    a.copy_from_kernel(BASE + cell, R6, field);
                }
            }
        }
        a.load_field(R1, R6, self.sock_flags);
        a.store(Width::Double, Frame, BASE + SOCK_FLAGS, R1);
        a.bind(no_tcp);
        a.load_field(R1, R6, self.num);
        a.store(Width::Half, Frame, BASE + NUM, R1);
        a.store(Width::Byte, Frame, BASE + OLD, R7);
        a.store(Width::Byte, Frame, BASE + NEW, R8);
        a.load_field(R1, R6, self.dport);
        a.store(Width::Half, Frame, BASE + DPORT, R1);

        let has_cookie = a.label();
        a.load_field(R0, R6, self.cookie);
        if dialect == Dialect::Typed {
            // Not while a new socket is still a copy of its listener: its cookie is about to be overwritten.
            let make = a.label();
            a.jump_if_ne(R1, 0, make);
            a.jump_if_eq(R8, i32::from(State::SynRecv.kernel()), has_cookie);
            a.bind(make);
            a.mov(R1, R6);
            a.call(Helper::GetSocketCookie);
        }
        a.bind(has_cookie);
        a.store(Width::Double, Frame, BASE + COOKIE, R0);

        self.addresses(&mut a, R6, R9, out);

        a.load_field(R1, R6, self.owned);
        a.store(Width::Half, Frame, BASE + OWNED, R1);
        a.call(Helper::GetCurrentPidTgid);
        a.store(Width::Word, Frame, BASE + TID, R0);
        a.shift_right(R0, 32);
        a.store(Width::Word, Frame, BASE + TGID, R0);
        a.address(R1, Frame, BASE + COMM);
        a.mov_imm(R2, COMM_BYTES);
        a.call(Helper::GetCurrentComm);
        match dialect {
            Dialect::Typed => {
                a.call(Helper::GetCurrentTaskBtf);
                a.load_field(R1, R0, self.task_flags);
                a.store(Width::Word, Frame, BASE + TASK_FLAGS, R1);
            }
            Dialect::Plain => {
                a.call(Helper::GetCurrentTask);
                a.copy_from_kernel(BASE + TASK_FLAGS, R0, self.task_flags);
            }
        }

        a.map(R1, ring);
        a.address(R2, Frame, BASE);
        a.mov_imm(R3, -BASE);
        a.mov_imm(R4, 0); //                            wake the reader when it has caught up
        a.call(Helper::RingbufOutput);
        a.jump_if_not_negative(R0, out);
        a.map_value(R1, ring_full);
        a.mov_imm(R2, 1);
        a.atomic_add(R1, R2);
        a.bind(out);
        a.exit();
        a.finish()
    }

    /// The addresses of socket `sk` by its `family`, four bytes or sixteen; another family leaves by `out`.
    fn addresses(&self, a: &mut Asm, sk: Reg, family: Reg, out: Label) {
        use Reg::{Frame, R1};
        for half in [0, 8] {
            a.store_imm(Width::Double, Frame, BASE + LOCAL + half, 0);
            a.store_imm(Width::Double, Frame, BASE + PEER + half, 0);
        }
        let (v6, addressed) = (a.label(), a.label());
        a.jump_if_ne(family, AF_INET, v6);
        for (field, cell) in [(self.local_v4, LOCAL), (self.peer_v4, PEER)] {
            a.load_field(R1, sk, field);
            a.store(Width::Word, Frame, BASE + cell, R1);
        }
        a.jump(addressed);
        a.bind(v6);
        a.jump_if_ne(family, AF_INET6, out);
        if let Some((local, peer)) = self.v6 {
            for (field, cell) in [(local, LOCAL), (peer, PEER)] {
                for half in [0, 8] {
                    a.load(Width::Double, R1, sk, signed(field.offset) + half);
                    a.store(Width::Double, Frame, BASE + cell + half, R1);
                }
            }
        }
        a.bind(addressed);
    }
}

fn decode(record: &[u8; RECORD], pids_known: bool) -> TransitionRecord {
    let double = |at: i32| u64::from_ne_bytes(array(record, at));
    let word = |at: i32| u32::from_ne_bytes(array(record, at));
    let half = |at: i32| u16::from_ne_bytes(array(record, at));
    let family = if i32::from(half(FAMILY)) == AF_INET6 { Family::V6 } else { Family::V4 };
    let address = |at: i32| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(array::<4>(record, at))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(array::<16>(record, at))),
    };
    let task = Task { tgid: word(TGID), tid: word(TID), comm: array(record, COMM) };
    let actor = match (half(OWNED), word(TASK_FLAGS) & PF_KTHREAD) {
        (0, _) => Actor::Network,
        _ if !pids_known => Actor::UnknownProcess,
        (_, 0) => Actor::Process(task),
        _ => Actor::KernelThread(task),
    };
    let bound = u16::from_be_bytes(array(record, SPORT));
    let (old, new) = (State::from_kernel(array::<1>(record, OLD)[0]), State::from_kernel(array::<1>(record, NEW)[0]));
    // Still the listener's copy, so what stands there is not the new socket's.
    let unfinished = (old, new, half(DPORT)) == (State::Listen, State::SynRecv, 0);
    TransitionRecord {
        monotonic_ns: double(TIME),
        cookie: NonZeroU64::new(double(COOKIE)).filter(|_| !unfinished),
        netns: word(NETNS),
        family,
        local: Endpoint::new(address(LOCAL), if bound == 0 { half(NUM) } else { bound }),
        peer: Endpoint::new(address(PEER), u16::from_be_bytes(array(record, DPORT))),
        old,
        new,
        cpu: word(CPU),
        actor,
        traffic: (new == State::Close).then(|| Traffic {
            sent_bytes: double(SENT).saturating_sub(double(RETRANSMITTED)),
            // The kernel counts the FIN as one.
            received_bytes: Some(double(RECEIVED).saturating_sub(u64::from(double(SOCK_FLAGS) & SOCK_DONE != 0))),
        }),
    }
}

/// `N` bytes of a record; all places are constants below its end.
fn array<const N: usize>(record: &[u8; RECORD], at: i32) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(record.iter().skip(at.unsigned_abs() as usize)) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the program would write it: an IPv4 socket going from CLOSE_WAIT to LAST_ACK.
    fn raw() -> [u8; RECORD] {
        let mut r = [0; RECORD];
        let mut put = |at: i32, bytes: &[u8]| r[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(TIME, &5_u64.to_ne_bytes());
        put(COOKIE, &0x1008_u64.to_ne_bytes());
        put(LOCAL, &[10, 0, 0, 1]);
        put(PEER, &[10, 0, 0, 2]);
        put(NETNS, &4_026_531_833_u32.to_ne_bytes());
        put(TGID, &812_u32.to_ne_bytes());
        put(TID, &815_u32.to_ne_bytes());
        put(CPU, &3_u32.to_ne_bytes());
        put(COMM, b"java\0");
        put(FAMILY, &2_u16.to_ne_bytes());
        put(SPORT, &443_u16.to_be_bytes());
        put(DPORT, &50_000_u16.to_be_bytes());
        put(OLD, &[8]);
        put(NEW, &[9]);
        put(OWNED, &1_u16.to_ne_bytes());
        r
    }

    #[test]
    fn a_record_reads_back_field_by_field() {
        let record = decode(&raw(), true);
        assert_eq!(record.local.to_string(), "10.0.0.1:443");
        assert_eq!(record.peer.to_string(), "10.0.0.2:50000");
        assert_eq!((record.old, record.new), (State::CloseWait, State::LastAck));
        assert_eq!((record.monotonic_ns, record.cpu, record.netns), (5, 3, 4_026_531_833));
        assert_eq!(record.cookie, NonZeroU64::new(0x1008));
        assert!(record.is_by_call());
        let Actor::Process(task) = record.actor else { panic!("{:?}", record.actor) };
        assert_eq!((task.tgid, task.tid, task.comm().as_str()), (812, 815, "java"));
    }

    #[test]
    fn nobody_is_named_unless_the_lock_was_held_by_a_process() {
        let mut bytes = raw();
        assert_eq!(decode(&bytes, false).actor, Actor::UnknownProcess);
        bytes[TASK_FLAGS as usize..][..4].copy_from_slice(&PF_KTHREAD.to_ne_bytes());
        assert!(matches!(decode(&bytes, true).actor, Actor::KernelThread(_)));
        bytes[OWNED as usize..][..2].fill(0);
        assert_eq!(decode(&bytes, true).actor, Actor::Network);
        assert_eq!(decode(&bytes, false).actor, Actor::Network);
    }

    #[test]
    fn a_socket_that_is_still_a_copy_of_its_listener_has_no_cookie() {
        let mut bytes = raw();
        bytes[OLD as usize..][..2].copy_from_slice(&[10, 3]);
        assert!(decode(&bytes, true).cookie.is_some());
        bytes[DPORT as usize..][..2].fill(0);
        assert_eq!(decode(&bytes, true).cookie, None);
    }

    #[test]
    fn what_was_carried_is_told_at_the_end_without_the_fin_and_without_repetitions() {
        let mut bytes = raw();
        for (at, value) in [(SENT, 700_u64), (RETRANSMITTED, 200), (RECEIVED, 31), (SOCK_FLAGS, SOCK_DONE | 1)] {
            bytes[at as usize..][..8].copy_from_slice(&value.to_ne_bytes());
        }
        assert_eq!(decode(&bytes, true).traffic, None);
        bytes[NEW as usize] = State::Close.kernel();
        assert_eq!(decode(&bytes, true).traffic, Some(Traffic { sent_bytes: 500, received_bytes: Some(30) }));
    }

    #[test]
    fn ipv6_addresses_and_the_port_of_an_unbound_socket() {
        let mut bytes = raw();
        bytes[FAMILY as usize..][..2].copy_from_slice(&10_u16.to_ne_bytes());
        bytes[LOCAL as usize..][..16].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        bytes[SPORT as usize..][..2].fill(0);
        bytes[NUM as usize..][..2].copy_from_slice(&7_u16.to_ne_bytes());
        let record = decode(&bytes, true);
        assert_eq!(record.local.to_string(), "[::1]:7");
        assert_eq!(record.family, Family::V6);
    }

    #[test]
    fn only_a_call_can_open_or_close() {
        let mut by_call = Vec::new();
        for old in State::ALL {
            for new in State::ALL {
                if (TransitionRecord { old, new, ..decode(&raw(), true) }).is_by_call() {
                    by_call.push((old, new));
                }
            }
        }
        assert_eq!(by_call.len(), 6);
        assert!(!by_call.contains(&(State::Established, State::Close)), "a reset does that too");
    }
}
