//! What DPDK is given for a rule, byte by byte, and what happens where a device takes none.

use linecard_hal::flow::{FlowAction, FlowRule};
use linecard_hal::{Mempool, MempoolConfig, PortConfig, PortErrorKind};
use proptest::prelude::*;

use super::translate::{Dialect, overlap, ways};

fn dialect() -> Dialect {
    Dialect {
        queues: 4,
        key_len: 40,
        rss_types: 0,
    }
}

fn rule(text: &str) -> FlowRule {
    text.parse().unwrap()
}

/// All ways to say a rule, version by version.
fn said(text: &str) -> Vec<Vec<String>> {
    let all = ways(&rule(text), &dialect()).unwrap();
    all.iter()
        .map(|ways| ways.iter().map(|form| form.describe()).collect())
        .collect()
}

const NO: &str = "00000000";

/// An IPv4 header with protocol and addresses, as 20 bytes.
fn ipv4(protocol: &str, src: &str, dst: &str) -> String {
    format!("{NO}{NO}00{protocol}0000{src}{dst}")
}

#[test]
fn a_five_tuple_is_said_with_the_protocol_twice_and_then_once() {
    let ip = |protocol: &str, name: &str| {
        let (spec, mask) = match protocol {
            "" => (ipv4("00", NO, "0a000000"), ipv4("00", NO, "ff000000")),
            p => (ipv4(p, NO, "0a000000"), ipv4("ff", NO, "ff000000")),
        };
        format!(
            "priority=0 / eth / ipv4 spec={spec} mask={mask} / {name} spec=0000003500000000 mask=0000ffff00000000 => queue=1"
        )
    };
    assert_eq!(
        said("dst=10.0.0.0/8 proto=udp dport=53 => queue 1"),
        [[ip("11", "udp"), ip("", "udp")]]
    );
}

#[test]
fn each_field_and_action_has_its_bytes() {
    for (text, starts) in [
        ("=> drop", "eth => drop".to_owned()),
        (
            "ether=0x0806 => drop",
            format!(
                "eth spec={0}{0}{0}0806 mask={0}{0}{0}ffff => drop",
                "00000000"
            ),
        ),
        (
            "vlan=5 => queue 3",
            "eth / vlan spec=00050000 mask=0fff0000 => queue=3".into(),
        ),
        (
            "ether=0x0806 vlan=4095 => drop",
            "eth / vlan spec=0fff0806 mask=0fffffff => drop".into(),
        ),
        ("ether=0x0800 => drop", "eth / ipv4 => drop".into()),
        (
            "ether=0x86dd vlan=1 => drop",
            "eth / vlan spec=00010000 mask=0fff0000 / ipv6 => drop".into(),
        ),
        (
            "src=192.0.2.1 => rss 0,2",
            format!(
                "eth / ipv4 spec={} mask={} => rss=0,2",
                ipv4("00", "c0000201", NO),
                ipv4("00", "ffffffff", NO)
            ),
        ),
        (
            "src=2001:db8::/32 proto=89 => drop",
            format!(
                "eth / ipv6 spec={NO}00005900{src:0<32}{z:0<32} mask={NO}0000ff00{mask:0<32}{z:0<32} => drop",
                src = "20010db8",
                mask = "ffffffff",
                z = "",
            ),
        ),
        (
            "ether=0x0800 proto=icmp => mark 7",
            format!(
                "eth / ipv4 spec={} mask={} => mark=7 passthru",
                ipv4("01", NO, NO),
                ipv4("ff", NO, NO)
            ),
        ),
        (
            "proto=icmp6 => drop",
            format!(
                "eth / ipv6 spec={NO}00003a00{0:0<64} mask={NO}0000ff00{0:0<64} => drop",
                ""
            ),
        ),
        (
            "ether=0x0800 proto=tcp sport=80 => drop",
            format!(
                "eth / ipv4 spec={} mask={} / tcp spec=00500000{t:0<32} mask=ffff0000{t:0<32} => drop",
                ipv4("06", NO, NO),
                ipv4("ff", NO, NO),
                t = "",
            ),
        ),
        (
            "ether=0x0800 proto=sctp dport=1000-1999 => drop",
            format!(
                "eth / ipv4 spec={} mask={} / sctp spec=000003e8{t:0<16} last=000007cf{t:0<16} mask=0000ffff{t:0<16} => drop",
                ipv4("84", NO, NO),
                ipv4("ff", NO, NO),
                t = "",
            ),
        ),
        (
            "ether=0x0800 proto=udp dport=1024-2047 => drop",
            format!(
                "eth / ipv4 spec={} mask={} / udp spec=0000040000000000 mask=0000fc0000000000 => drop",
                ipv4("11", NO, NO),
                ipv4("ff", NO, NO),
            ),
        ),
        (
            "ether=0x0800 proto=udp dport=0-65535 => drop",
            format!(
                "eth / ipv4 spec={} mask={} / udp => drop",
                ipv4("11", NO, NO),
                ipv4("ff", NO, NO)
            ),
        ),
    ] {
        let all = said(text);
        assert_eq!(all.len(), 1, "{text}: {all:#?}");
        assert_eq!(all[0][0], format!("priority=0 / {starts}"), "{text}");
    }
}

