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
/// Programs of every system that use no descriptor above these but those that they open themselves.
const BYSTANDERS: [&str; 8] = ["cat", "cp", "dd", "grep", "sleep", "tail", "tee", "timeout"];
/// `/proc` tells the start of a process in hundredths of a second.
const START_KNOWN_TO_MS: u64 = 10;

/// Who should not hold a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The process that merely has the descriptor.
    pub helper: u32,
    /// The process whose connection it is: the listener's owner, the other holder, or the parent of one that never used it.
    pub owner: u32,
    /// Nobody else holds it: the owner has closed it.
    pub alone: bool,
}

/// Looks at many sockets, and once at what each process uses.
pub struct FdInheritance<'v, 'a> {
    view: &'v View<'a>,
    uses: RefCell<FxHashMap<u32, Option<Uses<'a>>>>,
    /// The parent of a process that runs another program than that one.
    parents: RefCell<FxHashMap<u32, Option<u32>>>,
}

/// Who began sooner may not have executed its program yet (policy).
const JUST_STARTED_MS: u64 = 2000;

impl<'v, 'a> FdInheritance<'v, 'a> {
    #[must_use]
    pub fn new(view: &'v View<'a>) -> FdInheritance<'v, 'a> {
        FdInheritance { view, uses: RefCell::default(), parents: RefCell::default() }
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
        // The usual case, decided without another look-up: one holder, who listens.
        if !several && owners.contains(&first_pid) {
            return None;
        }
        let left = if owners.is_empty() { self.left_by_parent(socket, role) } else { None };
        if left.is_some() || (!several && owners.is_empty()) {
            return left;
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
        let helper = self.strangers(socket, owner.pid).min_by_key(|p| p.pid)?.pid;
        let alone = !holders.iter().any(|h| {
            let process = self.view.now.owners.process(h);
            process.pid == owner.pid || self.view.is_same_program(owner, process)
        });
        // On its standard streams, it was started to serve the connection. What reads the connection, or waits for it, is its
        // handler, whatever its name; and who started that one, and waits for it, may have the descriptor too.
        let mut strangers = self.strangers(socket, owner.pid);
        if strangers.any(|p| self.is_standard_stream(p, socket) || self.uses(p.pid, socket) == Some(true)) {
            return None;
        }
        Some(Inherited { helper, owner: owner.pid, alone })
    }

    /// Those that hold a socket and should not, if it is the owner's. What an activator starts is meant to have the connection.
    /// All who run the same program share the connection by design: prefork, a fork per connection, privilege separation.
    pub fn strangers(&self, socket: &Socket, owner: u32) -> impl Iterator<Item = &'a Process> {
        let (view, owned) = (self.view, self.view.named(owner));
        let is_kin = move |p: &Process| owned.is_some_and(|owner| view.is_same_program(owner, p));
        // A child has all descriptors until it executes its program, and a look may fall between.
        let is_new =
            |p: &Process| view.process(p.pid).and_then(|f| f.running_ms).is_some_and(|ms| ms < JUST_STARTED_MS);
        view.holding(socket).filter(move |p| p.pid != owner && !is_activator(p) && !is_kin(p) && !is_new(p))
    }

    /// Whether a process cannot use what it inherited beside its standard streams, by the file that it executes.
    #[must_use]
    pub fn is_bystander(&self, process: &Process) -> bool {
        self.view.process(process.pid).and_then(|f| f.program()).is_some_and(|exe| BYSTANDERS.contains(&exe))
    }

    fn is_standard_stream(&self, process: &Process, socket: &Socket) -> bool {
        let (_, holders) = self.view.owners(socket);
        holders.iter().any(|h| h.fd <= STDERR && self.view.now.owners.process(h).pid == process.pid)
    }

    /// A connection that was made from here, and on which nothing has moved since its holders began: they have it from their
    /// parent, who runs another program and has closed it.
    fn left_by_parent(&self, socket: &Socket, role: Role) -> Option<Inherited> {
        if role != Role::Client || !socket.state.has_peer() {
            return None;
        }
        let top = match self.view.owners(socket).1 {
            [one] => self.view.now.owners.process(one),
            _ => self.principal(socket, role)?,
        };
        let owner = self.parent_of_another_program(top)?;
        let info = socket.info.as_deref()?;
        let idle_ms = u64::from(info.last_data_sent_ms()?.min(info.last_data_recv_ms()?));
        let is_older = |p: &Process| {
            let running_ms = self.view.process(p.pid).and_then(|f| f.running_ms);
            // Another program may have connected as soon as it began; a bystander connects never.
            let (idle_ms, since) =
                if self.is_bystander(p) { (idle_ms + START_KNOWN_TO_MS, 0) } else { (idle_ms, START_KNOWN_TO_MS) };
            running_ms.is_some_and(|ms| idle_ms >= ms + since)
        };
        let all = self
            .view
            .holding(socket)
            .all(|p| is_older(p) && !self.is_standard_stream(p, socket) && self.uses(p.pid, socket) != Some(true));
        all.then_some(Inherited { helper: top.pid, owner, alone: true })
    }

    /// The parent of a process, where it provably runs another program and is no activator.
    fn parent_of_another_program(&self, process: &Process) -> Option<u32> {
        *self.parents.borrow_mut().entry(process.pid).or_insert_with(|| {
            let parent = self.view.process(process.pid)?.parent.filter(|pid| *pid > 1)?;
            // One without a socket is not known by name; what a bystander has, it did not open.
            let is_another = match self.view.named(parent) {
                Some(named) => !is_activator(named) && !self.view.is_same_program(named, process),
                None => self.is_bystander(process),
            };
            is_another.then_some(parent)
        })
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
