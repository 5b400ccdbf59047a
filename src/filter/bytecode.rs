//! The part of an expression that the kernel can check, as `inet_diag` bytecode.
//!
//! Input: an expression, and what the kernel lets this process ask. Output: a program that passes every row the
//! expression matches, and what is left to check.
//!
//! The machine (`net/ipv4/inet_diag.c`, `inet_diag_bc_run`): each instruction has two forward distances, `yes` (8
//! bits) and `no` (16 bits); a row passes when it arrives exactly at the end of the program, and fails when it jumps
//! 4 bytes beyond. `inet_diag_bc_audit` follows the `yes` distances and requires every `no` target to be on that
//! path. So `yes` is always the next instruction here, and only `no` and `JMP` (which always takes `no`) go
//! elsewhere; this also stays clear of the 252-byte limit of `yes`.

use std::net::Ipv6Addr;

use super::expr::{Cmp, End, Expr, Net, Test};
use crate::model::{Family, State, StateSet};

/// `enum` of `include/uapi/linux/inet_diag.h`.
mod op {
    pub const JMP: u8 = 1;
    pub const S_GE: u8 = 2;
    pub const S_LE: u8 = 3;
    pub const D_GE: u8 = 4;
    pub const D_LE: u8 = 5;
    pub const AUTO: u8 = 6;
    pub const S_COND: u8 = 7;
    pub const D_COND: u8 = 8;
    pub const DEV_COND: u8 = 9;
    pub const MARK_COND: u8 = 10;
    pub const CGROUP_COND: u8 = 13;
}

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Longest program. The attribute could hold 64 KiB, but the audit walks the path from the start for every jump, and
/// every row runs the program.
pub const MAX_PROGRAM_BYTES: usize = 16 << 10;

/// What the kernel lets this process ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `INET_DIAG_BC_MARK_COND` (Linux 4.5) needs `CAP_NET_ADMIN`; otherwise the request fails with `EPERM`.
    pub mark: bool,
    /// `INET_DIAG_BC_CGROUP_COND` (Linux 5.9, `CONFIG_SOCK_CGROUP_DATA`); otherwise the request fails with `EINVAL`.
    pub cgroup: bool,
}

/// An expression split between the kernel and this program.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// Bytecode; empty when the kernel checks only the states.
    pub program: Vec<u8>,
    /// What the program checks.
    pub pushed: Option<Expr>,
    /// Whether a dump with this program and `states` leaves nothing to check.
    pub exact: bool,
    /// The state mask that the program relies on ([`Expr::state_bound`]).
    pub states: StateSet,
    /// What must still be checked on every row of the dump.
    pub residual: Option<Expr>,
    /// Why the expression cannot be evaluated at all: it has a test that only the kernel can run, in a position that
    /// cannot be pushed to the kernel.
    pub unpushable: Option<String>,
}

/// Splits an expression.
#[must_use]
pub fn compile(expr: &Expr, abilities: Abilities) -> Compiled {
    let states = expr.state_bound();
    let parts = match expr.nnf(false) {
        Expr::And(parts) => parts,
        other => vec![other],
    };
    let mut residual = Vec::new();
    // What the kernel checks, and the expression this is equal to, if any.
    let mut pushed: Vec<(Expr, Option<Expr>)> = Vec::new();
    for part in parts {
        if let Expr::Test(Test::States(set)) = &part {
            // A row in kernel state 7 reads as BOUND_INACTIVE, whichever bit selected it.
            if set.contains(State::Close) && !set.contains(State::BoundInactive) {
                residual.push(part);
            }
            continue;
        }
        let (weaker, exact) = relax(&part, abilities);
        let part = if exact {
            Some(part)
        } else {
            residual.push(part);
            None
        };
        if !weaker.is_all() {
            pushed.push((weaker, part));
        }
    }
    let mut program = assemble(&pushed);
    while program.len() > MAX_PROGRAM_BYTES {
        let largest = (0..pushed.len()).max_by_key(|i| assemble(&pushed[*i..=*i]).len()).unwrap_or(0);
        residual.extend(pushed.remove(largest).1);
        program = assemble(&pushed);
    }
    let unpushable = residual.iter().any(Expr::is_kernel_only).then(|| {
        "`autobound` is known only to the kernel, which cannot check what is joined to it by `or`; join it with `and`"
            .to_owned()
    });
    let pushed = Expr::and(pushed.into_iter().map(|(expr, _)| expr).collect());
    Compiled {
        program,
        pushed: (!pushed.is_all()).then_some(pushed),
        exact: residual.is_empty(),
        states,
        residual: (!residual.is_empty()).then(|| Expr::and(residual)),
        unpushable,
    }
}

