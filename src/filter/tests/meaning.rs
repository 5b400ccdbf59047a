//! Which rows a filter matches, on rows built by hand.

use super::*;
use crate::model::cgroup::Identity;
use crate::model::column::{Names as ColumnNames, NoNames, Row};
use crate::model::{
    Endpoint, Holder, Inode, NetnsId, OwnerTable, Process, RowKind, Socket, TcpInfo, Timer, TimerKind,
    socket::Congestion,
};

fn endpoint(addr: &str, port: u16) -> Endpoint {
    Endpoint::new(addr.parse().unwrap(), port)
}

/// An HTTPS connection held by two nginx processes.
fn https() -> Socket {
    Socket {
        netns: NetnsId::new(4_026_531_840),
        state: State::Established,
        local: endpoint("10.0.0.1", 443),
        peer: endpoint("192.168.1.9", 50_000),
        ifindex: Some(0),
        cookie: Some(0x1f),
        recv_q_bytes: 100,
        send_q_bytes: Some(65_536),
        uid: Some(33),
        inode: Inode::new(5),
        cgroup: Some(77),
        congestion: Some(Congestion::new(b"cubic")),
        ..Socket::default()
    }
}

fn owners() -> OwnerTable {
    let process = |pid, comm: &str, unit: Option<&str>| Process {
        pid,
        comm: comm.into(),
        identity: Identity { unit: unit.map(str::to_owned), ..Identity::default() },
        ..Process::default()
    };
    OwnerTable::new(
        vec![process(812, "nginx", Some("nginx.service")), process(813, "nginx-worker", None)],
        vec![Holder { inode: Inode::new(5), process: 0, fd: 7 }, Holder { inode: Inode::new(5), process: 1, fd: 9 }],
        0,
    )
}

#[track_caller]
fn check(socket: &Socket, owners: &OwnerTable, names: &dyn ColumnNames, yes: &[&str], no: &[&str]) {
    let row = Row::new(socket, owners, names);
    for (text, expected) in yes.iter().map(|t| (t, true)).chain(no.iter().map(|t| (t, false))) {
        assert_eq!(parsed(text).matches(&row), expected, "{text}");
    }
}

#[test]
fn a_plain_row() {
    check(
        &https(),
        &owners(),
        &NoNames,
        &[
            "",
            "established",
            "state connected",
            "sport = :https",
            "port 443",
            "src 10.0.0.0/8 dst 192.168.0.0/16:50000",
            "not dst 10.0.0.0/8",
            "dport >= 50000 dport <= 50000",
            "family = ipv4",
            "pid = 813",
            "pid != 1",
            "pid > 812",
            "fd = 7 and fd = 9",
            "process = nginx",
            "process = 812",
            "process ~ worker",
            "process = nginx*",
            "comm != apache",
            "process !~ apache",
            "unit = nginx.service",
            "unit != x.service",
            "user = www-data",
            "user = 33",
            "user ~ 3",
            "recv-q > 0",
            "send-q >= 64k",
            "timer != keepalive",
            "owner-status = known",
            "cookie = 31",
            "netns = 4026531840",
            "netns ~ 40265",
            "congestion = cubic",
            "dev != eth0",
            "cgroup = 77",
            "inode != 0",
            "kind = full",
        ],
        &[
            "none",
            "exclude established",
            "dport = 443",
            "pid = 814",
            "pid != 812",
            "process = worker",
            "process != nginx",
            "process !~ worker",
            "process = 81",
            "unit = y.service",
            "timer = keepalive",
            "timer = *",
            "dev = eth0",
            "cgroup != 77",
            "congestion != cubic",
            "age > 0s",
            "ulp",
        ],
    );
}

#[test]
fn what_is_not_known_fulfils_no_comparison() {
    let socket = Socket { ifindex: None, cookie: None, mark: None, congestion: None, netns: None, ..https() };
    let nothing_collected = OwnerTable::default();
    let tests = ["cookie", "mark", "ifindex", "pid", "rtt", "rmem", "netns", "cwnd"];
    for name in tests {
        for op in ["=", "!=", "<", ">=", ">", "<="] {
            let value = if name == "rtt" { "1s" } else { "1" };
            let (plain, turned) = (format!("{name} {op} {value}"), format!("not {name} {op} {value}"));
            check(&socket, &nothing_collected, &NoNames, &[&turned], &[&plain]);
        }
    }
    for plain in ["process = x", "process != x", "congestion !~ x", "dev !~ x", "age < 100d", "fwmark != 1", "dev != 1"]
    {
        check(&socket, &nothing_collected, &NoNames, &[&format!("not {plain}")], &[plain]);
    }
}

