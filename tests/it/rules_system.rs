//! The rules on the system as a whole, on the real kernel: dropped data, resets, settings, memory. Comes in: a private
//! namespace, whose counters begin at zero and whose settings are its own. Goes out: findings with their numbers, and
//! silence beside them. Never here: a setting of the host.

use std::net::SocketAddr;
use std::path::Path;

use tcpstate::diagnose::{self, Evidence, Severity, Thresholds, View};
use tcpstate::model::State;
use tcpstate::model::counter::{Counter, SockStat};
use tcpstate::model::sysctl::Sysctl;

use crate::harness::helper::Helper;
use crate::harness::oracle::installed;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::{Netns, diag, finish, in_netns, kernel_at_least, skip, wait_for};
use crate::judge::{calm, judge, number, once, only, pause, silent, snapshot, twice, words};
use crate::states::{self, First, Ports};

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A setting as a number.
fn setting(ns: &Netns, name: &str) -> u64 {
    ns.sysctl(name).trim_start_matches('-').parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Names of the tables that only some kernels have, with the first version that has them.
const SINCE: [(&str, (u32, u32)); 7] = [
    ("TcpExt:TCPMemoryPressuresChrono", (4, 13)),
    ("TcpExt:TCPRcvQDrop", (4, 19)),
    ("TcpExt:TCPZeroWindowDrop", (4, 17)),
    ("ipv4/tcp_migrate_req", (5, 14)),
    ("ipv4/tcp_rto_max_ms", (6, 15)),
    ("ipv4/tcp_syn_linear_timeouts", (6, 5)),
    ("ipv4/tcp_tw_reuse_delay", (6, 14)),
];
/// And with the first version that has them no more.
const UNTIL: [(&str, (u32, u32)); 1] = [("ipv4/tcp_tw_recycle", (4, 12))];
/// Settings of the whole host, which the initial namespace alone shows.
const OF_THE_HOST: [Sysctl; 2] = [Sysctl::Ipv4TcpMaxOrphans, Sysctl::Ipv4TcpMem];

#[test]
fn every_counter_and_setting_of_the_tables_is_a_name_of_this_kernel() {
    let counters = Counter::ALL.iter().map(|c| c.name());
    let all: Vec<&str> = counters.chain(Sysctl::ALL.iter().map(|s| s.name())).collect();
    for (name, _) in SINCE.iter().chain(&UNTIL) {
        assert!(all.contains(name), "{name} is in no table");
    }
    let expected = |name: &str| {
        SINCE.iter().all(|(n, (major, minor))| *n != name || kernel_at_least(*major, *minor))
            && UNTIL.iter().all(|(n, (major, minor))| *n != name || !kernel_at_least(*major, *minor))
    };
    in_netns(|ns| {
        let snapshot = snapshot(ns);
        let netns = &snapshot.netns[0];
        for counter in Counter::ALL {
            assert_eq!(netns.counter(*counter).is_some(), expected(counter.name()), "{counter}");
        }
        for sysctl in Sysctl::ALL {
            let here = expected(sysctl.name()) && !OF_THE_HOST.contains(sysctl);
            assert_eq!(netns.sysctl(*sysctl).is_some(), here, "{sysctl}");
        }
        for count in SockStat::ALL {
            let has = *count != SockStat::Tcp6Inuse || ns.run(|| Path::new("/proc/thread-self/net/sockstat6").exists());
            assert_eq!(netns.sockstat(*count).is_some(), has, "{count}");
        }
    });
    // They are there if this is the initial namespace: all or none.
    let shown = OF_THE_HOST.map(|s| Path::new("/proc/sys/net").join(s.name()).exists());
    assert!(shown == [true; 2] || shown == [false; 2], "{shown:?}");
}

#[test]
fn the_defaults_are_those_of_a_fresh_namespace() {
    if !kernel_at_least(5, 4) {
        return skip("before Linux 5.4 some defaults were others");
    }
    in_netns(|ns| {
        let snapshot = snapshot(ns);
        for sysctl in Sysctl::ALL {
            let Some(set) = snapshot.netns[0].sysctls.get(*sysctl) else { continue };
            let Some(default) = sysctl.default_values() else { continue };
            assert_eq!(set, default, "{sysctl}");
        }
    });
}

#[test]
fn a_fresh_namespace_has_no_hazards() {
    in_netns(|ns| {
        let listener = Sock::listening(loopback(80), 8);
        silent(&once(ns, &["sysctl-hazard"]));
        drop(listener);
    });
}

#[test]
fn each_setting_is_one_finding_with_its_value_and_default() {
    in_netns(|ns| {
        let buckets = setting(ns, "ipv4/tcp_ehash_entries") / 2;
        for (name, value, default, severity) in [
            ("ipv4/tcp_syncookies", 0, 1, Severity::Info),
            ("ipv4/tcp_retries2", 5, 15, Severity::Info),
            ("ipv4/tcp_max_tw_buckets", buckets - 1, buckets, Severity::Info),
            ("ipv4/tcp_fin_timeout", 65, 60, Severity::Info),
            ("ipv4/tcp_abort_on_overflow", 1, 0, Severity::Info),
            ("core/somaxconn", 64, 4096, Severity::Info),
        ] {
            let usual = ns.sysctl(name);
            ns.set_sysctl(name, &value.to_string());
            let diagnosis = once(ns, &["sysctl-hazard"]);
            let finding = only(&diagnosis);
            let dotted = format!("net.{}", name.replace('/', "."));
            assert_eq!((finding.severity, finding.subject.object.as_deref()), (severity, Some(dotted.as_str())));
            assert_eq!((number(finding, "value"), number(finding, "default")), (value, default), "{finding:#?}");
            assert_eq!(words(finding, "file"), format!("/proc/sys/net/{name}"));
            ns.set_sysctl(name, &usual);
        }
        // Two that matter only together.
        ns.set_sysctl("ipv4/tcp_tw_reuse", "1");
        silent(&once(ns, &["sysctl-hazard"]));
        ns.set_sysctl("ipv4/tcp_timestamps", "0");
        assert_eq!(only(&once(ns, &["sysctl-hazard"])).subject.object.as_deref(), Some("net.ipv4.tcp_tw_reuse"));
    });
}

#[test]
fn a_small_somaxconn_is_a_warning_beside_a_full_queue() {
    in_netns(|ns| {
        // The queue has the limit of the setting, not a smaller one of its own.
        ns.set_sysctl("core/somaxconn", "2");
        let held = states::accept_queue_full(ns, Ports::server(81), 2, 0);
        let diagnosis = once(ns, &["sysctl-hazard"]);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, number(finding, "value")), (Severity::Warning, 2), "{finding:#?}");
        drop(held);
        let listener = Sock::listening(loopback(82), 2);
        assert_eq!(only(&once(ns, &["sysctl-hazard"])).severity, Severity::Info);
        drop(listener);
    });
}

