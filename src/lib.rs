//! What are my TCP connections doing, which of them are in trouble, whose fault is it, and what do I do about it?
//!
//! The folders are the stages of one pipeline over one vocabulary:
//!
//! ```text
//!   kernel ──> collect ──> aggregate ──> diagnose ──> watch ──> render ──> terminal, script, monitoring
//!                 │            │            │           │          │
//!                 └────────────┴─── model ──┴───────────┴──────────┘       cli: arguments, streams, exit codes
//! ```
//!
//! Start reading at [`model::socket`] (what a row is), then [`collect`] (where it comes from).

pub mod model;

pub mod cores;

pub mod text;

pub mod filter;

pub mod collect;

pub mod aggregate;

pub mod diagnose;

pub mod watch;

pub mod render;

pub mod cli;
