//! THE column table: every value of a row that can be shown, sorted by or filtered on.
//!
//! Comes in: a [`Row`]. Goes out: a [`Value`] of a known [`Kind`]. Alignment, units, JSON type and the operators of the
//! filter language follow from the kind, so a new column is one line of [`COLUMNS`]. Never here: formatting.
//!
//! The table lives in the model and not in `render` because the filter language uses it too.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use crate::model::addr::Endpoint;
use crate::model::cgroup::{self, Identity, Runtime};
use crate::model::kernel_user::{self, KernelUser};
use crate::model::owner::{Holder, OwnerStatus, OwnerTable, Process};
use crate::model::socket::{AgeBracket, RowKind, Socket};
use crate::model::state::State;

/// Names for kernel numbers. The edge that may look them up implements it; the model only asks.
pub trait Names {
    /// Login name of a user id.
    fn user(&self, uid: u32) -> Option<Rc<str>>;
    /// Name of a network interface of a namespace.
    fn interface(&self, netns: u64, ifindex: u32) -> Option<Rc<str>>;
    /// Path of a cgroup v2 directory by its id.
    fn cgroup(&self, id: u64) -> Option<Rc<str>>;
    /// Unit, container and pod by the same id.
    fn identity(&self, id: u64) -> Option<Rc<Identity>> {
        self.cgroup(id).map(|path| Rc::new(cgroup::of_path(&path)))
    }
    /// Name of a network namespace by its inode.
    fn netns(&self, inode: u64) -> Option<Rc<str>>;
    /// What in the kernel uses a socket that no process holds.
    fn kernel_user(&self, socket: &Socket) -> Option<KernelUser> {
        kernel_user::find(socket, &[])
    }
}

/// Names nothing: numbers stay numbers.
pub struct NoNames;

impl Names for NoNames {
    fn user(&self, _: u32) -> Option<Rc<str>> {
        None
    }
    fn interface(&self, _: u64, _: u32) -> Option<Rc<str>> {
        None
    }
    fn cgroup(&self, _: u64) -> Option<Rc<str>> {
        None
    }
    fn netns(&self, _: u64) -> Option<Rc<str>> {
        None
    }
}

/// A socket with its owners, as columns see it.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub socket: &'a Socket,
    pub status: OwnerStatus,
    pub holders: &'a [Holder],
    pub owners: &'a OwnerTable,
    pub names: &'a dyn Names,
}

impl<'a> Row<'a> {
    #[must_use]
    pub fn new(socket: &'a Socket, owners: &'a OwnerTable, names: &'a dyn Names) -> Row<'a> {
        let (status, holders) = owners.of(socket);
        Row { socket, status, holders, owners, names }
    }

    /// What in the kernel uses the socket, if no process does and something speaks for it.
    #[must_use]
    pub fn kernel_user(&self) -> Option<KernelUser> {
        match self.status {
            OwnerStatus::Kernel => self.names.kernel_user(self.socket),
            OwnerStatus::NoPermission => self.names.kernel_user(self.socket)?.unless_hidden(),
            _ => None,
        }
    }

    /// The first holder's process: the one to name when there is room for one.
    #[must_use]
    pub fn first_process(&self) -> Option<&'a Process> {
        self.holders.first().map(|h| self.owners.process(h))
    }
}

/// What a column gives for one row.
#[derive(Clone)]
pub enum Value<'a> {
    /// The source does not tell: printed as `?`, `null` in JSON, sorted last.
    Unknown,
    /// There is no such thing for this row (no timer runs): printed as `-`, `null` in JSON.
    Absent,
    Number(u64),
    Flag(bool),
    Text(Cow<'a, str>),
    Name(Rc<str>),
    State(State),
    Addr(IpAddr),
    Endpoint(Endpoint, Option<Rc<str>>),
    Age(AgeBracket),
    /// One value per holder of the socket.
    Each(&'a [Holder], &'a OwnerTable, fn(&'a Process, u32) -> Value<'a>),
    /// Every holder as `comm(pid,fd=N)`, or the reason for none.
    Holders(&'a [Holder], &'a OwnerTable, OwnerStatus),
}

impl<'a> Value<'a> {
    fn number<N: Into<u64>>(value: Option<N>) -> Value<'a> {
        value.map_or(Value::Unknown, |v| Value::Number(v.into()))
    }

    fn flag(value: Option<bool>) -> Value<'a> {
        value.map_or(Value::Unknown, Value::Flag)
    }
}

