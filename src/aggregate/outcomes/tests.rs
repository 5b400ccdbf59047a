//! Events, and what they are summed up to.

use super::*;
use crate::model::Family;
use crate::model::traced::{Counts, Resets};
use crate::model::transition::Traffic;

fn change(address: u64, ms: u64, (old, new): (State, State), pid: Option<u32>, error: Option<LastError>) -> Event {
    let by = pid.map_or(By::Network, |pid| By::Process(Actor { pid, comm: "curl".into() }));
    let port = if address == 0xf0 { 0 } else { 40_000 };
    Event::Change(Transition {
        at_us: 0,
        monotonic_ns: ms * 1_000_000,
        netns: NetnsId::new(1),
        cookie: None,
        address: Some(address),
        family: Family::V4,
        local: Endpoint::new([10, 0, 0, 1].into(), port),
        peer: Endpoint::new("::ffff:10.0.0.9".parse().unwrap(), 443),
        old: Some(old),
        new,
        by: Some(by),
        by_call: pid.is_some(),
        traffic: None,
        error,
    })
}

fn interval(events: &[Event]) -> TracedInterval {
    let mut outcomes = Outcomes::new([NetnsId::new(1)], 0);
    for event in events {
        outcomes.add(event);
    }
    outcomes.interval(2_000_000_000, 0, true, &Beside { name: &|_| None, snapshots: &[] })
}

#[test]
fn what_came_is_counted_by_port_and_peer_and_repetitions_of_closed_connections_apart() {
    const CAME: (State, State) = (State::SynRecv, State::Established);
    let repeats = |state| {
        let Event::Change(t) = change(0xa0, 5, OPENS, None, None) else { unreachable!() };
        Event::Retransmit(Retransmit { at: Sighting { state: Some(state), ..Sighting::of(&t) }, failed: None })
    };
    let interval = interval(&[
        change(0xa0, 100, CAME, None, None),
        change(0xb0, 900, CAME, None, None),
        repeats(State::FinWait1),
        repeats(State::LastAck),
        repeats(State::Established),
        repeats(State::SynSent),
    ]);
    let [accepted] = &interval.accepted[..] else { panic!("{interval:#?}") };
    assert_eq!((accepted.local_port, accepted.peer.to_string()), (40_000, "10.0.0.9".into()));
    assert_eq!((accepted.count, accepted.at_ms), (2, (100, 900)));
    assert_eq!(interval.unlistened, [], "no listener was closed");
    let [sums] = &interval.retransmits[..] else { panic!("{interval:#?}") };
    assert_eq!((sums.handshake, sums.segments, sums.closing), (1, 3, 2));
}

#[test]
fn listeners_that_are_closed_are_counted_by_port() {
    const ENDS: (State, State) = (State::Listen, State::Close);
    let interval = interval(&[change(0xa0, 100, ENDS, None, None), change(0xb0, 900, ENDS, None, None)]);
    assert_eq!(interval.unlistened.iter().map(|u| (u.local_port, u.count)).collect::<Vec<_>>(), [(40_000, 2)]);
}

const OPENS: (State, State) = (State::Close, State::SynSent);
const WORKS: (State, State) = (State::SynSent, State::Established);
const FAILS: (State, State) = (State::SynSent, State::Close);

