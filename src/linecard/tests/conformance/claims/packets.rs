//! Packets by construction: what is in one is known before it is bytes, so nobody has to read it to know.

use std::net::IpAddr;

use linecard::protocol::Layer;

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
/// IP in IP (RFC 2003, RFC 2473), and a frame in IP (RFC 3378).
pub const IPIP: u8 = 4;
pub const IP6IP: u8 = 41;
pub const ETHERIP: u8 = 97;

/// Addresses of hosts, IPv4 and IPv6.
const HOSTS: [[&str; 2]; 4] = [
    ["10.1.2.3", "2001:db8::1"],
    ["10.1.2.4", "2001:db8::2"],
    ["10.9.0.1", "2001:db8:1::1"],
    ["192.0.2.7", "fd00::7"],
];

/// The same throws for the same seed: SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// A byte that is to be so, or is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Byte {
    pub layer: Layer,
    pub offset: u16,
    pub mask: u8,
    pub value: u8,
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The version is not that of the EtherType.
    Version,
    /// An IPv4 header shorter than the least.
    ShortHeader,
    /// An IPv4 header longer than the packet.
    LongHeader,
    /// The packet ends within the layer-4 header.
    CutTransport,
    /// The layer-4 header's own length is too short.
    BadTransport,
    /// Nine extension headers.
    Extensions,
    /// An ARP packet with addresses of another length.
    Addresses,
}

pub const DAMAGES: [Damage; 7] = [
    Damage::Version,
    Damage::ShortHeader,
    Damage::LongHeader,
    Damage::CutTransport,
    Damage::BadTransport,
    Damage::Extensions,
    Damage::Addresses,
];

/// What a packet is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The tags, the outer one first.
    pub tags: Vec<u16>,
    pub kind: u16,
    /// From and to, by their place among the hosts.
    pub hosts: (usize, usize),
    /// Words of IPv4 options, or extension headers of IPv6.
    pub long: usize,
    /// The first of a packet's fragments, or a later one.
    pub fragment: Option<bool>,
    pub protocol: u8,
    pub ports: (u16, u16),
    /// Of every byte that nothing else is said of.
    pub fill: u8,
    pub bytes: Vec<Byte>,
    pub damage: Option<Damage>,
    /// What it carries, if it is a tunnel.
    pub inner: Option<Box<Spec>>,
    /// Bytes behind it.
    pub padding: usize,
}

/// Headers at one level of tunnels: a fact, not a finding.
#[derive(Debug, Clone)]
pub struct Level {
    /// Whether it begins with an Ethernet header.
    pub is_frame: bool,
    /// The id in the outer tag.
    pub vlan: Option<u16>,
    pub kind: u16,
    pub addresses: Option<(IpAddr, IpAddr)>,
    pub fragment: bool,
    pub protocol: Option<u8>,
    /// Of a packet in one piece.
    pub ports: Option<(u16, u16)>,
    pub malformed: bool,
    /// Where its layers begin, and where the packet ends.
    pub l2: usize,
    pub l3: usize,
    pub l4: usize,
    pub end: usize,
}

/// A packet, and what is in it.
#[derive(Debug, Clone)]
pub struct Made {
    pub number: u32,
    pub bytes: Vec<u8>,
    /// The outermost first.
    pub levels: Vec<Level>,
}

/// Bytes behind the last IP header.
const BODY: usize = 48;

impl Spec {
    pub fn random(dice: &mut Dice) -> Self {
        let kind = dice.pick(&[IPV4, IPV4, IPV4, IPV6, IPV6, ARP, 0x88b5, 0x88b6]);
        let tags = dice.pick(&[
            vec![],
            vec![],
            vec![5],
            vec![0x6007],
            vec![5, 7],
            vec![7, 9],
        ]);
        let mut spec = Self {
            tags,
            kind,
            hosts: (dice.below(4), dice.below(4)),
            long: dice.pick(&[0, 0, 1, 3]),
            fragment: dice.pick(&[None, None, None, None, None, Some(true), Some(false)]),
            protocol: dice.pick(&[UDP, UDP, UDP, TCP, TCP, SCTP, 1, 58, 253, 254, 60]),
            ports: (port(dice), port(dice)),
            fill: dice.pick(&[0, 0x4d, 0xff]),
            bytes: Vec::new(),
            damage: None,
            inner: None,
            padding: dice.pick(&[0, 0, 8, 20]),
        };
        spec.mend();
        spec
    }

