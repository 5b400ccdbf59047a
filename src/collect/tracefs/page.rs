//! Pages of the kernel's ring buffer, as `trace_pipe_raw` gives them.
//!
//! Comes in: the bytes of a page and its layout. Goes out: the events in it with their times. A page that is cut or not in
//! the format ends early and never panics. Never here: what an event means.
//!
//! The writer is `kernel/trace/ring_buffer.c`. A page begins with a time and the number of bytes that are used. Before
//! each event stands a word: its kind, and the time since the event before.

use super::format::PageLayout;

/// The bytes of a page that are used, in its `commit` field; flags stand above (`RB_MISSED_EVENTS`).
const USED: u64 = (1 << 27) - 1;
/// The bits of a time that an absolute time stamp does not carry (`TS_MSB`).
const UPPER: u64 = !((1 << 59) - 1);

/// Hands out the events of a page: nanoseconds of the trace clock, and the record.
pub fn events(page: &[u8], layout: &PageLayout, each: &mut dyn FnMut(u64, &[u8])) {
    let used = layout.commit.number(page).map_or(0, |c| usize::try_from(c & USED).unwrap_or(0));
    let Some(mut now) = layout.timestamp.number(page) else { return };
    let end = layout.data.offset.saturating_add(used).min(page.len());
    let Some(mut rest) = page.get(layout.data.offset..end) else { return };
    while let Some((kind, delta, after)) = header(rest, layout) {
        let first = word(after);
        rest = after;
        if kind == layout.padding {
            // A reservation that was given back has a time and a length; without a time, the rest of the page is empty.
            let (Some(length), true) = (first, delta > 0) else { return };
            now = now.wrapping_add(delta);
            rest = skip(rest, length);
        } else if kind == layout.time_extend {
            let Some(upper) = first else { return };
            now = now.wrapping_add(delta | u64::from(upper) << (32 - layout.kind_bits));
            rest = skip(rest, 4);
        } else if Some(kind) == layout.time_stamp {
            let Some(upper) = first else { return };
            now = (now & UPPER) | (delta | u64::from(upper) << (32 - layout.kind_bits)) & !UPPER;
            rest = skip(rest, 4);
        } else {
            now = now.wrapping_add(delta);
            let record = match (kind, first) {
                // The length stands in a word of its own, which it counts.
                (0, Some(length)) => {
                    rest = skip(rest, 4);
                    take(rest, length.saturating_sub(4))
                }
                (1.., _) if kind <= layout.longest => take(rest, kind * 4),
                _ => return,
            };
            let Some(record) = record else { return };
            each(now, record);
            rest = rest.get(record.len().next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The word before an event as its kind and the time since the event before; a C bit field, so its halves change places
/// with the byte order.
fn header<'p>(bytes: &'p [u8], layout: &PageLayout) -> Option<(u32, u64, &'p [u8])> {
    let word = word(bytes)?;
    let time_bits = 32 - layout.kind_bits;
    let (kind, delta) = if cfg!(target_endian = "little") {
        (word & (u32::MAX >> time_bits), word >> layout.kind_bits)
    } else {
        (word >> time_bits, word & (u32::MAX >> layout.kind_bits))
    };
    Some((kind, u64::from(delta), skip(bytes, 4)))
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

fn take(bytes: &[u8], length: u32) -> Option<&[u8]> {
    bytes.get(..usize::try_from(length).ok()?)
}

fn skip(bytes: &[u8], length: u32) -> &[u8] {
    usize::try_from(length).ok().and_then(|n| bytes.get(n..)).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::format::tests::{EVENT, PAGE};
    use super::*;

    pub(crate) fn layout() -> PageLayout {
        PageLayout::parse(PAGE, EVENT).unwrap()
    }

    fn head(kind: u32, delta: u32) -> [u8; 4] {
        if cfg!(target_endian = "little") { kind | delta << 5 } else { kind << 27 | delta }.to_ne_bytes()
    }

    /// A page of 4096 bytes that begins at this time.
    pub(crate) fn page(start: u64, parts: &[&[u8]]) -> Vec<u8> {
        let data = parts.concat();
        let mut page = start.to_ne_bytes().to_vec();
        page.extend((data.len() as u64 | 1 << 31).to_ne_bytes());
        page.extend(data);
        page.resize(4096, 0);
        page
    }

    pub(crate) fn event(delta: u32, record: &[u8]) -> Vec<u8> {
        let mut bytes = head(u32::try_from(record.len() / 4).unwrap(), delta).to_vec();
        bytes.extend(record);
        bytes
    }

    fn all(page: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        events(page, &layout(), &mut |at, record| found.push((at, record.to_vec())));
        found
    }

    #[test]
    fn events_come_with_their_times_whatever_stands_between_them() {
        let long: Vec<u8> = (0..120).collect();
        let bytes = page(
            1000,
            &[
                &event(5, b"abcd"),
                // A reservation that was given back: 8 bytes after its length.
                &[&head(29, 7)[..], &8_u32.to_ne_bytes(), &[9; 4]].concat(),
                // More time than fits the header.
                &[&head(30, 3)[..], &2_u32.to_ne_bytes()].concat(),
                &event(0, b"efgh"),
                // Too long for its length to fit the header.
                &[&head(0, 1)[..], &124_u32.to_ne_bytes(), &long].concat(),
                // An absolute time.
                &[&head(31, 77)[..], &0_u32.to_ne_bytes()].concat(),
                &event(1, b"ijkl"),
                &head(29, 0),
                &event(1, b"none"),
            ],
        );
        let late = 1000 + 5 + 7 + 3 + (2 << 27);
        let expected = [(1005, b"abcd".to_vec()), (late, b"efgh".to_vec()), (late + 1, long), (78, b"ijkl".to_vec())];
        assert_eq!(all(&bytes), expected);
    }

    #[test]
    fn a_page_that_is_cut_anywhere_gives_what_came_before_the_cut() {
        let bytes = page(0, &[&event(1, b"abcd"), &event(1, b"efgh"), &event(1, &[7; 112])]);
        for length in 0..200 {
            let found = all(&bytes[..length]);
            assert!(found.len() <= 3 && found.is_sorted());
        }
        assert_eq!(all(&bytes[..16 + 8]).len(), 1);
        // Nonsense of any kind ends, at the latest with the page.
        for seed in 0..=255_u8 {
            let noise: Vec<u8> =
                (0..=255_u8).cycle().take(512).map(|i| seed.wrapping_mul(31).wrapping_add(i.wrapping_mul(7))).collect();
            all(&page(0, &[&noise]));
            all(&noise);
        }
    }
}
