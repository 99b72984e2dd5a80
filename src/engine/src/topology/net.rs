//! Network interfaces: what they are, where they are plugged in, how many queues they have.

use std::fs;
use std::path::{Path, PathBuf};

use linecard_hal::links::{self, Link};
use nix::libc;
use serde::Serialize;

use super::sysfs::SysRoot;

/// A network interface of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetInterface {
    /// The name, such as `eth1`.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
    /// `physical`, `loopback`, or what the virtual link is: `veth`, `bridge`, `tun`, ….
    pub kind: String,
    /// True if it carries Ethernet frames.
    pub ethernet: bool,
    /// The MAC address in lower-case hexadecimal, if it has one.
    pub mac: Option<String>,
    /// The largest layer-3 packet that it takes, in bytes.
    pub mtu: u32,
    /// True if it is administratively up.
    pub up: bool,
    /// True if the link is there; `None` when the kernel does not say (often: while down).
    pub carrier: Option<bool>,
    /// The link speed in Mbit/s, if the driver says.
    pub speed_mbps: Option<u32>,
    /// The address of the PCI device behind it.
    pub pci_address: Option<String>,
    /// The kernel driver of the device behind it.
    pub driver: Option<String>,
    /// The NUMA node of the device behind it; `None` for virtual links and where firmware is silent.
    pub node: Option<u32>,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// The bridge or bond that owns it.
    pub master: Option<String>,
    /// The interface that it lies on (a VLAN's card), or a veth's other end, if that is in this namespace.
    pub lower: Option<String>,
}

impl NetInterface {
    /// Queues that both receive and transmit, which is what one worker wants of a port.
    pub fn combined_queues(&self) -> u16 {
        self.rx_queues.min(self.tx_queues)
    }
}

/// Every interface, in order of index.
///
/// On the running system the list is netlink's, which is right in every network namespace, and
/// sysfs adds what only it knows, where it speaks of the same link. Under another root the list
/// is that of sysfs.
pub fn interfaces(root: &SysRoot) -> Vec<NetInterface> {
    let mut interfaces: Vec<NetInterface> = match root.is_live().then(links::links) {
        Some(Ok(links)) => links.iter().map(|link| merge(root, link, &links)).collect(),
        _ => root
            .entries(CLASS)
            .iter()
            // The folder of bonding also holds a plain file (bonding_masters).
            .filter(|name| root.exists(format!("{CLASS}/{name}/ifindex")))
            .map(|name| from_sysfs(root, name))
            .collect(),
    };
    interfaces.sort_by_key(|interface| interface.index);
    interfaces
}

const CLASS: &str = "/sys/class/net";

/// Netlink's answer with what sysfs knows besides.
fn merge(root: &SysRoot, link: &Link, links: &[Link]) -> NetInterface {
    let mac = format_mac(&link.address);
    let seen = from_sysfs(root, &link.name);
    // Another namespace's link may have the same name; index and MAC tell them apart.
    let same = seen.index == link.index && seen.mac == mac;
    let seen = if same { seen } else { NetInterface::default() };
    let loopback = link.link_type == libc::ARPHRD_LOOPBACK;
    let kind = match (&link.kind, loopback) {
        (Some(kind), _) => kind.clone(),
        (None, true) => "loopback".to_owned(),
        (None, false) if seen.kind.is_empty() => "unknown".to_owned(),
        (None, false) => seen.kind,
    };
    let queues = |seen: u16, told: u32| match seen {
        0 => u16::try_from(told.max(1)).unwrap_or(u16::MAX),
        seen => seen,
    };
    let name_of = |index: Option<u32>| {
        let other = links.iter().find(|other| Some(other.index) == index);
        other.map(|other| other.name.clone())
    };
    NetInterface {
        name: link.name.clone(),
        index: link.index,
        kind,
        ethernet: link.link_type == libc::ARPHRD_ETHER,
        mac,
        mtu: link.mtu,
        up: link.flags & libc::IFF_UP as u32 != 0,
        carrier: link.carrier,
        speed_mbps: seen.speed_mbps,
        pci_address: seen.pci_address,
        driver: seen.driver,
        node: seen.node,
        rx_queues: queues(seen.rx_queues, link.rx_queues),
        tx_queues: queues(seen.tx_queues, link.tx_queues),
        master: name_of(link.master),
        lower: name_of(link.lower.filter(|index| *index != link.index)),
    }
}

