//! Incremental checksum update (RFC 1624, equation 3).
//!
//! A rewrite of a few header fields need not sum the whole packet again: the new checksum follows
//! from the old one and from the fields' old and new values, `HC' = ~(~HC + ~m + m')`. Equation 3
//! is used because the older form of RFC 1141 can yield a wrong zero.
//!
//! One case is left where it cannot know the right zero: when all covered bytes become zero (RFC
//! 1624 section 3). With an IP header or a pseudo header among them that cannot be; it can in an
//! ICMPv4 message, and [`crate::echo`] sees to it.

use crate::Sum;
use core::net::{Ipv4Addr, Ipv6Addr};

/// What a rewrite changes in the sum. Collected once, applied to every checksum that covers the
/// fields: an address change, for example, goes into the IPv4 header's and into TCP's.
///
/// Every field must lie at an even offset from the start of what is summed, as all fields of IP,
/// TCP, UDP and ICMP headers do.
///
/// ```
/// use linecard_wire::{Delta, checksum};
///
/// let mut words = [0x45, 0x00, 0x12, 0x34, 0x40, 0x11];
/// let before = checksum(&words);
/// words[2..4].copy_from_slice(&0xabcd_u16.to_be_bytes());
/// let after = Delta::new().u16(0x1234, 0xabcd).apply(before);
/// assert_eq!(after, checksum(&words));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Delta(Sum);

impl Delta {
    /// No change.
    #[inline]
    pub const fn new() -> Self {
        Self(Sum::new())
    }

    /// Adds the change of a 16-bit field.
    #[inline]
    pub fn u16(mut self, old: u16, new: u16) -> Self {
        self.0.add_u16(!old);
        self.0.add_u16(new);
        self
    }

    /// Adds the change of a 32-bit field.
    #[inline]
    pub fn u32(mut self, old: u32, new: u32) -> Self {
        self.0.add_u32(!old);
        self.0.add_u32(new);
        self
    }

    /// Adds the change of an IPv4 address.
    #[inline]
    pub fn ipv4(self, old: Ipv4Addr, new: Ipv4Addr) -> Self {
        self.u32(old.to_bits(), new.to_bits())
    }

    /// Adds the change of an IPv6 address.
    #[inline]
    pub fn ipv6(mut self, old: Ipv6Addr, new: Ipv6Addr) -> Self {
        self.0.add_bytes(&(!old.to_bits()).to_be_bytes());
        self.0.add_bytes(&new.octets());
        self
    }

    /// The new checksum that follows from the old one.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        let mut sum = self.0;
        sum.add_u16(!checksum);
        sum.checksum()
    }

    /// As [`Delta::apply`] for UDP (RFC 768): "no checksum" stays "no checksum", and a checksum of
    /// zero is written as `0xffff`.
    #[inline]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

/// The checksum after a 16-bit field changed from `old` to `new`.
#[inline]
pub fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    Delta::new().u16(old, new).apply(checksum)
}

/// The checksum after a 32-bit field changed from `old` to `new`.
#[inline]
pub fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    Delta::new().u32(old, new).apply(checksum)
}

/// The checksum after an IPv6 address changed from `old` to `new`.
#[inline]
pub fn update_ipv6(checksum: u16, old: Ipv6Addr, new: Ipv6Addr) -> u16 {
    Delta::new().ipv6(old, new).apply(checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::naive_checksum;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn rfc_1624_section_4_example() {
        // A field goes from 0x5555 to 0x3285, the old checksum is 0xdd2f: the result is 0x0000,
        // where RFC 1141 gives 0xffff.
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn udp_without_a_checksum_stays_without() {
        let delta = Delta::new().u16(0x5555, 0x3285);
        assert_eq!(delta.apply_udp(0), 0);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
    }

    fn words() -> impl Strategy<Value = Vec<u8>> {
        // The first byte is never zero, as in any IP header: over all zeros the two forms of
        // zero differ (RFC 1624 section 3).
        proptest::collection::vec(any::<u8>(), 32..80).prop_map(|mut bytes| {
            bytes.truncate(bytes.len() / 2 * 2);
            bytes[0] |= 0x40;
            bytes
        })
    }

    proptest! {
        #[test]
        fn equals_a_full_recomputation(bytes in words(), at in 1usize..8, long: u32, wide: u128) {
            let before = naive_checksum(&bytes);

            let mut changed = bytes.clone();
            let old = u16::from_be_bytes([bytes[at * 2], bytes[at * 2 + 1]]);
            changed[at * 2..][..2].copy_from_slice(&(long as u16).to_be_bytes());
            prop_assert_eq!(update_u16(before, old, long as u16), naive_checksum(&changed));

            let mut changed = bytes.clone();
            let old = u32::from_be_bytes(bytes[at * 2..][..4].try_into().unwrap());
            changed[at * 2..][..4].copy_from_slice(&long.to_be_bytes());
            prop_assert_eq!(update_u32(before, old, long), naive_checksum(&changed));
            prop_assert_eq!(
                Delta::new().ipv4(old.into(), long.into()).apply(before),
                naive_checksum(&changed)
            );

            let mut changed = bytes.clone();
            let old = u128::from_be_bytes(bytes[at * 2..][..16].try_into().unwrap());
            changed[at * 2..][..16].copy_from_slice(&wide.to_be_bytes());
            prop_assert_eq!(
                update_ipv6(before, old.into(), wide.into()),
                naive_checksum(&changed)
            );
        }
    }
}
