//! The difference between two snapshots as lines of JSON, and what such lines make of the snapshot before.
//!
//! Input: snapshots in the order of their times. Output: lines; and from lines, in the same order, the snapshots. Rows have
//! numbers that hold until the next key frame.

use std::fmt::Write;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value as Json, json};

use crate::capture::FORMAT;
use crate::capture::document::{Document, Refused, apply, field, patch, put};
use crate::capture::socket::{self, At, Kept};
use crate::model::names::NameTable;
use crate::model::rights::Looker;
use crate::model::snapshot::{KnownOwner, Netns, ProcessFacts, TrackingAnswers, Windows};
use crate::model::traced::TracedInterval;
use crate::model::{FourTuple, Gap, Holder, Inode, NetnsId, OwnerTable, Process, Snapshot, Socket};

/// What makes a row the same row. Without a cookie, the place among those that look alike has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Cookie(Option<NetnsId>, u64, u32),
    Tuple(Option<NetnsId>, FourTuple, Option<Inode>, u32),
}

impl Key {
    fn of(socket: &Socket, place: u32) -> Key {
        match socket.cookie {
            Some(cookie) => Key::Cookie(socket.netns, cookie, place),
            None => Key::Tuple(socket.netns, socket.four_tuple(), socket.inode, place),
        }
    }
}

/// A descriptor: inode, process, number.
type Held = (u64, u32, u32);

struct Row {
    id: u32,
    /// The latest snapshot that had it.
    seen: u64,
    kept: Kept,
}

/// What was written last.
#[derive(Default)]
pub(super) struct Encoder {
    rows: FxHashMap<Key, Row>,
    next_id: u32,
    facts: Json,
    holders: Vec<Held>,
    snapshots: u64,
}

impl Encoder {
    /// The lines of a snapshot: with `key` all of it, else what changed since the snapshot before.
    pub(super) fn lines(&mut self, snapshot: &Snapshot, names: &NameTable, seq: u64, key: bool) -> String {
        if key {
            *self = Encoder::default();
        }
        self.snapshots += 1;
        let now = socket::clock(snapshot.monotonic_ms);
        let mut out = String::new();
        let mut head = json!({
            "type": "snapshot", "seq": seq, "key": key, "taken_at_ms": snapshot.taken_at_ms,
            "monotonic_ms": snapshot.monotonic_ms,
        });
        if key {
            head["format"] = FORMAT.into();
            head["version"] = env!("CARGO_PKG_VERSION").into();
        }
        line(&mut out, &head);
        let facts = facts(snapshot, names, now, &self.facts);
        if let Some(change) = patch(&self.facts, &facts) {
            line(&mut out, &json!({ "type": "facts", "change": change }));
            self.facts = facts;
        }
        self.sockets(&mut out, snapshot, now);
        self.holders(&mut out, &snapshot.owners);
        line(&mut out, &json!({ "type": "end", "sockets": self.rows.len(), "holders": self.holders.len() }));
        out
    }

    fn sockets(&mut self, out: &mut String, snapshot: &Snapshot, now: At) {
        for socket in &snapshot.sockets {
            let mut place = 0;
            let mut key = Key::of(socket, place);
            while self.rows.get(&key).is_some_and(|row| row.seen == self.snapshots) {
                place += 1;
                key = Key::of(socket, place);
            }
            if let Some(row) = self.rows.get_mut(&key) {
                row.seen = self.snapshots;
                let kept = Kept::new(socket, now, Some(&row.kept));
                if !row.kept.is_same(&kept) {
                    begin(out, "change", row.id);
                    socket::write(out, &kept, Some(&row.kept));
                    out.push_str("}\n");
                    row.kept = kept;
                }
                continue;
            }
            let row = Row { id: self.next_id, seen: self.snapshots, kept: Kept::new(socket, now, None) };
            self.next_id += 1;
            begin(out, "new", row.id);
            socket::write(out, &row.kept, None);
            out.push_str("}\n");
            self.rows.insert(key, row);
        }
        let mut gone = Vec::new();
        let seen = self.snapshots;
        self.rows.retain(|_, row| {
            let stays = row.seen == seen;
            if !stays {
                gone.push(row.id);
            }
            stays
        });
        gone.sort_unstable();
        if !gone.is_empty() {
            line(out, &json!({ "type": "gone", "ids": gone }));
        }
    }

