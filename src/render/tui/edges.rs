//! The edges of the state machine, and how many sockets took each.
//!
//! Input: what moved in a time ([`Moves`]). Output: a count, with what is known of it. The edges are those of RFC 9293
//! (figure 5, and the resets of section 3.10.7) that Linux takes. One counts only if it was certainly taken, with one
//! exception: between two samples a socket may go from ESTABLISHED to TIME_WAIT by FIN_WAIT2 or by CLOSING, and the usual
//! way is assumed. A trace has every step. A number is exact only where no socket can have taken the edge unseen.

use super::history::Moves;
use crate::model::State;
use crate::text::{grouped, rate};

/// One edge.
pub(super) struct Edge {
    pub key: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub when: &'static str,
}

const fn edge(key: &'static str, from: &'static str, to: &'static str, when: &'static str) -> Edge {
    Edge { key, from, to, when }
}

/// All of them, in the order of a connection's life.
pub(super) const EDGES: [Edge; 25] = [
    edge("listened", "CLOSE", "LISTEN", "listen()"),
    edge("unlisten", "LISTEN", "CLOSE", "close()"),
    edge("active", "CLOSE", "SYN_SENT", "connect(): send SYN"),
    edge("syn", "LISTEN", "SYN_RECV", "receive SYN, send SYN+ACK"),
    edge("bcall", "SYN_SENT", "SYN_RECV", "receive SYN: both ends call"),
    edge("cut_ss", "SYN_SENT", "CLOSE", "refused, timeout, close()"),
    edge("cut_sr", "SYN_RECV", "LISTEN", "reset, timeout"),
    edge("connected", "SYN_SENT", "ESTABLISHED", "receive SYN+ACK, send ACK"),
    edge("passive", "SYN_RECV", "ESTABLISHED", "receive ACK"),
    edge("early", "SYN_RECV", "FIN_WAIT1", "close(): send FIN"),
    edge("close", "ESTABLISHED", "FIN_WAIT1", "close(): send FIN"),
    edge("closed", "ESTABLISHED", "CLOSE_WAIT", "receive FIN, send ACK"),
    edge("cut_es", "ESTABLISHED", "CLOSE", "reset, timeout, abort"),
    edge("ack", "FIN_WAIT1", "FIN_WAIT2", "receive ACK of FIN"),
    edge("bclose", "FIN_WAIT1", "CLOSING", "receive FIN: both ends close"),
    edge("cut_f1", "FIN_WAIT1", "CLOSE", "reset, timeout"),
    edge("fin", "FIN_WAIT2", "TIME_WAIT", "receive FIN, send ACK"),
    edge("cut_f2", "FIN_WAIT2", "CLOSE", "reset, timeout"),
    edge("closing", "CLOSING", "TIME_WAIT", "receive ACK of FIN"),
    edge("cut_cg", "CLOSING", "CLOSE", "reset, timeout"),
    edge("expired", "TIME_WAIT", "CLOSE", "after 60 s, or reused before"),
    edge("last_ack", "CLOSE_WAIT", "LAST_ACK", "close(): send FIN"),
    edge("cut_cw", "CLOSE_WAIT", "CLOSE", "reset, timeout, abort"),
    edge("done", "LAST_ACK", "CLOSE", "receive ACK of FIN"),
    edge("cut_la", "LAST_ACK", "CLOSE", "reset, timeout"),
];

/// How many took an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Exact(u64),
    AtLeast(u64),
    AtMost(u64),
    Unknown,
}

impl Count {
    /// The same where others may have taken the edge unseen.
    fn or_more(self) -> Count {
        match self {
            Count::Exact(n) | Count::AtLeast(n) => Count::AtLeast(n),
            // At most so many of those that were seen are no bound of all.
            Count::AtMost(_) | Count::Unknown => Count::Unknown,
        }
    }

    /// A number to compare by.
    pub(super) fn number(self) -> u64 {
        match self {
            Count::Exact(n) | Count::AtLeast(n) | Count::AtMost(n) => n,
            Count::Unknown => 0,
        }
    }

