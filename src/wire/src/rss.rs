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

use crate::{FlowKey, Layers};

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

/// The Toeplitz hash of `input` under any key, as Microsoft's RSS defines it: the plain form, bit
/// by bit. The input is, in network byte order: source address, destination address, and, for
/// protocols with ports, source port and destination port. A key is long enough for that; for a
/// longer input it begins again.
///
/// ```
/// use linecard_wire::{SYMMETRIC_KEY, toeplitz};
///
/// let forth = [192, 0, 2, 1, 192, 0, 2, 2, 0x04, 0xd2, 0x00, 0x35];
/// let back = [192, 0, 2, 2, 192, 0, 2, 1, 0x00, 0x35, 0x04, 0xd2];
/// assert_eq!(toeplitz(&SYMMETRIC_KEY, &forth), toeplitz(&SYMMETRIC_KEY, &back));
/// ```
pub fn toeplitz(key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
    let mut following = key.iter().copied().cycle();
    let mut next_byte = || u64::from(following.next().unwrap_or_default());
    let mut window = 0;
    for _ in 0..4 {
        window = window << 8 | next_byte();
    }
    let mut hash = 0;
    for byte in input {
        // Forty bits: the window and the eight bits that move into it.
        window = (window << 8 | next_byte()) & 0xff_ffff_ffff;
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= (window >> (8 - bit)) as u32;
            }
        }
    }
    hash
}

/// The longest input of a [`Toeplitz`]: two IPv6 addresses and two ports.
const TUPLE_LEN: usize = 36;

/// The Toeplitz hash under one key, by tables: what each value of each byte of the input adds, which is
/// possible because the hash is linear. This is for keys that others have chosen, such as that of a NIC
/// whose hashes are to be foretold; what Linecard's own drivers compute is [`symmetric_hash`].
///
/// It has 36 KiB, of which IPv4 needs the first 12: make one for each key, not for each packet.
///
/// ```
/// use linecard_wire::rss::{SYMMETRIC_KEY, Toeplitz, toeplitz};
///
/// static RSS: Toeplitz = Toeplitz::new(&SYMMETRIC_KEY);
/// let input = [192, 0, 2, 1, 192, 0, 2, 2, 0x04, 0xd2, 0x00, 0x35];
/// assert_eq!(RSS.hash(&input), toeplitz(&SYMMETRIC_KEY, &input));
/// ```
#[derive(Clone)]
#[repr(align(64))]
pub struct Toeplitz {
    tables: [[u32; 256]; TUPLE_LEN],
}

impl Toeplitz {
    /// The tables of a key.
    #[allow(
        clippy::indexing_slicing,
        reason = "the loops end where the arrays do: five bytes of the key from 35 on are the last"
    )]
    pub const fn new(key: &[u8; KEY_LEN]) -> Self {
        let mut tables = [[0; 256]; TUPLE_LEN];
        let mut at = 0;
        while at < TUPLE_LEN {
            // Forty bits of the key: the windows of this byte's eight bits.
            let (mut windows, mut i) = (0_u64, 0);
            while i < 5 {
                windows = windows << 8 | key[at + i] as u64;
                i += 1;
            }
            let mut value = 1_usize;
            while value < 256 {
                // The lowest bit that is set, and the others, whose sum is known already.
                let window = (windows >> (1 + value.trailing_zeros())) as u32;
                tables[at][value] = tables[at][value & (value - 1)] ^ window;
                value += 1;
            }
            at += 1;
        }
        Self { tables }
    }

    /// The hash of an input in network byte order: source address, destination address and, for protocols
    /// with ports, source port and destination port. 36 bytes at most, which is known when it is compiled.
    #[inline(always)]
    pub fn hash<const N: usize>(&self, input: &[u8; N]) -> u32 {
        const { assert!(N <= TUPLE_LEN) };
        let (words, rest) = input.as_chunks::<4>();
        let (tables, last) = self.tables.as_chunks::<4>();
        let mut hash = 0;
        for (word, [a, b, c, d]) in words.iter().zip(tables) {
            // One load for four bytes: loads are what there are most of.
            let word = u32::from_le_bytes(*word);
            hash ^= pick(a, word) ^ pick(b, word >> 8) ^ pick(c, word >> 16) ^ pick(d, word >> 24);
        }
        let tables = tables.get(words.len()).map_or(last, |tables| tables);
        rest.iter().zip(tables).fold(hash, |hash, (byte, table)| {
            hash ^ pick(table, (*byte).into())
        })
    }
}

