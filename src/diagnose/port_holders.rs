//! Who has the port of a service that nobody serves: a listener of other addresses, or a socket that was never told to listen.
//!
//! Input: a view, the namespace of the service, and its address. Output: the program with words for it, and a step. Not here:
//! connections that are refused (the rules).

use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

/// What to do when a listener has the port on other addresses alone.
pub const LISTEN_THERE_TOO: &str = "If {holder} should serve {service}: let it listen there too, through its bind \
                                    address; now it listens on {listens} alone";
/// What to do when the port is bound and nobody listens.
pub const CALL_LISTEN: &str =
    "Let {holder} call listen(), or end it: it has bound {bound}, so that no other program can listen there";

/// The program that has the port.
pub struct PortHolder {
    name: Option<String>,
    /// Where it listens, or what it has bound.
    at: Vec<String>,
    listens: bool,
}

impl PortHolder {
    /// Who has the port in a namespace, while nothing listens at this address: one program that listens on other addresses of it,
    /// else one that has bound the address, or all, and does not listen. Of several programs none is the one that is meant.
    #[must_use]
    pub fn of(view: &View<'_>, netns: Option<NetnsId>, service: Endpoint) -> Option<PortHolder> {
        let of = |state: State| {
            let is_it = move |s: &&Socket| s.state == state && s.netns == netns && s.local.port == service.port;
            view.now.sockets.iter().filter(is_it).collect::<Vec<&Socket>>()
        };
        let mut found = of(State::Listen);
        let listens = !found.is_empty();
        if !listens {
            let blocks = |s: &&Socket| s.local.addr.is_unspecified() || s.local.normalised() == service.normalised();
            found = of(State::BoundInactive).into_iter().filter(blocks).collect();
        }
        let name = |s: &Socket| view.holding(s).next().map(text::name);
        let first = name(found.first()?);
        // A listener of all addresses that does not serve this one is of one device, or of one family.
        let is_odd = |s: &&Socket| listens && s.local.addr == std::net::Ipv4Addr::UNSPECIFIED;
        if found.iter().any(is_odd) || found.iter().any(|s| name(s) != first) {
            return None;
        }
        let mut at: Vec<String> = found.iter().map(|s| s.local.to_string()).collect();
        at.dedup();
        Some(PortHolder { name: first, at, listens })
    }

    /// `; redis-server (812) listens on 127.0.0.1:6379 alone`.
    #[must_use]
    pub fn words(&self) -> String {
        let who = self.name.as_deref().unwrap_or("a program");
        let at = self.at.join(" and ");
        if self.listens {
            format!("; {who} listens on {at} alone")
        } else {
            format!("; {who} has bound {at} and does not listen")
        }
    }

    /// What makes it serve the address.
    #[must_use]
    pub fn step(&self, service: Endpoint) -> String {
        let at = self.at.join(" and ");
        let text = if self.listens { LISTEN_THERE_TOO } else { CALL_LISTEN };
        text.replace("{holder}", self.name.as_deref().unwrap_or("the program"))
            .replace("{service}", &service.to_string())
            .replace("{listens}", &at)
            .replace("{bound}", &at)
    }
}
