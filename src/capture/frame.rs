//! What surrounds the snapshots in a file: a mark before each, a zstd frame around it, an index behind the last.
//!
//! Input: text, or the bytes of a file. Output: bytes, or where each snapshot is. Marks and index are skippable frames (RFC
//! 8878, section 3.1.2): `zstd -dc` passes them over and prints the lines.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// zstd's default: a higher level costs twice the time for a tenth of the size.
const LEVEL: i32 = 3;
/// Longest text of a snapshot: two million sockets.
const MOST_BYTES: u64 = 4 << 30;

/// `0x184D2A50`, the length of what follows, and what marks are known by.
const MARK: [u8; 12] = [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0, b't', b'c', b'p', b's'];
/// A whole mark: its header, and what follows.
pub(super) const MARK_BYTES: u64 = 8 + 32;
/// `0x184D2A51`: the index.
const INDEX: [u8; 4] = [0x51, 0x2a, 0x4d, 0x18];
/// The last bytes of an index.
const INDEX_END: [u8; 8] = *b"tcpsindx";
/// The end of an index: its checksum, the length of its table, and those bytes.
const TRAILER: usize = 16;
/// What is read at once in the search for a mark.
const WINDOW: usize = 64 << 10;

/// Where a snapshot is, and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub taken_at_ms: u64,
    /// Its place in the recording.
    pub seq: u64,
    /// Whether it can be read without those before.
    pub key: bool,
    /// Of its mark.
    pub offset: u64,
    /// Bytes of its zstd frame.
    pub len: u32,
}

/// FNV-1a: it tells a mark from bytes that look like one. What a snapshot holds has the checksum of its zstd frame.
fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn mark(entry: &Entry) -> Vec<u8> {
    let mut bytes = MARK.to_vec();
    bytes.extend([1, u8::from(entry.key), 0, 0]);
    bytes.extend(entry.taken_at_ms.to_le_bytes());
    bytes.extend(entry.seq.to_le_bytes());
    bytes.extend(entry.len.to_le_bytes());
    bytes.extend(check(&bytes).to_le_bytes());
    bytes
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The mark at the start of these bytes.
fn read_mark(bytes: &[u8], offset: u64) -> Option<Entry> {
    let size = usize::try_from(MARK_BYTES).ok()?;
    let (body, sum) = (bytes.get(..size - 4)?, number(bytes, size - 4)?);
    (body.starts_with(&MARK) && check(body) == u32::from_le_bytes(sum)).then_some(())?;
    Some(Entry {
        key: body[13] & 1 != 0,
        taken_at_ms: u64::from_le_bytes(number(body, 16)?),
        seq: u64::from_le_bytes(number(body, 24)?),
        len: u32::from_le_bytes(number(body, 32)?),
        offset,
    })
}

/// A mark and a frame with a checksum; the entry has what the mark says but the length.
pub(super) fn frame(text: &str, entry: &mut Entry) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::bulk::Compressor::new(LEVEL)?;
    encoder.include_checksum(true)?;
    let body = encoder.compress(text.as_bytes())?;
    entry.len = u32::try_from(body.len()).map_err(|_| io::Error::other("a snapshot of more than 4 GiB"))?;
    let mut bytes = mark(entry);
    bytes.extend(body);
    Ok(bytes)
}

/// The text of a frame, or what is wrong with it.
pub(super) fn text(body: &[u8]) -> Result<String, String> {
    // Without its checksum a frame proves nothing: bit 2 of the descriptor, behind the magic number.
    if body.get(4).is_none_or(|descriptor| descriptor & 4 == 0) {
        return Err("it has no checksum".into());
    }
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(|e| e.to_string())?.single_frame();
    let mut limited = decoder.take(MOST_BYTES);
    limited.read_to_end(&mut out).map_err(|e| e.to_string())?;
    let decoder = limited.into_inner();
    if !decoder.finish().is_empty() {
        return Err("bytes follow its end".into());
    }
    String::from_utf8(out).map_err(|e| e.to_string())
}

