//! PCI devices, as sysfs has them: whether DPDK could take one, before it is asked.

use std::fs;
use std::path::Path;

use linecard_hal::{PortError, PortErrorKind};

/// Kernel drivers that hand a device over; only the first also has an IOMMU keep it from the rest of memory.
pub(crate) const DRIVERS: [&str; 3] = ["vfio-pci", "igb_uio", "uio_pci_generic"];

/// Kernel drivers whose devices DPDK shares with the kernel.
const SHARED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// `3b:00.0` or `0000:3b:00.0` with its domain; `None` if it is no address.
pub(crate) fn address(text: &str) -> Option<String> {
    let full = if text.matches(':').count() == 1 {
        format!("0000:{text}")
    } else {
        text.to_ascii_lowercase()
    };
    let mut parts = full.split([':', '.']);
    // The kernel's VMD and Hyper-V drivers make up domains of more than four digits.
    for digits in [4..=8, 2..=2, 2..=2, 1..=1] {
        let part = parts.next()?;
        if !digits.contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
    }
    (parts.next().is_none() && full.matches('.').count() == 1).then(|| full.to_ascii_lowercase())
}

/// The kernel driver that has a device.
pub(crate) fn driver(root: &Path, address: &str) -> Option<String> {
    link_name(
        &root
            .join("sys/bus/pci/devices")
            .join(address)
            .join("driver"),
    )
}

fn link_name(path: &Path) -> Option<String> {
    let link = fs::read_link(path).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Refuses a device that DPDK cannot take, with the reason. `root` is `/`.
pub(crate) fn check(port: &str, address: &str, root: &Path) -> Result<(), PortError> {
    let device = root.join("sys/bus/pci/devices").join(address);
    if !device.exists() {
        let what = format!("there is no PCI device {address}");
        return Err(
            PortError::new(port, PortErrorKind::NotFound, what).remedy("linecard ports lists them")
        );
    }
    let bind = format!("linecard bind {address}");
    let driver = match driver(root, address) {
        None => {
            let what = format!("{address} is bound to no driver");
            return Err(PortError::new(port, PortErrorKind::Busy, what).remedy(bind));
        }
        Some(driver) => driver,
    };
    if SHARED.contains(&driver.as_str()) {
        return Ok(());
    }
    if !DRIVERS.contains(&driver.as_str()) {
        let what = format!("{address} is bound to the kernel driver {driver}");
        return Err(PortError::new(port, PortErrorKind::Busy, what).remedy(bind));
    }
    if driver != "vfio-pci" {
        // DPDK uses physical addresses behind these, IOMMU or not (`pci_device_iova_mode`).
        let what = format!(
            "{address} is bound to {driver}, with which DPDK would want physical addresses"
        );
        return Err(PortError::new(port, PortErrorKind::Unsupported, what).remedy(bind));
    }
    // vfio makes groups up if it is to do without an IOMMU.
    let isolated = |_: &String| {
        let name = fs::read_to_string(device.join("iommu_group/name"));
        !name.is_ok_and(|name| name.trim() == "vfio-noiommu")
    };
    let Some(group) = link_name(&device.join("iommu_group")).filter(isolated) else {
        let what = format!(
            "{address} is behind no IOMMU, without which DPDK would want physical addresses"
        );
        return Err(PortError::new(port, PortErrorKind::Unsupported, what)
            .remedy("start the kernel with intel_iommu=on iommu=pt (or amd_iommu=on); linecard doctor has more"));
    };
    let node = root.join("dev/vfio").join(&group);
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(&node)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        let what = format!("IOMMU group {group} of {address} may not be opened");
        return Err(PortError::new(port, PortErrorKind::Permission, what)
            .remedy(format!("chown $USER {}", node.display()))
            .cause(error));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn addresses_with_and_without_a_domain() {
        for (text, full) in [
            ("3b:00.0", Some("0000:3b:00.0")),
            ("10000:e1:00.0", Some("10000:e1:00.0")),
            ("123456789:e1:00.0", None),
            ("0000:3B:00.1", Some("0000:3b:00.1")),
            ("net_null0", None),
            ("3b:00", None),
            ("0000:3b:00.0.1", None),
            ("3b:0:0.0", None),
        ] {
            assert_eq!(address(text).as_deref(), full, "{text}");
        }
    }

    #[test]
    fn each_obstacle_has_its_message() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("sys/bus/pci/devices/0000:3b:00.0");
        let refused = || check("dpdk:3b:00.0", "0000:3b:00.0", root.path()).unwrap_err();
        assert_eq!(refused().kind, PortErrorKind::NotFound);
        fs::create_dir_all(&device).unwrap();
        assert!(
            refused()
                .to_string()
                .contains("no driver; linecard bind 0000:3b:00.0")
        );
        symlink("../../drivers/igb", device.join("driver")).unwrap();
        let text = refused().to_string();
        assert!(
            text.contains("kernel driver igb; linecard bind 0000:3b:00.0"),
            "{text}"
        );
        fs::remove_file(device.join("driver")).unwrap();
        symlink("../../drivers/vfio-pci", device.join("driver")).unwrap();
        assert!(refused().to_string().contains("iommu=on"));
        symlink("../../groups/7", device.join("iommu_group")).unwrap();
        check("dpdk:3b:00.0", "0000:3b:00.0", root.path()).unwrap();
        let group = root.path().join("sys/bus/pci/devices/groups/7");
        fs::create_dir_all(&group).unwrap();
        fs::remove_file(device.join("iommu_group")).unwrap();
        symlink(&group, device.join("iommu_group")).unwrap();
        fs::write(group.join("name"), "vfio-noiommu\n").unwrap();
        assert!(refused().to_string().contains("iommu=on"));
        fs::remove_file(group.join("name")).unwrap();
        // Not even with an IOMMU.
        for driver in ["igb_uio", "uio_pci_generic"] {
            fs::remove_file(device.join("driver")).unwrap();
            symlink(format!("../../drivers/{driver}"), device.join("driver")).unwrap();
            let text = refused().to_string();
            assert!(
                text.contains(driver) && text.ends_with("linecard bind 0000:3b:00.0"),
                "{text}"
            );
        }
    }
}
