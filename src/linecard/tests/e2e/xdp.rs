//! AF_XDP ports: traffic, neighbours of other drivers, steering, and faults. What is refused: `xdp_refusals`.
//!
//! They need capabilities of the machine itself, which no user namespace gives: without, each test says so and
//! ends.

use serde_json::Value;

use crate::faults::{flood, wait_for_frames};
use crate::forward::converse;
use crate::frames::{EXPERIMENT, IPV4, ethernet, mac, udp};
use crate::lab::{Host, Lab, wait_until};
use crate::wire::{A4, B4, Wire};
use crate::xdp_lab::{FWD, ports, possible, says, talking};

const MODES: [&str; 2] = ["copy", "skb"];

/// Two hosts that say nothing by themselves, and a forwarder between them.
fn silent(options: &str, arguments: &[&str]) -> Wire {
    Wire::between(ports(options), arguments)
}

/// What the device counts, by the driver's own name.
fn extended(report: &Value, port: usize, name: &str) -> u64 {
    report["ports"][port]["extended"][name]
        .as_u64()
        .unwrap_or(0)
}

#[test]
fn traffic_crosses_in_each_mode() {
    if !possible() {
        return;
    }
    for mode in MODES {
        let wire = talking(ports(&format!("?mode={mode}")), &[]);
        converse(&wire);
        let said = wire.linecard.stderr();
        assert!(said.contains(&format!("modes to try: {mode}")), "{said}");
        let report = wire.finish();
        assert!(
            extended(&report.0, 0, "rx_unfinished_checksums") > 0,
            "{report:#?}"
        );
    }
}

#[test]
fn traffic_crosses_two_workers_that_sleep() {
    if !possible() {
        return;
    }
    let wire = talking(
        ports(""),
        &["--workers", "2", "--oversubscribe", "--idle", "sleep"],
    );
    converse(&wire);
    wire.finish();
}

#[test]
fn traffic_crosses_with_busy_polling() {
    if !possible() {
        return;
    }
    let wire = talking(ports("?busy_poll=1"), &[]);
    converse(&wire);
    wire.finish();
}

#[test]
fn two_queues_have_a_worker_each() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    for (host, end) in [(&a, "a"), (&b, "b")] {
        host.sh("ip link set cable0 addrgenmode none && ethtool -L cable0 rx 2 tx 2");
        lab.here.sh(&format!("ethtool -L {end} rx 2 tx 2"));
    }
    let ports = ports("?queues=2");
    let two = [
        "-p",
        &ports[0],
        "-p",
        &ports[1],
        "--workers",
        "2",
        "--oversubscribe",
    ];
    let linecard = lab.linecard(&[&FWD[..], &two].concat()).ready();
    a.up(&[&format!("{A4}/24"), "fd77::1/64"]);
    b.up(&[&format!("{B4}/24"), "fd77::2/64"]);
    let wire = Wire {
        lab,
        a,
        b,
        linecard,
    };
    converse(&wire);
    wire.finish();
}

#[test]
fn neighbours_of_other_drivers_cost_copies_where_memory_is_not_the_pools() {
    if !possible() {
        return;
    }
    for (uring, copied) in [("", true), ("?rx=multishot", false)] {
        let wire = talking(["xdp:a".into(), format!("uring:b{uring}")], &[]);
        converse(&wire);
        let Wire {
            lab,
            a,
            b,
            mut linecard,
        } = wire;
        a.down();
        b.down();
        linecard.quiet();
        let ended = linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        report.assert_agrees(0, &a.cable());
        report.assert_agrees(1, &b.cable());
        // What the mapped ring received lies in the ring; what multishot received lies in the pool.
        assert_eq!(report.port(0).copies() > 0, copied, "{uring}: {report:#?}");
        assert_eq!(report.port(1).copies(), 0, "{uring}: {report:#?}");
        lab.assert_left(&["a", "b"]);
    }
}

#[cfg(feature = "dpdk")]
#[test]
fn a_device_of_dpdk_s_costs_no_copies() {
    if !possible() {
        return;
    }
    // Through a ring, and back out by the way that it came.
    let lab = Lab::new();
    let a = lab.host("a");
    let ports = ["-p", "xdp:a", "-p", "dpdk:net_ring0"];
    let mut linecard = lab.linecard(&[&FWD[..], &ports].concat()).ready();
    // Its kernel would ask for routers for seconds.
    a.sh("ip link set cable0 addrgenmode none");
    a.up(&[]);
    linecard.quiet();
    let frame = ethernet(mac(2), mac(1), EXPERIMENT, &[7; 600]);
    let watch = a.watch(200, EXPERIMENT);
    a.send_raw(&frame, 200);
    assert!(watch.frames().iter().all(|came| *came == frame));
    a.down();
    linecard.quiet();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!(
        (report.port(0).tx(), report.port(1).tx()),
        (200, 200),
        "{report:#?}"
    );
    assert_eq!(
        report.port(0).copies() + report.port(1).copies(),
        0,
        "{report:#?}"
    );
    lab.assert_left(&["a"]);
}

