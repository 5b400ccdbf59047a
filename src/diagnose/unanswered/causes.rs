//! What makes attempts wait without an answer, as data.

use crate::diagnose::conntrack;
use crate::diagnose::hypothesis::Cause;
use crate::diagnose::nat_ports;
use crate::diagnose::next_hop;
use crate::diagnose::translation;
use crate::diagnose::unanswered::{keys, partial};

/// What makes attempts wait without an answer.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "host-down",
        text: "the host, or the way to it, is down",
        predicts: "no port of the address answers",
        refuted_by: "a segment from the address since the attempts began",
        decided_by: "`ping` to the address, its neighbour entry (`ip neigh`), the console of that host",
    },
    Cause {
        id: "port-filtered",
        text: "a filter blocks this whole port",
        predicts: "other ports of the address answer, this one never does",
        refuted_by: "a connection to this very port that was answered since the attempts began",
        decided_by: "`tcpdump` at the peer: the SYNs do not arrive, or no SYN-ACK leaves",
    },
    partial::FILTER,
    Cause {
        id: "peer-accept-queue-full",
        text: "the accept queue of the peer is full",
        predicts: "the port answered as many connections as its queue holds, and those get no data; or it answers one now and then",
        refuted_by: "the listener's own queue, where it can be read",
        decided_by: "`ss -ltn` on the peer: Recv-Q above Send-Q, or ListenOverflows grows",
    },
    Cause {
        id: "lossy-path",
        text: "the path loses segments",
        predicts: "some attempts are answered after a repeated SYN; data to the address is repeated too",
        refuted_by: "very many SYNs of which none is answered, or much data to the address without a repetition",
        decided_by: "`mtr -T` to the port; drops in `ip -s link` on both hosts",
    },
    Cause {
        id: "address-family-broken",
        text: "one address family does not work, the other does",
        predicts: "the program reaches the port over the other family, and nobody is heard over this one",
        refuted_by: "any connection over this family that is answered",
        decided_by: "`curl -4` and `curl -6`, or `ip route get` of both addresses",
    },
    Cause {
        id: "one-backend-down",
        text: "one of several backends does not answer: this address, or a host behind it (a balancer, DNAT)",
        predicts: "other addresses, or other connects to this one, are answered at once, and a part never; a router may say that the \
                   host cannot be reached",
        refuted_by: "an address of this host that sends nothing elsewhere",
        decided_by: "a connect to each backend itself; on the balancer `ipvsadm -Ln` or `conntrack -L -p tcp --orig-dst` the \
                     address: which backend has the entries without a reply",
    },
    Cause {
        id: "local-drop",
        text: "the SYNs do not leave this host",
        predicts: "TCPRetransFail grows with each repeated SYN",
        refuted_by: "SYNs that were repeated while TCPRetransFail did not grow",
        decided_by: "`ip route get`, rules of OUTPUT (`nft list ruleset`), `tc -s qdisc`",
    },
    conntrack::FULL,
    next_hop::GATEWAY,
    translation::ELSEWHERE,
    nat_ports::EXHAUSTED,
    keys::MISMATCH,
];
