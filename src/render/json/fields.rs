//! The table of what a socket has in schema 1.
//!
//! Each line is a key, its type, and what writes its value. The JSON Schema is a loop over the tables; the writers are made
//! from the same lines as straight code, since `list --json` spends its own time here: a table of function pointers costs
//! 40 % more instructions. Keys need no escapes, and nothing is allocated.

use std::io;

use crate::model::cgroup::Runtime;
use crate::model::column::{Row, Type};
use crate::model::exposure::Exposure;
use crate::model::kernel_user::KernelUser;
use crate::model::socket::{AgeBracket, SkMem, Timer};
use crate::model::tcp_info::reading;
use crate::model::{Family, Inode, NetnsId, OwnerStatus, Process, RowKind, TcpInfo, TimerKind};
use crate::render::json::object::{Object, key};

/// A key of an object.
pub struct Field {
    /// As [`key!`] writes it.
    pub key: &'static str,
    pub ty: Type,
    pub presence: Presence,
}

/// Whether the key is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// With a value.
    Always,
    /// With a value or `null`.
    OrNull,
    /// If it was requested and the kernel reports it.
    Sometimes,
}

impl Field {
    /// The bare key.
    pub fn name(&self) -> &'static str {
        &self.key[2..self.key.len() - 2]
    }
}

/// A table of fields, and the function that appends them to an object.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident, $write:ident($object:ident, $key:ident, $($part:ident: $of:ty),+):
        $($presence:ident $field:literal, $ty:expr => $body:expr;)+
    ) => {
        $(#[$doc])*
        pub static $name: &[Field] = &[$(Field { key: key!($field), ty: $ty, presence: Presence::$presence }),+];

        /// Appends these fields.
        #[inline]
        pub fn $write($object: &mut Object<'_>, $($part: $of),+) -> io::Result<()> {
            $({
                let $key = key!($field);
                $body?;
            })+
            Ok(())
        }
    };
}

