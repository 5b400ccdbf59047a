//! Connections of one service end by reset: who sends the resets, and why.
//!
//! Input: traced resets by service, seen from each end. Output: a finding per service. Not here: connects that are refused
//! (`connect-failures`), and counters alone (`abort-storm`).
//!
#![doc = include_str!("../../../docs/rules/reset-source.md")]

use std::collections::BTreeMap;

use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::listener_owner::Owner;
use crate::diagnose::measure::Share;
use crate::diagnose::port_holders::{CALL_LISTEN, LISTEN_THERE_TOO, PortHolder};
use crate::diagnose::reset_owners::Owners;
use crate::diagnose::resets::{self, CAUSES, Story, weigh};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::view::View;
use crate::diagnose::{Outcome, callers};
use crate::model::counter::Counter;
use crate::model::event::ResetReason;
use crate::model::traced::{Ends, SentFor, TracedInterval};
use crate::model::{Endpoint, NetnsId};
use crate::text;

pub(super) const RULE: Rule =
    rule!("reset-source", Established, Two, "connections of one service end by reset", check, [TEXT])
        .title("resets of one service")
        .identity(Identity::Place)
        .causes(CAUSES)
        .traced();

const READ: &str =
    "In {sender}: read to EOF before close(), or shutdown() for writing, read what still comes, then close()";
const LINGER: &str = "In {sender}: remove SO_LINGER with a time of 0";
const GAVE_UP: &str =
    "Look why {service} does not answer in time: `tcpstate doctor` on its host; {sender} only gave up waiting";
const LATE: &str = "Compare how long {service} takes to answer with the time limits of its clients; clients that ended, or need no more \
                    of an answer, are no fault";
const TURNED_AWAY: &str = "Look into the log of {service} for a limit that is reached (clients, workers, descriptors), an access rule, \
                           or workers that die";
const IDLE_LIMIT: &str = "In {user}: send keepalives (TCP_KEEPIDLE) before the path forgets, or close what idles sooner; find the \
                          device whose idle limit is so short";
const LISTEN: &str = "Start what should serve {service}, or correct the address that its clients call";
const IDLE: &str = "In {sender}: close only when the other end sends no more; the limit for idle connections of a server must be \
                    above that of its clients";
const OWN_LIMIT: &str = "Set the limit for idle connections (keep-alive timeout) of {service} above that of its clients: it \
                         closed these itself, and they were used again";
const REUSED: &str = "In {user}: drop a pooled connection when its peer has closed it (a read event, or a check before use), \
                      let it idle for less than the peer does, and retry what is idempotent";
const FORGOTTEN: &str =
    "Look whether {service} was restarted, or whether a NAT or a load balancer on the way forgot the connections";
const ENDED: &str = "Look why the process that serves {service} ends: its exit status and its log, `dmesg` for one that was killed; let it \
                     stop accepting first, and answer what it has";
const KERNEL: &str =
    "See orphan-limit and tcp-memory-pressure for what runs out, and the keepalive settings of {sender}";
const OUTSIDE: &str = "Look on the other side who sends them: `tcpstate trace --resets` there; if nobody does, a device between sends them";
const ON_PURPOSE: &str = "If a health check or a load tester does it on purpose, nothing is wrong";

const TEXT: Text = Text {
    why: "RST ends a connection at once: data under way, and data that was received and not yet read, is lost, and the program at \
          the other end gets ECONNRESET.",
    remedy: &[
        READ,
        GAVE_UP,
        LINGER,
        IDLE,
        OWN_LIMIT,
        LATE,
        REUSED,
        TURNED_AWAY,
        IDLE_LIMIT,
        FORGOTTEN,
        LISTEN,
        ENDED,
        KERNEL,
        OUTSIDE,
        ON_PURPOSE,
        LISTEN_THERE_TOO,
        CALL_LISTEN,
    ],
    avoid: &["Don't drop RSTs in a firewall: the other side then waits for minutes"],
};

/// Fewer in an interval are no pattern (policy).
const MANY: u64 = 5;
/// Connections that were used after their peer had closed them: as few show the pattern (policy).
const REUSES: u64 = 3;
/// Of the connections of a service: it fails for nearly everybody (policy).
const MOST: f64 = 80.0;

