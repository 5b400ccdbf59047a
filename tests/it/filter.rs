//! The filter's bytecode on the real kernel. Comes in: the state factory and random filters over its rows. Goes out:
//! that no program is refused, and that kernel, state mask and residual give the rows that the expression gives when
//! this program checks it alone. Never here: the grammar (that is tested beside the parser).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tcpstate::collect::netlink::request::Walk;
use tcpstate::collect::netlink::{Attributes, Channel, Request};
use tcpstate::filter::{Abilities, Compiled, Expr, NoResolver, Test, compile, parse};
use tcpstate::model::column::{NoNames, Row};
use tcpstate::model::{OwnerTable, Socket, State, StateSet};

use crate::harness::oracle::installed;
use crate::harness::sock::Sock;
use crate::harness::{finish, in_netns, skip};
use crate::states;

fn dump(channel: &mut Channel, walk: Walk, states: StateSet, bytecode: &[u8]) -> Result<Vec<Socket>, String> {
    let request = Request { walk, states, attributes: Attributes::NONE, bytecode: bytecode.to_vec() };
    let mut rows = Vec::new();
    let report = channel
        .dump(&request, &mut |socket| {
            rows.push(socket.clone());
            ControlFlow::Continue(())
        })
        .map_err(|e| e.to_string())?;
    assert_eq!(report.incomplete, None);
    Ok(rows)
}

fn everything(channel: &mut Channel) -> Vec<Socket> {
    dump(channel, Walk::Both, StateSet::ALL, &[]).expect("a dump without a filter")
}

type Key = (u64, State);

fn key(socket: &Socket) -> Key {
    (socket.cookie.expect("sock_diag reports cookies"), socket.state)
}

fn keys<'a>(rows: impl IntoIterator<Item = &'a Socket>) -> BTreeSet<Key> {
    rows.into_iter().map(key).collect()
}

fn option(sock: &Sock, name: i32, value: &[u8]) {
    // SAFETY: the pointer and the length are those of one slice, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            sock.fd(),
            libc::SOL_SOCKET,
            name,
            value.as_ptr().cast(),
            libc::socklen_t::try_from(value.len()).unwrap(),
        )
    };
    assert_eq!(result, 0, "setsockopt {name}: {}", std::io::Error::last_os_error());
}

/// Sockets with marks, devices and ports of both origins, beside those of the factory.
fn peculiar() -> Vec<Sock> {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut socks = Vec::new();
    for (server, client) in [("127.0.0.1:6001", "127.0.0.1:6101"), ("[::1]:6002", "[::1]:6102")] {
        let listener = Sock::bound(at(server));
        option(&listener, libc::SO_MARK, &7u32.to_ne_bytes());
        option(&listener, libc::SO_BINDTODEVICE, b"lo\0");
        listener.listen(8);
        for from in [None, Some(at(client))] {
            let client = Sock::new(at(server));
            if let Some(from) = from {
                client.bind(from);
            }
            option(&client, libc::SO_MARK, &3u32.to_ne_bytes());
            client.connect(at(server));
            socks.push(client);
            socks.push(listener.accept());
        }
        socks.push(listener);
    }
    socks.push(Sock::listening(at("127.0.0.1:0"), 1));
    let dual = Sock::listening(at("[::]:6003"), 8);
    for to in ["127.0.0.1:6003", "[::1]:6003"] {
        socks.push(Sock::connected(at(to), None));
        socks.push(dual.accept());
    }
    socks.push(dual);
    socks
}

fn address(addr: IpAddr, prefix: u8) -> String {
    match addr {
        IpAddr::V4(a) => format!("{a}/{}", prefix % 33),
        IpAddr::V6(a) => format!("[{a}/{}]", prefix % 129),
    }
}

/// Texts of filters over the values that the rows have.
fn filters(rows: &[Socket]) -> impl Strategy<Value = String> + use<> {
    let mut ports: Vec<u16> = rows.iter().flat_map(|s| [s.local.port, s.peer.port]).collect();
    ports.extend([0, 1, 65535]);
    let mut addresses: Vec<IpAddr> = rows.iter().flat_map(|s| [s.local.addr, s.peer.addr]).collect();
    addresses.push("2001:db8::1".parse().unwrap());
    let cgroups: Vec<u64> = rows.iter().filter_map(|s| s.cgroup).chain([0, 1]).collect();
    let states: Vec<String> = State::ALL.iter().map(|s| s.key().replace('_', "-")).collect();
    let order = || select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let equal = || select(vec!["=", "!="]);
    let port = select(ports);
    let address = (select(addresses), any::<u8>()).prop_map(|(a, prefix)| address(a, prefix));
    let leaf = prop_oneof![
        4 => (select(vec!["sport", "dport", "port"]), order(), port.clone()).prop_map(|(e, o, p)| format!("{e} {o} {p}")),
        3 => (select(vec!["src", "dst"]), equal(), address.clone()).prop_map(|(e, o, a)| format!("{e} {o} {a}")),
        2 => (select(vec!["src", "dst"]), equal(), address, port).prop_map(|(e, o, a, p)| format!("{e} {o} {a}:{p}")),
        1 => equal().prop_map(|o| format!("family {o} ipv6")),
        1 => (equal(), 0..3).prop_map(|(o, i)| format!("dev {o} {i}")),
        1 => (equal(), 0..8, 0..8).prop_map(|(o, v, m)| format!("fwmark {o} {v}/{m}")),
        1 => (equal(), select(cgroups)).prop_map(|(o, c)| format!("cgroup {o} {c}")),
        1 => Just("autobound".to_owned()),
        1 => select(states).prop_map(|s| format!("state {s}")),
        1 => (order(), 0..3).prop_map(|(o, n)| format!("recv-q {o} {n}")),
        1 => equal().prop_map(|o| format!("timer {o} keepalive")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|v| format!("({})", v.join(" and "))),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|v| format!("({})", v.join(" or "))),
            inner.prop_map(|e| format!("not {e}")),
        ]
    })
}

