//! Answering an echo request where it lies (ICMP: RFC 792 and RFC 1122 section 3.2.2.6; ICMPv6:
//! RFC 4443 sections 4.1 and 4.2).

use crate::delta::update_u16;
use crate::{
    EtherType, Ethernet, Icmpv4, Icmpv4Mut, Icmpv6, Icmpv6Mut, IpProtocol, Ipv4, Ipv4Mut, Ipv6,
    Ipv6Mut, ParseError, icmpv4, icmpv6, swap_macs,
};
use core::fmt;
use core::net::Ipv4Addr;

/// The TTL or hop limit that a reply leaves with.
pub const REPLY_TTL: u8 = 64;

/// Which request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The identifier.
    pub ident: u16,
    /// The sequence number.
    pub seq: u16,
}

/// Why a frame was not answered. The frame is then untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EchoRefusal {
    /// A header is cut short or contradicts itself.
    Malformed(ParseError),
    /// Not an ICMP or ICMPv6 echo request.
    NotEchoRequest,
    /// A fragment: the request has to be put together first.
    Fragment,
    /// The IPv4 packet has options, or the IPv6 packet extension headers. Some of them must be
    /// reversed or recorded in a reply (RFC 1122 section 3.2.2.6), which is not done here.
    HasOptions,
    /// The IPv4 header checksum is wrong.
    BadIpChecksum,
    /// The ICMP or ICMPv6 checksum is wrong.
    BadIcmpChecksum,
    /// The MAC or IP source is not the address of one host (multicast, broadcast, unspecified,
    /// loopback): nobody to send the reply to.
    BadSource,
    /// The MAC or IP destination is not the address of one host, so it cannot be the source of
    /// the reply.
    BadDestination,
}

impl fmt::Display for EchoRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::NotEchoRequest => f.write_str("not an echo request"),
            Self::Fragment => f.write_str("a fragment"),
            Self::HasOptions => f.write_str("IP options or extension headers"),
            Self::BadIpChecksum => f.write_str("bad IP header checksum"),
            Self::BadIcmpChecksum => f.write_str("bad ICMP checksum"),
            Self::BadSource => f.write_str("the source is not one host"),
            Self::BadDestination => f.write_str("the destination is not one host"),
        }
    }
}

