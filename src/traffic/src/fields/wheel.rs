//! Programs at work: the numbers of fields, frame after frame, and what they are in the frame's words.

use linecard_wire::describe;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::columns::{AHEAD, Block, Follower, Spot};
use super::resolve::{Program, Source};
use crate::size::gcd;

/// Checksums that one template can have to be changed.
pub(crate) const MOST_CHECKSUMS: usize = 8;

/// Sums in the making: congruent to the sums of 16-bit words that the checksums are over.
pub(crate) type Sums = [u32; MOST_CHECKSUMS];

/// How many values a wheel of one step has at least: shorter ones are written out several times, so that the loops over
/// what happens between two beginnings are long enough to be worth it.
const LEAST: u64 = 8 * AHEAD as u64;

/// A checksum that changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    pub(crate) at: u16,
    /// Zero says that there is none (UDP).
    pub(crate) zero_is_none: bool,
}

impl Sum {
    #[inline(always)]
    pub(crate) fn finish(self, words: u32) -> u16 {
        let words = (words >> 16) + (words & 0xffff);
        let words = (words >> 16) + (words & 0xffff);
        let checksum = !(words as u16);
        // Without a branch, which a loop over many could not have.
        checksum
            | if self.zero_is_none & (checksum == 0) {
                0xffff
            } else {
                0
            }
    }
}

/// Congruent modulo 2^16 − 1, and below 2^18.
pub(crate) fn fold(number: u64) -> u64 {
    (number >> 48) + (number >> 32 & 0xffff) + (number >> 16 & 0xffff) + (number & 0xffff)
}

/// Where a field lies, and which checksums it is in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The first bit behind it.
    end: usize,
    /// Its lower bits, of which there are 64 at most.
    width: u32,
    /// Numbers of checksums, and by what the number is multiplied in each.
    factors: Box<[(u8, u16)]>,
}

impl Place {
    /// `start` is the header's first byte.
    pub(crate) fn of(
        start: usize,
        field: &'static describe::Field,
        factors: Box<[(u8, u16)]>,
    ) -> Self {
        Self {
            end: start * 8 + (field.offset_bits + field.width_bits) as usize,
            width: field.width_bits.min(64),
            factors,
        }
    }

    /// Bits of the last word behind it.
    fn tail(&self) -> u32 {
        (self.end.next_multiple_of(16) - self.end) as u32
    }

    /// Where the words begin that it lies in, from the last to the first.
    pub(super) fn words(&self) -> impl Iterator<Item = usize> {
        let last = self.end.next_multiple_of(16) / 8 - 2;
        let words = (self.width + self.tail()).div_ceil(16);
        (0..words as usize).map(move |n| last - 2 * n)
    }
}

/// What a field is in one word.
#[derive(Debug, Clone)]
struct Part {
    spot: Spot,
    /// By how many bits the number is to be moved to the right; to the left, if that is less than none.
    shift: i32,
    /// Numbers of checksums, and by what the word is multiplied in each.
    weights: Box<[(u8, u16)]>,
}

impl Part {
    fn all(place: &Place, find: impl Fn(usize) -> Spot) -> Box<[Self]> {
        let tail = place.tail();
        // The words are of the number times 2^tail, which this takes back: 2^16 is 1 in one's complement. And so every
        // word weighs the same.
        let back = 1u64 << (16 - tail);
        let weights = place.factors.iter().map(|(sum, factor)| {
            let weight = u64::from(*factor) * back % 0xffff;
            (*sum, weight as u16)
        });
        let weights: Box<[_]> = weights.collect();
        let parts = place.words().zip(0..).map(|(at, n)| Self {
            spot: find(at),
            shift: 16 * n - tail as i32,
            weights: weights.clone(),
        });
        parts.collect()
    }

    /// Puts the numbers into its word and into the sums.
    #[inline(always)]
    fn put(&self, numbers: &[u64], blocks: &mut [Block], followers: &mut [Follower]) {
        let mut all = [0u16; AHEAD];
        let Some(bits) = all.get_mut(..numbers.len()) else {
            return;
        };
        for (bits, number) in bits.iter_mut().zip(numbers) {
            *bits = if self.shift < 0 {
                (number << -self.shift) as u16
            } else {
                (number >> self.shift) as u16
            };
        }
        let (block, byte) = self.spot;
        if let Some(block) = blocks.get_mut(block) {
            block.put(byte, &all);
        }
        let bits = all.get(..numbers.len()).unwrap_or_default();
        for (sum, weight) in &self.weights {
            let Some(follower) = followers.get_mut(usize::from(*sum)) else {
                continue;
            };
            // As nearly all words are: those at even places of what the checksum is over.
            if *weight == 1 {
                for (value, bits) in follower.values.iter_mut().zip(bits) {
                    *value += u32::from(*bits);
                }
                continue;
            }
            let weight = u32::from(*weight);
            for (value, bits) in follower.values.iter_mut().zip(bits) {
                let more = u32::from(*bits) * weight;
                *value += (more >> 16) + (more & 0xffff);
            }
        }
    }
}

