//! `linecard run` with protocols: a host that the kernel's own tools find nothing odd about, and a service on it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::lab::{Lab, Process};
use crate::wire::{A4, A6, B4, B6};
use crate::xdp_lab;

const LINECARD: &str = env!("CARGO_BIN_EXE_linecard");

/// A host and an echo service on a port.
fn file(port: &str) -> String {
    format!(
        "[[port]]
        name = \"wire\"
        open = \"{port}\"
        [[protocol]]
        kind = \"host\"
        ports = [\"wire\"]
        addresses = [\"{B4}/24\", \"{B6}/64\"]
        [[protocol]]
        kind = \"echo\"
        port = 7007
        [engine]
        steering = \"always\"
        stats_interval = \"100ms\"\n"
    )
}

/// Where a claim of a protocol is carried out, and why.
fn claim<'a>(told: &'a Value, protocol: &str, claim: &str) -> (&'a str, &'a str) {
    let named = |list: &'a Value, key: &str, name: &str| {
        let mut items = list.as_array().unwrap().iter();
        let found = items.find(|item| item[key] == name);
        found.unwrap_or_else(|| panic!("no {name} in {list:#}"))
    };
    let protocol = named(&told["protocols"], "name", protocol);
    let claim = named(&protocol["claims"], "claim", claim);
    (
        claim["place"].as_str().unwrap(),
        claim["why"].as_str().unwrap(),
    )
}

fn answers(port: &str, place: (&str, &str)) {
    let (lab, dir) = (Lab::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("host.toml");
    fs::write(&path, file(port)).unwrap();
    let path = path.to_str().unwrap();
    let a = lab.host("a");

    // Nothing has started, so what the port says of flow rules is not known.
    let tried = lab.linecard(&["run", path, "--dry-run", "--json"]).end();
    assert_eq!(tried.code, 0, "{tried:#?}");
    let told: Value = serde_json::from_str(&tried.stdout).unwrap();
    assert_eq!(
        claim(&told, "echo", "proto=udp dport=7007"),
        ("offered", "mark 0")
    );
    assert_eq!(claim(&told, "host", "the rest").0, "software");
    assert!(
        tried.stderr.contains("to be offered to the port"),
        "{tried:#?}"
    );

    let mut linecard = lab.linecard(&["run", path, "--json"]).ready();
    a.up(&[&format!("{A4}/24"), &format!("{A6}/64")]);
    for address in [B4, B6] {
        a.ping(5, address);
        // The kernel puts checksums to be finished on the veth; what comes back it checks.
        let said = a.sh(&format!(
            "timeout 20 bash -c 'exec 3<>/dev/udp/{address}/7007; echo hello {address} >&3; head -n 1 <&3'"
        ));
        assert_eq!(said.trim(), format!("hello {address}"));
    }
    // Nobody is there.
    let said = a.try_sh(&format!(
        "timeout 20 bash -c 'exec 3<>/dev/udp/{B4}/7008; echo hello >&3; cat <&3'"
    ));
    assert!(said.1.contains("Connection refused"), "{said:?}");
    a.down();
    linecard.quiet();
    let ended = linecard.interrupt();
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!(claim(&report.0, "echo", "proto=udp dport=7007"), place);
    assert!(ended.stderr.contains("carried out"), "{}", ended.stderr);
    let [host, echo] = [0, 1].map(|i| &report.0["protocols"][i]);
    assert_eq!(echo["received"], 2, "{echo:#}");
    assert_eq!(host["drops"]["unreachable"], 1, "{host:#}");
    assert!(host["received"].as_u64() >= Some(10), "{host:#}");
    lab.assert_left(&["a"]);
}

#[test]
fn a_host_and_a_service_beside_the_kernel() {
    answers("uring:a", ("software", "the port takes no flow rules"));
}

#[test]
fn a_host_and_a_service_instead_of_the_kernel() {
    if xdp_lab::possible() {
        answers("xdp:a", ("hardware", "mark 0"));
    }
}

/// The same in words, on a port without a wire.
#[test]
fn what_a_protocol_says_of_itself_is_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("probe.toml");
    let text = "[[port]]\nname = \"a\"\nopen = \"sim:a?peer=b\"\n[[port]]\nname = \"b\"\nopen = \"sim:b?peer=a\"\n\
                [[protocol]]\nkind = \"probe\"\nports = [\"a\"]\nfrom = \"10.0.0.1:4000\"\nto = \"10.0.0.2:7\"\n\
                count = 50\ninterval = \"1ms\"\n[[protocol]]\nkind = \"echo\"\nports = [\"b\"]\n\
                [engine]\npackets = 100\n";
    fs::write(&path, text).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(LINECARD);
        command.arg("run").arg(&path).args(more);
        Process::start(command).end()
    };
    let ended = run(&[]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    for text in [
        "protocols probe, echo",
        "running; Ctrl-C",
        "one look-up finds it",
        "probe: answered 50",
    ] {
        assert!(ended.stdout.contains(text), "no {text} in {}", ended.stdout);
    }
    let ended = run(&["--json"]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let report = ended.report();
    report.assert_balanced();
    assert_eq!(report.0["figures"]["probe"]["answered"], 50);
    assert_eq!(report.0["protocols"][1]["received"], 50);
}
