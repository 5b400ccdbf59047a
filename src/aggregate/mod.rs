//! From sockets to numbers: which socket plays which role, how many of what, and how many owners are known.
//!
//! Input: sockets, one at a time, and an owner table. Output: counts per state, family and group. Memory grows with
//! the number of distinct groups, never with the number of sockets.

pub(crate) mod accept_queue;
pub(crate) mod attribution;
pub(crate) mod census;
pub(crate) mod change;
pub(crate) mod counts;
pub(crate) mod difference;
pub(crate) mod endings;
pub(crate) mod flows;
pub(crate) mod groups;
pub(crate) mod joined;
mod key;
pub(crate) mod lives;
pub(crate) mod local_ports;
pub(crate) mod matrix;
pub(crate) mod outcomes;
pub(crate) mod owner;
pub(crate) mod ownership;
mod prefix;
pub(crate) mod resources;
pub(crate) mod roles;
pub(crate) mod service;
pub(crate) mod short_lived;
pub(crate) mod state_counts;
pub(crate) mod sums;
pub(crate) mod traced;
pub(crate) mod tracker;

pub use accept_queue::AcceptQueue;
pub use census::Census;
pub use change::{Change, Look};
pub use flows::{Accounts, Flow, Ledger, Reading};
pub use groups::{By, Direction, Group, Grouping, KeyValue, Legend, Rest, Wanted};
pub use key::Key;
pub use local_ports::{LocalPorts, PortRules, PortUse, Taken};
pub use prefix::Prefix;
pub use resources::{HostResources, Limits, Resources};
pub use roles::{Listeners, Role};
pub use state_counts::Counts;
pub use sums::{Amount, Sum, Sums};
pub use traced::{Traced, TracedSums};
pub use tracker::{Dwell, Matrix, StateChange, Tick, Tracker};