impl core::error::Error for EchoRefusal {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ParseError> for EchoRefusal {
    fn from(error: ParseError) -> Self {
        Self::Malformed(error)
    }
}

/// Turns a frame with an echo request into the reply, in place and with nothing but the necessary
/// bytes touched: MAC and IP addresses are exchanged, the type is set, TTL or hop limit becomes
/// [`REPLY_TTL`], and checksums are updated (RFC 1624), after those of the request were verified.
/// VLAN tags, DSCP, data and padding stay.
///
/// Whether the destination is *ours* is for the caller to know; here it need only be one host's.
/// The IPv4 identification is the request's: it is unique there for the same pair of hosts.
///
/// # Errors
/// Anything but a valid, whole, plain echo request from one host to one host, with the reason.
pub fn echo_reply(frame: &mut [u8]) -> Result<Echo, EchoRefusal> {
    let ethernet = Ethernet::parse(frame)?;
    let untagged = ethernet.untagged()?;
    if ethernet.src().is_multicast() {
        return Err(EchoRefusal::BadSource);
    }
    if ethernet.dst().is_multicast() {
        return Err(EchoRefusal::BadDestination);
    }
    let l2_len = untagged.l2_len();
    let echo = match untagged.ethertype() {
        EtherType::IPV4 => {
            let echo = check_v4(untagged.payload())?;
            reply_v4(frame.get_mut(l2_len..).unwrap_or_default())?;
            echo
        }
        EtherType::IPV6 => {
            let echo = check_v6(untagged.payload())?;
            reply_v6(frame.get_mut(l2_len..).unwrap_or_default())?;
            echo
        }
        _ => return Err(EchoRefusal::NotEchoRequest),
    };
    swap_macs(frame)?;
    Ok(echo)
}

fn check_v4(packet: &[u8]) -> Result<Echo, EchoRefusal> {
    let ip = Ipv4::parse(packet)?;
    let is_host = |a: Ipv4Addr| {
        !(a.is_multicast() || a.is_broadcast() || a.is_unspecified() || a.is_loopback())
    };
    if ip.protocol() != IpProtocol::ICMP {
        return Err(EchoRefusal::NotEchoRequest);
    }
    if !ip.checksum_ok() {
        return Err(EchoRefusal::BadIpChecksum);
    }
    if ip.is_fragment() {
        return Err(EchoRefusal::Fragment);
    }
    if !ip.options_bytes().is_empty() {
        return Err(EchoRefusal::HasOptions);
    }
    let icmp = Icmpv4::parse(ip.payload())?;
    if !icmp.is_echo_request() {
        return Err(EchoRefusal::NotEchoRequest);
    }
    if !is_host(ip.src()) {
        return Err(EchoRefusal::BadSource);
    }
    if !is_host(ip.dst()) {
        return Err(EchoRefusal::BadDestination);
    }
    if !icmp.checksum_ok() {
        return Err(EchoRefusal::BadIcmpChecksum);
    }
    Ok(Echo {
        ident: icmp.ident(),
        seq: icmp.seq(),
    })
}

fn check_v6(packet: &[u8]) -> Result<Echo, EchoRefusal> {
    let ip = Ipv6::parse(packet)?;
    let upper = ip.upper()?;
    if upper.protocol != IpProtocol::ICMPV6 {
        return Err(EchoRefusal::NotEchoRequest);
    }
    if upper.fragment.is_some() {
        return Err(EchoRefusal::Fragment);
    }
    if upper.ext_len != 0 {
        return Err(EchoRefusal::HasOptions);
    }
    let icmp = Icmpv6::parse(upper.payload)?;
    if !icmp.is_echo_request() {
        return Err(EchoRefusal::NotEchoRequest);
    }
    if ip.src().is_multicast() || ip.src().is_unspecified() || ip.src().is_loopback() {
        return Err(EchoRefusal::BadSource);
    }
    if ip.dst().is_multicast() || ip.dst().is_unspecified() || ip.dst().is_loopback() {
        return Err(EchoRefusal::BadDestination);
    }
    if !icmp.checksum_ok(ip.pseudo()) {
        return Err(EchoRefusal::BadIcmpChecksum);
    }
    Ok(Echo {
        ident: icmp.ident(),
        seq: icmp.seq(),
    })
}

/// The type and code word of an echo message, as the checksum sees it.
const fn word(kind: u8) -> u16 {
    u16::from_be_bytes([kind, 0])
}

fn reply_v4(packet: &mut [u8]) -> Result<(), ParseError> {
    let mut ip = Ipv4Mut::parse(packet)?;
    ip.swap();
    ip.rewrite_ttl(REPLY_TTL);
    let mut icmp = Icmpv4Mut::parse(ip.payload_mut())?;
    let (old, new) = (word(icmpv4::ECHO_REQUEST), word(icmpv4::ECHO_REPLY));
    let checksum = update_u16(icmp.checksum(), old, new);
    icmp.set_checksum(checksum);
    icmp.set_kind(icmpv4::ECHO_REPLY);
    if checksum == 0 {
        // ICMP has no pseudo header, so a reply can be all zeros, and then an update cannot tell
        // the two forms of zero apart (RFC 1624 section 3). The sum of the bytes can.
        icmp.fill_checksum();
    }
    Ok(())
}

fn reply_v6(packet: &mut [u8]) -> Result<(), ParseError> {
    let mut ip = Ipv6Mut::parse(packet)?;
    ip.swap();
    ip.set_hop_limit(REPLY_TTL);
    let mut icmp = Icmpv6Mut::parse(ip.payload_mut())?;
    let (old, new) = (word(icmpv6::ECHO_REQUEST), word(icmpv6::ECHO_REPLY));
    let checksum = update_u16(icmp.checksum(), old, new);
    icmp.set_checksum(checksum);
    icmp.set_kind(icmpv6::ECHO_REPLY);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;
    use crate::{EthernetHeader, EthernetMut, IcmpHeader, Ipv4Header, Ipv6Header, MacAddr};
    use core::net::Ipv6Addr;
    use proptest::prelude::*;
    use std::vec::Vec;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn request_v4(src: [u8; 4], dst: [u8; 4], options: &[u8], data: &[u8]) -> Vec<u8> {
        let mut frame = std::vec![0; 14 + 60 + 8 + data.len()];
        let ethernet = EthernetHeader::new(A, B, EtherType::IPV4);
        let mut ethernet = EthernetMut::emit(&mut frame, &ethernet).unwrap();
        let mut header = Ipv4Header::new(src.into(), dst.into(), IpProtocol::ICMP);
        header.set_ttl(3);
        let mut ip =
            Ipv4Mut::emit(ethernet.payload_mut(), &header, options, 8 + data.len()).unwrap();
        let echo = IcmpHeader::echo(icmpv4::ECHO_REQUEST, 0x1234, 7);
        let mut icmp = Icmpv4Mut::emit(ip.payload_mut(), &echo).unwrap();
        icmp.payload_mut().copy_from_slice(data);
        icmp.fill_checksum();
        frame
    }

    fn request_v6(src: Ipv6Addr, dst: Ipv6Addr, data: &[u8]) -> Vec<u8> {
        let mut frame = std::vec![0; 14 + 40 + 8 + data.len()];
        let ethernet = EthernetHeader::new(A, B, EtherType::IPV6);
        let mut ethernet = EthernetMut::emit(&mut frame, &ethernet).unwrap();
        let header = Ipv6Header::new(src, dst, IpProtocol::ICMPV6);
        let mut ip = Ipv6Mut::emit(ethernet.payload_mut(), &header, 8 + data.len()).unwrap();
        let pseudo = ip.pseudo();
        let echo = IcmpHeader::echo(icmpv6::ECHO_REQUEST, 0x1234, 7);
        let mut icmp = Icmpv6Mut::emit(ip.payload_mut(), &echo).unwrap();
        icmp.payload_mut().copy_from_slice(data);
        icmp.fill_checksum(pseudo);
        frame
    }

    #[test]
    fn a_real_request_gets_the_right_reply() {
        // Checked by hand: ICMP 0800 + 0007 + 0001 = 0808, complement f7f7; reply fff7.
        // IPv4: 4500 + 001c + 1c46 + 4000 + 4001 + (c000 + 0201 + c000 + 0202) = 2_6566 -> 6568.
        let mut frame = hex("020000000002 020000000001 0800
             4500 001c 1c46 4000 4001 9a97 c0000201 c0000202
             0800 f7f7 0007 0001");
        assert_eq!(echo_reply(&mut frame), Ok(Echo { ident: 7, seq: 1 }));
        let reply = hex("020000000001 020000000002 0800
             4500 001c 1c46 4000 4001 9a97 c0000202 c0000201
             0000 fff7 0007 0001");
        assert_eq!(frame, reply);
        // The reply is not a request: answering it would never end.
        assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::NotEchoRequest));
    }

    #[test]
    fn a_reply_of_all_zeros_has_the_right_zero() {
        let mut frame = request_v4([192, 0, 2, 1], [192, 0, 2, 2], &[], &[0; 8]);
        let mut icmp = Icmpv4Mut::parse(&mut frame[34..50]).unwrap();
        icmp.set_rest([0; 4]);
        icmp.fill_checksum();
        assert!(echo_reply(&mut frame).is_ok());
        let ip = Ipv4::parse(&frame[14..]).unwrap();
        let icmp = Icmpv4::parse(ip.payload()).unwrap();
        assert_eq!(icmp.checksum(), 0xffff);
        assert!(icmp.checksum_ok());
    }

    #[test]
    fn what_is_not_plain_is_refused_and_untouched() {
        let good = request_v4([192, 0, 2, 1], [192, 0, 2, 2], &[], b"data");
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = good.clone();
            change(&mut frame);
            let before = frame.clone();
            let refusal = echo_reply(&mut frame).unwrap_err();
            assert_eq!(frame, before);
            refusal
        };
        assert_eq!(refused(&|f| f[6] |= 1), EchoRefusal::BadSource);
        assert_eq!(refused(&|f| f[..6].fill(0xff)), EchoRefusal::BadDestination);
        assert_eq!(refused(&|f| f[13] = 0x06), EchoRefusal::NotEchoRequest);
        assert_eq!(refused(&|f| f[24] ^= 1), EchoRefusal::BadIpChecksum);
        assert_eq!(refused(&|f| f[45] ^= 1), EchoRefusal::BadIcmpChecksum);
        assert_eq!(refused(&|f| f[34] = 13), EchoRefusal::NotEchoRequest);
        assert_eq!(refused(&|f| f[35] = 1), EchoRefusal::NotEchoRequest);
        let truncated = ParseError::Truncated { need: 14, have: 13 };
        assert_eq!(
            refused(&|f| f.truncate(13)),
            EchoRefusal::Malformed(truncated)
        );
        let fragment = refused(&|f| {
            let mut ip = Ipv4Mut::parse(&mut f[14..]).unwrap();
            ip.set_fragment(0, true);
            ip.fill_checksum();
        });
        assert_eq!(fragment, EchoRefusal::Fragment);
    }