    pub fn is_ip(&self) -> bool {
        self.kind == IPV4 || self.kind == IPV6
    }

    /// Takes out what cannot be: an extension header is not what IPv6 carries.
    pub fn mend(&mut self) {
        if self.kind == IPV6 && matches!(self.protocol, 0 | 43 | 44 | 51 | 60) {
            self.protocol = 253;
        }
    }

    /// Whether it can be damaged like that.
    pub fn can_be(&self, damage: Damage) -> bool {
        let whole = self.is_ip() && self.fragment.is_none() && self.inner.is_none();
        match damage {
            Damage::Version => self.is_ip(),
            Damage::ShortHeader | Damage::LongHeader => self.kind == IPV4,
            Damage::CutTransport => whole && matches!(self.protocol, TCP | UDP | SCTP),
            Damage::BadTransport => whole && matches!(self.protocol, TCP | UDP),
            Damage::Extensions => self.kind == IPV6 && self.inner.is_none(),
            Damage::Addresses => self.kind == ARP,
        }
    }

    /// The frame; its last bytes are its number.
    pub fn make(&self, number: u32) -> Made {
        let mut made = Made {
            number,
            bytes: Vec::new(),
            levels: Vec::new(),
        };
        self.level(true, &mut made);
        made.bytes.resize(made.bytes.len() + self.padding, 0xee);
        if !self.is_ip() {
            made.levels[0].end = made.bytes.len();
        }
        let last = made.bytes.len() - 4;
        made.bytes[last..].copy_from_slice(&number.to_be_bytes());
        made
    }

    fn level(&self, is_frame: bool, made: &mut Made) {
        let place = made.levels.len();
        let l2 = made.bytes.len();
        if is_frame {
            self.ethernet(&mut made.bytes);
        }
        let l3 = made.bytes.len();
        match self.kind {
            IPV4 => self.ipv4(&mut made.bytes),
            IPV6 => self.ipv6(&mut made.bytes),
            ARP => made.bytes.extend(self.arp()),
            _ => {}
        }
        let l4 = made.bytes.len();
        let whole = self.is_ip() && self.fragment.is_none();
        let has_ports = whole && matches!(self.protocol, TCP | UDP | SCTP);
        made.levels.push(Level {
            is_frame,
            vlan: self
                .tags
                .first()
                .filter(|_| is_frame)
                .map(|tci| tci & 0xfff),
            kind: self.kind,
            addresses: self.is_ip().then(|| self.addresses()),
            fragment: self.is_ip() && self.fragment.is_some(),
            protocol: self.is_ip().then_some(self.protocol),
            ports: has_ports.then_some(self.ports),
            malformed: self.damage.is_some(),
            l2,
            l3,
            l4,
            end: 0,
        });
        match &self.inner {
            Some(inner) => {
                // RFC 3378: version 3.
                made.bytes.extend(
                    (self.protocol == ETHERIP)
                        .then_some([0x30, 0])
                        .into_iter()
                        .flatten(),
                );
                inner.level(self.protocol == ETHERIP, made);
            }
            None => self.body(&mut made.bytes),
        }
        let end = made.bytes.len();
        made.levels[place].end = end;
        self.finish(&mut made.bytes[..end], (l2, l3, l4));
    }

