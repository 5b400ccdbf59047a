//! The causes that leave connections in an accept queue, with what decides between them.

use crate::diagnose::hypothesis::Cause;

/// What leaves connections in a queue. Rules about accept queues share them.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "nat-rule-gone",
        text: "the listener only reserves a published port, and no NAT rule led these connections to the container",
        predicts: "conmon alone holds the listener: it never accepts, and a connection that a rule leads does not reach it",
        refuted_by: "another program holds the listener",
        decided_by: "`nft list ruleset` or `iptables -t nat -S`: is there a DNAT rule of this port?",
    },
    Cause {
        id: "frozen",
        text: "the control group of the process is frozen (docker pause, systemctl freeze)",
        predicts: "cgroup.events says frozen 1",
        refuted_by: "cgroup.events says frozen 0",
        decided_by: "cat /sys/fs/cgroup/$(cut -d: -f3 /proc/PID/cgroup)/cgroup.events",
    },
    Cause {
        id: "stopped",
        text: "the process is stopped by a signal or a debugger",
        predicts: "its state is T or t",
        refuted_by: "its state is another letter",
        decided_by: "grep -e State -e TracerPid /proc/PID/status",
    },
    Cause {
        id: "stuck-in-kernel",
        text: "the process is in uninterruptible sleep",
        predicts: "its state is D in both samples",
        refuted_by: "its state is another letter in one of them",
        decided_by: "cat /proc/PID/stack",
    },
    Cause {
        id: "cpu-throttled",
        text: "the CPU quota of its control group is used up",
        predicts: "cpu.stat counts half of the periods or more as throttled, and a thread wants to run",
        refuted_by: "no quota, or nr_throttled 0",
        decided_by: "cat /sys/fs/cgroup/$(cut -d: -f3 /proc/PID/cgroup)/cpu.stat, twice",
    },
    Cause {
        id: "out-of-descriptors",
        text: "the process has no free descriptor, so that accept() fails",
        predicts: "descriptors in use equal the soft limit",
        refuted_by: "fewer descriptors in use",
        decided_by: "prlimit -n -p PID, beside the number of files in /proc/PID/fd",
    },
    Cause {
        id: "inherited-listener",
        text: "only a program that inherited the descriptor holds the listener, and it never accepts",
        predicts: "no holder has it in an epoll set, in accept(), or imports accept()",
        refuted_by: "a holder has accepted connections of this listener",
        decided_by: "tcpstate list -l -p: is the holder the server?",
    },
    Cause {
        id: "accepts-elsewhere",
        text: "its threads wait in accept() of another listener",
        predicts: "threads in accept() on another descriptor, none on this one",
        refuted_by: "no thread in accept(), or one on this listener",
        decided_by: "cat /proc/PID/task/*/syscall",
    },
    Cause {
        id: "accept-paused",
        text: "the program does not watch the listener: it is at a limit of its own, or forgot it",
        predicts: "epoll sets with sockets, and this listener in none, or not for reading",
        refuted_by: "the listener is armed in an epoll set",
        decided_by: "the program's limit of connections (maxconn, worker_connections) beside those it has",
    },
    Cause {
        id: "edge-not-drained",
        text: "the listener is edge-triggered, and was not accepted from until EAGAIN",
        predicts: "EPOLLET in the epoll set, and a loop that turns",
        refuted_by: "a level-triggered listener",
        decided_by: "strace -f -e accept,accept4 -p PID: is each event followed by accept() until EAGAIN?",
    },
    Cause {
        id: "busy-loop",
        text: "the thread that should accept computes and does not come back",
        predicts: "a running thread, in no system call, and nothing accepted",
        refuted_by: "every thread sleeps",
        decided_by: "perf top -p PID, or a stack trace of the language",
    },
    Cause {
        id: "loop-stuck",
        text: "the loop that should accept waits for something else",
        predicts: "threads in a lock, a sleep or a call to another service, none in accept() or in epoll_wait() of the listener",
        refuted_by: "a thread in accept() or in epoll_wait() of the listener",
        decided_by: "a stack trace of the language, twice",
    },
    Cause {
        id: "waits-for-service",
        text: "its workers wait for another service",
        predicts: "every thread that is not idle stands in a call on a connection that the program made, and the other end owes an \
                   answer or room",
        refuted_by: "a thread that does something else",
        decided_by: "tcpstate list -p --pid PID -c +last-data-sent,last-data-recv, and tcpstate doctor where that service runs",
    },
    Cause {
        id: "calls-itself",
        text: "its workers call their own listener and wait for themselves",
        predicts: "a process of the server holds the other end of connections in the queue, and its threads wait for the answers",
        refuted_by: "none of those that wait was made by the server or by what it started",
        decided_by: "tcpstate list -p --peer LISTENER: which of its own processes call it",
    },
    Cause {
        id: "workers-busy",
        text: "every worker serves a connection and none is left to accept",
        predicts: "each worker holds an accepted connection and none waits for another",
        refuted_by: "a worker without a connection, or one that waits in accept()",
        decided_by: "the number of workers beside the number of accepted connections",
    },
    Cause {
        id: "accepts-too-slow",
        text: "it accepts, but more slowly than clients come",
        predicts: "some who waited before still wait and few left the queue since, or whoever is next has waited for long in both samples",
        refuted_by: "none left it, or it was emptied between two samples",
        decided_by: "two samples",
    },
    Cause {
        id: "arrivals-too-fast",
        text: "clients come in a burst, faster than a healthy loop accepts",
        predicts: "the queue is emptied between two samples, or hundreds a second leave it",
        refuted_by: "some who waited before still wait and few left the queue since, or whoever is next has waited for long in both \
                     samples",
        decided_by: "two samples during the burst",
    },
];