#[test]
fn the_kernel_keeps_what_no_rule_claims() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    // The lab's end is a host of its own, too.
    lab.here
        .sh("ip address add 10.77.0.9/24 dev a && ip link set dev a arp on");
    let rules = [
        "--flow",
        "0: ether=0x0800 proto=udp dport=7 => queue 0",
        "--flow",
        "0: ether=0x88b5 => drop",
        "--flow",
        "0: ether=0x0800 proto=udp dport=9 => kernel",
        "-p",
        "xdp:a?share=kernel",
        "-p",
        "xdp:b?share=kernel",
    ];
    let linecard = lab.linecard(&[&FWD[..], &rules].concat()).ready();
    a.up(&[&format!("{A4}/24")]);
    b.up(&[]);
    a.ping(20, "10.77.0.9");
    let datagram = |port| {
        ethernet(
            mac(2),
            mac(1),
            IPV4,
            &udp(([10, 77, 0, 1], 5), ([10, 77, 0, 2], port), b"x"),
        )
    };
    let watch = b.watch(30, 0x0800);
    a.send_raw(&datagram(7), 30);
    a.send_raw(&datagram(9), 20);
    a.send_raw(&ethernet(mac(2), mac(1), EXPERIMENT, &[1; 60]), 10);
    assert_eq!(watch.frames().len(), 30);
    a.down();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!(report.port(0).rx(), 30, "{report:#?}");
    let flows = report.0["ports"][0]["flows"].as_array().unwrap();
    let counted: Vec<_> = flows
        .iter()
        .map(|f| f["packets"].as_u64().unwrap())
        .collect();
    assert_eq!(counted, [30, 10, 20], "{report:#?}");
    assert!(
        extended(&report.0, 0, "xdp_passed_to_kernel") > 20,
        "{report:#?}"
    );
    drop(b);
}

#[test]
fn rules_drop_and_mark_where_all_is_ours() {
    if !possible() {
        return;
    }
    let rules = [
        "--flow",
        "0: src=10.77.0.0/24 proto=udp dport=1000-1999 => drop",
        "--flow",
        "0: proto=udp => mark 7",
    ];
    for mode in MODES {
        let mut wire = silent(&format!("?mode={mode}"), &rules);
        wire.up_without_addresses();
        let datagram = |port| {
            ethernet(
                mac(2),
                mac(1),
                IPV4,
                &udp(([10, 77, 0, 1], 5), ([10, 77, 0, 2], port), b"x"),
            )
        };
        let watch = wire.b.watch(20, 0x0800);
        for (port, times) in [(999, 10), (1000, 20), (1999, 20), (2000, 10)] {
            wire.a.send_raw(&datagram(port), times);
        }
        // What is still on its way when the link goes down would be lost.
        assert_eq!(watch.frames().len(), 20, "{mode}");
        let Wire {
            lab,
            a,
            b,
            mut linecard,
        } = wire;
        a.down();
        b.down();
        linecard.quiet();
        let ended = linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        assert_eq!(
            (report.port(0).rx(), report.port(1).tx()),
            (20, 20),
            "{mode}: {report:#?}"
        );
        let flows = report.0["ports"][0]["flows"].as_array().unwrap();
        let counted: Vec<_> = flows
            .iter()
            .map(|f| f["packets"].as_u64().unwrap())
            .collect();
        assert_eq!(counted, [40, 20], "{mode}: {report:#?}");
        lab.assert_left(&["a", "b"]);
    }
}

fn echo_returns(host: &Host) -> bool {
    host.try_sh(&format!("ping -c 1 -W 1 {B4}")).0.success()
}

#[test]
fn an_interface_is_removed_and_made_again_under_load() {
    if !possible() {
        return;
    }
    for mode in MODES {
        let mut wire = talking(ports(&format!("?mode={mode}")), &[]);
        wire.a.ping(5, B4);
        let load = flood(&wire.b);
        wait_for_frames(&wire.b, 1000);
        wire.lab.here.sh("ip link delete dev a");
        wait_for_frames(&wire.b, 1000);
        wire.lab.plug(&wire.a, "a");
        wire.a.up(&[&format!("{A4}/24")]);
        wait_for_frames(&wire.b, 1000);
        drop(load);
        wait_until("the port to come back", || echo_returns(&wire.a));
        wire.a.ping(20, B4);
        wire.a.down();
        wire.b.down();
        wire.linecard.quiet();
        let ended = wire.linecard.interrupt();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = ended.report();
        report.assert_balanced();
        report.assert_agrees(1, &wire.b.cable());
        assert_eq!(extended(&report.0, 0, "sockets_reopened"), 1, "{report:#?}");
        says(&ended, &["its sockets were opened again"]);
        wire.lab.assert_left(&["a", "b"]);
    }
}

