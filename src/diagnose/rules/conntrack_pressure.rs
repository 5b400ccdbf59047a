//! The connection tracking table is full or nearly so, or packets are lost to it.
//!
//! Input: entries, limit and counters of `nf_conntrack` per namespace. Output: one finding per namespace. Not here: the
//! connections that suffer (`syn-sent-pileup`, `dead-peer-retransmit`), which name it as their cause.
//!
#![doc = include_str!("../../../docs/rules/conntrack-pressure.md")]

use crate::diagnose::Outcome;
use crate::diagnose::conntrack::Table;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::nat_ports;
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::model::snapshot::Netns;
use crate::text;

pub(super) const RULE: Rule =
    rule!("conntrack-pressure", System, OneOrTwo, "the connection tracking table is full", check, [TEXT, CLASHES])
        .title("conntrack table full")
        .identity(Identity::Object)
        .causes(CAUSES)
        .cause();

const GROUP: &str = "See what fills it, by state and by address: `conntrack -L -p tcp | tr -s ' ' | cut -d' ' -f4 | sort | uniq -c`, \
                     `conntrack -L -o extended`";
const NOTRACK: &str = "Don't track what needs no tracking: `notrack` in a raw prerouting and output chain, for busy \
                       ports without NAT";
const REUSE: &str = "Let clients keep connections open and use them again: each one leaves an entry for 2 minutes";
const TIMEOUT: &str = "Lower net.netfilter.nf_conntrack_tcp_timeout_established (5 days by default), but not below the \
                       keepalive time of the connections";
const RAISE: &str = "Raise net.netfilter.nf_conntrack_max, and nf_conntrack_buckets with it; an entry takes about 320 \
                     bytes";

const TEXT: Text = Text {
    why: "Every tracked connection has an entry, also for minutes or days after its end, and the number of entries is \
          limited. Beyond the limit the kernel drops the first packet of every new connection, in silence: clients see \
          timeouts, and nothing shows on their sockets.",
    remedy: &[GROUP, REUSE, NOTRACK, TIMEOUT, RAISE],
    avoid: &[
        "Don't flush the table: connections through NAT break",
        "Don't set nf_conntrack_tcp_timeout_established below the keepalive time: idle connections would be forgotten",
    ],
};

const CLASHES: Text = Text {
    why: "Two packets wanted an entry for the same addresses and ports at the same moment, and the later one is dropped. A \
          SYN lost so is repeated after 1 s, a DNS query after 5 s.",
    remedy: &[
        "Choose source ports at random where addresses are translated: `masquerade random` or `snat to ADDR random` in nft",
        "For DNS, send both queries from one socket one after the other (`options single-request-reopen`), or use a local \
         cache",
    ],
    avoid: &["Don't raise nf_conntrack_max: the table is not full"],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "own-connections",
        text: "the open connections of this host fill it",
        predicts: "about as many established connections here as entries",
        refuted_by: "far fewer connections than entries",
        decided_by: "`conntrack -L` by state, beside `tcpstate summary`",
    },
    Cause {
        id: "short-connections",
        text: "short connections fill it, each for two minutes after its end",
        predicts: "many TIME_WAIT sockets here, or entries in TIME_WAIT",
        refuted_by: "few entries in TIME_WAIT",
        decided_by: "`conntrack -L -p tcp --state TIME_WAIT`: it ends with their number",
    },
    Cause {
        id: "unanswered-packets",
        text: "packets that nobody answers fill it: a scan, a flood, or UDP",
        predicts: "entries are thrown out early, which happens to unanswered ones only",
        refuted_by: "a full table from which nothing is thrown out early",
        decided_by: "`conntrack -L -u UNREPLIED`: it ends with their number",
    },
    Cause {
        id: "forwarded-or-stale",
        text: "traffic that this host forwards (containers, NAT), or entries of connections long gone, fill it",
        predicts: "far more entries than sockets",
        refuted_by: "about as many connections here as entries",
        decided_by: "`conntrack -L` by address, beside `tcpstate summary --netns all`",
    },
];

