//! `auto:DEVICE`: the fastest driver that can take a device, and why not a faster one.
//!
//! The ladder, from the top: DPDK's poll-mode driver for a card that is bound to it, then the driver for
//! any Linux interface, which has a ladder of its own (mapped packet ring, multishot, recvmmsg). For each rung
//! that is not taken the port's notes say why, and what would change that.

use linecard_engine::topology::SysRoot;
use linecard_hal::flow::FlowRules;
use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    LinkState, Mempool, Port, PortConfig, PortError, PortInfo, PortName, QueuePair,
};

use crate::open::open;
use crate::pci::{self, PciAddress, SHARED_DRIVERS};

/// Opens `auto:DEVICE?options`. The options are those of the driver that is taken.
pub(crate) fn open_auto(name: PortName) -> Result<Box<dyn Port>, PortError> {
    let choice = Choice::of(name.device(), &SysRoot::default());
    let (_, options) = name.full().split_once('?').unwrap_or((name.full(), ""));
    let mut chosen = format!("{}:{}", choice.driver, name.device());
    if !options.is_empty() {
        chosen = format!("{chosen}?{options}");
    }
    let mut notes: Vec<String> = choice.not_taken;
    notes.push(format!("auto: {chosen}"));
    let inner = open(&chosen)?;
    Ok(Box::new(Auto { inner, notes }))
}

/// What the ladder comes to.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    driver: &'static str,
    /// Rungs above it.
    not_taken: Vec<String>,
}

impl Choice {
    fn of(device: &str, root: &SysRoot) -> Self {
        if device.parse::<PciAddress>().is_ok() {
            return Self {
                driver: "dpdk",
                not_taken: Vec::new(),
            };
        }
        Self {
            driver: "uring",
            not_taken: vec![format!("auto: not dpdk: {}", no_dpdk(device, root))],
        }
    }
}

/// Why DPDK does not take an interface of the kernel's. An interface is there because the kernel's own
/// driver has the card.
fn no_dpdk(interface: &str, root: &SysRoot) -> String {
    let cards = pci::network_devices(root).into_iter();
    let mut cards = cards.filter(|card| card.interfaces.iter().any(|name| name == interface));
    let Some(card) = cards.next() else {
        return format!("{interface} is not a PCI card");
    };
    let (address, driver) = (card.address, card.driver.unwrap_or_default());
    let mut why = if SHARED_DRIVERS.contains(&driver.as_str()) {
        format!("DPDK drives {address} beside the kernel's {driver}; open auto:{address}")
    } else {
        format!(
            "{address} belongs to the kernel's {driver}; linecard bind {address}, then open auto:{address}"
        )
    };
    if !cfg!(feature = "dpdk") {
        why += ", with a build that has it: cargo build --release --features dpdk";
    }
    why
}

/// A port with something to say about how it was chosen.
struct Auto {
    inner: Box<dyn Port>,
    notes: Vec<String>,
}

impl Port for Auto {
    fn info(&self) -> PortInfo {
        let mut info = self.inner.info();
        info.notes.splice(0..0, self.notes.iter().cloned());
        info
    }

    fn configure(&mut self, config: &PortConfig) -> Result<(), PortError> {
        self.inner.configure(config)
    }

    fn mbufs_per_queue(&self) -> usize {
        self.inner.mbufs_per_queue()
    }

    fn memory(&self, request: &RegionRequest) -> Option<Result<Region, PortError>> {
        self.inner.memory(request)
    }

    fn start(&mut self, pools: &[Mempool]) -> Result<Vec<QueuePair>, PortError> {
        self.inner.start(pools)
    }

    fn stop(&mut self) -> Result<(), PortError> {
        self.inner.stop()
    }

    fn link(&self) -> LinkState {
        self.inner.link()
    }

    fn flow_rules(&mut self) -> Option<&mut dyn FlowRules> {
        self.inner.flow_rules()
    }

    fn extended_stats(&self) -> Vec<(String, u64)> {
        self.inner.extended_stats()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn pci_addresses_are_told_from_interfaces() {
        let nowhere = SysRoot::new("/nonexistent");
        for (text, driver) in [
            ("0000:3b:00.0", "dpdk"),
            ("0000:3B:0f.7", "dpdk"),
            // As `linecard bind` takes it, and with the domain of a card behind a VMD.
            ("3b:00.0", "dpdk"),
            ("10000:e1:00.0", "dpdk"),
            ("eth1", "uring"),
            ("eth1.5", "uring"),
            ("0000.3b.00.0", "uring"),
        ] {
            assert_eq!(Choice::of(text, &nowhere).driver, driver, "{text}");
        }
    }

    #[test]
    fn the_ladder_says_why_not_higher() {
        let dir = tempfile::tempdir().unwrap();
        let card = |address: &str, driver: &str, interface: &str| {
            let folder = dir.path().join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(folder.join(interface)).unwrap();
            fs::write(folder.join("class"), "0x020000\n").unwrap();
            let driver = format!("/sys/bus/pci/drivers/{driver}");
            symlink(driver, folder.join("driver")).unwrap();
        };
        card("0000:3b:00.0", "ixgbe", "net/eth1");
        card("0000:3c:00.0", "mlx5_core", "net/eth2");
        card("0000:00:03.0", "virtio-pci", "virtio0/net/eth3");
        let why = |interface: &str| {
            let choice = Choice::of(interface, &SysRoot::new(dir.path()));
            assert_eq!(choice.driver, "uring");
            choice.not_taken.concat()
        };

        let card = why("eth1");
        let bind = "0000:3b:00.0 belongs to the kernel's ixgbe; linecard bind 0000:3b:00.0";
        assert!(card.contains(bind), "{card}");
        // One that `linecard bind` refuses, as DPDK needs the kernel's driver.
        let shared = why("eth2");
        assert!(!shared.contains("linecard bind"), "{shared}");
        assert!(shared.contains("open auto:0000:3c:00.0"), "{shared}");
        let behind_virtio = why("eth3");
        assert!(
            behind_virtio.contains("linecard bind 0000:00:03.0"),
            "{behind_virtio}"
        );
        assert_eq!(why("veth1"), "auto: not dpdk: veth1 is not a PCI card");
    }
}
