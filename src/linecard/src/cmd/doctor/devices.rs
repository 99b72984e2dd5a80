//! Giving devices to programs: the IOMMU, vfio, and what a locked-down kernel forbids.

use std::fs;

use linecard::pci::{DriverState, PciDevice, Vfio, network_devices};

use super::{Check, System};

/// Whether devices can be isolated from the rest of the machine.
pub(super) fn iommu(system: &System) -> Check {
    let name = "IOMMU";
    let vfio = Vfio::read(&system.root);
    if vfio.iommu_groups > 0 {
        return Check::ok(
            name,
            match vfio.iommu_groups {
                1 => "on, 1 group".to_owned(),
                groups => format!("on, {groups} groups"),
            },
            "devices can be given to DPDK by vfio-pci; the other drivers do not use it",
        );
    }
    let found = match (
        system.root.entries("/sys/class/iommu").is_empty(),
        vfio.noiommu,
    ) {
        (_, true) => "off or absent, and vfio does without (noiommu mode)",
        (true, _) => "off or absent",
        (false, _) => "present, without groups",
    };
    let given = with_vfio(system);
    let check = if given.is_empty() {
        Check::ok(
            name,
            found,
            "dpdk: ports of PCI devices need it; no other port does",
        )
    } else {
        Check::failure(
            name,
            found,
            format!(
                "dpdk: ports of PCI devices need it, such as {}, which vfio-pci has",
                addresses(&given)
            ),
        )
    };
    check.mend(
        "enable VT-d or AMD-Vi in the firmware and boot with iommu=pt and intel_iommu=on (Intel) or \
         amd_iommu=on (AMD); a virtual machine needs a virtual IOMMU",
    )
}

/// Whether vfio is there and may be used.
pub(super) fn vfio(system: &System) -> Check {
    let name = "vfio";
    let sudo = system.sudo();
    let driver = Vfio::read(&system.root).driver;
    let given = with_vfio(system);
    let waiting = network_devices(&system.root)
        .iter()
        .any(|device| !device.is_with_user_driver());
    let wanted = cfg!(feature = "dpdk") && waiting;
    let load = format!("{sudo}modprobe vfio-pci");
    let (found, remedy) = match driver {
        DriverState::Loaded => {
            let container = system.root.path("/dev/vfio/vfio");
            let (found, remedy) = match system.probes.may_open(&container) {
                Ok(()) => {
                    let meaning = match given.is_empty() {
                        true => "linecard bind gives it devices".to_owned(),
                        false => format!("it has {}", addresses(&given)),
                    };
                    return Check::ok(name, "vfio-pci is loaded, /dev/vfio/vfio opens", meaning);
                }
                Err(nix::errno::Errno::ENOENT) => (
                    "vfio-pci is loaded, but there is no /dev/vfio/vfio",
                    format!("{sudo}modprobe vfio; in a container: docker run --device /dev/vfio …"),
                ),
                Err(_) => (
                    "vfio-pci is loaded, but /dev/vfio/vfio may not be opened",
                    "sudo chmod 666 /dev/vfio/vfio".to_owned(),
                ),
            };
            if !given.is_empty() {
                let meaning = format!("{} cannot be opened as dpdk: ports", addresses(&given));
                return Check::failure(name, found, meaning).mend(remedy);
            }
            (found, remedy)
        }
        DriverState::Loadable => ("vfio-pci is not loaded", load),
        DriverState::Absent => (
            "vfio-pci is neither loaded nor among this kernel's modules",
            format!("boot a distribution's kernel, then {load} (for a container: on the host)"),
        ),
    };
    let meaning = "linecard bind needs it; dpdk: ports of virtual devices, such as \
                   dpdk:net_af_packet0, do not";
    if wanted {
        Check::warning(name, found, meaning).mend(remedy)
    } else {
        Check::ok(name, found, meaning).mend(remedy)
    }
}

/// Secure Boot and lockdown, and what they forbid.
pub(super) fn lockdown(system: &System) -> Check {
    let name = "kernel lockdown";
    let text = system.root.text("/sys/kernel/security/lockdown");
    let mode = text
        .as_deref()
        .and_then(|text| text.split_once('['))
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("none", |(mode, _)| mode);
    let secure = match secure_boot(system) {
        Some(true) => "Secure Boot on",
        Some(false) => "Secure Boot off",
        None => "no Secure Boot",
    };
    let found = format!("{mode}, {secure}");
    if mode == "none" {
        let meaning = match secure_boot(system) {
            Some(true) => {
                "vfio-pci works; modules that nobody signed, such as an igb_uio of your own, may be \
                 refused"
            }
            _ => "vfio-pci and uio drivers both work",
        };
        return Check::ok(name, found, meaning);
    }
    // LOCKDOWN_PCI_ACCESS: the files of sysfs through which uio drivers map a device's registers.
    let forbidden: Vec<PciDevice> = network_devices(&system.root)
        .into_iter()
        .filter(|device| {
            device.is_with_user_driver() && device.driver.as_deref() != Some("vfio-pci")
        })
        .collect();
    if forbidden.is_empty() {
        return Check::ok(
            name,
            found,
            "vfio-pci works, with an IOMMU; uio drivers and modules without a signature do not",
        );
    }
    let names: Vec<String> = forbidden.iter().map(|d| d.address.to_string()).collect();
    Check::failure(
        name,
        found,
        format!(
            "the registers of {}, which a uio driver has, cannot be mapped",
            addresses(&forbidden)
        ),
    )
    .mend(format!(
        "{}linecard bind --driver vfio-pci {}",
        system.sudo(),
        names.join(" ")
    ))
}

