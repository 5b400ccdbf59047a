//! Captures that were cut off, have flipped bits, belong to a killed recorder, or found no room. Goes out: every complete
//! snapshot, as it was, or an error with its place.

use std::io::{Cursor, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tcpstate::capture::{Capture, Error};

use super::{series, written};
use crate::harness::{finish, in_netns, netns, skip, wait_for};
use crate::product::{self, document};

/// The snapshots of a capture, as text; `None` for those that cannot be read.
fn texts(bytes: &[u8]) -> Result<Vec<(u64, Option<String>)>, Error> {
    let mut capture = Capture::open(Cursor::new(bytes))?;
    let sequence: Vec<u64> = capture.entries().iter().map(|entry| entry.seq).collect();
    let read = |(place, seq): (usize, &u64)| {
        let text = match capture.read(place) {
            Ok(recorded) => Some(format!("{:?}", recorded.snapshot)),
            Err(Error::Damaged { .. } | Error::Broken { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        (*seq, text)
    };
    Ok(sequence.iter().enumerate().map(read).collect())
}

#[test]
fn a_file_that_ends_anywhere_has_every_complete_snapshot() {
    in_netns(|ns| {
        let bytes = written(&series(ns, 3), true);
        let whole = texts(&bytes).expect("a capture");
        let ends: Vec<u64> = {
            let capture = Capture::open(Cursor::new(&bytes)).expect("a capture");
            capture.entries().iter().map(|e| e.offset + 40 + u64::from(e.len)).collect()
        };
        for cut in 0..bytes.len() {
            let complete = ends.iter().filter(|end| **end <= cut as u64).count();
            let opened = Capture::open(Cursor::new(&bytes[..cut]));
            if complete == 0 {
                let error = opened.err().unwrap_or_else(|| panic!("{cut} bytes are no snapshot"));
                assert!(matches!(error, Error::Empty | Error::NotACapture), "{error}");
                continue;
            }
            let capture = opened.unwrap_or_else(|e| panic!("{cut}: {e}"));
            assert_eq!(capture.entries().len(), complete, "{cut}");
            let is_between = ends.contains(&(cut as u64));
            assert_eq!(capture.damage().is_empty(), is_between, "{cut}: {:?}", capture.damage());
            if let Some(damage) = capture.damage().first() {
                assert_eq!((damage.from, damage.to), (ends[complete - 1], cut as u64), "{damage:?}");
            }
            // The text of each is the work of a millisecond; around the borders it is compared.
            if ends.iter().any(|end| end.abs_diff(cut as u64) < 3) {
                assert_eq!(texts(&bytes[..cut]).expect("a capture"), whole[..complete], "{cut}");
            }
        }
    });
}

#[test]
fn ten_thousand_flipped_bits_make_no_wrong_row() {
    in_netns(|ns| {
        let bytes = written(&series(ns, 2), true);
        let whole = texts(&bytes).expect("a capture");
        let (mut same, mut lost, mut refused) = (0, 0, 0);
        // Steps without a common divisor reach every part of the file.
        let bits = bytes.len() * 8;
        for n in 0..10_000 {
            let bit = (n * 7919 + n / bits) % bits;
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match texts(&flipped) {
                Ok(found) => {
                    for (seq, text) in &found {
                        let original = &whole[usize::try_from(*seq).expect("a number of the series")];
                        match text {
                            Some(_) => assert_eq!(text, &original.1, "bit {bit}"),
                            None => lost += 1,
                        }
                    }
                    same += usize::from(found == whole);
                }
                Err(Error::Empty | Error::NotACapture | Error::Newer { .. }) => refused += 1,
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
        // The index is only a shortcut: without it everything is read.
        assert!(same > 0 && lost > 0, "{same} the same, {lost} snapshots lost, {refused} files refused");
    });
}

#[test]
fn damage_is_told_with_its_place_and_an_earlier_snapshot_is_shown() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.tcps.zst");
        let mut bytes = written(&series(ns, 3), true);
        let last = *Capture::open(Cursor::new(&bytes)).expect("a capture").entries().last().expect("three");
        let middle = usize::try_from(last.offset + 40 + u64::from(last.len) / 2).expect("a short file");
        bytes[middle] ^= 0x40;
        std::fs::write(&file, &bytes).expect("a file");
        let output = finish(&mut product::with(ns, &["list", "--from", file.to_str().expect("a path")]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !output.stdout.is_empty(), "{said}");
        let is_told = |said: &str| {
            said.contains(&format!("bytes {} to", last.offset)) && said.contains("cannot be read; this is")
        };
        assert!(is_told(&said), "{said}");
        // No document has a place for it, and a difference has it of either moment.
        let file = file.to_str().expect("a path");
        for args in [
            &["list", "--json", "--from", file][..],
            &["list", "--format", "jsonl", "--from", file],
            &["summary", "--json", "--from", file],
            &["doctor", "--json", "--from", file],
            &["explain", "machine", "--json", "--from", file],
            &["diff", file],
            &["diff", "--json", file],
        ] {
            let output = finish(&mut product::with(ns, args));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() != Some(2) && is_told(&said), "{args:?}: {said}");
        }
    });
}

#[test]
fn a_killed_recorder_leaves_every_complete_snapshot() {
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let _kept = crate::states::established(ns, crate::states::Ports::server(7500), 50);
        let mut most = 0;
        for n in 0..50u64 {
            let path = folder.path().join(format!("{n}.tcps.zst"));
            let mut command = product::with(ns, &["record", path.to_str().expect("a path"), "--interval", "100ms"]);
            let mut recorder = command.stderr(Stdio::null()).spawn().expect("start the recorder");
            wait_for("a first snapshot", || match path.metadata().map(|m| m.len()) {
                Ok(len) if len > 0 => Ok(()),
                _ => Err("none".into()),
            });
            // Anywhere between two snapshots, or within one.
            std::thread::sleep(Duration::from_millis(n * 37 % 260));
            recorder.kill().expect("kill");
            recorder.wait().expect("wait");
            let bytes = std::fs::read(&path).expect("a file");
            let found = match texts(&bytes) {
                Ok(found) => found,
                // Killed within the first one.
                Err(Error::Empty) => continue,
                Err(error) => panic!("{error}"),
            };
            assert!(found.iter().all(|(_, text)| text.is_some()), "run {n}");
            most = most.max(found.len());
        }
        assert!(most > 1, "no recorder wrote two snapshots");
    });
}

/// A recorder with a file system of its own, of 16 free pages or less.
struct Cramped {
    child: Child,
    fill: std::path::PathBuf,
    file: std::path::PathBuf,
}

fn cramped(ns: &crate::harness::Netns, folder: &Path) -> Option<Cramped> {
    let at = folder.to_str().expect("a path");
    let script = format!(
        "mount -t tmpfs -o size=96k none {at} && head -c 73728 /dev/zero > {at}/fill && \
         exec \"$0\" record {at}/a.tcps.zst --interval 100ms --no-trace"
    );
    let mut command: Command = ns.command("unshare");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_tcpstate")]);
    let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().ok()?;
    // As the recorder sees them.
    let seen = |name: &str| Path::new(&format!("/proc/{}/root", child.id())).join(format!("{}/{name}", &at[1..]));
    Some(Cramped { fill: seen("fill"), file: seen("a.tcps.zst"), child })
}

#[test]
fn a_full_disk_loses_snapshots_and_not_the_recording() {
    if !netns::is_real_root() {
        return skip("mounting a file system takes root");
    }
    in_netns(|ns| {
        let folder = tempfile::tempdir().expect("a folder");
        let _kept = crate::states::established(ns, crate::states::Ports::server(7600), 60);
        let mut cramped = cramped(ns, folder.path()).expect("unshare");
        let mut stderr = cramped.child.stderr.take().expect("a pipe");
        let mut said = String::new();
        let mut hear = |said: &mut String, until: &str| {
            let mut byte = [0];
            while !said.contains(until) {
                assert_eq!(stderr.read(&mut byte).expect("a pipe"), 1, "the recorder ended: {said}");
                said.push(char::from(byte[0]));
            }
        };
        hear(&mut said, "no space left on device; snapshots are missing until there is room");
        let full = std::fs::read(&cramped.file).expect("a file");
        let before = texts(&full).expect("readable while the disk is full").len();
        assert!(before > 0);
        std::fs::remove_file(&cramped.fill).expect("make room");
        hear(&mut said, "there is room again; ");
        wait_for("more snapshots", || {
            let found = std::fs::read(&cramped.file).map_err(|e| e.to_string())?;
            let found = texts(&found).map_err(|e| e.to_string())?;
            let all_read = found.iter().all(|(_, text)| text.is_some());
            if found.len() > before && all_read { Ok(()) } else { Err(format!("{} of {before}", found.len())) }
        });
        let copy = folder.path().join("copy.tcps.zst");
        std::fs::copy(&cramped.file, &copy).expect("copy");
        cramped.child.kill().expect("kill");
        cramped.child.wait().expect("wait");
        let list = finish(&mut product::with(ns, &["list", "--from", copy.to_str().expect("a path"), "--json"]));
        assert_eq!(document(&list)["source"], "capture");
    });
}
