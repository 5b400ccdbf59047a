//! Unit, container and pod of a process.
//!
//! Comes in: a process that holds a socket. Goes out: the same with what its cgroup and, for docker-proxy, its arguments
//! tell. Never here: what a path means; that is `model::cgroup`.

use crate::collect::proc::ProcRoot;
use crate::model::{Process, cgroup};

/// Reads the cgroup of a process into it. What cannot be read stays unknown.
pub fn identify(root: &ProcRoot, process: &mut Process) {
    let folder = root.path().join(process.pid.to_string());
    let text = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    let identity = cgroup::of_process(&text);
    process.unit = identity.unit;
    process.container = identity.container;
    process.pod = identity.pod;
    if process.container.is_none() && process.comm == "docker-proxy" {
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        process.container = behind_proxy(&line);
    }
}

/// The container that a docker-proxy forwards to, by its address: `-container-ip 172.17.0.2 -container-port 80`.
fn behind_proxy(cmdline: &[u8]) -> Option<String> {
    let words: Vec<&str> = cmdline.split(|b| *b == 0).filter_map(|w| std::str::from_utf8(w).ok()).collect();
    let after = |name: &str| {
        let at = words.iter().position(|w| w.trim_start_matches('-') == name)?;
        words.get(at + 1).copied()
    };
    let addr: std::net::IpAddr = after("container-ip")?.parse().ok()?;
    let port: u16 = after("container-port")?.parse().ok()?;
    Some(std::net::SocketAddr::new(addr, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_behind_a_proxy_is_in_its_arguments() {
        let line = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 \
                    -container-port 80 ";
        let line = line.replace(' ', "\0");
        assert_eq!(behind_proxy(line.as_bytes()).as_deref(), Some("172.17.0.2:80"));
        assert_eq!(behind_proxy(b"docker-proxy\0-container-ip\0"), None);
        assert_eq!(behind_proxy(b""), None);
    }

    #[test]
    fn a_process_that_is_gone_stays_unknown() {
        let mut process = Process { pid: u32::MAX, comm: "docker-proxy".into(), ..Process::default() };
        identify(&ProcRoot::default(), &mut process);
        assert_eq!((process.unit, process.container, process.pod), (None, None, None));
    }
}
