//! Each mode against a real kernel, to the frame.

use crate::frames::{EXPERIMENT, echo_request, ethernet, mac, tagged, udp};
use crate::lab::Lab;
use crate::report::Report;
use crate::wire::{B4, B6, Wire};

const N: u32 = 1000;
const FRAMES: u64 = N as u64;

/// Sends a frame N times from host a, without addresses on either side, and gives what tcpdump saw
/// of it on host b, and the final report.
fn across(arguments: &[&str], frame: &[u8], filter: &str) -> (String, Report) {
    let wire = Wire::silent("", arguments);
    wire.up_without_addresses();
    let dump = wire.b.tcpdump(N, filter);
    wire.a.send_raw(frame, N);
    let seen = dump.end().stdout;
    let report = wire.finish();
    assert_eq!(report.port(0).rx(), FRAMES, "{report:#?}");
    assert_eq!(report.port(1).tx(), FRAMES, "{report:#?}");
    (seen, report)
}

fn experiment() -> Vec<u8> {
    ethernet(mac(2), mac(1), EXPERIMENT, &[0x5a; 50])
}

#[test]
fn io_changes_nothing() {
    let (seen, _) = across(&[], &experiment(), "ether proto 0x88b5");
    assert_eq!(seen.matches("02:00:00:00:00:01 > 02:00:00:00:00:02").count(), N as usize, "{seen}");
}

#[test]
fn macswap_exchanges_the_addresses() {
    let (seen, _) = across(&["--mode", "macswap"], &experiment(), "ether proto 0x88b5");
    assert_eq!(seen.matches("02:00:00:00:00:02 > 02:00:00:00:00:01").count(), N as usize, "{seen}");
}

#[test]
fn mac_addresses_the_peer_from_the_port() {
    let peers = ["--mode", "mac", "--peer", "02:00:00:00:00:0a", "--peer", "02:00:00:00:00:0b"];
    let (seen, _) = across(&peers, &experiment(), "ether proto 0x88b5");
    assert_eq!(seen.matches("> 02:00:00:00:00:0b, ").count(), N as usize, "{seen}");
    assert!(!seen.contains("02:00:00:00:00:01"), "{seen}");
}

#[test]
fn five_tuple_swap_keeps_checksums_right() {
    let (src, dst) = (([10, 1, 0, 1], 1111), ([10, 2, 0, 2], 2222));
    let frame = ethernet(mac(2), mac(1), 0x0800, &udp(src, dst, b"there and back"));
    let (seen, _) = across(&["--mode", "5tswap"], &frame, "udp");
    let swapped = "10.2.0.2.2222 > 10.1.0.1.1111: [udp sum ok] UDP, length 14";
    assert_eq!(seen.matches(swapped).count(), N as usize, "{seen}");
}

#[test]
fn vlan_tags_cross() {
    let request = echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"0123456789");
    let frame = ethernet(mac(2), mac(1), 0x8100, &tagged(0x6007, 0x0800, &request));
    let (seen, _) = across(&[], &frame, "vlan 7 and icmp");
    assert_eq!(seen.matches("vlan 7, p 3").count(), N as usize, "{seen}");
    assert_eq!(seen.matches("ICMP echo request").count(), N as usize, "{seen}");
}

#[test]
fn two_vlan_tags_cross() {
    let request = echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"0123456789");
    let inner = tagged(9, 0x0800, &request);
    let frame = ethernet(mac(2), mac(1), 0x88a8, &tagged(8, 0x8100, &inner));
    let (seen, _) = across(&[], &frame, "vlan 8 and vlan 9");
    assert_eq!(seen.matches("802.1Q-QinQ").count(), N as usize, "{seen}");
    assert_eq!(seen.matches("vlan 9, p 0").count(), N as usize, "{seen}");
}

