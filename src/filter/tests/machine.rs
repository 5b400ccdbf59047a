//! Programs against the kernel's machine, re-implemented here from its description.
//!
//! Input: random expressions and rows. Asserts that no wanted row is lost, and that program, states and residual
//! together equal the expression. `tests/it/filter.rs` asks the kernel itself.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::filter::bytecode::MAX_PROGRAM_BYTES;
use crate::model::column::{NoNames, Row};
use crate::model::{Endpoint, Holder, Inode, NetnsId, OwnerTable, Process, RowKind, Socket};

const EVERYTHING: Abilities = Abilities { mark: true, cgroup: true };

/// What the kernel compares (`struct inet_diag_entry`).
#[derive(Clone, Debug)]
struct DiagEntry {
    family: Family,
    local: Endpoint,
    peer: Endpoint,
    ifindex: u32,
    mark: u32,
    autobound: bool,
    /// 0 for objects without one.
    cgroup: u64,
    /// The bit of the state mask that selects it.
    bit: u8,
    kind: RowKind,
    inode: u64,
}

impl DiagEntry {
    /// The row as `collect` decodes it.
    fn socket(&self) -> Socket {
        let full = matches!(self.kind, RowKind::Full | RowKind::BoundInactive);
        Socket {
            netns: NetnsId::new(1),
            family: self.family,
            state: match State::from_kernel(self.bit) {
                State::Close => State::BoundInactive,
                state => state,
            },
            kind: self.kind,
            local: self.local,
            peer: self.peer,
            ifindex: Some(self.ifindex),
            cookie: Some(1),
            mark: Some(self.mark),
            cgroup: full.then_some(self.cgroup),
            uid: full.then_some(0),
            inode: Inode::new(self.inode),
            send_q_bytes: Some(1),
            ..Socket::default()
        }
    }
}

fn entry() -> impl Strategy<Value = DiagEntry> {
    let place = (any::<bool>(), address(), port(), address(), port());
    let rest = (0..3u32, 0..4u32, any::<bool>(), 1..3u64, 1..=14u8, any::<bool>(), select(vec![0u64, 5]));
    (place, rest).prop_map(|((v6, local, sport, peer, dport), (ifindex, mark, auto, cgroup, bit, mini, inode))| {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let fit = |addr: IpAddr| match (family, addr) {
            (Family::V4, IpAddr::V6(a)) => IpAddr::V4(a.to_ipv4().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED)),
            (Family::V6, IpAddr::V4(a)) => IpAddr::V6(a.to_ipv6_mapped()),
            (_, addr) => addr,
        };
        let kind = match State::from_kernel(bit) {
            State::TimeWait => RowKind::TimeWaitMini,
            State::FinWait2 if mini => RowKind::TimeWaitMini,
            State::SynRecv if mini || bit == 12 => RowKind::Request,
            State::Close | State::BoundInactive => RowKind::BoundInactive,
            _ => RowKind::Full,
        };
        let full = matches!(kind, RowKind::Full | RowKind::BoundInactive);
        DiagEntry {
            family,
            local: Endpoint::new(fit(local), sport),
            peer: Endpoint::new(fit(peer), dport),
            ifindex,
            mark,
            // inet_diag_bc_sk: an object other than a full socket has no user locks.
            autobound: auto || !full,
            cgroup: if full { cgroup } else { 0 },
            bit,
            kind,
            inode: if full { inode } else { 0 },
        }
    })
}

fn half(program: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(program[at..at + 2].try_into().unwrap())
}

fn word(program: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(program[at..at + 4].try_into().unwrap())
}

/// The length of an instruction by its code, or the audit's error.
fn size_of(program: &[u8], at: usize) -> Option<usize> {
    Some(match program[at] {
        1 | 6 => 4,
        2..=5 | 9 => 8,
        10 | 13 => 12,
        7 | 8 => {
            let (bits, len) = match program[at + 4] {
                0 => (0, 0),
                2 => (32, 4),
                10 => (128, 16),
                _ => return None,
            };
            if program[at + 5] > bits {
                return None;
            }
            12 + len
        }
        _ => return None,
    })
}

/// The kernel's audit: everything in range and on the path of `yes`.
fn audit(program: &[u8]) -> bool {
    let mut starts = vec![];
    let mut at = 0;
    while at < program.len() {
        starts.push(at);
        at += usize::from(program[at + 1]);
    }
    starts.push(program.len());
    starts.push(program.len() + 4);
    at == program.len()
        && starts[..starts.len() - 2].iter().all(|&at| {
            let (Some(size), yes, no) = (size_of(program, at), usize::from(program[at + 1]), half(program, at + 2))
            else {
                return false;
            };
            let no = usize::from(no);
            yes >= size
                && yes % 4 == 0
                && no >= size
                && no % 4 == 0
                && starts.contains(&(at + yes))
                && at + yes <= program.len()
                && starts.contains(&(at + no))
        })
}

