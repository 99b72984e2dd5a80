//! A PCI device as sysfs describes it.

use std::fmt;

use linecard_engine::topology::SysRoot;
use serde::{Serialize, Serializer};

use super::address::{DeviceName, PciAddress};
use super::machine::{Machine, link_name};

/// Where the kernel lists its PCI devices.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";

/// The base class of network controllers (PCI Code and ID Assignment, 1.3).
const NETWORK_CLASS: u32 = 0x02;

/// The base class of bridges: the IOMMU lets them share a group with anything.
const BRIDGE_CLASS: u32 = 0x06;

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Where it sits.
    pub address: PciAddress,
    /// Who made it, as `0x8086`.
    #[serde(serialize_with = "hex4")]
    pub vendor_id: u16,
    /// What it is to its maker, as `0x1572`.
    #[serde(serialize_with = "hex4")]
    pub device_id: u16,
    /// Base class, subclass and programming interface, as `0x020000`.
    #[serde(serialize_with = "hex6")]
    pub class: u32,
    /// The driver that has it.
    pub driver: Option<String>,
    /// The driver that alone may have it, if one was named.
    pub driver_override: Option<String>,
    /// The interfaces that it has in this network namespace.
    pub interfaces: Vec<String>,
    /// The devices that the IOMMU cannot tell from this one; `None` without an IOMMU.
    pub iommu_group: Option<IommuGroup>,
    /// The NUMA node; `None` if the firmware is silent.
    pub node: Option<u32>,
    /// Virtual functions that it has made.
    pub virtual_functions: u32,
}

/// Devices that are isolated from the rest of the machine, but not from one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IommuGroup {
    /// Its number; `/dev/vfio/NUMBER` opens it.
    pub number: u32,
    /// True if vfio made it up, and nothing is isolated.
    pub noiommu: bool,
    /// The other devices in it.
    pub others: Vec<GroupMember>,
}

/// Another device of the same group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupMember {
    /// Where it sits.
    pub address: PciAddress,
    /// The driver that has it.
    pub driver: Option<String>,
    /// True if it is a network device, which `linecard bind` takes.
    pub network: bool,
    /// True if vfio does not mind its being there.
    pub harmless: bool,
}

fn hex4<S: Serializer>(number: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:#06x}"))
}

fn hex6<S: Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:#08x}"))
}

impl PciDevice {
    /// Reads what sysfs has about a device; `None` if there is none.
    pub fn read(root: &SysRoot, address: PciAddress) -> Option<Self> {
        let file = |file: &str| format!("{DEVICES}/{address}/{file}");
        if !root.exists(format!("{DEVICES}/{address}")) {
            return None;
        }
        Some(Self {
            address,
            vendor_id: hex(root, &file("vendor")) as u16,
            device_id: hex(root, &file("device")) as u16,
            class: hex(root, &file("class")),
            driver: link_name(root, &file("driver")),
            driver_override: root
                .text(file("driver_override"))
                // How the kernel prints that there is none.
                .filter(|text| text != "(null)"),
            interfaces: interfaces(root, address),
            iommu_group: group(root, address),
            // -1 is "unknown".
            node: root.number(file("numa_node")),
            virtual_functions: root.number(file("sriov_numvfs")).unwrap_or(0),
        })
    }

    /// True if it is a network device.
    pub fn is_network(&self) -> bool {
        self.class >> 16 == NETWORK_CLASS
    }

    /// True if a driver has it that hands it to a program.
    pub fn is_with_user_driver(&self) -> bool {
        self.driver
            .as_deref()
            .is_some_and(|driver| super::USER_DRIVERS.contains(&driver))
    }

    /// The name of the port that it would be.
    pub fn port_name(&self) -> String {
        format!("dpdk:{}", self.address)
    }

    /// The file of this device with this name.
    pub(super) fn file(&self, name: &str) -> String {
        format!("{DEVICES}/{}/{name}", self.address)
    }
}