#[test]
fn a_tagged_ping_is_answered_across_the_forwarder() {
    let wire = Wire::silent("", &[]);
    // On host b the command answers, too, for the kernel knows nothing of this VLAN.
    let answer = ["fwd", "--port", "uring:eth0", "--mode", "icmp-echo", "--json", "--stats-interval", "100ms"];
    wire.b.sh("ip link set eth0 up");
    let answering = wire.b.linecard(&answer).ready();
    wire.a.up(&[]);
    let dump = wire.a.tcpdump(N, "vlan 7 and icmp[icmptype] == icmp-echoreply");
    let request = echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"0123456789");
    let frame = ethernet(mac(2), mac(1), 0x8100, &tagged(7, 0x0800, &request));
    wire.a.send_raw(&frame, N);
    let seen = dump.end().stdout;
    assert_eq!(seen.matches("10.2.0.2 > 10.1.0.1: ICMP echo reply").count(), N as usize, "{seen}");
    assert!(!seen.contains("wrong"), "{seen}");
    let ended = answering.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!((report.port(0).rx(), report.port(0).tx()), (FRAMES, FRAMES));
    wire.finish();
}

#[test]
fn rx_drop_counts_and_sends_nothing() {
    let wire = Wire::silent("", &["--mode", "rx-drop"]);
    wire.up_without_addresses();
    wire.a.send_raw(&experiment(), N);
    wire.b.send_raw(&experiment(), 2 * N);
    let report = wire.finish();
    assert_eq!((report.port(0).rx(), report.port(1).rx()), (FRAMES, 2 * FRAMES));
    assert_eq!(report.account("tx"), 0);
    assert_eq!(report.port(0).dropped_for("mode"), FRAMES);
}

#[test]
fn tx_only_sends_what_the_peers_receive() {
    let wire = Wire::silent("", &["--mode", "tx-only", "--frame-size", "128"]);
    wire.up_without_addresses();
    let dump = wire.b.tcpdump(10, "udp dst port 9 and len == 124");
    let seen = dump.end().stdout;
    assert_eq!(seen.matches("[udp sum ok]").count(), 10, "{seen}");
    // Its own traffic never ends: it is stopped while it sends.
    let ended = wire.linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert!(report.account("generated") > 0);
    assert_eq!(report.port(0).tx(), wire.a.eth0().rx);
    assert_eq!(report.port(1).tx(), wire.b.eth0().rx);
}

#[test]
fn icmp_echo_answers_ping_and_arping() {
    let lab = Lab::new();
    let a = lab.host("a");
    let arguments =
        ["fwd", "--port", "uring:a", "--mode", "icmp-echo", "--json", "--stats-interval", "100ms"];
    let mut linecard = lab.linecard(&arguments).ready();
    a.up(&["10.77.0.1/24", "fd77::1/64"]);
    a.ping(20, B4);
    a.ping(5, &format!("-s 1472 {B4}"));
    let mac = lab.here.mac("a").map(|byte| format!("{byte:02X}")).join(":");
    let said = a.sh("arping -c 3 -I eth0 10.77.0.77");
    assert_eq!(said.matches(&format!("reply from 10.77.0.77 [{mac}]")).count(), 3, "{said}");
    // It answers no neighbour solicitation, so the neighbour has to be known.
    a.sh(&format!("ip neighbour add {B6} lladdr {mac} dev eth0"));
    a.ping(5, B6);
    a.down();
    linecard.quiet();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    report.assert_agrees(0, &a.eth0());
    lab.assert_left(&["a"]);
}

#[test]
fn a_kernel_talks_with_a_tap_device() {
    let lab = Lab::new();
    let arguments =
        ["fwd", "--port", "tap:t0", "--mode", "icmp-echo", "--json", "--stats-interval", "100ms"];
    let linecard = lab.linecard(&arguments).ready();
    lab.here.sh("ip address add 10.77.0.1/24 dev t0 && ip link set t0 up");
    lab.here.ping(20, B4);
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert!(report.port(0).tx() >= 20);
    lab.assert_left(&[]);
}