    /// In this many cells; with a time, per second.
    pub(super) fn text(self, cells: usize, per: Option<u64>) -> String {
        let mark = match self {
            Count::Exact(_) => "",
            // "At least none" says nothing.
            Count::AtLeast(0) | Count::Unknown => return "?".into(),
            Count::AtLeast(_) => "≥",
            Count::AtMost(_) => "≤",
        };
        let n = self.number();
        if let Some(ms) = per {
            return format!("{mark}{}/s", rate(Some(n as f64 * 1000.0 / ms.max(1) as f64)));
        }
        let whole = grouped(n);
        let fits = mark.chars().count() + whole.len() <= cells;
        format!("{mark}{}", if fits { whole } else { rate(Some(n as f64)) })
    }
}

/// How many took the edge of this name.
pub(super) fn count(key: &str, moves: &Moves) -> Count {
    let counter = |n: Option<u64>| n.map_or(Count::Unknown, Count::Exact);
    match key {
        "active" => counter(moves.active),
        "passive" => counter(moves.passive),
        // The trace does not show steps that no socket takes.
        "syn" => {
            let ended = if moves.sampled { 0 } else { moves.seen.get(Some(State::SynRecv), None) };
            moves.passive.map_or(Count::Unknown, |n| Count::AtLeast(n + ended))
        }
        // The trace does not show the end of a TIME_WAIT.
        "expired" => between(moves, moves.seen.get(Some(State::TimeWait), None)),
        _ => match &moves.traced {
            Some(_) if moves.lost => traced(key, moves).or_more(),
            Some(_) => traced(key, moves),
            None => seen(key, moves),
        },
    }
}

/// A number that the samples show. It is exact only if every connection was seen, and none of them vanished: it may have
/// taken any number of steps before it did. From LAST_ACK there is only one.
fn between(moves: &Moves, n: u64) -> Count {
    const STEPS_LEFT: [State; 7] = [
        State::SynSent,
        State::SynRecv,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::Closing,
        State::CloseWait,
    ];
    let vanished = STEPS_LEFT.iter().any(|state| moves.seen.get(Some(*state), None) > 0);
    match moves.unseen {
        _ if moves.sampled => Count::Unknown,
        Some(0) if !vanished => Count::Exact(n),
        _ => Count::AtLeast(n),
    }
}

/// As traced: every step of every socket.
fn traced(key: &str, moves: &Moves) -> Count {
    use State::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
    let n = |from: State, to: State| moves.traced.as_ref().map_or(0, |m| m.get(Some(from), Some(to)));
    // These end by the FINs of both ends, or are cut off: the error of the socket tells which.
    let cut = |from: State| moves.cut.as_ref().map(|m| m.get(Some(from), Some(Close)));
    let ended = |from: State| match (n(from, Close), cut(from)) {
        (all, Some(cut)) => Count::Exact(all.saturating_sub(cut)),
        (all, None) => Count::AtMost(all),
    };
    let cut_off = |from: State| match (n(from, Close), cut(from)) {
        (0, _) => Count::Exact(0),
        (_, cut) => cut.map_or(Count::Unknown, Count::Exact),
    };
    match key {
        "listened" => Count::Exact(n(Close, Listen)),
        "unlisten" => Count::Exact(n(Listen, Close)),
        "bcall" => Count::Exact(n(SynSent, SynRecv)),
        "connected" => Count::Exact(n(SynSent, Established)),
        "early" => Count::Exact(n(SynRecv, FinWait1)),
        "close" => Count::Exact(n(Established, FinWait1)),
        "closed" => Count::Exact(n(Established, CloseWait) + n(SynRecv, CloseWait)),
        "ack" => Count::Exact(n(FinWait1, FinWait2)),
        "bclose" => Count::Exact(n(FinWait1, Closing)),
        "last_ack" => Count::Exact(n(CloseWait, LastAck)),
        "fin" => ended(FinWait2),
        "closing" => ended(Closing),
        "done" => ended(LastAck),
        "cut_ss" => Count::Exact(n(SynSent, Close)),
        // A request that is dropped is no socket yet.
        "cut_sr" => Count::AtLeast(n(SynRecv, Close)),
        "cut_es" => Count::Exact(n(Established, Close)),
        "cut_f1" => Count::Exact(n(FinWait1, Close)),
        "cut_cw" => Count::Exact(n(CloseWait, Close)),
        "cut_f2" => cut_off(FinWait2),
        "cut_cg" => cut_off(Closing),
        "cut_la" => cut_off(LastAck),
        _ => Count::Unknown,
    }
}

