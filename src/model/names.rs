//! What numbers are called on the host that they are from: users, interfaces, control groups, network namespaces.
//!
//! Facts that go with a snapshot into a capture, since another host calls the same numbers differently. Looking them up is
//! up to `collect`.

use std::collections::BTreeMap;

use crate::model::cgroup::Identity;
use crate::model::id::NetnsId;

/// The names of the numbers in a snapshot, as far as they have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameTable {
    /// Login names by user id.
    pub users: BTreeMap<u32, String>,
    /// Interfaces by namespace and number.
    pub interfaces: BTreeMap<(Option<NetnsId>, u32), String>,
    /// Paths of control groups by their id.
    pub cgroups: BTreeMap<u64, String>,
    /// What such a group belongs to.
    pub identities: BTreeMap<u64, Identity>,
    /// Network namespaces by their inode.
    pub netns: BTreeMap<NetnsId, String>,
    /// Whose alone a network namespace is.
    pub netns_identities: BTreeMap<NetnsId, Identity>,
}
