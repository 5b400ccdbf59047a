//! Real containers of podman: published ports, pods, names. Comes in: containers that answer on port 80. Goes out: what the
//! host sees. Never here: cgroups in the shape of podman's, which `container_words` has.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::podman::{NETWORK, Podman};
use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::product;

/// A client that has had an answer.
pub fn talk(to: &str) -> Result<TcpStream, String> {
    let to: SocketAddr = to.parse().expect("an address");
    let mut client = TcpStream::connect_timeout(&to, Duration::from_secs(5)).map_err(|e| format!("connect: {e}"))?;
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    client.write_all(b"x").map_err(|e| format!("write: {e}"))?;
    client.read_exact(&mut [0]).map_err(|e| format!("read: {e}"))?;
    Ok(client)
}

/// A name that no other run of the tests has.
pub fn name(of: &str) -> String {
    static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{of}-{}-{number}", std::process::id())
}

/// The only finding of a rule that is about a listener on a port.
fn about_port(doctor: &Value, rule: &str, port: u64) -> Option<Value> {
    let findings = doctor["findings"].as_array().expect("findings");
    let is = |f: &&Value| f["rule"] == rule && f["subject"]["listener"]["port"] == port;
    findings.iter().find(is).cloned()
}

/// Three columns of listeners, as a command lists them.
pub fn listed(command: &mut Command) -> Vec<[String; 3]> {
    let output = finish(command);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let cells = |line: &str| -> [String; 3] {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        cells.try_into().expect("three cells")
    };
    let mut lines: Vec<[String; 3]> = text.lines().map(cells).collect();
    lines.sort();
    lines
}

/// Port, container and pod of the listeners of a namespace.
fn listeners(ns: &Netns, args: &[&str]) -> Vec<[String; 3]> {
    let words = [&["list", "-l", "-H", "--format", "tsv", "-c", "local-port,container,pod"], args].concat();
    listed(&mut product::with(ns, &words))
}

pub fn of(port: &str, container: &str, pod: &str) -> [String; 3] {
    [port, container, pod].map(str::to_owned)
}

#[test]
fn a_published_port_is_its_containers_and_a_lost_nat_rule_is_told() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let (first, renamed) = (name("echo"), name("renamed"));
        let options = ["--name", &first, "--network", NETWORK, "-p", "127.0.0.1:9010:80", "-p", "9011:80"];
        let id = podman.echo(&options).unwrap_or_else(|why| panic!("{why}"));
        let mut clients = wait_for("answers through both ports", || {
            Ok(vec![talk("127.0.0.1:9010")?, talk("127.0.0.1:9011")?, talk("127.0.0.1:9010")?])
        });
        // The monitor that reserves the ports is shown with the container, by its name.
        let both = |name: &str| [of("9010", name, "-"), of("9011", name, "-")];
        assert_eq!(listeners(ns, &[]), both(&first));
        assert_eq!(listeners(ns, &["-N", &first]), [of("80", &first, "-")]);
        assert_eq!(listeners(ns, &["-N", &id[..12]]), [of("80", &first, "-")]);
        // Connections that answer, and one that is idle, are whole, seen from one namespace and from all.
        for args in [[].as_slice(), &["--netns", "all", "--rule", "half-open-mirror-missing"]] {
            for client in &mut clients[..2] {
                client.write_all(b"y").expect("write");
                client.read_exact(&mut [0]).expect("read");
            }
            let doctor = finish(product::with(ns, &["doctor", "--json", "--fail-on", "critical"]).args(args));
            let doctor = product::document(&doctor);
            let ports = [9010, 9011].map(|port| format!("127.0.0.1:{port}"));
            let findings = doctor["findings"].as_array().expect("findings");
            let false_ones: Vec<&Value> = findings
                .iter()
                .filter(|f| f["rule"] == "half-open-mirror-missing")
                .filter(|f| ports.iter().any(|port| f.to_string().contains(port)))
                .collect();
            assert!(false_ones.is_empty(), "{args:?}: {false_ones:#?}");
        }
        podman.run(&["rename", &first, &renamed]);
        assert_eq!(listeners(ns, &[]), both(&renamed));
        // A firewall is loaded again, and the rules are gone.
        let flushed = finish(ns.command("iptables").args(["-t", "nat", "-F", "NETAVARK-HOSTPORT-DNAT"]));
        assert!(flushed.status.success(), "{flushed:?}");
        let lost = TcpStream::connect("127.0.0.1:9011").expect("conmon's queue takes it");
        let found = wait_for("the finding", || {
            let doctor = finish(&mut product::with(ns, &["doctor", "--json"]));
            let doctor = product::document(&doctor);
            about_port(&doctor, "accept-queue-stalled", 9011).ok_or_else(|| format!("{:#}", doctor["findings"]))
        });
        assert_eq!(found["hypotheses"][0]["cause"], "nat-rule-gone", "{found:#}");
        assert_eq!(found["subject"]["container"], renamed.as_str(), "{found:#}");
        let summary = found["summary"].as_str().expect("text");
        assert!(summary.ends_with(&format!("for container {renamed}: no NAT rule led them to it")), "{summary}");
        // The first step of the remedy, as it is written.
        let step = found["remedy"][0].as_str().expect("a step").to_owned();
        let written = step.split('`').nth(1).expect("a command");
        assert_eq!(written, format!("podman network reload {renamed}"), "{step}");
        podman.run(&["network", "reload", &renamed]);
        drop(lost);
        wait_for("an answer", || talk("127.0.0.1:9011"));
    });
}

