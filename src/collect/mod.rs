//! The only folder that queries the kernel or reads files.
//!
//! Input: a [`Query`] (states, families, attributes). Output: sockets pushed into a sink, owners, and a
//! [`Gap`](crate::model::Gap) for everything that could not be seen.
//!
//! `live` is the source, `query` a question, `dump` runs it, `scan` yields the rows with their owners;
//! `netns_source` and `probe` are a namespace and what one visit to it reads.
#![allow(clippy::disallowed_methods, reason = "this is the folder that may do I/O")]

pub(crate) mod bindable;
pub mod bpf;
pub(crate) mod change_source;
pub mod changes;
pub(crate) mod clock;
pub(crate) mod confine;
pub(crate) mod containers;
pub mod destroy;
pub(crate) mod drops;
mod dump;
pub(crate) mod error;
mod interfaces;
pub(crate) mod kernel_users;
mod late_data;
mod live;
pub(crate) mod machine;
pub(crate) mod members;
mod monitors;
pub(crate) mod names;
pub mod netlink;
pub mod netns;
mod netns_follow;
mod netns_owners;
mod netns_source;
mod netns_words;
pub(crate) mod numbers;
pub mod owners;
pub(crate) mod plan;
pub(crate) mod poll;
mod probe;
pub mod proc;
mod query;
pub(crate) mod replay;
pub(crate) mod rights;
pub mod scan;
pub(crate) mod snapshot;
pub(crate) mod timewait;
pub(crate) mod trace_thread;
pub(crate) mod tracefs;
mod windows;

pub use error::Error;
pub use live::{Host, Live, SourceChoice};
pub use owners::{Finder, OwnerRoute, OwnersVia, Route};
pub use query::{Ahead, Families, Query, Sink};
