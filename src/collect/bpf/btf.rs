//! A reader for BTF, the kernel's compact type information: type ids by name, byte offsets of members by path.
//!
//! Input: the bytes of `/sys/kernel/btf/vmlinux` (`Documentation/bpf/btf.rst`). Output: the id of a function,
//! typedef or structure, and the offset and size of a member, also through unnamed structures and unions. It never
//! panics, whatever the bytes are, and allocates nothing per type (there are more than 100,000).
//!
//! A type's id is its position, so finding one means counting through the types before it. The scan therefore
//! happens once for all wanted names, stops at the last one, and leaves a waypoint every [`STRIDE`] types, so that a
//! member's type can be reached by id afterwards.

use std::fmt;

/// The first two bytes of BTF (`BTF_MAGIC`, `include/uapi/linux/btf.h`).
const MAGIC: u16 = 0xEB9F;
/// Types per waypoint: small enough that a walk from one is short, large enough to keep the list small.
const STRIDE: u32 = 32;
/// How deep typedefs, qualifiers or unnamed structures may nest before the data counts as a cycle.
const MAX_DEPTH: u32 = 32;
/// How many members one look-up may visit, including those of unnamed structures; the largest structures have a few
/// hundred.
const MAX_VISITS: u32 = 100_000;
/// Every type starts with a name, a word of kind and count, and a size or another type (`struct btf_type`).
const TYPE_HEADER: usize = 12;
/// One member of a structure: name, type, offset (`struct btf_member`).
const MEMBER: usize = 12;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// The kinds of type that can be looked up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Struct,
    Typedef,
    Func,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Kind::Struct => STRUCT,
            Kind::Typedef => TYPEDEF,
            Kind::Func => FUNC,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Struct => "struct",
            Kind::Typedef => "typedef",
            Kind::Func => "function",
        })
    }
}

/// What is wrong with the bytes, or missing from them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    #[error("not BTF of this machine's byte order (starts with {0:#06x})")]
    Magic(u16),
    #[error("cut short at byte {0}")]
    Truncated(usize),
    #[error("type {id} has unknown kind {kind}; this version cannot read past it")]
    UnknownKind { id: u32, kind: u32 },
    #[error("types are nested in a circle")]
    Circular,
    #[error("type {0} has no size")]
    NoSize(u32),
    #[error("this kernel has no {kind} `{name}`")]
    NoType { kind: Kind, name: &'static str },
    #[error("this kernel has no field `{0}`")]
    NoField(String),
    #[error("field `{0}` is a bit field")]
    BitField(String),
}

/// A name to look for. [`Btf::find`] fills in the id.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub kind: Kind,
    pub name: &'static str,
    /// 0 until found: type 0 is `void` and has no name.
    id: u32,
}

impl Wanted {
    #[must_use]
    pub const fn new(kind: Kind, name: &'static str) -> Wanted {
        Wanted { kind, name, id: 0 }
    }
}

/// Where a member is and how many bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub offset: u32,
    pub size: u32,
}

/// One type in the data.
#[derive(Clone, Copy)]
struct Type {
    /// Position of the header.
    at: usize,
    name: u32,
    kind: u32,
    /// Number of members, parameters or values.
    count: usize,
    /// Bit `kflag`: a member's offset word also holds a bit-field size.
    flag: bool,
    /// A size or another type, depending on the kind.
    value: u32,
}

/// Parsed BTF: the two sections and the waypoints.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Position of type `1 + i * STRIDE`.
    waypoints: Vec<u32>,
    /// The first type that no scan has passed yet, and its position.
    frontier: (u32, usize),
}

