//! One query: what to request from the kernel, and how to receive it.
//!
//! Input: states, families, attributes, bytecode. Output: requests for one walk over a table.

use std::ops::ControlFlow;

use crate::collect::netlink::request::Walk;
use crate::collect::netlink::{Attributes, Request};
use crate::cores;
use crate::model::{Family, Socket, State, StateSet};

/// Sockets of a namespace, or open files of the host, above which threads save more than they cost.
pub(super) const LARGE_TABLE: u64 = cores::LARGE as u64;

/// Which families to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Families {
    #[default]
    Both,
    Only(Family),
}

impl Families {
    #[must_use]
    pub fn contains(self, family: Family) -> bool {
        match self {
            Families::Both => true,
            Families::Only(only) => only == family,
        }
    }
}

/// One query for sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub states: StateSet,
    pub families: Families,
    pub attributes: Attributes,
    /// Filter bytecode for the kernel; the sink must check again what has to be exact.
    pub bytecode: Vec<u8>,
    /// What the sink does meanwhile, which decides whether a receiving thread pays.
    pub ahead: Ahead,
}

/// How far receiving may run ahead of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ahead {
    /// Not at all: the answer should be short.
    #[default]
    No,
    /// The sink takes its time with every row (it counts or formats them).
    Rows,
    /// The sink waits for something before it takes the first row.
    Start,
}

impl Query {
    #[must_use]
    pub fn states(states: StateSet) -> Query {
        Query { states, families: Families::Both, attributes: Attributes::NONE, bytecode: Vec::new(), ahead: Ahead::No }
    }

    /// Splits BOUND_INACTIVE into a second, parallel dump: one dump walks the bind hash, then the established hash;
    /// two walk both at once. Returns (rest, bound).
    pub(super) fn beside(&self) -> Option<(StateSet, StateSet)> {
        let bound = StateSet::of(&[State::BoundInactive]);
        let rest = self.states.intersection(bound.complement());
        let walked = !rest.intersection(StateSet::LISTEN.complement()).is_empty();
        (walked && self.states.contains(State::BoundInactive)).then_some((rest, bound))
    }

    pub(super) fn request(&self, walk: Walk, states: StateSet) -> Request {
        Request { walk, states, attributes: self.attributes, bytecode: self.bytecode.clone() }
    }
}

/// The receiver of the sockets.
pub type Sink<'a> = &'a mut dyn FnMut(&Socket) -> ControlFlow<()>;
