//! Faults: a clear error or a counted drop, nothing lost without a counter, nothing left behind.

use linecard::{Engine, EngineConfig, Mbuf, Verdict};
use nix::sys::signal::Signal;

use crate::frames::{EXPERIMENT, echo_request, ethernet, mac};
use crate::lab::{Host, LINECARD, Lab, Process, wait_until};
use crate::seccomp;
use crate::wire::{A4, B4, Wire};

const ENGINES: [&str; 3] = ["?rx=ring", "?rx=multishot", "?rx=mmsg"];

/// A host that sends without end and faster than anybody can forward.
pub fn flood(host: &Host) -> Process {
    host.linecard(&[
        "fwd",
        "--port",
        "uring:cable0",
        "--mode",
        "tx-only",
        "--stats-interval",
        "100ms",
    ])
    .ready()
}

/// Waits until the port of the cable's other end has seen this many more frames.
pub fn wait_for_frames(host: &Host, more: u64) {
    let from = host.cable().tx;
    wait_until("a flood", || host.cable().tx >= from + more);
}

#[test]
fn an_interface_is_removed_and_made_again_under_load() {
    for engine in ENGINES {
        let mut wire = Wire::new(engine, &[]);
        wire.a.ping(5, B4);
        let load = flood(&wire.b);
        wait_for_frames(&wire.b, 1000);
        wire.lab.here.sh("ip link delete dev a");
        wait_for_frames(&wire.b, 1000);
        wire.lab.plug(&wire.a, "a");
        wire.a.up(&[&format!("{A4}/24")]);
        wait_for_frames(&wire.b, 1000);
        drop(load);
        wait_until("the port to come back", || {
            wire.a.try_sh(&format!("ping -c 1 -W 1 {B4}")).0.success()
        });
        wire.a.ping(20, B4);

        wire.a.down();
        wire.b.down();
        wire.linecard.quiet();
        let ended = wire.linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        // The kernel's counters at the other end of the first cable went with it.
        report.assert_agrees(1, &wire.b.cable());
        wire.lab.assert_left(&["a", "b"]);
    }
}

#[test]
fn an_interface_goes_down_and_up_under_load() {
    for engine in ENGINES {
        let wire = Wire::new(engine, &[]);
        wire.a.ping(5, B4);
        let load = flood(&wire.b);
        wait_for_frames(&wire.b, 1000);
        wire.lab.here.sh("ip link set dev a down");
        wait_for_frames(&wire.b, 1000);
        wire.lab.here.sh("ip link set dev a up");
        wait_for_frames(&wire.b, 1000);
        drop(load);
        wait_until("the port to come back", || {
            wire.a.try_sh(&format!("ping -c 1 -W 1 {B4}")).0.success()
        });
        wire.a.ping(20, B4);
        // This end was down, so that one could not send: nothing it counts was lost.
        wire.finish();
    }
}

#[test]
fn a_pool_of_64_mbufs_survives_a_flood() {
    for engine in ENGINES {
        let mut wire = Wire::silent(engine, &["--pool-size", "64"]);
        wire.up_without_addresses();
        let load = flood(&wire.a);
        wait_for_frames(&wire.a, 100_000);
        drop(load);
        let report = wire.finish();
        assert!(report.port(1).tx() > 0, "{report:#?}");
        assert_eq!(report.pools("size"), 64);
    }
}

#[test]
fn a_flood_from_both_sides_is_accounted_for() {
    for engine in ENGINES {
        let mut wire = Wire::silent(engine, &["--workers", "2", "--oversubscribe"]);
        wire.up_without_addresses();
        let load = (flood(&wire.a), flood(&wire.b));
        wait_for_frames(&wire.a, 50_000);
        wait_for_frames(&wire.b, 50_000);
        drop(load);
        wire.finish();
    }
}

#[test]
fn frames_too_long_for_a_port_are_counted() {
    const N: u32 = 100;
    for engine in ENGINES {
        let mut wire = Wire::silent(engine, &[]);
        // Only on one side, and only now that the driver has made its choices.
        wire.lab.here.sh("ip link set dev a mtu 9000");
        wire.a.sh("ip link set dev cable0 mtu 9000");
        wire.up_without_addresses();
        wire.a
            .send_raw(&ethernet(mac(2), mac(1), EXPERIMENT, &[7; 8986]), N);
        wire.a
            .send_raw(&ethernet(mac(2), mac(1), EXPERIMENT, &[7; 1500]), N);
        let report = wire.finish();
        let (received, damaged) = (report.port(0).rx(), report.port(0).errors());
        assert_eq!(
            received + damaged,
            u64::from(2 * N),
            "{engine}: {report:#?}"
        );
        // The short ones crossed, the long ones did not.
        assert_eq!(report.port(1).tx(), u64::from(N), "{engine}: {report:#?}");
        assert_eq!(
            report.account("drops") + damaged,
            u64::from(N),
            "{engine}: {report:#?}"
        );
    }
}

