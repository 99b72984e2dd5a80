//! Rewriting: other addresses and ports on the way from the file to the wire.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use linecard_wire::{Delta, IpProtocol, L3, L4, Layers, MacAddr, parse_layers};

/// What to change in each frame. As text: `src-mac=02:00:00:00:00:01,10.0.0.0/8=192.0.0.0/8,port 80=8080`.
///
/// Addresses and ports are changed on both sides, addresses in ARP too; of several rules the first that fits an address or
/// port counts. Checksums of IPv4, TCP, UDP and ICMPv6 follow from the old ones: one that was wrong stays wrong by as much. What an ICMP
/// error quotes is left as it was, and so are the ports of SCTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    src_mac: Option<MacAddr>,
    dst_mac: Option<MacAddr>,
    nets4: Vec<Net<u32>>,
    nets6: Vec<Net<u128>>,
    ports: Vec<(u16, u16)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net<T> {
    from: T,
    to: T,
    mask: T,
}

impl Rewrite {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes a frame, as far as it goes.
    pub fn apply(&self, frame: &mut [u8]) {
        if let (Some(mac), Some(to)) = (self.dst_mac, frame.get_mut(..6)) {
            to.copy_from_slice(&mac.0);
        }
        if let (Some(mac), Some(to)) = (self.src_mac, frame.get_mut(6..12)) {
            to.copy_from_slice(&mac.0);
        }
        if self.nets4.is_empty() && self.nets6.is_empty() && self.ports.is_empty() {
            return;
        }
        let layers = parse_layers(frame);
        let at = layers.l3_offset();
        match layers.l3 {
            L3::Arp => {
                self.address4(frame, at + 14);
                self.address4(frame, at + 24);
            }
            L3::Ipv4 => {
                let (src, dst) = (self.address4(frame, at + 12), self.address4(frame, at + 16));
                let of = |delta: Delta, (old, new)| delta.u32(old, new);
                let delta = [src, dst].into_iter().flatten().fold(Delta::new(), of);
                fix(frame, at + 10, |sum| delta.apply(sum));
                self.transport(frame, &layers, delta);
            }
            L3::Ipv6 => {
                let (src, dst) = (self.address6(frame, at + 8), self.address6(frame, at + 24));
                let of =
                    |delta: Delta, (old, new): (u128, u128)| delta.ipv6(old.into(), new.into());
                let delta = [src, dst].into_iter().flatten().fold(Delta::new(), of);
                self.transport(frame, &layers, delta);
            }
            L3::Other => {}
        }
    }

    /// Ports, and the checksum behind the addresses that were changed.
    fn transport(&self, frame: &mut [u8], layers: &Layers, mut delta: Delta) {
        let at = layers.l4_offset();
        let first = match layers.l4 {
            L4::Tcp | L4::Udp | L4::Icmpv6 => true,
            // The first of several has the header and its checksum.
            L4::Fragment => is_first_fragment(frame, layers),
            _ => false,
        };
        if !first {
            return;
        }
        let is_udp = layers.protocol == IpProtocol::UDP;
        let checksum = match layers.protocol {
            IpProtocol::TCP => 16,
            IpProtocol::UDP => 6,
            IpProtocol::ICMPV6 => 2,
            _ => return,
        };
        if layers.protocol != IpProtocol::ICMPV6 {
            for port in [at, at + 2] {
                if let Some((old, new)) = self.port(frame, port) {
                    delta = delta.u16(old, new);
                }
            }
        }
        fix(frame, at + checksum, |sum| {
            if is_udp {
                delta.apply_udp(sum)
            } else {
                delta.apply(sum)
            }
        });
    }

    /// Changes an address; gives the old and the new one, if it did.
    fn address4(&self, frame: &mut [u8], at: usize) -> Option<(u32, u32)> {
        let bytes = frame.get_mut(at..)?.first_chunk_mut::<4>()?;
        let old = u32::from_be_bytes(*bytes);
        let net = self.nets4.iter().find(|net| old & net.mask == net.from)?;
        let new = old & !net.mask | net.to;
        *bytes = new.to_be_bytes();
        Some((old, new))
    }

    fn address6(&self, frame: &mut [u8], at: usize) -> Option<(u128, u128)> {
        let bytes = frame.get_mut(at..)?.first_chunk_mut::<16>()?;
        let old = u128::from_be_bytes(*bytes);
        let net = self.nets6.iter().find(|net| old & net.mask == net.from)?;
        let new = old & !net.mask | net.to;
        *bytes = new.to_be_bytes();
        Some((old, new))
    }

    fn port(&self, frame: &mut [u8], at: usize) -> Option<(u16, u16)> {
        let bytes = frame.get_mut(at..)?.first_chunk_mut::<2>()?;
        let old = u16::from_be_bytes(*bytes);
        let (_, new) = *self.ports.iter().find(|(from, _)| *from == old)?;
        *bytes = new.to_be_bytes();
        Some((old, new))
    }
}

fn fix(frame: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    let bytes = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    if let Some(bytes) = bytes {
        *bytes = change(u16::from_be_bytes(*bytes)).to_be_bytes();
    }
}

fn is_first_fragment(frame: &[u8], layers: &Layers) -> bool {
    // In IPv6 the offset is in the upper bits of the last header's second word, which is 8 bytes long.
    let (at, mask) = match layers.l3 {
        L3::Ipv4 => (layers.l3_offset() + 6, 0x1fff),
        _ => (layers.l4_offset().saturating_sub(6), 0xfff8),
    };
    let bytes = frame.get(at..).and_then(|rest| rest.first_chunk());
    bytes.is_some_and(|bytes| u16::from_be_bytes(*bytes) & mask == 0)
}

