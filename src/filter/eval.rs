//! Whether a row fulfils an expression.
//!
//! Comes in: an expression and a row. Goes out: yes or no. Never here: allocation (a name is compared where it lies).
//!
//! Three rules make the meaning. What the source does not tell fulfils no comparison, not even `!=`. What does not exist
//! (no timer runs) fulfils `!=` and `!~` only. `not` turns a plain yes or no around, so `not pid = 1` holds where the
//! owner is not known, while `pid != 1` does not.

use std::cmp::Ordering;

use super::expr::{Cmp, Col, End, Expr, Pattern, Test};
use crate::model::column::{Kind, Row, Value};
use crate::model::socket::{AgeBracket, RowKind};
use crate::model::{Endpoint, Socket};

impl Expr {
    /// Whether the row is wanted. [`Test::Autobound`] is false here: only the kernel knows.
    #[must_use]
    pub fn matches(&self, row: &Row<'_>) -> bool {
        match self {
            Expr::And(parts) => parts.iter().all(|p| p.matches(row)),
            Expr::Or(parts) => parts.iter().any(|p| p.matches(row)),
            Expr::Not(inner) => !inner.matches(row),
            Expr::Test(test) => test.matches(row),
        }
    }
}

fn end_of(socket: &Socket, end: End) -> Endpoint {
    match end {
        End::Local => socket.local,
        End::Peer => socket.peer,
    }
}

impl Test {
    fn matches(&self, row: &Row<'_>) -> bool {
        let socket = row.socket;
        match self {
            Test::States(set) => set.contains(socket.state),
            Test::Family(family) => socket.family == *family,
            Test::Port(end, cmp, port) => cmp.holds(end_of(socket, *end).port.cmp(port)),
            Test::Host(end, net, port) => {
                let at = end_of(socket, *end);
                port.is_none_or(|p| p == at.port) && net.contains(at.addr)
            }
            Test::Interface(cmp, index) => socket.ifindex.is_some_and(|i| cmp.holds(i.cmp(index))),
            Test::Mark(cmp, value, mask) => socket.mark.is_some_and(|m| cmp.holds((m & mask).cmp(value))),
            Test::Cgroup(cmp, id) => match (socket.cgroup, socket.kind) {
                (Some(cgroup), _) => cmp.holds(cgroup.cmp(id)),
                // diagnosis 1.j: these objects carry none, and the kernel compares them as 0.
                (None, RowKind::TimeWaitMini | RowKind::Request) => cmp.is_negative(),
                (None, RowKind::Full | RowKind::BoundInactive) => false,
            },
            Test::Autobound => false,
            Test::Number(column, cmp, value) => number(row, *column, *cmp, *value, 1),
            Test::Time(column, cmp, us) => {
                let unit = if column.0.kind == Kind::Millis { 1000 } else { 1 };
                number(row, *column, *cmp, *us, unit)
            }
            Test::Age(cmp, us) => socket.state_age().is_some_and(|age| age_matches(age, *cmp, *us)),
            Test::Flag(column, cmp, value) => match (column.0.get)(row) {
                Value::Flag(flag) => cmp.holds(flag.cmp(value)),
                Value::Absent => cmp.is_negative(),
                _ => false,
            },
            Test::Text(column, cmp, pattern) => text(row, *column, *cmp, pattern),
        }
    }
}

/// True only when it holds wherever in the bracket the age is.
fn age_matches(age: AgeBracket, cmp: Cmp, us: u64) -> bool {
    let min = age.min_ms.saturating_mul(1000);
    let max = age.max_ms.map(|ms| ms.saturating_mul(1000));
    match cmp {
        Cmp::Gt => min > us,
        Cmp::Ge => min >= us,
        Cmp::Lt => max.is_some_and(|m| m < us),
        Cmp::Le => max.is_some_and(|m| m <= us),
        Cmp::Eq | Cmp::Has => min == us && max == Some(us),
        Cmp::Ne | Cmp::HasNot => min > us || max.is_some_and(|m| m < us),
    }
}

/// Applies a positive test to each of several values: `=` wants one of them, `!=` none.
fn among<T>(row: &Row<'_>, cmp: Cmp, mut values: impl Iterator<Item = T>, hit: impl FnMut(T) -> bool) -> bool {
    if row.holders.is_empty() {
        return cmp.is_negative() && row.status.holders_are_known();
    }
    values.any(hit) != cmp.is_negative()
}

