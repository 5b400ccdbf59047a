//! Why a listener's queue is not emptied: the causes, and what the processes that hold the listener show of each.
//!
//! Input: a view, the listener's queue and who should accept on it. Output: the causes weighed, the words and the first
//! steps for the one that is left. Not here: how bad it is (the rules), and what waits (`queues`).

mod backends;
mod causes;
mod holders;
mod picture;
mod reservation;
mod workers;

pub use causes::CAUSES;
pub use holders::{Reach, reach};
pub use picture::{Taken, taken, unique};
pub use reservation::RESERVED;

use crate::diagnose::finding::{Evidence, Finding, most_frequent};
use crate::diagnose::hypothesis::{Cause, Weighed};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::looks;
use crate::diagnose::queues::Queue;
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, Process, Socket};
use crate::text;
use picture::Picture;
use workers::{Held, Hold};

/// Clients that are named as those who hold the workers.
const CLIENTS_NAMED: usize = 3;

/// What the holders of a listener show.
pub struct Why {
    pub weighed: Weighed,
    /// Who does what, when the cause says it.
    words: Option<String>,
    /// What is seen of it, when no cause is left that says it.
    beside: Option<String>,
    steps: Vec<String>,
    evidence: Vec<(&'static str, Evidence)>,
    /// The services that they were seen waiting for.
    waits_for: Vec<Endpoint>,
    /// The listener is for nobody to accept on.
    is_reservation: bool,
}

impl Why {
    /// Why nobody accepts, in words; else what the owner does (`does not ...`).
    #[must_use]
    pub fn acts(&self, owner: Option<&Owner<'_>>, otherwise: &str) -> String {
        let beside = self.beside.as_ref().map_or_else(String::new, |beside| format!("; {beside}"));
        self.words.clone().unwrap_or_else(|| listener_owner::acts(owner, otherwise) + &beside)
    }