#[test]
fn other_ways_to_say_the_same() {
    // The type alone, where an empty IP header is not understood.
    assert!(said("ether=0x0800 => drop")[0][1].contains("eth spec=0000000000000000000000000800"));
    // A block of ports as a range.
    let block = said("ether=0x0800 proto=udp dport=1024-2047 => drop").remove(0);
    assert!(
        block.iter().any(|way| way.contains(" last=000007ff")),
        "{block:#?}"
    );
    // A mark with its way on spelled out.
    let mark = said("=> mark 9").remove(0);
    assert!(mark[1].ends_with("=> mark=9 rss=0,1,2,3"), "{mark:#?}");
    // A protocol of both versions.
    let both = said("proto=udp dport=53 => drop");
    assert_eq!(both.len(), 2);
    assert!(both[0][0].contains("ipv4") && both[1][0].contains("ipv6"));
}

#[test]
fn what_no_device_can_do_is_refused_with_a_reason() {
    for (text, says) in [
        ("=> kernel", "no kernel behind it"),
        ("=> queue 4", "queue 4, but the port runs with 4"),
        ("=> rss 0,9", "queue 9"),
        ("ether=0x0806 proto=udp => drop", "ether=0x0806"),
    ] {
        let why = ways(&rule(text), &dialect()).unwrap_err();
        assert!(why.contains(says), "{text}: {why}");
    }
}

#[test]
fn rules_overlap_if_a_frame_can_match_both() {
    for (a, b, both) in [
        ("=> drop", "vlan=1 => drop", true),
        ("vlan=1 => drop", "vlan=2 => drop", false),
        ("dst=10.0.0.0/8 => drop", "dst=10.1.0.0/16 => drop", true),
        ("dst=10.0.0.0/8 => drop", "dst=11.1.0.0/16 => drop", false),
        ("dst=10.0.0.0/8 => drop", "src=2001:db8::1 => drop", false),
        ("proto=udp => drop", "proto=tcp => drop", false),
        (
            "proto=udp dport=1-9 => drop",
            "proto=udp dport=9-11 => drop",
            true,
        ),
        (
            "proto=udp dport=1-9 => drop",
            "proto=udp dport=10 => drop",
            false,
        ),
    ] {
        let (a, b) = (rule(a).matches, rule(b).matches);
        assert_eq!(
            (overlap(&a, &b), overlap(&b, &a)),
            (both, both),
            "{a:?} {b:?}"
        );
    }
}

proptest! {
    /// Whatever the ports: each way lets exactly these through.
    #[test]
    fn every_spelling_of_ports_means_the_same(a: u16, b: u16, probe: u16) {
        let (first, last) = (a.min(b), a.max(b));
        let all = ways(&rule(&format!("ether=0x0800 proto=udp dport={first}-{last} => drop")), &dialect()).unwrap();
        for form in &all[0] {
            let p = form.flat.dst_port;
            for port in [probe, first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                let masked = port & p.mask;
                let taken = masked >= p.first & p.mask && masked <= p.last & p.mask;
                prop_assert_eq!(taken, (first..=last).contains(&port), "{} by {:?}", port, p);
            }
        }
    }

    /// Nothing is compared outside of the mask, and a prefix keeps its bits.
    #[test]
    fn addresses_are_in_network_order(bits: u32, len in 0u8..=32) {
        let address = std::net::Ipv4Addr::from_bits(bits);
        let all = ways(&rule(&format!("dst={address}/{len} => drop")), &dialect()).unwrap();
        let flat = all[0][0].flat;
        let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        prop_assert_eq!(&flat.dst[..4], &(bits & mask).to_be_bytes());
        prop_assert_eq!(&flat.dst_mask[..4], &mask.to_be_bytes());
        prop_assert_eq!(flat.dst[4..].iter().chain(&flat.dst_mask[4..]).max(), Some(&0));
    }
}

#[test]
fn a_device_without_rules_says_so_and_nothing_is_left() {
    crate::configure(crate::EalConfig {
        pages: crate::Pages::Normal,
        memory_mib: 64,
        ..crate::EalConfig::default()
    });
    let pool = Mempool::new(MempoolConfig::new("rules", 2048)).unwrap();
    let mut port = crate::open("dpdk:net_null0".parse().unwrap()).unwrap();
    assert!(port.flow_rules().is_none(), "only while it runs");
    port.configure(&PortConfig::default()).unwrap();
    let queues = port.start(std::slice::from_ref(&pool)).unwrap();
    let rules = port.flow_rules().unwrap();
    for text in [
        "dst=10.0.0.0/8 proto=udp dport=53 => queue 0",
        "=> drop",
        "proto=tcp => mark 3",
    ] {
        for error in [
            rules.validate(&rule(text)).unwrap_err(),
            rules.create(&rule(text)).unwrap_err(),
        ] {
            assert_eq!(error.kind, PortErrorKind::Unsupported, "{error}");
            let shown = error.to_string();
            assert!(shown.contains(&rule(text).to_string()), "{shown}");
            assert!(
                shown.contains("dpdk:net_null0") && shown.contains("no flow rules"),
                "{shown}"
            );
            assert!(error.cause.is_some(), "{shown}");
        }
    }
    let refused = rules.create(&FlowRule {
        matches: Default::default(),
        action: FlowAction::Kernel,
    });
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("no kernel behind it")
    );
    rules.flush().unwrap();
    let unknown = rules.destroy(linecard_hal::flow::FlowId(1)).unwrap_err();
    assert_eq!(unknown.kind, PortErrorKind::NotFound);
    drop(queues);
    port.stop().unwrap();
    assert!(port.flow_rules().is_none());
    assert_eq!(pool.leaks(), []);
}
