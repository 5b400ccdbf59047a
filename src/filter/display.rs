//! An expression as text that parses to the same expression, with no names to look up.

use std::fmt::{self, Write};

use super::expr::{Cmp, End, Expr, Net, Pattern, Test};
use super::lex::is_word_char;
use crate::model::column::Kind;
use crate::model::state::GROUPS;
use crate::model::{State, StateSet};

/// How tightly the surroundings bind.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Level {
    Or,
    And,
    Not,
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, self, Level::Or)
    }
}

fn write_expr(f: &mut fmt::Formatter<'_>, expr: &Expr, level: Level) -> fmt::Result {
    let (parts, word, own) = match expr {
        Expr::And(parts) if parts.is_empty() => return f.write_str("all"),
        Expr::Or(parts) if parts.is_empty() => return f.write_str("none"),
        Expr::And(parts) => (parts, " and ", Level::And),
        Expr::Or(parts) => (parts, " or ", Level::Or),
        Expr::Not(inner) => {
            f.write_str("not ")?;
            return write_expr(f, inner, Level::Not);
        }
        Expr::Test(test) => return write_test(f, test),
    };
    let bracket = level > own;
    if bracket {
        f.write_char('(')?;
    }
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(word)?;
        }
        write_expr(f, part, own)?;
    }
    if bracket {
        f.write_char(')')?;
    }
    Ok(())
}

const fn end_name(end: End, local: &'static str, peer: &'static str) -> &'static str {
    match end {
        End::Local => local,
        End::Peer => peer,
    }
}

fn write_test(f: &mut fmt::Formatter<'_>, test: &Test) -> fmt::Result {
    match test {
        Test::States(set) => write_states(f, *set),
        Test::Family(family) => write!(f, "family = {}", family.key()),
        Test::Port(end, cmp, port) => write!(f, "{} {} {port}", end_name(*end, "sport", "dport"), cmp.sign()),
        Test::Host(end, net, port) => {
            write!(f, "{} = ", end_name(*end, "src", "dst"))?;
            match net {
                Net::V4(net) if net.prefix_len() == 32 => write!(f, "{}", net.addr())?,
                Net::V4(net) => write!(f, "{net}")?,
                Net::V6(net) if net.prefix_len() == 128 => write!(f, "[{}]", net.addr())?,
                Net::V6(net) => write!(f, "[{net}]")?,
            }
            port.map_or(Ok(()), |port| write!(f, ":{port}"))
        }
        Test::Interface(cmp, index) => write!(f, "dev {} {index}", cmp.sign()),
        Test::Mark(cmp, value, u32::MAX) => write!(f, "fwmark {} {value:#x}", cmp.sign()),
        Test::Mark(cmp, value, mask) => write!(f, "fwmark {} {value:#x}/{mask:#x}", cmp.sign()),
        Test::Cgroup(cmp, id) => write!(f, "cgroup {} {id}", cmp.sign()),
        Test::Autobound => f.write_str("autobound"),
        Test::Number(column, cmp, value) if column.0.kind == Kind::Id => {
            write!(f, "{} {} {value:#x}", column.0.name, cmp.sign())
        }
        Test::Number(column, cmp, value) => write!(f, "{} {} {value}", column.0.name, cmp.sign()),
        Test::Time(column, cmp, us) => {
            write!(f, "{} {} ", column.0.name, cmp.sign())?;
            write_time(f, *us)
        }
        Test::Age(cmp, us) => {
            write!(f, "age {} ", cmp.sign())?;
            write_time(f, *us)
        }
        Test::Flag(column, cmp, value) => {
            write!(f, "{} {} {}", column.0.name, cmp.sign(), if *value { "yes" } else { "no" })
        }
        Test::Text(column, cmp, pattern) => write_text(f, column.0.name, *cmp, pattern),
    }
}

/// Time units, largest first.
pub(super) const TIME_UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];

fn write_time(f: &mut fmt::Formatter<'_>, us: u64) -> fmt::Result {
    if us == 0 {
        return f.write_str("0s");
    }
    for (unit, size) in TIME_UNITS {
        if us.is_multiple_of(size) {
            return write!(f, "{}{unit}", us / size);
        }
    }
    Ok(())
}

/// Sets built from words hold all unnamed states or none, so one of the two forms fits.
fn write_states(f: &mut fmt::Formatter<'_>, set: StateSet) -> fmt::Result {
    if let Some((name, ..)) = GROUPS.iter().find(|(_, group, _)| *group == set) {
        return write!(f, "state {name}");
    }
    let named = set.iter().fold(StateSet::EMPTY, |all, s| all.union(StateSet::of(&[s])));
    let (word, listed) = if named == set { ("state", set) } else { ("exclude", set.complement()) };
    let mut separator = ' ';
    f.write_str(word)?;
    for state in State::ALL.into_iter().filter(|s| listed.contains(*s)) {
        write!(f, "{separator}{}", state.key().replace('_', "-"))?;
        separator = ',';
    }
    Ok(())
}

fn write_text(f: &mut fmt::Formatter<'_>, name: &str, cmp: Cmp, pattern: &Pattern) -> fmt::Result {
    write!(f, "{name} {} ", cmp.sign())?;
    let text = pattern.text.as_str();
    if !text.is_empty() && text.chars().all(is_word_char) {
        return f.write_str(text);
    }
    // The language has no escapes: a text with both kinds of quotes is written in parts.
    if !text.contains('"') {
        return write!(f, "\"{text}\"");
    }
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            f.write_str("'\"'")?;
        }
        if !part.is_empty() {
            write!(f, "\"{part}\"")?;
        }
    }
    Ok(())
}
