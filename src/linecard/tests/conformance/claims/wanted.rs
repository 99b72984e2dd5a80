//! Claims as a test means them, and whether one means a packet: in straight lines, from the documentation of
//! [`Claim`]. Nothing here reads a header.

use std::net::IpAddr;

use linecard::hal::flow::FlowMatch;
use linecard::protocol::{Claim, Layer};

use super::packets::{
    ARP, Byte, Damage, Dice, ETHERIP, IP6IP, IPIP, IPV4, IPV6, Level, Made, SCTP, Spec, TCP, UDP,
    port,
};

const PREFIXES: [&str; 8] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "192.0.2.0/24",
    "2001:db8::/32",
    "2001:db8::2/128",
    "fd00::/8",
];

/// A claim.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub kind: Option<u16>,
    pub vlan: Option<u16>,
    pub src: Option<&'static str>,
    pub dst: Option<&'static str>,
    pub protocol: Option<u8>,
    pub src_ports: Option<(u16, u16)>,
    pub dst_ports: Option<(u16, u16)>,
    pub fragments: bool,
    pub bytes: Vec<Byte>,
    pub rest: bool,
}

impl Wanted {
    pub fn protocol(protocol: u8) -> Self {
        Self {
            protocol: Some(protocol),
            ..Self::default()
        }
    }

    pub fn rest() -> Self {
        Self {
            rest: true,
            ..Self::default()
        }
    }

    pub fn fragments() -> Self {
        Self {
            fragments: true,
            ..Self::default()
        }
    }

    /// One of the sorts that there are.
    pub fn random(dice: &mut Dice) -> Self {
        let mut wanted = Self::default();
        match dice.below(11) {
            0..=3 => wanted.name_ports(dice),
            4 => wanted.protocol = Some(dice.pick(&[TCP, UDP, 1, 58, 253, 254, 60])),
            5 => wanted.kind = Some(dice.pick(&[ARP, 0x88b5, 0x88b6, IPV4, IPV6])),
            6 => {
                wanted.name_ports(dice);
                wanted.name_a_prefix(dice);
            }
            7 => {
                wanted.name_ports(dice);
                wanted
                    .bytes
                    .push(byte(Layer::Four, dice.pick(&[16, 17, 20]), dice));
            }
            8 => {
                wanted.vlan = Some(dice.pick(&[5, 7, 9]));
                if dice.one_in(2) {
                    wanted.name_ports(dice);
                }
            }
            9 => {
                let (kind, offsets): (u16, &[u16]) = dice.pick(&[
                    (IPV4, &[1, 8][..]),
                    (IPV6, &[1, 7]),
                    (ARP, &[7, 13]),
                    (0x88b5, &[0, 40]),
                ]);
                wanted.kind = Some(kind);
                wanted
                    .bytes
                    .push(byte(Layer::Three, dice.pick(offsets), dice));
            }
            _ => {
                wanted.kind = dice.pick(&[None, Some(ARP), Some(IPV6)]);
                wanted.bytes.push(Byte {
                    layer: Layer::Two,
                    offset: dice.pick(&[5, 11]),
                    mask: 7,
                    value: dice.pick(&[1, 2, 3]),
                });
            }
        }
        wanted
    }

    fn name_ports(&mut self, dice: &mut Dice) {
        self.protocol = Some(dice.pick(&[UDP, UDP, TCP, TCP, SCTP]));
        let first = port(dice);
        self.dst_ports = Some((first, first.saturating_add(dice.pick(&[0, 0, 1, 2]))));
        if dice.one_in(5) {
            let first = port(dice);
            self.src_ports = Some((first, first.saturating_add(2)));
        }
    }

    fn name_a_prefix(&mut self, dice: &mut Dice) {
        let one = dice.pick(&PREFIXES);
        match dice.one_in(2) {
            true => self.src = Some(one),
            false => self.dst = Some(one),
        }
    }

    /// The same, as the engine has it.
    pub fn claim(&self) -> Claim {
        if self.rest {
            return Claim::rest();
        }
        let mut claim = match self.fragments {
            true => Claim::fragments(),
            false => Claim::from(FlowMatch {
                ether_type: self.kind,
                protocol: self.protocol,
                ..FlowMatch::default()
            }),
        };
        if let Some(id) = self.vlan {
            claim = claim.vlan(id);
        }
        let prefix = |text: &str| text.parse().expect("a prefix");
        if let Some(src) = self.src {
            claim = claim.src(prefix(src));
        }
        if let Some(dst) = self.dst {
            claim = claim.dst(prefix(dst));
        }
        if let Some((first, last)) = self.src_ports {
            claim = claim.src_ports(first..=last);
        }
        if let Some((first, last)) = self.dst_ports {
            claim = claim.dst_ports(first..=last);
        }
        self.bytes.iter().fold(claim, |claim, byte| {
            claim.masked(byte.layer, byte.offset, byte.mask, byte.value)
        })
    }

