//! Numbers by which the kernel identifies things; none is ever 0.
//!
//! Input: a number as read. Output: a type, `None` for 0, which the kernel uses for "none". Names are in
//! [`crate::model::column::Names`].

use std::fmt;
use std::num::NonZeroU64;

/// Inode of a network namespace, as in `net:[4026531840]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId(NonZeroU64);

impl NetnsId {
    /// `None` for 0.
    #[must_use]
    pub const fn new(inode: u64) -> Option<NetnsId> {
        match NonZeroU64::new(inode) {
            Some(inode) => Some(NetnsId(inode)),
            None => None,
        }
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// What the network namespace is called that the host began with.
pub const HOST: &str = "(host)";

/// What a network namespace is called: by its name, or by its number.
#[must_use]
pub fn netns_label(name: Option<&str>, inode: Option<NetnsId>) -> String {
    match (name, inode) {
        (Some(name), _) => name.to_owned(),
        (None, Some(id)) => format!("net:[{id}]"),
        (None, None) => "net:[?]".into(),
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Inode of a socket file, as in `socket:[4711]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(NonZeroU64);

impl Inode {
    /// `None` for 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Inode> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Inode(number)),
            None => None,
        }
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl Inode {
    /// The first number that stands for an inode that nobody told; the kernel's have 32 bits.
    pub const UNTOLD: u64 = 1 << 32;

    /// The number; `None` where it only stands for one.
    #[must_use]
    pub const fn told(self) -> Option<u64> {
        if self.0.get() < Inode::UNTOLD { Some(self.0.get()) } else { None }
    }
}

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_number_and_none_takes_no_room() {
        assert_eq!(NetnsId::new(0), None);
        assert_eq!(NetnsId::new(4_026_531_840).map(NetnsId::get), Some(4_026_531_840));
        assert_eq!(NetnsId::new(7).unwrap().to_string(), "7");
        assert!(None < NetnsId::new(1) && NetnsId::new(1) < NetnsId::new(2));
        assert_eq!(size_of::<Option<NetnsId>>(), size_of::<u64>());
        assert_eq!((Inode::new(0), Inode::new(4711).map(Inode::get)), (None, Some(4711)));
        assert_eq!(size_of::<Option<Inode>>(), size_of::<u64>());
        assert_eq!(size_of::<crate::model::Holder>(), 16);
    }
}
