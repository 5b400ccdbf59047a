//! The sources agree: netlink, `/proc/net/tcp` and `ss` on one quiet namespace, and one walk with two. Comes in: every
//! state, held. Goes out: no difference but those listed here, each of which must still be there. Never here: owners.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use tcpstate::collect::netlink::request::Walk;
use tcpstate::collect::netlink::{Attributes, Channel, Request};
use tcpstate::model::state::State;
use tcpstate::model::{Family, Socket, StateSet};

use crate::harness::diag::Row;
use crate::harness::oracle::Witness;
use crate::harness::{Netns, finish, in_netns, kernel_at_least, oracle, skip};
use crate::product::{self, Shown};
use crate::states::{self, Others, differences};

/// What every source tells of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fact {
    state: State,
    local: std::net::SocketAddr,
    peer: std::net::SocketAddr,
    recv_q: u64,
    send_q: Option<u64>,
    inode: Option<u64>,
    uid: Option<u64>,
}

/// How one source is known to tell a socket differently from netlink.
struct Known {
    what: &'static str,
    /// Which rows.
    of: fn(&Fact) -> bool,
    /// What that source shows instead; `None` for no row at all.
    shown: fn(Fact) -> Option<Fact>,
}

/// `tcpstate list --source proc` against `tcpstate list`.
const PROC: &[Known] = &[
    Known { what: "no socket that is only bound", of: |f| f.state == State::BoundInactive, shown: |_| None },
    Known {
        what: "no backlog limit of a listener",
        of: |f| f.state == State::Listen,
        shown: |f| Some(Fact { send_q: None, ..f }),
    },
];

/// `ss -tane` against `tcpstate list`.
const SS: &[Known] = &[Known {
    what: "no user where it is root, which ss leaves out",
    of: |f| f.uid == Some(0),
    shown: |f| Some(Fact { uid: None, ..f }),
}];

/// The same for `ss` of iproute2 before 6.9, which does not ask for sockets that are only bound.
const OLD_SS: &[Known] =
    &[Known { what: "no socket that is only bound", of: |f| f.state == State::BoundInactive, shown: |_| None }];

impl From<&Shown> for Fact {
    fn from(s: &Shown) -> Fact {
        Fact {
            state: s.state,
            local: s.local,
            peer: s.peer,
            recv_q: s.recv_q,
            send_q: s.send_q,
            inode: s.inode,
            uid: s.uid,
        }
    }
}

impl From<&Row> for Fact {
    fn from(row: &Row) -> Fact {
        Fact {
            state: row.state,
            local: row.local,
            peer: row.peer,
            recv_q: row.recv_q.into(),
            send_q: Some(row.send_q.into()),
            inode: row.inode,
            uid: row.uid.map(u64::from),
        }
    }
}

