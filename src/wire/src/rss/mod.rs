//! Receive side scaling: the Toeplitz hash and the one key that every Linecard driver uses.
//!
//! # The hash of a frame, exactly
//!
//! A flow must meet the same worker whatever computes the hash: a NIC, a fanout program in the
//! kernel, or this crate. So this is the rule for all of them:
//!
//! 1. Look through up to two VLAN tags (ethertypes 0x8100 and 0x88a8) and, in IPv6, up to eight
//!    extension headers (hop-by-hop 0, routing 43, fragment 44, AH 51, destination 60).
//! 2. The input is the source address and the destination address. For TCP, UDP and SCTP that is
//!    *not* a fragment, the source port and the destination port follow. A fragment is an IPv4
//!    packet with "more fragments" set or an offset other than zero (`word at 6 & 0x3fff != 0`),
//!    or an IPv6 packet with any Fragment header. The protocol number is not part of the input.
//! 3. Fold: the exclusive or of all 16-bit words of the input, in network byte order, is `f`.
//! 4. The hash is the exclusive or, over every bit `j` set in `f` (`j` = 0 is the *most*
//!    significant), of the key's window `0x6d5a6d5a.rotate_left(j)` ([`SYMMETRIC_WINDOWS`]).
//! 5. The queue is `hash % queues` ([`queue_for`]).
//!
//! A frame that is not IP, or whose IP header is malformed, has hash 0, so it goes to queue 0. One
//! whose layer 4 header is cut short or malformed is hashed over its addresses alone.
//!
//! # Why folding is allowed
//!
//! Toeplitz takes, for every input bit that is set, the 32 bits of the key that begin at that bit.
//! [`SYMMETRIC_KEY`] repeats every 16 bits, so the window depends only on the bit's place within
//! its 16-bit word, and two bits at the same place cancel. The hash is therefore a linear map of
//! the folded word, and exchanging source and destination cannot change it (Woo and Park, "Scalable
//! TCP session monitoring with symmetric receive-side scaling", 2012). The map has full rank: two
//! folded words never share a hash. Both halves of the 32-bit hash are equal, so it has 16 bits to
//! offer: enough for a queue, too few as the only hash of a flow table.

mod sys;
mod toeplitz;

pub use toeplitz::{Toeplitz, toeplitz};

use crate::{FlowKey, Layers};
use toeplitz::pick;

/// The length of a Toeplitz key: enough for IPv6 addresses and ports.
pub const KEY_LEN: usize = 40;

/// The key that makes the hash the same in both directions: 0x6d5a, repeated.
pub const SYMMETRIC_KEY: [u8; KEY_LEN] = {
    let mut key = [0x6d; KEY_LEN];
    let (pairs, _) = key.as_chunks_mut::<2>();
    let mut i = 0;
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    while i < pairs.len() {
        pairs[i][1] = 0x5a;
        i += 1;
    }
    key
};

/// What a set bit of the folded word adds to the hash, the most significant bit first. For those
/// who compute the hash where there are no tables, such as a socket filter.
pub const SYMMETRIC_WINDOWS: [u32; 16] = {
    let mut windows = [0; 16];
    let mut j = 0;
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    while j < 16 {
        windows[j] = 0x6d5a_6d5a_u32.rotate_left(j as u32);
        j += 1;
    }
    windows
};

/// The hash of each value of the upper byte of the folded word.
static UPPER: [u32; 256] = table(0);
/// The hash of each value of the lower byte.
static LOWER: [u32; 256] = table(8);

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn table(first: usize) -> [u32; 256] {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        let mut bit = 0;
        while bit < 8 {
            if value & (0x80 >> bit) != 0 {
                table[value] ^= SYMMETRIC_WINDOWS[first + bit];
            }
            bit += 1;
        }
        value += 1;
    }
    table
}

/// The Toeplitz hash of a flow under [`SYMMETRIC_KEY`], the same for both directions. Two table
/// look-ups; see the module for why that is enough.
#[inline]
pub fn symmetric_hash(key: &FlowKey) -> u32 {
    let [upper, lower] = key.folded().to_be_bytes();
    pick(&UPPER, upper.into()) ^ pick(&LOWER, lower.into())
}

/// The symmetric hash of a frame whose headers were found already; 0 if it is not IP.
#[inline]
pub fn frame_hash(frame: &[u8], layers: &Layers) -> u32 {
    FlowKey::from_layers(frame, layers).map_or(0, |key| symmetric_hash(&key))
}

