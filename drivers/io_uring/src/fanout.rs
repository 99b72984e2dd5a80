//! Spreading frames over queues: the program that the kernel runs for each frame of a fanout group.
//!
//! It computes the Toeplitz hash with the symmetric key `6d 5a 6d 5a …`, as a NIC's RSS does with that
//! key, and the kernel takes the remainder by the number of queues; so both directions of a flow, and
//! the same flow on another driver, meet the same queue number.
//!
//! | frame | hashed |
//! | --- | --- |
//! | TCP, UDP, SCTP over IPv4 (not a fragment) or directly over IPv6 | addresses and ports |
//! | other IPv4 and IPv6 | addresses |
//! | anything else | nothing: queue 0 |
//!
//! # Why it is short
//!
//! Toeplitz XORs, for each set bit `i` of the input, the 32 key bits from `i` on. This key repeats every
//! 16 bits, so those depend on `i mod 16` only: the input may be folded to 16 bits by XOR first, which is
//! also why swapping source and destination changes nothing. What is left is linear in the folded word
//! `f`: bit `j` (from the most significant) contributes the key rotated left by `j`, in both halves of
//! the result. That is the cyclic carry-less product of the bit-reversed `f` and the key's word `0x6d5a`,
//! computed by shifting and XORing once for each of its nine set bits.

use libc::sock_filter;

/// The 16 bits that the key repeats.
const KEY: u32 = 0x6d5a;

// linux/bpf_common.h
const LD_W_ABS: u16 = 0x20;
const LD_H_ABS: u16 = 0x28;
const LD_B_ABS: u16 = 0x30;
const LD_W_IND: u16 = 0x40;
const LD_MEM: u16 = 0x60;
const LDX_MEM: u16 = 0x61;
const LDX_MSH: u16 = 0xb1;
const ST: u16 = 0x02;
const XOR_X: u16 = 0xac;
const OR_X: u16 = 0x4c;
const AND_K: u16 = 0x54;
const LSH_K: u16 = 0x64;
const RSH_K: u16 = 0x74;
const MUL_K: u16 = 0x24;
const JEQ_K: u16 = 0x15;
const JSET_K: u16 = 0x45;
const JA: u16 = 0x05;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
/// Loads of the frame's protocol number instead of its bytes: `SKF_AD_OFF + SKF_AD_PROTOCOL`.
const AD_PROTOCOL: u32 = 0xffff_f000;

/// Slot 0 holds the folded input, slot 1 is scratch.
const FOLD: u32 = 0;
const SCRATCH: u32 = 1;

