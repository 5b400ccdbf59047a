//! The program inside of containers: plain, beside another one, on the host's network, with its processes, with all rights,
//! without any, read only. Comes in: a server of podman. Goes out: what is seen, and the reason for what is not. Never here:
//! advice that root be root.

use serde_json::Value;
use tcpstate::model::Unlisted;
use tcpstate::model::capability::{Capability, Denial};
use tcpstate::model::gap::{Missing, WayOut, Why};

use crate::harness::podman::{NETWORK, Podman};
use crate::harness::{finish, in_netns, skip, wait_for};
use crate::podman::{name, talk};
use crate::product;

/// The document of a run inside a container, and its gaps as text.
fn inside(podman: &Podman<'_>, options: &[&str], args: &[&str]) -> (Value, String) {
    let output = podman.product(options, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{options:?} {args:?}: {output:?}");
    let document = product::document(&output);
    let gaps = document["gaps"].to_string();
    assert!(!tells_root_to_be_root(&gaps), "root is told to be root: {gaps}");
    (document, gaps)
}

fn tells_root_to_be_root(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("as root") || text.contains("sudo")
}

/// Port and owner status of listeners.
fn listens(document: &Value) -> Vec<(u64, String)> {
    let rows = document["sockets"].as_array().expect("sockets");
    let cells = |s: &Value| {
        (s["local"]["port"].as_u64().expect("a port"), s["owner_status"].as_str().expect("a status").to_owned())
    };
    rows.iter().map(cells).collect()
}

fn lacks_ptrace() -> Denial {
    Denial::Lacks([Capability::SysPtrace].into_iter().collect())
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
        // The network of the host: rows, whose processes are in another PID namespace, and without any capability too.
        let of_pid = |refused, denial| Why::Descriptors { refused, denial, unlisted: Some(Unlisted::PidNamespace) };
        let owners = Missing::Owners { known: 0, of: 1 };
        for (options, denial) in [
            (["--network", "host", "--read-only"].as_slice(), lacks_ptrace()),
            (&["--network", "host", "--cap-drop", "all"], {
                Denial::Lacks(Capability::READ_DESCRIPTORS.iter().copied().collect())
            }),
        ] {
            let (document, gaps) = inside(&podman, options, &["list", "-l"]);
            assert_eq!(listens(&document), conmon("other_pidns"), "{document:#}");
            assert!(product::has_gap(&document, owners.clone(), of_pid(0, denial), WayOut::HostProc), "{gaps}");
        }
        // As a user who is nobody.
        let nobody = ["--network", &format!("container:{server}"), "--user", "65534", "--cap-drop", "all"];
        let output = podman.product(&nobody, &["list", "-l", "--json"]);
        assert_eq!(listens(&product::document(&output)), [(80, "other_pidns".to_owned())], "{output:?}");
        // Its processes too: listed, and not to be looked into without the right.
        let host = ["--network", "host", "--pid", "host"];
        let (document, gaps) = inside(&podman, &host, &["list", "-l"]);
        assert_eq!(listens(&document), conmon("no_permission"), "{document:#}");
        assert!(gaps.contains("root without CAP_SYS_PTRACE") && gaps.contains("--cap-add SYS_PTRACE"), "{gaps}");
        let bare = [&host[..], &["--cap-drop", "all", "--read-only"]].concat();
        let (document, gaps) = inside(&podman, &bare, &["list", "-l"]);
        assert_eq!(listens(&document), conmon("no_permission"), "{document:#}");
        assert!(gaps.contains("--cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH"), "{gaps}");
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

#[test]
fn beside_another_container_a_row_is_not_called_ones_own_and_root_is_told_what_it_lacks() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let server = name("stall");
        podman
            .start(&["--name", &server, "--network", NETWORK], &["stall", "80"])
            .unwrap_or_else(|why| panic!("{why}"));
        let address = podman.address(&server);
        let caller = name("caller");
        podman
            .start(&["--name", &caller, "--network", NETWORK], &["hold", &address, "80", "17"])
            .unwrap_or_else(|why| panic!("{why}"));
        wait_for("a full queue", || {
            let rows = product::json(ns, &["list", "--json", "-N", &server, "--state", "established"]);
            if rows["total"] == 17 { Ok(()) } else { Err(rows["total"].to_string()) }
        });
        // A sidecar shares the network and sees its own processes: whose the others are is not known to it.
        let sidecar = ["--network", &format!("container:{server}")];
        let columns = ["list", "-l", "-H", "--format", "tsv", "-c", "local-port,process,owner-status,container,pod"];
        let cells = podman.product(&sidecar, &columns);
        let shown = String::from_utf8_lossy(&cells.stdout).into_owned();
        assert_eq!(shown, "80\t(other PID namespace)\tother_pidns\t-\t-\n", "{cells:?}");
        let (rows, _) = inside(&podman, &sidecar, &["list"]);
        assert!(
            rows["sockets"].as_array().expect("rows").iter().all(|r| r["owners"] == serde_json::json!([])),
            "{rows:#}"
        );
        // What it is told to do is what would help: neither is it root that is missing.
        let (doctor, _) = inside(&podman, &sidecar, &["doctor", "--fail-on", "critical"]);
        assert!(!tells_root_to_be_root(&doctor["findings"].to_string()), "{doctor:#}");
        let stalled = of_rule(&doctor, "accept-queue-stalled");
        let first = stalled["remedy"][0].as_str().expect("a step");
        assert!(first.contains("in the host's PID namespace") && first.contains("--pid=host"), "{first}");
        let unknown = of_rule(&doctor, "unattributed-sockets");
        assert_eq!(unknown["hypotheses"][0]["cause"], "other-pid-namespace", "{unknown:#}");
        assert_eq!(unknown["evidence"]["other_pid_namespace"], 1, "{unknown:#}");
        // With the processes and without the right, by both: the finding and the gap. One with more rights may not be looked into.
        let host = ["--network", "host", "--pid", "host"];
        let port = name("port");
        podman
            .start(&["--name", &port, "--network", "host", "--cap-add", "NET_ADMIN"], &["stall", "9080"])
            .unwrap_or_else(|why| panic!("{why}"));
        let _clients: Vec<_> = wait_for("a queue on the host's network", || {
            (0..4).map(|_| std::net::TcpStream::connect("127.0.0.1:9080").map_err(|e| e.to_string())).collect()
        });
        std::thread::sleep(std::time::Duration::from_millis(1200));
        let (doctor, _) = inside(&podman, &host, &["doctor", "--fail-on", "critical"]);
        assert!(!tells_root_to_be_root(&doctor["findings"].to_string()), "{doctor:#}");
        let stalled = of_rule(&doctor, "accept-queue-stalled");
        let wanted = "with CAP_SYS_PTRACE (a container: --cap-add SYS_PTRACE): what the threads of the owner wait for names the cause";
        assert_eq!(stalled["remedy"][0], format!("Run tcpstate doctor {wanted}"), "{stalled:#}");
        // A recording made there says the same of its recorder, wherever it is read.
        let folder = tempfile::tempdir().expect("a folder");
        let volume = format!("{}:/tmp", folder.path().display());
        let recording = [&host[..], &["-v", &volume]].concat();
        let output = podman.product(&recording, &["record", "/tmp/now.tcps.zst", "--duration", "2s"]);
        assert!(output.status.success(), "{output:?}");
        let file = folder.path().join("now.tcps.zst").display().to_string();
        let read = product::document(&finish(&mut product::with(ns, &["doctor", "--json", "--from", &file])));
        let text = read.to_string();
        assert!(!tells_root_to_be_root(&text), "{read:#}");
        assert_eq!(of_rule(&read, "accept-queue-stalled")["remedy"][0], format!("Record {wanted}"), "{read:#}");
        assert!(text.contains("record with CAP_SYS_PTRACE (a container: --cap-add SYS_PTRACE)"), "{text}");
        // With the right the cause is found there too.
        let able = [&host[..], &["--cap-add", "SYS_PTRACE"]].concat();
        let (doctor, _) = inside(&podman, &able, &["doctor", "--fail-on", "critical"]);
        let stalled = of_rule(&doctor, "accept-queue-stalled");
        assert_eq!(stalled["subject"]["container"], port.as_str(), "{stalled:#}");
    });
}

