//! Requests that nobody answers: whether one was the first of its connection, and whether all of a program fell silent at
//! once.
//!
//! Input: rows on which we had the last word. Output: yes or no. Not here: who gave up, and what it means.

use crate::diagnose::view::View;
use crate::model::{Socket, TcpInfo};

/// For so long requests wait before their number alone is worth an explanation (policy).
pub const LONG_MS: u64 = 10_000;
/// A request that follows the handshake within this is the first one (policy).
pub const FIRST_MS: u64 = 1000;
/// Connections that fall silent at once: fewer may be chance, and fewer suffice after long dialogues, or where clients gave
/// up, and still fewer with both (policy).
const AT_ONCE: usize = 4;
const FEW_AT_ONCE: usize = 3;
const TWO_AT_ONCE: usize = 2;
/// So many that were answered much sooner before need half the time (policy).
const MANY_AT_ONCE: usize = 8;
const MANY_TIMES_LONGER: u64 = 2 * TIMES_LONGER;
/// A request and the answer before it may pass each other by so much when the peer stops (policy).
const IN_FLIGHT_MS: u64 = 50;
/// The silence is so many times what lay between two answers before (policy).
const TIMES_LONGER: u64 = 10;
/// Requests that meet a stop are sent before a part of the silence has passed: one tenth (policy).
const SOON: u64 = 10;
/// Answers that make a dialogue, and so many that its pace is known whatever the program does between them (policy).
const DIALOGUE: u64 = 5;
const LONG_DIALOGUE: u64 = 20;
/// Who lets so much time pass after an answer does not ask again at once, as a poll or a blocking read does (policy).
const PAUSE_MS: u64 = 100;

/// For so long somebody waits on a connection that was answered before, until it is worth an explanation though nobody gives
/// up (policy).
pub const VERY_LONG_MS: u64 = 30_000;
/// Segments with data in each direction that make an exchange, as a login does, and how much more one side may send.
const EXCHANGE: u32 = 2;
const LOPSIDED: u32 = 3;

/// A connection on which both sides have spoken in turn: it has a protocol with answers.
#[must_use]
pub fn is_exchange(socket: &Socket) -> bool {
    let both = socket.info.as_deref().and_then(|i| Some((i.data_segs_in()?, i.data_segs_out()?)));
    both.is_some_and(|(a, b)| a.min(b) >= EXCHANGE && a.max(b) <= LOPSIDED.saturating_mul(a.min(b)))
}

/// A first request that never got a byte. The stamp of received data is that of the handshake then. What sends again and
/// again, and is never answered, speaks a protocol without answers.
#[must_use]
pub fn is_first(socket: &Socket) -> bool {
    let stamps = |i: &TcpInfo| Some((u64::from(i.last_data_sent_ms()?), u64::from(i.last_data_recv_ms()?)));
    socket.info.as_deref().is_some_and(|info| {
        info.bytes_received() == Some(0)
            && stamps(info).is_some_and(|(sent, received)| received.saturating_sub(sent) <= FIRST_MS)
    })
}

/// Whether all requests to a place are younger than the last answer that anybody got from there, although most connections
/// were answered many times sooner before. The pace is that of a process that began no sooner than its connections, so a
/// long life hides it and invents none. A program that asks again at once after each answer (a poll, a blocking read)
/// looks the same when there is nothing to say; it is told apart by its pauses, or by a long dialogue. A request that never
/// got a byte tells nothing of the pace, and one of a dialogue too short to have a pace is no stop by itself.
///
/// Comes in: the waiting rows, how long ago anybody got an answer from the same place, and whether clients gave up: then
/// fewer connections suffice, and half the time. Half the time is enough of many connections too.
#[must_use]
pub fn is_at_once(view: &View<'_>, rows: &[&Socket], answers: &[u64], gave_up: bool) -> bool {
    let talks: Option<Vec<Talk>> = rows.iter().filter(|s| !is_first(s)).map(|s| Talk::of(view, s)).collect();
    let (Some(talks), Some(latest_answer_ms)) = (talks, answers.iter().copied().min()) else { return false };
    let stopped: Vec<&Talk> = talks.iter().filter(|t| t.is_out_of_proportion(TIMES_LONGER)).collect();
    let many = stopped.len() >= MANY_AT_ONCE && stopped.iter().all(|t| t.is_out_of_proportion(MANY_TIMES_LONGER));
    let since_ms = if gave_up || many { LONG_MS / 2 } else { LONG_MS };
    // A stop meets each program at its next request: all of them come soon after the last answer.
    let at_once = |t: &Talk| {
        t.sent_ms >= since_ms
            && t.sent_ms <= latest_answer_ms + IN_FLIGHT_MS
            && t.sent_ms * SOON >= latest_answer_ms * (SOON - 1)
    };
    let paused = stopped.iter().filter(|t| t.answered_ms.saturating_sub(t.sent_ms) >= PAUSE_MS).count();
    let is_long = stopped.iter().all(|t| t.answers >= LONG_DIALOGUE);
    let enough = match (gave_up, is_long) {
        (true, true) => TWO_AT_ONCE,
        (false, false) => AT_ONCE,
        _ => FEW_AT_ONCE,
    };
    talks.iter().all(at_once)
        && stopped.len() >= enough
        && stopped.len() * 2 > talks.len()
        && (is_long || paused * 2 > stopped.len())
}