#[test]
fn jumbo_frames_cross_where_both_sides_take_them() {
    for engine in ENGINES {
        let lab = Lab::new();
        let (a, b) = (lab.host("a"), lab.host("b"));
        for (host, end) in [(&a, "a"), (&b, "b")] {
            host.sh("ip link set dev cable0 mtu 9000");
            lab.here.sh(&format!("ip link set dev {end} mtu 9000"));
        }
        let ports = ["a", "b"].map(|name| format!("uring:{name}{engine}"));
        let arguments = [
            "fwd",
            "-p",
            &ports[0],
            "-p",
            &ports[1],
            "--json",
            "--stats-interval",
            "100ms",
        ];
        let linecard = lab.linecard(&arguments).ready();
        a.up(&["10.77.0.1/24"]);
        b.up(&["10.77.0.2/24"]);
        a.ping(20, "-s 8972 -M do 10.77.0.2");
        Wire {
            lab,
            a,
            b,
            linecard,
        }
        .finish();
    }
}

#[test]
fn frames_cut_short_are_forwarded_or_counted() {
    // From a bare Ethernet header to an ICMP message that lacks its last byte.
    let whole = ethernet(
        mac(2),
        mac(1),
        0x0800,
        &echo_request([10, 1, 0, 1], [10, 2, 0, 2], b"x"),
    );
    let cut = (whole.len() - 14) as u64;
    for mode in ["io", "macswap", "5tswap", "icmp-echo"] {
        let mut wire = Wire::silent("", &["--mode", mode]);
        wire.up_without_addresses();
        wire.a
            .send_each((14..whole.len()).map(|len| &whole[..len]), 1);
        let report = wire.finish();
        let answers = mode == "icmp-echo";
        assert_eq!(report.port(0).rx(), cut, "{mode}: {report:#?}");
        assert_eq!(
            report.port(1).tx(),
            if answers { 0 } else { cut },
            "{mode}: {report:#?}"
        );
        assert_eq!(
            report.port(0).drops(),
            if answers { cut } else { 0 },
            "{mode}: {report:#?}"
        );
        assert_eq!(
            report.port(0).dropped_for("malformed"),
            report.account("drops"),
            "{mode}: {report:#?}"
        );
    }
}

#[test]
fn a_panicking_stage_takes_down_one_worker_only() {
    const EACH: u64 = 100_000;
    let ports = linecard::open_all(["null:0?count=100000", "null:1?count=100000"]).unwrap();
    let config = EngineConfig {
        workers: Some(2),
        oversubscribe: true,
        ..EngineConfig::default()
    };
    let engine = Engine::new(ports, config).unwrap();
    let running = engine
        .start(|worker| {
            let mut seen = 0;
            Box::new(move |mbuf: &mut Mbuf| {
                seen += 1;
                assert!(worker != 0 || seen < 1000, "frame {seen} is too much");
                Verdict::Forward(mbuf.port() ^ 1)
            })
        })
        .unwrap();
    wait_until("the workers to end", || running.is_finished());
    let report = running.finish();
    assert!(!report.is_clean());
    let failure = report.workers[0].failure.as_deref().unwrap();
    assert!(failure.contains("frame 1000 is too much"), "{failure}");
    assert_eq!(report.workers[1].failure, None);
    // The other one did all of its share: half of each port.
    assert_eq!((report.workers[1].rx, report.workers[1].tx), (EACH, EACH));
    // And what the first one held is known and back home.
    assert_eq!(report.account.unaccounted, 0, "{report:#?}");
    assert_eq!(report.account.in_flight, 0, "{report:#?}");
    let lost: u64 = report
        .ports
        .iter()
        .filter_map(|p| p.drops.get("stage_panic"))
        .sum();
    assert!((1..=32).contains(&lost), "{report:#?}");
    assert!(
        report
            .pools
            .iter()
            .all(|p| p.leaked == 0 && p.ledger.in_use == 0),
        "{report:#?}"
    );
}