/// The expression where it is known whether the port was chosen by the kernel.
fn decided(expr: &Expr, autobound: bool) -> Expr {
    let each = |parts: &[Expr]| parts.iter().map(|p| decided(p, autobound)).collect();
    match expr {
        Expr::And(parts) => Expr::and(each(parts)),
        Expr::Or(parts) => Expr::or(each(parts)),
        Expr::Not(inner) => Expr::not(decided(inner, autobound)),
        Expr::Test(Test::Autobound) if autobound => Expr::all(),
        Expr::Test(Test::Autobound) => Expr::none(),
        Expr::Test(test) => Expr::Test(test.clone()),
    }
}

/// Whether the expression compares marks.
fn asks_mark(expr: &Expr) -> bool {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(asks_mark),
        Expr::Not(inner) => asks_mark(inner),
        Expr::Test(test) => matches!(test, Test::Mark(..)),
    }
}

/// The table at one moment: every row, and which of them the kernel calls autobound. No attribute reports the latter, and
/// it may change under one cookie and state: a FIN_WAIT2 socket that becomes a timewait structure loses its bind lock.
struct Table {
    rows: Vec<Socket>,
    autobound: BTreeSet<Key>,
}

impl Table {
    fn read(channel: &mut Channel, autobound: &[u8]) -> Table {
        let rows = everything(channel);
        let chosen = dump(channel, Walk::Both, StateSet::ALL, autobound).expect("the kernel knows `autobound`");
        Table { rows, autobound: keys(&chosen) }
    }

    /// Whether no text of [`filters`] can tell the two apart.
    fn equals(&self, other: &Table) -> bool {
        let compared = |table: &Table| -> BTreeMap<Key, _> {
            let row = |s: &Socket| (s.kind, s.recv_q_bytes, s.timer.map(|t| t.kind), s.mark, s.cgroup, s.ifindex);
            table.rows.iter().map(|s| (key(s), row(s))).collect()
        };
        self.autobound == other.autobound && compared(self) == compared(other)
    }

    /// The rows that the expression means.
    fn wanted(&self, expr: &Expr) -> BTreeSet<Key> {
        let owners = OwnerTable::default();
        let (yes, no) = (decided(expr, true), decided(expr, false));
        let meant = |socket: &&Socket| {
            let expr = if self.autobound.contains(&key(socket)) { &yes } else { &no };
            expr.matches(&Row::new(socket, &owners, &NoNames))
        };
        keys(self.rows.iter().filter(meant))
    }

    /// Rows for which the expression is undecided: older kernels compare the mark of a timewait structure and do not
    /// report it.
    fn undecided(&self, expr: &Expr) -> BTreeSet<Key> {
        keys(self.rows.iter().filter(|s| s.mark.is_none() && asks_mark(expr)))
    }
}

fn run(channel: &mut Channel, compiled: &Compiled, expr: &Expr) -> Vec<Socket> {
    let walk = expr.family_bound().map_or(Walk::Both, Walk::One);
    let rows = dump(channel, walk, compiled.states, &compiled.program)
        .unwrap_or_else(|e| panic!("{expr} is refused: {e}: {compiled:?}"));
    let owners = OwnerTable::default();
    rows.into_iter()
        .filter(|s| compiled.residual.as_ref().is_none_or(|r| r.matches(&Row::new(s, &owners, &NoNames))))
        .collect()
}

