//! Prints each change of state for 3 seconds, with the process that made it: `cargo run --example follow_changes`.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a whole program")]

use std::error::Error;
use std::time::{Duration, Instant};

use tcpstate::changes::{By, Event, Request, Via, begin_first};
use tcpstate::{Live, State};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut changes, gaps) = begin_first(Via::ALL, &mut Request::new(Live::here()?))?;
    for gap in gaps.iter().chain(&changes.gaps()) {
        eprintln!("note: {gap}");
    }
    println!("from {}", changes.via().name());
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let late = changes.drain(end.saturating_duration_since(Instant::now()), &mut |event| {
            let Event::Change(change) = event else { return };
            let by = match &change.by {
                Some(By::Process(task) | By::KernelThread(task)) => format!("{:?} ({})", task.comm, task.pid),
                Some(By::Network) => "a packet or a timer".to_owned(),
                _ => "unknown".to_owned(),
            };
            let old = change.old.map_or("?", State::key);
            println!("{} > {}\t{old} > {}\t{by}", change.local, change.peer, change.new.key());
        })?;
        for gap in late {
            eprintln!("note: {gap}");
        }
    }
    println!("lost {}", changes.lost().map_or("unknown".to_owned(), |lost| lost.total().to_string()));
    Ok(())
}
