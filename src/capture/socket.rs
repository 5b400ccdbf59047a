//! A row as a document: facts under the keys of `list --json`, ages as instants.
//!
//! Input: a [`Socket`] and the clock of its snapshot. Output: an object with its fields, or with those that changed. An age
//! grows without an event, an instant does not: a socket that does nothing has no change.

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::{Map, Value as Json};

use crate::capture::document::{Document, Refused, structs};
use crate::model::socket::Congestion;
use crate::model::{Endpoint, Family, Inode, NetnsId, RowKind, SkMem, Socket, State, TcpInfo, Timer, TimerKind};

/// A moment on the monotonic clock of the host, in milliseconds; before its start for what is older.
pub(super) type At = i64;

/// The kernel's clock of sockets has steps of up to 10 ms, and a dump takes time: an instant that moved by less than this
/// has not moved.
const TOLERANCE_MS: i64 = 60;

structs! {
    SkMem {
        rmem_alloc_bytes, rcvbuf_bytes, wmem_alloc_bytes, sndbuf_bytes, fwd_alloc_bytes, wmem_queued_bytes, optmem_bytes,
        backlog_bytes, drops,
    }
}

/// The ages of `tcp_info`: the key of the instant, and the field.
const AGES: [(&str, &str); 3] = [
    ("last_data_sent_at_ms", "last_data_sent_ms"),
    ("last_data_recv_at_ms", "last_data_recv_ms"),
    ("last_ack_recv_at_ms", "last_ack_recv_ms"),
];

/// The clock of a snapshot.
#[must_use]
pub(super) fn clock(monotonic_ms: u64) -> At {
    At::try_from(monotonic_ms).unwrap_or(At::MAX)
}

/// When something was that is so old now.
pub(super) fn since(now: At, age_ms: u64) -> At {
    now.saturating_sub(At::try_from(age_ms).unwrap_or(At::MAX))
}

/// How old something is now.
pub(super) fn age(now: At, at: At) -> u64 {
    u64::try_from(now.saturating_sub(at)).unwrap_or(0)
}

/// The instant as it was known, unless it moved.
pub(super) fn settled(known: At, now: At) -> At {
    if known.abs_diff(now) <= TOLERANCE_MS.unsigned_abs() { known } else { now }
}

/// When the timer fires, and when something last came or went; `None` for an age of 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Instants {
    fires: Option<At>,
    last: [Option<At>; AGES.len()],
}

/// A row with its ages as instants.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub socket: Socket,
    instants: Instants,
}

impl Kept {
    /// A row of a snapshot; `known` is the same row in the snapshot before.
    pub(super) fn new(socket: &Socket, now: At, known: Option<&Kept>) -> Kept {
        let mut instants = Instants {
            fires: socket.timer.map(|timer| now.saturating_add(i64::from(timer.remaining_ms))),
            last: [None; AGES.len()],
        };
        if let Some(info) = socket.info.as_deref() {
            let ages = [info.last_data_sent_ms(), info.last_data_recv_ms(), info.last_ack_recv_ms()];
            // 0 stays 0: what has just happened, and listeners, where the kernel reports nothing else.
            instants.last = ages.map(|age| age.filter(|ms| *ms > 0).map(|ms| since(now, ms.into())));
        }
        if let Some(known) = known.map(|k| &k.instants) {
            instants.fires = instants.fires.map(|at| known.fires.map_or(at, |before| settled(before, at)));
            for (at, before) in instants.last.iter_mut().zip(known.last) {
                *at = at.map(|at| before.map_or(at, |before| settled(before, at)));
            }
        }
        Kept { socket: socket.clone(), instants }
    }

    /// The row in a snapshot of this clock.
    pub(super) fn at(&self, now: At) -> Socket {
        let mut socket = self.socket.clone();
        if let (Some(timer), Some(fires)) = (&mut socket.timer, self.instants.fires) {
            timer.remaining_ms = u32::try_from(fires.saturating_sub(now).max(0)).unwrap_or(u32::MAX);
        }
        if let Some(info) = &mut socket.info {
            for ((_, field), at) in AGES.into_iter().zip(self.instants.last) {
                if let Some(at) = at {
                    let ms = u32::try_from(age(now, at)).unwrap_or(u32::MAX);
                    info.set(field, ms.into());
                }
            }
        }
        socket
    }

