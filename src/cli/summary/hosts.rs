//! `summary` over the captures of several hosts: each is counted by itself, and then all together.
//!
//! Input: their sessions. Output: one census, whose groups name the host where their values are of one. Not here: rules, which judge
//! a host at a time, and what is limited on a host.

use super::{Job, Seen, fold_short_lived};
use crate::aggregate::{Census, Listeners};
use crate::cli::session::Session;
use crate::diagnose::Diagnosis;
use crate::model::Gap;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::sysctl::PORT_RANGE;
use crate::{text, watch};

/// Counts the rows of each.
pub(super) fn look(jobs: &[Job<'_>], sessions: &mut [Session]) -> anyhow::Result<Seen> {
    let mut all: Option<Census> = None;
    for (host, (job, session)) in (0..).zip(jobs.iter().zip(sessions)) {
        let mut groupings = job.groupings();
        for grouping in &mut groupings {
            grouping.host = host;
        }
        let search = job.search(session);
        let listeners = if groupings.is_empty() {
            Listeners::new(PORT_RANGE)
        } else {
            let visits = session.live.visits();
            watch::listeners(&mut session.live, &visits)?
        };
        let mut census = Census::new(listeners, groupings);
        job.scan(session, &mut census, job.needs, search)?;
        fold_short_lived(&mut census, session);
        if job.is_default() {
            session.tell_queue_gaps();
        }
        if job.is_judged() {
            session.gaps.push(Gap::new(Missing::Findings, Why::SeveralHosts, WayOut::RunDoctor));
        }
        match &mut all {
            Some(all) => all.merge(census),
            None => all = Some(census),
        }
    }
    let census = all.unwrap_or_else(|| Census::new(Listeners::new(PORT_RANGE), Vec::new()));
    Ok(Seen { census, resources: None, change: None, diagnosis: Diagnosis::default() })
}

/// How many there are.
pub(super) fn many(sessions: &[Session]) -> String {
    text::count(sessions.len() as u64, "host", "hosts")
}

/// When they were looked at: with dates where that is not the same moment.
pub(super) fn times(sessions: &[Session]) -> String {
    let mut times: Vec<u64> = sessions.iter().map(Session::taken_at_ms).collect();
    times.sort_unstable();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if first / 1000 != last / 1000 => {
            format!("{} to {} UTC", text::moment(*first), text::moment(*last))
        }
        _ => sessions.first().map(Session::clock).unwrap_or_default(),
    }
}
