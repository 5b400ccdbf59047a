//! What a summary says is running out, and what changed in an interval, beside what the test made. Comes in: queues, limits,
//! ports and connections in private namespaces. Goes out: the same numbers. Never here: counts and groups (`cli`, `sums`).

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use serde_json::Value as Json;
use tcpstate::model::state::State;

use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::product;
use crate::states::{self, Ports};

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The line of the screen that begins with this.
#[track_caller]
fn line<'a>(screen: &'a str, begin: &str) -> &'a str {
    screen.lines().find(|l| l.starts_with(begin)).unwrap_or_else(|| panic!("no line `{begin}`: {screen}"))
}

/// What the listener on this port has dropped, as its row tells.
fn drops(ns: &Netns, port: u16) -> u64 {
    let list = product::json(ns, &["list", "--json", "-l", "-m", "--no-owners", &format!("sport = :{port}")]);
    list["sockets"][0]["skmem"]["drops"].as_u64().expect("drops of a listener")
}

#[test]
fn a_full_accept_queue_comes_first_with_its_limit_and_what_it_dropped() {
    in_netns(|ns| {
        let _large = states::established(ns, Ports::server(7000), 5);
        let _full = states::accept_queue_full(ns, Ports::server(7001), 2, 1);
        wait_for("a dropped SYN", || if drops(ns, 7001) > 0 { Ok(()) } else { Err("none".into()) });
        let before = drops(ns, 7001);
        let document = product::json(ns, &["summary", "--json", "--top", "1"]);
        let after = drops(ns, 7001);
        let listeners = &document["groups"]["listeners"];
        let queue = &listeners[0]["accept_queue"];
        assert_eq!(listeners[0]["listener"]["port"], 7001, "the larger one is below the cut: {listeners}");
        let numbers = ["sockets", "full", "waiting", "fullest_waiting", "fullest_limit"].map(|key| queue[key].as_u64());
        assert_eq!(numbers, [1, 1, 3, 3, 2].map(Some), "{queue}");
        let dropped = queue["drops"].as_u64().expect("what it dropped");
        assert!((before..=after).contains(&dropped), "{before} to {after}: {queue}");
        let other = &document["groups"]["other"]["listeners"]["accept_queue"];
        assert_eq!((&other["sockets"], &other["full"], &other["drops"]), (&1.into(), &0.into(), &0.into()), "{other}");
        // A destination of that name is no listener.
        assert!(document["groups"]["destinations"][0].get("accept_queue").is_none(), "{document}");
        let screen = product::text(ns, &["summary"]);
        let words: Vec<&str> = line(&screen, "127.0.0.1:7001").split_whitespace().collect();
        assert!(words.windows(2).any(|w| w == ["3/2", "full"]), "{screen}");
        assert!(line(&screen, "127.0.0.1:7000").contains(" 0/"), "{screen}");
        // What /proc/net/tcp does not have is unknown, and said to be.
        let output = finish(&mut product::with(ns, &["summary", "--json", "--source", "proc"]));
        let document = product::document(&output);
        let rows = document["groups"]["listeners"].as_array().expect("listeners");
        let queue = &rows.iter().find(|r| r["listener"]["port"] == 7001).expect("the listener")["accept_queue"];
        assert_eq!((&queue["fullest_limit"], &queue["drops"]), (&Json::Null, &Json::Null), "{queue}");
        let missing = product::missing(&document);
        assert!(missing.contains(&"attributes") && missing.contains(&"sock_diag_fields"), "{missing:?}");
    });
}

/// Several sockets on one endpoint are one line, and each has a queue.
#[test]
fn the_fullest_of_several_queues_on_one_endpoint_is_shown() {
    in_netns(|ns| {
        let held = states::reuseport(ns, Ports::server(7000), 3, 40);
        let queues: Vec<u64> = held
            .rows_of("reuseport/listener")
            .map(|row| {
                let list = product::json(ns, &["list", "--json", "-l", "--no-owners"]);
                let sockets = list["sockets"].as_array().expect("sockets").clone();
                let own = sockets.iter().find(|s| s["inode"].as_u64() == row.inode).expect("the listener");
                own["recv_q_bytes"].as_u64().expect("its queue")
            })
            .collect();
        let document = product::json(ns, &["summary", "--json"]);
        let queue = &document["groups"]["listeners"][0]["accept_queue"];
        assert_eq!((&queue["sockets"], &queue["waiting"]), (&3.into(), &40.into()), "{queue}");
        assert_eq!(queue["fullest_waiting"].as_u64(), queues.iter().max().copied(), "{queues:?}: {queue}");
        let screen = product::text(ns, &["summary"]);
        assert!(screen.lines().any(|l| l.starts_with("127.0.0.1:7000 x3")), "{screen}");
    });
}

