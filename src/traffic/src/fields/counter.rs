//! One field that counts up: the [`Wheel`] of most streams, without asking for each frame what it is.
//!
//! From one frame to the next the field grows by always the same number, and in one's complement the sum of a checksum
//! does so, too: both are one addition. Where the values begin again, both are worked out as the wheel does it.

use super::resolve::Source;
use super::wheel::{MOST_CHECKSUMS, Place, Sum, Sums, Wheel, fold};

/// Where a wheel's only field lies, its values, and what it does to checksums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape<'a> {
    at: usize,
    /// Bytes of the field.
    pub(crate) width: u8,
    from: u64,
    step: u64,
    /// Numbers of checksums, and by what the field is multiplied in each.
    pub(crate) factors: &'a [(u8, u16)],
}

impl<'a> Shape<'a> {
    /// `None` if that is not one field of whole bytes that counts up.
    #[inline(always)]
    pub(crate) fn of(wheels: &'a [Wheel]) -> Option<Self> {
        let [wheel] = wheels else { return None };
        let [cog] = &*wheel.steps else { return None };
        let [(Source::Range { from, step }, writer)] = &*cog.fields else {
            return None;
        };
        let Place::Bytes(at, width) = writer.place else {
            return None;
        };
        Some(Self {
            at: at.into(),
            width,
            from: *from,
            step: *step,
            factors: &writer.factors,
        })
    }

    /// The number, and the sum of each checksum from 1 to 0xffff.
    #[inline(always)]
    fn values<const C: usize>(&self, at: u64, base: &Sums) -> (u64, [u32; C]) {
        let number = self.from.wrapping_add(at.wrapping_mul(self.step));
        let mut sums = [0; C];
        for (to, &(checksum, factor)) in sums.iter_mut().zip(self.factors) {
            let base = base[usize::from(checksum) % MOST_CHECKSUMS];
            // Of the two zeros of one's complement, the one that is the sum of something.
            *to = match (base + fold(number) * u64::from(factor)) % 0xffff {
                0 => 0xffff,
                sum => sum as u32,
            };
        }
        (number, sums)
    }

    #[cold]
    fn values_again<const C: usize>(&self, at: u64, base: &Sums) -> (u64, [u32; C]) {
        self.values(at, base)
    }
}

/// A field of `W` bytes that is in `C` checksums, at work on the frames of a burst.
#[derive(Debug)]
pub(crate) struct Counter<'a, const W: usize, const C: usize> {
    shape: Shape<'a>,
    base: &'a Sums,
    checks: [Check; C],
    /// By how much the number grows.
    delta: u64,
    number: u64,
    sums: [u32; C],
    /// As in the wheel.
    at: u64,
    stride: u64,
    cycle: u64,
}

/// Where a checksum is written, and by how much its sum grows.
#[derive(Debug, Clone, Copy, Default)]
struct Check {
    at: usize,
    delta: u32,
    /// What is written for zero.
    zero: u16,
}

impl<'a, const W: usize, const C: usize> Counter<'a, W, C> {
    /// Begins where the wheel is. `base` is what the checksums `sums` are over without the field.
    #[inline(always)]
    pub(crate) fn new(wheel: &Wheel, shape: Shape<'a>, base: &'a Sums, sums: &[Sum]) -> Self {
        debug_assert_eq!((usize::from(shape.width), shape.factors.len()), (W, C));
        let delta = shape.step.wrapping_mul(wheel.stride);
        let mut checks = [Check::default(); C];
        for (check, &(checksum, factor)) in checks.iter_mut().zip(shape.factors) {
            if let Some(sum) = sums.get(usize::from(checksum)) {
                *check = Check {
                    at: sum.at.into(),
                    delta: (fold(delta) * u64::from(factor) % 0xffff) as u32,
                    zero: if sum.zero_is_none { 0xffff } else { 0 },
                };
            }
        }
        let (number, sums) = shape.values(wheel.at, base);
        Self {
            shape,
            base,
            checks,
            delta,
            number,
            sums,
            at: wheel.at,
            stride: wheel.stride,
            cycle: wheel.cycle,
        }
    }

    /// Writes the values of this frame and goes on to those of the next.
    #[inline(always)]
    pub(crate) fn write(&mut self, frame: &mut [u8]) {
        let bytes = self.number.to_be_bytes();
        let place = frame.get_mut(self.shape.at..self.shape.at + W);
        if let (Some(to), Some(from)) = (place, bytes.last_chunk::<W>()) {
            to.copy_from_slice(from);
        }
        for (check, sum) in self.checks.iter().zip(&mut self.sums) {
            let checksum = match !(*sum as u16) {
                0 => check.zero,
                checksum => checksum,
            };
            if let Some(to) = frame.get_mut(check.at..check.at + 2) {
                to.copy_from_slice(&checksum.to_be_bytes());
            }
            let next = *sum + check.delta;
            *sum = (next & 0xffff) + (next >> 16);
        }
        self.number = self.number.wrapping_add(self.delta);
        self.at += self.stride;
        if self.at >= self.cycle {
            self.at %= self.cycle;
            // By value: what a function has the address of does not stay in registers.
            let (shape, base) = (self.shape, self.base);
            (self.number, self.sums) = shape.values_again(self.at, base);
        }
    }

    /// Where the wheel is to go on.
    #[inline(always)]
    pub(crate) fn at(&self) -> u64 {
        self.at
    }
}
