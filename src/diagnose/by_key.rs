//! Rows of a list by something that they have themselves: 16 to 32 bytes a row, where a map that keeps its keys takes up to
//! 100.
//!
//! Input: rows, and what of a row is its key. Output: the place of the last row with a key.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;

use rustc_hash::FxBuildHasher;

use crate::cores;
use crate::model::Socket;

/// Places of rows in a table with open addressing, of which at most half is full.
pub(super) struct ByKey<K> {
    key: fn(&Socket) -> Option<K>,
    /// The hash of a key and the place of its row.
    slots: Vec<Option<(NonZeroU32, u32)>>,
}

impl<K: Hash + Eq> ByKey<K> {
    /// The rows that are wanted and have a key. Rows beyond four thousand million are not found.
    pub(super) fn new(
        sockets: &[Socket],
        key: fn(&Socket) -> Option<K>,
        is_wanted: impl Fn(&Socket) -> bool + Sync,
    ) -> ByKey<K> {
        let hashes = cores::map(sockets, |s| key(s).filter(|_| is_wanted(s)).map(|key| hash(&key)));
        let wanted = hashes.iter().flatten().count();
        let mut slots = vec![None; (wanted * 2).next_power_of_two()];
        for ((place, socket), hash) in (0u32..).zip(sockets).zip(hashes) {
            let Some(hash) = hash else { continue };
            let is_same = |other: u32| key(&sockets[other as usize]) == key(socket);
            let at = find(&slots, hash, is_same);
            slots[at] = Some((hash, place));
        }
        ByKey { key, slots }
    }

    /// The place of the last of these rows, which are those it was made of, with this key.
    pub(super) fn get(&self, sockets: &[Socket], wanted: &K) -> Option<u32> {
        let is_same = |place: u32| sockets.get(place as usize).and_then(self.key).as_ref() == Some(wanted);
        let at = find(&self.slots, hash(wanted), is_same);
        self.slots[at].map(|(_, place)| place)
    }
}

/// Where a key is, or would be: there always is an empty slot.
fn find(slots: &[Option<(NonZeroU32, u32)>], hash: NonZeroU32, is_same: impl Fn(u32) -> bool) -> usize {
    let mask = slots.len() - 1;
    let mut at = hash.get() as usize & mask;
    while let Some((other, place)) = slots[at]
        && !(other == hash && is_same(place))
    {
        at = (at + 1) & mask;
    }
    at
}

fn hash(key: &impl Hash) -> NonZeroU32 {
    let wide = FxBuildHasher.hash_one(key);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are in it")]
    let narrow = (wide ^ wide >> 32) as u32;
    NonZeroU32::new(narrow).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rows_with_one_key_the_last_is_found_and_no_other_key_is() {
        let rows = |cookies: &[Option<u64>]| -> Vec<Socket> {
            cookies.iter().map(|cookie| Socket { cookie: *cookie, ..Socket::default() }).collect()
        };
        let none = ByKey::new(&[], |s| s.cookie, |_| true);
        assert_eq!(none.get(&[], &1), None);
        let many: Vec<Option<u64>> = (0..20_000).map(|n| (n % 7 > 0).then_some(n % 9000)).collect();
        for cookies in [&[Some(3)][..], &[None, Some(1), Some(1), None, Some(2)], &many] {
            let sockets = rows(cookies);
            let by_cookie = ByKey::new(&sockets, |s| s.cookie, |s| s.cookie != Some(2));
            for cookie in 0..9001 {
                let last = cookies.iter().rposition(|c| *c == Some(cookie)).filter(|_| cookie != 2);
                let found = by_cookie.get(&sockets, &cookie).map(|place| place as usize);
                assert_eq!(found, last, "{cookie} of {}", cookies.len());
            }
        }
    }
}