#[test]
fn a_process_near_its_limit_comes_first_with_its_descriptors() {
    in_netns(|ns| {
        let mut large = Helper::start(ns);
        large.make("established 7000 20");
        let mut near = Helper::start(ns);
        near.make("listen 7001 8");
        let open = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() as u64;
        let used = open(near.pid());
        limit_descriptors(near.pid(), used + 1);
        let document = product::json(ns, &["summary", "--json", "--top", "1"]);
        let row = &document["groups"]["processes"][0];
        let descriptors = &row["descriptors"];
        assert_eq!(row["process"]["pids"][0], near.pid(), "{row}");
        let numbers = ["pid", "fd_used", "fd_soft_limit", "fd_hard_limit"].map(|key| descriptors[key].as_u64());
        assert_eq!(numbers, [near.pid().into(), used, used + 1, used + 1].map(Some), "{descriptors}");
        let rest = &document["groups"]["other"]["processes"]["descriptors"];
        assert_eq!((&rest["pid"], &rest["fd_used"]), (&large.pid().into(), &open(large.pid()).into()), "{rest}");
        let screen = product::text(ns, &["summary"]);
        let percent = (used as f64 * 100.0 / (used + 1) as f64).round();
        assert!(screen.contains(&format!("{used}/{} {percent}%", used + 1)), "{screen}");
        // Another user is told of neither.
        if !product::can_be_another_user() {
            return skip("only root can play another user");
        }
        let (mut run, _binary) = product::with_user(ns, 65534, &["summary", "--json"]);
        let document = product::document(&finish(&mut run));
        let rows = document["groups"]["processes"].as_array().expect("processes");
        assert!(rows.iter().all(|r| r["descriptors"].is_null()), "{rows:?}");
        assert!(product::missing(&document).contains(&"owners"), "{}", document["gaps"]);
        let (mut run, _binary) = product::with_user(ns, 65534, &["summary"]);
        let screen = String::from_utf8(finish(&mut run).stdout).expect("text");
        assert!(line(&screen, "(no permission)").ends_with('?'), "{screen}");
    });
}

/// Lowers the limit of a process of ours.
fn limit_descriptors(pid: u32, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    let pid = libc::pid_t::try_from(pid).expect("a pid");
    // SAFETY: the kernel reads one limit and writes none.
    let done = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "prlimit: {}", std::io::Error::last_os_error());
}

#[test]
fn local_ports_are_counted_as_the_doctor_counts_them() {
    in_netns(|ns| {
        let output = finish(ns.command("ip").args(["addr", "add", "10.9.0.1/32", "dev", "lo"]));
        assert!(output.status.success(), "{output:?}");
        ns.set_sysctl("ipv4/ip_local_port_range", "20000 20199");
        ns.set_sysctl("ipv4/ip_local_reserved_ports", "20010-20019,20150");
        let at = SocketAddr::from(([10, 9, 0, 1], 7000));
        let _held = ns.run(|| {
            let bound = Sock::listening(loopback(20_100), 8);
            let listener = TcpListener::bind(at).expect("bind");
            let pairs: Vec<(TcpStream, TcpStream)> = (0..110)
                .map(|_| (TcpStream::connect(at).expect("connect"), listener.accept().expect("accept").0))
                .collect();
            // The client closes half of them first. A child of a parallel test may share the descriptors for a moment, so
            // that close() alone would not decide whose FIN is first.
            let mut left = Vec::new();
            for (i, (client, mut server)) in pairs.into_iter().enumerate() {
                if i % 2 == 0 {
                    client.shutdown(Shutdown::Write).expect("send the first FIN");
                    assert_eq!(server.read(&mut [0; 1]).expect("read"), 0, "the client's FIN");
                    server.shutdown(Shutdown::Write).expect("send the second FIN");
                } else {
                    left.push((client, server));
                }
            }
            (bound, listener, left)
        });
        let keys = [
            "ports_blocked",
            "ports_usable",
            "time_wait",
            "live",
            "fin_wait2_minis",
            "bound_or_listening",
            "time_wait_reusable",
            "fill_percent",
        ];
        let of = |facts: &Json| keys.map(|key| facts[key].clone());
        wait_for("half of them in TIME_WAIT", || {
            let summary = product::json(ns, &["summary", "--json"]);
            let ports = &summary["local_ports"];
            if ports["time_wait"] == 55 { Ok(()) } else { Err(ports.to_string()) }
        });
        let summary = product::json(ns, &["summary", "--json"]);
        let ports = &summary["local_ports"];
        let numbers = [111, 189, 55, 55, 0, 1, 0].map(Json::from);
        assert_eq!(of(ports)[..7], numbers, "{ports}");
        assert_eq!((&ports["source"], &ports["destination"]["port"]), (&"10.9.0.1".into(), &7000.into()), "{ports}");
        let findings = summary["findings"].as_array().expect("findings");
        let finding =
            findings.iter().find(|f| f["rule"] == "ephemeral-port-exhaustion").expect("more than half is used");
        assert_eq!(of(&finding["evidence"]), of(ports));
        let screen = product::text(ns, &["summary"]);
        let told = "LOCAL PORTS  fullest from 10.9.0.1 to 10.9.0.1:7000: 111 of 189 in use (59 %)";
        assert_eq!(line(&screen, "LOCAL PORTS"), told);
        // Of some sockets nothing can be said about all ports, nor with keys of one's own.
        for words in [&["summary", "--json", "state", "established"][..], &["summary", "--json", "--by", "state"]] {
            let document = product::json(ns, words);
            assert!(document["local_ports"].is_null() && document["tcp_memory"].is_null(), "{words:?}");
        }
    });
}

