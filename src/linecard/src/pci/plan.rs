//! What a change of hands takes, and what stands in its way. Nothing is written here.

use serde::Serialize;

use super::USER_DRIVERS;
use super::address::PciAddress;
use super::device::PciDevice;
use super::machine::Machine;
use super::obstacles::{
    damaged, driver_gone, held, in_use, isolation, no_driver, no_permission, not_ours,
};
use super::record::Record;

/// How a device is to be bound.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// The driver that is to have it.
    pub driver: String,
    /// Take it from the kernel even if it is in use.
    pub force: bool,
    /// Devices that are bound together with it, so that they do not stand in each other's way.
    pub together: Vec<PciAddress>,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            driver: "vfio-pci".to_owned(),
            force: false,
            together: Vec::new(),
        }
    }
}

/// How a device is to be given back.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnbindOptions {
    /// Without a record: let the kernel choose the driver, as it does at boot.
    pub default: bool,
}

/// Why a device cannot change hands, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// What stands in the way.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Obstacle {
    pub(super) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// A value that goes into a file of sysfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The file.
    pub path: String,
    /// The value; empty to clear it.
    pub value: String,
}

/// What binding a device takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPlan {
    /// The device as it is now.
    pub device: PciDevice,
    /// The driver that is to have it.
    pub driver: String,
    /// True if that driver has it already.
    pub already: bool,
    /// Why it cannot be done; empty if it can.
    pub obstacles: Vec<Obstacle>,
    /// What to know about it if it is done.
    pub warnings: Vec<Obstacle>,
    /// What is written, in this order.
    pub steps: Vec<Step>,
    pub(super) record: Record,
}

/// What giving a device back takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnbindPlan {
    /// The device as it is now.
    pub device: PciDevice,
    /// The driver that is to have it; `None` if none had it, or if the kernel is to choose.
    pub driver: Option<String>,
    /// True if there is nothing to give back.
    pub already: bool,
    /// Why it cannot be done; empty if it can.
    pub obstacles: Vec<Obstacle>,
    /// What is written, in this order.
    pub steps: Vec<Step>,
    /// True if the outcome has to be `driver`; else it is the kernel's to choose.
    pub(super) exact: bool,
}

/// Reads what binding a device takes.
pub fn plan_bind(machine: &Machine, device: &PciDevice, options: &BindOptions) -> BindPlan {
    let root = &machine.root;
    let already = device.driver.as_deref() == Some(&options.driver);
    let earlier = Record::load(root, device.address);
    let record = match &earlier {
        // What was before is what was before the first bind.
        Ok(Some(record)) if is_of_earlier_bind(record, device) => record.rebound(&options.driver),
        _ => Record::new(
            root,
            device,
            device.driver_override.clone(),
            &options.driver,
        ),
    };
    let mut plan = BindPlan {
        device: device.clone(),
        driver: options.driver.clone(),
        already,
        obstacles: Vec::new(),
        warnings: Vec::new(),
        steps: Vec::new(),
        record,
    };
    if already {
        return plan;
    }
    if let Some(obstacle) = not_ours(device, options) {
        plan.obstacles.push(obstacle);
        // How to take it all the same is nothing to teach.
        return plan;
    }
    plan.obstacles.extend(damaged(&earlier));
    let uses = in_use(machine, device);
    if options.force {
        plan.warnings.extend(uses);
    } else {
        plan.obstacles.extend(uses);
    }
    plan.obstacles.extend(held(machine, device));
    plan.obstacles.extend(no_driver(machine, options));
    if options.driver.starts_with("vfio") {
        isolation(machine, device, options, &mut plan);
    } else if USER_DRIVERS.contains(&options.driver.as_str()) {
        plan.warnings.push(Obstacle::new(
            format!(
                "{} keeps the device from no part of the machine's memory, and Linecard's own dpdk: \
                 ports, which use virtual addresses, refuse it",
                options.driver
            ),
            format!("linecard bind --driver vfio-pci {}", device.address),
        ));
    }
    plan.obstacles
        .extend(no_permission(machine, device, "bind"));
    plan.steps = bind_steps(device, &options.driver);
    plan
}

