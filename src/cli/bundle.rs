//! A support bundle: a folder with the saved output of many tools, such as sosreport or must-gather leave.
//!
//! Input: a folder. Output: which of its files tells most about TCP sockets, and whose it is. Content decides, names only say where
//! to look. Not here: reading the rows.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::capture::foreign::Tool;

/// How deep folders are looked into, and at how many files at most.
const DEPTH: usize = 8;
const FILES: usize = 50_000;
/// What is read of a file to know what it is.
const BEGINNING: u64 = 64 << 10;

/// What a bundle has of TCP sockets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub text: PathBuf,
    /// As far as the bundle tells.
    pub host: Option<String>,
    pub kernel: Option<String>,
}

/// The file that tells most; `None` where no tool's output is.
pub(crate) fn find(folder: &Path) -> Option<Bundle> {
    let (mut best, mut left) = (None, FILES);
    walk(folder, DEPTH, &mut left, &mut best);
    let (_, text) = best?;
    let parents: Vec<&Path> = text.ancestors().skip(1).take_while(|parent| parent.starts_with(folder)).collect();
    // Nothing outside of the bundle is read, and no pipe.
    let real = folder.canonicalize().ok()?;
    let read = |names: &[&str]| {
        let paths = parents.iter().flat_map(|parent| names.iter().map(move |name| parent.join(name)));
        let files =
            paths.filter_map(|path| path.canonicalize().ok()).filter(|path| path.starts_with(&real) && path.is_file());
        files.map(|path| beginning(&path).unwrap_or_default()).find(|text| !text.trim().is_empty())
    };
    let word = |text: String, place: usize| text.split_whitespace().nth(place).map(str::to_owned);
    let uname = read(&["uname", "sos_commands/kernel/uname_-a"]).filter(|text| text.starts_with("Linux "));
    let host = read(&["hostname", "etc/hostname", "sos_commands/host/hostname"]).and_then(|text| word(text, 0));
    let kernel = read(&["proc/sys/kernel/osrelease"]).and_then(|text| word(text, 0));
    Some(Bundle {
        host: host.or_else(|| uname.clone().and_then(|text| word(text, 1))),
        kernel: kernel.or_else(|| uname.and_then(|text| word(text, 2))),
        text,
    })
}

fn walk(folder: &Path, depth: usize, left: &mut usize, best: &mut Option<(u32, PathBuf)>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // The same file is chosen each time.
    entries.sort();
    for path in entries {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        // A link may lead out of the bundle, to files of this host.
        let Ok(kind) = std::fs::symlink_metadata(&path) else { continue };
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, left, best);
        } else if kind.is_file()
            && let Some(worth) = worth(&path)
            && best.as_ref().is_none_or(|(most, _)| worth > *most)
        {
            *best = Some((worth, path));
        }
    }
}

/// How much a file tells; `None`: nothing, or of another network namespace.
fn worth(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    ["ss", "netstat", "lsof"].iter().any(|tool| name.starts_with(tool)).then_some(())?;
    let text = beginning(path)?;
    let has = |word: &str| u32::from(text.contains(word));
    let tool = match Tool::of(&text)? {
        Tool::Ss => 30,
        Tool::Netstat => 20,
        Tool::Lsof => 10,
    };
    // Processes, inodes, and states of all kinds.
    Some(tool + 4 * has("users:((") + 2 * has(" ino:") + has("LISTEN"))
}

fn beginning(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BEGINNING).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SS: &str = "Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n";

    #[test]
    fn the_file_that_tells_most_is_found_with_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sosreport-web3-2026-11-30");
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("sos_commands/networking/netstat_-W_-neopa", "Proto Recv-Q Send-Q Local Address Foreign Address State\n");
        write("sos_commands/networking/ss_-s", "Total: 5\n");
        write("sos_commands/networking/ip_netns_exec_x_ss_-peaonmi", &format!("{SS} users:(( ino: LISTEN"));
        assert_eq!(find(folder.path()).unwrap().text.file_name().unwrap(), "netstat_-W_-neopa");
        write("sos_commands/networking/ss_-peaonmi", &format!("{SS}tcp LISTEN users:((\"nginx\" ino:5\n"));
        write("hostname", "web3\n");
        write("sos_commands/kernel/uname_-a", "Linux web3 5.14.0-70.el9 #1 SMP\n");
        let found = find(folder.path()).unwrap();
        assert_eq!(found.text, root.join("sos_commands/networking/ss_-peaonmi"));
        assert_eq!((found.host.as_deref(), found.kernel.as_deref()), (Some("web3"), Some("5.14.0-70.el9")));
        // A link out of the bundle is no part of it.
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&root, other.path().join("ss")).unwrap();
        std::os::unix::fs::symlink(root.join("sos_commands/networking/ss_-peaonmi"), other.path().join("ss_-t"))
            .unwrap();
        assert_eq!(find(other.path()), None);
    }
}