/// `unit`: how much one of the column's numbers is of the value's.
fn number(row: &Row<'_>, column: Col, cmp: Cmp, value: u64, unit: u64) -> bool {
    let holds = |cmp: Cmp, n: u64| cmp.holds(n.saturating_mul(unit).cmp(&value));
    match (column.0.get)(row) {
        Value::Number(n) | Value::Named(n, _) => holds(cmp, n),
        Value::Each(holders, owners, get) => {
            let positive = if cmp == Cmp::Ne { Cmp::Eq } else { cmp };
            among(row, cmp, holders.iter(), |holder| match get(owners.process(holder), holder.fd) {
                Value::Number(n) => holds(positive, n),
                _ => false,
            })
        }
        // Larger than every number that can be written.
        Value::Unlimited => holds(cmp, u64::MAX),
        Value::Absent => cmp.is_negative(),
        _ => false,
    }
}

fn text(row: &Row<'_>, column: Col, cmp: Cmp, pattern: &Pattern) -> bool {
    let holds = |text: &str| pattern.holds(cmp, text) != cmp.is_negative();
    match (column.0.get)(row) {
        Value::Text(text) => holds(&text),
        Value::Named(_, Some(name)) => holds(&name),
        Value::Named(n, None) | Value::Number(n) => holds(Digits::new(n).as_str()),
        Value::Each(holders, owners, get) => {
            among(row, cmp, holders.iter(), |holder| match get(owners.process(holder), holder.fd) {
                Value::Text(text) => pattern.holds(cmp, &text),
                _ => false,
            })
        }
        Value::Holders(holders, owners, _) => {
            let by_pid = |pid: u32| matches!(cmp, Cmp::Eq | Cmp::Ne) && pattern.number == Some(pid.into());
            among(row, cmp, holders.iter().map(|h| owners.process(h)), |p| pattern.holds(cmp, &p.comm) || by_pid(p.pid))
        }
        Value::Absent => cmp.is_negative(),
        _ => false,
    }
}

/// A number as text, without the heap.
struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    fn new(mut number: u64) -> Digits {
        let mut digits = Digits { buffer: [b'0'; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.buffer[digits.start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.buffer[self.start..]).unwrap_or("")
    }
}

impl Pattern {
    /// The positive form of the comparison: equal for `=` and `!=`, contained for `~` and `!~`.
    fn holds(&self, cmp: Cmp, text: &str) -> bool {
        match cmp {
            Cmp::Has | Cmp::HasNot => text.contains(self.text.as_str()),
            _ if self.text.contains('*') => glob(self.text.as_bytes(), text.as_bytes()),
            _ => self.text.as_str().cmp(text) == Ordering::Equal,
        }
    }
}

/// `*` stands for any bytes. Goes back to the last star only, so it takes `pattern * text` steps at worst.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("nginx", "nginx", true),
            ("nginx*", "nginx: worker", true),
            ("*worker", "nginx: worker", true),
            ("n*x*r", "nginx: worker", true),
            ("n*z", "nginx", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("*ab*ab*", "aabab", true),
            ("*aab", "aaab", true),
        ] {
            assert_eq!(Pattern::new(pattern).holds(Cmp::Eq, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn digits() {
        for n in [0, 7, 10, 4_026_531_840, u64::MAX] {
            assert_eq!(Digits::new(n).as_str(), n.to_string());
        }
    }

    #[test]
    fn an_age_between_bounds_is_only_certain_outside_them() {
        let age = AgeBracket { min_ms: 1000, max_ms: Some(5000) };
        for (cmp, us, expected) in [
            (Cmp::Gt, 999_999, true),
            (Cmp::Gt, 1_000_000, false),
            (Cmp::Ge, 1_000_000, true),
            (Cmp::Lt, 5_000_000, false),
            (Cmp::Lt, 5_000_001, true),
            (Cmp::Le, 5_000_000, true),
            (Cmp::Eq, 3_000_000, false),
            (Cmp::Ne, 3_000_000, false),
            (Cmp::Ne, 6_000_000, true),
        ] {
            assert_eq!(age_matches(age, cmp, us), expected, "{cmp:?} {us}");
        }
        let open = AgeBracket { min_ms: 1000, max_ms: None };
        assert!(!age_matches(open, Cmp::Lt, u64::MAX) && age_matches(open, Cmp::Gt, 0));
        assert!(age_matches(AgeBracket::exact(2), Cmp::Eq, 2000));
    }
}
