//! `explain bind` against the kernel: what it says of a `bind()`, and what that `bind()` then does. Comes in: sockets in
//! every situation that holds a port, with every option. Goes out: each verdict beside the kernel's. Never here: the words.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use serde_json::Value as Json;

use crate::harness::{Netns, finish, in_netns, skip, wait_for};
use crate::judge::pause;
use crate::product;

/// What a socket sets before `bind()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    addr: bool,
    port: bool,
    v6only: bool,
}

fn socket(of: SocketAddr, flags: Flags) -> OwnedFd {
    let family = if of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("socket");
    sockopt::set_socket_reuseaddr(&fd, flags.addr).expect("SO_REUSEADDR");
    sockopt::set_socket_reuseport(&fd, flags.port).expect("SO_REUSEPORT");
    if of.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, flags.v6only).expect("IPV6_V6ONLY");
    }
    fd
}

/// What the kernel does.
fn really(at: SocketAddr, flags: Flags) -> Result<(), Errno> {
    let fd = socket(at, flags);
    net::bind(&fd, &at)?;
    net::listen(&fd, 1)
}

/// How a socket came to hold the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Listens,
    Bound,
    /// Accepted; the listener is closed.
    Accepted,
    /// Accepted and closed first; the listener is closed.
    ServerTimeWait,
    /// An outgoing connection, whose port the kernel chose.
    Outgoing,
    OutgoingTimeWait,
}

const KINDS: [Kind; 6] =
    [Kind::Listens, Kind::Bound, Kind::Accepted, Kind::ServerTimeWait, Kind::Outgoing, Kind::OutgoingTimeWait];

fn port_of(fd: &OwnedFd) -> u16 {
    SocketAddr::try_from(net::getsockname(fd).expect("getsockname")).expect("an IP address").port()
}

