//! `auto:DEVICE`: the fastest driver that can take a device, and why not a faster one.
//!
//! The ladder, from the top: DPDK's poll-mode driver for a card that is bound to it, then the driver for
//! any Linux interface, which has a ladder of its own (mapped packet ring, multishot, recvmmsg). For each rung
//! that is not taken the port's notes say why, and what would change that.

use std::path::Path;

use linecard_hal::flow::FlowRules;
use linecard_hal::region::{Region, RegionRequest};
use linecard_hal::{
    LinkState, Mempool, Port, PortConfig, PortError, PortInfo, PortName, QueuePair,
};

use crate::open::open;

/// Opens `auto:DEVICE?options`. The options are those of the driver that is taken.
pub(crate) fn open_auto(name: PortName) -> Result<Box<dyn Port>, PortError> {
    let choice = Choice::of(name.device(), Path::new("/sys"));
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
    fn of(device: &str, sys: &Path) -> Self {
        if is_pci_address(device) {
            return Self {
                driver: "dpdk",
                not_taken: Vec::new(),
            };
        }
        Self {
            driver: "uring",
            not_taken: vec![format!("auto: not dpdk: {}", no_dpdk(device, sys))],
        }
    }
}

/// Why DPDK does not take an interface of the kernel's. An interface is there because the kernel's own
/// driver has the card.
fn no_dpdk(interface: &str, sys: &Path) -> String {
    let device = sys.join("class/net").join(interface).join("device");
    let link = |path: &Path| {
        let target = std::fs::read_link(path).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    };
    let Some(address) = link(&device).filter(|name| is_pci_address(name)) else {
        return format!("{interface} is not a PCI card");
    };
    let driver = link(&device.join("driver")).unwrap_or_else(|| "its driver".into());
    let mut why = format!(
        "{address} belongs to the kernel's {driver}; linecard bind {address}, then open auto:{address}"
    );
    if !cfg!(feature = "dpdk") {
        why += ", with a build that has it: cargo build --release --features dpdk";
    }
    why
}

/// Whether a text is a PCI address with its domain, such as `0000:3b:00.0`.
fn is_pci_address(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 12
        && bytes.iter().enumerate().all(|(i, byte)| match i {
            4 | 7 => *byte == b':',
            10 => *byte == b'.',
            _ => byte.is_ascii_hexdigit(),
        })
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
        for (text, is) in [
            ("0000:3b:00.0", true),
            ("0000:3B:0f.7", true),
            ("3b:00.0", false),
            ("eth1", false),
            ("0000:3b:00:0", false),
            ("0000.3b.00.0", false),
            ("00000:b:00.0", false),
            ("abcd:ef:gh.0", false),
            ("äbcd:ef:g.0", false),
        ] {
            assert_eq!(is_pci_address(text), is, "{text}");
        }
    }

    #[test]
    fn the_ladder_says_why_not_higher() {
        let sys = tempfile::tempdir().unwrap();
        let card = sys.path().join("devices/0000:3b:00.0");
        let eth1 = sys.path().join("class/net/eth1");
        fs::create_dir_all(&card).unwrap();
        fs::create_dir_all(&eth1).unwrap();
        symlink(&card, eth1.join("device")).unwrap();
        symlink("/sys/bus/pci/drivers/ixgbe", card.join("driver")).unwrap();

        let choice = Choice::of("eth1", sys.path());
        assert_eq!(choice.driver, "uring");
        let why = &choice.not_taken[0];
        assert!(
            why.contains("0000:3b:00.0 belongs to the kernel's ixgbe; linecard bind 0000:3b:00.0"),
            "{why}"
        );

        let choice = Choice::of("veth1", sys.path());
        assert_eq!(
            choice.not_taken,
            ["auto: not dpdk: veth1 is not a PCI card"]
        );
        assert_eq!(Choice::of("0000:3b:00.0", sys.path()).driver, "dpdk");
    }
}
