//! One file per rule, one page per rule, one line here per rule.
//!
//! Comes in: a [`View`]. Goes out: an [`Outcome`]. Never here: anything but the list.

use crate::diagnose::Outcome;
use crate::diagnose::view::View;

/// How many snapshots a rule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// One is enough.
    One,
    /// One gives a finding, two a better one.
    OneOrTwo,
    /// It judges differences.
    Two,
}

/// One rule.
pub struct Rule {
    /// Kebab-case, names the pattern and not the cure; printed so that people can cite it.
    pub id: &'static str,
    pub samples: Samples,
    /// `docs/rules/<id>.md`.
    pub page: &'static str,
    pub check: fn(&View<'_>) -> Outcome,
}

macro_rules! rules {
    ($($module:ident $id:literal $samples:ident;)*) => {
        $(pub mod $module;)*

        /// Every rule, in the order of the pages.
        pub static RULES: &[Rule] = &[
            $(Rule {
                id: $id,
                samples: Samples::$samples,
                page: include_str!(concat!("../../../docs/rules/", $id, ".md")),
                check: $module::check,
            },)*
        ];
    };
}

rules! {
    ephemeral_port_exhaustion "ephemeral-port-exhaustion" OneOrTwo;
    bind_before_connect "bind-before-connect" One;
    time_wait_client_churn "time-wait-client-churn" One;
    time_wait_server_churn "time-wait-server-churn" One;
    time_wait_bucket_overflow "time-wait-bucket-overflow" OneOrTwo;
    timewait_syn_rejects "timewait-syn-rejects" Two;
    bound_inactive_leak "bound-inactive-leak" OneOrTwo;
    close_wait_unaccepted "close-wait-unaccepted" OneOrTwo;
    close_wait_leak "close-wait-leak" OneOrTwo;
    close_wait_inherited_fd "close-wait-inherited-fd" OneOrTwo;
    closed_socket_fd_leak "closed-socket-fd-leak" OneOrTwo;
    fd_exhaustion "fd-exhaustion" OneOrTwo;
    unattributed_sockets "unattributed-sockets" One;
    accept_queue_overflow "accept-queue-overflow" OneOrTwo;
    accept_queue_stalled "accept-queue-stalled" Two;
    accept_queue_dead_entries "accept-queue-dead-entries" Two;
    reuseport_imbalance "reuseport-imbalance" Two;
    syn_queue_pressure "syn-queue-pressure" OneOrTwo;
    syn_flood "syn-flood" Two;
    syn_sent_pileup "syn-sent-pileup" One;
    fin_wait1_stuck "fin-wait1-stuck" One;
    fin_wait2_held "fin-wait2-held" OneOrTwo;
    fin_wait2_orphan_pileup "fin-wait2-orphan-pileup" One;
    last_ack_stuck "last-ack-stuck" One;
    closing_stuck "closing-stuck" One;
    orphan_limit "orphan-limit" OneOrTwo;
    dead_peer_retransmit "dead-peer-retransmit" One;
    zero_window_peer "zero-window-peer" OneOrTwo;
    recv_queue_stuck "recv-queue-stuck" OneOrTwo;
    send_queue_stuck "send-queue-stuck" Two;
    idle_no_keepalive "idle-no-keepalive" One;
    half_open_mirror_missing "half-open-mirror-missing" Two;
    tcp_memory_pressure "tcp-memory-pressure" OneOrTwo;
    rcvbuf_pruning "rcvbuf-pruning" Two;
    abort_storm "abort-storm" Two;
    sysctl_hazard "sysctl-hazard" One;
}
