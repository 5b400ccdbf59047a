//! BTF written by hand, whole, cut and damaged; and that of the running kernel.

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
fn what_a_kernel_may_lack_and_what_a_tracepoint_passes() {
    let mut b = Blob::new();
    let proto = b.add(FUNC_PROTO, "", 4, false, 0, &[0, 0, 0, 0, 0, 0, 0, 0]);
    let pointer = b.add(PTR, "", 0, false, proto, &[]);
    b.add(TYPEDEF, "btf_trace_tcp_send_reset", 0, false, pointer, &[]);
    let (first, second) = (b.name("SK_RST_REASON_NOT_SPECIFIED"), b.name("SK_RST_REASON_NO_SOCKET"));
    b.add(ENUM, "sk_rst_reason", 2, false, 4, &[first, 0, second, 7]);
    let bytes = b.finish();
    let mut btf = Btf::parse(&bytes).unwrap();
    let names = [
        Wanted::new(Kind::Typedef, "btf_trace_tcp_send_reset"),
        Wanted::new(Kind::Typedef, "btf_trace_tcp_receive_reset"),
        Wanted::new(Kind::Enum, "sk_rst_reason"),
    ];
    let [sent, received, reasons] = btf.look_for(names).unwrap();
    assert_eq!((btf.arguments(sent.unwrap()), received), (Ok(3), None));
    let named = btf.enumerators(reasons.unwrap()).unwrap();
    assert_eq!(named, [("SK_RST_REASON_NOT_SPECIFIED", 0), ("SK_RST_REASON_NO_SOCKET", 7)]);
    assert!(btf.arguments(reasons.unwrap()).is_err() && btf.enumerators(sent.unwrap()).is_err());
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
