//! Ports without hardware, and the command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::frames::{EXPERIMENT, ethernet, mac, pcap, read_pcap, udp};
use crate::lab::{Ended, LINECARD, Process};

/// Runs the command to its end.
pub fn linecard(arguments: &[&str]) -> Ended {
    let mut command = Command::new(LINECARD);
    command.args(arguments);
    Process::start(command).end()
}

/// As `linecard`, for what has to succeed and report as JSON.
pub fn fwd(ports: &[&str], arguments: &[&str]) -> crate::report::Report {
    let ports: Vec<&str> = ports.iter().flat_map(|port| ["--port", port]).collect();
    let ended = linecard(&[&["fwd", "--json"], &ports[..], arguments].concat());
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    report
}

#[test]
fn null_ports_end_at_their_count() {
    let report = fwd(&["null:0?count=100000", "null:1?count=50000"], &[]);
    assert_eq!(
        (report.port(0).rx(), report.port(0).tx()),
        (100_000, 50_000)
    );
    assert_eq!(
        (report.port(1).rx(), report.port(1).tx()),
        (50_000, 100_000)
    );
}

#[test]
fn two_workers_share_null_ports() {
    let ports = ["null:0?count=100000", "null:1?count=50000"];
    let report = fwd(&ports, &["--workers", "2", "--oversubscribe"]);
    assert_eq!(
        (report.port(0).rx(), report.port(1).rx()),
        (100_000, 50_000)
    );
    assert_eq!(report.account("tx"), 150_000);
}

#[test]
fn a_packet_limit_is_kept_to_a_burst() {
    let report = fwd(
        &["null:0", "null:1"],
        &["--packets", "10000", "--burst", "16"],
    );
    let rx = report.account("rx");
    assert!((10_000..10_032).contains(&rx), "{rx}");
}

#[test]
fn a_duration_ends_an_endless_run() {
    let report = fwd(&["null:0", "null:1"], &["--duration", "200ms"]);
    assert!(report.account("rx") > 0);
}

#[test]
fn a_dry_run_only_plans() {
    let ended = linecard(&["fwd", "--port", "null:0", "--port", "null:1", "--dry-run"]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(
        ended.stdout.contains("plan: 1 worker, 2 ports, 1 pool"),
        "{ended:#?}"
    );
    assert!(!ended.stdout.contains("account:"), "{ended:#?}");
}

#[test]
fn sim_ports_are_a_cable_between_two_pairs() {
    // What is generated into b arrives at a: a ring of three cables inside one process.
    let ended = linecard(&[
        "fwd",
        "--json",
        "--mode",
        "tx-only",
        "--port",
        "sim:a?peer=b",
        "--port",
        "sim:b",
        "--duration",
        "200ms",
    ]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert!(report.account("generated") > 0 && report.account("rx") > 0);
}

#[test]
fn what_a_closed_loop_is_given_first_goes_round() {
    let ports = ["sim:a?peer=b", "sim:b"];
    let report = fwd(&ports, &["--tx-first", "2", "--packets", "10000"]);
    assert_eq!(report.account("generated"), 2 * 2 * 32);
    assert!(report.account("rx") >= 10_000);

    let both = [
        "fwd",
        "--port",
        "null:0",
        "--tx-first",
        "2",
        "--mode",
        "tx-only",
    ];
    let ended = linecard(&both);
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(
        ended.stderr.contains("tx_first = 2 with mode tx-only"),
        "{ended:#?}"
    );
}

/// Frames of many lengths.
pub fn some_frames() -> Vec<Vec<u8>> {
    let frame = |n: u16| {
        let payload: Vec<u8> = (0..n).map(|i| (i ^ n) as u8).collect();
        let datagram = udp(([10, 0, 0, 1], n), ([10, 0, 0, 2], 9), &payload);
        ethernet(mac(2), mac(1), 0x0800, &datagram)
    };
    (18..=1472)
        .step_by(13)
        .map(frame)
        .chain([ethernet(mac(2), mac(1), EXPERIMENT, &[1; 46])])
        .collect()
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_capture_file_crosses_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
    let frames = some_frames();
    let written = pcap(&frames);
    fs::write(&input, &written).unwrap();
    let (from, to) = (
        format!("pcap:{}", path(&input)),
        format!("pcap:?tx={}", path(&output)),
    );
    let report = fwd(&[&from, &to], &[]);
    assert_eq!(
        (report.port(0).rx(), report.port(1).tx()),
        (frames.len() as u64, frames.len() as u64)
    );
    let read = fs::read(&output).unwrap();
    assert_eq!(read_pcap(&read), frames);
    // The times, too: it is the same file.
    assert_eq!(read[24..], written[24..]);
    // And tcpdump agrees.
    let list = |file: &Path| {
        let output = Command::new("tcpdump")
            .args(["-n", "-tt", "-e", "-x", "-r", path(file)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list(&input), list(&output));
}

#[test]
fn a_capture_file_in_pcapng_is_read_by_tcpdump() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcapng"));
    let frames = some_frames();
    fs::write(&input, pcap(&frames)).unwrap();
    let (from, to) = (
        format!("pcap:{}", path(&input)),
        format!("pcap:?tx={}", path(&output)),
    );
    fwd(&[&from, &to], &["--mode", "macswap"]);
    // Converted by tcpdump, it is what we put in, with the addresses exchanged.
    let back = dir.path().join("back.pcap");
    let tcpdump = Command::new("tcpdump")
        .args([
            "--time-stamp-precision",
            "nano",
            "-r",
            path(&output),
            "-w",
            path(&back),
        ])
        .output()
        .unwrap();
    assert!(tcpdump.status.success(), "{tcpdump:?}");
    let swapped = |frame: &Vec<u8>| [&frame[6..12], &frame[..6], &frame[12..]].concat();
    let expected: Vec<_> = frames.iter().map(swapped).collect();
    assert_eq!(read_pcap(&fs::read(&back).unwrap()), expected);
}

#[test]
fn a_broken_capture_file_gives_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.pcap");
    let whole = pcap(&some_frames());
    fs::write(&input, &whole[..whole.len() - 5]).unwrap();
    let report = fwd(&[&format!("pcap:{}", path(&input)), "null:0?count=0"], &[]);
    assert_eq!(report.port(0).rx(), some_frames().len() as u64 - 1);
    assert_eq!(report.port(0).errors(), 1);
}

#[test]
fn a_terminated_run_still_reports() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = Command::new(LINECARD);
        command.args([
            "fwd",
            "--port",
            "null:0",
            "--port",
            "null:1",
            "--json",
            "--stats-interval",
            "50ms",
        ]);
        let process = Process::start(command).ready();
        process.signal(signal);
        let ended = process.end();
        assert_eq!(ended.code, 0, "{signal}: {ended:#?}");
        ended.report().assert_balanced();
    }
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let errors = dir.path().join("errors");
    let text = format!(
        "{LINECARD} fwd -p null:0?count=1 -p null:1?count=1 2>{} | true",
        path(&errors)
    );
    let status = Command::new("sh").args(["-c", &text]).status().unwrap();
    assert!(status.success());
    let said = fs::read_to_string(&errors).unwrap();
    assert!(!said.contains("panicked"), "{said}");
}

