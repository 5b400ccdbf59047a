//! From sockets to numbers: which socket plays which role, how many of what, and how many owners are known.
//!
//! Input: sockets, one at a time, and an owner table. Output: counts per state, family and group. Memory grows with
//! the number of distinct groups, never with the number of sockets.

pub mod attribution;
pub mod census;
pub mod counts;
pub mod flows;
pub mod groups;
pub mod lives;
pub mod matrix;
pub mod owner;
pub mod ownership;
pub mod roles;
pub mod state_counts;
pub mod traced;
pub mod tracker;

pub use census::Census;
pub use flows::{Accounts, Flow, Ledger, Reading};
pub use groups::{Group, Grouping, Key, KeyValue};
pub use roles::{Listeners, Role};
pub use state_counts::Counts;
pub use traced::{Traced, TracedSums};
pub use tracker::{Dwell, Matrix, Tick, Tracker, Transition};
