//! The cycle counter: what the worker loop reads once per turn.
//!
//! On x86-64 and AArch64 it is the processor's constant-rate counter, read in a few nanoseconds
//! without a system call; elsewhere it is the monotonic clock in nanoseconds. Its rate is measured
//! against the monotonic clock, never assumed. On a processor that changes its frequency a counter
//! cycle is not a core cycle: figures are reference cycles, as in DPDK's reports.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use linecard_hal::SimClock;

/// The counter now.
#[inline(always)]
pub(crate) fn cycles() -> u64 {
    counter()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and Linux leaves it to user space unless a process
    // asks otherwise (prctl PR_SET_TSC), which we do not.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
#[allow(unsafe_code)]
fn counter() -> u64 {
    let count: u64;
    // SAFETY: reads a register that Linux makes readable to user space; no memory, no flags.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
    count
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn counter() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Counter cycles per second, measured once over a few milliseconds.
pub(crate) fn cycles_per_second() -> u64 {
    static RATE: OnceLock<u64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, from) = (Instant::now(), cycles());
        while start.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let (taken, to) = (start.elapsed(), cycles());
        ((to.wrapping_sub(from)) as f64 / taken.as_secs_f64()) as u64
    })
}

/// How many counter cycles a duration lasts.
pub(crate) fn cycles_of(duration: Duration) -> u64 {
    (duration.as_secs_f64() * cycles_per_second() as f64) as u64
}

/// The counter as nanoseconds since it was made: an addition and a multiplication. Copies agree, on any core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nanos {
    start: u64,
    /// Nanoseconds in a cycle, times 2^32.
    scale: u64,
}

impl Nanos {
    pub(crate) fn new() -> Self {
        let scale = (1_000_000_000u128 << 32) / u128::from(cycles_per_second().max(1));
        Self {
            start: cycles(),
            scale: scale as u64,
        }
    }

    /// When the counter stood there, which is not before it was made.
    #[inline(always)]
    pub(crate) fn at(self, cycles: u64) -> u64 {
        let cycles = cycles.wrapping_sub(self.start);
        ((u128::from(cycles) * u128::from(self.scale)) >> 32) as u64
    }
}

/// The time that protocols are told.
#[derive(Debug, Clone)]
pub(crate) enum Time {
    Machine(Nanos),
    Virtual(SimClock),
}

impl Time {
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Machine(nanos) => nanos.at(cycles()),
            Self::Virtual(clock) => clock.now_ns(),
        }
    }

    /// Nanoseconds since 1970, for what is compared with other clocks than ours. In a simulation it is virtual time.
    pub(crate) fn wall_ns(&self) -> u64 {
        match self {
            Self::Machine(_) => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.map_or(0, |d| d.as_nanos() as u64)
            }
            Self::Virtual(clock) => clock.now_ns(),
        }
    }

    /// The time at a reading of the counter that somebody has at hand: a worker reads it once a turn, for everybody.
    #[inline(always)]
    pub(crate) fn at(&self, cycles: u64) -> u64 {
        match self {
            Self::Machine(nanos) => nanos.at(cycles),
            Self::Virtual(clock) => clock.now_ns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_counts_up_at_some_rate() {
        let (a, b) = (cycles(), cycles());
        assert!(b >= a);
        assert!(cycles_per_second() > 1_000_000);
        assert_eq!(cycles_of(Duration::ZERO), 0);
        let clock = Nanos::new();
        let (a, b) = (clock.at(cycles()), clock.at(cycles()));
        assert!(b >= a);
    }
}
