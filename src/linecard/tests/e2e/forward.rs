//! Real traffic between two hosts, whatever way the driver receives.

use std::fs;

use crate::lab::{Ended, Host, Lab};
use crate::wire::{A4, B4, B6, Wire};

/// Ping, iperf3 and curl from a to b and back, with everything at its defaults.
pub fn converse(wire: &Wire) {
    let (a, b) = (&wire.a, &wire.b);
    a.ping(20, B4);
    a.ping(20, B6);
    b.ping(20, &format!("-s 1400 {A4}"));

    // One server for each client: after each, a server that goes on listens anew, and resets whoever has come
    // to its old socket meanwhile.
    let iperf = |arguments: &str| {
        let server = b.serve(5201, "iperf3 --server --one-off");
        let text = a.sh(&format!("iperf3 --json --client {B4} --time 1 {arguments}"));
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(said["error"].is_null(), "{said:#}");
        server.end();
        said["end"].clone()
    };
    for arguments in ["", "--reverse", "--parallel 4"] {
        let end = iperf(arguments);
        assert!(
            end["sum_received"]["bytes"].as_u64().unwrap() > 0,
            "{arguments}: {end:#}"
        );
    }
    let udp = iperf("--udp --bitrate 20M");
    assert!(udp["sum"]["packets"].as_u64().unwrap() > 0, "{udp:#}");
    curl(a, b);
}

/// A file over HTTP arrives as it is.
fn curl(a: &Host, b: &Host) {
    let site = tempfile::tempdir().unwrap();
    let file: Vec<u8> = (0..3_000_017_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(site.path().join("file"), &file).unwrap();
    let directory = site.path().display();
    let _server = b.serve(
        8000,
        &format!("python3 -m http.server 8000 --directory {directory}"),
    );
    a.sh(&format!(
        "curl --silent --fail --output {directory}/got http://{B4}:8000/file"
    ));
    assert_eq!(fs::read(site.path().join("got")).unwrap(), file);
}

#[test]
fn traffic_crosses_with_the_mapped_ring() {
    let wire = Wire::new("?rx=ring", &[]);
    converse(&wire);
    wire.finish();
}

#[test]
fn traffic_crosses_with_multishot_receive() {
    let wire = Wire::new("?rx=multishot", &[]);
    converse(&wire);
    wire.finish();
}

#[test]
fn traffic_crosses_without_io_uring() {
    let wire = Wire::new("?rx=mmsg", &[]);
    converse(&wire);
    wire.finish();
}

#[test]
fn traffic_crosses_two_workers() {
    let wire = Wire::new("", &["--workers", "2", "--oversubscribe"]);
    converse(&wire);
    let report = wire.finish();
    assert_eq!(report.0["workers"].as_array().unwrap().len(), 2);
}

#[test]
fn traffic_crosses_two_workers_with_multishot_receive() {
    let wire = Wire::new(
        "?rx=multishot",
        &["--workers", "2", "--oversubscribe", "--idle", "sleep"],
    );
    converse(&wire);
    wire.finish();
}

#[test]
fn the_json_report_has_what_is_promised() {
    let wire = Wire::new("", &[]);
    wire.a.ping(5, B4);
    let report = wire.finish().0;
    let has = |object: &serde_json::Value, keys: &[&str]| {
        for key in keys {
            assert!(!object[*key].is_null(), "{key} is missing in {object:#}");
        }
    };
    has(&report, &["duration_s", "ports", "workers", "pools"]);
    for port in report["ports"].as_array().unwrap() {
        has(port, &["name", "rx", "tx", "drops"]);
        assert!(port["drops"].is_object());
    }
    for worker in report["workers"].as_array().unwrap() {
        has(
            worker,
            &[
                "lcore",
                "node",
                "rx",
                "tx",
                "cycles_per_packet",
                "burst_avg",
                "empty_polls",
            ],
        );
    }
    for pool in report["pools"].as_array().unwrap() {
        has(pool, &["name", "node", "size", "page", "in_use", "leaked"]);
    }
}

#[test]
fn the_report_is_one_object_and_nothing_else() {
    let lab = Lab::new();
    let (_a, _b) = (lab.host("a"), lab.host("b"));
    let arguments = [
        "fwd",
        "--port",
        "uring:a",
        "--port",
        "uring:b",
        "--duration",
        "300ms",
        "--json",
    ];
    let ended: Ended = lab.linecard(&arguments).end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:#?}");
    ended.report().assert_balanced();
    lab.assert_left(&["a", "b"]);
}

#[test]
fn a_cable_between_a_tap_device_and_a_host() {
    let lab = Lab::new();
    let a = lab.host("a");
    let arguments = [
        "fwd",
        "--port",
        "tap:t0",
        "--port",
        "uring:a",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    let mut linecard = lab.linecard(&arguments).ready();
    // Our own kernel is the other host, by way of the TAP device.
    lab.here
        .sh("ip address add 10.77.0.2/24 dev t0 && ip link set t0 up");
    a.up(&["10.77.0.1/24"]);
    a.ping(20, "10.77.0.2");
    a.ping(20, "-s 1400 10.77.0.2");
    lab.here.ping(20, "10.77.0.1");
    curl(&a, &lab.here);
    a.down();
    lab.here.sh("ip link set t0 down");
    linecard.quiet();
    let tap = lab
        .here
        .interfaces()
        .into_iter()
        .find(|i| i.name == "t0")
        .unwrap();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    // What a TAP device's kernel sends, we receive, and the other way round.
    report.assert_agrees(0, &tap);
    report.assert_agrees(1, &a.cable());
    // The device is gone with the program that made it.
    lab.assert_left(&["a"]);
}
