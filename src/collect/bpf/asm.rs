//! A small assembler, so that a BPF program in this crate reads like its listing.
//!
//! Input: instructions by name, labels, and fields as [`super::btf`] found them. Output: the instruction words that
//! bpf(2) takes.
//!
//! The encoding is `Documentation/bpf/standardization/instruction-set.rst`: an opcode, two register numbers, a
//! 16-bit offset and a 32-bit immediate.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::btf::Field;

/// One instruction, `struct bpf_insn` of `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    pub code: u8,
    /// Destination and source register, four bits each; the byte order decides which is the low half.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// A register: R0 results, R1 to R5 arguments (clobbered by a call), R6 to R9 preserved, R10 the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    #[expect(dead_code, reason = "no program has a call with five arguments")]
    R5,
    R6,
    R7,
    R8,
    R9,
    /// The end of the 512-byte stack: everything on it has a negative offset.
    Frame,
}

/// How wide a load or store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Byte,
    Half,
    Word,
    Double,
}

impl Width {
    /// The size bits of a load or store (`BPF_B`, `BPF_H`, `BPF_W`, `BPF_DW`).
    const fn bits(self) -> u8 {
        match self {
            Width::Word => 0x00,
            Width::Half => 0x08,
            Width::Byte => 0x10,
            Width::Double => 0x18,
        }
    }

    const fn of_bytes(size: u32) -> Option<Width> {
        match size {
            1 => Some(Width::Byte),
            2 => Some(Width::Half),
            4 => Some(Width::Word),
            8 => Some(Width::Double),
            _ => None,
        }
    }
}

/// Kernel functions that a program may call, by their fixed numbers (`___BPF_FUNC_MAPPER`, `include/uapi/linux/bpf.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `u64 (void)`: `CLOCK_MONOTONIC`.
    KtimeGetNs = 5,
    /// `u64 (void)`: thread group in the upper half, thread in the lower.
    GetCurrentPidTgid = 14,
    /// `long (buf, size)`.
    GetCurrentComm = 16,
    /// `u64 (void)`: the address of the current task as a plain number.
    GetCurrentTask = 35,
    /// `u64 (sk)`: the socket's cookie, generated now if it had none. In tracing programs since Linux 5.12.
    GetSocketCookie = 46,
    /// `long (dst, size, address)`.
    ProbeReadKernel = 113,
    /// `long (seq, data, len)`.
    SeqWrite = 127,
    /// `long (ring, data, size, flags)`.
    RingbufOutput = 130,
    /// `struct tcp_sock *(sk)`, or null. In tracing programs since Linux 5.9.
    SkcToTcpSock = 137,
    /// `struct task_struct *(void)`, typed. Since Linux 5.11.
    GetCurrentTaskBtf = 158,
    /// `struct socket *(file)`, or null. Since Linux 5.11.
    SockFromFile = 162,
}

/// What cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsmError {
    #[error("offset {0} does not fit an instruction")]
    OffsetTooFar(i32),
    #[error("a field of {0} bytes cannot be loaded at once")]
    FieldSize(u32),
    #[error("a jump leads to a label that is nowhere")]
    UnboundLabel,
}

/// A position in a program, bound with [`Asm::bind`] before or after the jumps to it.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

/// A program being built. The first thing that cannot be encoded is kept and returned by [`Asm::finish`].
#[derive(Debug, Default)]
pub struct Asm {
    insns: Vec<Insn>,
    /// Where each label points, once bound.
    labels: Vec<Option<usize>>,
    /// Jumps to patch: instruction and label.
    jumps: Vec<(usize, Label)>,
    error: Option<AsmError>,
}

const LDX_MEM: u8 = 0x61;
const ST_MEM: u8 = 0x62;
const STX_MEM: u8 = 0x63;
const STX_ATOMIC: u8 = 0xC3;
const LD_IMM_DOUBLE: u8 = 0x18;
const ADD_IMM: u8 = 0x07;
const ADD_REG: u8 = 0x0F;
const RSH_IMM: u8 = 0x77;
const MOV_IMM: u8 = 0xB7;
const MOV_REG: u8 = 0xBF;
const JUMP: u8 = 0x05;
const JEQ_IMM: u8 = 0x15;
const JEQ_REG: u8 = 0x1D;
const JNE_IMM: u8 = 0x55;
const JSGE_IMM: u8 = 0x75;
/// The 32-bit class: a 64-bit comparison would sign-extend an immediate such as a namespace number.
const JNE32_IMM: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// As the source register of a 64-bit immediate: the immediate is a map's descriptor ...
const PSEUDO_MAP_FD: u8 = 1;
/// ... or the address of the map's first value.
const PSEUDO_MAP_VALUE: u8 = 2;

