//! What a process is made of, by its open and mapped files: jars, libraries, the Go runtime.
//!
//! Input: links of descriptors, the text of `/proc/PID/maps`, the executable. Output: short names. Which program
//! this makes it is up to `diagnose`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// How much of an executable is read; linkers put the notes at the start.
const HEAD: u64 = 64 * 1024;
/// `PT_NOTE` (elf(5)).
const PT_NOTE: u32 = 4;
/// Name and type of the note with Go's build id (`cmd/internal/buildid`).
const GO_NOTE: (&[u8], u32) = (b"Go\0\0", 4);

/// Where the heap of Go begins since 1.11, in whole arenas, partly reserved (`runtime/malloc.go`).
const ARENA_BASE: u64 = 0xc0_0000_0000;
const ARENA_BYTES: u64 = 64 << 20;

/// The name of a jar, if that is what an open file is.
#[must_use]
pub fn jar(path: &str) -> Option<&str> {
    path.strip_suffix(".jar")?;
    path.rsplit('/').next()
}

/// Libraries and jars among the mapped files, each once: `aiohttp/_http_parser.so`, `lib/libpq.so.5`, `httpclient.jar`.
#[must_use]
pub fn mapped(maps: &str) -> BTreeSet<String> {
    // address, permissions, offset, device, inode, path; the path may hold spaces.
    let paths = maps.lines().filter_map(|line| line.split_once('/').map(|(_, path)| path));
    let mut found = BTreeSet::new();
    for path in paths {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if let Some(jar) = jar(path) {
            found.insert(jar.to_owned());
            continue;
        }
        let mut words = path.rsplit('/');
        let (name, folder) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if name.ends_with(".so") || name.contains(".so.") {
            found.insert(format!("{folder}/{name}"));
        }
    }
    found
}

/// Whether the mappings of a process are those of a Go runtime. `None`: undecided, as with the heap of Go 1.26 (at a
/// random address) on a kernel that keeps no names of mappings (`CONFIG_ANON_VMA_NAME`).
#[must_use]
pub fn has_go_heap(maps: &str) -> Option<bool> {
    // Go names its mappings since 1.25.
    if maps.contains(" [anon: Go: ") {
        return Some(true);
    }
    let mut end = ARENA_BASE;
    for line in maps.lines() {
        let Some((start, rest)) = line.split_once('-') else { continue };
        let Some((stop, rest)) = rest.split_once(' ') else { continue };
        let anonymous = rest.split_ascii_whitespace().nth(3) == Some("0");
        if let (Ok(start), Ok(stop), true) = (u64::from_str_radix(start, 16), u64::from_str_radix(stop, 16), anonymous)
            && start == end
        {
            end = stop;
        }
    }
    (end > ARENA_BASE && (end - ARENA_BASE).is_multiple_of(ARENA_BYTES)).then_some(true)
}

/// Whether an executable has Go's build id; `None` when it cannot be read. Opening it may block forever: see
/// [`super::mounts`].
#[must_use]
pub fn is_go(path: &Path) -> Option<bool> {
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(has_go_note(&head))
}

/// Larger files are not searched for a function name.
const MOST_SEARCHED: u64 = 4 << 20;
/// The names in the dynamic symbol table of the functions that accept a connection.
const ACCEPT: [&[u8]; 2] = [b"\0accept\0", b"\0accept4\0"];

/// The files with code of a process, each once: the executable and the libraries, but not the C library, which has
/// every call.
#[must_use]
pub fn code(maps: &str) -> BTreeSet<&str> {
    let is_c_library = |name: &str| name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-");
    maps.lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|permissions| permissions.contains('x')))
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .filter(|path| !path.rsplit('/').next().is_some_and(is_c_library))
        .collect()
}

/// Whether the process maps the C library: a static program names its calls nowhere.
#[must_use]
pub fn is_dynamic(maps: &str) -> bool {
    maps.lines().any(|line| {
        let name = line.rsplit('/').next().unwrap_or_default();
        line.contains('/') && (name.starts_with("libc.so") || name.starts_with("libc-"))
    })
}