/// A connection on which request and answer alternate.
struct Talk {
    sent_ms: u64,
    answered_ms: u64,
    /// Segments with data, from us and to us.
    requests: u64,
    answers: u64,
    /// The age of its process; `None` where that is not known.
    running_ms: Option<u64>,
}

impl Talk {
    fn of(view: &View<'_>, socket: &Socket) -> Option<Talk> {
        let info = socket.info.as_deref()?;
        Some(Talk {
            sent_ms: info.last_data_sent_ms()?.into(),
            answered_ms: info.last_data_recv_ms()?.into(),
            requests: info.data_segs_out()?.into(),
            answers: info.data_segs_in()?.into(),
            running_ms: view.holder(socket).and_then(|p| view.process(p.pid)?.running_ms),
        })
    }

    /// A dialogue whose silence is many times what lay between two answers before.
    fn is_out_of_proportion(&self, times: u64) -> bool {
        let Some(running_ms) = self.running_ms else { return false };
        let each_ms = running_ms.saturating_sub(self.answered_ms) / self.answers.max(1);
        self.answered_ms >= times * each_ms
            && self.answers >= DIALOGUE
            && self.answers <= 2 * self.requests
            && self.requests <= 3 * self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, with_info};
    use crate::model::State;

    const TO: &str = "10.0.0.4:80";

    /// Six connections of a program that began `began_ms` ago, each with so many answers, the last one `answered_ms` ago.
    fn stopped(began_ms: u64, answers: u64, answered_ms: u64, sent_ms: u64) -> World {
        let mut world = World::new();
        for n in 0..6u32 {
            let fields = [
                ("last_data_sent_ms", sent_ms),
                ("last_data_recv_ms", answered_ms),
                ("bytes_sent", 900),
                ("bytes_received", 900),
                ("data_segs_out", answers + 1),
                ("data_segs_in", answers),
            ];
            let local = format!("10.0.0.1:{}", 40_000 + n);
            let socket = info(row(State::Established, &local, TO), &fields);
            world.hold(812, "proxy", n, socket.inode).add(socket);
        }
        world.now.processes.get_mut(&812).unwrap().running_ms = Some(began_ms);
        world
    }

    fn at_once(world: &World, last_ms: u64) -> bool {
        let view = View::new(&world.now, None, &world.thresholds);
        is_at_once(&view, &world.now.sockets.iter().collect::<Vec<_>>(), &[90_000, last_ms], false)
    }

    #[test]
    fn requests_younger_than_every_answer_and_a_silence_out_of_all_proportion_are_one_stop() {
        // An answer each half second for four seconds, then none for 14.
        assert!(at_once(&stopped(18_500, 8, 14_400, 13_900), 14_400));
        for (case, world) in [
            ("asked again at once, as a blocking read does", stopped(18_500, 8, 13_905, 13_900)),
            ("not long", stopped(14_000, 8, 9_950, 9_450)),
            ("the pace is not known", stopped(9_000_000, 8, 14_400, 13_900)),
            ("a login and no dialogue", stopped(18_500, 4, 14_400, 13_900)),
            ("2.1 s each, and 14 s are no tenfold", stopped(100_000, 40, 14_005, 14_000)),
        ] {
            assert!(!at_once(&world, 14_400), "{case}");
        }
        assert!(at_once(&stopped(60_000, 40, 14_005, 14_000), 14_000), "a long dialogue");
        assert!(!at_once(&stopped(18_500, 8, 14_400, 13_900), 13_849), "somebody was answered after the request");
        let mut few = stopped(18_500, 8, 14_400, 13_900);
        few.now.sockets.truncate(3);
        assert!(!at_once(&few, 14_400));
        let mut long = stopped(60_000, 40, 14_400, 13_900);
        long.now.sockets.truncate(3);
        assert!(at_once(&long, 14_400), "long dialogues");
        long.now.sockets.truncate(2);
        assert!(!at_once(&long, 14_400));
        let mut bulk = stopped(18_500, 8, 14_400, 13_900);
        for socket in &mut bulk.now.sockets {
            let mut info = socket.info.as_deref().unwrap().clone();
            assert!(info.set("data_segs_in", 19));
            socket.info = Some(info.into());
        }
        assert!(!at_once(&bulk, 14_400), "results of queries");
    }

