//! The machine whose devices these are, and the few things that are more than reading a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use linecard_engine::topology::SysRoot;
use nix::ifaddrs::getifaddrs;

/// A machine: a tree of files, and a kernel behind it.
pub struct Machine {
    /// Where `/sys`, `/proc`, `/dev`, `/lib` and `/run` are.
    pub root: SysRoot,
    /// What answers and acts.
    pub kernel: Box<dyn Kernel>,
}

/// What sysfs does when it is written to, and what no file says.
///
/// The binding code changes nothing but through [`Kernel::write`], so that a test can stand in for the
/// kernel: it moves the `driver` link as the kernel does, and fails where it is told to.
pub trait Kernel {
    /// Writes a value into a file of sysfs that exists.
    fn write(&self, path: &Path, value: &str) -> io::Result<()>;
    /// Whether a file could be opened for writing; nothing is written.
    fn may_write(&self, path: &Path) -> io::Result<()>;
    /// The addresses of the interfaces in this network namespace.
    fn addresses(&self) -> Vec<(String, IpAddr)>;
}

impl Machine {
    /// The running machine.
    pub fn live() -> Self {
        Self {
            root: SysRoot::default(),
            kernel: Box::new(LiveKernel),
        }
    }

    /// True if this path can be written, or why not.
    pub(super) fn may_write(&self, path: &str) -> io::Result<()> {
        self.kernel.may_write(&self.root.path(path))
    }

    /// Writes a setting.
    pub(super) fn write(&self, path: &str, value: &str) -> io::Result<()> {
        self.kernel.write(&self.root.path(path), value)
    }
}

/// The name that a link of sysfs points to.
pub(super) fn link_name(root: &SysRoot, path: &str) -> Option<String> {
    let target = std::fs::read_link(root.path(path)).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// The kernel we run on.
struct LiveKernel;

impl Kernel for LiveKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        // Neither created nor truncated: a file that is gone must not become a plain one. In one call,
        // which is how sysfs takes a value.
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(format!("{value}\n").as_bytes())
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path).map(drop)
    }

    fn addresses(&self) -> Vec<(String, IpAddr)> {
        let Ok(list) = getifaddrs() else {
            return Vec::new();
        };
        list.filter_map(|entry| {
            let address = entry.address?;
            let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (_, Some(v6)) => IpAddr::V6(v6.ip()),
                _ => return None,
            };
            Some((entry.interface_name, ip))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_kernel_knows_the_loopback_and_creates_nothing() {
        let machine = Machine::live();
        assert!(
            machine.kernel.addresses().is_empty()
                || machine
                    .kernel
                    .addresses()
                    .iter()
                    .any(|(name, ip)| name == "lo" || !ip.is_loopback())
        );
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("gone");
        assert!(machine.kernel.write(&path, "x").is_err());
        assert!(machine.kernel.may_write(&path).is_err());
        assert!(!path.exists());
        std::fs::write(&path, "").expect("a file");
        machine.kernel.write(&path, "vfio-pci").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "vfio-pci\n");
    }
}
