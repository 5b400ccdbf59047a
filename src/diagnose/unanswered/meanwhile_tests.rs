//! What connects beside attempts without an answer say of these, on snapshots made by hand.

use super::tests::{heard, is_out, leads, syn, weighed};
use super::*;
use crate::diagnose::testkit::{NETNS, World};
use crate::model::State;
use crate::model::errno::Errno;
use crate::model::path::{Neighbour, NextHop, Resolution};
use crate::model::traced::{ConnectFailure, Connects, Program, Resets, TracedInterval};

const TO: &str = "10.0.0.2:80";

fn at(text: &str) -> Endpoint {
    let at: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(at.ip(), at.port())
}

/// Three attempts of one program that began 5 s ago, behind a gateway, and two samples of which the later one has a trace.
fn attempts(to: &str) -> World {
    let mut world = World::new();
    for port in 40_000..40_003 {
        let socket = syn(port, to, 4);
        world.hold(812, "client", u32::from(port), socket.inode).add(socket);
    }
    let resolution = Some(Resolution::Known);
    let gateway = Some(at("10.0.0.254:0").addr);
    let hop = Neighbour { gateway, device: None, resolution, confirmed_ms: None, has_carrier: Some(true) };
    world.now.next_hops.insert((NETNS, at(to).addr), NextHop::Neighbour(hop));
    world.later(2000);
    world.now.traced = Some(TracedInterval { duration_ms: 2000, ..TracedInterval::default() });
    world
}

/// Connects of a program beside them: how many were answered, and late.
fn beside(to: &str, comm: &str, (succeeded, succeeded_late): (u64, u64)) -> Connects {
    Connects {
        program: Some(Program { pid: 812, comm: comm.into(), processes: 1 }),
        succeeded,
        succeeded_late: Some(succeeded_late),
        succeeded_since: succeeded,
        ..Connects::none(NETNS, at(to))
    }
}

fn with(to: &str, connects: Connects) -> Weighed {
    let mut world = attempts(to);
    world.now.traced.as_mut().unwrap().connects.push(connects);
    weighed(&world)
}

#[test]
fn that_others_are_answered_at_once_leaves_a_dead_host_behind_the_address() {
    let some = with(TO, beside(TO, "client", (3, 0)));
    assert_eq!((leads(&some), some.named()), ("one-backend-down", None));
    assert!(is_out(&some, "lossy-path") && is_out(&some, "host-down") && is_out(&some, "port-filtered"));
    assert!(!is_out(&some, "partly-filtered") || !is_out(&some, "nat-exhausted"));
    // Two may be lucky, and an answer to a repeated SYN is what loss looks like.
    let two = with(TO, beside(TO, "client", (2, 0)));
    assert!(!is_out(&two, "lossy-path") && !is_out(&two, "one-backend-down"), "{two:?}");
    let late = with(TO, beside(TO, "client", (9, 2)));
    assert!(leads(&late) == "lossy-path" && !is_out(&late, "one-backend-down"), "{late:?}");
    // Of another port they say nothing.
    assert_eq!(leads(&with(TO, beside("10.0.0.2:81", "client", (9, 0)))), "host-down");
}

#[test]
fn a_router_that_looks_for_the_host_in_vain_beside_answers_tells_a_dead_one_behind_the_address() {
    let failed = |waited, succeeded| Connects {
        failed: vec![(ConnectFailure::Errno(Errno::EHOSTUNREACH), 3)],
        waited_ms: Some((waited, waited)),
        ..beside(TO, "client", (succeeded, 0))
    };
    assert_eq!(leads(&with(TO, failed(3100, 2))), "one-backend-down");
    assert_eq!(leads(&with(TO, failed(3100, 0))), "host-down");
    assert_ne!(leads(&with(TO, failed(5, 2))), "host-down", "a filter answers at once");
}

#[test]
fn what_the_same_program_reaches_over_the_other_family_leads_and_what_is_not_seen_excludes_nothing() {
    const V6: &str = "[fd00::2]:80";
    let alone = weighed(&attempts(V6));
    assert!(!is_out(&alone, "address-family-broken") && leads(&alone) != "address-family-broken", "{alone:?}");
    assert_eq!(leads(&with(V6, beside(TO, "client", (1, 0)))), "address-family-broken");
    assert_ne!(leads(&with(V6, beside(TO, "other", (1, 0)))), "address-family-broken");
    assert_ne!(leads(&with(V6, beside("10.0.0.2:81", "client", (1, 0)))), "address-family-broken");
    // TIME_WAIT has no owner.
    let mut world = attempts(V6);
    world.add(Socket { state: State::TimeWait, inode: None, ..heard(50_000, TO, 10, &[]) });
    assert_eq!(leads(&weighed(&world)), "address-family-broken");
}

#[test]
fn requests_that_are_reset_or_repeated_before_any_answer_are_a_full_queue() {
    let mut world = attempts(TO);
    let reset = Resets { count: 2, open: 2, unanswered: 2, ..Resets::none(NETNS, at(TO), false) };
    world.now.traced.as_mut().unwrap().resets.push(reset);
    assert_eq!(leads(&weighed(&world)), "peer-accept-queue-full");
    world.now.traced.as_mut().unwrap().resets[0].unanswered = 0;
    assert_eq!(leads(&weighed(&world)), "host-down");
    let first = |received| {
        let mut world = attempts(TO);
        let more = [("bytes_sent", 200), ("bytes_retrans", 100), ("total_retrans", 1), ("bytes_received", received)];
        world.add(heard(50_000, TO, 10, &more));
        leads(&weighed(&world)).to_owned()
    };
    assert_eq!((first(0).as_str(), first(9).as_str()), ("peer-accept-queue-full", "lossy-path"));
}