    fn holders(&mut self, out: &mut String, owners: &OwnerTable) {
        let mut holders: Vec<Held> = owners.all_holders().iter().filter_map(|h| held(h, owners)).collect();
        holders.sort_unstable();
        holders.dedup();
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        let mut before = self.holders.iter().peekable();
        for holder in &holders {
            gone.extend(std::iter::from_fn(|| before.next_if(|b| *b < holder)).copied());
            if before.next_if(|b| *b == holder).is_none() {
                new.push(*holder);
            }
        }
        gone.extend(before.copied());
        if !new.is_empty() || !gone.is_empty() {
            line(out, &json!({ "type": "holders", "new": triples(&new), "gone": triples(&gone) }));
        }
        self.holders = holders;
    }
}

fn begin(out: &mut String, kind: &str, id: u32) {
    let written = write!(out, "{{\"type\":\"{kind}\",\"id\":{id},\"socket\":");
    debug_assert!(written.is_ok(), "writing into a String cannot fail");
}

fn line(out: &mut String, json: &Json) {
    out.push_str(&json.to_string());
    out.push('\n');
}

fn held(holder: &Holder, owners: &OwnerTable) -> Option<Held> {
    Some((holder.inode?.get(), owners.process(holder).pid, holder.fd))
}

fn triples(holders: &[Held]) -> Json {
    holders.iter().map(|(inode, pid, fd)| json!([inode, pid, fd])).collect()
}

fn held_from(json: &Json) -> Result<Vec<Held>, Refused> {
    let one = |json: &Json| match json.as_array().map(Vec::as_slice) {
        Some([inode, pid, fd]) => Ok((u64::from_json(inode)?, u32::from_json(pid)?, u32::from_json(fd)?)),
        _ => Err(format!("{json} is no descriptor")),
    };
    json.as_array().ok_or("`holders` has no list")?.iter().map(one).collect()
}

/// Everything but sockets and descriptors, as one document. `before` is the one of the snapshot before.
fn facts(snapshot: &Snapshot, names: &NameTable, now: At, before: &Json) -> Json {
    let mut facts = Map::new();
    put(&mut facts, "host", &snapshot.host);
    put(&mut facts, "kernel", &snapshot.kernel);
    put(&mut facts, "source", &snapshot.source);
    put(&mut facts, "netns_not_scanned", &snapshot.netns_not_scanned);
    facts.insert("netns".into(), snapshot.netns.iter().map(Document::to_json).enumerate().map(numbered).collect());
    let process = |(pid, process): (&u32, &ProcessFacts)| {
        let mut document = ProcessFacts { running_ms: None, ..process.clone() }.to_json();
        let known = before["processes"][pid.to_string()]["started_at_ms"].as_i64();
        if let Some(started) = process.running_ms.map(|ms| socket::since(now, ms)) {
            document["started_at_ms"] = known.map_or(started, |known| socket::settled(known, started)).into();
        }
        (pid.to_string(), document)
    };
    facts.insert("processes".into(), Json::Object(snapshot.processes.iter().map(process).collect()));
    facts.insert("owners".into(), owners_to_json(&snapshot.owners));
    let closed = snapshot.closed_tcp.as_ref();
    let closed = closed.map(|list| list.iter().filter_map(|h| held(h, &snapshot.owners)).collect::<Vec<_>>());
    if let Some(closed) = closed {
        facts.insert("closed_tcp".into(), triples(&closed));
    }
    put(&mut facts, "system", &snapshot.system);
    put(&mut facts, "rights", &snapshot.looker.rights);
    put(&mut facts, "gaps", &snapshot.gaps);
    put(&mut facts, "known_owners", &snapshot.known_owners);
    put(&mut facts, "traced", &snapshot.traced);
    put(&mut facts, "next_hops", &snapshot.next_hops);
    put(&mut facts, "tracking", &snapshot.tracking);
    put(&mut facts, "windows", &snapshot.windows);
    put(&mut facts, "names", names);
    Json::Object(facts)
}

fn numbered((place, json): (usize, Json)) -> (String, Json) {
    (place.to_string(), json)
}

