//! The lines of a mount table, and whether the file system that holds the executable of a process can block a reader
//! forever.
//!
//! Input: the text of `/proc/PID/mountinfo` and `/proc/PID/maps`, which the kernel produces from memory. Opening a
//! file on a dead server (NFS, SMB, FUSE) never returns, and not even SIGKILL ends it: so only files known to be on
//! a local disk or in memory are opened.

use std::path::PathBuf;

/// File systems that need no server and no other process. Files on any other are not read. `overlay` is missing:
/// what is below it may be remote.
const LOCAL: [&str; 15] = [
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "ramfs", "rootfs", "squashfs",
    "tmpfs", "xfs", "zfs",
];

/// A device as the kernel numbers it.
pub type Device = (u32, u32);

/// A line of `mountinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounted<'a> {
    pub device: Device,
    root: &'a str,
    at: &'a str,
    /// The type of the file system.
    pub kind: &'a str,
    options: &'a str,
}

impl<'a> Mounted<'a> {
    /// Of a line: id, parent, device, root, mount point, options, tags ... - type, source, options.
    fn of_line(line: &'a str) -> Option<Mounted<'a>> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (major, minor) = left.next()?.split_once(':')?;
        let (root, at) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next()?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        Some(Mounted { device, root, at, kind, options: right.nth(1).unwrap_or_default() })
    }

    /// What of the file system is mounted there: a folder in it, or what a file is (`net:[4026532008]`).
    #[must_use]
    pub fn root(&self) -> PathBuf {
        unescape(self.root).into()
    }

    /// Where it is mounted.
    #[must_use]
    pub fn at(&self) -> PathBuf {
        unescape(self.at).into()
    }

    /// Whether the file system has an option of its own: controllers of control groups are some.
    #[must_use]
    pub fn has_option(&self, wanted: &str) -> bool {
        self.options.split(',').any(|option| option == wanted)
    }
}

/// What a mount table lists; a line that is none is left out.
pub fn mounted(mountinfo: &str) -> impl Iterator<Item = Mounted<'_>> {
    mountinfo.lines().filter_map(Mounted::of_line)
}

/// `\040` for a space, as in every file of mounts (`mangle_path` in fs/seq_file.c).
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok());
        if let Some(code) = code {
            out.push(char::from(code));
            rest = &rest[at + 4..];
        } else {
            out.push('\\');
            rest = &rest[at + 1..];
        }
    }
    out.push_str(rest);
    out
}

/// The device on which a mapped file is.
#[must_use]
pub fn device_of(maps: &str, path: &str) -> Option<Device> {
    // address, permissions, offset, device, inode, path; the path may hold spaces.
    let of_path = |line: &&str| line.split_once('/').is_some_and(|(_, rest)| path.strip_prefix('/') == Some(rest));
    let (major, minor) = maps.lines().find(of_path)?.split(' ').nth(3)?.split_once(':')?;
    Some((u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
}

/// Whether a device is a local file system; `None` when it is not mounted.
#[must_use]
pub fn is_local(mountinfo: &str, device: Device) -> Option<bool> {
    mounted(mountinfo).find(|mount| mount.device == device).map(|mount| LOCAL.contains(&mount.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_a_file_is_that_of_its_mapping() {
        let maps = "00400000-00500000 r-xp 00000000 fe:10 12      /srv/my api\n\
                    7f00-7f01 r-xp 00000000 00:2a 13      /usr/lib/libc.so.6 (deleted)\n7f02-7f03 rw-p 00000000 00:00 0 [heap]\n";
        assert_eq!(device_of(maps, "/srv/my api"), Some((254, 16)));
        assert_eq!(device_of(maps, "/usr/lib/libc.so.6 (deleted)"), Some((0, 42)));
        assert_eq!((device_of(maps, "/srv/my"), device_of("odd/srv", "/srv")), (None, None));
    }

    #[test]
    fn a_line_of_the_mount_table_has_its_parts() {
        let text =
            "31 23 0:28 / /sys/fs/c\\040d rw,nosuid shared:4 master:1 - cgroup cgroup rw,cpu,cpuacct\nbad\n32 - x\n";
        let all: Vec<Mounted<'_>> = mounted(text).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        let one = all[0];
        assert_eq!((one.device, one.kind), ((0, 28), "cgroup"));
        assert_eq!((one.root(), one.at()), ("/".into(), "/sys/fs/c d".into()));
        assert!(one.has_option("cpu") && one.has_option("cpuacct") && !one.has_option("cpuset"));
        assert_eq!(unescape("a\\\\b\\134"), "a\\\\b\\");
    }

    #[test]
    fn only_what_is_known_to_be_local_is() {
        let mounts = "27 1 254:16 / / rw,relatime shared:1 - ext4 /dev/vda rw\nodd - x\n\
                      40 27 0:42 / /srv rw - nfs4 server:/srv rw,hard\n41 27 0:43 / /m rw - fuse.sshfs a:/ rw\n\
                      42 27 0:44 / /c rw - overlay overlay rw,lowerdir=/l\n";
        let answers = [(254, 16), (0, 42), (0, 43), (0, 44), (0, 45)].map(|device| is_local(mounts, device));
        assert_eq!(answers, [Some(true), Some(false), Some(false), Some(false), None]);
    }

    #[test]
    fn our_own_executable_is_found_among_our_mounts() {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        let device = device_of(&read("maps"), exe.to_str().unwrap()).unwrap();
        assert!(is_local(&read("mountinfo"), device).is_some(), "{device:?}");
    }
}