/// What a value is: decides alignment, unit, JSON type and filter operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    State,
    Endpoint,
    Address,
    Port,
    Count,
    Bytes,
    Millis,
    Micros,
    BytesPerSecond,
    Flag,
    /// A plain number that is not counted: pid, uid, inode.
    Number,
    /// A 64-bit id, printed as hex.
    Id,
    Age,
}

impl Kind {
    /// Whether tables align it to the right.
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        !matches!(self, Kind::Text | Kind::State | Kind::Endpoint | Kind::Address | Kind::Flag)
    }

    /// The word for the kind in `--list-columns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::State => "state",
            Kind::Endpoint => "endpoint",
            Kind::Address => "address",
            Kind::Port => "port",
            Kind::Count => "count",
            Kind::Bytes => "bytes",
            Kind::Millis => "ms",
            Kind::Micros => "us",
            Kind::BytesPerSecond => "bytes/s",
            Kind::Flag => "flag",
            Kind::Number => "number",
            Kind::Id => "id",
            Kind::Age => "age",
        }
    }
}

/// What a column needs beyond the 72 bytes that every row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Needs {
    /// `INET_DIAG_INFO` (`struct tcp_info`).
    pub info: bool,
    /// The time in the state, for states where `tcp_info` tells it: CLOSE_WAIT.
    pub age: bool,
    /// `INET_DIAG_SKMEMINFO`.
    pub skmem: bool,
    /// `INET_DIAG_CONG`.
    pub congestion: bool,
    /// `INET_DIAG_TOS` and `INET_DIAG_TCLASS`.
    pub tos: bool,
    /// The processes that hold the socket.
    pub owners: bool,
    /// Their cgroups: unit, container, pod.
    pub cgroups: bool,
}

impl Needs {
    pub const NONE: Needs =
        Needs { info: false, age: false, skmem: false, congestion: false, tos: false, owners: false, cgroups: false };
    pub const INFO: Needs = Needs { info: true, ..Needs::NONE };
    pub const SKMEM: Needs = Needs { skmem: true, ..Needs::NONE };
    pub const CONGESTION: Needs = Needs { congestion: true, ..Needs::NONE };
    pub const TOS: Needs = Needs { tos: true, ..Needs::NONE };
    pub const OWNERS: Needs = Needs { owners: true, ..Needs::NONE };
    pub const CGROUPS: Needs = Needs { owners: true, cgroups: true, ..Needs::NONE };

    #[must_use]
    pub const fn union(self, other: Needs) -> Needs {
        Needs {
            info: self.info || other.info,
            age: self.age || other.age,
            skmem: self.skmem || other.skmem,
            congestion: self.congestion || other.congestion,
            tos: self.tos || other.tos,
            owners: self.owners || other.owners,
            cgroups: self.cgroups || other.cgroups,
        }
    }
}

/// Which letter of `list` adds a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Shown by default.
    Default,
    /// `-p`.
    Process,
    /// `-o`.
    Timer,
    /// `-e`.
    Extended,
    /// `-m`.
    Memory,
    /// `-i`.
    Info,
    /// By name only.
    Other,
}

/// One column.
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub group: Group,
    pub needs: Needs,
    pub help: &'static str,
    pub get: for<'a> fn(&Row<'a>) -> Value<'a>,
}

const fn column(
    name: &'static str,
    kind: Kind,
    group: Group,
    needs: Needs,
    help: &'static str,
    get: for<'a> fn(&Row<'a>) -> Value<'a>,
) -> Column {
    Column { name, kind, group, needs, help, get }
}

/// A column over a `tcp_info` field.
macro_rules! info {
    ($name:literal, $kind:ident, $group:ident, $field:ident, $help:literal) => {
        info!($name, $kind, $group, $field, $help, |_, _| false)
    };
    ($name:literal, $kind:ident, $group:ident, $field:ident, $help:literal, $means_none:expr) => {
        column($name, Kind::$kind, Group::$group, Needs::INFO, $help, |r| {
            // A listener has the structure and no connection: what stands in it are the values to begin with. What is no
            // full socket has not even the structure.
            let connected = !matches!(r.socket.kind, RowKind::TimeWaitMini | RowKind::Request | RowKind::BoundInactive);
            if !connected || r.socket.state == State::Listen {
                return Value::Absent;
            }
            let means_none: fn(&Socket, u64) -> bool = $means_none;
            match r.socket.info.as_ref().and_then(|info| info.$field()) {
                Some(value) if means_none(r.socket, value.into()) => Value::Absent,
                value => Value::number(value),
            }
        })
    };
}