/// A rule that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewriteError {
    rule: String,
    what: &'static str,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}; a rule is src-mac=MAC, dst-mac=MAC, NET=NET (10.0.0.0/8=192.0.0.0/8) or port N=N, with commas in between",
            self.rule, self.what
        )
    }
}

impl std::error::Error for RewriteError {}

impl FromStr for Rewrite {
    type Err = RewriteError;

    fn from_str(text: &str) -> Result<Self, RewriteError> {
        let mut rewrite = Self::default();
        for rule in text.split(',') {
            rewrite.add(rule.trim()).map_err(|what| RewriteError {
                rule: rule.to_owned(),
                what,
            })?;
        }
        Ok(rewrite)
    }
}

impl Rewrite {
    fn add(&mut self, rule: &str) -> Result<(), &'static str> {
        let (from, to) = rule.split_once('=').ok_or("has no =")?;
        let (from, to) = (from.trim(), to.trim());
        let mac = || {
            to.parse()
                .map(Some)
                .map_err(|_| "has no MAC address behind the =")
        };
        match from {
            "src-mac" => self.src_mac = mac()?,
            "dst-mac" => self.dst_mac = mac()?,
            _ if from.starts_with("port") => {
                let number = |text: &str| text.trim().parse().map_err(|_| "has no port number");
                self.ports
                    .push((number(&from["port".len()..])?, number(to)?));
            }
            _ => match (net(from)?, net(to)?) {
                ((IpAddr::V4(from), bits), (IpAddr::V4(to), same)) if bits == same => {
                    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                    let (from, to) = (from.to_bits() & mask, to.to_bits() & mask);
                    self.nets4.push(Net { from, to, mask });
                }
                ((IpAddr::V6(from), bits), (IpAddr::V6(to), same)) if bits == same => {
                    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                    let (from, to) = (from.to_bits() & mask, to.to_bits() & mask);
                    self.nets6.push(Net { from, to, mask });
                }
                _ => return Err("has two nets that are not of the same size"),
            },
        }
        Ok(())
    }
}

fn net(text: &str) -> Result<(IpAddr, u32), &'static str> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "has no address")?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => bits
            .parse()
            .map_err(|_| "has no number of bits behind the /")?,
    };
    if bits > most {
        return Err("has more bits behind the / than the address");
    }
    Ok((address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linecard_wire::checksum;
    use proptest::prelude::*;

    #[test]
    fn rules_and_their_errors() {
        let rules = "src-mac=02:00:00:00:00:01, 10.0.0.0/8=192.0.0.0/8, fd00::/16=fd01::/16,port 80=8080,1.2.3.4=5.6.7.8";
        let rewrite: Rewrite = rules.parse().unwrap();
        assert_eq!(
            (rewrite.nets4.len(), rewrite.nets6.len(), &rewrite.ports[..]),
            (2, 1, &[(80, 8080)][..])
        );
        for (rule, what) in [
            ("", "no ="),
            ("src-mac=7", "MAC"),
            ("port x=1", "port number"),
            ("port 1=70000", "port number"),
            ("10.0.0.0/8=1.0.0.0/9", "same size"),
            ("10.0.0.0/8=::/8", "same size"),
            ("10.0.0.0/33=1.0.0.0/33", "more bits"),
            ("host=1.1.1.1", "no address"),
        ] {
            let error = rule.parse::<Rewrite>().unwrap_err().to_string();
            assert!(
                error.contains(what) && error.contains("src-mac=MAC"),
                "{error}"
            );
        }
    }

    /// An IPv4 datagram of UDP whose checksums are right.
    fn datagram(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let len = (8 + payload.len()) as u16;
        let mut udp = [
            ports.0.to_be_bytes(),
            ports.1.to_be_bytes(),
            len.to_be_bytes(),
            [0; 2],
        ]
        .concat();
        udp.extend(payload);
        let pseudo = [&src[..], &dst, &[0, 17], &len.to_be_bytes(), &udp].concat();
        let sum = match checksum(&pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let mut ip = vec![0x45, 0];
        ip.extend((20 + len).to_be_bytes());
        ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        ip.extend([src, dst].concat());
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0];
        frame.extend(ip);
        frame.extend(udp);
        frame
    }

    proptest! {
        #[test]
        fn what_is_rewritten_is_as_if_made_so(low: [u8; 3], dst: [u8; 4], port: u16, payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assume!(dst[0] != 10 && ![80, 8080].contains(&port));
            let [b, c, d] = low;
            let rewrite: Rewrite = "dst-mac=02:00:00:00:00:09,10.0.0.0/8=192.0.0.0/8,port 80=8080".parse().unwrap();
            let mut frame = datagram([10, b, c, d], dst, (80, port), &payload);
            rewrite.apply(&mut frame);
            prop_assert_eq!(frame, datagram([192, b, c, d], dst, (8080, port), &payload));
        }

        #[test]
        fn whatever_it_is_it_stays_as_long(mut frame in proptest::collection::vec(any::<u8>(), 0..100), kind in 0..4_usize) {
            let kinds = [[8, 0, 0x45], [0x86, 0xdd, 0x60], [8, 6, 0], [0x81, 0, 0]];
            if let Some(to) = frame.get_mut(12..15) {
                to.copy_from_slice(&kinds[kind]);
            }
            let rewrite: Rewrite = "0.0.0.0/0=10.0.0.0/0,::/0=fd00::/0,port 0=1".parse().unwrap();
            rewrite.apply(&mut frame);
        }
    }
}
