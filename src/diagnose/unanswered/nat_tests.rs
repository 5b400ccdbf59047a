//! What translations on the way make of attempts without an answer, on snapshots made by hand.

use super::tests::{heard, is_out, leads, syn, weighed};
use super::*;
use crate::diagnose::testkit::{NETNS, World, listen};
use crate::diagnose::translation;
use crate::model::conntrack::{Conntrack, NatPorts, Tracked};
use crate::model::counter::Counter;
use crate::model::errno::Errno;
use crate::model::path::{Neighbour, NextHop, Resolution};
use crate::model::snapshot::Netns;
use crate::model::traced::{ConnectFailure, Connects, TracedInterval};
use crate::model::{RowKind, State};

const GATEWAY: Option<NetnsId> = NetnsId::new(2);

fn at(text: &str) -> Endpoint {
    let at: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(at.ip(), at.port())
}

/// Attempts to an address of another namespace, which tracks so many connections.
fn to_gateway(entries: u64) -> World {
    let mut world = World::new();
    world.add(syn(40_000, "10.0.0.2:8080", 4)).add(syn(40_001, "10.0.0.2:8080", 4));
    let conntrack = Some(Conntrack { entries: Some(entries), ..Conntrack::default() });
    let addresses = vec![at("10.0.0.2:0").addr];
    let name = Some("gate".to_owned());
    world.now.netns.push(Netns { inode: GATEWAY, name, addresses, conntrack, ..Netns::default() });
    world
}

/// The table was read and has this for both attempts.
fn tracked(world: &mut World, sent_to: Option<&str>, is_answered: bool) {
    for socket in &world.now.sockets {
        let entry = sent_to.map(|to| Tracked { sent_to: at(to), sent_from: socket.local, is_answered });
        world.now.tracking.entries.insert((GATEWAY, socket.four_tuple()), entry);
    }
}

#[test]
fn an_address_of_this_host_where_nobody_refuses_may_be_translated() {
    let unread = weighed(&to_gateway(9));
    assert!(!is_out(&unread, "host-down") && !is_out(&unread, "translated-elsewhere"), "{unread:?}");
    assert_eq!(unread.named(), None);
    let untracked = weighed(&to_gateway(0));
    assert!(leads(&untracked) == "port-filtered" && is_out(&untracked, "host-down"), "{untracked:?}");
    assert!(is_out(&untracked, "translated-elsewhere"));
    let mut read = to_gateway(9);
    tracked(&mut read, None, false);
    assert!(is_out(&weighed(&read), "translated-elsewhere") && leads(&weighed(&read)) == "port-filtered");
    let mut balanced = to_gateway(0);
    balanced.now.netns[1].virtual_services.push(at("10.0.0.2:8080"));
    assert!(!is_out(&weighed(&balanced), "translated-elsewhere"));
}

#[test]
fn an_entry_with_another_destination_and_no_host_there_is_the_cause() {
    let mut world = to_gateway(9);
    tracked(&mut world, Some("10.88.0.2:80"), false);
    let somewhere = weighed(&world);
    assert!(leads(&somewhere) == "translated-elsewhere" && is_out(&somewhere, "host-down"), "{somewhere:?}");
    assert_eq!(somewhere.named(), None, "its host may be alive");
    let resolution = Some(Resolution::Incomplete { requests: 0 });
    let hop = Neighbour {
        gateway: None,
        device: Some("br0".into()),
        resolution,
        confirmed_ms: None,
        has_carrier: Some(true),
    };
    world.now.next_hops.insert((GATEWAY, at("10.88.0.2:80").addr), NextHop::Neighbour(hop));
    assert_eq!(weighed(&world).named().map(|c| c.id), Some("translated-elsewhere"));
    tracked(&mut world, Some("10.88.0.2:80"), true);
    assert!(is_out(&weighed(&world), "translated-elsewhere"), "an answer came");
}

