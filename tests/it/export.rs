//! `tcpstate export` on the real kernel, read by `promtool`, by a real Prometheus, and by clients that mean no good. Comes in:
//! sockets in known states. Goes out: their numbers, however many ask and however they ask. Never here: wall time.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tcpstate::model::Family;
use tcpstate::model::state::State;

use crate::harness::helper::Helper;
use crate::harness::oracle::{self, Witness};
use crate::harness::script::Script;
use crate::harness::{Netns, PATIENCE, finish, in_netns, skip, wait_for};
use crate::json::{assert_valid, validator};
use crate::product;
use crate::states;
use crate::tidy::read;

/// A running exporter.
pub struct Exporter<'a> {
    ns: &'a Netns,
    pub child: Child,
    pub address: SocketAddr,
}

impl<'a> Exporter<'a> {
    #[track_caller]
    pub fn start(ns: &'a Netns, words: &[&str]) -> Exporter<'a> {
        let words = [&["export", "--listen", "127.0.0.1:0"], words].concat();
        let mut child = product::with(ns, &words).stderr(Stdio::piped()).spawn().expect("start the exporter");
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().expect("its errors"));
        stderr.read_line(&mut line).expect("read what it says");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        // Whatever it says later must not stop it.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let exporter = Exporter { ns, child, address };
        wait_for("the first collection", || match exporter.get("/healthz", "").0 {
            200 => Ok(()),
            code => Err(format!("{code}")),
        });
        exporter
    }

    fn connect(&self) -> TcpStream {
        let stream = self.ns.run(|| TcpStream::connect(self.address)).expect("connect to the exporter");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Status, head and body of an answer.
    #[track_caller]
    fn get(&self, path: &str, fields: &str) -> (u16, String, String) {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n").expect("ask");
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_owned(), body.to_owned())
    }