/// Rows that are so much of the entries explain them; so little do not (policy).
const MOST: f64 = 0.5;
const FEW: f64 = 0.2;
/// A full table within this time is worth a warning from half on (policy).
const SOON_MS: u64 = 60_000;
const HALF_PERCENT: f64 = 50.0;
/// So many lost races between the samples are a pattern (policy).
const CLASHES_WARN: u64 = 3;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for netns in &view.now.netns {
        let Some(table) = Table::of(view, netns.inode) else { continue };
        outcome.findings.extend(pressure(view, netns, &table));
        // Ports that are used up are no race, and have a rule of their own.
        if nat_ports::exhausted(view, netns).next().is_none() {
            outcome.findings.extend(clashes(netns, &table));
        }
        if view.before.is_none() && table.percent() >= HALF_PERCENT {
            outcome.wants_second = Some("whether the tracking table drops packets now, and how fast it fills".into());
        }
    }
    outcome
}

fn pressure(view: &View<'_>, netns: &Netns, table: &Table) -> Option<Finding> {
    let refused = table.refused().filter(|n| *n > 0 && table.is_full());
    let room = table.limit.saturating_sub(table.entries);
    let rate = table.grown.and_then(|n| Rate::of(n, view.interval_ms()?));
    let full_in_ms = rate.map(|rate| rate.lasts_ms(room));
    let near = table.percent() >= view.thresholds.conntrack_percent;
    let soon = table.percent() >= HALF_PERCENT && full_in_ms.is_some_and(|ms| ms <= SOON_MS);
    let severity = match refused {
        Some(_) => Severity::Critical,
        None if near || soon => Severity::Warning,
        // What was dropped earlier is worth knowing while there is no better explanation of a timeout.
        None if dropped_ever(table) > 0 => Severity::Info,
        None => return None,
    };
    let of = format!("{} of {} entries", text::grouped(table.entries), text::grouped(table.limit));
    let summary = match (refused, severity) {
        (Some(n), _) => format!(
            "the connection tracking table is full ({of}): {} of new connections were dropped between the samples",
            text::count(n, "packet", "packets")
        ),
        (None, Severity::Info) => format!(
            "connection tracking dropped {} since this namespace was made; its table has room now ({of})",
            text::count(dropped_ever(table), "packet", "packets"),
        ),
        (None, _) => match (rate, full_in_ms) {
            (Some(rate), Some(ms)) if room > 0 => {
                format!(
                    "the connection tracking table has {of} and grows by {rate}: it is full in {}",
                    text::duration(ms)
                )
            }
            _ => format!(
                "the connection tracking table has {of}; when it is full, new connections are dropped in silence"
            ),
        },
    };
    let sockets = |state: State| view.now.sockets.iter().filter(|s| s.netns == netns.inode && s.state == state).count();
    let (established, time_wait) = (sockets(State::Established) as u64, sockets(State::TimeWait) as u64);
    let causes = if severity == Severity::Info { Weighed::default() } else { weigh(table, established, time_wait) };
    let finding = RULE
        .finding(severity, 0.97, summary)
        .because("the numbers are the kernel's own")
        .subject(subject(netns, "net.netfilter.nf_conntrack_max"))
        .causes(causes)
        .exhausted_in(full_in_ms.filter(|_| room > 0 && severity == Severity::Warning).map(Measure::Estimate));
    let finding = evidence(finding, table)
        .evidence("established_here", Evidence::Count(established))
        .evidence("time_wait_here", Evidence::Count(time_wait));
    Some(finding.next("conntrack -S"))
}

/// Packets dropped because the table had no room since the namespace was made.
fn dropped_ever(table: &Table) -> u64 {
    table.now.drop.unwrap_or(0).saturating_sub(table.now.insert_failed.unwrap_or(0))
}

fn clashes(netns: &Netns, table: &Table) -> Option<Finding> {
    let lost = table.clashed.filter(|n| *n > 0)?;
    let severity = if lost >= CLASHES_WARN { Severity::Warning } else { Severity::Info };
    let summary = format!(
        "connection tracking lost {} between the samples, as another packet had taken the same addresses and ports first",
        text::count(lost, "packet", "packets"),
    );
    let finding = RULE
        .finding(severity, 0.9, summary)
        .text(&CLASHES)
        .because("the kernel counts them; whose they were does not show here")
        .subject(subject(netns, "insert_failed"));
    Some(evidence(finding, table).next("conntrack -S"))
}

