//! JSON, schema `tcpstate/1`: the shape that scripts rely on (docs/json.md).
//!
//! Comes in: rows, counts, gaps. Goes out: one document, or one object per line. Numbers are numbers, units are in the
//! keys, unknown is `null`, 64-bit ids are hex strings. Within a schema number there are only additions. Never here: the
//! model's own shape; the types below are the format, so that a rename in the model changes no script.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::aggregate::{Census, Counts, Grouping, KeyValue};
use crate::diagnose::{Diagnosis, Evidence, Finding};
use crate::model::column::{Names, Row};
use crate::model::socket::{AgeBracket, Timer};
use crate::model::{Endpoint, Family, Gap, OwnerTable, SkMem, State, StateSet, TcpInfo};

/// The schema of every document.
pub const SCHEMA: &str = "tcpstate/1";

/// What every document begins with.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    pub schema: &'static str,
    pub command: &'static str,
    pub version: &'static str,
    /// RFC 3339, UTC.
    pub taken_at: String,
    pub host: String,
    pub kernel: String,
    /// `netlink`, `proc` or `capture`.
    pub source: &'static str,
    /// Inode of the network namespace that was read.
    pub netns: Option<u64>,
}

/// The gaps as JSON.
#[must_use]
pub fn gaps(gaps: &[Gap]) -> Json {
    gaps.iter()
        .map(|g| json!({ "what": g.what, "why": g.why, "hint": if g.hint.is_empty() { Json::Null } else { json!(g.hint) } }))
        .collect()
}

/// Counts per state, every state present; `null` for those that this source cannot see.
#[must_use]
pub fn states(counts: &Counts, unseen: StateSet) -> Json {
    let mut map = Map::new();
    for state in State::ALL {
        let n = counts.get(state);
        let value = if n == 0 && unseen.contains(state) { Json::Null } else { json!(n) };
        map.insert(state.key().into(), value);
    }
    if counts.unknown() > 0 {
        map.insert("unknown".into(), json!(counts.unknown()));
    }
    Json::Object(map)
}

/// An endpoint as JSON.
#[must_use]
pub fn endpoint(endpoint: Endpoint) -> Json {
    json!({ "addr": endpoint.addr.to_string(), "port": endpoint.port })
}

