//! The planner: from what a command needs to the cheapest set of kernel requests.
//!
//! Input: states, families, needs, and the part of a filter that the kernel can run. Output: passes in the order in
//! which to run them, and the same as text.
//!
//! Measured on 100,000 sockets: a pass whose mask matches nothing still walks the whole table (12.6 ms), a mask of
//! LISTEN alone walks nothing (0.02 ms), `tcp_info` makes an answer four times as large and a dump a third slower.
//! So: as few passes as possible, and `tcp_info` only for states whose rows need it.

use std::fmt::Write;

use crate::collect::netlink::Attributes;
use crate::collect::owners::OwnerRoute;
use crate::collect::query::{Ahead, Families, Query};
use crate::model::column::Needs;
use crate::model::gap::Attribute;
use crate::model::{Source, State, StateSet};

/// The requests of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub passes: Vec<Pass>,
}

/// One dump, and why it is separate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub query: Query,
    pub why: &'static str,
}

impl Plan {
    /// The same in one pass, for a source that is always read whole.
    #[must_use]
    pub fn in_one_pass(self) -> Plan {
        let one = self.passes.into_iter().reduce(|mut all, pass| {
            all.query.states = all.query.states.union(pass.query.states);
            all.query.attributes = all.query.attributes.union(pass.query.attributes);
            Pass { why: "the source is read whole", ..all }
        });
        Plan { passes: one.into_iter().collect() }
    }
}

/// Computes the passes.
#[must_use]
pub fn plan(states: StateSet, families: Families, needs: Needs, program: &[u8]) -> Plan {
    let query =
        |states, attributes| Query { states, families, attributes, bytecode: program.to_vec(), ahead: Ahead::No };
    let attributes = attributes(needs);
    if states.is_empty() {
        return Plan::default();
    }
    let aged = StateSet::of(&[State::CloseWait]);
    let others = states.intersection(aged.complement());
    if needs.age && !needs.info && states.contains(State::CloseWait) {
        let with_info = attributes.union(Attributes::INFO);
        if others.is_empty() {
            return Plan { passes: vec![Pass { query: query(states, with_info), why: "tcp_info has the age" }] };
        }
        return Plan {
            passes: vec![
                Pass { query: query(others, attributes), why: "everything but CLOSE_WAIT, without tcp_info" },
                Pass { query: query(aged, with_info), why: "CLOSE_WAIT, whose age is in tcp_info" },
            ],
        };
    }
    Plan { passes: vec![Pass { query: query(states, attributes), why: "one pass is enough" }] }
}

/// The attributes that columns need for every row.
#[must_use]
pub fn attributes(needs: Needs) -> Attributes {
    let mut attributes = Attributes::NONE;
    for (wanted, attribute) in [
        (needs.info, Attributes::INFO),
        (needs.skmem, Attributes::SKMEM),
        (needs.congestion, Attributes::CONGESTION),
        (needs.tos, Attributes::TOS),
    ] {
        if wanted {
            attributes = attributes.union(attribute);
        }
    }
    attributes
}

/// The namespaces that are queried.
#[derive(Clone, Copy, Debug)]
pub struct Namespaces {
    pub seen: usize,
    /// Of those, certainly without a socket.
    pub empty: usize,
    /// Known, but not accessible.
    pub refused: u32,
    /// With enough sockets to make threads worthwhile.
    pub large: usize,
}

/// The plan as text, a line per request. Each namespace gets every request once, unless it has no socket at all.
#[must_use]
pub fn explain(
    plan: &Plan,
    source: Source,
    two_passes: bool,
    namespaces: Namespaces,
    owners: Option<&OwnerRoute>,
    pushed: &str,
    residual: Option<&str>,
) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "source: {}", source.key());
    if plan.passes.is_empty() {
        text.push_str("no request: nothing can match\n");
    }
    for (i, pass) in plan.passes.iter().enumerate() {
        let query = &pass.query;
        let walk = match (query.families, two_passes) {
            (Families::Both, false) => "both families in one walk",
            (Families::Both, true) => "two walks: this kernel refused one for both families",
            (Families::Only(family), _) => family.key(),
        };
        let names: Vec<&str> = query.attributes.list().into_iter().map(Attribute::name).collect();
        let _ = writeln!(
            text,
            "pass {}: {} | states {} (mask {:#06x}) | {walk} | attributes {} | bytecode {} bytes",
            i + 1,
            pass.why,
            query.states,
            query.states.bits() & 0xffff,
            if names.is_empty() { "none".to_owned() } else { names.join(",") },
            query.bytecode.len(),
        );
    }
    let walks = |pass: &Pass| if two_passes && pass.query.families == Families::Both { 2 } else { 1 };
    let beside = |pass: &Pass| pass.query.beside().is_some();
    let each: usize = plan.passes.iter().map(walks).sum();
    let more: usize = plan.passes.iter().filter(|p| beside(p)).map(walks).sum();
    let Namespaces { seen, empty, refused, large } = namespaces;
    let mut of = format!("namespaces: {seen}");
    for (n, what) in [(u64::from(refused), "could not be entered"), (empty as u64, "without a socket, skipped")] {
        if n > 0 {
            let _ = write!(of, ", {n} {what}");
        }
    }
    let _ = writeln!(text, "{of} | walks of the table: {}", seen.saturating_sub(empty) * each + large * more);
    if large > 0 && each > 0 {
        let asked = if more > 0 { "; bound_inactive is dumped in parallel" } else { "" };
        let _ = writeln!(text, "threads: a second one receives in {large} of {seen}, whose tables are large{asked}");
    }
    let _ = writeln!(text, "kernel checks: {}", if pushed.is_empty() { "states only" } else { pushed });
    let _ = writeln!(text, "left for user space: {}", residual.unwrap_or("nothing"));
    match owners {
        Some(route) => {
            let _ = writeln!(text, "owners: {} ({})", route.via.key(), route.why);
        }
        None => text.push_str("owners: not requested\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_info_is_requested_only_where_it_is_needed() {
        let needs = Needs { age: true, ..Needs::NONE };
        let split = plan(StateSet::ALL, Families::Both, needs, &[]);
        let [rest, aged] = &split.passes[..] else { panic!("{split:?}") };
        assert!(!rest.query.states.contains(State::CloseWait) && rest.query.states.contains(State::Established));
        assert!(rest.query.attributes == Attributes::NONE && aged.query.attributes == Attributes::INFO);
        let only = plan(StateSet::of(&[State::CloseWait]), Families::Both, needs, &[]);
        assert_eq!((only.passes.len(), only.passes[0].query.attributes), (1, Attributes::INFO));
        let none = plan(StateSet::of(&[State::TimeWait]), Families::Both, needs, &[]);
        assert_eq!((none.passes.len(), none.passes[0].query.attributes), (1, Attributes::NONE));
        let all = plan(StateSet::ALL, Families::Both, Needs { info: true, age: true, ..Needs::NONE }, &[]);
        assert_eq!(all.passes.len(), 1);
        let none = plan(StateSet::EMPTY, Families::Both, needs, &[]);
        assert!(none.passes.is_empty() && none.in_one_pass().passes.is_empty());
        let [one] = &split.in_one_pass().passes[..] else { panic!("one pass") };
        assert_eq!((one.query.states, one.query.attributes), (StateSet::ALL, Attributes::INFO));
    }
}
