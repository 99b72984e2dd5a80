//! IP protocol numbers (IANA "Assigned Internet Protocol Numbers").

use core::fmt;

use zerocopy::{Immutable, IntoBytes};

/// What an IP packet carries: IPv4's protocol and IPv6's next header field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options (an extension header).
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header (an extension header).
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header (an extension header).
    pub const FRAGMENT: Self = Self(44);
    /// Generic routing encapsulation.
    pub const GRE: Self = Self(47);
    /// IPsec encapsulating security payload.
    pub const ESP: Self = Self(50);
    /// IPsec authentication header (an extension header in IPv6).
    pub const AH: Self = Self(51);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Nothing follows (IPv6).
    pub const NO_NEXT: Self = Self(59);
    /// IPv6 destination options (an extension header).
    pub const DESTINATION: Self = Self(60);
    /// SCTP.
    pub const SCTP: Self = Self(132);

    /// Whether the protocol begins with two 16-bit ports that name a flow: TCP, UDP and SCTP.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// Whether this is an IPv6 extension header that is looked through.
    #[inline]
    pub const fn is_extension(self) -> bool {
        matches!(
            self,
            Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::AH | Self::DESTINATION
        )
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::HOP_BY_HOP => "hop-by-hop",
            Self::ICMP => "ICMP",
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::ROUTING => "routing",
            Self::FRAGMENT => "fragment",
            Self::GRE => "GRE",
            Self::ESP => "ESP",
            Self::AH => "AH",
            Self::ICMPV6 => "ICMPv6",
            Self::NO_NEXT => "no-next",
            Self::DESTINATION => "destination",
            Self::SCTP => "SCTP",
            Self(other) => return write!(f, "protocol {other}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn names_and_kinds() {
        assert_eq!(IpProtocol::SCTP.to_string(), "SCTP");
        assert_eq!(IpProtocol(200).to_string(), "protocol 200");
        assert_eq!((0..=255).filter(|n| IpProtocol(*n).has_ports()).count(), 3);
        assert_eq!(
            (0..=255).filter(|n| IpProtocol(*n).is_extension()).count(),
            5
        );
    }
}
