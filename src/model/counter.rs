//! Counters of a network namespace: `/proc/net/snmp`, `snmp6`, `netstat` and `sockstat`.
//!
//! The tables list what some rule, column or command uses, and `collect` reads just that.

use crate::model::named::named;

named! {
    /// A counter of `/proc/net/snmp` (`Tcp:`, `Icmp:`), `/proc/net/snmp6` or `/proc/net/netstat` (`TcpExt:`), cumulative since
    /// the namespace was made: only differences mean anything, except for [`Counter::TcpCurrEstab`].
    Counter,
    /// The counters of one namespace; those this kernel lacks, or that could not be read, have no value.
    Counters of u64 {
        /// ICMP messages that say that a destination cannot be reached, of every protocol and code: type 3.
        IcmpInDestUnreachs "Icmp:InDestUnreachs";
        /// Those that this namespace sent, also to itself: a neighbour that does not answer makes one (`ipv4_link_failure`).
        IcmpOutDestUnreachs "Icmp:OutDestUnreachs";
        /// Those that say that a packet ran out of hops on its way (its TTL was used up): type 11.
        IcmpInTimeExcds "Icmp:InTimeExcds";
        /// The same of IPv6: types 1 and 3.
        Icmp6InDestUnreachs "Icmp6InDestUnreachs";
        Icmp6OutDestUnreachs "Icmp6OutDestUnreachs";
        Icmp6InTimeExcds "Icmp6InTimeExcds";
        /// Connects, datagrams and segments of open connections of this namespace that found no route (IPv4). Forwarded packets are not
        /// among them.
        IpOutNoRoutes "Ip:OutNoRoutes";
        TcpActiveOpens "Tcp:ActiveOpens";
        TcpAttemptFails "Tcp:AttemptFails";
        TcpCurrEstab "Tcp:CurrEstab";
        TcpEstabResets "Tcp:EstabResets";
        /// Segments that were damaged on the way.
        TcpInCsumErrors "Tcp:InCsumErrors";
        TcpInSegs "Tcp:InSegs";
        TcpOutRsts "Tcp:OutRsts";
        /// Repetitions are not among them; bare ACKs are.
        TcpOutSegs "Tcp:OutSegs";
        TcpPassiveOpens "Tcp:PassiveOpens";
        TcpRetransSegs "Tcp:RetransSegs";
        TcpExtEmbryonicRsts "TcpExt:EmbryonicRsts";
        /// IPv4 packets that came in by another interface than the route back leaves by (`rp_filter`).
        TcpExtIpReversePathFilter "TcpExt:IPReversePathFilter";
        TcpExtListenDrops "TcpExt:ListenDrops";
        TcpExtListenOverflows "TcpExt:ListenOverflows";
        TcpExtOfoPruned "TcpExt:OfoPruned";
        TcpExtPawsTimewait "TcpExt:PAWSTimewait";
        TcpExtPruneCalled "TcpExt:PruneCalled";
        TcpExtRcvPruned "TcpExt:RcvPruned";
        TcpExtSyncookiesFailed "TcpExt:SyncookiesFailed";
        TcpExtSyncookiesRecv "TcpExt:SyncookiesRecv";
        TcpExtSyncookiesSent "TcpExt:SyncookiesSent";
        TcpExtTcpAbortOnClose "TcpExt:TCPAbortOnClose";
        TcpExtTcpAbortOnData "TcpExt:TCPAbortOnData";
        TcpExtTcpAbortOnLinger "TcpExt:TCPAbortOnLinger";
        TcpExtTcpAbortOnMemory "TcpExt:TCPAbortOnMemory";
        TcpExtTcpAbortOnTimeout "TcpExt:TCPAbortOnTimeout";
        TcpExtTcpAckSkippedTimeWait "TcpExt:TCPACKSkippedTimeWait";
        /// Segments that were dropped for their signature (TCP-AO, RFC 5925): a wrong one, or one of an unknown key.
        TcpExtTcpAoBad "TcpExt:TCPAOBad";
        TcpExtTcpAoKeyNotFound "TcpExt:TCPAOKeyNotFound";
        /// Unsigned ones from a peer that has to sign.
        TcpExtTcpAoRequired "TcpExt:TCPAORequired";
        TcpExtTcpBacklogDrop "TcpExt:TCPBacklogDrop";
        /// SYNs with data that were repeated without, or not acknowledged with it.
        TcpExtTcpFastOpenActiveFail "TcpExt:TCPFastOpenActiveFail";
        /// Segments that were dropped for their signature (`TCP_MD5SIG`, RFC 2385): a wrong one, none where a key is set, one
        /// where none is.
        TcpExtTcpMd5Failure "TcpExt:TCPMD5Failure";
        TcpExtTcpMd5NotFound "TcpExt:TCPMD5NotFound";
        TcpExtTcpMd5Unexpected "TcpExt:TCPMD5Unexpected";
        TcpExtTcpMemoryPressures "TcpExt:TCPMemoryPressures";
        TcpExtTcpMemoryPressuresChrono "TcpExt:TCPMemoryPressuresChrono";
        /// Probes of a larger segment that were lost (`net.ipv4.tcp_mtu_probing`).
        TcpExtTcpMtupFail "TcpExt:TCPMTUPFail";
        TcpExtTcpRcvCollapsed "TcpExt:TCPRcvCollapsed";
        TcpExtTcpRcvQDrop "TcpExt:TCPRcvQDrop";
        TcpExtTcpReqQFullDoCookies "TcpExt:TCPReqQFullDoCookies";
        TcpExtTcpReqQFullDrop "TcpExt:TCPReqQFullDrop";
        /// Retransmissions that no device took: no route, a local firewall, a full queue.
        TcpExtTcpRetransFail "TcpExt:TCPRetransFail";
        TcpExtTcpSynRetrans "TcpExt:TCPSynRetrans";
        TcpExtTcpTimeWaitOverflow "TcpExt:TCPTimeWaitOverflow";
        TcpExtTcpZeroWindowDrop "TcpExt:TCPZeroWindowDrop";
        TcpExtTw "TcpExt:TW";
        TcpExtTwKilled "TcpExt:TWKilled";
        TcpExtTwRecycled "TcpExt:TWRecycled";
    }
}