/// What the firmware says; `None` if it has no such thing.
fn secure_boot(system: &System) -> Option<bool> {
    // EFI_GLOBAL_VARIABLE (UEFI specification, 3.3). Four bytes of attributes, then the value.
    let file = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = fs::read(system.root.path(file)).ok()?;
    bytes.get(4).map(|value| *value == 1)
}

/// The network devices that vfio-pci has.
fn with_vfio(system: &System) -> Vec<PciDevice> {
    network_devices(&system.root)
        .into_iter()
        .filter(|device| device.driver.as_deref() == Some("vfio-pci"))
        .collect()
}

fn addresses(devices: &[PciDevice]) -> String {
    let names: Vec<String> = devices.iter().map(|d| d.address.to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::fake::FakeMachine;
    use super::*;
    use nix::errno::Errno;

    const SECURE_BOOT: &str =
        "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

    #[test]
    fn the_iommu_is_a_failure_only_if_a_device_needs_it() {
        let machine = FakeMachine::healthy();
        assert_eq!(iommu(&machine.system()).found, "on, 1 group");
        machine.remove("/sys/kernel/iommu_groups");
        let check = iommu(&machine.system());
        assert_eq!(check.status, Status::Ok);
        assert!(check.remedy.expect("an option").contains("iommu=pt"));
        machine.card("0000:3b:00.0", "vfio-pci", None, "");
        let check = iommu(&machine.system());
        assert_eq!(check.status, Status::Failure);
        assert!(check.meaning.contains("0000:3b:00.0"), "{check:?}");
        machine.write(
            "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "Y",
        );
        assert!(iommu(&machine.system()).found.contains("noiommu"));
    }

    #[test]
    fn vfio_matters_where_a_device_waits_for_it() {
        let mut machine = FakeMachine::healthy();
        assert!(vfio(&machine.system()).meaning.contains("linecard bind"));
        machine.card("0000:3b:00.0", "vfio-pci", Some(0), "");
        assert!(vfio(&machine.system()).meaning.contains("it has 0000:3b"));
        machine.probes.open = Err(Errno::EACCES);
        let check = vfio(&machine.system());
        assert_eq!(check.status, Status::Failure);
        assert!(check.remedy.expect("a remedy").contains("chmod 666"));
        machine.probes.open = Err(Errno::ENOENT);
        assert!(vfio(&machine.system()).found.contains("no /dev/vfio/vfio"));

        machine.card("0000:3b:00.0", "ice", Some(0), "ens1f0");
        machine.remove("/sys/bus/pci/drivers/vfio-pci");
        let status = match cfg!(feature = "dpdk") {
            true => Status::Warning,
            false => Status::Ok,
        };
        let check = vfio(&machine.system());
        assert_eq!(check.status, status);
        assert!(check.remedy.expect("a remedy").contains("distribution"));
        machine.write(
            "/lib/modules/6.12.9/modules.dep",
            "kernel/x/vfio-pci.ko.zst:",
        );
        let check = vfio(&machine.system());
        assert_eq!(check.remedy.as_deref(), Some("modprobe vfio-pci"));
    }

    #[test]
    fn lockdown_says_what_it_forbids() {
        let machine = FakeMachine::healthy();
        assert_eq!(lockdown(&machine.system()).found, "none, no Secure Boot");
        machine.write(SECURE_BOOT, "\x06\0\0\0\x01");
        machine.write(
            "/sys/kernel/security/lockdown",
            "[none] integrity confidentiality",
        );
        let check = lockdown(&machine.system());
        assert_eq!(check.found, "none, Secure Boot on");
        assert!(check.meaning.contains("igb_uio"), "{check:?}");
        machine.write(SECURE_BOOT, "\x06\0\0\0\0");
        machine.write(
            "/sys/kernel/security/lockdown",
            "none [integrity] confidentiality",
        );
        let check = lockdown(&machine.system());
        assert_eq!(
            (check.status, check.found.as_str()),
            (Status::Ok, "integrity, Secure Boot off")
        );
        machine.card("0000:3b:00.0", "igb_uio", Some(0), "");
        let check = lockdown(&machine.system());
        assert_eq!(check.status, Status::Failure);
        assert_eq!(
            check.remedy.as_deref(),
            Some("linecard bind --driver vfio-pci 0000:3b:00.0")
        );
    }
}
