//! TCP connections of a Linux host: which states they are in, which processes hold them, and which are in trouble.
//!
//! The binary `tcpstate` is built on this library. A program that uses it opens the host once ([`Live::here`]) and then
//!
//! | wants | calls | gets |
//! | --- | --- | --- |
//! | rows, as they arrive | [`Live::scan`] | each [`Socket`] once, with its processes ([`Row`]) |
//! | everything of one moment | [`Live::snapshot`] | a [`Snapshot`]: sockets, owners, counters, sysctls |
//! | what is wrong | [`Live::diagnose`] | a [`Diagnosis`]: [`Finding`]s of the [rules](diagnose::RULES) |
//! | every change of state | [`changes::begin_first`] | a [`changes::Source`] of [`Transition`]s |
//!
//! ```no_run
//! use tcpstate::{Live, Needs, filter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stuck = filter::parse("state close-wait and recv-q > 0", &filter::NoResolver)?;
//! let scanned = Live::here()?.scan(&stuck, Needs::OWNERS)?.for_each(|row| {
//!     let process = row.first_process().map_or(row.status.words(), |process| &process.comm);
//!     println!("{} {} {} bytes unread, {process}", row.socket.local, row.socket.peer, row.socket.recv_q_bytes);
//! })?;
//! for gap in &scanned.gaps {
//!     eprintln!("note: {gap}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has whole programs: `count_states`, `close_wait_leaks` and `follow_changes`.
//!
//! # What a value means
//!
//! * Unknown is not zero: what the kernel did not report is `None`, and what an answer as a whole lacks is a [`Gap`] with
//!   its reason and its way out. A [`Gap`] is printed with `{}`; code decides by its fields.
//! * Units are in the names: `_bytes`, `_ms`, `_us`, `_ns`. Confidences are 0 to 1, percentages 0 to 100.
//! * Numbers are the kernel's, as `sock_diag(7)`, `/proc/net` and `/proc/PID` report them; what is derived says so.
//! * Names of processes, programs and interfaces are text that others chose: clean it before it goes to a terminal.
//!
//! # Rights
//!
//! Sockets of the own network namespace need none. Processes of other users need `CAP_SYS_PTRACE` and
//! `CAP_DAC_READ_SEARCH`, other namespaces `CAP_SYS_ADMIN`, marks `CAP_NET_ADMIN`, and a trace by BPF `CAP_BPF` and
//! `CAP_PERFMON`. Without one the answer is smaller and has a [`Gap`] that names it; nothing is changed on the host.
//!
//! # Features and stability
//!
//! Linux only, no cargo features, no async runtime but for `export` of the binary: calls block, and none may be made from two
//! threads at once on one [`Live`]. Enums and structs that will grow are `#[non_exhaustive]`. What the documentation does not show
//! is for the binary, the tests and the benchmarks of this package, and may change in any release.
//!
//! # Inside
//!
//! The folders are the stages of one pipeline over one vocabulary:
//!
//! ```text
//!   kernel ──> collect ──> aggregate ──> diagnose ──> watch ──> render ──> terminal, script, monitoring
//!                 │            │            │           │          │
//!                 └────────────┴─── model ──┴───────────┴──────────┘       cli: arguments, streams, exit codes
//! ```
//!
//! Start reading at [`model::socket`] (what a row is), then `collect` (where it comes from).

mod api;
pub mod diagnose;
pub mod filter;
pub mod model;

pub(crate) mod cores;
pub(crate) mod watch;

// No API: public for the binary (`cli`), tests/ and benches/ of this package alone.
#[doc(hidden)]
pub mod aggregate;
#[doc(hidden)]
pub mod capture;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod collect;
#[doc(hidden)]
pub mod render;
#[doc(hidden)]
pub mod text;

#[doc(inline)]
pub use collect::scan::{Scan, Scanned};
#[doc(inline)]
pub use collect::{Error, Live, OwnersVia, SourceChoice, changes, netns::Wanted, proc::ProcRoot};
#[doc(inline)]
pub use diagnose::{Diagnosis, Evidence, Finding, Severity, Thresholds};
#[doc(inline)]
pub use model::column::{Names, Needs, NoNames, Row};
#[doc(inline)]
pub use model::transition::Transition;
#[doc(inline)]
pub use model::{
    Endpoint, Family, Gap, Inode, NetnsId, OwnerStatus, OwnerTable, Process, Snapshot, Socket, Source, State, StateSet,
    TcpInfo,
};
