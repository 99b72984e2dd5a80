//! The Toeplitz hash of IPv4 and IPv6 addresses and ports: under any key, in bursts and one by one, and folded
//! under the symmetric one.
//!
//! `benches/flows` runs this beside DPDK's. See `benches/README.md` for the method.

mod support;

use std::hint::black_box;

use linecard_wire::rss::{KEY_LEN, Toeplitz};
use linecard_wire::{FlowKey, IpProtocol, symmetric_hash};
use support::mix;

const CHUNKS: usize = 1001;
const TUPLES: usize = 2048;
const BURST: usize = 32;

/// That of Microsoft's "Verifying the RSS hash calculation".
static RSS: Toeplitz = Toeplitz::new(&KEY);
const KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Addresses and ports in network byte order, then nothing.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Tuple([u8; 64]);

fn main() {
    support::quiet_or_say_so();
    support::pin(1);
    let nothing = vec![Tuple([0; 64]); TUPLES];
    time(
        "ipv4",
        "bulk",
        nothing.clone(),
        any_tuple,
        hash_bursts::<12>,
    );
    time(
        "ipv6",
        "bulk",
        nothing.clone(),
        any_tuple,
        hash_bursts::<36>,
    );
    time(
        "ipv4",
        "linecard",
        nothing.clone(),
        any_tuple,
        hash_all::<12>,
    );
    time("ipv6", "linecard", nothing, any_tuple, hash_all::<36>);
    let keys = vec![any_v4(&mut 0); TUPLES];
    time("ipv4", "symmetric", keys.clone(), any_v4, symmetric_all);
    time("ipv6", "symmetric", keys, any_v6, symmetric_all);
}

/// The references are made here, DPDK has its pointers ready.
#[inline(never)]
fn hash_bursts<const N: usize>(tuples: &[Tuple], hashes: &mut [u32]) {
    let (bursts, _) = tuples.as_chunks::<BURST>();
    for (tuples, hashes) in bursts.iter().zip(hashes.chunks_mut(BURST)) {
        let inputs = tuples
            .each_ref()
            .map(|Tuple(tuple)| tuple.first_chunk().unwrap());
        RSS.hash_burst::<N>(&inputs, hashes);
    }
}

#[inline(never)]
fn hash_all<const N: usize>(tuples: &[Tuple], hashes: &mut [u32]) {
    for (Tuple(tuple), hash) in tuples.iter().zip(hashes) {
        *hash = RSS.hash::<N>(tuple.first_chunk().unwrap());
    }
}

#[inline(never)]
fn symmetric_all(keys: &[FlowKey], hashes: &mut [u32]) {
    for (key, hash) in keys.iter().zip(hashes) {
        *hash = symmetric_hash(key);
    }
}

fn any_tuple(random: &mut u64) -> Tuple {
    let mut tuple = Tuple([0; 64]);
    for word in tuple.0.as_chunks_mut::<8>().0.iter_mut().take(5) {
        *word = next(random).to_le_bytes();
    }
    tuple
}

fn any_v4(random: &mut u64) -> FlowKey {
    let (addresses, ports) = (next(random), next(random));
    let (src, dst) = (addresses as u32, (addresses >> 32) as u32);
    FlowKey::v4(
        src.into(),
        dst.into(),
        IpProtocol::TCP,
        ports as u16,
        (ports >> 16) as u16,
    )
}

fn any_v6(random: &mut u64) -> FlowKey {
    let [src, dst] = [(); 2].map(|()| u128::from(next(random)) << 64 | u128::from(next(random)));
    let ports = next(random);
    FlowKey::v6(
        src.into(),
        dst.into(),
        IpProtocol::TCP,
        ports as u16,
        (ports >> 16) as u16,
    )
}

fn next(random: &mut u64) -> u64 {
    *random = mix(*random);
    *random
}

/// One figure on one line: cycles a hash, the median of [`CHUNKS`], each of other inputs that were made
/// just before; and a sum of all hashes, which is the same as the C program's for the same inputs.
fn time<T>(
    what: &str,
    whose: &str,
    mut inputs: Vec<T>,
    any: impl Fn(&mut u64) -> T,
    work: impl Fn(&[T], &mut [u32]),
) {
    let (mut hashes, mut random, mut sum) = (vec![0; TUPLES], 1, 0_u32);
    let mut each = [0; CHUNKS];
    for i in 0..CHUNKS + 20 {
        inputs.fill_with(|| any(&mut random));
        let start = support::cycles();
        work(black_box(&inputs), black_box(&mut hashes));
        each[i % CHUNKS] = support::cycles() - start;
        sum = hashes
            .iter()
            .fold(sum, |sum, hash| sum.wrapping_mul(31).wrapping_add(*hash));
    }
    each.sort_unstable();
    let figure = each[CHUNKS / 2] as f64 / TUPLES as f64;
    println!("toeplitz {what:<8} {whose:<12} {figure:>8.2} {sum:08x}");
}
