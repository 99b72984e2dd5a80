//! `linecard gen`: what it sends, what it says of it, and what others make of it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::files::{linecard, path};
use crate::lab::{Ended, Host, Lab, wait_until};
use crate::report::Report;
use crate::xdp_lab::possible;

const QUIET: [&str; 4] = ["--json", "--no-control", "--stats-interval", "0s"];

fn arguments<'a>(port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["gen", "--port", port], &QUIET[..], more].concat()
}

/// What it says; whatever else, every frame and every mbuf is accounted for.
fn told(ended: &Ended) -> Value {
    let report = ended.report().0;
    Report(report["engine"].clone()).assert_balanced();
    report
}

fn counts(report: &Value, key: &str) -> u64 {
    report["trials"][0]["counts"][key].as_u64().unwrap()
}

/// A host that says nothing by itself.
fn listener(lab: &Lab) -> Host {
    let host = lab.host("a");
    host.sh("ip link set cable0 addrgenmode none arp off up");
    host
}

const STREAMS: &str = r#"
[[stream]]
name = "mix"
size = "imix"
flows = 100

[[stream]]
packet = "eth/vlan(vid=7)/ipv6/tcp(flags=syn)"
size = "200..260"
vary = ["tcp.sport=random(1..65535) & ipv6.src=2001:db8::1..2001:db8::ffff", "vlan.vid=1..9"]

[[stream]]
packet = "icmp/echo/data(\"odd\")"
size = "99"
vary = ["echo.seq=0..65535 then ipv4.dst=[10.0.0.1, 10.0.0.9]"]

[[stream]]
packet = "eth/ipv4/ipv4(src=10.0.0.1)/udp"
size = "128"
vary = ["ipv4.ident=0..65535", "ipv4#2.src=10.0.0.1..10.0.9.255", "ipv4.ttl=[1, 64, 255]"]
"#;

/// A bridge and a macvlan pass a speed on that the kernel made up.
#[test]
fn on_top_of_a_veth_there_is_no_speed_to_have_a_share_of() {
    let lab = Lab::new();
    lab.here.sh("ip link add va type veth peer name vb \
        && ip link add name bridge0 type bridge && ip link set va master bridge0 \
        && ip link add mv link vb type macvlan");
    let names = ["va", "vb", "bridge0", "mv"];
    for name in names {
        let up = format!("ip link set dev {name} addrgenmode none arp off up");
        lab.here.sh(&up);
    }
    for name in names {
        // A bridge says so once a member of it is up.
        wait_until("a speed", || {
            let said = lab.here.sh(&format!("ethtool {name}"));
            said.contains("Speed: 10000Mb/s")
        });
        let port = format!("uring:{name}");
        let refused = lab.linecard(&arguments(&port, &["--rate", "1%", "--count", "1"]));
        let refused = refused.end();
        assert_eq!(refused.code, 1, "{name}: {refused:#?}");
        assert!(refused.stderr.contains("only a name"), "{refused:#?}");
        let sent = lab.linecard(&arguments(&port, &["--rate", "1kpps", "--count", "1"]));
        let link = &told(&sent.end())["ports"][0];
        assert_eq!(link["link_bits_per_second"], 1e10, "{link:#}");
        assert_eq!(link["link_is_nominal"], true, "{link:#}");
    }
}

