//! The trace program: assembled from the offsets that the running kernel has.
//!
//! Input: the kernel's type information, the namespaces to keep. Output: instructions that write one record (`record`) a
//! change. Not here: loading them.

use std::os::fd::BorrowedFd;

use super::record::{
    ADDRESS, AF_INET, AF_INET6, BASE, COMM, COMM_BYTES, COOKIE, DPORT, FAMILY, IPPROTO_TCP, LOCAL, NETNS, NEW, NUM,
    OLD, OWNED, PEER, RECEIVED, RETRANSMITTED, SENT, SOCK_FLAGS, SPORT, TASK_FLAGS, TGID, TIME,
};
use crate::collect::bpf::asm::{Asm, AsmError, Helper, Insn, Label, Reg, Width, signed};
use crate::collect::bpf::btf::{Btf, BtfError, Field, Kind, Wanted};
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

/// The offsets that the running kernel has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub tracepoint: u32,
    family: Field,
    num: Field,
    dport: Field,
    /// 4-byte addresses.
    local_v4: Field,
    peer_v4: Field,
    /// 16-byte addresses; absent from a kernel without IPv6.
    v6: Option<(Field, Field)>,
    net: Field,
    net_inum: Field,
    cookie: Field,
    protocol: Field,
    owned: Field,
    sport: Field,
    task_flags: Field,
    sock_flags: Field,
    /// In `struct tcp_sock`, and where a record has them.
    traffic: [(Field, i32); 3],
}

impl Layout {
    pub fn new(btf: &mut Btf<'_>) -> Result<Layout, BtfError> {
        let [tracepoint, sock, tcp, net, task] = btf.find([
            Wanted::new(Kind::Typedef, "btf_trace_inet_sock_set_state"),
            Wanted::new(Kind::Struct, "sock"),
            Wanted::new(Kind::Struct, "tcp_sock"),
            Wanted::new(Kind::Struct, "net"),
            Wanted::new(Kind::Struct, "task_struct"),
        ])?;
        let v6 = match (btf.field(sock, "__sk_common.skc_v6_rcv_saddr"), btf.field(sock, "__sk_common.skc_v6_daddr")) {
            (Ok(local), Ok(peer)) => Some((local, peer)),
            (Err(BtfError::NoField(_)), _) => None,
            (Err(e), _) | (_, Err(e)) => return Err(e),
        };
        Ok(Layout {
            tracepoint,
            family: btf.field(sock, "__sk_common.skc_family")?,
            num: btf.field(sock, "__sk_common.skc_num")?,
            dport: btf.field(sock, "__sk_common.skc_dport")?,
            local_v4: btf.field(sock, "__sk_common.skc_rcv_saddr")?,
            peer_v4: btf.field(sock, "__sk_common.skc_daddr")?,
            v6,
            net: btf.field(sock, "__sk_common.skc_net.net")?,
            net_inum: btf.field(net, "ns.inum")?,
            cookie: btf.field(sock, "__sk_common.skc_cookie.counter")?,
            protocol: btf.field(sock, "sk_protocol")?,
            owned: btf.field(sock, "sk_lock.owned")?,
            sport: btf.field(tcp, "inet_conn.icsk_inet.inet_sport")?,
            task_flags: btf.field(task, "flags")?,
            sock_flags: btf.field(sock, "__sk_common.skc_flags")?,
            traffic: [
                (btf.field(tcp, "bytes_sent")?, SENT),
                (btf.field(tcp, "bytes_retrans")?, RETRANSMITTED),
                (btf.field(tcp, "bytes_received")?, RECEIVED),
            ],
        })
    }

    /// The program. Its context is the tracepoint's arguments, 8 bytes each: `sk`, `oldstate`, `newstate`.
    pub fn program(
        &self,
        dialect: Dialect,
        ring: BorrowedFd<'_>,
        ring_full: BorrowedFd<'_>,
        netns: &[u32],
    ) -> Result<Vec<Insn>, AsmError> {
        use Reg::{Frame, R0, R1, R2, R3, R4, R6, R7, R8, R9};
        let mut a = Asm::new();
        let out = a.label();

        a.load(Width::Double, R6, R1, 0); //            r6 = sk
        a.load(Width::Double, R7, R1, 8); //            r7 = old state
        a.load(Width::Double, R8, R1, 16); //           r8 = new state
        a.load_field(R1, R6, self.protocol);
        a.jump_if_ne(R1, IPPROTO_TCP, out);
        a.load_field(R1, R6, self.net);
        a.load_field(R1, R1, self.net_inum);
        let wanted = a.label();
        for (i, inode) in netns.iter().enumerate() {
            let next = if i + 1 == netns.len() { out } else { a.label() };
            a.jump_if_ne_u32(R1, *inode, next);
            if i + 1 < netns.len() {
                a.jump(wanted);
                a.bind(next);
            }
        }
        a.bind(wanted);
        a.store(Width::Word, Frame, BASE + NETNS, R1);

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
        a.store(Width::Double, Frame, BASE + SOCK_FLAGS, R1);
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

        self.current_task(&mut a, R6, dialect);

        a.map(R1, ring);
        a.address(R2, Frame, BASE);
        a.mov_imm(R3, -BASE);
        a.mov_imm(R4, 0); //                            wake the reader when it has caught up
        a.call(Helper::RingbufOutput);
        a.jump_if_not_negative(R0, out);
        a.map_value(R1, ring_full);
        a.mov_imm(R2, 1);
        a.atomic_add(R1, R2);
        a.bind(out);
        a.exit();
        a.finish()
    }

    /// Writes the task that runs now, and whether a system call holds the socket.
    fn current_task(&self, a: &mut Asm, sk: Reg, dialect: Dialect) {
        use Reg::{Frame, R0, R1, R2};
        a.load_field(R1, sk, self.owned);
        a.store(Width::Half, Frame, BASE + OWNED, R1);
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
    fn addresses(&self, a: &mut Asm, sk: Reg, family: Reg, out: Label) {
        use Reg::{Frame, R1};
        for half in [0, 8] {
            a.store_imm(Width::Double, Frame, BASE + LOCAL + half, 0);
            a.store_imm(Width::Double, Frame, BASE + PEER + half, 0);
        }
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
