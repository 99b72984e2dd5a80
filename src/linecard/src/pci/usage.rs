//! What the kernel would lose with a device.

use linecard_engine::topology::SysRoot;
use serde::Serialize;

use super::device::PciDevice;
use super::machine::{Machine, link_name};

/// An interface that is in use, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The interface, or the device if it is not an interface that is in use.
    pub name: String,
    /// What would be lost, in words: `it is up`, `its address 10.0.0.1`.
    pub losses: Vec<String>,
}

/// What would be lost if the kernel gave up this device.
pub fn uses(machine: &Machine, device: &PciDevice) -> Vec<Use> {
    let root = &machine.root;
    let addresses = machine.kernel.addresses();
    let routes = default_routes(root);
    let mut uses: Vec<Use> = device
        .interfaces
        .iter()
        .map(|name| Use {
            name: name.clone(),
            losses: losses(root, name, &addresses, &routes),
        })
        .filter(|found| !found.losses.is_empty())
        .collect();
    if device.virtual_functions > 0 {
        uses.push(Use {
            name: device.address.to_string(),
            losses: vec![format!(
                "its {} virtual functions would vanish from whoever has them",
                device.virtual_functions
            )],
        });
    }
    uses
}

fn losses(
    root: &SysRoot,
    name: &str,
    addresses: &[(String, std::net::IpAddr)],
    default_routes: &[String],
) -> Vec<String> {
    let mut losses = Vec::new();
    if default_routes.iter().any(|route| route == name) {
        losses.push("it carries the default route".to_owned());
    }
    for (_, address) in addresses.iter().filter(|(interface, _)| interface == name) {
        // Every interface that is up has a link-local one by itself.
        let by_itself = matches!(address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !by_itself {
            losses.push(format!("it has the address {address}"));
        }
    }
    let folder = format!("/sys/class/net/{name}");
    if let Some(master) = link_name(root, &format!("{folder}/master")) {
        losses.push(format!("it is a port of {master}"));
    }
    for entry in root.entries(&folder) {
        // A master is an upper device too, and has been said.
        if let Some(upper) = entry.strip_prefix("upper_")
            && link_name(root, &format!("{folder}/master")).as_deref() != Some(upper)
        {
            losses.push(format!("{upper} is built on it"));
        }
    }
    let up = root
        .text(format!("{folder}/flags"))
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok())
        .is_some_and(|flags| flags & 1 == 1);
    if up {
        losses.push("it is up".to_owned());
    }
    losses
}

/// Whether a default route leaves by an interface of this device itself (not of what is built on it: see [`uses`]).
pub fn carries_default_route(root: &SysRoot, device: &PciDevice) -> bool {
    let routes = default_routes(root);
    device.interfaces.iter().any(|name| routes.contains(name))
}

/// The interfaces that the default routes leave by.
fn default_routes(root: &SysRoot) -> Vec<String> {
    let v4 = root.text("/proc/net/route").unwrap_or_default();
    let v6 = root.text("/proc/net/ipv6_route").unwrap_or_default();
    // Interface, destination, gateway, …, mask (eighth).
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        default.then(|| fields[0].to_owned())
    });
    // Destination, its prefix length, …, interface (last).
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let anywhere = fields.first()?.bytes().all(|digit| digit == b'0');
        (anywhere && fields.get(1) == Some(&"00")).then(|| fields.last().copied())?
    });
    v4.chain(v6.map(str::to_owned)).collect()
}

/// The processes that have a device open, as `PID NAME`.
///
/// A driver does not let go of a device while a program has it: the kernel would wait for the program,
/// and so would whoever wrote to `unbind`.
pub fn holders(root: &SysRoot, device: &PciDevice) -> Vec<String> {
    let mut nodes = Vec::new();
    if let Some(group) = &device.iommu_group {
        nodes.push(format!("/dev/vfio/{}", group.number));
        nodes.push(format!("/dev/vfio/noiommu-{}", group.number));
    }
    for entry in root.entries(device.file("vfio-dev")) {
        nodes.push(format!("/dev/vfio/devices/{entry}"));
    }
    for entry in root.entries(device.file("uio")) {
        nodes.push(format!("/dev/{entry}"));
    }
    if nodes.is_empty() {
        return Vec::new();
    }
    let holds = |process: &String| {
        let folder = format!("/proc/{process}/fd");
        root.entries(&folder).iter().any(|fd| {
            std::fs::read_link(root.path(format!("{folder}/{fd}")))
                .is_ok_and(|target| nodes.iter().any(|node| target.as_os_str() == node.as_str()))
        })
    };
    // Not ourselves, with a file that we were started with: whoever left it to us has it too.
    let own = std::process::id().to_string();
    root.entries("/proc")
        .iter()
        .filter(|entry| **entry != own)
        .filter(|entry| entry.bytes().all(|digit| digit.is_ascii_digit()))
        .filter(|process| holds(process))
        .map(|process| {
            let name = root.text(format!("/proc/{process}/comm"));
            format!("{process} {}", name.unwrap_or_default())
                .trim_end()
                .to_owned()
        })
        .collect()
}
