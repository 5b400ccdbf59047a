//! A capture as snapshots.
//!
//! Input: a file that can be read at any place. Output: the snapshot of a moment, and what of the file is damaged. A snapshot
//! is whole or it is not there: what is behind damage waits for the next key frame.

use std::io::{Read, Seek, SeekFrom};

use crate::capture::Error;
use crate::capture::delta::{self, Decoder, Failure};
use crate::capture::frame::{self, Entry};
use crate::model::Snapshot;
use crate::model::names::NameTable;
use crate::model::traced::TracedInterval;

/// A snapshot that was recorded, with the names of its numbers.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub snapshot: Snapshot,
    pub names: NameTable,
}

/// Bytes of a capture that are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub from: u64,
    pub to: u64,
    pub why: String,
}

/// A capture that was opened.
pub struct Capture<R> {
    file: R,
    entries: Vec<Entry>,
    damage: Vec<Damage>,
    /// The snapshot that was read last, and its place: the next one is cheap.
    latest: Option<(usize, Decoder)>,
}

/// The first bytes of a capture: its first mark.
const MAGIC: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

impl<R: Read + Seek> Capture<R> {
    /// Opens a capture: by its index, or by a walk over its marks where it has none.
    ///
    /// # Errors
    /// When it cannot be read, is no capture, or has no snapshot.
    pub fn open(mut file: R) -> Result<Capture<R>, Error> {
        let len = file.seek(SeekFrom::End(0))?;
        let (entries, damage) = if let Some(entries) = frame::read_index(&mut file, len)? {
            (entries, Vec::new())
        } else {
            let scan = frame::scan(&mut file, len)?;
            let damage = scan.damage.into_iter().map(|(from, to, why)| Damage { from, to, why: why.into() });
            (scan.entries, damage.collect())
        };
        if entries.is_empty() {
            let mut magic = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
            // A recorder that has not written its first snapshot yet leaves a file without a byte.
            return Err(if magic == MAGIC || magic.is_empty() { Error::Empty } else { Error::NotACapture });
        }
        Ok(Capture { file, entries, damage, latest: None })
    }

    /// Every snapshot, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is known to be damaged so far.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The host that was recorded, as the first key frame says that can be read. The checksum of a frame costs the whole frame, so
    /// it is not asked about a host that is known already.
    pub fn host(&mut self, known: &[String]) -> Option<String> {
        let keys: Vec<Entry> = self.entries.iter().filter(|entry| entry.key).copied().collect();
        keys.iter().find_map(|entry| {
            let body = frame::body(&mut self.file, entry).ok()?;
            let host = delta::host(&frame::beginning(&body)?)?;
            (known.contains(&host) || frame::text(&body).is_ok()).then_some(host)
        })
    }

    /// The place of the latest snapshot that is not later than a moment.
    #[must_use]
    pub fn place_at(&self, taken_at_ms: u64) -> Option<usize> {
        // A clock that was set back makes times go back; the last one counts.
        self.entries.iter().rposition(|entry| entry.taken_at_ms <= taken_at_ms)
    }

    /// Reads the snapshot at a place of [`Capture::entries`].
    ///
    /// # Errors
    /// When it is damaged, or builds on one that is.
    pub fn read(&mut self, place: usize) -> Result<Recorded, Error> {
        let decoder = self.decode(place)?;
        let offset = self.entries[place].offset;
        let (snapshot, names) = decoder.snapshot().map_err(|why| Error::Damaged { offset, why })?;
        self.latest = Some((place, decoder));
        Ok(Recorded { snapshot, names })
    }

    /// What was traced up to the snapshot at a place; the snapshot itself is not made.
    ///
    /// # Errors
    /// When it is damaged, or builds on one that is.
    pub fn traced(&mut self, place: usize) -> Result<Option<TracedInterval>, Error> {
        let decoder = self.decode(place)?;
        let offset = self.entries[place].offset;
        let traced = decoder.traced().map_err(|why| Error::Damaged { offset, why })?;
        self.latest = Some((place, decoder));
        Ok(traced)
    }

    /// What a snapshot is made of: the latest key frame, and every change since.
    fn decode(&mut self, place: usize) -> Result<Decoder, Error> {
        let wanted = *self.entries.get(place).ok_or(Error::Empty)?;
        let key = self.entries[..=place].iter().rposition(|entry| entry.key);
        let broken = Error::Broken { offset: wanted.offset, key: key.map_or(0, |key| self.entries[key].offset) };
        let Some(key) = key else { return Err(broken) };
        let (from, mut decoder) = match self.latest.take() {
            Some((at, decoder)) if (key..=place).contains(&at) => (at + 1, decoder),
            _ => (key, Decoder::default()),
        };
        for at in from..=place {
            let entry = self.entries[at];
            if at > key && self.entries[at - 1].seq + 1 != entry.seq {
                return Err(broken);
            }
            match self.take(&mut decoder, entry) {
                Err(Error::Damaged { .. }) if at < place => return Err(broken),
                taken => taken?,
            }
        }
        Ok(decoder)
    }

    fn take(&mut self, decoder: &mut Decoder, entry: Entry) -> Result<(), Error> {
        let body = frame::body(&mut self.file, &entry)?;
        let offset = entry.offset;
        let damaged = |why: String| Error::Damaged { offset, why };
        let text = frame::text(&body).map_err(damaged)?;
        let head = decoder.take(&text).map_err(|failure| match failure {
            Failure::Newer(found) => Error::Newer { found },
            Failure::Refused(why) => damaged(why),
        })?;
        // The mark has no checksum of the frame's own.
        if (head.seq, head.key, head.taken_at_ms) != (entry.seq, entry.key, entry.taken_at_ms) {
            return Err(damaged("its mark belongs to another one".into()));
        }
        Ok(())
    }

    /// The latest readable snapshot not later than a place, and its place.
    ///
    /// # Errors
    /// When none is readable.
    pub fn read_until(&mut self, place: usize) -> Result<(usize, Recorded), Error> {
        let mut first = None;
        let mut last = Some(place);
        while let Some(until) = last {
            match self.read(until) {
                Ok(recorded) => return Ok((until, recorded)),
                Err(error @ (Error::Io(_) | Error::Newer { .. })) => return Err(error),
                Err(error) => {
                    if let Error::Damaged { offset, why } = &error {
                        self.note(*offset, until, why.clone());
                    }
                    first.get_or_insert(error);
                }
            }
            // From its key frame on, up to the one that cannot be read.
            let key = self.entries[..=until].iter().rposition(|entry| entry.key).unwrap_or(0);
            let readable = (key..until).take_while(|at| self.step(*at)).last();
            if let Some(at) = readable {
                return self.read(at).map(|recorded| (at, recorded));
            }
            last = key.checked_sub(1);
        }
        Err(first.unwrap_or(Error::Empty))
    }

    /// Reads one more snapshot; false if it is damaged, or builds on one that is.
    fn step(&mut self, place: usize) -> bool {
        match self.decode(place) {
            Ok(decoder) => {
                self.latest = Some((place, decoder));
                true
            }
            Err(error) => {
                if let Error::Damaged { offset, why } = error {
                    self.note(offset, place, why);
                }
                false
            }
        }
    }

    fn note(&mut self, from: u64, place: usize, why: String) {
        let to = from + frame::MARK_BYTES + u64::from(self.entries[place].len);
        if !self.damage.iter().any(|d| d.from == from) {
            self.damage.push(Damage { from, to, why });
        }
    }
}
