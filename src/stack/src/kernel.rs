//! What the kernel knows about an interface: addresses, routes and neighbours, by rtnetlink.
//!
//! For a port that is also an interface of the kernel's, a stack can be what the kernel's is: [`read`] takes
//! its tables, [`KernelTables::interface`] makes an interface of them, and [`Stack::follow`] goes with their
//! changes, which [`Watch`] tells of. Addresses are not tried out again: the kernel has done that.
//!
//! Control plane: this asks the kernel and allocates. A socket asks in the network namespace of the thread that
//! opened it, and reading needs no privilege.
//!
//! An AF_XDP or DPDK port takes its frames from the kernel, so that only the stack answers. Beside a `uring:`
//! port the kernel goes on answering for the same addresses: both do.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use linecard_wire::MacAddr;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::config::ConfigError;
use crate::interface::InterfaceConfig;
use crate::neighbor::{Claim, NeighborKey};
use crate::route::Route;
use crate::stack::Stack;

/// Groups of rtnetlink (linux/rtnetlink.h): links, neighbours, and addresses and routes of both families.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// What the kernel knows about one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelTables {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The longest IP packet that it takes.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its routes in the main table: prefix, gateway, metric.
    pub routes: Vec<(IpNet, Option<IpAddr>, u32)>,
    /// Its neighbours, as far as their addresses are known.
    pub neighbors: Vec<(IpAddr, MacAddr)>,
}

impl KernelTables {
    /// An interface that is `port` here and has the addresses that it has there.
    pub fn interface(&self, port: u16) -> InterfaceConfig {
        InterfaceConfig {
            mtu: self.mtu,
            addresses: self.addresses.clone(),
            link_local: false,
            detect: false,
            ..InterfaceConfig::new(port, self.mac)
        }
    }

    /// Its routes, by an interface of ours.
    pub fn routes(&self, interface: u16) -> impl Iterator<Item = Route> {
        self.routes
            .iter()
            .map(move |(prefix, gateway, metric)| Route {
                prefix: *prefix,
                interface,
                gateway: *gateway,
                metric: *metric,
            })
    }
}

impl Stack {
    /// Makes interfaces, routes and neighbours what the kernel has: `tables` are those of each interface, in
    /// their order. Neighbours are taken as stale, so that each is asked by ourselves before long. Not to be
    /// called for every packet: it allocates.
    ///
    /// # Errors
    /// As [`Stack::set_routes`].
    pub fn follow(&mut self, tables: &[KernelTables], now_ns: u64) -> Result<(), ConfigError> {
        let mut routes = Vec::new();
        for (number, (interface, tables)) in self.interfaces.iter_mut().zip(tables).enumerate() {
            let number = number as u16;
            interface.replace_addresses(&tables.addresses, now_ns);
            routes.extend(tables.routes(number));
            for (address, mac) in &tables.neighbors {
                let key = NeighborKey {
                    interface: number,
                    address: *address,
                };
                // One that we know already keeps what we know.
                if self.neighbors.state(key).is_none() {
                    self.neighbors.learn(key, Claim::Asked(*mac), now_ns);
                }
            }
        }
        self.set_routes(&routes)
    }
}

/// Reads the kernel's tables of an interface.
///
/// # Errors
/// `NotFound` if there is no such interface, and whatever the kernel answers.
pub fn read(name: &str) -> io::Result<KernelTables> {
    let link = dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?
        .into_iter()
        .find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) if is_named(&link, name) => Some(link),
            _ => None,
        })
        .ok_or_else(|| {
            let what = format!("the kernel has no interface {name:?}; `linecard ports` lists them");
            io::Error::new(io::ErrorKind::NotFound, what)
        })?;
    let mut tables = KernelTables {
        mtu: u16::MAX,
        ..KernelTables::default()
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => tables.mtu = mtu.min(u16::MAX.into()) as u16,
            LinkAttribute::Address(mac) => tables.mac = mac_of(&mac).unwrap_or_default(),
            _ => {}
        }
    }
    let index = link.header.index;
    for message in dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        if let RouteNetlinkMessage::NewAddress(address) = message {
            tables.addresses.extend(address_of(&address, index));
        }
    }
    for message in dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
        if let RouteNetlinkMessage::NewRoute(route) = message {
            tables.routes.extend(route_of(&route, index));
        }
    }
    for message in dump(RouteNetlinkMessage::GetNeighbour(
        NeighbourMessage::default(),
    ))? {
        if let RouteNetlinkMessage::NewNeighbour(neighbor) = message {
            tables.neighbors.extend(neighbor_of(&neighbor, index));
        }
    }
    Ok(tables)
}