fn facts<'a, T: 'a>(rows: &'a [T]) -> Vec<Fact>
where
    Fact: From<&'a T>,
{
    rows.iter().map(Fact::from).collect()
}

/// Everything in which `other` differs from what netlink and the known differences foretell; a known difference that
/// does not occur is one too.
fn news(netlink: &[Fact], known: &[&[Known]], other: &[Fact]) -> Vec<String> {
    let mut counts: BTreeMap<Fact, i64> = BTreeMap::new();
    let mut complaints = Vec::new();
    let mut seen = vec![0; known.iter().map(|k| k.len()).sum()];
    for fact in netlink {
        let mut expected = Some(fact.clone());
        for (difference, seen) in known.iter().copied().flatten().zip(&mut seen) {
            if (difference.of)(fact) {
                *seen += 1;
                expected = expected.and_then(difference.shown);
            }
        }
        if let Some(expected) = expected {
            *counts.entry(expected).or_default() += 1;
        }
    }
    for fact in other {
        *counts.entry(fact.clone()).or_default() -= 1;
    }
    for (difference, seen) in known.iter().copied().flatten().zip(seen) {
        if seen == 0 {
            complaints.push(format!("known, and no longer so: {}", difference.what));
        }
    }
    complaints.extend(counts.into_iter().filter(|(_, n)| *n != 0).map(|(fact, n)| match n {
        1.. => format!("missing: {fact:?}"),
        _ => format!("not expected: {fact:?}"),
    }));
    complaints
}

#[track_caller]
fn assert_no_news(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n{}", complaints.join("\n"));
}

#[test]
fn netlink_proc_and_ss_agree_on_every_socket() {
    in_netns(|ns| {
        let held = states::all_states(ns);
        let by_netlink = product::json(ns, &["list", "--json", "--source", "netlink"]);
        let by_proc = product::json(ns, &["list", "--json", "--source", "proc"]);
        assert_eq!((&by_netlink["source"], &by_proc["source"]), (&"netlink".into(), &"proc".into()));
        let (netlink, proc) = (product::sockets(&by_netlink), product::sockets(&by_proc));
        for state in State::ALL {
            let seen = netlink.iter().any(|s| s.state == state);
            let visible = state != State::Close && (state != State::BoundInactive || kernel_at_least(6, 8));
            assert_eq!(seen, visible, "{state}");
        }
        // Against what the test itself opened.
        for (rows, witness) in [(&netlink, Witness::Netlink), (&proc, Witness::Proc)] {
            let rows: Vec<Row> = rows.iter().map(row).collect();
            assert_no_news(&format!("{witness:?}"), &differences(&held.rows, &rows, witness, Others::None));
        }
        // Against each other.
        let (netlink, proc) = (facts(&netlink), facts(&proc));
        assert_no_news("proc against netlink", &news(&netlink, &[PROC], &proc));
        match oracle::ss(ns) {
            Ok(rows) => {
                // For a row that has no user ss prints none, and so does tcpstate.
                let known: &[&[Known]] = if ss_is_old() { &[SS, OLD_SS] } else { &[SS] };
                let complaints = news(&netlink, known, &facts(&rows));
                assert_no_news("ss against netlink", &complaints);
            }
            Err(reason) => skip(&reason),
        }
        // What a source cannot tell it says, and only that.
        let old = if kernel_at_least(6, 8) { &[][..] } else { &["bound_inactive"] };
        assert_eq!(product::missing(&by_netlink), old, "{}", by_netlink["gaps"]);
        let mut missing = product::missing(&by_proc);
        missing.sort_unstable();
        assert_eq!(missing, ["attributes", "bound_inactive", "sock_diag_fields"], "{}", by_proc["gaps"]);
    });
}

fn row(shown: &Shown) -> Row {
    let number = |n: u64| u32::try_from(n).expect("a number of 32 bits");
    Row {
        state: shown.state,
        local: shown.local,
        peer: shown.peer,
        recv_q: number(shown.recv_q),
        send_q: shown.send_q.map_or(0, number),
        inode: shown.inode,
        uid: shown.uid.map(number),
        cookie: None,
        timer: None,
    }
}

/// Whether `ss` is of iproute2 before 6.9.
fn ss_is_old() -> bool {
    let output = finish(std::process::Command::new("ss").arg("-V"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("iproute2-").nth(1).unwrap_or_else(|| panic!("ss -V printed `{text}`"));
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 9)
}

/// The comparison itself: each way to differ is noticed.
#[test]
fn a_difference_is_news() {
    let fact = Fact {
        state: State::Listen,
        local: "127.0.0.1:7000".parse().unwrap(),
        peer: "0.0.0.0:0".parse().unwrap(),
        recv_q: 0,
        send_q: Some(128),
        inode: Some(9),
        uid: Some(0),
    };
    let bound = Fact { state: State::BoundInactive, ..fact.clone() };
    let netlink = [fact.clone(), bound];
    let shown = Fact { send_q: None, ..fact.clone() };
    assert_eq!(news(&netlink, &[PROC], std::slice::from_ref(&shown)), Vec::<String>::new());
    let ways = [
        vec![],
        vec![shown.clone(), shown.clone()],
        vec![Fact { recv_q: 1, ..shown.clone() }],
        vec![Fact { state: State::Established, ..shown.clone() }],
        vec![Fact { peer: "0.0.0.0:1".parse().unwrap(), ..shown.clone() }],
        vec![Fact { inode: None, ..shown.clone() }],
        vec![fact.clone()],
    ];
    for other in ways {
        assert!(!news(&netlink, &[PROC], &other).is_empty(), "{other:?}");
    }
    // A difference that went away is news too.
    assert_eq!(news(&[fact], &[PROC], &[shown]), ["known, and no longer so: no socket that is only bound"]);
}

/// One walk for both families, with the old request type, gives what one walk for each gives.
#[test]
fn one_pass_gives_what_two_passes_give() {
    in_netns(|ns| {
        let _held = states::all_states(ns);
        let every = Attributes::INFO.union(Attributes::CONGESTION).union(Attributes::TOS).union(Attributes::SKMEM);
        let mut compared = 0;
        for attributes in [Attributes::NONE, every] {
            for states in State::ALL.iter().map(|s| StateSet::of(&[*s])).chain([StateSet::ALL]) {
                let once = dump(ns, &[Walk::Both], states, attributes);
                let twice = dump(ns, &[Walk::One(Family::V4), Walk::One(Family::V6)], states, attributes);
                let only = |these: &[String], those: &[String]| -> Vec<String> {
                    these.iter().filter(|row| !those.contains(row)).cloned().collect()
                };
                let (left, right) = (only(&once, &twice), only(&twice, &once));
                assert!(once == twice, "{states} with {:?}:\n{left:#?}\n{right:#?}", attributes.list());
                compared += once.len();
            }
        }
        assert!(compared > 100, "{compared}");
    });
}

/// The rows of these walks, sorted, without what the clock changes.
fn dump(ns: &Netns, walks: &[Walk], states: StateSet, attributes: Attributes) -> Vec<String> {
    let mut rows = Vec::new();
    ns.run(|| {
        let mut channel = Channel::open(tcpstate::model::NetnsId::new(ns.inode())).expect("sock_diag");
        for walk in walks {
            let request = Request { walk: *walk, states, attributes, bytecode: Vec::new() };
            let mut keep = |socket: &Socket| {
                // Ages, timers and the memory of what is sent again move on between two walks; that there is a tcp_info
                // and how large the buffers may be stays.
                let limits = socket.skmem.map(|m| (m.rcvbuf_bytes, m.sndbuf_bytes));
                let still = Socket { timer: None, info: None, skmem: None, ..socket.clone() };
                rows.push(format!("{still:?} info {} buffers {limits:?}", info(socket)));
                ControlFlow::Continue(())
            };
            let report = channel.dump(&request, &mut keep).expect("a dump");
            assert_eq!(report.incomplete, None);
        }
    });
    rows.sort();
    rows
}

/// Of `tcp_info`, what lasts: its length, and the bytes that passed.
fn info(socket: &Socket) -> String {
    socket.info.as_deref().map_or("none".into(), |info| {
        format!("{} {:?} {:?}", info.byte_len(), info.bytes_received(), info.bytes_acked())
    })
}