impl core::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Toeplitz")
    }
}

/// What the lowest byte of `word` adds.
#[inline(always)]
#[allow(
    clippy::indexing_slicing,
    reason = "a byte cannot exceed a table of 256"
)]
fn pick(table: &[u32; 256], word: u32) -> u32 {
    table[(word & 0xff) as usize]
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
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    /// The key of Microsoft's "Verifying the RSS hash calculation".
    const VERIFY_KEY: [u8; KEY_LEN] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn ports(src: u16, dst: u16) -> [u8; 4] {
        (u32::from(src) << 16 | u32::from(dst)).to_be_bytes()
    }

    static VERIFY: Toeplitz = Toeplitz::new(&VERIFY_KEY);

    /// The hash under the key of verification, by tables and bit by bit.
    fn both<const N: usize>(input: &[u8]) -> u32 {
        let hash = VERIFY.hash::<N>(input.try_into().unwrap());
        assert_eq!(hash, toeplitz(&VERIFY_KEY, input));
        hash
    }

    #[test]
    fn microsoft_ipv4_vectors() {
        // Destination, source, hash over addresses, hash over addresses and ports.
        let vectors = [
            (
                "161.142.100.80",
                1766,
                "66.9.149.187",
                2794,
                0x323e8fc2,
                0x51ccc178,
            ),
            (
                "65.69.140.83",
                4739,
                "199.92.111.2",
                14230,
                0xd718262a,
                0xc626b0ea,
            ),
            (
                "12.22.207.184",
                38024,
                "24.19.198.95",
                12898,
                0xd2d0a5de,
                0x5c2b394a,
            ),
            (
                "209.142.163.6",
                2217,
                "38.27.205.30",
                48228,
                0x82989176,
                0xafc7327f,
            ),
            (
                "202.188.127.2",
                1303,
                "153.39.163.191",
                44251,
                0x5d1809c5,
                0x10e828a2,
            ),
        ];
        for (dst, dst_port, src, src_port, addresses, with_ports) in vectors {
            let [src, dst]: [Ipv4Addr; 2] = [src.parse().unwrap(), dst.parse().unwrap()];
            let mut input = [src.octets(), dst.octets()].concat();
            assert_eq!(both::<8>(&input), addresses);
            input.extend_from_slice(&ports(src_port, dst_port));
            assert_eq!(both::<12>(&input), with_ports);
        }
    }

    #[test]
    fn microsoft_ipv6_vectors() {
        let vectors = [
            (
                "3ffe:2501:200:3::1",
                1766,
                "3ffe:2501:200:1fff::7",
                2794,
                0x2cc18cd5,
                0x40207d3d,
            ),
            (
                "ff02::1",
                4739,
                "3ffe:501:8::260:97ff:fe40:efab",
                14230,
                0x0f0c461c,
                0xdde51bbf,
            ),
            (
                "fe80::200:f8ff:fe21:67cf",
                38024,
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                0x4b61e985,
                0x02d1feef,
            ),
        ];
        for (dst, dst_port, src, src_port, addresses, with_ports) in vectors {
            let [src, dst]: [Ipv6Addr; 2] = [src.parse().unwrap(), dst.parse().unwrap()];
            let mut input = [src.octets(), dst.octets()].concat();
            assert_eq!(both::<32>(&input), addresses);
            input.extend_from_slice(&ports(src_port, dst_port));
            assert_eq!(both::<36>(&input), with_ports);
        }
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
        fn tables_equal_plain_toeplitz(key: [u8; 20], input: [u8; 36]) {
            let key: [u8; KEY_LEN] = [key, key.map(|byte| byte.wrapping_mul(41))].concat().try_into().unwrap();
            let tables = Toeplitz::new(&key);
            prop_assert_eq!(tables.hash(&input), toeplitz(&key, &input));
            // A length that is not one of whole words.
            prop_assert_eq!(tables.hash::<7>(input.first_chunk().unwrap()), toeplitz(&key, &input[..7]));
            prop_assert_eq!(tables.hash::<0>(&[]), 0);
        }

        #[test]
        fn a_queue_is_in_range(hash: u32, queues in 1u16..) {
            prop_assert!(queue_for(hash, queues) < queues);
        }
    }
}