    /// Whether nothing happened to the row, ages apart.
    pub(super) fn is_same(&self, now: &Kept) -> bool {
        if self.instants != now.instants {
            return false;
        }
        let (a, b) = (&self.socket, &now.socket);
        let timer = |s: &Socket| s.timer.map(|t| (t.kind, t.retransmits));
        let plain = |s: &Socket| {
            (
                (s.netns, s.family, s.state, s.kind, s.local, s.peer, s.ifindex, s.cookie),
                (s.recv_q_bytes, s.send_q_bytes, s.uid, s.inode, s.shutdown, s.v6only, s.mark, s.cgroup),
                (s.sockopt, s.tos, s.tclass, s.congestion, s.skmem, s.md5_key, s.ulp, s.mptcp),
            )
        };
        timer(a) == timer(b) && plain(a) == plain(b) && same_info(a.info.as_deref(), b.info.as_deref())
    }
}

/// Whether two `tcp_info` are the same, ages apart: they are three of the four words from byte 44 on.
fn same_info(a: Option<&TcpInfo>, b: Option<&TcpInfo>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) if a.byte_len() == b.byte_len() && a.byte_len() >= 60 => {
            let mut pairs = a.words().zip(b.words()).enumerate();
            pairs.all(|(place, (a, b))| a == b || matches!(place, 11 | 13 | 14))
        }
        (a, b) => a == b,
    }
}

/// A value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    /// Not known.
    Nothing,
    Number(u64),
    At(At),
    Word(&'static str),
    Id(u64),
    Endpoint(Endpoint),
    Name(Congestion),
    Memory(SkMem),
}

impl Cell {
    fn number<N: Into<u64>>(number: Option<N>) -> Cell {
        number.map_or(Cell::Nothing, |n| Cell::Number(n.into()))
    }

    fn flag(flag: bool) -> Cell {
        if flag { Cell::Number(1) } else { Cell::Nothing }
    }

    fn write(&self, out: &mut String) {
        let written = match self {
            Cell::Nothing => {
                out.push_str("null");
                Ok(())
            }
            Cell::Number(n) => write!(out, "{n}"),
            Cell::At(n) => write!(out, "{n}"),
            Cell::Word(word) => write!(out, "\"{word}\""),
            Cell::Id(id) => write!(out, "\"{id:#x}\""),
            Cell::Endpoint(end) => write!(out, "\"{}\"", SocketAddr::new(end.addr, end.port)),
            // Printable ASCII, which may still be a quote.
            Cell::Name(name) => write!(out, "{}", Json::from(name.as_str())),
            Cell::Memory(memory) => write!(out, "{}", memory.to_json()),
        };
        debug_assert!(written.is_ok(), "writing into a String cannot fail");
    }
}

/// Reads a value of a row; `Null` for a field that is not known any more.
type Set = fn(&mut Kept, &Json) -> Result<(), Refused>;

struct Field {
    key: &'static str,
    get: fn(&Kept) -> Cell,
    set: Set,
}

/// `plain!(key, field)`: an optional number that is called as its field.
macro_rules! plain {
    ($field:ident) => {
        Field {
            key: stringify!($field),
            get: |k| Cell::number(k.socket.$field),
            set: |k, json| {
                k.socket.$field = Document::from_json(json)?;
                Ok(())
            },
        }
    };
}

