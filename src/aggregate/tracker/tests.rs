//! The tracker against a model that knows every life, on lives made by hand or at random: sums must agree.

use proptest::prelude::*;

use super::*;
use crate::aggregate::flows::{Accounts, Reading};
use crate::aggregate::{Counts, TracedSums, flows};
use crate::model::{Endpoint, Family, NetnsId, Timer, TimerKind};

fn row(cookie: u64, state: State) -> Socket {
    let kind = match state {
        State::TimeWait => RowKind::TimeWaitMini,
        State::SynRecv => RowKind::Request,
        State::BoundInactive => RowKind::BoundInactive,
        _ => RowKind::Full,
    };
    let port = u16::try_from(cookie % 60_000).unwrap();
    Socket {
        netns: NetnsId::new(1),
        family: Family::V4,
        state,
        kind,
        local: Endpoint::new("10.0.0.1".parse().unwrap(), port),
        peer: Endpoint::new("10.0.0.2".parse().unwrap(), 80),
        cookie: Some(cookie),
        timer: Some(Timer { kind: TimerKind::TimeWait, remaining_ms: 60_000, retransmits: 0 }),
        ..Socket::default()
    }
}

/// One sample of these rows; all of them match.
fn sample(tracker: &mut Tracker, now_ms: u64, rows: &[Socket]) -> (Tick, Counts) {
    tracker.begin(now_ms);
    let mut counts = Counts::default();
    for socket in rows {
        let tracked = tracker.track(socket);
        if !tracked.repeated {
            counts.add(socket.state);
        }
        tracker.count(socket, &tracked, true);
    }
    (tracker.finish().clone(), counts)
}

fn owner() -> OwnerId {
    SetId::new(41).into()
}

#[test]
fn another_selection_keeps_what_was_known_for_a_while() {
    let mut tracker = Tracker::new(100);
    sample(&mut tracker, 1000, &[row(7, State::Established), row(8, State::TimeWait)]);
    tracker.set_owner(&row(8, State::TimeWait), owner(), true);
    // First none of them, then both again.
    let mut tracker = tracker.renewed();
    sample(&mut tracker, 3000, &[]);
    let mut tracker = tracker.renewed();
    tracker.begin(4000);
    let tracked = tracker.track(&row(8, State::TimeWait));
    assert_eq!((tracked.owner, tracked.traced, tracked.since_ms, tracked.first_ms), (owner(), true, 1000, 1000));
    assert_eq!(tracker.track(&row(7, State::CloseWait)).since_ms, 4000, "another state is another stay");
    tracker.finish();
    let mut marked = None;
    tracker.mark_owners(&mut |set| marked = Some(set));
    assert_eq!(marked, owner().set());
    let mut tracker = tracker.renewed();
    tracker.begin(4000 + ATTIC_MS + 1);
    assert_eq!(tracker.track(&row(8, State::TimeWait)).owner, OwnerId::NOT_SOUGHT, "not for ever");
}

#[test]
fn a_life_is_followed_from_arrival_to_departure() {
    let mut tracker = Tracker::new(100);
    tracker.keep_events = true;
    let (first, _) = sample(&mut tracker, 1000, &[row(1, State::Established)]);
    assert_eq!(
        (first.elapsed_ms, first.matrix.changes()),
        (None, vec![]),
        "the first look has nothing to compare with"
    );
    let (second, _) = sample(&mut tracker, 2000, &[row(1, State::Established), row(2, State::Established)]);
    assert_eq!(second.matrix.changes(), [(None, Some(State::Established), 1)]);
    assert_eq!((second.opened, second.remainders, second.connections), (1, 0, 2));
    let (third, _) = sample(&mut tracker, 3500, &[row(1, State::TimeWait), row(2, State::TimeWait)]);
    assert_eq!(third.matrix.changes(), [(Some(State::Established), Some(State::TimeWait), 2)]);
    assert_eq!((third.opened, third.remainders, third.connections), (0, 2, 0));
    let dwells: Vec<Option<u64>> = third.events.iter().map(|e| e.dwell_ms).collect();
    assert_eq!(dwells, [None, Some(1500)], "only the one whose arrival was seen has a dwell time");
    let (fourth, _) = sample(&mut tracker, 4000, &[]);
    assert_eq!(fourth.matrix.changes(), [(Some(State::TimeWait), None, 2)]);
    assert_eq!(fourth.events[0].dwell_ms, Some(500));
    assert!(tracker.is_empty());
}

#[test]
fn an_owner_is_remembered_into_time_wait_and_not_beyond() {
    let mut tracker = Tracker::new(100);
    tracker.begin(0);
    tracker.track(&row(7, State::Established));
    tracker.set_owner(&row(7, State::Established), owner(), false);
    tracker.finish();
    tracker.begin(1000);
    assert_eq!(tracker.track(&row(7, State::TimeWait)).owner, owner());
    tracker.finish();
    tracker.begin(2000);
    tracker.finish();
    tracker.begin(3000);
    assert_eq!(tracker.track(&row(7, State::Established)).owner, OwnerId::NOT_SOUGHT);
}