    #[track_caller]
    pub fn metrics(&self) -> String {
        let (status, _, body) = self.get("/metrics", "");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Ends it as a service manager does.
    #[track_caller]
    pub fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("signal our own child");
        let status = wait_for("the end of the exporter", || match self.child.try_wait().expect("wait") {
            Some(status) => Ok(status),
            None => Err("it runs".into()),
        });
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Exporter<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of a series, by its name and labels as they are printed.
fn number(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[track_caller]
fn once(ns: &Netns, words: &[&str]) -> String {
    let output = product::run(ns, &[&["export", "--once"], words].concat());
    String::from_utf8(output.stdout).expect("text")
}

/// What `promtool check metrics` says against it.
fn check(text: &str) -> Result<(), String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("write to promtool");
    let output = child.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() { Ok(()) } else { Err(said) }
}

#[test]
fn states_are_those_of_ss_and_promtool_has_nothing_to_say() {
    in_netns(|ns| {
        let held = states::all_states(ns);
        let text = once(ns, &["--peers"]);
        let rows = match oracle::ss(ns) {
            Ok(rows) => rows,
            Err(why) => return skip(&why),
        };
        let mut counts: BTreeMap<(Family, State), u32> = BTreeMap::new();
        for row in &rows {
            *counts.entry((Family::of(row.local.ip()), row.state)).or_default() += 1;
        }
        assert!(counts.len() >= 12, "{counts:?}");
        for family in Family::ALL {
            for state in State::ALL.into_iter().filter(|state| Witness::Ss.shows(*state)) {
                let series = format!("tcpstate_sockets{{family=\"{}\",state=\"{}\"}}", family.key(), state.key());
                let expected = counts.get(&(family, state)).copied().unwrap_or(0);
                assert_eq!(number(&text, &series), Some(f64::from(expected)), "{series}");
            }
        }
        if oracle::installed("promtool") {
            assert_eq!(check(&text), Ok(()));
            // The check can fail.
            assert!(check("# TYPE x_total gauge\nx_total 1\nx_total 1\n").is_err());
        } else {
            skip("promtool (prometheus) is not installed");
        }
        drop(held);
    });
}

#[test]
fn programs_listeners_and_counters_are_those_of_the_kernel() {
    in_netns(|ns| {
        let (mut leaking, mut other) = (Helper::start(ns), Helper::start(ns));
        leaking.rename(b"leak\"y\\\n");
        leaking.make("close_wait 7000 30 eof_read closed");
        other.rename(b"calm");
        other.make("close_wait 7001 4 eof_read closed");
        let text = once(ns, &[]);
        let of = |process: &str| format!("process=\"{process}\",owner=\"known\"");
        let leaky = "leak\\\"y\\\\\\n";
        let sockets =
            |process: &str| number(&text, &format!("tcpstate_program_sockets{{{},state=\"close_wait\"}}", of(process)));
        assert_eq!((sockets(leaky), sockets("calm")), (Some(30.0), Some(4.0)), "{text}");
        let listens = format!("tcpstate_listener_sockets{{address=\"127.0.0.1\",port=\"7000\",process=\"{leaky}\"}}");
        assert_eq!(number(&text, &listens), Some(1.0), "{text}");
        let snmp = ns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").expect("read snmp"));
        let tcp: Vec<Vec<&str>> =
            snmp.lines().filter(|l| l.starts_with("Tcp:")).map(|l| l.split(' ').collect()).collect();
        for (name, metric) in
            [("PassiveOpens", "tcpstate_passive_opens_total"), ("OutRsts", "tcpstate_resets_sent_total")]
        {
            let at = tcp[0].iter().position(|word| *word == name).expect("a counter");
            assert_eq!(number(&text, metric), tcp[1][at].parse().ok(), "{metric}");
        }
        // The others are added up.
        let text = once(ns, &["--top", "1"]);
        let sum: f64 = text
            .lines()
            .filter(|line| line.starts_with("tcpstate_program_sockets{"))
            .map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number"))
            .sum();
        let all: f64 = text
            .lines()
            .filter(|line| line.starts_with("tcpstate_sockets{"))
            .map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number"))
            .sum();
        assert_eq!((sum, number(&text, "tcpstate_listeners_not_shown")), (all, Some(1.0)), "{text}");
        assert!(text.contains("process=\"other\",owner=\"other\""), "{text}");
    });
}

#[test]
fn one_collection_serves_every_scrape_in_the_format_that_is_asked_for() {
    in_netns(|ns| {
        let exporter = Exporter::start(ns, &["--interval", "1h"]);
        let first = exporter.metrics();
        assert_eq!(number(&first, "tcpstate_collections_total"), Some(1.0));
        for _ in 0..200 {
            assert_eq!(exporter.metrics(), first, "the same bytes");
        }
        let wanted = "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5\r\n";
        let (status, head, open) = exporter.get("/metrics", wanted);
        assert_eq!(status, 200);
        assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        assert!(open.ends_with("# EOF\n") && number(&open, "tcpstate_collections_total") == Some(1.0));
        // Several requests on one connection.
        let mut stream = exporter.connect();
        for last in [false, false, true] {
            let close = if last { "Connection: close\r\n" } else { "" };
            write!(stream, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n{close}\r\n").expect("ask");
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answers");
        assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{text}");
        assert!(!text.contains("tcpstate_"), "a HEAD has no body");
        for (path, code) in [("/", 200), ("/healthz", 200), ("/metrics/", 404), ("/../etc/passwd", 404), ("//", 404)] {
            assert_eq!(exporter.get(path, "").0, code, "{path}");
        }
        let (status, head, findings) = exporter.get("/findings.json", "");
        assert!(status == 200 && head.contains("content-type: application/json"), "{head}");
        let findings: Json = serde_json::from_str(&findings).expect("JSON");
        assert_valid(&validator(Some("export")), &findings, "findings.json");
        assert!(validator(None).is_valid(&findings), "more than one kind of document, or none");
        exporter.end();
    });
}

#[test]
fn a_finding_comes_with_its_process_and_goes() {
    in_netns(|ns| {
        let exporter = Exporter::start(ns, &["--interval", "500ms"]);
        let mut helper = Helper::start(ns);
        helper.rename(b"leaky");
        helper.make("close_wait 7000 250 eof_read closed");
        let found = format!("process=\"leaky\",pid=\"{}\"", helper.pid());
        let seen = wait_for("the finding", || {
            let text = exporter.metrics();
            let line = text.lines().find(|l| l.starts_with("tcpstate_finding{") && l.contains(&found));
            line.map(str::to_owned).ok_or(text.clone())
        });
        assert!(seen.ends_with(" 1"), "{seen}");
        let document: Json = serde_json::from_str(&exporter.get("/findings.json", "").2).expect("JSON");
        assert_valid(&validator(Some("export")), &document, "findings.json");
        let of_helper = |f: &&Json| f["subject"]["pid"].as_u64() == Some(u64::from(helper.pid()));
        let finding = document["findings"].as_array().expect("findings").iter().find(of_helper).expect("the finding");
        assert!(finding["first_seen"].is_string() && finding["last_seen"].is_string(), "{finding}");
        exporter.end();
    });
}

/// Opens so many connections that say nothing, as far as the system lets it.
const IDLE: &str = "
import resource, socket, sys
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = int(sys.argv[2])
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 100, max(hard, wanted + 100)))
except (ValueError, OSError):
    wanted = min(wanted, soft - 100)
host, port = sys.argv[1].rsplit(':', 1)
held = []
for i in range(wanted):
    held.append(socket.create_connection((host, int(port))))
print(len(held), flush=True)
sys.stdin.read()
";

#[test]
fn a_normal_scrape_is_answered_beside_slow_idle_and_malformed_ones() {
    in_netns(|ns| {
        let exporter = Exporter::start(ns, &["--interval", "1h"]);
        let first = exporter.metrics();
        // 200 that send a byte at a time, and never end.
        let mut slow: Vec<TcpStream> = (0..200).map(|_| exporter.connect()).collect();
        let request = b"GET /metrics HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaa";
        for byte in request {
            for stream in &mut slow {
                let _ = stream.write(&[*byte]);
            }
            assert_eq!(exporter.metrics(), first);
        }
        // Those that ask and do not read.
        let unread: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut stream = exporter.connect();
                for _ in 0..50 {
                    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
                }
                stream
            })
            .collect();
        assert_eq!(exporter.metrics(), first);
        let Some(mut idle) = Script::start(ns, IDLE, &[&exporter.address.to_string(), "10000"]) else { return };
        let opened: usize = idle.line().parse().expect("a number");
        assert!(opened > 900, "{opened}");
        assert_eq!(exporter.metrics(), first);
        let fds = std::fs::read_dir(format!("/proc/{}/fd", exporter.child.id())).expect("its descriptors").count();
        assert!(fds < 600, "{fds} descriptors");
        drop((slow, unread, idle));
        exporter.end();
    });
}

