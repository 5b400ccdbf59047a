//! Remedies are tried: for every rule a test makes the fault, hears the first step that the finding shows, does exactly
//! that, and finds the fault gone and the doctor silent. Comes in: real faults in private namespaces. Goes out: remedies that
//! work, or pages that say why they cannot be tried. Never here: whether a finding is right (see `rules_*`).

use std::time::Duration;

use rustix::process::Signal;
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, SourceChoice};
use tcpstate::diagnose::{self, Diagnosis, Finding, RULES, Severity, Thresholds};
use tcpstate::model::{Snapshot, State};

use crate::harness::helper::process_state;
use crate::harness::script::Script;
use crate::harness::{Netns, diag, finish, wait_for};
use crate::rules_close_wait::{age, age_processes};

/// Connections that cannot finish.
mod closing;
/// Attempts without an answer, and peers that fell silent.
mod connecting;
/// CLOSE_WAIT, descriptors and owners.
mod descriptors;
/// Open connections.
mod established;
/// Queues of listeners, and who should accept.
mod listeners;
/// Ports and TIME_WAIT.
mod ports;
/// Resets, dropped data, settings.
mod system;

/// How the first remedy of a rule is tried.
enum Trial {
    /// By these tests.
    By(&'static [&'static str]),
    /// By none: its page has this sentence.
    Not(&'static str),
}

/// Names of tests, which must exist.
macro_rules! by {
    ($($test:path),+) => {
        Trial::By(&[$({
            const _: fn() = $test;
            stringify!($test)
        }),+])
    };
}

