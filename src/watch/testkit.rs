//! A frame made by hand, for the tests of every output.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame::{FrameGroup, Groups, Lines, Others, TimeInState};
use super::*;
use crate::aggregate::flows::{Flow, Ledger};
use crate::aggregate::owner::SetId;
use crate::aggregate::tracker::{Matrix, StateChange};
use crate::aggregate::{Counts, Key};
use crate::diagnose::{Evidence, Finding, Severity, Subject};
use crate::model::{
    Endpoint, FourTuple, Inode, NetnsId, OwnerStatus, RowKind, Socket, State, StateSet, Timer, TimerKind,
};

fn line(state: State, local: &str, peer: &str, owner: RowOwner, in_state_ms: (u64, bool)) -> Line {
    let mini = state == State::TimeWait;
    Line {
        socket: Socket {
            netns: NetnsId::new(4_026_531_840),
            state,
            kind: if mini { RowKind::TimeWaitMini } else { RowKind::Full },
            local: Endpoint::at(local),
            peer: Endpoint::at(peer),
            cookie: Some(0x63567),
            inode: if mini { None } else { Inode::new(4711) },
            send_q_bytes: Some(0),
            timer: mini.then_some(Timer { kind: TimerKind::TimeWait, remaining_ms: 41_200, retransmits: 0 }),
            ..Socket::default()
        },
        owner,
        in_state_ms,
        known_ms: in_state_ms.0 + 900,
    }
}

fn finding(rule: &'static str, severity: Severity, summary: &str) -> Finding {
    Finding {
        confidence_reason: "34 of 34 rows".into(),
        subject: Subject { pid: Some(812), comm: Some("java".into()), ..Subject::default() },
        evidence: vec![("count", Evidence::Count(34)), ("oldest_ms", Evidence::Millis(250_000))],
        why: "The peer has closed and the application has not. The kernel waits for close() for ever.".into(),
        remedy: vec!["close the socket when read returns 0".into()],
        avoid: vec!["Don't lower any sysctl for this".into()],
        next: "tcpstate list --state CLOSE_WAIT --pid 812".into(),
        ..Finding::new(rule, severity, 0.95, summary)
    }
}

/// A busy host at its third sample.
pub(crate) fn frame() -> Frame {
    let ledger = Ledger {
        elapsed_ms: 1000,
        opened: Flow { seen: 20, traced: 0, unseen: Some(4) },
        time_wait: Flow { seen: 9, traced: 0, unseen: Some(0) },
        ended: Some(10),
        active_opens: Some(18),
        passive_opens: Some(6),
        resets: Some(2),
        attempt_fails: Some(0),
    };
    let mut since_start = ledger.clone();
    since_start.merge(&ledger);
    let java: Arc<str> = "java(812)".into();
    let curl: Arc<str> = "curl".into();
    Frame {
        seq: 3,
        taken_at_ms: 1_760_000_000_500,
        interval_ms: 1000,
        elapsed_ms: Some(1000),
        sample_us: 8400,
        dump_us: 6100,
        skipped: 0,
        source: "netlink",
        host: "web3".into(),
        kernel: "6.18.44".into(),
        filter: "".into(),
        shown: StateSet::ALL,
        unseen: StateSet::EMPTY,
        counts: counts(),
        matrix: matrix(),
        scale: 1,
        followed: 21_685,
        ledger,
        since_start,
        ledger_gap: None,
        trace: None,
        times_in_state: vec![TimeInState {
            state: State::Established,
            count: 11,
            mean_ms: 320,
            median_ms: (256, 512),
            max_ms: 900,
        }],
        groups: Some(groups(&java, &curl)),
        time_wait_owners: Some(TimeWaitOwners { exact: 20_000, traced: 0, likely: 400, unknown: 17 }),
        findings: Arc::new(sightings()),
        judged_at_ms: Some(1_760_000_000_000),
        lines: Some(Arc::new(lines(java, curl))),
        events: vec![StateChange {
            netns: NetnsId::new(1),
            cookie: Some(7),
            tuple: FourTuple { local: Endpoint::at("10.0.0.5:41000"), peer: Endpoint::at("10.9.9.9:443"), ifindex: 0 },
            from: Some(State::Established),
            to: Some(State::TimeWait),
            dwell_ms: Some(320),
            owner: SetId::new(4).into(),
        }],
        labels: HashMap::from([(SetId::new(4), Arc::from("curl(4711)"))]),
        measures: None,
        gaps: vec![],
    }
}

