//! The file system that holds the executable of a process, and whether it can block a reader forever.
//!
//! Input: the text of `/proc/PID/maps` and `/proc/PID/mountinfo`, which the kernel produces from memory. Opening a
//! file on a dead server (NFS, SMB, FUSE) never returns, and not even SIGKILL ends it: so only files known to be on
//! a local disk or in memory are opened.

/// File systems that need no server and no other process. Files on any other are not read. `overlay` is missing:
/// what is below it may be remote.
const LOCAL: [&str; 15] = [
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "ramfs", "rootfs", "squashfs",
    "tmpfs", "xfs", "zfs",
];

/// A device as the kernel numbers it.
pub type Device = (u32, u32);

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
    mountinfo.lines().find_map(|line| {
        // id, parent, device, root, mount point, options, tags ... - type, source, options.
        let (left, right) = line.split_once(" - ")?;
        let (major, minor) = left.split(' ').nth(2)?.split_once(':')?;
        let found: Device = (major.parse().ok()?, minor.parse().ok()?);
        (found == device).then(|| right.split(' ').next().is_some_and(|kind| LOCAL.contains(&kind)))
    })
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