#[test]
fn a_request_is_no_connection_until_it_becomes_one() {
    let mut tracker = Tracker::new(100);
    sample(&mut tracker, 0, &[]);
    let (tick, _) = sample(&mut tracker, 1, &[row(5, State::SynRecv)]);
    assert_eq!((tick.opened, tick.connections), (0, 0));
    let (tick, _) = sample(&mut tracker, 2, &[row(5, State::Established)]);
    assert_eq!((tick.opened, tick.connections), (1, 1));
    assert_eq!(tick.matrix.get(Some(State::SynRecv), Some(State::Established)), 1);
}

#[test]
fn a_row_that_the_dump_repeats_is_one_row() {
    let mut tracker = Tracker::new(100);
    sample(&mut tracker, 0, &[]);
    let rows = [row(5, State::Established), row(5, State::Established), row(5, State::TimeWait)];
    let (tick, counts) = sample(&mut tracker, 1, &rows);
    assert_eq!((tick.opened, tick.remainders, counts.total()), (1, 0, 1));
    assert_eq!(tick.matrix.changes(), [(None, Some(State::Established), 1)]);
}

#[test]
fn in_a_small_table_one_missing_look_is_no_departure() {
    let mut tracker = Tracker::new(100);
    tracker.tolerant = true;
    sample(&mut tracker, 0, &[row(1, State::Established)]);
    assert_eq!(sample(&mut tracker, 1, &[]).0.matrix.departures(), 0);
    assert_eq!(sample(&mut tracker, 2, &[row(1, State::Established)]).0.matrix.changes(), []);
    sample(&mut tracker, 3, &[]);
    assert_eq!(sample(&mut tracker, 4, &[]).0.matrix.departures(), 1);
}

#[test]
fn rows_without_a_cookie_are_known_by_their_tuple() {
    let mut tracker = Tracker::new(100);
    let bare = |port, state| Socket { cookie: None, ..row(port, state) };
    sample(&mut tracker, 0, &[bare(1, State::Established), bare(2, State::Established)]);
    let (tick, _) = sample(&mut tracker, 1, &[bare(1, State::TimeWait)]);
    assert_eq!(
        tick.matrix.changes(),
        [(Some(State::Established), Some(State::TimeWait), 1), (Some(State::Established), None, 1)]
    );
}

#[test]
fn sockets_that_are_not_wanted_move_nothing_and_joining_is_an_arrival() {
    let mut tracker = Tracker::new(100);
    let mut sample_at = |now, state, member| {
        tracker.begin(now);
        let tracked = tracker.track(&row(1, state));
        tracker.count(&row(1, state), &tracked, member);
        tracker.finish().matrix.changes()
    };
    sample_at(0, State::Established, false);
    assert_eq!(sample_at(1, State::CloseWait, false), []);
    assert_eq!(sample_at(2, State::CloseWait, true), [(None, Some(State::CloseWait), 1)]);
    assert_eq!(sample_at(3, State::LastAck, true), [(Some(State::CloseWait), Some(State::LastAck), 1)]);
    assert_eq!(sample_at(4, State::LastAck, false), [(Some(State::LastAck), None, 1)]);
}

#[test]
fn above_the_cap_a_share_is_followed_to_the_end_and_memory_stays_bounded() {
    let mut tracker = Tracker::new(1000);
    let rows: Vec<Socket> = (0..16_000).map(|i| row(i, State::Established)).collect();
    let (tick, counts) = sample(&mut tracker, 0, &rows);
    assert_eq!(counts.total(), 16_000, "counts of rows are not affected");
    assert!(tracker.len() <= 1000 && tick.shift >= 4, "{} {}", tracker.len(), tick.shift);
    assert!(tick.followed > 300, "{}", tick.followed);
    let (tick, _) = sample(&mut tracker, 1, &rows);
    assert_eq!(tick.matrix.changes(), [], "survivors are neither arrivals nor departures");
    let moved: Vec<Socket> = (0..16_000).map(|i| row(i, State::TimeWait)).collect();
    let (tick, _) = sample(&mut tracker, 2, &moved);
    let estimate = tick.matrix.get(Some(State::Established), Some(State::TimeWait)) * tick.scale();
    assert!((12_000..20_000).contains(&estimate), "{estimate}");
    // Below the cap again: more is tracked, and this counts as no arrival.
    let few: Vec<Socket> = (0..100).map(|i| row(i, State::TimeWait)).collect();
    for now in 3..12 {
        let (tick, _) = sample(&mut tracker, now, &few);
        assert_eq!(tick.matrix.arrivals(), 0);
    }
    assert_eq!(tracker.len(), 100);
}

