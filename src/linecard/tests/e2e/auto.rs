//! `auto:` ports: which rung carries the frames, why not a better one, and that they arrive.

use std::process::Command;

use serde_json::Value;

use crate::lab::{Host, LINECARD, Lab, Process};
use crate::report::Report;
use crate::wire::{A4, B4, Wire};

/// Starts `linecard fwd` between `auto:a` and `auto:b`, by way of a command that takes something away from it.
fn between(prepare: &str, by_way_of: &str, options: [&str; 2], arguments: &str) -> Wire {
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    if !prepare.is_empty() {
        lab.here.sh(prepare);
    }
    let [x, y] = options;
    let text = format!(
        "{by_way_of} {LINECARD} fwd --port 'auto:a{x}' --port 'auto:b{y}' --json --stats-interval 100ms {arguments}"
    );
    let linecard = lab.here.start(&text).ready();
    a.up(&[&format!("{A4}/24")]);
    b.up(&[&format!("{B4}/24")]);
    Wire {
        lab,
        a,
        b,
        linecard,
    }
}

/// The rungs of a port's ladder, as the report has them.
fn rungs(report: &Report, port: usize) -> Vec<Value> {
    let rungs = &report.0["ports"][port]["rungs"];
    rungs.as_array().expect("a list").clone()
}

fn taken(report: &Report, port: usize) -> String {
    let all = rungs(report, port);
    let taken: Vec<_> = all.iter().filter(|rung| rung["taken"] == true).collect();
    assert_eq!(taken.len(), 1, "{all:#?}");
    taken[0]["rung"].as_str().unwrap().to_owned()
}

/// Why a rung was not taken, and what would change that.
fn why(report: &Report, port: usize, rung: &str) -> String {
    let all = rungs(report, port);
    let found = all
        .iter()
        .find(|one| one["rung"] == rung)
        .expect("the rung");
    assert_eq!(found["taken"], false, "{found:#}");
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    format!("{}; {}", text("reason"), text("remedy"))
}

fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in: {text}");
}

/// Whether an XDP program may be loaded here. Not in a user namespace.
fn has_xdp(host: &Host) -> bool {
    let text = host.sh(&format!("{LINECARD} ports --json"));
    let ports: Value = serde_json::from_str(&text).unwrap();
    let interfaces = ports["interfaces"].as_array().unwrap();
    let lo = interfaces.iter().find(|one| one["name"] == "lo").unwrap();
    lo["xdp"].is_object() && lo["xdp"]["obstacle"].is_null()
}

