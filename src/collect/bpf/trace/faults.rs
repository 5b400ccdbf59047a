//! The programs for resets and repeated segments: `tcp:tcp_send_reset`, `tcp:tcp_receive_reset`, `tcp:tcp_retransmit_skb`.
//!
//! Input: the layout of the kernel's types, the namespaces to keep. Output: instructions that write one record (`record`) an
//! event. Not here: loading them.
//!
//! A reset may be sent without a socket: then namespace and addresses are those of the packet that it answers. The socket may
//! also be a TIME_WAIT object or a request, which has no lock and no `inet_sport`; or a listener, whose peer is that of the
//! packet.

use std::os::fd::BorrowedFd;

use super::layout::{Layout, Packet, REASON, Tracepoint};
use super::program::{Dialect, keep_netns, no_addresses, output};
use super::record::{
    ADDRESS, AF_INET, AF_INET6, BASE, COOKIE, DPORT, FAMILY, IPPROTO_TCP, KIND, LOCAL, NEW, NUM, OLD, OWNED, PEER,
    RECEIVED, RESET_SENT, RETRANSMITTED, SENT, SOCK_FLAGS, SPORT, TIME, VALUE,
};
use crate::collect::bpf::asm::{Asm, AsmError, Helper, Insn, Label, Reg, Width};
use crate::collect::bpf::btf::Field;
use crate::model::State;

/// Below the record: room for an IPv6 header, and for one pointer.
const HEADER: i32 = BASE - 40;
const HEADER_BYTES: i32 = 40;
const POINTER: i32 = HEADER - 8;
/// `TCP_NEW_SYN_RECV`, a request; it reads as SYN_RECV.
const NEW_SYN_RECV: i32 = 12;

impl Layout {
    /// The program for one of the three. Its context is the tracepoint's arguments: `sk`, `skb`, and the reason or error.
    pub fn fault_program(
        &self,
        kind: i32,
        point: Tracepoint,
        ring: BorrowedFd<'_>,
        ring_full: BorrowedFd<'_>,
        netns: &[u32],
    ) -> Result<Vec<Insn>, AsmError> {
        use Reg::{Frame, R0, R1, R6, R7, R8, R9};
        let mut a = Asm::new();
        let (out, full, addressed, found) = (a.label(), a.label(), a.label(), a.label());

        a.load(Width::Double, R6, R1, 0); //            r6 = sk
        if point.arguments >= REASON {
            a.load(Width::Double, R8, R1, 16);
        } else {
            a.mov_imm(R8, 0);
        }
        a.store(Width::Word, Frame, BASE + VALUE, R8);
        if kind == RESET_SENT {
            a.load(Width::Double, R7, R1, 8); //        r7 = skb
        }
        a.store_imm(Width::Byte, Frame, BASE + KIND, kind);
        a.store_imm(Width::Byte, Frame, BASE + NEW, 0);
        a.store_imm(Width::Byte, Frame, BASE + OLD, 0);
        a.store_imm(Width::Byte, Frame, BASE + OWNED, 0);
        a.store_imm(Width::Word, Frame, BASE + SOCK_FLAGS, 0);
        for cell in [SENT, RETRANSMITTED, RECEIVED, COOKIE] {
            a.store_imm(Width::Double, Frame, BASE + cell, 0);
        }
        a.store_imm(Width::Half, Frame, BASE + SPORT, 0);
        a.store_imm(Width::Half, Frame, BASE + NUM, 0);
        a.store_imm(Width::Half, Frame, BASE + DPORT, 0);
        a.store(Width::Double, Frame, BASE + ADDRESS, R6);

        if kind == RESET_SENT {
            let is_socket = a.label();
            a.jump_if_ne(R6, 0, is_socket);
            match self.faults.packet {
                Some(packet) => {
                    a.jump_if_eq(R7, 0, out);
                    self.packet_netns(&mut a, packet, netns, out);
                    packet_addresses(&mut a, packet, out);
                    a.jump(addressed);
                }
                None => a.jump(out),
            }
            a.bind(is_socket);
        }
        a.load_field(R1, R6, self.net);
        a.load_field(R1, R1, self.net_inum);
        keep_netns(&mut a, netns, out);
        a.load_field(R9, R6, self.state); //            r9 = state
        a.store(Width::Byte, Frame, BASE + OLD, R9);
        a.load_field(R1, R6, self.cookie);
        a.store(Width::Double, Frame, BASE + COOKIE, R1);
        a.load_field(R1, R6, self.num);
        a.store(Width::Half, Frame, BASE + NUM, R1);
        a.load_field(R1, R6, self.dport);
        a.store(Width::Half, Frame, BASE + DPORT, R1);
        a.jump_if_eq(R9, i32::from(State::TimeWait.kernel()), found);
        a.jump_if_eq(R9, NEW_SYN_RECV, found);
        a.load_field(R1, R6, self.protocol);
        a.jump_if_ne(R1, IPPROTO_TCP, out);
        a.load_field(R1, R6, self.owned);
        a.store(Width::Byte, Frame, BASE + OWNED, R1);
        if let (RESET_SENT, Some(packet)) = (kind, self.faults.packet) {
            a.jump_if_ne(R9, i32::from(State::Listen.kernel()), full);
            a.jump_if_eq(R7, 0, full);
            packet_addresses(&mut a, packet, out);
            a.jump(addressed);
        }
        a.bind(full);
        a.copy_from_kernel(BASE + SPORT, R6, self.sport);
        a.bind(found);
        a.load_field(R9, R6, self.family); //           r9 = family
        a.store(Width::Half, Frame, BASE + FAMILY, R9);
        self.addresses(&mut a, R6, R9, out);
        a.bind(addressed);
        a.call(Helper::KtimeGetNs);
        a.store(Width::Double, Frame, BASE + TIME, R0);
        self.current_task(&mut a, Dialect::Plain);
        output(&mut a, ring, ring_full, out);
        a.bind(out);
        a.exit();
        a.finish()
    }

