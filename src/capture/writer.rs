//! Snapshots as the bytes of a capture.
//!
//! Input: snapshots, the names of their numbers, and which bytes reached the file. Output: bytes to append. The file itself is
//! up to the caller.

use std::io;

use crate::capture::delta::Encoder;
use crate::capture::frame::{self, Entry};
use crate::model::Snapshot;
use crate::model::names::NameTable;

/// A key frame comes at least this often: what is read to show a moment, and what damage can reach.
const KEY_MS: u64 = 60_000;

/// What turns snapshots into bytes.
#[derive(Default)]
pub struct Writer {
    encoder: Encoder,
    entries: Vec<Entry>,
    /// Where the next frame begins.
    offset: u64,
    seq: u64,
    /// When the latest key frame was taken, by the monotonic clock; `None`: the next one must be a key frame.
    key_at_ms: Option<u64>,
    pending: Option<Entry>,
}

impl Writer {
    /// The bytes of the next snapshot. [`Writer::written`] or [`Writer::lost`] says what became of them.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn snapshot(&mut self, snapshot: &Snapshot, names: &NameTable) -> io::Result<Vec<u8>> {
        let now = snapshot.monotonic_ms;
        let key = self.key_at_ms.is_none_or(|at| now.saturating_sub(at) >= KEY_MS || now < at);
        let text = self.encoder.lines(snapshot, names, self.seq, key);
        let mut entry = Entry { taken_at_ms: snapshot.taken_at_ms, seq: self.seq, key, offset: self.offset, len: 0 };
        let bytes = frame::frame(&text, &mut entry)?;
        if key {
            self.key_at_ms = Some(now);
        }
        self.pending = Some(entry);
        Ok(bytes)
    }

    /// The bytes of the latest snapshot are in the file.
    pub fn written(&mut self) {
        if let Some(entry) = self.pending.take() {
            self.offset += frame::MARK_BYTES + u64::from(entry.len);
            self.seq += 1;
            self.entries.push(entry);
        }
    }

    /// They are not: the file ends where it did before, and the next snapshot must not build on this one.
    pub fn lost(&mut self) {
        self.pending = None;
        self.key_at_ms = None;
    }

    /// Bytes of the file so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Snapshots in the file so far.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.entries.len()
    }

    /// What comes behind the last snapshot.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn index(&self) -> io::Result<Vec<u8>> {
        frame::index(&self.entries)
    }
}