#[test]
fn the_sockets_of_systemd_are_served() {
    if !oracle::installed("systemd-socket-activate") {
        return skip("systemd-socket-activate (systemd) is not installed");
    }
    in_netns(|ns| {
        let mut command = ns.command("systemd-socket-activate");
        command
            .args(["-l", "127.0.0.1:9917", "-l", "[::1]:9917", env!("CARGO_BIN_EXE_tcpstate")])
            .args(["export", "--web.systemd-socket"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("start it");
        let address = SocketAddr::from(([127, 0, 0, 1], 9917));
        // The first connection starts it.
        wait_for("the sockets", || ns.run(|| TcpStream::connect(address)).map_err(|e| e.to_string()));
        let mut exporter = Exporter { ns, child, address };
        wait_for("the first collection", || match exporter.get("/healthz", "").0 {
            200 => Ok(()),
            code => Err(format!("{code}")),
        });
        assert!(exporter.metrics().contains("tcpstate_build_info{"));
        exporter.address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 9917));
        assert_eq!(exporter.get("/healthz", "").0, 200);
        exporter.end();
        let output = finish(&mut product::with(ns, &["export", "--systemd-socket"]));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && complaint.contains("no socket was handed over"), "{complaint}");
    });
}

#[test]
fn malformed_requests_by_the_thousand_are_refused_and_nothing_else_happens() {
    in_netns(|ns| {
        let exporter = Exporter::start(ns, &["--interval", "1h"]);
        let first = exporter.metrics();
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
        let kinds: [&[u8]; 12] = [
            b"\r\n\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /metrics\r\n\r\n",
            b"GET /metrics HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nA\x00b: c\r\n\r\n",
            b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            long.as_bytes(),
            many.as_bytes(),
        ];
        for round in 0..1200 {
            let mut stream = exporter.connect();
            let kind = kinds[round % kinds.len()];
            // It may close before it has read all.
            let _ = stream.write_all(kind);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{:?}: {answer}",
                String::from_utf8_lossy(kind)
            );
            if round % 100 == 0 {
                assert_eq!(exporter.metrics(), first);
            }
        }
        assert_eq!(exporter.metrics(), first, "and it made no other collection");
        exporter.end();
    });
}

