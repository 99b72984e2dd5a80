//! A made-up machine with PCI devices, and a kernel that acts as the real one does.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use linecard_engine::topology::SysRoot;
use nix::errno::Errno;

use super::machine::{Kernel, Machine, link_name};
use super::{PciAddress, PciDevice};

/// What a test sets, and what was written.
#[derive(Default)]
pub(super) struct Behaviour {
    /// Writing to a path that ends in this fails with that, this many times.
    pub(super) failures: Vec<(&'static str, Errno, u32)>,
    /// These drivers take no device that is offered to them.
    pub(super) unwilling: Vec<&'static str>,
    /// Nothing may be written.
    pub(super) denied: Option<Errno>,
    pub(super) addresses: Vec<(String, IpAddr)>,
    /// Every write, as `FILE=VALUE`, the file without its folders but for the last.
    pub(super) log: Vec<String>,
}

/// A tree of files that is removed at the end, and its kernel.
pub(super) struct Fake {
    dir: tempfile::TempDir,
    pub(super) behaviour: Rc<RefCell<Behaviour>>,
}

struct FakeKernel {
    root: PathBuf,
    behaviour: Rc<RefCell<Behaviour>>,
}

impl Fake {
    /// An IOMMU, vfio-pci loaded, and no device.
    pub(super) fn new() -> Self {
        let fake = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            behaviour: Rc::default(),
        };
        fake.write("/proc/sys/kernel/random/boot_id", "boot-1");
        fake.write("/proc/sys/kernel/osrelease", "6.1.0");
        fake.write("/sys/bus/pci/drivers_probe", "");
        fake.driver("vfio-pci");
        fake
    }

    /// Two ports of one card, each in a group of its own, on node 1, with ice.
    pub(super) fn two_nics() -> Self {
        let fake = Self::new();
        fake.driver("ice");
        fake.nic("0000:3b:00.0", "ice", Some(12), "ens1f0");
        fake.nic("0000:3b:00.1", "ice", Some(13), "ens1f1");
        fake
    }

    pub(super) fn driver(&self, name: &str) {
        self.write(&format!("/sys/bus/pci/drivers/{name}/bind"), "");
        self.write(&format!("/sys/bus/pci/drivers/{name}/unbind"), "");
    }

    pub(super) fn device(&self, address: &str, class: &str, driver: &str, group: Option<u32>) {
        let folder = format!("/sys/bus/pci/devices/{address}");
        for (file, text) in [
            ("vendor", "0x8086"),
            ("device", "0x1592"),
            ("class", class),
            ("numa_node", "1"),
            ("driver_override", "(null)"),
        ] {
            self.write(&format!("{folder}/{file}"), text);
        }
        if !driver.is_empty() {
            self.driver(driver);
            let target = format!("/sys/bus/pci/drivers/{driver}");
            self.link(&format!("{folder}/driver"), &target);
        }
        if let Some(group) = group {
            let group = format!("/sys/kernel/iommu_groups/{group}");
            self.write(&format!("{group}/devices/{address}"), "");
            self.link(&format!("{folder}/iommu_group"), &group);
        }
    }

    pub(super) fn nic(&self, address: &str, driver: &str, group: Option<u32>, interface: &str) {
        self.device(address, "0x020000", driver, group);
        self.write(
            &format!("/sys/bus/pci/devices/{address}/interface"),
            interface,
        );
        self.write(
            &format!("/sys/bus/pci/devices/{address}/net/{interface}/ifindex"),
            "2",
        );
        self.write(&format!("/sys/class/net/{interface}/flags"), "0x1002");
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.root().path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, format!("{text}\n")).expect("a file");
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        let path = self.root().path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        symlink(self.root().path(target), path).expect("a link");
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.root().path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).expect("a folder");
        } else {
            fs::remove_file(path).expect("a file");
        }
    }

    pub(super) fn root(&self) -> SysRoot {
        SysRoot::new(self.dir.path())
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        self.root().text(path)
    }

    pub(super) fn machine(&self) -> Machine {
        Machine {
            root: self.root(),
            kernel: Box::new(FakeKernel {
                root: self.dir.path().to_owned(),
                behaviour: Rc::clone(&self.behaviour),
            }),
        }
    }

    pub(super) fn nic_at(&self, address: &str) -> PciDevice {
        let address: PciAddress = address.parse().expect("an address");
        PciDevice::read(&self.root(), address).expect("a device")
    }

    pub(super) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.behaviour.borrow_mut().log)
    }
}

impl FakeKernel {
    fn root(&self) -> SysRoot {
        SysRoot::new(&self.root)
    }

    /// Gives a device to a driver, as the driver core does.
    fn attach(&self, address: &str, driver: &str) -> io::Result<()> {
        let folder = self.root().path(format!("/sys/bus/pci/devices/{address}"));
        let driver_folder = self.root().path(format!("/sys/bus/pci/drivers/{driver}"));
        if folder.join("driver").is_symlink() || !driver_folder.exists() {
            return Err(Errno::ENODEV.into());
        }
        if self.behaviour.borrow().unwilling.contains(&driver) {
            return Err(Errno::EINVAL.into());
        }
        symlink(driver_folder, folder.join("driver"))?;
        if !super::USER_DRIVERS.contains(&driver)
            && let Ok(interface) = fs::read_to_string(folder.join("interface"))
        {
            fs::create_dir_all(folder.join("net").join(interface.trim()))?;
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let file = path.file_name().expect("a name").to_string_lossy();
        self.behaviour
            .borrow_mut()
            .log
            .push(format!("{file}={value}"));
        for (end, errno, times) in &mut self.behaviour.borrow_mut().failures {
            if *times > 0 && path.ends_with(end) {
                *times -= 1;
                return Err((*errno).into());
            }
        }
        if !path.exists() {
            return Err(Errno::ENOENT.into());
        }
        let device = format!("/sys/bus/pci/devices/{value}");
        match &*file {
            "driver_override" => {
                let text = if value.is_empty() { "(null)" } else { value };
                fs::write(path, format!("{text}\n"))
            }
            "unbind" => {
                fs::remove_file(self.root().path(format!("{device}/driver")))?;
                let _ = fs::remove_dir_all(self.root().path(format!("{device}/net")));
                Ok(())
            }
            "bind" => {
                let driver = path.parent().expect("a driver").file_name().expect("named");
                self.attach(value, &driver.to_string_lossy())
            }
            "drivers_probe" => {
                let named = self.root().text(format!("{device}/driver_override"));
                let driver = match named.as_deref() {
                    None | Some("(null)") => "ice",
                    Some(driver) => driver,
                };
                // The real one does not say that no driver would have it.
                let _ = self.attach(value, driver);
                Ok(())
            }
            other => panic!("an unexpected write to {other}"),
        }
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        match self.behaviour.borrow().denied {
            Some(errno) => Err(errno.into()),
            None if path.exists() => Ok(()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    fn addresses(&self) -> Vec<(String, IpAddr)> {
        self.behaviour.borrow().addresses.clone()
    }
}

#[test]
fn the_fake_is_read_as_a_real_one() {
    let fake = Fake::two_nics();
    let nic = fake.nic_at("3b:00.0");
    assert_eq!(nic.driver.as_deref(), Some("ice"));
    assert_eq!(nic.interfaces, ["ens1f0"]);
    assert_eq!(
        link_name(&fake.root(), &nic.file("iommu_group")).as_deref(),
        Some("12")
    );
}
