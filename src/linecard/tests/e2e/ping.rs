//! `linecard ping` and `linecard reflect`: a kernel answers, a reflector sends back, nobody does.

use serde_json::Value;

use crate::control::{Top, assert_of, path_in};
use crate::lab::{Ended, Host, Lab, Process, wait_until};

/// The address of an interface, as a person writes it.
fn mac_of(host: &Host, interface: &str) -> String {
    let bytes = host.mac(interface).map(|byte| format!("{byte:02x}"));
    bytes.join(":")
}

/// What `--json` printed.
fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}\n{ended:#?}"))
}

/// Runs to the end, and answered all.
fn all_came_back(ping: Process, count: u64) {
    let ended = ping.end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let said = json(&ended);
    let figures =
        ["sent", "received", "lost", "duplicated", "reordered"].map(|name| said[name].as_u64());
    assert_eq!(figures, [count, count, 0, 0, 0].map(Some), "{said:#}");
    let time = &said["latency"]["time"];
    assert_eq!(time["count"].as_u64(), Some(count), "{said:#}");
    assert!(time["min_ns"].as_u64() > Some(0), "{said:#}");
}

/// Three echo requests to an address at the other end, each answered.
fn three_echoes_come_back(lab: &Lab) {
    let arguments = [
        "ping",
        "--port",
        "uring:a?rx=mmsg",
        "10.7.0.2",
        "--source",
        "10.7.0.9",
        "--count",
        "3",
        "--interval",
        "1ms",
        "--timeout",
        "20s",
        "--json",
    ];
    all_came_back(lab.linecard(&arguments), 3);
}

/// Waits for a line on standard error or output.
pub fn begun(mut process: Process, line: &str) -> Process {
    wait_until(line, || {
        process.assert_running();
        process.stdout().contains(line) || process.stderr().contains(line)
    });
    process
}

#[test]
fn a_kernel_answers_our_pings() {
    let lab = Lab::new();
    let host = lab.host("a");
    host.up(&["10.7.0.2/24", "fd07::2/64"]);
    for port in ["uring:a", "xdp:a"] {
        for (to, from) in [("10.7.0.2", "10.7.0.9"), ("fd07::2", "fd07::9")] {
            let ping = lab.linecard(&[
                "ping",
                "--port",
                port,
                to,
                "--source",
                from,
                "--count",
                "5",
                "--interval",
                "5ms",
                "--size",
                "128",
                "--timeout",
                "20s",
                "--json",
            ]);
            all_came_back(ping, 5);
        }
    }
    // The kernel asked who we are, too, and was told.
    let neighbours = host.sh("ip neighbour show dev cable0");
    assert!(neighbours.contains("10.7.0.9 lladdr"), "{neighbours}");
}

#[test]
fn a_ping_is_watched_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir);
    let lab = Lab::new();
    let host = lab.host("a");
    host.up(&["10.7.0.2/24"]);
    let ping = lab.linecard(&[
        "ping",
        "--port",
        "uring:a",
        "10.7.0.2",
        "--source",
        "10.7.0.9",
        "--interval",
        "5ms",
        "--timeout",
        "20s",
        "--idle",
        "sleep",
        "--json",
        "--control",
        &path,
    ]);
    let mut top = Top::at(&path);
    let port = |status: &Value, key: &str| status["report"]["ports"][0][key].as_u64().unwrap();
    let both = |status: &Value| port(status, "rx") > 10 && port(status, "tx") > 10;
    let mut seen = top.until("replies", both);
    // Its figures move.
    let tx = port(&seen[seen.len() - 1], "tx");
    seen = top.until("more", |status| both(status) && port(status, "tx") > tx);
    assert_of(&seen, "ping", &["uring:a"]);
    top.stop();
    let ended = ping.end();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let said = json(&ended);
    assert!(said["received"].as_u64() > Some(5), "{said:#}");
}

#[test]
fn a_reflector_sends_everything_back() {
    let lab = Lab::new();
    let host = lab.host("a");
    host.up(&[]);
    let reflect = host.linecard(&[
        "reflect",
        "--port",
        "uring:cable0?rx=mmsg",
        "--answer",
        "10.7.0.2",
        "--json",
    ]);
    let reflect = begun(reflect, "reflecting");
    let peer = mac_of(&host, "cable0");
    let arguments = [
        "ping",
        "--port",
        "uring:a?rx=mmsg",
        "--peer",
        &peer,
        "--count",
        "200",
        "--interval",
        "1ms",
        "--timeout",
        "20s",
        "--json",
    ];
    all_came_back(lab.linecard(&arguments), 200);
    // It answers pings to its addresses like a host.
    three_echoes_come_back(&lab);
    let ended = reflect.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    // Two hundred, three pings and one question.
    assert_eq!(report.port(0).tx(), 204);
}

#[test]
fn a_sink_answers_pings_that_have_a_stamp() {
    let lab = Lab::new();
    let host = lab.host("a");
    host.up(&[]);
    let sink = host.linecard(&[
        "sink",
        "--port",
        "uring:cable0?rx=mmsg",
        "--answer",
        "10.7.0.2",
        "--json",
    ]);
    let sink = begun(sink, "receiving");
    three_echoes_come_back(&lab);
    let ended = sink.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    // It has counted them, too, in the lane of the ping's number or, if that is too high, beyond its lanes.
    let said = json(&ended);
    let counted = |n: &Value| n.as_u64().unwrap();
    let pings = counted(&said["counts"]["received"]) + counted(&said["lanes_beyond"]);
    assert_eq!((counted(&said["frames"]), pings), (4, 3), "{said:#}");
}

#[test]
fn who_does_not_answer_is_named() {
    let lab = Lab::new();
    let host = lab.host("a");
    host.up(&["10.7.0.2/24"]);
    let fails = |arguments: &[&str], text: &str| {
        let fixed = [
            "ping",
            "--port",
            "uring:a",
            "--count",
            "2",
            "--interval",
            "1ms",
            "--timeout",
            "50ms",
        ];
        let ended = lab.linecard(&[&fixed, arguments].concat()).end();
        assert_eq!(ended.code, 1, "{ended:#?}");
        assert!(ended.stderr.contains(text), "{ended:#?}");
    };
    fails(
        &["10.7.0.3", "--source", "10.7.0.9"],
        "10.7.0.3 does not answer ARP on uring:a",
    );
    fails(
        &["--peer", "02:00:00:00:00:99"],
        "nothing came back from 02:00:00:00:00:99",
    );
    fails(&["10.7.0.3", "--source", "fd07::9"], "one kind");
    lab.assert_left(&["a"]);
}
