//! CLOSE_WAIT rows that a process holds: which are old enough to count, what is unread, and whether they become more.
//!
//! Input: a view. Output: rows by [`Class`], and [`Moves`] between two samples. Not here: severity, causes and words.

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::departed::{Departed, departed};
use crate::diagnose::family::Culprit;
use crate::diagnose::rate::Rate;
use crate::diagnose::view::View;
use crate::model::socket::AgeBracket;
use crate::model::sysctl::TCP_FIN_TIMEOUT_MS;
use crate::model::{Endpoint, Process, RowKind, Socket, State, TcpInfo};

/// `TCP_FIN_TIMEOUT` (`include/net/tcp.h`), the default: after it a Linux peer that closed has forgotten the connection.
pub const FORGOTTEN_AFTER_MS: u64 = TCP_FIN_TIMEOUT_MS;
/// A younger row is transient.
pub const TRANSIENT_MS: u64 = 1000;
/// What a peer says before it closes an idle connection is shorter: 24 or 31 bytes of TLS `close_notify`, a line of
/// `FATAL`, `421` or `ERR`.
const LAST_WORDS_BYTES: u32 = 300;
/// Fewer rows that become more may be a pool that fills up.
pub const LEAK_ROWS: usize = 16;

/// A CLOSE_WAIT row that counts.
#[derive(Clone, Copy)]
pub struct Counted {
    /// Its age is 60 s or more; else 60 s is only inside what is possible.
    pub certain: bool,
}

/// Whether a held CLOSE_WAIT row counts: nothing is being sent, and its FIN came 60 s ago or more. A row whose age is
/// only known to be possibly that (our own keepalive draws ACKs) counts if it was there before.
#[must_use]
pub fn counted(view: &View<'_>, socket: &Socket) -> Option<Counted> {
    let (_, certain) = old_enough(socket)?;
    let earlier = view.earlier(socket);
    if earlier.is_some_and(|e| bytes_sent(e) < bytes_sent(socket)) {
        return None;
    }
    let was_there = earlier.is_some_and(|e| e.state == State::CloseWait);
    // Before there is a second sample the row is only a suspicion, which `check` tells apart.
    (certain || was_there || view.before.is_none()).then_some(Counted { certain })
}

/// The age, and whether it is certain to be that of a row that counts.
#[must_use]
pub fn old_enough(socket: &Socket) -> Option<(AgeBracket, bool)> {
    if socket.state != State::CloseWait || socket.inode.is_none() || socket.send_q_bytes.is_some_and(|q| q > 0) {
        return None;
    }
    let age = socket.state_age()?;
    let sent_ms = socket.info.as_deref()?.last_data_sent_ms().map_or(u64::MAX, u64::from);
    if age.min_ms >= FORGOTTEN_AFTER_MS {
        return (sent_ms >= age.min_ms).then_some((age, true));
    }
    let possible = age.min_ms >= TRANSIENT_MS && age.max_ms.is_some_and(|max| max >= FORGOTTEN_AFTER_MS);
    (possible && sent_ms >= FORGOTTEN_AFTER_MS).then_some((age, false))
}

fn bytes_sent(socket: &Socket) -> Option<u64> {
    socket.info.as_deref().and_then(TcpInfo::bytes_sent)
}

/// Whether a process holds this CLOSE_WAIT row.
#[must_use]
pub fn is_held(socket: &Socket) -> bool {
    socket.state == State::CloseWait && socket.inode.is_some() && socket.kind == RowKind::Full
}

/// What is unread. Recv-Q counts the FIN as one byte until it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// Everything was read, the FIN too.
    Nothing,
    /// Only the FIN.
    Eof,
    /// A few bytes on a connection of our own making, of which everything before was read.
    LastWords,
    Data,
}

impl Unread {
    #[must_use]
    pub fn of(socket: &Socket, outgoing: bool) -> Unread {
        match socket.recv_q_bytes {
            0 => Unread::Nothing,
            1 => Unread::Eof,
            n if n <= LAST_WORDS_BYTES + 1 && outgoing && socket.consumed_bytes().is_some_and(|c| c > 0) => {
                Unread::LastWords
            }
            _ => Unread::Data,
        }
    }
}

/// What rows of one kind have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The process opened them itself.
    pub outgoing: bool,
    pub unread: Unread,
    /// Accepted, and our last bytes followed the peer's last bytes, before its FIN: nobody waits for an answer.
    pub answered: bool,
}

impl Class {
    #[must_use]
    pub fn of(socket: &Socket, role: Role) -> Class {
        let outgoing = role == Role::Client;
        Class { outgoing, unread: Unread::of(socket, outgoing), answered: !outgoing && is_answered(socket) }
    }

