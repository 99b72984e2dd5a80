//! Each mode against a real kernel, to the frame.

use crate::frames::{
    EXPERIMENT, IPV4, QINQ, VLAN, checksum, echo_request, ethernet, mac, tagged, udp,
};
use crate::lab::Lab;
use crate::wire::{B4, B6, Wire};

/// How often a frame is sent; no more than the smallest socket buffer of a watch holds.
const N: u32 = 200;
const FRAMES: u64 = N as u64;

/// Sends a frame from host a, N times, and expects another one on host b just as often.
fn becomes(arguments: &[&str], sent: &[u8], expected: &[u8]) {
    let mut wire = Wire::silent("", arguments);
    wire.up_without_addresses();
    let watch = wire
        .b
        .watch(N, u16::from_be_bytes([expected[12], expected[13]]));
    wire.a.send_raw(sent, N);
    for frame in watch.frames() {
        assert_eq!(frame, expected);
    }
    let report = wire.finish();
    assert_eq!(report.port(0).rx(), FRAMES, "{report:#?}");
    assert_eq!(report.port(1).tx(), FRAMES, "{report:#?}");
}

fn experiment(dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
    ethernet(dst, src, EXPERIMENT, &[0x5a; 50])
}

#[test]
fn io_changes_nothing() {
    becomes(
        &[],
        &experiment(mac(2), mac(1)),
        &experiment(mac(2), mac(1)),
    );
}

#[test]
fn macswap_exchanges_the_addresses() {
    becomes(
        &["--mode", "macswap"],
        &experiment(mac(2), mac(1)),
        &experiment(mac(1), mac(2)),
    );
}

#[test]
fn mac_addresses_the_peer_from_the_port() {
    let peers = [
        "--mode",
        "mac",
        "--peer",
        "02:00:00:00:00:0a",
        "--peer",
        "02:00:00:00:00:0b",
    ];
    let mut wire = Wire::silent("", &peers);
    wire.up_without_addresses();
    let watch = wire.b.watch(N, EXPERIMENT);
    wire.a.send_raw(&experiment(mac(2), mac(1)), N);
    let expected = experiment(mac(0x0b), wire.lab.here.mac("b"));
    assert!(watch.frames().iter().all(|frame| *frame == expected));
    wire.finish();
}

#[test]
fn five_tuple_swap_keeps_checksums_right() {
    let (src, dst) = (([10, 1, 0, 1], 1111), ([10, 2, 0, 2], 2222));
    let there = ethernet(mac(2), mac(1), IPV4, &udp(src, dst, b"there and back"));
    let back = ethernet(mac(1), mac(2), IPV4, &udp(dst, src, b"there and back"));
    becomes(&["--mode", "5tswap"], &there, &back);
}

#[test]
fn vlan_tags_cross() {
    let request = echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"0123456789");
    let frame = ethernet(mac(2), mac(1), VLAN, &tagged(0x6007, IPV4, &request));
    becomes(&[], &frame, &frame);
}

#[test]
fn two_vlan_tags_cross() {
    let request = echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"0123456789");
    let inner = tagged(9, IPV4, &request);
    let frame = ethernet(mac(2), mac(1), QINQ, &tagged(8, VLAN, &inner));
    becomes(&[], &frame, &frame);
}

