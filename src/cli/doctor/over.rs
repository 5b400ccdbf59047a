//! The doctor over a part of a recording: what was found when, how often, and at its worst.
//!
//! Input: the snapshots of a [`Stretch`]. Output: a course, and one diagnosis. Not here: how it is printed.

use super::DoctorArgs;
use crate::cli::args::Common;
use crate::cli::session::Session;
use crate::cli::stretch::Stretch;
use crate::collect::replay::keep_namespaces;
use crate::diagnose::{Diagnosis, Thresholds};
use crate::model::Snapshot;
use crate::watch::{Course, Looks};

/// What was found over a stretch.
pub(super) struct Over {
    pub session: Session,
    pub course: Course,
    pub diagnosis: Diagnosis,
    /// The last snapshot.
    pub last: Snapshot,
}

/// Runs the rules over the stretch.
pub(super) fn examine(
    mut stretch: Stretch,
    args: &DoctorArgs,
    wanted: Option<&[&str]>,
    thresholds: &Thresholds,
) -> anyhow::Result<Over> {
    let common = Common { replay: stretch.replay.clone(), ..args.common.clone() };
    let every = stretch.pace(args.interval);
    let mut before = match stretch.before() {
        Some(recorded) => {
            let mut snapshot = recorded.snapshot;
            drop(keep_namespaces(&mut snapshot, &common.origin.netns));
            Some(snapshot)
        }
        None => None,
    };
    let (mut looks, mut session) = (Looks::default(), None);
    while let Some(recorded) = stretch.next(every)? {
        let mut opened: Session = match session.take() {
            // It says which namespaces there are.
            None => Session::replay(recorded.clone(), &common)?,
            Some(opened) => opened,
        };
        opened.turn_to(recorded, &common);
        let mut now = opened.live.snapshot(true)?;
        let diagnosis = opened.examine(&mut now, before.as_ref(), wanted, thresholds);
        looks.add(super::of_members(diagnosis, &common.origin, &now), now.taken_at_ms);
        before = Some(now);
        session = Some(opened);
    }
    let (Some(mut session), Some(last)) = (session, before) else {
        anyhow::bail!("{}: no snapshot of this stretch can be read", stretch.name());
    };
    session.notes.extend(stretch.note());
    let (mut course, diagnosis) = looks.finish();
    course.snapshots = stretch.steps().len() as u64;
    Ok(Over { session, course, diagnosis, last })
}