fn check(view: &View<'_>) -> Outcome {
    let Some(traced) = &view.now.traced else { return Outcome::default() };
    let mut stories: BTreeMap<(Option<NetnsId>, Endpoint), Story<'_>> = BTreeMap::new();
    for resets in &traced.resets {
        let service = resets.service;
        // What one namespace sends and another gets is one story.
        let place =
            if resets.served_here { (resets.netns, service) } else { callers::place(view, resets.netns, service) };
        let netns = place.0;
        let story = stories.entry(place);
        let story = story.or_insert_with(|| Story {
            netns,
            service,
            sent: Vec::new(),
            came: Vec::new(),
            ends: resets::Ends::default(),
        });
        if resets.sent.is_some() { &mut story.sent } else { &mut story.came }.push(resets);
    }
    stories.retain(|_, story| story.count() >= MANY || story.reused() >= REUSES);
    let idle = resets::idle(view, &stories.keys().map(|(_, service)| *service).collect());
    let told = stories.into_iter().map(|(place, story)| {
        let story = Story { ends: resets::Ends::of(view, traced, place, &idle), ..story };
        finding(view, traced, &story)
    });
    Outcome::findings(told.collect())
}

/// The program behind the service, when it listens here.
fn server<'a>(view: &View<'a>, story: &Story<'_>) -> Option<Owner<'a>> {
    Owner::of(view, &callers::listening(view, story.netns, story.service)?.listeners)
}

fn severity(view: &View<'_>, traced: &TracedInterval, story: &Story<'_>) -> Severity {
    let unanswered = story.unanswered();
    let called = traced.connects.iter().filter(|c| story.is_called(view, c.netns, c.to)).map(|c| c.succeeded);
    let came = view.delta(story.netns, Counter::TcpPassiveOpens);
    let came = came.filter(|_| story.sent.iter().any(|r| r.served_here));
    let reached = called.sum::<u64>().max(came.unwrap_or(0));
    let share = Share::of(unanswered, reached.max(unanswered)).map_or(0.0, Share::percent);
    let no_memory =
        story.sent.iter().any(|r| r.sent == Some(SentFor::Reason(ResetReason::AbortOnMemory)) && r.count >= MANY);
    let place = (story.netns, story.service);
    let is_of_story = |e: &&Ends| {
        (e.served_here && (e.netns, e.service) == place)
            || (!e.served_here && story.is_called(view, e.netns, e.service))
    };
    let answered: u64 = traced.ends.iter().filter(is_of_story).map(|e| e.counts.answered).sum();
    let hurts = unanswered.max(story.fresh());
    let share_hurt = Share::of(hurts, reached.max(hurts)).map_or(0.0, Share::percent);
    // New clients are cut before they get anything, and nobody else is served; or who asked gives up more often than not.
    let fails = unanswered.min(story.fresh()) >= MANY && answered == 0 && share >= MOST;
    let waits = story.waited() >= MANY && answered < story.waited();
    // More are cut in the middle than end in order.
    let cut = story.sent() == 0 && story.in_use() >= MANY && story.in_use() > answered;
    match () {
        () if fails => Severity::High,
        () if hurts >= MANY && share_hurt >= view.thresholds.connect_failure_percent || no_memory || waits || cut => {
            Severity::Warning
        }
        () => Severity::Info,
    }
}

/// Who sends the resets, and the headline up to its end.
fn told(story: &Story<'_>, server: Option<&Owner<'_>>, owners: &Owners<'_>, causes: &Weighed) -> (String, String) {
    let service = story.service;
    let many = text::count(story.count(), "connection", "connections");
    // A process that has ended is nobody's culprit, and the one of now did not do it.
    if causes.is("restarted") {
        return (service.to_string(), format!("{many} to {service} were reset"));
    }
    let named = |here: bool| {
        let known = story.sent.iter().filter(|r| r.served_here == here && r.program.is_some()).max_by_key(|r| r.count);
        known.and_then(|r| r.program.as_ref()).map(traced_program::name)
    };
    let from_here = story.sender().filter(|_| story.outsiders() * 2 <= story.count());
    match from_here.map(|sent| sent.served_here) {
        // The kernel itself answers what comes for a socket that its process has closed.
        Some(true) => {
            let who = named(true).or_else(|| server.map(Owner::name)).unwrap_or_else(|| "this host".to_owned());
            (who.clone(), format!("{who} reset {many} to {service}"))
        }
        Some(false) => {
            // Who else calls the service is not who closed these.
            let who = owners.name().unwrap_or_else(|| "a client on this host".to_owned());
            let summary = match owners.shares() {
                shares if shares.is_empty() => format!("{who} reset its {many} to {service}"),
                shares => format!("clients on this host reset {many} to {service}{shares}"),
            };
            (who, summary)
        }
        // Nobody here sent them: a device between may have.
        None if story.came.iter().any(|r| r.served_here) => {
            let serves = server.map_or_else(|| service.to_string(), |owner| format!("{} at {service}", owner.name()));
            ("the clients".to_owned(), format!("{many} of clients to {serves} were reset"))
        }
        None => {
            let told = match (owners.only(), owners.shares()) {
                (Some(program), _) => {
                    format!("{many} of {} to {service} were reset", traced_program::name(program))
                }
                (None, shares) if shares.is_empty() => format!("{many} of this host to {service} were reset"),
                (None, shares) => format!("{many} to {service}{shares} were reset"),
            };
            (service.to_string(), told)
        }
    }
}