/// Sockets by family and state.
fn counts() -> [Counts; 2] {
    let mut v4 = Counts::default();
    for (state, n) in [
        (State::Established, 1204),
        (State::SynSent, 2),
        (State::FinWait2, 3),
        (State::TimeWait, 20_417),
        (State::CloseWait, 34),
        (State::LastAck, 1),
        (State::Listen, 12),
    ] {
        v4.add_many(state, n);
    }
    let mut v6 = Counts::default();
    v6.add_many(State::Established, 8);
    v6.add_many(State::Listen, 4);
    [v4, v6]
}

/// What changed in one interval.
fn matrix() -> Matrix {
    let mut matrix = Matrix::default();
    for (from, to, n) in [
        (None, Some(State::Established), 14),
        (None, Some(State::SynSent), 2),
        (None, Some(State::TimeWait), 4),
        (Some(State::Established), Some(State::TimeWait), 5),
        (Some(State::Established), Some(State::CloseWait), 1),
        (Some(State::Established), None, 6),
        (Some(State::TimeWait), None, 7),
        (Some(State::SynSent), Some(State::Established), 3),
    ] {
        matrix.add(from, to, n);
    }
    matrix
}

/// Every kind of group, and the sum of the small ones.
fn groups(java: &Arc<str>, curl: &Arc<str>) -> Groups {
    let group = |id, counts: &[(State, u64)]| {
        let mut sum = Counts::default();
        for (state, n) in counts {
            sum.add_many(*state, *n);
        }
        FrameGroup { processes: matches!(id, GroupId::ShortLived(_)).then_some(37), id, counts: sum }
    };
    let rest = group(GroupId::None, &[(State::Established, 31)]).counts;
    Groups {
        by: Key::Process,
        rows: vec![
            group(GroupId::Owner("curl(4711)".into()), &[(State::TimeWait, 20_000), (State::Established, 3)]),
            group(GroupId::Owner("nginx(80 +3)".into()), &[(State::Established, 1178), (State::Listen, 4)]),
            group(GroupId::Likely(Arc::clone(curl)), &[(State::TimeWait, 400)]),
            group(GroupId::Owner(Arc::clone(java)), &[(State::CloseWait, 34)]),
            group(GroupId::Nobody(OwnerStatus::TimeWait), &[(State::TimeWait, 17)]),
        ],
        rest: Some((9, rest)),
    }
}

/// A finding that lasts, and one that is gone.
fn sightings() -> Vec<Sighting> {
    vec![
        Sighting {
            finding: finding("close-wait-leak", Severity::High, "java(812) holds 34 sockets in CLOSE_WAIT"),
            first_ms: 1_759_999_870_000,
            last_ms: 1_760_000_000_000,
            gone_ms: None,
        },
        Sighting {
            finding: finding("time-wait-client-churn", Severity::Info, "curl leaves 9 TIME_WAIT a second"),
            first_ms: 1_759_999_990_000,
            last_ms: 1_759_999_995_000,
            gone_ms: Some(1_760_000_000_000),
        },
    ]
}

/// A row with each kind of owner.
fn lines(java: Arc<str>, curl: Arc<str>) -> Lines {
    Lines {
        lines: vec![
            line(State::CloseWait, "10.0.0.5:8080", "10.0.0.9:51234", RowOwner::Holds(java), (250_000, false)),
            line(
                State::TimeWait,
                "10.0.0.5:41000",
                "10.9.9.9:443",
                RowOwner::Held("curl(4711)".into()),
                (18_800, true),
            ),
            line(
                State::TimeWait,
                "10.0.0.5:41002",
                "10.9.9.9:443",
                RowOwner::Likely { comm: curl, confidence: 0.75, why: "the only one seen connecting there" },
                (2000, true),
            ),
            line(
                State::Established,
                "[fe80::1]:22",
                "[fe80::2]:50000",
                RowOwner::Unknown(OwnerStatus::NotAccepted),
                (10, true),
            ),
        ],
        total: 20_455,
        only: false,
        detail: None,
        of_finding: None,
        is_as_command: None,
        others: Others::default(),
        of: None,
    }
}
