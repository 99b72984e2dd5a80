//! The part of `linecard ports` that is about PCI devices: who has them, and whether `dpdk:` could.

use linecard::pci::{self, PciDevice};
use serde::Serialize;

use super::doctor::System;
use super::interfaces::{DriverFit, Remark};
use super::table::{Cell, Paint, Table, Tone};

/// A PCI network device and whether DPDK could take it.
#[derive(Debug, Serialize)]
pub struct CardReport {
    /// The device itself.
    #[serde(flatten)]
    pub device: PciDevice,
    /// `dpdk:ADDRESS`.
    pub dpdk: DriverFit,
}

/// The PCI network devices. `dpdk` says whether this build has DPDK's ports.
pub fn cards(system: &System, dpdk: bool) -> Vec<CardReport> {
    pci::network_devices(&system.root)
        .into_iter()
        .map(|device| {
            let obstacle = (!dpdk)
                .then(not_built)
                .or_else(|| obstacle(system, &device));
            CardReport {
                dpdk: DriverFit {
                    port: device.port_name(),
                    usable: obstacle.is_none(),
                    obstacle,
                },
                device,
            }
        })
        .collect()
}

/// This build has no `dpdk:` ports at all.
fn not_built() -> Remark {
    Remark {
        reason: "this build has no dpdk: ports: the cargo feature dpdk is off".to_owned(),
        remedy: "scripts/setup --dpdk && cargo build --release --features dpdk".to_owned(),
    }
}

/// Why a build that has them could not open this one.
fn obstacle(system: &System, device: &PciDevice) -> Option<Remark> {
    let address = device.address;
    let sudo = system.sudo();
    let remark = |reason: String, remedy: String| Some(Remark { reason, remedy });
    let bind = format!("{sudo}linecard bind {address}");
    match device.driver.as_deref() {
        None => return remark("no driver has it".to_owned(), bind),
        Some(driver) if pci::SHARED_DRIVERS.contains(&driver) => return None,
        Some(driver) if !device.is_with_user_driver() => {
            let interfaces = match device.interfaces.as_slice() {
                [] => String::new(),
                names => format!(", as {}", names.join(", ")),
            };
            let reason = format!("the kernel has it, by {driver}{interfaces}");
            if pci::carries_default_route(&system.root, device) {
                return remark(
                    format!("{reason}, and the default route leaves by it"),
                    format!(
                        "take another card; {bind} --dry-run says what would be lost with this one"
                    ),
                );
            }
            return remark(reason, bind);
        }
        Some("vfio-pci") => {}
        Some(driver) => {
            return remark(
                format!(
                    "{driver} has it, with which DPDK would want physical addresses, and mbufs have virtual ones"
                ),
                bind,
            );
        }
    }
    let Some(group) = device.iommu_group.as_ref().filter(|group| !group.noiommu) else {
        return remark(
            "no IOMMU isolates it, and mbufs have virtual addresses".to_owned(),
            "linecard doctor says how to switch the IOMMU on".to_owned(),
        );
    };
    if let Some(other) = group.others.iter().find(|other| !other.harmless) {
        let driver = other.driver.as_deref().unwrap_or_default();
        return remark(
            format!(
                "{} of the same IOMMU group {} is with {driver}",
                other.address, group.number
            ),
            match other.network {
                true => format!("{sudo}linecard bind {}", other.address),
                false => format!("take it from {driver}, or move the card to another slot"),
            },
        );
    }
    let holders = pci::holders(&system.root, device);
    if !holders.is_empty() {
        return remark(
            format!("a program has it open: {}", holders.join(", ")),
            "end it first".to_owned(),
        );
    }
    let node = format!("/dev/vfio/{}", group.number);
    match system.probes.may_open(&system.root.path(&node)) {
        Ok(()) => None,
        Err(errno) => remark(
            format!("{node} may not be opened ({errno})"),
            format!("sudo chown \"$USER\" {node}"),
        ),
    }
}

