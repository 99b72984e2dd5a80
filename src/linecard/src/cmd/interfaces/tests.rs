//! The inventory of made-up machines.

use super::*;
use crate::cmd::doctor::fake::FakeMachine;

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
    assert_eq!(usable(&inventory, "eth0"), [true, true]);
    assert_eq!(usable(&inventory, "wg0"), [false, false]);
    assert_eq!(inventory.interfaces[2].state, "down");
    let text = render(&inventory, Paint::Never);
    assert!(
        text.contains("uring:eth0 (rx=ring, rx=multishot)"),
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
    assert_eq!(usable(&inventory, "eth0"), [false, false]);
    let text = render(&inventory, Paint::Never);
    assert!(
        text.contains("eth0, port1: CAP_NET_RAW is missing\n    try: sudo setcap"),
        "{text}"
    );
    assert_eq!(text.matches("CAP_NET_RAW").count(), 1);
}

#[test]
fn the_modes_of_af_xdp_are_listed_with_what_is_in_their_way() {
    use linecard::af_xdp::ModeFit;
    let mut machine = machine();
    let mode = |mode: &str, obstacle| ModeFit {
        mode: mode.into(),
        port: format!("xdp:eth0?mode={mode}"),
        obstacle,
    };
    let never = Obstacle {
        reason: "veth has no zero-copy AF_XDP".into(),
        remedy: String::new(),
    };
    let mut probe = Probe {
        interface: "eth0".into(),
        modes: vec![
            mode("zerocopy", Some(never)),
            mode("copy", None),
            mode("skb", None),
        ],
        queues: 2,
        obstacle: None,
    };
    machine.probes.xdp = Some(probe.clone());
    let inventory = inventory(&machine.system());
    assert_eq!(usable(&inventory, "eth0"), [true, true, false, true, true]);
    let text = render(&inventory, Paint::Never);
    assert!(text.contains("xdp:eth0 (mode=copy, mode=skb)"), "{text}");
    assert!(!text.contains("no zero-copy"), "{text}");
    probe.obstacle = Some(Obstacle {
        reason: "eth0 has an XDP program already".into(),
        remedy: "ip link set dev eth0 xdpdrv off".into(),
    });
    machine.probes.xdp = Some(probe);
    let text = render(&super::inventory(&machine.system()), Paint::Never);
    assert!(!text.contains("xdp:eth0 ("), "{text}");
    assert!(
        text.contains("try: ip link set dev eth0 xdpdrv off"),
        "{text}"
    );
}

#[test]
fn without_io_uring_the_ring_engine_remains() {
    let mut machine = machine();
    machine.probes.io_uring.setup = Err(Errno::ENOSYS);
    let old = inventory(&machine.system());
    assert_eq!(usable(&old, "eth0"), [true, false]);
    machine.probes.io_uring.setup = Ok(());
    machine.probes.io_uring.multishot_receive = false;
    let text = render(&inventory(&machine.system()), Paint::Never);
    assert!(text.contains("uring:eth0?rx=multishot"), "{text}");
    assert!(text.contains("Linux 6.0"), "{text}");
}