    /// The namespace of the device that the packet in R7 came by.
    fn packet_netns(&self, a: &mut Asm, packet: Packet, netns: &[u32], out: Label) {
        use Reg::{Frame, R1, R3, R7};
        a.copy_from_kernel(POINTER, R7, packet.device);
        for field in [packet.device_net, self.net_inum] {
            a.load(Width::Double, R3, Frame, POINTER);
            a.copy_from_kernel(POINTER, R3, field);
        }
        a.load(Width::Word, R1, Frame, POINTER);
        keep_netns(a, netns, out);
    }
}

/// The addresses of the packet in R7, which is one that came: its source is the peer. Clobbers R8 and R9.
fn packet_addresses(a: &mut Asm, packet: Packet, out: Label) {
    use Reg::{Frame, R1, R7, R8, R9};
    let (v6, done) = (a.label(), a.label());
    no_addresses(a);
    a.load_field(R8, R7, packet.head);
    a.load_field(R9, R7, packet.network_header);
    a.add(R9, R8);
    a.copy_from_kernel(HEADER, R9, Field { offset: 0, size: HEADER_BYTES.unsigned_abs() });
    a.load(Width::Byte, R1, Frame, HEADER);
    a.shift_right(R1, 4);
    a.jump_if_ne(R1, 4, v6);
    a.store_imm(Width::Half, Frame, BASE + FAMILY, AF_INET);
    // `saddr` and `daddr` of `struct iphdr`, and then of `struct ipv6hdr`.
    for (at, cell) in [(12, PEER), (16, LOCAL)] {
        a.load(Width::Word, R1, Frame, HEADER + at);
        a.store(Width::Word, Frame, BASE + cell, R1);
    }
    a.jump(done);
    a.bind(v6);
    a.jump_if_ne(R1, 6, out);
    a.store_imm(Width::Half, Frame, BASE + FAMILY, AF_INET6);
    for (at, cell) in [(8, PEER), (24, LOCAL)] {
        for half in [0, 8] {
            a.load(Width::Double, R1, Frame, HEADER + at + half);
            a.store(Width::Double, Frame, BASE + cell + half, R1);
        }
    }
    a.bind(done);
    a.load_field(R9, R7, packet.transport_header);
    a.add(R9, R8);
    // `source` and `dest` of `struct tcphdr`.
    a.copy_from_kernel(BASE + DPORT, R9, Field { offset: 0, size: 2 });
    a.copy_from_kernel(BASE + SPORT, R9, Field { offset: 2, size: 2 });
}
