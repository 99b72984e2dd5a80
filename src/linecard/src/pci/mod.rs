//! PCI network devices: which there are, who drives them, and how they change hands.
//!
//! A device that DPDK is to drive must first leave the kernel's network driver. The kernel has an
//! interface for that, four files of sysfs: `driver_override` names the driver that is to have the
//! device, `unbind` takes it from the one that has it, `drivers_probe` offers it around, and `bind`
//! hands it to one driver ([Documentation/ABI/testing/sysfs-bus-pci]).
//!
//! [`plan_bind`] reads everything first and says what stands in the way, [`bind`] writes down who had
//! the device ([`Record`]) and changes it, [`unbind`] puts back what the record says. A bind that
//! fails half way puts it back at once. A [`lock`] over both keeps others out that do the same.
//!
//! ```no_run
//! use linecard::pci::{self, BindOptions, Machine};
//!
//! let machine = Machine::live();
//! let _lock = pci::lock(&machine)?;
//! let device = pci::find(&machine, &"3b:00.0".parse()?)?;
//! let plan = pci::plan_bind(&machine, &device, &BindOptions::default());
//! if plan.obstacles.is_empty() {
//!     pci::bind(&machine, &plan)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **What this was tried on.** The unit tests run on made-up trees, with a kernel that moves the links
//! as the real one does and fails where a test wants it to. By hand, and as part of `scripts/lab`, an
//! emulated machine with an IOMMU and two NICs (82576, Linux 6.1) went through bind, unbind, a program
//! that had the device open, and a driver that did not take it. No physical card has been bound by it yet.
//!
//! [Documentation/ABI/testing/sysfs-bus-pci]: https://docs.kernel.org/admin-guide/abi-testing.html

mod address;
mod change;
mod device;
#[cfg(test)]
mod fake;
mod lock;
mod machine;
mod obstacles;
mod plan;
mod record;
#[cfg(test)]
mod tests;
mod usage;
mod vfio;

pub use address::{DeviceName, PciAddress, PciNameError};
pub use change::{ChangeError, bind, unbind};
pub use device::{GroupMember, IommuGroup, NotFound, PciDevice, find, network_devices};
pub use lock::{Lock, LockError, lock};
pub use machine::{Kernel, Machine};
pub use plan::{
    BindOptions, BindPlan, Obstacle, Step, UnbindOptions, UnbindPlan, plan_bind, plan_unbind,
};
pub use record::{Record, RecordError};
pub use usage::{Use, carries_default_route, holders, uses};
pub use vfio::{DriverState, Vfio, driver_state};

/// Drivers that hand a device to a program.
pub const USER_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// Kernel drivers beside which DPDK works, through the verbs library: such a card stays where it is.
pub const SHARED_DRIVERS: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];
