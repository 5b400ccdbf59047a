//! Who has the port of a service that nobody serves: a listener of another address, or a socket that was never told to listen.
//!
//! Input: a view, the namespace of the service, and its address. Output: the socket with words for it, and a step. Not here:
//! connections that are refused (the rules).

use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

/// What to do when a listener has the port on other addresses alone.
pub const LISTEN_THERE_TOO: &str =
    "Let {holder} listen on {service} too, through its bind address: now it listens on {listens} alone";
/// What to do when the port is bound and nobody listens.
pub const CALL_LISTEN: &str =
    "Let {holder} call listen(), or end it: it has bound {bound}, so no other program can listen there";

/// The socket that has the port.
pub struct PortHolder<'a> {
    socket: &'a Socket,
    name: String,
}

impl<'a> PortHolder<'a> {
    /// Who has the port in a namespace, while nothing listens at this address: a listener rather than a socket that is only
    /// bound.
    #[must_use]
    pub fn of(view: &View<'a>, netns: Option<NetnsId>, service: Endpoint) -> Option<PortHolder<'a>> {
        let of = |state: State| {
            let is_it = move |s: &&Socket| s.state == state && s.netns == netns && s.local.port == service.port;
            view.now.sockets.iter().find(is_it)
        };
        let socket = of(State::Listen).or_else(|| of(State::BoundInactive))?;
        let name = view.holding(socket).next().map_or_else(|| "the program".to_owned(), text::name);
        Some(PortHolder { socket, name })
    }

    /// `; redis-server (812) listens on 127.0.0.1:6379 alone`.
    #[must_use]
    pub fn words(&self) -> String {
        let (name, at) = (&self.name, self.socket.local);
        let who = if name == "the program" { "a program" } else { name };
        match self.socket.state {
            State::Listen => format!("; {who} listens on {at} alone"),
            _ => format!("; {who} has bound {at} and does not listen"),
        }
    }

    /// What makes it serve the address.
    #[must_use]
    pub fn step(&self, service: Endpoint) -> String {
        let at = self.socket.local.to_string();
        let text = if self.socket.state == State::Listen { LISTEN_THERE_TOO } else { CALL_LISTEN };
        text.replace("{holder}", &self.name)
            .replace("{service}", &service.to_string())
            .replace("{listens}", &at)
            .replace("{bound}", &at)
    }
}
