//! Rows of a list by something that they have themselves: a few bytes a row, where a map that keeps its keys takes up to 100.
//!
//! Input: rows, and what of a row is its key. Output: the place of the last row with a key.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::cores;
use crate::model::Socket;

/// Places of rows, by a key that is read from the row.
pub(super) struct ByKey<K> {
    key: fn(&Socket) -> Option<K>,
    places: HashTable<u32>,
}

impl<K: Hash + Eq> ByKey<K> {
    /// The rows that are wanted and have a key. Rows beyond four thousand million are not found.
    pub(super) fn new(
        sockets: &[Socket],
        key: fn(&Socket) -> Option<K>,
        is_wanted: impl Fn(&Socket) -> bool + Sync,
    ) -> ByKey<K> {
        let hashes = cores::map(sockets, |s| key(s).filter(|_| is_wanted(s)).map(|key| hash(&key)));
        let of = |place: u32| key(&sockets[place as usize]);
        let mut places = HashTable::with_capacity(hashes.iter().flatten().count());
        for ((place, socket), hash_of) in (0u32..).zip(sockets).zip(hashes) {
            let Some(hash_of) = hash_of else { continue };
            let own = key(socket);
            let entry =
                places.entry(hash_of, |other| of(*other) == own, |other| of(*other).map_or(0, |key| hash(&key)));
            *entry.or_insert(place).get_mut() = place;
        }
        ByKey { key, places }
    }

    /// The place of the last of these rows, which are those it was made of, with this key.
    pub(super) fn get(&self, sockets: &[Socket], wanted: &K) -> Option<u32> {
        let is_same = |place: &u32| sockets.get(*place as usize).and_then(self.key).as_ref() == Some(wanted);
        self.places.find(hash(wanted), is_same).copied()
    }
}

fn hash(key: &impl Hash) -> u64 {
    FxBuildHasher.hash_one(key)
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