    /// Adds causes, evidence and first steps to a finding.
    #[must_use]
    pub fn onto(self, finding: Finding, owner: Option<&Owner<'_>>) -> Finding {
        let mut finding = self.evidence.into_iter().fold(finding, |f, (name, value)| f.evidence(name, value));
        finding.waits_for = self.waits_for;
        if self.is_reservation {
            return reservation::onto(finding.causes(self.weighed), owner);
        }
        // What else could help if it were something else only hides what does.
        let is_named = self.weighed.named().is_some();
        let own: Vec<String> = self.steps.into_iter().chain(listener_owner::first_aid(owner)).collect();
        let finding = finding.causes(self.weighed);
        if is_named && !own.is_empty() {
            return finding.steps(own.iter().map(String::as_str));
        }
        own.into_iter().rev().fold(finding, |f, step| f.first(Some(step)))
    }
}

/// End of the helper that inherited a listener, and how not to hand it on.
pub const END_HELPER: &str =
    "End {helper}, which only inherited the listener: until then a restart of the server fails with EADDRINUSE";
pub const CLOSE_ON_EXEC: &str = "Open the listener with SOCK_CLOEXEC in the server, or set FD_CLOEXEC on it before it starts \
                             other programs";
const OTHER_LISTENER: &str = "Give this listener a thread of its own: those in accept() serve {other}";
/// What a process that got a listener by socket activation and does not accept needs.
pub const CHECK_SERVICE: &str = "See which program the service behind the socket unit starts (ExecStart=): {helper} does not \
                                 take what it was given; it must call accept() on descriptor 3 (sd_listen_fds(3))";
const RAISE_QUOTA: &str = "Raise the quota of the control group (cpu.max, CPUQuota=, limits.cpu) or take load away: more \
                           workers under the same quota do not help";
const FIT_BURST: &str = "Let the queue hold a burst: raise the backlog of listen() in the application and net.core.somaxconn \
                         ({somaxconn}), then restart it, as the limit is taken when listen() is called";
const RAISE_LIMIT: &str = "Compare the connections that it has with its own limit of connections (maxconn, \
                           worker_connections): past that it stops accepting on purpose";
const FREE_WORKERS: &str = "Let {client} close unused connections, limit how many one client may have, and let the server close \
                            idle ones sooner (idle or keep-alive timeout)";
const BUFFER_CLIENTS: &str = "Limit how long {client} may take to send a request and to read its answer, or put a proxy that buffers both \
                              before the workers";
const CALL_THE_FUNCTION: &str = "Call the function and not the URL: once as many requests call their own server as it has \
                                 workers, all wait for each other";
const POOL_FOR_CALLS: &str = "Where it must be a request, serve it from other workers on a listener of their own, and give the \
                              call a time limit";
const ASK_SERVICE: &str = "Find out why {service} does not answer: run tcpstate doctor there; give calls to it a time limit that \
                           is shorter than the patience of the clients";
/// Steps for a cause, before those of a rule.
#[cfg(test)]
pub const STEPS: [&str; 13] = [
    END_HELPER,
    CLOSE_ON_EXEC,
    CHECK_SERVICE,
    OTHER_LISTENER,
    RAISE_QUOTA,
    FIT_BURST,
    RAISE_LIMIT,
    FREE_WORKERS,
    BUFFER_CLIENTS,
    CALL_THE_FUNCTION,
    POOL_FOR_CALLS,
    ASK_SERVICE,
    looks::LOOK_AGAIN,
];

/// The steps that free a listener from a helper that inherited it.
#[must_use]
pub fn end_helper(holders: &[&Process]) -> Vec<String> {
    let names: Vec<String> = holders.iter().map(|p| text::name(p)).collect();
    vec![END_HELPER.replace("{helper}", &names.join(" and ")), CLOSE_ON_EXEC.to_owned()]
}

/// The first step for a holder that was given the listener and does not accept.
#[must_use]
pub fn check_service(holders: &[&Process]) -> String {
    let names: Vec<String> = holders.iter().map(|p| text::name(p)).collect();
    CHECK_SERVICE.replace("{helper}", &names.join(" and "))
}

/// Weighs the causes against what the servers of a listener do.
#[must_use]
pub fn why<'a>(view: &View<'a>, owner: Option<&Owner<'a>>, queue: &Queue<'_>, listeners: &[&Socket]) -> Why {
    let nothing = |weighed| Why {
        weighed,
        words: None,
        beside: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        waits_for: Vec::new(),
        is_reservation: false,
    };
    let unseen = |owner: Option<&Owner<'_>>| {
        // A process that is known is listed.
        let how = match owner {
            _ if view.now.owners.unreadable == 0 => None,
            Some(owner) if owner.is_activator => None,
            Some(_) => looks::with_rights(view),
            None => looks::with_all_processes(view),
        };
        let step = how.map(|how| looks::step(view, &how));
        Why { steps: step.into_iter().collect(), ..nothing(Weighed::default()) }
    };
    let Some(owner) = owner.filter(|o| !o.is_activator) else { return unseen(owner) };
    if owner.is_reserver {
        let words = Some(reservation::words(owner));
        return Why { words, is_reservation: true, ..nothing(reservation::weighed()) };
    }
    let picture = picture::picture(view, owner, queue, listeners);
    let known = owner.halted.is_some()
        || owner.no_descriptors.is_some()
        || picture.is_inspected()
        || picture.taken.is_some_and(|t| t.at_least > 0);
    if !known {
        return unseen(Some(owner));
    }
    let mut why = nothing(Weighed::of(CAUSES, |cause| picture.weigh(cause.id)));
    if picture.is_halted() {
        // What else it would do if it ran is no matter.
        why.weighed.ruled_out.clear();
    }
    // Nobody takes another program for a reservation.
    why.weighed.ruled_out.retain(|(cause, _)| cause.id != reservation::NAT_RULE_GONE);
    let held = if picture.workers_busy() { workers::held(&picture.workers) } else { None };
    if let Some(named) = why.weighed.named() {
        why.words = words(&picture, named, &owner.name(), held);
        why.steps = match named.id {
            "inherited-listener" => {
                let holders = unique(listeners.iter().flat_map(|l| view.processes(l)).collect());
                if picture.is_activated { vec![check_service(&holders)] } else { end_helper(&holders) }
            }
            "cpu-throttled" => vec![RAISE_QUOTA.to_owned()],
            "accepts-elsewhere" => vec![OTHER_LISTENER.replace("{other}", &picture.others().join(", "))],
            "accept-paused" => vec![RAISE_LIMIT.to_owned()],
            "workers-busy" => held.map(free_workers).into_iter().collect(),
            "waits-for-service" => {
                picture.backends.iter().map(|b| ASK_SERVICE.replace("{service}", &b.names())).collect()
            }
            "calls-itself" => vec![CALL_THE_FUNCTION.to_owned(), POOL_FOR_CALLS.to_owned()],
            _ => Vec::new(),
        };
    }
    if why.weighed.left.first().is_some_and(|likeliest| likeliest.cause.id == "arrivals-too-fast") {
        let limit = view.netns(queue.netns).and_then(|n| n.sysctl(Sysctl::CoreSomaxconn));
        let now = limit.map_or_else(|| "not known here".to_owned(), |n| format!("now {}", text::grouped(n)));
        why.steps.push(FIT_BURST.replace("{somaxconn}", &now));
    }
    why.evidence.extend(picture.cpu_quota.map(|quota| ("cpu_periods", Evidence::Count(quota.periods))));
    why.evidence.extend(picture.cpu_quota.map(|quota| ("cpu_periods_throttled", Evidence::Count(quota.throttled))));
    if !picture.elsewhere.is_empty() {
        why.evidence.push(("accepts_elsewhere", Evidence::List(picture.others())));
    }
    why.evidence.push(("accepted_connections", Evidence::Count(picture.accepted)));
    if let Some(held) = held {
        let clients = picture.workers.iter().flat_map(|w| &w.accepted).map(|s| s.peer.addr.to_canonical().to_string());
        why.evidence.push(("workers_held_by", Evidence::List(most_frequent(clients, CLIENTS_NAMED))));
        why.evidence.extend(held.at_least_ms.map(|ms| ("workers_idle_at_least_ms", Evidence::Millis(ms))));
    }
    if let Some(backends) = picture.backends.as_ref().filter(|backends| backends.are_seen()) {
        if why.words.is_none() {
            why.beside = Some(format!("it {}", backends.words()));
        }
        why.waits_for = backends.services();
        let services = why.waits_for.iter().map(ToString::to_string).collect();
        why.evidence.push(("waits_for", Evidence::List(services)));
        why.evidence.extend(backends.unanswered_ms().map(|ms| ("waits_at_least_ms", Evidence::Millis(ms))));
    }
    if why.words.is_none() && why.beside.is_none() {
        why.beside = picture.stands_elsewhere().map(|at| format!("it stands {at}"));
    }
    if picture.own_calls() > 0 {
        why.evidence.push(("own_calls_waiting", Evidence::Count(picture.own_calls())));
    }
    why
}

