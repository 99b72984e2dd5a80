//! The inventory of made-up machines.

use super::super::doctor::fake::FakeMachine;
use super::*;

fn interface(machine: &FakeMachine, name: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        machine.write(&format!("/sys/class/net/{name}/{file}"), text);
    }
}

/// A card with two queues, a WireGuard tunnel, a port of a bridge that is down.
fn machine() -> FakeMachine {
    let machine = FakeMachine::bare();
    interface(
        &machine,
        "eth0",
        &[
            ("ifindex", "2"),
            ("type", "1"),
            ("flags", "0x1003"),
            ("carrier", "1"),
            ("mtu", "1500"),
            ("address", "02:00:00:00:00:01"),
            ("queues/rx-0/rps_cpus", "0"),
            ("queues/rx-1/rps_cpus", "0"),
            ("queues/tx-0/xps_cpus", "0"),
            ("queues/tx-1/xps_cpus", "0"),
        ],
    );
    interface(
        &machine,
        "wg0",
        &[
            ("ifindex", "3"),
            ("type", "65534"),
            ("flags", "0x91"),
            ("mtu", "1420"),
        ],
    );
    interface(
        &machine,
        "port1",
        &[("ifindex", "4"), ("type", "1"), ("flags", "0x1002")],
    );
    machine
}

fn usable(inventory: &Inventory, name: &str) -> Vec<bool> {
    let entry = inventory
        .interfaces
        .iter()
        .find(|entry| entry.interface.name == name);
    let entry = entry.expect("the interface is listed");
    entry.drivers.iter().map(|fit| fit.usable).collect()
}

#[test]
fn lists_states_queues_and_both_engines() {
    let machine = machine();
    let inventory = inventory(&machine.system());
    assert_eq!(usable(&inventory, "eth0"), [true, true, false, true, true]);
    assert_eq!(usable(&inventory, "wg0"), [false; 5]);
    assert_eq!(inventory.interfaces[2].state, "down");
    let text = render(&inventory, Paint::Never);
    assert!(
        text.contains("xdp:eth0 (mode=copy, mode=skb), uring:eth0 (rx=ring, rx=multishot)"),
        "{text}"
    );
    assert!(
        text.contains("xdp:port1?mode=zerocopy: its driver has no zero-copy AF_XDP\n"),
        "{text}"
    );
    assert!(
        text.contains("wg0: it carries no Ethernet frames"),
        "{text}"
    );
    assert!(text.contains("ip link set port1 up"), "{text}");
    assert!(text.contains("null:NAME"), "{text}");
    let json = serde_json::to_value(&inventory).expect("JSON");
    assert_eq!(json["interfaces"][0]["rx_queues"], 2);
    assert_eq!(
        json["interfaces"][0]["drivers"][1]["port"],
        "uring:eth0?rx=multishot"
    );
    assert_eq!(json["interfaces"][1]["drivers"][0]["usable"], false);
}

#[test]
fn pci_devices_are_listed_beside_the_interfaces() {
    let machine = machine();
    machine.card("0000:3b:00.0", "ice", Some(12), "eth0");
    let inventory = inventory(&machine.system());
    let text = render(&inventory, Paint::Never);
    assert!(
        text.contains("pci device    id         kernel driver"),
        "{text}"
    );
    assert!(text.contains("\ndpdk:0000:3b:00.0: "), "{text}");
    assert!(text.contains("tap:NAME"), "{text}");
    let json = serde_json::to_value(&inventory).expect("JSON");
    assert_eq!(json["pci_devices"][0]["address"], "0000:3b:00.0");
    assert_eq!(json["pci_devices"][0]["dpdk"]["usable"], false);
}

#[test]
fn a_missing_capability_is_said_once_with_its_remedy() {
    let mut machine = machine();
    machine.probes.packet_socket = Err(Errno::EPERM);
    let inventory = inventory(&machine.system());
    assert_eq!(usable(&inventory, "eth0"), [false; 5]);
    let text = render(&inventory, Paint::Never);
    assert!(
        text.contains("eth0, port1: CAP_NET_RAW is missing\n    try: sudo setcap"),
        "{text}"
    );
    assert_eq!(text.matches("CAP_NET_RAW").count(), 1);
}

#[test]
fn without_io_uring_the_ring_engine_remains() {
    let mut machine = machine();
    machine.probes.io_uring.setup = Err(Errno::ENOSYS);
    let old = inventory(&machine.system());
    assert_eq!(usable(&old, "eth0")[..2], [true, false]);
    machine.probes.io_uring.setup = Ok(());
    machine.probes.io_uring.multishot_receive = false;
    let text = render(&inventory(&machine.system()), Paint::Never);
    assert!(text.contains("uring:eth0?rx=multishot"), "{text}");
    assert!(text.contains("Linux 6.0"), "{text}");
}

/// The rung that `auto:` would take, and what the text says.
fn auto(machine: &FakeMachine) -> (String, String) {
    let inventory = inventory(&machine.system());
    let text = render(&inventory, Paint::Never);
    (taken(&inventory.interfaces[0]).to_owned(), text)
}

#[test]
fn what_auto_would_take_and_what_keeps_it_from_more() {
    let mut machine = machine();
    let (rung, text) = auto(&machine);
    assert_eq!(rung, "xdp copy");
    assert!(text.contains("auto: takes"), "{text}");
    let json = serde_json::to_value(inventory(&machine.system())).expect("JSON");
    let rungs = json["interfaces"][0]["auto"].as_array().expect("a list");
    assert_eq!(rungs[0]["rung"], "dpdk");
    assert_eq!(rungs[1]["reason"], "its driver has no zero-copy AF_XDP");
    assert_eq!(rungs[2]["taken"], true);
    assert_eq!(json["interfaces"][0]["xdp"]["queues"], 2);

    machine.probes.stake = Some(Obstacle {
        reason: "the kernel has 192.0.2.7 there".to_owned(),
        remedy: "open xdp:eth0".to_owned(),
    });
    let (rung, text) = auto(&machine);
    assert_eq!(rung, "uring ring");
    let note = "the kernel has 192.0.2.7 there\n    try: open xdp:eth0\n";
    assert!(text.contains(note), "{text}");
    assert!(
        text.contains("xdp:eth0 (mode=copy"),
        "by name it opens: {text}"
    );
}

#[test]
fn what_keeps_every_mode_is_said_once() {
    let mut machine = machine();
    let mut probe = super::super::doctor::fake::native_xdp();
    probe.obstacle = Some(Obstacle {
        reason: "an XDP program needs CAP_BPF".to_owned(),
        remedy: "run it as root".to_owned(),
    });
    machine.probes.xdp = Ok(probe);
    let (rung, text) = auto(&machine);
    assert_eq!(rung, "uring ring");
    assert!(
        text.contains("xdp:eth0, xdp:port1: an XDP program needs CAP_BPF\n    try: run it as root"),
        "{text}"
    );
    assert_eq!(text.matches("CAP_BPF").count(), 1, "{text}");
}