/// Makes the situation; returns the port, and what has to stay open.
fn make(kind: Kind, at: SocketAddr, flags: Flags) -> (u16, Vec<OwnedFd>) {
    let fd = socket(at, flags);
    let outgoing = matches!(kind, Kind::Outgoing | Kind::OutgoingTimeWait);
    // An outgoing connection's own options count; its listener is elsewhere, and stays.
    let server = if outgoing { socket(at, Flags { v6only: flags.v6only, ..Flags::default() }) } else { fd };
    net::bind(&server, &at).unwrap_or_else(|e| panic!("{kind:?} {at} {flags:?}: {e}"));
    if kind == Kind::Bound {
        return (at.port(), vec![server]);
    }
    net::listen(&server, 4).expect("listen");
    if kind == Kind::Listens {
        return (at.port(), vec![server]);
    }
    let mut to = at;
    if to.ip().is_unspecified() {
        to.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let client = socket(to, if outgoing { flags } else { Flags::default() });
    net::connect(&client, &to).expect("connect");
    let accepted = net::accept_with(&server, SocketFlags::CLOEXEC).expect("accept");
    match kind {
        Kind::Accepted => (at.port(), vec![accepted, client]),
        Kind::ServerTimeWait => {
            drop(accepted);
            drop(client);
            (at.port(), Vec::new())
        }
        Kind::OutgoingTimeWait => {
            let port = port_of(&client);
            drop(client);
            drop(accepted);
            (port, vec![server])
        }
        _ => (port_of(&client), vec![server, accepted, client]),
    }
}

fn explain(ns: &Netns, at: SocketAddr) -> Json {
    product::json(ns, &["explain", "bind", &at.to_string(), "--json"])["bind"].clone()
}

/// Whether it works beside sockets with these options, as the verdict has it.
fn told(way: &Json, old: Flags) -> bool {
    let true_of = |assumption: &Json| match assumption.as_str().expect("a word") {
        "theirs_so_reuseaddr" => old.addr,
        "theirs_so_reuseport" => old.port,
        "theirs_ipv6_v6only" => old.v6only,
        "same_user" => true,
        other => panic!("assumes {other}"),
    };
    match way["verdict"].as_str().expect("a verdict") {
        "works" => true,
        "fails" => {
            assert_eq!(way["errno"], "EADDRINUSE", "{way}");
            false
        }
        _ => {
            let one_of = |clause: &Json| clause.as_array().expect("a list").iter().any(true_of);
            way["if"].as_array().expect("a list").iter().all(one_of)
        }
    }
}

/// Whether the kernel does what was told; else what it did. A child that another test starts has a copy of the last
/// socket until it executes its program, so a port that is in use is tried again.
fn agrees(target: SocketAddr, new: Flags, works: bool) -> Result<(), Result<(), Errno>> {
    let mut real = really(target, new);
    if works && real.is_err() {
        pause(100);
        real = really(target, new);
    }
    match real {
        Err(e) if e != Errno::ADDRINUSE => panic!("{target} {new:?}: {e}"),
        _ if real.is_ok() == works => Ok(()),
        _ => Err(real),
    }
}

#[test]
fn every_verdict_is_what_the_kernel_does() {
    in_netns(|ns| {
        ns.set_sysctl("ipv4/ip_local_port_range", "40000 60000");
        let at = |text: &str, port: u16| SocketAddr::new(text.parse().expect("an address"), port);
        let (mut port, mut compared, mut open, mut wrong) = (7000, 0, 0, Vec::new());
        for kind in KINDS {
            for (addr, v6only) in
                [("127.0.0.1", false), ("0.0.0.0", false), ("::1", false), ("::", false), ("::", true)]
            {
                for (reuse_addr, reuse_port) in [(false, false), (true, false), (false, true), (true, true)] {
                    let old = Flags { addr: reuse_addr, port: reuse_port, v6only };
                    port += 1;
                    let (held, _alive) = make(kind, at(addr, port), old);
                    // bind() to an IPv6 address sets IPV6_V6ONLY, which an accepted socket inherits; connect() does not.
                    let outgoing = matches!(kind, Kind::Outgoing | Kind::OutgoingTimeWait);
                    let old = Flags { v6only: v6only || (addr == "::1" && !outgoing), ..old };
                    for new in ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "::ffff:127.0.0.1"] {
                        // Wildcards of the other family are covered by those, and each look costs a process.
                        if reuse_addr && reuse_port && matches!(new, "127.0.0.2" | "::ffff:127.0.0.1") {
                            continue;
                        }
                        let target = at(new, held);
                        let answer = explain(ns, target);
                        let ways = answer["ways"].as_array().expect("ways");
                        let options = [(false, false), (true, false), (false, true), (true, true)];
                        for (addr, port) in options {
                            let new = Flags { addr, port, v6only: false };
                            let mut names = Vec::new();
                            names.extend(addr.then_some("SO_REUSEADDR"));
                            names.extend(port.then_some("SO_REUSEPORT"));
                            let way = ways.iter().find(|w| w["options"] == serde_json::json!(names)).unwrap_or(&answer);
                            compared += 1;
                            open += usize::from(way["verdict"] == "depends");
                            if let Err(real) = agrees(target, new, told(way, old)) {
                                wrong.push(format!(
                                    "{kind:?} {addr} {old:?}, bind {target} {new:?}: {real:?}, told {way}"
                                ));
                            }
                        }
                        if new == "::"
                            && let Some(way) = ways.iter().find(|w| w["options"] == serde_json::json!(["IPV6_V6ONLY"]))
                        {
                            compared += 1;
                            let new = Flags { v6only: true, ..Flags::default() };
                            if let Err(real) = agrees(target, new, told(way, old)) {
                                wrong.push(format!("{kind:?} {old:?}, bind {target} v6only: {real:?}, told {way}"));
                            }
                        }
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{} of {compared} wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert!(compared > 2000 && open > 100 && open * 2 < compared, "{compared} {open}");
    });
}

#[test]
fn what_is_refused_before_other_sockets_matter() {
    in_netns(|ns| {
        for (at, errno) in [
            ("192.0.2.1:8080", Some("EADDRNOTAVAIL")),
            ("[2001:db8::1]:8080", Some("EADDRNOTAVAIL")),
            ("[fe80::1]:8080", Some("EINVAL")),
            ("[ff02::1]:8080", Some("EINVAL")),
            ("127.0.0.1:80", None),
            ("127.9.9.9:8080", None),
        ] {
            let told = product::json(ns, &["explain", "bind", at, "--json"])["bind"].clone();
            let real = really(at.parse().expect("an address"), Flags::default());
            assert_eq!(told["errno"].as_str(), errno, "{told}");
            assert_eq!(real.is_ok(), errno.is_none(), "{at}: {real:?}");
            assert!(told["ways"].as_array().unwrap().is_empty() && told["free_in_ms"].is_null(), "{told}");
        }
        ns.set_sysctl("ipv4/ip_nonlocal_bind", "1");
        assert_eq!(explain(ns, "192.0.2.1:8080".parse().unwrap())["verdict"], "works");
        if !product::can_be_another_user() {
            return skip("only root can become another user");
        }
        for (at, errno) in [("127.0.0.1:80", Some("EACCES")), ("[::1]:80", Some("EACCES")), ("127.0.0.1:8080", None)] {
            let (mut run, _binary) = product::with_user(ns, 65534, &["explain", "bind", at, "--json"]);
            let told = product::document(&finish(&mut run))["bind"].clone();
            assert_eq!(told["errno"].as_str(), errno, "{told}");
            assert_eq!(told["uid"], 65534);
        }
    });
}

#[test]
fn the_answer_names_the_holder_the_end_and_the_option() {
    in_netns(|ns| {
        let at: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let flags = Flags { port: true, ..Flags::default() };
        let (_, first) = make(Kind::Listens, at, flags);
        let (_, _second) = make(Kind::Listens, at, flags);
        let told = explain(ns, at);
        // Two listeners on one port prove the option, so nothing is left open.
        let way = |told: &Json, name: &str| {
            let ways = told["ways"].as_array().unwrap().clone();
            ways.into_iter().find(|w| w["options"] == serde_json::json!([name])).unwrap()["verdict"].clone()
        };
        assert_eq!(
            (way(&told, "SO_REUSEADDR"), way(&told, "SO_REUSEPORT")),
            ("fails".into(), "works".into()),
            "{told}"
        );
        let holders = &told["conflicts"][0]["socket"]["owners"];
        assert_eq!(holders[0]["pid"].as_u64(), Some(std::process::id().into()), "{told}");
        assert!(told["free_in_ms"].is_null());
        let text = product::text(ns, &["explain", "bind", "127.0.0.1:7000"]);
        assert!(text.contains("would fail now: EADDRINUSE") && text.contains("SO_REUSEPORT: works\n"), "{text}");
        drop(first);
        // Another namespace has the same port and does not matter.
        let other = Netns::new();
        let elsewhere = product::json(&other, &["explain", "bind", "127.0.0.1:7000", "--json"])["bind"].clone();
        assert_eq!(elsewhere["verdict"], "works", "{elsewhere}");
        // What only waits says until when.
        let at: SocketAddr = "127.0.0.1:7001".parse().unwrap();
        make(Kind::ServerTimeWait, at, Flags { addr: true, ..Flags::default() });
        wait_for("TIME_WAIT", || {
            let told = explain(ns, at);
            let left = told["free_in_ms"].as_u64();
            if left.is_some_and(|ms| (50_000..=61_000).contains(&ms)) { Ok(()) } else { Err(told.to_string()) }
        });
        let text = product::text(ns, &["explain", "bind", "127.0.0.1:7001"]);
        assert!(
            text.contains("free in ") && text.contains("SO_REUSEADDR: works if they have SO_REUSEADDR too"),
            "{text}"
        );
    });
}
