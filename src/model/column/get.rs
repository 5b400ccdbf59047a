//! What several columns get from a row or a change.
//!
//! Input: a row or a change. Output: a part of it with its name on this host.

use std::rc::Rc;

use super::{Change, Names, Row, Value};
use crate::model::id::NetnsId;
use crate::model::transition::{Actor, By};

/// The interface that the local address is tied to, by name or index.
pub(super) fn scope(row: &Row<'_>) -> Option<Rc<str>> {
    match row.socket.ifindex {
        None | Some(0) => None,
        Some(index) => row.names.interface(row.socket.netns, index).or_else(|| Some(index.to_string().into())),
    }
}

/// A namespace by its number and name.
pub(super) fn netns<'a>(id: Option<NetnsId>, names: &dyn Names) -> Value<'a> {
    id.map_or(Value::Unknown, |id| Value::Named(id.get(), names.netns(id)))
}

/// The task that held the socket during a change.
pub(super) fn actor<'a>(change: &Change<'a>) -> Option<&'a Actor> {
    change.transition.by.as_ref().and_then(By::actor)
}
