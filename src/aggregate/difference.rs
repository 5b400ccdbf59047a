//! What became of the sockets of one snapshot until another: appeared, vanished, moved to another state, queued more.
//!
//! Input: two snapshots, of one host or of two. Output: the sockets of each kind, and sums by state and process. What neither
//! snapshot saw (a connection that came and went in between) is in none of them.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::aggregate::state_counts::Counts;
use crate::model::{Endpoint, FourTuple, NetnsId, Snapshot, Socket, State};

/// Snapshots of one boot differ by no more in what the wall clock has over the monotonic one: it is set, and slewed.
const ONE_BOOT_MS: u64 = 60_000;

/// What makes a socket the same socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Same {
    Cookie(Option<NetnsId>, u64),
    /// Without a cookie.
    Tuple(Option<NetnsId>, FourTuple),
    /// Of another host, or of another boot: the addresses alone.
    Ends(Endpoint, Endpoint),
}

/// A socket in both.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub before: &'a Socket,
    pub after: &'a Socket,
}

impl Pair<'_> {
    /// By how much more is unread and unacknowledged.
    #[must_use]
    pub fn growth_bytes(&self) -> i64 {
        let queued = |s: &Socket| i64::from(s.recv_q_bytes) + s.send_q_bytes.map_or(0, i64::from);
        queued(self.after) - queued(self.before)
    }
}

/// The sockets of one process name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub before: u64,
    pub after: u64,
    pub appeared: u64,
    pub vanished: u64,
}

/// The difference of two snapshots.
#[derive(Debug, Default)]
pub struct Difference<'a> {
    pub before: Counts,
    pub after: Counts,
    pub appeared: Vec<&'a Socket>,
    pub vanished: Vec<&'a Socket>,
    /// In another state than before.
    pub moved: Vec<Pair<'a>>,
    /// In the same state with more in its queues, the most first; a listener has connections in them, not bytes.
    pub grew: Vec<Pair<'a>>,
    /// By the name of the first process that holds them; `None`: no process is known.
    pub processes: BTreeMap<Option<&'a str>, Share>,
}

impl<'a> Difference<'a> {
    #[must_use]
    pub fn between(before: &'a Snapshot, after: &'a Snapshot) -> Difference<'a> {
        let one_boot = is_one_boot(before, after);
        let mut known: FxHashMap<Same, &Socket> = FxHashMap::default();
        let mut found = Difference::default();
        for socket in &before.sockets {
            found.before.add(socket.state);
            known.insert(same(socket, one_boot), socket);
            found.processes.entry(process(before, socket)).or_default().before += 1;
        }
        for socket in &after.sockets {
            found.after.add(socket.state);
            let share = found.processes.entry(process(after, socket)).or_default();
            share.after += 1;
            match known.remove(&same(socket, one_boot)) {
                None => {
                    share.appeared += 1;
                    found.appeared.push(socket);
                }
                Some(old) => {
                    let pair = Pair { before: old, after: socket };
                    if old.state != socket.state {
                        found.moved.push(pair);
                    } else if pair.growth_bytes() > 0 {
                        found.grew.push(pair);
                    }
                }
            }
        }
        // In the order of the rows; a socket that was there twice has one entry.
        for socket in &before.sockets {
            if known.remove(&same(socket, one_boot)).is_some() {
                found.processes.entry(process(before, socket)).or_default().vanished += 1;
                found.vanished.push(socket);
            }
        }
        found.grew.sort_by_key(|pair| std::cmp::Reverse(pair.growth_bytes()));
        found
    }

    /// Whether nothing appeared, vanished, moved or grew.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.vanished.is_empty() && self.moved.is_empty() && self.grew.is_empty()
    }

    /// How many sockets moved from which state to which, the most first.
    #[must_use]
    pub fn moves(&self) -> Vec<(State, State, u64)> {
        let mut counts: BTreeMap<(State, State), u64> = BTreeMap::new();
        for pair in &self.moved {
            *counts.entry((pair.before.state, pair.after.state)).or_default() += 1;
        }
        let mut moves: Vec<_> = counts.into_iter().map(|((from, to), n)| (from, to, n)).collect();
        moves.sort_by_key(|(from, to, n)| (std::cmp::Reverse(*n), *from, *to));
        moves
    }
}

/// Whether cookies of both count from the same start: of one host, which was not started anew in between.
#[must_use]
pub fn is_one_boot(before: &Snapshot, after: &Snapshot) -> bool {
    let start = |s: &Snapshot| s.taken_at_ms.saturating_sub(s.monotonic_ms);
    before.host == after.host && start(before).abs_diff(start(after)) < ONE_BOOT_MS
}

fn same(socket: &Socket, one_boot: bool) -> Same {
    match socket.cookie {
        _ if !one_boot => Same::Ends(socket.local.normalised(), socket.peer.normalised()),
        Some(cookie) => Same::Cookie(socket.netns, cookie),
        None => Same::Tuple(socket.netns, socket.four_tuple()),
    }
}

/// The name of the first process that holds a socket.
#[must_use]
pub fn process<'a>(snapshot: &'a Snapshot, socket: &Socket) -> Option<&'a str> {
    let (_, holders) = snapshot.owners.of(socket);
    holders.first().map(|holder| snapshot.owners.process(holder).comm.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cookie: u64, state: State, port: u16, unread: u32) -> Socket {
        let peer = Endpoint::new("10.0.0.9".parse().unwrap(), port);
        Socket { cookie: Some(cookie), state, peer, recv_q_bytes: unread, ..Socket::default() }
    }

    fn snapshot(host: &str, sockets: Vec<Socket>) -> Snapshot {
        Snapshot { host: host.into(), taken_at_ms: 5_000_000, monotonic_ms: 1000, sockets, ..Snapshot::default() }
    }

    #[test]
    fn every_socket_is_of_one_kind() {
        use State::{CloseWait, Established, TimeWait};
        let before = snapshot(
            "a",
            vec![
                row(1, Established, 1, 0),
                row(2, Established, 2, 0),
                row(3, Established, 3, 5),
                row(4, CloseWait, 4, 1),
            ],
        );
        let after = snapshot(
            "a",
            vec![row(2, CloseWait, 2, 1), row(3, Established, 3, 9), row(4, CloseWait, 4, 1), row(5, TimeWait, 5, 0)],
        );
        let found = Difference::between(&before, &after);
        let cookies = |list: &[&Socket]| list.iter().map(|s| s.cookie.unwrap()).collect::<Vec<_>>();
        assert_eq!((cookies(&found.appeared), cookies(&found.vanished)), (vec![5], vec![1]));
        assert_eq!(found.moves(), [(Established, CloseWait, 1)]);
        assert_eq!(found.grew.iter().map(Pair::growth_bytes).collect::<Vec<_>>(), [4]);
        assert_eq!(found.processes[&None], Share { before: 4, after: 4, appeared: 1, vanished: 1 });
        assert!(!found.is_empty() && Difference::between(&before, &before).is_empty());
    }

    #[test]
    fn cookies_of_another_boot_or_host_mean_nothing() {
        let before = snapshot("a", vec![row(1, State::Established, 1, 0)]);
        let mut after = snapshot("b", vec![row(9, State::Established, 1, 0), row(1, State::Established, 2, 0)]);
        let found = Difference::between(&before, &after);
        assert_eq!((found.appeared.len(), found.vanished.len()), (1, 0));
        assert_eq!(found.appeared[0].peer.port, 2);
        (after.host, after.taken_at_ms) = ("a".into(), 9_000_000);
        assert!(!is_one_boot(&before, &after), "started anew");
    }
}
