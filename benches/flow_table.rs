//! Flow tables: bursts of 32 keys looked up, beside `hashbrown` with its own hasher and with `ahash`.
//!
//! `benches/flows` runs this beside DPDK's `rte_hash`. See `benches/README.md` for the method.

mod support;

use std::hash::{BuildHasher, Hash};
use std::hint::black_box;

use hashbrown::HashMap;
use linecard_engine::{FlowId, FlowTable};
use linecard_wire::{FlowKey, IpProtocol};
use support::mix;

/// Timed pieces a figure, each of so many lookups: short against a time slice, so that a preemption spoils
/// one of them and not the figure.
const CHUNKS: usize = 1001;
const LOOKUPS: usize = 2048;
const BURST: usize = 32;
/// Keys from here on are never put into a table.
const MISSING: u64 = 1 << 40;

const SIZES: [u64; 3] = [1, 10_000, 1_000_000];
/// Keys out of 256 that are not in the table.
const MIXES: [(&str, u64); 3] = [("hits", 0), ("some", 32), ("none", 256)];

fn main() {
    support::quiet_or_say_so();
    support::pin(1);
    for flows in SIZES {
        let mut table = FlowTable::<FlowKey, u64>::with_capacity(flows as usize);
        for i in 0..flows {
            table.find_or_insert(&nth_key(i), 0, || i).unwrap();
        }
        for (mix, missing) in MIXES {
            let figure = time(flows, missing, |keys| look_up(&mut table, keys));
            report(mix, flows, "linecard", figure);
        }
        drop(table);
        hashbrown(flows, "hashbrown", hashbrown::DefaultHashBuilder::default());
        hashbrown(flows, "ahash", ahash::RandomState::new());
    }
}

#[inline(never)]
fn look_up(table: &mut FlowTable<FlowKey, u64>, keys: &[FlowKey]) -> u64 {
    let mut found = [None::<FlowId>; BURST];
    let mut sum = 0;
    for keys in keys.chunks_exact(BURST) {
        table.find_burst(keys, 0, &mut found);
        for flow in found.iter().flatten() {
            sum += table[*flow];
        }
    }
    sum
}

fn hashbrown<S: BuildHasher>(flows: u64, whose: &str, hasher: S) {
    let mut map = HashMap::with_capacity_and_hasher(flows as usize, hasher);
    map.extend((0..flows).map(|i| (nth_key(i), i)));
    for (mix, missing) in MIXES {
        report(
            mix,
            flows,
            whose,
            time(flows, missing, |keys| get_each(&map, keys)),
        );
    }
}

#[inline(never)]
fn get_each<K: Hash + Eq, S: BuildHasher>(map: &HashMap<K, u64, S>, keys: &[K]) -> u64 {
    keys.iter().filter_map(|key| map.get(key)).sum()
}

/// Cycles a lookup: the median of [`CHUNKS`], each of other keys that were made just before.
fn time(flows: u64, missing: u64, mut work: impl FnMut(&[FlowKey]) -> u64) -> f64 {
    let (mut keys, mut random) = (vec![nth_key(0); LOOKUPS], 1);
    let mut each = [0; CHUNKS];
    for i in 0..CHUNKS + 20 {
        for key in &mut keys {
            random = mix(random);
            let n = (random >> 32) % flows;
            *key = nth_key(n + if random & 255 < missing { MISSING } else { 0 });
        }
        let start = support::cycles();
        black_box(work(black_box(&keys)));
        each[i % CHUNKS] = support::cycles() - start;
    }
    each.sort_unstable();
    each[CHUNKS / 2] as f64 / LOOKUPS as f64
}

/// The same keys as in `benches/dpdk/flow_table.c`, all different.
fn nth_key(i: u64) -> FlowKey {
    let ([a, b, c, d, e, f, g, h], ports) = (mix(i).to_le_bytes(), mix(!i));
    let (src, dst) = ([a, b, c, d].into(), [e, f, g, h].into());
    FlowKey::v4(
        src,
        dst,
        IpProtocol::UDP,
        ports as u16,
        (ports >> 16) as u16,
    )
}

/// One figure on one line: mix, flows, whose, cycles a lookup.
fn report(mix: &str, flows: u64, whose: &str, figure: f64) {
    println!("{mix:<8} {flows:>7} {whose:<10} {figure:>8.2}");
}
