//! The listeners with their queues: roles follow from them, and what they dropped costs no walk over a table.
//!
//! Input: an open source, and what one visit to each namespace read. Output: [`Listeners`].

use std::ops::ControlFlow;

use crate::aggregate::Listeners;
use crate::collect::netlink::Attributes;
use crate::collect::numbers::Numbers;
use crate::collect::{Error, Live, Query};
use crate::model::StateSet;
use crate::model::snapshot::Netns;

/// What is asked for.
#[must_use]
pub fn listener_query() -> Query {
    Query { attributes: Attributes::SKMEM, ..Query::states(StateSet::LISTEN) }
}

/// The listeners of the namespaces in view.
///
/// # Errors
/// When they cannot be read.
pub fn listeners(live: &mut Live, visits: &[Netns]) -> Result<Listeners, Error> {
    let mut listeners = Listeners::within(visits);
    // A list that changes while it is read may show a row twice.
    let mut seen = Numbers::default();
    // What this pass cannot see, the pass over all sockets reports too.
    live.sockets(&listener_query(), &mut Vec::new(), &mut |socket| {
        if seen.is_new(socket.cookie) {
            listeners.add(socket);
        }
        ControlFlow::Continue(())
    })?;
    Ok(listeners)
}
