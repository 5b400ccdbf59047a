//! One file per rule, one page per rule, one line here per rule.

use crate::diagnose::rule::Rule;

macro_rules! rules {
    ($($module:ident)*) => {
        $(pub mod $module;)*

        /// Every rule, in the order of the index.
        pub static RULES: &[Rule] = &[$($module::RULE),*];
    };
}

rules! {
    ephemeral_port_exhaustion
    bind_before_connect
    time_wait_client_churn
    time_wait_server_churn
    time_wait_bucket_overflow
    timewait_syn_rejects
    bound_inactive_leak
    close_wait_unaccepted
    close_wait_leak
    close_wait_inherited_fd
    pool_closed_at_once
    closed_socket_fd_leak
    fd_exhaustion
    unattributed_sockets
    accept_queue_overflow
    accept_queue_stalled
    accept_queue_dead_entries
    inherited_listener
    listener_drops_since_open
    reuseport_imbalance
    syn_queue_pressure
    syn_flood
    syn_ack_unanswered
    syn_sent_pileup
    connect_failures
    late_connects
    neighbour_failure
    fin_wait1_stuck
    fin_wait2_held
    fin_wait2_orphan_pileup
    last_ack_stuck
    closing_stuck
    orphan_limit
    dead_peer_retransmit
    mtu_black_hole
    lossy_destination
    zero_window_peer
    recv_queue_stuck
    send_queue_stuck
    window_limited
    sndbuf_limited
    round_trip_grown
    no_answer
    reset_source
    closed_without_answer
    answers_owed
    slow_requests
    connection_pool_growth
    idle_no_keepalive
    keepalive_unanswered
    path_idle_limit
    half_open_mirror_missing
    tcp_memory_pressure
    rcvbuf_pruning
    conntrack_pressure
    nat_port_exhaustion
    abort_storm
    reverse_path_filter
    sysctl_hazard
}
