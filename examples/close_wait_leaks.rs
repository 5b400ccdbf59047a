//! Names programs that do not close connections: two snapshots, and the rules about CLOSE_WAIT and dead descriptors.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a whole program")]

use std::error::Error;
use std::time::Duration;

use tcpstate::{Live, Severity, Thresholds};

fn main() -> Result<(), Box<dyn Error>> {
    let mut live = Live::here()?;
    let before = live.snapshot(true)?;
    std::thread::sleep(Duration::from_secs(2));
    let mut now = live.snapshot(true)?;
    let rules = ["close-wait-leak", "close-wait-unaccepted", "closed-socket-fd-leak"];
    let diagnosis = live.diagnose(&mut now, Some(&before), Some(&rules), &Thresholds::default());
    for finding in diagnosis.findings.iter().filter(|f| f.severity >= Severity::Info) {
        println!("{}\t{}\t{:.0}%", finding.severity.key(), finding.rule, finding.confidence * 100.0);
        println!("\t{}", finding.summary.escape_debug());
        for step in &finding.remedy {
            println!("\t- {step}");
        }
    }
    for (rule, why) in &diagnosis.not_checked {
        println!("not checked\t{rule}\t{why}");
    }
    for gap in &now.gaps {
        eprintln!("note: {gap}");
    }
    Ok(())
}
