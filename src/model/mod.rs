//! What a TCP connection is: the vocabulary that every other folder speaks.
//!
//! Comes in: nothing; these are plain values that `collect` fills. Goes out: the types below.
//! Never here: I/O, a clock, serde, an environment variable. A type in this folder can be built in a test
//! with a literal.

pub mod addr;
pub mod cgroup;
pub mod column;
pub mod counter;
mod coverage;
pub mod gap;
pub mod id;
pub mod kernel_user;
mod named;
pub mod owner;
pub mod snapshot;
pub mod socket;
pub mod source;
pub mod state;
pub mod sysctl;
pub mod tcp_info;
pub mod transition;

pub use addr::{Endpoint, Family, FourTuple};
pub use coverage::Coverage;
pub use gap::Gap;
pub use id::{Inode, NetnsId};
pub use owner::{Holder, OwnerStatus, OwnerTable, Process, Unlisted};
pub use snapshot::Snapshot;
pub use socket::{RowKind, SkMem, Socket, Timer, TimerKind};
pub use source::Source;
pub use state::{State, StateSet};
pub use tcp_info::{Info, TcpInfo};