const FIELDS: &[Field] = &[
    Field {
        key: "netns",
        get: |k| Cell::number(k.socket.netns.map(NetnsId::get)),
        set: |k, json| {
            k.socket.netns = Document::from_json(json)?;
            Ok(())
        },
    },
    Field {
        key: "family",
        get: |k| Cell::Word(k.socket.family.key()),
        set: |k, json| {
            let found = Family::ALL.into_iter().find(|f| json == f.key());
            k.socket.family = found.ok_or_else(|| format!("{json} is no family"))?;
            Ok(())
        },
    },
    Field {
        key: "state",
        get: |k| match k.socket.state {
            State::Unknown(n) => Cell::Number(n.into()),
            state => Cell::Word(state.key()),
        },
        set: |k, json| {
            let named = State::ALL.into_iter().find(|s| json == s.key());
            k.socket.state = match named {
                Some(state) => state,
                None => State::from_kernel(u8::from_json(json)?),
            };
            Ok(())
        },
    },
    Field {
        key: "kind",
        get: |k| Cell::Word(k.socket.kind.key()),
        set: |k, json| {
            let found = RowKind::ALL.into_iter().find(|kind| json == kind.key());
            k.socket.kind = found.ok_or_else(|| format!("{json} is no kind of row"))?;
            Ok(())
        },
    },
    Field {
        key: "local",
        get: |k| Cell::Endpoint(k.socket.local),
        set: |k, json| {
            k.socket.local = Document::from_json(json)?;
            Ok(())
        },
    },
    Field {
        key: "peer",
        get: |k| Cell::Endpoint(k.socket.peer),
        set: |k, json| {
            k.socket.peer = Document::from_json(json)?;
            Ok(())
        },
    },
    plain!(ifindex),
    Field {
        key: "cookie",
        get: |k| k.socket.cookie.map_or(Cell::Nothing, Cell::Id),
        set: |k, json| {
            let read = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
            k.socket.cookie = match json {
                Json::Null => None,
                json => Some(json.as_str().and_then(read).ok_or_else(|| format!("{json} is no cookie"))?),
            };
            Ok(())
        },
    },
    Field {
        key: "timer",
        get: |k| match k.socket.timer.map(|t| t.kind) {
            None => Cell::Nothing,
            Some(TimerKind::Unknown(n)) => Cell::Number(n.into()),
            Some(kind) => Cell::Word(kind.key()),
        },
        set: |k, json| {
            let named = TimerKind::ALL.into_iter().filter(|t| !matches!(t, TimerKind::Unknown(_)));
            let kind = match named.into_iter().find(|t| json == t.key()) {
                Some(kind) => Some(kind),
                None if json.is_null() => None,
                None => TimerKind::from_kernel(u8::from_json(json)?),
            };
            let before = k.socket.timer;
            k.socket.timer = kind.map(|kind| Timer {
                kind,
                remaining_ms: before.map_or(0, |t| t.remaining_ms),
                retransmits: before.map_or(0, |t| t.retransmits),
            });
            Ok(())
        },
    },
    Field {
        key: "timer_fires_at_ms",
        get: |k| k.instants.fires.map_or(Cell::Nothing, Cell::At),
        set: |k, json| {
            k.instants.fires = instant(json)?;
            Ok(())
        },
    },
    Field {
        key: "timer_retransmits",
        get: |k| Cell::number(k.socket.timer.map(|t| t.retransmits).filter(|n| *n > 0)),
        set: |k, json| {
            let retransmits = Option::<u8>::from_json(json)?.unwrap_or(0);
            if let Some(timer) = &mut k.socket.timer {
                timer.retransmits = retransmits;
            }
            Ok(())
        },
    },
    Field {
        key: "recv_q_bytes",
        get: |k| Cell::Number(k.socket.recv_q_bytes.into()),
        set: |k, json| {
            k.socket.recv_q_bytes = Document::from_json(json)?;
            Ok(())
        },
    },
    plain!(send_q_bytes),
    plain!(uid),
    Field {
        key: "inode",
        get: |k| Cell::number(k.socket.inode.map(Inode::get)),
        set: |k, json| {
            k.socket.inode = Document::from_json(json)?;
            Ok(())
        },
    },
    plain!(shutdown),
    Field {
        key: "v6only",
        get: |k| Cell::number(k.socket.v6only),
        set: |k, json| {
            k.socket.v6only = Option::<u8>::from_json(json)?.map(|n| n != 0);
            Ok(())
        },
    },
    plain!(mark),
    plain!(cgroup),
    plain!(sockopt),
    plain!(tos),
    plain!(tclass),
    Field {
        key: "congestion",
        get: |k| k.socket.congestion.map_or(Cell::Nothing, Cell::Name),
        set: |k, json| {
            k.socket.congestion = Option::<String>::from_json(json)?.map(|name| Congestion::new(name.as_bytes()));
            Ok(())
        },
    },
    Field {
        key: "skmem",
        get: |k| k.socket.skmem.map_or(Cell::Nothing, Cell::Memory),
        set: |k, json| {
            k.socket.skmem = Document::from_json(json)?;
            Ok(())
        },
    },
    Field {
        key: "md5_key",
        get: |k| Cell::flag(k.socket.md5_key),
        set: |k, json| {
            k.socket.md5_key = !json.is_null();
            Ok(())
        },
    },
    Field {
        key: "ulp",
        get: |k| Cell::flag(k.socket.ulp),
        set: |k, json| {
            k.socket.ulp = !json.is_null();
            Ok(())
        },
    },
    Field {
        key: "mptcp",
        get: |k| Cell::flag(k.socket.mptcp),
        set: |k, json| {
            k.socket.mptcp = !json.is_null();
            Ok(())
        },
    },
];