#[test]
fn after_kill_9_the_next_start_is_clean() {
    let wire = Wire::new("", &[]);
    wire.a.ping(5, B4);
    let load = flood(&wire.a);
    wait_for_frames(&wire.a, 1000);
    wire.linecard.signal(Signal::SIGKILL);
    let ended = wire.linecard.end();
    assert_eq!(ended.code, 128 + Signal::SIGKILL as i32);
    drop(load);
    wire.lab.assert_left(&["a", "b"]);
    // Counters go on from before, so only what comes now can be compared.
    let arguments = [
        "fwd",
        "-p",
        "uring:a",
        "-p",
        "uring:b",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    let linecard = wire.lab.linecard(&arguments).ready();
    wire.a.ping(20, B4);
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
    wire.lab.assert_left(&["a", "b"]);
}

#[test]
fn after_kill_9_a_tap_device_is_gone() {
    let lab = Lab::new();
    let arguments = [
        "fwd",
        "-p",
        "tap:t0",
        "--mode",
        "icmp-echo",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    for _ in 0..2 {
        let linecard = lab.linecard(&arguments).ready();
        lab.here
            .sh("ip address add 10.77.0.1/24 dev t0 && ip link set t0 up");
        lab.here.ping(5, B4);
        linecard.signal(Signal::SIGKILL);
        linecard.end();
        lab.assert_left(&[]);
    }
}

#[test]
fn ctrl_c_under_load_gives_a_whole_report() {
    for engine in ENGINES {
        let mut wire = Wire::silent(engine, &[]);
        wire.up_without_addresses();
        let _load = flood(&wire.a);
        wait_until("frames on the other side", || wire.b.cable().rx > 1000);
        let ended = wire.linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        assert!(report.port(1).tx() > 0, "{report:#?}");
        assert_eq!(report.port(1).tx(), wire.b.cable().rx, "{report:#?}");
        wire.lab.assert_left(&["a", "b"]);
    }
}

#[test]
fn no_permission_names_the_capability_and_the_command() {
    let lab = Lab::new();
    let _a = lab.host("a");
    let without = format!("setpriv --inh-caps=-all --bounding-set=-all -- {LINECARD}");
    for (port, capability) in [("uring:a", "CAP_NET_RAW"), ("tap:t0", "CAP_NET_ADMIN")] {
        let ended = lab
            .here
            .start(&format!("{without} fwd --port {port}"))
            .end();
        assert_eq!(ended.code, 1, "{ended:#?}");
        assert!(ended.stderr.contains(port), "{ended:#?}");
        assert!(ended.stderr.contains(capability), "{ended:#?}");
        assert!(ended.stderr.contains("setcap"), "{ended:#?}");
    }
    lab.assert_left(&["a"]);
}

#[test]
fn no_such_interface_is_named() {
    let lab = Lab::new();
    let _a = lab.host("a");
    let ended = lab.linecard(&["fwd", "--port", "uring:nope"]).end();
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(ended.stderr.contains("uring:nope"), "{ended:#?}");
    assert!(
        ended.stderr.contains("ip link") || ended.stderr.contains("linecard ports"),
        "{ended:#?}"
    );
    // The second port fails: the first one is given back.
    let ended = lab
        .linecard(&["fwd", "--port", "tap:t0", "--port", "uring:nope"])
        .end();
    assert_eq!(ended.code, 1, "{ended:#?}");
    lab.assert_left(&["a"]);
}

#[test]
fn without_io_uring_it_says_so_and_forwards_all_the_same() {
    for engine in ["", "?rx=multishot"] {
        let lab = Lab::new();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let ports = ["a", "b"].map(|name| format!("uring:{name}{engine}"));
        let mut command = lab.here.command(LINECARD);
        command.args([
            "fwd",
            "-p",
            &ports[0],
            "-p",
            &ports[1],
            "--json",
            "--stats-interval",
            "100ms",
        ]);
        seccomp::forbid_io_uring(&mut command);
        let linecard = Process::start(command).ready();
        let said = linecard.stderr();
        assert!(
            said.contains("io_uring: EPERM") && said.contains("seccomp"),
            "{said}"
        );
        a.up(&["10.77.0.1/24"]);
        b.up(&["10.77.0.2/24"]);
        a.ping(20, "10.77.0.2");
        let server = b.serve(5201, "iperf3 --server");
        a.sh("iperf3 --client 10.77.0.2 --time 1");
        drop(server);
        Wire {
            lab,
            a,
            b,
            linecard,
        }
        .finish();
    }
}

#[test]
fn a_tap_device_in_use_is_refused() {
    let lab = Lab::new();
    let arguments = [
        "fwd",
        "--port",
        "tap:t0",
        "--mode",
        "rx-drop",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    let first = lab.linecard(&arguments).ready();
    let second = lab.linecard(&arguments).end();
    assert_eq!(second.code, 1, "{second:#?}");
    assert!(second.stderr.contains("tap:t0"), "{second:#?}");
    assert!(
        second.stderr.contains("in use") || second.stderr.contains("busy"),
        "{second:#?}"
    );
    // The first goes on.
    lab.here
        .sh("ip address add 10.77.0.1/24 dev t0 && ip link set t0 up");
    let ended = first.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
    lab.assert_left(&[]);
}