    fn ethernet(&self, bytes: &mut Vec<u8>) {
        bytes.extend([2, 0, 0, 0, 0, self.hosts.1 as u8 + 1]);
        bytes.extend([2, 0, 0, 0, 1, self.hosts.0 as u8 + 1]);
        for tci in &self.tags {
            bytes.extend([0x81, 0x00]);
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(self.kind.to_be_bytes());
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        let version = usize::from(self.kind == IPV6);
        let of = |host: usize| HOSTS[host][version].parse().expect("an address");
        (of(self.hosts.0), of(self.hosts.1))
    }

    fn push_addresses(&self, bytes: &mut Vec<u8>) {
        let (src, dst) = self.addresses();
        for address in [src, dst] {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
    }

    /// Its lengths are filled in at the end.
    fn ipv4(&self, bytes: &mut Vec<u8>) {
        let fragment: u16 = match self.fragment {
            None => 0x4000,
            Some(true) => 0x2000,
            Some(false) => 0x00b9,
        };
        bytes.extend([0x45 + self.long as u8, 0, 0, 0, 0x12, 0x34]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        self.push_addresses(bytes);
        // No-operation.
        bytes.resize(bytes.len() + 4 * self.long, 1);
    }

    fn ipv6(&self, bytes: &mut Vec<u8>) {
        const OPTIONS: u8 = 60;
        const FRAGMENT: u8 = 44;
        let options = match self.damage {
            Some(Damage::Extensions) => 9,
            _ => self.long,
        };
        let mut chain = vec![OPTIONS; options];
        chain.extend(self.fragment.map(|_| FRAGMENT));
        chain.push(self.protocol);
        bytes.extend([0x60, 0, 0, 0, 0, 0, chain[0], 64]);
        self.push_addresses(bytes);
        for pair in chain.windows(2) {
            let offset: u16 = if self.fragment == Some(true) {
                0x0001
            } else {
                0x0b91
            };
            match pair[0] {
                FRAGMENT => {
                    bytes.extend([pair[1], 0]);
                    bytes.extend(offset.to_be_bytes());
                    bytes.extend([0, 0, 0, 7]);
                }
                // PadN.
                _ => bytes.extend([pair[1], 0, 1, 4, 0, 0, 0, 0]),
            }
        }
    }

    fn arp(&self) -> [u8; 28] {
        let mut arp = [0; 28];
        arp[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        arp[8..14].copy_from_slice(&[2, 0, 0, 0, 1, self.hosts.0 as u8 + 1]);
        arp
    }

    fn body(&self, bytes: &mut Vec<u8>) {
        let at = bytes.len();
        bytes.resize(at + BODY, self.fill);
        let body = &mut bytes[at..];
        if !self.is_ip() {
            return;
        }
        if matches!(self.protocol, TCP | UDP | SCTP) {
            body[..2].copy_from_slice(&self.ports.0.to_be_bytes());
            body[2..4].copy_from_slice(&self.ports.1.to_be_bytes());
        }
        match self.protocol {
            UDP => body[4..8].copy_from_slice(&[0, BODY as u8, 0, 0]),
            TCP => body[12] = 0x50,
            _ => {}
        }
    }

    /// Lengths, the bytes that are wanted, and what is to be wrong.
    fn finish(&self, bytes: &mut [u8], (l2, l3, l4): (usize, usize, usize)) {
        let end = bytes.len();
        let mut word = |at: usize, value: usize| {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
        };
        let cut = match self.damage {
            Some(Damage::CutTransport) => l4 + 3,
            Some(Damage::LongHeader) => l3 + 20,
            _ => end,
        };
        match self.kind {
            IPV4 => word(l3 + 2, cut - l3),
            IPV6 => word(l3 + 4, cut - l3 - 40),
            _ => {}
        }
        for byte in &self.bytes {
            let start = match byte.layer {
                Layer::Two => l2,
                Layer::Three => l3,
                Layer::Four => l4,
            };
            if let Some(found) = bytes.get_mut(start + usize::from(byte.offset)) {
                *found = *found & !byte.mask | byte.value & byte.mask;
            }
        }
        match self.damage {
            Some(Damage::Version) => bytes[l3] ^= 0x30,
            Some(Damage::ShortHeader) => bytes[l3] = 0x44,
            Some(Damage::LongHeader) => bytes[l3] = 0x46,
            Some(Damage::BadTransport) if self.protocol == UDP => bytes[l4 + 5] = 7,
            Some(Damage::BadTransport) => bytes[l4 + 12] = 0x40,
            Some(Damage::Addresses) => bytes[l3 + 4] = 5,
            _ => {}
        }
    }
}

/// A port of the few that claims name, or beside them.
pub fn port(dice: &mut Dice) -> u16 {
    dice.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 53, 1000, 65535])
}
