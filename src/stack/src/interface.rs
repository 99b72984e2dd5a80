//! Interfaces: a port's own addresses, and how it comes by them without taking somebody else's.
//!
//! An address is *tentative* until nobody has objected to it: three ARP probes (RFC 5227), or one
//! neighbour solicitation from the unspecified address (RFC 4862 section 5.4). Then it is *assigned* and
//! announced. If somebody objects before, it is a *duplicate* and never used. If somebody claims it later, it
//! is defended, at most once in ten seconds (RFC 5227 section 2.4 (c)), and kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use linecard_wire::MacAddr;
use linecard_wire::nd::{ALL_NODES, link_local, solicited_node};

use crate::secret::Random;

const SECOND: u64 = 1_000_000_000;
/// RFC 5227 section 1.1, and RFC 4862 section 5.4.2 for the delay.
const DELAY_NS: u64 = SECOND;
const ARP_PROBES: u8 = 3;
const ARP_PROBE_MIN_NS: u64 = SECOND;
const ARP_ANNOUNCE_WAIT_NS: u64 = 2 * SECOND;
const ARP_ANNOUNCEMENTS: u8 = 2;
const DEFEND_NS: u64 = 10 * SECOND;
/// RFC 4862 section 5.1 and RFC 4861 section 10.
const ND_PROBES: u8 = 1;
const ND_WAIT_NS: u64 = SECOND;
/// One unasked advertisement, so that the router knows us before it has to ask (RFC 9131).
const ND_ANNOUNCEMENTS: u8 = 1;

/// An interface: the untagged traffic of one port.
#[derive(Debug, Clone)]
pub struct InterfaceConfig {
    /// The port's number.
    pub port: u16,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The longest IP packet that the link takes: at least 1,280 with IPv6, 68 without.
    pub mtu: u16,
    /// Our addresses, with the prefixes that are on the link: `192.0.2.1/24`.
    pub addresses: Vec<IpNet>,
    /// Whether to have the link-local IPv6 address that follows from the Ethernet address. IPv6 needs one.
    pub link_local: bool,
    /// Further multicast groups whose packets are for us.
    pub groups: Vec<IpAddr>,
    /// Whether addresses are tried out before they are used.
    pub detect: bool,
}

impl InterfaceConfig {
    /// An Ethernet interface without addresses, but for the link-local one.
    pub fn new(port: u16, mac: MacAddr) -> Self {
        Self {
            port,
            mac,
            mtu: 1500,
            addresses: Vec::new(),
            link_local: true,
            groups: Vec::new(),
            detect: true,
        }
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, address: IpNet) -> Self {
        self.addresses.push(address);
        self
    }
}

/// How far we are with an address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressState {
    /// Being tried out; not used.
    Tentative,
    /// Ours.
    Assigned,
    /// Somebody else's; never used.
    Duplicate,
}

#[derive(Debug)]
struct Address {
    net: IpNet,
    state: AddressState,
    /// Probes or announcements still to be sent.
    left: u8,
    due_ns: Option<u64>,
    defended_ns: Option<u64>,
}

/// Something to send about an address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Ask whether somebody has it.
    Probe(IpAddr),
    /// Say that we have it.
    Announce(IpAddr),
}

/// For whom a destination address means us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// For us alone.
    Host,
    /// For a group or for everybody.
    Group,
    /// Not for us.
    Other,
}

#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) port: u16,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u16,
    addresses: Vec<Address>,
    groups: Vec<IpAddr>,
}