    /// Whether more of them can only be connections that are not closed. A pool fills up, and a request that was
    /// half-closed waits for its answer: those need the weight of numbers.
    #[must_use]
    pub fn is_plain(self) -> bool {
        match self.unread {
            Unread::Data => true,
            Unread::Nothing if self.outgoing => true,
            _ => self.answered,
        }
    }
}

/// Whether the last data was ours and left before the FIN came, or within a second of it.
fn is_answered(socket: &Socket) -> bool {
    let Some(info) = socket.info.as_deref() else { return false };
    let (Some(sent), Some(received)) = (info.last_data_sent_ms(), info.last_data_recv_ms()) else { return false };
    let Some(age) = socket.state_age() else { return false };
    let before_fin = age.max_ms.is_some_and(|max| u64::from(sent) + TRANSIENT_MS >= max);
    bytes_sent(socket).is_some_and(|n| n > 0) && sent <= received && before_fin
}

/// A held CLOSE_WAIT row on which nothing happens.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub socket: &'a Socket,
    /// Whose it is; several processes may have it.
    pub holder: Option<&'a Process>,
    pub role: Role,
    pub class: Class,
    /// Where it came in or went to; `None` when the role cannot be told.
    pub at: Option<Endpoint>,
    pub age: AgeBracket,
    /// Set when it counts by its age.
    pub counted: Option<Counted>,
    /// It was not in CLOSE_WAIT in the sample before.
    pub is_new: bool,
    /// It was, and nothing was read or sent since.
    pub has_stayed: bool,
}

/// The row, whose holder is for the caller to say, unless something is being sent on it, was sent since the sample before,
/// or its age is not known.
#[must_use]
pub fn row<'a>(view: &View<'_>, socket: &'a Socket, role: Role) -> Option<Row<'a>> {
    if !is_held(socket) || socket.send_q_bytes.is_some_and(|q| q > 0) {
        return None;
    }
    let age = socket.state_age()?;
    // It sends: CLOSE_WAIT may.
    if socket.info.as_deref()?.last_data_sent_ms().is_some_and(|sent| u64::from(sent) + TRANSIENT_MS < age.min_ms) {
        return None;
    }
    let earlier = view.earlier(socket);
    if earlier.is_some_and(|e| bytes_sent(e) < bytes_sent(socket) && e.state == State::CloseWait) {
        return None;
    }
    let was_there = earlier.is_some_and(|e| e.state == State::CloseWait);
    Some(Row {
        socket,
        holder: None,
        role,
        class: Class::of(socket, role),
        at: place(view, socket, role),
        age,
        counted: counted(view, socket),
        is_new: view.before.is_some() && !was_there,
        has_stayed: earlier
            .is_some_and(|e| e.state == State::CloseWait && e.consumed_bytes() == socket.consumed_bytes()),
    })
}

fn place(view: &View<'_>, socket: &Socket, role: Role) -> Option<Endpoint> {
    match role {
        Role::Client => Some(socket.peer.normalised()),
        Role::Server(at) => Some(view.listeners(socket.netns).get(at).local),
        Role::FormerServer => Some(socket.local.normalised()),
        _ => None,
    }
}

/// What came to some rows, stayed and went between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    pub new: u64,
    pub stayed: u64,
    pub gone: u64,
    pub over_ms: u64,
}

impl Moves {
    /// Those that came, less those that went.
    #[must_use]
    pub fn net(self) -> i64 {
        self.new.cast_signed() - self.gone.cast_signed()
    }

    /// `None` when they do not become more.
    #[must_use]
    pub fn rate(self) -> Option<Rate> {
        Rate::of(u64::try_from(self.net()).ok()?, self.over_ms)
    }

    /// Rows come and hardly any goes.
    #[must_use]
    pub fn only_come(self) -> bool {
        self.new > 0 && self.gone * 4 <= self.new
    }
}

/// Rows that were in CLOSE_WAIT and held in the sample before and are so no more, by class and place.
#[derive(Default)]
pub struct Gone<'a> {
    rows: Vec<(Departed<'a>, Class, Option<Endpoint>)>,
}

impl<'a> Gone<'a> {
    #[must_use]
    pub fn new(view: &View<'a>) -> Gone<'a> {
        let classed = |left: Departed<'a>| {
            let role = view.role(left.socket);
            let (class, at) = (Class::of(left.socket, role), place(view, left.socket, role));
            (left, class, at)
        };
        Gone { rows: departed(view, is_held).into_iter().map(classed).collect() }
    }