/// Whether a device is as an earlier bind, or half of one, has left it: with that driver, with none, or
/// given back by hand but for `driver_override`.
fn is_of_earlier_bind(record: &Record, device: &PciDevice) -> bool {
    let ours = Some(record.bound_to.as_str());
    match device.driver.as_deref() {
        None => true,
        driver if driver == ours => true,
        driver => {
            driver == record.driver_before.as_deref() && device.driver_override.as_deref() == ours
        }
    }
}

fn bind_steps(device: &PciDevice, driver: &str) -> Vec<Step> {
    let address = device.address.to_string();
    let step = |path: String, value: &str| Step {
        path,
        value: value.to_owned(),
    };
    let mut steps = vec![step(device.file("driver_override"), driver)];
    if device.driver.is_some() {
        steps.push(step(device.file("driver/unbind"), &address));
    }
    steps.push(step("/sys/bus/pci/drivers_probe".to_owned(), &address));
    steps
}

/// What it takes to bring a device back to a driver, from whatever state it is in.
pub(super) fn restore_steps(
    device: &PciDevice,
    driver: Option<&str>,
    driver_override: Option<&str>,
) -> Vec<Step> {
    let address = device.address.to_string();
    let mut steps = Vec::new();
    let there = device.driver.as_deref() == driver;
    if !there && device.driver.is_some() {
        steps.push(Step {
            path: device.file("driver/unbind"),
            value: address.clone(),
        });
    }
    if device.driver_override.as_deref() != driver_override {
        steps.push(Step {
            path: device.file("driver_override"),
            value: driver_override.unwrap_or_default().to_owned(),
        });
    }
    if let (false, Some(driver)) = (there, driver) {
        // To this driver and no other, where drivers_probe would take the first that fits.
        steps.push(Step {
            path: format!("/sys/bus/pci/drivers/{driver}/bind"),
            value: address,
        });
    }
    steps
}

/// Reads what giving a device back takes.
pub fn plan_unbind(machine: &Machine, device: &PciDevice, options: UnbindOptions) -> UnbindPlan {
    let root = &machine.root;
    let address = device.address;
    let mut plan = UnbindPlan {
        device: device.clone(),
        driver: device.driver.clone(),
        already: true,
        obstacles: Vec::new(),
        steps: Vec::new(),
        exact: true,
    };
    let loaded = Record::load(root, address);
    if !options.default {
        plan.obstacles.extend(damaged(&loaded));
        if !plan.obstacles.is_empty() {
            return plan;
        }
    }
    let current = device.driver.as_deref();
    let choose = format!("linecard unbind --default {address} (the kernel then chooses)");
    match loaded.ok().flatten() {
        _ if options.default && (device.is_with_user_driver() || current.is_none()) => {
            plan.driver = None;
            plan.exact = false;
            plan.steps = default_steps(device);
        }
        None if device.is_with_user_driver() => plan.obstacles.push(Obstacle::new(
            format!(
                "{} has {address}, but not by linecard bind: who had it before is not known",
                current.unwrap_or_default()
            ),
            choose,
        )),
        // With a driver of the kernel's, or with none, and not by us: nothing to give back.
        None => return plan,
        Some(record) if current.is_none() || current == Some(&record.bound_to) => {
            plan.driver.clone_from(&record.driver_before);
            plan.steps = restore_steps(
                device,
                record.driver_before.as_deref(),
                record.override_before.as_deref(),
            );
            plan.obstacles.extend(driver_gone(machine, &record));
        }
        // Somebody has given it back by hand, but for what driver_override says.
        Some(record) if current == record.driver_before.as_deref() => {
            plan.steps = restore_steps(device, current, record.override_before.as_deref());
        }
        Some(record) => plan.obstacles.push(Obstacle::new(
            format!(
                "linecard bound {address} to {}, and somebody has given it to {} since",
                record.bound_to,
                current.unwrap_or_default()
            ),
            format!("leave it there and rm {}", Record::path(address)),
        )),
    }
    plan.already = false;
    plan.obstacles.extend(held(machine, device));
    if !plan.steps.is_empty() {
        plan.obstacles
            .extend(no_permission(machine, device, "unbind"));
    }
    plan
}

fn default_steps(device: &PciDevice) -> Vec<Step> {
    let mut steps = restore_steps(device, None, None);
    steps.push(Step {
        path: "/sys/bus/pci/drivers_probe".to_owned(),
        value: device.address.to_string(),
    });
    steps
}