/// What it said before it began to forward.
fn start_up(linecard: &Process) -> String {
    linecard
        .stderr()
        .split("\nforwarding")
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn frames_cross_by_the_best_rung_that_there_is() {
    let wire = between("", "", ["", ""], "");
    let expected = if has_xdp(&wire.lab.here) {
        "xdp copy"
    } else {
        ""
    };
    wire.a.ping(20, B4);
    wire.b.ping(20, A4);
    let said = start_up(&wire.linecard);
    contains(&said, "auto:a: not dpdk: a is not a PCI card");
    let report = wire.finish();
    let all: Vec<String> = rungs(&report, 0)
        .iter()
        .map(|rung| rung["rung"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        all.join(", "),
        "dpdk, xdp zerocopy, xdp copy, xdp skb, uring ring, uring multishot, uring mmsg"
    );
    if expected == "xdp copy" {
        assert_eq!(
            (taken(&report, 0), taken(&report, 1)),
            (expected.into(), expected.into())
        );
        contains(&why(&report, 0, "xdp zerocopy"), "zero-copy");
        contains(&why(&report, 0, "xdp skb"), "UDP super-frames");
        contains(&why(&report, 1, "uring ring"), "open uring:b?rx=ring");
        assert_eq!(report.0["ports"][0]["driver"], "xdp");
        contains(&said, "auto:b: xdp copy (xdp:b?mode=copy)");
    } else {
        assert_eq!(taken(&report, 0), "uring ring");
    }
}

#[test]
fn without_the_capability_it_is_the_mapped_ring() {
    let weak = "setpriv --bounding-set=-bpf,-sys_admin --inh-caps=-bpf,-sys_admin";
    let wire = between("", weak, ["", ""], "");
    wire.a.ping(20, B4);
    contains(
        &start_up(&wire.linecard),
        "auto:a: uring ring (uring:a?rx=ring)",
    );
    let report = wire.finish();
    assert_eq!(
        (taken(&report, 0), taken(&report, 1)),
        ("uring ring".into(), "uring ring".into())
    );
    let why = why(&report, 0, "xdp copy");
    contains(&why, "CAP_BPF");
    contains(&why, "Operation not permitted");
    contains(&why, "setcap");
}

/// Somebody else's program stays where it is, and the frames cross all the same.
#[test]
fn a_foreign_program_is_stepped_around() {
    let lab = Lab::new();
    let (a, b) = (lab.host("a"), lab.host("b"));
    if !has_xdp(&lab.here) {
        return;
    }
    let foreign = lab
        .linecard(&["fwd", "--port", "xdp:a", "--mode", "rx-drop"])
        .ready();
    let shown = lab.here.sh(&format!("{LINECARD} ports"));
    contains(&shown, "xdp:a: a has an XDP program of another linecard");
    let doctor = lab.here.try_sh(&format!("{LINECARD} doctor")).1;
    contains(&doctor, "attached");

    let arguments = [
        "fwd",
        "--port",
        "auto:a",
        "--port",
        "auto:b",
        "--json",
        "--stats-interval",
        "100ms",
    ];
    let mut linecard = lab.linecard(&arguments).ready();
    linecard.assert_running();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    assert_eq!(taken(&report, 0), "uring ring");
    assert_eq!(taken(&report, 1), "xdp copy");
    let why = why(&report, 0, "xdp copy");
    contains(&why, "an XDP program of another linecard");
    contains(&why, "force=1");
    assert_eq!(foreign.interrupt().code, 0);
    drop((a, b));
}

/// What only fails when the sockets are made falls through as well: here the limit of locked memory.
#[test]
fn a_rung_that_breaks_at_the_start_is_stepped_down_from() {
    let poor =
        "setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=65536:65536";
    let wire = between("", poor, ["", ""], "");
    let xdp = has_xdp(&wire.lab.here);
    wire.a.ping(20, B4);
    wire.b.ping(20, A4);
    let said = start_up(&wire.linecard);
    let report = wire.finish();
    assert_eq!(
        (taken(&report, 0), taken(&report, 1)),
        ("uring ring".into(), "uring ring".into())
    );
    if xdp {
        let why = why(&report, 0, "xdp copy");
        contains(&why, "above the memlock limit");
        contains(&why, "ulimit -l");
        contains(&said, "auto:a: uring ring (uring:a?rx=ring)");
    }
}

#[test]
fn one_worker_serves_all_queues_of_an_interface() {
    let two = "ethtool -L a rx 2 tx 2";
    let wire = between(two, "", ["", ""], "--workers 1");
    let xdp = has_xdp(&wire.lab.here);
    wire.a.ping(20, B4);
    let report = wire.finish();
    let rung = if xdp { "xdp copy" } else { "uring ring" };
    assert_eq!(
        (taken(&report, 0), taken(&report, 1)),
        (rung.into(), rung.into())
    );
}

/// The machine can still be reached at an interface that `auto:` listens to, unless the name says otherwise.
#[test]
fn the_kernel_keeps_the_frames_of_its_own_address() {
    let address = "ip link set dev a arp on && ip address add 192.0.2.7/24 dev a";
    let wire = between(address, "", ["", ""], "");
    wire.a.sh("ip address add 192.0.2.1/24 dev cable0");
    wire.a.ping(5, "192.0.2.7");
    contains(&start_up(&wire.linecard), "192.0.2.7");
    let Wire {
        lab,
        a,
        b,
        linecard,
    } = wire;
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    assert_eq!(taken(&report, 0), "uring ring");
    let why = why(&report, 0, "xdp copy");
    contains(&why, "the kernel's own stack has 192.0.2.7 at a");
    contains(&why, "open xdp:a all the same");

    if has_xdp(&lab.here) {
        assert_eq!(taken(&report, 1), "xdp copy");
        let arguments = [
            "fwd",
            "--port",
            "auto:a?share=none",
            "--mode",
            "rx-drop",
            "--json",
        ];
        let linecard = lab.linecard(&arguments).ready();
        let (status, _) = a.try_sh("ping -c 1 -W 1 192.0.2.7");
        assert!(!status.success(), "the frames are the port's");
        assert_eq!(taken(&linecard.interrupt().report(), 0), "xdp copy");
    }
    drop(b);
}

#[test]
fn options_choose_the_rung() {
    let wire = between("", "", ["?rx=multishot", "?rx=mmsg"], "");
    wire.a.ping(20, B4);
    let report = wire.finish();
    assert_eq!(
        (taken(&report, 0), taken(&report, 1)),
        ("uring multishot".into(), "uring mmsg".into())
    );
    contains(&why(&report, 1, "xdp copy"), "the name says rx=mmsg");
}

#[test]
fn what_cannot_be_opened_says_so_for_every_rung() {
    let lab = Lab::new();
    let a = lab.host("a");
    let fails = |port: &str| {
        let mut command: Command = lab.here.command(LINECARD);
        let output = command
            .args(["fwd", "--port", port, "--dry-run"])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{port}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    contains(&fails("auto:nope"), "linecard ports");
    let unknown = fails("auto:a?colour=red");
    contains(
        &unknown,
        "no rung can be taken: not dpdk: a is not a PCI card",
    );
    contains(&unknown, "the uring driver has: rx, tx");
    drop(a);
}