#[test]
fn processes_of_one_name_are_one_program_and_each_end_counts_once() {
    let errno = |errno| Some(LastError::Errno(errno));
    let reset = |event: &Event| match event {
        Event::Change(t) => {
            Event::ResetReceived(ResetReceived { at: Sighting { state: Some(State::SynSent), ..Sighting::of(t) } })
        }
        other => *other,
    };
    let refused = change(0xb0, 11, FAILS, None, errno(Errno::ECONNREFUSED));
    let interval = interval(&[
        change(0xa0, 0, OPENS, Some(7), None),
        change(0xa0, 9, WORKS, None, None),
        change(0xb0, 10, OPENS, Some(8), None),
        reset(&refused),
        refused,
        // Without a RST it came by ICMP.
        change(0xc0, 20, OPENS, Some(8), None),
        change(0xc0, 21, FAILS, None, errno(Errno::ECONNREFUSED)),
        // Its own timeout, of an attempt that began before the trace.
        change(0xd0, 500, FAILS, Some(9), Some(LastError::Nothing)),
        change(0xe0, 600, OPENS, Some(9), None),
        change(0xe0, 1700, FAILS, None, errno(Errno::ETIMEDOUT)),
        // Told at once, by what the trace did not see.
        change(0x20, 1750, OPENS, Some(9), None),
        change(0x20, 1759, FAILS, Some(9), Some(LastError::Nothing)),
        change(0x30, 700, OPENS, Some(9), None),
        change(0x30, 1700, WORKS, None, None),
        change(0xf0, 1800, OPENS, Some(9), None),
        change(0xf0, 1800, FAILS, Some(9), Some(LastError::Nothing)),
        // It had begun before, and nobody knows who.
        change(0x10, 1900, FAILS, None, errno(Errno::ETIMEDOUT)),
    ]);
    assert_eq!(interval.connects.len(), 1, "{interval:#?}");
    let connects = &interval.connects[0];
    assert_eq!((connects.to.to_string(), connects.succeeded, connects.failures()), ("10.0.0.9:443".into(), 2, 7));
    let program = connects.program.as_ref().unwrap();
    assert_eq!((program.comm.as_str(), program.processes), ("curl", 3));
    let count = |kind| connects.failed.iter().find(|(k, _)| *k == kind).map(|(_, n)| *n);
    assert_eq!(count(ConnectFailure::Errno(Errno::ETIMEDOUT)), Some(2));
    for kind in [
        ConnectFailure::Refused,
        ConnectFailure::Errno(Errno::ECONNREFUSED),
        ConnectFailure::GivenUp,
        ConnectFailure::AtOnce,
        ConnectFailure::NoPort,
    ] {
        assert_eq!(count(kind), Some(1), "{kind:?}");
    }
    assert_eq!((connects.waited_ms, connects.failed_at_ms), (Some((0, 1100)), Some((11, 1900))));
    // Those that had begun before the trace are not said to have waited for what others did.
    let waited = |kind| connects.waited(kind).map(|w| (w.ms, w.at_least_ms));
    assert_eq!(waited(ConnectFailure::GivenUp), Some((None, Some(500))));
    assert_eq!(waited(ConnectFailure::Errno(Errno::ETIMEDOUT)), Some((Some((1100, 1100)), Some(1900))));
    assert_eq!(waited(ConnectFailure::Refused), Some((Some((1, 1)), None)));
    assert_eq!((connects.answered_ms, connects.succeeded_at_ms), (Some((9, 1000)), Some((9, 1700))));
    assert!(connects.failed_again());
    assert_eq!(connects.succeeded_late, Some(1), "one came after a second");
    assert!(interval.resets.is_empty(), "a reset that answers a SYN is a refused connect");
}

#[test]
fn a_reset_that_cuts_an_open_connection_says_whether_an_answer_was_missing() {
    let cut = |address, received| {
        let error = Some(LastError::Errno(Errno::ECONNRESET));
        let Event::Change(t) = change(address, 5, (State::Established, State::Close), None, error) else { panic!() };
        Event::Change(Transition { traffic: Some(Traffic { sent_bytes: 90, received_bytes: received }), ..t })
    };
    let resets = interval(&[cut(0xa0, Some(0)), cut(0xb0, Some(7)), cut(0xc0, None)]).resets;
    assert_eq!(resets.len(), 1, "{resets:#?}");
    let of = &resets[0];
    assert_eq!((of.count, of.open, of.unanswered, of.served_here, of.sent), (3, 3, 1, false, None));
    assert_eq!((of.after_fin, of.fresh), (0, 0));
}

/// A connection that was made, got a FIN and met a RST at these times, if the trace saw it, with what it had received.
fn met(opened_ms: Option<u64>, fin_ms: Option<u64>, cut_ms: u64, received: u64) -> Resets {
    let error = Some(LastError::Errno(Errno::EPIPE));
    let Event::Change(t) = change(0xa0, cut_ms, (State::CloseWait, State::Close), None, error) else { panic!() };
    let cut =
        Event::Change(Transition { traffic: Some(Traffic { sent_bytes: 90, received_bytes: Some(received) }), ..t });
    let opened = opened_ms.map(|ms| change(0xa0, ms, WORKS, None, None));
    let fin = fin_ms.map(|ms| change(0xa0, ms, (State::Established, State::CloseWait), None, None));
    interval(&opened.into_iter().chain(fin).chain([cut]).collect::<Vec<_>>()).resets.remove(0)
}