/// A head as the map that a document starts from.
#[must_use]
pub fn head(head: &Head) -> Map<String, Json> {
    match serde_json::to_value(head) {
        Ok(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Which states a summary could not see.
#[derive(Clone, Copy, Debug)]
pub struct Unseen(pub StateSet);

/// The document of `summary`.
#[must_use]
pub fn summary(
    head_of: &Head,
    census: &Census,
    unseen: Unseen,
    groups: Json,
    findings: &[Json],
    all_gaps: &[Gap],
) -> Json {
    let mut map = head(head_of);
    let all = census.all();
    map.insert("total".into(), json!(all.total()));
    map.insert("states".into(), states(&all, unseen.0));
    let families: Map<String, Json> =
        Family::ALL.iter().map(|f| (f.key().to_owned(), states(census.family(*f), unseen.0))).collect();
    map.insert("families".into(), Json::Object(families));
    map.insert("groups".into(), groups);
    map.insert("findings".into(), json!(findings));
    map.insert("gaps".into(), gaps(all_gaps));
    Json::Object(map)
}

/// The groups of one crossing: the largest `top` and the rest.
#[must_use]
pub fn grouping(
    grouping: &Grouping,
    top: usize,
    owners: &OwnerTable,
    names: &dyn Names,
    unseen: Unseen,
) -> (Vec<Json>, Json) {
    let (groups, rest) = grouping.top(top);
    let rows = groups
        .iter()
        .map(|group| {
            let mut map = Map::new();
            for (key, value) in grouping.keys.iter().zip(&group.values) {
                map.insert(key.name().into(), key_value(value, owners, names));
            }
            map.insert("total".into(), json!(group.counts.total()));
            map.insert("states".into(), states(&group.counts, unseen.0));
            Json::Object(map)
        })
        .collect();
    let rest = rest.map_or(
        Json::Null,
        |(n, counts)| json!({ "groups": n, "total": counts.total(), "states": states(&counts, unseen.0) }),
    );
    (rows, rest)
}

fn key_value(value: &KeyValue, owners: &OwnerTable, names: &dyn Names) -> Json {
    match value {
        KeyValue::State(state) => json!(StateKey(*state)),
        KeyValue::Family(family) => json!(family.key()),
        KeyValue::Endpoint(at) => endpoint(*at),
        KeyValue::Addr(addr) => json!(addr.to_string()),
        KeyValue::Port(port) => json!(port),
        KeyValue::Tuple(tuple) => {
            json!({ "local": endpoint(tuple.local), "peer": endpoint(tuple.peer), "ifindex": tuple.ifindex })
        }
        KeyValue::Processes(indices) => {
            let processes: Vec<_> = indices.iter().map(|i| &owners.processes[*i as usize]).collect();
            json!({
                "comm": processes.first().map(|p| p.comm.as_str()),
                "pids": processes.iter().map(|p| p.pid).collect::<Vec<_>>(),
                "unit": processes.first().and_then(|p| p.unit.as_deref()),
                "container": processes.first().and_then(|p| p.container.as_deref()),
            })
        }
        KeyValue::NoProcess(status) => json!({ "comm": null, "pids": [], "owner_status": status.key() }),
        KeyValue::User(uid) => json!({ "uid": uid, "name": names.user(*uid).as_deref() }),
        KeyValue::Netns(inode) => json!(inode),
        KeyValue::Text(text) => json!(text),
        KeyValue::None => Json::Null,
    }
}

/// A finding as JSON.
#[must_use]
pub fn finding(finding: &Finding) -> Json {
    let s = &finding.subject;
    let evidence: Map<String, Json> =
        finding.evidence.iter().map(|(name, value)| ((*name).to_owned(), evidence(value))).collect();
    json!({
        "rule": finding.rule,
        "severity": finding.severity.key(),
        "confidence": finding.confidence,
        "confidence_reason": finding.confidence_reason,
        "summary": finding.summary,
        "subject": {
            "netns": s.netns, "pid": s.pid, "comm": s.comm, "pids": s.pids, "uid": s.uid, "unit": s.unit,
            "container": s.container,
            "listener": s.listener.map(endpoint), "destination": s.destination.map(endpoint),
            "source": s.source.map(|a| a.to_string()), "object": s.object,
        },
        "evidence": evidence,
        "why": finding.why,
        "remedy": finding.remedy,
        "avoid": finding.avoid,
        "next": finding.next,
    })
}

fn evidence(value: &Evidence) -> Json {
    match value {
        Evidence::Count(n) | Evidence::Bytes(n) | Evidence::Millis(n) => json!(n),
        // Two digits are all that such a number means.
        Evidence::PerSecond(n) | Evidence::Percent(n) => json!((n * 100.0).round() / 100.0),
        Evidence::Text(text) => json!(text),
        Evidence::List(items) => json!(items),
        Evidence::Unknown => Json::Null,
    }
}

/// The rules that could not be judged.
#[must_use]
pub fn not_checked(diagnosis: &Diagnosis) -> Json {
    diagnosis.not_checked.iter().map(|(rule, why)| json!({ "rule": rule, "why": why })).collect()
}

/// Writes a whole document, indented for people, and a line end.
///
/// # Errors
/// When the stream fails.
pub fn write_document(out: &mut dyn Write, document: &Json) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")
}

/// The document of `list`, written while the rows come.
pub struct ListWriter {
    rows: u64,
    buffer: Vec<u8>,
}

impl ListWriter {
    /// Writes the head.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn begin(out: &mut dyn Write, head: &Head) -> io::Result<ListWriter> {
        let mut text = serde_json::to_string(head)?;
        text.pop();
        out.write_all(text.as_bytes())?;
        out.write_all(b",\"sockets\":[")?;
        Ok(ListWriter { rows: 0, buffer: Vec::with_capacity(1024) })
    }

    /// Writes one socket.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(if self.rows > 0 { b",\n" } else { b"\n" });
        serde_json::to_writer(&mut self.buffer, &SocketV1(row))?;
        self.rows += 1;
        out.write_all(&self.buffer)
    }

    /// Ends the document.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn end(self, out: &mut dyn Write, all_gaps: &[Gap]) -> io::Result<()> {
        writeln!(out, "\n],\"total\":{},\"gaps\":{}}}", self.rows, gaps(all_gaps))
    }
}

/// One object per line: `header`, `socket`..., `gap`..., `end`.
pub struct LinesWriter {
    rows: u64,
    buffer: Vec<u8>,
}