#[test]
fn a_reader_of_the_file_never_sees_half_of_it() {
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tcpstate.prom");
        let path = file.to_str().expect("a path");
        let mut child =
            product::with(ns, &["export", "--textfile", path, "--interval", "100ms"]).spawn().expect("start");
        let read = || std::fs::read_to_string(&file);
        let collections = |text: &str| number(text, "tcpstate_collections_total");
        wait_for("the file", || read().map_err(|e| e.to_string()));
        let last = "tcpstate_findings{severity=\"critical\"} 0\n";
        wait_for("ten collections", || {
            let text = read().expect("the file is always there");
            assert!(text.starts_with("# HELP tcpstate_build_info") && text.contains(last), "{text}");
            if collections(&text) >= Some(10.0) { Ok(()) } else { Err(text) }
        });
        kill_process(Pid::from_child(&child), Signal::TERM).expect("signal our own child");
        assert_eq!(child.wait().expect("wait").code(), Some(0));
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1, "nothing is left beside it");
        let listeners = oracle::proc_tcp(ns);
        assert!(listeners.is_empty(), "with a file alone it does not listen: {listeners:?}");
        product::run(ns, &["export", "--once", "--textfile", path]);
        assert_eq!(collections(&read().expect("the file")), Some(1.0));
    });
}

#[test]
fn an_unprivileged_user_gets_the_numbers_and_what_is_missing() {
    if !product::can_be_another_user() {
        return skip("only root can be another user");
    }
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.make("close_wait 7000 30 eof_read closed");
        let (mut command, _binary) = product::with_user(ns, 65_534, &["export", "--once"]);
        let output = finish(&mut command);
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(number(&text, "tcpstate_sockets{family=\"ipv4\",state=\"close_wait\"}"), Some(30.0), "{text}");
        let hidden = "tcpstate_program_sockets{owner=\"no_permission\",state=\"close_wait\"}";
        assert_eq!(number(&text, hidden), Some(30.0), "{text}");
        assert_eq!(number(&text, "tcpstate_gap{what=\"owners\"}"), Some(1.0), "{text}");
    });
}

/// The alerts that are shipped; what has to last minutes in production alerts at once.
pub fn alerts_at_once() -> String {
    let is_wait = |line: &&str| line.trim_start().starts_with("for: ");
    let alerts = read("packaging/prometheus/alerts.yml");
    assert!(alerts.lines().any(|line| is_wait(&line)), "{alerts}");
    alerts.lines().filter(|line| !is_wait(line)).flat_map(|line| [line, "\n"]).collect()
}

/// A Prometheus that scrapes one exporter.
pub struct Prometheus<'a> {
    ns: &'a Netns,
    child: Child,
    _dir: tempfile::TempDir,
}

