//! Whether a row, or a change of state, matches an expression. Allocates nothing: names are compared in place.
//!
//! Three rules define the meaning. What the source does not report matches no comparison, not even `!=`. What does
//! not exist (no timer runs) matches `!=` and `!~` only. `not` inverts a plain yes or no, so `not pid = 1` is true
//! where the owner is unknown, while `pid != 1` is not.

use super::expr::{Cmp, Col, End, Expr, Pattern, Test};
use crate::model::column::{Change, Column, Kind, Row, Value};
use crate::model::digits::Digits;
use crate::model::pattern;
use crate::model::socket::{AgeBracket, RowKind};
use crate::model::{Endpoint, Family, Socket, State};

/// What an expression is tested against.
pub trait Subject<'a> {
    fn state(&self) -> State;
    fn family(&self) -> Family;
    fn local(&self) -> Endpoint;
    fn peer(&self) -> Endpoint;
    /// The socket itself; a change has none, so socket-only facts are unknown.
    fn socket(&self) -> Option<&'a Socket>;
    fn value(&self, column: &Column) -> Value<'a>;
    /// The id of what the column names; unknown where names have none.
    fn id(&self, column: &Column) -> Value<'a>;
    /// Whether an empty list of holders means that no process holds it.
    fn holders_are_known(&self) -> bool;
}

impl<'a> Subject<'a> for Row<'a> {
    fn state(&self) -> State {
        self.socket.state
    }
    fn family(&self) -> Family {
        self.socket.family
    }
    fn local(&self) -> Endpoint {
        self.socket.local
    }
    fn peer(&self) -> Endpoint {
        self.socket.peer
    }
    fn socket(&self) -> Option<&'a Socket> {
        Some(self.socket)
    }
    fn value(&self, column: &Column) -> Value<'a> {
        (column.get)(self)
    }
    fn id(&self, column: &Column) -> Value<'a> {
        column.id.map_or(Value::Unknown, |(get, _)| get(self))
    }
    fn holders_are_known(&self) -> bool {
        self.status.holders_are_known()
    }
}

/// The state is the new one, the process the one that held the socket.
impl<'a> Subject<'a> for Change<'a> {
    fn state(&self) -> State {
        self.transition.new
    }
    fn family(&self) -> Family {
        self.transition.family
    }
    fn local(&self) -> Endpoint {
        self.transition.local
    }
    fn peer(&self) -> Endpoint {
        self.transition.peer
    }
    fn socket(&self) -> Option<&'a Socket> {
        None
    }
    fn value(&self, column: &Column) -> Value<'a> {
        column.of_change(self)
    }
    fn id(&self, column: &Column) -> Value<'a> {
        column.id.map_or(Value::Unknown, |(_, get)| get(self))
    }
    fn holders_are_known(&self) -> bool {
        false
    }
}

impl Expr {
    /// Whether the row or the change matches. [`Test::Autobound`] is false here: only the kernel knows.
    #[must_use]
    pub fn matches<'a>(&self, row: &impl Subject<'a>) -> bool {
        match self {
            Expr::And(parts) => parts.iter().all(|p| p.matches(row)),
            Expr::Or(parts) => parts.iter().any(|p| p.matches(row)),
            Expr::Not(inner) => !inner.matches(row),
            Expr::Test(test) => test.matches(row),
        }
    }
}

fn end_of<'a>(subject: &impl Subject<'a>, end: End) -> Endpoint {
    match end {
        End::Local => subject.local(),
        End::Peer => subject.peer(),
    }
}

impl Test {
    fn matches<'a>(&self, subject: &impl Subject<'a>) -> bool {
        match self {
            Test::States(set) => set.contains(subject.state()),
            Test::Family(family) => subject.family() == *family,
            Test::Port(end, cmp, port) => cmp.holds(end_of(subject, *end).port.cmp(port)),
            Test::Host(end, net, port) => {
                let at = end_of(subject, *end);
                port.is_none_or(|p| p == at.port) && net.contains(at.addr)
            }
            Test::Autobound => false,
            Test::Number(column, cmp, value) => number(subject, *column, *cmp, *value, 1),
            Test::Time(column, cmp, us) => {
                let unit = if column.0.kind == Kind::Millis { 1000 } else { 1 };
                number(subject, *column, *cmp, *us, unit)
            }
            Test::Flag(column, cmp, value) => match subject.value(column.0) {
                Value::Flag(flag) => cmp.holds(flag.cmp(value)),
                Value::Absent => cmp.is_negative(),
                _ => false,
            },
            Test::Text(column, cmp, pattern) => text(subject, *column, *cmp, pattern),
            Test::Interface(..) | Test::Mark(..) | Test::Cgroup(..) | Test::Age(..) => {
                subject.socket().is_some_and(|socket| self.matches_socket(socket))
            }
        }
    }

    /// The tests of facts that only a socket has.
    fn matches_socket(&self, socket: &Socket) -> bool {
        match self {
            Test::Interface(cmp, index) => socket.ifindex.is_some_and(|i| cmp.holds(i.cmp(index))),
            Test::Mark(cmp, value, mask) => socket.mark.is_some_and(|m| cmp.holds((m & mask).cmp(value))),
            Test::Cgroup(cmp, id) => match (socket.cgroup, socket.kind) {
                (Some(cgroup), _) => cmp.holds(cgroup.cmp(id)),
                // These objects have none, and the kernel compares them as 0.
                (None, RowKind::TimeWaitMini | RowKind::Request) => cmp.is_negative(),
                (None, RowKind::Full | RowKind::BoundInactive) => false,
            },
            Test::Age(cmp, us) => socket.state_age().is_some_and(|age| age_matches(age, *cmp, *us)),
            _ => false,
        }
    }
}

