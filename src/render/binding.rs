//! What `explain bind` says: whether `bind()` would succeed, because of what not, and what helps; as text and as JSON.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::aggregate::groups::processes_label;
use crate::diagnose::binding::{Assumption, Conflict, Judgement, Options, Verdict, Way};
use crate::model::binding::{BindRequest, Refusal};
use crate::model::column::{Names, Row};
use crate::model::{OwnerTable, State};
use crate::render::style::{self, Style};
use crate::render::{json as out, sanitize};
use crate::text;

/// Conflicts that are shown; the rest are counted.
const SHOWN: usize = 8;

/// A judgement and what is known besides.
pub struct Bind<'a> {
    pub judgement: Judgement<'a>,
    pub owners: &'a OwnerTable,
    pub names: &'a dyn Names,
    /// The port may be given to an outgoing connection: it lies in the range, and is not reserved.
    pub ephemeral: bool,
}

impl Assumption {
    const ALL: [Assumption; 6] = [
        Assumption::OldReuseAddr,
        Assumption::OldReusePort,
        Assumption::SameUser,
        Assumption::OldV6Only,
        Assumption::Vrf,
        Assumption::NotRefused,
    ];

    const fn key(self) -> &'static str {
        match self {
            Assumption::OldReuseAddr => "theirs_so_reuseaddr",
            Assumption::OldReusePort => "theirs_so_reuseport",
            Assumption::SameUser => "same_user",
            Assumption::OldV6Only => "theirs_ipv6_v6only",
            Assumption::Vrf => "their_interface_in_vrf",
            Assumption::NotRefused => "address_and_port_permitted",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Assumption::OldReuseAddr => "they have SO_REUSEADDR too",
            Assumption::OldReusePort => "they have SO_REUSEPORT too",
            Assumption::SameUser => "they are of the same user",
            Assumption::OldV6Only => "they have IPV6_V6ONLY",
            Assumption::Vrf => "their interface is in a VRF",
            Assumption::NotRefused => "the address is local and the port permitted, which could not be asked",
        }
    }
}

fn names(options: Options) -> Vec<&'static str> {
    let all =
        [(options.reuse_addr, "SO_REUSEADDR"), (options.reuse_port, "SO_REUSEPORT"), (options.v6only, "IPV6_V6ONLY")];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect()
}

const fn key(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Works => "works",
        Verdict::Fails(_) => "fails",
        Verdict::Depends => "depends",
    }
}

fn refusal_words(refusal: Refusal, request: &BindRequest) -> String {
    let port = request.local.port;
    match refusal {
        Refusal::AddressInUse => "EADDRINUSE, address already in use".into(),
        Refusal::AddressNotAvailable => {
            "EADDRNOTAVAIL: no interface of this network namespace has the address, or it is still tentative".into()
        }
        Refusal::Permission => format!("EACCES: port {port} is below net.ipv4.ip_unprivileged_port_start"),
        Refusal::Invalid => "EINVAL: a link-local address needs its interface (fe80::1%eth0), and a multicast address \
                             cannot be bound"
            .into(),
        Refusal::NoFamily => "EAFNOSUPPORT: the kernel has no such address family here".into(),
        Refusal::Other(errno) => format!("error {errno}"),
    }
}

fn remedy(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::AddressNotAvailable => {
            Some("IP_FREEBIND or net.ipv4.ip_nonlocal_bind (net.ipv6.ip_nonlocal_bind) permit it all the same")
        }
        Refusal::Permission => {
            Some("it takes CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or a lower setting")
        }
        _ => None,
    }
}

/// What it takes, in words.
fn assumed(way: &Way) -> String {
    let clause = |any: &Vec<Assumption>| any.iter().map(|a| a.words()).collect::<Vec<_>>().join(" or ");
    way.assumes.iter().map(clause).collect::<Vec<_>>().join(", and ")
}

fn keys(way: &Way) -> Vec<Vec<&'static str>> {
    way.assumes.iter().map(|any| any.iter().map(|a| a.key()).collect()).collect()
}

/// Appends the answer as text.
pub fn write(out: &mut String, bind: &Bind<'_>, style: Style) {
    let judgement = &bind.judgement;
    let request = &judgement.request;
    let both = if request.is_dual() { " (IPv6 and IPv4)" } else { "" };
    let what = format!("bind() and listen() on {}{both}", request.local);
    let line = match judgement.plain.verdict {
        Verdict::Works => format!("{what} would succeed now"),
        Verdict::Fails(refusal) => format!("{what} would fail now: {}", refusal_words(refusal, request)),
        Verdict::Depends => format!("{what} would succeed now only if {}", assumed(&judgement.plain)),
    };
    style.push_wrapped(out, [0, 2], &line, style::DIM.effects(anstyle::Effects::BOLD));
    if let Verdict::Fails(refusal) = judgement.plain.verdict
        && let Some(remedy) = remedy(refusal)
    {
        style.push_wrapped(out, [2, 2], remedy, anstyle::Style::new());
    }
    if !judgement.conflicts.is_empty() {
        let _ = writeln!(out, "\n{}", style.heading("WHO HAS THE PORT"));
        for conflict in judgement.conflicts.iter().take(SHOWN) {
            let text = line_of(conflict, bind);
            style.push_wrapped(out, [2, 4], &text, anstyle::Style::new());
        }
        if let Some(more) = judgement.conflicts.len().checked_sub(SHOWN).filter(|n| *n > 0) {
            let _ = writeln!(out, "  and {} more", text::grouped(more as u64));
        }
    }
    if let Some(ms) = judgement.free_in_ms.filter(|_| !judgement.conflicts.is_empty()) {
        let text = format!("free in {}, unless a stray segment restarts a timer", text::duration(ms));
        style.push_wrapped(out, [2, 2], &text, anstyle::Style::new());
    }
    if !judgement.ways.is_empty() {
        let _ = writeln!(out, "\n{}", style.heading("OPTIONS OF THE NEW SOCKET"));
        for way in judgement.ways.iter().filter(|way| says_something(way, &judgement.ways)) {
            let answer = match way.verdict {
                Verdict::Works => "works".into(),
                Verdict::Fails(refusal) => format!("fails: {}", refusal.name().unwrap_or("another error")),
                Verdict::Depends => format!("works if {}", assumed(way)),
            };
            let text = format!("{}: {answer}", names(way.options).join(" + "));
            style.push_wrapped(out, [2, 4], &text, anstyle::Style::new());
        }
    }
    out.push('\n');
    if bind.ephemeral {
        let text = "the port lies in net.ipv4.ip_local_port_range: an outgoing connection may take it at any time; \
                    list it in net.ipv4.ip_local_reserved_ports";
        style.push_wrapped(out, [0, 2], text, anstyle::Style::new());
    }
    if judgement.conflicts.is_empty() {
        out.push_str("sockets of other network namespaces do not count\n");
    }
    out.push_str("more: tcpstate explain eaddrinuse\n");
}