#[test]
fn a_connection_is_used_again_only_if_it_was_used_before_and_rested_after_the_fin() {
    let again = |opened, fin, cut, received| met(opened, fin, cut, received).after_fin;
    assert_eq!(again(None, None, 900, 5000), 1, "all of it was before the trace");
    assert_eq!(again(None, Some(500), 520, 5000), 1);
    assert_eq!(again(Some(100), Some(500), 600, 5000), 1);
    assert_eq!(again(None, None, 900, 0), 0, "it never got a byte");
    assert_eq!(again(Some(100), Some(500), 599, 5000), 0, "it is young");
    assert_eq!(again(None, None, 99, 5000), 0, "it may be young");
    assert_eq!(again(None, Some(500), 519, 5000), 0, "an upload that goes on");
    let fresh = |opened, cut, received| met(opened, None, cut, received).fresh;
    assert_eq!((fresh(Some(100), 110, 0), fresh(Some(100), 1099, 300)), (1, 1));
    assert_eq!((fresh(Some(100), 1100, 0), fresh(Some(100), 110, 301), fresh(None, 110, 0)), (0, 0, 0));
}

#[test]
fn what_a_client_cuts_off_before_an_answer_is_told_from_what_it_leaves_and_names_who_closed() {
    let closes = |address, old, (sent_bytes, received): (u64, u64)| {
        let error = Some(LastError::Nothing);
        let Event::Change(t) = change(address, 5, (old, State::Close), Some(7), error) else { panic!() };
        Transition { traffic: Some(Traffic { sent_bytes, received_bytes: Some(received) }), ..t }
    };
    let reset = |t: &Transition| {
        let at = Sighting { by: Some(By::Network), ..Sighting::of(t) };
        Event::ResetSent(ResetSent { at, reason: None })
    };
    let (gave_up, served) = (closes(0xa0, State::Established, (90, 0)), closes(0xb0, State::Established, (90, 9)));
    let events = [&gave_up, &served].map(|t| [Event::Change(*t), reset(t)]).concat();
    let of = &interval(&events).resets[0];
    assert_eq!((of.count, of.waited, of.unanswered, of.program.is_none()), (2, 1, 0, true));
    // The kernel answers what comes for a socket that a process has closed.
    let closed = change(0xa0, 4, (State::Established, State::FinWait1), Some(7), None);
    let aborted = closes(0xa0, State::FinWait2, (90, 9));
    let events = [closed, Event::Change(aborted), reset(&aborted), reset(&aborted)];
    let resets = interval(&events).resets;
    let pids: Vec<Option<u32>> = resets.iter().map(|r| r.program.as_ref().map(|p| p.pid)).collect();
    assert!(pids.contains(&Some(7)) && pids.contains(&None), "the second has the address of another: {resets:#?}");
}

#[test]
fn a_server_that_resets_before_it_sends_leaves_its_client_without_an_answer() {
    let aborts = |address, sent_bytes| {
        let how = (State::Established, State::Close);
        let Event::Change(t) = change(address, 5, how, Some(7), Some(LastError::Nothing)) else { panic!() };
        let (local, peer) = (t.peer, t.local);
        Transition { local, peer, traffic: Some(Traffic { sent_bytes, received_bytes: Some(90) }), ..t }
    };
    let reset = |t: &Transition| Event::ResetSent(ResetSent { at: Sighting::of(t), reason: None });
    let (silent, answered) = (aborts(0xa0, 0), aborts(0xb0, 200));
    let events = [Event::Change(silent), reset(&silent), Event::Change(answered), reset(&answered), reset(&silent)];
    let resets = interval(&events).resets;
    assert_eq!(resets.iter().map(|r| (r.count, r.unanswered)).collect::<Vec<_>>(), [(3, 1)]);
}

