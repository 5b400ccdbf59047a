//! Why segments to a peer are sent again.

use crate::diagnose::hypothesis::Cause;

pub const CAUSES: &[Cause] = &[
    Cause {
        id: "path",
        text: "the path or a device on it drops segments",
        predicts: "repetitions while the round trip stays near its shortest",
        refuted_by: "the peer reports that it had what was repeated",
        decided_by: "`mtr -T`, the counters of the devices on the way",
    },
    Cause {
        id: "queue",
        text: "the path is full, and its queue drops what comes on top",
        predicts: "the round trip is twice the shortest one or more",
        refuted_by: "a round trip near the shortest one",
        decided_by: "rtt against min-rtt: `tcpstate list -i`; the loss ends when less is sent",
    },
    Cause {
        id: "reordering",
        text: "segments arrive late or in another order, and nothing is lost",
        predicts: "the peer reports that it had what was repeated (DSACK)",
        refuted_by: "no such report of peers that can send one",
        decided_by: "dsack-dups and reord-seen: `tcpstate list -i`",
    },
    Cause {
        id: "this-host",
        text: "this host itself drops them: the queue of a device, the device, or the backlog of a CPU",
        predicts: "a counter of this host grows by as much as was repeated",
        refuted_by: "no such counter grew",
        decided_by: "`tc -s qdisc`, `ip -s link`, /proc/net/softnet_stat",
    },
    Cause {
        id: "all-peers",
        text: "this host's own link or its nearest hop loses for everybody",
        predicts: "most peers lose",
        refuted_by: "other peers, to which as much is sent, lose nothing",
        decided_by: "`ip -s link`, `tc -s qdisc`, `ethtool -S`, the switch port",
    },
    Cause {
        id: "peer-accept-queue-full",
        text: "the peer's accept queue was full: it dropped the end of handshakes, and the first data with it",
        predicts: "the first data of new connections is sent again, perhaps handshakes, and nothing later: no FIN",
        refuted_by: "repetitions on connections that were in use before, or of as many FINs",
        decided_by: "`ss -ltn` on the peer: Recv-Q above Send-Q, or ListenOverflows grows",
    },
    Cause {
        id: "peer-drops",
        text: "the peer's host drops what arrives (a full receive buffer, a limit of its TCP memory)",
        predicts: "drops at the peer; its window holds the sender back between them",
        refuted_by: "counters of the peer that do not grow",
        decided_by: "`nstat -az TcpExtTCPRcvQDrop TcpExtOfoPruned TcpExtPruneCalled` on the peer",
    },
];
