//! What stands in the way of a change of hands, one function for each thing.

use std::io;

use nix::errno::Errno;

use super::SHARED_DRIVERS;
use super::address::PciAddress;
use super::device::{DEVICES, IommuGroup, PciDevice};
use super::machine::Machine;
use super::plan::{BindOptions, BindPlan, Obstacle};
use super::record::{Record, RecordError, is_driver_name};
use super::usage;
use super::vfio::{DriverState, Vfio, driver_state, enable_iommu, without_iommu};

/// A record that cannot be trusted.
pub(super) fn damaged(loaded: &Result<Option<Record>, RecordError>) -> Option<Obstacle> {
    let RecordError::Damaged {
        path,
        reason,
        address,
    } = loaded.as_ref().err()?
    else {
        return None;
    };
    Some(Obstacle::new(
        format!("{path}, which says who had {address} before, is damaged: {reason}"),
        format!("cat {path}; rm {path}; linecard unbind --default {address}"),
    ))
}

/// Devices that are not to be bound at all.
pub(super) fn not_ours(device: &PciDevice, options: &BindOptions) -> Option<Obstacle> {
    let address = device.address;
    if !device.is_network() {
        return Some(Obstacle::new(
            format!(
                "{address} is no network device (class {:#08x}): the machine may need it to run",
                device.class
            ),
            "linecard ports lists the network devices",
        ));
    }
    let shared = device
        .driver
        .as_deref()
        .filter(|driver| SHARED_DRIVERS.contains(driver))?;
    (!options.force).then(|| {
        Obstacle::new(
            format!("DPDK drives {address} beside {shared}, and could not without it"),
            format!("open {} as it is", device.port_name()),
        )
    })
}

/// What the kernel would lose.
pub(super) fn in_use(machine: &Machine, device: &PciDevice) -> Vec<Obstacle> {
    let address = device.address;
    let mut obstacles: Vec<Obstacle> = usage::uses(machine, device)
        .into_iter()
        .map(|found| {
            let force = format!("linecard bind --force {address}");
            let remedy = match found.losses[..] {
                [ref loss] if loss == "it is up" => {
                    format!("ip link set {} down, or {force}", found.name)
                }
                _ => format!("if that may be lost: {force}"),
            };
            let reason = format!("{} is in use: {}", found.name, found.losses.join(", "));
            Obstacle::new(reason, remedy)
        })
        .collect();
    if let Some(driver) = &device.driver
        && device.is_network()
        && !device.is_with_user_driver()
        && device.interfaces.is_empty()
    {
        obstacles.push(Obstacle::new(
            format!(
                "{driver} has {address}, but no interface of it is visible: it may be at work in \
                 another network namespace, such as a container's"
            ),
            format!("if it is not: linecard bind --force {address}"),
        ));
    }
    obstacles
}

/// Programs that have it open: the kernel would wait for them.
pub(super) fn held(machine: &Machine, device: &PciDevice) -> Option<Obstacle> {
    if !device.is_with_user_driver() {
        return None;
    }
    let holders = usage::holders(&machine.root, device);
    let pids: Vec<&str> = holders
        .iter()
        .filter_map(|holder| holder.split(' ').next())
        .collect();
    (!holders.is_empty()).then(|| {
        Obstacle::new(
            format!(
                "a program has {} open: {}",
                device.address,
                holders.join(", ")
            ),
            format!("end it first: kill {}", pids.join(" ")),
        )
    })
}

/// The driver that is to have it is not there.
pub(super) fn no_driver(machine: &Machine, options: &BindOptions) -> Option<Obstacle> {
    let driver = &options.driver;
    if !is_driver_name(driver) {
        return Some(Obstacle::new(
            format!("'{driver}' cannot be the name of a driver"),
            "--driver vfio-pci",
        ));
    }
    match driver_state(&machine.root, driver) {
        DriverState::Loaded => None,
        DriverState::Loadable => Some(Obstacle::new(
            format!("the driver {driver} is not loaded"),
            format!("modprobe {driver}"),
        )),
        DriverState::Absent => Some(Obstacle::new(
            format!("this kernel has no driver {driver}, and no module of that name"),
            format!(
                "boot a distribution's kernel and modprobe {driver}; in a container, modprobe \
                 {driver} on the host"
            ),
        )),
    }
}