#[test]
fn programs_are_accepted_and_mean_what_the_expression_means() {
    in_netns(|ns| {
        let _held = states::all_states(ns);
        let _socks = peculiar();
        let mut channel = Channel::open(tcpstate::model::NetnsId::new(1)).expect("open sock_diag");
        let asks = |channel: &mut Channel, text: &str| {
            let expr = parse(text, &NoResolver).unwrap();
            let program = compile(&expr, Abilities { mark: true, cgroup: true }).program;
            dump(channel, Walk::Both, StateSet::ALL, &program)
        };
        let abilities =
            Abilities { mark: asks(&mut channel, "fwmark 1").is_ok(), cgroup: asks(&mut channel, "cgroup 1").is_ok() };
        if !abilities.mark || !abilities.cgroup {
            skip(&format!("this kernel does not compare all that others do: {abilities:?}"));
        }
        let autobound = compile(&parse("autobound", &NoResolver).unwrap(), abilities).program;
        let mut runner = TestRunner::deterministic();
        let strategy = filters(&everything(&mut channel));
        let (mut compared, mut exact, mut partial, mut refused, mut moved) = (0, 0, 0, 0, 0);
        let mut before = Table::read(&mut channel, &autobound);
        while compared < 1500 {
            let text = strategy.new_tree(&mut runner).unwrap().current();
            let expr = parse(&text, &NoResolver).unwrap_or_else(|e| panic!("{e}"));
            let compiled = compile(&expr, abilities);
            if compiled.unpushable.is_some() {
                refused += 1;
                continue;
            }
            let came = keys(&run(&mut channel, &compiled, &expr));
            // A table that changes meanwhile has no one right answer.
            let after = Table::read(&mut channel, &autobound);
            let same = before.equals(&after);
            let now = std::mem::replace(&mut before, after);
            if !same {
                moved += 1;
                assert!(moved < 200, "the table never stands still");
                continue;
            }
            let undecided = now.undecided(&expr);
            let decided = |keys: BTreeSet<Key>| -> BTreeSet<Key> { &keys - &undecided };
            assert_eq!(decided(came), decided(now.wanted(&expr)), "{text}\n{expr}\n{compiled:?}");
            compared += 1;
            exact += usize::from(compiled.exact && !compiled.program.is_empty());
            partial += usize::from(!compiled.exact && !compiled.program.is_empty());
        }
        println!(
            "{compared} compared over {} rows: {exact} exact, {partial} in part, {refused} not pushable, {moved} moved",
            everything(&mut channel).len()
        );
        assert!(exact > 300 && partial > 50, "the filters test nothing: {exact} exact, {partial} in part");
    });
}

#[test]
fn a_port_that_bind_chose_is_bound_automatically_and_one_that_the_program_named_is_not() {
    in_netns(|_| {
        let named = Sock::listening("127.0.0.1:6200".parse().unwrap(), 1);
        let chosen = Sock::listening("127.0.0.1:0".parse().unwrap(), 1);
        let mut channel = Channel::open(tcpstate::model::NetnsId::new(1)).expect("open sock_diag");
        let mut ports = |text: &str| {
            let expr = parse(text, &NoResolver).unwrap();
            let compiled = compile(&expr, Abilities { mark: false, cgroup: false });
            assert!(compiled.exact, "{text}");
            let rows = run(&mut channel, &compiled, &expr);
            rows.iter().map(|s| s.local.port).collect::<Vec<_>>()
        };
        assert_eq!(ports("listen autobound"), [chosen.local().port()]);
        assert_eq!(ports("listen and not autobound"), [named.local().port()]);
    });
}

#[test]
fn the_longest_program_is_accepted() {
    in_netns(|_| {
        let listener = Sock::listening("127.0.0.1:6300".parse().unwrap(), 1);
        let mut channel = Channel::open(tcpstate::model::NetnsId::new(1)).expect("open sock_diag");
        let list = (0..1000).map(|p| (p * 2).to_string()).collect::<Vec<_>>().join(",");
        for (text, rows) in [(format!("sport = {list},6300"), 1), (format!("sport = {list}"), 0)] {
            let expr = parse(&text, &NoResolver).unwrap();
            let compiled = compile(&expr, Abilities { mark: false, cgroup: false });
            assert!(compiled.exact && compiled.program.len() > 15_000, "{}", compiled.program.len());
            assert_eq!(run(&mut channel, &compiled, &expr).len(), rows);
        }
        drop(listener);
    });
}

/// Local and peer address of every row that a program prints, sorted.
fn pairs(command: &mut std::process::Command, skip: usize) -> Vec<(String, String)> {
    let output = finish(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut pairs: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(skip);
            // ss writes the address of a listener for both families as a star.
            let mut word = || Some(words.next()?.replace("[::]:", "*:"));
            Some((word()?, word()?))
        })
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn states_in_front_select_what_ss_selects() {
    if !installed("ss") {
        skip("ss is not installed");
        return;
    }
    in_netns(|ns| {
        let _socks = peculiar();
        for (filter, some) in [
            ("state established sport = 6001 or sport = 6002", 4),
            ("state established dport = 6001 or sport = 6002", 4),
            ("state listening sport = 6001 or sport = 6002", 2),
            ("exclude listening sport = 6001 or sport = 6002", 4),
            ("state established state listening sport = 6001 or sport = 6003", 6),
            ("state connected exclude established sport = 6001 or sport = 6002", 0),
        ] {
            let words: Vec<&str> = filter.split(' ').collect();
            // Of several states ss prints which it is.
            let netid = usize::from(filter.starts_with("exclude") || filter.matches("state").count() > 1);
            let theirs = pairs(ns.command("ss").args(["-tnaH"]).args(&words), 2 + netid);
            let ours = pairs(ns.product().args(["list", "-H", "-c", "local,peer"]).args(&words), 0);
            assert_eq!((ours.len(), &ours), (some, &theirs), "{filter}");
        }
    });
}