/// Every rule, with the tests that try its first remedy or the reason why there is none.
const TRIALS: &[(&str, Trial)] = &[
    ("accept-queue-overflow", by![listeners::a_server_that_continues_empties_its_full_queue]),
    ("accept-queue-stalled", by![listeners::slow_work_beside_the_accept_loop_keeps_nobody_waiting]),
    ("accept-queue-dead-entries", by![listeners::a_server_that_accepts_at_once_keeps_no_dead_entries]),
    ("close-wait-unaccepted", by![listeners::clients_that_left_are_let_go_when_the_server_continues]),
    ("inherited-listener", by![listeners::without_its_helper_the_port_is_free_again]),
    ("listener-drops-since-open", by![listeners::a_burst_that_fits_the_backlog_drops_nobody]),
    ("reuseport-imbalance", by![listeners::a_new_worker_in_place_of_the_stuck_one_serves_its_share]),
    ("syn-queue-pressure", by![listeners::syn_acks_that_arrive_again_empty_the_syn_queue]),
    ("syn-ack-unanswered", by![listeners::a_mended_way_back_lets_the_clients_in]),
    ("syn-flood", Trial::Not("the first step is a look, and no step on the attacked host makes others stop sending.")),
    ("fin-wait1-stuck", by![closing::a_reader_that_continues_takes_what_the_orphans_have_left]),
    ("fin-wait2-held", by![closing::a_time_limit_after_shutdown_ends_the_wait]),
    ("fin-wait2-orphan-pileup", by![closing::a_peer_that_closes_too_leaves_no_remainders]),
    (
        "last-ack-stuck",
        by![closing::a_few_last_acks_end_by_themselves, closing::many_last_acks_end_when_the_peer_is_back],
    ),
    (
        "closing-stuck",
        by![closing::a_few_in_closing_end_by_themselves, closing::many_in_closing_end_when_ours_arrive_again],
    ),
    (
        "syn-sent-pileup",
        by![
            connecting::attempts_are_answered_when_the_host_is_back,
            connecting::attempts_are_answered_when_the_server_accepts
        ],
    ),
    (
        "dead-peer-retransmit",
        by![
            connecting::data_is_acknowledged_when_the_host_is_back,
            connecting::probing_for_the_mtu_carries_what_was_too_large,
            connecting::time_limits_do_not_hide_a_dead_backend
        ],
    ),
    ("zero-window-peer", by![established::a_reader_that_continues_frees_its_writer]),
    ("recv-queue-stuck", by![established::a_reader_that_continues_frees_its_writer]),
    ("send-queue-stuck", by![established::a_reader_that_continues_frees_its_writer]),
    ("idle-no-keepalive", by![established::keepalive_on_the_idle_ones_is_enough]),
    ("half-open-mirror-missing", by![established::a_survivor_with_keepalive_closes_its_half]),
    ("ephemeral-port-exhaustion", by![ports::one_connection_for_all_requests_leaves_the_ports_free]),
    ("time-wait-client-churn", by![ports::one_connection_for_all_requests_leaves_no_time_wait]),
    ("time-wait-bucket-overflow", by![ports::one_connection_for_all_requests_needs_no_larger_table]),
    ("time-wait-server-churn", by![ports::clients_that_close_first_take_the_time_wait]),
    ("timewait-syn-rejects", by![ports::a_second_host_behind_the_address_gets_in_when_the_first_closed_first]),
    ("bind-before-connect", by![ports::binding_the_address_alone_takes_no_whole_port]),
    ("bound-inactive-leak", by![ports::a_socket_that_is_closed_when_connect_fails_keeps_no_port]),
    (
        "close-wait-leak",
        by![
            descriptors::a_server_that_continues_closes_what_its_clients_closed,
            descriptors::a_server_that_closes_at_eof_keeps_nothing,
            descriptors::a_pool_that_evicts_keeps_no_stale_connections
        ],
    ),
    ("close-wait-inherited-fd", by![descriptors::close_on_exec_leaves_the_connection_to_its_server]),
    ("closed-socket-fd-leak", by![descriptors::descriptors_closed_on_errors_too_leave_nothing_behind]),
    ("fd-exhaustion", by![descriptors::without_the_leak_the_descriptors_last]),
    ("connection-pool-growth", by![descriptors::a_pool_gets_its_connections_back_and_stays_small]),
    ("unattributed-sockets", by![descriptors::root_sees_whose_the_sockets_are]),
    ("abort-storm", by![system::a_server_that_reads_to_the_end_resets_nobody]),
    ("rcvbuf-pruning", by![system::a_reader_that_reads_again_drops_nothing]),
    (
        "sysctl-hazard",
        by![
            system::each_setting_is_put_right_by_its_first_step,
            system::a_service_outside_the_range_is_in_nobody_s_way
        ],
    ),
    ("connect-failures", by![connecting::attempts_succeed_when_the_service_runs]),
    ("late-connects", Trial::Not("the device that drops the first SYN is another's.")),
    ("reverse-path-filter", Trial::Not("the first step is a look.")),
    ("path-idle-limit", by![established::keepalive_below_the_limit_of_the_path_is_enough]),
    ("conntrack-pressure", Trial::Not("the limit is the whole host's, and no test may use it up or lower it.")),
    ("nat-port-exhaustion", by![ports::more_ports_of_a_translation_let_the_waiting_clients_in]),
    ("mtu-black-hole", by![connecting::probing_for_the_mtu_carries_what_was_too_large]),
    ("neighbour-failure", Trial::Not("the first step is a look at another host.")),
    (
        "no-answer",
        Trial::Not(
            "the first step is taken in a pool or a load balancer, each with its own settings, and none is tried yet.",
        ),
    ),
    ("keepalive-unanswered", Trial::Not("the steps are about another host, or a device between.")),
    ("answers-owed", Trial::Not("the steps change the program that serves, or what it waits for.")),
    ("slow-requests", Trial::Not("the first step is a setting of each web server, and none is tried yet.")),
    ("lossy-destination", Trial::Not("the steps are looks at devices that no test host has.")),
    ("pool-closed-at-once", Trial::Not("the steps are settings of each pool, and none is tried yet.")),
    ("closed-without-answer", Trial::Not("the steps change the program that serves, or its clients.")),
    ("reset-source", Trial::Not("the steps change the program that sends the resets.")),
    ("window-limited", Trial::Not("inside one host no round trip is long enough for a larger window to show.")),
    ("sndbuf-limited", Trial::Not("inside one host no round trip is long enough for a larger buffer to show.")),
    ("round-trip-grown", Trial::Not("the queue is on a device between the hosts.")),
    ("orphan-limit", Trial::Not("the limit is the whole host's, and no test may use it up or lower it.")),
    ("tcp-memory-pressure", Trial::Not("the limits are the whole host's, and no test may use them up or lower them.")),
];