#[test]
fn tshark_finds_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (streams, out) = (dir.path().join("streams.toml"), dir.path().join("out.pcap"));
    fs::write(&streams, STREAMS).unwrap();
    let port = format!("pcap:?tx={}", path(&out));
    let ended = linecard(&arguments(
        &port,
        &["--streams", path(&streams), "--count", "2000"],
    ));
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = told(&ended);
    assert_eq!(counts(&report, "sent"), 2000);
    let mut command = Command::new("tshark");
    command
        .env("HOME", dir.path())
        .env("XDG_CONFIG_HOME", dir.path());
    for checked in ["ip", "tcp", "udp"] {
        command.args(["-o", &format!("{checked}.check_checksum:TRUE")]);
    }
    command.args([
        "-n",
        "-r",
        path(&out),
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
    ]);
    for field in ["ip", "tcp", "udp", "icmp"] {
        command.args(["-e", &format!("{field}.checksum.status")]);
    }
    let output = command
        .args(["-e", "_ws.malformed", "-e", "frame.len"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().count(),
        2000,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut kinds = std::collections::BTreeSet::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split('|').collect();
        // 1 is good; two headers of a kind have two.
        let statuses = fields[..4]
            .iter()
            .flat_map(|f| f.split(','))
            .filter(|s| !s.is_empty());
        assert!(
            statuses.clone().count() > 0 && statuses.clone().all(|s| s == "1"),
            "{line}"
        );
        assert_eq!(fields[4], "", "{line}");
        kinds.insert(fields[..4].join("|"));
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

#[test]
fn the_kernel_counts_as_many() {
    let drivers = ["uring:a", "xdp:a"];
    for port in &drivers[..1 + usize::from(possible())] {
        let lab = Lab::new();
        let host = listener(&lab);
        let more = ["--count", "5000", "--size", "imix", "--flows", "64"];
        let ended = lab.linecard(&arguments(port, &more)).end();
        assert_eq!(ended.code, 0, "{ended:#?}");
        let report = told(&ended);
        assert_eq!(counts(&report, "sent"), 5000);
        assert_eq!(report["passed"], true);
        assert_eq!(host.cable().rx, 5000, "{port}: {report:#?}");
        lab.assert_left(&["a"]);
    }
}

#[test]
fn ten_times_too_much_does_not_pass() {
    let lab = Lab::new();
    let host = listener(&lab);
    let more = ["--rate", "100Mpps", "--duration", "200ms"];
    let ended = lab.linecard(&arguments("uring:a", &more)).end();
    assert_eq!(ended.code, 4, "{ended:#?}");
    let report = told(&ended);
    assert_eq!(report["passed"], false);
    let (sent, unsent) = (counts(&report, "sent"), counts(&report, "unsent"));
    assert!(unsent > 10 * sent, "{report:#?}");
    // Not one of a schedule of 200 ms is forgotten, and it was not stretched to send more of them.
    assert_eq!(sent + unsent, 20_000_000, "{report:#?}");
    assert_eq!(host.cable().rx, sent);
    let faults = report["trials"][0]["faults"].to_string();
    assert!(faults.contains("were due and not sent"), "{faults}");
}

/// What the machine can hold is its own affair: but either the rate was held, or the run says that it was not.
#[test]
fn a_rate_is_held_or_the_run_says_so() {
    let lab = Lab::new();
    let host = listener(&lab);
    let more = ["--rate", "20kpps", "--duration", "200ms"];
    let ended = lab.linecard(&arguments("uring:a", &more)).end();
    let report = told(&ended);
    let trial = &report["trials"][0];
    let (sent, unsent) = (counts(&report, "sent"), counts(&report, "unsent"));
    assert_eq!(
        (sent + unsent, host.cable().rx),
        (4000, sent),
        "{report:#?}"
    );
    let held = report["error"].as_f64().unwrap().abs() <= 0.001 && unsent == 0;
    let passed = report["passed"].as_bool().unwrap();
    let code = if held { 0 } else { 4 };
    assert_eq!((passed, ended.code), (held, code), "{report:#?}");
    assert_eq!(trial["faults"].as_array().unwrap().is_empty(), held);
    // Between frames, of which some may have left together; not known of those that the port refused.
    let even = &trial["pacing"]["evenness"];
    if report["refused"] == 0 {
        assert_eq!(
            (&even["gaps"], &even["asked_ns"]),
            (&Value::from(sent - 1), &Value::from(5e4))
        );
    } else {
        assert_eq!(even, &Value::Null);
    }
}

#[test]
fn a_port_that_is_gone_for_a_while_is_told() {
    let lab = Lab::new();
    let host = listener(&lab);
    let process = lab.linecard(&arguments("uring:a", &["--rate", "10kpps"]));
    wait_until("frames", || host.cable().rx > 0);
    lab.here.sh("ip link delete dev a");
    lab.plug(&host, "a");
    host.sh("ip link set cable0 addrgenmode none arp off up");
    wait_until("the port to come back", || host.cable().rx > 0);
    let ended = process.interrupt();
    assert_eq!(ended.code, 4, "{ended:#?}");
    let report = told(&ended);
    let port = &report["engine"]["ports"][0];
    let (sent, refused) = (counts(&report, "sent"), report["refused"].as_u64().unwrap());
    assert!(
        refused > 0 && counts(&report, "unsent") >= refused,
        "{report:#?}"
    );
    assert_eq!(
        (port["tx"].as_u64(), report["streams"][0]["sent"].as_u64()),
        (Some(sent), Some(sent))
    );
    let faults = report["trials"][0]["faults"].to_string();
    // That it is gone is noticed a moment after the first frames that could not be sent.
    let said = format!("uring:a refused {refused} frames: ");
    let several = faults.contains("it was down or gone");
    assert!(several || faults.contains(&said), "{faults}");
    lab.assert_left(&["a"]);
}

#[test]
fn what_comes_back_is_told_by_stream() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("streams.toml");
    fs::write(
        &file,
        "[[stream]]\nname = 'a'\nflows = 9\n[[stream]]\nname = 'b'\nweight = 3\nsize = '128'\n",
    )
    .unwrap();
    let more = [
        "--receive",
        "sim:y?peer=x",
        "--streams",
        path(&file),
        "--count",
        "1000",
        "--workers",
        "2",
        "--oversubscribe",
    ];
    // Two workers of one cpu keep no time: what they could not send in time is left out here.
    let ended = linecard(&arguments(
        "sim:x?peer=y",
        &[&more[..], &["--catch-up", "1min"]].concat(),
    ));
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = told(&ended);
    let stream = |n: usize, key: &str| report["streams"][n][key].as_u64().unwrap();
    for (n, frames) in [(0, 250), (1, 750)] {
        assert_eq!(
            (stream(n, "sent"), stream(n, "received"), stream(n, "lost")),
            (frames, frames, 0)
        );
        assert!(stream(n, "min_ns") <= stream(n, "max_ns"));
    }
    assert_eq!(
        (counts(&report, "received"), counts(&report, "foreign")),
        (1000, 0)
    );
    assert_eq!(report["trials"][0]["latency"]["time"]["count"], 1000);
}

#[test]
fn it_ends_in_order_and_says_what_it_did() {
    let process = crate::lab::Process::start({
        let mut command = Command::new(crate::lab::LINECARD);
        command.args([
            "gen",
            "--port",
            "null:0",
            "--no-control",
            "--stats-interval",
            "100ms",
        ]);
        command
    });
    wait_until("figures", || process.stderr().contains(" pps, "));
    let ended = process.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.contains("sent as asked"), "{ended:#?}");
}