/// Instructions with jumps to labels, which lie further on.
#[derive(Default)]
struct Code {
    code: Vec<sock_filter>,
    /// Jumps to mend: instruction, whether on true, label.
    jumps: Vec<(usize, bool, &'static str)>,
    labels: Vec<(&'static str, usize)>,
}

impl Code {
    fn op(&mut self, code: u16, k: u32) -> &mut Self {
        self.code.push(sock_filter {
            code,
            jt: 0,
            jf: 0,
            k,
        });
        self
    }

    /// Goes to `label` if the comparison holds, on if not.
    fn jump_if(&mut self, code: u16, k: u32, label: &'static str) -> &mut Self {
        self.jumps.push((self.code.len(), true, label));
        self.op(code, k)
    }

    /// Goes to `label` if the comparison does not hold.
    fn jump_unless(&mut self, code: u16, k: u32, label: &'static str) -> &mut Self {
        self.jumps.push((self.code.len(), false, label));
        self.op(code, k)
    }

    fn label(&mut self, label: &'static str) -> &mut Self {
        self.labels.push((label, self.code.len()));
        self
    }

    fn finish(mut self) -> Vec<sock_filter> {
        for (at, on_true, label) in self.jumps {
            let target = self
                .labels
                .iter()
                .find(|(name, _)| *name == label)
                .map_or(at, |l| l.1);
            let distance = target.saturating_sub(at + 1);
            let instruction = &mut self.code[at];
            match instruction.code {
                JA => instruction.k = distance as u32,
                // The program is far shorter than 256 instructions.
                _ if on_true => instruction.jt = distance as u8,
                _ => instruction.jf = distance as u8,
            }
        }
        self.code
    }

    /// XORs the 32-bit words at these offsets.
    fn fold_words(&mut self, mut offsets: impl Iterator<Item = u32>) -> &mut Self {
        if let Some(first) = offsets.next() {
            self.op(LD_W_ABS, first);
        }
        for offset in offsets {
            self.op(TAX, 0).op(LD_W_ABS, offset).op(XOR_X, 0);
        }
        self
    }
}

/// The program. Offsets count from the network header: that is where a fanout program starts.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut c = Code::default();
    c.op(LD_H_ABS, AD_PROTOCOL);
    c.jump_if(JEQ_K, 0x0800, "ipv4")
        .jump_if(JEQ_K, 0x86dd, "ipv6")
        .op(RET_K, 0);

    c.label("ipv4")
        .fold_words([12, 16].into_iter())
        .op(ST, FOLD);
    c.op(LD_H_ABS, 6).jump_if(JSET_K, 0x3fff, "hash"); // more fragments, or not the first
    c.op(LD_B_ABS, 9);
    c.jump_if(JEQ_K, 6, "ipv4 ports")
        .jump_if(JEQ_K, 17, "ipv4 ports");
    c.jump_unless(JEQ_K, 132, "hash");
    c.label("ipv4 ports").op(LDX_MSH, 0).op(LD_W_IND, 0);
    c.op(LDX_MEM, FOLD)
        .op(XOR_X, 0)
        .op(ST, FOLD)
        .jump_if(JA, 0, "hash");

    c.label("ipv6").fold_words((8..40).step_by(4)).op(ST, FOLD);
    c.op(LD_B_ABS, 6);
    c.jump_if(JEQ_K, 6, "ipv6 ports")
        .jump_if(JEQ_K, 17, "ipv6 ports");
    c.jump_unless(JEQ_K, 132, "hash");
    c.label("ipv6 ports").op(LD_W_ABS, 40);
    c.op(LDX_MEM, FOLD).op(XOR_X, 0).op(ST, FOLD);

    c.label("hash");
    // To 16 bits.
    c.op(LD_MEM, FOLD)
        .op(TAX, 0)
        .op(RSH_K, 16)
        .op(XOR_X, 0)
        .op(AND_K, 0xffff);
    // In reverse order: neighbours change places, then pairs, nibbles and bytes.
    for (distance, mask) in [(1, 0x5555), (2, 0x3333), (4, 0x0f0f), (8, 0x00ff)] {
        c.op(TAX, 0)
            .op(RSH_K, distance)
            .op(AND_K, mask)
            .op(ST, SCRATCH);
        c.op(TXA, 0)
            .op(AND_K, mask)
            .op(LSH_K, distance)
            .op(LDX_MEM, SCRATCH)
            .op(OR_X, 0);
    }
    // The carry-less product, by Horner's rule from the key's highest set bit (14) down: 30 bits at
    // most, so nothing is lost.
    c.op(TAX, 0);
    let mut shift = 0;
    for bit in (0..14).rev() {
        shift += 1;
        if KEY >> bit & 1 == 1 {
            c.op(LSH_K, shift).op(XOR_X, 0);
            shift = 0;
        }
    }
    c.op(LSH_K, shift);
    // Modulo x^16 - 1, then the same in both halves.
    c.op(TAX, 0)
        .op(RSH_K, 16)
        .op(XOR_X, 0)
        .op(AND_K, 0xffff)
        .op(MUL_K, 0x1_0001);
    c.op(RET_A, 0);
    c.finish()
}

#[cfg(test)]
mod tests;