#[test]
fn where_they_are_sent_the_queue_decides() {
    let mut world = to_gateway(9);
    let container = NetnsId::new(3);
    let addresses = vec![at("10.88.0.2:0").addr];
    world.now.netns.push(Netns { inode: container, addresses, ..Netns::default() });
    tracked(&mut world, Some("10.88.0.2:80"), false);
    let nobody = weighed(&world);
    assert!(leads(&nobody) == "translated-elsewhere" && is_out(&nobody, "peer-accept-queue-full"), "{nobody:?}");
    world.add(Socket { netns: container, ..listen("0.0.0.0:80", 6, 5) });
    assert_eq!(weighed(&world).named().map(|c| c.id), Some("peer-accept-queue-full"));
    let last = world.now.sockets.len() - 1;
    world.now.sockets[last] = Socket { netns: container, ..listen("0.0.0.0:80", 0, 5) };
    let free = weighed(&world);
    assert!(leads(&free) == "port-filtered" && is_out(&free, "translated-elsewhere"), "{free:?}");
}

#[test]
fn a_table_tells_nothing_of_two_callers_with_the_same_addresses() {
    let mut world = to_gateway(9);
    world.now.netns.push(Netns { inode: NetnsId::new(4), ..Netns::default() });
    let ask = |world: &World| {
        let view = View::new(&world.now, None, &world.thresholds);
        translation::connections(&view, &[&world.now.sockets[0]]).len()
    };
    assert_eq!(ask(&world), 1);
    world.add(Socket { netns: NetnsId::new(4), ..syn(40_000, "10.0.0.2:8080", 4) });
    assert_eq!(ask(&world), 0);
}

#[test]
fn a_host_that_answers_on_the_link_and_is_said_to_be_unreachable_forwards() {
    let mut world = World::new();
    world.add(syn(40_000, "10.0.0.2:80", 3));
    let resolution = Some(Resolution::Known);
    let hop = Neighbour { gateway: None, device: None, resolution, confirmed_ms: None, has_carrier: Some(true) };
    world.now.next_hops.insert((NETNS, at("10.0.0.2:80").addr), NextHop::Neighbour(hop));
    assert_eq!(leads(&weighed(&world)), "host-down");
    let failed = |waited| Connects {
        failed: vec![(ConnectFailure::Errno(Errno::EHOSTUNREACH), 3)],
        waited_ms: Some((1, waited)),
        ..Connects::none(NETNS, at("10.0.0.2:80"))
    };
    let mut of = |waited| {
        world.now.traced = Some(TracedInterval { connects: vec![failed(waited)], ..TracedInterval::default() });
        leads(&weighed(&world)).to_owned()
    };
    assert_eq!((of(3100).as_str(), of(20).as_str()), ("translated-elsewhere", "host-down"));
}

/// A working connection beside them, that has got so many bytes.
fn works(world: &mut World, received: u64) {
    let row = heard(50_000, "10.0.0.2:8080", 10, &[("bytes_received", received)]);
    world.add(row);
}

/// They go through a gateway with this address.
fn through(world: &mut World, gateway: &str) {
    let resolution = Some(Resolution::Known);
    let hop = Neighbour {
        gateway: Some(at(gateway).addr),
        device: None,
        resolution,
        confirmed_ms: None,
        has_carrier: Some(true),
    };
    world.now.next_hops.insert((NETNS, at("10.0.0.2:0").addr), NextHop::Neighbour(hop));
}

fn attempts() -> World {
    let mut world = World::new();
    world.add(syn(40_000, "10.0.0.2:8080", 4)).add(syn(40_001, "10.0.0.2:8080", 4));
    world
}

#[test]
fn where_all_that_work_are_served_a_gateway_is_likelier_than_a_queue() {
    let of = |attempts: u16, received, gateway: bool| {
        let mut world = World::new();
        for port in 40_000..40_000 + attempts {
            world.add(syn(port, "10.0.0.2:8080", 4));
        }
        for port in 50_000..50_005 {
            world.add(heard(port, "10.0.0.2:8080", 10, &[("bytes_received", received)]));
        }
        if gateway {
            through(&mut world, "10.0.0.254:0");
        }
        let all = weighed(&world);
        let open = world.now.sockets.iter_mut().filter(|s| s.state == State::Established);
        open.for_each(|s| (s.state, s.kind) = (State::TimeWait, RowKind::TimeWaitMini));
        assert_ne!(leads(&weighed(&world)), "nat-exhausted", "what is over holds no port for long");
        all
    };
    assert_eq!(leads(&of(5, 100, true)), "nat-exhausted");
    assert_eq!(leads(&of(4, 100, true)), "partly-filtered", "nothing tells that somebody translates");
    assert_eq!(leads(&of(5, 0, true)), "peer-accept-queue-full", "one may wait in the queue");
    assert_eq!(leads(&of(5, 100, false)), "partly-filtered");
    let mut direct = attempts();
    works(&mut direct, 100);
    direct.now.next_hops.insert((NETNS, at("10.0.0.2:0").addr), NextHop::Local);
    assert!(is_out(&weighed(&direct), "nat-exhausted"));
}

