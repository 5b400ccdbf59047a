//! Counts connections by state and process: `cargo run --example count_states -- 'dport = :443'` (a filter, or nothing).

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a whole program")]

use std::collections::BTreeMap;
use std::error::Error;

use tcpstate::{Live, Needs, State, filter};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = filter::parse(&words.join(" "), &filter::NoResolver)?;
    let mut counts: BTreeMap<(State, String), u64> = BTreeMap::new();
    let scanned = Live::here()?.scan(&wanted, Needs::OWNERS)?.for_each(|row| {
        // A socket without a process has a reason, such as `(time-wait)` or `(not accepted)`.
        let process = match row.first_process() {
            Some(process) => format!("{} ({})", process.comm.escape_debug(), process.pid),
            None => row.status.words().to_owned(),
        };
        *counts.entry((row.socket.state, process)).or_default() += 1;
    })?;
    for ((state, process), count) in counts {
        println!("{count}\t{}\t{process}", state.key());
    }
    for gap in scanned.gaps {
        eprintln!("note: {gap}");
    }
    Ok(())
}