#[test]
fn what_clients_got_before_the_fin_is_counted_by_who_closed_first() {
    let end = |address, ms, old, sent_bytes, received| {
        let Event::Change(t) = change(address, ms, (old, State::Close), None, Some(LastError::Nothing)) else {
            panic!()
        };
        let traffic = Some(Traffic { sent_bytes, received_bytes: received });
        Event::Change(Transition { traffic, ..t })
    };
    let here = |event: Event| match event {
        Event::Change(t) => Event::Change(Transition { local: t.peer, peer: t.local, ..t }),
        other => other,
    };
    let (ours, theirs) = (State::FinWait2, State::LastAck);
    let interval = interval(&[
        change(0xa0, 0, WORKS, None, None),
        end(0xa0, 999, ours, 90, Some(0)), //      sent and closed at once: it asked for nothing
        change(0xb0, 0, WORKS, None, None),
        end(0xb0, 1000, ours, 90, Some(0)),     //     given up
        end(0xb0, 1100, ours, 90, Some(0)),     //     another socket there, made before the trace
        end(0xc0, 1200, theirs, 90, Some(0)),   //   closed by the service without a word
        end(0xd0, 1300, theirs, 90, Some(120)), // a line and a FIN
        end(0xd0, 1300, theirs, 90, Some(301)),
        end(0xe0, 1400, ours, 90, Some(120)),
        end(0xe0, 1400, ours, 0, Some(0)), //      a check that only connects
        end(0xe0, 1400, ours, 90, None),   //        not known
        here(end(0xf1, 1500, ours, 0, Some(90))),
        here(end(0xf2, 1500, theirs, 0, Some(90))),
        here(end(0xf3, 1500, ours, 500, Some(90))),
    ]);
    let of = |served_here| interval.ends.iter().find(|e| e.served_here == served_here).unwrap().counts;
    assert_eq!(
        of(false),
        Counts { answered: 3, given_up: 2, unanswered: 1, brief: 1, message: Some(2), at_once: Some(0) }
    );
    assert_eq!(
        of(true),
        Counts { answered: 1, given_up: 1, unanswered: 1, brief: 0, message: Some(0), at_once: Some(0) }
    );
}

/// One end of a connection that was made at 0, got the peer's FIN and ended at these times, with what it sent and received.
fn ends_of(at: (Option<u64>, u64), old: State, traffic: (u64, u64), served_here: bool) -> Vec<Event> {
    let (fin_ms, ended_ms) = at;
    let began = if served_here { (State::SynRecv, State::Established) } else { WORKS };
    let fin = fin_ms.map(|ms| change(0xa0, ms, (State::Established, State::CloseWait), None, None));
    let Event::Change(t) = change(0xa0, ended_ms, (old, State::Close), None, Some(LastError::Nothing)) else {
        panic!()
    };
    let traffic = Some(Traffic { sent_bytes: traffic.0, received_bytes: Some(traffic.1) });
    [change(0xa0, 0, began, None, None)]
        .into_iter()
        .chain(fin)
        .chain([Event::Change(Transition { traffic, ..t })])
        .collect()
}

#[test]
fn what_a_service_closes_before_it_was_asked_is_counted_at_either_end() {
    let at_once = |at, old, traffic, served_here| {
        let ends = interval(&ends_of(at, old, traffic, served_here)).ends;
        ends.iter().filter(|e| e.served_here == served_here).filter_map(|e| e.counts.at_once).sum::<u64>()
    };
    let (ours, theirs) = (State::FinWait2, State::LastAck);
    for sent in [0, 300] {
        assert_eq!(at_once((None, 299), ours, (sent, 0), true), 1, "the service, {sent}");
        // The client may close long after.
        assert_eq!(at_once((Some(299), 9000), theirs, (0, sent), false), 1, "the client, {sent}");
    }
    for (what, at, old, traffic, served_here) in [
        ("it had been asked", (None, 10), ours, (30, 1), true),
        ("more than a line", (None, 10), ours, (301, 0), true),
        ("later", (None, 300), ours, (30, 0), true),
        ("the client first", (Some(5), 10), theirs, (30, 0), true),
        ("the client had asked", (Some(10), 20), theirs, (1, 30), false),
        ("the client first", (None, 10), ours, (0, 0), false),
        ("the FIN later", (Some(300), 300), theirs, (0, 30), false),
    ] {
        assert_eq!(at_once(at, old, traffic, served_here), 0, "{what}");
    }
    let silent = interval(&ends_of((None, 5), ours, (0, 0), true)).ends.remove(0).counts;
    assert_eq!(
        silent,
        Counts { at_once: Some(1), message: None, ..Counts::default() },
        "no end of those that carried something"
    );
}

