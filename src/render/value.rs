//! Values as text: for people with units, for machines as plain numbers in the unit of the column.
//!
//! Input: a [`Value`] and the [`Kind`] of its column. Output: text appended to a buffer.

use std::fmt::Write;

use crate::model::addr::write_endpoint;
use crate::model::column::{Kind, Value};
use crate::model::digits::Digits;
use crate::model::socket::AgeBracket;
use crate::model::{Holder, OwnerStatus, OwnerTable};
use crate::render::sanitize;
use crate::text;

/// Appends a value for people: units, names without escapes, `?` for unknown, `-` for none.
pub fn write_human(out: &mut String, kind: Kind, value: &Value<'_>) {
    match value {
        Value::Unknown => out.push('?'),
        Value::Absent => out.push('-'),
        Value::Unlimited => out.push_str("unlimited"),
        Value::Number(n) => match kind {
            Kind::Millis => write_fmt(out, format_args!("{}", text::compact_ms(*n))),
            Kind::Micros => write_fmt(out, format_args!("{}", text::compact_us(*n))),
            Kind::BytesPerSecond => write_scaled(out, *n, "/s"),
            Kind::Id => write_fmt(out, format_args!("{n:#x}")),
            _ => write_number(out, *n),
        },
        Value::Flag(flag) => out.push_str(if *flag { "yes" } else { "no" }),
        Value::Text(word) => sanitize::push(out, word),
        Value::Named(_, Some(name)) => sanitize::push(out, name),
        Value::Named(number, None) => write_number(out, *number),
        Value::State(state) => match state {
            crate::model::State::Unknown(_) => write_fmt(out, format_args!("{state}")),
            named => out.push_str(named.name()),
        },
        Value::Addr(addr) => write_fmt(out, format_args!("{addr}")),
        Value::Endpoint(endpoint, scope) => write_endpoint(out, *endpoint, scope.as_deref()),
        Value::Age(age) => write_age(out, *age),
        Value::Each(holders, owners, get) => {
            if holders.is_empty() {
                out.push('-');
            }
            each(holders, owners, *get, |i, value| {
                if i > 0 {
                    out.push(',');
                }
                write_human(out, kind, &value);
            });
        }
        Value::Actor(actor) => {
            sanitize::push(out, &actor.comm.text());
            write_fmt(out, format_args!("({})", actor.pid));
        }
        Value::Holders(holders, owners, status) => write_holders(out, holders, owners, *status, true),
    }
}

/// Appends a value for machines: base units, raw names, nothing for unknown or none.
pub fn write_raw(out: &mut String, kind: Kind, value: &Value<'_>) {
    match value {
        Value::Unknown | Value::Absent => {}
        Value::Number(n) if kind == Kind::Id => write_fmt(out, format_args!("{n:#x}")),
        Value::Number(n) => write_number(out, *n),
        Value::Flag(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Text(word) => out.push_str(word),
        Value::Named(_, Some(name)) => out.push_str(name),
        Value::State(state) => out.push_str(state.key()),
        Value::Age(age) => match (age.is_exact(), age.max_ms) {
            (true, _) => write_number(out, age.min_ms),
            (false, Some(max)) => write_fmt(out, format_args!("{}..{max}", age.min_ms)),
            (false, None) => write_fmt(out, format_args!("{}..", age.min_ms)),
        },
        Value::Each(holders, owners, get) => each(holders, owners, *get, |i, value| {
            if i > 0 {
                out.push(' ');
            }
            write_raw(out, kind, &value);
        }),
        Value::Holders(holders, owners, status) => write_holders(out, holders, owners, *status, false),
        other => write_human(out, kind, other),
    }
}

fn each<'a>(
    holders: &'a [Holder],
    owners: &'a OwnerTable,
    get: fn(&'a crate::model::Process, u32) -> Value<'a>,
    mut with: impl FnMut(usize, Value<'a>),
) {
    for (i, holder) in holders.iter().enumerate() {
        with(i, get(owners.process(holder), holder.fd));
    }
}

/// `nginx(812,fd=5) nginx(813,fd=5)`, or why there is no holder.
fn write_holders(out: &mut String, holders: &[Holder], owners: &OwnerTable, status: OwnerStatus, clean: bool) {
    if holders.is_empty() {
        out.push_str(if clean || status == OwnerStatus::NotCollected { status.words() } else { status.key() });
        return;
    }
    for (i, holder) in holders.iter().enumerate() {
        let process = owners.process(holder);
        if i > 0 {
            out.push(' ');
        }
        if clean {
            sanitize::push(out, &process.comm);
        } else {
            out.push_str(&process.comm);
        }
        out.push('(');
        write_number(out, process.pid.into());
        out.push_str(",fd=");
        write_number(out, holder.fd.into());
        out.push(')');
    }
}

/// Writing into a String cannot fail.
fn write_fmt(out: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

fn write_number(out: &mut String, n: u64) {
    out.push_str(Digits::new(n).as_str());
}

/// `17.2k/s`: three digits and a decimal prefix.
fn write_scaled(out: &mut String, n: u64, suffix: &str) {
    let (unit, name) = match n {
        0..1000 => (1, ""),
        1000..1_000_000 => (1000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "M"),
        _ => (1_000_000_000, "G"),
    };
    if unit == 1 {
        write_fmt(out, format_args!("{n}{suffix}"));
    } else {
        write_fmt(out, format_args!("{}.{}{name}{suffix}", n / unit, n % unit * 10 / unit));
    }
}

/// `4m10s` when exact, `10s..2h00m` when only bracketed, `45s+` when there is no upper bound.
pub fn write_age(out: &mut String, age: AgeBracket) {
    write_fmt(out, format_args!("{}", text::compact_ms(age.min_ms)));
    match age.max_ms {
        None => out.push('+'),
        Some(max) if max != age.min_ms => {
            out.push_str("..");
            write_fmt(out, format_args!("{}", text::compact_ms(max)));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_at_a_glance() {
        let age = |min_ms, max_ms| {
            let mut out = String::new();
            write_age(&mut out, AgeBracket { min_ms, max_ms });
            out
        };
        assert_eq!(age(250_000, Some(250_000)), "4m10s");
        assert_eq!(age(10_000, Some(7_200_000)), "10s..2h00m");
        assert_eq!(age(45_000, None), "45s+");
    }

    #[test]
    fn unknown_and_none_are_not_zero() {
        let text = |value| {
            let (mut human, mut raw) = (String::new(), String::new());
            write_human(&mut human, Kind::Bytes, &value);
            write_raw(&mut raw, Kind::Bytes, &value);
            (human, raw)
        };
        assert_eq!(text(Value::Unknown), ("?".into(), String::new()));
        assert_eq!(text(Value::Absent), ("-".into(), String::new()));
        assert_eq!(text(Value::Unlimited), ("unlimited".into(), "unlimited".into()));
        assert_eq!(text(Value::Number(0)), ("0".into(), "0".into()));
        assert_eq!(text(Value::Number(u64::MAX)).0, u64::MAX.to_string());
    }
}
