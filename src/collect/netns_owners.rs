//! Whose a network namespace is: that of one container, or of the containers of one pod.
//!
//! Input: the cgroup and the namespace of every process. Output: an identity for each namespace that no process outside of
//! one container, or pod, is in. Not here: sockets; what has lost its process belongs to whom the namespace does.

use rustc_hash::FxHashMap;

use crate::collect::containers::Containers;
use crate::collect::monitors;
use crate::collect::netns::link_inode;
use crate::collect::proc::{self, ProcRoot, processes};
use crate::model::NetnsId;
use crate::model::cgroup::Identity;

/// The namespaces that belong to one container or pod.
#[must_use]
pub fn owners(root: &ProcRoot, containers: &Containers) -> FxHashMap<NetnsId, Identity> {
    // A process that is not listed may be in any of them: a container that shares the namespace of another one sees itself alone.
    if proc::owners::horizon(root).is_some() {
        return FxHashMap::default();
    }
    let mut found: FxHashMap<NetnsId, Option<Identity>> = FxHashMap::default();
    for pid in processes::pids(root) {
        let Ok(Some(inode)) = link_inode(&root.path().join(format!("{pid}/ns/net"))) else { continue };
        let identity = monitors::identity(root, pid).unwrap_or_default();
        let of_both = found.entry(inode).or_insert_with(|| Some(identity.clone()));
        *of_both = of_both.take().and_then(|known| common(known, &identity));
    }
    let named = |(inode, identity): (NetnsId, Option<Identity>)| {
        let mut identity = identity?;
        containers.name(&mut identity);
        Some((inode, identity))
    };
    found.into_iter().filter_map(named).collect()
}

/// What two processes have in common: the container, or the pod alone.
fn common(known: Identity, other: &Identity) -> Option<Identity> {
    if known.container.is_some() && known.container == other.container {
        return Some(Identity { unit: known.unit.filter(|unit| other.unit.as_ref() == Some(unit)), ..known });
    }
    let pod = known.pod.filter(|pod| other.pod.as_ref() == Some(pod))?;
    Some(Identity { pod: Some(pod), pod_name: known.pod_name, ..Identity::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(container: &str, pod: Option<&str>) -> Identity {
        let container = (!container.is_empty()).then(|| container.to_owned());
        Identity { container, pod: pod.map(str::to_owned), ..Identity::default() }
    }

    #[test]
    fn a_namespace_is_that_of_a_container_of_a_pod_or_of_nobody() {
        let (a, b) = (identity("a", Some("p")), identity("b", Some("p")));
        assert_eq!(common(a.clone(), &a), Some(a.clone()));
        assert_eq!(common(a.clone(), &b), Some(identity("", Some("p"))));
        assert_eq!(common(identity("a", None), &identity("b", None)), None);
        assert_eq!(common(a, &identity("", None)), None, "a process of the host");
        assert_eq!(common(identity("", None), &identity("", None)), None);
    }
}