#[test]
fn from_a_private_address_to_a_public_one_somebody_translates() {
    let of = |to: &str| {
        let mut world = World::new();
        let addr = at(to).addr;
        world.add(syn(40_000, to, 4)).add(syn(40_001, to, 4));
        world.add(heard(50_000, to, 10, &[("bytes_received", 100)]));
        let resolution = Some(Resolution::Known);
        let hop = Neighbour {
            gateway: Some(at("10.0.0.254:0").addr),
            device: None,
            resolution,
            confirmed_ms: None,
            has_carrier: Some(true),
        };
        world.now.next_hops.insert((NETNS, addr), NextHop::Neighbour(hop));
        leads(&weighed(&world)).to_owned()
    };
    assert_eq!((of("1.2.3.4:443").as_str(), of("10.9.9.9:443").as_str()), ("nat-exhausted", "partly-filtered"));
}

/// A second sample in which both were repeated once, and the gateway counts so many packets without an entry.
fn later(world: &mut World, failed: u64) {
    let address = vec![at("10.0.0.254:0").addr];
    let table = |insert_failed| Conntrack {
        entries: Some(17),
        limit: Some(1000),
        drop: Some(insert_failed),
        insert_failed: Some(insert_failed),
        ..Conntrack::default()
    };
    let conntrack = Some(table(7));
    world.now.netns.push(Netns { inode: GATEWAY, addresses: address, conntrack, ..Netns::default() });
    world.counter(Counter::TcpExtTcpRetransFail, 0).later(1000);
    world.now.sockets[0] = syn(40_000, "10.0.0.2:8080", 5);
    world.now.sockets[1] = syn(40_001, "10.0.0.2:8080", 5);
    world.now.netns[1].conntrack = Some(table(7 + failed));
}

#[test]
fn a_gateway_that_has_those_that_work_and_no_port_left_is_the_cause() {
    let mut world = attempts();
    works(&mut world, 100);
    through(&mut world, "10.0.0.254:0");
    later(&mut world, 2);
    let (source, to) = (at("10.88.0.1:0").addr, at("10.0.0.2:8080"));
    let ports = NatPorts { source, to, taken: 17, chosen: 17, lowest: 1024, highest: 1040 };
    world.now.tracking.ports.insert(GATEWAY, vec![ports]);
    let unproven = weighed(&world);
    assert!(
        leads(&unproven) == "nat-exhausted" && unproven.named().is_none(),
        "it may be on another way: {unproven:?}"
    );
    let entry = Tracked { sent_to: to, sent_from: at("10.88.0.1:1024"), is_answered: true };
    world.now.tracking.entries.insert((GATEWAY, world.now.sockets[2].four_tuple()), Some(entry));
    assert_eq!(weighed(&world).named().map(|c| c.id), Some("nat-exhausted"));
    for failed in [8, 7] {
        world.now.netns[1].conntrack.as_mut().unwrap().insert_failed = Some(failed);
        let fewer = weighed(&world);
        assert!(leads(&fewer) == "nat-exhausted" && fewer.named().is_none(), "two SYNs were repeated: {fewer:?}");
    }
}

#[test]
fn a_gateway_that_dropped_nothing_is_excluded() {
    let mut world = attempts();
    works(&mut world, 100);
    through(&mut world, "10.0.0.254:0");
    later(&mut world, 0);
    assert!(is_out(&weighed(&world), "nat-exhausted"));
}