    #[test]
    fn only_hosts_are_answered() {
        for src in [[224, 0, 0, 1], [255; 4], [0; 4], [127, 0, 0, 1]] {
            let mut frame = request_v4(src, [192, 0, 2, 2], &[], b"");
            assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::BadSource));
            let mut frame = request_v4([192, 0, 2, 2], src, &[], b"");
            assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::BadDestination));
        }
        let host: Ipv6Addr = "2001:db8::1".parse().unwrap();
        for other in ["ff02::1", "::", "::1"] {
            let other = other.parse().unwrap();
            let mut frame = request_v6(other, host, b"");
            assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::BadSource));
            let mut frame = request_v6(host, other, b"");
            assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::BadDestination));
        }
        let mut frame = request_v4([192, 0, 2, 1], [192, 0, 2, 2], &[148, 4, 0, 0], b"");
        assert_eq!(echo_reply(&mut frame), Err(EchoRefusal::HasOptions));
    }

    proptest! {
        #[test]
        fn replies_are_valid(
            data in proptest::collection::vec(any::<u8>(), 0..100), src: u64, dst: u64,
        ) {
            let [src4, dst4] = [src, dst].map(|a| [10, a as u8, (a >> 8) as u8, (a >> 16) as u8]);
            let mut frame = request_v4(src4, dst4, &[], &data);
            prop_assert_eq!(echo_reply(&mut frame), Ok(Echo { ident: 0x1234, seq: 7 }));
            let ethernet = Ethernet::parse(&frame).unwrap();
            prop_assert_eq!((ethernet.src(), ethernet.dst()), (B, A));
            let ip = Ipv4::parse(ethernet.payload()).unwrap();
            prop_assert!(ip.checksum_ok());
            prop_assert_eq!((ip.src(), ip.dst(), ip.ttl()), (dst4.into(), src4.into(), 64));
            let icmp = Icmpv4::parse(ip.payload()).unwrap();
            prop_assert!(icmp.checksum_ok());
            prop_assert_eq!((icmp.kind(), icmp.payload()), (icmpv4::ECHO_REPLY, &data[..]));

            let prefix = 0x2001_0db8_u128 << 96;
            let [src6, dst6] = [src, dst].map(|a| Ipv6Addr::from(prefix | u128::from(a)));
            let mut frame = request_v6(src6, dst6, &data);
            prop_assert_eq!(echo_reply(&mut frame), Ok(Echo { ident: 0x1234, seq: 7 }));
            let ip = Ipv6::parse(&frame[14..]).unwrap();
            prop_assert_eq!((ip.src(), ip.dst(), ip.hop_limit()), (dst6, src6, 64));
            let icmp = Icmpv6::parse(ip.payload()).unwrap();
            prop_assert!(icmp.checksum_ok(ip.pseudo()));
            prop_assert_eq!((icmp.kind(), icmp.payload()), (icmpv6::ECHO_REPLY, &data[..]));
        }

        #[test]
        fn any_bytes_are_untouched_if_refused(bytes: Vec<u8>) {
            let mut frame = bytes.clone();
            if echo_reply(&mut frame).is_err() {
                prop_assert_eq!(frame, bytes);
            }
        }
    }
}
