//! The playbook of packaging/ansible over real sshd. Comes in: hosts with a fault, without one, without the program, one that does
//! not answer in time, one where nothing listens. Goes out: a report that says which is which. Never here: `fan`, which has
//! tests of its own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fan::{Sshd, keys, stalled};
use crate::harness::oracle::installed;
use crate::harness::{in_netns, skip};
use crate::tidy::root;

#[test]
fn the_playbook_makes_one_report_and_names_the_dead_and_the_slow_host() {
    let sshd = std::path::Path::new("/usr/sbin/sshd").exists();
    if !installed("ansible-playbook") || !sshd || !rustix::process::geteuid().is_root() {
        return skip("ansible-core or sshd is not installed, or this is not root");
    }
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        keys(dir.path());
        let _stalled = stalled(ns);
        let servers = [
            Sshd::start(ns, dir.path(), 2201, ""),
            Sshd::start(ns, dir.path(), 2202, "ForceCommand true"),
            Sshd::start(ns, dir.path(), 2203, "ForceCommand sleep 100"),
            Sshd::start(ns, dir.path(), 2204, "ForceCommand echo no such thing >&2; exit 127"),
        ];
        let hosts = [("sick", 2201), ("well", 2202), ("slow", 2203), ("bare", 2204), ("dead", 2299)];
        let lines = hosts.map(|(host, port)| format!("{host} ansible_port={port}\n")).concat();
        let options =
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes";
        let common = format!(
            "[all:vars]\nansible_host=127.0.0.1\nansible_user=root\nansible_ssh_private_key_file={}\n\
             ansible_ssh_common_args='{options}'\n",
            at("key")
        );
        std::fs::write(at("hosts.ini"), lines + &common).expect("write");
        let said = std::fs::File::create(at("said")).expect("a file");
        let mut command = ns.command("ansible-playbook");
        command
            .args(["-i", &at("hosts.ini"), "-e", "patience=10", "-e", &format!("report={}", at("report"))])
            .args(["-e", &format!("tcpstate={}", env!("CARGO_BIN_EXE_tcpstate"))])
            .arg(root().join("packaging/ansible/doctor.yml"))
            .envs([("ANSIBLE_LOCAL_TEMP", at("tmp")), ("ANSIBLE_HOME", at("home"))])
            // Connections that it keeps would outlive the test.
            .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=no")
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said);
        let (mut child, start) = (command.spawn().expect("start ansible"), Instant::now());
        let status = loop {
            match child.try_wait().expect("wait") {
                Some(status) => break status,
                None if start.elapsed() > Duration::from_secs(120) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("{}", std::fs::read_to_string(at("said")).unwrap_or_default());
                }
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        let said = std::fs::read_to_string(at("said")).expect("what it said");
        assert!(status.success(), "{said}");
        let report = std::fs::read_to_string(at("report")).unwrap_or_else(|e| panic!("{e}: {said}"));
        let lines: Vec<&str> = report.lines().collect();
        let line = |start: &str| {
            lines.iter().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {report}\n{said}"))
        };
        assert_eq!(lines[line("well:")], "well: nothing found");
        assert_eq!(lines[line("bare:")], "bare: failed: no such thing", "{said}");
        assert!(lines[line("dead: cannot be reached:")].contains("refused"), "{report}");
        assert!(lines[line("slow: no answer:")].contains("(10)"), "{report}");
        let of_sick = &lines[line("sick:") + 1..line("slow:")];
        assert!(of_sick.iter().any(|l| l.contains("stalled")), "{report}");
        // No other line is of no host.
        let heads = lines.iter().filter(|l| !l.starts_with(' ') && !l.is_empty()).count();
        assert_eq!(heads, hosts.len(), "{report}");
        drop(servers);
    });
}
