//! One socket of schema 1.
//!
//! Comes in: a row. Goes out: its JSON, appended to a buffer. `list --json` spends its own time here, so keys are written as
//! they are (they need no escapes), and nothing is allocated. Never here: which rows.

use std::io;

use crate::model::cgroup::Runtime;
use crate::model::column::Row;
use crate::model::{Inode, NetnsId};
use crate::render::json::object::{Object, key};

/// Appends a socket, with its `type` first if it is a line of its own.
pub(super) fn write(out: &mut Vec<u8>, kind: Option<&'static str>, row: &Row<'_>) -> io::Result<()> {
    let s = row.socket;
    let mut object = Object::begin(out);
    if let Some(kind) = kind {
        object.word(key!("type"), kind);
    }
    object.value(key!("netns"), &s.netns.map(NetnsId::get))?;
    object.word(key!("family"), s.family.key());
    object.state(key!("state"), s.state)?;
    object.word(key!("kind"), s.kind.key());
    object.endpoint(key!("local"), s.local)?;
    object.endpoint(key!("peer"), s.peer)?;
    object.value(key!("ifindex"), &s.ifindex)?;
    object.value(key!("recv_q_bytes"), &s.recv_q_bytes)?;
    object.value(key!("send_q_bytes"), &s.send_q_bytes)?;
    object.value(key!("uid"), &s.uid)?;
    object.value(key!("inode"), &s.inode.map_or(0, Inode::get))?;
    object.hex(key!("cookie"), s.cookie);
    match &s.timer {
        None => object.null(key!("timer")),
        Some(timer) => {
            let mut inner = Object::begin(object.key(key!("timer")));
            inner.word(key!("kind"), timer.kind.key());
            inner.value(key!("remaining_ms"), &timer.remaining_ms)?;
            inner.value(key!("retransmits"), &timer.retransmits)?;
            inner.end();
        }
    }
    object.value(key!("shutdown"), &s.shutdown)?;
    object.value(key!("v6only"), &s.v6only)?;
    object.value(key!("mark"), &s.mark)?;
    object.hex(key!("cgroup_id"), s.cgroup);
    owners(object.key(key!("owners")), row)?;
    object.word(key!("owner_status"), row.status.key());
    if let Some(user) = row.kernel_user() {
        let mut inner = Object::begin(object.key(key!("kernel_user")));
        inner.value(key!("name"), &user.name)?;
        inner.value(key!("confidence"), &user.confidence)?;
        inner.value(key!("reason"), &user.reason)?;
        inner.end();
    }
    match s.state_age() {
        None => object.null(key!("state_age_ms")),
        Some(age) => {
            let mut inner = Object::begin(object.key(key!("state_age_ms")));
            inner.value(key!("min"), &age.min_ms)?;
            inner.value(key!("max"), &age.max_ms)?;
            inner.end();
        }
    }
    if let Some(congestion) = &s.congestion {
        object.value(key!("congestion"), congestion.as_str())?;
    }
    if let Some(tos) = s.tos {
        object.value(key!("tos"), &tos)?;
    }
    if let Some(tclass) = s.tclass {
        object.value(key!("tclass"), &tclass)?;
    }
    if let Some(m) = &s.skmem {
        let mut inner = Object::begin(object.key(key!("skmem")));
        inner.value(key!("rmem_alloc_bytes"), &m.rmem_alloc_bytes)?;
        inner.value(key!("rcvbuf_bytes"), &m.rcvbuf_bytes)?;
        inner.value(key!("wmem_alloc_bytes"), &m.wmem_alloc_bytes)?;
        inner.value(key!("sndbuf_bytes"), &m.sndbuf_bytes)?;
        inner.value(key!("fwd_alloc_bytes"), &m.fwd_alloc_bytes)?;
        inner.value(key!("wmem_queued_bytes"), &m.wmem_queued_bytes)?;
        inner.value(key!("optmem_bytes"), &m.optmem_bytes)?;
        inner.value(key!("backlog_bytes"), &m.backlog_bytes)?;
        inner.value(key!("drops"), &m.drops)?;
        inner.end();
    }
    if let Some(info) = &s.info {
        let mut inner = Object::begin(object.key(key!("tcp_info")));
        let mut written = Ok(());
        info.for_each(|name, value| {
            if written.is_ok() {
                written = inner.named(name, value);
            }
        });
        written?;
        inner.end();
    }
    object.end();
    Ok(())
}

fn owners(out: &mut Vec<u8>, row: &Row<'_>) -> io::Result<()> {
    out.push(b'[');
    for (i, holder) in row.holders.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let p = row.owners.process(holder);
        let mut owner = Object::begin(out);
        owner.value(key!("pid"), &p.pid)?;
        owner.value(key!("comm"), &p.comm)?;
        owner.value(key!("fd"), &holder.fd)?;
        owner.value(key!("uid"), &p.uid)?;
        owner.value(key!("unit"), &p.identity.unit)?;
        owner.value(key!("container"), &p.identity.container_label())?;
        owner.value(key!("container_id"), &p.identity.container)?;
        owner.value(key!("runtime"), &p.identity.runtime.and_then(Runtime::key))?;
        owner.value(key!("pod"), &p.identity.pod_label())?;
        owner.value(key!("pod_uid"), &p.identity.pod)?;
        owner.end();
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::model::column::NoNames;
    use crate::model::socket::Timer;
    use crate::model::{Endpoint, Holder, OwnerTable, Process, RowKind, Socket, State, TcpInfo, TimerKind};

    fn parse(kind: Option<&'static str>, row: &Row<'_>) -> Json {
        let mut out = Vec::new();
        write(&mut out, kind, row).unwrap();
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
    }

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
        let json = parse(None, &row);
        assert_eq!(json["local"], json!({ "addr": "192.168.100.9", "port": 443 }));
        assert_eq!(json["cookie"], "0xffffffffffffffff");
        assert_eq!(json["state_age_ms"], json!({ "min": 59_000, "max": null }));
        assert_eq!(json["owner_status"], "not_collected");
        assert!(json["uid"].is_null() && json["netns"].is_null() && json["send_q_bytes"].is_null());
        assert!(json.get("tcp_info").is_none());
    }

    #[test]
    fn names_may_hold_anything_and_ids_keep_every_bit() {
        let holder = Holder { inode: Inode::new(7), process: 0, fd: 3 };
        let comm = "a\"b\\\u{1b}[31m\u{fffd}".to_owned();
        let owners =
            OwnerTable::new(vec![Process { pid: 1, comm: comm.clone(), ..Process::default() }], vec![holder], 0);
        for (id, text) in [(0, "0x0"), (0xf, "0xf"), (0x10, "0x10"), (1 << 63, "0x8000000000000000")] {
            let socket = Socket {
                state: State::Unknown(14),
                inode: Inode::new(7),
                cgroup: Some(id),
                info: Some(TcpInfo::default().into()),
                ..Socket::default()
            };
            let json = parse(Some("socket"), &Row::new(&socket, &owners, &NoNames));
            assert_eq!((&json["cgroup_id"], &json["type"]), (&json!(text), &json!("socket")));
            assert_eq!(json["owners"][0]["comm"], json!(comm));
            assert_eq!(json["state"], json!(State::Unknown(14).to_string()));
            assert_eq!(json["tcp_info"].as_object().unwrap().len(), TcpInfo::FIELDS.len());
        }
    }
}