fn instant(json: &Json) -> Result<Option<At>, Refused> {
    match json {
        Json::Null => Ok(None),
        json => json.as_i64().map(Some).ok_or_else(|| format!("{json} is no instant")),
    }
}

/// Appends the object of a row; with `known`, of what changed since. What an object lacks is not known, or has not changed; a
/// field of `tcp_info` is 0.
pub(super) fn write(out: &mut String, row: &Kept, known: Option<&Kept>) {
    let mut separator = '{';
    let mut key = |out: &mut String, key: &str| {
        out.push(std::mem::replace(&mut separator, ','));
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
    };
    for field in FIELDS {
        let now = (field.get)(row);
        let before = known.map_or(Cell::Nothing, |known| (field.get)(known));
        if now != before {
            key(out, field.key);
            now.write(out);
        }
    }
    let before = known.and_then(|known| Some((known.socket.info.as_deref()?, &known.instants)));
    match (row.socket.info.as_deref(), before) {
        (None, None) => {}
        (None, Some(_)) => {
            key(out, "tcp_info");
            out.push_str("null");
        }
        (Some(now), before) => {
            let mut object = String::new();
            write_info(&mut object, now, &row.instants, before);
            if !object.is_empty() {
                key(out, "tcp_info");
                out.push_str(&object);
                out.push('}');
            }
        }
    }
    out.push_str(if separator == '{' { "{}" } else { "}" });
}

/// Appends the object without its closing brace; nothing where nothing changed.
fn write_info(out: &mut String, now: &TcpInfo, instants: &Instants, known: Option<(&TcpInfo, &Instants)>) {
    let mut add = |key: &str, value: Cell| {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
        value.write(out);
    };
    let len = |info: &TcpInfo| info.byte_len() as u64;
    // A structure of another length is written as a whole.
    let known = known.filter(|(before, _)| len(before) == len(now));
    if known.is_none() {
        add("len", Cell::Number(len(now)));
    }
    for (place, (key, _)) in AGES.into_iter().enumerate() {
        let before = known.and_then(|(_, instants)| instants.last[place]);
        let now = instants.last[place];
        if now != before {
            add(key, now.map_or(Cell::Nothing, Cell::At));
        }
    }
    let mut before = Vec::new();
    if let Some((info, _)) = known {
        info.for_each(|_, value| before.push(value));
    }
    let mut before = before.into_iter();
    now.for_each(|name, value| {
        let before = before.next().flatten().unwrap_or(0);
        if let Some(value) = value
            && value != before
            && AGES.iter().all(|(_, field)| *field != name)
        {
            add(name, Cell::Number(value));
        }
    });
}

/// Reads the object of a row, or of its changes, into it. Keys of later versions are passed over.
pub(super) fn read(kept: &mut Kept, object: &Map<String, Json>) -> Result<(), Refused> {
    for (key, value) in object {
        let done = if key == "tcp_info" {
            read_info(kept, value)
        } else if let Some(field) = FIELDS.iter().find(|field| field.key == key) {
            (field.set)(kept, value)
        } else {
            Ok(())
        };
        done.map_err(|why| format!("{key}: {why}"))?;
    }
    Ok(())
}

fn read_info(kept: &mut Kept, json: &Json) -> Result<(), Refused> {
    let object = match json {
        Json::Null => {
            kept.socket.info = None;
            kept.instants.last = [None; AGES.len()];
            return Ok(());
        }
        json => json.as_object().ok_or_else(|| format!("{json} is no object"))?,
    };
    if let Some(len) = object.get("len") {
        let len = usize::from_json(len)?;
        let mut info = TcpInfo::default();
        info.load(&vec![0; len.min(4096)]);
        kept.socket.info = Some(info.into());
        kept.instants.last = [None; AGES.len()];
    }
    let info = kept.socket.info.as_mut().ok_or("there is no `tcp_info` to change")?;
    for (key, value) in object {
        if let Some(place) = AGES.iter().position(|(at, _)| at == key) {
            kept.instants.last[place] = instant(value)?;
        } else if key != "len" && TcpInfo::FIELDS.contains(&key.as_str()) {
            let value = u64::from_json(value)?;
            if !info.set(key, value) {
                return Err(format!("{key}: {value} does not fit"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