/// True only when it is true for every age in the bracket.
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

/// Applies a positive test to several values: `=` needs one match, `!=` none.
fn among<'a, T>(
    subject: &impl Subject<'a>,
    cmp: Cmp,
    mut values: impl ExactSizeIterator<Item = T>,
    hit: impl FnMut(T) -> bool,
) -> bool {
    if values.len() == 0 {
        return cmp.is_negative() && subject.holders_are_known();
    }
    values.any(hit) != cmp.is_negative()
}

/// `unit`: the value's units per unit of the column.
fn number<'a>(subject: &impl Subject<'a>, column: Col, cmp: Cmp, value: u64, unit: u64) -> bool {
    let holds = |cmp: Cmp, n: u64| cmp.holds(n.saturating_mul(unit).cmp(&value));
    match subject.value(column.0) {
        Value::Number(n) | Value::Named(n, _) => holds(cmp, n),
        Value::Each(holders, owners, get) => {
            let positive = if cmp == Cmp::Ne { Cmp::Eq } else { cmp };
            among(subject, cmp, holders.iter(), |holder| match get(owners.process(holder), holder.fd) {
                Value::Number(n) => holds(positive, n),
                _ => false,
            })
        }
        // Greater than every number that can be written.
        Value::Unlimited => holds(cmp, u64::MAX),
        Value::Absent => cmp.is_negative(),
        _ => false,
    }
}

fn text<'a>(subject: &impl Subject<'a>, column: Col, cmp: Cmp, pattern: &Pattern) -> bool {
    let by_name = any_text(subject, subject.value(column.0), cmp, pattern, |text| pattern.holds(cmp, text));
    if !pattern.is_short_id || column.0.id.is_none() || matches!(cmp, Cmp::Has | Cmp::HasNot) {
        return by_name;
    }
    let by_id = any_text(subject, subject.id(column.0), cmp, pattern, |text| pattern::begins_id(&pattern.text, text));
    if cmp.is_negative() { by_name && by_id } else { by_name || by_id }
}

/// `hit`: whether a text is what the pattern means, whatever the operator.
fn any_text<'a>(
    subject: &impl Subject<'a>,
    value: Value<'a>,
    cmp: Cmp,
    pattern: &Pattern,
    hit: impl Fn(&str) -> bool,
) -> bool {
    let holds = |text: &str| hit(text) != cmp.is_negative();
    match value {
        Value::Text(text) => holds(&text),
        Value::Named(_, Some(name)) => holds(&name),
        Value::Named(n, None) | Value::Number(n) => holds(Digits::new(n).as_str()),
        Value::Each(holders, owners, get) => {
            among(subject, cmp, holders.iter(), |holder| match get(owners.process(holder), holder.fd) {
                Value::Text(text) => hit(&text),
                _ => false,
            })
        }
        Value::Holders(holders, owners, _) => {
            among(subject, cmp, holders.iter().map(|h| owners.process(h)), |p| pattern.names(cmp, &p.comm, p.pid))
        }
        Value::Actor(actor) => pattern.names(cmp, &actor.comm.text(), actor.pid) != cmp.is_negative(),
        Value::Absent => cmp.is_negative(),
        _ => false,
    }
}

impl Pattern {
    /// The positive form of the comparison: equal for `=` and `!=`, contained for `~` and `!~`.
    fn holds(&self, cmp: Cmp, text: &str) -> bool {
        match cmp {
            Cmp::Has | Cmp::HasNot => text.contains(self.text.as_str()),
            _ => pattern::is(&self.text, text),
        }
    }

    /// The same for a process: its name, or its pid.
    fn names(&self, cmp: Cmp, comm: &str, pid: u32) -> bool {
        self.holds(cmp, comm) || (matches!(cmp, Cmp::Eq | Cmp::Ne) && self.number == Some(pid.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
