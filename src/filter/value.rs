//! Values of the filter language: ports, endpoints, durations, sizes, names.
//!
//! Input: one word. Output: a number, a part of an expression, or a [`Problem`] without a position.
//!
//! Circle with `expr`, `display`: a word becomes a part of an expression, with the units of its text.

use std::net::{IpAddr, Ipv4Addr};

use super::display::TIME_UNITS;
use super::expr::{Cmp, End, Expr, Net, Test};
use super::{Problem, Resolver, show};
use crate::model::Family;

/// First and last port.
pub(super) type PortRange = (u16, u16);

fn port_number(word: &str) -> Result<u16, Problem> {
    word.parse().map_err(|_| Problem::new(format!("{} is not a port", show(word)), "0 to 65535"))
}

fn all_digits(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

/// A port, a service or a range.
fn port_range(word: &str, resolver: &dyn Resolver) -> Result<PortRange, Problem> {
    let bare = word.strip_prefix(':').unwrap_or(word);
    if bare == "*" {
        return Ok((0, u16::MAX));
    }
    if all_digits(bare) {
        return port_number(bare).map(|p| (p, p));
    }
    if let Some((low, high)) = bare.split_once('-')
        && all_digits(low)
        && all_digits(high)
    {
        let range = (port_number(low)?, port_number(high)?);
        if range.0 > range.1 {
            return Err(Problem::new(format!("{} is an empty range", show(bare)), "the lower port first"));
        }
        return Ok(range);
    }
    resolver.port(bare).map(|p| (p, p)).ok_or_else(|| {
        Problem::new(
            format!("{} is not a port", show(bare)),
            "0 to 65535, a range such as 8000-8100, or a service name that this system knows",
        )
    })
}

/// A list of ports, services and ranges.
pub(super) fn ports(list: &str, resolver: &dyn Resolver) -> Result<Vec<PortRange>, Problem> {
    list.split(',').map(|word| port_range(word.trim(), resolver)).collect()
}

/// One end's port in these ranges; `None` when the comparison does not apply to a list or a range.
pub(super) fn port(end: End, cmp: Cmp, ranges: &[PortRange]) -> Option<Expr> {
    let test = |cmp, port| Expr::Test(Test::Port(end, cmp, port));
    match (cmp, ranges) {
        (Cmp::Eq | Cmp::Ne | Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge, &[(low, high)]) if low == high => {
            Some(test(cmp, low))
        }
        (Cmp::Eq, _) => Some(Expr::or(
            ranges
                .iter()
                .map(|&(low, high)| match (low, high) {
                    (0, u16::MAX) => Expr::all(),
                    _ if low == high => test(Cmp::Eq, low),
                    _ => Expr::and(vec![test(Cmp::Ge, low), test(Cmp::Le, high)]),
                })
                .collect(),
        )),
        (Cmp::Ne, _) => port(end, Cmp::Eq, ranges).map(Expr::not),
        _ => None,
    }
}

/// Either end's port in these ranges; `!=` means neither.
pub(super) fn either_port(cmp: Cmp, ranges: &[PortRange]) -> Expr {
    if cmp == Cmp::Ne {
        return Expr::not(either_port(Cmp::Eq, ranges));
    }
    Expr::or([End::Local, End::Peer].into_iter().filter_map(|end| port(end, cmp, ranges)).collect())
}

/// Strips `inet:` or `inet6:`. As in ss it is the family of the socket: an IPv4-mapped address is inet6.
pub(super) fn family_prefix(word: &str) -> Result<(Option<Family>, &str), Problem> {
    if let Some(rest) = word.strip_prefix("inet:") {
        return Ok((Some(Family::V4), rest));
    }
    if let Some(rest) = word.strip_prefix("inet6:") {
        return Ok((Some(Family::V6), rest));
    }
    for other in ["unix:", "link:", "netlink:", "vsock:"] {
        if word.starts_with(other) {
            return Err(Problem::new(format!("`{other}` has no TCP sockets"), "inet: or inet6:"));
        }
    }
    Ok((None, word))
}

const ENDPOINT_FORMS: &str = "ADDRESS, ADDRESS/PREFIX, ADDRESS:PORT, [IPV6]:PORT, HOST or :PORT, such as 10.0.0.0/8";

fn no_address(word: &str) -> Problem {
    if word.matches(':').count() > 1 && !word.contains('[') {
        return Problem::new(
            format!("{} is not an address", show(word)),
            "an IPv6 address; with a port it needs brackets: [::1]:443",
        );
    }
    if all_digits(word) {
        let expected = format!("an address; for a port write :{word}");
        return Problem::new(format!("{} is not an address", show(word)), expected);
    }
    if word.contains(|c: char| c.is_ascii_alphabetic()) {
        let found = format!("{} is not an address, and no host of that name was found", show(word));
        return Problem::new(found, ENDPOINT_FORMS);
    }
    Problem::new(format!("{} is not an address", show(word)), ENDPOINT_FORMS)
}

/// A list of endpoints.
pub(super) fn endpoints(list: &str, end: End, resolver: &dyn Resolver) -> Result<Expr, Problem> {
    list.split(',').map(|word| endpoint(word.trim(), end, resolver)).collect::<Result<Vec<_>, _>>().map(Expr::or)
}

/// The parts of `ADDRESS%SCOPE/PREFIX:PORT`, IPv6 with or without brackets around any of the first three.
struct Parts<'a> {
    addr: &'a str,
    scope: Option<&'a str>,
    prefix: Option<&'a str>,
    port: Option<&'a str>,
}

