//! The table of what a socket has in schema 1.
//!
//! Input: a row. Output: each key with its type and with what writes its value. The writer and the JSON Schema are loops over
//! these tables. `list --json` spends its own time here: keys are written as they are (they need no escapes), and nothing is
//! allocated.

use std::io;

use crate::model::cgroup::Runtime;
use crate::model::column::{Row, Type};
use crate::model::kernel_user::KernelUser;
use crate::model::socket::{AgeBracket, SkMem, Timer};
use crate::model::tcp_info::reading;
use crate::model::{Family, Inode, NetnsId, OwnerStatus, Process, RowKind, TcpInfo, TimerKind};
use crate::render::json::object::{Object, key};

/// A key of an object: `W` writes its value.
pub struct Field<W: 'static> {
    /// As [`key!`] writes it.
    pub key: &'static str,
    pub ty: Type,
    pub presence: Presence,
    pub write: W,
}

/// Whether the key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// With a value.
    Always,
    /// With a value or `null`.
    OrNull,
    /// If it was asked for and the kernel reports it.
    Sometimes,
}

impl<W> Field<W> {
    /// The key without what is written around it.
    pub fn name(&self) -> &'static str {
        &self.key[2..self.key.len() - 2]
    }
}

/// Writes a value of a row under its key, or nothing at all.
pub type OfRow = for<'a, 'o> fn(&mut Object<'o>, &'static str, &Row<'a>) -> io::Result<()>;
/// The same of a process that holds the socket by this descriptor.
pub type OfOwner = for<'o> fn(&mut Object<'o>, &'static str, &Process, u32) -> io::Result<()>;
/// The same of a part of the row.
pub type Of<T> = for<'o> fn(&mut Object<'o>, &'static str, &T) -> io::Result<()>;

const fn always<W>(key: &'static str, ty: Type, write: W) -> Field<W> {
    Field { key, ty, presence: Presence::Always, write }
}

const fn or_null<W>(key: &'static str, ty: Type, write: W) -> Field<W> {
    Field { key, ty, presence: Presence::OrNull, write }
}

const fn sometimes<W>(key: &'static str, ty: Type, write: W) -> Field<W> {
    Field { key, ty, presence: Presence::Sometimes, write }
}

/// Appends an object of a part of the row.
pub fn part<T>(out: &mut Vec<u8>, fields: &[Field<Of<T>>], part: &T) -> io::Result<()> {
    let mut object = Object::begin(out);
    for field in fields {
        (field.write)(&mut object, field.key, part)?;
    }
    object.end();
    Ok(())
}

/// A socket.
pub static SOCKET: [Field<OfRow>; 28] = [
    or_null(key!("netns"), Type::Integer, |o, k, r| o.value(k, &r.socket.netns.map(NetnsId::get))),
    always(key!("family"), Type::Word(|| Family::ALL.map(Family::key).into()), |o, k, r| {
        o.word(k, r.socket.family.key())
    }),
    always(key!("state"), Type::Text, |o, k, r| o.state(k, r.socket.state)),
    always(key!("kind"), Type::Word(|| RowKind::ALL.map(RowKind::key).into()), |o, k, r| {
        o.word(k, r.socket.kind.key())
    }),
    always(key!("local"), Type::Endpoint, |o, k, r| o.endpoint(k, r.socket.local)),
    always(key!("peer"), Type::Endpoint, |o, k, r| o.endpoint(k, r.socket.peer)),
    or_null(key!("ifindex"), Type::Integer, |o, k, r| o.value(k, &r.socket.ifindex)),
    always(key!("recv_q_bytes"), Type::Integer, |o, k, r| o.value(k, &r.socket.recv_q_bytes)),
    or_null(key!("send_q_bytes"), Type::Integer, |o, k, r| o.value(k, &r.socket.send_q_bytes)),
    or_null(key!("uid"), Type::Integer, |o, k, r| o.value(k, &r.socket.uid)),
    always(key!("inode"), Type::Integer, |o, k, r| o.value(k, &r.socket.inode.map_or(0, Inode::get))),
    or_null(key!("cookie"), Type::Id, |o, k, r| o.hex(k, r.socket.cookie)),
    or_null(key!("timer"), Type::Timer, |o, k, r| match &r.socket.timer {
        None => o.null(k),
        Some(timer) => part(o.key(k), &TIMER, timer),
    }),
    or_null(key!("shutdown"), Type::Integer, |o, k, r| o.value(k, &r.socket.shutdown)),
    or_null(key!("v6only"), Type::Flag, |o, k, r| o.value(k, &r.socket.v6only)),
    or_null(key!("bind_address_no_port"), Type::Flag, |o, k, r| o.value(k, &r.socket.bind_address_no_port())),
    or_null(key!("mark"), Type::Integer, |o, k, r| o.value(k, &r.socket.mark)),
    or_null(key!("cgroup_id"), Type::Id, |o, k, r| o.hex(k, r.socket.cgroup)),
    always(key!("owners"), Type::Owners, |o, k, r| owners(o.key(k), r)),
    always(key!("owner_status"), Type::Word(|| OwnerStatus::ALL.map(OwnerStatus::key).into()), |o, k, r| {
        o.word(k, r.status.key())
    }),
    sometimes(key!("kernel_user"), Type::KernelUser, |o, k, r| match r.kernel_user() {
        None => Ok(()),
        Some(user) => part(o.key(k), &KERNEL_USER, &user),
    }),
    or_null(key!("state_age_ms"), Type::Age, |o, k, r| match &r.socket.state_age() {
        None => o.null(k),
        Some(age) => part(o.key(k), &AGE, age),
    }),
    sometimes(key!("congestion"), Type::Text, |o, k, r| match &r.socket.congestion {
        None => Ok(()),
        Some(name) => o.value(k, name.as_str()),
    }),
    sometimes(key!("tos"), Type::Integer, |o, k, r| r.socket.tos.map_or(Ok(()), |tos| o.value(k, &tos))),
    sometimes(key!("tclass"), Type::Integer, |o, k, r| r.socket.tclass.map_or(Ok(()), |tclass| o.value(k, &tclass))),
    sometimes(key!("skmem"), Type::SkMem, |o, k, r| match &r.socket.skmem {
        None => Ok(()),
        Some(skmem) => part(o.key(k), &SKMEM, skmem),
    }),
    sometimes(key!("ulp"), Type::Flag, |o, k, r| r.socket.has_ulp().map_or(Ok(()), |ulp| o.value(k, &ulp))),
    sometimes(key!("tcp_info"), Type::TcpInfo, |o, k, r| match &r.socket.info {
        None => Ok(()),
        Some(info) => tcp_info(o.key(k), info),
    }),
];

pub static TIMER: [Field<Of<Timer>>; 3] = [
    always(key!("kind"), Type::Word(|| TimerKind::ALL.map(TimerKind::key).into()), |o, k, t| o.word(k, t.kind.key())),
    always(key!("remaining_ms"), Type::Integer, |o, k, t| o.value(k, &t.remaining_ms)),
    always(key!("retransmits"), Type::Integer, |o, k, t| o.value(k, &t.retransmits)),
];

pub static KERNEL_USER: [Field<Of<KernelUser>>; 3] = [
    always(key!("name"), Type::Text, |o, k, user| o.value(k, &user.name)),
    always(key!("confidence"), Type::Share, |o, k, user| o.value(k, &user.confidence)),
    always(key!("reason"), Type::Text, |o, k, user| o.value(k, &user.reason)),
];

pub static AGE: [Field<Of<AgeBracket>>; 2] = [
    always(key!("min"), Type::Integer, |o, k, age| o.value(k, &age.min_ms)),
    or_null(key!("max"), Type::Integer, |o, k, age| o.value(k, &age.max_ms)),
];

pub static SKMEM: [Field<Of<SkMem>>; 9] = [
    or_null(key!("rmem_alloc_bytes"), Type::Integer, |o, k, m| o.value(k, &m.rmem_alloc_bytes)),
    or_null(key!("rcvbuf_bytes"), Type::Integer, |o, k, m| o.value(k, &m.rcvbuf_bytes)),
    or_null(key!("wmem_alloc_bytes"), Type::Integer, |o, k, m| o.value(k, &m.wmem_alloc_bytes)),
    or_null(key!("sndbuf_bytes"), Type::Integer, |o, k, m| o.value(k, &m.sndbuf_bytes)),
    or_null(key!("fwd_alloc_bytes"), Type::Integer, |o, k, m| o.value(k, &m.fwd_alloc_bytes)),
    or_null(key!("wmem_queued_bytes"), Type::Integer, |o, k, m| o.value(k, &m.wmem_queued_bytes)),
    or_null(key!("optmem_bytes"), Type::Integer, |o, k, m| o.value(k, &m.optmem_bytes)),
    or_null(key!("backlog_bytes"), Type::Integer, |o, k, m| o.value(k, &m.backlog_bytes)),
    or_null(key!("drops"), Type::Integer, |o, k, m| o.value(k, &m.drops)),
];

/// What a field of `tcp_info` would lose as `null`: that there is no limit.
pub static UNLIMITED: [Field<Of<TcpInfo>>; 2] = [
    or_null(key!("pacing_rate_unlimited"), Type::Flag, |o, k, info| {
        o.value(k, &reading::pacing_rate_bytes_per_s(info).is_unlimited())
    }),
    or_null(key!("max_pacing_rate_unlimited"), Type::Flag, |o, k, info| {
        o.value(k, &reading::max_pacing_rate_bytes_per_s(info).is_unlimited())
    }),
];

/// A process that holds the socket.
pub static OWNER: [Field<OfOwner>; 10] = [
    always(key!("pid"), Type::Integer, |o, k, p, _| o.value(k, &p.pid)),
    always(key!("comm"), Type::Text, |o, k, p, _| o.value(k, &p.comm)),
    always(key!("fd"), Type::Integer, |o, k, _, fd| o.value(k, &fd)),
    or_null(key!("uid"), Type::Integer, |o, k, p, _| o.value(k, &p.uid)),
    or_null(key!("unit"), Type::Text, |o, k, p, _| o.value(k, &p.identity.unit)),
    or_null(key!("container"), Type::Text, |o, k, p, _| o.value(k, &p.identity.container_label())),
    or_null(key!("container_id"), Type::Text, |o, k, p, _| o.value(k, &p.identity.container)),
    or_null(key!("runtime"), Type::Text, |o, k, p, _| o.value(k, &p.identity.runtime.and_then(Runtime::key))),
    or_null(key!("pod"), Type::Text, |o, k, p, _| o.value(k, &p.identity.pod_label())),
    or_null(key!("pod_uid"), Type::Text, |o, k, p, _| o.value(k, &p.identity.pod)),
];

/// Appends the list of the processes that hold the socket.
pub fn owners(out: &mut Vec<u8>, row: &Row<'_>) -> io::Result<()> {
    out.push(b'[');
    for (i, holder) in row.holders.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let process = row.owners.process(holder);
        let mut owner = Object::begin(out);
        for field in &OWNER {
            (field.write)(&mut owner, field.key, process, holder.fd)?;
        }
        owner.end();
    }
    out.push(b']');
    Ok(())
}

fn tcp_info(out: &mut Vec<u8>, info: &TcpInfo) -> io::Result<()> {
    let mut inner = Object::begin(out);
    let mut written = Ok(());
    info.for_each_reading(|name, reading| {
        if written.is_ok() {
            written = inner.named(name, reading.value());
        }
    });
    written?;
    for field in &UNLIMITED {
        (field.write)(&mut inner, field.key, info)?;
    }
    inner.end();
    Ok(())
}
