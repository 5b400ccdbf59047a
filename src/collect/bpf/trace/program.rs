//! The trace program: assembled from the offsets that the running kernel has.
//!
//! Input: the layout of the kernel's types, the namespaces to keep. Output: instructions that write one record (`record`) a
//! change; and the parts that the other programs share. Not here: loading them.

use std::os::fd::BorrowedFd;

use super::layout::Layout;
use super::record::{
    ADDRESS, AF_INET, AF_INET6, BASE, CHANGE, COMM, COMM_BYTES, COOKIE, DPORT, FAMILY, IPPROTO_TCP, KIND, LOCAL, NETNS,
    NEW, NUM, OLD, OWNED, PEER, RECEIVED, RETRANSMITTED, SENT, SOCK_FLAGS, SPORT, TASK_FLAGS, TGID, TIME, VALUE,
};
use crate::collect::bpf::asm::{Asm, AsmError, Helper, Insn, Label, Reg, Width, signed};
use crate::collect::change_source::Changes;
use crate::model::State;

/// Which helpers the program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The socket's cookie is made if there is none, and the task comes typed (Linux 5.12).
    Typed,
    /// The cookie is there only if something asked for it before, and the socket's address identifies it; the local port
    /// and the task's flags are copied by address.
    Plain,
}

impl Layout {
    /// The program. Its context is the tracepoint's arguments, 8 bytes each: `sk`, `oldstate`, `newstate`.
    pub fn program(
        &self,
        dialect: Dialect,
        changes: Changes,
        ring: BorrowedFd<'_>,
        ring_full: BorrowedFd<'_>,
        netns: &[u32],
    ) -> Result<Vec<Insn>, AsmError> {
        use Reg::{Frame, R0, R1, R6, R7, R8, R9};
        let mut a = Asm::new();
        let out = a.label();

        a.load(Width::Double, R6, R1, 0); //            r6 = sk
        a.load(Width::Double, R7, R1, 8); //            r7 = old state
        a.load(Width::Double, R8, R1, 16); //           r8 = new state
        if changes == Changes::Connects {
            let wanted = a.label();
            a.jump_if_eq(R7, i32::from(State::SynSent.kernel()), wanted);
            a.jump_if_eq(R8, i32::from(State::SynSent.kernel()), wanted);
            a.jump_if_eq(R8, i32::from(State::FinWait1.kernel()), wanted);
            // A connection that came: its peer answered our SYN-ACK.
            a.jump_if_eq(R8, i32::from(State::Established.kernel()), wanted);
            a.jump_if_ne(R8, i32::from(State::Close.kernel()), out);
            // The end of a handshake that nobody finished.
            a.jump_if_eq(R7, i32::from(State::SynRecv.kernel()), out);
            a.bind(wanted);
        }
        a.load_field(R1, R6, self.protocol);
        a.jump_if_ne(R1, IPPROTO_TCP, out);
        a.load_field(R1, R6, self.net);
        a.load_field(R1, R1, self.net_inum);
        keep_netns(&mut a, netns, out);

        a.call(Helper::KtimeGetNs);
        a.store(Width::Double, Frame, BASE + TIME, R0);
        a.store(Width::Double, Frame, BASE + ADDRESS, R6);

        a.load_field(R9, R6, self.family); //           r9 = family
        a.store(Width::Half, Frame, BASE + FAMILY, R9);
        // The tracepoint's argument is typed as a plain socket, which has no such field.
        a.store_imm(Width::Half, Frame, BASE + SPORT, 0);
        for cell in [SENT, RETRANSMITTED, RECEIVED, SOCK_FLAGS] {
            a.store_imm(Width::Double, Frame, BASE + cell, 0);
        }
        a.store_imm(Width::Byte, Frame, BASE + KIND, CHANGE);
        let no_tcp = a.label();
        match dialect {
            Dialect::Typed => {
                a.mov(R1, R6);
                a.call(Helper::SkcToTcpSock);
                a.jump_if_eq(R0, 0, no_tcp);
                a.load_field(R1, R0, self.sport);
                a.store(Width::Half, Frame, BASE + SPORT, R1);
                a.jump_if_ne(R8, i32::from(State::Close.kernel()), no_tcp);
                for (field, cell) in self.traffic {
                    a.load_field(R1, R0, field);
                    a.store(Width::Double, Frame, BASE + cell, R1);
                }
            }
            Dialect::Plain => {
                a.copy_from_kernel(BASE + SPORT, R6, self.sport);
                a.jump_if_ne(R8, i32::from(State::Close.kernel()), no_tcp);
                for (field, cell) in self.traffic {
                    a.copy_from_kernel(BASE + cell, R6, field);
                }
            }
        }
        a.load_field(R1, R6, self.sock_flags);
        a.store(Width::Word, Frame, BASE + SOCK_FLAGS, R1);
        a.load_field(R1, R6, self.error);
        a.store(Width::Word, Frame, BASE + VALUE, R1);
        a.bind(no_tcp);
        a.load_field(R1, R6, self.num);
        a.store(Width::Half, Frame, BASE + NUM, R1);
        a.store(Width::Byte, Frame, BASE + OLD, R7);
        a.store(Width::Byte, Frame, BASE + NEW, R8);
        a.load_field(R1, R6, self.dport);
        a.store(Width::Half, Frame, BASE + DPORT, R1);

        let has_cookie = a.label();
        a.load_field(R0, R6, self.cookie);
        if dialect == Dialect::Typed {
            // Not while a new socket is still a copy of its listener: its cookie is about to be overwritten.
            let make = a.label();
            a.jump_if_ne(R1, 0, make);
            a.jump_if_eq(R8, i32::from(State::SynRecv.kernel()), has_cookie);
            a.bind(make);
            a.mov(R1, R6);
            a.call(Helper::GetSocketCookie);
        }
        a.bind(has_cookie);
        a.store(Width::Double, Frame, BASE + COOKIE, R0);

        self.addresses(&mut a, R6, R9, out);

        a.load_field(R1, R6, self.owned);
        a.store(Width::Byte, Frame, BASE + OWNED, R1);
        self.current_task(&mut a, dialect);
        output(&mut a, ring, ring_full, out);
        a.bind(out);
        a.exit();
        a.finish()
    }