/// Whether a program or library imports `accept()`, by its symbol names. `None` when it cannot be read or is large.
/// Opening it may block forever: see [`super::mounts`].
#[must_use]
pub fn imports_accept(path: &Path) -> Option<bool> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST_SEARCHED + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MOST_SEARCHED {
        return None;
    }
    let has = |name: &&[u8]| bytes.windows(name.len()).any(|window| window == *name);
    Some(ACCEPT.iter().any(has))
}

/// Scans the notes that the program headers point to, in either class and byte order.
fn has_go_note(elf: &[u8]) -> bool {
    let Some([0x7f, b'E', b'L', b'F', class, order]) = elf.first_chunk::<6>().copied() else { return false };
    let wide = class == 2;
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        let most_first: Vec<u8> = if order == 2 { bytes.to_vec() } else { bytes.iter().rev().copied().collect() };
        usize::try_from(most_first.iter().fold(0u64, |n, b| n << 8 | u64::from(*b))).ok()
    };
    // Offsets of e_phoff, e_phentsize and e_phnum, then of p_offset and p_filesz: Elf64 or Elf32 (elf(5)).
    let (table_at, size_at, count_at) = if wide { (32, 54, 56) } else { (28, 42, 44) };
    let (offset_at, length_at, word) = if wide { (8, 32, 8) } else { (4, 16, 4) };
    let (Some(table), Some(size), Some(count)) = (number(table_at, word), number(size_at, 2), number(count_at, 2))
    else {
        return false;
    };
    (0..count).filter_map(|n| table.checked_add(n.checked_mul(size)?)).any(|header| {
        let is_note = number(header, 4) == usize::try_from(PT_NOTE).ok();
        let span =
            || Some((number(header.checked_add(offset_at)?, word)?, number(header.checked_add(length_at)?, word)?));
        match span() {
            Some((offset, length)) if is_note => {
                let end = offset.saturating_add(length).min(elf.len());
                elf.get(offset..end).is_some_and(|notes| holds_go(notes, order == 2))
            }
            _ => false,
        }
    })
}