/// The owners without their descriptors.
fn owners_to_json(owners: &OwnerTable) -> Json {
    let mut map = Map::new();
    put(&mut map, "collected", &owners.collected);
    put(&mut map, "unreadable", &owners.unreadable);
    put(&mut map, "unlisted", &owners.unlisted);
    if let Some(unheld) = owners.unheld() {
        map.insert("unheld".into(), unheld.to_vec().to_json());
    }
    // The order decides which holder of a shared socket comes first.
    map.insert("order".into(), owners.processes.iter().map(|p| Json::from(p.pid)).collect());
    let known = owners.processes.iter().map(|p| (p.pid.to_string(), p.to_json()));
    map.insert("known".into(), Json::Object(known.collect()));
    Json::Object(map)
}

/// The snapshot that was read last.
#[derive(Clone, Default)]
pub(super) struct Decoder {
    rows: Vec<Option<Kept>>,
    facts: Json,
    holders: std::collections::BTreeSet<Held>,
    taken_at_ms: u64,
    monotonic_ms: u64,
    sockets: usize,
}

/// The first line of a snapshot.
pub(super) struct Head {
    pub seq: u64,
    pub key: bool,
    pub taken_at_ms: u64,
    monotonic_ms: u64,
    format: Option<u64>,
}

impl Head {
    fn read(text: &str) -> Result<Head, Refused> {
        let json: Json = serde_json::from_str(text.lines().next().unwrap_or_default()).map_err(|e| e.to_string())?;
        if json["type"] != "snapshot" {
            return Err("it does not begin with a snapshot".into());
        }
        Ok(Head {
            seq: field(&json, "seq")?,
            key: field(&json, "key")?,
            taken_at_ms: field(&json, "taken_at_ms")?,
            monotonic_ms: field(&json, "monotonic_ms")?,
            format: field(&json, "format")?,
        })
    }
}

/// Why lines could not be taken.
pub(super) enum Failure {
    Refused(Refused),
    Newer(u64),
}

impl From<Refused> for Failure {
    fn from(why: Refused) -> Failure {
        Failure::Refused(why)
    }
}

impl Decoder {
    /// Takes the lines of the next snapshot.
    pub(super) fn take(&mut self, text: &str) -> Result<Head, Failure> {
        let head = Head::read(text)?;
        if let Some(found) = head.format.filter(|found| *found > FORMAT) {
            return Err(Failure::Newer(found));
        }
        if head.key {
            *self = Decoder::default();
        }
        (self.taken_at_ms, self.monotonic_ms) = (head.taken_at_ms, head.monotonic_ms);
        let mut ended = None;
        for line in text.lines().skip(1) {
            let json: Json = serde_json::from_str(line).map_err(|e| e.to_string())?;
            match json["type"].as_str().unwrap_or_default() {
                "facts" => {
                    let Json::Object(mut object) = json else { continue };
                    apply(&mut self.facts, object.shift_remove("change").unwrap_or_default());
                }
                "new" => {
                    let id: usize = field(&json, "id")?;
                    if id != self.rows.len() {
                        return Err(format!("row {id} comes after {}", self.rows.len()).into());
                    }
                    let mut kept = Kept::default();
                    socket::read(&mut kept, object(&json)?)?;
                    self.rows.push(Some(kept));
                    self.sockets += 1;
                }
                "change" => {
                    let id: usize = field(&json, "id")?;
                    let row = self.rows.get_mut(id).and_then(Option::as_mut);
                    socket::read(row.ok_or_else(|| format!("row {id} is not there"))?, object(&json)?)?;
                }
                "gone" => {
                    for id in field::<Vec<usize>>(&json, "ids")? {
                        let row = self.rows.get_mut(id).and_then(Option::take);
                        row.ok_or_else(|| format!("row {id} is not there"))?;
                        self.sockets -= 1;
                    }
                }
                "holders" => {
                    for holder in held_from(&json["gone"])? {
                        self.holders.remove(&holder);
                    }
                    self.holders.extend(held_from(&json["new"])?);
                }
                "end" => ended = Some((field::<usize>(&json, "sockets")?, field::<usize>(&json, "holders")?)),
                // A later version may write more.
                _ => {}
            }
        }
        let (sockets, holders) = ended.ok_or_else(|| "it has no end".to_owned())?;
        if (sockets, holders) != (self.sockets, self.holders.len()) {
            return Err(format!("it should have {sockets} sockets and has {}", self.sockets).into());
        }
        Ok(head)
    }