/// What `/sys/class/net/NAME` says.
fn from_sysfs(root: &SysRoot, name: &str) -> NetInterface {
    let file = |file: &str| format!("{CLASS}/{name}/{file}");
    let link_type = root.number::<u16>(file("type")).unwrap_or(0);
    let flags = root
        .text(file("flags"))
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok())
        .unwrap_or(0);
    let device = device_path(root, name);
    let queues = |prefix: &str| {
        let count = root
            .entries(file("queues"))
            .iter()
            .filter(|queue| queue.starts_with(prefix))
            .count();
        u16::try_from(count).unwrap_or(u16::MAX)
    };
    NetInterface {
        name: name.to_owned(),
        index: root.number(file("ifindex")).unwrap_or(0),
        kind: kind(root, name, link_type, device.is_some()),
        ethernet: link_type == libc::ARPHRD_ETHER,
        mac: root
            .text(file("address"))
            .filter(|mac| mac.bytes().any(|byte| byte != b'0' && byte != b':')),
        mtu: root.number(file("mtu")).unwrap_or(0),
        up: flags & libc::IFF_UP as u32 != 0,
        // Reading it fails with EINVAL while the interface is down.
        carrier: root
            .number::<u8>(file("carrier"))
            .map(|carrier| carrier != 0),
        // -1 is "unknown".
        speed_mbps: root.number(file("speed")).filter(|speed| *speed > 0),
        pci_address: device.as_deref().and_then(pci_address),
        driver: fs::read_link(root.path(file("device/driver")))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
        node: device.as_deref().and_then(numa_node),
        rx_queues: queues("rx-"),
        tx_queues: queues("tx-"),
        lower: None,
        master: fs::read_link(root.path(file("master")))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
    }
}

/// The device behind an interface, with every link resolved.
fn device_path(root: &SysRoot, name: &str) -> Option<PathBuf> {
    fs::canonicalize(root.path(format!("{CLASS}/{name}/device"))).ok()
}

fn kind(root: &SysRoot, name: &str, link_type: u16, device: bool) -> String {
    let has = |entry: &str| root.exists(format!("{CLASS}/{name}/{entry}"));
    let kind = match link_type {
        libc::ARPHRD_LOOPBACK => "loopback",
        _ if device => "physical",
        _ if has("bridge") => "bridge",
        _ if has("bonding") => "bond",
        _ if has("tun_flags") => "tun",
        _ => "virtual",
    };
    kind.to_owned()
}

/// The nearest PCI address on the way up from a device.
///
/// A virtio interface hangs below a virtio device, and that below the PCI device; a port of a
/// multi-function card is its own PCI function. The nearest is the one to bind to a driver.
fn pci_address(device: &Path) -> Option<String> {
    device
        .ancestors()
        .filter_map(|path| path.file_name()?.to_str())
        .find(|name| is_pci_address(name))
        .map(str::to_owned)
}

/// True for `0000:3b:00.1`; the domain may be longer (VMD, Hyper-V).
fn is_pci_address(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = name.split([':', '.']);
    let widths: [Option<&str>; 4] = std::array::from_fn(|_| parts.next());
    match widths {
        [Some(domain), Some(bus), Some(device), Some(function)] => {
            name.matches(':').count() == 2
                && (4..=8).contains(&domain.len())
                && (bus.len(), device.len(), function.len()) == (2, 2, 1)
                && [domain, bus, device, function].into_iter().all(hex)
                && parts.next().is_none()
        }
        _ => false,
    }
}

/// The first answer of a `numa_node` file on the way up; -1 is "firmware does not say".
fn numa_node(device: &Path) -> Option<u32> {
    device
        .ancestors()
        .take_while(|path| path.file_name().is_some_and(|name| name != "devices"))
        .find_map(|path| fs::read_to_string(path.join("numa_node")).ok())
        .and_then(|text| text.trim().parse::<i32>().ok())
        .and_then(|node| u32::try_from(node).ok())
}