/// The strongest expression that the kernel can check and that is true wherever this one is, and whether the two are
/// equal. Every `not` is at a test.
fn relax(expr: &Expr, abilities: Abilities) -> (Expr, bool) {
    let parts = |parts: &[Expr], join: fn(Vec<Expr>) -> Expr| {
        let mut exact = true;
        let relaxed = parts
            .iter()
            .map(|part| {
                let (weaker, same) = relax(part, abilities);
                exact &= same;
                weaker
            })
            .collect();
        (join(relaxed), exact)
    };
    match expr {
        Expr::And(inner) => parts(inner, Expr::and),
        Expr::Or(inner) => parts(inner, Expr::or),
        Expr::Test(test) => match test {
            Test::Port(_, Cmp::Ge, 0) | Test::Port(_, Cmp::Le, u16::MAX) => (Expr::all(), true),
            Test::Port(_, Cmp::Lt, 0) | Test::Port(_, Cmp::Gt, u16::MAX) => (Expr::none(), true),
            test if can_check(test, abilities) => (expr.clone(), true),
            _ => (Expr::all(), false),
        },
        Expr::Not(inner) => match &**inner {
            Expr::Test(test) if can_check(test, abilities) => (expr.clone(), true),
            _ => (Expr::all(), false),
        },
    }
}

fn can_check(test: &Test, abilities: Abilities) -> bool {
    match test {
        Test::Family(_) | Test::Port(..) | Test::Host(..) | Test::Interface(..) | Test::Autobound => true,
        Test::Mark(..) => abilities.mark,
        // Objects without one compare as 0 in the kernel, as absent here.
        Test::Cgroup(_, id) => abilities.cgroup && *id != 0,
        _ => false,
    }
}

/// A position in the program that is not known yet.
#[derive(Clone, Copy)]
struct JumpTarget(usize);

/// Where a failing row jumps to: 4 bytes past the end.
const FAIL: JumpTarget = JumpTarget(0);

struct Assembler {
    /// Instructions in sequence, with `no` left open.
    code: Vec<u8>,
    /// Start of each instruction whose `no` is open, and its target.
    open: Vec<(usize, JumpTarget)>,
    /// Offsets of the labels, once they are known.
    places: Vec<usize>,
}

fn assemble(parts: &[(Expr, Option<Expr>)]) -> Vec<u8> {
    let mut assembler = Assembler { code: Vec::new(), open: Vec::new(), places: vec![0] };
    for (part, _) in parts {
        assembler.expr(part, FAIL);
    }
    assembler.finish()
}

impl Assembler {
    fn label(&mut self) -> JumpTarget {
        self.places.push(0);
        JumpTarget(self.places.len() - 1)
    }

    fn place(&mut self, label: JumpTarget) {
        self.places[label.0] = self.code.len();
    }

    /// An instruction that falls through when its condition is true and jumps to `no` otherwise.
    fn instruction(&mut self, code: u8, operand: &[u8], no: JumpTarget) {
        self.open.push((self.code.len(), no));
        let size = u8::try_from(4 + operand.len()).unwrap_or(u8::MAX);
        self.code.extend_from_slice(&[code, size, 0, 0]);
        self.code.extend_from_slice(operand);
    }

    fn jump(&mut self, to: JumpTarget) {
        self.instruction(op::JMP, &[], to);
    }

    /// Code that reaches its own end when the expression is true, and jumps to `no` otherwise.
    fn expr(&mut self, expr: &Expr, no: JumpTarget) {
        match expr {
            Expr::And(parts) => parts.iter().for_each(|p| self.expr(p, no)),
            Expr::Or(parts) => {
                let Some((last, others)) = parts.split_last() else { return self.jump(no) };
                let end = self.label();
                for part in others {
                    let next = self.label();
                    self.expr(part, next);
                    self.jump(end);
                    self.place(next);
                }
                self.expr(last, no);
                self.place(end);
            }
            Expr::Not(inner) => self.negated(inner, no),
            Expr::Test(test) => self.test(test, no),
        }
    }

    fn negated(&mut self, expr: &Expr, no: JumpTarget) {
        let holds_not = self.label();
        self.expr(expr, holds_not);
        self.jump(no);
        self.place(holds_not);
    }