/// Outside of the initial namespace the kernel tells the use of the host, and no limit.
#[test]
fn memory_without_limits_is_said_to_be_without() {
    in_netns(|ns| {
        let memory = &product::json(ns, &["summary", "--json"])["tcp_memory"];
        let used = memory["used_bytes"].as_u64().expect("the use of the host");
        assert_eq!(used % 4096, 0, "{memory}");
        assert!(["min_bytes", "pressure_bytes", "max_bytes"].iter().all(|key| memory[key].is_null()), "{memory}");
        let screen = product::text(ns, &["summary"]);
        assert!(line(&screen, "TCP MEMORY").ends_with("visible only in the initial network namespace"), "{screen}");
    });
}

/// What the program tells of the time between its two looks, in which something is done.
#[track_caller]
fn meanwhile(ns: &Netns, words: &[&str], act: impl FnOnce()) -> Json {
    let mut run = product::with(ns, &[&["summary", "--json", "--interval", "1500ms"], words].concat());
    let mut child = run.stdout(Stdio::piped()).spawn().expect("start the program");
    let asleep = [libc::SYS_clock_nanosleep, libc::SYS_nanosleep].map(|call| call.to_string());
    wait_for("the time between the looks", || {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
        let number = call.split(' ').next().unwrap_or_default().to_owned();
        if asleep.contains(&number) { Ok(()) } else { Err(call) }
    });
    act();
    let ended = child.try_wait().expect("wait").is_some();
    let output = child.wait_with_output().expect("its output");
    assert!(!ended && output.status.success(), "too late, or failed: {output:?}");
    product::document(&output)
}

#[test]
fn an_interval_counts_what_happened_in_it() {
    in_netns(|ns| {
        let listener = ns.run(|| Sock::listening(loopback(7000), 64));
        let pairs = |count: u16| -> Vec<(Sock, Sock)> {
            ns.run(|| (0..count).map(|_| (Sock::connected(loopback(7000), None), listener.accept())).collect())
        };
        for words in [&["--no-owners"][..], &["--counts"]] {
            let (mut opened, held) = (Vec::new(), pairs(3));
            let document = meanwhile(ns, words, || {
                opened.extend(pairs(5));
                assert!(ns.run(|| TcpStream::connect(loopback(7001))).is_err(), "nobody listens there");
                // A socket of the harness ends with a RST: both ends are reset, one RST is sent.
                for (client, server) in held {
                    drop(client);
                    server.wait(State::Close);
                    server.close();
                }
            });
            let change = &document["change"];
            let numbers = ["active_opens", "passive_opens", "attempt_fails", "resets", "resets_sent", "listen_drops"]
                .map(|key| change[key].as_u64());
            // Who is refused has opened, and gets a RST.
            assert_eq!(numbers, [6, 5, 1, 6, 4, 0].map(Some), "{change}");
            assert_eq!((&change["states"]["established"], &change["total"]), (&4.into(), &4.into()), "{change}");
            assert_eq!((&change["states"]["listen"], &change["segments_retransmitted"]), (&0.into(), &0.into()));
            let sent = change["segments_sent"].as_u64().expect("segments");
            assert!(sent >= 15, "three of each handshake: {change}");
            let elapsed = change["elapsed_ms"].as_u64().expect("a time");
            assert!((1400..30_000).contains(&elapsed), "{change}");
            assert_eq!(document["total"], 11, "{document}");
        }
        // The last connections were cut off right before; on a busy machine their segments are still on the way.
        let still = "PER SECOND   begun 0, failed 0, cut off 0, RST sent 0, retransmitted 0, dropped by listeners 0";
        let looks = || product::text(ns, &["summary", "--interval", "100ms"]);
        let screen = (0..20).map(|_| looks()).find(|screen| line(screen, "PER SECOND") == still);
        let screen = screen.unwrap_or_else(|| panic!("never still: {}", looks()));
        let filtered = product::text(ns, &["summary", "--interval", "100ms", "state", "listen"]);
        assert!(
            line(&filtered, "PER SECOND").starts_with("PER SECOND   all sockets, filter or not: begun 0"),
            "{filtered}"
        );
        let head: Vec<&str> = line(&screen, "STATE").split_whitespace().collect();
        assert_eq!(head, ["STATE", "TOTAL", "CHANGE/s", "IPV4", "IPV6"]);
        assert!(product::json(ns, &["summary", "--json"])["change"].is_null(), "one look has no change");
    });
}
