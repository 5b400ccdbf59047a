//! Which of the processes that hold a socket it belongs to, and which merely inherited its descriptor.
//!
//! Comes in: a view. Goes out: for one socket its principal holder, and the helper that should not have it. Never here:
//! severity, or how long the socket has been in trouble.

use std::cell::RefCell;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::listener_owner::is_activator;
use crate::diagnose::view::View;
use crate::diagnose::wait_state::Uses;
use crate::model::{Process, Socket};

/// Programs that give a connection to another program of theirs on purpose (privilege separation).
const SEPARATED: [&str; 2] = ["sshd", "dropbear"];
/// Standard input, output and error: a program that is started on a connection (inetd style) has it as these.
const STDERR: u32 = 2;

/// Who should not hold a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The process that merely has the descriptor.
    pub helper: u32,
    /// The process whose connection it is: the listener's owner, or the other holder.
    pub owner: u32,
    /// Nobody else holds it: the owner has closed it.
    pub alone: bool,
}

/// Looks at many sockets, and once at what each process uses.
pub struct FdInheritance<'v, 'a> {
    view: &'v View<'a>,
    uses: RefCell<FxHashMap<u32, Option<Uses<'a>>>>,
}

impl<'v, 'a> FdInheritance<'v, 'a> {
    #[must_use]
    pub fn new(view: &'v View<'a>) -> FdInheritance<'v, 'a> {
        FdInheritance { view, uses: RefCell::default() }
    }

    /// The processes that hold the listener of a connection; empty for an outgoing one, or when nobody is known.
    #[must_use]
    pub fn listener_owners(&self, socket: &Socket, role: Role) -> &[u32] {
        let Role::Server(index) = role else { return &[] };
        self.view.listener_holders(socket.netns, index)
    }

    /// The holder to whom a socket belongs: one that also holds the listener, else the one that is not a child of
    /// another holder, else the oldest number.
    #[must_use]
    pub fn principal(&self, socket: &Socket, role: Role) -> Option<&'a Process> {
        let holders = self.view.processes(socket);
        let owners = self.listener_owners(socket, role);
        let is_child = |p: &Process| {
            let parent = self.view.process(p.pid).and_then(|f| f.parent);
            parent.is_some_and(|parent| parent != p.pid && holders.iter().any(|h| h.pid == parent))
        };
        holders.iter().copied().min_by_key(|p| (is_activator(p), !owners.contains(&p.pid), is_child(p), p.pid))
    }

    /// Whether some process merely inherited this socket.
    #[must_use]
    pub fn inherited(&self, socket: &Socket, role: Role) -> Option<Inherited> {
        let holders = self.view.owners(socket).1;
        let first = holders.first()?;
        let owners = self.listener_owners(socket, role);
        let several = holders.iter().any(|h| h.process != first.process);
        let first_pid = self.view.now.owners.process(first).pid;
        // The usual case, decided without another look-up: one holder, who listens or connected.
        if !several && (owners.is_empty() || owners.contains(&first_pid)) {
            return None;
        }
        let principal = self.principal(socket, role)?;
        let owner = if owners.is_empty() || owners.contains(&principal.pid) {
            principal
        } else {
            owners.iter().filter_map(|pid| self.view.named(*pid)).min_by_key(|p| is_activator(p))?
        };
        if is_activator(owner) || SEPARATED.iter().any(|name| owner.comm.starts_with(name)) {
            return None;
        }
        // What an activator starts is meant to have the connection. All who run the same program share the connection
        // by design: prefork, a fork per connection, privilege separation.
        let strangers = holders.iter().filter(|h| {
            let process = self.view.now.owners.process(h);
            h.fd > STDERR
                && process.pid != owner.pid
                && !is_activator(process)
                && !self.view.is_same_program(owner, process)
        });
        let helper = strangers.map(|h| self.view.now.owners.process(h).pid).min()?;
        let alone = !holders.iter().any(|h| {
            let process = self.view.now.owners.process(h);
            process.pid == owner.pid || self.view.is_same_program(owner, process)
        });
        // On its standard streams, it was started to serve the connection.
        if holders.iter().any(|h| h.fd <= STDERR && self.view.now.owners.process(h).pid == helper) {
            return None;
        }
        // What reads the connection, or waits for it, is its handler, whatever its name.
        if self.uses(helper, socket) == Some(true) {
            return None;
        }
        Some(Inherited { helper, owner: owner.pid, alone })
    }

    /// Whether the program that listens has the connection itself; also where nobody is known to listen.
    #[must_use]
    pub fn is_of_listener(&self, socket: &Socket, role: Role) -> bool {
        let owners = self.listener_owners(socket, role);
        let listens = |holder: &Process| {
            let same = |pid: &u32| self.view.named(*pid).is_some_and(|owner| self.view.is_same_program(owner, holder));
            owners.contains(&holder.pid) || owners.iter().any(same)
        };
        owners.is_empty() || self.view.holding(socket).any(listens)
    }

    /// Whether a process uses a socket, as far as it shows (see [`Uses::of`]).
    #[must_use]
    pub fn uses(&self, pid: u32, socket: &Socket) -> Option<bool> {
        let mut cache = self.uses.borrow_mut();
        let uses = match cache.entry(pid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(Uses::new(self.view, pid)),
        };
        uses.as_ref()?.of(socket)
    }
}
