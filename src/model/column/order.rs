//! The order of rows sorted by a column.

use std::cmp::Ordering;

use super::Value;
use crate::model::owner::{Holder, OwnerTable};

/// Whether there is nothing to compare.
fn is_missing(value: &Value<'_>) -> bool {
    match value {
        Value::Unknown | Value::Absent => true,
        Value::Each(holders, ..) | Value::Holders(holders, ..) => holders.is_empty(),
        _ => false,
    }
}

/// The order of two values of one column, ascending or descending. Missing values come last in both.
#[must_use]
pub fn order(a: &Value<'_>, b: &Value<'_>, descending: bool) -> Ordering {
    match (is_missing(a), is_missing(b)) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if descending => compare(b, a),
        (false, false) => compare(a, b),
    }
}

/// The ascending order of two values that exist. A column mixes kinds in one case only: numbers and
/// [`Value::Unlimited`].
fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Unlimited, Value::Number(_)) => Ordering::Greater,
        (Value::Number(_), Value::Unlimited) => Ordering::Less,
        (Value::Number(a), Value::Number(b)) => a.cmp(b),
        (Value::Named(a, name_a), Value::Named(b, name_b)) => name_a.cmp(name_b).then_with(|| a.cmp(b)),
        (Value::Flag(a), Value::Flag(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::State(a), Value::State(b)) => a.index().cmp(&b.index()),
        (Value::Addr(a), Value::Addr(b)) => a.cmp(b),
        (Value::Endpoint(a, _), Value::Endpoint(b, _)) => a.cmp(b),
        (Value::Age(a), Value::Age(b)) => a.cmp(b),
        (Value::Each(ha, oa, get_a), Value::Each(hb, ob, get_b)) => {
            order(&get_a(oa.process(&ha[0]), ha[0].fd), &get_b(ob.process(&hb[0]), hb[0].fd), false)
        }
        (Value::Holders(ha, oa, _), Value::Holders(hb, ob, _)) => holders(ha, oa).cmp(holders(hb, ob)),
        _ => Ordering::Equal,
    }
}

/// The sort key of holders: name, pid and descriptor of each.
fn holders<'a>(holders: &'a [Holder], owners: &'a OwnerTable) -> impl Iterator<Item = (&'a str, u32, u32)> {
    holders.iter().map(|holder| {
        let process = owners.process(holder);
        (&*process.comm, process.pid, holder.fd)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OwnerStatus, Process};

    #[test]
    fn a_missing_value_comes_last_in_both_directions() {
        let owners = OwnerTable::default();
        let nobody = Value::Holders(&[], &owners, OwnerStatus::Kernel);
        let one = Value::Number(1);
        for (missing, value) in [(Value::Unknown, &one), (Value::Absent, &one), (nobody, &one)] {
            for descending in [false, true] {
                assert_eq!(order(&missing, value, descending), Ordering::Greater);
                assert_eq!(order(value, &missing, descending), Ordering::Less);
                assert_eq!(order(&missing, &Value::Unknown, descending), Ordering::Equal);
            }
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let up = |a: &Value<'_>, b: &Value<'_>| order(a, b, false);
        assert_eq!(up(&Value::Number(9), &Value::Number(10)), Ordering::Less);
        assert_eq!(up(&Value::Unlimited, &Value::Number(u64::MAX)), Ordering::Greater);
        assert_eq!(order(&Value::Number(9), &Value::Number(10), true), Ordering::Greater);
        assert_eq!(up(&Value::Named(9, None), &Value::Named(10, None)), Ordering::Less);
        let process = |pid| Process { pid, comm: "nginx".into(), ..Process::default() };
        let owners = OwnerTable::new(vec![process(9), process(12)], Vec::new(), 0);
        let held = [0, 1].map(|process| [Holder { inode: None, process, fd: 3 }]);
        let value = |i: usize| Value::Holders(&held[i], &owners, OwnerStatus::Known);
        assert_eq!(up(&value(0), &value(1)), Ordering::Less, "nginx(9) before nginx(12)");
    }
}
