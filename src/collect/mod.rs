//! The only folder that queries the kernel or reads files.
//!
//! Input: a [`Query`] (states, families, attributes). Output: sockets pushed into a sink, owners, and a
//! [`Gap`](crate::model::Gap) for everything that could not be seen.
//!
//! `live` is the source, `query` a question, `dump` runs it, `scan` yields the rows with their owners;
//! `netns_source` and `probe` are a namespace and what one visit to it reads.
#![allow(clippy::disallowed_methods, reason = "this is the folder that may do I/O")]

pub mod bpf;
pub mod changes;
pub mod clock;
pub mod containers;
mod dump;
pub mod error;
pub mod kernel_users;
mod live;
pub mod names;
pub mod netlink;
pub mod netns;
mod netns_source;
pub mod numbers;
pub mod owners;
pub mod plan;
pub mod poll;
mod probe;
pub mod proc;
mod query;
pub mod scan;
pub mod snapshot;
pub mod timewait;
pub mod tracefs;

pub use error::Error;
pub use live::{Host, Live, SourceChoice};
pub use owners::{Finder, OwnerRoute, OwnersVia, Route};
pub use query::{Ahead, Families, Query, Sink};
