//! Real containers of docker. Comes in: a daemon of the test with and without its userland proxy. Goes out: names, published ports and
//! both halves of connections through them. Never here: what podman shows too ([`crate::podman`]).

use std::io::{Read as _, Write as _};
use std::process::Command;

use serde_json::Value;

use crate::harness::docker::Docker;
use crate::harness::{Netns, announce, finish, in_netns, wait_for};
use crate::podman::{listed, name, of, talk};
use crate::product;

/// Port, container and runtime of listeners.
fn listeners(docker: &Docker<'_>, args: &[&str]) -> Vec<[String; 3]> {
    let words = [&["list", "-l", "-H", "--format", "tsv", "-c", "local-port,container,runtime"], args].concat();
    let mut lines = listed(&mut docker.product(&words));
    lines.dedup();
    lines
}

fn json(command: &mut Command) -> Value {
    product::document(&finish(command))
}

/// Clients through both published ports have answers, and nothing is wrong, from one namespace and from all.
fn nothing_is_wrong(docker: &Docker<'_>, ns: &Netns, container: &str) {
    let mut clients =
        wait_for("answers through both ports", || Ok(vec![talk("127.0.0.1:9010")?, talk("127.0.0.1:9011")?]));
    for scope in [[].as_slice(), &["--netns", "all"]] {
        for client in &mut clients {
            client.write_all(b"y").expect("write");
            client.read_exact(&mut [0]).expect("read");
        }
        let doctor = json(&mut docker.product(&[&["doctor", "--json"], scope].concat()));
        let is_ours = |f: &&Value| {
            let of_container = f["subject"]["container"].as_str().is_some_and(|c| c == container);
            of_container || f["subject"]["netns"].as_u64() == Some(ns.inode())
        };
        let findings = doctor["findings"].as_array().expect("findings");
        let harmful: Vec<&Value> = findings
            .iter()
            .filter(is_ours)
            .filter(|f| f["severity"] != "info" || f["rule"] == "half-open-mirror-missing")
            .collect();
        assert!(harmful.is_empty(), "{scope:?}: {harmful:#?}");
    }
}

/// Without its proxy the daemon itself reserves the port: who is in its queue met no rule, and the daemon is not to be ended.
fn a_lost_rule_is_told(docker: &Docker<'_>, ns: &Netns) {
    let flushed = finish(ns.command("iptables").args(["-t", "nat", "-F", "DOCKER"]));
    assert!(flushed.status.success(), "{flushed:?}");
    let waiting = std::net::TcpStream::connect("127.0.0.1:9011").expect("the daemon's queue takes it");
    let found = wait_for("the finding", || {
        let doctor = json(&mut docker.product(&["doctor", "--json"]));
        let findings = doctor["findings"].as_array().expect("findings").clone();
        let is = |f: &Value| f["rule"] == "accept-queue-stalled" && f["subject"]["listener"]["port"] == 9011;
        findings.into_iter().find(is).ok_or_else(|| "none".to_owned())
    });
    assert_eq!(found["hypotheses"][0]["cause"], "nat-rule-gone", "{found:#}");
    assert!(
        found["summary"].as_str().is_some_and(|s| s.contains("dockerd (") && s.contains("only reserves the port")),
        "{found:#}"
    );
    assert!(found["remedy"][0].as_str().is_some_and(|s| s.contains("`systemctl restart docker`")), "{found:#}");
    assert!(!found["remedy"].to_string().contains("End dockerd"), "{found:#}");
    drop(waiting);
}

#[test]
fn a_published_port_of_docker_is_its_containers_with_and_without_the_proxy() {
    in_netns(|ns| {
        for userland_proxy in [true, false] {
            let docker = match Docker::new(ns, userland_proxy) {
                Ok(docker) => docker,
                // Whether its daemon starts depends on the kernel and on what else is installed; the same is tested with podman,
                // which must run.
                Err(why) => return announce(&format!("not run: {why}")),
            };
            let (first, renamed) = (name("web"), name("renamed"));
            let published = ["--name", &first, "-p", "127.0.0.1:9010:80", "-p", "0.0.0.0:9011:80"];
            let id = docker.start(&published, &["echo", "80"]);
            nothing_is_wrong(&docker, ns, &first);
            // The daemon's file says where its data is: names, also behind the proxy that carries the connections.
            let both = |name: &str| {
                if userland_proxy { vec![of("9010", name, "docker"), of("9011", name, "docker")] } else { Vec::new() }
            };
            let shown = listeners(&docker, &[]);
            let named: Vec<&[String; 3]> = shown.iter().filter(|cells| cells[1] != "-").collect();
            assert_eq!(named, both(&first).iter().collect::<Vec<_>>(), "{shown:?}");
            for word in [first.as_str(), &id[..12], &id] {
                assert_eq!(listeners(&docker, &["-N", word]), [of("80", &first, "docker")], "-N {word}");
            }
            docker.run(&["rename", &first, &renamed]);
            assert_eq!(listeners(&docker, &["-N", &renamed]), [of("80", &renamed, "docker")]);
            if !userland_proxy {
                a_lost_rule_is_told(&docker, ns);
            }
            // A fault between two containers.
            let stalled = name("stall");
            docker.start(&["--name", &stalled], &["stall", "80"]);
            let address = docker.run(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &stalled]);
            let caller = name("caller");
            docker.start(&["--name", &caller], &["hold", &address, "80", "17"]);
            let found = wait_for("the stalled queue", || {
                let doctor = json(&mut docker.product(&["doctor", "--json", "-N", &stalled, "-N", &caller]));
                let findings = doctor["findings"].as_array().expect("findings").clone();
                findings.into_iter().find(|f| f["rule"] == "accept-queue-stalled").ok_or_else(|| "none".to_owned())
            });
            assert_eq!(found["subject"]["container"], stalled.as_str(), "{found:#}");
            // The same seen from inside, where the files of the host are not.
            let inside = docker.run(&[
                "exec",
                &renamed,
                "/target/tcpstate",
                "list",
                "-l",
                "-H",
                "--format",
                "tsv",
                "-c",
                "local-port,process,container-id",
            ]);
            let cells: Vec<&str> = inside.split('\t').collect();
            assert!(cells[0] == "80" && cells[1].starts_with("python3("), "{inside}");
        }
    });
}