impl Asm {
    #[must_use]
    pub fn new() -> Asm {
        Asm::default()
    }

    /// A new label, not bound yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Binds a label to the next instruction.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    /// `to = *(width *)(base + offset)`
    pub fn load(&mut self, width: Width, to: Reg, base: Reg, offset: i32) {
        let offset = self.offset(offset);
        self.push(LDX_MEM | width.bits(), to as u8, base as u8, offset, 0);
    }

    /// `to = base->field`, as wide as the field is, zero-extended.
    pub fn load_field(&mut self, to: Reg, base: Reg, field: Field) {
        match Width::of_bytes(field.size) {
            Some(width) => self.load(width, to, base, signed(field.offset)),
            None => self.fail(AsmError::FieldSize(field.size)),
        }
    }

    /// `*(width *)(base + offset) = from`
    pub fn store(&mut self, width: Width, base: Reg, offset: i32, from: Reg) {
        let offset = self.offset(offset);
        self.push(STX_MEM | width.bits(), base as u8, from as u8, offset, 0);
    }

    /// `*(width *)(base + offset) = value`
    pub fn store_imm(&mut self, width: Width, base: Reg, offset: i32, value: i32) {
        let offset = self.offset(offset);
        self.push(ST_MEM | width.bits(), base as u8, 0, offset, value);
    }

    /// `atomically *(u64 *)base += amount`
    pub fn atomic_add(&mut self, base: Reg, amount: Reg) {
        self.push(STX_ATOMIC | Width::Double.bits(), base as u8, amount as u8, 0, 0);
    }

    /// `to = from`
    pub fn mov(&mut self, to: Reg, from: Reg) {
        self.push(MOV_REG, to as u8, from as u8, 0, 0);
    }

    /// `to = value`
    pub fn mov_imm(&mut self, to: Reg, value: i32) {
        self.push(MOV_IMM, to as u8, 0, 0, value);
    }

    /// `to = base + offset`, an address.
    pub fn address(&mut self, to: Reg, base: Reg, offset: i32) {
        self.mov(to, base);
        if offset != 0 {
            self.push(ADD_IMM, to as u8, 0, 0, offset);
        }
    }

    /// `to += amount`
    pub fn add(&mut self, to: Reg, amount: Reg) {
        self.push(ADD_REG, to as u8, amount as u8, 0, 0);
    }

    /// `reg >>= bits`
    pub fn shift_right(&mut self, reg: Reg, bits: i32) {
        self.push(RSH_IMM, reg as u8, 0, 0, bits);
    }

