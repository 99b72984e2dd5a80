//! The part of the program that finds a frame's headers, once, for all rules.
//!
//! What it finds is what `linecard_wire::parse_layers` finds, so that a rule means the same here and in
//! software: up to two VLAN tags and eight IPv6 extension headers are looked through; a header that is cut
//! short or contradicts itself ends the search, and what was found before counts; no fragment has ports; a
//! header behind the IP length, in the padding, does not count. (A test holds the two against each other.)
//!
//! Every access comes after a comparison of its end with the end of the data, which the kernel's verifier
//! checks. `r7` is the frame's beginning, `r8` its end, `r9` where layer 3 begins; what is found is put on the
//! stack.

use super::asm::{Alu, Assembler, FP, Label, R1, R2, R3, R4, R5, R6, R7, R8, R9, Reg, Size, When};

// What is found, in words on the stack.
pub(super) const ETHER: i16 = -4;
/// The VLAN id of the outer tag.
pub(super) const VLAN: i16 = -8;
/// 4, 6 or nothing.
pub(super) const IP: i16 = -12;
pub(super) const PROTOCOL: i16 = -16;
pub(super) const SRC_PORT: i16 = -20;
pub(super) const DST_PORT: i16 = -24;
/// Addresses: four words, or one for IPv4, in the order of the host.
pub(super) const SRC: i16 = -40;
pub(super) const DST: i16 = -56;
const FRAGMENT: i16 = -60;
/// The first byte below, for others.
pub(super) const NEXT_FREE: i16 = -60;

/// Where a found word is kept for the rules, in bytes from the scratch memory's beginning.
pub(super) fn kept(place: i16) -> i16 {
    -4 - place
}

/// In a word: there is none. No port, protocol or VLAN id is that large.
const NONE: i32 = 0x10_0000;

// struct xdp_md.
pub(super) const DATA: i16 = 0;
pub(super) const DATA_END: i16 = 4;

const TAGS: usize = 2;
const EXTENSIONS: usize = 8;

/// Emits the search. Falls out at its end, `done` is placed there.
pub(super) fn emit(a: &mut Assembler) {
    let done = a.label();
    a.load(Size::Word, R7, R6, DATA);
    a.load(Size::Word, R8, R6, DATA_END);
    for place in [ETHER, IP, FRAGMENT] {
        a.store_value(Size::Word, FP, place, 0);
    }
    for place in [VLAN, PROTOCOL, SRC_PORT, DST_PORT] {
        a.store_value(Size::Word, FP, place, NONE);
    }
    // The verifier wants to see every word written that a rule may read.
    for word in 0..4 {
        a.store_value(Size::Word, FP, SRC + 4 * word, 0);
        a.store_value(Size::Word, FP, DST + 4 * word, 0);
    }
    a.mov(R9, R7);
    a.alu(Alu::Add, R9, 14);
    a.jump_if_reg(R9, When::Above, R8, done);
    a.load_be(Size::Half, R1, R7, 12);
    a.store(Size::Word, FP, ETHER, R1);
    tags(a, done);
    let (v4, transport) = (a.label(), a.label());
    a.jump_if(R1, When::Equal, 0x0800, v4);
    a.jump_if(R1, When::NotEqual, 0x86dd, done);
    ipv6(a, transport, done);
    a.place(v4);
    ipv4(a, done);
    a.place(transport);
    ports(a, done);
    a.place(done);
}

/// Goes to `short` unless `len` bytes from `from` are there. Uses `r1`.
fn need(a: &mut Assembler, from: Reg, len: i32, short: Label) {
    a.mov(R1, from);
    a.alu(Alu::Add, R1, len);
    a.jump_if_reg(R1, When::Above, R8, short);
}

/// `r1` is the EtherType, before and after.
fn tags(a: &mut Assembler, done: Label) {
    let untagged = a.label();
    for depth in 0..TAGS {
        let tag = a.label();
        a.jump_if(R1, When::Equal, 0x8100, tag);
        a.jump_if(R1, When::NotEqual, 0x88a8, untagged);
        a.place(tag);
        need(a, R9, 4, done);
        if depth == 0 {
            a.load_be(Size::Half, R2, R9, 0);
            a.alu(Alu::And, R2, 0x0fff);
            a.store(Size::Word, FP, VLAN, R2);
        }
        a.load_be(Size::Half, R1, R9, 2);
        a.store(Size::Word, FP, ETHER, R1);
        a.alu(Alu::Add, R9, 4);
    }
    a.place(untagged);
}

/// Leaves the transport header in `r4`, its length as IP has it in `r5`, the protocol in `r2`.
fn ipv4(a: &mut Assembler, done: Label) {
    need(a, R9, 20, done);
    // Header length in r3, version in r1.
    a.load(Size::Byte, R3, R9, 0);
    a.mov(R1, R3);
    a.alu(Alu::RightShift, R1, 4);
    a.jump_if(R1, When::NotEqual, 4, done);
    a.alu(Alu::And, R3, 0x0f);
    a.alu(Alu::LeftShift, R3, 2);
    a.jump_if(R3, When::Below, 20, done);
    a.load_be(Size::Half, R5, R9, 2);
    a.jump_if_reg(R3, When::Above, R5, done);
    a.mov(R4, R9);
    a.alu_reg(Alu::Add, R4, R3);
    a.jump_if_reg(R4, When::Above, R8, done);
    a.store_value(Size::Word, FP, IP, 4);
    a.load(Size::Byte, R2, R9, 9);
    a.store(Size::Word, FP, PROTOCOL, R2);
    for (from, to) in [(12, SRC), (16, DST)] {
        a.load_be(Size::Word, R1, R9, from);
        a.store(Size::Word, FP, to, R1);
    }
    // "More fragments" and the offset; not "don't fragment".
    a.load_be(Size::Half, R1, R9, 6);
    a.jump_if(R1, When::AnyBit, 0x3fff, done);
    a.alu_reg(Alu::Sub, R5, R3);
}

