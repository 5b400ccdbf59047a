//! The full screen of `watch`.
//!
//! Comes in: keys, sizes and frames. Goes out: cells of a buffer, and commands for whoever samples. Never here: a
//! terminal, a clock, a thread.
