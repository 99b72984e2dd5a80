//! What a stack is to be, and why it cannot be.

use ipnet::IpNet;
use linecard_wire::MacAddr;

use crate::interface::InterfaceConfig;
use crate::limit::Rate;
use crate::neighbor::{NeighborConfig, NeighborKey};
use crate::reassembly::ReassemblyConfig;
use crate::route::Route;

/// What a stack is to be.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Its interfaces. Their number elsewhere is their place here.
    pub interfaces: Vec<InterfaceConfig>,
    /// Routes, besides those to the prefixes of the interfaces' addresses.
    pub routes: Vec<Route>,
    /// Neighbours that are known and do not change.
    pub permanent: Vec<(NeighborKey, MacAddr)>,
    /// The neighbour cache.
    pub neighbors: NeighborConfig,
    /// Reassembly.
    pub reassembly: ReassemblyConfig,
    /// How many ICMP errors may be sent.
    pub errors: Rate,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            routes: Vec::new(),
            permanent: Vec::new(),
            neighbors: NeighborConfig::default(),
            reassembly: ReassemblyConfig::default(),
            errors: Rate {
                burst: 50,
                per_second: 1000,
            },
        }
    }
}

/// Why a stack cannot be what it was to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Two interfaces are the same port.
    #[error("two interfaces are port {port}; a port has one")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// An interface's Ethernet address is a group's.
    #[error("{mac} of port {port} is a group's address; a port needs one of its own")]
    GroupMac {
        /// The port.
        port: u16,
        /// Its address.
        mac: MacAddr,
    },
    /// An interface's MTU is below what IP asks for.
    #[error("an MTU of {mtu} at port {port} is too small; {needed} is the least")]
    SmallMtu {
        /// The port.
        port: u16,
        /// Its MTU.
        mtu: u16,
        /// What it must be.
        needed: u16,
    },
    /// An address that no host can have.
    #[error("{address} at port {port} cannot be a host's address")]
    BadAddress {
        /// The port.
        port: u16,
        /// The address.
        address: IpNet,
    },
    /// A route or a neighbour names an interface that is not there.
    #[error("{what} names interface {interface}, and there are {count}")]
    NoInterface {
        /// What.
        what: String,
        /// Which interface.
        interface: u16,
        /// How many there are.
        count: usize,
    },
    /// A route that the table does not take.
    #[error(
        "the route to {prefix} cannot be added: its gateway is of another family, or there are too many routes"
    )]
    BadRoute {
        /// Its prefix.
        prefix: IpNet,
    },
    /// More permanent neighbours than the cache has entries.
    #[error("{count} permanent neighbours do not fit a cache of {entries}")]
    TooManyNeighbors {
        /// How many.
        count: usize,
        /// The size of the cache.
        entries: u32,
    },
}

/// Refuses what contradicts itself.
pub(crate) fn check(config: &StackConfig) -> Result<(), ConfigError> {
    let interfaces = &config.interfaces;
    for (i, interface) in interfaces.iter().enumerate() {
        let (port, mac, mtu) = (interface.port, interface.mac, interface.mtu);
        if interfaces[..i].iter().any(|other| other.port == port) {
            return Err(ConfigError::SamePort { port });
        }
        if mac.is_multicast() || mac == MacAddr::default() {
            return Err(ConfigError::GroupMac { port, mac });
        }
        let v6 = interface.link_local || interface.addresses.iter().any(|a| a.addr().is_ipv6());
        // RFC 8200 section 5 and RFC 791 section 3.2.
        let needed = if v6 { 1280 } else { 68 };
        if mtu < needed {
            return Err(ConfigError::SmallMtu { port, mtu, needed });
        }
        for address in &interface.addresses {
            if !crate::frames::is_one_host(address.addr()) {
                let address = *address;
                return Err(ConfigError::BadAddress { port, address });
            }
        }
    }
    for (key, mac) in &config.permanent {
        let what = || format!("the neighbour {} at {mac}", key.address);
        check_interface(interfaces.len(), key.interface, what)?;
    }
    let (count, entries) = (config.permanent.len(), config.neighbors.entries);
    if count > entries as usize {
        return Err(ConfigError::TooManyNeighbors { count, entries });
    }
    Ok(())
}

pub(crate) fn check_interface(
    count: usize,
    interface: u16,
    what: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if usize::from(interface) < count {
        return Ok(());
    }
    Err(ConfigError::NoInterface {
        what: what(),
        interface,
        count,
    })
}