#[test]
fn a_tagged_ping_is_answered_across_the_forwarder() {
    let wire = Wire::silent("", &[]);
    // On host b the command answers, too, for the kernel knows nothing of this VLAN.
    let answer = [
        "fwd",
        "--port",
        "uring:cable0",
        "--mode",
        "icmp-echo",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    wire.b.sh("ip link set cable0 up");
    let answering = wire.b.linecard(&answer).ready();
    wire.a.up(&[]);
    let watch = wire.a.watch(N, VLAN);
    let request = echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"0123456789");
    wire.a.send_raw(
        &ethernet(mac(2), mac(1), VLAN, &tagged(7, IPV4, &request)),
        N,
    );
    for reply in watch.frames() {
        assert_eq!(
            reply[..18],
            ethernet(mac(1), mac(2), VLAN, &tagged(7, IPV4, &[]))
        );
        assert_eq!(reply[30..38], [10, 2, 0, 2, 10, 1, 0, 1]);
        assert_eq!((checksum(&reply[18..38]), checksum(&reply[38..])), (0, 0));
        // Type and code of an echo reply; identifier, sequence number and data as sent.
        assert_eq!(
            (&reply[38..40], &reply[42..]),
            (&[0, 0][..], &request[24..])
        );
    }
    let ended = answering.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!((report.port(0).rx(), report.port(0).tx()), (FRAMES, FRAMES));
    wire.finish();
}

#[test]
fn rx_drop_counts_and_sends_nothing() {
    let mut wire = Wire::silent("", &["--mode", "rx-drop"]);
    wire.up_without_addresses();
    wire.a.send_raw(&experiment(mac(2), mac(1)), N);
    wire.b.send_raw(&experiment(mac(1), mac(2)), 2 * N);
    let report = wire.finish();
    assert_eq!(
        (report.port(0).rx(), report.port(1).rx()),
        (FRAMES, 2 * FRAMES)
    );
    assert_eq!(report.account("tx"), 0);
    assert_eq!(report.port(0).dropped_for("mode"), FRAMES);
}

#[test]
fn tx_only_sends_what_the_peers_receive() {
    let wire = Wire::silent("", &["--mode", "tx-only", "--frame-size", "128"]);
    wire.connect();
    for frame in wire.b.watch(10, IPV4).frames() {
        // 128 with FCS; UDP to the discard port.
        assert_eq!((frame.len(), &frame[36..38]), (124, &[0, 9][..]));
        // The sum over the datagram and its pseudo-header.
        let pseudo = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
        assert_eq!(
            (
                checksum(&frame[14..34]),
                checksum(&[&pseudo, &frame[34..]].concat())
            ),
            (0, 0)
        );
    }
    // Its own traffic never ends: it is stopped while it sends.
    let ended = wire.linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert!(report.account("generated") > 0);
    assert_eq!(report.port(0).tx(), wire.a.cable().rx);
    assert_eq!(report.port(1).tx(), wire.b.cable().rx);
}

#[test]
fn icmp_echo_answers_ping_and_arping() {
    let lab = Lab::new();
    let a = lab.host("a");
    let arguments = [
        "fwd",
        "--port",
        "uring:a",
        "--mode",
        "icmp-echo",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    let mut linecard = lab.linecard(&arguments).ready();
    a.up(&["10.77.0.1/24", "fd77::1/64"]);
    a.ping(20, B4);
    a.ping(5, &format!("-s 1472 {B4}"));
    let mac = lab
        .here
        .mac("a")
        .map(|byte| format!("{byte:02X}"))
        .join(":");
    let said = a.sh("arping -c 3 -I cable0 10.77.0.77");
    assert_eq!(
        said.matches(&format!("reply from 10.77.0.77 [{mac}]"))
            .count(),
        3,
        "{said}"
    );
    // It answers no neighbour solicitation, so the neighbour has to be known.
    a.sh(&format!("ip neighbour add {B6} lladdr {mac} dev cable0"));
    a.ping(5, B6);
    a.down();
    linecard.quiet();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    report.assert_agrees(0, &a.cable());
    lab.assert_left(&["a"]);
}

#[test]
fn a_kernel_talks_with_a_tap_device() {
    let lab = Lab::new();
    let arguments = [
        "fwd",
        "--port",
        "tap:t0",
        "--mode",
        "icmp-echo",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    let linecard = lab.linecard(&arguments).ready();
    lab.here
        .sh("ip address add 10.77.0.1/24 dev t0 && ip link set t0 up");
    lab.here.ping(20, B4);
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert!(report.port(0).tx() >= 20);
    lab.assert_left(&[]);
}
