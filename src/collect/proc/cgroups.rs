//! Unit, container and pod of a process.
//!
//! Comes in: a process that holds a socket. Goes out: the same with what its cgroup and, for docker-proxy, its arguments
//! tell. Never here: what a path means; that is `model::cgroup`.

use std::net::SocketAddr;

use crate::collect::containers::Containers;
use crate::collect::proc::ProcRoot;
use crate::model::cgroup::Runtime;
use crate::model::{Process, cgroup};

/// Reads the cgroup of a process into it. What cannot be read stays unknown.
pub fn identify(root: &ProcRoot, containers: &Containers, process: &mut Process) {
    let folder = root.path().join(process.pid.to_string());
    let text = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    process.identity = cgroup::of_process(&text);
    containers.name(&mut process.identity);
    if process.identity.container.is_none() && process.comm == "docker-proxy" {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let Some(behind) = behind_proxy(&line) else { return };
        let (id, name) = containers.behind(behind.ip()).unwrap_or_else(|| (behind.to_string(), None));
        process.identity.container = Some(id);
        process.identity.container_name = name;
        process.identity.runtime = Some(Runtime::Docker);
    }
}

/// The container that a docker-proxy forwards to, by its address: `-container-ip 172.17.0.2 -container-port 80`.
fn behind_proxy(cmdline: &[u8]) -> Option<SocketAddr> {
    let words: Vec<&str> = cmdline.split(|b| *b == 0).filter_map(|w| std::str::from_utf8(w).ok()).collect();
    let after = |name: &str| {
        words.iter().enumerate().find_map(|(at, word)| {
            // Go takes one dash or two, and the value in the same word or the next.
            match word.strip_prefix('-')?.trim_start_matches('-').strip_prefix(name)? {
                "" => words.get(at + 1).copied(),
                rest => rest.strip_prefix('='),
            }
        })
    };
    Some(SocketAddr::new(after("container-ip")?.parse().ok()?, after("container-port")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_behind_a_proxy_is_in_its_arguments() {
        let line = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 \
                    -container-port 80 ";
        let line = line.replace(' ', "\0");
        let behind = |line: &[u8]| behind_proxy(line).map(|a| a.to_string());
        assert_eq!(behind(line.as_bytes()).as_deref(), Some("172.17.0.2:80"));
        let other = b"docker-proxy\0--container-ip=fd00::2\0--container-port=80\0";
        assert_eq!(behind(other).as_deref(), Some("[fd00::2]:80"));
        assert_eq!(behind_proxy(b"docker-proxy\0-container-ip\0"), None);
        assert_eq!(behind_proxy(b""), None);
    }

    #[test]
    fn a_process_that_is_gone_stays_unknown() {
        let mut process = Process { pid: u32::MAX, comm: "docker-proxy".into(), ..Process::default() };
        let root = ProcRoot::default();
        identify(&root, &Containers::new(&root), &mut process);
        assert_eq!(process.identity, cgroup::Identity::default());
    }
}
