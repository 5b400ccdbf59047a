//! What a TCP connection is: the vocabulary of every other folder.
//!
//! Plain values that `collect` fills; no I/O, clock, serde or environment. A test can build every type with a
//! literal.

pub(crate) mod addr;
pub(crate) mod binding;
pub mod capability;
pub mod cgroup;
#[doc(hidden)]
pub mod column;
pub mod conntrack;
pub mod counter;
mod coverage;
pub(crate) mod digits;
pub(crate) mod drops;
pub mod errno;
pub mod event;
pub(crate) mod exposure;
#[doc(hidden)]
pub mod fate;
pub mod gap;
pub(crate) mod id;
pub(crate) mod kernel_user;
mod named;
pub(crate) mod names;
pub mod owner;
pub mod path;
pub mod pattern;
pub mod resources;
pub mod rights;
pub mod row_list;
pub mod snapshot;
pub mod socket;
pub mod source;
pub mod state;
pub mod sysctl;
pub mod tcp_info;
pub mod traced;
pub mod transition;

pub use addr::{Endpoint, Family, FourTuple};
pub use coverage::Coverage;
pub use errno::{Errno, LastError};
pub use event::Event;
pub use gap::Gap;
pub use id::{Inode, NetnsId};
pub use owner::{Holder, OwnerStatus, OwnerTable, Process, Unlisted};
pub use snapshot::Snapshot;
pub use socket::{RowKind, SkMem, Socket, Timer, TimerKind};
pub use source::Source;
pub use state::{State, StateSet};
pub use tcp_info::{Info, TcpInfo};
