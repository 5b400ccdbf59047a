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
    Enum,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Kind::Struct => STRUCT,
            Kind::Typedef => TYPEDEF,
            Kind::Func => FUNC,
            Kind::Enum => ENUM,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Struct => "struct",
            Kind::Typedef => "typedef",
            Kind::Func => "function",
            Kind::Enum => "enum",
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
    pub fn find<const N: usize>(&mut self, wanted: [Wanted; N]) -> Result<[u32; N], BtfError> {
        let found = self.look_for(wanted)?;
        match wanted.iter().zip(&found).find(|(_, id)| id.is_none()) {
            Some((w, _)) => Err(BtfError::NoType { kind: w.kind, name: w.name }),
            None => Ok(found.map(Option::unwrap_or_default)),
        }
    }

    /// The same; `None` for those that the kernel does not have.
    ///
    /// # Errors
    /// When the data is damaged.
    pub fn look_for<const N: usize>(&mut self, mut wanted: [Wanted; N]) -> Result<[Option<u32>; N], BtfError> {
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
        Ok(wanted.map(|w| Some(w.id).filter(|id| *id != 0)))
    }

    /// How many arguments a tracepoint passes, from its `btf_trace_*` typedef: a pointer to a function whose first
    /// parameter is the tracepoint's own.
    ///
    /// # Errors
    /// When it is not such a typedef, or the data is damaged.
    pub fn arguments(&mut self, id: u32) -> Result<usize, BtfError> {
        let pointer = self.resolve(id)?;
        let function = if pointer.kind == PTR { self.resolve(pointer.value)? } else { pointer };
        if function.kind == FUNC_PROTO { Ok(function.count.saturating_sub(1)) } else { Err(BtfError::NoSize(id)) }
    }

    /// The names of an enum and their numbers.
    ///
    /// # Errors
    /// When it is no enum, or the data is damaged.
    pub fn enumerators(&mut self, id: u32) -> Result<Vec<(&'a str, u32)>, BtfError> {
        let found = self.resolve(id)?;
        if found.kind != ENUM {
            return Err(BtfError::NoSize(id));
        }
        let mut values = Vec::new();
        for i in 0..found.count {
            let at = found.at + TYPE_HEADER + 8 * i;
            let (name, value) = (word_at(self.types, at)?, word_at(self.types, at + 4)?);
            let bytes = self.strings.get(name as usize..).unwrap_or_default();
            let length = bytes.iter().position(|b| *b == 0).unwrap_or(0);
            values.push((std::str::from_utf8(&bytes[..length]).unwrap_or_default(), value));
        }
        Ok(values)
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
mod tests;