fn subject(netns: &Netns, object: &str) -> Subject {
    Subject { netns: netns.inode, object: Some(object.into()), ..Subject::default() }
}

fn evidence(finding: Finding, table: &Table) -> Finding {
    finding
        .evidence("entries", Evidence::Count(table.entries))
        .evidence("limit", Evidence::Count(table.limit))
        .evidence("percent", Evidence::Percent(table.percent()))
        .evidence("new_drops", Evidence::count(table.dropped))
        .evidence("new_early_drops", Evidence::count(table.evicted))
        .evidence("new_insert_failed", Evidence::count(table.clashed))
        .evidence("drops_ever", Evidence::count(table.now.drop))
        .evidence("invalid_ever", Evidence::count(table.now.invalid))
        .evidence(
            "established_timeout_ms",
            Evidence::millis(table.now.established_timeout_s.map(|s| s.saturating_mul(1000))),
        )
}

fn weigh(table: &Table, established: u64, time_wait: u64) -> Weighed {
    let share = |n: u64| n as f64 / table.entries.max(1) as f64;
    let entries = text::grouped(table.entries);
    Weighed::of(CAUSES, |cause| match cause.id {
        "own-connections" if share(established) < FEW => Weight::Refuted(format!(
            "{} beside {entries} entries",
            text::count(established, "connection", "connections")
        )),
        "own-connections" => Weight::Possible(share(established).min(1.0)),
        "short-connections" if share(time_wait) >= MOST => Weight::Possible(0.8),
        "short-connections" => Weight::Possible(0.2),
        "unanswered-packets" => match (table.evicted, table.is_full()) {
            (Some(0), true) => Weight::Refuted("the table is full and nothing was thrown out early".into()),
            (Some(1..), _) => Weight::Possible(0.7),
            _ => Weight::Possible(0.2),
        },
        _ if share(established) >= MOST => Weight::Possible(0.05),
        _ => Weight::Possible(0.4),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, time_wait, timer};
    use crate::model::TimerKind;
    use crate::model::conntrack::Conntrack;
    use crate::model::counter::Counter;

    fn tracking(entries: u64, drop: u64, early_drop: u64, insert_failed: u64) -> Conntrack {
        Conntrack {
            entries: Some(entries),
            limit: Some(1000),
            established_timeout_s: Some(432_000),
            drop: Some(drop),
            early_drop: Some(early_drop),
            insert_failed: Some(insert_failed),
            invalid: Some(0),
        }
    }

    fn once(now: impl Into<Option<Conntrack>>) -> World {
        let mut world = World::new();
        world.now.netns[0].conntrack = now.into();
        world
    }

    /// Two samples 2 s apart.
    fn twice(before: Conntrack, now: Conntrack) -> World {
        let mut world = once(before);
        world.later(2000);
        world.now.netns[0].conntrack = Some(now);
        world
    }

    fn severities(world: &World) -> Vec<Severity> {
        world.check(check).findings.iter().map(|f| f.severity).collect()
    }

    #[test]
    fn a_full_table_is_critical_when_it_drops_and_a_warning_before() {
        let full = twice(tracking(998, 7, 0, 2), tracking(1000, 19, 0, 2)).check(check);
        let [finding] = &full.findings[..] else { panic!("{full:?}") };
        assert_eq!(finding.severity, Severity::Critical);
        assert!(finding.summary.contains("full (1,000 of 1,000 entries): 12 packets"), "{}", finding.summary);
        let out: Vec<&str> = finding.causes.ruled_out.iter().map(|(c, _)| c.id).collect();
        assert_eq!(out, ["own-connections", "unanswered-packets"]);
        assert_eq!(severities(&twice(tracking(1000, 19, 0, 2), tracking(1000, 19, 5, 2))), [Severity::Warning]);
        let first = once(tracking(900, 0, 0, 0));
        assert_eq!(severities(&first), [Severity::Warning]);
        assert!(first.check(check).wants_second.is_some());
        assert_eq!(severities(&once(tracking(899, 0, 0, 0))), []);
    }

    #[test]
    fn growth_tells_when_it_is_full_and_a_slow_one_is_silent() {
        let fast = twice(tracking(500, 0, 0, 0), tracking(520, 0, 0, 0)).check(check);
        let [finding] = &fast.findings[..] else { panic!("{fast:?}") };
        assert_eq!((finding.severity, finding.exhausted_in_ms), (Severity::Warning, Some(Measure::Estimate(48_000))));
        assert_eq!(severities(&twice(tracking(505, 0, 0, 0), tracking(520, 0, 0, 0))), []);
        assert_eq!(severities(&twice(tracking(100, 0, 0, 0), tracking(499, 0, 0, 0))), []);
    }

    #[test]
    fn what_was_refused_earlier_is_an_explanation_and_races_are_not_refusals() {
        assert_eq!(severities(&twice(tracking(9, 40, 0, 0), tracking(9, 40, 0, 0))), [Severity::Info]);
        assert_eq!(severities(&twice(tracking(9, 40, 0, 40), tracking(9, 40, 0, 40))), []);
        // Drops in a table with room are a helper's.
        assert_eq!(severities(&twice(tracking(9, 40, 0, 0), tracking(9, 50, 0, 0))), [Severity::Info]);
    }

    #[test]
    fn lost_races_warn_from_three_on() {
        assert_eq!(severities(&twice(tracking(9, 0, 0, 0), tracking(9, 2, 0, 2))), [Severity::Info]);
        assert_eq!(severities(&twice(tracking(9, 0, 0, 0), tracking(9, 3, 0, 3))), [Severity::Warning]);
        assert_eq!(severities(&once(tracking(9, 3, 0, 3))), []);
    }

    #[test]
    fn nothing_tracked_or_not_known_is_silent() {
        assert_eq!(once(None).check(check), Outcome::default());
        assert_eq!(once(Conntrack::default()).check(check), Outcome::default());
        let no_limit = Conntrack { limit: None, ..tracking(9, 9, 9, 0) };
        assert_eq!(once(no_limit).check(check), Outcome::default());
    }

    #[test]
    fn own_connections_and_short_ones_are_told_apart() {
        let leads = |world: World| world.check(check).findings[0].causes.left[0].cause.id;
        let mut open = once(tracking(950, 0, 0, 0));
        for n in 2000..2800 {
            open.add(row(State::Established, &format!("10.0.0.1:{n}"), "10.0.0.2:1"));
        }
        assert_eq!(leads(open), "own-connections");
        let mut short = once(tracking(950, 0, 0, 0));
        for n in 2000..2800 {
            short.add(time_wait(&format!("10.0.0.1:{n}"), "10.0.0.2:1", 9000));
        }
        assert_eq!(leads(short), "short-connections");
        assert_eq!(leads(twice(tracking(999, 0, 0, 0), tracking(1000, 0, 9, 0))), "unanswered-packets");
        assert_eq!(leads(once(tracking(950, 0, 0, 0))), "forwarded-or-stale");
    }

    #[test]
    fn attempts_that_it_drops_are_its_consequence_with_the_cause_named() {
        let syn =
            |repeats| timer(row(State::SynSent, "10.0.0.1:40000", "10.0.0.2:80"), TimerKind::Retransmit, 500, repeats);
        let of = |failed: u64, entries: u64| {
            let mut world = once(tracking(entries, 7, 0, 0));
            world.add(syn(3)).counter(Counter::TcpExtTcpRetransFail, 4).later(1000);
            world.now.sockets[0] = syn(4);
            world.counter(Counter::TcpExtTcpRetransFail, 4 + failed);
            world.now.netns[0].conntrack = Some(tracking(entries, 9, 0, 0));
            let diagnosis = world.diagnose();
            let attempts = diagnosis.findings.iter().find(|f| f.rule == "syn-sent-pileup").unwrap();
            let linked = diagnosis
                .incidents
                .iter()
                .any(|i| diagnosis.findings[i.cause].rule == "conntrack-pressure" && i.consequences.len() == 1);
            (attempts.causes.named().map(|c| c.id), linked)
        };
        assert_eq!(of(1, 1000), (Some("conntrack-full"), true));
        assert!(!of(0, 1000).1, "they leave");
        assert_eq!(of(1, 900), (Some("local-drop"), false));
    }
}