fn bits(addr: IpAddr) -> (u128, u32) {
    match addr {
        IpAddr::V4(a) => (u32::from(a).into(), 32),
        IpAddr::V6(a) => (u128::from(a), 128),
    }
}

fn prefix_equal(a: u128, b: u128, width: u32, prefix: u8) -> bool {
    let shift = width - u32::from(prefix);
    if shift == 128 { true } else { a >> shift == b >> shift }
}

fn host_holds(program: &[u8], at: usize, entry: &DiagEntry) -> bool {
    let end = if program[at] == 7 { entry.local } else { entry.peer };
    let (family, prefix) = (program[at + 4], program[at + 5]);
    let port = word(program, at + 8);
    if port != u32::MAX && port != u32::from(end.port) {
        return false;
    }
    let own = if entry.family == Family::V4 { 2 } else { 10 };
    let (addr, width) = bits(end.addr);
    match (family, own) {
        (0, _) => true,
        (2, 10) => {
            let wanted = u32::from_be_bytes(program[at + 12..at + 16].try_into().unwrap());
            addr >> 32 == 0xffff && prefix_equal(addr & 0xffff_ffff, wanted.into(), 32, prefix)
        }
        (2, 2) => {
            let wanted = u32::from_be_bytes(program[at + 12..at + 16].try_into().unwrap());
            prefix_equal(addr, wanted.into(), width, prefix)
        }
        (10, 10) => {
            let wanted = u128::from_be_bytes(program[at + 12..at + 28].try_into().unwrap());
            prefix_equal(addr, wanted, width, prefix)
        }
        _ => false,
    }
}

/// `inet_diag_bc_run`.
fn run(program: &[u8], entry: &DiagEntry) -> bool {
    let mut at = 0;
    while at < program.len() {
        let operand = at + 4;
        let yes = match program[at] {
            1 => false,
            2 => entry.local.port >= half(program, operand + 2),
            3 => entry.local.port <= half(program, operand + 2),
            4 => entry.peer.port >= half(program, operand + 2),
            5 => entry.peer.port <= half(program, operand + 2),
            6 => entry.autobound,
            7 | 8 => host_holds(program, at, entry),
            9 => word(program, operand) == entry.ifindex,
            10 => entry.mark & word(program, operand + 4) == word(program, operand),
            13 => u64::from_ne_bytes(program[operand..operand + 8].try_into().unwrap()) == entry.cgroup,
            code => panic!("instruction {code}"),
        };
        at += if yes { usize::from(program[at + 1]) } else { usize::from(half(program, at + 2)) };
    }
    at == program.len()
}

/// The expression for a row whose automatic binding is known.
fn decided(expr: &Expr, autobound: bool) -> Expr {
    let all = |parts: &[Expr]| parts.iter().map(|p| decided(p, autobound)).collect();
    match expr {
        Expr::And(parts) => Expr::and(all(parts)),
        Expr::Or(parts) => Expr::or(all(parts)),
        Expr::Not(inner) => Expr::not(decided(inner, autobound)),
        Expr::Test(Test::Autobound) => {
            if autobound {
                Expr::all()
            } else {
                Expr::none()
            }
        }
        Expr::Test(test) => Expr::Test(test.clone()),
    }
}

fn owners() -> OwnerTable {
    let process = Process { pid: 812, comm: "nginx".into(), ..Process::default() };
    OwnerTable::new(vec![process], vec![Holder { inode: Inode::new(5), process: 0, fd: 3 }], 0)
}