/// Appends an object whose fields one of the functions below writes.
#[inline]
pub fn part(out: &mut Vec<u8>, fields: impl FnOnce(&mut Object<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut object = Object::begin(out);
    fields(&mut object)?;
    object.end();
    Ok(())
}

table! {
    /// A socket.
    SOCKET, socket(o, k, r: &Row<'_>):
    OrNull "netns", Type::Integer => o.value(k, &r.socket.netns.map(NetnsId::get));
    Always "family", Type::Word(|| Family::ALL.map(Family::key).into()) => {
        o.word(k, r.socket.family.key())
    };
    Always "state", Type::Text => o.state(k, r.socket.state);
    Always "kind", Type::Word(|| RowKind::ALL.map(RowKind::key).into()) => {
        o.word(k, r.socket.kind.key())
    };
    Always "local", Type::Endpoint => o.endpoint(k, r.socket.local);
    Always "peer", Type::Endpoint => o.endpoint(k, r.socket.peer);
    OrNull "ifindex", Type::Integer => o.value(k, &r.socket.ifindex);
    Always "recv_q_bytes", Type::Integer => o.value(k, &r.socket.recv_q_bytes);
    OrNull "send_q_bytes", Type::Integer => o.value(k, &r.socket.send_q_bytes);
    OrNull "uid", Type::Integer => o.value(k, &r.socket.uid);
    OrNull "inode", Type::Integer => o.value(k, &r.socket.inode.map_or(Some(0), Inode::told));
    OrNull "cookie", Type::Id => o.hex(k, r.socket.cookie);
    OrNull "timer", Type::Timer => match &r.socket.timer {
        None => o.null(k),
        Some(t) => part(o.key(k), |o| timer(o, t)),
    };
    OrNull "shutdown", Type::Integer => o.value(k, &r.socket.shutdown);
    OrNull "v6only", Type::Flag => o.value(k, &r.socket.v6only);
    Sometimes "exposure", Type::Word(|| Exposure::ALL.map(Exposure::key).into()) => match Exposure::of(r.socket) {
        None => Ok(()),
        Some(exposure) => o.word(k, exposure.key()),
    };
    OrNull "bind_address_no_port", Type::Flag => o.value(k, &r.socket.bind_address_no_port());
    OrNull "mark", Type::Integer => o.value(k, &r.socket.mark);
    OrNull "cgroup_id", Type::Id => o.hex(k, r.socket.cgroup);
    Always "owners", Type::Owners => owners(o.key(k), r);
    Always "owner_status", Type::Word(|| OwnerStatus::ALL.map(OwnerStatus::key).into()) => {
        o.word(k, r.status.key())
    };
    Sometimes "kernel_user", Type::KernelUser => match r.kernel_user() {
        None => Ok(()),
        Some(user) => part(o.key(k), |o| kernel_user(o, &user)),
    };
    OrNull "state_age_ms", Type::Age => match &r.socket.state_age() {
        None => o.null(k),
        Some(bracket) => part(o.key(k), |o| age(o, bracket)),
    };
    Sometimes "congestion", Type::Text => match &r.socket.congestion {
        None => Ok(()),
        Some(name) => o.value(k, name.as_str()),
    };
    Sometimes "tos", Type::Integer => r.socket.tos.map_or(Ok(()), |tos| o.value(k, &tos));
    Sometimes "tclass", Type::Integer => r.socket.tclass.map_or(Ok(()), |tclass| o.value(k, &tclass));
    Sometimes "skmem", Type::SkMem => match &r.socket.skmem {
        None => Ok(()),
        Some(m) => part(o.key(k), |o| skmem(o, m)),
    };
    Sometimes "ulp", Type::Flag => r.socket.has_ulp().map_or(Ok(()), |ulp| o.value(k, &ulp));
    Sometimes "tcp_info", Type::TcpInfo => match &r.socket.info {
        None => Ok(()),
        Some(info) => tcp_info(o.key(k), info),
    };
}

table! {
    TIMER, timer(o, k, t: &Timer):
    Always "kind", Type::Word(|| TimerKind::ALL.map(TimerKind::key).into()) => o.word(k, t.kind.key());
    Always "remaining_ms", Type::Integer => o.value(k, &t.remaining_ms);
    Always "retransmits", Type::Integer => o.value(k, &t.retransmits);
}

table! {
    KERNEL_USER, kernel_user(o, k, user: &KernelUser):
    Always "name", Type::Text => o.value(k, &user.name);
    Always "confidence", Type::Share => o.value(k, &user.confidence);
    Always "reason", Type::Text => o.value(k, &user.reason);
}

table! {
    AGE, age(o, k, age: &AgeBracket):
    Always "min", Type::Integer => o.value(k, &age.min_ms);
    OrNull "max", Type::Integer => o.value(k, &age.max_ms);
}

table! {
    SKMEM, skmem(o, k, m: &SkMem):
    OrNull "rmem_alloc_bytes", Type::Integer => o.value(k, &m.rmem_alloc_bytes);
    OrNull "rcvbuf_bytes", Type::Integer => o.value(k, &m.rcvbuf_bytes);
    OrNull "wmem_alloc_bytes", Type::Integer => o.value(k, &m.wmem_alloc_bytes);
    OrNull "sndbuf_bytes", Type::Integer => o.value(k, &m.sndbuf_bytes);
    OrNull "fwd_alloc_bytes", Type::Integer => o.value(k, &m.fwd_alloc_bytes);
    OrNull "wmem_queued_bytes", Type::Integer => o.value(k, &m.wmem_queued_bytes);
    OrNull "optmem_bytes", Type::Integer => o.value(k, &m.optmem_bytes);
    OrNull "backlog_bytes", Type::Integer => o.value(k, &m.backlog_bytes);
    OrNull "drops", Type::Integer => o.value(k, &m.drops);
}

table! {
    /// What a `tcp_info` field would lose as `null`: that there is no limit.
    UNLIMITED, unlimited(o, k, info: &TcpInfo):
    OrNull "pacing_rate_unlimited", Type::Flag => {
        o.value(k, &reading::pacing_rate_bytes_per_s(info).is_unlimited())
    };
    OrNull "max_pacing_rate_unlimited", Type::Flag => {
        o.value(k, &reading::max_pacing_rate_bytes_per_s(info).is_unlimited())
    };
}

table! {
    /// A process that holds the socket.
    OWNER, owner(o, k, p: &Process, fd: u32):
    Always "pid", Type::Integer => o.value(k, &p.pid);
    Always "comm", Type::Text => o.value(k, &p.comm);
    Always "fd", Type::Integer => o.value(k, &fd);
    OrNull "uid", Type::Integer => o.value(k, &p.uid);
    OrNull "unit", Type::Text => o.value(k, &p.identity.unit);
    OrNull "container", Type::Text => o.value(k, &p.identity.container_label());
    OrNull "container_id", Type::Text => o.value(k, &p.identity.container);
    OrNull "runtime", Type::Text => o.value(k, &p.identity.runtime.and_then(Runtime::key));
    OrNull "pod", Type::Text => o.value(k, &p.identity.pod_label());
    OrNull "pod_uid", Type::Text => o.value(k, &p.identity.pod);
}

/// Appends the list of the processes that hold the socket.
pub fn owners(out: &mut Vec<u8>, row: &Row<'_>) -> io::Result<()> {
    out.push(b'[');
    for (i, holder) in row.holders.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let process = row.owners.process(holder);
        part(out, |o| owner(o, process, holder.fd))?;
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
    unlimited(&mut inner, info)?;
    inner.end();
    Ok(())
}
