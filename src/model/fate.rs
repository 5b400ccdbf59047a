//! What becomes of a socket that is to be destroyed, and what its end means for others.
//!
//! Input: a socket and the kernel's answer. Output: words. The calls are in `collect::destroy`.

use crate::model::{Errno, RowKind, Socket, State};

/// Why a socket is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// It listens: a service would be gone for everybody.
    Listener,
    /// A TIME_WAIT keeps old segments out of the next connection with the same addresses and ports.
    TimeWait,
    /// It has no peer: the kernel finds what it destroys by addresses and ports of both ends.
    BoundInactive,
    /// Without its cookie another socket could be taken for it.
    NoCookie,
    /// Others that listen on its port are found in its place.
    Hidden,
}

impl Spared {
    pub const ALL: [Spared; 5] =
        [Spared::Listener, Spared::TimeWait, Spared::BoundInactive, Spared::NoCookie, Spared::Hidden];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Spared::Listener => "listener",
            Spared::TimeWait => "time_wait",
            Spared::BoundInactive => "bound_inactive",
            Spared::NoCookie => "no_cookie",
            Spared::Hidden => "hidden",
        }
    }

    /// Why a socket is not destroyed unless these are asked for; `None` when it may be.
    #[must_use]
    pub fn of(socket: &Socket, listeners: bool, time_wait: bool) -> Option<Spared> {
        match (socket.state, socket.kind) {
            (State::Listen, _) if !listeners => Some(Spared::Listener),
            (State::TimeWait, _) if !time_wait => Some(Spared::TimeWait),
            (State::BoundInactive | State::Close, _) | (_, RowKind::BoundInactive) => Some(Spared::BoundInactive),
            _ if socket.cookie.is_none() => Some(Spared::NoCookie),
            _ => None,
        }
    }
}

/// What became of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet: it would be destroyed.
    Planned,
    Destroyed,
    /// It had ended by itself. Its addresses and ports may belong to another socket by now, which was not touched.
    Gone,
    /// It is in another state by now, and was not touched.
    Changed(State),
    Spared(Spared),
    /// The kernel's answer.
    Refused(Errno),
}

impl Fate {
    /// The keys of all, as JSON prints them.
    pub const KEYS: [&'static str; 5] = ["planned", "destroyed", "gone", "changed", "refused"];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Fate::Planned => "planned",
            Fate::Destroyed => "destroyed",
            Fate::Gone => "gone",
            Fate::Changed(_) => "changed",
            Fate::Spared(_) | Fate::Refused(_) => "refused",
        }
    }
}

/// How many sockets had each fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub planned: u64,
    pub destroyed: u64,
    pub gone: u64,
    pub changed: u64,
    pub refused: u64,
}

impl Tally {
    /// Counts fates.
    #[must_use]
    pub fn of(fates: impl Iterator<Item = Fate>) -> Tally {
        let mut tally = Tally::default();
        for fate in fates {
            *match fate {
                Fate::Planned => &mut tally.planned,
                Fate::Destroyed => &mut tally.destroyed,
                Fate::Gone => &mut tally.gone,
                Fate::Changed(_) => &mut tally.changed,
                Fate::Spared(_) | Fate::Refused(_) => &mut tally.refused,
            } += 1;
        }
        tally
    }
}

/// Whether the kernel sends its peer a RST (`tcp_abort` and `tcp_need_reset`, `net/ipv4/tcp.c`): not for a request, nor for
/// what is left of a closed socket.
#[must_use]
pub fn resets_peer(socket: &Socket) -> bool {
    socket.kind == RowKind::Full
        && matches!(
            socket.state,
            State::Established | State::CloseWait | State::FinWait1 | State::FinWait2 | State::SynRecv
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(state: State, kind: RowKind) -> Socket {
        Socket { state, kind, cookie: Some(7), ..Socket::default() }
    }

    #[test]
    fn what_needs_a_word_of_its_own_is_spared_without_it() {
        let listener = socket(State::Listen, RowKind::Full);
        let remainder = socket(State::TimeWait, RowKind::TimeWaitMini);
        assert_eq!(Spared::of(&listener, false, true), Some(Spared::Listener));
        assert_eq!(Spared::of(&listener, true, false), None);
        assert_eq!(Spared::of(&remainder, true, false), Some(Spared::TimeWait));
        assert_eq!(Spared::of(&remainder, false, true), None);
        let bound = socket(State::BoundInactive, RowKind::BoundInactive);
        assert_eq!(Spared::of(&bound, true, true), Some(Spared::BoundInactive));
        let unnamed = Socket { cookie: None, ..socket(State::Established, RowKind::Full) };
        assert_eq!(Spared::of(&unnamed, true, true), Some(Spared::NoCookie));
        assert_eq!(Spared::of(&socket(State::CloseWait, RowKind::Full), false, false), None);
    }

    #[test]
    fn a_rst_goes_where_a_peer_may_still_wait() {
        for (state, kind, sent) in [
            (State::Established, RowKind::Full, true),
            (State::SynRecv, RowKind::Full, true),
            (State::SynRecv, RowKind::Request, false),
            (State::FinWait2, RowKind::TimeWaitMini, false),
            (State::SynSent, RowKind::Full, false),
            (State::LastAck, RowKind::Full, false),
            (State::Listen, RowKind::Full, false),
        ] {
            assert_eq!(resets_peer(&socket(state, kind)), sent, "{state} {kind:?}");
        }
    }

    #[test]
    fn every_fate_is_counted_once() {
        let refused = [Fate::Spared(Spared::Listener), Fate::Refused(Errno::EPERM)];
        let fates = [Fate::Destroyed, Fate::Gone, Fate::Changed(State::LastAck), Fate::Planned];
        let tally = Tally::of(fates.into_iter().chain(refused));
        assert_eq!(tally, Tally { planned: 1, destroyed: 1, gone: 1, changed: 1, refused: 2 });
        assert!(fates.into_iter().chain(refused).all(|fate| Fate::KEYS.contains(&fate.key())));
    }
}
