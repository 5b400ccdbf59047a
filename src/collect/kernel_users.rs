//! The kernel's own connections, as far as it lists them: mounts of network file systems, NFS servers, iSCSI, NVMe.
//!
//! Input: the root of a proc file system. Output: [`Listed`] connections; a missing list is empty.
//! `model::kernel_user` matches them with sockets.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use crate::collect::proc::ProcRoot;
use crate::collect::proc::mounts::unescape;
use crate::model::kernel_user::Listed;

/// Everything that the kernel lists.
#[must_use]
pub fn listed(root: &ProcRoot) -> Vec<Listed> {
    let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap_or_default();
    let mut all = nfs_servers(&read("fs/nfsfs/servers"));
    // Only these two mount namespaces are read.
    for file in ["self/mounts", "1/mounts"] {
        all.extend(mounts(&read(file)));
    }
    all.extend(nfsd(&read("fs/nfsd/portlist")));
    if root.is_own() {
        all.extend(iscsi(Path::new("/sys/class/iscsi_connection")));
        all.extend(nvme(Path::new("/sys/class/nvme")));
    }
    all
}

/// `v4 0a000009 801 2 host`: version, address and port in hexadecimal, uses, name (`nfs_server_list_show` in
/// fs/nfs/client.c).
fn nfs_servers(text: &str) -> Vec<Listed> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (_, addr, port) = (words.next()?.strip_prefix('v')?, words.next()?, words.next()?);
        let addr: IpAddr = match addr.len() {
            8 => u32::from_str_radix(addr, 16).ok()?.to_be_bytes().into(),
            32 => Ipv6Addr::from(u128::from_str_radix(addr, 16).ok()?).into(),
            _ => return None,
        };
        let port = u16::from_str_radix(port, 16).ok().filter(|p| *p != 0);
        let wherefrom = format!("/proc/fs/nfsfs/servers has {addr}");
        Some(Listed { name: "nfs", addr: Some(addr), port, wherefrom })
    };
    text.lines().filter_map(of_line).collect()
}

/// Mounts of network file systems that name their server.
fn mounts(text: &str) -> Vec<Listed> {
    let mut all = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [source, at, kind, options, ..] = words[..] else { continue };
        let (name, usual) = match kind {
            "nfs" | "nfs4" => ("nfs", Some(2049)),
            "cifs" | "smb3" => ("cifs", Some(445)),
            "ceph" => ("ceph", None),
            "9p" => ("9p", Some(564)),
            _ => continue,
        };
        let option = |key: &str| {
            options.split(',').find_map(|o| o.strip_prefix(key)?.strip_prefix('=')).filter(|v| !v.is_empty())
        };
        let wherefrom = format!("{} is mounted at {}", unescape(source), unescape(at));
        let mut add = |addr: Option<IpAddr>, port| {
            all.extend(addr.map(|a| Listed { name, addr: Some(a), port, wherefrom: wherefrom.clone() }));
        };
        match kind {
            // The monitors, by address: `a:6789,b:6789:/`, or as an option with `/` between. The ports of the other
            // daemons are listed nowhere.
            "ceph" => {
                let monitors = option("mon_addr").map_or_else(
                    || source.rsplit_once(":/").map_or("", |(monitors, _)| monitors).replace(',', "/"),
                    str::to_owned,
                );
                for monitor in monitors.split('/') {
                    match monitor.parse::<std::net::SocketAddr>() {
                        Ok(at) => add(Some(at.ip()), Some(at.port())),
                        Err(_) => add(address(monitor), Some(6789)),
                    }
                }
            }
            "9p" if option("trans") == Some("tcp") => {
                add(address(source), option("port").and_then(|p| p.parse().ok()).or(usual));
            }
            "9p" => {}
            _ => add(
                option("addr").and_then(address),
                option("port").and_then(|p| p.parse().ok()).filter(|p| *p != 0).or(usual),
            ),
        }
    }
    all
}

/// An address, with or without brackets and scope.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim_start_matches('[').trim_end_matches(']');
    word.split('%').next()?.parse().ok()
}

/// `tcp 2049`: where the NFS server listens (`__write_ports_names` in fs/nfsd/nfsctl.c).
fn nfsd(text: &str) -> Vec<Listed> {
    let of_line = |line: &str| {
        let port: u16 = line.strip_prefix("tcp ")?.trim().parse().ok()?;
        let wherefrom = format!("/proc/fs/nfsd/portlist has tcp {port}");
        Some(Listed { name: "nfsd", addr: None, port: Some(port), wherefrom })
    };
    text.lines().filter_map(of_line).collect()
}

