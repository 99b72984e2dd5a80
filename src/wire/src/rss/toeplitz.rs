//! The Toeplitz hash under any key: bit by bit, by tables, and by vectors.

use super::KEY_LEN;
use super::sys::{BLOCKS, Vectors, blocks};

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
pub(super) const TUPLE_LEN: usize = 36;

/// The Toeplitz hash under one key, made ready. This is for keys that others have chosen, such as that of a
/// NIC whose hashes are to be foretold; what Linecard's own drivers compute is
/// [`symmetric_hash`](super::symmetric_hash).
///
/// The hash is linear, so it is the sum of what each byte of the input adds. On an x86-64 with AVX-512 and GFNI
/// a byte is multiplied by matrices of bits, 64 bytes in one instruction; elsewhere, and without the feature
/// `std`, by which such a processor is found, it is looked up in tables. The hashes are the same.
///
/// It has 36 KiB: make one for each key, not for each packet.
///
/// ```
/// use linecard_wire::rss::{SYMMETRIC_KEY, Toeplitz, toeplitz};
///
/// static RSS: Toeplitz = Toeplitz::new(&SYMMETRIC_KEY);
/// let input = [192, 0, 2, 1, 192, 0, 2, 2, 0x04, 0xd2, 0x00, 0x35];
/// assert_eq!(RSS.hash(&input), toeplitz(&SYMMETRIC_KEY, &input));
///
/// let mut hashes = [0; 2];
/// RSS.hash_burst(&[&input, &input], &mut hashes);
/// assert_eq!(hashes, [RSS.hash(&input); 2]);
/// ```
#[derive(Clone)]
#[repr(align(64))]
pub struct Toeplitz {
    tables: [[u32; 256]; TUPLE_LEN],
    blocks: [u64; BLOCKS],
}

impl Toeplitz {
    /// The tables and the matrices of a key.
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
        let blocks = blocks(key);
        Self { tables, blocks }
    }

    /// The hash of an input in network byte order: source address, destination address and, for protocols
    /// with ports, source port and destination port. 36 bytes at most, which is known when it is compiled.
    #[inline(always)]
    pub fn hash<const N: usize>(&self, input: &[u8; N]) -> u32 {
        const { assert!(N <= TUPLE_LEN) };
        match Vectors::found() {
            Some(vectors) => vectors.hash(&self.blocks, input),
            None => self.by_tables(input),
        }
    }

    /// The hashes of many inputs, as far as both reach: with vectors nearly twice as fast as one by one.
    #[inline]
    pub fn hash_burst<const N: usize>(&self, inputs: &[&[u8; N]], hashes: &mut [u32]) {
        const { assert!(N <= TUPLE_LEN) };
        match Vectors::found() {
            Some(vectors) => vectors.hash_burst(&self.blocks, inputs, hashes),
            None => {
                for (input, hash) in inputs.iter().zip(hashes) {
                    *hash = self.by_tables(input);
                }
            }
        }
    }

    #[inline(always)]
    fn by_tables<const N: usize>(&self, input: &[u8; N]) -> u32 {
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
pub(super) fn pick(table: &[u32; 256], word: u32) -> u32 {
    table[(word & 0xff) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;
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

    /// The hash by every form there is, which must agree. Forms that this processor has not are left out.
    fn every<const N: usize>(hashes: &Toeplitz, key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
        let hash = toeplitz(key, input);
        let input: &[u8; N] = input.try_into().unwrap();
        assert_eq!((hashes.by_tables(input), hashes.hash(input)), (hash, hash));
        if let Some(vectors) = Vectors::found() {
            assert_eq!(vectors.hash(&hashes.blocks, input), hash);
        }
        let mut burst = [!hash; 3];
        hashes.hash_burst(&[input; 2], &mut burst);
        assert_eq!(burst, [hash, hash, !hash]);
        hash
    }

    /// The hash under the key of verification.
    fn verified<const N: usize>(input: &[u8]) -> u32 {
        every::<N>(&VERIFY, &VERIFY_KEY, input)
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
            assert_eq!(verified::<8>(&input), addresses);
            input.extend_from_slice(&ports(src_port, dst_port));
            assert_eq!(verified::<12>(&input), with_ports);
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
            assert_eq!(verified::<32>(&input), addresses);
            input.extend_from_slice(&ports(src_port, dst_port));
            assert_eq!(verified::<36>(&input), with_ports);
        }
    }

    proptest! {
        #[test]
        fn every_form_equals_the_plain_one(key: [[u8; 20]; 2], input: [u8; 36]) {
            let key = key.as_flattened().try_into().unwrap();
            let hashes = Toeplitz::new(&key);
            every::<36>(&hashes, &key, &input);
            every::<32>(&hashes, &key, &input[..32]);
            every::<12>(&hashes, &key, &input[..12]);
            every::<8>(&hashes, &key, &input[..8]);
            // Lengths that are not of whole words, and those that end near the boundary of a vector's part.
            every::<31>(&hashes, &key, &input[..31]);
            every::<13>(&hashes, &key, &input[..13]);
            every::<7>(&hashes, &key, &input[..7]);
            every::<1>(&hashes, &key, &input[..1]);
            prop_assert_eq!(every::<0>(&hashes, &key, &[]), 0);
        }

        #[test]
        fn a_burst_has_the_hash_of_each(
            inputs in prop::collection::vec(any::<[u8; 12]>(), 0..40),
            room in 0..40_usize,
        ) {
            let inputs: Vec<&[u8; 12]> = inputs.iter().collect();
            let mut hashes: Vec<u32> = (0..room as u32).collect();
            let mut expected = hashes.clone();
            for (input, hash) in inputs.iter().zip(&mut expected) {
                *hash = toeplitz(&VERIFY_KEY, *input);
            }
            VERIFY.hash_burst(&inputs, &mut hashes);
            prop_assert_eq!(hashes, expected);
        }
    }
}