#[test]
fn listeners_among_the_ephemeral_ports_are_listed_until_they_are_reserved() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("listen 40000 8");
        let diagnosis = once(ns, &["sysctl-hazard"]);
        let finding = only(&diagnosis);
        assert_eq!(finding.severity, Severity::Info);
        let list = Evidence::List(vec![format!("40000: tcpstate-helper ({})", helper.pid())]);
        assert!(finding.evidence.contains(&("listeners", list)), "{finding:#?}");
        ns.set_sysctl("ipv4/ip_local_reserved_ports", "40000");
        silent(&once(ns, &["sysctl-hazard"]));
    });
}

#[test]
fn a_storm_of_resets_is_counted_and_explained() {
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        let diagnosis = twice(ns, &["abort-storm"], || {
            helper.ask("churn 8300");
            pause(1000);
            helper.ask("calm");
        });
        let finding = only(&diagnosis);
        assert_eq!(finding.severity, Severity::Info, "{finding:#?}");
        let (resets, opened) = (number(finding, "resets"), number(finding, "opened"));
        // Each connection counts at both ends, as it does when it is opened; the client goes by SO_LINGER.
        assert!(resets >= 20 && resets.abs_diff(opened) <= opened / 10, "{resets} of {opened}");
        assert!(number(finding, "closed_by_reset") * 2 >= resets * 9 / 10, "{finding:#?}");
    });
}

