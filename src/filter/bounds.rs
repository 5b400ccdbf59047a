//! What an expression says before any row is read: the facts it needs, the states and families it can match, and its
//! form with every `not` at a leaf.

use super::expr::{Expr, Net, Special, Test};
use crate::model::column::Needs;
use crate::model::{Family, StateSet};

impl Expr {
    /// The filter without its state tests: a superset, whose members can be tracked from state to state.
    #[must_use]
    pub fn ignoring_state(&self) -> Expr {
        match self {
            Expr::And(parts) => Expr::and(parts.iter().map(Expr::ignoring_state).collect()),
            Expr::Or(parts) => Expr::or(parts.iter().map(Expr::ignoring_state).collect()),
            other if other.depends_on_state() => Expr::all(),
            other => other.clone(),
        }
    }

    fn depends_on_state(&self) -> bool {
        match self {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().any(Expr::depends_on_state),
            Expr::Not(inner) => inner.depends_on_state(),
            Expr::Test(Test::Family(_) | Test::Port(..) | Test::Host(..) | Test::Interface(..)) => false,
            Expr::Test(Test::Text(column, ..) | Test::Number(column, ..)) => !column.is_of_processes(),
            // These change with the state: a TIME_WAIT has no other timer, no user, no cgroup.
            Expr::Test(_) => true,
        }
    }

    /// Calls `visit` for every test in it.
    fn each(&self, visit: &mut dyn FnMut(&Test)) {
        match self {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|p| p.each(visit)),
            Expr::Not(inner) => inner.each(visit),
            Expr::Test(test) => visit(test),
        }
    }

    /// What must be collected so that [`Expr::matches`] can answer.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::NONE;
        self.each(&mut |test| {
            needs = needs.union(match test {
                Test::Number(column, ..) | Test::Time(column, ..) | Test::Flag(column, ..) | Test::Text(column, ..) => {
                    column.0.needs
                }
                Test::Age(..) => Needs::INFO,
                _ => Needs::NONE,
            });
        });
        needs
    }

    /// A column for which no change of state can match: changes do not have it, and nothing else would do.
    #[must_use]
    pub fn unmatched_by_changes(&self) -> Option<&'static str> {
        match self {
            Expr::And(parts) => parts.iter().find_map(Expr::unmatched_by_changes),
            Expr::Or(parts) => {
                let each: Option<Vec<_>> = parts.iter().map(Expr::unmatched_by_changes).collect();
                each.and_then(|each| each.first().copied())
            }
            Expr::Test(
                Test::Number(column, ..) | Test::Time(column, ..) | Test::Flag(column, ..) | Test::Text(column, ..),
            ) if column.0.of_change.is_none() => Some(column.0.name),
            Expr::Test(Test::Interface(..)) => Some("dev"),
            Expr::Test(Test::Mark(..)) => Some("fwmark"),
            Expr::Test(Test::Cgroup(..)) => Some("cgroup"),
            Expr::Test(Test::Age(..)) => Some("age"),
            Expr::Not(_) | Expr::Test(_) => None,
        }
    }

    /// Whether it has a test that only the kernel can run ([`Test::Autobound`]).
    #[must_use]
    pub fn is_kernel_only(&self) -> bool {
        let mut found = false;
        self.each(&mut |test| found |= *test == Test::Autobound);
        found
    }

    /// Whether it tests `SO_MARK`, which needs `CAP_NET_ADMIN`: without it no row matches `fwmark`.
    #[must_use]
    pub fn uses_mark(&self) -> bool {
        let mut found = false;
        self.each(&mut |test| {
            found |= match test {
                Test::Mark(..) => true,
                Test::Number(column, ..) => column.1 == Special::Mark,
                _ => false,
            }
        });
        found
    }

    /// A set outside which no row matches: the state mask of the request.
    #[must_use]
    pub fn state_bound(&self) -> StateSet {
        fn bound(expr: &Expr) -> StateSet {
            match expr {
                Expr::And(parts) => parts.iter().fold(StateSet::ALL, |set, p| set.intersection(bound(p))),
                Expr::Or(parts) => parts.iter().fold(StateSet::EMPTY, |set, p| set.union(bound(p))),
                Expr::Test(Test::States(set)) => *set,
                Expr::Test(_) | Expr::Not(_) => StateSet::ALL,
            }
        }
        bound(&self.nnf(false))
    }

    /// The one family that can match; `None` for both. An IPv4 address sets no bound: it also means IPv6 rows with
    /// mapped addresses.
    #[must_use]
    pub fn family_bound(&self) -> Option<Family> {
        match allowed_families(&self.nnf(false)) {
            (true, false) => Some(Family::V4),
            (false, true) => Some(Family::V6),
            _ => None,
        }
    }

    /// The same expression with `not` only at single tests that have no opposite.
    ///
    /// `pid != 1` is not the opposite of `pid = 1`: where the owner is unknown, neither is true.
    pub(super) fn nnf(&self, negate: bool) -> Expr {
        match self {
            Expr::And(parts) | Expr::Or(parts) => {
                let parts = parts.iter().map(|p| p.nnf(negate)).collect();
                if matches!(self, Expr::And(_)) == negate { Expr::or(parts) } else { Expr::and(parts) }
            }
            Expr::Not(inner) => inner.nnf(!negate),
            Expr::Test(test) if !negate => Expr::Test(test.clone()),
            Expr::Test(test) => match test {
                Test::States(set) => Expr::states(set.complement()),
                Test::Family(Family::V4) => Expr::family(Family::V6),
                Test::Family(Family::V6) => Expr::family(Family::V4),
                Test::Port(end, cmp, port) => Expr::Test(Test::Port(*end, cmp.inverse(), *port)),
                _ => Expr::not(Expr::Test(test.clone())),
            },
        }
    }
}

/// Whether an IPv4 row and an IPv6 row can match.
fn allowed_families(expr: &Expr) -> (bool, bool) {
    match expr {
        Expr::And(parts) => parts.iter().map(allowed_families).fold((true, true), |a, b| (a.0 && b.0, a.1 && b.1)),
        Expr::Or(parts) => parts.iter().map(allowed_families).fold((false, false), |a, b| (a.0 || b.0, a.1 || b.1)),
        Expr::Test(Test::Family(family)) => (*family == Family::V4, *family == Family::V6),
        Expr::Test(Test::Host(_, Net::V6(_), _)) => (false, true),
        Expr::Test(_) | Expr::Not(_) => (true, true),
    }
}