fn split_endpoint(word: &str) -> Option<Parts<'_>> {
    let (inside, outside, port) = if let Some(rest) = word.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']')?;
        match rest.split_once(':') {
            Some((outside, port)) => (inside, outside, Some(port)),
            None => (inside, rest, None),
        }
    } else {
        match word.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, "", Some(port)),
            _ => (word, "", None),
        }
    };
    let mut parts = Parts { addr: inside, scope: None, prefix: None, port };
    if let Some((rest, prefix)) = parts.addr.split_once('/') {
        (parts.addr, parts.prefix) = (rest, Some(prefix));
    }
    if let Some((rest, scope)) = parts.addr.split_once('%') {
        (parts.addr, parts.scope) = (rest, Some(scope));
    }
    let mut outside = outside;
    if let Some((rest, prefix)) = outside.split_once('/') {
        if parts.prefix.replace(prefix).is_some() {
            return None;
        }
        outside = rest;
    }
    if !outside.is_empty() && parts.scope.replace(outside.strip_prefix('%')?).is_some() {
        return None;
    }
    Some(parts)
}

/// An IPv4 block may omit trailing zeroes, as in ss: `193.233.7/24`.
fn short_v4(addr: &str) -> Option<IpAddr> {
    let mut octets = [0; 4];
    let mut parts = addr.split('.');
    for octet in &mut octets {
        match parts.next() {
            Some(part) if all_digits(part) && part.len() <= 3 => *octet = part.parse().ok()?,
            Some(_) => return None,
            None => break,
        }
    }
    (parts.next().is_none() && !addr.is_empty()).then(|| IpAddr::V4(octets.into()))
}

