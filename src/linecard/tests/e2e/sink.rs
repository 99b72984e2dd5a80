//! `linecard sink`: frames that are stamped by hand, and enemies.

use serde_json::{Value, json};

use crate::control::{Top, assert_of, path_in};
use crate::frames::{EXPERIMENT, IPV4, ethernet, mac, udp};
use crate::lab::{Ended, Host, LINECARD, Lab, Process};
use crate::ping::begun;

/// The stamp of `linecard gen`, made anew: its layout is a promise between versions.
fn stamp(lane: u16, sequence: u32, sent_ns: u64) -> Vec<u8> {
    let fields = [
        &0x4c43_u16.to_be_bytes()[..],
        &lane.to_be_bytes(),
        &sequence.to_be_bytes(),
        &sent_ns.to_be_bytes(),
    ]
    .concat();
    let sum: u32 = fields
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let balance = !((folded & 0xffff) + (folded >> 16)) as u16;
    [&fields[..], &balance.to_be_bytes()].concat()
}

fn stamped(lane: u16, sequence: u32) -> Vec<u8> {
    let datagram = udp(
        ([10, 0, 0, 1], 1),
        ([10, 0, 0, 2], 2),
        &stamp(lane, sequence, 0),
    );
    ethernet(mac(2), mac(1), IPV4, &datagram)
}

/// Sends frames in order, by one program.
fn send(host: &Host, frames: &[Vec<u8>]) {
    const PROGRAM: &str = r#"
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("cable0", 0))
for frame in sys.argv[1].split(","):
    s.send(bytes.fromhex(frame))
"#;
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let all: Vec<String> = frames.iter().map(hex).collect();
    let output = host
        .command("python3")
        .args(["-c", PROGRAM, &all.join(",")])
        .output()
        .expect("python3");
    assert!(output.status.success(), "{output:#?}");
}

/// A sink, and a host at its port that says nothing by itself.
fn sink(port: &str, more: &[&str]) -> (Lab, Host, Process) {
    let lab = Lab::new();
    let host = lab.host("a");
    host.sh("ip link set cable0 addrgenmode none");
    let arguments = [
        "sink",
        "--port",
        port,
        "--answer",
        "10.7.0.0/24",
        "--json",
        "--stats-interval",
        "0s",
    ];
    let arguments = [&arguments[..], more].concat();
    let sink = begun(lab.linecard(&arguments), "receiving");
    host.up(&[]);
    (lab, host, sink)
}

/// Ends it when it has seen all.
fn finish(host: &Host, sink: Process) -> Value {
    // A block of the mapped ring is there within a few milliseconds: it is looked at until the end.
    host.down();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let ended: Ended = sink.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}\n{ended:#?}"))
}

/// Lane 3 misses 5 and 6, has 8 twice and 11 after 12; lane 4 is whole.
fn two_lanes() -> Vec<Vec<u8>> {
    let lane_3 = [2, 3, 4, 7, 8, 8, 9, 10, 12, 11, 13].map(|n| stamped(3, n));
    let lane_4 = [0, 1, 2].map(|n| stamped(4, n));
    [&lane_3[..], &lane_4].concat()
}

#[test]
fn what_was_lost_doubled_and_overtaken_is_told_to_the_frame() {
    for port in ["uring:a", "xdp:a"] {
        let (_lab, host, sink) = sink(port, &[]);
        let foreign = ethernet(mac(2), mac(1), EXPERIMENT, &[0; 46]);
        send(&host, &[&two_lanes()[..], &[foreign]].concat());
        let said = finish(&host, sink);
        assert_eq!(said["frames"], 15, "{said:#}");
        let lanes = said["lanes"].as_array().expect("lanes");
        assert_eq!(lanes.len(), 2, "{said:#}");
        let names = [
            "lane",
            "received",
            "lost",
            "duplicated",
            "reordered",
            "astray",
        ];
        let of = |lane: usize| names.map(|name| lanes[lane][name].as_u64().expect(name));
        assert_eq!(of(0), [3, 10, 2, 1, 1, 0], "{said:#}");
        assert_eq!(of(1), [4, 3, 0, 0, 0, 0], "{said:#}");
        assert_eq!(said["foreign"]["other"], 1, "{said:#}");
        let counts = [
            "sent",
            "received",
            "lost",
            "duplicated",
            "reordered",
            "foreign",
        ]
        .map(|name| said["counts"][name].as_u64().expect(name));
        assert_eq!(counts, [15, 13, 2, 1, 1, 1], "{said:#}");
        assert_eq!(host.cable().tx, 15);
    }
}

#[test]
fn lanes_are_watched_as_streams() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let (_lab, host, sink) = sink("uring:a", &["--control", &path]);
    let mut top = Top::at(&path);
    top.until("a snapshot", |status| status["streams"].is_null());
    send(&host, &two_lanes());
    let received = |status: &Value| {
        let streams = status["streams"].as_array().into_iter().flatten();
        streams.flat_map(|s| s["received"].as_u64()).sum::<u64>()
    };
    let seen = top.until("both lanes", |status| received(status) == 13);
    assert_of(&seen, "sink", &["uring:a"]);
    let lane = |index: u32, [sent, received, lost]: [u64; 3]| {
        json!({
            "name": format!("lane {index}"), "index": index, "rate": "", "sent": sent, "unsent": 0, "late": 0,
            "received": received, "lost": lost,
        })
    };
    let lanes = json!([lane(3, [12, 10, 2]), lane(4, [3, 3, 0])]);
    assert_eq!(seen[seen.len() - 1]["streams"], lanes);
    // And for who has no program to read that.
    let once = ["top", &path, "--once", "--interval", "200ms"];
    let once = host.command(LINECARD).args(once).output();
    let once = String::from_utf8(once.unwrap().stdout).unwrap();
    for lane in ["lane 3", "lane 4"] {
        assert!(once.contains(lane), "{once}");
    }
    top.stop();
    let ended = sink.end();
    assert_eq!(ended.code, 0, "{ended:#?}");
}

#[test]
fn forged_stamps_and_broken_frames_do_no_harm() {
    let (lab, host, sink) = sink("uring:a", &[]);
    let mut frames: Vec<_> = (0..300_u32)
        .map(|n| stamped((n * 7919) as u16, n.wrapping_mul(2_654_435_761)))
        .collect();
    frames.extend((14..60).map(|len| vec![0x4c; len]));
    frames.push(ethernet(mac(2), mac(1), 0x0806, &[0; 5]));
    frames.push(ethernet(mac(2), mac(1), 0x86dd, &[0xff; 60]));
    send(&host, &frames);
    // It answers nevertheless.
    host.sh("ip address add 10.7.0.200/24 dev cable0 && ping -c 1 -W 20 10.7.0.1");
    let said = finish(&host, sink);
    assert!(said["lanes"].as_array().expect("lanes").len() <= 1024);
    assert!(said["lanes_beyond"].as_u64() > Some(0), "{said:#}");
    assert_eq!(said["frames"].as_u64(), Some(host.cable().tx), "{said:#}");
    lab.assert_left(&["a"]);
}