#[test]
fn each_process_that_closed_first_is_told_with_what_it_had_served() {
    let one = |address, pid, sent_bytes| {
        let Event::Change(t) = change(address, 30, (State::FinWait2, State::Close), None, Some(LastError::Nothing))
        else {
            panic!()
        };
        [
            change(address, 10, (State::SynRecv, State::Established), None, None),
            change(address, 20, (State::Established, State::FinWait1), Some(pid), None),
            Event::Change(Transition { traffic: Some(Traffic { sent_bytes, received_bytes: Some(90) }), ..t }),
        ]
    };
    let events = [one(0xa0, 7, 400), one(0xb0, 9, 0), one(0xc0, 9, 0), one(0xd0, 7, 400)].concat();
    let ends = interval(&events).ends;
    let [ends] = &ends[..] else { panic!("{ends:#?}") };
    let told = ends.closers.iter().map(|(p, c)| (p.pid, c.unanswered, c.answered)).collect::<Vec<_>>();
    assert_eq!((told, ends.callers.is_empty()), (vec![(9, 2, 0), (7, 0, 2)], true));
}

#[test]
fn what_a_service_cuts_off_as_soon_as_it_came_is_new_and_cut() {
    let cut = |opened_ms: Option<u64>, sent_bytes, served_here| {
        let came = opened_ms.map(|ms| {
            change(0xa0, ms, if served_here { (State::SynRecv, State::Established) } else { WORKS }, None, None)
        });
        let how = (State::Established, State::Close);
        let Event::Change(t) = change(0xa0, 1000, how, Some(7), Some(LastError::Nothing)) else { panic!() };
        let t = Transition { traffic: Some(Traffic { sent_bytes, received_bytes: Some(90) }), ..t };
        let reset = Event::ResetSent(ResetSent { at: Sighting::of(&t), reason: None });
        let events: Vec<Event> = came.into_iter().chain([Event::Change(t), reset]).collect();
        let of = interval(&events).resets.remove(0);
        (of.count, of.fresh)
    };
    assert_eq!(cut(Some(10), 36, true), (1, 1));
    assert_eq!((cut(Some(0), 36, true), cut(Some(10), 301, true), cut(None, 36, true)), ((1, 0), (1, 0), (1, 0)));
    assert_eq!(cut(Some(10), 36, false), (1, 0), "a client");
}

#[test]
fn the_pauses_between_failures_are_those_of_one_process() {
    let refused = Some(LastError::Errno(Errno::ECONNREFUSED));
    let tries =
        |address, ms, pid| [change(address, ms, OPENS, Some(pid), None), change(address, ms, FAILS, None, refused)];
    let one = [tries(0xa0, 10, 7), tries(0xb0, 210, 7), tries(0xc0, 440, 7)].concat();
    assert_eq!(interval(&one).connects[0].pauses_ms, Some((200, 230)));
    assert_eq!(interval(&tries(0xa0, 10, 7)).connects[0].pauses_ms, None);
    let two = [one, tries(0xd0, 500, 8).to_vec()].concat();
    let both = interval(&two).connects;
    assert_eq!((both.len(), both[0].pauses_ms), (1, None), "{both:#?}");
}

#[test]
fn successes_after_the_last_failure_are_counted_and_other_namespaces_are_not() {
    let refused = Some(LastError::Errno(Errno::ECONNREFUSED));
    let events = [
        change(0xa0, 0, OPENS, Some(7), None),
        change(0xa0, 1, FAILS, None, refused),
        change(0xa0, 2, OPENS, Some(7), None),
        change(0xa0, 3, WORKS, None, None),
    ];
    let connects = interval(&events).connects;
    assert_eq!((connects[0].succeeded_since, connects[0].failures()), (1, 1));
    let mut elsewhere = Outcomes::new([NetnsId::new(2)], 0);
    for event in &events {
        elsewhere.add(event);
    }
    assert!(elsewhere.interval(0, 0, true, &Beside { name: &|_| None, snapshots: &[] }).connects.is_empty());
}

