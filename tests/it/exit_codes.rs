//! The exit codes of the manual. Comes in: the sentence "Exit codes" of every command. Goes out: a run of the program that ends with
//! each of them. A code that a page promises and no run here shows fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::helper::Helper;
use crate::harness::script::Script;
use crate::harness::{Netns, finish, in_netns, wait_for};
use crate::nagios::LEAK;
use crate::product;
use crate::states::{self, Ports};

/// The codes that the help of a command names.
fn promised(command: &clap::Command) -> BTreeSet<i32> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let sentence = help.split("Exit codes: ").nth(1).unwrap_or_default();
    let words = sentence.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    words.filter(|word| word.len() == 1).filter_map(|word| word.parse().ok()).collect()
}

/// An `ssh` that ends with the code that the host is named after.
fn false_ssh(dir: &Path) {
    let file = dir.join("ssh");
    let text = [
        "#!/bin/sh",
        "printf '{\"findings\": [], \"gaps\": []}'",
        "for word; do",
        "    case $word in code-*) exit \"${word#code-}\" ;; esac",
        "done",
    ]
    .join("\n");
    std::fs::write(&file, text).expect("write");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
}

/// Runs each line, and notes with what it ended.
struct Runs<'a> {
    ns: &'a Netns,
    path: String,
    seen: BTreeMap<&'static str, BTreeSet<i32>>,
}

impl Runs<'_> {
    #[track_caller]
    fn ends(&mut self, command: &'static str, code: i32, words: &[&str]) {
        let output = finish(product::with(self.ns, words).env("PATH", &self.path));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}{said}", String::from_utf8_lossy(&output.stdout));
        self.seen.entry(command).or_default().insert(code);
    }
}

#[test]
fn a_run_ends_with_each_code_that_a_page_promises() {
    in_netns(|ns| {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        false_ssh(dir.path());
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut runs = Runs { ns, path, seen: BTreeMap::new() };
        let (capture, none) = (at("a.tcps.zst"), at("none"));

        runs.ends("tcpstate", 0, &[]);
        runs.ends("tcpstate", 1, &["list", "--exists", "dst 192.0.2.1"]);
        runs.ends("tcpstate", 2, &["no-such-command"]);
        runs.ends("doctor", 0, &["doctor", "--once"]);
        runs.ends("doctor", 0, &["doctor", "--once", "--nagios"]);
        runs.ends("doctor", 2, &["doctor", "--rule", "no-such-rule"]);
        runs.ends("doctor", 3, &["doctor", "--nagios", "--proc-root", &none]);
        runs.ends("record", 0, &["record", &capture, "--interval", "100ms", "--duration", "300ms", "--no-trace"]);
        runs.ends("record", 2, &["record", &capture, "--duration", "300ms"]);
        runs.ends("convert", 0, &["convert", &capture, "--to", "jsonl"]);
        runs.ends("convert", 2, &["convert", &none, "--to", "jsonl"]);
        runs.ends("report", 0, &["report", &capture]);
        runs.ends("report", 2, &["report", &none]);
        runs.ends("export", 0, &["export", "--once"]);
        runs.ends("export", 2, &["export", "--listen", "nowhere"]);
        runs.ends("diff", 0, &["diff", &capture, &capture]);
        runs.ends("diff", 2, &["diff", &capture, &none]);
        #[cfg(feature = "mcp")]
        {
            // Its input is empty.
            runs.ends("mcp", 0, &["mcp"]);
            runs.ends("mcp", 2, &["mcp", "--from", &none]);
        }
        for code in ["0", "1", "2"] {
            let hosts = at(&format!("hosts-{code}"));
            // A host that cannot be asked ends ssh with 255, and a command that failed there with its own code.
            std::fs::write(&hosts, format!("code-0\ncode-{code}\n")).expect("write");
            runs.ends("fan", code.parse().expect("a number"), &["fan", "--hosts", &hosts, "--", "doctor"]);
        }

        let held = states::established(ns, Ports::server(7000), 2);
        runs.ends("diff", 1, &["diff", &capture]);
        runs.ends("kill", 0, &["kill", "--yes", "dst 192.0.2.1"]);
        runs.ends("kill", 1, &["kill", "--yes", "listen and sport = :7000"]);
        runs.ends("kill", 2, &["kill", "--yes"]);
        drop(held);

        if product::can_be_another_user() {
            let Some(mut leak) = Script::start(ns, LEAK, &[]) else { return };
            leak.line();
            // Who may not read the limits of a process does not know when it runs out.
            wait_for("a warning", || {
                let (mut command, _binary) = product::with_user(ns, 65534, &["doctor", "--nagios"]);
                let output = finish(&mut command);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                if output.status.code() == Some(1) && text.starts_with("TCPSTATE WARNING - ") {
                    Ok(())
                } else {
                    Err(text)
                }
            });
        }
        let mut helper = Helper::start(ns);
        helper.make("accept_queue_full 7002 2 2");
        wait_for("a critical state", || {
            let output = finish(&mut product::with(ns, &["doctor", "--once", "--nagios"]));
            if output.status.code() == Some(2) { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into()) }
        });
        runs.ends("doctor", 2, &["doctor", "--once", "--nagios"]);
        runs.ends("doctor", 1, &["doctor", "--once"]);
        runs.ends("doctor", 1, &["doctor", "--once", "--fail-on", "high"]);

        let program = tcpstate::cli::command();
        let mut pages = 0;
        for command in std::iter::once(&program).chain(program.get_subcommands()) {
            let (name, promised) = (command.get_name(), promised(command));
            let seen = runs.seen.get(name).cloned().unwrap_or_default();
            assert_eq!(promised, seen, "{name}: promised by the page, and seen here");
            pages += usize::from(!promised.is_empty());
        }
        assert!(pages >= 9, "{pages}");
    });
}