impl<'a> Btf<'a> {
    /// Checks the header and cuts the data into its two sections.
    ///
    /// # Errors
    /// When the bytes are not BTF, of the other byte order, or shorter than they claim.
    pub fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        let magic = bytes.first_chunk().map(|b| u16::from_ne_bytes(*b)).ok_or(BtfError::Truncated(bytes.len()))?;
        if magic != MAGIC {
            return Err(BtfError::Magic(magic));
        }
        // struct btf_header: magic u16, version u8, flags u8, hdr_len, type_off, type_len, str_off, str_len.
        let word = |i: usize| word_at(bytes, 4 + 4 * i);
        let (header, type_off, type_len, str_off, str_len) = (word(0)?, word(1)?, word(2)?, word(3)?, word(4)?);
        let section = |offset: u32, len: u32| {
            let start = (header as usize).checked_add(offset as usize);
            let end = start.and_then(|s| s.checked_add(len as usize));
            start.zip(end).and_then(|(s, e)| bytes.get(s..e)).ok_or(BtfError::Truncated(bytes.len()))
        };
        let (types, strings) = (section(type_off, type_len)?, section(str_off, str_len)?);
        Ok(Btf { types, strings, waypoints: Vec::new(), frontier: (1, 0) })
    }

    /// Finds the ids of all wanted names in one scan and returns them in the same order.
    ///
    /// # Errors
    /// The first name that the kernel does not have, or damaged data.
    pub fn find<const N: usize>(&mut self, mut wanted: [Wanted; N]) -> Result<[u32; N], BtfError> {
        let kinds = wanted.iter().fold(0_u32, |set, w| set | 1 << w.kind.number());
        let heads = wanted.map(|w| Head::of(w.name));
        let mut missing = N;
        let (mut id, mut at) = (1, 0);
        while missing > 0 && at < self.types.len() {
            let found = self.type_at(at, id)?;
            self.pass(id, at);
            if kinds & (1 << found.kind) != 0 {
                let name = self.strings.get(found.name as usize..).unwrap_or_default();
                let start = first_eight(name);
                for (w, head) in wanted.iter_mut().zip(&heads) {
                    if start & head.mask == head.bytes
                        && w.id == 0
                        && w.kind.number() == found.kind
                        && name.get(..w.name.len()) == Some(w.name.as_bytes())
                        && name.get(w.name.len()) == Some(&0)
                    {
                        w.id = id;
                        missing -= 1;
                    }
                }
            }
            (id, at) = (id + 1, at + extent(&found, id)?);
        }
        match wanted.iter().find(|w| w.id == 0) {
            Some(w) => Err(BtfError::NoType { kind: w.kind, name: w.name }),
            None => Ok(wanted.map(|w| w.id)),
        }
    }

    /// The offset and size of a member of structure `id`, given as a path: `__sk_common.skc_net.net`. Each part may
    /// be inside unnamed structures and unions.
    ///
    /// # Errors
    /// When there is no such member, when it is a bit field, or when the data is damaged.
    pub fn field(&mut self, id: u32, path: &str) -> Result<Field, BtfError> {
        let (mut id, mut offset, mut visits) = (id, 0_u32, 0);
        for part in path.split('.') {
            let holder = self.resolve(id)?;
            if holder.kind != STRUCT && holder.kind != UNION {
                return Err(BtfError::NoField(path.into()));
            }
            match self.member(&holder, part, 0, &mut visits)?.ok_or_else(|| BtfError::NoField(path.into()))? {
                (bits, _) if !bits.is_multiple_of(8) => return Err(BtfError::BitField(path.into())),
                (bits, member) => {
                    offset = (bits / 8).saturating_add(offset);
                    id = member;
                }
            }
        }
        Ok(Field { offset, size: self.size(id, 0)? })
    }

    /// A member's offset in bits and its type. A bit field yields an odd offset, which no whole field has.
    fn member(
        &mut self,
        holder: &Type,
        name: &str,
        depth: u32,
        visits: &mut u32,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        for i in 0..holder.count {
            *visits += 1;
            if depth > MAX_DEPTH || *visits > MAX_VISITS {
                return Err(BtfError::Circular);
            }
            let at = holder.at + TYPE_HEADER + MEMBER * i;
            let (member_name, id, word) =
                (word_at(self.types, at)?, word_at(self.types, at + 4)?, word_at(self.types, at + 8)?);
            let (bits, bit_field) = if holder.flag { (word & 0xFF_FFFF, word >> 24 != 0) } else { (word, false) };
            if member_name != 0 {
                if self.has_name(member_name, name) {
                    return Ok(Some((if bit_field { bits | 1 } else { bits }, id)));
                }
                continue;
            }
            let inner = self.get(id)?;
            if (inner.kind == STRUCT || inner.kind == UNION)
                && let Some((inner_bits, found)) = self.member(&inner, name, depth + 1, visits)?
            {
                return Ok(Some((bits.saturating_add(inner_bits), found)));
            }
        }
        Ok(None)
    }

    /// Bytes that a value of this type takes.
    fn size(&mut self, id: u32, depth: u32) -> Result<u32, BtfError> {
        let found = self.resolve(id)?;
        Ok(match found.kind {
            PTR => size_of::<usize>() as u32,
            ARRAY if depth <= MAX_DEPTH => {
                let element = word_at(self.types, found.at + TYPE_HEADER)?;
                let count = word_at(self.types, found.at + TYPE_HEADER + 8)?;
                self.size(element, depth + 1)?.saturating_mul(count)
            }
            INT | STRUCT | UNION | ENUM | ENUM64 | FLOAT => found.value,
            _ => return Err(BtfError::NoSize(id)),
        })
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&mut self, id: u32) -> Result<Type, BtfError> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            let found = self.get(id)?;
            match found.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = found.value,
                _ => return Ok(found),
            }
        }
        Err(BtfError::Circular)
    }

    /// The type with this id, from the nearest waypoint.
    fn get(&mut self, id: u32) -> Result<Type, BtfError> {
        if id == 0 {
            return Err(BtfError::NoSize(0));
        }
        let (mut here, mut at) = self.frontier;
        if id < here {
            let slot = (id - 1) / STRIDE;
            let waypoint = self.waypoints.get(slot as usize).copied().ok_or(BtfError::Truncated(self.types.len()))?;
            (here, at) = (1 + slot * STRIDE, waypoint as usize);
        }
        loop {
            let found = self.type_at(at, here)?;
            self.pass(here, at);
            if here >= id {
                return Ok(found);
            }
            (here, at) = (here + 1, at + extent(&found, here)?);
        }
    }

    /// Records a waypoint where one is due, and how far the types are known.
    fn pass(&mut self, id: u32, at: usize) {
        if id < self.frontier.0 {
            return;
        }
        if (id - 1).is_multiple_of(STRIDE) && self.waypoints.len() == ((id - 1) / STRIDE) as usize {
            // The section's length is a u32 in the header, so a position fits.
            self.waypoints.push(at as u32);
        }
        self.frontier = (id, at);
    }

    fn type_at(&self, at: usize, id: u32) -> Result<Type, BtfError> {
        let (name, info, value) =
            (word_at(self.types, at)?, word_at(self.types, at + 4)?, word_at(self.types, at + 8)?);
        let kind = (info >> 24) & 0x1F;
        if kind == 0 || kind > ENUM64 {
            return Err(BtfError::UnknownKind { id, kind });
        }
        Ok(Type { at, name, kind, count: (info & 0xFFFF) as usize, flag: info >> 31 != 0, value })
    }

    fn has_name(&self, offset: u32, name: &str) -> bool {
        let bytes = self.strings.get(offset as usize..).unwrap_or_default();
        bytes.get(..name.len()) == Some(name.as_bytes()) && bytes.get(name.len()) == Some(&0)
    }
}