/// What is refused, with which exit code, and what the message has to name.
#[test]
fn wrong_usage_is_refused_with_a_remedy() {
    let wrong: &[(&[&str], i32, &[&str])] = &[
        (&["fwd"], 2, &["--port"]),
        (
            &["fwd", "--port", "null:0", "--mode", "l3"],
            2,
            &["l3", "macswap"],
        ),
        (
            &["fwd", "--port", "null:0", "--duration", "5 parsecs"],
            2,
            &["--duration"],
        ),
        (
            &["fwd", "--port", "null:0", "--idle", "never"],
            2,
            &["--idle", "adaptive"],
        ),
        (
            &["fwd", "--port", "null:0", "--frame-size", "20"],
            2,
            &["--frame-size", "64"],
        ),
        (
            &["fwd", "--port", "null:0", "--peer", "02:00"],
            2,
            &["--peer", "02:00:00:00:00:01"],
        ),
        (
            &["fwd", "--port", "null:0", "--lcores", "x"],
            2,
            &["--lcores"],
        ),
        (&["warp"], 2, &["warp", "--help"]),
        (&["fwd", "--port", "eth1"], 1, &["eth1", "uring:eth1"]),
        (&["fwd", "--port", "warp:eth1"], 1, &["warp", "uring"]),
        (
            &["fwd", "--port", "null:0?colour=red"],
            1,
            &["colour", "count"],
        ),
        (
            &["fwd", "--port", "null:0?count=many"],
            1,
            &["count", "many"],
        ),
        (
            &["fwd", "--port", "uring:a?rx=fast"],
            1,
            &["fast", "multishot"],
        ),
        (
            &["fwd", "--port", "null:0", "--burst", "0"],
            1,
            &["burst", "512"],
        ),
        (
            &["fwd", "--port", "null:0", "--workers", "0"],
            1,
            &["worker"],
        ),
        (
            &["fwd", "--port", "null:0", "--lcores", "4000"],
            1,
            &["4000"],
        ),
        (
            &["fwd", "--port", "null:0", "--pool-size", "8"],
            1,
            &["--pool-size", "64"],
        ),
        (
            &["fwd", "--port", "pcap:there-is-no-such-file"],
            1,
            &["there-is-no-such-file"],
        ),
        (&["fwd", "--port", "pcap:Cargo.toml"], 1, &["Cargo.toml"]),
    ];
    for (arguments, code, named) in wrong {
        let ended = linecard(arguments);
        assert_eq!(ended.code, *code, "{arguments:?}: {ended:#?}");
        for name in *named {
            assert!(
                ended.stderr.contains(name),
                "{arguments:?} does not name {name}: {ended:#?}"
            );
        }
        assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    }
}

#[test]
fn a_third_end_of_a_link_is_refused() {
    let ended = linecard(&[
        "fwd",
        "--port",
        "sim:a?peer=b",
        "--port",
        "sim:b",
        "--port",
        "sim:a?peer=b",
    ]);
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(ended.stderr.contains("sim:a"), "{ended:#?}");
}
