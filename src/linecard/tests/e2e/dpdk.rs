//! DPDK's virtual devices, through the command: counted frames, no hugepages needed.

use std::fs;
use std::path::Path;

use crate::files::{fwd, path, some_frames};
use crate::frames::{EXPERIMENT, ethernet, mac, pcap, read_pcap};
use crate::lab::Lab;
use crate::wire::{A4, B4, Wire};

#[test]
fn null_devices_forward_what_was_asked_for() {
    for mode in ["io", "macswap", "rx-drop"] {
        let ports = ["dpdk:net_null0?size=60", "dpdk:net_null1"];
        let report = fwd(&ports, &["--packets", "100000", "--mode", mode]);
        let rx = report.account("rx");
        assert!((100_000..100_064).contains(&rx), "{mode}: {rx}");
        assert_eq!(report.port(0).rx() + report.port(1).rx(), rx);
        let sent = if mode == "rx-drop" { 0 } else { rx };
        assert_eq!(report.port(0).tx() + report.port(1).tx(), sent);
    }
}

#[test]
fn two_workers_share_null_devices() {
    let report = fwd(
        &["dpdk:net_null0", "dpdk:net_null1"],
        &["--workers", "2", "--oversubscribe", "--packets", "100000"],
    );
    assert!(report.account("rx") >= 100_000);
}

/// Capture file → `via` and back → capture file, unchanged.
fn there_and_back(via: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
    let frames = some_frames();
    fs::write(&input, pcap(&frames)).unwrap();
    let file = format!("pcap:{}?tx={}", path(&input), path(&output));
    let n = frames.len() as u64;
    let report = fwd(&[&file, via], &["--packets", &(2 * n).to_string()]);
    assert_eq!((report.port(0).rx(), report.port(0).tx()), (n, n));
    assert_eq!((report.port(1).rx(), report.port(1).tx()), (n, n));
    assert_eq!(report.port(0).copies() + report.port(1).copies(), 0);
    assert_eq!(read_pcap(&fs::read(&output).unwrap()), frames);
}

#[test]
fn a_ring_gives_back_what_it_is_given() {
    there_and_back("dpdk:net_ring0");
}

/// Each port of a pair of rings gives back what was sent into it: what the two began with goes round for ever.
#[test]
fn rings_that_were_given_something_first_go_round() {
    for mode in ["io", "macswap"] {
        let arguments = ["--mode", mode, "--tx-first", "3", "--packets", "100000"];
        let report = fwd(&["dpdk:net_ring0", "dpdk:net_ring1"], &arguments);
        let (rx, tx) = (
            report.account("rx"),
            report.port(0).tx() + report.port(1).tx(),
        );
        assert!((100_000..100_064).contains(&rx), "{mode}: {rx}");
        assert_eq!(report.account("generated"), 2 * 3 * 32, "{mode}");
        assert_eq!(tx, rx + 2 * 3 * 32, "{mode}");
    }
}

#[test]
fn capture_files_cross_from_our_port_to_the_drivers_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (first, second, third) = (file("1.pcap"), file("2.pcap"), file("3.pcap"));
    let frames = some_frames();
    fs::write(&first, pcap(&frames)).unwrap();
    let n = frames.len() as u64;
    let cross = |from: String, to: String, into: &Path| {
        let report = fwd(&[&from, &to], &["--packets", &n.to_string()]);
        assert_eq!((report.port(0).rx(), report.port(1).tx()), (n, n));
        assert_eq!(report.port(1).copies(), 0);
        assert_eq!(read_pcap(&fs::read(into).unwrap()), frames);
    };
    let (ours, theirs) = (
        format!("pcap:{}", path(&first)),
        format!("dpdk:net_pcap0?tx_pcap={}", path(&second)),
    );
    cross(ours, theirs, &second);
    let (theirs, ours) = (
        format!("dpdk:net_pcap0?rx_pcap={}", path(&second)),
        format!("pcap:?tx={}", path(&third)),
    );
    cross(theirs, ours, &third);
}

/// What a kernel sends goes through io_uring into a ring of DPDK's and comes back the same way, and nothing of
/// it is copied, whichever memory it was received into.
#[test]
fn frames_of_a_cable_pass_through_a_ring_in_place() {
    const N: u32 = 200;
    for engine in ["?rx=ring", "?rx=multishot", "?rx=mmsg"] {
        let lab = Lab::new();
        let a = lab.host("a");
        let ports = [&format!("uring:a{engine}"), "dpdk:net_ring0"];
        let arguments = ["--json", "--stats-interval", "100ms"];
        let mut linecard = lab
            .linecard(
                &[
                    &["fwd", "--port", ports[0], "--port", ports[1]],
                    &arguments[..],
                ]
                .concat(),
            )
            .ready();
        a.sh("ip link set cable0 addrgenmode none");
        a.up(&[]);
        let watch = a.watch(N, EXPERIMENT);
        let frame = ethernet(mac(2), mac(1), EXPERIMENT, &[7; 1200]);
        a.send_raw(&frame, N);
        assert!(watch.frames().iter().all(|f| *f == frame));
        a.down();
        linecard.quiet();
        let ended = linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        report.assert_agrees(0, &a.cable());
        let n = u64::from(N);
        assert_eq!((report.port(1).rx(), report.port(1).tx()), (n, n));
        assert_eq!(report.port(0).copies() + report.port(1).copies(), 0);
    }
}

#[test]
fn a_mistaken_argument_for_eal_is_named_and_nothing_is_printed_beside() {
    let out = std::process::Command::new(crate::lab::LINECARD)
        .args(["fwd", "--port", "dpdk:net_null0", "--packets", "1"])
        .env("LINECARD_DPDK_EAL_ARGS", "--nonsense")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(out.stdout.is_empty(), "{:?}", String::from_utf8(out.stdout));
    assert!(
        said.contains("--nonsense") && said.contains("LINECARD_DPDK_EAL_ARGS"),
        "{said}"
    );
    assert!(said.lines().count() < 6, "{said}");
}

#[test]
fn a_tap_wakes_a_worker_that_sleeps() {
    let lab = crate::lab::Lab::new();
    let mut process = lab
        .linecard(&[
            "fwd",
            "--port",
            "dpdk:net_tap0?iface=lctap",
            "--mode",
            "icmp-echo",
            "--idle",
            "sleep",
            "--json",
        ])
        .ready();
    lab.here
        .sh("ip addr add 10.9.0.1/24 dev lctap && ip link set lctap up");
    lab.here
        .sh("ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev lctap");
    for _ in 0..3 {
        process.quiet();
        lab.here.ping(1, "10.9.0.2");
    }
    let report = process.interrupt().report();
    assert!(report.workers("sleeps") > 0, "{report:#?}");
    assert!(report.port(0).tx() >= 3, "{report:#?}");
}

#[test]
fn a_ping_crosses_from_a_packet_socket_of_ours_to_one_of_dpdk_s() {
    let wire = Wire::between(
        ["uring:a".into(), "dpdk:net_af_packet0?iface=b".into()],
        &[],
    );
    wire.a.up(&[&format!("{A4}/24")]);
    wire.b.up(&[&format!("{B4}/24")]);
    wire.a.ping(20, B4);
    wire.b.ping(20, &format!("-s 1400 {A4}"));
    wire.finish();
}
