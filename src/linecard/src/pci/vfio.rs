//! What the kernel offers for giving devices to programs.

use linecard_engine::topology::SysRoot;
use serde::Serialize;

/// Whether a driver is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverState {
    /// It is in the kernel now.
    Loaded,
    /// `modprobe` would load it.
    Loadable,
    /// There is no file of it where this kernel's modules are.
    Absent,
}

/// vfio and the IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Vfio {
    /// The driver `vfio-pci`.
    pub driver: DriverState,
    /// True if vfio hands out devices that no IOMMU isolates.
    pub noiommu: bool,
    /// How many groups the IOMMU makes; 0 if there is none or it is off.
    pub iommu_groups: usize,
}

impl Vfio {
    /// Reads it.
    pub fn read(root: &SysRoot) -> Self {
        let real = |group: &String| {
            let name = root.text(format!("/sys/kernel/iommu_groups/{group}/name"));
            name.as_deref() != Some("vfio-noiommu")
        };
        Self {
            driver: driver_state(root, "vfio-pci"),
            noiommu: root
                .text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
                .is_some_and(|text| text == "Y" || text == "1"),
            iommu_groups: root
                .entries("/sys/kernel/iommu_groups")
                .iter()
                .filter(|group| real(group))
                .count(),
        }
    }
}

/// Whether a PCI driver is there.
pub fn driver_state(root: &SysRoot, driver: &str) -> DriverState {
    if root.exists(format!("/sys/bus/pci/drivers/{driver}")) {
        return DriverState::Loaded;
    }
    let Some(release) = root.text("/proc/sys/kernel/osrelease") else {
        return DriverState::Absent;
    };
    let wanted = driver.replace('-', "_");
    let listed = |file: &str| {
        let list = root.text(format!("/lib/modules/{release}/{file}"));
        list.unwrap_or_default().lines().any(|line| {
            // "kernel/drivers/vfio/pci/vfio-pci.ko.zst: dependencies"
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            let module = file.split(".ko").next().unwrap_or_default();
            module.replace('-', "_") == wanted
        })
    };
    if listed("modules.dep") || listed("modules.builtin") {
        DriverState::Loadable
    } else {
        DriverState::Absent
    }
}

/// How an IOMMU is switched on, and what there is without.
pub(crate) fn enable_iommu(root: &SysRoot) -> String {
    let processors = root.text("/proc/cpuinfo").unwrap_or_default();
    let options = match processors
        .lines()
        .find_map(|line| line.strip_prefix("vendor_id"))
    {
        Some(vendor) if vendor.contains("GenuineIntel") => "intel_iommu=on iommu=pt",
        Some(vendor) if vendor.contains("AuthenticAMD") => "amd_iommu=on iommu=pt",
        _ => "iommu=pt and intel_iommu=on (Intel) or amd_iommu=on (AMD)",
    };
    format!(
        "switch on VT-d or AMD-Vi in the firmware, add {options} to GRUB_CMDLINE_LINUX in \
         /etc/default/grub, then update-grub && reboot (a virtual machine needs a virtual IOMMU)"
    )
}

/// The command that lets vfio do without an IOMMU, and the price; `None` if this kernel's vfio cannot.
pub(crate) fn without_iommu(root: &SysRoot) -> Option<String> {
    let mode = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    // CONFIG_VFIO_NOIOMMU is off in Debian's kernels, for one. Before vfio is loaded nothing tells.
    if root.exists("/sys/module/vfio") && !root.exists(mode) {
        return None;
    }
    Some(format!(
        "echo 1 > {mode} lets vfio do without: the device can then write to all of the machine's \
         memory, the kernel is marked as tainted, and Linecard's own dpdk: ports, which use virtual \
         addresses, still refuse it"
    ))
}
