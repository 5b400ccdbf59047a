//! The way of a finding to whoever is on call, by programs of Debian. Comes in: a leak of this test. Goes out: the alert in a
//! running Alertmanager with the process in its labels, by Prometheus and by VictoriaMetrics. Never here: each alert alone
//! (`promtool test rules`, in `packaging`).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::export::{Exporter, Prometheus, alerts_at_once};
use crate::harness::helper::Helper;
use crate::harness::oracle::installed;
use crate::harness::script::Script;
use crate::harness::{Netns, in_netns, skip, wait_for};
use crate::nagios::LEAK;
use crate::tidy::read;

/// A server that ends with the test.
struct Server(Child);

impl Server {
    #[track_caller]
    fn start(command: &mut Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Server(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The JSON at a path of a server on loopback.
fn get(ns: &Netns, port: u16, path: &str) -> Result<Json, String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = ns.run(|| TcpStream::connect(address)).map_err(|e| e.to_string())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    let body = text.split_once("\r\n\r\n").ok_or(text.clone())?.1;
    serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))
}

const ALERTMANAGER: u16 = 9093;

fn alertmanager(ns: &Netns, dir: &Path) -> Server {
    let config = dir.join("alertmanager.yml");
    std::fs::write(&config, "route:\n  receiver: on-call\nreceivers:\n  - name: on-call\n").expect("write");
    let mut command = ns.command("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.join("alertmanager").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{ALERTMANAGER}"))
        .args(["--cluster.listen-address=", "--log.level=error"]);
    let server = Server::start(&mut command);
    wait_for("Alertmanager", || get(ns, ALERTMANAGER, "/api/v2/status"));
    server
}

/// The labels and the page of every alert that Alertmanager holds for one process.
fn received(ns: &Netns, pid: &str) -> Result<Vec<(Json, String)>, String> {
    let alerts = get(ns, ALERTMANAGER, "/api/v2/alerts?active=true")?;
    let of_process = alerts.as_array().ok_or(alerts.to_string())?.iter().filter(|a| a["labels"]["pid"] == pid);
    let page = |alert: &Json| alert["annotations"]["runbook_url"].as_str().unwrap_or_default().to_owned();
    let found: Vec<(Json, String)> = of_process.map(|alert| (alert["labels"].clone(), page(alert))).collect();
    if found.is_empty() { Err(alerts.to_string()) } else { Ok(found) }
}

/// The same once the leak is known for what it is: it has to grow for some seconds.
#[track_caller]
fn alert(ns: &Netns, pid: &str) -> Vec<(Json, String)> {
    let known = || {
        let found = received(ns, pid)?;
        let told = found.iter().any(|(labels, _)| labels["rule"] == "close-wait-leak");
        if told { Ok(found) } else { Err(format!("{found:?}")) }
    };
    let start = Instant::now();
    loop {
        match known() {
            Ok(found) => return found,
            Err(seen) => assert!(start.elapsed() < Duration::from_secs(90), "waited for the alert; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The alert names the rule, the program and the process, and links to the page of the rule.
#[track_caller]
fn assert_tells(alerts: &[(Json, String)]) {
    let leak = alerts.iter().find(|(labels, _)| labels["rule"] == "close-wait-leak");
    let (labels, page) = leak.unwrap_or_else(|| panic!("{alerts:?}"));
    assert!(labels["process"] == "leaky" && labels["severity"].is_string(), "{labels}");
    assert!(labels["alertname"].as_str().is_some_and(|name| name.starts_with("TcpstateFinding")), "{labels}");
    assert!(page.ends_with("/docs/rules/close-wait-leak.md"), "{page}");
}

/// A server that leaks, and its process id.
fn leak(ns: &Netns) -> Option<(Script, String)> {
    let mut script = Script::start(ns, LEAK, &[])?;
    script.line();
    let pid = script.pid().to_string();
    Some((script, pid))
}

#[test]
fn alertmanager_gets_the_alert_of_a_leak_from_prometheus_with_its_process() {
    if !installed("prometheus") || !installed("prometheus-alertmanager") {
        return skip("prometheus or prometheus-alertmanager is not installed");
    }
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        let (exporter, receiver) = (Exporter::start(ns, &["--interval", "500ms"]), alertmanager(ns, dir.path()));
        let to = format!(
            "alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: ['127.0.0.1:{ALERTMANAGER}']\n"
        );
        let prometheus = Prometheus::with(ns, exporter.address, &to);
        wait_for("a scrape", || match prometheus.ask("up == 1")?.len() {
            1 => Ok(()),
            n => Err(format!("{n} targets")),
        });
        let Some((script, pid)) = leak(ns) else { return };
        assert_tells(&alert(ns, &pid));
        drop((script, prometheus, receiver));
        exporter.end();
    });
}

#[test]
fn victoria_metrics_takes_the_same_metrics_and_sends_the_same_alert() {
    if ["victoria-metrics", "vmalert", "prometheus-alertmanager"].iter().any(|name| !installed(name)) {
        return skip("victoria-metrics or prometheus-alertmanager is not installed");
    }
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (exporter, receiver) = (Exporter::start(ns, &["--interval", "500ms"]), alertmanager(ns, dir.path()));
        let scrape = format!(
            "global:\n  scrape_interval: 250ms\nscrape_configs:\n  - job_name: tcpstate\n    static_configs:\n      \
             - targets: ['{}']\n",
            exporter.address
        );
        std::fs::write(at("scrape.yml"), scrape).expect("write");
        std::fs::write(at("rules.yml"), read("packaging/prometheus/rules.yml")).expect("write");
        std::fs::write(at("alerts.yml"), alerts_at_once()).expect("write");
        let store = "http://127.0.0.1:8428";
        let mut command = ns.command("victoria-metrics");
        command
            .arg(format!("-storageDataPath={}", at("data")))
            .arg(format!("-promscrape.config={}", at("scrape.yml")))
            // What was scraped a moment ago counts.
            .args(["-httpListenAddr=127.0.0.1:8428", "-search.latencyOffset=0s"]);
        let metrics = Server::start(&mut command);
        let ask = |query: &str| -> Result<Vec<Json>, String> {
            let answer = get(ns, 8428, &format!("/api/v1/query?query={query}"))?;
            answer["data"]["result"].as_array().filter(|found| !found.is_empty()).cloned().ok_or(answer.to_string())
        };
        wait_for("a scrape", || ask("up==1"));
        let mut command = ns.command("vmalert");
        command
            .args([format!("-rule={}", at("rules.yml")), format!("-rule={}", at("alerts.yml"))])
            .args([format!("-datasource.url={store}"), format!("-remoteWrite.url={store}")])
            .arg(format!("-notifier.url=http://127.0.0.1:{ALERTMANAGER}"))
            .args(["-evaluationInterval=500ms", "-httpListenAddr=127.0.0.1:8880"]);
        let rules = Server::start(&mut command);
        let mut holder = Helper::start(ns);
        holder.rename(b"holder");
        holder.make("close_wait 7000 250 eof_read closed");
        let Some((script, pid)) = leak(ns) else { return };
        let sum = "sum(tcpstate_program_sockets%7Bstate=%22close_wait%22,process=%22holder%22%7D)";
        wait_for("the numbers", || {
            let found = ask(sum)?;
            if found[0]["value"][1] == "250" { Ok(()) } else { Err(format!("{found:?}")) }
        });
        assert_tells(&alert(ns, &pid));
        drop((holder, script, rules, metrics, receiver));
        exporter.end();
    });
}
