//! Rows of the sample before that have left a condition since, with the processes that held them.
//!
//! Input: two samples. Output: one [`Departed`] per row. Not here: where it went; a process that ended took its rows along.

use rustc_hash::FxHashSet;

use crate::diagnose::family::Culprit;
use crate::diagnose::view::View;
use crate::model::{NetnsId, Socket};

/// A row that was in the condition before and is so no more.
pub struct Departed<'a> {
    pub socket: &'a Socket,
    /// The processes that held it, and what they ran.
    holders: Vec<(u32, &'a str)>,
}

impl Departed<'_> {
    /// Whether one of these held it.
    #[must_use]
    pub fn was_of(&self, culprit: &Culprit) -> bool {
        match culprit {
            Culprit::Process(pid) => self.holders.iter().any(|(holder, _)| holder == pid),
            Culprit::Family(kin) => self.ran(&kin.program),
            Culprit::User(_) => true,
        }
    }

    /// Whether one that ran this program held it.
    #[must_use]
    pub fn ran(&self, program: &str) -> bool {
        self.holders.iter().any(|(_, held)| *held == program)
    }
}

/// All that left a condition, which no connection at rest meets.
#[must_use]
pub fn departed<'a>(view: &View<'a>, meets: impl Fn(&Socket) -> bool) -> Vec<Departed<'a>> {
    let Some(before) = view.before else { return Vec::new() };
    let still: FxHashSet<(Option<NetnsId>, Option<u64>)> =
        view.active().filter(|s| meets(s)).map(|s| (s.netns, s.cookie)).collect();
    let left = before.sockets.iter().filter(|s| meets(s) && !still.contains(&(s.netns, s.cookie)));
    left.map(|socket| {
        let holders = before.owners.of(socket).1.iter().map(|h| before.owners.process(h));
        Departed { socket, holders: holders.map(|p| (p.pid, before.program(p))).collect() }
    })
    .collect()
}
