//! Whose connections ended by reset, in words.
//!
//! Input: traced resets with the process of each connection, as far as it is known. Output: the programs with their counts. Not
//! here: why they were reset.

use std::collections::BTreeMap;

use crate::diagnose::traced_program;
use crate::model::traced::{Program, Resets};
use crate::text;

/// Programs that a headline names.
const NAMED: usize = 2;

/// The programs behind some resets, the one with most of them first.
pub struct Owners<'a> {
    known: Vec<(&'a Program, u64)>,
    unknown: u64,
}

impl<'a> Owners<'a> {
    /// Adds up the resets of each program.
    #[must_use]
    pub fn of(resets: impl Iterator<Item = &'a Resets>) -> Owners<'a> {
        let mut by_name: BTreeMap<&str, (&Program, u64)> = BTreeMap::new();
        let mut unknown = 0;
        for reset in resets {
            match &reset.program {
                Some(program) => by_name.entry(&program.comm).or_insert((program, 0)).1 += reset.count,
                None => unknown += reset.count,
            }
        }
        let mut known: Vec<(&Program, u64)> = by_name.into_values().collect();
        known.sort_by_key(|(program, n)| (std::cmp::Reverse(*n), program.pid));
        Owners { known, unknown }
    }

    /// The program that has all of them.
    #[must_use]
    pub fn only(&self) -> Option<&'a Program> {
        match self.known[..] {
            [(program, _)] if self.unknown == 0 => Some(program),
            _ => None,
        }
    }

    /// The program that has most of them, if more are known to be its than are of nobody.
    #[must_use]
    pub fn first(&self) -> Option<&'a Program> {
        self.known.first().filter(|(_, n)| *n > self.unknown).map(|(program, _)| *program)
    }

    /// `curl (812)`, or nothing where no program has more of them than are not known.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.first().map(traced_program::name)
    }

    /// `, 20 of app (7) and 5 of 'curl' (5 processes),`: for those that are not all of one program; nothing where none is known.
    #[must_use]
    pub fn shares(&self) -> String {
        if self.known.is_empty() || self.only().is_some() {
            return String::new();
        }
        let of = |(program, n): &(&Program, u64)| format!("{} of {}", text::grouped(*n), traced_program::name(program));
        let mut parts: Vec<String> = self.known.iter().take(NAMED).map(of).collect();
        let rest: u64 = self.known.iter().skip(NAMED).map(|(_, n)| n).sum();
        if rest > 0 {
            parts.push(format!("{} of other programs", text::grouped(rest)));
        }
        if self.unknown > 0 {
            parts.push(format!("{} of processes that are not known", text::grouped(self.unknown)));
        }
        let last = parts.pop().unwrap_or_default();
        if parts.is_empty() { format!(", {last},") } else { format!(", {} and {last},", parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::NETNS;
    use crate::model::Endpoint;

    fn resets(of: Option<(u32, &str, u64)>, count: u64) -> Resets {
        let program = of.map(|(pid, comm, processes)| Program { pid, comm: comm.into(), processes });
        Resets { program, count, open: count, ..Resets::none(NETNS, Endpoint::new([10, 0, 0, 9].into(), 80), false) }
    }

    #[test]
    fn each_program_has_its_own_resets_and_nobody_has_those_that_are_not_known() {
        let words = |all: &[Resets]| {
            let owners = Owners::of(all.iter());
            (owners.name(), owners.shares())
        };
        let (pool, curl) = (resets(Some((7, "pool", 1)), 20), resets(Some((9, "curl", 5)), 5));
        assert_eq!(words(std::slice::from_ref(&pool)), (Some("pool (7)".into()), String::new()));
        let both = words(&[curl.clone(), pool.clone()]);
        assert_eq!(both, (Some("pool (7)".into()), ", 20 of pool (7) and 5 of 'curl' (5 processes),".into()));
        let hidden = words(&[curl, resets(None, 5)]);
        assert_eq!(hidden, (None, ", 5 of 'curl' (5 processes) and 5 of processes that are not known,".into()));
        assert_eq!(words(&[resets(None, 20)]), (None, String::new()));
        let many =
            words(&[pool, resets(Some((8, "b", 1)), 4), resets(Some((9, "c", 1)), 3), resets(Some((10, "d", 1)), 2)]);
        assert_eq!(many.1, ", 20 of pool (7), 4 of b (8) and 5 of other programs,");
    }
}
