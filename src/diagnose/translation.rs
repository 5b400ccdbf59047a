//! Where connects that nobody answers go in truth: what tracking tables of this host have of them.
//!
//! Input: attempts, and the entries of tables once they were read. Output: the translation that sends them elsewhere, or what
//! excludes one. Not here: reading a table (`collect`), which is done only for attempts without an answer.

use crate::diagnose::callers;
use crate::diagnose::hypothesis::Cause;
use crate::diagnose::next_hop::Way;
use crate::diagnose::queues::Queue;
use crate::diagnose::view::View;
use crate::model::conntrack::{Connection, Tracked};
use crate::model::snapshot::Netns;
use crate::model::{Endpoint, FourTuple, NetnsId, Socket};

/// Somebody between the caller and the program gives the packets another destination.
pub const ELSEWHERE: Cause = Cause {
    id: "translated-elsewhere",
    text: "a translation (DNAT) sends them to an address where nobody answers",
    predicts: "their entry in a tracking table has another destination and no reply; a local address and port without a \
               listener do not refuse them",
    refuted_by: "at the host that has the address: no tracking, or no entry with another destination; a reply in the entry",
    decided_by: "`conntrack -L -p tcp --orig-dst` the address, and `nft list ruleset`, on the host that has it",
};

/// Attempts of one destination whose entries are read: they share it unless there are several backends.
const ASKED_EACH: usize = 4;
/// Entries that are asked for in one examination.
pub const ASKED: usize = 1024;

/// Another destination that a table gave them.
#[derive(Clone, Debug)]
pub struct Translation<'v> {
    /// The namespace whose table it is, where it is not the caller's.
    at: Option<String>,
    pub to: Endpoint,
    way: Way,
    /// Whether the namespace that has the destination was read.
    is_here: bool,
    /// Who listens there, where it can be read.
    pub queue: Option<&'v Queue<'v>>,
}

impl Translation<'_> {
    /// No host is there, or none that can be reached: the attempts have been repeated for longer than an address is resolved.
    #[must_use]
    pub fn leads_nowhere(&self) -> bool {
        self.way.is_unresolved()
    }

    /// The host of the destination was read, and nobody listens.
    #[must_use]
    pub fn is_to_nobody_here(&self) -> bool {
        self.is_here && self.queue.is_none()
    }

    /// By whom, to where, and the next hop on the way there.
    #[must_use]
    pub fn words(&self) -> String {
        let by = self.at.as_ref().map_or_else(String::new, |at| format!(" by network namespace {at}"));
        let way = self.way.words().map_or_else(String::new, |way| format!(" ({way})"));
        format!("{}{by}{way}", self.to)
    }
}

/// What the tables say.
#[derive(Clone, Debug, Default)]
pub struct Tables<'v> {
    /// The translation of most of them.
    pub translation: Option<Translation<'v>>,
    /// An answer came as far as a table of this host.
    pub is_answered: bool,
    /// What excludes that the host of the address translates them.
    pub excluded: Option<String>,
}

impl<'v> Tables<'v> {
    /// `home`: the namespace that has the destination, where that is known.
    #[must_use]
    pub fn of(
        view: &'v View<'_>,
        netns: Option<NetnsId>,
        to: Endpoint,
        rows: &[&Socket],
        home: Option<&Netns>,
    ) -> Tables<'v> {
        let mut found: Vec<(Option<NetnsId>, Tracked)> = Vec::new();
        let mut read_at_home = false;
        for connection in connections(view, rows) {
            let Some(entry) = view.tracked(connection) else { continue };
            read_at_home |= home.is_some_and(|h| h.inode == connection.0);
            found.extend(entry.map(|entry| (connection.0, entry)));
        }
        let elsewhere = |e: &&(Option<NetnsId>, Tracked)| e.1.sent_to != to && !e.1.is_answered;
        let count = |e: &(Option<NetnsId>, Tracked)| {
            found.iter().filter(|other| (other.0, other.1.sent_to) == (e.0, e.1.sent_to)).count()
        };
        let most = found.iter().filter(elsewhere).max_by_key(|e| (count(e), std::cmp::Reverse(e.1.sent_to)));
        let translation = most.map(|(at, entry)| {
            let to = entry.sent_to;
            let way = Way::of(view, *at, to.addr, &[]);
            // An address that does not resolve is not that of a namespace which happens to have it too.
            let there = callers::home(view, *at, to.addr).filter(|_| !way.is_unresolved());
            Translation {
                at: view.netns(*at).filter(|_| *at != netns).map(Netns::label),
                to,
                way,
                is_here: there.is_some(),
                queue: there.and_then(|n| callers::listening(view, n.inode, to)),
            }
        });
        let balances = |h: &Netns| h.virtual_services.contains(&to);
        let excluded = home.filter(|h| translation.is_none() && !balances(h)).and_then(|h| match entries(h) {
            0 => Some("nothing is tracked in the namespace that has the address".to_owned()),
            _ if read_at_home => {
                Some("the tracking table of the namespace that has the address sends them nowhere else".to_owned())
            }
            _ => None,
        });
        Tables { translation, is_answered: found.iter().any(|(_, e)| e.is_answered), excluded }
    }
}

/// How many connections a namespace tracks.
fn entries(netns: &Netns) -> u64 {
    netns.conntrack.and_then(|table| table.entries).unwrap_or(0)
}

/// The entries that are worth a question: of a few attempts, in every table that has any.
#[must_use]
pub fn connections(view: &View<'_>, rows: &[&Socket]) -> Vec<Connection> {
    let mut wanted = Vec::new();
    for socket in rows.iter().take(ASKED_EACH) {
        let tuple = FourTuple { ifindex: 0, ..socket.four_tuple() }.normalised();
        // Another caller with the same addresses has an entry of its own, and which is whose cannot be told.
        let is_alone = view.now.netns.iter().all(|n| n.inode == socket.netns || view.at(n.inode, tuple).is_none());
        let tables = view.now.netns.iter().filter(|n| entries(n) > 0 && (is_alone || n.inode == socket.netns));
        wanted.extend(tables.map(|n| (n.inode, tuple)));
    }
    wanted
}
