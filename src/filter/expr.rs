//! A filter as a tree.
//!
//! Input: parts, from the parser or from command-line flags. Output: an [`Expr`] in normal form: nested `and` and
//! `or` are flat, constants are folded, so its text parses back to the same expression.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Resolver, value};
use crate::model::column::{self, Column};
use crate::model::pattern;
use crate::model::{Family, StateSet};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `~`: the text contains.
    Has,
    /// `!~`: the text does not contain.
    HasNot,
}

impl Cmp {
    /// The operator as text.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Cmp::Eq => "=",
            Cmp::Ne => "!=",
            Cmp::Lt => "<",
            Cmp::Le => "<=",
            Cmp::Gt => ">",
            Cmp::Ge => ">=",
            Cmp::Has => "~",
            Cmp::HasNot => "!~",
        }
    }

    /// Whether the comparison is true for this order.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Cmp::Eq | Cmp::Has => order.is_eq(),
            Cmp::Ne | Cmp::HasNot => order.is_ne(),
            Cmp::Lt => order.is_lt(),
            Cmp::Le => order.is_le(),
            Cmp::Gt => order.is_gt(),
            Cmp::Ge => order.is_ge(),
        }
    }

    /// `!=` and `!~`: absent values match them.
    pub(super) const fn is_negative(self) -> bool {
        matches!(self, Cmp::Ne | Cmp::HasNot)
    }

    /// The comparison that is true where this one is false.
    pub(super) const fn inverse(self) -> Cmp {
        match self {
            Cmp::Eq => Cmp::Ne,
            Cmp::Ne => Cmp::Eq,
            Cmp::Lt => Cmp::Ge,
            Cmp::Ge => Cmp::Lt,
            Cmp::Gt => Cmp::Le,
            Cmp::Le => Cmp::Gt,
            Cmp::Has => Cmp::HasNot,
            Cmp::HasNot => Cmp::Has,
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Local,
    Peer,
}

/// A block of addresses.
///
/// A v4 block also holds the IPv4-mapped addresses (`::ffff:a.b.c.d`) of its members; a v6 block holds addresses as
/// the row reports them. The kernel's `inet_diag_bc_run` does the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    V4(Ipv4Net),
    V6(Ipv6Net),
}