    /// How many of somebody went from a class, and from a place if there is one.
    #[must_use]
    pub fn count(&self, whose: &Culprit, class: Class, at: Option<Endpoint>) -> u64 {
        let same = |(left, its_class, its_at): &&(Departed<'_>, Class, Option<Endpoint>)| {
            left.was_of(whose)
                && (its_class.outgoing, its_class.unread) == (class.outgoing, class.unread)
                && (at.is_none() || at == *its_at)
        };
        self.rows.iter().filter(same).count() as u64
    }
}

/// How many rows lead to each place, the most first.
#[must_use]
pub fn places(rows: &[Row<'_>]) -> Vec<(Endpoint, usize)> {
    let mut counts: FxHashMap<Endpoint, usize> = FxHashMap::default();
    for at in rows.iter().filter_map(|r| r.at) {
        *counts.entry(at).or_default() += 1;
    }
    let mut ranked: Vec<(Endpoint, usize)> = counts.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row as socket_row};

    fn class(outgoing: bool, recv_q: u32, fields: &[(&str, u64)]) -> Class {
        let socket = info(socket_row(State::CloseWait, "10.0.0.1:80", "10.0.0.9:40000"), fields);
        let socket = Socket { recv_q_bytes: recv_q, ..socket };
        Class::of(&socket, if outgoing { Role::Client } else { Role::Server(0) })
    }

    #[test]
    fn a_few_unread_bytes_behind_what_was_read_are_last_words() {
        let received = |n: u64| [("bytes_received", n)];
        for (outgoing, recv_q, bytes, unread) in [
            (true, 0, 500, Unread::Nothing),
            (true, 1, 500, Unread::Eof),
            (true, 2, 500, Unread::LastWords),
            (true, 32, 500, Unread::LastWords),
            (true, 301, 500, Unread::LastWords),
            (true, 302, 500, Unread::Data),
            (true, 101, 101, Unread::Data),
            (false, 32, 500, Unread::Data),
        ] {
            assert_eq!(class(outgoing, recv_q, &received(bytes)).unread, unread, "{recv_q} of {bytes}");
        }
    }

    #[test]
    fn a_fin_after_our_answer_is_told_from_one_with_the_request() {
        let times = |ack: u64, received: u64, sent: u64, bytes: u64| {
            class(
                false,
                0,
                &[
                    ("last_ack_recv_ms", ack),
                    ("last_data_recv_ms", received),
                    ("last_data_sent_ms", sent),
                    ("bytes_sent", bytes),
                ],
            )
            .answered
        };
        assert!(times(60_000, 65_000, 64_000, 100), "request, answer, FIN");
        assert!(times(60_000, 60_004, 60_001, 100), "all of it at once");
        assert!(!times(60_000, 60_000, 60_500, 0), "request and FIN; stamped when it was accepted");
        assert!(!times(60_000, 60_000, 70_000, 100), "an answer, then another request and the FIN");
        assert!(!times(66_000, 136_000, 66_001, 100), "sent after the FIN, as far as one row tells");
    }

    #[test]
    fn moves_make_a_rate_only_when_more_come_than_go() {
        let moves = |new, gone| Moves { new, gone, stayed: 50, over_ms: 2000 };
        assert!(moves(20, 0).only_come() && moves(20, 5).only_come());
        assert!(!moves(20, 6).only_come() && !moves(0, 0).only_come());
        assert!((moves(20, 5).rate().unwrap().per_second() - 7.5).abs() < 1e-9);
        assert_eq!(moves(5, 5).rate(), None);
    }

    #[test]
    fn what_left_close_wait_is_counted_by_process_and_class() {
        let mut world = World::new();
        for n in 0..3u16 {
            let times = [("last_ack_recv_ms", 5000), ("last_data_recv_ms", 5000), ("last_data_sent_ms", 9000)];
            let socket =
                info(socket_row(State::CloseWait, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.9:443"), &times);
            let inode = socket.inode;
            world.add(socket).hold(7, "client", 3 + u32::from(n), inode);
        }
        world.later(2000);
        world.now.sockets.pop();
        let thresholds = world.thresholds.clone();
        let view = View::new(&world.now, world.before.as_ref(), &thresholds);
        let gone = Gone::new(&view);
        let class = Class { outgoing: true, unread: Unread::Nothing, answered: false };
        let of = |culprit| gone.count(&culprit, class, None);
        assert_eq!((of(Culprit::Process(7)), of(Culprit::Process(8)), of(Culprit::User(None))), (1, 0, 1));
        let left = row(&view, &world.now.sockets[0], Role::Client).unwrap();
        assert!(left.has_stayed && !left.is_new && left.counted.is_none());
    }
}
