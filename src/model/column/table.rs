//! THE column table: a new column is one line of [`COLUMNS`].

use super::get::{actor, netns, scope};
use super::identity;
use super::json::{Place, Type, apart, at, top};
use super::{Change, Column, Group, IdGetters, Kind, Needs, Row, Value};
use crate::model::addr::Family;
use crate::model::exposure::Exposure;
use crate::model::id::Inode;
use crate::model::owner::OwnerStatus;
use crate::model::socket::{Congestion, RowKind, Socket, TimerKind};
use crate::model::state::State;
use crate::model::tcp_info::{Reading, reading};

const fn column(
    name: &'static str,
    kind: Kind,
    group: Group,
    needs: Needs,
    json: Place,
    help: &'static str,
    get: for<'a> fn(&Row<'a>) -> Value<'a>,
) -> Column {
    Column { name, kind, group, needs, json: json.of(kind), help, get, of_change: None, id: None }
}

impl Column {
    /// Also sets the getter for a change of state.
    const fn and_of_change(self, get: for<'a> fn(&Change<'a>) -> Value<'a>) -> Column {
        Column { of_change: Some(get), ..self }
    }

    /// Also sets the getters for the ids of what it names.
    const fn and_id(self, ids: IdGetters) -> Column {
        Column { id: Some(ids), ..self }
    }
}

/// Whether the row is a connection with a `tcp_info`. A listener's tcp_info holds initial values, not measurements;
/// TIME_WAIT, request and bound sockets have none.
fn is_connection(socket: &Socket) -> bool {
    let full = !matches!(socket.kind, RowKind::TimeWaitMini | RowKind::Request | RowKind::BoundInactive);
    full && socket.state != State::Listen
}

/// A column over a `tcp_info` field.
macro_rules! info {
    ($name:literal, $kind:ident, $group:ident, $field:ident, $help:literal) => {
        info!($name, $kind, $group, $field, stringify!($field), $help, |_| false)
    };
    ($name:literal, $kind:ident, $group:ident, $field:ident, $help:literal, $means_none:expr) => {
        info!($name, $kind, $group, $field, stringify!($field), $help, $means_none)
    };
    ($name:literal, $kind:ident, $group:ident, $field:ident, $key:expr, $help:literal, $means_none:expr) => {
        column(
            $name,
            Kind::$kind,
            Group::$group,
            Needs::INFO,
            at($key, concat!("tcp_info.", stringify!($field))),
            $help,
            |r| {
                let means_none: fn(&Socket) -> bool = $means_none;
                if !is_connection(r.socket) || means_none(r.socket) {
                    return Value::Absent;
                }
                match r.socket.info.as_ref().map_or(Reading::Unknown, |info| reading::$field(info)) {
                    Reading::Unknown => Value::Unknown,
                    Reading::NotYet => Value::Absent,
                    Reading::Unlimited => Value::Unlimited,
                    Reading::Value(value) => Value::Number(value),
                }
            },
        )
    };
}

/// Whether a rate of `tcp_info` has no limit.
macro_rules! unlimited {
    ($name:literal, $field:ident, $key:literal, $help:literal) => {
        column($name, Kind::Flag, Group::Other, Needs::INFO, at($key, concat!("tcp_info.", $key)), $help, |r| {
            if !is_connection(r.socket) {
                return Value::Absent;
            }
            Value::flag(r.socket.info.as_ref().and_then(|info| reading::$field(info).is_unlimited()))
        })
    };
}

/// In SYN_SENT the kernel measures from time zero, so the value means nothing.
const IN_SYN_SENT: fn(&Socket) -> bool = |socket| socket.state == State::SynSent;

/// A column over a socket memory field.
macro_rules! skmem {
    ($name:literal, $field:ident, $help:literal) => {
        column(
            $name,
            Kind::Bytes,
            Group::Memory,
            Needs::SKMEM,
            at(stringify!($field), concat!("skmem.", stringify!($field))),
            $help,
            |r| Value::number(r.socket.skmem.map(|m| m.$field)),
        )
    };
}