#[test]
fn dwell_times_give_a_median_between_two_powers_of_two() {
    let mut dwell = Dwell::default();
    assert_eq!((dwell.median_ms(), dwell.mean_ms()), (None, None));
    for ms in [0, 3, 100, 100, 100_000] {
        dwell.add(ms);
    }
    assert_eq!((dwell.median_ms(), dwell.max_ms), (Some((64, 128)), 100_000));
}

/// One connection of the model: the steps at which it opens, moves and ends.
#[derive(Clone, Debug)]
struct ModelLife {
    opens: u32,
    lasts: u32,
    /// Ends in TIME_WAIT (for this many steps) or plainly.
    remains: Option<u32>,
}

fn lives() -> impl Strategy<Value = Vec<ModelLife>> {
    let life = (0..60u32, 0..12u32, proptest::option::of(1..20u32));
    proptest::collection::vec(life.prop_map(|(opens, lasts, remains)| ModelLife { opens, lasts, remains }), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// For all lives and sample times: arrivals less departures is the growth of the population, and seen plus
    /// unseen is what the counters say.
    #[test]
    fn totals_are_conserved(
        lives in lives(),
        every in 1..9u32,
        read_early in any::<bool>(),
        lost in proptest::option::of(0..40u64),
    ) {
        let mut tracker = Tracker::new(10_000);
        let mut accounts = Accounts::default();
        let at = |step: u32| -> (Vec<Socket>, Reading) {
            let mut rows = Vec::new();
            let (mut opened, mut remainders) = (0, 0);
            for (life, i) in lives.iter().zip(0u64..) {
                let ends = life.opens + life.lasts;
                opened += u64::from(step > life.opens);
                remainders += u64::from(step > ends && life.remains.is_some());
                if step > life.opens && step <= ends {
                    rows.push(row(i, State::Established));
                } else if step > ends && life.remains.is_some_and(|r| step <= ends + r) {
                    rows.push(row(i, State::TimeWait));
                }
            }
            let reading = Reading { active: Some(opened), passive: Some(0), remainders: Some(remainders), ..Reading::default() };
            (rows, reading)
        };
        let mut before: Option<Counts> = None;
        let mut step = 0;
        let mut totals = flows::Ledger::default();
        let mut sum = Matrix::default();
        while step < 110 {
            let (rows, now) = at(step);
            // The counters may be read a step before the table, never after; for the first sample never before.
            let reading = if read_early && step > 0 { at(step - 1).1 } else { now };
            let (tick, counts) = sample(&mut tracker, u64::from(step) * 100, &rows);
            // A trace is read after the table; what it loses, it lost before anything else.
            let traced = lost.map(|lost| TracedSums {
                opened: now.active.unwrap().saturating_sub(lost),
                remainders: now.remainders.unwrap().saturating_sub(lost),
            });
            let ledger = accounts.enter(&reading, &tick, traced);
            if let Some(before) = before {
                let growth = i64::try_from(counts.total()).unwrap() - i64::try_from(before.total()).unwrap();
                let net = i64::try_from(tick.matrix.arrivals()).unwrap() - i64::try_from(tick.matrix.departures()).unwrap();
                prop_assert_eq!(growth, net);
                for state in [State::Established, State::TimeWait] {
                    let (entered, left) = (tick.matrix.entered(state), tick.matrix.left(state));
                    prop_assert_eq!(before.get(state) + entered, counts.get(state) + left, "{}", state);
                }
            }
            prop_assert!(ledger.opened.unseen.unwrap() < 1 << 32 && ledger.time_wait.unseen.unwrap() < 1 << 32);
            totals.merge(&ledger);
            sum.add_times(&tick.matrix, 1);
            before = Some(counts);
            step += every;
        }
        let end = step - every;
        let (_, last) = at(end);
        // Nothing opens or ends after step 92, so both readings agree in the end.
        prop_assert_eq!(totals.opened.total(), last.active);
        prop_assert_eq!(totals.time_wait.total(), last.remainders);
        let plain = lives.iter().filter(|l| l.remains.is_none()).count();
        prop_assert_eq!(totals.ended, Some(i64::try_from(plain).unwrap()));
        prop_assert_eq!(sum.entered(State::TimeWait), totals.time_wait.seen);
        prop_assert_eq!(&totals, accounts.since_start());
        for flow in [totals.opened, totals.time_wait] {
            let unseen = flow.unseen.unwrap();
            prop_assert!(lost.is_none_or(|lost| unseen <= lost), "more unseen than lost: {:?} of {:?}", flow, lost);
            prop_assert!(lost.is_some() || flow.traced == 0);
        }
    }
}
