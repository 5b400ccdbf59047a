//! An exporter that is scraped a hundred times a second over a large table. Comes in: sockets by the thousand, four clients. Goes out:
//! that every scrape is answered, from one collection per interval, in memory that does not grow. `TCPSTATE_SCRAPES=10000` makes
//! so many scrapes over 54,000 sockets. Never here: clients that mean no good (`export`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::export::Exporter;
use crate::harness::helper::Helper;
use crate::harness::{in_netns, wait_for};

/// Time between two scrapes.
const PACE: Duration = Duration::from_millis(10);
const CLIENTS: u32 = 4;
const INTERVAL: Duration = Duration::from_secs(2);

/// A series without labels.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_hundred_scrapes_a_second_cost_no_collection_and_no_memory() {
    let wanted = std::env::var("TCPSTATE_SCRAPES").ok().and_then(|n| n.parse::<u32>().ok());
    let (scrapes, helpers, pairs) = wanted.map_or((800, 1, 5000), |scrapes| (scrapes, 3, 9000));
    in_netns(|ns| {
        let holders: Vec<Helper> = (0..helpers)
            .map(|n| {
                let mut helper = Helper::start(ns);
                helper.make(&format!("established {} {pairs}", 7000 + n));
                helper
            })
            .collect();
        let exporter = Exporter::start(ns, &["--interval", "2s"]);
        // The first judgements take the memory that later ones use again.
        let first = wait_for("the third collection", || {
            let text = exporter.metrics();
            if value(&text, "tcpstate_collections_total") >= 3.0 { Ok(text) } else { Err(text) }
        });
        let open: f64 = first
            .lines()
            .filter(|line| line.starts_with("tcpstate_sockets{") && line.contains("state=\"established\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!(open >= f64::from(2 * helpers * pairs), "{open}");
        let (pid, start) = (exporter.child.id(), Instant::now());
        let (next, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut memory = Vec::new();
        std::thread::scope(|scope| {
            let client = || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= u64::from(scrapes) {
                        return;
                    }
                    let due = PACE * u32::try_from(n).expect("a count");
                    std::thread::sleep(due.saturating_sub(start.elapsed()));
                    let text = exporter.metrics();
                    assert!(text.contains("\ntcpstate_build_info{") && text.ends_with('\n'), "{text}");
                    bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
                }
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            while clients.iter().any(|client| !client.is_finished()) {
                memory.push(resident(pid));
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let (took, last) = (start.elapsed(), exporter.metrics());
        // A collection takes more for as long as it lasts, so the highest of each half are compared.
        let (early, late) = memory.split_at(memory.len() / 2);
        let [before, after] = [early, late].map(|half| half.iter().max().copied().expect("a sample"));
        let made = value(&last, "tcpstate_collections_total") - value(&first, "tcpstate_collections_total");
        let intervals = took.as_secs_f64() / INTERVAL.as_secs_f64();
        // An interval is left out where a collection takes longer than one; none is made in between.
        assert!(made <= intervals + 2.0 && made >= 1.0, "{made} collections in {intervals} intervals");
        let skipped = value(&last, "tcpstate_collections_skipped_total");
        let each = bytes.load(Ordering::Relaxed) / u64::from(scrapes);
        let report = format!(
            "{scrapes} scrapes of {each} bytes over {open} sockets in {took:?}: {made} collections, {skipped} left out, \
             at most {before} KiB in the first half and {after} KiB in the second"
        );
        println!("{report}");
        assert!(after < before + 4096, "{report}");
        drop(holders);
        exporter.end();
    });
}