    fn test(&mut self, test: &Test, no: JumpTarget) {
        match test {
            Test::Port(end, cmp, port) => self.port(*end, *cmp, *port, no),
            Test::Host(end, net, port) => {
                let port = port.map_or(-1, i32::from);
                match net {
                    Net::V4(net) => {
                        self.host(*end, AF_INET, net.prefix_len(), port, &net.network().octets(), no);
                    }
                    Net::V6(net) => {
                        self.host(*end, AF_INET6, net.prefix_len(), port, &net.network().octets(), no);
                    }
                }
            }
            // A condition on all of IPv6 matches every AF_INET6 row. One on all of IPv4 would also match IPv6 rows
            // with mapped addresses.
            Test::Family(Family::V6) => {
                self.host(End::Local, AF_INET6, 0, -1, &Ipv6Addr::UNSPECIFIED.octets(), no);
            }
            Test::Family(Family::V4) => self.negated(&Expr::family(Family::V6), no),
            Test::Interface(Cmp::Ne, index) => {
                self.negated(&Expr::Test(Test::Interface(Cmp::Eq, *index)), no);
            }
            Test::Interface(_, index) => self.instruction(op::DEV_COND, &index.to_ne_bytes(), no),
            Test::Mark(Cmp::Ne, value, mask) => {
                self.negated(&Expr::Test(Test::Mark(Cmp::Eq, *value, *mask)), no);
            }
            Test::Mark(_, value, mask) => {
                let mut operand = [0; 8];
                operand[..4].copy_from_slice(&value.to_ne_bytes());
                operand[4..].copy_from_slice(&mask.to_ne_bytes());
                self.instruction(op::MARK_COND, &operand, no);
            }
            Test::Cgroup(Cmp::Ne, id) => self.negated(&Expr::Test(Test::Cgroup(Cmp::Eq, *id)), no),
            Test::Cgroup(_, id) => self.instruction(op::CGROUP_COND, &id.to_ne_bytes(), no),
            Test::Autobound => self.instruction(op::AUTO, &[], no),
            // `relax` keeps everything else out; an unchecked row passes.
            Test::States(_) | Test::Number(..) | Test::Time(..) | Test::Age(..) | Test::Flag(..) | Test::Text(..) => {}
        }
    }

    fn port(&mut self, end: End, cmp: Cmp, port: u16, no: JumpTarget) {
        let (least, most) = match end {
            End::Local => (op::S_GE, op::S_LE),
            End::Peer => (op::D_GE, op::D_LE),
        };
        match cmp {
            // S_EQ and D_EQ came with Linux 5.8 (some distribution kernels lack them); a host condition without an
            // address does the same everywhere.
            Cmp::Eq | Cmp::Has => self.host(end, AF_UNSPEC, 0, port.into(), &[], no),
            Cmp::Ne | Cmp::HasNot => self.negated(&Expr::Test(Test::Port(end, Cmp::Eq, port)), no),
            Cmp::Ge => self.port_bound(least, port, no),
            Cmp::Le => self.port_bound(most, port, no),
            Cmp::Gt => match port.checked_add(1) {
                Some(port) => self.port_bound(least, port, no),
                None => self.jump(no),
            },
            Cmp::Lt => match port.checked_sub(1) {
                Some(port) => self.port_bound(most, port, no),
                None => self.jump(no),
            },
        }
    }

    /// The port is in the `no` field of a second instruction, which never runs.
    fn port_bound(&mut self, code: u8, port: u16, no: JumpTarget) {
        let port = port.to_ne_bytes();
        self.instruction(code, &[0, 0, port[0], port[1]], no);
    }

    /// `struct inet_diag_hostcond`: family, prefix length, two bytes of padding, port (-1: any), address.
    fn host(&mut self, end: End, family: u8, prefix: u8, port: i32, addr: &[u8], no: JumpTarget) {
        let mut operand = Vec::with_capacity(8 + addr.len());
        operand.extend_from_slice(&[family, prefix, 0, 0]);
        operand.extend_from_slice(&port.to_ne_bytes());
        operand.extend_from_slice(addr);
        let code = match end {
            End::Local => op::S_COND,
            End::Peer => op::D_COND,
        };
        self.instruction(code, &operand, no);
    }

    fn finish(mut self) -> Vec<u8> {
        self.places[FAIL.0] = self.code.len() + 4;
        for (at, label) in self.open {
            // Overflows only when the program is too long anyway, and then it is discarded.
            let no = u16::try_from(self.places[label.0] - at).unwrap_or(u16::MAX);
            self.code[at + 2..at + 4].copy_from_slice(&no.to_ne_bytes());
        }
        self.code
    }
}
