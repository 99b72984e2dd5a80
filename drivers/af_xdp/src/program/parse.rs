//! The part of the program that finds a frame's headers, once, for all rules.
//!
//! What it finds is what `linecard_wire::parse_layers` finds, so that a rule means the same here and in
//! software: up to two VLAN tags and eight IPv6 extension headers are looked through; a header that is cut
//! short or contradicts itself ends the search, and what was found before counts; no fragment has ports; a
//! header behind the IP length, in the padding, does not count. (A test holds the two against each other.)
//!
//! Every access comes after a comparison of its end with the end of the data, which the kernel's verifier
//! checks. `r7` is the frame's beginning, `r8` its end, `r9` where layer 3 begins, and `r0` memory in a map; what is
//! found is put on the stack.
//!
//! The verifier follows each way through the code with all that it knows of registers and stack, so ways that
//! part do not meet again unless what they know is the same, and eight extension headers have many. Of memory in a
//! map it knows nothing: a number that is put there and read back is any number. That is done with what an
//! extension header leaves behind ([`forget`]), which makes the difference of two orders of magnitude in the time
//! that a program takes to load.

use super::asm::{
    Alu, Assembler, FP, Label, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Reg, Size, When,
};

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
/// The first byte below, for others.
pub(super) const NEXT_FREE: i16 = -56;

// Words in the map's memory, behind those that are kept for the rules.
const OFFSET: i16 = 64;
const LEFT: i16 = 68;
const NEXT: i16 = 72;
const FRAGMENT: i16 = 76;

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

/// The furthest that a header may be from where layer 3 begins, for the verifier's sake: no frame's first
/// piece is that long.
const FURTHEST: u32 = 0x7fff;

/// Emits the search. `r0` is memory of 80 bytes, before and after. Falls out at its end, `done` is placed there.
pub(super) fn emit(a: &mut Assembler) {
    let done = a.label();
    a.load(Size::Word, R7, R6, DATA);
    a.load(Size::Word, R8, R6, DATA_END);
    for place in [ETHER, IP] {
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

/// Puts a number into a map and takes it out again, so that the verifier forgets what it knows of it.
fn forget(a: &mut Assembler, number: Reg, place: i16) {
    a.store(Size::Word, R0, place, number);
    a.load(Size::Word, number, R0, place);
}

/// `r1` becomes what lies `r4` behind `r9`, if `len` bytes of it are there; else goes to `short`. Uses `r3`.
fn point(a: &mut Assembler, len: i32, short: Label) {
    a.jump_if(R4, When::Above, FURTHEST, short);
    a.mov(R1, R9);
    a.alu_reg(Alu::Add, R1, R4);
    need_from(a, R1, len, short);
}

fn need_from(a: &mut Assembler, from: Reg, len: i32, short: Label) {
    a.mov(R3, from);
    a.alu(Alu::Add, R3, len);
    a.jump_if_reg(R3, When::Above, R8, short);
}

/// Goes to `short` unless the frame goes on to `r4` behind `r9`. Uses `r3`.
fn reach(a: &mut Assembler, short: Label) {
    a.mov(R3, R9);
    a.alu_reg(Alu::Add, R3, R4);
    a.jump_if_reg(R3, When::Above, R8, short);
}

/// Leaves in `r4` where the transport header is, counted from `r9`, its length as IP has it in `r5`, and the
/// protocol in `r2`.
fn ipv4(a: &mut Assembler, done: Label) {
    need(a, R9, 20, done);
    // Header length in r4, version in r1.
    a.load(Size::Byte, R4, R9, 0);
    a.mov(R1, R4);
    a.alu(Alu::RightShift, R1, 4);
    a.jump_if(R1, When::NotEqual, 4, done);
    a.alu(Alu::And, R4, 0x0f);
    a.alu(Alu::LeftShift, R4, 2);
    a.jump_if(R4, When::Below, 20, done);
    a.load_be(Size::Half, R5, R9, 2);
    a.jump_if_reg(R4, When::Above, R5, done);
    reach(a, done);
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
    a.alu_reg(Alu::Sub, R5, R4);
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
    a.set(R4, 40);
    a.store_value(Size::Word, R0, FRAGMENT, 0);
    let end = a.label();
    for _ in 0..EXTENSIONS {
        extension(a, end, done);
    }
    // One more would be too many.
    for kind in [0, 43, 60, 51, 44] {
        a.jump_if(R2, When::Equal, kind, done);
    }
    a.place(end);
    a.load(Size::Word, R1, R0, FRAGMENT);
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
    point(a, 8, done);
    a.load(Size::Byte, R3, R1, 1);
    a.alu(Alu::Add, R3, 1);
    a.alu(Alu::LeftShift, R3, 3);
    let (authentication, fragment) = (a.label(), a.label());
    a.jump_if(R2, When::Equal, 51, authentication);
    a.jump_if(R2, When::NotEqual, 44, known);
    a.jump(fragment);
    a.place(authentication);
    a.load(Size::Byte, R3, R1, 1);
    a.alu(Alu::Add, R3, 2);
    a.alu(Alu::LeftShift, R3, 2);
    a.jump(known);
    a.place(fragment);
    a.set(R3, 8);
    a.store_value(Size::Word, R0, FRAGMENT, 1);
    a.place(known);
    a.jump_if_reg(R3, When::Above, R5, done);
    a.alu_reg(Alu::Add, R4, R3);
    a.alu_reg(Alu::Sub, R5, R3);
    reach(a, done);
    a.load(Size::Byte, R3, R1, 0);
    a.store(Size::Word, FP, PROTOCOL, R3);
    // What follows the header of a later fragment is not the beginning of anything.
    let whole = a.label();
    a.jump_if(R2, When::NotEqual, 44, whole);
    a.load_be(Size::Half, R2, R1, 2);
    a.jump_if(R2, When::AnyBit, 0xfff8, done);
    a.place(whole);
    a.mov(R2, R3);
    for (number, place) in [(R2, NEXT), (R4, OFFSET), (R5, LEFT)] {
        forget(a, number, place);
    }
}

/// The ports of TCP, UDP and SCTP, if the header is whole.
fn ports(a: &mut Assembler, done: Label) {
    let (tcp, udp, found) = (a.label(), a.label(), a.label());
    a.jump_if(R2, When::Equal, 6, tcp);
    a.jump_if(R2, When::Equal, 17, udp);
    a.jump_if(R2, When::NotEqual, 132, done);
    a.jump_if(R5, When::Below, 12, done);
    point(a, 12, done);
    a.jump(found);
    a.place(udp);
    a.jump_if(R5, When::Below, 8, done);
    point(a, 8, done);
    a.load_be(Size::Half, R2, R1, 4);
    a.jump_if(R2, When::Below, 8, done);
    a.jump(found);
    a.place(tcp);
    a.jump_if(R5, When::Below, 20, done);
    point(a, 20, done);
    a.load(Size::Byte, R3, R1, 12);
    a.alu(Alu::RightShift, R3, 4);
    a.alu(Alu::LeftShift, R3, 2);
    a.jump_if(R3, When::Below, 20, done);
    a.jump_if_reg(R3, When::Above, R5, done);
    a.alu_reg(Alu::Add, R4, R3);
    reach(a, done);
    a.place(found);
    for (from, to) in [(0, SRC_PORT), (2, DST_PORT)] {
        a.load_be(Size::Half, R2, R1, from);
        a.store(Size::Word, FP, to, R2);
    }
}