/// Every column, in the order in which `--list-columns` and `-i`, `-m`, `-e` show them.
pub static COLUMNS: &[Column] = &[
    column("state", Kind::State, Group::Default, Needs::NONE, top("state"), "state of the TCP state machine", |r| {
        Value::State(r.socket.state)
    })
    .and_of_change(|c| Value::State(c.transition.new)),
    column(
        "recv-q",
        Kind::Bytes,
        Group::Default,
        Needs::NONE,
        top("recv_q_bytes"),
        "unread bytes (a FIN counts as one); on LISTEN the connections waiting for accept()",
        |r| Value::Number(r.socket.recv_q_bytes.into()),
    ),
    column(
        "send-q",
        Kind::Bytes,
        Group::Default,
        Needs::NONE,
        top("send_q_bytes"),
        "unacknowledged and unsent bytes; on LISTEN the backlog limit",
        |r| Value::number(r.socket.send_q_bytes),
    ),
    column("local", Kind::Endpoint, Group::Default, Needs::NONE, top("local"), "local address and port", |r| {
        Value::Endpoint(r.socket.local, scope(r))
    })
    .and_of_change(|c| Value::Endpoint(c.transition.local, None)),
    column("peer", Kind::Endpoint, Group::Default, Needs::NONE, top("peer"), "peer address and port", |r| {
        Value::Endpoint(r.socket.peer, None)
    })
    .and_of_change(|c| Value::Endpoint(c.transition.peer, None)),
    column(
        "process",
        Kind::Text,
        Group::Process,
        Needs::OWNERS,
        top("owners").is(Type::Owners),
        "every process that holds the socket, with pid and descriptor, or why there is none",
        |r| match r.kernel_user() {
            Some(user) => Value::Text(user.label().into()),
            None => Value::Holders(r.holders, r.owners, r.status),
        },
    )
    .and_of_change(|c| actor(c).map_or(Value::Unknown, Value::Actor)),
    column(
        "local-addr",
        Kind::Address,
        Group::Other,
        Needs::NONE,
        at("local_addr", "local.addr"),
        "local address",
        |r| Value::Addr(r.socket.local.addr),
    )
    .and_of_change(|c| Value::Addr(c.transition.local.addr)),
    column("local-port", Kind::Port, Group::Other, Needs::NONE, at("local_port", "local.port"), "local port", |r| {
        Value::Number(r.socket.local.port.into())
    })
    .and_of_change(|c| Value::Number(c.transition.local.port.into())),
    column("peer-addr", Kind::Address, Group::Other, Needs::NONE, at("peer_addr", "peer.addr"), "peer address", |r| {
        Value::Addr(r.socket.peer.addr)
    })
    .and_of_change(|c| Value::Addr(c.transition.peer.addr)),
    column("peer-port", Kind::Port, Group::Other, Needs::NONE, at("peer_port", "peer.port"), "peer port", |r| {
        Value::Number(r.socket.peer.port.into())
    })
    .and_of_change(|c| Value::Number(c.transition.peer.port.into())),
    column(
        "family",
        Kind::Text,
        Group::Other,
        Needs::NONE,
        top("family").is(Type::Word(|| Family::ALL.map(Family::key).into())),
        "address family of the row: ipv4 or ipv6",
        |r| Value::Text(r.socket.family.key().into()),
    )
    .and_of_change(|c| Value::Text(c.transition.family.key().into())),
    column(
        "kind",
        Kind::Text,
        Group::Other,
        Needs::NONE,
        top("kind").is(Type::Word(|| RowKind::ALL.map(RowKind::key).into())),
        "kernel object: full, time_wait_mini, request or bound_inactive",
        |r| Value::Text(r.socket.kind.key().into()),
    ),
    column(
        "netns",
        Kind::Number,
        Group::Other,
        Needs::NONE,
        top("netns"),
        "network namespace (inode, or its name)",
        |r| netns(r.socket.netns, r.names),
    )
    .and_of_change(|c| netns(c.transition.netns, c.names)),
    column(
        "host",
        Kind::Text,
        Group::Other,
        Needs::NONE,
        top("host"),
        "host of the socket: this one, or the one that was recorded",
        |r| r.names.host().map_or(Value::Unknown, |host| Value::Text(host.into())),
    )
    .and_of_change(|c| c.names.host().map_or(Value::Unknown, |host| Value::Text(host.into()))),
    column(
        "pid",
        Kind::Number,
        Group::Other,
        Needs::OWNERS,
        at("pids", "owners[].pid").is(Type::Integers),
        "process ids that hold the socket",
        |r| Value::Each(r.holders, r.owners, |p, _| Value::Number(p.pid.into())),
    )
    .and_of_change(|c| Value::number(actor(c).map(|a| a.pid))),
    column(
        "comm",
        Kind::Text,
        Group::Other,
        Needs::OWNERS,
        at("comms", "owners[].comm").is(Type::Texts),
        "names of the processes that hold the socket",
        |r| Value::Each(r.holders, r.owners, |p, _| Value::Text(p.comm.as_str().into())),
    )
    .and_of_change(|c| actor(c).map_or(Value::Unknown, |a| Value::Text(a.comm.text()))),
    column(
        "fd",
        Kind::Number,
        Group::Other,
        Needs::OWNERS,
        at("fds", "owners[].fd").is(Type::Integers),
        "descriptor numbers in those processes",
        |r| Value::Each(r.holders, r.owners, |_, fd| Value::Number(fd.into())),
    ),
    column(
        "unit",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        at("units", "owners[].unit").is(Type::Texts),
        "systemd unit of the process, else of the socket",
        identity::unit,
    )
    .and_of_change(identity::unit_of_change),
    column(
        "container",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        at("containers", "owners[].container").is(Type::Texts),
        "container of the process, else of the socket, by name or id (published port: behind it)",
        identity::container,
    )
    .and_of_change(identity::container_of_change)
    .and_id((identity::container_id, identity::container_id_of_change)),
    column(
        "container-id",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        at("container_ids", "owners[].container_id").is(Type::Texts),
        "the same by its id",
        identity::container_id,
    )
    .and_of_change(identity::container_id_of_change)
    .and_id((identity::container_id, identity::container_id_of_change)),
    column(
        "runtime",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        at("runtimes", "owners[].runtime").is(Type::Texts),
        "runtime that made the container",
        identity::runtime,
    )
    .and_of_change(identity::runtime_of_change),
    column(
        "pod",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        at("pods", "owners[].pod").is(Type::Texts),
        "Kubernetes pod of the process, else of the socket: namespace and name, or uid",
        identity::pod,
    )
    .and_of_change(identity::pod_of_change)
    .and_id((identity::pod_uid, identity::pod_uid_of_change)),
    column(
        "pod-uid",
        Kind::Text,
        Group::Other,
        Needs::CGROUPS,
        at("pod_uids", "owners[].pod_uid").is(Type::Texts),
        "the same by its uid",
        identity::pod_uid,
    )
    .and_of_change(identity::pod_uid_of_change)
    .and_id((identity::pod_uid, identity::pod_uid_of_change)),
    column(
        "kernel-user",
        Kind::Text,
        Group::Other,
        Needs::OWNERS,
        top("kernel_user").is(Type::KernelUser),
        "what in the kernel uses a socket that no process holds, how certain, and why",
        |r| {
            r.kernel_user().map_or(Value::Absent, |user| {
                let percent = (user.confidence * 100.0).round();
                Value::Text(format!("{} ({percent} %: {})", user.name, user.reason).into())
            })
        },
    ),
    column(
        "owner-status",
        Kind::Text,
        Group::Other,
        Needs::OWNERS,
        top("owner_status").is(Type::Word(|| OwnerStatus::ALL.map(OwnerStatus::key).into())),
        "known, or why no process can be named",
        |r| Value::Text(r.status.key().into()),
    ),
    column(
        "timer",
        Kind::Text,
        Group::Timer,
        Needs::NONE,
        at("timer_kind", "timer.kind").is(Type::Word(|| TimerKind::ALL.map(TimerKind::key).into())),
        "timer that runs: retransmit, keepalive, time_wait, zero_window_probe",
        |r| r.socket.timer.map_or(Value::Absent, |t| Value::Text(t.kind.key().into())),
    ),
    column(
        "timer-remaining",
        Kind::Millis,
        Group::Timer,
        Needs::NONE,
        at("timer_remaining_ms", "timer.remaining_ms"),
        "time until that timer fires",
        |r| r.socket.timer.map_or(Value::Absent, |t| Value::Number(t.remaining_ms.into())),
    ),
    column(
        "retransmits",
        Kind::Count,
        Group::Timer,
        Needs::NONE,
        at("timer_retransmits", "timer.retransmits"),
        "retransmissions of the oldest segment, or unanswered probes",
        |r| r.socket.timer.map_or(Value::Absent, |t| Value::Number(t.retransmits.into())),
    ),
    column(
        "age",
        Kind::Age,
        Group::Extended,
        Needs::INFO,
        top("state_age_ms"),
        "time in the state, if one sample shows it: exact, at least, or between two bounds",
        |r| r.socket.state_age().map_or(Value::Unknown, Value::Age),
    ),
    column(
        "user",
        Kind::Text,
        Group::Extended,
        Needs::NONE,
        apart("user", "the name of `uid` on this host"),
        "user that owns the socket",
        |r| match r.socket.uid {
            None => Value::Absent,
            Some(uid) => Value::Named(uid.into(), r.names.user(uid)),
        },
    ),
    column("uid", Kind::Number, Group::Other, Needs::NONE, top("uid"), "user id that owns the socket", |r| {
        match r.socket.uid {
            None => Value::Absent,
            Some(uid) => Value::Number(uid.into()),
        }
    }),
    column(
        "inode",
        Kind::Number,
        Group::Extended,
        Needs::NONE,
        top("inode"),
        "inode of the socket file, 0 for none",
        |r| r.socket.inode.map_or(Some(0), Inode::told).map_or(Value::Unknown, Value::Number),
    ),
    column(
        "cookie",
        Kind::Id,
        Group::Extended,
        Needs::NONE,
        top("cookie"),
        "socket cookie; it survives into TIME_WAIT",
        |r| Value::number(r.socket.cookie),
    )
    .and_of_change(|c| Value::number(c.transition.cookie)),
    column(
        "shutdown",
        Kind::Number,
        Group::Extended,
        Needs::NONE,
        top("shutdown"),
        "1 receive side, 2 send side, 3 both",
        |r| r.socket.shutdown.map_or(Value::Absent, |s| Value::Number(s.into())),
    ),
    column(
        "cgroup",
        Kind::Text,
        Group::Extended,
        Needs::NONE,
        apart("cgroup", "the path of `cgroup_id` on this host"),
        "cgroup v2 of the socket",
        |r| match (r.socket.cgroup, r.socket.kind) {
            (Some(id), _) => Value::Named(id, r.names.cgroup(id)),
            (None, RowKind::TimeWaitMini | RowKind::Request) => Value::Absent,
            (None, RowKind::Full | RowKind::BoundInactive) => Value::Unknown,
        },
    ),
    column(
        "ifindex",
        Kind::Number,
        Group::Other,
        Needs::NONE,
        top("ifindex"),
        "interface index it is tied to, 0 for none",
        |r| Value::number(r.socket.ifindex),
    ),
    column(
        "dev",
        Kind::Text,
        Group::Other,
        Needs::NONE,
        apart("dev", "the name of `ifindex` on this host"),
        "interface it is tied to",
        |r| match r.socket.ifindex {
            None => Value::Unknown,
            Some(0) => Value::Absent,
            Some(index) => Value::Named(index.into(), r.names.interface(r.socket.netns, index)),
        },
    ),
    column("v6only", Kind::Flag, Group::Other, Needs::NONE, top("v6only"), "IPV6_V6ONLY is set", |r| {
        match r.socket.v6only {
            None => Value::Absent,
            Some(flag) => Value::Flag(flag),
        }
    }),
    column(
        "exposure",
        Kind::Text,
        Group::Other,
        Needs::NONE,
        top("exposure").is(Type::Word(|| Exposure::ALL.map(Exposure::key).into())),
        "on LISTEN the range of its bound address, not what a firewall lets through",
        |r| Exposure::of(r.socket).map_or(Value::Absent, |e| Value::Text(e.key().into())),
    ),
    column(
        "mark",
        Kind::Number,
        Group::Other,
        Needs::NONE,
        top("mark"),
        "SO_MARK; visible only with CAP_NET_ADMIN",
        |r| Value::number(r.socket.mark),
    ),
    column(
        "bind-no-port",
        Kind::Flag,
        Group::Other,
        Needs::NONE,
        top("bind_address_no_port"),
        "IP_BIND_ADDRESS_NO_PORT is set",
        |r| Value::flag(r.socket.bind_address_no_port()),
    ),
    column("ulp", Kind::Flag, Group::Other, Needs::INFO, top("ulp"), "kTLS or MPTCP sits on the socket", |r| {
        match r.socket.kind {
            RowKind::TimeWaitMini | RowKind::Request => Value::Absent,
            RowKind::Full | RowKind::BoundInactive => Value::flag(r.socket.has_ulp()),
        }
    }),
    column("tos", Kind::Number, Group::Other, Needs::TOS, top("tos"), "IP type of service", |r| {
        Value::number(r.socket.tos)
    }),
    column("tclass", Kind::Number, Group::Other, Needs::TOS, top("tclass"), "IPv6 traffic class", |r| {
        Value::number(r.socket.tclass)
    }),
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
        at("drops", "skmem.drops"),
        "segments dropped by this socket; on LISTEN its own queue drops",
        |r| Value::number(r.socket.skmem.and_then(|m| m.drops)),
    ),
    column(
        "congestion",
        Kind::Text,
        Group::Info,
        Needs::CONGESTION,
        top("congestion"),
        "congestion control algorithm",
        |r| {
            let congestion: Option<&Congestion> = r.socket.congestion.as_ref();
            congestion.map_or(Value::Unknown, |name| Value::Text(name.as_str().into()))
        },
    ),
    info!("rtt", Micros, Info, rtt_us, "smoothed round-trip time"),
    info!("rttvar", Micros, Info, rttvar_us, "variation of the round-trip time"),
    info!("min-rtt", Micros, Info, min_rtt_us, "smallest round-trip time"),
    info!("rto", Micros, Info, rto_us, "retransmission timeout"),
    info!("ato", Micros, Other, ato_us, "delayed-ACK timeout"),
    info!("cwnd", Count, Info, snd_cwnd, "congestion window in segments"),
    info!("ssthresh", Count, Other, snd_ssthresh, "slow-start threshold in segments"),
    info!("mss", Bytes, Info, snd_mss_bytes, "send maximum segment size"),
    info!("rcv-mss", Bytes, Other, rcv_mss_bytes, "receive maximum segment size"),
    info!("advmss", Bytes, Other, advmss_bytes, "advertised maximum segment size"),
    info!("pmtu", Bytes, Other, pmtu_bytes, "path MTU"),
    info!("unacked", Count, Other, unacked, "segments in flight"),
    info!("sacked", Count, Other, sacked, "segments acknowledged selectively"),
    info!("lost", Count, Info, lost, "segments thought lost"),
    info!("retrans", Count, Other, retrans, "segments retransmitted and not yet acknowledged"),
    info!("total-retrans", Count, Info, total_retrans, "segments retransmitted in the connection's life"),
    info!(
        "rto-retransmits",
        Count,
        Other,
        retransmits,
        "rto_retransmits",
        "consecutive retransmission timeouts",
        |_| false
    ),
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
    info!("pacing-rate", BytesPerSecond, Other, pacing_rate_bytes_per_s, "pacing rate"),
    unlimited!(
        "pacing-rate-unlimited",
        pacing_rate_bytes_per_s,
        "pacing_rate_unlimited",
        "the pacing rate has no limit"
    ),
    info!("max-pacing-rate", BytesPerSecond, Other, max_pacing_rate_bytes_per_s, "limit of the pacing rate"),
    unlimited!(
        "max-pacing-rate-unlimited",
        max_pacing_rate_bytes_per_s,
        "max_pacing_rate_unlimited",
        "SO_MAX_PACING_RATE is not set"
    ),
    info!("delivery-rate", BytesPerSecond, Info, delivery_rate_bytes_per_s, "most recent delivery rate"),
    info!("busy", Micros, Other, busy_time_us, "time with data to send"),
    info!("rwnd-limited", Micros, Other, rwnd_limited_us, "time held back by the peer's window"),
    info!("sndbuf-limited", Micros, Other, sndbuf_limited_us, "time held back by the send buffer"),
    info!("delivered", Count, Other, delivered, "segments delivered"),
    info!("delivered-ce", Count, Other, delivered_ce, "segments delivered with a congestion mark"),
    info!("rcv-rtt", Micros, Other, rcv_rtt_us, "receiver's estimate of the round-trip time"),
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