/// Nothing has been measured yet.
const ZERO: fn(&Socket, u64) -> bool = |_, value| value == 0;
/// Not measured, or without a limit: all bits are set.
const ONES_32: fn(&Socket, u64) -> bool = |_, value| value == 0xffff_ffff;
const ONES_64: fn(&Socket, u64) -> bool = |_, value| value == u64::MAX;
/// `TCP_INFINITE_SSTHRESH`: no loss yet that would have set it.
const NO_LOSS_YET: fn(&Socket, u64) -> bool = |_, value| value == 0x7fff_ffff;
/// Counted from a moment that has not been: the kernel subtracts zero from its clock.
const IN_SYN_SENT: fn(&Socket, u64) -> bool = |socket, _| socket.state == State::SynSent;

/// A column over a socket memory field.
macro_rules! skmem {
    ($name:literal, $field:ident, $help:literal) => {
        column($name, Kind::Bytes, Group::Memory, Needs::SKMEM, $help, |r| {
            Value::number(r.socket.skmem.map(|m| m.$field))
        })
    };
}

fn scope(row: &Row<'_>) -> Option<Rc<str>> {
    match row.socket.ifindex {
        None | Some(0) => None,
        Some(index) => row.names.interface(row.socket.netns, index).or_else(|| Some(index.to_string().into())),
    }
}

/// What the socket's own cgroup tells where no process holds it: an orphan, or one that waits to be accepted.
fn identity<'a>(row: &Row<'a>, part: for<'i> fn(&'i Identity) -> Option<&'i str>) -> Value<'a> {
    let identity = row.socket.cgroup.and_then(|id| row.names.identity(id));
    identity.as_deref().and_then(part).map_or(Value::Absent, |name| Value::Text(name.to_owned().into()))
}

/// A part of the identity of every holder, else of the socket.
macro_rules! whose {
    ($row:expr, $part:expr) => {{
        if $row.holders.is_empty() {
            return identity($row, $part);
        }
        Value::Each($row.holders, $row.owners, |p, _| {
            let part: for<'i> fn(&'i Identity) -> Option<&'i str> = $part;
            part(&p.identity).map_or(Value::Absent, |text| Value::Text(text.into()))
        })
    }};
}

