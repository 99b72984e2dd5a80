//! What the benchmarks in Rust share: time, pinning, the quietness check, and the output.
//!
//! A figure is time stamp counter cycles per object: the median over [`CHUNKS`] chunks of work, each
//! short against a scheduler's time slice, so that a preemption spoils one chunk and not the figure.
#![allow(unsafe_code, unreachable_pub, dead_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::Instant;

use core_affinity::CoreId;
use linecard_hal::lcore;

/// Chunks per figure.
pub const CHUNKS: usize = 41;

/// Objects per chunk.
pub const OBJECTS: usize = 1 << 16;

/// The burst sizes that are compared.
pub const BULKS: [usize; 4] = [1, 8, 32, 128];

/// The time stamp counter.
#[inline(always)]
pub fn cycles() -> u64 {
    // SAFETY: every x86-64 CPU has it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    compile_error!("these benchmarks compare x86-64 time stamp counter cycles");
}

/// Pins the calling thread to the `index`-th CPU that the process may use; `false` if there is none.
pub fn pin(index: usize) -> bool {
    // Asked once, before any thread is pinned: a pinned thread and its children see one CPU only.
    static CPUS: OnceLock<Vec<CoreId>> = OnceLock::new();
    let cpus = CPUS.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default());
    cpus.get(index)
        .is_some_and(|&cpu| core_affinity::set_for_current(cpu))
}

/// Times `CHUNKS` calls of `chunk`, each for [`OBJECTS`] objects, after one to warm up; gives the
/// median of the cycles per object.
pub fn time(mut chunk: impl FnMut()) -> f64 {
    chunk();
    let mut each: Vec<u64> = (0..CHUNKS)
        .map(|_| {
            let start = cycles();
            chunk();
            cycles() - start
        })
        .collect();
    each.sort_unstable();
    each[CHUNKS / 2] as f64 / OBJECTS as f64
}

/// Runs `first` on one core and `second`, which is timed, on another, each as an lcore. Both are called
/// for `CHUNKS + 1` chunks; if they do not wait for one another, `first` goes on until the other is done,
/// as `endless` says. At its end a thread calls `finish`. `None` if there is only one core.
pub fn time_across(
    mut first: impl FnMut() + Send,
    mut second: impl FnMut() + Send,
    endless: bool,
    finish: impl Fn() + Sync,
) -> Option<f64> {
    if std::env::args().any(|arg| arg == "--one-core") {
        return None;
    }
    let (start, done) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let giver = scope.spawn(|| {
            let (pinned, _lcore) = (pin(0), lcore::register());
            start.wait();
            let mut chunks = 0..=CHUNKS;
            while if endless {
                !done.load(Ordering::Acquire)
            } else {
                chunks.next().is_some()
            } {
                first();
            }
            finish();
            pinned
        });
        let timed = scope.spawn(|| {
            let (pinned, _lcore) = (pin(1), lcore::register());
            start.wait();
            let figure = time(&mut second);
            done.store(true, Ordering::Release);
            finish();
            (figure, pinned)
        });
        let (figure, pinned) = timed.join().unwrap();
        (giver.join().unwrap() && pinned).then_some(figure)
    })
}

/// One figure on one line: what, how, where, burst size, whose, cycles per object.
pub fn report(what: &str, how: &str, place: &str, bulk: usize, whose: &str, figure: Option<f64>) {
    if let Some(figure) = figure {
        println!("{what:<8} {how:<8} {place:<10} {bulk:>4} {whose:<10} {figure:>8.2}");
    }
}

/// Nanoseconds for a cache line to go from one core to another: the median of many trips. A quiet
/// machine needs less than about 110.
pub fn ping_pong_ns() -> Option<f64> {
    const TRIPS: u64 = 2_000;
    let (line, start) = (AtomicU64::new(0), Barrier::new(2));
    let volley = |mine: u64| {
        let pinned = pin(mine as usize);
        start.wait();
        let mut rounds = Vec::new();
        for round in 0..101 {
            let began = Instant::now();
            for trip in (round * TRIPS..(round + 1) * TRIPS).filter(|t| t % 2 == mine) {
                while line.load(Ordering::Acquire) != trip {
                    core::hint::spin_loop();
                }
                line.store(trip + 1, Ordering::Release);
            }
            rounds.push(began.elapsed().as_nanos() as f64 / TRIPS as f64);
        }
        rounds.sort_unstable_by(f64::total_cmp);
        pinned.then(|| rounds[rounds.len() / 2])
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| volley(1));
        let mine = scope.spawn(|| volley(0)).join().unwrap()?;
        other.join().unwrap()?;
        Some(mine)
    })
}

/// Says whether the machine is quiet enough to believe what follows. With `--ping-pong` that is all.
pub fn quiet_or_say_so() {
    let ns = ping_pong_ns();
    if std::env::args().any(|arg| arg == "--ping-pong") {
        println!("{}", ns.map_or("-".into(), |ns| format!("{ns:.0}")));
        std::process::exit(0);
    }
    match ns {
        None => eprintln!("# fewer than two cores: no figures across cores"),
        Some(ns) if ns > 110.0 => {
            eprintln!("# NOT QUIET: {ns:.0} ns from core to core; below 110 is quiet");
        }
        Some(ns) => eprintln!("# quiet: {ns:.0} ns from core to core"),
    }
}

/// What the figures of [`time`] and [`time_across`] are.
pub fn heading() {
    println!("# cycles per object, median of {CHUNKS} chunks of {OBJECTS} objects");
}

/// A step of splitmix64, by which both languages make the same keys.
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A pointer that the compiler knows nothing about any more, and memory that may have changed: what the
/// C program does with an empty `asm`. `std::hint::black_box` would send it through memory.
#[inline(always)]
pub fn opaque<T>(mut pointer: *mut T) -> *mut T {
    // SAFETY: does nothing.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) pointer, options(nostack, preserves_flags)) };
    pointer
}

/// The first `len` items, about which the compiler knows nothing any more.
#[inline(always)]
pub fn opaque_slice<T>(items: &mut [T], len: usize) -> &mut [T] {
    let items = &mut items[..len];
    // SAFETY: the same slice.
    unsafe { core::slice::from_raw_parts_mut(opaque(items.as_mut_ptr()), len) }
}