#[test]
fn what_does_not_exist_differs_from_everything() {
    let socket = Socket {
        state: State::TimeWait,
        kind: RowKind::TimeWaitMini,
        uid: None,
        cgroup: None,
        inode: None,
        timer: Some(Timer { kind: TimerKind::TimeWait, remaining_ms: 15_000, retransmits: 0 }),
        ..https()
    };
    check(
        &socket,
        &owners(),
        &NoNames,
        &[
            "user != root",
            "user !~ root",
            "process != nginx",
            "pid != 812",
            "cgroup != 77",
            "cgroup !~ x",
            "owner-status = time-wait",
            "timer = timewait",
            "timer-remaining = 15s",
            "timer-remaining < 15001ms",
            "age >= 45s",
            "v6only != yes",
            "shutdown != 3",
        ],
        &["user = root", "uid > 0", "process = nginx", "pid > 0", "cgroup = 77", "age > 45s", "age < 100d", "v6only"],
    );
}

#[test]
fn mapped_addresses_are_ipv4_addresses_on_ipv6_rows() {
    let socket = Socket {
        family: Family::V6,
        local: endpoint("::ffff:10.0.0.1", 443),
        peer: endpoint("::ffff:10.0.0.2", 9),
        ..https()
    };
    let yes =
        ["src 10.0.0.0/8", "src 10.0.0.1:443", "src ::ffff:10.0.0.1", "src 0.0.0.0/0", "src ::/0", "family = ipv6"];
    check(&socket, &owners(), &NoNames, &yes, &["src ::1", "family = ipv4", "src 10.0.0.2", "dst fe80::/10"]);
    let wildcard = Socket { family: Family::V6, local: endpoint("::", 80), ..https() };
    check(&wildcard, &owners(), &NoNames, &["src ::", "src ::/0"], &["src 0.0.0.0/0", "src 0.0.0.0"]);
}

#[test]
fn names_of_the_row_and_numbers_of_tcp_info() {
    struct Eth;
    impl ColumnNames for Eth {
        fn user(&self, _: u32) -> Option<std::rc::Rc<str>> {
            Some("www-data".into())
        }
        fn interface(&self, _: Option<NetnsId>, _: u32) -> Option<std::rc::Rc<str>> {
            Some("veth12".into())
        }
        fn cgroup(&self, _: u64) -> Option<std::rc::Rc<str>> {
            Some("/system.slice/docker-1.scope".into())
        }
        fn netns(&self, _: NetnsId) -> Option<std::rc::Rc<str>> {
            Some("blue".into())
        }
    }
    let mut info = TcpInfo::default();
    info.load(&[0; 232]);
    assert!(info.set("rtt_us", 150_000) && info.set("last_data_sent_ms", 700) && info.set("snd_cwnd", 10));
    let socket = Socket { ifindex: Some(9), info: Some(info.into()), ..https() };
    check(
        &socket,
        &owners(),
        &Eth,
        &[
            "netns = blue",
            "netns != red",
            "netns = 4026531840",
            "netns ~ lu",
            "dev = veth*",
            "dev = 9",
            "cgroup ~ docker",
            "cgroup = /system*scope",
            "user = www*",
            "rtt > 100ms",
            "rtt <= 0.15s",
            "last-data-sent > 500ms",
            "last-data-sent > 699.5ms",
            "cwnd = 10",
        ],
        &["netns = red", "dev = eth*", "cgroup !~ docker", "user = root*", "rtt > 150ms", "last-data-sent > 700ms"],
    );
}

#[test]
fn a_filter_that_ignores_the_state_matches_at_least_as_much() {
    let wider = |text: &str| parsed(text).ignoring_state().to_string();
    assert_eq!(wider("state time-wait and dport = 443"), parsed("dport = 443").to_string());
    assert!(parsed("state time-wait or dport = 443").ignoring_state().is_all());
    assert!(parsed("not (state listen and dport = 443)").ignoring_state().is_all());
    assert_eq!(wider("not dport = 443"), parsed("not dport = 443").to_string());
    assert!(parsed("recv-q > 0").ignoring_state().is_all());
    assert_eq!(wider("process = nginx and cw"), parsed("process = nginx").to_string());
}