/// Every column, in the order in which `--list-columns` and `-i`, `-m`, `-e` show them.
pub static COLUMNS: &[Column] = &[
    column("state", Kind::State, Group::Default, Needs::NONE, "state of the TCP state machine", |r| {
        Value::State(r.socket.state)
    }),
    column(
        "recv-q",
        Kind::Bytes,
        Group::Default,
        Needs::NONE,
        "unread bytes (a FIN counts as one); on LISTEN the connections waiting for accept()",
        |r| Value::Number(r.socket.recv_q_bytes.into()),
    ),
    column(
        "send-q",
        Kind::Bytes,
        Group::Default,
        Needs::NONE,
        "unacknowledged and unsent bytes; on LISTEN the backlog limit",
        |r| Value::number(r.socket.send_q_bytes),
    ),
    column("local", Kind::Endpoint, Group::Default, Needs::NONE, "local address and port", |r| {
        Value::Endpoint(r.socket.local, scope(r))
    }),
    column("peer", Kind::Endpoint, Group::Default, Needs::NONE, "peer address and port", |r| {
        Value::Endpoint(r.socket.peer, None)
    }),
    column(
        "process",
        Kind::Text,
        Group::Process,
        Needs::OWNERS,
        "every process that holds the socket, with pid and descriptor, or why there is none",
        |r| match r.kernel_user() {
            Some(user) => Value::Text(user.label().into()),
            None => Value::Holders(r.holders, r.owners, r.status),
        },
    ),
    column("local-addr", Kind::Address, Group::Other, Needs::NONE, "local address", |r| {
        Value::Addr(r.socket.local.addr)
    }),
    column("local-port", Kind::Port, Group::Other, Needs::NONE, "local port", |r| {
        Value::Number(r.socket.local.port.into())
    }),
    column("peer-addr", Kind::Address, Group::Other, Needs::NONE, "peer address", |r| Value::Addr(r.socket.peer.addr)),
    column("peer-port", Kind::Port, Group::Other, Needs::NONE, "peer port", |r| {
        Value::Number(r.socket.peer.port.into())
    }),
    column("family", Kind::Text, Group::Other, Needs::NONE, "address family of the row: ipv4 or ipv6", |r| {
        Value::Text(r.socket.family.key().into())
    }),
    column(
        "kind",
        Kind::Text,
        Group::Other,
        Needs::NONE,
        "kernel object: full, time_wait_mini, request or bound_inactive",
        |r| Value::Text(r.socket.kind.key().into()),
    ),
    column("netns", Kind::Number, Group::Other, Needs::NONE, "network namespace (inode, or its name)", |r| {
        if r.socket.netns == 0 {
            return Value::Unknown;
        }
        r.names.netns(r.socket.netns).map_or(Value::Number(r.socket.netns), Value::Name)
    }),
    column("pid", Kind::Number, Group::Other, Needs::OWNERS, "process ids that hold the socket", |r| {
        Value::Each(r.holders, r.owners, |p, _| Value::Number(p.pid.into()))
    }),
    column("comm", Kind::Text, Group::Other, Needs::OWNERS, "names of the processes that hold the socket", |r| {
        Value::Each(r.holders, r.owners, |p, _| Value::Text(p.comm.as_str().into()))
    }),
    column("fd", Kind::Number, Group::Other, Needs::OWNERS, "descriptor numbers in those processes", |r| {
        Value::Each(r.holders, r.owners, |_, fd| Value::Number(fd.into()))
    }),
    column("unit", Kind::Text, Group::Other, Needs::CGROUPS, "systemd unit of the process, else of the socket", |r| {
        whose!(r, |i| i.unit.as_deref())
    }),
    column(
        "container",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        "container of the process, else of the socket, by name or id (of a docker-proxy: behind it)",
        |r| whose!(r, Identity::container_label),
    ),
    column("container-id", Kind::Text, Group::Other, Needs::CGROUPS, "the same by its id", |r| {
        whose!(r, |i| i.container.as_deref())
    }),
    column("runtime", Kind::Text, Group::Other, Needs::CGROUPS, "runtime that made the container", |r| {
        whose!(r, |i| i.runtime.and_then(Runtime::key))
    }),
    column(
        "pod",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        "Kubernetes pod of the process, else of the socket: namespace and name, or uid",
        |r| whose!(r, Identity::pod_label),
    ),
    column("pod-uid", Kind::Text, Group::Other, Needs::CGROUPS, "the same by its uid", |r| {
        whose!(r, |i| i.pod.as_deref())
    }),
    column(
        "kernel-user",
        Kind::Text,
        Group::Other,
        Needs::OWNERS,
        "what in the kernel uses a socket that no process holds, how certain, and why",
        |r| {
            r.kernel_user().map_or(Value::Absent, |user| {
                let percent = (user.confidence * 100.0).round();
                Value::Text(format!("{} ({percent} %: {})", user.name, user.reason).into())
            })
        },
    ),
    column("owner-status", Kind::Text, Group::Other, Needs::OWNERS, "known, or why no process can be named", |r| {
        Value::Text(r.status.key().into())
    }),
    column(
        "timer",
        Kind::Text,
        Group::Timer,
        Needs::NONE,
        "timer that runs: retransmit, keepalive, time_wait, zero_window_probe",
        |r| r.socket.timer.map_or(Value::Absent, |t| Value::Text(t.kind.key().into())),
    ),
    column("timer-remaining", Kind::Millis, Group::Timer, Needs::NONE, "time until that timer fires", |r| {
        r.socket.timer.map_or(Value::Absent, |t| Value::Number(t.remaining_ms.into()))
    }),
    column(
        "retransmits",
        Kind::Count,
        Group::Timer,
        Needs::NONE,
        "retransmissions of the oldest segment, or unanswered probes",
        |r| r.socket.timer.map_or(Value::Absent, |t| Value::Number(t.retransmits.into())),
    ),
    column(
        "age",
        Kind::Age,
        Group::Extended,
        Needs::INFO,
        "time in the state, where one look can tell: exact, at least, or between two bounds",
        |r| r.socket.state_age().map_or(Value::Unknown, Value::Age),
    ),
    column("user", Kind::Text, Group::Extended, Needs::NONE, "user that owns the socket", |r| match r.socket.uid {
        None => Value::Absent,
        Some(uid) => r.names.user(uid).map_or_else(|| Value::Text(uid.to_string().into()), Value::Name),
    }),
    column("uid", Kind::Number, Group::Other, Needs::NONE, "user id that owns the socket", |r| match r.socket.uid {
        None => Value::Absent,
        Some(uid) => Value::Number(uid.into()),
    }),
    column("inode", Kind::Number, Group::Extended, Needs::NONE, "inode of the socket file, 0 for none", |r| {
        Value::Number(r.socket.inode)
    }),
    column("cookie", Kind::Id, Group::Extended, Needs::NONE, "socket cookie; it survives into TIME_WAIT", |r| {
        Value::number(r.socket.cookie)
    }),
    column("shutdown", Kind::Number, Group::Extended, Needs::NONE, "1 receive side, 2 send side, 3 both", |r| {
        r.socket.shutdown.map_or(Value::Absent, |s| Value::Number(s.into()))
    }),
    column("cgroup", Kind::Text, Group::Extended, Needs::NONE, "cgroup v2 of the socket", |r| match r.socket.cgroup {
        None => Value::Absent,
        Some(id) => r.names.cgroup(id).map_or_else(|| Value::Text(id.to_string().into()), Value::Name),
    }),
    column("ifindex", Kind::Number, Group::Other, Needs::NONE, "interface index it is tied to, 0 for none", |r| {
        Value::number(r.socket.ifindex)
    }),
    column("dev", Kind::Text, Group::Other, Needs::NONE, "interface it is tied to", |r| {
        scope(r).map_or(Value::Absent, Value::Name)
    }),
    column("v6only", Kind::Flag, Group::Other, Needs::NONE, "IPV6_V6ONLY is set", |r| match r.socket.v6only {
        None => Value::Absent,
        Some(flag) => Value::Flag(flag),
    }),
    column("mark", Kind::Number, Group::Other, Needs::NONE, "SO_MARK; told only to CAP_NET_ADMIN", |r| {
        Value::number(r.socket.mark)
    }),
    column("bind-no-port", Kind::Flag, Group::Other, Needs::NONE, "IP_BIND_ADDRESS_NO_PORT is set", |r| {
        Value::flag(r.socket.bind_address_no_port())
    }),
    column("ulp", Kind::Flag, Group::Other, Needs::NONE, "kTLS or MPTCP sits on the socket", |r| {
        Value::Flag(r.socket.ulp)
    }),
    column("tos", Kind::Number, Group::Other, Needs::TOS, "IP type of service", |r| Value::number(r.socket.tos)),
    column("tclass", Kind::Number, Group::Other, Needs::TOS, "IPv6 traffic class", |r| Value::number(r.socket.tclass)),
    skmem!("rmem", rmem_alloc_bytes, "memory held by received data"),
    skmem!("rcvbuf", rcvbuf_bytes, "limit of the receive buffer"),
    skmem!("wmem", wmem_alloc_bytes, "memory held by packets on their way out"),
    skmem!("sndbuf", sndbuf_bytes, "limit of the send buffer"),
    skmem!("fwd-alloc", fwd_alloc_bytes, "memory reserved in advance"),
    skmem!("wmem-queued", wmem_queued_bytes, "memory held by the send queue"),
    skmem!("optmem", optmem_bytes, "memory for options"),
    skmem!("sock-backlog", backlog_bytes, "memory in the socket's packet backlog"),
    column(
        "drops",
        Kind::Count,
        Group::Memory,
        Needs::SKMEM,
        "segments dropped by this socket; on LISTEN its own queue drops",
        |r| Value::number(r.socket.skmem.and_then(|m| m.drops)),
    ),
    column("congestion", Kind::Text, Group::Info, Needs::CONGESTION, "congestion control algorithm", |r| {
        match &r.socket.congestion {
            Some(name) => Value::Text(Cow::Owned(name.as_str().to_owned())),
            None => Value::Unknown,
        }
    }),
    info!("rtt", Micros, Info, rtt_us, "smoothed round-trip time", ZERO),
    info!("rttvar", Micros, Info, rttvar_us, "variation of the round-trip time"),
    info!("min-rtt", Micros, Info, min_rtt_us, "smallest round-trip time", ONES_32),
    info!("rto", Micros, Info, rto_us, "retransmission timeout"),
    info!("ato", Micros, Other, ato_us, "delayed-ACK timeout", ZERO),
    info!("cwnd", Count, Info, snd_cwnd, "congestion window in segments"),
    info!("ssthresh", Count, Other, snd_ssthresh, "slow-start threshold in segments", NO_LOSS_YET),
    info!("mss", Bytes, Info, snd_mss_bytes, "send maximum segment size"),
    info!("rcv-mss", Bytes, Other, rcv_mss_bytes, "receive maximum segment size"),
    info!("advmss", Bytes, Other, advmss_bytes, "advertised maximum segment size"),
    info!("pmtu", Bytes, Other, pmtu_bytes, "path MTU"),
    info!("unacked", Count, Other, unacked, "segments in flight"),
    info!("sacked", Count, Other, sacked, "segments acknowledged selectively"),
    info!("lost", Count, Info, lost, "segments thought lost"),
    info!("retrans", Count, Other, retrans, "segments retransmitted and not yet acknowledged"),
    info!("total-retrans", Count, Info, total_retrans, "segments retransmitted in the connection's life"),
    info!("rto-retransmits", Count, Other, retransmits, "consecutive retransmission timeouts"),
    info!("probes", Count, Other, probes, "unanswered probes"),
    info!("backoff", Count, Other, backoff, "doublings of the timeout"),
    info!("reordering", Count, Other, reordering, "reordering distance"),
    info!("last-data-sent", Millis, Info, last_data_sent_ms, "time since data was last sent", IN_SYN_SENT),
    info!("last-data-recv", Millis, Info, last_data_recv_ms, "time since data last came", IN_SYN_SENT),
    info!("last-ack-recv", Millis, Info, last_ack_recv_ms, "time since an ACK last came", IN_SYN_SENT),
    info!("bytes-sent", Bytes, Info, bytes_sent, "bytes sent, with retransmissions"),
    info!("bytes-acked", Bytes, Info, bytes_acked, "bytes acknowledged by the peer"),
    info!("bytes-received", Bytes, Info, bytes_received, "bytes received"),
    info!("bytes-retrans", Bytes, Other, bytes_retrans, "bytes retransmitted"),
    info!("notsent", Bytes, Info, notsent_bytes, "bytes written and not yet sent"),
    info!("segs-out", Count, Other, segs_out, "segments sent"),
    info!("segs-in", Count, Other, segs_in, "segments received"),
    info!("data-segs-out", Count, Other, data_segs_out, "segments with data sent"),
    info!("data-segs-in", Count, Other, data_segs_in, "segments with data received"),
    info!("pacing-rate", BytesPerSecond, Other, pacing_rate_bytes_per_s, "pacing rate", ONES_64),
    info!("delivery-rate", BytesPerSecond, Info, delivery_rate_bytes_per_s, "most recent delivery rate"),
    info!("busy", Micros, Other, busy_time_us, "time with data to send"),
    info!("rwnd-limited", Micros, Other, rwnd_limited_us, "time held back by the peer's window"),
    info!("sndbuf-limited", Micros, Other, sndbuf_limited_us, "time held back by the send buffer"),
    info!("delivered", Count, Other, delivered, "segments delivered"),
    info!("delivered-ce", Count, Other, delivered_ce, "segments delivered with a congestion mark"),
    info!("rcv-rtt", Micros, Other, rcv_rtt_us, "receiver's estimate of the round-trip time", ZERO),
    info!("rcv-space", Bytes, Other, rcv_space_bytes, "receive buffer autotuning target"),
    info!("rcv-ssthresh", Bytes, Other, rcv_ssthresh_bytes, "receive window clamp"),
    info!("dsack-dups", Count, Other, dsack_dups, "duplicates reported by the peer"),
    info!("reord-seen", Count, Other, reord_seen, "reordering events"),
    info!("rcv-ooopack", Count, Other, rcv_ooopack, "packets that came out of order"),
    info!("snd-wnd", Bytes, Info, snd_wnd_bytes, "window offered by the peer"),
    info!("rcv-wnd", Bytes, Info, rcv_wnd_bytes, "window we offer"),
    info!("rehash", Count, Other, rehash, "changes of the flow hash after timeouts"),
    info!("total-rto", Count, Other, total_rto, "timeouts in the connection's life"),
    info!("total-rto-recoveries", Count, Other, total_rto_recoveries, "recoveries from timeouts"),
    info!("total-rto-time", Millis, Other, total_rto_time_ms, "time spent in timeout recovery"),
];

