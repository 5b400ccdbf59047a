//! Which processes belong to a container or a pod.
//!
//! Input: the cgroups of all processes, or the monitors that started them. Output: those in a container or pod, each with its
//! identity. Not here: monitors outside of a container, and what the path of a cgroup means (`model::cgroup`).

use crate::collect::containers::Containers;
use crate::collect::monitors;
use crate::collect::proc::{ProcRoot, processes};
use crate::model::cgroup::Identity;

/// A process in a container.
#[derive(Clone, Debug)]
pub struct Member {
    pub pid: u32,
    pub identity: Identity,
}

/// Every process in a container or a pod. Any user may read cgroups, unless processes are hidden.
#[must_use]
pub fn members(root: &ProcRoot, containers: &Containers) -> Vec<Member> {
    let member = |pid: u32| {
        let mut identity = monitors::identity(root, pid)?;
        if identity.container.is_none() && identity.pod.is_none() {
            return None;
        }
        containers.name(&mut identity);
        Some(Member { pid, identity })
    };
    processes::pids(root).filter_map(member).collect()
}
