//! Neighbour discovery (RFC 4861): solicitations and advertisements, and the addresses that go with
//! them. Router discovery and redirects are not read here.

use crate::bytes::Header;
use crate::icmpv4::HEADER_LEN;
use crate::icmpv6::{NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION};
use crate::{EmitError, IcmpHeader, Icmpv6, Icmpv6Mut, MacAddr, ParseError};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The hop limit of every neighbour discovery message: proof that no router forwarded it.
pub const HOP_LIMIT: u8 = 255;
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The length of a message with a link-layer address and without one.
pub const MESSAGE_LEN: usize = BARE_LEN + OPTION_LEN;
/// The length of a message without options.
pub const BARE_LEN: usize = HEADER_LEN + 16;

const OPTION_LEN: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// The flags of an advertisement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighborFlags {
    /// The sender is a router.
    pub router: bool,
    /// The answer to a solicitation.
    pub solicited: bool,
    /// What is known already may be replaced.
    pub replace: bool,
}

impl NeighborFlags {
    fn to_rest(self) -> [u8; 4] {
        let bits = u8::from(self.router) << 7
            | u8::from(self.solicited) << 6
            | u8::from(self.replace) << 5;
        [bits, 0, 0, 0]
    }
}

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborMessage {
    /// [`NEIGHBOR_SOLICITATION`] or [`NEIGHBOR_ADVERTISEMENT`].
    pub kind: u8,
    /// All false in a solicitation.
    pub flags: NeighborFlags,
    /// Who is asked for, or whose address is told.
    pub target: Ipv6Addr,
    /// The link-layer address: the sender's in a solicitation, the target's in an advertisement.
    pub mac: Option<MacAddr>,
}

impl NeighborMessage {
    /// Reads a message that was found to be of one of the two types. What RFC 4861 sections 7.1.1 and
    /// 7.1.2 say about the message alone is checked; hop limit, checksum and addresses are the
    /// caller's.
    ///
    /// # Errors
    /// A message or an option that is cut short, an option of length zero, or another type or code.
    pub fn parse(icmp: &Icmpv6<'_>) -> Result<Self, ParseError> {
        let kind = icmp.kind();
        let known = matches!(kind, NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT);
        if !known || icmp.code() != 0 {
            return Err(ParseError::BadOption { kind });
        }
        let (target, options) = <[u8; 16]>::cut(icmp.payload())?;
        let [bits, ..] = icmp.rest();
        let advertisement = kind == NEIGHBOR_ADVERTISEMENT;
        let bit = |n: u8| advertisement && bits >> n & 1 == 1;
        let wanted = if advertisement {
            TARGET_LINK_LAYER
        } else {
            SOURCE_LINK_LAYER
        };
        Ok(Self {
            kind,
            flags: NeighborFlags {
                router: bit(7),
                solicited: bit(6),
                replace: bit(5),
            },
            target: (*target).into(),
            mac: link_layer(options, wanted)?,
        })
    }

    /// The length of the message on the wire.
    pub fn wire_len(&self) -> usize {
        if self.mac.is_some() {
            MESSAGE_LEN
        } else {
            BARE_LEN
        }
    }

    /// Writes the message to the front of `buf`, whose length must be [`wire_len`](Self::wire_len). The
    /// checksum is left to be filled in.
    ///
    /// # Errors
    /// [`EmitError::NoRoom`] if `buf` is too short.
    pub fn emit<'a>(&self, buf: &'a mut [u8]) -> Result<Icmpv6Mut<'a>, EmitError> {
        let need = self.wire_len();
        let have = buf.len();
        let header = IcmpHeader::new(self.kind, 0, self.flags.to_rest());
        let mut icmp = Icmpv6Mut::emit(buf, &header)?;
        let no_room = EmitError::NoRoom { need, have };
        let (target, rest) = icmp
            .payload_mut()
            .split_first_chunk_mut::<16>()
            .ok_or(no_room)?;
        *target = self.target.octets();
        if let Some(mac) = self.mac {
            let option = rest.first_chunk_mut::<OPTION_LEN>().ok_or(no_room)?;
            let kind = if self.kind == NEIGHBOR_ADVERTISEMENT {
                TARGET_LINK_LAYER
            } else {
                SOURCE_LINK_LAYER
            };
            let [a, b, c, d, e, g] = mac.0;
            *option = [kind, 1, a, b, c, d, e, g];
        }
        Ok(icmp)
    }
}

/// The address in the first option of this kind. Every option must have a length that is not zero and
/// lies within the message; others are passed over.
fn link_layer(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, ParseError> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let bad = ParseError::BadOption { kind };
        let (option, rest) = match units {
            0 => return Err(bad),
            _ => options
                .split_at_checked(usize::from(units) * 8)
                .ok_or(bad)?,
        };
        if kind == wanted
            && found.is_none()
            && let [_, 1, a, b, c, d, e, g] = *option
        {
            found = Some(MacAddr([a, b, c, d, e, g]));
        }
        options = rest;
    }
    match *options {
        [] => Ok(found),
        [kind, ..] => Err(ParseError::BadOption { kind }),
    }
}

