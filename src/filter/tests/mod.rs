//! Shared parts of the filter tests: a resolver with a few names, strategies for expressions and for filter texts.

mod errors;
mod grammar;
mod machine;
mod meaning;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::column::{COLUMNS, Kind};
use crate::model::{Family, State, StateSet};

/// A few names.
struct Names;

impl Resolver for Names {
    fn port(&self, service: &str) -> Option<u16> {
        [("ssh", 22), ("http", 80), ("https", 443), ("http-alt", 8080)]
            .into_iter()
            .find(|(name, _)| *name == service)
            .map(|(_, port)| port)
    }
    fn interface(&self, name: &str) -> Option<u32> {
        [("lo", 1), ("eth0", 2)].into_iter().find(|(n, _)| *n == name).map(|(_, index)| index)
    }
    fn user(&self, name: &str) -> Option<u32> {
        [("root", 0), ("www-data", 33)].into_iter().find(|(n, _)| *n == name).map(|(_, id)| id)
    }
    fn cgroup(&self, path: &str) -> Option<u64> {
        (path == "/system.slice/nginx.service").then_some(77)
    }
    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        match host {
            "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            "web-3.example" => vec![Ipv4Addr::new(10, 0, 0, 3).into()],
            _ => Vec::new(),
        }
    }
}

fn parsed(text: &str) -> Expr {
    parse(text, &Names).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str) -> ParseError {
    match parse(text, &Names) {
        Err(e) => e,
        Ok(expr) => panic!("{text} reads as {expr}"),
    }
}

fn cmp() -> impl Strategy<Value = Cmp> {
    select(vec![Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge])
}

fn equality() -> impl Strategy<Value = Cmp> {
    select(vec![Cmp::Eq, Cmp::Ne])
}

fn end() -> impl Strategy<Value = End> {
    select(vec![End::Local, End::Peer])
}

/// Few enough that random rows hit them.
fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => select(vec![0, 22, 80, 443, 8080, 32768, 65534, 65535]), 1 => any::<u16>()]
}

fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = select(vec![
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv4Addr::new(10, 1, 2, 3),
        Ipv4Addr::new(192, 168, 0, 1),
        Ipv4Addr::BROADCAST,
    ]);
    let v6 = select(vec!["::", "::1", "fe80::1", "fe80::2", "2001:db8::1", "2001:db8:0:1::1", "ffff::"]);
    prop_oneof![
        v4.clone().prop_map(IpAddr::V4),
        v4.prop_map(|a| IpAddr::V6(a.to_ipv6_mapped())),
        v6.prop_map(|a| a.parse().unwrap()),
        any::<u32>().prop_map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        any::<u128>().prop_map(|a| IpAddr::V6(Ipv6Addr::from(a))),
    ]
}

fn net() -> impl Strategy<Value = Net> {
    (address(), 0..=128u8).prop_map(|(addr, prefix)| {
        let widest = if addr.is_ipv4() { 32 } else { 128 };
        Net::new(addr, prefix % (widest + 1)).unwrap()
    })
}

fn states() -> impl Strategy<Value = StateSet> {
    (proptest::collection::vec(select(State::ALL.to_vec()), 0..12), any::<bool>()).prop_map(|(states, turned)| {
        let set = StateSet::of(&states);
        if turned { set.complement() } else { set }
    })
}

/// Tests that the kernel can check.
fn kernel_test() -> impl Strategy<Value = Expr> {
    prop_oneof![
        (end(), cmp(), port()).prop_map(|(end, cmp, port)| Test::Port(end, cmp, port)),
        (end(), net(), proptest::option::of(port())).prop_map(|(end, net, port)| Test::Host(end, net, port)),
        select(Family::ALL.to_vec()).prop_map(Test::Family),
        (equality(), 0..3u32).prop_map(|(cmp, index)| Test::Interface(cmp, index)),
        (equality(), 0..4u32, select(vec![u32::MAX, 1, 3, 0])).prop_map(|(c, v, m)| Test::Mark(c, v, m)),
        (equality(), 0..3u64).prop_map(|(cmp, id)| Test::Cgroup(cmp, id)),
        Just(Test::Autobound),
    ]
    .prop_map(Expr::Test)
}

fn columns(kinds: &[Kind]) -> Vec<Col> {
    COLUMNS
        .iter()
        .filter(|c| kinds.contains(&c.kind) && !["mark", "ifindex"].contains(&c.name))
        .map(|c| Col::find(c.name).unwrap())
        .collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec!["nginx", "n*", "and", "not", "=", "", "812", "a b", "it's", "\"", "'\"'", "\\x2d", "état"])
            .prop_map(str::to_owned),
        any::<String>(),
    ]
}

/// Tests that only user space can run.
fn user_test() -> impl Strategy<Value = Expr> {
    let free = ["comm", "process", "unit", "container", "pod", "congestion"];
    let fixed = ["kind", "owner-status", "timer", "exposure", "user", "dev", "cgroup", "netns"];
    let find = |names: &[&str]| names.iter().map(|n| Col::find(n).unwrap()).collect::<Vec<_>>();
    let numbers = columns(&[Kind::Count, Kind::Bytes, Kind::BytesPerSecond, Kind::Number, Kind::Id]);
    let number = prop_oneof![0..4u64, any::<u64>()];
    let duration = prop_oneof![(0..100u64).prop_map(|s| s * 1_000_000), any::<u64>()];
    let text_cmp = select(vec![Cmp::Eq, Cmp::Ne, Cmp::Has, Cmp::HasNot]);
    prop_oneof![
        (select(numbers), cmp(), number).prop_map(|(col, cmp, n)| Test::Number(col, cmp, n)),
        (select(columns(&[Kind::Millis, Kind::Micros])), cmp(), duration.clone())
            .prop_map(|(col, cmp, us)| Test::Time(col, cmp, us)),
        (cmp(), duration).prop_map(|(cmp, us)| Test::Age(cmp, us)),
        (select(columns(&[Kind::Flag])), equality(), any::<bool>()).prop_map(|(c, cmp, v)| Test::Flag(c, cmp, v)),
        (select(find(&free)), text_cmp, text()).prop_map(|(c, cmp, t)| Test::Text(c, cmp, Pattern::new(&t))),
        (select(find(&fixed)), select(vec![Cmp::Has, Cmp::HasNot]), text()).prop_map(|(c, cmp, t)| Test::Text(
            c,
            cmp,
            Pattern::new(&t)
        )),
    ]
    .prop_map(Expr::Test)
}

/// Expressions over all tests; `kernel` in ten leaves can be checked by the kernel.
fn expr(kernel: u32) -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        kernel + 1 => kernel_test(),
        10 - kernel => user_test(),
        2 => states().prop_map(Expr::states),
        1 => select(vec![Expr::all(), Expr::none()]),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Expr::and),
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Expr::or),
            inner.prop_map(Expr::not),
        ]
    })
}
