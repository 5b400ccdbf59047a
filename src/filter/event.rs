//! The part of an expression that the kernel's event filter can run on `sock:inet_sock_set_state`.
//!
//! Input: an expression. Output: text for the event's `filter` file that passes at least all changes of every socket
//! the expression can match. Only ports and families stay; states and everything else change or are not in the
//! record. The filter is not exact: callers check each record with [`Expr::matches`].

use super::expr::{Cmp, End, Expr, Test};
use crate::model::{Family, State};

/// Longer expressions are left to user space: the kernel takes one page of text.
const LONGEST: usize = 2000;

impl Expr {
    /// The event filter; `None` when the kernel can check no part of it.
    #[must_use]
    pub fn event_filter(&self) -> Option<String> {
        wider(&self.nnf(false)).filter(|text| text.len() <= LONGEST)
    }
}

fn wider(expr: &Expr) -> Option<String> {
    match expr {
        // Dropping a part that the kernel cannot check widens the filter.
        Expr::And(parts) => join(&parts.iter().filter_map(wider).collect::<Vec<_>>(), "&&"),
        Expr::Or(parts) => join(&parts.iter().map(wider).collect::<Option<Vec<_>>>()?, "||"),
        Expr::Test(test) => of_test(test),
        Expr::Not(_) => None,
    }
}

fn join(parts: &[String], sign: &str) -> Option<String> {
    match parts {
        [] => None,
        [one] => Some(one.clone()),
        more => Some(format!("({})", more.join(&format!(" {sign} ")))),
    }
}

fn of_test(test: &Test) -> Option<String> {
    match test {
        Test::Family(Family::V4) => Some("family == 2".into()),
        Test::Family(Family::V6) => Some("family == 10".into()),
        Test::Port(end, cmp, port) => port_filter(*end, *cmp, *port),
        Test::Host(end, _, Some(port)) => port_filter(*end, Cmp::Eq, *port),
        _ => None,
    }
}

/// A port is 0 in a record where it is not chosen yet: the local port in connect() (see
/// [`crate::collect::bpf::trace`]), and the peer's in kernels that announce a new socket before it has its
/// addresses.
fn port_filter(end: End, cmp: Cmp, port: u16) -> Option<String> {
    let sign = match cmp {
        Cmp::Eq => "==",
        Cmp::Ne => "!=",
        Cmp::Lt => "<",
        Cmp::Le => "<=",
        Cmp::Gt => ">",
        Cmp::Ge => ">=",
        Cmp::Has | Cmp::HasNot => return None,
    };
    let (field, (old, new)) = match end {
        End::Local => ("sport", (State::Close, State::SynSent)),
        End::Peer => ("dport", (State::Listen, State::SynRecv)),
    };
    let (old, new) = (old.kernel(), new.kernel());
    Some(format!("({field} {sign} {port} || ({field} == 0 && oldstate == {old} && newstate == {new}))"))
}

#[cfg(test)]
mod tests {
    use crate::filter::{NoResolver, parse};

    fn compiled(text: &str) -> Option<String> {
        parse(text, &NoResolver).unwrap().event_filter()
    }

    #[test]
    fn ports_and_families_are_pushed_and_nothing_that_narrows_too_much() {
        let peer = |port| format!("(dport == {port} || (dport == 0 && oldstate == 10 && newstate == 3))");
        let local = |port| format!("(sport == {port} || (sport == 0 && oldstate == 7 && newstate == 2))");
        assert_eq!(compiled("dport = :443"), Some(peer(443)));
        assert_eq!(compiled("dport = :443 and state close-wait and rtt > 5ms"), Some(peer(443)));
        assert_eq!(compiled("dport = :443 or sport = :443"), Some(format!("({} || {})", peer(443), local(443))));
        assert_eq!(compiled("dst 10.0.0.1:443"), Some(peer(443)));
        // Either branch may match what the kernel cannot check.
        for none in ["state close-wait", "dport = :443 or state close-wait", "src 10.0.0.1", "not (process = nginx)"] {
            assert_eq!(compiled(none), None, "{none}");
        }
        assert_eq!(compiled("not dport = :443"), Some(peer(443).replacen("==", "!=", 1)));
        let long = (1..=200).map(|n| format!("dport = :{n}")).collect::<Vec<_>>().join(" or ");
        assert_eq!(compiled(&long), None);
    }
}
