//! The offsets that the running kernel has, for the programs of a trace.
//!
//! Input: the kernel's type information. Output: where each field is, which tracepoints there are, and what they pass. Not
//! here: the programs (`program`, `faults`).

use super::record::{RECEIVED, RETRANSMITTED, SENT};
use crate::collect::bpf::btf::{Btf, BtfError, Field, Kind, Wanted};
use crate::model::event::ResetReason;

/// The offsets that the running kernel has.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub tracepoint: u32,
    pub family: Field,
    pub num: Field,
    pub dport: Field,
    /// 4-byte addresses.
    pub local_v4: Field,
    pub peer_v4: Field,
    /// 16-byte addresses; absent from a kernel without IPv6.
    pub v6: Option<(Field, Field)>,
    pub net: Field,
    pub net_inum: Field,
    pub cookie: Field,
    pub protocol: Field,
    pub owned: Field,
    pub sport: Field,
    pub task_flags: Field,
    pub sock_flags: Field,
    pub state: Field,
    pub error: Field,
    /// In `struct tcp_sock`, and where a record has them.
    pub traffic: [(Field, i32); 3],
    pub faults: FaultPoints,
}

/// The tracepoints that some kernels lack.
#[derive(Clone, Debug)]
pub(super) struct FaultPoints {
    pub reset_sent: Option<Tracepoint>,
    pub reset_received: Option<Tracepoint>,
    pub retransmit: Option<Tracepoint>,
    /// The kernel's reasons by number (Linux 6.10).
    pub reasons: Option<Vec<(u32, ResetReason)>>,
    pub packet: Option<Packet>,
}

/// A tracepoint: its type, and how many arguments it passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracepoint {
    pub id: u32,
    pub arguments: usize,
}

/// Where the headers of a packet are (`struct sk_buff`), and its namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub head: Field,
    pub network_header: Field,
    pub transport_header: Field,
    pub device: Field,
    pub device_net: Field,
}

impl Layout {
    pub fn new(btf: &mut Btf<'_>) -> Result<Layout, BtfError> {
        let names = [
            Wanted::new(Kind::Typedef, "btf_trace_inet_sock_set_state"),
            Wanted::new(Kind::Struct, "sock"),
            Wanted::new(Kind::Struct, "tcp_sock"),
            Wanted::new(Kind::Struct, "net"),
            Wanted::new(Kind::Struct, "task_struct"),
            Wanted::new(Kind::Struct, "sk_buff"),
            Wanted::new(Kind::Struct, "net_device"),
            Wanted::new(Kind::Typedef, "btf_trace_tcp_send_reset"),
            Wanted::new(Kind::Typedef, "btf_trace_tcp_receive_reset"),
            Wanted::new(Kind::Typedef, "btf_trace_tcp_retransmit_skb"),
            Wanted::new(Kind::Enum, "sk_rst_reason"),
        ];
        let [tracepoint, sock, tcp, net, task, buffer, device, sent, received, again, reasons] = btf.look_for(names)?;
        let there = |i: usize, id: Option<u32>| id.ok_or(BtfError::NoType { kind: names[i].kind, name: names[i].name });
        let (tracepoint, sock, tcp) = (there(0, tracepoint)?, there(1, sock)?, there(2, tcp)?);
        let (net, task) = (there(3, net)?, there(4, task)?);
        let v6 = match (btf.field(sock, "__sk_common.skc_v6_rcv_saddr"), btf.field(sock, "__sk_common.skc_v6_daddr")) {
            (Ok(local), Ok(peer)) => Some((local, peer)),
            (Err(BtfError::NoField(_)), _) => None,
            (Err(e), _) | (_, Err(e)) => return Err(e),
        };
        let mut point = |id: Option<u32>| Some(Tracepoint { id: id?, arguments: btf.arguments(id?).ok()? });
        let (reset_sent, reset_received, retransmit) = (point(sent), point(received), point(again));
        let reasons = reasons.filter(|_| reset_sent.is_some_and(|p| p.arguments >= REASON)).and_then(|id| {
            let named = |(name, number): (&str, u32)| Some((number, ResetReason::from_kernel(name)?));
            Some(btf.enumerators(id).ok()?.into_iter().filter_map(named).collect())
        });
        let packet = buffer.zip(device).and_then(|(buffer, device)| {
            Some(Packet {
                head: btf.field(buffer, "head").ok()?,
                network_header: btf.field(buffer, "network_header").ok()?,
                transport_header: btf.field(buffer, "transport_header").ok()?,
                device: btf.field(buffer, "dev").ok()?,
                device_net: btf.field(device, "nd_net.net").ok()?,
            })
        });
        Ok(Layout {
            tracepoint,
            family: btf.field(sock, "__sk_common.skc_family")?,
            num: btf.field(sock, "__sk_common.skc_num")?,
            dport: btf.field(sock, "__sk_common.skc_dport")?,
            local_v4: btf.field(sock, "__sk_common.skc_rcv_saddr")?,
            peer_v4: btf.field(sock, "__sk_common.skc_daddr")?,
            v6,
            net: btf.field(sock, "__sk_common.skc_net.net")?,
            net_inum: btf.field(net, "ns.inum")?,
            cookie: btf.field(sock, "__sk_common.skc_cookie.counter")?,
            protocol: btf.field(sock, "sk_protocol")?,
            owned: btf.field(sock, "sk_lock.owned")?,
            sport: btf.field(tcp, "inet_conn.icsk_inet.inet_sport")?,
            task_flags: btf.field(task, "flags")?,
            sock_flags: btf.field(sock, "__sk_common.skc_flags")?,
            state: btf.field(sock, "__sk_common.skc_state")?,
            error: btf.field(sock, "sk_err")?,
            traffic: [
                (btf.field(tcp, "bytes_sent")?, SENT),
                (btf.field(tcp, "bytes_retrans")?, RETRANSMITTED),
                (btf.field(tcp, "bytes_received")?, RECEIVED),
            ],
            faults: FaultPoints { reset_sent, reset_received, retransmit, reasons, packet },
        })
    }
}

/// With so many arguments `tcp:tcp_send_reset` passes the reason, and `tcp:tcp_retransmit_skb` the error.
pub(super) const REASON: usize = 3;