/// The table of devices; empty if there are none.
pub fn render(cards: &[CardReport], paint: Paint) -> String {
    if cards.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "pci device",
        "id",
        "kernel driver",
        "interface",
        ">group",
        ">node",
        "open as",
    ]);
    let number = |number: Option<u32>| number.map_or("-".to_owned(), |n| n.to_string());
    for CardReport { device, dpdk } in cards {
        let interfaces = match device.interfaces.as_slice() {
            [] => "-".to_owned(),
            names => names.join(", "),
        };
        let group = match &device.iommu_group {
            Some(group) if group.noiommu => "no iommu".to_owned(),
            group => number(group.as_ref().map(|group| group.number)),
        };
        table.row([
            device.address.to_string().into(),
            format!("{:04x}:{:04x}", device.vendor_id, device.device_id).into(),
            device.driver.as_deref().unwrap_or("-").into(),
            interfaces.into(),
            group.into(),
            number(device.node).into(),
            match dpdk.usable {
                true => dpdk.port.as_str().into(),
                // The kernel's driver is where most want it to be: no fault.
                false => Cell::toned("not by dpdk: (see below)", Tone::Faint),
            },
        ]);
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::super::doctor::fake::FakeMachine;
    use super::*;
    use nix::errno::Errno;

    const A: &str = "0000:3b:00.0";

    fn reason(machine: &FakeMachine, dpdk: bool) -> String {
        let cards = cards(&machine.system(), dpdk);
        match &cards[0].dpdk.obstacle {
            Some(remark) => format!("{} | {}", remark.reason, remark.remedy),
            None => "usable".to_owned(),
        }
    }

    #[test]
    fn every_obstacle_comes_with_the_command_that_changes_it() {
        let mut machine = FakeMachine::healthy();
        machine.card(A, "ice", Some(12), "ens1f0");
        assert!(reason(&machine, false).contains("--features dpdk"));
        assert_eq!(
            reason(&machine, true),
            format!("the kernel has it, by ice, as ens1f0 | linecard bind {A}")
        );
        machine.write(
            "/proc/net/route",
            "Iface Destination Gateway Flags RefCnt Use Metric Mask\n\
             ens1f0 00000000 010000C0 0003 0 0 0 00000000 0 0 0\n",
        );
        let default = reason(&machine, true);
        assert!(
            default.contains("the default route leaves by it | take another card"),
            "{default}"
        );
        machine.card(A, "mlx5_core", Some(12), "ens1f0");
        assert_eq!(reason(&machine, true), "usable");
        machine.card(A, "", Some(12), "");
        assert!(reason(&machine, true).starts_with("no driver"));
        machine.card(A, "igb_uio", Some(12), "");
        let uio = reason(&machine, true);
        assert!(
            uio.starts_with("igb_uio has it") && uio.ends_with(&format!("| linecard bind {A}")),
            "{uio}"
        );
        machine.card(A, "vfio-pci", None, "");
        assert!(reason(&machine, true).contains("linecard doctor"));
        machine.card(A, "vfio-pci", Some(12), "");
        assert_eq!(reason(&machine, true), "usable");
        machine.probes.open = Err(Errno::EACCES);
        assert!(reason(&machine, true).contains("chown \"$USER\" /dev/vfio/12"));
        machine.probes.open = Ok(());
        machine.card("0000:3b:00.1", "ice", Some(12), "ens1f1");
        assert!(reason(&machine, true).contains("linecard bind 0000:3b:00.1"));
    }

    #[test]
    fn the_table_has_a_line_for_every_device() {
        let machine = FakeMachine::healthy();
        assert_eq!(render(&cards(&machine.system(), true), Paint::Never), "");
        machine.card(A, "vfio-pci", Some(12), "");
        machine.card("0000:3b:00.1", "ice", Some(13), "ens1f1");
        let cards = cards(&machine.system(), true);
        let text = render(&cards, Paint::Never);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("12     1  dpdk:0000:3b:00.0"), "{text}");
        assert!(lines[2].contains("ice            ens1f1"), "{text}");
        let json = serde_json::to_value(&cards).expect("JSON");
        assert_eq!(json[0]["dpdk"]["port"], "dpdk:0000:3b:00.0");
        assert_eq!(json[0]["dpdk"]["usable"], true);
        assert_eq!(json[1]["iommu_group"]["number"], 13);
        assert_eq!(
            json[1]["dpdk"]["obstacle"]["remedy"],
            "linecard bind 0000:3b:00.1"
        );
    }
}