#[test]
fn every_remedy_is_tried_or_its_page_says_why_not() {
    let mut rules: Vec<&str> = RULES.iter().map(|r| r.id).collect();
    let mut listed: Vec<&str> = TRIALS.iter().map(|(rule, _)| *rule).collect();
    rules.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, rules);
    let list = finish(std::process::Command::new("/proc/self/exe").arg("--list"));
    let tests = String::from_utf8(list.stdout).expect("names of tests");
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (rule, trial) in TRIALS {
        let page = RULES.iter().find(|r| r.id == *rule).map(|r| plain(r.page)).expect("a rule");
        match trial {
            Trial::By(names) => {
                for name in *names {
                    assert!(tests.contains(&format!("remedies::{name}: test\n")), "{rule}: {name} does not run");
                }
                assert!(!page.contains("Not tried by a test"), "{rule} has a test");
            }
            Trial::Not(why) => {
                let line = format!("Not tried by a test: {why}");
                assert!(page.contains(&line), "docs/rules/{rule}.md does not say: {line}");
            }
        }
    }
}

/// The doctor beside a namespace: all rules, and a look into the processes that they ask about.
struct Doctor<'a> {
    ns: &'a Netns,
    thresholds: Thresholds,
    older: Duration,
}

impl<'a> Doctor<'a> {
    fn of(ns: &'a Netns) -> Doctor<'a> {
        Doctor { ns, thresholds: Thresholds::default(), older: Duration::ZERO }
    }

    /// One look.
    #[track_caller]
    fn look(&self) -> Diagnosis {
        self.judge(None)
    }

    /// Two looks, and something between them.
    #[track_caller]
    fn looks(&self, between: impl FnOnce()) -> Diagnosis {
        let (_, before) = self.take();
        between();
        self.judge(Some(&before))
    }

    fn take(&self) -> (Live, Snapshot) {
        self.ns.run(|| {
            let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("netlink");
            let mut snapshot = live.snapshot(true).expect("a snapshot");
            // Whoever cannot be seen from a container has no socket of the test.
            (snapshot.owners.unreadable, snapshot.owners.unlisted) = (0, None);
            if self.older > Duration::ZERO {
                let waits = |s: State| matches!(s, State::CloseWait | State::FinWait2);
                for socket in snapshot.sockets.iter_mut().filter(|s| waits(s.state) && s.info.is_some()) {
                    age(socket, self.older);
                }
                age_processes(&mut snapshot, self.older);
            }
            (live, snapshot)
        })
    }

    fn judge(&self, before: Option<&Snapshot>) -> Diagnosis {
        let (live, mut now) = self.take();
        let mut diagnosis = self
            .ns
            .run(|| diagnose::examine(&mut now, before, None, &self.thresholds, |now, pids| live.inspect(now, pids)));
        diagnosis.findings.retain(|finding| self.is_about_us(finding));
        diagnosis
    }

    /// What other tests do beside this one is no matter: the descriptors of the whole host are looked at.
    fn is_about_us(&self, finding: &Finding) -> bool {
        let of_pid = |pid: u32| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
            link.to_string_lossy() == format!("net:[{}]", self.ns.inode())
        };
        finding.subject.netns.map_or_else(
            || finding.subject.pid.is_none_or(of_pid),
            |netns| netns.get() == self.ns.inode() || finding.subject.pid.is_some_and(of_pid),
        )
    }
}