/// Letters, digits, dots and hyphens, with at least one letter: anything else is a typo and not a name to look up.
fn is_host_name(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_alphabetic())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn endpoint(word: &str, end: End, resolver: &dyn Resolver) -> Result<Expr, Problem> {
    let (family, rest) = family_prefix(word)?;
    if rest.is_empty() {
        return Err(Problem::new("an address is missing", ENDPOINT_FORMS));
    }
    let parts = split_endpoint(rest).ok_or_else(|| no_address(rest))?;
    let port = match parts.port {
        None | Some("*") => None,
        Some("") => return Err(Problem::new(format!("a port is missing in {}", show(rest)), ":PORT, such as :443")),
        Some(port) => match port_range(port, resolver)? {
            (low, high) if low == high => Some(low),
            _ => return Err(Problem::new(format!("{} is not one port", show(port)), "0 to 65535")),
        },
    };
    let wildcard = matches!(parts.addr, "" | "*");
    let nets: Vec<Net> = if wildcard {
        if parts.prefix.is_some() || (parts.addr.is_empty() && parts.port.is_none() && parts.scope.is_none()) {
            return Err(no_address(rest));
        }
        Vec::new()
    } else {
        let mut nets = nets(&parts, rest, resolver)?;
        // An IPv4 block under `inet6:` means its mapped addresses, unless the host has others.
        let v6 = nets.iter().any(|net| matches!(net, Net::V6(_)));
        nets.retain(|net| match (family, net) {
            (Some(Family::V4), Net::V6(_)) => false,
            (Some(Family::V6), Net::V4(_)) => !v6,
            _ => true,
        });
        if nets.is_empty() {
            return Err(Problem::new(
                format!("{} is not of that family", show(rest)),
                "an address of the family named",
            ));
        }
        nets
    };
    let host = match (&nets[..], port) {
        ([], Some(port)) => Expr::Test(Test::Port(end, Cmp::Eq, port)),
        ([], None) => Expr::all(),
        (nets, port) => Expr::or(nets.iter().map(|net| Expr::Test(Test::Host(end, *net, port))).collect()),
    };
    let of_family = family.map_or_else(Expr::all, Expr::family);
    let Some(scope) = parts.scope else { return Ok(Expr::and(vec![of_family, host])) };
    let index = interface(scope, resolver)?;
    Ok(Expr::and(vec![of_family, host, Expr::Test(Test::Interface(Cmp::Eq, index))]))
}

/// The length of a prefix written as a mask: `255.255.0.0`.
fn of_mask(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then(|| u8::try_from(bits.leading_ones()).unwrap_or(u8::MAX))
}

/// The block, or the addresses of the host.
fn nets(parts: &Parts<'_>, word: &str, resolver: &dyn Resolver) -> Result<Vec<Net>, Problem> {
    let addr = match parts.addr.parse::<IpAddr>() {
        Ok(addr) => addr,
        Err(_) if parts.prefix.is_some() => short_v4(parts.addr).ok_or_else(|| no_address(word))?,
        Err(_) if is_host_name(parts.addr) => {
            let found = resolver.addresses(parts.addr);
            let nets = found.into_iter().filter_map(|addr| Net::new(addr, if addr.is_ipv4() { 32 } else { 128 }));
            let nets: Vec<Net> = nets.collect();
            return if nets.is_empty() { Err(no_address(word)) } else { Ok(nets) };
        }
        Err(_) => return Err(no_address(word)),
    };
    let widest = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = match parts.prefix {
        None => widest,
        Some(p) if all_digits(p) && p.len() <= 3 => p.parse().unwrap_or(u8::MAX),
        Some(p) => p.parse().ok().filter(|_| addr.is_ipv4()).and_then(of_mask).unwrap_or(u8::MAX),
    };
    Net::new(addr, prefix).map(|net| vec![net]).ok_or_else(|| {
        let found = format!("{} is not a prefix length", show(parts.prefix.unwrap_or_default()));
        Problem::new(found, format!("0 to {widest}"))
    })
}

/// An interface by name or index.
pub(super) fn interface(word: &str, resolver: &dyn Resolver) -> Result<u32, Problem> {
    if all_digits(word)
        && let Ok(index) = word.parse()
    {
        return Ok(index);
    }
    resolver.interface(word).ok_or_else(|| {
        Problem::new(format!("there is no interface {}", show(word)), "a name that `ip link` shows, or an index")
    })
}

/// A user by name or id.
pub(super) fn user(word: &str, resolver: &dyn Resolver) -> Result<u32, Problem> {
    if all_digits(word)
        && let Ok(id) = word.parse()
    {
        return Ok(id);
    }
    resolver
        .user(word)
        .ok_or_else(|| Problem::new(format!("there is no user {}", show(word)), "a login name or a user id"))
}