/// As [`ipv4`], and goes to `transport`.
fn ipv6(a: &mut Assembler, transport: Label, done: Label) {
    need(a, R9, 40, done);
    a.load(Size::Byte, R1, R9, 0);
    a.alu(Alu::RightShift, R1, 4);
    a.jump_if(R1, When::NotEqual, 6, done);
    a.store_value(Size::Word, FP, IP, 6);
    for word in 0..4 {
        for (from, to) in [(8, SRC), (24, DST)] {
            a.load_be(Size::Word, R1, R9, from + 4 * word);
            a.store(Size::Word, FP, to + 4 * word, R1);
        }
    }
    a.load_be(Size::Half, R5, R9, 4);
    a.load(Size::Byte, R2, R9, 6);
    a.store(Size::Word, FP, PROTOCOL, R2);
    a.mov(R4, R9);
    a.alu(Alu::Add, R4, 40);
    let end = a.label();
    for _ in 0..EXTENSIONS {
        extension(a, end, done);
    }
    // One more would be too many.
    for kind in [0, 43, 60, 51, 44] {
        a.jump_if(R2, When::Equal, kind, done);
    }
    a.place(end);
    a.load(Size::Word, R1, FP, FRAGMENT);
    a.jump_if(R1, When::NotEqual, 0, done);
    a.jump(transport);
}

/// Looks past one extension header, if `r2` is one; else goes to `end`.
fn extension(a: &mut Assembler, end: Label, done: Label) {
    let (is, known) = (a.label(), a.label());
    for kind in [0, 43, 60, 51, 44] {
        a.jump_if(R2, When::Equal, kind, is);
    }
    a.jump(end);
    a.place(is);
    // None is shorter than eight bytes.
    a.jump_if(R5, When::Below, 8, done);
    need(a, R4, 8, done);
    a.load(Size::Byte, R3, R4, 1);
    a.alu(Alu::Add, R3, 1);
    a.alu(Alu::LeftShift, R3, 3);
    // The usual kind first: what the verifier has seen of it covers the other two.
    let (authentication, fragment) = (a.label(), a.label());
    a.jump_if(R2, When::Equal, 51, authentication);
    a.jump_if(R2, When::NotEqual, 44, known);
    a.jump(fragment);
    a.place(authentication);
    a.load(Size::Byte, R3, R4, 1);
    a.alu(Alu::Add, R3, 2);
    a.alu(Alu::LeftShift, R3, 2);
    a.jump(known);
    a.place(fragment);
    a.set(R3, 8);
    a.store_value(Size::Word, FP, FRAGMENT, 1);
    a.place(known);
    a.jump_if_reg(R3, When::Above, R5, done);
    a.mov(R1, R4);
    a.alu_reg(Alu::Add, R1, R3);
    a.jump_if_reg(R1, When::Above, R8, done);
    a.alu_reg(Alu::Sub, R5, R3);
    a.load(Size::Byte, R3, R4, 0);
    a.store(Size::Word, FP, PROTOCOL, R3);
    // What follows the header of a later fragment is not the beginning of anything.
    let whole = a.label();
    a.jump_if(R2, When::NotEqual, 44, whole);
    a.load_be(Size::Half, R2, R4, 2);
    a.jump_if(R2, When::AnyBit, 0xfff8, done);
    a.place(whole);
    a.mov(R2, R3);
    a.mov(R4, R1);
}

/// The ports of TCP, UDP and SCTP, if the header is whole.
fn ports(a: &mut Assembler, done: Label) {
    let (tcp, udp, found) = (a.label(), a.label(), a.label());
    a.jump_if(R2, When::Equal, 6, tcp);
    a.jump_if(R2, When::Equal, 17, udp);
    a.jump_if(R2, When::NotEqual, 132, done);
    a.jump_if(R5, When::Below, 12, done);
    need(a, R4, 12, done);
    a.jump(found);
    a.place(udp);
    a.jump_if(R5, When::Below, 8, done);
    need(a, R4, 8, done);
    a.load_be(Size::Half, R1, R4, 4);
    a.jump_if(R1, When::Below, 8, done);
    a.jump(found);
    a.place(tcp);
    a.jump_if(R5, When::Below, 20, done);
    need(a, R4, 20, done);
    a.load(Size::Byte, R3, R4, 12);
    a.alu(Alu::RightShift, R3, 4);
    a.alu(Alu::LeftShift, R3, 2);
    a.jump_if(R3, When::Below, 20, done);
    a.jump_if_reg(R3, When::Above, R5, done);
    a.mov(R1, R4);
    a.alu_reg(Alu::Add, R1, R3);
    a.jump_if_reg(R1, When::Above, R8, done);
    a.place(found);
    for (from, to) in [(0, SRC_PORT), (2, DST_PORT)] {
        a.load_be(Size::Half, R1, R4, from);
        a.store(Size::Word, FP, to, R1);
    }
}
