//! Which processes belong to a container or a pod.
//!
//! Input: the cgroups of all processes. Output: those in a container or pod, each with its identity. Not here: monitors
//! outside of a container, and what the path of a cgroup means (`model::cgroup`).

use crate::collect::containers::Containers;
use crate::collect::proc::{ProcRoot, processes};
use crate::model::cgroup::{self, Identity};

/// A process in a container.
#[derive(Clone, Debug)]
pub struct Member {
    pub pid: u32,
    pub identity: Identity,
}

/// Every process whose cgroup is that of a container or a pod. Any user may read cgroups, unless processes are hidden.
#[must_use]
pub fn members(root: &ProcRoot, containers: &Containers) -> Vec<Member> {
    let mut found = Vec::new();
    for pid in processes::pids(root) {
        let Ok(text) = std::fs::read_to_string(root.path().join(pid.to_string()).join("cgroup")) else { continue };
        let mut identity = cgroup::of_process(&text);
        if identity.container.is_none() && identity.pod.is_none() {
            continue;
        }
        containers.name(&mut identity);
        found.push(Member { pid, identity });
    }
    found
}