/// Tells whether the kernel's tables have changed.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Watches from now on: read the tables afterwards, and no change is missed.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self { socket })
    }

    /// Whether anything has changed since the last call. Never waits. So much may have changed that the kernel
    /// could not tell it all: that counts as a change, too.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.socket.recv_from_full() {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return changed || error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// All that the kernel answers to a request for a list.
fn dump(request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if take_messages(&bytes, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Takes the messages of one datagram; true at the end of the list. A message that the library does not
/// understand is passed over: it is about something that is not used here.
fn take_messages(mut bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    const HEADER_LEN: usize = 16;
    while let Some(len) = bytes.first_chunk::<4>() {
        let len = u32::from_ne_bytes(*len) as usize;
        let Some(message) = bytes.get(..len).filter(|_| len >= HEADER_LEN) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        match NetlinkMessage::deserialize(message).map(|message| message.payload) {
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
            Ok(NetlinkPayload::InnerMessage(inner)) => answers.push(inner),
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn is_named(link: &LinkMessage, name: &str) -> bool {
    let named =
        |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(n) if n == name);
    link.attributes.iter().any(named)
}

fn mac_of(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

fn address_of(message: &AddressMessage, index: u32) -> Option<IpNet> {
    if message.header.index != index {
        return None;
    }
    // At a point-to-point link `Address` is the other end's, and `Local` ours.
    let (mut address, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            _ => {}
        }
    }
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

fn route_of(message: &RouteMessage, index: u32) -> Option<(IpNet, Option<IpAddr>, u32)> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let (mut dst, mut gateway, mut out, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip_of(address),
            RouteAttribute::Gateway(address) => gateway = ip_of(address),
            RouteAttribute::Oif(interface) => out = Some(*interface),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let ours = out == Some(index)
        && table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && header.kind == RouteType::Unicast;
    if !ours {
        return None;
    }
    let everything = match header.address_family {
        netlink_packet_route::AddressFamily::Inet => IpAddr::from([0; 4]),
        netlink_packet_route::AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let prefix = IpNet::new(dst.unwrap_or(everything), header.destination_prefix_length).ok()?;
    Some((prefix, gateway, metric))
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn neighbor_of(message: &NeighbourMessage, index: u32) -> Option<(IpAddr, MacAddr)> {
    use NeighbourState::{Delay, Permanent, Probe, Reachable, Stale};
    let known = matches!(
        message.header.state,
        Reachable | Stale | Delay | Probe | Permanent
    );
    if message.header.ifindex != index || !known {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some((*v4).into());
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some((*v6).into());
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
            _ => {}
        }
    }
    Some((address?, mac?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NeighborState, Secret, StackConfig};
    use proptest::prelude::*;

    #[test]
    fn the_loopback_interface_has_what_it_has_everywhere() {
        let tables = read("lo").unwrap();
        assert!(tables.mtu >= 1280);
        if let Some(first) = tables.addresses.first() {
            assert!(first.addr().is_loopback());
        }
        let error = read("no-such-one").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!Watch::new().unwrap().changed());
    }

    #[test]
    fn a_stack_follows() {
        let net = |text: &str| -> IpNet { text.parse().unwrap() };
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut tables = KernelTables {
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            mtu: 1400,
            addresses: vec![net("192.0.2.9/24"), net("fe80::9/64")],
            routes: vec![(net("0.0.0.0/0"), Some(ip("192.0.2.1")), 100)],
            neighbors: vec![(ip("192.0.2.1"), MacAddr([2, 0, 0, 0, 0, 1]))],
        };
        let config = StackConfig {
            interfaces: vec![tables.interface(0)],
            ..StackConfig::default()
        };
        let mut stack = Stack::new(config, Secret::from_seed(1), 0).unwrap();
        stack.follow(std::slice::from_ref(&tables), 0).unwrap();
        let path = stack.path(ip("203.0.113.1"), None).unwrap();
        assert_eq!(
            (path.next_hop, path.source, path.mtu),
            (ip("192.0.2.1"), ip("192.0.2.9"), 1400)
        );
        let known: Vec<_> = stack.neighbors().collect();
        assert_eq!((known.len(), known[0].1), (1, NeighborState::Stale));

        tables.addresses = vec![net("198.51.100.9/24")];
        tables.routes.clear();
        stack.follow(&[tables], 0).unwrap();
        assert!(stack.path(ip("203.0.113.1"), None).is_err());
        assert_eq!(
            stack.path(ip("198.51.100.1"), None).unwrap().source,
            ip("198.51.100.9")
        );
        assert_eq!(stack.addresses(0).count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = take_messages(&bytes, &mut Vec::new());
        }
    }
}