impl fmt::Display for PciDevice {
    /// `0000:3b:00.0 (eth1, driver ice)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_deref().unwrap_or("none");
        write!(f, "{} (", self.address)?;
        for interface in &self.interfaces {
            write!(f, "{interface}, ")?;
        }
        write!(f, "driver {driver})")
    }
}

/// The PCI network devices, by address.
pub fn network_devices(root: &SysRoot) -> Vec<PciDevice> {
    let mut devices: Vec<PciDevice> = root
        .entries(DEVICES)
        .iter()
        .filter_map(|name| PciDevice::read(root, name.parse().ok()?))
        .filter(PciDevice::is_network)
        .collect();
    // Not by name: a domain of five digits comes after one of four.
    devices.sort_by_key(|device| device.address);
    devices
}

/// A name that no PCI device has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {known}")]
pub struct NotFound {
    what: String,
    known: String,
}

/// The device that a person means.
pub fn find(machine: &Machine, name: &DeviceName) -> Result<PciDevice, NotFound> {
    let root = &machine.root;
    let what = match name {
        DeviceName::Address(address) => match PciDevice::read(root, *address) {
            Some(device) => return Ok(device),
            None => format!("there is no PCI device {address}"),
        },
        DeviceName::Interface(name) => {
            let behind = network_devices(root)
                .into_iter()
                .find(|device| device.interfaces.contains(name));
            match behind {
                Some(device) => return Ok(device),
                None if root.exists(format!("/sys/class/net/{name}")) => {
                    format!("interface {name} belongs to no PCI device")
                }
                None => format!("there is no interface {name}"),
            }
        }
    };
    let known: Vec<String> = network_devices(root)
        .iter()
        .map(PciDevice::to_string)
        .collect();
    let known = match known.len() {
        0 => "this machine has no PCI network device (see `linecard ports`)".to_owned(),
        _ => format!("the PCI network devices are: {}", known.join(", ")),
    };
    Err(NotFound { what, known })
}

fn hex(root: &SysRoot, path: &str) -> u32 {
    root.text(path)
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok())
        .unwrap_or(0)
}

fn interfaces(root: &SysRoot, address: PciAddress) -> Vec<String> {
    let device = format!("{DEVICES}/{address}");
    let mut names = root.entries(format!("{device}/net"));
    // virtio puts a device of its own bus in between.
    for child in root.entries(&device) {
        if child.starts_with("virtio") {
            names.extend(root.entries(format!("{device}/{child}/net")));
        }
    }
    names
}

fn group(root: &SysRoot, address: PciAddress) -> Option<IommuGroup> {
    let number: u32 = link_name(root, &format!("{DEVICES}/{address}/iommu_group"))?
        .parse()
        .ok()?;
    let folder = format!("/sys/kernel/iommu_groups/{number}");
    let others = root
        .entries(format!("{folder}/devices"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|other| *other != address)
        .map(|other| member(root, other))
        .collect();
    Some(IommuGroup {
        number,
        noiommu: root.text(format!("{folder}/name")).as_deref() == Some("vfio-noiommu"),
        others,
    })
}

fn member(root: &SysRoot, address: PciAddress) -> GroupMember {
    let driver = link_name(root, &format!("{DEVICES}/{address}/driver"));
    let class = hex(root, &format!("{DEVICES}/{address}/class")) >> 16;
    // What vfio allows beside a device of its own: nothing, a driver that does no DMA, or a bridge
    // (vfio_dev_driver_allowed, and driver_managed_dma since Linux 6.0).
    let harmless = class == BRIDGE_CLASS
        || match driver.as_deref() {
            None | Some("pci-stub" | "pcieport" | "shpchp") => true,
            Some(driver) => driver.starts_with("vfio"),
        };
    GroupMember {
        address,
        driver,
        network: class == NETWORK_CLASS,
        harmless,
    }
}
