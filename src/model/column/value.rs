//! What a column returns for a row, and of which kind: alignment, unit and the operators of the filter language
//! follow from the kind. Formatting is in `render`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use crate::model::addr::Endpoint;
use crate::model::owner::{Holder, OwnerStatus, OwnerTable, Process};
use crate::model::socket::AgeBracket;
use crate::model::state::State;
use crate::model::transition::Actor;

/// What a column returns for one row.
#[derive(Clone)]
pub enum Value<'a> {
    /// The source does not report it: printed as `?`, `null` in JSON, sorted last.
    Unknown,
    /// This row has no such thing (no timer runs): printed as `-`, `null` in JSON.
    Absent,
    /// A rate without a limit: above every number, `null` in JSON.
    Unlimited,
    Number(u64),
    /// A number with its name on this host, if one was found.
    Named(u64, Option<Rc<str>>),
    Flag(bool),
    Text(Cow<'a, str>),
    State(State),
    Addr(IpAddr),
    Endpoint(Endpoint, Option<Rc<str>>),
    Age(AgeBracket),
    /// One value per holder of the socket.
    Each(&'a [Holder], &'a OwnerTable, fn(&'a Process, u32) -> Value<'a>),
    /// The task that held the socket during a change.
    Actor(&'a Actor),
    /// Every holder as `comm(pid,fd=N)`, or why there is none.
    Holders(&'a [Holder], &'a OwnerTable, OwnerStatus),
}

impl<'a> Value<'a> {
    pub(super) fn number<N: Into<u64>>(value: Option<N>) -> Value<'a> {
        value.map_or(Value::Unknown, |v| Value::Number(v.into()))
    }

    pub(super) fn flag(value: Option<bool>) -> Value<'a> {
        value.map_or(Value::Unknown, Value::Flag)
    }
}

/// The type of a value: decides alignment, unit and filter operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    State,
    Endpoint,
    Address,
    Port,
    Count,
    Bytes,
    Millis,
    Micros,
    BytesPerSecond,
    Flag,
    /// A number that identifies and does not count: pid, uid, inode.
    Number,
    /// A 64-bit id, printed as hex.
    Id,
    Age,
}

impl Kind {
    /// Whether tables right-align it.
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        !matches!(self, Kind::Text | Kind::State | Kind::Endpoint | Kind::Address | Kind::Flag)
    }

    /// The word for the kind in `--list-columns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::State => "state",
            Kind::Endpoint => "endpoint",
            Kind::Address => "address",
            Kind::Port => "port",
            Kind::Count => "count",
            Kind::Bytes => "bytes",
            Kind::Millis => "ms",
            Kind::Micros => "us",
            Kind::BytesPerSecond => "bytes/s",
            Kind::Flag => "flag",
            Kind::Number => "number",
            Kind::Id => "id",
            Kind::Age => "age",
        }
    }
}
