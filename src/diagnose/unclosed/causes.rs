//! Why connections that the peer closed stay open, as data.

use crate::diagnose::hypothesis::Cause;
use crate::diagnose::relay;

const LEAK: Cause = Cause {
    id: "leak",
    text: "the program lost the connection and will never close it",
    predicts: "rows that only come; in no epoll set, and no thread waits for them",
    refuted_by: "rows that go, or bytes sent after the FIN",
    decided_by: "a second look: `tcpstate doctor --interval 60s --rule close-wait-leak`",
};
const STALE_POOL: Cause = Cause {
    id: "stale-pool",
    text: "idle connections of a pool, which finds out at their next use",
    predicts: "outgoing, as many as the pool is large, unread: the FIN and at most a few last words of the server",
    refuted_by: "more rows than any pool has, or an answer that is unread",
    decided_by: "the idle limit of the pool against the keep-alive timeout of the server",
};
const READER_STUCK: Cause = Cause {
    id: "reader-stuck",
    text: "the thread or loop that should read them waits for something else",
    predicts: "requests of which no byte was read, or data and the FIN are unread and the owner stands elsewhere",
    refuted_by: "everything was read, the FIN too; the answers of newer connections were read",
    decided_by: "where its threads stand: /proc/PID/task/TID/stack, or a thread dump",
};
const AT_WORK: Cause = Cause {
    id: "half-closed-at-work",
    text: "the client said with its FIN that the request is complete, and waits for an answer still in the making",
    predicts: "accepted, the FIN came with the request, and each row goes when its answer is sent",
    refuted_by: "the last data was ours and the FIN came after it, or the program opened the connection itself",
    decided_by: "the other end: FIN_WAIT2 held by a process means that it waits",
};
const INHERITED: Cause = Cause {
    id: "inherited",
    text: "the program closed its end and another process still has the descriptor",
    predicts: "several processes hold the socket, or another program than the one that listens",
    refuted_by: "one process of the program that listens alone holds it",
    decided_by: "the holders: `tcpstate list --state close-wait -p`, and close-wait-inherited-fd",
};
/// Why a process keeps connections in CLOSE_WAIT.
pub const CAUSES: &[Cause] = &[LEAK, STALE_POOL, READER_STUCK, AT_WORK, INHERITED, relay::CAUSE];