impl Interface {
    pub(crate) fn new(config: &InterfaceConfig, now_ns: u64, random: &mut Random) -> Self {
        let local = IpNet::V6(Ipv6Net::new_assert(link_local(config.mac), 64));
        let nets = config.addresses.iter().copied();
        let nets = nets.chain(config.link_local.then_some(local));
        let address = |net: IpNet| {
            let delay = random.below(DELAY_NS);
            let (state, left) = match (config.detect, net) {
                (true, IpNet::V4(_)) => (AddressState::Tentative, ARP_PROBES),
                (true, IpNet::V6(_)) => (AddressState::Tentative, ND_PROBES),
                (false, net) => (AddressState::Assigned, announcements(net)),
            };
            Address {
                net,
                state,
                left,
                due_ns: Some(now_ns.saturating_add(if config.detect { delay } else { 0 })),
                defended_ns: None,
            }
        };
        Self {
            port: config.port,
            mac: config.mac,
            mtu: config.mtu,
            addresses: nets.map(address).collect(),
            groups: config.groups.clone(),
        }
    }

    /// Our addresses, and how far we are with them.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpNet, AddressState)> {
        self.addresses.iter().map(|a| (a.net, a.state))
    }

    fn assigned(&self) -> impl Iterator<Item = IpNet> {
        let ours = |a: &&Address| a.state == AddressState::Assigned;
        self.addresses.iter().filter(ours).map(|a| a.net)
    }

    /// The state of an address, if it is one of ours.
    pub(crate) fn state(&self, address: IpAddr) -> Option<AddressState> {
        let found = self.addresses.iter().find(|a| a.net.addr() == address);
        found.map(|a| a.state)
    }

    pub(crate) fn is_ours(&self, address: IpAddr) -> bool {
        self.state(address) == Some(AddressState::Assigned)
    }

    /// Whether an address lies on this link.
    pub(crate) fn on_link(&self, address: IpAddr) -> bool {
        self.assigned().any(|net| net.contains(&address))
    }

    /// Whether everybody is meant by an IPv4 address.
    pub(crate) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let of_net = |net: IpNet| match net {
            IpNet::V4(net) => net.prefix_len() < 31 && net.broadcast() == address,
            IpNet::V6(_) => false,
        };
        address.is_broadcast() || self.assigned().any(of_net)
    }

    /// For whom a packet with this destination is.
    pub(crate) fn cast(&self, dst: IpAddr) -> Cast {
        match dst {
            _ if self.is_ours(dst) => Cast::Host,
            _ if self.groups.contains(&dst) => Cast::Group,
            IpAddr::V4(v4) if v4 == Ipv4Addr::new(224, 0, 0, 1) => Cast::Group,
            IpAddr::V4(v4) if self.is_broadcast(v4) => Cast::Group,
            IpAddr::V6(v6) if v6 == ALL_NODES || self.solicited(v6) => Cast::Group,
            _ => Cast::Other,
        }
    }

    /// Whether this is the solicited-node group of one of our addresses, be it tentative.
    fn solicited(&self, group: Ipv6Addr) -> bool {
        self.addresses.iter().any(|a| match a.net.addr() {
            IpAddr::V6(v6) => a.state != AddressState::Duplicate && solicited_node(v6) == group,
            IpAddr::V4(_) => false,
        })
    }

    /// The address to send from: RFC 6724 section 5, as far as it applies to one interface. Rule 2 (scope),
    /// then the prefix that the next hop is in, then rule 8 (longest match).
    pub(crate) fn source(&self, dst: IpAddr, next_hop: IpAddr) -> Option<IpAddr> {
        let local_dst = is_link_scope(dst);
        let fit = |net: &IpNet| {
            let same_scope = is_link_scope(net.addr()) == local_dst;
            (
                same_scope,
                net.contains(&next_hop),
                common_bits(net.addr(), dst),
            )
        };
        let same_family = |net: &IpNet| net.addr().is_ipv4() == dst.is_ipv4();
        // Of equals, the one configured first.
        let mut best: Option<(IpNet, _)> = None;
        for net in self.assigned().filter(same_family) {
            let fits = fit(&net);
            if best.is_none_or(|(_, so_far)| fits > so_far) {
                best = Some((net, fits));
            }
        }
        best.map(|(net, _)| net.addr())
    }

    /// Has these addresses from now on. They are assigned at once; those that stay keep their state.
    pub(crate) fn replace_addresses(&mut self, nets: &[IpNet], now_ns: u64) {
        self.addresses.retain(|a| nets.contains(&a.net));
        for net in nets {
            if !self.addresses.iter().any(|a| a.net == *net) {
                self.addresses.push(Address {
                    net: *net,
                    state: AddressState::Assigned,
                    left: announcements(*net),
                    due_ns: Some(now_ns),
                    defended_ns: None,
                });
            }
        }
    }

    /// Somebody else showed that he uses or wants this address. `true` if it is to be defended now, by an
    /// announcement.
    pub(crate) fn conflict(&mut self, address: IpAddr, now_ns: u64) -> bool {
        let Some(ours) = self.addresses.iter_mut().find(|a| a.net.addr() == address) else {
            return false;
        };
        match ours.state {
            AddressState::Tentative => {
                ours.state = AddressState::Duplicate;
                ours.due_ns = None;
                false
            }
            AddressState::Duplicate => false,
            AddressState::Assigned => {
                let lately = |at: u64| now_ns.saturating_sub(at) < DEFEND_NS;
                let defend = !ours.defended_ns.is_some_and(lately);
                if defend {
                    ours.defended_ns = Some(now_ns);
                }
                defend
            }
        }
    }

    /// What another stack of the same host says of an address.
    pub(crate) fn decided(&mut self, address: IpAddr, state: AddressState) {
        if let Some(ours) = self.addresses.iter_mut().find(|a| a.net.addr() == address) {
            ours.state = state;
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        self.addresses.iter().filter_map(|a| a.due_ns).min()
    }

    /// The next thing to send that is due, if any: to be called until there is none.
    pub(crate) fn poll(&mut self, now_ns: u64, random: &mut Random) -> Option<Duty> {
        let is_due = |a: &&mut Address| a.due_ns.is_some_and(|at| at <= now_ns);
        while let Some(address) = self.addresses.iter_mut().find(is_due) {
            if let Some(duty) = address.proceed(now_ns, random) {
                return Some(duty);
            }
        }
        None
    }
}