/// Bytes from this type's header to the next one.
fn extent(found: &Type, id: u32) -> Result<usize, BtfError> {
    let tail = match found.kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * found.count,
        ENUM | FUNC_PROTO => 8 * found.count,
        kind if kind <= ENUM64 => 0,
        kind => return Err(BtfError::UnknownKind { id, kind }),
    };
    Ok(TYPE_HEADER + tail)
}

fn word_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|b| u32::from_ne_bytes(*b)).ok_or(BtfError::Truncated(at))
}

/// The start of a wanted name as one number: most names differ there, so one comparison settles most types.
struct Head {
    bytes: u64,
    mask: u64,
}

impl Head {
    fn of(name: &str) -> Head {
        let mut padded = [0; 8];
        for (to, from) in padded.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        // A name shorter than 8 bytes is compared with the NUL that ends it and no further.
        let significant = (name.len() + 1).min(8);
        let mut mask = [0; 8];
        mask[..significant].fill(0xFF);
        Head { bytes: u64::from_le_bytes(padded), mask: u64::from_le_bytes(mask) }
    }
}

fn first_eight(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_le_bytes(*chunk);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes BTF by hand, type by type.
    struct Blob {
        types: Vec<u8>,
        strings: Vec<u8>,
        next: u32,
    }

    impl Blob {
        fn new() -> Blob {
            Blob { types: Vec::new(), strings: vec![0], next: 1 }
        }

        fn name(&mut self, name: &str) -> u32 {
            if name.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(name.bytes().chain([0]));
            at
        }

        fn add(&mut self, kind: u32, name: &str, count: u32, flag: bool, value: u32, tail: &[u32]) -> u32 {
            let head = [self.name(name), kind << 24 | count | u32::from(flag) << 31, value];
            self.types.extend(head.iter().chain(tail).flat_map(|w| w.to_ne_bytes()));
            self.next += 1;
            self.next - 1
        }

        fn structure(&mut self, kind: u32, name: &str, bytes: u32, members: &[(&str, u32, u32)]) -> u32 {
            let tail: Vec<u32> = members.iter().flat_map(|(n, id, bits)| [self.name(n), *id, *bits]).collect();
            self.add(kind, name, members.len() as u32, false, bytes, &tail)
        }

        fn finish(self) -> Vec<u8> {
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            let mut out = MAGIC.to_ne_bytes().to_vec();
            out.extend([1, 0]);
            out.extend([24, 0, types, types, strings].iter().flat_map(|w: &u32| w.to_ne_bytes()));
            out.extend(self.types);
            out.extend(self.strings);
            out
        }
    }

    /// Every kind once, and the shapes that matter: unnamed unions in unnamed structures, typedefs, a bit field.
    fn sample() -> Vec<u8> {
        let mut b = Blob::new();
        let int = b.add(INT, "int", 0, false, 4, &[32]); // 1
        let u16_ = b.add(INT, "short", 0, false, 2, &[16]); // 2
        let pointer = b.add(PTR, "", 0, false, 7, &[]); // 3, forward: to sock
        b.add(ARRAY, "", 0, false, 0, &[u16_, int, 8]); // 4: u16[8]
        let pair = b.structure(STRUCT, "", 8, &[("skc_daddr", int, 0), ("skc_rcv_saddr", int, 32)]); // 5
        let union = b.structure(UNION, "", 8, &[("", pair, 0), ("skc_addrpair", int, 0)]); // 6
        // 7, with a typedef of an unnamed structure (8) as a member.
        b.structure(STRUCT, "sock", 40, &[("", union, 0), ("six", 4, 64), ("lock", 9, 192), ("next", 3, 256)]);
        let lock = b.structure(STRUCT, "", 8, &[("slock", int, 0), ("owned", int, 32)]); // 8
        b.add(TYPEDEF, "socket_lock_t", 0, false, lock, &[]); // 9
        for (kind, count, tail) in [
            (ENUM, 2, &[0, 1, 0, 2][..]),
            (7, 0, &[]), // FWD
            (VOLATILE, 0, &[]),
            (CONST, 0, &[]),
            (RESTRICT, 0, &[]),
            (FUNC_PROTO, 1, &[0, 1]),
            (VAR, 0, &[1]),
            (DATASEC, 1, &[1, 0, 4]),
            (FLOAT, 0, &[]),
            (DECL_TAG, 0, &[0]),
            (TYPE_TAG, 0, &[]),
            (ENUM64, 1, &[0, 1, 0]),
        ] {
            b.add(kind, "sock", count, false, pointer, tail);
        }
        // Same name, other kind; and names that begin alike.
        b.add(FUNC, "sock", 0, false, 15, &[]); // 22
        b.add(FUNC, "bpf_iter_task_file_old", 0, false, 15, &[]);
        b.add(FUNC, "bpf_iter_task", 0, false, 15, &[]);
        b.add(FUNC, "bpf_iter_task_file", 0, false, 15, &[]); // 25
        // A structure with bit fields: the size is in the upper byte of the offset word.
        let tail = [0, int, 0, 0, int, 3 << 24 | 32];
        let bits = b.add(STRUCT, "bits", 2, true, 8, &tail); // 26
        assert_eq!(bits, 26);
        let mut bytes = b.finish();
        // Name the two members of `bits` after the fact: "int" and "short" are at offsets 1 and 5 of the strings.
        let at = bytes.windows(24).position(|w| {
            let words: Vec<u32> = w.chunks(4).map(|c| u32::from_ne_bytes(c.try_into().unwrap())).collect();
            words == tail
        });
        let at = at.unwrap();
        bytes[at..at + 4].copy_from_slice(&1_u32.to_ne_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&5_u32.to_ne_bytes());
        bytes
    }

    const NAMES: [Wanted; 5] = [
        Wanted::new(Kind::Func, "bpf_iter_task_file"),
        Wanted::new(Kind::Struct, "sock"),
        Wanted::new(Kind::Typedef, "socket_lock_t"),
        Wanted::new(Kind::Func, "sock"),
        Wanted::new(Kind::Struct, "bits"),
    ];

    #[test]
    fn names_and_members_are_found_through_unnamed_types() {
        let bytes = sample();
        let mut btf = Btf::parse(&bytes).unwrap();
        let ids = btf.find(NAMES).unwrap();
        assert_eq!(ids, [25, 7, 9, 22, 26]);
        let mut field = |path: &str| btf.field(ids[1], path).map(|f| (f.offset, f.size));
        assert_eq!(field("skc_rcv_saddr"), Ok((4, 4)));
        assert_eq!(field("skc_addrpair"), Ok((0, 4)));
        assert_eq!(field("six"), Ok((8, 16)));
        assert_eq!(field("lock"), Ok((24, 8)));
        assert_eq!(field("lock.owned"), Ok((28, 4)));
        assert_eq!(field("next"), Ok((32, 8)));
        assert_eq!(field("skc"), Err(BtfError::NoField("skc".into())));
        assert_eq!(field("next.owned"), Err(BtfError::NoField("next.owned".into())));
        assert_eq!(btf.field(ids[4], "int").map(|f| f.offset), Ok(0));
        assert_eq!(btf.field(ids[4], "short"), Err(BtfError::BitField("short".into())));
        // A member can be requested by id before any scan got that far.
        assert_eq!(Btf::parse(&bytes).unwrap().field(7, "lock.owned").map(|f| f.offset), Ok(28));
    }

    #[test]
    fn a_missing_name_is_named() {
        let bytes = sample();
        let error = Btf::parse(&bytes).unwrap().find([NAMES[1], Wanted::new(Kind::Struct, "sock2")]).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no struct `sock2`");
        assert_eq!(Btf::parse(&[0x9F]).err(), Some(BtfError::Truncated(1)));
        assert_eq!(Btf::parse(b"ELF and more").err(), Some(BtfError::Magic(u16::from_ne_bytes(*b"EL"))));
    }

    /// Looks up everything in arbitrary bytes: it only has to return.
    fn try_everything(bytes: &[u8]) -> bool {
        let Ok(mut btf) = Btf::parse(bytes) else { return false };
        let mut complete = true;
        for wanted in NAMES {
            match btf.find([wanted]) {
                Ok([id]) => {
                    for path in ["skc_rcv_saddr", "lock.owned", "six", "next", "int"] {
                        complete &= btf.field(id, path).is_ok();
                    }
                }
                Err(_) => complete = false,
            }
        }
        for id in 0..40 {
            let _ = btf.field(id, "owned");
        }
        complete
    }

    #[test]
    fn cut_or_damaged_data_is_an_error_and_never_a_panic() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(Btf::parse(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x01, 0x07, 0x7F, 0x80, 0xFF, whole[at] ^ 0x10] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                try_everything(&damaged);
            }
        }
        // A type section cut anywhere, under a header that says so.
        let types = u32::from_ne_bytes(whole[12..16].try_into().unwrap());
        for len in 0..types {
            let mut short = whole.clone();
            short[12..16].copy_from_slice(&len.to_ne_bytes());
            assert!(!try_everything(&short), "types end at {len}");
        }
    }

    #[test]
    fn a_circle_of_types_ends() {
        let mut b = Blob::new();
        b.add(TYPEDEF, "a", 0, false, 2, &[]);
        b.add(CONST, "", 0, false, 1, &[]);
        b.structure(STRUCT, "s", 8, &[("", 3, 0), ("m", 1, 0)]);
        b.add(ARRAY, "", 0, false, 0, &[4, 1, 2]);
        b.structure(STRUCT, "t", 8, &[("m", 4, 0), ("gone", 99, 0)]);
        let bytes = b.finish();
        let mut btf = Btf::parse(&bytes).unwrap();
        let [s, t] = btf.find([Wanted::new(Kind::Struct, "s"), Wanted::new(Kind::Struct, "t")]).unwrap();
        assert_eq!(btf.field(s, "m"), Err(BtfError::Circular));
        assert!(btf.field(t, "m").is_err());
        assert!(matches!(btf.field(t, "gone"), Err(BtfError::Truncated(_))));
    }

    /// On a kernel with BTF, offsets that never change: the first field, and one behind a pointer-sized one.
    #[test]
    fn the_running_kernel_reads() {
        let Ok(bytes) = std::fs::read(crate::collect::bpf::KERNEL_BTF) else {
            eprintln!("skipped the_running_kernel_reads: no BTF");
            return;
        };
        let mut btf = Btf::parse(&bytes).unwrap();
        let [list] = btf.find([Wanted::new(Kind::Struct, "list_head")]).unwrap();
        let word = size_of::<usize>() as u32;
        assert_eq!(btf.field(list, "next"), Ok(Field { offset: 0, size: word }));
        assert_eq!(btf.field(list, "prev"), Ok(Field { offset: word, size: word }));
        // Cut anywhere, the data is refused; with a type section cut anywhere, nothing panics.
        let types = u32::from_ne_bytes(bytes[12..16].try_into().unwrap());
        for i in 0..64_u32 {
            assert!(Btf::parse(&bytes[..(bytes.len() - 1) / 64 * i as usize]).is_err());
            let mut short = bytes.clone();
            short[12..16].copy_from_slice(&(types / 64 * i + i).to_ne_bytes());
            let mut btf = Btf::parse(&short).unwrap();
            assert!(btf.find([Wanted::new(Kind::Struct, "no such structure")]).is_err());
        }
    }
}
