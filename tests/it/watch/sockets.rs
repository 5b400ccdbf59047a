//! Enter on a finding shows its very sockets, and on a group its own. Comes in: faults made on the kernel, and the rules' own
//! list of sockets. Goes out: that the screen, and the command that it copies, list these by cookie. Never here: a filter made
//! anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tcpstate::Live;
use tcpstate::diagnose::Thresholds;

use super::tmux::{Tmux, product, without_tmux};
use crate::harness::helper::Helper;
use crate::harness::sock::Sock;
use crate::harness::{Netns, PATIENCE, finish, in_netns, wait_for};

type Cookies = BTreeSet<u64>;

/// What the rules name, by rule, from two looks.
fn named(ns: &Netns) -> BTreeMap<String, Vec<Cookies>> {
    ns.run(|| {
        let mut live = Live::here().expect("this host");
        let before = live.snapshot(true).expect("a look");
        std::thread::sleep(Duration::from_millis(300));
        let mut now = live.snapshot(true).expect("a look");
        let diagnosis = live.diagnose(&mut now, Some(&before), None, &Thresholds::default());
        let mut named: BTreeMap<String, Vec<Cookies>> = BTreeMap::new();
        for finding in diagnosis.findings {
            let cookies = finding.sockets.cookies().map(|all| all.into_iter().collect());
            named.entry(finding.rule.to_owned()).or_default().extend(cookies);
        }
        named
    })
}

