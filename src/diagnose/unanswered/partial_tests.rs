//! Filters that let a part through and keys of one side, on snapshots made by hand.

use super::tests::{heard, is_out, leads, syn, weighed};
use super::*;
use crate::diagnose::testkit::{NETNS, World, listen, time_wait};
use crate::model::counter::Counter;
use crate::model::path::{Neighbour, NextHop, Resolution};
use crate::model::{SkMem, State};

const TO: &str = "10.0.0.2:80";

/// Three attempts that began 5 s ago.
fn attempts() -> World {
    let mut world = World::new();
    for port in 40_000..40_003 {
        world.add(syn(port, TO, 4));
    }
    world
}

/// A connection to the port that was heard just now, on which so much was sent and received.
fn beside(port: u16, sent: u64, received: u64) -> Socket {
    heard(port, TO, 10, &[("bytes_sent", sent), ("bytes_received", received)])
}

fn shares(weighed: &Weighed) -> (f64, f64) {
    let of = |id| weighed.left.iter().find(|h| h.cause.id == id).map_or(0.0, |h| h.confidence);
    (of("partly-filtered"), of("peer-accept-queue-full"))
}

#[test]
fn who_got_data_waits_in_no_queue_and_who_asked_in_vain_may() {
    let of = |rows: &[Socket]| {
        let mut world = attempts();
        world.now.sockets.extend_from_slice(rows);
        weighed(&world)
    };
    let none = of(&[]);
    assert!(is_out(&none, "partly-filtered"), "nobody is let through: {none:?}");
    assert_eq!(leads(&of(&[beside(5000, 9, 9), beside(5001, 9, 9)])), "partly-filtered");
    assert_eq!(leads(&of(&[beside(5000, 9, 9), beside(5001, 9, 0)])), "peer-accept-queue-full");
    let silent = of(&[beside(5000, 0, 0)]);
    let (filter, queue) = shares(&silent);
    assert!(leads(&silent) == "peer-accept-queue-full" && queue < 2.0 * filter, "neither is proven: {silent:?}");
    assert_eq!(leads(&of(&[time_wait("10.0.0.1:5000", TO, 59_990)])), "partly-filtered", "its program closed it");
    // They came before the attempts, and nothing was heard since: the queue filled up with them.
    let first = |port| heard(port, TO, 20_000, &[("bytes_sent", 9), ("bytes_received", 0)]);
    let behind = of(&[first(5000), first(5001), first(5002)]);
    let (filter, queue) = shares(&behind);
    assert!(leads(&behind) == "peer-accept-queue-full" && queue > 0.5 && filter < 0.15, "{behind:?}");
    assert_eq!(leads(&of(&[first(5000)])), "peer-accept-queue-full");
    let given_up = |port, left| Socket { state: State::FinWait2, ..time_wait(&format!("10.0.0.1:{port}"), TO, left) };
    let closed = of(&[given_up(5000, 59_000), given_up(5001, 58_000), given_up(5002, 30_000)]);
    assert!(leads(&closed) == "peer-accept-queue-full" && is_out(&closed, "host-down"), "{closed:?}");
    let idle = of(&[heard(5000, TO, 60_000, &[])]);
    assert!(!is_out(&idle, "partly-filtered") && leads(&idle) == "host-down", "{idle:?}");
}

#[test]
fn a_host_that_answers_for_its_address_is_hardly_down() {
    let of = |confirmed_ms| {
        let mut world = attempts();
        let resolution = Some(Resolution::Known);
        let hop = Neighbour { gateway: None, device: None, resolution, confirmed_ms, has_carrier: Some(true) };
        world.now.next_hops.insert((NETNS, "10.0.0.2".parse().unwrap()), NextHop::Neighbour(hop));
        weighed(&world).left[0].cause.id
    };
    assert_eq!([of(None), of(Some(60_000))], ["host-down"; 2], "not since they began");
    assert_eq!(of(Some(1000)), "port-filtered");
}

#[test]
fn a_queue_takes_no_heed_of_the_source() {
    let mut world = attempts();
    world.add(Socket { local: Endpoint::new("10.0.0.7".parse().unwrap(), 5000), ..beside(5000, 9, 0) });
    let other = weighed(&world);
    assert_eq!(leads(&other), "partly-filtered");
    world.add(beside(5001, 9, 0));
    assert_eq!(leads(&weighed(&world)), "peer-accept-queue-full", "the same source is answered too");
}