/// A cgroup by path or id.
pub(super) fn cgroup(word: &str, resolver: &dyn Resolver) -> Result<u64, Problem> {
    if all_digits(word)
        && let Ok(id) = word.parse()
    {
        return Ok(id);
    }
    resolver.cgroup(word).ok_or_else(|| {
        Problem::new(
            format!("there is no cgroup {}", show(word)),
            "a path below the cgroup v2 mount, such as /system.slice, or a cgroup id",
        )
    })
}

/// A decimal or hexadecimal number.
pub(super) fn integer(word: &str) -> Result<u64, Problem> {
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let parsed = match hex {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        None if all_digits(word) => word.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| {
        Problem::new(format!("{} is not a whole number", show(word)), "a number such as 10 or 0x1f, without a unit")
    })
}

/// `VALUE` or `VALUE/MASK`.
pub(super) fn mark(word: &str) -> Result<(u32, u32), Problem> {
    let narrow = |word: &str| integer(word).ok().and_then(|v| u32::try_from(v).ok());
    let (value, mask) = word.split_once('/').unwrap_or((word, "0xffffffff"));
    narrow(value).zip(narrow(mask)).ok_or_else(|| {
        Problem::new(format!("{} is not a mark", show(word)), "VALUE or VALUE/MASK of 32 bits, such as 0x1/0xff")
    })
}

/// `yes` or `no`.
pub(super) fn flag(word: &str) -> Result<bool, Problem> {
    match word.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(Problem::new(format!("{} is neither yes nor no", show(word)), "yes or no")),
    }
}

/// A number at the start of the text, in billionths, and the rest.
fn leading_number(text: &str) -> Option<(u128, &str)> {
    let whole = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(whole);
    let mut billionths: u128 = digits.parse::<u64>().ok()?.into();
    billionths *= 1_000_000_000;
    let Some(fraction) = rest.strip_prefix('.') else { return Some((billionths, rest)) };
    let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 || len > 9 {
        return None;
    }
    let (digits, rest) = fraction.split_at(len);
    let scale = 10u128.pow(9 - u32::try_from(len).ok()?);
    Some((billionths + u128::from(digits.parse::<u64>().ok()?) * scale, rest))
}

/// A duration in microseconds: `10s`, `1.5ms`, `1h30m`. Only zero may omit the unit.
pub(super) fn duration_us(word: &str) -> Result<u64, Problem> {
    const FORMS: &str = "a duration in us, ms, s, m, h or d, such as 500ms, 10s or 1h30m";
    let bad = || Problem::new(format!("{} is not a duration", show(word)), FORMS);
    let mut rest = word;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (billionths, after) = leading_number(rest).ok_or_else(bad)?;
        if after.is_empty() {
            if rest == word && billionths == 0 {
                return Ok(0);
            }
            let found = format!("{} needs a unit, such as {}s", show(word), show(word).trim_matches('`'));
            return Err(Problem::new(found, FORMS));
        }
        let len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(len);
        let unit = match unit {
            "µs" | "μs" => "us",
            "sec" => "s",
            "min" => "m",
            other => other,
        };
        let size = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| u128::from(*size));
        let us = billionths * size.ok_or_else(bad)?;
        if us % 1_000_000_000 != 0 {
            return Err(Problem::new(format!("{} is finer than a microsecond", show(word)), FORMS));
        }
        total += us / 1_000_000_000;
        rest = next;
    }
    if word.is_empty() {
        return Err(bad());
    }
    u64::try_from(total).map_err(|_| Problem::new(format!("{} is too long", show(word)), "less than 500000 years"))
}

/// A size in bytes: `65536`, `64k`, `1.5MiB`; `kB` and the like are powers of 1000.
pub(super) fn bytes(word: &str) -> Result<u64, Problem> {
    let bad = || {
        Problem::new(format!("{} is not a size", show(word)), "bytes, such as 4096, 64k, 1.5M (1024) or 64kB (1000)")
    };
    let (billionths, suffix) = leading_number(word).ok_or_else(bad)?;
    let size: u128 = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    let scaled = billionths * size;
    if !scaled.is_multiple_of(1_000_000_000) {
        return Err(bad());
    }
    u64::try_from(scaled / 1_000_000_000).map_err(|_| bad())
}
