//! What translations on the way make of attempts without an answer, on snapshots made by hand.

use super::tests::{is_out, leads, syn, weighed};
use super::*;
use crate::diagnose::testkit::{NETNS, World, listen};
use crate::diagnose::translation;
use crate::model::conntrack::{Conntrack, Tracked};
use crate::model::path::{Neighbour, NextHop, Resolution};
use crate::model::snapshot::Netns;
use crate::model::traced::TracedInterval;

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
    let hop = Neighbour { gateway: None, device: Some("br0".into()), resolution, has_carrier: Some(true) };
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
    let hop = Neighbour { gateway: None, device: None, resolution, has_carrier: Some(true) };
    world.now.next_hops.insert((NETNS, at("10.0.0.2:80").addr), NextHop::Neighbour(hop));
    assert_eq!(leads(&weighed(&world)), "host-down");
    let failed = |waited| Connects {
        netns: NETNS,
        to: at("10.0.0.2:80"),
        program: None,
        succeeded: 0,
        failed: vec![(ConnectFailure::Errno(Errno::EHOSTUNREACH), 3)],
        waited_ms: Some((1, waited)),
        failed_at_ms: None,
        succeeded_since: 0,
    };
    let mut of = |waited| {
        world.now.traced = Some(TracedInterval { connects: vec![failed(waited)], ..TracedInterval::default() });
        leads(&weighed(&world)).to_owned()
    };
    assert_eq!((of(3100).as_str(), of(20).as_str()), ("translated-elsewhere", "host-down"));
}