/// The first lines of a frame: those of the snapshot and of its facts. Nothing says that they are sound.
pub(super) fn beginning(body: &[u8]) -> Option<String> {
    let decoder = zstd::stream::read::Decoder::with_buffer(body).ok()?.single_frame();
    let mut lines = BufReader::new(decoder.take(MOST_BYTES));
    let mut text = String::new();
    for _ in 0..2 {
        lines.read_line(&mut text).ok()?;
    }
    Some(text)
}

/// The index of these entries.
pub(super) fn index(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut table = Vec::with_capacity(entries.len() * 29);
    for entry in entries {
        table.extend(entry.taken_at_ms.to_le_bytes());
        table.extend(entry.seq.to_le_bytes());
        table.extend(entry.offset.to_le_bytes());
        table.extend(entry.len.to_le_bytes());
        table.push(u8::from(entry.key));
    }
    let table = zstd::bulk::compress(&table, LEVEL)?;
    let len = u32::try_from(table.len()).map_err(|_| io::Error::other("an index of more than 4 GiB"))?;
    let trailer = u32::try_from(TRAILER).unwrap_or_default();
    let mut bytes = INDEX.to_vec();
    bytes.extend(len.saturating_add(trailer).to_le_bytes());
    bytes.extend(&table);
    bytes.extend(check(&table).to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(INDEX_END);
    Ok(bytes)
}

fn read_at(file: &mut (impl Read + Seek), at: u64, len: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::with_capacity(len.min(WINDOW));
    file.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The frame of an entry.
pub(super) fn body(file: &mut (impl Read + Seek), entry: &Entry) -> io::Result<Vec<u8>> {
    read_at(file, entry.offset + MARK_BYTES, usize::try_from(entry.len).unwrap_or(usize::MAX))
}

/// The index at the end of a file; `None` where there is none, or not a whole one.
pub(super) fn read_index(file: &mut (impl Read + Seek), len: u64) -> io::Result<Option<Vec<Entry>>> {
    let Some(at) = len.checked_sub(TRAILER as u64) else { return Ok(None) };
    let trailer = read_at(file, at, TRAILER)?;
    let sum = number(&trailer, 0).map(u32::from_le_bytes);
    let size = number(&trailer, 4).map(u32::from_le_bytes);
    let (Some(sum), Some(size), true) = (sum, size, trailer.ends_with(&INDEX_END)) else { return Ok(None) };
    let Some(start) = at.checked_sub(size.into()) else { return Ok(None) };
    let table = read_at(file, start, usize::try_from(size).unwrap_or(usize::MAX))?;
    if check(&table) != sum {
        return Ok(None);
    }
    let Ok(table) = zstd::stream::decode_all(&table[..]) else { return Ok(None) };
    let entry = |bytes: &[u8]| {
        Some(Entry {
            taken_at_ms: u64::from_le_bytes(number(bytes, 0)?),
            seq: u64::from_le_bytes(number(bytes, 8)?),
            offset: u64::from_le_bytes(number(bytes, 16)?),
            len: u32::from_le_bytes(number(bytes, 24)?),
            key: bytes[28] != 0,
        })
    };
    let entries: Option<Vec<Entry>> = table.chunks_exact(29).map(entry).collect();
    let end = start.saturating_sub(8);
    // Damage before the index would make offsets lie.
    Ok(entries.filter(|list| {
        let ends = |entry: &Entry| entry.offset.checked_add(MARK_BYTES + u64::from(entry.len));
        let adjoins = list.windows(2).all(|two| ends(&two[0]) == Some(two[1].offset));
        adjoins && list.first().is_some_and(|first| first.offset == 0) && list.last().and_then(ends) == Some(end)
    }))
}

/// What a walk over a file found.
#[derive(Default)]
pub(super) struct Scan {
    pub entries: Vec<Entry>,
    /// Bytes that are no snapshot: from, to, and why.
    pub damage: Vec<(u64, u64, &'static str)>,
}

/// Walks from mark to mark. Behind damage it searches for the next one.
pub(super) fn scan(file: &mut (impl Read + Seek), len: u64) -> io::Result<Scan> {
    let mut found = Scan::default();
    let mut at = 0;
    while at < len {
        let head = read_at(file, at, usize::try_from(MARK_BYTES).unwrap_or_default())?;
        if let Some(entry) = read_mark(&head, at) {
            let end = at + MARK_BYTES + u64::from(entry.len);
            if end > len {
                found.damage.push((at, len, "the file ends inside this snapshot"));
                break;
            }
            found.entries.push(entry);
            at = end;
            continue;
        }
        if head.starts_with(&INDEX) {
            let size = number(&head, 4).map_or(0, u32::from_le_bytes);
            let end = at + 8 + u64::from(size);
            if end <= len && read_at(file, end.saturating_sub(8), 8)? == INDEX_END {
                at = end;
                continue;
            }
        }
        let next = find_mark(file, at + 1, len)?;
        let why = if next == len && head.starts_with(&INDEX) { "the index is cut off" } else { "this is no snapshot" };
        found.damage.push((at, next, why));
        at = next;
    }
    Ok(found)
}

/// Where the next mark begins; the end of the file if there is none.
fn find_mark(file: &mut (impl Read + Seek), from: u64, len: u64) -> io::Result<u64> {
    let size = usize::try_from(MARK_BYTES).unwrap_or_default();
    let mut at = from;
    while at < len {
        let window = read_at(file, at, WINDOW + size)?;
        let mut places = (0..window.len().min(WINDOW)).filter(|place| window[*place..].starts_with(&MARK));
        if let Some(place) = places.find(|place| read_mark(&window[*place..], 0).is_some()) {
            return Ok(at + place as u64);
        }
        if window.len() < WINDOW {
            break;
        }
        at += WINDOW as u64;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(texts: &[&str]) -> (Vec<u8>, Vec<Entry>) {
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for (seq, text) in (0..).zip(texts) {
            let offset = bytes.len() as u64;
            let mut entry = Entry { taken_at_ms: 1000 + seq, seq, key: seq == 0, offset, len: 0 };
            bytes.extend(frame(text, &mut entry).unwrap());
            entries.push(entry);
        }
        (bytes, entries)
    }

    #[test]
    fn the_index_and_a_walk_find_the_same() {
        let (bytes, entries) = file(&["one", "two\n", ""]);
        let whole = [bytes.clone(), index(&entries).unwrap()].concat();
        let len = whole.len() as u64;
        assert_eq!(read_index(&mut Cursor::new(&whole), len).unwrap().as_ref(), Some(&entries));
        let walked = scan(&mut Cursor::new(&whole), len).unwrap();
        assert_eq!((walked.entries, walked.damage), (entries.clone(), vec![]));
        let texts: Vec<String> =
            entries.iter().map(|e| text(&body(&mut Cursor::new(&whole), e).unwrap()).unwrap()).collect();
        assert_eq!(texts, ["one", "two\n", ""]);
        // What zstd itself makes of it.
        assert_eq!(zstd::stream::decode_all(&whole[..]).unwrap(), b"onetwo\n");
        // An index behind something else than its snapshots is none.
        let other = [&bytes[1..], &index(&entries).unwrap()].concat();
        assert_eq!(read_index(&mut Cursor::new(&other), other.len() as u64).unwrap(), None);
    }

    #[test]
    fn behind_damage_the_next_mark_is_found() {
        let (mut bytes, entries) = file(&["one", "two", "three"]);
        bytes[usize::try_from(entries[1].offset).unwrap() + 20] ^= 1;
        let walked = scan(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
        assert_eq!(walked.entries, [entries[0], entries[2]]);
        assert_eq!(walked.damage, [(entries[1].offset, entries[2].offset, "this is no snapshot")]);
        let far = [vec![0x50; WINDOW - 5], bytes[..usize::try_from(entries[1].offset).unwrap()].to_vec()].concat();
        let walked = scan(&mut Cursor::new(&far), far.len() as u64).unwrap();
        assert_eq!(walked.entries.len(), 1, "a mark across two windows");
    }
}
