//! `sock_diag` over netlink: the kernel's own table of TCP sockets.
//!
//! Comes in: a [`Request`] (states, families, attributes, filter bytecode). Goes out: every matching socket, pushed
//! into a sink, and a [`Report`] that says whether the dump was complete. Never here: which question to ask (the
//! planner's) and owners.

pub mod decode;
pub mod destroyed;
pub mod request;
pub mod stream;

pub use request::{Attributes, Request};
pub use stream::{Channel, Report};
