//! The doctor beside real programs with real faults: nginx behind a load generator, a client that runs out of ports, a
//! client pool that forgets to close, a server that is stopped. Comes in: programs that Debian has. Goes out: what the
//! doctor says of them. Never here: a state made by hand.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{Netns, finish, in_netns, oracle, skip, wait_for};

/// A program that ends with the test, also when it panics.
struct Running(Child);

impl Running {
    #[track_caller]
    fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")))
    }

    fn pid(&self) -> u64 {
        u64::from(self.0.id())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("signal our own child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A stopped process takes the kill as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx in the foreground, one process, files in a folder of its own.
fn nginx(ns: &Netns, folder: &tempfile::TempDir, port: u16, keepalive: &str) -> Running {
    nginx_of(ns, folder, port, keepalive, "master_process off;\nworker_processes 1;", "")
}

/// nginx with these processes, listening with these options.
fn nginx_of(
    ns: &Netns,
    folder: &tempfile::TempDir,
    port: u16,
    keepalive: &str,
    processes: &str,
    options: &str,
) -> Running {
    let root = folder.path().display();
    let config = format!(
        "daemon off;\n{processes}\nuser root;\npid {root}/pid;\nerror_log {root}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
         uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
         server {{ listen 10.9.0.1:{port} {options}; keepalive_timeout {keepalive}; location / {{ return 200 ok; }} }} }}\n"
    );
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, config).expect("write the configuration of nginx");
    let server = Running::start(ns.command("nginx").arg("-p").arg(folder.path()).arg("-c").arg(&path));
    let at = std::net::SocketAddr::from(([10, 9, 0, 1], port));
    wait_for("nginx to answer", || ns.run(|| std::net::TcpStream::connect(at)).map(drop).map_err(|e| e.to_string()));
    server
}

/// An address that is not 127/8, so that connections from and to it are not loopback to `tcp_tw_reuse`.
fn own_address(ns: &Netns) {
    let output = finish(ns.command("ip").args(["addr", "add", "10.9.0.1/32", "dev", "lo"]));
    assert!(output.status.success(), "{output:?}");
}

fn programs_are_there(names: &[&str]) -> bool {
    match names.iter().find(|n| !oracle::installed(n)) {
        Some(missing) => {
            skip(&format!("{missing} is not installed"));
            false
        }
        None => true,
    }
}

fn doctor(ns: &Netns, more: &[&str]) -> (Value, Option<i32>) {
    let output = finish(ns.product().args(["doctor", "--json"]).args(more));
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (json, output.status.code())
}

fn finding<'a>(report: &'a Value, rule: &str) -> Option<&'a Value> {
    report["findings"].as_array().expect("findings").iter().find(|f| f["rule"] == rule)
}

fn loud(report: &Value) -> Vec<&Value> {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().filter(|f| f["severity"] != "info").collect()
}

#[test]
fn time_wait_of_a_server_that_closes_first_is_no_alarm() {
    if !programs_are_there(&["nginx", "ab", "ip"]) {
        return;
    }
    in_netns(|ns| {
        own_address(ns);
        let folder = tempfile::tempdir().expect("a folder");
        let server = nginx(ns, &folder, 8081, "0");
        let load = finish(ns.command("ab").args(["-q", "-n", "3000", "-c", "8", "http://10.9.0.1:8081/"]));
        assert!(load.status.success(), "{load:?}");
        let (report, code) = doctor(ns, &[]);
        assert!(loud(&report).is_empty(), "{:#}", report["findings"]);
        assert_eq!(code, Some(0));
        let churn = finding(&report, "time-wait-server-churn").unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!(churn["severity"], "info");
        assert_eq!(churn["subject"]["listener"]["port"], 8081);
        assert_eq!(churn["subject"]["pid"].as_u64(), Some(server.pid()), "{churn:#}");
    });
}

/// Connects, asks, reads the answer and closes first, at a rate, until it is told to stop or ports run out.
const CLOSING_CLIENT: &str = r#"
import http.client, sys, time
rate, limit = float(sys.argv[1]), int(sys.argv[2])
held = http.client.HTTPConnection("10.9.0.1", 8082); held.request("GET", "/"); held.getresponse().read()
for i in range(limit):
    c = http.client.HTTPConnection("10.9.0.1", 8082)
    try:
        c.request("GET", "/"); c.getresponse().read()
    except OSError as e:
        print("refused", e.errno, flush=True); break
    c.close()
    time.sleep(1 / rate)
else:
    print("done", flush=True)
time.sleep(60)
"#;