/// The solicited-node multicast address of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0x00ff_ffff)
}

/// The link-local address that follows from an Ethernet address (RFC 4291 appendix A, RFC 2464).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, g] = mac.0;
    let ident = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, g]);
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(ident))
}

/// Where frames to a multicast address go: RFC 1112 section 6.4 and RFC 2464 section 7. The IPv4
/// broadcast address goes to everybody.
pub fn multicast_mac(address: IpAddr) -> MacAddr {
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => MacAddr::BROADCAST,
        IpAddr::V4(v4) => {
            let [_, b, c, d] = v4.octets();
            MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            MacAddr([0x33, 0x33, a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0xaa, 0xbb, 0xcc]);

    fn parse(text: &str) -> Result<NeighborMessage, ParseError> {
        let bytes = hex(text);
        NeighborMessage::parse(&Icmpv6::parse(&bytes).unwrap())
    }

    #[test]
    fn reads_a_solicitation_and_an_advertisement() {
        let message =
            parse("87 00 0000 00000000 20010db8000000000000000000000001 0101020000aabbcc");
        let message = message.unwrap();
        assert_eq!(message.kind, NEIGHBOR_SOLICITATION);
        assert_eq!(message.target, "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(message.mac, Some(MAC));
        let text = "88 00 0000 60000000 20010db8000000000000000000000001
             0e01000102030405 0201020000aabbcc 0201ffffffffffff";
        let message = parse(text).unwrap();
        let want = NeighborFlags {
            router: false,
            solicited: true,
            replace: true,
        };
        // A nonce option before it is passed over; a second address does not count.
        assert_eq!((message.flags, message.mac), (want, Some(MAC)));
    }

    #[test]
    fn options_that_lie_about_their_length_refuse_the_message() {
        let target = "20010db8000000000000000000000001";
        for option in [
            "0100020000aabbcc",
            "0102020000aabbcc",
            "01",
            "0101020000aabbcc 01",
        ] {
            let message = std::format!("87 00 0000 00000000 {target} {option}");
            assert_eq!(parse(&message), Err(ParseError::BadOption { kind: 1 }));
        }
        // An address of another length is none.
        let long = std::format!("87 00 0000 00000000 {target} 0102020000aabbcc0000000000000000");
        assert_eq!(parse(&long).unwrap().mac, None);
        assert!(parse("87 00 0000 00000000 2001").is_err());
        assert!(parse(&std::format!("87 01 0000 00000000 {target}")).is_err());
    }

    #[test]
    fn addresses_follow_from_addresses() {
        let address = "2001:db8::1234:5678".parse().unwrap();
        let group = solicited_node(address);
        assert_eq!(group, "ff02::1:ff34:5678".parse::<Ipv6Addr>().unwrap());
        let mac = multicast_mac(group.into());
        assert_eq!(mac, MacAddr([0x33, 0x33, 0xff, 0x34, 0x56, 0x78]));
        let v4 = multicast_mac(IpAddr::V4(Ipv4Addr::new(224, 129, 2, 3)));
        assert_eq!(v4, MacAddr([0x01, 0x00, 0x5e, 0x01, 2, 3]));
        let broadcast = multicast_mac(IpAddr::V4(Ipv4Addr::BROADCAST));
        assert!(broadcast.is_broadcast());
        let local = link_local(MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
        assert_eq!(
            local,
            "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap()
        );
    }

    proptest! {
        #[test]
        fn emit_then_parse(
            na: bool, router: bool, solicited: bool, replace: bool, target: u128,
            mac: Option<[u8; 6]>,
        ) {
            let flags = NeighborFlags { router, solicited, replace };
            let message = NeighborMessage {
                kind: if na { NEIGHBOR_ADVERTISEMENT } else { NEIGHBOR_SOLICITATION },
                flags: if na { flags } else { NeighborFlags::default() },
                target: target.into(),
                mac: mac.map(MacAddr),
            };
            let mut buf = std::vec![0xee; message.wire_len()];
            prop_assert!(message.emit(&mut buf[1..]).is_err());
            message.emit(&mut buf).unwrap();
            prop_assert_eq!(NeighborMessage::parse(&Icmpv6::parse(&buf).unwrap()), Ok(message));
        }

        #[test]
        fn any_bytes(na: bool, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let kind = if na { NEIGHBOR_ADVERTISEMENT } else { NEIGHBOR_SOLICITATION };
            let mut bytes: Vec<u8> = std::vec![kind, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend_from_slice(&body);
            if NeighborMessage::parse(&Icmpv6::parse(&bytes).unwrap()).is_ok() {
                prop_assert!(body.len() >= 16 && body.len() % 8 == 0);
            }
        }
    }
}