/// A [`Program`] at work for one worker.
#[derive(Debug, Clone)]
pub(super) struct Wheel {
    steps: Box<[Cog]>,
    cycle: u64,
    /// Values are taken every so many: other workers have those between.
    stride: u64,
    at: u64,
    /// How often this worker takes a value until the first comes again; `None` of random ones.
    period: Option<u64>,
}

#[derive(Debug, Clone)]
struct Cog {
    fields: Box<[Field]>,
    len: u64,
    at: u64,
}

#[derive(Debug, Clone)]
struct Field {
    source: Source,
    parts: Box<[Part]>,
    /// In the next [`AHEAD`] frames. Not an array: of loops over so few the compiler knows the end, and writes them out
    /// instead of using vector instructions.
    numbers: Box<[u64]>,
}

impl Wheel {
    pub(super) fn new(
        program: &Program,
        places: &[Place],
        find: impl Fn(usize) -> Spot,
        worker: u64,
        workers: u64,
    ) -> Self {
        let mut places = places.iter();
        let again = match &program.steps[..] {
            [only] if program.cycle == only.len && only.len < LEAST => LEAST.div_ceil(only.len),
            _ => 1,
        };
        let steps = program.steps.iter().map(|step| Cog {
            fields: step
                .fields
                .iter()
                .zip(&mut places)
                .map(|(field, place)| Field {
                    source: field.source.repeated(step.len, again),
                    parts: Part::all(place, &find),
                    numbers: [0; AHEAD].into(),
                })
                .collect(),
            len: step.len * again,
            at: 0,
        });
        let mut fields = program.steps.iter().flat_map(|step| &step.fields);
        let is_random = fields.any(|field| matches!(field.source, Source::Random { .. }));
        let mut wheel = Self {
            steps: steps.collect(),
            cycle: program.cycle * again,
            stride: workers,
            at: worker,
            // Written out several times, it still begins again as soon as it would.
            period: (!is_random).then(|| program.cycle / gcd(program.cycle, workers)),
        };
        wheel.set();
        wheel
    }

    /// After how many frames of this worker it begins again, if it ever does.
    pub(super) fn period(&self) -> Option<u64> {
        self.period
    }

    /// Puts the values of the next [`AHEAD`] frames into their words and sums.
    pub(super) fn work_out(
        &mut self,
        blocks: &mut [Block],
        followers: &mut [Follower],
        dice: &mut Pcg64,
    ) {
        let mut from = 0;
        while from < AHEAD {
            let frames = self.run(AHEAD - from);
            let mut stride = self.stride;
            for cog in &mut self.steps {
                for field in &mut cog.fields {
                    let Some(numbers) = field.numbers.get_mut(from..from + frames) else {
                        return;
                    };
                    field.source.fill(numbers, cog.at, stride, dice);
                }
                // Only the first steps until it begins again.
                stride = 0;
            }
            from += frames;
            self.go_on(frames as u64);
        }
        for field in self.steps.iter().flat_map(|cog| &cog.fields) {
            for part in &field.parts {
                part.put(&field.numbers, blocks, followers);
            }
        }
    }

    /// For how many frames nothing begins again, up to `most`.
    fn run(&self, most: usize) -> usize {
        let first = self.steps.first().map_or(0, |first| first.len - first.at);
        let left = first.min(self.cycle - self.at).div_ceil(self.stride);
        usize::try_from(left).unwrap_or(most).clamp(1, most)
    }

    fn go_on(&mut self, frames: u64) {
        let by = frames.saturating_mul(self.stride);
        self.at = self.at.saturating_add(by);
        match self.steps.first_mut() {
            Some(first) if self.at < self.cycle && first.at.saturating_add(by) < first.len => {
                first.at += by;
            }
            _ => self.set(),
        }
    }

    /// Where each step is, from where all is.
    fn set(&mut self) {
        self.at %= self.cycle;
        let mut left = self.at;
        for cog in &mut self.steps {
            cog.at = left % cog.len;
            left /= cog.len;
        }
    }
}

impl Source {
    /// The same so many times over.
    fn repeated(&self, len: u64, times: u64) -> Self {
        match self {
            Self::Range { from, step } if times > 1 => {
                let once = (0..len).map(|n| from.wrapping_add(n.wrapping_mul(*step)));
                let once: Vec<_> = once.collect();
                Self::List(once.repeat(times as usize).into())
            }
            Self::List(list) => Self::List(list.repeat(times as usize).into()),
            other => other.clone(),
        }
    }

    /// The numbers from the `at`-th on, every so many.
    #[inline(always)]
    fn fill(&self, numbers: &mut [u64], at: u64, stride: u64, dice: &mut Pcg64) {
        match self {
            Self::Range { from, step } => {
                let (mut number, delta) = (
                    from.wrapping_add(at.wrapping_mul(*step)),
                    stride.wrapping_mul(*step),
                );
                for to in numbers {
                    *to = number;
                    number = number.wrapping_add(delta);
                }
            }
            Self::List(list) => {
                let mut at = at as usize;
                for to in numbers {
                    *to = list.get(at).copied().unwrap_or(0);
                    at += stride as usize;
                }
            }
            Self::Random { from, span } => {
                for to in numbers {
                    let wide = u128::from(dice.next_u64()) * (u128::from(*span) + 1);
                    *to = from.wrapping_add((wide >> 64) as u64);
                }
            }
        }
    }
}