    /// Whether a packet matches: all that is named must be so. The rest is not a property of a packet.
    pub fn means(&self, made: &Made, level: &Level) -> bool {
        if level.malformed || self.rest {
            return false;
        }
        let is_ip = level.addresses.is_some();
        if self.kind.is_some_and(|kind| kind != level.kind) {
            return false;
        }
        if self.vlan.is_some() && self.vlan != level.vlan {
            return false;
        }
        if self.fragments && !level.fragment {
            return false;
        }
        if self.protocol.is_some() && (!is_ip || level.fragment || self.protocol != level.protocol)
        {
            return false;
        }
        for (prefix, from) in [(self.src, true), (self.dst, false)] {
            let Some(prefix) = prefix else { continue };
            let address = level
                .addresses
                .map(|(src, dst)| if from { src } else { dst });
            if !address.is_some_and(|address| is_within(address, prefix)) {
                return false;
            }
        }
        for (range, from) in [(self.src_ports, true), (self.dst_ports, false)] {
            let Some((first, last)) = range else { continue };
            let port = level.ports.map(|(src, dst)| if from { src } else { dst });
            if !port.is_some_and(|port| first <= port && port <= last) {
                return false;
            }
        }
        self.bytes.iter().all(|byte| {
            let start = match byte.layer {
                Layer::Two if !level.is_frame => return false,
                Layer::Two => level.l2,
                Layer::Three => level.l3,
                Layer::Four => level.l4,
            };
            let at = start + usize::from(byte.offset);
            at < level.end && made.bytes[at] & byte.mask == byte.value & byte.mask
        })
    }

    /// A packet like any, changed so that it is meant, as far as that goes by changing a field here and there.
    pub fn aim(&self, dice: &mut Dice) -> Spec {
        let mut spec = Spec::random(dice);
        let version = [self.src, self.dst].into_iter().flatten().next();
        if let Some(kind) = self.kind {
            spec.kind = kind;
        } else if let Some(prefix) = version {
            spec.kind = if prefix.contains(':') { IPV6 } else { IPV4 };
        } else if (self.protocol.is_some() || self.fragments) && !spec.is_ip() {
            spec.kind = dice.pick(&[IPV4, IPV6]);
        }
        if let Some(protocol) = self.protocol {
            spec.protocol = protocol;
            spec.fragment = None;
        }
        if self.fragments {
            spec.fragment = Some(dice.one_in(2));
        }
        if let Some(id) = self.vlan {
            spec.tags = dice.pick(&[vec![id], vec![id | 0xa000], vec![id, 5]]);
        }
        if let Some((first, last)) = self.src_ports {
            spec.ports.0 = dice.pick(&[first, last]);
        }
        if let Some((first, last)) = self.dst_ports {
            spec.ports.1 = dice.pick(&[first, last]);
        }
        // Of four hosts one is within most prefixes.
        for (prefix, from) in [(self.src, true), (self.dst, false)] {
            let Some(prefix) = prefix else { continue };
            let host = match prefix {
                "192.0.2.0/24" | "fd00::/8" => 3,
                "2001:db8::2/128" => 1,
                _ => 0,
            };
            match from {
                true => spec.hosts.0 = host,
                false => spec.hosts.1 = host,
            }
        }
        spec.bytes = self.bytes.clone();
        // What IPv6 does not carry only IPv4 does.
        if spec.kind == IPV6
            && matches!(spec.protocol, 0 | 43 | 44 | 51 | 60)
            && self.kind.is_none()
        {
            spec.kind = IPV4;
        }
        spec.mend();
        spec
    }
}

/// Changes one thing about a packet.
pub fn miss(spec: &mut Spec, dice: &mut Dice) {
    match dice.below(8) {
        0 => spec.ports.1 = spec.ports.1.wrapping_add(1),
        1 => spec.ports.1 = spec.ports.1.wrapping_sub(1),
        2 => spec.protocol = dice.pick(&[UDP, TCP, SCTP, 253]),
        3 => spec.fragment = Some(dice.one_in(2)),
        4 => spec.tags = dice.pick(&[vec![], vec![5], vec![7], vec![9, 5]]),
        5 => spec.hosts = (dice.below(4), dice.below(4)),
        6 => {
            if let Some(byte) = spec.bytes.last_mut() {
                byte.value ^= byte.mask;
            }
        }
        _ => spec.long = dice.below(4),
    }
    spec.mend();
}

/// Puts a packet into tunnels, and the last one's outer headers are what came before it.
pub fn wrap(mut spec: Spec, levels: usize, dice: &mut Dice) -> Spec {
    for _ in 0..levels {
        let mut outer = Spec::random(dice);
        if !outer.is_ip() {
            outer.kind = IPV4;
        }
        outer.fragment = None;
        outer.padding = 0;
        // There is a tunnel for each sort of packet, and for frames of any sort.
        outer.protocol = match spec.kind {
            IPV4 if spec.damage != Some(Damage::Version) && dice.one_in(2) => IPIP,
            IPV6 if spec.damage != Some(Damage::Version) && dice.one_in(2) => IP6IP,
            _ => ETHERIP,
        };
        if outer.protocol != ETHERIP {
            // There is no layer 2 to change.
            spec.bytes.retain(|byte| byte.layer != Layer::Two);
        }
        spec.padding = 0;
        outer.inner = Some(Box::new(spec));
        spec = outer;
    }
    spec
}

fn byte(layer: Layer, offset: u16, dice: &mut Dice) -> Byte {
    let (mask, value) = dice.pick(&[(0xff, 0x4d), (0xff, 0xff), (0x0f, 0x03), (0x40, 0x40)]);
    Byte {
        layer,
        offset,
        mask,
        value,
    }
}

fn is_within(address: IpAddr, prefix: &str) -> bool {
    let (first, len) = prefix.split_once('/').expect("a prefix");
    let len: u32 = len.parse().expect("a length");
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 4),
        IpAddr::V6(address) => (address.to_bits(), 6),
    };
    let (a, b) = (bits(address), bits(first.parse().expect("an address")));
    a.1 == b.1 && (len == 0 || (a.0 ^ b.0) >> (128 - len) == 0)
}
