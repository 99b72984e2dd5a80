//! What the tests of AF_XDP ports share: whether there can be any, and forwarders between two of them.

use std::fs;

use crate::lab::{Ended, Lab};
use crate::wire::{A4, B4, Wire};

/// Whether XDP programs can be had here.
pub fn possible() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let real = root && map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !real {
        eprintln!("not tested: XDP programs need root of the machine itself");
    }
    real
}

pub fn ports(options: &str) -> [String; 2] {
    ["a", "b"].map(|name| format!("xdp:{name}{options}"))
}

/// Hosts with addresses.
pub fn talking(ports: [String; 2], arguments: &[&str]) -> Wire {
    let wire = Wire::between(ports, arguments);
    wire.a.up(&[&format!("{A4}/24"), "fd77::1/64"]);
    wire.b.up(&[&format!("{B4}/24"), "fd77::2/64"]);
    wire
}

pub const FWD: [&str; 4] = ["fwd", "--json", "--stats-interval", "100ms"];

/// A forwarder that cannot start.
pub fn refused(lab: &Lab, arguments: &[&str]) -> Ended {
    let ended = lab.linecard(&[&FWD[..1], arguments].concat()).end();
    assert_eq!(ended.code, 1, "{ended:#?}");
    ended
}

#[track_caller]
pub fn says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.stderr.contains(word), "no {word:?} in {ended:#?}");
    }
}

/// No XDP program is at an interface.
pub fn assert_bare(lab: &Lab, name: &str) {
    let shown = lab.here.sh(&format!("ip link show dev {name}"));
    assert!(!shown.contains("xdp"), "{shown}");
}