fn format_mac(address: &[u8]) -> Option<String> {
    if address.len() != 6 || address.iter().all(|byte| *byte == 0) {
        return None;
    }
    let bytes: Vec<String> = address.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(bytes.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(root: &SysRoot, path: &str, text: &str) {
        let path = root.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn link(root: &SysRoot, path: &str, target: &str) {
        let path = root.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        symlink(target, path).expect("a link");
    }

    /// A virtio interface on node 1 with four queues, and a veth without a device.
    fn machine() -> (tempfile::TempDir, SysRoot) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = SysRoot::new(dir.path());
        let pci = "/sys/devices/pci0000:00/0000:00:03.0";
        let eth = format!("{pci}/virtio2/net/eth0");
        write(&root, &format!("{pci}/numa_node"), "1\n");
        for (file, text) in [
            ("ifindex", "4\n"),
            ("type", "1\n"),
            ("flags", "0x1003\n"),
            ("address", "02:fc:00:00:00:01\n"),
            ("mtu", "1500\n"),
            ("carrier", "1\n"),
            ("speed", "25000\n"),
        ] {
            write(&root, &format!("{eth}/{file}"), text);
        }
        for queue in 0..4 {
            write(&root, &format!("{eth}/queues/rx-{queue}/rps_cpus"), "0");
            write(&root, &format!("{eth}/queues/tx-{queue}/xps_cpus"), "0");
        }
        link(&root, &format!("{eth}/device"), "../../../virtio2");
        link(
            &root,
            &format!("{pci}/virtio2/driver"),
            "../../../../bus/virtio/drivers/virtio_net",
        );
        link(
            &root,
            "/sys/class/net/eth0",
            "../../devices/pci0000:00/0000:00:03.0/virtio2/net/eth0",
        );
        for (file, text) in [
            ("ifindex", "9"),
            ("type", "1"),
            ("flags", "0x1002"),
            ("speed", "-1"),
        ] {
            write(
                &root,
                &format!("/sys/devices/virtual/net/va/{file}"),
                &format!("{text}\n"),
            );
        }
        link(&root, "/sys/class/net/va", "../../devices/virtual/net/va");
        write(&root, "/sys/class/net/bonding_masters", "\n");
        (dir, root)
    }

    #[test]
    fn finds_the_device_behind_a_virtio_interface() {
        let (_dir, root) = machine();
        let found = interfaces(&root);
        assert_eq!(found.len(), 2);
        let eth0 = &found[0];
        assert_eq!(eth0.name, "eth0");
        assert_eq!(eth0.kind, "physical");
        assert_eq!(eth0.pci_address.as_deref(), Some("0000:00:03.0"));
        assert_eq!(eth0.driver.as_deref(), Some("virtio_net"));
        assert_eq!(eth0.node, Some(1));
        assert_eq!(eth0.combined_queues(), 4);
        assert_eq!(eth0.speed_mbps, Some(25_000));
        assert!(eth0.up && eth0.ethernet && eth0.carrier == Some(true));
    }

    #[test]
    fn a_link_without_a_device_has_no_place() {
        let (_dir, root) = machine();
        let va = &interfaces(&root)[1];
        assert_eq!((va.kind.as_str(), va.node), ("virtual", None));
        assert_eq!(va.pci_address, None);
        assert_eq!(va.speed_mbps, None);
        assert!(!va.up);
    }

    #[test]
    fn firmware_that_does_not_say_the_node_is_none() {
        let (_dir, root) = machine();
        write(
            &root,
            "/sys/devices/pci0000:00/0000:00:03.0/numa_node",
            "-1\n",
        );
        assert_eq!(interfaces(&root)[0].node, None);
    }

    #[test]
    fn sysfs_of_another_namespace_is_not_believed() {
        let (_dir, root) = machine();
        let link = Link {
            index: 2,
            name: "eth0".into(),
            link_type: libc::ARPHRD_ETHER,
            address: vec![2, 0, 0, 0, 0, 9],
            mtu: 1500,
            rx_queues: 1,
            tx_queues: 1,
            ..Link::default()
        };
        let merged = merge(&root, &link, std::slice::from_ref(&link));
        assert_eq!((merged.driver, merged.node), (None, None));
        assert_eq!(merged.rx_queues, 1);
        let same = Link {
            index: 4,
            address: vec![2, 0xfc, 0, 0, 0, 1],
            ..link
        };
        let merged = merge(&root, &same, std::slice::from_ref(&same));
        assert_eq!(merged.driver.as_deref(), Some("virtio_net"));
        assert_eq!(merged.rx_queues, 4);
    }

    #[test]
    fn tells_pci_addresses_from_other_names() {
        assert!(is_pci_address("0000:3b:00.1"));
        assert!(is_pci_address("10000:e1:00.0"));
        for name in [
            "virtio2",
            "pci0000:00",
            "0000:3b:00",
            "3b:00.1",
            "0000.3b.00.1",
        ] {
            assert!(!is_pci_address(name), "{name}");
        }
    }
}
