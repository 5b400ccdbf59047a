//! Input and output that fail. Input: cut tables, folders that are not proc, closed pipes, a full disk. Output: a gap or
//! one line of complaint, and the exit code.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tcpstate::model::gap::{Missing, WayOut, Why};

use super::lossy;
use crate::harness::helper::Helper;
use crate::harness::{finish, in_netns};
use crate::product;
use crate::states::{self, Ports};

const HEADER: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
pub(super) const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 08 00000000:00000001 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:0000176F 00000000     0        0 0 3 0000000000000000
";

/// A folder that looks like a proc file system as far as sockets go.
pub(super) fn proc_root(v4: Option<&str>, v6: Option<&str>) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let net = root.path().join("net");
    std::fs::create_dir(&net).expect("a folder");
    for (name, text) in [("tcp", v4), ("tcp6", v6)] {
        if let Some(text) = text {
            std::fs::write(net.join(name), text).expect("a file");
        }
    }
    root
}

#[test]
fn a_table_that_was_cut_is_a_gap_and_not_a_smaller_number() {
    in_netns(|ns| {
        let whole = proc_root(Some(TABLE), Some(HEADER));
        let path = |root: &tempfile::TempDir| root.path().to_str().expect("a path of text").to_owned();
        let args = |root: &str, more: &str| -> Vec<String> {
            ["list", "--json", "--no-owners", "--proc-root", root, more].iter().map(ToString::to_string).collect()
        };
        let run = |root: &tempfile::TempDir, more: &str| {
            let words = args(&path(root), more);
            finish(&mut product::with(
                ns,
                &words.iter().map(String::as_str).filter(|w| !w.is_empty()).collect::<Vec<_>>(),
            ))
        };
        let complete = product::document(&run(&whole, ""));
        assert_eq!(complete["total"], 3);
        let quiet = product::missing(&complete).len();
        let ends: Vec<usize> = TABLE.match_indices('\n').map(|(at, _)| at + 1).collect();
        let starts = [0, 1, 40, ends[0] - 1, ends[0] + 1, ends[0] + 20, ends[1] + 60, ends[2] + 3, ends[3] - 1];
        for cut in starts {
            let root = proc_root(Some(&TABLE[..cut]), Some(HEADER));
            let output = run(&root, "");
            let document = product::document(&output);
            assert_eq!((output.status.code(), lossy(&output.stderr)), (Some(0), String::new()), "cut at {cut}");
            let rows = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(document["total"].as_u64(), Some(rows as u64), "cut at {cut}");
            let table = format!("{}/net/tcp", path(&root));
            let lines = Missing::Lines { missing: 1, of: rows as u64 + 1 };
            let (why, gaps) = (Why::Malformed { path: table }, &document["gaps"]);
            assert!(product::has_gap(&document, lines, why, WayOut::None), "cut at {cut}: {gaps}");
            assert_eq!(product::missing(&document).len(), quiet + 1, "cut at {cut}: {gaps}");
            let strict = run(&proc_root(Some(&TABLE[..cut]), Some(HEADER)), "--strict");
            assert_eq!(strict.status.code(), Some(2));
        }
        // What is no table at all.
        for text in ["\u{0}\u{1}\u{2}\n\u{3}\n", "GARBAGE\nmore of it\n", &"x".repeat(200_000)] {
            let output = run(&proc_root(Some(text), None), "");
            let document = product::document(&output);
            assert!(output.status.success() && product::missing(&document).contains(&"lines"), "{document:#}");
        }
    });
}

#[test]
fn a_proc_root_that_is_none_is_an_error_of_one_line() {
    in_netns(|ns| {
        let empty = tempfile::tempdir().unwrap();
        let file = empty.path().join("file");
        std::fs::write(&file, "").unwrap();
        for root in [Path::new("/nonexistent/proc"), &file, empty.path()] {
            let root = root.to_str().unwrap();
            for command in ["list", "summary", "doctor"] {
                for more in [&[][..], &["--no-owners"], &["--json"]] {
                    let words = [&[command, "--proc-root", root][..], more].concat();
                    let output = finish(&mut product::with(ns, &words));
                    let complaint = lossy(&output.stderr);
                    assert_eq!(output.status.code(), Some(2), "{words:?}: {complaint}");
                    assert_eq!(complaint.lines().count(), 1, "{words:?}: {complaint}");
                    assert!(complaint.starts_with("tcpstate: cannot read ") && complaint.contains(root), "{complaint}");
                    assert!(complaint.ends_with("; is a proc file system mounted there?\n"), "{words:?}: {complaint}");
                    // The reason once, without the number.
                    assert!(!complaint.contains("os error"), "{complaint}");
                    assert_eq!(lossy(&output.stdout), "", "{words:?}");
                }
            }
        }
        // As a monitoring plugin it is UNKNOWN, on standard output.
        let output = finish(&mut product::with(ns, &["doctor", "--nagios", "--proc-root", "/nonexistent"]));
        assert_eq!(output.status.code(), Some(3));
        assert!(lossy(&output.stdout).starts_with("TCPSTATE UNKNOWN - cannot read"), "{output:?}");
    });
}

const FORMATS: [&[&str]; 10] = [
    &["list"],
    &["list", "--sort", "local"],
    &["list", "--format", "csv"],
    &["list", "--format", "tsv"],
    &["list", "--format", "jsonl"],
    &["list", "--json", "-i"],
    &["summary"],
    &["summary", "--json"],
    &["doctor", "--once"],
    &["generate", "schema"],
];

#[test]
fn a_closed_pipe_is_the_end_and_no_error() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("established 7000 400");
        for words in FORMATS.into_iter().chain([&["--help"][..], &["list", "--list-columns"], &["generate", "man"]]) {
            // The reader is gone before the first byte: even the shortest output meets the closed pipe.
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let output = piped(product::with(ns, words).stdout(writer));
            assert_eq!((output.status.code(), lossy(&output.stderr)), (Some(0), String::new()), "{words:?}");
        }
        // `tcpstate list -i | head -1`: the reader leaves when it has seen enough.
        for words in [&["list", "-tanopiem"][..], &["list", "-i", "--format", "jsonl"], &["list", "-i", "--json"]] {
            let mut command = product::with(ns, words);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the program");
            let mut first = [0; 1];
            let mut stdout = child.stdout.take().unwrap();
            stdout.read_exact(&mut first).expect("a first byte");
            drop(stdout);
            let output = child.wait_with_output().expect("wait");
            assert_eq!((output.status.code(), lossy(&output.stderr)), (Some(0), String::new()), "{words:?}");
        }
    });
}

/// Runs a command whose standard output is set already.
fn piped(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start the program");
    // The command's own copy of the pipe.
    command.stdout(Stdio::null());
    child.wait_with_output().expect("wait")
}

#[test]
fn a_full_disk_is_an_error_of_one_line() {
    in_netns(|ns| {
        let _held = states::listen(ns, Ports::server(7000), 5);
        for words in FORMATS.into_iter().chain([&["--help"][..], &["--version"]]) {
            let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
            let output = piped(product::with(ns, words).stdout(full));
            let complaint = lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{words:?}: {complaint}");
            let own: Vec<&str> = complaint.lines().filter(|l| l.starts_with("tcpstate: ")).collect();
            let expected = "tcpstate: cannot write to standard output: no space left on device";
            assert_eq!(own, [expected], "{words:?}: {complaint}");
        }
    });
}