/// What frees workers that clients hold.
fn free_workers(held: Held) -> String {
    let step = if held.how == Hold::Idle { FREE_WORKERS } else { BUFFER_CLIENTS };
    step.replace("{client}", &held.client())
}

/// Who does what when this is the cause.
fn words(picture: &Picture<'_, '_>, cause: &Cause, who: &str, held: Option<Held>) -> Option<String> {
    let own = match picture.own_calls() {
        0 => String::new(),
        1 => "; 1 of those that wait is a call of its own".to_owned(),
        n => format!("; {} of those that wait are calls of its own", text::grouped(n)),
    };
    let every = if picture.workers.len() > 1 { "every worker of " } else { "" };
    Some(match cause.id {
        "inherited-listener" if picture.is_activated => {
            format!("{who} was given the listener by socket activation and never accepts")
        }
        "inherited-listener" => format!("{who} only inherited the listener and never accepts"),
        "cpu-throttled" => {
            let quota = picture.cpu_quota?;
            format!(
                "{who} is short of CPU: the quota of its control group was used up in {} periods",
                text::of(quota.throttled, quota.periods)
            )
        }
        "accepts-elsewhere" => format!(
            "{} of {who} {} in accept() of {} and none here",
            text::count(picture.threads_elsewhere as u64, "thread", "threads"),
            if picture.threads_elsewhere == 1 { "waits" } else { "wait" },
            picture.others().join(", ")
        ),
        "accept-paused" => format!("{who} does not watch the listener: it is at a limit of its own, or forgot it"),
        "busy-loop" => format!("{who} computes and does not come back to accept()"),
        "loop-stuck" => format!("{who} waits for something else{}{own}", picture.stand()),
        "waits-for-service" => format!("{every}{who} {}", picture.backends.as_ref()?.words()),
        "calls-itself" => format!("{every}{who} waits for an answer from its own listener{own}"),
        "workers-busy" => match held {
            Some(held) => format!("{every}{who} is held by {}", held.words()),
            None => format!("every worker of {who} serves a connection{own}{}", unanswered(picture)),
        },
        "accepts-too-slow" => {
            if let Some((rate, waits_ms)) = picture.slow.filter(|_| !picture.is_counted()) {
                let (rate, waits) = (text::grouped(rate), text::duration(waits_ms));
                return Some(format!("{who} accepts at most {rate} a second: whoever is next has waited for {waits}"));
            }
            let time = text::duration(picture.interval_ms?);
            format!("{who} accepted only {} of those who waited in {time}", text::grouped(picture.taken?.at_least))
        }
        _ => return None,
    })
}

/// What other services owe while the workers are busy: true whatever they wait for.
fn unanswered(picture: &Picture<'_, '_>) -> String {
    let owed = picture.backends.as_ref().and_then(|backends| Some((backends.names(), backends.unanswered_ms()?)));
    owed.map_or_else(String::new, |(names, ms)| {
        format!("; requests to {names} have had no answer for {} or more", text::duration(ms))
    })
}

#[cfg(test)]
mod tests;
