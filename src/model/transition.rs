//! One change of state of one connection, and the sources that can report it.
//!
//! Input: what a tracer recorded, or the difference of two dumps. Output: facts, `None` for what the source does not
//! report. What a change means for its connection is in `aggregate::lives`.

use std::borrow::Cow;
use std::fmt;

use crate::model::addr::{Endpoint, Family};
use crate::model::errno::LastError;
use crate::model::id::NetnsId;
use crate::model::state::State;

/// Declares the sources: variant, key, name in a sentence, help of the option.
macro_rules! vias {
    ($($(#[$doc:meta])* $Via:ident $key:literal, $name:literal, $help:literal;)*) => {
        /// What reports changes of state (JSON: `via`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Via {
            $($(#[$doc])* $Via,)*
        }

        impl Via {
            /// Every source, in the order in which `auto` tries them.
            pub const ALL: &[Via] = &[$(Via::$Via,)*];

            /// The key that JSON prints, and the value of `--via`.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Via::$Via => $key,)*
                }
            }

            /// As sentences name it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Via::$Via => $name,)*
                }
            }

            /// The help of the option.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self {
                    $(Via::$Via => $help,)*
                }
            }
        }
    };
}

vias! {
    /// A BPF program on `sock:inet_sock_set_state`.
    Bpf "bpf", "a BPF program", "A BPF program on the kernel's tracepoint, or fail";
    /// The same tracepoint through tracefs.
    Tracefs "tracefs", "tracefs", "The same tracepoint through the trace file system, or fail";
    /// Dumps, compared.
    Poll "poll", "differences of two samples", "Differences of two samples of the sockets";
}

/// One change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// The monotonic clock, for durations.
    pub monotonic_ns: u64,
    /// Inode of the network namespace; `None` if it is not known.
    pub netns: Option<NetnsId>,
    pub cookie: Option<u64>,
    /// The socket's kernel address: it identifies the socket until it is closed, with or without a cookie. `None`:
    /// the source does not report it.
    pub address: Option<u64>,
    pub family: Family,
    pub local: Endpoint,
    pub peer: Endpoint,
    /// `None`: the previous sample did not have the socket.
    pub old: Option<State>,
    pub new: State,
    /// `None`: the source cannot tell.
    pub by: Option<By>,
    /// Only a system call, or process exit, can make this change.
    pub by_call: bool,
    /// For a socket that goes to CLOSE; `None`: not known.
    pub traffic: Option<Traffic>,
    /// The error that a socket which goes to CLOSE ends with; `None`: not known.
    pub error: Option<LastError>,
}

/// What a connection carried: payload, each byte once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    pub sent_bytes: u64,
    /// `None`: the source's count may or may not include the peer's FIN as one byte.
    pub received_bytes: Option<u64>,
}

/// Whether only a system call (or process exit) can make this change, so that the process that held the socket
/// caused it: listen, connect, the end of a listener, and the first FIN of an end, which is `tcp_close_state`
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

/// What held the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum By {
    /// A process held its lock.
    Process(Actor),
    /// A kernel thread held it.
    KernelThread(Actor),
    /// A packet or a timer.
    Network,
    /// A task did, but its pid is not in this PID namespace.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub pid: u32,
    pub comm: Comm,
}

/// The name of a thread as the kernel keeps it (`TASK_COMM_LEN`): up to 15 bytes, NUL-padded. Foreign text, not
/// always UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Comm([u8; 16]);

impl Comm {
    /// The bytes up to the first 0, 15 at most.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Comm {
        let mut comm = Comm::default();
        for (to, from) in comm.0.iter_mut().take(15).zip(bytes.iter().take_while(|b| **b != 0)) {
            *to = *from;
        }
        comm
    }

    /// As text; only a non-UTF-8 name is copied.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end])
    }
}

impl From<&str> for Comm {
    fn from(text: &str) -> Comm {
        Comm::new(text.as_bytes())
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_first_zero_and_may_be_any_bytes() {
        for (bytes, text) in [
            (&b"java\0rest"[..], "java"),
            (b"", ""),
            (b"exactly-15-long", "exactly-15-long"),
            (b"longer-than-the-kernel", "longer-than-the"),
            (b"a\xff", "a\u{fffd}"),
        ] {
            assert_eq!(Comm::new(bytes).text(), text);
        }
        assert_eq!(Comm::from("curl").to_string(), "curl");
    }

    #[test]
    fn only_a_call_can_open_or_close() {
        let every = State::ALL.iter().flat_map(|old| State::ALL.iter().map(move |new| (*old, *new)));
        let by_call: Vec<(State, State)> = every.filter(|(old, new)| is_by_call(*old, *new)).collect();
        assert_eq!(by_call.len(), 6);
        assert!(!by_call.contains(&(State::Established, State::Close)), "a reset does that too");
    }
}
