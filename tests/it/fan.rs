//! `tcpstate fan` over real sshd. Comes in: hosts with a fault, without one, one that does not answer in time, one where nothing
//! listens. Goes out: a report that says which is which. Never here: the configuration or the keys of who runs the tests.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;

use crate::harness::helper::Helper;
use crate::harness::oracle::installed;
use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::json::{assert_valid, validator};
use crate::product;

/// An sshd in a namespace of its own configuration, which takes one key.
pub struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sshd {
    #[track_caller]
    pub fn start(ns: &Netns, dir: &Path, port: u16, more: &str) -> Sshd {
        let at = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nAuthorizedKeysFile {}\nPermitRootLogin yes\n{more}\n",
            at("host_key"),
            at("key.pub"),
        );
        let file = dir.join(format!("sshd.{port}"));
        std::fs::write(&file, config).expect("write the configuration");
        // It runs itself again for each connection, so by its whole path.
        let mut command = ns.command("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let sshd = Sshd(command.spawn().expect("start sshd"));
        wait_for("sshd", || ns.run(|| std::net::TcpStream::connect(("127.0.0.1", port))).map_err(|e| e.to_string()));
        sshd
    }
}

/// A key without a passphrase.
#[track_caller]
fn key(dir: &Path, name: &str) {
    let made = finish(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name)));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Somebody's queue stands in this namespace. A single look calls only one that has stood for some seconds a fault.
pub fn stalled(ns: &Netns) -> Helper {
    let mut helper = Helper::start(ns);
    helper.rename(b"stalled");
    helper.make("accept_queue_full 7000 5 3");
    wait_for("a queue that stands", || {
        let look = finish(&mut product::with(ns, &["doctor", "--once", "--min-severity", "warning"]));
        if look.status.code() == Some(1) { Ok(()) } else { Err(String::from_utf8_lossy(&look.stdout).into_owned()) }
    });
    helper
}

/// The keys of hosts and of who calls them.
pub fn keys(dir: &Path) {
    // The directory that sshd separates its privileges into belongs to the system.
    let _ = std::fs::create_dir_all("/run/sshd");
    key(dir, "key");
    key(dir, "host_key");
}

#[test]
fn one_report_says_what_is_found_and_which_host_is_dead_or_slow() {
    if !installed("ssh") || !Path::new("/usr/sbin/sshd").exists() || !rustix::process::geteuid().is_root() {
        return skip("sshd is not installed, or this is not root");
    }
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        keys(dir.path());
        let _stalled = stalled(ns);
        let servers = [
            Sshd::start(ns, dir.path(), 2201, ""),
            Sshd::start(ns, dir.path(), 2202, "ForceCommand echo '{\"findings\": [], \"gaps\": []}'"),
            Sshd::start(ns, dir.path(), 2203, "ForceCommand sleep 30"),
            Sshd::start(ns, dir.path(), 2204, "ForceCommand echo no such thing >&2; exit 127"),
        ];
        let hosts = [("sick", 2201), ("well", 2202), ("slow", 2203), ("bare", 2204), ("dead", 2299)];
        let mut config = format!(
            "Host *\n  HostName 127.0.0.1\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  \
             UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
            dir.path().join("key").display()
        );
        for (host, port) in hosts {
            config.push_str(&format!("Host {host}\n  Port {port}\n"));
        }
        let (ssh_config, list) = (dir.path().join("ssh_config"), dir.path().join("hosts"));
        std::fs::write(&ssh_config, config).expect("write");
        std::fs::write(&list, "sick\nwell # nothing here\n\nslow\nbare\ndead\nsick\n").expect("write");
        let fan = |words: &[&str]| {
            let common = [
                "fan",
                "--hosts",
                list.to_str().expect("a path"),
                "--ssh-config",
                ssh_config.to_str().expect("a path"),
            ];
            let remote = ["--timeout", "5s", "--remote", env!("CARGO_BIN_EXE_tcpstate")];
            let output = finish(&mut product::with(ns, &[&common[..], &remote, words].concat()));
            let text = String::from_utf8(output.stdout.clone()).expect("text");
            assert_eq!(output.status.code(), Some(2), "a host did not answer: {text}");
            (output, text)
        };
        let (_, text) = fan(&["--", "doctor", "--once", "--min-severity", "warning"]);
        let lines: Vec<&str> = text.lines().collect();
        let at =
            |start: &str| lines.iter().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
        let of_sick = &lines[at("sick: ") + 1..at("well: nothing found")];
        assert!(of_sick.iter().any(|l| l.contains("stalled") && l.contains("[accept-queue-")), "{text}");
        assert!(at("sick: ") < at("well: nothing found"), "in the order of the file: {text}");
        assert!(
            at("well: ") < at("slow: timed out: no answer within 5")
                && at("slow: ") < at("bare: failed: no such thing")
        );
        assert!(lines[at("dead: cannot be reached: ")].contains("refused"), "{text}");
        assert_eq!(lines.last(), Some(&"5 hosts: 2 answered, 1 failed, 1 timed out, 1 cannot be reached"));
        let (output, _) = fan(&["--json", "--parallel", "2", "--", "summary", "--no-owners"]);
        let document = product::document(&output);
        assert_valid(&validator(Some("fan")), &document, "fan --json");
        assert!(validator(None).is_valid(&document), "more than one kind of document, or none");
        let of =
            |host: &str| document["hosts"].as_array().expect("hosts").iter().find(|h| h["host"] == host).expect("it");
        assert_valid(&validator(Some("summary")), &of("sick")["answer"], "the answer of a host");
        let outcomes =
            ["sick", "well", "slow", "bare", "dead"].map(|host| of(host)["outcome"].as_str().expect("a word"));
        assert_eq!(outcomes, ["answered", "answered", "timed_out", "failed", "unreachable"]);
        assert_eq!((&of("slow")["exit_code"], &of("slow")["answer"]), (&Json::Null, &Json::Null));
        // A word of the command reaches the other side as it is.
        let (_, text) = fan(&["--", "list", "-H", "process = 'no;such $(thing)'"]);
        assert!(text.starts_with("sick:\nwell:\n"), "{text}");
        drop(servers);
    });
}
