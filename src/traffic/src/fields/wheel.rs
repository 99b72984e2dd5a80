//! Fields that change, at work.

use linecard_wire::describe::Field;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::resolve::{Program, Source};

/// Checksums that one template can have to be changed.
pub(crate) const MOST_CHECKSUMS: usize = 8;

/// Sums in the making: congruent to the sums of 16-bit words that the checksums are over.
pub(crate) type Sums = [u64; MOST_CHECKSUMS];

/// A checksum that changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    pub(crate) at: u16,
    /// Zero says that there is none (UDP).
    pub(crate) zero_is_none: bool,
}

impl Sum {
    #[inline(always)]
    pub(crate) fn finish(self, words: u64) -> u16 {
        let words = (words >> 32) + (words & 0xffff_ffff);
        let words = fold(words);
        let words = (words >> 16) + (words & 0xffff);
        let words = (words >> 16) + (words & 0xffff);
        match !(words as u16) {
            0 if self.zero_is_none => 0xffff,
            checksum => checksum,
        }
    }
}

/// Where a number lies in a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Whole bytes, so many from there.
    Bytes(u16, u8),
    /// Bits of a header that begins there.
    Bits(u16, &'static Field),
}

impl Place {
    pub(crate) fn of(start: usize, field: &'static Field) -> Self {
        let range = field.byte_range();
        let at = (start + range.end).saturating_sub(8.min(range.len())) as u16;
        let whole = field.offset_bits.is_multiple_of(8) && field.width_bits.is_multiple_of(8);
        match range.len().min(8) as u8 {
            len @ (1 | 2 | 4 | 6 | 8) if whole => Self::Bytes(at, len),
            _ => Self::Bits(start as u16, field),
        }
    }

    #[inline(always)]
    fn write(self, frame: &mut [u8], number: u64) {
        match self {
            Self::Bytes(at, len) => {
                let at = at as usize;
                let bytes = number.to_be_bytes();
                match len {
                    2 => put::<2>(frame, at, bytes),
                    4 => put::<4>(frame, at, bytes),
                    1 => put::<1>(frame, at, bytes),
                    6 => put::<6>(frame, at, bytes),
                    _ => put::<8>(frame, at, bytes),
                }
            }
            Self::Bits(start, field) => {
                if let Some(header) = frame.get_mut(start as usize..) {
                    let _ = linecard_wire::describe::bits::write(header, field, number);
                }
            }
        }
    }
}

#[inline(always)]
fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; 8]) {
    if let (Some(to), Some(from)) = (frame.get_mut(at..at + N), bytes.last_chunk::<N>()) {
        to.copy_from_slice(from);
    }
}

/// A field at work: where it lies, and what it does to which checksum.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) place: Place,
    /// Numbers of checksums, and by what the number is multiplied in each.
    pub(crate) factors: Box<[(u8, u16)]>,
}

impl Writer {
    #[inline(always)]
    fn write(&self, frame: &mut [u8], number: u64, sums: &mut Sums) {
        self.place.write(frame, number);
        let folded = fold(number);
        for &(checksum, factor) in &self.factors {
            sums[checksum as usize % MOST_CHECKSUMS] += folded * u64::from(factor);
        }
    }
}

/// Congruent modulo 2^16 − 1, and below 2^18.
#[inline(always)]
pub(crate) fn fold(number: u64) -> u64 {
    (number >> 48) + (number >> 32 & 0xffff) + (number >> 16 & 0xffff) + (number & 0xffff)
}

/// A [`Program`] at work for one worker.
#[derive(Debug, Clone)]
pub(crate) struct Wheel {
    pub(super) steps: Box<[Cog]>,
    pub(super) cycle: u64,
    /// Values are taken every so many: other workers have those between.
    pub(super) stride: u64,
    pub(super) at: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Cog {
    pub(super) fields: Box<[(Source, Writer)]>,
    len: u64,
    at: u64,
}

impl Wheel {
    pub(crate) fn new(program: &Program, writers: &[Writer], worker: u64, workers: u64) -> Self {
        let mut writers = writers.iter();
        let steps = program.steps.iter().map(|step| Cog {
            fields: step
                .fields
                .iter()
                .zip(&mut writers)
                .map(|(field, writer)| (field.source.clone(), writer.clone()))
                .collect(),
            len: step.len,
            at: 0,
        });
        let mut wheel = Self {
            steps: steps.collect(),
            cycle: program.cycle,
            stride: workers,
            at: worker,
        };
        wheel.set();
        wheel
    }

    /// Writes the values of this frame and goes on to those of the next.
    #[inline(always)]
    pub(crate) fn write(&mut self, frame: &mut [u8], sums: &mut Sums, dice: &mut Pcg64) {
        for cog in &self.steps {
            for (source, writer) in &cog.fields {
                let number = match source {
                    Source::Range { from, step } => from.wrapping_add(cog.at.wrapping_mul(*step)),
                    Source::List(list) => list.get(cog.at as usize).copied().unwrap_or(0),
                    Source::Random { from, span } => {
                        let wide = u128::from(dice.next_u64()) * (u128::from(*span) + 1);
                        from.wrapping_add((wide >> 64) as u64)
                    }
                };
                writer.write(frame, number, sums);
            }
        }
        self.at += self.stride;
        match self.steps.first_mut() {
            Some(first) if self.at < self.cycle && first.at + self.stride < first.len => {
                first.at += self.stride;
            }
            _ => self.set(),
        }
    }

    /// Goes on from there, within a cycle, if it has one step.
    pub(crate) fn turn_to(&mut self, at: u64) {
        debug_assert!(at < self.cycle && self.steps.len() == 1);
        self.at = at;
        if let Some(first) = self.steps.first_mut() {
            first.at = at;
        }
    }

    /// Where each step is, from where all is.
    #[cold]
    fn set(&mut self) {
        self.at %= self.cycle;
        let mut left = self.at;
        for cog in &mut self.steps {
            cog.at = left % cog.len;
            left /= cog.len;
        }
    }
}