/// Which of `queues` queues a hash selects: `hash % queues`, and 0 if there are none.
///
/// This stands for hardware's indirection table (RETA) with entry `i` set to `i % queues`. A NIC
/// takes the low bits of the hash as its index, so it gives `hash % reta_size % queues`, which is
/// the same whenever `queues` divides the size of the table, a power of two.
///
/// ```
/// assert_eq!(linecard_wire::queue_for(0x51cc_c178, 4), 0);
/// assert_eq!(linecard_wire::queue_for(0x51cc_c179, 4), 1);
/// assert_eq!(linecard_wire::queue_for(0x51cc_c179, 0), 0);
/// ```
#[inline]
pub const fn queue_for(hash: u32, queues: u16) -> u16 {
    match hash.checked_rem(queues as u32) {
        Some(queue) => queue as u16,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpProtocol;

    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    fn ports(src: u16, dst: u16) -> [u8; 4] {
        (u32::from(src) << 16 | u32::from(dst)).to_be_bytes()
    }

    #[test]
    fn the_symmetric_key_repeats() {
        assert!(SYMMETRIC_KEY.chunks(2).all(|pair| pair == [0x6d, 0x5a]));
        assert_eq!(SYMMETRIC_WINDOWS[0], 0x6d5a6d5a);
        assert_eq!(SYMMETRIC_WINDOWS[1], 0xdab4dab4);
    }

    #[test]
    fn the_map_has_full_rank() {
        let hash = |f: u16| UPPER[usize::from(f >> 8)] ^ LOWER[usize::from(f & 0xff)];
        let hashes: HashSet<u32> = (0..=u16::MAX).map(hash).collect();
        assert_eq!(hashes.len(), 65536);
        assert!(hashes.iter().all(|hash| hash >> 16 == hash & 0xffff));
    }

    #[test]
    fn a_pinned_value() {
        // Fold: c000^0201^c000^0202^04d2^0035 = 04e4. Written out so that other implementations
        // of the rule can be checked against it.
        let key = FlowKey::v4(
            [192, 0, 2, 1].into(),
            [192, 0, 2, 2].into(),
            IpProtocol::UDP,
            1234,
            53,
        );
        assert_eq!(key.folded(), 0x04e4);
        let by_windows = (0..16)
            .filter(|j| 0x04e4_u16 & (0x8000 >> j) != 0)
            .fold(0, |hash, j| hash ^ SYMMETRIC_WINDOWS[j]);
        assert_eq!(symmetric_hash(&key), by_windows);
        assert_eq!(symmetric_hash(&key), 0x61e461e4);
    }

    proptest! {
        #[test]
        fn folding_equals_plain_toeplitz_v4(
            src: [u8; 4], dst: [u8; 4], protocol: u8, a: u16, b: u16,
        ) {
            let protocol = IpProtocol([6, 17, 132, protocol][usize::from(protocol) % 4]);
            let key = FlowKey::v4(src.into(), dst.into(), protocol, a, b);
            let mut input: Vec<u8> = [src, dst].concat();
            let addresses = toeplitz(&SYMMETRIC_KEY, &input);
            prop_assert_eq!(symmetric_hash(&key.into_fragment()), addresses);
            if protocol.has_ports() {
                input.extend_from_slice(&ports(a, b));
            }
            prop_assert_eq!(symmetric_hash(&key), toeplitz(&SYMMETRIC_KEY, &input));
            prop_assert_eq!(symmetric_hash(&key), symmetric_hash(&key.reversed()));
        }

        #[test]
        fn folding_equals_plain_toeplitz_v6(src: [u8; 16], dst: [u8; 16], a: u16, b: u16) {
            let key = FlowKey::v6(src.into(), dst.into(), IpProtocol::TCP, a, b);
            let input = [&src[..], &dst[..], &ports(a, b)[..]].concat();
            prop_assert_eq!(symmetric_hash(&key), toeplitz(&SYMMETRIC_KEY, &input));
            prop_assert_eq!(symmetric_hash(&key), symmetric_hash(&key.reversed()));
        }

        #[test]
        fn a_queue_is_in_range(hash: u32, queues in 1u16..) {
            prop_assert!(queue_for(hash, queues) < queues);
        }
    }
}
