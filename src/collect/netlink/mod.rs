//! `sock_diag` over netlink: the kernel's own table of TCP sockets.
//!
//! Input: a [`Request`] (states, families, attributes, filter bytecode). Output: every matching socket, pushed into
//! a sink, and a [`Report`] on whether the dump was complete. The planner decides what to request.

pub(crate) mod decode;
pub(crate) mod destroyed;
mod message;
pub(crate) mod qdisc;
pub mod request;
pub(crate) mod route;
pub(crate) mod stream;
pub(crate) mod tracking;

pub use request::{Attributes, Request};
pub(super) use stream::is_gone;
pub use stream::{Channel, Report};