    #[test]
    fn of_many_that_were_answered_much_sooner_half_the_time_suffices() {
        // An answer each 0.2 s for four seconds, then none for 7.
        let of = |count: usize, answers: u64| {
            let mut world = World::new();
            for socket in (0..2).flat_map(|n| stopped(11_200, answers, 7200, 7000 - n).now.sockets).take(count) {
                world.hold(812, "proxy", 3, socket.inode).add(socket);
            }
            world.now.processes.get_mut(&812).unwrap().running_ms = Some(11_200);
            at_once(&world, 7200)
        };
        assert!(of(8, 20));
        assert!(!of(7, 20) && !of(8, 10), "fewer, or 0.4 s each");
    }

    #[test]
    fn processes_of_one_connection_each_are_judged_like_a_pool() {
        let mut world = World::new();
        for n in 0..4u32 {
            let one = stopped(18_500, 8, 14_400, 13_900).now.sockets.remove(n as usize);
            world.hold(900 + n, "client", 3, one.inode).add(one);
            world.now.processes.get_mut(&(900 + n)).unwrap().running_ms = Some(18_500);
        }
        assert!(at_once(&world, 14_400));
        // A first request beside them tells nothing, nor does a login that was followed by a request.
        let beside = |answers, received, sent_ms| {
            let mut with = World::new();
            for (n, socket) in (0..).zip(&world.now.sockets) {
                with.hold(900 + n, "client", 3, socket.inode).add(socket.clone());
                with.now.processes.get_mut(&(900 + n)).unwrap().running_ms = Some(18_500);
            }
            let one = stopped(18_500, answers, received, sent_ms).now.sockets.remove(5);
            let first = [("bytes_received", 0), ("data_segs_in", 0)];
            let one = if answers == 0 { with_info(one, &first) } else { one };
            with.hold(990, "other", 3, one.inode).add(one);
            with.now.processes.get_mut(&990).unwrap().running_ms = Some(18_500);
            at_once(&with, 14_400)
        };
        assert!(beside(0, 30_010, 30_000) && beside(3, 14_400, 14_390));
        assert!(!beside(3, 31_000, 30_000), "a blocking read waited before, and may wait on");
        assert!(!beside(8, 14_400, 12_000), "a request that came long after the last answer is no part of one stop");
    }

    #[test]
    fn where_clients_give_up_fewer_and_younger_ones_suffice() {
        let mut world = stopped(12_500, 8, 8000, 7700);
        world.now.sockets.truncate(3);
        let view = View::new(&world.now, None, &world.thresholds);
        let rows: Vec<&Socket> = world.now.sockets.iter().collect();
        assert!(is_at_once(&view, &rows, &[8000], true) && !is_at_once(&view, &rows, &[8000], false));
        assert!(!is_at_once(&view, &rows[..2], &[8000], true), "two need long dialogues");
        let mut pool = stopped(60_000, 40, 20_000, 19_900);
        pool.now.sockets.truncate(2);
        let view = View::new(&pool.now, None, &pool.thresholds);
        let rows: Vec<&Socket> = pool.now.sockets.iter().collect();
        assert!(is_at_once(&view, &rows, &[20_000], true) && !is_at_once(&view, &rows, &[20_000], false));
        assert!(!is_at_once(&view, &rows[..2], &[8000], true));
    }

    #[test]
    fn a_first_request_follows_the_handshake() {
        let waits = |sent: u64, made: u64, received: u64| {
            let stamps = [("last_data_sent_ms", sent), ("last_data_recv_ms", made), ("bytes_received", received)];
            is_first(&info(row(State::Established, "10.0.0.1:40000", TO), &stamps))
        };
        assert!(waits(5000, 5050, 0) && waits(5000, 6000, 0));
        assert!(!waits(5000, 6001, 0), "it sends for longer, and is never answered");
        assert!(!waits(5000, 5050, 1));
    }
}