#[test]
fn frames_are_shown_without_a_port() {
    let ended = linecard(&[
        "gen",
        "--show",
        "2",
        "--json",
        "--packet",
        "udp(dport=53)",
        "--vary",
        "udp.sport=[7, 8]",
    ]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let frames: Value = serde_json::from_str(&ended.stdout).unwrap();
    for (n, port) in [(0, "sport=7"), (1, "sport=8")] {
        assert!(
            frames[n]["packet"].as_str().unwrap().contains(port),
            "{frames}"
        );
        assert_eq!(frames[n]["bytes"].as_str().unwrap().len(), 120);
    }
}

#[test]
fn mistakes_say_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.pcap");
    fs::write(&broken, "no capture").unwrap();
    for (more, code, says) in [
        (&["--packet", "eth/ipv6/udp"][..], 1, "84 is the least size"),
        (
            &["--packet", "eth/ipv4(dest=1.2.3.4)"],
            1,
            "no field 'dest'",
        ),
        (&["--size", "9000"], 1, "do not fit the port"),
        (&["--rate", "40%"], 1, "--link-speed"),
        (&["--rate", "fast"], 2, "20kpps"),
        (&["--vary", "udp.sport"], 2, "udp.sport=1024..2047"),
        (&["--pcap", path(&broken)], 1, "no capture file"),
        (&["--streams", "/nonexistent.toml"], 1, "nonexistent"),
        (&["--spacing", "poisson"], 1, "needs a rate"),
    ] {
        let ended = linecard(&arguments(
            "null:0?count=1",
            &[more, &["--count", "1"]].concat(),
        ));
        assert_eq!(ended.code, code, "{ended:#?}");
        assert!(ended.stderr.contains(says), "{says}: {ended:#?}");
    }
}