impl Address {
    /// One step; the next one is due later, or never.
    fn proceed(&mut self, now_ns: u64, random: &mut Random) -> Option<Duty> {
        let v4 = self.net.addr().is_ipv4();
        if self.state == AddressState::Tentative && self.left == 0 {
            // Nobody objected.
            self.state = AddressState::Assigned;
            self.left = announcements(self.net);
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => {
                self.due_ns = None;
                return None;
            }
        };
        let (duty, wait) = match self.state {
            AddressState::Tentative => {
                let wait = match (v4, self.left) {
                    (true, 0) => ARP_ANNOUNCE_WAIT_NS,
                    (true, _) => ARP_PROBE_MIN_NS + random.below(SECOND),
                    (false, _) => ND_WAIT_NS,
                };
                (Duty::Probe(self.net.addr()), wait)
            }
            _ => (Duty::Announce(self.net.addr()), ARP_ANNOUNCE_WAIT_NS),
        };
        self.due_ns = Some(now_ns.saturating_add(wait));
        Some(duty)
    }
}

fn announcements(net: IpNet) -> u8 {
    match net {
        IpNet::V4(_) => ARP_ANNOUNCEMENTS,
        IpNet::V6(_) => ND_ANNOUNCEMENTS,
    }
}

/// Whether an IPv6 address means something only on its link.
fn is_link_scope(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || (v6.is_multicast() && v6.octets()[1] & 0xf <= 2)
        }
    }
}