fn finding(view: &View<'_>, traced: &TracedInterval, story: &Story<'_>) -> Finding {
    let (netns, service) = (story.netns, story.service);
    let server = server(view, story);
    let owners = story.owners();
    let caller = owners.first();
    let causes = weigh(story);
    let level = severity(view, traced, story);
    let (who, summary) = told(story, server.as_ref(), &owners, &causes);
    let is_client = story.sender().is_some_and(|r| !r.served_here && story.outsiders() * 2 <= story.count());
    let subject = match &server {
        _ if is_client && caller.is_some() => traced_program::caller(view, netns, service, caller),
        Some(owner) => Subject { listener: Some(service), ..view.subject_of(owner.process, netns) },
        None => traced_program::caller(view, netns, service, caller),
    };
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    let mut summary = format!("{summary} within {}{why}", text::duration(traced.duration_ms));
    let holder = causes.is("no-listener").then(|| PortHolder::of(view, netns, service)).flatten();
    summary.extend(holder.as_ref().map(PortHolder::words));
    if story.unanswered() > 0 {
        let n = text::grouped(story.unanswered());
        summary.push_str(&format!("; {n} of them had sent something and got no answer"));
    }
    let lost = traced.lost + traced.not_grouped;
    let steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).take(2).chain([ON_PURPOSE]).collect();
    let reasons = story.sent.iter().map(|r| match r.sent {
        Some(SentFor::Reason(reason)) => format!("{} ({})", reason.key(), r.count),
        _ => format!("not reported ({})", r.count),
    });
    let (confidence, because) = match (lost, story.reasons_known()) {
        (0, true) => (0.9, "each reset was traced, with the reason that the kernel gives"),
        (0, false) => (0.9, "each reset was traced; this kernel gives no reason for them"),
        _ => (0.75, "resets were traced, and some events were lost"),
    };
    let mut finding = RULE
        .finding(level, confidence, summary)
        .because(because)
        .causes(causes)
        .subject(subject)
        .steps(steps)
        .fill("sender", who)
        .fill("service", service)
        .fill("user", caller.map_or_else(|| "the client".to_owned(), traced_program::name))
        .evidence("resets", Evidence::Count(story.count()))
        .evidence("sent_here", Evidence::Count(story.sent()))
        .evidence("received", Evidence::Count(story.came()))
        .evidence("open_when_received", Evidence::Count(story.came.iter().map(|r| r.open).sum()))
        .evidence("unanswered", Evidence::Count(story.unanswered()))
        .evidence("used_after_close", Evidence::Count(story.reused()))
        .evidence("new_and_cut", Evidence::Count(story.fresh()))
        .evidence("given_up_waiting", Evidence::Count(story.waited()))
        .evidence("events_lost", Evidence::Count(lost));
    if !story.sent.is_empty() {
        finding = finding.evidence("reasons", Evidence::List(reasons.collect()));
    }
    if let Some(holder) = &holder {
        finding = finding.first(Some(holder.step(service)));
    }
    finding.next("tcpstate trace --resets")
}