#[test]
fn an_interface_goes_down_and_up_under_load() {
    if !possible() {
        return;
    }
    for mode in MODES {
        let wire = talking(ports(&format!("?mode={mode}")), &[]);
        wire.a.ping(5, B4);
        let load = flood(&wire.b);
        wait_for_frames(&wire.b, 1000);
        wire.lab.here.sh("ip link set dev a down");
        wait_for_frames(&wire.b, 1000);
        wire.lab.here.sh("ip link set dev a up");
        wait_for_frames(&wire.b, 1000);
        drop(load);
        wait_until("the port to come back", || echo_returns(&wire.a));
        wire.a.ping(20, B4);
        wire.finish();
    }
}

#[test]
fn the_mtu_changes_under_load() {
    if !possible() {
        return;
    }
    let wire = talking(ports(""), &[]);
    let load = flood(&wire.b);
    wait_for_frames(&wire.b, 1000);
    for mtu in [9000, 1500, 3000] {
        for (host, end) in [(&wire.a, "a"), (&wire.b, "b")] {
            wire.lab
                .here
                .sh(&format!("ip link set dev {end} mtu {mtu}"));
            host.sh(&format!("ip link set dev cable0 mtu {mtu}"));
        }
        wait_for_frames(&wire.b, 1000);
        // Workers look at their interfaces ten times a second.
        let longest = format!("-s {} -M do {B4}", mtu - 28);
        wait_until("the longest frames to cross", || {
            let ping = format!("ping -c 1 -W 1 {longest}");
            wire.a.try_sh(&ping).0.success()
        });
        wire.a.ping(5, &longest);
    }
    drop(load);
    wire.finish();
}

#[test]
fn jumbo_frames_cross_as_chains() {
    if !possible() {
        return;
    }
    for mode in MODES {
        let lab = Lab::new();
        let (a, b) = (lab.host("a"), lab.host("b"));
        for (host, end) in [(&a, "a"), (&b, "b")] {
            host.sh("ip link set dev cable0 mtu 9000");
            lab.here.sh(&format!("ip link set dev {end} mtu 9000"));
        }
        let ports = ports(&format!("?mode={mode}"));
        let linecard = lab
            .linecard(&[&FWD[..], &["-p", &ports[0], "-p", &ports[1]]].concat())
            .ready();
        a.up(&[&format!("{A4}/24")]);
        b.up(&[&format!("{B4}/24")]);
        a.ping(20, &format!("-s 8972 -M do {B4}"));
        let server = b.serve(5201, "iperf3 --server");
        a.sh(&format!("iperf3 --client {B4} --time 1"));
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
fn floods_and_small_pools_are_accounted_for() {
    if !possible() {
        return;
    }
    for mode in MODES {
        let mut wire = silent(&format!("?mode={mode}"), &["--pool-size", "64"]);
        wire.up_without_addresses();
        let load = (flood(&wire.a), flood(&wire.b));
        wait_for_frames(&wire.a, 50_000);
        drop(load);
        let report = wire.finish();
        assert!(report.port(1).tx() > 0, "{report:#?}");
    }
}

#[test]
fn one_worker_serves_all_queues_of_an_interface_and_new_ones() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    for (host, end) in [(&a, "a"), (&b, "b")] {
        host.sh("ip link set cable0 addrgenmode none && ethtool -L cable0 rx 2 tx 2");
        lab.here.sh(&format!("ethtool -L {end} rx 2 tx 2"));
    }
    lab.here.sh("ethtool -L b rx 1 tx 1");
    let both = ["-p", "xdp:a", "-p", "xdp:b", "--idle", "sleep"];
    let linecard = lab.linecard(&[&FWD[..], &both].concat()).ready();
    a.up(&[&format!("{A4}/24"), "fd77::1/64"]);
    b.up(&[&format!("{B4}/24"), "fd77::2/64"]);
    let wire = Wire {
        lab,
        a,
        b,
        linecard,
    };
    converse(&wire);
    wire.lab.here.sh("ethtool -L b rx 2 tx 2");
    wait_until("the sockets of the new queue", || {
        wire.linecard
            .stderr()
            .contains("its sockets were opened again")
    });
    wait_until("the port to work", || echo_returns(&wire.a));
    converse(&wire);
    let Wire {
        lab,
        a,
        b,
        mut linecard,
    } = wire;
    a.down();
    b.down();
    linecard.quiet();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.report().assert_balanced();
    lab.assert_left(&["a", "b"]);
}

#[test]
fn ports_lists_the_modes() {
    if !possible() {
        return;
    }
    let lab = Lab::new();
    let _a = lab.host("a");
    let ended = lab.linecard(&["ports", "--json"]).end();
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    let found = said["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .find(|i| i["name"] == "a");
    let drivers = found.unwrap()["drivers"].as_array().unwrap();
    let usable = |port: &str| {
        drivers
            .iter()
            .find(|d| d["port"] == port)
            .map(|d| d["usable"] == true)
    };
    assert_eq!(usable("xdp:a?mode=zerocopy"), Some(false), "{said:#}");
    assert_eq!(usable("xdp:a?mode=copy"), Some(true), "{said:#}");
    assert_eq!(usable("xdp:a?mode=skb"), Some(true), "{said:#}");
}