/// How many leading bits two addresses have in common.
fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn random() -> Random {
        Random::new(Secret::from_seed(5))
    }

    fn interface(addresses: &[&str], detect: bool) -> Interface {
        let config = InterfaceConfig {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            detect,
            ..InterfaceConfig::new(0, MacAddr([2, 0, 0, 0, 0, 9]))
        };
        Interface::new(&config, 0, &mut random())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Polls at each deadline until there is none.
    fn run(interface: &mut Interface) -> Vec<(u64, Duty)> {
        let mut random = random();
        let mut done = Vec::new();
        while let Some(now) = interface.deadline_ns() {
            while let Some(duty) = interface.poll(now, &mut random) {
                done.push((now, duty));
            }
        }
        done
    }

    #[test]
    fn an_address_is_tried_out_and_announced() {
        let mut interface = interface(&["192.0.2.1/24"], true);
        assert_eq!(interface.cast(ip("192.0.2.1")), Cast::Other);
        let done = run(&mut interface);
        let of = |duty| -> Vec<u64> {
            let at = done.iter().filter(|(_, d)| *d == duty);
            at.map(|(now, _)| *now).collect()
        };
        let probes = of(Duty::Probe(ip("192.0.2.1")));
        assert_eq!(probes.len(), 3);
        assert!(probes[0] < SECOND);
        assert!(
            probes
                .windows(2)
                .all(|w| (SECOND..2 * SECOND).contains(&(w[1] - w[0])))
        );
        let told = of(Duty::Announce(ip("192.0.2.1")));
        assert_eq!(told, [probes[2] + 2 * SECOND, probes[2] + 4 * SECOND]);
        let local = link_local(interface.mac).into();
        let asked = of(Duty::Probe(local));
        assert_eq!(
            (asked.len(), of(Duty::Announce(local))),
            (1, vec![asked[0] + SECOND])
        );
        assert_eq!(interface.cast(ip("192.0.2.1")), Cast::Host);
        assert_eq!(interface.cast(local), Cast::Host);
    }

    #[test]
    fn an_objection_ends_it_and_a_later_one_is_answered() {
        let mut first = interface(&["192.0.2.1/24"], true);
        assert!(!first.conflict(ip("192.0.2.1"), 0));
        run(&mut first);
        assert_eq!(first.state(ip("192.0.2.1")), Some(AddressState::Duplicate));

        let mut second = interface(&["192.0.2.1/24"], false);
        assert!(!second.conflict(ip("192.0.2.2"), 0));
        assert!(second.conflict(ip("192.0.2.1"), SECOND));
        assert!(!second.conflict(ip("192.0.2.1"), 10 * SECOND));
        assert!(second.conflict(ip("192.0.2.1"), 11 * SECOND));
        assert!(second.is_ours(ip("192.0.2.1")));
    }

    #[test]
    fn groups_and_broadcasts_are_ours_too() {
        let interface = interface(&["192.0.2.1/24", "2001:db8::1234:5678/64"], false);
        let groups = [
            "192.0.2.255",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "ff02::1:ff34:5678",
        ];
        assert!(groups.iter().all(|g| interface.cast(ip(g)) == Cast::Group));
        let others = [
            "192.0.2.2",
            "192.0.3.255",
            "224.0.0.5",
            "ff02::2",
            "ff02::1:ff00:1",
        ];
        assert!(others.iter().all(|g| interface.cast(ip(g)) == Cast::Other));
    }

    #[test]
    fn the_source_fits_the_destination() {
        let interface = interface(
            &[
                "192.0.2.1/24",
                "198.51.100.1/24",
                "2001:db8::1/64",
                "2001:db8:5::1/64",
            ],
            false,
        );
        let source = |dst, hop| interface.source(ip(dst), ip(hop)).unwrap();
        assert_eq!(source("198.51.100.9", "198.51.100.9"), ip("198.51.100.1"));
        assert_eq!(source("8.8.8.8", "192.0.2.254"), ip("192.0.2.1"));
        assert_eq!(
            source("2001:db8:5::7", "2001:db8:5::7"),
            ip("2001:db8:5::1")
        );
        assert_eq!(source("2001:db8:5:1::7", "fe80::1"), ip("2001:db8:5::1"));
        let local: IpAddr = link_local(interface.mac).into();
        assert_eq!(source("fe80::7", "fe80::7"), local);
        assert_eq!(source("ff02::1", "ff02::1"), local);
        assert_eq!(
            self::interface(&[], true).source(ip("fe80::7"), ip("fe80::7")),
            None
        );
    }
}
