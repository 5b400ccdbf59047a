//! Situations by name, so that a helper process can be asked for one in a line of text. Comes in: words. Goes out:
//! [`Held`], or what was wrong with the words. Never here: how a situation is made.

use std::str::FromStr;

use super::{CloseWait, Ends, Family, First, Held, PeerEnd, Ports};
use crate::harness::Netns;

/// Makes the situation that the words name: `established 7000 100`, `close_wait 7000+17000/v6 250 eof_read closed`.
///
/// Ports are `SERVER`, `SERVER+FIRST_CLIENT`, and `/v6` or `/mapped` behind either.
///
/// # Errors
/// When the words name no situation.
pub fn by_name(ns: &Netns, words: &[&str]) -> Result<Held, String> {
    let bad = || format!("`{}` is no situation", words.join(" "));
    Ok(match *words {
        ["all_states"] => super::all_states(ns),
        ["listen", at, backlog] => super::listen(ns, ports(at)?, number(backlog)?),
        ["only_v6", port] => super::only_v6(ns, number(port)?),
        ["reuseport", at, listeners, connections] => {
            super::reuseport(ns, ports(at)?, number(listeners)?, number(connections)?)
        }
        ["established", at, count] => super::established(ns, ports(at)?, number(count)?),
        ["keepalive", at, count] => super::keepalive(ns, ports(at)?, number(count)?),
        ["unread", at, count, bytes] => super::unread(ns, ports(at)?, number(count)?, number(bytes)?),
        ["zero_window", at, count] => super::zero_window(ns, ports(at)?, number(count)?),
        ["accept_queue_full", at, backlog, beyond] => {
            super::accept_queue_full(ns, ports(at)?, number(backlog)?, number(beyond)?)
        }
        ["syn_sent", at, count] => super::syn_sent(ns, ports(at)?, number(count)?),
        ["syn_recv", at, count] => super::syn_recv(ns, ports(at)?, number(count)?),
        ["bound_inactive", at] => super::bound_inactive(ns, ports(at)?),
        ["fin_wait1", at, count, ends] => super::fin_wait1(ns, ports(at)?, number(count)?, held_or_closed(ends)?),
        ["fin_wait2", at, count] => super::fin_wait2(ns, ports(at)?, number(count)?),
        ["fin_wait2_orphan", at, count] => super::fin_wait2_orphan(ns, ports(at)?, number(count)?),
        ["close_wait", at, count, kind, peer] => {
            let kind = match kind.split_once(':') {
                Some(("data_unread", bytes)) => CloseWait::DataUnread(number(bytes)?),
                Some(("data_read_to_the_last", bytes)) => CloseWait::DataReadToTheLast(number(bytes)?),
                None if kind == "eof_unread" => CloseWait::EofUnread,
                None if kind == "eof_read" => CloseWait::EofRead,
                None if kind == "not_accepted" => CloseWait::NotAccepted,
                _ => return Err(bad()),
            };
            let peer = match peer {
                "half_closed" => PeerEnd::HalfClosed,
                "closed" => PeerEnd::Closed,
                "gone" => PeerEnd::Gone,
                _ => return Err(bad()),
            };
            super::close_wait(ns, ports(at)?, number(count)?, kind, peer)
        }
        ["closing", at, count] => super::closing(ns, ports(at)?, number(count)?),
        ["last_ack", at, count, ends] => super::last_ack(ns, ports(at)?, number(count)?, held_or_closed(ends)?),
        ["time_wait", at, count, first @ ("client" | "server")] => {
            let first = if first == "client" { First::Client } else { First::Server };
            super::time_wait(ns, ports(at)?, number(count)?, first)
        }
        _ => return Err(bad()),
    })
}

fn number<N: FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is no number of the right size"))
}

fn ports(word: &str) -> Result<Ports, String> {
    let (numbers, family) = match word.split_once('/') {
        None => (word, Family::V4),
        Some((numbers, "v6")) => (numbers, Family::V6),
        Some((numbers, "mapped")) => (numbers, Family::Mapped),
        Some((_, family)) => return Err(format!("`{family}` is no family; use v6 or mapped")),
    };
    let (server, first_client) = numbers.split_once('+').unwrap_or((numbers, "0"));
    Ok(Ports { server: number(server)?, first_client: number(first_client)?, family })
}

fn held_or_closed(word: &str) -> Result<Ends, String> {
    match word {
        "held" => Ok(Ends::Held),
        "closed" => Ok(Ends::Closed),
        other => Err(format!("`{other}` is neither held nor closed")),
    }
}