#[test]
fn what_is_opened_and_served_meanwhile_passes_the_queue() {
    let mut world = attempts();
    world.add(beside(5000, 9, 0)).later(1000);
    let before = shares(&weighed(&world));
    world.now.sockets[3] = beside(5000, 9, 9);
    world.add(beside(5001, 9, 9)).add(beside(5002, 0, 0));
    let after = shares(&weighed(&world));
    assert!(before.0 < before.1 && after.0 > 2.0 * after.1, "{before:?} {after:?}");
}

/// The same on one host: a listener with room, and much data of a connection beside them.
fn on_one_host(segments: u64) -> World {
    let mut world = attempts();
    let counters = [Counter::TcpExtTcpRetransFail, Counter::TcpExtTcpMd5NotFound];
    world.now.netns[0].addresses = vec!["10.0.0.2".parse().unwrap()];
    world.now.next_hops.insert((NETNS, "10.0.0.2".parse().unwrap()), NextHop::Local);
    world.add(listen("0.0.0.0:80", 0, 128)).add(beside(5000, 9, 9));
    for counter in counters {
        world.counter(counter, 7);
    }
    world.later(1000);
    world.now.sockets[..3].iter_mut().for_each(|s| s.timer.as_mut().unwrap().retransmits = 5);
    let more = [("bytes_sent", 9000), ("bytes_received", 99), ("data_segs_out", segments)];
    world.now.sockets[4] = heard(5000, TO, 10, &more);
    world
}

#[test]
fn a_filter_is_named_when_every_rival_is_excluded() {
    let clean = weighed(&on_one_host(20));
    assert_eq!(clean.named().map(|c| c.id), Some("partly-filtered"), "{clean:?}");
    assert_eq!(weighed(&on_one_host(19)).named(), None, "the path may lose them");
    let mut full = on_one_host(20);
    full.now.sockets[3].recv_q_bytes = 129;
    assert_eq!(weighed(&full).named().map(|c| c.id), Some("peer-accept-queue-full"));
}

#[test]
fn drops_for_a_signature_are_proven_by_the_counter_of_the_host_that_drops() {
    let of = |dropped: u64, key: Option<usize>| {
        let mut world = on_one_host(0);
        world.now.sockets.pop();
        world.before.as_mut().unwrap().sockets.pop();
        world.counter(Counter::TcpExtTcpMd5NotFound, 7 + dropped);
        world.now.sockets.iter_mut().for_each(|s| s.mark = Some(0));
        if let Some(at) = key {
            world.now.sockets[at].md5_key = true;
        }
        // The listener itself counts them, and no handshake was dropped.
        let skmem = |n: u64| Some(SkMem { drops: u32::try_from(n).ok(), ..SkMem::default() });
        world.now.sockets[3].skmem = skmem(dropped);
        world.before.as_mut().unwrap().sockets[3].skmem = skmem(0);
        world.counter(Counter::TcpExtListenDrops, 0);
        world.before.as_mut().unwrap().netns[0].counters.insert(Counter::TcpExtListenDrops, 0);
        weighed(&world)
    };
    for side in [0, 3] {
        assert_eq!(of(3, Some(side)).named().map(|c| c.id), Some("key-mismatch"), "three SYNs were repeated");
        assert_eq!(of(2, Some(side)).named(), None);
        assert!(is_out(&of(0, Some(side)), "key-mismatch"), "the counter stood");
    }
    assert!(is_out(&of(3, None), "key-mismatch"), "they are of others: nobody here has a key");
}

#[test]
fn from_afar_a_key_of_ours_is_the_likeliest_until_one_signed_alike_works() {
    let mut world = attempts();
    world.now.sockets.iter_mut().for_each(|s| (s.md5_key, s.mark) = (true, Some(0)));
    assert_eq!((leads(&weighed(&world)), weighed(&world).named()), ("key-mismatch", None));
    world.add(Socket { mark: Some(0), ..beside(5000, 9, 9) });
    assert!(!is_out(&weighed(&world), "key-mismatch"), "the other one is not signed");
    world.now.sockets[3].md5_key = true;
    assert!(is_out(&weighed(&world), "key-mismatch"));
    let unknown = weighed(&attempts());
    assert!(!is_out(&unknown, "key-mismatch") && leads(&unknown) == "host-down");
    assert!(world.now.sockets.iter().all(|s| s.state != State::Listen));
}
