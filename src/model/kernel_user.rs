//! What in the kernel uses a socket that no process holds: a network file system, a block device.
//!
//! Input: a socket, and the kernel's lists of its own connections. Output: a [`KernelUser`] with its reason, certain
//! only where such a list has this very address and port. Reading the lists is up to `collect`.

use std::net::IpAddr;

use crate::model::socket::Socket;

/// Services whose connections the kernel itself opens or accepts, by server port (IANA, or the default in the
/// kernel's sources where IANA has none).
const PORTS: [(u16, &str); 15] = [
    (2049, "nfs"),
    (111, "nfs"),
    (20049, "nfs"),
    (445, "cifs"),
    (139, "cifs"),
    (3260, "iscsi"),
    (860, "iscsi"),
    (6789, "ceph"),
    (3300, "ceph"),
    (4420, "nvme"),
    (564, "9p"),
    (988, "lustre"),
    (7788, "drbd"),
    (16385, "rds"),
    (21064, "dlm"),
];

/// Confidence with a port as the only evidence.
const BY_PORT: f64 = 0.5;
/// The same, while something of that kind is in use on this host.
const IN_USE: f64 = 0.7;
/// A kernel list has the address and the port.
const LISTED: f64 = 0.97;
/// The same while some process cannot be read and might hold the socket.
const LISTED_AND_HIDDEN: f64 = 0.9;

/// Which part of the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelUser {
    pub name: String,
    /// 0 to 1.
    pub confidence: f64,
    pub reason: String,
}

impl KernelUser {
    /// The confidence that remains while some process cannot be read: without a list, that process is as likely an
    /// owner.
    #[must_use]
    pub fn unless_hidden(self) -> Option<KernelUser> {
        let reason = self.reason.replace("no process holds it", "no readable process holds it");
        (self.confidence >= LISTED).then_some(KernelUser { confidence: LISTED_AND_HIDDEN, reason, ..self })
    }

    /// The label in place of a process; uncertain ones have a question mark.
    #[must_use]
    pub fn label(&self) -> String {
        format!("(kernel: {}{})", self.name, if self.confidence >= LISTED { "" } else { "?" })
    }
}

/// One connection, or one port, in a list of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: &'static str,
    /// The server's; `None` for a local port on which the kernel serves.
    pub addr: Option<IpAddr>,
    /// `None` where the list does not have it.
    pub port: Option<u16>,
    /// The list, and the line in it.
    pub wherefrom: String,
}

/// The service that a port may mean, and the end that has the port.
#[must_use]
pub fn by_port(socket: &Socket) -> Option<&'static str> {
    let of = |port: u16| PORTS.iter().find(|(p, _)| *p == port).map(|(_, name)| *name);
    of(socket.peer.port).or_else(|| of(socket.local.port))
}

/// What in the kernel uses a socket that no process holds; `None` without evidence.
#[must_use]
pub fn find(socket: &Socket, listed: &[Listed]) -> Option<KernelUser> {
    let peer = socket.peer.addr.to_canonical();
    let exact = |l: &&Listed| match (l.addr, l.port) {
        (Some(addr), Some(port)) => addr.to_canonical() == peer && port == socket.peer.port,
        (None, Some(port)) => port == socket.local.port,
        _ => false,
    };
    let certain = |l: &Listed| KernelUser {
        name: l.name.into(),
        confidence: LISTED,
        reason: format!("no process holds it, and {}", l.wherefrom),
    };
    if let Some(user) = listed.iter().find(exact) {
        return Some(certain(user));
    }
    // The port differs, or is not listed: the same server is still a hint, unless the port points to another
    // service.
    let port = by_port(socket);
    let near = |l: &&Listed| l.addr.is_some_and(|a| a.to_canonical() == peer) && port.is_none_or(|name| name == l.name);
    if let Some(user) = listed.iter().find(near) {
        let reason = format!("no process holds it, and {}, though not with this port", user.wherefrom);
        return Some(KernelUser { name: user.name.into(), confidence: IN_USE, reason });
    }
    let name = port?;
    let (confidence, also) = match listed.iter().find(|l| l.name == name) {
        Some(other) => (IN_USE, format!("; {name} is in use here: {}", other.wherefrom)),
        None => (BY_PORT, String::new()),
    };
    Some(KernelUser {
        name: name.into(),
        confidence,
        reason: format!("no process holds it, and its port is one of {name}{also}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Endpoint;

    fn socket(local: u16, peer: &str, port: u16) -> Socket {
        let at = |addr: &str, port| Endpoint::new(addr.parse().unwrap(), port);
        Socket { local: at("10.0.0.1", local), peer: at(peer, port), ..Socket::default() }
    }

    #[test]
    fn only_what_the_kernel_lists_is_certain() {
        let listed = |name, addr: Option<&str>, port| Listed {
            name,
            addr: addr.map(|a| a.parse().unwrap()),
            port,
            wherefrom: "x says so".into(),
        };
        let lists = [listed("nfs", Some("10.0.0.9"), Some(2049)), listed("nfsd", None, Some(2049))];
        let of = |socket: &Socket, lists: &[Listed]| find(socket, lists).map(|u| (u.label(), u.confidence));
        let mount = socket(700, "10.0.0.9", 2049);
        assert_eq!(of(&mount, &lists), Some(("(kernel: nfs)".into(), LISTED)));
        assert_eq!(of(&socket(700, "::ffff:10.0.0.9", 2049), &lists).map(|u| u.1), Some(LISTED));
        assert_eq!(of(&socket(2049, "10.0.0.7", 800), &lists), Some(("(kernel: nfsd)".into(), LISTED)));
        assert_eq!(
            of(&socket(701, "10.0.0.9", 40001), &lists),
            Some(("(kernel: nfs?)".into(), IN_USE)),
            "lockd, maybe"
        );
        assert_eq!(
            of(&socket(701, "10.0.0.8", 2049), &lists),
            Some(("(kernel: nfs?)".into(), IN_USE)),
            "another server"
        );
        assert_eq!(of(&socket(701, "10.0.0.9", 445), &lists), Some(("(kernel: cifs?)".into(), BY_PORT)));
        assert_eq!(of(&mount, &[]), Some(("(kernel: nfs?)".into(), BY_PORT)));
        assert_eq!(of(&socket(701, "10.0.0.8", 8443), &lists), None);
        let hidden = |lists: &[Listed]| find(&mount, lists).unwrap().unless_hidden();
        let user = hidden(&lists).unwrap();
        assert_eq!((user.label(), user.confidence), ("(kernel: nfs?)".into(), LISTED_AND_HIDDEN));
        assert_eq!(user.reason, "no readable process holds it, and x says so");
        assert_eq!(hidden(&[]), None);
        assert!(find(&mount, &[]).unwrap().reason.contains("its port"));
    }
}
