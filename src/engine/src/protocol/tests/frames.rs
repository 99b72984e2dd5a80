//! Frames of every kind that claims tell apart.

use linecard_hal::{Mbuf, Mempool};

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const ARP: u16 = 0x0806;

/// What a frame is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) vlan: Option<u16>,
    pub(super) kind: u16,
    pub(super) protocol: u8,
    pub(super) fragment: bool,
    pub(super) ports: (u16, u16),
    /// IPv4 options, or an IPv6 extension header.
    pub(super) long: bool,
    /// Bytes behind the packet.
    pub(super) padding: usize,
    pub(super) fill: u8,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            vlan: None,
            kind: IPV4,
            protocol: 17,
            fragment: false,
            ports: (1, 1),
            long: false,
            padding: 0,
            fill: 0,
        }
    }
}

/// A frame, and what is in it by construction.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) spec: Spec,
    pub(super) bytes: Vec<u8>,
    pub(super) l3: usize,
    pub(super) l4: usize,
    pub(super) end: usize,
}

/// Bytes of layer 4.
const L4: usize = 64;

impl Spec {
    /// UDP in IPv4.
    pub(super) fn udp(dst_port: u16) -> Self {
        Self {
            ports: (1, dst_port),
            ..Self::default()
        }
    }

    pub(super) fn is_ip(&self) -> bool {
        self.kind == IPV4 || self.kind == IPV6
    }

    /// Whether such a frame can be: extension headers of IPv6 are looked through.
    pub(super) fn can_be(&self) -> bool {
        let extension = matches!(self.protocol, 0 | 43 | 44 | 51 | 60);
        self.kind != IPV6 || self.fragment || !extension
    }

    pub(super) fn make(self) -> Made {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if let Some(vlan) = self.vlan {
            bytes.extend([0x81, 0x00, (vlan >> 8) as u8 | 0x60, vlan as u8]);
        }
        bytes.extend(self.kind.to_be_bytes());
        let l3 = bytes.len();
        match self.kind {
            IPV4 => self.ipv4(&mut bytes),
            IPV6 => self.ipv6(&mut bytes),
            ARP => bytes.extend([0, 1, 8, 0, 6, 4, 0, 1]),
            _ => {}
        }
        let l4 = bytes.len();
        let mut end = l4 + L4;
        bytes.resize(end, self.fill);
        if self.is_ip() && !self.fragment {
            self.transport(&mut bytes[l4..]);
        } else if !self.is_ip() {
            end += self.padding;
        }
        bytes.resize(l4 + L4 + self.padding, 0xee);
        Made {
            spec: self,
            bytes,
            l3,
            l4,
            end,
        }
    }

    fn ipv4(self, bytes: &mut Vec<u8>) {
        let options = usize::from(self.long) * 4;
        let fragment = if self.fragment { 0x20b9u16 } else { 0 };
        bytes.extend([0x45 + u8::from(self.long), 0]);
        bytes.extend(((20 + options + L4) as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0, 10, 1, 2, 3, 10, 1, 2, 4]);
        bytes.resize(bytes.len() + options, 1);
    }

    fn ipv6(self, bytes: &mut Vec<u8>) {
        let mut extensions = Vec::new();
        let innermost = if self.fragment { 44 } else { self.protocol };
        let first = if self.long { 60 } else { innermost };
        if self.long {
            extensions.extend([innermost, 0, 1, 4, 0, 0, 0, 0]);
        }
        if self.fragment {
            extensions.extend([self.protocol, 0, 0, 0x09, 0, 0, 0, 7]);
        }
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend(((extensions.len() + L4) as u16).to_be_bytes());
        bytes.extend([first, 64]);
        for last in [1, 2] {
            bytes.extend([
                0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
            ]);
        }
        bytes.extend(extensions);
    }

    fn transport(self, l4: &mut [u8]) {
        if matches!(self.protocol, 6 | 17 | 132) {
            l4[..2].copy_from_slice(&self.ports.0.to_be_bytes());
            l4[2..4].copy_from_slice(&self.ports.1.to_be_bytes());
        }
        match self.protocol {
            17 => l4[4..6].copy_from_slice(&(L4 as u16).to_be_bytes()),
            6 => l4[12] = 0x50 | l4[12] & 0x0f,
            _ => {}
        }
    }
}

/// An mbuf with these bytes, as received by port 0.
pub(super) fn mbuf(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.append(bytes.len()).unwrap().copy_from_slice(bytes);
    mbuf.set_port(0);
    mbuf
}
