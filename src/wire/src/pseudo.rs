//! Pseudo headers: what TCP, UDP and ICMPv6 sum besides their own bytes.
//!
//! IPv4: RFC 768 and RFC 9293 section 3.1. IPv6: RFC 8200 section 8.1.

use crate::{IpProtocol, Sum};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The addresses of a pseudo header, already summed. A view of an IP packet gives it
/// ([`Ipv4Header::pseudo`](crate::Ipv4Header::pseudo),
/// [`Ipv6Header::pseudo`](crate::Ipv6Header::pseudo)); the view of the
/// upper protocol adds its number and length.
#[derive(Clone, Copy, Debug)]
pub struct Pseudo {
    addresses: Sum,
    v6: bool,
}

impl Pseudo {
    /// The pseudo header of an IPv4 packet.
    #[inline]
    pub fn v4(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        let mut addresses = Sum::new();
        addresses.add_u32(src.to_bits());
        addresses.add_u32(dst.to_bits());
        Self {
            addresses,
            v6: false,
        }
    }

    /// The pseudo header of an IPv6 packet. If there is a Routing header with segments left, `dst`
    /// is the final destination, not the one in the IPv6 header.
    #[inline]
    pub fn v6(src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        let mut addresses = Sum::of(&src.octets());
        addresses.add_bytes(&dst.octets());
        Self {
            addresses,
            v6: true,
        }
    }

    /// Whether this is an IPv6 pseudo header (where a UDP checksum is not optional).
    #[inline]
    pub const fn is_v6(self) -> bool {
        self.v6
    }

    /// The sum of the whole pseudo header, for `len` bytes of upper-layer header and data.
    #[inline]
    pub fn sum(self, protocol: IpProtocol, len: usize) -> Sum {
        // IPv4 has zero, protocol, 16-bit length; IPv6 a 32-bit length, three zeros, next header.
        // Both have the same sum for any length that IPv4 can say.
        let mut sum = self.addresses;
        sum.add_u32(len as u32);
        sum.add_u16(u16::from(protocol.0));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::naive_sum;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn v4_sums_the_twelve_bytes_of_rfc_768(src: u32, dst: u32, protocol: u8, len: u16) {
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&src.to_be_bytes());
            bytes.extend_from_slice(&dst.to_be_bytes());
            bytes.extend_from_slice(&[0, protocol]);
            bytes.extend_from_slice(&len.to_be_bytes());
            let pseudo = Pseudo::v4(src.into(), dst.into());
            let sum = pseudo.sum(IpProtocol(protocol), len.into());
            prop_assert_eq!(sum.fold(), naive_sum(&bytes));
        }

        #[test]
        fn v6_sums_the_forty_bytes_of_rfc_8200(src: u128, dst: u128, next: u8, len: u32) {
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&src.to_be_bytes());
            bytes.extend_from_slice(&dst.to_be_bytes());
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0, next]);
            let pseudo = Pseudo::v6(src.into(), dst.into());
            let sum = pseudo.sum(IpProtocol(next), len as usize);
            prop_assert_eq!(sum.fold(), naive_sum(&bytes));
        }
    }
}
