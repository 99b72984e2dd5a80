//! A small assembler for eBPF: instructions, labels, nothing else.
//!
//! ```text
//!   opcode 8 │ dst 4 │ src 4 │ offset 16 │ immediate 32      RFC 9669, section 3
//! ```
//!
//! It knows the instructions that the program needs. Jumps go forward only, to a label that is placed
//! later, so what it assembles ends.

use crate::sys::bpf::Instruction;

/// A register. `r0` holds results, `r1` to `r5` are arguments and lost by a call, `r6` to `r9` are kept, and
/// `r10` is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reg(u8);

pub(super) const R0: Reg = Reg(0);
pub(super) const R1: Reg = Reg(1);
pub(super) const R2: Reg = Reg(2);
pub(super) const R3: Reg = Reg(3);
pub(super) const R4: Reg = Reg(4);
pub(super) const R5: Reg = Reg(5);
pub(super) const R6: Reg = Reg(6);
pub(super) const R7: Reg = Reg(7);
pub(super) const R8: Reg = Reg(8);
pub(super) const R9: Reg = Reg(9);
pub(super) const FP: Reg = Reg(10);

/// How much is loaded or stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// Arithmetic.
#[derive(Debug, Clone, Copy)]
pub(super) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    And = 0x50,
    LeftShift = 0x60,
    RightShift = 0x70,
    Mov = 0xb0,
}

/// When a jump is taken. Comparisons are unsigned.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    Equal = 0x10,
    Above = 0x20,
    AnyBit = 0x40,
    NotEqual = 0x50,
    Below = 0xa0,
}

/// Functions of the kernel (`enum bpf_func_id`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Helper {
    MapLookup = 1,
    RedirectMap = 51,
    AdjustMeta = 54,
    BufferLen = 188,
}

const LD_IMM64: u8 = 0x18;
const LDX: u8 = 0x61;
const ST: u8 = 0x62;
const STX: u8 = 0x63;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU32: u8 = 0x04;
const ALU64: u8 = 0x07;
const FROM_REG: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const TO_BIG_ENDIAN: u8 = 0xdc;

/// `src` of a 64-bit load whose immediate is a map's descriptor (BPF_PSEUDO_MAP_FD).
const MAP_FD: u8 = 1;

/// Somewhere further down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Code under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is, once it is placed.
    labels: Vec<Option<usize>>,
    /// Jumps, and where to.
    jumps: Vec<(usize, Label)>,
}

fn encode(opcode: u8, dst: Reg, src: u8, offset: i16, immediate: i32) -> Instruction {
    u64::from(opcode)
        | u64::from(dst.0) << 8
        | u64::from(src) << 12
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}

impl Assembler {
    fn emit(&mut self, opcode: u8, dst: Reg, src: u8, offset: i16, immediate: i32) {
        self.code.push(encode(opcode, dst, src, offset, immediate));
    }

    /// A label to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The next instruction is where `label` leads.
    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `dst = dst op immediate`, 64 bits.
    pub(super) fn alu(&mut self, op: Alu, dst: Reg, immediate: i32) {
        self.emit(ALU64 | op as u8, dst, 0, 0, immediate);
    }

    /// `dst = dst op src`, 64 bits.
    pub(super) fn alu_reg(&mut self, op: Alu, dst: Reg, src: Reg) {
        self.emit(ALU64 | FROM_REG | op as u8, dst, src.0, 0, 0);
    }

    /// `dst = dst op immediate`, 32 bits; the upper half becomes zero.
    pub(super) fn alu32(&mut self, op: Alu, dst: Reg, immediate: u32) {
        self.emit(ALU32 | op as u8, dst, 0, 0, immediate as i32);
    }

    pub(super) fn mov(&mut self, dst: Reg, src: Reg) {
        self.alu_reg(Alu::Mov, dst, src);
    }

    pub(super) fn set(&mut self, dst: Reg, value: i32) {
        self.alu(Alu::Mov, dst, value);
    }