#[test]
fn unread_data_at_close_is_told_apart_and_orderly_ends_are_silent() {
    in_netns(|ns| {
        let listener = Sock::listening(loopback(8310), 64);
        let pairs = |n: u16| -> Vec<(Sock, Sock)> {
            (0..n).map(|_| (Sock::connected(loopback(8310), None), listener.accept())).collect()
        };
        let unread = twice(ns, &["abort-storm"], || {
            for (client, server) in pairs(20) {
                client.send(10);
                wait_for("the data", || if server.unread() == 10 { Ok(()) } else { Err("not yet".into()) });
                server.close();
                client.wait(State::Close);
            }
        });
        let finding = only(&unread);
        assert_eq!(number(finding, "closed_with_unread_data"), 20, "{finding:#?}");
        assert!(finding.remedy[0].starts_with("Read to EOF"));
        // One reset among many orderly ends, less than one per second.
        let orderly = twice(ns, &["abort-storm"], || {
            drop(states::time_wait(ns, Ports::server(8311), 30, First::Client));
            drop(pairs(1).remove(0).0);
            pause(2000);
        });
        calm(&orderly);
        assert_eq!(orderly.findings, [], "{orderly:#?}");
    });
}

#[test]
fn a_receive_buffer_that_is_pruned_names_the_process_that_does_not_read() {
    in_netns(|ns| {
        ns.set_sysctl("ipv4/tcp_rmem", "4096 4608 4608");
        let mut reader = Helper::start(ns);
        let listener = reader.make("listen 8320 8").remove(0);
        let writer = Sock::connected(loopback(8320), None);
        reader.accept(&listener, 1);
        let quiet = twice(ns, &["rcvbuf-pruning"], || writer.send(10));
        assert_eq!(quiet.findings, [], "{quiet:#?}");
        let before = snapshot(ns);
        // Small segments take more memory than the window that was offered for them.
        wait_for("drops", || {
            for _ in 0..50 {
                writer.send_at_once(1);
            }
            let now = snapshot(ns);
            let found = judge(&now, Some(&before), &["rcvbuf-pruning"]);
            let named = found.findings.iter().any(|f| f.subject.pid == Some(reader.pid()));
            if named { Ok(()) } else { Err(format!("{found:#?}")) }
        });
        let diagnosis = judge(&snapshot(ns), Some(&before), &["rcvbuf-pruning"]);
        let finding = only(&diagnosis);
        assert_eq!(
            (finding.subject.pid, number(finding, "sockets_with_drops")),
            (Some(reader.pid()), 1),
            "{finding:#?}"
        );
        assert!(number(finding, "new_drops") > 0 && number(finding, "prune_called") > 0, "{finding:#?}");
    });
}

/// The limits are the host's, so that a real shortage cannot be made here: the numbers of a real snapshot are judged
/// against limits made by hand.
#[test]
fn memory_is_judged_against_the_limits_and_the_biggest_holder_is_named() {
    in_netns(|ns| {
        let rule = ["tcp-memory-pressure"];
        let mut holder = Helper::start(ns);
        holder.make("zero_window 8330 20");
        let mut now = snapshot(ns);
        let inside = judge(&now, None, &rule);
        // A namespace of its own does not show tcp_mem.
        assert!(inside.findings.is_empty() && inside.not_checked.len() == 1, "{inside:#?}");
        let told = now.netns[0].sockstat(SockStat::TcpMem).expect("sockstat tells the memory");
        // The kernel adds up in batches of 256 pages for each CPU (SK_MEMORY_PCPU_RESERVE, include/net/sock.h), so that what
        // twenty full pairs hold may not show yet.
        let used = told.max(2);
        now.netns[0].sockstat.insert(SockStat::TcpMem, used);
        let mut limits = |values: [u64; 3]| {
            now.netns[0].sysctls.insert(Sysctl::Ipv4TcpMem, values.to_vec());
            judge(&now, None, &rule)
        };
        silent(&limits([used, used * 2, used * 3]));
        assert_eq!(only(&limits([used - 1, used, used + 1])).severity, Severity::Warning);
        assert_eq!(only(&limits([0, used - 1, used])).severity, Severity::Warning);
        let worst = limits([0, 0, used - 1]);
        let finding = only(&worst);
        assert_eq!(finding.severity, Severity::Critical);
        let name = format!("tcpstate-helper ({})", holder.pid());
        assert!(finding.summary.contains(&name), "{}", finding.summary);
        assert!(number(finding, "seen_bytes") > 20 * 1000, "{finding:#?}");
    });
}

