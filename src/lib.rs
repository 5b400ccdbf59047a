//! What are my TCP connections doing, which of them are in trouble, whose fault is it, and what do I do about it?
pub mod collect;
pub mod model;