    /// `to = &map`
    pub fn map(&mut self, to: Reg, map: BorrowedFd<'_>) {
        self.push(LD_IMM_DOUBLE, to as u8, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    /// `to = &map[0]`
    pub fn map_value(&mut self, to: Reg, map: BorrowedFd<'_>) {
        self.push(LD_IMM_DOUBLE, to as u8, PSEUDO_MAP_VALUE, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    pub fn jump(&mut self, label: Label) {
        self.branch(JUMP, 0, 0, 0, label);
    }

    pub fn jump_if_eq(&mut self, reg: Reg, value: i32, label: Label) {
        self.branch(JEQ_IMM, reg as u8, 0, value, label);
    }

    pub fn jump_if_same(&mut self, a: Reg, b: Reg, label: Label) {
        self.branch(JEQ_REG, a as u8, b as u8, 0, label);
    }

    pub fn jump_if_ne(&mut self, reg: Reg, value: i32, label: Label) {
        self.branch(JNE_IMM, reg as u8, 0, value, label);
    }

    /// Compares the lower 32 bits.
    pub fn jump_if_ne_u32(&mut self, reg: Reg, value: u32, label: Label) {
        self.branch(JNE32_IMM, reg as u8, 0, value.cast_signed(), label);
    }

    pub fn jump_if_not_negative(&mut self, reg: Reg, label: Label) {
        self.branch(JSGE_IMM, reg as u8, 0, 0, label);
    }

    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    /// Copies `base->field` to the stack at `frame_offset`, by its address: for pointers without a type, or with one
    /// that lacks the field. Clobbers R0 to R5.
    pub fn copy_from_kernel(&mut self, frame_offset: i32, base: Reg, field: Field) {
        self.address(Reg::R3, base, signed(field.offset));
        self.address(Reg::R1, Reg::Frame, frame_offset);
        self.mov_imm(Reg::R2, signed(field.size));
        self.call(Helper::ProbeReadKernel);
    }

    /// `return 0`
    pub fn exit(&mut self) {
        self.mov_imm(Reg::R0, 0);
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The finished program.
    ///
    /// # Errors
    /// The first thing that could not be encoded.
    pub fn finish(mut self) -> Result<Vec<Insn>, AsmError> {
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label.0].ok_or(AsmError::UnboundLabel)?;
            // An offset counts from the instruction after the jump.
            self.insns[at].offset = self.offset(index(target) - index(at) - 1);
        }
        self.error.map_or(Ok(self.insns), Err)
    }

    fn branch(&mut self, code: u8, a: u8, b: u8, value: i32, label: Label) {
        self.jumps.push((self.insns.len(), label));
        self.push(code, a, b, 0, value);
    }

    fn push(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
        self.insns.push(Insn { code, registers, offset, immediate });
    }

    fn offset(&mut self, offset: i32) -> i16 {
        i16::try_from(offset).unwrap_or_else(|_| {
            self.fail(AsmError::OffsetTooFar(offset));
            0
        })
    }

    fn fail(&mut self, error: AsmError) {
        self.error.get_or_insert(error);
    }
}

/// A field's offset. BTF has 24 bits for it; one that does not fit here fits no instruction either.
#[must_use]
pub fn signed(offset: u32) -> i32 {
    i32::try_from(offset).unwrap_or(i32::MAX)
}

/// A position in a program; the kernel takes a million instructions at most.
fn index(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn words_are_those_of_the_instruction_set() {
        let mut a = Asm::new();
        let out = a.label();
        a.load_field(Reg::R3, Reg::R1, Field { offset: 24, size: 8 });
        a.load(Width::Half, Reg::R4, Reg::R3, 2);
        a.jump_if_eq(Reg::R3, 0, out);
        a.store(Width::Word, Reg::Frame, -16, Reg::R2);
        a.store_imm(Width::Byte, Reg::Frame, -1, 7);
        a.jump_if_ne_u32(Reg::R2, 4_026_531_833, out);
        a.atomic_add(Reg::R1, Reg::R2);
        a.call(Helper::SeqWrite);
        a.bind(out);
        a.exit();
        let words: Vec<(u8, u8, i16, i32)> =
            a.finish().unwrap().iter().map(|i| (i.code, i.registers, i.offset, i.immediate)).collect();
        assert_eq!(
            words,
            [
                (0x79, 0x13, 24, 0),
                (0x69, 0x34, 2, 0),
                (0x15, 0x03, 5, 0),
                (0x63, 0x2A, -16, 0),
                (0x72, 0x0A, -1, 7),
                (0x56, 0x02, 2, -268_435_463),
                (0xDB, 0x21, 0, 0),
                (0x85, 0, 0, 127),
                (0xB7, 0, 0, 0),
                (0x95, 0, 0, 0),
            ]
        );
    }

    #[test]
    fn jumps_go_backwards_too() {
        let mut a = Asm::new();
        let start = a.label();
        a.bind(start);
        a.mov_imm(Reg::R0, 0);
        a.jump(start);
        assert_eq!(a.finish().unwrap()[1].offset, -2);
    }

    #[test]
    fn what_cannot_be_encoded_is_an_error_not_another_program() {
        let mut a = Asm::new();
        a.load(Width::Word, Reg::R0, Reg::R1, 40_000);
        a.load_field(Reg::R0, Reg::R1, Field { offset: 0, size: 3 });
        assert_eq!(a.finish(), Err(AsmError::OffsetTooFar(40_000)));
        let mut a = Asm::new();
        a.load_field(Reg::R0, Reg::R1, Field { offset: 0, size: 16 });
        assert_eq!(a.finish(), Err(AsmError::FieldSize(16)));
        let mut a = Asm::new();
        let nowhere = a.label();
        a.jump(nowhere);
        assert_eq!(a.finish(), Err(AsmError::UnboundLabel));
    }
}