#[test]
fn ends_and_resets_are_of_the_program_whose_connection_it_was() {
    let with = |event: Event, sent_bytes, received| match event {
        Event::Change(t) => {
            let traffic = Some(Traffic { sent_bytes, received_bytes: Some(received) });
            Event::Change(Transition { traffic, ..t })
        }
        other => other,
    };
    let reset = |address, old| change(address, 9, (old, State::Close), None, Some(LastError::Errno(Errno::ECONNRESET)));
    let fin = |address| change(address, 9, (State::LastAck, State::Close), None, Some(LastError::Nothing));
    let traced = interval(&[
        change(0xa0, 0, OPENS, Some(7), None),
        change(0xa0, 1, WORKS, None, None),
        change(0xb0, 0, OPENS, Some(8), None),
        change(0xb0, 1, WORKS, None, None),
        with(fin(0xa0), 90, 0),
        with(reset(0xb0, State::Established), 90, 0),
        // Nobody knows who opened it.
        with(fin(0xc0), 90, 7),
        with(reset(0xd0, State::Established), 90, 7),
    ]);
    let [ends] = &traced.ends[..] else { panic!("{traced:#?}") };
    assert_eq!((ends.counts.answered, ends.counts.unanswered), (1, 1));
    let [(program, counts)] = &ends.callers[..] else { panic!("{ends:#?}") };
    assert_eq!((program.pid, program.processes, counts.unanswered, counts.answered), (7, 1, 1, 0));
    let pids: Vec<_> = traced.resets.iter().map(|r| (r.program.as_ref().map(|p| p.pid), r.count)).collect();
    assert_eq!(pids, [(None, 1), (Some(8), 1)]);
}

#[test]
fn a_server_on_a_high_port_is_the_service_of_what_came_to_it() {
    let high = |event: Event| match event {
        Event::Change(t) => {
            let local = Endpoint::new([10, 0, 0, 9].into(), 60_051);
            let traffic = Some(Traffic { sent_bytes: 0, received_bytes: Some(90) });
            Event::Change(Transition { local, peer: t.local, traffic, ..t })
        }
        other => other,
    };
    let (came, closes) = ((State::SynRecv, State::Established), (State::FinWait2, State::Close));
    let traced = interval(&[
        high(change(0xa0, 0, came, None, None)),
        high(change(0xa0, 5, closes, None, Some(LastError::Nothing))),
        // From before the trace, to the same port.
        high(change(0xb0, 6, closes, None, Some(LastError::Nothing))),
    ]);
    let [ends] = &traced.ends[..] else { panic!("{traced:#?}") };
    assert_eq!((ends.service.port, ends.served_here, ends.counts.unanswered), (60_051, true, 2));
}

#[test]
fn a_storm_of_resets_of_old_connections_is_counted_by_its_service() {
    let Event::Change(t) = change(0xa0, 5, (State::Established, State::Close), None, None) else { panic!() };
    let came = |n: u16| {
        let at = Sighting { local: Endpoint::new(t.local.addr, 20_000 + n), address: None, ..Sighting::of(&t) };
        Event::ResetReceived(ResetReceived { at })
    };
    let storm: Vec<Event> = (0..20_000).map(came).collect();
    let traced = interval(&storm);
    assert_eq!((traced.resets.len(), traced.resets[0].count, traced.not_grouped), (1, 20_000, 0));
}

#[test]
fn who_closed_is_forgotten_when_no_reset_can_follow() {
    let closes = |address| change(address, 4, (State::Established, State::FinWait1), Some(7), None);
    let ends = |address, ms| change(address, ms, (State::FinWait2, State::Close), None, None);
    let mut outcomes = Outcomes::new([NetnsId::new(1)], 0);
    for event in [closes(0xa0), ends(0xa0, 100), closes(0xb0), ends(0xb0, 1500), closes(0xc0)] {
        outcomes.add(&event);
    }
    outcomes.restart(2_000_000_000);
    let mut left: Vec<u64> = outcomes.closers.keys().copied().collect();
    left.sort_unstable();
    assert_eq!(left, [0xb0, 0xc0], "one ended a second ago or more; one still waits for its peer");
}

#[test]
fn segments_without_a_socket_are_kept_with_their_addresses_and_no_other_reset_is() {
    use crate::model::event::ResetReason::{AbortOnClose, NoSocket};
    let sent = |ms, reason| {
        let Event::Change(t) = change(0xa0, ms, OPENS, None, None) else { unreachable!() };
        Event::ResetSent(ResetSent { at: Sighting { address: None, state: None, ..Sighting::of(&t) }, reason })
    };
    let interval =
        interval(&[sent(1, Some(NoSocket)), sent(2, Some(AbortOnClose)), sent(3, None), sent(4, Some(NoSocket))]);
    let [stray] = &interval.strays[..] else { panic!("{interval:#?}") };
    let ends = (stray.local.to_string(), stray.peer.to_string());
    assert_eq!((ends, stray.count), (("10.0.0.1:40000".into(), "10.0.0.9:443".into()), 2));
}