impl Counters {
    /// The sum of two namespaces, for the counters that both have.
    #[must_use]
    pub fn plus(&self, other: &Counters) -> Counters {
        let both = Counter::ALL.iter().filter_map(|c| Some((*c, self.get(*c)?.saturating_add(*other.get(*c)?))));
        both.collect()
    }
}

named! {
    /// A count of `/proc/net/sockstat` or `sockstat6`.
    SockStat,
    /// The counts of one namespace.
    SockStats of u64 {
        /// A kernel without IPv6 has no such line.
        Tcp6Inuse "TCP6:inuse";
        /// IPv4, full sockets of every state.
        TcpInuse "TCP:inuse";
        /// Pages, host-wide.
        TcpMem "TCP:mem";
        /// Host-wide.
        TcpOrphan "TCP:orphan";
        /// Both families.
        TcpTw "TCP:tw";
        /// Sockets of every protocol.
        SocketsUsed "sockets:used";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_variant() {
        assert!(Counter::ALL.iter().all(|c| Counter::from_name(c.name()) == Some(*c)));
        assert!(SockStat::ALL.iter().all(|s| SockStat::from_name(s.name()) == Some(*s)));
        assert_eq!(Counter::from_name("TcpExt:TWW"), None);
    }

    #[test]
    fn a_sum_has_what_both_have() {
        let counters = |pairs: &[(Counter, u64)]| pairs.iter().copied().collect::<Counters>();
        let one = counters(&[(Counter::TcpExtTw, 3), (Counter::TcpOutRsts, 1)]);
        let sum = one.plus(&counters(&[(Counter::TcpExtTw, u64::MAX)]));
        assert_eq!(sum, counters(&[(Counter::TcpExtTw, u64::MAX)]));
        assert_eq!((one.get(Counter::TcpExtTw), sum.get(Counter::TcpOutRsts)), (Some(&3), None));
    }
}
