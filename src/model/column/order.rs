//! The order of rows sorted by a column.

use std::cmp::Ordering;
use std::net::IpAddr;

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

/// A number in whose order values are, as [`order`] has them, and whether it is the whole of the value: two of the same
/// number have to be compared unless both are.
#[must_use]
pub fn prefix(value: &Value<'_>, descending: bool) -> (u128, bool) {
    if is_missing(value) {
        return (u128::MAX, true);
    }
    let (rank, is_whole) = rank(value);
    if rank >= LAST {
        return (if descending { 0 } else { LAST }, false);
    }
    (if descending { LAST - rank } else { rank }, is_whole)
}

/// What no value is but those that are missing.
const LAST: u128 = u128::MAX - 1;
const HIGH: u128 = 1 << 127;

/// The first bytes of a text, which are all of it if none is 0.
fn first_bytes(text: &str) -> (u128, bool) {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte);
    (u128::from_be_bytes(bytes), text.len() <= bytes.len() && !text.contains('\0'))
}

fn rank_of_addr(addr: IpAddr, port: u16) -> (u128, bool) {
    match addr {
        IpAddr::V4(addr) => (u128::from(addr.to_bits()) << 16 | u128::from(port), true),
        IpAddr::V6(addr) => (HIGH | addr.to_bits() >> 1, false),
    }
}

/// Name, pid and descriptor of the first holder. A name of more than eight bytes leaves no room for the others, and comes
/// behind every pid of the name that is its beginning.
fn rank_of_holders(all: &[Holder], owners: &OwnerTable) -> (u128, bool) {
    const ROOM: u128 = (1 << 56) - 1;
    let process = owners.process(&all[0]);
    // No kernel has a name with a 0 in it, but a recording may.
    let name = process.comm.split('\0').next().unwrap_or("");
    let (bytes, _) = first_bytes(name);
    if name.len() > 8 {
        return (bytes, false);
    }
    if name.len() < process.comm.len() || process.pid >> 24 > 0 {
        return (bytes | ROOM, false);
    }
    (bytes | u128::from(process.pid) << 32 | u128::from(all[0].fd), all.len() == 1)
}

/// The same of a value that exists, in ascending order.
fn rank(value: &Value<'_>) -> (u128, bool) {
    match value {
        Value::Unknown | Value::Absent | Value::Unlimited | Value::Actor(_) => (LAST, false),
        Value::Number(n) => ((*n).into(), true),
        Value::Named(n, None) => ((*n).into(), true),
        Value::Named(_, Some(name)) => (HIGH | first_bytes(name).0 >> 1, false),
        Value::Flag(flag) => (u128::from(*flag), true),
        Value::Text(text) => first_bytes(text),
        Value::State(state) => (state.index() as u128, true),
        Value::Addr(addr) => rank_of_addr(*addr, 0),
        Value::Endpoint(end, _) => rank_of_addr(end.addr, end.port),
        Value::Age(age) => (age.min_ms.into(), false),
        Value::Each(holders, owners, get) => {
            let (rank, is_whole) = prefix(&get(owners.process(&holders[0]), holders[0].fd), false);
            (rank.min(LAST), is_whole && rank < LAST)
        }
        Value::Holders(holders, owners, _) => rank_of_holders(holders, owners),
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

    #[test]
    fn a_prefix_never_contradicts_the_order() {
        use crate::model::socket::AgeBracket;
        use crate::model::{Endpoint, State};
        let process = |pid, comm: &str| Process { pid, comm: comm.into(), ..Process::default() };
        let names = [
            "nginx",
            "nginx",
            "nginx-worker-1",
            "nginx-worker-2",
            "",
            "nginx-wo",
            "a-name-of-16-byte",
            "a-name-of-16-bytes",
            "nginx\0",
            "nginx-wo\0",
            "nginx",
        ];
        let pids = (9..19).chain([u32::MAX]);
        let processes = names.iter().zip(pids).map(|(name, pid)| process(pid, name)).collect();
        let owners = OwnerTable::new(processes, Vec::new(), 0);
        let held: Vec<[Holder; 1]> =
            (0..11).map(|process| [Holder { inode: None, process, fd: 3 + process % 2 }]).collect();
        let text = |text: &'static str| Value::Text(text.into());
        let named = |n, name: Option<&str>| Value::Named(n, name.map(Into::into));
        let mut columns = vec![
            [0, 1, u64::MAX - 2, u64::MAX - 1, u64::MAX].map(Value::Number).to_vec(),
            [
                "",
                "a",
                "a\0",
                "ab",
                "abcdefgh",
                "abcdefgh\0",
                "abcdefghi",
                "abcdefghijklmnop",
                "abcdefghijklmnopq",
                "\u{10ffff}\u{10ffff}",
            ]
            .map(text)
            .to_vec(),
            vec![
                named(7, None),
                named(u64::MAX, None),
                named(1 << 63, None),
                named(3, Some("root")),
                named(1, Some("")),
            ],
            vec![Value::Flag(false), Value::Flag(true)],
            State::ALL.map(Value::State).to_vec(),
            [
                "10.0.0.1:80",
                "10.0.0.1:81",
                "255.255.255.255:1",
                "[::]:0",
                "[::1]:5",
                "[2001:db8::1]:5",
                "[ffff::]:65535",
            ]
            .map(|end| Value::Endpoint(Endpoint::at(end), None))
            .to_vec(),
            ["0.0.0.0:0", "255.255.255.255:0", "[::]:0", "[::1]:0", "[ffff::1]:0"]
                .map(|end| Value::Addr(Endpoint::at(end).addr))
                .to_vec(),
            [(0, None), (5, None), (5, Some(5)), (5, Some(9)), (u64::MAX, None)]
                .map(|(min_ms, max_ms)| Value::Age(AgeBracket { min_ms, max_ms }))
                .to_vec(),
            held.iter().map(|held| Value::Holders(held, &owners, OwnerStatus::Known)).collect(),
            held.iter().map(|held| Value::Each(held, &owners, |_, fd| Value::Number(fd.into()))).collect(),
            held.iter()
                .map(|held| Value::Each(held, &owners, |process, _| Value::Text((*process.comm).into())))
                .collect(),
            held.iter()
                .map(|held| {
                    Value::Each(held, &owners, |p, _| if p.pid < 11 { Value::Unknown } else { Value::Unlimited })
                })
                .collect(),
        ];
        columns[0].push(Value::Unlimited);
        for mut values in columns {
            values.extend([Value::Unknown, Value::Absent]);
            for descending in [false, true] {
                for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
                    let ((first, whole), (second, too)) = (prefix(a, descending), prefix(b, descending));
                    let wanted = order(a, b, descending);
                    let said = first.cmp(&second);
                    assert!(
                        said == wanted || said == Ordering::Equal && !(whole && too),
                        "{first} {second} {descending}"
                    );
                }
            }
        }
    }
}