impl<'a> Prometheus<'a> {
    #[track_caller]
    fn start(ns: &'a Netns, target: SocketAddr) -> Prometheus<'a> {
        Prometheus::with(ns, target, "")
    }

    /// With more of a configuration.
    #[track_caller]
    pub fn with(ns: &'a Netns, target: SocketAddr, more: &str) -> Prometheus<'a> {
        let (rules, alerts) = (read("packaging/prometheus/rules.yml"), alerts_at_once());
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 250ms\n  evaluation_interval: 250ms\nrule_files: [rules.yml, alerts.yml]\n\
             scrape_configs:\n  - job_name: tcpstate\n    static_configs:\n      - targets: ['{target}']\n{more}"
        );
        for (name, text) in [("prometheus.yml", &text), ("rules.yml", &rules), ("alerts.yml", &alerts)] {
            std::fs::write(dir.path().join(name), text).expect("write the configuration");
        }
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = ns.command("prometheus");
        command
            .arg(option("config.file", &config))
            .arg(option("storage.tsdb.path", &dir.path().join("data")))
            .args(["--web.listen-address=127.0.0.1:9090", "--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Prometheus { ns, child: command.spawn().expect("start prometheus"), _dir: dir }
    }

    /// The samples of an instant query: labels and value.
    pub fn ask(&self, query: &str) -> Result<Vec<(Json, String)>, String> {
        let mut stream = self.ns.run(|| TcpStream::connect("127.0.0.1:9090")).map_err(|e| e.to_string())?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        let query: String =
            query.bytes().map(|b| if plain(b) { char::from(b).into() } else { format!("%{b:02X}") }).collect();
        write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").map_err(|e| e.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let body = text.split_once("\r\n\r\n").ok_or(text.clone())?.1;
        let json: Json = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
        let result = json["data"]["result"].as_array().ok_or(body.to_owned())?;
        let value = |sample: &Json| sample["value"][1].as_str().unwrap_or_default().to_owned();
        Ok(result.iter().map(|sample| (sample["metric"].clone(), value(sample))).collect())
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_prometheus_scrapes_it() {
    if !oracle::installed("prometheus") {
        return skip("prometheus is not installed");
    }
    in_netns(|ns| {
        let mut helper = Helper::start(ns);
        helper.rename(b"leaky");
        helper.make("close_wait 7000 40 eof_read closed");
        let exporter = Exporter::start(ns, &["--interval", "500ms"]);
        let prometheus = Prometheus::start(ns, exporter.address);
        wait_for("a scrape", || match prometheus.ask("up == 1")?.len() {
            1 => Ok(()),
            n => Err(format!("{n} targets")),
        });
        let leak = "sum by (process) (tcpstate_program_sockets{state=\"close_wait\"})";
        let samples = prometheus.ask(leak).expect("an answer");
        assert_eq!(samples.len(), 1, "{samples:?}");
        assert_eq!((samples[0].0["process"].as_str(), samples[0].1.as_str()), (Some("leaky"), "40"));
        let series =
            prometheus.ask("scrape_samples_scraped").expect("an answer")[0].1.parse::<usize>().expect("a number");
        assert!(series > 60, "{series}");
        // What divides by a limit has an answer.
        for query in [
            "tcpstate_local_ports_taken / tcpstate_local_ports_usable",
            "tcpstate_listener_accept_queue / tcpstate_listener_accept_queue_limit",
        ] {
            assert!(!prometheus.ask(query).expect("an answer").is_empty(), "{query}");
        }
        drop(prometheus);
        exporter.end();
    });
}

#[test]
fn a_fault_raises_the_alert_with_its_process_in_a_running_prometheus() {
    if !oracle::installed("prometheus") {
        return skip("prometheus is not installed");
    }
    in_netns(|ns| {
        let exporter = Exporter::start(ns, &["--interval", "500ms"]);
        let prometheus = Prometheus::start(ns, exporter.address);
        wait_for("a scrape", || match prometheus.ask("up == 1")?.len() {
            1 => Ok(()),
            n => Err(format!("{n} targets")),
        });
        let firing = "ALERTS{alertstate=\"firing\", alertname=~\"TcpstateFinding.*|TcpstateAcceptQueueFull\"}";
        assert_eq!(prometheus.ask(firing), Ok(Vec::new()), "nothing is wrong yet");
        let mut helper = Helper::start(ns);
        helper.rename(b"stalled");
        helper.make("accept_queue_full 7000 5 3");
        let of_helper = |alert: &Json| alert["process"] == "stalled";
        let pid = helper.pid().to_string();
        let found = |alert: &Json| alert["alertname"].as_str().is_some_and(|name| name.starts_with("TcpstateFinding"));
        wait_for("both alerts", || {
            let alerts: Vec<Json> = prometheus.ask(firing)?.into_iter().map(|(labels, _)| labels).collect();
            let queue = alerts.iter().any(|a| a["alertname"] == "TcpstateAcceptQueueFull" && of_helper(a));
            let finding = alerts.iter().any(|a| found(a) && of_helper(a) && a["pid"] == *pid);
            if queue && finding { Ok(()) } else { Err(format!("{alerts:?}")) }
        });
        drop(helper);
        wait_for("the end of what a state says", || {
            match prometheus.ask("ALERTS{alertstate=\"firing\", alertname=\"TcpstateAcceptQueueFull\"}")? {
                alerts if alerts.is_empty() => Ok(()),
                alerts => Err(format!("{alerts:?}")),
            }
        });
        drop(prometheus);
        exporter.end();
    });
}
