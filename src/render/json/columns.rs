//! The chosen columns of a row as one flat object. The column table has the key and type of each.

use std::io::{self, Write};

use crate::model::Holder;
use crate::model::column::{Column, Row, Type, Value};
use crate::render::json::fields::{self, part};
use crate::render::json::object::{self, Object};

/// Columns with their keys as they are written.
pub struct Projection(Vec<(String, &'static Column)>);

impl Projection {
    pub fn new(columns: &[&'static Column]) -> Projection {
        Projection(columns.iter().map(|column| (format!(",\"{}\":", column.json.key), *column)).collect())
    }

    /// Appends the object, with its `type` first if it has a line of its own.
    pub fn write(&self, out: &mut Vec<u8>, kind: Option<&'static str>, row: &Row<'_>) -> io::Result<()> {
        let mut object = Object::begin(out);
        if let Some(kind) = kind {
            object.word(object::key!("type"), kind)?;
        }
        for (key, column) in &self.0 {
            write(object.key(key), column.json.ty, &(column.get)(row), row)?;
        }
        object.end();
        Ok(())
    }
}

fn write(out: &mut Vec<u8>, ty: Type, value: &Value<'_>, row: &Row<'_>) -> io::Result<()> {
    match ty {
        Type::Owners => fields::owners(out, row),
        Type::KernelUser => match &row.kernel_user() {
            Some(user) => part(out, |o| fields::kernel_user(o, user)),
            None => null(out),
        },
        Type::Texts | Type::Integers => match value {
            Value::Each(holders, owners, get) => {
                let values = holders.iter().map(|holder: &Holder| get(owners.process(holder), holder.fd));
                list(out, values, row)
            }
            // From the socket itself, which no process holds.
            Value::Unknown | Value::Absent => list(out, [].into_iter(), row),
            one => list(out, [one.clone()].into_iter(), row),
        },
        _ => scalar(out, ty, value),
    }
}

/// A list is `null` when it is empty only because no process could be seen.
fn list<'v>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Value<'v>>, row: &Row<'_>) -> io::Result<()> {
    if values.len() == 0 && !row.status.holders_are_known() {
        return null(out);
    }
    out.push(b'[');
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        scalar(out, Type::Text, &value)?;
    }
    out.push(b']');
    Ok(())
}

fn scalar(out: &mut Vec<u8>, ty: Type, value: &Value<'_>) -> io::Result<()> {
    match value {
        Value::Number(id) if matches!(ty, Type::Id) => object::write_hex(out, *id),
        Value::Named(_, name) if matches!(ty, Type::Text) => serde_json::to_writer(out, &name.as_deref())?,
        Value::Number(n) | Value::Named(n, _) => serde_json::to_writer(out, n)?,
        Value::Flag(flag) => serde_json::to_writer(out, flag)?,
        Value::Text(text) => serde_json::to_writer(out, text.as_ref())?,
        Value::State(state) => object::write_state(out, *state)?,
        Value::Addr(addr) => {
            out.push(b'"');
            object::write_address(out, *addr)?;
            out.push(b'"');
        }
        Value::Endpoint(endpoint, _) => object::write_endpoint(out, *endpoint)?,
        Value::Age(age) => part(out, |o| fields::age(o, age))?,
        Value::Unknown | Value::Absent | Value::Unlimited | Value::Each(..) | Value::Holders(..) | Value::Actor(_) => {
            null(out)?;
        }
    }
    Ok(())
}

fn null(out: &mut Vec<u8>) -> io::Result<()> {
    out.write_all(b"null")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::model::column::{COLUMNS, NoNames, Whole};
    use crate::model::socket::Congestion;
    use crate::model::{
        Endpoint, Inode, NetnsId, OwnerTable, Process, SkMem, Socket, State, TcpInfo, Timer, TimerKind,
    };
    use crate::render::json::socket;

    fn parse(out: &[u8]) -> Json {
        serde_json::from_slice(out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(out)))
    }

    fn chosen(row: &Row<'_>, names: &[&str]) -> Json {
        let columns: Vec<&Column> = COLUMNS.iter().filter(|c| names.is_empty() || names.contains(&c.name)).collect();
        let mut out = Vec::new();
        Projection::new(&columns).write(&mut out, None, row).unwrap();
        parse(&out)
    }

    /// The value at a path of a whole socket; `[]` collects one of every element.
    fn at(json: &Json, path: &str) -> Json {
        match path.split_once("[].") {
            Some((list, key)) => json[list].as_array().unwrap().iter().map(|one| one[key].clone()).collect(),
            None => path.split('.').fold(json, |json, key| &json[key]).clone(),
        }
    }

    /// A connection with something in every field.
    fn full() -> (Socket, OwnerTable) {
        let mut info = TcpInfo::default();
        for (i, field) in TcpInfo::FIELDS.iter().enumerate() {
            assert!(info.set(field, 1 + i as u64), "{field}");
        }
        let socket = Socket {
            netns: NetnsId::new(4_026_531_840),
            state: State::CloseWait,
            local: Endpoint::new("192.0.2.1".parse().unwrap(), 443),
            peer: Endpoint::new("2001:db8::1".parse().unwrap(), 50_000),
            ifindex: Some(3),
            cookie: Some(0xabc),
            timer: Some(Timer { kind: TimerKind::Keepalive, remaining_ms: 5, retransmits: 1 }),
            recv_q_bytes: 1,
            send_q_bytes: Some(2),
            uid: Some(33),
            inode: Inode::new(7),
            shutdown: Some(1),
            v6only: Some(true),
            mark: Some(9),
            cgroup: Some(0x1f2),
            sockopt: Some(0x100),
            tos: Some(8),
            tclass: Some(4),
            congestion: Some(Congestion::new(b"cubic")),
            skmem: Some(SkMem { drops: Some(3), ..SkMem::default() }),
            ulp: true,
            info: Some(info.into()),
            ..Socket::default()
        };
        let processes = [1, 2].map(|pid| Process { pid, comm: "a\"b".into(), ..Process::default() });
        let holders = vec![
            Holder { inode: Inode::new(7), process: 0, fd: 3 },
            Holder { inode: Inode::new(7), process: 1, fd: 4 },
        ];
        (socket, OwnerTable::new(processes.into(), holders, 0))
    }

    #[test]
    fn a_column_has_the_value_of_the_whole_socket() {
        let (socket, owners) = full();
        let row = Row::new(&socket, &owners, &NoNames);
        let mut out = Vec::new();
        socket::write(&mut out, None, false, &row).unwrap();
        let (whole, flat) = (parse(&out), chosen(&row, &[]));
        assert_eq!(flat.as_object().unwrap().len(), COLUMNS.len());
        for column in COLUMNS {
            let Whole::At(path) = column.json.whole else { continue };
            assert_eq!(flat[column.json.key], at(&whole, path), "{}", column.name);
            // Its owner is known here, so the kernel user is empty; it does not listen, and is of no named host. Everything else has
            // a value.
            let none = ["kernel_user", "exposure", "host"].contains(&column.json.key);
            assert_eq!(flat[column.json.key].is_null(), none, "{}", column.name);
        }
        assert_eq!((&flat["pids"], &flat["units"]), (&json!([1, 2]), &json!([null, null])));
        assert_eq!(flat["snd_cwnd"], at(&whole, "tcp_info.snd_cwnd"));
        let listener = Socket { state: State::Listen, ..socket };
        let row = Row::new(&listener, &owners, &NoNames);
        out.clear();
        socket::write(&mut out, None, false, &row).unwrap();
        let exposure = json!("reserved");
        assert_eq!((&parse(&out)["exposure"], &chosen(&row, &["exposure"])["exposure"]), (&exposure, &exposure));
    }

    #[test]
    fn unknown_and_unlimited_are_null_and_distinct() {
        let mut info = TcpInfo::default();
        assert!(info.set("max_pacing_rate_bytes_per_s", u64::MAX) && info.set("snd_ssthresh", 0x7fff_ffff));
        let socket =
            Socket { state: State::Established, inode: Inode::new(7), info: Some(info.into()), ..Socket::default() };
        let owners = OwnerTable::default();
        let row = Row::new(&socket, &owners, &NoNames);
        let flat = chosen(&row, &["max-pacing-rate", "max-pacing-rate-unlimited", "ssthresh", "delivery-rate", "pid"]);
        assert_eq!(
            flat,
            json!({ "max_pacing_rate_bytes_per_s": null, "max_pacing_rate_unlimited": true, "snd_ssthresh": null,
                    "delivery_rate_bytes_per_s": null, "pids": null })
        );
        let mut out = Vec::new();
        socket::write(&mut out, None, false, &row).unwrap();
        let whole = parse(&out);
        assert!(
            whole["tcp_info"]["max_pacing_rate_bytes_per_s"].is_null() && whole["tcp_info"]["snd_ssthresh"].is_null()
        );
        assert_eq!(whole["tcp_info"]["max_pacing_rate_unlimited"], true);
        let bare = Socket { info: None, ..socket };
        let flat = chosen(&Row::new(&bare, &owners, &NoNames), &["max-pacing-rate-unlimited", "ulp"]);
        assert_eq!(flat, json!({ "max_pacing_rate_unlimited": null, "ulp": null }));
    }
}