#[test]
fn a_pod_is_a_pod_and_its_members_carry_it() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let (shop, member) = (name("shop"), name("web"));
        let pod = podman.pod(&["--name", &shop, "-p", "127.0.0.1:9002:80"]);
        let web = podman.echo(&["--name", &member, "--pod", &shop]).unwrap_or_else(|why| panic!("{why}"));
        let inside = wait_for("the listener in the pod", || {
            let rows = listeners(ns, &["-N", &web[..12]]);
            if rows.is_empty() { Err("none".to_owned()) } else { Ok(rows) }
        });
        assert_eq!(inside, [of("80", &member, &pod)]);
        for word in [pod.as_str(), &pod[..12], &format!("{}/{member}", &pod[..12])] {
            assert_eq!(listeners(ns, &["-N", word]), inside, "-N {word}");
        }
        assert_eq!(listeners(ns, &["--pod", &pod[..12]]), inside);
        // The port is published for the pod by the monitor of its infra container, which is no container of that id.
        let published = listeners(ns, &[]);
        let infra = format!("{}-infra", &pod[..12]);
        assert_eq!(published, [of("9002", &infra, &pod)]);
        let groups = finish(&mut product::with(
            ns,
            &["summary", "--netns", "all", "--by", "pod", &format!("pod = {}", &pod[..12])],
        ));
        let text = String::from_utf8_lossy(&groups.stdout).into_owned();
        let row = text.lines().find(|line| line.starts_with(&pod[..12])).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(row.split_whitespace().take(2).collect::<Vec<_>>(), [&pod[..12], "2"], "{text}");
    });
}

/// No finding of a rule that says that a half of a connection is missing.
#[track_caller]
fn nothing_is_half_open(who: &str, doctor: &Value) {
    let findings = doctor["findings"].as_array().expect("findings");
    let half: Vec<&Value> = findings.iter().filter(|f| f["rule"] == "half-open-mirror-missing").collect();
    assert!(half.is_empty(), "{who}: {half:#?}");
}