impl LinesWriter {
    /// Writes the header line.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn begin(out: &mut dyn Write, head_of: &Head) -> io::Result<LinesWriter> {
        line(out, "header", head(head_of))?;
        Ok(LinesWriter { rows: 0, buffer: Vec::with_capacity(1024) })
    }

    /// Writes one socket line.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, &Line { kind: "socket", socket: SocketV1(row) })?;
        self.buffer.push(b'\n');
        self.rows += 1;
        out.write_all(&self.buffer)
    }

    /// Writes the gaps and the end, by which a reader knows that the stream was complete.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn end(self, out: &mut dyn Write, all_gaps: &[Gap]) -> io::Result<()> {
        for gap in all_gaps {
            let Json::Array(mut one) = gaps(std::slice::from_ref(gap)) else { continue };
            if let Some(Json::Object(map)) = one.pop() {
                line(out, "gap", map)?;
            }
        }
        let mut map = Map::new();
        map.insert("total".into(), json!(self.rows));
        line(out, "end", map)
    }
}

/// Writes one line with its type first.
///
/// # Errors
/// When the stream fails.
pub fn line(out: &mut dyn Write, kind: &str, fields: Map<String, Json>) -> io::Result<()> {
    let mut map = Map::new();
    map.insert("type".into(), json!(kind));
    map.extend(fields);
    serde_json::to_writer(&mut *out, &map)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Line<'r, 'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    socket: SocketV1<'r, 'a>,
}

/// One socket of schema 1.
pub struct SocketV1<'r, 'a>(pub &'r Row<'a>);

impl Serialize for SocketV1<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let s = row.socket;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("netns", &(s.netns != 0).then_some(s.netns))?;
        map.serialize_entry("family", s.family.key())?;
        map.serialize_entry("state", &StateKey(s.state))?;
        map.serialize_entry("kind", s.kind.key())?;
        map.serialize_entry("local", &EndpointV1(s.local))?;
        map.serialize_entry("peer", &EndpointV1(s.peer))?;
        map.serialize_entry("ifindex", &s.ifindex)?;
        map.serialize_entry("recv_q_bytes", &s.recv_q_bytes)?;
        map.serialize_entry("send_q_bytes", &s.send_q_bytes)?;
        map.serialize_entry("uid", &s.uid)?;
        map.serialize_entry("inode", &s.inode)?;
        map.serialize_entry("cookie", &s.cookie.map(Hex))?;
        map.serialize_entry("timer", &s.timer.map(TimerV1))?;
        map.serialize_entry("shutdown", &s.shutdown)?;
        map.serialize_entry("v6only", &s.v6only)?;
        map.serialize_entry("mark", &s.mark)?;
        map.serialize_entry("cgroup_id", &s.cgroup.map(Hex))?;
        map.serialize_entry("owners", &OwnersV1(row))?;
        map.serialize_entry("owner_status", row.status.key())?;
        map.serialize_entry("state_age_ms", &s.state_age().map(AgeV1))?;
        if let Some(congestion) = &s.congestion {
            map.serialize_entry("congestion", congestion.as_str())?;
        }
        if let Some(tos) = s.tos {
            map.serialize_entry("tos", &tos)?;
        }
        if let Some(tclass) = s.tclass {
            map.serialize_entry("tclass", &tclass)?;
        }
        if let Some(skmem) = &s.skmem {
            map.serialize_entry("skmem", &SkMemV1(skmem))?;
        }
        if let Some(info) = &s.info {
            map.serialize_entry("tcp_info", &InfoV1(info))?;
        }
        map.end()
    }
}

struct StateKey(State);

impl Serialize for StateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            State::Unknown(_) => serializer.collect_str(&self.0),
            named => serializer.serialize_str(named.key()),
        }
    }
}

struct EndpointV1(Endpoint);

impl Serialize for EndpointV1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("addr", &Addr(self.0.addr))?;
        map.serialize_entry("port", &self.0.port)?;
        map.end()
    }
}

struct Addr(IpAddr);

impl Serialize for Addr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            // The common case by hand: the formatter of the standard library costs more than all else in a row.
            IpAddr::V4(addr) => {
                let mut text = [0; 15];
                let mut at = 0;
                for (i, octet) in addr.octets().into_iter().enumerate() {
                    if i > 0 {
                        text[at] = b'.';
                        at += 1;
                    }
                    if octet >= 100 {
                        text[at] = b'0' + octet / 100;
                        at += 1;
                    }
                    if octet >= 10 {
                        text[at] = b'0' + octet / 10 % 10;
                        at += 1;
                    }
                    text[at] = b'0' + octet % 10;
                    at += 1;
                }
                serializer.serialize_str(std::str::from_utf8(&text[..at]).unwrap_or("?"))
            }
            IpAddr::V6(addr) => serializer.collect_str(&addr),
        }
    }
}

/// A 64-bit id: beyond what a JSON number keeps.
struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct TimerV1(Timer);

