//! The program, run by the kernel on frames of ours (`BPF_PROG_TEST_RUN`). Without the privilege for that these
//! tests say so and end.

use std::net::IpAddr;

use linecard_hal::flow::{FlowMatch, FlowRule, Prefix};
use linecard_wire::{L3, parse_layers};

use super::*;
use crate::sys::bpf::Program;

fn maps() -> Option<Maps> {
    match Maps::new(4).and_then(|maps| maps.trial().map_err(|r| r.error).map(|()| maps)) {
        Ok(maps) => Some(maps),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            eprintln!("not tested: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn placed(rules: &[&str]) -> Vec<Placed> {
    let place = |(n, text): (u32, &&str)| Placed {
        rule: text.parse().unwrap(),
        slot: Maps::slot(n),
    };
    (0..).zip(rules).map(place).collect()
}

fn load(maps: &Maps, rules: &[&str], share: Share) -> Program {
    let rules = placed(rules);
    let spec = Spec {
        share,
        rules: &rules,
        frags: true,
        cookie: 0xc00c1e,
    };
    maps.program(&spec).unwrap_or_else(|r| panic!("{r}"))
}

fn verdict(program: &Program, frame: &[u8]) -> i32 {
    program.run(frame).unwrap().0 as i32
}

/// What a rule means, by the code that finds headers in software.
fn meant(m: &FlowMatch, frame: &[u8]) -> bool {
    let layers = parse_layers(frame);
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let l3 = layers.l3_offset();
    let address = |of_source: bool| -> Option<IpAddr> {
        let at = |v4: usize, v6: usize| l3 + if layers.l3 == L3::Ipv4 { v4 } else { v6 };
        let start = if of_source { at(12, 8) } else { at(16, 24) };
        match layers.l3 {
            L3::Ipv4 => Some(
                <[u8; 4]>::try_from(&frame[start..start + 4])
                    .unwrap()
                    .into(),
            ),
            L3::Ipv6 => Some(
                <[u8; 16]>::try_from(&frame[start..start + 16])
                    .unwrap()
                    .into(),
            ),
            _ => None,
        }
    };
    let within = |prefix: Option<Prefix>, of_source| {
        prefix
            .is_none_or(|p| address(of_source).and_then(|a| Prefix::new(a, p.len_bits)) == Some(p))
    };
    let port = |range: Option<linecard_hal::flow::PortRange>, at: usize| {
        range.is_none_or(|r| {
            layers.l4.has_ports() && (r.first..=r.last).contains(&half(layers.l4_offset() + at))
        })
    };
    m.ether_type.is_none_or(|kind| layers.ethertype.0 == kind)
        && m.vlan
            .is_none_or(|id| layers.vlan_count > 0 && half(14) & 0xfff == id)
        && m.protocol
            .is_none_or(|p| layers.is_ip() && layers.protocol.0 == p)
        && within(m.src, true)
        && within(m.dst, false)
        && port(m.src_port, 0)
        && port(m.dst_port, 2)
}

/// Numbers from a seed (Knuth, The Art of Computer Programming 3.3.4).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn ipv4(protocol: u8, words: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0u8; words * 4];
    ip[0] = 0x40 | words as u8;
    ip[2..4].copy_from_slice(&((words * 4 + payload.len()) as u16).to_be_bytes());
    ip[6..8].copy_from_slice(&fragment.to_be_bytes());
    ip[9] = protocol;
    ip[12..20].copy_from_slice(&[10, 1, 2, 3, 10, 2, 3, 4]);
    ip.extend_from_slice(payload);
    ip
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0u8; 40];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    ip[6] = next;
    ip[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ip[24..28].copy_from_slice(&[0xfd, 0x77, 0, 1]);
    ip.extend_from_slice(payload);
    ip
}

fn transport(protocol: u8) -> Vec<u8> {
    let mut bytes = vec![0u8; 24];
    bytes[..4].copy_from_slice(&[0x13, 0x88, 0, 53]);
    match protocol {
        6 => bytes[12] = 0x50,
        17 => bytes[5] = 24,
        _ => {}
    }
    bytes
}

/// An extension header, or several, before UDP.
fn extended(kinds: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let next = kinds.get(i + 1).copied().unwrap_or(17);
        bytes.extend_from_slice(&[next, 0, 0, 0, 0, 0, 0, 0]);
        if *kind == 51 {
            let at = bytes.len() - 7;
            bytes[at] = 1; // In words, less two.
            bytes.extend_from_slice(&[0; 4]);
        }
    }
    bytes.extend(transport(17));
    bytes
}

fn frames() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for protocol in [1u8, 6, 17, 132] {
        packets.push((0x0800u16, ipv4(protocol, 5, 0, &transport(protocol))));
        packets.push((0x0800, ipv4(protocol, 7, 0x4000, &transport(protocol))));
        packets.push((0x86dd, ipv6(protocol, &transport(protocol))));
    }
    packets.push((0x0800, ipv4(17, 5, 0x2000, &transport(17))));
    packets.push((0x0800, ipv4(17, 5, 100, &transport(17))));
    let chains: [&[u8]; 8] = [
        &[0],
        &[43, 60],
        &[51],
        &[44],
        &[0, 44],
        &[60; 8],
        &[60; 9],
        &[51, 0],
    ];
    for chain in chains {
        packets.push((0x86dd, ipv6(chain[0], &extended(chain))));
    }
    packets.push((0x0806, vec![0; 28]));
    let mut all = Vec::new();
    for (kind, packet) in packets {
        for tags in [
            &[][..],
            &[0x8100u16],
            &[0x88a8, 0x8100],
            &[0x8100, 0x8100, 0x8100],
        ] {
            let mut frame = vec![2u8; 12];
            for tag in tags {
                frame.extend_from_slice(&tag.to_be_bytes());
                frame.extend_from_slice(&[0x20, 5]);
            }
            frame.extend_from_slice(&kind.to_be_bytes());
            frame.extend_from_slice(&packet);
            all.push(frame);
        }
    }
    all
}

