//! The very sockets that a finding is about.
//!
//! Input: the rows that a rule judged. Output: what finds each of them again in a later sample. Not here: which they are,
//! which the rule says.

use std::sync::Arc;

use crate::model::{FourTuple, NetnsId, Socket};

/// Sockets by their cookies, and by their addresses where the source has no cookies. A finding is copied from run to run,
/// so that copies share the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets(Option<Arc<Ids>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    cookies: Vec<(Option<NetnsId>, u64)>,
    tuples: Vec<(Option<NetnsId>, FourTuple)>,
}

impl Ids {
    fn sorted(mut self) -> Sockets {
        self.cookies.sort_unstable();
        self.cookies.dedup();
        self.tuples.sort_unstable();
        let is_empty = self.cookies.is_empty() && self.tuples.is_empty();
        Sockets((!is_empty).then(|| Arc::new(self)))
    }
}

impl Sockets {
    #[must_use]
    pub fn of<'s>(rows: impl IntoIterator<Item = &'s Socket>) -> Sockets {
        let mut ids = Ids::default();
        for row in rows {
            match row.cookie {
                Some(cookie) => ids.cookies.push((row.netns, cookie)),
                None => ids.tuples.push((row.netns, row.four_tuple())),
            }
        }
        ids.sorted()
    }

    /// Those of either list.
    #[must_use]
    pub fn union(&self, other: &Sockets) -> Sockets {
        let mut ids = self.0.as_deref().cloned().unwrap_or_default();
        if let Some(more) = &other.0 {
            ids.cookies.extend(&more.cookies);
            ids.tuples.extend(&more.tuples);
        }
        ids.sorted()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ids| ids.cookies.len() + ids.tuples.len())
    }

    /// Whether a row of any sample is one of them. A search in a sorted list: watch asks for every row.
    #[must_use]
    pub fn contains(&self, socket: &Socket) -> bool {
        let Some(ids) = &self.0 else { return false };
        match socket.cookie {
            Some(cookie) => ids.cookies.binary_search(&(socket.netns, cookie)).is_ok(),
            None => ids.tuples.binary_search(&(socket.netns, socket.four_tuple())).is_ok(),
        }
    }

    /// The network namespace that all of them are in; `None` where they are in several, or it is not known.
    #[must_use]
    pub fn netns(&self) -> Option<NetnsId> {
        let ids = self.0.as_deref()?;
        let mut all = ids.cookies.iter().map(|(n, _)| *n).chain(ids.tuples.iter().map(|(n, _)| *n));
        let first = all.next()??;
        all.all(|netns| netns == Some(first)).then_some(first)
    }

    /// Their cookies in rising order; `None` when some have none.
    #[must_use]
    pub fn cookies(&self) -> Option<Vec<u64>> {
        let ids = self.0.as_ref().filter(|ids| ids.tuples.is_empty())?;
        let mut cookies: Vec<u64> = ids.cookies.iter().map(|(_, cookie)| *cookie).collect();
        cookies.sort_unstable();
        cookies.dedup();
        Some(cookies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{listen, row};
    use crate::model::State;

    #[test]
    fn sockets_are_found_again_by_cookie_else_by_address() {
        let one = row(State::CloseWait, "10.0.0.1:80", "10.0.0.2:5000");
        let bare = Socket { cookie: None, ..row(State::Established, "10.0.0.1:81", "10.0.0.2:5001") };
        let sockets = Sockets::of([&one, &bare, &one]);
        assert_eq!(sockets.len(), 2);
        // Another state of the same socket; another socket of the same address.
        assert!(sockets.contains(&Socket { state: State::LastAck, ..one.clone() }));
        assert!(!sockets.contains(&Socket { cookie: Some(1), ..one.clone() }));
        assert!(!sockets.contains(&Socket { netns: None, ..one.clone() }));
        assert!(sockets.contains(&bare) && !sockets.contains(&listen("0.0.0.0:81", 0, 8)));
        assert_eq!(sockets.cookies(), None, "one has none");
        let cookie = one.cookie.unwrap();
        let both = Sockets::of([&one]).union(&Sockets::of([&listen("0.0.0.0:80", 0, 8), &one]));
        assert_eq!((both.len(), both.cookies().map(|c| c.contains(&cookie))), (2, Some(true)));
        let at = |inode, socket: &Socket| Socket { netns: NetnsId::new(inode), ..socket.clone() };
        assert_eq!(Sockets::of([&at(7, &one), &at(7, &bare)]).netns(), NetnsId::new(7));
        assert_eq!(Sockets::of([&at(7, &one), &at(8, &bare)]).netns(), None);
        assert!(Sockets::of([]).is_empty() && Sockets::default().union(&Sockets::default()).is_empty());
    }
}