#[test]
fn ports_that_will_run_out_are_predicted_and_then_named() {
    if !programs_are_there(&["nginx", "python3", "ip"]) {
        return;
    }
    in_netns(|ns| {
        own_address(ns);
        ns.set_sysctl("ipv4/ip_local_port_range", "20000 20199");
        let folder = tempfile::tempdir().expect("a folder");
        let _server = nginx(ns, &folder, 8082, "65");
        let mut command = ns.command("python3");
        let mut client = Running::start(command.args(["-c", CLOSING_CLIENT, "40", "400"]).stdout(Stdio::piped()));
        let of = |report: &Value| finding(report, "ephemeral-port-exhaustion").cloned();
        let predicted = wait_for("the exhaustion to be predicted", || {
            let (report, _) = doctor(ns, &["--rule", "ephemeral-port-exhaustion"]);
            of(&report).filter(|f| f["severity"] != "info").ok_or_else(|| format!("{:#}", report["findings"]))
        });
        assert_eq!(predicted["subject"]["destination"]["port"], 8082, "{predicted:#}");
        // The client goes on until the kernel refuses: errno 99, EADDRNOTAVAIL.
        let mut said = String::new();
        BufReader::new(client.0.stdout.take().expect("its output")).read_line(&mut said).expect("its last word");
        assert_eq!(said.trim(), "refused 99");
        let (report, code) = doctor(ns, &[]);
        let real = of(&report).unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!((real["severity"].as_str(), code), (Some("critical"), Some(1)), "{real:#}");
        // What is left of the connections has no owner, and the one that the client holds proves nothing.
        assert!(real["subject"]["pid"].is_null(), "{real:#}");
        let held = format!("python3 ({})", client.pid());
        assert!(real["confidence_reason"].as_str().is_some_and(|r| r.contains(&held)), "{real:#}");
        assert!(real["remedy"][0].as_str().is_some_and(|r| r.contains("Reuse connections")), "{real:#}");
    });
}

/// A pool that keeps every connection and never looks at one again.
const LEAKING_POOL: &str = r#"
import http.client, time
pool = []
for i in range(30):
    c = http.client.HTTPConnection("10.9.0.1", 8083)
    c.request("GET", "/"); c.getresponse().read()
    pool.append(c)
print("ready", flush=True)
time.sleep(300)
"#;

#[test]
fn a_client_pool_that_never_closes_is_named_with_cause_and_age() {
    if !programs_are_there(&["nginx", "python3", "ip"]) {
        return;
    }
    in_netns(|ns| {
        own_address(ns);
        let folder = tempfile::tempdir().expect("a folder");
        // nginx closes idle connections after a second; the pool does not notice.
        let _server = nginx(ns, &folder, 8083, "1");
        let mut command = ns.command("python3");
        let mut client = Running::start(command.args(["-c", LEAKING_POOL]).stdout(Stdio::piped()));
        let mut said = String::new();
        BufReader::new(client.0.stdout.take().expect("its output")).read_line(&mut said).expect("its word");
        assert_eq!(said.trim(), "ready");
        // A row counts from 60 s on: by then a Linux peer has forgotten the connection. There is no way around waiting.
        std::thread::sleep(std::time::Duration::from_secs(63));
        let (report, _) = doctor(ns, &[]);
        let leak = finding(&report, "close-wait-leak").unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!(leak["subject"]["pid"].as_u64(), Some(client.pid()), "{leak:#}");
        assert_eq!(leak["evidence"]["count"], 30, "{leak:#}");
        let age = leak["evidence"].as_object().expect("evidence").iter().find(|(k, _)| k.contains("oldest"));
        let age = age.and_then(|(_, v)| v.as_u64()).unwrap_or_else(|| panic!("{leak:#}"));
        assert!((61_000..90_000).contains(&age), "{age}");
        let text = leak.to_string();
        assert!(text.contains("EOF") || text.contains("nobody reads"), "the cause: {leak:#}");
    });
}