#[test]
fn connections_across_a_translation_are_whole_for_whoever_looks() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let server = name("echo");
        podman
            .echo(&["--name", &server, "--network", NETWORK, "-p", "127.0.0.1:9010:80"])
            .unwrap_or_else(|why| panic!("{why}"));
        let client = wait_for("an answer", || talk("127.0.0.1:9010"));
        // A container on the host's network calls the same port.
        let caller = name("caller");
        podman
            .start(&["--name", &caller, "--network", "host"], &["hold", "127.0.0.1", "9010", "2"])
            .unwrap_or_else(|why| panic!("{why}"));
        wait_for("its connections", || {
            let rows = product::json(ns, &["list", "--json", "--container", &caller, "--state", "established"]);
            if rows["total"] == 2 { Ok(()) } else { Err(rows["total"].to_string()) }
        });
        // Only the source is translated, both halves in one namespace.
        let address = finish(ns.command("ip").args(["addr", "add", "192.0.2.2/32", "dev", "lo"]));
        assert!(address.status.success(), "{address:?}");
        let rule = [
            "-t",
            "nat",
            "-A",
            "POSTROUTING",
            "-o",
            "lo",
            "-p",
            "tcp",
            "--dport",
            "9070",
            "-j",
            "SNAT",
            "--to",
            "192.0.2.2",
        ];
        let rule = finish(ns.command("iptables").args(rule));
        assert!(rule.status.success(), "{rule:?}");
        let listener = std::net::TcpListener::bind("127.0.0.1:9070").expect("listen");
        let mut near = TcpStream::connect("127.0.0.1:9070").expect("connect");
        let (mut far, peer) = listener.accept().expect("accept");
        assert_eq!(peer.ip().to_string(), "192.0.2.2", "the source is translated");
        near.write_all(b"x").expect("write");
        far.read_exact(&mut [0]).expect("read");
        for scope in [[].as_slice(), &["--netns", "all"]] {
            let words = [&["doctor", "--json"], scope].concat();
            nothing_is_half_open("root", &product::document(&finish(&mut product::with(ns, &words))));
            let (mut nobody, _binary) = product::with_user(ns, 65534, &words);
            nothing_is_half_open("nobody", &product::document(&finish(&mut nobody)));
        }
        // Nobody may read whose they are, and says so of each: a listener does not come and go.
        let (mut nobody, _binary) =
            product::with_user(ns, 65534, &["doctor", "--json", "--rule", "unattributed-sockets"]);
        let doctor = product::document(&finish(&mut nobody));
        let evidence = &doctor["findings"][0]["evidence"];
        assert_eq!(
            (&evidence["came_or_went"], &evidence["no_permission"]),
            (&0.into(), &evidence["count"]),
            "{doctor:#}"
        );
        let held = product::json(ns, &["list", "--json", "inode > 0"]);
        assert_eq!(evidence["count"], held["total"], "{doctor:#}");
        drop(client);
    });
}

#[test]
fn a_container_that_is_removed_ends_quietly_for_who_watches_its_namespace_by_number() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let server = name("gone");
        podman.echo(&["--name", &server, "--network", NETWORK]).unwrap_or_else(|why| panic!("{why}"));
        wait_for("its listener", || {
            let rows = product::json(ns, &["list", "-l", "--json", "-N", &server]);
            if rows["total"] == 1 { Ok(()) } else { Err(rows["total"].to_string()) }
        });
        let pid = podman.pid(&server);
        let commands: [&[&str]; 2] = [
            &["watch", "--json", "-i", "300ms", "-n", "12", "--no-findings", "-N", &pid],
            &["trace", "--json", "--duration", "4s", "-N", &pid],
        ];
        let running: Vec<_> = commands
            .iter()
            .map(|words| {
                let mut command = product::with(ns, words);
                command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
                command.stderr(std::process::Stdio::null()).spawn().expect("start the program")
            })
            .collect();
        std::thread::sleep(Duration::from_secs(1));
        podman.run(&["rm", "-f", "-t", "0", &server]);
        for (child, words) in running.into_iter().zip(commands) {
            let output = child.wait_with_output().expect("wait for it");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{words:?}: {text}");
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let totals: Vec<u64> =
                lines.iter().filter(|l| l["type"] == "snapshot").filter_map(|l| l["total"].as_u64()).collect();
            assert!(words[0] == "trace" || totals.first() > Some(&0) && totals.last() == Some(&0), "{totals:?}");
        }
    });
}
