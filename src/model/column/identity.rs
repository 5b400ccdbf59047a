//! Unit, container and pod as columns: of the holders, of the socket where it has none, and of a change.
//!
//! Input: a row or a change. Output: one part of what it belongs to. What a cgroup path means is in `model::cgroup`.

use super::{Change, Row, Value};
use crate::model::cgroup::{Identity, Runtime};

/// What the socket's own cgroup says when no process holds it: an orphan, or a connection waiting for `accept()`. Without one,
/// as TIME_WAIT is, it belongs to whoever alone uses its namespace.
fn of_socket<'a>(row: &Row<'a>, part: for<'i> fn(&'i Identity) -> Option<&'i str>) -> Value<'a> {
    let identity = row.names.unheld_identity(row.socket);
    identity.as_deref().and_then(part).map_or(Value::Absent, |name| Value::Text(name.to_owned().into()))
}

/// Unknown where it is not known to whom the change belongs.
fn of_change<'a>(change: &Change<'a>, part: for<'i> fn(&'i Identity) -> Option<&'i str>) -> Value<'a> {
    match change.identity {
        Some(identity) => part(identity).map_or(Value::Absent, |text| Value::Text(text.into())),
        None => Value::Unknown,
    }
}

/// One part of the identity of every holder, or of the socket if it has none; and of a change.
macro_rules! parts {
    ($($row:ident, $change:ident: $part:expr;)*) => {$(
        pub(super) fn $row<'a>(row: &Row<'a>) -> Value<'a> {
            if row.holders.is_empty() {
                return of_socket(row, $part);
            }
            Value::Each(row.holders, row.owners, |p, _| {
                let part: for<'i> fn(&'i Identity) -> Option<&'i str> = $part;
                part(&p.identity).map_or(Value::Absent, |text| Value::Text(text.into()))
            })
        }

        pub(super) fn $change<'a>(change: &Change<'a>) -> Value<'a> {
            of_change(change, $part)
        }
    )*};
}

parts! {
    unit, unit_of_change: |i| i.unit.as_deref();
    container, container_of_change: Identity::container_label;
    container_id, container_id_of_change: |i| i.container.as_deref();
    runtime, runtime_of_change: |i| i.runtime.and_then(Runtime::key);
    pod, pod_of_change: Identity::pod_label;
    pod_uid, pod_uid_of_change: |i| i.pod.as_deref();
}