#[test]
fn a_stopped_server_is_named_with_its_state_and_the_clients_that_wait() {
    if !programs_are_there(&["nginx", "ip"]) {
        return;
    }
    in_netns(|ns| {
        own_address(ns);
        let folder = tempfile::tempdir().expect("a folder");
        let server = nginx(ns, &folder, 8084, "65");
        server.signal(rustix::process::Signal::STOP);
        let at = std::net::SocketAddr::from(([10, 9, 0, 1], 8084));
        let _clients: Vec<std::net::TcpStream> =
            ns.run(|| (0..20).map(|_| std::net::TcpStream::connect(at).expect("the kernel still answers")).collect());
        let stalled = wait_for("the stalled queue to be found", || {
            let (report, _) = doctor(ns, &["--interval", "1500ms"]);
            finding(&report, "accept-queue-stalled").cloned().ok_or_else(|| format!("{:#}", report["findings"]))
        });
        assert_eq!(stalled["subject"]["pid"].as_u64(), Some(server.pid()), "{stalled:#}");
        assert_eq!(stalled["subject"]["listener"]["port"], 8084);
        assert!(stalled.to_string().contains("stopped"), "the state of the process: {stalled:#}");
    });
}

/// Ends the workers of a master, stopped ones too: nobody else does when the master is killed.
struct Workers(Vec<u64>);

impl Drop for Workers {
    fn drop(&mut self) {
        for pid in self.0.iter().filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(*pid).ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The processes that a process has started.
fn children(pid: u64) -> Vec<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|word| word.parse().expect("a process number")).collect()
}

/// With `reuseport` the master of nginx makes every listener, and every process has all of them; only the epoll sets tell
/// whose they are.
#[test]
fn of_the_workers_of_nginx_the_stopped_one_is_named_and_not_the_master() {
    if !programs_are_there(&["nginx", "ip"]) {
        return;
    }
    in_netns(|ns| {
        own_address(ns);
        let folder = tempfile::tempdir().expect("a folder");
        let server = nginx_of(ns, &folder, 8085, "65", "worker_processes 3;", "reuseport");
        let workers = wait_for("three workers that wait", || {
            let workers = children(server.pid());
            // Its listener and the channel of the master.
            let waits = |pid: &&u64| {
                let infos = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
                infos
                    .filter_map(|f| std::fs::read_to_string(f.path()).ok())
                    .any(|text| text.matches("tfd:").count() >= 2)
            };
            if workers.iter().filter(waits).count() == 3 { Ok(workers) } else { Err(format!("{workers:?}")) }
        });
        server.signal(rustix::process::Signal::STOP);
        let _ends = Workers(workers.clone());
        let pid = rustix::process::Pid::from_raw(i32::try_from(workers[1]).expect("a number")).expect("not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stop a child of our child");
        let at = std::net::SocketAddr::from(([10, 9, 0, 1], 8085));
        let mut held = Vec::new();
        let report = wait_for("the stuck worker to be found", || {
            held.extend(
                ns.run(|| (0..8).map(|_| std::net::TcpStream::connect(at).expect("a connection")).collect::<Vec<_>>()),
            );
            let (report, _) = doctor(ns, &["--interval", "1500ms"]);
            let found = ["accept-queue-stalled", "reuseport-imbalance"].iter().all(|r| finding(&report, r).is_some());
            if found { Ok(report) } else { Err(format!("{:#}", report["findings"])) }
        });
        for rule in ["accept-queue-stalled", "reuseport-imbalance"] {
            let stuck = finding(&report, rule).expect("found");
            assert_eq!(stuck["subject"]["pid"].as_u64(), Some(workers[1]), "{stuck:#}");
            assert_eq!(stuck["evidence"]["doing_class"], "stopped", "{stuck:#}");
            assert!(
                stuck["remedy"][0].as_str().is_some_and(|r| r.contains(&format!("kill -CONT {}", workers[1]))),
                "{stuck:#}"
            );
        }
    });
}

/// Resets at once what it has asked for; nothing of it stays in any table.
const RESETTING_CLIENT: &str = r#"
import socket, struct, time
while True:
    s = socket.create_connection(("10.9.0.1", 8086))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.send(b"GET / HTTP/1.0\r\n\r\n"); s.close()
    time.sleep(0.005)
"#;

#[test]
fn a_storm_of_resets_is_found_without_being_asked_for() {
    if !programs_are_there(&["nginx", "python3", "ip"]) {
        return;
    }
    in_netns(|ns| {
        own_address(ns);
        let folder = tempfile::tempdir().expect("a folder");
        let server = nginx(ns, &folder, 8086, "65");
        let _client = Running::start(ns.command("python3").args(["-c", RESETTING_CLIENT]));
        let storm = wait_for("the storm to be found", || {
            let (report, _) = doctor(ns, &[]);
            finding(&report, "abort-storm").cloned().ok_or_else(|| format!("{report:#}"))
        });
        assert_eq!(storm["severity"], "info", "{storm:#}");
        assert!(storm["evidence"]["closed_by_reset"].as_u64().is_some_and(|n| n > 0), "{storm:#}");
        drop(server);
    });
}
