//! Changes of state, lives and matrices as JSON, appended to a line.

use std::io;

use serde_json::{Map, Value as Json, json};

use super::{Matrix, by_count};
use crate::aggregate::lives::{Closer, End, EndedBy, Life, Opener};
use crate::model::cgroup::Identity;
use crate::model::event::{ResetReason, Sighting};
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Endpoint, Errno, Event, Family, NetnsId, State};
use crate::render::json::object::{Object, key};

fn state(state: State) -> Json {
    match state {
        State::Unknown(_) => json!(state.to_string()),
        known => json!(known.key()),
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// Appends one change as a JSON line.
///
/// # Errors
/// Never: a buffer takes everything.
pub fn write_change_json(
    out: &mut Vec<u8>,
    t: &Transition,
    in_old_ns: Option<u64>,
    identity: Option<&Identity>,
) -> io::Result<()> {
    let mut o = Object::begin(out);
    o.word(key!("type"), "transition")?;
    connection(&mut o, t.at_us, t.netns, t.family, t.cookie, (t.local, t.peer))?;
    match t.old {
        Some(old) => o.state(key!("old"), old)?,
        None => o.null(key!("old"))?,
    }
    o.state(key!("new"), t.new)?;
    o.value(key!("in_old_us"), &in_old_ns.map(|ns| ns / 1000))?;
    word_or_null(&mut o, key!("by"), t.by.as_ref().map(By::key))?;
    o.value(key!("by_call"), &t.by_call)?;
    actor(&mut o, key!("process"), t.by.as_ref().and_then(By::actor))?;
    member(&mut o, identity)?;
    o.end();
    out.push(b'\n');
    Ok(())
}

/// Appends one life as a JSON line.
///
/// # Errors
/// Never: a buffer takes everything.
pub fn write_life_json(out: &mut Vec<u8>, life: &Life) -> io::Result<()> {
    let (opened, opener) = match &life.opened {
        None => (None, None),
        Some(Opener::Local(actor)) => (Some("local"), actor.as_ref()),
        Some(Opener::Peer) => (Some("peer"), None),
    };
    let (closed, closer) = match &life.closed_first {
        None => (None, None),
        Some(Closer::Local(actor)) => (Some("local"), actor.as_ref()),
        Some(Closer::Peer) => (Some("peer"), None),
        Some(Closer::Abort) => (Some("abort"), None),
    };
    let mut o = Object::begin(out);
    o.word(key!("type"), "life")?;
    connection(&mut o, life.at_us, life.netns, life.family, life.cookie, (life.local, life.peer))?;
    word_or_null(&mut o, key!("opened_by"), opened)?;
    actor(&mut o, key!("opener"), opener)?;
    word_or_null(&mut o, key!("closed_first"), closed)?;
    actor(&mut o, key!("closer"), closer)?;
    word_or_null(&mut o, key!("ended"), life.ended.map(End::key))?;
    word_or_null(&mut o, key!("ended_by"), life.ended_by.map(EndedBy::key))?;
    let errno = if let Some(EndedBy::Error(errno)) = life.ended_by { Some(errno) } else { None };
    o.value(key!("errno"), &errno.map(|errno| errno.to_string()))?;
    let reason = if let Some(EndedBy::ResetSent(reason)) = life.ended_by { reason } else { None };
    word_or_null(&mut o, key!("reset_reason"), reason.map(ResetReason::key))?;
    o.value(key!("inferred"), &life.inferred)?;
    o.value(key!("duration_us"), &life.duration_ns.map(|ns| ns / 1000))?;
    o.value(key!("sent_bytes"), &life.traffic.map(|t| t.sent_bytes))?;
    o.value(key!("received_bytes"), &life.traffic.and_then(|t| t.received_bytes))?;
    let states = o.key(key!("states"));
    states.push(b'[');
    for (i, (state, ns)) in life.states.iter().enumerate() {
        if i > 0 {
            states.push(b',');
        }
        let mut step = Object::begin(states);
        step.state(key!("state"), *state)?;
        step.value(key!("duration_us"), &(ns / 1000))?;
        step.end();
    }
    states.push(b']');
    o.value(key!("complete"), &life.complete)?;
    member(&mut o, life.identity.as_deref())?;
    o.end();
    out.push(b'\n');
    Ok(())
}

/// What a line about a reset or a repeated segment says beside where it happened.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// `reset_sent`, `reset_received` or `retransmit`.
    pub kind: &'static str,
    pub at: Sighting,
    pub reason: Option<ResetReason>,
    pub errno: Option<Errno>,
}

impl Fault {
    /// The fault that an event is; `None` for a change of state.
    #[must_use]
    pub fn of(event: &Event) -> Option<Fault> {
        let fault = |kind, at: &Sighting| Fault { kind, at: *at, reason: None, errno: None };
        match event {
            Event::Change(_) => None,
            Event::ResetSent(reset) => Some(Fault { reason: reset.reason, ..fault("reset_sent", &reset.at) }),
            Event::ResetReceived(reset) => Some(fault("reset_received", &reset.at)),
            Event::Retransmit(again) => Some(Fault { errno: again.failed, ..fault("retransmit", &again.at) }),
        }
    }
}

impl Fault {
    /// As a filter judges it: a change to the state in which the socket is.
    #[must_use]
    pub fn as_change(&self) -> Transition {
        let at = self.at;
        Transition {
            at_us: at.at_us,
            monotonic_ns: at.monotonic_ns,
            netns: at.netns,
            cookie: at.cookie,
            address: at.address,
            family: at.family,
            local: at.local,
            peer: at.peer,
            old: at.state,
            new: at.state.unwrap_or(State::Close),
            by: at.by,
            by_call: false,
            traffic: None,
            error: None,
        }
    }
}

/// Appends a reset or a repeated segment as a JSON line.
///
/// # Errors
/// Never: a buffer takes everything.
pub fn write_fault_json(out: &mut Vec<u8>, fault: &Fault, identity: Option<&Identity>) -> io::Result<()> {
    let at = &fault.at;
    let mut o = Object::begin(out);
    o.word(key!("type"), fault.kind)?;
    connection(&mut o, at.at_us, at.netns, at.family, at.cookie, (at.local, at.peer))?;
    match at.state {
        Some(state) => o.state(key!("state"), state)?,
        None => o.null(key!("state"))?,
    }
    word_or_null(&mut o, key!("reset_reason"), fault.reason.map(ResetReason::key))?;
    o.value(key!("errno"), &fault.errno.map(|errno| errno.to_string()))?;
    word_or_null(&mut o, key!("by"), at.by.as_ref().map(By::key))?;
    actor(&mut o, key!("process"), at.by.as_ref().and_then(By::actor))?;
    member(&mut o, identity)?;
    o.end();
    out.push(b'\n');
    Ok(())
}

/// Unit, container and pod of this end; null where there is none, or none is known.
fn member(o: &mut Object<'_>, identity: Option<&Identity>) -> io::Result<()> {
    o.value(key!("unit"), &identity.and_then(|i| i.unit.as_deref()))?;
    o.value(key!("container"), &identity.and_then(Identity::container_label))?;
    o.value(key!("container_id"), &identity.and_then(|i| i.container.as_deref()))?;
    o.value(key!("pod"), &identity.and_then(Identity::pod_label))
}

/// The connection of a line.
fn connection(
    o: &mut Object<'_>,
    at_us: i64,
    netns: Option<NetnsId>,
    family: Family,
    cookie: Option<u64>,
    (local, peer): (Endpoint, Endpoint),
) -> io::Result<()> {
    match jiff::Timestamp::from_microsecond(at_us) {
        Ok(at) => io::Write::write_fmt(o.key(key!("at")), format_args!("\"{at}\""))?,
        Err(_) => o.null(key!("at"))?,
    }
    o.value(key!("netns"), &netns.map(NetnsId::get))?;
    o.word(key!("family"), family.key())?;
    o.hex(key!("cookie"), cookie)?;
    o.endpoint(key!("local"), local)?;
    o.endpoint(key!("peer"), peer)
}

fn word_or_null(o: &mut Object<'_>, key: &'static str, word: Option<&'static str>) -> io::Result<()> {
    match word {
        Some(word) => o.word(key, word),
        None => o.null(key),
    }
}

fn actor(o: &mut Object<'_>, key: &'static str, actor: Option<&Actor>) -> io::Result<()> {
    let Some(actor) = actor else {
        return o.null(key);
    };
    let mut inner = Object::begin(o.key(key));
    inner.value(key!("pid"), &actor.pid)?;
    inner.value(key!("comm"), &*actor.comm.text())?;
    inner.end();
    Ok(())
}

/// The matrix as the fields of a JSON line.
#[must_use]
pub fn matrix_json(matrix: &Matrix, duration_ms: u64) -> Map<String, Json> {
    let rows: Vec<Json> = by_count(matrix)
        .into_iter()
        .map(|((old, new), count)| {
            let old = old.map(|n| state(State::from_kernel(n)));
            json!({ "old": old, "new": state(State::from_kernel(new)), "count": count })
        })
        .collect();
    object(json!({ "duration_ms": duration_ms, "transitions": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_take_any_name_and_tell_unknown_from_zero() {
        let comm = "a\"b\\\u{1b}[31m".to_owned();
        let unknown = Transition {
            at_us: 0,
            monotonic_ns: 0,
            netns: None,
            cookie: None,
            address: Some(1),
            family: Family::V6,
            local: Endpoint::new("::1".parse().unwrap(), 0),
            peer: Endpoint::new("::1".parse().unwrap(), 80),
            old: None,
            new: State::Unknown(14),
            by: None,
            by_call: false,
            traffic: None,
            error: None,
        };
        let parse = |t: &Transition| -> Json {
            let mut out = Vec::new();
            write_change_json(&mut out, t, None, None).unwrap();
            assert_eq!(out.pop(), Some(b'\n'));
            serde_json::from_slice(&out).unwrap()
        };
        let json = parse(&unknown);
        assert_eq!(
            (&json["at"], &json["new"]),
            (&json!("1970-01-01T00:00:00Z"), &json!(State::Unknown(14).to_string()))
        );
        for key in ["netns", "cookie", "old", "in_old_us", "by", "process", "container", "pod", "unit"] {
            assert!(json[key].is_null() && json.get(key).is_some(), "{key}: {json}");
        }
        let known = Transition {
            by: Some(By::Process(Actor { pid: 7, comm: comm.as_str().into() })),
            cookie: Some(31),
            ..unknown
        };
        let json = parse(&known);
        assert_eq!((&json["process"], &json["by"]), (&json!({ "pid": 7, "comm": comm }), &json!("process")));
        assert_eq!((&json["cookie"], json["local"]["port"].as_u64()), (&json!("0x1f"), Some(0)));
    }
}