/// Connections of the iSCSI initiator.
fn iscsi(folder: &Path) -> Vec<Listed> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let addr = address(read("address").trim()).or_else(|| address(read("persistent_address").trim()));
        let port = read("port").trim().parse().ok().or_else(|| read("persistent_port").trim().parse().ok());
        let wherefrom = format!("{} has this address", entry.path().display());
        all.extend(addr.map(|addr| Listed { name: "iscsi", addr: Some(addr), port, wherefrom }));
    }
    all
}

/// Controllers of NVMe over TCP: `traddr=10.0.0.9,trsvcid=4420`.
fn nvme(folder: &Path) -> Vec<Listed> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("transport").trim() != "tcp" {
            continue;
        }
        let text = read("address");
        let part = |key: &str| text.trim().split(',').find_map(|p| p.strip_prefix(key)?.strip_prefix('='));
        let port = part("trsvcid").and_then(|p| p.parse().ok());
        let wherefrom = format!("{} has this address", entry.path().display());
        all.extend(part("traddr").and_then(address).map(|a| Listed { name: "nvme", addr: Some(a), port, wherefrom }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(all: &[Listed]) -> Vec<String> {
        let part =
            |l: &Listed| format!("{} {} {}", l.name, l.addr.map_or("-".into(), |a| a.to_string()), l.port.unwrap_or(0));
        all.iter().map(part).collect()
    }

    #[test]
    fn servers_of_nfs_read_in_both_families() {
        let text = "NV SERVER   PORT USE HOSTNAME\nv4 0a000009  801   2 nas.example\n\
                    v3 fd000000000000000000000000000009  801   1 six\nv4 xyz 801 1 bad\nv4\n\n";
        assert_eq!(short(&nfs_servers(text)), ["nfs 10.0.0.9 2049", "nfs fd00::9 2049"]);
    }

    #[test]
    fn mounts_tell_whom_they_talk_to() {
        let text = "nas:/export /mnt/a\\040b nfs4 rw,vers=4.2,proto=tcp,clientaddr=10.0.0.1,addr=10.0.0.9 0 0\n\
                    nas:/old /old nfs rw,port=20049,mountaddr=10.0.0.8,addr=fd00::9 0 0\n\
                    //win/share /win cifs rw,vers=3.1.1,addr=10.0.0.7 0 0\n\
                    //win/share /smb smb3 rw,addr=10.0.0.6,port=1445 0 0\n\
                    10.0.0.5:6789,[fd00::5]:3300:/ /ceph ceph rw,name=admin 0 0\n\
                    admin@fsid.fs=/ /ceph2 ceph rw,mon_addr=10.0.0.4:6789/10.0.0.3:3300 0 0\n\
                    10.0.0.2 /plan9 9p rw,trans=tcp 0 0\nhost /vm 9p rw,trans=virtio 0 0\n\
                    tmpfs /tmp tmpfs rw,addr=10.0.0.99 0 0\nbad\n";
        let all = mounts(text);
        let wanted = [
            "nfs 10.0.0.9 2049",
            "nfs fd00::9 20049",
            "cifs 10.0.0.7 445",
            "cifs 10.0.0.6 1445",
            "ceph 10.0.0.5 6789",
            "ceph fd00::5 3300",
            "ceph 10.0.0.4 6789",
            "ceph 10.0.0.3 3300",
            "9p 10.0.0.2 564",
        ];
        assert_eq!(short(&all), wanted);
        assert_eq!(all[0].wherefrom, "nas:/export is mounted at /mnt/a b");
    }

    #[test]
    fn devices_and_the_server_of_nfs_are_listed() {
        assert_eq!(short(&nfsd("udp 2049\ntcp 2049\nrdma 20049\ntcp x\n")), ["nfsd - 2049"]);
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("iscsi/connection1:0/persistent_address", "10.0.0.9\n");
        put("iscsi/connection1:0/persistent_port", "3260\n");
        put("nvme/nvme0/transport", "pcie\n");
        put("nvme/nvme1/transport", "tcp\n");
        put("nvme/nvme1/address", "traddr=fd00::9,trsvcid=4420,src_addr=fd00::1\n");
        assert_eq!(short(&iscsi(&folder.path().join("iscsi"))), ["iscsi 10.0.0.9 3260"]);
        assert_eq!(short(&nvme(&folder.path().join("nvme"))), ["nvme fd00::9 4420"]);
        assert!(iscsi(&folder.path().join("none")).is_empty());
    }
}
