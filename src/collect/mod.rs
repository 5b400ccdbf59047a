//! The only folder that asks the kernel, or a file.
//!
//! Comes in: what a command needs. Goes out: facts, and gaps where a fact could not be had. Never here: judging.

pub mod bpf;
