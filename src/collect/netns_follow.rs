//! Namespaces that come and go while a source is open: containers that start, restart and end.
//!
//! Input: an open source, and what was asked for. Output: the source with the namespaces of now, and one [`Gap`] for those
//! that came and one for those that ended, because nothing of them was seen before or will be after. Not here: how
//! namespaces are found (`netns`).
//!
//! Only what can mean another namespace later is looked for again: `all`, containers, pods and names. A look costs a walk over
//! the processes, so it is repeated only after twenty times as long, and at the latest after 5 s.
//!
//! Circle with `live`: a source has what it follows, and following changes its namespaces.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::collect::live::Live;
use crate::collect::members::members;
use crate::collect::netns::{self, NetnsHandle, Wanted};
use crate::collect::netns_source::NetnsSource;
use crate::collect::proc;
use crate::model::counter::Counters;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::{Gap, NetnsId};

/// The part of the time that looks may take, and the longest time between two on a host that is busy.
const SHARE: u32 = 20;
const LONGEST: Duration = Duration::from_secs(5);
/// As many are named in a gap.
const NAMED: usize = 5;

/// What was asked for, and what has come of it.
#[derive(Debug, Default)]
pub(super) struct Following {
    wanted: Vec<Wanted>,
    looked: Option<(Instant, Duration)>,
    /// Counters of namespaces that have ended, so that sums never fall.
    ended: Option<Counters>,
    /// What people call them, with the container.
    labels: FxHashMap<Option<NetnsId>, Label>,
    /// Those that came at the latest look and had no container yet.
    young: Vec<NetnsHandle>,
}

/// What people call a namespace.
#[derive(Clone, Debug)]
struct Label {
    text: String,
    of_container: bool,
}

impl Label {
    fn of(space: &NetnsHandle) -> Label {
        Label { text: space.label(), of_container: false }
    }
}

/// How many there are, and the first few of them; those of containers come first. `None` when there are none.
fn named(mut labels: Vec<Label>) -> Option<(u32, Vec<String>)> {
    let count = u32::try_from(labels.len()).ok().filter(|count| *count > 0)?;
    labels.sort_by_key(|label| !label.of_container);
    Some((count, labels.into_iter().take(NAMED).map(|label| label.text).collect()))
}

impl Following {
    pub(super) fn of(wanted: &[Wanted]) -> Following {
        let follows = !wanted.is_empty() && wanted.iter().all(Wanted::may_change);
        Following { wanted: if follows { wanted.to_vec() } else { Vec::new() }, ..Following::default() }
    }

    pub(super) fn ended(&self) -> Option<&Counters> {
        self.ended.as_ref()
    }
}

impl Live {
    /// Whether later looks may find other namespaces.
    #[must_use]
    pub fn follows_netns(&self) -> bool {
        !self.following.wanted.is_empty()
    }

    /// Looks for namespaces that came, and leaves those that ended: a gap for the ones and one for the others. Does nothing
    /// when the latest look is recent for its cost.
    pub fn look_again(&mut self) -> Vec<Gap> {
        let recent = |(at, cost): (Instant, Duration)| at.elapsed() < (cost * SHARE).min(LONGEST);
        if !self.follows_netns() || self.following.looked.is_some_and(recent) {
            return Vec::new();
        }
        let started = Instant::now();
        let first = self.following.looked.is_none();
        let held: Vec<NetnsHandle> = self.spaces().cloned().collect();
        if first {
            self.label(&held);
        }
        // A runtime may have moved its first process into the cgroup after the latest look.
        let young = std::mem::take(&mut self.following.young);
        self.label(&young);
        let own = held.iter().find(|s| s.is_own()).and_then(|s| s.inode);
        let found = netns::find_again(&self.following.wanted, &self.root, own, &self.containers(), &held);
        // Without a list of processes nothing is known to have changed.
        let Ok(now) = found else { return Vec::new() };
        let came: Vec<NetnsHandle> = now.iter().filter(|s| held.iter().all(|h| h.inode != s.inode)).cloned().collect();
        self.label(&came);
        let is_left = |space: &NetnsHandle| now.iter().all(|s| s.inode != space.inode);
        let mut ended = Vec::new();
        for space in held.iter().filter(|s| is_left(s)) {
            // Its last counts; what it still has of sockets ends with it.
            if let Ok(last) = space.inside(|| proc::counters::counters(&self.root)) {
                let sum = self.following.ended.take();
                self.following.ended = Some(sum.map_or_else(|| last.clone(), |sum| sum.plus(&last)));
            }
            ended.push(self.following.labels.remove(&space.inode).unwrap_or_else(|| Label::of(space)));
        }
        self.spaces.retain(|place| !is_left(&place.space));
        let labels = &self.following.labels;
        let label = |space: &NetnsHandle| labels.get(&space.inode).cloned().unwrap_or_else(|| Label::of(space));
        let new: Vec<Label> = came.iter().map(label).collect();
        self.following.young = came.iter().filter(|space| !label(space).of_container).cloned().collect();
        self.spaces.extend(came.into_iter().map(|space| NetnsSource::new(space, None)));
        self.following.looked = Some((Instant::now(), started.elapsed()));
        let ended = named(ended).map(|(count, names)| (Missing::NetnsAfter { count, names }, Why::NetnsEnded));
        let new = named(new).map(|(count, names)| (Missing::NetnsBefore { count, names }, Why::NetnsCame));
        [ended, new].into_iter().flatten().map(|(missing, why)| Gap::new(missing, why, WayOut::None)).collect()
    }

    /// Remembers what these are called, with the container while it runs.
    fn label(&mut self, spaces: &[NetnsHandle]) {
        if spaces.is_empty() {
            return;
        }
        let mut containers: FxHashMap<NetnsId, String> = FxHashMap::default();
        for member in members(&self.root, &self.containers()) {
            let link = self.root.path().join(format!("{}/ns/net", member.pid));
            if let (Ok(Some(inode)), Some(label)) = (netns::link_inode(&link), member.identity.container_label()) {
                containers.entry(inode).or_insert_with(|| label.to_owned());
            }
        }
        for space in spaces {
            let container = space.inode.and_then(|inode| containers.get(&inode));
            let label = match container {
                Some(container) if !space.is_own() => {
                    Label { text: format!("{} of container {container}", space.label()), of_container: true }
                }
                _ => Label::of(space),
            };
            self.following.labels.insert(space.inode, label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_a_few_names_however_many_there_are_and_containers_first() {
        let plain = |i: u32| Label { text: format!("net:[{i}]"), of_container: false };
        assert_eq!(named(Vec::new()), None);
        assert_eq!(named(vec![plain(1)]), Some((1, vec!["net:[1]".to_owned()])));
        let web = Label { text: "net:[99] of container web".into(), of_container: true };
        let (count, names) = named((0..300).map(plain).chain([web]).collect()).unwrap();
        assert_eq!(
            (count, names.len(), names[0].as_str(), names[1].as_str()),
            (301, NAMED, "net:[99] of container web", "net:[0]")
        );
    }
}