/// Everything at once that is merely busy: no rule of the system has a word above an explanation.
#[test]
fn a_busy_namespace_is_calm() {
    in_netns(|ns| {
        let held = states::established(ns, Ports::server(8340), 50);
        let rules = ["tcp-memory-pressure", "rcvbuf-pruning", "abort-storm", "sysctl-hazard"];
        let diagnosis = twice(ns, &rules, || {
            for pair in held.rows.iter().filter(|r| r.what == "established/client") {
                held.sock(pair).send(100);
            }
            pause(300);
        });
        calm(&diagnosis);
        assert!(ns.run(diag::dump).len() >= 100);
    });
}

#[test]
fn the_tracking_table_is_read_and_warns_by_its_share() {
    in_netns(|ns| {
        let before = snapshot(ns);
        let Some(limit) = before.netns[0].conntrack.and_then(|t| t.limit) else {
            return skip("no connection tracking in this kernel");
        };
        if !installed("nft") {
            return skip("nft is not installed");
        }
        // Nothing is tracked before a rule asks for it.
        assert_eq!(before.netns[0].conntrack.and_then(|t| t.entries), Some(0));
        let rule = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
                    add rule inet t o ct state invalid counter";
        assert!(finish(ns.command("nft").arg(rule)).status.success());
        let thresholds = |percent| {
            let mut thresholds = Thresholds::default();
            thresholds.set("conntrack-percent", percent).expect("a percentage");
            thresholds
        };
        let judged = |percent| {
            let now = snapshot(ns);
            diagnose::run(&View::new(&now, None, &thresholds(percent)), Some(&["conntrack-pressure"]))
        };
        // A flow per destination: one percent of the limit, and a little more.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        for n in 0..limit / 100 + 8 {
            let [.., high, low] = n.to_be_bytes();
            let to = SocketAddr::from(([127, 1, high, low], 9));
            // What the closed port answers is the next call's error.
            let _ = socket.send_to(b"x", to);
        }
        let entries = snapshot(ns).netns[0].conntrack.and_then(|t| t.entries).expect("a count");
        assert!((limit / 100 + 8..limit / 100 + 20).contains(&entries), "{entries} of {limit}");
        let diagnosis = judged(1.0);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, number(finding, "entries")), (Severity::Warning, entries));
        silent(&judged(2.0));
    });
}

/// Twenty MPTCP connections to itself, of which it then closes the client ends, and keeps the others.
const MPTCP: &str = r#"
import socket, sys
def mptcp(): return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
L = mptcp(); L.bind(("127.0.0.1", 7390)); L.listen(64)
pairs = []
for _ in range(20):
    c = mptcp(); c.connect(L.getsockname()); pairs.append((c, L.accept()[0]))
print("open", flush=True)
sys.stdin.readline()
for c, _ in pairs: c.close()
print("closed", flush=True)
sys.stdin.readline()
"#;

#[test]
fn subflows_of_mptcp_belong_to_their_process_or_to_nobody() {
    in_netns(|ns| {
        let enabled = ns.run(|| std::fs::read_to_string("/proc/sys/net/mptcp/enabled"));
        if enabled.is_ok_and(|text| text.trim() != "1") || !Path::new("/proc/sys/net/mptcp").exists() {
            return skip("no MPTCP in this kernel");
        }
        let Some(mut script) = Script::start(ns, MPTCP, &[]) else { return };
        assert_eq!(script.line(), "open");
        let pid = script.pid();
        let owned = |now: &tcpstate::model::Snapshot| {
            let rows = now.sockets.iter().filter(|s| s.mptcp && s.state == State::Established);
            let is_its = |s: &&tcpstate::model::Socket| {
                now.owners.of(s).1.iter().any(|holder| now.owners.process(holder).pid == pid)
            };
            (rows.clone().filter(is_its).count(), rows.count())
        };
        assert_eq!(owned(&snapshot(ns)), (40, 40), "a subflow has the inode of its MPTCP socket");
        script.go_on();
        assert_eq!(script.line(), "closed");
        // TCP does not show that the peers have closed: that is MPTCP's own state.
        let now = snapshot(ns);
        assert_eq!(owned(&now), (20, 40), "{:#?}", now.sockets);
        silent(&judge(&now, None, &["unattributed-sockets"]));
        let all = diagnose::run(&View::new(&now, None, &Thresholds::default()), None);
        assert!(all.findings.iter().all(|f| f.severity == Severity::Info), "{:#?}", all.findings);
    });
}
