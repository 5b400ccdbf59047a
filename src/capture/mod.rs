//! A series of snapshots as a file, and back.
//!
//! Input: [`Snapshot`](crate::model::Snapshot)s and what their numbers are called. Output: frames of bytes, and the same
//! snapshots. Not here: files, clocks, and what a snapshot means. `docs/capture.md` has the format.
//!
//! `document` is the table of what a document holds, `facts`, `system` and `gaps` are the documents, `socket` is a row,
//! `foreign` reads what other tools printed, `delta` is the difference between two snapshots, `frame` is what surrounds it in the
//! file, `writer` and `reader` use them.

mod delta;
mod document;
mod facts;
pub mod foreign;
mod frame;
mod gaps;
mod reader;
mod socket;
mod system;
mod writer;

pub use frame::Entry;
pub use reader::{Capture, Damage, Recorded};
pub use writer::Writer;

/// The format that this version writes. A reader takes every earlier one.
pub const FORMAT: u64 = 1;

/// Why a capture, or a part of it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot read the capture: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is no capture of tcpstate")]
    NotACapture,
    #[error("it has format {found}, which needs a newer tcpstate than this ({FORMAT})")]
    Newer { found: u64 },
    #[error("it has no complete snapshot")]
    Empty,
    #[error("the snapshot at byte {offset} is damaged: {why}")]
    Damaged { offset: u64, why: String },
    #[error("the snapshot at byte {offset} needs those since byte {key}, and one of them is damaged or missing")]
    Broken { offset: u64, key: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fact that it does not have must be one that may be missing.
    #[test]
    fn a_recording_of_the_first_format_is_read() {
        const KEPT: &[u8] = include_bytes!("../../tests/it/record/format-1.tcps.zst");
        let mut capture = Capture::open(std::io::Cursor::new(KEPT)).expect("a capture");
        assert_eq!(capture.entries().len(), 30);
        for place in 0..30 {
            let snapshot = capture.read(place).expect("a snapshot").snapshot;
            assert_eq!((&*snapshot.host, snapshot.traced.is_some()), ("web3", place > 0));
        }
    }
}
