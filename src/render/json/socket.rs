//! One socket of schema 1, appended to a buffer.

use std::io;

use crate::model::column::Row;
use crate::render::json::fields;
use crate::render::json::object::{Object, key};

/// Appends a socket, with its `type` first if it has a line of its own, and its host where there are several.
pub(super) fn write(out: &mut Vec<u8>, kind: Option<&'static str>, with_host: bool, row: &Row<'_>) -> io::Result<()> {
    let mut object = Object::begin(out);
    if let Some(kind) = kind {
        object.word(key!("type"), kind)?;
    }
    if with_host {
        object.value(key!("host"), &row.names.host())?;
    }
    fields::socket(&mut object, row)?;
    object.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::model::column::NoNames;
    use crate::model::socket::Timer;
    use crate::model::{Endpoint, Holder, Inode, OwnerTable, Process, RowKind, Socket, State, TcpInfo, TimerKind};
    use crate::render::json::fields::UNLIMITED;

    fn parse(kind: Option<&'static str>, row: &Row<'_>) -> Json {
        let mut out = Vec::new();
        write(&mut out, kind, false, row).unwrap();
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
            assert_eq!(json["tcp_info"].as_object().unwrap().len(), TcpInfo::FIELDS.len() + UNLIMITED.len());
        }
    }
}