/// The finding of a rule, whose first step is what the test does next.
#[track_caller]
fn told<'a>(diagnosis: &'a Diagnosis, rule: &str, first_step: &str) -> &'a Finding {
    let found = diagnosis.findings.iter().find(|f| f.rule == rule);
    let finding = found.unwrap_or_else(|| panic!("no {rule} in {diagnosis:#?}"));
    let first = finding.remedy.first().map_or("", String::as_str);
    assert!(first.starts_with(first_step), "the first step is `{first}` and not `{first_step}`: {finding:#?}");
    finding
}

/// The fault is gone, and nothing else hurts.
#[track_caller]
fn cured(diagnosis: &Diagnosis, rule: &str) {
    let left: Vec<&Finding> =
        diagnosis.findings.iter().filter(|f| f.rule == rule || f.severity > Severity::Info).collect();
    assert!(left.is_empty(), "{left:#?}");
}

/// A server that reads for as long as its clients send, and then closes. Argument: port.
const READER: &str = r#"
import socket, sys, threading
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=8)
def serve(a):
    try:
        while a.recv(65536): pass
    except OSError: pass
    a.close()
def loop():
    while True: threading.Thread(target=serve, args=(L.accept()[0],), daemon=True).start()
threading.Thread(target=loop, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"#;

/// A reader, with buffers so small that a few kilobytes fill them.
fn reader(ns: &Netns, port: u16) -> Option<Script> {
    ns.set_sysctl("ipv4/tcp_rmem", "4096 8192 8192");
    ns.set_sysctl("ipv4/tcp_wmem", "4096 65536 65536");
    let mut script = Script::start(ns, READER, &[&port.to_string()])?;
    assert_eq!(script.line(), "ready");
    Some(script)
}

/// Stops a program as it stands.
#[track_caller]
fn stopped(script: &Script) {
    script.signal(Signal::STOP);
    // Each thread stops by itself: one that accepts may go on for a moment after the first.
    wait_for("every thread of the program to stop", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", script.pid())).expect("list the threads");
        let ids = threads.flatten().filter_map(|t| t.file_name().to_str()?.parse::<u32>().ok());
        let states: String = ids.map(process_state).collect();
        if states.chars().all(|state| state == 'T') { Ok(()) } else { Err(states) }
    });
}

/// Waits until so many rows of a state are there.
#[track_caller]
fn wait_for_rows(ns: &Netns, state: State, count: usize) {
    wait_for(&format!("{count} rows in {state}"), || {
        let seen = ns.run(diag::dump).iter().filter(|r| r.state == state).count();
        if seen == count { Ok(()) } else { Err(seen.to_string()) }
    });
}

/// Waits until so many rows of a state have been repeated so often.
#[track_caller]
fn wait_for_repeats(ns: &Netns, state: State, count: usize, repeats: u8) {
    wait_for("repeated segments", || {
        let rows = ns.run(diag::dump);
        let ready = |r: &&diag::Row| r.state == state && r.timer.is_some_and(|t| t.retransmits >= repeats);
        let seen = rows.iter().filter(ready).count();
        let all = || rows.iter().map(|r| (r.state, r.timer.map(|t| t.retransmits))).collect::<Vec<_>>();
        if seen >= count { Ok(()) } else { Err(format!("{seen} of {count} in {state}: {:?}", all())) }
    });
}

/// Waits until no listener has a connection that waits.
#[track_caller]
fn wait_for_no_queue(ns: &Netns) {
    wait_for("the queue to be empty", || {
        let waiting: u32 = ns.run(diag::dump).iter().filter(|r| r.state == State::Listen).map(|r| r.recv_q).sum();
        if waiting == 0 { Ok(()) } else { Err(waiting.to_string()) }
    });
}