    /// `dst = *(base + offset)`.
    pub(super) fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.emit(LDX | size as u8, dst, base.0, offset, 0);
    }

    /// The same for a number in network byte order, of two bytes or four.
    pub(super) fn load_be(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.load(size, dst, base, offset);
        let bits = if matches!(size, Size::Half) { 16 } else { 32 };
        self.emit(TO_BIG_ENDIAN, dst, 0, 0, bits);
    }

    /// `*(base + offset) = src`.
    pub(super) fn store(&mut self, size: Size, base: Reg, offset: i16, src: Reg) {
        self.emit(STX | size as u8, base, src.0, offset, 0);
    }

    /// `*(base + offset) = value`.
    pub(super) fn store_value(&mut self, size: Size, base: Reg, offset: i16, value: i32) {
        self.emit(ST | size as u8, base, 0, offset, value);
    }

    /// `dst` becomes a map.
    pub(super) fn load_map(&mut self, dst: Reg, fd: i32) {
        self.emit(LD_IMM64, dst, MAP_FD, 0, fd);
        self.code.push(0);
    }

    /// Always.
    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(JMP, R0, 0, 0, 0);
    }

    /// When the lower half of `left` and a number compare so.
    pub(super) fn jump_if(&mut self, left: Reg, when: When, right: u32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(JMP32 | when as u8, left, 0, 0, right as i32);
    }

    /// When two registers compare so: 64 bits, as packet pointers are.
    pub(super) fn jump_if_reg(&mut self, left: Reg, when: When, right: Reg, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(JMP | FROM_REG | when as u8, left, right.0, 0, 0);
    }

    /// When a pointer is null.
    pub(super) fn jump_if_null(&mut self, pointer: Reg, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(JMP | When::Equal as u8, pointer, 0, 0, 0);
    }

    pub(super) fn call(&mut self, helper: Helper) {
        self.emit(CALL, R0, 0, 0, helper as i32);
    }

    pub(super) fn exit(&mut self) {
        self.emit(EXIT, R0, 0, 0, 0);
    }

    /// The code, with every jump's distance filled in, and without what is never reached, which the kernel's
    /// verifier refuses. `None` if a jump is too far or leads nowhere.
    pub(super) fn finish(self) -> Option<Vec<Instruction>> {
        let mut leads = vec![None; self.code.len()];
        for (from, label) in &self.jumps {
            leads[*from] = Some(self.labels[label.0]?);
        }
        let reached = self.reached(&leads);
        // Where each instruction is when those that are never reached are gone.
        let mut places = Vec::with_capacity(self.code.len() + 1);
        let mut place = 0;
        for is_reached in &reached {
            places.push(place);
            place += usize::from(*is_reached);
        }
        places.push(place);
        let mut code = Vec::with_capacity(place);
        for (from, instruction) in self
            .code
            .iter()
            .enumerate()
            .filter(|(from, _)| reached[*from])
        {
            let distance = match leads[from] {
                Some(to) => {
                    let distance = places.get(to)?.checked_sub(places[from] + 1)?;
                    i16::try_from(distance).ok()?
                }
                None => 0,
            };
            code.push(instruction | u64::from(distance as u16) << 16);
        }
        Some(code)
    }

    /// Jumps go forward only, so one pass from the front knows what can be reached.
    fn reached(&self, leads: &[Option<usize>]) -> Vec<bool> {
        let mut reached = vec![false; self.code.len()];
        let mark = |reached: &mut Vec<bool>, at: usize| {
            if let Some(it) = reached.get_mut(at) {
                *it = true;
            }
        };
        mark(&mut reached, 0);
        let mut at = 0;
        while at < self.code.len() {
            let opcode = self.code[at] as u8;
            let len = if opcode == LD_IMM64 { 2 } else { 1 };
            if reached[at] {
                if let Some(to) = leads[at] {
                    mark(&mut reached, to);
                }
                if len == 2 {
                    mark(&mut reached, at + 1);
                }
                if opcode != EXIT && opcode != JMP {
                    mark(&mut reached, at + len);
                }
            }
            at += len;
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of instructions as `llvm-objdump -d` and `bpftool prog dump xlated opcodes` show them.
    fn bytes(assembler: Assembler) -> Vec<[u8; 8]> {
        let code = assembler.finish().expect("it assembles");
        code.into_iter().map(u64::to_le_bytes).collect()
    }

    fn one(emit: impl FnOnce(&mut Assembler)) -> [u8; 8] {
        let mut a = Assembler::default();
        emit(&mut a);
        bytes(a)[0]
    }

    #[test]
    fn instructions_are_encoded_as_rfc_9669_says() {
        assert_eq!(one(|a| a.set(R0, 2)), [0xb7, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(one(|a| a.mov(R6, R1)), [0xbf, 0x16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            one(|a| a.alu(Alu::Add, R2, -8)),
            [0x07, 0x02, 0, 0, 0xf8, 0xff, 0xff, 0xff]
        );
        assert_eq!(
            one(|a| a.alu_reg(Alu::Add, R9, R1)),
            [0x0f, 0x19, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.alu32(Alu::And, R1, 0xf0)),
            [0x54, 0x01, 0, 0, 0xf0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.alu(Alu::LeftShift, R1, 2)),
            [0x67, 0x01, 0, 0, 2, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.load(Size::Word, R2, R6, 16)),
            [0x61, 0x62, 16, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.load(Size::Byte, R1, R7, 23)),
            [0x71, 0x71, 23, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.load(Size::Half, R1, R7, 12)),
            [0x69, 0x71, 12, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.load(Size::Double, R1, R0, 8)),
            [0x79, 0x01, 8, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.store(Size::Word, FP, -4, R1)),
            [0x63, 0x1a, 0xfc, 0xff, 0, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.store_value(Size::Word, FP, -4, 9)),
            [0x62, 0x0a, 0xfc, 0xff, 9, 0, 0, 0]
        );
        assert_eq!(
            one(|a| a.call(Helper::RedirectMap)),
            [0x85, 0, 0, 0, 51, 0, 0, 0]
        );
        assert_eq!(one(Assembler::exit), [0x95, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_map_takes_two_instructions() {
        let mut a = Assembler::default();
        a.load_map(R1, 5);
        assert_eq!(bytes(a), [[0x18, 0x11, 0, 0, 5, 0, 0, 0], [0; 8]]);
        let mut a = Assembler::default();
        a.load_be(Size::Half, R1, R7, 12);
        assert_eq!(bytes(a)[1], [0xdc, 0x01, 0, 0, 16, 0, 0, 0]);
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut a = Assembler::default();
        let (near, far) = (a.label(), a.label());
        a.jump_if(R1, When::NotEqual, 0x86dd, far);
        a.jump_if_reg(R2, When::Above, R8, near);
        a.jump(far);
        a.place(near);
        a.set(R0, 1);
        a.place(far);
        a.exit();
        let code = bytes(a);
        assert_eq!(code[0], [0x56, 0x01, 3, 0, 0xdd, 0x86, 0, 0]);
        assert_eq!(code[1], [0x2d, 0x82, 1, 0, 0, 0, 0, 0]);
        assert_eq!(code[2], [0x05, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_never_reached_is_left_out() {
        let mut a = Assembler::default();
        let (end, never) = (a.label(), a.label());
        a.jump_if(R1, When::Equal, 1, end);
        a.jump(end);
        a.place(never);
        a.load_map(R1, 5);
        a.jump(end);
        a.place(end);
        a.exit();
        let code = bytes(a);
        assert_eq!(code.len(), 3);
        assert_eq!((code[0][2], code[1][2]), (1, 0));
    }

    #[test]
    fn what_leads_nowhere_does_not_assemble() {
        let mut a = Assembler::default();
        let label = a.label();
        a.jump(label);
        assert!(a.finish().is_none(), "not placed");
        let mut a = Assembler::default();
        let label = a.label();
        a.jump_if(R1, When::Equal, 0, label);
        for _ in 0..40_000 {
            a.set(R0, 0);
        }
        a.place(label);
        assert!(a.finish().is_none(), "too far");
    }
}