fn cookie(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// The cookies of the rows on the screen, and whose rows they are.
fn shown(screen: &str) -> Result<(String, Cookies), String> {
    let head = screen.lines().nth(1).unwrap_or_default();
    let rule = head.split(" > ").nth(1).and_then(|rest| rest.split_whitespace().next()).ok_or("no rows are open")?;
    let rows = screen.lines().skip(3).take_while(|line| !line.starts_with("next: "));
    let cookies: Cookies = rows.flat_map(str::split_whitespace).filter_map(cookie).collect();
    if cookies.is_empty() { Err(screen.to_owned()) } else { Ok((rule.to_owned(), cookies)) }
}

/// The cookies that a command lists.
fn listed(ns: &Netns, command: &str) -> Cookies {
    let command = command.strip_prefix("tcpstate ").expect("a command of this program");
    let output = finish(ns.command("sh").args(["-c", &format!("{} {command} --json", product())]));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<Json> = serde_json::from_str::<Json>(&text)
        .ok()
        .and_then(|all| all["sockets"].as_array().cloned())
        .unwrap_or_else(|| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect());
    rows.iter().filter_map(|row| row["cookie"].as_u64().or_else(|| cookie(row["cookie"].as_str()?))).collect()
}

#[test]
fn enter_on_a_finding_lists_its_very_sockets_and_so_does_the_command() {
    const WANTED: [&str; 5] = [
        "accept-queue-overflow",
        "accept-queue-stalled",
        "listener-drops-since-open",
        "syn-sent-pileup",
        "sysctl-hazard",
    ];
    if without_tmux() {
        return;
    }
    in_netns(|ns| {
        ns.set_sysctl("ipv4/ip_local_port_range", "20000 20199");
        let mut server = Helper::start(ns);
        server.rename(b"server");
        server.make("listen 7000 2");
        // Another queue, on another port, and a listener where connect() may choose its port.
        server.make("listen 7001 8");
        server.make("listen 20100 8");
        let to = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut held: Vec<Sock> = (0..3).map(|_| ns.run(|| Sock::connected(to(7000), None))).collect();
        held.push(ns.run(|| Sock::connected(to(7001), None)));
        held.extend((0..4).map(|_| ns.run(|| Sock::connecting(to(7000), None))));
        let named = wait_for("the findings", || {
            let named = named(ns);
            if WANTED.iter().all(|rule| named.contains_key(*rule)) { Ok(named) } else { Err(format!("{named:?}")) }
        });
        let tmux = Tmux::start(ns, 200, 90, &format!("{} watch --interval 200ms", product()));
        tmux.keys(&["4"]);
        tmux.see(&["FINDINGS", "accept queue of 127.0.0.1:7000 ", "have no answer", "in the range of outgoing"]);
        let mut left: BTreeSet<&str> = WANTED.into_iter().collect();
        // Findings may change places between two looks, so that a pass can miss one; some come with the second run of the rules.
        let begun = Instant::now();
        for line in (0..12).cycle().take_while(|_| begun.elapsed() < PATIENCE) {
            tmux.keys(&["4"]);
            tmux.see(&["FINDINGS", "d in full"]);
            tmux.keys(&[&["Home"][..], &vec!["Down"; line], &["Enter"]].concat());
            let is_open = wait_for("the rows of a finding, or that it has none", || {
                let screen = tmux.screen();
                let (open, none) = (screen.contains("Enter socket"), screen.contains("no particular socket"));
                if open || none { Ok(open) } else { Err(screen) }
            });
            if !is_open {
                continue;
            }
            tmux.keys(&["s", "cookie", "Enter"]);
            let (rule, cookies) = wait_for("the rows with their cookies", || shown(&tmux.screen()));
            if !left.remove(rule.as_str()) {
                continue;
            }
            assert!(named[&rule].contains(&cookies), "{rule}: {cookies:x?} on the screen, {named:x?}");
            tmux.keys(&["c"]);
            tmux.see(&["copied, if the terminal allows it"]);
            let command = wait_for("the copied command", || Ok::<_, String>(tmux.ask(&["show-buffer"])));
            assert_eq!(listed(ns, &command), cookies, "{rule}: {command}");
            if left.is_empty() {
                break;
            }
        }
        assert!(left.is_empty(), "not seen: {left:?}");
        drop(held);
    });
}

/// A process of this name with one connection.
fn client(ns: &Netns, to: SocketAddr) -> Helper {
    let mut client = Helper::start(ns);
    client.rename(b"curl");
    client.connect(to, 1);
    client
}

#[test]
fn the_command_of_processes_that_come_and_go_lists_the_rows_of_their_group() {
    if without_tmux() {
        return;
    }
    in_netns(|ns| {
        let server = ns.run(|| TcpListener::bind("127.0.0.1:0")).expect("bind");
        let to = server.local_addr().expect("an address");
        // One of their name that stays: the command must not list it.
        let stays = client(ns, to);
        let tmux = Tmux::start(ns, 200, 60, &format!("{} watch --interval 200ms", product()));
        tmux.keys(&["3"]);
        tmux.see(&["BY PROCESS", &format!("curl({})", stays.pid())]);
        let go: Vec<Helper> = (0..3)
            .map(|_| {
                let goes = client(ns, to);
                tmux.see(&[&format!("curl({})", goes.pid())]);
                goes
            })
            .collect();
        go.into_iter().for_each(Helper::kill);
        let screen = tmux.see(&["curl, 3 processes"]);
        let rows = screen.lines().skip_while(|line| !line.contains("BY PROCESS")).skip(1);
        let at = rows.take_while(|line| !line.contains("curl, 3 processes")).count();
        tmux.keys(&[&["Home"][..], &vec!["Down"; at], &["Enter"]].concat());
        tmux.see(&["> process curl, short-lived", "Enter socket"]);
        tmux.keys(&["s", "cookie", "Enter"]);
        let (_, cookies) = wait_for("the rows with their cookies", || shown(&tmux.screen()));
        assert_eq!(cookies.len(), 3, "{}", tmux.screen());
        tmux.keys(&["c"]);
        tmux.see(&["copied, if the terminal allows it: tcpstate list 'cookie = "]);
        let command = wait_for("the copied command", || Ok::<_, String>(tmux.ask(&["show-buffer"])));
        assert_eq!(listed(ns, &command), cookies, "{command}");
    });
}
