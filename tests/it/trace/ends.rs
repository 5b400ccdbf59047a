//! How a trace ends: by a signal, by an interrupt, after its reader was suspended. Input: traces under load. Output: exact
//! totals, and nothing left in tracefs.

use std::fs::File;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};

use super::{CHANGES, Closer, Trace, bpf_works, churn, exit, listen, of, works};
use crate::harness::{in_netns, wait_for};
use crate::product;

/// A descriptor of tracefs, mounted for nobody else; `None` where that is not permitted.
fn tracefs() -> Option<std::os::fd::OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let fs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_create(&fs).ok()?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).ok()
}

/// Whether the instance of this process is there.
fn has_instance(root: &std::os::fd::OwnedFd, pid: u32) -> bool {
    rustix::fs::statat(root, format!("instances/tcpstate-{pid}"), rustix::fs::AtFlags::empty()).is_ok()
}

#[test]
fn the_instance_goes_with_the_process_however_it_ends() {
    in_netns(|ns| {
        if !works(ns, "tracefs") {
            return;
        }
        let root = tracefs().expect("tracefs, as the program has it");
        let start = || Trace::start(product::with(ns, &["trace", "--json", "--via", "tracefs", "dport = :17030"]));
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mut trace = start();
            let pid = trace.child.id();
            assert!(has_instance(&root, pid));
            kill_process(Pid::from_child(&trace.child), signal).expect("signal");
            assert!(exit(&mut trace.child).success(), "{signal:?}");
            assert!(!has_instance(&root, pid), "{signal:?}");
        }
        // A killed one leaves its instance to the next run, which leaves those of the living alone.
        let (living, mut killed) = (start(), start());
        let pid = killed.child.id();
        killed.child.kill().expect("kill");
        exit(&mut killed.child);
        let next = start();
        assert!(!has_instance(&root, pid), "left behind");
        assert!(has_instance(&root, living.child.id()) && has_instance(&root, next.child.id()));
        let listener = TcpListener::bind("127.0.0.1:17030").expect("listen");
        drop(TcpStream::connect("127.0.0.1:17030").expect("connect"));
        drop(listener);
        for trace in [living, next] {
            let lines = trace.interrupt();
            let changes = of(&lines, "transition");
            assert!(changes.iter().any(|t| t["old"] == "close" && t["new"] == "syn_sent"), "{lines:?}");
        }
    });
}

/// What a suspended reader missed of the changes of one end is counted to the last one, by each source.
#[test]
fn a_suspended_reader_goes_on_and_tells_what_it_missed() {
    in_netns(|ns| {
        for (via, port) in [("bpf", 17_040), ("tracefs", 17_041)] {
            if !works(ns, via) {
                return;
            }
            let filter = format!("dport = :{port}");
            // The kernel filters for tracefs, so that what is counted is ours alone; BPF is restricted to the namespace.
            let words = ["trace", "--json", "--via", via, "--ring-size", "4k", &filter];
            let here: &[&str] = if via == "bpf" { &["--this-netns"] } else { &[] };
            let trace = Trace::start(product::with(ns, &[&words, here].concat()));
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let listeners = [(Closer::Client, TcpListener::bind(address).expect("listen"))];
            kill_process(Pid::from_child(&trace.child), Signal::STOP).expect("suspend");
            let count = 1000;
            churn(&listeners, count);
            kill_process(Pid::from_child(&trace.child), Signal::CONT).expect("resume");
            wait_for("losses", || trace.text().contains("\"lost\"").then_some(()).ok_or_else(|| "none told".into()));
            // The room is free again.
            let shown = || trace.text().lines().filter(|l| l.contains("\"transition\"")).count();
            let before = shown();
            churn(&listeners, 2);
            wait_for("more", || (shown() >= before + 2 * CHANGES / 2).then_some(()).ok_or_else(|| format!("{before}")));
            let lines = trace.interrupt();
            let end = lines.last().unwrap();
            let (seen, missed) = (end["transitions"].as_u64().unwrap(), end["lost"].as_u64().unwrap());
            assert!(missed > 0, "{via}: {end}");
            // BPF sees both ends and the listener.
            let made = if via == "bpf" { CHANGES * (count + 2) + 1 } else { CHANGES / 2 * (count + 2) };
            // What the filter of tracefs would have dropped may count as lost: other tests change states too.
            let spare = if via == "bpf" { 0 } else { 10 };
            assert!((made as u64..=made as u64 + spare).contains(&(seen + missed)), "{via}, made {made}: {end}");
        }
    });
}

#[test]
fn an_interrupt_prints_the_totals() {
    in_netns(|ns| {
        if !bpf_works(ns) {
            return;
        }
        let listeners = listen();
        for (words, shown) in [(&["state syn-sent"][..], 5), (&["--summary", "1h"], 5 * CHANGES), (&["--life"], 10)] {
            let errors = File::from(memfd_create("errors", MemfdFlags::CLOEXEC).expect("memory"));
            let mut command = product::with(ns, &[&["trace", "--this-netns"], words].concat());
            command.stdout(Stdio::piped()).stderr(errors.try_clone().expect("dup"));
            let mut child = command.spawn().expect("start the trace");
            let text = || {
                let mut bytes = vec![0; usize::try_from(errors.metadata().expect("stat").len()).expect("length")];
                std::os::unix::fs::FileExt::read_exact_at(&errors, &mut bytes, 0).expect("read");
                String::from_utf8(bytes).expect("text")
            };
            wait_for("the trace", || text().contains("one network namespace").then_some(()).ok_or_else(text));
            churn(&listeners, 5);
            kill_process(Pid::from_child(&child), Signal::INT).expect("interrupt");
            assert!(exit(&mut child).success());
            let totals = text();
            let last = totals.lines().last().unwrap();
            assert!(last.starts_with(&format!("trace: {shown} shown of {} changes in ", 5 * CHANGES)), "{totals}");
            assert!(last.ends_with(", 0 lost"), "{totals}");
            let mut out = String::new();
            child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("read");
            assert!(out.lines().count() >= if words == ["--summary", "1h"] { CHANGES } else { shown }, "{out}");
        }
    });
}