fn step(cause: &str) -> &'static str {
    match cause {
        "closed-unread" => READ,
        "gave-up" => GAVE_UP,
        "cut-off" => LINGER,
        "late-answer" => LATE,
        "turned-away" => TURNED_AWAY,
        "idle-cut" => IDLE_LIMIT,
        "no-listener" => LISTEN,
        "restarted" => ENDED,
        "closed-too-early" => IDLE,
        "closed-before" => OWN_LIMIT,
        "used-after-close" => REUSED,
        "not-known" => FORGOTTEN,
        "kernel" => KERNEL,
        _ => OUTSIDE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, listen, row};
    use crate::model::State;
    use crate::model::snapshot::Netns;
    use crate::model::sysctl::Sysctl;
    use crate::model::traced::{ConnectFailure, Connects, Counts, Program, Resets};

    fn at(text: &str) -> Endpoint {
        let at: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    }

    fn resets(service: &str, served_here: bool, sent: Option<ResetReason>, count: u64) -> Resets {
        let program = sent.map(|_| Program { pid: 7, comm: "app".into(), processes: 1 });
        let sent = sent.map(SentFor::Reason);
        Resets { sent, program, count, ..Resets::none(NETNS, at(service), served_here) }
    }

    fn world(resets: Vec<Resets>, succeeded: u64) -> World {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 128)).hold(7, "app", 3, 80 << 16).later(2000);
        let connects = Connects {
            netns: NETNS,
            to: at("10.0.0.9:443"),
            program: Some(Program { pid: 812, comm: "curl".into(), processes: 1 }),
            succeeded,
            failed: Vec::new(),
            waited_ms: None,
            failed_at_ms: None,
            succeeded_since: 0,
            waits: Vec::new(),
            answered_ms: None,
            succeeded_at_ms: None,
            succeeded_late: Some(0),
            pauses_ms: None,
        };
        let traced =
            TracedInterval { duration_ms: 2000, resets, connects: vec![connects], ..TracedInterval::default() };
        world.now.traced = Some(traced);
        world
    }

    fn one(resets: Vec<Resets>, succeeded: u64) -> Finding {
        let mut outcome = world(resets, succeeded).check(check);
        assert_eq!(outcome.findings.len(), 1, "{outcome:#?}");
        outcome.findings.remove(0)
    }

    #[test]
    fn a_server_that_closes_with_unread_data_is_named_with_the_reason() {
        let finding = one(vec![resets("10.0.0.1:80", true, Some(ResetReason::AbortOnClose), 40)], 0);
        assert_eq!((finding.severity, finding.subject.listener), (Severity::Info, Some(at("10.0.0.1:80"))));
        assert_eq!(
            finding.summary,
            "app (7) reset 40 connections to 10.0.0.1:80 within 2.0 s: its process closes with unread data"
        );
        assert!(finding.causes.is("closed-unread") && finding.remedy[0].starts_with("In app (7): read to EOF"));
    }

    #[test]
    fn what_a_process_that_ended_left_is_its_ends_fault_and_no_linger() {
        let sent = || {
            let reasons = [ResetReason::Disconnected, ResetReason::AbortOnClose, ResetReason::NoSocket];
            reasons.map(|reason| resets("10.0.0.1:80", true, Some(reason), 10)).to_vec()
        };
        let mut again = world(sent(), 0);
        let listener = again.now.sockets.iter_mut().find(|s| s.state == State::Listen).unwrap();
        listener.cookie = Some(9_999);
        let finding = again.check(check).findings.remove(0);
        assert!(finding.causes.is("restarted"), "{:?}", finding.causes);
        assert_eq!(
            finding.summary,
            "30 connections to 10.0.0.1:80 were reset within 2.0 s: the process that serves ended, and its kernel resets \
             what it left; another was started"
        );
        assert!(
            finding.remedy[0].starts_with("Look why the process that serves 10.0.0.1:80 ends"),
            "{:?}",
            finding.remedy
        );
        assert!(!one(sent(), 0).causes.is("restarted"), "the same listener");
        let clients = vec![resets("10.0.0.1:80", false, Some(ResetReason::Disconnected), 30)];
        let mut by_clients = world(clients, 0);
        by_clients.now.sockets.iter_mut().for_each(|s| s.cookie = Some(9_999));
        let told = by_clients.check(check).findings;
        assert!(told.iter().all(|f| !f.causes.is("restarted")), "{told:#?}");
    }

    /// Resets that came for connections of a program.
    fn came_for(pid: u32, comm: &str, count: u64) -> Resets {
        let program = Some(Program { pid, comm: comm.into(), processes: 1 });
        Resets { program, open: count, ..resets("10.0.0.9:443", false, None, count) }
    }

    #[test]
    fn whose_connections_were_reset_is_not_who_else_connects_there() {
        let finding = one(vec![came_for(7, "pool", 20)], 20);
        assert!(
            finding.summary.starts_with("20 connections of pool (7) to 10.0.0.9:443 were reset within"),
            "{finding:#?}"
        );
        assert_eq!(finding.subject.comm.as_deref(), Some("app"), "the process of that pid");
        let unknown = one(vec![resets("10.0.0.9:443", false, None, 20)], 20);
        assert!(unknown.summary.starts_with("20 connections of this host to 10.0.0.9:443 were reset"), "{unknown:#?}");
        assert_eq!((unknown.subject.comm, unknown.subject.destination), (None, Some(at("10.0.0.9:443"))));
        let both = one(vec![came_for(7, "pool", 20), came_for(9, "curl", 5)], 20);
        let of_each = "25 connections to 10.0.0.9:443, 20 of pool (7) and 5 of curl (9), were reset within";
        assert!(both.summary.starts_with(of_each), "{}", both.summary);
        let by = |pid, comm: &str| Resets {
            sent: Some(SentFor::Reason(ResetReason::Disconnected)),
            ..came_for(pid, comm, 6)
        };
        let sent = one(vec![by(7, "pool"), by(9, "nc")], 20);
        let of_each =
            "clients on this host reset 12 connections to 10.0.0.9:443, 6 of pool (7) and 6 of nc (9), within";
        assert!(sent.summary.starts_with(of_each), "{}", sent.summary);
    }

    #[test]
    fn a_peer_that_resets_before_it_answers_hurts_the_caller() {
        let came = |unanswered| Resets { unanswered, ..came_for(812, "curl", 20) };
        let finding = one(vec![came(20)], 20);
        assert_eq!((finding.severity, finding.subject.comm.as_deref()), (Severity::Warning, Some("curl")));
        assert!(finding.causes.is("outside"), "{finding:#?}");
        assert!(
            finding.summary.starts_with("20 connections of curl (812) to 10.0.0.9:443 were reset"),
            "{}",
            finding.summary
        );
        let cut = |n| Resets { in_use: n, ..came(0) };
        assert_eq!(
            (one(vec![cut(5)], 20).severity, one(vec![cut(4)], 20).severity),
            (Severity::Warning, Severity::Info)
        );
        // After an answer, few, or a small part of all: an explanation at most.
        assert_eq!(one(vec![came(0)], 20).severity, Severity::Info);
        assert_eq!(one(vec![came(4)], 20).severity, Severity::Info);
        assert_eq!(one(vec![came(20)], 201).severity, Severity::Info);
        assert!(world(vec![resets("10.0.0.9:443", false, None, 4)], 4).check(check).findings.is_empty());
    }

    #[test]
    fn what_one_end_sends_and_the_other_gets_is_one_story() {
        let sent = resets("10.0.0.1:80", true, Some(ResetReason::AbortOnClose), 10);
        let came = Resets { open: 10, unanswered: 10, ..resets("10.0.0.1:80", false, None, 10) };
        let mut world = world(vec![sent, came], 0);
        world.now.netns[0].addresses.push("10.0.0.1".parse().unwrap());
        let findings = world.check(check).findings;
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].severity, Severity::Warning);
        assert!(findings[0].causes.is("closed-unread"));
    }

    #[test]
    fn the_same_loopback_port_of_another_namespace_is_another_service() {
        let at_loopback = "127.0.0.1:6379";
        let came = Resets { open: 10, fresh: 10, unanswered: 10, ..resets(at_loopback, false, None, 10) };
        let severity = |netns| {
            let mut world = world(vec![came.clone()], 0);
            world.now.netns.push(Netns { inode: NetnsId::new(2), ..Netns::default() });
            let counts = Counts { answered: 30, ..Counts::default() };
            let traced = world.now.traced.as_mut().unwrap();
            traced.ends.push(Ends::new(netns, at(at_loopback), false, counts));
            let connects = &mut traced.connects[0];
            (connects.netns, connects.to, connects.succeeded) = (netns, at(at_loopback), 40);
            world.check(check).findings.remove(0).severity
        };
        assert_eq!((severity(NETNS), severity(NetnsId::new(2))), (Severity::Warning, Severity::High));
    }

    #[test]
    fn a_server_that_answers_a_part_of_its_clients_with_a_reset_alone_hurts_them() {
        let sent = Resets { unanswered: 10, ..resets("10.0.0.1:80", true, Some(ResetReason::AbortOnClose), 10) };
        let severity = |opened| {
            let mut world = world(vec![sent.clone()], 0);
            world.before.as_mut().unwrap().netns[0].counters.insert(Counter::TcpPassiveOpens, 0);
            world.counter(Counter::TcpPassiveOpens, opened);
            world.check(check).findings[0].severity
        };
        assert_eq!((severity(100), severity(101)), (Severity::Warning, Severity::Info));
    }

    #[test]
    fn data_that_came_after_the_close_is_told_from_a_cut() {
        let cause = |reason| {
            let finding = one(vec![resets("10.0.0.1:80", true, Some(reason), 10)], 0);
            finding.causes.named().map(|cause| cause.id)
        };
        assert_eq!(cause(ResetReason::AbortOnData), Some("closed-too-early"));
        assert_eq!(cause(ResetReason::Disconnected), Some("cut-off"));
    }

    #[test]
    fn a_kernel_without_reasons_leaves_the_causes_open_and_memory_is_a_warning() {
        let unknown = Resets { sent: Some(SentFor::Unknown), ..resets("10.0.0.1:80", true, None, 10) };
        let finding = one(vec![unknown], 0);
        assert!(finding.causes.named().is_none() && finding.causes.left.len() > 2, "{finding:#?}");
        let memory = one(vec![resets("10.0.0.1:80", true, Some(ResetReason::AbortOnMemory), 10)], 0);
        assert_eq!(memory.severity, Severity::Warning);
    }

    #[test]
    fn a_keep_alive_limit_below_the_client_s_is_told_at_both_ends_and_no_nat_is_blamed() {
        let server = one(vec![resets("10.0.0.1:80", true, Some(ResetReason::TimeWait), 8)], 0);
        assert!(server.causes.is("closed-before"), "{server:#?}");
        assert!(server.remedy[0].starts_with("Set the limit for idle connections (keep-alive timeout) of 10.0.0.1:80"));
        let came = |open, after_fin| Resets { after_fin, ..came_for(812, "curl", open) };
        let client = one(vec![came(3, 3)], 20);
        assert!(client.causes.is("used-after-close"), "{client:#?}");
        assert!(client.remedy[0].starts_with("In curl (812): drop a pooled connection"), "{:?}", client.remedy);
        assert!(world(vec![came(3, 2)], 20).check(check).findings.is_empty());
        assert!(one(vec![came(20, 1)], 20).causes.is("outside"));
        assert_eq!(one(vec![came(20, 10)], 20).causes.left[0].cause.id, "used-after-close");
    }

    #[test]
    fn fresh_connections_that_are_cut_point_to_the_service_and_hurt_all_its_clients() {
        let came = |count, unanswered| Resets {
            open: count,
            fresh: count,
            unanswered,
            ..resets("10.0.0.9:443", false, None, count)
        };
        let turned = one(vec![came(20, 20)], 20);
        assert_eq!((turned.severity, turned.causes.left[0].cause.id), (Severity::High, "turned-away"), "{turned:#?}");
        assert!(turned.causes.ruled_out.iter().any(|(cause, _)| cause.id == "used-after-close"));
        assert!(turned.remedy[0].starts_with("Look into the log of 10.0.0.9:443"), "{:?}", turned.remedy);
        // They got a line that says why; or most others are served.
        assert_eq!(one(vec![came(20, 0)], 20).severity, Severity::Warning);
        assert_eq!(one(vec![came(20, 20)], 100).severity, Severity::Warning);
        assert_eq!(one(vec![came(20, 20)], 201).severity, Severity::Info);
    }

    #[test]
    fn a_proxy_that_gives_up_waiting_is_not_to_blame() {
        let sent = |waited| Resets { waited, ..resets("10.0.0.9:443", false, Some(ResetReason::Disconnected), 14) };
        let finding = one(vec![sent(14)], 14);
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.summary,
            "app (7) reset its 14 connections to 10.0.0.9:443 within 2.0 s: it had asked, got no answer, and gave up waiting"
        );
        assert!(finding.remedy.iter().all(|step| !step.contains("SO_LINGER")), "{:?}", finding.remedy);
        let checks = one(vec![sent(0)], 14);
        assert!(checks.causes.is("cut-off") && checks.severity == Severity::Info, "{checks:#?}");
        let mut hedged = world(vec![sent(14)], 28);
        let counts = Counts { answered: 14, ..Counts::default() };
        let ends = Ends::new(NETNS, at("10.0.0.9:443"), false, counts);
        hedged.now.traced.as_mut().unwrap().ends.push(ends);
        assert_eq!(hedged.check(check).findings[0].severity, Severity::Info, "others are answered");
    }

    #[test]
    fn a_client_that_closed_before_the_answer_is_no_idle_limit_and_is_named_only_if_it_is_seen() {
        for reason in [ResetReason::TimeWait, ResetReason::AbortOnData] {
            let mut late = resets("10.0.0.9:443", false, Some(reason), 6);
            late.program = None;
            let finding = one(vec![late], 20);
            assert!(finding.causes.is("late-answer"), "{finding:#?}");
            assert!(
                finding.summary.starts_with("a client on this host reset its 6 connections"),
                "{}",
                finding.summary
            );
            assert!(finding.remedy[0].starts_with("Compare how long 10.0.0.9:443 takes"), "{:?}", finding.remedy);
        }
        let left = Resets { open: 13, late: 13, ..resets("10.0.0.1:80", true, None, 13) };
        assert!(one(vec![left], 0).causes.is("late-answer"));
        // The SYN-ACKs of attempts that were given up, and those of nobody.
        let mut given_up = world(vec![resets("10.0.0.9:443", false, Some(ResetReason::NoSocket), 6)], 0);
        assert!(given_up.check(check).findings[0].causes.is("not-known"));
        given_up.now.traced.as_mut().unwrap().connects[0].failed = vec![(ConnectFailure::GivenUp, 3)];
        assert!(given_up.check(check).findings[0].causes.is("late-answer"));
    }

    #[test]
    fn connections_that_rested_before_the_reset_point_to_an_idle_limit() {
        let came = Resets { open: 6, in_use: 6, ..resets("10.0.0.9:443", false, None, 6) };
        let first = |rested_ms: u64, received: u64| {
            let mut world = world(vec![came.clone()], 20);
            for port in 0..3 {
                let stamps =
                    [("last_data_sent_ms", 9000), ("last_data_recv_ms", rested_ms), ("bytes_received", received)];
                let socket =
                    info(row(State::Established, &format!("10.0.0.1:{}", 40_000 + port), "10.0.0.9:443"), &stamps);
                world.before.as_mut().unwrap().sockets.push(socket);
            }
            world.check(check).findings[0].causes.left[0].cause.id
        };
        assert_eq!(first(1000, 9), "idle-cut");
        assert_eq!((first(999, 9), first(1000, 0)), ("outside", "outside"));
    }

    #[test]
    fn a_port_without_a_listener_was_neither_restarted_nor_forgotten() {
        let of = |at| {
            let mut world = world(vec![resets(at, true, Some(ResetReason::NoSocket), 9)], 0);
            world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[32_768, 60_999]);
            world.check(check).findings.remove(0)
        };
        let refused = of("10.0.0.1:81");
        assert!(refused.causes.is("no-listener"), "{refused:#?}");
        assert!(refused.remedy[0].starts_with("Start what should serve 10.0.0.1:81"), "{:?}", refused.remedy);
        // Its program listens on another address, or was never told to listen.
        for (other, state, step) in [
            ("127.0.0.1:81", State::Listen, "If the program should serve 10.0.0.1:81: let it listen"),
            ("10.0.0.1:81", State::BoundInactive, "Let the program call listen()"),
        ] {
            let mut world = world(vec![resets("10.0.0.1:81", true, Some(ResetReason::NoSocket), 9)], 0);
            world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[32_768, 60_999]);
            world.add(row(state, other, "0.0.0.0:0"));
            let finding = world.check(check).findings.remove(0);
            assert!(finding.remedy[0].starts_with(step), "{finding:#?}");
            assert!(finding.summary.contains(other), "{}", finding.summary);
        }
        assert!(of("10.0.0.1:80").causes.is("not-known"), "it was restarted");
        assert!(of("10.0.0.1:40000").causes.is("not-known"), "a port of clients");
    }
}
