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
use crate::diagnose::resets::{self, CAUSES, MANY, Story, weigh};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::untranslated::{self, Untranslated};
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
const INVALID: &str = "On the host that translates: drop what its tracking takes for invalid (`nft add rule ip filter forward ct \
                       state invalid drop`), or let it pass translated (net.netfilter.nf_conntrack_tcp_be_liberal = 1)";
const BEYOND: &str = "Look who sends segments outside of the window: `sysctl net.netfilter.nf_conntrack_log_invalid=6` there, then its log";
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
        INVALID,
        BEYOND,
        KERNEL,
        OUTSIDE,
        ON_PURPOSE,
        LISTEN_THERE_TOO,
        CALL_LISTEN,
    ],
    avoid: &["Don't drop RSTs in a firewall: the other side then waits for minutes"],
};

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
            untranslated: 0,
        });
        if resets.sent.is_some() { &mut story.sent } else { &mut story.came }.push(resets);
    }
    stories.retain(|_, story| story.count() >= MANY || story.reused() >= REUSES);
    let idle = resets::idle(view, &stories.keys().map(|(_, service)| *service).collect());
    let (untranslated, asked) = untranslated::find(view, traced);
    // The resets that answer what was not translated are told with the connections that they end.
    let places: Vec<_> = stories.keys().copied().collect();
    let is_told = |place: &resets::Place, story: &Story<'_>| {
        let of = |u: &Untranslated<'_>| u.from == place.1 && places.iter().any(|p| p != place && u.is_of(view, *p));
        story.came() == 0 && untranslated.iter().any(of)
    };
    stories.retain(|place, story| !is_told(place, story));
    let told = stories.into_iter().map(|(place, story)| {
        let of: Vec<&Untranslated<'_>> = untranslated.iter().filter(|u| u.is_of(view, place)).collect();
        let ends = resets::Ends::of(view, traced, place, &idle);
        let story = Story { ends, untranslated: of.iter().map(|u| u.segments).sum(), ..story };
        finding(view, traced, &story, of.first().copied())
    });
    Outcome { asked, ..Outcome::findings(told.collect()) }
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
    let is_sent_here = story.outsiders() * 2 <= story.count() && !story.is_untranslated();
    match story.sender().filter(|_| is_sent_here).map(|sent| sent.served_here) {
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

fn finding(
    view: &View<'_>,
    traced: &TracedInterval,
    story: &Story<'_>,
    untranslated: Option<&Untranslated<'_>>,
) -> Finding {
    let (netns, service) = (story.netns, story.service);
    let server = server(view, story);
    let owners = story.owners();
    let caller = owners.first();
    let causes = weigh(story);
    let level = severity(view, traced, story);
    let (who, summary) = told(story, server.as_ref(), &owners, &causes);
    let is_sent_here = story.outsiders() * 2 <= story.count() && !story.is_untranslated();
    let is_client = story.sender().is_some_and(|r| !r.served_here && is_sent_here);
    let subject = match &server {
        _ if is_client && caller.is_some() => traced_program::caller(view, netns, service, caller),
        Some(owner) => Subject { listener: Some(service), ..view.subject_of(owner.process, netns) },
        None => traced_program::caller(view, netns, service, caller),
    };
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    let mut summary = format!("{summary} within {}{why}", text::duration(traced.duration_ms));
    let holder = causes.is("no-listener").then(|| PortHolder::of(view, netns, service)).flatten();
    summary.extend(holder.as_ref().map(PortHolder::words));
    summary.extend(untranslated.filter(|_| causes.is("untranslated")).map(Untranslated::words));
    if story.unanswered() > 0 {
        let n = text::grouped(story.unanswered());
        summary.push_str(&format!("; {n} of them had sent something and got no answer"));
    }
    let lost = traced.lost + traced.not_grouped;
    let steps: Vec<&str> = if causes.is("untranslated") {
        vec![INVALID, BEYOND]
    } else {
        causes.left.iter().map(|h| step(h.cause.id)).take(2).chain([ON_PURPOSE]).collect()
    };
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
    if let Some(of) = untranslated {
        finding = finding
            .evidence("untranslated", Evidence::Count(story.untranslated))
            .evidence("invalid_packets", Evidence::count(of.by.map(|(_, n)| n)));
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
mod tests;