/// Between samples.
fn seen(key: &str, moves: &Moves) -> Count {
    use State::{
        BoundInactive, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
        TimeWait,
    };
    let sum = |from: &[Option<State>], to: &[State]| -> u64 {
        from.iter().flat_map(|f| to.iter().map(move |t| moves.seen.get(*f, Some(*t)))).sum()
    };
    let s = Some;
    let early = [None, s(SynSent), s(SynRecv), s(Established)];
    let ours = [FinWait1, FinWait2, Closing, TimeWait];
    let n = match key {
        // A listener that is closed before the next sample is counted nowhere.
        "listened" => return between(moves, sum(&[None, s(Close), s(BoundInactive)], &[Listen])).or_more(),
        "unlisten" => return between(moves, moves.seen.get(s(Listen), None)).or_more(),
        "bcall" => sum(&[s(SynSent)], &[SynRecv]),
        // From SYN_SENT to anything after ESTABLISHED.
        "connected" => sum(&[s(SynSent)], &[Established, FinWait1, FinWait2, Closing, TimeWait, CloseWait, LastAck]),
        "close" => sum(&early, &ours),
        "ack" => sum(&early, &[FinWait2, TimeWait]) + sum(&[s(FinWait1)], &[FinWait2, TimeWait]),
        "fin" => sum(&early, &[TimeWait]) + sum(&[s(FinWait1), s(FinWait2)], &[TimeWait]),
        "closing" => sum(&[s(Closing)], &[TimeWait]),
        "bclose" => sum(&early, &[Closing]) + sum(&[s(FinWait1)], &[Closing]),
        "closed" => sum(&early, &[CloseWait, LastAck]),
        "last_ack" => sum(&early, &[LastAck]) + sum(&[s(CloseWait)], &[LastAck]),
        // What went from there may have been cut off as well.
        "done" if moves.seen.get(s(LastAck), None) > 0 => return Count::Unknown,
        "done" => 0,
        // `EstabResets` counts both.
        "cut_es" | "cut_cw" => {
            return match moves.resets {
                Some(0) => Count::Exact(0),
                Some(n) => Count::AtMost(n),
                None => Count::Unknown,
            };
        }
        // What leaves between two samples may have taken several steps: only a trace sees each.
        _ => return Count::Unknown,
    };
    between(moves, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Matrix;

    #[test]
    fn every_edge_has_a_count_and_only_a_trace_knows_the_cuts() {
        let untraced = Moves { unseen: Some(0), resets: Some(2), ..Moves::default() };
        let traced = Moves { traced: Some(Matrix::default()), cut: Some(Matrix::default()), ..untraced.clone() };
        for edge in &EDGES {
            let by_counter = ["active", "passive", "syn"].contains(&edge.key);
            let only_traced = edge.key.starts_with("cut_") || edge.key == "early";
            let known = |moves| !matches!(count(edge.key, moves), Count::Unknown);
            assert_eq!(known(&traced), !by_counter, "{}", edge.key);
            let known_by_resets = matches!(edge.key, "cut_es" | "cut_cw");
            assert_eq!(known(&untraced), !by_counter && (!only_traced || known_by_resets), "{}", edge.key);
            assert!(EDGES.iter().filter(|other| other.key == edge.key).count() == 1, "{}", edge.key);
        }
        // Every synchronised state, and the handshake, can be cut off.
        for state in State::ALL {
            let has = EDGES.iter().any(|edge| edge.from == state.name() && edge.key.starts_with("cut_"));
            let cannot = [State::Close, State::BoundInactive, State::Listen, State::TimeWait].contains(&state);
            assert_eq!(has, !cannot, "{state}");
        }
    }

    #[test]
    fn a_life_between_two_looks_took_every_edge_of_the_usual_way() {
        let mut moves = Moves { unseen: Some(0), ..Moves::default() };
        moves.seen.add(None, Some(State::TimeWait), 7);
        let took = |moves: &Moves| ["close", "ack", "fin", "closing"].map(|key| count(key, moves));
        assert_eq!(took(&moves), [Count::Exact(7), Count::Exact(7), Count::Exact(7), Count::Exact(0)]);
        moves.unseen = Some(3);
        assert_eq!(took(&moves)[0], Count::AtLeast(7), "others may have taken it unseen");
        assert_eq!(Count::AtLeast(0).text(9, None), "?");
        assert_eq!(Count::AtLeast(7).text(9, Some(2000)), "≥3.5/s");
    }

    #[test]
    fn what_is_not_proven_does_not_look_exact() {
        let mut moves = Moves { unseen: Some(0), ..Moves::default() };
        moves.seen.add(Some(State::Established), Some(State::CloseWait), 5);
        moves.seen.add(Some(State::TimeWait), None, 4);
        moves.seen.add(None, Some(State::Listen), 2);
        let told = |moves: &Moves| ["closed", "expired", "listened", "unlisten"].map(|key| count(key, moves));
        let (exact, least) = (Count::Exact, Count::AtLeast);
        assert_eq!(told(&moves), [exact(5), exact(4), least(2), least(0)]);
        // It may have taken other edges between the samples, or have been cut off.
        let mut vanished = moves.clone();
        vanished.seen.add(Some(State::Established), None, 1);
        assert_eq!(told(&vanished), [least(5), least(4), least(2), least(0)]);
        // From LAST_ACK there is one step; which of the two it was is not known.
        assert_eq!(count("done", &moves), exact(0));
        moves.seen.add(Some(State::LastAck), None, 3);
        assert_eq!((told(&moves)[0], count("done", &moves)), (exact(5), Count::Unknown));
        let sampled = Moves { sampled: true, ..moves.clone() };
        assert_eq!(told(&sampled), [Count::Unknown, Count::Unknown, Count::Unknown, Count::Unknown]);
        // A trace tells, whatever share of the sockets is tracked; one that lost records tells the least.
        let mut matrix = Matrix::default();
        matrix.add(Some(State::Established), Some(State::CloseWait), 9);
        matrix.add(Some(State::FinWait2), Some(State::Close), 8);
        let mut traced = Moves { traced: Some(matrix), sampled: true, ..moves };
        let told = |moves: &Moves| ["closed", "fin", "bcall"].map(|key| count(key, moves));
        assert_eq!(told(&traced), [exact(9), Count::AtMost(8), exact(0)]);
        traced.lost = true;
        assert_eq!(told(&traced), [least(9), Count::Unknown, least(0)]);
    }

    #[test]
    fn what_is_cut_off_is_told_from_what_ends() {
        let at = |n| {
            let mut matrix = Matrix::default();
            matrix.add(Some(State::FinWait2), Some(State::Close), n);
            Some(matrix)
        };
        let mut moves = Moves { traced: at(40), cut: at(3), ..Moves::default() };
        let both = |moves: &Moves| [count("fin", moves), count("cut_f2", moves)];
        assert_eq!(both(&moves), [Count::Exact(37), Count::Exact(3)]);
        moves.cut = None;
        assert_eq!(both(&moves), [Count::AtMost(40), Count::Unknown], "the source does not tell");
        assert_eq!(count("cut_la", &moves), Count::Exact(0), "none left the state at all");
        assert_eq!(Count::Exact(12_345_678).text(7, None), "12.3M");
    }
}
