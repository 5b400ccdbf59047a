//! One file per rule, one page per rule, one line here per rule.
//!
//! Comes in: a [`View`]. Goes out: an [`Outcome`]. Never here: anything but the list.

use crate::diagnose::Outcome;
use crate::diagnose::view::View;
use crate::model::{State, StateSet};

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
    /// States of the sockets that its findings are about; empty when the state does not matter.
    pub states: StateSet,
    /// `docs/rules/<id>.md`.
    pub page: &'static str,
    pub check: fn(&View<'_>) -> Outcome,
}

macro_rules! rules {
    ($($module:ident $id:literal $samples:ident [$($state:ident)*];)*) => {
        $(pub mod $module;)*

        /// Every rule, in the order of the pages.
        pub static RULES: &[Rule] = &[
            $(Rule {
                id: $id,
                samples: Samples::$samples,
                states: StateSet::of(&[$(State::$state),*]),
                page: include_str!(concat!("../../../docs/rules/", $id, ".md")),
                check: $module::check,
            },)*
        ];
    };
}

rules! {
    ephemeral_port_exhaustion "ephemeral-port-exhaustion" OneOrTwo [];
    bind_before_connect "bind-before-connect" One [];
    time_wait_client_churn "time-wait-client-churn" One [TimeWait];
    time_wait_server_churn "time-wait-server-churn" One [TimeWait];
    time_wait_bucket_overflow "time-wait-bucket-overflow" OneOrTwo [TimeWait];
    timewait_syn_rejects "timewait-syn-rejects" Two [TimeWait];
    bound_inactive_leak "bound-inactive-leak" OneOrTwo [BoundInactive];
    close_wait_unaccepted "close-wait-unaccepted" OneOrTwo [CloseWait];
    close_wait_leak "close-wait-leak" OneOrTwo [CloseWait];
    close_wait_inherited_fd "close-wait-inherited-fd" OneOrTwo [CloseWait];
    closed_socket_fd_leak "closed-socket-fd-leak" OneOrTwo [];
    fd_exhaustion "fd-exhaustion" OneOrTwo [];
    unattributed_sockets "unattributed-sockets" One [];
    accept_queue_overflow "accept-queue-overflow" OneOrTwo [];
    accept_queue_stalled "accept-queue-stalled" Two [];
    accept_queue_dead_entries "accept-queue-dead-entries" Two [];
    reuseport_imbalance "reuseport-imbalance" Two [Listen];
    syn_queue_pressure "syn-queue-pressure" OneOrTwo [Listen SynRecv];
    syn_flood "syn-flood" Two [Listen SynRecv];
    syn_sent_pileup "syn-sent-pileup" One [SynSent];
    fin_wait1_stuck "fin-wait1-stuck" One [FinWait1];
    fin_wait2_held "fin-wait2-held" OneOrTwo [FinWait2];
    fin_wait2_orphan_pileup "fin-wait2-orphan-pileup" One [FinWait2];
    last_ack_stuck "last-ack-stuck" One [LastAck];
    closing_stuck "closing-stuck" One [Closing];
    orphan_limit "orphan-limit" OneOrTwo [FinWait1 LastAck Closing];
    dead_peer_retransmit "dead-peer-retransmit" One [];
    zero_window_peer "zero-window-peer" OneOrTwo [Established CloseWait FinWait1];
    recv_queue_stuck "recv-queue-stuck" OneOrTwo [Established FinWait1 FinWait2];
    send_queue_stuck "send-queue-stuck" Two [Established CloseWait FinWait1];
    idle_no_keepalive "idle-no-keepalive" One [Established];
    half_open_mirror_missing "half-open-mirror-missing" Two [];
    tcp_memory_pressure "tcp-memory-pressure" OneOrTwo [];
    rcvbuf_pruning "rcvbuf-pruning" Two [];
    abort_storm "abort-storm" Two [];
    sysctl_hazard "sysctl-hazard" One [];
}
