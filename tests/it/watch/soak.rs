//! The soak, shortened: a few seconds of what `cargo bench --bench soak` does for ten minutes. Comes in: a churn. Goes
//! out: that descriptors do not grow and memory settles. Never here: CPU, which a shared machine cannot tell.

use std::time::{Duration, Instant};

use super::Watch;
use crate::harness::helper::Helper;
use crate::harness::in_netns;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("its resident memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("read its descriptors").count()
}

#[test]
fn nothing_leaks_under_churn() {
    in_netns(|ns| {
        let seconds = std::env::var("TCPSTATE_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
        let mut server = Helper::start(ns);
        server.ask("serve 7000");
        let mut client = Helper::start(ns);
        let mut watch = Watch::start(ns, &["--interval", "100ms", "--track", "400"]);
        let pid = watch.child.id();
        let (mut samples, started) = (Vec::new(), Instant::now());
        let first = descriptors(pid);
        while started.elapsed() < Duration::from_secs(seconds) {
            // Two hundred lives of 50 ms, in about a third of a second: above the cap before long, so that it bites too.
            client.ask("lives 127.0.0.1:7000 127.0.0.4 200 50 1");
            watch.seen.retain(|line| line["type"] == "gap");
            watch.snapshots(1);
            samples.push((resident_kib(pid), descriptors(pid)));
        }
        let last = watch.quiet();
        assert!(last["tracked"]["one_in"].as_u64() > Some(1), "the cap has bitten: {last}");
        assert!(last["tracked"]["rows"].as_u64() <= Some(400));
        assert!(last["accounts"]["opened"]["unseen"].is_null(), "what is not followed is not reckoned: {last}");
        let lines = watch.end();
        assert!(lines.iter().any(|l| l["type"] == "gap" && l["missing"] == "unfollowed"));
        let most = samples.iter().map(|(_, fds)| *fds).max().expect("samples");
        // The walk over processes holds a handful of its own while it lasts.
        assert!(most <= first + 40, "{most} descriptors, {first} at first");
        let half = samples.len() / 2;
        let (early, late) = (samples[half].0, samples[samples.len() - 1].0);
        assert!(late <= early + early / 10 + 2048, "{early} KiB, then {late} KiB: {samples:?}");
    });
}