fn holds_go(mut notes: &[u8], most_first: bool) -> bool {
    let number = |at: usize, notes: &[u8]| {
        let bytes: [u8; 4] = notes.get(at..at + 4)?.try_into().ok()?;
        Some(if most_first { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    // Name and description are padded to four bytes each.
    while let (Some(name), Some(description), Some(kind)) = (number(0, notes), number(4, notes), number(8, notes)) {
        let length = |n: u32| (n as usize).saturating_add(3) & !3;
        if kind == GO_NOTE.1 && name as usize == GO_NOTE.0.len() && notes.get(12..16) == Some(GO_NOTE.0) {
            return true;
        }
        let Some(rest) = notes.get(12usize.saturating_add(length(name)).saturating_add(length(description))..) else {
            return false;
        };
        notes = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jars_and_libraries_are_named_shortly() {
        let maps = "55d0 r-xp 00000000 08:01 12 /usr/bin/python3.12\n\
                    7f00 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libpq.so.5.15\n\
                    7f01 r--p 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libpq.so.5.15\n\
                    7f02 r-xp 00000000 08:01 14 /venv/site packages/aiohttp/_http_parser.cpython-312.so (deleted)\n\
                    7f03 rw-p 00000000 00:00 0 [heap]\n7f04 r--s 00000000 08:01 15 /app/lib/okhttp-4.12.0.jar\nodd\n";
        let found: Vec<String> = mapped(maps).into_iter().collect();
        let wanted = ["aiohttp/_http_parser.cpython-312.so", "okhttp-4.12.0.jar", "x86_64-linux-gnu/libpq.so.5.15"];
        assert_eq!(found, wanted);
        assert_eq!(jar("/app/lib/httpclient-4.5.jar"), Some("httpclient-4.5.jar"));
        assert_eq!((jar("/app/lib/httpclient-4.5.jar.bak"), jar("socket:[1]")), (None, None));
    }

    /// An ELF header with one program header, followed by notes.
    fn elf(wide: bool, notes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; if wide { 64 + 56 } else { 52 + 32 }];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1]);
        let mut put =
            |at: usize, value: usize, len: usize| bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        let (start, end) = if wide { (64, 120) } else { (52, 84) };
        let word = if wide { 8 } else { 4 };
        let (table_at, size_at, count_at) = if wide { (32, 54, 56) } else { (28, 42, 44) };
        put(table_at, start, word);
        put(size_at, end - start, 2);
        put(count_at, 1, 2);
        put(start, 4, 4);
        put(start + if wide { 8 } else { 4 }, end, word);
        put(start + if wide { 32 } else { 16 }, notes.len(), word);
        bytes.extend(notes);
        bytes
    }

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [name.len(), description.len(), kind as usize] {
            bytes.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        for text in [name, description] {
            bytes.extend(text);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_program_that_can_accept_is_recognised() {
        let maps = "00400000-00500000 r--p 00000000 08:01 12     /usr/bin/sleep\n\
                    00500000-00600000 r-xp 00000000 08:01 12     /usr/bin/sleep\n\
                    7f00-7f01 r-xp 00000000 08:01 13     /usr/lib/libc.so.6\n\
                    7f02-7f03 r-xp 00000000 08:01 14     /usr/lib/ld-linux-x86-64.so.2\n\
                    7f04-7f05 r-xp 00000000 08:01 15     /opt/my plugin.so\n7f06-7f07 rw-p 00000000 00:00 0 [heap]\n";
        assert_eq!(code(maps).into_iter().collect::<Vec<_>>(), ["/opt/my plugin.so", "/usr/bin/sleep"]);
        assert!(is_dynamic(maps) && !is_dynamic("00500000-00600000 r-xp 00000000 08:01 12     /srv/static\n"));
        let file = std::env::temp_dir().join(format!("tcpstate-accept-{}", std::process::id()));
        for (bytes, expected) in [
            (&b"\0socket\0accept4\0listen\0"[..], true),
            (b"\0socket\0accept\0", true),
            (b"\0nanosleep\0may accept\0accepted\0", false),
        ] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(imports_accept(&file), Some(expected), "{bytes:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(imports_accept(&file), None);
    }

    #[test]
    fn go_is_known_by_its_heap() {
        let named = "c3a0000000-c3a0400000 rw-p 00000000 00:00 0    [anon: Go: heap]\n";
        let arena = "00400000-00500000 r-xp 00000000 08:01 12 /srv/api\nc000000000-c000400000 rw-p 00000000 00:00 0 \n\
                     c000400000-c008000000 ---p 00000000 00:00 0 \n7f00-7f01 rw-p 00000000 00:00 0 \n";
        let part = "c000000000-c000400000 rw-p 00000000 00:00 0 \nc000800000-c004000000 rw-p 00000000 00:00 0 \n";
        let file = "c000000000-c004000000 rw-p 00000000 08:01 12 /data/index\n";
        assert_eq!([named, arena].map(has_go_heap), [Some(true); 2]);
        assert_eq!([part, file, "", "odd"].map(has_go_heap), [None; 4]);
    }

    #[test]
    fn go_is_known_by_its_note_alone_or_behind_others() {
        let go = note(b"Go\0\0", 4, b"build/id/of/it");
        let gnu = note(b"GNU\0", 3, &[1; 20]);
        for wide in [true, false] {
            assert!(has_go_note(&elf(wide, &go)));
            assert!(has_go_note(&elf(wide, &[gnu.clone(), go.clone()].concat())));
            assert!(!has_go_note(&elf(wide, &gnu)));
            assert!(!has_go_note(&elf(wide, &note(b"Go\0\0", 1, b"other"))));
        }
    }

    #[test]
    fn no_bytes_of_any_length_confuse_it() {
        let whole = elf(true, &[note(b"GNU\0", 3, &[1; 20]), note(b"Go\0\0", 4, b"id")].concat());
        for end in 0..whole.len() {
            assert!(!has_go_note(&whole[..end]) || end > 120 + 36, "{end}");
        }
        let mut absurd = whole.clone();
        absurd[32..40].fill(0xff);
        assert!(!has_go_note(&absurd));
        absurd[120..].fill(0xff);
        absurd[32..40].copy_from_slice(&whole[32..40]);
        assert!(!has_go_note(&absurd));
        assert_eq!((is_go(Path::new("/proc/self/exe")), is_go(Path::new("/nonexistent"))), (Some(false), None));
    }
}
