//! Who chose the local ports of outgoing connections: `connect()`, or a `bind()` to port 0 before it.
//!
//! The kernel does not say, but the two search differently. `connect()` begins with ports of the parity of the range's
//! low end, and goes on from where the last connection to the same destination ended, a few ports at a time
//! (`__inet_hash_connect`). `bind()` begins with the other parity, at a random place each time
//! (`inet_csk_find_open_port`), and its ports are not shared between destinations. Inode numbers tell in which order
//! sockets were made.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{Endpoint, Socket};

/// Who chose the ports of one program's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `bind()`: parity and order of the ports agree.
    Bind,
    /// By parity alone: with one connection to each destination there is no order.
    PerhapsBind,
    Connect,
    /// Too few rows, or the marks contradict each other.
    Unknown,
}

impl Choice {
    #[must_use]
    pub fn is_bind(self) -> bool {
        matches!(self, Choice::Bind | Choice::PerhapsBind)
    }
}

/// Steps between consecutive ports from which an order can be seen.
const STEPS: usize = 8;
/// `connect()` moves on by 2 to 16 ports (`table_perturb`); below three times that nothing can be told.
const STEP_MAX: u32 = 48;
/// With SO_REUSEADDR `bind()` searches one half of the range first. Of steps to a random place of a half the median is a
/// seventh of the range, and one step in six is less than a 24th of it.
const RANDOM_PART: u32 = 24;

/// Judges the held connections of one program from one source address, whose ports lie in the range that begins with
/// `low`. `plain_ports`, asked only where it decides, is how many ports of the low end's parity anything holds: where
/// `connect()` finds few of them free it takes the others too.
#[must_use]
pub fn choice(rows: &[&Socket], low: u16, usable: u32, plain_ports: impl FnOnce() -> usize) -> Choice {
    if rows.iter().any(|s| s.bind_address_no_port() == Some(true)) || shares_ports(rows) {
        return Choice::Connect;
    }
    let mut ordered = rows.to_vec();
    ordered.sort_by_key(|s| s.inode);
    // What was opened first chose freely; with half of the range used both searches take what is left.
    let first = ordered.len().min((usable as usize * 2 / 5).max(STEPS));
    let odd = ordered[..first].iter().filter(|s| s.local.port % 2 != low % 2).count();
    if odd * 10 < first * 9 {
        return if odd * 10 <= first { Choice::Connect } else { Choice::Unknown };
    }
    match median_step(&ordered, usable) {
        Some(step) if step.saturating_mul(RANDOM_PART) >= usable && step > STEP_MAX / 2 => Choice::Bind,
        Some(step) if step <= STEP_MAX / 2 => Choice::Connect,
        None if plain_ports() * 4 < usable as usize => Choice::PerhapsBind,
        _ => Choice::Unknown,
    }
}

/// Whether several ports serve more than one connection of these, which only `connect()` does.
fn shares_ports(rows: &[&Socket]) -> bool {
    let mut ports: FxHashSet<(IpAddr, u16)> = FxHashSet::default();
    let again = rows.iter().filter(|s| !ports.insert((s.local.addr.to_canonical(), s.local.port)));
    again.take(2).count() == 2
}

/// The median distance between ports of connections to one destination that were made one after the other.
fn median_step(ordered: &[&Socket], usable: u32) -> Option<u32> {
    let mut last: FxHashMap<Endpoint, u16> = FxHashMap::default();
    let mut steps: Vec<u32> = Vec::new();
    for socket in ordered {
        let port = socket.local.port;
        if let Some(before) = last.insert(socket.peer.normalised(), port) {
            let step = u32::from(port.abs_diff(before));
            steps.push(step.min(usable.saturating_sub(step)));
        }
    }
    steps.sort_unstable();
    (steps.len() >= STEPS).then(|| steps[steps.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::row;
    use crate::model::{Inode, State};

    /// Connections in the order of their sockets, spread over `destinations`.
    fn made(ports: impl IntoIterator<Item = u16>, destinations: usize) -> Vec<Socket> {
        let of = |(n, port): (usize, u16)| {
            let to = format!("10.0.1.{}:80", n % destinations + 1);
            let socket = row(State::Established, &format!("10.0.0.1:{port}"), &to);
            Socket { inode: Inode::new(1000 + n as u64), ..socket }
        };
        ports.into_iter().enumerate().map(of).collect()
    }

    fn judged(sockets: &[Socket], plain_ports: usize) -> Choice {
        choice(&sockets.iter().collect::<Vec<_>>(), 20_000, 400, || plain_ports)
    }

    /// Odd ports in an order without a pattern.
    fn random(count: u16) -> Vec<u16> {
        (0..count).map(|n| 20_001 + n * 73 % 200 * 2).collect()
    }

    #[test]
    fn odd_ports_at_random_places_are_of_bind_also_when_the_range_is_full() {
        assert_eq!(judged(&made(random(20), 1), 0), Choice::Bind);
        let full = random(200).into_iter().chain(random(200).into_iter().map(|p| p - 1));
        assert_eq!(judged(&made(full, 2), 200), Choice::Bind);
    }

    #[test]
    fn a_search_of_one_half_of_the_range_is_of_bind_too() {
        let half = (0..16u16).map(|n| 20_001 + n * 15 % 100 * 2);
        assert_eq!(judged(&made(half, 1), 0), Choice::Bind);
    }

    #[test]
    fn ports_in_small_steps_are_of_connect_whatever_their_parity() {
        assert_eq!(judged(&made((0..40).map(|n| 20_001 + n * 10), 1), 200), Choice::Connect);
        assert_eq!(judged(&made((0..40).map(|n| 20_000 + n * 10), 1), 0), Choice::Connect);
    }

    #[test]
    fn parity_alone_says_perhaps_and_only_where_the_other_half_is_free() {
        let each = made(random(20), 20);
        assert_eq!(judged(&each, 99), Choice::PerhapsBind);
        assert_eq!(judged(&each, 100), Choice::Unknown);
    }

    #[test]
    fn the_option_and_shared_ports_refute_bind() {
        let mut with_option = made(random(20), 1);
        with_option[3].sockopt = Some(0x100);
        assert_eq!(judged(&with_option, 0), Choice::Connect);
        let twice = random(20).into_iter().chain(random(2));
        assert_eq!(judged(&made(twice, 3), 0), Choice::Connect);
        // A mix of both kinds is neither.
        assert_eq!(judged(&made((0..20).map(|n| 20_000 + n * 73 % 400), 1), 0), Choice::Unknown);
    }
}
