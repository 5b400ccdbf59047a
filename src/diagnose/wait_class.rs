//! The classes of what an owner does with a socket that needs attention, and which of them its epoll mask means.

use crate::model::{Socket, State};

/// `EPOLL*` (`include/uapi/linux/eventpoll.h`), as `/proc/PID/fdinfo` shows them.
const EPOLLIN: u32 = 0x1;
const EPOLLRDNORM: u32 = 0x40;
const EPOLLRDHUP: u32 = 0x2000;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// What stays of a one-shot registration that fired: `EP_PRIVATE_BITS` in `fs/eventpoll.c` (wake-up, one-shot, edge,
/// exclusive).
const PRIVATE: u32 = 0xf << 28;

/// The class of the bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// State T or t: it runs no instruction until somebody continues it.
    Stopped,
    /// The freezer of its control group holds every thread.
    Frozen,
    /// Every thread is in uninterruptible sleep.
    Uninterruptible,
    /// A thread stands in a system call on the very descriptor.
    InCall,
    /// In no epoll set, though the program has some.
    Forgotten,
    /// Armed, level-triggered, and no thread waits on the set: the loop does not turn.
    LoopStuck,
    /// Armed, level-triggered, and a thread does wait on the set: it is told at every turn and does not act.
    LoopIgnores,
    /// Edge-triggered: told once, and not read to the end.
    EdgeNotDrained,
    /// Registered by a runtime that always does; its code does not ask for data.
    NotAsked,
    /// Edge-triggered and read to the end of the stream: nothing will ever be reported again.
    EdgeSpent,
    /// One-shot: fired once and was not armed again.
    OneShotSpent,
    /// Registered, but not for reading.
    ReadingOff,
    /// The program has no epoll set: threads, poll, select or io_uring.
    NoEpoll,
}

impl Class {
    pub const ALL: [Class; 13] = [
        Class::Stopped,
        Class::Frozen,
        Class::Uninterruptible,
        Class::InCall,
        Class::Forgotten,
        Class::LoopStuck,
        Class::LoopIgnores,
        Class::EdgeNotDrained,
        Class::NotAsked,
        Class::EdgeSpent,
        Class::OneShotSpent,
        Class::ReadingOff,
        Class::NoEpoll,
    ];

    /// The key that evidence shows.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Class::Stopped => "stopped",
            Class::Frozen => "frozen",
            Class::Uninterruptible => "uninterruptible",
            Class::InCall => "in_call",
            Class::Forgotten => "in_no_epoll_set",
            Class::LoopStuck => "armed_loop_stuck",
            Class::LoopIgnores => "armed_and_ignored",
            Class::EdgeNotDrained => "edge_not_drained",
            Class::NotAsked => "registered_by_runtime",
            Class::EdgeSpent => "edge_spent",
            Class::OneShotSpent => "oneshot_not_rearmed",
            Class::ReadingOff => "reading_switched_off",
            Class::NoEpoll => "no_epoll",
        }
    }
}

/// The class of a socket that is registered with this mask; armed ones are [`Class::LoopStuck`].
#[must_use]
pub fn registration(events: u32, socket: &Socket) -> Class {
    // EPOLLRDHUP tells of the peer's FIN, not of data and not of connections to accept.
    let hears =
        if socket.state == State::CloseWait { EPOLLIN | EPOLLRDNORM | EPOLLRDHUP } else { EPOLLIN | EPOLLRDNORM };
    if events & EPOLLONESHOT != 0 && events & !PRIVATE == 0 {
        Class::OneShotSpent
    } else if events & hears == 0 {
        Class::ReadingOff
    } else if events & EPOLLET == 0 {
        Class::LoopStuck
    } else if socket.state == State::CloseWait && socket.recv_q_bytes == 0 {
        Class::EdgeSpent
    } else {
        Class::EdgeNotDrained
    }
}
