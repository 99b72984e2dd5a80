//! Flow rules as instructions: comparisons with constants, in the order of the rules.
//!
//! Instructions and not a map that the program walks over: a comparison with a constant costs one
//! instruction, a walk loads rule and mask for each field of each rule. Rules change rarely, and the kernel
//! swaps a program for another between two frames (`BPF_LINK_UPDATE`).

use std::net::IpAddr;

use linecard_hal::flow::{FlowAction, FlowMatch, PortRange, Prefix};

use super::Slot;
use super::asm::{Alu, Assembler, FP, Label, R1, R7, R9, Size, When};
use super::parse::{DST, DST_PORT, ETHER, IP, PROTOCOL, SRC, SRC_PORT, VLAN, kept};

/// Where a frame goes when a rule has matched; `r9` is the rule's counter then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways {
    pub(super) drop: Label,
    pub(super) kernel: Label,
    pub(super) receive: Label,
}

/// What rules read, of what the search finds.
pub(super) fn places<'a>(rules: impl Iterator<Item = &'a FlowMatch>) -> Vec<i16> {
    let mut all = Vec::new();
    for m in rules {
        let words = [
            (ETHER, m.ether_type.is_some()),
            (VLAN, m.vlan.is_some()),
            (PROTOCOL, m.protocol.is_some()),
            (SRC_PORT, m.src_port.is_some()),
            (DST_PORT, m.dst_port.is_some()),
            (IP, m.src.is_some() || m.dst.is_some()),
        ];
        all.extend(
            words
                .into_iter()
                .filter(|(_, read)| *read)
                .map(|(place, _)| place),
        );
        for (place, prefix) in [(SRC, m.src), (DST, m.dst)] {
            let read = prefix.map_or(0, |p| p.len_bits.div_ceil(32));
            all.extend((0..i16::from(read)).map(|word| place + 4 * word));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Emits one rule. A frame that it does not match falls out at its end. With `mark` there is a word on the
/// stack for the mark.
pub(super) fn emit(
    a: &mut Assembler,
    matches: &FlowMatch,
    action: &FlowAction,
    slot: Slot,
    ways: Ways,
    mark: i16,
) {
    let next = a.label();
    emit_match(a, matches, next);
    a.set(R9, slot.0 as i32);
    match action {
        FlowAction::Drop => a.jump(ways.drop),
        FlowAction::Kernel => a.jump(ways.kernel),
        FlowAction::Queue(_) | FlowAction::Rss(_) => a.jump(ways.receive),
        FlowAction::Mark(value) => {
            a.store_value(Size::Word, FP, mark, *value as i32);
            a.store_value(Size::Word, FP, mark + 4, 1);
            a.jump(ways.receive);
        }
    }
    a.place(next);
}

fn emit_match(a: &mut Assembler, m: &FlowMatch, next: Label) {
    for (place, value) in [
        (ETHER, m.ether_type.map(u32::from)),
        (VLAN, m.vlan.map(u32::from)),
        (PROTOCOL, m.protocol.map(u32::from)),
    ] {
        if let Some(value) = value {
            a.load(Size::Word, R1, R7, kept(place));
            a.jump_if(R1, When::NotEqual, value, next);
        }
    }
    for (place, ports) in [(SRC_PORT, m.src_port), (DST_PORT, m.dst_port)] {
        if let Some(ports) = ports {
            emit_ports(a, place, ports, next);
        }
    }
    if let Some(prefix) = m.src.or(m.dst) {
        a.load(Size::Word, R1, R7, kept(IP));
        let version = if prefix.address.is_ipv4() { 4 } else { 6 };
        a.jump_if(R1, When::NotEqual, version, next);
    }
    for (place, prefix) in [(SRC, m.src), (DST, m.dst)] {
        if let Some(prefix) = prefix {
            emit_prefix(a, place, &prefix, next);
        }
    }
}

fn emit_ports(a: &mut Assembler, place: i16, ports: PortRange, next: Label) {
    a.load(Size::Word, R1, R7, kept(place));
    a.jump_if(R1, When::Below, u32::from(ports.first), next);
    // Also when there is none, which is a number above all ports.
    a.jump_if(R1, When::Above, u32::from(ports.last), next);
}

fn emit_prefix(a: &mut Assembler, place: i16, prefix: &Prefix, next: Label) {
    for (i, (word, mask)) in (0..).zip(words(prefix.address).into_iter().zip(words(prefix.mask())))
    {
        if mask == 0 {
            break;
        }
        a.load(Size::Word, R1, R7, kept(place + 4 * i));
        if mask != u32::MAX {
            a.alu32(Alu::And, R1, mask);
        }
        a.jump_if(R1, When::NotEqual, word, next);
    }
}

/// An address in words; one of IPv4 has only the first.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(a) => [a.to_bits(), 0, 0, 0],
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}