impl Serialize for TimerV1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("kind", self.0.kind.key())?;
        map.serialize_entry("remaining_ms", &self.0.remaining_ms)?;
        map.serialize_entry("retransmits", &self.0.retransmits)?;
        map.end()
    }
}

struct AgeV1(AgeBracket);

impl Serialize for AgeV1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("min", &self.0.min_ms)?;
        map.serialize_entry("max", &self.0.max_ms)?;
        map.end()
    }
}

struct OwnersV1<'r, 'a>(&'r Row<'a>);

impl Serialize for OwnersV1<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct OwnerV1<'p> {
            pid: u32,
            comm: &'p str,
            fd: u32,
            uid: Option<u32>,
            unit: Option<&'p str>,
            container: Option<&'p str>,
            pod: Option<&'p str>,
        }
        let mut seq = serializer.serialize_seq(Some(self.0.holders.len()))?;
        for holder in self.0.holders {
            let p = self.0.owners.process(holder);
            seq.serialize_element(&OwnerV1 {
                pid: p.pid,
                comm: &p.comm,
                fd: holder.fd,
                uid: p.uid,
                unit: p.unit.as_deref(),
                container: p.container.as_deref(),
                pod: p.pod.as_deref(),
            })?;
        }
        seq.end()
    }
}

struct SkMemV1<'a>(&'a SkMem);

impl Serialize for SkMemV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let m = self.0;
        let mut map = serializer.serialize_map(Some(9))?;
        map.serialize_entry("rmem_alloc_bytes", &m.rmem_alloc_bytes)?;
        map.serialize_entry("rcvbuf_bytes", &m.rcvbuf_bytes)?;
        map.serialize_entry("wmem_alloc_bytes", &m.wmem_alloc_bytes)?;
        map.serialize_entry("sndbuf_bytes", &m.sndbuf_bytes)?;
        map.serialize_entry("fwd_alloc_bytes", &m.fwd_alloc_bytes)?;
        map.serialize_entry("wmem_queued_bytes", &m.wmem_queued_bytes)?;
        map.serialize_entry("optmem_bytes", &m.optmem_bytes)?;
        map.serialize_entry("backlog_bytes", &m.backlog_bytes)?;
        map.serialize_entry("drops", &m.drops)?;
        map.end()
    }
}

struct InfoV1<'a>(&'a TcpInfo);

impl Serialize for InfoV1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(TcpInfo::FIELDS.len()))?;
        let mut failed = None;
        self.0.for_each(|name, value| {
            if failed.is_none() {
                failed = map.serialize_entry(name, &value).err();
            }
        });
        match failed {
            Some(error) => Err(error),
            None => map.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::column::NoNames;
    use crate::model::{RowKind, Socket, TimerKind};

    #[test]
    fn a_socket_has_every_key_and_unknown_is_null() {
        let socket = Socket {
            state: State::TimeWait,
            kind: RowKind::TimeWaitMini,
            cookie: Some(u64::MAX),
            timer: Some(Timer { kind: TimerKind::TimeWait, remaining_ms: 1000, retransmits: 0 }),
            local: Endpoint::new("192.168.100.9".parse().unwrap(), 443),
            ..Socket::default()
        };
        let owners = OwnerTable::default();
        let row = Row::new(&socket, &owners, &NoNames);
        let json = serde_json::to_value(SocketV1(&row)).unwrap();
        assert_eq!(json["local"], json!({ "addr": "192.168.100.9", "port": 443 }));
        assert_eq!(json["cookie"], "0xffffffffffffffff");
        assert_eq!(json["state_age_ms"], json!({ "min": 59_000, "max": null }));
        assert_eq!(json["owner_status"], "not_collected");
        assert!(json["uid"].is_null() && json["netns"].is_null() && json["send_q_bytes"].is_null());
        assert!(json.get("tcp_info").is_none());
    }

    #[test]
    fn addresses_print_as_the_standard_library_prints_them() {
        for addr in ["0.0.0.0", "255.255.255.255", "1.20.100.9", "::ffff:1.2.3.4", "fe80::1"] {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!(serde_json::to_value(Addr(addr)).unwrap(), json!(addr.to_string()));
        }
    }

    #[test]
    fn states_that_cannot_be_seen_are_null() {
        let mut counts = Counts::default();
        counts.add(State::Listen);
        let json = states(&counts, StateSet::of(&[State::BoundInactive]));
        assert_eq!((json["listen"].as_u64(), json["bound_inactive"].is_null()), (Some(1), true));
        assert_eq!(json.as_object().unwrap().len(), State::ALL.len());
    }
}