impl Net {
    /// The block of an address and prefix length, host bits cleared; an IPv4-mapped block becomes the IPv4 block.
    #[must_use]
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Net> {
        match addr {
            IpAddr::V4(a) => Ipv4Net::new(a, prefix).ok().map(|n| Net::V4(n.trunc())),
            IpAddr::V6(a) => match a.to_ipv4_mapped() {
                Some(v4) if prefix >= 96 => Ipv4Net::new(v4, prefix - 96).ok().map(|n| Net::V4(n.trunc())),
                _ => Ipv6Net::new(a, prefix).ok().map(|n| Net::V6(n.trunc())),
            },
        }
    }

    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Net::V4(net), _) => matches!(addr.to_canonical(), IpAddr::V4(a) if net.contains(&a)),
            (Net::V6(net), IpAddr::V6(a)) => net.contains(&a),
            (Net::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A column of the table and how the filter treats it, resolved once, when the expression is built.
#[derive(Clone, Copy)]
pub struct Col(pub(super) &'static Column, pub(super) Special);

/// Columns that need more than a comparison of their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// Compared by value.
    None,
    /// `SO_MARK`, which the kernel may hide.
    Mark,
    IfIndex,
    /// A fact about the processes that hold the socket, so the same in every state.
    Pid,
    Process,
    Comm,
}

impl Special {
    pub(super) const NAMED: [(&'static str, Special); 5] = [
        ("mark", Special::Mark),
        ("ifindex", Special::IfIndex),
        ("pid", Special::Pid),
        ("process", Special::Process),
        ("comm", Special::Comm),
    ];
}

impl Col {
    #[must_use]
    pub fn find(name: &str) -> Option<Col> {
        let column = column::find(name)?;
        let special = Special::NAMED.iter().find(|(name, _)| *name == column.name);
        Some(Col(column, special.map_or(Special::None, |(_, special)| *special)))
    }

    /// Whether it is a fact about the processes that hold the socket, not about the socket.
    #[must_use]
    pub const fn is_of_processes(self) -> bool {
        matches!(self.1, Special::Pid | Special::Process | Special::Comm)
    }
}

impl PartialEq for Col {
    fn eq(&self, other: &Col) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl fmt::Debug for Col {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

/// A text to compare with; `*` matches anything under `=` and `!=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub(super) text: String,
    /// The text as a number: `process = 812` also means the pid.
    pub(super) number: Option<u64>,
    /// It can be the beginning of an id.
    pub(super) is_short_id: bool,
}

impl Pattern {
    #[must_use]
    pub fn new(text: &str) -> Pattern {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        Pattern {
            text: text.to_owned(),
            number: if digits { text.parse().ok() } else { None },
            is_short_id: pattern::is_short_id(text),
        }
    }
}

/// One test of one fact.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Test {
    States(StateSet),
    /// The family of the row, even if its addresses are IPv4-mapped.
    Family(Family),
    Port(End, Cmp, u16),
    Host(End, Net, Option<u16>),
    /// The interface a socket is bound to; `=` or `!=`.
    Interface(Cmp, u32),
    /// `mark & mask == value`; `=` or `!=`.
    Mark(Cmp, u32, u32),
    /// `=` or `!=`.
    Cgroup(Cmp, u64),
    /// The kernel chose the local port. Only the kernel knows.
    Autobound,
    Number(Col, Cmp, u64),
    /// Microseconds.
    Time(Col, Cmp, u64),
    /// Microseconds.
    Age(Cmp, u64),
    /// `=` or `!=`.
    Flag(Col, Cmp, bool),
    /// `=`, `!=`, `~` or `!~`.
    Text(Col, Cmp, Pattern),
}

/// A filter. Build it with the constructors: they keep the normal form that guarantees `parse(e.to_string()) == e`.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// All of these; true when empty.
    And(Vec<Expr>),
    /// Any of these; false when empty.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Test(Test),
}

impl Expr {
    /// Every row.
    #[must_use]
    pub const fn all() -> Expr {
        Expr::And(Vec::new())
    }

    /// No row.
    #[must_use]
    pub const fn none() -> Expr {
        Expr::Or(Vec::new())
    }

    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self, Expr::And(v) if v.is_empty())
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Expr::Or(v) if v.is_empty())
    }

    /// Rows that match every part.
    #[must_use]
    pub fn and(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::And(inner) => flat.extend(inner),
                part if part.is_none() => return part,
                part => flat.push(part),
            }
        }
        single(flat, Expr::And)
    }

    /// Rows that match at least one part.
    #[must_use]
    pub fn or(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::Or(inner) => flat.extend(inner),
                part if part.is_all() => return part,
                part => flat.push(part),
            }
        }
        single(flat, Expr::Or)
    }

    /// Rows that do not match it.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "it belongs with `and` and `or`, which are not operators")]
    pub fn not(expr: Expr) -> Expr {
        match expr {
            e if e.is_all() => Expr::none(),
            e if e.is_none() => Expr::all(),
            e => Expr::Not(Box::new(e)),
        }
    }

    /// The same, with what ss adds to `autobound`: the port is in the ephemeral range. The kernel's own test alone
    /// is also true for every accepted connection, because its socket was never bound explicitly.
    #[must_use]
    pub fn autobound_within(self, (low, high): (u16, u16)) -> Expr {
        let each = |parts: Vec<Expr>| parts.into_iter().map(|e| e.autobound_within((low, high))).collect();
        match self {
            Expr::And(parts) => Expr::and(each(parts)),
            Expr::Or(parts) => Expr::or(each(parts)),
            Expr::Not(inner) => Expr::not(inner.autobound_within((low, high))),
            Expr::Test(Test::Autobound) => {
                let port = |cmp, port| Expr::Test(Test::Port(End::Local, cmp, port));
                Expr::and(vec![Expr::Test(Test::Autobound), port(Cmp::Ge, low), port(Cmp::Le, high)])
            }
            other @ Expr::Test(_) => other,
        }
    }

    /// Rows in one of these states.
    #[must_use]
    pub fn states(states: StateSet) -> Expr {
        if states == StateSet::ALL {
            Expr::all()
        } else if states == StateSet::EMPTY {
            Expr::none()
        } else {
            Expr::Test(Test::States(states))
        }
    }

    /// Rows of one family.
    #[must_use]
    pub const fn family(family: Family) -> Expr {
        Expr::Test(Test::Family(family))
    }

    /// Rows held by a process.
    ///
    /// # Panics
    /// Never: the table has the column, which a test checks.
    #[must_use]
    pub fn pid(pid: u32) -> Expr {
        on("pid", |column| Test::Number(column, Cmp::Eq, pid.into()))
    }

    /// Rows held by a process of this name (`*` matches anything), or with this pid.
    #[must_use]
    pub fn process(name: &str) -> Expr {
        on("process", |column| Test::Text(column, Cmp::Eq, Pattern::new(name)))
    }

    /// Rows held by a process of this systemd unit (`*` matches anything).
    #[must_use]
    pub fn unit(name: &str) -> Expr {
        on("unit", |column| Test::Text(column, Cmp::Eq, Pattern::new(name)))
    }

    /// Rows of a container, by its name, its id or the first 12 digits of that (`*` matches anything).
    #[must_use]
    pub fn container(word: &str) -> Expr {
        on("container", |column| Test::Text(column, Cmp::Eq, Pattern::new(word)))
    }

    /// Rows of a pod, by its name with or without its namespace, or by its id (`*` matches anything).
    #[must_use]
    pub fn pod(word: &str) -> Expr {
        let of = |word: &str| on("pod", |column| Test::Text(column, Cmp::Eq, Pattern::new(word)));
        if word.contains('/') { of(word) } else { Expr::or(vec![of(word), of(&format!("*/{word}"))]) }
    }

    /// Rows that belong to a user, by name or id.
    ///
    /// # Errors
    /// When the system has no such user.
    pub fn user(user: &str, resolver: &dyn Resolver) -> Result<Expr, String> {
        let uid = value::user(user, resolver).map_err(super::Problem::one_line)?;
        Ok(on("uid", |column| Test::Number(column, Cmp::Eq, uid.into())))
    }

    /// Rows with one of these ports at either end: `443`, `:ssh`, `80,443,8000-8100`.
    ///
    /// # Errors
    /// The word that is not a port, with examples of valid ones.
    pub fn parse_port(list: &str, resolver: &dyn Resolver) -> Result<Expr, String> {
        let ranges = value::ports(list, resolver).map_err(super::Problem::one_line)?;
        Ok(value::either_port(Cmp::Eq, &ranges))
    }

    /// Rows with this address or port at one end: `10.0.0.0/8`, `1.2.3.4:443`, `:443`, `[::1]:80`, `fe80::1%eth0`,
    /// or a comma-separated list of these.
    ///
    /// # Errors
    /// The word that is not an endpoint, with examples of valid ones.
    pub fn parse_endpoint(text: &str, end: End, resolver: &dyn Resolver) -> Result<Expr, String> {
        value::endpoints(text, end, resolver).map_err(super::Problem::one_line)
    }
}

/// A test on a column of this crate's own table; false if it lacked the column.
fn on(name: &str, test: impl FnOnce(Col) -> Test) -> Expr {
    Col::find(name).map_or_else(Expr::none, |column| Expr::Test(test(column)))
}

/// A single part is returned as it is.
fn single(mut parts: Vec<Expr>, wrap: fn(Vec<Expr>) -> Expr) -> Expr {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            wrap(parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_column_is_in_the_table_by_that_name() {
        for (name, special) in Special::NAMED {
            assert_eq!(Col::find(name).map(|c| (c.0.name, c.1)), Some((name, special)));
        }
        assert_eq!(Col::find("rtt").map(|c| c.1), Some(Special::None));
        assert_eq!(Col::find("RECV_Q"), Col::find("recv-q"));
        assert_ne!(Col::find("recv-q"), Col::find("send-q"));
    }
}