const RULES: [&str; 14] = [
    "ether=0x0800",
    "ether=0x86dd",
    "ether=0x8100",
    "vlan=5",
    "src=10.0.0.0/8",
    "dst=10.2.3.4",
    "src=2001:db8::/32 dst=fd77::/16",
    "dst=fd77:1::/61",
    "proto=udp",
    "proto=tcp sport=5000",
    "proto=udp dport=53",
    "proto=sctp dport=1-100 src=10.1.0.0/17",
    "vlan=5 ether=0x86dd proto=udp sport=4999-5001 dport=53",
    "",
];

#[test]
fn a_rule_means_the_same_to_the_kernel_and_to_us() {
    let Some(maps) = maps() else { return };
    let mut random = Random(1);
    let (mut matched, mut tried) = (0, 0);
    for rule in RULES {
        let rule: FlowRule = format!("{rule} => kernel").parse().unwrap();
        let program = load(&maps, &[&rule.to_string()], Share::None);
        for frame in frames() {
            for round in 0..12 {
                let mut frame = frame.clone();
                // The frame as it is, cut, or with some header byte another.
                match round {
                    0 => {}
                    1..4 => frame.truncate(14 + random.below(frame.len() - 14)),
                    _ => {
                        let at = 12 + random.below(frame.len().min(90) - 12);
                        frame[at] = random.below(256) as u8;
                    }
                }
                let meant = meant(&rule.matches, &frame);
                let passed = verdict(&program, &frame) == XDP_PASS;
                assert_eq!(
                    passed,
                    meant,
                    "{rule}: {frame:02x?} {:?}",
                    parse_layers(&frame)
                );
                tried += 1;
                matched += u32::from(meant);
            }
        }
    }
    // Neither side says the same to everything.
    assert!(
        matched > tried / 20 && matched < tried - tried / 20,
        "{matched} of {tried}"
    );
}

#[test]
fn of_two_rules_the_first_wins_and_each_counts() {
    let Some(maps) = maps() else { return };
    let rules = [
        "proto=udp dport=53 => kernel",
        "proto=udp => drop",
        "proto=tcp => kernel",
    ];
    let program = load(&maps, &rules, Share::Kernel);
    let frame = |protocol| {
        [
            &[2; 12][..],
            &[8, 0],
            &ipv4(protocol, 5, 0, &transport(protocol)),
        ]
        .concat()
    };
    let mut other = frame(17);
    other[14 + 20 + 3] = 54;
    for _ in 0..3 {
        assert_eq!(verdict(&program, &frame(17)), XDP_PASS);
    }
    assert_eq!(verdict(&program, &other), XDP_DROP);
    assert_eq!(verdict(&program, &frame(6)), XDP_PASS);
    assert_eq!(verdict(&program, &frame(1)), XDP_PASS);
    let len = frame(17).len() as u64;
    let counts: Vec<_> = (0..3).map(|n| maps.count(Maps::slot(n))).collect();
    assert_eq!(counts, [[3, 3 * len], [1, len], [1, len]]);
    assert_eq!(maps.count(PASSED)[0], 1);
}

#[test]
fn a_frame_without_a_socket_is_dropped_or_left_to_the_kernel_and_counted() {
    let Some(maps) = maps() else { return };
    let frame = [2u8; 60];
    assert_eq!(verdict(&load(&maps, &[], Share::None), &frame), XDP_DROP);
    assert_eq!(maps.count(NO_SOCKET)[0], 1);
    let shared = load(
        &maps,
        &["proto=udp => queue 0", " => queue 0"],
        Share::Kernel,
    );
    assert_eq!(verdict(&shared, &frame), XDP_PASS);
    assert_eq!(maps.count(NO_SOCKET)[0], 2);
    assert_eq!(maps.count(PASSED)[0], 0);
}

/// What another program put before a frame (`bpf_redirect` into a veth carries it along) the kernel copies to
/// before the data, where an mbuf has its headroom of 128 bytes, and before that its header.
#[test]
fn metadata_of_others_never_reach_an_mbufs_header() {
    let Some(maps) = maps() else { return };
    let frame = [2u8; 60];
    for rules in [&[][..], &["proto=udp => queue 0"], &["proto=udp => mark 9"]] {
        let program = load(&maps, rules, Share::None);
        for len in (0..=252).step_by(4) {
            let (_, after) = match program.run_behind(&vec![0xee; len], &frame) {
                // Above what this kernel takes (32 bytes before Linux 6.5).
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && len > 32 => break,
                ran => ran.unwrap(),
            };
            let before = after.len() - frame.len();
            assert!(before <= 128, "{rules:?}: {before} of {len}");
            assert_eq!(after[before..], frame);
        }
    }
}

#[test]
fn as_many_rules_as_there_may_be_are_one_program() {
    let Some(maps) = maps() else { return };
    let texts: Vec<_> = (0..MAX_RULES)
        .map(|n| {
            format!(
                "src=2001:db8:{n:x}::/61 dst=fd77::{n:x} proto=udp sport={n} dport=1-{} => drop",
                n + 1
            )
        })
        .collect();
    let rules: Vec<_> = texts.iter().map(String::as_str).collect();
    let program = load(&maps, &rules, Share::Kernel);
    assert_eq!(verdict(&program, &[2; 60]), XDP_PASS);
    for kind in ["drop", "kernel", "queue 0", "mark 9"] {
        for share in [Share::None, Share::Kernel] {
            load(&maps, &[&format!("proto=udp => {kind}")], share);
        }
    }
}
