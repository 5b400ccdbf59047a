//! One change of state of one connection, whoever saw it.
//!
//! Comes in: what a tracer recorded, or the difference of two dumps. Goes out: facts, `None` for what the source does
//! not tell. Never here: what a change means for the life of its connection ([`crate::aggregate::lives`]).

use crate::model::addr::{Endpoint, Family};
use crate::model::id::NetnsId;
use crate::model::state::State;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// The monotonic clock: durations come from here.
    pub monotonic_ns: u64,
    /// Inode of the network namespace; `None` if it is not known.
    pub netns: Option<NetnsId>,
    pub cookie: Option<u64>,
    /// Where the socket is in the kernel's memory: it tells one socket from the others until it is closed, where the
    /// cookie is not known. `None`: the source does not tell.
    pub address: Option<u64>,
    pub family: Family,
    pub local: Endpoint,
    pub peer: Endpoint,
    /// `None`: the socket was not there at the look before.
    pub old: Option<State>,
    pub new: State,
    /// `None`: the source cannot tell.
    pub by: Option<By>,
    /// Only a system call, or the end of a process, can make this change.
    pub by_call: bool,
    /// Of a socket that goes to CLOSE; `None`: not known.
    pub traffic: Option<Traffic>,
}

/// What a connection carried: payload, each byte once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub sent_bytes: u64,
    /// `None`: the source's count may hold the peer's FIN as one byte, or not.
    pub received_bytes: Option<u64>,
}

/// Whether only a system call (or the exit of a process) can make this change, so that the process that held the socket
/// is its cause: listen, connect, the end of a listener, and the first FIN of an end, which is `tcp_close_state`
/// (`net/ipv4/tcp.c`), called by close and shutdown alone.
#[must_use]
pub const fn is_by_call(old: State, new: State) -> bool {
    matches!(
        (old, new),
        (State::Close, State::Listen | State::SynSent)
            | (State::Listen, State::Close)
            | (State::Established | State::SynRecv, State::FinWait1)
            | (State::CloseWait, State::LastAck)
    )
}

/// In whose hands the socket was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A process held its lock.
    Process(Actor),
    /// A kernel thread did.
    KernelThread(Actor),
    /// A packet or a timer.
    Network,
    /// A task did, whose number means nothing here.
    UnknownProcess,
}

impl By {
    /// The key that JSON prints.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            By::Process(_) => "process",
            By::KernelThread(_) => "kernel_thread",
            By::Network => "network",
            By::UnknownProcess => "unknown_process",
        }
    }

    /// The task, where it is known.
    #[must_use]
    pub const fn actor(&self) -> Option<&Actor> {
        match self {
            By::Process(actor) | By::KernelThread(actor) => Some(actor),
            By::Network | By::UnknownProcess => None,
        }
    }
}

/// A task by number and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub pid: u32,
    /// Name of the thread: foreign text.
    pub comm: String,
}