/// The only finding of a rule.
#[track_caller]
fn of_rule<'d>(doctor: &'d Value, rule: &str) -> &'d Value {
    let findings = doctor["findings"].as_array().expect("findings");
    findings.iter().find(|f| f["rule"] == rule).unwrap_or_else(|| panic!("no {rule}: {doctor:#}"))
}

/// Item 14: a queue keeps its container where all rights are there, and a summary says so or has a gap.
#[test]
fn connections_that_wait_keep_their_container_inside_a_privileged_one() {
    in_netns(|ns| {
        let podman = match Podman::new(ns) {
            Ok(podman) => podman,
            Err(why) => return skip(&why),
        };
        let (server, caller) = (name("stall"), name("caller"));
        podman
            .start(&["--name", &server, "--network", NETWORK], &["stall", "80"])
            .unwrap_or_else(|why| panic!("{why}"));
        let address = podman.address(&server);
        podman
            .start(&["--name", &caller, "--network", NETWORK], &["hold", &address, "80", "17"])
            .unwrap_or_else(|why| panic!("{why}"));
        let all = ["--network", "host", "--pid", "host", "--privileged"];
        let rows = wait_for("the queue", || {
            let (rows, _) = inside(&podman, &all, &["list", "-N", &server]);
            if rows["total"] == 18 { Ok(rows) } else { Err(rows["total"].to_string()) }
        });
        let groups = podman.product(&all, &["summary", "--json", "-N", &server, "--by", "container"]);
        let groups = product::document(&groups);
        let by = groups["groups"]["by"]["rows"].as_array().expect("rows");
        assert!(by.len() == 1 && by[0]["total"] == 18 && by[0]["container"] == server.as_str(), "{groups:#}\n{rows:#}");
    });
}
