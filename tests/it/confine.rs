//! What `export` and `record` give up after their start. Comes in: a program that root started with every right. Goes out: the
//! rights of each of its threads, and that it still sees, traces and writes all that it did. Never here: which files a thread
//! under Landlock may open (`collect::confine` has that).

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;

use crate::export::Exporter;
use crate::harness::helper::Helper;
use crate::harness::{in_netns, skip, wait_for};
use crate::product;

/// Permitted and bounding set of a thread, and whether it can gain rights by starting a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thread {
    permitted: CapabilitySet,
    bounding: CapabilitySet,
    gains_none: bool,
}

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    statuses
        .map(|status| {
            let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).expect("a line").trim();
            let set =
                |key: &str| CapabilitySet::from_bits_retain(u64::from_str_radix(line(key), 16).expect("a number"));
            Thread { permitted: set("CapPrm:"), bounding: set("CapBnd:"), gains_none: line("NoNewPrivs:") == "1" }
        })
        .collect()
}

const USED: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN);

/// No thread has more than that, and what one has lost no other can get.
#[track_caller]
fn assert_confined(threads: &[Thread], most: CapabilitySet) {
    for thread in threads {
        assert!(most.contains(thread.permitted) && most.contains(thread.bounding) && thread.gains_none, "{thread:?}");
    }
}

fn root_with_all() -> bool {
    let held = rustix::thread::capabilities(None).expect("our rights");
    product::can_be_another_user()
        && held.permitted.contains(USED | CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_OVERRIDE)
}

#[test]
fn the_exporter_of_root_keeps_five_rights_and_the_thread_that_answers_none() {
    if !root_with_all() {
        return skip("this is not root with every right");
    }
    in_netns(|ns| {
        let mut helper = Helper::start_as(ns, 65534);
        helper.rename(b"leaky");
        helper.make("close_wait 7000 250 eof_read closed");
        let exporter = Exporter::start(ns, &["--interval", "500ms"]);
        let all = threads(exporter.child.id());
        // Without BTF it may have to mount tracefs.
        let most = if Path::new("/sys/kernel/btf/vmlinux").exists() { USED } else { USED | CapabilitySet::SYS_ADMIN };
        assert_confined(&all, most);
        assert_eq!(all.iter().filter(|thread| thread.permitted.is_empty()).count(), 1, "{all:?}");
        // It still knows a process of another user, judges it, and traces.
        let leak = format!("process=\"leaky\",pid=\"{}\"", helper.pid());
        let text = wait_for("the finding", || {
            let text = exporter.metrics();
            let found = text.lines().any(|line| line.starts_with("tcpstate_finding{") && line.contains(&leak));
            if found { Ok(text) } else { Err(text) }
        });
        assert!(
            !text.contains("tcpstate_gap{what=\"owners\"") && text.contains("\ntcpstate_trace_lost_events_total "),
            "{text}"
        );
        exporter.end();
        // Into other namespaces leads CAP_SYS_ADMIN alone.
        let exporter = Exporter::start(ns, &["--netns", "all", "--no-findings"]);
        assert_confined(&threads(exporter.child.id()), USED | CapabilitySet::SYS_ADMIN);
        let main = threads(exporter.child.id()).into_iter().find(|t| !t.permitted.is_empty()).expect("a thread");
        assert!(main.permitted.contains(CapabilitySet::SYS_ADMIN), "{main:?}");
        exporter.end();
    });
}

#[test]
fn a_folder_of_another_user_is_still_written_and_takes_a_right_of_its_own() {
    if !root_with_all() {
        return skip("this is not root with every right");
    }
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let file = dir.path().join("tcpstate.prom");
        for (owner, most) in [(0, USED), (65534, USED | CapabilitySet::DAC_OVERRIDE)] {
            chown(dir.path(), Some(owner), Some(owner)).expect("another owner");
            let words = ["--interval", "200ms", "--textfile", file.to_str().expect("a path")];
            let exporter = Exporter::start(ns, &words);
            let sysadmin = if Path::new("/sys/kernel/btf/vmlinux").exists() { USED } else { CapabilitySet::SYS_ADMIN };
            assert_confined(&threads(exporter.child.id()), most | sysadmin);
            for _ in 0..2 {
                let _ = std::fs::remove_file(&file);
                wait_for("the file", || std::fs::read(&file).map_err(|e| e.to_string()));
            }
            exporter.end();
        }
    });
}

#[test]
fn the_flight_recorder_of_root_gives_up_the_rest_and_writes_on() {
    if !root_with_all() {
        return skip("this is not root with every right");
    }
    in_netns(|ns| {
        let mut helper = Helper::start_as(ns, 65534);
        helper.rename(b"leaky");
        helper.make("close_wait 7000 250 eof_read closed");
        let dir = tempfile::tempdir().expect("a directory");
        chown(dir.path(), Some(65534), Some(65534)).expect("another owner");
        let folder = dir.path().to_str().expect("a path");
        let mut child = product::with(ns, &["record", folder, "--interval", "100ms", "--rotate", "1s", "--keep", "1h"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start the recorder");
        // Files that it begins long after it gave up what it does not use.
        wait_for("a third file", || match std::fs::read_dir(dir.path()).expect("the folder").count() {
            n if n > 2 => Ok(()),
            n => Err(format!("{n} files")),
        });
        let most = USED | CapabilitySet::DAC_OVERRIDE;
        let sysadmin = if Path::new("/sys/kernel/btf/vmlinux").exists() { USED } else { CapabilitySet::SYS_ADMIN };
        assert_confined(&threads(child.id()), most | sysadmin);
        kill_process(Pid::from_child(&child), Signal::TERM).expect("signal our own child");
        assert!(child.wait().expect("its end").success());
        let rows = product::json(ns, &["list", "--from", folder, "--json", "state = close-wait"]);
        let owned = product::sockets(&rows).iter().filter(|s| s.owners.iter().any(|o| o.comm == "leaky")).count();
        assert_eq!(owned, 250, "{rows:#}");
    });
}
