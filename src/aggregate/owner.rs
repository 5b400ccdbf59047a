//! The owner of a row, in the four bytes that a tracker keeps per row: a set of processes of
//! [`crate::aggregate::ownership::Ownership`], or one of the two kinds of none.

/// Index of a set of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SetId(u32);

impl SetId {
    #[must_use]
    pub fn new(place: usize) -> SetId {
        // More sets than this do not fit into memory.
        SetId(u32::try_from(place).unwrap_or(u32::MAX).min(u32::MAX - 2))
    }

    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// The owner of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// No scan has looked for it yet.
    NotSought,
    /// No readable process holds it.
    Nobody,
    Set(SetId),
}

/// An [`Owner`] in four bytes: a tracker keeps one per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(u32);

impl OwnerId {
    pub const NOT_SOUGHT: OwnerId = OwnerId(0);
    pub const NOBODY: OwnerId = OwnerId(u32::MAX);

    #[must_use]
    pub const fn get(self) -> Owner {
        match self {
            OwnerId::NOT_SOUGHT => Owner::NotSought,
            OwnerId::NOBODY => Owner::Nobody,
            OwnerId(number) => Owner::Set(SetId(number - 1)),
        }
    }

    /// The set of processes, if there is one.
    #[must_use]
    pub const fn set(self) -> Option<SetId> {
        match self.get() {
            Owner::Set(set) => Some(set),
            Owner::NotSought | Owner::Nobody => None,
        }
    }
}

impl From<SetId> for OwnerId {
    fn from(set: SetId) -> OwnerId {
        OwnerId(set.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_of_four_bytes_is_one_of_three() {
        assert_eq!(size_of::<OwnerId>(), 4);
        assert_eq!((OwnerId::NOT_SOUGHT.get(), OwnerId::NOBODY.get()), (Owner::NotSought, Owner::Nobody));
        assert_eq!((OwnerId::NOT_SOUGHT.set(), OwnerId::NOBODY.set()), (None, None));
        for place in [0, 1, 41, u32::MAX as usize - 2, u32::MAX as usize, usize::MAX] {
            let set = SetId::new(place);
            assert_eq!(OwnerId::from(set).get(), Owner::Set(set), "{place}");
            assert_eq!(set.place(), place.min(u32::MAX as usize - 2));
        }
    }
}