/// Whether the device can be told from the rest of the machine.
pub(super) fn isolation(
    machine: &Machine,
    device: &PciDevice,
    options: &BindOptions,
    plan: &mut BindPlan,
) {
    let root = &machine.root;
    let address = device.address;
    match &device.iommu_group {
        Some(group) if !group.noiommu => {
            plan.obstacles.extend(others(group, options));
        }
        _ if Vfio::read(root).noiommu => plan.warnings.push(Obstacle::new(
            format!(
                "no IOMMU isolates {address}: who has it can write to all of the machine's memory, \
                 and Linecard's own dpdk: ports, which use virtual addresses, refuse it"
            ),
            enable_iommu(root),
        )),
        _ => {
            let mut remedy = enable_iommu(root);
            if let Some(other) = without_iommu(root) {
                remedy.push_str(&format!("; or, with its risk, {other}"));
            }
            let reason = format!("no IOMMU isolates {address}, so vfio does not take it");
            plan.obstacles.push(Obstacle::new(reason, remedy));
        }
    }
}

/// Other devices of the group that are not given away.
fn others(group: &IommuGroup, options: &BindOptions) -> Option<Obstacle> {
    let bad: Vec<_> = group
        .others
        .iter()
        .filter(|other| !other.harmless && !options.together.contains(&other.address))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<String> = bad
        .iter()
        .map(|other| {
            let driver = other.driver.as_deref().unwrap_or("none");
            format!("{} (driver {driver})", other.address)
        })
        .collect();
    let commands: Vec<String> = bad
        .iter()
        .map(|other| match other.network {
            true => format!("linecard bind {}", other.address),
            false => format!("echo {0} > {DEVICES}/{0}/driver/unbind", other.address),
        })
        .collect();
    Some(Obstacle::new(
        format!(
            "the IOMMU cannot tell it from {}, of the same group {}; vfio takes all of a group or \
             nothing",
            names.join(" and "),
            group.number
        ),
        format!(
            "name them in the same command or take them from their drivers first: {}; or move the \
             card to another slot",
            commands.join("; ")
        ),
    ))
}

/// The files of sysfs are not ours to write.
pub(super) fn no_permission(machine: &Machine, device: &PciDevice, verb: &str) -> Option<Obstacle> {
    let address = device.address;
    let paths = [
        device.file("driver_override"),
        "/sys/bus/pci/drivers_probe".to_owned(),
    ];
    let (path, error) = paths
        .into_iter()
        .find_map(|path| machine.may_write(&path).err().map(|error| (path, error)))?;
    Some(Obstacle::new(
        format!("{path} may not be written: {error}"),
        advice(&error, address, verb),
    ))
}

/// Who may write, if we may not.
pub(super) fn advice(error: &io::Error, address: PciAddress, verb: &str) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => {
            "a container sees the host's devices, but may not change them: run it on the host"
                .to_owned()
        }
        Some(Errno::EPERM | Errno::EACCES) => format!("sudo linecard {verb} {address}"),
        _ => "look for the reason in dmesg | tail".to_owned(),
    }
}

/// The driver to which it is to go back.
pub(super) fn driver_gone(machine: &Machine, record: &Record) -> Option<Obstacle> {
    let driver = record.driver_before.as_deref()?;
    (driver_state(&machine.root, driver) != DriverState::Loaded).then(|| {
        Obstacle::new(
            format!(
                "{driver}, which had {} before, is not loaded",
                record.address
            ),
            format!("modprobe {driver}"),
        )
    })
}