/// Whether options are worth a line: more than one only where fewer do not do as well.
fn says_something(way: &Way, ways: &[Way]) -> bool {
    let fewer = |other: &Way| {
        let (mine, theirs) = (names(way.options), names(other.options));
        theirs.len() < mine.len() && theirs.iter().all(|n| mine.contains(n))
    };
    let as_good = |other: &Way| match (other.verdict, way.verdict) {
        (Verdict::Works, _) | (_, Verdict::Fails(_)) => true,
        (Verdict::Depends, Verdict::Depends) => other.assumes == way.assumes,
        _ => false,
    };
    !ways.iter().any(|other| fewer(other) && as_good(other))
}

fn line_of(conflict: &Conflict<'_>, bind: &Bind<'_>) -> String {
    let socket = conflict.socket;
    let row = Row::new(socket, bind.owners, bind.names);
    let mut line = format!("{} {}", socket.state.name(), socket.local);
    if socket.state.has_peer() {
        let _ = write!(line, " -> {}", socket.peer);
    }
    let mut processes: Vec<u32> = row.holders.iter().map(|h| h.process).collect();
    processes.dedup();
    if socket.state == State::TimeWait {
        // Nobody has it, as the state says.
    } else if processes.is_empty() {
        let _ = write!(line, "  {}", row.status.words());
    } else {
        let _ = write!(line, "  {}", processes_label(&processes, bind.owners));
    }
    if let Some(ms) = socket.timer.filter(|_| socket.kind == crate::model::RowKind::TimeWaitMini) {
        let _ = write!(line, ", {} left", text::duration(ms.remaining_ms.into()));
    }
    if let (State::Listen, Some(true)) = (socket.state, conflict.reuse_port) {
        line.push_str(", with SO_REUSEPORT");
    }
    if let Some(unless) = conflict.unless {
        let _ = write!(line, " (in the way unless {})", unless.words());
    }
    sanitize::clean(&line)
}

/// The answer as JSON.
///
/// # Errors
/// As [`out::socket_value`].
pub fn object(bind: &Bind<'_>) -> std::io::Result<Json> {
    let judgement = &bind.judgement;
    let request = &judgement.request;
    let way = |way: &Way| {
        json!({
            "options": names(way.options),
            "verdict": key(way.verdict),
            "errno": errno(way.verdict),
            "if": keys(way),
        })
    };
    let mut conflicts = Vec::new();
    for conflict in &judgement.conflicts {
        conflicts.push(json!({
            "certain": conflict.unless.is_none(),
            "so_reuseport": conflict.reuse_port,
            "socket": out::socket_value(&Row::new(conflict.socket, bind.owners, bind.names))?,
        }));
    }
    Ok(json!({
        "local": out::endpoint(request.local),
        "uid": request.uid,
        "verdict": key(judgement.plain.verdict),
        "errno": errno(judgement.plain.verdict),
        "if": keys(&judgement.plain),
        "free_in_ms": judgement.free_in_ms.filter(|_| !judgement.conflicts.is_empty()),
        "in_local_port_range": bind.ephemeral,
        "ways": judgement.ways.iter().map(way).collect::<Vec<_>>(),
        "conflicts": conflicts,
    }))
}

fn errno(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Fails(refusal) => Some(refusal.name().unwrap_or("other")),
        _ => None,
    }
}

/// The words of `if`, for the schema.
pub(crate) fn assumptions() -> Vec<&'static str> {
    Assumption::ALL.iter().map(|a| a.key()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_assumption_has_its_own_words() {
        let mut seen = std::collections::BTreeSet::new();
        for assumption in Assumption::ALL {
            assert!(seen.insert(assumption.key()) && seen.insert(assumption.words()), "{assumption:?}");
        }
    }

    #[test]
    fn more_options_are_told_only_where_they_help() {
        let way = |reuse_addr, reuse_port, verdict| Way {
            options: Options { reuse_addr, reuse_port, v6only: false },
            verdict,
            assumes: Vec::new(),
        };
        let fails = Verdict::Fails(Refusal::AddressInUse);
        let ways = [way(true, false, fails), way(false, true, Verdict::Works), way(true, true, Verdict::Works)];
        let told: Vec<bool> = ways.iter().map(|w| says_something(w, &ways)).collect();
        assert_eq!(told, [true, true, false]);
    }
}
