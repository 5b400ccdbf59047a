//! Real containers of podman: published ports, pods, names, and the program inside of containers. Comes in: containers that
//! answer on port 80. Goes out: what the host and the containers see. Never here: cgroups in the shape of podman's, which
//! `container_words` has.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tcpstate::model::Unlisted;
use tcpstate::model::capability::{Capability, Denial};
use tcpstate::model::gap::{Missing, WayOut, Why};

use crate::harness::podman::{NETWORK, Podman};
use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::product;

/// A client that has had an answer.
fn talk(to: &str) -> Result<TcpStream, String> {
    let to: SocketAddr = to.parse().expect("an address");
    let mut client = TcpStream::connect_timeout(&to, Duration::from_secs(5)).map_err(|e| format!("connect: {e}"))?;
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    client.write_all(b"x").map_err(|e| format!("write: {e}"))?;
    client.read_exact(&mut [0]).map_err(|e| format!("read: {e}"))?;
    Ok(client)
}

/// A name that no other run of the tests has.
fn name(of: &str) -> String {
    format!("{of}-{}", std::process::id())
}

/// The only finding of a rule that is about a listener on a port.
fn about_port(doctor: &Value, rule: &str, port: u64) -> Option<Value> {
    let findings = doctor["findings"].as_array().expect("findings");
    let is = |f: &&Value| f["rule"] == rule && f["subject"]["listener"]["port"] == port;
    findings.iter().find(is).cloned()
}

/// Port, container and pod of the listeners of a namespace.
fn listeners(ns: &Netns, args: &[&str]) -> Vec<[String; 3]> {
    let words = [&["list", "-l", "-H", "--format", "tsv", "-c", "local-port,container,pod"], args].concat();
    let output = finish(&mut product::with(ns, &words));
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

fn of(port: &str, container: &str, pod: &str) -> [String; 3] {
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

/// The document of a run inside a container, and what it says for people.
fn inside(podman: &Podman<'_>, options: &[&str], args: &[&str]) -> (Value, String) {
    let output = podman.product(options, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{options:?} {args:?}: {output:?}");
    let document = product::document(&output);
    let gaps = document["gaps"].to_string();
    assert!(!gaps.contains("run as root"), "root is told to be root: {gaps}");
    (document, gaps)
}

#[test]
fn inside_a_container_the_picture_says_what_it_cannot_have() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let server = name("inside");
        podman
            .echo(&["--name", &server, "--network", NETWORK, "-p", "127.0.0.1:9010:80"])
            .unwrap_or_else(|why| panic!("{why}"));
        let client = wait_for("an answer", || talk("127.0.0.1:9010"));
        let listens = |document: &Value| -> Vec<(u64, String)> {
            let rows = document["sockets"].as_array().expect("sockets");
            rows.iter()
                .map(|s| {
                    (
                        s["local"]["port"].as_u64().expect("a port"),
                        s["owner_status"].as_str().expect("a status").to_owned(),
                    )
                })
                .collect()
        };
        let conmon = |status: &str| vec![(9010, status.to_owned())];
        // Beside the server: its own sockets, and a word on the horizon of `all`.
        let output = finish(&mut podman.command(&[
            "exec",
            &server,
            "/target/tcpstate",
            "list",
            "-l",
            "--netns",
            "all",
            "--json",
        ]));
        assert!(output.status.success(), "{output:?}");
        let document = product::document(&output);
        assert_eq!(listens(&document), [(80, "known".to_owned())], "{document:#}");
        let horizon = Why::Unlisted(Unlisted::PidNamespace);
        assert!(
            product::has_gap(&document, Missing::UnlistedNetns, horizon.clone(), WayOut::HostPidNamespace),
            "{document:#}"
        );
        // Alone, with nothing: an empty table, read.
        let bare = ["--network", NETWORK, "--cap-drop", "all", "--read-only"];
        let (document, _) = inside(&podman, &bare, &["doctor", "--once", "--netns", "all"]);
        assert_eq!((document["sockets"].as_u64(), document["findings"].as_array().map(Vec::len)), (Some(0), Some(0)));
        assert!(product::has_gap(&document, Missing::UnlistedNetns, horizon, WayOut::HostPidNamespace), "{document:#}");
        // The network of the host: rows, whose processes are in another PID namespace.
        let network = ["--network", "host"];
        let (document, gaps) = inside(&podman, &network, &["list", "-l"]);
        assert_eq!(listens(&document), conmon("no_permission"), "{document:#}");
        let of_pid =
            |refused| Why::Descriptors { refused, denial: lacks_ptrace(), unlisted: Some(Unlisted::PidNamespace) };
        let owners = Missing::Owners { known: 0, of: 1 };
        assert!(product::has_gap(&document, owners.clone(), of_pid(0), WayOut::HostProc), "{gaps}");
        // Its processes too: listed, and not to be looked into without the right.
        let host = ["--network", "host", "--pid", "host"];
        let (document, gaps) = inside(&podman, &host, &["list", "-l"]);
        assert_eq!(listens(&document), conmon("no_permission"), "{document:#}");
        assert!(gaps.contains("root without CAP_SYS_PTRACE") && gaps.contains("--cap-add SYS_PTRACE"), "{gaps}");
        let with_right = [&host[..], &["--cap-add", "SYS_PTRACE"]].concat();
        let (document, _) = inside(&podman, &with_right, &["list", "-l"]);
        assert_eq!(listens(&document), conmon("known"), "{document:#}");
        // The name is in the arguments of conmon: files of the host are not to be seen.
        assert_eq!(document["sockets"][0]["owners"][0]["container"], server.as_str(), "{document:#}");
        // All rights, and the processes of the host by its proc file system alone.
        let mounted = ["--network", "host", "--privileged", "-v", "/proc:/hostproc"];
        let (document, gaps) = inside(&podman, &mounted, &["list", "-l", "--proc-root", "/hostproc"]);
        // The table is that of the host's process 1, wherever that is.
        assert!(document["total"].is_u64() && !gaps.contains("PID namespace"), "{gaps}");
        let all = ["--network", "host", "--pid", "host", "--privileged"];
        let (document, _) = inside(&podman, &all, &["list", "-l", "--netns", "all", "sport = :80 or sport = :9010"]);
        let shown = listens(&document);
        assert!(shown.contains(&(80, "known".to_owned())) && shown.contains(&(9010, "known".to_owned())), "{shown:?}");
        drop(client);
    });
}

fn lacks_ptrace() -> Denial {
    Denial::Lacks([Capability::SysPtrace].into_iter().collect())
}