    /// Writes the task that runs now.
    pub(super) fn current_task(&self, a: &mut Asm, dialect: Dialect) {
        use Reg::{Frame, R0, R1, R2};
        a.call(Helper::GetCurrentPidTgid);
        a.shift_right(R0, 32);
        a.store(Width::Word, Frame, BASE + TGID, R0);
        a.address(R1, Frame, BASE + COMM);
        a.mov_imm(R2, COMM_BYTES);
        a.call(Helper::GetCurrentComm);
        match dialect {
            Dialect::Typed => {
                a.call(Helper::GetCurrentTaskBtf);
                a.load_field(R1, R0, self.task_flags);
                a.store(Width::Word, Frame, BASE + TASK_FLAGS, R1);
            }
            Dialect::Plain => {
                a.call(Helper::GetCurrentTask);
                a.copy_from_kernel(BASE + TASK_FLAGS, R0, self.task_flags);
            }
        }
    }

    /// The addresses of socket `sk` by its `family`, four bytes or sixteen; another family leaves by `out`.
    pub(super) fn addresses(&self, a: &mut Asm, sk: Reg, family: Reg, out: Label) {
        use Reg::{Frame, R1};
        no_addresses(a);
        let (v6, addressed) = (a.label(), a.label());
        a.jump_if_ne(family, AF_INET, v6);
        for (field, cell) in [(self.local_v4, LOCAL), (self.peer_v4, PEER)] {
            a.load_field(R1, sk, field);
            a.store(Width::Word, Frame, BASE + cell, R1);
        }
        a.jump(addressed);
        a.bind(v6);
        a.jump_if_ne(family, AF_INET6, out);
        if let Some((local, peer)) = self.v6 {
            for (field, cell) in [(local, LOCAL), (peer, PEER)] {
                for half in [0, 8] {
                    a.load(Width::Double, R1, sk, signed(field.offset) + half);
                    a.store(Width::Double, Frame, BASE + cell + half, R1);
                }
            }
        }
        a.bind(addressed);
    }
}

/// Goes on only with the namespaces to keep (none: all), whose inode is in R1, and writes it.
pub(super) fn keep_netns(a: &mut Asm, netns: &[u32], out: Label) {
    let wanted = a.label();
    for (i, inode) in netns.iter().enumerate() {
        let next = if i + 1 == netns.len() { out } else { a.label() };
        a.jump_if_ne_u32(Reg::R1, *inode, next);
        if i + 1 < netns.len() {
            a.jump(wanted);
            a.bind(next);
        }
    }
    a.bind(wanted);
    a.store(Width::Word, Reg::Frame, BASE + NETNS, Reg::R1);
}

pub(super) fn no_addresses(a: &mut Asm) {
    for half in [0, 8] {
        a.store_imm(Width::Double, Reg::Frame, BASE + LOCAL + half, 0);
        a.store_imm(Width::Double, Reg::Frame, BASE + PEER + half, 0);
    }
}

/// Writes the record to the ring, or counts it where there is no room.
pub(super) fn output(a: &mut Asm, ring: BorrowedFd<'_>, ring_full: BorrowedFd<'_>, out: Label) {
    use Reg::{Frame, R0, R1, R2, R3, R4};
    a.map(R1, ring);
    a.address(R2, Frame, BASE);
    a.mov_imm(R3, -BASE);
    a.mov_imm(R4, 0); //                            wake the reader when it has caught up
    a.call(Helper::RingbufOutput);
    a.jump_if_not_negative(R0, out);
    a.map_value(R1, ring_full);
    a.mov_imm(R2, 1);
    a.atomic_add(R1, R2);
}