/// Finds a column by name; `_` and `-` are the same, case does not matter.
#[must_use]
pub fn find(name: &str) -> Option<&'static Column> {
    let wanted = name.trim().to_ascii_lowercase().replace('_', "-");
    COLUMNS.iter().find(|c| c.name == wanted)
}

/// The column name most like a misspelt one, if any is near.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    COLUMNS
        .iter()
        .map(|c| (distance(&wanted, c.name), c.name))
        .min()
        .filter(|(d, _)| *d <= (wanted.len() / 3).max(1))
        .map(|(_, name)| name)
}

/// Edit distance of two short words.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_well_formed() {
        let mut names = HashSet::new();
        for column in COLUMNS {
            assert!(names.insert(column.name), "{} stands twice", column.name);
            assert!(column.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(!column.help.is_empty() && !column.help.ends_with('.'), "{}", column.name);
            assert!(column.help.len() <= 90, "{}: help is too long", column.name);
        }
    }

    #[test]
    fn every_column_answers_for_an_empty_socket_without_inventing_zero() {
        let socket = Socket::default();
        let owners = OwnerTable::default();
        let row = Row::new(&socket, &owners, &NoNames);
        for column in COLUMNS.iter().filter(|c| c.needs.info || c.needs.skmem) {
            assert!(matches!((column.get)(&row), Value::Unknown), "{}", column.name);
        }
    }

    #[test]
    fn what_was_never_measured_is_no_measurement() {
        let owners = OwnerTable::default();
        let shown = |socket: &Socket, name: &str| match (find(name).unwrap().get)(&Row::new(socket, &owners, &NoNames))
        {
            Value::Number(n) => Some(n),
            Value::Absent => None,
            _ => panic!("{name} is unknown"),
        };
        let mut info = crate::model::TcpInfo::default();
        for (field, value) in [
            ("rtt_us", 0),
            ("min_rtt_us", 0xffff_ffff),
            ("snd_cwnd", 10),
            ("snd_ssthresh", 0x7fff_ffff),
            ("pacing_rate_bytes_per_s", u64::MAX),
            ("last_data_sent_ms", 5),
        ] {
            assert!(info.set(field, value), "{field}");
        }
        let mut socket = Socket { state: State::SynSent, info: Some(info.into()), ..Socket::default() };
        for name in ["rtt", "min-rtt", "ssthresh", "pacing-rate", "last-data-sent"] {
            assert_eq!(shown(&socket, name), None, "{name}");
        }
        assert_eq!(shown(&socket, "cwnd"), Some(10));
        socket.state = State::Established;
        assert_eq!(shown(&socket, "last-data-sent"), Some(5));
        assert!(socket.info.as_mut().unwrap().set("rtt_us", 7));
        assert_eq!(shown(&socket, "rtt"), Some(7));
        socket.state = State::Listen;
        assert_eq!((shown(&socket, "cwnd"), shown(&socket, "rtt")), (None, None));
        let remainder = Socket { state: State::TimeWait, kind: RowKind::TimeWaitMini, ..Socket::default() };
        assert_eq!(shown(&remainder, "rtt"), None);
    }

    #[test]
    fn names_are_found_in_any_spelling_and_near_misses_are_suggested() {
        assert_eq!(find("RECV_Q").map(|c| c.name), Some("recv-q"));
        assert!(find("nonsense").is_none());
        assert_eq!(nearest("recvq"), Some("recv-q"));
        assert_eq!(nearest("zzzzzzzzzzzzzz"), None);
    }
}