fn check(expr: &Expr, entries: &[DiagEntry], abilities: Abilities) -> Result<(), TestCaseError> {
    let compiled = compile(expr, abilities);
    prop_assert!(compiled.program.is_empty() || audit(&compiled.program), "{}: {:?}", expr, compiled);
    prop_assert!(compiled.program.len() <= MAX_PROGRAM_BYTES);
    prop_assert_eq!(compiled.exact, compiled.residual.is_none());
    prop_assert_eq!(compiled.program.is_empty(), compiled.pushed.is_none());
    if !expr.is_kernel_only() {
        prop_assert_eq!(&compiled.unpushable, &None);
    }
    let owners = owners();
    for entry in entries {
        let socket = entry.socket();
        let row = Row::new(&socket, &owners, &NoNames);
        let wanted = decided(expr, entry.autobound).matches(&row);
        let comes = compiled.states.bits() >> entry.bit & 1 == 1 && run(&compiled.program, entry);
        let kept = comes && compiled.residual.as_ref().is_none_or(|r| decided(r, entry.autobound).matches(&row));
        // A row in state 7 is between two states: it may be missed, but never invented.
        if entry.bit != 7 {
            prop_assert!(!wanted || comes, "{} loses {:?}: {:?}", expr, entry, compiled);
        }
        prop_assert!(!kept || wanted, "{} invents {:?}: {:?}", expr, entry, compiled);
        if let (Some(pushed), true) = (&compiled.pushed, compiled.unpushable.is_none()) {
            let says = decided(pushed, entry.autobound).matches(&row);
            prop_assert_eq!(says, run(&compiled.program, entry), "{} is not what is run", pushed);
        }
        if let Some(family) = expr.family_bound() {
            prop_assert!(!wanted || family == entry.family);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_wanted_row_is_lost(
        expr in expr(7),
        entries in proptest::collection::vec(entry(), 12),
        mark in any::<bool>(),
        cgroup in any::<bool>(),
    ) {
        // A process without the right to filter on marks does not see them, so comparing them is never true. Rows
        // here always carry marks, which is the stricter test.
        check(&expr, &entries, Abilities { mark, cgroup })?;
    }

    #[test]
    fn what_the_kernel_can_check_is_checked_exactly(
        expr in expr(10).prop_filter("only the kernel's", |e| e.needs() == crate::model::column::Needs::NONE),
        entries in proptest::collection::vec(entry(), 12),
    ) {
        check(&expr, &entries, EVERYTHING)?;
    }
}

#[test]
fn what_goes_where() {
    for (text, pushed, residual) in [
        ("state time-wait and dport = 443", "dport = 443", ""),
        ("state time-wait and not dport = 443", "dport != 443", ""),
        ("dport = 443 and pid = 1", "dport = 443", "pid = 1"),
        ("dport = 443 or pid = 1", "", "dport = 443 or pid = 1"),
        ("not (dport = 443 or pid = 1)", "dport != 443", "not pid = 1"),
        ("(dport 1 and pid = 1) or dport 2", "dport = 1 or dport = 2", "dport = 1 and pid = 1 or dport = 2"),
        ("autobound and pid = 1", "autobound", "pid = 1"),
        ("not autobound or dport 1", "not autobound or dport = 1", ""),
        ("state listen or dport 1", "", "state listen or dport = 1"),
        ("state close and dport 1", "dport = 1", "state close"),
        ("dport > 65535", "none", ""),
        ("dport >= 0", "", ""),
        ("", "", ""),
        ("family = ipv4", "family = ipv4", ""),
    ] {
        let compiled = compile(&parsed(text), EVERYTHING);
        let show = |e: &Option<Expr>| e.as_ref().map(Expr::to_string).unwrap_or_default();
        assert_eq!(show(&compiled.pushed), pushed, "{text}");
        assert_eq!(show(&compiled.residual), residual, "{text}");
        assert_eq!(compiled.unpushable, None, "{text}");
    }
    let held_back = compile(&parsed("fwmark 1 and cgroup 77"), Abilities { mark: false, cgroup: false });
    assert!(held_back.program.is_empty() && !held_back.exact);
}

#[test]
fn what_only_the_kernel_knows_and_cannot_be_asked_is_an_error() {
    for text in ["autobound or pid = 1", "not (autobound and pid = 1)", "state listen or autobound"] {
        let why = compile(&parsed(text), EVERYTHING).unpushable.unwrap();
        assert!(why.contains("autobound") && why.contains("`and`"), "{why}");
    }
}

#[test]
fn a_program_that_would_be_too_long_is_left_out_in_part() {
    let many = (0..2000).map(|p| (p * 3).to_string()).collect::<Vec<_>>().join(",");
    let compiled = compile(&parsed(&format!("sport = {many} and dport = 443")), EVERYTHING);
    assert_eq!(compiled.pushed.unwrap().to_string(), "dport = 443");
    assert!(compiled.residual.is_some() && !compiled.exact);
    let fits = (0..1000).map(|p| (p * 3).to_string()).collect::<Vec<_>>().join(",");
    let compiled = compile(&parsed(&format!("sport = {fits}")), EVERYTHING);
    assert!(compiled.exact && audit(&compiled.program), "{}", compiled.program.len());
    let why = compile(&parsed(&format!("sport = {many} or autobound")), EVERYTHING).unpushable;
    assert!(why.is_some());
}

#[test]
fn one_instruction_of_each_kind_byte_for_byte() {
    let program = |text| compile(&parsed(text), EVERYTHING).program;
    let port = u16::to_ne_bytes(443);
    let eq = [vec![8, 12, 16, 0, 0, 0, 0, 0], 443u32.to_ne_bytes().to_vec()].concat();
    assert_eq!(program("dport = 443")[..2], eq[..2]);
    assert_eq!(program("dport = 443")[4..], eq[4..]);
    assert_eq!(half(&program("dport = 443"), 2), 16);
    assert_eq!(program("sport >= 443")[4..], [0, 0, port[0], port[1]]);
    assert_eq!(program("src 10.0.0.0/8")[4..], [2, 8, 0, 0, 255, 255, 255, 255, 10, 0, 0, 0]);
    assert_eq!(program("none"), [vec![1, 4], 8u16.to_ne_bytes().to_vec()].concat());
    assert_eq!(program("fwmark 1/3").len(), 12);
    assert_eq!(program("cgroup 77").len(), 12);
    assert_eq!(program("autobound").len(), 4);
}