    /// The snapshot, and the names of its numbers.
    pub(super) fn snapshot(&self) -> Result<(Snapshot, NameTable), Refused> {
        let (facts, now) = (&self.facts, socket::clock(self.monotonic_ms));
        let owners = self.owners()?;
        let closed = match facts.get("closed_tcp") {
            Some(list) => Some(held_from(list)?),
            None => None,
        };
        let places: FxHashMap<u32, u32> = owners.processes.iter().map(|p| p.pid).zip(0..).collect();
        let holder = |(inode, pid, fd): Held| {
            places.get(&pid).map(|process| Holder { inode: Inode::new(inode), process: *process, fd })
        };
        let closed_tcp = closed.map(|list| list.into_iter().filter_map(holder).collect());
        let mut processes = std::collections::BTreeMap::new();
        for (pid, json) in facts["processes"].as_object().into_iter().flatten() {
            let mut process = ProcessFacts::from_json(json).map_err(|why| format!("process {pid}: {why}"))?;
            process.running_ms = json["started_at_ms"].as_i64().map(|at| socket::age(now, at));
            processes.insert(process.pid, process);
        }
        let mut netns: Vec<Netns> = Vec::new();
        while let Some(json) = facts["netns"].get(netns.len().to_string()) {
            netns.push(Netns::from_json(json)?);
        }
        let snapshot = Snapshot {
            taken_at_ms: self.taken_at_ms,
            monotonic_ms: self.monotonic_ms,
            host: field(facts, "host")?,
            kernel: field(facts, "kernel")?,
            source: field(facts, "source")?,
            looker: Looker { rights: field(facts, "rights")?, is_recorded: true },
            netns,
            sockets: self.rows.iter().flatten().map(|row| row.at(now)).collect(),
            owners,
            processes,
            closed_tcp,
            system: field(facts, "system")?,
            gaps: field::<Vec<Gap>>(facts, "gaps")?.into_iter().map(Gap::when_recorded).collect(),
            netns_not_scanned: field(facts, "netns_not_scanned")?,
            known_owners: field::<std::collections::BTreeMap<_, KnownOwner>>(facts, "known_owners")?,
            traced: field(facts, "traced")?,
            next_hops: field(facts, "next_hops")?,
            tracking: match facts.get("tracking") {
                Some(json) => TrackingAnswers::from_json(json)?,
                None => TrackingAnswers::default(),
            },
            windows: match facts.get("windows") {
                Some(json) => Windows::from_json(json)?,
                None => Windows::new(),
            },
        };
        Ok((snapshot, field(facts, "names")?))
    }

    /// What was traced before it.
    pub(super) fn traced(&self) -> Result<Option<TracedInterval>, Refused> {
        field(&self.facts, "traced")
    }

    fn owners(&self) -> Result<OwnerTable, Refused> {
        let json = &self.facts["owners"];
        if !field::<bool>(json, "collected")? {
            return Ok(OwnerTable::default());
        }
        let order: Vec<u32> = field(json, "order")?;
        let process = |pid: &u32| Process::from_json(&json["known"][pid.to_string()]);
        let processes = order.iter().map(process).collect::<Result<Vec<Process>, Refused>>()?;
        let places: FxHashMap<u32, u32> = order.iter().copied().zip(0..).collect();
        let holder =
            |(inode, pid, fd): &Held| Some(Holder { inode: Inode::new(*inode), process: *places.get(pid)?, fd: *fd });
        let holders = self.holders.iter().filter_map(holder).collect();
        let mut owners = OwnerTable::new(processes, holders, field(json, "unreadable")?);
        owners.unlisted = field(json, "unlisted")?;
        if let Some(unheld) = field::<Option<Vec<Inode>>>(json, "unheld")? {
            owners.settle(OwnerTable::default(), unheld);
        }
        Ok(owners)
    }
}

/// The host of the facts among the first lines of a key frame.
pub(super) fn host(text: &str) -> Option<String> {
    let json: Json = serde_json::from_str(text.lines().nth(1)?).ok()?;
    (json["type"] == "facts").then(|| json["change"]["host"].as_str().map(str::to_owned))?
}

fn object(line: &Json) -> Result<&Map<String, Json>, Refused> {
    line["socket"].as_object().ok_or_else(|| "a row has no object".into())
}
