//! What limits the memory of a process's sockets: the control groups above it, of either version.
//!
//! Input: a process. Output: the limit of its memory that is nearest, with how often it was reached. Not here: the whole
//! host's (`tcp_mem`).

use std::path::Path;

use crate::collect::proc::groups::{Group, Groups, Mounts};
use crate::model::snapshot::GroupMemory;

/// The nearest limit above a process. `None` where none of its groups can be read: nothing is known then.
#[must_use]
pub fn of(mounts: &Mounts, groups: &Groups) -> Option<GroupMemory> {
    // A controller is of one version at a time.
    nearest(groups.of_controller("memory", &mounts.memory), version_1)
        .or_else(|| nearest(groups.unified(mounts), version_2))
}

/// Of a group and those above it: the one with the least room; one without a limit if none has.
fn nearest(groups: Vec<Group>, read: fn(&Path, String) -> Option<GroupMemory>) -> Option<GroupMemory> {
    let read = |group: Group| read(&group.folder, group.path);
    let groups = groups.into_iter().filter_map(read);
    groups.min_by_key(|g| g.limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(g.used_bytes)))
}

fn text(folder: &Path, file: &str) -> Option<String> {
    Some(std::fs::read_to_string(folder.join(file)).ok()?.trim().to_owned())
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    text(folder, file)?.parse().ok()
}

/// The value behind a word, in a file of words and numbers.
fn field(folder: &Path, file: &str, word: &str) -> Option<u64> {
    text(folder, file)?.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// From here on a limit of version 1 is none: `PAGE_COUNTER_MAX` in bytes, whatever the size of a page.
const NO_LIMIT: u64 = 1 << 62;

fn version_1(folder: &Path, group: String) -> Option<GroupMemory> {
    let limit = number(folder, "memory.kmem.tcp.limit_in_bytes")?;
    let used = number(folder, "memory.kmem.tcp.usage_in_bytes")?;
    Some(GroupMemory {
        group,
        used_bytes: used,
        limit_bytes: Some(limit).filter(|n| *n < NO_LIMIT),
        // Newer kernels do not count, and show 0.
        hits: number(folder, "memory.kmem.tcp.failcnt").filter(|n| *n > 0),
        most_bytes: number(folder, "memory.kmem.tcp.max_usage_in_bytes"),
        tcp_alone: true,
        socket_bytes: Some(used),
    })
}

fn version_2(folder: &Path, group: String) -> Option<GroupMemory> {
    // The root of the tree has no such files.
    let limit = text(folder, "memory.max")?;
    Some(GroupMemory {
        group,
        used_bytes: number(folder, "memory.current")?,
        limit_bytes: if limit == "max" { None } else { Some(limit.parse().ok()?) },
        hits: field(folder, "memory.events", "max"),
        most_bytes: number(folder, "memory.peak"),
        tcp_alone: false,
        socket_bytes: field(folder, "memory.stat", "sock"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::proc::groups::Mount;
    use crate::collect::proc::{ProcRoot, testkit};

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            testkit::write(folder, path, text);
        }
    }

    fn look(folder: &Path) -> Option<GroupMemory> {
        let mount = |at: &str| vec![Mount { at: folder.join(at), top: "/".into() }];
        let mounts = Mounts { memory: mount("memory"), two: mount("unified"), cpu: Vec::new() };
        of(&mounts, &Groups::of(&ProcRoot::new(folder.join("proc")), 7)?)
    }

    #[test]
    fn version_1_has_a_limit_of_tcp_alone_and_the_nearest_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(
            at,
            &[
                ("proc/7/cgroup", "4:cpu,memory:/web/one\n0::/\n"),
                ("memory/web/memory.kmem.tcp.limit_in_bytes", "131072\n"),
                ("memory/web/memory.kmem.tcp.usage_in_bytes", "122880\n"),
                ("memory/web/memory.kmem.tcp.failcnt", "305\n"),
                ("memory/web/memory.kmem.tcp.max_usage_in_bytes", "147456\n"),
                ("memory/web/one/memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n"),
                ("memory/web/one/memory.kmem.tcp.usage_in_bytes", "122880\n"),
                ("memory/web/one/memory.kmem.tcp.failcnt", "0\n"),
            ],
        );
        let found = look(at).unwrap();
        assert_eq!((found.group.as_str(), found.used_bytes, found.limit_bytes), ("/web", 122_880, Some(131_072)));
        assert_eq!((found.hits, found.most_bytes, found.tcp_alone), (Some(305), Some(147_456), true));
        std::fs::remove_dir_all(at.join("memory/web")).unwrap();
        assert_eq!(look(at), None, "nothing can be read");
    }

    #[test]
    fn version_2_counts_sockets_with_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let files = [
            ("proc/7/cgroup", "0::/web.service\n"),
            ("unified/web.service/memory.max", "1048576\n"),
            ("unified/web.service/memory.current", "1044480\n"),
            ("unified/web.service/memory.events", "low 0\nhigh 3\nmax 12\noom 0\n"),
            ("unified/web.service/memory.stat", "anon 4096\nsock 524288\nshmem 0\n"),
        ];
        write(at, &files);
        let found = look(at).unwrap();
        assert_eq!((found.group.as_str(), found.limit_bytes, found.hits), ("/web.service", Some(1_048_576), Some(12)));
        assert_eq!((found.socket_bytes, found.tcp_alone), (Some(524_288), false));
        write(at, &[("unified/web.service/memory.max", "max\n")]);
        assert_eq!(look(at).unwrap().limit_bytes, None);
        write(at, &[("proc/7/cgroup", "0::/../web.service\n")]);
        assert_eq!(look(at), None, "outside of our namespace");
    }
}
